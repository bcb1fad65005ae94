/*
 * Closing contexts and streams while other threads use them. operation.c closes a
 * context in several phases of a call. See checks.h for how to run the checks.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Closing does not wait, and the calls end within 100 ms. The margin is for a busy
 * machine. */
#define CLOSED_WITHIN_MS 100
#define ENDED_WITHIN_MS 500

#define PROJECT_AND_INSTANCE fixture("project"), fixture("instance")

static void close_context(dbss_context *ctx)
{
    long long start = now_ms();
    dbss_context_close(ctx);
    if (now_ms() - start > CLOSED_WITHIN_MS)
        fail_check("closing the context took %lld ms", now_ms() - start);
}

/* ---------------------------------------------------------------------------
 * Many threads
 * ------------------------------------------------------------------------ */

enum { THREADS = 64 };

struct shared {
    dbss_context *ctx;
    const char *id;
    int started, closed;
};

struct user {
    struct shared *shared;
    int index;
    /* Opened in advance, for a quarter of the threads. */
    dbss_report_stream *stream;
};

static dbss_status read_stream(dbss_report_stream *stream)
{
    char part[4096];
    size_t len;
    return dbss_report_stream_read(stream, part, sizeof part, &len);
}

static dbss_status open_and_read(struct shared *shared)
{
    dbss_report_stream *stream;
    dbss_status status = dbss_report_open(shared->ctx, PROJECT_AND_INSTANCE, shared->id, NULL, NULL, &stream);
    if (status == DBSS_OK)
        status = read_stream(stream);
    dbss_report_stream_free(stream);
    return status;
}

static dbss_status read_list(struct shared *shared)
{
    dbss_cursor *cursor;
    dbss_page *page = NULL;
    dbss_status status = dbss_reports_list(shared->ctx, PROJECT_AND_INSTANCE, NULL, 0, &cursor);
    if (status == DBSS_OK)
        status = dbss_cursor_next(cursor, NULL, &page);
    dbss_page_free(page);
    dbss_cursor_free(cursor);
    return status;
}

static dbss_status download(struct shared *shared)
{
    dbss_buffer buffer;
    dbss_status status = dbss_report_download(shared->ctx, PROJECT_AND_INSTANCE, shared->id, NULL, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status make_one_call(struct user *user)
{
    switch (user->index % 4) {
    case 0: return download(user->shared);
    case 1: return open_and_read(user->shared);
    case 2: return read_list(user->shared);
    default: return read_stream(user->stream);
    }
}

/* Makes calls until three in a row are refused. */
static void *call_until_refused(void *argument)
{
    struct user *user = argument;
    struct shared *shared = user->shared;
    int refused = 0, first = 1;

    while (refused < 3 && !has_failed()) {
        int was_closed = read_locked(&shared->closed);
        dbss_status status = make_one_call(user);
        if (status != DBSS_OK && status != DBSS_ERR_CANCELLED && status != DBSS_ERR_CLOSED)
            fail_check("expected success, DBSS_ERR_CANCELLED or DBSS_ERR_CLOSED, got %s (%s)", dbss_status_name(status),
                       dbss_error_message(dbss_last_error()));
        if (was_closed && status != DBSS_ERR_CLOSED)
            fail_check("a call after the close returned %s", dbss_status_name(status));
        refused = status == DBSS_ERR_CLOSED ? refused + 1 : 0;
        add_failure_context("kind of call: %d", user->index % 4);
        if (first)
            add_locked(&shared->started, 1);
        first = 0;
    }
    return NULL;
}

static void close_while_used(const char *endpoint, int close_streams)
{
    struct shared shared = {new_context(endpoint), add_report(500000), 0, 0};
    struct user users[THREADS];
    pthread_t threads[THREADS];
    int i;

    for (i = 0; i < THREADS; i++) {
        users[i].shared = &shared;
        users[i].index = i;
        users[i].stream = NULL;
        if (i % 4 == 3)
            EXPECT(DBSS_OK,
                   dbss_report_open(shared.ctx, PROJECT_AND_INSTANCE, shared.id, NULL, NULL, &users[i].stream));
    }
    for (i = 0; i < THREADS && !has_failed(); i++)
        threads[i] = start_thread(call_until_refused, &users[i]);
    WAIT_FOR(read_locked(&shared.started) == THREADS);
    for (i = 3; i < THREADS && close_streams; i += 4)
        dbss_report_stream_close(users[i].stream);
    dbss_context_close(shared.ctx);
    add_locked(&shared.closed, 1);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (i = 3; i < THREADS; i += 4)
        dbss_report_stream_free(users[i].stream);
    dbss_context_free(shared.ctx);
}

static void context_closed_under_many_threads(void)
{
    int round;
    for (round = 0; round < 4 && !has_failed(); round++)
        close_while_used(fixture("http"), round % 2);
}

static void context_closed_under_many_threads_tls(void)
{
    int round;
    for (round = 0; round < 2 && !has_failed(); round++)
        close_while_used(fixture("https"), round % 2);
}

/* ---------------------------------------------------------------------------
 * Streams
 * ------------------------------------------------------------------------ */

/* ---------------------------------------------------------------------------
 * In callbacks
 * ------------------------------------------------------------------------ */

static dbss_context *context_to_close;
static dbss_report_stream *stream_to_close;

static void close_handles(void)
{
    if (context_to_close != NULL)
        dbss_context_close(context_to_close);
    if (stream_to_close != NULL)
        dbss_report_stream_close(stream_to_close);
}

static int32_t close_in_progress(void *user_data, const dbss_operation *operation)
{
    (void)user_data;
    if (dbss_operation_received(operation) > 0)
        close_handles();
    return 0;
}

static int32_t close_in_write(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    close_handles();
    return 0;
}

static void close_in_log(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    (void)record;
    close_handles();
}

static void close_in_provider(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    close_handles();
    EXPECT(DBSS_OK, dbss_token_request_set(request, fixture("token"), -1));
    dbss_token_request_free(request);
}

static void context_closed_in_callback_cancels_call(void)
{
    struct report report = new_report(2000000);
    dbss_operation *operation = new_operation();
    dbss_config *config;
    dbss_buffer buffer;
    int i;

    post_fault(report.id, "\"stall_after\": 1000000");
    stream_to_close = NULL;
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, close_in_progress, NULL, NULL));
    for (i = 0; i < 4; i++) {
        dbss_status status;
        config = new_config(fixture("http"), fixture("token"));
        if (i == 1)
            EXPECT(DBSS_OK, dbss_config_set_log(config, close_in_log, NULL, NULL));
        if (i == 2)
            EXPECT(DBSS_OK, dbss_config_set_token_provider(config, close_in_provider, NULL, NULL));
        context_to_close = context_from(config);
        status = i == 3 ? dbss_report_download_to_callback(context_to_close, PROJECT_AND_INSTANCE, report.id, NULL,
                                                           close_in_write, NULL, NULL)
                        : dbss_report_download_to_memory(context_to_close, PROJECT_AND_INSTANCE, report.id, NULL,
                                                         i == 0 ? operation : NULL, &buffer);
        EXPECT(DBSS_ERR_CANCELLED, status);
        EXPECT_PARAMETER(DBSS_ERR_CLOSED, "ctx", dbss_context_check(context_to_close, fixture("project"), NULL));
        add_failure_context("callback %d", i);
        dbss_context_free(context_to_close);
    }
    context_to_close = NULL;
    free(control("DELETE", "/faults", ""));
    dbss_operation_free(operation);
    free_report(&report);
}

/* The stream is closed in a callback of its own read. */
static void stream_closed_in_its_callback_ends(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    dbss_status status = DBSS_OK;

    post_fault(report.id, "\"stall_after\": 200000");
    EXPECT(DBSS_OK, dbss_report_open(ctx, PROJECT_AND_INSTANCE, report.id, NULL, operation, &stream_to_close));
    EXPECT(DBSS_ERR_BUSY, dbss_operation_set_progress(operation, close_in_progress, NULL, NULL));
    dbss_report_stream_free(stream_to_close);
    stream_to_close = NULL;
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, close_in_progress, NULL, NULL));
    EXPECT(DBSS_OK, dbss_report_open(ctx, PROJECT_AND_INSTANCE, report.id, NULL, operation, &stream_to_close));
    while (status == DBSS_OK)
        status = read_stream(stream_to_close);
    /* That read may have succeeded with bytes that had arrived. */
    CHECK(status == DBSS_ERR_CANCELLED || status == DBSS_ERR_CLOSED);
    EXPECT_PARAMETER(DBSS_ERR_CLOSED, "stream", read_stream(stream_to_close));
    /* The getters still work. */
    CHECK(dbss_report_stream_size(stream_to_close) == 300000);
    expect_text(__LINE__, "audit-report.pdf", dbss_report_stream_filename(stream_to_close));
    dbss_report_stream_free(stream_to_close);
    stream_to_close = NULL;
    free(control("DELETE", "/faults", ""));
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Calls that wait for something other than a server
 * ------------------------------------------------------------------------ */

struct waiting {
    dbss_context *ctx;
    dbss_status (*call)(struct waiting *);
    const char *instance, *id;
    dbss_operation *operation;
    dbss_status status;
    long long ended_ms;
    dbss_mirror_result *result;
    char *directory;
    pthread_t thread;
};

static void *run_waiting(void *argument)
{
    struct waiting *waiting = argument;
    waiting->status = waiting->call(waiting);
    waiting->ended_ms = now_ms();
    return NULL;
}

static void close_and_join(struct waiting *waiting, size_t count)
{
    long long start = now_ms();
    size_t i;
    close_context(waiting->ctx);
    for (i = 0; i < count; i++) {
        pthread_join(waiting[i].thread, NULL);
        if (waiting[i].status != DBSS_ERR_CANCELLED)
            fail_check("expected DBSS_ERR_CANCELLED, got %s", dbss_status_name(waiting[i].status));
        if (waiting[i].ended_ms - start > ENDED_WITHIN_MS)
            fail_check("it ended after %lld ms", waiting[i].ended_ms - start);
    }
    dbss_context_free(waiting->ctx);
}

static dbss_status check_credentials(struct waiting *waiting)
{
    return dbss_context_check(waiting->ctx, fixture("project"), waiting->operation);
}

static dbss_token_request *held_request;

static void hold_request(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    pthread_mutex_lock(&lock);
    held_request = request;
    pthread_mutex_unlock(&lock);
}

static int is_held(void)
{
    int result;
    pthread_mutex_lock(&lock);
    result = held_request != NULL;
    pthread_mutex_unlock(&lock);
    return result;
}

static void count_destroyed(void *user_data)
{
    add_locked(user_data, 1);
}

static dbss_status mirror(struct waiting *waiting)
{
    dbss_mirror_options *options;
    dbss_status status;
    if (dbss_mirror_options_new(&options) != DBSS_OK
        || dbss_mirror_options_set(options, "instance", waiting->instance) != DBSS_OK)
        fatal("cannot create mirror options");
    status = dbss_reports_mirror(waiting->ctx, fixture("project"), waiting->directory, options, waiting->operation,
                                 &waiting->result);
    dbss_mirror_options_free(options);
    return status;
}

/* The context is closed during many short downloads. The mirror is cancelled, and no
 * report counts as failed. */
static void context_closed_during_mirror(void)
{
    char *instance = add_instance();
    int round;

    post_control("/reports", "{\"instance\": \"%s\", \"format\": \"pdf\", \"size\": 6000, \"count\": 300}", instance);
    for (round = 0; round < 20 && !has_failed(); round++) {
        struct waiting waiting;
        size_t i;
        memset(&waiting, 0, sizeof waiting);
        waiting.ctx = new_context(fixture("http"));
        waiting.instance = instance;
        waiting.operation = new_operation();
        waiting.directory = new_directory();
        waiting.call = mirror;
        waiting.thread = start_thread(run_waiting, &waiting);
        WAIT_FOR(dbss_operation_received(waiting.operation) > round * 3000);
        close_and_join(&waiting, 1);
        for (i = 0; i < dbss_mirror_result_failure_count(waiting.result); i++) {
            dbss_error *error = dbss_mirror_result_failure_error(waiting.result, i);
            fail_check("a report failed: %s", dbss_error_message(error));
            dbss_error_free(error);
        }
        remove_tree(waiting.directory);
        free(waiting.directory);
        dbss_mirror_result_free(waiting.result);
        dbss_operation_free(waiting.operation);
    }
    free(instance);
}

static void ignore_record(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    (void)record;
}

static void provide_token(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    EXPECT(DBSS_OK, dbss_token_request_set(request, fixture("token"), -1));
    dbss_token_request_free(request);
}

/* The log callback and the token provider are destroyed with the last call, or at
 * once. */
static void context_close_releases_callbacks(void)
{
    int i;
    for (i = 0; i < 2; i++) {
        const char *id = add_report(300000);
        dbss_config *config = new_config(fixture("http"), fixture("token"));
        dbss_operation *operation = new_operation();
        struct call call = new_call(TO_MEMORY, NULL, id, operation);
        int log = 0, provider = 0;

        EXPECT(DBSS_OK, dbss_config_set_log(config, ignore_record, &log, count_destroyed));
        EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide_token, &provider, count_destroyed));
        call.ctx = context_from(config);
        if (i == 1) {
            post_fault(id, "\"stall_after\": 100000, \"times\": 1");
            start_call(&call);
            WAIT_FOR(dbss_operation_received(operation) == 100000);
        }
        dbss_context_close(call.ctx);
        if (i == 1) {
            join_call(&call);
            CHECK(call.status == DBSS_ERR_CANCELLED);
            free_call(&call);
        }
        CHECK(read_locked(&log) == 1 && read_locked(&provider) == 1);
        EXPECT_PARAMETER(DBSS_ERR_CLOSED, "ctx", dbss_context_check(call.ctx, fixture("project"), NULL));
        dbss_context_close(call.ctx);
        dbss_context_free(call.ctx);
        CHECK(read_locked(&log) == 1 && read_locked(&provider) == 1);
        dbss_operation_free(operation);
    }
}

/* Idle connections are closed too. */
static void context_close_releases_connections(void)
{
    static const char *const endpoints[] = {"http", "https"};
    int i;
    for (i = 0; i < 2; i++) {
        dbss_context *ctx = new_context(fixture(endpoints[i]));
        int before = for_each_descriptor(NULL);
        EXPECT(DBSS_OK, dbss_context_check(ctx, fixture("project"), NULL));
        CHECK(for_each_descriptor(NULL) > before);
        dbss_context_close(ctx);
        CHECK(for_each_descriptor(NULL) == before);
        dbss_context_free(ctx);
    }
}

/* A provider can see that its token is no longer wanted. */
static void token_request_is_no_longer_wanted(void)
{
    int i;
    CHECK(dbss_token_request_is_wanted(NULL) == 0);
    for (i = 0; i < 3; i++) {
        dbss_config *config = new_config(fixture("http"), fixture("token"));
        struct waiting waiting;

        held_request = NULL;
        memset(&waiting, 0, sizeof waiting);
        EXPECT(DBSS_OK, dbss_config_set_token_provider(config, hold_request, NULL, NULL));
        waiting.ctx = context_from(config);
        waiting.call = check_credentials;
        waiting.thread = start_thread(run_waiting, &waiting);
        WAIT_FOR(is_held());
        CHECK(dbss_token_request_is_wanted(held_request) == 1);
        if (i == 0) {
            EXPECT(DBSS_OK, dbss_token_request_set(held_request, fixture("token"), -1));
            CHECK(dbss_token_request_is_wanted(held_request) == 0);
            pthread_join(waiting.thread, NULL);
            CHECK(waiting.status == DBSS_OK);
            dbss_context_free(waiting.ctx);
        } else if (i == 1) {
            close_and_join(&waiting, 1);
            CHECK(dbss_token_request_is_wanted(held_request) == 0);
            /* A late token is accepted and not used. */
            EXPECT(DBSS_OK, dbss_token_request_set(held_request, "too-late", -1));
        } else {
            /* The request is dropped with the context, after the last call. */
            dbss_context_cancel_all(waiting.ctx);
            pthread_join(waiting.thread, NULL);
            CHECK(waiting.status == DBSS_ERR_CANCELLED && dbss_token_request_is_wanted(held_request) == 1);
            dbss_context_free(waiting.ctx);
            CHECK(dbss_token_request_is_wanted(held_request) == 0);
        }
        add_failure_context("case %d", i);
        dbss_token_request_free(held_request);
    }
}

static const struct check checks[] = {
    {"context_closed_under_many_threads", context_closed_under_many_threads, LOAD},
    {"context_closed_under_many_threads_tls", context_closed_under_many_threads_tls, LOAD},
    {"context_closed_in_callback_cancels_call", context_closed_in_callback_cancels_call, PLAIN},
    {"stream_closed_in_its_callback_ends", stream_closed_in_its_callback_ends, PLAIN},
    {"context_closed_during_mirror", context_closed_during_mirror, LOAD},
    {"context_close_releases_callbacks", context_close_releases_callbacks, PLAIN},
    {"context_close_releases_connections", context_close_releases_connections, TLS},
    {"token_request_is_no_longer_wanted", token_request_is_no_longer_wanted, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
