/* Shared by the C tests: fixtures of the mock service, its control API, hashes,
 * and the search in an error's strings. */

#ifndef SUPPORT_H
#define SUPPORT_H

#include <dbss.h>

#include <stddef.h>

/* Ends the program if the test itself cannot continue. */
void fatal(const char *format, ...);

/* Returns a formatted string. The caller frees it. */
char *format(const char *format, ...);

/* Reads the fixtures of the mock service: lines of name=value. */
void load_fixtures(const char *path);

/* Returns a fixture. Ends the program if it is missing. */
const char *fixture(const char *name);

/* Returns a fixture, or NULL. */
const char *find_fixture(const char *name);

/* Sends one request to the control API. Returns the body, which the caller frees. */
char *control(const char *method, const char *path, const char *body);

/* A POST request with a formatted body, whose response is not needed. */
void post_control(const char *path, const char *format, ...);

/* The number of connections that the mock service accepted. */
long count_connections(void);

/* The number of requests that it received for this report. */
long count_requests(const char *report);

/* A new report id, valid until the program ends. */
const char *fresh_id(void);

/* 64 hexadecimal digits. The next call overwrites the string. */
const char *sha256(const void *bytes, size_t len);

/* Overwrites a secret. Compilers do not optimize this away. */
void wipe(char *secret, size_t len);

/* Finds `text` in the strings of the error. Returns the name of the getter, or
 * NULL. */
const char *find_in_error(const dbss_error *error, const char *text);

#endif
