/* What the programs here share: exit codes and messages, the options that all
 * of them take, the configuration, and what the user sees and does meanwhile. */

#ifndef COMMON_H
#define COMMON_H

#include <dbss.h>

#include <getopt.h>
#include <stdio.h>

/* The exit codes, which --help and README.md explain. */
enum {
    DONE = 0,
    INTERNAL = 1,
    USAGE = 2,
    REFUSED = 3,
    NOT_THERE = 4,
    SERVICE = 5,
    NETWORK = 6,
    LOCAL = 7,
    NOTHING_NEW = 10,
    PARTIAL = 11,
    LOCKED = 12,
    CANCELLED = 130
};

/* The name of the program, which each of them defines. */
extern const char program_name[];

/* ---------------------------------------------------------------------------
 * Saying what went wrong
 * ------------------------------------------------------------------------ */

void print_error(const char *format, ...);

/* How many bytes at `text` are a character that must not be printed, and which; 0:
 * it may be. */
size_t unprintable_bytes(const unsigned char *text, unsigned long *character);

/* Prints text of somebody else, without the control characters (of C0, and of
 * C1 as UTF-8) that could drive a terminal. */
void print_sanitized(FILE *stream, const char *text);

/* Tells why the last call of libdbss failed, and gives the exit code for it. */
int print_last_error(void);

/* The same for any error, after what it is about. */
int print_call_error(const char *subject, const dbss_error *error);

/* Writes out what was printed. Returns the exit code. */
int flush_output(void);

/* ---------------------------------------------------------------------------
 * The options of all programs
 * ------------------------------------------------------------------------ */

struct common {
    const char *project; /* NULL: that of the credentials or the region */
    const char *instance;
    const char *region;
    const char *endpoint;
    const char *ca_file;
    const char *token_file; /* NULL: DBSS_TOKEN, or what the SDKs would find */
    char **settings;        /* each KEY=VALUE of --set */
    size_t setting_count;
    int quiet;
    int verbose;
};

enum { PROJECT = 256, INSTANCE, REGION, ENDPOINT, CA_FILE, TOKEN_FILE, TOKEN, SET, VERSION, FIRST_OWN_OPTION };

/* Entries of getopt_long's table; those with a letter are "qvh". */
#define COMMON_OPTIONS                                                                                                 \
    {"project", required_argument, NULL, PROJECT}, {"instance", required_argument, NULL, INSTANCE},                    \
        {"region", required_argument, NULL, REGION}, {"endpoint", required_argument, NULL, ENDPOINT},                  \
        {"ca-file", required_argument, NULL, CA_FILE},                                                                 \
        {"token-file", required_argument, NULL,                                                                        \
         TOKEN_FILE}, /* Listed to be refused: getopt would take it for --token-file. */                               \
        {"token", required_argument, NULL, TOKEN}, {"set", required_argument, NULL, SET},                              \
        {"quiet", no_argument, NULL, 'q'}, {"verbose", no_argument, NULL, 'v'},                                        \
        {"version", no_argument, NULL, VERSION}, {"help", no_argument, NULL, 'h'}

/* A variable of the environment; one that is empty counts as absent. */
const char *environment_value(const char *name);

/* What the environment says; room for as many settings as there are arguments.
 * Returns -1 to go on, else the exit code. */
int init_common(struct common *common, int argc);

/* Takes one of them, but for --help, or explains that there is no such option.
 * Returns -1 to go on, else the exit code. */
int parse_common_option(struct common *common, int option, char *value);

void free_common(struct common *common);

/* Prints the keys of --set. */
void print_keys(void);

/* ---------------------------------------------------------------------------
 * The call
 * ------------------------------------------------------------------------ */

/* What all calls use, and a signal cancels; it lives until the program ends. */
extern dbss_operation *running;

/* Says in one line how far the running operation is. */
typedef void describe_fn(const dbss_operation *operation, char *line, size_t size);

/* Configures a context, and the running operation, with a progress bar on a
 * terminal unless `describe` is NULL. From here on signals cancel. Returns -1 to
 * go on, else the exit code. */
int open_context(struct common *common, describe_fn *describe, dbss_context **ctx);

/* Takes the progress bar away, before anything else is written. */
void clear_bar(void);

/* Bytes as a person reads them. */
const char *format_size(double bytes, char *text, size_t size);

/* The same for each second since the bar began. */
const char *format_rate(double bytes, char *text, size_t size);

/* How long the rest of a download will take, if it goes on as since the bar began. */
void format_remaining(double received, double total, char *text, size_t size);

#endif
