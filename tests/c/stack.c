/*
 * How much stack the calls need: each is made on a thread whose stack was
 * painted before. Prints how much each kind used, what the thread itself needs
 * there included, and fails where that is more than the header promises. See
 * checks.h for how to run them.
 *
 * The facts "tls12" and "tls13" name servers of their own, with an RSA
 * certificate under an intermediate authority of "ca_rsa"; every request is
 * answered with a report.
 */

#define _GNU_SOURCE /* for MAP_ANONYMOUS, which POSIX.1-2008 lacks */

#include "calls.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What the header promises. */
#define PROMISED (64 * 1024)

/* Room in which more than that can be measured. */
#define PAINTED (512 * 1024)
#define PAINT 0xa5

static dbss_context *ctx;
static const char *instance, *report;
static char *directory;

/* The call that is measured: what is expected of it, and itself. */
static struct {
    dbss_status expected;
    dbss_status (*call)(void);
    dbss_status status;
} measured;

static void *make_measured(void *unused)
{
    (void)unused;
    measured.status = measured.call();
    return NULL;
}

static void on_stack(void *stack, size_t size)
{
    pthread_attr_t attributes;
    pthread_t thread;

    if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstack(&attributes, stack, size) != 0
        || pthread_create(&thread, &attributes, make_measured, NULL) != 0)
        fatal("no thread with a stack of %lu bytes", (unsigned long)size);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    if (measured.status != measured.expected)
        failed("status %d and not %d", (int)measured.status, (int)measured.expected);
}

/* How many bytes the call used. */
static size_t use_of_stack(void)
{
    unsigned char *room = mmap(NULL, PAINTED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t untouched = 0;

    if (room == MAP_FAILED)
        fatal("no memory");
    memset(room, PAINT, PAINTED);
    on_stack(room, PAINTED);
    while (untouched < PAINTED && room[untouched] == PAINT)
        untouched++;
    munmap(room, PAINTED);
    return PAINTED - untouched;
}

static void measure(const char *kind, dbss_status expected, dbss_status (*call)(void))
{
    size_t used;
    measured.expected = expected;
    measured.call = call;
    used = use_of_stack();
    printf("stack %-36s %6lu\n", kind, (unsigned long)used);
    if (used > PROMISED)
        failed("%s: %lu bytes of stack", kind, (unsigned long)used);
    blame("%s", kind);
}

/* ---------------------------------------------------------------------------
 * The calls
 * ------------------------------------------------------------------------ */

static dbss_status to_memory(void)
{
    dbss_buffer buffer;
    dbss_status status = dbss_report_download(ctx, fact("project"), instance, report, NULL, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status nowhere(void)
{
    dbss_buffer buffer;
    dbss_status status = dbss_report_download(ctx, NULL, instance, report, NULL, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status to_directory(void)
{
    return dbss_report_download_to_directory(ctx, fact("project"), instance, report, NULL, directory, DBSS_FILE_REPLACE,
                                             NULL);
}

static int32_t take(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    return 0;
}

static dbss_status to_callback(void)
{
    return dbss_report_download_to_callback(ctx, fact("project"), instance, report, NULL, take, NULL, NULL);
}

static dbss_status to_stream(void)
{
    static char bytes[4096];
    dbss_report_stream *stream;
    size_t n = 1;
    dbss_status status = dbss_report_open(ctx, fact("project"), instance, report, NULL, NULL, &stream);
    while (status == DBSS_OK && n > 0)
        status = dbss_report_stream_read(stream, bytes, sizeof bytes, &n);
    dbss_report_stream_free(stream);
    return status;
}

static dbss_status list(void)
{
    dbss_cursor *cursor;
    dbss_page *page = NULL;
    dbss_status status = dbss_reports_list(ctx, fact("project"), instance, NULL, 0, &cursor);
    do {
        dbss_page_free(page);
        page = NULL;
        if (status == DBSS_OK)
            status = dbss_cursor_next(cursor, NULL, &page);
    } while (page != NULL);
    dbss_cursor_free(cursor);
    return status;
}

static dbss_status generate(void)
{
    static char template_id[65];
    dbss_cursor *cursor;
    dbss_page *page = NULL;
    char id[DBSS_ID_SIZE];
    dbss_report_spec *spec;
    dbss_status status = dbss_templates_list(ctx, fact("project"), instance, &cursor);
    if (status == DBSS_OK && (status = dbss_cursor_next(cursor, NULL, &page)) == DBSS_OK)
        strncpy(template_id, dbss_page_field(page, 0, "id"), sizeof template_id - 1);
    dbss_page_free(page);
    dbss_cursor_free(cursor);
    if (status == DBSS_OK && (status = dbss_report_spec_new(&spec)) == DBSS_OK) {
        if (dbss_report_spec_set(spec, "template_id", template_id) != DBSS_OK
            || dbss_report_spec_set(spec, "start_time", "2026-11-23 00:00:00") != DBSS_OK
            || dbss_report_spec_set(spec, "end_time", "2026-11-24 00:00:00") != DBSS_OK)
            fatal("no spec");
        status = dbss_report_generate(ctx, fact("project"), instance, spec, NULL, id);
        dbss_report_spec_free(spec);
    }
    if (status == DBSS_OK)
        status = dbss_report_wait(ctx, fact("project"), instance, id, NULL);
    return status == DBSS_OK ? dbss_report_delete(ctx, fact("project"), instance, id, NULL) : status;
}

static dbss_status mirror(void)
{
    dbss_mirror_options *options;
    dbss_mirror_result *result = NULL;
    dbss_status status = dbss_mirror_options_new(&options);
    if (status == DBSS_OK)
        status = dbss_mirror_options_set(options, "instance", instance);
    if (status == DBSS_OK)
        status = dbss_reports_mirror(ctx, fact("project"), directory, options, NULL, &result);
    dbss_mirror_result_free(result);
    dbss_mirror_options_free(options);
    return status;
}

static dbss_status find(void)
{
    dbss_credentials *credentials = NULL;
    dbss_status status = dbss_context_find_credentials(ctx, NULL, &credentials);
    dbss_credentials_free(credentials);
    return status == DBSS_OK ? dbss_context_check(ctx, NULL, NULL) : status;
}

static dbss_config *config;

static dbss_status new_one(void)
{
    return dbss_context_new(config, &ctx);
}

/* ---------------------------------------------------------------------------
 * The checks: contexts that have made no call, then one that has
 * ------------------------------------------------------------------------ */

static void say_nothing(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    (void)dbss_log_record_message(record);
}

/* What is measured next belongs to a new context. */
static void begin(const char *endpoint)
{
    instance = fact("instance");
    report = fact("pdf");
    config = new_config(endpoint, fact("token"));
    if (dbss_config_set_log(config, say_nothing, NULL, NULL) != DBSS_OK)
        fatal("no log");
}

static void use(const char *kind)
{
    char *whole = format("context, %s", kind);
    measure(whole, DBSS_OK, new_one);
    free(whole);
    dbss_config_free(config);
}

static void end(void)
{
    dbss_context_free(ctx);
}

static char *add_instance(void)
{
    char *id = format("instance-%s", fresh_id());
    char *body = format("{\"id\": \"%s\", \"name\": \"for a check\"}", id);
    free(control("POST", "/instances", body));
    free(body);
    body = format("{\"instance\": \"%s\", \"format\": \"pdf\", \"count\": 8}", id);
    free(control("POST", "/reports", body));
    free(body);
    return id;
}

static void every_sink(const char *scheme)
{
    char *own;
    begin(fact(scheme));
    use(scheme);
    directory = new_directory();
    measure("download to memory, first", DBSS_OK, to_memory);
    measure("download to memory", DBSS_OK, to_memory);
    measure("download to a directory", DBSS_OK, to_directory);
    measure("download to a function", DBSS_OK, to_callback);
    measure("stream", DBSS_OK, to_stream);
    measure("list", DBSS_OK, list);
    instance = own = add_instance();
    free(control("POST", "/generation", "{\"percent_per_list\": 100}"));
    measure("generate, wait, delete", DBSS_OK, generate);
    remove_directory(directory);
    directory = new_directory();
    measure("mirror", DBSS_OK, mirror);
    free(own);
    end();
}

static void plain(void)
{
    every_sink("http");
}

static void tls(void)
{
    every_sink("https");
}

static void handshakes(void)
{
    static const char *const servers[] = {"tls12", "tls13"};
    size_t i;
    for (i = 0; i < 2; i++) {
        if (find_fact(servers[i]) == NULL) {
            skip("there is no server of its own");
            return;
        }
        begin(fact(servers[i]));
        set(config, "ca_file", fact("ca_rsa"));
        use(servers[i]);
        measure("download, RSA", DBSS_OK, to_memory);
        measure("download, RSA, resumed", DBSS_OK, to_memory);
        end();
        begin(fact(servers[i]));
        use(servers[i]);
        measure("certificate refused", DBSS_ERR_CERTIFICATE, to_memory);
        end();
    }
}

/* Error objects one inside another, for a string of JSON; to be freed. */
static char *nested(int depth)
{
    static const char open[] = "{\\\"error\\\":", close[] = ",\\\"details\\\":[[[{}]]]}";
    char *text = malloc((size_t)depth * (sizeof open + sizeof close) + 2), *at = text;
    int i;
    if (text == NULL)
        fatal("no memory");
    for (i = 0; i < depth; i++)
        at += sprintf(at, "%s", open);
    *at++ = '7';
    for (i = 0; i < depth; i++)
        at += sprintf(at, "%s", close);
    return text;
}

static void errors(void)
{
    static const int depths[] = {100, 2000};
    size_t i;
    begin(fact("http"));
    use("errors");
    for (i = 0; i < 2; i++) {
        char *deep = nested(depths[i]), *body;
        report = add_report(6000);
        body = format("{\"report\": \"%s\", \"status\": 404, \"body\": \"%s\"}", report, deep);
        free(control("POST", "/faults", body));
        free(body);
        body = format("an error body %d deep", depths[i]);
        measure(body, DBSS_ERR_NOT_FOUND, to_memory);
        free(body);
        body = format("{\"report\": \"@reports.list\", \"times\": 1, \"body\": \"{\\\"items\\\":[{\\\"report\\\":{\\\"id\\\":\\\"a\\\","
                      "\\\"x\\\":%s}}],\\\"total\\\":1}\"}", deep);
        free(control("POST", "/faults", body));
        free(body);
        body = format("a list %d deep", depths[i]);
        measure(body, DBSS_OK, list);
        free(body);
        free(deep);
    }
    report = add_report(6000);
    post_fault(report, "\"endless_header\": true");
    measure("a header without end", DBSS_ERR_PROTOCOL, to_memory);
    end();
    begin("http://localhost:1");
    use("errors");
    measure("connection refused, after a look-up", DBSS_ERR_CONNECT, to_memory);
    end();
}

static void ways(void)
{
    char *location = format("%s/v1/elsewhere", fact("https"));
    begin(fact("http"));
    set(config, "proxy", fact("proxy"));
    set(config, "allow_plaintext", "true");
    use("proxy");
    measure("download through a proxy", DBSS_OK, to_memory);
    end();
    begin(fact("https"));
    set(config, "proxy", fact("proxy"));
    use("proxy");
    measure("download through a proxy, TLS", DBSS_OK, to_memory);
    end();
    begin(fact("http"));
    set(config, "follow_redirects", "true");
    use("redirects");
    report = add_report(6000);
    post_fault(report, "\"times\": 2, \"status\": 302, \"headers\": [[\"Location\", \"%s\"]]", location);
    measure("redirect to what is not there", DBSS_ERR_NOT_FOUND, to_memory);
    end();
    free(location);
}

static void credentials(void)
{
    begin(fact("http"));
    set(config, "region", fact("region"));
    set(config, "iam_endpoint", fact("iam"));
    if (dbss_config_set_iam_user(config, fact("user"), fact("password"), fact("domain")) != DBSS_OK)
        fatal("no user");
    use("login");
    measure("login and download", DBSS_OK, nowhere);
    measure("credentials and check", DBSS_OK, find);
    end();
    begin(fact("http"));
    set(config, "region", fact("region"));
    set(config, "iam_endpoint", fact("iam"));
    if (dbss_config_set_access_key(config, fact("access_key"), fact("secret_key"), NULL) != DBSS_OK)
        fatal("no key");
    use("access key");
    measure("project looked up, download", DBSS_OK, nowhere);
    end();
    if (dbss_config_new(&config) != DBSS_OK)
        fatal("no configuration");
    set(config, "endpoint", fact("http"));
    set(config, "credentials", "metadata");
    set(config, "metadata_endpoint", fact("metadata"));
    free(control("POST", "/metadata", "{}"));
    use("metadata");
    measure("metadata and download", DBSS_OK, to_memory);
    end();
}

static const struct check checks[] = {
    {"plain", plain, LOAD},
    {"tls", tls, LOAD},
    {"handshakes", handshakes, LOAD},
    {"errors", errors, LOAD},
    {"ways", ways, LOAD},
    {"credentials", credentials, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
