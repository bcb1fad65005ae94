/* libdbss. */

#include "peer.h"

#include <dbss.h>

const char *const peer_name = "libdbss";

static struct setup settings;
static dbss_context *ctx;

static void check(dbss_status status)
{
    if (status != DBSS_OK)
        fatal("%s: %s", dbss_status_name(status), dbss_error_message(dbss_last_error()));
}

void peer_open(const struct setup *setup)
{
    dbss_config *config;
    settings = *setup;
    check(dbss_config_new(&config));
    check(dbss_config_set_endpoint(config, setup->endpoint));
    check(dbss_config_set_token(config, setup->token));
    if (setup->ca_file != NULL)
        check(dbss_config_set(config, "ca_file", setup->ca_file));
    check(dbss_config_set(config, "max_memory_bytes", "2147483648"));
    check(dbss_context_new(config, &ctx));
    dbss_config_free(config);
}

void peer_close(void)
{
    dbss_context_free(ctx);
}

void *peer_thread_open(void)
{
    return NULL;
}

void peer_thread_close(void *thread)
{
    (void)thread;
}

static int32_t take(void *user_data, const uint8_t *data, size_t len)
{
    (void)data;
    first_byte();
    *(size_t *)user_data += len;
    return 0;
}

size_t peer_download(void *thread, const char *report, enum sink sink, const char *path)
{
    dbss_buffer buffer = {0};
    dbss_operation *operation;
    size_t bytes = 0;
    (void)thread;
    switch (sink) {
    case TO_MEMORY:
        check(dbss_report_download(ctx, settings.project, settings.instance, report, "en-us", &buffer));
        bytes = buffer.len;
        dbss_buffer_free(&buffer);
        break;
    case TO_CALLBACK:
        check(dbss_report_download_to_callback(ctx, settings.project, settings.instance, report, "en-us", take, &bytes,
                                               NULL));
        break;
    case TO_FILE:
        check(dbss_operation_new(&operation));
        check(dbss_report_download_to_file(ctx, settings.project, settings.instance, report, "en-us", path,
                                           DBSS_FILE_REPLACE, operation));
        bytes = (size_t)dbss_operation_received(operation);
        dbss_operation_free(operation);
        break;
    }
    return bytes;
}
