// Has the service generate an audit report, waits for it, and saves it.
//
//     DBSS_REGION=cn-north-4 generate INSTANCE TEMPLATE START-TIME END-TIME FILE
//
// A time is such as "2026-11-23 00:00:00".

#include <iostream>

#include "settings.hpp"

int main(int argc, char **argv)
{
    if (argc != 6) {
        std::cerr << "usage: generate INSTANCE TEMPLATE START-TIME END-TIME FILE\n";
        return 2;
    }
    std::string id;
    try {
        const dbss::client client(settings_from_environment());
        dbss::operation operation;
        operation.on_progress([shown = -1](const dbss::progress &at) mutable {
            if (const int percent = at.percent().value_or(-1); percent > shown)
                std::cerr << "generated " << (shown = percent) << "%\n";
        });
        dbss::report_spec spec;
        spec.template_id(argv[2]).start_time(argv[3]).end_time(argv[4]);
        id = client.generate_report({argv[1]}, spec, operation);
        client.download_report_to_file({argv[1], id}, argv[5]);
        std::cout << "saved " << id << " as " << argv[5] << '\n';
    } catch (const std::exception &error) {
        // With the id of the report, if it was generated but not saved.
        std::cerr << id << (id.empty() ? "" : ": ") << error.what() << '\n';
        return 1;
    }
}
