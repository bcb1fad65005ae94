// What dbss.hpp promises, against the mock service: tests/python/test_cpp.py sets the faults, and
// starts this program with the name of a scenario. Settings and ids are in the environment.

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <iostream>
#include <map>
#include <new>
#include <numeric>
#include <sstream>
#include <thread>
#include <unistd.h>

#include <dbss.hpp>

#if __cplusplus >= 202002L
#include <ranges>
#include <span>
#endif

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using steady = std::chrono::steady_clock;

// How many more allocations of C++ succeed on this thread; negative for all.
static thread_local int allocations_left = -1;

[[gnu::noinline]] void *operator new(std::size_t size)
{
    if (allocations_left == 0) {
        allocations_left = -1;
        throw std::bad_alloc();
    }
    if (allocations_left > 0) allocations_left--;
    if (void *memory = std::malloc(size)) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void *memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }

namespace {

#define CHECK(condition) ((condition) ? void() : failed(#condition, __LINE__))

[[noreturn]] void failed(const char *condition, int line)
{
    std::cerr << "line " << line << ": " << condition << '\n';
    std::exit(1);
}

/// Runs code, which must throw this type, and returns the exception.
template <class Exception, class Code> Exception thrown(Code code)
{
    try {
        code();
    } catch (const Exception &exception) {
        return exception;
    } catch (const std::exception &other) {
        std::cerr << "another exception: " << other.what() << '\n';
        std::exit(1);
    }
    std::cerr << "no exception\n";
    std::exit(1);
}

/// Runs code until no allocation of it fails, each time with one more that succeeds. It returns
/// whether that was so.
template <class Code> bool with_failed_allocations(Code code)
{
    for (int left = 0;; left++) {
        allocations_left = left;
        try {
            code();
        } catch (const std::bad_alloc &) {
            continue;
        }
        const bool all = allocations_left >= 0;
        allocations_left = -1;
        if (all) return left > 0;
    }
}

std::string variable(const char *name)
{
    const char *value = std::getenv(name);
    return value == nullptr ? "" : value;
}

const std::string instance_id = variable("DBSS_INSTANCE_ID"), report_id = variable("DBSS_REPORT_ID"),
                  template_id = variable("DBSS_TEMPLATE_ID"), size_text = variable("REPORT_SIZE");

dbss::report_ref the_report() { return {instance_id, report_id}; }

dbss::config settings()
{
    dbss::config made;
    made.endpoint(variable("DBSS_ENDPOINT")).project_id(variable("DBSS_PROJECT_ID")).token(variable("DBSS_TOKEN"));
    made.max_attempts(1).iam_endpoint(variable("DBSS_IAM_ENDPOINT"));
    return made;
}

std::string content(const fs::path &path)
{
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// What ends calls does so within 250 ms; the rest is for a busy machine. Otherwise a call waits a minute.
constexpr auto soon = 20s;

bool refuse(dbss::bytes) { return false; }

struct custom_error {
    int number;
};

void download()
{
    const dbss::client client(settings());
    const dbss::buffer report = client.download_report(the_report());
    const std::string expected(report.text());
    CHECK(std::to_string(expected.size()) == size_text && report.size() == expected.size() && !report.empty());
    CHECK(std::equal(report.begin(), report.end(), report.view().begin(), report.view().end()));

    dbss::operation operation;
    int told = 0;
    operation.on_progress([&](const dbss::progress &at) {
        told++;
        CHECK(at.received() >= 0 && (!at.total() || *at.total() == static_cast<std::int64_t>(expected.size())));
    });
    CHECK(client.download_report_to_file(the_report(), "file", dbss::existing_file::keep, operation) == "file");
    CHECK(told >= 2 && operation.path() == fs::path("file") && operation.attempts() == 1 && !operation.error());
    CHECK(operation.format() == dbss::report_format::pdf && operation.filename() && operation.request_id());
    CHECK(content("file") == expected);
    const auto exists = thrown<dbss::file_exists_error>(
        [&] { client.download_report_to_file(the_report(), "file", dbss::existing_file::keep, operation); });
    CHECK(exists.path() == fs::path("file") && operation.error()->status() == dbss::status_code::file_exists);
    CHECK(client.download_report_to_file(the_report(), "file", dbss::existing_file::replace) == "file");
    const fs::path named = client.download_report_to_directory(the_report(), ".");
    CHECK(content(named) == expected && named.extension() == ".pdf");

    const int fd = open("descriptor", O_CREAT | O_WRONLY, 0600);
    client.download_report_to_fd(the_report(), fd);
    close(fd);
    CHECK(content("descriptor") == expected);
    thrown<dbss::argument_error>([&] { client.download_report_to_fd(the_report(), fd); });

    std::string parts;
    client.download_report_to(the_report(), [&](dbss::bytes part) { parts += part.text(); });
    CHECK(parts == expected);
    const auto stop_at_once = [](dbss::bytes) { return false; };
    const auto ended = thrown<dbss::cancelled_error>([&] { client.download_report_to(the_report(), stop_at_once); });
    CHECK(ended.cancelled_by() == dbss::cancel_source::callback);
    thrown<dbss::cancelled_error>([&] { client.download_report_to(the_report(), refuse); });
    std::ostringstream text;
    client.download_report_to(the_report(), text);
    CHECK(text.str() == expected);
    // One that was read to its end would take nothing, and say nothing.
    std::stringstream read("42");
    int number = 0;
    read >> number;
    thrown<std::ios_base::failure>([&] { client.download_report_to(the_report(), read); });
    read.clear();
    client.download_report_to(the_report(), read);
    CHECK(read.str() == expected);
    std::ofstream full("/dev/full", std::ios::binary);
    full.rdbuf()->pubsetbuf(nullptr, 0);
    thrown<std::ios_base::failure>([&] { client.download_report_to(the_report(), full); });
    // The report fits into the stream's buffer, and fails only when that is written.
    std::filebuf large;
    std::vector<char> room(expected.size() + 1);
    large.pubsetbuf(room.data(), static_cast<std::streamsize>(room.size()));
    CHECK(large.open("/dev/full", std::ios::out | std::ios::binary) != nullptr);
    std::ostream buffered(&large);
    thrown<std::ios_base::failure>([&] { client.download_report_to(the_report(), buffered); });

    dbss::report_stream stream = client.open_report(the_report(), operation);
    CHECK(stream.size() == static_cast<std::int64_t>(expected.size()) && stream.format() == dbss::report_format::pdf);
    CHECK(stream.filename() == *operation.filename() && stream.content_type() && stream.request_id());
    thrown<dbss::busy_error>([&] { client.check_credentials({}, operation); });
    thrown<dbss::busy_error>([&] { client.check_credentials(operation); });
    thrown<dbss::busy_error>([&] { client.download_report_to_file(the_report(), "other", operation); });
    thrown<dbss::busy_error>([&] { client.download_report_to_directory(the_report(), ".", operation); });
    thrown<dbss::busy_error>([&] { static_cast<void>(client.instances(operation).next()); });
    thrown<dbss::busy_error>([&] { static_cast<void>(client.reports({instance_id}, operation).next()); });
    thrown<dbss::busy_error>([&] { static_cast<void>(client.databases({instance_id}, operation).next()); });
    parts.clear();
    std::array<char, 100> some{};
    while (const std::size_t length = stream.read(some.data(), some.size()))
        parts.append(some.data(), length);
    CHECK(parts == expected);
    stream.close();
    thrown<dbss::closed_error>([&] { stream.read(some.data(), some.size()); });
    client.check_credentials({}, operation);

    stream = client.open_report(the_report());
    dbss::report_streambuf buffer(stream);
    std::istream input(&buffer);
    CHECK(std::string(std::istreambuf_iterator<char>(input), {}) == expected);
    stream = client.open_report(the_report());
    dbss::report_streambuf closed(stream);
    std::istream failing(&closed);
    failing.exceptions(std::ios::badbit);
    stream.close();
    thrown<dbss::closed_error>([&] { failing.get(); });
#if __cplusplus >= 202002L
    std::size_t total = 0;
    client.download_report_to(the_report(), [&](std::span<const std::byte> part) { total += part.size(); });
    const std::span<const std::byte> whole = report;
    CHECK(total == expected.size() && whole.size() == total && std::ranges::equal(whole, report.view()));
    CHECK(std::ranges::contiguous_range<dbss::buffer>);
#endif
}

// A variable that is not set.
static const char *unset() { return std::getenv("DBSS_NEVER_SET"); }

template <class Options, class Value, class = void> constexpr bool takes = false;
template <class Options, class Value>
constexpr bool takes<Options, Value, std::void_t<decltype(std::declval<Options &>().allow_plaintext(Value()))>> = true;
// Every pointer would be true.
static_assert(takes<dbss::config, bool> && !takes<dbss::config, const char *>);
static_assert(!std::is_copy_constructible_v<dbss::report_streambuf>
              && !std::is_copy_constructible_v<dbss::list<dbss::report>>);
static_assert(std::is_nothrow_move_constructible_v<dbss::list<dbss::report>>);

void null_pointers()
{
    const auto refused = [](auto code) {
        const auto error = thrown<dbss::null_argument_error>(code);
        CHECK(error.what() == *error.parameter() + ": must not be null" && error.message() == error.what());
        return *error.parameter();
    };
    CHECK(refused([] { dbss::config().token(unset()); }) == "token");
    CHECK(refused([] { dbss::mirror_options().template_(unset()); }) == "template_");
    CHECK(refused([] { dbss::report_spec().set("db_ids", unset()); }) == "db_ids");
    CHECK(refused([] { dbss::operation().set("total_timeout_ms", unset()); }) == "total_timeout_ms");
    CHECK(refused([] { dbss::config().set(unset(), "a"); }) == "key");
    CHECK(refused([] { dbss::config().set(unset(), std::string(1, '\0')); }) == "key");
    const dbss::client client(settings());
    auto download = [&](dbss::report_ref report) { (void)client.download_report(report); };
    CHECK(thrown<dbss::null_argument_error>([&] { download({unset(), "0123456789abcdef"}); }).parameter()
          == "instance");
    CHECK(thrown<dbss::null_argument_error>([&] { download({instance_id, unset()}); }).parameter() == "id");
    download({instance_id, report_id, unset(), unset()});
    thrown<dbss::null_argument_error>([&] { client.set_token(unset()); });
    CHECK(!dbss::has_feature(unset()));
}

void moves()
{
    dbss::client first(settings());
    dbss::client second(std::move(first)), third(std::move(second));
    third.check_credentials();
    // What was moved from has no context; a call says so, and what remains is freed once.
    thrown<dbss::null_argument_error>([&] { first.check_credentials(); });
    first = std::move(third);
    first.check_credentials();
    dbss::buffer report = first.download_report(the_report());
    dbss::buffer moved = std::move(report), twice = std::move(moved);
    CHECK(report.empty() && moved.empty() && std::to_string(twice.size()) == size_text);
    auto &same = twice;
    twice = std::move(same);
    CHECK(std::to_string(twice.size()) == size_text);
    twice = dbss::buffer();
    CHECK(twice.empty() && twice.begin() == twice.end());
    dbss::operation operation;
    dbss::report_stream stream = first.open_report(the_report(), operation);
    dbss::report_stream taken = std::move(stream);
    // The stream keeps what it needs of both.
    operation = dbss::operation();
    first = dbss::client(settings());
    char byte = 0;
    CHECK(taken.read(&byte, 1) == 1);
    auto list = dbss::client(settings()).reports({instance_id});
    auto rest = std::move(list);
    CHECK(rest.next() && std::distance(rest.begin(), rest.end()) >= 1);
    dbss::report_spec spec;
    spec.template_id("a").start_time("b");
    dbss::report_spec other = std::move(spec);
    other.end_time("c");
    const auto item = *dbss::client(settings()).reports({instance_id}).begin();
    CHECK(!item.id().empty() && item.field("id") == item.id());
    CHECK(!std::is_copy_constructible_v<dbss::client> && std::is_nothrow_move_constructible_v<dbss::client>);
    CHECK(std::is_nothrow_copy_constructible_v<dbss::not_found_error>);
}

// The fault of the report is a 403 with all fields.
void errors()
{
    const dbss::client client(settings());
    const auto error = thrown<dbss::forbidden_error>([&] { static_cast<void>(client.download_report(the_report())); });
    CHECK(error.status() == dbss::status_code::forbidden && error.status_name() == "DBSS_ERR_FORBIDDEN");
    CHECK(dbss::to_string(error.status()) == error.status_name() && !dbss::message(error.status()).empty());
    CHECK(error.http_status() == 403 && error.service_code() == "DBSS.1" && error.service_message() == "not yours");
    CHECK(error.request_id() == "the-request" && error.encoded_authorization_message() == "encoded");
    CHECK(error.details().size() == 2 && error.details()[0].code == "DBSS.2" && !error.details()[1].code);
    CHECK(error.retry_after() == 7s && error.attempts() == 1u && !error.is_retryable() && !error.os_error());
    CHECK(!error.parameter() && !error.path() && !error.redirect_target() && !error.cancelled_by());
    CHECK(error.candidates().empty() && !error.result() && error.what() == error.message());
    CHECK(dbss::error(dbss::status_code::file, "text").message() == "text");

    // Each class is caught as that of its group, and as the base.
    const auto fails = [&] { static_cast<void>(client.download_report(the_report())); };
    thrown<dbss::service_error>(fails);
    thrown<std::runtime_error>(fails);
    // An error keeps its details on another thread, after another call of this one.
    std::exception_ptr kept;
    std::thread([&] {
        try {
            fails();
        } catch (...) {
            kept = std::current_exception();
        }
    }).join();
    thrown<dbss::invalid_id_error>([&] { static_cast<void>(client.download_report({"a", "b"})); });
    CHECK(thrown<dbss::forbidden_error>([&] { std::rethrow_exception(kept); }).service_code() == "DBSS.1");

    // A copy of the base is thrown as the class of its status.
    const dbss::error base = error;
    CHECK(thrown<dbss::forbidden_error>([&] { base.raise(); }).http_status() == 403);
    const auto of = [](int status) { return dbss::error(static_cast<dbss::status_code>(status), "new", "p"); };
    CHECK(thrown<dbss::service_error>([&] { of(299).raise(); }).status() == static_cast<dbss::status_code>(299));
    CHECK(thrown<dbss::internal_error>([&] { of(100000).raise(); }).parameter() == "p");
    for (const auto code : dbss::statuses())
        if (code != dbss::status_code::ok)
            CHECK(thrown<dbss::error>([&] { dbss::error(code, "text").raise(); }).status() == code);
    thrown<dbss::internal_error>([&] { dbss::error(dbss::status_code::ok, "").raise(); });

    const auto id = thrown<dbss::invalid_id_error>([&] { static_cast<void>(client.download_report({"a", "b"})); });
    CHECK(id.parameter() == "instance" && !id.http_status());
    using namespace std::string_view_literals;
    const auto refused = [](auto code) { return *thrown<dbss::invalid_value_error>(code).parameter(); };
    CHECK(refused([&] { static_cast<void>(client.download_report({"a\0"sv, "b"})); }) == "instance");
    CHECK(refused([] { settings().token("to\0ken"sv); }) == "token");
    CHECK(refused([&] { client.download_report_to_file(the_report(), "a\0b"sv); }) == "path");
    CHECK(thrown<dbss::unknown_key_error>([] { settings().set("no_such_key", "1"); }).parameter() == "key");
    CHECK(thrown<dbss::invalid_value_error>([] { settings().max_attempts(0); }).parameter() == "max_attempts");
    CHECK(thrown<dbss::invalid_token_error>([] { settings().token("a b"); }).parameter() == "token");
    const auto limit = thrown<dbss::invalid_value_error>([] { settings().total_timeout(0ms); });
    CHECK(limit.parameter() == "total_timeout");
    CHECK(limit.what()
          == "total_timeout: must be from 1 ms to 2592000000 ms, or dbss::no_limit for no limit, but is 0 ms"sv);
    CHECK(limit.message() == limit.what());
    const auto said = [](auto code) {
        const auto failure = thrown<dbss::argument_error>(code);
        return failure.parameter().value() + " | " + failure.what();
    };
    CHECK(said([] { settings().max_retry_after(dbss::no_limit); })
          == "max_retry_after | max_retry_after: must be from 0 ms to 86400000 ms, but is dbss::no_limit");
    CHECK(said([] { settings().total_timeout(-1ms); }).find(" but is -1 ms") != std::string::npos);
    CHECK(said([] { settings().max_attempts(0); })
          == "max_attempts | max_attempts: must be a whole number from 1 to 1000, but is 0");
    CHECK(said([] { settings().file_mode(fs::perms::owner_read); })
          == "file_mode | file_mode: must be from 0600 to 0777, such as 0640, but is 0400");
    CHECK(said([] { settings().set("connect_timeout", "10"); })
          == "key | key: there is no option \"connect_timeout\"; did you mean \"connect_timeout_ms\"?");
    CHECK(said([] { dbss::operation().set("region", "a"); })
          == "key | key: there is no option \"region\"; it is an option of a client, not of one call");
    CHECK(said([] { settings().set("connect_timeout_ms", "abc"); })
          == "connect_timeout_ms | connect_timeout_ms: must be a whole number from 1 to 86400000, or -1 for no limit, "
             "but is \"abc\"");
    CHECK(said([] { dbss::operation().set("file_mode", "7"); })
          == "file_mode | file_mode: must be octal digits from 600 to 777, such as 640, but is \"7\"");
    CHECK(said([] { dbss::mirror_options().template_(""); })
          == "template_ | template_: must have 1 to 256 bytes, but has 0");
    CHECK(refused([] { dbss::mirror_options().template_("a\0"sv); }) == "template_");
    CHECK(refused([] { dbss::mirror_options().set("template", "a\0"sv); }) == "template");
    CHECK(refused([] { static_cast<void>(dbss::has_feature("download\0"sv)); }) == "name");
    // The names of parameters.
    const auto named = [](auto code) { return *thrown<dbss::argument_error>(code).parameter(); };
    CHECK(named([&] { static_cast<void>(client.show_schedule({instance_id, "/"})); }) == "id");
    CHECK(named([&] { static_cast<void>(client.show_schedule({instance_id, "a\0"sv})); }) == "id");
    CHECK(named([&] { client.update_schedule({instance_id, "/"}, dbss::schedule_changes().status("ON")); }) == "id");
    CHECK(named([] { dbss::report_spec().template_id(""); }) == "template_id");
    const auto unknown = static_cast<dbss::existing_file>(8);
    CHECK(named([&] { client.download_report_to_file(the_report(), "file", unknown); }) == "existing");
    const dbss::client other(settings().max_attempts(2));
    auto stream = other.open_report({instance_id, variable("OTHER_REPORT_ID")});
    char byte = 0;
    CHECK(named([&] { stream.read(nullptr, 1); }) == "data" && named([&] { stream.read(&byte, 0); }) == "size");
    thrown<dbss::invalid_locale_error>(
        [&] { static_cast<void>(client.download_report({instance_id, report_id, {}, "fr"})); });
    thrown<dbss::not_configured_error>([] { dbss::client{dbss::config()}; });
    const auto missing = thrown<dbss::file_error>([] { dbss::client{settings().ca_file("no/such/file")}; });
    CHECK(missing.os_error() == std::errc::no_such_file_or_directory && missing.path() == fs::path("no/such/file"));
    client.close();
    CHECK(thrown<dbss::closed_error>(fails).status() == dbss::status_code::closed);
}

void information()
{
    CHECK(dbss::version() == DBSS_VERSION && dbss::version_number() == DBSS_VERSION_NUMBER);
    CHECK(dbss::has_feature("download") && !dbss::has_feature("no-such-feature"));
    for (const auto &feature : dbss::features())
        CHECK(dbss::has_feature(feature.name) && !feature.help.empty());
    std::map<std::string, dbss::option_info> found;
    for (const auto &option : dbss::options(dbss::option_set::config))
        found.emplace(option.key, option);
    CHECK(found.at("connect_timeout_ms").allows_none && found.at("max_attempts").maximum == 1000);
    CHECK(found.at("credentials").choices && !found.at("region").default_value);
    // Every value of C++ becomes the text that C takes.
    dbss::config all;
    all.connect_timeout(1500ms).total_timeout(dbss::no_limit).stall_timeout(1min).allow_plaintext(true);
    all.file_mode(fs::perms::owner_all | fs::perms::group_read).max_memory_bytes(1 << 20).interruptible(false);
    all.log_level(dbss::log_level::info)
        .log_level("warning")
        .user_agent_suffix("test/1")
        .proxy_from_environment(false)
        .agency_duration(1h);
    thrown<dbss::invalid_value_error>([&] { all.connect_timeout(0ms); });
    thrown<dbss::invalid_value_error>([&] { all.max_retry_after(dbss::no_limit); });
    for (const auto level : {dbss::log_level::error, dbss::log_level::debug})
        all.log_level(level);
    for (const int level : {0, 5, -1})
        thrown<dbss::invalid_value_error>([&] { all.log_level(static_cast<dbss::log_level>(level)); });
    dbss::mirror_options mirror;
    mirror.since("2026-01-01").template_("a").parallel(2).verify(true).locale("en-us");
    thrown<dbss::invalid_value_error>([&] { mirror.parallel(17); });
    dbss::client client(settings());
    const dbss::credentials credentials = client.find_credentials();
    CHECK(credentials.source() == "token" && !credentials.description().empty() && !credentials.expires());
    client.set_token(variable("DBSS_TOKEN"));
    thrown<dbss::invalid_token_error>([&] { client.set_token(""); });
    client.check_credentials(variable("DBSS_PROJECT_ID"));
    client.set_token("not-the-token");
    thrown<dbss::unauthenticated_error>([&] { client.check_credentials(); });
}

// The report stalls after its first bytes, so that nothing but the exceptions ends the calls.
void exceptions()
{
    const auto ends = [](auto call) {
        const auto begin = steady::now();
        CHECK(thrown<custom_error>(call).number == 42);
        CHECK(steady::now() - begin < soon);
    };
    const auto fail = [](auto &&...) { throw custom_error{42}; };
    const dbss::client plain(settings());
    ends([&] { plain.download_report_to(the_report(), fail); });
    dbss::operation operation;
    operation.on_progress([&](const dbss::progress &at) {
        if (at.received() > 0) fail();
    });
    ends([&] { static_cast<void>(plain.download_report(the_report(), operation)); });
    // The operation is not cancelled: it serves the next call.
    operation.on_progress([](const dbss::progress &) { return true; });
    plain.check_credentials({}, operation);

    for (const bool with_operation : {false, true}) {
        const dbss::client logging(settings().on_log(fail));
        ends([&] {
            static_cast<void>(logging.download_report(the_report(), with_operation ? operation : dbss::control()));
        });
        ends([&] { static_cast<void>(logging.open_report(the_report())); });
        ends([&] { logging.check_credentials(); });
        ends([&] { static_cast<void>(logging.instances().next()); });
        ends([&] { logging.mirror("archive"); });
        CHECK(!logging.instances().total());
    }
    const dbss::client providing(settings().token_provider([](bool) -> std::string { throw custom_error{42}; }));
    ends([&] { providing.check_credentials(); });
    const dbss::client asking(settings().token_provider([](dbss::token_request) { throw custom_error{42}; }));
    ends([&] { asking.check_credentials(); });
    dbss::config user;
    user.endpoint(variable("DBSS_ENDPOINT")).project_id(variable("DBSS_PROJECT_ID"));
    user.iam_endpoint(variable("DBSS_IAM_ENDPOINT")).iam_user("user").iam_password("password").iam_domain("domain");
    user.iam_user_id("id").passcode_provider([](bool) -> std::string { throw custom_error{42}; });
    const dbss::client with_passcode(user);
    ends([&] { with_passcode.check_credentials(); });

    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, nullptr);
    dbss::operation interruptible;
    std::atomic<bool> running{false};
    interruptible.interruptible(true).on_progress([&](const dbss::progress &at) { running = at.received() > 0; });
    interruptible.on_interrupt([&]() -> bool {
        if (!running) return false;
        throw custom_error{42};
    });
    const auto thread = pthread_self();
    std::thread signals([&] {
        while (!running)
            std::this_thread::yield();
        pthread_kill(thread, SIGUSR1);
    });
    ends([&] { static_cast<void>(plain.download_report(the_report(), interruptible)); });
    signals.join();

    // A callback may make calls, whose exceptions it may catch; only what leaves it ends the outer call.
    int calls = 0;
    operation.on_progress([&](const dbss::progress &at) {
        if (at.received() == 0) return true;
        thrown<dbss::invalid_id_error>([&] { static_cast<void>(plain.download_report({"a", "b"})); });
        plain.check_credentials();
        return ++calls < 2;
    });
    const auto cancelled =
        thrown<dbss::cancelled_error>([&] { static_cast<void>(plain.download_report(the_report(), operation)); });
    CHECK(cancelled.cancelled_by() == dbss::cancel_source::callback && calls == 2);
}

void providers()
{
    const std::string token = variable("DBSS_TOKEN");
    std::vector<bool> asked;
    const dbss::client simple(settings().token_provider([&](bool refused) {
        asked.push_back(refused);
        return asked.size() == 1 ? "wrong" : token;
    }));
    simple.check_credentials();
    CHECK((asked == std::vector<bool>{false, true}));
    const auto expires = std::chrono::system_clock::now() + 1h;
    const dbss::client expiring(settings().token_provider([&](bool) { return dbss::token{token, expires}; }));
    const auto at = expiring.find_credentials().expires();
    CHECK(at && expires - *at < 1ms);
    for (const auto before_1970 : {-1ms, -5ms}) {
        const std::chrono::system_clock::time_point long_ago(before_1970);
        const dbss::client expired(settings().token_provider([&](bool) { return dbss::token{token, long_ago}; }));
        const auto error = thrown<dbss::no_token_error>([&] { expired.check_credentials(); });
        CHECK(error.message().find("has expired; use std::nullopt") != std::string::npos);
    }
    std::thread later;
    const dbss::client delayed(settings().token_provider([&](dbss::token_request request) {
        CHECK(request.is_wanted() && !request.refused());
        later = std::thread([&token, request = std::move(request)] {
            request.set(token);
            thrown<dbss::argument_error>([&] { request.set(token); });
        });
    }));
    delayed.check_credentials();
    later.join();
    const dbss::client failing(
        settings().token_provider([](const dbss::token_request &request) { request.fail("no vault"); }));
    const auto error = thrown<dbss::no_token_error>([&] { failing.check_credentials(); });
    CHECK(error.message().find("no vault") != std::string::npos);
    const dbss::client silent(
        settings().token_provider([](const dbss::token_request &request) { request.fail(" \n"); }));
    const auto nothing = thrown<dbss::no_token_error>([&] { silent.check_credentials(); });
    CHECK(nothing.message().find("failed: no reason given") != std::string::npos);
    // Callbacks are freed with the client, once.
    const auto held = std::make_shared<int>(0);
    {
        const dbss::client owner(settings().on_log([held](const dbss::log_record &) {}).token_provider([held](bool) {
            return std::string("a");
        }));
        CHECK(held.use_count() == 3);
    }
    CHECK(held.use_count() == 1);

    std::vector<dbss::log_record> records;
    const dbss::client logging(settings().on_log([&](const dbss::log_record &record) { records.push_back(record); }));
    static_cast<void>(logging.download_report(the_report()));
    thrown<dbss::not_found_error>(
        [&] { static_cast<void>(logging.download_report({instance_id, "no-such-report-0"})); });
    CHECK(records.size() >= 3);
    records.front() = records.back();
    CHECK(!records.front().message().empty());
    const auto is = [](dbss::log_level level) { return [=](const auto &record) { return record.level() == level; }; };
    const auto failure = std::find_if(records.begin(), records.end(), is(dbss::log_level::error));
    CHECK(failure != records.end() && failure->error()->http_status() == 404);
    CHECK(failure->status() == dbss::status_code::not_found && !failure->message().empty());
    CHECK(failure->message().find(failure->error()->message()) != std::string::npos);
    // In the words of C++, as its exception.
    logging.download_report_to_file(the_report(), "again");
    records.clear();
    const auto exists =
        thrown<dbss::file_exists_error>([&] { logging.download_report_to_file(the_report(), "again"); });
    CHECK(exists.message().find("existing_file::replace") != std::string::npos && !records.empty());
    CHECK(records.back().message().find(exists.message()) != std::string::npos);
    static_cast<void>(logging.download_report(the_report()));
    const auto info = std::find_if(records.begin(), records.end(), is(dbss::log_level::info));
    CHECK(info != records.end() && info->report_id() == report_id && info->duration() && !info->error());
}

void lists()
{
    const dbss::client client(settings());
    auto list = client.reports({instance_id}, {std::nullopt, 2});
    CHECK(!list.total());
    std::vector<std::string> ids;
    for (const dbss::report &report : list) {
        CHECK(report.name() && report.format() && report.percentum() == 100 && report.ready());
        ids.push_back(report.id());
    }
    CHECK(ids.size() == 7 && list.total() == 7 && std::find(ids.begin(), ids.end(), report_id) != ids.end());
    CHECK(!list.next() && list.begin() == list.end());
    CHECK(client.reports({instance_id}, {"no such name"}).next() == std::nullopt || true);

    // A loop that ends early leaves the rest, and a new loop continues there.
    auto partly = client.reports({instance_id}, {std::nullopt, 3});
    std::size_t seen = 0;
    for (const auto &report : partly) {
        CHECK(report.id() == ids[seen]);
        if (++seen == 4) break;
    }
    for (const auto &report : partly)
        CHECK(report.id() == ids[seen++]);
    CHECK(seen == 7);
    auto paged = client.reports({instance_id}, {std::nullopt, 3});
    const auto page = paged.next_page();
    CHECK(page && page->size() == 3 && page->total() == 7 && (*page)[2].id() == ids[2]);
    CHECK(page->json().find("\"kind\"") != std::string::npos && paged.next_page()->size() == 3);
    CHECK(paged.next_page()->size() == 1 && !paged.next_page() && !paged.next());
    // Each item comes once, whichever way.
    auto mixed = client.reports({instance_id}, {std::nullopt, 2});
    CHECK((*mixed.next_page())[1].id() == ids[1] && mixed.next()->id() == ids[2]);
    CHECK((*mixed.next_page())[0].id() == ids[4] && mixed.begin()->id() == ids[6] && !mixed.next());
    // Nothing is lost when there is not enough memory for it.
    auto scarce = client.reports({instance_id}, {std::nullopt, 2});
    std::size_t pages = 0;
    for (std::optional<dbss::page<dbss::report>> got;; pages++) {
        CHECK(with_failed_allocations([&] { got = scarce.next_page(); }) || !got);
        if (!got) break;
        CHECK((*got)[0].id() == ids[2 * pages]);
    }
    CHECK(pages == 4);
    // Nor to an exception of a callback, which comes once, with any record.
    for (const bool by_page : {false, true})
        for (int record = 0; record < 12; record++) {
            int left = record, thrown = 0;
            const dbss::client logging(settings().on_log([&](const dbss::log_record &) {
                if (left-- == 0) throw custom_error{42};
            }));
            std::size_t items = 0;
            auto listed = logging.reports({instance_id}, {std::nullopt, 2});
            for (bool more = true; more;) {
                try {
                    if (by_page) {
                        const auto got = listed.next_page();
                        more = got.has_value();
                        items += got ? got->size() : 0;
                    } else {
                        more = listed.next().has_value();
                        items += more;
                    }
                } catch (const custom_error &) {
                    thrown++;
                }
            }
            CHECK(items == 7 && thrown == (left < 0));
        }

    auto copied = client.reports({instance_id});
    const std::vector<dbss::report> all(copied.begin(), copied.end());
    CHECK(all.size() == 7 && all[6].id() == ids[6]);
    CHECK(client.instances({}).next()->id() == instance_id);
    CHECK(client.templates({instance_id}).next()->id() == template_id);
    const auto database = client.databases({instance_id}).next();
    CHECK(database && database->name() && database->status());
    thrown<dbss::invalid_value_error>([&] { static_cast<void>(client.databases({instance_id}, {"PERHAPS"})); });
    const auto size = thrown<dbss::invalid_value_error>([&] { static_cast<void>(client.instances({{}, 1001})); });
    CHECK(size.message() == "page_size: must be from 1 to 1000, or 0 for 100, but is 1001");
    thrown<dbss::not_found_error>([&] { static_cast<void>(client.reports({std::string(32, 'f')}).begin()); });
    // The rest of what C++17 wants of an input iterator.
    auto post = client.reports({instance_id});
    auto at = post.begin();
    const std::string first = at->id();
    CHECK((*at++).id() == first && at->id() != first);
    // A callback destroys its own list.
    std::optional<dbss::list<dbss::report>> gone;
    dbss::operation destroys;
    destroys.on_progress([&](const dbss::progress &) { gone.reset(); });
    gone = client.reports({instance_id}, destroys);
    CHECK(gone->next() && !gone);

#if __cplusplus >= 202002L
    static_assert(std::input_iterator<dbss::list<dbss::report>::iterator>);
    static_assert(std::ranges::input_range<dbss::list<dbss::report>>);
    auto ranged = client.reports({.instance = instance_id}, {.page_size = 2});
    CHECK(std::ranges::count_if(ranged, &dbss::report::ready) == 7);
#if !defined(__clang__) || __clang_major__ >= 16
    std::vector<std::string> names;
    for (const auto &name : client.reports({instance_id}) | std::views::filter(&dbss::report::ready)
                                | std::views::transform([](const auto &report) { return report.id(); })
                                | std::views::take(3))
        names.push_back(name);
    CHECK(std::ranges::equal(names, ids | std::views::take(3)));
#endif
#endif
}

// The second page fails once.
void lists_again()
{
    const dbss::client client(settings());
    auto list = client.reports({instance_id}, {std::nullopt, 3});
    std::vector<std::string> ids;
    const auto error = thrown<dbss::server_error>([&] {
        for (const auto &report : list)
            ids.push_back(report.id());
    });
    CHECK(ids.size() == 3 && error.http_status() == 500);
    for (const auto &report : list)
        ids.push_back(report.id());
    std::sort(ids.begin(), ids.end());
    CHECK(ids.size() == 7 && std::unique(ids.begin(), ids.end()) == ids.end());
}

void management()
{
    const dbss::client client(settings().poll_interval(1ms));
    dbss::report_spec spec;
    CHECK(thrown<dbss::not_configured_error>([&] { client.create_report({instance_id}, spec); }).parameter());
    spec.template_id(template_id).start_time("2026-11-23 00:00:00").end_time("2026-11-24 00:00:00");
    dbss::operation operation;
    std::int32_t percent = -1;
    operation.on_progress([&](const dbss::progress &at) { percent = std::max(percent, at.percent().value_or(-1)); });
    const std::string made = client.generate_report({instance_id}, spec, operation);
    CHECK(percent == 100);
    client.wait_for_report({instance_id, made});
    CHECK(!client.download_report({instance_id, made}).empty());
    client.delete_report({instance_id, made});
    thrown<dbss::not_found_error>([&] { client.delete_report({instance_id, made}); });
    client.create_report({instance_id}, spec);
    // No report is made whose id is lost when there is not enough memory for it.
    const auto count = [&] {
        auto list = client.reports({instance_id});
        return std::distance(list.begin(), list.end());
    };
    const auto before = count();
    CHECK(with_failed_allocations([&] { static_cast<void>(client.generate_report({instance_id}, spec)); }));
    CHECK(count() == before + 1);
    // A callback that throws ends the call before anything changes.
    int records = 0;
    const dbss::client failing(settings().log_level("debug").on_log([&](const dbss::log_record &) {
        if (records++ == 0) throw records;
    }));
    thrown<int>([&] { static_cast<void>(failing.generate_report({instance_id}, spec)); });
    CHECK(count() == before + 1);

    dbss::schedule_changes changes;
    thrown<dbss::not_configured_error>([&] { client.update_schedule({instance_id, template_id}, changes); });
    client.update_schedule({instance_id, template_id}, changes.status("ON").frequency("AUDIT_REPORT_DAY"));
    const dbss::schedule schedule = client.show_schedule({instance_id, template_id});
    CHECK(schedule.status() == "ON" && schedule.frequency() == "AUDIT_REPORT_DAY" && schedule.smn_effective());
}

// One report fails.
void mirror()
{
    const dbss::client client(settings());
    const auto error = thrown<dbss::partial_error>([&] { client.mirror("archive"); });
    const auto result = error.result();
    CHECK(result && result->downloaded() == 6 && result->failed() == 1 && result->failures().size() == 1);
    const auto failure = result->failures()[0];
    CHECK(failure.report == report_id && failure.instance == instance_id);
    CHECK(failure.error.status() == dbss::status_code::forbidden && failure.error.service_message() == "not yours");
    const dbss::mirror_result again = client.mirror("archive", dbss::mirror_options().name("no such name"));
    CHECK(again.listed() == 0 && again.failures().empty() && again.json().find("\"listed\"") != std::string::npos);
    client.mirror("second", dbss::mirror_options().since("2026-11-01").until("2026-11-03"));
    thrown<dbss::invalid_id_error>([&] { client.mirror("archive", dbss::mirror_options(), "not-an-id"); });
    CHECK(!thrown<dbss::file_error>([&] { client.mirror("/dev/null/archive"); }).result());
    // What a callback throws is not changed.
    dbss::operation operation;
    const dbss::file_error own(dbss::error(dbss::status_code::file, "own"));
    operation.on_progress([&](const dbss::progress &) { throw own; });
    CHECK(!thrown<dbss::file_error>([&] { client.mirror("third", operation); }).result());
    CHECK(!thrown<dbss::file_error>([&] { client.mirror("third", dbss::mirror_options(), operation); }).result());
}

// The report stalls after so many bytes, as test_cpp.py sets.
constexpr std::size_t stalls_after = 100;

void cancels()
{
    const dbss::client client(settings());
    dbss::operation operation;
    std::atomic<bool> running{false};
    const auto told = [&](const dbss::progress &at) { running = running || at.received() > 0; };
    operation.on_progress(told);
    // Runs a call, ends it from another thread, and returns how long that took.
    const auto ended = [&](auto call, auto end, dbss::cancel_source by) {
        running = false;
        steady::time_point at;
        std::thread other([&] {
            while (!running)
                std::this_thread::yield();
            at = steady::now();
            end();
        });
        const auto error = thrown<dbss::cancelled_error>(call);
        const auto after = steady::now();
        other.join();
        CHECK(error.cancelled_by() == by && after - at < soon);
    };
    const auto download = [&] { static_cast<void>(client.download_report(the_report(), operation)); };
    ended(download, [&] { operation.cancel(); }, dbss::cancel_source::operation);
    thrown<dbss::cancelled_error>(download);
    operation.reset();
    ended(download, [&] { client.cancel_all(); }, dbss::cancel_source::context);

    std::vector<char> bytes(1 << 20);
    std::size_t got = 0;
    // A close between two reads is another error. This read is one that waits: all that comes was read.
    operation.on_progress([&](const dbss::progress &) { running = running || got == stalls_after; });
    dbss::report_stream stream = client.open_report(the_report(), operation);
    const auto read_all = [&] {
        while (const std::size_t length = stream.read(bytes.data(), bytes.size()))
            got += length;
    };
    ended(read_all, [&] { stream.close(); }, dbss::cancel_source::close);
    operation.on_progress(told);
#ifdef __cpp_lib_jthread
    std::stop_source source;
    ended([&] { static_cast<void>(client.download_report(the_report(), {operation, source.get_token()})); },
          [&] { source.request_stop(); }, dbss::cancel_source::operation);
    operation.reset();
    // A stop that was requested before ends a call before its first request.
    const auto begin = steady::now();
    thrown<dbss::cancelled_error>([&] { client.check_credentials(source.get_token()); });
    CHECK(steady::now() - begin < soon);
    std::stop_source later;
    client.check_credentials({}, later.get_token());
    // A token without an operation, also for a stream, a list and a mirror.
    stream = client.open_report(the_report(), later.get_token());
    // At any moment.
    const auto read_at_once = [&] {
        running = true;
        read_all();
    };
    ended(read_at_once, [&] { later.request_stop(); }, dbss::cancel_source::operation);
    auto list = client.reports({instance_id}, {}, later.get_token());
    thrown<dbss::cancelled_error>([&] { static_cast<void>(list.begin()); });
    thrown<dbss::cancelled_error>([&] { client.mirror("archive", {}, {}, later.get_token()); });
    std::jthread worker([&](const std::stop_token &token) {
        thrown<dbss::cancelled_error>([&] { static_cast<void>(client.download_report(the_report(), token)); });
    });
    worker.request_stop();
#endif
    const dbss::client closing(settings());
    ended([&] { static_cast<void>(closing.download_report(the_report(), operation)); }, [&] { closing.close(); },
          dbss::cancel_source::close);
}

long resident_kib()
{
    std::ifstream file("/proc/self/statm");
    long size = 0, resident = 0;
    file >> size >> resident;
    return resident * sysconf(_SC_PAGESIZE) / 1024;
}

std::ptrdiff_t descriptors()
{ return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()); }

void many()
{
    const int rounds = std::stoi(variable("ROUNDS"));
    const dbss::client client(settings());
    const auto round = [&](int number) {
        CHECK(!client.download_report(the_report()).empty());
        switch (number % 5) {
        case 0: {
            dbss::operation operation;
            operation.on_progress([](const dbss::progress &) {});
            static_cast<void>(client.download_report(the_report(), operation));
            break;
        }
        case 1: thrown<dbss::invalid_id_error>([&] { static_cast<void>(client.download_report({"a", "b"})); }); break;
        case 2:
            thrown<custom_error>(
                [&] { client.download_report_to(the_report(), [](dbss::bytes) { throw custom_error{1}; }); });
            break;
        case 3: {
            auto list = client.reports({instance_id}, {std::nullopt, 2});
            for (const auto &report : list)
                if (!report.id().empty()) break;
            break;
        }
        default: {
            auto stream = client.open_report(the_report());
            char byte = 0;
            CHECK(stream.read(&byte, 1) == 1);
        }
        }
    };
    for (int i = 0; i < rounds / 10; i++)
        round(i);
    [[maybe_unused]] const auto memory = resident_kib();
    const auto open = descriptors();
    for (int i = 0; i < rounds; i++)
        round(i);
    CHECK(descriptors() <= open + 1);
#ifndef __SANITIZE_ADDRESS__ // which keeps freed memory for a while
    CHECK(resident_kib() < memory + 2048);
#endif
}

} // namespace

int main(int argc, char **argv)
{
    const std::map<std::string, void (*)()> scenarios = {
        {"download", download},
        {"moves", moves},
        {"null_pointers", null_pointers},
        {"errors", errors},
        {"information", information},
        {"exceptions", exceptions},
        {"providers", providers},
        {"lists", lists},
        {"lists_again", lists_again},
        {"management", management},
        {"mirror", mirror},
        {"cancels", cancels},
        {"many", many},
    };
    CHECK(argc == 2);
    try {
        scenarios.at(argv[1])();
    } catch (const std::exception &error) {
        std::cerr << "uncaught: " << error.what() << '\n';
        return 1;
    }
}
