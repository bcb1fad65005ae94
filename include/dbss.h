/*
 * libdbss: downloads the audit reports of Huawei Cloud's Database Security
 * Service (DBSS). Generated from src/ffi; do not edit.
 *
 * A complete program: it prints an audit report, or says why it could not.
 *
 *     #include <dbss.h>
 *     #include <stdio.h>
 *     #include <stdlib.h>
 *
 *     int main(int argc, char **argv)
 *     {
 *         dbss_config *config = NULL;
 *         dbss_context *ctx = NULL;
 *         dbss_buffer report = {0};
 *         if (argc == 4 && dbss_config_new(&config) == DBSS_OK
 *             && dbss_config_set_region(config, "cn-north-4") == DBSS_OK
 *             && dbss_config_set_token(config, getenv("DBSS_TOKEN")) == DBSS_OK
 *             && dbss_context_new(config, &ctx) == DBSS_OK
 *             && dbss_report_download(ctx, argv[1], argv[2], argv[3], "en-us", &report) == DBSS_OK)
 *             fwrite(report.data, 1, report.len, stdout);
 *         else
 *             fprintf(stderr, "no report: %s\n", dbss_error_message(dbss_last_error()));
 *         int failed = report.data == NULL;
 *         dbss_buffer_free(&report);
 *         dbss_context_free(ctx);
 *         dbss_config_free(config);
 *         return failed;
 *     }
 *
 * It takes the ids of a project, an audit instance and a report, and is compiled
 * with: cc program.c -ldbss
 *
 * Ways to get a report, the simplest first:
 *
 * - dbss_report_download: into memory, as above; dbss_report_download_to_memory:
 *   the same with an operation.
 * - dbss_report_download_to_file: to a file, which appears only when it is whole;
 *   dbss_report_download_to_directory: under the report's own name.
 * - dbss_report_download_to_fd, dbss_report_download_to_callback: to a descriptor
 *   or to a function of yours, as it arrives.
 * - dbss_report_open: read part by part, as from a file.
 *
 * Each but the first takes a dbss_operation, with which any thread can watch and
 * cancel the call. A transfer that breaks is resumed or started again, up to
 * "max_attempts". dbss_report_generate() has the service make a report, and
 * dbss_reports_mirror() keeps a directory of all of them up to date.
 *
 * These rules hold for every function. Comments only say what is different.
 *
 * - Errors. A function that can fail returns a dbss_status; DBSS_OK is 0. It also
 *   sets this thread's last error (dbss_last_error()), which says more, or clears
 *   it on success. Other functions leave it alone. Where threads may change
 *   between two calls, read the error from the operation (dbss_operation_error()),
 *   which keeps every failure of its last call but DBSS_ERR_BUSY; or call a
 *   function and dbss_error_take() together in a function of C.
 * - Results are stored through parameters whose names begin with out_. They need
 *   not be initialised, and are NULL or zero after a failure, unless the comment
 *   says "set on failure". A handle or buffer that you get there is yours: free it
 *   with the _free function of its type.
 * - NULL. Where a comment says "required", NULL is DBSS_ERR_NULL_ARGUMENT; of
 *   several, dbss_error_parameter() names the first out-parameter, else the first
 *   parameter. Where it says "optional", NULL stands for a default or for none, as
 *   it does for every operation, user_data and destroy. Functions that cannot fail
 *   take NULL: they do nothing, or return NULL, 0, or what the comment says.
 * - Strings are NUL-terminated UTF-8; "bytes" need not be UTF-8. What you pass is
 *   copied or used up before the function returns. A string that is "borrowed"
 *   is valid until its handle is freed, unless the comment says otherwise; a
 *   "static" one always; an "owned" result is yours to free.
 * - Handles (dbss_config, dbss_context, dbss_operation and so on) are opaque. One
 *   may be freed while another thread is inside a call on it: the call holds what
 *   it needs. Only a call that starts after _free is an error of the program,
 *   dbss_operation_cancel() included: where both may happen, order them.
 * - Closing. dbss_context_close() and dbss_report_stream_close() end what is under
 *   way, from any thread, without freeing: running calls end with
 *   DBSS_ERR_CANCELLED within 100 ms, whatever they wait for but the file system
 *   and code of yours; later ones with DBSS_ERR_CLOSED. Closing releases what a
 *   call under way does not need: descriptors, and the log function and the token
 *   provider. A program with garbage collection closes when asked to and frees in
 *   a finalizer.
 * - Threads. Every function may be called from any thread at any time, on shared
 *   handles too, but not from a destructor of a thread's own data. A handle for
 *   "one call at a time" refuses a second call with DBSS_ERR_BUSY; its getters,
 *   cancel and close work meanwhile.
 * - Blocking. "@blocks network" blocks until it is done, has failed or is
 *   cancelled; "files" reads or writes files; "briefly" may wait for another
 *   thread for a moment. Functions without @blocks wait for nothing, but a destroy
 *   function of yours may run in them.
 * - Statuses. @errors lists how a function may fail, without the DBSS_ERR_; a *
 *   after a group stands for all of the group. Not listed are NULL_ARGUMENT where
 *   something is required; INVALID_UTF8 where there are strings; UNKNOWN_KEY and the
 *   statuses of wrong values where there is the key of an option; BUSY where there
 *   is an operation, and ARGUMENT where it belongs to the process that this one was
 *   forked from; RESOURCE, CANCELLED, CLOSED, INTERRUPTED and PLAINTEXT_REFUSED (a
 *   name that should be this machine's leads elsewhere) with "@blocks network"; and
 *   OUT_OF_MEMORY and INTERNAL, with which any call may end.
 * - Tags. In @param and @return the words before the first full stop are data, also
 *   in dbss-abi.json. "none -1": this value stands for none. "for NULL X": what NULL
 *   gives. "room N", "size N": so many bytes. "index of F": below what F() returns.
 *   "one of P", "flags P": constants that begin with P. "option of", "items",
 *   "field": a name of such a list. "@calls": which functions a callback may call:
 *   "any", "any without token" (none that may ask a token provider), "getters" of what
 *   it was given.
 * - Callbacks get the user_data pointer that was set with them, which is never
 *   followed and may be any value of its size. Where they are kept, a destroy
 *   function is called with it exactly once, when it is no longer needed, also
 *   when setting them failed. "In call" means that a callback runs on the thread
 *   of the call that it belongs to, "at release" on the thread that lets go
 *   last; none ever runs on a thread of the library's. No lock is held
 *   meanwhile. Inside, functions may be called as outside, last error included,
 *   which is restored afterwards; a call under the operation that is running is
 *   DBSS_ERR_BUSY. A callback must not throw, longjmp or end its thread: the process
 *   would end, or, on Linux, a thread that pthread_exit() ends would stay for ever.
 * - Signals. The library installs no handler. A signal that your program handles
 *   does not end a call, unless the option "interruptible" is set. Then signals are
 *   blocked in the call's thread, but not where it waits, nor in your callbacks,
 *   which run with the mask that you had. Only dbss_operation_cancel() may be called from
 *   a signal handler.
 * - pthread_cancel() of a thread inside a function waits until it returns. A stack
 *   of 64 KiB is enough for every call.
 * - Memory. A call that gets none ends with DBSS_ERR_OUT_OF_MEMORY: a reserve of
 *   744 KiB serves what it needs to end with. Two requests have none to serve them,
 *   and the process ends without them, so a call looks before: 48 bytes for a thread
 *   that the library starts, and 32 for each thread's first call.
 * - Numbers. Durations are int64_t milliseconds and sizes int64_t bytes, -1 for
 *   unknown or none; sizes in memory and counts are size_t. Booleans are int32_t, 0
 *   or 1. An index counts from 0.
 * - The process is left alone: no output, no change of the environment or locale,
 *   no SIGPIPE, no exit. Descriptors are close-on-exec, and never 0, 1 or 2. If the
 *   process has closed one of these, the library opens it for neither reading nor
 *   writing, so that nothing else gets its number; use dup2() to open your own.
 *   dbss_context_new() alone
 *   reads variables of the environment: SSL_CERT_FILE and SSL_CERT_DIR, which name
 *   the system's certificates; for a region HUAWEICLOUD_SDK_REGION_DBSS_{REGION},
 *   HUAWEICLOUD_SDK_REGIONS_FILE and HOME; and those of the options "credentials"
 *   and "proxy_from_environment", where these are set.
 * - From the first release on the ABI only grows: no function, value or signature
 *   changes. For programs
 *   that make wrappers, dbss-abi.json says all of this as data, and dbss.cdef.h has
 *   the declarations without a preprocessor.
 */

#ifndef DBSS_H
#define DBSS_H

#include <stddef.h>
#include <stdint.h>

/* For the compiler: what is exported, which results must be looked at, and since
 * which version something should no longer be used. */
#if defined(__GNUC__)
#define DBSS_API __attribute__((visibility("default")))
#define DBSS_WARN_UNUSED __attribute__((warn_unused_result))
#define DBSS_DEPRECATED(since) __attribute__((deprecated("since " since)))
#else
#define DBSS_API
#define DBSS_WARN_UNUSED
#define DBSS_DEPRECATED(since)
#endif

/* The version of this header; dbss_version() is that of the library. */
#define DBSS_VERSION_MAJOR 0
#define DBSS_VERSION_MINOR 1
#define DBSS_VERSION_PATCH 0
#define DBSS_VERSION "0.1.0"
#define DBSS_VERSION_NUMBER \
    (DBSS_VERSION_MAJOR * 10000 + DBSS_VERSION_MINOR * 100 + DBSS_VERSION_PATCH)

/* The name of the shared library on Linux, for dlopen(). */
#define DBSS_SONAME "libdbss.so.0"

#ifdef __cplusplus
extern "C" {
#endif

/* The handles; each is explained in its section. */
typedef struct dbss_error dbss_error;
typedef struct dbss_config dbss_config;
typedef struct dbss_log_record dbss_log_record;
typedef struct dbss_token_request dbss_token_request;
typedef struct dbss_context dbss_context;
typedef struct dbss_credentials dbss_credentials;
typedef struct dbss_report_stream dbss_report_stream;
typedef struct dbss_operation dbss_operation;
typedef struct dbss_cursor dbss_cursor;
typedef struct dbss_page dbss_page;
typedef struct dbss_report_spec dbss_report_spec;
typedef struct dbss_mirror_options dbss_mirror_options;
typedef struct dbss_mirror_result dbss_mirror_result;

/* ============================================================================
 * 1. Version, features, statuses, options
 * ============================================================================ */

/**
 * The version of the library that is loaded, such as "0.1.0"; compare with
 * DBSS_VERSION, which is the version of the header.
 *
 * @return static.
 */
DBSS_API const char *dbss_version(void);

/**
 * The same as a number, to compare: major * 10000 + minor * 100 + patch, as in
 * DBSS_VERSION_NUMBER.
 *
 * @return number.
 */
DBSS_API uint32_t dbss_version_number(void);

/**
 * Whether the loaded library has a feature. dbss_feature_name() lists the
 * features of this version.
 *
 * @param name feature.
 * @return boolean.
 */
DBSS_API int32_t dbss_has_feature(const char *name);

/**
 * How many features this version has.
 *
 * @return count.
 */
DBSS_API size_t dbss_feature_count(void);

/**
 * The name of a feature, as dbss_has_feature() takes it.
 *
 * @param index index of dbss_feature_count.
 * @return static, nullable. NULL past the last one.
 */
DBSS_API const char *dbss_feature_name(size_t index);

/**
 * What a feature is.
 *
 * @param index index of dbss_feature_count.
 * @return static, nullable. NULL past the last one.
 */
DBSS_API const char *dbss_feature_help(size_t index);

/**
 * How a call ended: DBSS_OK, or one of the DBSS_ERR_ values below.
 *
 * Values never change their meaning. New ones may appear inside a group (the
 * ranges of one hundred), so treat a value that you do not know as its group:
 * see dbss_status_group().
 */
typedef int32_t dbss_status;

/**
 * The call did what it was asked to do.
 */
#define DBSS_OK 0

/**
 * Group of 1xx: an argument or an option is at fault. dbss_error_parameter()
 * names it.
 */
#define DBSS_ERR_ARGUMENT 100

/**
 * A required pointer is NULL.
 */
#define DBSS_ERR_NULL_ARGUMENT 101

/**
 * A string is not UTF-8.
 */
#define DBSS_ERR_INVALID_UTF8 102

/**
 * A project, instance or report id has a length or a character that no id has.
 */
#define DBSS_ERR_INVALID_ID 103

/**
 * The locale is neither en-us nor zh-cn.
 */
#define DBSS_ERR_INVALID_LOCALE 104

/**
 * The token is empty, too long, or holds a character that a header cannot.
 */
#define DBSS_ERR_INVALID_TOKEN 105

/**
 * The endpoint is not a usable URL, or the region not a region's name.
 */
#define DBSS_ERR_INVALID_ENDPOINT 106

/**
 * There is no option with this key.
 */
#define DBSS_ERR_UNKNOWN_KEY 107

/**
 * The option's value is not of its type or out of its range.
 */
#define DBSS_ERR_INVALID_VALUE 108

/**
 * The endpoint is plain http on another host, and "allow_plaintext" is not
 * set.
 */
#define DBSS_ERR_PLAINTEXT_REFUSED 109

/**
 * Something that the call needs was not set: an endpoint or region,
 * credentials, or a required key of a report spec.
 */
#define DBSS_ERR_NOT_CONFIGURED 110

/**
 * The operation serves another call at the moment.
 */
#define DBSS_ERR_BUSY 111

/**
 * An access key, its secret or its security token is empty, too long, or holds
 * a character that none has.
 */
#define DBSS_ERR_INVALID_ACCESS_KEY 112

/**
 * Credentials that the environment or the profile file holds are incomplete or
 * malformed, or the profile file is.
 */
#define DBSS_ERR_INVALID_CREDENTIALS 113

/**
 * The token provider failed, or gave something that is no token.
 */
#define DBSS_ERR_NO_TOKEN 114

/**
 * The context or the stream was closed before the call.
 */
#define DBSS_ERR_CLOSED 115

/**
 * Group of 2xx: the service responded, but not with what was asked for. Also
 * the status of a service's error that fits none of the following.
 */
#define DBSS_ERR_SERVICE 200

/**
 * HTTP 400: the service refused the request as malformed.
 */
#define DBSS_ERR_BAD_REQUEST 201

/**
 * HTTP 401: the credentials were refused (expired, of another region, wrong).
 */
#define DBSS_ERR_UNAUTHENTICATED 202

/**
 * HTTP 403: the credentials are good, but not for this.
 */
#define DBSS_ERR_FORBIDDEN 203

/**
 * HTTP 404: no such project, instance or report.
 */
#define DBSS_ERR_NOT_FOUND 204

/**
 * HTTP 429: too many requests; see dbss_error_retry_after_ms().
 */
#define DBSS_ERR_THROTTLED 205

/**
 * HTTP 5xx: the service failed.
 */
#define DBSS_ERR_SERVER 206

/**
 * HTTP 3xx: the service redirected the request, and it was not followed; see
 * dbss_error_redirect_target().
 */
#define DBSS_ERR_REDIRECTED 207

/**
 * A success that is not a report: an empty body, a JSON document, a web page,
 * or an HTTP status that this call does not have.
 */
#define DBSS_ERR_UNEXPECTED_RESPONSE 208

/**
 * The service responded that it did not create or delete the report.
 */
#define DBSS_ERR_REJECTED 209

/**
 * The report was not ready within "wait_timeout_ms".
 */
#define DBSS_ERR_NOT_READY 210

/**
 * Several new reports may be the one that was created; dbss_error_candidate()
 * gives their ids.
 */
#define DBSS_ERR_AMBIGUOUS 211

/**
 * Some reports of a mirror failed to download; the others are there.
 */
#define DBSS_ERR_PARTIAL 212

/**
 * Group of 3xx: the network, or what came over it, failed.
 */
#define DBSS_ERR_NETWORK 300

/**
 * The host's name could not be looked up.
 */
#define DBSS_ERR_RESOLVE 301

/**
 * No address of the host accepted a connection.
 */
#define DBSS_ERR_CONNECT 302

/**
 * The TLS handshake or session failed.
 */
#define DBSS_ERR_TLS 303

/**
 * The server's certificate is not trusted, not valid now, or another host's.
 */
#define DBSS_ERR_CERTIFICATE 304

/**
 * "connect_timeout_ms" ran out before the connection stood.
 */
#define DBSS_ERR_CONNECT_TIMEOUT 305

/**
 * "stall_timeout_ms" went by without a byte in or out.
 */
#define DBSS_ERR_STALLED 306

/**
 * "total_timeout_ms" ran out.
 */
#define DBSS_ERR_TOTAL_TIMEOUT 307

/**
 * The connection broke before the response's header was complete.
 */
#define DBSS_ERR_CONNECTION_LOST 308

/**
 * The body ended or broke before its end; nothing of it is handed out.
 */
#define DBSS_ERR_TRUNCATED 309

/**
 * What came is not a valid HTTP response.
 */
#define DBSS_ERR_PROTOCOL 310

/**
 * The body is compressed, though libdbss asked for it as it is.
 */
#define DBSS_ERR_CONTENT_ENCODING 311

/**
 * The transfer broke and cannot go on: the report changed meanwhile, or the
 * service resumes none, and what was handed out cannot be taken back.
 */
#define DBSS_ERR_NOT_RESUMABLE 312

/**
 * Group of 4xx: a local file could not be read or written.
 */
#define DBSS_ERR_FILE 400

/**
 * A file of this name exists, and may not be replaced.
 */
#define DBSS_ERR_FILE_EXISTS 401

/**
 * The name is that of a directory, a link, a device: no regular file.
 */
#define DBSS_ERR_NOT_REGULAR_FILE 402

/**
 * The disk is full, or a quota or size limit is reached.
 */
#define DBSS_ERR_DISK_FULL 403

/**
 * Whoever reads from the pipe or socket has gone.
 */
#define DBSS_ERR_BROKEN_PIPE 404

/**
 * Another mirror works on the directory at the moment.
 */
#define DBSS_ERR_MIRROR_LOCKED 405

/**
 * Group of 5xx: this process ran out of something, such as threads.
 */
#define DBSS_ERR_RESOURCE 500

/**
 * There is not enough memory.
 */
#define DBSS_ERR_OUT_OF_MEMORY 501

/**
 * The report is larger than "max_memory_bytes".
 */
#define DBSS_ERR_LIMIT_EXCEEDED 502

/**
 * Group of 6xx: the call was cancelled, by dbss_operation_cancel(), by
 * dbss_context_cancel_all(), by closing its context or stream, or by a
 * callback.
 */
#define DBSS_ERR_CANCELLED 600

/**
 * A signal that the host handled ended the call; see the option
 * "interruptible".
 */
#define DBSS_ERR_INTERRUPTED 601

/**
 * Group of 7xx: libdbss has a defect. The call was abandoned, the process and
 * other calls are unharmed.
 */
#define DBSS_ERR_INTERNAL 700

/**
 * The name of a status as this header spells it, such as "DBSS_ERR_NOT_FOUND";
 * "DBSS_ERR_UNKNOWN" for a value that this version does not know.
 *
 * @return static.
 */
DBSS_API const char *dbss_status_name(dbss_status status);

/**
 * What a status means in general; dbss_error_message() says what happened in
 * particular.
 *
 * @return static.
 */
DBSS_API const char *dbss_status_message(dbss_status status);

/**
 * The status that stands for the group of a status: DBSS_OK,
 * DBSS_ERR_ARGUMENT, DBSS_ERR_SERVICE, DBSS_ERR_NETWORK, DBSS_ERR_FILE,
 * DBSS_ERR_RESOURCE, DBSS_ERR_CANCELLED or DBSS_ERR_INTERNAL. Values that are
 * newer than this library have their group too; a value outside of all ranges
 * counts as DBSS_ERR_INTERNAL.
 *
 * @return status.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_status_group(dbss_status status);

/**
 * How many statuses this version has, DBSS_OK included.
 *
 * @return count.
 */
DBSS_API size_t dbss_status_count(void);

/**
 * One of the statuses.
 *
 * @param index index of dbss_status_count.
 * @return status, none -1. -1 past the last one.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_status_value(size_t index);

/**
 * The options of a configuration: dbss_config_set().
 */
#define DBSS_OPTIONS_CONFIG 1

/**
 * The options of an operation: dbss_operation_set().
 */
#define DBSS_OPTIONS_OPERATION 2

/**
 * The options of a report spec: dbss_report_spec_set().
 */
#define DBSS_OPTIONS_REPORT_SPEC 3

/**
 * The options of a mirror: dbss_mirror_options_set().
 */
#define DBSS_OPTIONS_MIRROR 4

/**
 * How many options a set has; 0 for a set that the loaded library does not
 * know.
 *
 * @param set one of DBSS_OPTIONS_.
 * @return count.
 */
DBSS_API size_t dbss_option_count(int32_t set);

/**
 * The key of an option.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL past the last one.
 */
DBSS_API const char *dbss_option_key(int32_t set, size_t index);

/**
 * The type of an option: "text", "id", "url", "secret", "path",
 * "milliseconds", "bytes", "boolean", "number", "mode", "day" or "choice".
 * Newer versions may have more. A "secret" has no place on a command line or in
 * a log.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL past the last one.
 */
DBSS_API const char *dbss_option_type(int32_t set, size_t index);

/**
 * The default of an option, as text. An operation takes what it is not given
 * from its context, so its options have none.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL where the option is unset by default, and past
 * the last one.
 */
DBSS_API const char *dbss_option_default(int32_t set, size_t index);

/**
 * What an option does, in a sentence or two. Type, default and range stand in
 * the other getters.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL past the last one.
 */
DBSS_API const char *dbss_option_help(int32_t set, size_t index);

/**
 * The values of an option of the type "choice", joined by commas, such as
 * "en-us,zh-cn".
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL for other types, and past the last one.
 */
DBSS_API const char *dbss_option_choices(int32_t set, size_t index);

/**
 * The smallest value of an option of the type "number", "milliseconds", "bytes"
 * or "mode" (384 for the octal 600); the least length in bytes of a text.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return none -1. -1 where there is none, and past the last one.
 */
DBSS_API int64_t dbss_option_minimum(int32_t set, size_t index);

/**
 * The largest value of an option, or the greatest length of a text, as for
 * dbss_option_minimum().
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return none -1. -1 where there is none, and past the last one.
 */
DBSS_API int64_t dbss_option_maximum(int32_t set, size_t index);

/**
 * Whether "-1" is a value of an option too, and means that there is no limit.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return boolean. 0 past the last one.
 */
DBSS_API int32_t dbss_option_allows_none(int32_t set, size_t index);

/* ============================================================================
 * 2. Errors
 * ============================================================================ */

/**
 * Why a call failed: a status, a sentence, and all that the service and the
 * operating system said. It never changes.
 *
 * There are two ways to hold one: dbss_last_error() lends that of the thread,
 * and dbss_error_take() gives it to you.
 *
 * @threads any.
 */
struct dbss_error;

/**
 * The error of this thread's last call of a function that can fail. Other
 * functions, such as getters, neither set nor clear it. Do not free it or hand
 * it to another thread; use dbss_error_take() for that.
 *
 * @return borrowed until next error, nullable. NULL when that call succeeded,
 *   and when there was none.
 */
DBSS_API const dbss_error *dbss_last_error(void);

/**
 * The same error, given to you: for as long as you like, on any thread.
 * Afterwards dbss_last_error() is NULL on this thread.
 *
 * @return owned, nullable. NULL when there is no error.
 */
DBSS_API dbss_error *dbss_error_take(void);

/**
 * Frees an error, and all strings that its getters returned.
 */
DBSS_API void dbss_error_free(dbss_error *error);

/**
 * The status that the failed call returned.
 *
 * @return status.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_error_status(const dbss_error *error);

/**
 * One line for a person: what was wrong and what to do, with the service's
 * words and request id where there are any. It holds no secret and no control
 * characters. The wording may change between versions: programs should use the
 * other getters.
 *
 * @return borrowed, for NULL "".
 */
DBSS_API const char *dbss_error_message(const dbss_error *error);

/**
 * The name of the parameter or option at fault: always for a status of the group
 * DBSS_ERR_ARGUMENT that is about one, seldom for others.
 *
 * @return borrowed, nullable. NULL where no parameter is at fault.
 */
DBSS_API
const char *dbss_error_parameter(const dbss_error *error);

/**
 * The HTTP status of the response, such as 404.
 *
 * @return none 0. 0 when there was no response.
 */
DBSS_API int32_t dbss_error_http_status(const dbss_error *error);

/**
 * The service's own error code, such as "DBSS.10021004" or "APIG.0301". A code
 * that came as a number is given in decimal.
 *
 * @return borrowed, nullable. NULL where the service sent none.
 */
DBSS_API const char *dbss_error_service_code(const dbss_error *error);

/**
 * The service's own words, as it sent them: bytes that are not UTF-8, and
 * U+0000, are replaced by U+FFFD, credentials of this context by "***";
 * control characters are kept.
 *
 * @return borrowed, nullable. NULL where the service sent none.
 */
DBSS_API const char *dbss_error_service_message(const dbss_error *error);

/**
 * The service's id of this call (header X-Request-Id, or request_id in the
 * body). Quote it to the service's support.
 *
 * @return borrowed, nullable. NULL where the service sent none.
 */
DBSS_API const char *dbss_error_request_id(const dbss_error *error);

/**
 * The encoded message that explains a refused authorization; an API of the
 * service decodes it.
 *
 * @return borrowed, nullable. NULL where the service sent none.
 */
DBSS_API
const char *dbss_error_encoded_authorization_message(const dbss_error *error);

/**
 * How many entries the "details" of the error body have.
 *
 * @return count.
 */
DBSS_API size_t dbss_error_detail_count(const dbss_error *error);

/**
 * The error code of one of the "details".
 *
 * @param index index of dbss_error_detail_count.
 * @return borrowed, nullable. NULL where the entry has none, and past the last
 *   one.
 */
DBSS_API
const char *dbss_error_detail_code(const dbss_error *error,
                                   size_t index);

/**
 * The message of one of the "details".
 *
 * @param index index of dbss_error_detail_count.
 * @return borrowed, nullable. NULL where the entry has none, and past the last
 *   one.
 */
DBSS_API
const char *dbss_error_detail_message(const dbss_error *error,
                                      size_t index);

/**
 * dbss_operation_cancel() cancelled the call.
 */
#define DBSS_CANCELLED_BY_OPERATION 1

/**
 * dbss_context_cancel_all() cancelled the call.
 */
#define DBSS_CANCELLED_BY_CONTEXT 2

/**
 * The context or the stream was closed.
 */
#define DBSS_CANCELLED_BY_CLOSE 3

/**
 * A callback ended the call.
 */
#define DBSS_CANCELLED_BY_CALLBACK 4

/**
 * What cancelled the call, for DBSS_ERR_CANCELLED; newer versions may have
 * more values.
 *
 * @return one of DBSS_CANCELLED_BY_, none 0.
 */
DBSS_API int32_t dbss_error_cancelled_by(const dbss_error *error);

/**
 * How many reports may be the one that was created, for DBSS_ERR_AMBIGUOUS.
 *
 * @return count.
 */
DBSS_API size_t dbss_error_candidate_count(const dbss_error *error);

/**
 * The id of a report that may be the one that was created.
 *
 * @param index index of dbss_error_candidate_count.
 * @return borrowed, nullable. NULL past the last one.
 */
DBSS_API
const char *dbss_error_candidate(const dbss_error *error,
                                 size_t index);

/**
 * Where the service redirected to, for DBSS_ERR_REDIRECTED: the header
 * Location as it came, without secrets.
 *
 * @return borrowed, nullable. NULL where there is none.
 */
DBSS_API const char *dbss_error_redirect_target(const dbss_error *error);

/**
 * The file or directory at fault, such as the file that exists already
 * (DBSS_ERR_FILE_EXISTS).
 *
 * @return borrowed, nullable, bytes. NULL where no file is at fault.
 */
DBSS_API const char *dbss_error_path(const dbss_error *error);

/**
 * The value of errno with which the operating system refused.
 *
 * @return none 0.
 */
DBSS_API int32_t dbss_error_os_code(const dbss_error *error);

/**
 * Whether the cause passes by itself (throttling, a failing server, a broken
 * or stalled connection, a timeout), so that the same call may succeed later.
 *
 * @return boolean.
 */
DBSS_API int32_t dbss_error_is_retryable(const dbss_error *error);

/**
 * How long the service asks to wait before the next attempt (header
 * Retry-After, in seconds or as a date).
 *
 * @return unit ms, none -1.
 */
DBSS_API int64_t dbss_error_retry_after_ms(const dbss_error *error);

/**
 * How many requests were made before the call gave up, those for credentials and
 * projects not counted.
 *
 * @return count.
 */
DBSS_API
uint32_t dbss_error_attempts(const dbss_error *error);

/* ============================================================================
 * 3. Configuration
 * ============================================================================ */

/**
 * Called once, when the library no longer needs `user_data`.
 *
 * @runs at release.
 * @calls any.
 */
typedef void (*dbss_destroy_fn)(void *user_data);

/**
 * A configuration under construction. dbss_context_new() copies it, so it can
 * be changed or freed afterwards, and used for several contexts.
 *
 * Each setter checks its value at once; when it fails, the configuration stays
 * as it was.
 *
 * @threads any.
 */
struct dbss_config;

/**
 * Makes a configuration with every option at its default.
 *
 * @param out_config required.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_config_new(dbss_config **out_config);

/**
 * Frees a configuration and wipes the secrets in it. Contexts made from it are
 * not affected.
 */
DBSS_API void dbss_config_free(dbss_config *config);

/**
 * Sets the region, such as "cn-north-4". Unless an endpoint is set too, the
 * endpoint is found as the official SDKs find it: the variable
 * HUAWEICLOUD_SDK_REGION_DBSS_{REGION} (upper case, "_" for "-"), read when
 * the context is made; else what the regions file
 * (HUAWEICLOUD_SDK_REGIONS_FILE, or ~/.huaweicloud/regions.yaml) has for the
 * service DBSS; else https://dbss.{region}.myhuaweicloud.com. The region's
 * name is also that of the project that is looked up where none is given.
 *
 * @param config required.
 * @param region required. 1 to 63 characters of a-z, 0-9 and "-". A region
 *   that this library has never heard of is as good as any.
 * @errors INVALID_ENDPOINT
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_region(dbss_config *config,
                                   const char *region);

/**
 * Sets the URL of the service, such as "https://dbss.example.com" or
 * "https://gateway.example.com:8443/dbss". It takes precedence over the
 * region's.
 *
 * @param config required.
 * @param endpoint required. https, or http, with a host, and maybe a port and
 *   a path; no user, query or fragment. Up to 16 URLs, separated by commas, in
 *   the order of preference: where one cannot be reached (no such host, no
 *   connection) the next one is tried, and used from then on. Plain http to a
 *   host other than this machine also needs the option "allow_plaintext".
 * @errors INVALID_ENDPOINT
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_endpoint(dbss_config *config,
                                     const char *endpoint);

/**
 * Sets the IAM token that is sent with each request (X-Auth-Token), in place
 * of other credentials: the last that were set count. Tokens live 24 hours:
 * dbss_context_set_token() replaces it later.
 *
 * @param config required.
 * @param token required, bytes, secret. 1 to 98304 (96 KiB) visible ASCII
 *   characters, so no space and no line end. The library wipes its copy when
 *   it is no longer needed; wipe your own.
 * @errors INVALID_TOKEN
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_token(dbss_config *config,
                                  const char *token);

/**
 * Sets an access key (AK and SK), with which each request is signed
 * (SDK-HMAC-SHA256), in place of other credentials. Unlike a token a permanent
 * key does not expire.
 *
 * A refused signature is never tried again: five wrong ones in a row lock a
 * key for five minutes.
 *
 * @param config required.
 * @param access_key required, bytes. 1 to 1024 visible ASCII characters.
 * @param secret_key required, bytes, secret. 1 to 1024 visible ASCII
 *   characters.
 * @param security_token optional, bytes, secret. That of a temporary key, up
 *   to 98304 characters; NULL for a permanent one.
 * @errors INVALID_ACCESS_KEY
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_access_key(dbss_config *config,
                                       const char *access_key,
                                       const char *secret_key,
                                       const char *security_token);

/**
 * Sets the IAM user who logs in for a token, in place of other credentials.
 * The first call that needs a token logs in, for all threads. The token is
 * kept, and renewed before it expires and once for each call for which the
 * service refuses it. It is for the project of "project_id", else for that of
 * the region. The option "iam_endpoint" says where IAM is.
 *
 * A login that IAM has refused is not tried again by the same context, since
 * several wrong ones lock a user; its calls then fail with the same error.
 *
 * @param config required.
 * @param user required. 1 to 1024 bytes.
 * @param password required, secret. 1 to 1024 bytes.
 * @param domain required. The account's name, 1 to 1024 bytes.
 * @errors INVALID_VALUE
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_iam_user(dbss_config *config,
                                     const char *user,
                                     const char *password,
                                     const char *domain);

/**
 * Sets any option by its key. The options, which dbss_option_key() and its
 * sisters list at run time:
 *
 * - "region" (text: 1 to 63 bytes): The region, such as cn-north-4; the
 *   endpoint and the project follow from it, unless they are set too. a-z, 0-9
 *   and "-".
 * - "endpoint" (url): The URL at which the service responds, or up to 16,
 *   separated by commas, in the order of preference; it outranks the region's.
 * - "project_id" (id: 32 to 64 characters): The id of the project for calls
 *   that are given none. Without it, that of the credentials, or the one of
 *   the region's name, looked up once.
 * - "token" (secret: 1 to 98304 bytes): The IAM token that is sent with each
 *   request, in place of other credentials. Visible ASCII characters.
 * - "access_key" (secret: 1 to 1024 bytes): The access key (AK) with which
 *   each request is signed, in place of other credentials; it needs
 *   "secret_key". Visible ASCII characters.
 * - "secret_key" (secret: 1 to 1024 bytes): The secret (SK) of "access_key".
 *   Visible ASCII characters.
 * - "security_token" (secret: 1 to 98304 bytes): The security token of a
 *   temporary "access_key". Visible ASCII characters.
 * - "iam_user" (text: 1 to 1024 bytes): The IAM user who logs in for a token,
 *   in place of other credentials; it needs "iam_password" and "iam_domain".
 * - "iam_password" (secret: 1 to 1024 bytes): The password of "iam_user".
 * - "iam_domain" (text: 1 to 1024 bytes): The name of the account of
 *   "iam_user".
 * - "credentials" (choice: default, environment, profile, metadata): Where to
 *   find credentials, in place of setting them: environment
 *   (HUAWEICLOUD_SDK_AK, _SK, _SECURITY_TOKEN, _PROJECT_ID), profile (the
 *   section [basic] of ~/.huaweicloud/credentials, or of the file that
 *   HUAWEICLOUD_SDK_CREDENTIALS_FILE names), metadata (the temporary key of
 *   the instance's agency), or default, which is the three in this order.
 * - "iam_endpoint" (url): The URL at which IAM responds, for logins and for
 *   looking up a project. Without it that of the profile, else that of the
 *   variable HUAWEICLOUD_SDK_IAM_ENDPOINT, else the region's own, else
 *   https://iam.myhuaweicloud.com.
 * - "metadata_endpoint" (url): The URL at which the instance's metadata
 *   service responds, if not http://169.254.169.254.
 * - "ca_file" (path): A PEM file of the certificates to trust, in place of the
 *   system's and of the built-in ones.
 * - "connect_timeout_ms" (milliseconds: 1 to 86400000, or -1 for no limit;
 *   default 10000): The longest time until a connection stands: name look-up,
 *   TCP and TLS together.
 * - "stall_timeout_ms" (milliseconds: 1 to 86400000, or -1 for no limit;
 *   default 60000): The longest time without a byte in or out.
 * - "total_timeout_ms" (milliseconds: 1 to 2592000000, or -1 for no limit;
 *   default -1): The longest time for a whole call.
 * - "max_attempts" (number: 1 to 1000; default 3): How many attempts a call
 *   makes when the connection fails or breaks, or the service responds with
 *   429, 500, 502, 503 or 504; counted anew after an attempt that brought 1
 *   MiB. 1 is for no retries.
 * - "max_retry_after_ms" (milliseconds: 0 to 86400000; default 60000): The
 *   longest wait that the service may ask for (Retry-After) before another
 *   attempt; where it asks for more, the call fails at once.
 * - "allow_plaintext" (boolean; default false): Whether an endpoint on another
 *   host may be plain http, which shows the token and the report to the
 *   network.
 * - "allow_close_delimited" (boolean; default false): Whether a body over
 *   plain http may end by nothing but the end of the connection; then nobody
 *   can tell whether it is whole.
 * - "follow_redirects" (boolean; default false): Whether up to 5 redirects are
 *   followed; credentials never go to another origin, nor a request from https
 *   to plain http.
 * - "proxy" (secret): The URL of an HTTP proxy, such as
 *   http://user:password@proxy.example.com:3128, through which all connections
 *   are tunnelled (CONNECT).
 * - "proxy_from_environment" (boolean; default false): Whether the proxy is
 *   taken from https_proxy, http_proxy, all_proxy and no_proxy (upper case
 *   too, but for HTTP_PROXY) when the context is made.
 * - "file_mode" (mode: 600 to 777; default 600): The permissions of a saved
 *   file in octal digits, whatever the umask is; the owner can always read and
 *   write.
 * - "max_memory_bytes" (bytes: 1 to 9223372036854775807; default 1073741824):
 *   The largest report that a call takes into memory.
 * - "wait_timeout_ms" (milliseconds: 1 to 2592000000, or -1 for no limit;
 *   default 3600000): The longest time to wait for a report that the service
 *   makes.
 * - "poll_interval_ms" (milliseconds: 1 to 86400000; default 2000): How long
 *   to wait before a report that is being made is looked at again; half as
 *   long again each time, up to 30 s or this where it is more, and varied by a
 *   fifth.
 * - "interruptible" (boolean; default false): Whether a signal that the
 *   program handles may end a call. dbss_operation_set_interrupt() sets who
 *   decides; without it every handled signal does.
 * - "log_level" (choice: error, warning, info, debug; default debug): Which
 *   records the log callback receives: those of this level and the ones that
 *   matter more.
 * - "user_agent_suffix" (text: 1 to 256 bytes): Text after "libdbss/VERSION"
 *   in the User-Agent header, such as a program's name and version. Visible
 *   ASCII characters and spaces.
 *
 * A value is text in the form of its option's type: "text", "id", "url",
 * "secret" and "path" as they are (a path is bytes, it need not be UTF-8);
 * "milliseconds", "bytes" and "number" in decimal digits, or "-1" for no limit
 * where the option says so; "mode" in octal digits; "boolean" as true or
 * false; "day" such as 2026-11-24; "choice" as one of its words.
 *
 * @param config required.
 * @param key required, option of config.
 * @param value required, bytes.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set(dbss_config *config,
                            const char *key,
                            const char *value);

/**
 * The level of a record about a call that failed. Of wrong arguments that end a call
 * before it begins there is none.
 */
#define DBSS_LOG_ERROR 1

/**
 * The level of a record about trouble that libdbss dealt with, such as a
 * transfer that broke and goes on.
 */
#define DBSS_LOG_WARNING 2

/**
 * The level of a record about what a call did.
 */
#define DBSS_LOG_INFO 3

/**
 * The level of a record about what went over the wire.
 */
#define DBSS_LOG_DEBUG 4

/**
 * A record of the log. The one that a callback receives is valid until it
 * returns, and so are the strings that the getters return of it;
 * dbss_log_record_copy() makes one that lasts. It does not change, and nothing in
 * it is secret.
 *
 * @threads any.
 */
struct dbss_log_record;

/**
 * Receives the records of the log. What happens on a mirror's own threads is
 * reported on the thread of the call.
 *
 * @param record borrowed.
 * @runs in call, concurrently.
 * @calls any.
 */
typedef void (*dbss_log_fn)(void *user_data, const dbss_log_record *record);

/**
 * Sets the log callback of the contexts made from this configuration. Without
 * one, nothing is logged anywhere.
 *
 * `destroy` is called when the callback is replaced and the configuration and
 * all contexts made from it are gone, or closed and without a call under way;
 * or at once when this function fails.
 *
 * @param config required.
 * @param log optional. NULL for none.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_log(dbss_config *config,
                                dbss_log_fn log,
                                void *user_data,
                                dbss_destroy_fn destroy);

/**
 * Copies a record, such as to hand it to another thread.
 *
 * @return owned, nullable. NULL for NULL, and where there is no memory for it.
 */
DBSS_API dbss_log_record *dbss_log_record_copy(const dbss_log_record *record);

/**
 * Frees a record that dbss_log_record_copy() made, and all strings that the
 * getters returned of it.
 */
DBSS_API void dbss_log_record_free(dbss_log_record *record);

/**
 * How important the record is; newer versions may have more levels.
 *
 * @return one of DBSS_LOG_.
 */
DBSS_API int32_t dbss_log_record_level(const dbss_log_record *record);

/**
 * The record as one line for people, without a line end. The wording may
 * change between versions.
 *
 * @return borrowed, for NULL "".
 */
DBSS_API const char *dbss_log_record_message(const dbss_log_record *record);

/**
 * What failed: the status of the call, or the cause of another attempt;
 * DBSS_OK where the record is not about a failure.
 *
 * @return status.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_log_record_status(const dbss_log_record *record);

/**
 * The number of the request within the call, counted from 1.
 *
 * @return none 0.
 */
DBSS_API uint32_t dbss_log_record_attempt(const dbss_log_record *record);

/**
 * The service's id of the request (header X-Request-Id).
 *
 * @return borrowed, nullable. NULL where the service sent none.
 */
DBSS_API const char *dbss_log_record_request_id(const dbss_log_record *record);

/**
 * The id of the report that the call is about.
 *
 * @return borrowed, nullable. NULL where it is about none.
 */
DBSS_API const char *dbss_log_record_report_id(const dbss_log_record *record);

/**
 * The size of the body.
 *
 * @return unit bytes, none -1.
 */
DBSS_API int64_t dbss_log_record_bytes(const dbss_log_record *record);

/**
 * How long the call has taken so far.
 *
 * @return unit ms, none -1.
 */
DBSS_API int64_t dbss_log_record_duration_ms(const dbss_log_record *record);

/**
 * Where in the body a transfer broke or continues, from its start.
 *
 * @return unit bytes, none -1.
 */
DBSS_API int64_t dbss_log_record_offset(const dbss_log_record *record);

/**
 * How long the call waits before its next attempt.
 *
 * @return unit ms, none -1.
 */
DBSS_API int64_t dbss_log_record_retry_delay_ms(const dbss_log_record *record);

/**
 * The failure that the record is about, with all that is known of it.
 *
 * @return owned, nullable. NULL where the record is about no failure.
 */
DBSS_API dbss_error *dbss_log_record_error(const dbss_log_record *record);

/**
 * The HTTP status of the response that the record is about, such as 200.
 *
 * @return none 0.
 */
DBSS_API int32_t dbss_log_record_http_status(const dbss_log_record *record);

/**
 * A request for a token. Give it a token with dbss_token_request_set() or
 * refuse with dbss_token_request_fail(), once, and then free it. All of that
 * at once or later, from any thread.
 *
 * @threads any.
 */
struct dbss_token_request;

/**
 * Called for a token: by the first call that needs one, before the last one
 * expires, and after the service has refused it.
 *
 * One request is under way at a time, for all calls that wait for its token.
 * Each of them obeys its own cancel and timeouts; where one has waited for its
 * "stall_timeout_ms", the next call asks anew. The call on whose thread the
 * function runs cannot be cancelled until it returns.
 *
 * @param request owned. Answer it now or later, then free it.
 * @runs in call.
 * @calls any without token.
 */
typedef void (*dbss_token_provider_fn)(void *user_data,
                                       dbss_token_request *request);

/**
 * Sets a function of yours that provides tokens, in place of other
 * credentials, for the contexts made from this configuration.
 *
 * `destroy` is called when the provider is replaced and the configuration and
 * all contexts made from it are gone, or closed and without a call under way;
 * or at once when this function fails.
 *
 * @param config required.
 * @param provider optional. NULL removes the one that was set.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_token_provider(dbss_config *config,
                                           dbss_token_provider_fn provider,
                                           void *user_data,
                                           dbss_destroy_fn destroy);

/**
 * Whether the service has refused the last token: the same one would be
 * refused again.
 *
 * @return boolean.
 */
DBSS_API int32_t dbss_token_request_refused(const dbss_token_request *request);

/**
 * Whether a call or the context may still use the token: not once the request
 * is answered, nor when the context was closed or freed and the call that asks has
 * ended, nor after another request was made. To answer all the same does no harm.
 *
 * @return boolean.
 */
DBSS_API
int32_t dbss_token_request_is_wanted(const dbss_token_request *request);

/**
 * Gives the token.
 *
 * @param request required.
 * @param token required, bytes, secret. As for dbss_config_set_token().
 * @param expires_ms unit unix-ms, none -1. When it expires, by the clock of
 *   this machine, so that the next one is asked for in time; -1 when that is
 *   not known.
 * @errors INVALID_TOKEN (also when it has expired already: the calls that wait
 *   then fail with DBSS_ERR_NO_TOKEN); INVALID_VALUE (expires_ms); ARGUMENT
 *   (the request was answered before)
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_token_request_set(dbss_token_request *request,
                                   const char *token,
                                   int64_t expires_ms);

/**
 * Says that there is no token: the calls that wait fail with
 * DBSS_ERR_NO_TOKEN, and the next call asks again.
 *
 * @param request required.
 * @param message optional. The reason, for the error's message, of which it
 *   holds at most 512 bytes. It should hold no secret.
 * @errors ARGUMENT (the request was answered before)
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_token_request_fail(dbss_token_request *request,
                                    const char *message);

/**
 * Frees a request. One that was not answered counts as failed.
 */
DBSS_API void dbss_token_request_free(dbss_token_request *request);

/* ============================================================================
 * 4. Context
 * ============================================================================ */

/**
 * A service, the credentials for it and the connections to it, which stay open
 * between calls. Make one and share it.
 *
 * After fork() a child may go on using the contexts that it inherited: it
 * opens connections of its own and leaves the parent's alone.
 *
 * @threads any.
 */
struct dbss_context;

/**
 * Makes a context from a configuration. No request is sent, but files and the
 * environment are read now. The trusted certificates are those of "ca_file"
 * where that is set, else the system's, else (where the system has none) those
 * built in. For a region without an endpoint, the environment and the regions
 * file are read. With the option "credentials", the credentials that it names.
 *
 * @param config required.
 * @param out_ctx required.
 * @errors NOT_CONFIGURED (no region or endpoint, a half of an access key, a
 *   part of an IAM user, or "credentials" names a place that has none);
 *   INVALID_CREDENTIALS; INVALID_ENDPOINT (a region's); PLAINTEXT_REFUSED;
 *   FILE (a file cannot be read); INVALID_VALUE (the CA file holds no
 *   certificate)
 * @blocks files.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_context_new(const dbss_config *config,
                             dbss_context **out_ctx);

/**
 * Replaces the credentials by a token. Calls that start afterwards use the new
 * one; calls under way finish with the old ones. When it fails, the old ones
 * stay.
 *
 * @param ctx required.
 * @param token required, bytes, secret. As for dbss_config_set_token().
 * @errors INVALID_TOKEN, CLOSED
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_context_set_token(dbss_context *ctx,
                                   const char *token);

/**
 * Cancels all calls on this context that are under way in this process, open
 * streams included: they end with DBSS_ERR_CANCELLED. Calls that start
 * afterwards run, under the same operations too.
 *
 * @blocks briefly.
 */
DBSS_API void dbss_context_cancel_all(dbss_context *ctx);

/**
 * Closes a context: ends its calls under way in this process with
 * DBSS_ERR_CANCELLED, open streams included, and later ones with
 * DBSS_ERR_CLOSED; closes its idle connections; releases its log function and
 * its token provider, whose destroy functions run now or when the last call under
 * way has ended. It waits for nothing and may be called in a callback. Closing it
 * again does nothing. The context still has to be freed, when nothing can use it
 * any more. The operation of an open stream is the stream's until that is closed.
 */
DBSS_API
void dbss_context_close(dbss_context *ctx);

/**
 * Frees a context: closes its idle connections and wipes its secrets. Calls
 * under way are not disturbed: they hold what they need until they end.
 */
DBSS_API void dbss_context_free(dbss_context *ctx);

/**
 * Credentials that were found, for people and logs: nothing in it is secret.
 *
 * @threads any.
 */
struct dbss_credentials;

/**
 * Finds the credentials that a call would use now, in the same way: by asking
 * the token provider, logging in, or asking the metadata service, where that
 * is configured and has not been done yet. dbss_context_check() tells whether
 * the service accepts them.
 *
 * @param ctx required.
 * @param out_credentials required.
 * @errors NOT_CONFIGURED (there are none); NO_TOKEN; INVALID_CREDENTIALS;
 *   SERVICE, BAD_REQUEST, UNAUTHENTICATED, FORBIDDEN, NOT_FOUND, THROTTLED,
 *   SERVER, REDIRECTED, UNEXPECTED_RESPONSE (here of IAM and the metadata
 *   service); NETWORK*
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_context_find_credentials(dbss_context *ctx,
                                          dbss_operation *operation,
                                          dbss_credentials **out_credentials);

/**
 * Checks that the service accepts the credentials, by asking it for an
 * instance of the project; nothing is downloaded or changed.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @errors INVALID_ID; UNAUTHENTICATED (it does not); FORBIDDEN (it knows them,
 *   and does not allow that); as dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_context_check(dbss_context *ctx,
                               const char *project,
                               dbss_operation *operation);

/**
 * Where they come from: "token", "access_key", "token_provider", "iam_user",
 * "environment", "profile" or "metadata". Newer versions may have more.
 *
 * @return static.
 */
DBSS_API
const char *dbss_credentials_source(const dbss_credentials *credentials);

/**
 * The same in words, with the variable, file or address.
 *
 * @return borrowed.
 */
DBSS_API
const char *dbss_credentials_description(const dbss_credentials *credentials);

/**
 * Whose they are: the user's name, or the access key without its middle.
 *
 * @return borrowed, nullable. NULL where that is not known.
 */
DBSS_API const char *dbss_credentials_name(const dbss_credentials *credentials);

/**
 * The id of the project that calls use when they are given none, as far as it
 * is known without a look-up.
 *
 * @return borrowed, nullable. NULL where it is not known.
 */
DBSS_API
const char *dbss_credentials_project(const dbss_credentials *credentials);

/**
 * When they expire.
 *
 * @return unit unix-ms, none -1. -1 where that is not known, and when they do
 *   not.
 */
DBSS_API
int64_t dbss_credentials_expires_ms(const dbss_credentials *credentials);

/**
 * Frees what was found.
 */
DBSS_API void dbss_credentials_free(dbss_credentials *credentials);

/* ============================================================================
 * 5. Download: memory, file, directory, descriptor, callback
 * ============================================================================ */

/**
 * Bytes that libdbss allocated, and how many. The only structure of this
 * library whose fields are public.
 *
 * A function that fills one overwrites it on entry and never reads it, so it
 * need not be initialised. Free it with dbss_buffer_free(), not with free().
 */
typedef struct dbss_buffer {
    /**
     * The first byte; NULL when the buffer is empty.
     * @field nullable, size len.
     */
    uint8_t *data;
    /**
     * The number of bytes.
     */
    size_t len;
} dbss_buffer;

/**
 * Frees the bytes of a buffer and sets it to { NULL, 0 }, so freeing it twice
 * is harmless.
 */
DBSS_API void dbss_buffer_free(dbss_buffer *buffer);

/**
 * A flag of the file functions: a file of the same name may be replaced, in
 * one step, when the new one is whole. Without it an existing file is kept and
 * the call fails with DBSS_ERR_FILE_EXISTS.
 */
#define DBSS_FILE_REPLACE 1

/**
 * Downloads an audit report (PDF or ZIP) into memory: the service's call
 * DownloadAuditReport. Blocks until the whole report is there or the call has
 * failed; a report that did not arrive whole is a failure. Memory grows with
 * what arrives, not with what the server announces.
 *
 * @param ctx required. Other threads may use it at the same time.
 * @param project optional. The project's id, 32 to 64 characters; NULL for the
 *   context's: that of the option "project_id", else of the credentials, else
 *   of the project with the region's name, which is looked up at IAM once.
 * @param instance required. The audit instance's id, 32 to 64 characters.
 * @param id required. The report's id, 16 to 64 characters. Ids are made of
 *   ASCII letters, digits, "-" and "_".
 * @param locale optional. The language of the report: "en-us" or "zh-cn", in
 *   any letter case, "_" for "-" accepted; NULL leaves the choice to the
 *   service, which takes en-us.
 * @param out_buf required. Receives the report.
 * @errors INVALID_ID, INVALID_LOCALE; NOT_CONFIGURED (no credentials, no
 *   project); LIMIT_EXCEEDED (larger than the option "max_memory_bytes"); as
 *   dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_download(dbss_context *ctx,
                                 const char *project,
                                 const char *instance,
                                 const char *id,
                                 const char *locale,
                                 dbss_buffer *out_buf);

/**
 * The same, under an operation.
 *
 * @param ctx, project, instance, id, locale, out_buf as dbss_report_download.
 * @errors as dbss_report_download
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_download_to_memory(dbss_context *ctx,
                                           const char *project,
                                           const char *instance,
                                           const char *id,
                                           const char *locale,
                                           dbss_operation *operation,
                                           dbss_buffer *out_buf);

/**
 * Downloads a report to a file. The file appears under its name only when it
 * is whole and on the disk; until then, and after every failure, cancel or
 * crash, what was there stays there. Its permissions are those of the option
 * "file_mode"; the operation's path is then this one.
 *
 * While it arrives the report is in a file without a name in the target's
 * directory, which goes with the process. Where a file system has no such
 * files (and for a moment before it replaces another) it is in a hidden file
 * ".dbss-XXXXXX.part", which only a killed process or a stopped machine leaves
 * behind.
 *
 * @param ctx, project, instance, id, locale as dbss_report_download.
 * @param path required, bytes. Its directory must exist and be writable.
 * @param flags flags DBSS_FILE_.
 * @errors INVALID_VALUE (path, flags); FILE_EXISTS, NOT_REGULAR_FILE (also for
 *   a symbolic link), FILE (no such directory, no permission; these three
 *   before any traffic); DISK_FULL; INVALID_ID, INVALID_LOCALE; as
 *   dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_download_to_file(dbss_context *ctx,
                                         const char *project,
                                         const char *instance,
                                         const char *id,
                                         const char *locale,
                                         const char *path,
                                         uint32_t flags,
                                         dbss_operation *operation);

/**
 * Downloads a report into a directory, under the report's own name made safe,
 * which dbss_operation_path() tells afterwards. Otherwise as
 * dbss_report_download_to_file().
 *
 * @param ctx, project, instance, id, locale, flags as
 *   dbss_report_download_to_file.
 * @param directory required, bytes. It must exist.
 * @errors as dbss_report_download_to_file (FILE_EXISTS only when the service
 *   has told the name)
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_download_to_directory(dbss_context *ctx,
                                              const char *project,
                                              const char *instance,
                                              const char *id,
                                              const char *locale,
                                              const char *directory,
                                              uint32_t flags,
                                              dbss_operation *operation);

/**
 * Downloads a report to a descriptor: a file, from its current offset; a pipe,
 * a socket, a terminal. POSIX only. What was written before a failure cannot
 * be taken back: only a call that returned DBSS_OK has written a report.
 *
 * @param ctx, project, instance, id, locale as dbss_report_download.
 * @param fd descriptor. Open for writing, blocking or not; it is never closed,
 *   and its mode not changed.
 * @errors ARGUMENT (not open for writing); BROKEN_PIPE (its reader has gone;
 *   never SIGPIPE); DISK_FULL, FILE; INVALID_ID, INVALID_LOCALE; as
 *   dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_download_to_fd(dbss_context *ctx,
                                       const char *project,
                                       const char *instance,
                                       const char *id,
                                       const char *locale,
                                       int fd,
                                       dbss_operation *operation);

/**
 * Receives the next bytes of a report, in order.
 *
 * @param data borrowed, size len. At least 1 byte.
 * @return nonzero CANCELLED. 0 to go on; anything else ends the call.
 * @runs in call.
 * @calls any.
 */
typedef int32_t (*dbss_write_fn)(void *user_data,
                                 const uint8_t *data,
                                 size_t len);

/**
 * Downloads a report to a function of yours, part by part. What was handed
 * over before a failure cannot be taken back: only a call that returned
 * DBSS_OK has handed over a report.
 *
 * @param ctx, project, instance, id, locale as dbss_report_download.
 * @param write required.
 * @errors INVALID_ID, INVALID_LOCALE; as dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_download_to_callback(dbss_context *ctx,
                                             const char *project,
                                             const char *instance,
                                             const char *id,
                                             const char *locale,
                                             dbss_write_fn write,
                                             void *user_data,
                                             dbss_operation *operation);

/* ============================================================================
 * 6. Streaming, pulled by the caller
 * ============================================================================ */

/**
 * The first bytes are neither of these. They are no text either: a body that is
 * text is no report, but DBSS_ERR_UNEXPECTED_RESPONSE or the error that it holds.
 */
#define DBSS_FORMAT_UNKNOWN 0

/**
 * A PDF: the first bytes are "%PDF-".
 */
#define DBSS_FORMAT_PDF 1

/**
 * A ZIP archive: the first bytes are "PK" and the number of a ZIP record.
 */
#define DBSS_FORMAT_ZIP 2

/**
 * A report that you read part by part, as from a file. Any thread may close it
 * or cancel its operation while another one reads.
 *
 * It goes on when its context is freed, and ends when that is closed. In a
 * child of fork() the parent's streams are refused.
 *
 * @threads one call at a time.
 */
struct dbss_report_stream;

/**
 * Opens a report: blocks until its first bytes are there. The operation
 * belongs to the stream until that is closed or freed.
 *
 * A transfer that breaks later is resumed where the service can; where it
 * cannot, the read fails, since what you have cannot be taken back.
 *
 * @param ctx, project, instance, id, locale as dbss_report_download.
 * @param out_stream required.
 * @errors INVALID_ID, INVALID_LOCALE; as dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_open(dbss_context *ctx,
                             const char *project,
                             const char *instance,
                             const char *id,
                             const char *locale,
                             dbss_operation *operation,
                             dbss_report_stream **out_stream);

/**
 * Reads some bytes: blocks until at least one is there. A failure of the
 * transfer stays: the next read fails with it again.
 *
 * @param stream required.
 * @param buf required, room cap.
 * @param cap unit bytes. At least 1.
 * @param out_len required, unit bytes. How many were read; 0 with DBSS_OK is
 *   the end, and is given only when the report was whole and its length right.
 * @errors ARGUMENT (`cap` is 0, or the stream is a parent process's); BUSY
 *   (another thread reads); as dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_stream_read(dbss_report_stream *stream,
                                    void *buf,
                                    size_t cap,
                                    size_t *out_len);

/**
 * The size of the report, as the service announced it.
 *
 * @return unit bytes, none -1.
 */
DBSS_API int64_t dbss_report_stream_size(const dbss_report_stream *stream);

/**
 * What the report is, by its first bytes.
 *
 * @return one of DBSS_FORMAT_.
 */
DBSS_API int32_t dbss_report_stream_format(const dbss_report_stream *stream);

/**
 * The report's own name, made safe, as dbss_operation_filename() gives it.
 *
 * @return borrowed.
 */
DBSS_API
const char *dbss_report_stream_filename(const dbss_report_stream *stream);

/**
 * The header Content-Type.
 *
 * @return borrowed, nullable. NULL where the service sent none.
 */
DBSS_API
const char *dbss_report_stream_content_type(const dbss_report_stream *stream);

/**
 * The service's id of the call (header X-Request-Id).
 *
 * @return borrowed, nullable. NULL where the service sent none.
 */
DBSS_API
const char *dbss_report_stream_request_id(const dbss_report_stream *stream);

/**
 * Closes a stream, read to its end or not: a read under way in another thread
 * ends with DBSS_ERR_CANCELLED, later ones fail with DBSS_ERR_CLOSED. Its
 * operation is free for another call, at once or when that read has ended. The
 * getters go on working until the stream is freed. It waits for nothing and
 * may be called in a callback. Closing it again does nothing.
 */
DBSS_API void dbss_report_stream_close(dbss_report_stream *stream);

/**
 * Closes a stream as dbss_report_stream_close() does, and frees it and all
 * strings that its getters returned.
 */
DBSS_API void dbss_report_stream_free(dbss_report_stream *stream);

/* ============================================================================
 * 7. Operation: options, progress, cancel and result of one call
 * ============================================================================ */

/**
 * Options, progress, cancel and result of one call: pass it to the call, and
 * read or cancel it from any thread while the call runs.
 *
 * It may be used again for the next call, and freed at any time, also during
 * its call. A stream is a call until it is closed or freed. In a child of
 * fork() the parent's operations are refused.
 *
 * @threads one call at a time.
 */
struct dbss_operation;

/**
 * Called to report how a call goes: when it starts, at least ten times a
 * second while it runs, whether bytes arrive or not, and when all bytes are
 * there. The getters of the operation tell the rest.
 *
 * @param operation borrowed.
 * @return nonzero CANCELLED. 0 to go on; anything else ends the call, within
 *   250 ms.
 * @runs in call.
 * @calls any.
 */
typedef int32_t (*dbss_progress_fn)(void *user_data,
                                    const dbss_operation *operation);

/**
 * Called to ask whether a signal that was handled shall end the call: when one
 * was, and once when the call begins, for those that came before it could
 * notice. Signals are blocked while it runs.
 *
 * @return nonzero INTERRUPTED. 0 to go on; anything else ends the call.
 * @runs in call.
 * @calls getters.
 */
typedef int32_t (*dbss_interrupt_fn)(void *user_data);

/**
 * Makes an operation. It holds a descriptor only while a call under it is under
 * way and has waited.
 *
 * @param out_operation required.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_operation_new(dbss_operation **out_operation);

/**
 * Frees an operation, and all strings that its getters returned. A call under
 * way goes on; it can no longer be cancelled through this handle.
 */
DBSS_API void dbss_operation_free(dbss_operation *operation);

/**
 * Sets an option for the calls of this operation, in place of the context's;
 * values are as for dbss_config_set():
 *
 * - "connect_timeout_ms" (milliseconds: 1 to 86400000, or -1 for no limit):
 *   The longest time until a connection stands: name look-up, TCP and TLS
 *   together.
 * - "stall_timeout_ms" (milliseconds: 1 to 86400000, or -1 for no limit): The
 *   longest time without a byte in or out.
 * - "total_timeout_ms" (milliseconds: 1 to 2592000000, or -1 for no limit):
 *   The longest time for a whole call.
 * - "max_attempts" (number: 1 to 1000): How many attempts a call makes when
 *   the connection fails or breaks, or the service responds with 429, 500,
 *   502, 503 or 504; counted anew after an attempt that brought 1 MiB. 1 is
 *   for no retries.
 * - "file_mode" (mode: 600 to 777): The permissions of a saved file in octal
 *   digits, whatever the umask is; the owner can always read and write.
 * - "max_memory_bytes" (bytes: 1 to 9223372036854775807): The largest report
 *   that a call takes into memory.
 * - "wait_timeout_ms" (milliseconds: 1 to 2592000000, or -1 for no limit): The
 *   longest time to wait for a report that the service makes.
 * - "poll_interval_ms" (milliseconds: 1 to 86400000): How long to wait before
 *   a report that is being made is looked at again; half as long again each
 *   time, up to 30 s or this where it is more, and varied by a fifth.
 * - "interruptible" (boolean): Whether a signal that the program handles may
 *   end a call. dbss_operation_set_interrupt() sets who decides; without it
 *   every handled signal does.
 *
 * @param operation required.
 * @param key required, option of operation.
 * @param value required, bytes.
 * @errors BUSY
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_operation_set(dbss_operation *operation,
                               const char *key,
                               const char *value);

/**
 * Sets the progress callback, in place of the one before.
 *
 * `destroy` is called when the callback is replaced, when the operation is
 * gone, or at once when this function fails.
 *
 * @param operation required.
 * @param progress optional. NULL for none.
 * @errors BUSY
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_operation_set_progress(dbss_operation *operation,
                                        dbss_progress_fn progress,
                                        void *user_data,
                                        dbss_destroy_fn destroy);

/**
 * Sets the function that is asked whether a signal ends the call, in place of
 * the one before. It counts where the option "interruptible" is true; without
 * a function every signal that the host handles ends the call.
 *
 * `destroy` is called when the function is replaced, when the operation is
 * gone, or at once when this function fails.
 *
 * @param operation required.
 * @param interrupt optional. NULL for none.
 * @errors BUSY
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_operation_set_interrupt(dbss_operation *operation,
                                         dbss_interrupt_fn interrupt,
                                         void *user_data,
                                         dbss_destroy_fn destroy);

/**
 * Cancels the call of this operation, and those to come until
 * dbss_operation_reset(). The call ends with DBSS_ERR_CANCELLED within 100 ms
 * (unless it is already over), whatever it waits for but the file system and
 * your own code. A call that starts after this ends so without any traffic.
 *
 * @signal-safe
 */
DBSS_API void dbss_operation_cancel(const dbss_operation *operation);

/**
 * Undoes a cancel and forgets the last call, its strings included; options and
 * callbacks stay.
 *
 * @param operation required.
 * @errors BUSY
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_operation_reset(dbss_operation *operation);

/**
 * How many bytes of the report have arrived, those before a resumption
 * included.
 *
 * @return unit bytes.
 */
DBSS_API int64_t dbss_operation_received(const dbss_operation *operation);

/**
 * The size of the report.
 *
 * @return unit bytes, none -1. -1 while or where it is not known.
 */
DBSS_API int64_t dbss_operation_total(const dbss_operation *operation);

/**
 * How many bytes did not have to come again because broken transfers were
 * resumed.
 *
 * @return unit bytes.
 */
DBSS_API int64_t dbss_operation_resumed(const dbss_operation *operation);

/**
 * How many requests were made so far.
 *
 * @return count.
 */
DBSS_API uint32_t dbss_operation_attempts(const dbss_operation *operation);

/**
 * How far the service is with a report that it makes (dbss_report_generate(),
 * dbss_report_wait()), or with how many of its reports a mirror is done
 * (dbss_reports_mirror()).
 *
 * @return unit percent, none -1. -1 while that is not known.
 */
DBSS_API int32_t dbss_operation_percent(const dbss_operation *operation);

/**
 * Where the report was saved, once the call has succeeded.
 *
 * @return borrowed until next call, nullable, bytes. NULL where nothing was
 *   saved.
 */
DBSS_API const char *dbss_operation_path(const dbss_operation *operation);

/**
 * The report's own name, made safe: one component of a path, not hidden. From
 * the header Content-Disposition, else made of the report's id and format, as it is
 * where the header's name is in another encoding than UTF-8.
 *
 * @return borrowed until next call, nullable. NULL until the report has begun
 *   to arrive.
 */
DBSS_API
const char *dbss_operation_filename(const dbss_operation *operation);

/**
 * The service's id of the call (header X-Request-Id).
 *
 * @return borrowed until next call, nullable. NULL until the report has begun
 *   to arrive, and where the service sent none.
 */
DBSS_API const char *dbss_operation_request_id(const dbss_operation *operation);

/**
 * The header Content-Type of the report.
 *
 * @return borrowed until next call, nullable. NULL until the report has begun
 *   to arrive, and where the service sent none.
 */
DBSS_API
const char *dbss_operation_content_type(const dbss_operation *operation);

/**
 * What the report is, by its first bytes; DBSS_FORMAT_UNKNOWN until it has
 * begun to arrive.
 *
 * @return one of DBSS_FORMAT_.
 */
DBSS_API int32_t dbss_operation_format(const dbss_operation *operation);

/**
 * Why the last call of this operation failed, from any thread: every failure
 * that the call returned, wrong arguments included, but DBSS_ERR_BUSY, which
 * is about the operation's other call. dbss_operation_set() and the other
 * functions that prepare an operation are no calls and do not change it.
 *
 * @return owned, nullable. NULL when the call has not failed, and where there is no
 *   memory for the error.
 */
DBSS_API
dbss_error *dbss_operation_error(const dbss_operation *operation);

/* ============================================================================
 * 8. Instances, reports and templates
 * ============================================================================ */

/**
 * A list of the service that is being read, page by page. It holds what it
 * needs of its context.
 *
 * @threads one call at a time.
 */
struct dbss_cursor;

/**
 * A page of a list. It never changes.
 *
 * @threads any.
 */
struct dbss_page;

/**
 * Begins the list of the project's audit instances (ListAuditInstances). No
 * request is sent: dbss_cursor_next() gives its pages.
 *
 * Fields that the service documents:
 *
 * - "id" (text): The id of the instance.
 * - "name" (text): Its name.
 * - "status" (text: ACTIVE, SHUTOFF, BUILD, DELETING, DELETED, ERROR, HAWAIT,
 *   FROZEN, UPGRADING): Its state.
 * - "region" (text): The region that it is in.
 * - "version" (text): The version of its software.
 * - "created" (text): When it was created.
 * - "expired" (text): When it expires.
 * - "remain_days" (text): How many days remain until it expires.
 * - "connect_ip" (text): The IPv4 address at which it is reached.
 * - "connect_ipv6" (text): The IPv6 address at which it is reached.
 * - "charge_model" (text): How it is paid for.
 * - "comment" (text): The customer's remark.
 * - "keep_days" (text): How many days remain until a frozen instance is
 *   deleted.
 * - "new_version" (text): The version that it can be upgraded to.
 * - "port_id" (text): The id of its network port.
 * - "resource_id" (text): The id of its resource at the service.
 * - "resource_spec_code" (text): The code of its specification.
 * - "scene" (text): The scenario that it is used for.
 * - "security_group_id" (text): The id of its security group.
 * - "specification" (text): Its specification.
 * - "subnet_id" (text): The id of its subnet.
 * - "task" (text): The task that it is busy with.
 * - "vpc_id" (text): The id of its VPC.
 * - "zone" (text): Its availability zone.
 * - "config_num" (integer): How many settings it has.
 * - "cpu" (integer): How many virtual CPUs it has.
 * - "database_limit" (integer): How many databases it may audit.
 * - "effect" (integer): Whether it is in effect.
 * - "ram" (integer): Its memory in GB.
 * - "supported_feature" (list): What it supports.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @param page_size range 1 to 1000, none 0. How many a request asks for; 0 for
 *   100.
 * @param out_cursor required, items instance.
 * @errors INVALID_ID, INVALID_VALUE (page_size), CLOSED
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_instances_list(dbss_context *ctx,
                                const char *project,
                                uint32_t page_size,
                                dbss_cursor **out_cursor);

/**
 * Begins the list of an instance's reports; otherwise as
 * dbss_instances_list().
 *
 * Fields that the service documents:
 *
 * - "id" (text): The id of the report.
 * - "name" (text): Its name.
 * - "format" (text: pdf, zip): The format of its file.
 * - "percentum" (integer): How far it is, 0 to 100; at 100 it can be
 *   downloaded.
 * - "type" (text: AUDIT_REPORT_DAY, AUDIT_REPORT_WEEK, AUDIT_REPORT_MONTH,
 *   AUDIT_REPORT_YEAR, AUDIT_REPORT_REAL_TIME): How often such a report is
 *   made.
 * - "template_type" (text): The type of the template that it was made from.
 * - "start_time" (text): When the range that it covers begins.
 * - "end_time" (text): When the range that it covers ends.
 * - "finish_time" (text): When it was ready.
 * - "db_ids" (text): The ids of the databases that it covers, joined by
 *   commas.
 * - "db_names" (text): The names of the databases that it covers.
 * - "url" (text): Where the service keeps it.
 *
 * @param ctx, project, page_size as dbss_instances_list.
 * @param instance required. The audit instance's id.
 * @param name optional. The name to look for, 1 to 256 bytes; NULL for all
 *   reports.
 * @param out_cursor required, items report.
 * @errors as dbss_instances_list
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_reports_list(dbss_context *ctx,
                              const char *project,
                              const char *instance,
                              const char *name,
                              uint32_t page_size,
                              dbss_cursor **out_cursor);

/**
 * Begins the list of an instance's report templates, which comes in one page;
 * otherwise as dbss_instances_list().
 *
 * Fields that the service documents:
 *
 * - "id" (text): The id of the template.
 * - "name" (text): Its name.
 * - "type" (text: COMPREHENSIVE, COMPLIANCE, SOX, PCI, DB_ANALYSIS,
 *   CLIENT_IP_ANALYSIS, SQL_DCL_COMMAND, SQL_DDL_COMMAND, SQL_DML_COMMAND):
 *   What its reports show.
 * - "group" (text: COMPREHENSIVE, COMPLIANCE, DB_SPECIAL, CLIENT_SPECIAL,
 *   SQL_SPECIAL): The group of its type.
 * - "status" (text: ON, OFF): Whether its schedule is on.
 * - "desc" (text): Its description.
 * - "frequency" (text): How often its schedule makes a report.
 * - "db_ids" (text): The ids of the databases that it covers, joined by
 *   commas.
 * - "db_names" (text): The names of the databases that it covers.
 *
 * @param ctx, project as dbss_instances_list.
 * @param instance required. The audit instance's id.
 * @param out_cursor required, items template.
 * @errors as dbss_instances_list
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_templates_list(dbss_context *ctx,
                                const char *project,
                                const char *instance,
                                dbss_cursor **out_cursor);

/**
 * Gives the next page, with at least one item. After a failure the same page
 * can be asked for again.
 *
 * A list may change while it is read. No item comes twice; where items were
 * deleted meanwhile, the part of the list that moved is read again, so that
 * none is left out; only where as many were added in the same moment can that
 * go unnoticed.
 *
 * @param cursor required.
 * @param out_page required. NULL with DBSS_OK at the end of the list.
 * @errors INVALID_ID (the project that the credentials name);
 *   UNEXPECTED_RESPONSE (a list that is malformed or larger than 16 MiB
 *   a page); as dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_cursor_next(dbss_cursor *cursor,
                             dbss_operation *operation,
                             dbss_page **out_page);

/**
 * Ends a list. Its pages are not affected.
 */
DBSS_API void dbss_cursor_free(dbss_cursor *cursor);

/**
 * How many items the page has.
 *
 * @return count.
 */
DBSS_API size_t dbss_page_count(const dbss_page *page);

/**
 * How many items the whole list has, as the service said with this page.
 *
 * @return count, none -1.
 */
DBSS_API int64_t dbss_page_total(const dbss_page *page);

/**
 * A field of an item, by the service's name for it, such as "id": text as it
 * is, with U+FFFD for U+0000 and "***" for a credential that the request had; a
 * number, true, false, an array or an object as its JSON.
 *
 * @param index index of dbss_page_count.
 * @param field field.
 * @return borrowed, nullable. NULL where the item has no such field or it is
 *   null, and past the last item.
 */
DBSS_API
const char *dbss_page_field(const dbss_page *page,
                            size_t index,
                            const char *field);

/**
 * The page as a JSON document, for wrappers: {"kind": "instances", "reports"
 * or "templates", "total": a number or null, "items": [...]}, where each item
 * is an object as the service sent it, fields that this library does not know
 * included.
 *
 * @param page required.
 * @param out_json required. UTF-8, without a NUL at its end.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_page_json(const dbss_page *page,
                           dbss_buffer *out_json);

/**
 * Frees a page, and the strings that dbss_page_field() returned.
 */
DBSS_API void dbss_page_free(dbss_page *page);

/**
 * The room that an id takes, with the NUL at its end.
 */
#define DBSS_ID_SIZE 65

/**
 * What a report that is to be created shall cover: options by key and value.
 *
 * @threads any.
 */
struct dbss_report_spec;

/**
 * Makes a specification without any value.
 *
 * @param out_spec required.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_report_spec_new(dbss_report_spec **out_spec);

/**
 * Sets one of the values of a specification:
 *
 * - "template_id" (id: 1 to 64 characters; required): The id of the template
 *   to make the report from.
 * - "start_time" (text: 1 to 4096 bytes; required): When the range that the
 *   report covers begins: text in the form that the service takes, such as
 *   2026-11-24 00:00:00, which is passed on as it is.
 * - "end_time" (text: 1 to 4096 bytes; required): When the range that the
 *   report covers ends; text as for "start_time".
 * - "start_date" (text: 1 to 4096 bytes): The day on which the range begins;
 *   text as for "start_time".
 * - "end_date" (text: 1 to 4096 bytes): The day on which the range ends; text
 *   as for "start_time".
 * - "db_ids" (text: 1 to 4096 bytes): The ids of the databases that the report
 *   covers, joined by commas; by default all.
 *
 * @param spec required.
 * @param key required, option of report_spec.
 * @param value required, bytes.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_spec_set(dbss_report_spec *spec,
                                 const char *key,
                                 const char *value);

/**
 * Frees a specification. Calls under way are not affected.
 */
DBSS_API void dbss_report_spec_free(dbss_report_spec *spec);

/**
 * Has the service create a report. The service says that it will, gives no id,
 * and takes its time: dbss_report_generate() finds the new report and waits.
 *
 * A request that may have reached the service is not sent again, so a lost
 * connection ends the call though the report may have been created.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @param instance required. The audit instance's id.
 * @param spec required. What the report shall cover; it may be used again.
 * @errors INVALID_ID, INVALID_VALUE, NOT_CONFIGURED (a value that is needed
 *   was not set; dbss_error_parameter() names it); REJECTED; as
 *   dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_create(dbss_context *ctx,
                               const char *project,
                               const char *instance,
                               const dbss_report_spec *spec,
                               dbss_operation *operation);

/**
 * Has the service create a report, finds the new one, waits until it is ready,
 * and gives its id, with which it can be downloaded. What was created stays,
 * also after a failure. The operation's options "wait_timeout_ms" and
 * "poll_interval_ms" count, and dbss_operation_percent() tells how far the
 * report is.
 *
 * The new report is the one that the list did not have before and that is of
 * this range, and where several are, of this template. Where several remain
 * the call fails with DBSS_ERR_AMBIGUOUS: it does not guess.
 *
 * @param ctx, project, instance, spec as dbss_report_create.
 * @param out_id required, room DBSS_ID_SIZE. Receives the id and a NUL, or ""
 *   on failure.
 * @errors NOT_FOUND (also when there is no such template); AMBIGUOUS,
 *   NOT_READY, UNEXPECTED_RESPONSE; as dbss_report_create
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_generate(dbss_context *ctx,
                                 const char *project,
                                 const char *instance,
                                 const dbss_report_spec *spec,
                                 dbss_operation *operation,
                                 char *out_id);

/**
 * Waits until a report is ready (100 percent), by looking at the list now and
 * then. The operation's options "wait_timeout_ms" and "poll_interval_ms"
 * count, and dbss_operation_percent() tells how far the report is.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @param instance required. The audit instance's id.
 * @param id required. The report's id.
 * @errors INVALID_ID; NOT_FOUND (also when the report disappears meanwhile);
 *   NOT_READY; as dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_wait(dbss_context *ctx,
                             const char *project,
                             const char *instance,
                             const char *id,
                             dbss_operation *operation);

/**
 * Deletes a report at the service, for ever.
 *
 * @param ctx, project, instance, id as dbss_report_wait.
 * @errors INVALID_ID; NOT_FOUND; REJECTED; as dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_delete(dbss_context *ctx,
                               const char *project,
                               const char *instance,
                               const char *id,
                               dbss_operation *operation);

/* ============================================================================
 * 9. Mirror: a local archive of reports
 * ============================================================================ */

/**
 * What a mirror shall hold: options by key and value.
 *
 * @threads any.
 */
struct dbss_mirror_options;

/**
 * How a mirror went. It never changes.
 *
 * @threads any.
 */
struct dbss_mirror_result;

/**
 * Makes options for a mirror, all at their defaults.
 *
 * @param out_options required.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_mirror_options_new(dbss_mirror_options **out_options);

/**
 * Sets an option of a mirror:
 *
 * - "instance" (id: 32 to 64 characters): The id of the one audit instance to
 *   mirror; by default all.
 * - "since" (day): The first day on which the range of a report may begin,
 *   such as 2026-11-24. A report that tells no day is taken.
 * - "until" (day): The last day on which the range of a report may begin.
 * - "type" (text: 1 to 256 bytes): The type of the reports, such as
 *   AUDIT_REPORT_DAY.
 * - "template" (text: 1 to 256 bytes): The template_type of the reports.
 * - "name" (text: 1 to 256 bytes): A name that the service is asked to look
 *   for.
 * - "locale" (choice: en-us, zh-cn): The language of the reports; by default
 *   the service's choice. Each language is a report of its own in the archive.
 * - "utc_offset" (text: 1 to 6 bytes; default +00:00): The offset from UTC of
 *   the days that reports are of, such as +08:00, for "since" and "until", the
 *   periods without a report and the directories of years. Times that name no
 *   offset are taken for UTC.
 * - "parallel" (number: 1 to 16; default 4): How many reports are downloaded
 *   at once.
 * - "verify" (boolean; default false): Whether the files that are there are
 *   read and compared with the manifest; one that differs is downloaded again,
 *   and replaced when the new one is whole.
 *
 * @param options required.
 * @param key required, option of mirror.
 * @param value required, bytes.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_mirror_options_set(dbss_mirror_options *options,
                                    const char *key,
                                    const char *value);

/**
 * Frees options. Mirrors under way are not affected.
 */
DBSS_API void dbss_mirror_options_free(dbss_mirror_options *options);

/**
 * Brings a local archive of reports up to date: downloads every report that is
 * ready and not there yet, several at once. What is there stays: nothing is
 * ever deleted, not even what the service has deleted. The operation's bytes
 * are those of all downloads together, its percents those of the reports.
 *
 * The directory then holds:
 *
 * - {instance}/{year}/{name}_{id}.pdf (or .zip): the reports, each of which
 *   appears only when it is whole and on the disk; with a locale, _{locale}
 *   stands before the ending. Where another report's file would have the same
 *   name on some file system, 16 digits made of the id do too.
 * - manifest.jsonl: a line of JSON for each, with id, name, instance, locale,
 *   format, type, start_time, end_time, path, size, sha256, and the request id
 *   and date of its download (null for one that was found whole). Where an id
 *   has several lines, the last counts.
 * - SHA256SUMS, which "sha256sum -c" takes.
 * - .dbss-mirror.lock: one mirror at a time works on a directory, and the lock
 *   dies with its process.
 *
 * A mirror that was cancelled or killed continues when it is called again. One
 * report's failure does not stop the others, but for refused credentials and a
 * full disk, which would fail them all.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @param directory required, bytes. It is made if it does not exist.
 * @param options optional. What to hold; NULL for all reports.
 * @param out_result required, set on failure. How it went; NULL where it did
 *   not begin.
 * @errors INVALID_VALUE, INVALID_ID; MIRROR_LOCKED; PARTIAL (some reports
 *   failed to download, see dbss_mirror_result_failure_count()); FILE*; as
 *   dbss_cursor_next
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_reports_mirror(dbss_context *ctx,
                                const char *project,
                                const char *directory,
                                const dbss_mirror_options *options,
                                dbss_operation *operation,
                                dbss_mirror_result **out_result);

/**
 * Reports that the service lists and the filters let pass.
 *
 * @return count.
 */
DBSS_API int64_t dbss_mirror_result_listed(const dbss_mirror_result *result);

/**
 * Reports that are in the archive since this run.
 *
 * @return count.
 */
DBSS_API
int64_t dbss_mirror_result_downloaded(const dbss_mirror_result *result);

/**
 * Reports that were in the archive before.
 *
 * @return count.
 */
DBSS_API int64_t dbss_mirror_result_present(const dbss_mirror_result *result);

/**
 * Reports that the service is still making.
 *
 * @return count.
 */
DBSS_API int64_t dbss_mirror_result_not_ready(const dbss_mirror_result *result);

/**
 * Reports that were deleted between the list and the download.
 *
 * @return count.
 */
DBSS_API int64_t dbss_mirror_result_vanished(const dbss_mirror_result *result);

/**
 * Reports, or lists of them, that failed; each has an error.
 *
 * @return count.
 */
DBSS_API int64_t dbss_mirror_result_failed(const dbss_mirror_result *result);

/**
 * Files that differed from the manifest and were replaced.
 *
 * @return count.
 */
DBSS_API int64_t dbss_mirror_result_repaired(const dbss_mirror_result *result);

/**
 * How many reports, or lists of them, failed.
 *
 * @return count.
 */
DBSS_API
size_t dbss_mirror_result_failure_count(const dbss_mirror_result *result);

/**
 * The id of a report that failed to download; "" where it was the list of an
 * instance's reports that failed.
 *
 * @param index index of dbss_mirror_result_failure_count.
 * @return borrowed, nullable. NULL past the last one.
 */
DBSS_API
const char *dbss_mirror_result_failure_id(const dbss_mirror_result *result,
                                          size_t index);

/**
 * The id of the instance of a report that failed to download.
 *
 * @param index index of dbss_mirror_result_failure_count.
 * @return borrowed, nullable. NULL past the last one.
 */
DBSS_API
const char *dbss_mirror_result_failure_instance(const dbss_mirror_result *result,
                                                size_t index);

/**
 * Why a report failed to download. Of each text of the service it has at most
 * 1 KiB, and as much of its details together.
 *
 * @param index index of dbss_mirror_result_failure_count.
 * @return owned, nullable. NULL past the last one, and where there is no memory
 *   for it.
 */
DBSS_API
dbss_error *dbss_mirror_result_failure_error(const dbss_mirror_result *result,
                                             size_t index);

/**
 * How many days, weeks and months have no report, of those between the first
 * and the last report of an instance and a type (AUDIT_REPORT_DAY, _WEEK,
 * _MONTH), or since "since" and until "until".
 *
 * @return count.
 */
DBSS_API size_t dbss_mirror_result_gap_count(const dbss_mirror_result *result);

/**
 * The first day of a gap, such as "2026-11-24".
 *
 * @param index index of dbss_mirror_result_gap_count.
 * @return borrowed, nullable. NULL past the last one.
 */
DBSS_API
const char *dbss_mirror_result_gap_period(const dbss_mirror_result *result,
                                          size_t index);

/**
 * The type of report that a gap lacks.
 *
 * @param index index of dbss_mirror_result_gap_count.
 * @return borrowed, nullable. NULL past the last one.
 */
DBSS_API
const char *dbss_mirror_result_gap_type(const dbss_mirror_result *result,
                                        size_t index);

/**
 * The id of the instance of a gap.
 *
 * @param index index of dbss_mirror_result_gap_count.
 * @return borrowed, nullable. NULL past the last one.
 */
DBSS_API
const char *dbss_mirror_result_gap_instance(const dbss_mirror_result *result,
                                            size_t index);

/**
 * The whole result as a JSON document, for wrappers: the counts by their
 * names; "failures", each with instance, id, status, status_name, message;
 * "gaps", each with instance, type, period.
 *
 * @param result required.
 * @param out_json required. UTF-8, without a NUL at its end.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_mirror_result_json(const dbss_mirror_result *result,
                                    dbss_buffer *out_json);

/**
 * Frees a result, and the strings that its getters returned.
 */
DBSS_API void dbss_mirror_result_free(dbss_mirror_result *result);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* DBSS_H */
