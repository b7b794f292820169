/* onnx_encoder.h: texts for a model that is a text encoder (BERT and its kin, cross-encoders): from
 * text to input tensors, from output tensors to one vector, as the tokenizer.json and the
 * configuration files beside the model say.
 * Floor: exec/onnx.  Thread: the engine's; onnx_encoder_vector any.  Allocates: at open; per text
 * in the caller's arena.
 * Inputs are known by their names, as Hugging Face's exporters give them: input_ids [batch,
 * tokens], and attention_mask, token_type_ids and position_ids where the model has them. Outputs:
 *   hidden states   the first of rank 3 [batch, tokens, n_embd], or last_hidden_state
 *   sentence        sentence_embedding [batch, n_embd]: the model pools by itself
 *   logits          logits [batch, n_labels]; of a model without the other two, the first of rank 2
 * Source: sentence-transformers' folders (1_Pooling/config.json), transformers' config.json. */
#pragma once
#include "base/arena.h"
#include "exec/engine.h"
#include "exec/onnx/onnx_options.h"
#include "exec/text/text_tokenizer.h"

/* Of one token in four inputs of 64 bits. */
#define ONNX_ENCODER_TOKEN_BYTES (4 * sizeof(int64_t))

struct onnx_encoder; /* opaque */

struct onnx_text {
    const int64_t *ids, *type_ids; /* [n]; type_ids NULL: all 0 */
    size_t n;
};

/* *out stays NULL when no tokenizer.json stands beside the model, or when its inputs are not an
 * encoder's. INVALID, UNSUPPORTED, CORRUPT: what is wrong with the files; NOMEM. */
SL_CHECK sl_status onnx_encoder_open(const char *model_path, const struct onnx_options *options,
                                     const struct tensor_signature *signature,
                                     struct onnx_encoder **out, struct sl_err *err);
void onnx_encoder_close(struct onnx_encoder *encoder); /* NULL is fine */

const struct text_tokenizer *onnx_encoder_tokenizer(const struct onnx_encoder *encoder);
bool onnx_encoder_embeds(const struct onnx_encoder *encoder);
bool onnx_encoder_ranks(const struct onnx_encoder *encoder);
int32_t onnx_encoder_max_tokens(const struct onnx_encoder *encoder);
int32_t onnx_encoder_n_embd(const struct onnx_encoder *encoder); /* 0: the file does not tell */

/* Which output, and how it becomes a vector. *out_pooling is ENGINE_POOLING_MODEL for an output
 * that is one already. UNSUPPORTED: the model has none that serves. */
SL_CHECK sl_status onnx_encoder_choose(const struct onnx_encoder *encoder,
                                       enum engine_pooling wanted, enum engine_pooling *out_pooling,
                                       int32_t *out_output, struct sl_err *err);

/* LIMIT: longer than the model takes (both numbers named), unless the options say to cut it;
 * otherwise as text_tokenizer_encode. */
SL_CHECK sl_status onnx_encoder_encode(const struct onnx_encoder *encoder, struct text_input text,
                                       struct text_input pair, struct sl_arena *arena,
                                       struct onnx_text *out, struct sl_err *err);
/* The same of ids that are there already. INVALID: the vocabulary lacks one. */
SL_CHECK sl_status onnx_encoder_take_tokens(const struct onnx_encoder *encoder,
                                            const int32_t *tokens, size_t n, struct sl_arena *arena,
                                            struct onnx_text *out, struct sl_err *err);

/* The input tensors of n texts, padded to the longest. NOMEM. */
SL_CHECK sl_status onnx_encoder_inputs(const struct onnx_encoder *encoder,
                                       const struct onnx_text *const *texts, size_t n,
                                       struct sl_arena *arena, const struct tensor **out,
                                       size_t *out_n);

struct onnx_vector_cfg {
    enum engine_pooling pooling; /* onnx_encoder_choose's */
    bool normalize;
};

/* The vector of row `row`, whose text has n_tokens, in the arena. UNSUPPORTED: the output is of
 * another shape or type; CORRUPT: it is not finite. */
SL_CHECK sl_status onnx_encoder_vector(const struct tensor *output, size_t row, size_t n_tokens,
                                       const struct onnx_vector_cfg *cfg, struct sl_arena *arena,
                                       float **out, int32_t *out_n, struct sl_err *err);
