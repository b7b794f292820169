#include "access/grpc.h"
#include "base/mem.h"
#include <protobuf-c/protobuf-c.h>
#include <stdio.h>

#define REPLY_MAX (16u << 20) /* names of a hundred thousand models */

static void *take(void *arena, size_t n)
{
    return sl_arena_alloc(arena, n);
}

static void leave(void *arena, void *p)
{
    (void)arena;
    (void)p;
}

void *grpc_unpack_to(struct sl_arena *arena, const struct ProtobufCMessageDescriptor *type,
                     const uint8_t *message, size_t n)
{
    ProtobufCAllocator allocator = {.alloc = take, .free = leave, .allocator_data = arena};
    return protobuf_c_message_unpack(type, &allocator, n, message);
}

void *grpc_unpack(struct call *call, const struct ProtobufCMessageDescriptor *type,
                  const uint8_t *message, size_t n)
{
    char text[128];
    void *unpacked = grpc_unpack_to(call_arena(call), type, message, n);
    if (unpacked) return unpacked;
    snprintf(text, sizeof text, "the message is no %s", type->name);
    call_fail(call, SL_INVALID, NULL, NULL, text);
    return NULL;
}

struct sink {
    ProtobufCBuffer base;
    struct sl_buf *out;
    sl_status status;
};

static void append(ProtobufCBuffer *base, size_t n, const uint8_t *data)
{
    struct sink *sink = (struct sink *)(void *)base;
    if (sink->status == SL_OK) sink->status = sl_buf_add(sink->out, data, n);
}

sl_status grpc_pack(struct sl_buf *out, const struct ProtobufCMessage *message)
{
    size_t mark;
    struct sink sink = {.base = {.append = append}, .out = out};
    sink.status = grpc_frame_begin(out, &mark);
    if (sink.status == SL_OK) (void)protobuf_c_message_pack_to_buffer(message, &sink.base);
    return sink.status == SL_OK ? grpc_frame_end(out, mark) : sink.status;
}

void grpc_reply(struct call *call, const struct ProtobufCMessage *message)
{
    struct sl_buf out;
    sl_buf_init(&out, REPLY_MAX);
    if (grpc_pack(&out, message) == SL_OK)
        grpc_respond(call, &out);
    else
        call_fail(call, SL_NOMEM, NULL, NULL, "the answer does not fit into memory");
    sl_buf_done(&out);
}
