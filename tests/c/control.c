/*
 * Control of calls in progress: cancel, progress, operations, callbacks and streams.
 * See checks.h for how to run the checks.
 */

#define _XOPEN_SOURCE 700 /* for the pseudo-terminal */
#define _GNU_SOURCE       /* for F_SETPIPE_SZ */

#include "calls.h"
#include "resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
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

/* ---------------------------------------------------------------------------
 * The phases of a call
 * ------------------------------------------------------------------------ */

static int warnings;

static void count_warnings(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    if (dbss_log_record_level(record) == DBSS_LOG_WARNING)
        add_locked(&warnings, 1);
}

/* A phase in which a call would wait for a minute. */
struct phase {
    const char *name, *endpoint, *fault;
    /* The sink. SINKS means one of several, in turn. */
    enum sink sink;
    /* Opens a descriptor that soon blocks writes. */
    int (*open_sink)(int *other_end);
};

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

static const struct phase phases[] = {
    {"resolving", "http://stalled.test:1", NULL, SINKS, NULL},
    {"connecting", "never_accepts", NULL, SINKS, NULL},
    {"the TLS handshake", "https", "handshake", SINKS, NULL},
    {"the header", "http", "\"no_answer\": true, \"times\": 1", SINKS, NULL},
    {"the header over TLS", "https", "\"no_answer\": true, \"times\": 1", SINKS, NULL},
    {"the first bytes", "http", "\"stall_after\": 0, \"times\": 1", SINKS, NULL},
    {"the body", "http", "\"stall_after\": 200000, \"times\": 1", SINKS, NULL},
    {"the body over TLS", "https", "\"stall_after\": 200000, \"times\": 1", SINKS, NULL},
    {"chunks", "http", "\"stall_after\": 200000, \"framing\": \"chunked\", \"times\": 1", SINKS, NULL},
    {"a slow body", "http", "\"drip\": {\"bytes\": 1, \"every_ms\": 20}, \"times\": 1", SINKS, NULL},
    {"a fast body", "http", "\"fill\": {\"size\": 100000000000}, \"times\": 1", TO_CALLBACK, NULL},
    {"an error's body", "http", "\"status\": 404, \"body\": \"0123456789\", \"stall_after\": 5, \"times\": 1", SINKS,
     NULL},
    {"a passing error's body", "http", "\"status\": 503, \"body\": \"0123456789\", \"stall_after\": 5, \"times\": 1",
     SINKS, NULL},
    {"a retry", "http", "\"status\": 503, \"headers\": [[\"Retry-After\", \"50\"]], \"times\": 1", SINKS, NULL},
    {"a pipe", "http", NULL, TO_FD, open_pipe},
    {"a pipe that does not block", "http", NULL, TO_FD, open_pipe_nonblocking},
    {"a socket", "http", NULL, TO_FD, open_socket},
    {"a terminal", "http", NULL, TO_FD, open_terminal},
};
#define PHASES (sizeof phases / sizeof *phases)

static struct report phase_report;

/* One call in a phase. */
struct waiting {
    const struct phase *phase;
    struct call call;
    int fd, other_end, is_over;
    long connections;
    int lookups, warnings;
};

static void *call_to_open_sink(void *argument)
{
    struct waiting *waiting = argument;
    struct call *call = &waiting->call;
    call->status = dbss_report_download_to_fd(call->ctx, fixture("project"), fixture("instance"), call->id, "en-us",
                                              waiting->fd, call->operation);
    call->ended_ms = now_ms();
    call->error = dbss_error_take();
    add_locked(&waiting->is_over, 1);
    return NULL;
}

static int has_reached_phase(const struct waiting *waiting, size_t requests_before)
{
    const struct phase *phase = waiting->phase;
    const dbss_operation *operation = waiting->call.operation;
    int available;

    if (strcmp(phase->name, "resolving") == 0)
        return lookups_started() > waiting->lookups;
    if (strcmp(phase->name, "connecting") == 0)
        return dbss_operation_attempts(operation) == 1;
    if (strcmp(phase->name, "the TLS handshake") == 0)
        return count_connections() > waiting->connections;
    if (strcmp(phase->name, "a retry") == 0)
        return read_locked(&warnings) > waiting->warnings;
    if (phase->open_sink != NULL)
        /* The pipe contains data, and the call has more. */
        return dbss_operation_received(operation) > 0 && ioctl(waiting->other_end, FIONREAD, &available) == 0
               && available > 0;
    if (strstr(phase->name, "bod") != NULL && strstr(phase->name, "error") == NULL)
        return dbss_operation_received(operation) >= (strstr(phase->name, "slow") != NULL ? 5 : 200000);
    if (strcmp(phase->name, "chunks") == 0)
        return dbss_operation_received(operation) == 200000;
    return read_request_log(&phase_report, NULL, 0) > requests_before;
}

/* Starts the call and waits until it has reached the phase. */
static void start_waiting_call(struct waiting *waiting, const struct phase *phase, dbss_context *ctx,
                               dbss_operation *operation, enum sink sink)
{
    size_t before = read_request_log(&phase_report, NULL, 0);

    memset(waiting, 0, sizeof *waiting);
    waiting->phase = phase;
    waiting->call.ctx = ctx;
    waiting->call.id = phase_report.id;
    waiting->call.operation = operation;
    waiting->call.sink = phase->sink == SINKS ? sink : phase->sink;
    waiting->lookups = lookups_started();
    waiting->warnings = read_locked(&warnings);
    waiting->connections = count_connections();
    if (phase->fault != NULL && strcmp(phase->fault, "handshake") == 0)
        post_listener_fault("https", "handshake_stall");
    else if (phase->fault != NULL)
        post_fault(phase_report.id, "%s", phase->fault);
    if (phase->open_sink != NULL) {
        waiting->fd = phase->open_sink(&waiting->other_end);
        waiting->call.thread = start_thread(call_to_open_sink, waiting);
    } else {
        start_call(&waiting->call);
    }
    WAIT_FOR(has_reached_phase(waiting, before));
}

static dbss_context *phase_context(const struct phase *phase)
{
    const char *endpoint = find_fixture(phase->endpoint);
    dbss_config *config = new_config(endpoint != NULL ? endpoint : phase->endpoint, fixture("token"));
    set_option(config, "max_attempts", "3");
    set_option(config, "allow_plaintext", "true");
    /* Only the check may end the call. */
    set_option(config, "connect_timeout_ms", "60000");
    if (dbss_config_set_log(config, count_warnings, NULL, NULL) != DBSS_OK)
        fatal("cannot set the log callback");
    return context_from(config);
}

/* Expects that the call was cancelled at most `within_ms` after `since`. */
static void expect_cancelled(struct waiting *waiting, long long since, int within_ms)
{
    long long took;
    int mode = waiting->phase->open_sink != NULL ? fcntl(waiting->fd, F_GETFL) : 0;
    if (waiting->phase->open_sink != NULL) {
        long long until = now_ms() + 3000;
        while (!read_locked(&waiting->is_over) && now_ms() < until)
            pause_briefly();
        /* Ends the call if nothing else did. */
        close(waiting->other_end);
    }
    join_call(&waiting->call);
    took = waiting->call.ended_ms - since;
    if (waiting->call.status != DBSS_ERR_CANCELLED)
        fail_check("expected DBSS_ERR_CANCELLED, got %s (%s)", dbss_status_name(waiting->call.status),
                   dbss_error_message(waiting->call.error));
    if (took > within_ms)
        fail_check("it ended after %lld ms", took);
    if (waiting->phase->open_sink != NULL) {
        /* The descriptor is open and unchanged. */
        CHECK(mode == fcntl(waiting->fd, F_GETFL) && mode >= 0);
        CHECK(((mode & O_NONBLOCK) != 0) == (waiting->phase->open_sink == open_pipe_nonblocking));
        close(waiting->fd);
    }
    CHECK(waiting->call.sink == TO_FD || has_report_prefix(&waiting->call, &phase_report)
          || strstr(waiting->phase->name, "fast") != NULL);
    add_failure_context("phase: %s, to %s", waiting->phase->name, sink_names[waiting->call.sink]);
    free_call(&waiting->call);
    free(control("DELETE", "/faults", ""));
    free(control("DELETE", "/listener_faults", ""));
}

static void cancel_context(struct waiting *waiting)
{
    dbss_context_cancel_all(waiting->call.ctx);
}

static void close_context(struct waiting *waiting)
{
    long long start = now_ms();
    dbss_context_close(waiting->call.ctx);
    if (now_ms() - start > CLOSED_WITHIN_MS)
        fail_check("the context was closed after %lld ms", now_ms() - start);
}

/* Cancels a call in each phase by `cancel`. */
static void cancel_in_each_phase(void (*cancel)(struct waiting *), int within_ms, dbss_operation *operation)
{
    size_t i;
    phase_report = new_report(300000);
    stall_lookups();
    for (i = 0; i < PHASES; i++) {
        static const enum sink sinks[] = {TO_MEMORY, TO_FILE, TO_STREAM};
        dbss_context *ctx = phase_context(&phases[i]);
        struct waiting waiting;
        long long since;

        start_waiting_call(&waiting, &phases[i], ctx, operation, sinks[i % 3]);
        since = now_ms();
        cancel(&waiting);
        expect_cancelled(&waiting, since, within_ms);
        EXPECT(DBSS_OK, dbss_operation_reset(operation));
        dbss_context_free(ctx);
    }
    /* The remaining look-up ends by itself. */
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_started());
    free_report(&phase_report);
}

static void cancel_operation(struct waiting *waiting)
{
    dbss_operation_cancel(waiting->call.operation);
}

static void operation_cancel_ends_every_phase(void)
{
    dbss_operation *operation = new_operation();
    cancel_in_each_phase(cancel_operation, CANCELLED_WITHIN_MS, operation);
    dbss_operation_free(operation);
}

static void cancel_all_ends_every_phase(void)
{
    dbss_operation *operation = new_operation();
    cancel_in_each_phase(cancel_context, CANCELLED_WITHIN_MS, operation);
    dbss_operation_free(operation);
}

static void context_close_ends_every_phase(void)
{
    dbss_operation *operation = new_operation();
    cancel_in_each_phase(close_context, CANCELLED_WITHIN_MS, operation);
    dbss_operation_free(operation);
}

static int stop_at_next_tick;

static int32_t stop_if_requested(void *user_data, const dbss_operation *operation)
{
    int stop = read_locked(&stop_at_next_tick);
    (void)user_data;
    (void)operation;
    if (stop) {
        /* Stops once only: one such result must be enough. */
        pthread_mutex_lock(&lock);
        stop_at_next_tick = 0;
        pthread_mutex_unlock(&lock);
    }
    return stop ? -7 : 0;
}

static void request_stop(struct waiting *waiting)
{
    (void)waiting;
    pthread_mutex_lock(&lock);
    stop_at_next_tick = 1;
    pthread_mutex_unlock(&lock);
}

static void callback_result_ends_every_phase(void)
{
    dbss_operation *operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, stop_if_requested, NULL, NULL));
    cancel_in_each_phase(request_stop, STOPPED_WITHIN_MS, operation);
    dbss_operation_free(operation);
}

/* The callback may cancel its own operation. */
static int32_t cancel_if_requested(void *user_data, const dbss_operation *operation)
{
    (void)operation;
    if (read_locked(&stop_at_next_tick)) {
        pthread_mutex_lock(&lock);
        stop_at_next_tick = 0;
        pthread_mutex_unlock(&lock);
        dbss_operation_cancel(user_data);
    }
    return 0;
}

static void cancel_in_callback_ends_every_phase(void)
{
    dbss_operation *operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, cancel_if_requested, operation, NULL));
    cancel_in_each_phase(request_stop, STOPPED_WITHIN_MS, operation);
    dbss_operation_free(operation);
}

/* ---------------------------------------------------------------------------
 * Ticks
 * ------------------------------------------------------------------------ */

struct ticks {
    long long first, last, longest_pause;
    int count, went_back;
    int64_t received;
};

static int32_t count_ticks(void *user_data, const dbss_operation *operation)
{
    struct ticks *ticks = user_data;
    long long now = now_ms();
    int64_t received = dbss_operation_received(operation);
    if (ticks->count++ == 0)
        ticks->first = now;
    else if (now - ticks->last > ticks->longest_pause)
        ticks->longest_pause = now - ticks->last;
    ticks->last = now;
    ticks->went_back |= received < ticks->received;
    ticks->received = received;
    /* One second is enough. */
    return now - ticks->first >= 1000;
}

static void progress_called_in_every_phase(void)
{
    size_t i;
    phase_report = new_report(300000);
    stall_lookups();
    for (i = 0; i < PHASES; i++) {
        dbss_operation *operation = new_operation();
        dbss_context *ctx = phase_context(&phases[i]);
        struct ticks ticks = {0, 0, 0, 0, 0, 0};
        struct waiting waiting;

        /* These wait like other phases. Skipping them saves a second each. */
        if (strstr(phases[i].name, "TLS") != NULL || strcmp(phases[i].name, "chunks") == 0
            || strcmp(phases[i].name, "the first bytes") == 0 || strcmp(phases[i].name, "a socket") == 0) {
            dbss_operation_free(operation);
            dbss_context_free(ctx);
            continue;
        }
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, count_ticks, &ticks, NULL));
        start_waiting_call(&waiting, &phases[i], ctx, operation, TO_MEMORY);
        expect_cancelled(&waiting, now_ms(), 5000);
        if (ticks.count < 8 || ticks.longest_pause > 300)
            fail_check("%d ticks, with pauses of up to %lld ms", ticks.count, ticks.longest_pause);
        CHECK(!ticks.went_back);
        add_failure_context("phase: %s", phases[i].name);
        dbss_operation_free(operation);
        dbss_context_free(ctx);
    }
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_started());
    free_report(&phase_report);
}

struct progress {
    int first, last, count;
    int64_t received, total;
    uint32_t attempts;
};

static int32_t record_progress(void *user_data, const dbss_operation *operation)
{
    struct progress *progress = user_data;
    if (progress->count++ == 0)
        CHECK(dbss_operation_received(operation) == 0 && dbss_operation_total(operation) == -1
              && dbss_operation_attempts(operation) == 0);
    progress->received = dbss_operation_received(operation);
    progress->total = dbss_operation_total(operation);
    progress->attempts = dbss_operation_attempts(operation);
    return 0;
}

/* Even a short call reports its start and its end. */
static void progress_called_at_start_and_end(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fixture("http"));
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        dbss_operation *operation = new_operation();
        struct progress progress = {0, 0, 0, 0, 0, 0};
        struct call call = {sink, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, record_progress, &progress, NULL));
        make_call(&call);
        CHECK_CALL(DBSS_OK, &call, &report);
        CHECK(progress.count >= 2);
        CHECK(progress.received == 300000 && progress.total == 300000 && progress.attempts == 1);
        add_failure_context("to %s", sink_names[sink]);
        free_call(&call);
        dbss_operation_free(operation);
    }
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Cancel
 * ------------------------------------------------------------------------ */

static void cancel_before_call_fails_it(void)
{
    struct report report = new_report(10000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    long connections = count_connections();
    dbss_error *error;
    int sink, i;

    dbss_operation_cancel(operation);
    for (i = 0; i < 2; i++) {
        for (sink = 0; sink < SINKS; sink++) {
            struct call call = {sink, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
            make_call(&call);
            CHECK_CALL(DBSS_ERR_CANCELLED, &call, &report);
            CHECK(call.len == 0 && dbss_error_attempts(call.error) == 0 && dbss_operation_attempts(operation) == 0);
            free_call(&call);
        }
    }
    CHECK(count_connections() == connections);
    error = dbss_operation_error(operation);
    CHECK(dbss_error_status(error) == DBSS_ERR_CANCELLED);
    dbss_error_free(error);
    EXPECT(DBSS_OK, dbss_operation_reset(operation));
    CHECK(dbss_operation_error(operation) == NULL);
    for (sink = 0; sink < SINKS; sink++) {
        struct call call = {sink, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
        make_call(&call);
        CHECK_CALL(DBSS_OK, &call, &report);
        free_call(&call);
    }
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

static void cancel_after_call_changes_nothing(void)
{
    struct report report = new_report(10000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    struct call call = {TO_MEMORY, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};

    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    free_call(&call);
    dbss_operation_cancel(operation);
    /* The call has finished, and its result is kept. */
    CHECK(dbss_operation_error(operation) == NULL);
    CHECK(dbss_operation_received(operation) == 10000 && dbss_operation_attempts(operation) == 1);
    EXPECT(DBSS_OK, dbss_operation_reset(operation));
    CHECK(dbss_operation_received(operation) == 0 && dbss_operation_total(operation) == -1);
    CHECK(dbss_operation_attempts(operation) == 0 && dbss_operation_filename(operation) == NULL);
    CHECK(dbss_operation_request_id(operation) == NULL && dbss_operation_path(operation) == NULL);
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    free_call(&call);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

static dbss_operation *signalled_operation;
static volatile sig_atomic_t signalled, errno_kept;
static pthread_t signalled_thread;
static const struct report *signalled_report;

static void cancel_in_handler(int number)
{
    (void)number;
    errno = 12345;
    dbss_operation_cancel(signalled_operation);
    errno_kept = errno == 12345;
    signalled = 1;
}

static void *send_signal(void *start)
{
    WAIT_FOR(count_requests(signalled_report->id) > 1);
    *(long long *)start = now_ms();
    pthread_kill(signalled_thread, SIGUSR1);
    return NULL;
}

/* The signal handler runs on the call's own thread. */
static void cancel_from_signal_handler_ends_call(void)
{
    static const int flags[] = {0, SA_RESTART};
    size_t i;
    for (i = 0; i < 2; i++) {
        struct report report = new_report(10000);
        dbss_context *ctx = new_context(fixture("http"));
        struct call call = {TO_MEMORY, ctx, report.id, NULL, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
        struct sigaction action, before;
        long long start = 0;
        pthread_t thread;

        memset(&action, 0, sizeof action);
        action.sa_handler = cancel_in_handler;
        action.sa_flags = flags[i];
        sigaction(SIGUSR1, &action, &before);
        signalled = 0;
        call.operation = signalled_operation = new_operation();
        signalled_thread = pthread_self();
        signalled_report = &report;
        post_fault(report.id, "\"no_answer\": true");
        thread = start_thread(send_signal, &start);
        make_call(&call);
        pthread_join(thread, NULL);
        CHECK_CALL(DBSS_ERR_CANCELLED, &call, &report);
        CHECK(signalled && errno_kept);
        CHECK(call.ended_ms - start < CANCELLED_WITHIN_MS);
        sigaction(SIGUSR1, &before, NULL);
        free_call(&call);
        dbss_operation_free(signalled_operation);
        dbss_context_free(ctx);
        free_report(&report);
    }
}

/* Cancels all calls of one context, with and without an operation, in several
 * phases. Calls of other contexts and later calls continue. */
static void cancel_all_ends_calls_of_one_context(void)
{
    enum { CALLS = 6 };
    static const char *const faults[CALLS] = {
        "\"no_answer\": true",
        "\"stall_after\": 100000",
        "\"status\": 503, \"headers\": [[\"Retry-After\", \"50\"]]",
        "\"stall_after\": 100000",
        "\"drip\": {\"bytes\": 10, \"every_ms\": 20}",
        "\"delay_ms\": 700, \"times\": 1",
    };
    struct report reports[CALLS];
    struct call calls[CALLS];
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx, *other = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    long long start;
    int i;

    set_option(config, "max_attempts", "2");
    ctx = context_from(config);
    for (i = 0; i < CALLS; i++) {
        memset(&calls[i], 0, sizeof calls[i]);
        reports[i] = new_report(300000);
        post_fault(reports[i].id, "%s", faults[i]);
        calls[i].sink = i % SINKS;
        calls[i].id = reports[i].id;
        calls[i].ctx = i == CALLS - 1 ? other : ctx;
        calls[i].operation = i == 1 ? operation : NULL;
        start_call(&calls[i]);
    }
    for (i = 0; i < CALLS; i++)
        WAIT_FOR(count_requests(reports[i].id) == 2);
    start = now_ms();
    dbss_context_cancel_all(ctx);
    for (i = 0; i < CALLS; i++) {
        join_call(&calls[i]);
        CHECK_CALL(i == CALLS - 1 ? DBSS_OK : DBSS_ERR_CANCELLED, &calls[i], &reports[i]);
        CHECK(i == CALLS - 1 || calls[i].ended_ms - start < CANCELLED_WITHIN_MS);
        free_call(&calls[i]);
    }
    free(control("DELETE", "/faults", ""));
    /* The context and the operation still work. */
    for (i = 0; i < 2; i++) {
        make_call(&calls[i]);
        CHECK_CALL(DBSS_OK, &calls[i], &reports[i]);
        free_call(&calls[i]);
    }
    dbss_context_cancel_all(NULL);
    dbss_context_cancel_all(ctx);
    for (i = 0; i < CALLS; i++)
        free_report(&reports[i]);
    dbss_operation_free(operation);
    dbss_context_free(other);
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
        struct call call = {sink, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
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
    EXPECT_NULL("config", dbss_config_set_log(NULL, count_warnings, &destroyed[0], count_destroyed));
    CHECK(destroyed[0] == 1);
    EXPECT(DBSS_OK, dbss_config_set_log(config, count_warnings, &destroyed[1], count_destroyed));
    EXPECT(DBSS_OK, dbss_config_set_log(config, count_warnings, &destroyed[2], count_destroyed));
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
    dbss_report_stream *stream = (dbss_report_stream *)nested;
    dbss_error *error;

    CHECK(operation == nested->operation);
    if (nested->done++ > 0)
        return 0;
    CHECK(dbss_last_error() == NULL);
    EXPECT(DBSS_ERR_BUSY, dbss_operation_set(nested->operation, "max_attempts", "2"));
    EXPECT(DBSS_ERR_BUSY, dbss_operation_reset(nested->operation));
    EXPECT(DBSS_ERR_BUSY, dbss_operation_set_progress(nested->operation, NULL, &nested->destroyed, count_destroyed));
    CHECK(nested->destroyed == 1);
    EXPECT(DBSS_ERR_BUSY, dbss_report_download_to_memory(nested->ctx, fixture("project"), fixture("instance"),
                                                         nested->id, NULL, nested->operation, &report));
    CHECK(report.data == NULL && report.len == 0);
    EXPECT(DBSS_ERR_BUSY, dbss_report_open(nested->ctx, fixture("project"), fixture("instance"), nested->id, NULL,
                                           nested->operation, &stream));
    CHECK(stream == NULL);
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
    struct call call = {TO_CALLBACK, ctx, report.id, NULL, call_another, 0, NULL, NULL, 0, 0, 0, 0, 0};
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    CHECK(call.on_data == NULL);
    free_call(&call);
    dbss_context_free(ctx);
    free_report(&report);
}

static int32_t stop_third_write(void *user_data, const uint8_t *data, size_t len)
{
    (void)data;
    (void)len;
    return ++*(int *)user_data == 3 ? 42 : 0;
}

static void write_callback_result_cancels_call(void)
{
    struct report report = new_report(2000000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    int writes = 0;
    EXPECT(DBSS_ERR_CANCELLED, dbss_report_download_to_callback(ctx, fixture("project"), fixture("instance"), report.id,
                                                                "en-us", stop_third_write, &writes, operation));
    CHECK(writes == 3);
    /* This ended only the call. The operation is not cancelled. */
    writes = 10;
    EXPECT(DBSS_OK, dbss_report_download_to_callback(ctx, fixture("project"), fixture("instance"), report.id, "en-us",
                                                     stop_third_write, &writes, operation));
    EXPECT_NULL("write", dbss_report_download_to_callback(ctx, fixture("project"), fixture("instance"), report.id,
                                                          "en-us", NULL, &writes, operation));
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

static void busy_operation_is_refused(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    struct call call = {TO_MEMORY, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    dbss_report_stream *stream;
    dbss_buffer buffer;
    long connections;

    post_fault(report.id, "\"delay_ms\": 300, \"times\": 1");
    start_call(&call);
    WAIT_FOR(count_requests(report.id) == 2);
    connections = count_connections();
    EXPECT_PARAMETER(DBSS_ERR_BUSY, "operation",
                     dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), report.id, "en-us",
                                                    operation, &buffer));
    EXPECT_PARAMETER(DBSS_ERR_BUSY, "operation", dbss_operation_set(operation, "max_attempts", "2"));
    EXPECT_PARAMETER(DBSS_ERR_BUSY, "operation", dbss_operation_reset(operation));
    CHECK(count_connections() == connections);
    join_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    /* The refused calls did not change its result. */
    CHECK(dbss_operation_received(operation) == 300000 && dbss_operation_error(operation) == NULL);
    free_call(&call);

    /* A stream keeps its operation busy until it is freed. */
    EXPECT(DBSS_OK,
           dbss_report_open(ctx, fixture("project"), fixture("instance"), report.id, "en-us", operation, &stream));
    EXPECT(DBSS_ERR_BUSY, dbss_operation_reset(operation));
    dbss_report_stream_free(stream);
    EXPECT(DBSS_OK, dbss_operation_reset(operation));
    EXPECT(DBSS_OK, dbss_operation_set(operation, "stall_timeout_ms", "150"));
    post_fault(report.id, "\"no_answer\": true, \"times\": 1");
    EXPECT(DBSS_ERR_STALLED, dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), report.id,
                                                            "en-us", operation, &buffer));
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

static void operation_options_are_checked(void)
{
    dbss_operation *operation = new_operation();
    struct report report = new_report(10000);
    dbss_context *ctx = new_context(fixture("http"));
    struct call call = {TO_MEMORY, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    static const char *const keys[] = {"connect_timeout_ms", "stall_timeout_ms", "total_timeout_ms",
                                       "max_attempts",       "max_memory_bytes", "file_mode"};
    size_t i;

    EXPECT_NULL("operation", dbss_operation_set(NULL, "max_attempts", "1"));
    EXPECT_NULL("key", dbss_operation_set(operation, NULL, "1"));
    EXPECT_NULL("value", dbss_operation_set(operation, "max_attempts", NULL));
    EXPECT_NULL("operation", dbss_operation_reset(NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "key", dbss_operation_set(operation, "\xff", "1"));
    EXPECT(DBSS_ERR_UNKNOWN_KEY, dbss_operation_set(operation, "no_such_key", "1"));
    EXPECT(DBSS_ERR_UNKNOWN_KEY, dbss_operation_set(operation, "token", "x"));
    for (i = 0; i < sizeof keys / sizeof *keys; i++) {
        EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, keys[i], dbss_operation_set(operation, keys[i], "x"));
        EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, keys[i], dbss_operation_set(operation, keys[i], ""));
        EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, keys[i],
                         dbss_operation_set(operation, keys[i], "99999999999999999999"));
    }
    EXPECT(DBSS_OK, dbss_operation_set(operation, "max_memory_bytes", "9999"));
    make_call(&call);
    CHECK_CALL(DBSS_ERR_LIMIT_EXCEEDED, &call, &report);
    free_call(&call);
    EXPECT(DBSS_OK, dbss_operation_set(operation, "max_memory_bytes", "10000"));
    EXPECT(DBSS_OK, dbss_operation_set(operation, "total_timeout_ms", "200"));
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    free_call(&call);
    post_fault(report.id, "\"drip\": {\"bytes\": 10, \"every_ms\": 10}, \"times\": 1");
    make_call(&call);
    CHECK_CALL(DBSS_ERR_TOTAL_TIMEOUT, &call, &report);
    CHECK(call.duration_ms >= 190 && call.duration_ms < 2000);
    free_call(&call);

    dbss_operation_cancel(NULL);
    dbss_operation_free(NULL);
    CHECK(dbss_operation_received(NULL) == 0 && dbss_operation_total(NULL) == -1 && dbss_operation_resumed(NULL) == 0);
    CHECK(dbss_operation_attempts(NULL) == 0 && dbss_operation_path(NULL) == NULL);
    CHECK(dbss_operation_filename(NULL) == NULL && dbss_operation_request_id(NULL) == NULL);
    CHECK(dbss_operation_error(NULL) == NULL);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Streams
 * ------------------------------------------------------------------------ */

#define OPEN(ctx, id, operation, stream)                                                                               \
    dbss_report_open(ctx, fixture("project"), fixture("instance"), id, "en-us", operation, stream)

static void stream_getters_describe_report(void)
{
    static const struct {
        const char *body, *json;
        int32_t format;
        const char *ending;
    } formats[] = {
        {"%PDF-1.7 and so on", "%PDF-1.7 and so on", DBSS_FORMAT_PDF, ".pdf"},
        {"PK\3\4 and so on", "PK\\u0003\\u0004 and so on", DBSS_FORMAT_ZIP, ".zip"},
        {"\1\2\3 neither this nor that", "\\u0001\\u0002\\u0003 neither this nor that", DBSS_FORMAT_UNKNOWN, ".bin"},
        {"PK\1\2\3 and so on, and so on", "PK\\u0001\\u0002\\u0003 and so on, and so on", DBSS_FORMAT_UNKNOWN, ".bin"}};
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    dbss_report_stream *stream;
    char part[1000];
    size_t i, len;

    post_fault(report.id, "\"headers\": [[\"X-Request-Id\", \"id-of-this-call\"]], \"times\": 1");
    EXPECT(DBSS_OK, OPEN(ctx, report.id, operation, &stream));
    CHECK(dbss_report_stream_size(stream) == 300000);
    CHECK(dbss_report_stream_format(stream) == DBSS_FORMAT_PDF);
    expect_text(__LINE__, "audit-report.pdf", dbss_report_stream_filename(stream));
    expect_text(__LINE__, "application/pdf", dbss_report_stream_content_type(stream));
    expect_text(__LINE__, "id-of-this-call", dbss_report_stream_request_id(stream));
    expect_text(__LINE__, "id-of-this-call", dbss_operation_request_id(operation));
    expect_text(__LINE__, "audit-report.pdf", dbss_operation_filename(operation));
    expect_text(__LINE__, "application/pdf", dbss_operation_content_type(operation));
    CHECK(dbss_operation_format(operation) == DBSS_FORMAT_PDF);
    CHECK(dbss_operation_path(operation) == NULL && dbss_operation_total(operation) == 300000);
    dbss_report_stream_free(stream);

    for (i = 0; i < sizeof formats / sizeof *formats; i++) {
        char *name = format("%s%s", report.id, formats[i].ending);
        post_fault(
            report.id,
            "\"body\": \"%s\", \"framing\": \"chunked\", \"times\": 1, \"headers\": [[\"Content-Disposition\", null], "
            "[\"Content-Type\", null], [\"X-Request-Id\", null]]",
            formats[i].json);
        EXPECT(DBSS_OK, OPEN(ctx, report.id, operation, &stream));
        CHECK(dbss_report_stream_size(stream) == -1);
        CHECK(dbss_report_stream_format(stream) == formats[i].format);
        expect_text(__LINE__, name, dbss_report_stream_filename(stream));
        CHECK(dbss_report_stream_content_type(stream) == NULL && dbss_report_stream_request_id(stream) == NULL);
        CHECK(dbss_operation_format(operation) == formats[i].format);
        CHECK(dbss_operation_content_type(operation) == NULL && dbss_operation_request_id(operation) == NULL);
        EXPECT(DBSS_OK, dbss_report_stream_read(stream, part, sizeof part, &len));
        CHECK(len == strlen(formats[i].body) && memcmp(part, formats[i].body, len) == 0);
        add_failure_context("the body was \"%s\"", formats[i].body);
        dbss_report_stream_free(stream);
        free(name);
    }
    /* A reset clears the results of the last call. */
    EXPECT(DBSS_OK, OPEN(ctx, report.id, operation, &stream));
    dbss_report_stream_free(stream);
    CHECK(dbss_operation_format(operation) == DBSS_FORMAT_PDF);
    EXPECT(DBSS_OK, dbss_operation_reset(operation));
    CHECK(dbss_operation_format(operation) == DBSS_FORMAT_UNKNOWN && dbss_operation_content_type(operation) == NULL);
    CHECK(dbss_operation_format(NULL) == DBSS_FORMAT_UNKNOWN && dbss_operation_content_type(NULL) == NULL);
    CHECK(dbss_report_stream_size(NULL) == -1 && dbss_report_stream_format(NULL) == DBSS_FORMAT_UNKNOWN);
    CHECK(dbss_report_stream_filename(NULL) == NULL && dbss_report_stream_content_type(NULL) == NULL);
    CHECK(dbss_report_stream_request_id(NULL) == NULL);
    dbss_report_stream_free(NULL);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

static void stream_arguments_are_checked(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_report_stream *stream = (dbss_report_stream *)&report;
    char part[100];
    size_t len = 1, got = 0;

    EXPECT_NULL("out_stream", OPEN(ctx, report.id, NULL, NULL));
    EXPECT_NULL("ctx", OPEN(NULL, report.id, NULL, &stream));
    CHECK(stream == NULL);
    EXPECT(DBSS_OK, OPEN(ctx, report.id, NULL, &stream));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "cap", dbss_report_stream_read(stream, part, 0, &len));
    CHECK(len == 0);
    EXPECT_NULL("out_len", dbss_report_stream_read(stream, part, sizeof part, NULL));
    len = 1;
    EXPECT_NULL("buf", dbss_report_stream_read(stream, NULL, sizeof part, &len));
    CHECK(len == 0);
    len = 1;
    EXPECT_NULL("stream", dbss_report_stream_read(NULL, part, sizeof part, &len));
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
    EXPECT(DBSS_OK, dbss_report_stream_read(stream, part, sizeof part, &len));
    CHECK(len == 0);
    dbss_report_stream_free(stream);
    free_report(&report);
}

/* A failure persists, with the same error. */
static void stream_error_persists(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    dbss_report_stream *stream;
    char part[65536], *message = NULL;
    size_t len;
    dbss_status status;
    dbss_error *error;
    int i;

    post_fault(report.id, "\"cut_after\": 200000, \"times\": 1");
    EXPECT(DBSS_OK, OPEN(ctx, report.id, operation, &stream));
    while ((status = dbss_report_stream_read(stream, part, sizeof part, &len)) == DBSS_OK && len > 0)
        continue;
    for (i = 0; i < 3; i++) {
        CHECK(status == DBSS_ERR_TRUNCATED && len == 0);
        CHECK(dbss_error_attempts(dbss_last_error()) == 1);
        if (message == NULL)
            message = format("%s", dbss_error_message(dbss_last_error()));
        expect_text(__LINE__, message, dbss_error_message(dbss_last_error()));
        len = 1;
        status = dbss_report_stream_read(stream, part, sizeof part, &len);
    }
    error = dbss_operation_error(operation);
    expect_text(__LINE__, message, dbss_error_message(error));
    dbss_error_free(error);
    dbss_report_stream_free(stream);
    free(message);

    /* The cancel of an open stream persists too. */
    EXPECT(DBSS_OK, OPEN(ctx, report.id, operation, &stream));
    EXPECT(DBSS_OK, dbss_report_stream_read(stream, part, 10, &len));
    dbss_operation_cancel(operation);
    EXPECT(DBSS_ERR_CANCELLED, dbss_report_stream_read(stream, part, 10, &len));
    EXPECT(DBSS_ERR_CANCELLED, dbss_report_stream_read(stream, part, 10, &len));
    dbss_report_stream_free(stream);
    EXPECT(DBSS_OK, dbss_operation_reset(operation));
    EXPECT(DBSS_OK, OPEN(ctx, report.id, operation, &stream));
    dbss_report_stream_free(stream);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

struct reader {
    dbss_report_stream *stream;
    dbss_status status;
    size_t read;
    long long ended;
};

static void *read_to_the_end(void *argument)
{
    struct reader *reader = argument;
    char part[4096];
    size_t len = 1;
    while (len > 0) {
        reader->status = dbss_report_stream_read(reader->stream, part, sizeof part, &len);
        pthread_mutex_lock(&lock);
        reader->read += len;
        pthread_mutex_unlock(&lock);
    }
    reader->ended = now_ms();
    return NULL;
}

static size_t bytes_read(const struct reader *reader)
{
    size_t value;
    pthread_mutex_lock(&lock);
    value = reader->read;
    pthread_mutex_unlock(&lock);
    return value;
}

/* While one thread reads, another thread's read is refused. Freeing the stream ends
 * the read. */
static void stream_freed_during_read_cancels_it(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 4; i++) {
        struct report report = new_report(300000);
        dbss_context *ctx = new_context(fixture(schemes[i % 2]));
        dbss_operation *operation = i < 2 ? new_operation() : NULL;
        struct reader reader = {NULL, DBSS_OK, 0, 0};
        pthread_t thread;
        long long start;
        char part[10];
        size_t len = 1;

        post_fault(report.id, "\"stall_after\": 200000");
        EXPECT(DBSS_OK, OPEN(ctx, report.id, operation, &reader.stream));
        thread = start_thread(read_to_the_end, &reader);
        WAIT_FOR(bytes_read(&reader) == 200000);
        /* The thread may not have entered its next read yet. */
        EXPECT_PARAMETER(DBSS_ERR_BUSY, "stream", dbss_report_stream_read(reader.stream, part, sizeof part, &len));
        CHECK(len == 0);
        start = now_ms();
        dbss_report_stream_free(reader.stream);
        CHECK(now_ms() - start < 100);
        pthread_join(thread, NULL);
        CHECK(reader.status == DBSS_ERR_CANCELLED);
        CHECK(reader.ended - start < CANCELLED_WITHIN_MS);
        if (operation != NULL) {
            /* The operation works for another call. */
            free(control("DELETE", "/faults", ""));
            EXPECT(DBSS_OK, OPEN(ctx, report.id, operation, &reader.stream));
            dbss_report_stream_free(reader.stream);
        }
        dbss_operation_free(operation);
        dbss_context_free(ctx);
        free_report(&report);
    }
}

/* The stall timeout applies to the network only. A caller may pause between two
 * reads. */
static void slow_reader_does_not_stall(void)
{
    struct report report = new_report(3000000);
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx;
    dbss_report_stream *stream;
    char *part = malloc(300000);
    size_t len = 1, got = 0;
    long long start;

    set_option(config, "stall_timeout_ms", "150");
    ctx = context_from(config);
    EXPECT(DBSS_OK, OPEN(ctx, report.id, NULL, &stream));
    for (start = now_ms(); now_ms() - start < 400;)
        pause_briefly();
    while (len > 0 && !has_failed()) {
        EXPECT(DBSS_OK, dbss_report_stream_read(stream, part, 300000, &len));
        CHECK(got + len <= report.len && memcmp(part, report.bytes + got, len) == 0);
        got += len;
    }
    CHECK(got == report.len);
    dbss_report_stream_free(stream);
    dbss_context_free(ctx);
    free_report(&report);
    free(part);
}

/* ---------------------------------------------------------------------------
 * Names with several addresses
 * ------------------------------------------------------------------------ */

static const char *port_of(const char *url)
{
    return strrchr(url, ':') + 1;
}

static void several_addresses_are_tried(void)
{
    static const char *const lists[] = {
        "127.0.0.1",
        /* The mock service listens only at the last. */
        "127.0.0.2 127.0.0.3 127.0.0.1",
        "::1 127.0.0.1",
    };
    struct report report = new_report(10000);
    size_t i;
    for (i = 0; i < sizeof lists / sizeof *lists; i++) {
        char *url = format("http://several.test:%s", port_of(fixture("http")));
        dbss_config *config = new_config(url, fixture("token"));
        struct call call = {TO_MEMORY, NULL, report.id, NULL, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
        int lookups = lookups_started(), j;

        set_option(config, "allow_plaintext", "true");
        call.ctx = context_from(config);
        set_lookup_result(lists[i]);
        for (j = 0; j < 3; j++) {
            make_call(&call);
            CHECK_CALL(DBSS_OK, &call, &report);
            free_call(&call);
        }
        /* One look-up for the new connection, none for its reuse. */
        CHECK(lookups_started() == lookups + 1);
        add_failure_context("the addresses were %s", lists[i]);
        dbss_context_free(call.ctx);
        free(url);
    }
    set_lookup_result("127.0.0.1");
    free_report(&report);
}

/* An address that never responds leaves time for the next one. */
static void unresponsive_address_leaves_time_for_next(void)
{
    char *url = format("http://several.test:%s", port_of(fixture("never_accepts")));
    dbss_config *config = new_config(url, fixture("token"));
    dbss_context *ctx;
    dbss_buffer buffer;
    long long start = now_ms();

    set_option(config, "allow_plaintext", "true");
    set_option(config, "connect_timeout_ms", "600");
    ctx = context_from(config);
    set_lookup_result("127.0.0.1 127.0.0.2");
    /* The second refuses at once, but the first may still respond. */
    EXPECT(DBSS_ERR_CONNECT,
           dbss_report_download(ctx, fixture("project"), fixture("instance"), fixture("pdf"), NULL, &buffer));
    CHECK(now_ms() - start >= 590 && now_ms() - start < 3000);
    start = now_ms();
    set_lookup_result("127.0.0.1");
    EXPECT(DBSS_ERR_CONNECT_TIMEOUT,
           dbss_report_download(ctx, fixture("project"), fixture("instance"), fixture("pdf"), NULL, &buffer));
    CHECK(now_ms() - start >= 590 && now_ms() - start < 3000);
    start = now_ms();
    stall_lookups();
    EXPECT(DBSS_ERR_CONNECT_TIMEOUT,
           dbss_report_download(ctx, fixture("project"), fixture("instance"), fixture("pdf"), NULL, &buffer));
    CHECK(now_ms() - start >= 590 && now_ms() - start < 3000);
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_started());
    dbss_context_free(ctx);
    free(url);
}

static int unresponsive_sockets[8], unresponsive_count;

static struct sockaddr_in address_of(const char *host, const char *port)
{
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(port));
    address.sin_addr.s_addr = inet_addr(host);
    return address;
}

/* A listener with a full backlog: connection attempts get no response. */
static void add_unresponsive_listener(const char *host, const char *port)
{
    struct sockaddr_in address = address_of(host, port);
    int listener = socket(AF_INET, SOCK_STREAM, 0), i, one = 1;
    unresponsive_sockets[unresponsive_count++] = listener;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 0) != 0)
        fatal("cannot listen at %s:%s", host, port);
    for (i = 0; i < 2; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        unresponsive_sockets[unresponsive_count++] = client;
        (void)connect(client, (struct sockaddr *)&address, sizeof address);
    }
}

static void close_unresponsive_listeners(void)
{
    while (unresponsive_count > 0)
        close(unresponsive_sockets[--unresponsive_count]);
}

/* An unresponsive address costs a quarter of a second and leaks nothing. */
static void dead_address_before_good_one_costs_little(void)
{
    struct report report = new_report(10000);
    char *url = format("http://several.test:%s", port_of(fixture("http")));
    dbss_config *config = new_config(url, fixture("token"));
    struct call call = {TO_MEMORY, NULL, report.id, NULL, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    int descriptors, lookups;
    long long start;

    add_unresponsive_listener("127.0.0.2", port_of(fixture("http")));
    add_unresponsive_listener("127.0.0.3", port_of(fixture("http")));
    set_option(config, "allow_plaintext", "true");
    call.ctx = context_from(config);
    set_lookup_result("127.0.0.2 127.0.0.1");
    descriptors = for_each_descriptor(NULL);
    start = now_ms();
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    CHECK(now_ms() - start >= 200 && now_ms() - start < 1500);
    free_call(&call);
    dbss_context_free(call.ctx);

    /* Two of them cost twice that. A refused connection costs nothing. */
    config = new_config(url, fixture("token"));
    set_option(config, "allow_plaintext", "true");
    call.ctx = context_from(config);
    set_lookup_result("127.0.0.2 127.0.0.4 127.0.0.3 127.0.0.1");
    start = now_ms();
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    CHECK(now_ms() - start >= 400 && now_ms() - start < 2000);
    free_call(&call);
    dbss_context_free(call.ctx);
    CHECK(for_each_descriptor(NULL) == descriptors);

    /* A cancel ends the attempts at all addresses. */
    config = new_config(url, fixture("token"));
    set_option(config, "allow_plaintext", "true");
    call.ctx = context_from(config);
    call.operation = new_operation();
    set_lookup_result("127.0.0.2 127.0.0.3");
    lookups = lookups_ended();
    start_call(&call);
    WAIT_FOR(lookups_ended() > lookups);
    start = now_ms();
    dbss_operation_cancel(call.operation);
    join_call(&call);
    CHECK_CALL(DBSS_ERR_CANCELLED, &call, &report);
    CHECK(now_ms() - start < CANCELLED_WITHIN_MS);
    free_call(&call);
    dbss_operation_free(call.operation);
    dbss_context_free(call.ctx);
    CHECK(for_each_descriptor(NULL) == descriptors);
    set_lookup_result("127.0.0.1");
    close_unresponsive_listeners();
    free(url);
    free_report(&report);
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"operation_cancel_ends_every_phase", operation_cancel_ends_every_phase, TLS},
    {"cancel_all_ends_every_phase", cancel_all_ends_every_phase, TLS},
    {"context_close_ends_every_phase", context_close_ends_every_phase, LOAD},
    {"callback_result_ends_every_phase", callback_result_ends_every_phase, TLS},
    {"cancel_in_callback_ends_every_phase", cancel_in_callback_ends_every_phase, TLS},
    {"progress_called_in_every_phase", progress_called_in_every_phase, LOAD},
    {"progress_called_at_start_and_end", progress_called_at_start_and_end, PLAIN},
    {"cancel_before_call_fails_it", cancel_before_call_fails_it, PLAIN},
    {"cancel_after_call_changes_nothing", cancel_after_call_changes_nothing, PLAIN},
    {"cancel_from_signal_handler_ends_call", cancel_from_signal_handler_ends_call, PLAIN},
    {"cancel_all_ends_calls_of_one_context", cancel_all_ends_calls_of_one_context, PLAIN},
    {"operation_freed_during_call_lets_it_finish", operation_freed_during_call_lets_it_finish, PLAIN},
    {"destroy_is_called_once", destroy_is_called_once, PLAIN},
    {"calls_in_progress_callback", calls_in_progress_callback, PLAIN},
    {"calls_in_write_callback", calls_in_write_callback, PLAIN},
    {"write_callback_result_cancels_call", write_callback_result_cancels_call, PLAIN},
    {"busy_operation_is_refused", busy_operation_is_refused, PLAIN},
    {"operation_options_are_checked", operation_options_are_checked, LOAD},
    {"stream_getters_describe_report", stream_getters_describe_report, PLAIN},
    {"stream_arguments_are_checked", stream_arguments_are_checked, PLAIN},
    {"stream_error_persists", stream_error_persists, PLAIN},
    {"stream_freed_during_read_cancels_it", stream_freed_during_read_cancels_it, TLS},
    {"slow_reader_does_not_stall", slow_reader_does_not_stall, PLAIN},
    {"several_addresses_are_tried", several_addresses_are_tried, PLAIN},
    {"unresponsive_address_leaves_time_for_next", unresponsive_address_leaves_time_for_next, LOAD},
    {"dead_address_before_good_one_costs_little", dead_address_before_good_one_costs_little, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
