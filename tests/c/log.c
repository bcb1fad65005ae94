/* How long log records live. What they hold is in the cases of ../conformance. */

#include "calls.h"

/* The fields of the records. */
static char fields[2][1024];
static int count;
static dbss_log_record *last_copy;

static void read_record(char *into, const dbss_log_record *record)
{
    dbss_error *error = dbss_log_record_error(record);
    CHECK(dbss_error_status(error) == dbss_log_record_status(record));
    CHECK(error == NULL || strstr(dbss_log_record_message(record), dbss_error_message(error)) != NULL);
    dbss_error_free(error);
    snprintf(
        into, sizeof fields[0], "%d %s %s %s %d %u %lld %lld %lld %lld %d", (int)dbss_log_record_level(record),
        dbss_log_record_message(record), dbss_log_record_request_id(record) ? dbss_log_record_request_id(record) : "",
        dbss_log_record_report_id(record) ? dbss_log_record_report_id(record) : "", (int)dbss_log_record_status(record),
        (unsigned)dbss_log_record_attempt(record), (long long)dbss_log_record_bytes(record),
        (long long)dbss_log_record_duration_ms(record), (long long)dbss_log_record_offset(record),
        (long long)dbss_log_record_retry_delay_ms(record), (int)dbss_log_record_http_status(record));
}

static void keep_record(void *user_data, const dbss_log_record *record)
{
    CHECK(user_data == fields);
    /* Without a level all records are logged. */
    CHECK(count < 2 && dbss_log_record_level(record) == (count == 0 ? DBSS_LOG_DEBUG : DBSS_LOG_ERROR));
    read_record(fields[count++ % 2], record);
    dbss_log_record_free(last_copy);
    last_copy = dbss_log_record_copy(record);
}

static void *read_copy(void *into)
{
    read_record(into, last_copy);
    CHECK(dbss_log_record_status(last_copy) == DBSS_ERR_FORBIDDEN && dbss_log_record_http_status(last_copy) == 403);
    expect_text(__LINE__, "forbidden", dbss_log_record_request_id(last_copy));
    return NULL;
}

/* A copy has the same fields. It outlives its callback and its context, on any
 * thread. */
NAMED_CHECK(record_copy_outlives_callback, PLAIN)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    struct work work;
    char of_copy[sizeof fields[0]];

    OK(dbss_config_set_log(config, keep_record, fields, NULL));
    work = new_work(new_context_from(config), NULL);
    work.id = add_report(6000);
    post_fault(work.id, "\"status\": 403, \"times\": 1, \"headers\": [[\"X-Request-Id\", \"forbidden\"]]");
    EXPECT(DBSS_ERR_FORBIDDEN, download(&work));
    drop(work.ctx);
    run_in_threads(1, read_copy, of_copy, 0);
    CHECK(count == 2 && strstr(of_copy, work.id) != NULL);
    expect_text(__LINE__, fields[1], of_copy);
    dbss_log_record_free(last_copy);
}
