/*
 * Threads: those that callbacks run on, and those that are cancelled; and what
 * operations cost. See checks.h for how to run them.
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
static int calls[CALLBACKS], elsewhere[CALLBACKS];

static void note(enum callback which)
{
    pthread_mutex_lock(&lock);
    calls[which]++;
    if (!pthread_equal(pthread_self(), caller))
        elsewhere[which]++;
    pthread_mutex_unlock(&lock);
}

static void destroy_log(void *user_data)
{
    (void)user_data;
    note(DESTROY_LOG);
}

static void destroy_provider(void *user_data)
{
    (void)user_data;
    note(DESTROY_PROVIDER);
}

static void destroy_progress(void *user_data)
{
    (void)user_data;
    note(DESTROY_PROGRESS);
}

static void take_record(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    CHECK(dbss_log_record_level(record) >= DBSS_LOG_ERROR && *dbss_log_record_message(record) != '\0');
    note(LOG);
}

static void provide(void *user_data, dbss_token_request *request)
{
    note(PROVIDER);
    EXPECT(DBSS_OK, dbss_token_request_set(request, user_data, -1));
    dbss_token_request_free(request);
}

/* What the mirror is disturbed with while it runs, on its own thread. */
struct disturbance {
    dbss_context *ctx;
    const char *new_token;
    int done;
};

static int32_t tick(void *user_data, const dbss_operation *operation)
{
    struct disturbance *disturbance = user_data;
    note(PROGRESS);
    if (disturbance->new_token != NULL && !disturbance->done && dbss_operation_received(operation) > 0) {
        /* The provider goes, and a worker may be the last that used it. */
        disturbance->done = 1;
        EXPECT(DBSS_OK, dbss_context_set_token(disturbance->ctx, disturbance->new_token));
    }
    return 0;
}

static char *add_instance_with(int reports)
{
    char *id = format("instance-%s", fresh_id());
    char *body = format("{\"id\": \"%s\", \"name\": \"threads\"}", id);
    free(control("POST", "/instances", body));
    free(body);
    if (reports > 0) {
        body = format("{\"instance\": \"%s\", \"format\": \"pdf\", \"size\": 200000, \"count\": %d}", id, reports);
        free(control("POST", "/reports", body));
        free(body);
    }
    return id;
}

static void mirror_with_callbacks(int replace_provider)
{
    enum { REPORTS = 40 };
    char *instance = add_instance_with(REPORTS), *directory = new_directory();
    char *command = format("rm -r '%s'", directory);
    struct disturbance disturbance = {NULL, replace_provider ? fact("token") : NULL, 0};
    dbss_config *config = NULL;
    dbss_context *ctx;
    dbss_operation *operation = new_operation();
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = NULL;
    int i;

    caller = pthread_self();
    memset(calls, 0, sizeof calls);
    memset(elsewhere, 0, sizeof elsewhere);
    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT(DBSS_OK, dbss_config_set_endpoint(config, fact("http")));
    EXPECT(DBSS_OK, dbss_config_set(config, "project_id", fact("project")));
    EXPECT(DBSS_OK, dbss_config_set_log(config, take_record, NULL, destroy_log));
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, (void *)(size_t)fact("token"), destroy_provider));
    ctx = to_context(config);
    disturbance.ctx = ctx;
    EXPECT(DBSS_OK, dbss_mirror_options_new(&options));
    EXPECT(DBSS_OK, dbss_mirror_options_set(options, "instance", instance));
    EXPECT(DBSS_OK, dbss_mirror_options_set(options, "parallel", "4"));
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, tick, &disturbance, destroy_progress));
    /* The service refuses a token once, so that a worker asks for another, and
     * fails now and then, of which the log tells. */
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
        if (elsewhere[i] > 0)
            failed("callback %d ran %d times on another thread", i, elsewhere[i]);
        CHECK(calls[i] > 0);
    }
    CHECK(calls[DESTROY_LOG] == 1 && calls[DESTROY_PROVIDER] == 1 && calls[DESTROY_PROGRESS] == 1);
    CHECK(!replace_provider || disturbance.done);
    if (system(command) != 0)
        failed("cannot remove the archive");
    free(command);
    free(directory);
    free(instance);
}

static void callbacks_run_on_the_callers_thread(void)
{
    mirror_with_callbacks(0);
}

static void a_replaced_provider_ends_on_the_callers_thread(void)
{
    mirror_with_callbacks(1);
}

/* ---------------------------------------------------------------------------
 * Cancelled threads
 * ------------------------------------------------------------------------ */

enum kind_of_call { MEMORY, TARGET, PIPE, STREAM, MIRROR, KINDS };

struct cancelled {
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

static dbss_status call_of_kind(struct cancelled *cancelled)
{
    const char *project = fact("project");
    dbss_mirror_result *result;
    dbss_report_stream *stream;
    dbss_buffer buffer;
    dbss_status status;
    char part[4096];
    size_t len = 1;

    switch (cancelled->kind) {
    case MEMORY:
        status = dbss_report_download_to_memory(cancelled->ctx, project, cancelled->instance, cancelled->id, NULL,
                                                cancelled->operation, &buffer);
        dbss_buffer_free(&buffer);
        return status;
    case TARGET:
        return dbss_report_download_to_file(cancelled->ctx, project, cancelled->instance, cancelled->id, NULL,
                                            cancelled->path, 0, cancelled->operation);
    case PIPE:
        return dbss_report_download_to_fd(cancelled->ctx, project, cancelled->instance, cancelled->id, NULL,
                                          cancelled->pipe_ends[1], cancelled->operation);
    case STREAM:
        status = dbss_report_open(cancelled->ctx, project, cancelled->instance, cancelled->id, NULL,
                                  cancelled->operation, &stream);
        while (status == DBSS_OK && len > 0)
            status = dbss_report_stream_read(stream, part, sizeof part, &len);
        dbss_report_stream_free(stream);
        return status;
    default:
        status = dbss_reports_mirror(cancelled->ctx, project, cancelled->directory, cancelled->options,
                                     cancelled->operation, &result);
        dbss_mirror_result_free(result);
        return status;
    }
}

static void *call_and_return(void *argument)
{
    struct cancelled *cancelled = argument;
    cancelled->status = call_of_kind(cancelled);
    cancelled->returned = 1;
    pthread_testcancel();
    cancelled->returned = 2;
    return NULL;
}

/* In a callback too the thread waits with its end. */
static int32_t test_cancel(void *user_data, const dbss_operation *operation)
{
    (void)operation;
    pthread_testcancel();
    add_locked(user_data, 1);
    return 0;
}

/* The thread ends after the call, not inside of it, and the process lives. */
static void a_cancelled_thread_ends_after_its_call(void)
{
    char *instance = add_instance_with(0), *directory = new_directory();
    const char *id = fresh_id();
    char *body = format("{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\", \"size\": 300000}", id, instance);
    char *path = format("%s/target", directory), *command = format("rm -r '%s'", directory);
    dbss_mirror_options *options;
    int i;

    free(control("POST", "/reports", body));
    free(body);
    EXPECT(DBSS_OK, dbss_mirror_options_new(&options));
    EXPECT(DBSS_OK, dbss_mirror_options_set(options, "instance", instance));
    for (i = 0; i < 4 * KINDS && !has_failed(); i++) {
        struct cancelled cancelled = {i % KINDS, new_context(fact(i % 2 == 0 ? "http" : "https")), new_operation(),
                                      instance, id, directory, path, {-1, -1}, options, DBSS_OK, 0};
        void *ended = NULL;
        pthread_t thread;
        int ticks = 0, before;
        EXPECT(DBSS_OK, dbss_operation_set_progress(cancelled.operation, test_cancel, &ticks, NULL));
        if (pipe(cancelled.pipe_ends) != 0)
            fatal("no pipe");
        post_fault(id, "\"stall_after\": 200000, \"times\": 1");
        thread = start_thread(call_and_return, &cancelled);
        /* At its very beginning, or in the midst. */
        if (i >= 2 * KINDS)
            WAIT_FOR(dbss_operation_received(cancelled.operation) > 0);
        pthread_cancel(thread);
        WAIT_FOR(dbss_operation_received(cancelled.operation) > 0);
        before = read_locked(&ticks);
        WAIT_FOR(read_locked(&ticks) > before + 1);
        dbss_operation_cancel(cancelled.operation);
        pthread_join(thread, &ended);
        CHECK(ended == PTHREAD_CANCELED);
        CHECK(cancelled.returned == 1 && cancelled.status == DBSS_ERR_CANCELLED);
        blame("kind %d", i % KINDS);
        close(cancelled.pipe_ends[0]);
        close(cancelled.pipe_ends[1]);
        dbss_operation_free(cancelled.operation);
        dbss_context_free(cancelled.ctx);
        free(control("DELETE", "/faults", ""));
    }
    dbss_mirror_options_free(options);
    if (system(command) != 0)
        failed("cannot remove the archive");
    free(command);
    free(path);
    free(directory);
    free(instance);
}

static void *keep_state(void *unused)
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

/* Whether a thread can be cancelled is the same after a call as before. */
static void the_cancel_state_is_kept(void)
{
    in_thread(keep_state, NULL);
}

static void add_one(void *count)
{
    add_locked(count, 1);
}

static int32_t end_thread(void *count, const dbss_operation *operation)
{
    (void)operation;
    /* For an embedded interpreter, which does this at its end. */
    pthread_cleanup_push(add_one, count);
    pthread_exit(NULL);
    pthread_cleanup_pop(0);
    return 0;
}

static void *call_for_ever(void *argument)
{
    struct cancelled *cancelled = argument;
    call_of_kind(cancelled);
    failed("the call has returned");
    return NULL;
}

/* A callback must not end its thread; the process outlives it all the same. */
static void a_thread_that_ends_in_a_callback_stays(void)
{
    /* Used by the threads for as long as the process lives. */
    static struct cancelled cancelled[2];
    static int ends;
    dbss_context *ctx = new_context(fact("http"));
    struct cancelled another = {MEMORY, ctx, NULL, fact("instance"), fact("pdf"), NULL, NULL, {-1, -1}, NULL,
                                DBSS_OK, 0};
    int i;

    for (i = 0; i < 2; i++) {
        const struct cancelled one = {i == 0 ? MEMORY : STREAM, ctx, new_operation(), fact("instance"), fact("pdf"),
                                      NULL, NULL, {-1, -1}, NULL, DBSS_OK, 0};
        cancelled[i] = one;
        EXPECT(DBSS_OK, dbss_operation_set_progress(cancelled[i].operation, end_thread, &ends, NULL));
        pthread_detach(start_thread(call_for_ever, &cancelled[i]));
        WAIT_FOR(read_locked(&ends) == i + 1);
        EXPECT(DBSS_OK, call_of_kind(&another));
    }
    dbss_context_free(ctx);
}

/* ---------------------------------------------------------------------------
 * What operations cost
 * ------------------------------------------------------------------------ */

static void no_look(int fd)
{
    (void)fd;
}

static void unused_operations_cost_no_descriptor(void)
{
    enum { OPERATIONS = 10000 };
    static dbss_operation *operations[OPERATIONS];
    int before = each_descriptor(no_look), i;
    for (i = 0; i < OPERATIONS; i++)
        EXPECT(DBSS_OK, dbss_operation_new(&operations[i]));
    CHECK(each_descriptor(no_look) == before);
    /* Cancelled and reset they cost none either. */
    for (i = 0; i < OPERATIONS; i++) {
        dbss_operation_cancel(operations[i]);
        EXPECT(DBSS_OK, dbss_operation_reset(operations[i]));
    }
    CHECK(each_descriptor(no_look) == before);
    for (i = 0; i < OPERATIONS; i++)
        dbss_operation_free(operations[i]);
}

/* Nor do those that have been used. */
static void used_operations_cost_no_descriptor(void)
{
    enum { OPERATIONS = 20 };
    dbss_context *ctx = new_context(fact("http"));
    dbss_operation *operations[OPERATIONS];
    int before, i;
    /* With the one connection that is kept. */
    EXPECT(DBSS_OK, dbss_context_check(ctx, fact("project"), NULL));
    before = each_descriptor(no_look);
    for (i = 0; i < OPERATIONS; i++) {
        operations[i] = new_operation();
        EXPECT(DBSS_OK, dbss_context_check(ctx, fact("project"), operations[i]));
    }
    CHECK(each_descriptor(no_look) == before);
    for (i = 0; i < OPERATIONS; i++)
        dbss_operation_free(operations[i]);
    dbss_context_free(ctx);
}

static const struct check checks[] = {
    {"callbacks_run_on_the_callers_thread", callbacks_run_on_the_callers_thread, LOAD},
    {"a_replaced_provider_ends_on_the_callers_thread", a_replaced_provider_ends_on_the_callers_thread, LOAD},
    {"a_cancelled_thread_ends_after_its_call", a_cancelled_thread_ends_after_its_call, LOAD},
    {"a_thread_that_ends_in_a_callback_stays", a_thread_that_ends_in_a_callback_stays, LOAD},
    {"the_cancel_state_is_kept", the_cancel_state_is_kept, PLAIN},
    {"unused_operations_cost_no_descriptor", unused_operations_cost_no_descriptor, LOAD},
    {"used_operations_cost_no_descriptor", used_operations_cost_no_descriptor, PLAIN},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
