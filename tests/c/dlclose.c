/*
 * A program that unloads the library while a look-up that a call left behind
 * may still run. Usage: dlclose LIBRARY
 */

#define _POSIX_C_SOURCE 200809L

#include <dbss.h>

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A function of the library. By memcpy, as ISO C has no cast for it. */
static int find(void *library, const char *name, void *function)
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

static int use(void *library)
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

    if (!find(library, "dbss_config_new", &config_new) || !find(library, "dbss_config_set", &config_set)
        || !find(library, "dbss_config_free", &config_free) || !find(library, "dbss_context_new", &context_new)
        || !find(library, "dbss_context_free", &context_free)
        || !find(library, "dbss_report_download", &report_download))
        return 0;
    if (config_new(&config) != DBSS_OK || config_set(config, "endpoint", "http://no-such-host.invalid") != DBSS_OK
        || config_set(config, "allow_plaintext", "true") != DBSS_OK
        || config_set(config, "connect_timeout_ms", "1") != DBSS_OK
        || config_set(config, "token", "token") != DBSS_OK || context_new(config, &ctx) != DBSS_OK)
        return 0;
    status = report_download(ctx, id, id, id, NULL, &report);
    context_free(ctx);
    config_free(config);
    /* Which one depends on how fast the system's resolver is. */
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
        if (!use(library)) {
            fprintf(stderr, "the calls did not fail as they should\n");
            return 1;
        }
        dlclose(library);
    }
    /* What was left behind must be able to end without the handle. */
    while (count_threads() > 1)
        nanosleep(&pause, NULL);
    return argc != 2;
}
