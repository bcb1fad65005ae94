/* Cursors and pages: how long they live, and what threads may do with them. What lists
 * hold is in the cases of ../conformance. */

#include "calls.h"

static dbss_cursor *new_cursor(dbss_context *ctx, const char *instance, uint32_t page_size)
{
    dbss_cursor *cursor = NULL;
    OK(dbss_reports_list(ctx, fixture("project"), instance, NULL, page_size, &cursor));
    return cursor;
}

/* The number of items in the rest of a list, which it frees. */
static size_t count_rest(dbss_cursor *cursor)
{
    dbss_page *page;
    size_t count = 0;
    while (OK(dbss_cursor_next(cursor, NULL, &page)) == DBSS_OK && page != NULL) {
        count += dbss_page_count(page);
        CHECK(dbss_page_count(page) > 0);
        dbss_page_free(page);
    }
    dbss_cursor_free(cursor);
    return count;
}

/* Pages outlive their cursor, and a cursor its client and the texts that it was made with. */
NAMED_CHECK(pages_outlive_cursor_and_client, PLAIN)
{
    dbss_context *ctx = new_context(fixture("http"));
    char *project = text("%s", fixture("project")), *name = text("wanted");
    char *instance = text("%s", add_instance(0, 0)), *whole;
    dbss_cursor *cursor;
    dbss_page *pages[3], *page = NULL;
    dbss_buffer json;

    post_control("/reports",
                 "{\"instance\": \"%s\", \"format\": \"pdf\", \"count\": 5, \"name\": \"wanted\","
                 " \"finish_time\": null, \"extra\": {\"text\": \"a\\u0000b\"}}",
                 instance);
    OK(dbss_reports_list(ctx, project, instance, name, 2, &cursor));
    *project = *name = *instance = 'x';
    drop(project);
    drop(name);
    drop(instance);
    drop(ctx);
    for (size_t i = 0; i < 3; i++)
        OK(dbss_cursor_next(cursor, NULL, &pages[i]));
    for (size_t i = 0; i < 3; i++) {
        page = (dbss_page *)&page;
        OK(dbss_cursor_next(cursor, NULL, &page));
        CHECK(page == NULL);
    }
    dbss_cursor_free(cursor);

    page = pages[1];
    CHECK(dbss_page_count(page) == 2 && dbss_page_count(pages[2]) == 1 && dbss_page_total(page) == 5);
    for (size_t i = 0; i < 2; i++) {
        static const char *const missing[] = {"finish_time", "no such field", "\xff", "", NULL};
        CHECK(strlen(dbss_page_field(page, i, "id")) >= 16);
        /* A text of C cannot hold NUL. */
        expect_text(__LINE__, "a\xef\xbf\xbd\x62", dbss_page_field(page, i, "text"));
        for (size_t j = 0; j < COUNT(missing); j++)
            CHECK(dbss_page_field(page, i, missing[j]) == NULL);
    }
    CHECK(strcmp(dbss_page_field(page, 0, "id"), dbss_page_field(page, 1, "id")) != 0);
    CHECK(dbss_page_field(page, 2, "id") == NULL && dbss_page_field(page, (size_t)-1, "id") == NULL);
    OK(dbss_page_json(page, &json));
    whole = text("%.*s", (int)json.len, (const char *)json.data);
    CHECK(strstr(whole, "{\"kind\":\"reports\",\"total\":5,\"items\":[{") == whole);
    CHECK(strcmp(whole + json.len - 3, "}]}") == 0);
    CHECK(strstr(whole, dbss_page_field(page, 1, "id")) != NULL && strstr(whole, "\"finish_time\":null") != NULL);
    CHECK(strstr(whole, "\\u0000") != NULL);
    dbss_buffer_free(&json);
    for (size_t i = 0; i < 3; i++)
        dbss_page_free(pages[i]);
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

/* Starts a call for the next page, which gets this fault. */
static pthread_t start_next(struct next *next, const char *fault)
{
    long requests = count_requests("@reports.list");
    pthread_t thread;
    post_fault("@reports.list", "%s, \"times\": 1", fault);
    thread = start_thread(get_next, next);
    WAIT_FOR(count_requests("@reports.list") > requests);
    return thread;
}

NAMED_CHECK(busy_cursor_is_refused, PLAIN)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = add_instance(3, 6000);
    struct next next = {new_cursor(ctx, instance, 2), new_operation(), DBSS_OK, NULL};
    dbss_page *page = (dbss_page *)&page;
    pthread_t thread = start_next(&next, "\"no_response\": true");

    EXPECT_PARAMETER(DBSS_ERR_BUSY, "cursor", dbss_cursor_next(next.cursor, NULL, &page));
    CHECK(page == NULL);
    /* The operation is in use by the other thread's call. */
    EXPECT_PARAMETER(DBSS_ERR_BUSY, "operation", dbss_cursor_next(next.cursor, next.operation, &page));
    CHECK(count_rest(new_cursor(ctx, instance, 0)) == 3);
    dbss_operation_cancel(next.operation);
    pthread_join(thread, NULL);
    CHECK(next.status == DBSS_ERR_CANCELLED && next.page == NULL);
    /* The cursor has not moved. */
    EXPECT(DBSS_ERR_CANCELLED, dbss_cursor_next(next.cursor, next.operation, &page));
    OK(dbss_operation_reset(next.operation));
    OK(dbss_cursor_next(next.cursor, next.operation, &page));
    CHECK(dbss_page_count(page) == 2);
    dbss_page_free(page);
    CHECK(count_rest(next.cursor) == 1);
}

NAMED_CHECK(cursor_freed_during_next_lets_it_finish, LOAD)
{
    dbss_context *ctx = new_context(fixture("http"));
    struct next next = {new_cursor(ctx, add_instance(1, 6000), 0), NULL, DBSS_ERR_INTERNAL, NULL};
    pthread_t thread =
        start_next(&next, "\"delay_ms\": 60000, \"json\": {\"reports\": [{\"report\": {\"id\": \"a\"}}]}");
    long long start = now_ms();
    dbss_cursor_free(next.cursor);
    drop(ctx);
    CHECK(now_ms() - start < 20000);
    remove_faults();
    pthread_join(thread, NULL);
    CHECK(next.status == DBSS_OK && dbss_page_count(next.page) == 1);
    expect_text(__LINE__, "a", dbss_page_field(next.page, 0, "id"));
    dbss_page_free(next.page);
}

static dbss_context *shared_context;
static dbss_page *shared_page;
static const char *shared_instance;

static void *read_repeatedly(void *unused)
{
    for (size_t i = 0; i < 20 && !has_failed(); i++) {
        dbss_buffer json;
        CHECK(count_rest(new_cursor(shared_context, shared_instance, 0)) == 25);
        CHECK(dbss_page_field(shared_page, i, "id") != NULL);
        OK(dbss_page_json(shared_page, &json));
        CHECK(json.len > 1000);
        dbss_buffer_free(&json);
    }
    return NULL;
}

NAMED_CHECK(page_shared_by_threads, LOAD)
{
    dbss_cursor *cursor;
    shared_context = new_context(fixture("http"));
    shared_instance = add_instance(25, 6000);
    cursor = new_cursor(shared_context, shared_instance, 0);
    OK(dbss_cursor_next(cursor, NULL, &shared_page));
    run_in_threads(8, read_repeatedly, NULL, 0);
    dbss_page_free(shared_page);
    dbss_cursor_free(cursor);
}

/* An invalid value is refused when it is set; the last valid one counts. */
NAMED_CHECK(report_spec_is_checked_when_it_is_set, PLAIN)
{
    dbss_report_spec *spec;
    char *received;
    OK(dbss_report_spec_new(&spec));
    OK(dbss_report_spec_set(spec, "template_id", fixture("template")));
    OK(dbss_report_spec_set(spec, "start_time", "of no report"));
    OK(dbss_report_spec_set(spec, "start_time", "2026-11-23 00:00:00"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "start_time", dbss_report_spec_set(spec, "start_time", ""));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "end_time", dbss_report_spec_set(spec, "end_time", "\xff"));
    OK(dbss_report_spec_set(spec, "end_time", "2026-11-24 00:00:00"));
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_report_spec_set(spec, "template", fixture("template")));
    OK(dbss_report_create(new_context(fixture("http")), fixture("project"), add_instance(0, 0), spec, NULL));
    received = control("GET", "/requests?report=@reports.create", "");
    CHECK(strstr(received, "2026-11-23 00:00:00") != NULL && strstr(received, "of no report") == NULL);
    free(received);
    dbss_report_spec_free(spec);
}
