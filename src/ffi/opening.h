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
@VERSION@

#ifdef __cplusplus
extern "C" {
#endif

/* The handles; each is explained in its section. */
@HANDLES@
