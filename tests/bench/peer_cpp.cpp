// libdbss through its C++ header.

#include <dbss.hpp>

#include <optional>

extern "C" {
#include "peer.h"
}

const char *const peer_name = "libdbss in C++";

static struct setup settings;
static std::optional<dbss::client> client;

// Runs a function, and ends the program at an exception.
template <class Function> static auto run(Function function) noexcept
{
    try {
        return function();
    } catch (const std::exception &error) {
        fatal("%s", error.what());
        std::abort();
    }
}

void peer_open(const struct setup *setup)
{
    settings = *setup;
    run([] {
        dbss::config config;
        config.endpoint(settings.endpoint).token(settings.token).max_memory_bytes(std::int64_t{1} << 31);
        if (settings.ca_file != nullptr)
            config.ca_file(settings.ca_file);
        client.emplace(config);
    });
}

void peer_close()
{
    client.reset();
}

void *peer_thread_open()
{
    return nullptr;
}

void peer_thread_close(void *) {}

size_t peer_download(void *, const char *id, enum sink sink, const char *path)
{
    return run([=] {
        const dbss::report_ref report{settings.instance, id, settings.project, "en-us"};
        std::size_t bytes = 0;
        switch (sink) {
        case TO_MEMORY:
            bytes = client->download_report(report).size();
            break;
        case TO_CALLBACK:
            client->download_report_to(report, [&bytes](dbss::bytes chunk) {
                first_byte();
                bytes += chunk.size();
            });
            break;
        case TO_FILE: {
            dbss::operation operation;
            client->download_report_to_file(report, path, dbss::existing_file::replace, operation);
            bytes = static_cast<std::size_t>(operation.received());
            break;
        }
        }
        return bytes;
    });
}
