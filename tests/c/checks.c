#define _POSIX_C_SOURCE 200809L

#include "checks.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------
 * Failures
 * ------------------------------------------------------------------------ */

static pthread_mutex_t failure_lock = PTHREAD_MUTEX_INITIALIZER;
static char failure[1024];
static int has_failure_context;
static char skip_reason[256];

void fail_check(const char *text, ...)
{
    va_list arguments;
    pthread_mutex_lock(&failure_lock);
    if (*failure == '\0') {
        va_start(arguments, text);
        vsnprintf(failure, sizeof failure, text, arguments);
        va_end(arguments);
    }
    pthread_mutex_unlock(&failure_lock);
}

int has_failed(void)
{
    int result;
    pthread_mutex_lock(&failure_lock);
    result = *failure != '\0';
    pthread_mutex_unlock(&failure_lock);
    return result;
}

void add_failure_context(const char *text, ...)
{
    va_list arguments;
    size_t len;
    pthread_mutex_lock(&failure_lock);
    len = strlen(failure);
    if (len > 0 && !has_failure_context) {
        has_failure_context = 1;
        len += (size_t)snprintf(failure + len, sizeof failure - len, " [");
        va_start(arguments, text);
        if (len < sizeof failure)
            vsnprintf(failure + len, sizeof failure - len, text, arguments);
        va_end(arguments);
        len = strlen(failure);
        snprintf(failure + len, sizeof failure - len, "]");
    }
    pthread_mutex_unlock(&failure_lock);
}

void skip_check(const char *text, ...)
{
    va_list arguments;
    va_start(arguments, text);
    vsnprintf(skip_reason, sizeof skip_reason, text, arguments);
    va_end(arguments);
}

dbss_status expect(int line, dbss_status expected, dbss_status actual)
{
    const dbss_error *error = dbss_last_error();
    if (actual != expected)
        fail_check("line %d: expected %s, got %s (%s)", line, dbss_status_name(expected), dbss_status_name(actual),
                   dbss_error_message(error));
    if (dbss_error_status(error) != actual)
        fail_check("line %d: the call returned %s, but its error has %s", line, dbss_status_name(actual),
                   dbss_status_name(dbss_error_status(error)));
    return actual;
}

void expect_text(int line, const char *expected, const char *actual)
{
    if (actual == NULL || strcmp(expected, actual) != 0)
        fail_check("line %d: expected \"%s\", got \"%s\"", line, expected, actual != NULL ? actual : "NULL");
}

/* ---------------------------------------------------------------------------
 * Time, threads, children, descriptors
 * ------------------------------------------------------------------------ */

long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

long proc_status_value(const char *name)
{
    char line[256];
    size_t len = strlen(name);
    long value = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, len) == 0 && line[len] == ':')
            value = strtol(line + len + 1, NULL, 10);
    if (file == NULL || value < 0)
        fatal("no %s in /proc/self/status", name);
    fclose(file);
    return value;
}

void pause_briefly(void)
{
    struct timespec pause = {0, 2000000};
    nanosleep(&pause, NULL);
}

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int read_locked(const int *number)
{
    int value;
    pthread_mutex_lock(&lock);
    value = *number;
    pthread_mutex_unlock(&lock);
    return value;
}

void add_locked(int *number, int more)
{
    pthread_mutex_lock(&lock);
    *number += more;
    pthread_mutex_unlock(&lock);
}

pthread_t start_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, argument) != 0)
        fatal("cannot create a thread");
    return thread;
}

void run_in_thread(void *(*body)(void *), void *argument)
{
    pthread_join(start_thread(body, argument), NULL);
}

pid_t start_child(int (*body)(void *argument), void *argument)
{
    pid_t child;
    /* Otherwise the child would print the buffered output again. */
    fflush(stdout);
    child = fork();
    if (child < 0)
        fatal("cannot create a child process: %s", strerror(errno));
    if (child == 0)
        _exit(body(argument));
    return child;
}

static int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int wait_for_child(pid_t child)
{
    long long until = now_ms() + WAIT_LIMIT_MS;
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (now_ms() > until) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            break;
        }
        pause_briefly();
    }
    return exit_code(status);
}

int wait_for_long_child(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            fatal("cannot wait for a child: %s", strerror(errno));
    return exit_code(status);
}

int run_child(int (*body)(void *argument), void *argument)
{
    return wait_for_child(start_child(body, argument));
}

struct child_body {
    void (*body)(void);
    int fd;
};

static int run_and_report(void *argument)
{
    const struct child_body *child = argument;
    ssize_t n;
    child->body();
    n = write(child->fd, failure, strlen(failure));
    return n < 0 || *failure != '\0';
}

void run_in_child(void (*body)(void))
{
    struct child_body child_body = {body, -1};
    int pipe_ends[2], code;
    char text[sizeof failure];
    ssize_t n;
    pid_t child;

    if (pipe(pipe_ends) != 0)
        fatal("cannot create a pipe: %s", strerror(errno));
    child_body.fd = pipe_ends[1];
    child = start_child(run_and_report, &child_body);
    close(pipe_ends[1]);
    code = wait_for_child(child);
    n = read(pipe_ends[0], text, sizeof text - 1);
    close(pipe_ends[0]);
    text[n > 0 ? n : 0] = '\0';
    if (*text != '\0')
        fail_check("in the child: %s", text);
    else if (code != 0)
        fail_check("the child ended with %d", code);
}

int for_each_descriptor(void (*callback)(int fd))
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;
    if (directory == NULL)
        fatal("cannot read /proc/self/fd");
    while ((entry = readdir(directory)) != NULL) {
        int fd = atoi(entry->d_name);
        if (*entry->d_name == '.' || fd == dirfd(directory))
            continue;
        count++;
        if (callback != NULL)
            callback(fd);
    }
    closedir(directory);
    return count;
}

/* ---------------------------------------------------------------------------
 * Configurations and contexts
 * ------------------------------------------------------------------------ */

dbss_config *new_config(const char *endpoint, const char *token)
{
    dbss_config *config;
    if (dbss_config_new(&config) != DBSS_OK || dbss_config_set_endpoint(config, endpoint) != DBSS_OK
        || dbss_config_set(config, "ca_file", fixture("ca_file")) != DBSS_OK
        || dbss_config_set(config, "max_attempts", "1") != DBSS_OK || dbss_config_set_token(config, token) != DBSS_OK)
        fatal("cannot create a configuration: %s", dbss_error_message(dbss_last_error()));
    return config;
}

void set_option(dbss_config *config, const char *key, const char *value)
{
    if (dbss_config_set(config, key, value) != DBSS_OK)
        fatal("%s", dbss_error_message(dbss_last_error()));
}

dbss_context *context_from(dbss_config *config)
{
    dbss_context *ctx;
    if (dbss_context_new(config, &ctx) != DBSS_OK)
        fatal("cannot create a context: %s", dbss_error_message(dbss_last_error()));
    dbss_config_free(config);
    return ctx;
}

dbss_context *new_context(const char *endpoint)
{
    return context_from(new_config(endpoint, fixture("token")));
}

/* ---------------------------------------------------------------------------
 * The mock service
 * ------------------------------------------------------------------------ */

void post_fault(const char *report, const char *fault, ...)
{
    va_list arguments;
    char fields[4096];

    va_start(arguments, fault);
    if (vsnprintf(fields, sizeof fields, fault, arguments) >= (int)sizeof fields)
        fatal("the fault is too long: %s", fault);
    va_end(arguments);
    post_control("/faults", "{\"report\": \"%s\", %s}", report, fields);
}

void post_listener_fault(const char *listener, const char *mode)
{
    post_control("/listener_faults", "{\"listener\": \"%s\", \"mode\": \"%s\", \"times\": 1}", listener, mode);
}

const char *add_report(long long size)
{
    const char *id = fresh_id();
    post_control("/reports", "{\"id\": \"%s\", \"format\": \"pdf\", \"size\": %lld}", id, size);
    return id;
}

char *add_instance(void)
{
    char *id = format("instance-%s", fresh_id());
    post_control("/instances", "{\"id\": \"%s\", \"name\": \"for a check\"}", id);
    return id;
}

void add_token(const char *token)
{
    char *body = format("{\"token\": \"%s\"}", token);
    free(control("POST", "/tokens", body));
    wipe(body, strlen(body));
    free(body);
}

int wait_for_request(const char *report)
{
    long long until = now_ms() + WAIT_LIMIT_MS;
    while (count_requests(report) == 0) {
        if (now_ms() > until)
            return 0;
        pause_briefly();
    }
    return 1;
}

/* ------------------------------------------------------------------------ */

int run_checks(int argc, char **argv, const struct check *checks, size_t count)
{
    static const char *const kinds[] = {"plain", "tls", "load"};
    int passed = 0, failures = 0, skipped = 0, i;
    size_t j;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (j = 0; j < count; j++)
            printf("%s %s\n", checks[j].name, kinds[checks[j].kind]);
        return 0;
    }
    if (argc < 2)
        fatal("usage: %s --list, or %s FIXTURES [NAME...]", argv[0], argv[0]);
    load_fixtures(argv[1]);
    for (j = 0; j < count; j++) {
        int is_selected = argc == 2;
        for (i = 2; i < argc; i++)
            is_selected |= strcmp(argv[i], checks[j].name) == 0;
        if (!is_selected)
            continue;
        *failure = '\0';
        has_failure_context = 0;
        *skip_reason = '\0';
        checks[j].run();
        if (*failure != '\0') {
            printf("FAIL %s: %s\n", checks[j].name, failure);
            failures++;
        } else if (*skip_reason != '\0') {
            printf("skip %s: %s\n", checks[j].name, skip_reason);
            skipped++;
        } else {
            printf("ok %s\n", checks[j].name);
            passed++;
        }
    }
    printf("%d passed, %d failed\n", passed, failures);
    /* An unknown name is a failure. */
    return failures > 0 || passed + skipped == 0 || (argc > 2 && passed + skipped != argc - 2);
}
