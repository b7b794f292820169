/* onnx_file.h: a hardened reader for ONNX model files (format: github.com/onnx/onnx,
 * onnx/onnx.proto and docs/IR.md; encoding: protobuf.dev/programming-guides/encoding).
 * Floor: exec/onnx.  Thread: read-only after open, so any.  Allocates: the index, in proportion
 * to the file's size. ONNX Runtime is not needed. The file is hostile until checked: every
 * length, count, type, shape and path is verified before use, and the error names the field
 * (`graph: initializer "conv1.weight": raw_data: 12 bytes, not 36`).
 * Invariant: after open, every tensor stored in the file, those of attributes, subgraphs and
 * functions too, has as many bytes as its type and shape tell; every file that the model names
 * beside itself is a plain relative path. */
#pragma once
#include "base/err.h"
#include "exec/tensor.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ONNX_FILE_BYTES_MAX INT32_MAX /* protobuf's own limit; larger weights lie in other files */
#define ONNX_DEPTH_MAX 16             /* of subgraphs (If, Loop, Scan) in one another */
#define ONNX_NODES_MAX (1u << 20)     /* a large language model has some 10,000 */
#define ONNX_TENSORS_MAX (1u << 16)   /* as GGUF_TENSORS_MAX */
#define ONNX_OPERATORS_MAX 4096       /* kinds of nodes; ONNX defines some 200 */
#define ONNX_FUNCTIONS_MAX 4096       /* of the model's own */
#define ONNX_OPSETS_MAX 256           /* ... and the operator sets they and the graph import */
#define ONNX_METADATA_MAX 1024        /* pairs of key and value */
#define ONNX_EXTERNAL_FILES_MAX 1000  /* some exporters write one a tensor */
#define ONNX_PATH_SIZE 256            /* of such a file, below the model's folder, with its NUL */
#define ONNX_OPERATOR_NAME_MAX 255    /* bytes of an operator's name, and of its domain */

/* Types of elements, numbered as TensorProto.DataType. */
enum onnx_type {
    ONNX_UNDEFINED,
    ONNX_FLOAT,
    ONNX_UINT8,
    ONNX_INT8,
    ONNX_UINT16,
    ONNX_INT16,
    ONNX_INT32,
    ONNX_INT64,
    ONNX_STRING,
    ONNX_BOOL,
    ONNX_FLOAT16,
    ONNX_DOUBLE,
    ONNX_UINT32,
    ONNX_UINT64,
    ONNX_COMPLEX64,
    ONNX_COMPLEX128,
    ONNX_BFLOAT16,
    ONNX_FLOAT8E4M3FN,
    ONNX_FLOAT8E4M3FNUZ,
    ONNX_FLOAT8E5M2,
    ONNX_FLOAT8E5M2FNUZ,
    ONNX_UINT4,
    ONNX_INT4,
    ONNX_FLOAT4E2M1,
    ONNX_FLOAT8E8M0,
    ONNX_UINT2,
    ONNX_INT2,
    ONNX_TYPE_COUNT
};

struct onnx_str {
    const char *s; /* into the mapped file, not NUL-ended; may hold any bytes */
    size_t len;
};

struct onnx_dim {
    int64_t size;           /* -1: any */
    struct onnx_str symbol; /* "batch"; empty: it has no name. Valid UTF-8 */
};

enum onnx_value_kind {
    ONNX_TENSOR,
    ONNX_SPARSE_TENSOR,
    ONNX_SEQUENCE,
    ONNX_MAP,
    ONNX_OPTIONAL,
    ONNX_OPAQUE
};

/* An input or output of the model. Its name is valid UTF-8 without control characters, 1 to
 * TENSOR_NAME_MAX bytes, and no other input or output has it. */
struct onnx_value {
    struct onnx_str name;
    enum onnx_value_kind kind;
    enum onnx_type type; /* of the elements, when kind is ONNX_TENSOR; else ONNX_UNDEFINED */
    int32_t rank;        /* -1: the file does not say, or it is no tensor */
    struct onnx_dim dims[TENSOR_RANK_MAX];
};

/* Values that are stored: an initializer, or a tensor among a node's attributes. */
struct onnx_tensor {
    struct onnx_str name; /* may be empty */
    bool is_initializer;
    enum onnx_type type;
    int32_t rank;
    int64_t dims[TENSOR_RANK_MAX];
    uint64_t n_elements;
    uint64_t n_bytes; /* of the elements, packed; 0 for strings */
    const void *raw;  /* the packed elements, unaligned, when raw_data holds them; or NULL */
    int32_t external; /* index of the file that holds them; -1: they are in this one */
    uint64_t offset;  /* in that file */
};

/* A file that the model names: "model.onnx_data". */
struct onnx_external {
    char path[ONNX_PATH_SIZE]; /* see onnx_path_is_plain */
    uint64_t n_bytes;          /* it must have at least so many */
};

/* How often an operator stands in the graphs and functions of the file. */
struct onnx_operator {
    struct onnx_str domain; /* empty: ONNX's own */
    struct onnx_str name;   /* "Conv" */
    uint32_t n_nodes;
};

struct onnx_opset {
    struct onnx_str domain; /* empty: ONNX's own */
    int64_t version;
};

struct onnx_pair {
    struct onnx_str key, value;
};

struct onnx_info {
    int64_t ir_version;
    struct onnx_str producer, producer_version, domain; /* may be empty */
    struct onnx_str graph_name, doc;
    int64_t model_version;
    uint64_t file_bytes;
    uint32_t n_nodes; /* of all graphs and functions */
    uint32_t n_functions;
    uint64_t n_params;        /* elements of all stored tensors */
    enum onnx_type main_type; /* that of most of their bytes; UNDEFINED: there are none */
};

struct sl_arena;
struct onnx_file; /* opaque */

/* Maps the file read-only and checks all of it but the operators' meaning. NOT_FOUND, IO, CORRUPT,
 * UNSUPPORTED (not a regular file), LIMIT, NOMEM. The files it names are not looked at. */
SL_CHECK sl_status onnx_file_open(const char *path, struct onnx_file **out, struct sl_err *err);

/* The same over n bytes in memory (fuzzing, tests); borrowed until onnx_file_close. */
SL_CHECK sl_status onnx_file_open_mem(const void *bytes, size_t n, struct onnx_file **out,
                                      struct sl_err *err);
void onnx_file_close(struct onnx_file *file); /* NULL is fine */

/* Are the named files there, below `dir`, regular and long enough? NOT_FOUND, CORRUPT, IO. */
SL_CHECK sl_status onnx_file_check_external(const struct onnx_file *file, const char *dir,
                                            struct sl_err *err);

/* Can all inputs come from a request? UNSUPPORTED names the first that is no tensor, or of a type
 * that the Open Inference Protocol has not; CORRUPT: there is no output. */
SL_CHECK sl_status onnx_file_check_served(const struct onnx_file *file, struct sl_err *err);

/* What requests bring and get, in the arena: the inputs and outputs that are tensors of a type that
 * the protocol has. Names are NUL-ended. NOMEM. */
SL_CHECK sl_status onnx_file_signature(const struct onnx_file *file, struct sl_arena *arena,
                                       struct tensor_signature *out);

const struct onnx_info *onnx_file_info(const struct onnx_file *file);

/* Each returns the array, whose length is *n; file's own. Inputs are without those that are
 * initializers: a request brings these. */
const struct onnx_value *onnx_file_inputs(const struct onnx_file *file, size_t *n);
const struct onnx_value *onnx_file_outputs(const struct onnx_file *file, size_t *n);
const struct onnx_tensor *onnx_file_tensors(const struct onnx_file *file, size_t *n);
const struct onnx_external *onnx_file_externals(const struct onnx_file *file, size_t *n);
const struct onnx_operator *onnx_file_operators(const struct onnx_file *file, size_t *n);
const struct onnx_opset *onnx_file_opsets(const struct onnx_file *file, size_t *n);
const struct onnx_pair *onnx_file_metadata(const struct onnx_file *file, size_t *n);

/* The protocol's name where it has one ("FP32", "BYTES"), else ONNX's ("INT4"); "?". */
const char *onnx_type_name(enum onnx_type type);
int onnx_type_bits(enum onnx_type type); /* of one element; 0: a string, or no type */
/* False: the protocol has no such type. */
bool onnx_type_to_tensor(enum onnx_type type, enum tensor_type *out);
const char *onnx_value_kind_name(enum onnx_value_kind kind); /* "tensor", "sequence", ... */

/* May a model name this file? Relative, of valid UTF-8 without control characters and backslashes,
 * no component empty, "." or "..", at most ONNX_PATH_SIZE - 1 bytes, no '*' (ONNX Runtime takes a
 * path of asterisks for an address in its memory). n bytes of text. */
bool onnx_path_is_plain(const char *text, size_t n);
