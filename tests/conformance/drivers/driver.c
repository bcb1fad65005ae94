/* The driver of the conformance suite for C. ../README.md describes its protocol.
 *
 * Every out-parameter holds garbage before a call, so that one that is not set shows.
 * What the driver finds wrong itself is in "mistakes" of the error, which fails the case. */

#define _POSIX_C_SOURCE 200809L

#include <cjson/cJSON.h>
#include <dbss.h>

#include <locale.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char garbage[DBSS_ID_SIZE];
#define GARBAGE ((void *)garbage)
#define NO_NUMBER INT64_MIN

/* A request, and the call that it is about. It stays until the end, because its operation
 * may belong to a stream or a list, and be cancelled, after the call. */
struct call {
    struct call *next;
    cJSON *request, *arguments, *error, *mistakes, *result;
    char *unsupported;
    dbss_context *ctx;
    dbss_report_stream *stream;
    dbss_cursor *cursor;
    dbss_operation *operation;
    int owns_operation, under_operation, used_operation, result_on_failure, in_thread, progress_calls;
    int64_t stop_after, fail_after, written, first[2], last[2];
    dbss_status status;
    FILE *into;
    pthread_t thread;
};

/* What is kept: by a name, or a token request until the end. */
enum kind { CLIENT, STREAM, LIST, TOKEN_REQUEST };
struct named {
    struct named *next;
    enum kind kind;
    char *name;
    void *handle;
    /* The call that made it; its operation is that of a stream or a list. */
    struct call *maker;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct named *all_named;
static atomic_int undestroyed;

static void die(const char *what)
{
    fprintf(stderr, "driver: %s\n", what);
    abort();
}

static void *allocate(size_t size)
{
    void *made = calloc(1, size);
    if (made == NULL)
        die("out of memory");
    return made;
}

static char *format(const char *text, ...)
{
    char *made = allocate(1000);
    va_list values;
    va_start(values, text);
    vsnprintf(made, 1000, text, values);
    va_end(values);
    return made;
}

/* ---------------------------------------------------------------------------
 * JSON
 * ------------------------------------------------------------------------ */

/* A member of an object; NULL if there is none. */
static cJSON *get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* The text of a value, which is converted in place. NULL for null. */
static const char *text_of(cJSON *value)
{
    const cJSON *hex = get(value, "hex");
    char *text;
    size_t i;

    if (value == NULL || cJSON_IsNull(value))
        return NULL;
    if (cJSON_IsString(value))
        return value->valuestring;
    if (cJSON_IsString(hex)) {
        text = allocate(strlen(hex->valuestring) / 2 + 1);
        for (i = 0; hex->valuestring[2 * i] != '\0'; i++)
            if (sscanf(hex->valuestring + 2 * i, "%2hhx", (unsigned char *)&text[i]) != 1)
                die("wrong hexadecimal digits");
    } else {
        text = cJSON_PrintUnformatted(value);
    }
    cJSON_Delete(value->child);
    value->child = NULL;
    value->valuestring = text;
    value->type = cJSON_String;
    return text;
}

static cJSON *text_json(const char *text)
{
    cJSON *object;
    char *hex;
    size_t i;

    if (text == NULL)
        return cJSON_CreateNull();
    if (mbstowcs(NULL, text, 0) != (size_t)-1)
        return cJSON_CreateString(text);
    hex = allocate(2 * strlen(text) + 1);
    for (i = 0; text[i] != '\0'; i++)
        sprintf(hex + 2 * i, "%02x", (unsigned char)text[i]);
    object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "hex", hex);
    free(hex);
    return object;
}

static void add_text(cJSON *object, const char *key, const char *text)
{
    cJSON_AddItemToObject(object, key, text_json(text));
}

static void add_number(cJSON *object, const char *key, int64_t number, int64_t none)
{
    cJSON_AddItemToObject(object, key, number == none ? cJSON_CreateNull() : cJSON_CreateNumber((double)number));
}

/* Adds the word of a constant; the first word, of 0, is none. */
#define ADD_WORD(object, key, words, value)                                                                            \
    add_text(object, key, (size_t)(value) < sizeof(words) / sizeof *(words) ? (words)[value] : "unknown")

static const char *const formats[] = {NULL, "pdf", "zip"};
static const char *const levels[] = {NULL, "error", "warning", "info", "debug"};
static const char *const cancellers[] = {NULL, "operation", "client", "close", "callback"};

/* Prints a line and frees it. */
static void print(cJSON *line)
{
    char *text = cJSON_PrintUnformatted(line);
    pthread_mutex_lock(&lock);
    if (puts(text) < 0 || fflush(stdout) != 0)
        die("cannot write");
    pthread_mutex_unlock(&lock);
    free(text);
    cJSON_Delete(line);
}

/* The message, if its parts are it. */
static const char *message_of(const dbss_error *error)
{
    const char *message = dbss_error_message(error), *rest = message;
    for (size_t i = 0; i < dbss_error_part_count(error); i++) {
        const char *part = dbss_error_part_text(error, i);
        if (strncmp(rest, part, strlen(part)) != 0)
            break;
        rest += strlen(part);
    }
    return *rest == '\0' ? message : "the parts of the message are another text";
}

static cJSON *error_json(const dbss_error *error)
{
    cJSON *json = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(json, "details"), *detail;
    size_t i;

    for (i = 0; i < dbss_error_detail_count(error); i++) {
        cJSON_AddItemToArray(list, detail = cJSON_CreateObject());
        add_text(detail, "code", dbss_error_detail_code(error, i));
        add_text(detail, "message", dbss_error_detail_message(error, i));
    }
    list = cJSON_AddArrayToObject(json, "candidates");
    for (i = 0; i < dbss_error_candidate_count(error); i++)
        cJSON_AddItemToArray(list, text_json(dbss_error_candidate(error, i)));
    add_text(json, "status", dbss_status_name(dbss_error_status(error)));
    add_text(json, "message", message_of(error));
    add_text(json, "parameter", dbss_error_parameter(error));
    add_number(json, "http_status", dbss_error_http_status(error), 0);
    add_text(json, "service_code", dbss_error_service_code(error));
    add_text(json, "service_message", dbss_error_service_message(error));
    add_text(json, "request_id", dbss_error_request_id(error));
    add_text(json, "encoded_authorization_message", dbss_error_encoded_authorization_message(error));
    ADD_WORD(json, "cancelled_by", cancellers, dbss_error_cancelled_by(error));
    add_text(json, "redirect_target", dbss_error_redirect_target(error));
    add_text(json, "path", dbss_error_path(error));
    add_number(json, "os_code", dbss_error_os_code(error), 0);
    cJSON_AddBoolToObject(json, "retryable", dbss_error_is_retryable(error));
    add_number(json, "retry_after_ms", dbss_error_retry_after_ms(error), -1);
    add_number(json, "attempts", dbss_error_attempts(error), NO_NUMBER);
    return json;
}

/* ---------------------------------------------------------------------------
 * What a call gets and returns
 * ------------------------------------------------------------------------ */

static void add_mistake(struct call *c, const char *name, const char *what)
{
    char *text = format("%s %s", name, what);
    if (c->mistakes == NULL)
        c->mistakes = cJSON_CreateArray();
    cJSON_AddItemToArray(c->mistakes, text_json(text));
    free(text);
}

static cJSON *argument(struct call *c, const char *key)
{
    cJSON *value = get(c->arguments, key);
    if (value == NULL)
        add_mistake(c, key, "is missing in the arguments");
    return value;
}

static const char *text(struct call *c, const char *key)
{
    return text_of(argument(c, key));
}

/* A number; -1 for null. */
static int64_t number(struct call *c, const char *key)
{
    const cJSON *value = argument(c, key);
    return cJSON_IsNumber(value) ? (int64_t)value->valuedouble : -1;
}

/* The operation, for a function that is called under it. */
static dbss_operation *under(struct call *c)
{
    c->under_operation = c->used_operation = c->operation != NULL;
    return c->operation;
}

/* Takes the status of the function that was just called, and its error. */
static int ok(struct call *c, dbss_status status)
{
    const dbss_error *last = dbss_last_error();
    dbss_error *kept = c->under_operation ? dbss_operation_error(c->operation) : NULL;
    /* A busy operation has the error of its other call. */
    int is_kept = c->under_operation && status != DBSS_ERR_BUSY;
    cJSON *error = error_json(is_kept ? kept : last), *other = error_json(last);

    if ((last == NULL) != (status == DBSS_OK) || dbss_error_status(last) != status)
        add_mistake(c, "dbss_last_error()", "does not have the status");
    if (is_kept && (kept == NULL) != (status == DBSS_OK))
        add_mistake(c, "dbss_operation_error()", status == DBSS_OK ? "is set after success" : "is NULL");
    else if (!cJSON_Compare(error, other, 1))
        add_mistake(c, "dbss_operation_error()", "differs from dbss_last_error()");
    dbss_error_free(kept);
    cJSON_Delete(other);
    cJSON_Delete(c->error);
    c->error = error;
    if (status == DBSS_OK) {
        cJSON_Delete(error);
        c->error = NULL;
    }
    c->under_operation = 0;
    c->status = status;
    return status == DBSS_OK;
}

/* The same for a function that makes an object. */
static int made(struct call *c, dbss_status status, const char *parameter, const void *out)
{
    void *handle;
    memcpy(&handle, out, sizeof handle);
    if (ok(c, status) ? handle == NULL || handle == GARBAGE : handle != NULL)
        add_mistake(c, parameter, status == DBSS_OK ? "is not set" : "is not NULL after a failure");
    return status == DBSS_OK;
}

/* Passes the pairs of a list, or of an object, to a function. */
#define SET_ALL(c, pairs, set, handle)                                                                                 \
    for (cJSON *one_ = (pairs) != NULL ? (pairs)->child : NULL; one_ != NULL && (c)->status == DBSS_OK;                \
         one_ = one_->next)                                                                                            \
    ok(c, cJSON_IsArray(one_) ? set(handle, text_of(one_->child), text_of(one_->child->next))                          \
                              : set(handle, one_->string, text_of(one_)))

/* Makes an object of an argument, unless that is null. */
#define FILL(c, key, type, handle)                                                                                     \
    if (!cJSON_IsNull(argument(c, key)) && (handle = GARBAGE, made(c, type##_new(&handle), "out_" key, &handle)))      \
    SET_ALL(c, argument(c, key), type##_set, handle)

/* Writes bytes of a report to the file of the harness. */
static void save(struct call *c, const void *bytes, size_t len)
{
    if (c->into != NULL && len > 0 && fwrite(bytes, 1, len, c->into) != len)
        die("cannot write bytes");
}

/* The received bytes and the total. */
static cJSON *pair_json(const int64_t pair[2])
{
    cJSON *json = cJSON_CreateArray();
    cJSON_AddItemToArray(json, cJSON_CreateNumber((double)pair[0]));
    cJSON_AddItemToArray(json, pair[1] < 0 ? cJSON_CreateNull() : cJSON_CreateNumber((double)pair[1]));
    return json;
}

static cJSON *operation_json(const struct call *c)
{
    const dbss_operation *operation = c->operation;
    cJSON *json = cJSON_CreateObject(), *progress;
    add_number(json, "received", dbss_operation_received(operation), NO_NUMBER);
    add_number(json, "total", dbss_operation_total(operation), -1);
    add_number(json, "resumed", dbss_operation_resumed(operation), NO_NUMBER);
    add_number(json, "attempts", dbss_operation_attempts(operation), NO_NUMBER);
    add_number(json, "percent", dbss_operation_percent(operation), -1);
    add_text(json, "path", dbss_operation_path(operation));
    add_text(json, "filename", dbss_operation_filename(operation));
    add_text(json, "request_id", dbss_operation_request_id(operation));
    add_text(json, "content_type", dbss_operation_content_type(operation));
    ADD_WORD(json, "format", formats, dbss_operation_format(operation));
    if (c->progress_calls > 0) {
        progress = cJSON_AddObjectToObject(json, "progress");
        add_number(progress, "calls", c->progress_calls, NO_NUMBER);
        cJSON_AddItemToObject(progress, "first", pair_json(c->first));
        cJSON_AddItemToObject(progress, "last", pair_json(c->last));
    }
    return json;
}

static void respond(struct call *c)
{
    cJSON *line = cJSON_CreateObject();

    cJSON_AddItemToObject(line, "id", cJSON_Duplicate(get(c->request, "id"), 1));
    if (c->unsupported != NULL) {
        add_text(line, "unsupported", c->unsupported);
        cJSON_Delete(c->error);
        cJSON_Delete(c->mistakes);
        print(line);
        return;
    }
    add_text(line, "status", dbss_status_name(c->status));
    if (c->mistakes != NULL && c->error == NULL)
        c->error = cJSON_CreateObject();
    if (c->mistakes != NULL)
        cJSON_AddItemToObject(c->error, "mistakes", c->mistakes);
    if (c->error != NULL)
        cJSON_AddItemToObject(line, "error", c->error);
    if (c->status == DBSS_OK || c->result_on_failure)
        cJSON_AddItemToObject(line, "result", cJSON_Duplicate(c->result, 1));
    if (c->operation != NULL)
        cJSON_AddItemToObject(line, "operation", operation_json(c));
    print(line);
}

/* ---------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------ */

static struct named *find(enum kind kind, const char *name)
{
    struct named *one;
    pthread_mutex_lock(&lock);
    for (one = all_named; one != NULL && (one->kind != kind || strcmp(one->name, name) != 0); one = one->next)
        continue;
    pthread_mutex_unlock(&lock);
    return one;
}

static void forget(struct named *one)
{
    struct named **link = &all_named;
    if (one == NULL)
        return;
    pthread_mutex_lock(&lock);
    while (*link != one)
        link = &(*link)->next;
    *link = one->next;
    pthread_mutex_unlock(&lock);
    switch (one->kind) {
    case CLIENT: dbss_context_free(one->handle); break;
    case STREAM: dbss_report_stream_free(one->handle); break;
    case LIST: dbss_cursor_free(one->handle); break;
    case TOKEN_REQUEST: dbss_token_request_free(one->handle); break;
    }
    free(one->name);
    free(one);
}

static void remember(enum kind kind, const char *name, void *handle, struct call *maker)
{
    struct named *one = allocate(sizeof *one);
    if (name == NULL)
        die("what is kept has no name");
    if (kind != TOKEN_REQUEST)
        forget(find(kind, name));
    *one = (struct named){NULL, kind, format("%s", name), handle, maker};
    pthread_mutex_lock(&lock);
    one->next = all_named;
    all_named = one;
    pthread_mutex_unlock(&lock);
}

/* ---------------------------------------------------------------------------
 * Clients
 * ------------------------------------------------------------------------ */

static void destroy(void *user_data)
{
    (void)user_data;
    undestroyed--;
}

/* Counts a callback whose destroy function must be called once. */
static void *watched(void *user_data)
{
    undestroyed++;
    return user_data;
}

static void log_record(void *user_data, const dbss_log_record *record)
{
    const struct call *c = user_data;
    cJSON *line = cJSON_CreateObject();
    dbss_error *error = dbss_log_record_error(record);
    dbss_status status = dbss_log_record_status(record);

    if (dbss_error_status(error) != status)
        die("the error of a log record does not have its status");
    dbss_error_free(error);
    add_text(line, "event", "log");
    add_text(line, "client", text_of(get(c->request, "client")));
    ADD_WORD(line, "level", levels, dbss_log_record_level(record));
    add_text(line, "message", dbss_log_record_message(record));
    add_text(line, "status", status == DBSS_OK ? NULL : dbss_status_name(status));
    add_number(line, "attempt", dbss_log_record_attempt(record), 0);
    add_text(line, "request_id", dbss_log_record_request_id(record));
    add_text(line, "report_id", dbss_log_record_report_id(record));
    add_number(line, "bytes", dbss_log_record_bytes(record), -1);
    add_number(line, "duration_ms", dbss_log_record_duration_ms(record), -1);
    add_number(line, "offset", dbss_log_record_offset(record), -1);
    add_number(line, "retry_delay_ms", dbss_log_record_retry_delay_ms(record), -1);
    add_number(line, "http_status", dbss_log_record_http_status(record), 0);
    print(line);
}

static void answer_request(dbss_token_request *request, cJSON *answer)
{
    cJSON *token;
    const cJSON *lifetime;
    struct timespec now;
    int64_t expires = -1;
    /* A wrong token fails here too; the call tells. */
    dbss_status status = DBSS_OK;

    token = get(answer, "token") != NULL ? get(answer, "token") : get(answer, "passcode");
    lifetime = get(answer, "expires_in_ms");
    clock_gettime(CLOCK_REALTIME, &now);
    if (cJSON_IsNumber(lifetime))
        expires = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + (int64_t)lifetime->valuedouble;
    if (token != NULL)
        status = dbss_token_request_set(request, text_of(token), expires);
    else
        status = dbss_token_request_fail(request, text_of(get(answer, "fail")));
    (void)status;
}

/* Gives the next answer, and the last one again and again. */
static void provide(const struct call *c, const char *answers_of, dbss_token_request *request)
{
    cJSON *answers = get(c->request, answers_of), *answer, *line = cJSON_CreateObject();

    add_text(line, "event", "asked");
    add_text(line, "client", text_of(get(c->request, "client")));
    cJSON_AddBoolToObject(line, "refused", dbss_token_request_refused(request));
    pthread_mutex_lock(&lock);
    answer = cJSON_GetArraySize(answers) > 1 ? cJSON_DetachItemFromArray(answers, 0)
                                             : cJSON_Duplicate(cJSON_GetArrayItem(answers, 0), 1);
    pthread_mutex_unlock(&lock);
    if (get(answer, "hold") != NULL)
        remember(TOKEN_REQUEST, "", request, NULL);
    print(line);
    if (get(answer, "hold") == NULL) {
        answer_request(request, answer);
        dbss_token_request_free(request);
    }
    cJSON_Delete(answer);
}

static void provide_token(void *user_data, dbss_token_request *request)
{
    provide(user_data, "token_provider", request);
}

static void provide_passcode(void *user_data, dbss_token_request *request)
{
    provide(user_data, "passcodes", request);
}

/* Sets an option through its own function, where it has one. */
static dbss_status set_option(dbss_config *config, const char *key, const char *value)
{
    if (strcmp(key, "region") == 0)
        return dbss_config_set_region(config, value);
    if (strcmp(key, "endpoint") == 0)
        return dbss_config_set_endpoint(config, value);
    if (strcmp(key, "token") == 0)
        return dbss_config_set_token(config, value);
    return dbss_config_set(config, key, value);
}

static void configure(struct call *c)
{
    const char *name = text_of(get(c->request, "client")), *level = text_of(get(c->request, "log"));
    cJSON *tokens = get(c->request, "token_provider"), *passcodes = get(c->request, "passcodes");
    const cJSON *settings = get(c->request, "settings");
    dbss_config *config = GARBAGE;
    dbss_context *ctx = GARBAGE;

    forget(find(CLIENT, name));
    if (!made(c, dbss_config_new(&config), "out_config", &config))
        return;
    SET_ALL(c, settings, set_option, config);
    if (c->status == DBSS_OK && level != NULL)
        ok(c, dbss_config_set(config, "log_level", level));
    if (c->status == DBSS_OK && level != NULL)
        ok(c, dbss_config_set_log(config, log_record, watched(c), destroy));
    if (c->status == DBSS_OK && cJSON_IsArray(tokens))
        ok(c, dbss_config_set_token_provider(config, provide_token, watched(c), destroy));
    if (c->status == DBSS_OK && cJSON_IsArray(passcodes))
        ok(c, dbss_config_set_passcode_provider(config, provide_passcode, watched(c), destroy));
    if (c->status == DBSS_OK && made(c, dbss_context_new(config, &ctx), "out_ctx", &ctx))
        remember(CLIENT, name, ctx, c);
    dbss_config_free(config);
}

/* ---------------------------------------------------------------------------
 * Calls
 * ------------------------------------------------------------------------ */

#define PROJECT c->ctx, text(c, "project")
#define INSTANCE PROJECT, text(c, "instance")
#define REPORT INSTANCE, text(c, "id")
#define DOWNLOAD REPORT, text(c, "locale")
#define PAGE_SIZE (uint32_t)number(c, "page_size")

static int is(const struct call *c, const char *name)
{
    return strcmp(get(c->request, "call")->valuestring, name) == 0;
}

static void find_credentials(struct call *c)
{
    dbss_credentials *found = GARBAGE;
    if (!made(c, dbss_context_find_credentials(c->ctx, under(c), &found), "out_credentials", &found))
        return;
    add_text(c->result, "source", dbss_credentials_source(found));
    add_text(c->result, "description", dbss_credentials_description(found));
    add_text(c->result, "name", dbss_credentials_name(found));
    add_text(c->result, "project", dbss_credentials_project(found));
    add_number(c->result, "expires_ms", dbss_credentials_expires_ms(found), -1);
    dbss_credentials_free(found);
}

static void download_to_memory(struct call *c)
{
    dbss_buffer buffer = {GARBAGE, 12345};
    if (ok(c, is(c, "download") ? dbss_report_download(DOWNLOAD, &buffer)
                                : dbss_report_download_to_memory(DOWNLOAD, under(c), &buffer)))
        save(c, buffer.data, buffer.len);
    else if (buffer.data != NULL || buffer.len != 0)
        add_mistake(c, "out_buf", "is not empty after a failure");
    dbss_buffer_free(&buffer);
}

static void download_to_file(struct call *c)
{
    uint32_t flags = cJSON_IsTrue(argument(c, "replace")) ? DBSS_FILE_REPLACE : 0;
    const char *path = is(c, "download_to_file") ? text(c, "path") : text(c, "directory");
    if (ok(c, is(c, "download_to_file") ? dbss_report_download_to_file(DOWNLOAD, path, flags, under(c))
                                        : dbss_report_download_to_directory(DOWNLOAD, path, flags, under(c))))
        add_text(c->result, "path", c->operation != NULL ? dbss_operation_path(c->operation) : path);
}

static int32_t write_part(void *user_data, const uint8_t *data, size_t len)
{
    struct call *c = user_data;
    save(c, data, len);
    c->written += (int64_t)len;
    return c->fail_after >= 0 && c->written >= c->fail_after;
}

/* Reads parts of a stream until there are so many bytes, or to its end for -1. */
static void read_parts(struct call *c, dbss_report_stream *stream, int64_t size, size_t part)
{
    char *bytes = allocate(part + 1);
    size_t len = 1;

    while (size != 0 && len > 0) {
        size_t room = size >= 0 && (uint64_t)size < part ? (size_t)size : part;
        len = SIZE_MAX;
        if (!ok(c, dbss_report_stream_read(stream, bytes, room, &len))) {
            if (len != 0)
                add_mistake(c, "out_len", "is not 0 after a failure");
            break;
        }
        if (len > room)
            die("out_len is larger than the buffer");
        save(c, bytes, len);
        size -= size > 0 ? (int64_t)len : 0;
    }
    cJSON_AddBoolToObject(c->result, "at_end", len == 0);
    free(bytes);
}

static void open_report(struct call *c)
{
    dbss_report_stream *stream = GARBAGE;
    if (!made(c, dbss_report_open(DOWNLOAD, under(c), &stream), "out_stream", &stream))
        return;
    add_number(c->result, "size", dbss_report_stream_size(stream), -1);
    ADD_WORD(c->result, "format", formats, dbss_report_stream_format(stream));
    add_text(c->result, "filename", dbss_report_stream_filename(stream));
    add_text(c->result, "content_type", dbss_report_stream_content_type(stream));
    add_text(c->result, "request_id", dbss_report_stream_request_id(stream));
    if (cJSON_IsTrue(argument(c, "keep"))) {
        remember(STREAM, text(c, "as"), stream, c);
        return;
    }
    read_parts(c, stream, -1, (size_t)number(c, "read_size"));
    dbss_report_stream_free(stream);
}

/* The fields of an item that the case compares. */
static cJSON *item_json(struct call *c, const dbss_page *page, size_t index)
{
    cJSON *item = cJSON_CreateObject(), *field;
    cJSON_ArrayForEach(field, argument(c, "fields"))
        add_text(item, field->valuestring, dbss_page_field(page, index, field->valuestring));
    return item;
}

/* Adds the items of the next page. Returns 0 at the end, and after a failure. */
static int add_page(struct call *c, dbss_cursor *cursor, cJSON *items, int64_t *total)
{
    dbss_page *page = GARBAGE;
    size_t i;

    /* At the end of the list there is no page. */
    if (ok(c, dbss_cursor_next(cursor, under(c), &page)) ? page == GARBAGE : page != NULL)
        add_mistake(c, "out_page", "is wrong");
    if (c->status != DBSS_OK || page == NULL)
        return 0;
    if (dbss_page_count(page) == 0)
        add_mistake(c, "out_page", "is empty");
    for (i = 0; i < dbss_page_count(page); i++)
        cJSON_AddItemToArray(items, item_json(c, page, i));
    *total = dbss_page_total(page);
    dbss_page_free(page);
    return 1;
}

static void read_list(struct call *c)
{
    dbss_cursor *cursor = GARBAGE;
    dbss_status status;
    int64_t total = -1;
    cJSON *items;
    int pages;

    if (is(c, "instances"))
        status = dbss_instances_list(PROJECT, PAGE_SIZE, &cursor);
    else if (is(c, "templates"))
        status = dbss_templates_list(INSTANCE, &cursor);
    else if (is(c, "reports"))
        status = dbss_reports_list(INSTANCE, text(c, "name"), PAGE_SIZE, &cursor);
    else
        status = dbss_databases_list(INSTANCE, text(c, "status"), PAGE_SIZE, &cursor);
    if (!made(c, status, "out_cursor", &cursor))
        return;
    if (cJSON_IsTrue(argument(c, "keep"))) {
        remember(LIST, text(c, "as"), cursor, c);
        c->used_operation = 1;
        return;
    }
    items = cJSON_AddArrayToObject(c->result, "items");
    for (pages = 0; add_page(c, cursor, items, &total); pages++)
        continue;
    add_number(c->result, "total", total, -1);
    add_number(c->result, "pages", pages, NO_NUMBER);
    dbss_cursor_free(cursor);
}

static void next_page(struct call *c)
{
    int64_t total = -1;
    int more = add_page(c, c->cursor, cJSON_AddArrayToObject(c->result, "items"), &total);
    add_number(c->result, "total", total, -1);
    cJSON_AddBoolToObject(c->result, "at_end", !more);
}

static void show_schedule(struct call *c)
{
    dbss_page *page = GARBAGE;
    if (!made(c, dbss_schedule_show(INSTANCE, text(c, "template"), under(c), &page), "out_page", &page))
        return;
    cJSON_Delete(c->result);
    c->result = item_json(c, page, 0);
    dbss_page_free(page);
}

static void update_schedule(struct call *c)
{
    dbss_schedule_changes *changes = NULL;
    FILL(c, "changes", dbss_schedule_changes, changes);
    if (c->status == DBSS_OK)
        ok(c, dbss_schedule_update(INSTANCE, text(c, "template"), changes, under(c)));
    dbss_schedule_changes_free(changes);
}

static void create(struct call *c)
{
    dbss_report_spec *spec = NULL;

    FILL(c, "spec", dbss_report_spec, spec);
    if (c->status == DBSS_OK && is(c, "create")) {
        ok(c, dbss_report_create(INSTANCE, spec, under(c)));
    } else if (c->status == DBSS_OK) {
        char id[DBSS_ID_SIZE] = "garbage";
        if (ok(c, dbss_report_generate(INSTANCE, spec, under(c), id)))
            add_text(c->result, "id", id);
        else if (*id != '\0')
            add_mistake(c, "out_id", "is not empty after a failure");
    }
    dbss_report_spec_free(spec);
}

static void add_mirror_result(cJSON *json, const dbss_mirror_result *result)
{
    cJSON *list, *one;
    const char *id;
    size_t i;

    add_number(json, "listed", dbss_mirror_result_listed(result), NO_NUMBER);
    add_number(json, "downloaded", dbss_mirror_result_downloaded(result), NO_NUMBER);
    add_number(json, "present", dbss_mirror_result_present(result), NO_NUMBER);
    add_number(json, "not_ready", dbss_mirror_result_not_ready(result), NO_NUMBER);
    add_number(json, "vanished", dbss_mirror_result_vanished(result), NO_NUMBER);
    add_number(json, "failed", dbss_mirror_result_failed(result), NO_NUMBER);
    add_number(json, "repaired", dbss_mirror_result_repaired(result), NO_NUMBER);
    list = cJSON_AddArrayToObject(json, "failures");
    for (i = 0; i < dbss_mirror_result_failure_count(result); i++) {
        dbss_error *error = dbss_mirror_result_failure_error(result, i);
        cJSON_AddItemToArray(list, one = cJSON_CreateObject());
        id = dbss_mirror_result_failure_id(result, i);
        add_text(one, "id", id != NULL && *id == '\0' ? NULL : id);
        add_text(one, "instance", dbss_mirror_result_failure_instance(result, i));
        cJSON_AddItemToObject(one, "error", error_json(error));
        dbss_error_free(error);
    }
    list = cJSON_AddArrayToObject(json, "gaps");
    for (i = 0; i < dbss_mirror_result_gap_count(result); i++) {
        cJSON_AddItemToArray(list, one = cJSON_CreateObject());
        add_text(one, "period", dbss_mirror_result_gap_period(result, i));
        add_text(one, "type", dbss_mirror_result_gap_type(result, i));
        add_text(one, "instance", dbss_mirror_result_gap_instance(result, i));
    }
}

static void mirror(struct call *c)
{
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = GARBAGE;

    FILL(c, "options", dbss_mirror_options, options);
    if (c->status == DBSS_OK) {
        ok(c, dbss_reports_mirror(PROJECT, text(c, "directory"), options, under(c), &result));
        if (result == GARBAGE || (result == NULL && c->status == DBSS_OK))
            add_mistake(c, "out_result", "is not set");
        else if ((c->result_on_failure = result != NULL))
            add_mirror_result(c->result, result);
        dbss_mirror_result_free(result);
    }
    dbss_mirror_options_free(options);
}

static void download_to_descriptor(struct call *c)
{
    cJSON *target = argument(c, "open");
    const cJSON *offset = get(target, "offset");

    if (cJSON_IsObject(target)) {
        fclose(c->into);
        c->into = fopen(text_of(get(target, "path")), text_of(get(target, "mode")));
    }
    if (c->into == NULL || (offset != NULL && fseek(c->into, (long)offset->valuedouble, SEEK_SET) != 0))
        die("cannot open the target");
    ok(c, dbss_report_download_to_fd(DOWNLOAD, fileno(c->into), under(c)));
}

/* Shows the operation. */
static void look(struct call *c)
{
    (void)under(c);
    c->under_operation = 0;
}

static void run_call(struct call *c)
{
    if (is(c, "check"))
        ok(c, dbss_context_check(PROJECT, under(c)));
    else if (is(c, "find_credentials"))
        find_credentials(c);
    else if (is(c, "set_token"))
        ok(c, dbss_context_set_token(c->ctx, text(c, "token")));
    else if (is(c, "download") || is(c, "download_to_memory"))
        download_to_memory(c);
    else if (is(c, "download_to_file") || is(c, "download_to_directory"))
        download_to_file(c);
    else if (is(c, "download_to_descriptor"))
        download_to_descriptor(c);
    else if (is(c, "reset"))
        ok(c, dbss_operation_reset(under(c)));
    else if (is(c, "look"))
        look(c);
    else if (is(c, "download_to_callback"))
        ok(c, dbss_report_download_to_callback(DOWNLOAD, write_part, c, under(c)));
    else if (is(c, "open_report"))
        open_report(c);
    else if (is(c, "read_stream"))
        read_parts(c, c->stream, number(c, "size"), 65536);
    else if (is(c, "close_stream"))
        dbss_report_stream_close(c->stream);
    else if (is(c, "instances") || is(c, "templates") || is(c, "reports") || is(c, "databases"))
        read_list(c);
    else if (is(c, "next_page"))
        next_page(c);
    else if (is(c, "schedule"))
        show_schedule(c);
    else if (is(c, "update_schedule"))
        update_schedule(c);
    else if (is(c, "create") || is(c, "generate"))
        create(c);
    else if (is(c, "wait"))
        ok(c, dbss_report_wait(REPORT, under(c)));
    else if (is(c, "delete"))
        ok(c, dbss_report_delete(REPORT, under(c)));
    else if (is(c, "mirror"))
        mirror(c);
    else
        c->unsupported = format("the call %s", get(c->request, "call")->valuestring);
}

/* ---------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------ */

static int32_t report_progress(void *user_data, const dbss_operation *operation)
{
    struct call *c = user_data;
    cJSON *line = cJSON_CreateObject();

    c->last[0] = dbss_operation_received(operation);
    c->last[1] = dbss_operation_total(operation);
    if (c->progress_calls++ == 0)
        memcpy(c->first, c->last, sizeof c->first);
    add_text(line, "event", "progress");
    cJSON_AddItemToObject(line, "of", cJSON_Duplicate(get(c->request, "id"), 1));
    add_number(line, "received", c->last[0], NO_NUMBER);
    add_number(line, "total", c->last[1], -1);
    add_number(line, "percent", dbss_operation_percent(operation), -1);
    print(line);
    return c->stop_after >= 0 && c->last[0] >= c->stop_after;
}

/* The call of this id; NULL if there is none. */
static struct call *call_of(struct call *others, const cJSON *id)
{
    while (others != NULL && !cJSON_Compare(get(others->request, "id"), id, 1))
        others = others->next;
    return others;
}

static void prepare_operation(struct call *c, struct call *others, const cJSON *wanted)
{
    const struct call *of = call_of(others, get(wanted, "of"));
    const cJSON *progress = get(wanted, "progress"), *limit = get(progress, "stop_after");

    c->operation = of != NULL ? of->operation : GARBAGE;
    if (of == NULL && !made(c, dbss_operation_new(&c->operation), "out_operation", &c->operation))
        return;
    c->owns_operation = of == NULL;
    SET_ALL(c, get(wanted, "settings"), dbss_operation_set, c->operation);
    if (c->status == DBSS_OK && progress != NULL && !cJSON_IsNull(progress)) {
        c->stop_after = limit != NULL ? (int64_t)limit->valuedouble : -1;
        ok(c, dbss_operation_set_progress(c->operation, report_progress, watched(c), destroy));
    }
    if (cJSON_IsTrue(get(wanted, "cancelled")))
        dbss_operation_cancel(c->operation);
}

static void *perform(void *user_data)
{
    struct call *c = user_data;

    if (c->status == DBSS_OK) {
        run_call(c);
        if (c->unsupported == NULL && c->status == DBSS_OK && !c->used_operation
            && cJSON_IsObject(get(c->request, "operation")))
            c->unsupported = format("%s under an operation", get(c->request, "call")->valuestring);
    }
    if (c->into != NULL)
        fclose(c->into);
    respond(c);
    return NULL;
}

/* What a member names. NULL for null. */
static void *named_by(struct call *c, enum kind kind, const cJSON *object, const char *key)
{
    const char *name = text_of(get(object, key));
    struct named *found = name != NULL ? find(kind, name) : NULL;

    if (name != NULL && found == NULL)
        c->unsupported = format("there is no %s %s", key, name);
    if (found == NULL)
        return NULL;
    if (kind != CLIENT)
        c->operation = found->maker->operation;
    return found->handle;
}

static void begin_call(struct call *c, struct call *others)
{
    const cJSON *operation = get(c->request, "operation"), *limit;
    const char *into;

    c->arguments = get(c->request, "arguments");
    c->in_thread = cJSON_IsTrue(get(c->request, "background"));
    c->ctx = named_by(c, CLIENT, c->request, "client");
    c->stream = named_by(c, STREAM, c->arguments, "stream");
    c->cursor = named_by(c, LIST, c->arguments, "list");
    if (c->unsupported != NULL) {
        c->in_thread = 0;
        respond(c);
        return;
    }
    /* A call in a thread can be cancelled, and a directory's call tells the path. */
    if (cJSON_IsObject(operation) || (c->operation == NULL && (c->in_thread || is(c, "download_to_directory"))))
        prepare_operation(c, others, operation);
    if ((limit = get(c->arguments, "fail_after")) != NULL && cJSON_IsNumber(limit))
        c->fail_after = (int64_t)limit->valuedouble;
    if ((into = text_of(get(c->arguments, "into"))) != NULL && (c->into = fopen(into, "wb")) == NULL)
        die("cannot open the file for the bytes");
    if (!c->in_thread)
        perform(c);
    else if (pthread_create(&c->thread, NULL, perform, c) != 0)
        die("cannot start a thread");
}

static void handle(struct call *c, struct call *others)
{
    const char *what = text_of(get(c->request, "do"));
    struct named *held;

    if (strcmp(what, "call") == 0) {
        begin_call(c, others);
        return;
    }
    if (strcmp(what, "configure") == 0) {
        configure(c);
    } else if (strcmp(what, "cancel") == 0) {
        others = call_of(others, get(c->request, "of"));
        if (others == NULL || others->operation == NULL)
            c->unsupported = format("to cancel a call without an operation");
        else
            dbss_operation_cancel(others->operation);
    } else if (strcmp(what, "free") == 0) {
        forget(find(CLIENT, text_of(get(c->request, "client"))));
    } else if (strcmp(what, "answer") == 0) {
        if ((held = find(TOKEN_REQUEST, "")) == NULL)
            c->unsupported = format("to answer a request that is not held");
        else
            answer_request(held->handle, get(c->request, "answer"));
        forget(held);
    } else if (strcmp(what, "cancel_all") == 0) {
        dbss_context_cancel_all(named_by(c, CLIENT, c->request, "client"));
    } else if (strcmp(what, "close") == 0) {
        dbss_context_close(named_by(c, CLIENT, c->request, "client"));
    } else {
        c->unsupported = format("to %s", what);
    }
    respond(c);
}

/* Ends the calls in threads, and frees everything. */
static void end(struct call *all)
{
    struct call *c, *next;
    struct named *one;

    for (c = all; c != NULL; c = c->next)
        dbss_operation_cancel(c->operation);
    pthread_mutex_lock(&lock);
    one = all_named;
    pthread_mutex_unlock(&lock);
    for (; one != NULL; one = one->next) {
        if (one->kind == STREAM)
            dbss_report_stream_close(one->handle);
        else if (one->kind == CLIENT)
            dbss_context_close(one->handle);
    }
    for (c = all; c != NULL; c = c->next)
        if (c->in_thread)
            pthread_join(c->thread, NULL);
    while (all_named != NULL)
        forget(all_named);
    for (c = all; c != NULL; c = next) {
        next = c->next;
        if (c->owns_operation)
            dbss_operation_free(c->operation);
        cJSON_Delete(c->request);
        cJSON_Delete(c->result);
        free(c->unsupported);
        free(c);
    }
    dbss_error_free(dbss_error_take());
    if (undestroyed != 0)
        die("a destroy function was not called exactly once");
}

int main(void)
{
    struct call *all = NULL, *c;
    char *line = NULL;
    size_t size = 0;

    /* So that mbstowcs() tells what is UTF-8. */
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
        die("there is no locale C.UTF-8");
    while (getline(&line, &size, stdin) > 0) {
        c = allocate(sizeof *c);
        c->request = cJSON_Parse(line);
        c->result = cJSON_CreateObject();
        c->stop_after = c->fail_after = -1;
        if (!cJSON_IsString(get(c->request, "do")))
            die("not a request");
        handle(c, all);
        c->next = all;
        all = c;
    }
    free(line);
    end(all);
    return 0;
}
