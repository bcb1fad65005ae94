/*
 * Signals that end a call: the option "interruptible". See checks.h for how to run
 * the checks.
 */

#define _XOPEN_SOURCE 700 /* for setitimer() */

#include "calls.h"
#include "resolver.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* A signal ends a call within 250 ms. The margin is for a busy machine. */
#define INTERRUPTED_WITHIN_MS 500

static volatile sig_atomic_t signals_handled;

static void count_signal(int number)
{
    (void)number;
    signals_handled++;
}

/* Calls must be interruptible with and without SA_RESTART. */
static void install_handler(int number, int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = count_signal;
    action.sa_flags = flags;
    if (sigaction(number, &action, NULL) != 0)
        fatal("cannot install the handler");
    signals_handled = 0;
}

static void restore_default_action(int number)
{
    signal(number, SIG_DFL);
}

/* ---------------------------------------------------------------------------
 * Waiting calls, and tests for the phase that they reached
 * ------------------------------------------------------------------------ */

static struct report report;
static char *instance, *not_ready, *stalling;
static int ticks, retries_logged, calls_finished, tokens_requested;
static dbss_token_request *request_for_token;

static int32_t count_tick(void *user_data, const dbss_operation *operation)
{
    (void)user_data;
    (void)operation;
    add_locked(&ticks, 1);
    return 0;
}

static void count_log(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    if (dbss_log_record_retry_delay_ms(record) >= 0)
        add_locked(&retries_logged, 1);
}

/* Never completes the request. */
static void keep_request(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    request_for_token = request;
    add_locked(&tokens_requested, 1);
}

struct waiting {
    const struct phase *phase;
    dbss_context *ctx;
    dbss_operation *operation;
    dbss_status status;
    dbss_error *error;
    sigset_t before, after;
    long long ended_ms;
    int lookups;
    long connections, requests;
};

static dbss_status download(struct waiting *waiting)
{
    dbss_buffer buffer;
    dbss_status status = dbss_report_download_to_memory(waiting->ctx, fixture("project"), fixture("instance"),
                                                        report.id, NULL, waiting->operation, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status read_stream(struct waiting *waiting)
{
    static char part[65536];
    dbss_report_stream *stream;
    size_t len = 1;
    dbss_status status = dbss_report_open(waiting->ctx, fixture("project"), fixture("instance"), report.id, NULL,
                                          waiting->operation, &stream);
    while (status == DBSS_OK && len > 0)
        status = dbss_report_stream_read(stream, part, sizeof part, &len);
    dbss_report_stream_free(stream);
    return status;
}

/* Writes to a pipe that nobody reads. */
static dbss_status write_to_pipe(struct waiting *waiting)
{
    int ends[2];
    dbss_status status;
    if (pipe(ends) != 0)
        fatal("cannot create a pipe");
    status = dbss_report_download_to_fd(waiting->ctx, fixture("project"), fixture("instance"), report.id, NULL, ends[1],
                                        waiting->operation);
    close(ends[0]);
    close(ends[1]);
    return status;
}

static dbss_status wait_for_report(struct waiting *waiting)
{
    return dbss_report_wait(waiting->ctx, fixture("project"), instance, not_ready, waiting->operation);
}

static dbss_status mirror(struct waiting *waiting)
{
    char *directory = new_directory();
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = NULL;
    dbss_status status;
    if (dbss_mirror_options_new(&options) != DBSS_OK
        || dbss_mirror_options_set(options, "instance", instance) != DBSS_OK)
        fatal("cannot create mirror options");
    status = dbss_reports_mirror(waiting->ctx, fixture("project"), directory, options, waiting->operation, &result);
    dbss_mirror_result_free(result);
    dbss_mirror_options_free(options);
    remove_tree(directory);
    free(directory);
    return status;
}

static int has_started_lookup(const struct waiting *waiting)
{
    return lookups_started() > waiting->lookups;
}

static int has_started_attempt(const struct waiting *waiting)
{
    return dbss_operation_attempts(waiting->operation) > 0;
}

static int is_connected(const struct waiting *waiting)
{
    return count_connections() > waiting->connections;
}

static int has_sent_request(const struct waiting *waiting)
{
    return count_requests(report.id) > waiting->requests;
}

static int has_bytes(const struct waiting *waiting)
{
    return dbss_operation_received(waiting->operation) > 0;
}

static int is_waiting_to_retry(const struct waiting *waiting)
{
    (void)waiting;
    return read_locked(&retries_logged) > 0;
}

static int has_requested_token(const struct waiting *waiting)
{
    (void)waiting;
    return read_locked(&tokens_requested) > 0;
}

static int is_polling(const struct waiting *waiting)
{
    return dbss_operation_percent(waiting->operation) == 20;
}

/* In each phase a call would wait for a minute. */
static const struct phase {
    const char *name, *endpoint, *fault;
    dbss_status (*call)(struct waiting *);
    int (*has_reached_phase)(const struct waiting *);
} phases[] = {
    {"the look-up", "http://stalled.test:1", NULL, download, has_started_lookup},
    {"connecting", "never_accepts", NULL, download, has_started_attempt},
    {"the TLS handshake", "https", "handshake", download, is_connected},
    {"the header", "http", "\"no_answer\": true", download, has_sent_request},
    {"the header over TLS", "https", "\"no_answer\": true", download, has_sent_request},
    {"the body", "http", "\"stall_after\": 100000", download, has_bytes},
    {"a slow body", "http", "\"drip\": {\"bytes\": 1, \"every_ms\": 20}", download, has_bytes},
    {"a fast body", "http", "\"fill\": {\"size\": 1000000000}", download, has_bytes},
    {"a stream", "http", "\"stall_after\": 100000", read_stream, has_bytes},
    {"a pipe", "http", NULL, write_to_pipe, has_bytes},
    {"a token", "http", NULL, download, has_requested_token},
    {"backoff", "http", "\"status\": 503, \"headers\": [[\"Retry-After\", \"50\"]]", download, is_waiting_to_retry},
    {"waiting for a report", "http", NULL, wait_for_report, is_polling},
    {"a mirror", "http", "\"stall_after\": 100000", mirror, has_bytes},
};
#define PHASES (sizeof phases / sizeof *phases)

static void *run_call(void *argument)
{
    struct waiting *waiting = argument;
    pthread_sigmask(SIG_SETMASK, NULL, &waiting->before);
    waiting->status = waiting->phase->call(waiting);
    waiting->ended_ms = now_ms();
    waiting->error = dbss_error_take();
    pthread_sigmask(SIG_SETMASK, NULL, &waiting->after);
    add_locked(&calls_finished, 1);
    return NULL;
}

static dbss_context *context_of(const struct phase *phase)
{
    const char *endpoint = find_fixture(phase->endpoint);
    dbss_config *config = new_config(endpoint != NULL ? endpoint : phase->endpoint, fixture("token"));
    set_option(config, "max_attempts", "3");
    set_option(config, "allow_plaintext", "true");
    set_option(config, "connect_timeout_ms", "60000");
    set_option(config, "max_memory_bytes", "2000000000");
    EXPECT(DBSS_OK, dbss_config_set_log(config, count_log, NULL, NULL));
    if (phase->has_reached_phase == has_requested_token)
        EXPECT(DBSS_OK, dbss_config_set_token_provider(config, keep_request, NULL, NULL));
    return context_from(config);
}

static void prepare_call(struct waiting *waiting, const struct phase *phase, const char *interruptible,
                         dbss_interrupt_fn interrupt)
{
    memset(waiting, 0, sizeof *waiting);
    waiting->phase = phase;
    waiting->ctx = context_of(phase);
    waiting->operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set(waiting->operation, "poll_interval_ms", "50000"));
    EXPECT(DBSS_OK, dbss_operation_set_progress(waiting->operation, count_tick, NULL, NULL));
    if (interruptible != NULL)
        EXPECT(DBSS_OK, dbss_operation_set(waiting->operation, "interruptible", interruptible));
    EXPECT(DBSS_OK, dbss_operation_set_interrupt(waiting->operation, interrupt, NULL, NULL));
    waiting->lookups = lookups_started();
    waiting->connections = count_connections();
    waiting->requests = count_requests(report.id);
    retries_logged = calls_finished = tokens_requested = 0;
    request_for_token = NULL;
    if (phase->fault != NULL && strcmp(phase->fault, "handshake") == 0)
        post_listener_fault("https", "handshake_stall");
    else if (phase->fault != NULL)
        post_fault(phase->call == mirror ? stalling : report.id, "%s, \"times\": 1", phase->fault);
}

/* Starts a call on another thread and waits until it has reached its phase. */
static pthread_t start_waiting_call(struct waiting *waiting, const struct phase *phase, const char *interruptible,
                                    dbss_interrupt_fn interrupt)
{
    pthread_t thread;
    prepare_call(waiting, phase, interruptible, interrupt);
    thread = start_thread(run_call, waiting);
    WAIT_FOR(phase->has_reached_phase(waiting));
    return thread;
}

static void check_outcome(struct waiting *waiting, dbss_status expected)
{
    int number, changed = 0;
    if (waiting->status != expected)
        fail_check("expected %s, got %s (%s)", dbss_status_name(expected), dbss_status_name(waiting->status),
                   dbss_error_message(waiting->error));
    /* The signal mask of the thread is unchanged. */
    for (number = 1; number < 32; number++)
        changed |= sigismember(&waiting->before, number) != sigismember(&waiting->after, number);
    CHECK(!changed);
    add_failure_context("phase: %s", waiting->phase->name);
    dbss_token_request_free(request_for_token);
    dbss_error_free(waiting->error);
    dbss_operation_free(waiting->operation);
    dbss_context_free(waiting->ctx);
    free(control("DELETE", "/faults", ""));
    free(control("DELETE", "/listener_faults", ""));
}

static void finish_waiting_call(struct waiting *waiting, pthread_t thread, dbss_status expected)
{
    pthread_join(thread, NULL);
    check_outcome(waiting, expected);
}

/* Adds an instance with one report that is never ready and one that stalls. */
static void set_up(void)
{
    report = new_report(300000);
    instance = add_instance();
    not_ready = format("%s", fresh_id());
    stalling = format("%s", fresh_id());
    post_control("/reports", "{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\", \"percentum\": 20}",
                 not_ready, instance);
    post_control("/reports", "{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\", \"size\": 300000}", stalling,
                 instance);
    stall_lookups();
}

static void tear_down(void)
{
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_started());
    free_report(&report);
    free(instance);
    free(not_ready);
    free(stalling);
}

/* ---------------------------------------------------------------------------
 * The checks
 * ------------------------------------------------------------------------ */

static int interrupt_calls;

static int32_t interrupt_if_signalled(void *user_data)
{
    (void)user_data;
    add_locked(&interrupt_calls, 1);
    return signals_handled > 0;
}

static int32_t never_interrupt(void *user_data)
{
    (void)user_data;
    add_locked(&interrupt_calls, 1);
    return 0;
}

static void interrupt_in_every_phase(dbss_interrupt_fn interrupt)
{
    size_t i;
    set_up();
    for (i = 0; i < PHASES; i++) {
        struct waiting waiting;
        pthread_t thread;
        long long since;
        install_handler(SIGALRM, i % 2 == 0 ? SA_RESTART : 0);
        thread = start_waiting_call(&waiting, &phases[i], "true", interrupt);
        since = now_ms();
        pthread_kill(thread, SIGALRM);
        finish_waiting_call(&waiting, thread, DBSS_ERR_INTERRUPTED);
        if (waiting.ended_ms - since > INTERRUPTED_WITHIN_MS)
            fail_check("it ended %lld ms after the signal", waiting.ended_ms - since);
        CHECK(signals_handled == 1);
        add_failure_context("phase: %s", phases[i].name);
    }
    restore_default_action(SIGALRM);
    tear_down();
}

static void signal_ends_every_phase(void)
{
    interrupt_in_every_phase(NULL);
}

static void interrupt_function_ends_every_phase(void)
{
    interrupt_calls = 0;
    interrupt_in_every_phase(interrupt_if_signalled);
    CHECK(interrupt_calls > 0);
}

static void set_timer(int ms)
{
    struct itimerval timer;
    timer.it_value.tv_sec = timer.it_interval.tv_sec = 0;
    timer.it_value.tv_usec = timer.it_interval.tv_usec = ms * 1000;
    if (setitimer(ITIMER_REAL, &timer, NULL) != 0)
        fatal("cannot create a timer");
}

/* A signal to the process interrupts the call, even if the library runs other
 * threads. */
static void timer_signal_ends_every_phase(void)
{
    enum { PERIOD_MS = 60 };
    size_t i;
    set_up();
    for (i = 0; i < PHASES; i++) {
        struct waiting waiting;
        long long since;
        install_handler(SIGALRM, SA_RESTART);
        prepare_call(&waiting, &phases[i], "true", NULL);
        since = now_ms();
        set_timer(PERIOD_MS);
        run_call(&waiting);
        set_timer(0);
        /* The first signal may come before the call can notice it. */
        if (waiting.ended_ms - since > 2 * PERIOD_MS + INTERRUPTED_WITHIN_MS)
            fail_check("it ended after %lld ms", waiting.ended_ms - since);
        check_outcome(&waiting, DBSS_ERR_INTERRUPTED);
    }
    restore_default_action(SIGALRM);
    tear_down();
}

/* Many signals, which the interrupt function ignores. */
static void ignored_signal_storm_ends_nothing(void)
{
    struct waiting waiting;
    pthread_t thread;
    int i;
    set_up();
    install_handler(SIGCHLD, 0);
    interrupt_calls = 0;
    thread = start_waiting_call(&waiting, &phases[5], "true", never_interrupt);
    for (i = 0; i < 5000; i++) {
        pthread_kill(thread, SIGCHLD);
        sched_yield();
    }
    WAIT_FOR(read_locked(&interrupt_calls) > 1);
    CHECK(!read_locked(&calls_finished));
    dbss_operation_cancel(waiting.operation);
    finish_waiting_call(&waiting, thread, DBSS_ERR_CANCELLED);
    CHECK(signals_handled > 0);
    restore_default_action(SIGCHLD);
    tear_down();
}

/* If the option is unset or false, a signal changes nothing. */
static void signal_without_option_changes_nothing(void)
{
    static const char *const values[] = {NULL, "false"};
    size_t i;
    set_up();
    install_handler(SIGALRM, 0);
    for (i = 0; i < 2 * PHASES; i++) {
        struct waiting waiting;
        pthread_t thread = start_waiting_call(&waiting, &phases[i / 2], values[i % 2], interrupt_if_signalled);
        int before = read_locked(&ticks), seen;
        interrupt_calls = 0;
        signals_handled = 0;
        pthread_kill(thread, SIGALRM);
        WAIT_FOR(signals_handled > 0);
        seen = read_locked(&ticks);
        /* The call continues: it still waits two ticks later. */
        WAIT_FOR(read_locked(&calls_finished) || read_locked(&ticks) > seen + 2);
        CHECK(!read_locked(&calls_finished) && read_locked(&ticks) > before && interrupt_calls == 0);
        dbss_operation_cancel(waiting.operation);
        finish_waiting_call(&waiting, thread, DBSS_ERR_CANCELLED);
    }
    restore_default_action(SIGALRM);
    tear_down();
}

/* Signals at any moment, including the very start and end of a call. Either the
 * signal ends the call or the call had ended. */
static void signal_at_any_moment_is_not_lost(void)
{
    enum { CALLS = 400 };
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    unsigned int random = 4711;
    int i, interrupted = 0;
    report = new_report(300000);
    install_handler(SIGALRM, SA_RESTART);
    EXPECT(DBSS_OK, dbss_operation_set(operation, "interruptible", "true"));
    EXPECT(DBSS_OK, dbss_operation_set_interrupt(operation, interrupt_if_signalled, NULL, NULL));
    for (i = 0; i < CALLS && !has_failed(); i++) {
        struct sigevent event;
        struct itimerspec when;
        timer_t timer;
        dbss_buffer buffer;
        dbss_status status;
        long long start;
        signals_handled = 0;
        random = random * 1103515245u + 12345u;
        memset(&event, 0, sizeof event);
        memset(&when, 0, sizeof when);
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = SIGALRM;
        when.it_value.tv_nsec = 1 + (long)(random >> 8) % 700000;
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 || timer_settime(timer, 0, &when, NULL) != 0)
            fatal("cannot create a timer");
        /* Every second call would stall for a minute. */
        if (i % 2 == 1)
            post_fault(report.id, "\"stall_after\": 100000, \"times\": 1");
        start = now_ms();
        status = dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), report.id, NULL,
                                                operation, &buffer);
        if (status == DBSS_ERR_INTERRUPTED)
            interrupted++;
        else
            EXPECT(DBSS_OK, status);
        if (i % 2 == 1 && signals_handled > 0)
            CHECK(status == DBSS_ERR_INTERRUPTED);
        if (now_ms() - start > WAIT_LIMIT_MS / 4)
            fail_check("a signal was lost");
        dbss_buffer_free(&buffer);
        timer_delete(timer);
        if (i % 2 == 1)
            free(control("DELETE", "/faults", ""));
    }
    CHECK(interrupted >= CALLS / 2);
    restore_default_action(SIGALRM);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

/* An interrupt function that runs longer than the signal interval. */
static int32_t never_interrupt_slowly(void *user_data)
{
    long long until = now_ms() + 3;
    (void)user_data;
    while (now_ms() < until)
        ;
    return 0;
}

static timer_t start_signal_storm(long every_ns)
{
    struct sigevent event;
    struct itimerspec when;
    timer_t timer;
    memset(&event, 0, sizeof event);
    memset(&when, 0, sizeof when);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGALRM;
    when.it_value.tv_nsec = when.it_interval.tv_nsec = every_ns;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 || timer_settime(timer, 0, &when, NULL) != 0)
        fatal("cannot create a timer");
    return timer;
}

/* Frequent signals and a slow interrupt function do not delay a timeout. */
static void signal_storm_delays_no_timeout(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    dbss_buffer buffer;
    timer_t timer;
    long long start;
    report = new_report(300000);
    install_handler(SIGALRM, SA_RESTART);
    EXPECT(DBSS_OK, dbss_operation_set(operation, "interruptible", "true"));
    EXPECT(DBSS_OK, dbss_operation_set(operation, "total_timeout_ms", "300"));
    EXPECT(DBSS_OK, dbss_operation_set_interrupt(operation, never_interrupt_slowly, NULL, NULL));
    post_fault(report.id, "\"no_answer\": true, \"times\": 1");
    timer = start_signal_storm(1000000);
    start = now_ms();
    EXPECT(DBSS_ERR_TOTAL_TIMEOUT, dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"),
                                                                  report.id, NULL, operation, &buffer));
    timer_delete(timer);
    CHECK(now_ms() - start < WAIT_LIMIT_MS / 4);
    CHECK(signals_handled > 10);
    restore_default_action(SIGALRM);
    free(control("DELETE", "/faults", ""));
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

struct nested {
    dbss_context *ctx;
    const char *id;
    int blocked;
    dbss_status status;
};

static int32_t call_in_callback(void *user_data, const dbss_operation *operation)
{
    struct nested *nested = user_data;
    sigset_t mask;
    dbss_buffer buffer;
    (void)operation;
    if (nested->status != -1)
        return 0;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    nested->blocked = sigismember(&mask, SIGALRM) || sigismember(&mask, SIGINT);
    nested->status =
        dbss_report_download(nested->ctx, fixture("project"), fixture("instance"), nested->id, NULL, &buffer);
    dbss_buffer_free(&buffer);
    return 0;
}

/* A callback runs with the host's signal mask. Nested calls are interruptible only
 * with their own option. */
static void callback_runs_with_host_signal_mask(void)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    struct report inner = new_report(300000);
    struct nested nested = {NULL, inner.id, 0, -1};
    dbss_buffer buffer;
    timer_t timer;
    report = new_report(300000);
    set_option(config, "stall_timeout_ms", "300");
    nested.ctx = context_from(config);
    install_handler(SIGALRM, 0);
    EXPECT(DBSS_OK, dbss_operation_set(operation, "interruptible", "true"));
    EXPECT(DBSS_OK, dbss_operation_set_interrupt(operation, never_interrupt, NULL, NULL));
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, call_in_callback, &nested, NULL));
    post_fault(inner.id, "\"stall_after\": 100000, \"times\": 1");
    timer = start_signal_storm(5000000);
    EXPECT(DBSS_OK, dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), report.id, NULL,
                                                   operation, &buffer));
    timer_delete(timer);
    dbss_buffer_free(&buffer);
    CHECK(!nested.blocked && signals_handled > 0);
    CHECK(nested.status == DBSS_ERR_STALLED);
    restore_default_action(SIGALRM);
    free(control("DELETE", "/faults", ""));
    dbss_operation_free(operation);
    dbss_context_free(nested.ctx);
    dbss_context_free(ctx);
    free_report(&inner);
    free_report(&report);
}

static const struct check checks[] = {
    {"signal_ends_every_phase", signal_ends_every_phase, LOAD},
    {"interrupt_function_ends_every_phase", interrupt_function_ends_every_phase, LOAD},
    {"timer_signal_ends_every_phase", timer_signal_ends_every_phase, LOAD},
    {"ignored_signal_storm_ends_nothing", ignored_signal_storm_ends_nothing, LOAD},
    {"signal_without_option_changes_nothing", signal_without_option_changes_nothing, LOAD},
    {"signal_at_any_moment_is_not_lost", signal_at_any_moment_is_not_lost, LOAD},
    {"signal_storm_delays_no_timeout", signal_storm_delays_no_timeout, LOAD},
    {"callback_runs_with_host_signal_mask", callback_runs_with_host_signal_mask, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
