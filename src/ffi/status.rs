//! `dbss_status`: how a call ended.

use std::ffi::{CStr, c_char};

use dbss::Status;

/// How a call ended: DBSS_OK, or one of the DBSS_ERR_ values below.
///
/// Values never change their meaning. New ones may appear inside a group (the
/// ranges of one hundred), so treat a value that you do not know as its group:
/// see dbss_status_group().
pub type dbss_status = i32;

/// The call did what it was asked to do.
pub const DBSS_OK: dbss_status = 0;

/// Group of 1xx: an argument or an option is at fault; no request was sent.
/// dbss_error_parameter() names it.
pub const DBSS_ERR_ARGUMENT: dbss_status = 100;
/// A required pointer is NULL.
pub const DBSS_ERR_NULL_ARGUMENT: dbss_status = 101;
/// A string is not UTF-8.
pub const DBSS_ERR_INVALID_UTF8: dbss_status = 102;
/// A project, instance or report id has a length or a character that no id has.
pub const DBSS_ERR_INVALID_ID: dbss_status = 103;
/// The locale is neither en-us nor zh-cn.
pub const DBSS_ERR_INVALID_LOCALE: dbss_status = 104;
/// The token is empty, too long, or holds a character that a header cannot.
pub const DBSS_ERR_INVALID_TOKEN: dbss_status = 105;
/// The endpoint is not a usable URL, or the region not a region's name.
pub const DBSS_ERR_INVALID_ENDPOINT: dbss_status = 106;
/// There is no option with this key.
pub const DBSS_ERR_UNKNOWN_KEY: dbss_status = 107;
/// The option's value is not of its type or out of its range.
pub const DBSS_ERR_INVALID_VALUE: dbss_status = 108;
/// The endpoint is plain http on another host, and "allow_plaintext" is not
/// set.
pub const DBSS_ERR_PLAINTEXT_REFUSED: dbss_status = 109;
/// Something that the call needs was never configured: an endpoint or region,
/// or credentials.
pub const DBSS_ERR_NOT_CONFIGURED: dbss_status = 110;
/// The operation serves another call at the moment.
pub const DBSS_ERR_BUSY: dbss_status = 111;
/// An access key, its secret or its security token is empty, too long, or holds
/// a character that none has.
pub const DBSS_ERR_INVALID_ACCESS_KEY: dbss_status = 112;
/// Credentials that the environment or the profile file holds are incomplete or
/// malformed, or the profile file is.
pub const DBSS_ERR_INVALID_CREDENTIALS: dbss_status = 113;
/// The token provider failed, or gave something that is no token.
pub const DBSS_ERR_NO_TOKEN: dbss_status = 114;
/// The context or the stream was closed before the call.
pub const DBSS_ERR_CLOSED: dbss_status = 115;

/// Group of 2xx: the service answered, and the answer is not a report. Also
/// the status of a service's error that fits none of the following.
pub const DBSS_ERR_SERVICE: dbss_status = 200;
/// HTTP 400: the service refused the request as malformed.
pub const DBSS_ERR_BAD_REQUEST: dbss_status = 201;
/// HTTP 401: the credentials were refused (expired, of another region, wrong).
pub const DBSS_ERR_UNAUTHENTICATED: dbss_status = 202;
/// HTTP 403: the credentials are good, but not for this.
pub const DBSS_ERR_FORBIDDEN: dbss_status = 203;
/// HTTP 404: no such project, instance or report.
pub const DBSS_ERR_NOT_FOUND: dbss_status = 204;
/// HTTP 429: too many requests; see dbss_error_retry_after_ms().
pub const DBSS_ERR_THROTTLED: dbss_status = 205;
/// HTTP 5xx: the service failed.
pub const DBSS_ERR_SERVER: dbss_status = 206;
/// HTTP 3xx: the service pointed elsewhere; libdbss does not follow.
pub const DBSS_ERR_REDIRECTED: dbss_status = 207;
/// A success that is not a report: an empty body, a JSON document, a web page,
/// or an HTTP status that this call does not have.
pub const DBSS_ERR_UNEXPECTED_ANSWER: dbss_status = 208;
/// The service answered that it did not create or delete the report.
pub const DBSS_ERR_NOT_DONE: dbss_status = 209;
/// The report was not ready within "wait_timeout_ms".
pub const DBSS_ERR_NOT_READY: dbss_status = 210;
/// Several new reports may be the one that was created; the message names them.
pub const DBSS_ERR_AMBIGUOUS: dbss_status = 211;
/// Some reports of a mirror could not be had; the others are there.
pub const DBSS_ERR_PARTIAL: dbss_status = 212;

/// Group of 3xx: the network, or what came over it, failed.
pub const DBSS_ERR_NETWORK: dbss_status = 300;
/// The host's name could not be looked up.
pub const DBSS_ERR_RESOLVE: dbss_status = 301;
/// No address of the host accepted a connection.
pub const DBSS_ERR_CONNECT: dbss_status = 302;
/// The TLS handshake or session failed.
pub const DBSS_ERR_TLS: dbss_status = 303;
/// The server's certificate is not trusted, not valid now, or another host's.
pub const DBSS_ERR_CERTIFICATE: dbss_status = 304;
/// "connect_timeout_ms" ran out before the connection stood.
pub const DBSS_ERR_CONNECT_TIMEOUT: dbss_status = 305;
/// "stall_timeout_ms" went by without a byte in or out.
pub const DBSS_ERR_STALLED: dbss_status = 306;
/// "total_timeout_ms" ran out.
pub const DBSS_ERR_TOTAL_TIMEOUT: dbss_status = 307;
/// The connection broke before the answer's header was whole.
pub const DBSS_ERR_CONNECTION_LOST: dbss_status = 308;
/// The body ended or broke before its end; nothing of it is handed out.
pub const DBSS_ERR_TRUNCATED: dbss_status = 309;
/// What came is not a sound HTTP answer.
pub const DBSS_ERR_PROTOCOL: dbss_status = 310;
/// The body is compressed, though libdbss asked for it as it is.
pub const DBSS_ERR_CONTENT_ENCODING: dbss_status = 311;
/// The transfer broke and cannot go on: the report changed meanwhile, or the
/// service resumes none, and what was handed out cannot be taken back.
pub const DBSS_ERR_NOT_RESUMABLE: dbss_status = 312;

/// Group of 4xx: a local file could not be read or written.
pub const DBSS_ERR_FILE: dbss_status = 400;
/// A file of this name exists, and may not be replaced.
pub const DBSS_ERR_FILE_EXISTS: dbss_status = 401;
/// The name is that of a directory, a link, a device: no regular file.
pub const DBSS_ERR_NOT_REGULAR_FILE: dbss_status = 402;
/// The disk is full, or a quota or size limit is reached.
pub const DBSS_ERR_DISK_FULL: dbss_status = 403;
/// Whoever reads from the pipe or socket has gone.
pub const DBSS_ERR_BROKEN_PIPE: dbss_status = 404;
/// Another mirror works on the directory at the moment.
pub const DBSS_ERR_MIRROR_LOCKED: dbss_status = 405;

/// Group of 5xx: this process ran out of something, such as threads.
pub const DBSS_ERR_RESOURCE: dbss_status = 500;
/// The memory for the report could not be had.
pub const DBSS_ERR_OUT_OF_MEMORY: dbss_status = 501;
/// The report is larger than "max_memory_bytes".
pub const DBSS_ERR_LIMIT_EXCEEDED: dbss_status = 502;

/// Group of 6xx: the call was cancelled, by dbss_operation_cancel(), by
/// dbss_context_cancel_all(), by freeing its stream, or by a callback.
pub const DBSS_ERR_CANCELLED: dbss_status = 600;
/// A signal that the host handled ended the call; see the option
/// "interruptible".
pub const DBSS_ERR_INTERRUPTED: dbss_status = 601;

/// Group of 7xx: libdbss has a defect. The call was abandoned, the process and
/// other calls are unharmed.
pub const DBSS_ERR_INTERNAL: dbss_status = 700;

fn describe(status: dbss_status) -> (&'static CStr, &'static CStr) {
    let Some(status) = Status::from_value(status) else {
        return (
            c"DBSS_ERR_UNKNOWN",
            c"a status that this version of libdbss does not know",
        );
    };
    (status.c_name(), status.c_message())
}

/// The name of a status as this header spells it, such as
/// "DBSS_ERR_NOT_FOUND"; "DBSS_ERR_UNKNOWN" for a value that this version does
/// not know.
///
/// Returns a static string, never NULL. Never blocks. Any thread, at any time.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_status_name(status: dbss_status) -> *const c_char {
    describe(status).0.as_ptr()
}

/// What a status means, in general; dbss_error_message() says what happened
/// in particular.
///
/// Returns a static string, never NULL. Never blocks. Any thread, at any time.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_status_message(status: dbss_status) -> *const c_char {
    describe(status).1.as_ptr()
}

/// The group of a status: DBSS_OK, DBSS_ERR_ARGUMENT, DBSS_ERR_SERVICE,
/// DBSS_ERR_NETWORK, DBSS_ERR_FILE, DBSS_ERR_RESOURCE, DBSS_ERR_CANCELLED or
/// DBSS_ERR_INTERNAL. Values that are newer than this library have their group
/// too; a value outside of all ranges counts as DBSS_ERR_INTERNAL.
///
/// Never blocks. Any thread, at any time.
#[unsafe(no_mangle)]
pub extern "C" fn dbss_status_group(status: dbss_status) -> dbss_status {
    match status {
        DBSS_OK => DBSS_OK,
        100..700 => status / 100 * 100,
        _ => DBSS_ERR_INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constant_of_the_header_is_the_status_of_its_name() {
        let source = include_str!("status.rs");
        let mut seen = 0;
        for line in source.lines().filter(|l| l.starts_with("pub const DBSS_")) {
            let (name, value) = line["pub const ".len()..]
                .split_once(": dbss_status = ")
                .expect("a constant of the status type");
            let value: dbss_status = value.trim_end_matches(';').parse().expect("a literal");
            assert!(Status::from_value(value).is_some(), "{name}");
            assert_eq!(describe(value).0.to_str(), Ok(name));
            assert_eq!(
                Status::from_value(dbss_status_group(value)).map(|s| s as i32),
                Some(value / 100 * 100)
            );
            seen += 1;
        }
        assert_eq!(seen, Status::ALL.len());
    }

    #[test]
    fn unknown_values_have_a_name_and_a_group() {
        for (value, group) in [(299, 200), (399, 300), (-1, 700), (1, 700), (i32::MAX, 700)] {
            assert_eq!(describe(value).0, c"DBSS_ERR_UNKNOWN");
            assert_eq!(dbss_status_group(value), group);
        }
    }
}
