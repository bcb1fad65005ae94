#include "resolver.h"

#include "checks.h"

#include <dlfcn.h>
#include <netdb.h>

static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int stalled, started, ended;
static const char *addresses = "127.0.0.1";

void stall_lookups(void)
{
    pthread_mutex_lock(&lock);
    stalled = 1;
    pthread_mutex_unlock(&lock);
}

void release_lookups(void)
{
    pthread_mutex_lock(&lock);
    stalled = 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

int lookups_started(void)
{
    return read_locked(&started);
}

int lookups_ended(void)
{
    return read_locked(&ended);
}

void set_lookup_result(const char *text)
{
    pthread_mutex_lock(&lock);
    addresses = text;
    pthread_mutex_unlock(&lock);
}

typedef int lookup_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static lookup_fn *find(const char *name, lookup_fn **kept)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    if (symbol == NULL)
        fatal("no %s", name);
    /* ISO C has no cast from a data pointer to a function pointer. */
    memcpy(kept, &symbol, sizeof symbol);
    return *kept;
}

/* Looks up each address separately and joins the lists. The C library can free the
 * joined list, since it frees each entry separately. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result_list)
{
    static lookup_fn *real;
    size_t len = node == NULL ? 0 : strlen(node);
    struct addrinfo **end = result_list;
    char *list, *address, *rest;
    int result = EAI_NONAME;

    pthread_mutex_lock(&lock);
    if (real == NULL)
        find("getaddrinfo", &real);
    pthread_mutex_unlock(&lock);
    if (len < 5 || strcmp(node + len - 5, ".test") != 0)
        return real(node, service, hints, result_list);

    pthread_mutex_lock(&lock);
    started++;
    while (stalled)
        pthread_cond_wait(&changed, &lock);
    list = format("%s", addresses);
    pthread_mutex_unlock(&lock);

    *result_list = NULL;
    for (address = strtok_r(list, " ", &rest); address != NULL; address = strtok_r(NULL, " ", &rest)) {
        result = real(address, service, hints, end);
        if (result != 0)
            break;
        while (*end != NULL)
            end = &(*end)->ai_next;
    }
    free(list);
    pthread_mutex_lock(&lock);
    ended++;
    pthread_mutex_unlock(&lock);
    return result;
}
