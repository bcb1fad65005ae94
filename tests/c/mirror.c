/* A local archive of reports: options, runs and their results, locks, cancel,
 * progress, and other actions during a run. See checks.h for how to run the checks. */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The limit for a cancelled run to end. */
#define END_LIMIT_MS 5000

/* ---------------------------------------------------------------------------
 * Instances, archives and runs
 * ------------------------------------------------------------------------ */

enum { MOST = 24 };

/* A new instance, its reports, and a directory for them. */
struct source {
    char *instance, *directory;
    const char *ids[MOST];
    char *hashes[MOST];
    size_t count;
    long long bytes;
};

/* Adds a report. `more` holds further JSON fields, each after a comma. */
static void add_report_to(struct source *source, long long size, const char *more)
{
    const char *id = fresh_id();
    char *body = format("{\"id\": \"%s\", \"format\": \"pdf\", \"size\": %lld, \"instance\": \"%s\"%s}", id, size,
                        source->instance, more);
    char *response = control("POST", "/reports", body), *hash = strstr(response, "\"sha256\"");

    hash = hash == NULL ? NULL : strstr(hash, "\"en-us\":");
    if (hash == NULL || source->count == MOST)
        fatal("no hash of the report in %s", response);
    hash = strchr(hash + strlen("\"en-us\":"), '"') + 1;
    source->hashes[source->count] = format("%.64s", hash);
    source->ids[source->count++] = id;
    source->bytes += size;
    free(response);
    free(body);
}

static struct source new_source(size_t count, long long size)
{
    struct source source = {0};
    source.instance = add_instance();
    source.directory = new_directory();
    while (count-- > 0)
        add_report_to(&source, size, "");
    return source;
}

static void free_source(struct source *source)
{
    char *body = format("{\"ids\": [\"%s\"]}", source->instance);
    free(control("DELETE", "/instances", body));
    free(body);
    while (source->count > 0)
        free(source->hashes[--source->count]);
    remove_tree(source->directory);
    free(source->directory);
    free(source->instance);
}

static dbss_mirror_options *new_mirror(const char *instance)
{
    dbss_mirror_options *mirror = NULL;
    if (dbss_mirror_options_new(&mirror) != DBSS_OK || dbss_mirror_options_set(mirror, "instance", instance) != DBSS_OK)
        fatal("cannot create mirror options: %s", dbss_error_message(dbss_last_error()));
    return mirror;
}

/* A run, on this thread or, by start_run(), on another. */
struct run {
    dbss_context *ctx;
    const struct source *source;
    const char *directory; /* NULL: that of the source */
    dbss_operation *operation;
    dbss_mirror_options *mirror; /* NULL: the source's instance */

    dbss_status status;
    dbss_error *error;
    dbss_mirror_result *result;
    long long ended_ms;
    pthread_t thread;
};

static void *run_mirror(void *argument)
{
    struct run *run = argument;
    dbss_mirror_options *mirror = run->mirror != NULL ? run->mirror : new_mirror(run->source->instance);
    /* The call must set it in every case. */
    run->result = (dbss_mirror_result *)1;
    run->status = dbss_reports_mirror(run->ctx, fixture("project"),
                                      run->directory != NULL ? run->directory : run->source->directory, mirror,
                                      run->operation, &run->result);
    run->ended_ms = now_ms();
    CHECK(dbss_error_status(dbss_last_error()) == run->status);
    run->error = dbss_error_take();
    if (run->mirror == NULL)
        dbss_mirror_options_free(mirror);
    return NULL;
}

static void start_run(struct run *run)
{
    run->thread = start_thread(run_mirror, run);
}

static void free_run(struct run *run)
{
    dbss_error_free(run->error);
    dbss_mirror_result_free(run->result);
    run->error = NULL;
    run->result = NULL;
}

#define CHECK_RUN(expected, run) check_run(__LINE__, expected, run)

static void check_run(int line, dbss_status expected, const struct run *run)
{
    if (run->status != expected)
        fail_check("line %d: expected %s, got %s (%s)", line, dbss_status_name(expected), dbss_status_name(run->status),
                   dbss_error_message(run->error));
}

#define CHECK_COUNT(expected, result, name) check_count(__LINE__, expected, dbss_mirror_result_##name(result), #name)

static void check_count(int line, long long expected, long long count, const char *name)
{
    if (count != expected)
        fail_check("line %d: expected %lld %s, got %lld", line, expected, name, count);
}

/* The number of lines in a file of the archive. */
static int count_lines(const char *directory, const char *name)
{
    char *path = format("%s/%s", directory, name);
    size_t len, i;
    uint8_t *bytes = read_file(path, &len);
    int lines = 0;
    for (i = 0; bytes != NULL && i < len; i++)
        lines += bytes[i] == '\n';
    free(bytes);
    free(path);
    return lines;
}

/* Whether a file of the archive contains the text. */
static int file_contains(const char *directory, const char *name, const char *text)
{
    char *path = format("%s/%s", directory, name);
    size_t len;
    char *bytes = (char *)read_file(path, &len);
    int found;
    if (bytes != NULL)
        bytes[len] = '\0';
    found = bytes != NULL && strstr(bytes, text) != NULL;
    free(bytes);
    free(path);
    return found;
}

/* Expects all reports of the source in the archive. sha256sum checks their bytes. */
#define CHECK_ARCHIVE(source, directory) check_archive(__LINE__, source, directory)

static void check_archive(int line, const struct source *source, const char *directory)
{
    char *command = format("cd '%s' && sha256sum --check --quiet --strict SHA256SUMS", directory);
    size_t i;
    if (source->count > 0 && system(command) != 0)
        fail_check("line %d: the checksums are wrong", line);
    for (i = 0; i < source->count; i++)
        if (!file_contains(directory, "SHA256SUMS", source->hashes[i])
            || !file_contains(directory, "manifest.jsonl", source->ids[i]))
            fail_check("line %d: the archive lacks report %lu", line, (unsigned long)i);
    free(command);
}

/* Mirrors again, and expects a complete archive. */
static void mirror_completely(dbss_context *ctx, const struct source *source, const char *directory)
{
    struct run run = {0};
    run.ctx = ctx;
    run.source = source;
    run.directory = directory;
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT((long long)source->count, run.result, listed);
    CHECK_ARCHIVE(source, directory != NULL ? directory : source->directory);
    free_run(&run);
}

/* A gate in the progress callback of a run. It stops the run during its downloads,
 * until the gate is opened. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int reached, open;
};

static struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};

static int32_t wait_at_gate(void *id, const dbss_operation *operation)
{
    (void)operation;
    if (count_requests(id) == 0)
        return 0;
    pthread_mutex_lock(&gate.lock);
    gate.reached = 1;
    pthread_cond_broadcast(&gate.changed);
    while (!gate.open)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    return 0;
}

/* Starts the run, and returns when it waits at the gate. */
static void start_run_to_gate(struct run *run)
{
    gate.reached = gate.open = 0;
    run->operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(run->operation, wait_at_gate, (void *)run->source->ids[0], NULL));
    /* Long enough for a callback before the end. */
    post_fault(run->source->ids[0], "\"delay_ms\": 1500, \"times\": 1");
    start_run(run);
    pthread_mutex_lock(&gate.lock);
    while (!gate.reached)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static void open_gate(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.open = 1;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static void open_gate_and_join(struct run *run)
{
    open_gate();
    pthread_join(run->thread, NULL);
    dbss_operation_free(run->operation);
}

/* ---------------------------------------------------------------------------
 * Arguments and options
 * ------------------------------------------------------------------------ */

static void null_arguments_are_refused(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    dbss_mirror_options *mirror = new_mirror(fixture("instance"));
    dbss_mirror_result *result = (dbss_mirror_result *)1;
    dbss_buffer json = {(uint8_t *)1, 1};
    const char *project = fixture("project");

    EXPECT_NULL("out_options", dbss_mirror_options_new(NULL));
    EXPECT_NULL("options", dbss_mirror_options_set(NULL, "type", "x"));
    EXPECT_NULL("key", dbss_mirror_options_set(mirror, NULL, "x"));
    EXPECT_NULL("value", dbss_mirror_options_set(mirror, "type", NULL));
    EXPECT_NULL("ctx", dbss_reports_mirror(NULL, project, "nowhere", mirror, NULL, &result));
    CHECK(result == NULL);
    result = (dbss_mirror_result *)1;
    EXPECT_NULL("directory", dbss_reports_mirror(ctx, project, NULL, mirror, NULL, &result));
    CHECK(result == NULL);
    EXPECT_NULL("out_result", dbss_reports_mirror(ctx, project, "nowhere", mirror, NULL, NULL));
    EXPECT_NULL("result", dbss_mirror_result_json(NULL, &json));
    CHECK(json.data == NULL && json.len == 0);
    EXPECT_NULL("out_json", dbss_mirror_result_json(NULL, NULL));

    CHECK(dbss_mirror_result_listed(NULL) == 0 && dbss_mirror_result_failed(NULL) == 0);
    CHECK(dbss_mirror_result_failure_count(NULL) == 0 && dbss_mirror_result_gap_count(NULL) == 0);
    CHECK(dbss_mirror_result_failure_id(NULL, 0) == NULL && dbss_mirror_result_failure_instance(NULL, 0) == NULL);
    CHECK(dbss_mirror_result_failure_error(NULL, 0) == NULL);
    CHECK(dbss_mirror_result_gap_period(NULL, 0) == NULL && dbss_mirror_result_gap_type(NULL, 0) == NULL
          && dbss_mirror_result_gap_instance(NULL, 0) == NULL);
    dbss_mirror_options_free(NULL);
    dbss_mirror_result_free(NULL);
    CHECK(access("nowhere", F_OK) != 0);
    dbss_mirror_options_free(mirror);
    dbss_context_free(ctx);
}

static void mirror_options_are_checked(void)
{
    static const struct {
        const char *key, *value;
    } good[] = {
        {"instance", "9de847ba-9816-c8fc-2ed9-81d4dc9c4be2"},
        {"since", "2026-01-31"},
        {"until", "2024-02-29"},
        {"type", "AUDIT_REPORT_DAY"},
        {"template", "SOX"},
        {"name", "\xe6\x8a\xa5"},
        {"locale", "zh-cn"},
        {"parallel", "1"},
        {"parallel", "16"},
        {"verify", "true"},
        {"verify", "false"},
        {"utc_offset", "+08:00"},
        {"utc_offset", "-0330"},
        {"utc_offset", "+8"},
    };
    static const struct {
        const char *key, *value;
        dbss_status status;
    } bad[] = {
        {"instance", "a/b", DBSS_ERR_INVALID_ID},
        {"instance", "", DBSS_ERR_INVALID_ID},
        {"since", "2026-1-1", DBSS_ERR_INVALID_VALUE},
        {"since", "2026-13-01", DBSS_ERR_INVALID_VALUE},
        {"since", "2026-01-01T00:00:00Z", DBSS_ERR_INVALID_VALUE},
        {"since", "", DBSS_ERR_INVALID_VALUE},
        {"until", "yesterday", DBSS_ERR_INVALID_VALUE},
        {"until", "\xff", DBSS_ERR_INVALID_VALUE},
        {"type", "", DBSS_ERR_INVALID_VALUE},
        {"type", "\xff", DBSS_ERR_INVALID_UTF8},
        {"template", "", DBSS_ERR_INVALID_VALUE},
        {"name", "", DBSS_ERR_INVALID_VALUE},
        {"locale", "de-de", DBSS_ERR_INVALID_LOCALE},
        {"parallel", "0", DBSS_ERR_INVALID_VALUE},
        {"parallel", "17", DBSS_ERR_INVALID_VALUE},
        {"parallel", "-1", DBSS_ERR_INVALID_VALUE},
        {"parallel", "four", DBSS_ERR_INVALID_VALUE},
        {"verify", "yes", DBSS_ERR_INVALID_VALUE},
        {"verify", "", DBSS_ERR_INVALID_VALUE},
        {"utc_offset", "8", DBSS_ERR_INVALID_VALUE},
        {"utc_offset", "+15:00", DBSS_ERR_INVALID_VALUE},
        {"utc_offset", "CST", DBSS_ERR_INVALID_VALUE},
    };
    dbss_mirror_options *mirror = (dbss_mirror_options *)1;
    size_t i;

    EXPECT(DBSS_OK, dbss_mirror_options_new(&mirror));
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        EXPECT(DBSS_OK, dbss_mirror_options_set(mirror, good[i].key, good[i].value));
        add_failure_context("%s=%s", good[i].key, good[i].value);
    }
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT_PARAMETER(bad[i].status, bad[i].key, dbss_mirror_options_set(mirror, bad[i].key, bad[i].value));
        add_failure_context("%s=%s", bad[i].key, bad[i].value);
    }
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_mirror_options_set(mirror, "delete", "true"));
    CHECK(strstr(dbss_error_message(dbss_last_error()), "delete") != NULL);
    dbss_mirror_options_free(mirror);
}

static void filters_select_reports(void)
{
    static const struct {
        const char *key, *value;
        int listed;
    } cases[] = {
        {"since", "2026-03-02", 3}, {"until", "2026-03-02", 3}, {"type", "AUDIT_REPORT_WEEK", 1},
        {"template", "SOX", 2},     {"name", "needle", 1},      {"parallel", "1", 4},
        {"verify", "true", 4},
    };
    struct source source = new_source(0, 0);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_mirror_options *mirror;
    struct run run = {0};
    size_t i;

    add_report_to(&source, 6000, ", \"start_time\": \"2026-03-01 00:00:00\", \"type\": \"AUDIT_REPORT_DAY\"");
    add_report_to(&source, 6000, ", \"start_time\": \"2026-03-02 00:00:00\", \"type\": \"AUDIT_REPORT_WEEK\"");
    add_report_to(&source, 6000, ", \"start_time\": \"2026-03-03 00:00:00\", \"template_type\": \"SOX\"");
    /* Without a date it belongs to every range. */
    add_report_to(&source, 6000,
                  ", \"omit\": [\"start_time\", \"finish_time\"], \"template_type\": \"SOX\", \"name\": "
                  "\"a needle\"");
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *directory = new_directory();
        mirror = new_mirror(source.instance);
        EXPECT(DBSS_OK, dbss_mirror_options_set(mirror, cases[i].key, cases[i].value));
        run = (struct run){0};
        run.ctx = ctx;
        run.source = &source;
        run.mirror = mirror;
        run.directory = directory;
        run_mirror(&run);
        CHECK_RUN(DBSS_OK, &run);
        CHECK_COUNT(cases[i].listed, run.result, listed);
        CHECK_COUNT(cases[i].listed, run.result, downloaded);
        add_failure_context("%s=%s", cases[i].key, cases[i].value);
        free_run(&run);
        dbss_mirror_options_free(mirror);
        remove_tree(directory);
        free(directory);
    }
    mirror = new_mirror(source.instance);
    EXPECT(DBSS_OK, dbss_mirror_options_set(mirror, "locale", "zh-cn"));
    EXPECT(DBSS_OK, dbss_mirror_options_set(mirror, "type", "AUDIT_REPORT_WEEK"));
    run = (struct run){0};
    run.ctx = ctx;
    run.source = &source;
    run.mirror = mirror;
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(1, run.result, downloaded);
    CHECK(file_contains(source.directory, "SHA256SUMS", "_zh-cn.pdf"));
    CHECK(file_contains(source.directory, "manifest.jsonl", "\"locale\":\"zh-cn\""));
    free_run(&run);
    dbss_mirror_options_free(mirror);
    dbss_context_free(ctx);
    free_source(&source);
}

/* ---------------------------------------------------------------------------
 * Runs and results
 * ------------------------------------------------------------------------ */

static void run_twice(const char *endpoint)
{
    struct source source = new_source(7, 50000);
    dbss_context *ctx = new_context(endpoint);
    struct run run = {0};
    size_t i;

    run.ctx = ctx;
    run.source = &source;
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK(run.error == NULL);
    CHECK_COUNT(7, run.result, listed);
    CHECK_COUNT(7, run.result, downloaded);
    CHECK_COUNT(0, run.result, present);
    CHECK_ARCHIVE(&source, source.directory);
    CHECK(count_lines(source.directory, "manifest.jsonl") == 7);
    free_run(&run);

    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(0, run.result, downloaded);
    CHECK_COUNT(7, run.result, present);
    free_run(&run);
    for (i = 0; i < source.count; i++)
        CHECK(count_requests(source.ids[i]) == 1);

    add_report_to(&source, 6000, "");
    add_report_to(&source, 6000, ", \"percentum\": 40");
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(9, run.result, listed);
    CHECK_COUNT(1, run.result, downloaded);
    CHECK_COUNT(7, run.result, present);
    CHECK_COUNT(1, run.result, not_ready);
    CHECK(count_requests(source.ids[8]) == 0);
    free_run(&run);
    dbss_context_free(ctx);
    free_source(&source);
}

static void second_run_downloads_nothing(void)
{
    run_twice(fixture("http"));
}

static void second_run_downloads_nothing_tls(void)
{
    run_twice(fixture("https"));
}

/* Without options and operation, all instances are mirrored. */
static void default_options_mirror_all_instances(void)
{
    struct source source = new_source(1, 6000), other = new_source(1, 6000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_mirror_result *result;
    EXPECT(DBSS_OK, dbss_reports_mirror(ctx, fixture("project"), source.directory, NULL, NULL, &result));
    CHECK(dbss_mirror_result_downloaded(result) >= 2);
    CHECK_ARCHIVE(&source, source.directory);
    CHECK_ARCHIVE(&other, source.directory);
    dbss_mirror_result_free(result);
    dbss_context_free(ctx);
    free_source(&other);
    free_source(&source);
}

static void damaged_file_is_repaired(void)
{
    struct source source = new_source(2, 6000);
    dbss_context *ctx = new_context(fixture("http"));
    struct run run = {0};
    char *command =
        format("for f in '%s'/*/*/*%s*; do printf x | dd of=\"$f\" bs=1 seek=9 conv=notrunc status=none; done",
               source.directory, source.ids[1]);

    mirror_completely(ctx, &source, NULL);
    CHECK(system(command) == 0);
    run.ctx = ctx;
    run.source = &source;
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(0, run.result, repaired);
    free_run(&run);
    run.mirror = new_mirror(source.instance);
    EXPECT(DBSS_OK, dbss_mirror_options_set(run.mirror, "verify", "true"));
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(1, run.result, repaired);
    CHECK_COUNT(1, run.result, present);
    CHECK_ARCHIVE(&source, source.directory);
    free_run(&run);
    dbss_mirror_options_free(run.mirror);
    dbss_context_free(ctx);
    free(command);
    free_source(&source);
}

static int buffer_contains(const dbss_buffer *json, const char *text)
{
    char *copy = format("%.*s", (int)json->len, (const char *)json->data);
    int found = strstr(copy, text) != NULL;
    free(copy);
    return found;
}

static void failed_reports_give_partial_result(void)
{
#define COUNT(name)                                                                                                    \
    {                                                                                                                  \
        #name, dbss_mirror_result_##name                                                                               \
    }
    static const struct {
        const char *name;
        int64_t (*get)(const dbss_mirror_result *);
    } counts[] = {COUNT(listed),   COUNT(downloaded), COUNT(present), COUNT(not_ready),
                  COUNT(vanished), COUNT(failed),     COUNT(repaired)};
#undef COUNT
    struct source source = new_source(5, 6000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    struct run run = {0};
    dbss_error *first, *second, *of_operation;
    dbss_buffer json;
    char *text;
    size_t i;

    post_fault(source.ids[1], "\"status\": 500");
    post_fault(source.ids[3], "\"status\": 403");
    post_fault(source.ids[4], "\"status\": 404");
    run.ctx = ctx;
    run.source = &source;
    run.operation = operation;
    run_mirror(&run);
    CHECK_RUN(DBSS_ERR_PARTIAL, &run);
    CHECK(run.result != NULL);
    CHECK(dbss_status_group(run.status) == DBSS_ERR_SERVICE);
    CHECK(strstr(dbss_error_message(run.error), "2 of ") != NULL);
    of_operation = dbss_operation_error(operation);
    CHECK(dbss_error_status(of_operation) == DBSS_ERR_PARTIAL);
    dbss_error_free(of_operation);

    CHECK_COUNT(5, run.result, listed);
    CHECK_COUNT(2, run.result, downloaded);
    CHECK_COUNT(2, run.result, failed);
    CHECK_COUNT(1, run.result, vanished);
    CHECK(dbss_mirror_result_failure_count(run.result) == 2);
    for (i = 0; i < 2; i++) {
        const char *id = dbss_mirror_result_failure_id(run.result, i);
        dbss_error *error = dbss_mirror_result_failure_error(run.result, i);
        if (id == NULL) {
            fail_check("failure %lu has no id", (unsigned long)i);
            continue;
        }
        CHECK(strcmp(id, source.ids[1]) == 0 ? dbss_error_status(error) == DBSS_ERR_SERVER
                                             : dbss_error_status(error) == DBSS_ERR_FORBIDDEN);
        expect_text(__LINE__, source.instance, dbss_mirror_result_failure_instance(run.result, i));
        dbss_error_free(error);
    }
    CHECK(dbss_mirror_result_failure_id(run.result, 2) == NULL);
    CHECK(dbss_mirror_result_failure_instance(run.result, (size_t)-1) == NULL);
    CHECK(dbss_mirror_result_failure_error(run.result, 2) == NULL);

    EXPECT(DBSS_OK, dbss_mirror_result_json(run.result, &json));
    for (i = 0; i < sizeof counts / sizeof *counts; i++) {
        text = format("\"%s\":%lld", counts[i].name, (long long)counts[i].get(run.result));
        CHECK(buffer_contains(&json, text));
        free(text);
    }
    CHECK(buffer_contains(&json, "\"status_name\":\"DBSS_ERR_SERVER\"") && buffer_contains(&json, source.ids[3]));
    dbss_buffer_free(&json);

    /* The caller owns each error. It outlives the result. */
    first = dbss_mirror_result_failure_error(run.result, 0);
    second = dbss_mirror_result_failure_error(run.result, 0);
    dbss_error_free(first);
    free_run(&run);
    CHECK(dbss_error_status(second) != DBSS_OK && strlen(dbss_error_message(second)) > 0);
    dbss_error_free(second);

    /* The next run downloads the reports that failed. */
    free(control("DELETE", "/faults", ""));
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(3, run.result, downloaded);
    CHECK_COUNT(2, run.result, present);
    CHECK_ARCHIVE(&source, source.directory);
    free_run(&run);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_source(&source);
}

static void gaps_are_reported(void)
{
    struct source source = new_source(0, 0);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_buffer json;
    struct run run = {0};

    add_report_to(&source, 6000, ", \"start_time\": \"2026-02-27 00:00:00\", \"type\": \"AUDIT_REPORT_DAY\"");
    add_report_to(&source, 6000, ", \"start_time\": \"2026-03-02 00:00:00\", \"type\": \"AUDIT_REPORT_DAY\"");
    run.ctx = ctx;
    run.source = &source;
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK(dbss_mirror_result_gap_count(run.result) == 2);
    expect_text(__LINE__, "2026-02-28", dbss_mirror_result_gap_period(run.result, 0));
    expect_text(__LINE__, "2026-03-01", dbss_mirror_result_gap_period(run.result, 1));
    expect_text(__LINE__, "AUDIT_REPORT_DAY", dbss_mirror_result_gap_type(run.result, 1));
    expect_text(__LINE__, source.instance, dbss_mirror_result_gap_instance(run.result, 1));
    CHECK(dbss_mirror_result_gap_period(run.result, 2) == NULL && dbss_mirror_result_gap_type(run.result, 2) == NULL
          && dbss_mirror_result_gap_instance(run.result, (size_t)-1) == NULL);
    EXPECT(DBSS_OK, dbss_mirror_result_json(run.result, &json));
    CHECK(buffer_contains(&json, "\"period\":\"2026-03-01\""));
    dbss_buffer_free(&json);
    free_run(&run);
    dbss_context_free(ctx);
    free_source(&source);
}

static dbss_mirror_result *shared_result;

static void *read_result(void *unused)
{
    int i;
    (void)unused;
    for (i = 0; i < 100; i++) {
        dbss_error *error = dbss_mirror_result_failure_error(shared_result, 0);
        dbss_buffer json;
        CHECK(dbss_mirror_result_failed(shared_result) == 1);
        CHECK(dbss_mirror_result_failure_id(shared_result, 0) != NULL);
        CHECK(dbss_error_status(error) == DBSS_ERR_SERVER);
        EXPECT(DBSS_OK, dbss_mirror_result_json(shared_result, &json));
        dbss_buffer_free(&json);
        dbss_error_free(error);
    }
    return NULL;
}

static void *free_result(void *unused)
{
    (void)unused;
    dbss_mirror_result_free(shared_result);
    return NULL;
}

static void result_shared_by_threads(void)
{
    struct source source = new_source(1, 6000);
    struct run run = {0};
    pthread_t threads[4];
    int i;

    post_fault(source.ids[0], "\"status\": 500, \"times\": 1");
    run.ctx = new_context(fixture("http"));
    run.source = &source;
    run_mirror(&run);
    CHECK_RUN(DBSS_ERR_PARTIAL, &run);
    dbss_context_free(run.ctx);
    shared_result = run.result;
    for (i = 0; i < 4; i++)
        threads[i] = start_thread(read_result, NULL);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    run_in_thread(free_result, NULL);
    run.result = NULL;
    free_run(&run);
    free_source(&source);
}

/* A run that is rejected at the start has no result. */
static void rejected_run_has_no_result(void)
{
    struct source source = new_source(1, 6000);
    dbss_context *ctx = new_context(fixture("http"));
    dbss_operation *operation = new_operation();
    dbss_mirror_options *mirror = new_mirror(source.instance);
    dbss_mirror_result *result = (dbss_mirror_result *)1;
    char *file = format("%s/file", source.directory);

    EXPECT_PARAMETER(DBSS_ERR_INVALID_ID, "project",
                     dbss_reports_mirror(ctx, "a/b", source.directory, mirror, NULL, &result));
    CHECK(result == NULL);
    result = (dbss_mirror_result *)1;
    EXPECT_PARAMETER(DBSS_ERR_INVALID_UTF8, "project",
                     dbss_reports_mirror(ctx, "\xff", source.directory, mirror, NULL, &result));
    CHECK(result == NULL);
    result = (dbss_mirror_result *)1;
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "directory",
                     dbss_reports_mirror(ctx, fixture("project"), "", mirror, NULL, &result));
    CHECK(result == NULL);
    write_file(file, "");
    EXPECT(DBSS_ERR_FILE, dbss_reports_mirror(ctx, fixture("project"), file, mirror, NULL, &result));
    CHECK(result == NULL);
    dbss_operation_cancel(operation);
    result = (dbss_mirror_result *)1;
    EXPECT(DBSS_ERR_CANCELLED,
           dbss_reports_mirror(ctx, fixture("project"), source.directory, mirror, operation, &result));
    CHECK(result == NULL);
    CHECK(count_requests(source.ids[0]) == 0);
    CHECK(count_entries(source.directory) == 1);
    dbss_mirror_options_free(mirror);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free(file);
    free_source(&source);
}

/* ---------------------------------------------------------------------------
 * Locks
 * ------------------------------------------------------------------------ */

static void expect_locked(int line, dbss_context *ctx, const struct source *source)
{
    struct run run = {0};
    run.ctx = ctx;
    run.source = source;
    run_mirror(&run);
    check_run(line, DBSS_ERR_MIRROR_LOCKED, &run);
    if (run.result != NULL)
        fail_check("line %d: a rejected run has a result", line);
    free_run(&run);
}

static void directory_locked_by_another_thread(void)
{
    struct source source = new_source(3, 6000);
    dbss_context *ctx = new_context(fixture("http"));
    struct run run = {0};

    run.ctx = ctx;
    run.source = &source;
    start_run_to_gate(&run);
    expect_locked(__LINE__, ctx, &source);
    open_gate_and_join(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(3, run.result, downloaded);
    free_run(&run);
    mirror_completely(ctx, &source, NULL);
    dbss_context_free(ctx);
    free_source(&source);
}

static int run_in_another_process(void *source)
{
    struct run run = {0};
    run.ctx = new_context(fixture("http"));
    run.source = source;
    run_mirror(&run);
    return 1;
}

static void directory_locked_by_another_process(void)
{
    struct source source = new_source(3, 6000);
    dbss_context *ctx;
    pid_t child;

    post_fault(source.ids[1], "\"no_answer\": true, \"times\": 1");
    child = start_child(run_in_another_process, &source);
    ctx = new_context(fixture("http"));
    CHECK(wait_for_request(source.ids[1]));
    expect_locked(__LINE__, ctx, &source);
    /* The death of the process releases the lock. The next run continues. */
    kill(child, SIGKILL);
    CHECK(wait_for_child(child) == -SIGKILL);
    mirror_completely(ctx, &source, NULL);
    CHECK(count_lines(source.directory, "manifest.jsonl") == 3);
    dbss_context_free(ctx);
    free_source(&source);
}

/* ---------------------------------------------------------------------------
 * Cancel and progress
 * ------------------------------------------------------------------------ */

enum end { BY_OPERATION, BY_CONTEXT };

static void cancel_by(enum end end)
{
    struct source source = new_source(6, 6000);
    dbss_context *ctx = new_context(fixture("http"));
    struct run run = {0};
    long long cancelled_ms;
    int descriptors, lines;

    mirror_completely(ctx, &source, NULL);
    descriptors = for_each_descriptor(NULL);
    add_report_to(&source, 6000, "");
    add_report_to(&source, 6000, "");
    post_fault(source.ids[6], "\"no_answer\": true, \"times\": 1");
    run.ctx = ctx;
    run.source = &source;
    run.operation = new_operation();
    start_run(&run);
    CHECK(wait_for_request(source.ids[6]));
    WAIT_FOR(count_lines(source.directory, "manifest.jsonl") == 7);
    cancelled_ms = now_ms();
    if (end == BY_OPERATION)
        dbss_operation_cancel(run.operation);
    else
        dbss_context_cancel_all(ctx);
    pthread_join(run.thread, NULL);
    CHECK_RUN(DBSS_ERR_CANCELLED, &run);
    CHECK(run.ended_ms - cancelled_ms < END_LIMIT_MS);
    /* The result covers the run until the cancel. */
    CHECK(run.result != NULL);
    CHECK_COUNT(8, run.result, listed);
    CHECK_COUNT(1, run.result, downloaded);
    CHECK_COUNT(6, run.result, present);
    CHECK_COUNT(0, run.result, failed);
    free_run(&run);
    dbss_operation_free(run.operation);
    lines = count_lines(source.directory, "SHA256SUMS");
    CHECK(lines == 7);
    mirror_completely(ctx, &source, NULL);
    dbss_context_free(ctx);
    ctx = new_context(fixture("http"));
    mirror_completely(ctx, &source, NULL);
    CHECK(for_each_descriptor(NULL) <= descriptors);
    dbss_context_free(ctx);
    free_source(&source);
}

static void run_cancelled_by_operation(void)
{
    cancel_by(BY_OPERATION);
}

static void run_cancelled_by_context(void)
{
    cancel_by(BY_CONTEXT);
}

static int32_t stop_now(void *calls, const dbss_operation *operation)
{
    (void)operation;
    ++*(int *)calls;
    return 1;
}

static void run_cancelled_by_callback(void)
{
    struct source source = new_source(3, 6000);
    dbss_context *ctx = new_context(fixture("http"));
    struct run run = {0};
    int calls = 0;

    post_fault(source.ids[0], "\"no_answer\": true, \"times\": 1");
    run.ctx = ctx;
    run.source = &source;
    run.operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(run.operation, stop_now, &calls, NULL));
    run_mirror(&run);
    CHECK_RUN(DBSS_ERR_CANCELLED, &run);
    CHECK(calls == 1);
    free_run(&run);
    dbss_operation_free(run.operation);
    free(control("DELETE", "/faults", ""));
    mirror_completely(ctx, &source, NULL);
    dbss_context_free(ctx);
    free_source(&source);
}

struct seen {
    int calls, percent;
    long long received, most;
    pthread_t thread;
    const char *wrong;
};

static int32_t check_progress(void *user_data, const dbss_operation *operation)
{
    struct seen *seen = user_data;
    long long received = dbss_operation_received(operation);
    int percent = dbss_operation_percent(operation);
    if (percent < seen->percent || percent > 100)
        seen->wrong = "percentage";
    if (received < seen->received || received > seen->most)
        seen->wrong = "bytes";
    if (seen->calls > 0 && !pthread_equal(seen->thread, pthread_self()))
        seen->wrong = "thread";
    seen->thread = pthread_self();
    seen->calls++;
    seen->percent = percent;
    seen->received = received;
    return 0;
}

static void progress_never_goes_back(void)
{
    struct source source = new_source(16, 200000);
    struct seen seen = {0};
    struct run run = {0};
    size_t i;

    for (i = 0; i < source.count; i++)
        post_fault(source.ids[i], "\"drip\": {\"bytes\": 20000, \"every_ms\": 10}, \"times\": 1");
    seen.percent = -1;
    seen.most = source.bytes;
    run.ctx = new_context(fixture("http"));
    run.source = &source;
    run.operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(run.operation, check_progress, &seen, NULL));
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    if (seen.wrong != NULL)
        fail_check("%s: went back or beyond the maximum", seen.wrong);
    CHECK(seen.calls > 1);
    CHECK(dbss_operation_received(run.operation) == source.bytes);
    CHECK(dbss_operation_percent(run.operation) == 100);
    free_run(&run);
    dbss_operation_free(run.operation);
    dbss_context_free(run.ctx);
    free_source(&source);
}

/* ---------------------------------------------------------------------------
 * Other actions during a run
 * ------------------------------------------------------------------------ */

static void context_freed_during_run_lets_it_finish(void)
{
    struct source source = new_source(6, 6000);
    struct run run = {0};
    dbss_context *ctx = new_context(fixture("http"));

    run.ctx = ctx;
    run.source = &source;
    run.mirror = new_mirror(source.instance);
    start_run_to_gate(&run);
    /* Changed options apply to the next run only. */
    EXPECT(DBSS_OK, dbss_mirror_options_set(run.mirror, "instance", fixture("instance")));
    dbss_mirror_options_free(run.mirror);
    dbss_context_free(ctx);
    open_gate_and_join(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(6, run.result, downloaded);
    CHECK_ARCHIVE(&source, source.directory);
    free_run(&run);
    free_source(&source);
}

static void busy_operation_is_refused(void)
{
    struct source source = new_source(2, 6000), other = new_source(1, 6000);
    struct run run = {0}, second = {0};

    run.ctx = second.ctx = new_context(fixture("http"));
    run.source = &source;
    second.source = &other;
    start_run_to_gate(&run);
    second.operation = run.operation;
    run_mirror(&second);
    CHECK_RUN(DBSS_ERR_BUSY, &second);
    CHECK(second.result == NULL);
    free_run(&second);
    open_gate_and_join(&run);
    CHECK_RUN(DBSS_OK, &run);
    free_run(&run);
    dbss_context_free(run.ctx);
    free_source(&other);
    free_source(&source);
}

static const struct source *inherited_source;
static dbss_context *inherited_context;
static char *child_directory;

static void mirror_in_child(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    mirror_completely(ctx, inherited_source, child_directory);
    dbss_context_free(ctx);
    remove_tree(child_directory);
    if (mkdir(child_directory, 0700) != 0)
        fail_check("cannot create the directory");
    /* The inherited context works here too. */
    mirror_completely(inherited_context, inherited_source, child_directory);
}

/* The process forks while one of its threads mirrors. */
static void fork_during_run(void)
{
    struct source source = new_source(5, 6000);
    struct run run = {0};

    run.ctx = inherited_context = new_context(fixture("http"));
    run.source = inherited_source = &source;
    child_directory = new_directory();
    start_run_to_gate(&run);
    run_in_child(mirror_in_child);
    open_gate_and_join(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(5, run.result, downloaded);
    CHECK_ARCHIVE(&source, source.directory);
    free_run(&run);
    dbss_context_free(run.ctx);
    remove_tree(child_directory);
    free(child_directory);
    free_source(&source);
}

static int wait_for_signal(void *unused)
{
    (void)unused;
    for (;;)
        pause();
    return 0;
}

/* A running child does not keep the directory locked. */
static void fork_during_run_keeps_no_lock(void)
{
    struct source source = new_source(2, 6000);
    struct run run = {0};
    pid_t child;

    run.ctx = new_context(fixture("http"));
    run.source = &source;
    start_run_to_gate(&run);
    child = start_child(wait_for_signal, NULL);
    open_gate_and_join(&run);
    CHECK_RUN(DBSS_OK, &run);
    free_run(&run);
    mirror_completely(run.ctx, &source, NULL);
    kill(child, SIGKILL);
    wait_for_child(child);
    dbss_context_free(run.ctx);
    free_source(&source);
}

/* A process with a run at the gate, which reports the id of its own child. */
struct locking_process {
    const struct source *source;
    int fd;
};

/* Says that it runs: only then has it released what it inherited. */
static int announce_and_wait(void *argument)
{
    const struct locking_process *process = argument;
    pid_t self = getpid();
    if (write(process->fd, &self, sizeof self) != (ssize_t)sizeof self)
        return 1;
    return wait_for_signal(NULL);
}

static int lock_and_fork(void *argument)
{
    const struct locking_process *process = argument;
    struct run run = {0};
    run.ctx = new_context(fixture("http"));
    run.source = process->source;
    start_run_to_gate(&run);
    if (start_child(announce_and_wait, argument) < 0)
        return 1;
    return wait_for_signal(NULL);
}

/* The lock is released when its process dies, though a child of it still runs. */
static void lock_released_when_process_dies(void)
{
    struct source source = new_source(2, 6000);
    struct run run = {0};
    struct locking_process process = {&source, -1};
    int ends[2];
    pid_t child, grandchild = 0;

    run.ctx = new_context(fixture("http"));
    run.source = &source;
    if (pipe(ends) != 0)
        fatal("cannot create a pipe");
    process.fd = ends[1];
    child = start_child(lock_and_fork, &process);
    if (read(ends[0], &grandchild, sizeof grandchild) != (ssize_t)sizeof grandchild)
        fatal("cannot read the id of the grandchild");
    run_mirror(&run);
    CHECK_RUN(DBSS_ERR_MIRROR_LOCKED, &run);
    free_run(&run);
    kill(child, SIGKILL);
    wait_for_child(child);
    CHECK(kill(grandchild, 0) == 0);
    free(control("DELETE", "/faults", ""));
    mirror_completely(run.ctx, &source, NULL);
    CHECK(kill(grandchild, SIGKILL) == 0);
    close(ends[0]);
    close(ends[1]);
    dbss_context_free(run.ctx);
    free_source(&source);
}

/* One of several concurrent runs on one context is cancelled. */
static void concurrent_runs_are_independent(void)
{
    enum { RUNS = 4 };
    struct source sources[RUNS];
    struct run runs[RUNS] = {{0}};
    dbss_context *ctx = new_context(fixture("http"));
    int i;

    for (i = 0; i < RUNS; i++) {
        sources[i] = new_source(6, 30000);
        post_fault(sources[i].ids[0], "\"drip\": {\"bytes\": 10000, \"every_ms\": 20}, \"times\": 1");
        runs[i].ctx = ctx;
        runs[i].source = &sources[i];
        runs[i].operation = new_operation();
    }
    post_fault(sources[0].ids[5], "\"no_answer\": true, \"times\": 1");
    for (i = 0; i < RUNS; i++)
        start_run(&runs[i]);
    CHECK(wait_for_request(sources[0].ids[5]));
    dbss_operation_cancel(runs[0].operation);
    for (i = 0; i < RUNS; i++) {
        pthread_join(runs[i].thread, NULL);
        CHECK_RUN(i == 0 ? DBSS_ERR_CANCELLED : DBSS_OK, &runs[i]);
        if (i > 0)
            CHECK_ARCHIVE(&sources[i], sources[i].directory);
        free_run(&runs[i]);
        dbss_operation_free(runs[i].operation);
    }
    mirror_completely(ctx, &sources[0], NULL);
    dbss_context_free(ctx);
    for (i = 0; i < RUNS; i++)
        free_source(&sources[i]);
}

/* ---------------------------------------------------------------------------
 * Descriptors
 * ------------------------------------------------------------------------ */

static struct source streams_source;
static struct report streams_report;
static int closed_stream_checks;

/* A host that prints to standard streams that it closed. */
static void print_to_closed_streams(void)
{
    static const char text[] = "what a host prints\n";
    int fd;
    closed_stream_checks++;
    for (fd = 0; fd <= 2; fd++)
        if (write(fd, text, sizeof text - 1) != -1)
            fail_check("descriptor %d takes what a host prints", fd);
}

static int32_t print_progress(void *userdata, const dbss_operation *operation)
{
    (void)userdata;
    (void)operation;
    print_to_closed_streams();
    return 0;
}

static void print_log(void *userdata, const dbss_log_record *record)
{
    (void)userdata;
    (void)record;
    print_to_closed_streams();
}

static void work_with_closed_streams(void)
{
    struct run run = {0};
    dbss_config *config = new_config(fixture("https"), fixture("token"));
    dbss_context *ctx;
    char *path = format("%s/one.pdf", streams_source.directory);

    fflush(NULL);
    close(0);
    close(1);
    close(2);
    set_option(config, "ca_file", fixture("ca_file"));
    set_option(config, "max_attempts", "3");
    EXPECT(DBSS_OK, dbss_config_set_log(config, print_log, NULL, NULL));
    ctx = context_from(config);
    run.operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(run.operation, print_progress, NULL, NULL));
    EXPECT(DBSS_OK, dbss_report_download_to_file(ctx, fixture("project"), fixture("instance"), streams_report.id, NULL,
                                                 path, 0, run.operation));
    run.ctx = ctx;
    run.source = &streams_source;
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(5, run.result, downloaded);
    print_to_closed_streams();
    CHECK(closed_stream_checks > 10);
}

static void closed_standard_streams_are_not_reused(void)
{
    char *path;
    size_t len;
    uint8_t *bytes;

    streams_source = new_source(5, 300000);
    streams_report = new_report(400000);
    path = format("%s/one.pdf", streams_source.directory);
    /* The cut causes a warning in the log. */
    post_fault(streams_report.id, "\"cut_after\": 1000, \"times\": 1");
    run_in_child(work_with_closed_streams);
    bytes = read_file(path, &len);
    CHECK(bytes != NULL && len == streams_report.len && memcmp(bytes, streams_report.bytes, len) == 0);
    CHECK_ARCHIVE(&streams_source, streams_source.directory);
    CHECK(count_lines(streams_source.directory, "manifest.jsonl") == 5);
    CHECK(count_lines(streams_source.directory, ".dbss-mirror.lock") == 0);
    free(bytes);
    free(path);
    free_report(&streams_report);
    free_source(&streams_source);
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"null_arguments_are_refused", null_arguments_are_refused, PLAIN},
    {"mirror_options_are_checked", mirror_options_are_checked, PLAIN},
    {"filters_select_reports", filters_select_reports, PLAIN},
    {"second_run_downloads_nothing", second_run_downloads_nothing, PLAIN},
    {"second_run_downloads_nothing_tls", second_run_downloads_nothing_tls, TLS},
    {"default_options_mirror_all_instances", default_options_mirror_all_instances, PLAIN},
    {"damaged_file_is_repaired", damaged_file_is_repaired, PLAIN},
    {"failed_reports_give_partial_result", failed_reports_give_partial_result, PLAIN},
    {"gaps_are_reported", gaps_are_reported, PLAIN},
    {"result_shared_by_threads", result_shared_by_threads, PLAIN},
    {"rejected_run_has_no_result", rejected_run_has_no_result, PLAIN},
    {"directory_locked_by_another_thread", directory_locked_by_another_thread, PLAIN},
    {"directory_locked_by_another_process", directory_locked_by_another_process, LOAD},
    {"run_cancelled_by_operation", run_cancelled_by_operation, PLAIN},
    {"run_cancelled_by_context", run_cancelled_by_context, PLAIN},
    {"run_cancelled_by_callback", run_cancelled_by_callback, PLAIN},
    {"progress_never_goes_back", progress_never_goes_back, PLAIN},
    {"context_freed_during_run_lets_it_finish", context_freed_during_run_lets_it_finish, PLAIN},
    {"busy_operation_is_refused", busy_operation_is_refused, PLAIN},
    {"fork_during_run", fork_during_run, LOAD},
    {"fork_during_run_keeps_no_lock", fork_during_run_keeps_no_lock, LOAD},
    {"lock_released_when_process_dies", lock_released_when_process_dies, LOAD},
    {"concurrent_runs_are_independent", concurrent_runs_are_independent, LOAD},
    {"closed_standard_streams_are_not_reused", closed_standard_streams_are_not_reused, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
