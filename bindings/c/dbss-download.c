/*
 * dbss-download: saves an audit report of Huawei Cloud's Database Security
 * Service. A command to use, and a sample of a program on libdbss.
 *
 * From top to bottom: what the user wants (options), how far it is, and the
 * calls. What dbss-reports needs too is in common.c: the configuration, the
 * progress bar and the log, Ctrl-C, and the exit codes.
 */

#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char program_name[] = "dbss-download";

struct options {
    struct common common;
    const char *report;
    const char *locale; /* NULL: the service's choice */
    const char *output; /* "-", a file, or a directory; by default "." */
    int check;
    int force;
};

/* ---------------------------------------------------------------------------
 * What the user wants
 * ------------------------------------------------------------------------ */

static void print_help(void)
{
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
    print_keys();
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

/* Fills `options`. Returns -1 to go on, else the exit code. */
static int parse_options(int argc, char **argv, struct options *options)
{
    enum { REPORT = FIRST_OWN_OPTION, LOCALE, CHECK, FORCE };
    static const struct option known[] = {
        COMMON_OPTIONS,
        {"report", required_argument, NULL, REPORT},
        {"locale", required_argument, NULL, LOCALE},
        {"output", required_argument, NULL, 'o'},
        {"check", no_argument, NULL, CHECK},
        {"force", no_argument, NULL, FORCE},
        {NULL, 0, NULL, 0},
    };
    int c;

    options->report = environment_value("DBSS_REPORT_ID");
    options->locale = environment_value("DBSS_LOCALE");
    options->output = environment_value("DBSS_OUTPUT");
    if (options->output == NULL)
        options->output = ".";

    while ((c = getopt_long(argc, argv, "o:qvh", known, NULL)) != -1) {
        int code = -1;
        switch (c) {
        case REPORT: options->report = optarg; break;
        case LOCALE: options->locale = optarg; break;
        case 'o': options->output = optarg; break;
        case CHECK: options->check = 1; break;
        case FORCE: options->force = 1; break;
        case 'h': print_help(); return DONE;
        default: code = parse_common_option(&options->common, c, optarg);
        }
        if (code != -1)
            return code;
    }

    if (optind < argc) {
        print_error("unexpected argument '%s'; try --help", argv[optind]);
        return USAGE;
    }
    if (!options->check && (options->common.instance == NULL || options->report == NULL)) {
        print_error("--instance and --report (or DBSS_INSTANCE_ID and DBSS_REPORT_ID) are required, or --check; "
                    "try --help");
        return USAGE;
    }
    return -1;
}

/* ---------------------------------------------------------------------------
 * Meanwhile
 * ------------------------------------------------------------------------ */

static void describe(const dbss_operation *operation, char *line, size_t size)
{
    int64_t received = dbss_operation_received(operation);
    int64_t total = dbss_operation_total(operation);
    unsigned attempts = dbss_operation_attempts(operation);
    char part[4][32], rest[32] = "";
    size_t end;

    if (received > 0 && total > received)
        format_remaining((double)received, (double)total, rest, sizeof rest);
    if (total > 0)
        snprintf(line, size, "%3d%% of %s, %s", (int)(100.0 * (double)received / (double)total),
                 format_size((double)total, part[0], sizeof part[0]), rest);
    end = strlen(line);
    snprintf(line + end, size - end, "%s, %s/s", format_size((double)received, part[1], sizeof part[1]),
             format_rate((double)received, part[2], sizeof part[2]));
    end = strlen(line);
    if (attempts > 1)
        snprintf(line + end, size - end, ", attempt %u, %s resumed", attempts,
                 format_size((double)dbss_operation_resumed(operation), part[3], sizeof part[3]));
}

/* ---------------------------------------------------------------------------
 * The calls
 * ------------------------------------------------------------------------ */

static void print_field(const char *name, const char *value)
{
    printf("%s: ", name);
    print_sanitized(stdout, value);
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
        print_field("expires", "not known");
    else
        print_field("expires", text);
}

/* Tells which credentials there are, and whether the service takes them. */
static dbss_status check(dbss_context *ctx, const struct options *options)
{
    dbss_credentials *found;
    dbss_status status = dbss_context_find_credentials(ctx, running, &found);
    const char *name, *project;

    if (status == DBSS_OK && !options->common.quiet) {
        name = dbss_credentials_name(found);
        project = options->common.project != NULL ? options->common.project : dbss_credentials_project(found);
        printf("source: %s, ", dbss_credentials_source(found));
        print_sanitized(stdout, dbss_credentials_description(found));
        putchar('\n');
        print_field("who", name != NULL ? name : "not known");
        print_field("project", project != NULL ? project : "looked up by the region's name");
        print_expiry(dbss_credentials_expires_ms(found));
    }
    dbss_credentials_free(found);
    if (status != DBSS_OK)
        return status;

    status = dbss_context_check(ctx, options->common.project, running);
    if (!options->common.quiet) {
        const char *accepted = "not known";
        if (status == DBSS_OK)
            accepted = "yes";
        else if (status == DBSS_ERR_UNAUTHENTICATED || status == DBSS_ERR_FORBIDDEN)
            accepted = "no";
        print_field("accepted", accepted);
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
        return dbss_report_download_to_fd(ctx, options->common.project, options->common.instance, options->report,
                                          options->locale, STDOUT_FILENO, running);
    if (is_directory(options->output))
        return dbss_report_download_to_directory(ctx, options->common.project, options->common.instance,
                                                 options->report, options->locale, options->output, flags, running);
    return dbss_report_download_to_file(ctx, options->common.project, options->common.instance, options->report,
                                        options->locale, options->output, flags, running);
}

static void print_success(void)
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
    dbss_context *ctx;
    int code = open_context(&options->common, options->check ? NULL : describe, &ctx);

    if (code == -1 && (options->check ? check(ctx, options) : download(ctx, options)) == DBSS_OK) {
        clear_bar();
        if (!options->common.quiet && !options->check)
            print_success();
        code = flush_output();
    } else if (code == -1) {
        clear_bar();
        code = print_last_error();
    }
    dbss_context_free(ctx);
    return code;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    int code = init_common(&options.common, argc);
    if (code == -1)
        code = parse_options(argc, argv, &options);
    if (code == -1)
        code = run(&options);
    free_common(&options.common);
    return code;
}
