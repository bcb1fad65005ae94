/*
 * The threads of callbacks, cancelled threads, and the descriptors of operations. See
 * checks.h for how to run the checks.
 */

#define _GNU_SOURCE

#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------
 * The threads of callbacks
 * ------------------------------------------------------------------------ */

enum callback { PROGRESS, LOG, PROVIDER, DESTROY_LOG, DESTROY_PROVIDER, DESTROY_PROGRESS, CALLBACKS };

static pthread_t caller;
static int calls[CALLBACKS], on_other_threads[CALLBACKS];

static void record_callback(enum callback which)
{
    pthread_mutex_lock(&lock);
    calls[which]++;
    if (!pthread_equal(pthread_self(), caller))
        on_other_threads[which]++;
    pthread_mutex_unlock(&lock);
}

static void destroy_log(void *user_data)
{
    (void)user_data;
    record_callback(DESTROY_LOG);
}

static void destroy_provider(void *user_data)
{
    (void)user_data;
    record_callback(DESTROY_PROVIDER);
}

static void destroy_progress(void *user_data)
{
    (void)user_data;
    record_callback(DESTROY_PROGRESS);
}

static void receive_record(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    CHECK(dbss_log_record_level(record) >= DBSS_LOG_ERROR && *dbss_log_record_message(record) != '\0');
    record_callback(LOG);
}

static void provide(void *user_data, dbss_token_request *request)
{
    record_callback(PROVIDER);
    EXPECT(DBSS_OK, dbss_token_request_set(request, user_data, -1));
    dbss_token_request_free(request);
}

/* Replaces the provider during the mirror, on the thread of the mirror. */
struct disturbance {
    dbss_context *ctx;
    const char *new_token;
    int done;
};

static int32_t report_progress(void *user_data, const dbss_operation *operation)
{
    struct disturbance *disturbance = user_data;
    record_callback(PROGRESS);
    if (disturbance->new_token != NULL && !disturbance->done && dbss_operation_received(operation) > 0) {
        /* Releases the provider. A worker may be its last user. */
        disturbance->done = 1;
        EXPECT(DBSS_OK, dbss_context_set_token(disturbance->ctx, disturbance->new_token));
    }
    return 0;
}

static void mirror_with_callbacks(int replace_provider)
{
    enum { REPORTS = 40 };
    char *instance = add_instance(), *directory = new_directory();
    struct disturbance disturbance = {NULL, replace_provider ? fixture("token") : NULL, 0};
    dbss_config *config = NULL;
    dbss_context *ctx;
    dbss_operation *operation = new_operation();
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = NULL;
    int i;

    post_control("/reports", "{\"instance\": \"%s\", \"format\": \"pdf\", \"size\": 200000, \"count\": %d}", instance,
                 REPORTS);
    caller = pthread_self();
    memset(calls, 0, sizeof calls);
    memset(on_other_threads, 0, sizeof on_other_threads);
    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT(DBSS_OK, dbss_config_set_endpoint(config, fixture("http")));
    EXPECT(DBSS_OK, dbss_config_set(config, "project_id", fixture("project")));
    EXPECT(DBSS_OK, dbss_config_set_log(config, receive_record, NULL, destroy_log));
    EXPECT(DBSS_OK,
           dbss_config_set_token_provider(config, provide, (void *)(size_t)fixture("token"), destroy_provider));
    ctx = context_from(config);
    disturbance.ctx = ctx;
    EXPECT(DBSS_OK, dbss_mirror_options_new(&options));
    EXPECT(DBSS_OK, dbss_mirror_options_set(options, "instance", instance));
    EXPECT(DBSS_OK, dbss_mirror_options_set(options, "parallel", "4"));
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, report_progress, &disturbance, destroy_progress));
    /* The service refuses one token, so that a worker requests another. It also
     * fails a few times, which the log records. */
    for (i = 0; i < 3; i++)
        post_fault("*", "\"status\": 503, \"times\": 1, \"skip\": %d", 6 + i * 5);
    if (!replace_provider)
        post_fault("*", "\"status\": 401, \"times\": 1, \"skip\": 13");
    EXPECT(DBSS_OK, dbss_reports_mirror(ctx, NULL, directory, options, operation, &result));
    CHECK(dbss_mirror_result_downloaded(result) == REPORTS);
    free(control("DELETE", "/faults", ""));
    dbss_mirror_result_free(result);
    dbss_mirror_options_free(options);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    for (i = 0; i < CALLBACKS; i++) {
        if (on_other_threads[i] > 0)
            fail_check("callback %d ran %d times on another thread", i, on_other_threads[i]);
        CHECK(calls[i] > 0);
    }
    CHECK(calls[DESTROY_LOG] == 1 && calls[DESTROY_PROVIDER] == 1 && calls[DESTROY_PROGRESS] == 1);
    CHECK(!replace_provider || disturbance.done);
    remove_tree(directory);
    free(directory);
    free(instance);
}

static void callbacks_run_on_calling_thread(void)
{
    mirror_with_callbacks(0);
}

static void replaced_provider_destroyed_on_calling_thread(void)
{
    mirror_with_callbacks(1);
}

/* ---------------------------------------------------------------------------
 * Cancelled threads
 * ------------------------------------------------------------------------ */

enum kind_of_call { MEMORY, TARGET, PIPE, STREAM, MIRROR, KINDS };

struct cancelled_call {
    enum kind_of_call kind;
    dbss_context *ctx;
    dbss_operation *operation;
    const char *instance, *id;
    char *directory, *path;
    int pipe_ends[2];
    dbss_mirror_options *options;
    dbss_status status;
    int returned;
};

static dbss_status make_call_of_kind(struct cancelled_call *cancelled_call)
{
    const char *project = fixture("project");
    dbss_mirror_result *result;
    dbss_report_stream *stream;
    dbss_buffer buffer;
    dbss_status status;
    char part[4096];
    size_t len = 1;

    switch (cancelled_call->kind) {
    case MEMORY:
        status = dbss_report_download_to_memory(cancelled_call->ctx, project, cancelled_call->instance,
                                                cancelled_call->id, NULL, cancelled_call->operation, &buffer);
        dbss_buffer_free(&buffer);
        return status;
    case TARGET:
        return dbss_report_download_to_file(cancelled_call->ctx, project, cancelled_call->instance, cancelled_call->id,
                                            NULL, cancelled_call->path, 0, cancelled_call->operation);
    case PIPE:
        return dbss_report_download_to_fd(cancelled_call->ctx, project, cancelled_call->instance, cancelled_call->id,
                                          NULL, cancelled_call->pipe_ends[1], cancelled_call->operation);
    case STREAM:
        status = dbss_report_open(cancelled_call->ctx, project, cancelled_call->instance, cancelled_call->id, NULL,
                                  cancelled_call->operation, &stream);
        while (status == DBSS_OK && len > 0)
            status = dbss_report_stream_read(stream, part, sizeof part, &len);
        dbss_report_stream_free(stream);
        return status;
    default:
        status = dbss_reports_mirror(cancelled_call->ctx, project, cancelled_call->directory, cancelled_call->options,
                                     cancelled_call->operation, &result);
        dbss_mirror_result_free(result);
        return status;
    }
}

static void *call_and_return(void *argument)
{
    struct cancelled_call *cancelled_call = argument;
    cancelled_call->status = make_call_of_kind(cancelled_call);
    cancelled_call->returned = 1;
    pthread_testcancel();
    cancelled_call->returned = 2;
    return NULL;
}

/* A cancel does not end the thread in a callback either. */
static int32_t test_cancel_in_progress(void *user_data, const dbss_operation *operation)
{
    (void)operation;
    pthread_testcancel();
    add_locked(user_data, 1);
    return 0;
}

/* The thread ends after the call, not during it. The process continues. */
static void cancelled_thread_ends_after_call(void)
{
    char *instance = add_instance(), *directory = new_directory();
    const char *id = fresh_id();
    char *path = format("%s/target", directory);
    dbss_mirror_options *options;
    int i;

    post_control("/reports", "{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\", \"size\": 300000}", id,
                 instance);
    EXPECT(DBSS_OK, dbss_mirror_options_new(&options));
    EXPECT(DBSS_OK, dbss_mirror_options_set(options, "instance", instance));
    for (i = 0; i < 4 * KINDS && !has_failed(); i++) {
        struct cancelled_call cancelled_call = {i % KINDS,
                                                new_context(fixture(i % 2 == 0 ? "http" : "https")),
                                                new_operation(),
                                                instance,
                                                id,
                                                directory,
                                                path,
                                                {-1, -1},
                                                options,
                                                DBSS_OK,
                                                0};
        void *ended = NULL;
        pthread_t thread;
        int ticks = 0, before;
        EXPECT(DBSS_OK, dbss_operation_set_progress(cancelled_call.operation, test_cancel_in_progress, &ticks, NULL));
        if (pipe(cancelled_call.pipe_ends) != 0)
            fatal("cannot create a pipe");
        post_fault(id, "\"stall_after\": 200000, \"times\": 1");
        thread = start_thread(call_and_return, &cancelled_call);
        /* At the very start, or in the middle. */
        if (i >= 2 * KINDS)
            WAIT_FOR(dbss_operation_received(cancelled_call.operation) > 0);
        pthread_cancel(thread);
        WAIT_FOR(dbss_operation_received(cancelled_call.operation) > 0);
        before = read_locked(&ticks);
        WAIT_FOR(read_locked(&ticks) > before + 1);
        dbss_operation_cancel(cancelled_call.operation);
        pthread_join(thread, &ended);
        CHECK(ended == PTHREAD_CANCELED);
        CHECK(cancelled_call.returned == 1 && cancelled_call.status == DBSS_ERR_CANCELLED);
        add_failure_context("kind %d", i % KINDS);
        close(cancelled_call.pipe_ends[0]);
        close(cancelled_call.pipe_ends[1]);
        dbss_operation_free(cancelled_call.operation);
        dbss_context_free(cancelled_call.ctx);
        free(control("DELETE", "/faults", ""));
    }
    dbss_mirror_options_free(options);
    remove_tree(directory);
    free(path);
    free(directory);
    free(instance);
}

static void *check_cancel_state(void *unused)
{
    int state = -1;
    (void)unused;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    EXPECT_NULL("config", dbss_config_set(NULL, "x", "y"));
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    CHECK(state == PTHREAD_CANCEL_DISABLE);
    EXPECT_NULL("config", dbss_config_set(NULL, "x", "y"));
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    CHECK(state == PTHREAD_CANCEL_ENABLE);
    return NULL;
}

/* A call keeps the cancel state of its thread. */
static void thread_cancel_state_is_kept(void)
{
    run_in_thread(check_cancel_state, NULL);
}

static void add_one(void *count)
{
    add_locked(count, 1);
}

static int32_t end_thread(void *count, const dbss_operation *operation)
{
    (void)operation;
    /* An embedded interpreter does this when it shuts down. */
    pthread_cleanup_push(add_one, count);
    pthread_exit(NULL);
    pthread_cleanup_pop(0);
    return 0;
}

static void *make_endless_call(void *argument)
{
    struct cancelled_call *cancelled_call = argument;
    make_call_of_kind(cancelled_call);
    fail_check("the call has returned");
    return NULL;
}

/* A callback must not end its thread, but the process survives if it does. */
static void thread_exit_in_callback_leaves_process_alive(void)
{
    /* The threads use these until the process ends. */
    static struct cancelled_call calls_to_end[2];
    static int threads_ended;
    dbss_context *ctx = new_context(fixture("http"));
    struct cancelled_call other_call = {
        MEMORY, ctx, NULL, fixture("instance"), fixture("pdf"), NULL, NULL, {-1, -1}, NULL, DBSS_OK, 0};
    int i;

    for (i = 0; i < 2; i++) {
        const struct cancelled_call one = {i == 0 ? MEMORY : STREAM,
                                           ctx,
                                           new_operation(),
                                           fixture("instance"),
                                           fixture("pdf"),
                                           NULL,
                                           NULL,
                                           {-1, -1},
                                           NULL,
                                           DBSS_OK,
                                           0};
        calls_to_end[i] = one;
        EXPECT(DBSS_OK, dbss_operation_set_progress(calls_to_end[i].operation, end_thread, &threads_ended, NULL));
        pthread_detach(start_thread(make_endless_call, &calls_to_end[i]));
        WAIT_FOR(read_locked(&threads_ended) == i + 1);
        EXPECT(DBSS_OK, make_call_of_kind(&other_call));
    }
    dbss_context_free(ctx);
}

/* ---------------------------------------------------------------------------
 * Descriptors of operations
 * ------------------------------------------------------------------------ */

static void unused_operations_need_no_descriptor(void)
{
    enum { OPERATIONS = 10000 };
    static dbss_operation *operations[OPERATIONS];
    int before = for_each_descriptor(NULL), i;
    for (i = 0; i < OPERATIONS; i++)
        EXPECT(DBSS_OK, dbss_operation_new(&operations[i]));
    CHECK(for_each_descriptor(NULL) == before);
    /* Nor after a cancel and a reset. */
    for (i = 0; i < OPERATIONS; i++) {
        dbss_operation_cancel(operations[i]);
        EXPECT(DBSS_OK, dbss_operation_reset(operations[i]));
    }
    CHECK(for_each_descriptor(NULL) == before);
    for (i = 0; i < OPERATIONS; i++)
        dbss_operation_free(operations[i]);
}

/* Used operations need none either. */
static void used_operations_need_no_descriptor(void)
{
    enum { OPERATIONS = 20 };
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operations[OPERATIONS];
    int before, i;
    /* Opens the connection that is kept. */
    EXPECT(DBSS_OK, dbss_context_check(ctx, fixture("project"), NULL));
    before = for_each_descriptor(NULL);
    for (i = 0; i < OPERATIONS; i++) {
        operations[i] = new_operation();
        EXPECT(DBSS_OK, dbss_context_check(ctx, fixture("project"), operations[i]));
    }
    CHECK(for_each_descriptor(NULL) == before);
    for (i = 0; i < OPERATIONS; i++)
        dbss_operation_free(operations[i]);
    dbss_context_free(ctx);
}

static const struct check checks[] = {
    {"callbacks_run_on_calling_thread", callbacks_run_on_calling_thread, LOAD},
    {"replaced_provider_destroyed_on_calling_thread", replaced_provider_destroyed_on_calling_thread, LOAD},
    {"cancelled_thread_ends_after_call", cancelled_thread_ends_after_call, LOAD},
    {"thread_exit_in_callback_leaves_process_alive", thread_exit_in_callback_leaves_process_alive, LOAD},
    {"thread_cancel_state_is_kept", thread_cancel_state_is_kept, PLAIN},
    {"unused_operations_need_no_descriptor", unused_operations_need_no_descriptor, LOAD},
    {"used_operations_need_no_descriptor", used_operations_need_no_descriptor, PLAIN},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
