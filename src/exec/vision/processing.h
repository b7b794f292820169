/* processing.h: what a model's manifest says of the way from an image to its input and from its
 * output to names and boxes: the JSON object "processing", which docs/infer.md describes.
 * Floor: exec/vision.  Thread: any.  Allocates: strings, within PROCESSING_BYTES_MAX.
 * Invariant: one table tells the fields, their types, bounds and defaults; reading, writing and
 * every error text come from it. What was parsed can be carried out as it is. */
#pragma once
#include "base/arena.h"
#include "base/json_read.h"
#include "exec/vision/detect.h"
#include "exec/vision/prepare.h"

#define PROCESSING_BYTES_MAX (8u << 20) /* of names: ImageNet's 21,841 take half a megabyte */
#define PROCESSING_LABELS_MAX 65536
#define PROCESSING_TOP_K 5

enum processing_input { PROCESSING_IMAGE };
enum processing_output { PROCESSING_TENSORS, PROCESSING_CLASSIFICATION, PROCESSING_DETECTION };

struct processing {
    enum processing_input input;
    const char *input_tensor; /* NULL: the model has but one that must be given */
    struct prepare prepare;
    enum processing_output output;
    const char *output_tensor; /* NULL: the model's first */
    bool softmax;              /* the scores are logits */
    int32_t top_k;
    struct detect detect;      /* its width and height are those of the tensor */
    const char *const *labels; /* [n_labels] by class; a class past them is told by its number */
    size_t n_labels;
    struct sl_arena strings;
};

/* All defaults, as an empty object but for the size, which has none. */
void processing_init(struct processing *out);
void processing_done(struct processing *processing); /* may be zeroed */

/* INVALID names the field, what it is and what it may be; LIMIT, NOMEM. On success *out is
 * the caller's to processing_done; on failure it is zeroed. */
SL_CHECK sl_status processing_parse(const struct sl_json_value *value, struct processing *out,
                                    struct sl_err *err);

/* The object again, where json stands: every field that counts, defaults too. */
void processing_write(const struct processing *processing, struct sl_json *json);

/* A name for each class: a JSON array of strings. INVALID, LIMIT, NOMEM. */
SL_CHECK sl_status processing_read_labels(struct processing *processing,
                                          const struct sl_json_value *array, struct sl_err *err);

/* A name for each class, a line each, copied. Empty lines at the end are none. LIMIT, NOMEM. */
SL_CHECK sl_status processing_set_labels(struct processing *processing, const char *text, size_t n,
                                         struct sl_err *err);

/* Does it fit the model? INVALID tells what the model takes or gives. */
SL_CHECK sl_status processing_check(const struct processing *processing,
                                    const struct tensor_signature *signature, struct sl_err *err);

/* The input that an image becomes, and the output that is read; NULL: the model has none such. */
const struct tensor_spec *processing_input_of(const struct processing *processing,
                                              const struct tensor_signature *signature);
const struct tensor_spec *processing_output_of(const struct processing *processing,
                                               const struct tensor_signature *signature);

/* Proposes what most models of such a signature want; docs/infer.md lists the rules. n_labels 0:
 * how many is unknown. UNSUPPORTED: no input that looks like an image. As processing_init. */
SL_CHECK sl_status processing_guess(const struct tensor_signature *signature, size_t n_labels,
                                    struct processing *out, struct sl_err *err);
