/*
 * What the programs of named checks share: saying that a check failed, the
 * mock service's misbehaviour and request_log, children, and the program itself.
 *
 *     PROGRAM --list           names the checks, each with its kind
 *     PROGRAM FACTS [NAME...]  runs some or all of them against the mock service
 *
 * It prints a line for each: "ok NAME", "FAIL NAME: why", or "skip NAME: why"
 * where this machine cannot do what the check needs.
 */

#ifndef CHECKS_H
#define CHECKS_H

#include "support.h"

#include <pthread.h>
#include <sys/types.h>

/* No wait in the checks is longer. */
#define PATIENCE_MS 20000

/* ---------------------------------------------------------------------------
 * Saying that a check failed
 * ------------------------------------------------------------------------ */

/* Keeps the first failure of a check; threads may call it. */
void failed(const char *text, ...);

/* Whether the present check has failed. */
int has_failed(void);

/* Adds to the first failure, once, what was being done. */
void blame(const char *text, ...);

/* The present check cannot be made here. */
void skip(const char *text, ...);

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            failed("line %d: %s", __LINE__, #condition); \
    } while (0)

/* Compares a status, and shows the message where it is another. */
#define EXPECT(expected, call) expect(__LINE__, expected, call)

dbss_status expect(int line, dbss_status expected, dbss_status actual);

/* A failure of group ARGUMENT that names the parameter. */
#define EXPECT_PARAMETER(expected, name, call) \
    do { \
        EXPECT(expected, call); \
        expect_text(__LINE__, name, dbss_error_parameter(dbss_last_error())); \
    } while (0)

#define EXPECT_NULL(name, call) EXPECT_PARAMETER(DBSS_ERR_NULL_ARGUMENT, name, call)

void expect_text(int line, const char *expected, const char *actual);

/* ---------------------------------------------------------------------------
 * Time, threads, children, descriptors
 * ------------------------------------------------------------------------ */

long long now_ms(void);

/* A number in /proc/self/status, such as "VmRSS" (in KiB) or "Threads". */
long process_number(const char *name);

/* The pause between two looks at a condition that is waited for. */
void pause_briefly(void);

/* Looks until the condition holds, with an end; fails the check then. */
#define WAIT_FOR(condition) \
    do { \
        long long until_ = now_ms() + PATIENCE_MS; \
        while (!(condition)) { \
            if (now_ms() > until_) { \
                failed("line %d: waited in vain for: %s", __LINE__, #condition); \
                break; \
            } \
            pause_briefly(); \
        } \
    } while (0)

/* Guards what several threads of a check use. */
extern pthread_mutex_t lock;

int read_locked(const int *number);
void add_locked(int *number, int more);

pthread_t start_thread(void *(*body)(void *), void *argument);

/* Runs it in another thread, to its end. */
void in_thread(void *(*body)(void *), void *argument);

/* Waits for a child, as long as is reasonable; its exit code, or -signal. */
int wait_for_child(pid_t child);

/* Runs `body` in a child process, which passes on what failed there. */
void in_child(void (*body)(void));

/* Calls `look` with each descriptor that is open now; how many there are. */
int each_descriptor(void (*look)(int fd));

/* ---------------------------------------------------------------------------
 * Configurations and contexts
 * ------------------------------------------------------------------------ */

/* With one attempt for each call, so that a check sees what one attempt does,
 * and when. */
dbss_config *new_config(const char *endpoint, const char *token);

void set(dbss_config *config, const char *key, const char *value);

/* Makes a context and frees the configuration. */
dbss_context *to_context(dbss_config *config);

dbss_context *new_context(const char *endpoint);

/* ---------------------------------------------------------------------------
 * The mock service
 * ------------------------------------------------------------------------ */

/* The mock service misbehaves at the next requests for this report; `fault` is the
 * inside of a JSON object. */
void post_fault(const char *report, const char *fault, ...);

/* A listener that misbehaves once before any request is read. */
void post_listener_fault(const char *listener, const char *mode);

/* The mock service serves a report of so many bytes from now on. */
const char *add_report(long long size);

/* The mock service accepts this token too from now on. */
void add_token(const char *token);

/* Waits until the mock service has a request for this report. */
int wait_for_request(const char *report);

/* ------------------------------------------------------------------------ */

enum kind {
    PLAIN,
    /* With TLS, whose cryptography is assembly that valgrind cannot follow. */
    TLS,
    /* Nothing for valgrind: heavy, limits or searches memory, measures short
     * times, or forks with a context, which a child abandons and valgrind takes
     * for a leak. */
    LOAD
};

struct check {
    const char *name;
    void (*run)(void);
    enum kind kind;
};

/* The main function of a program of checks. */
int run_checks(int argc, char **argv, const struct check *checks, size_t count);

#endif
