#include "calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

struct report new_report(size_t len)
{
    struct report report = {fresh_id(), NULL, len};
    char *body = format("{\"id\": \"%s\", \"format\": \"pdf\", \"size\": %lu}", report.id, (unsigned long)len);
    char *description = control("POST", "/reports", body), *hash = strstr(description, "\"en-us\":\"");
    dbss_context *ctx = new_context(fixture("http"));
    dbss_buffer buffer;

    if (hash == NULL)
        fatal("no hash in %s", description);
    require_ok(dbss_report_download(ctx, fixture("project"), fixture("instance"), report.id, "en-us", &buffer));
    if (strncmp(hash + strlen("\"en-us\":\""), sha256(buffer.data, buffer.len), 64) != 0)
        fatal("the hash differs from that of the mock service");
    report.len = buffer.len;
    report.bytes = keep(malloc(buffer.len), free);
    memcpy(report.bytes, buffer.data, buffer.len);
    dbss_buffer_free(&buffer);
    drop(ctx);
    free(description);
    free(body);
    return report;
}

int is_report_prefix(const struct report *report, const void *bytes, size_t len)
{
    return len <= report->len && (len == 0 || memcmp(bytes, report->bytes, len) == 0);
}

int is_report(const struct report *report, const void *bytes, size_t len)
{
    return len == report->len && is_report_prefix(report, bytes, len);
}

struct work new_work(dbss_context *ctx, dbss_operation *operation)
{
    return (struct work){.ctx = ctx,
                         .operation = operation,
                         .project = fixture("project"),
                         .instance = fixture("instance"),
                         .id = fixture("pdf"),
                         .fd = -1};
}

#define REPORT_OF(work) (work)->ctx, (work)->project, (work)->instance, (work)->id, NULL

dbss_status download(const struct work *work)
{
    dbss_buffer buffer = {NULL, 0};
    dbss_status status = dbss_report_download(REPORT_OF(work), &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

dbss_status download_to_memory(const struct work *work)
{
    dbss_buffer buffer = {NULL, 0};
    dbss_status status = dbss_report_download_to_memory(REPORT_OF(work), work->operation, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

dbss_status download_to_file(const struct work *work)
{
    return dbss_report_download_to_file(REPORT_OF(work), work->path, 0, work->operation);
}

dbss_status download_to_directory(const struct work *work)
{
    return dbss_report_download_to_directory(REPORT_OF(work), work->directory, DBSS_FILE_REPLACE, work->operation);
}

dbss_status download_to_fd(const struct work *work)
{
    return dbss_report_download_to_fd(REPORT_OF(work), work->fd, work->operation);
}

dbss_status download_to_callback(const struct work *work)
{
    return dbss_report_download_to_callback(REPORT_OF(work), ignore_bytes, NULL, work->operation);
}

dbss_status download_to_stream(const struct work *work)
{
    char part[4096];
    dbss_report_stream *stream = NULL;
    size_t len = 1;
    dbss_status status = dbss_report_open(REPORT_OF(work), work->operation, &stream);
    while (status == DBSS_OK && len > 0)
        status = dbss_report_stream_read(stream, part, sizeof part, &len);
    dbss_report_stream_free(stream);
    return status;
}

dbss_status list_reports(const struct work *work)
{
    dbss_cursor *cursor = NULL;
    dbss_page *page = NULL;
    dbss_buffer json = {NULL, 0};
    dbss_status status = dbss_reports_list(work->ctx, work->project, work->instance, NULL, 0, &cursor);
    do {
        dbss_page_free(page);
        page = NULL;
        if (status == DBSS_OK)
            status = dbss_cursor_next(cursor, work->operation, &page);
        if (page != NULL)
            status = dbss_page_json(page, &json);
        dbss_buffer_free(&json);
    } while (page != NULL);
    dbss_cursor_free(cursor);
    return status;
}

/* Generates a report, waits for it and deletes it. */
dbss_status generate(const struct work *work)
{
    char id[DBSS_ID_SIZE];
    dbss_report_spec *spec = NULL;
    dbss_status status = dbss_report_spec_new(&spec);
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "template_id", work->template_id);
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "start_time", "2026-11-23 00:00:00");
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "end_time", "2026-11-24 00:00:00");
    if (status == DBSS_OK)
        status = dbss_report_generate(work->ctx, work->project, work->instance, spec, work->operation, id);
    dbss_report_spec_free(spec);
    if (status == DBSS_OK)
        status = dbss_report_wait(work->ctx, work->project, work->instance, id, work->operation);
    return status == DBSS_OK ? dbss_report_delete(work->ctx, work->project, work->instance, id, work->operation)
                             : status;
}

dbss_status show_and_change_schedule(const struct work *work)
{
    dbss_schedule_changes *changes = NULL;
    dbss_page *page = NULL;
    dbss_status status = dbss_schedule_changes_new(&changes);
    if (status == DBSS_OK)
        status = dbss_schedule_changes_set(changes, "status", "ON");
    if (status == DBSS_OK)
        status =
            dbss_schedule_update(work->ctx, work->project, work->instance, work->template_id, changes, work->operation);
    if (status == DBSS_OK)
        status =
            dbss_schedule_show(work->ctx, work->project, work->instance, work->template_id, work->operation, &page);
    dbss_page_free(page);
    dbss_schedule_changes_free(changes);
    return status;
}

dbss_status wait_for_report(const struct work *work)
{
    return dbss_report_wait(work->ctx, work->project, work->instance, work->id, work->operation);
}

dbss_status mirror(const struct work *work)
{
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = NULL;
    dbss_buffer json = {NULL, 0};
    dbss_status status = dbss_mirror_options_new(&options);
    if (status == DBSS_OK)
        status = dbss_mirror_options_set(options, "instance", work->instance);
    if (status == DBSS_OK)
        status = dbss_reports_mirror(work->ctx, work->project, work->directory, options, work->operation, &result);
    if (result != NULL && dbss_mirror_result_json(result, &json) != DBSS_OK && status == DBSS_OK)
        status = DBSS_ERR_OUT_OF_MEMORY;
    dbss_buffer_free(&json);
    dbss_mirror_options_free(options);
    if (work->result != NULL)
        *work->result = result;
    else
        dbss_mirror_result_free(result);
    return status;
}

dbss_status check_credentials(const struct work *work)
{
    return dbss_context_check(work->ctx, work->project, work->operation);
}

dbss_status find_credentials(const struct work *work)
{
    dbss_credentials *credentials = NULL;
    dbss_status status = dbss_context_find_credentials(work->ctx, work->operation, &credentials);
    dbss_credentials_free(credentials);
    return status;
}

int32_t ignore_bytes(void *user_data, const uint8_t *data, size_t len)
{
    return 0;
}

void ignore_record(void *user_data, const dbss_log_record *record)
{
}

void count_destroyed(void *count)
{
    add_locked(count, 1);
}

int32_t count_progress(void *count, const dbss_operation *operation)
{
    CHECK(dbss_operation_received(operation) >= 0);
    add_locked(count, 1);
    return 0;
}

void give_token(dbss_token_request *request, const char *token)
{
    OK(dbss_token_request_set(request, token, -1));
    dbss_token_request_free(request);
}

void provide_token(void *token, dbss_token_request *request)
{
    give_token(request, token);
}

const char *const sink_names[SINKS] = {"memory", "file", "descriptor", "callback", "stream"};

int can_restart(enum sink sink)
{
    return sink == TO_MEMORY || sink == TO_FILE;
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
    char *directory = new_directory(), *path = text("%s/target", directory);
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
    drop(path);
    drop(directory);
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
    CHECK(dbss_report_stream_read(stream, part, 0, &len) == DBSS_ERR_ARGUMENT && len == 0);
    len = 1;
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

void check_call(int line, dbss_status expected, struct call *call, const struct report *report)
{
    const char *sink = sink_names[call->sink];
    if (call->status != expected)
        fail_check("line %d: to %s: expected %s, got %s (%s)", line, sink, dbss_status_name(expected),
                   dbss_status_name(call->status), dbss_error_message(call->error));
    else if (call->status == DBSS_OK && !is_report(report, call->bytes, call->len))
        fail_check("line %d: to %s: wrong bytes (%lu of them, expected %lu)", line, sink, (unsigned long)call->len,
                   (unsigned long)report->len);
    else if (!is_report_prefix(report, call->bytes, call->len))
        fail_check("line %d: to %s: wrong bytes before the failure", line, sink);
    free_call(call);
}

void expect_call(int line, dbss_status expected, const struct report *report, enum sink sink, dbss_context *ctx,
                 dbss_operation *operation)
{
    struct call call = {.sink = sink, .ctx = ctx, .id = report->id, .operation = operation};
    make_call(&call);
    check_call(line, expected, &call, report);
}

void expect_download(int line, dbss_status expected, dbss_context *ctx, dbss_operation *operation)
{
    dbss_buffer report;
    if (expect(line, expected,
               dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), fixture("pdf"), "en-us",
                                              operation, &report))
        == DBSS_OK)
        expect_text(line, fixture("pdf_en"), sha256(report.data, report.len));
    dbss_buffer_free(&report);
}

void expect_download_error(int line, dbss_status expected, dbss_context *ctx, const char *id)
{
    dbss_buffer report = {(uint8_t *)&report, 1};
    expect(line, expected, dbss_report_download(ctx, fixture("project"), fixture("instance"), id, "en-us", &report));
    if (report.data != NULL || report.len != 0)
        fail_check("line %d: a failure did not clear the buffer", line);
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

uint8_t *read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rbe");
    struct stat info;
    uint8_t *bytes = NULL;

    *len = 0;
    if (file == NULL)
        return NULL;
    if (fstat(fileno(file), &info) != 0 || (bytes = malloc((size_t)info.st_size + 1)) == NULL)
        fatal("cannot read %s", path);
    *len = fread(bytes, 1, (size_t)info.st_size, file);
    if (*len != (size_t)info.st_size)
        fatal("cannot read %s", path);
    fclose(file);
    return bytes;
}

int is_file(const char *path, const void *bytes, size_t len)
{
    size_t found_len;
    uint8_t *found = read_file(path, &found_len);
    int is_same = found != NULL && found_len == len && memcmp(found, bytes, len) == 0;
    free(found);
    return is_same;
}

void write_file(const char *path, const char *content)
{
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(content, file) < 0 || fclose(file) != 0)
        fatal("cannot write %s: %s", path, strerror(errno));
}

int null_device(void)
{
    static int fd = -1;
    if (fd < 0 && (fd = open("/dev/null", O_WRONLY | O_CLOEXEC)) < 0)
        fatal("cannot open /dev/null");
    return fd;
}
