/*
 * Names with several addresses. See checks.h for how to run the checks.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"
#include "resolver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *port_of(const char *url)
{
    return strrchr(url, ':') + 1;
}

/* A context for a name whose addresses are these, with the port of a listener. */
static dbss_context *named_context(const char *listener, const char *addresses)
{
    char *url = format("http://several.test:%s", port_of(fixture(listener)));
    dbss_config *config = new_config(url, fixture("token"));
    set_option(config, "allow_plaintext", "true");
    set_option(config, "connect_timeout_ms", strcmp(listener, "http") == 0 ? "10000" : "600");
    set_lookup_result(addresses);
    free(url);
    return context_from(config);
}

static dbss_status download(dbss_context *ctx, dbss_operation *operation)
{
    dbss_buffer buffer;
    dbss_status status = dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), fixture("pdf"),
                                                        "en-us", operation, &buffer);
    if (status == DBSS_OK)
        expect_text(__LINE__, fixture("pdf_en"), sha256(buffer.data, buffer.len));
    dbss_buffer_free(&buffer);
    return status;
}

static void several_addresses_are_tried(void)
{
    /* The mock service listens only at 127.0.0.1. */
    static const char *const lists[] = {"127.0.0.1", "127.0.0.2 127.0.0.3 127.0.0.1", "::1 127.0.0.1"};
    size_t i;
    for (i = 0; i < sizeof lists / sizeof *lists; i++) {
        dbss_context *ctx = named_context("http", lists[i]);
        int lookups = lookups_started(), j;
        for (j = 0; j < 3; j++)
            EXPECT(DBSS_OK, download(ctx, NULL));
        /* One look-up for the new connection, none for its reuse. */
        CHECK(lookups_started() == lookups + 1);
        add_failure_context("the addresses were %s", lists[i]);
        dbss_context_free(ctx);
    }
    set_lookup_result("127.0.0.1");
}

/* An address that never responds leaves time for the next one. */
static void unresponsive_address_leaves_time_for_next(void)
{
    dbss_context *ctx = named_context("never_accepts", "127.0.0.1 127.0.0.2");
    int i;
    for (i = 0; i < 3; i++) {
        long long start = now_ms(), took;
        /* The second refuses at once, but the first may still respond. */
        EXPECT(i == 0 ? DBSS_ERR_CONNECT : DBSS_ERR_CONNECT_TIMEOUT, download(ctx, NULL));
        took = now_ms() - start;
        CHECK(took >= 590 && took < 3000);
        set_lookup_result("127.0.0.1");
        if (i == 1)
            stall_lookups();
    }
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_started());
    dbss_context_free(ctx);
}

static int unresponsive_sockets[8], unresponsive_count;

static struct sockaddr_in address_of(const char *host, const char *port)
{
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(port));
    address.sin_addr.s_addr = inet_addr(host);
    return address;
}

/* A listener with a full backlog: connection attempts get no response. */
static void add_unresponsive_listener(const char *host, const char *port)
{
    struct sockaddr_in address = address_of(host, port);
    int listener = socket(AF_INET, SOCK_STREAM, 0), i, one = 1;
    unresponsive_sockets[unresponsive_count++] = listener;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 0) != 0)
        fatal("cannot listen at %s:%s", host, port);
    for (i = 0; i < 2; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        unresponsive_sockets[unresponsive_count++] = client;
        (void)connect(client, (struct sockaddr *)&address, sizeof address);
    }
}

static void close_unresponsive_listeners(void)
{
    while (unresponsive_count > 0)
        close(unresponsive_sockets[--unresponsive_count]);
}

struct cancelled {
    dbss_context *ctx;
    dbss_operation *operation;
};

static void *be_cancelled(void *argument)
{
    struct cancelled *cancelled = argument;
    EXPECT(DBSS_ERR_CANCELLED, download(cancelled->ctx, cancelled->operation));
    return NULL;
}

/* An unresponsive address costs a quarter of a second and leaks nothing. */
static void dead_address_before_good_one_costs_little(void)
{
    static const struct {
        const char *addresses;
        int least_ms, most_ms;
    } lists[] = {
        {"127.0.0.2 127.0.0.1", 200, 1500},
        /* Two of them cost twice that. A refused connection costs nothing. */
        {"127.0.0.2 127.0.0.4 127.0.0.3 127.0.0.1", 400, 2000},
    };
    struct cancelled cancelled;
    pthread_t thread;
    int descriptors, lookups;
    long long start;
    size_t i;

    add_unresponsive_listener("127.0.0.2", port_of(fixture("http")));
    add_unresponsive_listener("127.0.0.3", port_of(fixture("http")));
    descriptors = for_each_descriptor(NULL);
    for (i = 0; i < 2; i++) {
        dbss_context *ctx = named_context("http", lists[i].addresses);
        start = now_ms();
        EXPECT(DBSS_OK, download(ctx, NULL));
        CHECK(now_ms() - start >= lists[i].least_ms && now_ms() - start < lists[i].most_ms);
        dbss_context_free(ctx);
    }

    /* A cancel ends the attempts at all addresses. */
    cancelled.ctx = named_context("http", "127.0.0.2 127.0.0.3");
    cancelled.operation = new_operation();
    lookups = lookups_ended();
    thread = start_thread(be_cancelled, &cancelled);
    WAIT_FOR(lookups_ended() > lookups);
    start = now_ms();
    dbss_operation_cancel(cancelled.operation);
    pthread_join(thread, NULL);
    CHECK(now_ms() - start < 400);
    dbss_operation_free(cancelled.operation);
    dbss_context_free(cancelled.ctx);
    CHECK(for_each_descriptor(NULL) == descriptors);
    set_lookup_result("127.0.0.1");
    close_unresponsive_listeners();
}

static const struct check checks[] = {
    {"several_addresses_are_tried", several_addresses_are_tried, PLAIN},
    {"unresponsive_address_leaves_time_for_next", unresponsive_address_leaves_time_for_next, LOAD},
    {"dead_address_before_good_one_costs_little", dead_address_before_good_one_costs_little, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
