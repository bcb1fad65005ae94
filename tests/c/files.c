/*
 * Reports in files, directories and descriptors: what exists after a call succeeds,
 * fails or is killed. See checks.h for how to run the checks.
 */

#define _GNU_SOURCE /* for unshare() */

#include "calls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
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

static mode_t mode_of(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 ? info.st_mode & 07777 : 0;
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
 * Modes, names, getters
 * ------------------------------------------------------------------------ */

static void file_mode_ignores_umask(void)
{
    static const mode_t masks[] = {0, 022, 077, 0777};
    static const struct {
        const char *option;
        mode_t mode;
    } options[] = {{NULL, 0600}, {"600", 0600}, {"0644", 0644}, {"660", 0660}, {"777", 0777}};
    size_t i, j;
    set_up(10000);
    for (i = 0; i < sizeof masks / sizeof *masks; i++) {
        for (j = 0; j < sizeof options / sizeof *options; j++) {
            dbss_operation *operation = new_operation();
            char *path = path_in_directory("report");
            mode_t before = umask(masks[i]);
            if (options[j].option != NULL)
                EXPECT(DBSS_OK, dbss_operation_set(operation, "file_mode", options[j].option));
            EXPECT(DBSS_OK, save(path, j % 2 == 0 ? DBSS_FILE_REPLACE : 0, operation));
            umask(before);
            CHECK(mode_of(path) == options[j].mode);
            add_failure_context("umask %o, mode %s", (unsigned)masks[i],
                                options[j].option != NULL ? options[j].option : "unset");
            CHECK_FILE(path, &report);
            CHECK(unlink(path) == 0 && count_entries(directory) == 0);
            free(path);
            dbss_operation_free(operation);
        }
    }
    tear_down();
}

/* Other users cannot read the partial file, whatever the umask. */
static int32_t check_partial_files(void *user_data, const dbss_operation *operation)
{
    DIR *opened = opendir(directory);
    struct dirent *entry;
    (void)user_data;
    (void)operation;
    while (opened != NULL && (entry = readdir(opened)) != NULL) {
        char *path = path_in_directory(entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            CHECK(strncmp(entry->d_name, ".dbss-", 6) == 0);
            CHECK(mode_of(path) == 0600);
        }
        free(path);
    }
    closedir(opened);
    return 0;
}

static void partial_file_is_private(void)
{
    dbss_operation *operation = new_operation();
    char *path;
    mode_t before;
    set_up(300000);
    path = path_in_directory("report");
    before = umask(0);
    EXPECT(DBSS_OK, dbss_operation_set(operation, "file_mode", "666"));
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, check_partial_files, NULL, NULL));
    post_fault(report.id, "\"drip\": {\"bytes\": 100000, \"every_ms\": 60}");
    EXPECT(DBSS_OK, save(path, 0, operation));
    umask(before);
    CHECK(mode_of(path) == 0666);
    dbss_operation_free(operation);
    free(path);
    tear_down();
}

static void saved_path_and_name_are_reported(void)
{
    dbss_operation *operation = new_operation();
    char *path, *bytes;
    set_up(10000);

    path = path_in_directory("report");
    CHECK(dbss_operation_path(operation) == NULL && dbss_operation_filename(operation) == NULL);
    EXPECT(DBSS_OK, save(path, 0, operation));
    expect_text(__LINE__, path, dbss_operation_path(operation));
    expect_text(__LINE__, "audit-report.pdf", dbss_operation_filename(operation));
    CHECK(dbss_operation_request_id(operation) != NULL);
    CHECK(dbss_operation_received(operation) == 10000 && dbss_operation_total(operation) == 10000);
    /* A failure has no path. */
    EXPECT(DBSS_ERR_FILE_EXISTS, save(path, 0, operation));
    CHECK(dbss_operation_path(operation) == NULL);
    free(path);

    /* A path may be any bytes. */
    bytes = path_in_directory("\xff\xfe \n.pdf");
    EXPECT(DBSS_OK, save(bytes, 0, operation));
    expect_text(__LINE__, bytes, dbss_operation_path(operation));
    CHECK_FILE(bytes, &report);
    free(bytes);

    EXPECT(DBSS_OK, save_inside(0, operation));
    path = path_in_directory("audit-report.pdf");
    expect_text(__LINE__, path, dbss_operation_path(operation));
    CHECK_FILE(path, &report);
    free(path);
    CHECK(count_entries(directory) == 3);
    dbss_operation_free(operation);
    tear_down();
}

static int32_t change_directory(void *user_data, const dbss_operation *operation)
{
    (void)user_data;
    (void)operation;
    CHECK(chdir("/") == 0);
    return 0;
}

/* A relative path refers to the current directory at the start of the call, even if
 * the process changes it meanwhile. */
static void save_in_current_directory(void)
{
    dbss_operation *operation = new_operation();
    set_up(10000);
    if (chdir(directory) != 0)
        fatal("cannot go to %s", directory);
    EXPECT(DBSS_OK, save("plain", 0, NULL));
    EXPECT(DBSS_OK, save("./dotted", 0, NULL));
    EXPECT(DBSS_OK, dbss_report_download_to_directory(ctx, REPORT_ARGUMENTS(report.id), ".", 0, NULL));
    CHECK_FILE("plain", &report);
    CHECK_FILE("dotted", &report);
    CHECK_FILE("audit-report.pdf", &report);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, change_directory, NULL, NULL));
    EXPECT(DBSS_OK, save("elsewhere", 0, operation));
    CHECK(access("elsewhere", F_OK) != 0 && count_entries(directory) == 4);
    dbss_operation_free(operation);
    tear_down();
}

static void relative_path_uses_current_directory(void)
{
    run_in_child(save_in_current_directory);
}

static void file_arguments_are_checked(void)
{
    long connections;
    char *path;
    dbss_operation *operation = new_operation();
    set_up(10000);
    path = path_in_directory("x");
    connections = count_connections();
    EXPECT_NULL("path", save(NULL, 0, NULL));
    EXPECT_NULL("directory", dbss_report_download_to_directory(ctx, REPORT_ARGUMENTS(report.id), NULL, 0, NULL));
    EXPECT_NULL("ctx", dbss_report_download_to_file(NULL, REPORT_ARGUMENTS(report.id), path, 0, NULL));
    EXPECT_NULL("id",
                dbss_report_download_to_file(ctx, fixture("project"), fixture("instance"), NULL, NULL, path, 0, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "path", save("", 0, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "directory",
                     dbss_report_download_to_directory(ctx, REPORT_ARGUMENTS(report.id), "", 0, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "flags", save(path, 2, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "flags", save(path, 0x80000001u, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "flags", save_inside(4, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ID, "id",
                     dbss_report_download_to_file(ctx, REPORT_ARGUMENTS("x"), path, 0, operation));
    CHECK(count_connections() == connections && count_entries(directory) == 0);
    free(path);
    dbss_operation_free(operation);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * Existing files
 * ------------------------------------------------------------------------ */

static void existing_file_kept_unless_replaced(void)
{
    char *path;
    long connections;
    set_up(10000);
    path = path_in_directory("report");
    write_file(path, "mine");
    connections = count_connections();
    EXPECT(DBSS_ERR_FILE_EXISTS, save(path, 0, NULL));
    CHECK(strstr(dbss_error_message(dbss_last_error()), "report") != NULL);
    CHECK(count_connections() == connections);
    check_text(__LINE__, path, "mine");
    EXPECT(DBSS_OK, save(path, DBSS_FILE_REPLACE, NULL));
    CHECK_FILE(path, &report);
    CHECK(count_entries(directory) == 1);
    free(path);

    path = path_in_directory("audit-report.pdf");
    write_file(path, "mine");
    EXPECT(DBSS_ERR_FILE_EXISTS, save_inside(0, NULL));
    check_text(__LINE__, path, "mine");
    EXPECT(DBSS_OK, save_inside(DBSS_FILE_REPLACE, NULL));
    CHECK_FILE(path, &report);
    CHECK(count_entries(directory) == 2);
    free(path);
    tear_down();
}

/* A file that somebody creates during the download is kept. */
struct competing_file {
    char *path;
    int done, late;
};

/* Creates the file after the first bytes, or after the last (`late`). */
static int32_t create_competing_file(void *user_data, const dbss_operation *operation)
{
    struct competing_file *competing_file = user_data;
    int64_t received = dbss_operation_received(operation);
    if (!competing_file->done && received >= (competing_file->late ? 300000 : 1)) {
        competing_file->done = 1;
        write_file(competing_file->path, "mine");
    }
    return 0;
}

static void file_created_during_download_is_kept(void)
{
    int i;
    for (i = 0; i < 4; i++) {
        dbss_operation *operation = new_operation();
        struct competing_file competing_file = {NULL, 0, 0};
        set_up(300000);
        competing_file.path = path_in_directory("audit-report.pdf");
        competing_file.late = i / 2;
        post_fault(report.id, "\"drip\": {\"bytes\": 100000, \"every_ms\": 60}");
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, create_competing_file, &competing_file, NULL));
        EXPECT(DBSS_ERR_FILE_EXISTS, i % 2 == 0 ? save(competing_file.path, 0, operation) : save_inside(0, operation));
        CHECK(competing_file.done);
        check_text(__LINE__, competing_file.path, "mine");
        CHECK(count_entries(directory) == 1);
        free(competing_file.path);
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

/* The target must be a regular file, also with DBSS_FILE_REPLACE. */
static void special_target_is_refused(void)
{
    static const char *const kinds[] = {"directory", "fifo", "link", "dangling", "to-null", "socket"};
    struct stat before, after;
    char *other, *other_path;
    long connections;
    size_t i;
    int flags;

    set_up(10000);
    other = path_in_directory("other");
    write_file(other, "mine");
    for (i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char *path = path_in_directory(kinds[i]);
        switch (i) {
        case 0: CHECK(mkdir(path, 0700) == 0); break;
        case 1: CHECK(mkfifo(path, 0600) == 0); break;
        case 2: CHECK(symlink("other", path) == 0); break;
        case 3: CHECK(symlink("nothing", path) == 0); break;
        case 4: CHECK(symlink("/dev/null", path) == 0); break;
        default: CHECK(mknod(path, S_IFSOCK | 0600, 0) == 0); break;
        }
        free(path);
    }
    connections = count_connections();
    for (flags = 0; flags < 2; flags++) {
        for (i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            char *path = path_in_directory(kinds[i]);
            CHECK(lstat(path, &before) == 0);
            EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save(path, (uint32_t)flags, NULL));
            CHECK(lstat(path, &after) == 0 && before.st_ino == after.st_ino && before.st_mode == after.st_mode);
            add_failure_context("%s, flags %d", kinds[i], flags);
            free(path);
        }
        EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save("/dev/null", (uint32_t)flags, NULL));
        EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save("/", (uint32_t)flags, NULL));
        EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save(directory, (uint32_t)flags, NULL));
        other_path = path_in_directory("directory/");
        EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save(other_path, (uint32_t)flags, NULL));
        free(other_path);
        other_path = path_in_directory("no-such-name/");
        CHECK(dbss_status_group(save(other_path, (uint32_t)flags, NULL)) == DBSS_ERR_FILE);
        free(other_path);
        other_path = path_in_directory("directory/..");
        CHECK(save(other_path, (uint32_t)flags, NULL) != DBSS_OK);
        free(other_path);
    }
    CHECK(stat("/dev/null", &after) == 0 && S_ISCHR(after.st_mode));
    CHECK(count_connections() == connections);
    check_text(__LINE__, other, "mine");
    CHECK(count_entries(directory) == 7);
    free(other);
    tear_down();
}

static void link_in_place_of_file_is_refused(void)
{
    /* A link has the name of the report. */
    char *link_path, *other;
    int flags;
    set_up(10000);
    link_path = path_in_directory("audit-report.pdf");
    other = path_in_directory("other");
    write_file(other, "mine");
    CHECK(symlink("other", link_path) == 0);
    for (flags = 0; flags < 2; flags++)
        EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save_inside((uint32_t)flags, NULL));
    check_text(__LINE__, other, "mine");
    CHECK(count_entries(directory) == 2);
    free(other);
    free(link_path);
    tear_down();
}

static void missing_directory_fails(void)
{
    char *path;
    long connections;
    set_up(10000);
    path = path_in_directory("no/such/report");
    connections = count_connections();
    EXPECT(DBSS_ERR_FILE, save(path, 0, NULL));
    CHECK(dbss_error_os_code(dbss_last_error()) == ENOENT);
    EXPECT(DBSS_ERR_FILE, save(path, DBSS_FILE_REPLACE, NULL));
    EXPECT(DBSS_ERR_FILE, dbss_report_download_to_directory(ctx, REPORT_ARGUMENTS(report.id), path, 0, NULL));
    CHECK(dbss_error_os_code(dbss_last_error()) == ENOENT);
    free(path);
    path = path_in_directory("file");
    write_file(path, "mine");
    CHECK(dbss_status_group(dbss_report_download_to_directory(ctx, REPORT_ARGUMENTS(report.id), path, 0, NULL))
          == DBSS_ERR_FILE);
    free(path);
    path = path_in_directory("file/report");
    CHECK(dbss_status_group(save(path, 0, NULL)) == DBSS_ERR_FILE);
    CHECK(dbss_error_os_code(dbss_last_error()) == ENOTDIR);
    free(path);
    path = format("%s/%0300d", directory, 1);
    CHECK(dbss_status_group(save(path, 0, NULL)) == DBSS_ERR_FILE);
    CHECK(dbss_error_os_code(dbss_last_error()) == ENAMETOOLONG);
    free(path);
    CHECK(count_connections() == connections && count_entries(directory) == 1);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * File systems with errors
 * ------------------------------------------------------------------------ */

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

/* Mounts a small file system on `directory`, for this child process only. Returns 0
 * if the machine does not allow it. */
static int mount_small(void)
{
    uid_t uid = geteuid();
    if (unshare(CLONE_NEWNS) != 0) {
        FILE *map;
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || (map = fopen("/proc/self/uid_map", "w")) == NULL)
            return 0;
        fprintf(map, "0 %d 1\n", (int)uid);
        if (fclose(map) != 0)
            return 0;
    }
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0
           && mount("tmpfs", directory, "tmpfs", 0, "size=1m,mode=700") == 0;
}

static int try_to_mount(void *unused)
{
    (void)unused;
    return !mount_small();
}

static void run_in_small_file_system(void (*body)(void))
{
    if (run_child(try_to_mount, NULL) == 1) {
        skip_check("this machine does not allow mounts");
        return;
    }
    run_in_child(body);
}

static void fill_disk(void)
{
    char *path = path_in_directory("report");
    int replace;
    CHECK(mount_small());
    for (replace = 0; replace < 2; replace++) {
        if (replace)
            write_file(path, "mine");
        EXPECT(DBSS_ERR_DISK_FULL, save(path, replace ? DBSS_FILE_REPLACE : 0, NULL));
        CHECK(dbss_error_os_code(dbss_last_error()) == ENOSPC && dbss_error_is_retryable(dbss_last_error()) == 0);
        EXPECT(DBSS_ERR_DISK_FULL, save_inside(replace ? DBSS_FILE_REPLACE : 0, NULL));
        CHECK(count_entries(directory) == replace);
    }
    check_text(__LINE__, path, "mine");
    /* The failed download freed its space. */
    free_report(&report);
    report = new_report(900000);
    EXPECT(DBSS_OK, save(path, DBSS_FILE_REPLACE, NULL));
    CHECK_FILE(path, &report);
    free(path);
}

static void full_disk_fails(void)
{
    set_up(3000000);
    run_in_small_file_system(fill_disk);
    tear_down();
}

static void save_to_read_only_file_system(void)
{
    char *path = path_in_directory("report");
    long connections = count_connections();
    CHECK(mount_small());
    write_file(path, "mine");
    CHECK(mount("none", directory, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    EXPECT(DBSS_ERR_FILE, save(path, DBSS_FILE_REPLACE, NULL));
    CHECK(dbss_error_os_code(dbss_last_error()) == EROFS);
    EXPECT(DBSS_ERR_FILE, save_inside(0, NULL));
    CHECK(dbss_error_os_code(dbss_last_error()) == EROFS);
    check_text(__LINE__, path, "mine");
    CHECK(count_connections() == connections);
    free(path);
}

static void read_only_file_system_fails(void)
{
    set_up(10000);
    run_in_small_file_system(save_to_read_only_file_system);
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

/* After any failure only the old file exists. */
static void failed_download_keeps_old_file(void)
{
    static const struct {
        const char *fault;
        dbss_status status;
    } failures[] = {
        {"\"cut_after\": 100000", DBSS_ERR_TRUNCATED}, {"\"reset_after\": 100000", DBSS_ERR_TRUNCATED},
        {"\"stall_after\": 100000", DBSS_ERR_STALLED}, {"\"status\": 404", DBSS_ERR_NOT_FOUND},
        {"\"status\": 503", DBSS_ERR_SERVER},          {"\"body\": \"\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {"\"gzip\": true", DBSS_ERR_CONTENT_ENCODING},
    };
    dbss_operation *operation = new_operation();
    size_t i;
    char *path;
    set_up(300000);
    path = path_in_directory("report");
    write_file(path, "mine");
    EXPECT(DBSS_OK, dbss_operation_set(operation, "max_attempts", "1"));
    for (i = 0; i < sizeof failures / sizeof *failures; i++) {
        /* Short where only the stall timeout ends the call. */
        const char *limit = failures[i].status == DBSS_ERR_STALLED ? "150" : "20000";
        EXPECT(DBSS_OK, dbss_operation_set(operation, "stall_timeout_ms", limit));
        post_fault(report.id, "%s, \"times\": 2", failures[i].fault);
        EXPECT(failures[i].status, save(path, DBSS_FILE_REPLACE, operation));
        EXPECT(failures[i].status, save_inside(DBSS_FILE_REPLACE, operation));
        CHECK(count_entries(directory) == 1 && dbss_operation_path(operation) == NULL);
        check_text(__LINE__, path, "mine");
        add_failure_context("%s", failures[i].fault);
    }
    free(path);
    dbss_operation_free(operation);
    tear_down();
}

static int32_t cancel_at_offset(void *user_data, const dbss_operation *operation)
{
    return dbss_operation_received(operation) >= *(int64_t *)user_data;
}

/* A cancel at any point keeps the old file, also after the last byte. */
static void cancelled_download_keeps_old_file(void)
{
    static int64_t points[] = {0, 1, 100000, 300000};
    dbss_operation *operation = new_operation();
    size_t i;
    char *path;
    set_up(300000);
    path = path_in_directory("report");
    write_file(path, "mine");
    for (i = 0; i < sizeof points / sizeof *points; i++) {
        post_fault(report.id, "\"drip\": {\"bytes\": 100000, \"every_ms\": 60}, \"times\": 2");
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, cancel_at_offset, &points[i], NULL));
        EXPECT(DBSS_ERR_CANCELLED, save(path, DBSS_FILE_REPLACE, operation));
        EXPECT(DBSS_ERR_CANCELLED, save_inside(DBSS_FILE_REPLACE, operation));
        CHECK(count_entries(directory) == 1);
        check_text(__LINE__, path, "mine");
        free(control("DELETE", "/faults", ""));
    }
    free(path);
    dbss_operation_free(operation);
    tear_down();
}

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
 * Hostile names
 * ------------------------------------------------------------------------ */

static void hostile_name_is_sanitized(void)
{
    static const struct {
        const char *disposition, *name; /* NULL: the report's id */
    } names[] = {
        {"attachment; filename=\\\"../../etc/passwd\\\"", "passwd"},
        {"attachment; filename=\\\"/etc/passwd\\\"", "passwd"},
        {"attachment; filename=\\\"..\\\"", NULL},
        {"attachment; filename=\\\".\\\"", NULL},
        {"attachment; filename=\\\"...\\\"", NULL},
        {"attachment; filename=\\\"\\\"", NULL},
        {"attachment; filename=\\\"/\\\"", NULL},
        {"attachment; filename=\\\".bashrc\\\"", "bashrc"},
        {"attachment; filename=\\\"..\\\\\\\\..\\\\\\\\evil.pdf\\\"", "evil.pdf"},
        {"attachment; filename=\\\"C:\\\\\\\\evil.pdf\\\"", "evil.pdf"},
        {"attachment; filename=\\\"a b  c.pdf\\\"", "a b  c.pdf"},
        {"attachment; filename*=UTF-8''%2e%2e%2f%2e%2e%2fevil.pdf", "evil.pdf"},
        {"attachment; filename*=UTF-8''a%00b%0ac%1b[31m%7fd.pdf", "abc[31md.pdf"},
        {"attachment; filename*=UTF-8''%2eprofile", "profile"},
        {"attachment; filename=\\\"plain.pdf\\\"; filename*=UTF-8''%e5%ae%a1%e8%ae%a1.pdf",
         "\xe5\xae\xa1\xe8\xae\xa1.pdf"},
        {"attachment; filename*=UTF-8''%ff%fe; filename=\\\"plain.pdf\\\"", "plain.pdf"},
        {"attachment; filename*=iso-8859-1'de'%fcber.pdf", "\xc3\xbc"
                                                           "ber.pdf"},
        {"inline; filename=token.zip", "token.zip"},
        {"attachment", NULL},
        {"garbage;;;===\\\"", NULL},
    };
    dbss_operation *operation = new_operation();
    size_t i;
    char *long_name, *path;
    set_up(10000);
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        char *expected = names[i].name != NULL ? format("%s", names[i].name) : format("%s.pdf", report.id);
        post_fault(report.id, "\"headers\": [[\"Content-Disposition\", \"%s\"]], \"times\": 1", names[i].disposition);
        EXPECT(DBSS_OK, save_inside(0, operation));
        path = path_in_directory(expected);
        expect_text(__LINE__, path, dbss_operation_path(operation));
        expect_text(__LINE__, expected, dbss_operation_filename(operation));
        CHECK_FILE(path, &report);
        CHECK(count_entries(directory) == 1);
        add_failure_context("%s", names[i].disposition);
        unlink(path);
        free(path);
        free(expected);
    }

    /* A name that is too long is shortened, with its extension kept. */
    long_name = format("%0600d", 7);
    post_fault(report.id,
               "\"headers\": [[\"Content-Disposition\", \"attachment; filename=\\\"%s.pdf\\\"\"]], \"times\": 1",
               long_name);
    EXPECT(DBSS_OK, save_inside(0, operation));
    if (dbss_operation_filename(operation) != NULL) {
        const char *name = dbss_operation_filename(operation);
        CHECK(strlen(name) <= 255 && strlen(name) > 100 && strcmp(name + strlen(name) - 4, ".pdf") == 0);
        CHECK_FILE(dbss_operation_path(operation), &report);
    }
    free(long_name);
    dbss_operation_free(operation);
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

/* A regular file is written from its current offset. */
static void descriptor_written_from_its_offset(void)
{
    char *path, *expected;
    uint8_t *bytes;
    size_t len;
    int fd;
    set_up(10000);
    path = path_in_directory("file");
    write_file(path, "0123456789 and more");
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(lseek(fd, 5, SEEK_SET) == 5);
    EXPECT(DBSS_OK, dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), fd, NULL));
    CHECK(lseek(fd, 0, SEEK_CUR) == 10005);
    CHECK(write(fd, "end", 3) == 3);
    close(fd);
    bytes = read_file(path, &len);
    CHECK(len == 10008 && memcmp(bytes, "01234", 5) == 0 && memcmp(bytes + 5, report.bytes, 10000) == 0
          && memcmp(bytes + 10005, "end", 3) == 0);
    free(bytes);

    /* With O_APPEND, at the end. */
    write_file(path, "before");
    fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    EXPECT(DBSS_OK, dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), fd, NULL));
    close(fd);
    bytes = read_file(path, &len);
    expected = (char *)bytes;
    CHECK(len == 10006 && memcmp(expected, "before", 6) == 0 && memcmp(bytes + 6, report.bytes, 10000) == 0);
    free(bytes);
    free(path);
    tear_down();
}

static void unusable_descriptor_is_refused(void)
{
    char *path;
    long connections;
    int fd, closed, ends[2];
    set_up(10000);
    path = path_in_directory("file");
    write_file(path, "mine");
    connections = count_connections();
    fd = open(path, O_RDONLY | O_CLOEXEC);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), fd, NULL));
    closed = dup(fd);
    close(closed);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd",
                     dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), closed, NULL));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), -1, NULL));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), -2, NULL));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd",
                     dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), 0x7fffffff, NULL));
    if (pipe(ends) != 0)
        fatal("cannot create a pipe");
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd",
                     dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), ends[0], NULL));
    close(ends[0]);
    close(ends[1]);
    close(fd);
    fd = open(directory, O_RDONLY | O_CLOEXEC);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), fd, NULL));
    close(fd);
    CHECK(count_connections() == connections);
    fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    EXPECT(DBSS_ERR_DISK_FULL, dbss_report_download_to_fd(ctx, REPORT_ARGUMENTS(report.id), fd, NULL));
    close(fd);
    check_text(__LINE__, path, "mine");
    free(path);
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

/* No call leaks a descriptor, whatever its result. */
static void files_leak_no_descriptor(void)
{
    int before, i;
    set_up(300000);
    EXPECT(DBSS_OK, save_inside(DBSS_FILE_REPLACE, NULL));
    before = for_each_descriptor(NULL);
    for (i = 0; i < 20; i++) {
        dbss_operation *operation = new_operation();
        dbss_report_stream *stream;
        char *path = path_in_directory("report");
        EXPECT(DBSS_OK, dbss_operation_set(operation, "max_attempts", "1"));
        EXPECT(DBSS_OK, save(path, DBSS_FILE_REPLACE, operation));
        EXPECT(DBSS_ERR_FILE_EXISTS, save(path, 0, operation));
        EXPECT(DBSS_OK, save_inside(DBSS_FILE_REPLACE, operation));
        EXPECT(DBSS_OK, dbss_report_open(ctx, REPORT_ARGUMENTS(report.id), operation, &stream));
        dbss_report_stream_free(stream);
        post_fault(report.id, "\"cut_after\": 1000, \"times\": 1");
        EXPECT(DBSS_ERR_TRUNCATED, save(path, DBSS_FILE_REPLACE, operation));
        EXPECT(DBSS_OK, save_inside(DBSS_FILE_REPLACE, operation));
        dbss_operation_free(operation);
        free(path);
    }
    CHECK(for_each_descriptor(NULL) == before);
    tear_down();
}

/* ---------------------------------------------------------------------------
 * Size
 * ------------------------------------------------------------------------ */

static const char *large_id;
static long long large_size;
static char *large_hash;

static int32_t discard(void *user_data, const uint8_t *data, size_t len)
{
    (void)data;
    *(long long *)user_data += (long long)len;
    return 0;
}

static void save_large(void)
{
    char *path = path_in_directory("large"), *command = format("sha256sum %s", path), digest[65] = "";
    dbss_operation *operation = new_operation();
    struct stat info;
    long long counted = 0;
    FILE *sum;

    EXPECT(DBSS_OK, dbss_report_download_to_file(ctx, REPORT_ARGUMENTS(large_id), path, 0, operation));
    CHECK(stat(path, &info) == 0 && info.st_size == large_size);
    CHECK(dbss_operation_received(operation) == large_size && dbss_operation_total(operation) == large_size);
    /* Also after a cut: the second half is downloaded again. */
    if (proc_status_value("VmHWM") >= 16 * 1024)
        fail_check("the peak resident size was %ld KiB", proc_status_value("VmHWM"));
    post_fault(large_id, "\"cut_after\": %lld, \"times\": 1", large_size / 2);
    EXPECT(DBSS_OK, dbss_report_download_to_callback(ctx, REPORT_ARGUMENTS(large_id), discard, &counted, operation));
    CHECK(counted == large_size && dbss_operation_resumed(operation) == large_size / 2);
    if (proc_status_value("VmHWM") >= 16 * 1024)
        fail_check("the peak resident size was %ld KiB", proc_status_value("VmHWM"));
    sum = popen(command, "r");
    CHECK(sum != NULL && fscanf(sum, "%64s", digest) == 1 && pclose(sum) == 0);
    expect_text(__LINE__, large_hash, digest);
    unlink(path);
    dbss_operation_free(operation);
    free(command);
    free(path);
}

/* Two gigabytes, more than a signed 32-bit length can hold. DBSS_TEST_LARGE sets the
 * size in MiB. */
static void large_report_needs_little_memory(void)
{
    const char *wanted = getenv("DBSS_TEST_LARGE"), *hash;
    char *body, *report_json;
    set_up(10000);
    large_size = (wanted != NULL ? atoll(wanted) : 2048) << 20;
    large_id = fresh_id();
    body = format("{\"id\": \"%s\", \"format\": \"bytes\", \"size\": %lld}", large_id, large_size);
    report_json = control("POST", "/reports", body);
    hash = strstr(report_json, "\"en-us\":\"");
    large_hash = format("%.64s", hash != NULL ? hash + strlen("\"en-us\":\"") : "");
    run_in_child(save_large);
    free(large_hash);
    free(report_json);
    free(body);
    tear_down();
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"file_mode_ignores_umask", file_mode_ignores_umask, PLAIN},
    {"partial_file_is_private", partial_file_is_private, PLAIN},
    {"saved_path_and_name_are_reported", saved_path_and_name_are_reported, PLAIN},
    {"relative_path_uses_current_directory", relative_path_uses_current_directory, LOAD},
    {"file_arguments_are_checked", file_arguments_are_checked, PLAIN},
    {"existing_file_kept_unless_replaced", existing_file_kept_unless_replaced, PLAIN},
    {"file_created_during_download_is_kept", file_created_during_download_is_kept, PLAIN},
    {"file_created_by_one_of_several_processes", file_created_by_one_of_several_processes, LOAD},
    {"special_target_is_refused", special_target_is_refused, PLAIN},
    {"link_in_place_of_file_is_refused", link_in_place_of_file_is_refused, PLAIN},
    {"missing_directory_fails", missing_directory_fails, PLAIN},
    {"unwritable_directory_fails", unwritable_directory_fails, LOAD},
    {"full_disk_fails", full_disk_fails, LOAD},
    {"read_only_file_system_fails", read_only_file_system_fails, LOAD},
    {"file_size_limit_fails", file_size_limit_fails, LOAD},
    {"failed_download_keeps_old_file", failed_download_keeps_old_file, PLAIN},
    {"cancelled_download_keeps_old_file", cancelled_download_keeps_old_file, PLAIN},
    {"cancelled_download_leaves_no_file", cancelled_download_leaves_no_file, PLAIN},
    {"killed_process_leaves_old_or_new_file", killed_process_leaves_old_or_new_file, LOAD},
    {"hostile_name_is_sanitized", hostile_name_is_sanitized, PLAIN},
    {"every_kind_of_descriptor_is_written", every_kind_of_descriptor_is_written, PLAIN},
    {"descriptor_written_from_its_offset", descriptor_written_from_its_offset, PLAIN},
    {"unusable_descriptor_is_refused", unusable_descriptor_is_refused, PLAIN},
    {"broken_pipe_fails_without_signal", broken_pipe_fails_without_signal, LOAD},
    {"pending_signal_of_host_stays", pending_signal_of_host_stays, LOAD},
    {"files_leak_no_descriptor", files_leak_no_descriptor, PLAIN},
    {"large_report_needs_little_memory", large_report_needs_little_memory, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
