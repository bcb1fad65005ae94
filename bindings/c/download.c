/*
 * Downloads an audit report into a directory, under the report's own name.
 *
 *     DBSS_REGION=cn-north-4 download INSTANCE REPORT DIRECTORY
 *
 * The credentials are found as the official SDKs find them; DBSS_TOKEN may hold a token
 * instead, and DBSS_ENDPOINT the URL of the service instead of the region. Ctrl-C cancels
 * the download. No partial file is ever left.
 */

#include <dbss.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static dbss_operation *operation;

static void cancel(int number)
{
    (void)number;
    dbss_operation_cancel(operation); /* safe in a signal handler */
}

static int32_t show_progress(void *user_data, const dbss_operation *of)
{
    (void)user_data;
    fprintf(stderr, "\r%lld of %lld bytes ", (long long)dbss_operation_received(of),
            (long long)dbss_operation_total(of)); /* -1: the size is not known */
    return 0;                                     /* anything else would cancel the call */
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

/* Prints the error of the last call on this thread, with the details from the service. */
static void print_error(void)
{
    const dbss_error *error = dbss_last_error();
    fprintf(stderr, "%s: %s\n", dbss_status_name(dbss_error_status(error)), dbss_error_message(error));
    for (size_t i = 0; i < dbss_error_detail_count(error); i++)
        fprintf(stderr, "  %s: %s\n", dbss_error_detail_code(error, i), dbss_error_detail_message(error, i));
}

int main(int argc, char **argv)
{
    dbss_config *config = NULL;
    dbss_context *ctx = NULL;
    int ok;

    if (argc != 4) {
        fputs("usage: download INSTANCE REPORT DIRECTORY\n", stderr);
        return 2;
    }
    ok = dbss_config_new(&config) == DBSS_OK && configure(config) == DBSS_OK
         && dbss_context_new(config, &ctx) == DBSS_OK && dbss_operation_new(&operation) == DBSS_OK
         && dbss_operation_set_progress(operation, show_progress, NULL, NULL) == DBSS_OK;
    if (ok) {
        signal(SIGINT, cancel);
        /* NULL: the project of the context, and the service's choice of language. */
        ok = dbss_report_download_to_directory(ctx, NULL, argv[1], argv[2], NULL, argv[3], 0, operation) == DBSS_OK;
        signal(SIGINT, SIG_DFL);
        fputc('\n', stderr);
    }
    if (ok)
        printf("saved %s\n", dbss_operation_path(operation));
    else
        print_error();

    dbss_operation_free(operation); /* each _free takes NULL */
    dbss_context_free(ctx);
    dbss_config_free(config);
    return ok ? 0 : 1;
}
