/*
 * libdbss: downloads the audit reports of Huawei Cloud's Database Security
 * Service (DBSS). Generated from src/ffi; do not edit.
 *
 * A complete program: it prints an audit report, or an error message.
 *
 *     #include <dbss.h>
 *     #include <stdio.h>
 *     #include <stdlib.h>
 *
 *     int main(int argc, char **argv)
 *     {
 *         if (argc != 4) {
 *             fprintf(stderr, "usage: %s PROJECT INSTANCE REPORT\n", argv[0]);
 *             return 2;
 *         }
 *         dbss_config *config = NULL;
 *         dbss_context *ctx = NULL;
 *         dbss_buffer report = {0};
 *         if (dbss_config_new(&config) == DBSS_OK
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
 * Its arguments are the ids of a project, an audit instance and a report.
 * Compile it with: cc program.c -ldbss
 *
 * Ways to download a report, the simplest first:
 *
 * - dbss_report_download: into memory, as above; dbss_report_download_to_memory:
 *   the same with an operation.
 * - dbss_report_download_to_file: to a file, which appears only when it is
 *   complete; dbss_report_download_to_directory: under the report's own name.
 * - dbss_report_download_to_fd, dbss_report_download_to_callback: to a
 *   descriptor or to a function of yours, while it arrives.
 * - dbss_report_open: read in parts, as from a file.
 *
 * All but the first take a dbss_operation, with which any thread can watch
 * and cancel the call. A broken transfer is resumed or restarted, up to
 * "max_attempts". dbss_report_generate() creates a report, and
 * dbss_reports_mirror() keeps a local archive of all reports up to date.
 *
 * These rules apply to every function. Comments only mention differences.
 *
 * - Errors. A function that can fail returns a dbss_status; DBSS_OK is 0. It
 *   also sets this thread's last error (dbss_last_error()), which has the
 *   details, or clears it on success. Other functions do not change it. If the
 *   thread may change between two calls, read the error from the operation
 *   (dbss_operation_error()), which keeps every failure of its last call except
 *   DBSS_ERR_BUSY; or call a function and dbss_error_take() together in a C
 *   function.
 * - Results are stored through parameters whose names begin with "out_". They
 *   need not be initialised, and are NULL or zero after a failure, unless the
 *   comment says "set on failure". A handle or buffer that is stored there is
 *   yours: free it with the "_free" function of its type.
 * - NULL. If a comment says "required", NULL is DBSS_ERR_NULL_ARGUMENT; of
 *   several, dbss_error_parameter() names the first out-parameter, else the
 *   first parameter. If it says "optional", NULL means a default or none. This
 *   also applies to every operation, user_data and destroy. Functions that
 *   cannot fail accept NULL: they do nothing, or return NULL, 0, or the value
 *   in the comment.
 * - Strings are NUL-terminated UTF-8; "bytes" need not be UTF-8. Arguments are
 *   copied or used before the function returns. A "borrowed" string is valid
 *   until its handle is freed, unless the comment says otherwise; a "static"
 *   one is always valid; you must free an "owned" result.
 * - Handles (dbss_config, dbss_context, dbss_operation and so on) are opaque.
 *   One may be freed while another thread is inside a call on it: the call
 *   keeps what it needs. Only a call that starts after "_free" is an error of
 *   the program, including dbss_operation_cancel(): if both may happen,
 *   synchronize them.
 * - Closing. dbss_context_close() and dbss_report_stream_close() end running
 *   calls, from any thread, without freeing. Running calls end with
 *   DBSS_ERR_CANCELLED within 100 ms, unless they wait for the file system or
 *   code of yours; later calls end with DBSS_ERR_CLOSED. Closing releases what
 *   running calls do not need: descriptors, the log function and the token
 *   provider. In a language with garbage collection, close explicitly and free
 *   in a finalizer.
 * - Threads. Every function may be called from any thread at any time, also on
 *   shared handles, in a function of atexit() and in a static destructor, but
 *   not in a destructor of thread-local data. A handle for "one call at a
 *   time" refuses a second call with DBSS_ERR_BUSY; its getters, cancel and
 *   close still work.
 * - fork(). A child may use the contexts that it inherited, but not the streams
 *   and operations. Of all other objects it should make its own. It may free
 *   what it inherited, if no other thread used it at the moment of fork().
 * - Blocking. A function with "@blocks network" blocks until it is done, has
 *   failed or is cancelled; "files" reads or writes files; "briefly" may wait
 *   for another thread for a moment. Functions without @blocks do not wait, but
 *   a destroy function of yours may run in them.
 * - Statuses. @errors lists the statuses with which a function may fail,
 *   without "DBSS_ERR_"; a * after a group stands for all of the group. Some
 *   are not listed: NULL_ARGUMENT if something is required; INVALID_UTF8 if
 *   there are strings; UNKNOWN_KEY and the statuses of invalid values if there
 *   is the key of an option; BUSY if there is an operation, and ARGUMENT if the
 *   operation belongs to the parent process; RESOURCE, CANCELLED, CLOSED,
 *   INTERRUPTED and PLAINTEXT_REFUSED (a name of this machine resolves to
 *   another host) with "@blocks network"; and OUT_OF_MEMORY and INTERNAL, with
 *   which any call may fail.
 * - Tags. In @param and @return the words before the first full stop are data,
 *   also in dbss-abi.json. "none -1": this value means none. "for NULL X": the
 *   result for NULL. "room N", "size N": the number of bytes. "index of F":
 *   less than the result of F(). "one of P", "flags P": constants that begin
 *   with P. "option of", "items", "field": a name of such a list. "@calls":
 *   which functions a callback may call: "any", "any without token" (none that
 *   may call a token provider), "getters" of its arguments.
 * - Callbacks get the user_data pointer that was set with them, which is never
 *   dereferenced and may be any value of its size. If a callback is stored, its
 *   destroy function is called with user_data exactly once, when it is no
 *   longer needed, also if setting the callback failed. "In call" means that a
 *   callback runs on the thread of its call, "at release" on the thread that
 *   releases it last; none ever runs on a thread of the library. No lock is
 *   held meanwhile. A callback may call functions of the library; the last
 *   error is restored afterwards. A call under the running operation fails with
 *   DBSS_ERR_BUSY. A callback must not throw, longjmp or end its thread: the
 *   process would end, or, on Linux, a thread that calls pthread_exit() would
 *   hang for ever.
 * - Signals. The library installs no handler. A signal that your program
 *   handles does not end a call, unless the option "interruptible" is set. Then
 *   signals are blocked in the call's thread, except while it waits and in
 *   your callbacks, which run with your signal mask. A signal that arrives
 *   during a callback is for the callback: it ends the call only if the
 *   interrupt function, which is asked afterwards, says so, or if the callback
 *   itself ends it. Only dbss_operation_cancel() may be called from a signal
 *   handler.
 * - pthread_cancel() of a thread inside a function takes effect when the
 *   function returns. A stack of 64 KiB is enough for every call.
 * - Memory. A call that gets no memory fails with DBSS_ERR_OUT_OF_MEMORY: a
 *   reserve of 744 KiB serves what it needs to end. Two allocations cannot come
 *   from the reserve, and the process ends without them, so a call checks
 *   before: 48 bytes for a thread that the library starts, and 32 for each
 *   thread's first call.
 * - Numbers. Durations are int64_t milliseconds and sizes of reports int64_t
 *   bytes, -1 for unknown or none. Sizes in memory are size_t, and so are counts
 *   of what has an index, which begins with 0. Numbers of reports and items at
 *   the service are int64_t; numbers of attempts, and of items in a page that a
 *   call requests, are uint32_t. Booleans are int32_t, 0 or 1.
 * - The library does not change the process: no output, no change of the
 *   environment or locale, no SIGPIPE, no exit. Descriptors are close-on-exec,
 *   and never 0, 1 or 2. If the process has closed one of these, the library
 *   opens it for neither reading nor writing, so that nothing else gets its
 *   number; use dup2() to open your own. Only dbss_context_new() reads
 *   environment variables: SSL_CERT_FILE and SSL_CERT_DIR, which name the
 *   system's certificates; for a region HUAWEICLOUD_SDK_REGION_DBSS_{REGION},
 *   HUAWEICLOUD_SDK_REGIONS_FILE and HOME; HUAWEICLOUD_SDK_IAM_ENDPOINT, unless
 *   "iam_endpoint" is set; and those of the options "credentials" and
 *   "proxy_from_environment", if these are set.
 * - From the first release on, the ABI only grows: no function, value or
 *   signature changes. For programs that generate wrappers, dbss-abi.json has
 *   all of this as data, and dbss.cdef.h has the declarations without a
 *   preprocessor.
 */

#ifndef DBSS_H
#define DBSS_H

#include <stddef.h>
#include <stdint.h>

/* Compiler attributes: exported symbols, results that must be checked, and
 * deprecated declarations with their version. */
#if defined(__GNUC__)
#define DBSS_API __attribute__((visibility("default")))
#define DBSS_WARN_UNUSED __attribute__((warn_unused_result))
#define DBSS_DEPRECATED(since) __attribute__((deprecated("since " since)))
#else
#define DBSS_API
#define DBSS_WARN_UNUSED
#define DBSS_DEPRECATED(since)
#endif

/** The version of this header; dbss_version() returns that of the library. */
#define DBSS_VERSION "0.1.0"
/** The first part of the version. */
#define DBSS_VERSION_MAJOR 0
/** The second part of the version. */
#define DBSS_VERSION_MINOR 1
/** The third part of the version. */
#define DBSS_VERSION_PATCH 0
/** The version as a number, for comparison in preprocessor lines. */
#define DBSS_VERSION_NUMBER \
    (DBSS_VERSION_MAJOR * 10000 + DBSS_VERSION_MINOR * 100 + DBSS_VERSION_PATCH)

/** The name of the shared library on Linux, for dlopen(). */
#define DBSS_SONAME "libdbss.so.0"

#ifdef __cplusplus
extern "C" {
#endif

/* The handles; each is documented in its section. */
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
typedef struct dbss_schedule_changes dbss_schedule_changes;
typedef struct dbss_mirror_options dbss_mirror_options;
typedef struct dbss_mirror_result dbss_mirror_result;

/* ============================================================================
 * 1. Version, features, statuses, options
 * ============================================================================ */

/**
 * The version of the loaded library, such as "0.1.0". Compare it with
 * DBSS_VERSION, the version of the header.
 *
 * @return static.
 */
DBSS_API const char *dbss_version(void);

/**
 * The version as a number, for comparison: major * 10000 + minor * 100 +
 * patch, as in DBSS_VERSION_NUMBER.
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
 * The number of features in this version.
 *
 * @return count.
 */
DBSS_API size_t dbss_feature_count(void);

/**
 * The name of a feature, for dbss_has_feature().
 *
 * @param index index of dbss_feature_count.
 * @return static, nullable. NULL past the last one.
 */
DBSS_API const char *dbss_feature_name(size_t index);

/**
 * The description of a feature.
 *
 * @param index index of dbss_feature_count.
 * @return static, nullable. NULL past the last one.
 */
DBSS_API const char *dbss_feature_help(size_t index);

/**
 * The result of a call: DBSS_OK, or one of the DBSS_ERR_ values below.
 *
 * Values never change their meaning. New ones may appear inside a group (a
 * range of one hundred), so treat an unknown value like its group: see
 * dbss_status_group().
 */
typedef int32_t dbss_status;

/**
 * The call succeeded.
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
 * A project, instance or report id has an invalid length or character.
 */
#define DBSS_ERR_INVALID_ID 103

/**
 * The locale is neither en-us nor zh-cn.
 */
#define DBSS_ERR_INVALID_LOCALE 104

/**
 * The token is empty, too long, or has a character that is not allowed in a
 * header.
 */
#define DBSS_ERR_INVALID_TOKEN 105

/**
 * The endpoint is not a usable URL, or the region is not a region's name.
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
 * A required setting is missing: an endpoint or region, credentials, or a
 * required key of a report spec.
 */
#define DBSS_ERR_NOT_CONFIGURED 110

/**
 * The operation is in use by another call.
 */
#define DBSS_ERR_BUSY 111

/**
 * An access key, its secret or its security token is empty, too long, or has a
 * character that is not allowed.
 */
#define DBSS_ERR_INVALID_ACCESS_KEY 112

/**
 * Credentials in the environment or the profile file are incomplete or
 * malformed, or the profile file is malformed.
 */
#define DBSS_ERR_INVALID_CREDENTIALS 113

/**
 * The token or passcode provider failed, or returned something invalid.
 */
#define DBSS_ERR_NO_TOKEN 114

/**
 * The context or the stream was closed before the call.
 */
#define DBSS_ERR_CLOSED 115

/**
 * Group of 2xx: the service responded, but not with the requested result. Also
 * the status of a service's error that has no status below.
 */
#define DBSS_ERR_SERVICE 200

/**
 * HTTP 400: the service refused the request as malformed.
 */
#define DBSS_ERR_BAD_REQUEST 201

/**
 * HTTP 401: the service rejected the credentials (expired, of another region,
 * wrong).
 */
#define DBSS_ERR_UNAUTHENTICATED 202

/**
 * HTTP 403: the credentials are valid, but do not allow this.
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
 * HTTP 3xx: the service redirected the request, and the redirect was not
 * followed; see dbss_error_redirect_target().
 */
#define DBSS_ERR_REDIRECTED 207

/**
 * A successful response that is not a report (an empty body, a JSON document,
 * a web page), or an HTTP status that is not expected for this call.
 */
#define DBSS_ERR_UNEXPECTED_RESPONSE 208

/**
 * The service reported that it did not create or delete the report, or did not
 * change the schedule.
 */
#define DBSS_ERR_REJECTED 209

/**
 * The report was not ready within "wait_timeout_ms".
 */
#define DBSS_ERR_NOT_READY 210

/**
 * Several new reports may be the created one; dbss_error_candidate() returns
 * their ids.
 */
#define DBSS_ERR_AMBIGUOUS 211

/**
 * Some reports of a mirror failed to download; the others are in the archive.
 */
#define DBSS_ERR_PARTIAL 212

/**
 * Group of 3xx: the network failed, or the data from it is invalid.
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
 * The server's certificate is not trusted, not valid now, or of another host.
 */
#define DBSS_ERR_CERTIFICATE 304

/**
 * "connect_timeout_ms" elapsed before the connection was established.
 */
#define DBSS_ERR_CONNECT_TIMEOUT 305

/**
 * "stall_timeout_ms" elapsed without a byte sent or received.
 */
#define DBSS_ERR_STALLED 306

/**
 * "total_timeout_ms" elapsed.
 */
#define DBSS_ERR_TOTAL_TIMEOUT 307

/**
 * The connection broke before the response's header was complete.
 */
#define DBSS_ERR_CONNECTION_LOST 308

/**
 * The body ended or broke before its end. Nothing is left in memory or in a
 * file; a descriptor, callback or stream may have received its beginning.
 */
#define DBSS_ERR_TRUNCATED 309

/**
 * The response is not valid HTTP.
 */
#define DBSS_ERR_PROTOCOL 310

/**
 * The body is compressed, although libdbss did not request compression.
 */
#define DBSS_ERR_CONTENT_ENCODING 311

/**
 * The transfer broke and cannot be resumed: the report changed meanwhile, or
 * the service does not support resuming, and bytes that were already passed on
 * cannot be taken back.
 */
#define DBSS_ERR_NOT_RESUMABLE 312

/**
 * Group of 4xx: a local file could not be read or written.
 */
#define DBSS_ERR_FILE 400

/**
 * A file with this name exists, and may not be replaced.
 */
#define DBSS_ERR_FILE_EXISTS 401

/**
 * The target is a directory, a link or a device, and not a regular file.
 */
#define DBSS_ERR_NOT_REGULAR_FILE 402

/**
 * The disk is full, or a quota or size limit is reached.
 */
#define DBSS_ERR_DISK_FULL 403

/**
 * The reader of the pipe or socket has closed it.
 */
#define DBSS_ERR_BROKEN_PIPE 404

/**
 * Another mirror is using the directory.
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
 * A signal that the program handled ended the call; see the option
 * "interruptible".
 */
#define DBSS_ERR_INTERRUPTED 601

/**
 * Group of 7xx: libdbss has a defect. The call was abandoned; the process and
 * other calls are not affected.
 */
#define DBSS_ERR_INTERNAL 700

/**
 * The name of a status in this header, such as "DBSS_ERR_NOT_FOUND", or
 * "DBSS_ERR_UNKNOWN" for a value that this version does not know.
 *
 * @return static.
 */
DBSS_API const char *dbss_status_name(dbss_status status);

/**
 * The general meaning of a status. dbss_error_message() describes the
 * particular error.
 *
 * @return static.
 */
DBSS_API const char *dbss_status_message(dbss_status status);

/**
 * The status of the group of a status: DBSS_OK, DBSS_ERR_ARGUMENT,
 * DBSS_ERR_SERVICE, DBSS_ERR_NETWORK, DBSS_ERR_FILE, DBSS_ERR_RESOURCE,
 * DBSS_ERR_CANCELLED or DBSS_ERR_INTERNAL. Values that are newer than this
 * library have a group too. A value outside of all ranges counts as
 * DBSS_ERR_INTERNAL.
 *
 * @return status.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_status_group(dbss_status status);

/**
 * The number of statuses in this version, including DBSS_OK.
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
 * The values of the changes of a schedule: dbss_schedule_changes_set().
 */
#define DBSS_OPTIONS_SCHEDULE 5

/**
 * The number of options in a set. 0 for a set that the loaded library does not
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
 * Newer versions may add types. A "secret" must not appear on a command line
 * or in a log.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL past the last one.
 */
DBSS_API const char *dbss_option_type(int32_t set, size_t index);

/**
 * The default of an option, as text. The options of an operation have none,
 * because they default to the context's.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL if the option is unset by default, and past
 *   the last one.
 */
DBSS_API const char *dbss_option_default(int32_t set, size_t index);

/**
 * A description of an option, in a sentence or two. The other getters return
 * its type, default and range.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL past the last one.
 */
DBSS_API const char *dbss_option_help(int32_t set, size_t index);

/**
 * The values of an option of the type "choice", separated by commas, such as
 * "en-us,zh-cn".
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL for other types, and past the last one.
 */
DBSS_API const char *dbss_option_choices(int32_t set, size_t index);

/**
 * The minimum of an option of the type "number", "milliseconds", "bytes" or
 * "mode" (384 for the octal 600), or the minimum length of a text in bytes.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return none -1. -1 if there is none, and past the last one.
 */
DBSS_API int64_t dbss_option_minimum(int32_t set, size_t index);

/**
 * The maximum of an option, or the maximum length of a text, as for
 * dbss_option_minimum().
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return none -1. -1 if there is none, and past the last one.
 */
DBSS_API int64_t dbss_option_maximum(int32_t set, size_t index);

/**
 * Whether an option also accepts "-1", which means no limit.
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
 * Why a call failed: a status, a message, and the details from the service and
 * the operating system. It never changes.
 *
 * There are two ways to get one: dbss_last_error() lends the thread's last
 * error, and dbss_error_take() passes it to you.
 *
 * @threads any.
 */
struct dbss_error;

/**
 * The error of this thread's last call of a function that can fail. Other
 * functions, such as getters, neither set nor clear it. Do not free it or pass
 * it to another thread; use dbss_error_take() for that.
 *
 * @return borrowed until next error, nullable. NULL when that call succeeded,
 *   or when there was no call.
 */
DBSS_API const dbss_error *dbss_last_error(void);

/**
 * Takes the same error: it is yours until you free it, on any thread.
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
 * One line for people: what was wrong and what to do, with the service's
 * message and request id if there are any. It contains no secrets and no
 * control characters. The wording may change between versions, so programs
 * should use the other getters.
 *
 * @return borrowed, for NULL "".
 */
DBSS_API const char *dbss_error_message(const dbss_error *error);

/**
 * Words of the message that are the same in every language.
 */
#define DBSS_PART_TEXT 0

/**
 * The name of a parameter of a function, or the key of an option. A language
 * with other names has its own here.
 */
#define DBSS_PART_NAME 1

/**
 * What was given for a parameter or an option. Options are in quotes, as they
 * are given as text here: a language in which they have types has the value as
 * its users wrote it.
 */
#define DBSS_PART_VALUE 2

/**
 * A duration in milliseconds, such as "250", or with its unit "250 ms". A
 * language that has other units has them here.
 */
#define DBSS_PART_DURATION 3

/**
 * The permissions of a file in octal digits, such as "640".
 */
#define DBSS_PART_MODE 4

/**
 * How a value is written as text, such as "octal digits ". A language in which
 * the value has a type leaves it out.
 */
#define DBSS_PART_NOTATION 5

/**
 * "NULL", or what another language calls it.
 */
#define DBSS_PART_NULL 6

/**
 * The value that means no limit, "-1" here.
 */
#define DBSS_PART_NO_LIMIT 7

/**
 * The value for a time that is not known, "-1" here.
 */
#define DBSS_PART_UNKNOWN 8

/**
 * "allow replacing it", or how a language does that.
 */
#define DBSS_PART_REPLACE 9

/**
 * What an object is called, such as "context" or "cursor".
 */
#define DBSS_PART_OBJECT 10

/**
 * The number of parts of the message. Together their texts are the message. A
 * package for another language makes the message of its own error of them, with
 * its own names, units and values; a program in C has no use for them.
 *
 * @return count.
 */
DBSS_API size_t dbss_error_part_count(const dbss_error *error);

/**
 * What a part of the message is. Newer versions may add values: they are used
 * as DBSS_PART_TEXT.
 *
 * @param index index of dbss_error_part_count.
 * @return one of DBSS_PART_.
 */
DBSS_API int32_t dbss_error_part_kind(const dbss_error *error, size_t index);

/**
 * The text of a part of the message, as a program in C shows it.
 *
 * @param index index of dbss_error_part_count.
 * @return borrowed, nullable. NULL past the last one.
 */
DBSS_API
const char *dbss_error_part_text(const dbss_error *error,
                                 size_t index);

/**
 * The name of the parameter or option at fault. It is always set for a status
 * of the group DBSS_ERR_ARGUMENT that is about one, and rarely for others.
 *
 * @return borrowed, nullable. NULL if no parameter is at fault.
 */
DBSS_API const char *dbss_error_parameter(const dbss_error *error);

/**
 * The HTTP status of the response, such as 404.
 *
 * @return none 0. 0 when there was no response.
 */
DBSS_API int32_t dbss_error_http_status(const dbss_error *error);

/**
 * The service's own error code, such as "DBSS.10021004" or "APIG.0301". A code
 * that was sent as a number is in decimal.
 *
 * @return borrowed, nullable. NULL if the service sent none.
 */
DBSS_API const char *dbss_error_service_code(const dbss_error *error);

/**
 * The service's own error message, unchanged except that bytes that are not
 * UTF-8, and U+0000, are replaced by U+FFFD, and the secrets of the request
 * by "***". It may contain control characters.
 *
 * @return borrowed, nullable. NULL if the service sent none.
 */
DBSS_API const char *dbss_error_service_message(const dbss_error *error);

/**
 * The service's id of this call (header X-Request-Id, or request_id in the
 * body). Quote it to the service's support.
 *
 * @return borrowed, nullable. NULL if the service sent none.
 */
DBSS_API const char *dbss_error_request_id(const dbss_error *error);

/**
 * The encoded message that explains a refused authorization. An API of the
 * service can decode it.
 *
 * @return borrowed, nullable. NULL if the service sent none.
 */
DBSS_API
const char *dbss_error_encoded_authorization_message(const dbss_error *error);

/**
 * The number of entries in the "details" of the error body.
 *
 * @return count.
 */
DBSS_API size_t dbss_error_detail_count(const dbss_error *error);

/**
 * The error code of one of the "details".
 *
 * @param index index of dbss_error_detail_count.
 * @return borrowed, nullable. NULL if the entry has none, or past the last
 *   one.
 */
DBSS_API
const char *dbss_error_detail_code(const dbss_error *error,
                                   size_t index);

/**
 * The message of one of the "details".
 *
 * @param index index of dbss_error_detail_count.
 * @return borrowed, nullable. NULL if the entry has none, or past the last
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
 * What cancelled the call, for DBSS_ERR_CANCELLED. Newer versions may add
 * values.
 *
 * @return one of DBSS_CANCELLED_BY_, none 0.
 */
DBSS_API int32_t dbss_error_cancelled_by(const dbss_error *error);

/**
 * The number of reports that may be the created one, after a failure of
 * dbss_report_generate(): several for DBSS_ERR_AMBIGUOUS; one if the report was
 * found before the failure, so that dbss_report_wait() can go on.
 *
 * @return count.
 */
DBSS_API size_t dbss_error_candidate_count(const dbss_error *error);

/**
 * The id of a report that may be the created one.
 *
 * @param index index of dbss_error_candidate_count.
 * @return borrowed, nullable. NULL past the last one.
 */
DBSS_API
const char *dbss_error_candidate(const dbss_error *error,
                                 size_t index);

/**
 * Where the service redirected to, for DBSS_ERR_REDIRECTED: the header
 * Location without user information, query and fragment, which may hold secrets.
 *
 * @return borrowed, nullable. NULL if there is none.
 */
DBSS_API
const char *dbss_error_redirect_target(const dbss_error *error);

/**
 * The file or directory at fault, such as the file that exists already
 * (DBSS_ERR_FILE_EXISTS).
 *
 * @return borrowed, nullable, bytes. NULL if no file is at fault.
 */
DBSS_API const char *dbss_error_path(const dbss_error *error);

/**
 * The value of errno that the operating system returned.
 *
 * @return none 0.
 */
DBSS_API int32_t dbss_error_os_code(const dbss_error *error);

/**
 * Whether the cause is temporary (throttling, a failing server, a broken or
 * stalled connection, a timeout), so that the same call may succeed later.
 *
 * @return boolean.
 */
DBSS_API int32_t dbss_error_is_retryable(const dbss_error *error);

/**
 * The wait before the next attempt that the service requests (header
 * Retry-After, in seconds or as a date).
 *
 * @return unit ms, none -1.
 */
DBSS_API int64_t dbss_error_retry_after_ms(const dbss_error *error);

/**
 * The number of requests before the call gave up, without those for
 * credentials and projects.
 *
 * @return count.
 */
DBSS_API uint32_t dbss_error_attempts(const dbss_error *error);

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
 * Each setter checks its value immediately. When it fails, the configuration
 * is not changed.
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
 * Frees a configuration and wipes its secrets. Contexts made from it are not
 * affected.
 */
DBSS_API void dbss_config_free(dbss_config *config);

/**
 * Sets the region, such as "cn-north-4". Unless an endpoint is set too, it is
 * determined when the context is made, as in the official SDKs: from the
 * variable HUAWEICLOUD_SDK_REGION_DBSS_{REGION} (upper case, "_" for "-");
 * else from the service DBSS in the regions file
 * (HUAWEICLOUD_SDK_REGIONS_FILE, or ~/.huaweicloud/regions.yaml); else it is
 * https://dbss.{region}.myhuaweicloud.com. If no project is set, the project
 * with the region's name is looked up.
 *
 * @param config required.
 * @param region required. 1 to 63 characters of a-z, 0-9 and "-". Regions that
 *   this library does not know are accepted too.
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
 * @param endpoint required. https or http, with a host and optionally a port
 *   and a path, but no user, query or fragment. Without a scheme it is https.
 *   Up to 16 URLs, separated by commas, in the order of preference. If one
 *   cannot be reached (no such host, no connection), the next one is tried, and
 *   used from then on. Plain http to a host other than this machine also needs
 *   the option "allow_plaintext".
 * @errors INVALID_ENDPOINT
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_endpoint(dbss_config *config,
                                     const char *endpoint);

/**
 * Sets the IAM token that is sent with each request (X-Auth-Token), instead of
 * other credentials. The credentials that were set last count. Tokens are
 * valid for 24 hours: dbss_context_set_token() replaces it later.
 *
 * @param config required.
 * @param token required, bytes, secret. 1 to 98304 (96 KiB) visible ASCII
 *   characters, so no space and no line ending. The library wipes its copy
 *   when it is no longer needed; wipe your own.
 * @errors INVALID_TOKEN
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_token(dbss_config *config,
                                  const char *token);

/**
 * Sets an access key (AK and SK) that signs each request (SDK-HMAC-SHA256),
 * instead of other credentials. Unlike a token, a permanent key does not
 * expire.
 *
 * A call does not repeat a request whose signature was rejected, but the next
 * call signs with the same key again. Stop after DBSS_ERR_UNAUTHENTICATED:
 * five wrong signatures in a row lock a key for five minutes.
 *
 * @param config required.
 * @param access_key required, bytes. 1 to 1024 visible ASCII characters.
 * @param secret_key required, bytes, secret. 1 to 1024 visible ASCII
 *   characters.
 * @param security_token optional, bytes, secret. The security token of a
 *   temporary key, up to 98304 characters; NULL for a permanent key.
 * @errors INVALID_ACCESS_KEY
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_access_key(dbss_config *config,
                                       const char *access_key,
                                       const char *secret_key,
                                       const char *security_token);

/**
 * Sets the IAM user who logs in for a token, instead of other credentials. The
 * first call that needs a token logs in for all threads. The token is cached,
 * and refreshed before it expires, and once for each call when the service
 * rejects it. It is for the project of "project_id", else for that of the
 * region. The option "iam_endpoint" sets the URL of IAM.
 *
 * After IAM rejects a login, the same context does not repeat it, because
 * several wrong logins lock a user. Later calls then fail with the same error.
 * With a passcode provider it is different: the next call logs in again with a
 * new passcode, so a wrong password is sent again.
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
 * Sets any option by its key. These are the options, which dbss_option_key()
 * and related functions also list at run time:
 *
 * - "region" (text: 1 to 63 bytes): The region, such as cn-north-4. It
 *   determines the endpoint and the project, unless they are set too. a-z, 0-9
 *   and "-".
 * - "endpoint" (url): The URL of the service, or up to 16, separated by
 *   commas, in the order of preference. It takes precedence over the region's.
 *   Without a scheme it is https.
 * - "project_id" (id: 32 to 64 characters): The id of the default project of
 *   calls. Without it, that of the credentials, or the one with the region's
 *   name, which is looked up once.
 * - "token" (secret: 1 to 98304 bytes): The IAM token that is sent with each
 *   request, instead of other credentials. Visible ASCII characters.
 * - "access_key" (secret: 1 to 1024 bytes): The access key (AK) that signs
 *   each request, instead of other credentials. It needs "secret_key". Visible
 *   ASCII characters.
 * - "secret_key" (secret: 1 to 1024 bytes): The secret (SK) of "access_key".
 *   Visible ASCII characters.
 * - "security_token" (secret: 1 to 98304 bytes): The security token of a
 *   temporary "access_key". Visible ASCII characters.
 * - "iam_user" (text: 1 to 1024 bytes): The IAM user who logs in for a token,
 *   instead of other credentials. It needs "iam_password" and "iam_domain".
 * - "iam_password" (secret: 1 to 1024 bytes): The password of "iam_user".
 * - "iam_domain" (text: 1 to 1024 bytes): The name of the account of
 *   "iam_user".
 * - "iam_user_id" (text: 1 to 1024 bytes): The id of "iam_user", for a login
 *   with a passcode of its MFA device. It needs a passcode provider.
 * - "agency_name" (text: 1 to 1024 bytes): The agency to assume with the other
 *   credentials. Calls then use its temporary keys, and the projects of its
 *   account. It needs "agency_domain" or "agency_domain_id".
 * - "agency_domain" (text: 1 to 1024 bytes): The name of the account of
 *   "agency_name".
 * - "agency_domain_id" (text: 1 to 1024 bytes): The id of the account of
 *   "agency_name", instead of its name.
 * - "agency_duration_ms" (milliseconds: 900000 to 86400000; default 3600000):
 *   How long a temporary key of "agency_name" is valid, a whole number of
 *   seconds. It is refreshed before it expires.
 * - "credentials" (choice: default, oidc, environment, federation, profile,
 *   metadata, pod_identity): Where to find credentials, instead of setting
 *   them: oidc (an agency for the token of an OIDC provider:
 *   HUAWEICLOUD_OIDC_PROVIDER_URN, _AGENCY_URN, _ID_TOKEN or _TOKEN_FILE,
 *   _SESSION_NAME, _DURATION_SECONDS, _POLICY, _POLICY_IDS), environment
 *   (HUAWEICLOUD_SDK_IDP_ID and _ID_TOKEN_FILE for a federated identity, else
 *   HUAWEICLOUD_SDK_AK, _SK, _SECURITY_TOKEN; with _PROJECT_ID), profile (the
 *   section [basic] of ~/.huaweicloud/credentials, or of the file that
 *   HUAWEICLOUD_SDK_CREDENTIALS_FILE names), metadata (the temporary key of
 *   the agency of this machine, a cloud server), pod_identity (the key of a
 *   pod's agency: HC_CONTAINER_CREDENTIALS_FULL_URI,
 *   HC_CONTAINER_AUTHORIZATION_TOKEN_FILE), or default, which tries these in
 *   this order. federation uses only the federated identity of the environment
 *   or the profile. The names are those of the official SDKs.
 * - "iam_endpoint" (url): The URL of IAM, for logins and for looking up a
 *   project. Without it, that of the profile, else that of the variable
 *   HUAWEICLOUD_SDK_IAM_ENDPOINT, else the region's own, else
 *   https://iam.myhuaweicloud.com.
 * - "sts_endpoint" (url): The URL of STS, for "credentials" by OIDC. Without
 *   it, that of the variable HUAWEICLOUD_SDK_STS_ENDPOINT, else the region's.
 * - "metadata_endpoint" (url): The URL of this machine's metadata service, if
 *   it is not http://169.254.169.254. Plain http may go to a link-local or
 *   private address, for this service alone.
 * - "ca_file" (path): A PEM file of the certificates to trust, instead of the
 *   system's and the built-in ones.
 * - "connect_timeout_ms" (milliseconds: 1 to 86400000, or -1 for no limit;
 *   default 10000): The maximum time to connect: name look-up, TCP and TLS
 *   together.
 * - "stall_timeout_ms" (milliseconds: 1 to 86400000, or -1 for no limit;
 *   default 60000): The maximum time without a byte sent or received.
 * - "total_timeout_ms" (milliseconds: 1 to 2592000000, or -1 for no limit;
 *   default -1): The maximum time for a whole call.
 * - "max_attempts" (number: 1 to 1000; default 3): The maximum number of
 *   attempts of a call when the connection fails or breaks, or the service
 *   returns 429, 500, 502, 503 or 504. The count restarts after an attempt
 *   that received 1 MiB beyond what earlier attempts had reached. Between
 *   attempts the call waits as long as the service asks (Retry-After), else a
 *   random time: up to 250 ms, doubled with each failure, up to 10 s. 1 means
 *   no retries.
 * - "max_retry_after_ms" (milliseconds: 0 to 86400000; default 60000): The
 *   maximum wait before another attempt that the service may request
 *   (Retry-After). If it requests more, the call fails immediately.
 * - "allow_plaintext" (boolean; default false): Whether an endpoint on another
 *   host may be plain http, which exposes the token and the report to the
 *   network.
 * - "allow_close_delimited" (boolean; default false): Whether a body over
 *   plain http may be delimited only by the end of the connection. Then it
 *   cannot be checked whether it is complete.
 * - "follow_redirects" (boolean; default false): Whether up to 5 redirects are
 *   followed. Credentials are never sent to another origin, and no request
 *   goes from https to plain http.
 * - "proxy" (secret): The URL of an HTTP proxy, such as
 *   http://user:password@proxy.example.com:3128, through which all connections
 *   are tunnelled (CONNECT). Without a scheme it is http.
 * - "proxy_from_environment" (boolean; default false): Whether the proxy is
 *   taken from https_proxy, http_proxy, all_proxy and no_proxy (also in upper
 *   case, except HTTP_PROXY) when the context is made.
 * - "file_mode" (mode: 600 to 777; default 600): The permissions of a saved
 *   file, independent of the umask. The owner can always read and write.
 * - "max_memory_bytes" (bytes: 1 to 9223372036854775807; default 1073741824):
 *   The maximum size of a report that is downloaded into memory.
 * - "wait_timeout_ms" (milliseconds: 1 to 2592000000, or -1 for no limit;
 *   default 3600000): The maximum time to wait until the service has generated
 *   a report.
 * - "poll_interval_ms" (milliseconds: 1 to 86400000; default 2000): The
 *   initial interval for polling a report that is being generated. It grows by
 *   half each time, up to 30 s or this value if that is larger, and varies
 *   randomly by a fifth.
 * - "interruptible" (boolean; default false): Whether a signal that the
 *   program handles may end a call. dbss_operation_set_interrupt() sets the
 *   function that decides; without it every handled signal ends the call.
 * - "log_level" (choice: error, warning, info, debug; default debug): Which
 *   records the log callback receives: those of this level and the more
 *   important ones.
 * - "user_agent_suffix" (text: 1 to 256 bytes): Text after "libdbss/VERSION"
 *   in the User-Agent header, such as a program's name and version. Visible
 *   ASCII characters and spaces.
 *
 * A value is text in the format of its option's type: "text", "id", "url",
 * "secret" and "path" unchanged (a path need not be UTF-8); "milliseconds",
 * "bytes" and "number" in decimal digits, or "-1" for no limit if the option
 * allows it; "mode" in octal digits; "boolean" as true or false; "day" such as
 * 2026-11-24; "choice" as one of its words.
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
 * The level of a record about a call that failed. Invalid arguments that end a
 * call before it begins are not logged, and a call that was cancelled is logged
 * as DBSS_LOG_INFO.
 */
#define DBSS_LOG_ERROR 1

/**
 * The level of a record about a problem that libdbss handled, such as a broken
 * transfer that was resumed.
 */
#define DBSS_LOG_WARNING 2

/**
 * The level of a record about what a call did.
 */
#define DBSS_LOG_INFO 3

/**
 * The level of a record about a request and its response.
 */
#define DBSS_LOG_DEBUG 4

/**
 * A log record. The record that a callback receives is valid until the
 * callback returns, and so are the strings of its getters.
 * dbss_log_record_copy() makes a copy that is valid until it is freed. A
 * record does not change and contains no secrets.
 *
 * @threads any.
 */
struct dbss_log_record;

/**
 * Receives the log records. Records of a mirror's own threads are passed to it
 * on the thread of the call.
 *
 * @param record borrowed.
 * @runs in call, concurrently.
 * @calls any.
 */
typedef void (*dbss_log_fn)(void *user_data, const dbss_log_record *record);

/**
 * Sets the log callback of the contexts made from this configuration. Without
 * one nothing is logged.
 *
 * `destroy` is called when the callback is replaced and the configuration and
 * all contexts made from it are freed, or closed without a running call. It is
 * called immediately when this function fails.
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
 * Copies a record, for example to pass it to another thread.
 *
 * @return owned, nullable. NULL for NULL, and if there is not enough memory.
 */
DBSS_API dbss_log_record *dbss_log_record_copy(const dbss_log_record *record);

/**
 * Frees a record that dbss_log_record_copy() made, and all strings that its
 * getters returned.
 */
DBSS_API void dbss_log_record_free(dbss_log_record *record);

/**
 * The level of the record. Newer versions may add levels.
 *
 * @return one of DBSS_LOG_.
 */
DBSS_API int32_t dbss_log_record_level(const dbss_log_record *record);

/**
 * The message of the record: one line for people, without a line ending. The
 * wording may change between versions.
 *
 * @return borrowed, for NULL "".
 */
DBSS_API const char *dbss_log_record_message(const dbss_log_record *record);

/**
 * The status of the failed call, or of the failure that caused another
 * attempt. DBSS_OK if the record is not about a failure.
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
 * @return borrowed, nullable. NULL if the service sent none.
 */
DBSS_API const char *dbss_log_record_request_id(const dbss_log_record *record);

/**
 * The id of the report that the call is about.
 *
 * @return borrowed, nullable. NULL if it is not about a report.
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
 * The offset in the body at which a transfer broke or continues.
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
 * The failure that the record is about, with all its details.
 *
 * @return owned, nullable. NULL if the record is not about a failure, and if
 *   there is not enough memory.
 */
DBSS_API dbss_error *dbss_log_record_error(const dbss_log_record *record);

/**
 * The HTTP status of the response that the record is about, such as 200.
 *
 * @return none 0.
 */
DBSS_API int32_t dbss_log_record_http_status(const dbss_log_record *record);

/**
 * A request for a token. Complete it once, with dbss_token_request_set() or
 * dbss_token_request_fail(), and then free it. This may be done immediately or
 * later, from any thread.
 *
 * @threads any.
 */
struct dbss_token_request;

/**
 * Called to provide a token: when the first call needs one, before a token
 * expires, and after the service rejected it.
 *
 * Only one request is pending at a time, and all calls wait for its token.
 * Each of them still has its own cancellation and timeouts. After one has
 * waited for its "stall_timeout_ms", the next call makes a new request. The
 * call on whose thread the function runs cannot be cancelled until the
 * function returns.
 *
 * @param request owned. Complete it now or later, then free it.
 * @runs in call.
 * @calls any without token.
 */
typedef void (*dbss_token_provider_fn)(void *user_data,
                                       dbss_token_request *request);

/**
 * Sets a function of yours that provides tokens, instead of other credentials,
 * for the contexts made from this configuration.
 *
 * `destroy` is called when the provider is replaced and the configuration and
 * all contexts made from it are freed, or closed without a running call. It is
 * called immediately when this function fails.
 *
 * @param config required.
 * @param provider optional. NULL removes the provider.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_token_provider(dbss_config *config,
                                           dbss_token_provider_fn provider,
                                           void *user_data,
                                           dbss_destroy_fn destroy);

/**
 * Sets a function of yours that provides the passcodes of the MFA device of
 * the option "iam_user", for the contexts made from this configuration. It
 * needs the option "iam_user_id".
 *
 * The function is called before each login, and completes the request with
 * the passcode. dbss_token_request_refused() tells whether IAM refused the
 * last login. A passcode is sent once and then wiped; after a failed login
 * the next call requests another one. `destroy` is called as for
 * dbss_config_set_token_provider().
 *
 * @param config required.
 * @param provider optional. NULL removes the provider.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_config_set_passcode_provider(dbss_config *config,
                                              dbss_token_provider_fn provider,
                                              void *user_data,
                                              dbss_destroy_fn destroy);

/**
 * Whether the service rejected the previous token. It would reject the same
 * one again.
 *
 * @return boolean.
 */
DBSS_API int32_t dbss_token_request_refused(const dbss_token_request *request);

/**
 * Whether a call or the context may still use the token. It is false once the
 * request is completed, once the context was closed or freed and the
 * requesting call has ended, and once another request was made. Completing the
 * request anyway does no harm.
 *
 * @return boolean.
 */
DBSS_API
int32_t dbss_token_request_is_wanted(const dbss_token_request *request);

/**
 * Completes a request with a token, or with a passcode.
 *
 * DBSS_OK and DBSS_ERR_INVALID_TOKEN complete the request; after
 * DBSS_ERR_INVALID_TOKEN the waiting calls fail with DBSS_ERR_NO_TOKEN. After
 * DBSS_ERR_NULL_ARGUMENT and DBSS_ERR_INVALID_VALUE the request is still open:
 * complete it with another call.
 *
 * @param request required.
 * @param token required, bytes, secret. As for dbss_config_set_token(). For a
 *   passcode provider, the passcode.
 * @param expires_ms unit unix-ms, none -1. When it expires, by the clock of
 *   this machine, so that the next one is requested in time; -1 if it is not
 *   known, and for a passcode, which is sent at once. A time in the past is
 *   DBSS_ERR_INVALID_TOKEN.
 * @errors INVALID_TOKEN (malformed, or expired); INVALID_VALUE (expires_ms is
 *   negative and not -1); ARGUMENT (the request was completed before)
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_token_request_set(dbss_token_request *request,
                                   const char *token,
                                   int64_t expires_ms);

/**
 * Completes a request without a token. The waiting calls fail with
 * DBSS_ERR_NO_TOKEN, and the next call makes a new request. After
 * DBSS_ERR_INVALID_UTF8 the request is still open.
 *
 * @param request required.
 * @param message optional. The reason, for the error message, which includes
 *   at most 512 bytes of it. It must not contain secrets.
 * @errors ARGUMENT (the request was completed before)
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_token_request_fail(dbss_token_request *request,
                                    const char *message);

/**
 * Frees a request. A request that was not completed counts as failed.
 */
DBSS_API void dbss_token_request_free(dbss_token_request *request);

/* ============================================================================
 * 4. Context
 * ============================================================================ */

/**
 * A client of the service, with its credentials and its connections, which
 * stay open between calls. Make one and share it.
 *
 * Up to 64 idle connections are kept. One that was idle for longer than 15
 * seconds is not used again. The number of connections in use has no limit.
 *
 * After fork() a child may use the contexts that it inherited. It opens its
 * own connections and does not use those of the parent.
 *
 * @threads any.
 */
struct dbss_context;

/**
 * Makes a context from a configuration. It sends no request, but reads files
 * and the environment: the trusted certificates, which are those of "ca_file"
 * if it is set, else the system's, else (if the system has none) the built-in
 * ones; the endpoint of a region, from the environment and the regions file,
 * unless an endpoint is set; and the credentials that the option "credentials"
 * names.
 *
 * @param config required.
 * @param out_ctx required.
 * @errors NOT_CONFIGURED (no region or endpoint, an incomplete access key or
 *   IAM user, or "credentials" names a source that has none);
 *   INVALID_CREDENTIALS; INVALID_ENDPOINT (of a region); PLAINTEXT_REFUSED;
 *   FILE (a file cannot be read); INVALID_VALUE (the CA file has no
 *   certificate)
 * @blocks files.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_context_new(const dbss_config *config,
                             dbss_context **out_ctx);

/**
 * Replaces the credentials by a token. Requests that start afterwards use the
 * token, also those of running calls: retries, and the rest of a list or a
 * mirror. On failure the old credentials stay.
 *
 * @param ctx required.
 * @param token required, bytes, secret. As for dbss_config_set_token().
 * @errors INVALID_TOKEN, CLOSED
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_context_set_token(dbss_context *ctx,
                                   const char *token);

/**
 * Cancels all running calls on this context in this process, including open
 * streams: they end with DBSS_ERR_CANCELLED. Calls that start afterwards are
 * not affected, even under the same operations.
 *
 * @blocks briefly.
 */
DBSS_API void dbss_context_cancel_all(dbss_context *ctx);

/**
 * Closes a context. Running calls in this process, including open streams, end
 * with DBSS_ERR_CANCELLED, and later ones fail with DBSS_ERR_CLOSED. Idle
 * connections are closed. The log function and the token provider are
 * released: their destroy functions run now or when the last running call has
 * ended. Closing does not wait, may be called in a callback, and does nothing
 * the second time. The context still has to be freed when nothing uses it any
 * more. The operation and the connection of an open stream belong to the
 * stream until the stream is closed.
 */
DBSS_API void dbss_context_close(dbss_context *ctx);

/**
 * Frees a context: closes its idle connections and wipes its secrets. Running
 * calls are not affected: they keep what they need until they end.
 */
DBSS_API void dbss_context_free(dbss_context *ctx);

/**
 * A description of credentials, for people and logs. It contains no secrets.
 *
 * @threads any.
 */
struct dbss_credentials;

/**
 * Finds the credentials that a call would use now, in the same way as a call:
 * if necessary, it calls the token provider, logs in, or fetches a temporary
 * key. dbss_context_check() checks whether the service accepts them.
 *
 * @param ctx required.
 * @param out_credentials required.
 * @errors NOT_CONFIGURED (there are none); NO_TOKEN; INVALID_CREDENTIALS;
 *   SERVICE, BAD_REQUEST, UNAUTHENTICATED, FORBIDDEN, NOT_FOUND, THROTTLED,
 *   SERVER, REDIRECTED, UNEXPECTED_RESPONSE (from IAM or another source of
 *   keys); FILE (a token file); NETWORK*
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_context_find_credentials(dbss_context *ctx,
                                          dbss_operation *operation,
                                          dbss_credentials **out_credentials);

/**
 * Checks that the service accepts the credentials, by listing one instance of
 * the project. Nothing is downloaded or changed.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @errors INVALID_ID; UNAUTHENTICATED (it does not accept them); FORBIDDEN (it
 *   accepts them, but does not allow this); as dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_context_check(dbss_context *ctx,
                               const char *project,
                               dbss_operation *operation);

/**
 * Where the credentials come from: "token", "access_key", "token_provider",
 * "iam_user", "environment", "profile", "metadata", "oidc", "federation",
 * "pod_identity" or "agency". Newer versions may add more.
 *
 * @return static.
 */
DBSS_API
const char *dbss_credentials_source(const dbss_credentials *credentials);

/**
 * A description of the source, with the variable, file or address.
 *
 * @return borrowed.
 */
DBSS_API
const char *dbss_credentials_description(const dbss_credentials *credentials);

/**
 * The user's name, or the access key with its middle masked.
 *
 * @return borrowed, nullable. NULL if it is not known.
 */
DBSS_API const char *dbss_credentials_name(const dbss_credentials *credentials);

/**
 * The id of the default project of calls, if it is known without a look-up.
 *
 * @return borrowed, nullable. NULL if it is not known.
 */
DBSS_API
const char *dbss_credentials_project(const dbss_credentials *credentials);

/**
 * When the credentials expire.
 *
 * @return unit unix-ms, none -1. -1 if they do not expire, or if it is not
 *   known.
 */
DBSS_API
int64_t dbss_credentials_expires_ms(const dbss_credentials *credentials);

/**
 * Frees the description.
 */
DBSS_API void dbss_credentials_free(dbss_credentials *credentials);

/* ============================================================================
 * 5. Download: memory, file, directory, descriptor, callback
 * ============================================================================ */

/**
 * Bytes that libdbss allocated, and their number. The only structure of this
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
 * A flag of the file functions: an existing file may be replaced, atomically,
 * when the new one is complete. Without it an existing file is kept and the
 * call fails with DBSS_ERR_FILE_EXISTS.
 */
#define DBSS_FILE_REPLACE 1

/**
 * Downloads an audit report (PDF or ZIP) into memory: the service's call
 * DownloadAuditReport. Blocks until the whole report has arrived or the call
 * has failed. A report that does not arrive completely is an error. Memory
 * grows with the received bytes, not with the announced size.
 *
 * @param ctx required. Other threads may use it at the same time.
 * @param project optional. The project's id, 32 to 64 characters; NULL for the
 *   context's: that of the option "project_id", else that of the credentials,
 *   else that of the project with the region's name, which is looked up at IAM
 *   once.
 * @param instance required. The audit instance's id, 32 to 64 characters.
 * @param id required. The report's id, 16 to 64 characters. Ids consist of
 *   ASCII letters, digits, "-" and "_".
 * @param locale optional. The language of the report: "en-us" or "zh-cn", in
 *   any letter case, also with "_" instead of "-"; NULL for the service's
 *   default, which is en-us.
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
 * Like dbss_report_download(), under an operation.
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
 * is complete and on the disk. Until then, and after every failure,
 * cancellation or crash, an existing file stays unchanged. Its permissions are
 * those of the option "file_mode". Afterwards dbss_operation_path() returns
 * its path.
 *
 * While it arrives, the report is in a file without a name in the target's
 * directory, which disappears with the process. If the file system does not
 * support such files (and for a moment before it replaces another), it is in a
 * hidden file ".dbss-XXXXXX.part", which stays only if the process is killed
 * or the machine stops.
 *
 * @param ctx, project, instance, id, locale as dbss_report_download.
 * @param path required, bytes. Its directory must exist and be writable.
 * @param flags flags DBSS_FILE_.
 * @errors INVALID_VALUE (path, flags); FILE_EXISTS, NOT_REGULAR_FILE (also for
 *   a symbolic link), FILE (no such directory, no permission; these three
 *   before any request); DISK_FULL; INVALID_ID, INVALID_LOCALE; as
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
 * Downloads a report into a directory, under a safe form of the report's own
 * name. Afterwards dbss_operation_path() returns its path. Otherwise like
 * dbss_report_download_to_file().
 *
 * @param ctx, project, instance, id, locale, flags as
 *   dbss_report_download_to_file.
 * @param directory required, bytes. It must exist.
 * @errors as dbss_report_download_to_file (FILE_EXISTS only after the service
 *   has sent the name)
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
 * Downloads a report to a descriptor: a file, from its current offset, or a
 * pipe, a socket, a terminal. POSIX only. Bytes written before a failure
 * cannot be taken back, so only a call that returned DBSS_OK has written a
 * whole report.
 *
 * @param ctx, project, instance, id, locale as dbss_report_download.
 * @param fd descriptor. Open for writing, blocking or not; it is never closed,
 *   and its mode is not changed. The call writes to a copy, so you may close it
 *   meanwhile; a reader then sees the end when the call ends. As with every
 *   close, that of the copy gives back the record locks of the process on the
 *   file (F_SETLK, lockf(); not flock()).
 * @errors ARGUMENT (not open for writing); BROKEN_PIPE (its reader closed it;
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
 * @return nonzero CANCELLED. 0 to continue; anything else ends the call.
 * @runs in call.
 * @calls any.
 */
typedef int32_t (*dbss_write_fn)(void *user_data,
                                 const uint8_t *data,
                                 size_t len);

/**
 * Downloads a report to a function of yours, in parts. Bytes passed before a
 * failure cannot be taken back, so only a call that returned DBSS_OK has
 * passed a whole report.
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
 * The report is neither of these. It is not text either: a text body is not a
 * report, but DBSS_ERR_UNEXPECTED_RESPONSE or the error that it contains.
 */
#define DBSS_FORMAT_UNKNOWN 0

/**
 * A PDF: the first bytes are "%PDF-".
 */
#define DBSS_FORMAT_PDF 1

/**
 * A ZIP archive: the first bytes are "PK" and the signature of a ZIP record.
 */
#define DBSS_FORMAT_ZIP 2

/**
 * A report that is read in parts, as from a file. Any thread may close it or
 * cancel its operation while another one reads.
 *
 * It still works after its context is freed, and ends when the context is
 * closed. A child of fork() cannot use the parent's streams.
 *
 * @threads one call at a time.
 */
struct dbss_report_stream;

/**
 * Opens a report. Blocks until its first bytes have arrived. The operation
 * belongs to the stream until the stream is closed or freed.
 *
 * A transfer that breaks later is resumed if the service supports it.
 * Otherwise the read fails, because bytes that were already read cannot be
 * taken back.
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
 * Reads the next bytes. Blocks until at least one has arrived. After a failure
 * of the transfer, the next reads fail with the same error.
 *
 * @param stream required.
 * @param buf required, room cap. Up to `cap` bytes may be written, also past
 *   the bytes read; their values are unspecified.
 * @param cap unit bytes. At least 1.
 * @param out_len required, unit bytes. The number of bytes read. 0 with
 *   DBSS_OK is the end, and is returned only if the report was complete and
 *   its length correct.
 * @errors ARGUMENT (`cap` is 0, or the stream belongs to the parent process);
 *   BUSY (another thread is reading); as dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_report_stream_read(dbss_report_stream *stream,
                                    void *buf,
                                    size_t cap,
                                    size_t *out_len);

/**
 * The size of the report that the service announced.
 *
 * @return unit bytes, none -1.
 */
DBSS_API int64_t dbss_report_stream_size(const dbss_report_stream *stream);

/**
 * The format of the report, determined from its first bytes.
 *
 * @return one of DBSS_FORMAT_.
 */
DBSS_API int32_t dbss_report_stream_format(const dbss_report_stream *stream);

/**
 * A safe form of the report's own name, as from dbss_operation_filename().
 *
 * @return borrowed.
 */
DBSS_API
const char *dbss_report_stream_filename(const dbss_report_stream *stream);

/**
 * The header Content-Type.
 *
 * @return borrowed, nullable. NULL if the service sent none.
 */
DBSS_API
const char *dbss_report_stream_content_type(const dbss_report_stream *stream);

/**
 * The service's id of the call (header X-Request-Id).
 *
 * @return borrowed, nullable. NULL if the service sent none.
 */
DBSS_API
const char *dbss_report_stream_request_id(const dbss_report_stream *stream);

/**
 * Closes a stream, also before its end. A running read in another thread ends
 * with DBSS_ERR_CANCELLED, and later ones fail with DBSS_ERR_CLOSED. Its
 * operation is free for another call, immediately or when that read has ended.
 * The getters work until the stream is freed. Closing does not wait, may be
 * called in a callback, and does nothing the second time.
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
 * The options, progress, cancellation and result of one call. Pass it to the
 * call, and read or cancel it from any thread while the call runs.
 *
 * It may be used again for the next call, and freed at any time, also during
 * its call. A stream is a running call until it is closed or freed. A child of
 * fork() cannot use the parent's operations.
 *
 * The strings of dbss_operation_path(), dbss_operation_filename(),
 * dbss_operation_request_id() and dbss_operation_content_type() are freed when
 * the next call of the operation begins, by dbss_operation_reset() and by
 * dbss_operation_free(). A thread may read them only as long as no other
 * thread can do one of these; otherwise it reads freed memory. The numbers may
 * be read at any time.
 *
 * @threads one call at a time.
 */
struct dbss_operation;

/**
 * Called to report the progress of a call: when it starts, at least ten times
 * a second while it runs, even if no bytes arrive, before each request that
 * is not a GET, and when all bytes have arrived. The getters of the operation
 * return the details.
 *
 * @param operation borrowed.
 * @return nonzero CANCELLED. 0 to continue; anything else ends the call within
 *   250 ms.
 * @runs in call.
 * @calls any.
 */
typedef int32_t (*dbss_progress_fn)(void *user_data,
                                    const dbss_operation *operation);

/**
 * Called to decide whether a handled signal ends the call: after each handled
 * signal, and once when the call begins, for signals that came just before.
 * Signals are blocked while it runs.
 *
 * @return nonzero INTERRUPTED. 0 to continue; anything else ends the call.
 * @runs in call.
 * @calls getters.
 */
typedef int32_t (*dbss_interrupt_fn)(void *user_data);

/**
 * Makes an operation. It uses a descriptor only while a call under it runs and
 * has waited.
 *
 * @param out_operation required.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_operation_new(dbss_operation **out_operation);

/**
 * Frees an operation, and all strings that its getters returned. A running
 * call continues; it can no longer be cancelled through this handle.
 */
DBSS_API void dbss_operation_free(dbss_operation *operation);

/**
 * Sets an option for the calls of this operation, which overrides the
 * context's. Values are as for dbss_config_set():
 *
 * - "connect_timeout_ms" (milliseconds: 1 to 86400000, or -1 for no limit):
 *   The maximum time to connect: name look-up, TCP and TLS together.
 * - "stall_timeout_ms" (milliseconds: 1 to 86400000, or -1 for no limit): The
 *   maximum time without a byte sent or received.
 * - "total_timeout_ms" (milliseconds: 1 to 2592000000, or -1 for no limit):
 *   The maximum time for a whole call.
 * - "max_attempts" (number: 1 to 1000): The maximum number of attempts of a
 *   call when the connection fails or breaks, or the service returns 429, 500,
 *   502, 503 or 504. The count restarts after an attempt that received 1 MiB
 *   beyond what earlier attempts had reached. Between attempts the call waits
 *   as long as the service asks (Retry-After), else a random time: up to 250
 *   ms, doubled with each failure, up to 10 s. 1 means no retries.
 * - "file_mode" (mode: 600 to 777): The permissions of a saved file,
 *   independent of the umask. The owner can always read and write.
 * - "max_memory_bytes" (bytes: 1 to 9223372036854775807): The maximum size of
 *   a report that is downloaded into memory.
 * - "wait_timeout_ms" (milliseconds: 1 to 2592000000, or -1 for no limit): The
 *   maximum time to wait until the service has generated a report.
 * - "poll_interval_ms" (milliseconds: 1 to 86400000): The initial interval for
 *   polling a report that is being generated. It grows by half each time, up
 *   to 30 s or this value if that is larger, and varies randomly by a fifth.
 * - "interruptible" (boolean): Whether a signal that the program handles may
 *   end a call. dbss_operation_set_interrupt() sets the function that decides;
 *   without it every handled signal ends the call.
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
 * Sets the progress callback, and replaces the previous one.
 *
 * `destroy` is called when the callback is replaced, when the operation is
 * freed, or immediately when this function fails.
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
 * Sets the function that decides whether a handled signal ends the call, and
 * replaces the previous one. It is only used if the option "interruptible" is
 * true. Without a function every signal that the program handles ends the
 * call.
 *
 * `destroy` is called when the function is replaced, when the operation is
 * freed, or immediately when this function fails.
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
 * Cancels the call of this operation, and later calls until
 * dbss_operation_reset(). Unless it is already over, the call ends with
 * DBSS_ERR_CANCELLED within 100 ms, or when the file system or your own code
 * returns, if it waits for them. A call that starts afterwards ends in the
 * same way before it sends a request.
 *
 * @signal-safe
 */
DBSS_API void dbss_operation_cancel(const dbss_operation *operation);

/**
 * Undoes a cancellation, and clears the results of the last call, including
 * its strings. Options and callbacks stay.
 *
 * @param operation required.
 * @errors BUSY
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_operation_reset(dbss_operation *operation);

/**
 * The number of bytes of the report that have arrived, including those before
 * a resumption.
 *
 * @return unit bytes.
 */
DBSS_API int64_t dbss_operation_received(const dbss_operation *operation);

/**
 * The size of the report.
 *
 * @return unit bytes, none -1. -1 if it is not known, or not yet.
 */
DBSS_API int64_t dbss_operation_total(const dbss_operation *operation);

/**
 * The number of bytes that did not have to be transferred again because broken
 * transfers were resumed.
 *
 * @return unit bytes.
 */
DBSS_API int64_t dbss_operation_resumed(const dbss_operation *operation);

/**
 * The number of requests so far.
 *
 * @return count.
 */
DBSS_API uint32_t dbss_operation_attempts(const dbss_operation *operation);

/**
 * The progress of the service in generating a report (dbss_report_generate(),
 * dbss_report_wait()), or the percentage of finished reports of a mirror
 * (dbss_reports_mirror()).
 *
 * @return unit percent, none -1. -1 while it is not known.
 */
DBSS_API int32_t dbss_operation_percent(const dbss_operation *operation);

/**
 * Where the report was saved, once the call has succeeded.
 *
 * @return borrowed until next call, nullable, bytes. NULL if nothing was
 *   saved.
 */
DBSS_API const char *dbss_operation_path(const dbss_operation *operation);

/**
 * A safe form of the report's own name: one path component, not hidden. It
 * comes from the header Content-Disposition. If that is missing or not UTF-8,
 * it is made of the report's id and format.
 *
 * @return borrowed until next call, nullable. NULL until the report has begun
 *   to arrive.
 */
DBSS_API const char *dbss_operation_filename(const dbss_operation *operation);

/**
 * The service's id of the call (header X-Request-Id).
 *
 * @return borrowed until next call, nullable. NULL until the report has begun
 *   to arrive, and if the service sent none.
 */
DBSS_API const char *dbss_operation_request_id(const dbss_operation *operation);

/**
 * The header Content-Type of the report.
 *
 * @return borrowed until next call, nullable. NULL until the report has begun
 *   to arrive, and if the service sent none.
 */
DBSS_API
const char *dbss_operation_content_type(const dbss_operation *operation);

/**
 * The format of the report, determined from its first bytes;
 * DBSS_FORMAT_UNKNOWN until it has begun to arrive.
 *
 * @return one of DBSS_FORMAT_.
 */
DBSS_API int32_t dbss_operation_format(const dbss_operation *operation);

/**
 * The error of the last call of this operation, readable from any thread. It
 * is set for every failure that the call returned, including invalid
 * arguments, except DBSS_ERR_BUSY, which is about the operation's other call.
 * dbss_operation_set() and the other functions that prepare an operation do
 * not change it.
 *
 * @return owned, nullable. NULL if the call has not failed, and if there is
 *   not enough memory for the error.
 */
DBSS_API dbss_error *dbss_operation_error(const dbss_operation *operation);

/* ============================================================================
 * 8. Instances, reports, templates and databases
 * ============================================================================ */

/**
 * The position in a list of the service, which is read page by page. It keeps
 * what it needs of its context.
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
 * Begins the list of the project's audit instances (ListAuditInstances). It
 * sends no request: dbss_cursor_next() fetches the pages.
 *
 * The service has this call in three versions: /v2/{project}/audit/instances,
 * /v1/{project}/audit/instances and /v1/{project}/dbss/audit/instances. The
 * first that does not answer with HTTP 404 or APIG.0101 is used, and remembered
 * for the context. If none is there, the error is DBSS_ERR_NOT_FOUND.
 *
 * Fields that the service documents:
 *
 * - "id" (text): The id of the instance.
 * - "name" (text): Its name.
 * - "status" (text: ACTIVE, SHUTOFF, BUILD, DELETING, DELETED, ERROR, HAWAIT,
 *   FROZEN, UPGRADING): Its state.
 * - "region" (text): Its region.
 * - "version" (text): The version of its software.
 * - "created" (text): When it was created.
 * - "expired" (text): When it expires.
 * - "remain_days" (text): How many days remain until it expires.
 * - "connect_ip" (text): Its IPv4 address.
 * - "connect_ipv6" (text): Its IPv6 address.
 * - "charge_model" (text): Its billing mode.
 * - "comment" (text): The customer's comment.
 * - "keep_days" (text): How many days remain until a frozen instance is
 *   deleted.
 * - "new_version" (text): The version that it can be upgraded to.
 * - "port_id" (text): The id of its network port.
 * - "resource_id" (text): The id of its resource at the service.
 * - "resource_spec_code" (text): The code of its specification.
 * - "scene" (text): The scenario for which it is used.
 * - "security_group_id" (text): The id of its security group.
 * - "specification" (text): Its specification.
 * - "subnet_id" (text): The id of its subnet.
 * - "task" (text): Its current task.
 * - "vpc_id" (text): The id of its VPC.
 * - "zone" (text): Its availability zone.
 * - "config_num" (integer): The number of its settings.
 * - "cpu" (integer): The number of its virtual CPUs.
 * - "database_limit" (integer): The maximum number of databases that it
 *   audits.
 * - "effect" (integer): Whether it is in effect.
 * - "ram" (integer): Its memory in GB.
 * - "supported_feature" (list): The features that it supports.
 * - "binding_db_type" (text): The type of the databases that it is bound to.
 * - "enterprise_project_id" (text): The id of its enterprise project.
 * - "failed_reason" (text): Why its last task failed.
 * - "timezone" (text): Its time zone.
 * - "upgrade_log" (text): The log of its upgrade.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @param page_size range 1 to 1000, none 0. The number of items per request; 0
 *   for 100.
 * @param out_cursor required, items instance.
 * @errors INVALID_ID, INVALID_VALUE (page_size), CLOSED
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_instances_list(dbss_context *ctx,
                                const char *project,
                                uint32_t page_size,
                                dbss_cursor **out_cursor);

/**
 * Begins the list of an instance's reports. Otherwise like
 * dbss_instances_list().
 *
 * Fields that the service documents:
 *
 * - "id" (text): The id of the report.
 * - "name" (text): Its name.
 * - "format" (text: pdf, zip): The format of its file.
 * - "percentum" (integer): Its progress, 0 to 100; at 100 it can be
 *   downloaded.
 * - "type" (text: AUDIT_REPORT_DAY, AUDIT_REPORT_WEEK, AUDIT_REPORT_MONTH,
 *   AUDIT_REPORT_YEAR, AUDIT_REPORT_REAL_TIME): How often such a report is
 *   generated.
 * - "template_type" (text): The type of the template that it was made from.
 * - "start_time" (text): The beginning of its time range.
 * - "end_time" (text): The end of its time range.
 * - "finish_time" (text): When it was ready.
 * - "db_ids" (text): The ids of the databases that it covers, separated by
 *   commas.
 * - "db_names" (text): The names of the databases that it covers.
 * - "url" (text): Its location at the service.
 *
 * @param ctx, project, page_size as dbss_instances_list.
 * @param instance required. The audit instance's id.
 * @param name optional. A part of the name, as the service searches, 1 to 256
 *   bytes; NULL for all reports.
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
 * Begins the list of an instance's report templates, which has only one page.
 * Otherwise like dbss_instances_list().
 *
 * Fields that the service documents:
 *
 * - "id" (text): The id of the template.
 * - "name" (text): Its name.
 * - "type" (text: COMPREHENSIVE, COMPLIANCE, SOX, PCI, DB_ANALYSIS,
 *   CLIENT_IP_ANALYSIS, SQL_DCL_COMMAND, SQL_DDL_COMMAND, SQL_DML_COMMAND):
 *   The content of its reports.
 * - "group" (text: COMPREHENSIVE, COMPLIANCE, DB_SPECIAL, CLIENT_SPECIAL,
 *   SQL_SPECIAL): The group of its type.
 * - "status" (text: ON, OFF): Whether its schedule is on.
 * - "desc" (text): Its description.
 * - "frequency" (text): How often its schedule generates a report.
 * - "db_ids" (text): The ids of the databases that it covers, separated by
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
 * Begins the list of the databases that an instance audits. Otherwise like
 * dbss_instances_list(). Their ids are what "db_ids" of a report spec or a
 * schedule means.
 *
 * Fields that the service documents:
 *
 * - "id" (text): The id of the database.
 * - "name" (text): Its name.
 * - "type" (text: MYSQL, ORACLE, POSTGRESQL, SQLSERVER, DAMENG, TAURUS, DWS,
 *   KINGBASE, GAUSSDBOPENGAUSS, GREENPLUM, HIGHGO, SHENTONG, GBASE8A, GBASE8S,
 *   GBASEXDM, MONGODB, DDS): The database system.
 * - "version" (text): The version of the database system.
 * - "ip" (text): Its IP address.
 * - "port" (text): Its port.
 * - "status" (text: ON, OFF): Whether it is audited.
 * - "audit_status" (text: ACTIVE, SHUTOFF, ERROR): The state of its audit.
 * - "instance_name" (text): The name of its database instance.
 * - "db_classification" (text: RDS, ECS): Whether it is a managed database or
 *   the customer's own.
 * - "charset" (text: GBK, UTF8): Its character set.
 * - "os" (text): The operating system of its host.
 * - "agent_url" (list): The ids of its audit agents.
 * - "rds_id" (text): The id of the managed database.
 * - "rds_obj_info" (text): Information on the RDS database.
 * - "dws_obj_info" (text): Information on the DWS database.
 * - "clouddb_obj_info" (text): Deprecated by the service.
 * - "rds_audit_switch_mismatch" (boolean): Whether its audit is on, but RDS
 *   does not upload its logs.
 *
 * @param ctx, project as dbss_instances_list.
 * @param instance required. The audit instance's id.
 * @param status optional. "ON" or "OFF" to filter by; NULL for all databases.
 * @param page_size range 1 to 10000, none 0. The number of items per request;
 *   0 for 100.
 * @param out_cursor required, items database.
 * @errors INVALID_VALUE (also status); as dbss_instances_list
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_databases_list(dbss_context *ctx,
                                const char *project,
                                const char *instance,
                                const char *status,
                                uint32_t page_size,
                                dbss_cursor **out_cursor);

/**
 * Fetches the next page, with at least one item. After a failure, call it
 * again for the same page.
 *
 * A list may change while it is read. No item is returned twice. If items are
 * deleted meanwhile, the part of the list that moved is read again, so that no
 * item is missed. This can only go unnoticed if as many items are added at the
 * same moment.
 *
 * @param cursor required.
 * @param out_page required. NULL with DBSS_OK at the end of the list.
 * @errors INVALID_ID (the project of the credentials); UNEXPECTED_RESPONSE
 *   (the list is malformed, a page is larger than 16 MiB, or the list has more
 *   than 1000000 items); as dbss_context_find_credentials
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
 * The number of items in the page.
 *
 * @return count.
 */
DBSS_API size_t dbss_page_count(const dbss_page *page);

/**
 * The number of items in the whole list, as the service reported it with this
 * page.
 *
 * @return count, none -1.
 */
DBSS_API int64_t dbss_page_total(const dbss_page *page);

/**
 * A field of an item, by its name in the service's current version, such as
 * "id"; its names in older versions count as the same. Text is unchanged,
 * except for U+FFFD instead of U+0000 and "***" instead of a credential of the
 * request. Numbers, booleans, arrays and objects are returned as JSON, whole
 * numbers without a fraction.
 *
 * @param index index of dbss_page_count.
 * @param field field.
 * @return borrowed, nullable. NULL if the field is missing or null, and past
 *   the last item.
 */
DBSS_API
const char *dbss_page_field(const dbss_page *page,
                            size_t index,
                            const char *field);

/**
 * The page as a JSON document, for wrappers: {"kind": "instances", "reports",
 * "templates", "databases" or "schedules", "total": a number or null, "items":
 * [...]}. Each item is the object that the service sent, including fields that
 * this library does not know.
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
 * The size of a buffer for any id, including the NUL at its end.
 */
#define DBSS_ID_SIZE 65

/**
 * The specification of a report to create: options by key and value.
 *
 * @threads any.
 */
struct dbss_report_spec;

/**
 * Makes an empty specification.
 *
 * @param out_spec required.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_report_spec_new(dbss_report_spec **out_spec);

/**
 * Sets one of the values of a specification:
 *
 * - "template_id" (id: 1 to 64 characters; required): The id of the template
 *   for the report.
 * - "start_time" (text: 1 to 4096 bytes; required): The beginning of the
 *   report's time range: text in the service's notation, such as 2026-11-24
 *   00:00:00, which is sent unchanged.
 * - "end_time" (text: 1 to 4096 bytes; required): The end of the report's time
 *   range; text as for "start_time".
 * - "start_date" (text: 1 to 4096 bytes): The day on which the range begins;
 *   text as for "start_time".
 * - "end_date" (text: 1 to 4096 bytes): The day on which the range ends; text
 *   as for "start_time".
 * - "db_ids" (text: 1 to 4096 bytes): The ids of the databases that the report
 *   covers, separated by commas; by default all.
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
 * Frees a specification. Running calls are not affected.
 */
DBSS_API void dbss_report_spec_free(dbss_report_spec *spec);

/**
 * Starts the creation of a report. The service returns no id, and creation
 * takes time: dbss_report_generate() also finds the new report and waits.
 *
 * The request is sent again only if it cannot have taken effect: if nothing of
 * it was sent, if the response was HTTP 429 or 503, or if the credentials were
 * rejected and could be renewed. After another failure, such as a lost
 * connection, it is not repeated, because the report may have been created.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @param instance required. The audit instance's id.
 * @param spec required. The specification of the report; it may be used again.
 * @errors INVALID_ID, INVALID_VALUE, NOT_CONFIGURED (a required value is not
 *   set; dbss_error_parameter() names it); REJECTED; as
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
 * Creates a report, finds it in the list, waits until it is ready, and returns
 * its id for the download. A report that was created is never deleted, also
 * after a failure. The operation's options "wait_timeout_ms" and
 * "poll_interval_ms" apply, and dbss_operation_percent() reports the progress.
 *
 * The new report is the one that is new in the list and has this time range
 * and, if several do, this template. If several reports remain, the call does
 * not guess: it fails with DBSS_ERR_AMBIGUOUS.
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
 * Waits until a report is ready (100 percent), by polling the list. The
 * operation's options "wait_timeout_ms" and "poll_interval_ms" apply, and
 * dbss_operation_percent() reports the progress.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @param instance required. The audit instance's id.
 * @param id required. The report's id.
 * @errors INVALID_ID; NOT_FOUND (also if the report is deleted meanwhile);
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
 * Deletes a report at the service, permanently.
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

/**
 * Changes of a schedule: values by key.
 *
 * @threads any.
 */
struct dbss_schedule_changes;

/**
 * Makes changes that set nothing yet.
 *
 * @param out_changes required.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_schedule_changes_new(dbss_schedule_changes **out_changes);

/**
 * Sets one of the values to change:
 *
 * - "status" (choice: ON, OFF): Whether the service generates reports on this
 *   schedule.
 * - "frequency" (choice: AUDIT_REPORT_DAY, AUDIT_REPORT_WEEK,
 *   AUDIT_REPORT_MONTH, AUDIT_REPORT_YEAR, AUDIT_REPORT_REAL_TIME): How often
 *   it generates a report.
 * - "format" (choice: ZIP, PDF): The format of the reports.
 * - "mode" (text: 1 to 4096 bytes): The mode of scheduling: a word of the
 *   service, which does not document the words.
 * - "start_time" (text: 1 to 4096 bytes): When the schedule begins: text in
 *   the service's notation, which is sent unchanged.
 * - "notice" (choice: ON, OFF): Whether the service sends a notification when
 *   a report is ready.
 * - "topic_urn" (text: 0 to 4096 bytes): The URN of the topic of SMN (Simple
 *   Message Notification) that receives the notifications; empty for none.
 * - "db_ids" (text: 0 to 4096 bytes): The ids of the databases that the
 *   reports cover, separated by commas; empty for all.
 *
 * @param changes required.
 * @param key required, option of schedule.
 * @param value required, bytes.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_schedule_changes_set(dbss_schedule_changes *changes,
                                      const char *key,
                                      const char *value);

/**
 * Frees changes. Running calls are not affected.
 */
DBSS_API void dbss_schedule_changes_free(dbss_schedule_changes *changes);

/**
 * Gets the schedule on which the service generates reports from a template: a
 * page with one item. dbss_page_field(page, 0, "status") returns a field, and
 * dbss_page_json() all of them, with those that this library does not know.
 *
 * Fields that the service documents:
 *
 * - "id" (text): The id of the template.
 * - "status" (text: ON, OFF): Whether the service generates reports on this
 *   schedule.
 * - "frequency" (text: AUDIT_REPORT_DAY, AUDIT_REPORT_WEEK,
 *   AUDIT_REPORT_MONTH, AUDIT_REPORT_YEAR, AUDIT_REPORT_REAL_TIME): How often
 *   it generates a report.
 * - "format" (text: ZIP, PDF): The format of the reports.
 * - "mode" (text): The mode of scheduling.
 * - "start_time" (text): When the schedule begins.
 * - "notice" (text: ON, OFF): Whether the service sends a notification when a
 *   report is ready.
 * - "topic_urn" (text): The URN of the topic of SMN (Simple Message
 *   Notification) that receives the notifications.
 * - "db_ids" (text): The ids of the databases that the reports cover,
 *   separated by commas.
 * - "smn_effective" (boolean): Whether notifications by SMN are supported.
 *
 * "smn_effective" stands beside the others in the service's response.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @param instance required. The audit instance's id.
 * @param template_id required. The template's id, 16 to 64 characters.
 * @param out_page required, items schedule.
 * @errors INVALID_ID; NOT_FOUND; UNEXPECTED_RESPONSE (the schedule is
 *   malformed, or larger than 1 MiB); as dbss_context_find_credentials
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_schedule_show(dbss_context *ctx,
                               const char *project,
                               const char *instance,
                               const char *template_id,
                               dbss_operation *operation,
                               dbss_page **out_page);

/**
 * Changes the schedule of a template. What the changes do not set stays as it
 * is: the call gets the present schedule, and sends all of it back with the
 * changes, including fields that this library does not know. A change that
 * somebody else makes between these two requests is lost.
 *
 * The second request is sent again only if it cannot have taken effect, as
 * that of dbss_report_create(). After another failure, such as a lost
 * connection, the schedule may have been changed: dbss_schedule_show() tells.
 *
 * @param ctx, project, instance, template_id as dbss_schedule_show.
 * @param changes required. They set at least one value, and may be used again.
 * @errors NOT_CONFIGURED (the changes set nothing); UNEXPECTED_RESPONSE (also
 *   if the present schedule lacks a field that the service requires: then set
 *   it too); REJECTED; as dbss_schedule_show
 * @blocks network.
 */
DBSS_API DBSS_WARN_UNUSED
dbss_status dbss_schedule_update(dbss_context *ctx,
                                 const char *project,
                                 const char *instance,
                                 const char *template_id,
                                 const dbss_schedule_changes *changes,
                                 dbss_operation *operation);

/* ============================================================================
 * 9. Mirror: a local archive of reports
 * ============================================================================ */

/**
 * The options of a mirror, by key and value.
 *
 * @threads any.
 */
struct dbss_mirror_options;

/**
 * The result of a mirror. It never changes.
 *
 * @threads any.
 */
struct dbss_mirror_result;

/**
 * Makes options for a mirror, with every option at its default.
 *
 * @param out_options required.
 */
DBSS_API DBSS_WARN_UNUSED dbss_status dbss_mirror_options_new(dbss_mirror_options **out_options);

/**
 * Sets an option of a mirror:
 *
 * - "instance" (id: 32 to 64 characters): The id of the only audit instance to
 *   mirror; by default all.
 * - "since" (day): The first day on which the time range of a report may
 *   begin, such as 2026-11-24. Reports without a date are included.
 * - "until" (day): The last day on which the time range of a report may begin.
 * - "type" (text: 1 to 256 bytes): The type of the reports, such as
 *   AUDIT_REPORT_DAY.
 * - "template" (text: 1 to 256 bytes): The template_type of the reports.
 * - "name" (text: 1 to 256 bytes): A part of the name of the reports, as the
 *   service searches.
 * - "locale" (choice: en-us, zh-cn): The language of the reports; by default
 *   the service's choice. Each language of a report is a separate report in
 *   the archive.
 * - "utc_offset" (text: 1 to 6 bytes; default +00:00): The offset from UTC
 *   that determines the day of a report, such as +08:00, for "since" and
 *   "until", the periods without a report and the directories of years. Times
 *   without an offset are UTC.
 * - "parallel" (number: 1 to 16; default 4): The number of parallel downloads.
 * - "verify" (boolean; default false): Whether existing files are read and
 *   compared with the manifest. Without it only the sizes are compared. A file
 *   that differs is downloaded again, and replaced when the new one is
 *   complete.
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
 * Frees options. Running mirrors are not affected.
 */
DBSS_API void dbss_mirror_options_free(dbss_mirror_options *options);

/**
 * Updates a local archive of reports: downloads every report that is ready and
 * not in the archive yet, several in parallel. Nothing in the archive is ever
 * deleted, even if the service deletes a report. The operation's bytes are the
 * sum of all downloads, and its percentage is that of finished reports.
 *
 * The directory then contains:
 *
 * - {instance}/{year}/{name}_{id}.pdf (or .zip): the reports. Each appears
 *   only when it is complete and on the disk. With a locale, _{locale} comes
 *   before the extension. If another report's file would have the same name on
 *   some file system, 16 digits derived from the id come there too.
 * - manifest.jsonl: a line of JSON for each, with id, name, instance, locale,
 *   format, type, start_time, end_time, path, size, sha256, and the request id
 *   and date of its download (null for an existing file that was adopted). If
 *   an id has several lines, the last counts.
 * - SHA256SUMS, for "sha256sum -c".
 * - .dbss-mirror.lock: allows only one mirror of a directory at a time. The
 *   lock is released when its process ends.
 *
 * After a mirror was cancelled or killed, the next call continues the work.
 * The failure of one report does not stop the others. Failures that would
 * affect all reports, such as rejected credentials and a full disk, end the
 * call.
 *
 * @param ctx required.
 * @param project optional. The project's id; NULL for the context's.
 * @param directory required, bytes. It is created if it does not exist.
 * @param options optional. Selects the reports; NULL for all reports.
 * @param out_result required, set on failure. The result, possibly partial;
 *   NULL if the mirror did not begin.
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
 * Reports in the service's lists that the options select.
 *
 * @return count.
 */
DBSS_API int64_t dbss_mirror_result_listed(const dbss_mirror_result *result);

/**
 * Reports that were added to the archive by this run.
 *
 * @return count.
 */
DBSS_API
int64_t dbss_mirror_result_downloaded(const dbss_mirror_result *result);

/**
 * Reports that were in the archive before this run.
 *
 * @return count.
 */
DBSS_API int64_t dbss_mirror_result_present(const dbss_mirror_result *result);

/**
 * Reports that the service is still generating.
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
 * The number of failures: reports, or lists of reports.
 *
 * @return count.
 */
DBSS_API
size_t dbss_mirror_result_failure_count(const dbss_mirror_result *result);

/**
 * The id of a report that failed to download, or "" if the list of an
 * instance's reports failed.
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
 * The error of a report that failed to download. Each text from the service is
 * limited to 1 KiB, and so are its details together.
 *
 * @param index index of dbss_mirror_result_failure_count.
 * @return owned, nullable. NULL past the last one, and if there is not enough
 *   memory.
 */
DBSS_API
dbss_error *dbss_mirror_result_failure_error(const dbss_mirror_result *result,
                                             size_t index);

/**
 * The number of days, weeks and months without a report of an instance and a
 * type (AUDIT_REPORT_DAY, _WEEK, _MONTH), from "since" to "until", or without
 * these from the first to the last report. What has no report at all has gaps
 * only if "type" selects it, "since" and "until" are set, and it is not weekly:
 * only reports show with which day a week begins. At most 10000 of an instance
 * and a type are found, the latest ones.
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
 * The type of the report that is missing in a gap.
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
