/*
 * Brings a local archive of all audit reports up to date. Run it every night: it
 * downloads what is new, and continues where a run was interrupted.
 *
 *     DBSS_REGION=cn-north-4 mirror DIRECTORY [FIRST-DAY]
 *
 * The credentials are found as the official SDKs find them; DBSS_TOKEN may hold a token
 * instead, and DBSS_ENDPOINT the URL of the service instead of the region.
 */

#include <dbss.h>
#include <stdio.h>
#include <stdlib.h>

/* The option "log_level" selects the records. */
static void print_warning(void *user_data, const dbss_log_record *record)
{
    (void)user_data;
    fprintf(stderr, "warning: %s\n", dbss_log_record_message(record));
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

/* A result exists also when some reports failed, or the mirror ended early. */
static void print_result(const dbss_mirror_result *result)
{
    printf("%lld new, %lld already there, %lld not ready yet\n", (long long)dbss_mirror_result_downloaded(result),
           (long long)dbss_mirror_result_present(result), (long long)dbss_mirror_result_not_ready(result));
    for (size_t i = 0; i < dbss_mirror_result_failure_count(result); i++) {
        dbss_error *error = dbss_mirror_result_failure_error(result, i); /* NULL: not enough memory */
        fprintf(stderr, "instance %s, report %s: %s\n", dbss_mirror_result_failure_instance(result, i),
                dbss_mirror_result_failure_id(result, i), dbss_error_message(error));
        dbss_error_free(error);
    }
    for (size_t i = 0; i < dbss_mirror_result_gap_count(result); i++)
        printf("no %s for %s\n", dbss_mirror_result_gap_type(result, i), dbss_mirror_result_gap_period(result, i));
}

int main(int argc, char **argv)
{
    dbss_config *config = NULL;
    dbss_context *ctx = NULL;
    dbss_mirror_options *options = NULL;
    dbss_mirror_result *result = NULL;
    dbss_status status = DBSS_ERR_INTERNAL;

    if (argc != 2 && argc != 3) {
        fputs("usage: mirror DIRECTORY [FIRST-DAY, such as 2026-01-01]\n", stderr);
        return 2;
    }
    if (dbss_config_new(&config) == DBSS_OK && configure(config) == DBSS_OK
        && dbss_config_set(config, "log_level", "warning") == DBSS_OK
        && dbss_config_set_log(config, print_warning, NULL, NULL) == DBSS_OK
        && dbss_context_new(config, &ctx) == DBSS_OK && dbss_mirror_options_new(&options) == DBSS_OK
        && (argc == 2 || dbss_mirror_options_set(options, "since", argv[2]) == DBSS_OK))
        /* NULL: the project of the context, and no dbss_operation to watch or cancel. */
        status = dbss_reports_mirror(ctx, NULL, argv[1], options, NULL, &result);
    if (result != NULL)
        print_result(result);
    if (status != DBSS_OK) /* DBSS_ERR_PARTIAL: the next run tries what failed again */
        fprintf(stderr, "mirror: %s\n", dbss_error_message(dbss_last_error()));

    dbss_mirror_result_free(result); /* each _free takes NULL */
    dbss_mirror_options_free(options);
    dbss_context_free(ctx);
    dbss_config_free(config);
    return status == DBSS_OK ? 0 : 1;
}
