/* No library: sends a request, finds Content-Length in the header, and receives that
 * many bytes into one buffer. Nothing is checked. This is the upper limit of plain
 * HTTP over a socket, not a comparable library. */

#define _GNU_SOURCE
#include "peer.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER (256 * 1024)

const char *const peer_name = "recv";

static struct setup settings;

struct thread {
    int fd;
    char *buffer;
};

void peer_open(const struct setup *setup)
{
    settings = *setup;
    if (setup->ca_file != NULL)
        fatal("does not support TLS");
}

void peer_close(void)
{
}

void *peer_thread_open(void)
{
    struct thread *thread = calloc(1, sizeof *thread);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    int one = 1;
    if (getaddrinfo(settings.host, settings.port, &hints, &found) != 0)
        fatal("unknown host");
    thread->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    thread->buffer = malloc(BUFFER);
    setsockopt(thread->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(thread->fd, found->ai_addr, found->ai_addrlen) != 0)
        fatal("cannot connect");
    freeaddrinfo(found);
    return thread;
}

void peer_thread_close(void *argument)
{
    struct thread *thread = argument;
    close(thread->fd);
    free(thread->buffer);
    free(thread);
}

size_t peer_download(void *argument, const char *report, enum sink sink, const char *path)
{
    struct thread *thread = argument;
    char request[TOKEN + 1024];
    size_t have = 0;
    char *body;
    (void)path;
    if (sink == TO_FILE)
        fatal("does not save files");
    int len = snprintf(request, sizeof request,
                       "GET /v1/%s/audit/%s/reports/%s/download?local=en-us HTTP/1.1\r\nHost: %s\r\n"
                       "X-Auth-Token: %s\r\n\r\n",
                       settings.project, settings.instance, report, settings.host, settings.token);
    if (send(thread->fd, request, (size_t)len, MSG_NOSIGNAL) != len)
        fatal("cannot send");
    do {
        ssize_t n = recv(thread->fd, thread->buffer + have, BUFFER - 1 - have, 0);
        if (n <= 0)
            fatal("cannot receive the header");
        have += (size_t)n;
        thread->buffer[have] = '\0';
    } while ((body = strstr(thread->buffer, "\r\n\r\n")) == NULL);
    const char *field = strstr(thread->buffer, "Content-Length: ");
    if (field == NULL || field > body)
        fatal("no Content-Length");
    size_t total = strtoull(field + 16, NULL, 10);
    size_t left = total - (have - (size_t)(body + 4 - thread->buffer));
    first_byte();
    while (left > 0) {
        ssize_t n = recv(thread->fd, thread->buffer, left < BUFFER ? left : BUFFER, 0);
        if (n <= 0)
            fatal("truncated");
        left -= (size_t)n;
    }
    return total;
}
