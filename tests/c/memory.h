/* Secrets, and the search for them in this process's own memory. */

#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>

#define SECRET_LENGTH 160
/* The search looks for a part from the middle. The allocator overwrites the first
 * bytes of freed memory. The part is longer than any register, as a saved register
 * does not count as a copy. */
#define SAMPLE_OFFSET 48
#define SAMPLE 72

/* That part, masked so that the search does not find this copy. */
struct secret_sample {
    unsigned char masked[SAMPLE];
};

/* Fills `secret`, of SECRET_LENGTH + 1 bytes, with random capital letters. */
void make_secret(char *secret, struct secret_sample *sample);

/* The number of copies in this process's writable memory. `where` receives the
 * first place. */
int find_secret(const struct secret_sample *sample, char *where, size_t size);

#endif
