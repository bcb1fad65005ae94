/*
 * Reports in files, directories and descriptors: what stands there when a call
 * succeeds, fails, or is killed. See checks.h for how to run them.
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
#include <sys/wait.h>
#include <unistd.h>

#define WHAT(id) fact("project"), fact("instance"), id, "en-us"

static dbss_context *ctx;
static char *directory;
static struct report report;

/* What most checks need: a context, a report and an empty directory. */
static void prepare(size_t len)
{
    dbss_config *config = new_config(fact("http"), fact("token"));
    set(config, "max_attempts", "2");
    ctx = to_context(config);
    directory = new_directory();
    report = new_report(len);
}

static void tidy(void)
{
    free_report(&report);
    remove_directory(directory);
    dbss_context_free(ctx);
    directory = NULL;
}

static char *inside(const char *name)
{
    return format("%s/%s", directory, name);
}

#define CHECK_FILE(path, report) check_file(__LINE__, path, report)

static void check_file(int line, const char *path, const struct report *expected)
{
    size_t len;
    uint8_t *bytes = read_file(path, &len);
    if (bytes == NULL)
        failed("line %d: there is no file", line);
    else if (len != expected->len || memcmp(bytes, expected->bytes, len) != 0)
        failed("line %d: the file is not the report", line);
    free(bytes);
}

static void check_text(int line, const char *path, const char *text)
{
    size_t len;
    uint8_t *bytes = read_file(path, &len);
    if (bytes == NULL || len != strlen(text) || memcmp(bytes, text, len) != 0)
        failed("line %d: what stood there is gone", line);
    free(bytes);
}

static mode_t mode_of(const char *path)
{
    struct stat facts;
    return lstat(path, &facts) == 0 ? facts.st_mode & 07777 : 0;
}

static dbss_status save(const char *path, uint32_t flags, dbss_operation *operation)
{
    return dbss_report_download_to_file(ctx, WHAT(report.id), path, flags, operation);
}

static dbss_status save_inside(uint32_t flags, dbss_operation *operation)
{
    return dbss_report_download_to_directory(ctx, WHAT(report.id), directory, flags, operation);
}

/* ---------------------------------------------------------------------------
 * Modes, names, getters
 * ------------------------------------------------------------------------ */

static void modes(void)
{
    static const mode_t masks[] = {0, 022, 077, 0777};
    static const struct {
        const char *option;
        mode_t mode;
    } options[] = {{NULL, 0600}, {"600", 0600}, {"0644", 0644}, {"660", 0660}, {"777", 0777}};
    size_t i, j;
    prepare(10000);
    for (i = 0; i < sizeof masks / sizeof *masks; i++) {
        for (j = 0; j < sizeof options / sizeof *options; j++) {
            dbss_operation *operation = new_operation();
            char *path = inside("report");
            mode_t before = umask(masks[i]);
            if (options[j].option != NULL)
                EXPECT(DBSS_OK, dbss_operation_set(operation, "file_mode", options[j].option));
            EXPECT(DBSS_OK, save(path, j % 2 == 0 ? DBSS_FILE_REPLACE : 0, operation));
            umask(before);
            CHECK(mode_of(path) == options[j].mode);
            blame("umask %o, mode %s", (unsigned)masks[i], options[j].option != NULL ? options[j].option : "unset");
            CHECK_FILE(path, &report);
            CHECK(unlink(path) == 0 && count_entries(directory) == 0);
            free(path);
            dbss_operation_free(operation);
        }
    }
    tidy();
}

/* While it arrives nobody else can read it either, whatever the umask is. */
static int32_t look_at_parts(void *user_data, const dbss_operation *operation)
{
    DIR *opened = opendir(directory);
    struct dirent *entry;
    (void)user_data;
    (void)operation;
    while (opened != NULL && (entry = readdir(opened)) != NULL) {
        char *path = inside(entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            CHECK(strncmp(entry->d_name, ".dbss-", 6) == 0);
            CHECK(mode_of(path) == 0600);
        }
        free(path);
    }
    closedir(opened);
    return 0;
}

static void private_while_it_arrives(void)
{
    dbss_operation *operation = new_operation();
    char *path;
    mode_t before;
    prepare(300000);
    path = inside("report");
    before = umask(0);
    EXPECT(DBSS_OK, dbss_operation_set(operation, "file_mode", "666"));
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, look_at_parts, NULL, NULL));
    post_fault(report.id, "\"drip\": {\"bytes\": 100000, \"every_ms\": 60}");
    EXPECT(DBSS_OK, save(path, 0, operation));
    umask(before);
    CHECK(mode_of(path) == 0666);
    dbss_operation_free(operation);
    free(path);
    tidy();
}

static void paths_and_names(void)
{
    dbss_operation *operation = new_operation();
    char *path, *bytes;
    prepare(10000);

    path = inside("report");
    CHECK(dbss_operation_path(operation) == NULL && dbss_operation_filename(operation) == NULL);
    EXPECT(DBSS_OK, save(path, 0, operation));
    expect_text(__LINE__, path, dbss_operation_path(operation));
    expect_text(__LINE__, "audit-report.pdf", dbss_operation_filename(operation));
    CHECK(dbss_operation_request_id(operation) != NULL);
    CHECK(dbss_operation_received(operation) == 10000 && dbss_operation_total(operation) == 10000);
    /* A failure saved nothing. */
    EXPECT(DBSS_ERR_FILE_EXISTS, save(path, 0, operation));
    CHECK(dbss_operation_path(operation) == NULL);
    free(path);

    /* A path is bytes. */
    bytes = inside("\xff\xfe \n.pdf");
    EXPECT(DBSS_OK, save(bytes, 0, operation));
    expect_text(__LINE__, bytes, dbss_operation_path(operation));
    CHECK_FILE(bytes, &report);
    free(bytes);

    EXPECT(DBSS_OK, save_inside(0, operation));
    path = inside("audit-report.pdf");
    expect_text(__LINE__, path, dbss_operation_path(operation));
    CHECK_FILE(path, &report);
    free(path);
    CHECK(count_entries(directory) == 3);
    dbss_operation_free(operation);
    tidy();
}

static int32_t go_elsewhere(void *user_data, const dbss_operation *operation)
{
    (void)user_data;
    (void)operation;
    CHECK(chdir("/") == 0);
    return 0;
}

/* A name without a directory is one in the present directory: that of the
 * moment of the call, wherever the process goes meanwhile. */
static void in_present_directory(void)
{
    dbss_operation *operation = new_operation();
    prepare(10000);
    if (chdir(directory) != 0)
        fatal("cannot go to %s", directory);
    EXPECT(DBSS_OK, save("plain", 0, NULL));
    EXPECT(DBSS_OK, save("./dotted", 0, NULL));
    EXPECT(DBSS_OK, dbss_report_download_to_directory(ctx, WHAT(report.id), ".", 0, NULL));
    CHECK_FILE("plain", &report);
    CHECK_FILE("dotted", &report);
    CHECK_FILE("audit-report.pdf", &report);
    EXPECT(DBSS_OK, dbss_operation_set_progress(operation, go_elsewhere, NULL, NULL));
    EXPECT(DBSS_OK, save("elsewhere", 0, operation));
    CHECK(access("elsewhere", F_OK) != 0 && count_entries(directory) == 4);
    dbss_operation_free(operation);
    tidy();
}

static void present_directory(void)
{
    in_child(in_present_directory);
}

static void file_arguments(void)
{
    long connections;
    char *path;
    dbss_operation *operation = new_operation();
    prepare(10000);
    path = inside("x");
    connections = count_connections();
    EXPECT_NULL("path", save(NULL, 0, NULL));
    EXPECT_NULL("directory", dbss_report_download_to_directory(ctx, WHAT(report.id), NULL, 0, NULL));
    EXPECT_NULL("ctx", dbss_report_download_to_file(NULL, WHAT(report.id), path, 0, NULL));
    EXPECT_NULL("id", dbss_report_download_to_file(ctx, fact("project"), fact("instance"), NULL, NULL, path, 0, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "path", save("", 0, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "directory",
                     dbss_report_download_to_directory(ctx, WHAT(report.id), "", 0, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "flags", save(path, 2, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "flags", save(path, 0x80000001u, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_VALUE, "flags", save_inside(4, NULL));
    EXPECT_PARAMETER(DBSS_ERR_INVALID_ID, "id", dbss_report_download_to_file(ctx, WHAT("x"), path, 0, operation));
    CHECK(count_connections() == connections && count_entries(directory) == 0);
    free(path);
    dbss_operation_free(operation);
    tidy();
}

/* ---------------------------------------------------------------------------
 * What stands there
 * ------------------------------------------------------------------------ */

static void existing_files(void)
{
    char *path;
    long connections;
    prepare(10000);
    path = inside("report");
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

    path = inside("audit-report.pdf");
    write_file(path, "mine");
    EXPECT(DBSS_ERR_FILE_EXISTS, save_inside(0, NULL));
    check_text(__LINE__, path, "mine");
    EXPECT(DBSS_OK, save_inside(DBSS_FILE_REPLACE, NULL));
    CHECK_FILE(path, &report);
    CHECK(count_entries(directory) == 2);
    free(path);
    tidy();
}

/* A file that appears while the report arrives is kept too. */
struct intruder {
    char *path;
    int done, late;
};

/* Puts a file there once the report has begun to arrive, or has arrived. */
static int32_t intrude(void *user_data, const dbss_operation *operation)
{
    struct intruder *intruder = user_data;
    int64_t received = dbss_operation_received(operation);
    if (!intruder->done && received >= (intruder->late ? 300000 : 1)) {
        intruder->done = 1;
        write_file(intruder->path, "mine");
    }
    return 0;
}

static void race_for_the_name(void)
{
    int i;
    for (i = 0; i < 4; i++) {
        dbss_operation *operation = new_operation();
        struct intruder intruder = {NULL, 0, 0};
        prepare(300000);
        intruder.path = inside("audit-report.pdf");
        intruder.late = i / 2;
        post_fault(report.id, "\"drip\": {\"bytes\": 100000, \"every_ms\": 60}");
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, intrude, &intruder, NULL));
        EXPECT(DBSS_ERR_FILE_EXISTS, i % 2 == 0 ? save(intruder.path, 0, operation) : save_inside(0, operation));
        CHECK(intruder.done);
        check_text(__LINE__, intruder.path, "mine");
        CHECK(count_entries(directory) == 1);
        free(intruder.path);
        dbss_operation_free(operation);
        tidy();
    }
}

/* Of several processes at once one gets the name. */
static void race_of_processes(void)
{
    enum { RUNNERS = 4 };
    int round;
    prepare(100000);
    for (round = 0; round < 15; round++) {
        char *path = inside("target");
        pid_t children[RUNNERS];
        int start[2], winners = 0, losers = 0, i;
        if (pipe(start) != 0)
            fatal("no pipe");
        fflush(stdout);
        for (i = 0; i < RUNNERS; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                char c;
                dbss_status status;
                close(start[1]);
                /* All of them at once, when the other end is closed. */
                if (read(start[0], &c, 1) != 0)
                    _exit(9);
                status = save(path, 0, NULL);
                _exit(status == DBSS_OK ? 1 : status == DBSS_ERR_FILE_EXISTS ? 2 : 3);
            }
        }
        close(start[0]);
        close(start[1]);
        for (i = 0; i < RUNNERS; i++) {
            int code = wait_for_child(children[i]);
            winners += code == 1;
            losers += code == 2;
        }
        CHECK(winners == 1 && losers == RUNNERS - 1);
        CHECK_FILE(path, &report);
        CHECK(count_entries(directory) == 1);
        unlink(path);
        free(path);
    }
    tidy();
}

/* Nothing but a regular file may be the target, replace or not. */
static void special_targets(void)
{
    static const char *const kinds[] = {"directory", "fifo", "link", "dangling", "to-null", "socket"};
    struct stat before, after;
    char *other, *null_link;
    long connections;
    size_t i;
    int flags;

    prepare(10000);
    other = inside("other");
    write_file(other, "mine");
    for (i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char *path = inside(kinds[i]);
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
            char *path = inside(kinds[i]);
            CHECK(lstat(path, &before) == 0);
            EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save(path, (uint32_t)flags, NULL));
            CHECK(lstat(path, &after) == 0 && before.st_ino == after.st_ino && before.st_mode == after.st_mode);
            blame("%s, flags %d", kinds[i], flags);
            free(path);
        }
        EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save("/dev/null", (uint32_t)flags, NULL));
        EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save("/", (uint32_t)flags, NULL));
        EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save(directory, (uint32_t)flags, NULL));
        null_link = inside("directory/");
        EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save(null_link, (uint32_t)flags, NULL));
        free(null_link);
        null_link = inside("no-such-name/");
        CHECK(dbss_status_group(save(null_link, (uint32_t)flags, NULL)) == DBSS_ERR_FILE);
        free(null_link);
        null_link = inside("directory/..");
        CHECK(save(null_link, (uint32_t)flags, NULL) != DBSS_OK);
        free(null_link);
    }
    CHECK(stat("/dev/null", &after) == 0 && S_ISCHR(after.st_mode));
    CHECK(count_connections() == connections);
    check_text(__LINE__, other, "mine");
    CHECK(count_entries(directory) == 7);
    free(other);
    tidy();
}

static void links_in_place_of_files(void)
{
    /* The report's own name stands there as a link. */
    char *link_path, *other;
    int flags;
    prepare(10000);
    link_path = inside("audit-report.pdf");
    other = inside("other");
    write_file(other, "mine");
    CHECK(symlink("other", link_path) == 0);
    for (flags = 0; flags < 2; flags++)
        EXPECT(DBSS_ERR_NOT_REGULAR_FILE, save_inside((uint32_t)flags, NULL));
    check_text(__LINE__, other, "mine");
    CHECK(count_entries(directory) == 2);
    free(other);
    free(link_path);
    tidy();
}

static void missing_directories(void)
{
    char *path;
    long connections;
    prepare(10000);
    path = inside("no/such/report");
    connections = count_connections();
    EXPECT(DBSS_ERR_FILE, save(path, 0, NULL));
    CHECK(dbss_error_os_code(dbss_last_error()) == ENOENT);
    EXPECT(DBSS_ERR_FILE, save(path, DBSS_FILE_REPLACE, NULL));
    EXPECT(DBSS_ERR_FILE, dbss_report_download_to_directory(ctx, WHAT(report.id), path, 0, NULL));
    CHECK(dbss_error_os_code(dbss_last_error()) == ENOENT);
    free(path);
    path = inside("file");
    write_file(path, "mine");
    CHECK(dbss_status_group(dbss_report_download_to_directory(ctx, WHAT(report.id), path, 0, NULL)) == DBSS_ERR_FILE);
    free(path);
    path = inside("file/report");
    CHECK(dbss_status_group(save(path, 0, NULL)) == DBSS_ERR_FILE);
    CHECK(dbss_error_os_code(dbss_last_error()) == ENOTDIR);
    free(path);
    path = format("%s/%0300d", directory, 1);
    CHECK(dbss_status_group(save(path, 0, NULL)) == DBSS_ERR_FILE);
    CHECK(dbss_error_os_code(dbss_last_error()) == ENAMETOOLONG);
    free(path);
    CHECK(count_connections() == connections && count_entries(directory) == 1);
    tidy();
}

/* ---------------------------------------------------------------------------
 * File systems that refuse
 * ------------------------------------------------------------------------ */

/* In a child: a directory in which nobody may write. */
static void save_without_permission(void)
{
    char *path = inside("report");
    long connections = count_connections();
    CHECK(chmod(directory, 0555) == 0);
    /* Root may write everywhere, so it is root no longer. */
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        fatal("cannot become nobody");
    EXPECT(DBSS_ERR_FILE, save(path, 0, NULL));
    CHECK(dbss_error_os_code(dbss_last_error()) == EACCES);
    EXPECT(DBSS_ERR_FILE, save_inside(0, NULL));
    CHECK(dbss_error_os_code(dbss_last_error()) == EACCES);
    CHECK(count_connections() == connections);
    free(path);
}

static void no_permission(void)
{
    prepare(10000);
    in_child(save_without_permission);
    CHECK(chmod(directory, 0700) == 0 && count_entries(directory) == 0);
    tidy();
}

/* Gives this process, a child, a small file system of its own on `directory`;
 * 0 where the machine does not allow it. */
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

static void in_small_file_system(void (*body)(void))
{
    pid_t child;
    int code;
    fflush(stdout);
    child = fork();
    if (child < 0)
        fatal("no child");
    if (child == 0)
        _exit(mount_small() ? 0 : 77);
    code = wait_for_child(child);
    if (code == 77) {
        skip("this machine lets nobody mount a file system");
        return;
    }
    in_child(body);
}

static void fill_disk(void)
{
    char *path = inside("report");
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
    /* The room that it took is free again. */
    free_report(&report);
    report = new_report(900000);
    EXPECT(DBSS_OK, save(path, DBSS_FILE_REPLACE, NULL));
    CHECK_FILE(path, &report);
    free(path);
}

static void disk_full(void)
{
    prepare(3000000);
    in_small_file_system(fill_disk);
    tidy();
}

static void write_read_only(void)
{
    char *path = inside("report");
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

static void read_only(void)
{
    prepare(10000);
    in_small_file_system(write_read_only);
    tidy();
}

/* In a child, as the limit cannot be raised again. */
static void write_too_much(void)
{
    struct rlimit limit = {100000, 100000};
    char *path = inside("report"), *other = inside("descriptor");
    int replace, fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    sigset_t pending;

    /* By default it would end the process. */
    signal(SIGXFSZ, SIG_DFL);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        fatal("no limit");
    for (replace = 0; replace < 2; replace++) {
        if (replace)
            write_file(path, "mine");
        EXPECT(DBSS_ERR_DISK_FULL, save(path, replace ? DBSS_FILE_REPLACE : 0, NULL));
        CHECK(dbss_error_os_code(dbss_last_error()) == EFBIG);
        CHECK(count_entries(directory) == 1 + replace);
    }
    check_text(__LINE__, path, "mine");
    EXPECT(DBSS_ERR_DISK_FULL, dbss_report_download_to_fd(ctx, WHAT(report.id), fd, NULL));
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGXFSZ));
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &pending) == 0 && !sigismember(&pending, SIGXFSZ));
    close(fd);
    free(other);
    free(path);
}

static void size_limit(void)
{
    prepare(3000000);
    in_child(write_too_much);
    tidy();
}

/* ---------------------------------------------------------------------------
 * Ends in the middle
 * ------------------------------------------------------------------------ */

/* The old file stays, and nothing else, however the call fails. */
static void failures_keep_the_old_file(void)
{
    static const struct {
        const char *fault;
        dbss_status status;
    } failures[] = {
        {"\"cut_after\": 100000", DBSS_ERR_TRUNCATED},
        {"\"reset_after\": 100000", DBSS_ERR_TRUNCATED},
        {"\"stall_after\": 100000", DBSS_ERR_STALLED},
        {"\"status\": 404", DBSS_ERR_NOT_FOUND},
        {"\"status\": 503", DBSS_ERR_SERVER},
        {"\"body\": \"\"", DBSS_ERR_UNEXPECTED_RESPONSE},
        {"\"gzip\": true", DBSS_ERR_CONTENT_ENCODING},
    };
    dbss_operation *operation = new_operation();
    size_t i;
    char *path;
    prepare(300000);
    path = inside("report");
    write_file(path, "mine");
    EXPECT(DBSS_OK, dbss_operation_set(operation, "max_attempts", "1"));
    for (i = 0; i < sizeof failures / sizeof *failures; i++) {
        /* Where nothing else ends the call. */
        const char *limit = failures[i].status == DBSS_ERR_STALLED ? "150" : "20000";
        EXPECT(DBSS_OK, dbss_operation_set(operation, "stall_timeout_ms", limit));
        post_fault(report.id, "%s, \"times\": 2", failures[i].fault);
        EXPECT(failures[i].status, save(path, DBSS_FILE_REPLACE, operation));
        EXPECT(failures[i].status, save_inside(DBSS_FILE_REPLACE, operation));
        CHECK(count_entries(directory) == 1 && dbss_operation_path(operation) == NULL);
        check_text(__LINE__, path, "mine");
        blame("%s", failures[i].fault);
    }
    free(path);
    dbss_operation_free(operation);
    tidy();
}

static int32_t cancel_at_the_end(void *user_data, const dbss_operation *operation)
{
    return dbss_operation_received(operation) >= *(int64_t *)user_data;
}

/* A cancel at any point leaves what stood there; at the last point too. */
static void cancel_keeps_the_old_file(void)
{
    static int64_t points[] = {0, 1, 100000, 300000};
    dbss_operation *operation = new_operation();
    size_t i;
    char *path;
    prepare(300000);
    path = inside("report");
    write_file(path, "mine");
    for (i = 0; i < sizeof points / sizeof *points; i++) {
        post_fault(report.id, "\"drip\": {\"bytes\": 100000, \"every_ms\": 60}, \"times\": 2");
        EXPECT(DBSS_OK, dbss_operation_set_progress(operation, cancel_at_the_end, &points[i], NULL));
        EXPECT(DBSS_ERR_CANCELLED, save(path, DBSS_FILE_REPLACE, operation));
        EXPECT(DBSS_ERR_CANCELLED, save_inside(DBSS_FILE_REPLACE, operation));
        CHECK(count_entries(directory) == 1);
        check_text(__LINE__, path, "mine");
        free(control("DELETE", "/faults", ""));
    }
    free(path);
    dbss_operation_free(operation);
    tidy();
}

/* Once it has its name the call succeeds, even if it is cancelled just then:
 * there is no moment in which a file is there and the call says otherwise. */
static void *cancel_soon(void *operation)
{
    int i;
    for (i = 0; i < 3; i++)
        pause_briefly();
    dbss_operation_cancel(operation);
    return NULL;
}

static void cancel_or_file(void)
{
    int i;
    prepare(2000000);
    for (i = 0; i < 40; i++) {
        dbss_operation *operation = new_operation();
        char *path = inside("report");
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
    tidy();
}

/* Killed at random moments: the target is the old file or the whole new one.
 * DBSS_TEST_KILLS makes it longer. */
static void killed(void)
{
    const char *wanted = getenv("DBSS_TEST_KILLS");
    int kills = wanted != NULL ? atoi(wanted) : 80, old = 0, new = 0, i;
    unsigned random = 12345;
    long long start;
    int span;
    char *path;

    prepare(2000000);
    path = inside("target");
    /* How long it takes when nobody kills it, in microseconds. */
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
        int status;

        write_file(path, "old");
        random = random * 1664525u + 1013904223u;
        fflush(stdout);
        child = fork();
        if (child == 0)
            _exit(save(path, DBSS_FILE_REPLACE, NULL) != DBSS_OK);
        /* From the start to well after the end, so that every step is hit. */
        usleep((useconds_t)((random >> 8) % (unsigned)(span * 3 / 2)));
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        bytes = read_file(path, &len);
        if (bytes != NULL && len == 3 && memcmp(bytes, "old", 3) == 0)
            old++;
        else if (bytes != NULL && len == report.len && memcmp(bytes, report.bytes, len) == 0)
            new++;
        else
            failed("after kill %d there are %lu bytes of neither file", i, (unsigned long)len);
        free(bytes);
        /* What a killed process can leave is hidden, and says what it is. */
        opened = opendir(directory);
        while (opened != NULL && (entry = readdir(opened)) != NULL) {
            char *leftover = inside(entry->d_name);
            len = strlen(entry->d_name);
            if (strncmp(entry->d_name, ".dbss-", 6) == 0 && strcmp(entry->d_name + len - 5, ".part") == 0)
                unlink(leftover);
            free(leftover);
        }
        closedir(opened);
        CHECK(count_entries(directory) == 1);
    }
    /* Both were met, so the moments were the right ones. */
    CHECK(old > 0 && new > 0);
    CHECK(old + new == kills);
    free(path);
    tidy();
}

/* ---------------------------------------------------------------------------
 * Hostile names
 * ------------------------------------------------------------------------ */

static void hostile_names(void)
{
    static const struct {
        const char *disposition, *name; /* NULL: of the report's id */
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
        {"attachment; filename=\\\"plain.pdf\\\"; filename*=UTF-8''%e5%ae%a1%e8%ae%a1.pdf", "\xe5\xae\xa1\xe8\xae\xa1.pdf"},
        {"attachment; filename*=UTF-8''%ff%fe; filename=\\\"plain.pdf\\\"", "plain.pdf"},
        {"attachment; filename*=iso-8859-1'de'%fcber.pdf", "\xc3\xbc" "ber.pdf"},
        {"inline; filename=token.zip", "token.zip"},
        {"attachment", NULL},
        {"garbage;;;===\\\"", NULL},
    };
    dbss_operation *operation = new_operation();
    size_t i;
    char *long_name, *path;
    prepare(10000);
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        char *expected = names[i].name != NULL ? format("%s", names[i].name) : format("%s.pdf", report.id);
        post_fault(report.id, "\"headers\": [[\"Content-Disposition\", \"%s\"]], \"times\": 1", names[i].disposition);
        EXPECT(DBSS_OK, save_inside(0, operation));
        path = inside(expected);
        expect_text(__LINE__, path, dbss_operation_path(operation));
        expect_text(__LINE__, expected, dbss_operation_filename(operation));
        CHECK_FILE(path, &report);
        CHECK(count_entries(directory) == 1);
        blame("%s", names[i].disposition);
        unlink(path);
        free(path);
        free(expected);
    }

    /* Longer than a file system takes: shortened, its ending kept. */
    long_name = format("%0600d", 7);
    post_fault(report.id, "\"headers\": [[\"Content-Disposition\", \"attachment; filename=\\\"%s.pdf\\\"\"]], \"times\": 1",
               long_name);
    EXPECT(DBSS_OK, save_inside(0, operation));
    if (dbss_operation_filename(operation) != NULL) {
        const char *name = dbss_operation_filename(operation);
        CHECK(strlen(name) <= 255 && strlen(name) > 100 && strcmp(name + strlen(name) - 4, ".pdf") == 0);
        CHECK_FILE(dbss_operation_path(operation), &report);
    }
    free(long_name);
    dbss_operation_free(operation);
    tidy();
}

/* ---------------------------------------------------------------------------
 * Descriptors
 * ------------------------------------------------------------------------ */

struct drain {
    int fd;
    size_t limit; /* 0: to the end */
    uint8_t *bytes;
    size_t len;
    int slowly;
};

static void *drain(void *argument)
{
    struct drain *drain = argument;
    size_t room = 8 << 20;
    ssize_t n = 1;
    drain->bytes = malloc(room);
    while (n > 0 && (drain->limit == 0 || drain->len < drain->limit) && drain->len < room) {
        n = read(drain->fd, drain->bytes + drain->len, drain->slowly ? 3000 : room - drain->len);
        if (n > 0)
            drain->len += (size_t)n;
    }
    close(drain->fd);
    return NULL;
}

static void all_kinds_of_descriptors(void)
{
    int i;
    prepare(1000000);
    for (i = 0; i < 8; i++) {
        struct drain reader = {-1, 0, NULL, 0, 0};
        pthread_t thread;
        int ends[2], flags;
        reader.slowly = i % 2;
        if (i < 4 ? pipe(ends) : socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
            fatal("no pipe");
        if (i / 2 % 2)
            fcntl(ends[1], F_SETFL, O_NONBLOCK);
        if (i < 2)
            fcntl(ends[1], F_SETPIPE_SZ, 4096);
        flags = fcntl(ends[1], F_GETFL);
        reader.fd = ends[0];
        thread = start_thread(drain, &reader);
        EXPECT(DBSS_OK, dbss_report_download_to_fd(ctx, WHAT(report.id), ends[1], NULL));
        /* It is open still, and as it was. */
        CHECK(fcntl(ends[1], F_GETFL) == flags);
        close(ends[1]);
        pthread_join(thread, NULL);
        CHECK(reader.len == report.len && memcmp(reader.bytes, report.bytes, reader.len) == 0);
        blame("kind %d", i);
        free(reader.bytes);
    }
    tidy();
}

/* A regular file: from where it stands, and no further back. */
static void from_its_offset(void)
{
    char *path, *expected;
    uint8_t *bytes;
    size_t len;
    int fd;
    prepare(10000);
    path = inside("file");
    write_file(path, "0123456789 and more");
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(lseek(fd, 5, SEEK_SET) == 5);
    EXPECT(DBSS_OK, dbss_report_download_to_fd(ctx, WHAT(report.id), fd, NULL));
    CHECK(lseek(fd, 0, SEEK_CUR) == 10005);
    CHECK(write(fd, "end", 3) == 3);
    close(fd);
    bytes = read_file(path, &len);
    CHECK(len == 10008 && memcmp(bytes, "01234", 5) == 0 && memcmp(bytes + 5, report.bytes, 10000) == 0
          && memcmp(bytes + 10005, "end", 3) == 0);
    free(bytes);

    /* Appending, it appends. */
    write_file(path, "before");
    fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    EXPECT(DBSS_OK, dbss_report_download_to_fd(ctx, WHAT(report.id), fd, NULL));
    close(fd);
    bytes = read_file(path, &len);
    expected = (char *)bytes;
    CHECK(len == 10006 && memcmp(expected, "before", 6) == 0 && memcmp(bytes + 6, report.bytes, 10000) == 0);
    free(bytes);
    free(path);
    tidy();
}

static void unusable_descriptors(void)
{
    char *path;
    long connections;
    int fd, closed, ends[2];
    prepare(10000);
    path = inside("file");
    write_file(path, "mine");
    connections = count_connections();
    fd = open(path, O_RDONLY | O_CLOEXEC);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, WHAT(report.id), fd, NULL));
    closed = dup(fd);
    close(closed);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, WHAT(report.id), closed, NULL));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, WHAT(report.id), -1, NULL));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, WHAT(report.id), -2, NULL));
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, WHAT(report.id), 0x7fffffff, NULL));
    if (pipe(ends) != 0)
        fatal("no pipe");
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, WHAT(report.id), ends[0], NULL));
    close(ends[0]);
    close(ends[1]);
    close(fd);
    fd = open(directory, O_RDONLY | O_CLOEXEC);
    EXPECT_PARAMETER(DBSS_ERR_ARGUMENT, "fd", dbss_report_download_to_fd(ctx, WHAT(report.id), fd, NULL));
    close(fd);
    CHECK(count_connections() == connections);
    fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    EXPECT(DBSS_ERR_DISK_FULL, dbss_report_download_to_fd(ctx, WHAT(report.id), fd, NULL));
    close(fd);
    check_text(__LINE__, path, "mine");
    free(path);
    tidy();
}

/* Whoever reads has gone: before, or in the middle. */
static void write_to_nobody(void)
{
    sigset_t pending, mask;
    int i;
    signal(SIGPIPE, SIG_DFL);
    for (i = 0; i < 8; i++) {
        struct drain reader = {-1, 1, NULL, 0, 0};
        pthread_t thread = 0;
        int ends[2];
        if (i < 4 ? pipe(ends) : socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
            fatal("no pipe");
        if (i % 2)
            fcntl(ends[1], F_SETFL, O_NONBLOCK);
        if (i / 2 % 2) {
            reader.fd = ends[0];
            thread = start_thread(drain, &reader);
        } else {
            close(ends[0]);
        }
        EXPECT(DBSS_ERR_BROKEN_PIPE, dbss_report_download_to_fd(ctx, WHAT(report.id), ends[1], NULL));
        CHECK(dbss_error_os_code(dbss_last_error()) == EPIPE || dbss_error_os_code(dbss_last_error()) == ECONNRESET);
        CHECK(dbss_error_is_retryable(dbss_last_error()) == 0);
        if (thread != 0)
            pthread_join(thread, NULL);
        free(reader.bytes);
        close(ends[1]);
        blame("kind %d", i);
    }
    /* The signal was neither delivered nor left behind. */
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGPIPE));
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0 && !sigismember(&mask, SIGPIPE));
}

static void broken_pipes(void)
{
    prepare(3000000);
    in_child(write_to_nobody);
    tidy();
}

/* A signal that the host itself has blocked and waits for stays its own. */
static void keep_a_pending_signal(void)
{
    sigset_t mine, pending;
    int ends[2];
    sigemptyset(&mine);
    sigaddset(&mine, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &mine, NULL);
    raise(SIGPIPE);
    if (pipe(ends) != 0)
        fatal("no pipe");
    close(ends[0]);
    EXPECT(DBSS_ERR_BROKEN_PIPE, dbss_report_download_to_fd(ctx, WHAT(report.id), ends[1], NULL));
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE));
}

static void pending_signal(void)
{
    prepare(10000);
    in_child(keep_a_pending_signal);
    tidy();
}

/* A call leaves no descriptor behind, whatever becomes of it. */
static void no_descriptor_left(void)
{
    int before, i;
    prepare(300000);
    EXPECT(DBSS_OK, save_inside(DBSS_FILE_REPLACE, NULL));
    before = each_descriptor(NULL);
    for (i = 0; i < 20; i++) {
        dbss_operation *operation = new_operation();
        dbss_report_stream *stream;
        char *path = inside("report");
        EXPECT(DBSS_OK, dbss_operation_set(operation, "max_attempts", "1"));
        EXPECT(DBSS_OK, save(path, DBSS_FILE_REPLACE, operation));
        EXPECT(DBSS_ERR_FILE_EXISTS, save(path, 0, operation));
        EXPECT(DBSS_OK, save_inside(DBSS_FILE_REPLACE, operation));
        EXPECT(DBSS_OK, dbss_report_open(ctx, WHAT(report.id), operation, &stream));
        dbss_report_stream_free(stream);
        post_fault(report.id, "\"cut_after\": 1000, \"times\": 1");
        EXPECT(DBSS_ERR_TRUNCATED, save(path, DBSS_FILE_REPLACE, operation));
        EXPECT(DBSS_OK, save_inside(DBSS_FILE_REPLACE, operation));
        dbss_operation_free(operation);
        free(path);
    }
    CHECK(each_descriptor(NULL) == before);
    tidy();
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
    char *path = inside("large"), *command = format("sha256sum %s", path), digest[65] = "";
    dbss_operation *operation = new_operation();
    struct stat facts;
    long long counted = 0;
    FILE *sum;

    EXPECT(DBSS_OK, dbss_report_download_to_file(ctx, WHAT(large_id), path, 0, operation));
    CHECK(stat(path, &facts) == 0 && facts.st_size == large_size);
    CHECK(dbss_operation_received(operation) == large_size && dbss_operation_total(operation) == large_size);
    /* In the middle too: the second half of it comes again. */
    if (process_number("VmHWM") >= 16 * 1024)
        failed("the peak resident size was %ld KiB", process_number("VmHWM"));
    post_fault(large_id, "\"cut_after\": %lld, \"times\": 1", large_size / 2);
    EXPECT(DBSS_OK, dbss_report_download_to_callback(ctx, WHAT(large_id), discard, &counted, operation));
    CHECK(counted == large_size && dbss_operation_resumed(operation) == large_size / 2);
    if (process_number("VmHWM") >= 16 * 1024)
        failed("the peak resident size was %ld KiB", process_number("VmHWM"));
    sum = popen(command, "r");
    CHECK(sum != NULL && fscanf(sum, "%64s", digest) == 1 && pclose(sum) == 0);
    expect_text(__LINE__, large_hash, digest);
    unlink(path);
    dbss_operation_free(operation);
    free(command);
    free(path);
}

/* Two gigabytes, past where a signed 32-bit length ends. DBSS_TEST_LARGE sets
 * the size in MiB. */
static void large_report(void)
{
    const char *wanted = getenv("DBSS_TEST_LARGE"), *told;
    char *body, *described;
    prepare(10000);
    large_size = (wanted != NULL ? atoll(wanted) : 2048) << 20;
    large_id = fresh_id();
    body = format("{\"id\": \"%s\", \"format\": \"bytes\", \"size\": %lld}", large_id, large_size);
    described = control("POST", "/reports", body);
    told = strstr(described, "\"en-us\":\"");
    large_hash = format("%.64s", told != NULL ? told + strlen("\"en-us\":\"") : "");
    in_child(save_large);
    free(large_hash);
    free(described);
    free(body);
    tidy();
}

/* ------------------------------------------------------------------------ */

static const struct check checks[] = {
    {"modes", modes, PLAIN},
    {"private_while_it_arrives", private_while_it_arrives, PLAIN},
    {"paths_and_names", paths_and_names, PLAIN},
    {"present_directory", present_directory, LOAD},
    {"file_arguments", file_arguments, PLAIN},
    {"existing_files", existing_files, PLAIN},
    {"race_for_the_name", race_for_the_name, PLAIN},
    {"race_of_processes", race_of_processes, LOAD},
    {"special_targets", special_targets, PLAIN},
    {"links_in_place_of_files", links_in_place_of_files, PLAIN},
    {"missing_directories", missing_directories, PLAIN},
    {"no_permission", no_permission, LOAD},
    {"disk_full", disk_full, LOAD},
    {"read_only", read_only, LOAD},
    {"size_limit", size_limit, LOAD},
    {"failures_keep_the_old_file", failures_keep_the_old_file, PLAIN},
    {"cancel_keeps_the_old_file", cancel_keeps_the_old_file, PLAIN},
    {"cancel_or_file", cancel_or_file, PLAIN},
    {"killed", killed, LOAD},
    {"hostile_names", hostile_names, PLAIN},
    {"all_kinds_of_descriptors", all_kinds_of_descriptors, PLAIN},
    {"from_its_offset", from_its_offset, PLAIN},
    {"unusable_descriptors", unusable_descriptors, PLAIN},
    {"broken_pipes", broken_pipes, LOAD},
    {"pending_signal", pending_signal, LOAD},
    {"no_descriptor_left", no_descriptor_left, PLAIN},
    {"large_report", large_report, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
