#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* The longest token that libdbss takes. */
#define MAX_TOKEN ((size_t)96 * 1024)

/* ---------------------------------------------------------------------------
 * Saying what went wrong
 * ------------------------------------------------------------------------ */

void print_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

/* Control characters, and those that reorder or hide text or break its line, as
 * libdbss leaves them out of messages. */
static const unsigned long unprintable[][2] = {
    {0x0, 0x1f},      {0x7f, 0x9f},       {0xad, 0xad},       {0x34f, 0x34f},     {0x61c, 0x61c},
    {0x115f, 0x1160}, {0x17b4, 0x17b5},   {0x180b, 0x180f},   {0x200b, 0x200f},   {0x2028, 0x202e},
    {0x2060, 0x206f}, {0x3164, 0x3164},   {0xfe00, 0xfe0f},   {0xfeff, 0xfeff},   {0xffa0, 0xffa0},
    {0xfff0, 0xfffb}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
};

size_t unprintable_bytes(const unsigned char *text, unsigned long *character)
{
    size_t size = text[0] < 0xc0 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4, i;
    unsigned long c = size == 1 ? text[0] : text[0] & (0x7fu >> size);
    for (i = 1; i < size; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (text[i] & 0x3f);
    }
    /* Bytes of a character that was printed. */
    if (size == 1 && c >= 0x80)
        return 0;
    *character = c;
    for (i = 0; i < sizeof unprintable / sizeof *unprintable; i++)
        if (c >= unprintable[i][0] && c <= unprintable[i][1])
            return size;
    return 0;
}

void print_sanitized(FILE *stream, const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    unsigned long character;
    while (*c != '\0') {
        size_t size = unprintable_bytes(c, &character);
        fputc(size > 0 ? ' ' : *c, stream);
        c += size > 0 ? size : 1;
    }
}

int print_last_error(void)
{
    return print_call_error(NULL, dbss_last_error());
}

int print_call_error(const char *subject, const dbss_error *error)
{
    dbss_status status = dbss_error_status(error);
    size_t i;

    if (subject != NULL) {
        fprintf(stderr, "%s: ", program_name);
        print_sanitized(stderr, subject);
        fprintf(stderr, ": %s\n", dbss_error_message(error));
    } else {
        print_error("%s", dbss_error_message(error));
    }
    for (i = 0; i < dbss_error_detail_count(error); i++) {
        const char *code = dbss_error_detail_code(error, i);
        const char *message = dbss_error_detail_message(error, i);
        fputs("  ", stderr);
        print_sanitized(stderr, code != NULL ? code : "-");
        fputs(": ", stderr);
        print_sanitized(stderr, message != NULL ? message : "-");
        fputc('\n', stderr);
    }

    /* New statuses may appear in a group, so it is the group that decides. */
    switch (dbss_status_group(status)) {
    case DBSS_ERR_ARGUMENT: return USAGE;
    case DBSS_ERR_SERVICE:
        if (status == DBSS_ERR_UNAUTHENTICATED || status == DBSS_ERR_FORBIDDEN)
            return REFUSED;
        if (status == DBSS_ERR_PARTIAL)
            return PARTIAL;
        return status == DBSS_ERR_NOT_FOUND ? NOT_THERE : SERVICE;
    case DBSS_ERR_NETWORK: return NETWORK;
    case DBSS_ERR_FILE:
    case DBSS_ERR_RESOURCE: return status == DBSS_ERR_MIRROR_LOCKED ? LOCKED : LOCAL;
    case DBSS_ERR_CANCELLED: return CANCELLED;
    default: return INTERNAL;
    }
}

int flush_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return DONE;
    print_error("cannot write to standard output: %s", strerror(errno));
    return LOCAL;
}

/* ---------------------------------------------------------------------------
 * The options of all programs
 * ------------------------------------------------------------------------ */

const char *environment_value(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

/* Opens /dev/null where a standard stream is closed, so that no other file gets
 * its number. The wrong way round: what is written or read fails, as before. */
static int hold_standard_streams(void)
{
    int fd;
    for (fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            return -1;
    return 0;
}

int init_common(struct common *common, int argc)
{
    if (hold_standard_streams() != 0)
        return LOCAL;
    common->project = environment_value("DBSS_PROJECT_ID");
    common->instance = environment_value("DBSS_INSTANCE_ID");
    common->region = environment_value("DBSS_REGION");
    common->endpoint = environment_value("DBSS_ENDPOINT");
    common->ca_file = environment_value("DBSS_CA_FILE");
    common->settings = calloc((size_t)argc, sizeof *common->settings);
    if (common->settings != NULL)
        return -1;
    print_error("out of memory");
    return LOCAL;
}

void free_common(struct common *common)
{
    free(common->settings);
}

int parse_common_option(struct common *common, int option, char *value)
{
    switch (option) {
    case PROJECT: common->project = value; break;
    case INSTANCE: common->instance = value; break;
    case REGION: common->region = value; break;
    case ENDPOINT: common->endpoint = value; break;
    case CA_FILE: common->ca_file = value; break;
    case TOKEN_FILE: common->token_file = value; break;
    case SET: common->settings[common->setting_count++] = value; break;
    case 'q': common->quiet = 1; break;
    case 'v': common->verbose = 1; break;
    case TOKEN:
        print_error("a token on the command line could be read by everybody on this machine; "
                    "use --token-file or DBSS_TOKEN");
        return USAGE;
    case VERSION: printf("%s %s (libdbss %s)\n", program_name, DBSS_VERSION, dbss_version()); return DONE;
    default: fprintf(stderr, "Try '%s --help'.\n", program_name); return USAGE;
    }
    return -1;
}

/* Whether an option's value is a secret, which has no place on a command line:
 * everybody on the machine can read that. */
static int is_secret(const char *key)
{
    size_t i;
    for (i = 0; i < dbss_option_count(DBSS_OPTIONS_CONFIG); i++)
        if (strcmp(dbss_option_key(DBSS_OPTIONS_CONFIG, i), key) == 0)
            return strcmp(dbss_option_type(DBSS_OPTIONS_CONFIG, i), "secret") == 0;
    return 0;
}

/* Prints a text in lines of at most 78 columns, all indented. */
static void print_indented(const char *text)
{
    enum { INDENT = 6, WIDTH = 78 - INDENT };
    while (*text != '\0') {
        size_t len = strlen(text);
        if (len > WIDTH) {
            for (len = WIDTH; len > 0 && text[len] != ' '; len--)
                continue;
            if (len == 0)
                len = strcspn(text, " ");
        }
        printf("%*s%.*s\n", INDENT, "", (int)len, text);
        text += len;
        text += strspn(text, " ");
    }
}

/* The range of a number. */
static void print_range(size_t i)
{
    const char *type = dbss_option_type(DBSS_OPTIONS_CONFIG, i);
    if (strcmp(type, "number") == 0 || strcmp(type, "milliseconds") == 0 || strcmp(type, "bytes") == 0)
        printf("      %lld to %lld%s\n", (long long)dbss_option_minimum(DBSS_OPTIONS_CONFIG, i),
               (long long)dbss_option_maximum(DBSS_OPTIONS_CONFIG, i),
               dbss_option_allows_none(DBSS_OPTIONS_CONFIG, i) ? ", or -1 for no limit" : "");
}

void print_keys(void)
{
    size_t i;
    for (i = 0; i < dbss_option_count(DBSS_OPTIONS_CONFIG); i++) {
        const char *key = dbss_option_key(DBSS_OPTIONS_CONFIG, i);
        const char *value = dbss_option_default(DBSS_OPTIONS_CONFIG, i);
        if (is_secret(key))
            continue;
        printf("  %s (%s, default %s)\n", key, dbss_option_type(DBSS_OPTIONS_CONFIG, i),
               value != NULL ? value : "unset");
        print_indented(dbss_option_help(DBSS_OPTIONS_CONFIG, i));
        print_range(i);
    }
}

/* ---------------------------------------------------------------------------
 * The configuration
 * ------------------------------------------------------------------------ */

/* Overwrites a secret. Through a volatile pointer, as a compiler may leave out
 * stores to memory that is not read again. */
static void wipe(char *secret, size_t len)
{
    volatile char *p = secret;
    while (len-- > 0)
        *p++ = '\0';
}

/* Reads the file until its end or `room` bytes. Not by stdio, whose buffer
 * would keep a copy. Returns the number of bytes, or -1. */
static ssize_t read_all(int fd, char *bytes, size_t room)
{
    size_t len = 0;
    while (len < room) {
        ssize_t n = read(fd, bytes + len, room - len);
        if (n == 0)
            break;
        if (n > 0)
            len += (size_t)n;
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)len;
}

/* Sets the token from a file, without one line end at its end. */
static int set_token_from_file(dbss_config *config, const char *path)
{
    static char token[MAX_TOKEN + 3]; /* and CR, LF, NUL */
    int is_input = strcmp(path, "-") == 0;
    int fd = is_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read_all(fd, token, sizeof token);
    int code = -1;

    if (len < 0) {
        print_error("cannot read the token from %s: %s", path, strerror(errno));
        code = LOCAL;
    } else if ((size_t)len == sizeof token) {
        print_error("the token in %s is longer than %lu bytes", path, (unsigned long)MAX_TOKEN);
        code = USAGE;
    } else if (memchr(token, '\0', (size_t)len) != NULL) {
        print_error("the token in %s has a NUL byte in it", path);
        code = USAGE;
    } else {
        if (len > 0 && token[len - 1] == '\n')
            len--;
        if (len > 0 && token[len - 1] == '\r')
            len--;
        token[len] = '\0';
        if (dbss_config_set_token(config, token) != DBSS_OK)
            code = print_last_error();
    }
    wipe(token, sizeof token);
    if (!is_input && fd >= 0)
        close(fd);
    return code;
}

/* Sets one KEY=VALUE of the command line. */
static int set_option(dbss_config *config, char *setting)
{
    char *equals = strchr(setting, '=');
    if (equals == NULL) {
        print_error("--set %s: must be KEY=VALUE", setting);
        return USAGE;
    }
    *equals = '\0';
    if (is_secret(setting)) {
        print_error("--set %s: a secret on the command line could be read by everybody on this machine; for "
                    "the token use --token-file or DBSS_TOKEN, for an access key HUAWEICLOUD_SDK_AK and "
                    "HUAWEICLOUD_SDK_SK or a profile file, for a proxy --set proxy_from_environment=true",
                    setting);
        return USAGE;
    }
    return dbss_config_set(config, setting, equals + 1) == DBSS_OK ? -1 : print_last_error();
}

/* Puts the options into a configuration. Returns -1 to go on, else the exit
 * code. */
static int configure(dbss_config *config, const struct common *common)
{
    const char *token = environment_value("DBSS_TOKEN");
    size_t i;

    if ((common->region != NULL && dbss_config_set_region(config, common->region) != DBSS_OK)
        || (common->endpoint != NULL && dbss_config_set_endpoint(config, common->endpoint) != DBSS_OK)
        || (common->ca_file != NULL && dbss_config_set(config, "ca_file", common->ca_file) != DBSS_OK))
        return print_last_error();
    /* Of the credentials that are set the last count: those of the environment
     * first, so that --set outranks them. */
    if (common->token_file == NULL
        && (token != NULL ? dbss_config_set_token(config, token) : dbss_config_set(config, "credentials", "default"))
               != DBSS_OK)
        return print_last_error();
    for (i = 0; i < common->setting_count; i++) {
        int code = set_option(config, common->settings[i]);
        if (code != -1)
            return code;
    }
    return common->token_file != NULL ? set_token_from_file(config, common->token_file) : -1;
}

/* ---------------------------------------------------------------------------
 * Meanwhile
 * ------------------------------------------------------------------------ */

/* The progress bar: one line on standard error, wiped before anything else is
 * written there. Without control sequences, so any terminal will do. */
#define BAR_WIDTH 79

static struct {
    long long begun_ms, drawn_ms;
    int shown; /* how many columns it has */
    describe_fn *describe;
} bar;

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void clear_bar(void)
{
    if (bar.shown)
        fprintf(stderr, "\r%*s\r", bar.shown, "");
    bar.shown = 0;
}

const char *format_size(double bytes, char *text, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, size, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return text;
}

const char *format_rate(double bytes, char *text, size_t size)
{
    long long took_ms = now_ms() - bar.begun_ms;
    return format_size(bytes * 1000 / (double)(took_ms > 0 ? took_ms : 1), text, size);
}

void format_remaining(double received, double total, char *text, size_t size)
{
    double seconds = (double)(now_ms() - bar.begun_ms) / 1000 * (total - received) / received;
    if (seconds < 6000)
        snprintf(text, size, "%d:%02d left, ", (int)seconds / 60, (int)seconds % 60);
    else
        snprintf(text, size, "%.0f h left, ", seconds / 3600);
}

/* How many columns the bar may have: a line that is full would begin the next. */
static int bar_width(void)
{
    struct winsize window;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col < 2 || window.ws_col > BAR_WIDTH)
        return BAR_WIDTH;
    return window.ws_col - 1;
}

/* libdbss calls this at least ten times a second, whether bytes arrive or not. */
static int32_t draw_bar(void *user_data, const dbss_operation *operation)
{
    long long now = now_ms();
    char line[BAR_WIDTH + 1] = "";
    int width = bar_width();

    (void)user_data;
    if (now - bar.drawn_ms < 100)
        return 0;
    bar.drawn_ms = now;
    bar.describe(operation, line, sizeof line);
    fprintf(stderr, "\r%-*.*s", width, width, line);
    bar.shown = width;
    return 0; /* anything else would end the call */
}

/* Warnings are for everybody, such as of a file of keys that others can read;
 * the rest is for who asks. */
static void write_log(void *user_data, const dbss_log_record *record)
{
    const struct common *common = user_data;
    int32_t level = dbss_log_record_level(record);
    /* What ends the call is told in any case. */
    if (level == DBSS_LOG_ERROR || (level == DBSS_LOG_WARNING ? common->quiet && !common->verbose : !common->verbose))
        return;
    clear_bar();
    fprintf(stderr, "%s: %s%s\n", program_name, level == DBSS_LOG_WARNING ? "warning: " : "",
            dbss_log_record_message(record));
}

dbss_operation *running;

static void cancel(int number)
{
    (void)number;
    dbss_operation_cancel(running);
}

/* From now on these signals end the call, and so the program, with nothing
 * left behind. One that is ignored (nohup) stays so. */
static void cancel_on_signals(void)
{
    static const int numbers[] = {SIGHUP, SIGINT, SIGTERM};
    struct sigaction action = {0}, before;
    size_t i;
    action.sa_handler = cancel;
    for (i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
}

int open_context(struct common *common, describe_fn *describe, dbss_context **ctx)
{
    dbss_config *config = NULL;
    int code = -1;

    *ctx = NULL;
    if (dbss_config_new(&config) != DBSS_OK || dbss_operation_new(&running) != DBSS_OK
        || dbss_config_set_log(config, write_log, common, NULL) != DBSS_OK)
        code = print_last_error();
    if (code == -1)
        code = configure(config, common);
    if (code == -1 && describe != NULL && !common->quiet && isatty(STDERR_FILENO)) {
        bar.begun_ms = bar.drawn_ms = now_ms();
        bar.describe = describe;
        if (dbss_operation_set_progress(running, draw_bar, NULL, NULL) != DBSS_OK)
            code = print_last_error();
    }
    if (code == -1) {
        cancel_on_signals();
        if (dbss_context_new(config, ctx) != DBSS_OK)
            code = print_last_error();
    }
    dbss_config_free(config);
    return code;
}
