/*
 * Has the service generate an audit report, waits for it, and saves it.
 *
 *     DBSS_REGION=cn-north-4 generate INSTANCE TEMPLATE START-TIME END-TIME FILE
 *
 * A time is such as "2026-11-23 00:00:00". The credentials are found as the official SDKs
 * find them; DBSS_TOKEN may hold a token instead, and DBSS_ENDPOINT the URL of the
 * service instead of the region.
 */

#include <dbss.h>
#include <stdio.h>
#include <stdlib.h>

static int32_t show_progress(void *user_data, const dbss_operation *operation)
{
    int32_t *shown = user_data, percent = dbss_operation_percent(operation);
    if (percent > *shown)
        fprintf(stderr, "generated %d%%\n", (int)(*shown = percent));
    return 0; /* anything else would cancel the call */
}

/* Credentials as the official SDKs find them, and what the environment says instead. */
static dbss_status configure(dbss_config *config)
{
    static const char *const variables[][2] = {
        {"token", "DBSS_TOKEN"},           {"region", "DBSS_REGION"},   {"endpoint", "DBSS_ENDPOINT"},
        {"project_id", "DBSS_PROJECT_ID"}, {"ca_file", "DBSS_CA_FILE"},
    };
    dbss_status status = dbss_config_set(config, "credentials", "default");
    for (size_t i = 0; status == DBSS_OK && i < sizeof variables / sizeof *variables; i++) {
        const char *value = getenv(variables[i][1]);
        if (value != NULL && *value != '\0')
            status = dbss_config_set(config, variables[i][0], value);
    }
    return status;
}

int main(int argc, char **argv)
{
    dbss_config *config = NULL;
    dbss_context *ctx = NULL;
    dbss_operation *operation = NULL;
    dbss_report_spec *spec = NULL;
    char id[DBSS_ID_SIZE] = "";
    int32_t shown = -1;
    int ok;

    if (argc != 6) {
        fputs("usage: generate INSTANCE TEMPLATE START-TIME END-TIME FILE\n", stderr);
        return 2;
    }
    ok = dbss_config_new(&config) == DBSS_OK && configure(config) == DBSS_OK
         && dbss_context_new(config, &ctx) == DBSS_OK && dbss_operation_new(&operation) == DBSS_OK
         && dbss_operation_set_progress(operation, show_progress, &shown, NULL) == DBSS_OK
         && dbss_report_spec_new(&spec) == DBSS_OK && dbss_report_spec_set(spec, "template_id", argv[2]) == DBSS_OK
         && dbss_report_spec_set(spec, "start_time", argv[3]) == DBSS_OK
         && dbss_report_spec_set(spec, "end_time", argv[4]) == DBSS_OK
         /* NULL: the project of the context. */
         && dbss_report_generate(ctx, NULL, argv[1], spec, operation, id) == DBSS_OK
         && dbss_report_download_to_file(ctx, NULL, argv[1], id, NULL, argv[5], 0, operation) == DBSS_OK;
    if (ok)
        printf("saved %s as %s\n", id, argv[5]);
    else /* with the id of the report, if it was generated but not saved */
        fprintf(stderr, "%s%s%s\n", id, *id ? ": " : "", dbss_error_message(dbss_last_error()));

    dbss_report_spec_free(spec); /* each _free takes NULL */
    dbss_operation_free(operation);
    dbss_context_free(ctx);
    dbss_config_free(config);
    return ok ? 0 : 1;
}
