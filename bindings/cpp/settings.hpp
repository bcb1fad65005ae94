// What the samples share: a configuration from the environment.

#ifndef SETTINGS_HPP
#define SETTINGS_HPP

#include <cstdlib>
#include <utility>

#include <dbss.hpp>

/// Credentials as the official SDKs find them, and what the environment says instead.
inline dbss::config settings_from_environment()
{
    constexpr std::pair<const char *, const char *> variables[] = {
        {"token", "DBSS_TOKEN"},           {"region", "DBSS_REGION"},   {"endpoint", "DBSS_ENDPOINT"},
        {"project_id", "DBSS_PROJECT_ID"}, {"ca_file", "DBSS_CA_FILE"},
    };
    dbss::config config;
    config.credentials("default");
    for (const auto &[key, variable] : variables)
        if (const char *value = std::getenv(variable); value != nullptr && *value != '\0') config.set(key, value);
    return config;
}

#endif // SETTINGS_HPP
