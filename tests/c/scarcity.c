/*
 * Little memory: in children that may have no more than they use already, and a
 * little, each call succeeds or says that there is too little; none ends the
 * process. See checks.h for how to run them.
 */

#define _GNU_SOURCE /* for RLIMIT_AS, which POSIX.1-2008 names and hides */

#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB 1024L

static const long spare[] = {0, 4 * KIB, 16 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB, 2048 * KIB, 4096 * KIB};
/* With this much every call succeeds. */
#define PLENTY (64 * 1024 * KIB)

static const char *scheme, *report, *instance;
static char *template_id, *directory;
static dbss_context *ctx;

/* ---------------------------------------------------------------------------
 * The calls
 * ------------------------------------------------------------------------ */

static dbss_status new_one(void)
{
    dbss_config *config = NULL;
    dbss_status status = dbss_config_new(&config);
    if (status == DBSS_OK)
        status = dbss_config_set_endpoint(config, fact(scheme));
    if (status == DBSS_OK)
        status = dbss_config_set(config, "ca_file", fact("ca_file"));
    if (status == DBSS_OK)
        status = dbss_config_set_token(config, fact("token"));
    if (status == DBSS_OK)
        status = dbss_context_new(config, &ctx);
    dbss_config_free(config);
    return status;
}

/* With the system's certificates. */
static dbss_status new_of_region(void)
{
    dbss_config *config = NULL;
    dbss_context *other = NULL;
    dbss_status status = dbss_config_new(&config);
    if (status == DBSS_OK)
        status = dbss_config_set_region(config, "cn-north-4");
    if (status == DBSS_OK)
        status = dbss_config_set_token(config, fact("token"));
    if (status == DBSS_OK)
        status = dbss_context_new(config, &other);
    dbss_config_free(config);
    dbss_context_free(other);
    return status;
}

static dbss_status to_memory(void)
{
    dbss_buffer buffer = {NULL, 0};
    dbss_status status = dbss_report_download(ctx, fact("project"), fact("instance"), report, NULL, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status all_anew(void)
{
    dbss_status status = new_one();
    return status == DBSS_OK ? to_memory() : status;
}

static dbss_status to_directory(void)
{
    return dbss_report_download_to_directory(ctx, fact("project"), fact("instance"), report, NULL, directory, DBSS_FILE_REPLACE,
                                             NULL);
}

static int32_t take(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    return 0;
}

static dbss_status to_callback(void)
{
    return dbss_report_download_to_callback(ctx, fact("project"), fact("instance"), report, NULL, take, NULL, NULL);
}

static dbss_status under_operation(void)
{
    dbss_operation *operation = NULL;
    dbss_buffer buffer = {NULL, 0};
    dbss_status status = dbss_operation_new(&operation);
    if (status == DBSS_OK)
        status = dbss_report_download_to_memory(ctx, fact("project"), fact("instance"), report, NULL, operation, &buffer);
    dbss_buffer_free(&buffer);
    dbss_operation_free(operation);
    return status;
}

static dbss_status list(void)
{
    dbss_cursor *cursor = NULL;
    dbss_page *page = NULL;
    dbss_buffer json = {NULL, 0};
    dbss_status status = dbss_reports_list(ctx, fact("project"), instance, NULL, 0, &cursor);
    do {
        dbss_page_free(page);
        page = NULL;
        if (status == DBSS_OK)
            status = dbss_cursor_next(cursor, NULL, &page);
        if (page != NULL)
            status = dbss_page_json(page, &json);
        dbss_buffer_free(&json);
    } while (page != NULL);
    dbss_cursor_free(cursor);
    return status;
}

static dbss_status generate(void)
{
    char id[DBSS_ID_SIZE];
    dbss_report_spec *spec = NULL;
    dbss_status status = dbss_report_spec_new(&spec);
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "template_id", template_id);
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "start_time", "2026-11-23 00:00:00");
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "end_time", "2026-11-24 00:00:00");
    if (status == DBSS_OK)
        status = dbss_report_generate(ctx, fact("project"), instance, spec, NULL, id);
    dbss_report_spec_free(spec);
    return status;
}

static dbss_status mirror(void)
{
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = NULL;
    dbss_buffer json = {NULL, 0};
    char place[256];
    dbss_status status = dbss_mirror_options_new(&options);
    snprintf(place, sizeof place, "%s/%ld", directory, (long)getpid());
    if (status == DBSS_OK)
        status = dbss_mirror_options_set(options, "instance", instance);
    if (status == DBSS_OK)
        status = dbss_reports_mirror(ctx, fact("project"), place, options, NULL, &result);
    if (result != NULL && dbss_mirror_result_json(result, &json) != DBSS_OK && status == DBSS_OK)
        status = DBSS_ERR_OUT_OF_MEMORY;
    dbss_buffer_free(&json);
    dbss_mirror_result_free(result);
    dbss_mirror_options_free(options);
    return status;
}

/* An error in all its parts, of a report that there is not. */
static dbss_status missing(void)
{
    dbss_buffer buffer = {NULL, 0};
    dbss_status status = dbss_report_download(ctx, fact("project"), fact("instance"), "0123456789abcdef", NULL, &buffer);
    dbss_error *error = dbss_error_take();
    if (status == DBSS_ERR_NOT_FOUND)
        status = dbss_error_http_status(error) == 404 ? DBSS_OK : DBSS_ERR_INTERNAL;
    dbss_error_free(error);
    return status;
}

/* ---------------------------------------------------------------------------
 * Children
 * ------------------------------------------------------------------------ */

/* How much address space this process has taken. */
static long in_use(void)
{
    char line[128];
    FILE *file = fopen("/proc/self/statm", "r");
    long pages;
    if (file == NULL || fgets(line, sizeof line, file) == NULL || sscanf(line, "%ld", &pages) != 1)
        fatal("no /proc/self/statm");
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static dbss_status (*call)(void);
static dbss_status status_on_thread;

static void *make_call_here(void *unused)
{
    (void)unused;
    status_on_thread = call();
    return NULL;
}

enum { HERE, AGAIN, ON_A_THREAD };

/* What the child exits with: whether the call succeeded or had no memory. */
enum { SUCCESS = 0, NO_MEMORY = 1, ELSE = 2 };

static int outcome_of_child(long more, int how)
{
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child < 0)
        fatal("no child");
    if (child == 0) {
        struct rlimit limit;
        dbss_status status;
        long used;
        if (how == AGAIN && call() != DBSS_OK)
            _exit(ELSE);
        used = in_use();
        if (getrlimit(RLIMIT_AS, &limit) != 0)
            _exit(ELSE);
        limit.rlim_cur = (rlim_t)(used + more);
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            _exit(ELSE);
        if (how == ON_A_THREAD) {
            pthread_t thread;
            /* As the stack is a part of what may be had. */
            if (pthread_create(&thread, NULL, make_call_here, NULL) != 0)
                _exit(NO_MEMORY);
            pthread_join(thread, NULL);
            status = status_on_thread;
        } else {
            status = call();
        }
        if (status == DBSS_OK)
            _exit(SUCCESS);
        if (status == DBSS_ERR_OUT_OF_MEMORY || status == DBSS_ERR_RESOURCE)
            _exit(NO_MEMORY);
        fprintf(stderr, "status %d: %s\n", (int)status, dbss_error_message(dbss_last_error()));
        _exit(ELSE);
    }
    return wait_for_child(child);
}

/* The call with every limit; `what` it is. */
static void expect_no_death(const char *what, int how, dbss_status (*made)(void))
{
    size_t i;
    int outcome;
    call = made;
    for (i = 0; i < sizeof spare / sizeof *spare; i++) {
        outcome = outcome_of_child(spare[i], how);
        if (outcome != SUCCESS && outcome != NO_MEMORY)
            failed("%s, %s, way %d, with %ld KiB to spare: %s %d", what, scheme, how, spare[i] / KIB,
                   outcome < 0 ? "ended by signal" : "exit", abs(outcome));
    }
    /* Or the check would prove nothing. */
    outcome = outcome_of_child(PLENTY, how);
    if (outcome != SUCCESS)
        failed("%s, %s, way %d, with plenty: exit %d", what, scheme, how, outcome);
}

static void begin(const char *where)
{
    dbss_cursor *cursor;
    dbss_page *page = NULL;
    char *body;
    scheme = where;
    report = add_report(3000000);
    body = format("instance-%s", fresh_id());
    instance = body;
    body = format("{\"id\": \"%s\", \"name\": \"for a check\"}", instance);
    free(control("POST", "/instances", body));
    free(body);
    body = format("{\"instance\": \"%s\", \"format\": \"pdf\", \"count\": 300, \"size\": 20000}", instance);
    free(control("POST", "/reports", body));
    free(body);
    free(control("POST", "/generation", "{\"percent_per_list\": 100}"));
    directory = new_directory();
    if (new_one() != DBSS_OK)
        fatal("no context");
    EXPECT(DBSS_OK, dbss_templates_list(ctx, fact("project"), instance, &cursor));
    EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
    template_id = format("%s", dbss_page_field(page, 0, "id"));
    dbss_page_free(page);
    dbss_cursor_free(cursor);
}

static void every_call(const char *where)
{
    static const struct {
        const char *what;
        dbss_status (*call)(void);
    } calls[] = {
        {"context and download", all_anew},
        {"download to memory", to_memory},
        {"download to a directory", to_directory},
        {"download to a function", to_callback},
        {"download under an operation", under_operation},
        {"list", list},
        {"generate", generate},
        {"mirror", mirror},
        {"error", missing},
    };
    size_t i;
    int how;
    begin(where);
    for (i = 0; i < sizeof calls / sizeof *calls; i++)
        for (how = HERE; how <= ON_A_THREAD && !has_failed(); how++)
            expect_no_death(calls[i].what, how, calls[i].call);
    dbss_context_free(ctx);
}

static void plain(void)
{
    every_call("http");
}

static void tls(void)
{
    every_call("https");
}

static void certificates(void)
{
    begin("http");
    expect_no_death("certificates of the system", HERE, new_of_region);
    dbss_context_free(ctx);
}

static const struct check checks[] = {
    {"plain", plain, LOAD},
    {"tls", tls, LOAD},
    {"certificates", certificates, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
