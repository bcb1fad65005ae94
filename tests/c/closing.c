/*
 * Closing contexts and streams while others use them. See checks.h for how to
 * run them; control.c closes a context in each phase of a call.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Closing waits for nobody, and what it ends is over within 100 ms; the rest is
 * for a busy machine. */
#define CLOSED_WITHIN_MS 100
#define ENDED_WITHIN_MS 500

#define WHERE fact("project"), fact("instance")


static void close_context(dbss_context *ctx)
{
    long long start = now_ms();
    dbss_context_close(ctx);
    if (now_ms() - start > CLOSED_WITHIN_MS)
        failed("closing the context took %lld ms", now_ms() - start);
}

/* ---------------------------------------------------------------------------
 * Many threads
 * ------------------------------------------------------------------------ */

enum { THREADS = 64 };

struct shared {
    dbss_context *ctx;
    const char *id;
    int begun, closed;
};

struct user {
    struct shared *shared;
    int index;
    /* Opened before, for a quarter of the threads. */
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
    dbss_status status = dbss_report_open(shared->ctx, WHERE, shared->id, NULL, NULL, &stream);
    if (status == DBSS_OK)
        status = read_stream(stream);
    dbss_report_stream_free(stream);
    return status;
}

static dbss_status read_list(struct shared *shared)
{
    dbss_cursor *cursor;
    dbss_page *page = NULL;
    dbss_status status = dbss_reports_list(shared->ctx, WHERE, NULL, 0, &cursor);
    if (status == DBSS_OK)
        status = dbss_cursor_next(cursor, NULL, &page);
    dbss_page_free(page);
    dbss_cursor_free(cursor);
    return status;
}

static dbss_status download(struct shared *shared)
{
    dbss_buffer buffer;
    dbss_status status = dbss_report_download(shared->ctx, WHERE, shared->id, NULL, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status make_one(struct user *user)
{
    switch (user->index % 4) {
    case 0: return download(user->shared);
    case 1: return open_and_read(user->shared);
    case 2: return read_list(user->shared);
    default: return read_stream(user->stream);
    }
}

/* Makes calls until three in a row were refused. */
static void *make_calls(void *argument)
{
    struct user *user = argument;
    struct shared *shared = user->shared;
    int refused = 0, first = 1;

    while (refused < 3 && !has_failed()) {
        int was_closed = read_locked(&shared->closed);
        dbss_status status = make_one(user);
        if (status != DBSS_OK && status != DBSS_ERR_CANCELLED && status != DBSS_ERR_CLOSED)
            failed("expected success, a cancel or a refusal, got %s (%s)", dbss_status_name(status),
                   dbss_error_message(dbss_last_error()));
        if (was_closed && status != DBSS_ERR_CLOSED)
            failed("a call after the end gave %s", dbss_status_name(status));
        refused = status == DBSS_ERR_CLOSED ? refused + 1 : 0;
        blame("call of kind %d", user->index % 4);
        if (first)
            add_locked(&shared->begun, 1);
        first = 0;
    }
    return NULL;
}

static void close_under(const char *endpoint, int streams_too)
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
            EXPECT(DBSS_OK, dbss_report_open(shared.ctx, WHERE, shared.id, NULL, NULL, &users[i].stream));
    }
    for (i = 0; i < THREADS && !has_failed(); i++)
        threads[i] = start_thread(make_calls, &users[i]);
    WAIT_FOR(read_locked(&shared.begun) == THREADS);
    for (i = 3; i < THREADS && streams_too; i += 4)
        dbss_report_stream_close(users[i].stream);
    dbss_context_close(shared.ctx);
    add_locked(&shared.closed, 1);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (i = 3; i < THREADS; i += 4)
        dbss_report_stream_free(users[i].stream);
    dbss_context_free(shared.ctx);
}

static void under_many_threads(void)
{
    int round;
    for (round = 0; round < 4 && !has_failed(); round++)
        close_under(fact("http"), round % 2);
}

static void under_many_threads_tls(void)
{
    int round;
    for (round = 0; round < 2 && !has_failed(); round++)
        close_under(fact("https"), round % 2);
}

/* ---------------------------------------------------------------------------
 * Streams
 * ------------------------------------------------------------------------ */

struct reading {
    dbss_report_stream *stream;
    dbss_status status;
    int bytes;
    long long ended_ms;
};

static void *read_to_the_end(void *argument)
{
    struct reading *reading = argument;
    char part[4096];
    size_t len = 1;
    while (len > 0) {
        reading->status = dbss_report_stream_read(reading->stream, part, sizeof part, &len);
        add_locked(&reading->bytes, (int)len);
    }
    reading->ended_ms = now_ms();
    return NULL;
}

/* A read under way ends, later ones are refused, and what is known stays. */
static void stream_closed_during_read(void)
{
    static const char *const endpoints[] = {"http", "https"};
    struct report report = new_report(300000);
    int i;
    for (i = 0; i < 4; i++) {
        dbss_context *ctx = new_context(fact(endpoints[i % 2]));
        dbss_operation *operation = i < 2 ? new_operation() : NULL;
        struct reading reading = {NULL, DBSS_OK, 0, 0};
        dbss_buffer buffer;
        pthread_t thread;
        long long start;

        post_fault(report.id, "\"stall_after\": 200000, \"times\": 1");
        EXPECT(DBSS_OK, dbss_report_open(ctx, WHERE, report.id, NULL, operation, &reading.stream));
        thread = start_thread(read_to_the_end, &reading);
        WAIT_FOR(read_locked(&reading.bytes) == 200000);
        start = now_ms();
        dbss_report_stream_close(reading.stream);
        CHECK(now_ms() - start <= CLOSED_WITHIN_MS);
        pthread_join(thread, NULL);
        /* It may have been between two reads. */
        CHECK(reading.status == DBSS_ERR_CANCELLED || reading.status == DBSS_ERR_CLOSED);
        CHECK(reading.ended_ms - start <= ENDED_WITHIN_MS);
        EXPECT_PARAMETER(DBSS_ERR_CLOSED, "stream", read_stream(reading.stream));
        dbss_report_stream_close(reading.stream);
        EXPECT_PARAMETER(DBSS_ERR_CLOSED, "stream", read_stream(reading.stream));
        CHECK(dbss_report_stream_size(reading.stream) == 300000);
        expect_text(__LINE__, "audit-report.pdf", dbss_report_stream_filename(reading.stream));
        /* Neither the operation nor the context is ended. */
        EXPECT(DBSS_OK, dbss_report_download_to_memory(ctx, WHERE, report.id, NULL, operation, &buffer));
        dbss_buffer_free(&buffer);
        dbss_report_stream_free(reading.stream);
        dbss_operation_free(operation);
        dbss_context_free(ctx);
    }
    dbss_report_stream_close(NULL);
    dbss_context_close(NULL);
    free_report(&report);
}

/* The operation of a closed stream serves another call, which refused reads of
 * the stream leave alone. */
static void operation_of_a_closed_stream(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fact("http"));
    dbss_operation *operation = new_operation();
    struct call call = {TO_MEMORY, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    dbss_report_stream *stream;

    EXPECT(DBSS_OK, dbss_report_open(ctx, WHERE, report.id, NULL, operation, &stream));
    EXPECT(DBSS_OK, read_stream(stream));
    dbss_report_stream_close(stream);
    post_fault(report.id, "\"stall_after\": 100000, \"times\": 1");
    start_call(&call);
    WAIT_FOR(dbss_operation_received(operation) == 100000);
    EXPECT_PARAMETER(DBSS_ERR_CLOSED, "stream", read_stream(stream));
    dbss_report_stream_close(stream);
    CHECK(dbss_operation_error(operation) == NULL && dbss_operation_received(operation) == 100000);
    EXPECT(DBSS_ERR_BUSY, dbss_operation_reset(operation));
    dbss_report_stream_free(stream);
    dbss_operation_cancel(operation);
    join_call(&call);
    CHECK_CALL(DBSS_ERR_CANCELLED, &call, &report);
    free_call(&call);
    EXPECT(DBSS_OK, dbss_operation_reset(operation));

    /* After the call too. */
    EXPECT(DBSS_OK, dbss_report_open(ctx, WHERE, report.id, NULL, operation, &stream));
    dbss_report_stream_close(stream);
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    free_call(&call);
    EXPECT_PARAMETER(DBSS_ERR_CLOSED, "stream", read_stream(stream));
    CHECK(dbss_operation_error(operation) == NULL);
    dbss_report_stream_free(stream);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Inside callbacks
 * ------------------------------------------------------------------------ */

static dbss_context *to_close;
static dbss_report_stream *stream_to_close;

static void close_what_is_open(void)
{
    if (to_close != NULL)
        dbss_context_close(to_close);
    if (stream_to_close != NULL)
        dbss_report_stream_close(stream_to_close);
}

static int32_t close_in_progress(void *user_data, const dbss_operation *operation)
{
    (void)user_data;
    if (dbss_operation_received(operation) > 0)
        close_what_is_open();
    return 0;
}

static int32_t close_in_write(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    close_what_is_open();
    return 0;
}

static void close_in_log(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    (void)record;
    close_what_is_open();
}

static void close_in_provider(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    close_what_is_open();
    EXPECT(DBSS_OK, dbss_token_request_set(request, fact("token"), -1));
    dbss_token_request_free(request);
}

static void context_inside_callbacks(void)
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
        config = new_config(fact("http"), fact("token"));
        if (i == 1)
            EXPECT(DBSS_OK, dbss_config_set_log(config, close_in_log, NULL, NULL));
        if (i == 2)
            EXPECT(DBSS_OK, dbss_config_set_token_provider(config, close_in_provider, NULL, NULL));
        to_close = to_context(config);
        status = i == 3 ? dbss_report_download_to_callback(to_close, WHERE, report.id, NULL, close_in_write, NULL, NULL)
                        : dbss_report_download_to_memory(to_close, WHERE, report.id, NULL, i == 0 ? operation : NULL, &buffer);
        EXPECT(DBSS_ERR_CANCELLED, status);
        EXPECT_PARAMETER(DBSS_ERR_CLOSED, "ctx", dbss_context_check(to_close, fact("project"), NULL));
        blame("callback %d", i);
        dbss_context_free(to_close);
    }
    to_close = NULL;
    free(control("DELETE", "/faults", ""));
    dbss_operation_free(operation);
    free_report(&report);
}

/* The stream, in a callback of its own read. */
static void stream_inside_its_callback(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fact("http"));
    dbss_operation *operation = new_operation();
    dbss_status status = DBSS_OK;

    post_fault(report.id, "\"stall_after\": 200000");
    EXPECT(DBSS_OK, dbss_report_open(ctx, WHERE, report.id, NULL, operation, &stream_to_close));
    EXPECT(DBSS_ERR_BUSY, dbss_operation_set_progress(operation, close_in_progress, NULL, NULL));
    dbss_report_stream_free(stream_to_close);
    stream_to_close = NULL;
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, close_in_progress, NULL, NULL));
    EXPECT(DBSS_OK, dbss_report_open(ctx, WHERE, report.id, NULL, operation, &stream_to_close));
    while (status == DBSS_OK)
        status = read_stream(stream_to_close);
    /* Bytes that were here already may have ended that read well. */
    CHECK(status == DBSS_ERR_CANCELLED || status == DBSS_ERR_CLOSED);
    EXPECT_PARAMETER(DBSS_ERR_CLOSED, "stream", read_stream(stream_to_close));
    dbss_report_stream_free(stream_to_close);
    stream_to_close = NULL;
    free(control("DELETE", "/faults", ""));
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Calls that wait for something else than a server
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
            failed("expected DBSS_ERR_CANCELLED, got %s", dbss_status_name(waiting[i].status));
        if (waiting[i].ended_ms - start > ENDED_WITHIN_MS)
            failed("it ended after %lld ms", waiting[i].ended_ms - start);
    }
    dbss_context_free(waiting->ctx);
}

static dbss_status check_credentials(struct waiting *waiting)
{
    return dbss_context_check(waiting->ctx, fact("project"), waiting->operation);
}

static dbss_token_request *held;
static int destroyed;

static void hold(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    pthread_mutex_lock(&lock);
    held = request;
    pthread_mutex_unlock(&lock);
}

static int is_held(void)
{
    int result;
    pthread_mutex_lock(&lock);
    result = held != NULL;
    pthread_mutex_unlock(&lock);
    return result;
}

static void count_destroyed(void *user_data)
{
    add_locked(user_data, 1);
}

static int32_t count_ticks(void *user_data, const dbss_operation *operation)
{
    (void)operation;
    add_locked(user_data, 1);
    return 0;
}

/* Those that wait for a token, whoever asked for it. */
static void waiting_for_a_token(void)
{
    dbss_config *config = new_config(fact("http"), fact("token"));
    struct waiting waiting[3];
    int ticks[3] = {0, 0, 0};
    size_t i;

    held = NULL;
    destroyed = 0;
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, hold, &destroyed, count_destroyed));
    memset(waiting, 0, sizeof waiting);
    waiting[0].ctx = to_context(config);
    for (i = 0; i < 3; i++) {
        waiting[i].ctx = waiting[0].ctx;
        waiting[i].call = check_credentials;
        waiting[i].operation = new_operation();
        EXPECT(DBSS_OK, dbss_operation_set_progress(waiting[i].operation, count_ticks, &ticks[i], NULL));
        waiting[i].thread = start_thread(run_waiting, &waiting[i]);
    }
    WAIT_FOR(is_held());
    /* Beyond its first tick a call waits. */
    for (i = 0; i < 3; i++)
        WAIT_FOR(read_locked(&ticks[i]) > 1);
    close_and_join(waiting, 3);
    for (i = 0; i < 3; i++)
        dbss_operation_free(waiting[i].operation);
    /* What comes too late is taken, and is a token of nobody. */
    EXPECT(DBSS_OK, dbss_token_request_set(held, "too-late", -1));
    dbss_token_request_free(held);
    CHECK(read_locked(&destroyed) == 1);
}

static dbss_status wait_for_report(struct waiting *waiting)
{
    return dbss_report_wait(waiting->ctx, WHERE, waiting->id, waiting->operation);
}

static void waiting_for_a_report(void)
{
    char *id = format("%s", fresh_id());
    char *body = format("{\"id\": \"%s\", \"format\": \"pdf\", \"percentum\": 20}", id);
    struct waiting waiting;

    free(control("POST", "/reports", body));
    free(body);
    memset(&waiting, 0, sizeof waiting);
    waiting.ctx = new_context(fact("http"));
    waiting.operation = new_operation();
    waiting.id = id;
    waiting.call = wait_for_report;
    EXPECT(DBSS_OK, dbss_operation_set(waiting.operation, "poll_interval_ms", "60000"));
    waiting.thread = start_thread(run_waiting, &waiting);
    WAIT_FOR(dbss_operation_percent(waiting.operation) == 20);
    close_and_join(&waiting, 1);
    dbss_operation_free(waiting.operation);
    free(id);
}

static dbss_status mirror(struct waiting *waiting)
{
    dbss_mirror_options *options;
    dbss_status status;
    if (dbss_mirror_options_new(&options) != DBSS_OK
        || dbss_mirror_options_set(options, "instance", waiting->instance) != DBSS_OK)
        fatal("no options of a mirror");
    status = dbss_reports_mirror(waiting->ctx, fact("project"), waiting->directory, options, waiting->operation,
                                 &waiting->result);
    dbss_mirror_options_free(options);
    return status;
}

/* In the midst of its downloads, which are many and short: the whole ends by
 * the cancel, and no report is a failure because of it. */
static void during_mirrors(void)
{
    char *instance = format("instance-%s", fresh_id()), *command;
    char *body = format("{\"id\": \"%s\", \"name\": \"closing\"}", instance);
    int round;

    free(control("POST", "/instances", body));
    free(body);
    body = format("{\"instance\": \"%s\", \"format\": \"pdf\", \"size\": 6000, \"count\": 300}", instance);
    free(control("POST", "/reports", body));
    free(body);
    for (round = 0; round < 20 && !has_failed(); round++) {
        struct waiting waiting;
        size_t i;
        memset(&waiting, 0, sizeof waiting);
        waiting.ctx = new_context(fact("http"));
        waiting.instance = instance;
        waiting.operation = new_operation();
        waiting.directory = new_directory();
        waiting.call = mirror;
        waiting.thread = start_thread(run_waiting, &waiting);
        WAIT_FOR(dbss_operation_received(waiting.operation) > round * 3000);
        close_and_join(&waiting, 1);
        for (i = 0; i < dbss_mirror_result_failure_count(waiting.result); i++) {
            dbss_error *error = dbss_mirror_result_failure_error(waiting.result, i);
            failed("a report failed: %s", dbss_error_message(error));
            dbss_error_free(error);
        }
        command = format("rm -r '%s'", waiting.directory);
        if (system(command) != 0)
            failed("cannot remove %s", waiting.directory);
        free(command);
        free(waiting.directory);
        dbss_mirror_result_free(waiting.result);
        dbss_operation_free(waiting.operation);
    }
    free(instance);
}

static void take_record(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    (void)record;
}

static void give_token(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    EXPECT(DBSS_OK, dbss_token_request_set(request, fact("token"), -1));
    dbss_token_request_free(request);
}

/* The log function and the token provider go with the last call, or at once. */
static void callbacks_are_released(void)
{
    int i;
    for (i = 0; i < 2; i++) {
        const char *id = add_report(300000);
        dbss_config *config = new_config(fact("http"), fact("token"));
        dbss_operation *operation = new_operation();
        struct call call = {TO_MEMORY, NULL, id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
        int log = 0, provider = 0;

        EXPECT(DBSS_OK, dbss_config_set_log(config, take_record, &log, count_destroyed));
        EXPECT(DBSS_OK, dbss_config_set_token_provider(config, give_token, &provider, count_destroyed));
        call.ctx = to_context(config);
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
        EXPECT_PARAMETER(DBSS_ERR_CLOSED, "ctx", dbss_context_check(call.ctx, fact("project"), NULL));
        dbss_context_close(call.ctx);
        dbss_context_free(call.ctx);
        CHECK(read_locked(&log) == 1 && read_locked(&provider) == 1);
        dbss_operation_free(operation);
    }
}

/* So do the connections that nobody uses. */
static void connections_are_released(void)
{
    static const char *const endpoints[] = {"http", "https"};
    int i;
    for (i = 0; i < 2; i++) {
        dbss_context *ctx = new_context(fact(endpoints[i]));
        int before = each_descriptor(NULL);
        EXPECT(DBSS_OK, dbss_context_check(ctx, fact("project"), NULL));
        CHECK(each_descriptor(NULL) > before);
        dbss_context_close(ctx);
        CHECK(each_descriptor(NULL) == before);
        dbss_context_free(ctx);
    }
}

/* Who was asked for a token can see that nobody wants it any more. */
static void a_token_that_nobody_wants(void)
{
    int i;
    CHECK(dbss_token_request_is_wanted(NULL) == 0);
    for (i = 0; i < 3; i++) {
        dbss_config *config = new_config(fact("http"), fact("token"));
        struct waiting waiting;

        held = NULL;
        memset(&waiting, 0, sizeof waiting);
        EXPECT(DBSS_OK, dbss_config_set_token_provider(config, hold, NULL, NULL));
        waiting.ctx = to_context(config);
        waiting.call = check_credentials;
        waiting.thread = start_thread(run_waiting, &waiting);
        WAIT_FOR(is_held());
        CHECK(dbss_token_request_is_wanted(held) == 1);
        if (i == 0) {
            EXPECT(DBSS_OK, dbss_token_request_set(held, fact("token"), -1));
            CHECK(dbss_token_request_is_wanted(held) == 0);
            pthread_join(waiting.thread, NULL);
            CHECK(waiting.status == DBSS_OK);
            dbss_context_free(waiting.ctx);
        } else if (i == 1) {
            close_and_join(&waiting, 1);
            CHECK(dbss_token_request_is_wanted(held) == 0);
        } else {
            /* The context goes with the last call. */
            dbss_context_cancel_all(waiting.ctx);
            pthread_join(waiting.thread, NULL);
            CHECK(waiting.status == DBSS_ERR_CANCELLED && dbss_token_request_is_wanted(held) == 1);
            dbss_context_free(waiting.ctx);
            CHECK(dbss_token_request_is_wanted(held) == 0);
        }
        blame("case %d", i);
        dbss_token_request_free(held);
    }
}

/* A child closes what it inherited; the parent's call goes on. */
static void in_a_child(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fact("http"));
    struct call call = {TO_MEMORY, ctx, report.id, new_operation(), NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    pid_t child;

    post_fault(report.id, "\"drip\": {\"bytes\": 60000, \"every_ms\": 60}, \"times\": 1");
    start_call(&call);
    WAIT_FOR(dbss_operation_received(call.operation) > 0);
    child = fork();
    if (child == 0) {
        dbss_buffer buffer;
        dbss_context_close(ctx);
        _exit(dbss_report_download(ctx, WHERE, report.id, NULL, &buffer) != DBSS_ERR_CLOSED);
    }
    CHECK(wait_for_child(child) == 0);
    join_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    free_call(&call);
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    free_call(&call);
    dbss_operation_free(call.operation);
    dbss_context_free(ctx);
    free_report(&report);
}

static const struct check checks[] = {
    {"under_many_threads", under_many_threads, LOAD},
    {"under_many_threads_tls", under_many_threads_tls, LOAD},
    {"stream_closed_during_read", stream_closed_during_read, LOAD},
    {"operation_of_a_closed_stream", operation_of_a_closed_stream, PLAIN},
    {"context_inside_callbacks", context_inside_callbacks, PLAIN},
    {"stream_inside_its_callback", stream_inside_its_callback, PLAIN},
    {"waiting_for_a_token", waiting_for_a_token, LOAD},
    {"waiting_for_a_report", waiting_for_a_report, LOAD},
    {"during_mirrors", during_mirrors, LOAD},
    {"callbacks_are_released", callbacks_are_released, PLAIN},
    {"connections_are_released", connections_are_released, TLS},
    {"a_token_that_nobody_wants", a_token_that_nobody_wants, LOAD},
    {"in_a_child", in_a_child, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
