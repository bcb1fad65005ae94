/*
 * Broken transfers: retries and resumption, which must never give wrong bytes. See
 * checks.h for how to run the checks.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------
 * Contexts with retries and a log
 * ------------------------------------------------------------------------ */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[65536];
static int warnings, infos;
/* Runs before the next attempt, on the thread of the call. May be NULL. */
static void (*between_attempts)(void);

static void collect_log(void *user_data, const dbss_log_record *record)
{
    int32_t level = dbss_log_record_level(record);
    size_t len;
    (void)user_data;
    pthread_mutex_lock(&log_lock);
    len = strlen(log_text);
    snprintf(log_text + len, sizeof log_text - len, "%d %s\n", (int)level, dbss_log_record_message(record));
    warnings += level == DBSS_LOG_WARNING;
    infos += level == DBSS_LOG_INFO;
    pthread_mutex_unlock(&log_lock);
    if (level == DBSS_LOG_WARNING && between_attempts != NULL)
        between_attempts();
}

static dbss_config *retrying_config(const char *endpoint, const char *attempts)
{
    dbss_config *config = new_config(endpoint, fixture("token"));
    set_option(config, "max_attempts", attempts);
    if (dbss_config_set_log(config, collect_log, NULL, NULL) != DBSS_OK)
        fatal("cannot set the log callback");
    pthread_mutex_lock(&log_lock);
    *log_text = '\0';
    warnings = infos = 0;
    pthread_mutex_unlock(&log_lock);
    between_attempts = NULL;
    return config;
}

static dbss_context *retrying_context(const char *endpoint, const char *attempts)
{
    return context_from(retrying_config(endpoint, attempts));
}

/* Makes a call to a sink. The operation may be NULL. */
static struct call call_sink(enum sink sink, dbss_context *ctx, const char *id, dbss_operation *operation)
{
    struct call call = {sink, ctx, id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    make_call(&call);
    return call;
}

/* ---------------------------------------------------------------------------
 * Resumption
 * ------------------------------------------------------------------------ */

/* The bytes that may be lost after a reset: those in the library's buffer (128 KiB).
 * After an orderly end all bytes are read. */
#define ONE_BUFFER (128 * 1024)
#define MIB (1024 * 1024)

static void check_resume(const char *scheme)
{
    static const struct {
        const char *fault;
        long long at;
    } cuts[] = {
        {"\"cut_after\": 1500000, \"times\": 1", 1500000},
        {"\"reset_after\": 1500000, \"times\": 1", 1500000},
        {"\"cut_after\": 1500000, \"framing\": \"chunked\", \"times\": 1", 1500000},
        {"\"cut_after\": 4096, \"times\": 1", 4096},
        {"\"cut_after\": 2999999, \"times\": 1", 2999999},
    };
    size_t i;
    int sink;
    for (i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        for (sink = 0; sink < SINKS; sink++) {
            struct report report = new_report(3000000);
            struct exchange seen[4];
            dbss_operation *operation = new_operation();
            dbss_context *ctx = retrying_context(fixture(scheme), "2");
            struct call call;
            long long from = -1;

            post_fault(report.id, cuts[i].fault);
            call = call_sink(sink, ctx, report.id, operation);
            if (CHECK_CALL(DBSS_OK, &call, &report)) {
                CHECK(read_request_log(&report, seen, 4) == 2);
                CHECK(*seen[0].range == '\0' && *seen[0].if_range == '\0');
                CHECK(seen[1].status == 206);
                CHECK(sscanf(seen[1].range, "bytes=%lld-", &from) == 1);
                CHECK(*seen[1].if_range == '"' && seen[1].has_token);
                /* All received bytes are used. After a reset the kernel may
                 * discard some of them. */
                CHECK(from <= cuts[i].at && from >= cuts[i].at - (i == 1 ? ONE_BUFFER : 0));
                CHECK(seen[1].range[strlen(seen[1].range) - 1] == '-');
                CHECK(seen[0].sent + seen[1].sent <= 3000000 + (i == 1 ? ONE_BUFFER : 0));
                CHECK(dbss_operation_attempts(operation) == 2);
                CHECK(dbss_operation_resumed(operation) == from);
                CHECK(dbss_operation_received(operation) == 3000000);
                CHECK(dbss_operation_total(operation) == 3000000);
                CHECK(warnings == 1 && strstr(log_text, report.id) != NULL);
                CHECK(strstr(log_text, fixture("token")) == NULL);
            }
            free_call(&call);
            dbss_context_free(ctx);
            dbss_operation_free(operation);
            free_report(&report);
        }
    }
}

static void broken_transfer_is_resumed(void)
{
    check_resume("http");
}

static void broken_transfer_is_resumed_tls(void)
{
    check_resume("https");
}

/* After each of several cuts the next attempt continues at the same offset. */
static void transfer_broken_several_times_is_resumed(void)
{
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        struct report report = new_report(3 * MIB);
        struct exchange seen[8];
        dbss_operation *operation = new_operation();
        dbss_context *ctx = retrying_context(fixture("http"), "8");
        struct call call;
        long long sent = 0;
        size_t i, count;

        post_fault(report.id, "\"cut_after\": 700000, \"times\": 3");
        call = call_sink(sink, ctx, report.id, operation);
        CHECK_CALL(DBSS_OK, &call, &report);
        count = read_request_log(&report, seen, 8);
        CHECK(count == 4 && dbss_operation_attempts(operation) == 4);
        for (i = 0; i < count && i < 8; i++) {
            char *range = i == 0 ? format("%s", "") : format("bytes=%lld-", sent);
            expect_text(__LINE__, range, seen[i].range);
            sent += seen[i].sent;
            free(range);
        }
        CHECK(sent == 3 * MIB);
        CHECK(dbss_operation_resumed(operation) == 700000 + 1400000 + 2100000);
        free_call(&call);
        dbss_context_free(ctx);
        dbss_operation_free(operation);
        free_report(&report);
    }
}

/* Without a strong validator nothing proves that the rest belongs to the same
 * report. Sinks that can restart do so, and the others fail. */
static void transfer_without_validator_is_not_resumed(void)
{
    static const char *const tags[] = {"\"weak_etag\": true", "\"no_etag\": true", "\"ranges\": false"};
    size_t i;
    int sink;
    for (i = 0; i < 3; i++) {
        for (sink = 0; sink < SINKS; sink++) {
            struct report report = new_report(600000);
            struct exchange seen[4];
            dbss_operation *operation = new_operation();
            dbss_context *ctx = retrying_context(fixture("http"), "3");
            struct call call;

            post_fault(report.id, "%s, \"cut_after\": 400000, \"times\": 1", tags[i]);
            post_fault(report.id, tags[i]);
            call = call_sink(sink, ctx, report.id, operation);
            CHECK(dbss_operation_resumed(operation) == 0);
            if (can_restart(sink)) {
                CHECK_CALL(DBSS_OK, &call, &report);
                CHECK(read_request_log(&report, seen, 4) == 2);
                CHECK((*seen[1].range != '\0') == (i == 2));
            } else {
                /* With a validator, resumption was tried. */
                CHECK_CALL(i == 2 ? DBSS_ERR_NOT_RESUMABLE : DBSS_ERR_TRUNCATED, &call, &report);
                CHECK(call.len == 400000);
                CHECK(read_request_log(&report, seen, 4) == (i == 2 ? 2 : 1));
                CHECK(dbss_error_is_retryable(call.error) == 1);
            }
            free_call(&call);
            dbss_context_free(ctx);
            dbss_operation_free(operation);
            free_report(&report);
        }
    }
}

static struct report *changing_report;

static void change_between_attempts(void)
{
    change_report(changing_report);
}

static void changed_report_is_not_resumed(void)
{
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        struct report report = new_report(600000), before = new_report(600000);
        dbss_operation *operation = new_operation();
        dbss_context *ctx = retrying_context(fixture("http"), "3");
        struct call call;

        memcpy(before.bytes, report.bytes, report.len);
        changing_report = &report;
        between_attempts = change_between_attempts;
        post_fault(report.id, "\"cut_after\": 400000, \"times\": 1");
        call = call_sink(sink, ctx, report.id, operation);
        if (can_restart(sink)) {
            CHECK_CALL(DBSS_OK, &call, &report);
            CHECK(dbss_operation_received(operation) == 600000);
        } else {
            /* No bytes of the other version. */
            CHECK_CALL(DBSS_ERR_NOT_RESUMABLE, &call, &before);
            CHECK(call.len == 400000);
        }
        CHECK(dbss_operation_attempts(operation) == 2);
        CHECK(dbss_operation_resumed(operation) == 0);
        free_call(&call);
        dbss_context_free(ctx);
        dbss_operation_free(operation);
        free_report(&before);
        free_report(&report);
    }
}

/* The server responds to the request for the rest with something else. */
static void wrong_partial_response_is_refused(void)
{
    static const char *const cases[] = {
        "\"content_range\": \"bytes 0-599999/600000\"",
        "\"content_range\": \"bytes 399999-599999/600000\"",
        "\"content_range\": \"bytes 400001-599999/600000\"",
        "\"content_range\": \"bytes 400000-599999/600001\"",
        "\"content_range\": \"bytes 400000-600000/600001\"",
        "\"content_range\": \"bytes 400000-499999/600000\"",
        "\"content_range\": \"bytes 400000-599998/599999\"",
        "\"content_range\": \"bytes 599999-400000/600000\"",
        "\"content_range\": \"bytes */600000\"",
        "\"content_range\": \"items 400000-599999/600000\"",
        "\"content_range\": \"400000-599999/600000\"",
        "\"content_range\": \"bytes 400000-599999\"",
        "\"content_range\": \"\"",
        "\"headers\": [[\"Content-Range\", null]]",
        "\"headers\": [[\"ETag\", \"\\\"of-another-version\\\"\"]]",
        "\"headers\": [[\"Content-Type\", \"multipart/byteranges; boundary=x\"]]",
        /* In chunks, only Content-Range shows the mistake. */
        "\"framing\": \"chunked\", \"content_range\": \"bytes 0-599999/600000\"",
        "\"framing\": \"chunked\", \"content_range\": \"bytes 399999-599999/600000\"",
        "\"framing\": \"chunked\", \"content_range\": \"bytes 400001-599999/600000\"",
        "\"framing\": \"chunked\", \"content_range\": \"bytes 400000-600000/600001\"",
        "\"framing\": \"chunked\", \"content_range\": \"bytes 400000-599998/600000\"",
        "\"content_length\": \"199999\"",
        "\"content_length\": \"200001\"",
        "\"status\": 416",
        "\"ranges\": false",
    };
    struct report report = new_report(600000);
    size_t i, j;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* One sink that can restart, and one that cannot. */
        const enum sink sinks[] = {i % 2 == 0 ? TO_MEMORY : TO_FILE, i % 2 == 0 ? TO_CALLBACK : TO_STREAM};
        for (j = 0; j < 2; j++) {
            dbss_operation *operation = new_operation();
            dbss_context *ctx = retrying_context(fixture("http"), "3");
            struct call call;

            post_fault(report.id, "\"cut_after\": 400000, \"times\": 1");
            post_fault(report.id, "%s, \"times\": 1", cases[i]);
            call = call_sink(sinks[j], ctx, report.id, operation);
            CHECK_CALL(can_restart(sinks[j]) ? DBSS_OK : DBSS_ERR_NOT_RESUMABLE, &call, &report);
            CHECK(can_restart(sinks[j]) || call.len == 400000);
            CHECK(dbss_operation_resumed(operation) == 0);
            add_failure_context("the fault was: %s", cases[i]);
            free_call(&call);
            dbss_context_free(ctx);
            dbss_operation_free(operation);
        }
    }
    free_report(&report);
}

/* A rest of unknown total and a chunked one are accepted. */
static void valid_partial_response_is_accepted(void)
{
    static const char *const cases[] = {
        "\"content_range\": \"bytes 400000-599999/*\"",
        "\"headers\": [[\"ETag\", null]]",
        "\"framing\": \"chunked\"",
    };
    struct report report = new_report(600000);
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        dbss_operation *operation = new_operation();
        dbss_context *ctx = retrying_context(fixture("http"), "2");
        struct call call;

        post_fault(report.id, "\"cut_after\": 400000, \"times\": 1");
        post_fault(report.id, "%s, \"times\": 1", cases[i]);
        call = call_sink(TO_STREAM, ctx, report.id, operation);
        CHECK_CALL(DBSS_OK, &call, &report);
        CHECK(dbss_operation_resumed(operation) == 400000);
        free_call(&call);
        dbss_context_free(ctx);
        dbss_operation_free(operation);
    }
    free_report(&report);
}

/* A partial response to the first request, which has no range. */
static void unrequested_partial_response_fails(void)
{
    struct report report = new_report(600000);
    dbss_context *ctx = retrying_context(fixture("http"), "3");
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        struct call call;
        post_fault(report.id, "\"status\": 206, \"times\": 1");
        call = call_sink(sink, ctx, report.id, NULL);
        CHECK_CALL(DBSS_ERR_UNEXPECTED_RESPONSE, &call, &report);
        CHECK(call.len == 0 && dbss_error_attempts(call.error) == 1);
        free_call(&call);
    }
    dbss_context_free(ctx);
    free_report(&report);
}

/* Proves that these checks compare the bytes. No client can detect a server that
 * sends other bytes than its header announces. */
static void wrong_bytes_are_detected(void)
{
    struct report report = new_report(600000);
    dbss_context *ctx = retrying_context(fixture("http"), "2");
    struct call call;
    post_fault(report.id, "\"cut_after\": 400000, \"times\": 1");
    post_fault(report.id, "\"range_shift\": 7, \"times\": 1");
    call = call_sink(TO_CALLBACK, ctx, report.id, NULL);
    CHECK(call.status == DBSS_OK && call.len == report.len && !has_whole_report(&call, &report));
    free_call(&call);
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Random cuts
 * ------------------------------------------------------------------------ */

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
    struct call call = {sink, shared_random_context, NULL, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
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

/* ---------------------------------------------------------------------------
 * Retries
 * ------------------------------------------------------------------------ */

static void transient_failure_is_retried(void)
{
    static const char *const cases[] = {
        "\"status\": 429",
        "\"status\": 500",
        "\"status\": 502",
        "\"status\": 503",
        "\"status\": 504",
        "\"close_before_answer\": true",
        "\"reset_before_answer\": true",
        "\"cut_after\": 0",
        "\"cut_after\": 3",
        "\"content_length\": \"9000000\", \"status\": 503",
    };
    struct report report = new_report(200000);
    size_t i;
    int sink;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* Two failures to memory, and one failure to another sink. */
        int other = TO_FILE + (int)i % 4;
        for (sink = 0; sink <= other; sink += other) {
            struct exchange seen[64];
            dbss_operation *operation = new_operation();
            dbss_context *ctx = retrying_context(fixture("http"), "3");
            struct call call;
            size_t before = read_request_log(&report, seen, 0);

            post_fault(report.id, "%s, \"times\": %d", cases[i], sink == TO_MEMORY ? 2 : 1);
            call = call_sink(sink, ctx, report.id, operation);
            CHECK_CALL(DBSS_OK, &call, &report);
            CHECK(dbss_operation_attempts(operation) == (sink == TO_MEMORY ? 3 : 2));
            CHECK(read_request_log(&report, seen, 0) - before == dbss_operation_attempts(operation));
            CHECK(warnings == (int)dbss_operation_attempts(operation) - 1);
            add_failure_context("the fault was: %s", cases[i]);
            free_call(&call);
            dbss_context_free(ctx);
            dbss_operation_free(operation);
        }
    }
    free_report(&report);
}

static void persistent_failure_is_reported(void)
{
    static const struct {
        const char *fault;
        dbss_status status;
        unsigned attempts;
    } cases[] = {
        {"\"status\": 503", DBSS_ERR_SERVER, 3},
        {"\"status\": 429", DBSS_ERR_THROTTLED, 3},
        {"\"cut_after\": 100000", DBSS_ERR_TRUNCATED, 3},
        {"\"reset_before_answer\": true", DBSS_ERR_CONNECTION_LOST, 3},
        {"\"status\": 400", DBSS_ERR_BAD_REQUEST, 1},
        {"\"status\": 401", DBSS_ERR_UNAUTHENTICATED, 1},
        {"\"status\": 403", DBSS_ERR_FORBIDDEN, 1},
        {"\"status\": 404", DBSS_ERR_NOT_FOUND, 1},
        {"\"status\": 501", DBSS_ERR_SERVER, 1},
        {"\"status\": 302", DBSS_ERR_REDIRECTED, 1},
        {"\"status\": 204", DBSS_ERR_UNEXPECTED_RESPONSE, 1},
        {"\"raw_base64\": \"Z2FyYmFnZQ0KDQo=\"", DBSS_ERR_PROTOCOL, 1},
        {"\"gzip\": true", DBSS_ERR_CONTENT_ENCODING, 1},
        {"\"body\": \"\"", DBSS_ERR_UNEXPECTED_RESPONSE, 1},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct report report = new_report(900000);
        dbss_operation *operation = new_operation();
        dbss_context *ctx = retrying_context(fixture("http"), "3");
        dbss_error *error;
        struct call call;

        post_fault(report.id, cases[i].fault);
        call = call_sink(i % 2 == 0 ? TO_FILE : TO_MEMORY, ctx, report.id, operation);
        CHECK_CALL(cases[i].status, &call, &report);
        CHECK(dbss_error_attempts(call.error) == cases[i].attempts);
        CHECK(dbss_operation_attempts(operation) == cases[i].attempts);
        CHECK(read_request_log(&report, NULL, 0) == cases[i].attempts);
        CHECK(warnings == (int)cases[i].attempts - 1);
        error = dbss_operation_error(operation);
        CHECK(dbss_error_status(error) == cases[i].status);
        expect_text(__LINE__, dbss_error_message(call.error), dbss_error_message(error));
        dbss_error_free(error);
        add_failure_context("the fault was: %s", cases[i].fault);
        free_call(&call);
        dbss_context_free(ctx);
        dbss_operation_free(operation);
        free_report(&report);
    }
}

static void missing_server_fails_after_all_attempts(void)
{
    dbss_context *ctx = retrying_context("http://127.0.0.1:1", "4");
    dbss_operation *operation = new_operation();
    struct call call = call_sink(TO_MEMORY, ctx, fixture("pdf"), operation);
    CHECK(call.status == DBSS_ERR_CONNECT && dbss_error_attempts(call.error) == 4);
    CHECK(dbss_operation_attempts(operation) == 4);
    free_call(&call);
    EXPECT(DBSS_OK, dbss_operation_set(operation, "max_attempts", "1"));
    call = call_sink(TO_MEMORY, ctx, fixture("pdf"), operation);
    CHECK(call.status == DBSS_ERR_CONNECT && dbss_error_attempts(call.error) == 1);
    free_call(&call);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
}

/* An attempt that received 1 MiB resets the count of attempts. */
static void attempts_counted_anew_after_progress(void)
{
    struct report report = new_report(8 * MIB), small = new_report(900000);
    dbss_operation *operation = new_operation();
    dbss_context *ctx = retrying_context(fixture("http"), "2");
    struct call call;

    post_fault(report.id, "\"cut_after\": %d, \"times\": 5", 1300000);
    call = call_sink(TO_STREAM, ctx, report.id, operation);
    CHECK_CALL(DBSS_OK, &call, &report);
    CHECK(dbss_operation_attempts(operation) == 6);
    free_call(&call);

    post_fault(small.id, "\"cut_after\": 100000, \"times\": 5");
    call = call_sink(TO_STREAM, ctx, small.id, operation);
    CHECK_CALL(DBSS_ERR_TRUNCATED, &call, &small);
    CHECK(dbss_operation_attempts(operation) == 2);
    CHECK(call.len == 200000 && dbss_operation_received(operation) == 200000);
    free_call(&call);
    dbss_context_free(ctx);
    dbss_operation_free(operation);
    free_report(&small);
    free_report(&report);
}

static void retry_after_is_respected(void)
{
    static const struct {
        const char *headers;
        long long wait;
    } cases[] = {
        {"[[\"Retry-After\", \"1\"]]", 1000},
        {"[[\"Retry-After\", \"0\"]]", 0},
        /* Relative to the server's own date. */
        {"[[\"Date\", \"Tue, 24 Nov 2015 14:29:10 GMT\"], [\"Retry-After\", \"Tue, 24 Nov 2015 14:29:12 GMT\"]]", 2000},
        {"[[\"Date\", \"Tue, 24 Nov 2015 14:29:10 GMT\"], [\"Retry-After\", \"Tue, 24 Nov 2015 14:29:08 GMT\"]]", 0},
    };
    struct report report = new_report(10000);
    dbss_context *ctx = retrying_context(fixture("http"), "2");
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        dbss_operation *operation = new_operation();
        struct call call;

        post_fault(report.id, "\"status\": 503, \"headers\": %s, \"times\": 2", cases[i].headers);
        call = call_sink(TO_MEMORY, ctx, report.id, operation);
        CHECK_CALL(DBSS_ERR_SERVER, &call, &report);
        CHECK(dbss_error_retry_after_ms(call.error) == cases[i].wait);
        CHECK(dbss_error_attempts(call.error) == 2);
        CHECK(call.duration_ms >= cases[i].wait && call.duration_ms < cases[i].wait + 900);
        free_call(&call);
        dbss_operation_free(operation);
    }
    dbss_context_free(ctx);
    free_report(&report);
}

/* A longer wait than the caller allows fails the call at once. */
static void retry_after_longer_than_limit_fails_at_once(void)
{
    struct report report = new_report(10000);
    dbss_config *config = retrying_config(fixture("http"), "3");
    dbss_context *ctx;
    struct call call;

    set_option(config, "max_retry_after_ms", "2000");
    ctx = context_from(config);
    post_fault(report.id, "\"status\": 429, \"headers\": [[\"Retry-After\", \"3\"]], \"times\": 1");
    call = call_sink(TO_MEMORY, ctx, report.id, NULL);
    CHECK_CALL(DBSS_ERR_THROTTLED, &call, &report);
    CHECK(dbss_error_attempts(call.error) == 1 && dbss_error_retry_after_ms(call.error) == 3000);
    CHECK(call.duration_ms < 1000);
    free_call(&call);
    dbss_context_free(ctx);

    /* The default limit is a minute. */
    ctx = retrying_context(fixture("http"), "3");
    post_fault(report.id, "\"status\": 503, \"headers\": [[\"Retry-After\", \"61\"]], \"times\": 1");
    call = call_sink(TO_MEMORY, ctx, report.id, NULL);
    CHECK_CALL(DBSS_ERR_SERVER, &call, &report);
    CHECK(call.duration_ms < 1000 && dbss_error_retry_after_ms(call.error) == 61000);
    free_call(&call);
    dbss_context_free(ctx);
    free_report(&report);
}

/* The total timeout includes the pauses. A call does not wait for an attempt that it
 * could not make in time. */
static void total_timeout_bounds_retries(void)
{
    struct report report = new_report(10000);
    dbss_config *config = retrying_config(fixture("http"), "1000");
    dbss_context *ctx;
    struct call call;

    set_option(config, "total_timeout_ms", "700");
    ctx = context_from(config);
    post_fault(report.id, "\"status\": 503, \"headers\": [[\"Retry-After\", \"30\"]], \"times\": 1");
    call = call_sink(TO_MEMORY, ctx, report.id, NULL);
    CHECK_CALL(DBSS_ERR_SERVER, &call, &report);
    CHECK(call.duration_ms < 1500 && dbss_error_attempts(call.error) == 1);
    free_call(&call);

    post_fault(report.id, "\"status\": 503");
    call = call_sink(TO_MEMORY, ctx, report.id, NULL);
    CHECK(call.status == DBSS_ERR_SERVER || call.status == DBSS_ERR_TOTAL_TIMEOUT);
    CHECK(call.duration_ms < 1500);
    free_call(&call);
    dbss_context_free(ctx);
    free_report(&report);
}

/* A stalled attempt ends, and the transfer resumes on a new connection. */
static void stalled_attempt_is_resumed(void)
{
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        struct report report = new_report(300000);
        dbss_config *config = retrying_config(fixture("http"), "3");
        dbss_operation *operation = new_operation();
        dbss_context *ctx;
        struct call call;

        set_option(config, "stall_timeout_ms", "200");
        ctx = context_from(config);
        post_fault(report.id, "\"stall_after\": 200000, \"times\": 1");
        post_fault(report.id, "\"no_answer\": true, \"times\": 1");
        call = call_sink(sink, ctx, report.id, operation);
        CHECK_CALL(DBSS_OK, &call, &report);
        CHECK(dbss_operation_attempts(operation) == 3 && dbss_operation_resumed(operation) == 200000);
        CHECK(call.duration_ms >= 400 && call.duration_ms < 5000);
        free_call(&call);
        dbss_context_free(ctx);
        dbss_operation_free(operation);
        free_report(&report);
    }
}

/* ---------------------------------------------------------------------------
 * Proxies and redirects
 * ------------------------------------------------------------------------ */

static const char *without_scheme(const char *url)
{
    return strstr(url, "://") + 3;
}

/* A broken transfer through a proxy with a password is resumed. */
static void broken_transfer_is_resumed_through_proxy(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 2; i++) {
        struct report report = new_report(600000);
        char *proxy = format("http://proxy-user:proxy-pass@%s", without_scheme(fixture("proxy")));
        dbss_config *config = retrying_config(fixture(schemes[i]), "2");
        dbss_operation *operation = new_operation();
        dbss_context *ctx;
        struct call call;

        set_option(config, "proxy", proxy);
        set_option(config, "allow_plaintext", "true");
        ctx = context_from(config);
        post_control("/listener_faults", "{\"listener\": \"proxy\", \"mode\": \"proxy_auth\"}");
        post_fault(report.id, "\"reset_after\": 400000, \"times\": 1");
        call = call_sink(TO_STREAM, ctx, report.id, operation);
        CHECK_CALL(DBSS_OK, &call, &report);
        CHECK(dbss_operation_resumed(operation) > 0 && dbss_operation_attempts(operation) == 2);
        CHECK(strstr(log_text, "proxy-pass") == NULL);
        free_call(&call);
        dbss_context_free(ctx);

        /* A wrong password is not retried. */
        free(proxy);
        proxy = format("http://proxy-user:wrong-pass@%s", without_scheme(fixture("proxy")));
        config = retrying_config(fixture(schemes[i]), "3");
        set_option(config, "proxy", proxy);
        set_option(config, "allow_plaintext", "true");
        ctx = context_from(config);
        call = call_sink(TO_STREAM, ctx, report.id, operation);
        CHECK_CALL(DBSS_ERR_CONNECT, &call, &report);
        CHECK(strstr(dbss_error_message(call.error), "407") != NULL);
        CHECK(find_in_error(call.error, "wrong-pass") == NULL && strstr(log_text, "wrong-pass") == NULL);
        CHECK(dbss_error_is_retryable(call.error) == 0 && dbss_error_attempts(call.error) == 1);
        free_call(&call);
        free(control("DELETE", "/listener_faults", ""));
        dbss_context_free(ctx);
        dbss_operation_free(operation);
        free_report(&report);
        free(proxy);
    }
}

/* In a child, as it changes the environment. The environment is read when a context
 * is created, if the option is set. */
static void use_proxy_from_environment(void)
{
    struct report report = new_report(10000);
    long connections;
    int i;
    setenv("https_proxy", fixture("proxy"), 1);
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    for (i = 0; i < 3; i++) {
        dbss_config *config = retrying_config(fixture("https"), "1");
        dbss_context *ctx;
        struct call call;
        set_option(config, "proxy_from_environment", i == 0 ? "false" : "true");
        if (i == 2)
            setenv("no_proxy", "elsewhere.example,localhost", 1);
        ctx = context_from(config);
        unsetenv("no_proxy");
        connections = count_connections();
        call = call_sink(TO_MEMORY, ctx, report.id, NULL);
        CHECK_CALL(DBSS_OK, &call, &report);
        /* One to the proxy, and one from the proxy. */
        CHECK(count_connections() - connections == (i == 1 ? 2 : 1));
        free_call(&call);
        dbss_context_free(ctx);
    }
    free_report(&report);
}

static void proxy_from_environment_is_used(void)
{
    run_in_child(use_proxy_from_environment);
}

/* Each attempt follows the redirect again, if that is allowed. The token is not sent
 * to the other origin. */
static void broken_transfer_is_resumed_through_redirect(void)
{
    struct report report = new_report(600000);
    const char *entrance = fresh_id();
    dbss_config *config = retrying_config(fixture("http"), "2");
    dbss_operation *operation = new_operation();
    dbss_context *ctx;
    struct exchange seen[4];
    struct call call;

    set_option(config, "follow_redirects", "true");
    ctx = context_from(config);
    post_fault(entrance,
               "\"status\": 307, \"headers\": [[\"Location\", \"%s/v1/%s/audit/%s/reports/%s/download?local=en-us\"]]",
               fixture("http_other"), fixture("project"), fixture("instance"), report.id);
    post_fault(report.id, "\"cut_after\": 400000, \"times\": 1");
    post_fault(report.id, "\"times\": 1");
    call = call_sink(TO_STREAM, ctx, entrance, operation);
    CHECK_CALL(DBSS_OK, &call, &report);
    CHECK(read_request_log(&report, seen, 4) == 2);
    CHECK(!seen[0].has_token && !seen[1].has_token);
    expect_text(__LINE__, "bytes=400000-", seen[1].range);
    CHECK(count_requests(entrance) == 2);
    free_call(&call);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Many threads
 * ------------------------------------------------------------------------ */

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
        struct call call = {
            (number + i) % SINKS, shared_random_context, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
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

/* The server announces a wrong length. */
static void wrong_content_length_fails(void)
{
    static const char *const cases[] = {
        "\"content_length\": \"0\"",
        "\"content_length\": \"599999\"",
        "\"content_length\": \"600001\"",
        "\"content_length\": \"99999999999999\"",
        "\"content_length\": \"-1\"",
        "\"content_length\": \"\"",
        "\"content_length\": \"600000, 600000\"",
        "\"extra_content_length\": \"599999\"",
        "\"chunked_no_end\": true",
        "\"framing\": \"close\"",
        "\"framing\": \"chunked\", \"cut_after\": 300000",
        "\"endless_header\": true",
    };
    struct report report = new_report(600000);
    dbss_context *ctx = new_context(fixture("http"));
    size_t i;
    int sink;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (sink = 0; sink < SINKS; sink++) {
            struct call call;
            post_fault(report.id, "%s, \"times\": 1", cases[i]);
            call = call_sink(sink, ctx, report.id, NULL);
            /* The body is longer than announced. No client can detect that, so
             * it ends at the announced length. */
            if (i == 1) {
                CHECK(call.status == DBSS_OK && call.len == 599999 && has_report_prefix(&call, &report));
            } else {
                CHECK(call.status != DBSS_OK && has_report_prefix(&call, &report));
                CHECK(dbss_status_group(call.status) == DBSS_ERR_NETWORK || call.status == DBSS_ERR_UNEXPECTED_RESPONSE
                      || (i == 3 && sink == TO_MEMORY && call.status == DBSS_ERR_LIMIT_EXCEEDED));
            }
            add_failure_context("to %s, the fault was: %s", sink_names[sink], cases[i]);
            free_call(&call);
        }
    }
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Children
 * ------------------------------------------------------------------------ */

static dbss_context *shared_ctx;
static dbss_operation *inherited_operation;
static dbss_report_stream *inherited_stream;
static struct report shared_report;

static int use_inherited_handles(void *unused)
{
    struct call call = {TO_MEMORY, NULL, NULL, NULL, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    char part[100];
    size_t len = 1;
    int i;
    (void)unused;

    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "stream", dbss_report_stream_read(inherited_stream, part, sizeof part, &len));
    CHECK(len == 0);
    CHECK(dbss_report_stream_size(inherited_stream) == 3 * MIB);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "operation", dbss_operation_reset(inherited_operation));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "operation", dbss_operation_set(inherited_operation, "max_attempts", "1"));
    call.ctx = shared_ctx;
    call.id = shared_report.id;
    call.operation = inherited_operation;
    make_call(&call);
    CHECK_CALL(DBSS_ERR_ARGUMENT, &call, &shared_report);
    free_call(&call);
    /* The child's own calls work. */
    call.operation = new_operation();
    for (i = 0; i < SINKS; i++) {
        call.sink = i;
        make_call(&call);
        CHECK_CALL(DBSS_OK, &call, &shared_report);
        free_call(&call);
    }
    dbss_operation_free(call.operation);
    /* None of this may affect the parent's handles. */
    dbss_operation_cancel(inherited_operation);
    dbss_context_cancel_all(shared_ctx);
    dbss_report_stream_free(inherited_stream);
    dbss_operation_free(inherited_operation);
    dbss_context_free(shared_ctx);
    return has_failed();
}

static double cpu_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void check_fork(const char *scheme)
{
    char *rest = malloc(4 * MIB);
    size_t len = 0, n = 1;
    pid_t child;
    double before;

    if (rest == NULL)
        fatal("out of memory");
    shared_report = new_report(3 * MIB);
    shared_ctx = new_context(fixture(scheme));
    inherited_operation = new_operation();
    EXPECT(DBSS_OK, dbss_report_open(shared_ctx, fixture("project"), fixture("instance"), shared_report.id, "en-us",
                                     inherited_operation, &inherited_stream));
    EXPECT(DBSS_OK, dbss_report_stream_read(inherited_stream, rest, 100000, &len));
    child = start_child(use_inherited_handles, NULL);
    /* The parent's handles work meanwhile and afterwards. */
    {
        struct call call = call_sink(TO_FILE, shared_ctx, shared_report.id, NULL);
        CHECK_CALL(DBSS_OK, &call, &shared_report);
        free_call(&call);
    }
    CHECK(wait_for_child(child) == 0);
    while (n > 0 && EXPECT(DBSS_OK, dbss_report_stream_read(inherited_stream, rest + len, 100000, &n)) == DBSS_OK)
        len += n;
    CHECK(len == shared_report.len && memcmp(rest, shared_report.bytes, len) == 0);
    dbss_report_stream_free(inherited_stream);

    /* The child's cancel neither affects the parent nor makes it spin. */
    post_fault(shared_report.id, "\"delay_ms\": 1000, \"times\": 1");
    before = cpu_seconds();
    {
        struct call call = call_sink(TO_MEMORY, shared_ctx, shared_report.id, inherited_operation);
        CHECK_CALL(DBSS_OK, &call, &shared_report);
        free_call(&call);
    }
    if (cpu_seconds() - before > 0.5)
        fail_check("waiting for a second took %.2f s of CPU time", cpu_seconds() - before);
    dbss_operation_free(inherited_operation);
    dbss_context_free(shared_ctx);
    free_report(&shared_report);
    free(rest);
}

static void fork_with_open_stream(void)
{
    check_fork("http");
}

static void fork_with_open_stream_tls(void)
{
    check_fork("https");
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"broken_transfer_is_resumed", broken_transfer_is_resumed, PLAIN},
    {"broken_transfer_is_resumed_tls", broken_transfer_is_resumed_tls, TLS},
    {"transfer_broken_several_times_is_resumed", transfer_broken_several_times_is_resumed, PLAIN},
    {"transfer_without_validator_is_not_resumed", transfer_without_validator_is_not_resumed, PLAIN},
    {"changed_report_is_not_resumed", changed_report_is_not_resumed, PLAIN},
    {"wrong_partial_response_is_refused", wrong_partial_response_is_refused, PLAIN},
    {"valid_partial_response_is_accepted", valid_partial_response_is_accepted, PLAIN},
    {"unrequested_partial_response_fails", unrequested_partial_response_fails, PLAIN},
    {"wrong_bytes_are_detected", wrong_bytes_are_detected, PLAIN},
    {"wrong_content_length_fails", wrong_content_length_fails, PLAIN},
    {"random_cuts_give_right_bytes", random_cuts_give_right_bytes, LOAD},
    {"transient_failure_is_retried", transient_failure_is_retried, PLAIN},
    {"persistent_failure_is_reported", persistent_failure_is_reported, PLAIN},
    {"missing_server_fails_after_all_attempts", missing_server_fails_after_all_attempts, PLAIN},
    {"attempts_counted_anew_after_progress", attempts_counted_anew_after_progress, PLAIN},
    {"retry_after_is_respected", retry_after_is_respected, LOAD},
    {"retry_after_longer_than_limit_fails_at_once", retry_after_longer_than_limit_fails_at_once, LOAD},
    {"total_timeout_bounds_retries", total_timeout_bounds_retries, LOAD},
    {"stalled_attempt_is_resumed", stalled_attempt_is_resumed, LOAD},
    {"broken_transfer_is_resumed_through_proxy", broken_transfer_is_resumed_through_proxy, TLS},
    {"proxy_from_environment_is_used", proxy_from_environment_is_used, LOAD},
    {"broken_transfer_is_resumed_through_redirect", broken_transfer_is_resumed_through_redirect, PLAIN},
    {"faults_on_many_threads_give_right_bytes", faults_on_many_threads_give_right_bytes, LOAD},
    {"faults_on_many_threads_give_right_bytes_tls", faults_on_many_threads_give_right_bytes_tls, LOAD},
    {"fork_with_open_stream", fork_with_open_stream, LOAD},
    {"fork_with_open_stream_tls", fork_with_open_stream_tls, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
