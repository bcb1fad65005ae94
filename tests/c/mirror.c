/* Mirrors: results and locks beyond their threads and processes, and other actions
 * during a run. What a mirror does is in the cases of ../conformance. See checks.h for
 * how to run the checks. */

#define _POSIX_C_SOURCE 200809L

#include "calls.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------
 * Instances, archives and runs
 * ------------------------------------------------------------------------ */

enum { MOST = 6 };

/* A new instance, its reports, and a directory for them. */
struct source {
    char *instance, *directory;
    const char *ids[MOST];
    size_t count;
};

static struct source new_source(size_t count, long long size)
{
    struct source source = {0};
    source.instance = add_instance();
    source.directory = new_directory();
    while (source.count < count) {
        const char *id = source.ids[source.count++] = fresh_id();
        post_control("/reports", "{\"id\": \"%s\", \"format\": \"pdf\", \"size\": %lld, \"instance\": \"%s\"}", id,
                     size, source.instance);
    }
    return source;
}

static void free_source(struct source *source)
{
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

/* A run, on this thread or, by start_run_to_gate(), on another. */
struct run {
    dbss_context *ctx;
    const struct source *source;
    const char *directory; /* NULL: that of the source */
    dbss_operation *operation;
    dbss_mirror_options *mirror; /* NULL: the source's instance */
    dbss_status status;
    dbss_mirror_result *result;
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
    CHECK(dbss_error_status(dbss_last_error()) == run->status);
    if (run->mirror == NULL)
        dbss_mirror_options_free(mirror);
    return NULL;
}

/* Ends a run: with this status and, if not -1, so many reports in the list. */
#define END(expected, listed, run) end_run(__LINE__, expected, listed, run)

static void end_run(int line, dbss_status expected, long long listed, struct run *run)
{
    if (run->status != expected)
        fail_check("line %d: expected %s, got %s", line, dbss_status_name(expected), dbss_status_name(run->status));
    if (listed < 0 ? run->result != NULL : dbss_mirror_result_listed(run->result) != listed)
        fail_check("line %d: the result is wrong", line);
    dbss_mirror_result_free(run->result);
    run->result = NULL;
}

/* Mirrors, and expects a complete archive, whose bytes sha256sum checks. */
static void mirror_completely(dbss_context *ctx, const struct source *source, const char *directory)
{
    struct run run = {0};
    char *command;
    run.ctx = ctx;
    run.source = source;
    run.directory = directory;
    run_mirror(&run);
    CHECK(dbss_mirror_result_downloaded(run.result) + dbss_mirror_result_present(run.result) == (int64_t)source->count);
    END(DBSS_OK, (long long)source->count, &run);
    command = format("cd '%s' && sha256sum --check --quiet --strict SHA256SUMS && test $(wc -l < SHA256SUMS) = %d",
                     directory != NULL ? directory : source->directory, (int)source->count);
    CHECK(system(command) == 0);
    free(command);
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
    run->thread = start_thread(run_mirror, run);
    pthread_mutex_lock(&gate.lock);
    while (!gate.reached)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static void open_gate_and_join(struct run *run)
{
    pthread_mutex_lock(&gate.lock);
    gate.open = 1;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    pthread_join(run->thread, NULL);
    dbss_operation_free(run->operation);
}

/* ---------------------------------------------------------------------------
 * Results
 * ------------------------------------------------------------------------ */

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

/* A result outlives its client, and may be read and freed on any thread; an error of
 * it belongs to the caller, and outlives it. */
static void result_shared_by_threads(void)
{
    static const char *const parts[] = {
        "\"listed\":2",   "\"downloaded\":1", "\"present\":0",  "\"not_ready\":0",
        "\"vanished\":0", "\"failed\":1",     "\"repaired\":0", "\"status_name\":\"DBSS_ERR_SERVER\"",
        "\"gaps\":[]"};
    struct source source = new_source(2, 6000);
    struct run run = {0};
    pthread_t threads[4];
    dbss_error *error;
    dbss_buffer json;
    char *text;
    size_t i;

    post_fault(source.ids[0], "\"status\": 500, \"times\": 1");
    run.ctx = new_context(fixture("http"));
    run.source = &source;
    run_mirror(&run);
    CHECK(run.status == DBSS_ERR_PARTIAL && dbss_status_group(run.status) == DBSS_ERR_SERVICE);
    dbss_context_free(run.ctx);
    shared_result = run.result;
    EXPECT(DBSS_OK, dbss_mirror_result_json(shared_result, &json));
    text = format("%.*s", (int)json.len, (const char *)json.data);
    for (i = 0; i < sizeof parts / sizeof *parts; i++)
        CHECK(strstr(text, parts[i]) != NULL);
    CHECK(strstr(text, source.ids[0]) != NULL);
    free(text);
    dbss_buffer_free(&json);
    CHECK(dbss_mirror_result_failure_id(shared_result, 1) == NULL
          && dbss_mirror_result_failure_instance(shared_result, (size_t)-1) == NULL
          && dbss_mirror_result_failure_error(shared_result, 1) == NULL);
    CHECK(dbss_mirror_result_gap_period(shared_result, 0) == NULL
          && dbss_mirror_result_gap_type(shared_result, 0) == NULL
          && dbss_mirror_result_gap_instance(shared_result, (size_t)-1) == NULL);
    for (i = 0; i < 4; i++)
        threads[i] = start_thread(read_result, NULL);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    error = dbss_mirror_result_failure_error(shared_result, 0);
    run_in_thread(free_result, NULL);
    CHECK(dbss_error_status(error) == DBSS_ERR_SERVER && *dbss_error_message(error) != '\0');
    dbss_error_free(error);
    free_source(&source);
}

/* ---------------------------------------------------------------------------
 * Locks and forks
 * ------------------------------------------------------------------------ */

static void expect_locked(dbss_context *ctx, const struct source *source)
{
    struct run run = {0};
    run.ctx = ctx;
    run.source = source;
    run_mirror(&run);
    END(DBSS_ERR_MIRROR_LOCKED, -1, &run);
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
    END(DBSS_OK, 5, &run);
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
    END(DBSS_OK, 2, &run);
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
    if (pipe(ends) != 0)
        fatal("cannot create a pipe");
    process.fd = ends[1];
    child = start_child(lock_and_fork, &process);
    if (read(ends[0], &grandchild, sizeof grandchild) != (ssize_t)sizeof grandchild)
        fatal("cannot read the id of the grandchild");
    expect_locked(run.ctx, &source);
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

/* ---------------------------------------------------------------------------
 * Other actions during a run
 * ------------------------------------------------------------------------ */

/* A cancelled run ends soon, and leaves no descriptor open. */
static void cancelled_run_leaves_nothing_open(void)
{
    struct source first = new_source(3, 6000), source = new_source(3, 6000);
    struct run run = {0};
    long long cancelled_ms;
    int descriptors;

    run.ctx = new_context(fixture("http"));
    run.source = &source;
    run.operation = new_operation();
    mirror_completely(run.ctx, &first, NULL);
    descriptors = for_each_descriptor(NULL);
    post_fault(source.ids[1], "\"no_answer\": true, \"times\": 1");
    run.thread = start_thread(run_mirror, &run);
    CHECK(wait_for_request(source.ids[1]));
    cancelled_ms = now_ms();
    dbss_operation_cancel(run.operation);
    pthread_join(run.thread, NULL);
    CHECK(now_ms() - cancelled_ms < 5000);
    END(DBSS_ERR_CANCELLED, 3, &run);
    dbss_operation_free(run.operation);
    mirror_completely(run.ctx, &source, NULL);
    dbss_context_free(run.ctx);
    CHECK(for_each_descriptor(NULL) <= descriptors);
    free_source(&first);
    free_source(&source);
}

static pthread_t progress_thread;
static int progress_calls;

static int32_t check_thread(void *user_data, const dbss_operation *operation)
{
    (void)user_data;
    (void)operation;
    CHECK(progress_calls++ == 0 || pthread_equal(progress_thread, pthread_self()));
    progress_thread = pthread_self();
    return 0;
}

static void progress_is_called_on_one_thread(void)
{
    struct source source = new_source(MOST, 200000);
    struct run run = {0};
    size_t i;

    for (i = 0; i < source.count; i++)
        post_fault(source.ids[i], "\"drip\": {\"bytes\": 20000, \"every_ms\": 10}, \"times\": 1");
    run.ctx = new_context(fixture("http"));
    run.source = &source;
    run.operation = new_operation();
    EXPECT(DBSS_OK, dbss_operation_set_progress(run.operation, check_thread, NULL, NULL));
    run_mirror(&run);
    CHECK(progress_calls > 1);
    END(DBSS_OK, MOST, &run);
    dbss_operation_free(run.operation);
    dbss_context_free(run.ctx);
    free_source(&source);
}

/* Neither a free of its client nor a change of its options changes a run, whose
 * operation is in use. */
static void run_keeps_client_and_options(void)
{
    struct source source = new_source(6, 6000), other = new_source(1, 6000);
    struct run run = {0}, second = {0};

    run.ctx = new_context(fixture("http"));
    run.source = &source;
    run.mirror = new_mirror(source.instance);
    start_run_to_gate(&run);
    second.ctx = run.ctx;
    second.source = &other;
    second.operation = run.operation;
    run_mirror(&second);
    END(DBSS_ERR_BUSY, -1, &second);
    EXPECT(DBSS_OK, dbss_mirror_options_set(run.mirror, "instance", fixture("instance")));
    dbss_mirror_options_free(run.mirror);
    dbss_context_free(run.ctx);
    open_gate_and_join(&run);
    END(DBSS_OK, 6, &run);
    free_source(&other);
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
        runs[i].thread = start_thread(run_mirror, &runs[i]);
    CHECK(wait_for_request(sources[0].ids[5]));
    dbss_operation_cancel(runs[0].operation);
    for (i = 0; i < RUNS; i++) {
        pthread_join(runs[i].thread, NULL);
        END(i == 0 ? DBSS_ERR_CANCELLED : DBSS_OK, 6, &runs[i]);
        dbss_operation_free(runs[i].operation);
    }
    mirror_completely(ctx, &sources[0], NULL);
    dbss_context_free(ctx);
    for (i = 0; i < RUNS; i++)
        free_source(&sources[i]);
}

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
    END(DBSS_OK, 5, &run);
    print_to_closed_streams();
    CHECK(closed_stream_checks > 10);
}

static void closed_standard_streams_are_not_reused(void)
{
    dbss_context *ctx;
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
    ctx = new_context(fixture("http"));
    mirror_completely(ctx, &streams_source, NULL);
    dbss_context_free(ctx);
    free(bytes);
    free(path);
    free_report(&streams_report);
    free_source(&streams_source);
}

static const struct check checks[] = {
    {"result_shared_by_threads", result_shared_by_threads, PLAIN},
    {"fork_during_run", fork_during_run, LOAD},
    {"fork_during_run_keeps_no_lock", fork_during_run_keeps_no_lock, LOAD},
    {"lock_released_when_process_dies", lock_released_when_process_dies, LOAD},
    {"cancelled_run_leaves_nothing_open", cancelled_run_leaves_nothing_open, PLAIN},
    {"progress_is_called_on_one_thread", progress_is_called_on_one_thread, PLAIN},
    {"run_keeps_client_and_options", run_keeps_client_and_options, PLAIN},
    {"concurrent_runs_are_independent", concurrent_runs_are_independent, LOAD},
    {"closed_standard_streams_are_not_reused", closed_standard_streams_are_not_reused, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
