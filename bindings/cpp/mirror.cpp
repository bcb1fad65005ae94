// Brings a local archive of all audit reports up to date. Run it every night: it downloads
// what is new, and continues where a run was interrupted.
//
//     DBSS_REGION=cn-north-4 mirror DIRECTORY [FIRST-DAY]

#include <iostream>

#include "settings.hpp"

static void print(const dbss::mirror_result &result)
{
    std::cout << result.downloaded() << " new, " << result.present() << " already there, " << result.not_ready()
              << " not ready yet\n";
    for (const auto &failure : result.failures())
        std::cerr << "instance " << failure.instance << ", report " << failure.report.value_or("") << ": "
                  << failure.error.what() << '\n';
    for (const auto &gap : result.gaps())
        std::cout << "no " << gap.type << " for " << gap.period << '\n';
}

int main(int argc, char **argv)
try {
    if (argc != 2 && argc != 3) {
        std::cerr << "usage: mirror DIRECTORY [FIRST-DAY, such as 2026-01-01]\n";
        return 2;
    }
    dbss::config config = settings_from_environment();
    config.log_level("warning").on_log(
        [](const dbss::log_record &record) { std::cerr << "warning: " << record.message() << '\n'; });
    dbss::mirror_options options;
    if (argc == 3) options.since(argv[2]);
    print(dbss::client(config).mirror(argv[1], options));
} catch (const dbss::error &error) {
    // A result exists also when some reports failed, or the mirror ended early.
    if (const auto result = error.result()) print(*result);
    std::cerr << "mirror: " << error.what() << '\n';
    return 1;
} catch (const std::exception &error) {
    std::cerr << "mirror: " << error.what() << '\n';
    return 1;
}
