/* Closing contexts and streams while other threads use them, and in callbacks. operation.c
 * closes a context in each phase of a call, mirror.c during a mirror. */

#include "calls.h"

#define PROJECT_AND_INSTANCE fixture("project"), fixture("instance")

enum { THREADS = 64 };

static struct work shared;
static int started, closed;

struct user {
    int kind;
    /* Opened in advance, for a quarter of the threads. */
    dbss_report_stream *stream;
};

static dbss_status read_once(dbss_report_stream *stream)
{
    char part[4096];
    size_t len;
    return dbss_report_stream_read(stream, part, sizeof part, &len);
}

enum { OPEN_STREAM = 3 };

static dbss_status make_one_call(const struct user *user)
{
    switch (user->kind) {
    case 0: return download(&shared);
    case 1: return download_to_stream(&shared);
    case 2: return list_reports(&shared);
    case OPEN_STREAM:
    default: return read_once(user->stream);
    }
}

/* Makes calls until three in a row are refused. */
static void *call_until_refused(void *user)
{
    int refused = 0, first = 1, is_refused;
    while (refused < 3 && !has_failed()) {
        int was_closed = read_locked(&closed);
        dbss_status status = make_one_call(user);
        if (status != DBSS_OK && status != DBSS_ERR_CANCELLED && status != DBSS_ERR_CLOSED)
            fail_check("expected success, DBSS_ERR_CANCELLED or DBSS_ERR_CLOSED, got %s (%s)", dbss_status_name(status),
                       dbss_error_message(dbss_last_error()));
        /* An open stream is a running call. */
        is_refused =
            status == DBSS_ERR_CLOSED || (status == DBSS_ERR_CANCELLED && ((struct user *)user)->kind == OPEN_STREAM);
        if (was_closed && !is_refused)
            fail_check("a call after the close returned %s", dbss_status_name(status));
        refused = is_refused ? refused + 1 : 0;
        add_failure_context("kind of call: %d", ((struct user *)user)->kind);
        if (first)
            add_locked(&started, 1);
        first = 0;
    }
    return NULL;
}

static void close_while_used(int close_streams)
{
    struct user users[THREADS];
    pthread_t threads[THREADS];

    shared = new_work(new_context(fixture(scheme)), NULL);
    shared.id = add_report(500000);
    started = closed = 0;
    for (int i = 0; i < THREADS; i++) {
        users[i] = (struct user){i % 4, NULL};
        if (i % 4 == 3)
            OK(dbss_report_open(shared.ctx, PROJECT_AND_INSTANCE, shared.id, NULL, NULL, &users[i].stream));
    }
    for (int i = 0; i < THREADS; i++)
        threads[i] = start_thread(call_until_refused, &users[i]);
    WAIT_FOR(read_locked(&started) == THREADS);
    for (int i = 3; i < THREADS && close_streams; i += 4)
        dbss_report_stream_close(users[i].stream);
    dbss_context_close(shared.ctx);
    add_locked(&closed, 1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 3; i < THREADS; i += 4)
        dbss_report_stream_free(users[i].stream);
}

NAMED_CHECKS(context_closed_under_many_threads, LOAD, LOAD)
{
    for (int round = 0; round < 3 && !has_failed(); round++)
        close_while_used(round % 2);
}

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
    if (dbss_operation_received(operation) > 0)
        close_handles();
    return 0;
}

static int32_t close_in_write(void *user_data, const uint8_t *data, size_t len)
{
    close_handles();
    return 0;
}

static void close_in_log(void *user_data, const dbss_log_record *record)
{
    close_handles();
}

static void close_in_provider(void *user_data, dbss_token_request *request)
{
    close_handles();
    give_token(request, fixture("token"));
}

NAMED_CHECK(context_closed_in_callback_cancels_call, PLAIN)
{
    enum { IN_PROGRESS, IN_LOG, IN_PROVIDER, IN_WRITE, CALLBACKS };
    const char *id = add_report(2000000);
    post_fault(id, "\"stall_after\": 1000000");
    for (int i = 0; i < CALLBACKS; i++) {
        dbss_config *config = new_config(fixture("http"), fixture("token"));
        struct work work;
        if (i == IN_LOG)
            OK(dbss_config_set_log(config, close_in_log, NULL, NULL));
        if (i == IN_PROVIDER)
            OK(dbss_config_set_token_provider(config, close_in_provider, NULL, NULL));
        context_to_close = new_context_from(config);
        work = new_work(context_to_close, new_operation());
        work.id = id;
        if (i == IN_PROGRESS)
            OK(dbss_operation_set_progress(work.operation, close_in_progress, NULL, NULL));
        EXPECT(DBSS_ERR_CANCELLED, i != IN_WRITE
                                       ? download_to_memory(&work)
                                       : dbss_report_download_to_callback(context_to_close, PROJECT_AND_INSTANCE, id,
                                                                          NULL, close_in_write, NULL, NULL));
        EXPECT_PARAMETER(DBSS_ERR_CLOSED, "ctx", check_credentials(&work));
        add_failure_context("callback %d", i);
    }
    context_to_close = NULL;
}

/* The stream is closed in a callback of its own read. */
NAMED_CHECK(stream_closed_in_its_callback_ends, PLAIN)
{
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    const char *id = add_report(300000);
    dbss_status status = DBSS_OK;

    post_fault(id, "\"stall_after\": 200000");
    OK(dbss_report_open(ctx, PROJECT_AND_INSTANCE, id, NULL, operation, &stream_to_close));
    EXPECT(DBSS_ERR_BUSY, dbss_operation_set_progress(operation, close_in_progress, NULL, NULL));
    dbss_report_stream_free(stream_to_close);
    stream_to_close = NULL;
    OK(dbss_operation_set_progress(operation, close_in_progress, NULL, NULL));
    OK(dbss_report_open(ctx, PROJECT_AND_INSTANCE, id, NULL, operation, &stream_to_close));
    while (status == DBSS_OK)
        status = read_once(stream_to_close);
    /* That read may have succeeded with bytes that had arrived. */
    CHECK(status == DBSS_ERR_CANCELLED || status == DBSS_ERR_CLOSED);
    EXPECT_PARAMETER(DBSS_ERR_CLOSED, "stream", read_once(stream_to_close));
    /* The getters still work. */
    CHECK(dbss_report_stream_size(stream_to_close) == 300000);
    expect_text(__LINE__, "audit-report.pdf", dbss_report_stream_filename(stream_to_close));
    dbss_report_stream_free(stream_to_close);
    stream_to_close = NULL;
}

/* The log callback and the token provider are destroyed with the last call, or at
 * once. */
NAMED_CHECK(context_close_releases_callbacks, PLAIN)
{
    for (int is_used = 0; is_used < 2; is_used++) {
        dbss_config *config = new_config(fixture("http"), NULL);
        struct call call = {.id = add_report(300000), .operation = new_operation()};
        struct work work;
        static int log, provider;

        log = provider = 0;
        OK(dbss_config_set_log(config, ignore_record, &log, count_destroyed));
        OK(dbss_config_set_token_provider(config, close_in_provider, &provider, count_destroyed));
        work = new_work(call.ctx = new_context_from(config), NULL);
        if (is_used) {
            post_fault(call.id, "\"stall_after\": 100000, \"times\": 1");
            start_call(&call);
            WAIT_FOR(dbss_operation_received(call.operation) == 100000);
        }
        dbss_context_close(call.ctx);
        if (is_used) {
            join_call(&call);
            CHECK(call.status == DBSS_ERR_CANCELLED);
            free_call(&call);
        }
        CHECK(read_locked(&log) == 1 && read_locked(&provider) == 1);
        EXPECT_PARAMETER(DBSS_ERR_CLOSED, "ctx", check_credentials(&work));
        dbss_context_close(call.ctx);
        drop(call.ctx);
        CHECK(read_locked(&log) == 1 && read_locked(&provider) == 1);
    }
}

/* Idle connections are closed too. */
NAMED_CHECKS(context_close_releases_connections, PLAIN, TLS)
{
    struct work work = new_work(new_context(fixture(scheme)), NULL);
    int before = for_each_descriptor(NULL);
    OK(check_credentials(&work));
    CHECK(for_each_descriptor(NULL) > before);
    dbss_context_close(work.ctx);
    /* The thread of the name look-up holds one for a moment longer. */
    WAIT_FOR(for_each_descriptor(NULL) == before);
}

static dbss_token_request *held_request;
static int requests_held;

static void hold_request(void *user_data, dbss_token_request *request)
{
    held_request = request;
    add_locked(&requests_held, 1);
}

static void *check_on_thread(void *status)
{
    *(dbss_status *)status = check_credentials(&shared);
    return NULL;
}

/* A provider can see that its token is no longer wanted. */
NAMED_CHECK(token_request_is_no_longer_wanted, PLAIN)
{
    enum { ANSWERED, CLOSED, CANCELLED, WAYS };
    for (int i = 0; i < WAYS; i++) {
        dbss_config *config = new_config(fixture("http"), NULL);
        dbss_status status;
        pthread_t thread;

        requests_held = 0;
        OK(dbss_config_set_token_provider(config, hold_request, NULL, NULL));
        shared = new_work(new_context_from(config), NULL);
        thread = start_thread(check_on_thread, &status);
        WAIT_FOR(read_locked(&requests_held) == 1);
        CHECK(dbss_token_request_is_wanted(held_request) == 1);
        if (i == ANSWERED) {
            OK(dbss_token_request_set(held_request, fixture("token"), -1));
            CHECK(dbss_token_request_is_wanted(held_request) == 0);
        } else if (i == CLOSED) {
            dbss_context_close(shared.ctx);
        } else {
            dbss_context_cancel_all(shared.ctx);
        }
        pthread_join(thread, NULL);
        CHECK(status == (i == ANSWERED ? DBSS_OK : DBSS_ERR_CANCELLED));
        /* After a cancel it is dropped with the context. */
        CHECK(dbss_token_request_is_wanted(held_request) == (i == CANCELLED));
        drop(shared.ctx);
        CHECK(dbss_token_request_is_wanted(held_request) == 0);
        if (i == CLOSED)
            /* A late token is accepted and not used. */
            OK(dbss_token_request_set(held_request, "too-late", -1));
        add_failure_context("way %d", i);
        dbss_token_request_free(held_request);
    }
}
