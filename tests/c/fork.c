/* Forked processes: a child may use what it inherits without harm to its parent. */

#include "calls.h"

#include <time.h>

#define MIB (1024 * 1024)
#define REPORT_ARGUMENTS(id) fixture("project"), fixture("instance"), id, "en-us"

static dbss_context *inherited_context;
static dbss_operation *inherited_operation;
static dbss_report_stream *inherited_stream;
static struct report report;

static int use_inherited_handles(void *unused)
{
    dbss_operation *own = new_operation();
    char part[100];
    size_t len = 1;

    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "stream", dbss_report_stream_read(inherited_stream, part, sizeof part, &len));
    CHECK(len == 0);
    CHECK(dbss_report_stream_size(inherited_stream) == 3 * MIB);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "operation", dbss_operation_reset(inherited_operation));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "operation", dbss_operation_set(inherited_operation, "max_attempts", "1"));
    EXPECT_CALL(DBSS_ERR_ARGUMENT, &report, TO_MEMORY, inherited_context, inherited_operation);
    /* The child's own calls work. */
    for (int sink = 0; sink < SINKS; sink++)
        EXPECT_CALL(DBSS_OK, &report, sink, inherited_context, own);
    /* None of this may affect the parent's handles. */
    dbss_operation_cancel(inherited_operation);
    dbss_context_cancel_all(inherited_context);
    dbss_report_stream_free(inherited_stream);
    dbss_operation_free(inherited_operation);
    dbss_context_free(inherited_context);
    return has_failed();
}

static double cpu_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

NAMED_CHECKS(fork_with_open_stream, LOAD, LOAD)
{
    char *rest = keep(malloc(4 * MIB), free);
    size_t len = 0, n = 1;
    pid_t child;
    double before;

    report = new_report(3 * MIB);
    inherited_context = new_context(fixture(scheme));
    inherited_operation = new_operation();
    OK(dbss_report_open(inherited_context, REPORT_ARGUMENTS(report.id), inherited_operation, &inherited_stream));
    OK(dbss_report_stream_read(inherited_stream, rest, 100000, &len));
    child = start_child(use_inherited_handles, NULL);
    /* The parent's handles work meanwhile and afterwards. */
    EXPECT_CALL(DBSS_OK, &report, TO_FILE, inherited_context, NULL);
    CHECK(wait_for_child(child) == 0);
    while (n > 0 && OK(dbss_report_stream_read(inherited_stream, rest + len, 100000, &n)) == DBSS_OK)
        len += n;
    CHECK(is_report(&report, rest, len));
    dbss_report_stream_free(inherited_stream);

    /* The child's cancel neither affects the parent nor makes it spin. */
    post_fault(report.id, "\"delay_ms\": 1000, \"times\": 1");
    before = cpu_seconds();
    EXPECT_CALL(DBSS_OK, &report, TO_MEMORY, inherited_context, inherited_operation);
    if (cpu_seconds() - before > 0.5)
        fail_check("waiting for a second took %.2f s of CPU time", cpu_seconds() - before);
}

static int close_inherited(void *unused)
{
    struct work work = new_work(inherited_context, NULL);
    dbss_context_close(inherited_context);
    return download(&work) != DBSS_ERR_CLOSED;
}

/* A child closes the inherited context. The parent's call continues. */
NAMED_CHECK(context_closed_in_child_leaves_parent_alone, LOAD)
{
    struct call call = {.ctx = new_context(fixture("http")), .operation = new_operation()};
    report = new_report(300000);
    call.id = report.id;
    inherited_context = call.ctx;
    /* It takes some seconds, so that the child closes the context meanwhile. */
    post_fault(report.id, "\"drip\": {\"bytes\": 6000, \"every_ms\": 60}, \"times\": 1");
    start_call(&call);
    WAIT_FOR(dbss_operation_received(call.operation) > 0);
    CHECK(run_child(close_inherited, NULL) == 0);
    join_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    EXPECT_CALL(DBSS_OK, &report, TO_MEMORY, call.ctx, call.operation);
}

static void use_inherited_context(void)
{
    for (int i = 0; i < 5; i++)
        EXPECT_DOWNLOAD(inherited_context);
    OK(dbss_context_set_token(inherited_context, "not-a-token"));
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_UNAUTHENTICATED, inherited_context, fixture("pdf"));
    OK(dbss_context_set_token(inherited_context, fixture("token")));
    EXPECT_DOWNLOAD(inherited_context);
    dbss_context_free(inherited_context);
}

static int use_inherited_context_in_child(void *unused)
{
    use_inherited_context();
    return has_failed();
}

NAMED_CHECKS(context_works_in_child_and_parent, LOAD, LOAD)
{
    pid_t child;
    long connections;
    long long used;
    inherited_context = new_context(fixture(scheme));
    /* Creates an idle connection, which the child must not use. */
    EXPECT_DOWNLOAD(inherited_context);
    child = start_child(use_inherited_context_in_child, NULL);
    for (int i = 0; i < 5; i++)
        EXPECT_DOWNLOAD(inherited_context);
    used = now_ms();
    CHECK(wait_for_child(child) == 0);
    run_in_child(use_inherited_context);
    /* The children used neither this connection nor its TLS session. After 15 seconds it is
     * too old to be used again. */
    connections = count_connections();
    EXPECT_DOWNLOAD(inherited_context);
    CHECK(count_connections() == connections || now_ms() - used > 14000);
}

/* No helpers of checks.h in the child: their locks may be held. */
static int download_report(void)
{
    dbss_buffer buffer;
    dbss_status status = dbss_report_download(inherited_context, REPORT_ARGUMENTS(report.id), &buffer);
    int is_right = status == DBSS_OK && is_report(&report, buffer.data, buffer.len);
    dbss_buffer_free(&buffer);
    return is_right;
}

static void *download_repeatedly(void *unused)
{
    for (int i = 0; i < 100; i++)
        CHECK(download_report());
    return NULL;
}

static dbss_report_spec *inherited_spec;

static void *fill_in_repeatedly(void *is_over)
{
    while (!read_locked(is_over))
        require_ok(dbss_report_spec_set(inherited_spec, "template_id", "a"));
    return NULL;
}

/* Ends also if the lock of the specification was held. */
static int fill_in_once(void *unused)
{
    dbss_status status = dbss_report_spec_set(inherited_spec, "template_id", "b");
    dbss_report_spec_free(inherited_spec);
    return status != DBSS_OK && status != DBSS_ERR_ARGUMENT;
}

NAMED_CHECK(specification_in_use_elsewhere_blocks_no_child, LOAD)
{
    int is_over = 0;
    pthread_t threads[2];
    require_ok(dbss_report_spec_new(&inherited_spec));
    for (int i = 0; i < 2; i++)
        threads[i] = start_thread(fill_in_repeatedly, &is_over);
    for (int i = 0; i < 200 && !has_failed(); i++)
        CHECK(wait_for_child(start_child(fill_in_once, NULL)) == 0);
    add_locked(&is_over, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    dbss_report_spec_free(inherited_spec);
}

/* fork() while other threads may hold any lock. */
NAMED_CHECK(context_works_in_child_of_busy_process, LOAD)
{
    pthread_t threads[4];
    report = new_report(6000);
    inherited_context = new_context(fixture("http"));
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(download_repeatedly, NULL);
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) {
            int is_right = download_report();
            dbss_context_free(inherited_context);
            _exit(!is_right);
        }
        CHECK(wait_for_child(child) == 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}
