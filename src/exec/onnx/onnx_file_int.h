/* onnx_file_int.h: what the parts of the ONNX reader share: onnx_file.c maps a file and answers
 * queries, onnx_file_model.c reads the model and its graphs, onnx_file_value.c inputs and
 * outputs, onnx_file_tensor.c stored tensors, onnx_file_wire.c checked values of protobuf's
 * fields, onnx_file_types.c knows the types.
 * Floor: exec/onnx.  Thread: the one that opens.  Allocates: the arrays of struct onnx_file.
 * Invariant: what is allocated grows with what was read, never with what a count promises. */
#pragma once
#include "base/arena.h"
#include "base/pb.h"
#include "base/strmap.h"
#include "exec/onnx/onnx_file.h"

/* A message's fields, and a field's bytes. */
struct sl_pb_reader onnx_reader_of(struct onnx_str message);
struct onnx_str onnx_field_bytes(const struct sl_pb_field *field);
/* CORRUPT when the message was not read to its end. */
SL_CHECK sl_status onnx_reader_done(const struct sl_pb_reader *reader, struct sl_err *err);

/* The field's value. CORRUPT when it is encoded as something else. */
SL_CHECK sl_status onnx_get_bytes(const struct sl_pb_field *field, const char *name,
                                  struct onnx_str *out, struct sl_err *err);
SL_CHECK sl_status onnx_get_int(const struct sl_pb_field *field, const char *name, int64_t *out,
                                struct sl_err *err);
/* As onnx_get_bytes; CORRUPT also unless it is valid UTF-8 without control characters, of at most
 * n_max bytes. */
SL_CHECK sl_status onnx_get_text(const struct sl_pb_field *field, const char *name, size_t n_max,
                                 struct onnx_str *out, struct sl_err *err);
bool onnx_text_is_clean(const char *s, size_t n);

/* An array that grows by doubling up to n_max items. */
struct onnx_array {
    void *v;
    size_t n, cap;
};

struct onnx_file {
    const unsigned char *bytes; /* mapped, or borrowed from onnx_file_open_mem's caller */
    size_t n_bytes;
    bool is_mapped;
    struct onnx_info info;
    struct onnx_array inputs, outputs; /* struct onnx_value */
    struct onnx_array tensors;         /* struct onnx_tensor */
    struct onnx_array externals;       /* struct onnx_external */
    struct onnx_array operators;       /* struct onnx_operator */
    struct onnx_array opsets;          /* struct onnx_opset */
    struct onnx_array metadata;        /* struct onnx_pair */
    uint64_t type_bytes[ONNX_TYPE_COUNT];
    /* While it is read: names of the main graph's initializers; operators by `domain NUL name`. */
    struct sl_strmap initializers;
    struct sl_strmap operator_index;
    struct sl_arena operator_keys;
    size_t external_last; /* where the last tensor was: the next one is mostly there too */
};

/* A copy of the item at the array's end. LIMIT: there are n_max already; NOMEM. */
SL_CHECK sl_status onnx_array_add(struct onnx_array *array, const void *item, size_t item_bytes,
                                  size_t n_max, const char *what, struct sl_err *err);

/* Reads file->bytes: fills all of file. On failure the caller closes the file. */
SL_CHECK sl_status onnx_read_model(struct onnx_file *file, struct sl_err *err);

/* A ValueInfoProto. */
SL_CHECK sl_status onnx_read_value(struct onnx_str message, struct onnx_value *out,
                                   struct sl_err *err);

/* A TensorProto or SparseTensorProto to the end of the tensors. */
SL_CHECK sl_status onnx_read_tensor(struct onnx_file *file, struct onnx_str message,
                                    bool is_initializer, struct sl_err *err);
SL_CHECK sl_status onnx_read_sparse(struct onnx_file *file, struct onnx_str message,
                                    bool is_initializer, struct sl_err *err);
