/* A local archive of reports through the C ABI: options, runs and their results,
 * locks, cancel, progress, and what happens beside a run that is under way. */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* No call that was told to end takes longer. */
#define BOUND_MS 5000

/* ---------------------------------------------------------------------------
 * Instances, archives and runs
 * ------------------------------------------------------------------------ */

enum { MOST = 24 };

/* An instance of its own, its reports, and a directory for them. */
struct source {
    char *instance, *directory;
    const char *ids[MOST];
    char *hashes[MOST];
    size_t count;
    long long bytes;
};

static char *add_instance(void)
{
    char *id = format("instance-%s", fresh_id());
    char *body = format("{\"id\": \"%s\", \"name\": \"mirrored\"}", id);
    free(control("POST", "/instances", body));
    free(body);
    return id;
}

/* Adds a report to it; `more` are further fields of JSON, each after a comma. */
static void add_to(struct source *source, long long size, const char *more)
{
    const char *id = fresh_id();
    char *body = format("{\"id\": \"%s\", \"format\": \"pdf\", \"size\": %lld, \"instance\": \"%s\"%s}", id, size,
                        source->instance, more);
    char *answer = control("POST", "/reports", body), *hash = strstr(answer, "\"sha256\"");

    hash = hash == NULL ? NULL : strstr(hash, "\"en-us\":");
    if (hash == NULL || source->count == MOST)
        fatal("no hash of the report in %s", answer);
    hash = strchr(hash + strlen("\"en-us\":"), '"') + 1;
    source->hashes[source->count] = format("%.64s", hash);
    source->ids[source->count++] = id;
    source->bytes += size;
    free(answer);
    free(body);
}

static struct source new_source(size_t count, long long size)
{
    struct source source = {0};
    source.instance = add_instance();
    source.directory = new_directory();
    while (count-- > 0)
        add_to(&source, size, "");
    return source;
}

static void remove_tree(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char *inside = format("%s/%s", path, entry->d_name);
        struct stat found;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            if (lstat(inside, &found) == 0 && S_ISDIR(found.st_mode))
                remove_tree(inside);
            else if (unlink(inside) != 0)
                failed("cannot remove %s", inside);
        }
        free(inside);
    }
    if (directory != NULL)
        closedir(directory);
    if (rmdir(path) != 0)
        failed("cannot remove %s", path);
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
        fatal("no mirror: %s", dbss_error_message(dbss_last_error()));
    return mirror;
}

/* A run; on this thread, or by start_run() on its own. */
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
    /* It is set in every case. */
    run->result = (dbss_mirror_result *)1;
    run->status = dbss_reports_mirror(run->ctx, fact("project"),
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

static void end_run(struct run *run)
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
        failed("line %d: expected %s, got %s (%s)", line, dbss_status_name(expected), dbss_status_name(run->status),
               dbss_error_message(run->error));
}

#define CHECK_COUNT(expected, result, name) check_count(__LINE__, expected, dbss_mirror_result_##name(result), #name)

static void check_count(int line, long long expected, long long count, const char *name)
{
    if (count != expected)
        failed("line %d: expected %lld %s, got %lld", line, expected, name, count);
}

/* The number of reports that the archive has by its manifest. */
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

/* Whether a file of the archive holds the text. */
static int holds(const char *directory, const char *name, const char *text)
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

/* The archive has all reports of the source, whole, by the judgement of others. */
#define CHECK_ARCHIVE(source, directory) check_archive(__LINE__, source, directory)

static void check_archive(int line, const struct source *source, const char *directory)
{
    char *command = format("cd '%s' && sha256sum --check --quiet --strict SHA256SUMS", directory);
    size_t i;
    if (source->count > 0 && system(command) != 0)
        failed("line %d: the checksums are wrong", line);
    for (i = 0; i < source->count; i++)
        if (!holds(directory, "SHA256SUMS", source->hashes[i]) || !holds(directory, "manifest.jsonl", source->ids[i]))
            failed("line %d: the archive lacks report %lu", line, (unsigned long)i);
    free(command);
}

/* Brings the archive up to date, with everything in it afterwards. */
static void complete(dbss_context *ctx, const struct source *source, const char *directory)
{
    struct run run = {0};
    run.ctx = ctx;
    run.source = source;
    run.directory = directory;
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT((long long)source->count, run.result, listed);
    CHECK_ARCHIVE(source, directory != NULL ? directory : source->directory);
    end_run(&run);
}

/* A gate that a run's progress callback goes through: it holds the run in its
 * middle, with downloads under way, until the gate is open. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int reached, open;
};

static struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};

static int32_t go_through(void *id, const dbss_operation *operation)
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

/* Starts the run, and returns when it stands at the gate. */
static void start_to_gate(struct run *run)
{
    gate.reached = gate.open = 0;
    run->operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(run->operation, go_through, (void *)run->source->ids[0], NULL));
    /* So long that the callback is called before the end. */
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

static void null_arguments(void)
{
    dbss_context *ctx = new_context(fact("http"));
    dbss_mirror_options *mirror = new_mirror(fact("instance"));
    dbss_mirror_result *result = (dbss_mirror_result *)1;
    dbss_buffer json = {(uint8_t *)1, 1};
    const char *project = fact("project");

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

static void options_are_checked(void)
{
    static const struct { const char *key, *value; } good[] = {
        {"instance", "9de847ba-9816-c8fc-2ed9-81d4dc9c4be2"}, {"since", "2026-01-31"}, {"until", "2024-02-29"}, {"type", "AUDIT_REPORT_DAY"},
        {"template", "SOX"}, {"name", "\xe6\x8a\xa5"}, {"locale", "zh-cn"}, {"parallel", "1"}, {"parallel", "16"},
        {"verify", "true"}, {"verify", "false"}, {"utc_offset", "+08:00"}, {"utc_offset", "-0330"}, {"utc_offset", "+8"},
    };
    static const struct { const char *key, *value; dbss_status status; } bad[] = {
        {"instance", "a/b", DBSS_ERR_INVALID_ID}, {"instance", "", DBSS_ERR_INVALID_ID},
        {"since", "2026-1-1", DBSS_ERR_INVALID_VALUE}, {"since", "2026-13-01", DBSS_ERR_INVALID_VALUE},
        {"since", "2026-01-01T00:00:00Z", DBSS_ERR_INVALID_VALUE}, {"since", "", DBSS_ERR_INVALID_VALUE},
        {"until", "yesterday", DBSS_ERR_INVALID_VALUE}, {"until", "\xff", DBSS_ERR_INVALID_VALUE},
        {"type", "", DBSS_ERR_INVALID_VALUE}, {"type", "\xff", DBSS_ERR_INVALID_UTF8},
        {"template", "", DBSS_ERR_INVALID_VALUE}, {"name", "", DBSS_ERR_INVALID_VALUE},
        {"locale", "de-de", DBSS_ERR_INVALID_LOCALE}, {"parallel", "0", DBSS_ERR_INVALID_VALUE},
        {"parallel", "17", DBSS_ERR_INVALID_VALUE}, {"parallel", "-1", DBSS_ERR_INVALID_VALUE},
        {"parallel", "four", DBSS_ERR_INVALID_VALUE}, {"verify", "yes", DBSS_ERR_INVALID_VALUE},
        {"verify", "", DBSS_ERR_INVALID_VALUE}, {"utc_offset", "8", DBSS_ERR_INVALID_VALUE},
        {"utc_offset", "+15:00", DBSS_ERR_INVALID_VALUE}, {"utc_offset", "CST", DBSS_ERR_INVALID_VALUE},
    };
    dbss_mirror_options *mirror = (dbss_mirror_options *)1;
    size_t i;

    EXPECT(DBSS_OK, dbss_mirror_options_new(&mirror));
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        EXPECT(DBSS_OK, dbss_mirror_options_set(mirror, good[i].key, good[i].value));
        blame("%s=%s", good[i].key, good[i].value);
    }
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT_PARAMETER(bad[i].status, bad[i].key, dbss_mirror_options_set(mirror, bad[i].key, bad[i].value));
        blame("%s=%s", bad[i].key, bad[i].value);
    }
    EXPECT_PARAMETER(DBSS_ERR_UNKNOWN_KEY, "key", dbss_mirror_options_set(mirror, "delete", "true"));
    CHECK(strstr(dbss_error_message(dbss_last_error()), "delete") != NULL);
    dbss_mirror_options_free(mirror);
}

static void filters(void)
{
    static const struct { const char *key, *value; int listed; } cases[] = {
        {"since", "2026-03-02", 3}, {"until", "2026-03-02", 3}, {"type", "AUDIT_REPORT_WEEK", 1},
        {"template", "SOX", 2}, {"name", "needle", 1}, {"parallel", "1", 4}, {"verify", "true", 4},
    };
    struct source source = new_source(0, 0);
    dbss_context *ctx = new_context(fact("http"));
    dbss_mirror_options *mirror;
    struct run run = {0};
    size_t i;

    add_to(&source, 6000, ", \"start_time\": \"2026-03-01 00:00:00\", \"type\": \"AUDIT_REPORT_DAY\"");
    add_to(&source, 6000, ", \"start_time\": \"2026-03-02 00:00:00\", \"type\": \"AUDIT_REPORT_WEEK\"");
    add_to(&source, 6000, ", \"start_time\": \"2026-03-03 00:00:00\", \"template_type\": \"SOX\"");
    /* It tells no day, so it is of every range. */
    add_to(&source, 6000, ", \"omit\": [\"start_time\", \"finish_time\"], \"template_type\": \"SOX\", \"name\": "
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
        blame("%s=%s", cases[i].key, cases[i].value);
        end_run(&run);
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
    CHECK(holds(source.directory, "SHA256SUMS", "_zh-cn.pdf"));
    CHECK(holds(source.directory, "manifest.jsonl", "\"locale\":\"zh-cn\""));
    end_run(&run);
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
    end_run(&run);

    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(0, run.result, downloaded);
    CHECK_COUNT(7, run.result, present);
    end_run(&run);
    for (i = 0; i < source.count; i++)
        CHECK(count_requests(source.ids[i]) == 1);

    add_to(&source, 6000, "");
    add_to(&source, 6000, ", \"percentum\": 40");
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(9, run.result, listed);
    CHECK_COUNT(1, run.result, downloaded);
    CHECK_COUNT(7, run.result, present);
    CHECK_COUNT(1, run.result, not_ready);
    CHECK(count_requests(source.ids[8]) == 0);
    end_run(&run);
    dbss_context_free(ctx);
    free_source(&source);
}

static void a_run_and_another(void)
{
    run_twice(fact("http"));
}

static void a_run_over_tls(void)
{
    run_twice(fact("https"));
}

/* Without options all instances are mirrored, and without an operation. */
static void all_by_default(void)
{
    struct source source = new_source(1, 6000), other = new_source(1, 6000);
    dbss_context *ctx = new_context(fact("http"));
    dbss_mirror_result *result;
    EXPECT(DBSS_OK, dbss_reports_mirror(ctx, fact("project"), source.directory, NULL, NULL, &result));
    CHECK(dbss_mirror_result_downloaded(result) >= 2);
    CHECK_ARCHIVE(&source, source.directory);
    CHECK_ARCHIVE(&other, source.directory);
    dbss_mirror_result_free(result);
    dbss_context_free(ctx);
    free_source(&other);
    free_source(&source);
}

static void damage_is_repaired(void)
{
    struct source source = new_source(2, 6000);
    dbss_context *ctx = new_context(fact("http"));
    struct run run = {0};
    char *command = format("for f in '%s'/*/*/*%s*; do printf x | dd of=\"$f\" bs=1 seek=9 conv=notrunc status=none; done",
                           source.directory, source.ids[1]);

    complete(ctx, &source, NULL);
    CHECK(system(command) == 0);
    run.ctx = ctx;
    run.source = &source;
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(0, run.result, repaired);
    end_run(&run);
    run.mirror = new_mirror(source.instance);
    EXPECT(DBSS_OK, dbss_mirror_options_set(run.mirror, "verify", "true"));
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(1, run.result, repaired);
    CHECK_COUNT(1, run.result, present);
    CHECK_ARCHIVE(&source, source.directory);
    end_run(&run);
    dbss_mirror_options_free(run.mirror);
    dbss_context_free(ctx);
    free(command);
    free_source(&source);
}

static int buffer_holds(const dbss_buffer *json, const char *text)
{
    char *copy = format("%.*s", (int)json->len, (const char *)json->data);
    int found = strstr(copy, text) != NULL;
    free(copy);
    return found;
}

static void partial(void)
{
#define COUNT(name) {#name, dbss_mirror_result_##name}
    static const struct {
        const char *name;
        int64_t (*get)(const dbss_mirror_result *);
    } counts[] = {COUNT(listed),   COUNT(downloaded), COUNT(present), COUNT(not_ready),
                  COUNT(vanished), COUNT(failed),     COUNT(repaired)};
#undef COUNT
    struct source source = new_source(5, 6000);
    dbss_context *ctx = new_context(fact("http"));
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
            failed("failure %lu has no id", (unsigned long)i);
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
        CHECK(buffer_holds(&json, text));
        free(text);
    }
    CHECK(buffer_holds(&json, "\"status_name\":\"DBSS_ERR_SERVER\"") && buffer_holds(&json, source.ids[3]));
    dbss_buffer_free(&json);

    /* Each error is the caller's own, also after the result. */
    first = dbss_mirror_result_failure_error(run.result, 0);
    second = dbss_mirror_result_failure_error(run.result, 0);
    dbss_error_free(first);
    end_run(&run);
    CHECK(dbss_error_status(second) != DBSS_OK && strlen(dbss_error_message(second)) > 0);
    dbss_error_free(second);

    /* What could not be had is had as soon as it can be. */
    free(control("DELETE", "/faults", ""));
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(3, run.result, downloaded);
    CHECK_COUNT(2, run.result, present);
    CHECK_ARCHIVE(&source, source.directory);
    end_run(&run);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    free_source(&source);
}

static void gaps(void)
{
    struct source source = new_source(0, 0);
    dbss_context *ctx = new_context(fact("http"));
    dbss_buffer json;
    struct run run = {0};

    add_to(&source, 6000, ", \"start_time\": \"2026-02-27 00:00:00\", \"type\": \"AUDIT_REPORT_DAY\"");
    add_to(&source, 6000, ", \"start_time\": \"2026-03-02 00:00:00\", \"type\": \"AUDIT_REPORT_DAY\"");
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
    CHECK(buffer_holds(&json, "\"period\":\"2026-03-01\""));
    dbss_buffer_free(&json);
    end_run(&run);
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

static void result_shared_and_freed_elsewhere(void)
{
    struct source source = new_source(1, 6000);
    struct run run = {0};
    pthread_t threads[4];
    int i;

    post_fault(source.ids[0], "\"status\": 500, \"times\": 1");
    run.ctx = new_context(fact("http"));
    run.source = &source;
    run_mirror(&run);
    CHECK_RUN(DBSS_ERR_PARTIAL, &run);
    dbss_context_free(run.ctx);
    shared_result = run.result;
    for (i = 0; i < 4; i++)
        threads[i] = start_thread(read_result, NULL);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    in_thread(free_result, NULL);
    run.result = NULL;
    end_run(&run);
    free_source(&source);
}

/* A run that did not begin gives no result. */
static void not_begun(void)
{
    struct source source = new_source(1, 6000);
    dbss_context *ctx = new_context(fact("http"));
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
                     dbss_reports_mirror(ctx, fact("project"), "", mirror, NULL, &result));
    CHECK(result == NULL);
    write_file(file, "");
    EXPECT(DBSS_ERR_FILE, dbss_reports_mirror(ctx, fact("project"), file, mirror, NULL, &result));
    CHECK(result == NULL);
    dbss_operation_cancel(operation);
    result = (dbss_mirror_result *)1;
    EXPECT(DBSS_ERR_CANCELLED, dbss_reports_mirror(ctx, fact("project"), source.directory, mirror, operation, &result));
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
        failed("line %d: a run that did not begin has a result", line);
    end_run(&run);
}

static void locked_by_another_thread(void)
{
    struct source source = new_source(3, 6000);
    dbss_context *ctx = new_context(fact("http"));
    struct run run = {0};

    run.ctx = ctx;
    run.source = &source;
    start_to_gate(&run);
    expect_locked(__LINE__, ctx, &source);
    open_gate_and_join(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(3, run.result, downloaded);
    end_run(&run);
    complete(ctx, &source, NULL);
    dbss_context_free(ctx);
    free_source(&source);
}

static void locked_by_another_process(void)
{
    struct source source = new_source(3, 6000);
    dbss_context *ctx;
    pid_t child;

    post_fault(source.ids[1], "\"no_answer\": true, \"times\": 1");
    child = fork();
    if (child == 0) {
        struct run run = {0};
        run.ctx = new_context(fact("http"));
        run.source = &source;
        run_mirror(&run);
        _exit(1);
    }
    ctx = new_context(fact("http"));
    CHECK(wait_for_request(source.ids[1]));
    expect_locked(__LINE__, ctx, &source);
    /* The lock dies with its process, and the archive goes on where it was. */
    kill(child, SIGKILL);
    CHECK(wait_for_child(child) == -SIGKILL);
    complete(ctx, &source, NULL);
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
    dbss_context *ctx = new_context(fact("http"));
    struct run run = {0};
    long long cancelled_ms;
    int descriptors, lines;

    complete(ctx, &source, NULL);
    descriptors = each_descriptor(NULL);
    add_to(&source, 6000, "");
    add_to(&source, 6000, "");
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
    CHECK(run.ended_ms - cancelled_ms < BOUND_MS);
    /* As far as it went. */
    CHECK(run.result != NULL);
    CHECK_COUNT(8, run.result, listed);
    CHECK_COUNT(1, run.result, downloaded);
    CHECK_COUNT(6, run.result, present);
    CHECK_COUNT(0, run.result, failed);
    end_run(&run);
    dbss_operation_free(run.operation);
    lines = count_lines(source.directory, "SHA256SUMS");
    CHECK(lines == 7);
    complete(ctx, &source, NULL);
    dbss_context_free(ctx);
    ctx = new_context(fact("http"));
    complete(ctx, &source, NULL);
    CHECK(each_descriptor(NULL) <= descriptors);
    dbss_context_free(ctx);
    free_source(&source);
}

static void cancelled_by_its_operation(void)
{
    cancel_by(BY_OPERATION);
}

static void cancelled_by_its_context(void)
{
    cancel_by(BY_CONTEXT);
}

static int32_t stop_now(void *calls, const dbss_operation *operation)
{
    (void)operation;
    ++*(int *)calls;
    return 1;
}

static void cancelled_by_its_callback(void)
{
    struct source source = new_source(3, 6000);
    dbss_context *ctx = new_context(fact("http"));
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
    end_run(&run);
    dbss_operation_free(run.operation);
    free(control("DELETE", "/faults", ""));
    complete(ctx, &source, NULL);
    dbss_context_free(ctx);
    free_source(&source);
}

struct seen {
    int calls, percent;
    long long received, most;
    pthread_t thread;
    const char *wrong;
};

static int32_t look(void *user_data, const dbss_operation *operation)
{
    struct seen *seen = user_data;
    long long received = dbss_operation_received(operation);
    int percent = dbss_operation_percent(operation);
    if (percent < seen->percent || percent > 100)
        seen->wrong = "the percents";
    if (received < seen->received || received > seen->most)
        seen->wrong = "the bytes";
    if (seen->calls > 0 && !pthread_equal(seen->thread, pthread_self()))
        seen->wrong = "the thread";
    seen->thread = pthread_self();
    seen->calls++;
    seen->percent = percent;
    seen->received = received;
    return 0;
}

static void progress(void)
{
    struct source source = new_source(16, 200000);
    struct seen seen = {0};
    struct run run = {0};
    size_t i;

    for (i = 0; i < source.count; i++)
        post_fault(source.ids[i], "\"drip\": {\"bytes\": 20000, \"every_ms\": 10}, \"times\": 1");
    seen.percent = -1;
    seen.most = source.bytes;
    run.ctx = new_context(fact("http"));
    run.source = &source;
    run.operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(run.operation, look, &seen, NULL));
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    if (seen.wrong != NULL)
        failed("%s went back or too far", seen.wrong);
    CHECK(seen.calls > 1);
    CHECK(dbss_operation_received(run.operation) == source.bytes);
    CHECK(dbss_operation_percent(run.operation) == 100);
    end_run(&run);
    dbss_operation_free(run.operation);
    dbss_context_free(run.ctx);
    free_source(&source);
}

/* ---------------------------------------------------------------------------
 * Beside a run
 * ------------------------------------------------------------------------ */

static void freed_during_a_run(void)
{
    struct source source = new_source(6, 6000);
    struct run run = {0};
    dbss_context *ctx = new_context(fact("http"));

    run.ctx = ctx;
    run.source = &source;
    run.mirror = new_mirror(source.instance);
    start_to_gate(&run);
    /* What is changed under way is for the next run. */
    EXPECT(DBSS_OK, dbss_mirror_options_set(run.mirror, "instance", fact("instance")));
    dbss_mirror_options_free(run.mirror);
    dbss_context_free(ctx);
    open_gate_and_join(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(6, run.result, downloaded);
    CHECK_ARCHIVE(&source, source.directory);
    end_run(&run);
    free_source(&source);
}

static void a_busy_operation_is_refused(void)
{
    struct source source = new_source(2, 6000), other = new_source(1, 6000);
    struct run run = {0}, second = {0};

    run.ctx = second.ctx = new_context(fact("http"));
    run.source = &source;
    second.source = &other;
    start_to_gate(&run);
    second.operation = run.operation;
    run_mirror(&second);
    CHECK_RUN(DBSS_ERR_BUSY, &second);
    CHECK(second.result == NULL);
    end_run(&second);
    open_gate_and_join(&run);
    CHECK_RUN(DBSS_OK, &run);
    end_run(&run);
    dbss_context_free(run.ctx);
    free_source(&other);
    free_source(&source);
}

static const struct source *inherited_source;
static dbss_context *inherited_context;
static char *child_directory;

static void mirror_in_child(void)
{
    dbss_context *ctx = new_context(fact("http"));
    complete(ctx, inherited_source, child_directory);
    dbss_context_free(ctx);
    remove_tree(child_directory);
    if (mkdir(child_directory, 0700) != 0)
        failed("no directory");
    /* The context of before is good here too. */
    complete(inherited_context, inherited_source, child_directory);
}

/* A process forks while one of its threads mirrors. */
static void fork_during_a_run(void)
{
    struct source source = new_source(5, 6000);
    struct run run = {0};

    run.ctx = inherited_context = new_context(fact("http"));
    run.source = inherited_source = &source;
    child_directory = new_directory();
    start_to_gate(&run);
    in_child(mirror_in_child);
    open_gate_and_join(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(5, run.result, downloaded);
    CHECK_ARCHIVE(&source, source.directory);
    end_run(&run);
    dbss_context_free(run.ctx);
    remove_tree(child_directory);
    free(child_directory);
    free_source(&source);
}

/* A child that lives on does not keep the directory locked. */
static void fork_keeps_no_lock(void)
{
    struct source source = new_source(2, 6000);
    struct run run = {0};
    pid_t child;

    run.ctx = new_context(fact("http"));
    run.source = &source;
    start_to_gate(&run);
    child = fork();
    if (child == 0) {
        for (;;)
            pause();
    }
    open_gate_and_join(&run);
    CHECK_RUN(DBSS_OK, &run);
    end_run(&run);
    complete(run.ctx, &source, NULL);
    kill(child, SIGKILL);
    wait_for_child(child);
    dbss_context_free(run.ctx);
    free_source(&source);
}

/* The lock dies with its process, though a child that it made lives on. */
static void lock_dies_with_its_process(void)
{
    struct source source = new_source(2, 6000);
    struct run run = {0};
    int ends[2];
    pid_t child, grandchild = 0;

    run.ctx = new_context(fact("http"));
    run.source = &source;
    if (pipe(ends) != 0)
        fatal("no pipe");
    fflush(NULL);
    child = fork();
    if (child == 0) {
        struct run own = {0};
        own.ctx = new_context(fact("http"));
        own.source = &source;
        start_to_gate(&own);
        grandchild = fork();
        if (grandchild == 0)
            for (;;)
                pause();
        if (write(ends[1], &grandchild, sizeof grandchild) != (ssize_t)sizeof grandchild)
            _exit(1);
        for (;;)
            pause();
    }
    if (read(ends[0], &grandchild, sizeof grandchild) != (ssize_t)sizeof grandchild)
        fatal("no grandchild");
    run_mirror(&run);
    CHECK_RUN(DBSS_ERR_MIRROR_LOCKED, &run);
    end_run(&run);
    kill(child, SIGKILL);
    wait_for_child(child);
    CHECK(kill(grandchild, 0) == 0);
    free(control("DELETE", "/faults", ""));
    complete(run.ctx, &source, NULL);
    CHECK(kill(grandchild, SIGKILL) == 0);
    close(ends[0]);
    close(ends[1]);
    dbss_context_free(run.ctx);
    free_source(&source);
}

/* Several runs at once on one context, of which one is cancelled. */
static void many_runs(void)
{
    enum { RUNS = 4 };
    struct source sources[RUNS];
    struct run runs[RUNS] = {{0}};
    dbss_context *ctx = new_context(fact("http"));
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
        end_run(&runs[i]);
        dbss_operation_free(runs[i].operation);
    }
    complete(ctx, &sources[0], NULL);
    dbss_context_free(ctx);
    for (i = 0; i < RUNS; i++)
        free_source(&sources[i]);
}

/* ---------------------------------------------------------------------------
 * Descriptors
 * ------------------------------------------------------------------------ */

static struct source streams_source;
static struct report streams_report;
static int stream_looks;

/* A host that closed its standard streams and prints all the same. */
static void print_to_closed_streams(void)
{
    static const char text[] = "what a host prints\n";
    int fd;
    stream_looks++;
    for (fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) != -1 || write(fd, text, sizeof text - 1) != -1)
            failed("descriptor %d is open", fd);
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
    dbss_config *config = new_config(fact("https"), fact("token"));
    dbss_context *ctx;
    char *path = format("%s/one.pdf", streams_source.directory);

    fflush(NULL);
    close(0);
    close(1);
    close(2);
    set(config, "ca_file", fact("ca_file"));
    set(config, "max_attempts", "3");
    EXPECT(DBSS_OK, dbss_config_set_log(config, print_log, NULL, NULL));
    ctx = to_context(config);
    run.operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(run.operation, print_progress, NULL, NULL));
    EXPECT(DBSS_OK, dbss_report_download_to_file(ctx, fact("project"), fact("instance"), streams_report.id, NULL, path,
                                                 0, run.operation));
    run.ctx = ctx;
    run.source = &streams_source;
    run_mirror(&run);
    CHECK_RUN(DBSS_OK, &run);
    CHECK_COUNT(5, run.result, downloaded);
    print_to_closed_streams();
    CHECK(stream_looks > 10);
}

static void closed_standard_streams(void)
{
    char *path;
    size_t len;
    uint8_t *bytes;

    streams_source = new_source(5, 300000);
    streams_report = new_report(400000);
    path = format("%s/one.pdf", streams_source.directory);
    /* One reset on the way, so that there is a warning. */
    post_fault(streams_report.id, "\"cut_after\": 1000, \"times\": 1");
    in_child(work_with_closed_streams);
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
    {"null_arguments", null_arguments, PLAIN},
    {"options_are_checked", options_are_checked, PLAIN},
    {"filters", filters, PLAIN},
    {"a_run_and_another", a_run_and_another, PLAIN},
    {"a_run_over_tls", a_run_over_tls, TLS},
    {"all_by_default", all_by_default, PLAIN},
    {"damage_is_repaired", damage_is_repaired, PLAIN},
    {"partial", partial, PLAIN},
    {"gaps", gaps, PLAIN},
    {"result_shared_and_freed_elsewhere", result_shared_and_freed_elsewhere, PLAIN},
    {"not_begun", not_begun, PLAIN},
    {"locked_by_another_thread", locked_by_another_thread, PLAIN},
    {"locked_by_another_process", locked_by_another_process, LOAD},
    {"cancelled_by_its_operation", cancelled_by_its_operation, PLAIN},
    {"cancelled_by_its_context", cancelled_by_its_context, PLAIN},
    {"cancelled_by_its_callback", cancelled_by_its_callback, PLAIN},
    {"progress", progress, PLAIN},
    {"freed_during_a_run", freed_during_a_run, PLAIN},
    {"a_busy_operation_is_refused", a_busy_operation_is_refused, PLAIN},
    {"fork_during_a_run", fork_during_a_run, LOAD},
    {"fork_keeps_no_lock", fork_keeps_no_lock, LOAD},
    {"lock_dies_with_its_process", lock_dies_with_its_process, LOAD},
    {"many_runs", many_runs, LOAD},
    {"closed_standard_streams", closed_standard_streams, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
