/* Every function with every combination of NULL and valid pointers.
 * tests/abi/nulls.py generates the checks from the description of the ABI. This
 * file supplies the valid values and the expectations. */

#include "calls.h"

#include "values.h"

/* The value of out-parameters before a call. */
static char garbage_bytes[1];
static void *const garbage = garbage_bytes;

/* The target of user_data. */
static int mark, times_destroyed;

static void a_dbss_destroy_fn(void *user_data)
{
    CHECK(user_data == NULL || user_data == &mark);
    times_destroyed++;
}

static void a_dbss_token_provider_fn(void *user_data, dbss_token_request *request)
{
    dbss_token_request_free(request);
}

static const char *scratch_directory(void)
{
    const char *directory = getenv("TMPDIR");
    return directory != NULL ? directory : "/tmp";
}

static dbss_error *make_error(void)
{
    if (dbss_config_new(NULL) == DBSS_OK)
        fatal("NULL was accepted");
    return dbss_error_take();
}

/* A context for the mock service, or for an unreachable endpoint. */
static dbss_context *make_context_at(const char *endpoint)
{
    dbss_config *config = new_config(endpoint, fixture("token"));
    dbss_context *ctx;
    set_option(config, "project_id", fixture("project"));
    set_option(config, "iam_endpoint", endpoint);
    require_ok(dbss_context_new(config, &ctx));
    dbss_config_free(config);
    return ctx;
}

static dbss_context *make_context(void)
{
    return make_context_at(fixture("http"));
}

/* What is slow to make, made once for all checks. A call without a required parameter
 * gets a reachable context, so that any traffic is noticed. Other calls get an
 * unreachable one, so that they fail at once. */
static struct {
    dbss_context *context[2];
    dbss_credentials *credentials;
    dbss_report_stream *report_stream;
    dbss_page *page;
    dbss_mirror_result *mirror_result;
} shared;

static dbss_credentials *make_credentials(void)
{
    dbss_credentials *credentials;
    require_ok(dbss_context_find_credentials(shared.context[1], NULL, &credentials));
    return credentials;
}

static dbss_report_stream *make_report_stream(void)
{
    dbss_report_stream *stream;
    require_ok(dbss_report_open(shared.context[1], NULL, fixture("instance"), fixture("pdf"), NULL, NULL, &stream));
    return stream;
}

static dbss_cursor *make_cursor(void)
{
    dbss_cursor *cursor;
    require_ok(dbss_instances_list(shared.context[0], NULL, 0, &cursor));
    return cursor;
}

static dbss_page *make_page(void)
{
    dbss_cursor *cursor;
    dbss_page *page;
    require_ok(dbss_instances_list(shared.context[1], NULL, 0, &cursor));
    require_ok(dbss_cursor_next(cursor, NULL, &page));
    dbss_cursor_free(cursor);
    return page;
}

/* The result of a mirror of two days. One has a failing report, the other none. */
static dbss_mirror_result *make_mirror_result(void)
{
    dbss_mirror_options *options = make_mirror_options();
    dbss_mirror_result *result;
    const char *id = fresh_id();
    require_ok(dbss_mirror_options_set(options, "template", "of the checks of NULL"));
    post_control("/reports",
                 "{\"id\": \"%s\", \"format\": \"pdf\", \"size\": 6000, \"start_time\": \"2026-11-23 00:00:00\","
                 " \"type\": \"AUDIT_REPORT_DAY\", \"template_type\": \"of the checks of NULL\"}",
                 id);
    post_fault(id, "\"status\": 400, \"times\": 1");
    require_ok(dbss_mirror_options_set(options, "until", "2026-11-24"));
    if (dbss_reports_mirror(shared.context[1], NULL, scratch_directory(), options, NULL, &result) != DBSS_ERR_PARTIAL
        || dbss_mirror_result_failure_count(result) != 1 || dbss_mirror_result_gap_count(result) != 1)
        fatal("unexpected result of the mirror: %s", dbss_error_message(dbss_last_error()));
    dbss_mirror_options_free(options);
    return result;
}

static dbss_token_request *kept_request;

static void keep_request(void *operation, dbss_token_request *request)
{
    kept_request = request;
    dbss_operation_cancel(operation);
}

/* Keeps a copy of the first record. */
static void keep_record(void *user_data, const dbss_log_record *record)
{
    dbss_log_record **kept = user_data;
    if (*kept == NULL)
        *kept = dbss_log_record_copy(record);
}

/* The record of a failed call. */
static dbss_log_record *make_log_record(void)
{
    dbss_log_record *kept = NULL;
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_buffer buffer;
    dbss_context *ctx;
    require_ok(dbss_config_set_log(config, keep_record, &kept, NULL));
    ctx = new_context_from(config);
    if (dbss_report_download(ctx, fixture("project"), fixture("instance"), fresh_id(), NULL, &buffer) == DBSS_OK
        || kept == NULL)
        fatal("no log record");
    drop(ctx);
    return kept;
}

/* A request whose call is cancelled. It can still be completed. */
static dbss_token_request *make_token_request(void)
{
    dbss_config *config = make_config();
    dbss_operation *operation;
    dbss_credentials *credentials;
    dbss_context *ctx;
    require_ok(dbss_operation_new(&operation));
    require_ok(dbss_config_set_token_provider(config, keep_request, operation, NULL));
    ctx = new_context_from(config);
    if (dbss_context_find_credentials(ctx, operation, &credentials) != DBSS_ERR_CANCELLED)
        fatal("the request was not cancelled");
    drop(ctx);
    dbss_operation_free(operation);
    return kept_request;
}

static dbss_buffer make_buffer(void)
{
    dbss_buffer buffer;
    require_ok(dbss_page_json(shared.page, &buffer));
    return buffer;
}

/* `missing` is the first required parameter that is NULL, or NULL. */
static void expect_status(dbss_status status, const char *missing, int network)
{
    if (missing != NULL)
        EXPECT_NULL(missing, status);
    else if (network && (status == DBSS_ERR_CONNECT || status == DBSS_ERR_CANCELLED))
        EXPECT(status, status);
    else
        EXPECT(DBSS_OK, status);
}

/* Reads the whole string, so that a sanitizer detects an invalid one. */
static void read_string(const char *text)
{
    static volatile size_t sink;
    sink = text != NULL ? strlen(text) + sink : 0;
}

static void free_shared(void)
{
    dbss_credentials_free(shared.credentials);
    dbss_report_stream_free(shared.report_stream);
    dbss_page_free(shared.page);
    dbss_mirror_result_free(shared.mirror_result);
    dbss_context_free(shared.context[0]);
    dbss_context_free(shared.context[1]);
}

static void make_shared(void)
{
    if (shared.context[0] != NULL)
        return;
    shared.context[0] = make_context_at("http://127.0.0.1:1");
    shared.context[1] = make_context();
    shared.credentials = make_credentials();
    shared.report_stream = make_report_stream();
    shared.page = make_page();
    shared.mirror_result = make_mirror_result();
    atexit(free_shared);
}

#include "nulls.h"
