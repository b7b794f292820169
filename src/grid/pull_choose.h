/* pull_choose.h: which of a repository's files is the model that a name means. Pure.
 * Floor: grid.  Thread: any.  Allocates: nothing. */
#pragma once
#include "base/err.h"
#include "grid/store.h"
#include <stddef.h>
#include <stdint.h>

#define PULL_FILE_SIZE 512 /* a path inside a repository, with its NUL */

struct pull_candidate {
    char path[PULL_FILE_SIZE];
    char digest[STORE_DIGEST_SIZE]; /* "": the repository does not say */
    uint64_t size;
};

/* The index of the model's file, or of the first of its shards, *out_shards of them. `tag` is a
 * file's name ("m-q4_0.gguf"), a quantisation in any case ("Q4_K_M"), or "latest": Q4_K_M, or else
 * the first sensible one. NOT_FOUND lists what there is; CORRUPT: a shard is missing. */
SL_CHECK sl_status pull_choose(const struct pull_candidate *files, size_t n, const char *tag,
                               size_t *out, int *out_shards, struct sl_err *err);

/* The index of the repository's ONNX model: the file that `tag` names, or for "latest" model.onnx,
 * onnx/model.onnx, or the only .onnx file there is. False: it has none such. */
bool pull_choose_onnx(const struct pull_candidate *files, size_t n, const char *tag, size_t *out);

/* Does the file hold weights of that model, by its name: model.onnx_data beside model.onnx? Then
 * *out is its path from the model's folder. */
bool pull_is_onnx_data(const char *path, const char *model, const char **out);

/* The index of shard `no` (from 0) of the model whose first file is files[first]; n when absent. */
size_t pull_choose_shard(const struct pull_candidate *files, size_t n, size_t first, int no);

/* Does the quantisation stand in the path as a word: "Q4_K" is not in "m-Q4_K_M.gguf". */
bool pull_path_has_quant(const char *path, const char *quant);
