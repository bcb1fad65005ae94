/*
 * The rules of dbss.h that no table of cases can show, as small named checks.
 *
 * See checks.h for how to run them.
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------
 * Downloads
 * ------------------------------------------------------------------------ */

static dbss_status download(dbss_context *ctx, const char *id, dbss_buffer *report)
{
    return dbss_report_download(ctx, fact("project"), fact("instance"), id, "en-us", report);
}

/* Downloads a report and compares its hash. */
#define DOWNLOAD_RIGHTLY(ctx) download_rightly(__LINE__, ctx)

static void download_rightly(int line, dbss_context *ctx)
{
    dbss_buffer report;
    if (expect(line, DBSS_OK, download(ctx, fact("pdf"), &report)) == DBSS_OK)
        expect_text(line, fact("pdf_en"), sha256(report.data, report.len));
    dbss_buffer_free(&report);
}

/* Any failing download; its buffer must stay empty. */
#define DOWNLOAD_WRONGLY(expected, ctx, id) download_wrongly(__LINE__, expected, ctx, id)

static void download_wrongly(int line, dbss_status expected, dbss_context *ctx, const char *id)
{
    dbss_buffer report = {(uint8_t *)&report, 1};
    expect(line, expected, download(ctx, id, &report));
    if (report.data != NULL || report.len != 0)
        failed("line %d: a failure left something in the buffer", line);
}

/* ---------------------------------------------------------------------------
 * Static facts
 * ------------------------------------------------------------------------ */

static void version(void)
{
    char *numbers = format("%d.%d.%d", DBSS_VERSION_MAJOR, DBSS_VERSION_MINOR, DBSS_VERSION_PATCH);
    expect_text(__LINE__, DBSS_VERSION, dbss_version());
    expect_text(__LINE__, numbers, dbss_version());
    CHECK(dbss_version_number() == DBSS_VERSION_NUMBER);
    free(numbers);
}

static void features(void)
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

static void statuses(void)
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
    /* What a newer library may return. */
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

static dbss_status set_mirror(void *options, const char *key, const char *value)
{
    return dbss_mirror_options_set(options, key, value);
}

/* Each value that the list says is taken is taken, and what it says is out of
 * range is not. */
static void check_range(int32_t set, size_t i, void *of, dbss_status (*give)(void *, const char *, const char *))
{
    const char *key = dbss_option_key(set, i), *type = dbss_option_type(set, i);
    int64_t minimum = dbss_option_minimum(set, i), maximum = dbss_option_maximum(set, i);
    int is_mode = strcmp(type, "mode") == 0;
    char text[32];

    if (strcmp(type, "number") != 0 && strcmp(type, "milliseconds") != 0 && strcmp(type, "bytes") != 0 && !is_mode)
        return;
    CHECK(minimum >= 0 && maximum > minimum);
    snprintf(text, sizeof text, is_mode ? "%llo" : "%lld", (long long)minimum);
    EXPECT(DBSS_OK, give(of, key, text));
    snprintf(text, sizeof text, is_mode ? "%llo" : "%lld", (long long)maximum);
    EXPECT(DBSS_OK, give(of, key, text));
    if (maximum < INT64_MAX) {
        snprintf(text, sizeof text, is_mode ? "%llo" : "%lld", (long long)maximum + 1);
        EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, key, give(of, key, text));
    }
    if (minimum > 0) {
        snprintf(text, sizeof text, is_mode ? "%llo" : "%lld", (long long)minimum - 1);
        EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, key, give(of, key, text));
    }
    EXPECT(dbss_option_allows_none(set, i) ? DBSS_OK : DBSS_ERR_INVALID_VALUE, give(of, key, "-1"));
}

static void check_choices(int32_t set, size_t i, void *of, dbss_status (*give)(void *, const char *, const char *))
{
    const char *key = dbss_option_key(set, i), *choices = dbss_option_choices(set, i);
    CHECK((choices != NULL) == (strcmp(dbss_option_type(set, i), "choice") == 0));
    while (choices != NULL && *choices != '\0') {
        char *choice = format("%.*s", (int)strcspn(choices, ","), choices);
        EXPECT(DBSS_OK, give(of, key, choice));
        choices += strlen(choice);
        choices += *choices == ',';
        free(choice);
    }
}

/* The lists of options say what the setters take. */
static void check_options(int32_t set, void *of, dbss_status (*give)(void *, const char *, const char *))
{
    size_t i, count = dbss_option_count(set);
    CHECK(count > 0);
    for (i = 0; i < count; i++) {
        const char *key = dbss_option_key(set, i), *value = dbss_option_default(set, i);
        CHECK(key != NULL && *key != '\0');
        CHECK(dbss_option_type(set, i) != NULL && *dbss_option_type(set, i) != '\0');
        CHECK(dbss_option_help(set, i) != NULL && *dbss_option_help(set, i) != '\0');
        if (value != NULL)
            EXPECT(DBSS_OK, give(of, key, value));
        check_range(set, i, of, give);
        check_choices(set, i, of, give);
        blame("the option %s", key);
    }
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", give(of, "no_such_key", "1"));
    CHECK(dbss_option_key(set, count) == NULL && dbss_option_key(set, SIZE_MAX) == NULL);
    CHECK(dbss_option_type(set, count) == NULL && dbss_option_default(set, count) == NULL);
    CHECK(dbss_option_help(set, count) == NULL && dbss_option_choices(set, count) == NULL);
    CHECK(dbss_option_minimum(set, count) == -1 && dbss_option_maximum(set, count) == -1);
    CHECK(dbss_option_allows_none(set, count) == 0);
}

static void options(void)
{
    dbss_config *config;
    dbss_operation *operation;
    dbss_report_spec *spec;
    dbss_mirror_options *mirror;
    size_t i;
    int found = 0;

    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT(DBSS_OK, dbss_operation_new(&operation));
    EXPECT(DBSS_OK, dbss_report_spec_new(&spec));
    EXPECT(DBSS_OK, dbss_mirror_options_new(&mirror));
    check_options(DBSS_OPTIONS_CONFIG, config, set_config);
    check_options(DBSS_OPTIONS_OPERATION, operation, set_operation);
    check_options(DBSS_OPTIONS_REPORT_SPEC, spec, set_spec);
    check_options(DBSS_OPTIONS_MIRROR, mirror, set_mirror);
    for (i = 0; i < dbss_option_count(DBSS_OPTIONS_CONFIG); i++)
        if (strcmp(dbss_option_key(DBSS_OPTIONS_CONFIG, i), "stall_timeout_ms") == 0) {
            expect_text(__LINE__, "milliseconds", dbss_option_type(DBSS_OPTIONS_CONFIG, i));
            expect_text(__LINE__, "60000", dbss_option_default(DBSS_OPTIONS_CONFIG, i));
            CHECK(dbss_option_maximum(DBSS_OPTIONS_CONFIG, i) == 86400000);
            found = 1;
        }
    CHECK(found);
    /* A set that a newer library may have. */
    CHECK(dbss_option_count(0) == 0 && dbss_option_count(99) == 0 && dbss_option_key(-1, 0) == NULL);
    dbss_config_free(config);
    dbss_operation_free(operation);
    dbss_report_spec_free(spec);
    dbss_mirror_options_free(mirror);
}

/* ---------------------------------------------------------------------------
 * NULL
 * ------------------------------------------------------------------------ */

static void null_error(void)
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

static void null_credentials(void)
{
    CHECK(dbss_credentials_source(NULL) == NULL);
    CHECK(dbss_credentials_description(NULL) == NULL);
    CHECK(dbss_credentials_name(NULL) == NULL);
    CHECK(dbss_credentials_project(NULL) == NULL);
    CHECK(dbss_credentials_expires_ms(NULL) == -1);
    CHECK(dbss_token_request_refused(NULL) == 0);
}

static void free_nothing(void)
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

static void free_a_buffer_twice(void)
{
    dbss_context *ctx = new_context(fact("http"));
    dbss_buffer report;
    EXPECT(DBSS_OK, download(ctx, fact("pdf"), &report));
    CHECK(report.data != NULL && report.len > 0);
    /* The buffer outlives its context. */
    dbss_context_free(ctx);
    expect_text(__LINE__, fact("pdf_en"), sha256(report.data, report.len));
    dbss_buffer_free(&report);
    CHECK(report.data == NULL && report.len == 0);
    dbss_buffer_free(&report);
    CHECK(report.data == NULL && report.len == 0);
}

static void ask_nobody(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    dbss_token_request_free(request);
}

static void null_arguments(void)
{
    dbss_config *config = new_config(fact("http"), fact("token"));
    dbss_context *ctx = (dbss_context *)&config;
    dbss_credentials *credentials = (dbss_credentials *)&config;
    dbss_buffer report;
    const char *project = fact("project"), *instance = fact("instance"), *id = fact("pdf");
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
    EXPECT_NULL("config", dbss_config_set_token_provider(NULL, ask_nobody, NULL, NULL));
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
    /* No project is the context's; this one has none. */
    FILLED();
    EXPECT_PARAMETER(DBSS_ERR_NOT_CONFIGURED, "project",
                     dbss_report_download(ctx, NULL, instance, id, NULL, &report));
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
    /* And none of it did any harm. */
    DOWNLOAD_RIGHTLY(ctx);
    dbss_context_free(ctx);
    dbss_config_free(config);
}

/* ---------------------------------------------------------------------------
 * Errors
 * ------------------------------------------------------------------------ */

static void *no_error_here(void *unused)
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

static void last_error(void)
{
    dbss_config *config;
    const dbss_error *lent;
    dbss_error *taken;

    EXPECT(DBSS_ERR_NULL_ARGUMENT, dbss_config_new(NULL));
    lent = dbss_last_error();
    CHECK(lent != NULL);

    /* Nothing but functions that return a status touch it. */
    dbss_config_free(NULL);
    dbss_context_free(NULL);
    dbss_buffer_free(NULL);
    dbss_error_free(NULL);
    dbss_has_feature(NULL);
    dbss_version();
    dbss_status_name(-1);
    dbss_error_detail_code(lent, 99);
    dbss_option_key(DBSS_OPTIONS_CONFIG, SIZE_MAX);
    in_thread(no_error_here, NULL);
    CHECK(dbss_last_error() == lent);
    CHECK(dbss_error_status(lent) == DBSS_ERR_NULL_ARGUMENT);
    expect_text(__LINE__, "out_config", dbss_error_parameter(lent));

    /* It can be taken, once, and outlives what comes then. */
    taken = dbss_error_take();
    CHECK(taken != NULL);
    CHECK(dbss_last_error() == NULL);
    CHECK(dbss_error_take() == NULL);
    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT(DBSS_ERR_UNKNOWN_KEY, dbss_config_set(config, "no_such_key", "x"));
    in_thread(read_and_free, taken);

    /* A success clears it. */
    CHECK(dbss_last_error() != NULL);
    EXPECT(DBSS_OK, dbss_config_set(config, "allow_plaintext", "true"));
    CHECK(dbss_last_error() == NULL);
    dbss_config_free(config);
}

static void access_keys(void)
{
    dbss_config *config = new_config(fact("http"), fact("token"));
    dbss_context *ctx;

    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "access_key", dbss_config_set_access_key(config, "", "s", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "access_key", dbss_config_set_access_key(config, "a,b", "s", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "secret_key", dbss_config_set_access_key(config, "a", "s\n", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "security_token",
                     dbss_config_set_access_key(config, "a", "s", "\xc3\xa9"));

    EXPECT(DBSS_OK, dbss_config_set_access_key(config, fact("access_key"), fact("secret_key"), NULL));
    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
    DOWNLOAD_RIGHTLY(ctx);
    dbss_context_free(ctx);

    /* Tried once, though several attempts are allowed: five lock a key. */
    EXPECT(DBSS_OK, dbss_config_set(config, "max_attempts", "5"));
    EXPECT(DBSS_OK, dbss_config_set(config, "secret_key", "not-the-secret-key"));
    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
    DOWNLOAD_WRONGLY(DBSS_ERR_UNAUTHENTICATED, ctx, fact("pdf"));
    CHECK(dbss_error_attempts(dbss_last_error()) == 1);
    CHECK(strstr(dbss_error_message(dbss_last_error()), "not-the-secret-key") == NULL);
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, fact("token")));
    DOWNLOAD_RIGHTLY(ctx);
    dbss_context_free(ctx);

    /* Half a key is told when the context is made. */
    EXPECT(DBSS_OK, dbss_config_set_token(config, fact("token")));
    EXPECT(DBSS_OK, dbss_config_set(config, "access_key", fact("access_key")));
    EXPECT_PARAMETER(DBSS_ERR_NOT_CONFIGURED, "secret_key", dbss_context_new(config, &ctx));
    CHECK(ctx == NULL);
    dbss_config_free(config);
}

static void failing_setter_changes_nothing(void)
{
    dbss_config *config = new_config(fact("http"), fact("token"));
    dbss_context *ctx;
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "endpoint", dbss_config_set_endpoint(config, "ftp://127.0.0.1"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_config_set_token(config, "with space"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "region", dbss_config_set_region(config, "no/region"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "stall_timeout_ms", dbss_config_set(config, "stall_timeout_ms", "soon"));
    ctx = to_context(config);
    DOWNLOAD_RIGHTLY(ctx);
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_context_set_token(ctx, "with\nline"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_context_set_token(ctx, ""));
    DOWNLOAD_RIGHTLY(ctx);
    dbss_context_free(ctx);
}

static void no_line_ends_in_headers(void)
{
    dbss_config *config = new_config(fact("http"), fact("token"));
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

static void nothing_configured(void)
{
    dbss_config *config;
    dbss_context *ctx = (dbss_context *)&config;
    long connections;

    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT(DBSS_ERR_NOT_CONFIGURED, dbss_context_new(config, &ctx));
    CHECK(ctx == NULL);
    EXPECT(DBSS_OK, dbss_config_set_endpoint(config, fact("http")));
    ctx = to_context(config);
    connections = count_connections();
    DOWNLOAD_WRONGLY(DBSS_ERR_NOT_CONFIGURED, ctx, fact("pdf"));
    CHECK(count_connections() == connections);
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, fact("token")));
    DOWNLOAD_RIGHTLY(ctx);
    dbss_context_free(ctx);
}

static void config_is_copied(void)
{
    dbss_config *config = new_config(fact("http"), fact("token"));
    dbss_context *first, *second;
    EXPECT(DBSS_OK, dbss_context_new(config, &first));
    EXPECT(DBSS_OK, dbss_config_set_token(config, "not-a-token"));
    EXPECT(DBSS_OK, dbss_context_new(config, &second));
    EXPECT(DBSS_OK, dbss_config_set_endpoint(config, "http://127.0.0.1:1"));
    DOWNLOAD_RIGHTLY(first);
    DOWNLOAD_WRONGLY(DBSS_ERR_UNAUTHENTICATED, second, fact("pdf"));
    dbss_config_free(config);
    DOWNLOAD_RIGHTLY(first);
    dbss_context_free(second);
    DOWNLOAD_RIGHTLY(first);
    dbss_context_free(first);
}

static void strings_are_copied(void)
{
    char *endpoint = format("%s", fact("http")), *token = format("%s", fact("token"));
    dbss_config *config = new_config(endpoint, token);
    dbss_context *ctx;
    memset(endpoint, '?', strlen(endpoint));
    memset(token, '?', strlen(token));
    free(endpoint);
    free(token);
    ctx = to_context(config);
    DOWNLOAD_RIGHTLY(ctx);
    token = format("%s", fact("token"));
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, token));
    memset(token, '?', strlen(token));
    free(token);
    DOWNLOAD_RIGHTLY(ctx);
    dbss_context_free(ctx);
}

static void long_tokens(void)
{
    static const size_t sizes[] = {64 * 1024, 96 * 1024};
    size_t i, j;
    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (j = 0; j < 2; j++) {
            char *token = malloc(sizes[i] + 2);
            dbss_context *ctx;
            memset(token, 'a' + (int)i, sizes[i]);
            token[sizes[i]] = '\0';
            add_token(token);
            ctx = to_context(new_config(fact(j == 0 ? "http" : "https"), token));
            DOWNLOAD_RIGHTLY(ctx);
            DOWNLOAD_RIGHTLY(ctx);
            if (sizes[i] == 96 * 1024) {
                token[sizes[i]] = 'a';
                token[sizes[i] + 1] = '\0';
                EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_context_set_token(ctx, token));
            }
            dbss_context_free(ctx);
            free(token);
        }
    }
}

/* A socket that listens on a loopback port; `url` receives where. */
static int open_listener(const char *scheme, char **url)
{
    struct sockaddr_in address = {0};
    socklen_t len = sizeof address;
    /* Connections inherit both, and with small segments the client's buffer
     * stays small too: a large request cannot be on its way as a whole. */
    int listener = socket(AF_INET, SOCK_STREAM, 0), room = 2048, segment = 256;

    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) != 0
        || setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment) != 0
        || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0
        || getsockname(listener, (struct sockaddr *)&address, &len) != 0)
        fatal("no server: %s", strerror(errno));
    *url = format("%s://127.0.0.1:%d", scheme, ntohs(address.sin_port));
    return listener;
}

/* A server that takes whatever comes for a bad request, as plain ones do. */
static void *answer_plainly(void *argument)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    int listener = *(int *)argument, connection = accept(listener, NULL, NULL);
    char request[4096];
    CHECK(connection >= 0 && recv(connection, request, sizeof request, 0) > 0);
    CHECK(send(connection, answer, sizeof answer - 1, MSG_NOSIGNAL) == sizeof answer - 1);
    shutdown(connection, SHUT_WR);
    while (recv(connection, request, sizeof request, 0) > 0)
        continue;
    close(connection);
    return NULL;
}

static void tls_to_a_plain_server(void)
{
    char *url;
    int listener = open_listener("https", &url);
    dbss_context *ctx = new_context(url);
    pthread_t server;

    if (pthread_create(&server, NULL, answer_plainly, &listener) != 0)
        fatal("no thread");
    DOWNLOAD_WRONGLY(DBSS_ERR_TLS, ctx, fact("pdf"));
    dbss_context_free(ctx);
    pthread_join(server, NULL);
    close(listener);
    free(url);
}

static void plain_http_to_tls(void)
{
    /* Not by its name: whoever forks after a look-up forks beside its thread. */
    char *url = format("http://127.0.0.1%s", strrchr(fact("https"), ':'));
    dbss_context *ctx = new_context(url);
    dbss_buffer report;
    CHECK(dbss_status_group(download(ctx, fact("pdf"), &report)) == DBSS_ERR_NETWORK);
    CHECK(report.data == NULL && report.len == 0);
    dbss_context_free(ctx);
    free(url);
}

/* ---------------------------------------------------------------------------
 * Threads
 * ------------------------------------------------------------------------ */

struct delayed {
    dbss_context *ctx;
    const char *id;
};

static void *download_delayed(void *argument)
{
    struct delayed *delayed = argument;
    dbss_buffer report;
    if (EXPECT(DBSS_OK, download(delayed->ctx, delayed->id, &report)) == DBSS_OK)
        CHECK(report.len == 300000 && memcmp(report.data, "%PDF-", 5) == 0);
    dbss_buffer_free(&report);
    return NULL;
}

static void free_during_call(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 2; i++) {
        struct delayed delayed;
        pthread_t thread;
        delayed.ctx = new_context(fact(schemes[i]));
        delayed.id = add_report(300000);
        post_fault(delayed.id, "\"delay_ms\": 300");
        if (pthread_create(&thread, NULL, download_delayed, &delayed) != 0)
            fatal("no thread");
        CHECK(wait_for_request(delayed.id));
        dbss_context_free(delayed.ctx);
        pthread_join(thread, NULL);
    }
}

struct crowd {
    dbss_context *ctx;
    const dbss_buffer *expected;
    int rounds;
    volatile int *done;
};

static void *download_often(void *argument)
{
    struct crowd *crowd = argument;
    int i;
    for (i = 0; i < crowd->rounds; i++) {
        dbss_buffer report;
        if (EXPECT(DBSS_OK, download(crowd->ctx, fact("pdf"), &report)) == DBSS_OK)
            CHECK(report.len == crowd->expected->len
                  && memcmp(report.data, crowd->expected->data, report.len) == 0);
        dbss_buffer_free(&report);
    }
    return NULL;
}

static void run_crowd(struct crowd *crowd, pthread_t *threads, int count)
{
    int i;
    for (i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, download_often, crowd) != 0)
            fatal("no thread");
}

static void many_threads(void)
{
    static const char *const schemes[] = {"http", "https"};
    pthread_t threads[16];
    dbss_buffer expected;
    size_t i, j;
    for (i = 0; i < 2; i++) {
        struct crowd crowd = {NULL, &expected, 50, NULL};
        crowd.ctx = new_context(fact(schemes[i]));
        DOWNLOAD_RIGHTLY(crowd.ctx);
        EXPECT(DBSS_OK, download(crowd.ctx, fact("pdf"), &expected));
        run_crowd(&crowd, threads, 16);
        for (j = 0; j < 16; j++)
            pthread_join(threads[j], NULL);
        dbss_buffer_free(&expected);
        dbss_context_free(crowd.ctx);
    }
}

static pthread_mutex_t swap_lock = PTHREAD_MUTEX_INITIALIZER;
static int swap_until_told;

static void *swap_tokens(void *argument)
{
    dbss_context *ctx = argument;
    int go_on = 1;
    while (go_on) {
        EXPECT(DBSS_OK, dbss_context_set_token(ctx, "another-valid-token"));
        EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_context_set_token(ctx, "no token"));
        EXPECT(DBSS_OK, dbss_context_set_token(ctx, fact("token")));
        pthread_mutex_lock(&swap_lock);
        go_on = swap_until_told;
        pthread_mutex_unlock(&swap_lock);
    }
    return NULL;
}

static void token_swap(void)
{
    pthread_t threads[8], swapper;
    dbss_buffer expected;
    struct crowd crowd = {NULL, &expected, 50, NULL};
    int i;

    add_token("another-valid-token");
    crowd.ctx = new_context(fact("http"));
    EXPECT(DBSS_OK, download(crowd.ctx, fact("pdf"), &expected));
    swap_until_told = 1;
    run_crowd(&crowd, threads, 8);
    if (pthread_create(&swapper, NULL, swap_tokens, crowd.ctx) != 0)
        fatal("no thread");
    for (i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_lock(&swap_lock);
    swap_until_told = 0;
    pthread_mutex_unlock(&swap_lock);
    pthread_join(swapper, NULL);
    dbss_buffer_free(&expected);
    dbss_context_free(crowd.ctx);
}

/* ---------------------------------------------------------------------------
 * A good guest in its process
 * ------------------------------------------------------------------------ */

static volatile sig_atomic_t ticks;

static void tick(int signal)
{
    (void)signal;
    ticks++;
}

static void signal_storm(void)
{
    static const char *const schemes[] = {"http", "https"};
    const char *large = add_report(8 << 20), *silent = add_report(10000);
    struct sigaction action, before;
    struct itimerval storm = {{0, 1000}, {0, 1000}}, calm = {{0, 0}, {0, 0}};
    size_t i, j;

    for (i = 0; i < 2; i++) {
        dbss_config *config = new_config(fact(schemes[i]), fact("token"));
        dbss_context *ctx;
        dbss_buffer calmly, report;
        dbss_status status;
        long long start;

        set(config, "stall_timeout_ms", "500");
        ctx = to_context(config);
        EXPECT(DBSS_OK, download(ctx, large, &calmly));
        post_fault(silent, "\"no_answer\": true");

        memset(&action, 0, sizeof action);
        action.sa_handler = tick; /* and no SA_RESTART */
        sigaction(SIGALRM, &action, &before);
        ticks = 0;
        setitimer(ITIMER_REAL, &storm, NULL);
        for (j = 0; j < 10; j++) {
            if (EXPECT(DBSS_OK, download(ctx, large, &report)) == DBSS_OK)
                CHECK(report.len == calmly.len && memcmp(report.data, calmly.data, report.len) == 0);
            dbss_buffer_free(&report);
        }
        start = now_ms();
        status = download(ctx, silent, &report);
        start = now_ms() - start;
        setitimer(ITIMER_REAL, &calm, NULL);
        sigaction(SIGALRM, &before, NULL);

        EXPECT(DBSS_ERR_STALLED, status);
        CHECK(start >= 490 && start < 5000);
        CHECK(ticks > 100);
        dbss_buffer_free(&calmly);
        dbss_context_free(ctx);
    }
}

static const char *enormous;

static void die_of_memory(void)
{
    dbss_context *ctx = new_context(fact("http"));
    struct rlimit limit;
    long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    int i;

    DOWNLOAD_RIGHTLY(ctx);
    if (statm == NULL || fscanf(statm, "%ld", &pages) != 1)
        fatal("no /proc/self/statm");
    fclose(statm);
    limit.rlim_cur = limit.rlim_max = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (48 << 20);
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        fatal("no limit: %s", strerror(errno));
    for (i = 0; i < 2; i++) {
        DOWNLOAD_WRONGLY(DBSS_ERR_OUT_OF_MEMORY, ctx, enormous);
        CHECK(dbss_error_is_retryable(dbss_last_error()) == 0);
        CHECK(*dbss_error_message(dbss_last_error()) != '\0');
        /* What it held is given back. */
        DOWNLOAD_RIGHTLY(ctx);
    }
    dbss_context_free(ctx);
}

static void out_of_memory(void)
{
    enormous = add_report(200LL << 20);
    in_child(die_of_memory);
}

static dbss_context *inherited;

static void use_inheritance(void)
{
    int i;
    for (i = 0; i < 5; i++)
        DOWNLOAD_RIGHTLY(inherited);
    EXPECT(DBSS_OK, dbss_context_set_token(inherited, "not-a-token"));
    DOWNLOAD_WRONGLY(DBSS_ERR_UNAUTHENTICATED, inherited, fact("pdf"));
    EXPECT(DBSS_OK, dbss_context_set_token(inherited, fact("token")));
    DOWNLOAD_RIGHTLY(inherited);
    dbss_context_free(inherited);
}

static void fork_with_context(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 2; i++) {
        pid_t child;
        long connections;
        int j;
        inherited = new_context(fact(schemes[i]));
        /* So that there is an idle connection to fight over. */
        DOWNLOAD_RIGHTLY(inherited);
        child = fork();
        if (child == 0) {
            use_inheritance();
            _exit(has_failed());
        }
        for (j = 0; j < 5; j++)
            DOWNLOAD_RIGHTLY(inherited);
        CHECK(wait_for_child(child) == 0);
        in_child(use_inheritance);
        /* The children left this connection alone, its TLS session too. */
        connections = count_connections();
        DOWNLOAD_RIGHTLY(inherited);
        CHECK(count_connections() == connections);
        dbss_context_free(inherited);
    }
}

/* As fork() may come while other threads hold whatever locks there are. */
static void fork_among_threads(void)
{
    pthread_t threads[4];
    dbss_buffer expected;
    struct crowd crowd = {NULL, &expected, 100, NULL};
    int i;

    crowd.ctx = inherited = new_context(fact("http"));
    EXPECT(DBSS_OK, download(crowd.ctx, fact("pdf"), &expected));
    run_crowd(&crowd, threads, 4);
    for (i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) {
            /* Not the helpers of this file: their locks may be held. */
            dbss_buffer report;
            int wrong = download(inherited, fact("pdf"), &report) != DBSS_OK || report.len != expected.len
                        || memcmp(report.data, expected.data, report.len) != 0;
            dbss_buffer_free(&report);
            dbss_context_free(inherited);
            _exit(wrong);
        }
        CHECK(wait_for_child(child) == 0);
    }
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    dbss_buffer_free(&expected);
    dbss_context_free(inherited);
}

/* A server that leaves while the request still comes: it ends its own side,
 * and a socket closed with unread bytes in it is reset. The client's next
 * write is then one to a broken pipe. */
static void *leave_early(void *argument)
{
    int listener = *(int *)argument, connection = accept(listener, NULL, NULL);
    char beginning[16];
    CHECK(connection >= 0 && recv(connection, beginning, sizeof beginning, 0) > 0);
    shutdown(connection, SHUT_WR);
    close(connection);
    return NULL;
}

static void write_to_broken_pipes(void)
{
    char *url, *large_token = format("%090000d", 0);
    int listener = open_listener("http", &url), i;
    dbss_context *ctx = to_context(new_config(url, large_token));

    signal(SIGPIPE, SIG_DFL);
    for (i = 0; i < 5; i++) {
        pthread_t server;
        if (pthread_create(&server, NULL, leave_early, &listener) != 0)
            fatal("no thread");
        DOWNLOAD_WRONGLY(DBSS_ERR_CONNECTION_LOST, ctx, fact("pdf"));
        /* Proof that it was one. */
        CHECK(dbss_error_os_code(dbss_last_error()) == EPIPE);
        pthread_join(server, NULL);
    }
    dbss_context_free(ctx);
    close(listener);
    free(large_token);
    free(url);
}

static void sigpipe(void)
{
    in_child(write_to_broken_pipes);
}

static int sockets;

static void look_at_socket(int fd)
{
    struct stat facts;
    if (fstat(fd, &facts) == 0 && S_ISSOCK(facts.st_mode)) {
        sockets++;
        CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
}

static void descriptors(void)
{
    static const char *const schemes[] = {"http", "https"};
    int before = each_descriptor(NULL);
    size_t i, j;
    for (i = 0; i < 2; i++) {
        dbss_context *ctx = new_context(fact(schemes[i]));
        dbss_context *dead = new_context("http://127.0.0.1:1");
        dbss_context *untrusted = new_context(fact("https_self_signed"));
        int others;
        sockets = 0;
        each_descriptor(look_at_socket);
        others = sockets;
        for (j = 0; j < 20; j++) {
            const char *id = fresh_id();
            DOWNLOAD_RIGHTLY(ctx);
            DOWNLOAD_WRONGLY(DBSS_ERR_NOT_FOUND, ctx, id);
            post_fault(id, "\"reset_before_answer\": true");
            DOWNLOAD_WRONGLY(DBSS_ERR_CONNECTION_LOST, ctx, id);
            DOWNLOAD_WRONGLY(DBSS_ERR_CONNECT, dead, id);
            DOWNLOAD_WRONGLY(DBSS_ERR_CERTIFICATE, untrusted, id);
        }
        DOWNLOAD_RIGHTLY(ctx);
        sockets = 0;
        each_descriptor(look_at_socket);
        /* The idle connection of `ctx`, and nothing of the others. */
        CHECK(sockets == others + 1);
        dbss_context_free(untrusted);
        dbss_context_free(dead);
        dbss_context_free(ctx);
        CHECK(each_descriptor(NULL) == before);
    }
}

static void connection_is_kept(void)
{
    dbss_context *ctx = new_context(fact("https"));
    long connections = count_connections();
    int i;
    for (i = 0; i < 5; i++)
        DOWNLOAD_RIGHTLY(ctx);
    DOWNLOAD_WRONGLY(DBSS_ERR_NOT_FOUND, ctx, fresh_id());
    DOWNLOAD_RIGHTLY(ctx);
    CHECK(count_connections() == connections + 1);
    dbss_context_free(ctx);
}

/* A server may close a connection between two calls; the next call must
 * notice, and not fail. */
static void closed_while_idle(void)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i, j;
    for (i = 0; i < 2; i++) {
        dbss_context *ctx = new_context(fact(schemes[i]));
        for (j = 0; j < 5; j++) {
            long connections;
            /* Whole, and then closed without a word about it before. */
            post_fault(fact("pdf"), "\"cut_after\": 100000000, \"times\": 1");
            DOWNLOAD_RIGHTLY(ctx);
            connections = count_connections();
            DOWNLOAD_RIGHTLY(ctx);
            CHECK(count_connections() == connections + 1);
        }
        dbss_context_free(ctx);
    }
}

static void handshakes(void)
{
    dbss_config *config = new_config(fact("https"), fact("token"));
    dbss_context *ctx;
    dbss_buffer report;
    dbss_status status;
    long long start;

    set(config, "connect_timeout_ms", "300");
    ctx = to_context(config);
    post_listener_fault("https", "handshake_stall");
    start = now_ms();
    DOWNLOAD_WRONGLY(DBSS_ERR_CONNECT_TIMEOUT, ctx, fact("pdf"));
    start = now_ms() - start;
    CHECK(start >= 290 && start < 5000);
    CHECK(dbss_error_is_retryable(dbss_last_error()) == 1);
    CHECK(strstr(dbss_error_message(dbss_last_error()), "connect_timeout_ms") != NULL);
    post_listener_fault("https", "accept_close");
    /* Whether the end or a reset comes first is the kernels' affair. */
    status = download(ctx, fact("pdf"), &report);
    CHECK(status == DBSS_ERR_TLS || status == DBSS_ERR_CONNECTION_LOST);
    CHECK(report.data == NULL && report.len == 0);
    DOWNLOAD_RIGHTLY(ctx);
    dbss_context_free(ctx);

    ctx = new_context(fact("http"));
    post_listener_fault("http", "accept_close");
    DOWNLOAD_WRONGLY(DBSS_ERR_CONNECTION_LOST, ctx, fact("pdf"));
    DOWNLOAD_RIGHTLY(ctx);
    dbss_context_free(ctx);
}

static void say_much(void)
{
    dbss_context *ctx = new_context(fact("https"));
    dbss_context *dead = new_context("http://127.0.0.1:1");
    dbss_context *untrusted = new_context(fact("https_self_signed"));
    dbss_config *config = new_config("http://no-such-host.invalid", "token");
    dbss_context *unknown;
    const char *id = fresh_id();

    set(config, "allow_plaintext", "true");
    unknown = to_context(config);
    DOWNLOAD_RIGHTLY(ctx);
    DOWNLOAD_WRONGLY(DBSS_ERR_NOT_FOUND, ctx, id);
    DOWNLOAD_WRONGLY(DBSS_ERR_INVALID_ID, ctx, "x");
    DOWNLOAD_WRONGLY(DBSS_ERR_CONNECT, dead, id);
    DOWNLOAD_WRONGLY(DBSS_ERR_CERTIFICATE, untrusted, id);
    DOWNLOAD_WRONGLY(DBSS_ERR_RESOLVE, unknown, id);
    post_fault(id, "\"raw_base64\": \"Z2FyYmFnZQ0KDQo=\"");
    DOWNLOAD_WRONGLY(DBSS_ERR_PROTOCOL, ctx, id);
    dbss_context_free(unknown);
    dbss_context_free(untrusted);
    dbss_context_free(dead);
    dbss_context_free(ctx);
}

/* Not a word on stdout or stderr, whatever happens. */
static void silence(void)
{
    FILE *catcher = tmpfile();
    char text[200] = "";
    int out = dup(1), err = dup(2);

    if (catcher == NULL || out < 0 || err < 0)
        fatal("no descriptors");
    fflush(stdout);
    dup2(fileno(catcher), 1);
    dup2(fileno(catcher), 2);
    in_child(say_much);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    rewind(catcher);
    if (fread(text, 1, sizeof text - 1, catcher) != 0)
        failed("the library wrote: %s", text);
    fclose(catcher);
}

/* ---------------------------------------------------------------------------
 * The token is wiped
 * ------------------------------------------------------------------------ */

static void use_secret(const char *endpoint)
{
    static char secret[SECRET + 1];
    struct hidden hidden;
    char where[256] = "";
    int count;
    dbss_config *config;
    dbss_context *ctx;

    make_secret(secret, &hidden);
    add_token(secret);

    config = new_config(endpoint, secret);
    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
    DOWNLOAD_RIGHTLY(ctx);
    DOWNLOAD_WRONGLY(DBSS_ERR_NOT_FOUND, ctx, fresh_id());
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, secret));
    EXPECT(DBSS_OK, dbss_config_set(config, "token", secret));
    secret[SECRET - 1] = '\n';
    EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_context_set_token(ctx, secret));
    EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_config_set_token(config, secret));
    wipe(secret, sizeof secret);
    DOWNLOAD_RIGHTLY(ctx);
    dbss_context_free(ctx);
    dbss_config_free(config);

    count = find_hidden(&hidden, where, sizeof where);
    if (count > 0)
        failed("the token still stands in memory, in %d places, first %s", count, where);
}

static void use_secret_plainly(void)
{
    use_secret(fact("http"));
}

static void use_secret_over_tls(void)
{
    use_secret(fact("https"));
}

static void token_wiped(void)
{
    in_child(use_secret_plainly);
}

static void token_wiped_tls(void)
{
    in_child(use_secret_over_tls);
}

/* ------------------------------------------------------------------------ */

static void null_arguments_of_lists(void)
{
    dbss_context *ctx = new_context(fact("http"));
    const char *p = fact("project"), *i = fact("instance"), *id = fact("pdf");
    dbss_cursor *cursor;
    dbss_page *page = (dbss_page *)&page;
    dbss_buffer json = {(uint8_t *)&json, 1};
    dbss_report_spec *spec = (dbss_report_spec *)&spec;
    char room[DBSS_ID_SIZE];
    long connections = count_connections();

#define NO_CURSOR(name, call) \
    do { \
        cursor = (dbss_cursor *)&cursor; \
        EXPECT_NULL(name, call); \
        CHECK(cursor == NULL); \
    } while (0)
    NO_CURSOR("ctx", dbss_instances_list(NULL, p, 0, &cursor));
    EXPECT_NULL("out_cursor", dbss_instances_list(ctx, p, 0, NULL));
    NO_CURSOR("ctx", dbss_reports_list(NULL, p, i, NULL, 0, &cursor));
    NO_CURSOR("instance", dbss_reports_list(ctx, p, NULL, NULL, 0, &cursor));
    EXPECT_NULL("out_cursor", dbss_reports_list(ctx, p, i, NULL, 0, NULL));
    NO_CURSOR("ctx", dbss_templates_list(NULL, p, i, &cursor));
    NO_CURSOR("instance", dbss_templates_list(ctx, p, NULL, &cursor));
    EXPECT_NULL("out_cursor", dbss_templates_list(ctx, p, i, NULL));
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
#define NO_ID(name, call) \
    do { \
        memset(room, 'x', sizeof room); \
        EXPECT_NULL(name, call); \
        CHECK(*room == '\0'); \
    } while (0)
    NO_ID("ctx", dbss_report_generate(NULL, p, i, spec, NULL, room));
    NO_ID("instance", dbss_report_generate(ctx, p, NULL, spec, NULL, room));
    NO_ID("spec", dbss_report_generate(ctx, p, i, NULL, NULL, room));
    EXPECT_NULL("out_id", dbss_report_generate(ctx, p, i, spec, NULL, NULL));
#undef NO_ID
    dbss_report_spec_free(spec);
    dbss_report_spec_free(NULL);
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
    {"version", version, PLAIN},
    {"features", features, PLAIN},
    {"statuses", statuses, PLAIN},
    {"options", options, PLAIN},
    {"null_error", null_error, PLAIN},
    {"null_credentials", null_credentials, PLAIN},
    {"free_nothing", free_nothing, PLAIN},
    {"free_a_buffer_twice", free_a_buffer_twice, PLAIN},
    {"null_arguments", null_arguments, PLAIN},
    {"null_arguments_of_lists", null_arguments_of_lists, PLAIN},
    {"last_error", last_error, PLAIN},
    {"access_keys", access_keys, PLAIN},
    {"failing_setter_changes_nothing", failing_setter_changes_nothing, PLAIN},
    {"no_line_ends_in_headers", no_line_ends_in_headers, PLAIN},
    {"nothing_configured", nothing_configured, PLAIN},
    {"config_is_copied", config_is_copied, PLAIN},
    {"strings_are_copied", strings_are_copied, PLAIN},
    {"long_tokens", long_tokens, TLS},
    {"tls_to_a_plain_server", tls_to_a_plain_server, TLS},
    {"plain_http_to_tls", plain_http_to_tls, PLAIN},
    {"free_during_call", free_during_call, TLS},
    {"many_threads", many_threads, LOAD},
    {"token_swap", token_swap, LOAD},
    {"signal_storm", signal_storm, LOAD},
    {"out_of_memory", out_of_memory, LOAD},
    {"fork_with_context", fork_with_context, LOAD},
    {"fork_among_threads", fork_among_threads, LOAD},
    {"sigpipe", sigpipe, PLAIN},
    {"descriptors", descriptors, LOAD},
    {"connection_is_kept", connection_is_kept, TLS},
    {"closed_while_idle", closed_while_idle, TLS},
    {"handshakes", handshakes, TLS},
    {"silence", silence, TLS},
    {"token_wiped", token_wiped, LOAD},
    {"token_wiped_tls", token_wiped_tls, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
