// The driver of the conformance suite for C++. ../README.md describes its protocol.

#include <cstdio>
#include <deque>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include <dbss.hpp>
#include <nlohmann/json.hpp>

using nlohmann::json;

/// What may be missing is null. Bytes that are not UTF-8 are in hexadecimal digits, durations in milliseconds.
template <class Value> struct nlohmann::adl_serializer<std::optional<Value>> {
    static void to_json(json &made, const std::optional<Value> &value)
    {
        if (!value)
            made = nullptr;
        else if constexpr (std::is_integral_v<Value>)
            made = *value;
        else if constexpr (std::is_same_v<Value, std::filesystem::path>)
            made = std::optional(value->string());
        else if constexpr (std::is_same_v<Value, std::string>)
            made = text(*value);
        else
            made = std::chrono::duration_cast<std::chrono::milliseconds>(*value).count();
    }

    static json text(const std::string &value)
    {
        json made = value;
        try {
            static_cast<void>(made.dump());
        } catch (const json::exception &) {
            std::string digits;
            char two[3];
            for (const char one : value)
                digits.append(two, static_cast<std::size_t>(std::snprintf(two, sizeof two, "%02x", one & 0xff)));
            made = {{"hex", digits}};
        }
        return made;
    }
};

using texts = std::vector<std::string>;

namespace {

/// What does not exist here, which fails the case.
struct unsupported : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// A stream or a list that is kept, and the operation that belongs to it.
struct kept_object {
    std::shared_ptr<dbss::operation> operation;
    std::shared_ptr<dbss::report_stream> stream;
    std::function<json(const texts &)> next_page;
};

std::mutex output, providers;
std::map<std::string, std::shared_ptr<dbss::client>> clients;
std::map<std::string, kept_object> kept;
std::map<int, std::shared_ptr<dbss::operation>> operations;
std::deque<dbss::token_request> held;

void put(const json &line)
{
    const std::string text = line.dump();
    const std::lock_guard guard(output);
    std::cout << text << std::endl;
}

/// The text that a value of JSON stands for.
std::string text_of(const json &value)
{
    if (value.is_string()) return value;
    if (!value.is_object() || !value.contains("hex")) return value.dump();
    const std::string digits = value["hex"];
    std::string bytes;
    for (std::size_t i = 0; i < digits.size(); i += 2)
        bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
    return bytes;
}

std::optional<std::string> optional_text_of(const json &value)
{ return value.is_null() ? std::nullopt : std::optional(text_of(value)); }

/// The word of a constant; null for that of 0.
template <class Constant> json word(const std::optional<Constant> &value, const texts &words)
{
    const auto at = value ? static_cast<std::size_t>(*value) : 0;
    return at == 0 ? json() : json(words.at(at));
}

json error_json(const dbss::error &error)
{
    json details = json::array(), candidates = json::array();
    for (const auto &detail : error.details())
        details.push_back({{"code", detail.code}, {"message", detail.message}});
    for (const auto &candidate : error.candidates())
        candidates.push_back(candidate);
    const auto os_error = error.os_error();
    return {{"status", error.status_name()},
            {"message", error.what()},
            {"parameter", error.parameter()},
            {"http_status", error.http_status()},
            {"service_code", error.service_code()},
            {"service_message", error.service_message()},
            {"request_id", error.request_id()},
            {"encoded_authorization_message", error.encoded_authorization_message()},
            {"details", details},
            {"cancelled_by", word(error.cancelled_by(), {"", "operation", "client", "close", "callback"})},
            {"candidates", candidates},
            {"redirect_target", error.redirect_target()},
            {"path", error.path()},
            {"os_code", os_error ? json(os_error.value()) : json()},
            {"retryable", error.is_retryable()},
            {"retry_after_ms", error.retry_after()},
            {"attempts", error.attempts()}};
}

json operation_json(const dbss::operation &of)
{
    return {
        {"received", of.received()},         {"total", of.total()},
        {"resumed", of.resumed()},           {"attempts", of.attempts()},
        {"percent", of.percent()},           {"path", of.path()},
        {"filename", of.filename()},         {"request_id", of.request_id()},
        {"content_type", of.content_type()}, {"format", word<dbss::report_format>(of.format(), {"", "pdf", "zip"})}};
}

json mirror_json(const dbss::mirror_result &result)
{
    json made = json::parse(result.json()), failures = json::array();
    for (const auto &failure : result.failures())
        failures.push_back(
            {{"id", failure.report}, {"instance", failure.instance}, {"error", error_json(failure.error)}});
    made["failures"] = failures;
    return made;
}

void put_log(const std::string &client, const dbss::log_record &record)
{
    const bool failed = record.status() != dbss::status_code::ok;
    put({{"event", "log"},
         {"client", client},
         {"level", word<dbss::log_level>(record.level(), {"", "error", "warning", "info", "debug"})},
         {"message", record.message()},
         {"status", failed ? json(to_string(record.status())) : json()},
         {"attempt", record.attempt()},
         {"request_id", record.request_id()},
         {"report_id", record.report_id()},
         {"bytes", record.bytes()},
         {"duration_ms", record.duration()},
         {"offset", record.offset()},
         {"retry_delay_ms", record.retry_delay()},
         {"http_status", record.http_status()}});
}

void answer_request(const dbss::token_request &request, const json &answer)
{
    if (answer.contains("fail")) return request.fail(text_of(answer["fail"]));
    std::optional<std::chrono::system_clock::time_point> expires;
    if (answer.contains("expires_in_ms"))
        expires = std::chrono::system_clock::now() + std::chrono::milliseconds(answer["expires_in_ms"]);
    try {
        request.set(text_of(answer.contains("token") ? answer["token"] : answer["passcode"]), expires);
    } catch (const dbss::error &) {
        // A wrong one counts as none: the call tells.
    }
}

/// Answers requests of a provider in order, the last answer again and again.
auto provider(const std::string &client, const json &answers)
{
    return [client, left = answers](dbss::token_request request) mutable {
        put({{"event", "asked"}, {"client", client}, {"refused", request.refused()}});
        const std::lock_guard guard(providers);
        const json answer = left[0];
        if (left.size() > 1) left.erase(0);
        if (answer.contains("hold"))
            held.push_back(std::move(request));
        else
            answer_request(request, answer);
    };
}

/// Answers the request that is held for the longest time.
void answer_held(const json &answer)
{
    const std::lock_guard guard(providers);
    if (held.empty()) throw unsupported("to answer: no request is held");
    const dbss::token_request request = std::move(held.front());
    held.pop_front();
    answer_request(request, answer);
}

void configure(const json &request)
{
    const std::string name = request["client"];
    clients.erase(name);
    dbss::config config;
    for (const auto &pair : request["settings"])
        config.set(text_of(pair[0]), text_of(pair[1]));
    if (!request["log"].is_null())
        config.log_level(std::string(request["log"])).on_log([name](const auto &record) { put_log(name, record); });
    if (request["token_provider"].is_array()) config.token_provider(provider(name, request["token_provider"]));
    if (request["passcodes"].is_array()) config.passcode_provider(provider(name, request["passcodes"]));
    clients[name] = std::make_shared<dbss::client>(config);
}

template <class Settings> Settings filled(const json &values)
{
    Settings made;
    for (const auto &[key, value] : values.items())
        made.set(key, text_of(value));
    return made;
}

json item_json(const dbss::item &item, const texts &fields)
{
    json made = json::object();
    for (const auto &name : fields)
        made[name] = item.field(name);
    return made;
}

/// Reads a list to its end, or keeps it.
template <class Item>
json read_list(dbss::list<Item> list, const json &given, const std::shared_ptr<dbss::operation> &operation)
{
    const texts fields = given["fields"];
    if (given["keep"]) {
        const auto shared = std::make_shared<dbss::list<Item>>(std::move(list));
        kept[given["as"]] = {operation, nullptr, [shared](const texts &wanted) -> json {
                                 const auto page = shared->next_page();
                                 json items = json::array();
                                 for (std::size_t i = 0; page && i < page->size(); i++)
                                     items.push_back(item_json((*page)[i], wanted));
                                 return {{"items", items}, {"total", shared->total()}, {"at_end", !page}};
                             }};
        return json::object();
    }
    json items = json::array();
    for (const auto &item : list)
        items.push_back(item_json(item, fields));
    return {{"items", items}, {"total", list.total()}};
}

/// Reads so many bytes of a stream, or all; whether that was its end.
bool read(dbss::report_stream &stream, const json &size, std::size_t part, const json &into)
{
    std::ofstream file(text_of(into), std::ios::binary);
    std::vector<char> bytes(part);
    std::size_t left = size.is_null() ? SIZE_MAX : std::size_t{size}, length = 1;
    for (; left > 0 && length > 0; left -= length) {
        length = stream.read(bytes.data(), std::min(part, left));
        file.write(bytes.data(), static_cast<std::streamsize>(length));
    }
    return length == 0;
}

/// Makes a call; returns its result.
json perform(const std::string &call, const dbss::client &client, const json &given,
             const std::shared_ptr<dbss::operation> &operation)
{
    const dbss::control under = operation ? dbss::control(*operation) : dbss::control();
    const auto argument = [&](const char *name) {
        return given.contains(name) ? optional_text_of(given[name]) : std::nullopt;
    };
    const auto project = argument("project"), locale = argument("locale"), name = argument("name"),
               status = argument("status");
    const std::string instance = argument("instance").value_or(""), id = argument("id").value_or(""),
                      template_id = argument("template").value_or("");
    const dbss::report_ref report{instance, id, project, locale};
    const dbss::instance_ref of{instance, project};
    const auto page_size = given.value("page_size", std::uint32_t{0});
    const auto existing = given.value("replace", false) ? dbss::existing_file::replace : dbss::existing_file::keep;

    if (call == "check") {
        client.check_credentials(project, under);
    } else if (call == "find_credentials") {
        const auto found = client.find_credentials(under);
        const auto expires = found.expires();
        return {{"source", found.source()},
                {"description", found.description()},
                {"name", found.name()},
                {"project", found.project()},
                {"expires_ms", expires ? json(std::optional(expires->time_since_epoch())) : json()}};
    } else if (call == "set_token") {
        client.set_token(text_of(given["token"]));
    } else if (call == "download" || call == "download_to_memory") {
        const dbss::buffer bytes = client.download_report(report, under);
        std::ofstream(text_of(given["into"]), std::ios::binary) << bytes.text();
    } else if (call == "download_to_file") {
        return {
            {"path", std::optional(client.download_report_to_file(report, text_of(given["path"]), existing, under))}};
    } else if (call == "download_to_directory") {
        const std::string directory = text_of(given["directory"]);
        return {{"path", std::optional(client.download_report_to_directory(report, directory, existing, under))}};
    } else if (call == "download_to_descriptor") {
        const json target = given["open"].is_null() ? json{{"path", given["into"]}, {"mode", "w"}} : given["open"];
        const std::unique_ptr<std::FILE, int (*)(std::FILE *)> file(
            std::fopen(text_of(target["path"]).c_str(), text_of(target["mode"]).c_str()), std::fclose);
        std::fseek(file.get(), target.value("offset", 0L), SEEK_SET);
        client.download_report_to_fd(report, fileno(file.get()), under);
    } else if (call == "download_to_callback") {
        std::ofstream file(text_of(given["into"]), std::ios::binary);
        const json limit = given.value("fail_after", json());
        client.download_report_to(
            report,
            [&, written = std::size_t{0}](dbss::bytes part) mutable {
                file << part.text();
                written += part.size();
                return limit.is_null() || written < std::size_t{limit};
            },
            under);
    } else if (call == "open_report") {
        const auto stream = std::make_shared<dbss::report_stream>(client.open_report(report, under));
        json made = {{"size", stream->size()},
                     {"format", word<dbss::report_format>(stream->format(), {"", "pdf", "zip"})},
                     {"filename", stream->filename()},
                     {"content_type", stream->content_type()},
                     {"request_id", stream->request_id()}};
        if (given["keep"])
            kept[given["as"]] = {operation, stream, nullptr};
        else
            read(*stream, json(), given["read_size"], given["into"]);
        return made;
    } else if (call == "read_stream") {
        return {{"at_end", read(*kept.at(given["stream"]).stream, given["size"], 65536, given["into"])}};
    } else if (call == "close_stream") {
        kept.at(given["stream"]).stream->close();
    } else if (call == "instances") {
        return read_list(client.instances({project, page_size}, under), given, operation);
    } else if (call == "reports") {
        return read_list(client.reports(of, {name, page_size}, under), given, operation);
    } else if (call == "templates") {
        return read_list(client.templates(of, under), given, operation);
    } else if (call == "databases") {
        return read_list(client.databases(of, {status, page_size}, under), given, operation);
    } else if (call == "next_page") {
        return kept.at(given["list"]).next_page(given["fields"]);
    } else if (call == "schedule") {
        return item_json(client.show_schedule({instance, template_id, project}, under), given["fields"]);
    } else if (call == "update_schedule") {
        client.update_schedule({instance, template_id, project}, filled<dbss::schedule_changes>(given["changes"]),
                               under);
    } else if (call == "create") {
        client.create_report(of, filled<dbss::report_spec>(given["spec"]), under);
    } else if (call == "generate") {
        return {{"id", client.generate_report(of, filled<dbss::report_spec>(given["spec"]), under)}};
    } else if (call == "wait") {
        client.wait_for_report(report, under);
    } else if (call == "delete") {
        client.delete_report(report, under);
    } else if (call == "mirror") {
        const auto options = filled<dbss::mirror_options>(given["options"]);
        return mirror_json(client.mirror(text_of(given["directory"]), options, project, under));
    } else if (call == "reset") {
        operation->reset();
    } else if (call != "look") {
        throw unsupported("the call " + call);
    }
    return json::object();
}

/// Runs code, and prints the response to a request.
template <class Code> void respond(const json &request, const std::shared_ptr<dbss::operation> &operation, Code code)
{
    json response = {{"id", request["id"]}, {"status", "DBSS_OK"}};
    try {
        response["result"] = code();
    } catch (const dbss::error &error) {
        response["status"] = error.status_name();
        response["error"] = error_json(error);
        if (const auto result = error.result()) response["result"] = mirror_json(*result);
    } catch (const std::exception &error) {
        response = {{"id", request["id"]}, {"unsupported", error.what()}};
    }
    if (operation) response["operation"] = operation_json(*operation);
    put(response);
}

/// The operation of a call, as the request wants it.
std::shared_ptr<dbss::operation> operation_of(const json &request)
{
    const json &wanted = request["operation"];
    const json &given = request["arguments"];
    const int id = request["id"];
    for (const char *name : {"stream", "list"})
        if (given.contains(name)) return operations[id] = kept.at(given[name]).operation;
    if (wanted.is_null() && !request["background"]) return nullptr;
    const auto before = wanted.is_null() || wanted["of"].is_null() ? operations.end() : operations.find(wanted["of"]);
    return operations[id] = before == operations.end() ? std::make_shared<dbss::operation>() : before->second;
}

void prepare(dbss::operation &operation, const json &wanted, int id)
{
    for (const auto &pair : wanted["settings"])
        operation.set(text_of(pair[0]), text_of(pair[1]));
    if (!wanted["progress"].is_null()) {
        const std::int64_t limit =
            wanted["progress"].is_object() ? wanted["progress"].value("stop_after", INT64_MAX) : INT64_MAX;
        operation.on_progress([=](const dbss::progress &at) {
            put({{"event", "progress"},
                 {"of", id},
                 {"received", at.received()},
                 {"total", at.total()},
                 {"percent", at.percent()}});
            return at.received() < limit;
        });
    }
    if (wanted["cancelled"]) operation.cancel();
}

void serve(const json &request, std::vector<std::thread> &threads)
{
    const std::string what = request["do"], name = request.value("client", "");
    if (what == "call") {
        const auto operation = operation_of(request);
        const auto client = clients.count(name) == 0 ? nullptr : clients[name];
        const auto run = [=] {
            respond(request, operation, [&] {
                if (!request["operation"].is_null()) prepare(*operation, request["operation"], request["id"]);
                return perform(request["call"], *client, request["arguments"], operation);
            });
        };
        if (request["background"])
            threads.emplace_back(run);
        else
            run();
        return;
    }
    respond(request, nullptr, [&]() -> json {
        if (what == "configure")
            configure(request);
        else if (what == "cancel")
            operations.at(request["of"])->cancel();
        else if (what == "answer")
            answer_held(request["answer"]);
        else if (what == "cancel_all")
            clients.at(name)->cancel_all();
        else if (what == "close")
            clients.at(name)->close();
        else if (what == "free")
            clients.erase(name);
        else
            throw unsupported("to " + what);
        return json::object();
    });
}

} // namespace

int main()
{
    std::vector<std::thread> threads;
    for (std::string line; std::getline(std::cin, line);)
        serve(json::parse(line), threads);
    for (const auto &[name, client] : clients)
        client->close();
    for (auto &thread : threads)
        thread.join();
}
