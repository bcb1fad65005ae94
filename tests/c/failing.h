/* The C library's allocator, with allocations that fail on demand. Linking this
 * file replaces malloc() and related functions in the whole process. */

#ifndef FAILING_H
#define FAILING_H

/* Whether the allocator can be replaced here. */
int can_fail_allocations(void);

/* Makes the `number`-th allocation from now on fail, on any thread, and none after
 * it. 0: none fails. Two kinds of allocation are exempt, as the process would end
 * without them: 48 bytes that Rust's standard library needs for each new thread,
 * and 32 zeroed bytes that the C library needs for each thread with destructors. */
void fail_allocation(long number);

/* The same, and all later allocations fail too. */
void fail_allocations_from(long number);

/* Whether the chosen allocation has failed. */
int has_failed_allocation(void);

/* The number of allocated blocks. */
long count_blocks(void);

#endif
