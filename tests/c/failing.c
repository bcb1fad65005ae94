#include "failing.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* Allocations until the one that fails. 0 or less: none will fail. */
static long countdown;
/* Whether all later ones fail too. */
static int fails_after;
static long blocks;

int has_failed_allocation(void)
{
    return __atomic_load_n(&countdown, __ATOMIC_SEQ_CST) < 0;
}

long count_blocks(void)
{
    return __atomic_load_n(&blocks, __ATOMIC_SEQ_CST);
}

void fail_allocation(long number)
{
    __atomic_store_n(&fails_after, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&countdown, number, __ATOMIC_SEQ_CST);
}

void fail_allocations_from(long number)
{
    fail_allocation(number);
    __atomic_store_n(&fails_after, 1, __ATOMIC_SEQ_CST);
}

/* The sanitizers bring their own allocator. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER
#endif
#endif

#if defined(__GLIBC__) && !defined(HAS_SANITIZER)

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

int can_fail_allocations(void)
{
    return 1;
}

static int should_fail(size_t size, size_t exempt_size)
{
    long now = size == exempt_size ? 0 : __atomic_load_n(&countdown, __ATOMIC_SEQ_CST);
    while (now > 0) {
        long next = now == 1 ? -1 : now - 1;
        if (__atomic_compare_exchange_n(&countdown, &now, next, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return next < 0;
    }
    return now < 0 && __atomic_load_n(&fails_after, __ATOMIC_SEQ_CST);
}

static void *counted(void *block)
{
    if (block != NULL)
        __atomic_add_fetch(&blocks, 1, __ATOMIC_SEQ_CST);
    else
        errno = ENOMEM;
    return block;
}

void *malloc(size_t size)
{
    return counted(should_fail(size, 48) ? NULL : __libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return counted(should_fail(count * size, 32) ? NULL : __libc_calloc(count, size));
}

void *realloc(void *block, size_t size)
{
    void *moved;
    if (block == NULL)
        return malloc(size);
    if (should_fail(size, 0)) {
        errno = ENOMEM;
        return NULL;
    }
    moved = __libc_realloc(block, size);
    if (moved == NULL && size == 0)
        __atomic_sub_fetch(&blocks, 1, __ATOMIC_SEQ_CST);
    return moved;
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    *block = counted(should_fail(size, 0) ? NULL : __libc_memalign(alignment, size));
    return *block == NULL ? ENOMEM : 0;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return counted(should_fail(size, 0) ? NULL : __libc_memalign(alignment, size));
}

void free(void *block)
{
    if (block == NULL)
        return;
    __atomic_sub_fetch(&blocks, 1, __ATOMIC_SEQ_CST);
    __libc_free(block);
}

#else

int can_fail_allocations(void)
{
    return 0;
}

#endif
