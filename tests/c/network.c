/* Names with several addresses. */

#include "calls.h"
#include "resolver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

static const char *port_of(const char *url)
{
    return strrchr(url, ':') + 1;
}

/* A context for a name whose addresses are these, with the port of a listener. */
static dbss_context *named_context(const char *listener, const char *addresses, const char *connect_timeout_ms)
{
    dbss_config *config = new_config(text("http://several.test:%s", port_of(fixture(listener))), fixture("token"));
    set_option(config, "allow_plaintext", "true");
    set_option(config, "connect_timeout_ms", connect_timeout_ms);
    set_lookup_result(addresses);
    return new_context_from(config);
}

NAMED_CHECK(several_addresses_are_tried, PLAIN)
{
    /* The mock service listens only at 127.0.0.1. */
    static const char *const lists[] = {"127.0.0.1", "127.0.0.2 127.0.0.3 127.0.0.1", "::1 127.0.0.1"};
    for (size_t i = 0; i < COUNT(lists); i++) {
        dbss_context *ctx = named_context("http", lists[i], "60000");
        int lookups = lookups_started();
        for (int j = 0; j < 3; j++)
            EXPECT_DOWNLOAD(ctx);
        /* One look-up for the new connection, none for its reuse. */
        CHECK(lookups_started() == lookups + 1);
        add_failure_context("the addresses were %s", lists[i]);
    }
}

/* An address that never responds leaves time for the next one. */
NAMED_CHECK(unresponsive_address_leaves_time_for_next, LOAD)
{
    for (int i = 0; i < 3; i++) {
        /* The second refuses at once, but the first may still respond. The limit leaves a busy
         * machine time to try it. */
        dbss_context *ctx = i == 0 ? named_context("never_accepts", "127.0.0.1 127.0.0.2", "5000")
                                   : named_context("never_accepts", "127.0.0.1", "600");
        long long start = now_ms(), took;
        if (i == 2)
            stall_lookups();
        expect_download(__LINE__, i == 0 ? DBSS_ERR_CONNECT : DBSS_ERR_CONNECT_TIMEOUT, ctx, NULL);
        took = now_ms() - start;
        CHECK(took >= (i == 0 ? 4990 : 590) && took < WAIT_LIMIT_MS / 2);
    }
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_started());
}

static int unresponsive_sockets[8], unresponsive_count;

/* A listener with a full backlog: connection attempts get no response. */
static void add_unresponsive_listener(const char *host, const char *port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port)), .sin_addr.s_addr = inet_addr(host)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), i, one = 1;
    unresponsive_sockets[unresponsive_count++] = listener;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 0) != 0)
        fatal("cannot listen at %s:%s", host, port);
    for (i = 0; i < 2; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        struct pollfd connected = {.fd = client, .events = POLLOUT};
        unresponsive_sockets[unresponsive_count++] = client;
        (void)connect(client, (struct sockaddr *)&address, sizeof address);
        /* There is room for one. */
        if (i == 0)
            WAIT_FOR(poll(&connected, 1, 10) == 1);
    }
}

static void close_unresponsive_listeners(void)
{
    while (unresponsive_count > 0)
        close(unresponsive_sockets[--unresponsive_count]);
}

static void *be_cancelled(void *work)
{
    EXPECT(DBSS_ERR_CANCELLED, download_to_memory(work));
    return NULL;
}

/* An unresponsive address costs a quarter of a second and leaks nothing. */
NAMED_CHECK(dead_address_before_good_one_costs_little, LOAD)
{
    static const struct {
        const char *addresses;
        int least_ms, most_ms;
    } lists[] = {
        /* Below an equal share of the minute that there is to connect: 30 and 15 seconds. */
        {"127.0.0.2 127.0.0.1", 200, 12000},
        /* Two of them cost twice that. A refused connection costs nothing. */
        {"127.0.0.2 127.0.0.4 127.0.0.3 127.0.0.1", 400, 12000},
    };
    struct work cancelled;
    pthread_t thread;
    int descriptors, lookups;
    long long start;

    add_unresponsive_listener("127.0.0.2", port_of(fixture("http")));
    add_unresponsive_listener("127.0.0.3", port_of(fixture("http")));
    descriptors = for_each_descriptor(NULL);
    for (int i = 0; i < 2; i++) {
        dbss_context *ctx = named_context("http", lists[i].addresses, "60000");
        start = now_ms();
        EXPECT_DOWNLOAD(ctx);
        CHECK(now_ms() - start >= lists[i].least_ms && now_ms() - start < lists[i].most_ms);
        drop(ctx);
    }

    /* A cancel ends the attempts at all addresses. */
    cancelled = new_work(named_context("http", "127.0.0.2 127.0.0.3", "60000"), new_operation());
    lookups = lookups_ended();
    thread = start_thread(be_cancelled, &cancelled);
    WAIT_FOR(lookups_ended() > lookups);
    start = now_ms();
    dbss_operation_cancel(cancelled.operation);
    pthread_join(thread, NULL);
    CHECK(now_ms() - start < 12000);
    drop(cancelled.operation);
    drop(cancelled.ctx);
    WAIT_FOR(for_each_descriptor(NULL) == descriptors);
    close_unresponsive_listeners();
}
