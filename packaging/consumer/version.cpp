// A C++ program that uses an installed libdbss.

#include <dbss.hpp>

#include <iostream>

int main()
{
    try {
        dbss::config().set("no_such_option", "");
    } catch (const dbss::error &) {
        std::cout << dbss::version() << std::endl;
        return 0;
    }
    return 1;
}
