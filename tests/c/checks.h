// clang-format Language: C
/*
 * Shared by the programs of named checks: failures, what lives as long as a check,
 * faults of the mock service, child processes, and the main function.
 *
 *     PROGRAM --list              lists the checks, each with its kind
 *     PROGRAM FIXTURES [NAME...]  runs some or all of them against the mock service
 *
 * It prints one line for each check: "ok NAME", "FAIL NAME: reason", or
 * "skip NAME: reason" if this machine cannot run the check.
 */

#ifndef CHECKS_H
#define CHECKS_H

#include <dbss.h>

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The limit of every wait in the checks. */
#define WAIT_LIMIT_MS 60000

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum kind {
    PLAIN,
    /* Uses TLS. Its cryptography is assembly that valgrind cannot follow. */
    TLS,
    /* Not run under valgrind. It is heavy, limits or searches memory, measures
     * short times, or forks with a context. valgrind reports the context that the
     * child abandons as a leak. */
    LOAD
};

/* Begins the function of a check. NAMED_CHECKS makes two, of which the second, whose
 * name ends with "_tls", has a kind of its own. NAMED_CALL makes one that calls a
 * function. */
#define NAMED_CHECK(name, kind)                                                                                        \
    static void name(void);                                                                                            \
    ADD_CHECK(name, name, kind)                                                                                        \
    static void name(void)

#define NAMED_CHECKS(name, kind, kind_tls)                                                                             \
    static void name(void);                                                                                            \
    ADD_CHECK(name, name, kind)                                                                                        \
    ADD_CHECK(name##_tls, name, kind_tls)                                                                              \
    static void name(void)

#define NAMED_CALL(name, kind, function, argument)                                                                     \
    NAMED_CHECK(name, kind)                                                                                            \
    {                                                                                                                  \
        function(argument);                                                                                            \
    }

#define ADD_CHECK(name, function, kind)                                                                                \
    __attribute__((constructor)) static void add_##name(void)                                                          \
    {                                                                                                                  \
        add_check(#name, function, kind);                                                                              \
    }

void add_check(const char *name, void (*run)(void), enum kind kind);

/* "https" in a check whose name ends with "_tls", otherwise "http": the listener of the
 * mock service. */
extern const char *scheme;

/* ---- The program and the mock service ---- */

/* Ends the program if the test itself cannot continue. */
void fatal(const char *format, ...);

/* Returns a formatted string. The caller frees it. */
char *format(const char *format, ...);
char *format_list(const char *format, va_list arguments);

void random_bytes(void *bytes, size_t len);

/* Reads the fixtures of the mock service: lines of name=value. */
void load_fixtures(const char *path);

/* Returns a fixture. Ends the program if it is missing. */
const char *fixture(const char *name);

/* Returns a fixture, or NULL. */
const char *find_fixture(const char *name);

/* Sends one request to the control API. Returns the body, which the caller frees. */
char *control(const char *method, const char *path, const char *body);

/* A POST request with a formatted body, whose response is not needed. */
void post_control(const char *path, const char *format, ...);

/* The number of connections that the mock service accepted. */
long count_connections(void);

/* The number of requests that it received for this report. */
long count_requests(const char *report);

/* 64 hexadecimal digits. The next call on this thread overwrites the string. */
const char *sha256(const void *bytes, size_t len);

/* Overwrites a secret. Compilers do not optimize this away. */
void wipe(char *secret, size_t len);

/* ---- Failures ---- */

/* Fails the current check. Only its first failure is kept. Thread-safe. */
void fail_check(const char *text, ...);

/* Whether the current check has failed. */
int has_failed(void);

/* Adds context to the first failure, once. Does nothing without a failure. */
void add_failure_context(const char *text, ...);

/* Skips the current check: this machine cannot run it. */
void skip_check(const char *text, ...);

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fail_check("line %d: %s", __LINE__, #condition);                                                           \
    } while (0)

/* Compares a status. On failure it prints the error message. */
#define EXPECT(expected, call) expect(__LINE__, expected, call)

dbss_status expect(int line, dbss_status expected, dbss_status actual);

#define OK(call) EXPECT(DBSS_OK, call)

/* Expects a failure that names the parameter. */
#define EXPECT_PARAMETER(expected, name, call)                                                                         \
    do {                                                                                                               \
        EXPECT(expected, call);                                                                                        \
        expect_text(__LINE__, name, dbss_error_parameter(dbss_last_error()));                                          \
    } while (0)

#define EXPECT_NULL(name, call) EXPECT_PARAMETER(DBSS_ERR_NULL_ARGUMENT, name, call)

void expect_text(int line, const char *expected, const char *actual);

/* Ends the program if a call fails that the checks depend on. */
void require_ok(dbss_status status);

/* ---- What lives until the check ends ---- */

/* Calls `end` with the thing when the check ends. Returns the thing. Thread-safe. */
void *keep(void *thing, void (*end)(void *thing));

/* Ends it now. */
void drop(void *thing);

/* A formatted string. */
char *text(const char *format, ...);

/* A new report id. */
const char *fresh_id(void);

dbss_operation *new_operation(void);

/* With one attempt for each call, so that a check sees the result of that attempt.
 * new_context_from() frees it. */
dbss_config *new_config(const char *endpoint, const char *token);

void set_option(dbss_config *config, const char *key, const char *value);

dbss_context *keep_context(dbss_context *ctx);

dbss_context *new_context_from(dbss_config *config);

dbss_context *new_context(const char *endpoint);

/* Mirrors the reports of one instance. */
dbss_mirror_options *new_mirror_options(const char *instance);

/* An empty directory, which is removed with everything in it. */
char *new_directory(void);

/* ---- Time, threads, children, descriptors ---- */

long long now_ms(void);

/* A number from /proc/self/status, such as "VmRSS" (in KiB) or "Threads". */
long proc_status_value(const char *name);

/* The pause between two tests of a condition. */
void pause_briefly(void);

/* Waits until the condition holds. Fails the check after WAIT_LIMIT_MS. */
#define WAIT_FOR(condition)                                                                                            \
    do {                                                                                                               \
        long long until_ = now_ms() + WAIT_LIMIT_MS;                                                                   \
        while (!(condition)) {                                                                                         \
            if (now_ms() > until_) {                                                                                   \
                fail_check("line %d: timed out waiting for: %s", __LINE__, #condition);                                \
                break;                                                                                                 \
            }                                                                                                          \
            pause_briefly();                                                                                           \
        }                                                                                                              \
    } while (0)

/* Guards data that several threads of a check share. */
extern pthread_mutex_t lock;

int read_locked(const int *number);
void add_locked(int *number, int more);

pthread_t start_thread(void *(*body)(void *), void *argument);

/* Runs `body` in so many other threads, and waits for them. The argument of each is
 * `size` bytes after that of the one before. */
void run_in_threads(int count, void *(*body)(void *), void *arguments, size_t size);

/* Starts a child process, which exits with what `body` returns. */
pid_t start_child(int (*body)(void *argument), void *argument);

/* Waits for a child, and kills it after WAIT_LIMIT_MS. Returns its exit code, or
 * -signal. */
int wait_for_child(pid_t child);

/* The same without a limit. */
int wait_for_long_child(pid_t child);

/* start_child() and wait_for_child(). */
int run_child(int (*body)(void *argument), void *argument);

/* Runs `body` in a child process. A failure there fails this check. */
void run_in_child(void (*body)(void));

/* DBSS_TEST_SOAK, by which long checks multiply the number of their calls, or 1. */
long soak_factor(void);

void new_pipe(int ends[2]);

/* Calls `callback`, if not NULL, with each open descriptor. Returns their number. */
int for_each_descriptor(void (*callback)(int fd));

/* ---- The mock service ---- */

/* Injects a fault into the next requests for this report. `fault` holds the fields
 * of a JSON object. After a check no fault is left. */
void post_fault(const char *report, const char *fault, ...);

/* Injects one fault into a listener, before it reads any request. */
void post_listener_fault(const char *listener, const char *mode);

void remove_faults(void);

/* Adds a report of this size to the mock service. Returns its id. */
const char *add_report(long long size);

/* Adds an instance with so many reports of this size. Returns its id. */
const char *add_instance(int reports, long long size);

/* Makes the mock service accept this token too. */
void add_token(const char *token);

/* Waits until the mock service received a request for this report. */
void wait_for_request(const char *report);

#endif
