/* oip_message.h: ModelInferRequest and ModelInferResponse of proto/open_inference.proto as the
 * structs of oip.h. Raw contents, and packed lists that are laid out alike (fp32, fp64), are used
 * where they lie in the message; other typed contents are made raw.
 * Source: open_inference_grpc.proto and inference_grpc.md of the protocol, "Tensor Data".
 * Floor: access.  Thread: any.  Allocates: in the message's arena.
 * Invariant: nothing here trusts the message; whether shapes, types and data agree is for oip.h to
 * find out. */
#pragma once
#include "access/oip.h"
#include "base/arena.h"

/* Names, shapes, and typed contents as raw bytes. */
#define OIP_MESSAGE_ARENA_MAX (TENSOR_BYTES_MAX + (16u << 20))

struct oip_message {
    struct sl_arena arena;
    struct oip_infer infer; /* all but face and data; leads into the arena and the message */
};

/* Empty; done frees all that reading has put into it. */
void oip_message_init(struct oip_message *message);
void oip_message_done(struct oip_message *message);

/* Reads bytes[0..n), which must outlive the message. INVALID names the tensor or parameter; LIMIT:
 * more than TENSORS_MAX tensors, OIP_PARAMS_MAX parameters or TENSOR_BYTES_MAX bytes. */
SL_CHECK sl_status oip_message_read(struct oip_message *message, const uint8_t *bytes, size_t n,
                                    struct sl_err *err);

/* Appends a ModelInferResponse with raw contents. NOMEM, LIMIT. */
SL_CHECK sl_status oip_message_put(struct sl_buf *out, const struct oip_answer *answer);
/* The same as infer_response of a ModelStreamInferResponse; its parameter triton_final_response
 * tells whether `answer` is the last of its request. */
SL_CHECK sl_status oip_message_put_streamed(struct sl_buf *out, const struct oip_answer *answer);
/* A ModelStreamInferResponse with an error, and the id of its request. */
SL_CHECK sl_status oip_message_put_error(struct sl_buf *out, const char *id, const char *error);
