#include "exec/wire.h"
#include "exec/wire_int.h"
#include "net/frame.h"

#define STAGE_NUMBER_BYTES 1 /* before a stage's message */

static const struct wire_codec *find_codec(unsigned type)
{
    const struct wire_codec *codec = NULL;
    if (type < WIRE_REQUESTS)
        codec = &wire_requests[type];
    else if (type >= WIRE_LOADING && type < WIRE_LOADING + WIRE_REPLIES)
        codec = &wire_replies[type - WIRE_LOADING];
    return codec && codec->name ? codec : NULL;
}

const char *wire_type_name(enum wire_type type)
{
    const struct wire_codec *codec = find_codec((unsigned)type);
    return codec ? codec->name : "?";
}

static void append(ProtobufCBuffer *base, size_t n, const uint8_t *data)
{
    struct wire_sink *sink = (struct wire_sink *)(void *)base;
    if (sink->status == SL_OK) sink->status = sl_buf_add(sink->out, data, n);
}

void wire_sink_put(struct wire_sink *sink, const ProtobufCMessage *message)
{
    (void)protobuf_c_message_pack_to_buffer(message, &sink->base);
}

sl_status wire_encode(const struct wire_msg *msg, struct sl_buf *out, struct sl_err *err)
{
    const struct wire_codec *codec = find_codec((unsigned)msg->type);
    size_t mark;
    if (!codec) return sl_err_set(err, SL_INVALID, "message type %d", (int)msg->type);
    struct wire_sink sink = {.base = {.append = append}, .out = out};
    sl_arena_init(&sink.scratch, WIRE_ARENA_BYTES_MAX);
    size_t before = out->len;
    sink.status = frame_begin(out, (uint8_t)msg->type, &mark);
    if (sink.status == SL_OK) codec->encode(msg, &sink);
    if (sink.status == SL_OK) sink.status = frame_end(out, mark, WIRE_FRAME_BYTES_MAX);
    sl_arena_done(&sink.scratch);
    if (sink.status == SL_OK) return SL_OK;
    sl_buf_truncate(out, before);
    return sl_err_set(err, sink.status, "%s message: %s", codec->name, sl_status_text(sink.status));
}

void wire_sink_put_bytes(struct wire_sink *sink, const void *bytes, size_t n)
{
    append(&sink->base, n, bytes);
}

void wire_put_stage(const struct wire_stage *in, struct wire_sink *sink)
{
    const uint8_t number[STAGE_NUMBER_BYTES] = {(uint8_t)in->stage};
    wire_sink_put_bytes(sink, number, sizeof number);
    wire_sink_put_bytes(sink, in->bytes, in->n);
}

sl_status wire_get_stage(const struct frame *frame, struct wire_stage *out, struct sl_err *err)
{
    const uint8_t *p = frame->payload;
    if (frame->n_payload < STAGE_NUMBER_BYTES || p[0] >= ENGINE_STAGES_MAX)
        return sl_err_set(err, SL_CORRUPT, "no stage's number");
    *out = (struct wire_stage){p[0], p + STAGE_NUMBER_BYTES, frame->n_payload - STAGE_NUMBER_BYTES};
    return SL_OK;
}

/* protobuf-c's allocations, taken from an arena; freed with it. */
struct arena_allocator {
    ProtobufCAllocator base;
    struct sl_arena *arena;
    bool failed;
};

static void *arena_take(void *data, size_t n)
{
    struct arena_allocator *self = data;
    void *p = sl_arena_alloc_unset(self->arena, n);
    if (!p) self->failed = true;
    return p;
}

static void arena_leave(void *data, void *p)
{
    (void)data;
    (void)p;
}

sl_status wire_unpack(const ProtobufCMessageDescriptor *descriptor, const void *bytes, size_t n,
                      struct sl_arena *arena, ProtobufCMessage **out, struct sl_err *err)
{
    struct arena_allocator allocator = {.arena = arena};
    allocator.base = (ProtobufCAllocator){
        .alloc = arena_take, .free = arena_leave, .allocator_data = &allocator};
    *out = protobuf_c_message_unpack(descriptor, &allocator.base, n, bytes);
    if (allocator.failed) return sl_err_set(err, SL_NOMEM, "no memory for its parts");
    return *out ? SL_OK : sl_err_set(err, SL_CORRUPT, "does not parse");
}

sl_status wire_decode(const struct frame *frame, struct sl_arena *arena, struct wire_msg *out,
                      struct sl_err *err)
{
    const struct wire_codec *codec = find_codec(frame->type);
    if (!codec) return sl_err_set(err, SL_CORRUPT, "message of unknown type %u", frame->type);
    ProtobufCMessage *message = NULL;
    sl_status status = SL_OK;
    *out = (struct wire_msg){.type = (enum wire_type)frame->type};
    if (codec->descriptor)
        status =
            wire_unpack(codec->descriptor, frame->payload, frame->n_payload, arena, &message, err);
    if (status == SL_OK)
        status = codec->decode(codec->descriptor ? (const void *)message : frame, arena, out, err);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, "%s message", codec->name);
}
