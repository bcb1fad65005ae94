/*
 * Many calls: memory, descriptors and threads do not grow, and all bytes are right.
 * DBSS_TEST_SOAK multiplies the number of calls, which is small by default. See
 * checks.h for how to run the checks.
 */

#define _GNU_SOURCE /* for unshare() */

#include "calls.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPORT_ARGUMENTS(id) fixture("project"), fixture("instance"), id, NULL

static long factor(void)
{
    const char *given = getenv("DBSS_TEST_SOAK");
    return given == NULL ? 1 : strtol(given, NULL, 10);
}

/* ---------------------------------------------------------------------------
 * Resources of the process
 * ------------------------------------------------------------------------ */

struct usage {
    long kib, threads;
    int descriptors;
};

static struct usage current_usage(void)
{
    struct usage usage;
    usage.kib = proc_status_value("VmRSS");
    usage.threads = proc_status_value("Threads");
    usage.descriptors = for_each_descriptor(NULL);
    return usage;
}

/* Makes `count` calls and compares the resources after the first tenth with those at
 * the end. */
static void expect_no_growth(const char *what, void (*call)(long number), long count)
{
    /* Fragmentation of the heap. */
    enum { TOLERANCE_KIB = 2048 };
    struct usage before = {0, 0, 0}, after;
    long long started = now_ms();
    long number;
    for (number = 0; number < count && !has_failed(); number++) {
        if (number == count / 10)
            before = current_usage();
        call(number);
        /* Keeps the request log of the mock service small. */
        if (number % 10000 == 0)
            free(control("DELETE", "/requests", ""));
    }
    after = current_usage();
    printf("# %s: %ld calls in %lld ms, %ld KiB and then %ld, %d descriptors and then %d, %ld threads and then %ld\n",
           what, count, now_ms() - started, before.kib, after.kib, before.descriptors, after.descriptors,
           before.threads, after.threads);
    if (after.kib > before.kib + TOLERANCE_KIB || after.descriptors > before.descriptors
        || after.threads > before.threads)
        fail_check("%s: %ld KiB and then %ld, %d descriptors and then %d, %ld threads and then %ld", what, before.kib,
                   after.kib, before.descriptors, after.descriptors, before.threads, after.threads);
}

/* ---------------------------------------------------------------------------
 * Calls, contexts, failures
 * ------------------------------------------------------------------------ */

static dbss_context *ctx;
static const char *small;

static void download(long number)
{
    dbss_buffer buffer;
    (void)number;
    EXPECT(DBSS_OK, dbss_report_download(ctx, REPORT_ARGUMENTS(small), &buffer));
    CHECK(buffer.len == 6000);
    dbss_buffer_free(&buffer);
}

static void repeated_calls_leak_nothing(void)
{
    ctx = new_context(fixture("http"));
    small = add_report(6000);
    expect_no_growth("small calls", download, 1000 * factor());
    dbss_context_free(ctx);
}

static void make_context(long number)
{
    ctx = new_context(fixture("http"));
    download(number);
    dbss_context_free(ctx);
}

static void repeated_contexts_leak_nothing(void)
{
    small = add_report(6000);
    expect_no_growth("contexts", make_context, 100 * factor());
}

/* A failure caused by the service, the connection or the caller. */
struct failure {
    const char *what;
    dbss_status status;
    /* The fault of the mock service. NULL: none. */
    const char *fault;
    dbss_status (*call)(const char *id);
};

static dbss_status download_to_memory(const char *id)
{
    dbss_buffer buffer;
    return dbss_report_download(ctx, REPORT_ARGUMENTS(id), &buffer);
}

static dbss_status download_wrong_id(const char *id)
{
    dbss_buffer buffer;
    (void)id;
    return dbss_report_download(ctx, REPORT_ARGUMENTS("too-short"), &buffer);
}

static dbss_status download_cancelled(const char *id)
{
    dbss_operation *operation = new_operation();
    dbss_buffer buffer;
    dbss_status status;
    dbss_operation_cancel(operation);
    status = dbss_report_download_to_memory(ctx, REPORT_ARGUMENTS(id), operation, &buffer);
    dbss_operation_free(operation);
    return status;
}

static int32_t stop_transfer(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    return 1;
}

static dbss_status download_to_stopping_callback(const char *id)
{
    return dbss_report_download_to_callback(ctx, REPORT_ARGUMENTS(id), stop_transfer, NULL, NULL);
}

static dbss_status download_to_missing_directory(const char *id)
{
    return dbss_report_download_to_file(ctx, REPORT_ARGUMENTS(id), "/nonexistent/report.pdf", 0, NULL);
}

static dbss_status download_to_existing_file(const char *id)
{
    return dbss_report_download_to_file(ctx, REPORT_ARGUMENTS(id), "/proc/self/exe", 0, NULL);
}

static dbss_status download_from_unreachable(const char *id)
{
    dbss_context *other = new_context("http://127.0.0.1:1");
    dbss_buffer buffer;
    dbss_status status = dbss_report_download(other, REPORT_ARGUMENTS(id), &buffer);
    dbss_context_free(other);
    return status;
}

static dbss_status read_closed_stream(const char *id)
{
    dbss_report_stream *stream;
    dbss_status status = dbss_report_open(ctx, REPORT_ARGUMENTS(id), NULL, &stream);
    char byte;
    size_t len;
    if (status != DBSS_OK)
        return status;
    dbss_report_stream_close(stream);
    status = dbss_report_stream_read(stream, &byte, 1, &len);
    dbss_report_stream_free(stream);
    return status;
}

static const struct failure kinds[] = {
    {"wrong ids", DBSS_ERR_INVALID_ID, NULL, download_wrong_id},
    {"refusals", DBSS_ERR_NOT_FOUND,
     "\"status\": 404, \"json\": {\"error_code\": \"DBSS.10021004\", \"error_msg\": \"no\"}", download_to_memory},
    {"server errors", DBSS_ERR_SERVER, "\"status\": 500, \"json\": {\"error\": {\"error_code\": \"X.1\"}}",
     download_to_memory},
    {"redirects", DBSS_ERR_REDIRECTED, "\"status\": 302, \"headers\": [[\"Location\", \"http://127.0.0.1:1/\"]]",
     download_to_memory},
    {"web pages", DBSS_ERR_UNEXPECTED_RESPONSE, "\"body\": \"<html>\"", download_to_memory},
    {"lost connections", DBSS_ERR_CONNECTION_LOST, "\"close_before_answer\": true", download_to_memory},
    {"short bodies", DBSS_ERR_TRUNCATED, "\"cut_after\": 10", download_to_memory},
    {"cancelled calls", DBSS_ERR_CANCELLED, NULL, download_cancelled},
    {"callbacks that stop", DBSS_ERR_CANCELLED, NULL, download_to_stopping_callback},
    {"missing directories", DBSS_ERR_FILE, NULL, download_to_missing_directory},
    {"existing files", DBSS_ERR_NOT_REGULAR_FILE, NULL, download_to_existing_file},
    {"refused connections", DBSS_ERR_CONNECT, NULL, download_from_unreachable},
    {"streams that are left", DBSS_ERR_CLOSED, NULL, read_closed_stream},
};

static const struct failure *kind;
static const char *failing;

static void make_failing_call(long number)
{
    (void)number;
    EXPECT(kind->status, kind->call(failing));
    CHECK(dbss_error_message(dbss_last_error()) != NULL);
}

static void repeated_failures_leak_nothing(void)
{
    ctx = new_context(fixture("http"));
    for (kind = kinds; kind < kinds + sizeof kinds / sizeof *kinds && !has_failed(); kind++) {
        failing = add_report(6000);
        if (kind->fault != NULL)
            post_fault(failing, kind->fault);
        expect_no_growth(kind->what, make_failing_call, 100 * factor());
        add_failure_context("%s", kind->what);
    }
    dbss_context_free(ctx);
}

/* ---------------------------------------------------------------------------
 * Tenants: none gets another's bytes
 * ------------------------------------------------------------------------ */

enum { TENANTS = 3, REPORTS = 4, THREADS = 24, SIZE = 40000 };

static struct tenant {
    dbss_context *ctx;
    struct report reports[REPORTS];
} tenants[TENANTS];

static long calls_of_each;

/* Cancels the call at an offset. */
static int32_t cancel_at(void *user_data, const dbss_operation *operation)
{
    return dbss_operation_received(operation) >= *(long *)user_data;
}

static void *run_tenant(void *argument)
{
    struct tenant *tenant = argument;
    unsigned seed = (unsigned)(now_ms() ^ getpid() ^ (long)pthread_self());
    long number;
    for (number = 0; number < calls_of_each && !has_failed(); number++) {
        const struct report *report = &tenant->reports[rand_r(&seed) % REPORTS];
        struct call call;
        long cancel_offset = rand_r(&seed) % SIZE;
        int chance = rand_r(&seed) % 100;
        memset(&call, 0, sizeof call);
        call.sink = (enum sink)(rand_r(&seed) % SINKS);
        call.ctx = tenant->ctx;
        call.id = report->id;
        if (chance < 20) {
            call.operation = new_operation();
            EXPECT(DBSS_OK, dbss_operation_set_progress(call.operation, cancel_at, &cancel_offset, NULL));
        } else if (chance < 30) {
            static const char *const faults[] = {
                "\"times\": 1, \"reset_after\": 20000",
                "\"times\": 1, \"status\": 503, \"headers\": [[\"Retry-After\", \"0\"]]",
                "\"times\": 1, \"cut_after\": 100",
                "\"times\": 1, \"framing\": \"chunked\"",
            };
            post_fault(report->id, faults[rand_r(&seed) % 4]);
        } else if (chance == 30) {
            dbss_context_cancel_all(tenant->ctx);
        }
        make_call(&call);
        if (!has_report_prefix(&call, report) || (call.status == DBSS_OK && !has_whole_report(&call, report)))
            fail_check("to %s: wrong bytes, or too few: %lu", sink_names[call.sink], (unsigned long)call.len);
        dbss_operation_free(call.operation);
        free_call(&call);
    }
    return NULL;
}

/* Each thread makes calls of one tenant. */
static void run_tenants(long count)
{
    pthread_t threads[THREADS];
    int i;
    calls_of_each = count / THREADS;
    for (i = 0; i < THREADS; i++)
        threads[i] = start_thread(run_tenant, &tenants[i % TENANTS]);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void set_up_tenants(void)
{
    int i, j;
    for (i = 0; i < TENANTS; i++) {
        char token[64];
        dbss_config *config;
        snprintf(token, sizeof token, "token-of-tenant-%d-%s", i, fresh_id());
        add_token(token);
        config = new_config(fixture("http"), token);
        set_option(config, "max_attempts", "3");
        tenants[i].ctx = context_from(config);
        for (j = 0; j < REPORTS; j++)
            tenants[i].reports[j] = new_report(SIZE);
    }
    /* Opens connections that later calls reuse. */
    run_tenants(THREADS);
}

static void tear_down_tenants(void)
{
    int i, j;
    for (i = 0; i < TENANTS; i++) {
        dbss_context_free(tenants[i].ctx);
        for (j = 0; j < REPORTS; j++)
            free_report(&tenants[i].reports[j]);
    }
}

static void tenants_get_only_their_bytes(void)
{
    set_up_tenants();
    run_tenants(600 * factor() / 10);
    tear_down_tenants();
}

static int run_tenants_briefly(void *unused)
{
    (void)unused;
    run_tenants(300 * factor() / 10);
    return has_failed();
}

/* Parent and child both use the same contexts. */
static void tenants_after_fork_get_only_their_bytes(void)
{
    pid_t child;
    set_up_tenants();
    child = start_child(run_tenants_briefly, NULL);
    run_tenants_briefly(NULL);
    CHECK(wait_for_long_child(child) == 0);
    tear_down_tenants();
}

/* The exit code if this machine allows no namespace. */
#define NO_NAMESPACE 77

static int (*body_of_pid_one)(void *);

static int be_pid_one(void *unused)
{
    CHECK(getpid() == 1);
    return body_of_pid_one(unused);
}

static int start_pid_one(void *unused)
{
    if (unshare(geteuid() == 0 ? CLONE_NEWPID : CLONE_NEWUSER | CLONE_NEWPID) != 0)
        return NO_NAMESPACE;
    return wait_for_long_child(start_child(be_pid_one, unused));
}

/* Starts a process whose child has the id 1 in a new namespace and runs `body`.
 * The process exits as that child does. */
static pid_t start_in_pid_namespace(int (*body)(void *))
{
    body_of_pid_one = body;
    return start_child(start_pid_one, NULL);
}

/* Two processes have the id 1, and both use what their parent opened. */
static int run_beside_another_pid_one(void *unused)
{
    pid_t other;
    (void)unused;
    run_tenants(THREADS);
    other = start_in_pid_namespace(run_tenants_briefly);
    run_tenants_briefly(NULL);
    CHECK(wait_for_long_child(other) == 0);
    return has_failed();
}

static void tenants_in_pid_namespaces_get_only_their_bytes(void)
{
    int outcome;
    set_up_tenants();
    outcome = wait_for_long_child(start_in_pid_namespace(run_beside_another_pid_one));
    if (outcome == NO_NAMESPACE)
        skip_check("this machine allows no PID namespace");
    else
        CHECK(outcome == 0);
    tear_down_tenants();
}

static const struct check checks[] = {
    {"repeated_calls_leak_nothing", repeated_calls_leak_nothing, LOAD},
    {"repeated_contexts_leak_nothing", repeated_contexts_leak_nothing, LOAD},
    {"repeated_failures_leak_nothing", repeated_failures_leak_nothing, LOAD},
    {"tenants_get_only_their_bytes", tenants_get_only_their_bytes, LOAD},
    {"tenants_after_fork_get_only_their_bytes", tenants_after_fork_get_only_their_bytes, LOAD},
    {"tenants_in_pid_namespaces_get_only_their_bytes", tenants_in_pid_namespaces_get_only_their_bytes, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
