/* Reports in files, directories and descriptors, where it needs C: processes, file
 * systems, signals and callbacks. */

#include "calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

static char *path;
static struct report report;
/* To `path`, which is not there, or its directory, which is empty. */
static struct work work;

static void set_up(size_t len)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    set_option(config, "max_attempts", "2");
    report = new_report(len);
    work = new_work(new_context_from(config), new_operation());
    work.id = report.id;
    work.directory = new_directory();
    work.path = path = text("%s/audit-report.pdf", work.directory);
}

static int is_saved(void)
{
    return is_file(path, report.bytes, report.len) && count_entries(work.directory) == 1;
}

static dbss_status save(uint32_t flags)
{
    return dbss_report_download_to_file(work.ctx, work.project, work.instance, work.id, NULL, path, flags, NULL);
}

static dbss_status save_inside(void)
{
    return dbss_report_download_to_directory(work.ctx, work.project, work.instance, work.id, NULL, work.directory, 0,
                                             work.operation);
}

static int32_t change_directory(void *user_data, const dbss_operation *operation)
{
    CHECK(chdir("/") == 0);
    return 0;
}

static void save_while_the_directory_changes(void)
{
    CHECK(chdir(work.directory) == 0);
    work.operation = new_operation();
    OK(dbss_operation_set_progress(work.operation, change_directory, NULL, NULL));
    work.path = "audit-report.pdf";
    OK(download_to_file(&work));
    CHECK(access("audit-report.pdf", F_OK) != 0);
}

/* A relative path refers to the current directory at the start of the call, even if
 * the process changes it meanwhile. */
NAMED_CHECK(relative_path_is_that_of_the_start, LOAD)
{
    set_up(10000);
    run_in_child(save_while_the_directory_changes);
    CHECK(is_saved());
}

/* Creates the file after the last byte has arrived. */
static int32_t create_late(void *unused, const dbss_operation *operation)
{
    if (dbss_operation_received(operation) == 10000 && access(path, F_OK) != 0)
        write_file(path, "mine");
    return 0;
}

NAMED_CHECK(file_created_after_the_last_byte_is_kept, PLAIN)
{
    for (int i = 0; i < 2; i++) {
        set_up(10000);
        OK(dbss_operation_set_progress(work.operation, create_late, NULL, NULL));
        EXPECT(DBSS_ERR_FILE_EXISTS, i == 0 ? download_to_file(&work) : save_inside());
        CHECK(is_file(path, "mine", 4) && count_entries(work.directory) == 1);
    }
}

enum { WINNER = 1, LOSER, OTHER };

/* In a child, that starts when the other end of its pipe is closed. */
static int race(void *argument)
{
    const int *start = argument;
    dbss_status status;
    char c;
    close(start[1]);
    if (read(start[0], &c, 1) != 0)
        return OTHER;
    status = save(0);
    return status == DBSS_OK ? WINNER : status == DBSS_ERR_FILE_EXISTS ? LOSER : OTHER;
}

/* One of several concurrent processes creates the file. */
NAMED_CHECK(file_created_by_one_of_several_processes, LOAD)
{
    enum { RUNNERS = 4 };
    set_up(100000);
    for (int round = 0; round < 15; round++) {
        pid_t children[RUNNERS];
        int winners = 0, losers = 0, start[2], i;
        new_pipe(start);
        for (i = 0; i < RUNNERS; i++)
            children[i] = start_child(race, start);
        /* All start now. */
        close(start[0]);
        close(start[1]);
        for (i = 0; i < RUNNERS; i++) {
            int code = wait_for_child(children[i]);
            winners += code == WINNER;
            losers += code == LOSER;
        }
        CHECK(winners == 1 && losers == RUNNERS - 1 && is_saved());
        unlink(path);
    }
}

/* In a child: a directory without write permission. */
static void save_without_permission(void)
{
    long connections = count_connections();
    work.operation = NULL;
    CHECK(chmod(work.directory, 0555) == 0);
    /* Root may write everywhere, so drop its rights. */
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        fatal("cannot become nobody");
    for (int i = 0; i < 2; i++) {
        EXPECT(DBSS_ERR_FILE, i == 0 ? save(0) : save_inside());
        CHECK(dbss_error_os_code(dbss_last_error()) == EACCES);
    }
    CHECK(count_connections() == connections);
}

NAMED_CHECK(unwritable_directory_fails, LOAD)
{
    set_up(10000);
    run_in_child(save_without_permission);
    CHECK(chmod(work.directory, 0700) == 0 && count_entries(work.directory) == 0);
}

/* In a child, as the limit cannot be raised again. */
static void exceed_file_size_limit(void)
{
    struct rlimit limit = {100000, 100000};
    sigset_t pending;

    work.operation = NULL;
    work.fd = open(text("%s/descriptor", work.directory), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    /* By default the signal would end the process. */
    signal(SIGXFSZ, SIG_DFL);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        fatal("cannot set the limit");
    EXPECT(DBSS_ERR_DISK_FULL, save(0));
    CHECK(dbss_error_os_code(dbss_last_error()) == EFBIG && count_entries(work.directory) == 1);
    write_file(path, "mine");
    EXPECT(DBSS_ERR_DISK_FULL, save(DBSS_FILE_REPLACE));
    CHECK(dbss_error_os_code(dbss_last_error()) == EFBIG && count_entries(work.directory) == 2);
    CHECK(is_file(path, "mine", 4));
    EXPECT(DBSS_ERR_DISK_FULL, download_to_fd(&work));
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGXFSZ));
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &pending) == 0 && !sigismember(&pending, SIGXFSZ));
}

NAMED_CHECK(file_size_limit_fails, LOAD)
{
    set_up(3000000);
    run_in_child(exceed_file_size_limit);
}

static void *cancel_soon(void *operation)
{
    for (int i = 0; i < 3; i++)
        pause_briefly();
    dbss_operation_cancel(operation);
    return NULL;
}

/* Once the file has its name the call succeeds, even if it is cancelled just then.
 * A failed call never leaves a file. */
NAMED_CHECK(cancelled_download_leaves_no_file, PLAIN)
{
    set_up(2000000);
    for (int i = 0; i < 40; i++) {
        pthread_t thread = start_thread(cancel_soon, work.operation);
        dbss_status status = download_to_file(&work);
        pthread_join(thread, NULL);
        CHECK(status == DBSS_OK ? is_saved() : status == DBSS_ERR_CANCELLED && count_entries(work.directory) == 0);
        unlink(path);
        OK(dbss_operation_reset(work.operation));
    }
}

static int save_in_child(void *unused)
{
    return save(DBSS_FILE_REPLACE) != DBSS_OK;
}

/* A killed process may leave a hidden file with a known name. */
static void remove_leftovers(void)
{
    DIR *opened = opendir(work.directory);
    struct dirent *entry;
    while (opened != NULL && (entry = readdir(opened)) != NULL) {
        size_t len = strlen(entry->d_name);
        if (strncmp(entry->d_name, ".dbss-", 6) == 0 && strcmp(entry->d_name + len - 5, ".part") == 0)
            unlinkat(dirfd(opened), entry->d_name, 0);
    }
    closedir(opened);
}

/* A process killed at a random moment leaves the old file or the whole new one.
 * DBSS_TEST_KILLS sets the number of kills. */
NAMED_CHECK(killed_process_leaves_old_or_new_file, LOAD)
{
    const char *wanted = getenv("DBSS_TEST_KILLS");
    int kills = wanted != NULL ? atoi(wanted) : 80, old = 0, new = 0, span = INT_MAX, i;
    unsigned random = 12345;
    long long start;

    set_up(2000000);
    /* The duration without a kill, in microseconds. */
    for (i = 0; i < 5; i++) {
        int took;
        start = now_ms();
        OK(save(DBSS_FILE_REPLACE));
        took = (int)(now_ms() - start);
        /* The least: a busy machine only adds. */
        span = took < span ? took : span;
    }
    span = span * 1000 + 2000;
    /* More kills, at better moments, if the machine is busier or less busy now. */
    for (i = 0; (i < kills || (i < 20 * kills && (old == 0 || new == 0))) && !has_failed(); i++) {
        pid_t child;
        if (i > 0 && i % 40 == 0)
            span = new == 0 && span < 10000000 ? 2 * span : old == 0 ? span / 2 + 100 : span;
        write_file(path, "old");
        random = random * 1664525u + 1013904223u;
        child = start_child(save_in_child, NULL);
        /* From the start to well after the end, to hit every step. */
        usleep((useconds_t)((random >> 8) % (unsigned)(span * 3 / 2)));
        kill(child, SIGKILL);
        wait_for_long_child(child);
        remove_leftovers();
        old += is_file(path, "old", 3);
        new += is_file(path, report.bytes, report.len);
        CHECK(old + new == i + 1 && count_entries(work.directory) == 1);
    }
    /* Both outcomes occurred, so the moments were well chosen. */
    CHECK(old > 0 && new > 0);
}

struct drain {
    int fd, is_slow;
    size_t limit; /* 0: to the end */
    uint8_t *bytes;
    size_t len;
};

static void *drain(void *argument)
{
    struct drain *drain = argument;
    size_t capacity = 8 << 20;
    ssize_t n = 1;
    drain->bytes = malloc(capacity);
    while (n > 0 && (drain->limit == 0 || drain->len < drain->limit) && drain->len < capacity) {
        n = read(drain->fd, drain->bytes + drain->len, drain->is_slow ? 3000 : capacity - drain->len);
        if (n > 0)
            drain->len += (size_t)n;
    }
    close(drain->fd);
    return NULL;
}

/* A pipe or a pair of sockets. */
static void open_ends(int is_pipe, int is_nonblocking, int ends[2])
{
    if (is_pipe ? pipe(ends) : socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        fatal("cannot create a pipe");
    if (is_nonblocking)
        fcntl(ends[1], F_SETFL, O_NONBLOCK);
    work.fd = ends[1];
}

NAMED_CHECK(every_kind_of_descriptor_is_written, PLAIN)
{
    set_up(1000000);
    for (int i = 0; i < 8; i++) {
        struct drain reader = {.is_slow = i % 2};
        pthread_t thread;
        int ends[2], flags;
        open_ends(i < 4, i / 2 % 2, ends);
        if (i < 2)
            fcntl(ends[1], F_SETPIPE_SZ, 4096);
        flags = fcntl(ends[1], F_GETFL);
        reader.fd = ends[0];
        thread = start_thread(drain, &reader);
        OK(download_to_fd(&work));
        /* The descriptor is open and unchanged. */
        CHECK(fcntl(ends[1], F_GETFL) == flags);
        close(ends[1]);
        pthread_join(thread, NULL);
        CHECK(is_report(&report, reader.bytes, reader.len));
        add_failure_context("kind %d", i);
        free(reader.bytes);
    }
}

static void *run_to_fd(void *status)
{
    *(dbss_status *)status = download_to_fd(&work);
    return NULL;
}

/* Starts a download to a pipe that is full. */
static pthread_t fill_pipe(int is_nonblocking, int ends[2], dbss_status *status)
{
    int available = 0;
    pthread_t thread;
    open_ends(1, is_nonblocking, ends);
    fcntl(ends[1], F_SETPIPE_SZ, 4096);
    thread = start_thread(run_to_fd, status);
    WAIT_FOR(ioctl(ends[0], FIONREAD, &available) == 0 && available > 0);
    return thread;
}

NAMED_CHECK(descriptor_closed_meanwhile_is_written_to_the_end, PLAIN)
{
    struct drain reader = {0};
    const char *victim;
    dbss_status status = DBSS_OK;
    pthread_t thread, draining;
    int ends[2], fd;

    set_up(1000000);
    victim = text("%s/victim", work.directory);
    thread = fill_pipe(0, ends, &status);
    close(ends[1]);
    fd = open(victim, O_WRONLY | O_CREAT, 0600);
    CHECK(fd == ends[1]);
    reader.fd = ends[0];
    draining = start_thread(drain, &reader);
    pthread_join(thread, NULL);
    OK(status);
    pthread_join(draining, NULL);
    CHECK(is_report(&report, reader.bytes, reader.len));
    CHECK(is_file(victim, "", 0));
    free(reader.bytes);
    close(fd);
}

NAMED_CHECK(descriptor_made_blocking_meanwhile_blocks_no_cancel, PLAIN)
{
    char part[4096];
    dbss_status status = DBSS_OK;
    pthread_t thread;
    int ends[2], available = 0;

    set_up(1000000);
    thread = fill_pipe(1, ends, &status);
    fcntl(ends[1], F_SETFL, 0);
    /* The call writes again, and waits again. */
    CHECK(read(ends[0], part, sizeof part) > 0);
    WAIT_FOR(ioctl(ends[0], FIONREAD, &available) == 0 && available > 0);
    dbss_operation_cancel(work.operation);
    pthread_join(thread, NULL);
    CHECK(status == DBSS_ERR_CANCELLED);
    close(ends[0]);
    close(ends[1]);
}

/* The reader closes its end before or during the download. */
static void write_to_closed_readers(void)
{
    sigset_t pending, mask;
    int ends[2];
    work.operation = NULL;
    signal(SIGPIPE, SIG_DFL);
    for (int i = 0; i < 8; i++) {
        struct drain reader = {.limit = 1};
        pthread_t thread = 0;
        open_ends(i < 4, i % 2, ends);
        reader.fd = ends[0];
        if (i / 2 % 2)
            thread = start_thread(drain, &reader);
        else
            close(ends[0]);
        EXPECT(DBSS_ERR_BROKEN_PIPE, download_to_fd(&work));
        CHECK(dbss_error_os_code(dbss_last_error()) == EPIPE || dbss_error_os_code(dbss_last_error()) == ECONNRESET);
        CHECK(dbss_error_is_retryable(dbss_last_error()) == 0);
        if (thread != 0)
            pthread_join(thread, NULL);
        free(reader.bytes);
        close(ends[1]);
        add_failure_context("kind %d", i);
    }
    /* The signal was neither delivered nor left pending. */
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGPIPE));
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0 && !sigismember(&mask, SIGPIPE));
    /* A pending signal that the host itself blocked stays pending. */
    sigaddset(&mask, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    raise(SIGPIPE);
    open_ends(1, 0, ends);
    close(ends[0]);
    EXPECT(DBSS_ERR_BROKEN_PIPE, download_to_fd(&work));
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE));
}

NAMED_CHECK(broken_pipe_fails_without_signal, LOAD)
{
    set_up(3000000);
    run_in_child(write_to_closed_readers);
}
