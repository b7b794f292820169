# starlane_options: how every one of our own sources is compiled and linked. Nothing here applies to
# third parties.
include(GNUInstallDirs)
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)

add_library(starlane_options INTERFACE)
target_compile_definitions(starlane_options INTERFACE _GNU_SOURCE)
target_include_directories(starlane_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(starlane_options INTERFACE
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef -Wvla
    -Wformat=2
    $<$<BOOL:${STARLANE_WERROR}>:-Werror>)

# A binary built here runs on any x86-64-v2 (2009) or arm64 machine; faster kernels are chosen at
# run time.
string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
if(processor MATCHES "^(x86_64|amd64)$")
    set(STARLANE_X86 ON)
    target_compile_options(starlane_options INTERFACE -march=x86-64-v2)
else()
    set(STARLANE_X86 OFF)
endif()
if(processor MATCHES "^(aarch64|arm64)$")
    set(STARLANE_ARM64 ON)
else()
    set(STARLANE_ARM64 OFF)
endif()
# Kernels want fused multiply-add and full unrolling; everything else keeps C's own arithmetic.
set(STARLANE_KERNEL_FLAGS -O3 -ffp-contract=fast)
set(STARLANE_AVX2_FLAGS -mavx2 -mfma -mf16c)
set(STARLANE_AVX512_FLAGS -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c)
set(STARLANE_AVXVNNI_FLAGS ${STARLANE_AVX2_FLAGS} -mavxvnni)
set(STARLANE_AVX512VNNI_FLAGS ${STARLANE_AVX512_FLAGS} -mavx2 -mavx512vnni)
set(STARLANE_AMX_FLAGS ${STARLANE_AVX512VNNI_FLAGS}) # tiles by inline assembler
set(STARLANE_ARM_KERNELS dotprod i8mm sve)
# gcc's first scheduling loads so far ahead that a tile's sums no longer fit into the registers.
set(STARLANE_ARM_GCC_FLAGS -fno-schedule-insns)
set(arm_flags $<$<C_COMPILER_ID:GNU>:${STARLANE_ARM_GCC_FLAGS}>)
set(STARLANE_DOTPROD_FLAGS -march=armv8.2-a+dotprod ${arm_flags})
set(STARLANE_I8MM_FLAGS -march=armv8.2-a+dotprod+i8mm ${arm_flags})
set(STARLANE_SVE_FLAGS -march=armv8.2-a+sve ${arm_flags})

if(STARLANE_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "STARLANE_FUZZ needs clang (-DCMAKE_C_COMPILER=clang)")
    endif()
    set(instrument -fsanitize=fuzzer-no-link,address,undefined)
elseif(STARLANE_SANITIZE)
    set(instrument -fsanitize=${STARLANE_SANITIZE})
endif()
if(instrument)
    list(APPEND instrument -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_compile_options(starlane_options INTERFACE ${instrument} -O1)
    target_link_options(starlane_options INTERFACE ${instrument})
    # Instrumented and unrolled, the kernels would take minutes to compile.
    set(STARLANE_KERNEL_FLAGS -O1 -ffp-contract=fast)
    if(STARLANE_SANITIZE MATCHES "address" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
        # gcc's frames that catch a use after return are not aligned for 64-byte vectors (gcc bug
        # 110027): a kernel would fault.
        list(APPEND STARLANE_KERNEL_FLAGS --param=asan-use-after-return=0)
    endif()
else()
    target_compile_options(starlane_options INTERFACE -fstack-protector-strong -D_FORTIFY_SOURCE=2)
endif()
