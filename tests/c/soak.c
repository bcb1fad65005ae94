/*
 * Many calls: memory, descriptors and threads stay as they are, and every byte is
 * the right one. DBSS_TEST_SOAK has a factor for how many; without it there are
 * few. See checks.h for how to run it.
 */

#define _GNU_SOURCE /* for unshare() */

#include "calls.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WHAT(id) fact("project"), fact("instance"), id, NULL

static long factor(void)
{
    const char *given = getenv("DBSS_TEST_SOAK");
    return given == NULL ? 1 : strtol(given, NULL, 10);
}

/* ---------------------------------------------------------------------------
 * What a process uses
 * ------------------------------------------------------------------------ */

struct usage {
    long kib, threads;
    int descriptors;
};

static struct usage usage_now(void)
{
    struct usage usage;
    usage.kib = process_number("VmRSS");
    usage.threads = process_number("Threads");
    usage.descriptors = each_descriptor(NULL);
    return usage;
}

/* Makes so many calls and compares what is used before and after, once a tenth of
 * them has brought what is kept. */
static void stays_flat(const char *what, void (*call)(long number), long count)
{
    /* Memory that was freed in another order. */
    enum { ROOM_KIB = 2048 };
    struct usage before = {0, 0, 0}, after;
    long long started = now_ms();
    long number;
    for (number = 0; number < count && !has_failed(); number++) {
        if (number == count / 10)
            before = usage_now();
        call(number);
        /* Or the mock service's request log would grow. */
        if (number % 10000 == 0)
            free(control("DELETE", "/requests", ""));
    }
    after = usage_now();
    printf("# %s: %ld calls in %lld ms, %ld KiB and then %ld, %d descriptors and then %d, %ld threads and then %ld\n", what,
           count, now_ms() - started, before.kib, after.kib, before.descriptors, after.descriptors, before.threads,
           after.threads);
    if (after.kib > before.kib + ROOM_KIB || after.descriptors > before.descriptors || after.threads > before.threads)
        failed("%s: %ld KiB and then %ld, %d descriptors and then %d, %ld threads and then %ld", what, before.kib, after.kib,
               before.descriptors, after.descriptors, before.threads, after.threads);
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
    EXPECT(DBSS_OK, dbss_report_download(ctx, WHAT(small), &buffer));
    CHECK(buffer.len == 6000);
    dbss_buffer_free(&buffer);
}

static void calls(void)
{
    ctx = new_context(fact("http"));
    small = add_report(6000);
    stays_flat("small calls", download, 1000 * factor());
    dbss_context_free(ctx);
}

static void make_context(long number)
{
    ctx = new_context(fact("http"));
    download(number);
    dbss_context_free(ctx);
}

static void contexts(void)
{
    small = add_report(6000);
    stays_flat("contexts", make_context, 100 * factor());
}

/* A failure of the service, of the connection, of the caller. */
struct failure {
    const char *what;
    dbss_status status;
    /* What the mock service does to the report; NULL: nothing. */
    const char *fault;
    dbss_status (*call)(const char *id);
};

static dbss_status to_memory(const char *id)
{
    dbss_buffer buffer;
    return dbss_report_download(ctx, WHAT(id), &buffer);
}

static dbss_status of_wrong_id(const char *id)
{
    dbss_buffer buffer;
    (void)id;
    return dbss_report_download(ctx, WHAT("too-short"), &buffer);
}

static dbss_status cancelled(const char *id)
{
    dbss_operation *operation = new_operation();
    dbss_buffer buffer;
    dbss_status status;
    dbss_operation_cancel(operation);
    status = dbss_report_download_to_memory(ctx, WHAT(id), operation, &buffer);
    dbss_operation_free(operation);
    return status;
}

static int32_t refuse(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    return 1;
}

static dbss_status to_refusing_callback(const char *id)
{
    return dbss_report_download_to_callback(ctx, WHAT(id), refuse, NULL, NULL);
}

static dbss_status to_missing_directory(const char *id)
{
    return dbss_report_download_to_file(ctx, WHAT(id), "/nonexistent/report.pdf", 0, NULL);
}

static dbss_status to_existing_file(const char *id)
{
    return dbss_report_download_to_file(ctx, WHAT(id), "/proc/self/exe", 0, NULL);
}

static dbss_status to_nobody(const char *id)
{
    dbss_context *other = new_context("http://127.0.0.1:1");
    dbss_buffer buffer;
    dbss_status status = dbss_report_download(other, WHAT(id), &buffer);
    dbss_context_free(other);
    return status;
}

static dbss_status stream_left(const char *id)
{
    dbss_report_stream *stream;
    dbss_status status = dbss_report_open(ctx, WHAT(id), NULL, &stream);
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
    {"wrong ids", DBSS_ERR_INVALID_ID, NULL, of_wrong_id},
    {"refusals", DBSS_ERR_NOT_FOUND, "\"status\": 404, \"json\": {\"error_code\": \"DBSS.10021004\", \"error_msg\": \"no\"}",
     to_memory},
    {"server errors", DBSS_ERR_SERVER, "\"status\": 500, \"json\": {\"error\": {\"error_code\": \"X.1\"}}", to_memory},
    {"redirects", DBSS_ERR_REDIRECTED, "\"status\": 302, \"headers\": [[\"Location\", \"http://127.0.0.1:1/\"]]", to_memory},
    {"web pages", DBSS_ERR_UNEXPECTED_RESPONSE, "\"body\": \"<html>\"", to_memory},
    {"lost connections", DBSS_ERR_CONNECTION_LOST, "\"close_before_answer\": true", to_memory},
    {"short bodies", DBSS_ERR_TRUNCATED, "\"cut_after\": 10", to_memory},
    {"cancelled calls", DBSS_ERR_CANCELLED, NULL, cancelled},
    {"callbacks that stop", DBSS_ERR_CANCELLED, NULL, to_refusing_callback},
    {"missing directories", DBSS_ERR_FILE, NULL, to_missing_directory},
    {"existing files", DBSS_ERR_NOT_REGULAR_FILE, NULL, to_existing_file},
    {"refused connections", DBSS_ERR_CONNECT, NULL, to_nobody},
    {"streams that are left", DBSS_ERR_CLOSED, NULL, stream_left},
};

static const struct failure *kind;
static const char *failing;

static void fail(long number)
{
    (void)number;
    EXPECT(kind->status, kind->call(failing));
    CHECK(dbss_error_message(dbss_last_error()) != NULL);
}

static void failures(void)
{
    ctx = new_context(fact("http"));
    for (kind = kinds; kind < kinds + sizeof kinds / sizeof *kinds && !has_failed(); kind++) {
        failing = add_report(6000);
        if (kind->fault != NULL)
            post_fault(failing, kind->fault);
        stays_flat(kind->what, fail, 100 * factor());
        blame("%s", kind->what);
    }
    dbss_context_free(ctx);
}

/* ---------------------------------------------------------------------------
 * Tenants: nobody gets a byte of another
 * ------------------------------------------------------------------------ */

enum { TENANTS = 3, REPORTS = 4, THREADS = 24, SIZE = 40000 };

static struct tenant {
    dbss_context *ctx;
    struct report reports[REPORTS];
} tenants[TENANTS];

static long calls_of_each;

/* Cancels its call at some point. */
static int32_t cancel_at(void *user_data, const dbss_operation *operation)
{
    return dbss_operation_received(operation) >= *(long *)user_data;
}

static void *be_tenant(void *argument)
{
    struct tenant *tenant = argument;
    unsigned seed = (unsigned)(now_ms() ^ getpid() ^ (long)pthread_self());
    long number;
    for (number = 0; number < calls_of_each && !has_failed(); number++) {
        const struct report *report = &tenant->reports[rand_r(&seed) % REPORTS];
        struct call call;
        long most = rand_r(&seed) % SIZE;
        int chance = rand_r(&seed) % 100;
        memset(&call, 0, sizeof call);
        call.sink = (enum sink)(rand_r(&seed) % SINKS);
        call.ctx = tenant->ctx;
        call.id = report->id;
        if (chance < 20) {
            call.operation = new_operation();
            EXPECT(DBSS_OK, dbss_operation_set_progress(call.operation, cancel_at, &most, NULL));
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
        if (!holds_beginning(&call, report) || (call.status == DBSS_OK && !holds_whole(&call, report)))
            failed("to %s: bytes of another, or too few: %lu", sink_names[call.sink], (unsigned long)call.len);
        dbss_operation_free(call.operation);
        free_call(&call);
    }
    return NULL;
}

/* Every thread of this process is somebody's. */
static void run_tenants(long count)
{
    pthread_t threads[THREADS];
    int i;
    calls_of_each = count / THREADS;
    for (i = 0; i < THREADS; i++)
        threads[i] = start_thread(be_tenant, &tenants[i % TENANTS]);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void begin_tenants(void)
{
    int i, j;
    for (i = 0; i < TENANTS; i++) {
        char token[64];
        dbss_config *config;
        snprintf(token, sizeof token, "token-of-tenant-%d-%s", i, fresh_id());
        add_token(token);
        config = new_config(fact("http"), token);
        set(config, "max_attempts", "3");
        tenants[i].ctx = to_context(config);
        for (j = 0; j < REPORTS; j++)
            tenants[i].reports[j] = new_report(SIZE);
    }
    /* Connections that are open, and operations to use again. */
    run_tenants(THREADS);
}

static void end_tenants(void)
{
    int i, j;
    for (i = 0; i < TENANTS; i++) {
        dbss_context_free(tenants[i].ctx);
        for (j = 0; j < REPORTS; j++)
            free_report(&tenants[i].reports[j]);
    }
}

static void tenants_alone(void)
{
    begin_tenants();
    run_tenants(600 * factor() / 10);
    end_tenants();
}

/* However long it takes; -1 for a child that a signal ended. */
static int exit_code_of(pid_t child)
{
    int status;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void run_some(void)
{
    run_tenants(300 * factor() / 10);
}

/* Parent and child go on with the same contexts. */
static void tenants_across_fork(void)
{
    pid_t child;
    begin_tenants();
    fflush(stdout);
    child = fork();
    if (child == 0) {
        run_some();
        _exit(has_failed());
    }
    run_some();
    CHECK(exit_code_of(child) == 0);
    end_tenants();
}

/* Where no namespace can be made. */
#define NONE 77

/* Starts a process whose child is number 1 of a namespace of its own and runs
 * `body`; it ends as that does. */
static pid_t start_number_one(void (*body)(void))
{
    pid_t first, child;
    fflush(stdout);
    first = fork();
    if (first != 0)
        return first;
    if (unshare(geteuid() == 0 ? CLONE_NEWPID : CLONE_NEWUSER | CLONE_NEWPID) != 0)
        _exit(NONE);
    child = fork();
    if (child == 0) {
        CHECK(getpid() == 1);
        body();
        _exit(has_failed());
    }
    _exit(exit_code_of(child));
}

/* Both are number 1, and go on with what one of them began. */
static void run_with_number_one(void)
{
    pid_t other;
    run_tenants(THREADS);
    other = start_number_one(run_some);
    run_some();
    CHECK(exit_code_of(other) == 0);
}

static void tenants_in_namespaces(void)
{
    int outcome;
    begin_tenants();
    outcome = exit_code_of(start_number_one(run_with_number_one));
    if (outcome == NONE)
        skip("no namespace of process numbers can be made here");
    else
        CHECK(outcome == 0);
    end_tenants();
}

static const struct check checks[] = {
    {"calls", calls, LOAD},
    {"contexts", contexts, LOAD},
    {"failures", failures, LOAD},
    {"tenants", tenants_alone, LOAD},
    {"tenants_across_fork", tenants_across_fork, LOAD},
    {"tenants_in_namespaces", tenants_in_namespaces, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
