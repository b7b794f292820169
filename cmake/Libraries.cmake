# System libraries as targets starlane::NAME. Debian has no CMake packages for most of them, so they
# are found by header and library.
find_package(Threads REQUIRED)

# starlane_library(NAME header library debian-package [OPTIONAL])
function(starlane_library name header library package)
    find_path(${name}_INCLUDE_DIR ${header})
    find_library(${name}_LIBRARY ${library})
    mark_as_advanced(${name}_INCLUDE_DIR ${name}_LIBRARY)
    if(${name}_INCLUDE_DIR AND ${name}_LIBRARY)
        add_library(starlane::${name} UNKNOWN IMPORTED)
        set_target_properties(starlane::${name} PROPERTIES
            IMPORTED_LOCATION ${${name}_LIBRARY}
            INTERFACE_INCLUDE_DIRECTORIES ${${name}_INCLUDE_DIR})
    elseif(NOT "OPTIONAL" IN_LIST ARGN)
        message(FATAL_ERROR "${header} not found: install ${package}, or run scripts/deps.sh build")
    endif()
endfunction()

starlane_library(pcre2 pcre2.h pcre2-8 libpcre2-dev)
starlane_library(xxhash xxhash.h xxhash libxxhash-dev)
starlane_library(edit histedit.h edit libedit-dev)
# Only the tests use these two; without them the tests are not built.
starlane_library(cmocka cmocka.h cmocka libcmocka-dev OPTIONAL)
starlane_library(jansson jansson.h jansson libjansson-dev OPTIONAL)
