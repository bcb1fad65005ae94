/* Mirrors: results and locks beyond their threads and processes, and other actions
 * during a run. What a mirror does is in the cases of ../conformance. */

#include "calls.h"

#include <signal.h>
#include <sys/stat.h>

enum { MOST = 6 };

/* A new instance, its reports, and a directory for them. */
struct source {
    const char *instance, *ids[MOST];
    char *directory;
    int count;
};

static struct source new_source(int count, long long size)
{
    struct source source = {.instance = add_instance(0, 0), .directory = new_directory()};
    while (source.count < count) {
        const char *id = source.ids[source.count++] = fresh_id();
        post_control("/reports", "{\"id\": \"%s\", \"format\": \"pdf\", \"size\": %lld, \"instance\": \"%s\"}", id,
                     size, source.instance);
    }
    return source;
}

/* A run, on this thread or, by start_run_to_gate(), on another. */
struct run {
    dbss_context *ctx;
    const struct source *source;
    const char *directory;
    dbss_operation *operation;
    dbss_mirror_options *options;
    dbss_status status;
    dbss_mirror_result *result;
    pthread_t thread;
};

static struct run new_run(dbss_context *ctx, const struct source *source)
{
    return (struct run){.ctx = ctx,
                        .source = source,
                        .directory = source->directory,
                        .operation = new_operation(),
                        .options = new_mirror_options(source->instance)};
}

static void *run_mirror(void *argument)
{
    struct run *run = argument;
    /* The call must set it in every case. */
    run->result = (dbss_mirror_result *)1;
    run->status =
        dbss_reports_mirror(run->ctx, fixture("project"), run->directory, run->options, run->operation, &run->result);
    CHECK(dbss_error_status(dbss_last_error()) == run->status);
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
    struct run run = new_run(ctx, source);
    run.directory = directory;
    run_mirror(&run);
    CHECK(dbss_mirror_result_downloaded(run.result) + dbss_mirror_result_present(run.result) == source->count);
    END(DBSS_OK, source->count, &run);
    CHECK(system(text("cd '%s' && sha256sum --check --quiet --strict SHA256SUMS && test $(wc -l < SHA256SUMS) = %d",
                      directory, source->count))
          == 0);
}

/* A gate in the progress callback of a run. It stops the run during its downloads,
 * until the gate is opened. */
static int gate_reached, gate_open;

static int32_t wait_at_gate(void *id, const dbss_operation *operation)
{
    if (count_requests(id) > 0) {
        add_locked(&gate_reached, 1);
        WAIT_FOR(read_locked(&gate_open));
    }
    return 0;
}

/* Starts the run, and returns when it waits at the gate. */
static void start_run_to_gate(struct run *run)
{
    gate_reached = gate_open = 0;
    OK(dbss_operation_set_progress(run->operation, wait_at_gate, text("%s", run->source->ids[0]), NULL));
    /* Long enough for a callback before the end. */
    post_fault(run->source->ids[0], "\"delay_ms\": 1500, \"times\": 1");
    run->thread = start_thread(run_mirror, run);
    WAIT_FOR(read_locked(&gate_reached));
}

static void open_gate_and_join(struct run *run)
{
    add_locked(&gate_open, 1);
    pthread_join(run->thread, NULL);
}

static void *read_result(void *result)
{
    for (int i = 0; i < 100; i++) {
        dbss_error *error = dbss_mirror_result_failure_error(result, 0);
        dbss_buffer json;
        CHECK(dbss_mirror_result_failed(result) == 1);
        CHECK(dbss_mirror_result_failure_id(result, 0) != NULL);
        CHECK(dbss_error_status(error) == DBSS_ERR_SERVER);
        OK(dbss_mirror_result_json(result, &json));
        dbss_buffer_free(&json);
        dbss_error_free(error);
    }
    return NULL;
}

static void *free_result(void *result)
{
    dbss_mirror_result_free(result);
    return NULL;
}

/* A result outlives its client, and may be read and freed on any thread; an error of
 * it belongs to the caller, and outlives it. */
NAMED_CHECK(result_shared_by_threads, PLAIN)
{
    static const char *const parts[] = {
        "\"listed\":2",   "\"downloaded\":1", "\"present\":0",  "\"not_ready\":0",
        "\"vanished\":0", "\"failed\":1",     "\"repaired\":0", "\"status_name\":\"DBSS_ERR_SERVER\"",
        "\"gaps\":[]"};
    struct source source = new_source(2, 6000);
    struct run run = new_run(new_context(fixture("http")), &source);
    dbss_error *error;
    dbss_buffer json;
    const char *whole;

    post_fault(source.ids[0], "\"status\": 500, \"times\": 1");
    run_mirror(&run);
    CHECK(run.status == DBSS_ERR_PARTIAL && dbss_status_group(run.status) == DBSS_ERR_SERVICE);
    drop(run.ctx);
    OK(dbss_mirror_result_json(run.result, &json));
    whole = text("%.*s", (int)json.len, (const char *)json.data);
    dbss_buffer_free(&json);
    for (size_t i = 0; i < COUNT(parts); i++)
        CHECK(strstr(whole, parts[i]) != NULL);
    CHECK(strstr(whole, source.ids[0]) != NULL);
    CHECK(dbss_mirror_result_failure_id(run.result, 1) == NULL
          && dbss_mirror_result_failure_instance(run.result, (size_t)-1) == NULL
          && dbss_mirror_result_failure_error(run.result, 1) == NULL);
    CHECK(dbss_mirror_result_gap_period(run.result, 0) == NULL && dbss_mirror_result_gap_type(run.result, 0) == NULL
          && dbss_mirror_result_gap_instance(run.result, (size_t)-1) == NULL);
    run_in_threads(4, read_result, run.result, 0);
    error = dbss_mirror_result_failure_error(run.result, 0);
    run_in_threads(1, free_result, run.result, 0);
    CHECK(dbss_error_status(error) == DBSS_ERR_SERVER && *dbss_error_message(error) != '\0');
    dbss_error_free(error);
}

static const struct source *inherited_source;
static dbss_context *inherited_context;

static void mirror_in_child(void)
{
    dbss_context *ctx = new_context(fixture("http"));
    char *first = new_directory(), *second = new_directory();
    mirror_completely(ctx, inherited_source, first);
    drop(ctx);
    /* The inherited context works here too. */
    mirror_completely(inherited_context, inherited_source, second);
    drop(first);
    drop(second);
}

static int wait_for_signal(void *unused)
{
    for (;;)
        pause();
    return 0;
}

/* The process forks while one of its threads mirrors. A child that still runs does not
 * keep the directory locked. */
NAMED_CHECK(fork_during_run, LOAD)
{
    struct source source = new_source(5, 6000);
    struct run run = new_run(new_context(fixture("http")), &source);
    pid_t child;
    inherited_context = run.ctx;
    inherited_source = &source;
    start_run_to_gate(&run);
    run_in_child(mirror_in_child);
    child = start_child(wait_for_signal, NULL);
    open_gate_and_join(&run);
    END(DBSS_OK, 5, &run);
    mirror_completely(run.ctx, &source, source.directory);
    kill(child, SIGKILL);
    wait_for_child(child);
}

/* A process with a run at the gate, which reports the id of its own child. */
static int announcement[2];

/* Says that it runs: only then has it released what it inherited. */
static int announce_and_wait(void *unused)
{
    pid_t self = getpid();
    if (write(announcement[1], &self, sizeof self) != (ssize_t)sizeof self)
        return 1;
    return wait_for_signal(NULL);
}

static int lock_and_fork(void *unused)
{
    struct run run = new_run(new_context(fixture("http")), inherited_source);
    start_run_to_gate(&run);
    start_child(announce_and_wait, NULL);
    return wait_for_signal(NULL);
}

/* The lock is released when its process dies, though a child of it still runs. */
NAMED_CHECK(lock_released_when_process_dies, LOAD)
{
    struct source source = new_source(2, 6000);
    struct run run = new_run(new_context(fixture("http")), &source);
    pid_t child, grandchild = 0;

    inherited_source = &source;
    new_pipe(announcement);
    child = start_child(lock_and_fork, NULL);
    if (read(announcement[0], &grandchild, sizeof grandchild) != (ssize_t)sizeof grandchild)
        fatal("cannot read the id of the grandchild");
    run_mirror(&run);
    END(DBSS_ERR_MIRROR_LOCKED, -1, &run);
    kill(child, SIGKILL);
    wait_for_child(child);
    CHECK(kill(grandchild, 0) == 0);
    remove_faults();
    mirror_completely(run.ctx, &source, source.directory);
    CHECK(kill(grandchild, SIGKILL) == 0);
    close(announcement[0]);
    close(announcement[1]);
}

/* A cancelled run leaves no descriptor open. */
NAMED_CHECK(cancelled_run_leaves_nothing_open, PLAIN)
{
    struct source first = new_source(3, 6000), source = new_source(3, 6000);
    struct run run = new_run(new_context(fixture("http")), &source);
    int descriptors;

    mirror_completely(run.ctx, &first, first.directory);
    descriptors = for_each_descriptor(NULL);
    post_fault(source.ids[1], "\"no_response\": true, \"times\": 1");
    run.thread = start_thread(run_mirror, &run);
    wait_for_request(source.ids[1]);
    dbss_operation_cancel(run.operation);
    pthread_join(run.thread, NULL);
    END(DBSS_ERR_CANCELLED, 3, &run);
    mirror_completely(run.ctx, &source, source.directory);
    drop(run.ctx);
    CHECK(for_each_descriptor(NULL) <= descriptors);
}

/* The context is closed during many short downloads. The mirror is cancelled: it gets no
 * more than what its threads were getting, and no report counts as failed. */
NAMED_CHECK(context_closed_during_run, LOAD)
{
    enum { PARALLEL = 8, SIZE = 6000 };
    struct source source = {.instance = add_instance(300, SIZE)};
    for (int round = 0; round < 20 && !has_failed(); round++) {
        struct run run;
        long long closed_ms;
        int64_t received;
        source.directory = new_directory();
        run = new_run(new_context(fixture("http")), &source);
        OK(dbss_mirror_options_set(run.options, "parallel", "8"));
        /* The run cannot end before. */
        post_fault("*", "\"skip\": 250, \"no_response\": true");
        run.thread = start_thread(run_mirror, &run);
        WAIT_FOR(dbss_operation_received(run.operation) > round * 3000);
        dbss_context_close(run.ctx);
        received = dbss_operation_received(run.operation);
        closed_ms = now_ms();
        pthread_join(run.thread, NULL);
        CHECK(dbss_operation_received(run.operation) - received <= PARALLEL * SIZE);
        /* Far below any limit of time of a call, also on a busy machine. */
        CHECK(now_ms() - closed_ms < 30000);
        for (size_t i = 0; i < dbss_mirror_result_failure_count(run.result); i++) {
            dbss_error *error = dbss_mirror_result_failure_error(run.result, i);
            fail_check("a report failed: %s", dbss_error_message(error));
            dbss_error_free(error);
        }
        END(DBSS_ERR_CANCELLED, dbss_mirror_result_listed(run.result), &run);
        remove_faults();
        drop(source.directory);
    }
}

/* Neither a free of its client nor a change of its options changes a run, whose
 * operation is in use. */
NAMED_CHECK(run_keeps_client_and_options, PLAIN)
{
    struct source source = new_source(6, 6000), other = new_source(1, 6000);
    struct run run = new_run(new_context(fixture("http")), &source), second = new_run(run.ctx, &other);
    start_run_to_gate(&run);
    second.operation = run.operation;
    run_mirror(&second);
    END(DBSS_ERR_BUSY, -1, &second);
    OK(dbss_mirror_options_set(run.options, "instance", fixture("instance")));
    drop(run.options);
    drop(run.ctx);
    open_gate_and_join(&run);
    END(DBSS_OK, 6, &run);
}

static struct source streams_source;
static struct report streams_report;
static int closed_stream_checks;

/* A host that prints to standard streams that it closed. */
static void print_to_closed_streams(void)
{
    static const char line[] = "what a host prints\n";
    closed_stream_checks++;
    for (int fd = 0; fd <= 2; fd++)
        if (write(fd, line, sizeof line - 1) != -1)
            fail_check("descriptor %d takes what a host prints", fd);
}

static int32_t print_progress(void *unused, const dbss_operation *operation)
{
    print_to_closed_streams();
    return 0;
}

static void print_log(void *unused, const dbss_log_record *record)
{
    print_to_closed_streams();
}

static void work_with_closed_streams(void)
{
    dbss_config *config = new_config(fixture("https"), fixture("token"));
    struct run run;

    fflush(NULL);
    close(0);
    close(1);
    close(2);
    set_option(config, "ca_file", fixture("ca_file"));
    set_option(config, "max_attempts", "3");
    OK(dbss_config_set_log(config, print_log, NULL, NULL));
    run = new_run(new_context_from(config), &streams_source);
    OK(dbss_operation_set_progress(run.operation, print_progress, NULL, NULL));
    OK(dbss_report_download_to_file(run.ctx, fixture("project"), fixture("instance"), streams_report.id, NULL,
                                    text("%s/one.pdf", run.directory), 0, run.operation));
    run_mirror(&run);
    END(DBSS_OK, 5, &run);
    print_to_closed_streams();
    CHECK(closed_stream_checks > 10);
}

NAMED_CHECK(closed_standard_streams_are_not_reused, LOAD)
{
    streams_source = new_source(5, 300000);
    streams_report = new_report(400000);
    /* The cut causes a warning in the log. */
    post_fault(streams_report.id, "\"cut_after\": 1000, \"times\": 1");
    run_in_child(work_with_closed_streams);
    CHECK(is_file(text("%s/one.pdf", streams_source.directory), streams_report.bytes, streams_report.len));
    mirror_completely(new_context(fixture("http")), &streams_source, streams_source.directory);
}
