/* llm_info.c: what the engine tells about its model, and its tokenizer for others. */
#include "base/mem.h"
#include "base/utf8.h"
#include "exec/llm/llm_int.h"
#include <string.h>

#define TEMPLATE_BYTES_MAX (1 << 20) /* the longest known has 20 KB */
#define NAME_BYTES_MAX 4096          /* goes into listings */
#define TENSOR_TYPES_MAX 64          /* ggml has 40 */

/* A string of the file as a NUL-ended copy; NULL where there is none. */
static sl_status read_text(const struct llm_engine *e, const char *key, size_t n_max, char **out,
                           struct sl_err *err)
{
    struct gguf_str s;
    if (!gguf_find(e->file, key)) return SL_OK;
    sl_status status = gguf_get_str(e->file, key, &s, err);
    if (status != SL_OK) return status;
    if (s.len > n_max)
        return sl_err_set(err, SL_LIMIT, "%s: %zu bytes, at most %zu", key, s.len, n_max);
    if (memchr(s.s, 0, s.len) || !sl_utf8_valid(s.s, s.len))
        return sl_err_set(err, SL_CORRUPT, "%s: not UTF-8 text", key);
    *out = sl_memdup(s.s, s.len);
    return *out ? SL_OK : sl_err_set(err, SL_NOMEM, "%s", key);
}

/* How a token is spelt; "" for none and for one that cannot be a C string. */
static sl_status token_text(const struct llm_engine *e, int32_t token, char **out,
                            struct sl_err *err)
{
    const char *bytes = "";
    size_t n = token < 0 ? 0 : tokenizer_piece(e->tok, token, DETOKENIZE_SPECIAL, &bytes);
    if (n && (memchr(bytes, 0, n) || !sl_utf8_valid(bytes, n))) n = 0;
    *out = sl_memdup(n ? bytes : "", n);
    return *out ? SL_OK : sl_err_set(err, SL_NOMEM, "text of token %d", token);
}

static void count_weights(struct llm_engine *e)
{
    uint64_t n_bytes[TENSOR_TYPES_MAX] = {0};
    for (size_t i = 0; i < gguf_n_tensors(e->file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(e->file, i);
        e->n_params += (uint64_t)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]);
        if (t->type < TENSOR_TYPES_MAX) n_bytes[t->type] += t->n_bytes;
    }
    for (uint32_t type = 0; type < TENSOR_TYPES_MAX; type++) {
        if (n_bytes[type] > n_bytes[e->weight_type]) e->weight_type = type;
    }
}

sl_status llm_info_read(struct llm_engine *e, struct sl_err *err)
{
    sl_status status =
        read_text(e, "tokenizer.chat_template", TEMPLATE_BYTES_MAX, &e->chat_template, err);
    if (status == SL_OK) status = read_text(e, "general.name", NAME_BYTES_MAX, &e->name, err);
    if (status == SL_OK) status = token_text(e, tokenizer_bos(e->tok), &e->bos_text, err);
    if (status == SL_OK) status = token_text(e, tokenizer_eos(e->tok), &e->eos_text, err);
    count_weights(e);
    return status;
}

void llm_info_free(struct llm_engine *e)
{
    sl_free(e->chat_template);
    sl_free(e->name);
    sl_free(e->bos_text);
    sl_free(e->eos_text);
}

void llm_info(const void *self, struct engine_info *out)
{
    const struct llm_engine *e = self;
    *out = (struct engine_info){.architecture = e->hp.arch->name,
                                .name = e->name ? e->name : "",
                                .chat_template = e->chat_template,
                                .bos_text = e->bos_text,
                                .eos_text = e->eos_text,
                                .adds_bos = tokenizer_adds_bos(e->tok),
                                .n_ctx = e->cfg.n_ctx,
                                .n_ctx_model = e->hp.n_ctx_train,
                                .n_vocab = e->hp.n_vocab,
                                .n_embd = e->hp.n_embd,
                                .n_layer = e->hp.n_layer,
                                .n_seqs_max = e->cfg.n_seqs_max,
                                .n_params = e->n_params,
                                .quantization = gguf_tensor_type_name(e->weight_type),
                                .embeds = true};
}

sl_status llm_tokenize(void *self, const char *text, size_t n, bool parse_special,
                       struct sl_buf *out, struct sl_err *err)
{
    const struct llm_engine *e = self;
    unsigned flags = TOKENIZE_ADD_SPECIAL | (parse_special ? TOKENIZE_PARSE_SPECIAL : 0);
    return tokenizer_encode(e->tok, text, n, flags, out, err);
}

sl_status llm_detokenize(void *self, const int32_t *tokens, size_t n, struct sl_buf *out,
                         struct sl_err *err)
{
    const struct llm_engine *e = self;
    struct detokenizer detok;
    size_t len_before = out->len;
    sl_status status = SL_OK;
    detokenizer_init(&detok, e->tok, DETOKENIZE_SPECIAL, true);
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        if (tokens[i] < 0 || tokens[i] >= e->hp.n_vocab)
            status = sl_err_set(err, SL_INVALID, "token %d is not in the vocabulary of %d",
                                tokens[i], e->hp.n_vocab);
        else
            status = detokenizer_push(&detok, tokens[i], out);
    }
    if (status == SL_OK) status = detokenizer_finish(&detok, out);
    if (status == SL_OK) return SL_OK;
    sl_buf_truncate(out, len_before);
    return status == SL_INVALID ? status : sl_err_set(err, status, "text of %zu tokens", n);
}
