/* infer_input.h: what the user gives `starlane infer` becomes the model's input tensors.
 * Floor: cli.  Thread: main.  Allocates: the tensors' data, and the image.
 *
 * A FILE is an image, prepared as the model's processing says, or a .npy file for a model with one
 * input. NAME=VALUE fills the input of that name: VALUE is a .npy file, @FILE (its raw bytes; of an
 * input of BYTES one text), JSON (a number, a text, lists of them), or for BYTES any text. */
#pragma once
#include "base/arena.h"
#include "exec/vision/processing.h"

struct infer_input_cfg {
    const char *model; /* for messages */
    const struct tensor_signature *signature;
    const struct processing *processing; /* NULL: none, or not wanted */
    const char *const *args;             /* FILE or NAME=VALUE; "-": an image on stdin */
    int n_args;
    const char *text; /* for the one input of BYTES; NULL: none */
};

struct infer_inputs {
    struct tensor *v; /* [n], room for one each of the signature's inputs */
    size_t n;
    struct image image; /* its pixels NULL: none was given */
    struct prepare_geometry geometry;
    struct sl_arena arena;
};

/* INVALID says what the model takes; NOT_FOUND, CORRUPT, LIMIT, NOMEM of files. *out is
 * infer_inputs_done's in any case. */
SL_CHECK sl_status infer_inputs_collect(const struct infer_input_cfg *cfg, struct infer_inputs *out,
                                        struct sl_err *err);
void infer_inputs_done(struct infer_inputs *inputs);
