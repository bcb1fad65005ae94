// libdbss for C++17 and newer: downloads the audit reports of Huawei Cloud's Database
// Security Service (DBSS). A header over dbss.h; link with -ldbss.
//
// A complete program: it saves an audit report, or prints an error message.
//
//     #include <dbss.hpp>
//     #include <iostream>
//
//     int main(int argc, char **argv)
//     try {
//         if (argc != 4)
//             return 2;
//         dbss::client client(dbss::config().region(argv[1]).credentials("default"));
//         std::cout << client.download_report_to_directory({argv[2], argv[3]}, ".") << '\n';
//     } catch (const std::exception &error) {
//         std::cerr << error.what() << '\n';
//         return 1;
//     }
//
// These rules apply to everything here. dbss.h has those of the functions below.
//
// - Errors. A call that fails throws dbss::error, whose getters have the details. There is
//   a class for each status: catch not_found_error for one status, service_error for a
//   group, error for all.
// - Callbacks may throw. The exception ends the call, which throws it on its own thread. (A
//   call of a function of dbss.h itself ends with DBSS_ERR_CANCELLED instead.) It must not be
//   one that ends the thread, as pthread_exit() makes. A plugin that set a callback stays loaded
//   for as long as the client or the operation.
// - Strings are UTF-8, and are copied. A string argument that contains the character U+0000
//   fails with invalid_value_error. Copies that are passed to C are wiped.
// - Objects. Each owns what it needs: none needs another one that it was made from, unless
//   its comment says so. An object that was moved from may only be assigned to or destroyed.
// - Threads. All threads may share a client, an error, an item, a result, and the options that
//   no thread changes. An operation serves one call at a time, and any thread may cancel and
//   watch it. One thread at a time may use a list or read a stream.
// - Blocking. The methods of client, except its lists, wait for the network, for as long as
//   its timeouts allow. So do the steps through a list, and read() of a stream.
// - Standards. Programs may mix C++17 and C++20: no type depends on the standard.

#ifndef DBSS_HPP
#define DBSS_HPP

#if __cplusplus < 201703L
#error "dbss.hpp needs C++17 or newer, such as -std=c++17"
#endif

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <istream>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>
#if __cplusplus >= 202002L
#include <version>
#endif
#ifdef __cpp_lib_jthread
#include <stop_token>
#endif

#include "dbss.h"

// The conversions between C and C++.

/// All of libdbss for C++; dbss.hpp begins with the rules for it.
namespace dbss {
inline namespace v0 {

/// Text that is lent to a call: of std::string, std::string_view, or C. A null pointer, such as that of
/// std::getenv(), is null_argument_error where text is required, and none elsewhere.
class text_view : public std::string_view {
  public:
    /// A string of C, or a null pointer.
    constexpr text_view(const char *value) noexcept
        : std::string_view(value == nullptr ? "" : value), is_null_(value == nullptr)
    {}
    /// Any other text.
    template <class Text, std::enable_if_t<std::is_convertible_v<const Text &, std::string_view>
                                               && !std::is_convertible_v<const Text &, const char *>,
                                           int> = 0>
    constexpr text_view(const Text &value) noexcept : std::string_view(value)
    {}

    /// Whether it is a null pointer.
    [[nodiscard]] constexpr bool is_null() const noexcept { return is_null_; }

  private:
    bool is_null_ = false;
};

namespace detail {

/// A string of C; NULL is the empty one.
inline std::string text(const char *value) { return value == nullptr ? std::string() : std::string(value); }

/// A string of C that may be NULL.
inline std::optional<std::string> optional_text(const char *value)
{ return value == nullptr ? std::nullopt : std::optional<std::string>(value); }

/// A path of C that may be NULL.
inline std::optional<std::filesystem::path> optional_path(const char *value)
{ return value == nullptr ? std::nullopt : std::optional<std::filesystem::path>(value); }

/// A value of C, one of which means none.
template <class Result, class Value> std::optional<Result> optional(Value value, Value none) noexcept
{ return value == none ? std::nullopt : std::optional<Result>(static_cast<Result>(value)); }

/// Milliseconds since 1970, or -1 for none.
inline std::optional<std::chrono::system_clock::time_point> optional_time(std::int64_t value) noexcept
{
    using clock = std::chrono::system_clock;
    constexpr auto last = std::chrono::duration_cast<std::chrono::milliseconds>(clock::duration::max());
    if (value == -1) return std::nullopt;
    return clock::time_point(std::min(std::chrono::milliseconds(value), last));
}

/// The integer that a text is, if it is one.
inline std::optional<std::int64_t> optional_integer(const char *value) noexcept
{
    const std::string_view digits = value == nullptr ? std::string_view() : std::string_view(value);
    std::int64_t number = 0;
    const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    return failed != std::errc() || end != digits.data() + digits.size() ? std::nullopt : std::optional(number);
}

/// The boolean that a text is, if it is one.
inline std::optional<bool> optional_boolean(const char *value) noexcept
{
    const std::string_view word = value == nullptr ? std::string_view() : std::string_view(value);
    return word == "true" ? std::optional(true) : word == "false" ? std::optional(false) : std::nullopt;
}

// The value of an option, as the text that C takes.
inline text_view option_text(text_view value) noexcept { return value; }
inline text_view option_text(bool value) noexcept { return value ? "true" : "false"; }
inline std::string option_text(std::int64_t value) { return std::to_string(value); }
inline std::string option_text(std::chrono::milliseconds value)
{
    if (value == std::chrono::milliseconds::max()) return "-1";
    // In C that is no limit, and here a wrong value: a time that has just passed.
    return value.count() == -1 ? "-01" : std::to_string(value.count());
}
inline std::string option_text(const std::filesystem::path &value) { return value.string(); }
inline std::string option_text(std::filesystem::perms value)
{
    char digits[16];
    const auto end = std::to_chars(digits, digits + sizeof digits, static_cast<unsigned>(value), 8).ptr;
    return {digits, end};
}

/// The results of a function for the indexes below a count.
template <class Function> auto collect(std::size_t count, Function function)
{
    std::vector<std::invoke_result_t<Function, std::size_t>> found;
    found.reserve(count);
    for (std::size_t i = 0; i < count; i++)
        found.push_back(function(i));
    return found;
}

/// Whose names and values an error has.
enum class wording {
    typed,       ///< Those of this header.
    text,        ///< Those of C: for an option that was set by its key, as text.
    of_template, ///< Those of this header, where an id is that of a template.
};

/// Sets an option, and throws what is wrong with it.
template <class Set, class Options>
void set_option(Set set, const Options &options, text_view key, text_view value, wording how);

} // namespace detail
} // namespace v0
} // namespace dbss

#include "dbss_raw.hpp"

namespace dbss {
inline namespace v0 {

/// No limit: the value of a timeout, for the options that allow it. No calculation has this result.
inline constexpr std::chrono::milliseconds no_limit = std::chrono::milliseconds::max();

class mirror_result;

namespace detail {

/// The name here of a parameter or an option of dbss.h. Milliseconds are a type, and not in names.
inline std::optional<std::string> own_name(const char *name, wording how)
{
    constexpr std::pair<std::string_view, std::string_view> names[] = {
        {"buf", "data"}, {"cap", "size"}, {"ctx", "client"}, {"flags", "existing"}, {"template", "template_"}};
    auto own = optional_text(name);
    if (!own || how == wording::text) return own;
    if (how == wording::of_template && own == "template_id") return "id";
    for (const auto &[given, here] : names)
        if (own == given) return std::string(here);
    if (own->size() > 3 && own->compare(own->size() - 3, 3, "_ms") == 0) own->resize(own->size() - 3);
    return own;
}

/// The message of an error, with the names and the values of this header.
inline std::string own_words(const dbss_error *error, wording how)
{
    std::string words;
    const bool is_unknown_key = text(dbss_error_parameter(error)) == "key";
    // What a value must be between; the value that was given comes after it.
    auto bounds = part_kind::text;
    for (std::size_t i = 0; i < dbss_error_part_count(error); i++) {
        auto kind = static_cast<part_kind>(dbss_error_part_kind(error, i));
        std::string part = text(dbss_error_part_text(error, i));
        if (how == wording::text && kind != part_kind::name && kind != part_kind::null && kind != part_kind::object)
            kind = part_kind::text;
        if (kind == part_kind::value && part.size() > 2 && part.front() == '"') {
            // An option is text in C, also if it is a number.
            const std::string plain = part.substr(1, part.size() - 2);
            if (optional_integer(plain.c_str())) {
                part = plain == "-01" ? "-1 ms" : plain;
                kind = bounds;
            }
        }
        switch (kind) {
        case part_kind::name:
            // A key that was perhaps meant is one for set().
            if (is_unknown_key && part != "key")
                part.insert(0, 1, '"').push_back('"');
            else
                part = own_name(part.c_str(), how).value_or("");
            break;
        case part_kind::duration:
            bounds = kind;
            if (part == "-1")
                part = "dbss::no_limit";
            else if (part.find(' ') == std::string::npos)
                part += " ms";
            break;
        case part_kind::mode:
            bounds = kind;
            part.insert(0, 1, '0');
            break;
        // Their types say these.
        case part_kind::notation: part.clear(); break;
        case part_kind::null: part = "null"; break;
        case part_kind::no_limit: part = "dbss::no_limit"; break;
        case part_kind::unknown: part = "std::nullopt"; break;
        case part_kind::replace: part = "pass existing_file::replace"; break;
        case part_kind::object: part = part == "context" ? "client" : part == "cursor" ? "list" : part; break;
        default: break;
        }
        words += part;
    }
    return words;
}

} // namespace detail

// ---------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------

/// An entry of the "details" in the service's response.
struct error_detail {
    std::optional<std::string> code;    ///< Its error code.
    std::optional<std::string> message; ///< Its message.
};

/// Why a call failed. what() is one line for people: what was wrong and what to do, without
/// secrets. The getters are for programs. It never changes, and copying it never throws.
class DBSS_API error : public std::runtime_error, public error_getters<error> {
  public:
    /// An error of the C interface.
    explicit error(unique_handle<dbss_error> handle, detail::wording how = detail::wording::typed)
        : std::runtime_error(detail::own_words(handle.get(), how)),
          fields_(std::make_shared<fields>(static_cast<status_code>(dbss_error_status(handle.get())),
                                           detail::own_name(dbss_error_parameter(handle.get()), how))),
          handle_(std::move(handle))
    {}

    /// An error without further details. The parameter is the name of the one at fault.
    error(status_code status, const std::string &message, std::optional<std::string> parameter = std::nullopt)
        : std::runtime_error(message), fields_(std::make_shared<fields>(status, std::move(parameter)))
    {}

    /// The error of the function of dbss.h that has just returned this status on this thread.
    static error last(dbss_status status, detail::wording how = detail::wording::typed)
    {
        unique_handle<dbss_error> handle(dbss_error_take());
        if (handle != nullptr && dbss_error_status(handle.get()) == status) return error(std::move(handle), how);
        // There was not enough memory for it.
        return {static_cast<status_code>(status), dbss_status_message(status)};
    }

    /// The status of the call. Newer versions of the library may return values that are not in
    /// status_code; their exception is that of the group.
    [[nodiscard]] status_code status() const noexcept { return fields_->status; }

    /// The same as what().
    [[nodiscard]] std::string message() const { return what(); }

    /// The name of the status in dbss.h, such as "DBSS_ERR_NOT_FOUND".
    [[nodiscard]] std::string status_name() const { return dbss_status_name(static_cast<dbss_status>(status())); }

    /// The parameter or option at fault, by its name here, such as "total_timeout". None if there
    /// is none.
    [[nodiscard]] std::optional<std::string> parameter() const { return fields_->parameter; }

    /// The "details" of the service's response.
    [[nodiscard]] std::vector<error_detail> details() const
    {
        return detail::collect(dbss_error_detail_count(native_handle()), [this](std::size_t i) {
            return error_detail{detail::optional_text(dbss_error_detail_code(native_handle(), i)),
                                detail::optional_text(dbss_error_detail_message(native_handle(), i))};
        });
    }

    /// The ids of the reports that may be the created one, for ambiguous_error; one if generate_report()
    /// failed after it found the report.
    [[nodiscard]] std::vector<std::string> candidates() const
    {
        return detail::collect(dbss_error_candidate_count(native_handle()),
                               [this](std::size_t i) { return std::string(dbss_error_candidate(native_handle(), i)); });
    }

    /// What the operating system returned, as for std::system_error; false if it returned nothing.
    [[nodiscard]] std::error_code os_error() const noexcept
    { return {dbss_error_os_code(native_handle()), std::generic_category()}; }

    /// The partial result, if the call was a mirror that had begun.
    [[nodiscard]] std::optional<mirror_result> result() const;

    /// Throws the exception of the status.
    [[noreturn]] void raise() const { detail::throw_error<error_of>(status(), *this); }

    /// The error of dbss.h; null if there is none.
    [[nodiscard]] const dbss_error *native_handle() const noexcept { return handle_.get(); }

  private:
    friend class client;

    struct fields {
        fields(status_code of, std::optional<std::string> name) : status(of), parameter(std::move(name)) {}
        status_code status;
        std::optional<std::string> parameter;
    };

    std::shared_ptr<const fields> fields_;
    std::shared_ptr<const dbss_error> handle_;
    std::shared_ptr<const dbss_mirror_result> result_;
};

namespace detail {

constexpr status_code group_of(status_code code) noexcept
{ return static_cast<status_code>(static_cast<std::int32_t>(code) / 100 * 100); }

template <status_code Code> struct base_of {
    using type = std::conditional_t<group_of(Code) == Code, error, error_of<group_of(Code)>>;
};

} // namespace detail

/// The exception of a status. Its base is the exception of the group, whose base is error.
template <status_code Code> class DBSS_API error_of : public detail::base_of<Code>::type {
  public:
    /// An exception with the details of an error.
    explicit error_of(const error &details) : detail::base_of<Code>::type(details) {}
};

/// Throws the exception of a status that a function of dbss.h has just returned on this thread.
inline void check(dbss_status status, detail::wording how = detail::wording::typed)
{
    if (status != DBSS_OK) error::last(status, how).raise();
}

namespace detail {

/// What the callbacks of one call share: the exception that one of them threw.
class DBSS_API call_frame {
  public:
    /// Where a thread keeps the innermost of its calls. A plugin and its program have a variable each:
    /// what a callback belongs to, a client or an operation, says which one its calls use.
    using place = call_frame *&(*)();

    /// The place of the module that calls it.
    static call_frame *&here() noexcept
    {
        static thread_local call_frame *frame = nullptr;
        return frame;
    }

    /// A call with the callbacks of a client and of an operation, or null for none.
    call_frame(place client, place operation) noexcept : client_(client), operation_(operation)
    {
        if (client_ != nullptr) outer_of_client_ = std::exchange(client_(), this);
        if (operation_ != nullptr) outer_of_operation_ = std::exchange(operation_(), this);
    }
    ~call_frame()
    {
        // In reverse, as both may be the same place.
        if (operation_ != nullptr) operation_() = outer_of_operation_;
        if (client_ != nullptr) client_() = outer_of_client_;
    }
    call_frame(const call_frame &) = delete;
    call_frame &operator=(const call_frame &) = delete;

    /// Throws what a callback threw.
    void rethrow() const
    {
        if (thrown_ != nullptr) std::rethrow_exception(thrown_);
    }

    /// Runs the code of a callback, which returns whether the call continues. Returns 0 for
    /// that, and 1 to end the call, also after an exception. Outside of a call that is lost.
    template <class Code> static std::int32_t run(call_frame *frame, Code code) noexcept
    {
        if (frame != nullptr && frame->thrown_ != nullptr) return 1;
        try {
            return code() ? 0 : 1;
        } catch (...) {
            if (frame != nullptr) frame->thrown_ = std::current_exception();
            return 1;
        }
    }

  private:
    place client_, operation_;
    call_frame *outer_of_client_ = nullptr, *outer_of_operation_ = nullptr;
    std::exception_ptr thrown_;
};

/// Calls a function of dbss.h with the frame of the call, and returns its status. Throws what a
/// callback threw.
template <class Call> dbss_status run(call_frame::place client, call_frame::place operation, Call call)
{
    call_frame frame(client, operation);
    const dbss_status status = call(frame);
    frame.rethrow();
    return status;
}

/// Calls a function of the user, which returns whether to continue, or nothing.
template <class Function, class... Arguments> bool continues(Function &function, Arguments &&...arguments)
{
    if constexpr (std::is_void_v<std::invoke_result_t<Function &, Arguments...>>) {
        function(std::forward<Arguments>(arguments)...);
        return true;
    } else {
        return static_cast<bool>(function(std::forward<Arguments>(arguments)...));
    }
}

/// A function of the user that C owns, and frees by destroy().
template <class Function> struct callback {
    Function function;
    call_frame::place calls;

    static void destroy(void *user_data) noexcept { delete static_cast<callback *>(user_data); }

    /// Runs code with the function, as call_frame does.
    template <class Code> static std::int32_t run(void *user_data, Code code) noexcept
    {
        auto *const self = static_cast<callback *>(user_data);
        return call_frame::run(self->calls(), [&] { return code(self->function); });
    }
};

/// A copy of a string for C, which ends with a NUL and is wiped.
class c_string {
  public:
    c_string(const char *parameter, std::optional<text_view> value)
        : value_(value.value_or("")), missing_(!value.has_value() || value->is_null())
    {
        if (value_.find('\0') != std::string::npos) {
            wipe();
            error(status_code::invalid_value, std::string(parameter) + ": must not contain the character U+0000",
                  parameter)
                .raise();
        }
    }
    ~c_string() { wipe(); }
    c_string(const c_string &) = delete;
    c_string &operator=(const c_string &) = delete;

    operator const char *() const noexcept { return missing_ ? nullptr : value_.c_str(); }

  private:
    void wipe() noexcept
    {
        // A compiler would leave out writes that nobody reads.
        volatile char *bytes = value_.data();
        for (std::size_t i = 0; i < value_.size(); i++)
            bytes[i] = '\0';
    }

    std::string value_;
    bool missing_;
};

/// A handle that a function of dbss.h stores.
template <class Handle> class out {
  public:
    out() noexcept = default;
    ~out() { deleter()(handle_); }
    out(const out &) = delete;
    out &operator=(const out &) = delete;

    operator Handle **() noexcept { return &handle_; }
    [[nodiscard]] Handle *get() const noexcept { return handle_; }
    unique_handle<Handle> take() noexcept { return unique_handle<Handle>(std::exchange(handle_, nullptr)); }

  private:
    Handle *handle_ = nullptr;
};

template <class Set, class Options>
void set_option(Set set, const Options &options, text_view key, text_view value, wording how)
{
    const c_string name("key", key);
    const std::string own = own_name(name, how).value_or("key");
    if (key.is_null() || value.is_null()) error(status_code::null_argument, own + ": must not be null", own).raise();
    check(set(options.native_handle(), name, c_string(own.c_str(), value)), how);
}

/// Makes a handle.
template <class Handle> unique_handle<Handle> make(dbss_status (*create)(Handle **))
{
    out<Handle> made;
    check(create(made));
    return made.take();
}

/// The base of options that are set by key and value.
template <class Self, class Handle, dbss_status (*Create)(Handle **),
          dbss_status (*Set)(Handle *, const char *, const char *)>
class settings {
  public:
    /// Sets any option by its key. options() lists the keys; dbss.h explains them and the values.
    ///
    /// Throws unknown_key_error, or argument_error for a wrong value; then nothing has changed.
    Self &set(text_view key, text_view value)
    {
        set_option(Set, *this, key, value, wording::text);
        return static_cast<Self &>(*this);
    }

    /// The object of dbss.h.
    [[nodiscard]] Handle *native_handle() const noexcept { return handle_.get(); }

  private:
    friend Self;
    settings() : handle_(make<Handle>(Create)) {}

    unique_handle<Handle> handle_;
};

} // namespace detail

// ---------------------------------------------------------------------------------------
// Version, features, options
// ---------------------------------------------------------------------------------------

/// The version of the loaded library, such as "0.1.0". DBSS_VERSION is that of the header.
[[nodiscard]] inline std::string version() { return dbss_version(); }

/// The version as a number, for comparison with DBSS_VERSION_NUMBER.
[[nodiscard]] inline std::uint32_t version_number() noexcept { return dbss_version_number(); }

/// Whether the loaded library has a feature, one of features().
[[nodiscard]] inline bool has_feature(text_view name) { return dbss_has_feature(detail::c_string("name", name)) != 0; }

/// A feature of the library.
struct feature {
    std::string name; ///< Its name, for has_feature().
    std::string help; ///< Its description.
};

/// The features of the loaded library.
[[nodiscard]] inline std::vector<feature> features()
{
    return detail::collect(dbss_feature_count(),
                           [](std::size_t i) { return feature{dbss_feature_name(i), dbss_feature_help(i)}; });
}

/// The name of a status in dbss.h, such as "DBSS_ERR_NOT_FOUND".
[[nodiscard]] inline std::string to_string(status_code code)
{ return dbss_status_name(static_cast<dbss_status>(code)); }

/// The general meaning of a status; what() of an error has the particular one.
[[nodiscard]] inline std::string message(status_code code)
{ return dbss_status_message(static_cast<dbss_status>(code)); }

/// The statuses of the loaded library, including status_code::ok.
[[nodiscard]] inline std::vector<status_code> statuses()
{
    return detail::collect(dbss_status_count(),
                           [](std::size_t i) { return static_cast<status_code>(dbss_status_value(i)); });
}

/// The description of an option.
struct option_info {
    std::string key;                          ///< Its key, for set().
    std::string type;                         ///< Its type, as dbss_option_type() explains.
    std::optional<std::string> default_value; ///< Its default; none if it is unset by default.
    std::string help;                         ///< Its description.
    std::optional<std::string> choices;       ///< The values of a choice, separated by commas.
    std::optional<std::int64_t> minimum;      ///< The minimum of a number, or of a text's length in bytes.
    std::optional<std::int64_t> maximum;      ///< The maximum.
    bool allows_none;                         ///< Whether it also accepts "-1" for no limit.
};

/// The options of a set, as the loaded library has them.
[[nodiscard]] inline std::vector<option_info> options(option_set set)
{
    const auto of = static_cast<std::int32_t>(set);
    const auto limit = [](std::int64_t value) { return detail::optional<std::int64_t>(value, std::int64_t{-1}); };
    return detail::collect(dbss_option_count(of), [=](std::size_t i) {
        return option_info{dbss_option_key(of, i),
                           dbss_option_type(of, i),
                           detail::optional_text(dbss_option_default(of, i)),
                           dbss_option_help(of, i),
                           detail::optional_text(dbss_option_choices(of, i)),
                           limit(dbss_option_minimum(of, i)),
                           limit(dbss_option_maximum(of, i)),
                           dbss_option_allows_none(of, i) != 0};
    });
}

// ---------------------------------------------------------------------------------------
// Configuration
// ---------------------------------------------------------------------------------------

/// A log record. That of a log function is valid until the function returns; a copy stays, and may
/// be passed to another thread. It contains no secrets.
class log_record : public log_record_getters<log_record> {
  public:
    /// A copy.
    log_record(const log_record &other) : own_(dbss_log_record_copy(other.record_)), record_(own_.get())
    {
        if (record_ == nullptr) throw std::bad_alloc();
    }
    /// Becomes a copy.
    log_record &operator=(const log_record &other)
    {
        log_record copy(other);
        own_ = std::move(copy.own_);
        record_ = own_.get();
        return *this;
    }
    ~log_record() = default;

    /// The message of the record: one line for people, without a line ending. It has the words of
    /// error(). The wording may change between versions.
    [[nodiscard]] std::string message() const
    {
        std::string words = detail::text(dbss_log_record_message(native_handle()));
        const unique_handle<dbss_error> failure(dbss_log_record_error(native_handle()));
        const std::string of_c = detail::text(dbss_error_message(failure.get()));
        if (const auto at = words.find(of_c); !of_c.empty() && at != std::string::npos)
            words.replace(at, of_c.size(), detail::own_words(failure.get(), detail::wording::typed));
        return words;
    }

    /// The failure that the record is about. None if it is not about one.
    [[nodiscard]] std::optional<dbss::error> error() const
    {
        unique_handle<dbss_error> handle(dbss_log_record_error(native_handle()));
        return handle == nullptr ? std::nullopt : std::optional<dbss::error>(std::move(handle));
    }

    /// The record of dbss.h.
    [[nodiscard]] const dbss_log_record *native_handle() const noexcept { return record_; }

  private:
    friend class config;

    /// A record that the library lends.
    explicit log_record(const dbss_log_record *borrowed) noexcept : record_(borrowed) {}

    unique_handle<dbss_log_record> own_;
    const dbss_log_record *record_;
};

/// A token, and when it expires.
struct token {
    std::string value;                                                           ///< The token.
    std::optional<std::chrono::system_clock::time_point> expires = std::nullopt; ///< None if it is not known.
};

/// A request for a token or a passcode. Complete it once, now or later, on any thread. Without that
/// it fails when it is destroyed.
class token_request : public token_request_getters<token_request> {
  public:
    /// Completes the request. "expires" is when the token expires, none if it is not known.
    ///
    /// Throws invalid_token_error, also if it has expired; argument_error (it is completed).
    void set(text_view token, std::optional<std::chrono::system_clock::time_point> expires = std::nullopt) const
    {
        std::int64_t at = -1;
        // What expired before 1970 has expired, and is not -1.
        if (expires)
            at = std::max<std::int64_t>(
                0, std::chrono::duration_cast<std::chrono::milliseconds>(expires->time_since_epoch()).count());
        check(dbss_token_request_set(handle_.get(), detail::c_string("token", token), at));
    }

    /// Completes the request without a token: the waiting calls throw no_token_error, with at most
    /// 512 bytes of the message, which must not contain secrets.
    ///
    /// Throws argument_error (it is completed).
    void fail(text_view message) const
    { check(dbss_token_request_fail(handle_.get(), detail::c_string("message", message))); }

    /// The request of dbss.h.
    [[nodiscard]] const dbss_token_request *native_handle() const noexcept { return handle_.get(); }

  private:
    friend class config;

    explicit token_request(dbss_token_request *handle) noexcept : handle_(handle) {}

    unique_handle<dbss_token_request> handle_;
};

/// The configuration of a client. Each setter checks its value immediately, and throws argument_error
/// if it is wrong; then nothing has changed. Set one kind of credentials; the last one counts. A
/// variable is set in statements of its own: "dbss::config settings; settings.region(...);".
class config : public config_option_setters<config>,
               public detail::settings<config, dbss_config, dbss_config_new, dbss_config_set> {
  public:
    using config_option_setters::log_level;

    /// The same with a value of the enumeration.
    config &log_level(dbss::log_level level)
    {
        // In the order of the enumeration.
        const char *const names[] = {"error", "warning", "info", "debug"};
        const auto index = static_cast<std::size_t>(level) - 1;
        const std::string number = std::to_string(static_cast<std::int32_t>(level));
        return log_level(text_view(index < std::size(names) ? names[index] : number.c_str()));
    }

    /// Sets a function that receives the log records: void(const log_record &). It runs on the
    /// threads of the calls, several at once, and may call functions of this library.
    template <class Function> config &on_log(Function function)
    {
        using callback = detail::callback<Function>;
        const dbss_log_fn call = [](void *user_data, const dbss_log_record *record) {
            callback::run(user_data, [&](Function &log) {
                log(log_record(record));
                return true;
            });
        };
        check(
            dbss_config_set_log(native_handle(), call, new callback{std::move(function), calls()}, callback::destroy));
        return *this;
    }

    /// Sets a function that provides tokens, instead of other credentials. It is called when the first
    /// call needs one, before it expires, and after the service rejected it. It is one of
    ///
    /// - std::string(bool refused) or token(bool refused), which returns a token. "refused" is whether
    ///   the service rejected the last one;
    /// - void(token_request), which completes the request, at once or later, on any thread.
    ///
    /// All calls wait for one function. The exception that it throws leaves the call on whose thread it
    /// runs; the others throw no_token_error. It must not make calls that need a token.
    template <class Function> config &token_provider(Function function)
    { return provider(dbss_config_set_token_provider, std::move(function)); }

    /// Sets a function that provides the passcodes of an MFA device, for a login with iam_user_id(). It
    /// is called before each login, in the same way as a token provider; "refused" is whether IAM
    /// refused the last login. A passcode is sent once. After a rejected login the next call logs in again
    /// with a new passcode, so a wrong password is sent again.
    template <class Function> config &passcode_provider(Function function)
    { return provider(dbss_config_set_passcode_provider, std::move(function)); }

  private:
    friend class client;

    template <class Install, class Function> config &provider(Install install, Function function)
    {
        using callback = detail::callback<Function>;
        const dbss_token_provider_fn call = [](void *user_data, dbss_token_request *handle) {
            token_request request(handle);
            callback::run(user_data, [&](Function &provide) {
                if constexpr (std::is_invocable_v<Function &, token_request>) {
                    static_assert(std::is_void_v<std::invoke_result_t<Function &, token_request>>,
                                  "a provider that returns a token takes bool; one that takes a token_request "
                                  "completes it, and returns nothing");
                    provide(std::move(request));
                } else {
                    complete(provide, request);
                }
                return true;
            });
        };
        check(install(native_handle(), call, new callback{std::move(function), calls()}, callback::destroy));
        return *this;
    }

    /// Completes a request with what a function returns. The calls learn why there is no token.
    template <class Function> static void complete(Function &function, const token_request &request)
    {
        const auto fail = [&](const char *why) {
            [[maybe_unused]] const auto status = dbss_token_request_fail(request.handle_.get(), why);
        };
        try {
            const auto made = function(request.refused());
            try {
                if constexpr (std::is_convertible_v<decltype(made), std::string_view>)
                    request.set(made);
                else
                    request.set(made.value, made.expires);
            } catch (const error &refused) {
                fail(refused.what());
            }
        } catch (...) {
            fail("the provider threw an exception");
            throw;
        }
    }

    /// Where its callbacks find their calls.
    detail::call_frame::place calls() noexcept
    { return calls_ = calls_ == nullptr ? detail::call_frame::here : calls_; }

    detail::call_frame::place calls_ = nullptr;
};

// ---------------------------------------------------------------------------------------
// Operations
// ---------------------------------------------------------------------------------------

/// The progress of a call, valid until the progress function returns.
class progress : public operation_getters<progress> {
  public:
    /// The operation of dbss.h.
    [[nodiscard]] const dbss_operation *native_handle() const noexcept { return handle_; }

  private:
    friend class operation;

    explicit progress(const dbss_operation *handle) noexcept : handle_(handle) {}

    const dbss_operation *handle_;
};

/// The options, progress, cancellation and result of one call. Any thread may watch and cancel it while
/// the call runs. It can be used again for the next call. A stream is a running call until it is closed.
///
/// The getters that return a string or a path must not run while the next call begins. A setter throws
/// busy_error while a call runs. A copy is the same operation, with the same options and the same call.
class operation : public operation_option_setters<operation>, public operation_getters<operation> {
  public:
    /// An operation with the options of the client.
    operation() : handle_(detail::make<dbss_operation>(dbss_operation_new))
    {
        // Ends a call in which another callback has thrown.
        on_progress([](const progress &) {});
    }

    /// Sets any option by its key, which overrides the client's.
    ///
    /// Throws unknown_key_error, or argument_error for a wrong value.
    operation &set(text_view key, text_view value)
    {
        detail::set_option(dbss_operation_set, *this, key, value, detail::wording::text);
        return *this;
    }

    /// Sets a function that is called when the call starts, at least ten times a second while it runs,
    /// and when all bytes have arrived: bool(const progress &) or void(const progress &). If it returns
    /// false, the call throws cancelled_error within 250 ms.
    template <class Function> operation &on_progress(Function function)
    {
        using callback = detail::callback<Function>;
        const dbss_progress_fn call = [](void *user_data, const dbss_operation *of) {
            return callback::run(user_data, [&](Function &told) { return detail::continues(told, progress(of)); });
        };
        check(dbss_operation_set_progress(handle_.get(), call, new callback{std::move(function), calls_},
                                          callback::destroy));
        return *this;
    }

    /// Sets a function that decides whether a signal that the program handles ends the call:
    /// bool(), true to end it with interrupted_error. It is asked after each such signal, and once when
    /// the call begins, for signals that came just before. It is used if interruptible() is set, and may
    /// use getters only.
    template <class Function> operation &on_interrupt(Function function)
    {
        using callback = detail::callback<Function>;
        const dbss_interrupt_fn call = [](void *user_data) {
            return callback::run(user_data, [](Function &ends) { return !ends(); });
        };
        check(dbss_operation_set_interrupt(handle_.get(), call, new callback{std::move(function), calls_},
                                           callback::destroy));
        return *this;
    }

    /// Cancels the call, and later calls until reset(). The call throws cancelled_error within 100 ms,
    /// or when the file system or a callback returns. It may be called in a signal handler.
    void cancel() const noexcept { dbss_operation_cancel(handle_.get()); }

    /// Undoes a cancellation, and clears the results of the last call. Throws busy_error.
    void reset() { check(dbss_operation_reset(handle_.get())); }

    /// The error of the last call. None if it has not failed.
    [[nodiscard]] std::optional<dbss::error> error() const
    {
        unique_handle<dbss_error> handle(dbss_operation_error(handle_.get()));
        return handle == nullptr ? std::nullopt : std::optional<dbss::error>(std::move(handle));
    }

    /// The operation of dbss.h.
    [[nodiscard]] dbss_operation *native_handle() const noexcept { return handle_.get(); }

  private:
    friend class control;

    std::shared_ptr<dbss_operation> handle_;
    detail::call_frame::place calls_ = detail::call_frame::here;
};

/// What a call runs under: nothing, an operation, a std::stop_token (in C++20), or both. Each converts
/// to it, so that they can be passed as they are: client.check_credentials(operation).
///
/// A stop request cancels the call like operation::cancel(), also one that another thread makes with the
/// same operation; the operation then needs a reset().
class control {
  public:
    /// Nothing: the options of the client, no progress and no cancellation.
    control() = default;

    /// An operation.
    control(const operation &of) noexcept : operation_(of.handle_), calls_(of.calls_) {}

#ifdef __cpp_lib_jthread
    /// A token whose stop request cancels the call.
    control(std::stop_token token)
        : link_([token = std::move(token)](operation_handle of) -> std::shared_ptr<void> {
              auto cancel = [of = std::move(of)]() noexcept { dbss_operation_cancel(of.get()); };
              return std::make_shared<std::stop_callback<decltype(cancel)>>(token, std::move(cancel));
          })
    {}

    /// An operation and such a token.
    control(const operation &of, std::stop_token token) : control(std::move(token))
    {
        operation_ = of.handle_;
        calls_ = of.calls_;
    }
#endif

  private:
    using operation_handle = std::shared_ptr<dbss_operation>;

    operation_handle operation_;
    detail::call_frame::place calls_ = nullptr;
    // Independent of std::stop_token, so that C++17 has the same type.
    std::function<std::shared_ptr<void>(operation_handle)> link_;

    friend class client;
    friend class report_stream;
    template <class Item> friend class list;

    /// What a call holds while it runs. An operation is made if something else needs one.
    class running {
      public:
        running(const control &of, detail::call_frame::place client, bool needs_operation = false)
            : operation_(of.operation_), client_(client), calls_(of.calls_)
        {
            if (operation_ == nullptr && (client != nullptr || of.link_ || needs_operation)) {
                const operation made;
                operation_ = made.handle_;
                calls_ = made.calls_;
            }
            if (of.link_) stop_ = of.link_(operation_);
        }
        /// Calls a function of dbss.h as detail::run() does.
        template <class Call> dbss_status status_of(Call call) const
        { return detail::run(client_, calls_, std::move(call)); }
        /// The same, and throws an error.
        template <class Call> void run(Call call, detail::wording how = detail::wording::typed) const
        { check(status_of(std::move(call)), how); }
        [[nodiscard]] dbss_operation *get() const noexcept { return operation_.get(); }

      private:
        operation_handle operation_;
        detail::call_frame::place client_, calls_;
        std::shared_ptr<void> stop_;
    };
};

namespace detail {

/// For what a call can run under, in place of the arguments before it.
template <class Under> using if_control = std::enable_if_t<std::is_convertible_v<const Under &, control>, int>;

} // namespace detail

// ---------------------------------------------------------------------------------------
// Reports
// ---------------------------------------------------------------------------------------

/// Bytes that are lent. It converts to std::span<const std::byte> in C++20.
class bytes {
  public:
    /// No bytes.
    constexpr bytes() noexcept = default;
    /// So many bytes from here.
    constexpr bytes(const std::byte *data, std::size_t size) noexcept : data_(data), size_(size) {}
    /// The first byte.
    [[nodiscard]] constexpr const std::byte *data() const noexcept { return data_; }
    /// Their number.
    [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
    /// Whether there is none.
    [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
    /// The first byte.
    [[nodiscard]] constexpr const std::byte *begin() const noexcept { return data_; }
    /// The end of the bytes.
    [[nodiscard]] constexpr const std::byte *end() const noexcept { return data_ + size_; }
    /// The same bytes as characters.
    [[nodiscard]] std::string_view text() const noexcept { return {reinterpret_cast<const char *>(data_), size_}; }

  private:
    const std::byte *data_ = nullptr;
    std::size_t size_ = 0;
};

/// Bytes that the library allocated, such as a whole report, without a copy.
class buffer {
  public:
    /// No bytes.
    buffer() noexcept = default;
    /// Takes the bytes of another one.
    buffer(buffer &&other) noexcept : buffer_(std::exchange(other.buffer_, dbss_buffer{nullptr, 0})) {}
    /// Takes the bytes of another one.
    buffer &operator=(buffer &&other) noexcept
    {
        std::swap(buffer_, other.buffer_);
        return *this;
    }
    buffer(const buffer &) = delete;
    buffer &operator=(const buffer &) = delete;
    ~buffer() { dbss_buffer_free(&buffer_); }

    /// The bytes, for as long as the buffer lives.
    [[nodiscard]] bytes view() const noexcept { return {data(), size()}; }
    /// The bytes as characters, for as long as the buffer lives.
    [[nodiscard]] std::string_view text() const noexcept { return view().text(); }
    /// The first byte.
    [[nodiscard]] const std::byte *data() const noexcept { return reinterpret_cast<const std::byte *>(buffer_.data); }
    /// The number of bytes.
    [[nodiscard]] std::size_t size() const noexcept { return buffer_.len; }
    /// Whether there is no byte.
    [[nodiscard]] bool empty() const noexcept { return buffer_.len == 0; }
    /// The first byte.
    [[nodiscard]] const std::byte *begin() const noexcept { return data(); }
    /// The end of the bytes.
    [[nodiscard]] const std::byte *end() const noexcept { return data() + size(); }
    /// The buffer of dbss.h, for a function that fills it.
    [[nodiscard]] dbss_buffer *native_handle() noexcept { return &buffer_; }

  private:
    dbss_buffer buffer_ = {nullptr, 0};
};

// Arguments of calls, which refer to the strings that they are made from.

/// An audit instance of a project.
struct instance_ref {
    text_view instance;                    ///< The instance's id, 32 to 64 characters.
    std::optional<text_view> project = {}; ///< The project's id; none for the client's.
};

/// A report of an instance.
struct report_ref {
    text_view instance;                    ///< The instance's id, 32 to 64 characters.
    text_view id;                          ///< The report's id, 16 to 64 characters.
    std::optional<text_view> project = {}; ///< The project's id; none for the client's.
    /// The language to download it in, "en-us" or "zh-cn"; none for the service's default, en-us.
    std::optional<text_view> locale = {};
};

/// A report template of an instance.
struct template_ref {
    text_view instance;                    ///< The instance's id, 32 to 64 characters.
    text_view id;                          ///< The template's id, 16 to 64 characters.
    std::optional<text_view> project = {}; ///< The project's id; none for the client's.
};

/// What happens if the file of a download exists already.
enum class existing_file : std::uint32_t {
    /// It stays, and the call throws file_exists_error.
    keep = 0,
    /// It is replaced, atomically, when the new one is complete.
    replace = DBSS_FILE_REPLACE,
};

/// A report that is read in parts. Any thread may close it or cancel its operation while another one
/// reads. It ends when the client is closed.
class report_stream : public report_stream_getters<report_stream> {
  public:
    /// Reads the next bytes, at least one and at most "size", which is at least 1. Returns 0 at the end,
    /// which comes only if the report is complete and its length correct. After a failure of the
    /// transfer, the next reads throw the same error.
    ///
    /// Throws cancelled_error; closed_error; busy_error (another thread is reading); not_resumable_error;
    /// network_error.
    std::size_t read(void *data, std::size_t size)
    {
        std::size_t length = 0;
        call_.run([&](auto &) { return dbss_report_stream_read(handle_.get(), data, size, &length); });
        return length;
    }

    /// Closes the stream, also before its end. A running read throws cancelled_error, later ones
    /// closed_error. It does not wait, and does nothing the second time.
    void close() const noexcept { dbss_report_stream_close(handle_.get()); }

    /// The stream of dbss.h.
    [[nodiscard]] dbss_report_stream *native_handle() const noexcept { return handle_.get(); }

  private:
    friend class client;

    report_stream(control::running call, unique_handle<dbss_report_stream> handle) noexcept
        : call_(std::move(call)), handle_(std::move(handle))
    {}

    control::running call_;
    unique_handle<dbss_report_stream> handle_;
};

/// A buffer for std::istream that reads a report_stream, which must outlive it. An error sets the badbit
/// of an istream that reads it; with istream::exceptions(std::ios::badbit) the istream throws it
/// unchanged. Whoever reads the buffer itself, such as std::istreambuf_iterator, gets the exception.
class report_streambuf : public std::streambuf {
  public:
    /// A buffer over a stream.
    explicit report_streambuf(report_stream &stream) : stream_(stream), bytes_(std::size_t{64} * 1024) {}
    report_streambuf(const report_streambuf &) = delete;
    report_streambuf &operator=(const report_streambuf &) = delete;
    ~report_streambuf() override = default;

  protected:
    /// Reads the next bytes.
    int_type underflow() override
    {
        if (gptr() == egptr()) {
            const std::size_t length = stream_.read(bytes_.data(), bytes_.size());
            setg(bytes_.data(), bytes_.data(), bytes_.data() + length);
        }
        return gptr() == egptr() ? traits_type::eof() : traits_type::to_int_type(*gptr());
    }

  private:
    report_stream &stream_;
    std::vector<char> bytes_;
};

// ---------------------------------------------------------------------------------------
// Lists
// ---------------------------------------------------------------------------------------

/// The base of list items. An item stays valid without its list.
class item {
  public:
    /// A field by the name that the service uses, also one that this header does not know: text, or JSON
    /// for numbers, booleans, arrays and objects. None if it is missing or null.
    [[nodiscard]] std::optional<std::string> field(text_view name) const
    { return detail::optional_text(native_field(detail::c_string("name", name))); }

    /// The same as a string of C, which is valid as long as the item; null if there is none.
    [[nodiscard]] const char *native_field(const char *name) const noexcept
    { return dbss_page_field(page_.get(), index_, name); }

  protected:
    /// An item of a page.
    item(std::shared_ptr<const dbss_page> page, std::size_t index) noexcept : page_(std::move(page)), index_(index) {}

  private:
    std::shared_ptr<const dbss_page> page_;
    std::size_t index_;
};

/// An audit instance.
class instance : public item, public instance_fields<instance> {
    using item::item;
    template <class Item> friend class page;
};

/// An audit report.
class report : public item, public report_fields<report> {
  public:
    /// Whether it can be downloaded.
    [[nodiscard]] bool ready() const noexcept
    { return detail::optional_integer(native_field("percentum")).value_or(0) >= 100; }

  private:
    using item::item;
    template <class Item> friend class page;
};

/// A template that reports are made from.
class report_template : public item, public template_fields<report_template> {
    using item::item;
    template <class Item> friend class page;
};

/// A database that an instance audits.
class database : public item, public database_fields<database> {
    using item::item;
    template <class Item> friend class page;
};

/// The schedule on which the service makes reports from a template.
class schedule : public item, public schedule_fields<schedule> {
    using item::item;
    template <class Item> friend class page;
};

/// A page of a list. It never changes.
template <class Item> class page : public page_getters<page<Item>> {
  public:
    /// The number of items.
    [[nodiscard]] std::size_t size() const noexcept { return dbss_page_count(handle_.get()); }
    /// An item, by an index less than size().
    [[nodiscard]] Item operator[](std::size_t index) const noexcept { return Item(handle_, index); }
    /// All fields of all items as JSON, as dbss_page_json() explains.
    [[nodiscard]] std::string json() const
    {
        buffer made;
        check(dbss_page_json(handle_.get(), made.native_handle()));
        return std::string(made.text());
    }
    /// The page of dbss.h.
    [[nodiscard]] const dbss_page *native_handle() const noexcept { return handle_.get(); }

  private:
    friend class client;
    template <class Listed> friend class list;

    page() noexcept = default;
    explicit page(std::shared_ptr<const dbss_page> handle) noexcept : handle_(std::move(handle)) {}

    std::shared_ptr<const dbss_page> handle_;
};

/// A list of the service: a range that is read once, and fetches each page when it is needed. The list
/// may change meanwhile: no item comes twice, and a deletion hides no other item.
///
/// begin(), next(), next_page() and ++ of an iterator throw if a page cannot be fetched: error, as
/// client::find_credentials(), and unexpected_response_error. Then begin() tries the same page again.
template <class Item> class list {
    struct state;

  public:
    /// An input iterator. The list must outlive it.
    class iterator {
      public:
        using iterator_category = std::input_iterator_tag; ///< It reads once.
        using value_type = Item;                           ///< The item.
        using difference_type = std::ptrdiff_t;            ///< As of every iterator.
        using pointer = const Item *;                      ///< As of every iterator.
        using reference = const Item &;                    ///< The item.

        /// The end of every list.
        iterator() noexcept = default;
        /// The item.
        [[nodiscard]] const Item &operator*() const noexcept { return *item_; }
        /// The item.
        [[nodiscard]] const Item *operator->() const noexcept { return &*item_; }
        /// Moves to the next item, and fetches its page if necessary.
        iterator &operator++()
        {
            item_ = state_->next();
            return *this;
        }
        /// The same; returns an iterator with the item so far.
        iterator operator++(int)
        {
            iterator old(*this);
            ++*this;
            return old;
        }
        /// Whether both are at the end, or both are not.
        friend bool operator==(const iterator &a, const iterator &b) noexcept
        { return a.item_.has_value() == b.item_.has_value(); }
        /// The opposite.
        friend bool operator!=(const iterator &a, const iterator &b) noexcept { return !(a == b); }

      private:
        friend class list;
        explicit iterator(state *of) : state_(of), item_(of->next()) {}

        state *state_ = nullptr;
        std::optional<Item> item_;
    };

    /// Takes the place of another one, which must not be used again.
    list(list &&) noexcept = default;
    /// Takes the place of another one, which must not be used again.
    list &operator=(list &&) noexcept = default;
    list(const list &) = delete;
    list &operator=(const list &) = delete;
    ~list() = default;

    /// The next item, and the following ones; its page is fetched if necessary.
    [[nodiscard]] iterator begin() { return iterator(state_.get()); }
    /// The end.
    [[nodiscard]] iterator end() const noexcept { return iterator(); }
    /// The next item. None at the end.
    [[nodiscard]] std::optional<Item> next() { return state_->next(); }
    /// The next page, with at least one item; the rest of the current page is skipped. None at the end.
    [[nodiscard]] std::optional<page<Item>> next_page()
    {
        // A callback may destroy the list.
        const auto alive = state_;
        alive->index = alive->current.size();
        if (!alive->fetch()) return std::nullopt;
        // Its items are not those of next() as well.
        alive->index = alive->current.size();
        return alive->current;
    }
    /// The number of items in the whole list, as the service reported it with the last page. None
    /// before the first page, or if the service does not report it.
    [[nodiscard]] std::optional<std::int64_t> total() const noexcept
    { return state_->current.native_handle() == nullptr ? std::nullopt : state_->current.total(); }

  private:
    friend class client;

    struct state : std::enable_shared_from_this<state> {
        state(unique_handle<dbss_cursor> handle, control of, detail::call_frame::place of_client)
            : cursor(std::move(handle)), under(std::move(of)), client(of_client)
        {}

        std::optional<Item> next()
        {
            // A callback may destroy the list.
            const auto alive = this->shared_from_this();
            if (index >= current.size() && !fetch()) return std::nullopt;
            return current[index++];
        }

        bool fetch()
        {
            if (cursor == nullptr) return false;
            if (!is_ahead) {
                const control::running call(under, client);
                // Memory is allocated before: a page that has been read does not come again.
                const auto made = std::make_shared<detail::out<dbss_page>>();
                call.run([&](auto &) {
                    const dbss_status status = dbss_cursor_next(cursor.get(), call.get(), *made);
                    is_ahead = made->get() != nullptr;
                    if (is_ahead) {
                        current = page<Item>({made, made->get()});
                        index = current.size();
                    }
                    return status;
                });
            }
            if (!is_ahead) {
                cursor.reset();
                return false;
            }
            is_ahead = false;
            index = 0;
            return true;
        }

        unique_handle<dbss_cursor> cursor;
        control under;
        detail::call_frame::place client;
        page<Item> current;
        std::size_t index = 0;
        /// Whether the current page came with an exception of a callback, before anybody had it.
        bool is_ahead = false;
    };

    list(unique_handle<dbss_cursor> handle, const control &under, detail::call_frame::place client)
        : state_(std::make_shared<state>(std::move(handle), under, client))
    {}

    std::shared_ptr<state> state_;
};

/// Which instances to list.
struct instances_query {
    std::optional<text_view> project = {}; ///< The project's id; none for the client's.
    std::uint32_t page_size = 0;           ///< The number of items per request, 1 to 1000; 0 for 100.
};

/// Which reports to list.
struct reports_query {
    std::optional<text_view> name = {}; ///< A part of the name, as the service searches, 1 to 256 bytes; none for all.
    std::uint32_t page_size = 0;        ///< The number of items per request, 1 to 1000; 0 for 100.
};

/// Which databases to list.
struct databases_query {
    std::optional<text_view> status = {}; ///< "ON" or "OFF" to filter by; none for all.
    std::uint32_t page_size = 0;          ///< The number of items per request, 1 to 10000; 0 for 100.
};

/// The specification of a report to create.
class report_spec : public report_spec_option_setters<report_spec>,
                    public detail::settings<report_spec, dbss_report_spec, dbss_report_spec_new, dbss_report_spec_set> {
  public:
    /// Nothing is set yet.
    report_spec();
};
// Outside of the class, which would else be an aggregate.
inline report_spec::report_spec() = default;

/// Changes of a schedule. What is not set stays as it is.
class schedule_changes : public schedule_option_setters<schedule_changes>,
                         public detail::settings<schedule_changes, dbss_schedule_changes, dbss_schedule_changes_new,
                                                 dbss_schedule_changes_set> {
  public:
    /// Nothing is set yet.
    schedule_changes();
};
inline schedule_changes::schedule_changes() = default;

// ---------------------------------------------------------------------------------------
// Mirrors
// ---------------------------------------------------------------------------------------

/// The options of a mirror: which reports, and how.
class mirror_options
    : public mirror_option_setters<mirror_options>,
      public detail::settings<mirror_options, dbss_mirror_options, dbss_mirror_options_new, dbss_mirror_options_set> {
  public:
    /// Every option is at its default.
    mirror_options();
};
inline mirror_options::mirror_options() = default;

/// A report, or a list of reports, that a mirror failed to get.
struct mirror_failure {
    std::string instance;              ///< The id of the instance.
    std::optional<std::string> report; ///< The id of the report; none if the list of the instance's reports failed.
    dbss::error error;                 ///< Why.
};

/// A day, week or month without a report.
struct mirror_gap {
    std::string instance; ///< The id of the instance.
    std::string type;     ///< The type of the missing report, such as AUDIT_REPORT_DAY.
    std::string period;   ///< The first day, such as 2026-11-24.
};

/// The result of a mirror. It never changes.
class mirror_result : public mirror_result_getters<mirror_result> {
  public:
    /// What failed.
    [[nodiscard]] std::vector<mirror_failure> failures() const
    {
        return detail::collect(dbss_mirror_result_failure_count(native_handle()), [this](std::size_t i) {
            unique_handle<dbss_error> handle(dbss_mirror_result_failure_error(native_handle(), i));
            if (handle == nullptr) throw std::bad_alloc();
            const std::string_view report = dbss_mirror_result_failure_id(native_handle(), i);
            return mirror_failure{dbss_mirror_result_failure_instance(native_handle(), i),
                                  report.empty() ? std::nullopt : std::optional<std::string>(report),
                                  error(std::move(handle))};
        });
    }

    /// The days, weeks and months without a report of an instance and a type, from since() to until(),
    /// or without these from the first to the last report. What has no report at all has gaps only if
    /// type() selects it, since() and until() are set, and it is not weekly. At most 10,000 of an
    /// instance and a type are found, the latest ones.
    [[nodiscard]] std::vector<mirror_gap> gaps() const
    {
        return detail::collect(dbss_mirror_result_gap_count(native_handle()), [this](std::size_t i) {
            return mirror_gap{dbss_mirror_result_gap_instance(native_handle(), i),
                              dbss_mirror_result_gap_type(native_handle(), i),
                              dbss_mirror_result_gap_period(native_handle(), i)};
        });
    }

    /// The whole result as JSON, as dbss_mirror_result_json() explains: data of C, so that the messages
    /// of errors in it have the names and values of C.
    [[nodiscard]] std::string json() const
    {
        buffer made;
        check(dbss_mirror_result_json(native_handle(), made.native_handle()));
        return std::string(made.text());
    }

    /// The result of dbss.h.
    [[nodiscard]] const dbss_mirror_result *native_handle() const noexcept { return handle_.get(); }

  private:
    friend class client;
    friend class error;

    explicit mirror_result(std::shared_ptr<const dbss_mirror_result> handle) noexcept : handle_(std::move(handle)) {}

    std::shared_ptr<const dbss_mirror_result> handle_;
};

inline std::optional<mirror_result> error::result() const
{ return result_ == nullptr ? std::nullopt : std::optional(mirror_result(result_)); }

// ---------------------------------------------------------------------------------------
// The client
// ---------------------------------------------------------------------------------------

/// A description of credentials, without secrets. It never changes.
class credentials : public credentials_getters<credentials> {
  public:
    /// The description of dbss.h.
    [[nodiscard]] const dbss_credentials *native_handle() const noexcept { return handle_.get(); }

  private:
    friend class client;

    explicit credentials(unique_handle<dbss_credentials> handle) : handle_(std::move(handle)) {}

    std::shared_ptr<const dbss_credentials> handle_;
};

/// A client of the service, with its credentials and its connections, which stay open between calls.
/// Make one and share it. A child of fork() may use it too.
///
/// Every call but close(), cancel_all() and the making of a list may throw
///
/// - argument_error: an argument is invalid (invalid_id_error, invalid_locale_error, invalid_value_error
///   and others); busy_error, if the operation is in use; closed_error;
/// - not_configured_error, no_token_error, invalid_credentials_error: there are no usable credentials;
/// - service_error: the service refused the call (unauthenticated_error, forbidden_error,
///   not_found_error, throttled_error and others);
/// - network_error: the connection failed, and attempts and timeouts are used up;
/// - resource_error, cancelled_error, interrupted_error, internal_error;
/// - what a callback threw; std::bad_alloc.
///
/// Further exceptions stand at each. What a call runs under may stand in place of the optional
/// arguments before it.
class client {
  public:
    /// A client with a copy of the configuration. It sends no request, but reads the files and the
    /// environment that dbss_context_new() names.
    ///
    /// Throws not_configured_error (no region or endpoint, or incomplete credentials);
    /// invalid_credentials_error; invalid_endpoint_error; plaintext_refused_error; file_error (a file
    /// cannot be read); invalid_value_error (the CA file has no certificate).
    explicit client(const config &settings) : calls_(settings.calls_)
    {
        detail::out<dbss_context> made;
        check(detail::run(calls_, nullptr, [&](auto &) { return dbss_context_new(settings.native_handle(), made); }));
        handle_ = made.take();
    }

    /// Replaces the credentials by a token, also for the next requests of running calls. Throws
    /// invalid_token_error; closed_error. Then the old ones stay.
    void set_token(text_view token) const
    { check(dbss_context_set_token(native_handle(), detail::c_string("token", token))); }

    /// Cancels all running calls, including open streams: they throw cancelled_error. Later calls are
    /// not affected.
    void cancel_all() const noexcept { dbss_context_cancel_all(native_handle()); }

    /// Closes the client: running calls and open streams throw cancelled_error, later calls closed_error.
    /// Callbacks are released. It does not wait, and does nothing the second time.
    void close() const noexcept { dbss_context_close(native_handle()); }

    /// The credentials that a call would use now; it fetches them if necessary.
    [[nodiscard]] credentials find_credentials(const control &under = {}) const
    {
        detail::out<dbss_credentials> made;
        run(under, [&](auto *ctx, auto *operation) { return dbss_context_find_credentials(ctx, operation, made); });
        return credentials(made.take());
    }

    /// Checks that the service accepts the credentials, by listing one instance of the project. Throws
    /// unauthenticated_error, forbidden_error.
    void check_credentials(std::optional<text_view> project = std::nullopt, const control &under = {}) const
    {
        const detail::c_string name("project", project);
        run(under, [&](auto *ctx, auto *operation) { return dbss_context_check(ctx, name, operation); });
    }

    /// The same.
    template <class Under, detail::if_control<Under> = 0>
    void check_credentials(const Under &under) const
    { check_credentials(std::nullopt, under); }

    // Downloads. A report that does not arrive completely is an error. A broken transfer is resumed or
    // restarted, up to "max_attempts".

    /// Downloads a report into memory. Throws limit_exceeded_error (larger than "max_memory_bytes").
    [[nodiscard]] buffer download_report(const report_ref &report, const control &under = {}) const
    {
        const c_report of(report);
        buffer made;
        run(under, [&](auto *ctx, auto *operation) {
            return dbss_report_download_to_memory(ctx, of.project, of.instance, of.id, of.locale, operation,
                                                  made.native_handle());
        });
        return made;
    }

    /// Downloads a report to a file, which appears only when it is complete and on the disk. Returns its
    /// path. Its permissions are those of the option "file_mode".
    ///
    /// Throws file_exists_error; not_regular_file_error; disk_full_error; file_error (no such directory,
    /// no permission); invalid_value_error (path).
    std::filesystem::path download_report_to_file(const report_ref &report, const std::filesystem::path &path,
                                                  existing_file existing = existing_file::keep,
                                                  const control &under = {}) const
    { return save(dbss_report_download_to_file, report, {"path", path.native()}, existing, under); }

    /// The same.
    template <class Under, detail::if_control<Under> = 0>
    std::filesystem::path download_report_to_file(const report_ref &report, const std::filesystem::path &path,
                                                  const Under &under) const
    { return download_report_to_file(report, path, existing_file::keep, under); }

    /// Downloads a report into a directory, which must exist, under a safe form of the report's own name.
    /// Otherwise like download_report_to_file(), but file_exists_error comes after the service has sent
    /// the name.
    std::filesystem::path download_report_to_directory(const report_ref &report, const std::filesystem::path &directory,
                                                       existing_file existing = existing_file::keep,
                                                       const control &under = {}) const
    { return save(dbss_report_download_to_directory, report, {"directory", directory.native()}, existing, under); }

    /// The same.
    template <class Under, detail::if_control<Under> = 0>
    std::filesystem::path download_report_to_directory(const report_ref &report, const std::filesystem::path &directory,
                                                       const Under &under) const
    { return download_report_to_directory(report, directory, existing_file::keep, under); }

    /// Downloads a report to a descriptor that is open for writing, and stays open. Only a call that
    /// does not throw has written a whole report.
    ///
    /// Throws argument_error (not open for writing); broken_pipe_error (its reader closed it);
    /// disk_full_error; file_error; not_resumable_error.
    void download_report_to_fd(const report_ref &report, int fd, const control &under = {}) const
    {
        const c_report of(report);
        run(under, [&](auto *ctx, auto *operation) {
            return dbss_report_download_to_fd(ctx, of.project, of.instance, of.id, of.locale, fd, operation);
        });
    }

    /// Downloads a report to a function, in parts: void(bytes), or bool(bytes), whose false ends the call
    /// with cancelled_error. In C++20 it may also take a std::span<const std::byte>. Only a call that
    /// does not throw has passed a whole report.
    ///
    /// Throws not_resumable_error.
    template <class Sink, std::enable_if_t<std::is_invocable_v<Sink &, bytes>, int> = 0>
    void download_report_to(const report_ref &report, Sink &&sink, const control &under = {}) const
    {
        struct target {
            std::remove_reference_t<Sink> *sink;
            detail::call_frame *frame;
        };
        const dbss_write_fn write = [](void *user_data, const std::uint8_t *data, std::size_t len) {
            const auto &to = *static_cast<target *>(user_data);
            return detail::call_frame::run(to.frame, [&] {
                return detail::continues(*to.sink, bytes(reinterpret_cast<const std::byte *>(data), len));
            });
        };
        const c_report of(report);
        const control::running call(under, calls_);
        call.run([&](auto &frame) {
            target to{std::addressof(sink), &frame};
            return dbss_report_download_to_callback(native_handle(), of.project, of.instance, of.id, of.locale, write,
                                                    &to, call.get());
        });
    }

    /// Downloads a report to a stream that is open for writing bytes, and flushes it. Only a call that
    /// does not throw has written a whole report. No state of the stream may be set, not even eofbit
    /// after it was read.
    ///
    /// Throws std::ios_base::failure (the stream was not good(), or did not take a part, also when it was
    /// flushed); not_resumable_error.
    void download_report_to(const report_ref &report, std::ostream &stream, const control &under = {}) const
    {
        const auto check = [&stream](const char *what = "the stream did not take a part of the report") {
            // What is not good() takes nothing, also without failbit.
            if (!stream.good()) throw std::ios_base::failure(what);
        };
        check("the stream is not good(), so it takes no report; is it open? clear() its state");
        const auto write = [&](bytes part) {
            const std::string_view text = part.text();
            stream.write(text.data(), static_cast<std::streamsize>(text.size()));
            check();
        };
        download_report_to(report, write, under);
        stream.flush();
        check();
    }

    /// Opens a report to read it in parts; its first bytes have arrived then. What the call runs under
    /// belongs to the stream until it is closed.
    [[nodiscard]] report_stream open_report(const report_ref &report, const control &under = {}) const
    {
        const c_report of(report);
        control::running call(under, calls_);
        detail::out<dbss_report_stream> made;
        call.run([&](auto &) {
            return dbss_report_open(native_handle(), of.project, of.instance, of.id, of.locale, call.get(), made);
        });
        return {std::move(call), made.take()};
    }

    // Lists.

    /// Lists the audit instances of a project. Throws argument_error; closed_error.
    [[nodiscard]] list<instance> instances(const instances_query &query = {}, const control &under = {}) const
    {
        const detail::c_string project("project", query.project);
        return begin<instance>(
            under, [&](auto *ctx, auto made) { return dbss_instances_list(ctx, project, query.page_size, made); });
    }

    /// The same.
    template <class Under, detail::if_control<Under> = 0>
    [[nodiscard]] list<instance> instances(const Under &under) const
    { return instances({}, under); }

    /// Lists the reports of an instance. Throws argument_error; closed_error.
    [[nodiscard]] list<report> reports(const instance_ref &of, const reports_query &query = {},
                                       const control &under = {}) const
    {
        const detail::c_string project("project", of.project), id("instance", of.instance), name("name", query.name);
        return begin<report>(under, [&](auto *ctx, auto made) {
            return dbss_reports_list(ctx, project, id, name, query.page_size, made);
        });
    }

    /// The same.
    template <class Under, detail::if_control<Under> = 0>
    [[nodiscard]] list<report> reports(const instance_ref &of, const Under &under) const
    { return reports(of, {}, under); }

    /// Lists the report templates of an instance. Throws argument_error; closed_error.
    [[nodiscard]] list<report_template> templates(const instance_ref &of, const control &under = {}) const
    {
        const detail::c_string project("project", of.project), id("instance", of.instance);
        return begin<report_template>(
            under, [&](auto *ctx, auto made) { return dbss_templates_list(ctx, project, id, made); });
    }

    /// Lists the databases that an instance audits. Throws argument_error; closed_error.
    [[nodiscard]] list<database> databases(const instance_ref &of, const databases_query &query = {},
                                           const control &under = {}) const
    {
        const detail::c_string project("project", of.project), id("instance", of.instance),
            status("status", query.status);
        return begin<database>(under, [&](auto *ctx, auto made) {
            return dbss_databases_list(ctx, project, id, status, query.page_size, made);
        });
    }

    /// The same.
    template <class Under, detail::if_control<Under> = 0>
    [[nodiscard]] list<database> databases(const instance_ref &of, const Under &under) const
    { return databases(of, {}, under); }

    // Reports at the service.

    /// Starts the creation of a report. The service returns no id: generate_report() finds the report.
    /// The request is sent again only if it cannot have taken effect: if nothing of it was sent, if the
    /// response was HTTP 429 or 503, or if the credentials were rejected and could be renewed. After another
    /// failure, such as a lost connection, it is not repeated, because the report may have been created.
    ///
    /// Throws not_configured_error (a required value is not set); rejected_error.
    void create_report(const instance_ref &of, const report_spec &spec, const control &under = {}) const
    {
        const detail::c_string project("project", of.project), id("instance", of.instance);
        run(under, [&](auto *ctx, auto *operation) {
            return dbss_report_create(ctx, project, id, spec.native_handle(), operation);
        });
    }

    /// Creates a report, waits until it is ready, and returns its id. The options "wait_timeout" and
    /// "poll_interval" apply; the operation's percent() reports the progress.
    ///
    /// Throws as create_report(); ambiguous_error (its candidates() may be the report); not_ready_error.
    /// If it fails after it found the report, candidates() has its id, for wait_for_report().
    [[nodiscard]] std::string generate_report(const instance_ref &of, const report_spec &spec,
                                              const control &under = {}) const
    {
        const detail::c_string project("project", of.project), id("instance", of.instance);
        // Memory is allocated before: the report would stay without its id.
        std::string made(DBSS_ID_SIZE, '\0');
        run(under, [&](auto *ctx, auto *operation) {
            return dbss_report_generate(ctx, project, id, spec.native_handle(), operation, made.data());
        });
        made.resize(made.find('\0'));
        return made;
    }

    /// Waits until a report is ready, with the same options. Throws not_ready_error; not_found_error, also
    /// if the report is deleted meanwhile.
    void wait_for_report(const report_ref &report, const control &under = {}) const
    {
        const c_report of(report);
        run(under, [&](auto *ctx, auto *operation) {
            return dbss_report_wait(ctx, of.project, of.instance, of.id, operation);
        });
    }

    /// Deletes a report at the service, permanently. Throws rejected_error.
    void delete_report(const report_ref &report, const control &under = {}) const
    {
        const c_report of(report);
        run(under, [&](auto *ctx, auto *operation) {
            return dbss_report_delete(ctx, of.project, of.instance, of.id, operation);
        });
    }

    /// The schedule on which the service makes reports from a template.
    [[nodiscard]] schedule show_schedule(const template_ref &of, const control &under = {}) const
    {
        const c_template id(of);
        detail::out<dbss_page> made;
        const auto show = [&](auto *ctx, auto *operation) {
            return dbss_schedule_show(ctx, id.project, id.instance, id.id, operation, made);
        };
        run(under, show, detail::wording::of_template);
        return page<schedule>(made.take())[0];
    }

    /// Changes the schedule of a template. It gets the present one, and sends all of it back with the
    /// changes: what somebody else changes between these two requests is lost. The change is sent again
    /// only if it cannot have taken effect, as the request of create_report(). After another failure, such
    /// as a lost connection, the schedule may have been changed.
    ///
    /// Throws not_configured_error (there are no changes); rejected_error.
    void update_schedule(const template_ref &of, const schedule_changes &changes, const control &under = {}) const
    {
        const c_template id(of);
        const auto update = [&](auto *ctx, auto *operation) {
            return dbss_schedule_update(ctx, id.project, id.instance, id.id, changes.native_handle(), operation);
        };
        run(under, update, detail::wording::of_template);
    }

    /// Brings a local archive of reports up to date, as dbss_reports_mirror() explains: downloads what is
    /// ready and not in the archive yet, and deletes nothing. The directory is created if necessary.
    ///
    /// Throws partial_error (some reports failed to download); mirror_locked_error (another mirror uses
    /// the directory); file_error. Then error::result() is the partial result.
    mirror_result mirror(const std::filesystem::path &directory, const mirror_options &options = mirror_options(),
                         std::optional<text_view> project = std::nullopt, const control &under = {}) const
    {
        const detail::c_string id("project", project), name("directory", directory.native());
        const auto made = std::make_shared<detail::out<dbss_mirror_result>>();
        const control::running call(under, calls_);
        const dbss_status status = call.status_of([&](auto &) {
            return dbss_reports_mirror(native_handle(), id, name, options.native_handle(), call.get(), *made);
        });
        std::shared_ptr<const dbss_mirror_result> result(made, made->get());
        if (status == DBSS_OK) return mirror_result(std::move(result));
        error failed = error::last(status);
        failed.result_ = std::move(result);
        failed.raise();
    }

    /// The same.
    template <class Under, detail::if_control<Under> = 0>
    mirror_result mirror(const std::filesystem::path &directory, const Under &under) const
    { return mirror(directory, mirror_options(), std::nullopt, under); }

    /// The same.
    template <class Under, detail::if_control<Under> = 0>
    mirror_result mirror(const std::filesystem::path &directory, const mirror_options &options,
                         const Under &under) const
    { return mirror(directory, options, std::nullopt, under); }

    /// The context of dbss.h.
    [[nodiscard]] dbss_context *native_handle() const noexcept { return handle_.get(); }

  private:
    // The names of a report and of a template for C.
    struct c_template {
        explicit c_template(const template_ref &of)
            : project("project", of.project), instance("instance", of.instance), id("id", of.id)
        {}
        detail::c_string project, instance, id;
    };
    struct c_report {
        explicit c_report(const report_ref &of)
            : project("project", of.project), instance("instance", of.instance), id("id", of.id),
              locale("locale", of.locale)
        {}
        detail::c_string project, instance, id, locale;
    };

    template <class Call>
    void run(const control &under, Call call, detail::wording how = detail::wording::typed) const
    {
        const control::running running(under, calls_);
        running.run([&](auto &) { return call(native_handle(), running.get()); }, how);
    }

    template <class Download>
    std::filesystem::path save(Download download, const report_ref &report, const detail::c_string &path,
                               existing_file existing, const control &under) const
    {
        const c_report of(report);
        const control::running running(under, calls_, true);
        running.run([&](auto &) {
            return download(native_handle(), of.project, of.instance, of.id, of.locale, path,
                            static_cast<std::uint32_t>(existing), running.get());
        });
        return detail::text(dbss_operation_path(running.get()));
    }

    template <class Item, class Call> list<Item> begin(const control &under, Call call) const
    {
        detail::out<dbss_cursor> made;
        check(detail::run(calls_, nullptr,
                          [&](auto &) { return call(native_handle(), static_cast<dbss_cursor **>(made)); }));
        return list<Item>(made.take(), under, calls_);
    }

    unique_handle<dbss_context> handle_;
    detail::call_frame::place calls_;
};

} // namespace v0
} // namespace dbss

#endif // DBSS_HPP
