/*
 * Transfers that break: retries, resumption, and what must never come of them,
 * wrong bytes. See checks.h for how to run them.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------
 * A context that retries, and tells
 * ------------------------------------------------------------------------ */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[65536];
static int warnings, infos;
/* Done before the next attempt, on the thread of the call; may be NULL. */
static void (*between_attempts)(void);

static void write_log(void *user_data, const dbss_log_record *record)
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
    dbss_config *config = new_config(endpoint, fact("token"));
    set(config, "max_attempts", attempts);
    if (dbss_config_set_log(config, write_log, NULL, NULL) != DBSS_OK)
        fatal("no log");
    pthread_mutex_lock(&log_lock);
    *log_text = '\0';
    warnings = infos = 0;
    pthread_mutex_unlock(&log_lock);
    between_attempts = NULL;
    return config;
}

static dbss_context *retrying_context(const char *endpoint, const char *attempts)
{
    return to_context(retrying_config(endpoint, attempts));
}

/* Makes a call to a sink, under the operation or none. */
static struct call called(enum sink sink, dbss_context *ctx, const char *id, dbss_operation *operation)
{
    struct call call = {sink, ctx, id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    make_call(&call);
    return call;
}

/* ---------------------------------------------------------------------------
 * Resumption
 * ------------------------------------------------------------------------ */

/* Sent for nothing when a connection breaks: what was in the library's buffer
 * (128 KiB) and in the kernel's. After an orderly end both are read to it. */
#define ONE_BUFFER (128 * 1024)
#define MIB (1024 * 1024)

static void resume_over(const char *scheme)
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
            dbss_context *ctx = retrying_context(fact(scheme), "2");
            struct call call;
            long long from = -1;

            post_fault(report.id, cuts[i].fault);
            call = called(sink, ctx, report.id, operation);
            if (CHECK_CALL(DBSS_OK, &call, &report)) {
                CHECK(read_request_log(&report, seen, 4) == 2);
                CHECK(*seen[0].range == '\0' && *seen[0].if_range == '\0');
                CHECK(seen[1].status == 206);
                CHECK(sscanf(seen[1].range, "bytes=%lld-", &from) == 1);
                CHECK(*seen[1].if_range == '"' && seen[1].has_token);
                /* Every byte that came was used; but for a reset, after which
                 * the kernel may forget what it had received. */
                CHECK(from <= cuts[i].at && from >= cuts[i].at - (i == 1 ? ONE_BUFFER : 0));
                CHECK(seen[1].range[strlen(seen[1].range) - 1] == '-');
                CHECK(seen[0].sent + seen[1].sent <= 3000000 + (i == 1 ? ONE_BUFFER : 0));
                CHECK(dbss_operation_attempts(operation) == 2);
                CHECK(dbss_operation_resumed(operation) == from);
                CHECK(dbss_operation_received(operation) == 3000000);
                CHECK(dbss_operation_total(operation) == 3000000);
                CHECK(warnings == 1 && strstr(log_text, report.id) != NULL);
                CHECK(strstr(log_text, fact("token")) == NULL);
            }
            free_call(&call);
            dbss_context_free(ctx);
            dbss_operation_free(operation);
            free_report(&report);
        }
    }
}

static void resume(void)
{
    resume_over("http");
}

static void resume_tls(void)
{
    resume_over("https");
}

/* Cut again and again: each attempt goes on where the last one ended. */
static void resume_often(void)
{
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        struct report report = new_report(3 * MIB);
        struct exchange seen[8];
        dbss_operation *operation = new_operation();
        dbss_context *ctx = retrying_context(fact("http"), "8");
        struct call call;
        long long sent = 0;
        size_t i, count;

        post_fault(report.id, "\"cut_after\": 700000, \"times\": 3");
        call = called(sink, ctx, report.id, operation);
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

/* Without a strong validator nothing proves that a rest is of the same report:
 * what can begin again does, and the others fail. */
static void no_validator(void)
{
    static const char *const tags[] = {"\"weak_etag\": true", "\"no_etag\": true", "\"ranges\": false"};
    size_t i;
    int sink;
    for (i = 0; i < 3; i++) {
        for (sink = 0; sink < SINKS; sink++) {
            struct report report = new_report(600000);
            struct exchange seen[4];
            dbss_operation *operation = new_operation();
            dbss_context *ctx = retrying_context(fact("http"), "3");
            struct call call;

            post_fault(report.id, "%s, \"cut_after\": 400000, \"times\": 1", tags[i]);
            post_fault(report.id, tags[i]);
            call = called(sink, ctx, report.id, operation);
            CHECK(dbss_operation_resumed(operation) == 0);
            if (can_restart(sink)) {
                CHECK_CALL(DBSS_OK, &call, &report);
                CHECK(read_request_log(&report, seen, 4) == 2);
                CHECK((*seen[1].range != '\0') == (i == 2));
            } else {
                /* With a tag, resumption was tried. */
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

static struct report *changing;

static void change(void)
{
    change_report(changing);
}

static void changed_meanwhile(void)
{
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        struct report report = new_report(600000), before = new_report(600000);
        dbss_operation *operation = new_operation();
        dbss_context *ctx = retrying_context(fact("http"), "3");
        struct call call;

        memcpy(before.bytes, report.bytes, report.len);
        changing = &report;
        between_attempts = change;
        post_fault(report.id, "\"cut_after\": 400000, \"times\": 1");
        call = called(sink, ctx, report.id, operation);
        if (can_restart(sink)) {
            CHECK_CALL(DBSS_OK, &call, &report);
            CHECK(dbss_operation_received(operation) == 600000);
        } else {
            /* Not a byte of the other version. */
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

/* A server that answers the request for the rest with something else. */
static void wrong_rests(void)
{
    static const char *const wrong[] = {
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
        /* In chunks it is the range alone that tells. */
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
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        /* One of those that can begin again, and one of those that cannot. */
        const enum sink sinks[] = {i % 2 == 0 ? TO_MEMORY : TO_FILE, i % 2 == 0 ? TO_CALLBACK : TO_STREAM};
        for (j = 0; j < 2; j++) {
            dbss_operation *operation = new_operation();
            dbss_context *ctx = retrying_context(fact("http"), "3");
            struct call call;

            post_fault(report.id, "\"cut_after\": 400000, \"times\": 1");
            post_fault(report.id, "%s, \"times\": 1", wrong[i]);
            call = called(sinks[j], ctx, report.id, operation);
            CHECK_CALL(can_restart(sinks[j]) ? DBSS_OK : DBSS_ERR_NOT_RESUMABLE, &call, &report);
            CHECK(can_restart(sinks[j]) || call.len == 400000);
            CHECK(dbss_operation_resumed(operation) == 0);
            blame("the rest was wrong by: %s", wrong[i]);
            free_call(&call);
            dbss_context_free(ctx);
            dbss_operation_free(operation);
        }
    }
    free_report(&report);
}

/* A rest of unknown total, and one in chunks, are as good as any. */
static void right_rests(void)
{
    static const char *const right[] = {
        "\"content_range\": \"bytes 400000-599999/*\"",
        "\"headers\": [[\"ETag\", null]]",
        "\"framing\": \"chunked\"",
    };
    struct report report = new_report(600000);
    size_t i;
    for (i = 0; i < sizeof right / sizeof *right; i++) {
        dbss_operation *operation = new_operation();
        dbss_context *ctx = retrying_context(fact("http"), "2");
        struct call call;

        post_fault(report.id, "\"cut_after\": 400000, \"times\": 1");
        post_fault(report.id, "%s, \"times\": 1", right[i]);
        call = called(TO_STREAM, ctx, report.id, operation);
        CHECK_CALL(DBSS_OK, &call, &report);
        CHECK(dbss_operation_resumed(operation) == 400000);
        free_call(&call);
        dbss_context_free(ctx);
        dbss_operation_free(operation);
    }
    free_report(&report);
}

/* A part that nobody asked for, as the answer to the first request. */
static void unasked_part(void)
{
    struct report report = new_report(600000);
    dbss_context *ctx = retrying_context(fact("http"), "3");
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        struct call call;
        post_fault(report.id, "\"status\": 206, \"times\": 1");
        call = called(sink, ctx, report.id, NULL);
        CHECK_CALL(DBSS_ERR_UNEXPECTED_RESPONSE, &call, &report);
        CHECK(call.len == 0 && dbss_error_attempts(call.error) == 1);
        free_call(&call);
    }
    dbss_context_free(ctx);
    free_report(&report);
}

/* The comparison of these tests is no formality: a server that sends other
 * bytes than its header says defeats every client, and is seen here. */
static void a_liar_is_seen(void)
{
    struct report report = new_report(600000);
    dbss_context *ctx = retrying_context(fact("http"), "2");
    struct call call;
    post_fault(report.id, "\"cut_after\": 400000, \"times\": 1");
    post_fault(report.id, "\"range_shift\": 7, \"times\": 1");
    call = called(TO_CALLBACK, ctx, report.id, NULL);
    CHECK(call.status == DBSS_OK && call.len == report.len && !holds_whole(&call, &report));
    free_call(&call);
    dbss_context_free(ctx);
    free_report(&report);
}

/* ---------------------------------------------------------------------------
 * Random cuts
 * ------------------------------------------------------------------------ */

static unsigned long long scramble(unsigned long long x)
{
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static pthread_mutex_t round_lock = PTHREAD_MUTEX_INITIALIZER;
static int next_round, rounds, resumed_rounds, refused_rounds;
static dbss_context *random_ctx;

/* One transfer that breaks up to three times at random places. */
static void cut_at_random(int number)
{
    static const char *const tags[] = {"", ", \"weak_etag\": true", ", \"no_etag\": true"};
    static const char *const framings[] = {"length", "chunked"};
    static const size_t sizes[8] = {6000, 20000, 66000, 131072, 300000, 1000000, 1500000, 3000000};
    unsigned long long random = scramble((unsigned long long)number);
    enum sink sink = number % SINKS;
    /* Half of the rounds have a strong tag. */
    int tag = number / SINKS % 4 % 3, times = 1 + (int)(random % 3);
    struct report report;
    dbss_operation *operation = new_operation();
    struct call call = {sink, random_ctx, NULL, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    char *body;

    /* The helpers behind this are for one thread. */
    pthread_mutex_lock(&round_lock);
    report = new_report(sizes[random / 3 % 8]);
    pthread_mutex_unlock(&round_lock);
    body = format("\"cut_random\": {\"seed\": %d, \"least\": 0, \"most\": %lu}, \"times\": %d, \"framing\": \"%s\"%s", number,
                  (unsigned long)(report.len + report.len / 8), times, framings[random / 24 % 2], tags[tag]);
    post_fault(report.id, "%s", body);
    if (tag != 0)
        post_fault(report.id, "%s", tags[tag] + 2);
    call.id = report.id;
    make_call(&call);

    if (tag == 0 || can_restart(sink))
        CHECK_CALL(DBSS_OK, &call, &report);
    else if (call.status != DBSS_OK)
        CHECK(call.status == DBSS_ERR_TRUNCATED || call.status == DBSS_ERR_NOT_RESUMABLE);
    if (call.status == DBSS_OK ? !holds_whole(&call, &report) : !holds_beginning(&call, &report))
        failed("to %s: wrong bytes", sink_names[sink]);
    blame("round %d: %s, to %s", number, body, sink_names[sink]);
    pthread_mutex_lock(&round_lock);
    resumed_rounds += dbss_operation_resumed(operation) > 0;
    refused_rounds += call.status != DBSS_OK;
    pthread_mutex_unlock(&round_lock);
    free(body);
    free_call(&call);
    dbss_operation_free(operation);
    free_report(&report);
}

static void *cut_many(void *unused)
{
    (void)unused;
    for (;;) {
        int number;
        pthread_mutex_lock(&round_lock);
        number = next_round++;
        pthread_mutex_unlock(&round_lock);
        if (number >= rounds)
            return NULL;
        cut_at_random(number);
    }
}

/* Most of the time goes by in pauses before attempts, so many rounds run at
 * once. DBSS_TEST_ROUNDS makes it longer. */
static void random_cuts(void)
{
    const char *wanted = getenv("DBSS_TEST_ROUNDS");
    pthread_t threads[12];
    size_t i;

    rounds = wanted != NULL ? atoi(wanted) : 120;
    next_round = resumed_rounds = refused_rounds = 0;
    random_ctx = retrying_context(fact("http"), "10");
    for (i = 0; i < 12; i++)
        threads[i] = start_thread(cut_many, NULL);
    for (i = 0; i < 12; i++)
        pthread_join(threads[i], NULL);
    /* The rounds did what they are for. */
    CHECK(resumed_rounds > rounds / 5);
    CHECK(refused_rounds > rounds / 20);
    dbss_context_free(random_ctx);
}

/* ---------------------------------------------------------------------------
 * Retries
 * ------------------------------------------------------------------------ */

static void passing_trouble(void)
{
    static const char *const troubles[] = {
        "\"status\": 429", "\"status\": 500", "\"status\": 502", "\"status\": 503", "\"status\": 504",
        "\"close_before_answer\": true", "\"reset_before_answer\": true", "\"cut_after\": 0",
        "\"cut_after\": 3", "\"content_length\": \"9000000\", \"status\": 503",
    };
    struct report report = new_report(200000);
    size_t i;
    int sink;
    for (i = 0; i < sizeof troubles / sizeof *troubles; i++) {
        /* Into memory, with two failures; and with one, to another. */
        int other = TO_FILE + (int)i % 4;
        for (sink = 0; sink <= other; sink += other) {
            struct exchange seen[64];
            dbss_operation *operation = new_operation();
            dbss_context *ctx = retrying_context(fact("http"), "3");
            struct call call;
            size_t before = read_request_log(&report, seen, 0);

            post_fault(report.id, "%s, \"times\": %d", troubles[i], sink == TO_MEMORY ? 2 : 1);
            call = called(sink, ctx, report.id, operation);
            CHECK_CALL(DBSS_OK, &call, &report);
            CHECK(dbss_operation_attempts(operation) == (sink == TO_MEMORY ? 3 : 2));
            CHECK(read_request_log(&report, seen, 0) - before == dbss_operation_attempts(operation));
            CHECK(warnings == (int)dbss_operation_attempts(operation) - 1);
            blame("the trouble was: %s", troubles[i]);
            free_call(&call);
            dbss_context_free(ctx);
            dbss_operation_free(operation);
        }
    }
    free_report(&report);
}

static void lasting_trouble(void)
{
    static const struct {
        const char *fault;
        dbss_status status;
        unsigned attempts;
    } troubles[] = {
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
    for (i = 0; i < sizeof troubles / sizeof *troubles; i++) {
        struct report report = new_report(900000);
        dbss_operation *operation = new_operation();
        dbss_context *ctx = retrying_context(fact("http"), "3");
        dbss_error *error;
        struct call call;

        post_fault(report.id, troubles[i].fault);
        call = called(i % 2 == 0 ? TO_FILE : TO_MEMORY, ctx, report.id, operation);
        CHECK_CALL(troubles[i].status, &call, &report);
        CHECK(dbss_error_attempts(call.error) == troubles[i].attempts);
        CHECK(dbss_operation_attempts(operation) == troubles[i].attempts);
        CHECK(read_request_log(&report, NULL, 0) == troubles[i].attempts);
        CHECK(warnings == (int)troubles[i].attempts - 1);
        error = dbss_operation_error(operation);
        CHECK(dbss_error_status(error) == troubles[i].status);
        expect_text(__LINE__, dbss_error_message(call.error), dbss_error_message(error));
        dbss_error_free(error);
        blame("the trouble was: %s", troubles[i].fault);
        free_call(&call);
        dbss_context_free(ctx);
        dbss_operation_free(operation);
        free_report(&report);
    }
}

static void no_server(void)
{
    dbss_context *ctx = retrying_context("http://127.0.0.1:1", "4");
    dbss_operation *operation = new_operation();
    struct call call = called(TO_MEMORY, ctx, fact("pdf"), operation);
    CHECK(call.status == DBSS_ERR_CONNECT && dbss_error_attempts(call.error) == 4);
    CHECK(dbss_operation_attempts(operation) == 4);
    free_call(&call);
    EXPECT(DBSS_OK, dbss_operation_set(operation, "max_attempts", "1"));
    call = called(TO_MEMORY, ctx, fact("pdf"), operation);
    CHECK(call.status == DBSS_ERR_CONNECT && dbss_error_attempts(call.error) == 1);
    free_call(&call);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
}

/* An attempt that brought 1 MiB counts as a success. */
static void counted_anew(void)
{
    struct report report = new_report(8 * MIB), small = new_report(900000);
    dbss_operation *operation = new_operation();
    dbss_context *ctx = retrying_context(fact("http"), "2");
    struct call call;

    post_fault(report.id, "\"cut_after\": %d, \"times\": 5", 1300000);
    call = called(TO_STREAM, ctx, report.id, operation);
    CHECK_CALL(DBSS_OK, &call, &report);
    CHECK(dbss_operation_attempts(operation) == 6);
    free_call(&call);

    post_fault(small.id, "\"cut_after\": 100000, \"times\": 5");
    call = called(TO_STREAM, ctx, small.id, operation);
    CHECK_CALL(DBSS_ERR_TRUNCATED, &call, &small);
    CHECK(dbss_operation_attempts(operation) == 2);
    CHECK(call.len == 200000 && dbss_operation_received(operation) == 200000);
    free_call(&call);
    dbss_context_free(ctx);
    dbss_operation_free(operation);
    free_report(&small);
    free_report(&report);
}

static void retry_after(void)
{
    static const struct {
        const char *headers;
        long long wait;
    } asked[] = {
        {"[[\"Retry-After\", \"1\"]]", 1000},
        {"[[\"Retry-After\", \"0\"]]", 0},
        /* The date counts from the server's own. */
        {"[[\"Date\", \"Tue, 24 Nov 2015 14:29:10 GMT\"], [\"Retry-After\", \"Tue, 24 Nov 2015 14:29:12 GMT\"]]", 2000},
        {"[[\"Date\", \"Tue, 24 Nov 2015 14:29:10 GMT\"], [\"Retry-After\", \"Tue, 24 Nov 2015 14:29:08 GMT\"]]", 0},
    };
    struct report report = new_report(10000);
    dbss_context *ctx = retrying_context(fact("http"), "2");
    size_t i;
    for (i = 0; i < sizeof asked / sizeof *asked; i++) {
        dbss_operation *operation = new_operation();
        struct call call;

        post_fault(report.id, "\"status\": 503, \"headers\": %s, \"times\": 2", asked[i].headers);
        call = called(TO_MEMORY, ctx, report.id, operation);
        CHECK_CALL(DBSS_ERR_SERVER, &call, &report);
        CHECK(dbss_error_retry_after_ms(call.error) == asked[i].wait);
        CHECK(dbss_error_attempts(call.error) == 2);
        CHECK(call.took_ms >= asked[i].wait && call.took_ms < asked[i].wait + 900);
        free_call(&call);
        dbss_operation_free(operation);
    }
    dbss_context_free(ctx);
    free_report(&report);
}

/* More than the caller wants to wait: then the call fails at once. */
static void retry_after_cap(void)
{
    struct report report = new_report(10000);
    dbss_config *config = retrying_config(fact("http"), "3");
    dbss_context *ctx;
    struct call call;

    set(config, "max_retry_after_ms", "2000");
    ctx = to_context(config);
    post_fault(report.id, "\"status\": 429, \"headers\": [[\"Retry-After\", \"3\"]], \"times\": 1");
    call = called(TO_MEMORY, ctx, report.id, NULL);
    CHECK_CALL(DBSS_ERR_THROTTLED, &call, &report);
    CHECK(dbss_error_attempts(call.error) == 1 && dbss_error_retry_after_ms(call.error) == 3000);
    CHECK(call.took_ms < 1000);
    free_call(&call);
    dbss_context_free(ctx);

    /* The default is a minute. */
    ctx = retrying_context(fact("http"), "3");
    post_fault(report.id, "\"status\": 503, \"headers\": [[\"Retry-After\", \"61\"]], \"times\": 1");
    call = called(TO_MEMORY, ctx, report.id, NULL);
    CHECK_CALL(DBSS_ERR_SERVER, &call, &report);
    CHECK(call.took_ms < 1000 && dbss_error_retry_after_ms(call.error) == 61000);
    free_call(&call);
    dbss_context_free(ctx);
    free_report(&report);
}

/* The total timeout bounds the pauses too, and no call waits for an attempt
 * that it could not make. */
static void total_timeout_and_retries(void)
{
    struct report report = new_report(10000);
    dbss_config *config = retrying_config(fact("http"), "1000");
    dbss_context *ctx;
    struct call call;

    set(config, "total_timeout_ms", "700");
    ctx = to_context(config);
    post_fault(report.id, "\"status\": 503, \"headers\": [[\"Retry-After\", \"30\"]], \"times\": 1");
    call = called(TO_MEMORY, ctx, report.id, NULL);
    CHECK_CALL(DBSS_ERR_SERVER, &call, &report);
    CHECK(call.took_ms < 1500 && dbss_error_attempts(call.error) == 1);
    free_call(&call);

    post_fault(report.id, "\"status\": 503");
    call = called(TO_MEMORY, ctx, report.id, NULL);
    CHECK(call.status == DBSS_ERR_SERVER || call.status == DBSS_ERR_TOTAL_TIMEOUT);
    CHECK(call.took_ms < 1500);
    free_call(&call);
    dbss_context_free(ctx);
    free_report(&report);
}

/* A stalled attempt is given up and the transfer goes on elsewhere. */
static void stalled_attempts(void)
{
    int sink;
    for (sink = 0; sink < SINKS; sink++) {
        struct report report = new_report(300000);
        dbss_config *config = retrying_config(fact("http"), "3");
        dbss_operation *operation = new_operation();
        dbss_context *ctx;
        struct call call;

        set(config, "stall_timeout_ms", "200");
        ctx = to_context(config);
        post_fault(report.id, "\"stall_after\": 200000, \"times\": 1");
        post_fault(report.id, "\"no_answer\": true, \"times\": 1");
        call = called(sink, ctx, report.id, operation);
        CHECK_CALL(DBSS_OK, &call, &report);
        CHECK(dbss_operation_attempts(operation) == 3 && dbss_operation_resumed(operation) == 200000);
        CHECK(call.took_ms >= 400 && call.took_ms < 5000);
        free_call(&call);
        dbss_context_free(ctx);
        dbss_operation_free(operation);
        free_report(&report);
    }
}

/* ---------------------------------------------------------------------------
 * Detours
 * ------------------------------------------------------------------------ */

static const char *after_scheme(const char *url)
{
    return strstr(url, "://") + 3;
}

/* A transfer that breaks behind a proxy, which wants a password, goes on. */
static void resume_through_a_proxy(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 2; i++) {
        struct report report = new_report(600000);
        char *proxy = format("http://proxy-user:proxy-pass@%s", after_scheme(fact("proxy")));
        dbss_config *config = retrying_config(fact(schemes[i]), "2");
        dbss_operation *operation = new_operation();
        dbss_context *ctx;
        struct call call;

        set(config, "proxy", proxy);
        set(config, "allow_plaintext", "true");
        ctx = to_context(config);
        free(control("POST", "/listener_faults", "{\"listener\": \"proxy\", \"mode\": \"proxy_auth\"}"));
        post_fault(report.id, "\"reset_after\": 400000, \"times\": 1");
        call = called(TO_STREAM, ctx, report.id, operation);
        CHECK_CALL(DBSS_OK, &call, &report);
        CHECK(dbss_operation_resumed(operation) > 0 && dbss_operation_attempts(operation) == 2);
        CHECK(strstr(log_text, "proxy-pass") == NULL);
        free_call(&call);
        dbss_context_free(ctx);

        /* A wrong password is no passing trouble. */
        free(proxy);
        proxy = format("http://proxy-user:wrong-pass@%s", after_scheme(fact("proxy")));
        config = retrying_config(fact(schemes[i]), "3");
        set(config, "proxy", proxy);
        set(config, "allow_plaintext", "true");
        ctx = to_context(config);
        call = called(TO_STREAM, ctx, report.id, operation);
        CHECK_CALL(DBSS_ERR_CONNECT, &call, &report);
        CHECK(strstr(dbss_error_message(call.error), "407") != NULL);
        CHECK(where_in_error(call.error, "wrong-pass") == NULL && strstr(log_text, "wrong-pass") == NULL);
        CHECK(dbss_error_is_retryable(call.error) == 0 && dbss_error_attempts(call.error) == 1);
        free_call(&call);
        free(control("DELETE", "/listener_faults", ""));
        dbss_context_free(ctx);
        dbss_operation_free(operation);
        free_report(&report);
        free(proxy);
    }
}

/* In a child, for the sake of the environment: it is read when a context is
 * made, and only where that is wanted. */
static void use_environment(void)
{
    struct report report = new_report(10000);
    long connections;
    int i;
    setenv("https_proxy", fact("proxy"), 1);
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    for (i = 0; i < 3; i++) {
        dbss_config *config = retrying_config(fact("https"), "1");
        dbss_context *ctx;
        struct call call;
        set(config, "proxy_from_environment", i == 0 ? "false" : "true");
        if (i == 2)
            setenv("no_proxy", "elsewhere.example,localhost", 1);
        ctx = to_context(config);
        unsetenv("no_proxy");
        connections = count_connections();
        call = called(TO_MEMORY, ctx, report.id, NULL);
        CHECK_CALL(DBSS_OK, &call, &report);
        /* One to the proxy, and one from there. */
        CHECK(count_connections() - connections == (i == 1 ? 2 : 1));
        free_call(&call);
        dbss_context_free(ctx);
    }
    free_report(&report);
}

static void proxy_from_environment(void)
{
    in_child(use_environment);
}

/* The rest of a transfer may come from elsewhere, where that is allowed: the
 * redirect is taken anew, and the token stays at home. */
static void resume_through_redirects(void)
{
    struct report report = new_report(600000);
    const char *entrance = fresh_id();
    dbss_config *config = retrying_config(fact("http"), "2");
    dbss_operation *operation = new_operation();
    dbss_context *ctx;
    struct exchange seen[4];
    struct call call;

    set(config, "follow_redirects", "true");
    ctx = to_context(config);
    post_fault(entrance, "\"status\": 307, \"headers\": [[\"Location\", \"%s/v1/%s/audit/%s/reports/%s/download?local=en-us\"]]",
               fact("http_other"), fact("project"), fact("instance"), report.id);
    post_fault(report.id, "\"cut_after\": 400000, \"times\": 1");
    post_fault(report.id, "\"times\": 1");
    call = called(TO_STREAM, ctx, entrance, operation);
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
 * Many at once
 * ------------------------------------------------------------------------ */

static int crowd_cancelled, crowd_done;

static void *one_of_many(void *argument)
{
    static const char *const faults[] = {
        "\"status\": 503, \"headers\": [[\"Retry-After\", \"0\"]], \"times\": 1",
        "\"reset_before_answer\": true, \"times\": 1",
        "\"cut_random\": {\"seed\": 5, \"least\": 1000, \"most\": 250000}, \"times\": 1",
        "\"framing\": \"chunked\", \"times\": 1",
        "\"drip\": {\"bytes\": 50000, \"every_ms\": 5}, \"times\": 1",
        "\"stall_after\": 100000, \"times\": 1",
    };
    int me = *(int *)argument, i;
    struct report report;
    dbss_operation *operation = new_operation();

    pthread_mutex_lock(&round_lock);
    report = new_report(300000);
    pthread_mutex_unlock(&round_lock);
    for (i = 0; i < 6; i++) {
        int fault = (me + i) % 6;
        struct call call = {(me + i) % SINKS, random_ctx, report.id, operation, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
        post_fault(report.id, "%s", faults[fault]);
        if (fault == 5) {
            /* This one would stall for a minute: cancelled in the middle. What
             * the last call received is forgotten first. */
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
        crowd_cancelled += fault == 5;
        crowd_done++;
        pthread_mutex_unlock(&round_lock);
        free_call(&call);
    }
    dbss_operation_free(operation);
    free_report(&report);
    return NULL;
}

static void many_over(const char *scheme)
{
    enum { MANY = 64 };
    pthread_t threads[MANY];
    int numbers[MANY], i;
    random_ctx = retrying_context(fact(scheme), "5");
    crowd_cancelled = crowd_done = 0;
    for (i = 0; i < MANY; i++) {
        numbers[i] = i;
        threads[i] = start_thread(one_of_many, &numbers[i]);
    }
    for (i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    CHECK(crowd_done == MANY * 6 && crowd_cancelled == MANY);
    dbss_context_free(random_ctx);
}

static void many_threads_with_faults(void)
{
    many_over("http");
}

static void many_threads_with_faults_tls(void)
{
    many_over("https");
}

/* The size that the mock service's first answer announces, and a later one, may be
 * lies in every direction. */
static void wrong_sizes(void)
{
    static const char *const wrong[] = {
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
    dbss_context *ctx = new_context(fact("http"));
    size_t i;
    int sink;
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        for (sink = 0; sink < SINKS; sink++) {
            struct call call;
            post_fault(report.id, "%s, \"times\": 1", wrong[i]);
            call = called(sink, ctx, report.id, NULL);
            /* A body longer than announced: what follows its end is no part of
             * it, and nobody can know that. */
            if (i == 1) {
                CHECK(call.status == DBSS_OK && call.len == 599999 && holds_beginning(&call, &report));
            } else {
                CHECK(call.status != DBSS_OK && holds_beginning(&call, &report));
                CHECK(dbss_status_group(call.status) == DBSS_ERR_NETWORK || call.status == DBSS_ERR_UNEXPECTED_RESPONSE
                      || (i == 3 && sink == TO_MEMORY && call.status == DBSS_ERR_LIMIT_EXCEEDED));
            }
            blame("to %s: wrong was: %s", sink_names[sink], wrong[i]);
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
static dbss_operation *parents_operation;
static dbss_report_stream *parents_stream;
static struct report shared_report;

static void be_a_child(void)
{
    struct call call = {TO_MEMORY, NULL, NULL, NULL, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0};
    char part[100];
    size_t len = 1;
    int i;

    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "stream", dbss_report_stream_read(parents_stream, part, sizeof part, &len));
    CHECK(len == 0);
    CHECK(dbss_report_stream_size(parents_stream) == 3 * MIB);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "operation", dbss_operation_reset(parents_operation));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "operation", dbss_operation_set(parents_operation, "max_attempts", "1"));
    call.ctx = shared_ctx;
    call.id = shared_report.id;
    call.operation = parents_operation;
    make_call(&call);
    CHECK_CALL(DBSS_ERR_ARGUMENT, &call, &shared_report);
    free_call(&call);
    /* Its own calls are as good as any. */
    call.operation = new_operation();
    for (i = 0; i < SINKS; i++) {
        call.sink = i;
        make_call(&call);
        CHECK_CALL(DBSS_OK, &call, &shared_report);
        free_call(&call);
    }
    dbss_operation_free(call.operation);
    /* Nothing of this may reach the parent's. */
    dbss_operation_cancel(parents_operation);
    dbss_context_cancel_all(shared_ctx);
    dbss_report_stream_free(parents_stream);
    dbss_operation_free(parents_operation);
    dbss_context_free(shared_ctx);
}

static double used_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void fork_over(const char *scheme)
{
    char *rest = malloc(4 * MIB);
    size_t len = 0, n = 1;
    pid_t child;
    double before;

    if (rest == NULL)
        fatal("no memory");
    shared_report = new_report(3 * MIB);
    shared_ctx = new_context(fact(scheme));
    parents_operation = new_operation();
    EXPECT(DBSS_OK, dbss_report_open(shared_ctx, fact("project"), fact("instance"), shared_report.id, "en-us",
                                     parents_operation, &parents_stream));
    EXPECT(DBSS_OK, dbss_report_stream_read(parents_stream, rest, 100000, &len));
    fflush(stdout);
    child = fork();
    if (child == 0) {
        be_a_child();
        _exit(has_failed());
    }
    /* Meanwhile, and after, the parent's go on. */
    {
        struct call call = called(TO_FILE, shared_ctx, shared_report.id, NULL);
        CHECK_CALL(DBSS_OK, &call, &shared_report);
        free_call(&call);
    }
    CHECK(wait_for_child(child) == 0);
    while (n > 0 && EXPECT(DBSS_OK, dbss_report_stream_read(parents_stream, rest + len, 100000, &n)) == DBSS_OK)
        len += n;
    CHECK(len == shared_report.len && memcmp(rest, shared_report.bytes, len) == 0);
    dbss_report_stream_free(parents_stream);

    /* A cancel in the child is none here, nor does it keep the parent busy. */
    post_fault(shared_report.id, "\"delay_ms\": 1000, \"times\": 1");
    before = used_seconds();
    {
        struct call call = called(TO_MEMORY, shared_ctx, shared_report.id, parents_operation);
        CHECK_CALL(DBSS_OK, &call, &shared_report);
        free_call(&call);
    }
    if (used_seconds() - before > 0.5)
        failed("waiting for a second took %.2f s of the processor", used_seconds() - before);
    dbss_operation_free(parents_operation);
    dbss_context_free(shared_ctx);
    free_report(&shared_report);
    free(rest);
}

static void fork_with_a_stream(void)
{
    fork_over("http");
}

static void fork_with_a_stream_tls(void)
{
    fork_over("https");
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"resume", resume, PLAIN},
    {"resume_tls", resume_tls, TLS},
    {"resume_often", resume_often, PLAIN},
    {"no_validator", no_validator, PLAIN},
    {"changed_meanwhile", changed_meanwhile, PLAIN},
    {"wrong_rests", wrong_rests, PLAIN},
    {"right_rests", right_rests, PLAIN},
    {"unasked_part", unasked_part, PLAIN},
    {"a_liar_is_seen", a_liar_is_seen, PLAIN},
    {"wrong_sizes", wrong_sizes, PLAIN},
    {"random_cuts", random_cuts, LOAD},
    {"passing_trouble", passing_trouble, PLAIN},
    {"lasting_trouble", lasting_trouble, PLAIN},
    {"no_server", no_server, PLAIN},
    {"counted_anew", counted_anew, PLAIN},
    {"retry_after", retry_after, LOAD},
    {"retry_after_cap", retry_after_cap, LOAD},
    {"total_timeout_and_retries", total_timeout_and_retries, LOAD},
    {"stalled_attempts", stalled_attempts, LOAD},
    {"resume_through_a_proxy", resume_through_a_proxy, TLS},
    {"proxy_from_environment", proxy_from_environment, LOAD},
    {"resume_through_redirects", resume_through_redirects, PLAIN},
    {"many_threads_with_faults", many_threads_with_faults, LOAD},
    {"many_threads_with_faults_tls", many_threads_with_faults_tls, LOAD},
    {"fork_with_a_stream", fork_with_a_stream, LOAD},
    {"fork_with_a_stream_tls", fork_with_a_stream_tls, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
