#define _GNU_SOURCE /* for RTLD_NEXT */

#include "resolver.h"

#include "support.h"

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int stalled, begun, ended;
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

static int read_locked(const int *number)
{
    int value;
    pthread_mutex_lock(&lock);
    value = *number;
    pthread_mutex_unlock(&lock);
    return value;
}

int lookups_begun(void)
{
    return read_locked(&begun);
}

int lookups_ended(void)
{
    return read_locked(&ended);
}

void answer_lookups_with(const char *text)
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
    /* ISO C knows no conversion from one to the other. */
    memcpy(kept, &symbol, sizeof symbol);
    return *kept;
}

/* Each address is looked up by itself, and the lists are joined; those of the
 * C library may be freed as one, since it frees entry by entry. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    static lookup_fn *real;
    size_t len = node == NULL ? 0 : strlen(node);
    struct addrinfo **end = found;
    char *list, *address, *rest;
    int result = EAI_NONAME;

    pthread_mutex_lock(&lock);
    if (real == NULL)
        find("getaddrinfo", &real);
    pthread_mutex_unlock(&lock);
    if (len < 5 || strcmp(node + len - 5, ".test") != 0)
        return real(node, service, hints, found);

    pthread_mutex_lock(&lock);
    begun++;
    while (stalled)
        pthread_cond_wait(&changed, &lock);
    list = format("%s", addresses);
    pthread_mutex_unlock(&lock);

    *found = NULL;
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
