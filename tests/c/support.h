/* What the C tests share: the mock service's facts and control address, hashes,
 * and the walk over an error's strings. */

#ifndef SUPPORT_H
#define SUPPORT_H

#include <dbss.h>

#include <stddef.h>

/* Ends the program: the test itself cannot go on. */
void fatal(const char *format, ...);

/* A formatted string, to be freed. */
char *format(const char *format, ...);

/* Reads the facts about the mock service: lines of name=value. */
void load_facts(const char *path);

/* A fact; ends the program where it is missing. */
const char *fact(const char *name);

/* The same, or NULL. */
const char *find_fact(const char *name);

/* One request to the control address. Returns the body, to be freed. */
char *control(const char *method, const char *path, const char *body);

/* How many connections the mock service accepted so far. */
long count_connections(void);

/* How many requests it received for this report so far. */
long count_requests(const char *report);

/* A report id that nobody used yet; valid until the program ends. */
const char *fresh_id(void);

/* 64 hexadecimal digits; the string is overwritten by the next call. */
const char *sha256(const void *bytes, size_t len);

/* Overwrites a secret; no compiler leaves it out. */
void wipe(char *secret, size_t len);

/* Whether any string of the error holds `text`: then the name of the getter,
 * else NULL. */
const char *where_in_error(const dbss_error *error, const char *text);

#endif
