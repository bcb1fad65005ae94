/* A C++ program that uses an installed libdbss. */

#include <dbss.h>
#include <iostream>
#include <memory>

int main()
{
    dbss_config *config = nullptr;
    if (dbss_config_new(&config) != DBSS_OK) return 1;
    const std::unique_ptr<dbss_config, decltype(&dbss_config_free)> owner(config, dbss_config_free);
    std::cout << dbss_version() << std::endl;
    return dbss_config_set(config, "no_such_option", "") == DBSS_OK;
}
