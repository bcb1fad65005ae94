/* Calls of every kind, on this thread or another. */

#ifndef CALLS_H
#define CALLS_H

#include "checks.h"

/* ---- Reports with known bytes ---- */

struct report {
    const char *id;
    uint8_t *bytes;
    size_t len;
};

/* Adds a report of this length and fetches its bytes once, without faults. Compares
 * them with the hash from the mock service. The bytes are kept. */
struct report new_report(size_t len);

/* Whether these bytes are the report, or a prefix of it. */
int is_report(const struct report *report, const void *bytes, size_t len);
int is_report_prefix(const struct report *report, const void *bytes, size_t len);

/* ---- Work: what a call returns, and nothing else ---- */

/* The arguments. Each kind of work needs some of them. */
struct work {
    dbss_context *ctx;
    dbss_operation *operation; /* or NULL */
    const char *project, *instance, *id, *template_id;
    const char *path, *directory;
    int fd;
    /* Set by a mirror; the caller frees it. NULL: freed at once. */
    dbss_mirror_result **result;
};

/* For the English report "pdf" of the mock service. */
struct work new_work(dbss_context *ctx, dbss_operation *operation);

/* Each frees what it gets, and works without memory too. */
typedef dbss_status work_fn(const struct work *work);
work_fn download, download_to_memory, download_to_file, download_to_directory, download_to_fd, download_to_callback,
    download_to_stream, list_reports, generate, show_and_change_schedule, wait_for_report, mirror, check_credentials,
    find_credentials;

/* Callbacks that do nothing. */
int32_t ignore_bytes(void *user_data, const uint8_t *data, size_t len);
void ignore_record(void *user_data, const dbss_log_record *record);

/* Counts one call in the integer that is its user data. */
void count_destroyed(void *count);
int32_t count_progress(void *count, const dbss_operation *operation);

/* Sets the token, and frees the request. */
void give_token(dbss_token_request *request, const char *token);

/* Gives the token that is its user data. */
void provide_token(void *token, dbss_token_request *request);

/* ---- Downloads whose bytes are compared ---- */

enum sink { TO_MEMORY, TO_FILE, TO_FD, TO_CALLBACK, TO_STREAM, SINKS };

extern const char *const sink_names[SINKS];

/* Whether a transfer to it can restart at the first byte. */
int can_restart(enum sink sink);

struct call {
    enum sink sink;
    dbss_context *ctx;
    const char *id;
    dbss_operation *operation; /* or NULL */
    /* Called at each write to TO_CALLBACK and after each read of TO_STREAM.
     * May be NULL. */
    void (*on_data)(struct call *call);

    dbss_status status;
    dbss_error *error; /* NULL for DBSS_OK */
    uint8_t *bytes;    /* the bytes received, also before a failure */
    size_t len;
    size_t capacity;
    pthread_t thread;
};

/* Makes the call and checks what holds for every call: the last error, no partial
 * file, and a stream whose end or error persists. */
void make_call(struct call *call);

/* The same on its own thread. */
void start_call(struct call *call);
void join_call(struct call *call);

/* Checks the status, and frees the results. On success the bytes must be the report's,
 * otherwise a prefix of them. */
#define CHECK_CALL(expected, call, report) check_call(__LINE__, expected, call, report)

void check_call(int line, dbss_status expected, struct call *call, const struct report *report);

void free_call(struct call *call);

/* make_call() and CHECK_CALL(). */
#define EXPECT_CALL(expected, report, sink, ctx, operation)                                                            \
    expect_call(__LINE__, expected, report, sink, ctx, operation)

void expect_call(int line, dbss_status expected, const struct report *report, enum sink sink, dbss_context *ctx,
                 dbss_operation *operation);

/* Downloads the report "pdf" of the mock service and compares its hash. */
#define EXPECT_DOWNLOAD(ctx) expect_download(__LINE__, DBSS_OK, ctx, NULL)

void expect_download(int line, dbss_status expected, dbss_context *ctx, dbss_operation *operation);

/* Expects a failing download, and an empty buffer. */
#define EXPECT_DOWNLOAD_ERROR(expected, ctx, id) expect_download_error(__LINE__, expected, ctx, id)

void expect_download_error(int line, dbss_status expected, dbss_context *ctx, const char *id);

/* ---- Files ---- */

/* The number of entries of a directory, hidden ones included. */
int count_entries(const char *directory);

/* Reads a file. Returns NULL if it is missing. The caller frees the bytes. */
uint8_t *read_file(const char *path, size_t *len);

/* Whether the file has just these bytes. */
int is_file(const char *path, const void *bytes, size_t len);

void write_file(const char *path, const char *content);

/* A descriptor of /dev/null. */
int null_device(void);

#endif
