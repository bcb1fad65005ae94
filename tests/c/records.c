/*
 * The fields of log records: of calls that break and resume, of calls that succeed
 * and of calls that fail. See checks.h for how to run the checks.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The fields of a record, kept after its callback. */
struct record {
    int32_t level;
    char message[512], request_id[64], report_id[65];
    dbss_status status;
    uint32_t attempt;
    int64_t bytes, duration_ms, offset, retry_delay_ms;
    int32_t http_status;
    /* The status of the record's error. DBSS_OK if it has none. */
    dbss_status error;
};

static struct record records[64];
static size_t count;
/* The record of a retry cancels it, so that the check does not wait. */
static dbss_operation *operation_to_cancel;

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

/* A copy of the last record. */
static dbss_log_record *last_copy;

static void keep_record(void *user_data, const dbss_log_record *record)
{
    struct record *kept = &records[count++ % (sizeof records / sizeof *records)];
    CHECK(user_data == records);
    read_record(kept, record);
    CHECK(kept->error == kept->status);
    dbss_log_record_free(last_copy);
    last_copy = dbss_log_record_copy(record);
    if (kept->retry_delay_ms >= 0)
        dbss_operation_cancel(operation_to_cancel);
}

static dbss_context *logging_context(const char *attempts)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    set_option(config, "max_attempts", attempts);
    EXPECT(DBSS_OK, dbss_config_set_log(config, keep_record, records, NULL));
    count = 0;
    return context_from(config);
}

/* The only record of this level. */
static const struct record *single_record(int line, int32_t level)
{
    const struct record *found = NULL;
    size_t i;
    for (i = 0; i < count; i++) {
        if (records[i].level != level)
            continue;
        if (found != NULL)
            fail_check("line %d: two records of the level %d: \"%s\" and \"%s\"", line, (int)level, found->message,
                       records[i].message);
        found = &records[i];
    }
    if (found == NULL)
        fatal("line %d: no record of the level %d", line, (int)level);
    return found;
}

#define SINGLE_RECORD(level) single_record(__LINE__, level)

/* Checks the fields that nearly every record of a download has. */
static void check_common_fields(const struct record *record, const char *report, uint32_t attempt,
                                const char *request_id, long long started_ms)
{
    expect_text(__LINE__, report, record->report_id);
    expect_text(__LINE__, request_id, record->request_id);
    CHECK(record->attempt == attempt);
    CHECK(record->duration_ms >= 0 && record->duration_ms <= now_ms() - started_ms + 1);
    CHECK(*record->message != '\0' && strchr(record->message, '\n') == NULL);
    add_failure_context("record \"%s\"", record->message);
}

static void records_of_resumed_transfer(void)
{
    struct report report = new_report(300000);
    dbss_context *ctx = logging_context("2");
    dbss_operation *operation = new_operation();
    const struct record *record;
    dbss_buffer buffer;
    long long started_ms = now_ms();
    size_t i, infos = 0, debugs = 0;

    post_fault(report.id, "\"cut_after\": 200000, \"times\": 1, \"headers\": [[\"X-Request-Id\", \"the-first\"]]");
    post_fault(report.id, "\"times\": 1, \"headers\": [[\"X-Request-Id\", \"the-second\"]]");
    EXPECT(DBSS_OK, dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), report.id, NULL,
                                                   operation, &buffer));
    dbss_buffer_free(&buffer);

    record = SINGLE_RECORD(DBSS_LOG_WARNING);
    check_common_fields(record, report.id, 1, "the-first", started_ms);
    CHECK(record->status == DBSS_ERR_TRUNCATED && record->offset == 200000 && record->bytes == -1);
    CHECK(record->retry_delay_ms >= 0 && record->retry_delay_ms < 10000);
    CHECK(record->http_status == 0 || record->http_status == 200);
    for (i = 0; i < count; i++) {
        record = &records[i];
        CHECK(record->level == DBSS_LOG_WARNING || record->status == DBSS_OK);
        CHECK(record->level == DBSS_LOG_WARNING || record->retry_delay_ms == -1);
        if (record->level == DBSS_LOG_INFO && infos++ == 0) {
            /* The transfer resumes. */
            CHECK(record->offset == 200000 && record->bytes == -1);
            expect_text(__LINE__, report.id, record->report_id);
            CHECK(record->attempt == 2);
        } else if (record->level == DBSS_LOG_INFO) {
            /* The transfer is complete. */
            CHECK(record->bytes == 300000 && record->offset == -1);
            expect_text(__LINE__, report.id, record->report_id);
            CHECK(record->attempt == 2 && record->duration_ms >= 0);
        } else if (record->level == DBSS_LOG_DEBUG) {
            /* A response. Its size is that of the remaining bytes. */
            expect_text(__LINE__, debugs == 0 ? "the-first" : "the-second", record->request_id);
            CHECK(record->attempt == debugs + 1 && record->bytes == (debugs == 0 ? 300000 : 100000));
            CHECK(record->http_status == (debugs == 0 ? 200 : 206));
            debugs++;
        }
        add_failure_context("record \"%s\"", record->message);
    }
    CHECK(infos == 2 && debugs == 2);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_report(&report);
}

static void records_of_success(void)
{
    struct report report = new_report(6000);
    dbss_context *ctx = logging_context("1");
    const struct record *record;
    dbss_buffer buffer;
    long long started_ms = now_ms();

    post_fault(report.id, "\"times\": 1, \"headers\": [[\"X-Request-Id\", \"of-a-success\"]]");
    EXPECT(DBSS_OK, dbss_report_download(ctx, fixture("project"), fixture("instance"), report.id, NULL, &buffer));
    dbss_buffer_free(&buffer);
    record = SINGLE_RECORD(DBSS_LOG_INFO);
    check_common_fields(record, report.id, 1, "of-a-success", started_ms);
    CHECK(record->status == DBSS_OK && record->bytes == 6000 && record->offset == -1 && record->retry_delay_ms == -1);
    CHECK(record->http_status == 200);
    record = SINGLE_RECORD(DBSS_LOG_DEBUG);
    expect_text(__LINE__, "of-a-success", record->request_id);
    CHECK(record->bytes == 6000 && record->attempt == 1);
    CHECK(count == 2);
    dbss_context_free(ctx);
    free_report(&report);
}

/* The record has the exact delay that the service requested. */
static void record_of_retry_has_delay(void)
{
    const char *id = add_report(6000);
    dbss_context *ctx = logging_context("2");
    const struct record *record;
    dbss_buffer buffer;
    long long started_ms = now_ms();

    operation_to_cancel = new_operation();
    post_fault(id,
               "\"status\": 503, \"times\": 1, \"headers\": [[\"Retry-After\", \"50\"], [\"X-Request-Id\", \"busy\"]]");
    EXPECT(DBSS_ERR_CANCELLED, dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), id, NULL,
                                                              operation_to_cancel, &buffer));
    record = SINGLE_RECORD(DBSS_LOG_WARNING);
    expect_text(__LINE__, id, record->report_id);
    CHECK(record->status == DBSS_ERR_SERVER && record->attempt == 1 && record->offset == 0);
    CHECK(record->http_status == 503);
    CHECK(record->retry_delay_ms == 50000 && record->duration_ms <= now_ms() - started_ms + 1);
    record = SINGLE_RECORD(DBSS_LOG_ERROR);
    CHECK(record->status == DBSS_ERR_CANCELLED && record->retry_delay_ms == -1);
    dbss_operation_free(operation_to_cancel);
    operation_to_cancel = NULL;
    dbss_context_free(ctx);
}

static void records_of_failures(void)
{
    dbss_context *ctx = logging_context("1"), *unreachable;
    const char *id = add_report(6000);
    dbss_config *config;
    const struct record *record;
    dbss_buffer buffer;
    long long started_ms = now_ms();

    post_fault(id, "\"status\": 404, \"times\": 1, \"headers\": [[\"X-Request-Id\", \"not-there\"]]");
    EXPECT(DBSS_ERR_NOT_FOUND, dbss_report_download(ctx, fixture("project"), fixture("instance"), id, NULL, &buffer));
    record = SINGLE_RECORD(DBSS_LOG_ERROR);
    check_common_fields(record, id, 1, "not-there", started_ms);
    CHECK(record->status == DBSS_ERR_NOT_FOUND && record->bytes == -1 && record->offset == -1);
    CHECK(record->retry_delay_ms == -1 && record->http_status == 404);

    /* Without a response there is no request id. */
    config = new_config("http://127.0.0.1:1", fixture("token"));
    EXPECT(DBSS_OK, dbss_config_set_log(config, keep_record, records, NULL));
    unreachable = context_from(config);
    count = 0;
    EXPECT(DBSS_ERR_CONNECT,
           dbss_report_download(unreachable, fixture("project"), fixture("instance"), id, NULL, &buffer));
    record = SINGLE_RECORD(DBSS_LOG_ERROR);
    check_common_fields(record, id, 1, "", started_ms);
    CHECK(record->status == DBSS_ERR_CONNECT && record->http_status == 0);
    /* A call about no report has no report id. */
    count = 0;
    EXPECT(DBSS_ERR_CONNECT, dbss_context_check(unreachable, fixture("project"), NULL));
    check_common_fields(SINGLE_RECORD(DBSS_LOG_ERROR), "", 1, "", started_ms);
    dbss_context_free(unreachable);
    dbss_context_free(ctx);
}

/* Each worker's records name its own report. */
static void records_of_mirror_name_their_report(void)
{
    enum { REPORTS = 6 };
    char *instance = add_instance(), *directory = new_directory();
    char *ids[REPORTS];
    dbss_context *ctx = logging_context("1");
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = NULL;
    size_t i, j;

    for (i = 0; i < REPORTS; i++) {
        ids[i] = format("%s", fresh_id());
        post_control("/reports", "{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\", \"size\": %lu}", ids[i],
                     instance, (unsigned long)(6000 + i));
    }
    EXPECT(DBSS_OK, dbss_mirror_options_new(&options));
    EXPECT(DBSS_OK, dbss_mirror_options_set(options, "instance", instance));
    EXPECT(DBSS_OK, dbss_reports_mirror(ctx, fixture("project"), directory, options, NULL, &result));
    for (i = 0; i < REPORTS; i++) {
        int found = 0;
        for (j = 0; j < count; j++)
            found += records[j].level == DBSS_LOG_INFO && strcmp(records[j].report_id, ids[i]) == 0
                     && records[j].bytes == (int64_t)(6000 + i);
        CHECK(found == 1);
        free(ids[i]);
    }
    remove_tree(directory);
    free(directory);
    free(instance);
    dbss_mirror_result_free(result);
    dbss_mirror_options_free(options);
    dbss_context_free(ctx);
}

static void *read_copy(void *kept)
{
    read_record(kept, last_copy);
    return NULL;
}

/* A copy has the same fields. It outlives its callback and its context, on any
 * thread. */
static void record_copy_outlives_callback(void)
{
    dbss_context *ctx = logging_context("1");
    const char *id = add_report(6000);
    struct record kept, *last;
    dbss_buffer buffer;

    post_fault(id, "\"status\": 403, \"times\": 1, \"headers\": [[\"X-Request-Id\", \"forbidden\"]]");
    EXPECT(DBSS_ERR_FORBIDDEN, dbss_report_download(ctx, fixture("project"), fixture("instance"), id, NULL, &buffer));
    dbss_context_free(ctx);
    last = &records[count - 1];
    memset(&kept, 0, sizeof kept);
    run_in_thread(read_copy, &kept);
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

/* Records below the configured level are not logged. */
static void log_level_filters_records(void)
{
    static const struct {
        const char *level;
        size_t counts[DBSS_LOG_DEBUG + 1];
    } cases[] = {
        {"error", {0, 1, 0, 0, 0}}, {"warning", {0, 1, 1, 0, 0}}, {"info", {0, 1, 1, 2, 0}},
        {"debug", {0, 1, 1, 2, 3}}, {NULL, {0, 1, 1, 2, 3}},
    };
    struct report report = new_report(300000);
    dbss_config *config;
    dbss_buffer buffer;
    size_t i, j;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t counts[DBSS_LOG_DEBUG + 1] = {0, 0, 0, 0, 0};
        dbss_context *ctx;
        config = new_config(fixture("http"), fixture("token"));
        set_option(config, "max_attempts", "2");
        EXPECT(DBSS_OK, dbss_config_set_log(config, keep_record, records, NULL));
        if (cases[i].level != NULL)
            set_option(config, "log_level", cases[i].level);
        ctx = context_from(config);
        count = 0;
        /* Causes a warning, a resumed and a completed transfer, and a failure. */
        post_fault(report.id, "\"cut_after\": 200000, \"times\": 1");
        EXPECT(DBSS_OK, dbss_report_download(ctx, fixture("project"), fixture("instance"), report.id, NULL, &buffer));
        dbss_buffer_free(&buffer);
        EXPECT(DBSS_ERR_NOT_FOUND,
               dbss_report_download(ctx, fixture("project"), fixture("instance"), fresh_id(), NULL, &buffer));
        for (j = 0; j < count; j++)
            counts[records[j].level]++;
        CHECK(memcmp(counts, cases[i].counts, sizeof counts) == 0);
        add_failure_context("the level %s", cases[i].level);
        dbss_context_free(ctx);
    }
    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "log_level", dbss_config_set(config, "log_level", "trace"));
    dbss_config_free(config);
    free_report(&report);
}

static const struct check checks[] = {
    {"record_copy_outlives_callback", record_copy_outlives_callback, PLAIN},
    {"log_level_filters_records", log_level_filters_records, PLAIN},
    {"records_of_resumed_transfer", records_of_resumed_transfer, PLAIN},
    {"records_of_success", records_of_success, PLAIN},
    {"record_of_retry_has_delay", record_of_retry_has_delay, PLAIN},
    {"records_of_failures", records_of_failures, PLAIN},
    {"records_of_mirror_name_their_report", records_of_mirror_name_their_report, PLAIN},
};

int main(int argc, char **argv)
{
    int result = run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
    dbss_log_record_free(last_copy);
    return result;
}
