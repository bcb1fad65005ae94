/*
 * Unloads the library while the look-up of a timed-out call may still run.
 * Usage: dlclose LIBRARY
 */

#define _POSIX_C_SOURCE 200809L

#include <dbss.h>

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Finds a function of the library. ISO C has no cast for it, so memcpy does it. */
static int find_function(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    if (symbol == NULL)
        fprintf(stderr, "no %s\n", name);
    return symbol != NULL;
}

static int count_threads(void)
{
    DIR *directory = opendir("/proc/self/task");
    struct dirent *entry;
    int count = 0;
    while (directory != NULL && (entry = readdir(directory)) != NULL)
        count += *entry->d_name != '.';
    if (directory != NULL)
        closedir(directory);
    return count;
}

static int make_failing_call(void *library)
{
    static const char id[] = "0123456789abcdef0123456789abcdef";
    dbss_status (*config_new)(dbss_config **);
    dbss_status (*config_set)(dbss_config *, const char *, const char *);
    void (*config_free)(dbss_config *);
    dbss_status (*context_new)(const dbss_config *, dbss_context **);
    void (*context_free)(dbss_context *);
    dbss_status (*report_download)(dbss_context *, const char *, const char *, const char *, const char *,
                                   dbss_buffer *);
    dbss_config *config;
    dbss_context *ctx;
    dbss_buffer report;
    dbss_status status;

    if (!find_function(library, "dbss_config_new", &config_new)
        || !find_function(library, "dbss_config_set", &config_set)
        || !find_function(library, "dbss_config_free", &config_free)
        || !find_function(library, "dbss_context_new", &context_new)
        || !find_function(library, "dbss_context_free", &context_free)
        || !find_function(library, "dbss_report_download", &report_download))
        return 0;
    if (config_new(&config) != DBSS_OK || config_set(config, "endpoint", "http://no-such-host.invalid") != DBSS_OK
        || config_set(config, "allow_plaintext", "true") != DBSS_OK
        || config_set(config, "connect_timeout_ms", "1") != DBSS_OK || config_set(config, "token", "token") != DBSS_OK
        || context_new(config, &ctx) != DBSS_OK)
        return 0;
    status = report_download(ctx, id, id, id, NULL, &report);
    context_free(ctx);
    config_free(config);
    /* Which of them depends on the speed of the system's resolver. */
    return status == DBSS_ERR_CONNECT_TIMEOUT || status == DBSS_ERR_RESOLVE;
}

int main(int argc, char **argv)
{
    struct timespec pause = {0, 5000000};
    int round;
    for (round = 0; argc == 2 && round < 3; round++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        if (!make_failing_call(library)) {
            fprintf(stderr, "the calls did not fail as they should\n");
            return 1;
        }
        dlclose(library);
    }
    /* The remaining look-ups must be able to end without the handle. */
    while (count_threads() > 1)
        nanosleep(&pause, NULL);
    return argc != 2;
}
