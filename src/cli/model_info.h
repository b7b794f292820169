/* model_info.h: what a GGUF file says of its tensors, summed up for people.
 * Floor: cli.  Thread: main.  Allocates: nothing. */
#pragma once
#include <stdint.h>

struct gguf_file;

#define MODEL_TYPES_MAX 64 /* ggml numbers 40 tensor types today */

struct model_type { /* the tensors of one type */
    uint32_t type;
    uint64_t n_tensors, n_params, n_bytes;
};

struct model_info {
    uint64_t n_params, n_bytes;
    int n_types;
    struct model_type types[MODEL_TYPES_MAX]; /* most bytes first */
};

void model_info_read(const struct gguf_file *file, struct model_info *out);

/* The type that holds most of the bytes: "q4_K"; "none" without tensors. */
const char *model_info_main_type(const struct model_info *info);
