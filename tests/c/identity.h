/* What the programs about credentials share: a mock service and an environment as
 * at first, configurations of every kind, calls whose errors and log hold no
 * secret, and the mock service's request_log. */

#ifndef IDENTITY_H
#define IDENTITY_H

#include "calls.h"

/* A call for the status that it must have, with the line of the check. */
#define DOWNLOAD(expected, ctx) download_for(__LINE__, expected, ctx, fact("project"), NULL)

/* The same for the project that the context finds. */
#define DOWNLOAD_NOWHERE(expected, ctx) download_for(__LINE__, expected, ctx, NULL, NULL)

/* Every check begins so: nothing is configured at the mock service or in the
 * environment, HOME is an empty directory, request log and log are empty. */
void begin(void);

/* And ends so. */
void end(void);

/* The directory that HOME names. */
const char *home(void);

/* One more text that no error and no log message may hold. */
void watch_secret(const char *text);

/* ---------------------------------------------------------------------------
 * Configurations
 * ------------------------------------------------------------------------ */

/* An endpoint, a log, one attempt for each call, no credentials. */
dbss_config *plain_config(void);

/* With the region of the mock service's project, and its IAM. */
dbss_config *regional_config(void);

/* With the user that IAM knows. */
dbss_config *login_config(void);

/* With the option "credentials", and the mock service's metadata service. */
dbss_config *finding_config(const char *where);

/* ---------------------------------------------------------------------------
 * Calls
 * ------------------------------------------------------------------------ */

/* Downloads a report, compares its bytes, and looks for secrets where it
 * failed. The error is this thread's last. */
dbss_status download_for(int line, dbss_status expected, dbss_context *ctx, const char *project,
                         dbss_operation *operation);

/* A context that cannot be made, and why. */
#define NO_CONTEXT(expected, parameter, config) no_context(__LINE__, expected, parameter, config)

void no_context(int line, dbss_status expected, const char *parameter, dbss_config *config);

/* Looks for secrets in this thread's last error, and for words that must be in
 * its message. */
#define SAYS(words) says(__LINE__, words)

void says(int line, const char *words);

/* Whether the log has a message with these words. */
int logged(const char *words);

/* Downloads on many threads at once, each several times; one failure is the
 * check's. `between`, where there is one, runs before each round but the first,
 * while no call is under way. */
void crowd(dbss_context *ctx, const char *project, int threads, int rounds, void (*between)(void));

/* ---------------------------------------------------------------------------
 * The mock service's request log
 * ------------------------------------------------------------------------ */

#define LOGINS "@iam.tokens"
#define LOOKUPS "@iam.projects"
#define SESSIONS "@metadata.token"
#define KEYS "@metadata.key"

/* Of the requests for a report, or of a call by its name: how many there were,
 * and how many were answered with this status. */
long count_answers(const char *call, int status);

/* A header of the last of them; NULL where it has none; to be freed. */
char *last_header(const char *call, const char *name);

/* The body of the last of them; to be freed. */
char *last_body(const char *call);

/* Whether the last one was signed with this key. */
int signed_with(const char *call, const char *access_key);

void post(const char *path, const char *body, ...);

#endif
