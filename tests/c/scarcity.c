/*
 * Little memory: in children that may have no more than they use already, and a
 * little, each call succeeds or says that there is too little; none ends the
 * process. See checks.h for how to run them.
 */

#define _GNU_SOURCE /* for RLIMIT_AS, which POSIX.1-2008 names and hides */

#include "calls.h"
#include "failing.h"

#include <stdio.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB 1024L

static const long spare[] = {0, 4 * KIB, 16 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB, 2048 * KIB, 4096 * KIB};
/* With this much every call succeeds. */
#define PLENTY (64 * 1024 * KIB)

static const char *scheme, *report, *instance;
/* Which request for memory fails; 0: none. */
static long failing;
static char *endpoint, *template_id, *directory;
static dbss_context *ctx, *at_address;

/* ---------------------------------------------------------------------------
 * The calls
 * ------------------------------------------------------------------------ */

static dbss_status new_one(void)
{
    dbss_config *config = NULL;
    dbss_status status = dbss_config_new(&config);
    if (status == DBSS_OK)
        status = dbss_config_set_endpoint(config, endpoint);
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
    dbss_context *other = ctx;
    dbss_status status = new_one();
    if (status == DBSS_OK)
        status = to_memory();
    dbss_context_free(ctx);
    ctx = other;
    return status;
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

static int starving;

/* A host that takes all the memory there is, in the midst of a call. */
static int32_t take_everything(void *user_data, const dbss_operation *operation)
{
    size_t size;
    (void)user_data;
    (void)operation;
    for (size = starving ? 1 << 20 : 0; size >= 8; size /= 2) {
        void *volatile *block;
        /* Linked, so that no compiler leaves it out. */
        static void *all;
        while ((block = malloc(size)) != NULL) {
            *block = all;
            all = (void *)block;
        }
    }
    return 0;
}

static dbss_status new_operation_here(dbss_operation **operation)
{
    dbss_status status = dbss_operation_new(operation);
    return status == DBSS_OK ? dbss_operation_set_progress(*operation, take_everything, NULL, NULL) : status;
}

static dbss_status download_under(dbss_operation *operation)
{
    dbss_buffer buffer = {NULL, 0};
    dbss_status status =
        dbss_report_download_to_memory(ctx, fact("project"), fact("instance"), report, NULL, operation, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status under_operation(void)
{
    dbss_operation *operation = NULL;
    dbss_status status = new_operation_here(&operation);
    if (status == DBSS_OK)
        status = download_under(operation);
    dbss_operation_free(operation);
    return status;
}

static dbss_status list(void)
{
    dbss_cursor *cursor = NULL;
    dbss_page *page = NULL;
    dbss_buffer json = {NULL, 0};
    dbss_operation *operation = NULL;
    dbss_status status = new_operation_here(&operation);
    if (status == DBSS_OK)
        status = dbss_reports_list(ctx, fact("project"), instance, NULL, 0, &cursor);
    do {
        dbss_page_free(page);
        page = NULL;
        if (status == DBSS_OK)
            status = dbss_cursor_next(cursor, operation, &page);
        if (page != NULL)
            status = dbss_page_json(page, &json);
        dbss_buffer_free(&json);
    } while (page != NULL);
    dbss_cursor_free(cursor);
    dbss_operation_free(operation);
    return status;
}

static dbss_status generate(void)
{
    char id[DBSS_ID_SIZE];
    dbss_report_spec *spec = NULL;
    dbss_operation *operation = NULL;
    dbss_status status = new_operation_here(&operation);
    if (status == DBSS_OK)
        status = dbss_report_spec_new(&spec);
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "template_id", template_id);
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "start_time", "2026-11-23 00:00:00");
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "end_time", "2026-11-24 00:00:00");
    if (status == DBSS_OK)
        status = dbss_report_generate(ctx, fact("project"), instance, spec, operation, id);
    dbss_report_spec_free(spec);
    dbss_operation_free(operation);
    return status;
}

/* At an address: where each worker looks up a name on a thread of its own, one
 * may start while the others take the last memory. The C library ends the process
 * then. */
static dbss_status mirror(void)
{
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = NULL;
    dbss_buffer json = {NULL, 0};
    dbss_operation *operation = NULL;
    char place[256];
    dbss_status status = new_operation_here(&operation);
    if (status == DBSS_OK)
        status = dbss_mirror_options_new(&options);
    snprintf(place, sizeof place, "%s/%ld-%ld", directory, (long)getpid(), failing);
    if (status == DBSS_OK)
        status = dbss_mirror_options_set(options, "instance", instance);
    if (status == DBSS_OK)
        status = dbss_reports_mirror(at_address, fact("project"), place, options, operation, &result);
    if (result != NULL && dbss_mirror_result_json(result, &json) != DBSS_OK && status == DBSS_OK)
        status = DBSS_ERR_OUT_OF_MEMORY;
    dbss_buffer_free(&json);
    dbss_mirror_result_free(result);
    dbss_mirror_options_free(options);
    dbss_operation_free(operation);
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

static int outcome_of_child(long more, int how, int starves)
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
        starving = starves;
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
        /* A mirror goes on without the reports for which there is no thread. */
        if (status == DBSS_ERR_OUT_OF_MEMORY || status == DBSS_ERR_RESOURCE || status == DBSS_ERR_PARTIAL)
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
        outcome = outcome_of_child(spare[i], how, 0);
        if (outcome != SUCCESS && outcome != NO_MEMORY)
            failed("%s, %s, way %d, with %ld KiB to spare: %s %d", what, scheme, how, spare[i] / KIB,
                   outcome < 0 ? "ended by signal" : "exit", abs(outcome));
    }
    /* Or the check would prove nothing. */
    outcome = outcome_of_child(PLENTY, how, 0);
    if (outcome != SUCCESS)
        failed("%s, %s, way %d, with plenty: exit %d", what, scheme, how, outcome);
}

/* The scheme at an address, for which no thread looks up a name. */
static char *address_of(const char *where)
{
    return format("%s://127.0.0.1%s", where, strrchr(fact(where), ':'));
}

static void begin_at(const char *where, char *at, int reports)
{
    dbss_cursor *cursor;
    dbss_page *page = NULL;
    char *body;
    scheme = where;
    endpoint = at;
    report = add_report(3000000);
    body = format("instance-%s", fresh_id());
    instance = body;
    body = format("{\"id\": \"%s\", \"name\": \"for a check\"}", instance);
    free(control("POST", "/instances", body));
    free(body);
    body = format("{\"instance\": \"%s\", \"format\": \"pdf\", \"count\": %d, \"size\": 20000}", instance, reports);
    free(control("POST", "/reports", body));
    free(body);
    free(control("POST", "/generation", "{\"percent_per_list\": 100}"));
    directory = new_directory();
    if (new_one() != DBSS_OK)
        fatal("no context");
    body = address_of(scheme);
    at_address = new_context(body);
    free(body);
    EXPECT(DBSS_OK, dbss_templates_list(ctx, fact("project"), instance, &cursor));
    EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
    template_id = format("%s", dbss_page_field(page, 0, "id"));
    dbss_page_free(page);
    dbss_cursor_free(cursor);
}

static void begin(const char *where)
{
    begin_at(where, format("%s", fact(where)), 300);
}

static void end(void)
{
    char *command = format("rm -rf '%s'", directory);
    dbss_context_free(ctx);
    dbss_context_free(at_address);
    CHECK(system(command) == 0);
    free(command);
    free(directory);
    free(template_id);
    free(endpoint);
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
    end();
}

static void plain(void)
{
    every_call("http");
}

static void tls(void)
{
    every_call("https");
}

/* The memory goes while a call is under way. */
static void starved(void)
{
    static const char *const schemes[] = {"http", "https"};
    static dbss_status (*const calls[])(void) = {under_operation, list, generate, mirror};
    size_t i, j;
    for (i = 0; i < 2; i++) {
        begin(schemes[i]);
        for (j = 0; j < sizeof calls / sizeof *calls; j++) {
            int how;
            call = calls[j];
            for (how = HERE; how <= ON_A_THREAD; how++) {
                int outcome = outcome_of_child(PLENTY, how, 1);
                if (outcome != NO_MEMORY)
                    failed("call %d, %s, way %d: %d", (int)j, scheme, how, outcome);
            }
        }
        end();
    }
}

static void certificates(void)
{
    begin("http");
    expect_no_death("certificates of the system", HERE, new_of_region);
    end();
}

/* ---------------------------------------------------------------------------
 * Each request for memory that fails
 * ------------------------------------------------------------------------ */

/* Whether each one fails in turn, and not every so many. */
#define ALL_OF_THEM "DBSS_TEST_EACH_ALLOCATION"

/* Makes the call again and again, each time with another request that fails, until
 * there are no more requests; what the child ends with. */
static int fail_in_turn(dbss_status (*made)(void), long step, volatile long *at)
{
    /* What is made once, and kept. */
    enum { WARM = 3, KEPT = 200, KEPT_DESCRIPTORS = 4 };
    long blocks, descriptors, i;
    for (i = 0; i < WARM; i++)
        if (made() != DBSS_OK)
            return 2;
    blocks = count_blocks();
    descriptors = each_descriptor(NULL);
    for (failing = 1;; failing += failing < 20 ? 1 : step) {
        dbss_status status;
        int has_failed;
        *at = failing;
        fail_request(failing);
        status = made();
        has_failed = has_failed_request();
        fail_request(0);
        if (!has_failed)
            break;
        if (status != DBSS_OK && status != DBSS_ERR_OUT_OF_MEMORY && status != DBSS_ERR_RESOURCE && status != DBSS_ERR_PARTIAL) {
            fprintf(stderr, "status %d: %s\n", (int)status, dbss_error_message(dbss_last_error()));
            return 3;
        }
        if (status != DBSS_OK && made() != DBSS_OK) {
            fprintf(stderr, "afterwards: %s\n", dbss_error_message(dbss_last_error()));
            return 4;
        }
    }
    blocks = count_blocks() - blocks;
    descriptors = each_descriptor(NULL) - descriptors;
    if (failing < 20 || blocks > KEPT || descriptors > KEPT_DESCRIPTORS) {
        fprintf(stderr, "%ld requests, %ld more blocks, %ld more descriptors\n", failing, blocks, descriptors);
        return 5;
    }
    return 0;
}

static void each_request(void)
{
    static const struct {
        const char *what;
        long step;
        dbss_status (*call)(void);
    } calls[] = {
        {"context and download", 1, all_anew},
        {"download to memory", 1, to_memory},
        {"download to a directory", 3, to_directory},
        {"download to a function", 3, to_callback},
        {"download under an operation", 3, under_operation},
        {"list", 17, list},
        {"generate", 97, generate},
        {"mirror", 397, mirror},
        {"missing", 1, missing},
    };
    static const char *const schemes[] = {"http", "https"};
    volatile long *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int all = getenv(ALL_OF_THEM) != NULL;
    size_t i, j;
    if (!can_fail_requests()) {
        skip("malloc() cannot be replaced here");
        return;
    }
    if (at == MAP_FAILED)
        fatal("no memory");
    for (i = 0; i < 2; i++) {
        begin_at(schemes[i], address_of(schemes[i]), 5);
        for (j = 0; j < sizeof calls / sizeof *calls; j++) {
            int status;
            pid_t child;
            fflush(stdout);
            child = fork();
            if (child == 0)
                _exit(fail_in_turn(calls[j].call, all ? 1 : calls[j].step, at));
            while (waitpid(child, &status, 0) < 0)
                ;
            if (status != 0)
                failed("%s, %s, request %ld: %s %d", calls[j].what, schemes[i], *at, WIFSIGNALED(status) ? "signal" : "exit",
                       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            else if (all)
                printf("%s, %s: %ld requests\n", calls[j].what, schemes[i], *at);
        }
        end();
    }
}

/* ---------------------------------------------------------------------------
 * Copies
 * ------------------------------------------------------------------------ */

static dbss_log_record *kept;

static void keep_record(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    if (kept == NULL)
        kept = dbss_log_record_copy(record);
}

/* What a child ends with that asks for copies until there is none: 0 if it got
 * some while there was memory, NULL afterwards, and one again when others were
 * freed. */
static int outcome_of_copies(int starves)
{
    enum { MOST = 100000 };
    static dbss_error *errors[MOST];
    static dbss_log_record *records[MOST];
    dbss_config *config = new_config(fact("http"), fact("token"));
    dbss_operation *operation = NULL;
    dbss_buffer buffer;
    struct rlimit limit;
    int number = 0, got, failures = 0;

    if (dbss_config_set_log(config, keep_record, NULL, NULL) != DBSS_OK || dbss_operation_new(&operation) != DBSS_OK)
        return 2;
    ctx = to_context(config);
    if (dbss_report_download_to_memory(ctx, fact("project"), fact("instance"), "0123456789abcdef", NULL, operation, &buffer) !=
            DBSS_ERR_NOT_FOUND ||
        kept == NULL || getrlimit(RLIMIT_AS, &limit) != 0)
        return 3;
    limit.rlim_cur = (rlim_t)(in_use() + 256 * KIB);
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return 4;
    starving = starves;
    take_everything(NULL, NULL);
    /* A few times more than until the first NULL. */
    while (number < MOST && failures < 1000) {
        errors[number] = dbss_operation_error(operation);
        records[number] = dbss_log_record_copy(kept);
        failures += errors[number] == NULL || records[number] == NULL;
        number++;
    }
    got = number - failures;
    if (failures < 1000 || (starves ? got > 0 : got < 10))
        return 5;
    while (number-- > 0) {
        dbss_error_free(errors[number]);
        dbss_log_record_free(records[number]);
    }
    return starves || (dbss_operation_error(operation) != NULL && dbss_log_record_copy(kept) != NULL) ? 0 : 6;
}

/* Getters that give copies give NULL where there is no memory. */
static void copies(void)
{
    int starves;
    for (starves = 0; starves < 2; starves++) {
        pid_t child;
        fflush(stdout);
        child = fork();
        if (child == 0)
            _exit(outcome_of_copies(starves));
        CHECK(wait_for_child(child) == 0);
    }
}

/* What a child ends with that keeps the errors of many calls without memory. */
static int outcome_of_kept_errors(void)
{
    enum { MANY = 3000 };
    static dbss_operation *operations[MANY];
    static dbss_error *errors[MANY];
    int i;

    for (i = 0; i < MANY; i++)
        if (dbss_operation_new(&operations[i]) != DBSS_OK)
            return 2;
    if (download_under(operations[0]) != DBSS_OK)
        return 3;
    fail_requests_from(1);
    for (i = 0; i < MANY; i++) {
        if (download_under(operations[i]) != DBSS_ERR_OUT_OF_MEMORY)
            return 4;
        errors[i] = dbss_error_take();
        if (errors[i] == NULL || dbss_error_status(errors[i]) != DBSS_ERR_OUT_OF_MEMORY || *dbss_error_message(errors[i]) == 0)
            return 5;
    }
    fail_requests_from(0);
    if (download_under(operations[0]) != DBSS_OK)
        return 6;
    for (i = 0; i < MANY; i++) {
        dbss_error_free(errors[i]);
        dbss_operation_free(operations[i]);
    }
    return 0;
}

/* Whoever keeps each error keeps nothing else from the calls that follow. */
static void kept_errors(void)
{
    pid_t child;
    if (!can_fail_requests()) {
        skip("malloc() cannot be replaced here");
        return;
    }
    begin("http");
    fflush(stdout);
    child = fork();
    if (child == 0)
        _exit(outcome_of_kept_errors());
    CHECK(wait_for_child(child) == 0);
    end();
}

/* How much memory a child needs at most for a call, beyond what it has. */
static long needed_kib(dbss_status expected)
{
    int ends[2];
    long needed = -1;
    pid_t child = -1;
    if (pipe(ends) != 0 || (child = fork()) < 0)
        fatal("no child");
    if (child == 0) {
        FILE *file = fopen("/proc/self/clear_refs", "w");
        dbss_status status;
        if (file == NULL || fputs("5", file) < 0 || fclose(file) != 0)
            fatal("no /proc/self/clear_refs");
#ifdef __GLIBC__
        /* What this program has freed is none of the call's. */
        malloc_trim(0);
#endif
        needed = process_number("VmRSS");
        status = call();
        if (status != expected)
            fprintf(stderr, "status %d: %s\n", (int)status, dbss_error_message(dbss_last_error()));
        needed = status == expected ? process_number("VmHWM") - needed : -1;
        _exit(write(ends[1], &needed, sizeof needed) != sizeof needed);
    }
    close(ends[1]);
    if (read(ends[0], &needed, sizeof needed) != sizeof needed)
        needed = -1;
    close(ends[0]);
    wait_for_child(child);
    return needed;
}

/* A body of about this size, which repeats a text between two others, for a
 * request for `place`. */
static void serve(const char *place, int status, size_t size, const char *open, const char *part, const char *close)
{
    size_t len = strlen(part), served = len, i;
    char *body = malloc(2 * size + 1024), *at = body;
    if (body == NULL)
        fatal("no memory");
    at += sprintf(at, "{\"report\": \"%s\", \"times\": 1, \"status\": %d, \"body\": \"%s", place, status, open);
    for (i = 0; i < len; i++)
        served -= part[i] == '\\';
    for (; size > served; size -= served, at += len)
        memcpy(at, part, len);
    sprintf(at, "%s\"}", close);
    free(control("POST", "/faults", body));
    free(body);
}

/* A body costs no more than four times its size, whatever it holds. */
static void amounts(void)
{
#define Q "\\\""
    static const char list_open[] = "{" Q "items" Q ":[{" Q "report" Q ":{" Q "id" Q ":" Q "a" Q "}}", list_close[] = "]}";
    static const struct {
        const char *what;
        const char *open, *part, *close;
        dbss_status expected;
    } bodies[] = {
        {"tiny items", list_open, ",{" Q "report" Q ":{" Q "id" Q ":" Q "a" Q "}}", list_close, DBSS_ERR_UNEXPECTED_RESPONSE},
        {"numbers", "{" Q "items" Q ":[1", ",1", "]}", DBSS_ERR_UNEXPECTED_RESPONSE},
        {"a deep item", "{" Q "items" Q ":[{" Q "report" Q ":{" Q "id" Q ":" Q "a" Q "," Q "x" Q ":", "[", "", DBSS_ERR_UNEXPECTED_RESPONSE},
        {"an item of many fields", "{" Q "items" Q ":[{" Q "report" Q ":{" Q "id" Q ":" Q "a" Q, "," Q "a" Q ":" Q Q, "}}]," Q "total" Q ":1}", DBSS_OK},
        {"an error in errors", "", "{" Q "error" Q ":", "", DBSS_ERR_UNEXPECTED_RESPONSE},
        {"arrays in errors", "", "{" Q "details" Q ":[[],{}]," Q "x" Q ":[0,0]," Q "error" Q ":", "", DBSS_ERR_UNEXPECTED_RESPONSE},
        {"details", "{" Q "details" Q ":[0", ",0", "]}", DBSS_ERR_UNEXPECTED_RESPONSE},
    };
#undef Q
    /* What the mock service takes, with the escapes. */
    enum { SIZE = 10 * 1024 * 1024 };
    size_t i;
    long needed;
    begin("http");
    call = list;
    for (i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        serve("@reports.list", 200, SIZE, bodies[i].open, bodies[i].part, bodies[i].close);
        needed = needed_kib(bodies[i].expected);
        printf("amount %-24s %6ld KiB\n", bodies[i].what, needed);
        /* And a megabyte for the connection. */
        if (needed < 0 || needed > 4 * SIZE / KIB + 1024)
            failed("%s: %ld KiB", bodies[i].what, needed);
    }
    end();
}

/* A download of a report whose answer is a hostile server's. */
static const char *hostile_report;

static dbss_status hostile_download(void)
{
    dbss_buffer buffer = {NULL, 0};
    dbss_operation *operation = NULL;
    dbss_status status = new_operation_here(&operation);
    if (status == DBSS_OK)
        status = dbss_report_download_to_memory(ctx, fact("project"), fact("instance"), hostile_report, NULL, operation, &buffer);
    dbss_buffer_free(&buffer);
    dbss_operation_free(operation);
    return status == DBSS_ERR_OUT_OF_MEMORY || status == DBSS_ERR_RESOURCE ? status : DBSS_OK;
}

/* An answer of so many parts, each a format for its number and `size` letters. */
static char *repeated(const char *part, int count, size_t size)
{
    char *letters = malloc(size + 1), *all, *at;
    int i;
    all = at = malloc((size_t)count * (strlen(part) + size + 16) + 1);
    if (letters == NULL || all == NULL)
        fatal("no memory");
    memset(letters, 'a', size);
    letters[size] = 0;
    *at = 0;
    for (i = 0; i < count; i++)
        at += sprintf(at, part, i, letters);
    free(letters);
    return all;
}

/* What a child ends with that makes the call again and again, each time with no
 * memory from one request on. */
static int outcome_of_end_of_memory(volatile long *at)
{
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child < 0)
        fatal("no child");
    if (child == 0) {
        int has_failed = 1;
        if (call() != DBSS_OK)
            _exit(ELSE);
        for (*at = 1; has_failed; ++*at) {
            fail_requests_from(*at);
            call();
            has_failed = has_failed_request();
            fail_request(0);
        }
        _exit(SUCCESS);
    }
    return wait_for_child(child);
}

/* Whatever a server makes long in an answer, little memory ends no process. */
static void hostile(void)
{
#define Q "\\\""
    static const long rooms[] = {0, 64 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB};
    static const struct {
        const char *what;
        int status;
        const char *header;
        int headers;
        size_t header_size;
        const char *open, *part, *close;
        int parts;
        size_t part_size;
    } answers[] = {
        {"many fields", 200, "[\"X-%d\", \"%s\"],", 60, 4000, "%PDF-1.7", "", "", 0, 0},
        {"many ETags", 200, "[\"ETag\", \"%d%s\"],", 60, 4000, "%PDF-1.7", "", "", 0, 0},
        {"X-Request-Id of 60 KB", 400, "[\"X-Request-Id\", \"%.0d%s\"],", 1, 60000, "{}", "", "", 0, 0},
        {"ETag", 200, "[\"ETag\", \"%.0d\\\"%s\\\"\"],", 1, 100000, "%PDF-1.7", "", "", 0, 0},
        {"Content-Disposition", 200, "[\"Content-Disposition\", \"attachment%.0d; filename=%s\"],", 1, 100000, "%PDF-1.7", "", "", 0, 0},
        {"Content-Encoding", 200, "[\"Content-Encoding\", \"%.0d%s\"],", 1, 100000, "%PDF-1.7", "", "", 0, 0},
        {"X-Request-Id", 400, "[\"X-Request-Id\", \"%.0d%s\"],", 1, 100000, "{}", "", "", 0, 0},
        {"Location", 302, "[\"Location\", \"/%.0d%s\"],", 1, 60000, "", "", "", 0, 0},
        {"details", 400, "", 0, 0, "{" Q "error_code" Q ":" Q "X" Q "," Q "details" Q ":[{}",
         ",{" Q "error_code" Q ":" Q "%d" Q "," Q "error_msg" Q ":" Q "%s" Q "}", "]}", 64, 800},
        {"error_msg", 400, "", 0, 0, "{" Q "error_msg" Q ":" Q, "%.0d%s%%", Q "}", 1, 60000},
        {"text with a blank", 400, "", 0, 0, "", "%.0d%s %%", "", 1, 60000},
    };
#undef Q
    volatile long *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    size_t i, j;
    if (at == MAP_FAILED)
        fatal("no memory");
    /* Where no name is looked up, on a thread of its own. */
    begin_at("http", address_of("http"), 1);
    call = hostile_download;
    for (i = 0; i < sizeof answers / sizeof *answers; i++) {
        char *headers, *parts, *fault;
        int outcome;
        hostile_report = add_report(10000);
        headers = answers[i].headers > 0 ? repeated(answers[i].header, answers[i].headers, answers[i].header_size) : format("%s", "");
        if (*headers != 0)
            headers[strlen(headers) - 1] = 0;
        parts = answers[i].parts > 0 ? repeated(answers[i].part, answers[i].parts, answers[i].part_size) : format("%s", "");
        fault = format("{\"report\": \"%s\", \"times\": 1000, \"status\": %d, \"headers\": [%s], \"body\": \"%s%s%s\"}", hostile_report,
                       answers[i].status, headers, answers[i].open, parts, answers[i].close);
        free(control("POST", "/faults", fault));
        for (j = 0; j < sizeof rooms / sizeof *rooms; j++) {
            /* The connection has its memory already, or not. */
            int how;
            for (how = HERE; how <= ON_A_THREAD; how++) {
                outcome = outcome_of_child(rooms[j], how, 0);
                if (outcome != SUCCESS && outcome != NO_MEMORY)
                    failed("%s, way %d, %ld KiB to spare: %d", answers[i].what, how, rooms[j] / KIB, outcome);
            }
        }
        if (can_fail_requests()) {
            outcome = outcome_of_end_of_memory(at);
            if (outcome != SUCCESS)
                failed("%s, no memory from request %ld on: %d", answers[i].what, *at, outcome);
        }
        outcome = outcome_of_child(PLENTY, AGAIN, 0);
        if (outcome != SUCCESS)
            failed("%s, with plenty: %d", answers[i].what, outcome);
        free(headers);
        free(parts);
        free(fault);
    }
    end();
}

static const struct check checks[] = {
    {"plain", plain, LOAD},
    {"tls", tls, LOAD},
    {"starved", starved, LOAD},
    {"certificates", certificates, LOAD},
    {"copies", copies, LOAD},
    {"kept_errors", kept_errors, LOAD},
    {"each_request", each_request, LOAD},
    {"amounts", amounts, LOAD},
    {"hostile", hostile, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
