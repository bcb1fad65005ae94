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

@VERSION@

#ifdef __cplusplus
extern "C" {
#endif

/* The handles; each is documented in its section. */
@HANDLES@
