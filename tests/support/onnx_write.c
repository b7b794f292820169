#include "support/onnx_write.h"
#include <stdlib.h>
#include <string.h>

enum { FLOAT = 1, N_WEIGHTS = 6 };

static void must(sl_status status)
{
    if (status != SL_OK) abort();
}

static void put_varint(struct sl_buf *out, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) must(sl_buf_addc(out, (char)(v | 0x80)));
    must(sl_buf_addc(out, (char)v));
}

void pb_int(struct sl_buf *out, int field, int64_t v)
{
    put_varint(out, (uint64_t)field << 3);
    put_varint(out, (uint64_t)v);
}

void pb_bytes(struct sl_buf *out, int field, const void *bytes, size_t n)
{
    put_varint(out, (uint64_t)field << 3 | 2);
    put_varint(out, n);
    must(sl_buf_add(out, bytes, n));
}

void pb_str(struct sl_buf *out, int field, const char *s)
{
    pb_bytes(out, field, s, strlen(s));
}

void pb_message(struct sl_buf *out, int field, struct sl_buf *message)
{
    pb_bytes(out, field, message->data, message->len);
    sl_buf_done(message);
}

void onnx_put_value(struct sl_buf *graph, int field, const char *name, int type, int rank,
                    const int64_t *dims)
{
    struct sl_buf value, outer, tensor, shape, dim;
    sl_buf_init(&value, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&outer, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&tensor, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&shape, ONNX_WRITE_BYTES_MAX);
    for (int d = 0; d < rank; d++) {
        sl_buf_init(&dim, ONNX_WRITE_BYTES_MAX);
        if (dims[d] == -1)
            pb_str(&dim, 2, "batch");
        else
            pb_int(&dim, 1, dims[d]);
        pb_message(&shape, 1, &dim);
    }
    pb_int(&tensor, 1, type);
    pb_message(&tensor, 2, &shape);
    pb_message(&outer, 1, &tensor);
    pb_str(&value, 1, name);
    pb_message(&value, 2, &outer);
    pb_message(graph, field, &value);
}

void onnx_put_node(struct sl_buf *graph, const char *domain, const char *op_type)
{
    struct sl_buf node;
    sl_buf_init(&node, ONNX_WRITE_BYTES_MAX);
    pb_str(&node, 4, op_type);
    if (domain) pb_str(&node, 7, domain);
    pb_message(graph, 1, &node);
}

void onnx_put_tensor_head(struct sl_buf *out, const char *name, int type, int rank,
                          const int64_t *dims)
{
    for (int d = 0; d < rank; d++) pb_int(out, 1, dims[d]);
    pb_int(out, 2, type);
    pb_str(out, 8, name);
}

static void put_entry(struct sl_buf *out, const char *key, const char *value)
{
    struct sl_buf pair;
    if (!value) return;
    sl_buf_init(&pair, ONNX_WRITE_BYTES_MAX);
    pb_str(&pair, 1, key);
    pb_str(&pair, 2, value);
    pb_message(out, 13, &pair);
}

void onnx_put_external(struct sl_buf *out, const char *location, const char *offset,
                       const char *length)
{
    put_entry(out, "location", location);
    put_entry(out, "offset", offset);
    put_entry(out, "length", length);
    pb_int(out, 14, 1);
}

static void put_weights(struct sl_buf *graph, float seed, const char *location)
{
    const float weights[N_WEIGHTS] = {seed, 1, 2, 3, 4, 5};
    struct sl_buf tensor;
    sl_buf_init(&tensor, ONNX_WRITE_BYTES_MAX);
    onnx_put_tensor_head(&tensor, "w", FLOAT, 2, (const int64_t[]){2, 3});
    if (location)
        onnx_put_external(&tensor, location, "0", "24");
    else
        pb_bytes(&tensor, 9, weights, sizeof weights);
    pb_message(graph, 5, &tensor);
}

void onnx_put_weights(struct sl_buf *graph)
{
    put_weights(graph, 0, NULL);
}

void onnx_put_model(struct sl_buf *out, struct sl_buf *graph)
{
    struct sl_buf opset;
    sl_buf_init(&opset, ONNX_WRITE_BYTES_MAX);
    pb_int(&opset, 2, 17);
    pb_int(out, 1, 8);
    pb_str(out, 2, "tester");
    pb_str(out, 3, "1.0");
    pb_message(out, 8, &opset);
    pb_message(out, 7, graph);
}

void onnx_put_sound(struct sl_buf *out, float seed, const char *location)
{
    struct sl_buf graph;
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    onnx_put_node(&graph, NULL, "Relu");
    onnx_put_node(&graph, "ai.onnx", "MatMul");
    pb_str(&graph, 2, "test graph");
    put_weights(&graph, seed, location);
    onnx_put_value(&graph, 11, "x", FLOAT, 2, (const int64_t[]){-1, 3});
    onnx_put_value(&graph, 12, "y", FLOAT, 2, (const int64_t[]){-1, 2});
    onnx_put_model(out, &graph);
}
