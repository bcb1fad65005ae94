/* Shared by the programs about credentials: a clean mock service and environment,
 * configurations of every kind, calls that check errors and log for secrets, and
 * the mock service's request log. */

#ifndef IDENTITY_H
#define IDENTITY_H

#include "calls.h"

/* Downloads a report and expects this status. */
#define DOWNLOAD(expected, ctx) download_for(__LINE__, expected, ctx, fixture("project"), NULL)

/* The same, with the project that the context finds. */
#define DOWNLOAD_WITHOUT_PROJECT(expected, ctx) download_for(__LINE__, expected, ctx, NULL, NULL)

/* Every check calls this first. It resets the mock service, the environment, the
 * request log and the log. HOME is a new empty directory. */
void set_up(void);

/* Every check calls this last. */
void tear_down(void);

/* The directory that HOME names. */
const char *home(void);

/* Adds a text that no error and no log message may contain. */
void watch_secret(const char *text);

/* ---------------------------------------------------------------------------
 * Configurations
 * ------------------------------------------------------------------------ */

/* Has an endpoint, a log and one attempt for each call, but no credentials. */
dbss_config *basic_config(void);

/* Also has the region of the mock service's project, and its IAM. */
dbss_config *regional_config(void);

/* Also has the user that IAM knows. */
dbss_config *login_config(void);

/* Sets the option "credentials". Has the metadata service of the mock service. */
dbss_config *credentials_config(const char *where);

/* ---------------------------------------------------------------------------
 * Calls
 * ------------------------------------------------------------------------ */

/* Downloads a report and compares its bytes. After a failure, checks the error for
 * secrets and keeps it as this thread's last error. */
dbss_status download_for(int line, dbss_status expected, dbss_context *ctx, const char *project,
                         dbss_operation *operation);

/* Expects that no context can be created, and frees the configuration. */
#define EXPECT_NO_CONTEXT(expected, parameter, config) expect_no_context(__LINE__, expected, parameter, config)

void expect_no_context(int line, dbss_status expected, const char *parameter, dbss_config *config);

/* Expects these words in the message of this thread's last error, and no secrets in
 * the error. */
#define EXPECT_MESSAGE(words) expect_message(__LINE__, words)

void expect_message(int line, const char *words);

/* Whether a log message contains these words. */
int log_contains(const char *words);

/* Downloads on many threads at once, in rounds. Any failure fails the check.
 * `between_rounds` may be NULL. It runs before each round but the first, while no
 * call is in progress. */
void download_concurrently(dbss_context *ctx, const char *project, int threads, int rounds,
                           void (*between_rounds)(void));

/* ---------------------------------------------------------------------------
 * The mock service's request log
 * ------------------------------------------------------------------------ */

#define LOGINS "@iam.tokens"
#define LOOKUPS "@iam.projects"
#define SESSIONS "@metadata.token"
#define KEYS "@metadata.key"

/* The number of requests with this response status, for a report or for a call
 * named like the macros above. */
long count_responses(const char *call, int status);

/* A header of the last such request, or NULL. The caller frees it. */
char *last_header(const char *call, const char *name);

/* The body of the last such request. The caller frees it. */
char *last_body(const char *call);

/* Whether the last such request was signed with this key. */
int is_signed_with(const char *call, const char *access_key);

#endif
