/*
 * The control of calls under way: cancel, progress, operations, callbacks and
 * streams. See checks.h for how to run them.
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

/* A cancel ends a call within 100 ms, and a callback's answer within 250 ms;
 * the rest is for a busy machine. */
#define CANCELLED_WITHIN_MS 400
#define STOPPED_WITHIN_MS 600
#define CLOSED_WITHIN_MS 100

/* ---------------------------------------------------------------------------
 * The phases of a call
 * ------------------------------------------------------------------------ */

static int warnings;

static void write_log(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    if (dbss_log_record_level(record) == DBSS_LOG_WARNING)
        add_locked(&warnings, 1);
}

/* What a call waits for. In each phase it would wait for a minute. */
struct phase {
    const char *name, *endpoint, *fault;
    /* Where the bytes go; SINKS: into memory and through a stream too. */
    enum sink sink;
    /* Makes a descriptor to which nothing more can be written soon. */
    int (*open_sink)(int *other_end);
};

/* A pipe that is too small for a report, and that nobody reads. */
static int open_pipe(int *other_end)
{
    int ends[2];
    if (pipe(ends) != 0)
        fatal("no pipe");
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
        fatal("no sockets");
    *other_end = ends[0];
    return ends[1];
}

/* A terminal on which the user has pressed Ctrl-S, as it were. */
static int open_terminal(int *other_end)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave = -1;
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0
        || (slave = open(ptsname(master), O_RDWR | O_NOCTTY)) < 0)
        fatal("no terminal: %s", strerror(errno));
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
    {"an error's body", "http",
     "\"status\": 404, \"body\": \"0123456789\", \"stall_after\": 5, \"times\": 1", SINKS, NULL},
    {"a passing error's body", "http",
     "\"status\": 503, \"body\": \"0123456789\", \"stall_after\": 5, \"times\": 1", SINKS, NULL},
    {"a retry", "http", "\"status\": 503, \"headers\": [[\"Retry-After\", \"50\"]], \"times\": 1", SINKS, NULL},
    {"a pipe", "http", NULL, TO_FD, open_pipe},
    {"a pipe that does not block", "http", NULL, TO_FD, open_pipe_nonblocking},
    {"a socket", "http", NULL, TO_FD, open_socket},
    {"a terminal", "http", NULL, TO_FD, open_terminal},
};
#define PHASES (sizeof phases / sizeof *phases)

static struct report waited_for;

/* One call in a phase. */
struct waiting {
    const struct phase *phase;
    struct call call;
    int fd, other_end, over;
    long connections;
    int lookups, warnings;
};

static void *call_to_open_sink(void *argument)
{
    struct waiting *waiting = argument;
    struct call *call = &waiting->call;
    call->status = dbss_report_download_to_fd(call->ctx, fact("project"), fact("instance"), call->id, "en-us", waiting->fd,
                                              call->operation);
    call->ended_ms = now_ms();
    call->error = dbss_error_take();
    add_locked(&waiting->over, 1);
    return NULL;
}

static int is_there(const struct waiting *waiting, size_t requests_before)
{
    const struct phase *phase = waiting->phase;
    const dbss_operation *operation = waiting->call.operation;
    int waits;

    if (strcmp(phase->name, "resolving") == 0)
        return lookups_begun() > waiting->lookups;
    if (strcmp(phase->name, "connecting") == 0)
        return dbss_operation_attempts(operation) == 1;
    if (strcmp(phase->name, "the TLS handshake") == 0)
        return count_connections() > waiting->connections;
    if (strcmp(phase->name, "a retry") == 0)
        return read_locked(&warnings) > waiting->warnings;
    if (phase->open_sink != NULL)
        /* The other end holds something, and the call has more. */
        return dbss_operation_received(operation) > 0 && ioctl(waiting->other_end, FIONREAD, &waits) == 0 && waits > 0;
    if (strstr(phase->name, "bod") != NULL && strstr(phase->name, "error") == NULL)
        return dbss_operation_received(operation) >= (strstr(phase->name, "slow") != NULL ? 5 : 200000);
    if (strcmp(phase->name, "chunks") == 0)
        return dbss_operation_received(operation) == 200000;
    return read_request_log(&waited_for, NULL, 0) > requests_before;
}

/* Begins the call and waits until it waits. */
static void begin_waiting(struct waiting *waiting, const struct phase *phase, dbss_context *ctx, dbss_operation *operation,
                          enum sink sink)
{
    size_t before = read_request_log(&waited_for, NULL, 0);

    memset(waiting, 0, sizeof *waiting);
    waiting->phase = phase;
    waiting->call.ctx = ctx;
    waiting->call.id = waited_for.id;
    waiting->call.operation = operation;
    waiting->call.sink = phase->sink == SINKS ? sink : phase->sink;
    waiting->lookups = lookups_begun();
    waiting->warnings = read_locked(&warnings);
    waiting->connections = count_connections();
    if (phase->fault != NULL && strcmp(phase->fault, "handshake") == 0)
        post_listener_fault("https", "handshake_stall");
    else if (phase->fault != NULL)
        post_fault(waited_for.id, "%s", phase->fault);
    if (phase->open_sink != NULL) {
        waiting->fd = phase->open_sink(&waiting->other_end);
        waiting->call.thread = start_thread(call_to_open_sink, waiting);
    } else {
        start_call(&waiting->call);
    }
    WAIT_FOR(is_there(waiting, before));
}

static dbss_context *phase_context(const struct phase *phase)
{
    const char *endpoint = find_fact(phase->endpoint);
    dbss_config *config = new_config(endpoint != NULL ? endpoint : phase->endpoint, fact("token"));
    set(config, "max_attempts", "3");
    set(config, "allow_plaintext", "true");
    /* Nothing may end the call but what the check does. */
    set(config, "connect_timeout_ms", "60000");
    if (dbss_config_set_log(config, write_log, NULL, NULL) != DBSS_OK)
        fatal("no log");
    return to_context(config);
}

/* Waits for the end, which came `within_ms` after `since`. */
static void end_waiting(struct waiting *waiting, long long since, int within_ms)
{
    long long took;
    int mode = waiting->phase->open_sink != NULL ? fcntl(waiting->fd, F_GETFL) : 0;
    if (waiting->phase->open_sink != NULL) {
        long long until = now_ms() + 3000;
        while (!read_locked(&waiting->over) && now_ms() < until)
            pause_briefly();
        /* If nothing else ended it, this does. */
        close(waiting->other_end);
    }
    join_call(&waiting->call);
    took = waiting->call.ended_ms - since;
    if (waiting->call.status != DBSS_ERR_CANCELLED)
        failed("expected DBSS_ERR_CANCELLED, got %s (%s)", dbss_status_name(waiting->call.status),
               dbss_error_message(waiting->call.error));
    if (took > within_ms)
        failed("it ended after %lld ms", took);
    if (waiting->phase->open_sink != NULL) {
        /* Neither closed nor changed. */
        CHECK(mode == fcntl(waiting->fd, F_GETFL) && mode >= 0);
        CHECK(((mode & O_NONBLOCK) != 0) == (waiting->phase->open_sink == open_pipe_nonblocking));
        close(waiting->fd);
    }
    CHECK(waiting->call.sink == TO_FD || holds_beginning(&waiting->call, &waited_for)
          || strstr(waiting->phase->name, "fast") != NULL);
    blame("waiting for %s, to %s", waiting->phase->name, sink_names[waiting->call.sink]);
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
        failed("the context was closed after %lld ms", now_ms() - start);
}

/* Cancels a call in each phase by `cancel`. */
static void in_each_phase(void (*cancel)(struct waiting *), int within_ms, dbss_operation *operation)
{
    size_t i;
    waited_for = new_report(300000);
    stall_lookups();
    for (i = 0; i < PHASES; i++) {
        static const enum sink sinks[] = {TO_MEMORY, TO_FILE, TO_STREAM};
        dbss_context *ctx = phase_context(&phases[i]);
        struct waiting waiting;
        long long since;

        begin_waiting(&waiting, &phases[i], ctx, operation, sinks[i % 3]);
        since = now_ms();
        cancel(&waiting);
        end_waiting(&waiting, since, within_ms);
        EXPECT(DBSS_OK, dbss_operation_reset(operation));
        dbss_context_free(ctx);
    }
    /* The look-up that was left behind ends by itself. */
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_begun());
    free_report(&waited_for);
}

static void cancel_operation(struct waiting *waiting)
{
    dbss_operation_cancel(waiting->call.operation);
}

static void cancel_everywhere(void)
{
    dbss_operation *operation = new_operation();
    in_each_phase(cancel_operation, CANCELLED_WITHIN_MS, operation);
    dbss_operation_free(operation);
}

static void cancel_all_everywhere(void)
{
    dbss_operation *operation = new_operation();
    in_each_phase(cancel_context, CANCELLED_WITHIN_MS, operation);
    dbss_operation_free(operation);
}

static void close_everywhere(void)
{
    dbss_operation *operation = new_operation();
    in_each_phase(close_context, CANCELLED_WITHIN_MS, operation);
    dbss_operation_free(operation);
}

static int stop_at_next_tick;

static int32_t stop_when_told(void *user_data, const dbss_operation *operation)
{
    int stop = read_locked(&stop_at_next_tick);
    (void)user_data;
    (void)operation;
    if (stop) {
        /* Says it once only: it must not have to say it again. */
        pthread_mutex_lock(&lock);
        stop_at_next_tick = 0;
        pthread_mutex_unlock(&lock);
    }
    return stop ? -7 : 0;
}

static void stop_by_callback(struct waiting *waiting)
{
    (void)waiting;
    pthread_mutex_lock(&lock);
    stop_at_next_tick = 1;
    pthread_mutex_unlock(&lock);
}

static void stop_everywhere(void)
{
    dbss_operation *operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, stop_when_told, NULL, NULL));
    in_each_phase(stop_by_callback, STOPPED_WITHIN_MS, operation);
    dbss_operation_free(operation);
}

/* The callback itself may cancel. */
static int32_t cancel_when_told(void *user_data, const dbss_operation *operation)
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

static void cancel_by_callback_everywhere(void)
{
    dbss_operation *operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, cancel_when_told, operation, NULL));
    in_each_phase(stop_by_callback, STOPPED_WITHIN_MS, operation);
    dbss_operation_free(operation);
}

/* ---------------------------------------------------------------------------
 * Ticks
 * ------------------------------------------------------------------------ */

struct ticks {
    long long first, last, longest_pause;
    int count, regress;
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
    ticks->regress |= received < ticks->received;
    ticks->received = received;
    /* A second of them is enough. */
    return now - ticks->first >= 1000;
}

static void ticks_everywhere(void)
{
    size_t i;
    waited_for = new_report(300000);
    stall_lookups();
    for (i = 0; i < PHASES; i++) {
        dbss_operation *operation = new_operation();
        dbss_context *ctx = phase_context(&phases[i]);
        struct ticks ticks = {0, 0, 0, 0, 0, 0};
        struct waiting waiting;

        /* These wait as others do, and a second each is long. */
        if (strstr(phases[i].name, "TLS") != NULL || strcmp(phases[i].name, "chunks") == 0
            || strcmp(phases[i].name, "the first bytes") == 0 || strcmp(phases[i].name, "a socket") == 0) {
            dbss_operation_free(operation);
            dbss_context_free(ctx);
            continue;
        }
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, count_ticks, &ticks, NULL));
        begin_waiting(&waiting, &phases[i], ctx, operation, TO_MEMORY);
        end_waiting(&waiting, now_ms(), 5000);
        if (ticks.count < 8 || ticks.longest_pause > 300)
            failed("%d ticks, with pauses of up to %lld ms", ticks.count, ticks.longest_pause);
        CHECK(!ticks.regress);
        blame("waiting for %s", phases[i].name);
        dbss_operation_free(operation);
        dbss_context_free(ctx);
    }
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_begun());
    free_report(&waited_for);
}

struct progress {
    int first, last, count;
    int64_t received, total;
    uint32_t attempts;
};

static int32_t watch(void *user_data, const dbss_operation *operation)
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

/* It is told of the beginning and of the end, however short a call is. */
static void first_and_last_tick(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fact("http"));
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        dbss_operation *operation = new_operation();
        struct progress progress = {0, 0, 0, 0, 0, 0};
        struct call call = {sink, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, watch, &progress, NULL));
        make_call(&call);
        CHECK_CALL(DBSS_OK, &call, &report);
        CHECK(progress.count >= 2);
        CHECK(progress.received == 300000 && progress.total == 300000 && progress.attempts == 1);
        blame("to %s", sink_names[sink]);
        free_call(&call);
        dbss_operation_free(operation);
    }
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Cancel
 * ------------------------------------------------------------------------ */

static void cancel_before(void)
{
    struct report report = new_report(10000);
    dbss_context *ctx = new_context(fact("http"));
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

static void cancel_after(void)
{
    struct report report = new_report(10000);
    dbss_context *ctx = new_context(fact("http"));
    dbss_operation *operation = new_operation();
    struct call call = {TO_MEMORY, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};

    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    free_call(&call);
    dbss_operation_cancel(operation);
    /* The call is over, and its result stays. */
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

/* By the handler of a signal that strikes the very thread of the call. */
static void cancel_from_signal_handler(void)
{
    static const int flags[] = {0, SA_RESTART};
    size_t i;
    for (i = 0; i < 2; i++) {
        struct report report = new_report(10000);
        dbss_context *ctx = new_context(fact("http"));
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

/* All calls of one context, with an operation or without, in several phases;
 * not those of another, nor those to come. */
static void cancel_all(void)
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
    dbss_config *config = new_config(fact("http"), fact("token"));
    dbss_context *ctx, *other = new_context(fact("http"));
    dbss_operation *operation = new_operation();
    long long start;
    int i;

    set(config, "max_attempts", "2");
    ctx = to_context(config);
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
    /* Neither the context nor the operation stays cancelled. */
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

/* Two counters: of ticks, and of destructions. */
static int32_t go_on(void *user_data, const dbss_operation *operation)
{
    int **both = user_data;
    add_locked(both[0], 1);
    CHECK(dbss_operation_received(operation) >= 0);
    return 0;
}

static void destroy_both(void *user_data)
{
    int **both = user_data;
    add_locked(both[1], 1);
}

static void count_destroyed(void *user_data)
{
    add_locked(user_data, 1);
}

/* The operation, its callback and the context are all freed in the middle. */
static void free_operation_during_call(void)
{
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        struct report report = new_report(300000);
        dbss_context *ctx = new_context(fact("http"));
        dbss_operation *operation = new_operation();
        struct call call = {sink, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
        int ticks = 0, destroyed = 0, before;
        int *both[2];

        both[0] = &ticks;
        both[1] = &destroyed;
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, go_on, both, destroy_both));
        post_fault(report.id, "\"drip\": {\"bytes\": 100000, \"every_ms\": 150}");
        start_call(&call);
        WAIT_FOR(dbss_operation_received(operation) > 0);
        dbss_operation_free(operation);
        dbss_context_free(ctx);
        /* It is still told. */
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

static void destroy_exactly_once(void)
{
    dbss_operation *operation = new_operation();
    dbss_config *config = new_config(fact("http"), fact("token"));
    dbss_context *ctx;
    int destroyed[8] = {0}, i;

    EXPECT_NULL("operation", dbss_operation_set_progress(NULL, go_on, &destroyed[0], count_destroyed));
    CHECK(destroyed[0] == 1);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, go_on, &destroyed[1], count_destroyed));
    CHECK(destroyed[1] == 0);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, go_on, &destroyed[2], count_destroyed));
    CHECK(destroyed[1] == 1 && destroyed[2] == 0);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, NULL, &destroyed[3], count_destroyed));
    CHECK(destroyed[2] == 1 && destroyed[3] == 1);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, go_on, &destroyed[4], count_destroyed));
    dbss_operation_free(operation);
    CHECK(destroyed[4] == 1);
    CHECK(dbss_operation_new(NULL) == DBSS_ERR_NULL_ARGUMENT);
    for (i = 0; i < 5; i++)
        CHECK(destroyed[i] == 1);

    /* A log callback lives as long as the last that was made with it. */
    memset(destroyed, 0, sizeof destroyed);
    EXPECT_NULL("config", dbss_config_set_log(NULL, write_log, &destroyed[0], count_destroyed));
    CHECK(destroyed[0] == 1);
    EXPECT(DBSS_OK, dbss_config_set_log(config, write_log, &destroyed[1], count_destroyed));
    EXPECT(DBSS_OK, dbss_config_set_log(config, write_log, &destroyed[2], count_destroyed));
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

/* In the middle of a call, everything else is refused on its operation. The
 * errors are there as outside, and not those of the call around. */
struct meddling {
    dbss_operation *operation;
    dbss_context *ctx;
    const char *id;
    int done, destroyed;
    long connections;
};

static int32_t meddle(void *user_data, const dbss_operation *operation)
{
    struct meddling *meddling = user_data;
    dbss_buffer report = {(uint8_t *)meddling, 1};
    dbss_report_stream *stream = (dbss_report_stream *)meddling;
    dbss_error *error;

    CHECK(operation == meddling->operation);
    if (meddling->done++ > 0)
        return 0;
    CHECK(dbss_last_error() == NULL);
    EXPECT(DBSS_ERR_BUSY, dbss_operation_set(meddling->operation, "max_attempts", "2"));
    EXPECT(DBSS_ERR_BUSY, dbss_operation_reset(meddling->operation));
    EXPECT(DBSS_ERR_BUSY,
           dbss_operation_set_progress(meddling->operation, NULL, &meddling->destroyed, count_destroyed));
    CHECK(meddling->destroyed == 1);
    EXPECT(DBSS_ERR_BUSY, dbss_report_download_to_memory(meddling->ctx, fact("project"), fact("instance"), meddling->id,
                                                         NULL, meddling->operation, &report));
    CHECK(report.data == NULL && report.len == 0);
    EXPECT(DBSS_ERR_BUSY, dbss_report_open(meddling->ctx, fact("project"), fact("instance"), meddling->id, NULL,
                                           meddling->operation, &stream));
    CHECK(stream == NULL);
    EXPECT_NULL("config", dbss_config_set(NULL, "x", "y"));
    error = dbss_error_take();
    CHECK(dbss_error_status(error) == DBSS_ERR_NULL_ARGUMENT && dbss_last_error() == NULL);
    dbss_error_free(error);
    error = dbss_operation_error(operation);
    CHECK(error == NULL);
    dbss_error_free(error);
    CHECK(count_connections() == meddling->connections);
    /* A whole other call is allowed. */
    EXPECT(DBSS_OK, dbss_report_download(meddling->ctx, fact("project"), fact("instance"), meddling->id, NULL, &report));
    CHECK(report.len > 1000);
    dbss_buffer_free(&report);
    /* It must not become that of the call around. */
    EXPECT_NULL("config", dbss_config_set(NULL, "x", "y"));
    return 0;
}

static void calls_inside_callbacks(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fact("http"));
    dbss_operation *operation = new_operation();
    struct meddling meddling = {NULL, NULL, NULL, 0, 0, 0};
    dbss_buffer buffer;

    meddling.operation = operation;
    meddling.ctx = ctx;
    meddling.id = fact("pdf");
    meddling.connections = count_connections();
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, meddle, &meddling, NULL));
    EXPECT(DBSS_OK, dbss_report_download_to_memory(ctx, fact("project"), fact("instance"), report.id, "en-us", operation,
                                                   &buffer));
    CHECK(dbss_last_error() == NULL && meddling.done >= 2 && meddling.destroyed == 1);
    CHECK(buffer.len == report.len && memcmp(buffer.data, report.bytes, buffer.len) == 0);
    dbss_buffer_free(&buffer);

    /* The failure that the caller sees is that of its own call. */
    post_fault(report.id, "\"status\": 404");
    meddling.done = meddling.destroyed = 0;
    meddling.connections = count_connections();
    EXPECT(DBSS_ERR_NOT_FOUND, dbss_report_download_to_memory(ctx, fact("project"), fact("instance"), report.id, "en-us",
                                                              operation, &buffer));
    CHECK(dbss_error_http_status(dbss_last_error()) == 404);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

/* Another call from inside the write callback, on the same context. */
static void call_another(struct call *call)
{
    dbss_buffer other;
    if (call->len < 200000)
        return;
    call->meanwhile = NULL;
    CHECK(dbss_report_download(call->ctx, fact("project"), fact("instance"), fact("pdf"), "en-us", &other) == DBSS_OK);
    dbss_buffer_free(&other);
    CHECK(dbss_report_download(call->ctx, fact("project"), fact("instance"), fresh_id(), "en-us", &other)
          == DBSS_ERR_NOT_FOUND);
}

static void calls_inside_write_callbacks(void)
{
    struct report report = new_report(2000000);
    dbss_context *ctx = new_context(fact("http"));
    struct call call = {TO_CALLBACK, ctx, report.id, NULL, call_another, 0, NULL, NULL, 0, 0, 0, 0, 0};
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    CHECK(call.meanwhile == NULL);
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

static void write_callback_stops(void)
{
    struct report report = new_report(2000000);
    dbss_context *ctx = new_context(fact("http"));
    dbss_operation *operation = new_operation();
    int writes = 0;
    EXPECT(DBSS_ERR_CANCELLED, dbss_report_download_to_callback(ctx, fact("project"), fact("instance"), report.id, "en-us",
                                                                stop_third_write, &writes, operation));
    CHECK(writes == 3);
    /* That is the end of the call alone, not a cancel that stays. */
    writes = 10;
    EXPECT(DBSS_OK, dbss_report_download_to_callback(ctx, fact("project"), fact("instance"), report.id, "en-us",
                                                     stop_third_write, &writes, operation));
    EXPECT_NULL("write", dbss_report_download_to_callback(ctx, fact("project"), fact("instance"), report.id, "en-us", NULL,
                                                          &writes, operation));
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

static void busy(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fact("http"));
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
                     dbss_report_download_to_memory(ctx, fact("project"), fact("instance"), report.id, "en-us", operation,
                                                    &buffer));
    EXPECT_PARAMETER(DBSS_ERR_BUSY, "operation", dbss_operation_set(operation, "max_attempts", "2"));
    EXPECT_PARAMETER(DBSS_ERR_BUSY, "operation", dbss_operation_reset(operation));
    CHECK(count_connections() == connections);
    join_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    /* The calls that were refused left its result alone. */
    CHECK(dbss_operation_received(operation) == 300000 && dbss_operation_error(operation) == NULL);
    free_call(&call);

    /* A stream is a call until it is freed, read to its end or not. */
    EXPECT(DBSS_OK, dbss_report_open(ctx, fact("project"), fact("instance"), report.id, "en-us", operation, &stream));
    EXPECT(DBSS_ERR_BUSY, dbss_operation_reset(operation));
    dbss_report_stream_free(stream);
    EXPECT(DBSS_OK, dbss_operation_reset(operation));
    EXPECT(DBSS_OK, dbss_operation_set(operation, "stall_timeout_ms", "150"));
    post_fault(report.id, "\"no_answer\": true, \"times\": 1");
    EXPECT(DBSS_ERR_STALLED, dbss_report_download_to_memory(ctx, fact("project"), fact("instance"), report.id, "en-us",
                                                            operation, &buffer));
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

static void operation_options(void)
{
    dbss_operation *operation = new_operation();
    struct report report = new_report(10000);
    dbss_context *ctx = new_context(fact("http"));
    struct call call = {TO_MEMORY, ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    static const char *const keys[] = {"connect_timeout_ms", "stall_timeout_ms", "total_timeout_ms",
                                       "max_attempts", "max_memory_bytes", "file_mode"};
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
        EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, keys[i], dbss_operation_set(operation, keys[i], "99999999999999999999"));
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
    CHECK(call.took_ms >= 190 && call.took_ms < 2000);
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

#define OPEN(ctx, id, operation, stream) \
    dbss_report_open(ctx, fact("project"), fact("instance"), id, "en-us", operation, stream)

static void stream_getters(void)
{
    static const struct {
        const char *body, *json;
        int32_t format;
        const char *ending;
    } formats[] = {{"%PDF-1.7 and so on", "%PDF-1.7 and so on", DBSS_FORMAT_PDF, ".pdf"},
                   {"PK\3\4 and so on", "PK\\u0003\\u0004 and so on", DBSS_FORMAT_ZIP, ".zip"},
                   {"\1\2\3 neither this nor that", "\\u0001\\u0002\\u0003 neither this nor that", DBSS_FORMAT_UNKNOWN,
                    ".bin"},
                   {"PK\1\2\3 and so on, and so on", "PK\\u0001\\u0002\\u0003 and so on, and so on", DBSS_FORMAT_UNKNOWN,
                    ".bin"}};
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fact("http"));
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
        post_fault(report.id,
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
        blame("the body was \"%s\"", formats[i].body);
        dbss_report_stream_free(stream);
        free(name);
    }
    /* They are the last call's, and go with it. */
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

static void stream_arguments(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fact("http"));
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
    /* None of them spoilt the stream, and neither does the end of the context. */
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

/* A failure stays, with all that its error says. */
static void stream_errors_stay(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = new_context(fact("http"));
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

    /* A cancel of an open stream is a failure like others. */
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

static size_t read_so_far(const struct reader *reader)
{
    size_t value;
    pthread_mutex_lock(&lock);
    value = reader->read;
    pthread_mutex_unlock(&lock);
    return value;
}

/* While one thread reads, another is refused; when it frees the stream, the
 * read ends. */
static void stream_freed_during_read(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 4; i++) {
        struct report report = new_report(300000);
        dbss_context *ctx = new_context(fact(schemes[i % 2]));
        dbss_operation *operation = i < 2 ? new_operation() : NULL;
        struct reader reader = {NULL, DBSS_OK, 0, 0};
        pthread_t thread;
        long long start;
        char part[10];
        size_t len = 1;

        post_fault(report.id, "\"stall_after\": 200000");
        EXPECT(DBSS_OK, OPEN(ctx, report.id, operation, &reader.stream));
        thread = start_thread(read_to_the_end, &reader);
        WAIT_FOR(read_so_far(&reader) == 200000);
        /* The thread may not yet be back in its next read. */
        EXPECT_PARAMETER(DBSS_ERR_BUSY, "stream", dbss_report_stream_read(reader.stream, part, sizeof part, &len));
        CHECK(len == 0);
        start = now_ms();
        dbss_report_stream_free(reader.stream);
        CHECK(now_ms() - start < 100);
        pthread_join(thread, NULL);
        CHECK(reader.status == DBSS_ERR_CANCELLED);
        CHECK(reader.ended - start < CANCELLED_WITHIN_MS);
        if (operation != NULL) {
            /* It is free for another call, and not cancelled. */
            free(control("DELETE", "/faults", ""));
            EXPECT(DBSS_OK, OPEN(ctx, report.id, operation, &reader.stream));
            dbss_report_stream_free(reader.stream);
        }
        dbss_operation_free(operation);
        dbss_context_free(ctx);
        free_report(&report);
    }
}

/* The stall timeout is about the network: a caller may take its time between
 * two reads, and so may the reader of a pipe. */
static void slow_reader(void)
{
    struct report report = new_report(3000000);
    dbss_config *config = new_config(fact("http"), fact("token"));
    dbss_context *ctx;
    dbss_report_stream *stream;
    char *part = malloc(300000);
    size_t len = 1, got = 0;
    long long start;

    set(config, "stall_timeout_ms", "150");
    ctx = to_context(config);
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

static void several_addresses(void)
{
    static const char *const lists[] = {
        "127.0.0.1",
        /* The mock service listens at none of the first. */
        "127.0.0.2 127.0.0.3 127.0.0.1",
        "::1 127.0.0.1",
    };
    struct report report = new_report(10000);
    size_t i;
    for (i = 0; i < sizeof lists / sizeof *lists; i++) {
        char *url = format("http://several.test:%s", port_of(fact("http")));
        dbss_config *config = new_config(url, fact("token"));
        struct call call = {TO_MEMORY, NULL, report.id, NULL, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
        int lookups = lookups_begun(), j;

        set(config, "allow_plaintext", "true");
        call.ctx = to_context(config);
        answer_lookups_with(lists[i]);
        for (j = 0; j < 3; j++) {
            make_call(&call);
            CHECK_CALL(DBSS_OK, &call, &report);
            free_call(&call);
        }
        /* A look-up for a new connection, and none for one that is kept. */
        CHECK(lookups_begun() == lookups + 1);
        blame("the addresses were %s", lists[i]);
        dbss_context_free(call.ctx);
        free(url);
    }
    answer_lookups_with("127.0.0.1");
    free_report(&report);
}

/* An address that never answers does not eat the time of the next. */
static void address_that_never_answers(void)
{
    char *url = format("http://several.test:%s", port_of(fact("never_accepts")));
    dbss_config *config = new_config(url, fact("token"));
    dbss_context *ctx;
    dbss_buffer buffer;
    long long start = now_ms();

    set(config, "allow_plaintext", "true");
    set(config, "connect_timeout_ms", "600");
    ctx = to_context(config);
    answer_lookups_with("127.0.0.1 127.0.0.2");
    /* The second refuses at once, and the first may still answer. */
    EXPECT(DBSS_ERR_CONNECT, dbss_report_download(ctx, fact("project"), fact("instance"), fact("pdf"), NULL, &buffer));
    CHECK(now_ms() - start >= 590 && now_ms() - start < 3000);
    start = now_ms();
    answer_lookups_with("127.0.0.1");
    EXPECT(DBSS_ERR_CONNECT_TIMEOUT,
           dbss_report_download(ctx, fact("project"), fact("instance"), fact("pdf"), NULL, &buffer));
    CHECK(now_ms() - start >= 590 && now_ms() - start < 3000);
    start = now_ms();
    stall_lookups();
    EXPECT(DBSS_ERR_CONNECT_TIMEOUT,
           dbss_report_download(ctx, fact("project"), fact("instance"), fact("pdf"), NULL, &buffer));
    CHECK(now_ms() - start >= 590 && now_ms() - start < 3000);
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_begun());
    dbss_context_free(ctx);
    free(url);
}

static int silent[8], silent_count;

static struct sockaddr_in address_of(const char *host, const char *port)
{
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(port));
    address.sin_addr.s_addr = inet_addr(host);
    return address;
}

/* Somebody who listens there and never answers: whoever comes waits. */
static void make_silent(const char *host, const char *port)
{
    struct sockaddr_in address = address_of(host, port);
    int listener = socket(AF_INET, SOCK_STREAM, 0), i, one = 1;
    silent[silent_count++] = listener;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 0) != 0)
        fatal("cannot listen at %s:%s", host, port);
    for (i = 0; i < 2; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        silent[silent_count++] = client;
        (void)connect(client, (struct sockaddr *)&address, sizeof address);
    }
}

static void end_silent(void)
{
    while (silent_count > 0)
        close(silent[--silent_count]);
}

static void ignore(int fd)
{
    (void)fd;
}

/* One that is dead costs a quarter of a second, and no thread. */
static void dead_address_before_a_good_one(void)
{
    struct report report = new_report(10000);
    char *url = format("http://several.test:%s", port_of(fact("http")));
    dbss_config *config = new_config(url, fact("token"));
    struct call call = {TO_MEMORY, NULL, report.id, NULL, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    int descriptors, lookups;
    long long start;

    make_silent("127.0.0.2", port_of(fact("http")));
    make_silent("127.0.0.3", port_of(fact("http")));
    set(config, "allow_plaintext", "true");
    call.ctx = to_context(config);
    answer_lookups_with("127.0.0.2 127.0.0.1");
    descriptors = each_descriptor(ignore);
    start = now_ms();
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    CHECK(now_ms() - start >= 200 && now_ms() - start < 1500);
    free_call(&call);
    dbss_context_free(call.ctx);

    /* Two dead ones cost twice that; one that refuses costs nothing. */
    config = new_config(url, fact("token"));
    set(config, "allow_plaintext", "true");
    call.ctx = to_context(config);
    answer_lookups_with("127.0.0.2 127.0.0.4 127.0.0.3 127.0.0.1");
    start = now_ms();
    make_call(&call);
    CHECK_CALL(DBSS_OK, &call, &report);
    CHECK(now_ms() - start >= 400 && now_ms() - start < 2000);
    free_call(&call);
    dbss_context_free(call.ctx);
    CHECK(each_descriptor(ignore) == descriptors);

    /* A cancel ends the wait for all of them. */
    config = new_config(url, fact("token"));
    set(config, "allow_plaintext", "true");
    call.ctx = to_context(config);
    call.operation = new_operation();
    answer_lookups_with("127.0.0.2 127.0.0.3");
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
    CHECK(each_descriptor(ignore) == descriptors);
    answer_lookups_with("127.0.0.1");
    end_silent();
    free(url);
    free_report(&report);
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"cancel_everywhere", cancel_everywhere, TLS},
    {"cancel_all_everywhere", cancel_all_everywhere, TLS},
    {"close_everywhere", close_everywhere, LOAD},
    {"stop_everywhere", stop_everywhere, TLS},
    {"cancel_by_callback_everywhere", cancel_by_callback_everywhere, TLS},
    {"ticks_everywhere", ticks_everywhere, LOAD},
    {"first_and_last_tick", first_and_last_tick, PLAIN},
    {"cancel_before", cancel_before, PLAIN},
    {"cancel_after", cancel_after, PLAIN},
    {"cancel_from_signal_handler", cancel_from_signal_handler, PLAIN},
    {"cancel_all", cancel_all, PLAIN},
    {"free_operation_during_call", free_operation_during_call, PLAIN},
    {"destroy_exactly_once", destroy_exactly_once, PLAIN},
    {"calls_inside_callbacks", calls_inside_callbacks, PLAIN},
    {"calls_inside_write_callbacks", calls_inside_write_callbacks, PLAIN},
    {"write_callback_stops", write_callback_stops, PLAIN},
    {"busy", busy, PLAIN},
    {"operation_options", operation_options, LOAD},
    {"stream_getters", stream_getters, PLAIN},
    {"stream_arguments", stream_arguments, PLAIN},
    {"stream_errors_stay", stream_errors_stay, PLAIN},
    {"stream_freed_during_read", stream_freed_during_read, TLS},
    {"slow_reader", slow_reader, PLAIN},
    {"several_addresses", several_addresses, PLAIN},
    {"address_that_never_answers", address_that_never_answers, LOAD},
    {"dead_address_before_a_good_one", dead_address_before_a_good_one, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
