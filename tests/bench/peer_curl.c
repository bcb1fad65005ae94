/* libcurl, as a careful program would use it: a persistent connection for each
 * thread, timeouts, error messages, detection of truncated reports, and files that
 * appear only when they are complete and synced to disk. */

#define _GNU_SOURCE
#include "peer.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* libcurl's default of 16 KiB takes twice the time. Megabytes are faster if the body
 * is kept or saved, and slower if it is discarded. */
#define BUFFER (512 * 1024)

const char *const peer_name = "libcurl";

static struct setup settings;

struct thread {
    CURL *easy;
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
};

struct body {
    enum sink sink;
    uint8_t *bytes;
    size_t len, capacity;
    int fd;
};

static void check(CURLcode code, const struct thread *thread)
{
    if (code != CURLE_OK)
        fatal("%s: %s", curl_easy_strerror(code), thread != NULL ? thread->error : "");
}

void peer_open(const struct setup *setup)
{
    settings = *setup;
    check(curl_global_init(CURL_GLOBAL_DEFAULT), NULL);
}

void peer_close(void)
{
    curl_global_cleanup();
}

static void keep(struct body *body, const char *data, size_t len)
{
    if (body->len + len > body->capacity) {
        size_t twice = body->capacity * 2;
        body->capacity = twice > body->len + len ? twice : body->len + len;
        body->bytes = realloc(body->bytes, body->capacity);
        if (body->bytes == NULL)
            fatal("out of memory");
    }
    memcpy(body->bytes + body->len, data, len);
}

static size_t take(char *data, size_t one, size_t len, void *user_data)
{
    struct body *body = user_data;
    (void)one;
    switch (body->sink) {
    case TO_MEMORY: keep(body, data, len); break;
    case TO_CALLBACK: first_byte(); break;
    case TO_FILE:
        for (size_t done = 0; done < len;) {
            ssize_t n = write(body->fd, data + done, len - done);
            if (n < 0 && errno != EINTR)
                return 0;
            done += n > 0 ? (size_t)n : 0;
        }
        break;
    }
    body->len += len;
    return len;
}

void *peer_thread_open(void)
{
    struct thread *thread = calloc(1, sizeof *thread);
    char token[TOKEN + 32];
    CURL *easy = thread->easy = curl_easy_init();
    snprintf(token, sizeof token, "X-Auth-Token: %s", settings.token);
    thread->headers = curl_slist_append(NULL, token);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, thread->headers);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, thread->error);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "identity");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 10000L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BUFFER);
    if (settings.ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, settings.ca_file);
    return thread;
}

void peer_thread_close(void *argument)
{
    struct thread *thread = argument;
    curl_easy_cleanup(thread->easy);
    curl_slist_free_all(thread->headers);
    free(thread);
}

/* Syncs the file to disk, then renames it. */
static void save(int fd, const char *part, const char *path)
{
    char directory[1024];
    snprintf(directory, sizeof directory, "%s", path);
    *strrchr(directory, '/') = '\0';
    int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fsync(fd) != 0 || close(fd) != 0 || rename(part, path) != 0 || at < 0)
        fatal("cannot save %s: %s", path, strerror(errno));
    fsync(at);
    close(at);
}

size_t peer_download(void *argument, const char *report, enum sink sink, const char *path)
{
    struct thread *thread = argument;
    struct body body = {.sink = sink, .fd = -1};
    char url[1024], part[1024];
    long status = 0;
    snprintf(url, sizeof url, "%s/v1/%s/audit/%s/reports/%s/download?local=en-us", settings.endpoint, settings.project,
             settings.instance, report);
    if (sink == TO_FILE) {
        snprintf(part, sizeof part, "%s.XXXXXX", path);
        body.fd = mkostemp(part, O_CLOEXEC);
        if (body.fd < 0)
            fatal("cannot create %s: %s", part, strerror(errno));
    }
    curl_easy_setopt(thread->easy, CURLOPT_URL, url);
    curl_easy_setopt(thread->easy, CURLOPT_WRITEDATA, &body);
    check(curl_easy_perform(thread->easy), thread);
    curl_easy_getinfo(thread->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        fatal("HTTP %ld", status);
    if (sink == TO_FILE)
        save(body.fd, part, path);
    free(body.bytes);
    return body.len;
}
