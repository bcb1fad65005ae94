/* A name service of our own: getaddrinfo() of this program, which libdbss
 * finds before the C library's. It answers for names that end in ".test", and
 * hands on the others. */

#ifndef RESOLVER_H
#define RESOLVER_H

/* From now on look-ups of ".test" names wait until release_lookups(). */
void stall_lookups(void);
void release_lookups(void);

/* How many look-ups of such names have begun, and how many have ended. */
int lookups_begun(void);
int lookups_ended(void);

/* The addresses that a ".test" name has: numeric, separated by spaces. The
 * text must stay. */
void answer_lookups_with(const char *addresses);

#endif
