/* The interface of the benchmark's peers. Each downloads a report repeatedly over a
 * persistent connection, and bench.c measures it. */

#ifndef PEER_H
#define PEER_H

#include <stddef.h>

struct setup {
    const char *host;
    const char *port;
    const char *endpoint; /* http://host:port or https://host:port */
    const char *ca_file;  /* NULL for plain http */
    const char *project;
    const char *instance;
    const char *token;
};

/* The length of the token. */
enum { TOKEN = 4096 };

enum sink { TO_MEMORY, TO_CALLBACK, TO_FILE };

/* Ends the program. */
void fatal(const char *format, ...);

/* Called by a peer at the first byte of a body that goes to a callback. */
void first_byte(void);

extern const char *const peer_name;

/* The state that all threads share. */
void peer_open(const struct setup *setup);
void peer_close(void);

/* The state of one thread. peer_download() returns the size of the report. It saves
 * the report to `path` if the sink is a file, and discards it otherwise. */
void *peer_thread_open(void);
size_t peer_download(void *thread, const char *report, enum sink sink, const char *path);
void peer_thread_close(void *thread);

#endif
