/* Low memory. In child processes with a memory limit, each call succeeds or reports
 * that there is too little memory. No call ends the process. */

#include "calls.h"
#include "failing.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/mman.h>
#include <sys/resource.h>

#define KIB 1024L

static const long spare_sizes[] = {0,         4 * KIB,   16 * KIB,   64 * KIB,   128 * KIB,
                                   256 * KIB, 512 * KIB, 1024 * KIB, 2048 * KIB, 4096 * KIB};
/* With this much memory every call succeeds. */
#define PLENTY (64 * 1024 * KIB)

/* For calls about one report, and about all of an instance. */
static struct work of_report, of_instance;
/* Shared with children. The number of the allocation that fails; 0: none. */
static volatile long *failing_allocation;
/* Another number. */
static volatile long *shared_number;
static const char *endpoint;
static dbss_context *context_at_address;

static dbss_status create_context(const char *key, const char *value, dbss_context **ctx)
{
    dbss_config *config = NULL;
    dbss_status status = dbss_config_new(&config);
    if (status == DBSS_OK)
        status = dbss_config_set(config, key, value);
    if (status == DBSS_OK && strcmp(key, "endpoint") == 0)
        status = dbss_config_set(config, "ca_file", fixture("ca_file"));
    if (status == DBSS_OK)
        status = dbss_config_set_token(config, fixture("token"));
    if (status == DBSS_OK)
        status = dbss_context_new(config, ctx);
    dbss_config_free(config);
    return status;
}

/* Loads the system's certificates. */
static dbss_status create_regional_context(const struct work *work)
{
    dbss_context *ctx = NULL;
    dbss_status status = create_context("region", "cn-north-4", &ctx);
    dbss_context_free(ctx);
    return status;
}

static dbss_status create_context_and_download(const struct work *work)
{
    struct work own = *work;
    dbss_status status = create_context("endpoint", endpoint, &own.ctx);
    if (status == DBSS_OK) {
        status = download(&own);
        dbss_context_free(own.ctx);
    }
    return status;
}

/* Uses an endpoint by address. With a name, each worker starts a thread for its
 * look-up. If other workers take the last memory then, the C library ends the
 * process. */
static dbss_status mirror_anew(const struct work *work)
{
    struct work own = *work;
    char place[256];
    snprintf(place, sizeof place, "%s/%ld-%ld", work->directory, (long)getpid(), *failing_allocation);
    own.ctx = context_at_address;
    own.directory = place;
    return mirror(&own);
}

/* Downloads a missing report, whose error has all its parts. */
static dbss_status download_missing_report(const struct work *work)
{
    struct work own = *work;
    dbss_status status;
    dbss_error *error;
    own.id = "0123456789abcdef";
    status = download(&own);
    error = dbss_error_take();
    if (status == DBSS_ERR_NOT_FOUND)
        status = dbss_error_http_status(error) == 404 ? DBSS_OK : DBSS_ERR_INTERNAL;
    dbss_error_free(error);
    return status;
}

/* Of its allocations, each `step`-th fails in turn, after the first ones. */
static const struct scarce {
    const char *what;
    work_fn *function;
    const struct work *work;
    int has_operation;
    long step;
} scarce_calls[] = {
    {"context and download", create_context_and_download, &of_report, 0, 1},
    {"download to memory", download, &of_report, 0, 1},
    {"download to a directory", download_to_directory, &of_report, 0, 3},
    {"download to a function", download_to_callback, &of_report, 0, 3},
    {"download under an operation", download_to_memory, &of_report, 1, 3},
    {"list", list_reports, &of_instance, 1, 17},
    {"generate", generate, &of_instance, 1, 97},
    {"schedule", show_and_change_schedule, &of_instance, 1, 37},
    {"mirror", mirror_anew, &of_instance, 1, 397},
    {"certificates of the system", create_regional_context, &of_report, 0, 997},
    {"error", download_missing_report, &of_report, 0, 1},
};

static int exhausts_memory;

/* Simulates a host that takes all memory during a call. */
static int32_t exhaust_memory(void *user_data, const dbss_operation *operation)
{
    size_t size;
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

/* The call that is made with little memory. */
static const struct scarce *scarce;

static dbss_status make_scarce_call(void)
{
    struct work work = *scarce->work;
    dbss_status status = scarce->has_operation ? dbss_operation_new(&work.operation) : DBSS_OK;
    if (status == DBSS_OK && scarce->has_operation)
        status = dbss_operation_set_progress(work.operation, exhaust_memory, NULL, NULL);
    if (status == DBSS_OK)
        status = scarce->function(&work);
    dbss_operation_free(work.operation);
    return status;
}

static void limit_memory(long spare)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0)
        fatal("cannot read the limit");
    limit.rlim_cur = (rlim_t)(proc_status_value("VmSize") * KIB + spare);
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        fatal("cannot set the limit");
}

static void *make_call_on_thread(void *status)
{
    *(dbss_status *)status = make_scarce_call();
    return NULL;
}

enum { FIRST_CALL, SECOND_CALL, ON_THREAD, WAYS };

/* The exit code of a child. */
enum { SUCCESS = 0, NO_MEMORY = 1, OTHER = 2 };

/* The limit of a child: the bytes above what it uses, which call it makes, and
 * whether the host takes all memory meanwhile. */
struct limited_call {
    long spare;
    int how, exhausts;
};

static int is_for_lack_of_memory(dbss_status status)
{
    /* A mirror continues without the reports for which it gets no thread. */
    return status == DBSS_ERR_OUT_OF_MEMORY || status == DBSS_ERR_RESOURCE || status == DBSS_ERR_PARTIAL;
}

static int make_limited_call(void *argument)
{
    const struct limited_call *limited = argument;
    dbss_status status;
    if (limited->how == SECOND_CALL && make_scarce_call() != DBSS_OK)
        return OTHER;
    limit_memory(limited->spare);
    exhausts_memory = limited->exhausts;
    if (limited->how == ON_THREAD) {
        pthread_t thread;
        /* The stack needs memory too. */
        if (pthread_create(&thread, NULL, make_call_on_thread, &status) != 0)
            return NO_MEMORY;
        pthread_join(thread, NULL);
    } else {
        status = make_scarce_call();
    }
    if (status == DBSS_OK || is_for_lack_of_memory(status))
        return status == DBSS_OK ? SUCCESS : NO_MEMORY;
    fprintf(stderr, "status %d: %s\n", (int)status, dbss_error_message(dbss_last_error()));
    return OTHER;
}

/* Expects one of two outcomes. */
static void expect_outcome(long spare, int how, int exhausts, int one, int other)
{
    struct limited_call limited = {spare, how, exhausts};
    int outcome = run_child(make_limited_call, &limited);
    if (outcome != one && outcome != other)
        fail_check("%s, %s, mode %d, with %ld KiB to spare: %s %d", scarce->what, scheme, how, spare / KIB,
                   outcome < 0 ? "ended by signal" : "exit", abs(outcome));
}

/* Makes the call with these limits, and with plenty. */
static void expect_clean_end(const long *spares, size_t count, int how)
{
    for (size_t i = 0; i < count; i++)
        expect_outcome(spares[i], how, 0, SUCCESS, NO_MEMORY);
    /* Otherwise the check would prove nothing. */
    expect_outcome(PLENTY, how, 0, SUCCESS, SUCCESS);
}

static void set_up_at(const char *where, int reports)
{
    endpoint = where;
    if (create_context("endpoint", endpoint, &of_report.ctx) != DBSS_OK)
        fatal("cannot create a context");
    of_report = new_work(keep_context(of_report.ctx), NULL);
    of_report.id = add_report(3000000);
    of_report.directory = new_directory();
    of_instance = of_report;
    of_instance.instance = add_instance(reports, 20000);
    of_instance.template_id = fixture("template");
    post_control("/generation", "{\"percent_per_list\": 100}");
    /* It needs no look-up thread. */
    context_at_address = new_context(text("%s://127.0.0.1%s", scheme, strrchr(fixture(scheme), ':')));
    failing_allocation = mmap(NULL, 2 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (failing_allocation == MAP_FAILED)
        fatal("out of memory");
    shared_number = failing_allocation + 1;
}

static void set_up(void)
{
    set_up_at(fixture(scheme), 300);
}

NAMED_CHECKS(low_memory_ends_no_call, LOAD, LOAD)
{
    set_up();
    for (scarce = scarce_calls; scarce < scarce_calls + COUNT(scarce_calls); scarce++)
        for (int how = 0; how < WAYS && !has_failed(); how++)
            expect_clean_end(spare_sizes, COUNT(spare_sizes), how);
}

/* The host takes all memory during a call. */
NAMED_CHECKS(memory_taken_during_call_fails_it, LOAD, LOAD)
{
    set_up();
    for (scarce = scarce_calls; scarce < scarce_calls + COUNT(scarce_calls); scarce++)
        for (int how = 0; how < WAYS && scarce->has_operation; how++)
            expect_outcome(PLENTY, how, 1, NO_MEMORY, NO_MEMORY);
}

/* If set, each allocation fails in turn. Otherwise only every n-th. */
#define EACH_ALLOCATION "DBSS_TEST_EACH_ALLOCATION"

/* A context for the calls of a child. What it keeps for later calls depends on the
 * threads that made calls, so blocks are counted without one. */
static void open_context(void)
{
    if (create_context("endpoint", endpoint, &of_report.ctx) != DBSS_OK)
        fatal("cannot create a context");
    of_instance.ctx = context_at_address = of_report.ctx;
}

/* Repeats the call in a child. Each time another allocation fails, until none is
 * left. */
static int fail_each_allocation(void *step)
{
    /* Warm-up calls, and the blocks that the C library may keep for later threads. */
    enum { WARM = 3, KEPT = 10 };
    long blocks, descriptors, i;
    drop(of_report.ctx);
    drop(context_at_address);
    open_context();
    for (i = 0; i < WARM; i++)
        if (make_scarce_call() != DBSS_OK)
            return 2;
    dbss_context_free(of_report.ctx);
    blocks = count_blocks();
    descriptors = for_each_descriptor(NULL);
    open_context();
    for (*failing_allocation = 1;; *failing_allocation += *failing_allocation < 20 ? 1 : *(long *)step) {
        dbss_status status;
        int has_failed;
        fail_allocation(*failing_allocation);
        status = make_scarce_call();
        has_failed = has_failed_allocation();
        fail_allocation(0);
        if (!has_failed)
            break;
        if (status != DBSS_OK && !is_for_lack_of_memory(status)) {
            fprintf(stderr, "status %d: %s\n", (int)status, dbss_error_message(dbss_last_error()));
            return 3;
        }
        if (status != DBSS_OK && make_scarce_call() != DBSS_OK) {
            fprintf(stderr, "afterwards: %s\n", dbss_error_message(dbss_last_error()));
            return 4;
        }
    }
    dbss_context_free(of_report.ctx);
    blocks = count_blocks() - blocks;
    descriptors = for_each_descriptor(NULL) - descriptors;
    if (*failing_allocation >= 20 && blocks <= KEPT && descriptors == 0)
        return 0;
    fprintf(stderr, "%ld allocations, %ld more blocks, %ld more descriptors\n", *failing_allocation, blocks,
            descriptors);
    return 5;
}

NAMED_CHECKS(each_failed_allocation_is_handled, LOAD, LOAD)
{
    int all = getenv(EACH_ALLOCATION) != NULL;
    if (!can_fail_allocations()) {
        skip_check("malloc() cannot be replaced here");
        return;
    }
    set_up_at(text("%s://127.0.0.1%s", scheme, strrchr(fixture(scheme), ':')), 5);
    for (scarce = scarce_calls; scarce < scarce_calls + COUNT(scarce_calls); scarce++) {
        long step = all ? (scarce->step + 15) / 16 : scarce->step;
        int code = wait_for_long_child(start_child(fail_each_allocation, &step));
        if (code != 0)
            fail_check("%s, %s, allocation %ld: %s %d", scarce->what, scheme, *failing_allocation,
                       code < 0 ? "signal" : "exit", abs(code));
        else if (all)
            printf("%s, %s: %ld allocations, every %ld.\n", scarce->what, scheme, *failing_allocation, step);
    }
}

/* Keeps a copy of the first record of a failure. */
static void keep_record(void *kept, const dbss_log_record *record)
{
    dbss_log_record **copy = kept;
    if (*copy == NULL && dbss_log_record_status(record) != DBSS_OK)
        *copy = dbss_log_record_copy(record);
}

/* Requests copies until there are no more. Returns 0 if the getters gave copies
 * while there was memory, then NULL, and copies again once others were freed. */
static int copy_until_exhausted(void *argument)
{
    enum { MOST = 100000 };
    static dbss_error *errors[MOST], *logged[MOST];
    static dbss_log_record *records[MOST], *kept;
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    struct work work = new_work(NULL, new_operation());
    int exhausts = *(int *)argument, number = 0, got, failures = 0;

    require_ok(dbss_config_set_log(config, keep_record, &kept, NULL));
    work.ctx = new_context_from(config);
    work.id = "0123456789abcdef";
    if (download_to_memory(&work) != DBSS_ERR_NOT_FOUND || kept == NULL)
        return 3;
    limit_memory(256 * KIB);
    exhausts_memory = exhausts;
    exhaust_memory(NULL, NULL);
    /* A few times more than until the first NULL. */
    while (number < MOST && failures < 1000) {
        errors[number] = dbss_operation_error(work.operation);
        records[number] = dbss_log_record_copy(kept);
        logged[number] = dbss_log_record_error(kept);
        failures += errors[number] == NULL || records[number] == NULL || logged[number] == NULL;
        number++;
    }
    got = number - failures;
    if (failures < 1000 || (exhausts ? got > 0 : got < 10))
        return 5;
    while (number-- > 0) {
        dbss_error_free(errors[number]);
        dbss_error_free(logged[number]);
        dbss_log_record_free(records[number]);
    }
    if (exhausts)
        return 0;
    return dbss_operation_error(work.operation) != NULL && dbss_log_record_copy(kept) != NULL
                   && dbss_log_record_error(kept) != NULL
               ? 0
               : 6;
}

/* Getters that return copies return NULL without memory. */
NAMED_CHECK(copy_without_memory_is_null, LOAD)
{
    for (int exhausts = 0; exhausts < 2; exhausts++)
        CHECK(run_child(copy_until_exhausted, &exhausts) == 0);
}

/* Keeps the errors of many calls without memory. */
static int keep_errors(void *unused)
{
    enum { MANY = 3000 };
    static dbss_error *errors[MANY];
    static struct work works[MANY];

    for (int i = 0; i < MANY; i++) {
        works[i] = of_report;
        require_ok(dbss_operation_new(&works[i].operation));
    }
    if (download_to_memory(&works[0]) != DBSS_OK)
        return 3;
    fail_allocations_from(1);
    for (int i = 0; i < MANY; i++) {
        if (download_to_memory(&works[i]) != DBSS_ERR_OUT_OF_MEMORY)
            return 4;
        errors[i] = dbss_error_take();
        if (errors[i] == NULL || dbss_error_status(errors[i]) != DBSS_ERR_OUT_OF_MEMORY
            || *dbss_error_message(errors[i]) == 0)
            return 5;
    }
    fail_allocations_from(0);
    if (download_to_memory(&works[0]) != DBSS_OK)
        return 6;
    for (int i = 0; i < MANY; i++) {
        dbss_error_free(errors[i]);
        dbss_operation_free(works[i].operation);
    }
    return 0;
}

/* Kept errors do not use up the reserve of later calls. */
NAMED_CHECK(kept_errors_use_up_no_reserve, LOAD)
{
    if (!can_fail_allocations()) {
        skip_check("malloc() cannot be replaced here");
        return;
    }
    set_up();
    CHECK(run_child(keep_errors, NULL) == 0);
}

/* A quotation mark in a JSON string, for a body of JSON. */
#define Q "\\\""

/* In a child: what the call needs, beyond what its process has; -1 where it ends
 * otherwise than expected. */
static int measure_call(void *argument)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    dbss_status expected = *(dbss_status *)argument, status;
    long before;
    if (file == NULL || fputs("5", file) < 0 || fclose(file) != 0)
        fatal("cannot write /proc/self/clear_refs");
#ifdef __GLIBC__
    /* Memory that this program freed earlier does not belong to the call. */
    malloc_trim(0);
#endif
    before = proc_status_value("VmRSS");
    status = make_scarce_call();
    if (status != expected)
        fprintf(stderr, "status %d: %s\n", (int)status, dbss_error_message(dbss_last_error()));
    *shared_number = status == expected ? proc_status_value("VmHWM") - before : -1;
    return 0;
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
NAMED_CHECK(response_body_memory_is_bounded, LOAD)
{
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
    static const struct scarce listing = {"list", list_reports, &of_instance, 1, 1};
    /* The limit of the mock service, including the escapes. */
    enum { SIZE = 10 * 1024 * 1024 };
    dbss_status expected;
    long needed;
    set_up();
    scarce = &listing;
    for (size_t i = 0; i < COUNT(bodies); i++) {
        post_repeated_body("@reports.list", 200, SIZE, bodies[i].open, bodies[i].part, bodies[i].close);
        expected = bodies[i].expected;
        *shared_number = -1;
        run_child(measure_call, &expected);
        needed = *shared_number;
        printf("amount %-24s %6ld KiB\n", bodies[i].what, needed);
        /* Plus a megabyte for the connection. */
        if (needed < 0 || needed > 4 * SIZE / KIB + 1024)
            fail_check("%s: %ld KiB", bodies[i].what, needed);
    }
}

static dbss_status hostile_download(const struct work *work)
{
    dbss_status status = download_to_memory(work);
    return status == DBSS_ERR_OUT_OF_MEMORY || status == DBSS_ERR_RESOURCE ? status : DBSS_OK;
}

/* Repeats the call in a child. Each time all allocations fail, from a later one
 * on. */
static int fail_from_each_allocation(void *unused)
{
    int has_failed = 1;
    if (make_scarce_call() != DBSS_OK)
        return OTHER;
    for (*failing_allocation = 1; has_failed; ++*failing_allocation) {
        fail_allocations_from(*failing_allocation);
        make_scarce_call();
        has_failed = has_failed_allocation();
        fail_allocation(0);
    }
    return SUCCESS;
}

/* Repeats a part. It is a format with a number and `size` letters. */
static char *repeat_part(const char *part, int count, size_t size)
{
    char *letters = malloc(size + 1), *all, *at;
    all = at = malloc((size_t)count * (strlen(part) + size + 16) + 1);
    if (letters == NULL || all == NULL)
        fatal("out of memory");
    memset(letters, 'a', size);
    letters[size] = 0;
    *at = 0;
    for (int i = 0; i < count; i++)
        at += sprintf(at, part, i, letters);
    free(letters);
    return all;
}

/* Whatever is long in a response, low memory ends no process. */
NAMED_CHECK(hostile_response_with_low_memory_ends_no_call, LOAD)
{
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
    static struct work work;
    static struct scarce hostile = {NULL, hostile_download, &work, 1, 1};
    /* By address, so that no look-up starts a thread. */
    set_up_at(text("http://127.0.0.1%s", strrchr(fixture("http"), ':')), 1);
    work = of_report;
    scarce = &hostile;
    for (size_t i = 0; i < COUNT(responses); i++) {
        char *headers = repeat_part(responses[i].header, responses[i].headers, responses[i].header_size);
        char *parts = repeat_part(responses[i].part, responses[i].parts, responses[i].part_size);
        int outcome;
        hostile.what = responses[i].what;
        work.id = add_report(10000);
        if (*headers != 0)
            headers[strlen(headers) - 1] = 0;
        post_fault(work.id, "\"times\": 1000, \"status\": %d, \"headers\": [%s], \"body\": \"%s%s%s\"",
                   responses[i].status, headers, responses[i].open, parts, responses[i].close);
        free(headers);
        free(parts);
        /* With and without existing buffers for the connection. */
        for (int how = 0; how < WAYS; how++)
            expect_clean_end(spare_for_hostile, COUNT(spare_for_hostile), how);
        if (!can_fail_allocations())
            continue;
        outcome = run_child(fail_from_each_allocation, NULL);
        if (outcome != SUCCESS)
            fail_check("%s, no memory from allocation %ld on: %d", responses[i].what, *failing_allocation, outcome);
    }
}
