/*
 * The stack that calls need. Each call runs on a thread with a painted stack. Prints
 * the usage of each kind of call, including that of the thread itself. Fails if it
 * exceeds the limit in the header. See checks.h for how to run the checks.
 *
 * The fixtures "tls12" and "tls13" are servers with an RSA certificate under an
 * intermediate authority of "ca_rsa". They respond to every request with a report.
 */

#define _GNU_SOURCE /* for MAP_ANONYMOUS, which POSIX.1-2008 lacks */

#include "calls.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The limit in the header. */
#define PROMISED (64 * 1024)

/* A larger stack, so that a higher usage can be measured. */
#define PAINTED (512 * 1024)
#define PAINT 0xa5

static dbss_context *ctx;
static const char *instance, *report;
static char *directory;

/* The measured call and its expected status. */
static struct {
    dbss_status expected;
    dbss_status (*call)(void);
    dbss_status status;
} measured;

static void *make_measured_call(void *unused)
{
    (void)unused;
    measured.status = measured.call();
    return NULL;
}

static void run_on_stack(void *stack, size_t size)
{
    pthread_attr_t attributes;
    pthread_t thread;

    if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstack(&attributes, stack, size) != 0
        || pthread_create(&thread, &attributes, make_measured_call, NULL) != 0)
        fatal("cannot create a thread with a stack of %lu bytes", (unsigned long)size);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    if (measured.status != measured.expected)
        fail_check("got status %d, expected %d", (int)measured.status, (int)measured.expected);
}

/* The number of bytes that the call used. */
static size_t measure_stack(void)
{
    unsigned char *stack = mmap(NULL, PAINTED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t untouched = 0;

    if (stack == MAP_FAILED)
        fatal("out of memory");
    memset(stack, PAINT, PAINTED);
    run_on_stack(stack, PAINTED);
    while (untouched < PAINTED && stack[untouched] == PAINT)
        untouched++;
    munmap(stack, PAINTED);
    return PAINTED - untouched;
}

static void measure(const char *kind, dbss_status expected, dbss_status (*call)(void))
{
    size_t used;
    measured.expected = expected;
    measured.call = call;
    used = measure_stack();
    printf("stack %-36s %6lu\n", kind, (unsigned long)used);
    if (used > PROMISED)
        fail_check("%s: %lu bytes of stack", kind, (unsigned long)used);
    add_failure_context("%s", kind);
}

/* ---------------------------------------------------------------------------
 * The calls
 * ------------------------------------------------------------------------ */

static dbss_status download_to_memory(void)
{
    dbss_buffer buffer;
    dbss_status status = dbss_report_download(ctx, fixture("project"), instance, report, NULL, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status download_without_project(void)
{
    dbss_buffer buffer;
    dbss_status status = dbss_report_download(ctx, NULL, instance, report, NULL, &buffer);
    dbss_buffer_free(&buffer);
    return status;
}

static dbss_status download_to_directory(void)
{
    return dbss_report_download_to_directory(ctx, fixture("project"), instance, report, NULL, directory,
                                             DBSS_FILE_REPLACE, NULL);
}

static int32_t ignore_bytes(void *user_data, const uint8_t *data, size_t len)
{
    (void)user_data;
    (void)data;
    (void)len;
    return 0;
}

static dbss_status download_to_callback(void)
{
    return dbss_report_download_to_callback(ctx, fixture("project"), instance, report, NULL, ignore_bytes, NULL, NULL);
}

static dbss_status read_stream(void)
{
    static char bytes[4096];
    dbss_report_stream *stream;
    size_t n = 1;
    dbss_status status = dbss_report_open(ctx, fixture("project"), instance, report, NULL, NULL, &stream);
    while (status == DBSS_OK && n > 0)
        status = dbss_report_stream_read(stream, bytes, sizeof bytes, &n);
    dbss_report_stream_free(stream);
    return status;
}

static dbss_status list(void)
{
    dbss_cursor *cursor;
    dbss_page *page = NULL;
    dbss_status status = dbss_reports_list(ctx, fixture("project"), instance, NULL, 0, &cursor);
    do {
        dbss_page_free(page);
        page = NULL;
        if (status == DBSS_OK)
            status = dbss_cursor_next(cursor, NULL, &page);
    } while (page != NULL);
    dbss_cursor_free(cursor);
    return status;
}

static char template_id[65];

static dbss_status schedule(void)
{
    dbss_schedule_changes *changes;
    dbss_page *page = NULL;
    dbss_status status = dbss_schedule_show(ctx, fixture("project"), instance, template_id, NULL, &page);
    dbss_page_free(page);
    if (status == DBSS_OK && (status = dbss_schedule_changes_new(&changes)) == DBSS_OK) {
        status = dbss_schedule_changes_set(changes, "status", "ON");
        if (status == DBSS_OK)
            status = dbss_schedule_update(ctx, fixture("project"), instance, template_id, changes, NULL);
        dbss_schedule_changes_free(changes);
    }
    return status;
}

static dbss_status generate(void)
{
    dbss_cursor *cursor;
    dbss_page *page = NULL;
    char id[DBSS_ID_SIZE];
    dbss_report_spec *spec;
    dbss_status status = dbss_templates_list(ctx, fixture("project"), instance, &cursor);
    if (status == DBSS_OK && (status = dbss_cursor_next(cursor, NULL, &page)) == DBSS_OK)
        strncpy(template_id, dbss_page_field(page, 0, "id"), sizeof template_id - 1);
    dbss_page_free(page);
    dbss_cursor_free(cursor);
    if (status == DBSS_OK && (status = dbss_report_spec_new(&spec)) == DBSS_OK) {
        if (dbss_report_spec_set(spec, "template_id", template_id) != DBSS_OK
            || dbss_report_spec_set(spec, "start_time", "2026-11-23 00:00:00") != DBSS_OK
            || dbss_report_spec_set(spec, "end_time", "2026-11-24 00:00:00") != DBSS_OK)
            fatal("cannot create a report spec");
        status = dbss_report_generate(ctx, fixture("project"), instance, spec, NULL, id);
        dbss_report_spec_free(spec);
    }
    if (status == DBSS_OK)
        status = dbss_report_wait(ctx, fixture("project"), instance, id, NULL);
    return status == DBSS_OK ? dbss_report_delete(ctx, fixture("project"), instance, id, NULL) : status;
}

static dbss_status mirror(void)
{
    dbss_mirror_options *options;
    dbss_mirror_result *result = NULL;
    dbss_status status = dbss_mirror_options_new(&options);
    if (status == DBSS_OK)
        status = dbss_mirror_options_set(options, "instance", instance);
    if (status == DBSS_OK)
        status = dbss_reports_mirror(ctx, fixture("project"), directory, options, NULL, &result);
    dbss_mirror_result_free(result);
    dbss_mirror_options_free(options);
    return status;
}

static dbss_status find_and_check_credentials(void)
{
    dbss_credentials *credentials = NULL;
    dbss_status status = dbss_context_find_credentials(ctx, NULL, &credentials);
    dbss_credentials_free(credentials);
    return status == DBSS_OK ? dbss_context_check(ctx, NULL, NULL) : status;
}

static dbss_config *config;

static dbss_status create_context(void)
{
    return dbss_context_new(config, &ctx);
}

/* ---------------------------------------------------------------------------
 * The checks: new contexts, then used ones
 * ------------------------------------------------------------------------ */

static void ignore_record(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    (void)dbss_log_record_message(record);
}

/* Prepares the configuration of the next context. */
static void set_up(const char *endpoint)
{
    instance = fixture("instance");
    report = fixture("pdf");
    config = new_config(endpoint, fixture("token"));
    if (dbss_config_set_log(config, ignore_record, NULL, NULL) != DBSS_OK)
        fatal("cannot set the log callback");
}

static void create_measured_context(const char *kind)
{
    char *whole = format("context, %s", kind);
    measure(whole, DBSS_OK, create_context);
    free(whole);
    dbss_config_free(config);
}

static void tear_down(void)
{
    dbss_context_free(ctx);
}

static void measure_every_call(const char *scheme)
{
    char *own;
    set_up(fixture(scheme));
    create_measured_context(scheme);
    directory = new_directory();
    measure("download to memory, first", DBSS_OK, download_to_memory);
    measure("download to memory", DBSS_OK, download_to_memory);
    measure("download to a directory", DBSS_OK, download_to_directory);
    measure("download to a function", DBSS_OK, download_to_callback);
    measure("stream", DBSS_OK, read_stream);
    measure("list", DBSS_OK, list);
    instance = own = add_instance();
    post_control("/reports", "{\"instance\": \"%s\", \"format\": \"pdf\", \"count\": 8}", instance);
    post_control("/generation", "{\"percent_per_list\": 100}");
    measure("generate, wait, delete", DBSS_OK, generate);
    measure("schedule", DBSS_OK, schedule);
    remove_directory(directory);
    directory = new_directory();
    measure("mirror", DBSS_OK, mirror);
    free(own);
    tear_down();
}

static void stack_of_calls_is_bounded(void)
{
    measure_every_call("http");
}

static void stack_of_calls_is_bounded_tls(void)
{
    measure_every_call("https");
}

static void stack_of_handshakes_is_bounded(void)
{
    static const char *const servers[] = {"tls12", "tls13"};
    size_t i;
    for (i = 0; i < 2; i++) {
        if (find_fixture(servers[i]) == NULL) {
            skip_check("the TLS servers are missing");
            return;
        }
        set_up(fixture(servers[i]));
        set_option(config, "ca_file", fixture("ca_rsa"));
        create_measured_context(servers[i]);
        measure("download, RSA", DBSS_OK, download_to_memory);
        measure("download, RSA, resumed", DBSS_OK, download_to_memory);
        tear_down();
        set_up(fixture(servers[i]));
        create_measured_context(servers[i]);
        measure("certificate refused", DBSS_ERR_CERTIFICATE, download_to_memory);
        tear_down();
    }
}

/* Nested error objects, escaped for a JSON string. The caller frees it. */
static char *nest_errors(int depth)
{
    static const char open[] = "{\\\"error\\\":", close[] = ",\\\"details\\\":[[[{}]]]}";
    char *text = malloc((size_t)depth * (sizeof open + sizeof close) + 2), *at = text;
    int i;
    if (text == NULL)
        fatal("out of memory");
    for (i = 0; i < depth; i++)
        at += sprintf(at, "%s", open);
    *at++ = '7';
    for (i = 0; i < depth; i++)
        at += sprintf(at, "%s", close);
    return text;
}

static void stack_of_error_bodies_is_bounded(void)
{
    static const int depths[] = {100, 2000};
    size_t i;
    set_up(fixture("http"));
    create_measured_context("errors");
    for (i = 0; i < 2; i++) {
        char *deep = nest_errors(depths[i]), *body;
        report = add_report(6000);
        post_control("/faults", "{\"report\": \"%s\", \"status\": 404, \"body\": \"%s\"}", report, deep);
        body = format("an error body %d deep", depths[i]);
        measure(body, DBSS_ERR_NOT_FOUND, download_to_memory);
        free(body);
        post_control("/faults",
                     "{\"report\": \"@reports.list\", \"times\": 1, \"body\": \"{\\\"items\\\":[{\\\"report\\\":"
                     "{\\\"id\\\":\\\"a\\\",\\\"x\\\":%s}}],\\\"total\\\":1}\"}",
                     deep);
        body = format("a list %d deep", depths[i]);
        measure(body, DBSS_OK, list);
        free(body);
        free(deep);
    }
    report = add_report(6000);
    post_fault(report, "\"endless_header\": true");
    measure("a header without end", DBSS_ERR_PROTOCOL, download_to_memory);
    tear_down();
    set_up("http://localhost:1");
    create_measured_context("errors");
    measure("connection refused, after a look-up", DBSS_ERR_CONNECT, download_to_memory);
    tear_down();
}

static void stack_of_proxies_and_redirects_is_bounded(void)
{
    char *location = format("%s/v1/elsewhere", fixture("https"));
    set_up(fixture("http"));
    set_option(config, "proxy", fixture("proxy"));
    set_option(config, "allow_plaintext", "true");
    create_measured_context("proxy");
    measure("download through a proxy", DBSS_OK, download_to_memory);
    tear_down();
    set_up(fixture("https"));
    set_option(config, "proxy", fixture("proxy"));
    create_measured_context("proxy");
    measure("download through a proxy, TLS", DBSS_OK, download_to_memory);
    tear_down();
    set_up(fixture("http"));
    set_option(config, "follow_redirects", "true");
    create_measured_context("redirects");
    report = add_report(6000);
    post_fault(report, "\"times\": 2, \"status\": 302, \"headers\": [[\"Location\", \"%s\"]]", location);
    measure("redirect to what is not there", DBSS_ERR_NOT_FOUND, download_to_memory);
    tear_down();
    free(location);
}

static void set_agency(const char *iam)
{
    set_option(config, "iam_endpoint", fixture(iam));
    set_option(config, "agency_name", fixture("agency"));
    set_option(config, "agency_domain", fixture("agency_domain"));
}

static void provide_passcode(void *unused, dbss_token_request *request)
{
    (void)unused;
    if (dbss_token_request_set(request, "123456", -1) != DBSS_OK)
        fatal("cannot give the passcode");
    dbss_token_request_free(request);
}

static void stack_of_credentials_is_bounded(void)
{
    set_up(fixture("http"));
    set_option(config, "region", fixture("region"));
    set_option(config, "iam_endpoint", fixture("iam"));
    if (dbss_config_set_iam_user(config, fixture("user"), fixture("password"), fixture("domain")) != DBSS_OK)
        fatal("cannot set the user");
    create_measured_context("login");
    measure("login and download", DBSS_OK, download_without_project);
    measure("credentials and check", DBSS_OK, find_and_check_credentials);
    tear_down();
    set_up(fixture("http"));
    set_option(config, "region", fixture("region"));
    set_option(config, "iam_endpoint", fixture("iam"));
    if (dbss_config_set_access_key(config, fixture("access_key"), fixture("secret_key"), NULL) != DBSS_OK)
        fatal("cannot set the access key");
    create_measured_context("access key");
    measure("project looked up, download", DBSS_OK, download_without_project);
    tear_down();
    if (dbss_config_new(&config) != DBSS_OK)
        fatal("cannot create a configuration");
    set_option(config, "endpoint", fixture("http"));
    set_option(config, "credentials", "metadata");
    set_option(config, "metadata_endpoint", fixture("metadata"));
    post_control("/metadata", "{}");
    create_measured_context("metadata");
    measure("metadata and download", DBSS_OK, download_to_memory);
    tear_down();

    set_up(fixture("http"));
    if (dbss_config_set_access_key(config, fixture("access_key"), fixture("secret_key"), NULL) != DBSS_OK)
        fatal("cannot set the access key");
    set_agency("iam");
    create_measured_context("agency with an access key");
    measure("agency and download", DBSS_OK, download_to_memory);
    tear_down();

    /* The deepest: a passcode for a login for an agency for a download, over TLS. */
    set_up(fixture("https"));
    set_option(config, "region", fixture("region"));
    if (dbss_config_set_iam_user(config, fixture("user"), fixture("password"), fixture("domain")) != DBSS_OK
        || dbss_config_set_passcode_provider(config, provide_passcode, NULL, NULL) != DBSS_OK)
        fatal("cannot configure the login");
    set_option(config, "iam_user_id", fixture("user_id"));
    set_agency("iam_https");
    create_measured_context("agency with a login");
    post_control("/iam", "{\"passcodes\": [\"123456\"]}");
    measure("login, agency and download", DBSS_OK, download_to_memory);
    post_control("/iam", "{}");
    tear_down();
}

static const struct check checks[] = {
    {"stack_of_calls_is_bounded", stack_of_calls_is_bounded, LOAD},
    {"stack_of_calls_is_bounded_tls", stack_of_calls_is_bounded_tls, LOAD},
    {"stack_of_handshakes_is_bounded", stack_of_handshakes_is_bounded, LOAD},
    {"stack_of_error_bodies_is_bounded", stack_of_error_bodies_is_bounded, LOAD},
    {"stack_of_proxies_and_redirects_is_bounded", stack_of_proxies_and_redirects_is_bounded, LOAD},
    {"stack_of_credentials_is_bounded", stack_of_credentials_is_bounded, LOAD},
};

int main(int argc, char **argv)
{
    return run_checks(argc, argv, checks, sizeof checks / sizeof *checks);
}
