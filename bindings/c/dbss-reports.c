/*
 * dbss-reports: lists, makes, deletes and mirrors the audit reports of Huawei
 * Cloud's Database Security Service. A command to use, and a sample of a program
 * on libdbss.
 *
 * From top to bottom: what the user wants (options), lists, single reports, the
 * mirror, and the commands. common.c has what dbss-download needs too.
 */

#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char program_name[] = "dbss-reports";

/* The options that only some commands take, in the order of `known` below. */
enum {
    NAME,
    TEMPLATE,
    START,
    END,
    START_DATE,
    END_DATE,
    DATABASES,
    YES,
    SINCE,
    UNTIL,
    UTC_OFFSET,
    TYPE,
    LOCALE,
    PARALLEL,
    VERIFY,
    GAPS,
    SUCCESS_FILE,
    DETECT_NOTHING_NEW,
    OWN_OPTIONS
};

#define BIT(option) (1UL << (option))

struct options {
    struct common common;
    int json;
    const char *own[OWN_OPTIONS]; /* "true" for those without a value */
    const char *argument;         /* the report or the directory */
};

struct command {
    const char *name;
    int (*run)(struct options *options, dbss_context *ctx);
    const char *argument; /* its name in messages; NULL: none */
    int needs_instance;
    unsigned long takes, needs;
};

static int run_instances(struct options *options, dbss_context *ctx);
static int run_reports(struct options *options, dbss_context *ctx);
static int run_templates(struct options *options, dbss_context *ctx);
static int run_generate(struct options *options, dbss_context *ctx);
static int run_delete(struct options *options, dbss_context *ctx);
static int run_mirror(struct options *options, dbss_context *ctx);

static const struct command commands[] = {
    {"instances", run_instances, NULL, 0, 0, 0},
    {"reports", run_reports, NULL, 1, BIT(NAME), 0},
    {"templates", run_templates, NULL, 1, 0, 0},
    {"generate", run_generate, NULL, 1,
     BIT(TEMPLATE) | BIT(START) | BIT(END) | BIT(START_DATE) | BIT(END_DATE) | BIT(DATABASES),
     BIT(TEMPLATE) | BIT(START) | BIT(END)},
    {"delete", run_delete, "REPORT", 1, BIT(YES), BIT(YES)},
    {"mirror", run_mirror, "DIRECTORY", 0,
     BIT(NAME) | BIT(TEMPLATE) | BIT(SINCE) | BIT(UNTIL) | BIT(UTC_OFFSET) | BIT(TYPE) | BIT(LOCALE) | BIT(PARALLEL)
         | BIT(VERIFY) | BIT(GAPS) | BIT(SUCCESS_FILE) | BIT(DETECT_NOTHING_NEW),
     0},
};

/* ---------------------------------------------------------------------------
 * What the user wants
 * ------------------------------------------------------------------------ */

static void print_help(void)
{
    fputs("Usage: dbss-reports COMMAND [OPTION]...\n"
          "\n"
          "Lists, makes, deletes and mirrors audit reports of the Database Security\n"
          "Service.\n"
          "\n"
          "Commands:\n"
          "  instances         the project's audit instances\n"
          "  reports           the reports of the instance\n"
          "      --name TEXT       those with this in their name\n"
          "  templates         what reports of the instance are made from\n"
          "  generate          have a report made, wait until it is ready, print its id\n"
          "      --template ID     what it is made from\n"
          "      --start TIME      the range that it covers, such as\n"
          "      --end TIME        '2026-11-24 00:00:00'\n"
          "      --start-date DATE, --end-date DATE, --databases ID,ID...\n"
          "  delete REPORT     delete the report, for ever\n"
          "      --yes             required\n"
          "  mirror DIRECTORY  download all that is new into a local archive\n"
          "      --since DAY       only what begins on this day or later, as 2026-11-24\n"
          "      --until DAY       only what begins on this day or earlier\n"
          "      --utc-offset OFFSET  of these days, such as +08:00; by default UTC\n"
          "      --type TYPE       only this type, such as AUDIT_REPORT_DAY\n"
          "      --template TYPE   only this template_type\n"
          "      --name TEXT       only those with this in their name\n"
          "      --locale LOCALE   their language: en-us or zh-cn\n"
          "      --parallel N      so many downloads at once, 1 to 16\n"
          "      --verify          compare what is there with the manifest, and repair it\n"
          "      --gaps            list the days, weeks and months without a report\n"
          "      --success-file PATH  a file that each run without a failure writes anew\n"
          "      --detect-nothing-new  exit with 10 where nothing was downloaded\n"
          "\n",
          stdout);
    fputs("Of all commands, some also from the environment:\n"
          "      --instance ID      DBSS_INSTANCE_ID  the audit instance; for mirror only\n"
          "                                           where it is not to be all\n"
          "      --project ID       DBSS_PROJECT_ID   the project; by default that of the\n"
          "                                           credentials, or of the region's name\n"
          "      --region REGION    DBSS_REGION       such as cn-north-4\n"
          "      --endpoint URL     DBSS_ENDPOINT     where the service answers, in\n"
          "                                           place of the region's\n"
          "      --ca-file PATH     DBSS_CA_FILE      the certificates to trust (PEM)\n"
          "      --token-file PATH  DBSS_TOKEN        the IAM token: a file with it (- is\n"
          "                                           standard input), or itself; without\n"
          "                                           one, the credentials are those that\n"
          "                                           the official SDKs find: HUAWEICLOUD_\n"
          "                                           SDK_AK and _SK, ~/.huaweicloud, or\n"
          "                                           the agency of this instance\n"
          "      --locale LOCALE    DBSS_LOCALE\n"
          "      --json             print JSON: of a list a line for each page\n"
          "      --set KEY=VALUE    any option of libdbss, see below; repeatable\n"
          "  -q, --quiet            no headings, no progress, no warnings, and no summary\n"
          "  -v, --verbose          tell what libdbss does\n"
          "      --version          print the versions\n"
          "  -h, --help             print this\n"
          "\n"
          "Keys of --set:\n",
          stdout);
    print_keys();
    fputs("\n"
          "Exit codes:\n"
          "    0  done\n"
          "    1  internal error of libdbss\n"
          "    2  wrong usage, argument or configuration\n"
          "    3  the credentials were refused, or do not allow this\n"
          "    4  there is no such instance, template or report\n"
          "    5  the service failed, refused, or was not ready in time\n"
          "    6  the network failed\n"
          "    7  a local file, memory or another resource of this machine\n"
          "   10  mirror: nothing is new (only with --detect-nothing-new)\n"
          "   11  mirror: some reports could not be had; the others are there\n"
          "   12  mirror: another one works on the directory\n"
          "  130  cancelled, by Ctrl-C for example\n",
          stdout);
}

static const struct option known[] = {
    {"name", required_argument, NULL, FIRST_OWN_OPTION + NAME},
    {"template", required_argument, NULL, FIRST_OWN_OPTION + TEMPLATE},
    {"start", required_argument, NULL, FIRST_OWN_OPTION + START},
    {"end", required_argument, NULL, FIRST_OWN_OPTION + END},
    {"start-date", required_argument, NULL, FIRST_OWN_OPTION + START_DATE},
    {"end-date", required_argument, NULL, FIRST_OWN_OPTION + END_DATE},
    {"databases", required_argument, NULL, FIRST_OWN_OPTION + DATABASES},
    {"yes", no_argument, NULL, FIRST_OWN_OPTION + YES},
    {"since", required_argument, NULL, FIRST_OWN_OPTION + SINCE},
    {"until", required_argument, NULL, FIRST_OWN_OPTION + UNTIL},
    {"utc-offset", required_argument, NULL, FIRST_OWN_OPTION + UTC_OFFSET},
    {"type", required_argument, NULL, FIRST_OWN_OPTION + TYPE},
    {"locale", required_argument, NULL, FIRST_OWN_OPTION + LOCALE},
    {"parallel", required_argument, NULL, FIRST_OWN_OPTION + PARALLEL},
    {"verify", no_argument, NULL, FIRST_OWN_OPTION + VERIFY},
    {"gaps", no_argument, NULL, FIRST_OWN_OPTION + GAPS},
    {"success-file", required_argument, NULL, FIRST_OWN_OPTION + SUCCESS_FILE},
    {"detect-nothing-new", no_argument, NULL, FIRST_OWN_OPTION + DETECT_NOTHING_NEW},
    {"json", no_argument, NULL, 'j'},
    COMMON_OPTIONS,
    {NULL, 0, NULL, 0},
};

static const struct command *find_command(const char *name)
{
    size_t i;
    for (i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* Ids may begin with a hyphen. They are long, and options without a value are not. */
static int is_id(const char *word)
{
    size_t i;
    if (word[0] != '-' || strlen(word) < 16 || strchr(word, '=') != NULL)
        return 0;
    for (i = 0; known[i].name != NULL; i++)
        if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, known[i].name) == 0)
            return 0;
    return 1;
}

/* The next option, or 1 for a word that is none; -1 at the end. */
static int next_option(int argc, char **argv)
{
    if (optind < argc && is_id(argv[optind])) {
        optarg = argv[optind++];
        return 1;
    }
    return getopt_long(argc, argv, "-qvh", known, NULL);
}

/* Fills `options` and `command`. Returns -1 to go on, else the exit code. */
static int parse_options(int argc, char **argv, struct options *options, const struct command **command)
{
    const char *words[3] = {NULL, NULL, NULL};
    int c, i, count = 0;

    while ((c = next_option(argc, argv)) != -1) {
        int code = -1;
        if (c == 1) {
            if (count < 3)
                words[count++] = optarg;
        } else if (c == 'h') {
            print_help();
            code = DONE;
        } else if (c == 'j') {
            options->json = 1;
        } else if (c >= FIRST_OWN_OPTION) {
            options->own[c - FIRST_OWN_OPTION] = optarg != NULL ? optarg : "true";
        } else {
            code = parse_common_option(&options->common, c, optarg);
        }
        if (code != -1)
            return code;
    }

    while (optind < argc && count < 3)
        words[count++] = argv[optind++];

    if (count == 0 || (*command = find_command(words[0])) == NULL) {
        if (count == 0)
            print_error("a command is required; try --help");
        else
            print_error("there is no command '%s'; try --help", words[0]);
        return USAGE;
    }
    i = 1;
    if ((*command)->argument != NULL)
        options->argument = words[i++];
    if (i < count) {
        print_error("unexpected argument '%s'; try --help", words[i]);
        return USAGE;
    }
    if ((*command)->argument != NULL && options->argument == NULL) {
        print_error("%s needs a %s; try --help", (*command)->name, (*command)->argument);
        return USAGE;
    }
    for (i = 0; i < OWN_OPTIONS; i++) {
        if (options->own[i] != NULL && !((*command)->takes & BIT(i))) {
            print_error("--%s is no option of %s; try --help", known[i].name, (*command)->name);
            return USAGE;
        }
        if (options->own[i] == NULL && (*command)->needs & BIT(i)) {
            print_error("%s needs --%s; try --help", (*command)->name, known[i].name);
            return USAGE;
        }
    }
    if ((*command)->needs_instance && options->common.instance == NULL) {
        print_error("%s needs --instance (or DBSS_INSTANCE_ID); try --help", (*command)->name);
        return USAGE;
    }
    if ((*command)->takes & BIT(LOCALE) && options->own[LOCALE] == NULL)
        options->own[LOCALE] = environment_value("DBSS_LOCALE");
    return -1;
}

/* ---------------------------------------------------------------------------
 * Lists
 * ------------------------------------------------------------------------ */

/* Prints a character that must not be printed as JSON escapes it; how many bytes it
 * has, or 0 where it is none. */
static size_t print_escaped(const unsigned char *text)
{
    unsigned long c;
    size_t size = unprintable_bytes(text, &c);
    if (size > 0 && c > 0xffff)
        printf("\\u%04lx\\u%04lx", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
    else if (size > 0)
        printf("\\u%04lx", c);
    return size;
}

/* Prints a JSON document as one line, whoever wrote it: the controls of C0 can
 * only be space between its parts, and others stand in strings, where they are
 * escaped. */
static void print_json(const dbss_buffer *json)
{
    const unsigned char *c = json->data, *end = c + json->len;
    while (c < end) {
        size_t size = *c < 0x20 ? 0 : print_escaped(c);
        if (size == 0)
            putchar(*c < 0x20 ? ' ' : *c);
        c += size > 0 ? size : 1;
    }
    putchar('\n');
}

/* Prints text of somebody else as a string of JSON. */
static void print_json_string(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    putchar('"');
    while (*c != '\0') {
        size_t size = print_escaped(c);
        if (size == 0)
            printf(*c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
        c += size > 0 ? size : 1;
    }
    putchar('"');
}

/* The columns that text takes, as print_sanitized() prints it. */
static int width(const char *text)
{
    int columns = 0;
    for (; *text != '\0'; text++)
        columns += ((unsigned char)*text & 0xc0) != 0x80;
    return columns;
}

/* Prints the field in so many columns, and what is between it and the next. */
static void print_cell(const char *text, int columns)
{
    print_sanitized(stdout, text);
    printf("%*s", columns - width(text) + 2, "");
}

enum { MAX_COLUMNS = 8 };

static const char *field_of(const dbss_page *page, size_t item, const char *field)
{
    const char *text = dbss_page_field(page, item, field);
    return text != NULL && *text != '\0' ? text : "-";
}

/* Prints the fields as a table. The last one is not aligned: that is the name,
 * whose characters may be of any width. */
static void print_table(dbss_page *const *pages, size_t count, const char *const *fields, int headings)
{
    int columns[MAX_COLUMNS] = {0};
    size_t i, item, field;

    for (field = 0; fields[field] != NULL; field++) {
        if (headings)
            columns[field] = width(fields[field]);
        for (i = 0; i < count; i++)
            for (item = 0; item < dbss_page_count(pages[i]); item++) {
                int needed = width(field_of(pages[i], item, fields[field]));
                if (needed > columns[field])
                    columns[field] = needed;
            }
    }
    for (field = 0; headings && fields[field] != NULL; field++) {
        if (fields[field + 1] != NULL)
            print_cell(fields[field], columns[field]);
        else
            printf("%s\n", fields[field]);
    }
    for (i = 0; i < count; i++)
        for (item = 0; item < dbss_page_count(pages[i]); item++) {
            for (field = 0; fields[field + 1] != NULL; field++)
                print_cell(field_of(pages[i], item, fields[field]), columns[field]);
            print_sanitized(stdout, field_of(pages[i], item, fields[field]));
            putchar('\n');
        }
}

/* Prints a list, whose status its beginning had, and frees it. A page of JSON
 * is printed when it is there, a table when all of it is. */
static int print_list(struct options *options, dbss_status status, dbss_cursor *cursor, const char *const *fields)
{
    dbss_page **pages = NULL, *page = NULL;
    size_t count = 0;
    int code = -1;

    while (status == DBSS_OK && (status = dbss_cursor_next(cursor, running, &page)) == DBSS_OK && page != NULL) {
        dbss_page **more = realloc(pages, (count + 1) * sizeof *pages);
        if (more == NULL) {
            print_error("out of memory");
            dbss_page_free(page);
            code = LOCAL;
            break;
        }
        pages = more;
        pages[count++] = page;
        if (options->json) {
            dbss_buffer json;
            if ((status = dbss_page_json(page, &json)) == DBSS_OK)
                print_json(&json);
            dbss_buffer_free(&json);
            dbss_page_free(pages[--count]);
        }
    }
    if (status != DBSS_OK)
        code = print_last_error();
    else if (code == -1 && !options->json && count > 0)
        print_table(pages, count, fields, !options->common.quiet);
    while (count > 0)
        dbss_page_free(pages[--count]);
    free(pages);
    dbss_cursor_free(cursor);
    return code != -1 ? code : flush_output();
}

static int run_instances(struct options *options, dbss_context *ctx)
{
    static const char *const fields[] = {"id", "status", "region", "version", "remain_days", "name", NULL};
    dbss_cursor *cursor;
    dbss_status status = dbss_instances_list(ctx, options->common.project, 0, &cursor);
    return print_list(options, status, cursor, fields);
}

static int run_reports(struct options *options, dbss_context *ctx)
{
    static const char *const fields[] = {"id", "format", "percentum", "type", "start_time", "end_time", "name", NULL};
    dbss_cursor *cursor;
    dbss_status status =
        dbss_reports_list(ctx, options->common.project, options->common.instance, options->own[NAME], 0, &cursor);
    return print_list(options, status, cursor, fields);
}

static int run_templates(struct options *options, dbss_context *ctx)
{
    static const char *const fields[] = {"id", "type", "status", "name", NULL};
    dbss_cursor *cursor;
    dbss_status status = dbss_templates_list(ctx, options->common.project, options->common.instance, &cursor);
    return print_list(options, status, cursor, fields);
}

/* ---------------------------------------------------------------------------
 * Single reports
 * ------------------------------------------------------------------------ */

/* What is to be made, in the library's words. */
static dbss_status set_spec(dbss_report_spec *spec, const struct options *options)
{
    static const struct {
        int option;
        const char *key;
    } wanted[] = {{TEMPLATE, "template_id"},  {START, "start_time"},  {END, "end_time"},
                  {START_DATE, "start_date"}, {END_DATE, "end_date"}, {DATABASES, "db_ids"}};
    dbss_status status = DBSS_OK;
    size_t i;
    for (i = 0; i < sizeof wanted / sizeof *wanted && status == DBSS_OK; i++)
        if (options->own[wanted[i].option] != NULL)
            status = dbss_report_spec_set(spec, wanted[i].key, options->own[wanted[i].option]);
    return status;
}

static int run_generate(struct options *options, dbss_context *ctx)
{
    dbss_report_spec *spec = NULL;
    char id[DBSS_ID_SIZE];
    int done =
        dbss_report_spec_new(&spec) == DBSS_OK && set_spec(spec, options) == DBSS_OK
        && dbss_report_generate(ctx, options->common.project, options->common.instance, spec, running, id) == DBSS_OK;
    dbss_report_spec_free(spec);
    clear_bar();
    if (!done)
        return print_last_error();
    if (options->json) {
        fputs("{\"id\": ", stdout);
        print_json_string(id);
        puts("}");
    } else {
        print_sanitized(stdout, id);
        putchar('\n');
    }
    return flush_output();
}

static int run_delete(struct options *options, dbss_context *ctx)
{
    if (dbss_report_delete(ctx, options->common.project, options->common.instance, options->argument, running)
        != DBSS_OK)
        return print_last_error();
    if (options->json)
        printf("{\"deleted\": \"%s\"}\n", options->argument);
    else if (!options->common.quiet)
        fprintf(stderr, "deleted %s\n", options->argument);
    return flush_output();
}

/* ---------------------------------------------------------------------------
 * The mirror
 * ------------------------------------------------------------------------ */

/* Writes all of it, and sees it on the disk. */
static int write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return fsync(fd);
}

/* Replaces the file in one step, so that nobody ever sees a part of it. For
 * monitoring, so anybody may read it as far as the umask lets them. */
static int replace_file(const char *path, const dbss_buffer *content)
{
    static const char suffix[] = ".XXXXXX";
    char *temporary = malloc(strlen(path) + sizeof suffix);
    mode_t mask = umask(077);
    int fd = -1, done = 0, why;

    umask(mask);
    errno = ENOMEM;
    if (temporary != NULL) {
        strcpy(temporary, path);
        strcat(temporary, suffix);
        fd = mkstemp(temporary);
    }
    if (fd >= 0) {
        done = write_all(fd, content->data, content->len) == 0 && write_all(fd, (const uint8_t *)"\n", 1) == 0
               && fchmod(fd, 0666 & ~mask) == 0 && rename(temporary, path) == 0;
        why = errno;
        close(fd);
        if (!done)
            unlink(temporary);
        errno = why;
    }
    if (!done)
        print_error("cannot write %s: %s", path, strerror(errno));
    free(temporary);
    return done ? DONE : LOCAL;
}

static void print_summary(const dbss_mirror_result *result)
{
    static const struct {
        const char *name;
        int64_t (*count)(const dbss_mirror_result *);
    } counts[] = {
        {"listed", dbss_mirror_result_listed},     {"downloaded", dbss_mirror_result_downloaded},
        {"present", dbss_mirror_result_present},   {"not_ready", dbss_mirror_result_not_ready},
        {"vanished", dbss_mirror_result_vanished}, {"repaired", dbss_mirror_result_repaired},
        {"failed", dbss_mirror_result_failed},
    };
    size_t i;
    for (i = 0; i < sizeof counts / sizeof *counts; i++)
        printf("%-10s  %lld\n", counts[i].name, (long long)counts[i].count(result));
}

static void print_gaps(const dbss_mirror_result *result)
{
    size_t count = dbss_mirror_result_gap_count(result), i;
    int columns = 0;
    for (i = 0; i < count; i++)
        if (width(dbss_mirror_result_gap_type(result, i)) > columns)
            columns = width(dbss_mirror_result_gap_type(result, i));
    for (i = 0; i < count; i++) {
        printf("gap  %s  ", dbss_mirror_result_gap_period(result, i));
        print_cell(dbss_mirror_result_gap_type(result, i), columns);
        print_sanitized(stdout, dbss_mirror_result_gap_instance(result, i));
        putchar('\n');
    }
}

static void print_failures(const dbss_mirror_result *result)
{
    size_t i;
    for (i = 0; i < dbss_mirror_result_failure_count(result); i++) {
        const char *id = dbss_mirror_result_failure_id(result, i);
        dbss_error *error = dbss_mirror_result_failure_error(result, i);
        /* It has no id where an instance's list could not be had. */
        print_call_error(*id != '\0' ? id : dbss_mirror_result_failure_instance(result, i), error);
        dbss_error_free(error);
    }
}

/* Sets the options under the names that they have here. */
static dbss_status set_mirror(dbss_mirror_options *mirror, const struct options *options)
{
    static const int wanted[] = {SINCE, UNTIL, UTC_OFFSET, TYPE, TEMPLATE, NAME, LOCALE, PARALLEL, VERIFY};
    dbss_status status = DBSS_OK;
    size_t i;
    if (options->common.instance != NULL)
        status = dbss_mirror_options_set(mirror, "instance", options->common.instance);
    for (i = 0; i < sizeof wanted / sizeof *wanted && status == DBSS_OK; i++)
        if (options->own[wanted[i]] != NULL)
            status = dbss_mirror_options_set(mirror, wanted[i] == UTC_OFFSET ? "utc_offset" : known[wanted[i]].name,
                                             options->own[wanted[i]]);
    return status;
}

/* Tells how it went, also where it went only so far. */
static int print_result(const struct options *options, const dbss_mirror_result *result, int code)
{
    dbss_buffer json;
    int written = DONE;

    if (dbss_mirror_result_json(result, &json) != DBSS_OK)
        return print_last_error();
    if (options->json) {
        print_json(&json);
    } else {
        if (!options->common.quiet)
            print_summary(result);
        if (options->own[GAPS] != NULL)
            print_gaps(result);
    }
    if (code == -1 && options->own[SUCCESS_FILE] != NULL)
        written = replace_file(options->own[SUCCESS_FILE], &json);
    dbss_buffer_free(&json);
    if (written != DONE)
        return written;
    written = flush_output();
    if (code != -1 || written != DONE)
        return code != -1 ? code : written;
    if (options->own[DETECT_NOTHING_NEW] != NULL && dbss_mirror_result_downloaded(result) == 0
        && dbss_mirror_result_repaired(result) == 0)
        return NOTHING_NEW;
    return DONE;
}

static int run_mirror(struct options *options, dbss_context *ctx)
{
    dbss_mirror_options *mirror = NULL;
    dbss_mirror_result *result = NULL;
    int code = -1;

    if (dbss_mirror_options_new(&mirror) != DBSS_OK || set_mirror(mirror, options) != DBSS_OK
        || dbss_reports_mirror(ctx, options->common.project, options->argument, mirror, running, &result) != DBSS_OK) {
        clear_bar();
        code = print_last_error();
        print_failures(result);
    }
    clear_bar();
    if (result != NULL)
        code = print_result(options, result, code);
    dbss_mirror_result_free(result);
    dbss_mirror_options_free(mirror);
    return code;
}

/* ---------------------------------------------------------------------------
 * The commands
 * ------------------------------------------------------------------------ */

static void describe(const dbss_operation *operation, char *line, size_t size)
{
    double received = (double)dbss_operation_received(operation);
    int percent = dbss_operation_percent(operation);
    char part[2][32];
    size_t end = 0;

    if (percent >= 0)
        snprintf(line, size, "%3d%%", percent);
    end = strlen(line);
    if (received > 0)
        snprintf(line + end, size - end, "%s%s, %s/s", end > 0 ? ", " : "",
                 format_size(received, part[0], sizeof part[0]), format_rate(received, part[1], sizeof part[1]));
}

int main(int argc, char **argv)
{
    struct options options = {0};
    const struct command *command = NULL;
    dbss_context *ctx = NULL;
    int code = init_common(&options.common, argc);

    if (code == -1)
        code = parse_options(argc, argv, &options, &command);
    if (code == -1)
        code = open_context(&options.common,
                            command->run == run_generate || command->run == run_mirror ? describe : NULL, &ctx);
    if (code == -1)
        code = command->run(&options, ctx);
    dbss_context_free(ctx);
    free_common(&options.common);
    return code;
}
