/* The last error of the thread equals the error of the operation, for every kind of
 * failure, in callbacks and elsewhere. tests/abi/wrong.py generates the calls from
 * the description of the ABI. This file supplies the arguments. */

#include "calls.h"

#include <fcntl.h>

#include "values.h"

/* A call with one wrong argument, the expected status and the parameter that the
 * error must name. */
struct wrong {
    const char *function, *what;
    dbss_status status;
    const char *parameter;
    /* The argument of `call`. -1 means that nothing is wrong. */
    int index;
    dbss_status (*call)(int wrong, dbss_operation *operation);
};

/* The value of out-parameters before a call. */
static char garbage_bytes[1];
static void *const garbage = garbage_bytes;

/* One handle of each kind, valid until the check ends. */
static struct {
    dbss_context *valid, *closed, *unreachable, *unauthenticated, *without_token, *of_stream;
    /* Replaces `valid` for calls outside of callbacks, if not NULL. */
    dbss_context *outer;
    dbss_cursor *cursor, *cursor_of_closed;
    dbss_mirror_options *options;
    dbss_report_spec *spec, *empty_spec;
    dbss_schedule_changes *changes, *empty_changes;
    char *directory;
    const char *unknown_id, *taken_file;
    int read_only, reading_end;
} handles;

static dbss_config *config_of(const char *endpoint, const char *token)
{
    dbss_config *config = new_config(endpoint, token);
    /* Avoids a project look-up at IAM, which would count as a request. */
    set_option(config, "project_id", fixture("project"));
    return config;
}

static dbss_context *context_of(const char *endpoint, const char *token)
{
    return new_context_from(config_of(endpoint, token));
}

static void free_arguments(void *unused)
{
    dbss_cursor_free(handles.cursor);
    dbss_cursor_free(handles.cursor_of_closed);
    dbss_report_spec_free(handles.spec);
    dbss_report_spec_free(handles.empty_spec);
    dbss_schedule_changes_free(handles.changes);
    dbss_schedule_changes_free(handles.empty_changes);
    close(handles.read_only);
    close(handles.reading_end);
}

static void make_arguments(void)
{
    int ends[2];
    memset(&handles, 0, sizeof handles);
    handles.valid = context_of(fixture("http"), fixture("token"));
    handles.closed = context_of(fixture("http"), fixture("token"));
    require_ok(dbss_instances_list(handles.closed, NULL, 0, &handles.cursor_of_closed));
    dbss_context_close(handles.closed);
    handles.unreachable = context_of("http://127.0.0.1:1", fixture("token"));
    handles.unauthenticated = context_of(fixture("http"), "a-token-of-nobody");
    handles.without_token = context_of(fixture("http"), NULL);
    handles.options = new_mirror_options(fixture("instance"));
    require_ok(dbss_mirror_options_set(handles.options, "template", "of no report"));
    handles.directory = new_directory();
    handles.unknown_id = fresh_id();
    handles.read_only = open("/", O_RDONLY | O_CLOEXEC);
    new_pipe(ends);
    handles.reading_end = ends[0];
    close(ends[1]);
    require_ok(dbss_report_spec_new(&handles.empty_spec));
    handles.spec = make_report_spec();
    require_ok(dbss_schedule_changes_new(&handles.empty_changes));
    handles.changes = make_schedule_changes();
    keep(&handles, free_arguments);
}

/* The kinds of callbacks. One kind at a time makes nested calls. */
enum callback { NONE, PROGRESS, WRITE, LOG, TOKEN_PROVIDER, INTERRUPT, DESTROY };

static enum callback active_callback;
/* The number of callbacks in progress, and of all callbacks so far. */
static int depth, callback_count;

static void make_calls_inside(enum callback callback);

static dbss_context *valid_context(void)
{
    return depth == 0 && handles.outer != NULL ? handles.outer : handles.valid;
}

/* A new cursor, valid until the next call. */
static dbss_cursor *cursor_of(dbss_context *ctx)
{
    dbss_cursor_free(handles.cursor);
    handles.cursor = NULL;
    require_ok(dbss_reports_list(ctx, NULL, fixture("instance"), NULL, 0, &handles.cursor));
    return handles.cursor;
}

static dbss_cursor *valid_cursor(void)
{
    return cursor_of(valid_context());
}

static const char *fresh_file(void)
{
    return text("%s/\xff %s", handles.directory, fresh_id());
}

static const char *taken_file(void)
{
    handles.taken_file = fresh_file();
    write_file(handles.taken_file, "mine");
    return handles.taken_file;
}

static int closed_descriptor(void)
{
    int fd = dup(handles.read_only);
    close(fd);
    return fd;
}

static int32_t a_dbss_write_fn(void *user_data, const uint8_t *data, size_t len)
{
    make_calls_inside(WRITE);
    return 0;
}

/* Opened with this operation, on its own context. */
static dbss_report_stream *valid_stream(dbss_operation *operation)
{
    dbss_report_stream *stream;
    handles.of_stream = context_of(fixture("http"), fixture("token"));
    require_ok(
        dbss_report_open(handles.of_stream, NULL, fixture("instance"), fixture("pdf"), NULL, operation, &stream));
    return stream;
}

static dbss_report_stream *closed(dbss_report_stream *stream)
{
    dbss_report_stream_close(stream);
    return stream;
}

static dbss_report_stream *of_closed_context(dbss_report_stream *stream)
{
    dbss_context_close(handles.of_stream);
    return stream;
}

static void free_stream(dbss_report_stream *stream)
{
    dbss_report_stream_free(stream);
    drop(handles.of_stream);
}

#include "wrong.h"

#define WRONGS (sizeof wrongs / sizeof *wrongs)

/* All that an error says. */
static const char *describe(const dbss_error *error)
{
    const char *all =
        text("%d %d %s %s %d %s %s %s %s %d %s %s %d %d %lld %u", error != NULL, (int)dbss_error_status(error),
             dbss_error_message(error), dbss_error_parameter(error), (int)dbss_error_http_status(error),
             dbss_error_service_code(error), dbss_error_service_message(error), dbss_error_request_id(error),
             dbss_error_encoded_authorization_message(error), (int)dbss_error_cancelled_by(error),
             dbss_error_redirect_target(error), dbss_error_path(error), (int)dbss_error_os_code(error),
             (int)dbss_error_is_retryable(error), (long long)dbss_error_retry_after_ms(error),
             (unsigned)dbss_error_attempts(error));
    for (size_t i = 0; i < dbss_error_detail_count(error); i++)
        all = text("%s, %s %s", all, dbss_error_detail_code(error, i), dbss_error_detail_message(error, i));
    for (size_t i = 0; i < dbss_error_candidate_count(error); i++)
        all = text("%s, %s", all, dbss_error_candidate(error, i));
    return all;
}

/* The parts of a message, each as its kind and its text. */
static const char *parts_of(const dbss_error *error)
{
    static const char *const kinds[] = {"text", "name",     "value",   "duration", "mode",  "notation",
                                        "null", "no limit", "unknown", "replace",  "object"};
    const char *all = "", *together = "";
    for (size_t i = 0; i < dbss_error_part_count(error); i++) {
        const char *part = dbss_error_part_text(error, i);
        int32_t kind = dbss_error_part_kind(error, i);
        CHECK(kind >= 0 && (size_t)kind < sizeof kinds / sizeof *kinds);
        all = text("%s[%s|%s]", all, kinds[kind], part);
        together = text("%s%s", together, part);
    }
    CHECK(dbss_error_part_text(error, dbss_error_part_count(error)) == NULL);
    CHECK(dbss_error_part_kind(error, SIZE_MAX) == DBSS_PART_TEXT);
    expect_text(__LINE__, dbss_error_message(error), together);
    return all;
}

/* What another language says in its own way is a part of its own. */
NAMED_CHECK(parts_of_message_are_its_names_and_values, PLAIN)
{
    static const struct {
        const char *key, *value, *parts;
    } cases[] = {
        {"stall_timeout_ms", "0",
         "[name|stall_timeout_ms][text|: must be ][notation|a whole number ][text|from ][duration|1][text| to ]"
         "[duration|86400000][text|, or ][no limit|-1][text| for no limit, but is ][value|\"0\"]"},
        {"max_attempts", "x",
         "[name|max_attempts][text|: must be a whole number from 1 to 1000, but is ][value|\"x\"]"},
        {"file_mode", "400",
         "[name|file_mode][text|: must be ][notation|octal digits ][text|from ][mode|600][text| to ][mode|777]"
         "[text|, such as ][mode|640][text|, but is ][value|\"400\"]"},
        {"Total-Timeout", "1",
         "[name|key][text|: there is no option ][value|\"Total-Timeout\"][text|; did you mean ]"
         "[name|total_timeout_ms][text|?]"},
        {"nothing", "1", "[name|key][text|: there is no option ][value|\"nothing\"]"},
    };
    dbss_config *config = new_config("http://127.0.0.1:1", "t");
    dbss_operation *operation = new_operation();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(dbss_config_set(config, cases[i].key, cases[i].value) != DBSS_OK);
        expect_text(__LINE__, cases[i].parts, parts_of(dbss_last_error()));
    }
    CHECK(dbss_operation_set(operation, "region", "cn-north-4") == DBSS_ERR_UNKNOWN_KEY);
    expect_text(__LINE__,
                "[name|key][text|: there is no option ][value|\"region\"][text|; it is an option of a ]"
                "[object|context][text|, not of one call]",
                parts_of(dbss_last_error()));
    CHECK(dbss_config_set(config, NULL, "1") == DBSS_ERR_NULL_ARGUMENT);
    expect_text(__LINE__, "[name|key][text|: must not be ][null|NULL]", parts_of(dbss_last_error()));
    CHECK(dbss_error_part_count(NULL) == 0 && dbss_error_part_text(NULL, 0) == NULL);
    dbss_config_free(config);
}

/* Expects the same error from the thread and from the operation. */
static void expect_same_error(dbss_status expected, const char *parameter, dbss_status status,
                              const dbss_operation *operation)
{
    const dbss_error *last = dbss_last_error();
    dbss_error *own = dbss_operation_error(operation);
    const char *named = dbss_error_parameter(last);
    expect(__LINE__, expected, status);
    expect_text(__LINE__, describe(last), describe(own));
    expect_text(__LINE__, parameter != NULL ? parameter : "none", named != NULL ? named : "none");
    CHECK(status == DBSS_OK || *dbss_error_message(last) != '\0');
    CHECK(dbss_error_candidate(last, dbss_error_candidate_count(last)) == NULL);
    CHECK(dbss_error_candidate(last, SIZE_MAX) == NULL);
    parts_of(last);
    dbss_error_free(own);
}

static void make_wrong_call(const struct wrong *wrong, dbss_operation *operation)
{
    /* An argument that is wrong by itself fails before any connection. A stream has one. */
    int fails_early = depth == 0 && dbss_status_group(wrong->status) == DBSS_ERR_ARGUMENT
                      && strstr(wrong->function, "stream") == NULL;
    long connections = fails_early ? count_connections() : 0;
    expect_same_error(wrong->status, wrong->parameter, wrong->call(wrong->index, operation), operation);
    CHECK(!fails_early || count_connections() == connections);
    /* The path of a file, byte for byte. */
    if (wrong->status == DBSS_ERR_FILE_EXISTS)
        expect_text(__LINE__, handles.taken_file, dbss_error_path(dbss_last_error()));
    add_failure_context("%s: %s", wrong->function, wrong->what);
}

static dbss_operation *polling_operation(void)
{
    dbss_operation *operation = new_operation();
    require_ok(dbss_operation_set(operation, "poll_interval_ms", "10"));
    return operation;
}

/* Every call with every mistake, with one operation. Each failure replaces the
 * previous one. */
static void make_every_call(void)
{
    dbss_operation *operation = polling_operation();
    for (size_t i = 0; i < WRONGS && !has_failed(); i++)
        make_wrong_call(&wrongs[i], operation);
    drop(operation);
}

NAMED_CHECK(error_of_every_call_matches_operation, PLAIN)
{
    make_arguments();
    make_every_call();
}

/* A cancelled call has an error like others. A reset clears it. */
NAMED_CHECK(error_of_cancelled_call, PLAIN)
{
    dbss_operation *operation = polling_operation();
    make_arguments();
    for (size_t i = 0; i < WRONGS && !has_failed(); i++) {
        /* A stream could not be opened. */
        if (wrongs[i].index >= 0 || strstr(wrongs[i].function, "stream") != NULL)
            continue;
        dbss_operation_cancel(operation);
        expect_same_error(DBSS_ERR_CANCELLED, NULL, wrongs[i].call(-1, operation), operation);
        CHECK(dbss_error_cancelled_by(dbss_last_error()) == DBSS_CANCELLED_BY_OPERATION);
        OK(dbss_operation_reset(operation));
        CHECK(dbss_operation_error(operation) == NULL);
        add_failure_context("%s", wrongs[i].function);
    }
}

/* The first callback of the active kind makes every call with every mistake. Each
 * callback starts without an error. It ends with one, which must not become the
 * error of the outer call. */
static void make_calls_inside(enum callback callback)
{
    dbss_cursor *cursor = handles.cursor;
    dbss_context *of_stream = handles.of_stream;

    if (callback != active_callback || depth > 0)
        return;
    depth++;
    CHECK(dbss_last_error() == NULL);
    /* The outer call uses the present ones. */
    handles.cursor = NULL;
    if (callback_count++ == 0)
        make_every_call();
    dbss_cursor_free(handles.cursor);
    handles.cursor = cursor;
    handles.of_stream = of_stream;
    EXPECT_NULL("config", dbss_config_set(NULL, "x", "y"));
    add_failure_context("in a callback of kind %d", callback);
    depth--;
}

static int32_t progress(void *user_data, const dbss_operation *operation)
{
    make_calls_inside(PROGRESS);
    return 0;
}

static int32_t interrupt(void *user_data)
{
    make_calls_inside(INTERRUPT);
    return 0;
}

static void write_log(void *user_data, const dbss_log_record *record)
{
    CHECK(*dbss_log_record_message(record) != '\0');
    make_calls_inside(LOG);
}

/* Sets the token in `user_data`, or fails if it is NULL. */
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

static void start_nested_calls(enum callback callback)
{
    make_arguments();
    active_callback = callback;
    callback_count = 0;
}

/* Ends a check, which must have had a callback. */
static void finish_nested_calls(void)
{
    CHECK(callback_count > 0);
    active_callback = NONE;
}

/* Calls that succeed or that the service refuses run callbacks. */
static int has_callbacks(const struct wrong *wrong)
{
    return wrong->status == DBSS_OK || wrong->status == DBSS_ERR_NOT_FOUND || wrong->status == DBSS_ERR_UNAUTHENTICATED;
}

static void inside_callback_of_operation(enum callback callback)
{
    dbss_operation *operation = polling_operation();
    require_ok(dbss_operation_set_progress(operation, progress, NULL, NULL));
    require_ok(dbss_operation_set_interrupt(operation, interrupt, NULL, NULL));
    require_ok(dbss_operation_set(operation, "interruptible", "true"));
    start_nested_calls(callback);
    for (size_t i = 0; i < WRONGS; i++) {
        int before = callback_count;
        if (!has_callbacks(&wrongs[i]))
            continue;
        make_wrong_call(&wrongs[i], operation);
        CHECK(callback_count > before);
        add_failure_context("%s", wrongs[i].function);
    }
    finish_nested_calls();
}

NAMED_CALL(errors_in_progress_callback, PLAIN, inside_callback_of_operation, PROGRESS)

NAMED_CALL(errors_in_interrupt_callback, PLAIN, inside_callback_of_operation, INTERRUPT)

NAMED_CHECK(errors_in_write_callback, PLAIN)
{
    dbss_operation *operation = new_operation();
    const char *id = add_report(300000);
    start_nested_calls(WRITE);
    for (int i = 0; i < 2; i++) {
        if (i == 1)
            post_fault(id, "\"cut_after\": 200000, \"times\": 1");
        expect_same_error(i == 0 ? DBSS_OK : DBSS_ERR_TRUNCATED, NULL,
                          dbss_report_download_to_callback(handles.valid, NULL, fixture("instance"), id, NULL,
                                                           a_dbss_write_fn, NULL, operation),
                          operation);
    }
    finish_nested_calls();
}

NAMED_CHECK(errors_in_log_callback, PLAIN)
{
    dbss_operation *operation = polling_operation();
    dbss_config *config = config_of(fixture("http"), fixture("token"));
    require_ok(dbss_config_set_log(config, write_log, NULL, NULL));
    start_nested_calls(LOG);
    handles.outer = new_context_from(config);
    for (size_t i = 0; i < WRONGS; i++)
        /* Wrong arguments are logged too, if the context is known. */
        make_wrong_call(&wrongs[i], operation);
    finish_nested_calls();
}

NAMED_CHECK(errors_in_token_provider, PLAIN)
{
    const char *tokens[2] = {fixture("token"), NULL};
    dbss_operation *operation = polling_operation();
    start_nested_calls(TOKEN_PROVIDER);
    for (size_t i = 0; i < 2 * WRONGS; i++) {
        const struct wrong *wrong = &wrongs[i / 2];
        dbss_config *config;
        int before = callback_count;
        /* A read of a stream already has a token. */
        if (wrong->index >= 0 || strstr(wrong->function, "stream") != NULL)
            continue;
        config = config_of(fixture("http"), fixture("token"));
        require_ok(dbss_config_set_token_provider(config, provide, &tokens[i % 2], NULL));
        handles.outer = new_context_from(config);
        expect_same_error(i % 2 == 0 ? DBSS_OK : DBSS_ERR_NO_TOKEN, NULL, wrong->call(-1, operation), operation);
        CHECK(callback_count == before + 1);
        add_failure_context("%s", wrong->function);
    }
    finish_nested_calls();
}

static dbss_operation *to_free;

static int32_t free_operation(void *user_data, const dbss_operation *operation)
{
    dbss_operation_free(to_free);
    to_free = NULL;
    return 0;
}

enum setter { SET_PROGRESS, SET_INTERRUPT, SET_LOG, SET_TOKEN_PROVIDER, SET_PASSCODE_PROVIDER, SETTERS };

/* Sets a function, or none, with data that is destroyed. */
static dbss_status set_function(enum setter setter, void *object, int is_set, int *destroyed)
{
    switch (setter) {
    case SET_PROGRESS: return dbss_operation_set_progress(object, is_set ? progress : NULL, destroyed, destroy);
    case SET_INTERRUPT: return dbss_operation_set_interrupt(object, is_set ? interrupt : NULL, destroyed, destroy);
    case SET_LOG: return dbss_config_set_log(object, is_set ? write_log : NULL, destroyed, destroy);
    case SET_TOKEN_PROVIDER: return dbss_config_set_token_provider(object, is_set ? provide : NULL, destroyed, destroy);
    default: return dbss_config_set_passcode_provider(object, is_set ? provide : NULL, destroyed, destroy);
    }
}

static int is_destroyed(const int *destroyed, const char *expected)
{
    for (int i = 0; expected[i] != '\0'; i++)
        if (destroyed[i] != expected[i] - '0')
            return 0;
    return 1;
}

/* The data of a function is destroyed once, whatever becomes of it, and lives as long as
 * the last object that uses it. Its destruction does not change what a call does to the
 * last error: set it, clear it or keep it. */
NAMED_CHECK(errors_in_destroy_callback, PLAIN)
{
    dbss_buffer buffer;
    int freed = 0;

    start_nested_calls(DESTROY);
    for (int i = 0; i < SETTERS; i++) {
        int of_operation = i <= SET_INTERRUPT, destroyed[6] = {0};
        dbss_operation *operation;
        dbss_config *config;
        dbss_context *first = NULL, *second = NULL;
        const char *before;
        void *object;

        EXPECT_NULL(of_operation ? "operation" : "config", set_function(i, NULL, 1, &destroyed[0]));
        CHECK(is_destroyed(destroyed, "100000"));
        OK(dbss_operation_new(&operation));
        OK(dbss_config_new(&config));
        object = of_operation ? (void *)operation : (void *)config;
        OK(set_function(i, object, 1, &destroyed[1]));
        CHECK(is_destroyed(destroyed, "100000"));
        OK(set_function(i, object, 1, &destroyed[2]));
        CHECK(is_destroyed(destroyed, "110000"));
        OK(set_function(i, object, 0, &destroyed[3]));
        CHECK(is_destroyed(destroyed, "111100"));
        OK(set_function(i, object, 1, &destroyed[4]));
        if (!of_operation) {
            set_option(config, "endpoint", fixture("http"));
            if (i == SET_PASSCODE_PROVIDER) {
                OK(dbss_config_set_iam_user(config, fixture("user"), fixture("password"), fixture("domain")));
                set_option(config, "iam_user_id", fixture("user_id"));
                set_option(config, "region", fixture("region"));
            }
            OK(dbss_context_new(config, &first));
            OK(dbss_context_new(config, &second));
            OK(set_function(i, object, 0, &destroyed[5]));
            CHECK(is_destroyed(destroyed, "111101"));
        }
        EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_config_set(config, "no_such_key", "x"));
        before = describe(dbss_last_error());
        dbss_operation_free(operation);
        dbss_config_free(config);
        CHECK(is_destroyed(destroyed, of_operation ? "111110" : "111101"));
        dbss_context_free(first);
        CHECK(is_destroyed(destroyed, of_operation ? "111110" : "111101"));
        dbss_context_free(second);
        CHECK(is_destroyed(destroyed, of_operation ? "111110" : "111111"));
        expect_text(__LINE__, before, describe(dbss_last_error()));
        add_failure_context("setter %d", (int)i);
    }

    /* At the end of a call whose callback freed the operation. */
    for (int i = 0; i < 2; i++) {
        require_ok(dbss_operation_new(&to_free));
        require_ok(dbss_operation_set_progress(to_free, free_operation, &freed, destroy));
        EXPECT(i == 0 ? DBSS_OK : DBSS_ERR_NOT_FOUND,
               dbss_report_download_to_memory(handles.valid, NULL, fixture("instance"),
                                              i == 0 ? fixture("pdf") : handles.unknown_id, NULL, to_free, &buffer));
        dbss_buffer_free(&buffer);
        CHECK(freed == i + 1);
    }
    finish_nested_calls();
}
