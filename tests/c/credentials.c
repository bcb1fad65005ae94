/*
 * Tokens from a provider and from logins at IAM, and projects that are looked
 * up. See checks.h for how to run them.
 */

#define _POSIX_C_SOURCE 200809L

#include "identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A cancel ends a call within 100 ms; the rest is for a busy machine. */
#define CANCELLED_WITHIN_MS 400

/* ---------------------------------------------------------------------------
 * A token provider that does as it is told
 * ------------------------------------------------------------------------ */

enum answer { GIVE, HOLD, FAIL, DROP };

struct provider {
    enum answer answer;
    const char *token;
    int64_t expires_ms;
    const char *reason;
    /* What else it does; may be NULL. */
    void (*also)(struct provider *provider, dbss_token_request *request);

    int asked, refused, destroyed;
    dbss_token_request *held[8];
    int held_count;
};


static void provide(void *user_data, dbss_token_request *request)
{
    struct provider *provider = user_data, told;
    pthread_mutex_lock(&lock);
    provider->asked++;
    provider->refused += dbss_token_request_refused(request);
    told = *provider;
    if (told.answer == HOLD) {
        if (provider->held_count == 8)
            fatal("too many requests");
        provider->held[provider->held_count++] = request;
    }
    pthread_mutex_unlock(&lock);
    if (told.also != NULL)
        told.also(provider, request);
    if (told.answer == GIVE)
        CHECK(dbss_token_request_set(request, told.token, told.expires_ms) == DBSS_OK);
    else if (told.answer == FAIL)
        CHECK(dbss_token_request_fail(request, told.reason) == DBSS_OK);
    if (told.answer != HOLD)
        dbss_token_request_free(request);
}

static void destroy(void *user_data)
{
    struct provider *provider = user_data;
    add_locked(&provider->destroyed, 1);
}

static struct provider new_provider(enum answer answer, const char *token)
{
    struct provider provider;
    memset(&provider, 0, sizeof provider);
    provider.answer = answer;
    provider.token = token;
    provider.expires_ms = -1;
    return provider;
}

static dbss_config *provider_config(struct provider *provider)
{
    dbss_config *config = plain_config();
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, provider, destroy));
    return config;
}

/* Answers what it holds, and ends it. */
static void answer_held(struct provider *provider, int which, const char *token)
{
    EXPECT(DBSS_OK, dbss_token_request_set(provider->held[which], token, -1));
    dbss_token_request_free(provider->held[which]);
}

/* A token that the mock service takes, and that no message may hold; it is the same
 * for each number, so that nothing has to be freed. */
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

/* One download on a thread of its own. */
struct one {
    dbss_context *ctx;
    dbss_operation *operation;
    dbss_status expected;
    int begun, over;
    long long ended_ms;
    pthread_t thread;
};

static void *download_one(void *argument)
{
    struct one *one = argument;
    add_locked(&one->begun, 1);
    download_for(__LINE__, one->expected, one->ctx, fact("project"), one->operation);
    one->ended_ms = now_ms();
    add_locked(&one->over, 1);
    return NULL;
}

static void start_one(struct one *one, dbss_context *ctx, dbss_operation *operation, dbss_status expected)
{
    memset(one, 0, sizeof *one);
    one->ctx = ctx;
    one->operation = operation;
    one->expected = expected;
    one->thread = start_thread(download_one, one);
}

static void join_one(struct one *one)
{
    pthread_join(one->thread, NULL);
}

/* ---------------------------------------------------------------------------
 * Token providers
 * ------------------------------------------------------------------------ */

static void provider_at_once(void)
{
    struct provider provider;
    dbss_config *config;
    dbss_context *ctx, *other;
    int i;

    begin();
    provider = new_provider(GIVE, valid_token(0));
    config = provider_config(&provider);
    EXPECT(DBSS_OK, dbss_context_new(config, &other));
    ctx = to_context(config);
    /* Not before it is needed. */
    CHECK(provider.asked == 0);
    for (i = 0; i < 3; i++)
        DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.asked == 1 && provider.refused == 0);
    /* Each context has its own. */
    DOWNLOAD(DBSS_OK, other);
    CHECK(provider.asked == 2);
    dbss_context_free(ctx);
    CHECK(provider.destroyed == 0);
    dbss_context_free(other);
    CHECK(provider.destroyed == 1);
    end();
}

static void provider_later(void)
{
    enum { MANY = 16 };
    struct provider provider;
    struct one all[MANY];
    dbss_context *ctx;
    int i;

    begin();
    provider = new_provider(HOLD, NULL);
    ctx = to_context(provider_config(&provider));
    for (i = 0; i < MANY; i++)
        start_one(&all[i], ctx, NULL, DBSS_OK);
    for (i = 0; i < MANY; i++)
        WAIT_FOR(read_locked(&all[i].begun));
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    /* None can be over: there is no token. */
    for (i = 0; i < MANY; i++)
        CHECK(!read_locked(&all[i].over));
    answer_held(&provider, 0, valid_token(0));
    for (i = 0; i < MANY; i++)
        join_one(&all[i]);
    CHECK(provider.asked == 1);
    dbss_context_free(ctx);
    CHECK(provider.destroyed == 1);
    end();
}

static void provider_after_a_refusal(void)
{
    struct provider provider;
    dbss_context *ctx;

    begin();
    provider = new_provider(GIVE, valid_token(0));
    ctx = to_context(provider_config(&provider));
    DOWNLOAD(DBSS_OK, ctx);
    revoke(provider.token);
    provider.token = valid_token(1);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.asked == 2 && provider.refused == 1);
    CHECK(count_answers(fact("pdf"), 401) == 1 && count_answers(fact("pdf"), 200) == 2);

    /* It gives the refused one again: one more request for a token, and that
     * is all, whatever the attempts. */
    revoke(provider.token);
    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
    CHECK(provider.asked == 3 && provider.refused == 2);
    CHECK(count_answers(fact("pdf"), 401) <= 3);
    /* And the next call goes on as soon as there is another. */
    provider.token = valid_token(2);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.asked == 4 && provider.refused == 3);
    dbss_context_free(ctx);
    end();
}

static void answer_wrongly(struct provider *provider, dbss_token_request *request)
{
    (void)provider;
    EXPECT_NULL("token", dbss_token_request_set(request, NULL, -1));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "expires_ms", dbss_token_request_set(request, "t", -2));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "message", dbss_token_request_fail(request, "\xff"));
}

static const char *wrong_token;
static int64_t wrong_expiry;

static void answer_with_no_token(struct provider *provider, dbss_token_request *request)
{
    (void)provider;
    CHECK(dbss_token_request_set(request, wrong_token, wrong_expiry) == DBSS_ERR_INVALID_TOKEN);
}

static void answer_again(struct provider *provider, dbss_token_request *request)
{
    CHECK(dbss_token_request_set(request, provider->token, -1) == DBSS_OK);
    CHECK(dbss_token_request_set(request, "another", -1) == DBSS_ERR_ARGUMENT);
    CHECK(dbss_token_request_fail(request, "another") == DBSS_ERR_ARGUMENT);
}

/* Later, and on another thread, each mistake is told too. */
static void provider_is_told_what_is_wrong(void)
{
    struct provider provider;
    struct one one;
    dbss_context *ctx;

    begin();
    provider = new_provider(HOLD, NULL);
    ctx = to_context(provider_config(&provider));
    start_one(&one, ctx, NULL, DBSS_OK);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    EXPECT_NULL("token", dbss_token_request_set(provider.held[0], NULL, -1));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "expires_ms", dbss_token_request_set(provider.held[0], "t", -2));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "message", dbss_token_request_fail(provider.held[0], "\xff"));
    CHECK(!read_locked(&one.over));
    EXPECT(DBSS_OK, dbss_token_request_set(provider.held[0], valid_token(0), INT64_MAX));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "request", dbss_token_request_set(provider.held[0], "another", -1));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "request", dbss_token_request_fail(provider.held[0], NULL));
    dbss_token_request_free(provider.held[0]);
    join_one(&one);

    start_one(&one, ctx, NULL, DBSS_OK);
    join_one(&one);
    CHECK(provider.asked == 1);
    dbss_context_free(ctx);

    provider = new_provider(HOLD, NULL);
    ctx = to_context(provider_config(&provider));
    start_one(&one, ctx, NULL, DBSS_ERR_NO_TOKEN);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_token_request_set(provider.held[0], "no token", -1));
    dbss_token_request_free(provider.held[0]);
    join_one(&one);
    start_one(&one, ctx, NULL, DBSS_ERR_NO_TOKEN);
    WAIT_FOR(read_locked(&provider.held_count) == 2);
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "expires_ms", dbss_token_request_set(provider.held[1], "token", 0));
    dbss_token_request_free(provider.held[1]);
    join_one(&one);
    dbss_context_free(ctx);
    end();
}

static void provider_fails(void)
{
    static const struct {
        enum answer answer;
        const char *reason, *says;
    } ways[] = {{FAIL, "the vault is sealed", "the vault is sealed"}, {FAIL, NULL, "token provider"},
                {FAIL, "two\nlines\x1b[31m", "two"}, {DROP, NULL, "without a result"}};
    struct provider provider;
    dbss_context *ctx;
    size_t i;
    long connections;

    begin();
    provider = new_provider(FAIL, valid_token(0));
    ctx = to_context(provider_config(&provider));
    connections = count_connections();
    for (i = 0; i < sizeof ways / sizeof *ways; i++) {
        provider.answer = ways[i].answer;
        provider.reason = ways[i].reason;
        DOWNLOAD(DBSS_ERR_NO_TOKEN, ctx);
        SAYS(ways[i].says);
        CHECK(dbss_error_message(dbss_last_error())[strcspn(dbss_error_message(dbss_last_error()), "\n\x1b")] == '\0');
        CHECK(provider.asked == (int)i + 1);
    }
    /* What is no token is refused where it is given, and for who waits. */
    provider.answer = DROP;
    provider.also = answer_with_no_token;
    for (i = 0; i < 4; i++) {
        wrong_token = i == 0 ? "" : i == 1 ? "no-token-with a-space" : i == 2 ? "no-token-with\nline" : provider.token;
        wrong_expiry = i < 3 ? -1 : unix_ms() - 60000;
        DOWNLOAD(DBSS_ERR_NO_TOKEN, ctx);
        CHECK(where_in_error(dbss_last_error(), "no-token-with") == NULL);
    }
    CHECK(count_connections() == connections);

    /* A wrong argument is no answer. */
    provider.also = answer_wrongly;
    provider.answer = GIVE;
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);

    provider = new_provider(DROP, provider.token);
    provider.also = answer_again;
    ctx = to_context(provider_config(&provider));
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.asked == 1);
    dbss_context_free(ctx);
    end();
}

static void provider_before_expiry(void)
{
    struct provider provider;
    long long begun;
    dbss_context *ctx;

    begin();
    provider = new_provider(GIVE, valid_token(0));
    provider.expires_ms = unix_ms() + 3000;
    ctx = to_context(provider_config(&provider));
    begun = now_ms();
    DOWNLOAD(DBSS_OK, ctx);
    /* The last token of its kind, so to speak. */
    pthread_mutex_lock(&lock);
    provider.token = valid_token(1);
    provider.expires_ms = -1;
    pthread_mutex_unlock(&lock);
    while (provider.asked == 1 && !has_failed() && now_ms() - begun < PATIENCE_MS) {
        DOWNLOAD(DBSS_OK, ctx);
        pause_briefly();
    }
    /* Shortly before the end, and not at each call until then. */
    CHECK(provider.asked == 2 && provider.refused == 0 && now_ms() - begun >= 2000);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.asked == 2 && count_answers(fact("pdf"), 401) == 0);
    dbss_context_free(ctx);
    end();
}

/* Of two that wait one is cancelled; the other gets the token when it comes. */
static void provider_and_cancel(void)
{
    int asker;
    for (asker = 0; asker < 2; asker++) {
        struct provider provider;
        dbss_operation *operations[2];
        struct one both[2];
        dbss_context *ctx;
        long long since;
        int i;

        begin();
        provider = new_provider(HOLD, NULL);
        ctx = to_context(provider_config(&provider));
        for (i = 0; i < 2; i++) {
            operations[i] = new_operation();
            start_one(&both[i], ctx, operations[i], i == asker ? DBSS_ERR_CANCELLED : DBSS_OK);
            WAIT_FOR(read_locked(&both[i].begun) && read_locked(&provider.held_count) == 1);
        }
        since = now_ms();
        dbss_operation_cancel(operations[asker]);
        join_one(&both[asker]);
        if (both[asker].ended_ms - since > CANCELLED_WITHIN_MS)
            failed("it ended after %lld ms", both[asker].ended_ms - since);
        CHECK(!read_locked(&both[1 - asker].over));
        answer_held(&provider, 0, valid_token(0));
        join_one(&both[1 - asker]);
        CHECK(provider.asked == 1);
        for (i = 0; i < 2; i++)
            dbss_operation_free(operations[i]);
        dbss_context_free(ctx);
        end();
    }
}

static void provider_and_timeouts(void)
{
    struct provider provider;
    dbss_operation *operation;
    dbss_context *ctx;
    long long since;

    begin();
    operation = new_operation();
    provider = new_provider(HOLD, NULL);
    ctx = to_context(provider_config(&provider));

    /* After a total timeout the request is still under way. */
    EXPECT(DBSS_OK, dbss_operation_set(operation, "total_timeout_ms", "300"));
    since = now_ms();
    download_for(__LINE__, DBSS_ERR_TOTAL_TIMEOUT, ctx, fact("project"), operation);
    CHECK(now_ms() - since >= 290 && now_ms() - since < 3000);
    EXPECT(DBSS_OK, dbss_operation_set(operation, "total_timeout_ms", "-1"));

    EXPECT(DBSS_OK, dbss_operation_set(operation, "stall_timeout_ms", "300"));
    since = now_ms();
    download_for(__LINE__, DBSS_ERR_STALLED, ctx, fact("project"), operation);
    CHECK(now_ms() - since >= 290 && now_ms() - since < 3000);
    CHECK(provider.asked == 1);

    /* After this one the next call asks anew. */
    provider.answer = GIVE;
    provider.token = valid_token(0);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.asked == 2);
    /* What comes now comes too late, and is a token of nobody. */
    EXPECT(DBSS_OK, dbss_token_request_set(provider.held[0], "a-token-that-came-too-late", -1));
    dbss_token_request_free(provider.held[0]);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.asked == 2 && count_answers(fact("pdf"), 401) == 0);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    end();
}

static void provider_outlives_its_context(void)
{
    struct provider provider;
    dbss_operation *operation;
    struct one one;
    dbss_context *ctx;

    begin();
    provider = new_provider(HOLD, NULL);
    ctx = to_context(provider_config(&provider));
    start_one(&one, ctx, NULL, DBSS_OK);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    dbss_context_free(ctx);
    CHECK(provider.destroyed == 0);
    answer_held(&provider, 0, valid_token(0));
    join_one(&one);
    WAIT_FOR(read_locked(&provider.destroyed) == 1);

    /* Nobody waits any more when the answer comes. */
    provider = new_provider(HOLD, NULL);
    operation = new_operation();
    ctx = to_context(provider_config(&provider));
    start_one(&one, ctx, operation, DBSS_ERR_CANCELLED);
    WAIT_FOR(read_locked(&provider.held_count) == 1);
    dbss_operation_cancel(operation);
    join_one(&one);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    EXPECT(DBSS_OK, dbss_token_request_set(provider.held[0], "whatever", -1));
    dbss_token_request_free(provider.held[0]);
    WAIT_FOR(read_locked(&provider.destroyed) == 1);
    end();
}

static void provider_is_destroyed_once(void)
{
    struct provider first, second, third;
    dbss_config *config;
    dbss_context *ctx;

    begin();
    first = new_provider(GIVE, valid_token(0));
    second = new_provider(GIVE, valid_token(0));
    third = new_provider(GIVE, valid_token(0));
    config = provider_config(&first);
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, &second, destroy));
    CHECK(first.destroyed == 1 && second.destroyed == 0);
    EXPECT(DBSS_OK, dbss_context_new(config, &ctx));
    /* Other credentials take its place, and the context keeps it. */
    EXPECT(DBSS_OK, dbss_config_set_token(config, "token"));
    CHECK(second.destroyed == 0);
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, &third, destroy));
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, NULL, NULL, NULL));
    CHECK(third.destroyed == 1);
    EXPECT_NULL("config", dbss_config_set_token_provider(NULL, provide, &third, destroy));
    CHECK(third.destroyed == 2);
    /* Without a function there is nothing to call, but data to destroy. */
    EXPECT(DBSS_OK, dbss_config_set_token_provider(config, NULL, &third, destroy));
    CHECK(third.destroyed == 3);
    dbss_config_free(config);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(second.destroyed == 0);
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, fact("token")));
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);
    CHECK(first.destroyed == 1 && second.destroyed == 1 && third.destroyed == 3);
    CHECK(second.asked == 1);
    end();
}

static dbss_context *other_context;

/* Anything but the same context's calls. */
static void meddle(struct provider *provider, dbss_token_request *request)
{
    dbss_config *config;
    dbss_operation *operation = new_operation();
    (void)provider;
    CHECK(dbss_token_request_refused(request) == 0);
    DOWNLOAD(DBSS_OK, other_context);
    EXPECT(DBSS_OK, dbss_context_set_token(other_context, fact("token")));
    EXPECT(DBSS_OK, dbss_config_new(&config));
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_config_set(config, "no_such_key", "x"));
    dbss_config_free(config);
    CHECK(dbss_operation_received(operation) == 0);
    dbss_operation_free(operation);
    dbss_context_cancel_all(NULL);
}

static void provider_calls_others(void)
{
    struct provider provider;
    dbss_context *ctx;

    begin();
    other_context = to_context(new_config(fact("http"), fact("token")));
    provider = new_provider(GIVE, valid_token(0));
    provider.also = meddle;
    ctx = to_context(provider_config(&provider));
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(dbss_last_error() == NULL);
    dbss_context_free(ctx);

    provider = new_provider(FAIL, NULL);
    provider.reason = "my own reason";
    provider.also = meddle;
    ctx = to_context(provider_config(&provider));
    DOWNLOAD(DBSS_ERR_NO_TOKEN, ctx);
    SAYS("my own reason");
    dbss_context_free(ctx);
    dbss_context_free(other_context);
    end();
}

static void provider_is_found(void)
{
    struct provider provider;
    dbss_credentials *found;
    dbss_context *ctx;

    begin();
    provider = new_provider(GIVE, valid_token(0));
    provider.expires_ms = unix_ms() + 3600000;
    ctx = to_context(provider_config(&provider));
    if (EXPECT(DBSS_OK, dbss_context_find_credentials(ctx, NULL, &found)) == DBSS_OK) {
        expect_text(__LINE__, "token_provider", dbss_credentials_source(found));
        CHECK(*dbss_credentials_description(found) != '\0');
        CHECK(strstr(dbss_credentials_description(found), provider.token) == NULL);
        CHECK(dbss_credentials_name(found) == NULL && dbss_credentials_project(found) == NULL);
        CHECK(dbss_credentials_expires_ms(found) / 1000 - provider.expires_ms / 1000 <= 1);
        dbss_credentials_free(found);
    }
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(provider.asked == 1);
    dbss_context_free(ctx);
    end();
}

/* ---------------------------------------------------------------------------
 * Logins
 * ------------------------------------------------------------------------ */

/* The text as JSON has it: the mock service's password needs it. */
static char *in_json(const char *text)
{
    char *json = malloc(strlen(text) * 2 + 1), *to = json;
    if (json == NULL)
        fatal("no memory");
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            *to++ = '\\';
        *to++ = *text;
    }
    *to = '\0';
    return json;
}

static void login_once(void)
{
    dbss_context *ctx;
    dbss_credentials *found;
    char *password, *body, *expected, *type, *project;
    int64_t ahead;
    int by_id;

    for (by_id = 0; by_id < 2; by_id++) {
        dbss_config *config;
        begin();
        config = login_config();
        if (by_id)
            set(config, "project_id", fact("project"));
        ctx = to_context(config);
        crowd(ctx, by_id ? fact("project") : NULL, 32, 3, NULL);
        CHECK(count_requests(LOGINS) == 1 && count_requests(LOOKUPS) == 0);
        CHECK(count_answers(fact("pdf"), 200) == 96 && count_requests(fact("pdf")) == 96);

        password = in_json(fact("password"));
        project = by_id ? format("\"id\":\"%s\"", fact("project")) : format("\"name\":\"%s\"", fact("region"));
        expected = format("{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":{\"name\":\"%s\","
                          "\"password\":\"%s\",\"domain\":{\"name\":\"%s\"}}}},\"scope\":{\"project\":{%s}}}}",
                          fact("user"), password, fact("domain"), project);
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
            expect_text(__LINE__, fact("user"), dbss_credentials_name(found));
            expect_text(__LINE__, fact("project"), dbss_credentials_project(found));
            CHECK(strstr(dbss_credentials_description(found), fact("iam")) != NULL);
            ahead = dbss_credentials_expires_ms(found) - unix_ms();
            CHECK(ahead > 23 * 3600000LL && ahead <= 24 * 3600000LL + 60000);
            dbss_credentials_free(found);
        }
        CHECK(count_requests(LOGINS) == 1);
        dbss_context_free(ctx);
        end();
    }
}

static void revoke_issued(void)
{
    free(control("DELETE", "/tokens", "{\"issued\": true}"));
}

static void login_after_a_revocation(void)
{
    dbss_context *ctx;
    begin();
    ctx = to_context(login_config());
    crowd(ctx, NULL, 32, 6, revoke_issued);
    /* The first, and one after each of the five. */
    CHECK(count_requests(LOGINS) == 6);
    dbss_context_free(ctx);
    end();
}

static dbss_context *busy_context;
static int busy_ends;

struct busy {
    int done;
    pthread_t thread;
};

static void *download_until_told(void *argument)
{
    struct busy *busy = argument;
    while (!read_locked(&busy_ends)) {
        DOWNLOAD_NOWHERE(DBSS_OK, busy_context);
        add_locked(&busy->done, 1);
    }
    return NULL;
}

/* Waits until each of them has made two more downloads: then every call that
 * was under way is over. */
static void wait_for_two_more(struct busy *all, int count)
{
    int i, before[32];
    for (i = 0; i < count; i++)
        before[i] = read_locked(&all[i].done);
    for (i = 0; i < count; i++)
        WAIT_FOR(read_locked(&all[i].done) >= before[i] + 2);
}

/* Tokens are revoked while 32 threads download, at any moment. */
static void login_during_downloads(void)
{
    enum { MANY = 32 };
    struct busy all[MANY];
    int i;

    begin();
    busy_context = to_context(login_config());
    busy_ends = 0;
    memset(all, 0, sizeof all);
    for (i = 0; i < MANY; i++)
        all[i].thread = start_thread(download_until_told, &all[i]);
    wait_for_two_more(all, MANY);
    for (i = 1; i <= 5 && !has_failed(); i++) {
        revoke_issued();
        wait_for_two_more(all, MANY);
        if (count_requests(LOGINS) != i + 1)
            failed("%ld logins after %d revocations", count_requests(LOGINS), i);
    }
    add_locked(&busy_ends, 1);
    for (i = 0; i < MANY; i++)
        pthread_join(all[i].thread, NULL);
    dbss_context_free(busy_context);
    end();
}

static void login_refused(void)
{
    dbss_credentials *found = (dbss_credentials *)&found;
    dbss_config *config;
    dbss_context *ctx, *other;
    int i;

    begin();
    watch_secret("a-wrong-password");
    config = login_config();
    set(config, "max_attempts", "5");
    EXPECT(DBSS_OK, dbss_config_set_iam_user(config, fact("user"), "a-wrong-password", fact("domain")));
    EXPECT(DBSS_OK, dbss_context_new(config, &other));
    ctx = to_context(config);
    for (i = 0; i < 3; i++) {
        DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, ctx);
        SAYS("The username or password is wrong");
        SAYS(fact("user"));
        CHECK(dbss_error_http_status(dbss_last_error()) == 401);
        CHECK(dbss_error_is_retryable(dbss_last_error()) == 0);
        CHECK(dbss_error_request_id(dbss_last_error()) != NULL);
    }
    EXPECT(DBSS_ERR_UNAUTHENTICATED, dbss_context_find_credentials(ctx, NULL, &found));
    CHECK(found == NULL);
    EXPECT(DBSS_ERR_UNAUTHENTICATED, dbss_context_check(ctx, fact("project"), NULL));
    SAYS("The username or password is wrong");
    /* One request, as several lock a user. */
    CHECK(count_requests(LOGINS) == 1 && count_requests(fact("pdf")) == 0);
    /* A token can still take its place. */
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, fact("token")));
    DOWNLOAD(DBSS_OK, ctx);
    dbss_context_free(ctx);

    DOWNLOAD(DBSS_ERR_UNAUTHENTICATED, other);
    CHECK(count_requests(LOGINS) == 2);
    dbss_context_free(other);
    end();
}

/* Many at once with a wrong password: still one request. */
static void login_refused_to_many(void)
{
    enum { MANY = 16 };
    struct one all[MANY];
    dbss_config *config;
    dbss_context *ctx;
    int i;
    begin();
    config = login_config();
    EXPECT(DBSS_OK, dbss_config_set_iam_user(config, fact("user"), "a-wrong-password", fact("domain")));
    ctx = to_context(config);
    for (i = 0; i < MANY; i++)
        start_one(&all[i], ctx, NULL, DBSS_ERR_UNAUTHENTICATED);
    for (i = 0; i < MANY; i++)
        join_one(&all[i]);
    CHECK(count_requests(LOGINS) == 1);
    dbss_context_free(ctx);
    end();
}

static void login_fails(void)
{
    static const struct {
        const char *fault;
        dbss_status status;
        const char *says;
        /* The next call logs in. */
        int passes;
    } ways[] = {
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
    for (i = 0; i < sizeof ways / sizeof *ways; i++) {
        dbss_config *config;
        dbss_context *ctx;
        long long since;
        begin();
        config = login_config();
        set(config, "stall_timeout_ms", "500");
        ctx = to_context(config);
        post_fault(LOGINS, "%s, \"times\": 1", ways[i].fault);
        since = now_ms();
        DOWNLOAD(ways[i].status, ctx);
        SAYS(ways[i].says);
        CHECK(now_ms() - since < 5000);
        CHECK(where_in_error(dbss_last_error(), "no-token-with") == NULL);
        CHECK(count_requests(LOGINS) == 1 && count_requests(fact("pdf")) == 0);
        free(control("DELETE", "/faults", ""));
        DOWNLOAD(ways[i].passes ? DBSS_OK : ways[i].status, ctx);
        CHECK(count_requests(LOGINS) == (ways[i].passes ? 2 : 1));
        blame("IAM did: %s", ways[i].fault);
        dbss_context_free(ctx);
        end();
    }
}

static void login_is_tried_again(void)
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
        begin();
        config = login_config();
        set(config, "max_attempts", "3");
        ctx = to_context(config);
        post_fault(LOGINS, "%s, \"times\": 2", faults[i]);
        DOWNLOAD(DBSS_OK, ctx);
        CHECK(count_requests(LOGINS) == 3);
        blame("IAM did: %s", faults[i]);
        dbss_context_free(ctx);
        end();
    }
}

static void login_without_its_document(void)
{
    static const char *const bodies[] = {"not JSON", "", "[]", "{\\\"token\\\": 7}"};
    size_t i;
    for (i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        dbss_context *ctx;
        begin();
        ctx = to_context(login_config());
        post_fault(LOGINS, "\"status\": 201, \"headers\": [[\"X-Subject-Token\", \"%s\"]], \"body\": \"%s\", \"times\": 1",
                   fact("token"), bodies[i]);
        /* The token alone is enough, and the project is looked up. */
        DOWNLOAD_NOWHERE(DBSS_OK, ctx);
        CHECK(count_requests(LOGINS) == 1 && count_requests(LOOKUPS) == 1);
        blame("IAM's document was: %s", bodies[i]);
        dbss_context_free(ctx);
        end();
    }
}

static void login_at_nobody(void)
{
    dbss_config *config;
    dbss_context *ctx;
    long long since;
    begin();
    config = login_config();
    set(config, "iam_endpoint", "http://127.0.0.1:1");
    ctx = to_context(config);
    DOWNLOAD(DBSS_ERR_CONNECT, ctx);
    SAYS("127.0.0.1:1");
    dbss_context_free(ctx);

    config = login_config();
    set(config, "iam_endpoint", fact("never_accepts"));
    set(config, "connect_timeout_ms", "300");
    ctx = to_context(config);
    since = now_ms();
    DOWNLOAD(DBSS_ERR_CONNECT_TIMEOUT, ctx);
    CHECK(now_ms() - since < 3000);
    dbss_context_free(ctx);
    end();
}

static void login_over_tls(void)
{
    dbss_config *config;
    dbss_context *ctx;
    begin();
    config = login_config();
    set(config, "iam_endpoint", fact("iam_https"));
    set(config, "endpoint", fact("https"));
    ctx = to_context(config);
    DOWNLOAD_NOWHERE(DBSS_OK, ctx);
    dbss_context_free(ctx);
    /* The service may be plain where it is on this machine, and IAM not. */
    config = login_config();
    set(config, "iam_endpoint", fact("iam_https"));
    ctx = to_context(config);
    DOWNLOAD_NOWHERE(DBSS_OK, ctx);
    dbss_context_free(ctx);
    config = login_config();
    set(config, "iam_endpoint", fact("https_self_signed"));
    ctx = to_context(config);
    DOWNLOAD_NOWHERE(DBSS_ERR_CERTIFICATE, ctx);
    dbss_context_free(ctx);
    /* A password goes over no network in the clear. */
    config = login_config();
    set(config, "iam_endpoint", "http://192.0.2.1");
    NO_CONTEXT(DBSS_ERR_PLAINTEXT_REFUSED, "iam_endpoint", config);
    end();
}

static void login_before_expiry(void)
{
    long long begun;
    dbss_context *ctx;
    begin();
    /* IAM's clock is read from the header Date, so to the second. */
    post("/iam", "{\"token_lifetime_ms\": 4500, \"announced_lifetime_ms\": 3000}");
    ctx = to_context(login_config());
    begun = now_ms();
    while (count_requests(LOGINS) < 3 && !has_failed() && now_ms() - begun < PATIENCE_MS)
        DOWNLOAD_NOWHERE(DBSS_OK, ctx);
    CHECK(count_requests(LOGINS) == 3 && now_ms() - begun >= 3000);
    CHECK(count_answers(fact("pdf"), 401) == 0);
    dbss_context_free(ctx);
    end();
}

static void login_fails_before_expiry(void)
{
    long long begun;
    long logins;
    dbss_context *ctx;
    begin();
    post("/iam", "{\"announced_lifetime_ms\": 5000}");
    ctx = to_context(login_config());
    begun = now_ms();
    DOWNLOAD_NOWHERE(DBSS_OK, ctx);
    post_fault(LOGINS, "\"status\": 503, \"body\": \"\"");
    while (!logged("failed to refresh") && !has_failed() && now_ms() - begun < PATIENCE_MS) {
        DOWNLOAD_NOWHERE(DBSS_OK, ctx);
        pause_briefly();
    }
    CHECK(logged("failed to refresh"));
    /* Nor is it tried again at each call. */
    logins = count_requests(LOGINS);
    CHECK(logins == 2);
    dbss_context_free(ctx);
    end();
}

/* The one that logs in is cancelled, and another does it. */
static void login_of_a_cancelled_call(void)
{
    enum { MANY = 8 };
    struct one leader, all[MANY];
    dbss_operation *operation;
    dbss_context *ctx;
    long long since;
    int i;

    begin();
    operation = new_operation();
    ctx = to_context(login_config());
    post_fault(LOGINS, "\"no_answer\": true, \"times\": 1");
    start_one(&leader, ctx, operation, DBSS_ERR_CANCELLED);
    WAIT_FOR(count_requests(LOGINS) == 1);
    for (i = 0; i < MANY; i++)
        start_one(&all[i], ctx, NULL, DBSS_OK);
    for (i = 0; i < MANY; i++)
        WAIT_FOR(read_locked(&all[i].begun));
    since = now_ms();
    dbss_operation_cancel(operation);
    join_one(&leader);
    if (leader.ended_ms - since > CANCELLED_WITHIN_MS)
        failed("it ended after %lld ms", leader.ended_ms - since);
    for (i = 0; i < MANY; i++)
        join_one(&all[i]);
    CHECK(count_requests(LOGINS) == 2);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    end();
}

/* Whoever waits for another's login can be cancelled alone. */
static void login_that_others_wait_for(void)
{
    struct one leader, waiter;
    dbss_operation *operation;
    dbss_context *ctx;
    long long since;
    begin();
    operation = new_operation();
    ctx = to_context(login_config());
    post_fault(LOGINS, "\"delay_ms\": 1500, \"after_auth\": true, \"times\": 1");
    start_one(&leader, ctx, NULL, DBSS_OK);
    WAIT_FOR(count_requests(LOGINS) == 1);
    start_one(&waiter, ctx, operation, DBSS_ERR_CANCELLED);
    WAIT_FOR(read_locked(&waiter.begun));
    since = now_ms();
    dbss_operation_cancel(operation);
    join_one(&waiter);
    CHECK(waiter.ended_ms - since < CANCELLED_WITHIN_MS);
    join_one(&leader);
    CHECK(count_requests(LOGINS) == 1);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    end();
}

/* What goes to another origin has no password. */
static void login_redirected(void)
{
    int follow;
    for (follow = 0; follow < 2; follow++) {
        dbss_config *config;
        dbss_context *ctx;
        char *all;
        begin();
        config = login_config();
        set(config, "follow_redirects", follow ? "true" : "false");
        ctx = to_context(config);
        post_fault(LOGINS, "\"status\": 307, \"times\": 1, \"headers\": [[\"Location\", \"%s/v3/auth/tokens\"]]",
                   fact("iam_https"));
        DOWNLOAD(DBSS_ERR_REDIRECTED, ctx);
        all = control("GET", "/requests", "");
        CHECK(strstr(all, "\"listener\":\"iam_https\"") == NULL);
        free(all);
        dbss_context_free(ctx);
        end();
    }
}

static void half_a_login(void)
{
    static const char *const keys[] = {"iam_user", "iam_password", "iam_domain"};
    dbss_config *config;
    int i, j;
    begin();
    for (i = 0; i < 3; i++) {
        config = regional_config();
        for (j = 0; j < 3; j++)
            if (j != i)
                set(config, keys[j], "a-part-of-it");
        NO_CONTEXT(DBSS_ERR_NOT_CONFIGURED, keys[i], config);
    }
    /* A token is for a project. */
    config = plain_config();
    EXPECT(DBSS_OK, dbss_config_set_iam_user(config, "u", "p", "d"));
    NO_CONTEXT(DBSS_ERR_NOT_CONFIGURED, NULL, config);
    config = plain_config();
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "user", dbss_config_set_iam_user(config, "", "p", "d"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "password", dbss_config_set_iam_user(config, "u", "", "d"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "domain", dbss_config_set_iam_user(config, "u", "p", "\xff"));
    dbss_config_free(config);
    end();
}

/* ---------------------------------------------------------------------------
 * Projects
 * ------------------------------------------------------------------------ */

static void project_once(void)
{
    dbss_config *config;
    dbss_context *ctx;
    char *query;
    begin();
    config = regional_config();
    EXPECT(DBSS_OK, dbss_config_set_token(config, fact("token")));
    ctx = to_context(config);
    crowd(ctx, NULL, 16, 5, NULL);
    CHECK(count_requests(LOOKUPS) == 1 && count_answers(fact("pdf"), 200) == 80);
    query = control("GET", "/requests?report=" LOOKUPS, "");
    CHECK(strstr(query, "\"query\":\"name=cn-north-4\"") != NULL);
    free(query);
    /* Where one is given none is looked up. */
    dbss_context_free(ctx);
    config = regional_config();
    EXPECT(DBSS_OK, dbss_config_set_token(config, fact("token")));
    ctx = to_context(config);
    DOWNLOAD(DBSS_OK, ctx);
    CHECK(count_requests(LOOKUPS) == 1);
    dbss_context_free(ctx);
    end();
}

static void project_with_an_access_key(void)
{
    dbss_config *config;
    dbss_context *ctx;
    char *header;
    begin();
    config = regional_config();
    EXPECT(DBSS_OK, dbss_config_set_access_key(config, fact("access_key"), fact("secret_key"), NULL));
    ctx = to_context(config);
    DOWNLOAD_NOWHERE(DBSS_OK, ctx);
    DOWNLOAD_NOWHERE(DBSS_OK, ctx);
    CHECK(count_requests(LOOKUPS) == 1);
    CHECK(signed_with(LOOKUPS, fact("access_key")) && signed_with(fact("pdf"), fact("access_key")));
    header = last_header(LOOKUPS, "X-Project-Id");
    CHECK(header == NULL);
    header = last_header(fact("pdf"), "X-Project-Id");
    expect_text(__LINE__, fact("project"), header);
    free(header);

    /* A token may be another account's. */
    EXPECT(DBSS_OK, dbss_context_set_token(ctx, fact("token")));
    DOWNLOAD_NOWHERE(DBSS_OK, ctx);
    CHECK(count_requests(LOOKUPS) == 2 && !signed_with(LOOKUPS, fact("access_key")));
    dbss_context_free(ctx);
    end();
}

static dbss_context *lookup_context(const char *region)
{
    dbss_config *config = regional_config();
    set(config, "region", region);
    set(config, "stall_timeout_ms", "500");
    EXPECT(DBSS_OK, dbss_config_set_token(config, fact("token")));
    return to_context(config);
}

static void project_unknown(void)
{
    dbss_context *ctx;
    long connections;
    begin();
    ctx = lookup_context("xx-nowhere-1");
    DOWNLOAD_NOWHERE(DBSS_ERR_NOT_CONFIGURED, ctx);
    expect_text(__LINE__, "project", dbss_error_parameter(dbss_last_error()));
    SAYS("xx-nowhere-1");
    CHECK(count_requests(fact("pdf")) == 0);
    dbss_context_free(ctx);

    post("/projects", "{\"name\": \"%s\"}", "xx-twin-1");
    post("/projects", "{\"name\": \"%s\"}", "xx-twin-1");
    ctx = lookup_context("xx-twin-1");
    DOWNLOAD_NOWHERE(DBSS_ERR_NOT_CONFIGURED, ctx);
    expect_text(__LINE__, "project", dbss_error_parameter(dbss_last_error()));
    SAYS("several");
    /* It was not that it is remembered. */
    free(control("DELETE", "/projects", ""));
    post("/projects", "{\"name\": \"%s\"}", "xx-twin-1");
    DOWNLOAD_NOWHERE(DBSS_ERR_FORBIDDEN, ctx);
    dbss_context_free(ctx);

    ctx = to_context(new_config(fact("http"), fact("token")));
    connections = count_connections();
    DOWNLOAD_NOWHERE(DBSS_ERR_NOT_CONFIGURED, ctx);
    expect_text(__LINE__, "project", dbss_error_parameter(dbss_last_error()));
    CHECK(count_connections() == connections);
    dbss_context_free(ctx);
    end();
}

static void project_lookup_fails(void)
{
    static const struct {
        const char *fault;
        dbss_status status;
        const char *says;
    } ways[] = {
        {"\"status\": 503, \"json\": {\"error\": {\"code\": 503, \"message\": \"IAM rests\"}}", DBSS_ERR_SERVER,
         "IAM rests"},
        {"\"status\": 403, \"body\": \"\"", DBSS_ERR_FORBIDDEN, "IAM"},
        {"\"body\": \"not JSON\"", DBSS_ERR_UNEXPECTED_RESPONSE, "IAM"},
        {"\"json\": {\"projects\": [{\"name\": \"cn-north-4\"}]}", DBSS_ERR_UNEXPECTED_RESPONSE, "IAM"},
        {"\"fill\": {\"size\": 100000000000}", DBSS_ERR_UNEXPECTED_RESPONSE, "IAM"},
        {"\"no_answer\": true", DBSS_ERR_STALLED, ""},
        {"\"gzip\": true", DBSS_ERR_CONTENT_ENCODING, ""},
        /* No id that could stand in a path. */
        {"\"json\": {\"projects\": [{\"name\": \"cn-north-4\", \"id\": \"../../x\"}]}", DBSS_ERR_INVALID_ID, "project"},
    };
    size_t i;
    for (i = 0; i < sizeof ways / sizeof *ways; i++) {
        dbss_context *ctx;
        long long since;
        begin();
        ctx = lookup_context(fact("region"));
        post_fault(LOOKUPS, "%s, \"times\": 1", ways[i].fault);
        since = now_ms();
        DOWNLOAD_NOWHERE(ways[i].status, ctx);
        SAYS(ways[i].says);
        CHECK(now_ms() - since < 5000);
        CHECK(count_requests(fact("pdf")) == 0 && count_requests(LOOKUPS) == 1);
        blame("IAM did: %s", ways[i].fault);
        dbss_context_free(ctx);
        end();
    }
}

static void project_lookup_refused(void)
{
    dbss_config *config;
    dbss_context *ctx;
    begin();
    config = regional_config();
    set(config, "max_attempts", "10");
    EXPECT(DBSS_OK, dbss_config_set_token(config, "a-token-of-nobody"));
    watch_secret("a-token-of-nobody");
    ctx = to_context(config);
    DOWNLOAD_NOWHERE(DBSS_ERR_UNAUTHENTICATED, ctx);
    CHECK(count_requests(LOOKUPS) == 1);
    dbss_context_free(ctx);
    end();
}

/* The call's own, the option, the credentials'. */
static void project_of_the_context(void)
{
    dbss_credentials *found;
    dbss_config *config;
    dbss_context *ctx;
    begin();
    config = regional_config();
    set(config, "project_id", "no-project-0123456789-0123456789-x");
    EXPECT(DBSS_OK, dbss_config_set_token(config, fact("token")));
    ctx = to_context(config);
    DOWNLOAD_NOWHERE(DBSS_ERR_FORBIDDEN, ctx);
    DOWNLOAD(DBSS_OK, ctx);
    if (EXPECT(DBSS_OK, dbss_context_find_credentials(ctx, NULL, &found)) == DBSS_OK) {
        expect_text(__LINE__, "token", dbss_credentials_source(found));
        expect_text(__LINE__, "no-project-0123456789-0123456789-x", dbss_credentials_project(found));
        CHECK(dbss_credentials_name(found) == NULL && dbss_credentials_expires_ms(found) == -1);
        dbss_credentials_free(found);
    }
    CHECK(count_requests(LOOKUPS) == 0);
    dbss_context_free(ctx);
    end();
}

/* Every kind of call takes none. */
static void project_in_every_call(void)
{
    dbss_config *config;
    dbss_context *ctx;
    dbss_report_stream *stream;
    dbss_buffer report;
    char *path, part[16];
    size_t len;
    begin();
    config = regional_config();
    EXPECT(DBSS_OK, dbss_config_set_token(config, fact("token")));
    ctx = to_context(config);
    EXPECT(DBSS_OK, dbss_report_download(ctx, NULL, fact("instance"), fact("pdf"), NULL, &report));
    dbss_buffer_free(&report);
    path = format("%s/report", home());
    EXPECT(DBSS_OK, dbss_report_download_to_file(ctx, NULL, fact("instance"), fact("pdf"), NULL, path, 0, NULL));
    unlink(path);
    free(path);
    EXPECT(DBSS_OK, dbss_report_open(ctx, NULL, fact("instance"), fact("pdf"), NULL, NULL, &stream));
    EXPECT(DBSS_OK, dbss_report_stream_read(stream, part, sizeof part, &len));
    dbss_report_stream_free(stream);
    CHECK(count_requests(LOOKUPS) == 1);
    dbss_context_free(ctx);
    end();
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"provider_at_once", provider_at_once, PLAIN},
    {"provider_later", provider_later, PLAIN},
    {"provider_after_a_refusal", provider_after_a_refusal, PLAIN},
    {"provider_fails", provider_fails, PLAIN},
    {"provider_is_told_what_is_wrong", provider_is_told_what_is_wrong, PLAIN},
    {"provider_before_expiry", provider_before_expiry, LOAD},
    {"provider_and_cancel", provider_and_cancel, PLAIN},
    {"provider_and_timeouts", provider_and_timeouts, LOAD},
    {"provider_outlives_its_context", provider_outlives_its_context, PLAIN},
    {"provider_is_destroyed_once", provider_is_destroyed_once, PLAIN},
    {"provider_calls_others", provider_calls_others, PLAIN},
    {"provider_is_found", provider_is_found, PLAIN},
    {"login_once", login_once, LOAD},
    {"login_after_a_revocation", login_after_a_revocation, LOAD},
    {"login_during_downloads", login_during_downloads, LOAD},
    {"login_refused", login_refused, PLAIN},
    {"login_refused_to_many", login_refused_to_many, PLAIN},
    {"login_fails", login_fails, LOAD},
    {"login_is_tried_again", login_is_tried_again, PLAIN},
    {"login_without_its_document", login_without_its_document, PLAIN},
    {"login_at_nobody", login_at_nobody, LOAD},
    {"login_over_tls", login_over_tls, TLS},
    {"login_before_expiry", login_before_expiry, LOAD},
    {"login_fails_before_expiry", login_fails_before_expiry, LOAD},
    {"login_of_a_cancelled_call", login_of_a_cancelled_call, LOAD},
    {"login_that_others_wait_for", login_that_others_wait_for, LOAD},
    {"login_redirected", login_redirected, TLS},
    {"half_a_login", half_a_login, PLAIN},
    {"project_once", project_once, LOAD},
    {"project_with_an_access_key", project_with_an_access_key, PLAIN},
    {"project_unknown", project_unknown, PLAIN},
    {"project_lookup_fails", project_lookup_fails, LOAD},
    {"project_lookup_refused", project_lookup_refused, PLAIN},
    {"project_of_the_context", project_of_the_context, PLAIN},
    {"project_in_every_call", project_in_every_call, PLAIN},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
