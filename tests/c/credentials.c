/* What credentials need in C: the rules of token requests, calls from callbacks, wiped
 * secrets and forks. The rest is in the conformance suite. */

#include "calls.h"
#include "memory.h"

#define LOGINS "@iam.tokens"
/* An access key that the service does not know. */
#define UNKNOWN_KEY "UNKNOWN01234567890123"

/* Without credentials. Forgets the logins of other checks. */
static dbss_config *basic_config(void)
{
    dbss_config *config = new_config(fixture("http"), NULL);
    set_option(config, "region", fixture("region"));
    set_option(config, "iam_endpoint", fixture("iam"));
    set_option(config, "metadata_endpoint", fixture("metadata"));
    post_control("/iam", "{}");
    free(control("DELETE", "/requests", ""));
    return config;
}

static dbss_config *login_config(const char *password)
{
    dbss_config *config = basic_config();
    require_ok(dbss_config_set_iam_user(config, fixture("user"), password, fixture("domain")));
    return config;
}

static dbss_config *credentials_config(const char *where)
{
    dbss_config *config = basic_config();
    set_option(config, "credentials", where);
    return config;
}

enum provider_action { GIVE, HOLD, FAIL, DROP };

struct provider {
    enum provider_action action;
    const char *token;
    int64_t expires_ms;
    const char *reason;
    /* Runs before the action. May be NULL. */
    void (*on_request)(struct provider *provider, dbss_token_request *request);

    int request_count, refused_count, destroyed, held_count;
    dbss_token_request *held;
};

static void provide(void *user_data, dbss_token_request *request)
{
    struct provider *provider = user_data, current;
    pthread_mutex_lock(&lock);
    provider->request_count++;
    provider->refused_count += dbss_token_request_refused(request);
    current = *provider;
    if (current.action == HOLD) {
        provider->held = request;
        provider->held_count++;
    }
    pthread_mutex_unlock(&lock);
    if (current.on_request != NULL)
        current.on_request(provider, request);
    if (current.action == GIVE)
        OK(dbss_token_request_set(request, current.token, current.expires_ms));
    else if (current.action == FAIL)
        OK(dbss_token_request_fail(request, current.reason));
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
    return (struct provider){.action = action, .token = token, .expires_ms = -1};
}

static dbss_context *provider_context(struct provider *provider)
{
    dbss_config *config = basic_config();
    OK(dbss_config_set_token_provider(config, provide, provider, destroy));
    return new_context_from(config);
}

static struct report report;

static struct call new_call(dbss_context *ctx, dbss_operation *operation)
{
    report = new_report(6000);
    return (struct call){.ctx = ctx, .id = report.id, .operation = operation};
}

/* Starts a download whose token request is held. */
static void start_held_call(struct call *call, struct provider *provider)
{
    int before = read_locked(&provider->held_count);
    start_call(call);
    WAIT_FOR(read_locked(&provider->held_count) > before);
}

static void end_call(struct call *call, dbss_status expected)
{
    join_call(call);
    CHECK_CALL(expected, call, &report);
}

/* Wrong arguments do not complete a request; a second answer is refused. */
static void pass_arguments(struct provider *provider, dbss_token_request *request)
{
    EXPECT_NULL("token", dbss_token_request_set(request, NULL, -1));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "expires_ms", dbss_token_request_set(request, "t", -2));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "message", dbss_token_request_fail(request, "\xff"));
    OK(dbss_token_request_set(request, provider->token, INT64_MAX));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "request", dbss_token_request_set(request, "another", -1));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "request", dbss_token_request_fail(request, NULL));
}

static void pass_wrong_token(struct provider *provider, dbss_token_request *request)
{
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, provider->reason,
                     dbss_token_request_set(request, provider->token, provider->expires_ms));
}

/* In the provider, and later on another thread. An invalid token fails there and in the
 * waiting call. */
NAMED_CHECK(provider_mistakes_are_reported, PLAIN)
{
    static const struct {
        void (*pass)(struct provider *provider, dbss_token_request *request);
        const char *token, *parameter;
        int64_t expires_ms;
        dbss_status expected;
    } rows[] = {
        {pass_arguments, NULL, NULL, -1, DBSS_OK},
        {pass_wrong_token, "no token", "token", -1, DBSS_ERR_NO_TOKEN},
        {pass_wrong_token, "token", "expires_ms", 0, DBSS_ERR_NO_TOKEN},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct provider provider = new_provider(DROP, rows[i].token != NULL ? rows[i].token : fixture("token"));
        struct call call = new_call(provider_context(&provider), NULL);
        provider.on_request = rows[i].pass;
        provider.expires_ms = rows[i].expires_ms;
        provider.reason = rows[i].parameter;
        EXPECT_CALL(rows[i].expected, &report, TO_MEMORY, call.ctx, NULL);
        if (rows[i].expected == DBSS_OK)
            EXPECT_DOWNLOAD(call.ctx);
        CHECK(provider.request_count == 1);
        drop(call.ctx);
        call.ctx = provider_context(&provider);
        provider.action = HOLD;
        provider.on_request = NULL;
        start_held_call(&call, &provider);
        rows[i].pass(&provider, provider.held);
        dbss_token_request_free(provider.held);
        end_call(&call, rows[i].expected);
        drop(call.ctx);
    }
}

/* A request that is freed, or fails without a reason, fails the call. */
NAMED_CHECK(provider_without_a_result_fails_call, PLAIN)
{
    for (int i = 0; i < 2; i++) {
        struct provider provider = new_provider(i == 0 ? DROP : FAIL, NULL);
        dbss_context *ctx = provider_context(&provider);
        EXPECT_DOWNLOAD_ERROR(DBSS_ERR_NO_TOKEN, ctx, fixture("pdf"));
        CHECK(strstr(dbss_error_message(dbss_last_error()), i == 0 ? "provider dropped the request" : "token provider")
              != NULL);
        drop(ctx);
    }
}

NAMED_CHECK(provider_outlives_context, PLAIN)
{
    /* In the second round the token arrives when no call waits any more. */
    for (int i = 0; i < 2; i++) {
        struct provider provider = new_provider(HOLD, NULL);
        struct call call = new_call(provider_context(&provider), new_operation());
        start_held_call(&call, &provider);
        if (i == 1) {
            dbss_operation_cancel(call.operation);
            end_call(&call, DBSS_ERR_CANCELLED);
        }
        drop(call.ctx);
        CHECK(provider.destroyed == 0 || i == 1);
        give_token(provider.held, i == 0 ? fixture("token") : "whatever");
        if (i == 0)
            end_call(&call, DBSS_OK);
        WAIT_FOR(read_locked(&provider.destroyed) == 1);
    }
}

/* Other credentials replace it in the configuration or the context only. The other cases
 * of destroy functions are in errors.c. */
NAMED_CHECK(replaced_provider_stays_in_other_contexts, PLAIN)
{
    struct provider provider = new_provider(GIVE, fixture("token"));
    dbss_config *config = basic_config();
    dbss_context *ctx, *other;
    OK(dbss_config_set_token_provider(config, provide, &provider, destroy));
    OK(dbss_context_new(config, &ctx));
    OK(dbss_context_new(config, &other));
    OK(dbss_config_set_token(config, "token"));
    dbss_config_free(config);
    EXPECT_DOWNLOAD(ctx);
    CHECK(provider.destroyed == 0);
    OK(dbss_context_set_token(ctx, fixture("token")));
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);
    CHECK(provider.destroyed == 0);
    dbss_context_free(other);
    CHECK(provider.destroyed == 1 && provider.request_count == 1);
}

static dbss_context *other_context;

/* Uses everything except the context of the provider. */
static void use_library_in_provider(struct provider *provider, dbss_token_request *request)
{
    dbss_config *config;
    CHECK(dbss_token_request_refused(request) == 0);
    EXPECT_DOWNLOAD(other_context);
    OK(dbss_context_set_token(other_context, fixture("token")));
    OK(dbss_config_new(&config));
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_config_set(config, "no_such_key", "x"));
    dbss_config_free(config);
    CHECK(dbss_operation_received(new_operation()) == 0);
    dbss_context_cancel_all(NULL);
}

NAMED_CHECK(provider_may_call_library, PLAIN)
{
    for (int i = 0; i < 2; i++) {
        struct provider provider = new_provider(i == 0 ? GIVE : FAIL, fixture("token"));
        dbss_context *ctx = provider_context(&provider);
        provider.reason = "my own reason";
        provider.on_request = use_library_in_provider;
        other_context = new_context(fixture("http"));
        if (i == 0) {
            EXPECT_DOWNLOAD(ctx);
            CHECK(dbss_last_error() == NULL);
        } else {
            EXPECT_DOWNLOAD_ERROR(DBSS_ERR_NO_TOKEN, ctx, fixture("pdf"));
            CHECK(strstr(dbss_error_message(dbss_last_error()), "my own reason") != NULL);
        }
        drop(ctx);
    }
}

static pthread_t calling_thread;

static void check_calling_thread(struct provider *provider, dbss_token_request *request)
{
    CHECK(pthread_equal(pthread_self(), calling_thread) && dbss_token_request_refused(request) == 0);
}

/* A passcode is asked for on the thread of the call. */
NAMED_CHECK(passcode_provider_runs_on_the_calling_thread, PLAIN)
{
    struct provider provider = new_provider(GIVE, "123456");
    dbss_config *config = login_config(fixture("password"));
    dbss_context *ctx;

    post_control("/iam", "{\"passcodes\": [\"123456\"]}");
    calling_thread = pthread_self();
    provider.on_request = check_calling_thread;
    set_option(config, "iam_user_id", fixture("user_id"));
    OK(dbss_config_set_passcode_provider(config, provide, &provider, destroy));
    ctx = new_context_from(config);
    EXPECT_DOWNLOAD(ctx);
    drop(ctx);
    CHECK(provider.request_count == 1 && provider.destroyed == 1);
    post_control("/iam", "{}");
}

NAMED_CHECK(environment_is_read_when_the_context_is_made, PLAIN)
{
    dbss_context *ctx;
    setenv("HUAWEICLOUD_SDK_AK", fixture("access_key"), 1);
    setenv("HUAWEICLOUD_SDK_SK", fixture("secret_key"), 1);
    ctx = new_context_from(credentials_config("environment"));
    unsetenv("HUAWEICLOUD_SDK_AK");
    unsetenv("HUAWEICLOUD_SDK_SK");
    EXPECT_DOWNLOAD(ctx);
}

static dbss_context *shared_context;
static int loops_must_end;

static void *download_until_end(void *done)
{
    while (!read_locked(&loops_must_end)) {
        EXPECT_DOWNLOAD(shared_context);
        add_locked(done, 1);
    }
    return NULL;
}

/* Waits until each thread has made two more downloads. Every call that was in
 * progress has then finished. */
static void wait_for_two_more_downloads(const int *done, int count)
{
    int i, before[32];
    for (i = 0; i < count; i++)
        before[i] = read_locked(&done[i]);
    for (i = 0; i < count; i++)
        WAIT_FOR(read_locked(&done[i]) >= before[i] + 2);
}

/* Tokens are revoked while 32 threads download. */
NAMED_CHECK(login_repeated_during_downloads, LOAD)
{
    enum { MANY = 32 };
    int done[MANY] = {0}, i;
    pthread_t threads[MANY];

    shared_context = new_context_from(login_config(fixture("password")));
    loops_must_end = 0;
    for (i = 0; i < MANY; i++)
        threads[i] = start_thread(download_until_end, &done[i]);
    wait_for_two_more_downloads(done, MANY);
    for (i = 1; i <= 5 && !has_failed(); i++) {
        free(control("DELETE", "/tokens", "{\"issued\": true}"));
        wait_for_two_more_downloads(done, MANY);
        if (count_requests(LOGINS) != i + 1)
            fail_check("%ld logins after %d revocations", count_requests(LOGINS), i);
    }
    add_locked(&loops_must_end, 1);
    for (i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
}

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

/* Credentials with secrets. In a text, $ stands for the secret and % for the second one;
 * one that starts with @ is the name of a fixture. */
static const struct secret_use {
    const char *what;
    /* Options and their values. */
    const char *options[4][2];
    /* A variable with the path of a file, and its content. */
    const char *variable, *content;
    /* A response of the mock service, and for which request. */
    const char *request, *response;
    dbss_status expected;
} secret_uses[] = {
    {"token", {{"token", "$"}}, NULL, NULL, NULL, NULL, DBSS_OK},
    {"provided token", {{NULL, NULL}}, NULL, NULL, NULL, NULL, DBSS_OK},
    {"password", {{"iam_password", "$"}}, NULL, NULL, NULL, NULL, DBSS_ERR_UNAUTHENTICATED},
    {"issued token",
     {{"iam_user", "@user"}, {"iam_password", "@password"}, {"iam_domain", "@domain"}},
     NULL,
     NULL,
     LOGINS,
     "\"status\": 201, \"body\": \"{}\", \"headers\": [[\"X-Subject-Token\", \"$\"]]",
     DBSS_OK},
    {"access key", {{"secret_key", "$"}}, NULL, NULL, NULL, NULL, DBSS_ERR_UNAUTHENTICATED},
    {"profile",
     {{"credentials", "profile"}},
     "HUAWEICLOUD_SDK_CREDENTIALS_FILE",
     "[basic]\nak = " UNKNOWN_KEY "\nsk = $",
     NULL,
     NULL,
     DBSS_ERR_UNAUTHENTICATED},
    {"metadata",
     {{"credentials", "metadata"}},
     NULL,
     NULL,
     "@metadata.key",
     "\"json\": {\"credential\": {\"access\": \"" UNKNOWN_KEY "\", \"secret\": \"$\", \"securitytoken\": \"t\"}}",
     DBSS_ERR_UNAUTHENTICATED},
    {"pod",
     {{"credentials", "pod_identity"}},
     "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE",
     "%",
     "@pod.key",
     "\"json\": {\"access_key_id\": \"" UNKNOWN_KEY "\", \"secret_access_key\": \"$\", \"security_token\": \"t\"}",
     DBSS_ERR_UNAUTHENTICATED},
    {"id token",
     {{"credentials", "federation"}},
     "HUAWEICLOUD_SDK_ID_TOKEN_FILE",
     "$",
     NULL,
     NULL,
     DBSS_ERR_UNAUTHENTICATED},
};

static const struct secret_use *use;

/* The text with its secrets, until the next call. */
static const char *fill(const char *from)
{
    static char filled[1024];
    char *to = filled;
    wipe(filled, sizeof filled);
    if (*from == '@')
        return fixture(from + 1);
    for (; *from != '\0'; from++) {
        const char *part = *from == '$' ? secret : *from == '%' ? second : from;
        size_t len = part == from ? 1 : SECRET_LENGTH;
        memcpy(to, part, len);
        to += len;
    }
    return filled;
}

static dbss_config *config_of_use(void)
{
    dbss_config *config = basic_config();
    if (use->variable != NULL) {
        FILE *file = fdopen(mkstemp(secret_file), "w");
        setvbuf(file, NULL, _IONBF, 0);
        if (fputs(fill(use->content), file) < 0 || fclose(file) != 0)
            fatal("cannot write %s", secret_file);
        setenv(use->variable, secret_file, 1);
    }
    setenv("HC_CONTAINER_CREDENTIALS_FULL_URI", text("%s/v1/pod/credentials", fixture("metadata")), 1);
    setenv("HUAWEICLOUD_SDK_IDP_ID", fixture("idp_id"), 1);
    if (use->response != NULL) {
        char *body = format("{\"report\": \"%s\", %s}", use->request, fill(use->response));
        free(control("POST", "/faults", body));
        wipe(body, strlen(body));
        free(body);
    }
    if (strcmp(use->what, "password") == 0)
        OK(dbss_config_set_iam_user(config, fixture("user"), secret, fixture("domain")));
    else if (strcmp(use->what, "access key") == 0)
        OK(dbss_config_set_access_key(config, UNKNOWN_KEY, secret, second));
    else if (strcmp(use->what, "provided token") == 0)
        OK(dbss_config_set_token_provider(config, provide_token, secret, NULL));
    for (int i = 0; i < 4 && use->options[i][0] != NULL; i++)
        set_option(config, use->options[i][0], fill(use->options[i][1]));
    if (use->expected == DBSS_OK)
        add_token(secret);
    return config;
}

/* Again if the machine was too busy: a metadata service must respond within 1.5 seconds. */
static void expect_use(dbss_context *ctx)
{
    struct work work = new_work(ctx, NULL);
    for (int i = 0; i < 10 && use->expected != DBSS_OK && download(&work) == DBSS_ERR_STALLED; i++)
        continue;
    expect_download(__LINE__, use->expected, ctx, NULL);
}

/* Uses credentials, after which no copy may be left. */
static void use_and_search(void)
{
    int is_tls = strcmp(scheme, "https") == 0, is_issued = use->response != NULL && use->expected == DBSS_OK;
    dbss_config *config;
    dbss_context *ctx;
    make_secret(secret, &sample);
    make_secret(second, &second_sample);
    config = config_of_use();
    set_option(config, "iam_endpoint", fixture(is_tls ? "iam_https" : "iam"));
    set_option(config, "endpoint", fixture(scheme));
    OK(dbss_context_new(config, &ctx));
    if (strcmp(use->what, "token") == 0) {
        EXPECT_DOWNLOAD_ERROR(DBSS_ERR_NOT_FOUND, ctx, fresh_id());
        OK(dbss_context_set_token(ctx, secret));
        OK(dbss_config_set_token(config, secret));
        secret[SECRET_LENGTH - 1] = '\n';
        EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_context_set_token(ctx, secret));
        EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_config_set_token(config, secret));
    }
    dbss_config_free(config);
    fill("");
    wipe(second, sizeof second);
    /* The provider still needs it. */
    if (use->options[0][0] != NULL)
        wipe(secret, sizeof secret);
    expect_use(ctx);
    wipe(secret, sizeof secret);
    expect_use(ctx);
    dbss_context_free(ctx);
    unlink(secret_file);
    /* TLS keeps decrypted data in its own buffers, which the library cannot wipe. */
    expect_at_most_copies(&sample, is_issued && is_tls ? 2 : 0);
    expect_at_most_copies(&second_sample, 0);
}

/* In a child, so that no copies of other checks are in memory. */
NAMED_CHECKS(secrets_are_wiped, LOAD, LOAD)
{
    for (use = secret_uses; use < secret_uses + COUNT(secret_uses); use++) {
        run_in_child(use_and_search);
        remove_faults();
        add_failure_context("%s", use->what);
    }
}

static struct provider shared_provider;

static void use_in_child(void)
{
    EXPECT_DOWNLOAD(shared_context);
    EXPECT_DOWNLOAD(shared_context);
}

/* The process forks while one of its threads waits for a login. */
NAMED_CHECK(fork_during_login, LOAD)
{
    struct call call = new_call(new_context_from(login_config(fixture("password"))), new_operation());
    shared_context = call.ctx;
    post_fault(LOGINS, "\"no_response\": true, \"times\": 1");
    start_call(&call);
    WAIT_FOR(count_requests(LOGINS) == 1);
    run_in_child(use_in_child);
    CHECK(count_requests(LOGINS) == 2);
    dbss_operation_cancel(call.operation);
    end_call(&call, DBSS_ERR_CANCELLED);
    /* The parent's next call logs in as usual. The child after it uses its token. */
    EXPECT_DOWNLOAD(shared_context);
    CHECK(count_requests(LOGINS) == 3);
    run_in_child(use_in_child);
    CHECK(count_requests(LOGINS) == 3);
}

static void use_provider_in_child(void)
{
    shared_provider.action = GIVE;
    use_in_child();
    CHECK(shared_provider.request_count == 2);
    /* The parent's request has no effect in the child. */
    give_token(shared_provider.held, "a-token-of-nobody");
    EXPECT_DOWNLOAD(shared_context);
    CHECK(shared_provider.request_count == 2);
}

NAMED_CHECK(fork_while_waiting_for_provider, LOAD)
{
    struct call call;
    shared_provider = new_provider(HOLD, fixture("token"));
    shared_context = provider_context(&shared_provider);
    call = new_call(shared_context, NULL);
    start_held_call(&call, &shared_provider);
    run_in_child(use_provider_in_child);
    give_token(shared_provider.held, fixture("token"));
    end_call(&call, DBSS_OK);
}
