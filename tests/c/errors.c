/*
 * The error of a call: this thread's and the operation's are one and the same,
 * whatever was wrong, and inside callbacks as outside. The calls are written by
 * tests/abi/wrong.py out of the description of the ABI; this file has the
 * arguments. See checks.h for how to run it.
 */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A call with one argument wrong: how it must end, and what its error names. */
struct wrong {
    const char *function, *what;
    dbss_status status;
    const char *parameter;
    /* What to give to `call`; -1 where nothing is wrong. */
    int index;
    dbss_status (*call)(int wrong, dbss_operation *operation);
};

/* What out-parameters hold before a call. */
static char garbage_bytes[1];
static void *const garbage = garbage_bytes;

/* ---------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------ */

static void need(dbss_status status)
{
    if (status != DBSS_OK)
        fatal("%s", dbss_error_message(dbss_last_error()));
}

static dbss_config *config_of(const char *endpoint, const char *token)
{
    dbss_config *config = new_config(endpoint, token);
    /* Nothing is looked up at IAM, which counts as a request. */
    set(config, "project_id", fact("project"));
    return config;
}

static dbss_context *context_of(const char *endpoint, const char *token)
{
    return to_context(config_of(endpoint, token));
}

/* One of each kind, until the check ends. */
static struct {
    dbss_context *valid, *closed, *at_nobody, *refused, *without_token, *of_stream;
    /* In place of the valid one, for calls outside of callbacks. */
    dbss_context *outer;
    dbss_cursor *cursor, *of_closed;
    dbss_mirror_options *options;
    dbss_report_spec *spec, *empty_spec;
    char *directory;
    const char *unknown_id;
    int read_only;
} the;

static void make_arguments(void)
{
    dbss_config *config;
    dbss_cursor *cursor;
    dbss_page *page;

    memset(&the, 0, sizeof the);
    the.valid = context_of(fact("http"), fact("token"));
    the.closed = context_of(fact("http"), fact("token"));
    need(dbss_instances_list(the.closed, NULL, 0, &the.of_closed));
    dbss_context_close(the.closed);
    the.at_nobody = context_of("http://127.0.0.1:1", fact("token"));
    the.refused = context_of(fact("http"), "a-token-of-nobody");
    need(dbss_config_new(&config));
    set(config, "endpoint", fact("http"));
    set(config, "project_id", fact("project"));
    the.without_token = to_context(config);
    need(dbss_mirror_options_new(&the.options));
    need(dbss_mirror_options_set(the.options, "template", "of no report"));
    the.directory = new_directory();
    the.unknown_id = fresh_id();
    the.read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);
    need(dbss_templates_list(the.valid, NULL, fact("instance"), &cursor));
    need(dbss_cursor_next(cursor, NULL, &page));
    need(dbss_report_spec_new(&the.empty_spec));
    need(dbss_report_spec_new(&the.spec));
    need(dbss_report_spec_set(the.spec, "template_id", dbss_page_field(page, 0, "id")));
    need(dbss_report_spec_set(the.spec, "start_time", "2026-11-23 00:00:00"));
    need(dbss_report_spec_set(the.spec, "end_time", "2026-11-24 00:00:00"));
    dbss_page_free(page);
    dbss_cursor_free(cursor);
}

static void free_arguments(void)
{
    dbss_context_free(the.valid);
    dbss_context_free(the.closed);
    dbss_context_free(the.at_nobody);
    dbss_context_free(the.refused);
    dbss_context_free(the.without_token);
    dbss_cursor_free(the.cursor);
    dbss_cursor_free(the.of_closed);
    dbss_mirror_options_free(the.options);
    dbss_report_spec_free(the.spec);
    dbss_report_spec_free(the.empty_spec);
    close(the.read_only);
    remove_directory(the.directory);
}

/* The kinds of callbacks, of which one makes calls at a time. */
enum callback { NONE, PROGRESS, WRITE, LOG, TOKEN_PROVIDER, INTERRUPT, DESTROY };

static enum callback armed;
/* How many callbacks are under way, and how many have been. */
static int depth, times;

static void make_calls_inside(enum callback callback);

static dbss_context *valid_context(void)
{
    return depth == 0 && the.outer != NULL ? the.outer : the.valid;
}

static dbss_context *closed_context(void)
{
    return the.closed;
}

static dbss_context *context_at_nobody(void)
{
    return the.at_nobody;
}

static dbss_context *context_that_is_refused(void)
{
    return the.refused;
}

static dbss_context *context_without_token(void)
{
    return the.without_token;
}

/* A list that has not begun, until the next one. */
static dbss_cursor *cursor_of(dbss_context *ctx)
{
    dbss_cursor_free(the.cursor);
    the.cursor = NULL;
    need(dbss_reports_list(ctx, NULL, fact("instance"), NULL, 0, &the.cursor));
    return the.cursor;
}

static dbss_cursor *valid_cursor(void)
{
    return cursor_of(valid_context());
}

static dbss_cursor *cursor_of_closed_context(void)
{
    return the.of_closed;
}

static const dbss_mirror_options *valid_mirror_options(void)
{
    return the.options;
}

static const dbss_report_spec *valid_report_spec(void)
{
    return the.spec;
}

static const dbss_report_spec *empty_spec(void)
{
    return the.empty_spec;
}

static const char *unknown_id(void)
{
    return the.unknown_id;
}

static const char *too_long(void)
{
    return "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0";
}

static const char *scratch_directory(void)
{
    return the.directory;
}

/* A name that no file has; valid until the next one. */
static const char *fresh_file(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", the.directory, fresh_id());
    return path;
}

static const char *taken_file(void)
{
    const char *path = fresh_file();
    write_file(path, "mine");
    return path;
}

static int read_only_descriptor(void)
{
    return the.read_only;
}

static int closed_descriptor(void)
{
    int fd = dup(the.read_only);
    close(fd);
    return fd;
}

static int null_device(void)
{
    static int fd = -1;
    if (fd < 0 && (fd = open("/dev/null", O_WRONLY | O_CLOEXEC)) < 0)
        fatal("no /dev/null");
    return fd;
}

static int32_t a_dbss_write_fn(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    make_calls_inside(WRITE);
    return 0;
}

/* Under the operation of the read, and on a context of its own. */
static dbss_report_stream *valid_stream(dbss_operation *operation)
{
    dbss_report_stream *stream;
    the.of_stream = context_of(fact("http"), fact("token"));
    need(dbss_report_open(the.of_stream, NULL, fact("instance"), fact("pdf"), NULL, operation, &stream));
    return stream;
}

static dbss_report_stream *closed(dbss_report_stream *stream)
{
    dbss_report_stream_close(stream);
    return stream;
}

static dbss_report_stream *of_closed_context(dbss_report_stream *stream)
{
    dbss_context_close(the.of_stream);
    return stream;
}

static void free_stream(dbss_report_stream *stream)
{
    dbss_report_stream_free(stream);
    dbss_context_free(the.of_stream);
}

#include "wrong.h"

#define WRONGS (sizeof wrongs / sizeof *wrongs)

/* ---------------------------------------------------------------------------
 * Errors compared
 * ------------------------------------------------------------------------ */

static int same_text(const char *one, const char *other)
{
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

/* The getter that tells two errors apart; NULL where none does. */
static const char *difference(const dbss_error *one, const dbss_error *other)
{
    size_t i;
#define DIFFERS(same, getter) \
    do { \
        if (!(same)) \
            return getter; \
    } while (0)
#define NUMBER(getter) DIFFERS(dbss_error_##getter(one) == dbss_error_##getter(other), #getter)
#define TEXT(getter) DIFFERS(same_text(dbss_error_##getter(one), dbss_error_##getter(other)), #getter)
#define TEXTS(count, getter) \
    for (i = 0; i < dbss_error_##count(one); i++) \
    DIFFERS(same_text(dbss_error_##getter(one, i), dbss_error_##getter(other, i)), #getter)
    DIFFERS((one == NULL) == (other == NULL), "existence");
    NUMBER(status);
    TEXT(message);
    TEXT(parameter);
    NUMBER(http_status);
    TEXT(service_code);
    TEXT(service_message);
    TEXT(request_id);
    TEXT(encoded_authorization_message);
    NUMBER(detail_count);
    TEXTS(detail_count, detail_code);
    TEXTS(detail_count, detail_message);
    NUMBER(cancelled_by);
    NUMBER(candidate_count);
    TEXTS(candidate_count, candidate);
    TEXT(redirect_target);
    TEXT(path);
    NUMBER(os_code);
    NUMBER(is_retryable);
    NUMBER(retry_after_ms);
    NUMBER(attempts);
    return NULL;
}

/* Whether the thread and the operation tell the same of a call that ended so. */
static void agree(dbss_status expected, const char *parameter, dbss_status status, const dbss_operation *operation)
{
    const dbss_error *last = dbss_last_error();
    dbss_error *own = dbss_operation_error(operation);
    const char *different = difference(last, own);

    if (status != expected)
        failed("expected %s, got %s (%s)", dbss_status_name(expected), dbss_status_name(status),
               dbss_error_message(last));
    if (dbss_error_status(last) != status)
        failed("%s was returned, and the last error is %s", dbss_status_name(status),
               dbss_status_name(dbss_error_status(last)));
    if (different != NULL)
        failed("dbss_last_error() and dbss_operation_error() differ in their %s: \"%s\" and \"%s\"", different,
               dbss_error_message(last), dbss_error_message(own));
    if (!same_text(parameter, dbss_error_parameter(last)))
        failed("the parameter \"%s\" is at fault, and it says \"%s\"", parameter != NULL ? parameter : "none",
               dbss_error_parameter(last) != NULL ? dbss_error_parameter(last) : "none");
    CHECK(status == DBSS_OK || *dbss_error_message(last) != '\0');
    dbss_error_free(own);
}

static void make(const struct wrong *wrong, dbss_operation *operation)
{
    agree(wrong->status, wrong->parameter, wrong->call(wrong->index, operation), operation);
    blame("%s: %s", wrong->function, wrong->what);
}

static dbss_operation *patient_operation(void)
{
    dbss_operation *operation = new_operation();
    need(dbss_operation_set(operation, "poll_interval_ms", "10"));
    return operation;
}

/* Every call with every mistake, under one operation: each failure takes the
 * place of the one before. */
static void make_every_call(void)
{
    dbss_operation *operation = patient_operation();
    size_t i;
    for (i = 0; i < WRONGS && !has_failed(); i++)
        make(&wrongs[i], operation);
    dbss_operation_free(operation);
}

static void of_every_call(void)
{
    make_arguments();
    make_every_call();
    free_arguments();
}

/* A cancel is a failure like others, and nothing of it stays after a reset. */
static void of_cancelled_calls(void)
{
    dbss_operation *operation = patient_operation();
    size_t i;
    make_arguments();
    for (i = 0; i < WRONGS && !has_failed(); i++) {
        /* A stream would not even be opened. */
        if (wrongs[i].index >= 0 || strstr(wrongs[i].function, "stream") != NULL)
            continue;
        dbss_operation_cancel(operation);
        agree(DBSS_ERR_CANCELLED, NULL, wrongs[i].call(-1, operation), operation);
        CHECK(dbss_error_cancelled_by(dbss_last_error()) == DBSS_CANCELLED_BY_OPERATION);
        EXPECT(DBSS_OK, dbss_operation_reset(operation));
        CHECK(dbss_operation_error(operation) == NULL);
        blame("%s", wrongs[i].function);
    }
    free_arguments();
    dbss_operation_free(operation);
}

/* What ends a call from outside of it, once it has begun. */
static void (*end_from_outside)(dbss_operation *operation);

static int32_t end_in_progress(void *user_data, const dbss_operation *operation)
{
    if (dbss_operation_received(operation) == 0)
        return 0;
    if (end_from_outside == NULL)
        return 1;
    end_from_outside(user_data);
    return 0;
}

static int32_t end_in_write(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    return 1;
}

static void end_operation(dbss_operation *operation)
{
    dbss_operation_cancel(operation);
}

static void end_context(dbss_operation *operation)
{
    (void)operation;
    dbss_context_cancel_all(the.outer);
}

static void close_context(dbss_operation *operation)
{
    (void)operation;
    dbss_context_close(the.outer);
}

static void of_who_cancelled(void)
{
    static const struct {
        void (*end)(dbss_operation *operation);
        int32_t by;
    } ways[] = {
        {end_operation, DBSS_CANCELLED_BY_OPERATION},
        {end_context, DBSS_CANCELLED_BY_CONTEXT},
        {close_context, DBSS_CANCELLED_BY_CLOSE},
        {NULL, DBSS_CANCELLED_BY_CALLBACK},
    };
    const char *id = add_report(300000);
    dbss_operation *operation = new_operation();
    dbss_buffer buffer;
    dbss_status status;
    size_t i;

    make_arguments();
    need(dbss_operation_set_progress(operation, end_in_progress, operation, NULL));
    for (i = 0; i < sizeof ways / sizeof *ways; i++) {
        the.outer = context_of(fact("http"), fact("token"));
        end_from_outside = ways[i].end;
        post_fault(id, "\"stall_after\": 100000, \"times\": 1");
        status = dbss_report_download_to_memory(the.outer, NULL, fact("instance"), id, NULL, operation, &buffer);
        agree(DBSS_ERR_CANCELLED, NULL, status, operation);
        CHECK(dbss_error_cancelled_by(dbss_last_error()) == ways[i].by);
        blame("way %lu", (unsigned long)i);
        EXPECT(DBSS_OK, dbss_operation_reset(operation));
        dbss_context_free(the.outer);
        the.outer = NULL;
    }
    need(dbss_operation_set_progress(operation, NULL, NULL, NULL));
    status = dbss_report_download_to_callback(the.valid, NULL, fact("instance"), id, NULL, end_in_write, NULL, operation);
    agree(DBSS_ERR_CANCELLED, NULL, status, operation);
    CHECK(dbss_error_cancelled_by(dbss_last_error()) == DBSS_CANCELLED_BY_CALLBACK);
    /* Another failure is no cancel. */
    status = dbss_report_download_to_memory(the.valid, NULL, fact("instance"), unknown_id(), NULL, operation, &buffer);
    agree(DBSS_ERR_NOT_FOUND, NULL, status, operation);
    CHECK(dbss_error_cancelled_by(dbss_last_error()) == 0 && dbss_error_cancelled_by(NULL) == 0);
    free_arguments();
    dbss_operation_free(operation);
}

/* What a service says is in both. */
static void of_a_response(void)
{
    dbss_operation *operation = patient_operation();
    const char *id = add_report(6000);
    dbss_buffer buffer;
    dbss_status status;

    make_arguments();
    post_fault(id, "\"status\": 403, \"times\": 1, \"headers\": [[\"X-Request-Id\", \"of-this-call\"], "
                   "[\"Retry-After\", \"7\"]], \"json\": {\"error_code\": \"DBSS.1\", \"error_msg\": \"no\", "
                   "\"encoded_authorization_message\": \"why\", \"details\": [{\"error_code\": \"DBSS.2\", "
                   "\"error_msg\": \"not you\"}]}");
    status = dbss_report_download_to_memory(the.valid, NULL, fact("instance"), id, NULL, operation, &buffer);
    agree(DBSS_ERR_FORBIDDEN, NULL, status, operation);
    expect_text(__LINE__, "of-this-call", dbss_error_request_id(dbss_last_error()));
    expect_text(__LINE__, "not you", dbss_error_detail_message(dbss_last_error(), 0));
    CHECK(dbss_error_attempts(dbss_last_error()) == 1);
    free_arguments();
    dbss_operation_free(operation);
}

/* Where it led, but for what is secret. */
static void of_a_redirect(void)
{
    dbss_operation *operation = new_operation();
    const char *id = add_report(6000), *target;
    dbss_buffer buffer;
    dbss_status status;

    make_arguments();
    post_fault(id, "\"status\": 302, \"times\": 1, \"headers\": [[\"Location\", \"https://elsewhere.test/a?b=c#d\"]]");
    status = dbss_report_download_to_memory(the.valid, NULL, fact("instance"), id, NULL, operation, &buffer);
    agree(DBSS_ERR_REDIRECTED, NULL, status, operation);
    expect_text(__LINE__, "https://elsewhere.test/a?b=c#d", dbss_error_redirect_target(dbss_last_error()));
    CHECK(dbss_error_path(dbss_last_error()) == NULL && dbss_error_candidate_count(dbss_last_error()) == 0);

    post_fault(id, "\"status\": 302, \"times\": 1, \"headers\": [[\"Location\", \"/login?token=%s&next=x\"]]", fact("token"));
    status = dbss_report_download_to_memory(the.valid, NULL, fact("instance"), id, NULL, operation, &buffer);
    agree(DBSS_ERR_REDIRECTED, NULL, status, operation);
    target = dbss_error_redirect_target(dbss_last_error());
    CHECK(target != NULL && strstr(target, "/login?token=") != NULL && strstr(target, fact("token")) == NULL);

    post_fault(id, "\"status\": 302, \"times\": 1, \"headers\": [[\"Location\", null]]");
    status = dbss_report_download_to_memory(the.valid, NULL, fact("instance"), id, NULL, operation, &buffer);
    agree(DBSS_ERR_REDIRECTED, NULL, status, operation);
    CHECK(dbss_error_redirect_target(dbss_last_error()) == NULL);
    CHECK(dbss_error_redirect_target(NULL) == NULL && dbss_error_path(NULL) == NULL);
    free_arguments();
    dbss_operation_free(operation);
}

static void save_wrongly(dbss_status expected, const char *path, const char *at_fault, dbss_operation *operation)
{
    dbss_status status = dbss_report_download_to_file(the.valid, NULL, fact("instance"), fact("pdf"), NULL, path, 0, operation);
    agree(expected, NULL, status, operation);
    expect_text(__LINE__, at_fault, dbss_error_path(dbss_last_error()));
    blame("saved to %s", path);
}

/* The file that was in the way, byte for byte. */
static void of_files(void)
{
    dbss_operation *operation = new_operation();
    char *odd, *below, *saved;
    dbss_status status;

    make_arguments();
    odd = format("%s/\xff\xfe odd", the.directory);
    below = format("%s/below", odd);
    saved = format("%s/audit-report.pdf", the.directory);
    write_file(odd, "mine");
    write_file(saved, "mine");
    save_wrongly(DBSS_ERR_FILE_EXISTS, odd, odd, operation);
    save_wrongly(DBSS_ERR_NOT_REGULAR_FILE, the.directory, the.directory, operation);
    CHECK(dbss_error_os_code(dbss_last_error()) == 0 && dbss_error_attempts(dbss_last_error()) == 0);
    save_wrongly(DBSS_ERR_FILE, below, below, operation);
    CHECK(dbss_error_os_code(dbss_last_error()) == ENOTDIR);
    save_wrongly(DBSS_ERR_FILE, "/no/such/directory/report", "/no/such/directory", operation);
    CHECK(dbss_error_os_code(dbss_last_error()) == ENOENT);
    /* The name is the service's. */
    status = dbss_report_download_to_directory(the.valid, NULL, fact("instance"), fact("pdf"), NULL, the.directory, 0,
                                               operation);
    agree(DBSS_ERR_FILE_EXISTS, NULL, status, operation);
    expect_text(__LINE__, saved, dbss_error_path(dbss_last_error()));
    free(odd);
    free(below);
    free(saved);
    free_arguments();
    dbss_operation_free(operation);
}

/* ---------------------------------------------------------------------------
 * Inside callbacks
 * ------------------------------------------------------------------------ */

/* Every call with every mistake in the first callback of its kind, and one in
 * the others. There is no error at first, and one at last, which must not become
 * that of the call around. */
static void make_calls_inside(enum callback callback)
{
    dbss_cursor *cursor = the.cursor;
    dbss_context *of_stream = the.of_stream;

    if (callback != armed || depth > 0)
        return;
    depth++;
    CHECK(dbss_last_error() == NULL);
    /* Those of the call around are in use. */
    the.cursor = NULL;
    if (times++ == 0)
        make_every_call();
    dbss_cursor_free(the.cursor);
    the.cursor = cursor;
    the.of_stream = of_stream;
    EXPECT_NULL("config", dbss_config_set(NULL, "x", "y"));
    blame("inside a callback of kind %d", callback);
    depth--;
}

static int32_t progress(void *user_data, const dbss_operation *operation)
{
    (void)user_data;
    (void)operation;
    make_calls_inside(PROGRESS);
    return 0;
}

static int32_t interrupt(void *user_data)
{
    (void)user_data;
    make_calls_inside(INTERRUPT);
    return 0;
}

static void write_log(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    CHECK(*dbss_log_record_message(record) != '\0');
    make_calls_inside(LOG);
}

/* Gives the token that it is told to give, or none. */
static void provide(void *user_data, dbss_token_request *request)
{
    const char **token = user_data;
    make_calls_inside(TOKEN_PROVIDER);
    if (*token != NULL)
        EXPECT(DBSS_OK, dbss_token_request_set(request, *token, -1));
    else
        EXPECT(DBSS_OK, dbss_token_request_fail(request, "there is none"));
    dbss_token_request_free(request);
}

static void destroy(void *user_data)
{
    ++*(int *)user_data;
    make_calls_inside(DESTROY);
}

static void arm(enum callback callback)
{
    make_arguments();
    armed = callback;
    times = 0;
}

/* Ends a check, in which there was a callback. */
static void disarm(void)
{
    CHECK(times > 0);
    armed = NONE;
    dbss_context_free(the.outer);
    the.outer = NULL;
    free_arguments();
}

/* The calls that succeed, and those that the service refuses, each of them
 * with callbacks. */
static int has_callbacks(const struct wrong *wrong)
{
    return wrong->status == DBSS_OK || wrong->status == DBSS_ERR_NOT_FOUND || wrong->status == DBSS_ERR_UNAUTHENTICATED;
}

static void inside_callback_of_operation(enum callback callback)
{
    dbss_operation *operation = patient_operation();
    size_t i;
    need(dbss_operation_set_progress(operation, progress, NULL, NULL));
    need(dbss_operation_set_interrupt(operation, interrupt, NULL, NULL));
    need(dbss_operation_set(operation, "interruptible", "true"));
    arm(callback);
    for (i = 0; i < WRONGS; i++) {
        int before = times;
        if (!has_callbacks(&wrongs[i]))
            continue;
        make(&wrongs[i], operation);
        CHECK(times > before);
        blame("%s", wrongs[i].function);
    }
    disarm();
    dbss_operation_free(operation);
}

static void inside_progress(void)
{
    inside_callback_of_operation(PROGRESS);
}

static void inside_interrupt(void)
{
    inside_callback_of_operation(INTERRUPT);
}

static void inside_write(void)
{
    dbss_operation *operation = new_operation();
    const char *id = add_report(300000);
    dbss_status status;
    int i;

    arm(WRITE);
    for (i = 0; i < 2; i++) {
        if (i == 1)
            post_fault(id, "\"cut_after\": 200000, \"times\": 1");
        status = dbss_report_download_to_callback(the.valid, NULL, fact("instance"), id, NULL, a_dbss_write_fn, NULL,
                                                  operation);
        agree(i == 0 ? DBSS_OK : DBSS_ERR_TRUNCATED, NULL, status, operation);
    }
    disarm();
    dbss_operation_free(operation);
}

static void inside_log(void)
{
    dbss_operation *operation = patient_operation();
    dbss_config *config = config_of(fact("http"), fact("token"));
    size_t i;

    need(dbss_config_set_log(config, write_log, NULL, NULL));
    arm(LOG);
    the.outer = to_context(config);
    for (i = 0; i < WRONGS; i++)
        /* Also of wrong arguments, as far as the context knows of them. */
        make(&wrongs[i], operation);
    disarm();
    dbss_operation_free(operation);
}

static void inside_token_provider(void)
{
    const char *tokens[2];
    dbss_operation *operation = patient_operation();
    size_t i;
    int j;

    tokens[0] = fact("token");
    tokens[1] = NULL;
    arm(TOKEN_PROVIDER);
    for (i = 0; i < WRONGS; i++) {
        for (j = 0; j < 2; j++) {
            dbss_config *config;
            int before = times;
            /* A stream's read has a token already. */
            if (wrongs[i].index >= 0 || strstr(wrongs[i].function, "stream") != NULL)
                continue;
            config = config_of(fact("http"), fact("token"));
            need(dbss_config_set_token_provider(config, provide, &tokens[j], NULL));
            dbss_context_free(the.outer);
            the.outer = to_context(config);
            agree(j == 0 ? DBSS_OK : DBSS_ERR_NO_TOKEN, NULL, wrongs[i].call(-1, operation), operation);
            CHECK(times == before + 1);
            blame("%s", wrongs[i].function);
        }
    }
    disarm();
    dbss_operation_free(operation);
}

static dbss_operation *to_free;

static int32_t free_operation(void *user_data, const dbss_operation *operation)
{
    (void)user_data;
    (void)operation;
    dbss_operation_free(to_free);
    to_free = NULL;
    return 0;
}

/* Functions that set or clear the last error set or clear it as ever, and the
 * others leave it, whatever happens in the destroy functions that they call. */
static void inside_destroy(void)
{
    dbss_operation *operation = new_operation();
    dbss_config *config = config_of(fact("http"), fact("token"));
    dbss_context *ctx;
    dbss_buffer buffer;
    int destroyed = 0, i;
    dbss_error *before;

    arm(DESTROY);
    for (i = 0; i < 2; i++) {
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, progress, &destroyed, destroy));
        EXPECT(DBSS_OK, dbss_operation_set_interrupt(operation, interrupt, &destroyed, destroy));
        EXPECT(DBSS_OK, dbss_config_set_log(config, write_log, &destroyed, destroy));
        EXPECT(DBSS_OK, dbss_config_set_token_provider(config, provide, &destroyed, destroy));
    }
    CHECK(destroyed == 4);
    EXPECT_NULL("operation", dbss_operation_set_progress(NULL, progress, &destroyed, destroy));
    EXPECT_NULL("operation", dbss_operation_set_interrupt(NULL, interrupt, &destroyed, destroy));
    EXPECT_NULL("config", dbss_config_set_token_provider(NULL, provide, &destroyed, destroy));
    EXPECT_NULL("config", dbss_config_set_log(NULL, write_log, &destroyed, destroy));
    CHECK(destroyed == 8);

    need(dbss_context_new(config, &ctx));
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_config_set(config, "no_such_key", "x"));
    before = dbss_error_take();
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_config_set(config, "no_such_key", "x"));
    dbss_config_free(config);
    dbss_operation_free(operation);
    CHECK(destroyed == 10);
    dbss_context_free(ctx);
    CHECK(destroyed == 12);
    CHECK(difference(before, dbss_last_error()) == NULL);
    dbss_error_free(before);

    /* At the end of a call, whose operation its own callback has freed. */
    for (i = 0; i < 2; i++) {
        to_free = new_operation();
        need(dbss_operation_set_progress(to_free, free_operation, &destroyed, destroy));
        EXPECT(i == 0 ? DBSS_OK : DBSS_ERR_NOT_FOUND,
               dbss_report_download_to_memory(the.valid, NULL, fact("instance"), i == 0 ? fact("pdf") : unknown_id(), NULL,
                                              to_free, &buffer));
        dbss_buffer_free(&buffer);
        CHECK(destroyed == 13 + i);
    }
    disarm();
}

static const struct check checks[] = {
    {"of_every_call", of_every_call, PLAIN},
    {"of_cancelled_calls", of_cancelled_calls, PLAIN},
    {"of_who_cancelled", of_who_cancelled, PLAIN},
    {"of_a_response", of_a_response, PLAIN},
    {"of_a_redirect", of_a_redirect, PLAIN},
    {"of_files", of_files, PLAIN},
    {"inside_progress", inside_progress, PLAIN},
    {"inside_interrupt", inside_interrupt, PLAIN},
    {"inside_write", inside_write, PLAIN},
    {"inside_log", inside_log, PLAIN},
    {"inside_token_provider", inside_token_provider, PLAIN},
    {"inside_destroy", inside_destroy, PLAIN},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
