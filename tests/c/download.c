/* Broken transfers on many threads, and breaks at random offsets: they must never give
 * wrong bytes, or those of others. */

#include "calls.h"

#include <sched.h>

static dbss_context *shared_context;

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
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    rounds = wanted != NULL ? atoi(wanted) : 120;
    set_option(config, "max_attempts", "10");
    shared_context = new_context_from(config);
    run_in_threads(12, cut_until_done, NULL, 0);
    /* Enough rounds resumed, and enough failed. */
    CHECK(resumed_rounds > rounds / 5);
    CHECK(refused_rounds > rounds / 20);
}

enum { TENANTS = 3, REPORTS = 4, THREADS = 24, SIZE = 40000 };

static struct tenant {
    dbss_context *ctx;
    struct report reports[REPORTS];
} tenants[TENANTS];

static long calls_of_each;

/* Cancels the call at an offset. */
static int32_t cancel_at(void *user_data, const dbss_operation *operation)
{
    return dbss_operation_received(operation) >= *(long *)user_data;
}

/* The first tenant also cancels all its calls now and then. All calls that nobody
 * cancels succeed. */
static void *run_tenant(void *argument)
{
    static const char *const faults[] = {
        "\"status\": 503, \"headers\": [[\"Retry-After\", \"0\"]]",
        "\"reset_before_response\": true",
        "\"reset_after\": 20000",
        "\"cut_after\": 100",
        "\"cut_random\": {\"seed\": 5, \"least\": 1000, \"most\": 39000}",
        "\"framing\": \"chunked\"",
        "\"drip\": {\"bytes\": 10000, \"every_ms\": 5}",
        "\"stall_after\": 10000",
    };
    struct tenant *tenant = argument;
    unsigned seed = (unsigned)(now_ms() ^ getpid() ^ (long)pthread_self());
    for (long number = 0; number < calls_of_each && !has_failed(); number++) {
        const struct report *report = &tenant->reports[rand_r(&seed) % REPORTS];
        struct call call = {.sink = rand_r(&seed) % SINKS, .ctx = tenant->ctx, .id = report->id};
        long cancel_offset = rand_r(&seed) % SIZE;
        int chance = rand_r(&seed) % 100;
        if (chance < 20) {
            call.operation = new_operation();
            OK(dbss_operation_set_progress(call.operation, cancel_at, &cancel_offset, NULL));
        } else if (chance < 50) {
            post_fault(report->id, "%s, \"times\": 1", faults[rand_r(&seed) % COUNT(faults)]);
        } else if (chance == 50 && tenant == tenants) {
            dbss_context_cancel_all(tenant->ctx);
        }
        make_call(&call);
        CHECK_CALL(call.operation == NULL && tenant != tenants ? DBSS_OK : call.status, &call, report);
        if (call.operation != NULL)
            drop(call.operation);
    }
    return NULL;
}

/* Each thread makes calls of one tenant. */
static void *run_tenant_of_thread(void *index)
{
    return run_tenant(&tenants[*(int *)index % TENANTS]);
}

static void run_tenants(long count)
{
    int indices[THREADS];
    for (int i = 0; i < THREADS; i++)
        indices[i] = i;
    calls_of_each = count / THREADS;
    run_in_threads(THREADS, run_tenant_of_thread, indices, sizeof *indices);
}

static void set_up_tenants(void)
{
    for (int i = 0; i < TENANTS; i++) {
        const char *token = text("token-of-tenant-%d-%s", i, fresh_id());
        dbss_config *config = new_config(fixture(scheme), token);
        add_token(token);
        set_option(config, "max_attempts", "20");
        set_option(config, "stall_timeout_ms", "1000");
        tenants[i].ctx = new_context_from(config);
        for (int j = 0; j < REPORTS; j++)
            tenants[i].reports[j] = new_report(SIZE);
    }
    /* Opens connections that later calls reuse. */
    run_tenants(THREADS);
}

NAMED_CHECKS(tenants_get_only_their_bytes, LOAD, LOAD)
{
    set_up_tenants();
    run_tenants(8 * THREADS + 40 * soak_factor());
}

static int run_tenants_briefly(void *unused)
{
    run_tenants(THREADS + 20 * soak_factor());
    return has_failed();
}

/* Parent and child both use the same contexts. */
NAMED_CHECK(tenants_after_fork_get_only_their_bytes, LOAD)
{
    pid_t child;
    set_up_tenants();
    child = start_child(run_tenants_briefly, NULL);
    run_tenants_briefly(NULL);
    CHECK(wait_for_long_child(child) == 0);
}

/* The exit code if this machine allows no namespace. */
#define NO_NAMESPACE 77

static int (*body_of_pid_one)(void *);

static int be_pid_one(void *unused)
{
    CHECK(getpid() == 1);
    return body_of_pid_one(unused);
}

static int start_pid_one(void *unused)
{
    if (unshare(geteuid() == 0 ? CLONE_NEWPID : CLONE_NEWUSER | CLONE_NEWPID) != 0)
        return NO_NAMESPACE;
    return wait_for_long_child(start_child(be_pid_one, unused));
}

/* Starts a process whose child has the id 1 in a new namespace and runs `body`.
 * The process exits as that child does. */
static pid_t start_in_pid_namespace(int (*body)(void *))
{
    body_of_pid_one = body;
    return start_child(start_pid_one, NULL);
}

/* Two processes have the id 1, and both use what their parent opened. */
static int run_beside_another_pid_one(void *unused)
{
    pid_t other;
    run_tenants(THREADS);
    other = start_in_pid_namespace(run_tenants_briefly);
    run_tenants_briefly(NULL);
    CHECK(wait_for_long_child(other) == 0);
    return has_failed();
}

NAMED_CHECK(tenants_in_pid_namespaces_get_only_their_bytes, LOAD)
{
    int outcome;
    set_up_tenants();
    outcome = wait_for_long_child(start_in_pid_namespace(run_beside_another_pid_one));
    if (outcome == NO_NAMESPACE)
        skip_check("this machine allows no PID namespace");
    else
        CHECK(outcome == 0);
}
