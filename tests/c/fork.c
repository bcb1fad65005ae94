/*
 * Forked processes: a child may use what it inherits without harm to its parent. See
 * checks.h for how to run the checks.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MIB (1024 * 1024)
#define REPORT_ARGUMENTS(id) fixture("project"), fixture("instance"), id, "en-us"

static dbss_context *shared_ctx;
static dbss_operation *inherited_operation;
static dbss_report_stream *inherited_stream;
static struct report shared_report;

/* A call of this process, which succeeds. */
static void call_ok(enum sink sink, dbss_operation *operation)
{
    struct call call = new_call(sink, shared_ctx, shared_report.id, operation);
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &shared_report);
    free_call(&call);
}

static int use_inherited_handles(void *unused)
{
    struct call call = new_call(TO_MEMORY, NULL, NULL, NULL);
    char part[100];
    size_t len = 1;
    int i;
    (void)unused;

    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "stream", dbss_report_stream_read(inherited_stream, part, sizeof part, &len));
    CHECK(len == 0);
    CHECK(dbss_report_stream_size(inherited_stream) == 3 * MIB);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "operation", dbss_operation_reset(inherited_operation));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "operation", dbss_operation_set(inherited_operation, "max_attempts", "1"));
    call.ctx = shared_ctx;
    call.id = shared_report.id;
    call.operation = inherited_operation;
    make_call(&call);
    CHECK_CALL(DBSS_ERR_ARGUMENT, &call, &shared_report);
    free_call(&call);
    /* The child's own calls work. */
    call.operation = new_operation();
    for (i = 0; i < SINKS; i++)
        call_ok(i, call.operation);
    dbss_operation_free(call.operation);
    /* None of this may affect the parent's handles. */
    dbss_operation_cancel(inherited_operation);
    dbss_context_cancel_all(shared_ctx);
    dbss_report_stream_free(inherited_stream);
    dbss_operation_free(inherited_operation);
    dbss_context_free(shared_ctx);
    return has_failed();
}

static double cpu_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void check_fork(const char *scheme)
{
    char *rest = malloc(4 * MIB);
    size_t len = 0, n = 1;
    pid_t child;
    double before;

    if (rest == NULL)
        fatal("out of memory");
    shared_report = new_report(3 * MIB);
    shared_ctx = new_context(fixture(scheme));
    inherited_operation = new_operation();
    EXPECT(DBSS_OK,
           dbss_report_open(shared_ctx, REPORT_ARGUMENTS(shared_report.id), inherited_operation, &inherited_stream));
    EXPECT(DBSS_OK, dbss_report_stream_read(inherited_stream, rest, 100000, &len));
    child = start_child(use_inherited_handles, NULL);
    /* The parent's handles work meanwhile and afterwards. */
    call_ok(TO_FILE, NULL);
    CHECK(wait_for_child(child) == 0);
    while (n > 0 && EXPECT(DBSS_OK, dbss_report_stream_read(inherited_stream, rest + len, 100000, &n)) == DBSS_OK)
        len += n;
    CHECK(len == shared_report.len && memcmp(rest, shared_report.bytes, len) == 0);
    dbss_report_stream_free(inherited_stream);

    /* The child's cancel neither affects the parent nor makes it spin. */
    post_fault(shared_report.id, "\"delay_ms\": 1000, \"times\": 1");
    before = cpu_seconds();
    call_ok(TO_MEMORY, inherited_operation);
    if (cpu_seconds() - before > 0.5)
        fail_check("waiting for a second took %.2f s of CPU time", cpu_seconds() - before);
    dbss_operation_free(inherited_operation);
    dbss_context_free(shared_ctx);
    free_report(&shared_report);
    free(rest);
}

static void fork_with_open_stream(void)
{
    check_fork("http");
}

static void fork_with_open_stream_tls(void)
{
    check_fork("https");
}

struct inherited {
    dbss_context *ctx;
    const char *id;
};

static int close_inherited(void *argument)
{
    const struct inherited *inherited = argument;
    dbss_buffer buffer;
    dbss_context_close(inherited->ctx);
    return dbss_report_download(inherited->ctx, REPORT_ARGUMENTS(inherited->id), &buffer) != DBSS_ERR_CLOSED;
}

/* A child closes the inherited context. The parent's call continues. */
static void context_closed_in_child_leaves_parent_alone(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fixture("http"));
    struct call call = new_call(TO_MEMORY, ctx, report.id, new_operation());
    struct inherited inherited = {ctx, report.id};

    post_fault(report.id, "\"drip\": {\"bytes\": 60000, \"every_ms\": 60}, \"times\": 1");
    start_call(&call);
    WAIT_FOR(dbss_operation_received(call.operation) > 0);
    CHECK(run_child(close_inherited, &inherited) == 0);
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
    {"fork_with_open_stream", fork_with_open_stream, LOAD},
    {"fork_with_open_stream_tls", fork_with_open_stream_tls, LOAD},
    {"context_closed_in_child_leaves_parent_alone", context_closed_in_child_leaves_parent_alone, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
