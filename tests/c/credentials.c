/*
 * What credentials need in C: the rules of token requests and of destroy functions, calls
 * from callbacks, wiped secrets and forks. The rest is in the conformance suite. See
 * checks.h for how to run the checks.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOGINS "@iam.tokens"
#define KEYS "@metadata.key"
/* An access key that the service does not know. */
#define UNKNOWN_KEY "UNKNOWN01234567890123"

/* ---------------------------------------------------------------------------
 * Configurations and downloads
 * ------------------------------------------------------------------------ */

static const char *const variables[] = {"HUAWEICLOUD_SDK_AK",
                                        "HUAWEICLOUD_SDK_SK",
                                        "HUAWEICLOUD_SDK_CREDENTIALS_FILE",
                                        "HUAWEICLOUD_SDK_IDP_ID",
                                        "HUAWEICLOUD_SDK_ID_TOKEN_FILE",
                                        "HC_CONTAINER_CREDENTIALS_FULL_URI",
                                        "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"};

/* Every check calls this first and last. */
static void reset(void)
{
    size_t i;
    for (i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    free(control("DELETE", "/faults", ""));
    post_control("/iam", "{}");
    free(control("DELETE", "/requests", ""));
}

static dbss_config *basic_config(void)
{
    dbss_config *config;
    if (dbss_config_new(&config) != DBSS_OK)
        fatal("cannot create a configuration");
    set_option(config, "endpoint", fixture("http"));
    set_option(config, "ca_file", fixture("ca_file"));
    set_option(config, "max_attempts", "1");
    set_option(config, "region", fixture("region"));
    set_option(config, "iam_endpoint", fixture("iam"));
    set_option(config, "metadata_endpoint", fixture("metadata"));
    return config;
}

static dbss_config *login_config(const char *password)
{
    dbss_config *config = basic_config();
    EXPECT(DBSS_OK, dbss_config_set_iam_user(config, fixture("user"), password, fixture("domain")));
    return config;
}

static dbss_config *credentials_config(const char *where)
{
    dbss_config *config = basic_config();
    set_option(config, "credentials", where);
    return config;
}

#define DOWNLOAD(expected, ctx) download(__LINE__, expected, ctx, NULL)

static void download(int line, dbss_status expected, dbss_context *ctx, dbss_operation *operation)
{
    dbss_buffer report;
    expect(line, expected,
           dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), fixture("pdf"), "en-us",
                                          operation, &report));
    if (expected == DBSS_OK)
        expect_text(line, fixture("pdf_en"), sha256(report.data, report.len));
    dbss_buffer_free(&report);
}

/* ---------------------------------------------------------------------------
 * A token provider with configurable behaviour
 * ------------------------------------------------------------------------ */

enum provider_action { GIVE, HOLD, FAIL, DROP };

struct provider {
    enum provider_action action;
    const char *token;
    int64_t expires_ms;
    const char *reason;
    /* Runs before the action. May be NULL. */
    void (*on_request)(struct provider *provider, dbss_token_request *request);

    int request_count, refused_count, destroyed;
    dbss_token_request *held[8];
    int held_count;
};

static void provide(void *user_data, dbss_token_request *request)
{
    struct provider *provider = user_data, current;
    pthread_mutex_lock(&lock);
    provider->request_count++;
    provider->refused_count += dbss_token_request_refused(request);
    current = *provider;
    if (current.action == HOLD) {
        if (provider->held_count == 8)
            fatal("too many requests");
        provider->held[provider->held_count++] = request;
    }
    pthread_mutex_unlock(&lock);
    if (current.on_request != NULL)
        current.on_request(provider, request);
    if (current.action == GIVE)
        CHECK(dbss_token_request_set(request, current.token, current.expires_ms) == DBSS_OK);
    else if (current.action == FAIL)
        CHECK(dbss_token_request_fail(request, current.reason) == DBSS_OK);
    if (current.action != HOLD)
        dbss_token_request_free(request);
}

static void destroy(void *user_data)
{
    struct provider *provider = user_data;
    add_locked(&provider->destroyed, 1);
}

static struct provider new_provider(enum provider_action action, const char *token)
{
    struct provider provider;
    memset(&provider, 0, sizeof provider);
    provider.action = action;
    provider.token = token;
    provider.expires_ms = -1;
    return provider;
}

static dbss_context *provider_context(struct provider *provider)
{
    dbss_config *config = basic_config();
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, provider, destroy));
    return context_from(config);
}

/* Sets the token of a held request and frees it. */
static void answer_held_request(struct provider *provider, int which, const char *token)
{
    EXPECT(DBSS_OK, dbss_token_request_set(provider->held[which], token, -1));
    dbss_token_request_free(provider->held[which]);
}

/* One download on its own thread. */
struct thread_call {
    dbss_context *ctx;
    dbss_operation *operation;
    dbss_status expected;
    pthread_t thread;
};

static void *run_download(void *argument)
{
    struct thread_call *call = argument;
    download(__LINE__, call->expected, call->ctx, call->operation);
    return NULL;
}

static void start_download(struct thread_call *call, dbss_context *ctx, dbss_operation *operation, dbss_status expected)
{
    call->ctx = ctx;
    call->operation = operation;
    call->expected = expected;
    call->thread = start_thread(run_download, call);
}

static void join_download(struct thread_call *call)
{
    pthread_join(call->thread, NULL);
}

/* ---------------------------------------------------------------------------
 * Token requests
 * ------------------------------------------------------------------------ */

static void pass_wrong_arguments(dbss_token_request *request)
{
    EXPECT_NULL("token", dbss_token_request_set(request, NULL, -1));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "expires_ms", dbss_token_request_set(request, "t", -2));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "message", dbss_token_request_fail(request, "\xff"));
}

/* Wrong arguments do not complete a request; a second answer is refused. */
static void pass_arguments(struct provider *provider, dbss_token_request *request)
{
    pass_wrong_arguments(request);
    EXPECT(DBSS_OK, dbss_token_request_set(request, provider->token, INT64_MAX));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "request", dbss_token_request_set(request, "another", -1));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "request", dbss_token_request_fail(request, NULL));
}

static void pass_wrong_token(struct provider *provider, dbss_token_request *request)
{
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, provider->reason,
                     dbss_token_request_set(request, provider->token, provider->expires_ms));
}

/* In the provider, and later on another thread. */
static void provider_mistakes_are_reported(void)
{
    struct provider provider;
    struct thread_call call;
    dbss_context *ctx;
    int i;

    reset();
    provider = new_provider(DROP, fixture("token"));
    provider.on_request = pass_arguments;
    ctx = provider_context(&provider);
    DOWNLOAD(DBSS_OK, ctx);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 1);
    dbss_context_free(ctx);

    provider = new_provider(HOLD, fixture("token"));
    ctx = provider_context(&provider);
    start_download(&call, ctx, NULL, DBSS_OK);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    pass_arguments(&provider, provider.held[0]);
    dbss_token_request_free(provider.held[0]);
    join_download(&call);
    dbss_context_free(ctx);

    /* An invalid token fails there and in the waiting call. */
    for (i = 0; i < 2; i++) {
        provider = new_provider(DROP, i == 0 ? "no token" : "token");
        provider.expires_ms = i == 0 ? -1 : 0;
        provider.reason = i == 0 ? "token" : "expires_ms";
        provider.on_request = pass_wrong_token;
        ctx = provider_context(&provider);
        DOWNLOAD(DBSS_ERR_NO_TOKEN, ctx);
        provider.action = HOLD;
        provider.on_request = NULL;
        start_download(&call, ctx, NULL, DBSS_ERR_NO_TOKEN);
        WAIT_FOR(read_locked(&provider.held_count) == 1);
        pass_wrong_token(&provider, provider.held[0]);
        dbss_token_request_free(provider.held[0]);
        join_download(&call);
        dbss_context_free(ctx);
    }
    reset();
}

/* A request that is freed, or fails without a reason, fails the call. */
static void provider_without_a_result_fails_call(void)
{
    struct provider provider;
    dbss_context *ctx;
    int i;

    reset();
    for (i = 0; i < 2; i++) {
        provider = new_provider(i == 0 ? DROP : FAIL, NULL);
        ctx = provider_context(&provider);
        DOWNLOAD(DBSS_ERR_NO_TOKEN, ctx);
        CHECK(strstr(dbss_error_message(dbss_last_error()), i == 0 ? "without a result" : "token provider") != NULL);
        dbss_context_free(ctx);
    }
    reset();
}

/* After a stall the next call asks again. The late token is accepted and not used. */
static void provider_late_token_is_not_used(void)
{
    struct provider provider;
    dbss_operation *operation;
    dbss_context *ctx;

    reset();
    operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set(operation, "stall_timeout_ms", "200"));
    provider = new_provider(HOLD, fixture("token"));
    ctx = provider_context(&provider);
    download(__LINE__, DBSS_ERR_STALLED, ctx, operation);
    CHECK(provider.request_count == 1);
    provider.action = GIVE;
    DOWNLOAD(DBSS_OK, ctx);
    answer_held_request(&provider, 0, "a-token-that-came-too-late");
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 2 && provider.refused_count == 0);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    reset();
}

static void provider_outlives_context(void)
{
    struct provider provider;
    dbss_operation *operation;
    struct thread_call call;
    dbss_context *ctx;

    reset();
    provider = new_provider(HOLD, NULL);
    ctx = provider_context(&provider);
    start_download(&call, ctx, NULL, DBSS_OK);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    dbss_context_free(ctx);
    CHECK(provider.destroyed == 0);
    answer_held_request(&provider, 0, fixture("token"));
    join_download(&call);
    WAIT_FOR(read_locked(&provider.destroyed) == 1);

    /* The token arrives when no call waits any more. */
    provider = new_provider(HOLD, NULL);
    operation = new_operation();
    ctx = provider_context(&provider);
    start_download(&call, ctx, operation, DBSS_ERR_CANCELLED);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    dbss_operation_cancel(operation);
    join_download(&call);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    EXPECT(DBSS_OK, dbss_token_request_set(provider.held[0], "whatever", -1));
    dbss_token_request_free(provider.held[0]);
    WAIT_FOR(read_locked(&provider.destroyed) == 1);
    reset();
}

static void provider_destroyed_once(void)
{
    struct provider first, second, third;
    dbss_config *config;
    dbss_context *ctx, *other;

    reset();
    first = new_provider(GIVE, fixture("token"));
    second = new_provider(GIVE, fixture("token"));
    third = new_provider(GIVE, fixture("token"));
    config = basic_config();
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, &first, destroy));
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, &second, destroy));
    CHECK(first.destroyed == 1 && second.destroyed == 0);
    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
    EXPECT(DBSS_OK, dbss_context_new(config, &other));
    /* Other credentials replace it in the configuration only. */
    EXPECT(DBSS_OK, dbss_config_set_token(config, "token"));
    CHECK(second.destroyed == 0);
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, &third, destroy));
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, NULL, NULL, NULL));
    CHECK(third.destroyed == 1);
    EXPECT_NULL("config", dbss_config_set_token_provider(NULL, provide, &third, destroy));
    CHECK(third.destroyed == 2);
    /* Without a function the data is still destroyed. */
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, NULL, &third, destroy));
    CHECK(third.destroyed == 3);
    dbss_config_free(config);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(second.destroyed == 0);
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, fixture("token")));
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    /* Another context has it too. */
    CHECK(second.destroyed == 0);
    dbss_context_free(other);
    CHECK(first.destroyed == 1 && second.destroyed == 1 && third.destroyed == 3);
    CHECK(second.request_count == 1);
    reset();
}

static dbss_context *other_context;

/* Uses everything except the context of the provider. */
static void use_library_in_provider(struct provider *provider, dbss_token_request *request)
{
    dbss_config *config;
    dbss_operation *operation = new_operation();
    (void)provider;
    CHECK(dbss_token_request_refused(request) == 0);
    DOWNLOAD(DBSS_OK, other_context);
    EXPECT(DBSS_OK, dbss_context_set_token(other_context, fixture("token")));
    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_config_set(config, "no_such_key", "x"));
    dbss_config_free(config);
    CHECK(dbss_operation_received(operation) == 0);
    dbss_operation_free(operation);
    dbss_context_cancel_all(NULL);
}

static void provider_may_call_library(void)
{
    struct provider provider;
    dbss_context *ctx;

    reset();
    other_context = context_from(new_config(fixture("http"), fixture("token")));
    provider = new_provider(GIVE, fixture("token"));
    provider.on_request = use_library_in_provider;
    ctx = provider_context(&provider);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(dbss_last_error() == NULL);
    dbss_context_free(ctx);

    provider = new_provider(FAIL, NULL);
    provider.reason = "my own reason";
    provider.on_request = use_library_in_provider;
    ctx = provider_context(&provider);
    DOWNLOAD(DBSS_ERR_NO_TOKEN, ctx);
    CHECK(strstr(dbss_error_message(dbss_last_error()), "my own reason") != NULL);
    dbss_context_free(ctx);
    dbss_context_free(other_context);
    reset();
}

static pthread_t calling_thread;

static void check_calling_thread(struct provider *provider, dbss_token_request *request)
{
    (void)provider;
    CHECK(pthread_equal(pthread_self(), calling_thread) && dbss_token_request_refused(request) == 0);
}

/* A passcode is asked for on the thread of the call. */
static void passcode_provider_runs_on_the_calling_thread(void)
{
    struct provider provider = new_provider(GIVE, "123456");
    dbss_config *config;
    dbss_context *ctx;

    reset();
    post_control("/iam", "{\"passcodes\": [\"123456\"]}");
    calling_thread = pthread_self();
    provider.on_request = check_calling_thread;
    config = login_config(fixture("password"));
    set_option(config, "iam_user_id", fixture("user_id"));
    EXPECT(DBSS_OK, dbss_config_set_passcode_provider(config, provide, &provider, destroy));
    ctx = context_from(config);
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    CHECK(provider.request_count == 1 && provider.destroyed == 1);
    reset();
}

/* ---------------------------------------------------------------------------
 * Configurations and threads
 * ------------------------------------------------------------------------ */

static void iam_user_with_mistakes_is_refused(void)
{
    dbss_config *config = basic_config();
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "user", dbss_config_set_iam_user(config, "", "p", "d"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "password", dbss_config_set_iam_user(config, "u", "", "d"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "domain", dbss_config_set_iam_user(config, "u", "p", "\xff"));
    dbss_config_free(config);
}

static void environment_is_read_when_the_context_is_made(void)
{
    dbss_context *ctx;
    reset();
    setenv("HUAWEICLOUD_SDK_AK", fixture("access_key"), 1);
    setenv("HUAWEICLOUD_SDK_SK", fixture("secret_key"), 1);
    ctx = context_from(credentials_config("environment"));
    unsetenv("HUAWEICLOUD_SDK_SK");
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    reset();
}

static dbss_context *loop_context;
static int loops_must_end;

struct download_loop {
    int done;
    pthread_t thread;
};

static void *download_until_end(void *argument)
{
    struct download_loop *download_loop = argument;
    while (!read_locked(&loops_must_end)) {
        DOWNLOAD(DBSS_OK, loop_context);
        add_locked(&download_loop->done, 1);
    }
    return NULL;
}

/* Waits until each thread has made two more downloads. Every call that was in
 * progress has then finished. */
static void wait_for_two_more_downloads(struct download_loop *all, int count)
{
    int i, before[32];
    for (i = 0; i < count; i++)
        before[i] = read_locked(&all[i].done);
    for (i = 0; i < count; i++)
        WAIT_FOR(read_locked(&all[i].done) >= before[i] + 2);
}

/* Tokens are revoked while 32 threads download. */
static void login_repeated_during_downloads(void)
{
    enum { MANY = 32 };
    struct download_loop all[MANY];
    int i;

    reset();
    loop_context = context_from(login_config(fixture("password")));
    loops_must_end = 0;
    memset(all, 0, sizeof all);
    for (i = 0; i < MANY; i++)
        all[i].thread = start_thread(download_until_end, &all[i]);
    wait_for_two_more_downloads(all, MANY);
    for (i = 1; i <= 5 && !has_failed(); i++) {
        free(control("DELETE", "/tokens", "{\"issued\": true}"));
        wait_for_two_more_downloads(all, MANY);
        if (count_requests(LOGINS) != i + 1)
            fail_check("%ld logins after %d revocations", count_requests(LOGINS), i);
    }
    add_locked(&loops_must_end, 1);
    for (i = 0; i < MANY; i++)
        pthread_join(all[i].thread, NULL);
    dbss_context_free(loop_context);
    reset();
}

/* ---------------------------------------------------------------------------
 * Secrets are wiped
 * ------------------------------------------------------------------------ */

static char secret[SECRET_LENGTH + 1], second[SECRET_LENGTH + 1];
static struct secret_sample sample, second_sample;
static char secret_file[] = "/tmp/dbss-secret-XXXXXX";

static void expect_at_most_copies(const struct secret_sample *of, int allowed)
{
    char where[256] = "";
    int count = find_secret(of, where, sizeof where);
    if (count > allowed)
        fail_check("the secret is still in memory, in %d places, first %s", count, where);
}

/* Posts a fault that contains the secret, and wipes the copy. */
static void post_secret_fault(const char *before, const char *after)
{
    char *body = format("%s%s%s", before, secret, after);
    free(control("POST", "/faults", body));
    wipe(body, strlen(body));
    free(body);
}

/* Writes a file with the secret at its end, which end_wipe() removes. */
static void write_secret_file(const char *before, const char *text)
{
    int fd = mkstemp(secret_file);
    if (fd < 0 || write(fd, before, strlen(before)) < 0 || write(fd, text, SECRET_LENGTH) != SECRET_LENGTH
        || close(fd) != 0)
        fatal("cannot write %s", secret_file);
}

static const char *wipe_scheme;

static const char *iam(void)
{
    return fixture(strcmp(wipe_scheme, "https") == 0 ? "iam_https" : "iam");
}

static dbss_config *password_config(void)
{
    dbss_config *config = login_config(secret);
    EXPECT(DBSS_OK, dbss_config_set(config, "iam_password", secret));
    return config;
}

static dbss_config *issued_token_config(void)
{
    add_token(secret);
    post_secret_fault("{\"report\": \"" LOGINS
                      "\", \"status\": 201, \"body\": \"{}\", \"headers\": [[\"X-Subject-Token\", \"",
                      "\"]]}");
    return login_config(fixture("password"));
}

static dbss_config *access_key_config(void)
{
    dbss_config *config = basic_config();
    EXPECT(DBSS_OK, dbss_config_set_access_key(config, UNKNOWN_KEY, secret, second));
    EXPECT(DBSS_OK, dbss_config_set(config, "secret_key", secret));
    return config;
}

static dbss_config *profile_config(void)
{
    write_secret_file("[basic]\nak = " UNKNOWN_KEY "\nsk = ", secret);
    setenv("HUAWEICLOUD_SDK_CREDENTIALS_FILE", secret_file, 1);
    return credentials_config("profile");
}

static dbss_config *metadata_config(void)
{
    post_secret_fault("{\"report\": \"" KEYS "\", \"json\": {\"credential\": {\"access\": \"" UNKNOWN_KEY
                      "\", \"secret\": \"",
                      "\", \"securitytoken\": \"t\"}}}");
    return credentials_config("metadata");
}

/* The pod's token, and the secret of its key. */
static dbss_config *pod_identity_config(void)
{
    char *uri = format("%s/v1/pod/credentials", fixture("metadata"));
    write_secret_file("", second);
    post_secret_fault("{\"report\": \"@pod.key\", \"json\": {\"access_key_id\": \"" UNKNOWN_KEY
                      "\", \"secret_access_key\": \"",
                      "\", \"security_token\": \"t\"}}");
    setenv("HC_CONTAINER_CREDENTIALS_FULL_URI", uri, 1);
    setenv("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", secret_file, 1);
    free(uri);
    return credentials_config("pod_identity");
}

static dbss_config *id_token_config(void)
{
    write_secret_file("", secret);
    setenv("HUAWEICLOUD_SDK_IDP_ID", fixture("idp_id"), 1);
    setenv("HUAWEICLOUD_SDK_ID_TOKEN_FILE", secret_file, 1);
    return credentials_config("federation");
}

static void provide_secret(void *user_data, dbss_token_request *request)
{
    CHECK(dbss_token_request_set(request, user_data, -1) == DBSS_OK);
    dbss_token_request_free(request);
}

static dbss_config *provided_token_config(void)
{
    dbss_config *config = basic_config();
    add_token(secret);
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide_secret, secret, NULL));
    return config;
}

static dbss_config *(*wipe_config)(void);
static dbss_status wipe_status;

/* Uses credentials, after which no copy may be left. */
static void use_and_search(void)
{
    dbss_config *config;
    dbss_context *ctx;
    make_secret(secret, &sample);
    make_secret(second, &second_sample);
    config = wipe_config();
    set_option(config, "iam_endpoint", iam());
    set_option(config, "endpoint", fixture(wipe_scheme));
    ctx = context_from(config);
    if (wipe_config != provided_token_config)
        wipe(secret, sizeof secret);
    wipe(second, sizeof second);
    DOWNLOAD(wipe_status, ctx);
    wipe(secret, sizeof secret);
    DOWNLOAD(wipe_status, ctx);
    dbss_context_free(ctx);
    unlink(secret_file);
    /* TLS keeps decrypted data in its own buffers, which the library cannot wipe. */
    expect_at_most_copies(&sample, wipe_config == issued_token_config && strcmp(wipe_scheme, "https") == 0 ? 2 : 0);
    expect_at_most_copies(&second_sample, 0);
}

/* Runs each check in a child, so that no copies of other checks are in memory. */
static void run_wipe_check(dbss_config *(*make_config)(void), dbss_status expected)
{
    static const char *const schemes[] = {"http", "https"};
    size_t i;
    wipe_config = make_config;
    wipe_status = expected;
    for (i = 0; i < 2; i++) {
        reset();
        wipe_scheme = schemes[i];
        run_in_child(use_and_search);
        add_failure_context("over %s", wipe_scheme);
        reset();
    }
}

#define WIPE_CHECK(name, config, status)                                                                               \
    static void name(void)                                                                                             \
    {                                                                                                                  \
        run_wipe_check(config, status);                                                                                \
    }

WIPE_CHECK(password_is_wiped, password_config, DBSS_ERR_UNAUTHENTICATED)
WIPE_CHECK(issued_token_is_wiped, issued_token_config, DBSS_OK)
WIPE_CHECK(access_key_is_wiped, access_key_config, DBSS_ERR_UNAUTHENTICATED)
WIPE_CHECK(profile_key_is_wiped, profile_config, DBSS_ERR_UNAUTHENTICATED)
WIPE_CHECK(metadata_key_is_wiped, metadata_config, DBSS_ERR_UNAUTHENTICATED)
WIPE_CHECK(pod_identity_is_wiped, pod_identity_config, DBSS_ERR_UNAUTHENTICATED)
WIPE_CHECK(id_token_is_wiped, id_token_config, DBSS_ERR_UNAUTHENTICATED)
WIPE_CHECK(provided_token_is_wiped, provided_token_config, DBSS_OK)

/* ---------------------------------------------------------------------------
 * Children
 * ------------------------------------------------------------------------ */

static dbss_context *shared_ctx;
static dbss_operation *shared_operation;

static void *wait_in_login(void *unused)
{
    (void)unused;
    download(__LINE__, DBSS_ERR_CANCELLED, shared_ctx, shared_operation);
    return NULL;
}

static void use_in_child(void)
{
    DOWNLOAD(DBSS_OK, shared_ctx);
    DOWNLOAD(DBSS_OK, shared_ctx);
}

/* The process forks while one of its threads waits for a login. */
static void fork_during_login(void)
{
    pthread_t thread;
    reset();
    shared_ctx = context_from(login_config(fixture("password")));
    shared_operation = new_operation();
    post_fault(LOGINS, "\"no_answer\": true, \"times\": 1");
    thread = start_thread(wait_in_login, NULL);
    WAIT_FOR(count_requests(LOGINS) == 1);
    run_in_child(use_in_child);
    CHECK(count_requests(LOGINS) == 2);
    dbss_operation_cancel(shared_operation);
    pthread_join(thread, NULL);
    /* The parent's next call logs in as usual. */
    DOWNLOAD(DBSS_OK, shared_ctx);
    CHECK(count_requests(LOGINS) == 3);
    dbss_operation_free(shared_operation);
    dbss_context_free(shared_ctx);
    reset();
}

/* The child uses the parent's token. */
static void fork_after_login_reuses_token(void)
{
    reset();
    shared_ctx = context_from(login_config(fixture("password")));
    DOWNLOAD(DBSS_OK, shared_ctx);
    run_in_child(use_in_child);
    CHECK(count_requests(LOGINS) == 1);
    dbss_context_free(shared_ctx);
    reset();
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
    reset();
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
    reset();
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"provider_mistakes_are_reported", provider_mistakes_are_reported, PLAIN},
    {"provider_without_a_result_fails_call", provider_without_a_result_fails_call, PLAIN},
    {"provider_late_token_is_not_used", provider_late_token_is_not_used, LOAD},
    {"provider_outlives_context", provider_outlives_context, PLAIN},
    {"provider_destroyed_once", provider_destroyed_once, PLAIN},
    {"provider_may_call_library", provider_may_call_library, PLAIN},
    {"passcode_provider_runs_on_the_calling_thread", passcode_provider_runs_on_the_calling_thread, PLAIN},
    {"iam_user_with_mistakes_is_refused", iam_user_with_mistakes_is_refused, PLAIN},
    {"environment_is_read_when_the_context_is_made", environment_is_read_when_the_context_is_made, PLAIN},
    {"login_repeated_during_downloads", login_repeated_during_downloads, LOAD},
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
