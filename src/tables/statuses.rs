//! The statuses of calls: the enum, and the table of the header's constants, their names
//! and their messages.

use std::ffi::CStr;

/// One status.
pub struct StatusRow {
    /// The name of the header's constant.
    pub name: &'static CStr,
    /// Its value.
    pub value: i32,
    /// The general meaning, as part of a sentence.
    pub message: &'static CStr,
    /// The paragraph in the header.
    pub doc: &'static str,
}

impl StatusRow {
    /// Returns the value of the status of its group.
    pub const fn group(&self) -> i32 {
        self.value / 100 * 100
    }
}

macro_rules! statuses {
    ($($(#[doc = $doc:literal])+ $variant:ident = $value:literal, $name:literal, $message:literal;)+) => {
        /// The cause of an error, as a number that never changes its meaning.
        ///
        /// Statuses come in groups of one hundred. The group of a status shows how to
        /// react, even if the status itself is newer than the program.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        #[non_exhaustive]
        pub enum Status {
            $($(#[doc = $doc])+ $variant = $value,)+
        }

        /// Every status, in the order of its value.
        pub static STATUSES: &[StatusRow] = &[$(StatusRow {
            name: $name,
            value: $value,
            message: $message,
            // The lines of a doc comment begin with a space.
            doc: concat!($($doc),+).trim_ascii_start(),
        }),+];

        impl Status {
            /// Every status, in the order of its value.
            pub const ALL: &'static [Status] = &[$(Status::$variant),+];

            fn row(self) -> &'static StatusRow {
                let index = Status::ALL.iter().position(|one| *one == self);
                &STATUSES[index.unwrap_or_default()]
            }
        }
    };
}

impl Status {
    /// The status with this value.
    pub fn from_value(value: i32) -> Option<Status> {
        Status::ALL.iter().copied().find(|s| *s as i32 == value)
    }

    /// Its name in the C header, such as `DBSS_ERR_NOT_FOUND`.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }

    /// The same for C.
    #[doc(hidden)]
    pub fn c_name(self) -> &'static CStr {
        self.row().name
    }

    /// Its general meaning, for C.
    #[doc(hidden)]
    pub fn c_message(self) -> &'static CStr {
        self.row().message
    }
}

statuses! {
    /// The call succeeded.
    Ok = 0, c"DBSS_OK", c"success";

    /// Group of 1xx: an argument or an option is at fault.
    /// dbss_error_parameter() names it.
    Argument = 100, c"DBSS_ERR_ARGUMENT", c"an argument is invalid";
    /// A required pointer is NULL.
    NullArgument = 101, c"DBSS_ERR_NULL_ARGUMENT", c"a required pointer is NULL";
    /// A string is not UTF-8.
    InvalidUtf8 = 102, c"DBSS_ERR_INVALID_UTF8", c"a string is not UTF-8";
    /// A project, instance or report id has an invalid length or character.
    InvalidId = 103, c"DBSS_ERR_INVALID_ID", c"an id is malformed";
    /// The locale is neither en-us nor zh-cn.
    InvalidLocale = 104, c"DBSS_ERR_INVALID_LOCALE", c"the locale is not one of en-us, zh-cn";
    /// The token is empty, too long, or has a character that is not allowed in a header.
    InvalidToken = 105, c"DBSS_ERR_INVALID_TOKEN", c"the token is malformed";
    /// The endpoint is not a usable URL, or the region is not a region's name.
    InvalidEndpoint = 106, c"DBSS_ERR_INVALID_ENDPOINT", c"the endpoint or region is malformed";
    /// There is no option with this key.
    UnknownKey = 107, c"DBSS_ERR_UNKNOWN_KEY", c"there is no option with this key";
    /// The option's value is not of its type or out of its range.
    InvalidValue = 108, c"DBSS_ERR_INVALID_VALUE", c"an option's value is malformed or out of range";
    /// The endpoint is plain http on another host, and "allow_plaintext" is not
    /// set.
    PlaintextRefused = 109, c"DBSS_ERR_PLAINTEXT_REFUSED", c"plain http to another host is not allowed";
    /// A required setting is missing: an endpoint or region, credentials, or a required
    /// key of a report spec.
    NotConfigured = 110, c"DBSS_ERR_NOT_CONFIGURED", c"a required setting is missing";
    /// The operation is in use by another call.
    Busy = 111, c"DBSS_ERR_BUSY", c"the operation is in use by another call";
    /// An access key, its secret or its security token is empty, too long, or has a
    /// character that is not allowed.
    InvalidAccessKey = 112, c"DBSS_ERR_INVALID_ACCESS_KEY", c"the access key is malformed";
    /// Credentials in the environment or the profile file are incomplete or malformed, or
    /// the profile file is malformed.
    InvalidCredentials = 113, c"DBSS_ERR_INVALID_CREDENTIALS", c"the credentials that were found are incomplete or malformed";
    /// The token or passcode provider failed, or returned something invalid.
    NoToken = 114, c"DBSS_ERR_NO_TOKEN", c"the token provider failed";
    /// The context or the stream was closed before the call.
    Closed = 115, c"DBSS_ERR_CLOSED", c"the context or stream was closed";

    /// Group of 2xx: the service responded, but not with the requested result. Also the
    /// status of a service's error that has no status below.
    Service = 200, c"DBSS_ERR_SERVICE", c"the service reported an error";
    /// HTTP 400: the service refused the request as malformed.
    BadRequest = 201, c"DBSS_ERR_BAD_REQUEST", c"the service refused the request as malformed";
    /// HTTP 401: the service rejected the credentials (expired, of another region,
    /// wrong).
    Unauthenticated = 202, c"DBSS_ERR_UNAUTHENTICATED", c"the service rejected the credentials";
    /// HTTP 403: the credentials are valid, but do not allow this.
    Forbidden = 203, c"DBSS_ERR_FORBIDDEN", c"the credentials do not allow this";
    /// HTTP 404: no such project, instance or report.
    NotFound = 204, c"DBSS_ERR_NOT_FOUND", c"there is no such project, instance or report";
    /// HTTP 429: too many requests; see dbss_error_retry_after_ms().
    Throttled = 205, c"DBSS_ERR_THROTTLED", c"the service received too many requests";
    /// HTTP 5xx: the service failed.
    ServerError = 206, c"DBSS_ERR_SERVER", c"the service failed";
    /// HTTP 3xx: the service redirected the request, and the redirect was not followed;
    /// see dbss_error_redirect_target().
    Redirected = 207, c"DBSS_ERR_REDIRECTED", c"the service redirected the request";
    /// A successful response that is not a report (an empty body, a JSON document, a web
    /// page), or an HTTP status that is not expected for this call.
    UnexpectedResponse = 208, c"DBSS_ERR_UNEXPECTED_RESPONSE", c"the service's response is not a report";
    /// The service reported that it did not create or delete the report, or did not change
    /// the schedule.
    Rejected = 209, c"DBSS_ERR_REJECTED", c"the service rejected the request";
    /// The report was not ready within "wait_timeout_ms".
    NotReady = 210, c"DBSS_ERR_NOT_READY", c"the report was not ready in time";
    /// Several new reports may be the created one; dbss_error_candidate() returns their
    /// ids.
    Ambiguous = 211, c"DBSS_ERR_AMBIGUOUS", c"several reports may be the created one";
    /// Some reports of a mirror failed to download; the others are in the archive.
    Partial = 212, c"DBSS_ERR_PARTIAL", c"some reports failed to download";

    /// Group of 3xx: the network failed, or the data from it is invalid.
    Network = 300, c"DBSS_ERR_NETWORK", c"the network failed";
    /// The host's name could not be looked up.
    Resolve = 301, c"DBSS_ERR_RESOLVE", c"the host's name could not be looked up";
    /// No address of the host accepted a connection.
    Connect = 302, c"DBSS_ERR_CONNECT", c"no connection could be made";
    /// The TLS handshake or session failed.
    Tls = 303, c"DBSS_ERR_TLS", c"the TLS session failed";
    /// The server's certificate is not trusted, not valid now, or of another host.
    Certificate = 304, c"DBSS_ERR_CERTIFICATE", c"the server's certificate was rejected";
    /// "connect_timeout_ms" elapsed before the connection was established.
    ConnectTimeout = 305, c"DBSS_ERR_CONNECT_TIMEOUT", c"connecting took too long";
    /// "stall_timeout_ms" elapsed without a byte sent or received.
    Stalled = 306, c"DBSS_ERR_STALLED", c"the transfer stalled for too long";
    /// "total_timeout_ms" elapsed.
    TotalTimeout = 307, c"DBSS_ERR_TOTAL_TIMEOUT", c"the call took too long";
    /// The connection broke before the response's header was complete.
    ConnectionLost = 308, c"DBSS_ERR_CONNECTION_LOST", c"the connection broke before the response";
    /// The body ended or broke before its end. Nothing is left in memory or in a file; a
    /// descriptor, callback or stream may have received its beginning.
    Truncated = 309, c"DBSS_ERR_TRUNCATED", c"the body is incomplete";
    /// The response is not valid HTTP.
    Protocol = 310, c"DBSS_ERR_PROTOCOL", c"the response is not valid HTTP";
    /// The body is compressed, although libdbss did not request compression.
    ContentEncoding = 311, c"DBSS_ERR_CONTENT_ENCODING", c"the body is compressed, although this was not requested";
    /// The transfer broke and cannot be resumed: the report changed meanwhile, or the
    /// service does not support resuming, and bytes that were already passed on cannot be
    /// taken back.
    NotResumable = 312, c"DBSS_ERR_NOT_RESUMABLE", c"the transfer broke and cannot be resumed";

    /// Group of 4xx: a local file could not be read or written.
    File = 400, c"DBSS_ERR_FILE", c"a local file could not be used";
    /// A file with this name exists, and may not be replaced.
    FileExists = 401, c"DBSS_ERR_FILE_EXISTS", c"the file exists already";
    /// The target is a directory, a link or a device, and not a regular file.
    NotRegularFile = 402, c"DBSS_ERR_NOT_REGULAR_FILE", c"the target is not a regular file";
    /// The disk is full, or a quota or size limit is reached.
    DiskFull = 403, c"DBSS_ERR_DISK_FULL", c"the disk or a limit is full";
    /// The reader of the pipe or socket has closed it.
    BrokenPipe = 404, c"DBSS_ERR_BROKEN_PIPE", c"the reader has closed the pipe";
    /// Another mirror is using the directory.
    MirrorLocked = 405, c"DBSS_ERR_MIRROR_LOCKED", c"another mirror is using the directory";

    /// Group of 5xx: this process ran out of something, such as threads.
    Resource = 500, c"DBSS_ERR_RESOURCE", c"the process ran out of a resource";
    /// There is not enough memory.
    OutOfMemory = 501, c"DBSS_ERR_OUT_OF_MEMORY", c"out of memory";
    /// The report is larger than "max_memory_bytes".
    LimitExceeded = 502, c"DBSS_ERR_LIMIT_EXCEEDED", c"the report is larger than the limit";

    /// Group of 6xx: the call was cancelled, by dbss_operation_cancel(), by
    /// dbss_context_cancel_all(), by closing its context or stream, or by a
    /// callback.
    Cancelled = 600, c"DBSS_ERR_CANCELLED", c"the call was cancelled";
    /// A signal that the program handled ended the call; see the option "interruptible".
    Interrupted = 601, c"DBSS_ERR_INTERRUPTED", c"a signal ended the call";

    /// Group of 7xx: libdbss has a defect. The call was abandoned; the process and other
    /// calls are not affected.
    Internal = 700, c"DBSS_ERR_INTERNAL", c"libdbss failed internally";
}
