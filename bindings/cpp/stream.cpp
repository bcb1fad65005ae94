// Writes an audit report to standard output while it arrives, such as into a pipe.
//
//     DBSS_REGION=cn-north-4 stream INSTANCE REPORT | sha256sum

#include <iostream>
#include <vector>

#include "settings.hpp"

int main(int argc, char **argv)
try {
    if (argc != 3) {
        std::cerr << "usage: stream INSTANCE REPORT\n";
        return 2;
    }
    const dbss::client client(settings_from_environment());
    dbss::report_stream stream = client.open_report({argv[1], argv[2]});
    std::cerr << stream.filename();
    if (const auto size = stream.size()) std::cerr << ", " << *size << " bytes";
    std::cerr << '\n';
    // The end comes only if the report is complete; anything else throws.
    std::vector<char> part(std::size_t{256} * 1024);
    while (const std::size_t length = stream.read(part.data(), part.size()))
        std::cout.write(part.data(), static_cast<std::streamsize>(length));
    if (!std::cout.flush()) throw std::ios_base::failure("standard output did not take the report");
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
