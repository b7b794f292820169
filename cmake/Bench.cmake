# Each bench/*.c becomes a program in BUILD/bench, for the scripts there. Built always, lest it rot.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bench/*.c)
add_custom_target(bench_programs)
if(NOT STARLANE_FUZZ AND NOT STARLANE_SANITIZE)
    foreach(source IN LISTS sources)
        get_filename_component(name ${source} NAME_WE)
        add_executable(bench_${name} ${source})
        set_target_properties(bench_${name} PROPERTIES OUTPUT_NAME ${name}
            RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
        add_dependencies(bench_programs bench_${name})
        target_link_libraries(bench_${name} PRIVATE starlane_grid starlane_exec starlane_sched starlane_base)
    endforeach()
endif()
