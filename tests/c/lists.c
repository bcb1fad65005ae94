/*
 * Cursors and pages: how long they live, and what threads may do with them. What lists
 * hold is in the cases of ../conformance. See checks.h for how to run the checks.
 */

#include "checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds an instance with reports. `more` holds further fields of a JSON object. Its id is
 * valid until the program ends. */
static const char *new_instance(int count, const char *more)
{
    static char *ids[16];
    static size_t used;
    if (used == sizeof ids / sizeof *ids)
        fatal("too many instances");
    ids[used] = add_instance();
    post_control("/reports", "{\"instance\": \"%s\", \"format\": \"pdf\", \"count\": %d%s%s}", ids[used], count,
                 *more == '\0' ? "" : ", ", more);
    return ids[used++];
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

/* Pages outlive their cursor, and a cursor its client and the texts that it was made with. */
static void pages_outlive_cursor_and_client(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    char *project = format("%s", fixture("project")), *name = format("wanted");
    const char *instance =
        new_instance(5, "\"name\": \"wanted\", \"finish_time\": null, \"extra\": {\"text\": \"a\\u0000b\"}");
    char *id = format("%s", instance);
    dbss_cursor *cursor;
    dbss_page *pages[3], *page = NULL;
    dbss_buffer json;
    size_t i;

    EXPECT(DBSS_OK, dbss_reports_list(ctx, project, id, name, 2, &cursor));
    *project = *name = *id = 'x';
    free(project);
    free(name);
    free(id);
    dbss_context_free(ctx);
    for (i = 0; i < 3; i++)
        EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &pages[i]));
    for (i = 0; i < 3; i++) {
        page = (dbss_page *)&page;
        EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
        CHECK(page == NULL);
    }
    dbss_cursor_free(cursor);

    page = pages[1];
    CHECK(dbss_page_count(page) == 2 && dbss_page_count(pages[2]) == 1 && dbss_page_total(page) == 5);
    for (i = 0; i < 2; i++) {
        CHECK(strlen(dbss_page_field(page, i, "id")) >= 16);
        /* A text of C cannot hold NUL. */
        expect_text(__LINE__,
                    "a\xef\xbf\xbd"
                    "b",
                    dbss_page_field(page, i, "text"));
        CHECK(dbss_page_field(page, i, "finish_time") == NULL && dbss_page_field(page, i, "no such field") == NULL);
        CHECK(dbss_page_field(page, i, "\xff") == NULL && dbss_page_field(page, i, "") == NULL);
        CHECK(dbss_page_field(page, i, NULL) == NULL);
    }
    CHECK(strcmp(dbss_page_field(page, 0, "id"), dbss_page_field(page, 1, "id")) != 0);
    CHECK(dbss_page_field(page, 2, "id") == NULL && dbss_page_field(page, (size_t)-1, "id") == NULL);
    EXPECT(DBSS_OK, dbss_page_json(page, &json));
    if (json.data != NULL) {
        char *text = format("%.*s", (int)json.len, (const char *)json.data);
        CHECK(strstr(text, "{\"kind\":\"reports\",\"total\":5,\"items\":[{") == text);
        CHECK(strcmp(text + json.len - 3, "}]}") == 0);
        CHECK(strstr(text, dbss_page_field(page, 1, "id")) != NULL && strstr(text, "\"finish_time\":null") != NULL);
        CHECK(strstr(text, "\\u0000") != NULL);
        free(text);
    }
    dbss_buffer_free(&json);
    for (i = 0; i < 3; i++)
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

static void busy_cursor_is_refused(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance(3, "");
    struct next next = {NULL, NULL, DBSS_OK, NULL};
    dbss_page *page = (dbss_page *)&page;
    long requests = count_requests("@reports.list");
    pthread_t thread;

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
    const char *instance = new_instance(1, "");
    struct next next = {NULL, NULL, DBSS_ERR_INTERNAL, NULL};
    long requests = count_requests("@reports.list");
    pthread_t thread;
    long long start;

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
    shared_instance = new_instance(25, "");
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

/* An invalid value is refused when it is set; the last valid one counts. */
static void report_spec_is_checked_when_it_is_set(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *instance = new_instance(1, "");
    dbss_report_spec *spec;
    char *received;

    EXPECT(DBSS_OK, dbss_report_spec_new(&spec));
    EXPECT(DBSS_OK, dbss_report_spec_set(spec, "template_id", fixture("template")));
    EXPECT(DBSS_OK, dbss_report_spec_set(spec, "start_time", "of no report"));
    EXPECT(DBSS_OK, dbss_report_spec_set(spec, "start_time", "2026-11-23 00:00:00"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "start_time", dbss_report_spec_set(spec, "start_time", ""));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "end_time", dbss_report_spec_set(spec, "end_time", "\xff"));
    EXPECT(DBSS_OK, dbss_report_spec_set(spec, "end_time", "2026-11-24 00:00:00"));
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_report_spec_set(spec, "template", fixture("template")));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "key", dbss_report_spec_set(spec, "\xff", "x"));
    EXPECT(DBSS_OK, dbss_report_create(ctx, fixture("project"), instance, spec, NULL));
    received = control("GET", "/requests?report=@reports.create", "");
    CHECK(strstr(received, "2026-11-23 00:00:00") != NULL && strstr(received, "of no report") == NULL);
    free(received);
    dbss_report_spec_free(spec);
    dbss_context_free(ctx);
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"pages_outlive_cursor_and_client", pages_outlive_cursor_and_client, PLAIN},
    {"busy_cursor_is_refused", busy_cursor_is_refused, PLAIN},
    {"cursor_freed_during_next_lets_it_finish", cursor_freed_during_next_lets_it_finish, LOAD},
    {"page_shared_by_threads", page_shared_by_threads, LOAD},
    {"report_spec_is_checked_when_it_is_set", report_spec_is_checked_when_it_is_set, PLAIN},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
