/* tensor.h: named arrays as requests carry them and models take them.
 * Floor: exec.  Thread: any.  Allocates: nothing, but for copies in the caller's arena.
 * The types are the Open Inference Protocol's (inference_rest.md, "Tensor Data Types"). Values lie
 * row-major in little-endian order without gaps, as the protocol's raw form has them; an element of
 * BYTES is its length as 4 little-endian bytes and then so many bytes.
 * Invariant: a tensor that tensor_check passed holds exactly the elements that its shape tells. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_arena;

#define TENSOR_RANK_MAX 16           /* NumPy had 32; models stay under 8 */
#define TENSORS_MAX 1024             /* of one model or request */
#define TENSOR_NAME_MAX 1024         /* bytes; exporters make names of whole module paths */
#define TENSOR_BYTES_MAX (64u << 20) /* of all tensors of a request together */
#define TENSOR_SHAPE_TEXT_MAX 352    /* "[1,3,-1,...]" */

enum tensor_type {
    TENSOR_BOOL, /* one byte, 0 or 1 */
    TENSOR_UINT8,
    TENSOR_UINT16,
    TENSOR_UINT32,
    TENSOR_UINT64,
    TENSOR_INT8,
    TENSOR_INT16,
    TENSOR_INT32,
    TENSOR_INT64,
    TENSOR_FP16,
    TENSOR_FP32,
    TENSOR_FP64,
    TENSOR_BF16,
    TENSOR_BYTES,
    TENSOR_TYPE_COUNT
};

const char *tensor_type_name(enum tensor_type type); /* "FP32"; "?" when out of range */
/* n bytes of text; exact, as the protocol spells it. False: no such type. */
bool tensor_type_parse(const char *text, size_t n, enum tensor_type *out);
size_t tensor_type_size(enum tensor_type type); /* bytes of an element; 0 for BYTES */

struct tensor {
    const char *name;
    enum tensor_type type;
    int32_t rank; /* 0: a scalar, one element */
    int64_t shape[TENSOR_RANK_MAX];
    const void *data; /* any alignment; NULL only without bytes */
    size_t n_bytes;
};

/* Elements of a shape; LIMIT when they overflow, INVALID for a negative dimension or too large a
 * rank. The message has no tensor's name in it. */
SL_CHECK sl_status tensor_count(const int64_t *shape, int32_t rank, uint64_t *out,
                                struct sl_err *err);

/* Do type, shape and data agree, the elements of BYTES one by one? INVALID tells both numbers. */
SL_CHECK sl_status tensor_check(const struct tensor *tensor, struct sl_err *err);

/* Copies arrays, names and data into the arena, data aligned to 64 bytes. NOMEM: does not fit. */
SL_CHECK sl_status tensors_copy(const struct tensor *in, size_t n, struct sl_arena *arena,
                                struct tensor **out);
/* Moves one tensor's data there, aligned so. NOMEM. */
SL_CHECK sl_status tensor_copy_data(struct tensor *tensor, struct sl_arena *arena);
size_t tensors_bytes(const struct tensor *v, size_t n); /* of all data */

/* What a model takes or gives. */
struct tensor_spec {
    const char *name;
    enum tensor_type type;
    int32_t rank;                   /* -1: any */
    int64_t shape[TENSOR_RANK_MAX]; /* -1: any size */
    bool optional;
};

struct tensor_signature {
    const struct tensor_spec *inputs, *outputs;
    size_t n_inputs, n_outputs;
};

/* "[1,3,224,224]", "[]", "[?]" for a rank of -1. */
const char *tensor_shape_text(const int64_t *shape, int32_t rank, char out[TENSOR_SHAPE_TEXT_MAX]);

/* Does the tensor fit what the model takes? INVALID: `input "x": shape [1,3] where the model takes
 * [-1,3,224,224]`, ... */
SL_CHECK sl_status tensor_fits(const struct tensor *tensor, const struct tensor_spec *spec,
                               struct sl_err *err);

/* The whole set of inputs against a signature: none missing but optional ones, none unknown,
 * none twice, each fits, and outputs[0..n_outputs) are the model's. NOT_FOUND is never given:
 * INVALID. */
SL_CHECK sl_status tensor_signature_check(const struct tensor_signature *signature,
                                          const struct tensor *inputs, size_t n_inputs,
                                          const char *const *outputs, size_t n_outputs,
                                          struct sl_err *err);
/* The place of a name; -1: there is none. */
int32_t tensor_spec_find(const struct tensor_spec *specs, size_t n, const char *name);
