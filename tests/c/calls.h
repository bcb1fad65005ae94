/* Calls to every kind of sink alike, on this thread or another, and what the
 * mock service saw of them. */

#ifndef CALLS_H
#define CALLS_H

#include "checks.h"

/* ---------------------------------------------------------------------------
 * Reports whose bytes are known
 * ------------------------------------------------------------------------ */

struct report {
    const char *id;
    uint8_t *bytes;
    size_t len;
};

/* A report of so many bytes at the mock service, with its bytes: fetched once,
 * without any fault, and compared with the hash that the mock service told. */
struct report new_report(size_t len);

/* Another version of it: as many bytes, and others. */
void change_report(struct report *report);

void free_report(struct report *report);

/* ---------------------------------------------------------------------------
 * Calls
 * ------------------------------------------------------------------------ */

enum sink { TO_MEMORY, TO_FILE, TO_FD, TO_CALLBACK, TO_STREAM, SINKS };

extern const char *const sink_names[SINKS];

/* Whether a transfer to it can begin again at its first byte. */
int can_restart(enum sink sink);

struct call {
    enum sink sink;
    dbss_context *ctx;
    const char *id;
    dbss_operation *operation; /* or NULL */
    /* Called at each write to TO_CALLBACK and after each read of TO_STREAM;
     * may be NULL. */
    void (*meanwhile)(struct call *call);

    dbss_status status;
    dbss_error *error; /* NULL for DBSS_OK */
    uint8_t *bytes;    /* what was handed over, also before a failure */
    size_t len;
    long long took_ms, ended_ms;

    pthread_t thread;
    size_t room;
};

/* Makes the call, and checks what holds for every one: the last error, no file
 * left behind, a stream's end and errors that stay. */
void make_call(struct call *call);

/* The same on a thread of its own. */
void start_call(struct call *call);
void join_call(struct call *call);

/* Frees what the call brought. */
void free_call(struct call *call);

/* Whether the call ended so; on success with exactly the report's bytes, else
 * with nothing that is not the beginning of them. */
#define CHECK_CALL(expected, call, report) check_call(__LINE__, expected, call, report)

int check_call(int line, dbss_status expected, const struct call *call, const struct report *report);

/* Whether what was handed over is the report, or the beginning of it. */
int holds_whole(const struct call *call, const struct report *report);
int holds_beginning(const struct call *call, const struct report *report);

dbss_operation *new_operation(void);

/* ---------------------------------------------------------------------------
 * The mock service's request log
 * ------------------------------------------------------------------------ */

struct exchange {
    int status;
    long long sent;
    char range[64], if_range[128]; /* "" where the header was missing */
    int has_token;
};

/* The requests for this report in order, without the one of new_report();
 * returns how many there were. */
size_t read_request_log(const struct report *report, struct exchange *exchanges, size_t room);

/* ---------------------------------------------------------------------------
 * Directories
 * ------------------------------------------------------------------------ */

/* A new empty directory, to be freed. */
char *new_directory(void);

/* How many entries it has, hidden ones included. */
int count_entries(const char *directory);

/* Removes it and the files in it. */
void remove_directory(char *directory);

/* A file's bytes, to be freed; NULL where there is none. */
uint8_t *read_file(const char *path, size_t *len);

void write_file(const char *path, const char *text);

#endif
