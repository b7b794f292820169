/* grpc_reflection.h: gRPC Server Reflection, versions 1 and 1alpha, whose messages are the same
 * (proto/grpc_reflection.proto). What it tells are the descriptors of our own .proto files, which
 * the build puts into the program.
 * Source: grpc/doc/server-reflection.md; google/protobuf/descriptor.proto.
 * Floor: access.  Thread: the loop's.  Allocates: with the message. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct call;

/* Of all services, by full name; ends in NULL. */
extern const char *const GRPC_SERVICES[];

/* ServerReflectionInfo: answers each question of the stream until the client ends it. */
void grpc_reflection_info(struct call *call);

/* A serialized FileDescriptorProto within the program. */
struct grpc_file {
    const uint8_t *bytes;
    size_t n;
};

/* The file of that name, or the one that declares the message, enum, service, method, field or
 * value of that full name; bytes NULL: there is none. */
struct grpc_file grpc_file_named(const char *name);
struct grpc_file grpc_file_declaring(const char *symbol);
