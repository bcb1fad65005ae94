/* The stack that calls need. Each call runs on a thread with a painted stack. Prints
 * the usage of each kind of call, including that of the thread itself. Fails if it
 * exceeds the limit in the header.
 *
 * The fixtures "tls12" and "tls13" are servers with an RSA certificate under an
 * intermediate authority of "ca_rsa". They respond to every request with a report. */

#include "calls.h"

#include <sys/mman.h>

/* The limit in the header. */
#define PROMISED (64 * 1024)

/* A larger stack, so that a higher usage can be measured. */
#define PAINTED (512 * 1024)
#define PAINT 0xa5

/* The arguments of the next calls. */
static struct work work;
static dbss_config *config;

static work_fn *measured;
static dbss_status measured_status;

static void *make_measured_call(void *unused)
{
    measured_status = measured(&work);
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

static void measure(const char *kind, dbss_status expected, work_fn *call)
{
    size_t used;
    measured = call;
    used = measure_stack();
    /* A metadata service must respond within 1.5 seconds, also on a busy machine. */
    for (int i = 0; i < 10 && measured_status == DBSS_ERR_STALLED; i++)
        used = measure_stack();
    printf("stack %-36s %6lu\n", kind, (unsigned long)used);
    if (used > PROMISED)
        fail_check("%lu bytes of stack", (unsigned long)used);
    if (measured_status != expected)
        fail_check("got status %d, expected %d", (int)measured_status, (int)expected);
    add_failure_context("%s", kind);
}

static dbss_status create_context(const struct work *unused)
{
    return dbss_context_new(config, &work.ctx);
}

/* A configuration with these options, which end with NULL. */
static void configure(const char *endpoint, ...)
{
    va_list options;
    const char *key;
    config = new_config(endpoint, NULL);
    require_ok(dbss_config_set_log(config, ignore_record, NULL, NULL));
    va_start(options, endpoint);
    while ((key = va_arg(options, const char *)) != NULL)
        set_option(config, key, va_arg(options, const char *));
    va_end(options);
}

/* Makes a context of that configuration. */
static void begin(const char *kind)
{
    work = new_work(NULL, NULL);
    measure(text("context, %s", kind), DBSS_OK, create_context);
    keep_context(work.ctx);
    dbss_config_free(config);
}

#define TOKEN "token", fixture("token")

NAMED_CHECKS(stack_of_calls_is_bounded, LOAD, LOAD)
{
    configure(fixture(scheme), TOKEN, NULL);
    begin(scheme);
    work.directory = new_directory();
    work.template_id = fixture("template");
    measure("download to memory, first", DBSS_OK, download);
    measure("download to memory", DBSS_OK, download);
    measure("download to a directory", DBSS_OK, download_to_directory);
    measure("download to a function", DBSS_OK, download_to_callback);
    measure("stream", DBSS_OK, download_to_stream);
    measure("list", DBSS_OK, list_reports);
    work.instance = add_instance(8, 6000);
    post_control("/generation", "{\"percent_per_list\": 100}");
    measure("generate, wait, delete", DBSS_OK, generate);
    measure("schedule", DBSS_OK, show_and_change_schedule);
    work.directory = new_directory();
    measure("mirror", DBSS_OK, mirror);
}

NAMED_CHECK(stack_of_handshakes_is_bounded, LOAD)
{
    static const char *const servers[] = {"tls12", "tls13"};
    for (int i = 0; i < 2; i++) {
        if (find_fixture(servers[i]) == NULL) {
            skip_check("the TLS servers are missing");
            return;
        }
        configure(fixture(servers[i]), TOKEN, "ca_file", fixture("ca_rsa"), NULL);
        begin(servers[i]);
        measure("download, RSA", DBSS_OK, download);
        measure("download, RSA, resumed", DBSS_OK, download);
        configure(fixture(servers[i]), TOKEN, NULL);
        begin(servers[i]);
        measure("certificate refused", DBSS_ERR_CERTIFICATE, download);
    }
}

/* Nested error objects, escaped for a JSON string. */
static char *nest_errors(int depth)
{
    static const char open[] = "{\\\"error\\\":", close[] = ",\\\"details\\\":[[[{}]]]}";
    char *nested = keep(malloc((size_t)depth * (sizeof open + sizeof close) + 2), free), *at = nested;
    for (int i = 0; i < depth; i++)
        at += sprintf(at, "%s", open);
    *at++ = '7';
    for (int i = 0; i < depth; i++)
        at += sprintf(at, "%s", close);
    return nested;
}

NAMED_CHECK(stack_of_error_bodies_is_bounded, LOAD)
{
    static const int depths[] = {100, 2000};
    configure(fixture("http"), TOKEN, NULL);
    begin("errors");
    for (int i = 0; i < 2; i++) {
        char *deep = nest_errors(depths[i]);
        work.id = add_report(6000);
        post_fault(work.id, "\"status\": 404, \"body\": \"%s\"", deep);
        measure(text("an error body %d deep", depths[i]), DBSS_ERR_NOT_FOUND, download);
        post_fault("@reports.list",
                   "\"times\": 1, \"body\": \"{\\\"items\\\":[{\\\"report\\\":"
                   "{\\\"id\\\":\\\"a\\\",\\\"x\\\":%s}}],\\\"total\\\":1}\"",
                   deep);
        measure(text("a list %d deep", depths[i]), DBSS_OK, list_reports);
    }
    work.id = add_report(6000);
    post_fault(work.id, "\"endless_header\": true");
    measure("a header without end", DBSS_ERR_PROTOCOL, download);
    configure("http://localhost:1", TOKEN, NULL);
    begin("errors");
    measure("connection refused, after a look-up", DBSS_ERR_CONNECT, download);
}

NAMED_CHECK(stack_of_proxies_and_redirects_is_bounded, LOAD)
{
    configure(fixture("http"), TOKEN, "proxy", fixture("proxy"), "allow_plaintext", "true", NULL);
    begin("proxy");
    measure("download through a proxy", DBSS_OK, download);
    configure(fixture("https"), TOKEN, "proxy", fixture("proxy"), NULL);
    begin("proxy");
    measure("download through a proxy, TLS", DBSS_OK, download);
    configure(fixture("http"), TOKEN, "follow_redirects", "true", NULL);
    begin("redirects");
    work.id = add_report(6000);
    post_fault(work.id, "\"times\": 2, \"status\": 302, \"headers\": [[\"Location\", \"%s/v1/elsewhere\"]]",
               fixture("https"));
    measure("redirect to what is not there", DBSS_ERR_NOT_FOUND, download);
}

static void give_passcode(void *unused, dbss_token_request *request)
{
    give_token(request, "123456");
}

#define LOGIN                                                                                                          \
    "region", fixture("region"), "iam_user", fixture("user"), "iam_password", fixture("password"), "iam_domain",       \
        fixture("domain")
#define KEY "access_key", fixture("access_key"), "secret_key", fixture("secret_key")
#define AGENCY "agency_name", fixture("agency"), "agency_domain", fixture("agency_domain")

NAMED_CHECK(stack_of_credentials_is_bounded, LOAD)
{
    configure(fixture("http"), LOGIN, "iam_endpoint", fixture("iam"), NULL);
    begin("login");
    work.project = NULL;
    measure("login and download", DBSS_OK, download);
    measure("credentials", DBSS_OK, find_credentials);
    measure("check", DBSS_OK, check_credentials);
    configure(fixture("http"), KEY, "region", fixture("region"), "iam_endpoint", fixture("iam"), NULL);
    begin("access key");
    work.project = NULL;
    measure("project looked up, download", DBSS_OK, download);
    post_control("/metadata", "{}");
    configure(fixture("http"), "credentials", "metadata", "metadata_endpoint", fixture("metadata"), NULL);
    begin("metadata");
    measure("metadata and download", DBSS_OK, download);
    configure(fixture("http"), KEY, AGENCY, "iam_endpoint", fixture("iam"), NULL);
    begin("agency with an access key");
    measure("agency and download", DBSS_OK, download);

    /* The deepest: a passcode for a login for an agency for a download, over TLS. */
    configure(fixture("https"), LOGIN, AGENCY, "iam_user_id", fixture("user_id"), "iam_endpoint", fixture("iam_https"),
              NULL);
    require_ok(dbss_config_set_passcode_provider(config, give_passcode, NULL, NULL));
    begin("agency with a login");
    post_control("/iam", "{\"passcodes\": [\"123456\"]}");
    measure("login, agency and download", DBSS_OK, download);
    post_control("/iam", "{}");
}
