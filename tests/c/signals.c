/* Signals that end a call: the option "interruptible". And signals that must not. */

#include "phases.h"

#include <sched.h>
#include <time.h>

/* A signal ends a call within 250 ms. The margin is for a busy machine. */
#define INTERRUPTED_WITHIN_MS 500

static volatile sig_atomic_t signals_handled;

static void count_signal(int number)
{
    signals_handled++;
}

static void restore_default_action(void *unused)
{
    signal(SIGALRM, SIG_DFL);
}

/* Calls must be interruptible with and without SA_RESTART. */
static void install_handler(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    if (sigaction(number, &action, NULL) != 0)
        fatal("cannot install the handler");
    keep(NULL, restore_default_action);
    signals_handled = 0;
}

static void delete_timer(void *timer)
{
    timer_delete(*(timer_t *)timer);
    free(timer);
}

/* Sends SIGALRM to the process after so long, and again after each such time if it
 * `repeats`, until it is dropped. */
static timer_t *start_timer(long ns, int repeats)
{
    timer_t *timer = malloc(sizeof *timer);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec when = {.it_value.tv_nsec = ns, .it_interval.tv_nsec = repeats ? ns : 0};
    if (timer_create(CLOCK_MONOTONIC, &event, timer) != 0 || timer_settime(*timer, 0, &when, NULL) != 0)
        fatal("cannot create a timer");
    return keep(timer, delete_timer);
}

static int interrupt_calls;

static int32_t interrupt_if_signalled(void *user_data)
{
    add_locked(&interrupt_calls, 1);
    return signals_handled > 0;
}

static int32_t never_interrupt(void *user_data)
{
    add_locked(&interrupt_calls, 1);
    return 0;
}

/* An interrupt function that runs longer than the signal interval. */
static int32_t never_interrupt_slowly(void *user_data)
{
    long long until = now_ms() + 3;
    while (now_ms() < until)
        continue;
    return 0;
}

static void make_interruptible(dbss_operation *operation, const char *value, dbss_interrupt_fn interrupt)
{
    if (value != NULL)
        OK(dbss_operation_set(operation, "interruptible", value));
    OK(dbss_operation_set_interrupt(operation, interrupt, NULL, NULL));
    interrupt_calls = 0;
}

static void interrupt_in_every_phase(dbss_interrupt_fn interrupt)
{
    set_up_phases();
    for (int i = 0; i < PHASES && !has_failed(); i++) {
        struct waiting *waiting = prepare_waiting(&phases[i]);
        long long since;
        install_handler(SIGALRM, count_signal, i % 2 == 0 ? SA_RESTART : 0);
        make_interruptible(waiting->work.operation, "true", interrupt);
        start_waiting(waiting);
        since = now_ms();
        pthread_kill(waiting->thread, SIGALRM);
        /* One during a callback does not end the call by itself: that for bytes, where it waits, or now
         * and then that for progress. */
        while (interrupt == NULL && !read_locked(&waiting->is_over) && now_ms() < since + WAIT_LIMIT_MS / 2)
            if (phases[i].call == download_to_callback || now_ms() > since + INTERRUPTED_WITHIN_MS)
                pthread_kill(waiting->thread, SIGALRM);
            else
                pause_briefly();
        i -= !expect_end(waiting, DBSS_ERR_INTERRUPTED, since, INTERRUPTED_WITHIN_MS);
        CHECK(signals_handled > 0 && (interrupt_calls > 0) == (interrupt != NULL));
    }
    tear_down_phases();
}

NAMED_CALL(signal_ends_every_phase, LOAD, interrupt_in_every_phase, NULL)

NAMED_CALL(interrupt_function_ends_every_phase, LOAD, interrupt_in_every_phase, interrupt_if_signalled)

/* A signal to the process interrupts the call, even if the library runs other
 * threads. */
NAMED_CHECK(timer_signal_ends_every_phase, LOAD)
{
    enum { PERIOD_MS = 60 };
    set_up_phases();
    for (int i = 0; i < PHASES && !has_failed(); i++) {
        struct waiting *waiting = prepare_waiting(&phases[i]);
        long long since = now_ms();
        timer_t *timer;
        install_handler(SIGALRM, count_signal, SA_RESTART);
        make_interruptible(waiting->work.operation, "true", NULL);
        timer = start_timer(PERIOD_MS * 1000000L, 1);
        run_waiting(waiting);
        drop(timer);
        /* The first signal may come before the call can notice it. */
        i -= !expect_end(waiting, DBSS_ERR_INTERRUPTED, since, 2 * PERIOD_MS + INTERRUPTED_WITHIN_MS);
    }
    tear_down_phases();
}

/* Many signals, which the interrupt function ignores. */
NAMED_CHECK(ignored_signal_storm_ends_nothing, LOAD)
{
    struct waiting *waiting;
    long long until;
    set_up_phases();
    install_handler(SIGALRM, count_signal, 0);
    waiting = prepare_waiting(&phases[BODY]);
    make_interruptible(waiting->work.operation, "true", never_interrupt);
    start_waiting(waiting);
    /* Far below the minute that the call waits: on a busy machine a yield takes milliseconds. */
    until = now_ms() + 10000;
    for (int i = 0; i < 5000 && now_ms() < until; i++) {
        pthread_kill(waiting->thread, SIGALRM);
        sched_yield();
    }
    WAIT_FOR(read_locked(&interrupt_calls) > 1);
    CHECK(!read_locked(&waiting->is_over) && signals_handled > 0);
    dbss_operation_cancel(waiting->work.operation);
    expect_end(waiting, DBSS_ERR_CANCELLED, now_ms(), WAIT_LIMIT_MS);
    tear_down_phases();
}

/* If the option is unset or false, a signal changes nothing. */
NAMED_CHECK(signal_without_option_changes_nothing, LOAD)
{
    set_up_phases();
    install_handler(SIGALRM, count_signal, 0);
    for (int i = 0; i < 2 * PHASES; i++) {
        struct waiting *waiting = prepare_waiting(&phases[i / 2]);
        int seen;
        make_interruptible(waiting->work.operation, i % 2 == 0 ? NULL : "false", interrupt_if_signalled);
        start_waiting(waiting);
        signals_handled = 0;
        pthread_kill(waiting->thread, SIGALRM);
        WAIT_FOR(signals_handled > 0);
        seen = read_locked(&ticks);
        /* The call continues: it still waits two ticks later. */
        WAIT_FOR(read_locked(&waiting->is_over) || read_locked(&ticks) > seen + 2);
        CHECK(!read_locked(&waiting->is_over) && interrupt_calls == 0);
        dbss_operation_cancel(waiting->work.operation);
        expect_end(waiting, DBSS_ERR_CANCELLED, now_ms(), WAIT_LIMIT_MS);
    }
    tear_down_phases();
}

/* Signals at any moment, including the very start and end of a call. Either the
 * signal ends the call or the call had ended. */
NAMED_CHECK(signal_at_any_moment_is_not_lost, LOAD)
{
    enum { CALLS = 400 };
    struct work work = new_work(new_context(fixture("http")), new_operation());
    /* The second stalls for a minute. */
    const char *ids[2] = {add_report(300000), add_report(300000)};
    unsigned int random = 4711;
    int interrupted = 0;
    post_fault(ids[1], "\"stall_after\": 100000");
    install_handler(SIGALRM, count_signal, SA_RESTART);
    make_interruptible(work.operation, "true", interrupt_if_signalled);
    for (int i = 0; i < CALLS && !has_failed(); i++) {
        timer_t *timer;
        dbss_status status;
        long long start;
        work.id = ids[i % 2];
        signals_handled = 0;
        random = random * 1103515245u + 12345u;
        timer = start_timer(1 + (long)(random >> 8) % 700000, 0);
        start = now_ms();
        status = download_to_memory(&work);
        interrupted += status == DBSS_ERR_INTERRUPTED;
        if (status != DBSS_ERR_INTERRUPTED)
            OK(status);
        if (i % 2 == 1 && signals_handled > 0)
            CHECK(status == DBSS_ERR_INTERRUPTED);
        if (now_ms() - start > WAIT_LIMIT_MS / 4)
            fail_check("a signal was lost");
        drop(timer);
    }
    CHECK(interrupted >= CALLS / 2);
}

/* Frequent signals and a slow interrupt function do not delay a timeout. */
NAMED_CHECK(signal_storm_delays_no_timeout, LOAD)
{
    struct work work = new_work(new_context(fixture("http")), new_operation());
    long long start;
    timer_t *timer;
    work.id = add_report(300000);
    install_handler(SIGALRM, count_signal, SA_RESTART);
    make_interruptible(work.operation, "true", never_interrupt_slowly);
    OK(dbss_operation_set(work.operation, "total_timeout_ms", "3000"));
    post_fault(work.id, "\"no_response\": true, \"times\": 1");
    timer = start_timer(1000000, 1);
    start = now_ms();
    EXPECT(DBSS_ERR_TOTAL_TIMEOUT, download_to_memory(&work));
    drop(timer);
    CHECK(now_ms() - start < WAIT_LIMIT_MS / 4);
    CHECK(signals_handled > 10);
}

/* Without the option, calls succeed and time out under many signals as without. */
NAMED_CHECKS(signal_storm_disturbs_no_call, LOAD, LOAD)
{
    struct report large = new_report(8 << 20), silent = new_report(10000);
    dbss_config *config = new_config(fixture(scheme), fixture("token"));
    dbss_context *ctx = new_context(fixture(scheme)), *impatient;
    long long start;
    timer_t *timer;

    set_option(config, "stall_timeout_ms", "500");
    impatient = new_context_from(config);
    post_fault(silent.id, "\"no_response\": true");
    install_handler(SIGALRM, count_signal, 0);
    timer = start_timer(1000000, 1);
    for (int i = 0; i < 10; i++)
        EXPECT_CALL(DBSS_OK, &large, TO_MEMORY, ctx, NULL);
    start = now_ms();
    EXPECT_CALL(DBSS_ERR_STALLED, &silent, TO_MEMORY, impatient, NULL);
    start = now_ms() - start;
    drop(timer);
    CHECK(start >= 490 && start < 20000);
    CHECK(signals_handled > 10);
}

struct nested {
    struct work work;
    int blocked;
    dbss_status status;
};

static int32_t call_in_callback(void *user_data, const dbss_operation *operation)
{
    struct nested *nested = user_data;
    sigset_t mask;
    if (nested->status != -1)
        return 0;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    nested->blocked = sigismember(&mask, SIGALRM) || sigismember(&mask, SIGINT);
    nested->status = download(&nested->work);
    return 0;
}

/* A callback runs with the host's signal mask. Nested calls are interruptible only
 * with their own option. */
NAMED_CHECK(callback_runs_with_host_signal_mask, LOAD)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    struct work work = new_work(new_context(fixture("http")), new_operation());
    struct nested nested = {work, 0, -1};
    timer_t *timer;
    set_option(config, "stall_timeout_ms", "300");
    work.id = add_report(300000);
    nested.work.ctx = new_context_from(config);
    nested.work.id = add_report(300000);
    install_handler(SIGALRM, count_signal, 0);
    make_interruptible(work.operation, "true", never_interrupt);
    OK(dbss_operation_set_progress(work.operation, call_in_callback, &nested, NULL));
    post_fault(nested.work.id, "\"stall_after\": 100000, \"times\": 1");
    timer = start_timer(5000000, 1);
    OK(download_to_memory(&work));
    drop(timer);
    CHECK(!nested.blocked && signals_handled > 0 && nested.status == DBSS_ERR_STALLED);
}

static struct work signalled_work;
static volatile sig_atomic_t errno_kept;
static pthread_t signalled_thread;

static void cancel_in_handler(int number)
{
    errno = 12345;
    dbss_operation_cancel(signalled_work.operation);
    errno_kept = errno == 12345;
    signals_handled++;
}

static void *send_signal(void *unused)
{
    wait_for_request(signalled_work.id);
    pthread_kill(signalled_thread, SIGALRM);
    return NULL;
}

/* The signal handler runs on the call's own thread. */
NAMED_CHECK(cancel_from_signal_handler_ends_call, PLAIN)
{
    static const int flags[] = {0, SA_RESTART};
    dbss_context *ctx = new_context(fixture("http"));
    for (int i = 0; i < 2; i++) {
        long long start = now_ms();
        pthread_t thread;
        signalled_work = new_work(ctx, new_operation());
        signalled_work.id = fresh_id();
        signalled_thread = pthread_self();
        install_handler(SIGALRM, cancel_in_handler, flags[i]);
        post_fault(signalled_work.id, "\"no_response\": true");
        thread = start_thread(send_signal, NULL);
        EXPECT(DBSS_ERR_CANCELLED, download_to_memory(&signalled_work));
        pthread_join(thread, NULL);
        CHECK(signals_handled == 1 && errno_kept && now_ms() - start < WAIT_LIMIT_MS / 2);
    }
}
