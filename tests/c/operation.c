/* Control of calls in progress, where it needs C: descriptors that block, name look-ups,
 * callbacks, and what is freed during a call. */

#include "phases.h"

/* A cancel ends a call within 100 ms, and a callback's result within 250 ms. The
 * margin is for a busy machine. */
#define CANCELLED_WITHIN_MS 400
#define STOPPED_WITHIN_MS 600
/* What waits for no call, but for a processor on a busy machine. */
#define AT_ONCE_MS 20000

#define REPORT_ARGUMENTS(id) fixture("project"), fixture("instance"), id, "en-us"

static int stops;

/* Whether to stop. Only once: one such result must be enough. */
static int take_stop(void)
{
    int stop;
    pthread_mutex_lock(&lock);
    stop = stops;
    stops = 0;
    pthread_mutex_unlock(&lock);
    return stop;
}

static int32_t stop_if_requested(void *user_data, const dbss_operation *operation)
{
    return take_stop() ? -7 : 0;
}

static int32_t cancel_if_requested(void *operation, const dbss_operation *unused)
{
    if (take_stop())
        dbss_operation_cancel(operation);
    return 0;
}

enum way { BY_OPERATION, BY_CONTEXT, BY_CLOSE, BY_RESULT, BY_CALLBACK, WAYS };

static void end_call(enum way way, const struct work *work)
{
    long long start = now_ms();
    switch (way) {
    case BY_OPERATION: dbss_operation_cancel(work->operation); break;
    case BY_CONTEXT: dbss_context_cancel_all(work->ctx); break;
    case BY_CLOSE: dbss_context_close(work->ctx); break;
    default: add_locked(&stops, 1);
    }
    CHECK(now_ms() - start <= AT_ONCE_MS);
}

NAMED_CHECK(every_phase_can_be_ended, TLS)
{
    set_up_phases();
    for (int i = 0; i < PHASES * WAYS && !has_failed(); i++) {
        struct waiting *waiting = prepare_waiting(&phases[i % PHASES]);
        dbss_operation *operation = waiting->work.operation;
        enum way way = i / PHASES;
        long long since;
        if (way >= BY_RESULT)
            OK(dbss_operation_set_progress(operation, way == BY_RESULT ? stop_if_requested : cancel_if_requested,
                                           operation, NULL));
        start_waiting(waiting);
        since = now_ms();
        end_call(way, &waiting->work);
        i -=
            !expect_end(waiting, DBSS_ERR_CANCELLED, since, way >= BY_RESULT ? STOPPED_WITHIN_MS : CANCELLED_WITHIN_MS);
        add_failure_context("way %d", (int)way);
    }
    tear_down_phases();
}

struct gate {
    int calls, destroyed, is_open;
};

/* Counts its calls; each waits until the gate is open. */
static int32_t count_at_gate(void *user_data, const dbss_operation *operation)
{
    struct gate *gate = user_data;
    add_locked(&gate->calls, 1);
    WAIT_FOR(read_locked(&gate->is_open));
    return 0;
}

static void count_end_of_gate(void *user_data)
{
    add_locked(&((struct gate *)user_data)->destroyed, 1);
}

/* The operation and the context are freed during the call. */
NAMED_CHECKS(operation_freed_during_call_lets_it_finish, PLAIN, TLS)
{
    for (int sink = 0; sink < SINKS; sink++) {
        struct report report = new_report(300000);
        struct gate gate = {0, 0, 0};
        struct call call = {
            .sink = sink, .ctx = new_context(fixture(scheme)), .id = report.id, .operation = new_operation()};
        OK(dbss_operation_set_progress(call.operation, count_at_gate, &gate, count_end_of_gate));
        post_fault(report.id, "\"drip\": {\"bytes\": 100000, \"every_ms\": 150}");
        start_call(&call);
        WAIT_FOR(read_locked(&gate.calls) == 1);
        drop(call.operation);
        drop(call.ctx);
        add_locked(&gate.is_open, 1);
        join_call(&call);
        /* The callback still ran, at the end at least. */
        CHECK(gate.calls > 1 && gate.destroyed == 1);
        CHECK_CALL(DBSS_OK, &call, &report);
    }
}

/* During a call, every other use of its operation is refused. Errors of other calls in a
 * callback are in errors.c. */
struct nested {
    struct work outer, inner;
    int done, destroyed;
};

static int32_t make_nested_calls(void *user_data, const dbss_operation *operation)
{
    struct nested *nested = user_data;
    long connections = count_connections();
    dbss_error *error;

    CHECK(operation == nested->outer.operation);
    if (nested->done++ > 0)
        return 0;
    EXPECT(DBSS_ERR_BUSY,
           dbss_operation_set_progress(nested->outer.operation, NULL, &nested->destroyed, count_destroyed));
    CHECK(nested->destroyed == 1);
    EXPECT(DBSS_ERR_BUSY, download_to_memory(&nested->outer));
    EXPECT_NULL("config", dbss_config_set(NULL, "x", "y"));
    error = dbss_error_take();
    CHECK(dbss_error_status(error) == DBSS_ERR_NULL_ARGUMENT && dbss_last_error() == NULL);
    dbss_error_free(error);
    CHECK(dbss_operation_error(operation) == NULL && count_connections() == connections);
    /* Another whole call is allowed. */
    OK(download(&nested->inner));
    return 0;
}

NAMED_CHECK(calls_in_progress_callback, PLAIN)
{
    struct report report = new_report(300000);
    struct work work = new_work(new_context(fixture("http")), new_operation());
    for (int i = 0; i < 2; i++) {
        struct nested nested = {work, work, 0, 0};
        nested.outer.id = report.id;
        /* The caller sees the failure of the outer call. */
        if (i == 1)
            post_fault(report.id, "\"status\": 404");
        OK(dbss_operation_set_progress(work.operation, make_nested_calls, &nested, NULL));
        EXPECT_CALL(i == 0 ? DBSS_OK : DBSS_ERR_NOT_FOUND, &report, TO_MEMORY, work.ctx, work.operation);
        CHECK(nested.done >= 2 - i && nested.destroyed == 1);
    }
}

/* Other calls in the write callback, on the same context, do not disturb its bytes. */
static void call_another(struct call *call)
{
    if (call->len < 200000)
        return;
    call->on_data = NULL;
    EXPECT_DOWNLOAD(call->ctx);
    EXPECT_DOWNLOAD_ERROR(DBSS_ERR_NOT_FOUND, call->ctx, fresh_id());
}

NAMED_CHECK(calls_in_write_callback, PLAIN)
{
    struct report report = new_report(2000000);
    struct call call = {
        .sink = TO_CALLBACK, .ctx = new_context(fixture("http")), .id = report.id, .on_data = call_another};
    make_call(&call);
    CHECK(call.on_data == NULL);
    CHECK_CALL(DBSS_OK, &call, &report);
}

struct reader {
    dbss_report_stream *stream;
    dbss_status status;
    int read;
    long long ended;
};

static void *read_to_the_end(void *argument)
{
    struct reader *reader = argument;
    char part[4096];
    size_t len;
    do {
        reader->status = dbss_report_stream_read(reader->stream, part, sizeof part, &len);
        add_locked(&reader->read, (int)len);
        /* Busy while is_being_read() asks. */
    } while (len > 0 || reader->status == DBSS_ERR_BUSY);
    reader->ended = now_ms();
    return NULL;
}

/* Whether another thread is in a read of the stream. Between two, nobody may free it. */
static int is_being_read(dbss_report_stream *stream)
{
    char byte;
    size_t len;
    return dbss_report_stream_read(stream, &byte, 0, &len) == DBSS_ERR_BUSY;
}

/* Freeing a stream ends the read of another thread. */
NAMED_CHECKS(stream_freed_during_read_cancels_it, PLAIN, TLS)
{
    const char *id = add_report(300000);
    dbss_context *ctx = new_context(fixture(scheme));
    for (int i = 0; i < 2; i++) {
        dbss_operation *operation = i == 0 ? new_operation() : NULL;
        struct reader reader = {NULL, DBSS_OK, 0, 0};
        pthread_t thread;
        long long start;

        post_fault(id, "\"stall_after\": 200000, \"times\": 1");
        OK(dbss_report_open(ctx, REPORT_ARGUMENTS(id), operation, &reader.stream));
        thread = start_thread(read_to_the_end, &reader);
        /* In the next read, it waits for bytes. */
        WAIT_FOR(read_locked(&reader.read) == 200000 && is_being_read(reader.stream));
        start = now_ms();
        dbss_report_stream_free(reader.stream);
        CHECK(now_ms() - start < AT_ONCE_MS);
        pthread_join(thread, NULL);
        CHECK(reader.status == DBSS_ERR_CANCELLED);
        CHECK(reader.ended - start < AT_ONCE_MS);
        /* The operation works for another call. */
        OK(dbss_report_open(ctx, REPORT_ARGUMENTS(id), operation, &reader.stream));
        dbss_report_stream_free(reader.stream);
    }
}
