/*
 * Control of calls in progress, where it needs C: descriptors that block, name look-ups,
 * callbacks, signals, and what is freed during a call. See checks.h for how to run the
 * checks.
 */

#define _XOPEN_SOURCE 700 /* for the pseudo-terminal */
#define _GNU_SOURCE       /* for F_SETPIPE_SZ */

#include "calls.h"
#include "resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

/* A cancel ends a call within 100 ms, and a callback's result within 250 ms. The
 * margin is for a busy machine. */
#define CANCELLED_WITHIN_MS 400
#define STOPPED_WITHIN_MS 600
#define CLOSED_WITHIN_MS 100

#define REPORT_ARGUMENTS(id) fixture("project"), fixture("instance"), id, "en-us"

/* ---------------------------------------------------------------------------
 * The phases of a call that data cannot describe
 * ------------------------------------------------------------------------ */

/* A pipe that is too small for a report and has no reader. */
static int open_pipe(int *other_end)
{
    int ends[2];
    if (pipe(ends) != 0)
        fatal("cannot create a pipe");
    fcntl(ends[1], F_SETPIPE_SZ, 4096);
    *other_end = ends[0];
    return ends[1];
}

static int open_pipe_nonblocking(int *other_end)
{
    int fd = open_pipe(other_end);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static int open_socket(int *other_end)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        fatal("cannot create sockets");
    *other_end = ends[0];
    return ends[1];
}

/* A terminal that nobody reads, as after Ctrl-S. */
static int open_terminal(int *other_end)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave = -1;
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0
        || (slave = open(ptsname(master), O_RDWR | O_NOCTTY)) < 0)
        fatal("cannot open a terminal: %s", strerror(errno));
    *other_end = master;
    return slave;
}

static const struct phase {
    const char *name, *endpoint;
    /* Opens a descriptor that soon blocks writes. */
    int (*open_sink)(int *other_end);
} phases[] = {
    {"resolving", "http://stalled.test:1", NULL},
    {"a fast body", "http", NULL},
    {"a pipe", "http", open_pipe},
    {"a pipe that does not block", "http", open_pipe_nonblocking},
    {"a socket", "http", open_socket},
    {"a terminal", "http", open_terminal},
};
#define PHASES (sizeof phases / sizeof *phases)

/* One call in a phase. */
struct waiting {
    const struct phase *phase;
    dbss_context *ctx;
    dbss_operation *operation;
    const char *id;
    int fd, other_end, lookups, is_over;
    dbss_status status;
    long long ended_ms;
    pthread_t thread;
};

static int32_t discard(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    return 0;
}

static void *run_waiting(void *argument)
{
    struct waiting *waiting = argument;
    waiting->status =
        waiting->phase->open_sink != NULL
            ? dbss_report_download_to_fd(waiting->ctx, REPORT_ARGUMENTS(waiting->id), waiting->fd, waiting->operation)
            : dbss_report_download_to_callback(waiting->ctx, REPORT_ARGUMENTS(waiting->id), discard, NULL,
                                               waiting->operation);
    waiting->ended_ms = now_ms();
    add_locked(&waiting->is_over, 1);
    return NULL;
}

static int has_reached_phase(const struct waiting *waiting)
{
    int available;
    if (strcmp(waiting->phase->name, "resolving") == 0)
        return lookups_started() > waiting->lookups;
    if (waiting->phase->open_sink == NULL)
        return dbss_operation_received(waiting->operation) >= 200000;
    /* The pipe contains data, and the call has more. */
    return dbss_operation_received(waiting->operation) > 0 && ioctl(waiting->other_end, FIONREAD, &available) == 0
           && available > 0;
}

/* Starts a call and waits until it has reached the phase. */
static struct waiting *start_waiting(const struct phase *phase, const char *id, dbss_operation *operation)
{
    const char *endpoint = find_fixture(phase->endpoint);
    struct waiting *waiting = calloc(1, sizeof *waiting);
    dbss_config *config = new_config(endpoint != NULL ? endpoint : phase->endpoint, fixture("token"));

    set_option(config, "allow_plaintext", "true");
    /* Only the check may end the call. */
    set_option(config, "connect_timeout_ms", "60000");
    waiting->phase = phase;
    waiting->ctx = context_from(config);
    waiting->operation = operation;
    waiting->id = id;
    waiting->lookups = lookups_started();
    if (phase->open_sink != NULL)
        waiting->fd = phase->open_sink(&waiting->other_end);
    else
        post_fault(id, "\"fill\": {\"size\": 100000000000}, \"times\": 1");
    waiting->thread = start_thread(run_waiting, waiting);
    WAIT_FOR(has_reached_phase(waiting));
    return waiting;
}

/* Expects that the call was cancelled at most `within_ms` after `since`. */
static void expect_cancelled(struct waiting *waiting, long long since, int within_ms)
{
    int is_to_fd = waiting->phase->open_sink != NULL, mode = is_to_fd ? fcntl(waiting->fd, F_GETFL) : 0;
    while (!read_locked(&waiting->is_over) && now_ms() < since + 3000)
        pause_briefly();
    if (is_to_fd)
        /* Ends the call if nothing else did. */
        close(waiting->other_end);
    pthread_join(waiting->thread, NULL);
    if (waiting->status != DBSS_ERR_CANCELLED || waiting->ended_ms - since > within_ms)
        fail_check("%s: the call ended after %lld ms with %s", waiting->phase->name, waiting->ended_ms - since,
                   dbss_status_name(waiting->status));
    if (is_to_fd) {
        /* The descriptor is open and unchanged. */
        CHECK(mode >= 0 && mode == fcntl(waiting->fd, F_GETFL));
        CHECK(((mode & O_NONBLOCK) != 0) == (waiting->phase->open_sink == open_pipe_nonblocking));
        close(waiting->fd);
    }
    dbss_context_free(waiting->ctx);
    free(waiting);
    free(control("DELETE", "/faults", ""));
}

static void by_operation(struct waiting *waiting)
{
    dbss_operation_cancel(waiting->operation);
}

static void by_context(struct waiting *waiting)
{
    dbss_context_cancel_all(waiting->ctx);
}

static void by_close(struct waiting *waiting)
{
    long long start = now_ms();
    dbss_context_close(waiting->ctx);
    CHECK(now_ms() - start <= CLOSED_WITHIN_MS);
}

static int stop_at_next_tick;

/* Whether to stop. Only once: one such result must be enough. */
static int take_stop(void)
{
    int stop;
    pthread_mutex_lock(&lock);
    stop = stop_at_next_tick;
    stop_at_next_tick = 0;
    pthread_mutex_unlock(&lock);
    return stop;
}

static int32_t stop_if_requested(void *user_data, const dbss_operation *operation)
{
    (void)user_data;
    (void)operation;
    return take_stop() ? -7 : 0;
}

static int32_t cancel_if_requested(void *user_data, const dbss_operation *operation)
{
    (void)operation;
    if (take_stop())
        dbss_operation_cancel(user_data);
    return 0;
}

static void by_callback(struct waiting *waiting)
{
    (void)waiting;
    add_locked(&stop_at_next_tick, 1);
}

static void every_phase_can_be_ended(void)
{
    static const struct {
        void (*end)(struct waiting *);
        int32_t (*progress)(void *user_data, const dbss_operation *operation);
        int within_ms;
    } ways[] = {
        {by_operation, NULL, CANCELLED_WITHIN_MS},
        {by_context, NULL, CANCELLED_WITHIN_MS},
        {by_close, NULL, CANCELLED_WITHIN_MS},
        {by_callback, stop_if_requested, STOPPED_WITHIN_MS},
        {by_callback, cancel_if_requested, STOPPED_WITHIN_MS},
    };
    const char *id = add_report(300000);
    size_t i, j;
    stall_lookups();
    for (i = 0; i < sizeof ways / sizeof *ways; i++) {
        dbss_operation *operation = new_operation();
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, ways[i].progress, operation, NULL));
        for (j = 0; j < PHASES; j++) {
            struct waiting *waiting = start_waiting(&phases[j], id, operation);
            long long since = now_ms();
            ways[i].end(waiting);
            expect_cancelled(waiting, since, ways[i].within_ms);
            add_failure_context("way %d", (int)i);
            EXPECT(DBSS_OK, dbss_operation_reset(operation));
        }
        dbss_operation_free(operation);
    }
    /* The remaining look-ups end by themselves. */
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_started());
}

/* ---------------------------------------------------------------------------
 * Signal handlers
 * ------------------------------------------------------------------------ */

static dbss_operation *signalled_operation;
static volatile sig_atomic_t signalled, errno_kept;
static pthread_t signalled_thread;

static void cancel_in_handler(int number)
{
    (void)number;
    errno = 12345;
    dbss_operation_cancel(signalled_operation);
    errno_kept = errno == 12345;
    signalled = 1;
}

static void *send_signal(void *id)
{
    WAIT_FOR(count_requests(id) > 0);
    pthread_kill(signalled_thread, SIGUSR1);
    return NULL;
}

/* The signal handler runs on the call's own thread. */
static void cancel_from_signal_handler_ends_call(void)
{
    static const int flags[] = {0, SA_RESTART};
    dbss_context *ctx = new_context(fixture("http"));
    size_t i;
    for (i = 0; i < 2; i++) {
        char *id = format("%s", fresh_id());
        struct sigaction action, before;
        long long start = now_ms();
        dbss_buffer buffer;
        pthread_t thread;

        memset(&action, 0, sizeof action);
        action.sa_handler = cancel_in_handler;
        action.sa_flags = flags[i];
        sigaction(SIGUSR1, &action, &before);
        signalled = 0;
        signalled_operation = new_operation();
        signalled_thread = pthread_self();
        post_fault(id, "\"no_answer\": true");
        thread = start_thread(send_signal, id);
        EXPECT(DBSS_ERR_CANCELLED,
               dbss_report_download_to_memory(ctx, REPORT_ARGUMENTS(id), signalled_operation, &buffer));
        pthread_join(thread, NULL);
        CHECK(signalled && errno_kept);
        CHECK(now_ms() - start < 5000);
        sigaction(SIGUSR1, &before, NULL);
        dbss_operation_free(signalled_operation);
        free(id);
    }
    dbss_context_free(ctx);
}

/* ---------------------------------------------------------------------------
 * Life cycles
 * ------------------------------------------------------------------------ */

/* Two counters: ticks, and calls of the destroy function. */
static int32_t count_tick(void *user_data, const dbss_operation *operation)
{
    int **counters = user_data;
    add_locked(counters[0], 1);
    CHECK(dbss_operation_received(operation) >= 0);
    return 0;
}

static void count_destroy(void *user_data)
{
    int **counters = user_data;
    add_locked(counters[1], 1);
}

static void count_destroyed(void *user_data)
{
    add_locked(user_data, 1);
}

/* The operation and the context are freed during the call. */
static void operation_freed_during_call_lets_it_finish(void)
{
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        struct report report = new_report(300000);
        dbss_context *ctx = new_context(fixture("http"));
        dbss_operation *operation = new_operation();
        struct call call = new_call(sink, ctx, report.id, operation);
        int ticks = 0, destroyed = 0, before;
        int *counters[2];

        counters[0] = &ticks;
        counters[1] = &destroyed;
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, count_tick, counters, count_destroy));
        post_fault(report.id, "\"drip\": {\"bytes\": 100000, \"every_ms\": 150}");
        start_call(&call);
        WAIT_FOR(dbss_operation_received(operation) > 0);
        dbss_operation_free(operation);
        dbss_context_free(ctx);
        /* The callback still runs. */
        before = read_locked(&ticks);
        WAIT_FOR(read_locked(&ticks) > before);
        CHECK(read_locked(&destroyed) == 0);
        join_call(&call);
        CHECK(destroyed == 1);
        CHECK_CALL(DBSS_OK, &call, &report);
        free_call(&call);
        free_report(&report);
    }
}

static void ignore_record(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    (void)record;
}

static void destroy_is_called_once(void)
{
    dbss_operation *operation = new_operation();
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx;
    int destroyed[8] = {0}, i;

    EXPECT_NULL("operation", dbss_operation_set_progress(NULL, count_tick, &destroyed[0], count_destroyed));
    CHECK(destroyed[0] == 1);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, count_tick, &destroyed[1], count_destroyed));
    CHECK(destroyed[1] == 0);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, count_tick, &destroyed[2], count_destroyed));
    CHECK(destroyed[1] == 1 && destroyed[2] == 0);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, NULL, &destroyed[3], count_destroyed));
    CHECK(destroyed[2] == 1 && destroyed[3] == 1);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, count_tick, &destroyed[4], count_destroyed));
    dbss_operation_free(operation);
    CHECK(destroyed[4] == 1);
    CHECK(dbss_operation_new(NULL) == DBSS_ERR_NULL_ARGUMENT);
    for (i = 0; i < 5; i++)
        CHECK(destroyed[i] == 1);

    /* A log callback lives as long as the last object that uses it. */
    memset(destroyed, 0, sizeof destroyed);
    EXPECT_NULL("config", dbss_config_set_log(NULL, ignore_record, &destroyed[0], count_destroyed));
    CHECK(destroyed[0] == 1);
    EXPECT(DBSS_OK, dbss_config_set_log(config, ignore_record, &destroyed[1], count_destroyed));
    EXPECT(DBSS_OK, dbss_config_set_log(config, ignore_record, &destroyed[2], count_destroyed));
    CHECK(destroyed[1] == 1);
    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
    EXPECT(DBSS_OK, dbss_config_set_log(config, NULL, &destroyed[3], count_destroyed));
    CHECK(destroyed[2] == 0 && destroyed[3] == 1);
    dbss_config_free(config);
    CHECK(destroyed[2] == 0);
    dbss_context_free(ctx);
    CHECK(destroyed[2] == 1);
    for (i = 0; i < 4; i++)
        CHECK(destroyed[i] == 1);
}

/* During a call, every other use of its operation is refused. In a callback, errors
 * work as elsewhere and do not affect the outer call. */
struct nested {
    dbss_operation *operation;
    dbss_context *ctx;
    const char *id;
    int done, destroyed;
    long connections;
};

static int32_t make_nested_calls(void *user_data, const dbss_operation *operation)
{
    struct nested *nested = user_data;
    dbss_buffer report = {(uint8_t *)nested, 1};
    dbss_error *error;

    CHECK(operation == nested->operation);
    if (nested->done++ > 0)
        return 0;
    CHECK(dbss_last_error() == NULL);
    EXPECT(DBSS_ERR_BUSY, dbss_operation_set_progress(nested->operation, NULL, &nested->destroyed, count_destroyed));
    CHECK(nested->destroyed == 1);
    EXPECT(DBSS_ERR_BUSY, dbss_report_download_to_memory(nested->ctx, fixture("project"), fixture("instance"),
                                                         nested->id, NULL, nested->operation, &report));
    CHECK(report.data == NULL && report.len == 0);
    EXPECT_NULL("config", dbss_config_set(NULL, "x", "y"));
    error = dbss_error_take();
    CHECK(dbss_error_status(error) == DBSS_ERR_NULL_ARGUMENT && dbss_last_error() == NULL);
    dbss_error_free(error);
    error = dbss_operation_error(operation);
    CHECK(error == NULL);
    dbss_error_free(error);
    CHECK(count_connections() == nested->connections);
    /* Another whole call is allowed. */
    EXPECT(DBSS_OK,
           dbss_report_download(nested->ctx, fixture("project"), fixture("instance"), nested->id, NULL, &report));
    CHECK(report.len > 1000);
    dbss_buffer_free(&report);
    /* This error must not become the error of the outer call. */
    EXPECT_NULL("config", dbss_config_set(NULL, "x", "y"));
    return 0;
}

static void calls_in_progress_callback(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    struct nested nested = {NULL, NULL, NULL, 0, 0, 0};
    dbss_buffer buffer;

    nested.operation = operation;
    nested.ctx = ctx;
    nested.id = fixture("pdf");
    nested.connections = count_connections();
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, make_nested_calls, &nested, NULL));
    EXPECT(DBSS_OK, dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), report.id, "en-us",
                                                   operation, &buffer));
    CHECK(dbss_last_error() == NULL && nested.done >= 2 && nested.destroyed == 1);
    CHECK(buffer.len == report.len && memcmp(buffer.data, report.bytes, buffer.len) == 0);
    dbss_buffer_free(&buffer);

    /* The caller sees the failure of the outer call. */
    post_fault(report.id, "\"status\": 404");
    nested.done = nested.destroyed = 0;
    nested.connections = count_connections();
    EXPECT(DBSS_ERR_NOT_FOUND, dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), report.id,
                                                              "en-us", operation, &buffer));
    CHECK(dbss_error_http_status(dbss_last_error()) == 404);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

/* Makes other calls in the write callback, on the same context. */
static void call_another(struct call *call)
{
    dbss_buffer other;
    if (call->len < 200000)
        return;
    call->on_data = NULL;
    CHECK(dbss_report_download(call->ctx, fixture("project"), fixture("instance"), fixture("pdf"), "en-us", &other)
          == DBSS_OK);
    dbss_buffer_free(&other);
    CHECK(dbss_report_download(call->ctx, fixture("project"), fixture("instance"), fresh_id(), "en-us", &other)
          == DBSS_ERR_NOT_FOUND);
}

static void calls_in_write_callback(void)
{
    struct report report = new_report(2000000);
    dbss_context *ctx = new_context(fixture("http"));
    struct call call = new_call(TO_CALLBACK, ctx, report.id, NULL);
    call.on_data = call_another;
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    CHECK(call.on_data == NULL);
    free_call(&call);
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Streams
 * ------------------------------------------------------------------------ */

static void stream_arguments_are_checked(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    dbss_report_stream *stream;
    char part[100];
    size_t len = 1, got = 0;

    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "key", dbss_operation_set(operation, "\xff", "1"));
    EXPECT(DBSS_OK, dbss_report_open(ctx, REPORT_ARGUMENTS(report.id), operation, &stream));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "cap", dbss_report_stream_read(stream, part, 0, &len));
    CHECK(len == 0);
    /* The stream still works, also after its context is freed. */
    dbss_context_free(ctx);
    do {
        EXPECT(DBSS_OK, dbss_report_stream_read(stream, part, sizeof part, &len));
        CHECK(got + len <= report.len && memcmp(part, report.bytes + got, len) == 0);
        got += len;
    } while (len > 0 && !has_failed());
    CHECK(got == report.len);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "cap", dbss_report_stream_read(stream, part, 0, &len));
    dbss_report_stream_free(stream);
    dbss_operation_free(operation);
    free_report(&report);
}

struct reader {
    dbss_report_stream *stream;
    dbss_status status;
    int read;
    long long ended;
};

static void *read_to_the_end(void *argument)
{
    struct reader *reader = argument;
    char part[4096];
    size_t len = 1;
    while (len > 0) {
        reader->status = dbss_report_stream_read(reader->stream, part, sizeof part, &len);
        add_locked(&reader->read, (int)len);
    }
    reader->ended = now_ms();
    return NULL;
}

/* Freeing a stream ends the read of another thread. */
static void stream_freed_during_read_cancels_it(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 4; i++) {
        const char *id = add_report(300000);
        dbss_context *ctx = new_context(fixture(schemes[i % 2]));
        dbss_operation *operation = i < 2 ? new_operation() : NULL;
        struct reader reader = {NULL, DBSS_OK, 0, 0};
        pthread_t thread;
        long long start;

        post_fault(id, "\"stall_after\": 200000, \"times\": 1");
        EXPECT(DBSS_OK, dbss_report_open(ctx, REPORT_ARGUMENTS(id), operation, &reader.stream));
        thread = start_thread(read_to_the_end, &reader);
        WAIT_FOR(read_locked(&reader.read) == 200000);
        start = now_ms();
        dbss_report_stream_free(reader.stream);
        CHECK(now_ms() - start < CLOSED_WITHIN_MS);
        pthread_join(thread, NULL);
        CHECK(reader.status == DBSS_ERR_CANCELLED);
        CHECK(reader.ended - start < CANCELLED_WITHIN_MS);
        if (operation != NULL) {
            /* The operation works for another call. */
            EXPECT(DBSS_OK, dbss_report_open(ctx, REPORT_ARGUMENTS(id), operation, &reader.stream));
            dbss_report_stream_free(reader.stream);
        }
        dbss_operation_free(operation);
        dbss_context_free(ctx);
    }
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"every_phase_can_be_ended", every_phase_can_be_ended, PLAIN},
    {"cancel_from_signal_handler_ends_call", cancel_from_signal_handler_ends_call, PLAIN},
    {"operation_freed_during_call_lets_it_finish", operation_freed_during_call_lets_it_finish, PLAIN},
    {"destroy_is_called_once", destroy_is_called_once, PLAIN},
    {"calls_in_progress_callback", calls_in_progress_callback, PLAIN},
    {"calls_in_write_callback", calls_in_write_callback, PLAIN},
    {"stream_arguments_are_checked", stream_arguments_are_checked, PLAIN},
    {"stream_freed_during_read_cancels_it", stream_freed_during_read_cancels_it, TLS},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
