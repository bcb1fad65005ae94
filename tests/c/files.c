/*
 * Reports in files, directories and descriptors, where it needs C: processes, file
 * systems, signals and callbacks. See checks.h for how to run the checks.
 */

#define _GNU_SOURCE /* for F_SETPIPE_SZ */

#include "calls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPORT_ARGUMENTS(id) fixture("project"), fixture("instance"), id, "en-us"

static dbss_context *ctx;
static char *directory;
static struct report report;

/* Creates a context, a report and an empty directory. */
static void set_up(size_t len)
{
    dbss_config *config = new_config(fixture("http"), fixture("token"));
    set_option(config, "max_attempts", "2");
    ctx = context_from(config);
    directory = new_directory();
    report = new_report(len);
}

static void tear_down(void)
{
    free_report(&report);
    remove_directory(directory);
    dbss_context_free(ctx);
    directory = NULL;
}

static char *path_in_directory(const char *name)
{
    return format("%s/%s", directory, name);
}

#define CHECK_FILE(path, report) check_file(__LINE__, path, report)

static void check_file(int line, const char *path, const struct report *expected)
{
    size_t len;
    uint8_t *bytes = read_file(path, &len);
    if (bytes == NULL)
        fail_check("line %d: the file is missing", line);
    else if (len != expected->len || memcmp(bytes, expected->bytes, len) != 0)
        fail_check("line %d: the file is not the report", line);
    free(bytes);
}

static void check_text(int line, const char *path, const char *text)
{
    size_t len;
    uint8_t *bytes = read_file(path, &len);
    if (bytes == NULL || len != strlen(text) || memcmp(bytes, text, len) != 0)
        fail_check("line %d: the old file has changed", line);
    free(bytes);
}

static dbss_status save(const char *path, uint32_t flags, dbss_operation *operation)
{
    return dbss_report_download_to_file(ctx, REPORT_ARGUMENTS(report.id), path, flags, operation);
}

static dbss_status save_inside(uint32_t flags, dbss_operation *operation)
{
    return dbss_report_download_to_directory(ctx, REPORT_ARGUMENTS(report.id), directory, flags, operation);
}

/* ---------------------------------------------------------------------------
 * Existing files
 * ------------------------------------------------------------------------ */

static int32_t change_directory(void *user_data, const dbss_operation *operation)
{
    (void)user_data;
    (void)operation;
    CHECK(chdir("/") == 0);
    return 0;
}

/* A relative path refers to the current directory at the start of the call, even if
 * the process changes it meanwhile. */
static void save_while_the_directory_changes(void)
{
    dbss_operation *operation = new_operation();
    CHECK(chdir(directory) == 0);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, change_directory, NULL, NULL));
    EXPECT(DBSS_OK, save("relative", 0, operation));
    CHECK(access("relative", F_OK) != 0);
    dbss_operation_free(operation);
}

static void relative_path_is_that_of_the_start(void)
{
    char *path;
    set_up(10000);
    path = path_in_directory("relative");
    run_in_child(save_while_the_directory_changes);
    CHECK_FILE(path, &report);
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "flags", save(path, 2, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "flags", save(path, 0x80000001u, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "flags", save_inside(4, NULL));
    free(path);
    tear_down();
}

/* Creates the file after the last byte has arrived. */
static int32_t create_late(void *path, const dbss_operation *operation)
{
    if (dbss_operation_received(operation) == 10000 && access(path, F_OK) != 0)
        write_file(path, "mine");
    return 0;
}

static void file_created_after_the_last_byte_is_kept(void)
{
    int i;
    for (i = 0; i < 2; i++) {
        dbss_operation *operation = new_operation();
        char *path;
        set_up(10000);
        path = path_in_directory("audit-report.pdf");
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, create_late, path, NULL));
        EXPECT(DBSS_ERR_FILE_EXISTS, i == 0 ? save(path, 0, operation) : save_inside(0, operation));
        check_text(__LINE__, path, "mine");
        CHECK(count_entries(directory) == 1);
        free(path);
        dbss_operation_free(operation);
        tear_down();
    }
}

/* A process that starts when the other end of its pipe is closed. */
struct racer {
    const char *path;
    int start[2];
};

enum { WINNER = 1, LOSER, OTHER };

static int race(void *argument)
{
    const struct racer *racer = argument;
    dbss_status status;
    char c;
    close(racer->start[1]);
    if (read(racer->start[0], &c, 1) != 0)
        return OTHER;
    status = save(racer->path, 0, NULL);
    return status == DBSS_OK ? WINNER : status == DBSS_ERR_FILE_EXISTS ? LOSER : OTHER;
}

/* One of several concurrent processes creates the file. */
static void file_created_by_one_of_several_processes(void)
{
    enum { RUNNERS = 4 };
    int round;
    set_up(100000);
    for (round = 0; round < 15; round++) {
        char *path = path_in_directory("target");
        struct racer racer = {path, {-1, -1}};
        pid_t children[RUNNERS];
        int winners = 0, losers = 0, i;
        if (pipe(racer.start) != 0)
            fatal("cannot create a pipe");
        for (i = 0; i < RUNNERS; i++)
            children[i] = start_child(race, &racer);
        /* All start now. */
        close(racer.start[0]);
        close(racer.start[1]);
        for (i = 0; i < RUNNERS; i++) {
            int code = wait_for_child(children[i]);
            winners += code == WINNER;
            losers += code == LOSER;
        }
        CHECK(winners == 1 && losers == RUNNERS - 1);
        CHECK_FILE(path, &report);
        CHECK(count_entries(directory) == 1);
        unlink(path);
        free(path);
    }
    tear_down();
}

/* In a child: a directory without write permission. */
static void save_without_permission(void)
{
    char *path = path_in_directory("report");
    long connections = count_connections();
    CHECK(chmod(directory, 0555) == 0);
    /* Root may write everywhere, so drop its rights. */
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        fatal("cannot become nobody");
    EXPECT(DBSS_ERR_FILE, save(path, 0, NULL));
    CHECK(dbss_error_os_code(dbss_last_error()) == EACCES);
    EXPECT(DBSS_ERR_FILE, save_inside(0, NULL));
    CHECK(dbss_error_os_code(dbss_last_error()) == EACCES);
    CHECK(count_connections() == connections);
    free(path);
}

static void unwritable_directory_fails(void)
{
    set_up(10000);
    run_in_child(save_without_permission);
    CHECK(chmod(directory, 0700) == 0 && count_entries(directory) == 0);
    tear_down();
}

/* In a child, as the limit cannot be raised again. */
static void exceed_file_size_limit(void)
{
    struct rlimit limit = {100000, 100000};
    char *path = path_in_directory("report"), *other = path_in_directory("descriptor");
    int replace, fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    sigset_t pending;

    /* By default the signal would end the process. */
    signal(SIGXFSZ, SIG_DFL);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        fatal("cannot set the limit");
    for (replace = 0; replace < 2; replace++) {
        if (replace)
            write_file(path, "mine");
        EXPECT(DBSS_ERR_DISK_FULL, save(path, replace ? DBSS_FILE_REPLACE : 0, NULL));
        CHECK(dbss_error_os_code(dbss_last_error()) == EFBIG);
        CHECK(count_entries(directory) == 1 + replace);
    }
    check_text(__LINE__, path, "mine");
    EXPECT(DBSS_ERR_DISK_FULL, dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), fd, NULL));
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGXFSZ));
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &pending) == 0 && !sigismember(&pending, SIGXFSZ));
    close(fd);
    free(other);
    free(path);
}

static void file_size_limit_fails(void)
{
    set_up(3000000);
    run_in_child(exceed_file_size_limit);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * Interrupted downloads
 * ------------------------------------------------------------------------ */

/* Once the file has its name the call succeeds, even if it is cancelled just then.
 * A failed call never leaves a file. */
static void *cancel_soon(void *operation)
{
    int i;
    for (i = 0; i < 3; i++)
        pause_briefly();
    dbss_operation_cancel(operation);
    return NULL;
}

static void cancelled_download_leaves_no_file(void)
{
    int i;
    set_up(2000000);
    for (i = 0; i < 40; i++) {
        dbss_operation *operation = new_operation();
        char *path = path_in_directory("report");
        pthread_t thread = start_thread(cancel_soon, operation);
        dbss_status status = save(path, 0, operation);
        pthread_join(thread, NULL);
        CHECK(status == DBSS_OK || status == DBSS_ERR_CANCELLED);
        CHECK(count_entries(directory) == (status == DBSS_OK));
        if (status == DBSS_OK)
            CHECK_FILE(path, &report);
        unlink(path);
        free(path);
        dbss_operation_free(operation);
    }
    tear_down();
}

static int save_in_child(void *path)
{
    return save(path, DBSS_FILE_REPLACE, NULL) != DBSS_OK;
}

/* A process killed at a random moment leaves the old file or the whole new one.
 * DBSS_TEST_KILLS sets the number of kills. */
static void killed_process_leaves_old_or_new_file(void)
{
    const char *wanted = getenv("DBSS_TEST_KILLS");
    int kills = wanted != NULL ? atoi(wanted) : 80, old = 0, new = 0, i;
    unsigned random = 12345;
    long long start;
    int span;
    char *path;

    set_up(2000000);
    path = path_in_directory("target");
    /* The duration without a kill, in microseconds. */
    start = now_ms();
    for (i = 0; i < 5; i++)
        EXPECT(DBSS_OK, save(path, DBSS_FILE_REPLACE, NULL));
    span = (int)(now_ms() - start) * 200 + 2000;
    for (i = 0; i < kills && !has_failed(); i++) {
        DIR *opened;
        struct dirent *entry;
        size_t len;
        uint8_t *bytes;
        pid_t child;

        write_file(path, "old");
        random = random * 1664525u + 1013904223u;
        child = start_child(save_in_child, path);
        /* From the start to well after the end, to hit every step. */
        usleep((useconds_t)((random >> 8) % (unsigned)(span * 3 / 2)));
        kill(child, SIGKILL);
        wait_for_long_child(child);
        bytes = read_file(path, &len);
        if (bytes != NULL && len == 3 && memcmp(bytes, "old", 3) == 0)
            old++;
        else if (bytes != NULL && len == report.len && memcmp(bytes, report.bytes, len) == 0)
            new++;
        else
            fail_check("after kill %d the %lu bytes are of neither file", i, (unsigned long)len);
        free(bytes);
        /* A killed process may leave a hidden file with a known name. */
        opened = opendir(directory);
        while (opened != NULL && (entry = readdir(opened)) != NULL) {
            char *leftover = path_in_directory(entry->d_name);
            len = strlen(entry->d_name);
            if (strncmp(entry->d_name, ".dbss-", 6) == 0 && strcmp(entry->d_name + len - 5, ".part") == 0)
                unlink(leftover);
            free(leftover);
        }
        closedir(opened);
        CHECK(count_entries(directory) == 1);
    }
    /* Both outcomes occurred, so the moments were well chosen. */
    CHECK(old > 0 && new > 0);
    CHECK(old + new == kills);
    free(path);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * Descriptors
 * ------------------------------------------------------------------------ */

struct drain {
    int fd;
    size_t limit; /* 0: to the end */
    uint8_t *bytes;
    size_t len;
    int is_slow;
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

static void every_kind_of_descriptor_is_written(void)
{
    int i;
    set_up(1000000);
    for (i = 0; i < 8; i++) {
        struct drain reader = {-1, 0, NULL, 0, 0};
        pthread_t thread;
        int ends[2], flags;
        reader.is_slow = i % 2;
        if (i < 4 ? pipe(ends) : socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
            fatal("cannot create a pipe");
        if (i / 2 % 2)
            fcntl(ends[1], F_SETFL, O_NONBLOCK);
        if (i < 2)
            fcntl(ends[1], F_SETPIPE_SZ, 4096);
        flags = fcntl(ends[1], F_GETFL);
        reader.fd = ends[0];
        thread = start_thread(drain, &reader);
        EXPECT(DBSS_OK, dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), ends[1], NULL));
        /* The descriptor is open and unchanged. */
        CHECK(fcntl(ends[1], F_GETFL) == flags);
        close(ends[1]);
        pthread_join(thread, NULL);
        CHECK(reader.len == report.len && memcmp(reader.bytes, report.bytes, reader.len) == 0);
        add_failure_context("kind %d", i);
        free(reader.bytes);
    }
    tear_down();
}

static void unusable_descriptor_is_refused(void)
{
    int fds[] = {-1, -2, 0x7fffffff, -1, -1, -1}, ends[2];
    long connections;
    size_t i;
    set_up(10000);
    connections = count_connections();
    if (pipe(ends) != 0)
        fatal("cannot create a pipe");
    /* A closed one, the reading end of a pipe, and a directory. */
    fds[3] = dup(ends[0]);
    close(fds[3]);
    fds[4] = ends[0];
    fds[5] = open(directory, O_RDONLY | O_CLOEXEC);
    for (i = 0; i < sizeof fds / sizeof *fds; i++)
        EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd",
                         dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), fds[i], NULL));
    CHECK(count_connections() == connections);
    close(fds[5]);
    close(ends[0]);
    close(ends[1]);
    tear_down();
}

/* The reader closes its end before or during the download. */
static void write_to_closed_readers(void)
{
    sigset_t pending, mask;
    int i;
    signal(SIGPIPE, SIG_DFL);
    for (i = 0; i < 8; i++) {
        struct drain reader = {-1, 1, NULL, 0, 0};
        pthread_t thread = 0;
        int ends[2];
        if (i < 4 ? pipe(ends) : socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
            fatal("cannot create a pipe");
        if (i % 2)
            fcntl(ends[1], F_SETFL, O_NONBLOCK);
        if (i / 2 % 2) {
            reader.fd = ends[0];
            thread = start_thread(drain, &reader);
        } else {
            close(ends[0]);
        }
        EXPECT(DBSS_ERR_BROKEN_PIPE, dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), ends[1], NULL));
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
}

static void broken_pipe_fails_without_signal(void)
{
    set_up(3000000);
    run_in_child(write_to_closed_readers);
    tear_down();
}

/* A pending signal that the host itself blocked stays pending. */
static void expect_pending_signal_stays(void)
{
    sigset_t mine, pending;
    int ends[2];
    sigemptyset(&mine);
    sigaddset(&mine, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &mine, NULL);
    raise(SIGPIPE);
    if (pipe(ends) != 0)
        fatal("cannot create a pipe");
    close(ends[0]);
    EXPECT(DBSS_ERR_BROKEN_PIPE, dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), ends[1], NULL));
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE));
}

static void pending_signal_of_host_stays(void)
{
    set_up(10000);
    run_in_child(expect_pending_signal_stays);
    tear_down();
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"relative_path_is_that_of_the_start", relative_path_is_that_of_the_start, LOAD},
    {"file_created_after_the_last_byte_is_kept", file_created_after_the_last_byte_is_kept, PLAIN},
    {"file_created_by_one_of_several_processes", file_created_by_one_of_several_processes, LOAD},
    {"unwritable_directory_fails", unwritable_directory_fails, LOAD},
    {"file_size_limit_fails", file_size_limit_fails, LOAD},
    {"cancelled_download_leaves_no_file", cancelled_download_leaves_no_file, PLAIN},
    {"killed_process_leaves_old_or_new_file", killed_process_leaves_old_or_new_file, LOAD},
    {"every_kind_of_descriptor_is_written", every_kind_of_descriptor_is_written, PLAIN},
    {"unusable_descriptor_is_refused", unusable_descriptor_is_refused, PLAIN},
    {"broken_pipe_fails_without_signal", broken_pipe_fails_without_signal, LOAD},
    {"pending_signal_of_host_stays", pending_signal_of_host_stays, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
