/*
 * Runs the cases of tests/conformance (see the README there) through the C ABI.
 *
 *     conformance FIXTURES DEFAULT_ENDPOINT FILE.cases...
 *
 * FIXTURES holds the fixtures of the mock service. DEFAULT_ENDPOINT is for cases
 * that name no endpoint. The environment variable CASE selects a single case.
 */

#define _POSIX_C_SOURCE 200809L

#include "support.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_LINES 64

/* The lines of one case. */
struct test_case {
    const char *file;
    struct {
        char *key, *value;
    } lines[MAX_LINES];
    size_t count;
    const char *fresh;
    /* The path of the case's file, or "". */
    char file_path[64];
};

/* The reasons why the current case fails. */
static char *reasons;

static void fail(const char *key, const char *expected, const char *actual)
{
    char *more = format("%s%s%s: expected %.300s, got %.300s", reasons != NULL ? reasons : "",
                        reasons != NULL ? "; " : "", key, expected, actual);
    free(reasons);
    reasons = more;
}

static const char *lookup(const struct test_case *test, const char *key)
{
    size_t i;
    for (i = 0; i < test->count; i++)
        if (strcmp(test->lines[i].key, key) == 0)
            return test->lines[i].value;
    return NULL;
}

/* ---------------------------------------------------------------------------
 * Values
 * ------------------------------------------------------------------------ */

struct text {
    char *bytes;
    size_t len, capacity;
};

static void append(struct text *text, const char *bytes, size_t len)
{
    if (text->len + len + 1 > text->capacity) {
        text->capacity = (text->len + len + 1) * 2;
        text->bytes = realloc(text->bytes, text->capacity);
        if (text->bytes == NULL)
            fatal("out of memory");
    }
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
    text->bytes[text->len] = '\0';
}

/* Replaces each $NAME in the value. The caller frees the result. */
static char *expand(const struct test_case *test, const char *value)
{
    struct text result = {0};
    append(&result, "", 0);
    while (*value != '\0') {
        size_t len = 1;
        char name[32] = "";
        char c;
        unsigned long times;
        int end = 0;

        if (*value != '$') {
            append(&result, value++, 1);
            continue;
        }
        if (sscanf(value, "$REPEAT(%c,%lu)%n", &c, &times, &end) == 2 && end > 0) {
            while (times-- > 0)
                append(&result, &c, 1);
            value += end;
            continue;
        }
        while ((isupper((unsigned char)value[len]) || value[len] == '_') && len < sizeof name) {
            name[len - 1] = (char)tolower((unsigned char)value[len]);
            len++;
        }
        if (strcmp(name, "fresh") == 0) {
            append(&result, test->fresh, strlen(test->fresh));
        } else if (strcmp(name, "file") == 0) {
            append(&result, test->file_path, strlen(test->file_path));
        } else if (find_fixture(name) != NULL) {
            append(&result, fixture(name), strlen(fixture(name)));
        } else {
            fatal("%s: case %s: unknown name %.*s", test->file, lookup(test, "case"), (int)len, value);
        }
        value += len;
    }
    return result.bytes;
}

/* Resolves the escapes of an argument, in place. */
static void unescape(char *text)
{
    char *to = text;
    while (*text != '\0') {
        unsigned byte;
        if (*text != '\\') {
            *to++ = *text++;
        } else if (sscanf(text, "\\x%2x", &byte) == 1) {
            *to++ = (char)byte;
            text += 4;
        } else {
            *to++ = text[1] == 'r' ? '\r' : text[1] == 'n' ? '\n' : text[1] == 't' ? '\t' : text[1];
            text += 2;
        }
    }
    *to = '\0';
}

/* One of the arguments, or NULL for (null). The caller frees it. */
static char *argument(const struct test_case *test, const char *key, const char *default_value)
{
    const char *value = lookup(test, key);
    char *text;
    if (value == NULL)
        value = default_value;
    if (strcmp(value, "(null)") == 0)
        return NULL;
    text = expand(test, value);
    unescape(text);
    return text;
}

/* ---------------------------------------------------------------------------
 * Comparing
 * ------------------------------------------------------------------------ */

static void compare_text(const struct test_case *test, const char *key, const char *actual)
{
    const char *value = lookup(test, key);
    char *expected;
    if (value == NULL)
        return;
    expected = expand(test, value);
    if (strcmp(expected, "(any)") == 0) {
        if (actual == NULL)
            fail(key, "any text", "NULL");
    } else if (strcmp(expected, "(null)") == 0) {
        if (actual != NULL)
            fail(key, "NULL", actual);
    } else if (actual == NULL || strcmp(expected, actual) != 0) {
        fail(key, expected, actual != NULL ? actual : "NULL");
    }
    free(expected);
}

static void compare_number(const struct test_case *test, const char *key, long long actual)
{
    const char *expected = lookup(test, key);
    char text[32];
    snprintf(text, sizeof text, "%lld", actual);
    if (expected == NULL)
        return;
    if (strcmp(expected, "(any)") == 0) {
        if (actual == 0)
            fail(key, "anything but 0", text);
    } else if (strcmp(expected, text) != 0) {
        fail(key, expected, text);
    }
}

/* Whether an option's value is a secret. */
static int is_secret(const char *key, size_t len)
{
    size_t i;
    for (i = 0; i < dbss_option_count(DBSS_OPTIONS_CONFIG); i++) {
        const char *known = dbss_option_key(DBSS_OPTIONS_CONFIG, i);
        if (strlen(known) == len && strncmp(known, key, len) == 0)
            return strcmp(dbss_option_type(DBSS_OPTIONS_CONFIG, i), "secret") == 0;
    }
    return 0;
}

static void compare_error(const struct test_case *test, dbss_status status, const char *token)
{
    const dbss_error *error = dbss_last_error();
    const char *message = dbss_error_message(error);
    size_t i;

    if (error == NULL) {
        fail("dbss_last_error", "an error", "NULL");
        return;
    }
    if (dbss_error_status(error) != status)
        fail("dbss_error_status", dbss_status_name(status), dbss_status_name(dbss_error_status(error)));
    if (message[strcspn(message, "\n\r\t\033")] != '\0')
        fail("message", "no control characters", message);
    /* Shorter texts occur in many words and are no secret. Not even the start of a
     * long token may appear. */
    if (token != NULL && strlen(token) >= 8) {
        char *beginning = format("%.24s", token);
        if (find_in_error(error, beginning) != NULL)
            fail(find_in_error(error, beginning), "no token", "the token");
        free(beginning);
    }
    for (i = 0; i < test->count; i++) {
        char *option = expand(test, test->lines[i].value), *equals = strchr(option, '=');
        if (strcmp(test->lines[i].key, "option") == 0 && equals != NULL && is_secret(option, (size_t)(equals - option))
            && strlen(equals + 1) >= 8 && find_in_error(error, equals + 1) != NULL)
            fail(find_in_error(error, equals + 1), "no secret", "the value of a secret option");
        free(option);
    }

    compare_number(test, "http_status", dbss_error_http_status(error));
    compare_text(test, "service_code", dbss_error_service_code(error));
    compare_text(test, "service_message", dbss_error_service_message(error));
    compare_text(test, "request_id", dbss_error_request_id(error));
    compare_text(test, "encoded_authorization_message", dbss_error_encoded_authorization_message(error));
    compare_text(test, "parameter", dbss_error_parameter(error));
    compare_number(test, "os_code", dbss_error_os_code(error));
    compare_number(test, "retryable", dbss_error_is_retryable(error));
    compare_number(test, "retry_after_ms", dbss_error_retry_after_ms(error));
    compare_number(test, "attempts", dbss_error_attempts(error));
    compare_number(test, "detail_count", (long long)dbss_error_detail_count(error));
    compare_text(test, "detail_code", dbss_error_detail_code(error, 0));
    compare_text(test, "detail_message", dbss_error_detail_message(error, 0));
    for (i = 0; i < test->count; i++) {
        char *part = expand(test, test->lines[i].value);
        if (strcmp(test->lines[i].key, "message_has") == 0 && strstr(message, part) == NULL)
            fail("message_has", part, message);
        if (strcmp(test->lines[i].key, "message_lacks") == 0 && strstr(message, part) != NULL)
            fail("message_lacks", part, message);
        free(part);
    }
}

/* ---------------------------------------------------------------------------
 * One case
 * ------------------------------------------------------------------------ */

/* Sets all options of the configuration. */
/* The name of a line of name=value, to be freed; `value` is in it. */
static char *split_pair(const struct test_case *test, size_t line, char **value)
{
    char *name = expand(test, test->lines[line].value);
    *value = strchr(name, '=');
    if (*value == NULL)
        fatal("%s: %s without '=': %s", test->file, test->lines[line].key, name);
    *(*value)++ = '\0';
    return name;
}

static dbss_status configure(const struct test_case *test, dbss_config *config, const char *default_endpoint,
                             const char *token)
{
    const char *named = lookup(test, "endpoint");
    const char *ca = lookup(test, "ca");
    dbss_status status;
    char *endpoint;
    size_t i;

    if (named == NULL)
        named = default_endpoint;
    if (strcmp(named, "dead") == 0)
        endpoint = format("http://127.0.0.1:1");
    else if (find_fixture(named) != NULL)
        endpoint = format("%s", fixture(named));
    else
        endpoint = expand(test, named);
    status = dbss_config_set_endpoint(config, endpoint);
    free(endpoint);

    /* One attempt, unless the case sets another number. */
    if (status == DBSS_OK)
        status = dbss_config_set(config, "max_attempts", "1");
    if (status == DBSS_OK && (ca == NULL || strcmp(ca, "yes") == 0))
        status = dbss_config_set(config, "ca_file", fixture("ca_file"));
    for (i = 0; status == DBSS_OK && i < test->count; i++) {
        if (strcmp(test->lines[i].key, "option") == 0) {
            char *value, *key = split_pair(test, i, &value);
            status = dbss_config_set(config, key, value);
            free(key);
        }
    }
    if (status == DBSS_OK && lookup(test, "credentials") == NULL)
        status = dbss_config_set_token(config, token);
    return status;
}

/* What the faults and the request log call the call of the case; NULL for a download. */
static const char *call_name(const struct test_case *test)
{
    static const char *const names[][2] = {
        {"check", "@instances"},     {"instances", "@instances"},    {"reports", "@reports.list"},
        {"templates", "@templates"}, {"create", "@reports.create"},  {"delete", "@reports.delete"},
        {"databases", "@databases"}, {"schedule", "@schedule.show"}, {"update_schedule", "@schedule.set"},
    };
    const char *call = lookup(test, "call");
    size_t i;
    if (call == NULL || strcmp(call, "download") == 0)
        return NULL;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], call) == 0)
            return names[i][1];
    fatal("%s: unknown call: %s", test->file, call);
    return NULL;
}

/* Compares the fields of the first item. */
static void compare_fields(const struct test_case *test, const dbss_page *page)
{
    size_t i;
    for (i = 0; i < test->count; i++) {
        char *name, *value;
        const char *actual;
        if (strcmp(test->lines[i].key, "field") != 0)
            continue;
        name = split_pair(test, i, &value);
        actual = dbss_page_field(page, 0, name);
        if (strcmp(value, "(null)") == 0 ? actual != NULL : actual == NULL || strcmp(actual, value) != 0)
            fail(name, value, actual != NULL ? actual : "NULL");
        free(name);
    }
}

/* Reads a list to its end. */
static dbss_status read_list(const struct test_case *test, dbss_cursor *cursor)
{
    struct text ids = {0};
    dbss_page *page = NULL;
    dbss_status status;
    long long count = 0, total = -1;
    size_t i;

    append(&ids, "", 0);
    while ((status = dbss_cursor_next(cursor, NULL, &page)) == DBSS_OK && page != NULL) {
        if (count == 0)
            compare_fields(test, page);
        for (i = 0; i < dbss_page_count(page); i++) {
            const char *id = dbss_page_field(page, i, "id");
            if (count++ > 0)
                append(&ids, ",", 1);
            if (strstr(ids.bytes, id) != NULL && strlen(id) == 32)
                fail("ids", "each once", id);
            append(&ids, id, strlen(id));
        }
        total = (long long)dbss_page_total(page);
        dbss_page_free(page);
    }
    if (status == DBSS_OK) {
        compare_text(test, "ids", ids.bytes);
        compare_number(test, "count", count);
        compare_number(test, "total", total);
    }
    free(ids.bytes);
    return status;
}

static dbss_status show_schedule(const struct test_case *test, dbss_context *ctx, const char *project,
                                 const char *instance)
{
    char *template = argument(test, "template", "$TEMPLATE");
    dbss_page *page = (dbss_page *)&reasons;
    dbss_status status = dbss_schedule_show(ctx, project, instance, template, NULL, &page);

    free(template);
    if (status == DBSS_OK) {
        compare_fields(test, page);
        dbss_page_free(page);
    } else if (page != NULL) {
        fail("out_page", "NULL", "something else");
    }
    return status;
}

static dbss_status update_schedule(const struct test_case *test, dbss_context *ctx, const char *project,
                                   const char *instance)
{
    char *template = argument(test, "template", "$TEMPLATE");
    dbss_schedule_changes *changes;
    dbss_status status = dbss_schedule_changes_new(&changes);
    size_t i;

    for (i = 0; status == DBSS_OK && i < test->count; i++) {
        if (strcmp(test->lines[i].key, "change") == 0) {
            char *value, *key = split_pair(test, i, &value);
            status = dbss_schedule_changes_set(changes, key, value);
            free(key);
        }
    }
    if (status == DBSS_OK)
        status = dbss_schedule_update(ctx, project, instance, template, changes, NULL);
    dbss_schedule_changes_free(changes);
    free(template);
    return status;
}

/* Makes the call of the case, which is no download. */
static dbss_status run_call(const struct test_case *test, dbss_context *ctx, const char *project, const char *instance,
                            const char *id)
{
    const char *call = lookup(test, "call"), *size = lookup(test, "page_size");
    uint32_t page_size = size != NULL ? (uint32_t)strtoul(size, NULL, 10) : 0;
    /* Garbage, which a failure must replace. */
    dbss_cursor *cursor = (dbss_cursor *)&reasons;
    dbss_report_spec *spec = NULL;
    dbss_status status;
    size_t i;

    if (strcmp(call, "check") == 0)
        return dbss_context_check(ctx, project, NULL);
    if (strcmp(call, "delete") == 0)
        return dbss_report_delete(ctx, project, instance, id, NULL);
    if (strcmp(call, "create") == 0) {
        status = dbss_report_spec_new(&spec);
        for (i = 0; status == DBSS_OK && i < test->count; i++) {
            char *key, *value;
            if (strcmp(test->lines[i].key, "spec") != 0)
                continue;
            key = split_pair(test, i, &value);
            status = dbss_report_spec_set(spec, key, value);
            free(key);
        }
        if (status == DBSS_OK)
            status = dbss_report_create(ctx, project, instance, spec, NULL);
        dbss_report_spec_free(spec);
        return status;
    }
    if (strcmp(call, "schedule") == 0)
        return show_schedule(test, ctx, project, instance);
    if (strcmp(call, "update_schedule") == 0)
        return update_schedule(test, ctx, project, instance);
    if (strcmp(call, "databases") == 0) {
        char *filter = argument(test, "filter", "(null)");
        status = dbss_databases_list(ctx, project, instance, filter, page_size, &cursor);
        free(filter);
    } else if (strcmp(call, "instances") == 0)
        status = dbss_instances_list(ctx, project, page_size, &cursor);
    else if (strcmp(call, "reports") == 0)
        status = dbss_reports_list(ctx, project, instance, NULL, page_size, &cursor);
    else
        status = dbss_templates_list(ctx, project, instance, &cursor);
    if (status == DBSS_OK)
        status = read_list(test, cursor);
    else if (cursor != NULL)
        fail("out_cursor", "NULL", "something else");
    dbss_cursor_free(cursor);
    return status;
}

/* Applies the changes of a case to the mock service. */
static void change_mock(const struct test_case *test)
{
    size_t i;
    for (i = 0; i < test->count; i++) {
        char *path, *body;
        if (strcmp(test->lines[i].key, "control") != 0)
            continue;
        path = expand(test, test->lines[i].value);
        body = strchr(path, ' ');
        if (body == NULL)
            fatal("%s: control without a body: %s", test->file, path);
        *body = '\0';
        free(control("POST", path, body + 1));
        free(path);
    }
}

static void reset_mock(const struct test_case *test)
{
    static const char *const paths[] = {"/shapes", "/paging", "/undocumented", "/iam"};
    size_t i;
    if (lookup(test, "control") == NULL)
        return;
    for (i = 0; i < sizeof paths / sizeof *paths; i++)
        free(control("POST", paths[i], "{}"));
}

/* Writes the file of the case, and sets its variables, or removes both. */
static void prepare(struct test_case *test, int set)
{
    size_t i;

    if (lookup(test, "file") != NULL && set) {
        char *content;
        int fd;
        strcpy(test->file_path, "/tmp/dbss-conformance-XXXXXX");
        fd = mkstemp(test->file_path);
        /* The content may have the path. */
        content = argument(test, "file", "");
        if (fd < 0 || write(fd, content, strlen(content)) != (ssize_t)strlen(content) || close(fd) != 0)
            fatal("cannot write %s: %s", test->file_path, strerror(errno));
        free(content);
    } else if (*test->file_path != '\0') {
        unlink(test->file_path);
        *test->file_path = '\0';
    }
    for (i = 0; i < test->count; i++) {
        if (strcmp(test->lines[i].key, "variable") == 0) {
            char *value, *name = split_pair(test, i, &value);
            if (set)
                setenv(name, value, 1);
            else
                unsetenv(name);
            free(name);
        }
    }
}

static void run(const struct test_case *test, const char *default_endpoint)
{
    char *token = argument(test, "token", "$TOKEN");
    char *project = argument(test, "project", "$PROJECT");
    char *instance = argument(test, "instance", "$INSTANCE");
    char *id = argument(test, "id", "$PDF");
    char *locale = argument(test, "locale", "(null)");
    const char *expected = lookup(test, "status");
    int count_for_id = lookup(test, "requests") != NULL;
    const char *counted = call_name(test) != NULL ? call_name(test) : id;
    long requests = count_for_id ? count_requests(counted) : 0;
    long connections = count_connections();
    /* Garbage: a failure must replace it, and no function may read it. */
    dbss_config *config = (dbss_config *)&reasons;
    dbss_context *ctx = (dbss_context *)&reasons;
    dbss_buffer report = {(uint8_t *)&reasons, 12345};
    dbss_status status;
    size_t i;

    change_mock(test);
    for (i = 0; i < test->count; i++) {
        if (strcmp(test->lines[i].key, "fault") == 0) {
            char *fault = expand(test, test->lines[i].value);
            free(control("POST", "/faults", fault));
            free(fault);
        }
    }

    status = dbss_config_new(&config);
    if (status == DBSS_OK)
        status = configure(test, config, default_endpoint, token);
    if (status == DBSS_OK) {
        status = dbss_context_new(config, &ctx);
        if (status != DBSS_OK && ctx != NULL) {
            fail("out_ctx", "NULL", "something else");
            ctx = NULL;
        }
    } else {
        ctx = NULL;
    }
    if (ctx != NULL && call_name(test) != NULL) {
        status = run_call(test, ctx, project, instance, id);
        report.data = NULL;
        report.len = 0;
    } else if (ctx != NULL) {
        status = dbss_report_download(ctx, project, instance, id, locale, &report);
        if (status != DBSS_OK && (report.data != NULL || report.len != 0)) {
            fail("out_buf", "{NULL, 0}", "something else");
            report.data = NULL;
        }
        if (status == DBSS_OK && report.len == 0)
            fail("out_buf", "a report", "nothing");
    } else {
        report.data = NULL;
        report.len = 0;
    }

    if (strcmp(dbss_status_name(status), expected) != 0) {
        char *actual = format("%s (%s)", dbss_status_name(status), dbss_error_message(dbss_last_error()));
        fail("status", expected, actual);
        free(actual);
    }
    if (status != DBSS_OK)
        compare_error(test, status, token);
    else if (dbss_last_error() != NULL)
        fail("dbss_last_error", "NULL", dbss_error_message(dbss_last_error()));
    if (lookup(test, "sha256") != NULL && report.data != NULL)
        compare_text(test, "sha256", sha256(report.data, report.len));
    compare_number(test, "length", (long long)report.len);

    dbss_buffer_free(&report);
    dbss_context_free(ctx);
    dbss_config_free(config);

    connections = count_connections() - connections;
    compare_number(test, "connections", connections);
    if (dbss_status_group(status) == DBSS_ERR_ARGUMENT && connections != 0)
        fail("connections", "none for an invalid argument", "some");
    if (count_for_id)
        compare_number(test, "requests", count_requests(counted) - requests);
    free(control("DELETE", "/faults", ""));
    reset_mock(test);
    free(token);
    free(project);
    free(instance);
    free(id);
    free(locale);
}

/* ---------------------------------------------------------------------------
 * The files
 * ------------------------------------------------------------------------ */

static int known_key(const char *key)
{
    static const char *const keys[] = {
        "case",         "endpoint",
        "ca",           "option",
        "variable",     "file",
        "token",        "project",
        "instance",     "id",
        "locale",       "call",
        "template",     "filter",
        "change",       "control",
        "page_size",    "spec",
        "ids",          "count",
        "total",        "field",
        "fault",        "status",
        "credentials",  "http_status",
        "service_code", "service_message",
        "request_id",   "encoded_authorization_message",
        "parameter",    "os_code",
        "retryable",    "retry_after_ms",
        "attempts",     "detail_count",
        "detail_code",  "detail_message",
        "message_has",  "message_lacks",
        "sha256",       "length",
        "connections",  "requests",
    };
    size_t i;
    for (i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i], key) == 0)
            return 1;
    return 0;
}

/* Reads the next case. Returns 0 at the end of the file. */
static int read_case(FILE *file, struct test_case *test)
{
    char *line = NULL, *colon;
    size_t size = 0;
    ssize_t len;

    test->count = 0;
    while ((len = getline(&line, &size, file)) > 0) {
        if (line[len - 1] == '\n')
            line[--len] = '\0';
        if (len == 0 && test->count > 0)
            break;
        if (len == 0 || *line == '#')
            continue;
        colon = strstr(line, ": ");
        if (colon == NULL || test->count == MAX_LINES)
            fatal("%s: not a line of a case: %s", test->file, line);
        *colon = '\0';
        if (!known_key(line) || (test->count == 0) != (strcmp(line, "case") == 0))
            fatal("%s: the key is unknown or misplaced: %s", test->file, line);
        test->lines[test->count].key = format("%s", line);
        test->lines[test->count++].value = format("%s", colon + 2);
    }
    free(line);
    if (test->count > 0 && lookup(test, "status") == NULL)
        fatal("%s: case %s has no status", test->file, lookup(test, "case"));
    return test->count > 0;
}

int main(int argc, char **argv)
{
    static struct test_case test;
    const char *only = getenv("CASE");
    int passed = 0, failed = 0, i;
    size_t j;

    if (argc < 4)
        fatal("usage: conformance FIXTURES DEFAULT_ENDPOINT FILE.cases...");
    load_fixtures(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (i = 3; i < argc; i++) {
        FILE *file = fopen(argv[i], "r");
        if (file == NULL)
            fatal("cannot open %s: %s", argv[i], strerror(errno));
        test.file = argv[i];
        while (read_case(file, &test)) {
            const char *name = lookup(&test, "case");
            if (only == NULL || strcmp(only, name) == 0) {
                test.fresh = fresh_id();
                prepare(&test, 1);
                run(&test, argv[2]);
                prepare(&test, 0);
                if (reasons == NULL) {
                    printf("ok %s\n", name);
                    passed++;
                } else {
                    printf("FAIL %s: %s\n", name, reasons);
                    failed++;
                }
                free(reasons);
                reasons = NULL;
            }
            for (j = 0; j < test.count; j++) {
                free(test.lines[j].key);
                free(test.lines[j].value);
            }
        }
        fclose(file);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
