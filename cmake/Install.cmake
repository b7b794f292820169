# bin/starlane, lib/starlane/ (ggml and its plug-ins, unless they are the system's),
# share/starlane/models/.
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
    install(FILES ${CMAKE_SOURCE_DIR}/models/starling.gguf DESTINATION share/starlane/models)
endif()
