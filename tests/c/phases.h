/* Calls that wait, for a minute if nothing ends them, in each phase that a call has. */

#ifndef PHASES_H
#define PHASES_H

#include "calls.h"
#include "resolver.h"

#include <signal.h>

/* What a call does when it has reached its phase, and the descriptor that it writes to. */
enum reached { LOOKUP, ATTEMPT, CONNECTION, REQUEST, BYTES, TOKEN_REQUEST, RETRY, POLL };
enum sink_kind { NO_SINK, PIPE, PIPE_NONBLOCKING, SOCKET, TERMINAL };

struct phase {
    const char *name, *endpoint, *fault;
    work_fn *call;
    enum reached reached;
    enum sink_kind sink;
};

enum { PHASES = 17, BODY = 5 };

extern const struct phase phases[PHASES];

/* One call in a phase. */
struct waiting {
    const struct phase *phase;
    struct work work;
    pthread_t thread;
    dbss_status status;
    long long ended_ms;
    sigset_t before, after;
    int other_end, lookups, is_over;
    long connections;
};

/* Makes the reports that the phases need, and stalls name look-ups. */
void set_up_phases(void);

/* Lets the look-ups end. */
void tear_down_phases(void);

/* A call with a new operation, which counts its progress calls in `ticks`. */
struct waiting *prepare_waiting(const struct phase *phase);

extern int ticks;

/* Makes it on this thread. */
void *run_waiting(void *waiting);

/* Makes it on another thread, and waits until it has reached its phase. */
void start_waiting(struct waiting *waiting);

/* Expects that the call ends with this status. Returns whether it did so at most `within_ms`
 * after `since`: the caller tries again if not, as the machine may be busy, and fails at the
 * sixth time in a row. */
int expect_end(struct waiting *waiting, dbss_status expected, long long since, int within_ms);

#endif
