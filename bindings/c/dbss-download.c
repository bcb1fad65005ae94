/*
 * dbss-download: saves an audit report of Huawei Cloud's Database Security
 * Service. A command to use, and a sample of a program on libdbss.
 *
 * From top to bottom: what the user wants (options), the call (download), the
 * file (save), and main, which strings them together.
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
#include <unistd.h>

/* The exit codes, which --help and README.md explain. */
enum {
    SAVED = 0,
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
    const char *project;
    const char *instance;
    const char *report;
    const char *locale;     /* NULL: the service's choice */
    const char *output;     /* NULL: the report's id and its format */
    const char *region;
    const char *endpoint;
    const char *ca_file;
    const char *token_file; /* NULL: the environment's DBSS_TOKEN */
    char **settings;        /* each KEY=VALUE of --set */
    size_t setting_count;
    int force;
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

/* Prints text that a server sent, without the control characters (of C0, and
 * of C1 as UTF-8) that could drive a terminal. */
static void print_foreign(const char *text)
{
    const unsigned char *c;
    for (c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f) {
            c++;
            fputc(' ', stderr);
        } else {
            fputc(*c < 0x20 || *c == 0x7f ? ' ' : *c, stderr);
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
        print_foreign(code != NULL ? code : "-");
        fputs(": ", stderr);
        print_foreign(message != NULL ? message : "-");
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

static void print_help(void)
{
    size_t i;
    fputs("Usage: dbss-download --project ID --instance ID --report ID [OPTION]...\n"
          "\n"
          "Saves an audit report of the Database Security Service.\n"
          "\n"
          "Each option but the last four can also stand in the environment:\n"
          "      --project ID       DBSS_PROJECT_ID   the project\n"
          "      --instance ID      DBSS_INSTANCE_ID  the audit instance\n"
          "      --report ID        DBSS_REPORT_ID    the report\n"
          "      --locale LOCALE    DBSS_LOCALE       its language: en-us or zh-cn\n"
          "  -o, --output PATH      DBSS_OUTPUT       where to save it; - is standard\n"
          "                                           output; else REPORT_ID.pdf or .zip\n"
          "      --region REGION    DBSS_REGION       such as cn-north-4\n"
          "      --endpoint URL     DBSS_ENDPOINT     where the service answers, in\n"
          "                                           place of the region's\n"
          "      --ca-file PATH     DBSS_CA_FILE      the certificates to trust (PEM)\n"
          "      --token-file PATH  DBSS_TOKEN        the IAM token: a file with it (- is\n"
          "                                           standard input), or itself\n",
          stdout);
    fputs("      --set KEY=VALUE    any option of libdbss, see below; repeatable\n"
          "      --force            replace an existing file\n"
          "      --version          print the versions\n"
          "  -h, --help             print this\n"
          "\n"
          "Keys of --set:\n",
          stdout);
    for (i = 0; i < dbss_config_key_count(); i++) {
        const char *value = dbss_config_key_default(i);
        if (is_secret(dbss_config_key_name(i)))
            continue;
        printf("  %s (%s, default %s)\n      %s\n", dbss_config_key_name(i), dbss_config_key_type(i),
               value != NULL ? value : "unset", dbss_config_key_help(i));
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
          "  130  cancelled\n",
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
    enum { PROJECT = 256, INSTANCE, REPORT, LOCALE, REGION, ENDPOINT, CA_FILE, TOKEN_FILE, TOKEN, SET, FORCE, VERSION };
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
        {"force", no_argument, NULL, FORCE},
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
    options->region = from_environment("DBSS_REGION");
    options->endpoint = from_environment("DBSS_ENDPOINT");
    options->ca_file = from_environment("DBSS_CA_FILE");

    while ((c = getopt_long(argc, argv, "o:h", known, NULL)) != -1) {
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
        case FORCE: options->force = 1; break;
        case TOKEN:
            complain("a token on the command line could be read by everybody on this machine; "
                     "use --token-file or DBSS_TOKEN");
            return USAGE;
        case VERSION:
            printf("dbss-download %s (libdbss %s)\n", DBSS_VERSION, dbss_version());
            return SAVED;
        case 'h':
            print_help();
            return SAVED;
        default:
            fputs("Try 'dbss-download --help'.\n", stderr);
            return USAGE;
        }
    }

    if (optind < argc) {
        complain("unexpected argument '%s'; try --help", argv[optind]);
        return USAGE;
    }
    if (options->project == NULL || options->instance == NULL || options->report == NULL) {
        complain("--project, --instance and --report (or DBSS_PROJECT_ID, DBSS_INSTANCE_ID and "
                 "DBSS_REPORT_ID) are required; try --help");
        return USAGE;
    }
    if (options->token_file == NULL && from_environment("DBSS_TOKEN") == NULL) {
        complain("no token: give --token-file, or set DBSS_TOKEN");
        return USAGE;
    }
    return -1;
}

/* ---------------------------------------------------------------------------
 * The call
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
        complain("--set %s: a secret on the command line could be read by everybody on this machine; "
                 "use --token-file or DBSS_TOKEN",
                 setting);
        return USAGE;
    }
    return dbss_config_set(config, setting, equals + 1) == DBSS_OK ? -1 : explain_last_error();
}

/* Puts the options into a configuration. Returns -1 to go on, else the exit
 * code. */
static int configure(dbss_config *config, const struct options *options)
{
    size_t i;
    if ((options->region != NULL && dbss_config_set_region(config, options->region) != DBSS_OK)
        || (options->endpoint != NULL && dbss_config_set_endpoint(config, options->endpoint) != DBSS_OK)
        || (options->ca_file != NULL && dbss_config_set(config, "ca_file", options->ca_file) != DBSS_OK))
        return explain_last_error();
    for (i = 0; i < options->setting_count; i++) {
        int code = set_option(config, options->settings[i]);
        if (code != -1)
            return code;
    }
    if (options->token_file != NULL)
        return set_token_from_file(config, options->token_file);
    return dbss_config_set_token(config, getenv("DBSS_TOKEN")) == DBSS_OK ? -1 : explain_last_error();
}

/* Downloads the report. Returns -1 with it in `report`, else the exit code. */
static int download(const struct options *options, dbss_buffer *report)
{
    dbss_config *config;
    dbss_context *ctx;
    int code;

    if (dbss_config_new(&config) != DBSS_OK)
        return explain_last_error();
    code = configure(config, options);
    if (code == -1) {
        if (dbss_context_new(config, &ctx) != DBSS_OK
            || dbss_report_download(ctx, options->project, options->instance, options->report,
                                    options->locale, report)
                   != DBSS_OK)
            code = explain_last_error();
        dbss_context_free(ctx);
    }
    dbss_config_free(config);
    return code;
}

/* The report's format by its first bytes; NULL for one that is unknown. */
static const char *format_of(const dbss_buffer *report)
{
    if (report->len >= 5 && memcmp(report->data, "%PDF-", 5) == 0)
        return "pdf";
    if (report->len >= 4 && memcmp(report->data, "PK\003\004", 4) == 0)
        return "zip";
    return NULL;
}

/* ---------------------------------------------------------------------------
 * The file
 * ------------------------------------------------------------------------ */

/* first + second + third, to be freed; ends the program without memory. */
static char *join(const char *first, const char *second, const char *third)
{
    size_t size = strlen(first) + strlen(second) + strlen(third) + 1;
    char *joined = malloc(size);
    if (joined == NULL) {
        complain("out of memory");
        exit(LOCAL);
    }
    snprintf(joined, size, "%s%s%s", first, second, third);
    return joined;
}

/* Whether a file may be saved under this name, as far as that can be told
 * beforehand. Returns -1 to go on, else the exit code. */
static int check_target(const char *path, int force)
{
    struct stat present;
    if (lstat(path, &present) != 0)
        return -1;
    if (!force) {
        complain("%s exists already; --force would replace it", path);
        return LOCAL;
    }
    if (!S_ISREG(present.st_mode)) {
        complain("%s is not a regular file, and is not replaced", path);
        return LOCAL;
    }
    return -1;
}

/* The same for all the names that the report may get. */
static int check_targets(const struct options *options)
{
    static const char *const endings[] = {".pdf", ".zip", ""};
    int code = -1;
    size_t i;

    if (options->output != NULL)
        return strcmp(options->output, "-") == 0 ? -1 : check_target(options->output, options->force);
    for (i = 0; i < sizeof endings / sizeof *endings && code == -1; i++) {
        char *path = join(options->report, endings[i], "");
        code = check_target(path, options->force);
        free(path);
    }
    return code;
}

/* Writes all of it; 0, or -1 with errno. */
static int write_all(int fd, const dbss_buffer *report)
{
    size_t done = 0;
    while (done < report->len) {
        ssize_t n = write(fd, report->data + done, report->len - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return -1;
    }
    return 0;
}

/* Saves the report under a name that it gets only when it is whole: it is
 * written beside it first, under a name of its own. What stands under the name
 * is replaced with `force`, else kept, with no moment between the check and
 * the act. Returns -1 when it is saved, else the exit code. */
static int save(const dbss_buffer *report, const char *path, int force)
{
    const char *slash = strrchr(path, '/');
    char *directory = join(path, "", "");
    char *temporary;
    const char *what = "write";
    sigset_t ending, before;
    int fd, failed, cause = 0;

    directory[slash == NULL ? 0 : slash - path + 1] = '\0';
    temporary = join(directory, ".dbss-download.", "XXXXXX");

    /* A signal that ends the program waits until no temporary file can be left
     * behind; nothing here waits for the network. */
    sigemptyset(&ending);
    sigaddset(&ending, SIGHUP);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGQUIT);
    sigaddset(&ending, SIGTERM);
    sigprocmask(SIG_BLOCK, &ending, &before);

    fd = mkstemp(temporary); /* mode 0600 */
    failed = fd < 0;
    if (failed) {
        what = "create a file beside";
        cause = errno;
    } else {
        failed = write_all(fd, report) != 0 || fsync(fd) != 0;
        cause = errno;
        if (close(fd) != 0 && !failed) {
            failed = 1;
            cause = errno;
        }
        if (!failed) {
            what = force ? "replace" : "create";
            failed = (force ? rename(temporary, path) : link(temporary, path)) != 0;
            cause = errno;
        }
        if (failed || !force)
            unlink(temporary);
    }

    if (failed) {
        complain("cannot %s %s: %s%s", what, path, strerror(cause),
                 cause == EPERM && !force ? "; does this file system have hard links? --force needs none" : "");
    } else if ((fd = open(*directory != '\0' ? directory : ".", O_RDONLY | O_CLOEXEC)) >= 0) {
        /* So that the name outlives a loss of power; not all file systems can
         * do it, and the file is whole in any case. */
        fsync(fd);
        close(fd);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    free(temporary);
    free(directory);
    return failed ? LOCAL : -1;
}

/* ------------------------------------------------------------------------ */

int main(int argc, char **argv)
{
    struct options options = {0};
    dbss_buffer report = {0};
    const char *format;
    char *path;
    int code;

    /* A closed pipe and a full quota are errors to tell of, not to die of. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);

    options.settings = calloc((size_t)argc, sizeof *options.settings);
    if (options.settings == NULL) {
        complain("out of memory");
        return LOCAL;
    }
    code = parse_options(argc, argv, &options);
    if (code == -1)
        code = check_targets(&options);
    if (code == -1)
        code = download(&options, &report);
    if (code == -1) {
        format = format_of(&report);
        if (options.output != NULL)
            path = join(options.output, "", "");
        else
            path = join(options.report, format != NULL ? "." : "", format != NULL ? format : "");

        if (options.output != NULL && strcmp(options.output, "-") == 0) {
            if (write_all(STDOUT_FILENO, &report) != 0) {
                complain("cannot write to standard output: %s", strerror(errno));
                code = LOCAL;
            }
        } else {
            code = save(&report, path, options.force);
        }
        if (code == -1) {
            fprintf(stderr, "saved %s (%lu bytes, %s)\n", path, (unsigned long)report.len,
                    format != NULL ? format : "unknown format");
            code = SAVED;
        }
        free(path);
    }
    dbss_buffer_free(&report);
    free(options.settings);
    return code;
}
