/*
 * dbss-download: saves an audit report of Huawei Cloud's Database Security
 * Service. A command to use, and a sample of a program on libdbss.
 *
 * From top to bottom: what the user wants (options), the configuration, what
 * the user sees and does meanwhile (progress, log, Ctrl-C), and the calls.
 */

#define _POSIX_C_SOURCE 200809L

#include <dbss.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The exit codes, which --help and README.md explain. */
enum {
    DONE = 0,
    INTERNAL = 1,
    USAGE = 2,
    REFUSED = 3,
    NO_SUCH_REPORT = 4,
    SERVICE = 5,
    NETWORK = 6,
    LOCAL = 7,
    CANCELLED = 130
};

/* The longest token that libdbss takes. */
#define MAX_TOKEN ((size_t)96 * 1024)

struct options {
    const char *project;    /* NULL: that of the credentials or the region */
    const char *instance;
    const char *report;
    const char *locale;     /* NULL: the service's choice */
    const char *output;     /* "-", a file, or a directory; by default "." */
    const char *region;
    const char *endpoint;
    const char *ca_file;
    const char *token_file; /* NULL: DBSS_TOKEN, or what the SDKs would find */
    char **settings;        /* each KEY=VALUE of --set */
    size_t setting_count;
    int check;
    int force;
    int quiet;
    int verbose;
};

/* ---------------------------------------------------------------------------
 * Saying what went wrong
 * ------------------------------------------------------------------------ */

static void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("dbss-download: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

/* Prints text of somebody else, without the control characters (of C0, and of
 * C1 as UTF-8) that could drive a terminal. */
static void print_foreign(FILE *stream, const char *text)
{
    const unsigned char *c;
    for (c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f) {
            c++;
            fputc(' ', stream);
        } else {
            fputc(*c < 0x20 || *c == 0x7f ? ' ' : *c, stream);
        }
    }
}

/* Tells why the last call of libdbss failed, and gives the exit code for it. */
static int explain_last_error(void)
{
    const dbss_error *error = dbss_last_error();
    dbss_status status = dbss_error_status(error);
    size_t i;

    complain("%s", dbss_error_message(error));
    for (i = 0; i < dbss_error_detail_count(error); i++) {
        const char *code = dbss_error_detail_code(error, i);
        const char *message = dbss_error_detail_message(error, i);
        fputs("  ", stderr);
        print_foreign(stderr, code != NULL ? code : "-");
        fputs(": ", stderr);
        print_foreign(stderr, message != NULL ? message : "-");
        fputc('\n', stderr);
    }

    /* New statuses may appear in a group, so it is the group that decides. */
    switch (dbss_status_group(status)) {
    case DBSS_ERR_ARGUMENT:
        return USAGE;
    case DBSS_ERR_SERVICE:
        if (status == DBSS_ERR_UNAUTHENTICATED || status == DBSS_ERR_FORBIDDEN)
            return REFUSED;
        return status == DBSS_ERR_NOT_FOUND ? NO_SUCH_REPORT : SERVICE;
    case DBSS_ERR_NETWORK:
        return NETWORK;
    case DBSS_ERR_FILE:
    case DBSS_ERR_RESOURCE:
        return LOCAL;
    case DBSS_ERR_CANCELLED:
        return CANCELLED;
    default:
        return INTERNAL;
    }
}

/* ---------------------------------------------------------------------------
 * What the user wants
 * ------------------------------------------------------------------------ */

/* Whether an option's value is a secret, which has no place on a command line:
 * everybody on the machine can read that. */
static int is_secret(const char *key)
{
    size_t i;
    for (i = 0; i < dbss_config_key_count(); i++)
        if (strcmp(dbss_config_key_name(i), key) == 0)
            return strcmp(dbss_config_key_type(i), "secret") == 0;
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

static void print_help(void)
{
    size_t i;
    fputs("Usage: dbss-download --region REGION --instance ID --report ID [OPTION]...\n"
          "       dbss-download --region REGION --check [OPTION]...\n"
          "\n"
          "Saves an audit report of the Database Security Service.\n"
          "\n"
          "Each option but the last seven can also stand in the environment:\n"
          "      --project ID       DBSS_PROJECT_ID   the project; by default that of the\n"
          "                                           credentials, or of the region's name\n"
          "      --instance ID      DBSS_INSTANCE_ID  the audit instance\n"
          "      --report ID        DBSS_REPORT_ID    the report\n"
          "      --locale LOCALE    DBSS_LOCALE       its language: en-us or zh-cn\n"
          "  -o, --output PATH      DBSS_OUTPUT       a file, a directory (then under the\n"
          "                                           report's own name), or - for standard\n"
          "                                           output; by default this directory\n"
          "      --region REGION    DBSS_REGION       such as cn-north-4\n"
          "      --endpoint URL     DBSS_ENDPOINT     where the service answers, in\n"
          "                                           place of the region's\n"
          "      --ca-file PATH     DBSS_CA_FILE      the certificates to trust (PEM)\n"
          "      --token-file PATH  DBSS_TOKEN        the IAM token: a file with it (- is\n"
          "                                           standard input), or itself; without\n"
          "                                           one, the credentials are those that\n"
          "                                           the official SDKs find: HUAWEICLOUD_\n"
          "                                           SDK_AK and _SK, ~/.huaweicloud, or\n"
          "                                           the agency of this instance\n",
          stdout);
    fputs("      --check            save nothing; tell which credentials are found, and\n"
          "                         whether the service takes them (exit code 0)\n"
          "      --set KEY=VALUE    any option of libdbss, see below; repeatable\n"
          "      --force            replace an existing file\n"
          "  -q, --quiet            no progress bar, no warnings, and nothing at all on\n"
          "                         success\n"
          "  -v, --verbose          tell what libdbss does\n"
          "      --version          print the versions\n"
          "  -h, --help             print this\n"
          "\n"
          "Keys of --set:\n",
          stdout);
    for (i = 0; i < dbss_config_key_count(); i++) {
        const char *value = dbss_config_key_default(i);
        if (is_secret(dbss_config_key_name(i)))
            continue;
        printf("  %s (%s, default %s)\n", dbss_config_key_name(i), dbss_config_key_type(i),
               value != NULL ? value : "unset");
        print_indented(dbss_config_key_help(i));
    }
    fputs("\n"
          "Exit codes:\n"
          "    0  the report is saved\n"
          "    1  internal error of libdbss\n"
          "    2  wrong usage, argument or configuration\n"
          "    3  the credentials were refused, or do not allow this\n"
          "    4  there is no such report\n"
          "    5  the service failed, or its answer is no report\n"
          "    6  the network failed\n"
          "    7  a local file, memory or another resource of this machine; also when\n"
          "       the file exists already\n"
          "  130  cancelled, by Ctrl-C for example\n",
          stdout);
}

/* A variable of the environment; one that is empty counts as absent. */
static const char *from_environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

/* Fills `options`. Returns -1 to go on, else the exit code. */
static int parse_options(int argc, char **argv, struct options *options)
{
    enum { PROJECT = 256, INSTANCE, REPORT, LOCALE, REGION, ENDPOINT, CA_FILE, TOKEN_FILE, TOKEN, SET, CHECK, FORCE,
           VERSION };
    static const struct option known[] = {
        {"project", required_argument, NULL, PROJECT},
        {"instance", required_argument, NULL, INSTANCE},
        {"report", required_argument, NULL, REPORT},
        {"locale", required_argument, NULL, LOCALE},
        {"output", required_argument, NULL, 'o'},
        {"region", required_argument, NULL, REGION},
        {"endpoint", required_argument, NULL, ENDPOINT},
        {"ca-file", required_argument, NULL, CA_FILE},
        {"token-file", required_argument, NULL, TOKEN_FILE},
        /* Listed to be refused: getopt would take it for --token-file. */
        {"token", required_argument, NULL, TOKEN},
        {"set", required_argument, NULL, SET},
        {"check", no_argument, NULL, CHECK},
        {"force", no_argument, NULL, FORCE},
        {"quiet", no_argument, NULL, 'q'},
        {"verbose", no_argument, NULL, 'v'},
        {"version", no_argument, NULL, VERSION},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;

    options->project = from_environment("DBSS_PROJECT_ID");
    options->instance = from_environment("DBSS_INSTANCE_ID");
    options->report = from_environment("DBSS_REPORT_ID");
    options->locale = from_environment("DBSS_LOCALE");
    options->output = from_environment("DBSS_OUTPUT");
    if (options->output == NULL)
        options->output = ".";
    options->region = from_environment("DBSS_REGION");
    options->endpoint = from_environment("DBSS_ENDPOINT");
    options->ca_file = from_environment("DBSS_CA_FILE");

    while ((c = getopt_long(argc, argv, "o:qvh", known, NULL)) != -1) {
        switch (c) {
        case PROJECT: options->project = optarg; break;
        case INSTANCE: options->instance = optarg; break;
        case REPORT: options->report = optarg; break;
        case LOCALE: options->locale = optarg; break;
        case 'o': options->output = optarg; break;
        case REGION: options->region = optarg; break;
        case ENDPOINT: options->endpoint = optarg; break;
        case CA_FILE: options->ca_file = optarg; break;
        case TOKEN_FILE: options->token_file = optarg; break;
        case SET: options->settings[options->setting_count++] = optarg; break;
        case CHECK: options->check = 1; break;
        case FORCE: options->force = 1; break;
        case 'q': options->quiet = 1; break;
        case 'v': options->verbose = 1; break;
        case TOKEN:
            complain("a token on the command line could be read by everybody on this machine; "
                     "use --token-file or DBSS_TOKEN");
            return USAGE;
        case VERSION:
            printf("dbss-download %s (libdbss %s)\n", DBSS_VERSION, dbss_version());
            return DONE;
        case 'h':
            print_help();
            return DONE;
        default:
            fputs("Try 'dbss-download --help'.\n", stderr);
            return USAGE;
        }
    }

    if (optind < argc) {
        complain("unexpected argument '%s'; try --help", argv[optind]);
        return USAGE;
    }
    if (!options->check && (options->instance == NULL || options->report == NULL)) {
        complain("--instance and --report (or DBSS_INSTANCE_ID and DBSS_REPORT_ID) are required, or --check; "
                 "try --help");
        return USAGE;
    }
    return -1;
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
        complain("cannot read the token from %s: %s", path, strerror(errno));
        code = LOCAL;
    } else if ((size_t)len == sizeof token) {
        complain("the token in %s is longer than %lu bytes", path, (unsigned long)MAX_TOKEN);
        code = USAGE;
    } else if (memchr(token, '\0', (size_t)len) != NULL) {
        complain("the token in %s has a NUL byte in it", path);
        code = USAGE;
    } else {
        if (len > 0 && token[len - 1] == '\n')
            len--;
        if (len > 0 && token[len - 1] == '\r')
            len--;
        token[len] = '\0';
        if (dbss_config_set_token(config, token) != DBSS_OK)
            code = explain_last_error();
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
        complain("--set %s: must be KEY=VALUE", setting);
        return USAGE;
    }
    *equals = '\0';
    if (is_secret(setting)) {
        complain("--set %s: a secret on the command line could be read by everybody on this machine; for "
                 "the token use --token-file or DBSS_TOKEN, for an access key HUAWEICLOUD_SDK_AK and "
                 "HUAWEICLOUD_SDK_SK or a profile file, for a proxy --set proxy_from_environment=true",
                 setting);
        return USAGE;
    }
    return dbss_config_set(config, setting, equals + 1) == DBSS_OK ? -1 : explain_last_error();
}

/* Puts the options into a configuration. Returns -1 to go on, else the exit
 * code. */
static int configure(dbss_config *config, const struct options *options)
{
    const char *token = from_environment("DBSS_TOKEN");
    size_t i;

    if ((options->region != NULL && dbss_config_set_region(config, options->region) != DBSS_OK)
        || (options->endpoint != NULL && dbss_config_set_endpoint(config, options->endpoint) != DBSS_OK)
        || (options->ca_file != NULL && dbss_config_set(config, "ca_file", options->ca_file) != DBSS_OK))
        return explain_last_error();
    /* Of the credentials that are set the last count: those of the environment
     * first, so that --set outranks them. */
    if (options->token_file == NULL
        && (token != NULL ? dbss_config_set_token(config, token) : dbss_config_set(config, "credentials", "default"))
            != DBSS_OK)
        return explain_last_error();
    for (i = 0; i < options->setting_count; i++) {
        int code = set_option(config, options->settings[i]);
        if (code != -1)
            return code;
    }
    return options->token_file != NULL ? set_token_from_file(config, options->token_file) : -1;
}

/* ---------------------------------------------------------------------------
 * Meanwhile
 * ------------------------------------------------------------------------ */

/* The progress bar: one line on standard error, wiped before anything else is
 * written there. Without control sequences, so any terminal will do. */
#define BAR_WIDTH 79

static struct {
    long long begun_ms, drawn_ms;
    int shown;
} bar;

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void wipe_bar(void)
{
    if (bar.shown)
        fprintf(stderr, "\r%*s\r", BAR_WIDTH, "");
    bar.shown = 0;
}

/* Bytes as a person reads them. */
static const char *readable(double bytes, char *text, size_t size)
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

/* libdbss calls this at least ten times a second, whether bytes arrive or not. */
static int32_t draw_bar(void *user_data, const dbss_operation *operation)
{
    int64_t received = dbss_operation_received(operation);
    int64_t total = dbss_operation_total(operation);
    int64_t resumed = dbss_operation_resumed(operation);
    unsigned attempts = dbss_operation_attempts(operation);
    long long now = now_ms();
    char line[BAR_WIDTH + 1] = "", part[4][32];
    size_t end;

    (void)user_data;
    if (now - bar.drawn_ms < 100)
        return 0;
    bar.drawn_ms = now;
    if (total > 0)
        snprintf(line, sizeof line, "%3d%% of %s, ", (int)(100.0 * (double)received / (double)total),
                 readable((double)total, part[0], sizeof part[0]));
    end = strlen(line);
    snprintf(line + end, sizeof line - end, "%s, %s/s", readable((double)received, part[1], sizeof part[1]),
             readable((double)received * 1000 / (double)(now - bar.begun_ms), part[2], sizeof part[2]));
    end = strlen(line);
    if (attempts > 1)
        snprintf(line + end, sizeof line - end, ", attempt %u, %s resumed", attempts,
                 readable((double)resumed, part[3], sizeof part[3]));
    fprintf(stderr, "\r%-*s", BAR_WIDTH, line);
    bar.shown = 1;
    return 0; /* anything else would end the call */
}

/* Warnings are for everybody, such as of a file of keys that others can read;
 * the rest is for who asks. */
static void write_log(void *user_data, int32_t level, const char *message)
{
    const struct options *options = user_data;
    /* What ends the call is told in any case. */
    if (level == DBSS_LOG_ERROR || (level == DBSS_LOG_WARNING ? options->quiet && !options->verbose : !options->verbose))
        return;
    wipe_bar();
    fprintf(stderr, "dbss-download: %s%s\n", level == DBSS_LOG_WARNING ? "warning: " : "", message);
}

/* What a signal cancels; it lives until the program ends. */
static dbss_operation *running;

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

/* ---------------------------------------------------------------------------
 * The calls
 * ------------------------------------------------------------------------ */

static void print_fact(const char *name, const char *value)
{
    printf("%s: ", name);
    print_foreign(stdout, value);
    putchar('\n');
}

/* In UTC, whatever the locale and the time zone are. */
static void print_expiry(int64_t expires_ms)
{
    time_t seconds = (time_t)(expires_ms / 1000);
    struct tm utc;
    char text[64];
    if (expires_ms < 0 || gmtime_r(&seconds, &utc) == NULL
        || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        print_fact("expires", "not known");
    else
        print_fact("expires", text);
}

/* Tells which credentials there are, and whether the service takes them. */
static dbss_status check(dbss_context *ctx, const struct options *options)
{
    dbss_credentials *found;
    dbss_status status = dbss_context_find_credentials(ctx, running, &found);
    const char *name, *project;

    if (status == DBSS_OK && !options->quiet) {
        name = dbss_credentials_name(found);
        project = options->project != NULL ? options->project : dbss_credentials_project(found);
        printf("source: %s, ", dbss_credentials_source(found));
        print_foreign(stdout, dbss_credentials_description(found));
        putchar('\n');
        print_fact("who", name != NULL ? name : "not known");
        print_fact("project", project != NULL ? project : "looked up by the region's name");
        print_expiry(dbss_credentials_expires_ms(found));
    }
    dbss_credentials_free(found);
    if (status != DBSS_OK)
        return status;

    status = dbss_context_check(ctx, options->project, running);
    if (!options->quiet) {
        const char *accepted = "not known";
        if (status == DBSS_OK)
            accepted = "yes";
        else if (status == DBSS_ERR_UNAUTHENTICATED || status == DBSS_ERR_FORBIDDEN)
            accepted = "no";
        print_fact("accepted", accepted);
    }
    return status;
}

static int is_directory(const char *path)
{
    struct stat found;
    size_t len = strlen(path);
    return (len > 0 && path[len - 1] == '/') || (stat(path, &found) == 0 && S_ISDIR(found.st_mode));
}

/* Downloads the report to where it is wanted. */
static dbss_status download(dbss_context *ctx, const struct options *options)
{
    uint32_t flags = options->force ? DBSS_FILE_REPLACE : 0;
    if (strcmp(options->output, "-") == 0)
        return dbss_report_download_to_fd(ctx, options->project, options->instance, options->report,
                                          options->locale, STDOUT_FILENO, running);
    if (is_directory(options->output))
        return dbss_report_download_to_directory(ctx, options->project, options->instance, options->report,
                                                 options->locale, options->output, flags, running);
    return dbss_report_download_to_file(ctx, options->project, options->instance, options->report,
                                        options->locale, options->output, flags, running);
}

static void tell_success(void)
{
    const char *path = dbss_operation_path(running);
    unsigned attempts = dbss_operation_attempts(running);
    if (path == NULL)
        path = "-";
    if (strncmp(path, "./", 2) == 0)
        path += 2;
    fprintf(stderr, "saved %s (%lld bytes", path, (long long)dbss_operation_received(running));
    if (attempts > 1)
        fprintf(stderr, ", %u attempts", attempts);
    fputs(")\n", stderr);
}

/* All of it; returns the exit code. */
static int run(struct options *options)
{
    dbss_config *config = NULL;
    dbss_context *ctx = NULL;
    int code = -1;

    if (dbss_config_new(&config) != DBSS_OK || dbss_operation_new(&running) != DBSS_OK
        || dbss_config_set_log(config, write_log, options, NULL) != DBSS_OK)
        code = explain_last_error();
    if (code == -1)
        code = configure(config, options);
    if (code == -1 && !options->quiet && !options->check && isatty(STDERR_FILENO)) {
        bar.begun_ms = bar.drawn_ms = now_ms();
        if (dbss_operation_set_progress(running, draw_bar, NULL, NULL) != DBSS_OK)
            code = explain_last_error();
    }
    if (code == -1) {
        cancel_on_signals();
        if (dbss_context_new(config, &ctx) == DBSS_OK
            && (options->check ? check(ctx, options) : download(ctx, options)) == DBSS_OK) {
            wipe_bar();
            if (!options->quiet && !options->check)
                tell_success();
            code = DONE;
            if (fflush(stdout) != 0) {
                complain("cannot write to standard output: %s", strerror(errno));
                code = LOCAL;
            }
        } else {
            wipe_bar();
            code = explain_last_error();
        }
    }
    dbss_context_free(ctx);
    dbss_config_free(config);
    return code;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    int code;

    options.settings = calloc((size_t)argc, sizeof *options.settings);
    if (options.settings == NULL) {
        complain("out of memory");
        return LOCAL;
    }
    code = parse_options(argc, argv, &options);
    if (code == -1)
        code = run(&options);
    free(options.settings);
    return code;
}
