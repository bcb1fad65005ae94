/*
 * Has the service make an audit report, waits for it, and saves it. The shortest
 * program that goes the whole way; dbss-download.c shows more of a download.
 *
 *     DBSS_REGION=cn-north-4 DBSS_TOKEN=... \
 *         dbss-generate INSTANCE TEMPLATE START_TIME END_TIME FILE
 *
 * In place of DBSS_TOKEN it takes credentials from where the official SDKs find
 * them, and in place of DBSS_REGION the URL of the service in DBSS_ENDPOINT.
 */

#include <dbss.h>
#include <stdio.h>
#include <stdlib.h>

static int32_t show(void *user_data, const dbss_operation *operation)
{
    int32_t *shown = user_data, percent = dbss_operation_percent(operation);
    if (percent > *shown)
        fprintf(stderr, "the report is at %d%%\n", (int)(*shown = percent));
    return 0; /* anything else would end the call */
}

/* Sets an option from the environment, where it is there. */
static dbss_status set(dbss_config *config, const char *key, const char *variable)
{
    const char *value = getenv(variable);
    return value != NULL && *value != '\0' ? dbss_config_set(config, key, value) : DBSS_OK;
}

int main(int argc, char **argv)
{
    dbss_config *config = NULL;
    dbss_context *ctx = NULL;
    dbss_operation *operation = NULL;
    dbss_report_spec *spec = NULL;
    char id[DBSS_ID_SIZE] = "";
    int32_t shown = -1;
    int saved =
        argc == 6 && dbss_config_new(&config) == DBSS_OK && dbss_operation_new(&operation) == DBSS_OK
        && set(config, "region", "DBSS_REGION") == DBSS_OK && set(config, "endpoint", "DBSS_ENDPOINT") == DBSS_OK
        && set(config, "project_id", "DBSS_PROJECT_ID") == DBSS_OK
        && dbss_config_set(config, "credentials", "default") == DBSS_OK && set(config, "token", "DBSS_TOKEN") == DBSS_OK
        && dbss_operation_set_progress(operation, show, &shown, NULL) == DBSS_OK
        && dbss_context_new(config, &ctx) == DBSS_OK && dbss_report_spec_new(&spec) == DBSS_OK
        && dbss_report_spec_set(spec, "template_id", argv[2]) == DBSS_OK
        && dbss_report_spec_set(spec, "start_time", argv[3]) == DBSS_OK
        && dbss_report_spec_set(spec, "end_time", argv[4]) == DBSS_OK
        && dbss_report_generate(ctx, NULL, argv[1], spec, operation, id) == DBSS_OK
        && dbss_report_download_to_file(ctx, NULL, argv[1], id, NULL, argv[5], 0, operation) == DBSS_OK;
    if (saved)
        printf("saved %s as %s\n", id, argv[5]);
    else if (argc != 6)
        fputs("usage: dbss-generate INSTANCE TEMPLATE START_TIME END_TIME FILE\n", stderr);
    else
        fprintf(stderr, "dbss-generate: %s%s%s\n", id, *id ? ": " : "", dbss_error_message(dbss_last_error()));
    dbss_report_spec_free(spec);
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    dbss_config_free(config);
    return !saved;
}
