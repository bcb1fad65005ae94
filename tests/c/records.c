/*
 * What the log tells, in fields: each record of a call that breaks, goes on and
 * succeeds, and of calls that fail. See checks.h for how to run them.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A record, kept beyond its callback. */
struct record {
    int32_t level;
    char message[512], request_id[64], report_id[65];
    dbss_status status;
    uint32_t attempt;
    int64_t bytes, duration_ms, offset, retry_delay_ms;
    int32_t http_status;
    /* Of the record's error; DBSS_OK where it has none. */
    dbss_status error;
};

static struct record records[64];
static size_t count;
/* Cancelled by the record of a retry, which it makes unnecessary to wait for. */
static dbss_operation *impatient;

static void copy(char *to, size_t room, const char *text)
{
    snprintf(to, room, "%s", text != NULL ? text : "");
}

static void read_record(struct record *kept, const dbss_log_record *record)
{
    dbss_error *error = dbss_log_record_error(record);
    kept->error = dbss_error_status(error);
    CHECK(error == NULL || strstr(dbss_log_record_message(record), dbss_error_message(error)) != NULL);
    dbss_error_free(error);
    kept->http_status = dbss_log_record_http_status(record);
    kept->level = dbss_log_record_level(record);
    copy(kept->message, sizeof kept->message, dbss_log_record_message(record));
    copy(kept->request_id, sizeof kept->request_id, dbss_log_record_request_id(record));
    copy(kept->report_id, sizeof kept->report_id, dbss_log_record_report_id(record));
    kept->status = dbss_log_record_status(record);
    kept->attempt = dbss_log_record_attempt(record);
    kept->bytes = dbss_log_record_bytes(record);
    kept->duration_ms = dbss_log_record_duration_ms(record);
    kept->offset = dbss_log_record_offset(record);
    kept->retry_delay_ms = dbss_log_record_retry_delay_ms(record);
}

/* The last record, copied. */
static dbss_log_record *copied;

static void keep(void *user_data, const dbss_log_record *record)
{
    struct record *kept = &records[count++ % (sizeof records / sizeof *records)];
    CHECK(user_data == records);
    read_record(kept, record);
    CHECK(kept->error == kept->status);
    dbss_log_record_free(copied);
    copied = dbss_log_record_copy(record);
    if (kept->retry_delay_ms >= 0)
        dbss_operation_cancel(impatient);
}

static dbss_context *logging_context(const char *attempts)
{
    dbss_config *config = new_config(fact("http"), fact("token"));
    set(config, "max_attempts", attempts);
    EXPECT(DBSS_OK, dbss_config_set_log(config, keep, records, NULL));
    count = 0;
    return to_context(config);
}

/* The one record of this level. */
static const struct record *only(int line, int32_t level)
{
    const struct record *found = NULL;
    size_t i;
    for (i = 0; i < count; i++) {
        if (records[i].level != level)
            continue;
        if (found != NULL)
            failed("line %d: two records of the level %d: \"%s\" and \"%s\"", line, (int)level, found->message,
                   records[i].message);
        found = &records[i];
    }
    if (found == NULL)
        fatal("line %d: no record of the level %d", line, (int)level);
    return found;
}

#define ONLY(level) only(__LINE__, level)

/* What nearly every record of a download has. */
static void check_call_of(const struct record *record, const char *report, uint32_t attempt, const char *request_id,
                          long long began)
{
    expect_text(__LINE__, report, record->report_id);
    expect_text(__LINE__, request_id, record->request_id);
    CHECK(record->attempt == attempt);
    CHECK(record->duration_ms >= 0 && record->duration_ms <= now_ms() - began + 1);
    CHECK(*record->message != '\0' && strchr(record->message, '\n') == NULL);
    blame("in \"%s\"", record->message);
}

static void of_a_transfer_that_breaks(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = logging_context("2");
    dbss_operation *operation = new_operation();
    const struct record *record;
    dbss_buffer buffer;
    long long began = now_ms();
    size_t i, infos = 0, debugs = 0;

    post_fault(report.id, "\"cut_after\": 200000, \"times\": 1, \"headers\": [[\"X-Request-Id\", \"the-first\"]]");
    post_fault(report.id, "\"times\": 1, \"headers\": [[\"X-Request-Id\", \"the-second\"]]");
    EXPECT(DBSS_OK, dbss_report_download_to_memory(ctx, fact("project"), fact("instance"), report.id, NULL, operation,
                                                   &buffer));
    dbss_buffer_free(&buffer);

    record = ONLY(DBSS_LOG_WARNING);
    check_call_of(record, report.id, 1, "the-first", began);
    CHECK(record->status == DBSS_ERR_TRUNCATED && record->offset == 200000 && record->bytes == -1);
    CHECK(record->retry_delay_ms >= 0 && record->retry_delay_ms < 10000);
    CHECK(record->http_status == 0 || record->http_status == 200);
    for (i = 0; i < count; i++) {
        record = &records[i];
        CHECK(record->level == DBSS_LOG_WARNING || record->status == DBSS_OK);
        CHECK(record->level == DBSS_LOG_WARNING || record->retry_delay_ms == -1);
        if (record->level == DBSS_LOG_INFO && infos++ == 0) {
            /* It goes on. */
            CHECK(record->offset == 200000 && record->bytes == -1);
            expect_text(__LINE__, report.id, record->report_id);
            CHECK(record->attempt == 2);
        } else if (record->level == DBSS_LOG_INFO) {
            /* It is whole. */
            CHECK(record->bytes == 300000 && record->offset == -1);
            expect_text(__LINE__, report.id, record->report_id);
            CHECK(record->attempt == 2 && record->duration_ms >= 0);
        } else if (record->level == DBSS_LOG_DEBUG) {
            /* A response: its size is what is left. */
            expect_text(__LINE__, debugs == 0 ? "the-first" : "the-second", record->request_id);
            CHECK(record->attempt == debugs + 1 && record->bytes == (debugs == 0 ? 300000 : 100000));
            CHECK(record->http_status == (debugs == 0 ? 200 : 206));
            debugs++;
        }
        blame("in \"%s\"", record->message);
    }
    CHECK(infos == 2 && debugs == 2);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

static void of_a_success(void)
{
    struct report report = new_report(6000);
    dbss_context *ctx = logging_context("1");
    const struct record *record;
    dbss_buffer buffer;
    long long began = now_ms();

    post_fault(report.id, "\"times\": 1, \"headers\": [[\"X-Request-Id\", \"of-a-success\"]]");
    EXPECT(DBSS_OK, dbss_report_download(ctx, fact("project"), fact("instance"), report.id, NULL, &buffer));
    dbss_buffer_free(&buffer);
    record = ONLY(DBSS_LOG_INFO);
    check_call_of(record, report.id, 1, "of-a-success", began);
    CHECK(record->status == DBSS_OK && record->bytes == 6000 && record->offset == -1 && record->retry_delay_ms == -1);
    CHECK(record->http_status == 200);
    record = ONLY(DBSS_LOG_DEBUG);
    expect_text(__LINE__, "of-a-success", record->request_id);
    CHECK(record->bytes == 6000 && record->attempt == 1);
    CHECK(count == 2);
    dbss_context_free(ctx);
    free_report(&report);
}

/* The wait that the service asks for is the record's, to the millisecond. */
static void of_a_retry_that_is_asked_for(void)
{
    const char *id = add_report(6000);
    dbss_context *ctx = logging_context("2");
    const struct record *record;
    dbss_buffer buffer;
    long long began = now_ms();

    impatient = new_operation();
    post_fault(id, "\"status\": 503, \"times\": 1, \"headers\": [[\"Retry-After\", \"50\"], [\"X-Request-Id\", \"busy\"]]");
    EXPECT(DBSS_ERR_CANCELLED,
           dbss_report_download_to_memory(ctx, fact("project"), fact("instance"), id, NULL, impatient, &buffer));
    record = ONLY(DBSS_LOG_WARNING);
    expect_text(__LINE__, id, record->report_id);
    CHECK(record->status == DBSS_ERR_SERVER && record->attempt == 1 && record->offset == 0);
    CHECK(record->http_status == 503);
    CHECK(record->retry_delay_ms == 50000 && record->duration_ms <= now_ms() - began + 1);
    record = ONLY(DBSS_LOG_ERROR);
    CHECK(record->status == DBSS_ERR_CANCELLED && record->retry_delay_ms == -1);
    dbss_operation_free(impatient);
    impatient = NULL;
    dbss_context_free(ctx);
}

static void of_failures(void)
{
    dbss_context *ctx = logging_context("1"), *nowhere;
    const char *id = add_report(6000);
    dbss_config *config;
    const struct record *record;
    dbss_buffer buffer;
    long long began = now_ms();

    post_fault(id, "\"status\": 404, \"times\": 1, \"headers\": [[\"X-Request-Id\", \"not-there\"]]");
    EXPECT(DBSS_ERR_NOT_FOUND, dbss_report_download(ctx, fact("project"), fact("instance"), id, NULL, &buffer));
    record = ONLY(DBSS_LOG_ERROR);
    check_call_of(record, id, 1, "not-there", began);
    CHECK(record->status == DBSS_ERR_NOT_FOUND && record->bytes == -1 && record->offset == -1);
    CHECK(record->retry_delay_ms == -1 && record->http_status == 404);

    /* Without a response there is no request id. */
    config = new_config("http://127.0.0.1:1", fact("token"));
    EXPECT(DBSS_OK, dbss_config_set_log(config, keep, records, NULL));
    nowhere = to_context(config);
    count = 0;
    EXPECT(DBSS_ERR_CONNECT, dbss_report_download(nowhere, fact("project"), fact("instance"), id, NULL, &buffer));
    record = ONLY(DBSS_LOG_ERROR);
    check_call_of(record, id, 1, "", began);
    CHECK(record->status == DBSS_ERR_CONNECT && record->http_status == 0);
    /* Nor a report where it is about none. */
    count = 0;
    EXPECT(DBSS_ERR_CONNECT, dbss_context_check(nowhere, fact("project"), NULL));
    check_call_of(ONLY(DBSS_LOG_ERROR), "", 1, "", began);
    dbss_context_free(nowhere);
    dbss_context_free(ctx);
}

/* Each worker's records are of its own report. */
static void of_a_mirror(void)
{
    enum { REPORTS = 6 };
    char *instance = format("instance-%s", fresh_id()), *directory = new_directory(), *command;
    char *body = format("{\"id\": \"%s\", \"name\": \"records\"}", instance);
    char *ids[REPORTS];
    dbss_context *ctx = logging_context("1");
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = NULL;
    size_t i, j;

    free(control("POST", "/instances", body));
    free(body);
    for (i = 0; i < REPORTS; i++) {
        ids[i] = format("%s", fresh_id());
        body = format("{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\", \"size\": %lu}", ids[i], instance,
                      (unsigned long)(6000 + i));
        free(control("POST", "/reports", body));
        free(body);
    }
    EXPECT(DBSS_OK, dbss_mirror_options_new(&options));
    EXPECT(DBSS_OK, dbss_mirror_options_set(options, "instance", instance));
    EXPECT(DBSS_OK, dbss_reports_mirror(ctx, fact("project"), directory, options, NULL, &result));
    for (i = 0; i < REPORTS; i++) {
        int found = 0;
        for (j = 0; j < count; j++)
            found += records[j].level == DBSS_LOG_INFO && strcmp(records[j].report_id, ids[i]) == 0
                     && records[j].bytes == (int64_t)(6000 + i);
        CHECK(found == 1);
        free(ids[i]);
    }
    command = format("rm -r '%s'", directory);
    if (system(command) != 0)
        failed("cannot remove the archive");
    free(command);
    free(directory);
    free(instance);
    dbss_mirror_result_free(result);
    dbss_mirror_options_free(options);
    dbss_context_free(ctx);
}

static void *read_copy(void *kept)
{
    read_record(kept, copied);
    return NULL;
}

/* A copy says the same, beyond its callback and its context, on any thread. */
static void copies_last(void)
{
    dbss_context *ctx = logging_context("1");
    const char *id = add_report(6000);
    struct record kept, *last;
    dbss_buffer buffer;

    post_fault(id, "\"status\": 403, \"times\": 1, \"headers\": [[\"X-Request-Id\", \"forbidden\"]]");
    EXPECT(DBSS_ERR_FORBIDDEN, dbss_report_download(ctx, fact("project"), fact("instance"), id, NULL, &buffer));
    dbss_context_free(ctx);
    last = &records[count - 1];
    memset(&kept, 0, sizeof kept);
    in_thread(read_copy, &kept);
    CHECK(kept.level == DBSS_LOG_ERROR && kept.level == last->level && kept.status == last->status);
    CHECK(kept.status == DBSS_ERR_FORBIDDEN && kept.error == kept.status && kept.http_status == 403);
    expect_text(__LINE__, last->message, kept.message);
    expect_text(__LINE__, "forbidden", kept.request_id);
    expect_text(__LINE__, id, kept.report_id);
    CHECK(kept.attempt == last->attempt && kept.bytes == last->bytes && kept.duration_ms == last->duration_ms);
    CHECK(kept.offset == last->offset && kept.retry_delay_ms == last->retry_delay_ms);
    CHECK(dbss_log_record_copy(NULL) == NULL);
    dbss_log_record_free(NULL);
}

/* What matters less than it says is not told. */
static void levels(void)
{
    static const struct {
        const char *level;
        size_t counts[DBSS_LOG_DEBUG + 1];
    } ways[] = {
        {"error", {0, 1, 0, 0, 0}},
        {"warning", {0, 1, 1, 0, 0}},
        {"info", {0, 1, 1, 2, 0}},
        {"debug", {0, 1, 1, 2, 3}},
        {NULL, {0, 1, 1, 2, 3}},
    };
    struct report report = new_report(300000);
    dbss_config *config;
    dbss_buffer buffer;
    size_t i, j;

    for (i = 0; i < sizeof ways / sizeof *ways; i++) {
        size_t counts[DBSS_LOG_DEBUG + 1] = {0, 0, 0, 0, 0};
        dbss_context *ctx;
        config = new_config(fact("http"), fact("token"));
        set(config, "max_attempts", "2");
        EXPECT(DBSS_OK, dbss_config_set_log(config, keep, records, NULL));
        if (ways[i].level != NULL)
            set(config, "log_level", ways[i].level);
        ctx = to_context(config);
        count = 0;
        /* A warning, a transfer that goes on, one that ends, and a failure. */
        post_fault(report.id, "\"cut_after\": 200000, \"times\": 1");
        EXPECT(DBSS_OK, dbss_report_download(ctx, fact("project"), fact("instance"), report.id, NULL, &buffer));
        dbss_buffer_free(&buffer);
        EXPECT(DBSS_ERR_NOT_FOUND, dbss_report_download(ctx, fact("project"), fact("instance"), fresh_id(), NULL, &buffer));
        for (j = 0; j < count; j++)
            counts[records[j].level]++;
        CHECK(memcmp(counts, ways[i].counts, sizeof counts) == 0);
        blame("the level %s", ways[i].level);
        dbss_context_free(ctx);
    }
    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "log_level", dbss_config_set(config, "log_level", "trace"));
    dbss_config_free(config);
    free_report(&report);
}

static const struct check checks[] = {
    {"copies_last", copies_last, PLAIN},
    {"levels", levels, PLAIN},
    {"of_a_transfer_that_breaks", of_a_transfer_that_breaks, PLAIN},
    {"of_a_success", of_a_success, PLAIN},
    {"of_a_retry_that_is_asked_for", of_a_retry_that_is_asked_for, PLAIN},
    {"of_failures", of_failures, PLAIN},
    {"of_a_mirror", of_a_mirror, PLAIN},
};

int main(int argc, char **argv)
{
    int result = run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
    dbss_log_record_free(copied);
    return result;
}
