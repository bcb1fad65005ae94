/* Stands before libdbss, by LD_PRELOAD: what it does in this way no mock service can make it do. */
#define _GNU_SOURCE
#include <dbss.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Another version, if the environment tells so. */
uint32_t dbss_version_number(void)
{
    const char *number = getenv("DBSS_TEST_VERSION");
    return number ? (uint32_t)strtoul(number, NULL, 10) : DBSS_VERSION_NUMBER;
}

/* A report as large as the environment tells, of memory that is never touched. */
dbss_status dbss_report_download_to_memory(dbss_context *ctx, const char *project, const char *instance, const char *id,
                                           const char *locale, dbss_operation *operation, dbss_buffer *out)
{
    (void)ctx, (void)project, (void)instance, (void)id, (void)locale, (void)operation;
    out->len = strtoull(getenv("DBSS_TEST_SIZE"), NULL, 10);
    out->data = mmap(NULL, out->len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return out->data == MAP_FAILED ? DBSS_ERR_OUT_OF_MEMORY : DBSS_OK;
}

void dbss_buffer_free(dbss_buffer *buf)
{
    static int count;
    if (buf->data && (munmap(buf->data, buf->len) != 0 || ++count > 1))
        abort();
    *buf = (dbss_buffer){NULL, 0};
}

/* As many threads of the addon, which have small stacks, as the environment tells. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *data)
{
    static int count;
    const char *most = getenv("DBSS_TEST_THREADS");
    size_t size = 0;
    if (most && attributes && pthread_attr_getstacksize(attributes, &size) == 0 && size == (size_t)256 << 10
        && ++count > atoi(most))
        return EAGAIN;
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = NULL;
    *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    return create(thread, attributes, run, data);
}
