#include "exec/onnx/onnx_encoder.h"
#include "base/json_read.h"
#include "base/mem.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_BYTES_MAX (4u << 20) /* config.json with the names of all labels */
#define TOKENS_DEFAULT 512          /* BERT's, where no file tells */

enum part { PART_IDS, PART_MASK, PART_TYPES, PART_POSITIONS, PART_COUNT };
static const char *const part_names[PART_COUNT] = {"input_ids", "attention_mask", "token_type_ids",
                                                   "position_ids"};

struct onnx_encoder {
    struct text_tokenizer *tokenizer;
    const struct tensor_signature *signature;
    int32_t inputs[PART_COUNT];       /* places in the signature, in its order; -1: none */
    int32_t hidden, sentence, logits; /* places in the outputs; -1: none */
    enum engine_pooling pooling;      /* MODEL: nothing was said */
    int32_t max_tokens;
    int32_t n_fixed; /* tokens that the model always takes; 0: any number */
    int64_t pad_id;
    bool truncate;
};

/* The file `name` in the model's folder; *out stays NULL when there is none. sl_free. */
static sl_status read_beside(const char *model_path, const char *name, size_t bytes_max, char **out,
                             size_t *out_n, struct sl_err *err)
{
    char path[PATH_MAX];
    const char *slash = strrchr(model_path, '/');
    int folder = slash ? (int)(slash - model_path) + 1 : 0;
    struct sl_buf buf;
    char chunk[1 << 14];
    size_t n;
    if (snprintf(path, sizeof path, "%.*s%s", folder, model_path, name) >= (int)sizeof path)
        return sl_err_set(err, SL_INVALID, "the path of %s is too long", name);
    FILE *file = fopen(path, "rbe");
    if (!file)
        return errno == ENOENT || errno == ENOTDIR ? SL_OK : sl_err_errno(err, errno, "%s", name);
    sl_status status = SL_OK;
    sl_buf_init(&buf, bytes_max);
    while (status == SL_OK && (n = fread(chunk, 1, sizeof chunk, file)) > 0)
        status = sl_buf_add(&buf, chunk, n);
    if (status != SL_OK) (void)sl_err_set(err, status, "%s: over %zu bytes", name, bytes_max);
    if (status == SL_OK && ferror(file)) status = sl_err_set(err, SL_IO, "%s cannot be read", name);
    (void)fclose(file);
    *out_n = buf.len;
    if (status == SL_OK && !(*out = sl_buf_steal(&buf)))
        status = sl_err_set(err, SL_NOMEM, "%s", name);
    sl_buf_done(&buf);
    return status;
}

/* *out stays NULL when there is no such file. */
static sl_status json_beside(const char *model_path, const char *name, struct sl_json_value **out,
                             struct sl_err *err)
{
    char *text = NULL;
    size_t n = 0;
    sl_status status = read_beside(model_path, name, CONFIG_BYTES_MAX, &text, &n, err);
    if (status == SL_OK && text && sl_json_parse(text, n, out, err) != SL_OK)
        status = sl_err_prefix(err, "%s", name);
    sl_free(text);
    return status;
}

/* sentence-transformers' folder, as it lies or flattened. */
static sl_status read_pooling(const char *model_path, struct onnx_encoder *e, struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    sl_status status = json_beside(model_path, "1_Pooling/config.json", &root, err);
    if (status != SL_OK || !root) return status;
    if (sl_json_to_bool(sl_json_get(root, "pooling_mode_cls_token"), false))
        e->pooling = ENGINE_POOLING_CLS;
    else if (sl_json_to_bool(sl_json_get(root, "pooling_mode_lasttoken"), false))
        e->pooling = ENGINE_POOLING_LAST;
    else if (sl_json_to_bool(sl_json_get(root, "pooling_mode_mean_tokens"), false))
        e->pooling = ENGINE_POOLING_MEAN;
    else
        status = sl_err_set(err, SL_UNSUPPORTED,
                            "1_Pooling/config.json asks for what is neither cls, mean nor last");
    sl_json_free(root);
    return status;
}

/* RoBERTa's family counts positions from the padding's id on, so that two of them are no tokens. */
static int32_t positions_of(const struct sl_json_value *config)
{
    const char *type = sl_json_to_str(sl_json_get(config, "model_type"), "", NULL);
    int64_t n = sl_json_to_int(sl_json_get(config, "max_position_embeddings"), 0);
    if (strstr(type, "roberta") || !strcmp(type, "camembert") || !strcmp(type, "mpnet")) n -= 2;
    return n < 1 ? 0 : n > ONNX_TOKENS_MAX ? ONNX_TOKENS_MAX : (int32_t)n;
}

static sl_status settle_tokens(const char *model_path, const struct onnx_options *options,
                               struct onnx_encoder *e, struct sl_err *err)
{
    struct sl_json_value *config = NULL;
    sl_status status = json_beside(model_path, "config.json", &config, err);
    if (status != SL_OK) return status;
    size_t of_file = text_tokenizer_max_tokens(e->tokenizer);
    e->max_tokens = options->max_tokens;
    if (!e->max_tokens && of_file && of_file <= ONNX_TOKENS_MAX) e->max_tokens = (int32_t)of_file;
    if (!e->max_tokens) e->max_tokens = positions_of(config);
    if (!e->max_tokens) e->max_tokens = TOKENS_DEFAULT;
    if (e->n_fixed && e->max_tokens > e->n_fixed) e->max_tokens = e->n_fixed;
    sl_json_free(config);
    return SL_OK;
}

/* False: the model takes something else than texts. */
static bool find_inputs(struct onnx_encoder *e)
{
    const struct tensor_signature *s = e->signature;
    for (int i = 0; i < PART_COUNT; i++)
        e->inputs[i] = tensor_spec_find(s->inputs, s->n_inputs, part_names[i]);
    for (size_t i = 0; i < s->n_inputs; i++) {
        const struct tensor_spec *spec = &s->inputs[i];
        bool known = false;
        for (int j = 0; j < PART_COUNT; j++) known = known || e->inputs[j] == (int32_t)i;
        if (!known && !spec->optional) return false;
        if (known &&
            (spec->rank != 2 || (spec->type != TENSOR_INT64 && spec->type != TENSOR_INT32)))
            return false;
        if (known && spec->shape[1] > 0) e->n_fixed = (int32_t)spec->shape[1];
    }
    return e->inputs[PART_IDS] >= 0;
}

static int32_t first_of_rank(const struct tensor_signature *s, int32_t rank)
{
    for (size_t i = 0; i < s->n_outputs; i++)
        if (s->outputs[i].rank == rank) return (int32_t)i;
    return -1;
}

static void find_outputs(struct onnx_encoder *e)
{
    const struct tensor_signature *s = e->signature;
    e->hidden = tensor_spec_find(s->outputs, s->n_outputs, "last_hidden_state");
    e->sentence = tensor_spec_find(s->outputs, s->n_outputs, "sentence_embedding");
    e->logits = tensor_spec_find(s->outputs, s->n_outputs, "logits");
    if (e->hidden < 0) e->hidden = first_of_rank(s, 3);
    if (e->hidden == e->logits) e->hidden = -1; /* labels of tokens */
    if (e->hidden < 0 && e->sentence < 0 && e->logits < 0) e->logits = first_of_rank(s, 2);
}

static sl_status load_tokenizer(const char *model_path, struct onnx_encoder *e, struct sl_err *err)
{
    char *json = NULL;
    size_t n = 0;
    sl_status status =
        read_beside(model_path, "tokenizer.json", TEXT_TOKENIZER_FILE_MAX, &json, &n, err);
    if (status == SL_OK && json && text_tokenizer_load(json, n, &e->tokenizer, err) != SL_OK)
        status = sl_err_prefix(err, "tokenizer.json");
    sl_free(json);
    return status;
}

sl_status onnx_encoder_open(const char *model_path, const struct onnx_options *options,
                            const struct tensor_signature *signature, struct onnx_encoder **out,
                            struct sl_err *err)
{
    struct onnx_encoder *e = sl_calloc(1, sizeof *e);
    if (!e) return sl_err_set(err, SL_NOMEM, "encoder");
    e->signature = signature;
    e->truncate = options->truncate;
    sl_status status = SL_OK;
    if (find_inputs(e)) status = load_tokenizer(model_path, e, err);
    if (status != SL_OK || !e->tokenizer) goto fail;
    find_outputs(e);
    e->pad_id = text_tokenizer_pad_id(e->tokenizer);
    if (e->pad_id < 0) e->pad_id = 0; /* masked anyway */
    status = read_pooling(model_path, e, err);
    if (options->pooling != ENGINE_POOLING_MODEL) e->pooling = options->pooling;
    if (status == SL_OK) status = settle_tokens(model_path, options, e, err);
    if (status != SL_OK) goto fail;
    *out = e;
    return SL_OK;
fail:
    onnx_encoder_close(e);
    return status;
}

void onnx_encoder_close(struct onnx_encoder *encoder)
{
    if (!encoder) return;
    text_tokenizer_destroy(encoder->tokenizer);
    sl_free(encoder);
}

const struct text_tokenizer *onnx_encoder_tokenizer(const struct onnx_encoder *encoder)
{
    return encoder->tokenizer;
}

bool onnx_encoder_embeds(const struct onnx_encoder *encoder)
{
    return encoder->hidden >= 0 || encoder->sentence >= 0;
}

bool onnx_encoder_ranks(const struct onnx_encoder *encoder)
{
    return encoder->logits >= 0;
}

int32_t onnx_encoder_max_tokens(const struct onnx_encoder *encoder)
{
    return encoder->max_tokens;
}

int32_t onnx_encoder_n_embd(const struct onnx_encoder *encoder)
{
    int32_t output = encoder->sentence >= 0 ? encoder->sentence : encoder->hidden;
    if (output < 0) return 0;
    const struct tensor_spec *spec = &encoder->signature->outputs[output];
    int64_t n = spec->rank > 0 ? spec->shape[spec->rank - 1] : 0;
    return n > 0 && n <= INT32_MAX ? (int32_t)n : 0;
}

sl_status onnx_encoder_choose(const struct onnx_encoder *encoder, enum engine_pooling wanted,
                              enum engine_pooling *out_pooling, int32_t *out_output,
                              struct sl_err *err)
{
    const struct onnx_encoder *e = encoder;
    enum engine_pooling pooling = wanted == ENGINE_POOLING_MODEL ? e->pooling : wanted;
    if (wanted == ENGINE_POOLING_RANK) {
        if (e->logits < 0)
            return sl_err_set(err, SL_UNSUPPORTED,
                              "the model is no classifier: it has no output \"logits\"");
        *out_output = e->logits;
        *out_pooling = ENGINE_POOLING_RANK;
        return SL_OK;
    }
    bool takes_sentence = e->sentence >= 0 && (wanted == ENGINE_POOLING_MODEL || e->hidden < 0);
    *out_output = takes_sentence ? e->sentence : e->hidden;
    *out_pooling = takes_sentence                    ? ENGINE_POOLING_MODEL
                   : pooling == ENGINE_POOLING_MODEL ? ENGINE_POOLING_MEAN
                                                     : pooling;
    if (*out_output >= 0) return SL_OK;
    return sl_err_set(err, SL_UNSUPPORTED,
                      "the model gives no embeddings: no output is of rank 3, and none is called "
                      "sentence_embedding");
}

static sl_status keep(const struct text_encoding *from, struct sl_arena *arena,
                      struct onnx_text *out, struct sl_err *err)
{
    int64_t *ids = sl_arena_array(arena, from->n + 1, sizeof *ids);
    int64_t *types = sl_arena_array(arena, from->n + 1, sizeof *types);
    if (!ids || !types) return sl_err_set(err, SL_NOMEM, "no memory for %zu tokens", from->n);
    if (from->n) memcpy(ids, from->ids, from->n * sizeof *ids);
    if (from->n) memcpy(types, from->type_ids, from->n * sizeof *types);
    *out = (struct onnx_text){ids, types, from->n};
    return SL_OK;
}

sl_status onnx_encoder_encode(const struct onnx_encoder *encoder, struct text_input text,
                              struct text_input pair, struct sl_arena *arena, struct onnx_text *out,
                              struct sl_err *err)
{
    const struct text_encode_cfg cfg = {.max_tokens = (size_t)encoder->max_tokens,
                                        .truncate = encoder->truncate,
                                        .add_special = true};
    struct text_encoding encoding;
    text_encoding_init(&encoding);
    sl_status status = text_tokenizer_encode(encoder->tokenizer, text, pair, &cfg, &encoding, err);
    if (status == SL_OK && !encoding.n)
        status = sl_err_set(err, SL_INVALID, "the text has no tokens");
    if (status == SL_OK) status = keep(&encoding, arena, out, err);
    text_encoding_done(&encoding);
    return status;
}

sl_status onnx_encoder_take_tokens(const struct onnx_encoder *encoder, const int32_t *tokens,
                                   size_t n, struct sl_arena *arena, struct onnx_text *out,
                                   struct sl_err *err)
{
    size_t n_vocab = text_tokenizer_n_vocab(encoder->tokenizer);
    if (!n) return sl_err_set(err, SL_INVALID, "the text has no tokens");
    if (n > (size_t)encoder->max_tokens)
        return sl_err_set(err, SL_LIMIT, "%zu tokens; the model takes %d at most", n,
                          encoder->max_tokens);
    int64_t *ids = sl_arena_array(arena, n, sizeof *ids);
    if (!ids) return sl_err_set(err, SL_NOMEM, "no memory for %zu tokens", n);
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || (size_t)tokens[i] >= n_vocab)
            return sl_err_set(err, SL_INVALID, "token %d is not of the vocabulary, which has %zu",
                              tokens[i], n_vocab);
        ids[i] = tokens[i];
    }
    *out = (struct onnx_text){ids, NULL, n};
    return SL_OK;
}

static int64_t part_value(const struct onnx_encoder *e, enum part part,
                          const struct onnx_text *text, size_t at)
{
    bool there = at < text->n;
    switch (part) {
    case PART_IDS: return there ? text->ids[at] : e->pad_id;
    case PART_MASK: return there;
    case PART_TYPES: return there && text->type_ids ? text->type_ids[at] : 0;
    default: return (int64_t)at;
    }
}

static sl_status fill_part(const struct onnx_encoder *e, enum part part,
                           const struct onnx_text *const *texts, struct tensor *tensor,
                           struct sl_arena *arena)
{
    size_t rows = (size_t)tensor->shape[0], length = (size_t)tensor->shape[1];
    bool wide = tensor->type == TENSOR_INT64;
    tensor->n_bytes = rows * length * (wide ? sizeof(int64_t) : sizeof(int32_t));
    char *data = sl_arena_alloc(arena, tensor->n_bytes);
    if (!data) return SL_NOMEM;
    tensor->data = data;
    for (size_t i = 0; i < rows * length; i++) {
        int64_t value = part_value(e, part, texts[i / length], i % length);
        if (wide)
            ((int64_t *)(void *)data)[i] = value;
        else
            ((int32_t *)(void *)data)[i] = (int32_t)value;
    }
    return SL_OK;
}

sl_status onnx_encoder_inputs(const struct onnx_encoder *encoder,
                              const struct onnx_text *const *texts, size_t n,
                              struct sl_arena *arena, const struct tensor **out, size_t *out_n)
{
    struct tensor *tensors = sl_arena_array(arena, PART_COUNT, sizeof *tensors);
    size_t length = (size_t)encoder->n_fixed;
    if (!tensors) return SL_NOMEM;
    for (size_t i = 0; i < n; i++)
        if (texts[i]->n > length) length = texts[i]->n;
    *out_n = 0;
    for (int i = 0; i < PART_COUNT; i++) {
        if (encoder->inputs[i] < 0) continue;
        const struct tensor_spec *spec = &encoder->signature->inputs[encoder->inputs[i]];
        struct tensor *tensor = &tensors[(*out_n)++];
        *tensor = (struct tensor){.name = spec->name,
                                  .type = spec->type,
                                  .rank = 2,
                                  .shape = {(int64_t)n, (int64_t)length}};
        sl_status status = fill_part(encoder, (enum part)i, texts, tensor, arena);
        if (status != SL_OK) return status;
    }
    *out = tensors;
    return SL_OK;
}
