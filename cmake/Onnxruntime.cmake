# Provides ONNX Runtime's shared library, which is loaded at run time and never linked:
#   STARLANE_ONNXRUNTIME_LIB   the file; empty where there is none, which is no reason not to build
#   STARLANE_ONNXRUNTIME_OWN   true when it is ours to install (not the system's)
set(STARLANE_ONNXRUNTIME_LIB "")
set(STARLANE_ONNXRUNTIME_OWN FALSE)
execute_process(COMMAND ${CMAKE_COMMAND} -E env SYSTEM_ONNXRUNTIME=${STARLANE_SYSTEM_ONNXRUNTIME}
                        ${CMAKE_SOURCE_DIR}/scripts/onnxruntime.sh
                RESULT_VARIABLE failed)
set(file ${CMAKE_SOURCE_DIR}/.deps/onnxruntime/lib/libonnxruntime.so)
if(NOT failed AND EXISTS ${file})
    file(REAL_PATH ${CMAKE_SOURCE_DIR}/.deps/onnxruntime directory)
    set(STARLANE_ONNXRUNTIME_LIB ${directory}/lib/libonnxruntime.so)
    if(NOT IS_SYMLINK ${STARLANE_ONNXRUNTIME_LIB})
        set(STARLANE_ONNXRUNTIME_OWN TRUE)
    endif()
else()
    message(WARNING "no ONNX Runtime (see above): ONNX models will not run until one is there")
endif()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    ${CMAKE_SOURCE_DIR}/deps/onnxruntime/pin.sh)
