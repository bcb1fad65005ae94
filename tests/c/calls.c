#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------
 * Reports with known bytes
 * ------------------------------------------------------------------------ */

/* Fetches the current bytes. `report_json` is the mock service's description. */
static void fetch_report(struct report *report, const char *report_json)
{
    dbss_context *ctx = new_context(fixture("http"));
    dbss_buffer buffer;
    const char *hash = strstr(report_json, "\"en-us\":\"");

    if (hash == NULL)
        fatal("no hash in %s", report_json);
    hash += strlen("\"en-us\":\"");
    if (dbss_report_download(ctx, fixture("project"), fixture("instance"), report->id, "en-us", &buffer) != DBSS_OK)
        fatal("cannot fetch a report: %s", dbss_error_message(dbss_last_error()));
    if (strncmp(hash, sha256(buffer.data, buffer.len), 64) != 0)
        fatal("the hash differs from that of the mock service");
    free(report->bytes);
    report->len = buffer.len;
    report->bytes = malloc(buffer.len);
    if (report->bytes == NULL)
        fatal("out of memory");
    memcpy(report->bytes, buffer.data, buffer.len);
    dbss_buffer_free(&buffer);
    dbss_context_free(ctx);
}

struct report new_report(size_t len)
{
    struct report report = {NULL, NULL, 0};
    char *body, *report_json;

    report.id = fresh_id();
    body = format("{\"id\": \"%s\", \"format\": \"pdf\", \"size\": %lu}", report.id, (unsigned long)len);
    report_json = control("POST", "/reports", body);
    fetch_report(&report, report_json);
    free(report_json);
    free(body);
    return report;
}

void free_report(struct report *report)
{
    free(report->bytes);
    report->bytes = NULL;
}

/* ---------------------------------------------------------------------------
 * Calls
 * ------------------------------------------------------------------------ */

const char *const sink_names[SINKS] = {"memory", "file", "descriptor", "callback", "stream"};

int can_restart(enum sink sink)
{
    return sink == TO_MEMORY || sink == TO_FILE;
}

dbss_operation *new_operation(void)
{
    dbss_operation *operation;
    if (dbss_operation_new(&operation) != DBSS_OK)
        fatal("cannot create an operation: %s", dbss_error_message(dbss_last_error()));
    return operation;
}

struct call new_call(enum sink sink, dbss_context *ctx, const char *id, dbss_operation *operation)
{
    struct call call;
    memset(&call, 0, sizeof call);
    call.sink = sink;
    call.ctx = ctx;
    call.id = id;
    call.operation = operation;
    return call;
}

static void append_bytes(struct call *call, const void *data, size_t len)
{
    if (call->len + len > call->capacity) {
        call->capacity = (call->len + len) * 2;
        call->bytes = realloc(call->bytes, call->capacity);
        if (call->bytes == NULL)
            fatal("out of memory");
    }
    memcpy(call->bytes + call->len, data, len);
    call->len += len;
}

static int32_t receive_bytes(void *user_data, const uint8_t *data, size_t len)
{
    struct call *call = user_data;
    CHECK(len > 0);
    append_bytes(call, data, len);
    if (call->on_data != NULL)
        call->on_data(call);
    return 0;
}

#define REPORT_ARGUMENTS call->ctx, fixture("project"), fixture("instance"), call->id, "en-us"

static void call_to_memory(struct call *call)
{
    dbss_buffer report = {(uint8_t *)call, 1};
    call->status = dbss_report_download_to_memory(REPORT_ARGUMENTS, call->operation, &report);
    if (call->status == DBSS_OK)
        append_bytes(call, report.data, report.len);
    else
        CHECK(report.data == NULL && report.len == 0);
    if (call->status == DBSS_OK)
        dbss_buffer_free(&report);
}

static void call_to_file(struct call *call)
{
    char *directory = new_directory(), *path = format("%s/target", directory);
    uint8_t *bytes;
    size_t len;

    call->status = dbss_report_download_to_file(REPORT_ARGUMENTS, path, 0, call->operation);
    /* The next call would replace the last error. */
    call->error = dbss_error_take();
    bytes = read_file(path, &len);
    CHECK((bytes != NULL) == (call->status == DBSS_OK));
    CHECK(count_entries(directory) == (call->status == DBSS_OK));
    if (bytes != NULL) {
        struct stat info;
        CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600);
        append_bytes(call, bytes, len);
    }
    free(bytes);
    free(path);
    remove_directory(directory);
}

static void call_to_fd(struct call *call)
{
    FILE *file = tmpfile();
    char part[65536];
    ssize_t n;

    if (file == NULL)
        fatal("cannot create a temporary file");
    call->status = dbss_report_download_to_fd(REPORT_ARGUMENTS, fileno(file), call->operation);
    if (lseek(fileno(file), 0, SEEK_SET) != 0)
        fatal("the descriptor was closed");
    while ((n = read(fileno(file), part, sizeof part)) > 0)
        append_bytes(call, part, (size_t)n);
    fclose(file);
}

static void call_to_stream(struct call *call)
{
    static const size_t capacities[] = {1, 100, 4096, 65536, 300000};
    dbss_report_stream *stream = (dbss_report_stream *)call;
    char *part = malloc(300000);
    size_t len = 1, i = 0;
    dbss_status again;

    if (part == NULL)
        fatal("out of memory");
    call->status = dbss_report_open(REPORT_ARGUMENTS, call->operation, &stream);
    if (call->status != DBSS_OK) {
        CHECK(stream == NULL);
        free(part);
        return;
    }
    while (call->status == DBSS_OK && len > 0) {
        /* Not always small, as a report may be long. */
        size_t capacity = capacities[i++ % 5];
        len = capacity + 1;
        call->status = dbss_report_stream_read(stream, part, capacity, &len);
        CHECK(len <= capacity && (call->status == DBSS_OK || len == 0));
        append_bytes(call, part, len);
        if (call->on_data != NULL && len > 0)
            call->on_data(call);
    }
    call->error = dbss_error_take();
    /* The end persists, and so does a failure. A read after the context was closed
     * has its own error. */
    len = 1;
    again = dbss_report_stream_read(stream, part, 1, &len);
    CHECK((again == call->status || (again == DBSS_ERR_CLOSED && call->status == DBSS_ERR_CANCELLED)) && len == 0);
    dbss_report_stream_free(stream);
    free(part);
}

void make_call(struct call *call)
{
    long long start = now_ms();
    call->error = NULL;
    call->bytes = NULL;
    call->len = call->capacity = 0;
    switch (call->sink) {
    case TO_MEMORY: call_to_memory(call); break;
    case TO_FILE: call_to_file(call); break;
    case TO_FD: call_to_fd(call); break;
    case TO_CALLBACK:
        call->status = dbss_report_download_to_callback(REPORT_ARGUMENTS, receive_bytes, call, call->operation);
        break;
    default: call_to_stream(call); break;
    }
    call->ended_ms = now_ms();
    call->duration_ms = call->ended_ms - start;
    if (call->error == NULL)
        call->error = dbss_error_take();
    if (dbss_error_status(call->error) != call->status)
        fail_check("to %s: the call returned %s, but its error has %s", sink_names[call->sink],
                   dbss_status_name(call->status), dbss_status_name(dbss_error_status(call->error)));
}

static void *run_call(void *argument)
{
    make_call(argument);
    return NULL;
}

void start_call(struct call *call)
{
    call->thread = start_thread(run_call, call);
}

void join_call(struct call *call)
{
    pthread_join(call->thread, NULL);
}

void free_call(struct call *call)
{
    dbss_error_free(call->error);
    free(call->bytes);
    call->error = NULL;
    call->bytes = NULL;
}

int has_report_prefix(const struct call *call, const struct report *report)
{
    return call->len <= report->len && (call->len == 0 || memcmp(call->bytes, report->bytes, call->len) == 0);
}

int has_whole_report(const struct call *call, const struct report *report)
{
    return call->len == report->len && has_report_prefix(call, report);
}

int check_call(int line, dbss_status expected, const struct call *call, const struct report *report)
{
    const char *sink = sink_names[call->sink];
    if (call->status != expected)
        fail_check("line %d: to %s: expected %s, got %s (%s)", line, sink, dbss_status_name(expected),
                   dbss_status_name(call->status), dbss_error_message(call->error));
    else if (call->status == DBSS_OK && !has_whole_report(call, report))
        fail_check("line %d: to %s: wrong bytes (%lu of them, expected %lu)", line, sink, (unsigned long)call->len,
                   (unsigned long)report->len);
    else if (!has_report_prefix(call, report))
        fail_check("line %d: to %s: wrong bytes before the failure", line, sink);
    else
        return 1;
    return 0;
}

/* ---------------------------------------------------------------------------
 * Directories
 * ------------------------------------------------------------------------ */

char *new_directory(void)
{
    const char *base = getenv("TMPDIR");
    char *path = format("%s/dbss-test.XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(path) == NULL)
        fatal("cannot create a directory: %s", strerror(errno));
    return path;
}

int count_entries(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    int count = 0;
    if (directory == NULL)
        fatal("cannot read %s: %s", path, strerror(errno));
    while ((entry = readdir(directory)) != NULL)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(directory);
    return count;
}

void remove_tree(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char *inside = format("%s/%s", path, entry->d_name);
        struct stat found;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            if (lstat(inside, &found) == 0 && S_ISDIR(found.st_mode))
                remove_tree(inside);
            else if (unlink(inside) != 0)
                fail_check("cannot remove %s", inside);
        }
        free(inside);
    }
    if (directory != NULL)
        closedir(directory);
    if (rmdir(path) != 0)
        fail_check("cannot remove %s", path);
}

void remove_directory(char *path)
{
    remove_tree(path);
    free(path);
}

uint8_t *read_file(const char *path, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    uint8_t *bytes;
    size_t done = 0;

    *len = 0;
    if (fd < 0)
        return NULL;
    if (fstat(fd, &info) != 0 || (bytes = malloc((size_t)info.st_size + 1)) == NULL)
        fatal("cannot read %s", path);
    while (done < (size_t)info.st_size) {
        ssize_t n = read(fd, bytes + done, (size_t)info.st_size - done);
        if (n <= 0)
            fatal("cannot read %s", path);
        done += (size_t)n;
    }
    close(fd);
    *len = done;
    return bytes;
}

void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        fatal("cannot write %s: %s", path, strerror(errno));
}
