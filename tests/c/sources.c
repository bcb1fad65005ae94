/*
 * Sources of credentials: the environment, the profile file, the instance's metadata
 * service. Sources of endpoints: lists, region variables and region files. Common
 * to all credentials: signatures, wiped secrets and forks. See checks.h for how to
 * run the checks.
 */

#define _POSIX_C_SOURCE 200809L

#include "identity.h"
#include "memory.h"
#include "resolver.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Access keys that the service does not know. The request log shows which was used. */
#define ENVIRONMENT_KEY "ENVIRONMENT0123456789"
#define PROFILE_KEY "PROFILE01234567890123"
#define SECRET_KEY "a-secret-key-of-nobody-0123456789"

/* ---------------------------------------------------------------------------
 * Expected credentials
 * ------------------------------------------------------------------------ */

/* Checks source, name and project of the credentials. NULL is not compared, "" means
 * none. Returns the expiry. */
#define EXPECT_CREDENTIALS(ctx, source, name, project) expect_credentials(__LINE__, ctx, source, name, project)

static void compare_field(int line, const char *expected, const char *actual)
{
    if (expected != NULL && *expected == '\0' && actual != NULL)
        fail_check("line %d: expected none, got \"%s\"", line, actual);
    else if (expected != NULL && *expected != '\0')
        expect_text(line, expected, actual);
}

static int64_t expect_credentials(int line, dbss_context *ctx, const char *source, const char *name,
                                  const char *project)
{
    dbss_credentials *found = (dbss_credentials *)&found;
    int64_t expires_ms = -1;
    if (expect(line, DBSS_OK, dbss_context_find_credentials(ctx, NULL, &found)) == DBSS_OK) {
        const char *description = dbss_credentials_description(found);
        compare_field(line, source, dbss_credentials_source(found));
        compare_field(line, name, dbss_credentials_name(found));
        compare_field(line, project, dbss_credentials_project(found));
        if (strstr(description, SECRET_KEY) != NULL || strstr(description, fixture("secret_key")) != NULL)
            fail_check("line %d: the description contains a secret", line);
        expires_ms = dbss_credentials_expires_ms(found);
    }
    dbss_credentials_free(found);
    return expires_ms;
}

/* The masked form of an access key. */
static char *masked_key(const char *key)
{
    return format("%.4s***%s", key, key + strlen(key) - 4);
}

/* ---------------------------------------------------------------------------
 * The environment
 * ------------------------------------------------------------------------ */

static void environment_credentials_are_used(void)
{
    dbss_context *ctx;
    char *name, *header;
    set_up();
    setenv("HUAWEICLOUD_SDK_AK", fixture("access_key"), 1);
    setenv("HUAWEICLOUD_SDK_SK", fixture("secret_key"), 1);
    setenv("HUAWEICLOUD_SDK_SECURITY_TOKEN", "a-security-token", 1);
    setenv("HUAWEICLOUD_SDK_PROJECT_ID", fixture("project"), 1);
    watch_secret("a-security-token");
    ctx = context_from(credentials_config("environment"));
    /* The environment is read when the context is created. */
    unsetenv("HUAWEICLOUD_SDK_SK");
    name = masked_key(fixture("access_key"));
    CHECK(EXPECT_CREDENTIALS(ctx, "environment", name, fixture("project")) == -1);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
    CHECK(is_signed_with(fixture("pdf"), fixture("access_key")));
    header = last_header(fixture("pdf"), "X-Security-Token");
    expect_text(__LINE__, "a-security-token", header);
    free(header);
    free(name);
    dbss_context_free(ctx);

    /* Without the optional variables. Empty counts as absent. */
    setenv("HUAWEICLOUD_SDK_SK", fixture("secret_key"), 1);
    setenv("HUAWEICLOUD_SDK_SECURITY_TOKEN", "", 1);
    setenv("HUAWEICLOUD_SDK_PROJECT_ID", "", 1);
    ctx = context_from(credentials_config("environment"));
    EXPECT_CREDENTIALS(ctx, "environment", NULL, "");
    DOWNLOAD(DBSS_OK, ctx);
    header = last_header(fixture("pdf"), "X-Security-Token");
    CHECK(header == NULL);
    dbss_context_free(ctx);

    setenv("HUAWEICLOUD_SDK_PROJECT_ID", "../../no-project", 1);
    ctx = context_from(credentials_config("environment"));
    DOWNLOAD_WITHOUT_PROJECT(DBSS_ERR_INVALID_ID, ctx);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    tear_down();
}

static void environment_with_mistakes_is_refused(void)
{
    static const struct {
        const char *ak, *sk, *security_token;
        dbss_status status;
        const char *parameter;
    } cases[] = {
        {NULL, NULL, NULL, DBSS_ERR_NOT_CONFIGURED, "credentials"},
        {"", "", "", DBSS_ERR_NOT_CONFIGURED, "credentials"},
        {NULL, NULL, "token", DBSS_ERR_NOT_CONFIGURED, "credentials"},
        {ENVIRONMENT_KEY, NULL, NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_SK"},
        {ENVIRONMENT_KEY, "", NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_SK"},
        {NULL, SECRET_KEY, NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_AK"},
        {"with space", SECRET_KEY, NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_AK"},
        {ENVIRONMENT_KEY, SECRET_KEY "\n", NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_SK"},
        {ENVIRONMENT_KEY, SECRET_KEY "\xff", NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_SK"},
        {ENVIRONMENT_KEY, SECRET_KEY, "token\r\nX-Header: x", DBSS_ERR_INVALID_CREDENTIALS,
         "HUAWEICLOUD_SDK_SECURITY_TOKEN"},
    };
    static const char *const places[] = {"environment", "default"};
    size_t i, j;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (j = 0; j < 2; j++) {
            long connections;
            /* Without variables, the default looks at other sources. */
            if (j == 1 && cases[i].status == DBSS_ERR_NOT_CONFIGURED)
                continue;
            set_up();
            watch_secret(SECRET_KEY);
            if (cases[i].ak != NULL)
                setenv("HUAWEICLOUD_SDK_AK", cases[i].ak, 1);
            if (cases[i].sk != NULL)
                setenv("HUAWEICLOUD_SDK_SK", cases[i].sk, 1);
            if (cases[i].security_token != NULL)
                setenv("HUAWEICLOUD_SDK_SECURITY_TOKEN", cases[i].security_token, 1);
            connections = count_connections();
            EXPECT_NO_CONTEXT(cases[i].status, cases[i].parameter, credentials_config(places[j]));
            CHECK(count_connections() == connections);
            add_failure_context("the environment, case %d", (int)i);
            tear_down();
        }
    }
}

/* ---------------------------------------------------------------------------
 * The profile file
 * ------------------------------------------------------------------------ */

/* Writes the profile to its default path, which the caller frees. */
static char *write_profile(const char *text, mode_t mode)
{
    char *directory = format("%s/.huaweicloud", home()), *path = format("%s/credentials", directory);
    mkdir(directory, 0700);
    write_file(path, text);
    chmod(path, mode);
    free(directory);
    return path;
}

static void remove_profile(char *path)
{
    unlink(path);
    free(path);
}

/* The directory must be gone before tear_down(). */
static void remove_profile_directory(void)
{
    char *directory = format("%s/.huaweicloud", home());
    rmdir(directory);
    free(directory);
}

static void profile_in_each_form_is_read(void)
{
    static const char *const forms[] = {
        "[basic]\nak = %s\nsk = %s\n",
        "\xef\xbb\xbf[basic]\r\nak = %s\r\nsk = %s\r\n",
        "# of mine\n\n[other]\nak = no\nsk = no\n[basic]\n; comment\nak=%s\nsk=%s",
        "[basic]\nak = %s\nsk = %s\nsecurity_token =\nproject_id =\nmore = of it\n",
    };
    char *text, *path, *name = masked_key(fixture("access_key"));
    dbss_context *ctx;
    size_t i;
    for (i = 0; i < sizeof forms / sizeof *forms; i++) {
        set_up();
        text = format(forms[i], fixture("access_key"), fixture("secret_key"));
        path = write_profile(text, 0600);
        ctx = context_from(credentials_config("profile"));
        EXPECT_CREDENTIALS(ctx, "profile", name, "");
        DOWNLOAD(DBSS_OK, ctx);
        CHECK(is_signed_with(fixture("pdf"), fixture("access_key")));
        CHECK(!log_contains("readable by other users"));
        add_failure_context("the profile, form %d", (int)i);
        dbss_context_free(ctx);
        remove_profile(path);
        remove_profile_directory();
        free(text);
        tear_down();
    }
    free(name);
}

static void profile_with_optional_keys_is_used(void)
{
    char *text, *path, *header, *elsewhere;
    dbss_config *config;
    dbss_context *ctx;
    int named;
    for (named = 0; named < 2; named++) {
        set_up();
        watch_secret("a-security-token");
        text = format("[basic]\nak = %s\nsk = %s\nsecurity_token = a-security-token\nproject_id = %s\n",
                      fixture("access_key"), fixture("secret_key"), fixture("project"));
        if (named) {
            path = format("%s/elsewhere", home());
            write_file(path, text);
            setenv("HUAWEICLOUD_SDK_CREDENTIALS_FILE", path, 1);
        } else {
            path = write_profile(text, 0644);
        }
        chmod(path, 0644);
        ctx = context_from(credentials_config("profile"));
        /* The profile is used, with a warning in the log. */
        CHECK(log_contains(path) && log_contains("readable by other users"));
        EXPECT_CREDENTIALS(ctx, "profile", NULL, fixture("project"));
        DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
        header = last_header(fixture("pdf"), "X-Security-Token");
        expect_text(__LINE__, "a-security-token", header);
        free(header);
        dbss_context_free(ctx);
        remove_profile(path);
        remove_profile_directory();
        free(text);
        tear_down();
    }

    /* The profile may set the IAM endpoint. The configuration has priority. */
    set_up();
    text = format("[basic]\nak = %s\nsk = %s\niam_endpoint = %s\n", fixture("access_key"), fixture("secret_key"),
                  fixture("iam"));
    path = write_profile(text, 0600);
    config = credentials_config("profile");
    set_option(config, "region", fixture("region"));
    ctx = context_from(config);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
    CHECK(count_requests(LOOKUPS) == 1);
    dbss_context_free(ctx);
    elsewhere = format("http://127.0.0.1:1");
    config = credentials_config("profile");
    set_option(config, "region", fixture("region"));
    set_option(config, "iam_endpoint", elsewhere);
    ctx = context_from(config);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_ERR_CONNECT, ctx);
    dbss_context_free(ctx);
    free(elsewhere);
    remove_profile(path);
    remove_profile_directory();
    free(text);
    tear_down();
}

static void profile_with_mistakes_is_refused(void)
{
    static const char *const wrong[] = {
        "",
        "ak = " PROFILE_KEY "\nsk = " SECRET_KEY "\n",
        "[other]\nak = " PROFILE_KEY "\nsk = " SECRET_KEY "\n",
        "[basic]\nak = " PROFILE_KEY "\n",
        "[basic]\nsk = " SECRET_KEY "\n",
        "[basic]\nak =\nsk = " SECRET_KEY "\n",
        "[basic]\nak = " PROFILE_KEY "\nsk = with space " SECRET_KEY "\n",
        "[basic]\nak = " PROFILE_KEY "\nsk = " SECRET_KEY "\nno-key-value-" SECRET_KEY "\n",
        "[basic\nak = " PROFILE_KEY "\nsk = " SECRET_KEY "\n",
        "[basic]\nak = " PROFILE_KEY "\nsk = " SECRET_KEY "\xff\n",
        "[basic]\nak = " PROFILE_KEY "\nsk = " SECRET_KEY "\nsecurity_token = \xc3\xa9\n",
    };
    static const char *const places[] = {"profile", "default"};
    size_t i, j;
    char *path;
    set_up();
    watch_secret(SECRET_KEY);
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        for (j = 0; j < 2; j++) {
            path = write_profile(wrong[i], 0600);
            EXPECT_NO_CONTEXT(DBSS_ERR_INVALID_CREDENTIALS, NULL, credentials_config(places[j]));
            EXPECT_MESSAGE(path);
            add_failure_context("the profile was: %s", wrong[i]);
            remove_profile(path);
        }
    }
    remove_profile_directory();
    tear_down();
}

static void profile_unreadable_fails(void)
{
    char *directory, *path;
    set_up();
    EXPECT_NO_CONTEXT(DBSS_ERR_NOT_CONFIGURED, "credentials", credentials_config("profile"));
    EXPECT_MESSAGE(home());

    /* A directory is refused, and so is a pipe, which would block. */
    directory = format("%s/.huaweicloud", home());
    path = format("%s/credentials", directory);
    mkdir(directory, 0700);
    mkdir(path, 0700);
    EXPECT_NO_CONTEXT(DBSS_ERR_FILE, NULL, credentials_config("profile"));
    EXPECT_MESSAGE(path);
    rmdir(path);
    if (mkfifo(path, 0600) != 0)
        fatal("cannot create a pipe");
    EXPECT_NO_CONTEXT(DBSS_ERR_FILE, NULL, credentials_config("default"));
    unlink(path);
    free(path);
    free(directory);
    remove_profile_directory();

    /* A file that is named explicitly must exist. */
    setenv("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "/no/such/file", 1);
    EXPECT_NO_CONTEXT(DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_CREDENTIALS_FILE", credentials_config("profile"));
    EXPECT_MESSAGE("/no/such/file");
    EXPECT_NO_CONTEXT(DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_CREDENTIALS_FILE", credentials_config("default"));
    unsetenv("HUAWEICLOUD_SDK_CREDENTIALS_FILE");

    unsetenv("HOME");
    EXPECT_NO_CONTEXT(DBSS_ERR_NOT_CONFIGURED, "credentials", credentials_config("profile"));
    tear_down();
}

/* ---------------------------------------------------------------------------
 * The instance's metadata service
 * ------------------------------------------------------------------------ */

static void metadata_key_shared_by_calls(void)
{
    dbss_context *ctx;
    int64_t expires_ms;
    char *header;
    int i;
    set_up();
    ctx = context_from(credentials_config("metadata"));
    CHECK(count_requests(SESSIONS) == 0);
    for (i = 0; i < 3; i++)
        DOWNLOAD(DBSS_OK, ctx);
    expires_ms = EXPECT_CREDENTIALS(ctx, "metadata", NULL, "");
    CHECK(expires_ms > 0);
    CHECK(count_requests(SESSIONS) == 1 && count_requests(KEYS) == 1);
    header = last_header(SESSIONS, "X-Metadata-Token-Ttl-Seconds");
    CHECK(header != NULL && atoi(header) > 0 && atoi(header) <= 21600);
    free(header);
    header = last_header(KEYS, "X-Metadata-Token");
    CHECK(header != NULL);
    free(header);
    header = last_header(fixture("pdf"), "X-Security-Token");
    CHECK(header != NULL);
    free(header);
    download_concurrently(ctx, fixture("project"), 16, 2, NULL);
    CHECK(count_requests(KEYS) == 1);
    dbss_context_free(ctx);

    /* Many concurrent calls request one key. */
    ctx = context_from(credentials_config("metadata"));
    download_concurrently(ctx, fixture("project"), 32, 1, NULL);
    CHECK(count_requests(SESSIONS) == 2 && count_requests(KEYS) == 2);
    dbss_context_free(ctx);
    tear_down();
}

static void metadata_key_revoked_is_replaced(void)
{
    dbss_context *ctx;
    set_up();
    ctx = context_from(credentials_config("metadata"));
    DOWNLOAD(DBSS_OK, ctx);
    free(control("DELETE", "/metadata/keys", ""));
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(count_requests(KEYS) == 2 && count_responses(fixture("pdf"), 401) == 1);
    dbss_context_free(ctx);

    /* A key that never worked is replaced only once. */
    ctx = context_from(credentials_config("metadata"));
    post_fault(fixture("pdf"), "\"status\": 401, \"body\": \"\", \"times\": 10");
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    CHECK(count_requests(KEYS) == 3 && count_responses(fixture("pdf"), 401) == 2);
    dbss_context_free(ctx);
    tear_down();
}

static void metadata_key_renewed_before_expiry(void)
{
    long long started;
    dbss_context *ctx;
    set_up();
    post_control("/metadata", "{\"key_lifetime_ms\": 4500, \"announced_key_lifetime_ms\": 3000}");
    ctx = context_from(credentials_config("metadata"));
    started = now_ms();
    while (count_requests(KEYS) < 3 && !has_failed() && now_ms() - started < WAIT_LIMIT_MS)
        DOWNLOAD(DBSS_OK, ctx);
    /* Each after half of its life, which is counted in whole seconds. */
    CHECK(count_requests(KEYS) == 3 && now_ms() - started >= 2000);
    CHECK(count_responses(fixture("pdf"), 401) == 0);
    dbss_context_free(ctx);
    tear_down();
}

/* Older metadata services have no session tokens. */
static void metadata_without_tokens_is_used(void)
{
    static const int statuses[] = {404, 405, 503};
    size_t i;
    for (i = 0; i < 3; i++) {
        dbss_context *ctx;
        char *header;
        set_up();
        post_control("/metadata", "{\"require_token\": false}");
        post_fault(SESSIONS, "\"status\": %d, \"body\": \"\"", statuses[i]);
        ctx = context_from(credentials_config("metadata"));
        DOWNLOAD(DBSS_OK, ctx);
        header = last_header(KEYS, "X-Metadata-Token");
        CHECK(header == NULL);
        dbss_context_free(ctx);
        tear_down();
    }
}

static void metadata_without_agency_fails(void)
{
    dbss_context *ctx;
    set_up();
    post_control("/metadata", "{\"agency\": false}");
    ctx = context_from(credentials_config("metadata"));
    DOWNLOAD(DBSS_ERR_NOT_CONFIGURED, ctx);
    EXPECT_MESSAGE("agency");
    expect_text(__LINE__, "credentials", dbss_error_parameter(dbss_last_error()));
    /* The instance may get an agency later. */
    post_control("/metadata", "{}");
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);

    /* Some services refuse the key with an explanation. */
    ctx = context_from(credentials_config("metadata"));
    post_fault(KEYS, "\"status\": 401, \"body\": \"Please configure Cloud Service Agency first\"");
    DOWNLOAD(DBSS_ERR_NOT_CONFIGURED, ctx);
    EXPECT_MESSAGE("agency");
    dbss_context_free(ctx);

    /* With all sources empty, the message names all of them. */
    post_control("/metadata", "{\"agency\": false}");
    ctx = context_from(credentials_config("default"));
    DOWNLOAD(DBSS_ERR_NOT_CONFIGURED, ctx);
    EXPECT_MESSAGE("HUAWEICLOUD_SDK_AK");
    EXPECT_MESSAGE("credentials");
    EXPECT_MESSAGE("agency");
    dbss_context_free(ctx);
    tear_down();
}

static void metadata_failure_is_reported(void)
{
    static const struct {
        const char *call, *fault;
        dbss_status status;
    } cases[] = {
        {SESSIONS, "\"status\": 500, \"body\": \"\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {SESSIONS, "\"body\": \"\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {SESSIONS, "\"body\": \"secret\\r\\nX-Header: x\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {SESSIONS, "\"status\": 302, \"headers\": [[\"Location\", \"/\"]], \"body\": \"\"",
         DBSS_ERR_UNEXPECTED_RESPONSE},
        {KEYS, "\"status\": 401, \"body\": \"\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {KEYS, "\"body\": \"<html>\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {KEYS, "\"body\": \"\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {KEYS, "\"json\": {\"credential\": {\"access\": \"\", \"secret\": \"" SECRET_KEY "\"}}",
         DBSS_ERR_UNEXPECTED_RESPONSE},
        {KEYS, "\"json\": {\"credential\": {\"access\": 7, \"secret\": \"" SECRET_KEY "\"}}",
         DBSS_ERR_UNEXPECTED_RESPONSE},
        {KEYS, "\"json\": {\"credential\": {\"access\": \"a\", \"secret\": \"" SECRET_KEY " \"}}",
         DBSS_ERR_UNEXPECTED_RESPONSE},
        {KEYS, "\"raw_base64\": \"Z2FyYmFnZQ0KDQo=\"", DBSS_ERR_PROTOCOL},
        {KEYS, "\"cut_after\": 10", DBSS_ERR_TRUNCATED},
        {KEYS, "\"gzip\": true", DBSS_ERR_CONTENT_ENCODING},
        {KEYS, "\"no_answer\": true", DBSS_ERR_STALLED},
        {SESSIONS, "\"no_answer\": true", DBSS_ERR_STALLED},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        dbss_context *ctx;
        long long since;
        set_up();
        watch_secret(SECRET_KEY);
        ctx = context_from(credentials_config("metadata"));
        post_fault(cases[i].call, "%s, \"times\": 1", cases[i].fault);
        since = now_ms();
        DOWNLOAD(cases[i].status, ctx);
        EXPECT_MESSAGE("metadata");
        CHECK(now_ms() - since < 3000);
        CHECK(count_requests(fixture("pdf")) == 0);
        DOWNLOAD(DBSS_OK, ctx);
        add_failure_context("%s, the fault was: %s", cases[i].call, cases[i].fault);
        dbss_context_free(ctx);
        tear_down();
    }
}

/* On a machine that is not an instance, the call fails soon. */
static void metadata_unreachable_fails_soon(void)
{
    static const char *const places[] = {"metadata", "default"};
    dbss_config *config;
    dbss_context *ctx;
    long long since;
    size_t i;
    set_up();
    for (i = 0; i < 2; i++) {
        config = credentials_config(places[i]);
        set_option(config, "metadata_endpoint", fixture("never_accepts"));
        ctx = context_from(config);
        since = now_ms();
        if (i == 0) {
            dbss_buffer report;
            CHECK(dbss_status_group(
                      dbss_report_download(ctx, fixture("project"), fixture("instance"), fixture("pdf"), NULL, &report))
                  == DBSS_ERR_NETWORK);
        } else {
            DOWNLOAD(DBSS_ERR_NOT_CONFIGURED, ctx);
            EXPECT_MESSAGE("HUAWEICLOUD_SDK_AK");
        }
        EXPECT_MESSAGE(fixture("never_accepts"));
        if (now_ms() - since > 3000)
            fail_check("it gave up after %lld ms", now_ms() - since);
        dbss_context_free(ctx);

        config = credentials_config(places[i]);
        set_option(config, "metadata_endpoint", "http://127.0.0.1:1");
        ctx = context_from(config);
        DOWNLOAD(i == 0 ? DBSS_ERR_CONNECT : DBSS_ERR_NOT_CONFIGURED, ctx);
        EXPECT_MESSAGE("127.0.0.1:1");
        dbss_context_free(ctx);
    }
    tear_down();
}

/* Requests to the metadata service bypass the proxy. */
static void metadata_bypasses_proxy(void)
{
    dbss_config *config;
    dbss_context *ctx;
    char *all, *at;
    int tunnels = 0;
    set_up();
    config = credentials_config("metadata");
    set_option(config, "proxy", fixture("proxy"));
    /* Otherwise plain HTTP to this machine would bypass the proxy too. */
    set_option(config, "allow_plaintext", "true");
    ctx = context_from(config);
    DOWNLOAD(DBSS_OK, ctx);
    all = control("GET", "/requests", "");
    for (at = all; (at = strstr(at, "\"method\":\"CONNECT\"")) != NULL; at++)
        tunnels++;
    free(all);
    /* The one tunnel is to the service. */
    CHECK(tunnels == 1 && count_requests(KEYS) == 1);
    dbss_context_free(ctx);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * The order
 * ------------------------------------------------------------------------ */

static void default_credentials_follow_order(void)
{
    int i;
    for (i = 0; i < 8; i++) {
        int in_environment = i & 1, in_profile = i & 2, in_metadata = i & 4;
        char *path = NULL;
        dbss_context *ctx;
        set_up();
        if (in_environment) {
            setenv("HUAWEICLOUD_SDK_AK", ENVIRONMENT_KEY, 1);
            setenv("HUAWEICLOUD_SDK_SK", SECRET_KEY, 1);
        }
        if (in_profile)
            path = write_profile("[basic]\nak = " PROFILE_KEY "\nsk = " SECRET_KEY "\n", 0600);
        if (!in_metadata)
            post_control("/metadata", "{\"agency\": false}");
        ctx = context_from(credentials_config("default"));
        DOWNLOAD(in_environment || in_profile ? DBSS_ERR_UNAUTHENTICATED
                 : in_metadata                ? DBSS_OK
                                              : DBSS_ERR_NOT_CONFIGURED,
                 ctx);
        if (in_environment) {
            EXPECT_CREDENTIALS(ctx, "environment", NULL, NULL);
            CHECK(is_signed_with(fixture("pdf"), ENVIRONMENT_KEY));
        } else if (in_profile) {
            EXPECT_CREDENTIALS(ctx, "profile", NULL, NULL);
            CHECK(is_signed_with(fixture("pdf"), PROFILE_KEY));
        } else if (in_metadata) {
            EXPECT_CREDENTIALS(ctx, "metadata", NULL, NULL);
        } else {
            EXPECT_MESSAGE("HUAWEICLOUD_SDK_AK");
            EXPECT_MESSAGE(".huaweicloud/credentials");
            EXPECT_MESSAGE("agency");
        }
        /* The metadata service is asked only if needed. */
        if (in_environment || in_profile)
            CHECK(count_requests(SESSIONS) == 0);
        add_failure_context("in the environment: %d, in a profile: %d, an agency: %d", !!in_environment, !!in_profile,
                            !!in_metadata);
        dbss_context_free(ctx);
        if (path != NULL)
            remove_profile(path);
        remove_profile_directory();
        tear_down();
    }
}

/* ---------------------------------------------------------------------------
 * Several endpoints
 * ------------------------------------------------------------------------ */

static dbss_context *endpoints_context(const char *first, const char *second)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    char *both = format("%s,%s", first, second);
    set_option(config, "endpoint", both);
    set_option(config, "connect_timeout_ms", "300");
    set_option(config, "allow_plaintext", "true");
    free(both);
    return context_from(config);
}

static void unreachable_endpoint_is_skipped(void)
{
    const char *unreachable[] = {"http://127.0.0.1:1", "http://nowhere.test:1", fixture("never_accepts")};
    size_t i;
    for (i = 0; i < 3; i++) {
        dbss_context *ctx;
        int lookups;
        long connections;
        set_up();
        set_lookup_result("");
        ctx = endpoints_context(unreachable[i], fixture("http"));
        DOWNLOAD(DBSS_OK, ctx);
        /* Later calls use the second endpoint directly. */
        lookups = lookups_started();
        connections = count_connections();
        download_concurrently(ctx, fixture("project"), 4, 3, NULL);
        DOWNLOAD(DBSS_OK, ctx);
        CHECK(lookups_started() == lookups && count_connections() - connections <= 4);
        CHECK(count_responses(fixture("pdf"), 200) == 14);
        dbss_context_free(ctx);

        /* If all are unreachable, the error is that of the last. */
        ctx = endpoints_context(unreachable[i], "http://127.0.0.1:2");
        DOWNLOAD(DBSS_ERR_CONNECT, ctx);
        EXPECT_MESSAGE("127.0.0.1:2");
        dbss_context_free(ctx);
        add_failure_context("the first was %s", unreachable[i]);
        set_lookup_result("127.0.0.1");
        tear_down();
    }
}

/* An error response is final. The next endpoint is not tried. */
static void endpoint_with_error_response_is_not_skipped(void)
{
    static const int statuses[] = {500, 401, 404};
    size_t i;
    for (i = 0; i < 3; i++) {
        dbss_context *ctx;
        dbss_buffer report;
        set_up();
        ctx = endpoints_context(fixture("http"), fixture("http_other"));
        post_fault(fixture("pdf"), "\"status\": %d, \"body\": \"\", \"times\": 1", statuses[i]);
        CHECK(dbss_report_download(ctx, fixture("project"), fixture("instance"), fixture("pdf"), NULL, &report)
              != DBSS_OK);
        CHECK(dbss_error_http_status(dbss_last_error()) == statuses[i]);
        CHECK(count_requests(fixture("pdf")) == 1);
        dbss_context_free(ctx);
        tear_down();
    }
}

static void endpoints_with_mistakes_are_refused(void)
{
    dbss_config *config;
    char *many = malloc(17 * 20 + 1);
    int i;
    set_up();
    if (many == NULL)
        fatal("out of memory");
    config = basic_config();
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "endpoint",
                     dbss_config_set_endpoint(config, "http://127.0.0.1,ftp://127.0.0.1"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "endpoint", dbss_config_set_endpoint(config, "http://127.0.0.1,"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "endpoint", dbss_config_set_endpoint(config, ","));
    *many = '\0';
    for (i = 0; i < 17; i++)
        strcat(many, i == 0 ? "http://127.0.0.1" : ",http://127.0.0.1");
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "endpoint", dbss_config_set_endpoint(config, many));
    many[strlen(many) - strlen(",http://127.0.0.1")] = '\0';
    EXPECT(DBSS_OK, dbss_config_set_endpoint(config, many));
    free(many);
    /* Each endpoint in the list is checked. */
    EXPECT(DBSS_OK, dbss_config_set_endpoint(config, "http://127.0.0.1,http://192.0.2.1"));
    EXPECT_NO_CONTEXT(DBSS_ERR_PLAINTEXT_REFUSED, "endpoint", config);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * Regions
 * ------------------------------------------------------------------------ */

/* Has a region and a token, but no endpoint. */
static dbss_config *region_config(void)
{
    dbss_config *config;
    EXPECT(DBSS_OK, dbss_config_new(&config));
    set_option(config, "region", fixture("region"));
    set_option(config, "max_attempts", "1");
    set_option(config, "ca_file", fixture("ca_file"));
    EXPECT(DBSS_OK, dbss_config_set_token(config, fixture("token")));
    return config;
}

static void region_variable_gives_endpoint(void)
{
    static const char *const name = "HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4";
    static const char *const wrong[] = {"ftp://dbss.example.com", "ftp://127.0.0.1", "http://127.0.0.1/?x", ",",
                                        "http://a b"};
    dbss_config *config;
    dbss_context *ctx;
    char *both;
    size_t i;
    set_up();
    setenv(name, fixture("http"), 1);
    ctx = context_from(region_config());
    unsetenv(name);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);

    both = format("http://127.0.0.1:1, %s", fixture("http"));
    setenv(name, both, 1);
    ctx = context_from(region_config());
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    free(both);

    /* A configured endpoint has priority. */
    setenv(name, "http://127.0.0.1:1", 1);
    config = region_config();
    set_option(config, "endpoint", fixture("http"));
    ctx = context_from(config);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);

    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv(name, wrong[i], 1);
        EXPECT_NO_CONTEXT(DBSS_ERR_INVALID_ENDPOINT, "region", region_config());
        EXPECT_MESSAGE(name);
        add_failure_context("the variable was %s", wrong[i]);
    }
    setenv(name, "http://192.0.2.1", 1);
    EXPECT_NO_CONTEXT(DBSS_ERR_PLAINTEXT_REFUSED, NULL, region_config());
    tear_down();
}

static void regions_file_gives_endpoint(void)
{
    static const char *const wrong[] = {"DBSS: [", "- DBSS\n", "DBSS:\n  - id: cn-north-4\n    endpoint: [x]\n",
                                        "DBSS:\n  - id: cn-north-4\n    endpoint: ftp://dbss.example.com\n",
                                        "DBSS: \xff\n"};
    char *directory, *path, *text;
    dbss_context *ctx;
    size_t i;
    int named;
    set_up();
    directory = format("%s/.huaweicloud", home());
    mkdir(directory, 0700);
    for (named = 0; named < 2; named++) {
        path = named ? format("%s/elsewhere.yaml", home()) : format("%s/regions.yaml", directory);
        if (named)
            setenv("HUAWEICLOUD_SDK_REGIONS_FILE", path, 1);
        text = format("# regions of ours\nECS:\n  - id: cn-north-4\n    endpoint: http://127.0.0.1:1\n"
                      "DBSS:\n  - id: elsewhere-1\n    endpoint: http://127.0.0.1:1\n"
                      "  - id: cn-north-4\n    endpoint: %s\n",
                      fixture("http"));
        write_file(path, text);
        ctx = context_from(region_config());
        DOWNLOAD(DBSS_OK, ctx);
        dbss_context_free(ctx);
        free(text);
        text = format("DBSS:\n  - id: cn-north-4\n    endpoints:\n      - http://127.0.0.1:1\n      - %s\n",
                      fixture("http"));
        write_file(path, text);
        ctx = context_from(region_config());
        DOWNLOAD(DBSS_OK, ctx);
        dbss_context_free(ctx);
        free(text);
        /* The variable has priority. */
        write_file(path, "DBSS:\n  - id: cn-north-4\n    endpoint: http://127.0.0.1:1\n");
        setenv("HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4", fixture("http"), 1);
        ctx = context_from(region_config());
        DOWNLOAD(DBSS_OK, ctx);
        dbss_context_free(ctx);
        unsetenv("HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4");
        for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            dbss_context *none = (dbss_context *)&none;
            dbss_config *config = region_config();
            dbss_status status;
            write_file(path, wrong[i]);
            status = dbss_context_new(config, &none);
            CHECK(status != DBSS_OK && none == NULL);
            EXPECT_MESSAGE(path);
            add_failure_context("the regions file was: %s", wrong[i]);
            dbss_config_free(config);
        }
        unlink(path);
        free(path);
    }
    /* A file that is named explicitly must exist. */
    EXPECT_NO_CONTEXT(DBSS_ERR_FILE, NULL, region_config());
    rmdir(directory);
    free(directory);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * Signatures
 * ------------------------------------------------------------------------ */

static void wrong_signature_is_not_repeated(void)
{
    dbss_config *config;
    dbss_context *ctx;
    int i;
    set_up();
    watch_secret(SECRET_KEY);
    for (i = 0; i < 2; i++) {
        config = basic_config();
        set_option(config, "max_attempts", "10");
        EXPECT(DBSS_OK, dbss_config_set_access_key(config, i == 0 ? fixture("access_key") : ENVIRONMENT_KEY,
                                                   i == 0 ? SECRET_KEY : fixture("secret_key"), NULL));
        ctx = context_from(config);
        DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
        /* Not retried: five wrong signatures lock a key. */
        CHECK(count_requests(fixture("pdf")) == i + 1);
        CHECK(dbss_error_attempts(dbss_last_error()) == 1);
        dbss_context_free(ctx);
    }
    tear_down();
}

static void check_lists_one_instance(void)
{
    dbss_config *config;
    dbss_context *ctx;
    char *all;
    set_up();
    config = regional_config();
    EXPECT(DBSS_OK, dbss_config_set_token(config, fixture("token")));
    ctx = context_from(config);
    EXPECT(DBSS_OK, dbss_context_check(ctx, NULL, NULL));
    EXPECT(DBSS_OK, dbss_context_check(ctx, fixture("project"), NULL));
    all = control("GET", "/requests", "");
    CHECK(strstr(all, "/audit/instances?offset=0&limit=1\"") != NULL);
    free(all);
    EXPECT(DBSS_ERR_FORBIDDEN, dbss_context_check(ctx, "no-project-0123456789-0123456789-x", NULL));
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, "a-token-of-nobody"));
    EXPECT(DBSS_ERR_UNAUTHENTICATED, dbss_context_check(ctx, fixture("project"), NULL));
    dbss_context_free(ctx);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * Secrets are wiped
 * ------------------------------------------------------------------------ */

static void expect_at_most_copies(const struct secret_sample *sample, const char *what, int allowed)
{
    char where[256] = "";
    int count = find_secret(sample, where, sizeof where);
    if (count > allowed)
        fail_check("the %s is still in memory, in %d places, first %s", what, count, where);
}

static void expect_no_copies(const struct secret_sample *sample, const char *what)
{
    expect_at_most_copies(sample, what, 0);
}

/* Posts a fault that contains a secret, and wipes the copy. */
static void post_secret_fault(const char *before, const char *secret, const char *after)
{
    char *body = format("%s%s%s", before, secret, after);
    free(control("POST", "/faults", body));
    wipe(body, strlen(body));
    free(body);
}

static const char *wipe_scheme;

static void wipe_password(void)
{
    static char secret[SECRET_LENGTH + 1];
    struct secret_sample sample;
    dbss_config *config = regional_config();
    dbss_context *ctx;
    set_option(config, "iam_endpoint", fixture(strcmp(wipe_scheme, "https") == 0 ? "iam_https" : "iam"));
    make_secret(secret, &sample);
    EXPECT(DBSS_OK, dbss_config_set_iam_user(config, fixture("user"), secret, fixture("domain")));
    EXPECT(DBSS_OK, dbss_config_set(config, "iam_password", secret));
    wipe(secret, sizeof secret);
    ctx = context_from(config);
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    dbss_context_free(ctx);
    expect_no_copies(&sample, "password");
}

static void wipe_issued_token(void)
{
    static char secret[SECRET_LENGTH + 1];
    struct secret_sample sample;
    dbss_config *config = login_config();
    dbss_context *ctx;
    set_option(config, "iam_endpoint", fixture(strcmp(wipe_scheme, "https") == 0 ? "iam_https" : "iam"));
    make_secret(secret, &sample);
    add_token(secret);
    post_secret_fault("{\"report\": \"" LOGINS
                      "\", \"status\": 201, \"body\": \"{}\", \"headers\": [[\"X-Subject-Token\", \"",
                      secret, "\"]]}");
    wipe(secret, sizeof secret);
    ctx = context_from(config);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    /* TLS keeps decrypted data in its own buffers, which the library cannot wipe. */
    expect_at_most_copies(&sample, "token of IAM", strcmp(wipe_scheme, "https") == 0 ? 2 : 0);
}

static void wipe_keys(void)
{
    static char secret[SECRET_LENGTH + 1], security_token[SECRET_LENGTH + 1];
    struct secret_sample sample[2];
    dbss_config *config = basic_config();
    dbss_context *ctx;
    set_option(config, "endpoint", fixture(wipe_scheme));
    make_secret(secret, &sample[0]);
    make_secret(security_token, &sample[1]);
    EXPECT(DBSS_OK, dbss_config_set_access_key(config, ENVIRONMENT_KEY, secret, security_token));
    EXPECT(DBSS_OK, dbss_config_set(config, "secret_key", secret));
    wipe(secret, sizeof secret);
    wipe(security_token, sizeof security_token);
    ctx = context_from(config);
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    dbss_context_free(ctx);
    expect_no_copies(&sample[0], "secret key");
    expect_no_copies(&sample[1], "security token");
}

static void wipe_profile(void)
{
    static char secret[SECRET_LENGTH + 1];
    struct secret_sample sample;
    char *path = write_profile("[basic]\nak = " PROFILE_KEY "\nsk = ", 0600);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    dbss_context *ctx;
    make_secret(secret, &sample);
    if (fd < 0 || write(fd, secret, SECRET_LENGTH) != SECRET_LENGTH)
        fatal("cannot write %s", path);
    close(fd);
    wipe(secret, sizeof secret);
    ctx = context_from(credentials_config("profile"));
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    dbss_context_free(ctx);
    expect_no_copies(&sample, "profile's secret key");
    remove_profile(path);
    remove_profile_directory();
}

static void wipe_metadata(void)
{
    static char secret[SECRET_LENGTH + 1];
    struct secret_sample sample;
    dbss_context *ctx;
    make_secret(secret, &sample);
    post_secret_fault("{\"report\": \"" KEYS "\", \"json\": {\"credential\": {\"access\": \"" PROFILE_KEY
                      "\", \"secret\": \"",
                      secret, "\", \"securitytoken\": \"t\"}}}");
    wipe(secret, sizeof secret);
    ctx = context_from(credentials_config("metadata"));
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    dbss_context_free(ctx);
    expect_no_copies(&sample, "secret key of the metadata service");
}

/* The pod's token, and the secret of its key. */
static void wipe_pod_identity(void)
{
    static char secret[SECRET_LENGTH + 1], token[SECRET_LENGTH + 1];
    char path[] = "/tmp/dbss-pod-XXXXXX";
    char *uri = format("%s/v1/pod/credentials", fixture("metadata"));
    struct secret_sample sample[2];
    int fd = mkstemp(path);
    dbss_context *ctx;
    make_secret(secret, &sample[0]);
    make_secret(token, &sample[1]);
    if (fd < 0 || write(fd, token, SECRET_LENGTH) != SECRET_LENGTH || close(fd) != 0)
        fatal("cannot write %s", path);
    wipe(token, sizeof token);
    post_secret_fault("{\"report\": \"@pod.key\", \"json\": {\"access_key_id\": \"" PROFILE_KEY
                      "\", \"secret_access_key\": \"",
                      secret, "\", \"security_token\": \"t\"}}");
    wipe(secret, sizeof secret);
    setenv("HC_CONTAINER_CREDENTIALS_FULL_URI", uri, 1);
    setenv("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", path, 1);
    ctx = context_from(credentials_config("pod_identity"));
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    dbss_context_free(ctx);
    unlink(path);
    free(uri);
    expect_no_copies(&sample[0], "secret key of the pod");
    expect_no_copies(&sample[1], "token of the pod");
}

static void wipe_federation(void)
{
    static char token[SECRET_LENGTH + 1];
    char path[] = "/tmp/dbss-idp-XXXXXX";
    struct secret_sample sample;
    int fd = mkstemp(path);
    dbss_config *config = credentials_config("federation");
    dbss_context *ctx;
    make_secret(token, &sample);
    if (fd < 0 || write(fd, token, SECRET_LENGTH) != SECRET_LENGTH || close(fd) != 0)
        fatal("cannot write %s", path);
    wipe(token, sizeof token);
    set_option(config, "iam_endpoint", fixture(strcmp(wipe_scheme, "https") == 0 ? "iam_https" : "iam"));
    setenv("HUAWEICLOUD_SDK_IDP_ID", fixture("idp_id"), 1);
    setenv("HUAWEICLOUD_SDK_ID_TOKEN_FILE", path, 1);
    ctx = context_from(config);
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    dbss_context_free(ctx);
    unlink(path);
    expect_no_copies(&sample, "id token");
}

static void provide_secret(void *user_data, dbss_token_request *request)
{
    CHECK(dbss_token_request_set(request, user_data, -1) == DBSS_OK);
    dbss_token_request_free(request);
}

static void wipe_provided_token(void)
{
    static char secret[SECRET_LENGTH + 1];
    struct secret_sample sample;
    dbss_config *config = basic_config();
    dbss_context *ctx;
    set_option(config, "endpoint", fixture(wipe_scheme));
    make_secret(secret, &sample);
    add_token(secret);
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide_secret, secret, NULL));
    ctx = context_from(config);
    DOWNLOAD(DBSS_OK, ctx);
    wipe(secret, sizeof secret);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    expect_no_copies(&sample, "token of the provider");
}

/* Runs each check in a child, so that no copies of other checks are in memory. */
static void run_wipe_check(void (*body)(void))
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 2; i++) {
        set_up();
        wipe_scheme = schemes[i];
        run_in_child(body);
        add_failure_context("over %s", wipe_scheme);
        tear_down();
    }
}

static void password_is_wiped(void)
{
    run_wipe_check(wipe_password);
}

static void issued_token_is_wiped(void)
{
    run_wipe_check(wipe_issued_token);
}

static void access_key_is_wiped(void)
{
    run_wipe_check(wipe_keys);
}

static void profile_key_is_wiped(void)
{
    run_wipe_check(wipe_profile);
}

static void metadata_key_is_wiped(void)
{
    run_wipe_check(wipe_metadata);
}

static void pod_identity_is_wiped(void)
{
    run_wipe_check(wipe_pod_identity);
}

static void id_token_is_wiped(void)
{
    run_wipe_check(wipe_federation);
}

static void provided_token_is_wiped(void)
{
    run_wipe_check(wipe_provided_token);
}

/* ---------------------------------------------------------------------------
 * Children
 * ------------------------------------------------------------------------ */

static dbss_context *shared_ctx;
static dbss_operation *shared_operation;

static void *wait_in_login(void *unused)
{
    (void)unused;
    download_for(__LINE__, DBSS_ERR_CANCELLED, shared_ctx, fixture("project"), shared_operation);
    return NULL;
}

static void use_in_child(void)
{
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, shared_ctx);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, shared_ctx);
}

/* The process forks while one of its threads waits for a login. */
static void fork_during_login(void)
{
    pthread_t thread;
    set_up();
    shared_ctx = context_from(login_config());
    shared_operation = new_operation();
    post_fault(LOGINS, "\"no_answer\": true, \"times\": 1");
    thread = start_thread(wait_in_login, NULL);
    WAIT_FOR(count_requests(LOGINS) == 1);
    run_in_child(use_in_child);
    CHECK(count_requests(LOGINS) == 2);
    dbss_operation_cancel(shared_operation);
    pthread_join(thread, NULL);
    /* The parent's next call logs in as usual. */
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, shared_ctx);
    CHECK(count_requests(LOGINS) == 3);
    dbss_operation_free(shared_operation);
    dbss_context_free(shared_ctx);
    tear_down();
}

/* The child uses the parent's token. */
static void fork_after_login_reuses_token(void)
{
    set_up();
    shared_ctx = context_from(login_config());
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, shared_ctx);
    run_in_child(use_in_child);
    CHECK(count_requests(LOGINS) == 1);
    dbss_context_free(shared_ctx);
    tear_down();
}

static int provider_calls, holds;
static dbss_token_request *held_request;

static void provide_or_hold(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    if (__atomic_load_n(&holds, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&held_request, request, __ATOMIC_SEQ_CST);
    } else {
        CHECK(dbss_token_request_set(request, fixture("token"), -1) == DBSS_OK);
        dbss_token_request_free(request);
    }
    __atomic_add_fetch(&provider_calls, 1, __ATOMIC_SEQ_CST);
}

static void use_provider_in_child(void)
{
    holds = 0;
    provider_calls = 0;
    DOWNLOAD(DBSS_OK, shared_ctx);
    DOWNLOAD(DBSS_OK, shared_ctx);
    CHECK(provider_calls == 1);
    /* The parent's request has no effect in the child. */
    EXPECT(DBSS_OK, dbss_token_request_set(held_request, "a-token-of-nobody", -1));
    dbss_token_request_free(held_request);
    DOWNLOAD(DBSS_OK, shared_ctx);
    CHECK(provider_calls == 1);
}

static void *wait_for_a_token(void *unused)
{
    (void)unused;
    DOWNLOAD(DBSS_OK, shared_ctx);
    return NULL;
}

static void fork_while_waiting_for_provider(void)
{
    dbss_config *config;
    pthread_t thread;
    set_up();
    config = basic_config();
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide_or_hold, NULL, NULL));
    shared_ctx = context_from(config);
    __atomic_store_n(&holds, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&provider_calls, 0, __ATOMIC_SEQ_CST);
    thread = start_thread(wait_for_a_token, NULL);
    WAIT_FOR(__atomic_load_n(&provider_calls, __ATOMIC_SEQ_CST) == 1);
    run_in_child(use_provider_in_child);
    EXPECT(DBSS_OK, dbss_token_request_set(held_request, fixture("token"), -1));
    dbss_token_request_free(held_request);
    pthread_join(thread, NULL);
    dbss_context_free(shared_ctx);
    tear_down();
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"environment_credentials_are_used", environment_credentials_are_used, PLAIN},
    {"environment_with_mistakes_is_refused", environment_with_mistakes_is_refused, PLAIN},
    {"profile_in_each_form_is_read", profile_in_each_form_is_read, PLAIN},
    {"profile_with_optional_keys_is_used", profile_with_optional_keys_is_used, PLAIN},
    {"profile_with_mistakes_is_refused", profile_with_mistakes_is_refused, PLAIN},
    {"profile_unreadable_fails", profile_unreadable_fails, PLAIN},
    {"metadata_key_shared_by_calls", metadata_key_shared_by_calls, LOAD},
    {"metadata_key_revoked_is_replaced", metadata_key_revoked_is_replaced, PLAIN},
    {"metadata_key_renewed_before_expiry", metadata_key_renewed_before_expiry, LOAD},
    {"metadata_without_tokens_is_used", metadata_without_tokens_is_used, PLAIN},
    {"metadata_without_agency_fails", metadata_without_agency_fails, PLAIN},
    {"metadata_failure_is_reported", metadata_failure_is_reported, LOAD},
    {"metadata_unreachable_fails_soon", metadata_unreachable_fails_soon, LOAD},
    {"metadata_bypasses_proxy", metadata_bypasses_proxy, PLAIN},
    {"default_credentials_follow_order", default_credentials_follow_order, PLAIN},
    {"unreachable_endpoint_is_skipped", unreachable_endpoint_is_skipped, LOAD},
    {"endpoint_with_error_response_is_not_skipped", endpoint_with_error_response_is_not_skipped, PLAIN},
    {"endpoints_with_mistakes_are_refused", endpoints_with_mistakes_are_refused, PLAIN},
    {"region_variable_gives_endpoint", region_variable_gives_endpoint, PLAIN},
    {"regions_file_gives_endpoint", regions_file_gives_endpoint, PLAIN},
    {"wrong_signature_is_not_repeated", wrong_signature_is_not_repeated, PLAIN},
    {"check_lists_one_instance", check_lists_one_instance, PLAIN},
    {"password_is_wiped", password_is_wiped, LOAD},
    {"issued_token_is_wiped", issued_token_is_wiped, LOAD},
    {"access_key_is_wiped", access_key_is_wiped, LOAD},
    {"profile_key_is_wiped", profile_key_is_wiped, LOAD},
    {"metadata_key_is_wiped", metadata_key_is_wiped, LOAD},
    {"pod_identity_is_wiped", pod_identity_is_wiped, LOAD},
    {"id_token_is_wiped", id_token_is_wiped, LOAD},
    {"provided_token_is_wiped", provided_token_is_wiped, LOAD},
    {"fork_during_login", fork_during_login, LOAD},
    {"fork_after_login_reuses_token", fork_after_login_reuses_token, LOAD},
    {"fork_while_waiting_for_provider", fork_while_waiting_for_provider, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
