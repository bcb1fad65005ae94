/* Shared by the C tests: fixtures of the mock service, its control API and hashes. */

#ifndef SUPPORT_H
#define SUPPORT_H

#include <dbss.h>

#include <stdarg.h>
#include <stddef.h>

/* Ends the program if the test itself cannot continue. */
void fatal(const char *format, ...);

/* Returns a formatted string. The caller frees it. */
char *format(const char *format, ...);
char *format_list(const char *format, va_list arguments);

void random_bytes(void *bytes, size_t len);

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

/* 64 hexadecimal digits. The next call on this thread overwrites the string. */
const char *sha256(const void *bytes, size_t len);

/* Overwrites a secret. Compilers do not optimize this away. */
void wipe(char *secret, size_t len);

#endif
