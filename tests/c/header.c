/* The header needs no other header, and is strict C99, C11 and C++11. */

#include <dbss.h>
#include <dbss.h>

#include <string.h>

#if DBSS_VERSION_NUMBER != DBSS_VERSION_MAJOR * 10000 + DBSS_VERSION_MINOR * 100 + DBSS_VERSION_PATCH
#error "the version macros must work in the preprocessor"
#endif
#if DBSS_OK != 0 || DBSS_ERR_INTERNAL != 700
#error "the statuses must work in the preprocessor"
#endif

int main(void)
{
    dbss_config *config = NULL;
    dbss_context *ctx = NULL;
    dbss_error *error;
    dbss_buffer report = {NULL, 0};
    dbss_status status = dbss_config_new(&config);
    int wrong = status != DBSS_OK || strcmp(dbss_version(), DBSS_VERSION) != 0;

    switch (dbss_context_new(config, &ctx)) {
    case DBSS_OK: wrong = 1; break;
    case DBSS_ERR_NOT_CONFIGURED: break;
    default: wrong = 1; break;
    }
    wrong |= dbss_report_download(ctx, "p", "i", "r", NULL, &report) != DBSS_ERR_NULL_ARGUMENT;
    wrong |= report.data != NULL || report.len != 0;
    error = dbss_error_take();
    wrong |= dbss_error_status(error) != DBSS_ERR_NULL_ARGUMENT;
    dbss_error_free(error);
    dbss_buffer_free(&report);
    dbss_context_free(ctx);
    dbss_config_free(config);
    return wrong;
}
