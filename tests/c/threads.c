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
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

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
    body = format("{\"instance\": \"%s\", \"format\": \"pdf\", \"size\": 200000, \"count\": %d}", id, reports);
    free(control("POST", "/reports", body));
    free(body);
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
    /* The service refuses a token now and then, so that workers ask for another,
     * and fails now and then, of which the log tells. */
    for (i = 0; i < 3; i++) {
        post_fault("*", "\"status\": 503, \"times\": 1, \"skip\": %d", 6 + i * 5);
        if (!replace_provider)
            post_fault("*", "\"status\": 401, \"times\": 1, \"skip\": %d", 8 + i * 5);
    }
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

struct cancelled {
    dbss_context *ctx;
    dbss_operation *operation;
    const char *id;
    dbss_status status;
    int returned;
};

static void *call_and_return(void *argument)
{
    struct cancelled *cancelled = argument;
    dbss_buffer buffer;
    cancelled->status = dbss_report_download_to_memory(cancelled->ctx, fact("project"), fact("instance"), cancelled->id, NULL,
                                                       cancelled->operation, &buffer);
    dbss_buffer_free(&buffer);
    cancelled->returned = 1;
    pthread_testcancel();
    cancelled->returned = 2;
    return NULL;
}

/* The thread ends after the call, not inside of it, and the process lives. */
static void a_cancelled_thread_ends_after_its_call(void)
{
    dbss_context *ctx = new_context(fact("http"));
    struct report report = new_report(300000);
    int i;
    for (i = 0; i < 20; i++) {
        struct cancelled cancelled = {ctx, new_operation(), report.id, DBSS_OK, 0};
        void *ended = NULL;
        pthread_t thread;
        post_fault(report.id, "\"stall_after\": 100000, \"times\": 1");
        thread = start_thread(call_and_return, &cancelled);
        if (i % 2 == 0)
            WAIT_FOR(dbss_operation_received(cancelled.operation) > 0);
        pthread_cancel(thread);
        WAIT_FOR(dbss_operation_received(cancelled.operation) > 0);
        dbss_operation_cancel(cancelled.operation);
        pthread_join(thread, &ended);
        CHECK(ended == PTHREAD_CANCELED);
        CHECK(cancelled.returned == 1 && cancelled.status == DBSS_ERR_CANCELLED);
        dbss_operation_free(cancelled.operation);
        free(control("DELETE", "/faults", ""));
    }
    dbss_context_free(ctx);
    free_report(&report);
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

static const struct check checks[] = {
    {"callbacks_run_on_the_callers_thread", callbacks_run_on_the_callers_thread, LOAD},
    {"a_replaced_provider_ends_on_the_callers_thread", a_replaced_provider_ends_on_the_callers_thread, LOAD},
    {"a_cancelled_thread_ends_after_its_call", a_cancelled_thread_ends_after_its_call, LOAD},
    {"unused_operations_cost_no_descriptor", unused_operations_cost_no_descriptor, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
