/* Secrets that are searched for in this process's own memory. */

#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>

#define SECRET 160
/* Freed memory loses its first bytes to the allocator, and a register that was
 * saved somewhere is no copy of a secret: so it is a part from the middle, and
 * longer than any register, that is looked for. */
#define NEEDLE_FROM 48
#define NEEDLE 72

/* The part, in a form that is not found itself. */
struct hidden {
    unsigned char masked[NEEDLE];
};

/* Fills `secret`, which has room for SECRET + 1, with capital letters. */
void make_secret(char *secret, struct hidden *hidden);

/* How often the secret stands in this process's writable memory; `where` gets
 * the first place. */
int find_hidden(const struct hidden *hidden, char *where, size_t size);

#endif
