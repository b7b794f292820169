# Finds or builds ggml: targets ggml::ggml and ggml::ggml-base, and
#   STARLANE_GGML_DIR          folder of our own build; empty for a system ggml
#   STARLANE_BACKEND_DIR       folder of its plug-ins; empty for a system ggml, which has its own
# An older system ggml lacks operations we use, so AUTO passes by anything below the version
# we are tested with.
set(GGML_VERSION_TESTED 0.25)

set(STARLANE_GGML_DIR "")
set(STARLANE_BACKEND_DIR "")
if(STARLANE_SANITIZE MATCHES "thread")
    set(flavour --tsan)
    set(link ggml-tsan)
else()
    set(link ggml)
    if(STARLANE_SYSTEM_GGML STREQUAL "AUTO" AND NOT STARLANE_GPU)
        find_package(ggml ${GGML_VERSION_TESTED} CONFIG QUIET)
    elseif(STARLANE_SYSTEM_GGML)
        find_package(ggml CONFIG REQUIRED)
    endif()
endif()

if(ggml_FOUND)
    message(STATUS "ggml ${ggml_VERSION} of the system: ${ggml_DIR}")
else()
    if(STARLANE_GPU)
        string(APPEND link -${STARLANE_GPU})
    endif()
    set(script ${CMAKE_SOURCE_DIR}/scripts/ggml.sh)
    execute_process(COMMAND ${CMAKE_COMMAND} -E env GPU=${STARLANE_GPU} ${script} ${flavour}
                    RESULT_VARIABLE failed)
    if(failed)
        message(FATAL_ERROR "scripts/ggml.sh failed; see above")
    endif()
    # The real path carries the build's key, so whatever changes ggml also recompiles what was built
    # on it.
    file(REAL_PATH ${CMAKE_SOURCE_DIR}/.deps/${link} STARLANE_GGML_DIR)
    set(STARLANE_BACKEND_DIR ${STARLANE_GGML_DIR}/lib)
    set(ggml_DIR ${STARLANE_GGML_DIR}/lib/cmake/ggml)
    find_package(ggml CONFIG REQUIRED)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
        ${CMAKE_SOURCE_DIR}/deps/ggml/pin.sh ${CMAKE_SOURCE_DIR}/deps/ggml/CMakeLists.txt)
endif()
