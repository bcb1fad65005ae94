/*
 * libdbss: downloads the audit reports of Huawei Cloud's Database Security
 * Service (DBSS). Generated from src/ffi; do not edit.
 *
 * A complete program: it saves an audit report, or says why it could not.
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
 * It is called with the ids of a project, an audit instance and a report, and
 * is compiled with: cc program.c -ldbss
 *
 * The ways to have a report, simplest first: in memory, as above; in a file,
 * which appears only when it is whole (dbss_report_download_to_file), or in a
 * directory under the report's own name; through a descriptor or a callback;
 * or pulled, part by part, as from a file (dbss_report_open). Each takes a
 * dbss_operation, with which any thread can watch and cancel the call. Broken
 * transfers are resumed or begun again by themselves, up to "max_attempts".
 *
 * Rules that hold for every function:
 *
 * - Errors. A function that can fail returns a dbss_status, where DBSS_OK is 0.
 *   It then also sets this thread's last error (dbss_last_error()), which says
 *   more; on success it clears it. No other function touches it.
 * - Results leave through out-parameters, which come last and are set to NULL
 *   or zero on every failure (but for dbss_reports_mirror(), which says so). They
 *   need not be initialised.
 * - NULL where a value is required is DBSS_ERR_NULL_ARGUMENT, never a crash; of
 *   several, dbss_error_parameter() names the first, the out-parameter before
 *   all others. Every _free function takes NULL and does nothing.
 * - Strings are NUL-terminated UTF-8; file paths are bytes. What you pass is
 *   copied or used up before the function returns, never kept.
 * - Handles (dbss_config, dbss_context, dbss_operation and so on) are opaque and
 *   belong to whoever made them, until their _free. They may be freed while
 *   another thread is still inside a call on them; the call holds what it needs.
 *   _free never blocks and does no network traffic.
 * - Threads. Every function may be called from any thread at any time, on
 *   shared handles too. Errors are kept for each thread.
 * - Blocking. A function that "uses the network" blocks until it is done, has
 *   failed or is cancelled; so may one that reads files or waits for a moment.
 *   One that "never blocks" waits for nobody; only a destroy function of yours
 *   may run in it.
 * - Callbacks come with a user_data pointer that is handed back to them, and,
 *   where they are stored, with a destroy function (may be NULL) that is called
 *   exactly once when the pointer is no longer needed. No lock is held while one
 *   runs. What is called inside a callback does not touch the last error. A
 *   callback must not throw, longjmp or end its thread.
 * - Durations are int64_t milliseconds and sizes int64_t bytes, -1 for unknown
 *   or none; sizes in memory and counts are size_t.
 * - The host is left alone: no signal handler, no output, no change of the
 *   environment or locale, no SIGPIPE, no exit. Descriptors are close-on-exec.
 *   Variables of the environment are read by dbss_context_new() alone:
 *   SSL_CERT_FILE and SSL_CERT_DIR, which name the system's certificates; for a
 *   region HUAWEICLOUD_SDK_REGION_DBSS_{REGION}, HUAWEICLOUD_SDK_REGIONS_FILE and
 *   HOME; and those of the options "credentials" and "proxy_from_environment",
 *   where these are set.
 * - The ABI only grows: no function, value or signature ever changes. For
 *   programs that make wrappers, dbss-abi.json says all of this again.
 */

#ifndef DBSS_H
#define DBSS_H

#include <stddef.h>
#include <stdint.h>

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
 * 1. Version, features, statuses
 * ============================================================================ */

/**
 * The version of the library that is loaded, such as "0.1.0"; compare with
 * DBSS_VERSION, which is the version of the header.
 *
 * Returns a static string, never NULL. Never blocks. Any thread, at any time.
 */
const char *dbss_version(void);

/**
 * The same as a number, to compare: major * 10000 + minor * 100 + patch, as
 * in DBSS_VERSION_NUMBER. Never blocks. Any thread, at any time.
 */
uint32_t dbss_version_number(void);

/**
 * Whether the loaded library has a feature, by its name; dbss_feature_name()
 * lists those of this version.
 *
 * @param name feature.
 * @return boolean. 0 for a name that it does not know, and for NULL.
 */
int32_t dbss_has_feature(const char *name);

/**
 * How many features the loaded library has.
 */
size_t dbss_feature_count(void);

/**
 * The name of a feature, such as "download".
 *
 * @param index index of dbss_feature_count.
 * @return static, nullable. NULL past the last one.
 */
const char *dbss_feature_name(size_t index);

/**
 * What a feature is, in a sentence.
 *
 * @param index index of dbss_feature_count.
 * @return static, nullable. NULL past the last one.
 */
const char *dbss_feature_help(size_t index);

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
 * Group of 1xx: an argument or an option is at fault; no request was sent.
 * dbss_error_parameter() names it.
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
 * The name of a status as this header spells it, such as
 * "DBSS_ERR_NOT_FOUND"; "DBSS_ERR_UNKNOWN" for a value that this version does
 * not know.
 *
 * @return static.
 */
const char *dbss_status_name(dbss_status status);

/**
 * What a status means, in general; dbss_error_message() says what happened
 * in particular.
 *
 * @return static.
 */
const char *dbss_status_message(dbss_status status);

/**
 * The group of a status: DBSS_OK, DBSS_ERR_ARGUMENT, DBSS_ERR_SERVICE,
 * DBSS_ERR_NETWORK, DBSS_ERR_FILE, DBSS_ERR_RESOURCE, DBSS_ERR_CANCELLED or
 * DBSS_ERR_INTERNAL. Values that are newer than this library have their group
 * too; a value outside of all ranges counts as DBSS_ERR_INTERNAL.
 *
 * @return status.
 */
dbss_status dbss_status_group(dbss_status status);

/**
 * How many statuses the loaded library knows, DBSS_OK among them.
 */
size_t dbss_status_count(void);

/**
 * A status of the list of all, in the order of their values.
 *
 * @param index index of dbss_status_count.
 * @return status, none -1. -1, which is no status, past the last one.
 */
dbss_status dbss_status_value(size_t index);

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
 */
size_t dbss_option_count(int32_t set);

/**
 * The key of an option.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL past the last one.
 */
const char *dbss_option_key(int32_t set, size_t index);

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
const char *dbss_option_type(int32_t set, size_t index);

/**
 * The default of an option, as text. An operation takes what it is not given
 * from its context, so its options have none.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL where the option is unset by default, and past
 * the last one.
 */
const char *dbss_option_default(int32_t set, size_t index);

/**
 * What an option does, in a sentence or two. Type, default and range stand in
 * the other getters.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL past the last one.
 */
const char *dbss_option_help(int32_t set, size_t index);

/**
 * The values of an option of the type "choice", joined by commas, such as
 * "en-us,zh-cn".
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return static, nullable. NULL for other types, and past the last one.
 */
const char *dbss_option_choices(int32_t set, size_t index);

/**
 * The smallest value of an option of the type "number", "milliseconds", "bytes"
 * or "mode" (384 for the octal 600); the least length in bytes of a text.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return none -1. -1 where there is none, and past the last one.
 */
int64_t dbss_option_minimum(int32_t set, size_t index);

/**
 * The largest value of an option, or the greatest length of a text, as for
 * dbss_option_minimum().
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return none -1. -1 where there is none, and past the last one.
 */
int64_t dbss_option_maximum(int32_t set, size_t index);

/**
 * Whether "-1" is a value of an option too, and means that there is no limit.
 *
 * @param set one of DBSS_OPTIONS_.
 * @param index index of dbss_option_count.
 * @return boolean. 0 past the last one.
 */
int32_t dbss_option_allows_none(int32_t set, size_t index);


/* ============================================================================
 * 2. Errors
 * ============================================================================ */

/**
 * Why a call failed: a status, a sentence, and all that the service and the
 * system said. Immutable, so any thread may read it.
 *
 * There are two ways to hold one: dbss_last_error() lends this thread's, and
 * dbss_error_take() gives it to you.
 */
struct dbss_error;

/**
 * The error of this thread's last function that returned a dbss_status; NULL
 * when that one succeeded or none was called yet. Only functions that return
 * a dbss_status set or clear it: getters and _free functions do not.
 *
 * Lent: valid on this thread until its next function that returns a
 * dbss_status, or dbss_error_take(). Do not free it, and do not hand it to
 * another thread; take it for that. Never blocks. Any thread.
 */
const dbss_error *dbss_last_error(void);

/**
 * The same error, now yours, for as long as you like and on any thread; end
 * it with dbss_error_free(). Afterwards dbss_last_error() is NULL on this
 * thread. Returns NULL when there is no error. Never blocks. Any thread.
 */
dbss_error *dbss_error_take(void);

/**
 * Frees an error that dbss_error_take() gave, and all strings that its
 * getters returned. NULL does nothing. Never blocks. Any thread.
 */
void dbss_error_free(dbss_error *error);

/**
 * The status that the failed call returned; DBSS_OK for NULL. Never blocks.
 * Any thread.
 */
dbss_status dbss_error_status(const dbss_error *error);

/**
 * One line for a person: what was wrong and what to do, with the service's
 * words and request id where there are any. It holds no secret and no control
 * characters. The wording may change between versions: programs should use
 * the other getters.
 *
 * Returns a string that lives as long as the error; "" for NULL. Never blocks.
 * Any thread.
 */
const char *dbss_error_message(const dbss_error *error);

/**
 * The name of the parameter or option at fault, for a status of the group
 * DBSS_ERR_ARGUMENT.
 *
 * Returns a string that lives as long as the error; NULL where no parameter
 * is at fault and for NULL. Never blocks. Any thread.
 */
const char *dbss_error_parameter(const dbss_error *error);

/**
 * The HTTP status of the answer, such as 404; 0 when no answer came, and for
 * NULL. Never blocks. Any thread.
 */
int32_t dbss_error_http_status(const dbss_error *error);

/**
 * The service's own error code, such as "DBSS.10021004" or "APIG.0301". A
 * code that came as a number is given in decimal.
 *
 * Returns a string that lives as long as the error; NULL where the service
 * gave none and for NULL. Never blocks. Any thread.
 */
const char *dbss_error_service_code(const dbss_error *error);

/**
 * The service's own words, as it sent them: bytes that are not UTF-8, and
 * U+0000, are replaced by U+FFFD, credentials of this context by "***";
 * control characters are kept.
 *
 * Returns a string that lives as long as the error; NULL where the service
 * gave none and for NULL. Never blocks. Any thread.
 */
const char *dbss_error_service_message(const dbss_error *error);

/**
 * The service's id of this call (header X-Request-Id, or request_id in the
 * body). Quote it to the service's support.
 *
 * Returns a string that lives as long as the error; NULL where the service
 * gave none and for NULL. Never blocks. Any thread.
 */
const char *dbss_error_request_id(const dbss_error *error);

/**
 * The encoded message that explains a refused authorization; its decoder is
 * an API of the service.
 *
 * Returns a string that lives as long as the error; NULL where the service
 * gave none and for NULL. Never blocks. Any thread.
 */
const char *dbss_error_encoded_authorization_message(const dbss_error *error);

/**
 * How many entries the error body's "details" has; 0 for NULL. Never blocks.
 * Any thread.
 */
size_t dbss_error_detail_count(const dbss_error *error);

/**
 * The error code of the entry `index`, counted from 0.
 *
 * Returns a string that lives as long as the error; NULL past the last entry,
 * where the entry has none, and for NULL. Never blocks. Any thread.
 */
const char *dbss_error_detail_code(const dbss_error *error, size_t index);

/**
 * The words of the entry `index`, counted from 0.
 *
 * Returns a string that lives as long as the error; NULL past the last entry,
 * where the entry has none, and for NULL. Never blocks. Any thread.
 */
const char *dbss_error_detail_message(const dbss_error *error, size_t index);

/**
 * How many reports may be the one that was created, for
 * DBSS_ERR_AMBIGUOUS; 0 for NULL. Never blocks. Any thread.
 */
size_t dbss_error_candidate_count(const dbss_error *error);

/**
 * The id of the candidate `index`, counted from 0.
 *
 * Returns a string that lives as long as the error; NULL past the last
 * candidate, and for NULL. Never blocks. Any thread.
 */
const char *dbss_error_candidate(const dbss_error *error, size_t index);

/**
 * Where the service redirected to (header Location, as it came, but for
 * secrets), for DBSS_ERR_REDIRECTED.
 *
 * Returns a string that lives as long as the error; NULL where there is none
 * and for NULL. Never blocks. Any thread.
 */
const char *dbss_error_redirect_target(const dbss_error *error);

/**
 * The file or directory at fault, such as the file that exists already
 * (DBSS_ERR_FILE_EXISTS).
 *
 * Returns bytes as the file system has them, that live as long as the error;
 * NULL where no path is at fault and for NULL. Never blocks. Any thread.
 */
const char *dbss_error_path(const dbss_error *error);

/**
 * The value of errno with which the operating system refused; 0 where it did
 * not and for NULL. Never blocks. Any thread.
 */
int32_t dbss_error_os_code(const dbss_error *error);

/**
 * 1 when the cause is one that passes by itself (throttling, a failing
 * server, a broken or stalled connection, a timeout), so that the same call
 * may succeed later; 0 when it will fail again, and for NULL. Never blocks.
 * Any thread.
 */
int32_t dbss_error_is_retryable(const dbss_error *error);

/**
 * How long the service asks to wait before the next attempt (header
 * Retry-After, in seconds or as a date), in milliseconds; -1 where it does
 * not say, and for NULL. Never blocks. Any thread.
 */
int64_t dbss_error_retry_after_ms(const dbss_error *error);

/**
 * How many requests were made before the call gave up: 0 when an argument was
 * at fault, and for NULL. Never blocks. Any thread.
 */
uint32_t dbss_error_attempts(const dbss_error *error);


/* ============================================================================
 * 3. Configuration
 * ============================================================================ */

/**
 * Called once when the library will not use `user_data` any more.
 *
 * Runs on the thread of the host that lets go last, never on one of the
 * library. It must not throw, longjmp or end the thread.
 */
typedef void (*dbss_destroy_fn)(void *user_data);

/**
 * A configuration under construction. dbss_context_new() copies it, so it can
 * be changed or freed afterwards, and used for several contexts.
 *
 * Each setter checks its value at once and, when it fails, leaves the
 * configuration as it was. Any thread may use it.
 */
struct dbss_config;

/**
 * Makes a configuration with every option at its default.
 *
 * `out_config` (required) receives it, or NULL on failure; it is yours: end
 * it with dbss_config_free(). Errors: DBSS_ERR_NULL_ARGUMENT. Never blocks.
 * Any thread.
 */
dbss_status dbss_config_new(dbss_config **out_config);

/**
 * Frees a configuration and wipes the secrets in it. Contexts made from it
 * are not touched. NULL does nothing. Never blocks. Any thread.
 */
void dbss_config_free(dbss_config *config);

/**
 * Sets the region, such as "cn-north-4". The endpoint is then, unless one is
 * set too, and as for the official SDKs: what the variable
 * HUAWEICLOUD_SDK_REGION_DBSS_{REGION} (upper case, "_" for "-") says when the
 * context is made; else what the regions file (HUAWEICLOUD_SDK_REGIONS_FILE,
 * or ~/.huaweicloud/regions.yaml) has for the service DBSS; else
 * https://dbss.{region}.myhuaweicloud.com. The region's name is also that of
 * the project that is looked up where none is given.
 *
 * `config` (required). `region` (required): 1 to 63 characters of a-z, 0-9 and
 * "-"; it is copied. A region that this library has never heard of is as good
 * as any.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8,
 * DBSS_ERR_INVALID_ENDPOINT. Never blocks. Any thread.
 */
dbss_status dbss_config_set_region(dbss_config *config, const char *region);

/**
 * Sets the URL at which the service answers, such as
 * "https://dbss.example.com" or "https://gateway.example.com:8443/dbss". It
 * outranks the region's.
 *
 * `config` (required). `endpoint` (required): https, or http, with a host, and
 * maybe a port and a path; no user, query or fragment; it is copied. It may be
 * up to 16 URLs, separated by commas, in the order of preference: where one
 * cannot be reached (no such host, no connection) the next is tried, and used
 * from then on. Plain http to a host other than this machine also needs the
 * option "allow_plaintext".
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8,
 * DBSS_ERR_INVALID_ENDPOINT. Never blocks. Any thread.
 */
dbss_status dbss_config_set_endpoint(dbss_config *config, const char *endpoint);

/**
 * Sets the IAM token that is sent with each request (X-Auth-Token), in place
 * of other credentials: of those that are set, the last counts. Tokens live 24
 * hours: dbss_context_set_token() replaces it later.
 *
 * `config` (required). `token` (required): 1 to 98304 (96 KiB) visible ASCII
 * characters, so no space and no line end; it is copied, and the copy wiped
 * when it is no longer needed. Wipe your own.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_TOKEN. Never blocks. Any
 * thread.
 */
dbss_status dbss_config_set_token(dbss_config *config, const char *token);

/**
 * Sets an access key (AK and SK), with which each request is signed
 * (SDK-HMAC-SHA256), in place of other credentials. Unlike a token a permanent
 * key does not expire.
 *
 * `config` (required). `access_key` and `secret_key` (required): 1 to 1024
 * visible ASCII characters. `security_token`: that of a temporary key, up to
 * 98304 characters; NULL for a permanent one. They are copied, and the copies
 * wiped when they are no longer needed. A refused signature is never tried
 * again: five wrong ones in a row lock a key for five minutes.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_ACCESS_KEY. Never blocks.
 * Any thread.
 */
dbss_status dbss_config_set_access_key(dbss_config *config,
                                       const char *access_key,
                                       const char *secret_key,
                                       const char *security_token);

/**
 * Sets the IAM user who logs in for a token, in place of other credentials.
 * The login is made by the first call that needs it, for all threads, and its
 * token kept; it is renewed before it expires, and once for each call that it
 * is refused to. It is for the project of "project_id", else for that of the
 * region. IAM is where the option "iam_endpoint" says.
 *
 * `config` (required). `user`, `password` and `domain` (required; the last is
 * the account's name): 1 to 1024 bytes of UTF-8; they are copied, and the
 * password wiped when it is no longer needed. A login that IAM has refused is
 * not made again by the same context, since several wrong ones lock a user;
 * its calls then fail with the same error.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8,
 * DBSS_ERR_INVALID_VALUE. Never blocks. Any thread.
 */
dbss_status dbss_config_set_iam_user(dbss_config *config,
                                     const char *user,
                                     const char *password,
                                     const char *domain);

/**
 * Sets any option by its key; dbss_option_key() lists them at run time:
 *
 * "region" (text, default unset): The region, such as cn-north-4; the endpoint
 *    and the project follow from it, unless they are set too. a-z, 0-9 and
 *    "-". 1 to 63 bytes.
 * "endpoint" (url, default unset): The URL at which the service responds, or
 *    up to 16, separated by commas, in the order of preference; it outranks
 *    the region's.
 * "project_id" (id, default unset): The id of the project for calls that are
 *    given none. Without it, that of the credentials, or the one of the
 *    region's name, looked up once. 32 to 64 characters.
 * "token" (secret, default unset): The IAM token that is sent with each
 *    request, in place of other credentials. Visible ASCII characters. 1 to
 *    98304 bytes.
 * "access_key" (secret, default unset): The access key (AK) with which each
 *    request is signed, in place of other credentials; it needs "secret_key".
 *    Visible ASCII characters. 1 to 1024 bytes.
 * "secret_key" (secret, default unset): The secret (SK) of "access_key".
 *    Visible ASCII characters. 1 to 1024 bytes.
 * "security_token" (secret, default unset): The security token of a temporary
 *    "access_key". Visible ASCII characters. 1 to 98304 bytes.
 * "iam_user" (text, default unset): The IAM user who logs in for a token, in
 *    place of other credentials; it needs "iam_password" and "iam_domain". 1
 *    to 1024 bytes.
 * "iam_password" (secret, default unset): The password of "iam_user". 1 to
 *    1024 bytes.
 * "iam_domain" (text, default unset): The name of the account of "iam_user". 1
 *    to 1024 bytes.
 * "credentials" (choice, default unset): Where to find credentials, in place
 *    of setting them: environment (HUAWEICLOUD_SDK_AK, _SK, _SECURITY_TOKEN,
 *    _PROJECT_ID), profile (the section [basic] of ~/.huaweicloud/credentials,
 *    or of the file that HUAWEICLOUD_SDK_CREDENTIALS_FILE names), metadata
 *    (the temporary key of the instance's agency), or default, which is the
 *    three in this order. default, environment, profile, metadata.
 * "iam_endpoint" (url, default unset): The URL at which IAM responds, for
 *    logins and for looking up a project. Without it that of the profile, else
 *    https://iam.{region}.myhuaweicloud.com, else
 *    https://iam.myhuaweicloud.com.
 * "metadata_endpoint" (url, default unset): The URL at which the instance's
 *    metadata service responds, if not http://169.254.169.254.
 * "ca_file" (path, default unset): A PEM file of the certificates to trust, in
 *    place of the system's and of the built-in ones.
 * "connect_timeout_ms" (milliseconds, default 10000): The longest time until a
 *    connection stands: name look-up, TCP and TLS together. 1 to 86400000, or
 *    -1 for no limit.
 * "stall_timeout_ms" (milliseconds, default 60000): The longest time without a
 *    byte in or out. 1 to 86400000, or -1 for no limit.
 * "total_timeout_ms" (milliseconds, default -1): The longest time for a whole
 *    call. 1 to 2592000000, or -1 for no limit.
 * "max_attempts" (number, default 3): How many attempts a call makes when the
 *    connection fails or breaks, or the service responds with 429, 500, 502,
 *    503 or 504; counted anew after an attempt that brought 1 MiB. 1 is for no
 *    retries. 1 to 1000.
 * "max_retry_after_ms" (milliseconds, default 60000): The longest wait that
 *    the service may ask for (Retry-After) before another attempt; where it
 *    asks for more, the call fails at once. 0 to 86400000.
 * "allow_plaintext" (boolean, default false): Whether an endpoint on another
 *    host may be plain http, which shows the token and the report to the
 *    network.
 * "allow_close_delimited" (boolean, default false): Whether a body over plain
 *    http may end by nothing but the end of the connection; then nobody can
 *    tell whether it is whole.
 * "follow_redirects" (boolean, default false): Whether up to 5 redirects are
 *    followed; credentials never go to another origin, nor a request from
 *    https to plain http.
 * "proxy" (secret, default unset): The URL of an HTTP proxy, such as
 *    http://user:password@proxy.example.com:3128, through which all
 *    connections are tunnelled (CONNECT).
 * "proxy_from_environment" (boolean, default false): Whether the proxy is
 *    taken from https_proxy, http_proxy, all_proxy and no_proxy (upper case
 *    too, but for HTTP_PROXY) when the context is made.
 * "file_mode" (mode, default 600): The permissions of a saved file in octal
 *    digits, whatever the umask is; the owner can always read and write. 600
 *    to 777.
 * "max_memory_bytes" (bytes, default 1073741824): The largest report that a
 *    call takes into memory. 1 to 9223372036854775807.
 * "wait_timeout_ms" (milliseconds, default 3600000): The longest time to wait
 *    for a report that the service makes. 1 to 2592000000, or -1 for no limit.
 * "poll_interval_ms" (milliseconds, default 2000): How long to wait before a
 *    report that is being made is looked at again; half as long again each
 *    time, up to 30 s or this where it is more, and varied by a fifth. 1 to
 *    86400000.
 * "interruptible" (boolean, default false): Whether a signal that the program
 *    handles may end a call. dbss_operation_set_interrupt() sets who decides;
 *    without it every handled signal does.
 * "user_agent_suffix" (text, default unset): Text after "libdbss/VERSION" in
 *    the User-Agent header, such as a program's name and version. Visible
 *    ASCII characters and spaces. 1 to 256 bytes.
 *
 * `config` and `key` (required). `value` (required, bytes). They are copied. A
 * value is text in the form of its option's type: "text", "id", "url", "secret"
 * and "path" as they are (a path is bytes, it need not be UTF-8);
 * "milliseconds", "bytes" and "number" in decimal digits, or "-1" for no limit
 * where the option says so; "mode" in octal digits; "boolean" as true or false;
 * "day" such as 2026-11-24; "choice" as one of its words.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_UNKNOWN_KEY,
 * DBSS_ERR_INVALID_VALUE, and those of the typed setter where there is one.
 * Never blocks. Any thread.
 */
dbss_status dbss_config_set(dbss_config *config, const char *key, const char *value);

/**
 * The level of a record about a call that failed.
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
 * A record of the log. It is valid during the callback that it is given to, and
 * so are the strings that its getters return; they may be called there alone.
 * Nothing in it is secret.
 */
struct dbss_log_record;

/**
 * Takes a record of the log.
 *
 * Runs on the threads of the calls, on several at once, with no lock held; what
 * a mirror's own threads tell is told on the thread of the call. It must not
 * throw, longjmp or end the thread.
 */
typedef void (*dbss_log_fn)(void *user_data, const dbss_log_record *record);

/**
 * Sets the log callback of the contexts made from this configuration. Without
 * one, nothing is logged anywhere.
 *
 * `config` (required). `log` (may be NULL, for none). `user_data` is handed
 * to it; `destroy` (may be NULL) is called with it exactly once: when the
 * callback is replaced and the configuration and all contexts made from it are
 * gone, or at once when this function fails.
 * Errors: DBSS_ERR_NULL_ARGUMENT. Never blocks. Any thread.
 */
dbss_status dbss_config_set_log(dbss_config *config,
                                dbss_log_fn log,
                                void *user_data,
                                dbss_destroy_fn destroy);

/**
 * How much the record matters: one of the DBSS_LOG_ values; newer versions may
 * have more. 0 for NULL. Never blocks. Any thread.
 */
int32_t dbss_log_record_level(const dbss_log_record *record);

/**
 * The record as one line for people, without its end. The wording may change
 * between versions.
 *
 * Returns a string that lives as long as the record; "" for NULL. Never blocks.
 * Any thread.
 */
const char *dbss_log_record_message(const dbss_log_record *record);

/**
 * What failed: the status of the call, or the cause of another attempt;
 * DBSS_OK where the record is about no failure, and for NULL. Never blocks. Any
 * thread.
 */
dbss_status dbss_log_record_status(const dbss_log_record *record);

/**
 * How many requests the call had made, the one that the record is about
 * included; 0 where it is about none, and for NULL. Never blocks. Any thread.
 */
uint32_t dbss_log_record_attempt(const dbss_log_record *record);

/**
 * The service's id of the request (header X-Request-Id).
 *
 * Returns a string that lives as long as the record; NULL where there is none
 * and for NULL. Never blocks. Any thread.
 */
const char *dbss_log_record_request_id(const dbss_log_record *record);

/**
 * The id of the report that the call is about.
 *
 * Returns a string that lives as long as the record; NULL where it is about none
 * and for NULL. Never blocks. Any thread.
 */
const char *dbss_log_record_report_id(const dbss_log_record *record);

/**
 * The size of the body, in bytes; -1 where the record has none, and for NULL.
 * Never blocks. Any thread.
 */
int64_t dbss_log_record_bytes(const dbss_log_record *record);

/**
 * How long the call has taken, in milliseconds; -1 where the record does not
 * say, and for NULL. Never blocks. Any thread.
 */
int64_t dbss_log_record_duration_ms(const dbss_log_record *record);

/**
 * Where in the body a transfer broke or goes on, in bytes from its start; -1
 * where the record is not about that, and for NULL. Never blocks. Any thread.
 */
int64_t dbss_log_record_offset(const dbss_log_record *record);

/**
 * How long the call waits before its next attempt, in milliseconds; -1 where
 * the record is not about that, and for NULL. Never blocks. Any thread.
 */
int64_t dbss_log_record_retry_delay_ms(const dbss_log_record *record);

/**
 * A request for a token, to be answered by dbss_token_request_set() or
 * dbss_token_request_fail(), once, and then ended by
 * dbss_token_request_free(). All of it at once or later, from any thread.
 */
struct dbss_token_request;

/**
 * Asked for a token: by the first call that needs one, before the last one
 * expires, and after the service has refused it. `request` is yours: answer
 * it, now or later, and end it with dbss_token_request_free().
 *
 * One request is under way at a time, for all calls that wait for its answer;
 * each of them obeys its own cancel and timeouts, and where one has waited for
 * its "stall_timeout_ms", the next call asks anew.
 *
 * Runs on the thread of one of the calls, with no lock held; that call cannot
 * be cancelled until the function returns. It may call anything but the same
 * context's calls that need a token. It must not throw, longjmp or end the
 * thread.
 */
typedef void (*dbss_token_provider_fn)(void *user_data, dbss_token_request *request);

/**
 * Sets a function of yours that gives tokens, in place of other credentials,
 * for the contexts made from this configuration.
 *
 * `config` (required). `provider` (may be NULL, which takes away the one that
 * was set). `user_data` is handed to it; `destroy` (may be NULL) is called
 * with it exactly once: when the provider is replaced and the configuration
 * and all contexts made from it are gone, or at once when this function fails.
 * Errors: DBSS_ERR_NULL_ARGUMENT. Never blocks. Any thread.
 */
dbss_status dbss_config_set_token_provider(dbss_config *config,
                                           dbss_token_provider_fn provider,
                                           void *user_data,
                                           dbss_destroy_fn destroy);

/**
 * Whether the service has refused the last token that was given: 1, and the
 * same one would be refused again; else 0, and 0 for NULL. Never blocks. Any
 * thread.
 */
int32_t dbss_token_request_refused(const dbss_token_request *request);

/**
 * Answers with a token.
 *
 * `request` and `token` (required); the token as for dbss_config_set_token(),
 * copied and wiped when it is no longer needed. `expires_ms`: when it expires,
 * in milliseconds since 1970 UTC by the clock of this machine, so that the
 * next is asked for in time; -1 when that is not known. Where the token is
 * refused here, the calls that wait fail with DBSS_ERR_NO_TOKEN.
 * Errors: DBSS_ERR_NULL_ARGUMENT; DBSS_ERR_INVALID_TOKEN, also when it has
 * expired already; DBSS_ERR_INVALID_VALUE (expires_ms); DBSS_ERR_ARGUMENT when
 * the request has been answered already. Never blocks. Any thread.
 */
dbss_status dbss_token_request_set(dbss_token_request *request,
                                   const char *token,
                                   int64_t expires_ms);

/**
 * Answers that there is no token: the calls that wait fail with
 * DBSS_ERR_NO_TOKEN, and the next call asks again.
 *
 * `request` (required). `message`: why, for the error's message, at most 512
 * bytes of it; NULL for no reason. It is copied; let it hold no secret.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8; DBSS_ERR_ARGUMENT
 * when the request has been answered already. Never blocks. Any thread.
 */
dbss_status dbss_token_request_fail(dbss_token_request *request, const char *message);

/**
 * Ends a request. Without an answer it counts as failed. NULL does nothing.
 * Never blocks. Any thread.
 */
void dbss_token_request_free(dbss_token_request *request);


/* ============================================================================
 * 4. Context
 * ============================================================================ */

/**
 * A service, the credentials for it and the connections to it, which stay
 * open between calls. Make one and share it: any number of threads may use it
 * at once.
 *
 * After fork() a child may go on using the contexts that it inherited: it
 * opens connections of its own and leaves the parent's alone.
 */
struct dbss_context;

/**
 * Makes a context from a configuration. No request is sent, but files and the
 * environment are read now. The trusted certificates: those of "ca_file" where
 * that is set, else the system's, else (where the system has none) the ones
 * built in. For a region without an endpoint, what the environment and the
 * regions file say of it. With the option "credentials", what it names.
 *
 * `config` (required) is copied. `out_ctx` (required) receives the
 * context, or NULL on failure; it is yours: end it with dbss_context_free().
 * Errors: DBSS_ERR_NULL_ARGUMENT; DBSS_ERR_NOT_CONFIGURED without a region or
 * endpoint, with a half of an access key or a part of an IAM user, or where
 * "credentials" names a place that has none; DBSS_ERR_INVALID_CREDENTIALS when
 * what is there is wrong; DBSS_ERR_INVALID_ENDPOINT when a region's is;
 * DBSS_ERR_PLAINTEXT_REFUSED; DBSS_ERR_FILE when a file cannot be read;
 * DBSS_ERR_INVALID_VALUE when the CA file holds no certificate. Reads files.
 * Any thread.
 */
dbss_status dbss_context_new(const dbss_config *config, dbss_context **out_ctx);

/**
 * Replaces the credentials by a token. Calls that start afterwards use the new
 * one; calls that are under way finish with the old ones.
 *
 * `ctx` (required). `token` as for dbss_config_set_token(); on failure the old
 * one stays.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_TOKEN. Never blocks. Any
 * thread, also while others download.
 */
dbss_status dbss_context_set_token(dbss_context *ctx, const char *token);

/**
 * Cancels all calls on this context that are under way in this process, open
 * streams included: they end with DBSS_ERR_CANCELLED. Calls that start
 * afterwards run, under the same operations too.
 *
 * NULL does nothing. May wait for a moment, so not from a signal handler. Any
 * thread.
 */
void dbss_context_cancel_all(dbss_context *ctx);

/**
 * Closes a context: ends its calls under way in this process with
 * DBSS_ERR_CANCELLED, open streams included, and later ones with
 * DBSS_ERR_CLOSED; closes its idle connections. It waits for nothing, and
 * leaves the context to its dbss_context_free(), which a program may call when
 * nothing can use it any more. Closing it again does nothing.
 *
 * NULL does nothing. Never blocks. Any thread, also in a callback, but not from
 * a signal handler.
 */
void dbss_context_close(dbss_context *ctx);

/**
 * Frees a context: closes its idle connections and wipes its secrets. Calls
 * under way are not disturbed: they hold what they need until they end; only
 * a call that starts after this one is an error of the program. NULL does
 * nothing. Never blocks. Any thread.
 */
void dbss_context_free(dbss_context *ctx);

/**
 * Credentials that were found, for people and logs: nothing in it is secret.
 */
struct dbss_credentials;

/**
 * Finds the credentials that a call would use now, as it would: by asking the
 * token provider, logging in, or asking the metadata service, where that is
 * configured and has not been done yet. Whether the service takes them,
 * dbss_context_check() tells.
 *
 * `ctx` and `out_credentials` (required); the latter receives what was found,
 * or NULL on failure; it is yours: end it with dbss_credentials_free().
 * `operation` may be NULL.
 * Errors: DBSS_ERR_NULL_ARGUMENT; DBSS_ERR_NOT_CONFIGURED when there are none;
 * DBSS_ERR_NO_TOKEN; every status of the groups DBSS_ERR_SERVICE (of IAM and
 * the metadata service) and DBSS_ERR_NETWORK; DBSS_ERR_BUSY,
 * DBSS_ERR_CANCELLED. Uses the network. Any thread.
 */
dbss_status dbss_context_find_credentials(dbss_context *ctx,
                                          dbss_operation *operation,
                                          dbss_credentials **out_credentials);

/**
 * Asks the service whether it takes the credentials, by asking it for an
 * instance of the project; nothing is downloaded or changed.
 *
 * `ctx` (required). `project`: the project's id; NULL for the context's.
 * `operation` may be NULL.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID;
 * DBSS_ERR_UNAUTHENTICATED when it does not; DBSS_ERR_FORBIDDEN when it knows
 * them and does not allow that; those of dbss_context_find_credentials(). Uses
 * the network. Any thread.
 */
dbss_status dbss_context_check(dbss_context *ctx, const char *project, dbss_operation *operation);

/**
 * Where they are from: "token", "access_key", "token_provider", "iam_user",
 * "environment", "profile" or "metadata". Newer versions may have more.
 *
 * Returns a static string; NULL for NULL. Never blocks. Any thread.
 */
const char *dbss_credentials_source(const dbss_credentials *credentials);

/**
 * The same in words, with the variable, file or address.
 *
 * Returns a string that is valid until dbss_credentials_free(); NULL for NULL.
 * Never blocks. Any thread.
 */
const char *dbss_credentials_description(const dbss_credentials *credentials);

/**
 * Whose they are: the user's name, or the access key with its middle left out.
 *
 * Returns a string that is valid until dbss_credentials_free(); NULL where
 * they do not tell, and for NULL. Never blocks. Any thread.
 */
const char *dbss_credentials_name(const dbss_credentials *credentials);

/**
 * The id of the project that calls use when they are given none, as far as it
 * is known without looking it up.
 *
 * Returns a string that is valid until dbss_credentials_free(); NULL where it
 * is not known, and for NULL. Never blocks. Any thread.
 */
const char *dbss_credentials_project(const dbss_credentials *credentials);

/**
 * When they expire, in milliseconds since 1970 UTC; -1 where that is not
 * known, when they do not, and for NULL. Never blocks. Any thread.
 */
int64_t dbss_credentials_expires_ms(const dbss_credentials *credentials);

/**
 * Frees what was found. NULL does nothing. Never blocks. Any thread.
 */
void dbss_credentials_free(dbss_credentials *credentials);


/* ============================================================================
 * 5. Download: memory, file, directory, descriptor, callback
 * ============================================================================ */

/**
 * Bytes that libdbss allocated, and how many. The only structure of this
 * library whose inside is public.
 *
 * A function that fills one overwrites it on entry and never reads it, so it
 * need not be initialised; on failure it is { NULL, 0 }. End it with
 * dbss_buffer_free(), not with free().
 */
typedef struct {
    /**
     * The first byte; NULL when the buffer is empty.
     */
    uint8_t *data;
    /**
     * The number of bytes.
     */
    size_t len;
} dbss_buffer;

/**
 * Frees the bytes of a buffer and sets it to { NULL, 0 }, so freeing it twice
 * is harmless. NULL and an empty buffer do nothing. Never blocks. Any thread.
 */
void dbss_buffer_free(dbss_buffer *buffer);

/**
 * A flag of the file functions: a file of the name may be replaced, in one
 * step, when the new one is whole. Without it an existing file is kept and the
 * call fails with DBSS_ERR_FILE_EXISTS.
 */
#define DBSS_FILE_REPLACE 1

/**
 * Takes the next bytes of a report, in order: `data` are `len` bytes, at least
 * 1, valid until it returns. Return 0 to go on; anything else ends the call
 * with DBSS_ERR_CANCELLED.
 *
 * Runs on the thread of the call, with no lock held. It may call getters and
 * dbss_operation_cancel(); other calls on the same operation are refused with
 * DBSS_ERR_BUSY. It must not throw, longjmp or end the thread.
 */
typedef int32_t (*dbss_write_fn)(void *user_data, const uint8_t *data, size_t len);

/**
 * Downloads an audit report (PDF or ZIP) into memory: the service's call
 * DownloadAuditReport. Blocks until the whole report is there or the call has
 * failed; a report that did not arrive whole is a failure.
 *
 * `ctx` (required) may be in use by other threads at the same time.
 * `project`: the project's id; NULL for the context's: that of the option
 * "project_id", else of the credentials, else of the project that has the
 * region's name, which is looked up at IAM once. `instance` (required): the
 * audit instance's id. Both have 32 to 64 characters. `id` (required): the
 * report's id, 16 to 64 characters. Ids are made of ASCII letters, digits, "-"
 * and "_".
 * `locale`: the language of the report, "en-us" or "zh-cn", in any letter
 * case, "_" for "-" accepted; NULL leaves the choice to the service, which
 * takes en-us.
 * `out_buf` (required) receives the report, or { NULL, 0 } on failure; it is
 * yours: end it with dbss_buffer_free().
 *
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID,
 * DBSS_ERR_INVALID_LOCALE and DBSS_ERR_NOT_CONFIGURED (no credentials, no
 * project), all before any traffic to the service; those of
 * dbss_context_find_credentials(); every status of the groups DBSS_ERR_SERVICE
 * and DBSS_ERR_NETWORK; DBSS_ERR_RESOURCE; DBSS_ERR_OUT_OF_MEMORY, also for a
 * report that the system cannot hold; DBSS_ERR_LIMIT_EXCEEDED for one that is
 * larger than the option "max_memory_bytes"; DBSS_ERR_CANCELLED by
 * dbss_context_cancel_all(). Memory grows with what arrives, not with what the
 * server announces. Uses the network. Any thread.
 */
dbss_status dbss_report_download(dbss_context *ctx,
                                 const char *project,
                                 const char *instance,
                                 const char *id,
                                 const char *locale,
                                 dbss_buffer *out_buf);

/**
 * The same, under an operation.
 *
 * `operation` may be NULL; the other parameters as for dbss_report_download().
 * Errors: those of dbss_report_download(), among them DBSS_ERR_NULL_ARGUMENT;
 * DBSS_ERR_BUSY, DBSS_ERR_CANCELLED. Uses the network. Any thread.
 */
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
 * crash, what stood there stands there still.
 *
 * The first five parameters as for dbss_report_download(). `path` (required,
 * bytes): as the file system has them; its directory must exist and be
 * writable. `flags`: 0 or DBSS_FILE_REPLACE. `operation` may be NULL; its path
 * is then this one. The permissions are those of the option "file_mode".
 *
 * While it arrives the report is in a file without a name in the target's
 * directory, which goes with the process; where a file system has no such
 * files (and for a moment before it replaces another) in a hidden file
 * ".dbss-XXXXXX.part", which only a killed process or a stopped machine
 * leaves.
 * Errors: those of dbss_report_download() but the ones about memory, among
 * them DBSS_ERR_NULL_ARGUMENT; DBSS_ERR_INVALID_VALUE (path, flags);
 * DBSS_ERR_FILE_EXISTS, DBSS_ERR_NOT_REGULAR_FILE (also for a symbolic link),
 * DBSS_ERR_FILE (no such directory, no permission), all before any traffic;
 * DBSS_ERR_DISK_FULL; DBSS_ERR_BUSY, DBSS_ERR_CANCELLED. Uses the network. Any
 * thread.
 */
dbss_status dbss_report_download_to_file(dbss_context *ctx,
                                         const char *project,
                                         const char *instance,
                                         const char *id,
                                         const char *locale,
                                         const char *path,
                                         uint32_t flags,
                                         dbss_operation *operation);

/**
 * Downloads a report into a directory, under the report's own name made safe;
 * dbss_operation_path() tells it afterwards. Otherwise as
 * dbss_report_download_to_file().
 *
 * `directory` (required, bytes): it must exist. `operation` may be NULL.
 * Errors: those of dbss_report_download_to_file(), among them
 * DBSS_ERR_NULL_ARGUMENT; DBSS_ERR_FILE_EXISTS can only be told when the
 * service has said the name. Uses the network. Any thread.
 */
dbss_status dbss_report_download_to_directory(dbss_context *ctx,
                                              const char *project,
                                              const char *instance,
                                              const char *id,
                                              const char *locale,
                                              const char *directory,
                                              uint32_t flags,
                                              dbss_operation *operation);

/**
 * Downloads a report to a descriptor: a file, from where it stands; a pipe, a
 * socket, a terminal. POSIX only.
 *
 * The first five parameters as for dbss_report_download(). `fd` must be open
 * for writing, blocking or not; it is never closed, and its mode not changed.
 * `operation` may be NULL. What was written before a failure cannot be taken
 * back: only a call that returned DBSS_OK has written a report.
 * Errors: those of dbss_report_download() but the ones about memory, among
 * them DBSS_ERR_NULL_ARGUMENT; DBSS_ERR_ARGUMENT when `fd` is not open for
 * writing; DBSS_ERR_BROKEN_PIPE when its reader has gone (never SIGPIPE);
 * DBSS_ERR_DISK_FULL, DBSS_ERR_FILE, DBSS_ERR_NOT_RESUMABLE; DBSS_ERR_BUSY,
 * DBSS_ERR_CANCELLED. Uses the network. Any thread.
 */
dbss_status dbss_report_download_to_fd(dbss_context *ctx,
                                       const char *project,
                                       const char *instance,
                                       const char *id,
                                       const char *locale,
                                       int fd,
                                       dbss_operation *operation);

/**
 * Downloads a report to a function of yours, part by part.
 *
 * The first five parameters as for dbss_report_download(). `write` (required)
 * is called with `user_data`. `operation` may be NULL. What was handed over
 * before a failure cannot be taken back: only a call that returned DBSS_OK has
 * handed over a report.
 * Errors: those of dbss_report_download() but the ones about memory, among
 * them DBSS_ERR_NULL_ARGUMENT; DBSS_ERR_NOT_RESUMABLE; DBSS_ERR_BUSY,
 * DBSS_ERR_CANCELLED. Uses the network. Any thread.
 */
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
 * The first bytes are neither of these.
 */
#define DBSS_FORMAT_UNKNOWN 0

/**
 * A PDF: the first bytes are "%PDF-".
 */
#define DBSS_FORMAT_PDF 1

/**
 * A ZIP archive: the first bytes are "PK".
 */
#define DBSS_FORMAT_ZIP 2

/**
 * A report that you read part by part, as from a file. One thread reads at a
 * time; any may free it or cancel its operation meanwhile.
 *
 * It goes on when its context is freed, and ends when that is closed. In a child of fork() the parent's
 * streams are refused.
 */
struct dbss_report_stream;

/**
 * Opens a report: blocks until its first bytes are there.
 *
 * `ctx`, `project`, `instance`, `id` and `locale` as for
 * dbss_report_download(). `operation` may be NULL; else it belongs to the
 * stream until dbss_report_stream_free(). `out_stream` (required) receives the
 * stream, or NULL on failure; it is yours: end it with
 * dbss_report_stream_free().
 *
 * A transfer that breaks later is resumed where the service can; where it
 * cannot, the read fails, since what you have cannot be taken back.
 * Errors: those of dbss_report_download() but the ones about memory, among
 * them DBSS_ERR_NULL_ARGUMENT; DBSS_ERR_BUSY, DBSS_ERR_CANCELLED. Uses the
 * network. Any thread.
 */
dbss_status dbss_report_open(dbss_context *ctx,
                             const char *project,
                             const char *instance,
                             const char *id,
                             const char *locale,
                             dbss_operation *operation,
                             dbss_report_stream **out_stream);

/**
 * Reads some bytes: blocks until at least one is there. `*out_len` 0 is the
 * end, and is given only when the report was whole and its length right.
 *
 * `stream` (required). `buf` (required) has room for `cap` bytes, at least 1.
 * `out_len` (required) receives the number of bytes, or 0 on failure. A
 * failure stays: the next read gives it again.
 * Errors: DBSS_ERR_NULL_ARGUMENT; DBSS_ERR_ARGUMENT when `cap` is 0 or the
 * stream is a parent process's; DBSS_ERR_BUSY while another thread reads;
 * DBSS_ERR_CANCELLED; every status of the groups DBSS_ERR_SERVICE and
 * DBSS_ERR_NETWORK. Uses the network. Any thread.
 */
dbss_status dbss_report_stream_read(dbss_report_stream *stream,
                                    void *buf,
                                    size_t cap,
                                    size_t *out_len);

/**
 * The size of the report in bytes, as the service announced it; -1 where it
 * did not, and for NULL. Never blocks. Any thread.
 */
int64_t dbss_report_stream_size(const dbss_report_stream *stream);

/**
 * What the report is, by its first bytes: DBSS_FORMAT_PDF or DBSS_FORMAT_ZIP;
 * DBSS_FORMAT_UNKNOWN where it is neither, and for NULL. Never blocks. Any
 * thread.
 */
int32_t dbss_report_stream_format(const dbss_report_stream *stream);

/**
 * The report's own name, made safe, as dbss_operation_filename() gives it.
 *
 * Returns a string that lives as long as the stream; NULL for NULL. Never
 * blocks. Any thread.
 */
const char *dbss_report_stream_filename(const dbss_report_stream *stream);

/**
 * The header Content-Type.
 *
 * Returns a string that lives as long as the stream; NULL where the service
 * gave none and for NULL. Never blocks. Any thread.
 */
const char *dbss_report_stream_content_type(const dbss_report_stream *stream);

/**
 * The service's id of the call (header X-Request-Id).
 *
 * Returns a string that lives as long as the stream; NULL where the service
 * gave none and for NULL. Never blocks. Any thread.
 */
const char *dbss_report_stream_request_id(const dbss_report_stream *stream);

/**
 * Closes a stream, read to its end or not: a read under way in another thread
 * ends with DBSS_ERR_CANCELLED, later ones fail with DBSS_ERR_CLOSED. Its
 * operation is free for another call, at once or when that read has ended. The
 * getters go on working until dbss_report_stream_free(). Closing it again does
 * nothing.
 *
 * NULL does nothing. Never blocks. Any thread, also in a callback, but not from
 * a signal handler.
 */
void dbss_report_stream_close(dbss_report_stream *stream);

/**
 * Closes a stream as dbss_report_stream_close() does, and frees it and all
 * strings that its getters returned. NULL does nothing. Never blocks. Any
 * thread.
 */
void dbss_report_stream_free(dbss_report_stream *stream);


/* ============================================================================
 * 7. Operation: options, progress, cancel and result of one call
 * ============================================================================ */

/**
 * Options, progress, cancel and result of one call: pass it to the call, and
 * read or cancel it from any thread while the call runs.
 *
 * It serves one call at a time, else the second one is refused with
 * DBSS_ERR_BUSY; a stream is a call until it is freed. It may be used again
 * for the next call. It may be freed at any time, also during its call. In a
 * child of fork() the parent's operations are refused.
 */
struct dbss_operation;

/**
 * Told how a call goes: when it starts, at least ten times a second while it
 * runs, whether bytes arrive or not, and when all bytes are there. Read the
 * rest from `operation`, valid until it returns, by its getters. Return 0 to go
 * on; anything else ends the call with DBSS_ERR_CANCELLED, within 250 ms.
 *
 * Runs on the thread of the call, with no lock held. It may call getters and
 * dbss_operation_cancel(); other calls on the same operation are refused with
 * DBSS_ERR_BUSY. It must not throw, longjmp or end the thread.
 */
typedef int32_t (*dbss_progress_fn)(void *user_data, const dbss_operation *operation);

/**
 * Asked whether a signal that was handled shall end the call: when one was, and
 * once when the call begins, for those that came before it could notice. Return
 * 0 to go on; anything else ends the call with DBSS_ERR_INTERRUPTED.
 *
 * Runs on the thread of the call, with no lock held and signals blocked. It may
 * call getters and dbss_operation_cancel(). It must not throw, longjmp or end
 * the thread.
 */
typedef int32_t (*dbss_interrupt_fn)(void *user_data);

/**
 * Makes an operation.
 *
 * `out_operation` (required) receives it, or NULL on failure; it is yours: end
 * it with dbss_operation_free(). It costs no descriptor until a call waits.
 * Errors: DBSS_ERR_NULL_ARGUMENT. Never blocks. Any thread.
 */
dbss_status dbss_operation_new(dbss_operation **out_operation);

/**
 * Frees an operation, and all strings that its getters returned. A call under
 * way goes on; it can no longer be cancelled by this handle. NULL does
 * nothing. Never blocks. Any thread.
 */
void dbss_operation_free(dbss_operation *operation);

/**
 * Sets an option for the calls of this operation, in place of the context's:
 * "connect_timeout_ms", "stall_timeout_ms", "total_timeout_ms",
 * "max_attempts", "max_memory_bytes", "file_mode", "wait_timeout_ms",
 * "poll_interval_ms" or "interruptible", with values as for dbss_config_set().
 *
 * `operation`, `key` and `value` (required); the texts are copied.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_UNKNOWN_KEY,
 * DBSS_ERR_INVALID_VALUE, DBSS_ERR_BUSY. Never blocks. Any thread.
 */
dbss_status dbss_operation_set(dbss_operation *operation, const char *key, const char *value);

/**
 * Sets the progress callback, in place of the one before.
 *
 * `operation` (required). `progress` (may be NULL, for none). `user_data` is
 * handed to it; `destroy` (may be NULL) is called with it exactly once: when
 * the callback is replaced, when the operation is gone, or at once when this
 * function fails. Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_BUSY. Never blocks.
 * Any thread.
 */
dbss_status dbss_operation_set_progress(dbss_operation *operation,
                                        dbss_progress_fn progress,
                                        void *user_data,
                                        dbss_destroy_fn destroy);

/**
 * Sets the function that is asked whether a signal ends the call, in place of
 * the one before. It counts where the option "interruptible" is true; without
 * a function every signal that the host handles ends the call.
 *
 * `operation` (required). `interrupt` (may be NULL, for none). `user_data` is
 * handed to it; `destroy` (may be NULL) is called with it exactly once: when
 * the callback is replaced, when the operation is gone, or at once when this
 * function fails. Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_BUSY. Never blocks.
 * Any thread.
 */
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
 * NULL does nothing. May be called from a signal handler: it keeps errno.
 * Never blocks. Any thread.
 */
void dbss_operation_cancel(dbss_operation *operation);

/**
 * Undoes a cancel and forgets the last call, its strings included; options and
 * the progress callback stay.
 *
 * `operation` (required). Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_BUSY while
 * a call runs. Never blocks. Any thread.
 */
dbss_status dbss_operation_reset(dbss_operation *operation);

/**
 * How many bytes of the report have arrived, those before a resumption
 * included; 0 for NULL. Never blocks. Any thread.
 */
int64_t dbss_operation_received(const dbss_operation *operation);

/**
 * The size of the report in bytes; -1 while or where it is not known, and for
 * NULL. Never blocks. Any thread.
 */
int64_t dbss_operation_total(const dbss_operation *operation);

/**
 * How many bytes did not have to come again because broken transfers were
 * resumed; 0 for NULL. Never blocks. Any thread.
 */
int64_t dbss_operation_resumed(const dbss_operation *operation);

/**
 * How many requests were made so far; 0 for NULL. Never blocks. Any thread.
 */
uint32_t dbss_operation_attempts(const dbss_operation *operation);

/**
 * How far a report is that the service makes (dbss_report_generate(),
 * dbss_report_wait()), or how many of its reports a mirror has dealt with
 * (dbss_reports_mirror()), in percent; -1 while that is not known, and for
 * NULL. Never blocks. Any thread.
 */
int32_t dbss_operation_percent(const dbss_operation *operation);

/**
 * Where the report was saved, once the call has succeeded.
 *
 * Returns bytes as the file system has them, valid until the next call of the
 * operation, dbss_operation_reset() or dbss_operation_free(); NULL where
 * nothing was saved and for NULL. Never blocks. Any thread.
 */
const char *dbss_operation_path(const dbss_operation *operation);

/**
 * The report's own name, made safe: one component of a path, not hidden. From
 * the header Content-Disposition, else made of the report's id and format.
 *
 * Returns a string valid until the next call of the operation,
 * dbss_operation_reset() or dbss_operation_free(); NULL until the report has
 * begun to arrive, and for NULL. Never blocks. Any thread.
 */
const char *dbss_operation_filename(const dbss_operation *operation);

/**
 * The service's id of the call (header X-Request-Id).
 *
 * Returns a string valid until the next call of the operation,
 * dbss_operation_reset() or dbss_operation_free(); NULL until the report has
 * begun to arrive, where the service gave none, and for NULL. Never blocks.
 * Any thread.
 */
const char *dbss_operation_request_id(const dbss_operation *operation);

/**
 * The header Content-Type of the report.
 *
 * Returns a string valid until the next call of the operation,
 * dbss_operation_reset() or dbss_operation_free(); NULL until the report has
 * begun to arrive, where the service gave none, and for NULL. Never blocks.
 * Any thread.
 */
const char *dbss_operation_content_type(const dbss_operation *operation);

/**
 * What the report is, by its first bytes: DBSS_FORMAT_PDF or DBSS_FORMAT_ZIP;
 * DBSS_FORMAT_UNKNOWN where it is neither, until it has begun to arrive, and for
 * NULL. Never blocks. Any thread.
 */
int32_t dbss_operation_format(const dbss_operation *operation);

/**
 * Why the last call of this operation failed, from any thread: every failure
 * that the call returned, wrong arguments included, but DBSS_ERR_BUSY, which is
 * about the operation's other call. dbss_operation_set() and the other functions
 * that prepare an operation are no calls and do not change it.
 *
 * Returns an error that is yours: end it with dbss_error_free(); NULL when the
 * call has not failed, and for NULL. Never blocks. Any thread.
 */
dbss_error *dbss_operation_error(const dbss_operation *operation);


/* ============================================================================
 * 8. Instances, reports and templates
 * ============================================================================ */

/**
 * A list of the service that is being read, page by page. It holds what it
 * needs of its context. For one thread at a time, else DBSS_ERR_BUSY.
 */
struct dbss_cursor;

/**
 * A page of a list. It does not change, and any number of threads may read it.
 */
struct dbss_page;

/**
 * Begins the list of the project's audit instances (ListAuditInstances). No
 * request is sent: dbss_cursor_next() gives its pages.
 *
 * `ctx` (required). `project`: the project's id; NULL for the context's, as
 * for dbss_report_download(). `page_size`: how many a request asks for, 1 to
 * 1000; 0 for 100. `out_cursor` (required) receives the list, or NULL on
 * failure; it is yours: end it with dbss_cursor_free().
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID,
 * DBSS_ERR_INVALID_VALUE (page_size). Never blocks. Any thread.
 */
dbss_status dbss_instances_list(dbss_context *ctx,
                                const char *project,
                                uint32_t page_size,
                                dbss_cursor **out_cursor);

/**
 * Begins the list of an instance's reports; otherwise as
 * dbss_instances_list().
 *
 * `instance` (required): the audit instance's id. `name`: the name to look
 * for, 1 to 256 bytes; NULL for all reports.
 * Errors: those of dbss_instances_list(), among them DBSS_ERR_NULL_ARGUMENT.
 * Never blocks. Any thread.
 */
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
 * `instance` (required): the audit instance's id.
 * Errors: those of dbss_instances_list(), among them DBSS_ERR_NULL_ARGUMENT.
 * Never blocks. Any thread.
 */
dbss_status dbss_templates_list(dbss_context *ctx,
                                const char *project,
                                const char *instance,
                                dbss_cursor **out_cursor);

/**
 * Gives the next page, with at least one item.
 *
 * `cursor` and `out_page` (required); the latter receives the page, which is
 * yours: end it with dbss_page_free(); or NULL at the end of the list, with
 * DBSS_OK, and on failure. After a failure the same page can be asked for
 * again. `operation` may be NULL.
 *
 * A list may change while it is read. No item comes twice; where items were
 * deleted meanwhile, the part of the list that moved is read again, so that
 * none is left out; only where as many were added in the same moment can that
 * go unnoticed.
 * Errors: DBSS_ERR_NULL_ARGUMENT; every status of the groups DBSS_ERR_SERVICE
 * and DBSS_ERR_NETWORK, DBSS_ERR_UNEXPECTED_RESPONSE for a list that is
 * malformed or larger than 16 MiB a page; those of
 * dbss_context_find_credentials(); DBSS_ERR_BUSY, DBSS_ERR_CANCELLED. Uses the
 * network. Any thread.
 */
dbss_status dbss_cursor_next(dbss_cursor *cursor, dbss_operation *operation, dbss_page **out_page);

/**
 * Ends a list. Its pages are not touched. NULL does nothing. Never blocks. Any
 * thread.
 */
void dbss_cursor_free(dbss_cursor *cursor);

/**
 * How many items the page has; 0 for NULL. Never blocks. Any thread.
 */
size_t dbss_page_count(const dbss_page *page);

/**
 * How many items the whole list has, as the service said with this page; -1
 * where it did not say, and for NULL. Never blocks. Any thread.
 */
int64_t dbss_page_total(const dbss_page *page);

/**
 * A field of the item `index`, counted from 0, by the service's name for it,
 * such as "id": text as it is, with U+FFFD for U+0000; a number, true, false,
 * an array or an object as its JSON.
 *
 * Returns a string that is valid until dbss_page_free(); NULL where the item
 * has no such field or it is null, past the last item, and for NULL. Never
 * blocks. Any thread.
 */
const char *dbss_page_field(const dbss_page *page, size_t index, const char *field);

/**
 * The page as a JSON document, for wrappers: {"kind": "instances", "reports"
 * or "templates", "total": a number or null, "items": [...]}, where each item
 * is an object as the service sent it, fields that this library does not know
 * included.
 *
 * `page` and `out_json` (required); the latter receives UTF-8 without a NUL at
 * its end, or { NULL, 0 } on failure; it is yours: end it with
 * dbss_buffer_free(). Errors: DBSS_ERR_NULL_ARGUMENT. Never blocks. Any
 * thread.
 */
dbss_status dbss_page_json(const dbss_page *page, dbss_buffer *out_json);

/**
 * Frees a page, and the strings that dbss_page_field() returned. NULL does
 * nothing. Never blocks. Any thread.
 */
void dbss_page_free(dbss_page *page);

/**
 * The room that an id takes, with the NUL at its end.
 */
#define DBSS_ID_SIZE 65

/**
 * What a report is to be: options by key and value.
 *
 * @threads any.
 */
struct dbss_report_spec;

/**
 * Makes a report spec, in which nothing is set.
 *
 * @param out_spec required. Receives it.
 */
dbss_status dbss_report_spec_new(dbss_report_spec **out_spec);

/**
 * Sets an option of a report spec. "template_id", "start_time" and "end_time"
 * are required before it is used.
 *
 * @param spec required.
 * @param key required, option of report_spec.
 * @param value required, bytes. It is copied.
 * @errors UNKNOWN_KEY, INVALID_VALUE, INVALID_ID
 */
dbss_status dbss_report_spec_set(dbss_report_spec *spec, const char *key, const char *value);

/**
 * Frees a report spec. Calls under way are not touched. NULL does nothing.
 */
void dbss_report_spec_free(dbss_report_spec *spec);

/**
 * Has the service create a report. The service says that it will, gives no id,
 * and takes its time: dbss_report_generate() finds the new report and waits.
 *
 * A request that may have reached the service is not sent again, so a lost
 * connection ends the call though the report may have been created.
 *
 * @param ctx required.
 * @param project as dbss_report_download
 * @param instance required. The audit instance's id.
 * @param spec required. What the report is to be.
 * @errors INVALID_ID, NOT_CONFIGURED (the spec lacks a required option), all
 * before any traffic; REJECTED; SERVICE*, NETWORK*; as
 * dbss_context_find_credentials
 * @blocks network
 */
dbss_status dbss_report_create(dbss_context *ctx,
                               const char *project,
                               const char *instance,
                               const dbss_report_spec *spec,
                               dbss_operation *operation);

/**
 * Has the service create a report, finds the new one, waits until it is ready,
 * and gives its id, with which it can be downloaded. dbss_operation_percent()
 * tells how far the report is; the options "wait_timeout_ms" and
 * "poll_interval_ms" count.
 *
 * The new report is the one that the list did not have before and that is of
 * this range, and where several are, of this template. Where several remain
 * the call fails with DBSS_ERR_AMBIGUOUS: it does not guess. What was created
 * stays.
 *
 * @param ctx required.
 * @param project as dbss_report_download
 * @param instance required. The audit instance's id.
 * @param spec required. What the report is to be.
 * @param out_id required, room DBSS_ID_SIZE. Receives the id and a NUL, or "" on
 * failure.
 * @errors as dbss_report_create; NOT_FOUND (also when there is no such
 * template), AMBIGUOUS, NOT_READY
 * @blocks network
 */
dbss_status dbss_report_generate(dbss_context *ctx,
                                 const char *project,
                                 const char *instance,
                                 const dbss_report_spec *spec,
                                 dbss_operation *operation,
                                 char *out_id);

/**
 * Waits until a report is ready (100 percent), by looking at the list now and
 * then.
 *
 * `ctx`, `instance` and `id` (required). `project`: NULL for the context's.
 * `operation` may be NULL; its dbss_operation_percent() tells how far the
 * report is, and its options "wait_timeout_ms" and "poll_interval_ms" count.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID;
 * DBSS_ERR_NOT_FOUND, also when the report goes meanwhile; DBSS_ERR_NOT_READY;
 * every other status of the groups DBSS_ERR_SERVICE and DBSS_ERR_NETWORK;
 * those of dbss_context_find_credentials(); DBSS_ERR_BUSY, DBSS_ERR_CANCELLED.
 * Uses the network. Any thread.
 */
dbss_status dbss_report_wait(dbss_context *ctx,
                             const char *project,
                             const char *instance,
                             const char *id,
                             dbss_operation *operation);

/**
 * Deletes a report at the service, for ever.
 *
 * `ctx`, `instance` and `id` (required). `project`: NULL for the context's.
 * `operation` may be NULL.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_UTF8, DBSS_ERR_INVALID_ID,
 * all before any traffic; DBSS_ERR_NOT_FOUND; DBSS_ERR_REJECTED; every other
 * status of the groups DBSS_ERR_SERVICE and DBSS_ERR_NETWORK; those of
 * dbss_context_find_credentials(); DBSS_ERR_BUSY, DBSS_ERR_CANCELLED. Uses the
 * network. Any thread.
 */
dbss_status dbss_report_delete(dbss_context *ctx,
                               const char *project,
                               const char *instance,
                               const char *id,
                               dbss_operation *operation);


/* ============================================================================
 * 9. Mirror: a local archive of reports
 * ============================================================================ */

/**
 * What a mirror is to have: options by key and value. Any thread may use it.
 */
struct dbss_mirror_options;

/**
 * How a mirror went. It does not change, and any number of threads may read
 * it.
 */
struct dbss_mirror_result;

/**
 * Makes options for a mirror, all at their defaults.
 *
 * @param out_options required. Receives them.
 */
dbss_status dbss_mirror_options_new(dbss_mirror_options **out_options);

/**
 * Sets an option of a mirror.
 *
 * @param options required.
 * @param key required, option of mirror.
 * @param value required, bytes. It is copied.
 * @errors UNKNOWN_KEY, INVALID_VALUE, INVALID_ID, INVALID_LOCALE
 */
dbss_status dbss_mirror_options_set(dbss_mirror_options *options,
                                    const char *key,
                                    const char *value);

/**
 * Frees options. Mirrors under way are not touched. NULL does nothing.
 */
void dbss_mirror_options_free(dbss_mirror_options *options);

/**
 * Brings a local archive of reports up to date: downloads every report that is
 * ready and not there yet, several at once. What is there stays: nothing is
 * ever deleted, also not what the service has deleted.
 *
 * `ctx` (required). `project`: NULL for the context's. `directory` (required,
 * bytes): it is made if it does not exist. `options`: what to have; NULL for
 * all, by the defaults. `operation` may be NULL; its bytes are those of all
 * downloads together, its percents those of the reports. `out_result`
 * (required) receives how it went, or NULL where it did not begin; also when
 * this function fails. It is yours: end it with dbss_mirror_result_free().
 *
 * The directory then holds:
 *
 * - {instance}/{year}/{name}_{id}.pdf (or .zip): the reports, each of which
 *   appears only when it is whole and on the disk; with a locale, _{locale}
 *   stands before the ending.
 * - manifest.jsonl: a line of JSON for each, with id, name, instance, locale,
 *   format, type, start_time, end_time, path, size, sha256, and the request id
 *   and date of its download (null for one that was found whole). Where an id
 *   has several lines, the last counts.
 * - SHA256SUMS, which "sha256sum -c" takes.
 * - .dbss-mirror.lock: one mirror at a time works on a directory, and the lock
 *   dies with its process.
 *
 * A mirror that was cancelled or killed goes on where it was when it is called
 * again. One report's failure does not stop the others, but for refused
 * credentials and a full disk, which would fail them all.
 * Errors: DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_VALUE, DBSS_ERR_INVALID_ID;
 * DBSS_ERR_MIRROR_LOCKED; DBSS_ERR_PARTIAL when some reports failed,
 * see dbss_mirror_result_failure_count(); DBSS_ERR_FILE for the archive's own
 * files; those of dbss_cursor_next() for the lists; DBSS_ERR_BUSY,
 * DBSS_ERR_CANCELLED. Uses the network. Any thread.
 */
dbss_status dbss_reports_mirror(dbss_context *ctx,
                                const char *project,
                                const char *directory,
                                const dbss_mirror_options *options,
                                dbss_operation *operation,
                                dbss_mirror_result **out_result);

/**
 * Reports that the service lists and the filters let pass.
 */
int64_t dbss_mirror_result_listed(const dbss_mirror_result *result);

/**
 * Reports that are in the archive since this run.
 */
int64_t dbss_mirror_result_downloaded(const dbss_mirror_result *result);

/**
 * Reports that were in the archive before.
 */
int64_t dbss_mirror_result_present(const dbss_mirror_result *result);

/**
 * Reports that the service is still making.
 */
int64_t dbss_mirror_result_not_ready(const dbss_mirror_result *result);

/**
 * Reports that were deleted between the list and the download.
 */
int64_t dbss_mirror_result_vanished(const dbss_mirror_result *result);

/**
 * Reports, or lists of them, that failed; each has an error.
 */
int64_t dbss_mirror_result_failed(const dbss_mirror_result *result);

/**
 * Files that differed from the manifest and were replaced.
 */
int64_t dbss_mirror_result_repaired(const dbss_mirror_result *result);

/**
 * How many reports, or lists of them, failed; 0 for NULL. Never blocks. Any thread.
 */
size_t dbss_mirror_result_failure_count(const dbss_mirror_result *result);

/**
 * The report of the failure `index`, counted from 0.
 *
 * Returns its id, valid until dbss_mirror_result_free(), "" where it was the
 * list of an instance's reports that failed; NULL past the last one and for
 * NULL. Never blocks. Any thread.
 */
const char *dbss_mirror_result_failure_id(const dbss_mirror_result *result, size_t index);

/**
 * The instance of the failure `index`, counted from 0.
 *
 * Returns its id, valid until dbss_mirror_result_free(); NULL past the last
 * one and for NULL. Never blocks. Any thread.
 */
const char *dbss_mirror_result_failure_instance(const dbss_mirror_result *result, size_t index);

/**
 * Why the failure `index`, counted from 0, is one.
 *
 * Returns an error that is yours: end it with dbss_error_free(); NULL past the
 * last one and for NULL. Never blocks. Any thread.
 */
dbss_error *dbss_mirror_result_failure_error(const dbss_mirror_result *result, size_t index);

/**
 * How many days, weeks and months have no report, of those between the first
 * and the last report of an instance and a type (AUDIT_REPORT_DAY, _WEEK,
 * _MONTH), or since "since" and until "until"; 0 for NULL. Never blocks. Any
 * thread.
 */
size_t dbss_mirror_result_gap_count(const dbss_mirror_result *result);

/**
 * The first day of the gap `index`, counted from 0, such as "2026-11-24".
 *
 * Returns a string that is valid until dbss_mirror_result_free(); NULL past
 * the last one and for NULL. Never blocks. Any thread.
 */
const char *dbss_mirror_result_gap_period(const dbss_mirror_result *result, size_t index);

/**
 * The type of report that the gap `index`, counted from 0, lacks.
 *
 * Returns a string that is valid until dbss_mirror_result_free(); NULL past
 * the last one and for NULL. Never blocks. Any thread.
 */
const char *dbss_mirror_result_gap_type(const dbss_mirror_result *result, size_t index);

/**
 * The instance of the gap `index`, counted from 0.
 *
 * Returns its id, valid until dbss_mirror_result_free(); NULL past the last
 * one and for NULL. Never blocks. Any thread.
 */
const char *dbss_mirror_result_gap_instance(const dbss_mirror_result *result, size_t index);

/**
 * The whole result as a JSON document, for wrappers: the counts by their
 * names; "failures", each with instance, id, status, status_name, message;
 * "gaps", each with instance, type, period.
 *
 * `result` and `out_json` (required); the latter receives UTF-8 without a NUL
 * at its end, or { NULL, 0 } on failure; it is yours: end it with
 * dbss_buffer_free().
 * Errors: DBSS_ERR_NULL_ARGUMENT. Never blocks. Any thread.
 */
dbss_status dbss_mirror_result_json(const dbss_mirror_result *result, dbss_buffer *out_json);

/**
 * Frees a result, and the strings that its getters returned. NULL does
 * nothing. Never blocks. Any thread.
 */
void dbss_mirror_result_free(dbss_mirror_result *result);


#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* DBSS_H */
