/*
 * The addon of the Node package. JavaScript calls the functions of libdbss by name. Those
 * that wait run on threads of the addon; their results, the log records, the progress and
 * the requests for tokens are messages to the event loop, which passes them to one function
 * of JavaScript, `dispatch`. No thread waits for the event loop.
 *
 * Each copy of the package in each thread of JavaScript has an environment, with its own
 * threads and messages. When that thread ends, the contexts of the environment are closed, and
 * its threads end by themselves, without it.
 */
#define _GNU_SOURCE
#include "addon.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* A call of libdbss needs 64 KiB; the rest is for the C library. */
#define STACK_SIZE ((size_t)256 << 10)
/* The address space that a new thread leaves: the C library ends the process if a thread cannot have its data. */
#define RESERVE ((size_t)32 << 20)
#define IDLE_SECONDS 10
#define DEFAULT_THREADS 64
#define MAX_THREADS 1024
/* How many log records of a client may wait for the event loop; more are dropped. */
#define LOG_RECORDS 1000
/* How many messages are passed on before other events get their turn. */
#define TURN 256
/* Smaller reports are copied: that is faster than to have them freed by the collector. */
#define COPIED ((size_t)64 << 10)
/* The size of the buffer of a read, and how long its parts may take to fill it. */
#define READ_SIZE ((size_t)256 << 10)
#define READ_MS 5
/* A part of so many bytes, or of several times as many, is a whole one, behind which there is probably more. */
#define WHOLE ((size_t)16 << 10)
/* The option for the limit of a whole call. */
#define TOTAL_TIMEOUT "total_timeout_ms"
#define SAFE_INTEGER (((int64_t)1 << 53) - 1)

/* What a message is about: the first argument of `dispatch`. */
enum { DONE, PROGRESS, LOG, ASK };

/* How a call is made: `flags`. */
enum {
    WITH_PROGRESS = 1,
    CANCELLED = 2,
    WITH_RESULT = 4,
    /* By a provider, for which calls on all threads may wait: it gets a thread of its own. */
    BY_PROVIDER = 8,
};

typedef struct environment environment;

/* A function of libdbss for one environment: the data of the function of JavaScript. */
typedef struct {
    environment *environment;
    const dbss_node_function *function;
} binding;

/* The user data of a stored callback. */
typedef struct {
    atomic_int references;
    environment *environment;
    double id;
    /* Under the lock: the log records that wait, and those that were dropped since the last one. */
    size_t waiting, dropped;
} owner;

struct job;

/* A handle of libdbss: one reference of JavaScript, one of each call that uses it, and of each handle from it. */
typedef struct handle {
    atomic_int references;
    unsigned char type;
    void *pointer;
    /* What a stream or a list belongs to, or NULL. */
    struct handle *context, *operation;
    /* Of an operation, on the thread of the environment: whether it is cancelled. */
    bool cancelled;
    /* Of an operation, under the lock: its call that no thread has begun, or NULL. */
    struct job *waiting;
} handle;

/* What JavaScript has: its reference, which it can give up before the collector does. */
typedef struct box {
    handle *handle;
    unsigned char type;
    environment *environment;
    /* The contexts of an environment, which end with it. */
    struct box *previous, *next;
} box;

typedef struct message {
    struct message *next;
    int kind;
    double id;
    void *pointer;
    /* Of a log record: whose it is, and how many before it were dropped. */
    owner *owner;
    size_t dropped;
} message;

typedef struct {
    int64_t received, total, resumed, attempts, percent;
} progress;

/* Who watches the progress of an operation: it lives as long as that, and its message. */
typedef struct {
    message message;
    atomic_int references;
    environment *environment;
    /* Under the lock of the environment: what the message tells. */
    bool posted, again;
    progress first, last;
} watcher;

typedef struct job {
    struct job *previous, *next;
    message done;
    environment *environment;
    const dbss_node_function *function;
    dbss_node_value values[1 + DBSS_NODE_PARAMETERS];
    handle *handles[1 + DBSS_NODE_PARAMETERS];
    box *operation;
    /* What cancels it, from the handles, or NULL. */
    handle *by_operation;
    int flags;
    /* The limit of the whole call, or 0, and when it was made. */
    int64_t total_ms, made_ms;
    dbss_status status;
    dbss_error *error;
    /* Of a call that was cancelled before it began. */
    const char *cancelled_by;
} job;

struct environment {
    atomic_int references;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* Under the lock. */
    bool alive, posted;
    job *jobs, *last_job;
    message *messages, **messages_end;
    int threads, idle, queued, limit;
    /* On the thread of the environment. */
    napi_env env;
    napi_threadsafe_function poster;
    napi_ref dispatch, make_error;
    size_t running;
    /* The length of the largest Buffer. */
    int64_t most;
    /* The buffer for the next read, or NULL. */
    void *spare;
    box *contexts;
    binding bindings[];
};

/* Overwrites what may be a secret, which the compiler must not leave out. */
static void wipe(char *text, size_t length)
{
    volatile char *bytes = text;
    while (length--)
        *bytes++ = 0;
}

static void unreference_environment(environment *e)
{
    if (atomic_fetch_sub(&e->references, 1) != 1)
        return;
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->wake);
    free(e->spare);
    free(e);
}

static environment *reference_environment(environment *e)
{
    atomic_fetch_add(&e->references, 1);
    return e;
}

/* Messages to the event loop */

/* With the lock held. False if nobody will receive it. */
static bool post(environment *e, message *m)
{
    if (!e->alive)
        return false;
    m->next = NULL;
    *e->messages_end = m;
    e->messages_end = &m->next;
    if (!e->posted)
        e->posted = napi_call_threadsafe_function(e->poster, NULL, napi_tsfn_nonblocking) == napi_ok;
    return true;
}

static message *new_message(int kind, double id, void *pointer)
{
    message *m = calloc(1, sizeof *m);
    if (m)
        *m = (message){.kind = kind, .id = id, .pointer = pointer};
    return m;
}

static void unreference_owner(owner *o)
{
    if (atomic_fetch_sub(&o->references, 1) != 1)
        return;
    unreference_environment(o->environment);
    free(o);
}

void dbss_node_log_fn(void *user_data, const dbss_log_record *record)
{
    owner *o = user_data;
    environment *e = o->environment;
    dbss_log_record *copy = dbss_log_record_copy(record);
    message *m = copy ? new_message(LOG, o->id, copy) : NULL;
    pthread_mutex_lock(&e->lock);
    bool posted = m && o->waiting < LOG_RECORDS && post(e, m);
    if (posted) {
        m->owner = o;
        m->dropped = o->dropped;
        o->dropped = 0;
        o->waiting++;
        atomic_fetch_add(&o->references, 1);
    } else {
        o->dropped++;
    }
    pthread_mutex_unlock(&e->lock);
    if (!posted) {
        dbss_log_record_free(copy);
        free(m);
    }
}

void dbss_node_token_provider_fn(void *user_data, dbss_token_request *request)
{
    owner *o = user_data;
    environment *e = o->environment;
    message *m = new_message(ASK, o->id, request);
    pthread_mutex_lock(&e->lock);
    bool posted = m && post(e, m);
    pthread_mutex_unlock(&e->lock);
    if (!posted) {
        dbss_token_request_free(request);
        free(m);
    }
}

void dbss_node_destroy_fn(void *user_data)
{
    unreference_owner(user_data);
}

/* Handles */

static void unreference_handle(handle *h)
{
    if (!h || atomic_fetch_sub(&h->references, 1) != 1)
        return;
    dbss_node_handle_types[h->type].free(h->pointer);
    unreference_handle(h->context);
    unreference_handle(h->operation);
    free(h);
}

static handle *reference_handle(handle *h)
{
    if (h)
        atomic_fetch_add(&h->references, 1);
    return h;
}

/* Progress */

static void unreference_watcher(void *data)
{
    watcher *w = data;
    if (atomic_fetch_sub(&w->references, 1) != 1)
        return;
    unreference_environment(w->environment);
    free(w);
}

/* A message that waits for the event loop tells the first progress and the last. */
static int32_t on_progress(void *user_data, const dbss_operation *operation)
{
    watcher *w = user_data;
    environment *e = w->environment;
    progress now = {
        dbss_operation_received(operation), dbss_operation_total(operation),   dbss_operation_resumed(operation),
        dbss_operation_attempts(operation), dbss_operation_percent(operation),
    };
    pthread_mutex_lock(&e->lock);
    bool alive = e->alive;
    if (w->posted) {
        w->last = now;
        w->again = true;
    } else if (post(e, &w->message)) {
        w->first = now;
        w->posted = true;
        atomic_fetch_add(&w->references, 1);
    }
    pthread_mutex_unlock(&e->lock);
    return !alive;
}

static dbss_status watch(environment *e, double id, dbss_operation *operation)
{
    watcher *w = calloc(1, sizeof *w);
    if (!w)
        return DBSS_ERR_OUT_OF_MEMORY;
    w->message = (message){.kind = PROGRESS, .id = id, .pointer = w};
    atomic_init(&w->references, 1);
    w->environment = reference_environment(e);
    return dbss_operation_set_progress(operation, on_progress, w, unreference_watcher);
}

static void empty_box(box *b)
{
    environment *e = b->environment;
    if (b->handle && b->type == HANDLE_CONTEXT) {
        if (b->previous)
            b->previous->next = b->next;
        else
            e->contexts = b->next;
        if (b->next)
            b->next->previous = b->previous;
    }
    unreference_handle(b->handle);
    b->handle = NULL;
}

static void finalize_box(napi_env env, void *data, void *hint)
{
    (void)env;
    (void)hint;
    box *b = data;
    empty_box(b);
    unreference_environment(b->environment);
    free(b);
}

/* Takes what it points to. NULL if there is not enough memory. */
static box *new_box(environment *e, unsigned char type, void *pointer)
{
    box *b = calloc(1, sizeof *b);
    handle *h = calloc(1, sizeof *h);
    if (!b || !h) {
        dbss_node_handle_types[type].free(pointer);
        free(b);
        free(h);
        return NULL;
    }
    atomic_init(&h->references, 1);
    h->type = type;
    h->pointer = pointer;
    b->handle = h;
    b->type = type;
    b->environment = reference_environment(e);
    if (type == HANDLE_CONTEXT) {
        b->next = e->contexts;
        if (b->next)
            b->next->previous = b;
        e->contexts = b;
    }
    return b;
}

static napi_value external_of(napi_env env, box *b)
{
    napi_value external = NULL;
    if (b && napi_create_external(env, b, finalize_box, NULL, &external) != napi_ok)
        finalize_box(env, b, NULL);
    return external;
}

/* Values for JavaScript */

/* Defines a field: to set it would run the setters that a program has given to all objects. */
static void set(napi_env env, napi_value object, const char *name, napi_value value)
{
    napi_property_descriptor field = {.utf8name = name, .value = value, .attributes = napi_default_jsproperty};
    if (value)
        napi_define_properties(env, object, 1, &field);
}

static void set_element(napi_env env, napi_value list, size_t index, napi_value value)
{
    char name[24];
    snprintf(name, sizeof name, "%zu", index);
    set(env, list, name, value);
}

static napi_value text_value(napi_env env, const char *text)
{
    napi_value value = NULL;
    if (text)
        napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value);
    return value;
}

/* Larger ones, which only a service that lies announces, are the largest safe integer. */
static napi_value number_value(napi_env env, int64_t number)
{
    napi_value value = NULL;
    napi_create_int64(env, number > SAFE_INTEGER ? SAFE_INTEGER : number, &value);
    return value;
}

void dbss_node_set_text(napi_env env, napi_value object, const char *name, const char *text)
{
    set(env, object, name, text_value(env, text));
}

static bool is_utf8(const unsigned char *s)
{
    while (*s) {
        int more = *s < 0x80                 ? 0
                   : *s >= 0xc2 && *s < 0xe0 ? 1
                   : (*s & 0xf0) == 0xe0     ? 2
                   : *s >= 0xf0 && *s < 0xf5 ? 3
                                             : -1;
        unsigned char first = *s++, second = *s;
        if (more < 0 || (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f)
            || (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
            return false;
        for (; more; more--, s++)
            if ((*s & 0xc0) != 0x80)
                return false;
    }
    return true;
}

void dbss_node_set_bytes(napi_env env, napi_value object, const char *name, const char *bytes)
{
    napi_value value = NULL;
    if (bytes && !is_utf8((const unsigned char *)bytes))
        napi_create_buffer_copy(env, strlen(bytes), bytes, NULL, &value);
    else
        value = text_value(env, bytes);
    set(env, object, name, value);
}

void dbss_node_set_boolean(napi_env env, napi_value object, const char *name, int32_t value)
{
    napi_value boolean = NULL;
    napi_get_boolean(env, value != 0, &boolean);
    set(env, object, name, boolean);
}

void dbss_node_set_number(napi_env env, napi_value object, const char *name, int64_t value, int64_t none)
{
    if (value != none)
        set(env, object, name, number_value(env, value));
}

void dbss_node_set_word(napi_env env, napi_value object, const char *name, int32_t value, const char *const *words,
                        size_t count)
{
    if (value >= 0 && (size_t)value < count)
        dbss_node_set_text(env, object, name, words[value]);
}

napi_value dbss_node_list(napi_env env, napi_value object, const char *name)
{
    napi_value list = NULL;
    napi_create_array(env, &list);
    set(env, object, name, list);
    return list;
}

napi_value dbss_node_item(napi_env env, napi_value list, size_t index)
{
    napi_value item = NULL;
    napi_create_object(env, &item);
    set_element(env, list, index, item);
    return item;
}

void dbss_node_add_text(napi_env env, napi_value list, size_t index, const char *text)
{
    set_element(env, list, index, text_value(env, text));
}

static napi_value call_stored(napi_env env, napi_ref function, size_t count, napi_value *given)
{
    napi_value stored = NULL, receiver = NULL, result = NULL;
    napi_get_reference_value(env, function, &stored);
    napi_get_undefined(env, &receiver);
    if (!stored || napi_call_function(env, receiver, stored, count, given, &result) != napi_ok)
        return NULL;
    return result;
}

/* The fields of a failure; it frees the error. */
static napi_value failure_value(napi_env env, dbss_status status, dbss_error *error)
{
    napi_value fields = NULL;
    napi_create_object(env, &fields);
    if (error)
        dbss_node_read_error(env, error, fields);
    else {
        dbss_node_set_number(env, fields, "status", status, DBSS_NODE_ALWAYS);
        dbss_node_set_text(env, fields, "message", dbss_status_message(status));
    }
    dbss_error_free(error);
    return fields;
}

static void throw_failure(environment *e, napi_value fields)
{
    napi_value error = call_stored(e->env, e->make_error, 1, &fields);
    if (error)
        napi_throw(e->env, error);
}

void dbss_node_set_error(napi_env env, napi_value object, const char *name, dbss_error *error)
{
    if (error)
        set(env, object, name, failure_value(env, 0, error));
}

/* The fields of what the addon refuses itself. The message has no parts, and not the parameter's name. */
static napi_value own_failure(napi_env env, dbss_status status, const char *parameter, const char *what)
{
    napi_value fields = NULL;
    napi_create_object(env, &fields);
    dbss_node_set_number(env, fields, "status", status, DBSS_NODE_ALWAYS);
    dbss_node_set_text(env, fields, "message", what);
    dbss_node_set_text(env, fields, "parameter", parameter);
    return fields;
}

static void throw_own_error(environment *e, dbss_status status, const char *parameter, const char *what)
{
    throw_failure(e, own_failure(e->env, status, parameter, what));
}

/* Clears an exception; NULL if there is none. */
static napi_value take_exception(napi_env env)
{
    napi_value exception = NULL;
    bool pending = false;
    napi_is_exception_pending(env, &pending);
    if (pending)
        napi_get_and_clear_last_exception(env, &exception);
    return exception;
}

static void free_bytes(napi_env env, void *data, void *hint)
{
    (void)env;
    dbss_buffer buffer = {data, (size_t)hint};
    dbss_buffer_free(&buffer);
}

/* Takes the bytes of libdbss. NULL if Node has no Buffer for them. */
static napi_value buffer_value(napi_env env, void *data, size_t length)
{
    napi_value buffer = NULL;
    napi_status status = napi_invalid_arg;
    if (length >= COPIED)
        status = napi_create_external_buffer(env, length, data, free_bytes, (void *)length, &buffer);
    if (status == napi_ok)
        return buffer;
    /* After this failure Node releases the bytes itself. */
    if (status == napi_generic_failure)
        return NULL;
    if (napi_create_buffer_copy(env, length, length ? data : "", NULL, &buffer) != napi_ok)
        buffer = NULL;
    free_bytes(env, data, (void *)length);
    return buffer;
}

/* The failure of a function whose results have no value in JavaScript. */
static napi_value no_value(napi_env env, environment *e, size_t length)
{
    take_exception(env);
    if ((int64_t)length <= e->most)
        return own_failure(env, DBSS_ERR_OUT_OF_MEMORY, NULL, "there is not enough memory for the result");
    char message[160];
    snprintf(message, sizeof message,
             "the report has %zu bytes, but a Buffer of this version of Node.js holds at most %lld: "
             "save it to a file, or open it as a stream",
             length, (long long)e->most);
    return own_failure(env, DBSS_ERR_LIMIT_EXCEEDED, NULL, message);
}

/* The context or operation of a function's handles: one of them, or that from which one is. */
static handle *owner_of(handle *const *handles, int count, unsigned char type)
{
    for (int i = 1; i <= count; i++) {
        handle *h = handles[i];
        if (h && h->type != type)
            h = type == HANDLE_CONTEXT ? h->context : h->operation;
        if (h)
            return h;
    }
    return NULL;
}

/*
 * What a function that succeeded has returned. It takes the results. If they cannot be made
 * into a value, it sets `failure`.
 */
static napi_value result_value(napi_env env, environment *e, const dbss_node_function *f, dbss_node_value *values,
                               handle *const *handles, napi_value *failure)
{
    if (f->returns == RETURNS_TEXT)
        return text_value(env, values[0].text);
    if (f->returns == RETURNS_NUMBER)
        return number_value(env, values[0].number);
    napi_value result = NULL;
    bool expected = false;
    size_t length = 0;
    for (int i = 1; i <= f->count; i++) {
        dbss_node_value *v = &values[i];
        switch (f->parameters[i - 1].kind) {
        case OUT_HANDLE:
            expected = v->handle != NULL;
            if (v->handle) {
                box *made = new_box(e, f->parameters[i - 1].handle, v->handle);
                if (made) {
                    made->handle->context = reference_handle(owner_of(handles, f->count, HANDLE_CONTEXT));
                    made->handle->operation = reference_handle(owner_of(handles, f->count, HANDLE_OPERATION));
                }
                result = external_of(env, made);
            }
            v->handle = NULL;
            break;
        case OUT_BUFFER:
            expected = true;
            length = v->buffer.len;
            /* Node would also throw. */
            if ((int64_t)length > e->most)
                break;
            result = buffer_value(env, v->buffer.data, length);
            v->buffer = (dbss_buffer){NULL, 0};
            break;
        case OUT_LENGTH:
            /* Of the bytes, which come two parameters before. They are copied: so one buffer does for all reads. */
            expected = true;
            if (napi_create_buffer_copy(env, v->length, values[i - 2].handle, NULL, &result) != napi_ok)
                result = NULL;
            free(e->spare);
            e->spare = values[i - 2].handle;
            values[i - 2].handle = NULL;
            break;
        case OUT_ID:
            expected = true;
            result = text_value(env, v->id);
            break;
        }
    }
    if (expected && !result)
        *failure = no_value(env, e, length);
    return result;
}

/* Frees what the values of a call have. */
static void free_values(const dbss_node_function *f, dbss_node_value *values, handle **handles)
{
    for (int i = 1; i <= f->count; i++) {
        dbss_node_value *v = &values[i];
        switch (f->parameters[i - 1].kind) {
        case TEXT:
        case OPTIONAL_TEXT:
            if (v->text)
                wipe((char *)v->text, strlen(v->text));
            free((char *)v->text);
            break;
        case OUT_HANDLE:
            if (v->handle)
                dbss_node_handle_types[f->parameters[i - 1].handle].free(v->handle);
            break;
        case OUT_BUFFER: dbss_buffer_free(&v->buffer); break;
        case OUT_BYTES: free(v->handle); break;
        }
        unreference_handle(handles[i]);
    }
}

/* Values from JavaScript. Each returns false after it has thrown an exception. */

static box *box_of(napi_env env, napi_value value, unsigned char type)
{
    napi_valuetype kind = napi_undefined;
    void *data = NULL;
    napi_typeof(env, value, &kind);
    if (kind == napi_external)
        napi_get_value_external(env, value, &data);
    box *b = data;
    return b && (!type || b->type == type) ? b : NULL;
}

static bool get_handle(environment *e, napi_value value, const dbss_node_parameter *p, handle **out, dbss_node_value *v)
{
    napi_valuetype kind = napi_undefined;
    napi_typeof(e->env, value, &kind);
    v->handle = NULL;
    if (p->kind == OPTIONAL_HANDLE && kind == napi_undefined)
        return true;
    box *b = box_of(e->env, value, p->handle);
    if (!b) {
        napi_throw_type_error(e->env, NULL, p->name);
        return false;
    }
    if (!b->handle) {
        throw_own_error(e, DBSS_ERR_CLOSED, p->name, "is closed");
        return false;
    }
    *out = reference_handle(b->handle);
    v->handle = b->handle->pointer;
    return true;
}

static char *copy_text(const char *bytes, size_t length)
{
    char *text = malloc(length + 1);
    if (text) {
        memcpy(text, bytes, length);
        text[length] = 0;
    }
    return text;
}

static dbss_status invalid_status(const char *subject)
{
    const dbss_node_invalid *known = dbss_node_invalids;
    while (known->name && strcmp(known->name, subject) != 0)
        known++;
    return known->status;
}

/* A string, or bytes that need not be UTF-8. `subject` is what the error names. */
static bool get_text(environment *e, napi_value value, const char *subject, dbss_node_value *v)
{
    napi_env env = e->env;
    char small[256];
    size_t length = 0;
    napi_valuetype kind = napi_undefined;
    bool is_bytes = false;
    char *text = NULL;
    v->text = NULL;
    napi_typeof(env, value, &kind);
    if (kind == napi_null) {
        throw_own_error(e, DBSS_ERR_NULL_ARGUMENT, subject, "must not be null");
        return false;
    }
    if (kind == napi_undefined)
        return true;
    napi_is_buffer(env, value, &is_bytes);
    if (is_bytes) {
        void *data = NULL;
        napi_get_buffer_info(env, value, &data, &length);
        text = copy_text(data ? data : "", length);
    } else if (napi_get_value_string_utf8(env, value, small, sizeof small, &length) != napi_ok) {
        throw_own_error(e, invalid_status(subject), subject, "must be a string");
        return false;
    } else if (length + 4 < sizeof small) {
        text = copy_text(small, length);
    } else if (napi_get_value_string_utf8(env, value, NULL, 0, &length) == napi_ok) {
        text = malloc(length + 1);
        if (text)
            napi_get_value_string_utf8(env, value, text, length + 1, &length);
    }
    wipe(small, sizeof small);
    if (!text) {
        throw_own_error(e, DBSS_ERR_OUT_OF_MEMORY, NULL, "there is not enough memory");
        return false;
    }
    v->text = text;
    if (!memchr(text, 0, length))
        return true;
    throw_own_error(e, invalid_status(subject), subject, "must not hold a NUL byte");
    return false;
}

static bool get_callback(environment *e, napi_value value, dbss_node_value *v)
{
    double id = 0;
    v->handle = NULL;
    if (napi_get_value_double(e->env, value, &id) != napi_ok)
        return true;
    owner *o = calloc(1, sizeof *o);
    if (!o) {
        throw_own_error(e, DBSS_ERR_OUT_OF_MEMORY, NULL, "there is not enough memory");
        return false;
    }
    atomic_init(&o->references, 1);
    o->environment = reference_environment(e);
    o->id = id;
    v->handle = o;
    return true;
}

static bool get_values(environment *e, const dbss_node_function *f, const napi_value *given, dbss_node_value *values,
                       handle **handles)
{
    for (int i = 1; i <= f->count; i++) {
        const dbss_node_parameter *p = &f->parameters[i - 1];
        dbss_node_value *v = &values[i];
        bool by_key = i > 1 && strcmp(p->name, "value") == 0 && values[i - 1].text;
        bool fine = true;
        switch (p->kind) {
        case HANDLE:
        case OPTIONAL_HANDLE: fine = get_handle(e, *given++, p, &handles[i], v); break;
        case TEXT:
        case OPTIONAL_TEXT: fine = get_text(e, *given++, by_key ? values[i - 1].text : p->name, v); break;
        case NUMBER:
            if (napi_get_value_int64(e->env, *given++, &v->number) != napi_ok) {
                napi_throw_type_error(e->env, "ERR_INVALID_ARG_TYPE", p->name);
                fine = false;
            }
            break;
        case CALLBACK: fine = get_callback(e, *given++, v); break;
        case OUT_BYTES:
            v->handle = e->spare ? e->spare : malloc(READ_SIZE);
            e->spare = NULL;
            if (!v->handle) {
                throw_own_error(e, DBSS_ERR_OUT_OF_MEMORY, NULL, "there is not enough memory");
                fine = false;
            }
            break;
        }
        if (!fine)
            return false;
    }
    return true;
}

/* Calls that wait */

static void free_job(job *j)
{
    free_values(j->function, j->values, j->handles);
    dbss_error_free(j->error);
    unreference_environment(j->environment);
    free(j);
}

static int64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * Fills the buffer of a read, because a message for each part would cost more than the part. It does not wait for
 * parts that come slowly, or that probably do not come.
 */
static void read_parts(const dbss_node_function *f, dbss_node_value *values, int bytes)
{
    dbss_node_value *cap = &values[bytes + 1], *length = &values[bytes + 2];
    dbss_node_value part[1 + DBSS_NODE_PARAMETERS];
    if (cap->number > (int64_t)READ_SIZE)
        cap->number = (int64_t)READ_SIZE;
    f->call(values);
    memcpy(part, values, sizeof part);
    int64_t until = milliseconds() + READ_MS;
    while (part[0].number == DBSS_OK && part[bytes + 2].length > 0 && part[bytes + 2].length % WHOLE == 0
           && (int64_t)length->length < cap->number && milliseconds() < until) {
        part[bytes].handle = (char *)values[bytes].handle + length->length;
        part[bytes + 1].number = cap->number - (int64_t)length->length;
        f->call(part);
        if (part[0].number == DBSS_OK)
            length->length += part[bytes + 2].length;
    }
    /* Any other failure is that of the next read, too. */
    if (part[0].number == DBSS_ERR_CANCELLED)
        values[0].number = DBSS_ERR_CANCELLED;
}

/* On a thread of its own. */
static void run_job(job *j)
{
    const dbss_node_function *f = j->function;
    int bytes = 0;
    /* The wait for this thread counts to the limit of the whole call. */
    int64_t waited = milliseconds() - j->made_ms;
    if (j->total_ms && waited > 0) {
        char rest[24];
        snprintf(rest, sizeof rest, "%lld", (long long)(waited < j->total_ms ? j->total_ms - waited : 1));
        j->status = dbss_operation_set(j->by_operation->pointer, TOTAL_TIMEOUT, rest);
    }
    for (int i = 1; i <= f->count; i++)
        if (f->parameters[i - 1].kind == OUT_BYTES)
            bytes = i;
    if (bytes)
        read_parts(f, j->values, bytes);
    else if (!j->status)
        f->call(j->values);
    if (!j->status)
        j->status = (dbss_status)j->values[0].number;
    if (j->status)
        j->error = dbss_error_take();
}

/* With the lock held. */
static void remove_job(environment *e, job *j)
{
    if (j->previous)
        j->previous->next = j->next;
    else
        e->jobs = j->next;
    if (j->next)
        j->next->previous = j->previous;
    else
        e->last_job = j->previous;
    if (j->by_operation)
        j->by_operation->waiting = NULL;
    e->queued--;
}

/* With the lock held: ends a call that no thread has begun. */
static void cancel_job(environment *e, job *j, const char *cancelled_by)
{
    remove_job(e, j);
    j->status = DBSS_ERR_CANCELLED;
    j->cancelled_by = cancelled_by;
    post(e, &j->done);
}

static void *run_thread(void *data)
{
    environment *e = data;
    pthread_mutex_lock(&e->lock);
    /* The data of libdbss for this thread, which it makes now, and not while others do, too. */
    dbss_error_free(dbss_error_take());
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += IDLE_SECONDS;
        int waited = 0;
        while (e->alive && !e->jobs && waited != ETIMEDOUT && e->threads <= e->limit) {
            e->idle++;
            waited = pthread_cond_timedwait(&e->wake, &e->lock, &until);
            e->idle--;
        }
        if (!e->alive || !e->jobs || (e->threads > e->limit && !(e->jobs->flags & BY_PROVIDER)))
            break;
        job *j = e->jobs;
        remove_job(e, j);
        pthread_mutex_unlock(&e->lock);
        run_job(j);
        pthread_mutex_lock(&e->lock);
        if (!post(e, &j->done)) {
            pthread_mutex_unlock(&e->lock);
            free_job(j);
            pthread_mutex_lock(&e->lock);
        }
    }
    e->threads--;
    pthread_mutex_unlock(&e->lock);
    unreference_environment(e);
    return NULL;
}

/* With the lock held. */
static bool start_thread(environment *e)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    size_t size = STACK_SIZE + RESERVE;
    void *probe = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED || munmap(probe, size) != 0 || pthread_attr_init(&attributes) != 0)
        return false;
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* Signals are for the threads of Node. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, &attributes, run_thread, reference_environment(e)) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    e->threads += started;
    if (!started)
        atomic_fetch_sub(&e->references, 1);
    return started;
}

static void submit(job *j)
{
    environment *e = j->environment;
    if (e->running++ == 0)
        napi_ref_threadsafe_function(e->env, e->poster);
    j->made_ms = milliseconds();
    pthread_mutex_lock(&e->lock);
    j->by_operation = owner_of(j->handles, j->function->count, HANDLE_OPERATION);
    if (j->by_operation)
        j->by_operation->waiting = j;
    bool first = j->flags & BY_PROVIDER;
    j->previous = first ? NULL : e->last_job;
    j->next = first ? e->jobs : NULL;
    *(j->previous ? &j->previous->next : &e->jobs) = j;
    *(j->next ? &j->next->previous : &e->last_job) = j;
    e->queued++;
    /* Idle threads beyond the limit leave, and take no call. */
    bool has_idle = e->queued <= e->idle && (first || e->threads <= e->limit);
    bool has_room = e->threads < (first ? 2 * MAX_THREADS : e->limit);
    if (has_idle) {
        /* It is woken below, so that it does not have to wait for the lock. */
    } else if (has_room && start_thread(e)) {
        /* It takes the call. */
    } else if (first || e->threads == 0) {
        /* Nobody may ever take it: all threads may wait for this provider. */
        remove_job(e, j);
        j->status = DBSS_ERR_RESOURCE;
        post(e, &j->done);
    } else if (j->by_operation && j->by_operation->cancelled)
        cancel_job(e, j, "operation");
    pthread_mutex_unlock(&e->lock);
    if (has_idle)
        pthread_cond_signal(&e->wake);
}

/* Ends the call of an operation, if no thread has begun it. */
static bool cancel_queued(environment *e, const handle *operation, const char *cancelled_by)
{
    pthread_mutex_lock(&e->lock);
    job *waiting = operation ? operation->waiting : NULL;
    if (waiting)
        cancel_job(e, waiting, cancelled_by);
    pthread_mutex_unlock(&e->lock);
    return waiting != NULL;
}

/* The operation of a call with its options; false after an exception. */
static bool make_operation(environment *e, job *j, napi_value settings)
{
    napi_env env = e->env;
    dbss_operation *operation = NULL;
    dbss_status status = dbss_operation_new(&operation);
    uint32_t count = 0;
    if (status == DBSS_OK) {
        j->operation = new_box(e, HANDLE_OPERATION, operation);
        status = j->operation ? DBSS_OK : DBSS_ERR_OUT_OF_MEMORY;
    }
    napi_get_array_length(env, settings, &count);
    for (uint32_t i = 0; status == DBSS_OK && i + 1 < count; i += 2) {
        dbss_node_value key = {NULL}, text = {NULL};
        napi_value element = NULL;
        napi_get_element(env, settings, i, &element);
        bool fine = get_text(e, element, "key", &key);
        napi_get_element(env, settings, i + 1, &element);
        fine = fine && get_text(e, element, key.text ? key.text : "value", &text);
        if (fine)
            status = dbss_operation_set(operation, key.text, text.text);
        if (fine && status == DBSS_OK && strcmp(key.text, TOTAL_TIMEOUT) == 0)
            j->total_ms = strtoll(text.text, NULL, 10);
        free((char *)key.text);
        free((char *)text.text);
        if (!fine)
            return false;
    }
    /* It has no limit. */
    if (j->total_ms < 0)
        j->total_ms = 0;
    if (status == DBSS_OK && j->flags & WITH_PROGRESS)
        status = watch(e, j->done.id, operation);
    if (status != DBSS_OK) {
        throw_failure(e, failure_value(env, status, dbss_error_take()));
        return false;
    }
    if (j->flags & CANCELLED) {
        dbss_operation_cancel(operation);
        j->operation->handle->cancelled = true;
    }
    return true;
}

/* (id, flags, settings, ...parameters): the operation, unless the call is a read of a stream. */
static napi_value start_job(environment *e, const dbss_node_function *f, napi_value *given)
{
    napi_env env = e->env;
    job *j = calloc(1, sizeof *j);
    if (!j) {
        throw_own_error(e, DBSS_ERR_OUT_OF_MEMORY, NULL, "there is not enough memory");
        return NULL;
    }
    double id = 0;
    napi_get_value_double(env, given[0], &id);
    napi_get_value_int32(env, given[1], &j->flags);
    j->function = f;
    j->environment = reference_environment(e);
    j->done = (message){.kind = DONE, .id = id, .pointer = j};
    napi_value external = NULL;
    bool fine = get_values(e, f, given + 3, j->values, j->handles);
    for (int i = 1; fine && i <= f->count; i++)
        if (f->parameters[i - 1].kind == OPERATION) {
            fine = make_operation(e, j, given[2]);
            if (fine) {
                j->handles[i] = reference_handle(j->operation->handle);
                j->values[i].handle = j->operation->handle->pointer;
                external = external_of(env, j->operation);
                fine = external != NULL;
            } else if (j->operation)
                finalize_box(env, j->operation, NULL);
        }
    if (!fine) {
        free_job(j);
        return NULL;
    }
    submit(j);
    return external;
}

/* Passes a message to JavaScript; false if that failed. Its exception is an uncaught one, as from an event handler. */
static bool dispatch(environment *e, int kind, double id, napi_value *more)
{
    napi_value given[5] = {NULL, NULL, more[0], more[1], more[2]}, undefined = NULL;
    napi_get_undefined(e->env, &undefined);
    napi_create_int32(e->env, kind, &given[0]);
    napi_create_double(e->env, id, &given[1]);
    for (int i = 2; i < 5; i++)
        given[i] = given[i] ? given[i] : undefined;
    if (call_stored(e->env, e->dispatch, 5, given))
        return true;
    napi_value exception = take_exception(e->env);
    if (exception)
        napi_fatal_exception(e->env, exception);
    return false;
}

static bool deliver_done(environment *e, job *j, double id)
{
    napi_value more[3] = {NULL, NULL, NULL};
    if (j->cancelled_by) {
        more[0] = own_failure(e->env, j->status, NULL, "the call was cancelled before it began");
        dbss_node_set_text(e->env, more[0], "cancelledBy", j->cancelled_by);
    } else if (j->status)
        more[0] = failure_value(e->env, j->status, j->error);
    j->error = NULL;
    if (!j->cancelled_by) {
        napi_value failure = NULL;
        more[1] = result_value(e->env, e, j->function, j->values, j->handles, &failure);
        if (!more[0])
            more[0] = failure;
    }
    handle *operation = NULL;
    for (int i = 1; i <= j->function->count; i++)
        if (j->function->parameters[i - 1].kind == OPERATION)
            operation = j->handles[i];
    if (operation && j->flags & WITH_RESULT) {
        napi_create_object(e->env, &more[2]);
        dbss_node_read_operation(e->env, operation->pointer, more[2]);
    }
    /* Whatever went wrong here, the call ends. */
    if (take_exception(e->env) && !more[0])
        more[0] = no_value(e->env, e, 0);
    free_job(j);
    if (--e->running == 0)
        napi_unref_threadsafe_function(e->env, e->poster);
    return dispatch(e, DONE, id, more);
}

static bool deliver_progress(environment *e, watcher *w, double id)
{
    pthread_mutex_lock(&e->lock);
    progress told[] = {w->first, w->last};
    int count = w->again ? 2 : 1;
    w->posted = w->again = false;
    pthread_mutex_unlock(&e->lock);
    unreference_watcher(w);
    bool fine = true;
    for (int i = 0; fine && i < count; i++) {
        napi_value more[3] = {NULL, NULL, NULL};
        napi_create_object(e->env, &more[0]);
        dbss_node_set_number(e->env, more[0], "received", told[i].received, DBSS_NODE_ALWAYS);
        dbss_node_set_number(e->env, more[0], "total", told[i].total, -1);
        dbss_node_set_number(e->env, more[0], "resumed", told[i].resumed, DBSS_NODE_ALWAYS);
        dbss_node_set_number(e->env, more[0], "attempts", told[i].attempts, DBSS_NODE_ALWAYS);
        dbss_node_set_number(e->env, more[0], "percent", told[i].percent, -1);
        fine = dispatch(e, PROGRESS, id, more);
    }
    return fine;
}

static bool deliver(environment *e, message *m)
{
    napi_value more[3] = {NULL, NULL, NULL};
    double id = m->id;
    watcher *w = m->pointer;
    int kind = m->kind;
    dbss_error *error = NULL;
    switch (kind) {
    case DONE: return deliver_done(e, m->pointer, id);
    case PROGRESS: return deliver_progress(e, w, id);
    case LOG:
        pthread_mutex_lock(&e->lock);
        m->owner->waiting--;
        pthread_mutex_unlock(&e->lock);
        unreference_owner(m->owner);
        napi_create_object(e->env, &more[0]);
        dbss_node_read_log_record(e->env, m->pointer, more[0]);
        napi_create_int64(e->env, (int64_t)m->dropped, &more[1]);
        error = dbss_log_record_error(m->pointer);
        if (error)
            more[2] = failure_value(e->env, 0, error);
        dbss_log_record_free(m->pointer);
        break;
    default:
        napi_create_object(e->env, &more[1]);
        dbss_node_read_token_request(e->env, m->pointer, more[1]);
        more[0] = external_of(e->env, new_box(e, HANDLE_TOKEN_REQUEST, m->pointer));
    }
    free(m);
    return dispatch(e, kind, id, more);
}

/* On the event loop. */
static void on_posted(napi_env env, napi_value unused, void *context, void *data)
{
    (void)unused;
    (void)data;
    environment *e = context;
    if (!env)
        return;
    for (int turn = 0;; turn++) {
        pthread_mutex_lock(&e->lock);
        message *m = e->messages;
        if (m && turn < TURN) {
            e->messages = m->next;
            if (!e->messages)
                e->messages_end = &e->messages;
        } else {
            e->posted = m && napi_call_threadsafe_function(e->poster, NULL, napi_tsfn_nonblocking) == napi_ok;
            m = NULL;
        }
        pthread_mutex_unlock(&e->lock);
        if (!m)
            return;
        napi_handle_scope scope;
        if (napi_open_handle_scope(env, &scope) != napi_ok)
            return;
        bool fine = deliver(e, m);
        napi_close_handle_scope(env, scope);
        if (!fine)
            turn = TURN;
    }
}

/* When the environment ends. Its threads may still be inside of libdbss. */
static void on_end(void *data)
{
    environment *e = data;
    pthread_mutex_lock(&e->lock);
    e->alive = false;
    job *jobs = e->jobs;
    message *messages = e->messages;
    e->jobs = e->last_job = NULL;
    e->messages = NULL;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    for (box *b = e->contexts; b; b = b->next)
        dbss_context_close(b->handle->pointer);
    while (jobs) {
        job *j = jobs;
        jobs = j->next;
        free_job(j);
    }
    while (messages) {
        message *m = messages;
        messages = m->next;
        if (m->kind == DONE)
            free_job(m->pointer);
        else if (m->kind == PROGRESS)
            unreference_watcher(m->pointer);
        else {
            int type = m->kind == LOG ? HANDLE_LOG_RECORD : HANDLE_TOKEN_REQUEST;
            dbss_node_handle_types[type].free(m->pointer);
            if (m->owner)
                unreference_owner(m->owner);
            free(m);
        }
    }
    unreference_environment(e);
}

/* The functions of the addon */

static napi_value run_now(environment *e, const dbss_node_function *f, napi_value *given)
{
    napi_env env = e->env;
    dbss_node_value values[1 + DBSS_NODE_PARAMETERS] = {{NULL}};
    handle *handles[1 + DBSS_NODE_PARAMETERS] = {NULL};
    napi_value result = NULL;
    if (get_values(e, f, given, values, handles)) {
        f->call(values);
        if (f->returns == RETURNS_STATUS && values[0].number) {
            throw_failure(e, failure_value(env, (dbss_status)values[0].number, dbss_error_take()));
        } else {
            napi_value failure = NULL;
            result = result_value(env, e, f, values, handles, &failure);
            if (failure)
                throw_failure(e, failure);
        }
        /* Calls that wait for a thread are calls that run. */
        if (strcmp(f->name, "reportStreamClose") == 0)
            cancel_queued(e, handles[1]->operation, "close");
        else if (strcmp(f->name, "operationCancel") == 0) {
            handles[1]->cancelled = true;
            cancel_queued(e, handles[1], "operation");
        }
    }
    free_values(f, values, handles);
    return result;
}

static napi_value call_function(napi_env env, napi_callback_info info)
{
    napi_value given[3 + DBSS_NODE_PARAMETERS];
    size_t count = sizeof given / sizeof *given;
    void *data = NULL;
    napi_get_cb_info(env, info, &count, given, NULL, &data);
    const binding *b = data;
    return (b->function->blocks ? start_job : run_now)(b->environment, b->function, given);
}

/* (operation): whether its call waited for a thread, which is ended then. */
static napi_value end_waiting(napi_env env, napi_callback_info info)
{
    napi_value given[1], ended = NULL;
    size_t count = 1;
    void *data = NULL;
    napi_get_cb_info(env, info, &count, given, NULL, &data);
    box *b = box_of(env, given[0], HANDLE_OPERATION);
    napi_get_boolean(env, b && cancel_queued(data, b->handle, "operation"), &ended);
    return ended;
}

/* (handle): its fields. */
static napi_value read_fields(napi_env env, napi_callback_info info)
{
    napi_value given[1], object = NULL;
    size_t count = 1;
    napi_get_cb_info(env, info, &count, given, NULL, NULL);
    box *b = box_of(env, given[0], 0);
    if (!b || !b->handle || !dbss_node_handle_types[b->type].read)
        return NULL;
    napi_create_object(env, &object);
    dbss_node_handle_types[b->type].read(env, b->handle->pointer, object);
    return object;
}

/* (handle): gives it up before the collector does. */
static napi_value release(napi_env env, napi_callback_info info)
{
    napi_value given[1];
    size_t count = 1;
    napi_get_cb_info(env, info, &count, given, NULL, NULL);
    box *b = box_of(env, given[0], 0);
    if (b)
        empty_box(b);
    return NULL;
}

/* (count): how many calls of this environment run at once. */
static napi_value set_threads(napi_env env, napi_callback_info info)
{
    napi_value given[1];
    size_t count = 1;
    void *data = NULL;
    napi_get_cb_info(env, info, &count, given, NULL, &data);
    environment *e = data;
    pthread_mutex_lock(&e->lock);
    napi_get_value_int32(env, given[0], &e->limit);
    for (int more = e->queued - e->idle; more > 0 && e->threads < e->limit && start_thread(e); more--)
        ;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

static environment *new_environment(napi_env env)
{
    environment *e = calloc(1, sizeof *e + dbss_node_function_count * sizeof *e->bindings);
    pthread_condattr_t attributes;
    if (!e || pthread_condattr_init(&attributes) != 0)
        return NULL;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&e->lock, NULL);
    /* Its functions can be called until it ends. */
    atomic_init(&e->references, 1);
    e->alive = true;
    e->limit = DEFAULT_THREADS;
    e->messages_end = &e->messages;
    e->env = env;
    for (size_t i = 0; i < dbss_node_function_count; i++)
        e->bindings[i] = (binding){e, &dbss_node_functions[i]};
    napi_value name = NULL;
    napi_create_string_utf8(env, "dbss", NAPI_AUTO_LENGTH, &name);
    if (napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, NULL, NULL, e, on_posted, &e->poster) != napi_ok)
        return NULL;
    /* It keeps the event loop running only while calls run. */
    napi_unref_threadsafe_function(env, e->poster);
    /* After the threadsafe function, so that it runs before that one's end. */
    napi_add_env_cleanup_hook(env, on_end, e);
    return e;
}

static void define(napi_env env, napi_value object, const char *name, napi_callback callback, void *data)
{
    napi_value function = NULL;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, data, &function);
    set(env, object, name, function);
}

/* (dispatch, makeError, the length of the largest Buffer): the functions, for one copy of the package. */
static napi_value set_up(napi_env env, napi_callback_info info)
{
    napi_value given[3], functions = NULL;
    size_t count = 3;
    napi_get_cb_info(env, info, &count, given, NULL, NULL);
    environment *e = new_environment(env);
    if (!e) {
        napi_throw_error(env, NULL, "the addon of dbss could not start");
        return NULL;
    }
    napi_create_reference(env, given[0], 1, &e->dispatch);
    napi_create_reference(env, given[1], 1, &e->make_error);
    napi_get_value_int64(env, given[2], &e->most);
    napi_create_object(env, &functions);
    for (size_t i = 0; i < dbss_node_function_count; i++)
        define(env, functions, dbss_node_functions[i].name, call_function, &e->bindings[i]);
    set(env, functions, "builtFor", number_value(env, DBSS_VERSION_NUMBER));
    define(env, functions, "readFields", read_fields, NULL);
    define(env, functions, "release", release, NULL);
    define(env, functions, "endWaiting", end_waiting, e);
    define(env, functions, "setThreads", set_threads, e);
    return functions;
}

NAPI_MODULE_INIT()
{
    define(env, exports, "setUp", set_up, NULL);
    return exports;
}
