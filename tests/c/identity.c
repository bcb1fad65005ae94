#define _GNU_SOURCE /* for strcasestr */

#include "identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *home_directory;
static const char *secrets[16];
static size_t secret_count;
static char log_text[1 << 18];

extern char **environ;

/* ---------------------------------------------------------------------------
 * Set-up and tear-down
 * ------------------------------------------------------------------------ */

static void clear_environment(void)
{
    size_t i = 0;
    while (environ[i] != NULL) {
        if (strncmp(environ[i], "HUAWEICLOUD_", 12) == 0) {
            char *name = format("%.*s", (int)strcspn(environ[i], "="), environ[i]);
            unsetenv(name);
            free(name);
        } else {
            i++;
        }
    }
}

static void reset_mock(void)
{
    free(control("DELETE", "/faults", ""));
    free(control("DELETE", "/listener_faults", ""));
    free(control("DELETE", "/projects", ""));
    post_control("/iam", "{}");
    post_control("/metadata", "{}");
    free(control("DELETE", "/requests", ""));
}

void set_up(void)
{
    clear_environment();
    home_directory = new_directory();
    setenv("HOME", home_directory, 1);
    secret_count = 0;
    watch_secret(fixture("token"));
    watch_secret(fixture("secret_key"));
    watch_secret(fixture("password"));
    *log_text = '\0';
    reset_mock();
}

void tear_down(void)
{
    clear_environment();
    reset_mock();
    remove_directory(home_directory);
    setenv("HOME", "/nonexistent", 1);
}

const char *home(void)
{
    return home_directory;
}

void watch_secret(const char *text)
{
    if (secret_count == sizeof secrets / sizeof *secrets)
        fatal("too many secrets");
    secrets[secret_count++] = text;
}

/* ---------------------------------------------------------------------------
 * Configurations
 * ------------------------------------------------------------------------ */

static void collect_log(void *user_data, const dbss_log_record *record)
{
    const char *message = dbss_log_record_message(record);
    size_t i, len;
    (void)user_data;
    pthread_mutex_lock(&lock);
    len = strlen(log_text);
    /* There are too many of the other levels. */
    if (dbss_log_record_level(record) <= DBSS_LOG_WARNING && len + strlen(message) + 2 < sizeof log_text)
        sprintf(log_text + len, "%s\n", message);
    pthread_mutex_unlock(&lock);
    for (i = 0; i < secret_count; i++)
        if (strstr(message, secrets[i]) != NULL)
            fail_check("the log contains a secret: %s", message);
}

dbss_config *basic_config(void)
{
    dbss_config *config;
    if (dbss_config_new(&config) != DBSS_OK || dbss_config_set_log(config, collect_log, NULL, NULL) != DBSS_OK)
        fatal("cannot create a configuration: %s", dbss_error_message(dbss_last_error()));
    set_option(config, "endpoint", fixture("http"));
    set_option(config, "ca_file", fixture("ca_file"));
    set_option(config, "max_attempts", "1");
    return config;
}

dbss_config *regional_config(void)
{
    dbss_config *config = basic_config();
    set_option(config, "region", fixture("region"));
    set_option(config, "iam_endpoint", fixture("iam"));
    return config;
}

dbss_config *login_config(void)
{
    dbss_config *config = regional_config();
    if (dbss_config_set_iam_user(config, fixture("user"), fixture("password"), fixture("domain")) != DBSS_OK)
        fatal("cannot set the user: %s", dbss_error_message(dbss_last_error()));
    return config;
}

dbss_config *credentials_config(const char *where)
{
    dbss_config *config = basic_config();
    set_option(config, "credentials", where);
    set_option(config, "metadata_endpoint", fixture("metadata"));
    return config;
}

/* ---------------------------------------------------------------------------
 * Calls
 * ------------------------------------------------------------------------ */

/* The report's bytes, once a download matched the hash from the mock service. */
static uint8_t *expected_bytes;
static size_t expected_len;

static void compare_report(int line, const dbss_buffer *report)
{
    pthread_mutex_lock(&lock);
    if (expected_bytes == NULL && strcmp(sha256(report->data, report->len), fixture("pdf_en")) == 0) {
        expected_bytes = malloc(report->len);
        if (expected_bytes == NULL)
            fatal("out of memory");
        expected_len = report->len;
        memcpy(expected_bytes, report->data, report->len);
    }
    if (expected_bytes == NULL || report->len != expected_len
        || memcmp(report->data, expected_bytes, expected_len) != 0)
        fail_check("line %d: wrong bytes", line);
    pthread_mutex_unlock(&lock);
}

static void expect_no_secret(int line)
{
    size_t i;
    for (i = 0; i < secret_count; i++) {
        const char *where = find_in_error(dbss_last_error(), secrets[i]);
        if (where != NULL)
            fail_check("line %d: the error's %s contains a secret: %s", line, where,
                       dbss_error_message(dbss_last_error()));
    }
}

dbss_status download_for(int line, dbss_status expected, dbss_context *ctx, const char *project,
                         dbss_operation *operation)
{
    dbss_buffer report = {(uint8_t *)&report, 1};
    dbss_status status =
        dbss_report_download_to_memory(ctx, project, fixture("instance"), fixture("pdf"), "en-us", operation, &report);
    expect(line, expected, status);
    if (status == DBSS_OK) {
        compare_report(line, &report);
        dbss_buffer_free(&report);
    } else {
        if (report.data != NULL || report.len != 0)
            fail_check("line %d: a failure did not clear the buffer", line);
        expect_no_secret(line);
    }
    return status;
}

void expect_no_context(int line, dbss_status expected, const char *parameter, dbss_config *config)
{
    dbss_context *ctx = (dbss_context *)&line;
    expect(line, expected, dbss_context_new(config, &ctx));
    if (ctx != NULL && dbss_last_error() != NULL)
        fail_check("line %d: a failure did not clear out_ctx", line);
    if (parameter != NULL)
        expect_text(line, parameter, dbss_error_parameter(dbss_last_error()));
    expect_no_secret(line);
    if (dbss_last_error() == NULL)
        dbss_context_free(ctx);
    /* This keeps the last error for expect_message(). */
    dbss_config_free(config);
}

void expect_message(int line, const char *words)
{
    const char *message = dbss_error_message(dbss_last_error());
    expect_no_secret(line);
    if (strstr(message, words) == NULL)
        fail_check("line %d: expected \"%s\" in: %s", line, words, message);
}

int log_contains(const char *words)
{
    int result;
    pthread_mutex_lock(&lock);
    result = strstr(log_text, words) != NULL;
    pthread_mutex_unlock(&lock);
    return result;
}

struct worker {
    dbss_context *ctx;
    const char *project;
    int rounds;
    pthread_barrier_t *barrier;
};

static void *download_in_rounds(void *argument)
{
    struct worker *worker = argument;
    int i;
    for (i = 0; i < worker->rounds; i++) {
        /* No thread is in a call between the two barriers. */
        pthread_barrier_wait(worker->barrier);
        pthread_barrier_wait(worker->barrier);
        download_for(__LINE__, DBSS_OK, worker->ctx, worker->project, NULL);
    }
    return NULL;
}

void download_concurrently(dbss_context *ctx, const char *project, int threads, int rounds,
                           void (*between_rounds)(void))
{
    pthread_barrier_t barrier;
    struct worker worker = {ctx, project, rounds, &barrier};
    pthread_t *all = calloc((size_t)threads, sizeof *all);
    int i;
    if (all == NULL || pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1) != 0)
        fatal("cannot create the barrier");
    for (i = 0; i < threads; i++)
        all[i] = start_thread(download_in_rounds, &worker);
    for (i = 0; i < rounds; i++) {
        pthread_barrier_wait(&barrier);
        if (i > 0 && between_rounds != NULL)
            between_rounds();
        pthread_barrier_wait(&barrier);
    }
    for (i = 0; i < threads; i++)
        pthread_join(all[i], NULL);
    pthread_barrier_destroy(&barrier);
    free(all);
}

/* ---------------------------------------------------------------------------
 * The mock service's request log
 * ------------------------------------------------------------------------ */

static char *get_request_log(const char *call)
{
    char *path = format("/requests?report=%s", call), *response = control("GET", path, "");
    free(path);
    return response;
}

long count_responses(const char *call, int status)
{
    char *all = get_request_log(call), *wanted = format("\"status\":%d,", status), *at = all;
    long count = 0;
    while ((at = strstr(at, wanted)) != NULL) {
        at++;
        count++;
    }
    free(wanted);
    free(all);
    return count;
}

/* Decodes a JSON string. `at` points behind the first quote. */
static char *parse_json_string(const char *at)
{
    char *text = malloc(strlen(at) + 1), *to = text;
    if (text == NULL)
        fatal("out of memory");
    while (*at != '"' && *at != '\0') {
        if (*at == '\\') {
            at++;
            if (*at == 'u')
                fatal("unexpected escape in the request log");
            *to++ = *at == 'n' ? '\n' : *at == 'r' ? '\r' : *at == 't' ? '\t' : *at;
            at++;
        } else {
            *to++ = *at++;
        }
    }
    *to = '\0';
    return text;
}

/* The keys are sorted, so "body" is the first key of each request. */
static char *find_last_request(char *all)
{
    char *at = all, *last = NULL;
    while ((at = strstr(at, "{\"body\":")) != NULL)
        last = at++;
    return last;
}

char *last_header(const char *call, const char *name)
{
    char *all = get_request_log(call), *last = find_last_request(all), *quoted = format("[\"%s\",\"", name),
         *value = NULL;
    char *at = last == NULL ? NULL : strcasestr(last, quoted);
    if (at != NULL)
        value = parse_json_string(at + strlen(quoted));
    free(quoted);
    free(all);
    return value;
}

char *last_body(const char *call)
{
    static const char key[] = "{\"body\":\"";
    char *all = get_request_log(call), *last = find_last_request(all), *value;
    if (last == NULL || strncmp(last, key, strlen(key)) != 0)
        value = format("%s", "");
    else
        value = parse_json_string(last + strlen(key));
    free(all);
    return value;
}

int is_signed_with(const char *call, const char *access_key)
{
    char *header = last_header(call, "Authorization"), *wanted = format(" Access=%s,", access_key);
    int result = header != NULL && strstr(header, wanted) != NULL;
    free(wanted);
    free(header);
    return result;
}
