/*
 * Where credentials are found: the environment, the profile file, the
 * instance's metadata service; where the service is: several endpoints,
 * variables and files of regions; and what holds for all kinds of credentials:
 * signatures, secrets that are wiped, children. See checks.h for how to run them.
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

/* Access keys that nobody has: the request log tells which one was used. */
#define OF_ENVIRONMENT "ENVIRONMENT0123456789"
#define OF_PROFILE "PROFILE01234567890123"
#define SECRET_KEY "a-secret-key-of-nobody-0123456789"

/* ---------------------------------------------------------------------------
 * What is found
 * ------------------------------------------------------------------------ */

/* Checks where credentials are from, whose and for which project; NULL is not
 * compared, "" means none. */
#define FOUND(ctx, source, name, project) found_in(__LINE__, ctx, source, name, project)

static void compare_fact(int line, const char *expected, const char *actual)
{
    if (expected != NULL && *expected == '\0' && actual != NULL)
        failed("line %d: expected none, got \"%s\"", line, actual);
    else if (expected != NULL && *expected != '\0')
        expect_text(line, expected, actual);
}

static int64_t found_in(int line, dbss_context *ctx, const char *source, const char *name, const char *project)
{
    dbss_credentials *found = (dbss_credentials *)&found;
    int64_t expires_ms = -1;
    if (expect(line, DBSS_OK, dbss_context_find_credentials(ctx, NULL, &found)) == DBSS_OK) {
        const char *description = dbss_credentials_description(found);
        compare_fact(line, source, dbss_credentials_source(found));
        compare_fact(line, name, dbss_credentials_name(found));
        compare_fact(line, project, dbss_credentials_project(found));
        if (strstr(description, SECRET_KEY) != NULL || strstr(description, fact("secret_key")) != NULL)
            failed("line %d: a secret stands in the description", line);
        expires_ms = dbss_credentials_expires_ms(found);
    }
    dbss_credentials_free(found);
    return expires_ms;
}

/* An access key as it is shown. */
static char *masked_key(const char *key)
{
    return format("%.4s***%s", key, key + strlen(key) - 4);
}

/* ---------------------------------------------------------------------------
 * The environment
 * ------------------------------------------------------------------------ */

static void environment(void)
{
    dbss_context *ctx;
    char *name, *header;
    begin();
    setenv("HUAWEICLOUD_SDK_AK", fact("access_key"), 1);
    setenv("HUAWEICLOUD_SDK_SK", fact("secret_key"), 1);
    setenv("HUAWEICLOUD_SDK_SECURITY_TOKEN", "a-security-token", 1);
    setenv("HUAWEICLOUD_SDK_PROJECT_ID", fact("project"), 1);
    watch_secret("a-security-token");
    ctx = to_context(finding_config("environment"));
    /* It is read when the context is made. */
    unsetenv("HUAWEICLOUD_SDK_SK");
    name = masked_key(fact("access_key"));
    CHECK(FOUND(ctx, "environment", name, fact("project")) == -1);
    DOWNLOAD_NOWHERE(DBSS_OK, ctx);
    CHECK(signed_with(fact("pdf"), fact("access_key")));
    header = last_header(fact("pdf"), "X-Security-Token");
    expect_text(__LINE__, "a-security-token", header);
    free(header);
    free(name);
    dbss_context_free(ctx);

    /* Without the others; empty is absent. */
    setenv("HUAWEICLOUD_SDK_SK", fact("secret_key"), 1);
    setenv("HUAWEICLOUD_SDK_SECURITY_TOKEN", "", 1);
    setenv("HUAWEICLOUD_SDK_PROJECT_ID", "", 1);
    ctx = to_context(finding_config("environment"));
    FOUND(ctx, "environment", NULL, "");
    DOWNLOAD(DBSS_OK, ctx);
    header = last_header(fact("pdf"), "X-Security-Token");
    CHECK(header == NULL);
    dbss_context_free(ctx);

    setenv("HUAWEICLOUD_SDK_PROJECT_ID", "../../no-project", 1);
    ctx = to_context(finding_config("environment"));
    DOWNLOAD_NOWHERE(DBSS_ERR_INVALID_ID, ctx);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    end();
}

static void environment_with_mistakes(void)
{
    static const struct {
        const char *ak, *sk, *security_token;
        dbss_status status;
        const char *parameter;
    } ways[] = {
        {NULL, NULL, NULL, DBSS_ERR_NOT_CONFIGURED, "credentials"},
        {"", "", "", DBSS_ERR_NOT_CONFIGURED, "credentials"},
        {NULL, NULL, "token", DBSS_ERR_NOT_CONFIGURED, "credentials"},
        {OF_ENVIRONMENT, NULL, NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_SK"},
        {OF_ENVIRONMENT, "", NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_SK"},
        {NULL, SECRET_KEY, NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_AK"},
        {"with space", SECRET_KEY, NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_AK"},
        {OF_ENVIRONMENT, SECRET_KEY "\n", NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_SK"},
        {OF_ENVIRONMENT, SECRET_KEY "\xff", NULL, DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_SK"},
        {OF_ENVIRONMENT, SECRET_KEY, "token\r\nX-Header: x", DBSS_ERR_INVALID_CREDENTIALS,
         "HUAWEICLOUD_SDK_SECURITY_TOKEN"},
    };
    static const char *const places[] = {"environment", "default"};
    size_t i, j;
    for (i = 0; i < sizeof ways / sizeof *ways; i++) {
        for (j = 0; j < 2; j++) {
            long connections;
            /* Where nothing is set the default looks elsewhere. */
            if (j == 1 && ways[i].status == DBSS_ERR_NOT_CONFIGURED)
                continue;
            begin();
            watch_secret(SECRET_KEY);
            if (ways[i].ak != NULL)
                setenv("HUAWEICLOUD_SDK_AK", ways[i].ak, 1);
            if (ways[i].sk != NULL)
                setenv("HUAWEICLOUD_SDK_SK", ways[i].sk, 1);
            if (ways[i].security_token != NULL)
                setenv("HUAWEICLOUD_SDK_SECURITY_TOKEN", ways[i].security_token, 1);
            connections = count_connections();
            NO_CONTEXT(ways[i].status, ways[i].parameter, finding_config(places[j]));
            CHECK(count_connections() == connections);
            blame("the environment, case %d", (int)i);
            end();
        }
    }
}

/* ---------------------------------------------------------------------------
 * The profile file
 * ------------------------------------------------------------------------ */

/* Writes it where it is looked for; returns its path, to be freed. */
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

/* What begin() made goes with end(). */
static void remove_profile_directory(void)
{
    char *directory = format("%s/.huaweicloud", home());
    rmdir(directory);
    free(directory);
}

static void profile(void)
{
    static const char *const forms[] = {
        "[basic]\nak = %s\nsk = %s\n",
        "\xef\xbb\xbf[basic]\r\nak = %s\r\nsk = %s\r\n",
        "# of mine\n\n[other]\nak = no\nsk = no\n[basic]\n; comment\nak=%s\nsk=%s",
        "[basic]\nak = %s\nsk = %s\nsecurity_token =\nproject_id =\nmore = of it\n",
    };
    char *text, *path, *name = masked_key(fact("access_key"));
    dbss_context *ctx;
    size_t i;
    for (i = 0; i < sizeof forms / sizeof *forms; i++) {
        begin();
        text = format(forms[i], fact("access_key"), fact("secret_key"));
        path = write_profile(text, 0600);
        ctx = to_context(finding_config("profile"));
        FOUND(ctx, "profile", name, "");
        DOWNLOAD(DBSS_OK, ctx);
        CHECK(signed_with(fact("pdf"), fact("access_key")));
        CHECK(!logged("readable by other users"));
        blame("the profile, form %d", (int)i);
        dbss_context_free(ctx);
        remove_profile(path);
        remove_profile_directory();
        free(text);
        end();
    }
    free(name);
}

static void profile_with_everything(void)
{
    char *text, *path, *header, *elsewhere;
    dbss_config *config;
    dbss_context *ctx;
    int named;
    for (named = 0; named < 2; named++) {
        begin();
        watch_secret("a-security-token");
        text = format("[basic]\nak = %s\nsk = %s\nsecurity_token = a-security-token\nproject_id = %s\n",
                      fact("access_key"), fact("secret_key"), fact("project"));
        if (named) {
            path = format("%s/elsewhere", home());
            write_file(path, text);
            setenv("HUAWEICLOUD_SDK_CREDENTIALS_FILE", path, 1);
        } else {
            path = write_profile(text, 0644);
        }
        chmod(path, 0644);
        ctx = to_context(finding_config("profile"));
        /* It is used, and whoever listens hears of it. */
        CHECK(logged(path) && logged("readable by other users"));
        FOUND(ctx, "profile", NULL, fact("project"));
        DOWNLOAD_NOWHERE(DBSS_OK, ctx);
        header = last_header(fact("pdf"), "X-Security-Token");
        expect_text(__LINE__, "a-security-token", header);
        free(header);
        dbss_context_free(ctx);
        remove_profile(path);
        remove_profile_directory();
        free(text);
        end();
    }

    /* Where IAM is the profile may say, unless the configuration does. */
    begin();
    text = format("[basic]\nak = %s\nsk = %s\niam_endpoint = %s\n", fact("access_key"), fact("secret_key"), fact("iam"));
    path = write_profile(text, 0600);
    config = finding_config("profile");
    set(config, "region", fact("region"));
    ctx = to_context(config);
    DOWNLOAD_NOWHERE(DBSS_OK, ctx);
    CHECK(count_requests(LOOKUPS) == 1);
    dbss_context_free(ctx);
    elsewhere = format("http://127.0.0.1:1");
    config = finding_config("profile");
    set(config, "region", fact("region"));
    set(config, "iam_endpoint", elsewhere);
    ctx = to_context(config);
    DOWNLOAD_NOWHERE(DBSS_ERR_CONNECT, ctx);
    dbss_context_free(ctx);
    free(elsewhere);
    remove_profile(path);
    remove_profile_directory();
    free(text);
    end();
}

static void profile_with_mistakes(void)
{
    static const char *const wrong[] = {
        "",
        "ak = " OF_PROFILE "\nsk = " SECRET_KEY "\n",
        "[other]\nak = " OF_PROFILE "\nsk = " SECRET_KEY "\n",
        "[basic]\nak = " OF_PROFILE "\n",
        "[basic]\nsk = " SECRET_KEY "\n",
        "[basic]\nak =\nsk = " SECRET_KEY "\n",
        "[basic]\nak = " OF_PROFILE "\nsk = with space " SECRET_KEY "\n",
        "[basic]\nak = " OF_PROFILE "\nsk = " SECRET_KEY "\nno-key-value-" SECRET_KEY "\n",
        "[basic\nak = " OF_PROFILE "\nsk = " SECRET_KEY "\n",
        "[basic]\nak = " OF_PROFILE "\nsk = " SECRET_KEY "\xff\n",
        "[basic]\nak = " OF_PROFILE "\nsk = " SECRET_KEY "\nsecurity_token = \xc3\xa9\n",
    };
    static const char *const places[] = {"profile", "default"};
    size_t i, j;
    char *path;
    begin();
    watch_secret(SECRET_KEY);
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        for (j = 0; j < 2; j++) {
            path = write_profile(wrong[i], 0600);
            NO_CONTEXT(DBSS_ERR_INVALID_CREDENTIALS, NULL, finding_config(places[j]));
            SAYS(path);
            blame("the profile was: %s", wrong[i]);
            remove_profile(path);
        }
    }
    remove_profile_directory();
    end();
}

static void profile_that_cannot_be_read(void)
{
    char *directory, *path;
    begin();
    NO_CONTEXT(DBSS_ERR_NOT_CONFIGURED, "credentials", finding_config("profile"));
    SAYS(home());

    /* A pipe would make it wait, and a directory is no file. */
    directory = format("%s/.huaweicloud", home());
    path = format("%s/credentials", directory);
    mkdir(directory, 0700);
    mkdir(path, 0700);
    NO_CONTEXT(DBSS_ERR_FILE, NULL, finding_config("profile"));
    SAYS(path);
    rmdir(path);
    if (mkfifo(path, 0600) != 0)
        fatal("no pipe");
    NO_CONTEXT(DBSS_ERR_FILE, NULL, finding_config("default"));
    unlink(path);
    free(path);
    free(directory);
    remove_profile_directory();

    /* Whoever names a file means it. */
    setenv("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "/no/such/file", 1);
    NO_CONTEXT(DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_CREDENTIALS_FILE", finding_config("profile"));
    SAYS("/no/such/file");
    NO_CONTEXT(DBSS_ERR_INVALID_CREDENTIALS, "HUAWEICLOUD_SDK_CREDENTIALS_FILE", finding_config("default"));
    unsetenv("HUAWEICLOUD_SDK_CREDENTIALS_FILE");

    unsetenv("HOME");
    NO_CONTEXT(DBSS_ERR_NOT_CONFIGURED, "credentials", finding_config("profile"));
    end();
}

/* ---------------------------------------------------------------------------
 * The instance's metadata service
 * ------------------------------------------------------------------------ */

static void metadata(void)
{
    dbss_context *ctx;
    int64_t expires_ms;
    char *header;
    int i;
    begin();
    ctx = to_context(finding_config("metadata"));
    CHECK(count_requests(SESSIONS) == 0);
    for (i = 0; i < 3; i++)
        DOWNLOAD(DBSS_OK, ctx);
    expires_ms = FOUND(ctx, "metadata", NULL, "");
    CHECK(expires_ms > 0);
    CHECK(count_requests(SESSIONS) == 1 && count_requests(KEYS) == 1);
    header = last_header(SESSIONS, "X-Metadata-Token-Ttl-Seconds");
    CHECK(header != NULL && atoi(header) > 0 && atoi(header) <= 21600);
    free(header);
    header = last_header(KEYS, "X-Metadata-Token");
    CHECK(header != NULL);
    free(header);
    header = last_header(fact("pdf"), "X-Security-Token");
    CHECK(header != NULL);
    free(header);
    crowd(ctx, fact("project"), 16, 2, NULL);
    CHECK(count_requests(KEYS) == 1);
    dbss_context_free(ctx);

    /* Many at once ask once. */
    ctx = to_context(finding_config("metadata"));
    crowd(ctx, fact("project"), 32, 1, NULL);
    CHECK(count_requests(SESSIONS) == 2 && count_requests(KEYS) == 2);
    dbss_context_free(ctx);
    end();
}

static void metadata_key_revoked(void)
{
    dbss_context *ctx;
    begin();
    ctx = to_context(finding_config("metadata"));
    DOWNLOAD(DBSS_OK, ctx);
    free(control("DELETE", "/metadata/keys", ""));
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(count_requests(KEYS) == 2 && count_answers(fact("pdf"), 401) == 1);
    dbss_context_free(ctx);

    /* A key that was never any good is not replaced again and again. */
    ctx = to_context(finding_config("metadata"));
    post_fault(fact("pdf"), "\"status\": 401, \"body\": \"\", \"times\": 10");
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    CHECK(count_requests(KEYS) == 3 && count_answers(fact("pdf"), 401) == 2);
    dbss_context_free(ctx);
    end();
}

static void metadata_before_expiry(void)
{
    long long begun;
    dbss_context *ctx;
    begin();
    post("/metadata", "{\"key_lifetime_ms\": 4500, \"announced_key_lifetime_ms\": 3000}");
    ctx = to_context(finding_config("metadata"));
    begun = now_ms();
    while (count_requests(KEYS) < 3 && !has_failed() && now_ms() - begun < PATIENCE_MS)
        DOWNLOAD(DBSS_OK, ctx);
    CHECK(count_requests(KEYS) == 3 && now_ms() - begun >= 3000);
    CHECK(count_answers(fact("pdf"), 401) == 0);
    dbss_context_free(ctx);
    end();
}

/* Older ones know no tokens. */
static void metadata_without_tokens(void)
{
    static const int statuses[] = {404, 405, 503};
    size_t i;
    for (i = 0; i < 3; i++) {
        dbss_context *ctx;
        char *header;
        begin();
        post("/metadata", "{\"require_token\": false}");
        post_fault(SESSIONS, "\"status\": %d, \"body\": \"\"", statuses[i]);
        ctx = to_context(finding_config("metadata"));
        DOWNLOAD(DBSS_OK, ctx);
        header = last_header(KEYS, "X-Metadata-Token");
        CHECK(header == NULL);
        dbss_context_free(ctx);
        end();
    }
}

static void metadata_without_an_agency(void)
{
    dbss_context *ctx;
    begin();
    post("/metadata", "{\"agency\": false}");
    ctx = to_context(finding_config("metadata"));
    DOWNLOAD(DBSS_ERR_NOT_CONFIGURED, ctx);
    SAYS("agency");
    expect_text(__LINE__, "credentials", dbss_error_parameter(dbss_last_error()));
    /* It may get one later. */
    post("/metadata", "{}");
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);

    /* Some refuse the key, with a text about it. */
    ctx = to_context(finding_config("metadata"));
    post_fault(KEYS, "\"status\": 401, \"body\": \"Please configure Cloud Service Agency first\"");
    DOWNLOAD(DBSS_ERR_NOT_CONFIGURED, ctx);
    SAYS("agency");
    dbss_context_free(ctx);

    /* After everything else was looked at, all of it is told. */
    post("/metadata", "{\"agency\": false}");
    ctx = to_context(finding_config("default"));
    DOWNLOAD(DBSS_ERR_NOT_CONFIGURED, ctx);
    SAYS("HUAWEICLOUD_SDK_AK");
    SAYS("credentials");
    SAYS("agency");
    dbss_context_free(ctx);
    end();
}

static void metadata_fails(void)
{
    static const struct {
        const char *call, *fault;
        dbss_status status;
    } ways[] = {
        {SESSIONS, "\"status\": 500, \"body\": \"\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {SESSIONS, "\"body\": \"\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {SESSIONS, "\"body\": \"secret\\r\\nX-Header: x\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {SESSIONS, "\"status\": 302, \"headers\": [[\"Location\", \"/\"]], \"body\": \"\"", DBSS_ERR_UNEXPECTED_RESPONSE},
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
    for (i = 0; i < sizeof ways / sizeof *ways; i++) {
        dbss_context *ctx;
        long long since;
        begin();
        watch_secret(SECRET_KEY);
        ctx = to_context(finding_config("metadata"));
        post_fault(ways[i].call, "%s, \"times\": 1", ways[i].fault);
        since = now_ms();
        DOWNLOAD(ways[i].status, ctx);
        SAYS("metadata");
        CHECK(now_ms() - since < 3000);
        CHECK(count_requests(fact("pdf")) == 0);
        DOWNLOAD(DBSS_OK, ctx);
        blame("%s did: %s", ways[i].call, ways[i].fault);
        dbss_context_free(ctx);
        end();
    }
}

/* On a machine that is no instance nobody answers, and nobody waits long. */
static void metadata_out_of_reach(void)
{
    static const char *const places[] = {"metadata", "default"};
    dbss_config *config;
    dbss_context *ctx;
    long long since;
    size_t i;
    begin();
    for (i = 0; i < 2; i++) {
        config = finding_config(places[i]);
        set(config, "metadata_endpoint", fact("never_accepts"));
        ctx = to_context(config);
        since = now_ms();
        if (i == 0) {
            dbss_buffer report;
            CHECK(dbss_status_group(dbss_report_download(ctx, fact("project"), fact("instance"), fact("pdf"), NULL, &report))
                  == DBSS_ERR_NETWORK);
        } else {
            DOWNLOAD(DBSS_ERR_NOT_CONFIGURED, ctx);
            SAYS("HUAWEICLOUD_SDK_AK");
        }
        SAYS(fact("never_accepts"));
        if (now_ms() - since > 3000)
            failed("it gave up after %lld ms", now_ms() - since);
        dbss_context_free(ctx);

        config = finding_config(places[i]);
        set(config, "metadata_endpoint", "http://127.0.0.1:1");
        ctx = to_context(config);
        DOWNLOAD(i == 0 ? DBSS_ERR_CONNECT : DBSS_ERR_NOT_CONFIGURED, ctx);
        SAYS("127.0.0.1:1");
        dbss_context_free(ctx);
    }
    end();
}

/* No proxy stands between an instance and its metadata service. */
static void metadata_past_the_proxy(void)
{
    dbss_config *config;
    dbss_context *ctx;
    char *all, *at;
    int tunnels = 0;
    begin();
    config = finding_config("metadata");
    set(config, "proxy", fact("proxy"));
    /* Else what is plain and on this machine does not go through it either. */
    set(config, "allow_plaintext", "true");
    ctx = to_context(config);
    DOWNLOAD(DBSS_OK, ctx);
    all = control("GET", "/requests", "");
    for (at = all; (at = strstr(at, "\"method\":\"CONNECT\"")) != NULL; at++)
        tunnels++;
    free(all);
    /* That to the service. */
    CHECK(tunnels == 1 && count_requests(KEYS) == 1);
    dbss_context_free(ctx);
    end();
}

/* ---------------------------------------------------------------------------
 * The order
 * ------------------------------------------------------------------------ */

static void order(void)
{
    int i;
    for (i = 0; i < 8; i++) {
        int in_environment = i & 1, in_profile = i & 2, in_metadata = i & 4;
        char *path = NULL;
        dbss_context *ctx;
        begin();
        if (in_environment) {
            setenv("HUAWEICLOUD_SDK_AK", OF_ENVIRONMENT, 1);
            setenv("HUAWEICLOUD_SDK_SK", SECRET_KEY, 1);
        }
        if (in_profile)
            path = write_profile("[basic]\nak = " OF_PROFILE "\nsk = " SECRET_KEY "\n", 0600);
        if (!in_metadata)
            post("/metadata", "{\"agency\": false}");
        ctx = to_context(finding_config("default"));
        DOWNLOAD(in_environment || in_profile ? DBSS_ERR_UNAUTHENTICATED
                 : in_metadata                ? DBSS_OK
                                              : DBSS_ERR_NOT_CONFIGURED,
                 ctx);
        if (in_environment) {
            FOUND(ctx, "environment", NULL, NULL);
            CHECK(signed_with(fact("pdf"), OF_ENVIRONMENT));
        } else if (in_profile) {
            FOUND(ctx, "profile", NULL, NULL);
            CHECK(signed_with(fact("pdf"), OF_PROFILE));
        } else if (in_metadata) {
            FOUND(ctx, "metadata", NULL, NULL);
        } else {
            SAYS("HUAWEICLOUD_SDK_AK");
            SAYS(".huaweicloud/credentials");
            SAYS("agency");
        }
        /* Nobody is asked in vain. */
        if (in_environment || in_profile)
            CHECK(count_requests(SESSIONS) == 0);
        blame("in the environment: %d, in a profile: %d, an agency: %d", !!in_environment, !!in_profile, !!in_metadata);
        dbss_context_free(ctx);
        if (path != NULL)
            remove_profile(path);
        remove_profile_directory();
        end();
    }
}

/* ---------------------------------------------------------------------------
 * Several endpoints
 * ------------------------------------------------------------------------ */

static dbss_context *endpoints_context(const char *first, const char *second)
{
    dbss_config *config = new_config(fact("http"), fact("token"));
    char *both = format("%s,%s", first, second);
    set(config, "endpoint", both);
    set(config, "connect_timeout_ms", "300");
    set(config, "allow_plaintext", "true");
    free(both);
    return to_context(config);
}

static void endpoints(void)
{
    const char *unreachable[] = {"http://127.0.0.1:1", "http://nowhere.test:1", fact("never_accepts")};
    size_t i;
    for (i = 0; i < 3; i++) {
        dbss_context *ctx;
        int lookups;
        long connections;
        begin();
        answer_lookups_with("");
        ctx = endpoints_context(unreachable[i], fact("http"));
        DOWNLOAD(DBSS_OK, ctx);
        /* From now on directly. */
        lookups = lookups_begun();
        connections = count_connections();
        crowd(ctx, fact("project"), 4, 3, NULL);
        DOWNLOAD(DBSS_OK, ctx);
        CHECK(lookups_begun() == lookups && count_connections() - connections <= 4);
        CHECK(count_answers(fact("pdf"), 200) == 14);
        dbss_context_free(ctx);

        /* All of them: the last one's error. */
        ctx = endpoints_context(unreachable[i], "http://127.0.0.1:2");
        DOWNLOAD(DBSS_ERR_CONNECT, ctx);
        SAYS("127.0.0.1:2");
        dbss_context_free(ctx);
        blame("the first was %s", unreachable[i]);
        answer_lookups_with("127.0.0.1");
        end();
    }
}

/* An answer is an answer, whatever it says. */
static void endpoints_that_answer(void)
{
    static const int answers[] = {500, 401, 404};
    size_t i;
    for (i = 0; i < 3; i++) {
        dbss_context *ctx;
        dbss_buffer report;
        begin();
        ctx = endpoints_context(fact("http"), fact("http_other"));
        post_fault(fact("pdf"), "\"status\": %d, \"body\": \"\", \"times\": 1", answers[i]);
        CHECK(dbss_report_download(ctx, fact("project"), fact("instance"), fact("pdf"), NULL, &report) != DBSS_OK);
        CHECK(dbss_error_http_status(dbss_last_error()) == answers[i]);
        CHECK(count_requests(fact("pdf")) == 1);
        dbss_context_free(ctx);
        end();
    }
}

static void endpoints_with_mistakes(void)
{
    dbss_config *config;
    char *many = malloc(17 * 20 + 1);
    int i;
    begin();
    if (many == NULL)
        fatal("no memory");
    config = plain_config();
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
    /* Each of them is looked at. */
    EXPECT(DBSS_OK, dbss_config_set_endpoint(config, "http://127.0.0.1,http://192.0.2.1"));
    NO_CONTEXT(DBSS_ERR_PLAINTEXT_REFUSED, "endpoint", config);
    end();
}

/* ---------------------------------------------------------------------------
 * Regions
 * ------------------------------------------------------------------------ */

/* A region and a token, and no endpoint. */
static dbss_config *region_config(void)
{
    dbss_config *config;
    EXPECT(DBSS_OK, dbss_config_new(&config));
    set(config, "region", fact("region"));
    set(config, "max_attempts", "1");
    set(config, "ca_file", fact("ca_file"));
    EXPECT(DBSS_OK, dbss_config_set_token(config, fact("token")));
    return config;
}

static void region_variable(void)
{
    static const char *const name = "HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4";
    static const char *const wrong[] = {"ftp://dbss.example.com", "ftp://127.0.0.1", "http://127.0.0.1/?x", ",", "http://a b"};
    dbss_config *config;
    dbss_context *ctx;
    char *both;
    size_t i;
    begin();
    setenv(name, fact("http"), 1);
    ctx = to_context(region_config());
    unsetenv(name);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);

    both = format("http://127.0.0.1:1, %s", fact("http"));
    setenv(name, both, 1);
    ctx = to_context(region_config());
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    free(both);

    /* What is configured outranks it. */
    setenv(name, "http://127.0.0.1:1", 1);
    config = region_config();
    set(config, "endpoint", fact("http"));
    ctx = to_context(config);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);

    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv(name, wrong[i], 1);
        NO_CONTEXT(DBSS_ERR_INVALID_ENDPOINT, "region", region_config());
        SAYS(name);
        blame("the variable was %s", wrong[i]);
    }
    setenv(name, "http://192.0.2.1", 1);
    NO_CONTEXT(DBSS_ERR_PLAINTEXT_REFUSED, NULL, region_config());
    end();
}

static void regions_file(void)
{
    static const char *const wrong[] = {"DBSS: [", "- DBSS\n", "DBSS:\n  - id: cn-north-4\n    endpoint: [x]\n",
                                        "DBSS:\n  - id: cn-north-4\n    endpoint: ftp://dbss.example.com\n", "DBSS: \xff\n"};
    char *directory, *path, *text;
    dbss_context *ctx;
    size_t i;
    int named;
    begin();
    directory = format("%s/.huaweicloud", home());
    mkdir(directory, 0700);
    for (named = 0; named < 2; named++) {
        path = named ? format("%s/elsewhere.yaml", home()) : format("%s/regions.yaml", directory);
        if (named)
            setenv("HUAWEICLOUD_SDK_REGIONS_FILE", path, 1);
        text = format("# regions of ours\nECS:\n  - id: cn-north-4\n    endpoint: http://127.0.0.1:1\n"
                      "DBSS:\n  - id: elsewhere-1\n    endpoint: http://127.0.0.1:1\n"
                      "  - id: cn-north-4\n    endpoint: %s\n",
                      fact("http"));
        write_file(path, text);
        ctx = to_context(region_config());
        DOWNLOAD(DBSS_OK, ctx);
        dbss_context_free(ctx);
        free(text);
        text = format("DBSS:\n  - id: cn-north-4\n    endpoints:\n      - http://127.0.0.1:1\n      - %s\n", fact("http"));
        write_file(path, text);
        ctx = to_context(region_config());
        DOWNLOAD(DBSS_OK, ctx);
        dbss_context_free(ctx);
        free(text);
        /* The variable outranks it. */
        write_file(path, "DBSS:\n  - id: cn-north-4\n    endpoint: http://127.0.0.1:1\n");
        setenv("HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4", fact("http"), 1);
        ctx = to_context(region_config());
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
            SAYS(path);
            blame("the regions file was: %s", wrong[i]);
            dbss_config_free(config);
        }
        unlink(path);
        free(path);
    }
    /* Whoever names a file means it. */
    NO_CONTEXT(DBSS_ERR_FILE, NULL, region_config());
    rmdir(directory);
    free(directory);
    end();
}

/* ---------------------------------------------------------------------------
 * Signatures
 * ------------------------------------------------------------------------ */

static void signatures(void)
{
    dbss_config *config;
    dbss_context *ctx;
    int i;
    begin();
    watch_secret(SECRET_KEY);
    for (i = 0; i < 2; i++) {
        config = plain_config();
        set(config, "max_attempts", "10");
        EXPECT(DBSS_OK, dbss_config_set_access_key(config, i == 0 ? fact("access_key") : OF_ENVIRONMENT,
                                                   i == 0 ? SECRET_KEY : fact("secret_key"), NULL));
        ctx = to_context(config);
        DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
        /* Five wrong ones lock a key. */
        CHECK(count_requests(fact("pdf")) == i + 1);
        CHECK(dbss_error_attempts(dbss_last_error()) == 1);
        dbss_context_free(ctx);
    }
    end();
}

static void check_asks_for_an_instance(void)
{
    dbss_config *config;
    dbss_context *ctx;
    char *all;
    begin();
    config = regional_config();
    EXPECT(DBSS_OK, dbss_config_set_token(config, fact("token")));
    ctx = to_context(config);
    EXPECT(DBSS_OK, dbss_context_check(ctx, NULL, NULL));
    EXPECT(DBSS_OK, dbss_context_check(ctx, fact("project"), NULL));
    all = control("GET", "/requests", "");
    CHECK(strstr(all, "/audit/instances?offset=0&limit=1\"") != NULL);
    free(all);
    EXPECT(DBSS_ERR_FORBIDDEN, dbss_context_check(ctx, "no-project-0123456789-0123456789-x", NULL));
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, "a-token-of-nobody"));
    EXPECT(DBSS_ERR_UNAUTHENTICATED, dbss_context_check(ctx, fact("project"), NULL));
    dbss_context_free(ctx);
    end();
}

/* ---------------------------------------------------------------------------
 * Secrets are wiped
 * ------------------------------------------------------------------------ */

static void few_left(const struct hidden *hidden, const char *what, int few)
{
    char where[256] = "";
    int count = find_hidden(hidden, where, sizeof where);
    if (count > few)
        failed("the %s still stands in memory, in %d places, first %s", what, count, where);
}

static void none_left(const struct hidden *hidden, const char *what)
{
    few_left(hidden, what, 0);
}

/* A fault that gives a secret; nothing of it stays here. */
static void post_secret_fault(const char *before, const char *secret, const char *after)
{
    char *body = format("%s%s%s", before, secret, after);
    free(control("POST", "/faults", body));
    wipe(body, strlen(body));
    free(body);
}

static const char *wiped_over;

static void wipe_password(void)
{
    static char secret[SECRET + 1];
    struct hidden hidden;
    dbss_config *config = regional_config();
    dbss_context *ctx;
    set(config, "iam_endpoint", fact(strcmp(wiped_over, "https") == 0 ? "iam_https" : "iam"));
    make_secret(secret, &hidden);
    EXPECT(DBSS_OK, dbss_config_set_iam_user(config, fact("user"), secret, fact("domain")));
    EXPECT(DBSS_OK, dbss_config_set(config, "iam_password", secret));
    wipe(secret, sizeof secret);
    ctx = to_context(config);
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    dbss_context_free(ctx);
    none_left(&hidden, "password");
}

static void wipe_issued_token(void)
{
    static char secret[SECRET + 1];
    struct hidden hidden;
    dbss_config *config = login_config();
    dbss_context *ctx;
    set(config, "iam_endpoint", fact(strcmp(wiped_over, "https") == 0 ? "iam_https" : "iam"));
    make_secret(secret, &hidden);
    add_token(secret);
    post_secret_fault("{\"report\": \"" LOGINS "\", \"status\": 201, \"body\": \"{}\", \"headers\": [[\"X-Subject-Token\", \"",
                      secret, "\"]]}");
    wipe(secret, sizeof secret);
    ctx = to_context(config);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    /* TLS has buffers of its own for what it decrypts, out of reach. */
    few_left(&hidden, "token of IAM", strcmp(wiped_over, "https") == 0 ? 2 : 0);
}

static void wipe_keys(void)
{
    static char secret[SECRET + 1], security_token[SECRET + 1];
    struct hidden hidden[2];
    dbss_config *config = plain_config();
    dbss_context *ctx;
    set(config, "endpoint", fact(wiped_over));
    make_secret(secret, &hidden[0]);
    make_secret(security_token, &hidden[1]);
    EXPECT(DBSS_OK, dbss_config_set_access_key(config, OF_ENVIRONMENT, secret, security_token));
    EXPECT(DBSS_OK, dbss_config_set(config, "secret_key", secret));
    wipe(secret, sizeof secret);
    wipe(security_token, sizeof security_token);
    ctx = to_context(config);
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    dbss_context_free(ctx);
    none_left(&hidden[0], "secret key");
    none_left(&hidden[1], "security token");
}

static void wipe_profile(void)
{
    static char secret[SECRET + 1];
    struct hidden hidden;
    char *path = write_profile("[basic]\nak = " OF_PROFILE "\nsk = ", 0600);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    dbss_context *ctx;
    make_secret(secret, &hidden);
    if (fd < 0 || write(fd, secret, SECRET) != SECRET)
        fatal("cannot write %s", path);
    close(fd);
    wipe(secret, sizeof secret);
    ctx = to_context(finding_config("profile"));
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    dbss_context_free(ctx);
    none_left(&hidden, "profile's secret key");
    remove_profile(path);
    remove_profile_directory();
}

static void wipe_metadata(void)
{
    static char secret[SECRET + 1];
    struct hidden hidden;
    dbss_context *ctx;
    make_secret(secret, &hidden);
    post_secret_fault("{\"report\": \"" KEYS "\", \"json\": {\"credential\": {\"access\": \"" OF_PROFILE "\", \"secret\": \"",
                      secret, "\", \"securitytoken\": \"t\"}}}");
    wipe(secret, sizeof secret);
    ctx = to_context(finding_config("metadata"));
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    dbss_context_free(ctx);
    none_left(&hidden, "secret key of the metadata service");
}

static void give_secret(void *user_data, dbss_token_request *request)
{
    CHECK(dbss_token_request_set(request, user_data, -1) == DBSS_OK);
    dbss_token_request_free(request);
}

static void wipe_provided_token(void)
{
    static char secret[SECRET + 1];
    struct hidden hidden;
    dbss_config *config = plain_config();
    dbss_context *ctx;
    set(config, "endpoint", fact(wiped_over));
    make_secret(secret, &hidden);
    add_token(secret);
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, give_secret, secret, NULL));
    ctx = to_context(config);
    DOWNLOAD(DBSS_OK, ctx);
    wipe(secret, sizeof secret);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    none_left(&hidden, "token of the provider");
}

/* Each in a child, whose memory holds nothing of the others. */
static void wiped(void (*body)(void))
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    for (i = 0; i < 2; i++) {
        begin();
        wiped_over = schemes[i];
        in_child(body);
        blame("over %s", wiped_over);
        end();
    }
}

static void password_wiped(void)
{
    wiped(wipe_password);
}

static void issued_token_wiped(void)
{
    wiped(wipe_issued_token);
}

static void keys_wiped(void)
{
    wiped(wipe_keys);
}

static void profile_wiped(void)
{
    wiped(wipe_profile);
}

static void metadata_wiped(void)
{
    wiped(wipe_metadata);
}

static void provided_token_wiped(void)
{
    wiped(wipe_provided_token);
}

/* ---------------------------------------------------------------------------
 * Children
 * ------------------------------------------------------------------------ */

static dbss_context *shared_ctx;
static dbss_operation *shared_operation;

static void *hang(void *unused)
{
    (void)unused;
    download_for(__LINE__, DBSS_ERR_CANCELLED, shared_ctx, fact("project"), shared_operation);
    return NULL;
}

static void use_in_child(void)
{
    DOWNLOAD_NOWHERE(DBSS_OK, shared_ctx);
    DOWNLOAD_NOWHERE(DBSS_OK, shared_ctx);
}

/* A parent's thread hangs in a login when the process forks. */
static void fork_during_a_login(void)
{
    pthread_t thread;
    begin();
    shared_ctx = to_context(login_config());
    shared_operation = new_operation();
    post_fault(LOGINS, "\"no_answer\": true, \"times\": 1");
    thread = start_thread(hang, NULL);
    WAIT_FOR(count_requests(LOGINS) == 1);
    in_child(use_in_child);
    CHECK(count_requests(LOGINS) == 2);
    dbss_operation_cancel(shared_operation);
    pthread_join(thread, NULL);
    /* And the parent's next call logs in as ever. */
    DOWNLOAD_NOWHERE(DBSS_OK, shared_ctx);
    CHECK(count_requests(LOGINS) == 3);
    dbss_operation_free(shared_operation);
    dbss_context_free(shared_ctx);
    end();
}

/* What the parent knows the child need not ask for. */
static void fork_after_a_login(void)
{
    begin();
    shared_ctx = to_context(login_config());
    DOWNLOAD_NOWHERE(DBSS_OK, shared_ctx);
    in_child(use_in_child);
    CHECK(count_requests(LOGINS) == 1);
    dbss_context_free(shared_ctx);
    end();
}

static int times_asked, holds;
static dbss_token_request *held_request;

static void give_or_hold(void *user_data, dbss_token_request *request)
{
    (void)user_data;
    if (__atomic_load_n(&holds, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&held_request, request, __ATOMIC_SEQ_CST);
    } else {
        CHECK(dbss_token_request_set(request, fact("token"), -1) == DBSS_OK);
        dbss_token_request_free(request);
    }
    __atomic_add_fetch(&times_asked, 1, __ATOMIC_SEQ_CST);
}

static void use_provider_in_child(void)
{
    holds = 0;
    times_asked = 0;
    DOWNLOAD(DBSS_OK, shared_ctx);
    DOWNLOAD(DBSS_OK, shared_ctx);
    CHECK(times_asked == 1);
    /* The parent's request is nobody's here. */
    EXPECT(DBSS_OK, dbss_token_request_set(held_request, "a-token-of-nobody", -1));
    dbss_token_request_free(held_request);
    DOWNLOAD(DBSS_OK, shared_ctx);
    CHECK(times_asked == 1);
}

static void *wait_for_a_token(void *unused)
{
    (void)unused;
    DOWNLOAD(DBSS_OK, shared_ctx);
    return NULL;
}

static void fork_with_a_provider(void)
{
    dbss_config *config;
    pthread_t thread;
    begin();
    config = plain_config();
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, give_or_hold, NULL, NULL));
    shared_ctx = to_context(config);
    __atomic_store_n(&holds, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&times_asked, 0, __ATOMIC_SEQ_CST);
    thread = start_thread(wait_for_a_token, NULL);
    WAIT_FOR(__atomic_load_n(&times_asked, __ATOMIC_SEQ_CST) == 1);
    in_child(use_provider_in_child);
    EXPECT(DBSS_OK, dbss_token_request_set(held_request, fact("token"), -1));
    dbss_token_request_free(held_request);
    pthread_join(thread, NULL);
    dbss_context_free(shared_ctx);
    end();
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"environment", environment, PLAIN},
    {"environment_with_mistakes", environment_with_mistakes, PLAIN},
    {"profile", profile, PLAIN},
    {"profile_with_everything", profile_with_everything, PLAIN},
    {"profile_with_mistakes", profile_with_mistakes, PLAIN},
    {"profile_that_cannot_be_read", profile_that_cannot_be_read, PLAIN},
    {"metadata", metadata, LOAD},
    {"metadata_key_revoked", metadata_key_revoked, PLAIN},
    {"metadata_before_expiry", metadata_before_expiry, LOAD},
    {"metadata_without_tokens", metadata_without_tokens, PLAIN},
    {"metadata_without_an_agency", metadata_without_an_agency, PLAIN},
    {"metadata_fails", metadata_fails, LOAD},
    {"metadata_out_of_reach", metadata_out_of_reach, LOAD},
    {"metadata_past_the_proxy", metadata_past_the_proxy, PLAIN},
    {"order", order, PLAIN},
    {"endpoints", endpoints, LOAD},
    {"endpoints_that_answer", endpoints_that_answer, PLAIN},
    {"endpoints_with_mistakes", endpoints_with_mistakes, PLAIN},
    {"region_variable", region_variable, PLAIN},
    {"regions_file", regions_file, PLAIN},
    {"signatures", signatures, PLAIN},
    {"check_asks_for_an_instance", check_asks_for_an_instance, PLAIN},
    {"password_wiped", password_wiped, LOAD},
    {"issued_token_wiped", issued_token_wiped, LOAD},
    {"keys_wiped", keys_wiped, LOAD},
    {"profile_wiped", profile_wiped, LOAD},
    {"metadata_wiped", metadata_wiped, LOAD},
    {"provided_token_wiped", provided_token_wiped, LOAD},
    {"fork_during_a_login", fork_during_a_login, LOAD},
    {"fork_after_a_login", fork_after_a_login, LOAD},
    {"fork_with_a_provider", fork_with_a_provider, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
