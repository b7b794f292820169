/* onnx_write.h: ONNX files for tests, put together field by field so that they can lie.
 * Thread: one.  Allocates: the buffers. A call that fails ends the test's process. */
#pragma once
#include "base/buf.h"
#include <stdint.h>

#define ONNX_WRITE_BYTES_MAX (1u << 20)

/* Protobuf's fields, by number. */
void pb_int(struct sl_buf *out, int field, int64_t v);
void pb_bytes(struct sl_buf *out, int field, const void *bytes, size_t n);
void pb_str(struct sl_buf *out, int field, const char *s);
/* The message as a field; it is empty and its memory free afterwards. */
void pb_message(struct sl_buf *out, int field, struct sl_buf *message);

/* ValueInfoProto, a tensor, as that field of the graph (11 input, 12 output); a dimension of -1 has
 * the name "batch". */
void onnx_put_value(struct sl_buf *graph, int field, const char *name, int type, int rank,
                    const int64_t *dims);
/* NodeProto without inputs, outputs and attributes. domain NULL: none. */
void onnx_put_node(struct sl_buf *graph, const char *domain, const char *op_type);
/* TensorProto's name, data_type and dims into `out`. */
void onnx_put_tensor_head(struct sl_buf *out, const char *name, int type, int rank,
                          const int64_t *dims);
/* external_data and data_location of a TensorProto; NULL leaves an entry out. */
void onnx_put_external(struct sl_buf *out, const char *location, const char *offset,
                       const char *length);
/* A FLOAT initializer "w" [2, 3] of the graph: 24 bytes of raw_data. */
void onnx_put_weights(struct sl_buf *graph);

/* ModelProto around the graph: IR version 8, opset 17, producer "tester" 1.0. */
void onnx_put_model(struct sl_buf *out, struct sl_buf *graph);

/* A sound model, "x" FP32 [-1, 3] to "y" FP32 [-1, 2], Relu and MatMul, with `seed` in its weights.
 * location NULL: they lie in it; else in that file, 24 bytes from its beginning. */
void onnx_put_sound(struct sl_buf *out, float seed, const char *location);
