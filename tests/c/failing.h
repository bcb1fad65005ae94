/* The C library's allocator, of which one request can fail. Linking this file
 * replaces malloc() and its kin in the whole process. */

#ifndef FAILING_H
#define FAILING_H

/* Whether it can be replaced here. */
int can_fail_requests(void);

/* Lets the `number`-th request from now on fail, whichever thread makes it, and
 * none after it. 0 lets none fail. Two kinds do not count, without which the
 * process ends: 48 bytes that Rust's standard library takes for each thread that it
 * starts, and 32 zeroed ones that the C library takes for each thread that has
 * something to destroy at its end. */

void fail_request(long number);

/* The same for it and all after it. */
void fail_requests_from(long number);

/* Whether it has failed. */
int has_failed_request(void);

/* How many blocks are allocated. */
long count_blocks(void);

#endif
