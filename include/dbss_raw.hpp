// The mechanical layer of dbss.hpp.
// Generated from include/dbss-abi.json by bindings/generate/cpp.py.

#ifndef DBSS_RAW_HPP
#define DBSS_RAW_HPP

#ifndef DBSS_HPP
#error "include dbss.hpp, which includes this header"
#endif

namespace dbss {
inline namespace v0 {

/// The result of a call. Newer versions may add values in each group of a hundred.
enum class status_code : std::int32_t {
    /// The call succeeded.
    ok = DBSS_OK,
    /// An argument or an option is at fault.
    argument = DBSS_ERR_ARGUMENT,
    /// A required pointer is null.
    null_argument = DBSS_ERR_NULL_ARGUMENT,
    /// A string is not UTF-8.
    invalid_utf8 = DBSS_ERR_INVALID_UTF8,
    /// A project, instance or report id has an invalid length or character.
    invalid_id = DBSS_ERR_INVALID_ID,
    /// The locale is neither en-us nor zh-cn.
    invalid_locale = DBSS_ERR_INVALID_LOCALE,
    /// The token is empty, too long, or has a character that is not allowed in a header.
    invalid_token = DBSS_ERR_INVALID_TOKEN,
    /// The endpoint is not a usable URL, or the region is not a region's name.
    invalid_endpoint = DBSS_ERR_INVALID_ENDPOINT,
    /// There is no option with this key.
    unknown_key = DBSS_ERR_UNKNOWN_KEY,
    /// The option's value is not of its type or out of its range.
    invalid_value = DBSS_ERR_INVALID_VALUE,
    /// The endpoint is plain http on another host, and "allow_plaintext" is not set.
    plaintext_refused = DBSS_ERR_PLAINTEXT_REFUSED,
    /// A required setting is missing: an endpoint or region, credentials, or a required key of a report spec.
    not_configured = DBSS_ERR_NOT_CONFIGURED,
    /// The operation is in use by another call.
    busy = DBSS_ERR_BUSY,
    /// An access key, its secret or its security token is empty, too long, or has a character that is not
    /// allowed.
    invalid_access_key = DBSS_ERR_INVALID_ACCESS_KEY,
    /// Credentials in the environment or the profile file are incomplete or malformed, or the profile file is
    /// malformed.
    invalid_credentials = DBSS_ERR_INVALID_CREDENTIALS,
    /// The token or passcode provider failed, or returned something invalid.
    no_token = DBSS_ERR_NO_TOKEN,
    /// The client or the stream was closed before the call.
    closed = DBSS_ERR_CLOSED,
    /// The service responded, but not with the requested result.
    service = DBSS_ERR_SERVICE,
    /// HTTP 400: the service refused the request as malformed.
    bad_request = DBSS_ERR_BAD_REQUEST,
    /// HTTP 401: the service rejected the credentials (expired, of another region, wrong).
    unauthenticated = DBSS_ERR_UNAUTHENTICATED,
    /// HTTP 403: the credentials are valid, but do not allow this.
    forbidden = DBSS_ERR_FORBIDDEN,
    /// HTTP 404: no such project, instance or report.
    not_found = DBSS_ERR_NOT_FOUND,
    /// HTTP 429: too many requests; see error::retry_after().
    throttled = DBSS_ERR_THROTTLED,
    /// HTTP 5xx: the service failed.
    server = DBSS_ERR_SERVER,
    /// HTTP 3xx: the service redirected the request, and the redirect was not followed; see
    /// error::redirect_target().
    redirected = DBSS_ERR_REDIRECTED,
    /// A successful response that is not a report (an empty body, a JSON document, a web page), or an HTTP status
    /// that is not expected for this call.
    unexpected_response = DBSS_ERR_UNEXPECTED_RESPONSE,
    /// The service reported that it did not create or delete the report, or did not change the schedule.
    rejected = DBSS_ERR_REJECTED,
    /// The report was not ready within "wait_timeout".
    not_ready = DBSS_ERR_NOT_READY,
    /// Several new reports may be the created one; error::candidates() returns their ids.
    ambiguous = DBSS_ERR_AMBIGUOUS,
    /// Some reports of a mirror failed to download; the others are in the archive.
    partial = DBSS_ERR_PARTIAL,
    /// The network failed, or the data from it is invalid.
    network = DBSS_ERR_NETWORK,
    /// The host's name could not be looked up.
    resolve = DBSS_ERR_RESOLVE,
    /// No address of the host accepted a connection.
    connect = DBSS_ERR_CONNECT,
    /// The TLS handshake or session failed.
    tls = DBSS_ERR_TLS,
    /// The server's certificate is not trusted, not valid now, or of another host.
    certificate = DBSS_ERR_CERTIFICATE,
    /// "connect_timeout" elapsed before the connection was established.
    connect_timeout = DBSS_ERR_CONNECT_TIMEOUT,
    /// "stall_timeout" elapsed without a byte sent or received.
    stalled = DBSS_ERR_STALLED,
    /// "total_timeout" elapsed.
    total_timeout = DBSS_ERR_TOTAL_TIMEOUT,
    /// The connection broke before the response's header was complete.
    connection_lost = DBSS_ERR_CONNECTION_LOST,
    /// The body ended or broke before its end.
    truncated = DBSS_ERR_TRUNCATED,
    /// The response is not valid HTTP.
    protocol = DBSS_ERR_PROTOCOL,
    /// The body is compressed, although libdbss did not request compression.
    content_encoding = DBSS_ERR_CONTENT_ENCODING,
    /// The transfer broke and cannot be resumed: the report changed meanwhile, or the service does not support
    /// resuming, and bytes that were already passed on cannot be taken back.
    not_resumable = DBSS_ERR_NOT_RESUMABLE,
    /// A local file could not be read or written.
    file = DBSS_ERR_FILE,
    /// A file with this name exists, and may not be replaced.
    file_exists = DBSS_ERR_FILE_EXISTS,
    /// The target is a directory, a link or a device, and not a regular file.
    not_regular_file = DBSS_ERR_NOT_REGULAR_FILE,
    /// The disk is full, or a quota or size limit is reached.
    disk_full = DBSS_ERR_DISK_FULL,
    /// The reader of the pipe or socket has closed it.
    broken_pipe = DBSS_ERR_BROKEN_PIPE,
    /// Another mirror is using the directory.
    mirror_locked = DBSS_ERR_MIRROR_LOCKED,
    /// This process ran out of something, such as threads.
    resource = DBSS_ERR_RESOURCE,
    /// There is not enough memory.
    out_of_memory = DBSS_ERR_OUT_OF_MEMORY,
    /// The report is larger than "max_memory_bytes".
    limit_exceeded = DBSS_ERR_LIMIT_EXCEEDED,
    /// The call was cancelled, by operation::cancel(), by client::cancel_all(), by closing its client or stream,
    /// or by a callback.
    cancelled = DBSS_ERR_CANCELLED,
    /// A signal that the program handled ended the call; see the option "interruptible".
    interrupted = DBSS_ERR_INTERRUPTED,
    /// Libdbss has a defect.
    internal = DBSS_ERR_INTERNAL,
};
/// A set of options, for options().
enum class option_set : std::int32_t {
    /// The options of a configuration: config::set().
    config = DBSS_OPTIONS_CONFIG,
    /// The options of an operation: operation::set().
    operation = DBSS_OPTIONS_OPERATION,
    /// The options of a report spec: report_spec::set().
    report_spec = DBSS_OPTIONS_REPORT_SPEC,
    /// The options of a mirror: mirror_options::set().
    mirror = DBSS_OPTIONS_MIRROR,
    /// The values of the changes of a schedule: schedule_changes::set().
    schedule = DBSS_OPTIONS_SCHEDULE,
};
/// What cancelled a call. Newer versions may add values.
enum class cancel_source : std::int32_t {
    /// operation::cancel() cancelled the call.
    operation = DBSS_CANCELLED_BY_OPERATION,
    /// client::cancel_all() cancelled the call.
    context = DBSS_CANCELLED_BY_CONTEXT,
    /// The client or the stream was closed.
    close = DBSS_CANCELLED_BY_CLOSE,
    /// A callback ended the call.
    callback = DBSS_CANCELLED_BY_CALLBACK,
};
/// The level of a log record. Newer versions may add values.
enum class log_level : std::int32_t {
    /// The level of a record about a call that failed.
    error = DBSS_LOG_ERROR,
    /// The level of a record about a problem that libdbss handled, such as a broken transfer that was resumed.
    warning = DBSS_LOG_WARNING,
    /// The level of a record about what a call did.
    info = DBSS_LOG_INFO,
    /// The level of a record about a request and its response.
    debug = DBSS_LOG_DEBUG,
};
/// What a part of the message of an error is.
enum class part_kind : std::int32_t {
    /// Words of the message that are the same in every language.
    text = DBSS_PART_TEXT,
    /// The name of a parameter of a function, or the key of an option.
    name = DBSS_PART_NAME,
    /// What was given for a parameter or an option.
    value = DBSS_PART_VALUE,
    /// A duration in milliseconds, such as "250", or with its unit "250 ms".
    duration = DBSS_PART_DURATION,
    /// The permissions of a file in octal digits, such as "640".
    mode = DBSS_PART_MODE,
    /// How a value is written as text, such as "octal digits ".
    notation = DBSS_PART_NOTATION,
    /// "NULL", or what another language calls it.
    null = DBSS_PART_NULL,
    /// The value that means no limit, "-1" here.
    no_limit = DBSS_PART_NO_LIMIT,
    /// The value for a time that is not known, "-1" here.
    unknown = DBSS_PART_UNKNOWN,
    /// "allow replacing it", or how a language does that.
    replace = DBSS_PART_REPLACE,
    /// What an object is called, such as "context" or "cursor".
    object = DBSS_PART_OBJECT,
};
/// The format of a report, by its first bytes.
enum class report_format : std::int32_t {
    /// The report is neither of these.
    unknown = DBSS_FORMAT_UNKNOWN,
    /// A PDF: the first bytes are "%PDF-".
    pdf = DBSS_FORMAT_PDF,
    /// A ZIP archive: the first bytes are "PK" and the signature of a ZIP record.
    zip = DBSS_FORMAT_ZIP,
};

/// The exception of a status, which derives from that of its group.
template <status_code Code> class error_of;
/// An argument or an option is at fault.
using argument_error = error_of<status_code::argument>;
/// A required pointer is null.
using null_argument_error = error_of<status_code::null_argument>;
/// A string is not UTF-8.
using invalid_utf8_error = error_of<status_code::invalid_utf8>;
/// A project, instance or report id has an invalid length or character.
using invalid_id_error = error_of<status_code::invalid_id>;
/// The locale is neither en-us nor zh-cn.
using invalid_locale_error = error_of<status_code::invalid_locale>;
/// The token is empty, too long, or has a character that is not allowed in a header.
using invalid_token_error = error_of<status_code::invalid_token>;
/// The endpoint is not a usable URL, or the region is not a region's name.
using invalid_endpoint_error = error_of<status_code::invalid_endpoint>;
/// There is no option with this key.
using unknown_key_error = error_of<status_code::unknown_key>;
/// The option's value is not of its type or out of its range.
using invalid_value_error = error_of<status_code::invalid_value>;
/// The endpoint is plain http on another host, and "allow_plaintext" is not set.
using plaintext_refused_error = error_of<status_code::plaintext_refused>;
/// A required setting is missing: an endpoint or region, credentials, or a required key of a report spec.
using not_configured_error = error_of<status_code::not_configured>;
/// The operation is in use by another call.
using busy_error = error_of<status_code::busy>;
/// An access key, its secret or its security token is empty, too long, or has a character that is not
/// allowed.
using invalid_access_key_error = error_of<status_code::invalid_access_key>;
/// Credentials in the environment or the profile file are incomplete or malformed, or the profile file is
/// malformed.
using invalid_credentials_error = error_of<status_code::invalid_credentials>;
/// The token or passcode provider failed, or returned something invalid.
using no_token_error = error_of<status_code::no_token>;
/// The client or the stream was closed before the call.
using closed_error = error_of<status_code::closed>;
/// The service responded, but not with the requested result.
using service_error = error_of<status_code::service>;
/// HTTP 400: the service refused the request as malformed.
using bad_request_error = error_of<status_code::bad_request>;
/// HTTP 401: the service rejected the credentials (expired, of another region, wrong).
using unauthenticated_error = error_of<status_code::unauthenticated>;
/// HTTP 403: the credentials are valid, but do not allow this.
using forbidden_error = error_of<status_code::forbidden>;
/// HTTP 404: no such project, instance or report.
using not_found_error = error_of<status_code::not_found>;
/// HTTP 429: too many requests; see error::retry_after().
using throttled_error = error_of<status_code::throttled>;
/// HTTP 5xx: the service failed.
using server_error = error_of<status_code::server>;
/// HTTP 3xx: the service redirected the request, and the redirect was not followed; see
/// error::redirect_target().
using redirected_error = error_of<status_code::redirected>;
/// A successful response that is not a report (an empty body, a JSON document, a web page), or an HTTP status
/// that is not expected for this call.
using unexpected_response_error = error_of<status_code::unexpected_response>;
/// The service reported that it did not create or delete the report, or did not change the schedule.
using rejected_error = error_of<status_code::rejected>;
/// The report was not ready within "wait_timeout".
using not_ready_error = error_of<status_code::not_ready>;
/// Several new reports may be the created one; error::candidates() returns their ids.
using ambiguous_error = error_of<status_code::ambiguous>;
/// Some reports of a mirror failed to download; the others are in the archive.
using partial_error = error_of<status_code::partial>;
/// The network failed, or the data from it is invalid.
using network_error = error_of<status_code::network>;
/// The host's name could not be looked up.
using resolve_error = error_of<status_code::resolve>;
/// No address of the host accepted a connection.
using connect_error = error_of<status_code::connect>;
/// The TLS handshake or session failed.
using tls_error = error_of<status_code::tls>;
/// The server's certificate is not trusted, not valid now, or of another host.
using certificate_error = error_of<status_code::certificate>;
/// "connect_timeout" elapsed before the connection was established.
using connect_timeout_error = error_of<status_code::connect_timeout>;
/// "stall_timeout" elapsed without a byte sent or received.
using stalled_error = error_of<status_code::stalled>;
/// "total_timeout" elapsed.
using total_timeout_error = error_of<status_code::total_timeout>;
/// The connection broke before the response's header was complete.
using connection_lost_error = error_of<status_code::connection_lost>;
/// The body ended or broke before its end.
using truncated_error = error_of<status_code::truncated>;
/// The response is not valid HTTP.
using protocol_error = error_of<status_code::protocol>;
/// The body is compressed, although libdbss did not request compression.
using content_encoding_error = error_of<status_code::content_encoding>;
/// The transfer broke and cannot be resumed: the report changed meanwhile, or the service does not support
/// resuming, and bytes that were already passed on cannot be taken back.
using not_resumable_error = error_of<status_code::not_resumable>;
/// A local file could not be read or written.
using file_error = error_of<status_code::file>;
/// A file with this name exists, and may not be replaced.
using file_exists_error = error_of<status_code::file_exists>;
/// The target is a directory, a link or a device, and not a regular file.
using not_regular_file_error = error_of<status_code::not_regular_file>;
/// The disk is full, or a quota or size limit is reached.
using disk_full_error = error_of<status_code::disk_full>;
/// The reader of the pipe or socket has closed it.
using broken_pipe_error = error_of<status_code::broken_pipe>;
/// Another mirror is using the directory.
using mirror_locked_error = error_of<status_code::mirror_locked>;
/// This process ran out of something, such as threads.
using resource_error = error_of<status_code::resource>;
/// There is not enough memory.
using out_of_memory_error = error_of<status_code::out_of_memory>;
/// The report is larger than "max_memory_bytes".
using limit_exceeded_error = error_of<status_code::limit_exceeded>;
/// The call was cancelled, by operation::cancel(), by client::cancel_all(), by closing its client or stream,
/// or by a callback.
using cancelled_error = error_of<status_code::cancelled>;
/// A signal that the program handled ended the call; see the option "interruptible".
using interrupted_error = error_of<status_code::interrupted>;
/// Libdbss has a defect.
using internal_error = error_of<status_code::internal>;
namespace detail {
/// Throws the exception of a status. A status that is newer than this header throws that of its group.
template <template <status_code> class Exception, class Cause>
[[noreturn]] void throw_error(status_code code, const Cause &cause)
{
    switch (code) {
    case status_code::argument: throw Exception<status_code::argument>(cause);
    case status_code::null_argument: throw Exception<status_code::null_argument>(cause);
    case status_code::invalid_utf8: throw Exception<status_code::invalid_utf8>(cause);
    case status_code::invalid_id: throw Exception<status_code::invalid_id>(cause);
    case status_code::invalid_locale: throw Exception<status_code::invalid_locale>(cause);
    case status_code::invalid_token: throw Exception<status_code::invalid_token>(cause);
    case status_code::invalid_endpoint: throw Exception<status_code::invalid_endpoint>(cause);
    case status_code::unknown_key: throw Exception<status_code::unknown_key>(cause);
    case status_code::invalid_value: throw Exception<status_code::invalid_value>(cause);
    case status_code::plaintext_refused: throw Exception<status_code::plaintext_refused>(cause);
    case status_code::not_configured: throw Exception<status_code::not_configured>(cause);
    case status_code::busy: throw Exception<status_code::busy>(cause);
    case status_code::invalid_access_key: throw Exception<status_code::invalid_access_key>(cause);
    case status_code::invalid_credentials: throw Exception<status_code::invalid_credentials>(cause);
    case status_code::no_token: throw Exception<status_code::no_token>(cause);
    case status_code::closed: throw Exception<status_code::closed>(cause);
    case status_code::service: throw Exception<status_code::service>(cause);
    case status_code::bad_request: throw Exception<status_code::bad_request>(cause);
    case status_code::unauthenticated: throw Exception<status_code::unauthenticated>(cause);
    case status_code::forbidden: throw Exception<status_code::forbidden>(cause);
    case status_code::not_found: throw Exception<status_code::not_found>(cause);
    case status_code::throttled: throw Exception<status_code::throttled>(cause);
    case status_code::server: throw Exception<status_code::server>(cause);
    case status_code::redirected: throw Exception<status_code::redirected>(cause);
    case status_code::unexpected_response: throw Exception<status_code::unexpected_response>(cause);
    case status_code::rejected: throw Exception<status_code::rejected>(cause);
    case status_code::not_ready: throw Exception<status_code::not_ready>(cause);
    case status_code::ambiguous: throw Exception<status_code::ambiguous>(cause);
    case status_code::partial: throw Exception<status_code::partial>(cause);
    case status_code::network: throw Exception<status_code::network>(cause);
    case status_code::resolve: throw Exception<status_code::resolve>(cause);
    case status_code::connect: throw Exception<status_code::connect>(cause);
    case status_code::tls: throw Exception<status_code::tls>(cause);
    case status_code::certificate: throw Exception<status_code::certificate>(cause);
    case status_code::connect_timeout: throw Exception<status_code::connect_timeout>(cause);
    case status_code::stalled: throw Exception<status_code::stalled>(cause);
    case status_code::total_timeout: throw Exception<status_code::total_timeout>(cause);
    case status_code::connection_lost: throw Exception<status_code::connection_lost>(cause);
    case status_code::truncated: throw Exception<status_code::truncated>(cause);
    case status_code::protocol: throw Exception<status_code::protocol>(cause);
    case status_code::content_encoding: throw Exception<status_code::content_encoding>(cause);
    case status_code::not_resumable: throw Exception<status_code::not_resumable>(cause);
    case status_code::file: throw Exception<status_code::file>(cause);
    case status_code::file_exists: throw Exception<status_code::file_exists>(cause);
    case status_code::not_regular_file: throw Exception<status_code::not_regular_file>(cause);
    case status_code::disk_full: throw Exception<status_code::disk_full>(cause);
    case status_code::broken_pipe: throw Exception<status_code::broken_pipe>(cause);
    case status_code::mirror_locked: throw Exception<status_code::mirror_locked>(cause);
    case status_code::resource: throw Exception<status_code::resource>(cause);
    case status_code::out_of_memory: throw Exception<status_code::out_of_memory>(cause);
    case status_code::limit_exceeded: throw Exception<status_code::limit_exceeded>(cause);
    case status_code::cancelled: throw Exception<status_code::cancelled>(cause);
    case status_code::interrupted: throw Exception<status_code::interrupted>(cause);
    case status_code::internal: throw Exception<status_code::internal>(cause);
    default: break;
    }
    const dbss_status group = dbss_status_group(static_cast<dbss_status>(code));
    if (group == static_cast<dbss_status>(code)) throw Exception<status_code::internal>(cause);
    throw_error<Exception>(static_cast<status_code>(group), cause);
}
} // namespace detail

/// Frees the handles and the buffers of C.
struct deleter {
    /// Frees a dbss_error.
    void operator()(dbss_error *handle) const noexcept { dbss_error_free(handle); }
    /// Frees a dbss_config.
    void operator()(dbss_config *handle) const noexcept { dbss_config_free(handle); }
    /// Frees a dbss_log_record.
    void operator()(dbss_log_record *handle) const noexcept { dbss_log_record_free(handle); }
    /// Frees a dbss_token_request.
    void operator()(dbss_token_request *handle) const noexcept { dbss_token_request_free(handle); }
    /// Frees a dbss_context.
    void operator()(dbss_context *handle) const noexcept { dbss_context_free(handle); }
    /// Frees a dbss_credentials.
    void operator()(dbss_credentials *handle) const noexcept { dbss_credentials_free(handle); }
    /// Frees a dbss_report_stream.
    void operator()(dbss_report_stream *handle) const noexcept { dbss_report_stream_free(handle); }
    /// Frees a dbss_operation.
    void operator()(dbss_operation *handle) const noexcept { dbss_operation_free(handle); }
    /// Frees a dbss_cursor.
    void operator()(dbss_cursor *handle) const noexcept { dbss_cursor_free(handle); }
    /// Frees a dbss_page.
    void operator()(dbss_page *handle) const noexcept { dbss_page_free(handle); }
    /// Frees a dbss_report_spec.
    void operator()(dbss_report_spec *handle) const noexcept { dbss_report_spec_free(handle); }
    /// Frees a dbss_schedule_changes.
    void operator()(dbss_schedule_changes *handle) const noexcept { dbss_schedule_changes_free(handle); }
    /// Frees a dbss_mirror_options.
    void operator()(dbss_mirror_options *handle) const noexcept { dbss_mirror_options_free(handle); }
    /// Frees a dbss_mirror_result.
    void operator()(dbss_mirror_result *handle) const noexcept { dbss_mirror_result_free(handle); }
};
/// A handle of C that frees itself.
template <class Handle> using unique_handle = std::unique_ptr<Handle, deleter>;

/// The getters of a dbss_error. Only the class Self can derive from it.
template <class Self> class error_getters {
    friend Self;
    error_getters() = default;

  public:
    /// The HTTP status of the response, such as 404. None when there was no response.
    [[nodiscard]] std::optional<std::int32_t> http_status() const
    { return detail::optional<std::int32_t>(dbss_error_http_status(native()), std::int32_t{0}); }
    /// The service's own error code, such as "DBSS.10021004" or "APIG.0301". A code that was sent as a number is
    /// in decimal. None if the service sent none.
    [[nodiscard]] std::optional<std::string> service_code() const
    { return detail::optional_text(dbss_error_service_code(native())); }
    /// The service's own error message, unchanged except that bytes that are not UTF-8, and U+0000, are replaced
    /// by U+FFFD, and the secrets of the request by "***". It may contain control characters. None if the service
    /// sent none.
    [[nodiscard]] std::optional<std::string> service_message() const
    { return detail::optional_text(dbss_error_service_message(native())); }
    /// The service's id of this call (header X-Request-Id, or request_id in the body). Quote it to the service's
    /// support. None if the service sent none.
    [[nodiscard]] std::optional<std::string> request_id() const
    { return detail::optional_text(dbss_error_request_id(native())); }
    /// The encoded message that explains a refused authorization. An API of the service can decode it. None if
    /// the service sent none.
    [[nodiscard]] std::optional<std::string> encoded_authorization_message() const
    { return detail::optional_text(dbss_error_encoded_authorization_message(native())); }
    /// What cancelled the call, for status_code::cancelled. Newer versions may add values. None if there is none.
    [[nodiscard]] std::optional<cancel_source> cancelled_by() const
    { return detail::optional<cancel_source>(dbss_error_cancelled_by(native()), std::int32_t{0}); }
    /// Where the service redirected to, for status_code::redirected: the header Location without user
    /// information, query and fragment, which may hold secrets. None if there is none.
    [[nodiscard]] std::optional<std::string> redirect_target() const
    { return detail::optional_text(dbss_error_redirect_target(native())); }
    /// The file or directory at fault, such as the file that exists already (status_code::file_exists). None if
    /// no file is at fault.
    [[nodiscard]] std::optional<std::filesystem::path> path() const
    { return detail::optional_path(dbss_error_path(native())); }
    /// The value of errno that the operating system returned. None if there is none.
    [[nodiscard]] std::optional<std::int32_t> os_code() const
    { return detail::optional<std::int32_t>(dbss_error_os_code(native()), std::int32_t{0}); }
    /// Whether the cause is temporary (throttling, a failing server, a broken or stalled connection, a timeout),
    /// so that the same call may succeed later.
    [[nodiscard]] bool is_retryable() const { return dbss_error_is_retryable(native()) != 0; }
    /// The wait before the next attempt that the service requests (header Retry-After, in seconds or as a date).
    /// None if there is none.
    [[nodiscard]] std::optional<std::chrono::milliseconds> retry_after() const
    { return detail::optional<std::chrono::milliseconds>(dbss_error_retry_after_ms(native()), std::int64_t{-1}); }
    /// The number of requests before the call gave up, without those for credentials and projects.
    [[nodiscard]] std::uint32_t attempts() const { return dbss_error_attempts(native()); }

  private:
    const dbss_error *native() const noexcept { return static_cast<const Self &>(*this).native_handle(); }
};
/// The getters of a dbss_log_record. Only the class Self can derive from it.
template <class Self> class log_record_getters {
    friend Self;
    log_record_getters() = default;

  public:
    /// The level of the record. Newer versions may add levels.
    [[nodiscard]] log_level level() const { return static_cast<log_level>(dbss_log_record_level(native())); }
    /// The status of the failed call, or of the failure that caused another attempt. status_code::ok if the
    /// record is not about a failure.
    [[nodiscard]] status_code status() const { return static_cast<status_code>(dbss_log_record_status(native())); }
    /// The number of the request within the call, counted from 1. None if there is none.
    [[nodiscard]] std::optional<std::uint32_t> attempt() const
    { return detail::optional<std::uint32_t>(dbss_log_record_attempt(native()), std::uint32_t{0}); }
    /// The service's id of the request (header X-Request-Id). None if the service sent none.
    [[nodiscard]] std::optional<std::string> request_id() const
    { return detail::optional_text(dbss_log_record_request_id(native())); }
    /// The id of the report that the call is about. None if it is not about a report.
    [[nodiscard]] std::optional<std::string> report_id() const
    { return detail::optional_text(dbss_log_record_report_id(native())); }
    /// The size of the body. In bytes. None if there is none.
    [[nodiscard]] std::optional<std::int64_t> bytes() const
    { return detail::optional<std::int64_t>(dbss_log_record_bytes(native()), std::int64_t{-1}); }
    /// How long the call has taken so far. None if there is none.
    [[nodiscard]] std::optional<std::chrono::milliseconds> duration() const
    { return detail::optional<std::chrono::milliseconds>(dbss_log_record_duration_ms(native()), std::int64_t{-1}); }
    /// The offset in the body at which a transfer broke or continues. In bytes. None if there is none.
    [[nodiscard]] std::optional<std::int64_t> offset() const
    { return detail::optional<std::int64_t>(dbss_log_record_offset(native()), std::int64_t{-1}); }
    /// How long the call waits before its next attempt. None if there is none.
    [[nodiscard]] std::optional<std::chrono::milliseconds> retry_delay() const
    { return detail::optional<std::chrono::milliseconds>(dbss_log_record_retry_delay_ms(native()), std::int64_t{-1}); }
    /// The HTTP status of the response that the record is about, such as 200. None if there is none.
    [[nodiscard]] std::optional<std::int32_t> http_status() const
    { return detail::optional<std::int32_t>(dbss_log_record_http_status(native()), std::int32_t{0}); }

  private:
    const dbss_log_record *native() const noexcept { return static_cast<const Self &>(*this).native_handle(); }
};
/// The getters of a dbss_token_request. Only the class Self can derive from it.
template <class Self> class token_request_getters {
    friend Self;
    token_request_getters() = default;

  public:
    /// Whether the service rejected the previous token. It would reject the same one again.
    [[nodiscard]] bool refused() const { return dbss_token_request_refused(native()) != 0; }
    /// Whether a call or the client may still use the token. It is false once the request is completed, once the
    /// client was closed or freed and the requesting call has ended, and once another request was made.
    /// Completing the request anyway does no harm.
    [[nodiscard]] bool is_wanted() const { return dbss_token_request_is_wanted(native()) != 0; }

  private:
    const dbss_token_request *native() const noexcept { return static_cast<const Self &>(*this).native_handle(); }
};
/// The getters of a dbss_credentials. Only the class Self can derive from it.
template <class Self> class credentials_getters {
    friend Self;
    credentials_getters() = default;

  public:
    /// Where the credentials come from: "token", "access_key", "token_provider", "iam_user", "environment",
    /// "profile", "metadata", "oidc", "federation", "pod_identity" or "agency". Newer versions may add more.
    [[nodiscard]] std::string source() const { return detail::text(dbss_credentials_source(native())); }
    /// A description of the source, with the variable, file or address.
    [[nodiscard]] std::string description() const { return detail::text(dbss_credentials_description(native())); }
    /// The user's name, or the access key with its middle masked. None if it is not known.
    [[nodiscard]] std::optional<std::string> name() const
    { return detail::optional_text(dbss_credentials_name(native())); }
    /// The id of the default project of calls, if it is known without a look-up. None if it is not known.
    [[nodiscard]] std::optional<std::string> project() const
    { return detail::optional_text(dbss_credentials_project(native())); }
    /// When the credentials expire. None if they do not expire, or if it is not known.
    [[nodiscard]] std::optional<std::chrono::system_clock::time_point> expires() const
    { return detail::optional_time(dbss_credentials_expires_ms(native())); }

  private:
    const dbss_credentials *native() const noexcept { return static_cast<const Self &>(*this).native_handle(); }
};
/// The getters of a dbss_report_stream. Only the class Self can derive from it.
template <class Self> class report_stream_getters {
    friend Self;
    report_stream_getters() = default;

  public:
    /// The size of the report that the service announced. In bytes. None if there is none.
    [[nodiscard]] std::optional<std::int64_t> size() const
    { return detail::optional<std::int64_t>(dbss_report_stream_size(native()), std::int64_t{-1}); }
    /// The format of the report, determined from its first bytes.
    [[nodiscard]] report_format format() const
    { return static_cast<report_format>(dbss_report_stream_format(native())); }
    /// A safe form of the report's own name, as from operation::filename().
    [[nodiscard]] std::string filename() const { return detail::text(dbss_report_stream_filename(native())); }
    /// The header Content-Type. None if the service sent none.
    [[nodiscard]] std::optional<std::string> content_type() const
    { return detail::optional_text(dbss_report_stream_content_type(native())); }
    /// The service's id of the call (header X-Request-Id). None if the service sent none.
    [[nodiscard]] std::optional<std::string> request_id() const
    { return detail::optional_text(dbss_report_stream_request_id(native())); }

  private:
    const dbss_report_stream *native() const noexcept { return static_cast<const Self &>(*this).native_handle(); }
};
/// The getters of a dbss_operation. Only the class Self can derive from it.
template <class Self> class operation_getters {
    friend Self;
    operation_getters() = default;

  public:
    /// The number of bytes of the report that have arrived, including those before a resumption. In bytes.
    [[nodiscard]] std::int64_t received() const { return dbss_operation_received(native()); }
    /// The size of the report. In bytes. None if it is not known, or not yet.
    [[nodiscard]] std::optional<std::int64_t> total() const
    { return detail::optional<std::int64_t>(dbss_operation_total(native()), std::int64_t{-1}); }
    /// The number of bytes that did not have to be transferred again because broken transfers were resumed. In
    /// bytes.
    [[nodiscard]] std::int64_t resumed() const { return dbss_operation_resumed(native()); }
    /// The number of requests so far.
    [[nodiscard]] std::uint32_t attempts() const { return dbss_operation_attempts(native()); }
    /// The progress of the service in generating a report (client::generate_report(), client::wait_for_report()),
    /// or the percentage of finished reports of a mirror (client::mirror()). In percent. None while it is not
    /// known.
    [[nodiscard]] std::optional<std::int32_t> percent() const
    { return detail::optional<std::int32_t>(dbss_operation_percent(native()), std::int32_t{-1}); }
    /// Where the report was saved, once the call has succeeded. None if nothing was saved.
    [[nodiscard]] std::optional<std::filesystem::path> path() const
    { return detail::optional_path(dbss_operation_path(native())); }
    /// A safe form of the report's own name: one path component, not hidden. It comes from the header Content-
    /// Disposition. If that is missing or not UTF-8, it is made of the report's id and format. None until the
    /// report has begun to arrive.
    [[nodiscard]] std::optional<std::string> filename() const
    { return detail::optional_text(dbss_operation_filename(native())); }
    /// The service's id of the call (header X-Request-Id). None until the report has begun to arrive, and if the
    /// service sent none.
    [[nodiscard]] std::optional<std::string> request_id() const
    { return detail::optional_text(dbss_operation_request_id(native())); }
    /// The header Content-Type of the report. None until the report has begun to arrive, and if the service sent
    /// none.
    [[nodiscard]] std::optional<std::string> content_type() const
    { return detail::optional_text(dbss_operation_content_type(native())); }
    /// The format of the report, determined from its first bytes; report_format::unknown until it has begun to
    /// arrive.
    [[nodiscard]] report_format format() const { return static_cast<report_format>(dbss_operation_format(native())); }

  private:
    const dbss_operation *native() const noexcept { return static_cast<const Self &>(*this).native_handle(); }
};
/// The getters of a dbss_page. Only the class Self can derive from it.
template <class Self> class page_getters {
    friend Self;
    page_getters() = default;

  public:
    /// The number of items in the whole list, as the service reported it with this page. None if there is none.
    [[nodiscard]] std::optional<std::int64_t> total() const
    { return detail::optional<std::int64_t>(dbss_page_total(native()), std::int64_t{-1}); }

  private:
    const dbss_page *native() const noexcept { return static_cast<const Self &>(*this).native_handle(); }
};
/// The getters of a dbss_mirror_result. Only the class Self can derive from it.
template <class Self> class mirror_result_getters {
    friend Self;
    mirror_result_getters() = default;

  public:
    /// Reports in the service's lists that the options select.
    [[nodiscard]] std::int64_t listed() const { return dbss_mirror_result_listed(native()); }
    /// Reports that were added to the archive by this run.
    [[nodiscard]] std::int64_t downloaded() const { return dbss_mirror_result_downloaded(native()); }
    /// Reports that were in the archive before this run.
    [[nodiscard]] std::int64_t present() const { return dbss_mirror_result_present(native()); }
    /// Reports that the service is still generating.
    [[nodiscard]] std::int64_t not_ready() const { return dbss_mirror_result_not_ready(native()); }
    /// Reports that were deleted between the list and the download.
    [[nodiscard]] std::int64_t vanished() const { return dbss_mirror_result_vanished(native()); }
    /// Reports, or lists of them, that failed; each has an error.
    [[nodiscard]] std::int64_t failed() const { return dbss_mirror_result_failed(native()); }
    /// Files that differed from the manifest and were replaced.
    [[nodiscard]] std::int64_t repaired() const { return dbss_mirror_result_repaired(native()); }

  private:
    const dbss_mirror_result *native() const noexcept { return static_cast<const Self &>(*this).native_handle(); }
};

/// The options of the set option_set::config, each with a setter. Only the class Self can derive from it.
template <class Self> class config_option_setters {
    friend Self;
    config_option_setters() = default;

  public:
    /// The region, such as cn-north-4. It determines the endpoint and the project, unless they are set too. a-z,
    /// 0-9 and "-". 1 to 63 bytes.
    Self &region(text_view value) { return put("region", detail::option_text(value)); }
    /// The URL of the service, or up to 16, separated by commas, in the order of preference. It takes precedence
    /// over the region's. Without a scheme it is https.
    Self &endpoint(text_view value) { return put("endpoint", detail::option_text(value)); }
    /// The id of the default project of calls. Without it, that of the credentials, or the one with the region's
    /// name, which is looked up once. 32 to 64 characters.
    Self &project_id(text_view value) { return put("project_id", detail::option_text(value)); }
    /// The IAM token that is sent with each request, instead of other credentials. Visible ASCII characters. 1 to
    /// 98304 bytes.
    Self &token(text_view value) { return put("token", detail::option_text(value)); }
    /// The access key (AK) that signs each request, instead of other credentials. It needs "secret_key". Visible
    /// ASCII characters. 1 to 1024 bytes.
    Self &access_key(text_view value) { return put("access_key", detail::option_text(value)); }
    /// The secret (SK) of "access_key". Visible ASCII characters. 1 to 1024 bytes.
    Self &secret_key(text_view value) { return put("secret_key", detail::option_text(value)); }
    /// The security token of a temporary "access_key". Visible ASCII characters. 1 to 98304 bytes.
    Self &security_token(text_view value) { return put("security_token", detail::option_text(value)); }
    /// The IAM user who logs in for a token, instead of other credentials. It needs "iam_password" and
    /// "iam_domain". 1 to 1024 bytes.
    Self &iam_user(text_view value) { return put("iam_user", detail::option_text(value)); }
    /// The password of "iam_user". 1 to 1024 bytes.
    Self &iam_password(text_view value) { return put("iam_password", detail::option_text(value)); }
    /// The name of the account of "iam_user". 1 to 1024 bytes.
    Self &iam_domain(text_view value) { return put("iam_domain", detail::option_text(value)); }
    /// The id of "iam_user", for a login with a passcode of its MFA device. It needs a passcode provider. 1 to
    /// 1024 bytes.
    Self &iam_user_id(text_view value) { return put("iam_user_id", detail::option_text(value)); }
    /// The agency to assume with the other credentials. Calls then use its temporary keys, and the projects of
    /// its account. It needs "agency_domain" or "agency_domain_id". 1 to 1024 bytes.
    Self &agency_name(text_view value) { return put("agency_name", detail::option_text(value)); }
    /// The name of the account of "agency_name". 1 to 1024 bytes.
    Self &agency_domain(text_view value) { return put("agency_domain", detail::option_text(value)); }
    /// The id of the account of "agency_name", instead of its name. 1 to 1024 bytes.
    Self &agency_domain_id(text_view value) { return put("agency_domain_id", detail::option_text(value)); }
    /// How long a temporary key of "agency_name" is valid, a whole number of seconds. It is refreshed before it
    /// expires. 900000 ms to 86400000 ms. The default is 3600000 ms.
    Self &agency_duration(std::chrono::milliseconds value)
    { return put("agency_duration_ms", detail::option_text(value)); }
    /// Where to find credentials, instead of setting them: oidc (an agency for the token of an OIDC provider:
    /// HUAWEICLOUD_OIDC_PROVIDER_URN, _AGENCY_URN, _ID_TOKEN or _TOKEN_FILE, _SESSION_NAME, _DURATION_SECONDS,
    /// _POLICY, _POLICY_IDS), environment (HUAWEICLOUD_SDK_IDP_ID and _ID_TOKEN_FILE for a federated identity,
    /// else HUAWEICLOUD_SDK_AK, _SK, _SECURITY_TOKEN; with _PROJECT_ID), profile (the section [basic] of
    /// ~/.huaweicloud/credentials, or of the file that HUAWEICLOUD_SDK_CREDENTIALS_FILE names), metadata (the
    /// temporary key of the agency of this machine, a cloud server), pod_identity (the key of a pod's agency:
    /// HC_CONTAINER_CREDENTIALS_FULL_URI, HC_CONTAINER_AUTHORIZATION_TOKEN_FILE), or default, which tries these
    /// in this order. federation uses only the federated identity of the environment or the profile. The names
    /// are those of the official SDKs. One of default, oidc, environment, federation, profile, metadata,
    /// pod_identity.
    Self &credentials(text_view value) { return put("credentials", detail::option_text(value)); }
    /// The URL of IAM, for logins and for looking up a project. Without it, that of the profile, else that of the
    /// variable HUAWEICLOUD_SDK_IAM_ENDPOINT, else the region's own, else https://iam.myhuaweicloud.com.
    Self &iam_endpoint(text_view value) { return put("iam_endpoint", detail::option_text(value)); }
    /// The URL of STS, for "credentials" by OIDC. Without it, that of the variable HUAWEICLOUD_SDK_STS_ENDPOINT,
    /// else the region's.
    Self &sts_endpoint(text_view value) { return put("sts_endpoint", detail::option_text(value)); }
    /// The URL of this machine's metadata service, if it is not http://169.254.169.254. Plain http may go to a
    /// link-local or private address, for this service alone.
    Self &metadata_endpoint(text_view value) { return put("metadata_endpoint", detail::option_text(value)); }
    /// A PEM file of the certificates to trust, instead of the system's and the built-in ones.
    Self &ca_file(const std::filesystem::path &value) { return put("ca_file", detail::option_text(value)); }
    /// The maximum time to connect: name look-up, TCP and TLS together. 1 ms to 86400000 ms, or no_limit. The
    /// default is 10000 ms.
    Self &connect_timeout(std::chrono::milliseconds value)
    { return put("connect_timeout_ms", detail::option_text(value)); }
    /// The maximum time without a byte sent or received. 1 ms to 86400000 ms, or no_limit. The default is 60000
    /// ms.
    Self &stall_timeout(std::chrono::milliseconds value) { return put("stall_timeout_ms", detail::option_text(value)); }
    /// The maximum time for a whole call. 1 ms to 2592000000 ms, or no_limit. The default is no_limit.
    Self &total_timeout(std::chrono::milliseconds value) { return put("total_timeout_ms", detail::option_text(value)); }
    /// The maximum number of attempts of a call when the connection fails or breaks, or the service returns 429,
    /// 500, 502, 503 or 504. The count restarts after an attempt that received 1 MiB beyond what earlier attempts
    /// had reached. Between attempts the call waits as long as the service asks (Retry-After), else a random
    /// time: up to 250 ms, doubled with each failure, up to 10 s. 1 means no retries. 1 to 1000. The default is
    /// 3.
    Self &max_attempts(std::int64_t value) { return put("max_attempts", detail::option_text(value)); }
    /// The maximum wait before another attempt that the service may request (Retry-After). If it requests more,
    /// the call fails immediately. 0 ms to 86400000 ms. The default is 60000 ms.
    Self &max_retry_after(std::chrono::milliseconds value)
    { return put("max_retry_after_ms", detail::option_text(value)); }
    /// Whether an endpoint on another host may be plain http, which exposes the token and the report to the
    /// network. The default is false.
    Self &allow_plaintext(bool value) { return put("allow_plaintext", detail::option_text(value)); }
    /// Not text, such as "false": it would be true.
    Self &allow_plaintext(const void *) = delete;
    /// Whether a body over plain http may be delimited only by the end of the connection. Then it cannot be
    /// checked whether it is complete. The default is false.
    Self &allow_close_delimited(bool value) { return put("allow_close_delimited", detail::option_text(value)); }
    /// Not text, such as "false": it would be true.
    Self &allow_close_delimited(const void *) = delete;
    /// Whether up to 5 redirects are followed. Credentials are never sent to another origin, and no request goes
    /// from https to plain http. The default is false.
    Self &follow_redirects(bool value) { return put("follow_redirects", detail::option_text(value)); }
    /// Not text, such as "false": it would be true.
    Self &follow_redirects(const void *) = delete;
    /// The URL of an HTTP proxy, such as http://user:password@proxy.example.com:3128, through which all
    /// connections are tunnelled (CONNECT). Without a scheme it is http.
    Self &proxy(text_view value) { return put("proxy", detail::option_text(value)); }
    /// Whether the proxy is taken from https_proxy, http_proxy, all_proxy and no_proxy (also in upper case,
    /// except HTTP_PROXY) when the client is made. The default is false.
    Self &proxy_from_environment(bool value) { return put("proxy_from_environment", detail::option_text(value)); }
    /// Not text, such as "false": it would be true.
    Self &proxy_from_environment(const void *) = delete;
    /// The permissions of a saved file, independent of the umask. The owner can always read and write. 0600 to
    /// 0777. The default is 0600.
    Self &file_mode(std::filesystem::perms value) { return put("file_mode", detail::option_text(value)); }
    /// The maximum size of a report that is downloaded into memory. 1 to 9223372036854775807. The default is
    /// 1073741824.
    Self &max_memory_bytes(std::int64_t value) { return put("max_memory_bytes", detail::option_text(value)); }
    /// The maximum time to wait until the service has generated a report. 1 ms to 2592000000 ms, or no_limit. The
    /// default is 3600000 ms.
    Self &wait_timeout(std::chrono::milliseconds value) { return put("wait_timeout_ms", detail::option_text(value)); }
    /// The initial interval for polling a report that is being generated. It grows by half each time, up to 30 s
    /// or this value if that is larger, and varies randomly by a fifth. 1 ms to 86400000 ms. The default is 2000
    /// ms.
    Self &poll_interval(std::chrono::milliseconds value) { return put("poll_interval_ms", detail::option_text(value)); }
    /// Whether a signal that the program handles may end a call. operation::on_interrupt() sets the function that
    /// decides; without it every handled signal ends the call. The default is false.
    Self &interruptible(bool value) { return put("interruptible", detail::option_text(value)); }
    /// Not text, such as "false": it would be true.
    Self &interruptible(const void *) = delete;
    /// Which records the log callback receives: those of this level and the more important ones. One of error,
    /// warning, info, debug. The default is debug.
    Self &log_level(text_view value) { return put("log_level", detail::option_text(value)); }
    /// Text after "libdbss/VERSION" in the User-Agent header, such as a program's name and version. Visible ASCII
    /// characters and spaces. 1 to 256 bytes.
    Self &user_agent_suffix(text_view value) { return put("user_agent_suffix", detail::option_text(value)); }

  private:
    Self &put(const char *key, text_view value)
    {
        Self &self = static_cast<Self &>(*this);
        detail::set_option(dbss_config_set, self, key, value, detail::wording::typed);
        return self;
    }
};
/// The options of the set option_set::operation, each with a setter. Only the class Self can derive from it.
template <class Self> class operation_option_setters {
    friend Self;
    operation_option_setters() = default;

  public:
    /// The maximum time to connect: name look-up, TCP and TLS together. 1 ms to 86400000 ms, or no_limit.
    Self &connect_timeout(std::chrono::milliseconds value)
    { return put("connect_timeout_ms", detail::option_text(value)); }
    /// The maximum time without a byte sent or received. 1 ms to 86400000 ms, or no_limit.
    Self &stall_timeout(std::chrono::milliseconds value) { return put("stall_timeout_ms", detail::option_text(value)); }
    /// The maximum time for a whole call. 1 ms to 2592000000 ms, or no_limit.
    Self &total_timeout(std::chrono::milliseconds value) { return put("total_timeout_ms", detail::option_text(value)); }
    /// The maximum number of attempts of a call when the connection fails or breaks, or the service returns 429,
    /// 500, 502, 503 or 504. The count restarts after an attempt that received 1 MiB beyond what earlier attempts
    /// had reached. Between attempts the call waits as long as the service asks (Retry-After), else a random
    /// time: up to 250 ms, doubled with each failure, up to 10 s. 1 means no retries. 1 to 1000.
    Self &max_attempts(std::int64_t value) { return put("max_attempts", detail::option_text(value)); }
    /// The permissions of a saved file, independent of the umask. The owner can always read and write. 0600 to
    /// 0777.
    Self &file_mode(std::filesystem::perms value) { return put("file_mode", detail::option_text(value)); }
    /// The maximum size of a report that is downloaded into memory. 1 to 9223372036854775807.
    Self &max_memory_bytes(std::int64_t value) { return put("max_memory_bytes", detail::option_text(value)); }
    /// The maximum time to wait until the service has generated a report. 1 ms to 2592000000 ms, or no_limit.
    Self &wait_timeout(std::chrono::milliseconds value) { return put("wait_timeout_ms", detail::option_text(value)); }
    /// The initial interval for polling a report that is being generated. It grows by half each time, up to 30 s
    /// or this value if that is larger, and varies randomly by a fifth. 1 ms to 86400000 ms.
    Self &poll_interval(std::chrono::milliseconds value) { return put("poll_interval_ms", detail::option_text(value)); }
    /// Whether a signal that the program handles may end a call. operation::on_interrupt() sets the function that
    /// decides; without it every handled signal ends the call.
    Self &interruptible(bool value) { return put("interruptible", detail::option_text(value)); }
    /// Not text, such as "false": it would be true.
    Self &interruptible(const void *) = delete;

  private:
    Self &put(const char *key, text_view value)
    {
        Self &self = static_cast<Self &>(*this);
        detail::set_option(dbss_operation_set, self, key, value, detail::wording::typed);
        return self;
    }
};
/// The options of the set option_set::report_spec, each with a setter. Only the class Self can derive from
/// it.
template <class Self> class report_spec_option_setters {
    friend Self;
    report_spec_option_setters() = default;

  public:
    /// The id of the template for the report. 1 to 64 characters. Required.
    Self &template_id(text_view value) { return put("template_id", detail::option_text(value)); }
    /// The beginning of the report's time range: text in the service's notation, such as 2026-11-24 00:00:00,
    /// which is sent unchanged. 1 to 4096 bytes. Required.
    Self &start_time(text_view value) { return put("start_time", detail::option_text(value)); }
    /// The end of the report's time range; text as for "start_time". 1 to 4096 bytes. Required.
    Self &end_time(text_view value) { return put("end_time", detail::option_text(value)); }
    /// The day on which the range begins; text as for "start_time". 1 to 4096 bytes.
    Self &start_date(text_view value) { return put("start_date", detail::option_text(value)); }
    /// The day on which the range ends; text as for "start_time". 1 to 4096 bytes.
    Self &end_date(text_view value) { return put("end_date", detail::option_text(value)); }
    /// The ids of the databases that the report covers, separated by commas; by default all. 1 to 4096 bytes.
    Self &db_ids(text_view value) { return put("db_ids", detail::option_text(value)); }

  private:
    Self &put(const char *key, text_view value)
    {
        Self &self = static_cast<Self &>(*this);
        detail::set_option(dbss_report_spec_set, self, key, value, detail::wording::typed);
        return self;
    }
};
/// The options of the set option_set::mirror, each with a setter. Only the class Self can derive from it.
template <class Self> class mirror_option_setters {
    friend Self;
    mirror_option_setters() = default;

  public:
    /// The id of the only audit instance to mirror; by default all. 32 to 64 characters.
    Self &instance(text_view value) { return put("instance", detail::option_text(value)); }
    /// The first day on which the time range of a report may begin, such as 2026-11-24. Reports without a date
    /// are included.
    Self &since(text_view value) { return put("since", detail::option_text(value)); }
    /// The last day on which the time range of a report may begin.
    Self &until(text_view value) { return put("until", detail::option_text(value)); }
    /// The type of the reports, such as AUDIT_REPORT_DAY. 1 to 256 bytes.
    Self &type(text_view value) { return put("type", detail::option_text(value)); }
    /// The template_type of the reports. 1 to 256 bytes.
    Self &template_(text_view value) { return put("template", detail::option_text(value)); }
    /// A part of the name of the reports, as the service searches. 1 to 256 bytes.
    Self &name(text_view value) { return put("name", detail::option_text(value)); }
    /// The language of the reports; by default the service's choice. Each language of a report is a separate
    /// report in the archive. One of en-us, zh-cn.
    Self &locale(text_view value) { return put("locale", detail::option_text(value)); }
    /// The offset from UTC that determines the day of a report, such as +08:00, for "since" and "until", the
    /// periods without a report and the directories of years. Times without an offset are UTC. 1 to 6 bytes. The
    /// default is +00:00.
    Self &utc_offset(text_view value) { return put("utc_offset", detail::option_text(value)); }
    /// The number of parallel downloads. 1 to 16. The default is 4.
    Self &parallel(std::int64_t value) { return put("parallel", detail::option_text(value)); }
    /// Whether existing files are read and compared with the manifest. Without it only the sizes are compared. A
    /// file that differs is downloaded again, and replaced when the new one is complete. The default is false.
    Self &verify(bool value) { return put("verify", detail::option_text(value)); }
    /// Not text, such as "false": it would be true.
    Self &verify(const void *) = delete;

  private:
    Self &put(const char *key, text_view value)
    {
        Self &self = static_cast<Self &>(*this);
        detail::set_option(dbss_mirror_options_set, self, key, value, detail::wording::typed);
        return self;
    }
};
/// The options of the set option_set::schedule, each with a setter. Only the class Self can derive from it.
template <class Self> class schedule_option_setters {
    friend Self;
    schedule_option_setters() = default;

  public:
    /// Whether the service generates reports on this schedule. One of ON, OFF.
    Self &status(text_view value) { return put("status", detail::option_text(value)); }
    /// How often it generates a report. One of AUDIT_REPORT_DAY, AUDIT_REPORT_WEEK, AUDIT_REPORT_MONTH,
    /// AUDIT_REPORT_YEAR, AUDIT_REPORT_REAL_TIME.
    Self &frequency(text_view value) { return put("frequency", detail::option_text(value)); }
    /// The format of the reports. One of ZIP, PDF.
    Self &format(text_view value) { return put("format", detail::option_text(value)); }
    /// The mode of scheduling: a word of the service, which does not document the words. 1 to 4096 bytes.
    Self &mode(text_view value) { return put("mode", detail::option_text(value)); }
    /// When the schedule begins: text in the service's notation, which is sent unchanged. 1 to 4096 bytes.
    Self &start_time(text_view value) { return put("start_time", detail::option_text(value)); }
    /// Whether the service sends a notification when a report is ready. One of ON, OFF.
    Self &notice(text_view value) { return put("notice", detail::option_text(value)); }
    /// The URN of the topic of SMN (Simple Message Notification) that receives the notifications; empty for none.
    /// 0 to 4096 bytes.
    Self &topic_urn(text_view value) { return put("topic_urn", detail::option_text(value)); }
    /// The ids of the databases that the reports cover, separated by commas; empty for all. 0 to 4096 bytes.
    Self &db_ids(text_view value) { return put("db_ids", detail::option_text(value)); }

  private:
    Self &put(const char *key, text_view value)
    {
        Self &self = static_cast<Self &>(*this);
        detail::set_option(dbss_schedule_changes_set, self, key, value, detail::wording::typed);
        return self;
    }
};

/// The fields of an instance that the service documents. Only the class Self can derive from it.
template <class Self> class instance_fields {
    friend Self;
    instance_fields() = default;

  public:
    /// The id of the instance.
    [[nodiscard]] std::string id() const { return detail::text(native("id")); }
    /// Its name.
    [[nodiscard]] std::optional<std::string> name() const { return detail::optional_text(native("name")); }
    /// Its state. One of ACTIVE, SHUTOFF, BUILD, DELETING, DELETED, ERROR, HAWAIT, FROZEN, UPGRADING; there may
    /// be others.
    [[nodiscard]] std::optional<std::string> status() const { return detail::optional_text(native("status")); }
    /// Its region.
    [[nodiscard]] std::optional<std::string> region() const { return detail::optional_text(native("region")); }
    /// The version of its software.
    [[nodiscard]] std::optional<std::string> version() const { return detail::optional_text(native("version")); }
    /// When it was created.
    [[nodiscard]] std::optional<std::string> created() const { return detail::optional_text(native("created")); }
    /// When it expires.
    [[nodiscard]] std::optional<std::string> expired() const { return detail::optional_text(native("expired")); }
    /// How many days remain until it expires.
    [[nodiscard]] std::optional<std::string> remain_days() const
    { return detail::optional_text(native("remain_days")); }
    /// Its IPv4 address.
    [[nodiscard]] std::optional<std::string> connect_ip() const { return detail::optional_text(native("connect_ip")); }
    /// Its IPv6 address.
    [[nodiscard]] std::optional<std::string> connect_ipv6() const
    { return detail::optional_text(native("connect_ipv6")); }
    /// Its billing mode.
    [[nodiscard]] std::optional<std::string> charge_model() const
    { return detail::optional_text(native("charge_model")); }
    /// The customer's comment.
    [[nodiscard]] std::optional<std::string> comment() const { return detail::optional_text(native("comment")); }
    /// How many days remain until a frozen instance is deleted.
    [[nodiscard]] std::optional<std::string> keep_days() const { return detail::optional_text(native("keep_days")); }
    /// The version that it can be upgraded to.
    [[nodiscard]] std::optional<std::string> new_version() const
    { return detail::optional_text(native("new_version")); }
    /// The id of its network port.
    [[nodiscard]] std::optional<std::string> port_id() const { return detail::optional_text(native("port_id")); }
    /// The id of its resource at the service.
    [[nodiscard]] std::optional<std::string> resource_id() const
    { return detail::optional_text(native("resource_id")); }
    /// The code of its specification.
    [[nodiscard]] std::optional<std::string> resource_spec_code() const
    { return detail::optional_text(native("resource_spec_code")); }
    /// The scenario for which it is used.
    [[nodiscard]] std::optional<std::string> scene() const { return detail::optional_text(native("scene")); }
    /// The id of its security group.
    [[nodiscard]] std::optional<std::string> security_group_id() const
    { return detail::optional_text(native("security_group_id")); }
    /// Its specification.
    [[nodiscard]] std::optional<std::string> specification() const
    { return detail::optional_text(native("specification")); }
    /// The id of its subnet.
    [[nodiscard]] std::optional<std::string> subnet_id() const { return detail::optional_text(native("subnet_id")); }
    /// Its current task.
    [[nodiscard]] std::optional<std::string> task() const { return detail::optional_text(native("task")); }
    /// The id of its VPC.
    [[nodiscard]] std::optional<std::string> vpc_id() const { return detail::optional_text(native("vpc_id")); }
    /// Its availability zone.
    [[nodiscard]] std::optional<std::string> zone() const { return detail::optional_text(native("zone")); }
    /// The number of its settings.
    [[nodiscard]] std::optional<std::int64_t> config_num() const
    { return detail::optional_integer(native("config_num")); }
    /// The number of its virtual CPUs.
    [[nodiscard]] std::optional<std::int64_t> cpu() const { return detail::optional_integer(native("cpu")); }
    /// The maximum number of databases that it audits.
    [[nodiscard]] std::optional<std::int64_t> database_limit() const
    { return detail::optional_integer(native("database_limit")); }
    /// Whether it is in effect.
    [[nodiscard]] std::optional<std::int64_t> effect() const { return detail::optional_integer(native("effect")); }
    /// Its memory in GB.
    [[nodiscard]] std::optional<std::int64_t> ram() const { return detail::optional_integer(native("ram")); }
    /// The features that it supports. As JSON.
    [[nodiscard]] std::optional<std::string> supported_feature() const
    { return detail::optional_text(native("supported_feature")); }
    /// The type of the databases that it is bound to.
    [[nodiscard]] std::optional<std::string> binding_db_type() const
    { return detail::optional_text(native("binding_db_type")); }
    /// The id of its enterprise project.
    [[nodiscard]] std::optional<std::string> enterprise_project_id() const
    { return detail::optional_text(native("enterprise_project_id")); }
    /// Why its last task failed.
    [[nodiscard]] std::optional<std::string> failed_reason() const
    { return detail::optional_text(native("failed_reason")); }
    /// Its time zone.
    [[nodiscard]] std::optional<std::string> timezone() const { return detail::optional_text(native("timezone")); }
    /// The log of its upgrade.
    [[nodiscard]] std::optional<std::string> upgrade_log() const
    { return detail::optional_text(native("upgrade_log")); }

  private:
    const char *native(const char *name) const noexcept { return static_cast<const Self &>(*this).native_field(name); }
};
/// The fields of a report that the service documents. Only the class Self can derive from it.
template <class Self> class report_fields {
    friend Self;
    report_fields() = default;

  public:
    /// The id of the report.
    [[nodiscard]] std::string id() const { return detail::text(native("id")); }
    /// Its name.
    [[nodiscard]] std::optional<std::string> name() const { return detail::optional_text(native("name")); }
    /// The format of its file. One of pdf, zip; there may be others.
    [[nodiscard]] std::optional<std::string> format() const { return detail::optional_text(native("format")); }
    /// Its progress, 0 to 100; at 100 it can be downloaded.
    [[nodiscard]] std::optional<std::int64_t> percentum() const
    { return detail::optional_integer(native("percentum")); }
    /// How often such a report is generated. One of AUDIT_REPORT_DAY, AUDIT_REPORT_WEEK, AUDIT_REPORT_MONTH,
    /// AUDIT_REPORT_YEAR, AUDIT_REPORT_REAL_TIME; there may be others.
    [[nodiscard]] std::optional<std::string> type() const { return detail::optional_text(native("type")); }
    /// The type of the template that it was made from.
    [[nodiscard]] std::optional<std::string> template_type() const
    { return detail::optional_text(native("template_type")); }
    /// The beginning of its time range.
    [[nodiscard]] std::optional<std::string> start_time() const { return detail::optional_text(native("start_time")); }
    /// The end of its time range.
    [[nodiscard]] std::optional<std::string> end_time() const { return detail::optional_text(native("end_time")); }
    /// When it was ready.
    [[nodiscard]] std::optional<std::string> finish_time() const
    { return detail::optional_text(native("finish_time")); }
    /// The ids of the databases that it covers, separated by commas.
    [[nodiscard]] std::optional<std::string> db_ids() const { return detail::optional_text(native("db_ids")); }
    /// The names of the databases that it covers.
    [[nodiscard]] std::optional<std::string> db_names() const { return detail::optional_text(native("db_names")); }
    /// Its location at the service.
    [[nodiscard]] std::optional<std::string> url() const { return detail::optional_text(native("url")); }

  private:
    const char *native(const char *name) const noexcept { return static_cast<const Self &>(*this).native_field(name); }
};
/// The fields of a template that the service documents. Only the class Self can derive from it.
template <class Self> class template_fields {
    friend Self;
    template_fields() = default;

  public:
    /// The id of the template.
    [[nodiscard]] std::string id() const { return detail::text(native("id")); }
    /// Its name.
    [[nodiscard]] std::optional<std::string> name() const { return detail::optional_text(native("name")); }
    /// The content of its reports. One of COMPREHENSIVE, COMPLIANCE, SOX, PCI, DB_ANALYSIS, CLIENT_IP_ANALYSIS,
    /// SQL_DCL_COMMAND, SQL_DDL_COMMAND, SQL_DML_COMMAND; there may be others.
    [[nodiscard]] std::optional<std::string> type() const { return detail::optional_text(native("type")); }
    /// The group of its type. One of COMPREHENSIVE, COMPLIANCE, DB_SPECIAL, CLIENT_SPECIAL, SQL_SPECIAL; there
    /// may be others.
    [[nodiscard]] std::optional<std::string> group() const { return detail::optional_text(native("group")); }
    /// Whether its schedule is on. One of ON, OFF; there may be others.
    [[nodiscard]] std::optional<std::string> status() const { return detail::optional_text(native("status")); }
    /// Its description.
    [[nodiscard]] std::optional<std::string> desc() const { return detail::optional_text(native("desc")); }
    /// How often its schedule generates a report.
    [[nodiscard]] std::optional<std::string> frequency() const { return detail::optional_text(native("frequency")); }
    /// The ids of the databases that it covers, separated by commas.
    [[nodiscard]] std::optional<std::string> db_ids() const { return detail::optional_text(native("db_ids")); }
    /// The names of the databases that it covers.
    [[nodiscard]] std::optional<std::string> db_names() const { return detail::optional_text(native("db_names")); }

  private:
    const char *native(const char *name) const noexcept { return static_cast<const Self &>(*this).native_field(name); }
};
/// The fields of a database that the service documents. Only the class Self can derive from it.
template <class Self> class database_fields {
    friend Self;
    database_fields() = default;

  public:
    /// The id of the database.
    [[nodiscard]] std::string id() const { return detail::text(native("id")); }
    /// Its name.
    [[nodiscard]] std::optional<std::string> name() const { return detail::optional_text(native("name")); }
    /// The database system. One of MYSQL, ORACLE, POSTGRESQL, SQLSERVER, DAMENG, TAURUS, DWS, KINGBASE,
    /// GAUSSDBOPENGAUSS, GREENPLUM, HIGHGO, SHENTONG, GBASE8A, GBASE8S, GBASEXDM, MONGODB, DDS; there may be
    /// others.
    [[nodiscard]] std::optional<std::string> type() const { return detail::optional_text(native("type")); }
    /// The version of the database system.
    [[nodiscard]] std::optional<std::string> version() const { return detail::optional_text(native("version")); }
    /// Its IP address.
    [[nodiscard]] std::optional<std::string> ip() const { return detail::optional_text(native("ip")); }
    /// Its port.
    [[nodiscard]] std::optional<std::string> port() const { return detail::optional_text(native("port")); }
    /// Whether it is audited. One of ON, OFF; there may be others.
    [[nodiscard]] std::optional<std::string> status() const { return detail::optional_text(native("status")); }
    /// The state of its audit. One of ACTIVE, SHUTOFF, ERROR; there may be others.
    [[nodiscard]] std::optional<std::string> audit_status() const
    { return detail::optional_text(native("audit_status")); }
    /// The name of its database instance.
    [[nodiscard]] std::optional<std::string> instance_name() const
    { return detail::optional_text(native("instance_name")); }
    /// Whether it is a managed database or the customer's own. One of RDS, ECS; there may be others.
    [[nodiscard]] std::optional<std::string> db_classification() const
    { return detail::optional_text(native("db_classification")); }
    /// Its character set. One of GBK, UTF8; there may be others.
    [[nodiscard]] std::optional<std::string> charset() const { return detail::optional_text(native("charset")); }
    /// The operating system of its host.
    [[nodiscard]] std::optional<std::string> os() const { return detail::optional_text(native("os")); }
    /// The ids of its audit agents. As JSON.
    [[nodiscard]] std::optional<std::string> agent_url() const { return detail::optional_text(native("agent_url")); }
    /// The id of the managed database.
    [[nodiscard]] std::optional<std::string> rds_id() const { return detail::optional_text(native("rds_id")); }
    /// Information on the RDS database.
    [[nodiscard]] std::optional<std::string> rds_obj_info() const
    { return detail::optional_text(native("rds_obj_info")); }
    /// Information on the DWS database.
    [[nodiscard]] std::optional<std::string> dws_obj_info() const
    { return detail::optional_text(native("dws_obj_info")); }
    /// Deprecated by the service.
    [[nodiscard]] std::optional<std::string> clouddb_obj_info() const
    { return detail::optional_text(native("clouddb_obj_info")); }
    /// Whether its audit is on, but RDS does not upload its logs.
    [[nodiscard]] std::optional<bool> rds_audit_switch_mismatch() const
    { return detail::optional_boolean(native("rds_audit_switch_mismatch")); }

  private:
    const char *native(const char *name) const noexcept { return static_cast<const Self &>(*this).native_field(name); }
};
/// The fields of a schedule that the service documents. Only the class Self can derive from it.
template <class Self> class schedule_fields {
    friend Self;
    schedule_fields() = default;

  public:
    /// The id of the template.
    [[nodiscard]] std::string id() const { return detail::text(native("id")); }
    /// Whether the service generates reports on this schedule. One of ON, OFF; there may be others.
    [[nodiscard]] std::optional<std::string> status() const { return detail::optional_text(native("status")); }
    /// How often it generates a report. One of AUDIT_REPORT_DAY, AUDIT_REPORT_WEEK, AUDIT_REPORT_MONTH,
    /// AUDIT_REPORT_YEAR, AUDIT_REPORT_REAL_TIME; there may be others.
    [[nodiscard]] std::optional<std::string> frequency() const { return detail::optional_text(native("frequency")); }
    /// The format of the reports. One of ZIP, PDF; there may be others.
    [[nodiscard]] std::optional<std::string> format() const { return detail::optional_text(native("format")); }
    /// The mode of scheduling.
    [[nodiscard]] std::optional<std::string> mode() const { return detail::optional_text(native("mode")); }
    /// When the schedule begins.
    [[nodiscard]] std::optional<std::string> start_time() const { return detail::optional_text(native("start_time")); }
    /// Whether the service sends a notification when a report is ready. One of ON, OFF; there may be others.
    [[nodiscard]] std::optional<std::string> notice() const { return detail::optional_text(native("notice")); }
    /// The URN of the topic of SMN (Simple Message Notification) that receives the notifications.
    [[nodiscard]] std::optional<std::string> topic_urn() const { return detail::optional_text(native("topic_urn")); }
    /// The ids of the databases that the reports cover, separated by commas.
    [[nodiscard]] std::optional<std::string> db_ids() const { return detail::optional_text(native("db_ids")); }
    /// Whether notifications by SMN are supported.
    [[nodiscard]] std::optional<bool> smn_effective() const
    { return detail::optional_boolean(native("smn_effective")); }

  private:
    const char *native(const char *name) const noexcept { return static_cast<const Self &>(*this).native_field(name); }
};

} // namespace v0
} // namespace dbss

#endif // DBSS_RAW_HPP
