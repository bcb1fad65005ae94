/* Rules of dbss.h that the conformance cases cannot express. */

#include "calls.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

NAMED_CHECK(version_matches_header, PLAIN)
{
    expect_text(__LINE__, DBSS_VERSION, dbss_version());
    expect_text(__LINE__, text("%d.%d.%d", DBSS_VERSION_MAJOR, DBSS_VERSION_MINOR, DBSS_VERSION_PATCH), dbss_version());
    CHECK(dbss_version_number() == DBSS_VERSION_NUMBER);
}

static void *expect_no_error_on_this_thread(void *unused)
{
    CHECK(dbss_last_error() == NULL && dbss_error_take() == NULL);
    EXPECT(DBSS_ERR_NULL_ARGUMENT, dbss_config_set_token(NULL, "x"));
    return NULL;
}

static void *read_and_free(void *error)
{
    CHECK(dbss_error_status(error) == DBSS_ERR_NULL_ARGUMENT);
    expect_text(__LINE__, "out_config", dbss_error_parameter(error));
    CHECK(strstr(dbss_error_message(error), "out_config") != NULL);
    dbss_error_free(error);
    return NULL;
}

NAMED_CHECK(last_error_belongs_to_thread, PLAIN)
{
    dbss_config *config;
    const dbss_error *lent;
    dbss_error *taken;

    EXPECT_NULL("out_config", dbss_config_new(NULL));
    lent = dbss_last_error();
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
    run_in_threads(1, expect_no_error_on_this_thread, NULL, 0);
    CHECK(lent != NULL && dbss_last_error() == lent && dbss_error_status(lent) == DBSS_ERR_NULL_ARGUMENT);
    expect_text(__LINE__, "out_config", dbss_error_parameter(lent));

    /* It can be taken once, and outlives later calls. */
    taken = dbss_error_take();
    CHECK(taken != NULL && dbss_last_error() == NULL && dbss_error_take() == NULL);
    OK(dbss_config_new(&config));
    EXPECT(DBSS_ERR_UNKNOWN_KEY, dbss_config_set(config, "no_such_key", "x"));
    run_in_threads(1, read_and_free, taken, 0);

    /* A success clears it. */
    CHECK(dbss_last_error() != NULL);
    OK(dbss_config_set(config, "allow_plaintext", "true"));
    CHECK(dbss_last_error() == NULL);
    dbss_config_free(config);
}

NAMED_CHECK(buffer_freed_twice_stays_empty, PLAIN)
{
    dbss_context *ctx = new_context(fixture("http"));
    dbss_buffer report, empty = {NULL, 0};
    OK(dbss_report_download(ctx, fixture("project"), fixture("instance"), fixture("pdf"), "en-us", &report));
    /* The buffer outlives its context. */
    drop(ctx);
    expect_text(__LINE__, fixture("pdf_en"), sha256(report.data, report.len));
    for (int i = 0; i < 2; i++) {
        dbss_buffer_free(&report);
        dbss_buffer_free(&empty);
        CHECK(report.data == NULL && report.len == 0 && empty.data == NULL && empty.len == 0);
    }
}

/* The functions for which there are also options. */
NAMED_CHECK(failed_setter_changes_nothing, PLAIN)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *ctx;
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "endpoint", dbss_config_set_endpoint(config, "ftp://127.0.0.1"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_config_set_token(config, "with space"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ENDPOINT, "region", dbss_config_set_region(config, "no/region"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "stall_timeout_ms", dbss_config_set(config, "stall_timeout_ms", "soon"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "access_key", dbss_config_set_access_key(config, "", "s", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "access_key", dbss_config_set_access_key(config, "a,b", "s", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "secret_key", dbss_config_set_access_key(config, "a", "s\n", NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ACCESS_KEY, "security_token",
                     dbss_config_set_access_key(config, "a", "s", "\xc3\xa9"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "user", dbss_config_set_iam_user(config, "", "p", "d"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "password", dbss_config_set_iam_user(config, "u", "", "d"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "domain", dbss_config_set_iam_user(config, "u", "p", "\xff"));
    OK(dbss_context_new(config, &ctx));
    EXPECT_DOWNLOAD(ctx);
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_context_set_token(ctx, "with\nline"));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_TOKEN, "token", dbss_context_set_token(ctx, ""));
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);

    OK(dbss_config_set_access_key(config, fixture("access_key"), fixture("secret_key"), NULL));
    OK(dbss_context_new(config, &ctx));
    EXPECT_DOWNLOAD(ctx);
    dbss_context_free(ctx);
    /* An incomplete key fails when the context is created. */
    OK(dbss_config_set_token(config, fixture("token")));
    OK(dbss_config_set(config, "access_key", fixture("access_key")));
    EXPECT_PARAMETER(DBSS_ERR_NOT_CONFIGURED, "secret_key", dbss_context_new(config, &ctx));
    CHECK(ctx == NULL);
    dbss_config_free(config);
    OK(dbss_config_new(&config));
    ctx = (dbss_context *)&config;
    EXPECT(DBSS_ERR_NOT_CONFIGURED, dbss_context_new(config, &ctx));
    CHECK(ctx == NULL);
    dbss_config_free(config);
}

NAMED_CHECK(config_is_copied_by_context, PLAIN)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_context *first, *second;
    OK(dbss_context_new(config, &first));
    OK(dbss_config_set_token(config, "not-a-token"));
    OK(dbss_context_new(config, &second));
    OK(dbss_config_set_endpoint(config, "http://127.0.0.1:1"));
    EXPECT_DOWNLOAD(first);
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_UNAUTHENTICATED, second, fixture("pdf"));
    dbss_config_free(config);
    EXPECT_DOWNLOAD(first);
    dbss_context_free(second);
    EXPECT_DOWNLOAD(first);
    dbss_context_free(first);
}

NAMED_CHECK(strings_are_copied_by_config, PLAIN)
{
    char *endpoint = text("%s", fixture("http")), *token = text("%s", fixture("token"));
    dbss_config *config = new_config(endpoint, token);
    dbss_context *ctx;
    memset(endpoint, '?', strlen(endpoint));
    memset(token, '?', strlen(token));
    ctx = new_context_from(config);
    EXPECT_DOWNLOAD(ctx);
    token = text("%s", fixture("token"));
    OK(dbss_context_set_token(ctx, token));
    memset(token, '?', strlen(token));
    EXPECT_DOWNLOAD(ctx);
}

static dbss_context *shared_context;
static int threads_done;

static void *download_repeatedly(void *unused)
{
    for (int i = 0; i < 50; i++)
        EXPECT_DOWNLOAD(shared_context);
    add_locked(&threads_done, 1);
    return NULL;
}

/* The bytes of downloads on many threads are in download.c. */
NAMED_CHECK(token_replaced_during_downloads, LOAD)
{
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    add_token("another-valid-token");
    shared_context = new_context(fixture("http"));
    threads_done = 0;
    for (int i = 0; i < THREADS; i++)
        threads[i] = start_thread(download_repeatedly, NULL);
    while (read_locked(&threads_done) < THREADS) {
        OK(dbss_context_set_token(shared_context, "another-valid-token"));
        EXPECT(DBSS_ERR_INVALID_TOKEN, dbss_context_set_token(shared_context, "no token"));
        OK(dbss_context_set_token(shared_context, fixture("token")));
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static const char *enormous_report;

static void download_beyond_memory_limit(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    struct rlimit limit;

    EXPECT_DOWNLOAD(ctx);
    limit.rlim_cur = limit.rlim_max = (rlim_t)proc_status_value("VmSize") * 1024 + (48 << 20);
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        fatal("cannot set the limit: %s", strerror(errno));
    for (int i = 0; i < 2; i++) {
        EXPECT_DOWNLOAD_ERROR(DBSS_ERR_OUT_OF_MEMORY, ctx, enormous_report);
        CHECK(dbss_error_is_retryable(dbss_last_error()) == 0 && *dbss_error_message(dbss_last_error()) != '\0');
        /* The memory was freed. */
        EXPECT_DOWNLOAD(ctx);
    }
}

NAMED_CHECK(report_larger_than_memory_fails, LOAD)
{
    enormous_report = add_report(200LL << 20);
    run_in_child(download_beyond_memory_limit);
}

/* A server that closes the connection before it has read the whole request. The
 * kernel resets a socket that is closed with unread bytes. The client's next write
 * then fails with EPIPE. */
static void *close_before_request_ends(void *argument)
{
    int connection = accept(*(int *)argument, NULL, NULL);
    char first_bytes[16];
    struct tcp_info info;
    socklen_t len = sizeof info;
    CHECK(connection >= 0 && recv(connection, first_bytes, sizeof first_bytes, 0) > 0);
    shutdown(connection, SHUT_WR);
    /* The client has got the end, which must not come after the reset. */
    do
        CHECK(getsockopt(connection, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
    while (!has_failed() && info.tcpi_state == TCP_FIN_WAIT1);
    close(connection);
    return NULL;
}

static void send_to_closed_connections(void)
{
    /* An address of its own: the kernel remembers, for each address, how much earlier
     * connections could send at once, and makes buffers as large. */
    const unsigned own = INADDR_LOOPBACK + 0x10000 + (unsigned)getpid() % 0xe00000;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(own)};
    socklen_t len = sizeof address;
    /* Connections inherit both. Small segments keep the client's buffer small too,
     * so a large request does not fit into the buffers. */
    int listener = socket(AF_INET, SOCK_STREAM, 0), buffer_size = 2048, segment = 256, i;
    dbss_context *ctx;

    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &buffer_size, sizeof buffer_size) != 0
        || setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment) != 0
        || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0
        || getsockname(listener, (struct sockaddr *)&address, &len) != 0)
        fatal("cannot open a listener: %s", strerror(errno));
    ctx = new_context_from(
        new_config(text("http://%s:%d", inet_ntoa(address.sin_addr), ntohs(address.sin_port)), text("%090000d", 0)));
    signal(SIGPIPE, SIG_DFL);
    for (i = 0; i < 5; i++) {
        pthread_t server = start_thread(close_before_request_ends, &listener);
        EXPECT_DOWNLOAD_ERROR(DBSS_ERR_CONNECTION_LOST, ctx, fixture("pdf"));
        /* This proves that the write failed. */
        CHECK(dbss_error_os_code(dbss_last_error()) == EPIPE);
        pthread_join(server, NULL);
    }
    drop(ctx);
    close(listener);
}

NAMED_CALL(broken_connection_raises_no_sigpipe, PLAIN, run_in_child, send_to_closed_connections)
