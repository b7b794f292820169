# The messages of proto/*.proto as C: proto/NAME.pb-c.h and the library starlane_proto.
file(GLOB protos CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/proto/*.proto)
set(generated)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/generated/proto)
foreach(proto IN LISTS protos)
    get_filename_component(name ${proto} NAME_WE)
    set(out ${CMAKE_BINARY_DIR}/generated/proto/${name}.pb-c)
    add_custom_command(OUTPUT ${out}.c ${out}.h
        COMMAND ${STARLANE_PROTOC_C} --proto_path=${CMAKE_SOURCE_DIR}
            --c_out=${CMAKE_BINARY_DIR}/generated proto/${name}.proto
        DEPENDS ${proto} VERBATIM)
    list(APPEND generated ${out}.c ${out}.h)
endforeach()
if(generated)
    add_library(starlane_proto STATIC ${generated})
    target_include_directories(starlane_proto SYSTEM PUBLIC ${CMAKE_BINARY_DIR}/generated)
    target_link_libraries(starlane_proto PUBLIC starlane::protobuf_c)
else()
    add_library(starlane_proto INTERFACE)
endif()
