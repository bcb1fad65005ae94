#include "phases.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static struct report report;
static const char *instance, *not_ready, *stalling;
static dbss_token_request *requested;
static int retries_logged;
int ticks;

/* A pipe that is too small for a report and has no reader. */
static int open_pipe(int *other_end)
{
    int ends[2];
    new_pipe(ends);
    fcntl(ends[1], F_SETPIPE_SZ, 4096);
    *other_end = ends[0];
    return ends[1];
}

static int open_pipe_nonblocking(int *other_end)
{
    int fd = open_pipe(other_end);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static int open_socket(int *other_end)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        fatal("cannot create sockets");
    *other_end = ends[0];
    return ends[1];
}

/* A terminal that nobody reads, as after Ctrl-S. */
static int open_terminal(int *other_end)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave = -1;
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0
        || (slave = open(ptsname(master), O_RDWR | O_NOCTTY)) < 0)
        fatal("cannot open a terminal: %s", strerror(errno));
    *other_end = master;
    return slave;
}

static int has_started_lookup(const struct waiting *waiting)
{
    return lookups_started() > waiting->lookups;
}

static int has_started_attempt(const struct waiting *waiting)
{
    return dbss_operation_attempts(waiting->work.operation) > 0;
}

static int is_connected(const struct waiting *waiting)
{
    return count_connections() > waiting->connections;
}

static int has_sent_request(const struct waiting *waiting)
{
    return count_requests(report.id) > waiting->requests;
}

static int has_bytes(const struct waiting *waiting)
{
    return dbss_operation_received(waiting->work.operation) > 0;
}

/* The descriptor has data, and the call has more. */
static int has_written(const struct waiting *waiting)
{
    int available;
    return has_bytes(waiting) && ioctl(waiting->other_end, FIONREAD, &available) == 0 && available > 0;
}

static int is_waiting_to_retry(const struct waiting *waiting)
{
    return read_locked(&retries_logged) > 0;
}

static int has_requested_token(const struct waiting *waiting)
{
    int result;
    pthread_mutex_lock(&lock);
    result = requested != NULL;
    pthread_mutex_unlock(&lock);
    return result;
}

static int is_polling(const struct waiting *waiting)
{
    return dbss_operation_percent(waiting->work.operation) == 20;
}

#define STALLS "\"stall_after\": 100000"

const struct phase phases[PHASES] = {
    {"the look-up", "http://stalled.test:1", NULL, download_to_memory, has_started_lookup, NULL},
    {"connecting", "never_accepts", NULL, download_to_memory, has_started_attempt, NULL},
    {"the TLS handshake", "https", "handshake", download_to_memory, is_connected, NULL},
    {"the header", "http", "\"no_answer\": true", download_to_memory, has_sent_request, NULL},
    {"the header over TLS", "https", "\"no_answer\": true", download_to_memory, has_sent_request, NULL},
    {"the body", "http", STALLS, download_to_memory, has_bytes, NULL},
    {"a slow body", "http", "\"drip\": {\"bytes\": 1, \"every_ms\": 20}", download_to_memory, has_bytes, NULL},
    {"a fast body", "http", "\"fill\": {\"size\": 100000000000}", download_to_callback, has_bytes, NULL},
    {"a stream", "http", STALLS, download_to_stream, has_bytes, NULL},
    {"a pipe", "http", NULL, download_to_fd, has_written, open_pipe},
    {"a pipe that does not block", "http", NULL, download_to_fd, has_written, open_pipe_nonblocking},
    {"a socket", "http", NULL, download_to_fd, has_written, open_socket},
    {"a terminal", "http", NULL, download_to_fd, has_written, open_terminal},
    {"a token", "http", NULL, download_to_memory, has_requested_token, NULL},
    {"backoff", "http", "\"status\": 503, \"headers\": [[\"Retry-After\", \"50\"]]", download_to_memory,
     is_waiting_to_retry, NULL},
    {"waiting for a report", "http", NULL, wait_for_report, is_polling, NULL},
    {"a mirror", "http", STALLS, mirror, has_bytes, NULL},
};

void set_up_phases(void)
{
    report = new_report(300000);
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
    pthread_mutex_lock(&lock);
    requested = request;
    pthread_mutex_unlock(&lock);
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
    if (phase->is_reached == has_requested_token)
        require_ok(dbss_config_set_token_provider(config, keep_request, NULL, NULL));
    waiting->phase = phase;
    waiting->work = new_work(new_context_from(config), new_operation());
    waiting->work.instance = is_of_instance ? instance : fixture("instance");
    waiting->work.id = is_of_instance ? not_ready : report.id;
    waiting->work.directory = new_directory();
    if (phase->open_sink != NULL)
        waiting->work.fd = phase->open_sink(&waiting->other_end);
    require_ok(dbss_operation_set(waiting->work.operation, "poll_interval_ms", "50000"));
    require_ok(dbss_operation_set_progress(waiting->work.operation, count_progress, &ticks, NULL));
    waiting->lookups = lookups_started();
    waiting->connections = count_connections();
    waiting->requests = count_requests(report.id);
    retries_logged = 0;
    requested = NULL;
    if (phase->fault != NULL && strcmp(phase->fault, "handshake") == 0)
        post_listener_fault("https", "handshake_stall");
    else if (phase->fault != NULL)
        post_fault(phase->call == mirror ? stalling : report.id, "%s, \"times\": 1", phase->fault);
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
    WAIT_FOR(waiting->phase->is_reached(waiting));
}

struct waiting *start_phase(const struct phase *phase)
{
    struct waiting *waiting = prepare_waiting(phase);
    start_waiting(waiting);
    return waiting;
}

void expect_end(struct waiting *waiting, dbss_status expected, long long since, int within_ms)
{
    int has_sink = waiting->phase->open_sink != NULL, mode = has_sink ? fcntl(waiting->work.fd, F_GETFL) : 0;
    int number, changed = 0;
    while (!read_locked(&waiting->is_over) && now_ms() < since + within_ms + 3000)
        pause_briefly();
    if (has_sink)
        /* Ends the call if nothing else did. */
        close(waiting->other_end);
    if (waiting->thread != 0)
        pthread_join(waiting->thread, NULL);
    if (waiting->status != expected || waiting->ended_ms - since > within_ms)
        fail_check("the call ended after %lld ms with %s", waiting->ended_ms - since,
                   dbss_status_name(waiting->status));
    /* The signal mask of the thread is unchanged, and so is the open descriptor. */
    for (number = 1; number < 32; number++)
        changed |= sigismember(&waiting->before, number) != sigismember(&waiting->after, number);
    CHECK(!changed);
    if (has_sink) {
        CHECK(mode >= 0 && mode == fcntl(waiting->work.fd, F_GETFL));
        CHECK(((mode & O_NONBLOCK) != 0) == (waiting->phase->open_sink == open_pipe_nonblocking));
        close(waiting->work.fd);
    }
    add_failure_context("phase: %s", waiting->phase->name);
    dbss_token_request_free(requested);
    requested = NULL;
    drop(waiting->work.operation);
    drop(waiting->work.ctx);
    remove_faults();
}
