/*
 * Lists, and reports that the service creates and deletes. See checks.h for how to
 * run the checks.
 */

#include "checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char range_start[] = "2026-11-23 00:00:00", range_end[] = "2026-11-24 00:00:00";
/* An id of nothing. */
static const char unknown_id[] = "0123456789abcdef0123456789abcdef";

/* ---------------------------------------------------------------------------
 * Fixtures of the mock service
 * ------------------------------------------------------------------------ */

/* The first string with this name in a JSON document. The caller frees it. */
static char *get_json_string(const char *json, const char *name)
{
    char *start = format("\"%s\"", name);
    const char *at = strstr(json, start);
    char *text;
    if (at == NULL)
        fatal("no %s in %s", name, json);
    at += strlen(start);
    free(start);
    at += strcspn(at, "\"") + 1;
    text = format("%s", at);
    text[strcspn(text, "\"")] = '\0';
    return text;
}

/* Adds an instance without reports. Its id is valid until the program ends. */
static const char *new_instance(void)
{
    static char *ids[256];
    static size_t count;
    char *response = control("POST", "/instances", "{\"name\": \"for a check\"}");
    if (count == sizeof ids / sizeof *ids)
        fatal("too many instances");
    ids[count] = get_json_string(response, "ids");
    free(response);
    return ids[count++];
}

/* Adds reports. `more` holds further fields of a JSON object. */
static void add_reports(const char *instance, int count, const char *more)
{
    post_control("/reports", "{\"instance\": \"%s\", \"format\": \"pdf\", \"count\": %d%s%s}", instance, count,
                 *more == '\0' ? "" : ", ", more);
}

static void set_generation(const char *how)
{
    free(control("POST", "/generation", how));
}

/* Sets the response to the next calls of this name. */
static void respond_with(const char *call, int times, const char *json)
{
    post_fault(call, "\"times\": %d, \"json\": %s", times, json);
}

/* The id of the first template. The caller frees it. */
static char *first_template(dbss_context *ctx, const char *instance)
{
    dbss_cursor *cursor;
    dbss_page *page = NULL;
    char *id = NULL;
    EXPECT(DBSS_OK, dbss_templates_list(ctx, fixture("project"), instance, &cursor));
    EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
    if (dbss_page_count(page) == 0)
        fatal("the instance has no template");
    id = format("%s", dbss_page_field(page, 0, "id"));
    dbss_page_free(page);
    dbss_cursor_free(cursor);
    return id;
}

/* The specification of a one-day report from this template. */
static dbss_report_spec *new_spec(const char *template)
{
    dbss_report_spec *spec;
    if (dbss_report_spec_new(&spec) != DBSS_OK || dbss_report_spec_set(spec, "template_id", template) != DBSS_OK
        || dbss_report_spec_set(spec, "start_time", range_start) != DBSS_OK
        || dbss_report_spec_set(spec, "end_time", range_end) != DBSS_OK)
        fatal("cannot create a report spec: %s", dbss_error_message(dbss_last_error()));
    return spec;
}

/* Requests a report from this template. */
static dbss_status create_from(dbss_context *ctx, const char *instance, const char *template)
{
    dbss_report_spec *spec = new_spec(template);
    dbss_status status = dbss_report_create(ctx, fixture("project"), instance, spec, NULL);
    dbss_report_spec_free(spec);
    return status;
}

static dbss_operation *new_operation(void)
{
    dbss_operation *operation;
    if (dbss_operation_new(&operation) != DBSS_OK || dbss_operation_set(operation, "poll_interval_ms", "10") != DBSS_OK)
        fatal("cannot create an operation");
    return operation;
}

static dbss_cursor *list_reports(dbss_context *ctx, const char *instance, uint32_t page_size)
{
    dbss_cursor *cursor = NULL;
    EXPECT(DBSS_OK, dbss_reports_list(ctx, fixture("project"), instance, NULL, page_size, &cursor));
    return cursor;
}

/* The number of items in the rest of a list. */
static size_t count_rest(dbss_cursor *cursor)
{
    dbss_page *page;
    size_t count = 0;
    while (EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page)) == DBSS_OK && page != NULL) {
        count += dbss_page_count(page);
        CHECK(dbss_page_count(page) > 0);
        dbss_page_free(page);
    }
    return count;
}

static size_t count_reports(dbss_context *ctx, const char *instance)
{
    dbss_cursor *cursor = list_reports(ctx, instance, 0);
    size_t count = count_rest(cursor);
    dbss_cursor_free(cursor);
    return count;
}

/* ---------------------------------------------------------------------------
 * Lists
 * ------------------------------------------------------------------------ */

static void read_pages(const char *endpoint)
{
    static const size_t counts[] = {2, 2, 1};
    dbss_context *ctx = new_context(endpoint);
    const char *instance = new_instance();
    dbss_cursor *cursor;
    dbss_page *pages[3], *page;
    dbss_buffer json;
    long requests = count_requests("@reports.list");
    size_t i;

    add_reports(instance, 5,
                "\"percentum\": 73, \"finish_time\": null, \"extra\": "
                "{\"text\": \"a\\u0000b\\u001b\\u5ba1\", \"truth\": true, \"list\": [1, \"x\"], \"empty\": \"\"}");
    cursor = list_reports(ctx, instance, 2);
    CHECK(count_requests("@reports.list") == requests);
    for (i = 0; i < 3; i++) {
        pages[i] = NULL;
        EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &pages[i]));
        CHECK(dbss_error_status(dbss_last_error()) == DBSS_OK);
        CHECK(dbss_page_count(pages[i]) == counts[i]);
        CHECK(dbss_page_total(pages[i]) == 5);
    }
    for (i = 0; i < 3; i++) {
        page = (dbss_page *)&page;
        EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
        CHECK(page == NULL);
    }
    CHECK(count_requests("@reports.list") == requests + 3);

    /* The pages outlive both. */
    dbss_cursor_free(cursor);
    dbss_context_free(ctx);
    page = pages[1];
    for (i = 0; i < 2; i++) {
        CHECK(strlen(dbss_page_field(page, i, "id")) >= 16);
        expect_text(__LINE__, "73", dbss_page_field(page, i, "percentum"));
        expect_text(__LINE__,
                    "a\xef\xbf\xbd"
                    "b\x1b\xe5\xae\xa1",
                    dbss_page_field(page, i, "text"));
        expect_text(__LINE__, "true", dbss_page_field(page, i, "truth"));
        expect_text(__LINE__, "", dbss_page_field(page, i, "empty"));
        CHECK(strncmp(dbss_page_field(page, i, "list"), "[1,", 3) == 0);
        CHECK(dbss_page_field(page, i, "finish_time") == NULL);
        CHECK(dbss_page_field(page, i, "no such field") == NULL);
        CHECK(dbss_page_field(page, i, "\xff") == NULL);
        CHECK(dbss_page_field(page, i, "") == NULL);
        CHECK(dbss_page_field(page, i, NULL) == NULL);
    }
    CHECK(strcmp(dbss_page_field(page, 0, "id"), dbss_page_field(page, 1, "id")) != 0);
    CHECK(dbss_page_field(page, 2, "id") == NULL);
    CHECK(dbss_page_field(page, (size_t)-1, "id") == NULL);

    EXPECT(DBSS_OK, dbss_page_json(page, &json));
    if (json.data != NULL) {
        static const char start[] = "{\"kind\":\"reports\",\"total\":5,\"items\":[{";
        char *text = format("%.*s", (int)json.len, (const char *)json.data);
        CHECK(strncmp(text, start, sizeof start - 1) == 0 && json.len > sizeof start);
        CHECK(strcmp(text + json.len - 3, "}]}") == 0);
        CHECK(strstr(text, dbss_page_field(page, 1, "id")) != NULL);
        CHECK(strstr(text, "\"finish_time\":null") != NULL);
        CHECK(strstr(text, "\\u0000") != NULL);
        free(text);
    }
    dbss_buffer_free(&json);
    for (i = 0; i < 3; i++)
        dbss_page_free(pages[i]);
}

static void pages_are_read_in_order(void)
{
    read_pages(fixture("http"));
}

static void pages_are_read_in_order_tls(void)
{
    read_pages(fixture("https"));
}

static void page_getters_accept_null(void)
{
    dbss_page *none = NULL;
    dbss_buffer json = {(uint8_t *)&json, 1};
    CHECK(dbss_page_count(none) == 0);
    CHECK(dbss_page_total(none) == -1);
    CHECK(dbss_page_field(none, 0, "id") == NULL);
    EXPECT_NULL("page", dbss_page_json(none, &json));
    CHECK(json.data == NULL && json.len == 0);
    CHECK(dbss_operation_percent(NULL) == -1);
    dbss_page_free(none);
    dbss_cursor_free(NULL);
}

static void instances_and_templates_are_listed(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance();
    dbss_cursor *cursor;
    dbss_page *page;
    int found = 0;

    EXPECT(DBSS_OK, dbss_instances_list(ctx, fixture("project"), 1, &cursor));
    while (dbss_cursor_next(cursor, NULL, &page) == DBSS_OK && page != NULL) {
        CHECK(dbss_page_count(page) == 1);
        if (strcmp(dbss_page_field(page, 0, "id"), instance) == 0) {
            expect_text(__LINE__, "for a check", dbss_page_field(page, 0, "name"));
            expect_text(__LINE__, "ACTIVE", dbss_page_field(page, 0, "status"));
            found++;
        }
        dbss_page_free(page);
    }
    CHECK(found == 1);
    dbss_cursor_free(cursor);

    /* A list for which the service reports no total. */
    EXPECT(DBSS_OK, dbss_templates_list(ctx, fixture("project"), instance, &cursor));
    EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
    CHECK(dbss_page_count(page) > 1 && dbss_page_total(page) == (int64_t)dbss_page_count(page));
    CHECK(dbss_page_field(page, 1, "type") != NULL);
    dbss_page_free(page);
    EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
    CHECK(page == NULL);
    dbss_cursor_free(cursor);

    respond_with("@instances", 1, "{\"servers\": [{\"id\": \"a\"}]}");
    EXPECT(DBSS_OK, dbss_instances_list(ctx, fixture("project"), 0, &cursor));
    EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
    CHECK(dbss_page_count(page) == 1 && dbss_page_total(page) == -1);
    dbss_page_free(page);
    dbss_cursor_free(cursor);
    dbss_context_free(ctx);
}

static void databases_are_listed(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *project = fixture("project"), *instance = fixture("instance");
    static const char *const statuses[] = {NULL, "ON", "off"};
    static const size_t counts[] = {3, 2, 1};
    dbss_cursor *cursor;
    dbss_page *page;
    size_t i;

    for (i = 0; i < 3; i++) {
        EXPECT(DBSS_OK, dbss_databases_list(ctx, project, instance, statuses[i], 1, &cursor));
        EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
        CHECK(dbss_page_count(page) == 1 && dbss_page_total(page) == (int64_t)counts[i]);
        expect_text(__LINE__, i == 2 ? "OFF" : "ON", dbss_page_field(page, 0, "status"));
        expect_text(__LINE__, "3306", dbss_page_field(page, 0, "port"));
        expect_text(__LINE__, "false", dbss_page_field(page, 0, "rds_audit_switch_mismatch"));
        CHECK(dbss_page_field(page, 0, "rds_obj_info") == NULL);
        expect_text(__LINE__, "{\"undocumented\":true}", dbss_page_field(page, 0, "kernel"));
        dbss_page_free(page);
        CHECK(count_rest(cursor) == counts[i] - 1);
        dbss_cursor_free(cursor);
    }
    EXPECT(DBSS_OK, dbss_databases_list(ctx, project, instance, NULL, 10000, &cursor));
    CHECK(count_rest(cursor) == 3);
    dbss_cursor_free(cursor);
    dbss_context_free(ctx);
}

static void expect_field(int line, dbss_context *ctx, const char *template, const char *field, const char *expected)
{
    dbss_page *page = NULL;
    EXPECT(DBSS_OK, dbss_schedule_show(ctx, NULL, fixture("instance"), template, NULL, &page));
    CHECK(dbss_page_count(page) == 1 && dbss_page_total(page) == 1);
    expect_text(line, template, dbss_page_field(page, 0, "id"));
    expect_text(line, expected, dbss_page_field(page, 0, field));
    dbss_page_free(page);
}

static void schedule_is_shown_and_changed(void)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    const char *instance = fixture("instance");
    dbss_context *ctx;
    dbss_schedule_changes *changes;
    char *template;
    long requests;

    set_option(config, "max_attempts", "3");
    set_option(config, "project_id", fixture("project"));
    ctx = context_from(config);
    template = first_template(ctx, instance);
    expect_field(__LINE__, ctx, template, "frequency", "AUDIT_REPORT_WEEK");
    expect_field(__LINE__, ctx, template, "smn_effective", "true");
    EXPECT(DBSS_OK, dbss_schedule_changes_new(&changes));
    EXPECT_PARAMETER(DBSS_ERR_NOT_CONFIGURED, "changes",
                     dbss_schedule_update(ctx, NULL, instance, template, changes, NULL));
    EXPECT(DBSS_OK, dbss_schedule_changes_set(changes, "frequency", "audit_report_month"));
    EXPECT(DBSS_OK, dbss_schedule_changes_set(changes, "db_ids", "7,8"));
    EXPECT(DBSS_OK, dbss_schedule_update(ctx, NULL, instance, template, changes, NULL));
    expect_field(__LINE__, ctx, template, "frequency", "AUDIT_REPORT_MONTH");
    expect_field(__LINE__, ctx, template, "db_ids", "7,8");
    expect_field(__LINE__, ctx, template, "start_time", "2026-11-23 00:00:00");
    expect_field(__LINE__, ctx, template, "retention", "{\"days\":30,\"of\":[\"zip\",\"pdf\"]}");

    requests = count_requests("@schedule.set");
    respond_with("@schedule.set", 1, "{\"status\": \"fail\"}");
    EXPECT(DBSS_ERR_REJECTED, dbss_schedule_update(ctx, NULL, instance, template, changes, NULL));
    respond_with("@schedule.set", 1, "{\"status\": \"perhaps\"}");
    EXPECT(DBSS_ERR_UNEXPECTED_RESPONSE, dbss_schedule_update(ctx, NULL, instance, template, changes, NULL));
    /* Only one attempt is made, though three are allowed. */
    post_fault("@schedule.set", "\"perform\": true, \"close_before_answer\": true, \"times\": 1");
    EXPECT(DBSS_ERR_CONNECTION_LOST, dbss_schedule_update(ctx, NULL, instance, template, changes, NULL));
    CHECK(strstr(dbss_error_message(dbss_last_error()), "may have been changed") != NULL);
    CHECK(!dbss_error_is_retryable(dbss_last_error()));
    CHECK(count_requests("@schedule.set") == requests + 3);
    /* Showing it is retried. */
    post_fault("@schedule.show", "\"status\": 503, \"times\": 1");
    EXPECT(DBSS_OK, dbss_schedule_changes_set(changes, "db_ids", ""));
    EXPECT(DBSS_OK, dbss_schedule_update(ctx, NULL, instance, template, changes, NULL));
    expect_field(__LINE__, ctx, template, "db_ids", "");
    dbss_schedule_changes_free(changes);
    free(template);
    dbss_context_free(ctx);
}

static void malformed_schedule_fails(void)
{
    static const char *const wrong[] = {
        "[]",
        "\"text\"",
        "{}",
        "{\"scheduler\": null}",
        "{\"scheduler\": [1]}",
        "{\"scheduler\": \"text\"}",
        /* It lacks what the service requires. */
        "{\"scheduler\": {\"status\": \"ON\", \"topic_urn\": null}}",
    };
    dbss_context *ctx = new_context(fixture("http"));
    const char *project = fixture("project"), *instance = fixture("instance");
    char *template = first_template(ctx, instance);
    long requests = count_requests("@schedule.set");
    dbss_schedule_changes *changes;
    dbss_page *page;
    size_t i, count = sizeof wrong / sizeof *wrong;

    EXPECT(DBSS_OK, dbss_schedule_changes_new(&changes));
    EXPECT(DBSS_OK, dbss_schedule_changes_set(changes, "status", "OFF"));
    for (i = 0; i < count; i++) {
        respond_with("@schedule.show", 2, wrong[i]);
        page = (dbss_page *)&page;
        EXPECT(i + 1 < count ? DBSS_ERR_UNEXPECTED_RESPONSE : DBSS_OK,
               dbss_schedule_show(ctx, project, instance, template, NULL, &page));
        CHECK((page == NULL) == (i + 1 < count));
        dbss_page_free(page);
        EXPECT(DBSS_ERR_UNEXPECTED_RESPONSE, dbss_schedule_update(ctx, project, instance, template, changes, NULL));
        add_failure_context("%s", wrong[i]);
    }
    CHECK(count_requests("@schedule.set") == requests);
    /* The format and the template's id have defaults. */
    respond_with(
        "@schedule.show", 1,
        "{\"scheduler\": {\"id\": \"\", \"frequency\": \"AUDIT_REPORT_DAY\", \"mode\": \"m\", \"notice\": \"OFF\","
        " \"start_time\": \"s\", \"topic_urn\": \"\"}}");
    EXPECT(DBSS_OK, dbss_schedule_update(ctx, project, instance, template, changes, NULL));
    EXPECT(DBSS_OK, dbss_schedule_show(ctx, project, instance, template, NULL, &page));
    expect_text(__LINE__, "ZIP", dbss_page_field(page, 0, "format"));
    expect_text(__LINE__, template, dbss_page_field(page, 0, "id"));
    dbss_page_free(page);
    dbss_schedule_changes_free(changes);
    free(template);
    dbss_context_free(ctx);
}

static void schedule_calls_end_with_their_context(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *project = fixture("project"), *instance = fixture("instance");
    char *template = first_template(ctx, instance);
    dbss_operation *operation = new_operation();
    dbss_schedule_changes *changes;
    dbss_cursor *cursor;
    dbss_page *page;

    EXPECT(DBSS_OK, dbss_schedule_changes_new(&changes));
    EXPECT(DBSS_OK, dbss_schedule_changes_set(changes, "status", "OFF"));
    dbss_operation_cancel(operation);
    EXPECT(DBSS_ERR_CANCELLED, dbss_schedule_show(ctx, project, instance, template, operation, &page));
    CHECK(page == NULL);
    EXPECT(DBSS_ERR_CANCELLED, dbss_schedule_update(ctx, project, instance, template, changes, operation));
    dbss_context_close(ctx);
    EXPECT_PARAMETER(DBSS_ERR_CLOSED, "ctx", dbss_schedule_show(ctx, project, instance, template, NULL, &page));
    EXPECT_PARAMETER(DBSS_ERR_CLOSED, "ctx", dbss_schedule_update(ctx, project, instance, template, changes, NULL));
    EXPECT_PARAMETER(DBSS_ERR_CLOSED, "ctx", dbss_databases_list(ctx, project, instance, NULL, 0, &cursor));
    dbss_schedule_changes_free(changes);
    dbss_operation_free(operation);
    free(template);
    dbss_context_free(ctx);
}

static void list_arguments_are_checked(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *project = fixture("project"), *instance = fixture("instance");
    char id[DBSS_ID_SIZE], *long_text = format("%0257d", 0), *too_long = format("%04097d", 0);
    dbss_report_spec *spec = new_spec(unknown_id);
    dbss_schedule_changes *changes;
    dbss_cursor *cursor;
    dbss_page *page;
    long connections = count_connections();

#define REFUSED(status, parameter, call)                                                                               \
    do {                                                                                                               \
        cursor = (dbss_cursor *)&cursor;                                                                               \
        EXPECT_PARAMETER(status, parameter, call);                                                                     \
        CHECK(cursor == NULL);                                                                                         \
    } while (0)
    REFUSED(DBSS_ERR_INVALID_ID, "project", dbss_instances_list(ctx, "x", 0, &cursor));
    REFUSED(DBSS_ERR_INVALID_VALUE, "page_size", dbss_instances_list(ctx, project, 1001, &cursor));
    REFUSED(DBSS_ERR_INVALID_VALUE, "page_size", dbss_instances_list(ctx, project, UINT32_MAX, &cursor));
    REFUSED(DBSS_ERR_INVALID_ID, "instance", dbss_reports_list(ctx, project, "x", NULL, 0, &cursor));
    REFUSED(DBSS_ERR_INVALID_VALUE, "name", dbss_reports_list(ctx, project, instance, "", 0, &cursor));
    REFUSED(DBSS_ERR_INVALID_VALUE, "name", dbss_reports_list(ctx, project, instance, long_text, 0, &cursor));
    REFUSED(DBSS_ERR_INVALID_UTF8, "name", dbss_reports_list(ctx, project, instance, "\xff", 0, &cursor));
    REFUSED(DBSS_ERR_INVALID_VALUE, "page_size", dbss_reports_list(ctx, project, instance, NULL, 1001, &cursor));
    REFUSED(DBSS_ERR_INVALID_ID, "instance", dbss_templates_list(ctx, project, "../x", &cursor));
    REFUSED(DBSS_ERR_INVALID_UTF8, "project", dbss_templates_list(ctx, "\xff", instance, &cursor));
    REFUSED(DBSS_ERR_INVALID_ID, "instance", dbss_databases_list(ctx, project, "x", NULL, 0, &cursor));
    REFUSED(DBSS_ERR_INVALID_VALUE, "status", dbss_databases_list(ctx, project, instance, "", 0, &cursor));
    REFUSED(DBSS_ERR_INVALID_VALUE, "status", dbss_databases_list(ctx, project, instance, "ACTIVE", 0, &cursor));
    REFUSED(DBSS_ERR_INVALID_VALUE, "page_size", dbss_databases_list(ctx, project, instance, NULL, 10001, &cursor));
#undef REFUSED
    EXPECT(DBSS_OK, dbss_schedule_changes_new(&changes));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "status", dbss_schedule_changes_set(changes, "status", "on "));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "notice", dbss_schedule_changes_set(changes, "notice", "true"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "frequency", dbss_schedule_changes_set(changes, "frequency", "DAY"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "format", dbss_schedule_changes_set(changes, "format", "docx"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "mode", dbss_schedule_changes_set(changes, "mode", ""));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "topic_urn", dbss_schedule_changes_set(changes, "topic_urn", too_long));
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_schedule_changes_set(changes, "id", unknown_id));
    EXPECT(DBSS_OK, dbss_schedule_changes_set(changes, "topic_urn", ""));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ID, "template_id",
                     dbss_schedule_show(ctx, project, instance, "0123456789abcde", NULL, &page));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ID, "template_id",
                     dbss_schedule_update(ctx, project, instance, "../../../../../x", changes, NULL));
    dbss_schedule_changes_free(changes);
#define SET(status, key, value)                                                                                        \
    do {                                                                                                               \
        dbss_status set_ = dbss_report_spec_set(spec, key, value);                                                     \
        EXPECT(status, set_);                                                                                          \
        if (set_ != DBSS_OK)                                                                                           \
            expect_text(__LINE__, key, dbss_error_parameter(dbss_last_error()));                                       \
    } while (0)
#define REFUSED(status, parameter, project, instance)                                                                  \
    do {                                                                                                               \
        EXPECT_PARAMETER(status, parameter, dbss_report_create(ctx, project, instance, spec, NULL));                   \
        memset(id, 'x', sizeof id);                                                                                    \
        EXPECT_PARAMETER(status, parameter, dbss_report_generate(ctx, project, instance, spec, NULL, id));             \
        CHECK(*id == '\0');                                                                                            \
    } while (0)
    REFUSED(DBSS_ERR_INVALID_ID, "project", "x", instance);
    REFUSED(DBSS_ERR_INVALID_ID, "instance", project, "x");
    dbss_report_spec_free(spec);
    EXPECT(DBSS_OK, dbss_report_spec_new(&spec));
    /* An incomplete specification is refused when it is used. An invalid value is
     * refused when it is set. */
    REFUSED(DBSS_ERR_NOT_CONFIGURED, "template_id", project, instance);
    SET(DBSS_ERR_INVALID_ID, "template_id", "");
    SET(DBSS_ERR_INVALID_ID, "template_id", "a/b");
    SET(DBSS_OK, "template_id", unknown_id);
    REFUSED(DBSS_ERR_NOT_CONFIGURED, "start_time", project, instance);
    SET(DBSS_ERR_INVALID_VALUE, "start_time", "");
    SET(DBSS_OK, "start_time", "s");
    REFUSED(DBSS_ERR_NOT_CONFIGURED, "end_time", project, instance);
    SET(DBSS_ERR_INVALID_VALUE, "end_time", "e\n");
    SET(DBSS_ERR_INVALID_UTF8, "end_time", "\xff");
    SET(DBSS_ERR_INVALID_VALUE, "start_date", too_long);
    SET(DBSS_ERR_INVALID_VALUE, "db_ids", "");
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_report_spec_set(spec, "template", unknown_id));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "key", dbss_report_spec_set(spec, "\xff", "x"));
    dbss_report_spec_free(spec);
#undef SET
#undef REFUSED
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ID, "id", dbss_report_wait(ctx, project, instance, "x", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ID, "id", dbss_report_delete(ctx, project, instance, "../../../../x", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ID, "instance", dbss_report_delete(ctx, project, "x", unknown_id, NULL));
    CHECK(count_connections() == connections);
    free(long_text);
    free(too_long);
    dbss_context_free(ctx);
}

/* A cursor copies its arguments and outlives its context. */
static void cursor_outlives_context_and_arguments(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance();
    char *texts[3];
    dbss_cursor *cursor;
    size_t i;

    add_reports(instance, 3, "\"name\": \"wanted\"");
    add_reports(instance, 2, "\"name\": \"other\"");
    texts[0] = format("%s", fixture("project"));
    texts[1] = format("%s", instance);
    texts[2] = format("wanted");
    EXPECT(DBSS_OK, dbss_reports_list(ctx, texts[0], texts[1], texts[2], 2, &cursor));
    for (i = 0; i < 3; i++) {
        memset(texts[i], 'x', strlen(texts[i]));
        free(texts[i]);
    }
    dbss_context_free(ctx);
    CHECK(count_rest(cursor) == 3);
    dbss_cursor_free(cursor);
}

struct next {
    dbss_cursor *cursor;
    dbss_operation *operation;
    dbss_status status;
    dbss_page *page;
};

static void *get_next(void *argument)
{
    struct next *next = argument;
    next->status = dbss_cursor_next(next->cursor, next->operation, &next->page);
    return NULL;
}

static void busy_cursor_is_refused(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance();
    struct next next = {NULL, NULL, DBSS_OK, NULL};
    dbss_page *page = (dbss_page *)&page;
    long requests = count_requests("@reports.list");
    pthread_t thread;

    add_reports(instance, 3, "");
    next.cursor = list_reports(ctx, instance, 2);
    next.operation = new_operation();
    post_fault("@reports.list", "\"no_answer\": true, \"times\": 1");
    thread = start_thread(get_next, &next);
    WAIT_FOR(count_requests("@reports.list") > requests);
    EXPECT_PARAMETER(DBSS_ERR_BUSY, "cursor", dbss_cursor_next(next.cursor, NULL, &page));
    CHECK(page == NULL);
    /* The operation is in use by the other thread's call. */
    EXPECT_PARAMETER(DBSS_ERR_BUSY, "operation", dbss_cursor_next(next.cursor, next.operation, &page));
    CHECK(count_reports(ctx, instance) == 3);
    dbss_operation_cancel(next.operation);
    pthread_join(thread, NULL);
    CHECK(next.status == DBSS_ERR_CANCELLED && next.page == NULL);
    /* The cursor has not moved. */
    EXPECT(DBSS_ERR_CANCELLED, dbss_cursor_next(next.cursor, next.operation, &page));
    EXPECT(DBSS_OK, dbss_operation_reset(next.operation));
    EXPECT(DBSS_OK, dbss_cursor_next(next.cursor, next.operation, &page));
    CHECK(dbss_page_count(page) == 2);
    dbss_page_free(page);
    CHECK(count_rest(next.cursor) == 1);
    dbss_operation_free(next.operation);
    dbss_cursor_free(next.cursor);
    dbss_context_free(ctx);
}

static void cursor_freed_during_next_lets_it_finish(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance();
    struct next next = {NULL, NULL, DBSS_ERR_INTERNAL, NULL};
    long requests = count_requests("@reports.list");
    pthread_t thread;
    long long start;

    add_reports(instance, 1, "");
    next.cursor = list_reports(ctx, instance, 0);
    post_fault("@reports.list",
               "\"delay_ms\": 300, \"times\": 1, \"json\": {\"reports\": [{\"report\": {\"id\": \"a\"}}]}");
    thread = start_thread(get_next, &next);
    WAIT_FOR(count_requests("@reports.list") > requests);
    start = now_ms();
    dbss_cursor_free(next.cursor);
    dbss_context_free(ctx);
    CHECK(now_ms() - start < 200);
    pthread_join(thread, NULL);
    CHECK(next.status == DBSS_OK && dbss_page_count(next.page) == 1);
    expect_text(__LINE__, "a", dbss_page_field(next.page, 0, "id"));
    dbss_page_free(next.page);
}

#define READERS 8

static dbss_context *shared_context;
static dbss_page *shared_page;
static const char *shared_instance;

static void *read_repeatedly(void *argument)
{
    int i;
    (void)argument;
    for (i = 0; i < 20 && !has_failed(); i++) {
        dbss_buffer json;
        CHECK(count_reports(shared_context, shared_instance) == 25);
        CHECK(dbss_page_field(shared_page, (size_t)i, "id") != NULL);
        EXPECT(DBSS_OK, dbss_page_json(shared_page, &json));
        CHECK(json.len > 1000);
        dbss_buffer_free(&json);
    }
    return NULL;
}

static void page_shared_by_threads(void)
{
    pthread_t threads[READERS];
    dbss_cursor *cursor;
    size_t i;

    shared_context = new_context(fixture("http"));
    shared_instance = new_instance();
    add_reports(shared_instance, 25, "");
    cursor = list_reports(shared_context, shared_instance, 0);
    EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &shared_page));
    for (i = 0; i < READERS; i++)
        threads[i] = start_thread(read_repeatedly, NULL);
    for (i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    dbss_page_free(shared_page);
    dbss_cursor_free(cursor);
    dbss_context_free(shared_context);
}

static void malformed_list_fails(void)
{
    static const char *const faults[] = {
        "\"body\": \"not json\"",
        "\"body\": \"\"",
        "\"json\": {\"total\": 0}",
        "\"json\": {\"reports\": null}",
        "\"json\": {\"reports\": {}}",
        "\"json\": {\"reports\": [null], \"total\": 1}",
        "\"json\": {\"reports\": [{\"id\": \"a\"}], \"total\": 1}",
        "\"json\": {\"reports\": [{\"report\": {\"name\": \"a\"}}], \"total\": 1}",
        "\"json\": {\"reports\": [], \"total\": -1}",
        "\"json\": {\"reports\": [], \"total\": \"0\"}",
        "\"fill\": {\"size\": 20000000, \"byte\": 32}",
        "\"body\": \"<html></html>\"",
    };
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance();
    dbss_cursor *cursor;
    dbss_page *page;
    size_t i;

    add_reports(instance, 3, "");
    cursor = list_reports(ctx, instance, 2);
    for (i = 0; i < sizeof faults / sizeof *faults; i++) {
        page = (dbss_page *)&page;
        post_fault("@reports.list", "%s, \"times\": 1", faults[i]);
        EXPECT(DBSS_ERR_UNEXPECTED_RESPONSE, dbss_cursor_next(cursor, NULL, &page));
        CHECK(page == NULL);
        CHECK(dbss_error_http_status(dbss_last_error()) == 200);
        CHECK(dbss_error_request_id(dbss_last_error()) != NULL);
        CHECK(dbss_error_is_retryable(dbss_last_error()) == 0);
        add_failure_context("the fault was %s", faults[i]);
    }
    /* No failure moved the cursor. */
    CHECK(count_rest(cursor) == 3);
    dbss_cursor_free(cursor);

    respond_with("@reports.list", 9, "{\"reports\": [{\"report\": {\"id\": \"a\"}}], \"total\": 1000}");
    cursor = list_reports(ctx, instance, 1);
    EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
    dbss_page_free(page);
    EXPECT(DBSS_ERR_UNEXPECTED_RESPONSE, dbss_cursor_next(cursor, NULL, &page));
    CHECK(page == NULL);
    dbss_cursor_free(cursor);
    free(control("DELETE", "/faults", ""));
    dbss_context_free(ctx);
}

static void refused_list_fails(void)
{
    dbss_context *ctx = new_context(fixture("http")),
                 *unauthorized = context_from(new_config(fixture("http"), "a-token-of-nobody"));
    const char *instance = new_instance();
    dbss_cursor *cursor;
    dbss_page *page;

    cursor = list_reports(unauthorized, instance, 0);
    EXPECT(DBSS_ERR_UNAUTHENTICATED, dbss_cursor_next(cursor, NULL, &page));
    expect_text(__LINE__, "APIG.0301", dbss_error_service_code(dbss_last_error()));
    dbss_cursor_free(cursor);
    cursor = list_reports(ctx, unknown_id, 0);
    EXPECT(DBSS_ERR_NOT_FOUND, dbss_cursor_next(cursor, NULL, &page));
    dbss_cursor_free(cursor);
    EXPECT(DBSS_OK, dbss_instances_list(ctx, unknown_id, 0, &cursor));
    EXPECT(DBSS_ERR_FORBIDDEN, dbss_cursor_next(cursor, NULL, &page));
    CHECK(dbss_error_detail_count(dbss_last_error()) > 0);
    dbss_cursor_free(cursor);
    /* There is no project. */
    EXPECT(DBSS_OK, dbss_instances_list(ctx, NULL, 0, &cursor));
    EXPECT_PARAMETER(DBSS_ERR_NOT_CONFIGURED, "project", dbss_cursor_next(cursor, NULL, &page));
    CHECK(page == NULL);
    dbss_cursor_free(cursor);
    dbss_context_free(unauthorized);
    dbss_context_free(ctx);
}

/* ---------------------------------------------------------------------------
 * Reports that the service creates and deletes
 * ------------------------------------------------------------------------ */

static void create_sends_spec(void)
{
    static const char *const fields[] = {
        "\\\"start_time\\\":\\\"2026-11-23 00:00:00\\\"",
        "\\\"end_time\\\":\\\"2026-11-24 00:00:00\\\"",
        "\\\"start_date\\\":\\\"2026-11-23\\\"",
        "\\\"end_date\\\":\\\"2026-11-24\\\"",
        "\\\"db_ids\\\":\\\"7,8\\\"",
    };
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance(), *project = fixture("project");
    char *template = first_template(ctx, instance), *received;
    dbss_report_spec *spec = new_spec(template);
    long requests = count_requests("@reports.create");
    size_t i;

    EXPECT(DBSS_OK, dbss_report_spec_set(spec, "start_date", "2026-11-22"));
    EXPECT(DBSS_OK, dbss_report_spec_set(spec, "end_date", "2026-11-24"));
    EXPECT(DBSS_OK, dbss_report_spec_set(spec, "db_ids", "7,8"));
    /* The last value counts. */
    EXPECT(DBSS_OK, dbss_report_spec_set(spec, "start_date", "2026-11-23"));
    EXPECT(DBSS_OK, dbss_report_create(ctx, project, instance, spec, NULL));
    dbss_report_spec_free(spec);
    received = control("GET", "/requests?report=@reports.create", "");
    for (i = 0; i < sizeof fields / sizeof *fields; i++)
        CHECK(strstr(received, fields[i]) != NULL);
    CHECK(strstr(received, "2026-11-22") == NULL);
    free(received);
    respond_with("@reports.create", 1, "{\"result\": \"failed\"}");
    EXPECT(DBSS_ERR_REJECTED, create_from(ctx, instance, template));
    respond_with("@reports.create", 1, "{\"result\": \"perhaps\"}");
    EXPECT(DBSS_ERR_UNEXPECTED_RESPONSE, create_from(ctx, instance, template));
    EXPECT(DBSS_ERR_BAD_REQUEST, create_from(ctx, instance, unknown_id));
    CHECK(count_requests("@reports.create") == requests + 4);
    CHECK(count_reports(ctx, instance) == 1);
    free(template);
    dbss_context_free(ctx);
}

/* Only one attempt is made, though three are allowed. */
static void create_with_lost_response_is_not_retried(void)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx;
    const char *instance = new_instance();
    char *template;
    long requests = count_requests("@reports.create");

    set_option(config, "max_attempts", "3");
    ctx = context_from(config);
    template = first_template(ctx, instance);
    post_fault("@reports.create", "\"perform\": true, \"close_before_answer\": true");
    EXPECT(DBSS_ERR_CONNECTION_LOST, create_from(ctx, instance, template));
    CHECK(strstr(dbss_error_message(dbss_last_error()), "may have been created") != NULL);
    CHECK(dbss_error_attempts(dbss_last_error()) == 1);
    free(control("DELETE", "/faults", ""));
    CHECK(count_requests("@reports.create") == requests + 1);
    CHECK(count_reports(ctx, instance) == 1);
    free(template);
    dbss_context_free(ctx);
}

static dbss_status generate(dbss_context *ctx, const char *instance, const char *template, dbss_operation *operation,
                            char *id)
{
    dbss_report_spec *spec = new_spec(template);
    dbss_status status;
    memset(id, 'x', DBSS_ID_SIZE);
    status = dbss_report_generate(ctx, fixture("project"), instance, spec, operation, id);
    dbss_report_spec_free(spec);
    CHECK(memchr(id, '\0', DBSS_ID_SIZE) != NULL);
    CHECK((status == DBSS_OK) == (*id != '\0'));
    return status;
}

static int32_t last_percent, went_back;

static int32_t watch_percent(void *user_data, const dbss_operation *operation)
{
    int32_t percent = dbss_operation_percent(operation);
    (void)user_data;
    went_back |= percent < last_percent;
    last_percent = percent;
    return 0;
}

static void generated_report_is_downloaded(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance();
    char *template = first_template(ctx, instance), id[DBSS_ID_SIZE], *made;
    dbss_operation *operation = new_operation();
    dbss_buffer report;

    add_reports(instance, 3, "");
    set_generation("{\"percent_per_list\": 20, \"appear_after_lists\": 2}");
    last_percent = -1;
    went_back = 0;
    CHECK(dbss_operation_percent(operation) == -1);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, watch_percent, NULL, NULL));
    EXPECT(DBSS_OK, generate(ctx, instance, template, operation, id));
    CHECK(dbss_operation_percent(operation) == 100);
    CHECK(!went_back);
    CHECK(dbss_operation_received(operation) == 0);
    made = control("GET", "/made", "");
    CHECK(strstr(made, id) != NULL);
    free(made);
    EXPECT(DBSS_OK, dbss_report_download_to_memory(ctx, fixture("project"), instance, id, NULL, operation, &report));
    CHECK(report.len > 4 && memcmp(report.data, "%PDF", 4) == 0);
    dbss_buffer_free(&report);
    /* Another call has no percentage. */
    CHECK(dbss_operation_percent(operation) == -1);
    set_generation("{}");
    EXPECT(DBSS_OK, generate(ctx, instance, template, NULL, id));
    dbss_operation_free(operation);
    free(template);
    dbss_context_free(ctx);
}

/* Two reports may be the new one. The error lists their ids. */
static void check_candidates(void)
{
    const dbss_error *error = dbss_last_error();
    char *made = control("GET", "/made", "");
    size_t i;
    CHECK(dbss_error_candidate_count(error) == 2);
    for (i = 0; i < 2; i++)
        CHECK(dbss_error_candidate(error, i) != NULL && strstr(made, dbss_error_candidate(error, i)) != NULL);
    CHECK(strcmp(dbss_error_candidate(error, 0), dbss_error_candidate(error, 1)) != 0);
    CHECK(dbss_error_candidate(error, 2) == NULL && dbss_error_candidate(error, SIZE_MAX) == NULL);
    CHECK(dbss_error_candidate_count(NULL) == 0 && dbss_error_candidate(NULL, 0) == NULL);
    free(made);
}

static void generate_failure_is_reported(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance();
    char *template = first_template(ctx, instance), id[DBSS_ID_SIZE];
    dbss_operation *operation = new_operation();
    long requests = count_requests("@reports.create");

    EXPECT(DBSS_ERR_NOT_FOUND, generate(ctx, instance, unknown_id, operation, id));
    expect_text(__LINE__, "template_id", dbss_error_parameter(dbss_last_error()));
    EXPECT(DBSS_ERR_NOT_FOUND, generate(ctx, unknown_id, template, operation, id));
    CHECK(count_requests("@reports.create") == requests);
    respond_with("@reports.create", 1, "{\"result\": \"failed\"}");
    EXPECT(DBSS_ERR_REJECTED, generate(ctx, instance, template, operation, id));
    set_generation("{\"foreign\": [{}]}");
    EXPECT(DBSS_ERR_AMBIGUOUS, generate(ctx, instance, template, operation, id));
    check_candidates();
    set_generation("{\"foreign\": [{\"end_time\": \"2027-01-01 00:00:00\"}], \"percent_per_list\": 0}");
    EXPECT(DBSS_OK, dbss_operation_set(operation, "wait_timeout_ms", "200"));
    EXPECT(DBSS_ERR_NOT_READY, generate(ctx, instance, template, operation, id));
    CHECK(strstr(dbss_error_message(dbss_last_error()), "wait_timeout_ms") != NULL);
    CHECK(dbss_operation_percent(operation) == 0);
    dbss_operation_cancel(operation);
    EXPECT(DBSS_ERR_CANCELLED, generate(ctx, instance, template, operation, id));
    CHECK(count_requests("@reports.create") == requests + 3);
    set_generation("{}");
    dbss_operation_free(operation);
    free(template);
    dbss_context_free(ctx);
}

static void wait_then_delete(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance(), *project = fixture("project");
    char *template = first_template(ctx, instance), *id;
    dbss_operation *operation = new_operation();
    dbss_cursor *cursor;
    dbss_page *page;

    EXPECT(DBSS_OK, create_from(ctx, instance, template));
    cursor = list_reports(ctx, instance, 0);
    EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
    id = format("%s", dbss_page_field(page, 0, "id"));
    expect_text(__LINE__, "0", dbss_page_field(page, 0, "percentum"));
    dbss_page_free(page);
    dbss_cursor_free(cursor);

    EXPECT(DBSS_OK, dbss_report_wait(ctx, project, instance, id, operation));
    CHECK(dbss_operation_percent(operation) == 100);
    EXPECT(DBSS_OK, dbss_report_wait(ctx, project, instance, id, NULL));
    respond_with("@reports.delete", 1, "{\"status\": \"FAILED\"}");
    EXPECT(DBSS_ERR_REJECTED, dbss_report_delete(ctx, project, instance, id, operation));
    EXPECT(DBSS_OK, dbss_report_delete(ctx, project, instance, id, operation));
    CHECK(dbss_operation_percent(operation) == -1);
    EXPECT(DBSS_ERR_NOT_FOUND, dbss_report_delete(ctx, project, instance, id, operation));
    EXPECT(DBSS_ERR_NOT_FOUND, dbss_report_wait(ctx, project, instance, id, operation));
    CHECK(count_reports(ctx, instance) == 0);
    dbss_operation_free(operation);
    free(id);
    free(template);
    dbss_context_free(ctx);
}

static void delete_with_lost_response_is_retried(void)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx;
    const char *instance = new_instance(), *id = fresh_id();
    long requests = count_requests("@reports.delete");

    set_option(config, "max_attempts", "3");
    ctx = context_from(config);
    post_control("/reports", "{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\"}", id, instance);
    post_fault("@reports.delete", "\"perform\": true, \"close_before_answer\": true, \"times\": 1");
    EXPECT(DBSS_OK, dbss_report_delete(ctx, fixture("project"), instance, id, NULL));
    CHECK(count_requests("@reports.delete") == requests + 2);
    dbss_context_free(ctx);
}

static void wait_bounded_by_total_timeout(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance(), *id = fresh_id();
    dbss_operation *operation = new_operation();
    long long start;

    post_control("/reports", "{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\", \"percentum\": 7}", id,
                 instance);
    /* The timeout ends the pause between two polls. */
    EXPECT(DBSS_OK, dbss_operation_set(operation, "poll_interval_ms", "60000"));
    EXPECT(DBSS_OK, dbss_operation_set(operation, "total_timeout_ms", "400"));
    start = now_ms();
    EXPECT(DBSS_ERR_TOTAL_TIMEOUT, dbss_report_wait(ctx, fixture("project"), instance, id, operation));
    CHECK(now_ms() - start < WAIT_LIMIT_MS);
    CHECK(dbss_operation_percent(operation) == 7);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
}

static void wait_options_are_checked(void)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_operation *operation = new_operation();
    static const char *const keys[] = {"wait_timeout_ms", "poll_interval_ms"};
    size_t i;
    for (i = 0; i < 2; i++) {
        static const char *const wrong[] = {"0", "-2", "", "soon", "1.5", "99999999999999"};
        size_t j;
        for (j = 0; j < sizeof wrong / sizeof *wrong; j++) {
            EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, keys[i], dbss_config_set(config, keys[i], wrong[j]));
            EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, keys[i], dbss_operation_set(operation, keys[i], wrong[j]));
        }
        EXPECT(DBSS_OK, dbss_config_set(config, keys[i], "1"));
        EXPECT(DBSS_OK, dbss_operation_set(operation, keys[i], "86400000"));
    }
    EXPECT(DBSS_OK, dbss_config_set(config, "wait_timeout_ms", "-1"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "poll_interval_ms", dbss_config_set(config, "poll_interval_ms", "-1"));
    dbss_operation_free(operation);
    dbss_config_free(config);
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"pages_are_read_in_order", pages_are_read_in_order, PLAIN},
    {"pages_are_read_in_order_tls", pages_are_read_in_order_tls, TLS},
    {"page_getters_accept_null", page_getters_accept_null, PLAIN},
    {"instances_and_templates_are_listed", instances_and_templates_are_listed, PLAIN},
    {"databases_are_listed", databases_are_listed, PLAIN},
    {"schedule_is_shown_and_changed", schedule_is_shown_and_changed, PLAIN},
    {"malformed_schedule_fails", malformed_schedule_fails, PLAIN},
    {"schedule_calls_end_with_their_context", schedule_calls_end_with_their_context, PLAIN},
    {"list_arguments_are_checked", list_arguments_are_checked, PLAIN},
    {"cursor_outlives_context_and_arguments", cursor_outlives_context_and_arguments, PLAIN},
    {"busy_cursor_is_refused", busy_cursor_is_refused, PLAIN},
    {"cursor_freed_during_next_lets_it_finish", cursor_freed_during_next_lets_it_finish, LOAD},
    {"page_shared_by_threads", page_shared_by_threads, LOAD},
    {"malformed_list_fails", malformed_list_fails, PLAIN},
    {"refused_list_fails", refused_list_fails, PLAIN},
    {"create_sends_spec", create_sends_spec, PLAIN},
    {"create_with_lost_response_is_not_retried", create_with_lost_response_is_not_retried, PLAIN},
    {"generated_report_is_downloaded", generated_report_is_downloaded, PLAIN},
    {"generate_failure_is_reported", generate_failure_is_reported, PLAIN},
    {"wait_then_delete", wait_then_delete, PLAIN},
    {"delete_with_lost_response_is_retried", delete_with_lost_response_is_retried, PLAIN},
    {"wait_bounded_by_total_timeout", wait_bounded_by_total_timeout, PLAIN},
    {"wait_options_are_checked", wait_options_are_checked, PLAIN},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
