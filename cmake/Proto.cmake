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
# What gRPC clients may ask about at run time (src/access/grpc_reflection.c): the descriptors of the
# services' files as one array of bytes.
set(service_protos grpc_health grpc_reflection grpc_reflection_v1alpha open_inference)
list(TRANSFORM service_protos PREPEND proto/)
list(TRANSFORM service_protos APPEND .proto)
set(descriptors ${CMAKE_BINARY_DIR}/generated/grpc_descriptors)
add_custom_command(OUTPUT ${descriptors}.c
    COMMAND ${STARLANE_PROTOC_C} --proto_path=${CMAKE_SOURCE_DIR}
        --descriptor_set_out=${descriptors}.bin ${service_protos}
    COMMAND ${CMAKE_COMMAND} -DIN=${descriptors}.bin -DOUT=${descriptors}.c
        -DNAME=grpc_descriptors -P ${CMAKE_SOURCE_DIR}/cmake/Embed.cmake
    DEPENDS ${protos} ${CMAKE_SOURCE_DIR}/cmake/Embed.cmake
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} VERBATIM)
list(APPEND generated ${descriptors}.c)

if(generated)
    add_library(starlane_proto STATIC ${generated})
    target_include_directories(starlane_proto SYSTEM PUBLIC ${CMAKE_BINARY_DIR}/generated)
    target_link_libraries(starlane_proto PUBLIC starlane::protobuf_c)
else()
    add_library(starlane_proto INTERFACE)
endif()
