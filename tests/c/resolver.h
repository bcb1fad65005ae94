/* Replaces getaddrinfo(): libdbss finds this one before the C library's. It resolves
 * names that end in ".test" and passes other names to the C library. */

#ifndef RESOLVER_H
#define RESOLVER_H

/* Makes look-ups of ".test" names wait until release_lookups(). */
void stall_lookups(void);
void release_lookups(void);

/* The numbers of look-ups of such names that have started and ended. */
int lookups_started(void);
int lookups_ended(void);

/* Sets the addresses of ".test" names: numeric, separated by spaces. The text must
 * stay valid. */
void set_lookup_result(const char *addresses);

#endif
