/* The threads of callbacks, cancelled threads, and the descriptors of operations. */

#include "calls.h"

enum callback { PROGRESS, LOG, PROVIDER, DESTROY_LOG, DESTROY_PROVIDER, DESTROY_PROGRESS, CALLBACKS };

static pthread_t caller;
static int calls[CALLBACKS], on_other_threads[CALLBACKS];
static dbss_context *provider_context;
/* Replaces the provider during the mirror, on the thread of the mirror. */
static int replaces_provider;

static void record_callback(enum callback which)
{
    add_locked(&calls[which], 1);
    if (!pthread_equal(pthread_self(), caller))
        add_locked(&on_other_threads[which], 1);
}

static void destroy(void *which)
{
    record_callback(*(const enum callback *)which);
}

static void receive_record(void *user_data, const dbss_log_record *record)
{
    CHECK(dbss_log_record_level(record) >= DBSS_LOG_ERROR && *dbss_log_record_message(record) != '\0');
    record_callback(LOG);
}

static void provide(void *user_data, dbss_token_request *request)
{
    record_callback(PROVIDER);
    give_token(request, fixture("token"));
}

static int32_t report_progress(void *user_data, const dbss_operation *operation)
{
    record_callback(PROGRESS);
    if (replaces_provider && dbss_operation_received(operation) > 0) {
        /* Releases the provider. A worker may be its last user. */
        replaces_provider = 0;
        OK(dbss_context_set_token(provider_context, fixture("token")));
    }
    return 0;
}

static void mirror_with_callbacks(int replace_provider)
{
    enum { REPORTS = 40 };
    static enum callback destroys[] = {DESTROY_LOG, DESTROY_PROVIDER, DESTROY_PROGRESS};
    dbss_config *config = new_config(fixture("http"), NULL);
    dbss_mirror_result *result;
    struct work work;

    caller = pthread_self();
    replaces_provider = replace_provider;
    memset(calls, 0, sizeof calls);
    memset(on_other_threads, 0, sizeof on_other_threads);
    set_option(config, "max_attempts", "5");
    OK(dbss_config_set_log(config, receive_record, &destroys[0], destroy));
    OK(dbss_config_set_token_provider(config, provide, &destroys[1], destroy));
    work = new_work(provider_context = new_context_from(config), new_operation());
    work.instance = add_instance(REPORTS, 200000);
    work.directory = new_directory();
    work.result = &result;
    OK(dbss_operation_set_progress(work.operation, report_progress, &destroys[2], destroy));
    /* The service refuses one token, so that a worker requests another. It also
     * fails a few times, which the log records. */
    for (int i = 0; i < 3; i++)
        post_fault("*", "\"status\": 503, \"times\": 1, \"skip\": 5");
    if (!replace_provider)
        post_fault("*", "\"status\": 401, \"times\": 1, \"skip\": 5");
    OK(mirror(&work));
    CHECK(calls[PROVIDER] == 2 - replace_provider);
    CHECK(dbss_mirror_result_downloaded(result) == REPORTS && !replaces_provider);
    dbss_mirror_result_free(result);
    drop(work.operation);
    drop(work.ctx);
    for (int i = 0; i < CALLBACKS; i++) {
        if (on_other_threads[i] > 0)
            fail_check("callback %d ran %d times on another thread", i, on_other_threads[i]);
        CHECK(i < DESTROY_LOG ? calls[i] > (i == PROGRESS) : calls[i] == 1);
    }
}

NAMED_CALL(callbacks_run_on_calling_thread, LOAD, mirror_with_callbacks, 0)

NAMED_CALL(replaced_provider_destroyed_on_calling_thread, LOAD, mirror_with_callbacks, 1)

struct cancelled_call {
    work_fn *call;
    struct work work;
    dbss_status status;
    int returned;
};

static void *call_and_return(void *argument)
{
    struct cancelled_call *cancelled = argument;
    cancelled->status = cancelled->call(&cancelled->work);
    cancelled->returned = 1;
    pthread_testcancel();
    cancelled->returned = 2;
    return NULL;
}

/* A cancel does not end the thread in a callback either. */
static int32_t test_cancel_in_progress(void *ticks, const dbss_operation *operation)
{
    pthread_testcancel();
    return count_progress(ticks, operation);
}

/* The thread ends after the call, not during it. The process continues. */
NAMED_CHECK(cancelled_thread_ends_after_call, LOAD)
{
    static work_fn *const kinds[] = {download_to_memory, download_to_file, download_to_fd, download_to_stream, mirror};
    const char *instance = add_instance(0, 0), *id = fresh_id();
    char *directory = new_directory();
    post_control("/reports", "{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\", \"size\": 300000}", id,
                 instance);
    for (int i = 0; i < 4 * (int)COUNT(kinds) && !has_failed(); i++) {
        struct cancelled_call cancelled = {kinds[i % COUNT(kinds)], {0}, DBSS_OK, 0};
        void *ended = NULL;
        pthread_t thread;
        int ticks = 0, before, ends[2];
        new_pipe(ends);
        cancelled.work = (struct work){.ctx = new_context(fixture(i % 2 == 0 ? "http" : "https")),
                                       .operation = new_operation(),
                                       .project = fixture("project"),
                                       .instance = instance,
                                       .id = id,
                                       .path = text("%s/target", directory),
                                       .directory = directory,
                                       .fd = ends[1]};
        OK(dbss_operation_set_progress(cancelled.work.operation, test_cancel_in_progress, &ticks, NULL));
        post_fault(id, "\"stall_after\": 200000, \"times\": 1");
        thread = start_thread(call_and_return, &cancelled);
        /* At the very start, or in the middle. */
        if (i >= 2 * (int)COUNT(kinds))
            WAIT_FOR(dbss_operation_received(cancelled.work.operation) > 0);
        pthread_cancel(thread);
        WAIT_FOR(dbss_operation_received(cancelled.work.operation) > 0);
        before = read_locked(&ticks);
        WAIT_FOR(read_locked(&ticks) > before + 1);
        dbss_operation_cancel(cancelled.work.operation);
        pthread_join(thread, &ended);
        CHECK(ended == PTHREAD_CANCELED);
        CHECK(cancelled.returned == 1 && cancelled.status == DBSS_ERR_CANCELLED);
        add_failure_context("kind %d", i % (int)COUNT(kinds));
        drop(cancelled.work.operation);
        close(ends[0]);
        close(ends[1]);
        remove_faults();
    }
}

static void *check_cancel_state(void *unused)
{
    int state = -1;
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
NAMED_CHECK(thread_cancel_state_is_kept, PLAIN)
{
    run_in_threads(1, check_cancel_state, NULL, 0);
}

static dbss_context *context_at_exit;

static void call_at_exit(void)
{
    dbss_operation *operation = NULL;
    EXPECT_DOWNLOAD(context_at_exit);
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_NOT_FOUND, context_at_exit, "missing-0123456789");
    CHECK(*dbss_error_message(dbss_last_error()) != '\0');
    OK(dbss_operation_new(&operation));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "poll_interval_ms",
                     dbss_operation_set(operation, "poll_interval_ms", "x"));
    dbss_operation_free(operation);
    _exit(has_failed());
}

static int exit_after_call(void *unused)
{
    EXPECT_DOWNLOAD(context_at_exit);
    if (atexit(call_at_exit) != 0)
        return 3;
    exit(4);
}

/* As in static destructors of C++, thread-local data have been destroyed there. */
NAMED_CHECKS(calls_work_in_atexit_handlers, PLAIN, TLS)
{
    context_at_exit = new_context(fixture(scheme));
    CHECK(wait_for_child(start_child(exit_after_call, NULL)) == 0);
    drop(context_at_exit);
}

static int32_t end_thread(void *count, const dbss_operation *operation)
{
    /* An embedded interpreter does this when it shuts down. */
    pthread_cleanup_push(count_destroyed, count);
    pthread_exit(NULL);
    pthread_cleanup_pop(0);
    return 0;
}

static void *make_endless_call(void *call)
{
    call_and_return(call);
    fail_check("the call has returned");
    return NULL;
}

/* A callback must not end its thread, but the process survives if it does. */
NAMED_CHECK(thread_exit_in_callback_leaves_process_alive, LOAD)
{
    /* The threads use these until the process ends. */
    static struct cancelled_call endless[] = {{.call = download_to_memory}, {.call = download_to_stream}};
    static int threads_ended;
    struct work work = new_work(new_context(fixture("http")), NULL);
    for (int i = 0; i < 2; i++) {
        endless[i].work = work;
        require_ok(dbss_operation_new(&endless[i].work.operation));
        OK(dbss_operation_set_progress(endless[i].work.operation, end_thread, &threads_ended, NULL));
        pthread_detach(start_thread(make_endless_call, &endless[i]));
        WAIT_FOR(read_locked(&threads_ended) == i + 1);
        OK(download(&work));
    }
}

/* Neither new ones, nor after a cancel and a reset, nor after a call. */
NAMED_CHECK(operations_need_no_descriptor, LOAD)
{
    enum { OPERATIONS = 10000, USED = 20 };
    static dbss_operation *operations[OPERATIONS];
    struct work work = new_work(new_context(fixture("http")), NULL);
    int before, i;
    /* Opens the connection that is kept. */
    OK(check_credentials(&work));
    before = for_each_descriptor(NULL);
    for (i = 0; i < OPERATIONS; i++)
        OK(dbss_operation_new(&operations[i]));
    CHECK(for_each_descriptor(NULL) == before);
    for (i = 0; i < OPERATIONS; i++) {
        dbss_operation_cancel(operations[i]);
        OK(dbss_operation_reset(operations[i]));
    }
    CHECK(for_each_descriptor(NULL) == before);
    for (i = 0; i < USED; i++) {
        work.operation = operations[i];
        OK(check_credentials(&work));
    }
    CHECK(for_each_descriptor(NULL) == before);
    for (i = 0; i < OPERATIONS; i++)
        dbss_operation_free(operations[i]);
}
