/*
 * How long log records live. What they hold is in the cases of ../conformance. See
 * checks.h for how to run the checks.
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
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx;
    const char *id = add_report(6000);
    struct record kept, *last;
    dbss_buffer buffer;

    EXPECT(DBSS_OK, dbss_config_set_log(config, keep_record, records, NULL));
    ctx = context_from(config);
    post_fault(id, "\"status\": 403, \"times\": 1, \"headers\": [[\"X-Request-Id\", \"forbidden\"]]");
    EXPECT(DBSS_ERR_FORBIDDEN, dbss_report_download(ctx, fixture("project"), fixture("instance"), id, NULL, &buffer));
    dbss_context_free(ctx);
    last = &records[count - 1];
    /* Without a level all records are logged. */
    CHECK(count == 2 && records[0].level == DBSS_LOG_DEBUG);
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

static const struct check checks[] = {
    {"record_copy_outlives_callback", record_copy_outlives_callback, PLAIN},
};

int main(int argc, char **argv)
{
    int result = run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
    dbss_log_record_free(last_copy);
    return result;
}
