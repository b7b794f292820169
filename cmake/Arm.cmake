# The program of tests/arm, built for arm64 by Debian's cross compiler where there is one: the
# kernels for Arm and what they stand on. STARLANE_ARM_PROGRAM and STARLANE_ARM_EMULATOR are empty
# where it cannot be built or run.
set(STARLANE_ARM_PROGRAM "")
find_program(STARLANE_ARM_COMPILER aarch64-linux-gnu-gcc)
find_program(STARLANE_ARM_EMULATOR NAMES qemu-aarch64 qemu-aarch64-static)
set(arm_libc "")
if(STARLANE_ARM_COMPILER)
    # The whole path, where the library is there.
    execute_process(COMMAND ${STARLANE_ARM_COMPILER} -print-file-name=libc.a
        OUTPUT_VARIABLE arm_libc OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(NOT STARLANE_ARM_EMULATOR)
    set(STARLANE_ARM_EMULATOR "")
endif()
if(NOT IS_ABSOLUTE "${arm_libc}")
    return()
endif()

set(arm_sources src/base/clock.c src/base/cpu.c src/base/cpu_amx.c src/base/rng.c
    src/exec/llm/qmat.c src/exec/llm/qmat_pack.c
    src/exec/llm/qmat_kernel_generic.c tests/support/prop.c tests/support/qmat_blocks.c
    tests/support/qmat_check.c tests/arm/qmat_arm.c)
foreach(isa IN LISTS STARLANE_ARM_KERNELS)
    list(APPEND arm_sources src/exec/llm/qmat_kernel_${isa}.c)
endforeach()
get_target_property(arm_options starlane_options INTERFACE_COMPILE_OPTIONS)
list(FILTER arm_options INCLUDE REGEX "^-W")
set(arm_options -std=c17 -D_GNU_SOURCE -I${CMAKE_SOURCE_DIR}/src -I${CMAKE_SOURCE_DIR}/tests
    ${arm_options} -Werror -O2 -g)
set(arm_folder ${CMAKE_BINARY_DIR}/tests/arm)
set(arm_objects "")
foreach(source IN LISTS arm_sources)
    get_filename_component(name ${source} NAME_WE)
    set(flags "")
    if(name MATCHES "_kernel_([a-z0-9]+)$")
        string(TOUPPER ${CMAKE_MATCH_1} isa)
        # The cross compiler is a gcc whatever the other one is.
        set(flags ${STARLANE_${isa}_FLAGS})
        list(FILTER flags INCLUDE REGEX "^-m")
        list(PREPEND flags -O3 -ffp-contract=fast ${STARLANE_ARM_GCC_FLAGS})
    endif()
    set(object ${arm_folder}/${name}.o)
    add_custom_command(OUTPUT ${object}
        COMMAND ${STARLANE_ARM_COMPILER} ${arm_options} ${flags} -MD -MF ${object}.d -c
            ${CMAKE_SOURCE_DIR}/${source} -o ${object}
        DEPENDS ${CMAKE_SOURCE_DIR}/${source} DEPFILE ${object}.d
        COMMENT "Building ${source} for arm64" VERBATIM)
    list(APPEND arm_objects ${object})
endforeach()
set(STARLANE_ARM_PROGRAM ${arm_folder}/qmat_arm)
file(MAKE_DIRECTORY ${arm_folder})
add_custom_command(OUTPUT ${STARLANE_ARM_PROGRAM}
    COMMAND ${STARLANE_ARM_COMPILER} -static ${arm_objects} -lm -o ${STARLANE_ARM_PROGRAM}
    DEPENDS ${arm_objects} COMMENT "Linking tests/arm/qmat_arm for arm64" VERBATIM)
add_custom_target(qmat_arm DEPENDS ${STARLANE_ARM_PROGRAM})
