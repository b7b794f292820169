# One static library for each floor that has sources: starlane_base, starlane_exec, starlane_cli;
# and the executable.
# A floor's library links the floors below it and the third parties it alone may include
# (deps/layers.txt).

# starlane_floor(NAME SUBFOLDERS <folder>... LINKS <target>...)
function(starlane_floor name)
    cmake_parse_arguments(floor "" "" "SUBFOLDERS;LINKS" ${ARGN})
    set(folder ${CMAKE_SOURCE_DIR}/src/${name})
    set(patterns ${folder}/*.c)
    foreach(sub IN LISTS floor_SUBFOLDERS)
        list(APPEND patterns ${folder}/${sub}/*.c)
    endforeach()
    file(GLOB sources CONFIGURE_DEPENDS ${patterns})
    list(REMOVE_ITEM sources ${folder}/main.c)
    starlane_kernel_sources(sources)
    if(sources)
        add_library(starlane_${name} STATIC ${sources})
        target_link_libraries(starlane_${name} PUBLIC starlane_options ${floor_LINKS})
    else()
        add_library(starlane_${name} INTERFACE)
        target_link_libraries(starlane_${name} INTERFACE starlane_options ${floor_LINKS})
    endif()
endfunction()

# Files named *_kernel_ISA.c hold kernels that are called only after asking the CPU. They are
# compiled for it, and left out where ISA is not the processor's (CompileOptions.cmake: its flags).
function(starlane_kernel_sources list_name)
    set(kept ${${list_name}})
    foreach(source IN LISTS kept)
        if(NOT source MATCHES "_kernel_([a-z0-9]+)\\.c$")
            continue()
        endif()
        set(isa ${CMAKE_MATCH_1})
        if(isa IN_LIST STARLANE_ARM_KERNELS)
            set(runs_here ${STARLANE_ARM64})
        else()
            set(runs_here ${STARLANE_X86})
        endif()
        if(isa STREQUAL "generic" OR runs_here)
            string(TOUPPER ${isa} isa)
            set_source_files_properties(${source} PROPERTIES
                COMPILE_OPTIONS "${STARLANE_KERNEL_FLAGS};${STARLANE_${isa}_FLAGS}")
        else()
            list(REMOVE_ITEM ${list_name} ${source})
        endif()
    endforeach()
    set(${list_name} ${${list_name}} PARENT_SCOPE)
endfunction()

starlane_floor(base LINKS starlane::xxhash starlane::jansson Threads::Threads m)
starlane_floor(net LINKS starlane_base starlane::event starlane::event_ssl starlane::ssl
    starlane::crypto starlane::curl starlane::nghttp2)
starlane_floor(sched LINKS starlane_base)
starlane_floor(exec SUBFOLDERS llm chat echo onnx vision text LINKS starlane_proto starlane_net starlane_base
    starlane::pcre2 starlane::turbojpeg starlane::png ggml::ggml ggml::ggml-base ${CMAKE_DL_LIBS})
starlane_floor(grid LINKS starlane_exec starlane_sched starlane_net starlane_base starlane::sqlite
    starlane::nats starlane::crypto)
starlane_floor(access LINKS starlane_grid starlane_exec starlane_sched starlane_net starlane_base
    starlane::crypto)
starlane_floor(cli LINKS starlane_access starlane_grid starlane_exec starlane_sched starlane_net
    starlane_base starlane::edit starlane::cyaml)
foreach(floor exec grid access cli)
    get_target_property(type starlane_${floor} TYPE)
    if(type STREQUAL "STATIC_LIBRARY")
        # Where things lie in the build tree. Installed, they are found relative to the executable:
        # see cmake/Install.cmake.
        target_compile_definitions(starlane_${floor} PRIVATE
            STARLANE_BACKEND_DIR="${STARLANE_BACKEND_DIR}"
            STARLANE_ONNXRUNTIME_LIB="${STARLANE_ONNXRUNTIME_LIB}"
            STARLANE_MODEL_DIR="${CMAKE_SOURCE_DIR}/models"
            STARLANE_VERSION="${PROJECT_VERSION}")
    endif()
endforeach()

if(EXISTS ${CMAKE_SOURCE_DIR}/src/cli/main.c AND NOT STARLANE_FUZZ)
    add_executable(starlane ${CMAKE_SOURCE_DIR}/src/cli/main.c)
    target_link_libraries(starlane PRIVATE starlane_cli)
    target_compile_definitions(starlane PRIVATE STARLANE_VERSION="${PROJECT_VERSION}")
    set_target_properties(starlane PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
endif()
