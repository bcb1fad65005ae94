#include "checks.h"

#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

void fatal(const char *text, ...)
{
    va_list arguments;
    va_start(arguments, text);
    fflush(stdout);
    vfprintf(stderr, text, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

char *format_list(const char *text, va_list arguments)
{
    va_list copy;
    int size;
    char *result = NULL;

    va_copy(copy, arguments);
    size = vsnprintf(NULL, 0, text, copy);
    va_end(copy);
    if (size < 0 || (result = malloc((size_t)size + 1)) == NULL)
        fatal("out of memory");
    vsnprintf(result, (size_t)size + 1, text, arguments);
    return result;
}

char *format(const char *text, ...)
{
    va_list arguments;
    char *result;
    va_start(arguments, text);
    result = format_list(text, arguments);
    va_end(arguments);
    return result;
}

static struct {
    char *name, *value;
} fixtures[128];
static size_t fixture_count;

void load_fixtures(const char *path)
{
    char *line = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "r");

    if (file == NULL)
        fatal("cannot open %s: %s", path, strerror(errno));
    while (getline(&line, &size, file) > 0) {
        char *equals = strchr(line, '=');
        line[strcspn(line, "\n")] = '\0';
        if (equals == NULL)
            continue;
        *equals = '\0';
        if (fixture_count == sizeof fixtures / sizeof *fixtures)
            fatal("%s: too many fixtures", path);
        fixtures[fixture_count].name = format("%s", line);
        fixtures[fixture_count++].value = format("%s", equals + 1);
    }
    free(line);
    fclose(file);
}

const char *find_fixture(const char *name)
{
    for (size_t i = 0; i < fixture_count; i++)
        if (strcmp(fixtures[i].name, name) == 0)
            return fixtures[i].value;
    return NULL;
}

const char *fixture(const char *name)
{
    const char *value = find_fixture(name);
    if (value == NULL)
        fatal("no fixture '%s' of the mock service", name);
    return value;
}

static int connect_to_control(void)
{
    const char *port = strrchr(fixture("control"), ':');
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_port = htons((unsigned short)(port != NULL ? atoi(port + 1) : 0));
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fatal("cannot connect to %s: %s", fixture("control"), strerror(errno));
    return fd;
}

char *control(const char *method, const char *path, const char *body)
{
    /* HTTP/1.0: the response ends with the connection and is not chunked. */
    int fd = connect_to_control();
    char *request =
        format("%s %s HTTP/1.0\r\nContent-Length: %lu\r\n\r\n%s", method, path, (unsigned long)strlen(body), body);
    size_t done = 0, len = strlen(request), capacity = 4096;
    char *response = malloc(capacity), *end;
    ssize_t n;

    while (done < len && ((n = send(fd, request + done, len - done, MSG_NOSIGNAL)) > 0 || errno == EINTR))
        done += n > 0 ? (size_t)n : 0;
    /* It may contain a token. */
    wipe(request, len);
    free(request);
    len = 0;
    while (response != NULL
           && ((n = recv(fd, response + len, capacity - len - 1, 0)) > 0 || (n < 0 && errno == EINTR))) {
        len += n > 0 ? (size_t)n : 0;
        if (capacity - len < 2048)
            response = realloc(response, capacity *= 2);
    }
    if (response == NULL)
        fatal("out of memory");
    close(fd);
    response[len] = '\0';
    end = strstr(response, "\r\n\r\n");
    if (end == NULL || strncmp(response, "HTTP/1.", 7) != 0 || response[9] != '2')
        fatal("%s %s: the mock service responded: %s", method, path, response);
    memmove(response, end + 4, strlen(end + 4) + 1);
    return response;
}

void post_control(const char *path, const char *text, ...)
{
    va_list arguments;
    char *body;
    va_start(arguments, text);
    body = format_list(text, arguments);
    va_end(arguments);
    free(control("POST", path, body));
    free(body);
}

void wipe(char *secret, size_t len)
{
    volatile char *p = secret;
    while (len-- > 0)
        *p++ = '\0';
}

long count_connections(void)
{
    char *response = control("GET", "/connections", "");
    const char *total = strstr(response, "\"total\"");
    long count;

    if (total == NULL)
        fatal("/connections: no total in %s", response);
    count = strtol(total + strcspn(total, "0123456789"), NULL, 10);
    free(response);
    return count;
}

long count_requests(const char *report)
{
    char *path = format("/requests?report=%s", report);
    char *response = control("GET", path, "");
    const char *at = response;
    long count = 0;

    while ((at = strstr(at, "\"method\"")) != NULL) {
        at++;
        count++;
    }
    free(response);
    free(path);
    return count;
}

void random_bytes(void *bytes, size_t len)
{
    if (getrandom(bytes, len, 0) != (ssize_t)len)
        fatal("cannot read random bytes: %s", strerror(errno));
}

const char *sha256(const void *bytes, size_t len)
{
    static __thread char digest[65];
    char path[] = "/tmp/dbss-test.XXXXXX", *command;
    int fd = mkstemp(path);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    int read;

    if (file == NULL || fwrite(bytes, 1, len, file) != len || fclose(file) != 0)
        fatal("cannot write %s: %s", path, strerror(errno));
    command = format("sha256sum %s", path);
    file = popen(command, "r");
    read = file != NULL && fscanf(file, "%64s", digest) == 1 && pclose(file) == 0;
    unlink(path);
    free(command);
    if (!read || strlen(digest) != 64)
        fatal("cannot run sha256sum");
    return digest;
}

static pthread_mutex_t failure_lock = PTHREAD_MUTEX_INITIALIZER;
/* Shared with child processes. */
static char *failure;
#define FAILURE_SIZE 1024
static int has_failure_context;
static char skip_reason[256];

void fail_check(const char *text, ...)
{
    va_list arguments;
    pthread_mutex_lock(&failure_lock);
    if (*failure == '\0') {
        va_start(arguments, text);
        vsnprintf(failure, FAILURE_SIZE, text, arguments);
        va_end(arguments);
    }
    pthread_mutex_unlock(&failure_lock);
}

int has_failed(void)
{
    int result;
    pthread_mutex_lock(&failure_lock);
    result = *failure != '\0';
    pthread_mutex_unlock(&failure_lock);
    return result;
}

void add_failure_context(const char *text, ...)
{
    va_list arguments;
    size_t len;
    pthread_mutex_lock(&failure_lock);
    len = strlen(failure);
    if (len > 0 && !has_failure_context) {
        has_failure_context = 1;
        len += (size_t)snprintf(failure + len, FAILURE_SIZE - len, " [");
        va_start(arguments, text);
        if (len < FAILURE_SIZE)
            vsnprintf(failure + len, FAILURE_SIZE - len, text, arguments);
        va_end(arguments);
        len = strlen(failure);
        snprintf(failure + len, FAILURE_SIZE - len, "]");
    }
    pthread_mutex_unlock(&failure_lock);
}

void skip_check(const char *text, ...)
{
    va_list arguments;
    va_start(arguments, text);
    vsnprintf(skip_reason, sizeof skip_reason, text, arguments);
    va_end(arguments);
}

dbss_status expect(int line, dbss_status expected, dbss_status actual)
{
    const dbss_error *error = dbss_last_error();
    if (actual != expected)
        fail_check("line %d: expected %s, got %s (%s)", line, dbss_status_name(expected), dbss_status_name(actual),
                   dbss_error_message(error));
    if (dbss_error_status(error) != actual)
        fail_check("line %d: the call returned %s, but its error has %s", line, dbss_status_name(actual),
                   dbss_status_name(dbss_error_status(error)));
    return actual;
}

void expect_text(int line, const char *expected, const char *actual)
{
    if (actual == NULL || strcmp(expected, actual) != 0)
        fail_check("line %d: expected \"%s\", got \"%s\"", line, expected, actual != NULL ? actual : "NULL");
}

void require_ok(dbss_status status)
{
    if (status != DBSS_OK)
        fatal("%s", dbss_error_message(dbss_last_error()));
}

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept {
    void *thing;
    void (*end)(void *);
} *kept;
static size_t kept_count;

void *keep(void *thing, void (*end)(void *))
{
    pthread_mutex_lock(&kept_lock);
    kept = realloc(kept, (kept_count + 1) * sizeof *kept);
    if (kept == NULL)
        fatal("out of memory");
    kept[kept_count].thing = thing;
    kept[kept_count++].end = end;
    pthread_mutex_unlock(&kept_lock);
    return thing;
}

void drop(void *thing)
{
    void (*end)(void *) = NULL;
    pthread_mutex_lock(&kept_lock);
    for (size_t i = kept_count; i-- > 0 && end == NULL;)
        if (kept[i].thing == thing) {
            end = kept[i].end;
            memmove(&kept[i], &kept[i + 1], (--kept_count - i) * sizeof *kept);
        }
    pthread_mutex_unlock(&kept_lock);
    if (end == NULL)
        fatal("nothing to drop");
    end(thing);
}

static void drop_everything(void)
{
    while (kept_count > 0)
        drop(kept[kept_count - 1].thing);
    free(kept);
    kept = NULL;
}

char *text(const char *format, ...)
{
    va_list arguments;
    char *result;
    va_start(arguments, format);
    result = keep(format_list(format, arguments), free);
    va_end(arguments);
    return result;
}

const char *fresh_id(void)
{
    unsigned long long random[2];
    /* Several programs share a mock service, and process ids are reused. */
    random_bytes(random, sizeof random);
    return text("%016llx%016llx", random[0], random[1]);
}

static void free_operation(void *operation)
{
    dbss_operation_free(operation);
}

dbss_operation *new_operation(void)
{
    dbss_operation *operation;
    require_ok(dbss_operation_new(&operation));
    return keep(operation, free_operation);
}

dbss_config *new_config(const char *endpoint, const char *token)
{
    dbss_config *config;
    require_ok(dbss_config_new(&config));
    set_option(config, "endpoint", endpoint);
    set_option(config, "ca_file", fixture("ca_file"));
    set_option(config, "max_attempts", "1");
    /* Many threads that connect at once on a busy machine take long, with TLS and sanitizers. */
    set_option(config, "connect_timeout_ms", "60000");
    if (token != NULL)
        require_ok(dbss_config_set_token(config, token));
    return config;
}

void set_option(dbss_config *config, const char *key, const char *value)
{
    require_ok(dbss_config_set(config, key, value));
}

static void free_context(void *ctx)
{
    dbss_context_free(ctx);
}

dbss_context *keep_context(dbss_context *ctx)
{
    return keep(ctx, free_context);
}

dbss_context *new_context_from(dbss_config *config)
{
    dbss_context *ctx;
    require_ok(dbss_context_new(config, &ctx));
    dbss_config_free(config);
    return keep_context(ctx);
}

dbss_context *new_context(const char *endpoint)
{
    return new_context_from(new_config(endpoint, fixture("token")));
}

static void free_mirror_options(void *options)
{
    dbss_mirror_options_free(options);
}

dbss_mirror_options *new_mirror_options(const char *instance)
{
    dbss_mirror_options *options;
    require_ok(dbss_mirror_options_new(&options));
    require_ok(dbss_mirror_options_set(options, "instance", instance));
    return keep(options, free_mirror_options);
}

static void remove_tree(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char inside[4096];
        struct stat found;
        snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (lstat(inside, &found) == 0 && S_ISDIR(found.st_mode))
            remove_tree(inside);
        else if (unlink(inside) != 0)
            fail_check("cannot remove %s", inside);
    }
    if (directory != NULL)
        closedir(directory);
    if (rmdir(path) != 0)
        fail_check("cannot remove %s", path);
}

static void remove_directory(void *path)
{
    remove_tree(path);
    free(path);
}

char *new_directory(void)
{
    const char *base = getenv("TMPDIR");
    char *path = format("%s/dbss-test.XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(path) == NULL)
        fatal("cannot create a directory: %s", strerror(errno));
    return keep(path, remove_directory);
}

long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

long proc_status_value(const char *name)
{
    char line[256];
    size_t len = strlen(name);
    long value = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, len) == 0 && line[len] == ':')
            value = strtol(line + len + 1, NULL, 10);
    if (file == NULL || value < 0)
        fatal("no %s in /proc/self/status", name);
    fclose(file);
    return value;
}

void pause_briefly(void)
{
    struct timespec pause = {0, 2000000};
    nanosleep(&pause, NULL);
}

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int read_locked(const int *number)
{
    int value;
    pthread_mutex_lock(&lock);
    value = *number;
    pthread_mutex_unlock(&lock);
    return value;
}

void add_locked(int *number, int more)
{
    pthread_mutex_lock(&lock);
    *number += more;
    pthread_mutex_unlock(&lock);
}

pthread_t start_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, argument) != 0)
        fatal("cannot create a thread");
    return thread;
}

void run_in_threads(int count, void *(*body)(void *), void *arguments, size_t size)
{
    pthread_t threads[128];
    if (count > (int)COUNT(threads))
        fatal("too many threads");
    for (int i = 0; i < count; i++)
        threads[i] = start_thread(body, size == 0 ? arguments : (char *)arguments + (size_t)i * size);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

pid_t start_child(int (*body)(void *argument), void *argument)
{
    pid_t child;
    /* Otherwise the child would print the buffered output again. */
    fflush(stdout);
    child = fork();
    if (child < 0)
        fatal("cannot create a child process: %s", strerror(errno));
    if (child == 0)
        _exit(body(argument));
    return child;
}

int wait_for_long_child(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            fatal("cannot wait for a child: %s", strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int wait_for_child(pid_t child)
{
    long long until = now_ms() + WAIT_LIMIT_MS;
    siginfo_t ended = {0};
    while (waitid(P_PID, (id_t)child, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == 0) {
        if (now_ms() > until)
            kill(child, SIGKILL);
        pause_briefly();
    }
    return wait_for_long_child(child);
}

int run_child(int (*body)(void *argument), void *argument)
{
    return wait_for_child(start_child(body, argument));
}

long soak_factor(void)
{
    const char *given = getenv("DBSS_TEST_SOAK");
    return given == NULL ? 1 : strtol(given, NULL, 10);
}

void new_pipe(int ends[2])
{
    if (pipe(ends) != 0)
        fatal("cannot create a pipe: %s", strerror(errno));
}

struct child_body {
    void (*body)(void);
};

static int run_body(void *child)
{
    ((const struct child_body *)child)->body();
    return has_failed();
}

void run_in_child(void (*body)(void))
{
    struct child_body child = {body};
    int code = run_child(run_body, &child);
    if (code != 0)
        fail_check("the child ended with %d", code);
}

int for_each_descriptor(void (*callback)(int fd))
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;
    if (directory == NULL)
        fatal("cannot read /proc/self/fd");
    while ((entry = readdir(directory)) != NULL) {
        int fd = atoi(entry->d_name);
        if (*entry->d_name == '.' || fd == dirfd(directory))
            continue;
        count++;
        if (callback != NULL)
            callback(fd);
    }
    closedir(directory);
    return count;
}

void post_fault(const char *report, const char *fault, ...)
{
    va_list arguments;
    char *fields;

    va_start(arguments, fault);
    fields = format_list(fault, arguments);
    va_end(arguments);
    post_control("/faults", "{\"report\": \"%s\", %s}", report, fields);
    free(fields);
}

void post_listener_fault(const char *listener, const char *mode)
{
    post_control("/listener_faults", "{\"listener\": \"%s\", \"mode\": \"%s\", \"times\": 1}", listener, mode);
}

void remove_faults(void)
{
    free(control("DELETE", "/faults", ""));
    free(control("DELETE", "/listener_faults", ""));
}

const char *add_report(long long size)
{
    const char *id = fresh_id();
    post_control("/reports", "{\"id\": \"%s\", \"format\": \"pdf\", \"size\": %lld}", id, size);
    return id;
}

const char *add_instance(int reports, long long size)
{
    const char *id = text("instance-%s", fresh_id());
    post_control("/instances", "{\"id\": \"%s\", \"name\": \"for a check\"}", id);
    if (reports > 0)
        post_control("/reports", "{\"instance\": \"%s\", \"format\": \"pdf\", \"size\": %lld, \"count\": %d}", id, size,
                     reports);
    return id;
}

void add_token(const char *token)
{
    char *body = format("{\"token\": \"%s\"}", token);
    free(control("POST", "/tokens", body));
    wipe(body, strlen(body));
    free(body);
}

void wait_for_request(const char *report)
{
    WAIT_FOR(count_requests(report) > 0);
}

static struct check {
    const char *name;
    void (*run)(void);
    enum kind kind;
} checks[256];
static size_t check_count;

void add_check(const char *name, void (*run)(void), enum kind kind)
{
    if (check_count == COUNT(checks))
        fatal("too many checks");
    checks[check_count++] = (struct check){name, run, kind};
}

const char *scheme = "http";

/* Prints the outcome. Returns whether the check has failed. */
static int run_check(const struct check *check)
{
    size_t len = strlen(check->name);
    scheme = len > 4 && strcmp(check->name + len - 4, "_tls") == 0 ? "https" : "http";
    *failure = *skip_reason = '\0';
    has_failure_context = 0;
    check->run();
    drop_everything();
    remove_faults();
    if (*failure != '\0')
        printf("FAIL %s: %s\n", check->name, failure);
    else if (*skip_reason != '\0')
        printf("skip %s: %s\n", check->name, skip_reason);
    else
        printf("ok %s\n", check->name);
    return *failure != '\0';
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {"plain", "tls", "load"};
    int done = 0, failures = 0, skipped = 0, i;
    const struct check *check;

    setvbuf(stdout, NULL, _IOLBF, 0);
    failure = mmap(NULL, FAILURE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (argc < 2)
        fatal("usage: %s --list, or %s FIXTURES [NAME...]", argv[0], argv[0]);
    if (strcmp(argv[1], "--list") != 0)
        load_fixtures(argv[1]);
    for (check = checks; check < checks + check_count; check++) {
        int is_selected = argc == 2;
        for (i = 2; i < argc; i++)
            is_selected |= strcmp(argv[i], check->name) == 0;
        if (find_fixture("control") == NULL) {
            printf("%s %s\n", check->name, kinds[check->kind]);
        } else if (is_selected) {
            failures += run_check(check);
            skipped += *failure == '\0' && *skip_reason != '\0';
            done++;
        }
    }
    if (find_fixture("control") == NULL)
        return 0;
    printf("%d passed, %d failed\n", done - failures - skipped, failures);
    /* An unknown name is a failure. */
    return failures > 0 || done == 0 || (argc > 2 && done != argc - 2);
}
