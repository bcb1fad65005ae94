/*
 * Tokens from a provider and from IAM logins, and project look-ups. See checks.h for
 * how to run the checks.
 */

#define _POSIX_C_SOURCE 200809L

#include "identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A cancel ends a call within 100 ms. The margin is for a busy machine. */
#define CANCELLED_WITHIN_MS 400

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

static dbss_config *provider_config(struct provider *provider)
{
    dbss_config *config = basic_config();
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, provider, destroy));
    return config;
}

/* Sets the token of a held request and frees it. */
static void answer_held_request(struct provider *provider, int which, const char *token)
{
    EXPECT(DBSS_OK, dbss_token_request_set(provider->held[which], token, -1));
    dbss_token_request_free(provider->held[which]);
}

/* A token that the mock service accepts and no message may contain. Static, so nobody
 * frees it. */
static const char *valid_token(int number)
{
    static const char *const tokens[] = {"provided-token-0123456789-first", "provided-token-0123456789-second",
                                         "provided-token-0123456789-third"};
    add_token(tokens[number]);
    watch_secret(tokens[number]);
    return tokens[number];
}

static void revoke(const char *token)
{
    char *body = format("{\"token\": \"%s\"}", token);
    free(control("DELETE", "/tokens", body));
    free(body);
}

static int64_t unix_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * (int64_t)1000 + now.tv_nsec / 1000000;
}

/* One download on its own thread. */
struct download {
    dbss_context *ctx;
    dbss_operation *operation;
    dbss_status expected;
    int started, is_over;
    long long ended_ms;
    pthread_t thread;
};

static void *run_download(void *argument)
{
    struct download *download = argument;
    add_locked(&download->started, 1);
    download_for(__LINE__, download->expected, download->ctx, fixture("project"), download->operation);
    download->ended_ms = now_ms();
    add_locked(&download->is_over, 1);
    return NULL;
}

static void start_download(struct download *download, dbss_context *ctx, dbss_operation *operation,
                           dbss_status expected)
{
    memset(download, 0, sizeof *download);
    download->ctx = ctx;
    download->operation = operation;
    download->expected = expected;
    download->thread = start_thread(run_download, download);
}

static void join_download(struct download *download)
{
    pthread_join(download->thread, NULL);
}

/* ---------------------------------------------------------------------------
 * Token providers
 * ------------------------------------------------------------------------ */

static void provider_called_once_for_several_calls(void)
{
    struct provider provider;
    dbss_config *config;
    dbss_context *ctx, *other;
    int i;

    set_up();
    provider = new_provider(GIVE, valid_token(0));
    config = provider_config(&provider);
    EXPECT(DBSS_OK, dbss_context_new(config, &other));
    ctx = context_from(config);
    /* It is not called before the first use. */
    CHECK(provider.request_count == 0);
    for (i = 0; i < 3; i++)
        DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 1 && provider.refused_count == 0);
    /* Each context calls the provider separately. */
    DOWNLOAD(DBSS_OK, other);
    CHECK(provider.request_count == 2);
    dbss_context_free(ctx);
    CHECK(provider.destroyed == 0);
    dbss_context_free(other);
    CHECK(provider.destroyed == 1);
    tear_down();
}

static void provider_token_set_later_serves_all(void)
{
    enum { MANY = 16 };
    struct provider provider;
    struct download all[MANY];
    dbss_context *ctx;
    int i;

    set_up();
    provider = new_provider(HOLD, NULL);
    ctx = context_from(provider_config(&provider));
    for (i = 0; i < MANY; i++)
        start_download(&all[i], ctx, NULL, DBSS_OK);
    for (i = 0; i < MANY; i++)
        WAIT_FOR(read_locked(&all[i].started));
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    /* None has finished: there is no token yet. */
    for (i = 0; i < MANY; i++)
        CHECK(!read_locked(&all[i].is_over));
    answer_held_request(&provider, 0, valid_token(0));
    for (i = 0; i < MANY; i++)
        join_download(&all[i]);
    CHECK(provider.request_count == 1);
    dbss_context_free(ctx);
    CHECK(provider.destroyed == 1);
    tear_down();
}

static void provider_called_after_token_is_refused(void)
{
    struct provider provider;
    dbss_context *ctx;

    set_up();
    provider = new_provider(GIVE, valid_token(0));
    ctx = context_from(provider_config(&provider));
    DOWNLOAD(DBSS_OK, ctx);
    revoke(provider.token);
    provider.token = valid_token(1);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 2 && provider.refused_count == 1);
    CHECK(count_responses(fixture("pdf"), 401) == 1 && count_responses(fixture("pdf"), 200) == 2);

    /* The provider returns the refused token again. Only one more token is
     * requested, whatever max_attempts is. */
    revoke(provider.token);
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    CHECK(provider.request_count == 3 && provider.refused_count == 2);
    CHECK(count_responses(fixture("pdf"), 401) <= 3);
    /* The next call succeeds with a new token. */
    provider.token = valid_token(2);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 4 && provider.refused_count == 3);
    dbss_context_free(ctx);
    tear_down();
}

static void pass_wrong_arguments(struct provider *provider, dbss_token_request *request)
{
    (void)provider;
    EXPECT_NULL("token", dbss_token_request_set(request, NULL, -1));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "expires_ms", dbss_token_request_set(request, "t", -2));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "message", dbss_token_request_fail(request, "\xff"));
}

static const char *wrong_token;
static int64_t wrong_expiry;

static void pass_wrong_token(struct provider *provider, dbss_token_request *request)
{
    (void)provider;
    CHECK(dbss_token_request_set(request, wrong_token, wrong_expiry) == DBSS_ERR_INVALID_TOKEN);
}

static void answer_twice(struct provider *provider, dbss_token_request *request)
{
    CHECK(dbss_token_request_set(request, provider->token, -1) == DBSS_OK);
    CHECK(dbss_token_request_set(request, "another", -1) == DBSS_ERR_ARGUMENT);
    CHECK(dbss_token_request_fail(request, "another") == DBSS_ERR_ARGUMENT);
}

/* Mistakes are also reported later and on another thread. */
static void provider_mistakes_are_reported(void)
{
    struct provider provider;
    struct download download;
    dbss_context *ctx;

    set_up();
    provider = new_provider(HOLD, NULL);
    ctx = context_from(provider_config(&provider));
    start_download(&download, ctx, NULL, DBSS_OK);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    EXPECT_NULL("token", dbss_token_request_set(provider.held[0], NULL, -1));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "expires_ms", dbss_token_request_set(provider.held[0], "t", -2));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "message", dbss_token_request_fail(provider.held[0], "\xff"));
    CHECK(!read_locked(&download.is_over));
    EXPECT(DBSS_OK, dbss_token_request_set(provider.held[0], valid_token(0), INT64_MAX));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "request", dbss_token_request_set(provider.held[0], "another", -1));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "request", dbss_token_request_fail(provider.held[0], NULL));
    dbss_token_request_free(provider.held[0]);
    join_download(&download);

    start_download(&download, ctx, NULL, DBSS_OK);
    join_download(&download);
    CHECK(provider.request_count == 1);
    dbss_context_free(ctx);

    provider = new_provider(HOLD, NULL);
    ctx = context_from(provider_config(&provider));
    start_download(&download, ctx, NULL, DBSS_ERR_NO_TOKEN);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_token_request_set(provider.held[0], "no token", -1));
    dbss_token_request_free(provider.held[0]);
    join_download(&download);
    start_download(&download, ctx, NULL, DBSS_ERR_NO_TOKEN);
    WAIT_FOR(read_locked(&provider.held_count) == 2);
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "expires_ms", dbss_token_request_set(provider.held[1], "token", 0));
    dbss_token_request_free(provider.held[1]);
    join_download(&download);
    dbss_context_free(ctx);
    tear_down();
}

static void provider_failure_fails_call(void)
{
    static const struct {
        enum provider_action action;
        const char *reason, *expected_message;
    } cases[] = {{FAIL, "the vault is sealed", "the vault is sealed"},
                 {FAIL, NULL, "token provider"},
                 {FAIL, "two\nlines\x1b[31m", "two"},
                 {DROP, NULL, "without a result"}};
    struct provider provider;
    dbss_context *ctx;
    size_t i;
    long connections;

    set_up();
    provider = new_provider(FAIL, valid_token(0));
    ctx = context_from(provider_config(&provider));
    connections = count_connections();
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        provider.action = cases[i].action;
        provider.reason = cases[i].reason;
        DOWNLOAD(DBSS_ERR_NO_TOKEN, ctx);
        EXPECT_MESSAGE(cases[i].expected_message);
        CHECK(dbss_error_message(dbss_last_error())[strcspn(dbss_error_message(dbss_last_error()), "\n\x1b")] == '\0');
        CHECK(provider.request_count == (int)i + 1);
    }
    /* An invalid token fails in the provider and in the waiting call. */
    provider.action = DROP;
    provider.on_request = pass_wrong_token;
    for (i = 0; i < 4; i++) {
        wrong_token = i == 0 ? "" : i == 1 ? "no-token-with a-space" : i == 2 ? "no-token-with\nline" : provider.token;
        wrong_expiry = i < 3 ? -1 : unix_ms() - 60000;
        DOWNLOAD(DBSS_ERR_NO_TOKEN, ctx);
        CHECK(find_in_error(dbss_last_error(), "no-token-with") == NULL);
    }
    CHECK(count_connections() == connections);

    /* An invalid argument does not complete the request. */
    provider.on_request = pass_wrong_arguments;
    provider.action = GIVE;
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);

    provider = new_provider(DROP, provider.token);
    provider.on_request = answer_twice;
    ctx = context_from(provider_config(&provider));
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 1);
    dbss_context_free(ctx);
    tear_down();
}

static void provider_called_before_expiry(void)
{
    struct provider provider;
    long long started;
    dbss_context *ctx;

    set_up();
    provider = new_provider(GIVE, valid_token(0));
    provider.expires_ms = unix_ms() + 3000;
    ctx = context_from(provider_config(&provider));
    started = now_ms();
    DOWNLOAD(DBSS_OK, ctx);
    /* The next token does not expire. */
    pthread_mutex_lock(&lock);
    provider.token = valid_token(1);
    provider.expires_ms = -1;
    pthread_mutex_unlock(&lock);
    while (provider.request_count == 1 && !has_failed() && now_ms() - started < WAIT_LIMIT_MS) {
        DOWNLOAD(DBSS_OK, ctx);
        pause_briefly();
    }
    /* Called again shortly before the expiry, not at each call. */
    CHECK(provider.request_count == 2 && provider.refused_count == 0 && now_ms() - started >= 2000);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 2 && count_responses(fixture("pdf"), 401) == 0);
    dbss_context_free(ctx);
    tear_down();
}

/* One of two waiting calls is cancelled. The other one gets the token. */
static void provider_wait_cancelled_for_one_call(void)
{
    int cancelled_index;
    for (cancelled_index = 0; cancelled_index < 2; cancelled_index++) {
        struct provider provider;
        dbss_operation *operations[2];
        struct download both[2];
        dbss_context *ctx;
        long long since;
        int i;

        set_up();
        provider = new_provider(HOLD, NULL);
        ctx = context_from(provider_config(&provider));
        for (i = 0; i < 2; i++) {
            operations[i] = new_operation();
            start_download(&both[i], ctx, operations[i], i == cancelled_index ? DBSS_ERR_CANCELLED : DBSS_OK);
            WAIT_FOR(read_locked(&both[i].started) && read_locked(&provider.held_count) == 1);
        }
        since = now_ms();
        dbss_operation_cancel(operations[cancelled_index]);
        join_download(&both[cancelled_index]);
        if (both[cancelled_index].ended_ms - since > CANCELLED_WITHIN_MS)
            fail_check("it ended after %lld ms", both[cancelled_index].ended_ms - since);
        CHECK(!read_locked(&both[1 - cancelled_index].is_over));
        answer_held_request(&provider, 0, valid_token(0));
        join_download(&both[1 - cancelled_index]);
        CHECK(provider.request_count == 1);
        for (i = 0; i < 2; i++)
            dbss_operation_free(operations[i]);
        dbss_context_free(ctx);
        tear_down();
    }
}

static void provider_wait_times_out(void)
{
    struct provider provider;
    dbss_operation *operation;
    dbss_context *ctx;
    long long since;

    set_up();
    operation = new_operation();
    provider = new_provider(HOLD, NULL);
    ctx = context_from(provider_config(&provider));

    /* After a total timeout the token request is still pending. */
    EXPECT(DBSS_OK, dbss_operation_set(operation, "total_timeout_ms", "300"));
    since = now_ms();
    download_for(__LINE__, DBSS_ERR_TOTAL_TIMEOUT, ctx, fixture("project"), operation);
    CHECK(now_ms() - since >= 290 && now_ms() - since < 3000);
    EXPECT(DBSS_OK, dbss_operation_set(operation, "total_timeout_ms", "-1"));

    EXPECT(DBSS_OK, dbss_operation_set(operation, "stall_timeout_ms", "300"));
    since = now_ms();
    download_for(__LINE__, DBSS_ERR_STALLED, ctx, fixture("project"), operation);
    CHECK(now_ms() - since >= 290 && now_ms() - since < 3000);
    CHECK(provider.request_count == 1);

    /* After a stall the next call requests a token again. */
    provider.action = GIVE;
    provider.token = valid_token(0);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 2);
    /* A late token is accepted and not used. */
    EXPECT(DBSS_OK, dbss_token_request_set(provider.held[0], "a-token-that-came-too-late", -1));
    dbss_token_request_free(provider.held[0]);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 2 && count_responses(fixture("pdf"), 401) == 0);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    tear_down();
}

static void provider_outlives_context(void)
{
    struct provider provider;
    dbss_operation *operation;
    struct download download;
    dbss_context *ctx;

    set_up();
    provider = new_provider(HOLD, NULL);
    ctx = context_from(provider_config(&provider));
    start_download(&download, ctx, NULL, DBSS_OK);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    dbss_context_free(ctx);
    CHECK(provider.destroyed == 0);
    answer_held_request(&provider, 0, valid_token(0));
    join_download(&download);
    WAIT_FOR(read_locked(&provider.destroyed) == 1);

    /* The token arrives when no call waits any more. */
    provider = new_provider(HOLD, NULL);
    operation = new_operation();
    ctx = context_from(provider_config(&provider));
    start_download(&download, ctx, operation, DBSS_ERR_CANCELLED);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    dbss_operation_cancel(operation);
    join_download(&download);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    EXPECT(DBSS_OK, dbss_token_request_set(provider.held[0], "whatever", -1));
    dbss_token_request_free(provider.held[0]);
    WAIT_FOR(read_locked(&provider.destroyed) == 1);
    tear_down();
}

static void provider_destroyed_once(void)
{
    struct provider first, second, third;
    dbss_config *config;
    dbss_context *ctx;

    set_up();
    first = new_provider(GIVE, valid_token(0));
    second = new_provider(GIVE, valid_token(0));
    third = new_provider(GIVE, valid_token(0));
    config = provider_config(&first);
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, &second, destroy));
    CHECK(first.destroyed == 1 && second.destroyed == 0);
    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
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
    CHECK(first.destroyed == 1 && second.destroyed == 1 && third.destroyed == 3);
    CHECK(second.request_count == 1);
    tear_down();
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

    set_up();
    other_context = context_from(new_config(fixture("http"), fixture("token")));
    provider = new_provider(GIVE, valid_token(0));
    provider.on_request = use_library_in_provider;
    ctx = context_from(provider_config(&provider));
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(dbss_last_error() == NULL);
    dbss_context_free(ctx);

    provider = new_provider(FAIL, NULL);
    provider.reason = "my own reason";
    provider.on_request = use_library_in_provider;
    ctx = context_from(provider_config(&provider));
    DOWNLOAD(DBSS_ERR_NO_TOKEN, ctx);
    EXPECT_MESSAGE("my own reason");
    dbss_context_free(ctx);
    dbss_context_free(other_context);
    tear_down();
}

static void provider_credentials_are_described(void)
{
    struct provider provider;
    dbss_credentials *found;
    dbss_context *ctx;

    set_up();
    provider = new_provider(GIVE, valid_token(0));
    provider.expires_ms = unix_ms() + 3600000;
    ctx = context_from(provider_config(&provider));
    if (EXPECT(DBSS_OK, dbss_context_find_credentials(ctx, NULL, &found)) == DBSS_OK) {
        expect_text(__LINE__, "token_provider", dbss_credentials_source(found));
        CHECK(*dbss_credentials_description(found) != '\0');
        CHECK(strstr(dbss_credentials_description(found), provider.token) == NULL);
        CHECK(dbss_credentials_name(found) == NULL && dbss_credentials_project(found) == NULL);
        CHECK(dbss_credentials_expires_ms(found) / 1000 - provider.expires_ms / 1000 <= 1);
        dbss_credentials_free(found);
    }
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 1);
    dbss_context_free(ctx);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * Logins
 * ------------------------------------------------------------------------ */

/* Escapes a text for JSON, as in the mock service's password. */
static char *escape_json(const char *text)
{
    char *json = malloc(strlen(text) * 2 + 1), *to = json;
    if (json == NULL)
        fatal("out of memory");
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            *to++ = '\\';
        *to++ = *text;
    }
    *to = '\0';
    return json;
}

static void login_shared_by_threads(void)
{
    dbss_context *ctx;
    dbss_credentials *found;
    char *password, *body, *expected, *type, *project;
    int64_t remaining_ms;
    int by_id;

    for (by_id = 0; by_id < 2; by_id++) {
        dbss_config *config;
        set_up();
        config = login_config();
        if (by_id)
            set_option(config, "project_id", fixture("project"));
        ctx = context_from(config);
        download_concurrently(ctx, by_id ? fixture("project") : NULL, 32, 3, NULL);
        CHECK(count_requests(LOGINS) == 1 && count_requests(LOOKUPS) == 0);
        CHECK(count_responses(fixture("pdf"), 200) == 96 && count_requests(fixture("pdf")) == 96);

        password = escape_json(fixture("password"));
        project = by_id ? format("\"id\":\"%s\"", fixture("project")) : format("\"name\":\"%s\"", fixture("region"));
        expected = format("{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":{\"name\":\"%s\","
                          "\"password\":\"%s\",\"domain\":{\"name\":\"%s\"}}}},\"scope\":{\"project\":{%s}}}}",
                          fixture("user"), password, fixture("domain"), project);
        body = last_body(LOGINS);
        expect_text(__LINE__, expected, body);
        type = last_header(LOGINS, "Content-Type");
        expect_text(__LINE__, "application/json", type);
        free(type);
        type = last_header(LOGINS, "X-Auth-Token");
        CHECK(type == NULL);
        free(password);
        free(project);
        free(expected);
        free(body);

        if (EXPECT(DBSS_OK, dbss_context_find_credentials(ctx, NULL, &found)) == DBSS_OK) {
            expect_text(__LINE__, "iam_user", dbss_credentials_source(found));
            expect_text(__LINE__, fixture("user"), dbss_credentials_name(found));
            expect_text(__LINE__, fixture("project"), dbss_credentials_project(found));
            CHECK(strstr(dbss_credentials_description(found), fixture("iam")) != NULL);
            remaining_ms = dbss_credentials_expires_ms(found) - unix_ms();
            CHECK(remaining_ms > 23 * 3600000LL && remaining_ms <= 24 * 3600000LL + 60000);
            dbss_credentials_free(found);
        }
        CHECK(count_requests(LOGINS) == 1);
        dbss_context_free(ctx);
        tear_down();
    }
}

static void revoke_issued(void)
{
    free(control("DELETE", "/tokens", "{\"issued\": true}"));
}

static void login_repeated_after_revocation(void)
{
    dbss_context *ctx;
    set_up();
    ctx = context_from(login_config());
    download_concurrently(ctx, NULL, 32, 6, revoke_issued);
    /* The first login, and one after each of five revocations. */
    CHECK(count_requests(LOGINS) == 6);
    dbss_context_free(ctx);
    tear_down();
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
        DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, loop_context);
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

    set_up();
    loop_context = context_from(login_config());
    loops_must_end = 0;
    memset(all, 0, sizeof all);
    for (i = 0; i < MANY; i++)
        all[i].thread = start_thread(download_until_end, &all[i]);
    wait_for_two_more_downloads(all, MANY);
    for (i = 1; i <= 5 && !has_failed(); i++) {
        revoke_issued();
        wait_for_two_more_downloads(all, MANY);
        if (count_requests(LOGINS) != i + 1)
            fail_check("%ld logins after %d revocations", count_requests(LOGINS), i);
    }
    add_locked(&loops_must_end, 1);
    for (i = 0; i < MANY; i++)
        pthread_join(all[i].thread, NULL);
    dbss_context_free(loop_context);
    tear_down();
}

static void login_refused_is_not_repeated(void)
{
    dbss_credentials *found = (dbss_credentials *)&found;
    dbss_config *config;
    dbss_context *ctx, *other;
    int i;

    set_up();
    watch_secret("a-wrong-password");
    config = login_config();
    set_option(config, "max_attempts", "5");
    EXPECT(DBSS_OK, dbss_config_set_iam_user(config, fixture("user"), "a-wrong-password", fixture("domain")));
    EXPECT(DBSS_OK, dbss_context_new(config, &other));
    ctx = context_from(config);
    for (i = 0; i < 3; i++) {
        DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
        EXPECT_MESSAGE("The username or password is wrong");
        EXPECT_MESSAGE(fixture("user"));
        CHECK(dbss_error_http_status(dbss_last_error()) == 401);
        CHECK(dbss_error_is_retryable(dbss_last_error()) == 0);
        CHECK(dbss_error_request_id(dbss_last_error()) != NULL);
    }
    EXPECT(DBSS_ERR_UNAUTHENTICATED, dbss_context_find_credentials(ctx, NULL, &found));
    CHECK(found == NULL);
    EXPECT(DBSS_ERR_UNAUTHENTICATED, dbss_context_check(ctx, fixture("project"), NULL));
    EXPECT_MESSAGE("The username or password is wrong");
    /* One request only: several failures lock a user. */
    CHECK(count_requests(LOGINS) == 1 && count_requests(fixture("pdf")) == 0);
    /* A token can still replace the login. */
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, fixture("token")));
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);

    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, other);
    CHECK(count_requests(LOGINS) == 2);
    dbss_context_free(other);
    tear_down();
}

/* Many concurrent calls with a wrong password send one request. */
static void login_refused_to_many_threads_is_sent_once(void)
{
    enum { MANY = 16 };
    struct download all[MANY];
    dbss_config *config;
    dbss_context *ctx;
    int i;
    set_up();
    config = login_config();
    EXPECT(DBSS_OK, dbss_config_set_iam_user(config, fixture("user"), "a-wrong-password", fixture("domain")));
    ctx = context_from(config);
    for (i = 0; i < MANY; i++)
        start_download(&all[i], ctx, NULL, DBSS_ERR_UNAUTHENTICATED);
    for (i = 0; i < MANY; i++)
        join_download(&all[i]);
    CHECK(count_requests(LOGINS) == 1);
    dbss_context_free(ctx);
    tear_down();
}

static void login_failure_is_reported(void)
{
    static const struct {
        const char *fault;
        dbss_status status;
        const char *expected_message;
        /* Whether the next call logs in again. */
        int is_transient;
    } cases[] = {
        {"\"status\": 503, \"json\": {\"error\": {\"code\": 503, \"message\": \"IAM rests\"}}", DBSS_ERR_SERVER,
         "IAM rests", 1},
        {"\"status\": 429, \"body\": \"\"", DBSS_ERR_THROTTLED, "IAM", 1},
        {"\"headers\": [[\"X-Subject-Token\", null]]", DBSS_ERR_UNEXPECTED_RESPONSE, "X-Subject-Token", 1},
        {"\"headers\": [[\"X-Subject-Token\", \"\"]]", DBSS_ERR_UNEXPECTED_RESPONSE, "IAM", 1},
        {"\"headers\": [[\"X-Subject-Token\", \"no-token-with a-space\"]]", DBSS_ERR_UNEXPECTED_RESPONSE, "IAM", 1},
        {"\"status\": 200, \"body\": \"<html>\"", DBSS_ERR_UNEXPECTED_RESPONSE, "IAM", 1},
        {"\"status\": 404, \"body\": \"\"", DBSS_ERR_NOT_FOUND, "IAM", 0},
        {"\"status\": 201, \"headers\": [[\"X-Subject-Token\", \"token\"]], \"fill\": {\"size\": 100000000000}",
         DBSS_ERR_UNEXPECTED_RESPONSE, "IAM", 1},
        {"\"endless_header\": true", DBSS_ERR_PROTOCOL, "", 1},
        {"\"gzip\": true", DBSS_ERR_CONTENT_ENCODING, "", 1},
        {"\"stall_after\": 10", DBSS_ERR_STALLED, "", 1},
        {"\"no_answer\": true", DBSS_ERR_STALLED, "", 1},
        {"\"cut_after\": 10", DBSS_ERR_TRUNCATED, "", 1},
        {"\"reset_before_answer\": true", DBSS_ERR_CONNECTION_LOST, "", 1},
        {"\"raw_base64\": \"Z2FyYmFnZQ0KDQo=\"", DBSS_ERR_PROTOCOL, "", 1},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        dbss_config *config;
        dbss_context *ctx;
        long long since;
        set_up();
        config = login_config();
        set_option(config, "stall_timeout_ms", "500");
        ctx = context_from(config);
        post_fault(LOGINS, "%s, \"times\": 1", cases[i].fault);
        since = now_ms();
        DOWNLOAD(cases[i].status, ctx);
        EXPECT_MESSAGE(cases[i].expected_message);
        CHECK(now_ms() - since < 5000);
        CHECK(find_in_error(dbss_last_error(), "no-token-with") == NULL);
        CHECK(count_requests(LOGINS) == 1 && count_requests(fixture("pdf")) == 0);
        free(control("DELETE", "/faults", ""));
        DOWNLOAD(cases[i].is_transient ? DBSS_OK : cases[i].status, ctx);
        CHECK(count_requests(LOGINS) == (cases[i].is_transient ? 2 : 1));
        add_failure_context("the fault was: %s", cases[i].fault);
        dbss_context_free(ctx);
        tear_down();
    }
}

static void login_is_retried(void)
{
    static const char *const faults[] = {
        "\"status\": 503, \"body\": \"\"",
        "\"reset_before_answer\": true",
        "\"cut_after\": 10",
        "\"status\": 429, \"headers\": [[\"Retry-After\", \"0\"]], \"body\": \"\"",
    };
    size_t i;
    for (i = 0; i < sizeof faults / sizeof *faults; i++) {
        dbss_config *config;
        dbss_context *ctx;
        set_up();
        config = login_config();
        set_option(config, "max_attempts", "3");
        ctx = context_from(config);
        post_fault(LOGINS, "%s, \"times\": 2", faults[i]);
        DOWNLOAD(DBSS_OK, ctx);
        CHECK(count_requests(LOGINS) == 3);
        add_failure_context("the fault was: %s", faults[i]);
        dbss_context_free(ctx);
        tear_down();
    }
}

static void login_without_document_looks_up_project(void)
{
    static const char *const bodies[] = {"not JSON", "", "[]", "{\\\"token\\\": 7}"};
    size_t i;
    for (i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        dbss_context *ctx;
        set_up();
        ctx = context_from(login_config());
        post_fault(LOGINS,
                   "\"status\": 201, \"headers\": [[\"X-Subject-Token\", \"%s\"]], \"body\": \"%s\", \"times\": 1",
                   fixture("token"), bodies[i]);
        /* The token is enough. The project is looked up. */
        DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
        CHECK(count_requests(LOGINS) == 1 && count_requests(LOOKUPS) == 1);
        add_failure_context("IAM's document was: %s", bodies[i]);
        dbss_context_free(ctx);
        tear_down();
    }
}

static void login_unreachable_fails(void)
{
    dbss_config *config;
    dbss_context *ctx;
    long long since;
    set_up();
    config = login_config();
    set_option(config, "iam_endpoint", "http://127.0.0.1:1");
    ctx = context_from(config);
    DOWNLOAD(DBSS_ERR_CONNECT, ctx);
    EXPECT_MESSAGE("127.0.0.1:1");
    dbss_context_free(ctx);

    config = login_config();
    set_option(config, "iam_endpoint", fixture("never_accepts"));
    set_option(config, "connect_timeout_ms", "300");
    ctx = context_from(config);
    since = now_ms();
    DOWNLOAD(DBSS_ERR_CONNECT_TIMEOUT, ctx);
    CHECK(now_ms() - since < 3000);
    dbss_context_free(ctx);
    tear_down();
}

static void login_over_tls_checks_certificate(void)
{
    dbss_config *config;
    dbss_context *ctx;
    set_up();
    config = login_config();
    set_option(config, "iam_endpoint", fixture("iam_https"));
    set_option(config, "endpoint", fixture("https"));
    ctx = context_from(config);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
    dbss_context_free(ctx);
    /* The service may use plain HTTP on this machine, and IAM may use TLS. */
    config = login_config();
    set_option(config, "iam_endpoint", fixture("iam_https"));
    ctx = context_from(config);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
    dbss_context_free(ctx);
    config = login_config();
    set_option(config, "iam_endpoint", fixture("https_self_signed"));
    ctx = context_from(config);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_ERR_CERTIFICATE, ctx);
    dbss_context_free(ctx);
    /* A password is never sent over a network without TLS. */
    config = login_config();
    set_option(config, "iam_endpoint", "http://192.0.2.1");
    EXPECT_NO_CONTEXT(DBSS_ERR_PLAINTEXT_REFUSED, "iam_endpoint", config);
    tear_down();
}

static void login_renewed_before_expiry(void)
{
    long long started;
    dbss_context *ctx;
    set_up();
    /* The Date header gives IAM's clock in whole seconds. */
    post_control("/iam", "{\"token_lifetime_ms\": 4500, \"announced_lifetime_ms\": 3000}");
    ctx = context_from(login_config());
    started = now_ms();
    while (count_requests(LOGINS) < 3 && !has_failed() && now_ms() - started < WAIT_LIMIT_MS)
        DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
    CHECK(count_requests(LOGINS) == 3 && now_ms() - started >= 3000);
    CHECK(count_responses(fixture("pdf"), 401) == 0);
    dbss_context_free(ctx);
    tear_down();
}

static void login_renewal_failure_keeps_token(void)
{
    long long started;
    long logins;
    dbss_context *ctx;
    set_up();
    post_control("/iam", "{\"announced_lifetime_ms\": 5000}");
    ctx = context_from(login_config());
    started = now_ms();
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
    post_fault(LOGINS, "\"status\": 503, \"body\": \"\"");
    while (!log_contains("failed to refresh") && !has_failed() && now_ms() - started < WAIT_LIMIT_MS) {
        DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
        pause_briefly();
    }
    CHECK(log_contains("failed to refresh"));
    /* The renewal is not retried at each call. */
    logins = count_requests(LOGINS);
    CHECK(logins == 2);
    dbss_context_free(ctx);
    tear_down();
}

/* The call that logs in is cancelled, and another call logs in. */
static void login_of_cancelled_call_is_repeated_by_another(void)
{
    enum { MANY = 8 };
    struct download leader, all[MANY];
    dbss_operation *operation;
    dbss_context *ctx;
    long long since;
    int i;

    set_up();
    operation = new_operation();
    ctx = context_from(login_config());
    post_fault(LOGINS, "\"no_answer\": true, \"times\": 1");
    start_download(&leader, ctx, operation, DBSS_ERR_CANCELLED);
    WAIT_FOR(count_requests(LOGINS) == 1);
    for (i = 0; i < MANY; i++)
        start_download(&all[i], ctx, NULL, DBSS_OK);
    for (i = 0; i < MANY; i++)
        WAIT_FOR(read_locked(&all[i].started));
    since = now_ms();
    dbss_operation_cancel(operation);
    join_download(&leader);
    if (leader.ended_ms - since > CANCELLED_WITHIN_MS)
        fail_check("it ended after %lld ms", leader.ended_ms - since);
    for (i = 0; i < MANY; i++)
        join_download(&all[i]);
    CHECK(count_requests(LOGINS) == 2);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    tear_down();
}

/* A call that waits for another call's login is cancelled alone. */
static void login_waiter_is_cancelled_alone(void)
{
    struct download leader, waiter;
    dbss_operation *operation;
    dbss_context *ctx;
    long long since;
    set_up();
    operation = new_operation();
    ctx = context_from(login_config());
    post_fault(LOGINS, "\"delay_ms\": 1500, \"after_auth\": true, \"times\": 1");
    start_download(&leader, ctx, NULL, DBSS_OK);
    WAIT_FOR(count_requests(LOGINS) == 1);
    start_download(&waiter, ctx, operation, DBSS_ERR_CANCELLED);
    WAIT_FOR(read_locked(&waiter.started));
    since = now_ms();
    dbss_operation_cancel(operation);
    join_download(&waiter);
    CHECK(waiter.ended_ms - since < CANCELLED_WITHIN_MS);
    join_download(&leader);
    CHECK(count_requests(LOGINS) == 1);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    tear_down();
}

/* The password is never sent to another origin. */
static void login_redirect_is_refused(void)
{
    int follow;
    for (follow = 0; follow < 2; follow++) {
        dbss_config *config;
        dbss_context *ctx;
        char *all;
        set_up();
        config = login_config();
        set_option(config, "follow_redirects", follow ? "true" : "false");
        ctx = context_from(config);
        post_fault(LOGINS, "\"status\": 307, \"times\": 1, \"headers\": [[\"Location\", \"%s/v3/auth/tokens\"]]",
                   fixture("iam_https"));
        DOWNLOAD(DBSS_ERR_REDIRECTED, ctx);
        all = control("GET", "/requests", "");
        CHECK(strstr(all, "\"listener\":\"iam_https\"") == NULL);
        free(all);
        dbss_context_free(ctx);
        tear_down();
    }
}

static void login_incomplete_is_refused(void)
{
    static const char *const keys[] = {"iam_user", "iam_password", "iam_domain"};
    dbss_config *config;
    int i, j;
    set_up();
    for (i = 0; i < 3; i++) {
        config = regional_config();
        for (j = 0; j < 3; j++)
            if (j != i)
                set_option(config, keys[j], "a-part-of-it");
        EXPECT_NO_CONTEXT(DBSS_ERR_NOT_CONFIGURED, keys[i], config);
    }
    /* A login needs a project or a region. */
    config = basic_config();
    EXPECT(DBSS_OK, dbss_config_set_iam_user(config, "u", "p", "d"));
    EXPECT_NO_CONTEXT(DBSS_ERR_NOT_CONFIGURED, NULL, config);
    config = basic_config();
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "user", dbss_config_set_iam_user(config, "", "p", "d"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "password", dbss_config_set_iam_user(config, "u", "", "d"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "domain", dbss_config_set_iam_user(config, "u", "p", "\xff"));
    dbss_config_free(config);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * Projects
 * ------------------------------------------------------------------------ */

/* ---------------------------------------------------------------------------
 * Logins with a passcode
 * ------------------------------------------------------------------------ */

static pthread_t calling_thread;

static void check_calling_thread(struct provider *provider, dbss_token_request *request)
{
    CHECK(pthread_equal(pthread_self(), calling_thread));
    CHECK(dbss_token_request_refused(request) == (provider->request_count > 1));
}

/* Each login asks on the calling thread; a passcode that is refused is not sent again. */
static void login_with_passcode_asks_for_each_login(void)
{
    struct provider provider = new_provider(GIVE, "987654");
    dbss_config *config;
    dbss_context *ctx;

    set_up();
    free(control("POST", "/iam", "{\"passcodes\": [\"246802\"]}"));
    calling_thread = pthread_self();
    provider.on_request = check_calling_thread;
    config = login_config();
    set_option(config, "iam_user_id", fixture("user_id"));
    EXPECT(DBSS_OK, dbss_config_set_passcode_provider(config, provide, &provider, destroy));
    ctx = context_from(config);
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    EXPECT_MESSAGE("The passcode *** is wrong");
    CHECK(strstr(dbss_error_message(dbss_last_error()), "987654") == NULL);
    CHECK(strstr(dbss_error_service_message(dbss_last_error()), "987654") == NULL);
    CHECK(count_requests(LOGINS) == 1);
    provider.token = "246802";
    DOWNLOAD(DBSS_OK, ctx);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.request_count == 2 && provider.refused_count == 1);
    CHECK(count_requests(LOGINS) == 2);
    dbss_context_free(ctx);
    CHECK(provider.destroyed == 1);
    free(control("POST", "/iam", "{}"));
    tear_down();
}

/* A call that waits for a passcode can be cancelled, and the provider be removed. */
static void login_with_passcode_is_cancelled(void)
{
    struct provider provider = new_provider(HOLD, NULL);
    dbss_operation *operation;
    struct download download;
    dbss_config *config;
    dbss_context *ctx;

    set_up();
    config = login_config();
    set_option(config, "iam_user_id", fixture("user_id"));
    EXPECT(DBSS_OK, dbss_config_set_passcode_provider(config, provide, &provider, destroy));
    ctx = context_from(config);
    EXPECT(DBSS_OK, dbss_operation_new(&operation));
    start_download(&download, ctx, operation, DBSS_ERR_CANCELLED);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    dbss_operation_cancel(operation);
    join_download(&download);
    dbss_token_request_free(provider.held[0]);
    CHECK(count_requests(LOGINS) == 0);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    CHECK(provider.destroyed == 1);
    tear_down();
}

static void project_looked_up_once(void)
{
    dbss_config *config;
    dbss_context *ctx;
    char *query;
    set_up();
    config = regional_config();
    EXPECT(DBSS_OK, dbss_config_set_token(config, fixture("token")));
    ctx = context_from(config);
    download_concurrently(ctx, NULL, 16, 5, NULL);
    CHECK(count_requests(LOOKUPS) == 1 && count_responses(fixture("pdf"), 200) == 80);
    query = control("GET", "/requests?report=" LOOKUPS, "");
    CHECK(strstr(query, "\"query\":\"name=cn-north-4\"") != NULL);
    free(query);
    /* With a given project there is no look-up. */
    dbss_context_free(ctx);
    config = regional_config();
    EXPECT(DBSS_OK, dbss_config_set_token(config, fixture("token")));
    ctx = context_from(config);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(count_requests(LOOKUPS) == 1);
    dbss_context_free(ctx);
    tear_down();
}

static void project_looked_up_with_access_key(void)
{
    dbss_config *config;
    dbss_context *ctx;
    char *header;
    set_up();
    config = regional_config();
    EXPECT(DBSS_OK, dbss_config_set_access_key(config, fixture("access_key"), fixture("secret_key"), NULL));
    ctx = context_from(config);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
    CHECK(count_requests(LOOKUPS) == 1);
    CHECK(is_signed_with(LOOKUPS, fixture("access_key")) && is_signed_with(fixture("pdf"), fixture("access_key")));
    header = last_header(LOOKUPS, "X-Project-Id");
    CHECK(header == NULL);
    header = last_header(fixture("pdf"), "X-Project-Id");
    expect_text(__LINE__, fixture("project"), header);
    free(header);

    /* A token may belong to another account, so the project is looked up again. */
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, fixture("token")));
    DOWNLOAD_WITHOUT_PROJECT(DBSS_OK, ctx);
    CHECK(count_requests(LOOKUPS) == 2 && !is_signed_with(LOOKUPS, fixture("access_key")));
    dbss_context_free(ctx);
    tear_down();
}

static dbss_context *context_of_region(const char *region)
{
    dbss_config *config = regional_config();
    set_option(config, "region", region);
    set_option(config, "stall_timeout_ms", "500");
    EXPECT(DBSS_OK, dbss_config_set_token(config, fixture("token")));
    return context_from(config);
}

static void project_unknown_or_ambiguous_fails(void)
{
    dbss_context *ctx;
    long connections;
    set_up();
    ctx = context_of_region("xx-nowhere-1");
    DOWNLOAD_WITHOUT_PROJECT(DBSS_ERR_NOT_CONFIGURED, ctx);
    expect_text(__LINE__, "project", dbss_error_parameter(dbss_last_error()));
    EXPECT_MESSAGE("xx-nowhere-1");
    CHECK(count_requests(fixture("pdf")) == 0);
    dbss_context_free(ctx);

    post_control("/projects", "{\"name\": \"%s\"}", "xx-twin-1");
    post_control("/projects", "{\"name\": \"%s\"}", "xx-twin-1");
    ctx = context_of_region("xx-twin-1");
    DOWNLOAD_WITHOUT_PROJECT(DBSS_ERR_NOT_CONFIGURED, ctx);
    expect_text(__LINE__, "project", dbss_error_parameter(dbss_last_error()));
    EXPECT_MESSAGE("several");
    /* The failure is not cached. */
    free(control("DELETE", "/projects", ""));
    post_control("/projects", "{\"name\": \"%s\"}", "xx-twin-1");
    DOWNLOAD_WITHOUT_PROJECT(DBSS_ERR_FORBIDDEN, ctx);
    dbss_context_free(ctx);

    ctx = context_from(new_config(fixture("http"), fixture("token")));
    connections = count_connections();
    DOWNLOAD_WITHOUT_PROJECT(DBSS_ERR_NOT_CONFIGURED, ctx);
    expect_text(__LINE__, "project", dbss_error_parameter(dbss_last_error()));
    CHECK(count_connections() == connections);
    dbss_context_free(ctx);
    tear_down();
}

static void project_lookup_failure_is_reported(void)
{
    static const struct {
        const char *fault;
        dbss_status status;
        const char *expected_message;
    } cases[] = {
        {"\"status\": 503, \"json\": {\"error\": {\"code\": 503, \"message\": \"IAM rests\"}}", DBSS_ERR_SERVER,
         "IAM rests"},
        {"\"status\": 403, \"body\": \"\"", DBSS_ERR_FORBIDDEN, "IAM"},
        {"\"body\": \"not JSON\"", DBSS_ERR_UNEXPECTED_RESPONSE, "IAM"},
        {"\"json\": {\"projects\": [{\"name\": \"cn-north-4\"}]}", DBSS_ERR_UNEXPECTED_RESPONSE, "IAM"},
        {"\"fill\": {\"size\": 100000000000}", DBSS_ERR_UNEXPECTED_RESPONSE, "IAM"},
        {"\"no_answer\": true", DBSS_ERR_STALLED, ""},
        {"\"gzip\": true", DBSS_ERR_CONTENT_ENCODING, ""},
        /* An id that is not allowed in a path. */
        {"\"json\": {\"projects\": [{\"name\": \"cn-north-4\", \"id\": \"../../x\"}]}", DBSS_ERR_INVALID_ID, "project"},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        dbss_context *ctx;
        long long since;
        set_up();
        ctx = context_of_region(fixture("region"));
        post_fault(LOOKUPS, "%s, \"times\": 1", cases[i].fault);
        /* Asked for only where the first list is forbidden. */
        post_fault("@iam.auth_projects", "%s, \"times\": 1", cases[i].fault);
        since = now_ms();
        DOWNLOAD_WITHOUT_PROJECT(cases[i].status, ctx);
        EXPECT_MESSAGE(cases[i].expected_message);
        CHECK(now_ms() - since < 5000);
        CHECK(count_requests(fixture("pdf")) == 0 && count_requests(LOOKUPS) == 1);
        add_failure_context("the fault was: %s", cases[i].fault);
        dbss_context_free(ctx);
        tear_down();
    }
}

static void project_lookup_refused_is_not_repeated(void)
{
    dbss_config *config;
    dbss_context *ctx;
    set_up();
    config = regional_config();
    set_option(config, "max_attempts", "10");
    EXPECT(DBSS_OK, dbss_config_set_token(config, "a-token-of-nobody"));
    watch_secret("a-token-of-nobody");
    ctx = context_from(config);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_ERR_UNAUTHENTICATED, ctx);
    CHECK(count_requests(LOOKUPS) == 1);
    dbss_context_free(ctx);
    tear_down();
}

/* The call's project has priority over that of the context. */
static void project_of_context_is_default(void)
{
    dbss_credentials *found;
    dbss_config *config;
    dbss_context *ctx;
    set_up();
    config = regional_config();
    set_option(config, "project_id", "no-project-0123456789-0123456789-x");
    EXPECT(DBSS_OK, dbss_config_set_token(config, fixture("token")));
    ctx = context_from(config);
    DOWNLOAD_WITHOUT_PROJECT(DBSS_ERR_FORBIDDEN, ctx);
    DOWNLOAD(DBSS_OK, ctx);
    if (EXPECT(DBSS_OK, dbss_context_find_credentials(ctx, NULL, &found)) == DBSS_OK) {
        expect_text(__LINE__, "token", dbss_credentials_source(found));
        expect_text(__LINE__, "no-project-0123456789-0123456789-x", dbss_credentials_project(found));
        CHECK(dbss_credentials_name(found) == NULL && dbss_credentials_expires_ms(found) == -1);
        dbss_credentials_free(found);
    }
    CHECK(count_requests(LOOKUPS) == 0);
    dbss_context_free(ctx);
    tear_down();
}

/* Every kind of call works without a project argument. */
static void project_optional_in_every_call(void)
{
    dbss_config *config;
    dbss_context *ctx;
    dbss_report_stream *stream;
    dbss_buffer report;
    char *path, part[16];
    size_t len;
    set_up();
    config = regional_config();
    EXPECT(DBSS_OK, dbss_config_set_token(config, fixture("token")));
    ctx = context_from(config);
    EXPECT(DBSS_OK, dbss_report_download(ctx, NULL, fixture("instance"), fixture("pdf"), NULL, &report));
    dbss_buffer_free(&report);
    path = format("%s/report", home());
    EXPECT(DBSS_OK, dbss_report_download_to_file(ctx, NULL, fixture("instance"), fixture("pdf"), NULL, path, 0, NULL));
    unlink(path);
    free(path);
    EXPECT(DBSS_OK, dbss_report_open(ctx, NULL, fixture("instance"), fixture("pdf"), NULL, NULL, &stream));
    EXPECT(DBSS_OK, dbss_report_stream_read(stream, part, sizeof part, &len));
    dbss_report_stream_free(stream);
    CHECK(count_requests(LOOKUPS) == 1);
    dbss_context_free(ctx);
    tear_down();
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"provider_called_once_for_several_calls", provider_called_once_for_several_calls, PLAIN},
    {"provider_token_set_later_serves_all", provider_token_set_later_serves_all, PLAIN},
    {"provider_called_after_token_is_refused", provider_called_after_token_is_refused, PLAIN},
    {"provider_failure_fails_call", provider_failure_fails_call, PLAIN},
    {"provider_mistakes_are_reported", provider_mistakes_are_reported, PLAIN},
    {"provider_called_before_expiry", provider_called_before_expiry, LOAD},
    {"provider_wait_cancelled_for_one_call", provider_wait_cancelled_for_one_call, PLAIN},
    {"provider_wait_times_out", provider_wait_times_out, LOAD},
    {"provider_outlives_context", provider_outlives_context, PLAIN},
    {"provider_destroyed_once", provider_destroyed_once, PLAIN},
    {"provider_may_call_library", provider_may_call_library, PLAIN},
    {"provider_credentials_are_described", provider_credentials_are_described, PLAIN},
    {"login_shared_by_threads", login_shared_by_threads, LOAD},
    {"login_repeated_after_revocation", login_repeated_after_revocation, LOAD},
    {"login_repeated_during_downloads", login_repeated_during_downloads, LOAD},
    {"login_refused_is_not_repeated", login_refused_is_not_repeated, PLAIN},
    {"login_refused_to_many_threads_is_sent_once", login_refused_to_many_threads_is_sent_once, PLAIN},
    {"login_failure_is_reported", login_failure_is_reported, LOAD},
    {"login_is_retried", login_is_retried, PLAIN},
    {"login_without_document_looks_up_project", login_without_document_looks_up_project, PLAIN},
    {"login_unreachable_fails", login_unreachable_fails, LOAD},
    {"login_over_tls_checks_certificate", login_over_tls_checks_certificate, TLS},
    {"login_renewed_before_expiry", login_renewed_before_expiry, LOAD},
    {"login_renewal_failure_keeps_token", login_renewal_failure_keeps_token, LOAD},
    {"login_of_cancelled_call_is_repeated_by_another", login_of_cancelled_call_is_repeated_by_another, LOAD},
    {"login_waiter_is_cancelled_alone", login_waiter_is_cancelled_alone, LOAD},
    {"login_redirect_is_refused", login_redirect_is_refused, TLS},
    {"login_incomplete_is_refused", login_incomplete_is_refused, PLAIN},
    {"login_with_passcode_asks_for_each_login", login_with_passcode_asks_for_each_login, PLAIN},
    {"login_with_passcode_is_cancelled", login_with_passcode_is_cancelled, PLAIN},
    {"project_looked_up_once", project_looked_up_once, LOAD},
    {"project_looked_up_with_access_key", project_looked_up_with_access_key, PLAIN},
    {"project_unknown_or_ambiguous_fails", project_unknown_or_ambiguous_fails, PLAIN},
    {"project_lookup_failure_is_reported", project_lookup_failure_is_reported, LOAD},
    {"project_lookup_refused_is_not_repeated", project_lookup_refused_is_not_repeated, PLAIN},
    {"project_of_context_is_default", project_of_context_is_default, PLAIN},
    {"project_optional_in_every_call", project_optional_in_every_call, PLAIN},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
