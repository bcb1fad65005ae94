# A port of the archives of make dist, as an overlay:
#
#     DBSS_ARCHIVES=$PWD/build/dist/files vcpkg install dbss --overlay-ports=packaging/vcpkg
#
# DBSS_ARCHIVES is the directory with the archives and SHA256SUMS. vcpkg passes it on only if
# VCPKG_KEEP_ENV_VARS=DBSS_ARCHIVES is set too.

# The library needs no other one of vcpkg's, and so no path to them.
set(VCPKG_FIXUP_ELF_RPATH OFF)
set(processor_x64 x86_64)
set(processor_arm64 aarch64)
set(archive "dbss-${VERSION}-linux-${processor_${VCPKG_TARGET_ARCHITECTURE}}-glibc.tar.gz")
if(NOT EXISTS "$ENV{DBSS_ARCHIVES}/${archive}")
    message(FATAL_ERROR "$ENV{DBSS_ARCHIVES}/${archive} does not exist; set DBSS_ARCHIVES to its "
        "directory, and VCPKG_KEEP_ENV_VARS=DBSS_ARCHIVES")
endif()
file(STRINGS "$ENV{DBSS_ARCHIVES}/SHA256SUMS" sum REGEX "  ${archive}$")
string(REGEX REPLACE " .*" "" wanted "${sum}")
file(SHA256 "$ENV{DBSS_ARCHIVES}/${archive}" found)
if(NOT wanted STREQUAL found)
    message(FATAL_ERROR "${archive} is not the file of SHA256SUMS")
endif()
vcpkg_extract_source_archive(source ARCHIVE "$ENV{DBSS_ARCHIVES}/${archive}")

file(INSTALL "${source}/include/dbss.h" "${source}/include/dbss.hpp" "${source}/include/dbss_raw.hpp"
    DESTINATION "${CURRENT_PACKAGES_DIR}/include")
if(VCPKG_LIBRARY_LINKAGE STREQUAL "static")
    set(pattern "${source}/lib/libdbss.a")
    set(DBSS_TARGET dbss::static)
else()
    set(DBSS_TARGET dbss::dbss)
    set(pattern "${source}/lib/libdbss.so*")
endif()
file(GLOB libraries "${pattern}")
# Release and debug programs use the same library.
foreach(lib lib debug/lib)
    file(INSTALL ${libraries} DESTINATION "${CURRENT_PACKAGES_DIR}/${lib}")
    file(INSTALL "${source}/lib/pkgconfig" DESTINATION "${CURRENT_PACKAGES_DIR}/${lib}")
endforeach()
file(INSTALL "${source}/lib/cmake/dbss/" DESTINATION "${CURRENT_PACKAGES_DIR}/share/dbss")
vcpkg_replace_string("${CURRENT_PACKAGES_DIR}/share/dbss/dbssConfig.cmake" "/../../..\"" "/../..\"")
file(INSTALL "${source}/share/doc/dbss/libdbss.cdx.json" DESTINATION "${CURRENT_PACKAGES_DIR}/share/dbss")
configure_file("${CMAKE_CURRENT_LIST_DIR}/usage" "${CURRENT_PACKAGES_DIR}/share/dbss/usage" @ONLY)
vcpkg_fixup_pkgconfig()
vcpkg_install_copyright(FILE_LIST
    "${source}/share/doc/dbss/LICENSE" "${source}/share/doc/dbss/THIRD-PARTY-LICENSES")
