/*
 * Low memory. In child processes with a memory limit, each call succeeds or reports
 * that there is too little memory. No call ends the process. See checks.h for how
 * to run the checks.
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
#include <unistd.h>

#define KIB 1024L

static const long spare_sizes[] = {0,         4 * KIB,   16 * KIB,   64 * KIB,   128 * KIB,
                                   256 * KIB, 512 * KIB, 1024 * KIB, 2048 * KIB, 4096 * KIB};
/* With this much memory every call succeeds. */
#define PLENTY (64 * 1024 * KIB)

static const char *scheme, *report, *instance;
/* The number of the allocation that fails. 0: none. */
static long failing_allocation;
static char *endpoint, *template_id, *directory;
static dbss_context *ctx, *context_at_address;

/* ---------------------------------------------------------------------------
 * The calls
 * ------------------------------------------------------------------------ */

static dbss_status create_context(void)
{
    dbss_config *config = NULL;
    dbss_status status = dbss_config_new(&config);
    if (status == DBSS_OK)
        status = dbss_config_set_endpoint(config, endpoint);
    if (status == DBSS_OK)
        status = dbss_config_set(config, "ca_file", fixture("ca_file"));
    if (status == DBSS_OK)
        status = dbss_config_set_token(config, fixture("token"));
    if (status == DBSS_OK)
        status = dbss_context_new(config, &ctx);
    dbss_config_free(config);
    return status;
}

/* Loads the system's certificates. */
static dbss_status create_regional_context(void)
{
    dbss_config *config = NULL;
    dbss_context *other = NULL;
    dbss_status status = dbss_config_new(&config);
    if (status == DBSS_OK)
        status = dbss_config_set_region(config, "cn-north-4");
    if (status == DBSS_OK)
        status = dbss_config_set_token(config, fixture("token"));
    if (status == DBSS_OK)
        status = dbss_context_new(config, &other);
    dbss_config_free(config);
    dbss_context_free(other);
    return status;
}

static dbss_status download_to_memory(void)
{
    dbss_buffer buffer = {NULL, 0};
    dbss_status status = dbss_report_download(ctx, fixture("project"), fixture("instance"), report, NULL, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status create_context_and_download(void)
{
    dbss_context *other = ctx;
    dbss_status status = create_context();
    if (status == DBSS_OK)
        status = download_to_memory();
    dbss_context_free(ctx);
    ctx = other;
    return status;
}

static dbss_status download_to_directory(void)
{
    return dbss_report_download_to_directory(ctx, fixture("project"), fixture("instance"), report, NULL, directory,
                                             DBSS_FILE_REPLACE, NULL);
}

static int32_t ignore_bytes(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    return 0;
}

static dbss_status download_to_callback(void)
{
    return dbss_report_download_to_callback(ctx, fixture("project"), fixture("instance"), report, NULL, ignore_bytes,
                                            NULL, NULL);
}

static int exhausts_memory;

/* Simulates a host that takes all memory during a call. */
static int32_t exhaust_memory(void *user_data, const dbss_operation *operation)
{
    size_t size;
    (void)user_data;
    (void)operation;
    for (size = exhausts_memory ? 1 << 20 : 0; size >= 8; size /= 2) {
        void *volatile *block;
        /* Linked, so that the compiler keeps the allocations. */
        static void *all;
        while ((block = malloc(size)) != NULL) {
            *block = all;
            all = (void *)block;
        }
    }
    return 0;
}

static dbss_status new_exhausting_operation(dbss_operation **operation)
{
    dbss_status status = dbss_operation_new(operation);
    return status == DBSS_OK ? dbss_operation_set_progress(*operation, exhaust_memory, NULL, NULL) : status;
}

static dbss_status download_to_memory_with(dbss_operation *operation)
{
    dbss_buffer buffer = {NULL, 0};
    dbss_status status =
        dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), report, NULL, operation, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status download_with_operation(void)
{
    dbss_operation *operation = NULL;
    dbss_status status = new_exhausting_operation(&operation);
    if (status == DBSS_OK)
        status = download_to_memory_with(operation);
    dbss_operation_free(operation);
    return status;
}

static dbss_status list(void)
{
    dbss_cursor *cursor = NULL;
    dbss_page *page = NULL;
    dbss_buffer json = {NULL, 0};
    dbss_operation *operation = NULL;
    dbss_status status = new_exhausting_operation(&operation);
    if (status == DBSS_OK)
        status = dbss_reports_list(ctx, fixture("project"), instance, NULL, 0, &cursor);
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
    dbss_status status = new_exhausting_operation(&operation);
    if (status == DBSS_OK)
        status = dbss_report_spec_new(&spec);
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "template_id", template_id);
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "start_time", "2026-11-23 00:00:00");
    if (status == DBSS_OK)
        status = dbss_report_spec_set(spec, "end_time", "2026-11-24 00:00:00");
    if (status == DBSS_OK)
        status = dbss_report_generate(ctx, fixture("project"), instance, spec, operation, id);
    dbss_report_spec_free(spec);
    dbss_operation_free(operation);
    return status;
}

static dbss_status schedule(void)
{
    dbss_schedule_changes *changes = NULL;
    dbss_page *page = NULL;
    dbss_operation *operation = NULL;
    dbss_status status = new_exhausting_operation(&operation);
    if (status == DBSS_OK)
        status = dbss_schedule_changes_new(&changes);
    if (status == DBSS_OK)
        status = dbss_schedule_changes_set(changes, "status", "ON");
    if (status == DBSS_OK)
        status = dbss_schedule_update(ctx, fixture("project"), instance, template_id, changes, operation);
    if (status == DBSS_OK)
        status = dbss_schedule_show(ctx, fixture("project"), instance, template_id, operation, &page);
    dbss_page_free(page);
    dbss_schedule_changes_free(changes);
    dbss_operation_free(operation);
    return status;
}

/* Uses an endpoint by address. With a name, each worker starts a thread for its
 * look-up. If other workers take the last memory then, the C library ends the
 * process. */
static dbss_status mirror(void)
{
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = NULL;
    dbss_buffer json = {NULL, 0};
    dbss_operation *operation = NULL;
    char place[256];
    dbss_status status = new_exhausting_operation(&operation);
    if (status == DBSS_OK)
        status = dbss_mirror_options_new(&options);
    snprintf(place, sizeof place, "%s/%ld-%ld", directory, (long)getpid(), failing_allocation);
    if (status == DBSS_OK)
        status = dbss_mirror_options_set(options, "instance", instance);
    if (status == DBSS_OK)
        status = dbss_reports_mirror(context_at_address, fixture("project"), place, options, operation, &result);
    if (result != NULL && dbss_mirror_result_json(result, &json) != DBSS_OK && status == DBSS_OK)
        status = DBSS_ERR_OUT_OF_MEMORY;
    dbss_buffer_free(&json);
    dbss_mirror_result_free(result);
    dbss_mirror_options_free(options);
    dbss_operation_free(operation);
    return status;
}

/* Downloads a missing report, whose error has all its parts. */
static dbss_status download_missing_report(void)
{
    dbss_buffer buffer = {NULL, 0};
    dbss_status status =
        dbss_report_download(ctx, fixture("project"), fixture("instance"), "0123456789abcdef", NULL, &buffer);
    dbss_error *error = dbss_error_take();
    if (status == DBSS_ERR_NOT_FOUND)
        status = dbss_error_http_status(error) == 404 ? DBSS_OK : DBSS_ERR_INTERNAL;
    dbss_error_free(error);
    return status;
}

/* ---------------------------------------------------------------------------
 * Children
 * ------------------------------------------------------------------------ */

/* The address space that this process uses. */
static long address_space_in_use(void)
{
    char line[128];
    FILE *file = fopen("/proc/self/statm", "r");
    long pages;
    if (file == NULL || fgets(line, sizeof line, file) == NULL || sscanf(line, "%ld", &pages) != 1)
        fatal("cannot read /proc/self/statm");
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static dbss_status (*call)(void);
static dbss_status status_on_thread;

static void *make_call_on_thread(void *unused)
{
    (void)unused;
    status_on_thread = call();
    return NULL;
}

enum { FIRST_CALL, SECOND_CALL, ON_THREAD };

/* The exit code of a child. */
enum { SUCCESS = 0, NO_MEMORY = 1, OTHER = 2 };

/* The limit of a child: the bytes above what it uses, which call it makes, and
 * whether the host takes all memory meanwhile. */
struct limited_call {
    long spare;
    int how, exhausts;
};

static int make_limited_call(void *argument)
{
    const struct limited_call *limited = argument;
    struct rlimit limit;
    dbss_status status;
    long used;
    if (limited->how == SECOND_CALL && call() != DBSS_OK)
        return OTHER;
    used = address_space_in_use();
    if (getrlimit(RLIMIT_AS, &limit) != 0)
        return OTHER;
    limit.rlim_cur = (rlim_t)(used + limited->spare);
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return OTHER;
    exhausts_memory = limited->exhausts;
    if (limited->how == ON_THREAD) {
        pthread_t thread;
        /* The stack needs memory too. */
        if (pthread_create(&thread, NULL, make_call_on_thread, NULL) != 0)
            return NO_MEMORY;
        pthread_join(thread, NULL);
        status = status_on_thread;
    } else {
        status = call();
    }
    if (status == DBSS_OK)
        return SUCCESS;
    /* A mirror continues without the reports for which it gets no thread. */
    if (status == DBSS_ERR_OUT_OF_MEMORY || status == DBSS_ERR_RESOURCE || status == DBSS_ERR_PARTIAL)
        return NO_MEMORY;
    fprintf(stderr, "status %d: %s\n", (int)status, dbss_error_message(dbss_last_error()));
    return OTHER;
}

static int call_with_limit(long spare, int how, int exhausts)
{
    struct limited_call limited = {spare, how, exhausts};
    return run_child(make_limited_call, &limited);
}

/* Makes the call with every limit. `what` describes it. */
static void expect_clean_end(const char *what, int how, dbss_status (*function)(void))
{
    size_t i;
    int outcome;
    call = function;
    for (i = 0; i < sizeof spare_sizes / sizeof *spare_sizes; i++) {
        outcome = call_with_limit(spare_sizes[i], how, 0);
        if (outcome != SUCCESS && outcome != NO_MEMORY)
            fail_check("%s, %s, mode %d, with %ld KiB to spare: %s %d", what, scheme, how, spare_sizes[i] / KIB,
                       outcome < 0 ? "ended by signal" : "exit", abs(outcome));
    }
    /* Otherwise the check would prove nothing. */
    outcome = call_with_limit(PLENTY, how, 0);
    if (outcome != SUCCESS)
        fail_check("%s, %s, mode %d, with plenty: exit %d", what, scheme, how, outcome);
}

/* The endpoint by address. It needs no look-up thread. */
static char *address_of(const char *where)
{
    return format("%s://127.0.0.1%s", where, strrchr(fixture(where), ':'));
}

static void set_up_at(const char *where, char *at, int reports)
{
    dbss_cursor *cursor;
    dbss_page *page = NULL;
    char *address;
    scheme = where;
    endpoint = at;
    report = add_report(3000000);
    instance = add_instance();
    post_control("/reports", "{\"instance\": \"%s\", \"format\": \"pdf\", \"count\": %d, \"size\": 20000}", instance,
                 reports);
    post_control("/generation", "{\"percent_per_list\": 100}");
    directory = new_directory();
    if (create_context() != DBSS_OK)
        fatal("cannot create a context");
    address = address_of(scheme);
    context_at_address = new_context(address);
    free(address);
    EXPECT(DBSS_OK, dbss_templates_list(ctx, fixture("project"), instance, &cursor));
    EXPECT(DBSS_OK, dbss_cursor_next(cursor, NULL, &page));
    template_id = format("%s", dbss_page_field(page, 0, "id"));
    dbss_page_free(page);
    dbss_cursor_free(cursor);
}

static void set_up(const char *where)
{
    set_up_at(where, format("%s", fixture(where)), 300);
}

static void tear_down(void)
{
    dbss_context_free(ctx);
    dbss_context_free(context_at_address);
    remove_tree(directory);
    free(directory);
    free(template_id);
    free(endpoint);
}

static void check_every_call(const char *where)
{
    static const struct {
        const char *what;
        dbss_status (*call)(void);
    } calls[] = {
        {"context and download", create_context_and_download},
        {"download to memory", download_to_memory},
        {"download to a directory", download_to_directory},
        {"download to a function", download_to_callback},
        {"download under an operation", download_with_operation},
        {"list", list},
        {"generate", generate},
        {"schedule", schedule},
        {"mirror", mirror},
        {"error", download_missing_report},
    };
    size_t i;
    int how;
    set_up(where);
    for (i = 0; i < sizeof calls / sizeof *calls; i++)
        for (how = FIRST_CALL; how <= ON_THREAD && !has_failed(); how++)
            expect_clean_end(calls[i].what, how, calls[i].call);
    tear_down();
}

static void low_memory_ends_no_call(void)
{
    check_every_call("http");
}

static void low_memory_ends_no_call_tls(void)
{
    check_every_call("https");
}

/* The host takes all memory during a call. */
static void memory_taken_during_call_fails_it(void)
{
    static const char *const schemes[] = {"http", "https"};
    static dbss_status (*const calls[])(void) = {download_with_operation, list, generate, mirror};
    size_t i, j;
    for (i = 0; i < 2; i++) {
        set_up(schemes[i]);
        for (j = 0; j < sizeof calls / sizeof *calls; j++) {
            int how;
            call = calls[j];
            for (how = FIRST_CALL; how <= ON_THREAD; how++) {
                int outcome = call_with_limit(PLENTY, how, 1);
                if (outcome != NO_MEMORY)
                    fail_check("call %d, %s, mode %d: %d", (int)j, scheme, how, outcome);
            }
        }
        tear_down();
    }
}

static void low_memory_while_loading_certificates(void)
{
    set_up("http");
    expect_clean_end("certificates of the system", FIRST_CALL, create_regional_context);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * Failing allocations
 * ------------------------------------------------------------------------ */

/* If set, each allocation fails in turn. Otherwise only every n-th. */
#define EACH_ALLOCATION "DBSS_TEST_EACH_ALLOCATION"

/* A call whose allocations fail in turn: every `step`-th after the first ones. */
struct failing_call {
    dbss_status (*call)(void);
    long step;
    /* Shared with the parent: the allocation that fails. */
    volatile long *at;
};

/* Repeats the call in a child. Each time another allocation fails, until none is
 * left. */
static int fail_each_allocation(void *argument)
{
    /* Warm-up calls, and the blocks and descriptors that may stay. */
    enum { WARM = 3, KEPT = 200, KEPT_DESCRIPTORS = 4 };
    const struct failing_call *failing = argument;
    long blocks, descriptors, i;
    for (i = 0; i < WARM; i++)
        if (failing->call() != DBSS_OK)
            return 2;
    blocks = count_blocks();
    descriptors = for_each_descriptor(NULL);
    for (failing_allocation = 1;; failing_allocation += failing_allocation < 20 ? 1 : failing->step) {
        dbss_status status;
        int has_failed;
        *failing->at = failing_allocation;
        fail_allocation(failing_allocation);
        status = failing->call();
        has_failed = has_failed_allocation();
        fail_allocation(0);
        if (!has_failed)
            break;
        if (status != DBSS_OK && status != DBSS_ERR_OUT_OF_MEMORY && status != DBSS_ERR_RESOURCE
            && status != DBSS_ERR_PARTIAL) {
            fprintf(stderr, "status %d: %s\n", (int)status, dbss_error_message(dbss_last_error()));
            return 3;
        }
        if (status != DBSS_OK && failing->call() != DBSS_OK) {
            fprintf(stderr, "afterwards: %s\n", dbss_error_message(dbss_last_error()));
            return 4;
        }
    }
    blocks = count_blocks() - blocks;
    descriptors = for_each_descriptor(NULL) - descriptors;
    if (failing_allocation < 20 || blocks > KEPT || descriptors > KEPT_DESCRIPTORS) {
        fprintf(stderr, "%ld allocations, %ld more blocks, %ld more descriptors\n", failing_allocation, blocks,
                descriptors);
        return 5;
    }
    return 0;
}

static void each_failed_allocation_is_handled(void)
{
    static const struct {
        const char *what;
        long step;
        dbss_status (*call)(void);
    } calls[] = {
        {"context and download", 1, create_context_and_download},
        {"download to memory", 1, download_to_memory},
        {"download to a directory", 3, download_to_directory},
        {"download to a function", 3, download_to_callback},
        {"download under an operation", 3, download_with_operation},
        {"list", 17, list},
        {"generate", 97, generate},
        {"schedule", 37, schedule},
        {"mirror", 397, mirror},
        {"missing", 1, download_missing_report},
    };
    static const char *const schemes[] = {"http", "https"};
    volatile long *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int all = getenv(EACH_ALLOCATION) != NULL;
    size_t i, j;
    if (!can_fail_allocations()) {
        skip_check("malloc() cannot be replaced here");
        return;
    }
    if (at == MAP_FAILED)
        fatal("out of memory");
    for (i = 0; i < 2; i++) {
        set_up_at(schemes[i], address_of(schemes[i]), 5);
        for (j = 0; j < sizeof calls / sizeof *calls; j++) {
            long step = all ? (calls[j].step + 15) / 16 : calls[j].step;
            struct failing_call failing = {calls[j].call, step, at};
            int code = wait_for_long_child(start_child(fail_each_allocation, &failing));
            if (code != 0)
                fail_check("%s, %s, allocation %ld: %s %d", calls[j].what, schemes[i], *at,
                           code < 0 ? "signal" : "exit", abs(code));
            else if (all)
                printf("%s, %s: %ld allocations, every %ld.\n", calls[j].what, schemes[i], *at, step);
        }
        tear_down();
    }
}

/* ---------------------------------------------------------------------------
 * Copies
 * ------------------------------------------------------------------------ */

static dbss_log_record *kept_record;

static void keep_record(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    if (kept_record == NULL)
        kept_record = dbss_log_record_copy(record);
}

/* Requests copies until there are no more. Returns 0 if the getters gave copies
 * while there was memory, then NULL, and copies again once others were freed. */
static int copy_until_exhausted(void *argument)
{
    int exhausts = *(int *)argument;
    enum { MOST = 100000 };
    static dbss_error *errors[MOST];
    static dbss_log_record *records[MOST];
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    dbss_operation *operation = NULL;
    dbss_buffer buffer;
    struct rlimit limit;
    int number = 0, got, failures = 0;

    if (dbss_config_set_log(config, keep_record, NULL, NULL) != DBSS_OK || dbss_operation_new(&operation) != DBSS_OK)
        return 2;
    ctx = context_from(config);
    if (dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), "0123456789abcdef", NULL,
                                       operation, &buffer)
            != DBSS_ERR_NOT_FOUND
        || kept_record == NULL || getrlimit(RLIMIT_AS, &limit) != 0)
        return 3;
    limit.rlim_cur = (rlim_t)(address_space_in_use() + 256 * KIB);
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return 4;
    exhausts_memory = exhausts;
    exhaust_memory(NULL, NULL);
    /* A few times more than until the first NULL. */
    while (number < MOST && failures < 1000) {
        errors[number] = dbss_operation_error(operation);
        records[number] = dbss_log_record_copy(kept_record);
        failures += errors[number] == NULL || records[number] == NULL;
        number++;
    }
    got = number - failures;
    if (failures < 1000 || (exhausts ? got > 0 : got < 10))
        return 5;
    while (number-- > 0) {
        dbss_error_free(errors[number]);
        dbss_log_record_free(records[number]);
    }
    return exhausts || (dbss_operation_error(operation) != NULL && dbss_log_record_copy(kept_record) != NULL) ? 0 : 6;
}

/* Getters that return copies return NULL without memory. */
static void copy_without_memory_is_null(void)
{
    int exhausts;
    for (exhausts = 0; exhausts < 2; exhausts++) {
        CHECK(run_child(copy_until_exhausted, &exhausts) == 0);
    }
}

/* Keeps the errors of many calls without memory. */
static int keep_errors(void *unused)
{
    enum { MANY = 3000 };
    static dbss_operation *operations[MANY];
    static dbss_error *errors[MANY];
    int i;
    (void)unused;

    for (i = 0; i < MANY; i++)
        if (dbss_operation_new(&operations[i]) != DBSS_OK)
            return 2;
    if (download_to_memory_with(operations[0]) != DBSS_OK)
        return 3;
    fail_allocations_from(1);
    for (i = 0; i < MANY; i++) {
        if (download_to_memory_with(operations[i]) != DBSS_ERR_OUT_OF_MEMORY)
            return 4;
        errors[i] = dbss_error_take();
        if (errors[i] == NULL || dbss_error_status(errors[i]) != DBSS_ERR_OUT_OF_MEMORY
            || *dbss_error_message(errors[i]) == 0)
            return 5;
    }
    fail_allocations_from(0);
    if (download_to_memory_with(operations[0]) != DBSS_OK)
        return 6;
    for (i = 0; i < MANY; i++) {
        dbss_error_free(errors[i]);
        dbss_operation_free(operations[i]);
    }
    return 0;
}

/* Kept errors do not use up the reserve of later calls. */
static void kept_errors_use_up_no_reserve(void)
{
    if (!can_fail_allocations()) {
        skip_check("malloc() cannot be replaced here");
        return;
    }
    set_up("http");
    CHECK(run_child(keep_errors, NULL) == 0);
    tear_down();
}

/* A call in a child, and where the child writes how much memory it needed. */
struct measured_call {
    dbss_status expected;
    int fd;
};

static int measure_call(void *argument)
{
    const struct measured_call *measured = argument;
    FILE *file = fopen("/proc/self/clear_refs", "w");
    dbss_status status;
    long needed;
    if (file == NULL || fputs("5", file) < 0 || fclose(file) != 0)
        fatal("cannot write /proc/self/clear_refs");
#ifdef __GLIBC__
    /* Memory that this program freed earlier does not belong to the call. */
    malloc_trim(0);
#endif
    needed = proc_status_value("VmRSS");
    status = call();
    if (status != measured->expected)
        fprintf(stderr, "status %d: %s\n", (int)status, dbss_error_message(dbss_last_error()));
    needed = status == measured->expected ? proc_status_value("VmHWM") - needed : -1;
    return write(measured->fd, &needed, sizeof needed) != sizeof needed;
}

/* The most memory that the call needs, beyond what its process has; -1 where it
 * ended otherwise than expected. */
static long measure_needed_kib(dbss_status expected)
{
    struct measured_call measured = {expected, -1};
    int ends[2];
    long needed = -1;
    pid_t child;
    if (pipe(ends) != 0)
        fatal("cannot create a pipe");
    measured.fd = ends[1];
    child = start_child(measure_call, &measured);
    close(ends[1]);
    if (read(ends[0], &needed, sizeof needed) != sizeof needed)
        needed = -1;
    close(ends[0]);
    wait_for_child(child);
    return needed;
}

/* Sets a response for `place`. Its body of about `size` bytes repeats `part` between
 * `open` and `close`. */
static void post_repeated_body(const char *place, int status, size_t size, const char *open, const char *part,
                               const char *close)
{
    size_t len = strlen(part), part_size = len, i;
    char *body = malloc(2 * size + 1024), *at = body;
    if (body == NULL)
        fatal("out of memory");
    at += sprintf(at, "{\"report\": \"%s\", \"times\": 1, \"status\": %d, \"body\": \"%s", place, status, open);
    for (i = 0; i < len; i++)
        part_size -= part[i] == '\\';
    for (; size > part_size; size -= part_size, at += len)
        memcpy(at, part, len);
    sprintf(at, "%s\"}", close);
    free(control("POST", "/faults", body));
    free(body);
}

/* A body needs at most four times its size, whatever its content. */
static void response_body_memory_is_bounded(void)
{
#define Q "\\\""
    static const char list_open[] = "{" Q "items" Q ":[{" Q "report" Q ":{" Q "id" Q ":" Q "a" Q "}}",
                      list_close[] = "]}";
    static const struct {
        const char *what;
        const char *open, *part, *close;
        dbss_status expected;
    } bodies[] = {
        {"tiny items", list_open, ",{" Q "report" Q ":{" Q "id" Q ":" Q "a" Q "}}", list_close,
         DBSS_ERR_UNEXPECTED_RESPONSE},
        {"numbers", "{" Q "items" Q ":[1", ",1", "]}", DBSS_ERR_UNEXPECTED_RESPONSE},
        {"a deep item", "{" Q "items" Q ":[{" Q "report" Q ":{" Q "id" Q ":" Q "a" Q "," Q "x" Q ":", "[", "",
         DBSS_ERR_UNEXPECTED_RESPONSE},
        {"an item of many fields", "{" Q "items" Q ":[{" Q "report" Q ":{" Q "id" Q ":" Q "a" Q, "," Q "a" Q ":" Q Q,
         "}}]," Q "total" Q ":1}", DBSS_OK},
        {"an error in errors", "", "{" Q "error" Q ":", "", DBSS_ERR_UNEXPECTED_RESPONSE},
        {"arrays in errors", "", "{" Q "details" Q ":[[],{}]," Q "x" Q ":[0,0]," Q "error" Q ":", "",
         DBSS_ERR_UNEXPECTED_RESPONSE},
        {"details", "{" Q "details" Q ":[0", ",0", "]}", DBSS_ERR_UNEXPECTED_RESPONSE},
    };
#undef Q
    /* The limit of the mock service, including the escapes. */
    enum { SIZE = 10 * 1024 * 1024 };
    size_t i;
    long needed;
    set_up("http");
    call = list;
    for (i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        post_repeated_body("@reports.list", 200, SIZE, bodies[i].open, bodies[i].part, bodies[i].close);
        needed = measure_needed_kib(bodies[i].expected);
        printf("amount %-24s %6ld KiB\n", bodies[i].what, needed);
        /* Plus a megabyte for the connection. */
        if (needed < 0 || needed > 4 * SIZE / KIB + 1024)
            fail_check("%s: %ld KiB", bodies[i].what, needed);
    }
    tear_down();
}

/* The report for which the server sends a hostile response. */
static const char *hostile_report;

static dbss_status hostile_download(void)
{
    dbss_buffer buffer = {NULL, 0};
    dbss_operation *operation = NULL;
    dbss_status status = new_exhausting_operation(&operation);
    if (status == DBSS_OK)
        status = dbss_report_download_to_memory(ctx, fixture("project"), fixture("instance"), hostile_report, NULL,
                                                operation, &buffer);
    dbss_buffer_free(&buffer);
    dbss_operation_free(operation);
    return status == DBSS_ERR_OUT_OF_MEMORY || status == DBSS_ERR_RESOURCE ? status : DBSS_OK;
}

/* Repeats a part. It is a format with a number and `size` letters. */
static char *repeat_part(const char *part, int count, size_t size)
{
    char *letters = malloc(size + 1), *all, *at;
    int i;
    all = at = malloc((size_t)count * (strlen(part) + size + 16) + 1);
    if (letters == NULL || all == NULL)
        fatal("out of memory");
    memset(letters, 'a', size);
    letters[size] = 0;
    *at = 0;
    for (i = 0; i < count; i++)
        at += sprintf(at, part, i, letters);
    free(letters);
    return all;
}

/* Repeats the call in a child. Each time all allocations fail, from a later one
 * on. */
static int fail_from_each_allocation(void *argument)
{
    volatile long *at = argument;
    int has_failed = 1;
    if (call() != DBSS_OK)
        return OTHER;
    for (*at = 1; has_failed; ++*at) {
        fail_allocations_from(*at);
        call();
        has_failed = has_failed_allocation();
        fail_allocation(0);
    }
    return SUCCESS;
}

/* Whatever is long in a response, low memory ends no process. */
static void hostile_response_with_low_memory_ends_no_call(void)
{
#define Q "\\\""
    static const long spare_for_hostile[] = {0, 64 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB};
    static const struct {
        const char *what;
        int status;
        const char *header;
        int headers;
        size_t header_size;
        const char *open, *part, *close;
        int parts;
        size_t part_size;
    } responses[] = {
        {"many fields", 200, "[\"X-%d\", \"%s\"],", 60, 4000, "%PDF-1.7", "", "", 0, 0},
        {"many ETags", 200, "[\"ETag\", \"%d%s\"],", 60, 4000, "%PDF-1.7", "", "", 0, 0},
        {"X-Request-Id of 60 KB", 400, "[\"X-Request-Id\", \"%.0d%s\"],", 1, 60000, "{}", "", "", 0, 0},
        {"ETag", 200, "[\"ETag\", \"%.0d\\\"%s\\\"\"],", 1, 100000, "%PDF-1.7", "", "", 0, 0},
        {"Content-Disposition", 200, "[\"Content-Disposition\", \"attachment%.0d; filename=%s\"],", 1, 100000,
         "%PDF-1.7", "", "", 0, 0},
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
        fatal("out of memory");
    /* By address, so that no look-up starts a thread. */
    set_up_at("http", address_of("http"), 1);
    call = hostile_download;
    for (i = 0; i < sizeof responses / sizeof *responses; i++) {
        char *headers, *parts, *fault;
        int outcome;
        hostile_report = add_report(10000);
        headers = responses[i].headers > 0
                      ? repeat_part(responses[i].header, responses[i].headers, responses[i].header_size)
                      : format("%s", "");
        if (*headers != 0)
            headers[strlen(headers) - 1] = 0;
        parts = responses[i].parts > 0 ? repeat_part(responses[i].part, responses[i].parts, responses[i].part_size)
                                       : format("%s", "");
        fault = format("{\"report\": \"%s\", \"times\": 1000, \"status\": %d, \"headers\": [%s], \"body\": \"%s%s%s\"}",
                       hostile_report, responses[i].status, headers, responses[i].open, parts, responses[i].close);
        free(control("POST", "/faults", fault));
        for (j = 0; j < sizeof spare_for_hostile / sizeof *spare_for_hostile; j++) {
            /* With and without existing buffers for the connection. */
            int how;
            for (how = FIRST_CALL; how <= ON_THREAD; how++) {
                outcome = call_with_limit(spare_for_hostile[j], how, 0);
                if (outcome != SUCCESS && outcome != NO_MEMORY)
                    fail_check("%s, mode %d, %ld KiB to spare: %d", responses[i].what, how, spare_for_hostile[j] / KIB,
                               outcome);
            }
        }
        if (can_fail_allocations()) {
            outcome = run_child(fail_from_each_allocation, (void *)at);
            if (outcome != SUCCESS)
                fail_check("%s, no memory from allocation %ld on: %d", responses[i].what, *at, outcome);
        }
        outcome = call_with_limit(PLENTY, SECOND_CALL, 0);
        if (outcome != SUCCESS)
            fail_check("%s, with plenty: %d", responses[i].what, outcome);
        free(headers);
        free(parts);
        free(fault);
    }
    tear_down();
}

static const struct check checks[] = {
    {"low_memory_ends_no_call", low_memory_ends_no_call, LOAD},
    {"low_memory_ends_no_call_tls", low_memory_ends_no_call_tls, LOAD},
    {"memory_taken_during_call_fails_it", memory_taken_during_call_fails_it, LOAD},
    {"low_memory_while_loading_certificates", low_memory_while_loading_certificates, LOAD},
    {"copy_without_memory_is_null", copy_without_memory_is_null, LOAD},
    {"kept_errors_use_up_no_reserve", kept_errors_use_up_no_reserve, LOAD},
    {"each_failed_allocation_is_handled", each_failed_allocation_is_handled, LOAD},
    {"response_body_memory_is_bounded", response_body_memory_is_bounded, LOAD},
    {"hostile_response_with_low_memory_ends_no_call", hostile_response_with_low_memory_ends_no_call, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
