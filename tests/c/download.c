/*
 * Broken transfers on many threads, and breaks at random offsets: they must never give
 * wrong bytes.
 */

#include "calls.h"

static dbss_context *shared_context;

static void share_context(const char *attempts)
{
    dbss_config *config = new_config(fixture(scheme), fixture("token"));
    set_option(config, "max_attempts", attempts);
    shared_context = new_context_from(config);
}

static unsigned long long mix_bits(unsigned long long x)
{
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static int next_round, rounds, resumed_rounds, refused_rounds;

/* One transfer that breaks up to three times at random offsets. */
static void run_random_round(int number)
{
    static const char *const tags[] = {"", ", \"weak_etag\": true", ", \"no_etag\": true"};
    static const char *const framings[] = {"length", "chunked"};
    static const size_t sizes[8] = {6000, 20000, 66000, 131072, 300000, 1000000, 1500000, 3000000};
    unsigned long long random = mix_bits((unsigned long long)number);
    /* Half of the rounds have a strong validator. */
    int tag = number / SINKS % 4 % 3, times = 1 + (int)(random % 3);
    struct call call = {.sink = number % SINKS, .ctx = shared_context, .operation = new_operation()};
    struct report report = new_report(sizes[random / 3 % 8]);
    const char *fault =
        text("\"cut_random\": {\"seed\": %d, \"least\": 0, \"most\": %lu}, \"times\": %d, \"framing\": \"%s\"%s",
             number, (unsigned long)(report.len + report.len / 8), times, framings[random / 24 % 2], tags[tag]);

    post_fault(report.id, "%s", fault);
    if (tag != 0)
        post_fault(report.id, "%s", tags[tag] + 2);
    call.id = report.id;
    make_call(&call);
    if (tag == 0 || can_restart(call.sink))
        CHECK(call.status == DBSS_OK);
    else if (call.status != DBSS_OK)
        CHECK(call.status == DBSS_ERR_TRUNCATED || call.status == DBSS_ERR_NOT_RESUMABLE);
    CHECK_CALL(call.status, &call, &report);
    add_failure_context("round %d: %s, to %s", number, fault, sink_names[call.sink]);
    add_locked(&resumed_rounds, dbss_operation_resumed(call.operation) > 0);
    add_locked(&refused_rounds, call.status != DBSS_OK);
    drop(call.operation);
    drop(report.bytes);
}

static void *cut_until_done(void *unused)
{
    for (;;) {
        int number;
        pthread_mutex_lock(&lock);
        number = next_round++;
        pthread_mutex_unlock(&lock);
        if (number >= rounds)
            return NULL;
        run_random_round(number);
    }
}

/* Runs many rounds at once, as most of the time is spent in pauses between attempts.
 * DBSS_TEST_ROUNDS sets their number. */
NAMED_CHECK(random_cuts_give_right_bytes, LOAD)
{
    const char *wanted = getenv("DBSS_TEST_ROUNDS");
    rounds = wanted != NULL ? atoi(wanted) : 120;
    share_context("10");
    run_in_threads(12, cut_until_done, NULL, 0);
    /* Enough rounds resumed, and enough failed. */
    CHECK(resumed_rounds > rounds / 5);
    CHECK(refused_rounds > rounds / 20);
}

static int calls_cancelled, calls_done;

static void *run_faulty_calls(void *argument)
{
    static const char *const faults[] = {
        "\"status\": 503, \"headers\": [[\"Retry-After\", \"0\"]], \"times\": 1",
        "\"reset_before_answer\": true, \"times\": 1",
        "\"cut_random\": {\"seed\": 5, \"least\": 1000, \"most\": 250000}, \"times\": 1",
        "\"framing\": \"chunked\", \"times\": 1",
        "\"drip\": {\"bytes\": 50000, \"every_ms\": 5}, \"times\": 1",
        "\"stall_after\": 100000, \"times\": 1",
    };
    struct report report = new_report(300000);
    struct call call = {.ctx = shared_context, .id = report.id, .operation = new_operation()};
    for (int i = 0; i < 6; i++) {
        int number = *(int *)argument + i, fault = number % 6;
        call.sink = number % SINKS;
        post_fault(report.id, "%s", faults[fault]);
        if (fault == 5) {
            /* This one would stall for a minute, so it is cancelled. The reset
             * clears the byte count of the last call. */
            OK(dbss_operation_reset(call.operation));
            start_call(&call);
            WAIT_FOR(dbss_operation_received(call.operation) >= 100000);
            dbss_operation_cancel(call.operation);
            join_call(&call);
            CHECK_CALL(DBSS_ERR_CANCELLED, &call, &report);
            OK(dbss_operation_reset(call.operation));
        } else {
            make_call(&call);
            CHECK_CALL(DBSS_OK, &call, &report);
        }
        add_locked(&calls_cancelled, fault == 5);
        add_locked(&calls_done, 1);
    }
    return NULL;
}

NAMED_CHECKS(faults_on_many_threads_give_right_bytes, LOAD, LOAD)
{
    enum { MANY = 64 };
    int numbers[MANY];
    for (int i = 0; i < MANY; i++)
        numbers[i] = i;
    share_context("5");
    calls_cancelled = calls_done = 0;
    run_in_threads(MANY, run_faulty_calls, numbers, sizeof *numbers);
    CHECK(calls_done == MANY * 6 && calls_cancelled == MANY);
}
