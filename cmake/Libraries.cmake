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
starlane_library(jansson jansson.h jansson libjansson-dev)
starlane_library(event event2/event.h event_core libevent-dev)
starlane_library(event_ssl event2/bufferevent_ssl.h event_openssl libevent-dev)
starlane_library(ssl openssl/ssl.h ssl libssl-dev)
starlane_library(crypto openssl/evp.h crypto libssl-dev)
starlane_library(curl curl/curl.h curl libcurl4-openssl-dev)
starlane_library(nghttp2 nghttp2/nghttp2.h nghttp2 libnghttp2-dev)
starlane_library(nats nats/nats.h nats libnats-dev)
starlane_library(sqlite sqlite3.h sqlite3 libsqlite3-dev)
starlane_library(protobuf_c protobuf-c/protobuf-c.h protobuf-c libprotobuf-c-dev)
starlane_library(turbojpeg turbojpeg.h turbojpeg libturbojpeg0-dev)
starlane_library(cyaml cyaml/cyaml.h cyaml libcyaml-dev)
starlane_library(png png.h png libpng-dev)
find_program(STARLANE_PROTOC_C protoc-c REQUIRED)
# Only the tests use it; without it the tests are not built.
starlane_library(cmocka cmocka.h cmocka libcmocka-dev OPTIONAL)
