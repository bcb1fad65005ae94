/*
 * Broken transfers on many threads, and breaks at random offsets: they must never give
 * wrong bytes. See checks.h for how to run the checks.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <stdlib.h>

static dbss_context *retrying_context(const char *endpoint, const char *attempts)
{
    dbss_config *config = new_config(endpoint, fixture("token"));
    set_option(config, "max_attempts", attempts);
    return context_from(config);
}

static unsigned long long mix_bits(unsigned long long x)
{
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static pthread_mutex_t round_lock = PTHREAD_MUTEX_INITIALIZER;
static int next_round, rounds, resumed_rounds, refused_rounds;
static dbss_context *shared_random_context;

/* One transfer that breaks up to three times at random offsets. */
static void run_random_round(int number)
{
    static const char *const tags[] = {"", ", \"weak_etag\": true", ", \"no_etag\": true"};
    static const char *const framings[] = {"length", "chunked"};
    static const size_t sizes[8] = {6000, 20000, 66000, 131072, 300000, 1000000, 1500000, 3000000};
    unsigned long long random = mix_bits((unsigned long long)number);
    enum sink sink = number % SINKS;
    /* Half of the rounds have a strong validator. */
    int tag = number / SINKS % 4 % 3, times = 1 + (int)(random % 3);
    struct report report;
    dbss_operation *operation = new_operation();
    struct call call = new_call(sink, shared_random_context, NULL, operation);
    char *body;

    /* These helpers are not thread-safe. */
    pthread_mutex_lock(&round_lock);
    report = new_report(sizes[random / 3 % 8]);
    pthread_mutex_unlock(&round_lock);
    body = format("\"cut_random\": {\"seed\": %d, \"least\": 0, \"most\": %lu}, \"times\": %d, \"framing\": \"%s\"%s",
                  number, (unsigned long)(report.len + report.len / 8), times, framings[random / 24 % 2], tags[tag]);
    post_fault(report.id, "%s", body);
    if (tag != 0)
        post_fault(report.id, "%s", tags[tag] + 2);
    call.id = report.id;
    make_call(&call);

    if (tag == 0 || can_restart(sink))
        CHECK_CALL(DBSS_OK, &call, &report);
    else if (call.status != DBSS_OK)
        CHECK(call.status == DBSS_ERR_TRUNCATED || call.status == DBSS_ERR_NOT_RESUMABLE);
    if (call.status == DBSS_OK ? !has_whole_report(&call, &report) : !has_report_prefix(&call, &report))
        fail_check("to %s: wrong bytes", sink_names[sink]);
    add_failure_context("round %d: %s, to %s", number, body, sink_names[sink]);
    pthread_mutex_lock(&round_lock);
    resumed_rounds += dbss_operation_resumed(operation) > 0;
    refused_rounds += call.status != DBSS_OK;
    pthread_mutex_unlock(&round_lock);
    free(body);
    free_call(&call);
    dbss_operation_free(operation);
    free_report(&report);
}

static void *cut_until_done(void *unused)
{
    (void)unused;
    for (;;) {
        int number;
        pthread_mutex_lock(&round_lock);
        number = next_round++;
        pthread_mutex_unlock(&round_lock);
        if (number >= rounds)
            return NULL;
        run_random_round(number);
    }
}

/* Runs many rounds at once, as most of the time is spent in pauses between attempts.
 * DBSS_TEST_ROUNDS sets their number. */
static void random_cuts_give_right_bytes(void)
{
    const char *wanted = getenv("DBSS_TEST_ROUNDS");
    pthread_t threads[12];
    size_t i;

    rounds = wanted != NULL ? atoi(wanted) : 120;
    next_round = resumed_rounds = refused_rounds = 0;
    shared_random_context = retrying_context(fixture("http"), "10");
    for (i = 0; i < 12; i++)
        threads[i] = start_thread(cut_until_done, NULL);
    for (i = 0; i < 12; i++)
        pthread_join(threads[i], NULL);
    /* Enough rounds resumed, and enough failed. */
    CHECK(resumed_rounds > rounds / 5);
    CHECK(refused_rounds > rounds / 20);
    dbss_context_free(shared_random_context);
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
    int number = *(int *)argument, i;
    struct report report;
    dbss_operation *operation = new_operation();

    pthread_mutex_lock(&round_lock);
    report = new_report(300000);
    pthread_mutex_unlock(&round_lock);
    for (i = 0; i < 6; i++) {
        int fault = (number + i) % 6;
        struct call call = new_call((number + i) % SINKS, shared_random_context, report.id, operation);
        post_fault(report.id, "%s", faults[fault]);
        if (fault == 5) {
            /* This one would stall for a minute, so it is cancelled. The reset
             * clears the byte count of the last call. */
            CHECK(dbss_operation_reset(operation) == DBSS_OK);
            start_call(&call);
            WAIT_FOR(dbss_operation_received(operation) >= 100000);
            dbss_operation_cancel(operation);
            join_call(&call);
            CHECK_CALL(DBSS_ERR_CANCELLED, &call, &report);
            CHECK(dbss_operation_reset(operation) == DBSS_OK);
        } else {
            make_call(&call);
            CHECK_CALL(DBSS_OK, &call, &report);
        }
        pthread_mutex_lock(&round_lock);
        calls_cancelled += fault == 5;
        calls_done++;
        pthread_mutex_unlock(&round_lock);
        free_call(&call);
    }
    dbss_operation_free(operation);
    free_report(&report);
    return NULL;
}

static void run_many_threads(const char *scheme)
{
    enum { MANY = 64 };
    pthread_t threads[MANY];
    int numbers[MANY], i;
    shared_random_context = retrying_context(fixture(scheme), "5");
    calls_cancelled = calls_done = 0;
    for (i = 0; i < MANY; i++) {
        numbers[i] = i;
        threads[i] = start_thread(run_faulty_calls, &numbers[i]);
    }
    for (i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    CHECK(calls_done == MANY * 6 && calls_cancelled == MANY);
    dbss_context_free(shared_random_context);
}

static void faults_on_many_threads_give_right_bytes(void)
{
    run_many_threads("http");
}

static void faults_on_many_threads_give_right_bytes_tls(void)
{
    run_many_threads("https");
}

static const struct check checks[] = {
    {"random_cuts_give_right_bytes", random_cuts_give_right_bytes, LOAD},
    {"faults_on_many_threads_give_right_bytes", faults_on_many_threads_give_right_bytes, LOAD},
    {"faults_on_many_threads_give_right_bytes_tls", faults_on_many_threads_give_right_bytes_tls, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
