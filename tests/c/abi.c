/*
 * Rules of dbss.h that the conformance cases cannot express. See checks.h for how
 * to run the checks.
 */

#define _GNU_SOURCE /* for MAP_ANONYMOUS, which POSIX.1-2008 lacks */

#include "checks.h"
#include "memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------
 * Downloads
 * ------------------------------------------------------------------------ */

static dbss_status download(dbss_context *ctx, const char *id, dbss_buffer *report)
{
    return dbss_report_download(ctx, fixture("project"), fixture("instance"), id, "en-us", report);
}

/* Downloads a report and compares its hash. */
#define EXPECT_DOWNLOAD(ctx) expect_download(__LINE__, ctx)

static void expect_download(int line, dbss_context *ctx)
{
    dbss_buffer report;
    if (expect(line, DBSS_OK, download(ctx, fixture("pdf"), &report)) == DBSS_OK)
        expect_text(line, fixture("pdf_en"), sha256(report.data, report.len));
    dbss_buffer_free(&report);
}

/* Expects a failing download and an empty buffer. */
#define EXPECT_DOWNLOAD_ERROR(expected, ctx, id) expect_download_error(__LINE__, expected, ctx, id)

static void expect_download_error(int line, dbss_status expected, dbss_context *ctx, const char *id)
{
    dbss_buffer report = {(uint8_t *)&report, 1};
    expect(line, expected, download(ctx, id, &report));
    if (report.data != NULL || report.len != 0)
        fail_check("line %d: a failure did not clear the buffer", line);
}

/* ---------------------------------------------------------------------------
 * Version, features, statuses, options
 * ------------------------------------------------------------------------ */

static void version_matches_header(void)
{
    char *numbers = format("%d.%d.%d", DBSS_VERSION_MAJOR, DBSS_VERSION_MINOR, DBSS_VERSION_PATCH);
    expect_text(__LINE__, DBSS_VERSION, dbss_version());
    expect_text(__LINE__, numbers, dbss_version());
    CHECK(dbss_version_number() == DBSS_VERSION_NUMBER);
    free(numbers);
}

static void features_are_listed(void)
{
    size_t i;
    CHECK(dbss_has_feature("download") == 1);
    CHECK(dbss_has_feature("token") == 1);
    CHECK(dbss_has_feature("https") == 1);
    CHECK(dbss_has_feature("file") == 1);
    CHECK(dbss_has_feature("stream") == 1);
    CHECK(dbss_has_feature("operation") == 1);
    CHECK(dbss_has_feature("resume") == 1);
    CHECK(dbss_has_feature("log") == 1);
    CHECK(dbss_has_feature("redirect") == 1);
    CHECK(dbss_has_feature("proxy") == 1);
    CHECK(dbss_has_feature("access_key") == 1);
    CHECK(dbss_has_feature("iam_user") == 1);
    CHECK(dbss_has_feature("token_provider") == 1);
    CHECK(dbss_has_feature("credentials") == 1);
    CHECK(dbss_has_feature("project") == 1);
    CHECK(dbss_has_feature("endpoints") == 1);
    CHECK(dbss_has_feature("list") == 1);
    CHECK(dbss_has_feature("manage") == 1);
    CHECK(dbss_feature_count() >= 18);
    for (i = 0; i < dbss_feature_count(); i++) {
        CHECK(dbss_has_feature(dbss_feature_name(i)) == 1);
        CHECK(*dbss_feature_help(i) != '\0');
    }
    CHECK(dbss_feature_name(i) == NULL && dbss_feature_help(i) == NULL && dbss_feature_name(SIZE_MAX) == NULL);
    CHECK(dbss_has_feature("Download") == 0);
    CHECK(dbss_has_feature("no-such-feature") == 0);
    CHECK(dbss_has_feature("") == 0);
    CHECK(dbss_has_feature("\xff") == 0);
    CHECK(dbss_has_feature(NULL) == 0);
}

static void statuses_have_names_and_groups(void)
{
    size_t i, count = dbss_status_count();
    CHECK(count > 50 && dbss_status_value(0) == DBSS_OK);
    for (i = 0; i < count; i++) {
        dbss_status status = dbss_status_value(i);
        const char *name = dbss_status_name(status);
        CHECK(i == 0 || status > dbss_status_value(i - 1));
        CHECK(strncmp(name, i == 0 ? "DBSS_OK" : "DBSS_ERR_", i == 0 ? 8 : 9) == 0);
        CHECK(strcmp(name, "DBSS_ERR_UNKNOWN") != 0);
        CHECK(*dbss_status_message(status) != '\0');
        CHECK(dbss_status_group(status) == status / 100 * 100);
    }
    CHECK(dbss_status_value(count) == -1 && dbss_status_value(SIZE_MAX) == -1);
    expect_text(__LINE__, "DBSS_ERR_CLOSED", dbss_status_name(DBSS_ERR_CLOSED));
    expect_text(__LINE__, "DBSS_ERR_REJECTED", dbss_status_name(DBSS_ERR_REJECTED));
    expect_text(__LINE__, "DBSS_ERR_UNEXPECTED_RESPONSE", dbss_status_name(DBSS_ERR_UNEXPECTED_RESPONSE));
    expect_text(__LINE__, "DBSS_ERR_INTERRUPTED", dbss_status_name(DBSS_ERR_INTERRUPTED));
    /* A status of a newer library. */
    expect_text(__LINE__, "DBSS_ERR_UNKNOWN", dbss_status_name(299));
    CHECK(dbss_status_message(299) != NULL);
    CHECK(dbss_status_group(199) == DBSS_ERR_ARGUMENT);
    CHECK(dbss_status_group(299) == DBSS_ERR_SERVICE);
    CHECK(dbss_status_group(399) == DBSS_ERR_NETWORK);
    CHECK(dbss_status_group(499) == DBSS_ERR_FILE);
    CHECK(dbss_status_group(599) == DBSS_ERR_RESOURCE);
    CHECK(dbss_status_group(699) == DBSS_ERR_CANCELLED);
    CHECK(dbss_status_group(799) == DBSS_ERR_INTERNAL);
    CHECK(dbss_status_group(99) == DBSS_ERR_INTERNAL);
    CHECK(dbss_status_group(800) == DBSS_ERR_INTERNAL);
    CHECK(dbss_status_group(-1) == DBSS_ERR_INTERNAL);
    CHECK(dbss_status_group(INT32_MIN) == DBSS_ERR_INTERNAL);
    CHECK(dbss_status_group(INT32_MAX) == DBSS_ERR_INTERNAL);
}

static dbss_status set_config(void *config, const char *key, const char *value)
{
    return dbss_config_set(config, key, value);
}

static dbss_status set_operation(void *operation, const char *key, const char *value)
{
    return dbss_operation_set(operation, key, value);
}

static dbss_status set_spec(void *spec, const char *key, const char *value)
{
    return dbss_report_spec_set(spec, key, value);
}

static dbss_status set_schedule(void *changes, const char *key, const char *value)
{
    return dbss_schedule_changes_set(changes, key, value);
}

static dbss_status set_mirror(void *options, const char *key, const char *value)
{
    return dbss_mirror_options_set(options, key, value);
}

/* The setter accepts the limits that the option list states, and refuses values
 * beyond them. */
static void check_range(int32_t set, size_t i, void *object,
                        dbss_status (*set_value)(void *, const char *, const char *))
{
    const char *key = dbss_option_key(set, i), *type = dbss_option_type(set, i);
    int64_t minimum = dbss_option_minimum(set, i), maximum = dbss_option_maximum(set, i);
    int is_mode = strcmp(type, "mode") == 0;
    char text[32];

    if (strcmp(type, "number") != 0 && strcmp(type, "milliseconds") != 0 && strcmp(type, "bytes") != 0 && !is_mode)
        return;
    CHECK(minimum >= 0 && maximum > minimum);
    snprintf(text, sizeof text, is_mode ? "%llo" : "%lld", (long long)minimum);
    EXPECT(DBSS_OK, set_value(object, key, text));
    snprintf(text, sizeof text, is_mode ? "%llo" : "%lld", (long long)maximum);
    EXPECT(DBSS_OK, set_value(object, key, text));
    if (maximum < INT64_MAX) {
        snprintf(text, sizeof text, is_mode ? "%llo" : "%lld", (long long)maximum + 1);
        EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, key, set_value(object, key, text));
    }
    if (minimum > 0) {
        snprintf(text, sizeof text, is_mode ? "%llo" : "%lld", (long long)minimum - 1);
        EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, key, set_value(object, key, text));
    }
    EXPECT(dbss_option_allows_none(set, i) ? DBSS_OK : DBSS_ERR_INVALID_VALUE, set_value(object, key, "-1"));
}

static void check_choices(int32_t set, size_t i, void *object,
                          dbss_status (*set_value)(void *, const char *, const char *))
{
    const char *key = dbss_option_key(set, i), *choices = dbss_option_choices(set, i);
    CHECK((choices != NULL) == (strcmp(dbss_option_type(set, i), "choice") == 0));
    while (choices != NULL && *choices != '\0') {
        char *choice = format("%.*s", (int)strcspn(choices, ","), choices);
        EXPECT(DBSS_OK, set_value(object, key, choice));
        choices += strlen(choice);
        choices += *choices == ',';
        free(choice);
    }
}

/* The option lists match what the setters accept. */
static void check_options(int32_t set, void *object, dbss_status (*set_value)(void *, const char *, const char *))
{
    size_t i, count = dbss_option_count(set);
    CHECK(count > 0);
    for (i = 0; i < count; i++) {
        const char *key = dbss_option_key(set, i), *value = dbss_option_default(set, i);
        CHECK(key != NULL && *key != '\0');
        CHECK(dbss_option_type(set, i) != NULL && *dbss_option_type(set, i) != '\0');
        CHECK(dbss_option_help(set, i) != NULL && *dbss_option_help(set, i) != '\0');
        if (value != NULL)
            EXPECT(DBSS_OK, set_value(object, key, value));
        check_range(set, i, object, set_value);
        check_choices(set, i, object, set_value);
        add_failure_context("the option %s", key);
    }
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", set_value(object, "no_such_key", "1"));
    CHECK(dbss_option_key(set, count) == NULL && dbss_option_key(set, SIZE_MAX) == NULL);
    CHECK(dbss_option_type(set, count) == NULL && dbss_option_default(set, count) == NULL);
    CHECK(dbss_option_help(set, count) == NULL && dbss_option_choices(set, count) == NULL);
    CHECK(dbss_option_minimum(set, count) == -1 && dbss_option_maximum(set, count) == -1);
    CHECK(dbss_option_allows_none(set, count) == 0);
}

static void options_match_setters(void)
{
    dbss_config *config;
    dbss_operation *operation;
    dbss_report_spec *spec;
    dbss_mirror_options *mirror;
    dbss_schedule_changes *changes;
    size_t i;
    int found = 0;

    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT(DBSS_OK, dbss_operation_new(&operation));
    EXPECT(DBSS_OK, dbss_report_spec_new(&spec));
    EXPECT(DBSS_OK, dbss_mirror_options_new(&mirror));
    EXPECT(DBSS_OK, dbss_schedule_changes_new(&changes));
    check_options(DBSS_OPTIONS_CONFIG, config, set_config);
    check_options(DBSS_OPTIONS_OPERATION, operation, set_operation);
    check_options(DBSS_OPTIONS_REPORT_SPEC, spec, set_spec);
    check_options(DBSS_OPTIONS_MIRROR, mirror, set_mirror);
    check_options(DBSS_OPTIONS_SCHEDULE, changes, set_schedule);
    for (i = 0; i < dbss_option_count(DBSS_OPTIONS_CONFIG); i++)
        if (strcmp(dbss_option_key(DBSS_OPTIONS_CONFIG, i), "stall_timeout_ms") == 0) {
            expect_text(__LINE__, "milliseconds", dbss_option_type(DBSS_OPTIONS_CONFIG, i));
            expect_text(__LINE__, "60000", dbss_option_default(DBSS_OPTIONS_CONFIG, i));
            CHECK(dbss_option_maximum(DBSS_OPTIONS_CONFIG, i) == 86400000);
            found = 1;
        }
    CHECK(found);
    /* A set of a newer library. */
    CHECK(dbss_option_count(0) == 0 && dbss_option_count(99) == 0 && dbss_option_key(-1, 0) == NULL);
    dbss_config_free(config);
    dbss_operation_free(operation);
    dbss_report_spec_free(spec);
    dbss_mirror_options_free(mirror);
    dbss_schedule_changes_free(changes);
}

/* ---------------------------------------------------------------------------
 * NULL
 * ------------------------------------------------------------------------ */

static void error_getters_accept_null(void)
{
    CHECK(dbss_error_status(NULL) == DBSS_OK);
    expect_text(__LINE__, "", dbss_error_message(NULL));
    CHECK(dbss_error_parameter(NULL) == NULL);
    CHECK(dbss_error_http_status(NULL) == 0);
    CHECK(dbss_error_service_code(NULL) == NULL);
    CHECK(dbss_error_service_message(NULL) == NULL);
    CHECK(dbss_error_request_id(NULL) == NULL);
    CHECK(dbss_error_encoded_authorization_message(NULL) == NULL);
    CHECK(dbss_error_detail_count(NULL) == 0);
    CHECK(dbss_error_detail_code(NULL, 0) == NULL);
    CHECK(dbss_error_detail_message(NULL, 0) == NULL);
    CHECK(dbss_error_os_code(NULL) == 0);
    CHECK(dbss_error_is_retryable(NULL) == 0);
    CHECK(dbss_error_retry_after_ms(NULL) == -1);
    CHECK(dbss_error_attempts(NULL) == 0);
}

static void credentials_getters_accept_null(void)
{
    CHECK(dbss_credentials_source(NULL) == NULL);
    CHECK(dbss_credentials_description(NULL) == NULL);
    CHECK(dbss_credentials_name(NULL) == NULL);
    CHECK(dbss_credentials_project(NULL) == NULL);
    CHECK(dbss_credentials_expires_ms(NULL) == -1);
    CHECK(dbss_token_request_refused(NULL) == 0);
}

static void free_functions_accept_null(void)
{
    dbss_buffer empty = {NULL, 0};
    dbss_error_free(NULL);
    dbss_config_free(NULL);
    dbss_context_free(NULL);
    dbss_token_request_free(NULL);
    dbss_credentials_free(NULL);
    dbss_cursor_free(NULL);
    dbss_page_free(NULL);
    dbss_buffer_free(NULL);
    dbss_buffer_free(&empty);
    CHECK(empty.data == NULL && empty.len == 0);
}

static void buffer_freed_twice_stays_empty(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    dbss_buffer report;
    EXPECT(DBSS_OK, download(ctx, fixture("pdf"), &report));
    CHECK(report.data != NULL && report.len > 0);
    /* The buffer outlives its context. */
    dbss_context_free(ctx);
    expect_text(__LINE__, fixture("pdf_en"), sha256(report.data, report.len));
    dbss_buffer_free(&report);
    CHECK(report.data == NULL && report.len == 0);
    dbss_buffer_free(&report);
    CHECK(report.data == NULL && report.len == 0);
}

static void ignore_token_request(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    dbss_token_request_free(request);
}

static void null_arguments_are_rejected(void)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx = (dbss_context *)&config;
    dbss_credentials *credentials = (dbss_credentials *)&config;
    dbss_buffer report;
    const char *project = fixture("project"), *instance = fixture("instance"), *id = fixture("pdf");
    long connections = count_connections();

    EXPECT_NULL("out_config", dbss_config_new(NULL));
    EXPECT_NULL("config", dbss_config_set_region(NULL, "cn-north-4"));
    EXPECT_NULL("region", dbss_config_set_region(config, NULL));
    EXPECT_NULL("config", dbss_config_set_endpoint(NULL, "https://dbss.example.com"));
    EXPECT_NULL("endpoint", dbss_config_set_endpoint(config, NULL));
    EXPECT_NULL("config", dbss_config_set_token(NULL, "token"));
    EXPECT_NULL("token", dbss_config_set_token(config, NULL));
    EXPECT_NULL("config", dbss_config_set_access_key(NULL, "key", "secret", NULL));
    EXPECT_NULL("access_key", dbss_config_set_access_key(config, NULL, "secret", NULL));
    EXPECT_NULL("secret_key", dbss_config_set_access_key(config, "key", NULL, NULL));
    EXPECT_NULL("config", dbss_config_set_iam_user(NULL, "user", "password", "domain"));
    EXPECT_NULL("user", dbss_config_set_iam_user(config, NULL, "password", "domain"));
    EXPECT_NULL("password", dbss_config_set_iam_user(config, "user", NULL, "domain"));
    EXPECT_NULL("domain", dbss_config_set_iam_user(config, "user", "password", NULL));
    EXPECT_NULL("config", dbss_config_set_token_provider(NULL, ignore_token_request, NULL, NULL));
    EXPECT_NULL("request", dbss_token_request_set(NULL, "token", -1));
    EXPECT_NULL("request", dbss_token_request_fail(NULL, "why"));
    EXPECT_NULL("config", dbss_config_set(NULL, "ca_file", "x"));
    EXPECT_NULL("key", dbss_config_set(config, NULL, "x"));
    EXPECT_NULL("value", dbss_config_set(config, "ca_file", NULL));
    EXPECT_NULL("config", dbss_context_new(NULL, &ctx));
    CHECK(ctx == NULL);
    EXPECT_NULL("out_ctx", dbss_context_new(config, NULL));
    EXPECT_NULL("ctx", dbss_context_set_token(NULL, "token"));

    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
    EXPECT_NULL("token", dbss_context_set_token(ctx, NULL));
#define FILLED() (report.data = (uint8_t *)&report, report.len = 1)
#define EMPTY() (report.data == NULL && report.len == 0)
    FILLED();
    EXPECT_NULL("ctx", dbss_report_download(NULL, project, instance, id, NULL, &report));
    CHECK(EMPTY());
    /* NULL means the project of the context, which has none. */
    FILLED();
    EXPECT_PARAMETER(DBSS_ERR_NOT_CONFIGURED, "project", dbss_report_download(ctx, NULL, instance, id, NULL, &report));
    CHECK(EMPTY());
    FILLED();
    EXPECT_NULL("instance", dbss_report_download(ctx, project, NULL, id, NULL, &report));
    CHECK(EMPTY());
    FILLED();
    EXPECT_NULL("id", dbss_report_download(ctx, project, instance, NULL, NULL, &report));
    CHECK(EMPTY());
    EXPECT_NULL("out_buf", dbss_report_download(ctx, project, instance, id, NULL, NULL));
#undef FILLED
#undef EMPTY
    EXPECT_NULL("ctx", dbss_context_find_credentials(NULL, NULL, &credentials));
    CHECK(credentials == NULL);
    EXPECT_NULL("out_credentials", dbss_context_find_credentials(ctx, NULL, NULL));
    EXPECT_NULL("ctx", dbss_context_check(NULL, project, NULL));
    EXPECT_PARAMETER(DBSS_ERR_NOT_CONFIGURED, "project", dbss_context_check(ctx, NULL, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ID, "project", dbss_context_check(ctx, "x", NULL));
    CHECK(count_connections() == connections);
    /* The context still works. */
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);
    dbss_config_free(config);
}

/* ---------------------------------------------------------------------------
 * Errors
 * ------------------------------------------------------------------------ */

static void *expect_no_error_on_this_thread(void *unused)
{
    (void)unused;
    CHECK(dbss_last_error() == NULL);
    CHECK(dbss_error_take() == NULL);
    EXPECT(DBSS_ERR_NULL_ARGUMENT, dbss_config_set_token(NULL, "x"));
    return NULL;
}

static void *read_and_free(void *argument)
{
    dbss_error *error = argument;
    CHECK(dbss_error_status(error) == DBSS_ERR_NULL_ARGUMENT);
    expect_text(__LINE__, "out_config", dbss_error_parameter(error));
    CHECK(strstr(dbss_error_message(error), "out_config") != NULL);
    dbss_error_free(error);
    return NULL;
}

static void last_error_belongs_to_thread(void)
{
    dbss_config *config;
    const dbss_error *lent;
    dbss_error *taken;

    EXPECT(DBSS_ERR_NULL_ARGUMENT, dbss_config_new(NULL));
    lent = dbss_last_error();
    CHECK(lent != NULL);

    /* Only functions that return a status change it. */
    dbss_config_free(NULL);
    dbss_context_free(NULL);
    dbss_buffer_free(NULL);
    dbss_error_free(NULL);
    dbss_has_feature(NULL);
    dbss_version();
    dbss_status_name(-1);
    dbss_error_detail_code(lent, 99);
    dbss_option_key(DBSS_OPTIONS_CONFIG, SIZE_MAX);
    run_in_thread(expect_no_error_on_this_thread, NULL);
    CHECK(dbss_last_error() == lent);
    CHECK(dbss_error_status(lent) == DBSS_ERR_NULL_ARGUMENT);
    expect_text(__LINE__, "out_config", dbss_error_parameter(lent));

    /* It can be taken once, and outlives later calls. */
    taken = dbss_error_take();
    CHECK(taken != NULL);
    CHECK(dbss_last_error() == NULL);
    CHECK(dbss_error_take() == NULL);
    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT(DBSS_ERR_UNKNOWN_KEY, dbss_config_set(config, "no_such_key", "x"));
    run_in_thread(read_and_free, taken);

    /* A success clears it. */
    CHECK(dbss_last_error() != NULL);
    EXPECT(DBSS_OK, dbss_config_set(config, "allow_plaintext", "true"));
    CHECK(dbss_last_error() == NULL);
    dbss_config_free(config);
}

static void access_key_signs_and_is_checked(void)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx;

    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "access_key", dbss_config_set_access_key(config, "", "s", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "access_key", dbss_config_set_access_key(config, "a,b", "s", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "secret_key", dbss_config_set_access_key(config, "a", "s\n", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "security_token",
                     dbss_config_set_access_key(config, "a", "s", "\xc3\xa9"));

    EXPECT(DBSS_OK, dbss_config_set_access_key(config, fixture("access_key"), fixture("secret_key"), NULL));
    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);

    /* One attempt, though several are allowed: five failures lock a key. */
    EXPECT(DBSS_OK, dbss_config_set(config, "max_attempts", "5"));
    EXPECT(DBSS_OK, dbss_config_set(config, "secret_key", "not-the-secret-key"));
    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_UNAUTHENTICATED, ctx, fixture("pdf"));
    CHECK(dbss_error_attempts(dbss_last_error()) == 1);
    CHECK(strstr(dbss_error_message(dbss_last_error()), "not-the-secret-key") == NULL);
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, fixture("token")));
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);

    /* An incomplete key fails when the context is created. */
    EXPECT(DBSS_OK, dbss_config_set_token(config, fixture("token")));
    EXPECT(DBSS_OK, dbss_config_set(config, "access_key", fixture("access_key")));
    EXPECT_PARAMETER(DBSS_ERR_NOT_CONFIGURED, "secret_key", dbss_context_new(config, &ctx));
    CHECK(ctx == NULL);
    dbss_config_free(config);
}

static void failed_setter_changes_nothing(void)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx;
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "endpoint", dbss_config_set_endpoint(config, "ftp://127.0.0.1"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_config_set_token(config, "with space"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "region", dbss_config_set_region(config, "no/region"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "stall_timeout_ms", dbss_config_set(config, "stall_timeout_ms", "soon"));
    ctx = context_from(config);
    EXPECT_DOWNLOAD(ctx);
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_context_set_token(ctx, "with\nline"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_context_set_token(ctx, ""));
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);
}

static void header_value_with_line_end_is_rejected(void)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "user_agent_suffix",
                     dbss_config_set(config, "user_agent_suffix", "a\r\nX-Header: x"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "user_agent_suffix", dbss_config_set(config, "user_agent_suffix", "a\n"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "user_agent_suffix", dbss_config_set(config, "user_agent_suffix", ""));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "user_agent_suffix", dbss_config_set(config, "user_agent_suffix", "\xff"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "key", dbss_config_set(config, "\xff", "x"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "endpoint", dbss_config_set_endpoint(config, "http://127.0.0.1\r\n"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "endpoint", dbss_config_set_endpoint(config, "http://\xff"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "region", dbss_config_set_region(config, "\xff"));
    dbss_config_free(config);
}

static void unconfigured_context_fails(void)
{
    dbss_config *config;
    dbss_context *ctx = (dbss_context *)&config;
    long connections;

    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT(DBSS_ERR_NOT_CONFIGURED, dbss_context_new(config, &ctx));
    CHECK(ctx == NULL);
    EXPECT(DBSS_OK, dbss_config_set_endpoint(config, fixture("http")));
    ctx = context_from(config);
    connections = count_connections();
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_NOT_CONFIGURED, ctx, fixture("pdf"));
    CHECK(count_connections() == connections);
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, fixture("token")));
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);
}

static void config_is_copied_by_context(void)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *first, *second;
    EXPECT(DBSS_OK, dbss_context_new(config, &first));
    EXPECT(DBSS_OK, dbss_config_set_token(config, "not-a-token"));
    EXPECT(DBSS_OK, dbss_context_new(config, &second));
    EXPECT(DBSS_OK, dbss_config_set_endpoint(config, "http://127.0.0.1:1"));
    EXPECT_DOWNLOAD(first);
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_UNAUTHENTICATED, second, fixture("pdf"));
    dbss_config_free(config);
    EXPECT_DOWNLOAD(first);
    dbss_context_free(second);
    EXPECT_DOWNLOAD(first);
    dbss_context_free(first);
}

static void strings_are_copied_by_config(void)
{
    char *endpoint = format("%s", fixture("http")), *token = format("%s", fixture("token"));
    dbss_config *config = new_config(endpoint, token);
    dbss_context *ctx;
    memset(endpoint, '?', strlen(endpoint));
    memset(token, '?', strlen(token));
    free(endpoint);
    free(token);
    ctx = context_from(config);
    EXPECT_DOWNLOAD(ctx);
    token = format("%s", fixture("token"));
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, token));
    memset(token, '?', strlen(token));
    free(token);
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);
}

static void token_of_96_kib_is_accepted(void)
{
    static const size_t sizes[] = {64 * 1024, 96 * 1024};
    size_t i, j;
    post_control("/undocumented", "{\"long_headers\": true}");
    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (j = 0; j < 2; j++) {
            char *token = malloc(sizes[i] + 2);
            dbss_context *ctx;
            memset(token, 'a' + (int)i, sizes[i]);
            token[sizes[i]] = '\0';
            add_token(token);
            ctx = context_from(new_config(fixture(j == 0 ? "http" : "https"), token));
            EXPECT_DOWNLOAD(ctx);
            EXPECT_DOWNLOAD(ctx);
            if (sizes[i] == 96 * 1024) {
                token[sizes[i]] = 'a';
                token[sizes[i] + 1] = '\0';
                EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_context_set_token(ctx, token));
            }
            dbss_context_free(ctx);
            free(token);
        }
    }
    post_control("/undocumented", "{}");
}

/* A socket that listens on a loopback port. `url` receives its URL. */
static int open_listener(const char *scheme, char **url)
{
    struct sockaddr_in address = {0};
    socklen_t len = sizeof address;
    /* Connections inherit both. Small segments keep the client's buffer small too,
     * so a large request does not fit into the buffers. */
    int listener = socket(AF_INET, SOCK_STREAM, 0), buffer_size = 2048, segment = 256;

    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &buffer_size, sizeof buffer_size) != 0
        || setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment) != 0
        || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0
        || getsockname(listener, (struct sockaddr *)&address, &len) != 0)
        fatal("cannot open a listener: %s", strerror(errno));
    *url = format("%s://127.0.0.1:%d", scheme, ntohs(address.sin_port));
    return listener;
}

/* A plain HTTP server that responds to anything with "400 Bad Request". */
static void *serve_bad_request(void *argument)
{
    static const char response[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    int listener = *(int *)argument, connection = accept(listener, NULL, NULL);
    char request[4096];
    CHECK(connection >= 0 && recv(connection, request, sizeof request, 0) > 0);
    CHECK(send(connection, response, sizeof response - 1, MSG_NOSIGNAL) == sizeof response - 1);
    shutdown(connection, SHUT_WR);
    while (recv(connection, request, sizeof request, 0) > 0)
        continue;
    close(connection);
    return NULL;
}

static void tls_to_plain_server_fails(void)
{
    char *url;
    int listener = open_listener("https", &url);
    dbss_context *ctx = new_context(url);
    pthread_t server;

    if (pthread_create(&server, NULL, serve_bad_request, &listener) != 0)
        fatal("cannot create a thread");
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_TLS, ctx, fixture("pdf"));
    dbss_context_free(ctx);
    pthread_join(server, NULL);
    close(listener);
    free(url);
}

static void plain_http_to_tls_server_fails(void)
{
    /* By address: a look-up by name would leave a thread behind for later forks. */
    char *url = format("http://127.0.0.1%s", strrchr(fixture("https"), ':'));
    dbss_context *ctx = new_context(url);
    dbss_buffer report;
    CHECK(dbss_status_group(download(ctx, fixture("pdf"), &report)) == DBSS_ERR_NETWORK);
    CHECK(report.data == NULL && report.len == 0);
    dbss_context_free(ctx);
    free(url);
}

/* ---------------------------------------------------------------------------
 * Threads
 * ------------------------------------------------------------------------ */

struct delayed_download {
    dbss_context *ctx;
    const char *id;
};

static void *run_delayed_download(void *argument)
{
    struct delayed_download *delayed_download = argument;
    dbss_buffer report;
    if (EXPECT(DBSS_OK, download(delayed_download->ctx, delayed_download->id, &report)) == DBSS_OK)
        CHECK(report.len == 300000 && memcmp(report.data, "%PDF-", 5) == 0);
    dbss_buffer_free(&report);
    return NULL;
}

static void context_freed_during_call_lets_it_finish(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 2; i++) {
        struct delayed_download delayed_download;
        pthread_t thread;
        delayed_download.ctx = new_context(fixture(schemes[i]));
        delayed_download.id = add_report(300000);
        post_fault(delayed_download.id, "\"delay_ms\": 300");
        if (pthread_create(&thread, NULL, run_delayed_download, &delayed_download) != 0)
            fatal("cannot create a thread");
        CHECK(wait_for_request(delayed_download.id));
        dbss_context_free(delayed_download.ctx);
        pthread_join(thread, NULL);
    }
}

struct downloads {
    dbss_context *ctx;
    const dbss_buffer *expected;
    int rounds;
    volatile int *done;
};

static void *download_repeatedly(void *argument)
{
    struct downloads *downloads = argument;
    int i;
    for (i = 0; i < downloads->rounds; i++) {
        dbss_buffer report;
        if (EXPECT(DBSS_OK, download(downloads->ctx, fixture("pdf"), &report)) == DBSS_OK)
            CHECK(report.len == downloads->expected->len
                  && memcmp(report.data, downloads->expected->data, report.len) == 0);
        dbss_buffer_free(&report);
    }
    return NULL;
}

static void start_downloads(struct downloads *downloads, pthread_t *threads, int count)
{
    int i;
    for (i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, download_repeatedly, downloads) != 0)
            fatal("cannot create a thread");
}

static void context_shared_by_threads_downloads_right_bytes(void)
{
    static const char *const schemes[] = {"http", "https"};
    pthread_t threads[16];
    dbss_buffer expected;
    size_t i, j;
    for (i = 0; i < 2; i++) {
        struct downloads downloads = {NULL, &expected, 50, NULL};
        downloads.ctx = new_context(fixture(schemes[i]));
        EXPECT_DOWNLOAD(downloads.ctx);
        EXPECT(DBSS_OK, download(downloads.ctx, fixture("pdf"), &expected));
        start_downloads(&downloads, threads, 16);
        for (j = 0; j < 16; j++)
            pthread_join(threads[j], NULL);
        dbss_buffer_free(&expected);
        dbss_context_free(downloads.ctx);
    }
}

static pthread_mutex_t swap_lock = PTHREAD_MUTEX_INITIALIZER;
static int keep_swapping;

static void *swap_tokens(void *argument)
{
    dbss_context *ctx = argument;
    int continues = 1;
    while (continues) {
        EXPECT(DBSS_OK, dbss_context_set_token(ctx, "another-valid-token"));
        EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_context_set_token(ctx, "no token"));
        EXPECT(DBSS_OK, dbss_context_set_token(ctx, fixture("token")));
        pthread_mutex_lock(&swap_lock);
        continues = keep_swapping;
        pthread_mutex_unlock(&swap_lock);
    }
    return NULL;
}

static void token_replaced_during_downloads(void)
{
    pthread_t threads[8], swapper;
    dbss_buffer expected;
    struct downloads downloads = {NULL, &expected, 50, NULL};
    int i;

    add_token("another-valid-token");
    downloads.ctx = new_context(fixture("http"));
    EXPECT(DBSS_OK, download(downloads.ctx, fixture("pdf"), &expected));
    keep_swapping = 1;
    start_downloads(&downloads, threads, 8);
    if (pthread_create(&swapper, NULL, swap_tokens, downloads.ctx) != 0)
        fatal("cannot create a thread");
    for (i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_lock(&swap_lock);
    keep_swapping = 0;
    pthread_mutex_unlock(&swap_lock);
    pthread_join(swapper, NULL);
    dbss_buffer_free(&expected);
    dbss_context_free(downloads.ctx);
}

/* ---------------------------------------------------------------------------
 * Effects on the process
 * ------------------------------------------------------------------------ */

static volatile sig_atomic_t signals_received;

static void count_signal(int signal)
{
    (void)signal;
    signals_received++;
}

static void signal_storm_disturbs_no_call(void)
{
    static const char *const schemes[] = {"http", "https"};
    const char *large = add_report(8 << 20), *silent = add_report(10000);
    struct sigaction action, before;
    struct itimerval storm = {{0, 1000}, {0, 1000}}, stopped = {{0, 0}, {0, 0}};
    size_t i, j;

    for (i = 0; i < 2; i++) {
        dbss_config *config = new_config(fixture(schemes[i]), fixture("token"));
        dbss_context *ctx;
        dbss_buffer undisturbed, report;
        dbss_status status;
        long long start;

        set_option(config, "stall_timeout_ms", "500");
        ctx = context_from(config);
        EXPECT(DBSS_OK, download(ctx, large, &undisturbed));
        post_fault(silent, "\"no_answer\": true");

        memset(&action, 0, sizeof action);
        action.sa_handler = count_signal; /* without SA_RESTART */
        sigaction(SIGALRM, &action, &before);
        signals_received = 0;
        setitimer(ITIMER_REAL, &storm, NULL);
        for (j = 0; j < 10; j++) {
            if (EXPECT(DBSS_OK, download(ctx, large, &report)) == DBSS_OK)
                CHECK(report.len == undisturbed.len && memcmp(report.data, undisturbed.data, report.len) == 0);
            dbss_buffer_free(&report);
        }
        start = now_ms();
        status = download(ctx, silent, &report);
        start = now_ms() - start;
        setitimer(ITIMER_REAL, &stopped, NULL);
        sigaction(SIGALRM, &before, NULL);

        EXPECT(DBSS_ERR_STALLED, status);
        CHECK(start >= 490 && start < 5000);
        CHECK(signals_received > 100);
        dbss_buffer_free(&undisturbed);
        dbss_context_free(ctx);
    }
}

static const char *enormous_report;

static void download_beyond_memory_limit(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    struct rlimit limit;
    long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    int i;

    EXPECT_DOWNLOAD(ctx);
    if (statm == NULL || fscanf(statm, "%ld", &pages) != 1)
        fatal("cannot read /proc/self/statm");
    fclose(statm);
    limit.rlim_cur = limit.rlim_max = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (48 << 20);
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        fatal("cannot set the limit: %s", strerror(errno));
    for (i = 0; i < 2; i++) {
        EXPECT_DOWNLOAD_ERROR(DBSS_ERR_OUT_OF_MEMORY, ctx, enormous_report);
        CHECK(dbss_error_is_retryable(dbss_last_error()) == 0);
        CHECK(*dbss_error_message(dbss_last_error()) != '\0');
        /* The memory was freed. */
        EXPECT_DOWNLOAD(ctx);
    }
    dbss_context_free(ctx);
}

static void report_larger_than_memory_fails(void)
{
    enormous_report = add_report(200LL << 20);
    run_in_child(download_beyond_memory_limit);
}

static dbss_context *inherited_context;

static void use_inherited_context(void)
{
    int i;
    for (i = 0; i < 5; i++)
        EXPECT_DOWNLOAD(inherited_context);
    EXPECT(DBSS_OK, dbss_context_set_token(inherited_context, "not-a-token"));
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_UNAUTHENTICATED, inherited_context, fixture("pdf"));
    EXPECT(DBSS_OK, dbss_context_set_token(inherited_context, fixture("token")));
    EXPECT_DOWNLOAD(inherited_context);
    dbss_context_free(inherited_context);
}

static int use_inherited_context_in_child(void *unused)
{
    (void)unused;
    use_inherited_context();
    return has_failed();
}

static void context_works_in_child_and_parent(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 2; i++) {
        pid_t child;
        long connections;
        int j;
        inherited_context = new_context(fixture(schemes[i]));
        /* Creates an idle connection, which the child must not use. */
        EXPECT_DOWNLOAD(inherited_context);
        child = start_child(use_inherited_context_in_child, NULL);
        for (j = 0; j < 5; j++)
            EXPECT_DOWNLOAD(inherited_context);
        CHECK(wait_for_child(child) == 0);
        run_in_child(use_inherited_context);
        /* The children used neither this connection nor its TLS session. */
        connections = count_connections();
        EXPECT_DOWNLOAD(inherited_context);
        CHECK(count_connections() == connections);
        dbss_context_free(inherited_context);
    }
}

/* fork() while other threads may hold any lock. */
static void context_works_in_child_of_busy_process(void)
{
    pthread_t threads[4];
    dbss_buffer expected;
    struct downloads downloads = {NULL, &expected, 100, NULL};
    int i;

    downloads.ctx = inherited_context = new_context(fixture("http"));
    EXPECT(DBSS_OK, download(downloads.ctx, fixture("pdf"), &expected));
    start_downloads(&downloads, threads, 4);
    for (i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) {
            /* No helpers of this file here: their locks may be held. */
            dbss_buffer report;
            int wrong = download(inherited_context, fixture("pdf"), &report) != DBSS_OK || report.len != expected.len
                        || memcmp(report.data, expected.data, report.len) != 0;
            dbss_buffer_free(&report);
            dbss_context_free(inherited_context);
            _exit(wrong);
        }
        CHECK(wait_for_child(child) == 0);
    }
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    dbss_buffer_free(&expected);
    dbss_context_free(inherited_context);
}

/* A server that closes the connection before it has read the whole request. The
 * kernel resets a socket that is closed with unread bytes. The client's next write
 * then fails with EPIPE. */
static void *close_before_request_ends(void *argument)
{
    int listener = *(int *)argument, connection = accept(listener, NULL, NULL);
    char first_bytes[16];
    CHECK(connection >= 0 && recv(connection, first_bytes, sizeof first_bytes, 0) > 0);
    shutdown(connection, SHUT_WR);
    close(connection);
    return NULL;
}

static void send_to_closed_connections(void)
{
    char *url, *large_token = format("%090000d", 0);
    int listener = open_listener("http", &url), i;
    dbss_context *ctx = context_from(new_config(url, large_token));

    signal(SIGPIPE, SIG_DFL);
    for (i = 0; i < 5; i++) {
        pthread_t server;
        if (pthread_create(&server, NULL, close_before_request_ends, &listener) != 0)
            fatal("cannot create a thread");
        EXPECT_DOWNLOAD_ERROR(DBSS_ERR_CONNECTION_LOST, ctx, fixture("pdf"));
        /* This proves that the write failed. */
        CHECK(dbss_error_os_code(dbss_last_error()) == EPIPE);
        pthread_join(server, NULL);
    }
    dbss_context_free(ctx);
    close(listener);
    free(large_token);
    free(url);
}

static void broken_connection_raises_no_sigpipe(void)
{
    run_in_child(send_to_closed_connections);
}

static int sockets;

static void check_socket(int fd)
{
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode)) {
        sockets++;
        CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
}

static void descriptors_are_not_leaked(void)
{
    static const char *const schemes[] = {"http", "https"};
    int before = for_each_descriptor(NULL);
    size_t i, j;
    for (i = 0; i < 2; i++) {
        dbss_context *ctx = new_context(fixture(schemes[i]));
        dbss_context *dead = new_context("http://127.0.0.1:1");
        dbss_context *untrusted = new_context(fixture("https_self_signed"));
        int others;
        sockets = 0;
        for_each_descriptor(check_socket);
        others = sockets;
        for (j = 0; j < 20; j++) {
            const char *id = fresh_id();
            EXPECT_DOWNLOAD(ctx);
            EXPECT_DOWNLOAD_ERROR(DBSS_ERR_NOT_FOUND, ctx, id);
            post_fault(id, "\"reset_before_answer\": true");
            EXPECT_DOWNLOAD_ERROR(DBSS_ERR_CONNECTION_LOST, ctx, id);
            EXPECT_DOWNLOAD_ERROR(DBSS_ERR_CONNECT, dead, id);
            EXPECT_DOWNLOAD_ERROR(DBSS_ERR_CERTIFICATE, untrusted, id);
        }
        EXPECT_DOWNLOAD(ctx);
        sockets = 0;
        for_each_descriptor(check_socket);
        /* Only the idle connection of `ctx`. */
        CHECK(sockets == others + 1);
        dbss_context_free(untrusted);
        dbss_context_free(dead);
        dbss_context_free(ctx);
        CHECK(for_each_descriptor(NULL) == before);
    }
}

static void connection_is_reused(void)
{
    dbss_context *ctx = new_context(fixture("https"));
    long connections = count_connections();
    int i;
    for (i = 0; i < 5; i++)
        EXPECT_DOWNLOAD(ctx);
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_NOT_FOUND, ctx, fresh_id());
    EXPECT_DOWNLOAD(ctx);
    CHECK(count_connections() == connections + 1);
    dbss_context_free(ctx);
}

/* A server may close a connection between two calls. The next call must notice this
 * and succeed. */
static void connection_closed_while_idle_is_replaced(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i, j;
    for (i = 0; i < 2; i++) {
        dbss_context *ctx = new_context(fixture(schemes[i]));
        for (j = 0; j < 5; j++) {
            long connections;
            /* The server sends the whole report, then closes without notice. */
            post_fault(fixture("pdf"), "\"cut_after\": 100000000, \"times\": 1");
            EXPECT_DOWNLOAD(ctx);
            connections = count_connections();
            EXPECT_DOWNLOAD(ctx);
            CHECK(count_connections() == connections + 1);
        }
        dbss_context_free(ctx);
    }
}

static void handshake_stalled_or_closed_fails(void)
{
    dbss_config *config = new_config(fixture("https"), fixture("token"));
    dbss_context *ctx;
    dbss_buffer report;
    dbss_status status;
    long long start;

    set_option(config, "connect_timeout_ms", "300");
    ctx = context_from(config);
    post_listener_fault("https", "handshake_stall");
    start = now_ms();
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_CONNECT_TIMEOUT, ctx, fixture("pdf"));
    start = now_ms() - start;
    CHECK(start >= 290 && start < 5000);
    CHECK(dbss_error_is_retryable(dbss_last_error()) == 1);
    CHECK(strstr(dbss_error_message(dbss_last_error()), "connect_timeout_ms") != NULL);
    post_listener_fault("https", "accept_close");
    /* The client may see the end or a reset first. */
    status = download(ctx, fixture("pdf"), &report);
    CHECK(status == DBSS_ERR_TLS || status == DBSS_ERR_CONNECTION_LOST);
    CHECK(report.data == NULL && report.len == 0);
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);

    ctx = new_context(fixture("http"));
    post_listener_fault("http", "accept_close");
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_CONNECTION_LOST, ctx, fixture("pdf"));
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);
}

static void provoke_every_error(void)
{
    dbss_context *ctx = new_context(fixture("https"));
    dbss_context *dead = new_context("http://127.0.0.1:1");
    dbss_context *untrusted = new_context(fixture("https_self_signed"));
    dbss_config *config = new_config("http://no-such-host.invalid", "token");
    dbss_context *unknown;
    const char *id = fresh_id();

    set_option(config, "allow_plaintext", "true");
    unknown = context_from(config);
    EXPECT_DOWNLOAD(ctx);
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_NOT_FOUND, ctx, id);
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_INVALID_ID, ctx, "x");
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_CONNECT, dead, id);
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_CERTIFICATE, untrusted, id);
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_RESOLVE, unknown, id);
    post_fault(id, "\"raw_base64\": \"Z2FyYmFnZQ0KDQo=\"");
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_PROTOCOL, ctx, id);
    dbss_context_free(unknown);
    dbss_context_free(untrusted);
    dbss_context_free(dead);
    dbss_context_free(ctx);
}

/* Nothing on stdout or stderr, even after errors. */
static void nothing_is_printed(void)
{
    FILE *captured = tmpfile();
    char text[200] = "";
    int out = dup(1), err = dup(2);

    if (captured == NULL || out < 0 || err < 0)
        fatal("cannot duplicate the descriptors");
    fflush(stdout);
    dup2(fileno(captured), 1);
    dup2(fileno(captured), 2);
    run_in_child(provoke_every_error);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    rewind(captured);
    if (fread(text, 1, sizeof text - 1, captured) != 0)
        fail_check("the library wrote: %s", text);
    fclose(captured);
}

/* ---------------------------------------------------------------------------
 * The token is wiped
 * ------------------------------------------------------------------------ */

static void use_secret(const char *endpoint)
{
    static char secret[SECRET_LENGTH + 1];
    struct secret_sample sample;
    char where[256] = "";
    int count;
    dbss_config *config;
    dbss_context *ctx;

    make_secret(secret, &sample);
    add_token(secret);

    config = new_config(endpoint, secret);
    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
    EXPECT_DOWNLOAD(ctx);
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_NOT_FOUND, ctx, fresh_id());
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, secret));
    EXPECT(DBSS_OK, dbss_config_set(config, "token", secret));
    secret[SECRET_LENGTH - 1] = '\n';
    EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_context_set_token(ctx, secret));
    EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_config_set_token(config, secret));
    wipe(secret, sizeof secret);
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);
    dbss_config_free(config);

    count = find_secret(&sample, where, sizeof where);
    if (count > 0)
        fail_check("the token is still in memory, in %d places, first %s", count, where);
}

static void use_secret_over_http(void)
{
    use_secret(fixture("http"));
}

static void use_secret_over_tls(void)
{
    use_secret(fixture("https"));
}

static void token_is_wiped(void)
{
    run_in_child(use_secret_over_http);
}

static void token_is_wiped_tls(void)
{
    run_in_child(use_secret_over_tls);
}

/* ------------------------------------------------------------------------ */

static void null_list_arguments_are_rejected(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    const char *p = fixture("project"), *i = fixture("instance"), *id = fixture("pdf");
    dbss_cursor *cursor;
    dbss_page *page = (dbss_page *)&page;
    dbss_buffer json = {(uint8_t *)&json, 1};
    dbss_report_spec *spec = (dbss_report_spec *)&spec;
    dbss_schedule_changes *changes;
    char id_buffer[DBSS_ID_SIZE];
    long connections = count_connections();

#define NO_CURSOR(name, call)                                                                                          \
    do {                                                                                                               \
        cursor = (dbss_cursor *)&cursor;                                                                               \
        EXPECT_NULL(name, call);                                                                                       \
        CHECK(cursor == NULL);                                                                                         \
    } while (0)
    NO_CURSOR("ctx", dbss_instances_list(NULL, p, 0, &cursor));
    EXPECT_NULL("out_cursor", dbss_instances_list(ctx, p, 0, NULL));
    NO_CURSOR("ctx", dbss_reports_list(NULL, p, i, NULL, 0, &cursor));
    NO_CURSOR("instance", dbss_reports_list(ctx, p, NULL, NULL, 0, &cursor));
    EXPECT_NULL("out_cursor", dbss_reports_list(ctx, p, i, NULL, 0, NULL));
    NO_CURSOR("ctx", dbss_templates_list(NULL, p, i, &cursor));
    NO_CURSOR("instance", dbss_templates_list(ctx, p, NULL, &cursor));
    EXPECT_NULL("out_cursor", dbss_templates_list(ctx, p, i, NULL));
    NO_CURSOR("ctx", dbss_databases_list(NULL, p, i, "ON", 0, &cursor));
    NO_CURSOR("instance", dbss_databases_list(ctx, p, NULL, NULL, 0, &cursor));
    EXPECT_NULL("out_cursor", dbss_databases_list(ctx, p, i, NULL, 0, NULL));
#undef NO_CURSOR
    EXPECT_NULL("cursor", dbss_cursor_next(NULL, NULL, &page));
    CHECK(page == NULL);
    EXPECT(DBSS_OK, dbss_instances_list(ctx, p, 0, &cursor));
    EXPECT_NULL("out_page", dbss_cursor_next(cursor, NULL, NULL));
    dbss_cursor_free(cursor);
    EXPECT_NULL("page", dbss_page_json(NULL, &json));
    CHECK(json.data == NULL && json.len == 0);

    EXPECT_NULL("out_spec", dbss_report_spec_new(NULL));
    EXPECT(DBSS_OK, dbss_report_spec_new(&spec));
    EXPECT_NULL("spec", dbss_report_spec_set(NULL, "db_ids", "1"));
    EXPECT_NULL("key", dbss_report_spec_set(spec, NULL, "1"));
    EXPECT_NULL("value", dbss_report_spec_set(spec, "db_ids", NULL));
    EXPECT_NULL("ctx", dbss_report_create(NULL, p, i, spec, NULL));
    EXPECT_NULL("instance", dbss_report_create(ctx, p, NULL, spec, NULL));
    EXPECT_NULL("spec", dbss_report_create(ctx, p, i, NULL, NULL));
#define NO_ID(name, call)                                                                                              \
    do {                                                                                                               \
        memset(id_buffer, 'x', sizeof id_buffer);                                                                      \
        EXPECT_NULL(name, call);                                                                                       \
        CHECK(*id_buffer == '\0');                                                                                     \
    } while (0)
    NO_ID("ctx", dbss_report_generate(NULL, p, i, spec, NULL, id_buffer));
    NO_ID("instance", dbss_report_generate(ctx, p, NULL, spec, NULL, id_buffer));
    NO_ID("spec", dbss_report_generate(ctx, p, i, NULL, NULL, id_buffer));
    EXPECT_NULL("out_id", dbss_report_generate(ctx, p, i, spec, NULL, NULL));
#undef NO_ID
    dbss_report_spec_free(spec);
    dbss_report_spec_free(NULL);
#define NO_PAGE(name, call)                                                                                            \
    do {                                                                                                               \
        page = (dbss_page *)&page;                                                                                     \
        EXPECT_NULL(name, call);                                                                                       \
        CHECK(page == NULL);                                                                                           \
    } while (0)
    NO_PAGE("ctx", dbss_schedule_show(NULL, p, i, id, NULL, &page));
    NO_PAGE("instance", dbss_schedule_show(ctx, p, NULL, id, NULL, &page));
    NO_PAGE("template_id", dbss_schedule_show(ctx, p, i, NULL, NULL, &page));
    EXPECT_NULL("out_page", dbss_schedule_show(ctx, p, i, id, NULL, NULL));
#undef NO_PAGE
    EXPECT_NULL("out_changes", dbss_schedule_changes_new(NULL));
    EXPECT(DBSS_OK, dbss_schedule_changes_new(&changes));
    EXPECT_NULL("changes", dbss_schedule_changes_set(NULL, "status", "ON"));
    EXPECT_NULL("key", dbss_schedule_changes_set(changes, NULL, "ON"));
    EXPECT_NULL("value", dbss_schedule_changes_set(changes, "status", NULL));
    EXPECT(DBSS_OK, dbss_schedule_changes_set(changes, "status", "ON"));
    EXPECT_NULL("ctx", dbss_schedule_update(NULL, p, i, id, changes, NULL));
    EXPECT_NULL("instance", dbss_schedule_update(ctx, p, NULL, id, changes, NULL));
    EXPECT_NULL("template_id", dbss_schedule_update(ctx, p, i, NULL, changes, NULL));
    EXPECT_NULL("changes", dbss_schedule_update(ctx, p, i, id, NULL, NULL));
    dbss_schedule_changes_free(changes);
    dbss_schedule_changes_free(NULL);
    EXPECT_NULL("ctx", dbss_report_wait(NULL, p, i, id, NULL));
    EXPECT_NULL("instance", dbss_report_wait(ctx, p, NULL, id, NULL));
    EXPECT_NULL("id", dbss_report_wait(ctx, p, i, NULL, NULL));
    EXPECT_NULL("ctx", dbss_report_delete(NULL, p, i, id, NULL));
    EXPECT_NULL("instance", dbss_report_delete(ctx, p, NULL, id, NULL));
    EXPECT_NULL("id", dbss_report_delete(ctx, p, i, NULL, NULL));
    CHECK(count_connections() == connections);
    dbss_context_free(ctx);
}

static const struct check checks[] = {
    {"version_matches_header", version_matches_header, PLAIN},
    {"features_are_listed", features_are_listed, PLAIN},
    {"statuses_have_names_and_groups", statuses_have_names_and_groups, PLAIN},
    {"options_match_setters", options_match_setters, PLAIN},
    {"error_getters_accept_null", error_getters_accept_null, PLAIN},
    {"credentials_getters_accept_null", credentials_getters_accept_null, PLAIN},
    {"free_functions_accept_null", free_functions_accept_null, PLAIN},
    {"buffer_freed_twice_stays_empty", buffer_freed_twice_stays_empty, PLAIN},
    {"null_arguments_are_rejected", null_arguments_are_rejected, PLAIN},
    {"null_list_arguments_are_rejected", null_list_arguments_are_rejected, PLAIN},
    {"last_error_belongs_to_thread", last_error_belongs_to_thread, PLAIN},
    {"access_key_signs_and_is_checked", access_key_signs_and_is_checked, PLAIN},
    {"failed_setter_changes_nothing", failed_setter_changes_nothing, PLAIN},
    {"header_value_with_line_end_is_rejected", header_value_with_line_end_is_rejected, PLAIN},
    {"unconfigured_context_fails", unconfigured_context_fails, PLAIN},
    {"config_is_copied_by_context", config_is_copied_by_context, PLAIN},
    {"strings_are_copied_by_config", strings_are_copied_by_config, PLAIN},
    {"token_of_96_kib_is_accepted", token_of_96_kib_is_accepted, TLS},
    {"tls_to_plain_server_fails", tls_to_plain_server_fails, TLS},
    {"plain_http_to_tls_server_fails", plain_http_to_tls_server_fails, PLAIN},
    {"context_freed_during_call_lets_it_finish", context_freed_during_call_lets_it_finish, TLS},
    {"context_shared_by_threads_downloads_right_bytes", context_shared_by_threads_downloads_right_bytes, LOAD},
    {"token_replaced_during_downloads", token_replaced_during_downloads, LOAD},
    {"signal_storm_disturbs_no_call", signal_storm_disturbs_no_call, LOAD},
    {"report_larger_than_memory_fails", report_larger_than_memory_fails, LOAD},
    {"context_works_in_child_and_parent", context_works_in_child_and_parent, LOAD},
    {"context_works_in_child_of_busy_process", context_works_in_child_of_busy_process, LOAD},
    {"broken_connection_raises_no_sigpipe", broken_connection_raises_no_sigpipe, PLAIN},
    {"descriptors_are_not_leaked", descriptors_are_not_leaked, LOAD},
    {"connection_is_reused", connection_is_reused, TLS},
    {"connection_closed_while_idle_is_replaced", connection_closed_while_idle_is_replaced, TLS},
    {"handshake_stalled_or_closed_fails", handshake_stalled_or_closed_fails, TLS},
    {"nothing_is_printed", nothing_is_printed, TLS},
    {"token_is_wiped", token_is_wiped, LOAD},
    {"token_is_wiped_tls", token_is_wiped_tls, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
