// Downloads an audit report into a directory, under the report's own name.
//
//     DBSS_REGION=cn-north-4 download INSTANCE REPORT DIRECTORY
//
// Ctrl-C cancels the download. No partial file is ever left.

#include <csignal>
#include <iostream>

#include "settings.hpp"

static dbss::operation *running = nullptr;

static void cancel(int)
{
    running->cancel(); // safe in a signal handler
}

int main(int argc, char **argv)
try {
    if (argc != 4) {
        std::cerr << "usage: download INSTANCE REPORT DIRECTORY\n";
        return 2;
    }
    const dbss::client client(settings_from_environment());
    dbss::operation operation;
    operation.on_progress([](const dbss::progress &at) {
        std::cerr << '\r' << at.received();
        if (const auto total = at.total()) std::cerr << " of " << *total;
        std::cerr << " bytes ";
    });
    running = &operation;
    std::signal(SIGINT, cancel);
    const auto path = client.download_report_to_directory({argv[1], argv[2]}, argv[3], operation);
    std::signal(SIGINT, SIG_DFL);
    std::cerr << '\n';
    std::cout << "saved " << path.string() << '\n';
} catch (const dbss::error &error) {
    std::cerr << error.status_name() << ": " << error.what() << '\n';
    for (const auto &detail : error.details())
        std::cerr << "  " << detail.code.value_or("") << ": " << detail.message.value_or("") << '\n';
    return 1;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
