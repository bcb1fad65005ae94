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
@VERSION@

#ifdef __cplusplus
extern "C" {
#endif

/* The handles; each is explained in its section. */
@HANDLES@
