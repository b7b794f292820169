/* wire_int.h: what wire.c, wire_request.c and wire_reply.c share: a row for each message, and the
 * only way to the code that protoc-c generates.
 * Floor: exec.  Thread: the caller's.  Allocates: scratch of one message. */
#pragma once
#include "exec/wire.h"
#include <proto/worker.pb-c.h>

/* Where an encoder puts its message: a frame that has begun. */
struct wire_sink {
    ProtobufCBuffer base; /* first: protobuf-c calls us with this */
    struct sl_buf *out;
    struct sl_arena scratch; /* for arrays of sub-messages */
    sl_status status;        /* the first failure sticks */
};

void wire_sink_put(struct wire_sink *sink, const ProtobufCMessage *message);

struct wire_codec {
    const char *name; /* NULL: no such type */
    const ProtobufCMessageDescriptor *descriptor;
    /* Builds the generated struct and puts it. */
    void (*encode)(const struct wire_msg *msg, struct wire_sink *sink);
    /* Copies pointers, not what they point to; checks every value. CORRUPT, NOMEM. */
    sl_status (*decode)(const void *message, struct sl_arena *arena, struct wire_msg *out,
                        struct sl_err *err);
};

#define WIRE_REQUESTS 10 /* by enum wire_type; 0 is none */
#define WIRE_REPLIES 5   /* from WIRE_LOADING on */
extern const struct wire_codec wire_requests[WIRE_REQUESTS];
extern const struct wire_codec wire_replies[WIRE_REPLIES];

/* --- wire_tensors.c --- */

/* Arrays of generated structs in `scratch`, which borrow names, shapes and data. NOMEM. */
SL_CHECK sl_status wire_put_tensors(const struct tensor *in, size_t n, struct sl_arena *scratch,
                                    Starlane__Worker__Tensor ***out);
/* Checked as tensor_check does; data is borrowed. CORRUPT, NOMEM. */
SL_CHECK sl_status wire_get_tensors(Starlane__Worker__Tensor *const *in, size_t n,
                                    struct sl_arena *arena, const struct tensor **out,
                                    struct sl_err *err);
SL_CHECK sl_status wire_put_specs(const struct tensor_spec *in, size_t n, struct sl_arena *scratch,
                                  Starlane__Worker__TensorSpec ***out);
SL_CHECK sl_status wire_get_specs(Starlane__Worker__TensorSpec *const *in, size_t n,
                                  struct sl_arena *arena, const struct tensor_spec **out,
                                  struct sl_err *err);

/* The bytes of an optional text; NULL and 0 alike become none. */
static inline ProtobufCBinaryData wire_bytes(const char *text, size_t n)
{
    /* The library's struct is not const, though packing only reads. */
    union {
        const char *in;
        uint8_t *out;
    } cast = {.in = text};
    return (ProtobufCBinaryData){.len = text ? n : 0, .data = cast.out};
}

/* The same for strings and arrays that generated structs hold without const. */
static inline char *wire_string(const char *s)
{
    union {
        const char *in;
        char *out;
    } cast = {.in = s ? s : ""};
    return cast.out;
}

static inline int32_t *wire_ints(const int32_t *v)
{
    union {
        const int32_t *in;
        int32_t *out;
    } cast = {.in = v};
    return cast.out;
}
