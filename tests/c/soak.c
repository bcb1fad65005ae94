/* Many calls: memory, descriptors and threads do not grow, and all bytes are right.
 * DBSS_TEST_SOAK multiplies the number of calls, which is small by default. */

#include "calls.h"

#include <fcntl.h>
#include <sys/stat.h>

/* A child that is started by exec() inherits no connection. */
static void check_socket(int fd)
{
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode))
        CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

enum { KIB, DESCRIPTORS, THREAD_COUNT, USAGES };

static void read_usage(long usage[USAGES])
{
    usage[KIB] = proc_status_value("VmRSS");
    usage[DESCRIPTORS] = for_each_descriptor(check_socket);
    usage[THREAD_COUNT] = proc_status_value("Threads");
}

/* Makes `count` calls and compares the resources after the first tenth with those at
 * the end. */
static void expect_no_growth(const char *what, void (*call)(long number), long count)
{
    /* Fragmentation of the heap. */
    enum { TOLERANCE_KIB = 2048 };
    long before[USAGES] = {0}, after[USAGES], number;
    long long started = now_ms(), until;
    const char *usage;
    for (number = 0; number < count && !has_failed(); number++) {
        if (number == count / 10)
            read_usage(before);
        call(number);
        /* Keeps the request log of the mock service small. */
        if (number % 10000 == 0)
            free(control("DELETE", "/requests", ""));
    }
    until = now_ms() + 10000;
    /* The thread of a name look-up ends a moment after its call. */
    do
        read_usage(after);
    while ((after[DESCRIPTORS] > before[DESCRIPTORS] || after[THREAD_COUNT] > before[THREAD_COUNT])
           && now_ms() < until);
    usage = text("%ld KiB and then %ld, %ld descriptors and then %ld, %ld threads and then %ld", before[KIB],
                 after[KIB], before[DESCRIPTORS], after[DESCRIPTORS], before[THREAD_COUNT], after[THREAD_COUNT]);
    printf("# %s: %ld calls in %lld ms, %s\n", what, count, now_ms() - started, usage);
    if (after[KIB] > before[KIB] + TOLERANCE_KIB || after[DESCRIPTORS] > before[DESCRIPTORS]
        || after[THREAD_COUNT] > before[THREAD_COUNT])
        fail_check("%s: %s", what, usage);
}

static struct work work;

static dbss_status download_cancelled(const struct work *work)
{
    struct work own = *work;
    dbss_status status;
    require_ok(dbss_operation_new(&own.operation));
    dbss_operation_cancel(own.operation);
    status = download_to_memory(&own);
    dbss_operation_free(own.operation);
    return status;
}

static int32_t stop_transfer(void *user_data, const uint8_t *data, size_t len)
{
    return 1;
}

static dbss_status download_to_stopping_callback(const struct work *work)
{
    return dbss_report_download_to_callback(work->ctx, work->project, work->instance, work->id, NULL, stop_transfer,
                                            NULL, NULL);
}

/* With a new context, whose endpoint is in place of a path. */
static dbss_status download_anew(const struct work *work)
{
    const char *listener = work->path != NULL ? find_fixture(work->path) : fixture(scheme);
    struct work own = *work;
    dbss_status status;
    own.ctx = new_context(listener != NULL ? listener : work->path);
    status = download(&own);
    drop(own.ctx);
    return status;
}

static dbss_status read_closed_stream(const struct work *work)
{
    dbss_report_stream *stream;
    dbss_status status = dbss_report_open(work->ctx, work->project, work->instance, work->id, NULL, NULL, &stream);
    char byte;
    size_t len;
    if (status != DBSS_OK)
        return status;
    dbss_report_stream_close(stream);
    status = dbss_report_stream_read(stream, &byte, 1, &len);
    dbss_report_stream_free(stream);
    return status;
}

/* Successes, and failures caused by the service, the connection or the caller. */
static const struct repeated {
    const char *what;
    dbss_status status;
    /* The fault of the mock service, or NULL; an id or a path, or NULL. */
    const char *fault, *id, *path;
    work_fn *call;
} kinds[] = {
    {"small calls", DBSS_OK, NULL, NULL, NULL, download},
    {"contexts", DBSS_OK, NULL, NULL, NULL, download_anew},
    {"wrong ids", DBSS_ERR_INVALID_ID, NULL, "too-short", NULL, download},
    {"refusals", DBSS_ERR_NOT_FOUND,
     "\"status\": 404, \"json\": {\"error_code\": \"DBSS.10021004\", \"error_msg\": \"no\"}", NULL, NULL, download},
    {"server errors", DBSS_ERR_SERVER, "\"status\": 500, \"json\": {\"error\": {\"error_code\": \"X.1\"}}", NULL, NULL,
     download},
    {"redirects", DBSS_ERR_REDIRECTED, "\"status\": 302, \"headers\": [[\"Location\", \"http://127.0.0.1:1/\"]]", NULL,
     NULL, download},
    {"web pages", DBSS_ERR_UNEXPECTED_RESPONSE, "\"body\": \"<html>\"", NULL, NULL, download},
    {"lost connections", DBSS_ERR_CONNECTION_LOST, "\"close_before_response\": true", NULL, NULL, download},
    {"short bodies", DBSS_ERR_TRUNCATED, "\"cut_after\": 10", NULL, NULL, download},
    {"cancelled calls", DBSS_ERR_CANCELLED, NULL, NULL, NULL, download_cancelled},
    {"callbacks that stop", DBSS_ERR_CANCELLED, NULL, NULL, NULL, download_to_stopping_callback},
    {"missing directories", DBSS_ERR_FILE, NULL, NULL, "/nonexistent/report.pdf", download_to_file},
    {"existing files", DBSS_ERR_NOT_REGULAR_FILE, NULL, NULL, "/proc/self/exe", download_to_file},
    {"refused connections", DBSS_ERR_CONNECT, NULL, NULL, "http://127.0.0.1:1", download_anew},
    {"refused certificates", DBSS_ERR_CERTIFICATE, NULL, NULL, "https_self_signed", download_anew},
    {"streams that are left", DBSS_ERR_CLOSED, NULL, NULL, NULL, read_closed_stream},
};

static const struct repeated *kind;

static void make_call_of_kind(long number)
{
    EXPECT(kind->status, kind->call(&work));
    CHECK(dbss_error_message(dbss_last_error()) != NULL);
}

NAMED_CHECKS(repeated_calls_leak_nothing, LOAD, LOAD)
{
    work = new_work(new_context(fixture(scheme)), NULL);
    for (kind = kinds; kind < kinds + COUNT(kinds) && !has_failed(); kind++) {
        work.id = kind->id != NULL ? kind->id : add_report(6000);
        work.path = kind->path;
        if (kind->fault != NULL)
            post_fault(work.id, "%s", kind->fault);
        expect_no_growth(kind->what, make_call_of_kind, (kind == kinds ? 1000 : 100) * soak_factor());
        add_failure_context("%s", kind->what);
    }
}
