/* Calls to every kind of sink, on this thread or another. */

#ifndef CALLS_H
#define CALLS_H

#include "checks.h"

/* ---------------------------------------------------------------------------
 * Reports with known bytes
 * ------------------------------------------------------------------------ */

struct report {
    const char *id;
    uint8_t *bytes;
    size_t len;
};

/* Adds a report of this length and fetches its bytes once, without faults. Compares
 * them with the hash from the mock service. */
struct report new_report(size_t len);

void free_report(struct report *report);

/* ---------------------------------------------------------------------------
 * Calls
 * ------------------------------------------------------------------------ */

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
    long long duration_ms, ended_ms;

    pthread_t thread;
    size_t capacity;
};

struct call new_call(enum sink sink, dbss_context *ctx, const char *id, dbss_operation *operation);

/* Makes the call and checks what holds for every call: the last error, no partial
 * file, and a stream whose end or error persists. */
void make_call(struct call *call);

/* The same on its own thread. */
void start_call(struct call *call);
void join_call(struct call *call);

/* Frees the results of the call. */
void free_call(struct call *call);

/* Checks the status. On success the bytes must be the report's, otherwise a prefix
 * of them. */
#define CHECK_CALL(expected, call, report) check_call(__LINE__, expected, call, report)

int check_call(int line, dbss_status expected, const struct call *call, const struct report *report);

/* Whether the received bytes are the report, or a prefix of it. */
int has_whole_report(const struct call *call, const struct report *report);
int has_report_prefix(const struct call *call, const struct report *report);

dbss_operation *new_operation(void);

/* ---------------------------------------------------------------------------
 * Directories
 * ------------------------------------------------------------------------ */

/* Creates a directory. Returns its path, which the caller frees. */
char *new_directory(void);

/* The number of its entries, hidden ones included. */
int count_entries(const char *directory);

/* Removes a directory and everything in it. */
void remove_tree(const char *path);

/* The same, and frees the path. */
void remove_directory(char *directory);

/* Reads a file. Returns NULL if it is missing. The caller frees the bytes. */
uint8_t *read_file(const char *path, size_t *len);

void write_file(const char *path, const char *text);

#endif
