# bin/starlane, lib/starlane/ (ggml with its plug-ins, and ONNX Runtime, unless they are the
# system's), share/starlane/models/.
# The executable finds the other two relative to itself, so the prefix may be moved as a whole.
if(TARGET starlane)
    set_target_properties(starlane PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/starlane")
    install(TARGETS starlane RUNTIME DESTINATION bin)
    if(STARLANE_GGML_DIR)
        install(DIRECTORY ${STARLANE_GGML_DIR}/lib/ DESTINATION lib/starlane
                FILES_MATCHING PATTERN "*.so*" PATTERN "cmake" EXCLUDE)
        install(FILES ${STARLANE_GGML_DIR}/LICENSE
                DESTINATION share/doc/starlane RENAME LICENSE.ggml)
    endif()
    if(STARLANE_ONNXRUNTIME_OWN)
        install(FILES ${STARLANE_ONNXRUNTIME_LIB} DESTINATION lib/starlane)
        install(FILES ${CMAKE_SOURCE_DIR}/deps/onnxruntime/LICENSE
                DESTINATION share/doc/starlane RENAME LICENSE.onnxruntime)
    endif()
    install(FILES ${CMAKE_SOURCE_DIR}/models/starling.gguf DESTINATION share/starlane/models)
endif()
