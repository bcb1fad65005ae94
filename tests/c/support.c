
#include "support.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

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
    size_t i;
    for (i = 0; i < fixture_count; i++)
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
