/* wire_int.h: what wire.c, wire_request.c and wire_reply.c share: a row for each message, and the
 * only way to the code that protoc-c generates; and the conversions of those parts that messages
 * between machines have too (src/grid/grid_msg_int.h).
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
void wire_sink_put_bytes(struct wire_sink *sink, const void *bytes, size_t n);

struct wire_codec {
    const char *name; /* NULL: no such type */
    /* NULL: no protobuf; encode puts bytes, and decode is given the frame as its message */
    const ProtobufCMessageDescriptor *descriptor;
    /* Builds the generated struct and puts it. */
    void (*encode)(const struct wire_msg *msg, struct wire_sink *sink);
    /* Copies pointers, not what they point to; checks every value. CORRUPT, NOMEM. */
    sl_status (*decode)(const void *message, struct sl_arena *arena, struct wire_msg *out,
                        struct sl_err *err);
};

#define WIRE_REQUESTS 11 /* by enum wire_type; 0 is none */
#define WIRE_REPLIES 6   /* from WIRE_LOADING on */
extern const struct wire_codec wire_requests[WIRE_REQUESTS];
extern const struct wire_codec wire_replies[WIRE_REPLIES];

/* --- wire.c --- */

/* The generated struct of a message, in the arena. CORRUPT, NOMEM. */
SL_CHECK sl_status wire_unpack(const ProtobufCMessageDescriptor *descriptor, const void *bytes,
                               size_t n, struct sl_arena *arena, ProtobufCMessage **out,
                               struct sl_err *err);

void wire_put_stage(const struct wire_stage *in, struct wire_sink *sink);
/* CORRUPT: too short, or of no stage. */
SL_CHECK sl_status wire_get_stage(const struct frame *frame, struct wire_stage *out,
                                  struct sl_err *err);

/* --- wire_request.c, wire_reply.c: structs that borrow what `in` points to; arrays of
 * sub-messages in `scratch`. The readers copy pointers, and check every value. --- */

void wire_put_prompt(const struct wire_prompt *in, Starlane__Worker__Prompt *out);
/* CORRUPT. */
SL_CHECK sl_status wire_get_prompt(const Starlane__Worker__Prompt *in, struct wire_prompt *out,
                                   struct sl_err *err);
/* False: no memory. */
SL_CHECK bool wire_put_sampler(const struct sampler_cfg *in, Starlane__Worker__Sampler *out,
                               struct sl_arena *scratch);
/* CORRUPT, NOMEM. */
SL_CHECK sl_status wire_get_sampler(const Starlane__Worker__Sampler *in, struct sampler_cfg *out,
                                    struct sl_arena *arena, struct sl_err *err);
void wire_put_logprob(const struct engine_logprob *in, Starlane__Worker__Logprob *out);
/* CORRUPT. */
SL_CHECK sl_status wire_get_logprob(const Starlane__Worker__Logprob *in, struct engine_logprob *out,
                                    struct sl_err *err);
/* NOMEM. */
SL_CHECK sl_status wire_put_loaded(const struct wire_loaded *in, Starlane__Worker__Loaded *out,
                                   struct sl_arena *scratch);
/* CORRUPT, NOMEM. */
SL_CHECK sl_status wire_get_loaded(const Starlane__Worker__Loaded *in, struct sl_arena *arena,
                                   struct wire_loaded *out, struct sl_err *err);

/* --- wire_tensors.c --- */

/* Arrays of generated structs in `scratch`, which borrow names, shapes and data. NOMEM. */
SL_CHECK sl_status wire_put_tensors(const struct tensor *in, size_t n, struct sl_arena *scratch,
                                    Starlane__Worker__Tensor ***out);
/* The same of tensors whose data may be in pieces of shared memory; NULL: none is. */
SL_CHECK sl_status wire_put_pieces(const struct tensor *in, const uint32_t *pieces, size_t n,
                                   struct sl_arena *scratch, Starlane__Worker__Tensor ***out);
/* Checked as tensor_check does; data is borrowed. CORRUPT (also for one in a piece), NOMEM. */
SL_CHECK sl_status wire_get_tensors(Starlane__Worker__Tensor *const *in, size_t n,
                                    struct sl_arena *arena, const struct tensor **out,
                                    struct sl_err *err);
/* The same of tensors whose data may be in pieces: these have no data, and are of a fixed size.
 * *out_pieces is NULL when there are none. */
SL_CHECK sl_status wire_get_pieces(Starlane__Worker__Tensor *const *in, size_t n,
                                   struct sl_arena *arena, const struct tensor **out,
                                   const uint32_t **out_pieces, struct sl_err *err);
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
