#include "phases.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static const char *instance, *not_ready, *stalling;
static dbss_token_request *requested;
static int retries_logged, tokens_requested;
int ticks;

/* A descriptor that soon blocks writes: a pipe that is too small for a report and has no
 * reader, a socket, or a terminal that nobody reads, as after Ctrl-S. */
static int open_sink(enum sink_kind kind, int *other_end)
{
    int ends[2] = {-1, -1};
    switch (kind) {
    case SOCKET:
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
            fatal("cannot create sockets");
        break;
    case TERMINAL:
        if ((ends[0] = posix_openpt(O_RDWR | O_NOCTTY)) < 0 || grantpt(ends[0]) != 0 || unlockpt(ends[0]) != 0
            || (ends[1] = open(ptsname(ends[0]), O_RDWR | O_NOCTTY)) < 0)
            fatal("cannot open a terminal: %s", strerror(errno));
        break;
    default:
        new_pipe(ends);
        fcntl(ends[1], F_SETPIPE_SZ, 4096);
        if (kind == PIPE_NONBLOCKING)
            fcntl(ends[1], F_SETFL, fcntl(ends[1], F_GETFL) | O_NONBLOCK);
    }
    *other_end = ends[0];
    return ends[1];
}

#define STALLS "\"stall_after\": 100000"

const struct phase phases[PHASES] = {
    {"the look-up", "http://stalled.test:1", NULL, download_to_memory, LOOKUP, NO_SINK},
    {"connecting", "never_accepts", NULL, download_to_memory, ATTEMPT, NO_SINK},
    {"the TLS handshake", "https", "handshake", download_to_memory, CONNECTION, NO_SINK},
    {"the header", "http", "\"no_response\": true", download_to_memory, REQUEST, NO_SINK},
    {"the header over TLS", "https", "\"no_response\": true", download_to_memory, REQUEST, NO_SINK},
    {"the body", "http", STALLS, download_to_memory, BYTES, NO_SINK},
    {"a slow body", "http", "\"drip\": {\"bytes\": 1, \"every_ms\": 20}", download_to_memory, BYTES, NO_SINK},
    {"a fast body", "http", "\"fill\": {\"size\": 100000000000}", download_to_callback, BYTES, NO_SINK},
    {"a stream", "http", STALLS, download_to_stream, BYTES, NO_SINK},
    {"a pipe", "http", NULL, download_to_fd, BYTES, PIPE},
    {"a pipe that does not block", "http", NULL, download_to_fd, BYTES, PIPE_NONBLOCKING},
    {"a socket", "http", NULL, download_to_fd, BYTES, SOCKET},
    {"a terminal", "http", NULL, download_to_fd, BYTES, TERMINAL},
    {"a token", "http", NULL, download_to_memory, TOKEN_REQUEST, NO_SINK},
    {"backoff", "http", "\"status\": 503, \"headers\": [[\"Retry-After\", \"50\"]]", download_to_memory, RETRY,
     NO_SINK},
    {"waiting for a report", "http", NULL, wait_for_report, POLL, NO_SINK},
    {"a mirror", "http", STALLS, mirror, BYTES, NO_SINK},
};

static int has_reached_phase(const struct waiting *waiting)
{
    const dbss_operation *operation = waiting->work.operation;
    int available = 1;
    switch (waiting->phase->reached) {
    case LOOKUP: return lookups_started() > waiting->lookups;
    case ATTEMPT: return dbss_operation_attempts(operation) > 0;
    case CONNECTION: return count_connections() > waiting->connections;
    case REQUEST: return count_requests(waiting->work.id) > 0;
    case TOKEN_REQUEST: return read_locked(&tokens_requested) > 0;
    case RETRY: return read_locked(&retries_logged) > 0;
    case POLL: return dbss_operation_percent(operation) == 20;
    default:
        /* A descriptor has data, and the call has more. */
        if (waiting->phase->sink != NO_SINK && ioctl(waiting->other_end, FIONREAD, &available) != 0)
            available = 0;
        return dbss_operation_received(operation) > 0 && available > 0;
    }
}

void set_up_phases(void)
{
    instance = add_instance(0, 0);
    not_ready = fresh_id();
    stalling = fresh_id();
    post_control("/reports", "{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\", \"percentum\": 20}",
                 not_ready, instance);
    post_control("/reports", "{\"id\": \"%s\", \"instance\": \"%s\", \"format\": \"pdf\", \"size\": 300000}", stalling,
                 instance);
    stall_lookups();
}

void tear_down_phases(void)
{
    release_lookups();
    WAIT_FOR(lookups_ended() == lookups_started());
}

static void count_retry(void *user_data, const dbss_log_record *record)
{
    if (dbss_log_record_retry_delay_ms(record) >= 0)
        add_locked(&retries_logged, 1);
}

/* Never completes the request. */
static void keep_request(void *user_data, dbss_token_request *request)
{
    requested = request;
    add_locked(&tokens_requested, 1);
}

struct waiting *prepare_waiting(const struct phase *phase)
{
    struct waiting *waiting = keep(calloc(1, sizeof *waiting), free);
    const char *endpoint = find_fixture(phase->endpoint);
    dbss_config *config = new_config(endpoint != NULL ? endpoint : phase->endpoint, fixture("token"));
    int is_of_instance = phase->call == mirror || phase->call == wait_for_report;

    set_option(config, "max_attempts", "3");
    set_option(config, "allow_plaintext", "true");
    set_option(config, "connect_timeout_ms", "60000");
    require_ok(dbss_config_set_log(config, count_retry, NULL, NULL));
    if (phase->reached == TOKEN_REQUEST)
        require_ok(dbss_config_set_token_provider(config, keep_request, NULL, NULL));
    waiting->phase = phase;
    waiting->work = new_work(new_context_from(config), new_operation());
    waiting->work.instance = is_of_instance ? instance : fixture("instance");
    /* Each has its own: a request that the service takes late must not get the fault of the next. */
    waiting->work.id = is_of_instance ? not_ready : add_report(300000);
    waiting->work.directory = new_directory();
    if (phase->sink != NO_SINK)
        waiting->work.fd = open_sink(phase->sink, &waiting->other_end);
    require_ok(dbss_operation_set(waiting->work.operation, "poll_interval_ms", "50000"));
    require_ok(dbss_operation_set_progress(waiting->work.operation, count_progress, &ticks, NULL));
    waiting->lookups = lookups_started();
    waiting->connections = count_connections();
    retries_logged = tokens_requested = 0;
    requested = NULL;
    if (phase->fault != NULL && strcmp(phase->fault, "handshake") == 0)
        post_listener_fault("https", "handshake_stall");
    else if (phase->fault != NULL)
        post_fault(phase->call == mirror ? stalling : waiting->work.id, "%s, \"times\": 1", phase->fault);
    return waiting;
}

void *run_waiting(void *argument)
{
    struct waiting *waiting = argument;
    pthread_sigmask(SIG_SETMASK, NULL, &waiting->before);
    waiting->status = waiting->phase->call(&waiting->work);
    waiting->ended_ms = now_ms();
    pthread_sigmask(SIG_SETMASK, NULL, &waiting->after);
    add_locked(&waiting->is_over, 1);
    return NULL;
}

void start_waiting(struct waiting *waiting)
{
    waiting->thread = start_thread(run_waiting, waiting);
    WAIT_FOR(has_reached_phase(waiting));
}

int expect_end(struct waiting *waiting, dbss_status expected, long long since, int within_ms)
{
    static int late_ends;
    int has_sink = waiting->phase->sink != NO_SINK, mode = has_sink ? fcntl(waiting->work.fd, F_GETFL) : 0;
    int number, is_late, changed = 0;
    /* Long, as what follows ends a call that is only late in another way. */
    while (!read_locked(&waiting->is_over) && now_ms() < since + within_ms + WAIT_LIMIT_MS / 2)
        pause_briefly();
    if (has_sink)
        /* Ends the call if nothing else did. */
        close(waiting->other_end);
    if (waiting->thread != 0)
        pthread_join(waiting->thread, NULL);
    /* A close may fall between two reads of a stream. */
    if (expected == DBSS_ERR_CANCELLED && waiting->phase->call == download_to_stream
        && waiting->status == DBSS_ERR_CLOSED)
        expected = DBSS_ERR_CLOSED;
    is_late = waiting->ended_ms - since > within_ms;
    /* What is wrong is late each time, a busy machine now and then. */
    late_ends = is_late ? late_ends + 1 : 0;
    if (waiting->status != expected || late_ends > 5)
        fail_check("the call ended after %lld ms with %s", waiting->ended_ms - since,
                   dbss_status_name(waiting->status));
    /* The signal mask of the thread is unchanged, and so is the open descriptor. */
    for (number = 1; number < 32; number++)
        changed |= sigismember(&waiting->before, number) != sigismember(&waiting->after, number);
    CHECK(!changed);
    if (has_sink) {
        CHECK(mode >= 0 && mode == fcntl(waiting->work.fd, F_GETFL));
        CHECK(((mode & O_NONBLOCK) != 0) == (waiting->phase->sink == PIPE_NONBLOCKING));
        close(waiting->work.fd);
    }
    add_failure_context("phase: %s", waiting->phase->name);
    dbss_token_request_free(requested);
    requested = NULL;
    drop(waiting->work.operation);
    drop(waiting->work.ctx);
    remove_faults();
    return !is_late;
}
