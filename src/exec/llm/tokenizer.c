/* tokenizer.c: loading a vocabulary, the way of a text through its parts, and the queries. */
#include "base/mem.h"
#include "base/utf8.h"
#include "exec/llm/tokenizer_int.h"
#include <string.h>

#define BYTE_TEXT_LEN 6             /* "<0x0A>" */
#define ID_NONE INT64_C(0xFFFFFFFF) /* how converters write "no such token" */

sl_status vocab_array(const struct tokenizer *tok, const struct gguf_file *file, const char *key,
                      const struct gguf_kv **out, struct sl_err *err)
{
    *out = NULL;
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv) return SL_OK;
    if (!kv->is_array || kv->type == GGUF_STRING)
        return sl_err_set(err, SL_CORRUPT, "%s: not an array of numbers", key);
    if (kv->n != (uint64_t)tok->n_vocab)
        return sl_err_set(err, SL_CORRUPT, "%s: %llu entries for %d tokens", key,
                          (unsigned long long)kv->n, (int)tok->n_vocab);
    *out = kv;
    return SL_OK;
}

static sl_status load_texts(struct tokenizer *tok, const struct gguf_file *file, struct sl_err *err)
{
    const struct gguf_kv *kv = gguf_find(file, "tokenizer.ggml.tokens");
    if (!kv) return sl_err_set(err, SL_CORRUPT, "tokenizer.ggml.tokens: missing");
    if (!kv->is_array || kv->type != GGUF_STRING)
        return sl_err_set(err, SL_CORRUPT, "tokenizer.ggml.tokens: not an array of strings");
    if (kv->n == 0 || kv->n > TOKENIZER_VOCAB_MAX)
        return sl_err_set(err, SL_CORRUPT,
                          "tokenizer.ggml.tokens: %llu tokens, 1 to %d are allowed",
                          (unsigned long long)kv->n, TOKENIZER_VOCAB_MAX);
    tok->texts = kv->strs;
    tok->n_vocab = (int32_t)kv->n;
    sl_status status = sl_strmap_init(&tok->by_text, (size_t)tok->n_vocab);
    for (int32_t id = 0; id < tok->n_vocab && status == SL_OK; id++) {
        const struct gguf_str *text = &tok->texts[id];
        if (text->len == 0) continue;
        if (text->len > tok->text_len_max) tok->text_len_max = text->len;
        status = sl_strmap_put(&tok->by_text, text->s, text->len, id);
    }
    return status == SL_OK ? SL_OK
                           : sl_err_set(err, status, "no memory for %d tokens", (int)tok->n_vocab);
}

static sl_status load_types(struct tokenizer *tok, const struct gguf_file *file, struct sl_err *err)
{
    const struct gguf_kv *types;
    sl_status status = vocab_array(tok, file, "tokenizer.ggml.token_type", &types, err);
    if (status != SL_OK) return status;
    tok->types = sl_malloc((size_t)tok->n_vocab);
    if (!tok->types) return sl_err_set(err, SL_NOMEM, "no memory for %d tokens", (int)tok->n_vocab);
    memset(tok->types, TOKEN_NORMAL, (size_t)tok->n_vocab);
    for (int32_t id = 0; types && id < tok->n_vocab; id++) {
        int64_t type;
        if (!gguf_kv_i64(types, (uint64_t)id, &type) || type < 0 || type > TOKEN_BYTE)
            return sl_err_set(err, SL_CORRUPT,
                              "tokenizer.ggml.token_type: entry %d is no token type", (int)id);
        if (type != 0) tok->types[id] = (unsigned char)type; /* 0 is "undefined" */
    }
    return SL_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Writes the bytes a token stands for, at most as many as its text has. */
static size_t decode_text(const struct tokenizer *tok, int32_t id, char *out)
{
    const struct gguf_str *text = &tok->texts[id];
    unsigned type = tok->types[id];
    if (type == TOKEN_BYTE && text->len == BYTE_TEXT_LEN && memcmp(text->s, "<0x", 3) == 0) {
        int high = hex_digit(text->s[3]), low = hex_digit(text->s[4]);
        if (high >= 0 && low >= 0) {
            out[0] = (char)(high << 4 | low);
            return 1;
        }
    }
    if (type == TOKEN_NORMAL || type == TOKEN_UNUSED)
        return tok->is_spm ? spm_decode(text, out) : bpe_decode(text, out);
    if (text->len > 0) memcpy(out, text->s, text->len);
    return text->len;
}

static sl_status decode_pieces(struct tokenizer *tok, struct sl_err *err)
{
    size_t n_bytes = 0;
    /* all lie in one file: no overflow */
    for (int32_t id = 0; id < tok->n_vocab; id++) n_bytes += tok->texts[id].len;
    if (n_bytes > UINT32_MAX)
        return sl_err_set(err, SL_LIMIT, "tokenizer.ggml.tokens: %zu bytes of text", n_bytes);
    tok->pieces = sl_malloc(n_bytes);
    tok->piece_at = sl_realloc_array(NULL, (size_t)tok->n_vocab + 1, sizeof *tok->piece_at);
    if (!tok->pieces || !tok->piece_at)
        return sl_err_set(err, SL_NOMEM, "no memory for %zu bytes of tokens", n_bytes);
    uint32_t at = 0;
    for (int32_t id = 0; id < tok->n_vocab; id++) {
        tok->piece_at[id] = at;
        at += (uint32_t)decode_text(tok, id, tok->pieces + at);
    }
    tok->piece_at[tok->n_vocab] = at;
    return SL_OK;
}

/* Sets *id to what `key` says, -1 for none. Without the key *id stays, if it is in the
 * vocabulary. */
static sl_status load_id(const struct tokenizer *tok, const struct gguf_file *file, const char *key,
                         int32_t *id, struct sl_err *err)
{
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv) {
        if (*id >= tok->n_vocab) *id = -1;
        return SL_OK;
    }
    int64_t value;
    if (kv->is_array || !gguf_kv_i64(kv, 0, &value))
        return sl_err_set(err, SL_CORRUPT, "%s: not a token id", key);
    if (value == -1 || value == ID_NONE) {
        *id = -1;
        return SL_OK;
    }
    if (value < 0 || value >= tok->n_vocab)
        return sl_err_set(err, SL_CORRUPT, "%s: id %lld with %d tokens", key, (long long)value,
                          (int)tok->n_vocab);
    *id = (int32_t)value;
    return SL_OK;
}

static sl_status load_ids(struct tokenizer *tok, const struct gguf_file *file, struct sl_err *err)
{
    /* What SentencePiece vocabularies have where the file is silent; byte-level ones have no
     * such custom. */
    tok->unk = tok->is_spm ? 0 : -1;
    tok->bos = tok->is_spm ? 1 : -1;
    tok->eos = tok->is_spm ? 2 : -1;
    int32_t eot = -1, eom = -1;
    struct {
        const char *key;
        int32_t *id;
    } ids[] = {
        {"tokenizer.ggml.unknown_token_id", &tok->unk}, {"tokenizer.ggml.bos_token_id", &tok->bos},
        {"tokenizer.ggml.eos_token_id", &tok->eos},     {"tokenizer.ggml.eot_token_id", &eot},
        {"tokenizer.ggml.eom_token_id", &eom},
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        sl_status status = load_id(tok, file, ids[i].key, ids[i].id, err);
        if (status != SL_OK) return status;
    }
    special_add_end(tok, tok->eos);
    special_add_end(tok, eot);
    special_add_end(tok, eom);
    special_find_ends(tok);
    return SL_OK;
}

static sl_status load_flag(const struct gguf_file *file, const char *key, bool *flag,
                           struct sl_err *err)
{
    return gguf_find(file, key) ? gguf_get_bool(file, key, flag, err) : SL_OK;
}

static sl_status load_flags(struct tokenizer *tok, const struct gguf_file *file, struct sl_err *err)
{
    sl_status status = load_flag(file, "tokenizer.ggml.add_bos_token", &tok->adds_bos, err);
    if (status == SL_OK)
        status = load_flag(file, "tokenizer.ggml.add_eos_token", &tok->adds_eos, err);
    if (status == SL_OK && tok->is_spm)
        status = load_flag(file, "tokenizer.ggml.add_space_prefix", &tok->adds_space, err);
    if (tok->bos < 0) tok->adds_bos = false;
    if (tok->eos < 0) tok->adds_eos = false;
    return status;
}

static bool str_is(const struct gguf_str *s, const char *literal)
{
    return s->len == strlen(literal) && memcmp(s->s, literal, s->len) == 0;
}

static sl_status load_kind(struct tokenizer *tok, const struct gguf_file *file, struct sl_err *err)
{
    struct gguf_str model;
    sl_status status = gguf_get_str(file, "tokenizer.ggml.model", &model, err);
    if (status == SL_NOT_FOUND) return sl_err_set(err, SL_CORRUPT, "tokenizer.ggml.model: missing");
    if (status != SL_OK) return status;
    tok->is_spm = str_is(&model, "llama");
    if (tok->is_spm || str_is(&model, "gpt2")) return SL_OK;
    return sl_err_set(err, SL_UNSUPPORTED, "tokenizer.ggml.model: unknown kind \"%.*s\"",
                      (int)(model.len < TOKENIZER_KIND_MAX ? model.len : TOKENIZER_KIND_MAX),
                      model.s);
}

sl_status tokenizer_create(const struct gguf_file *file, struct tokenizer **out, struct sl_err *err)
{
    struct tokenizer *tok = sl_calloc(1, sizeof *tok);
    if (!tok) return sl_err_set(err, SL_NOMEM, "no memory for a tokenizer");
    sl_status status = load_kind(tok, file, err);
    if (status == SL_OK) status = load_texts(tok, file, err);
    if (status == SL_OK) status = load_types(tok, file, err);
    if (status == SL_OK) status = tok->is_spm ? spm_load(tok, file, err) : bpe_load(tok, file, err);
    if (status == SL_OK) status = load_ids(tok, file, err);
    if (status == SL_OK) status = load_flags(tok, file, err);
    if (status == SL_OK) status = decode_pieces(tok, err);
    if (status == SL_OK) status = special_load(tok, err);
    if (status != SL_OK) goto fail;
    *out = tok;
    return SL_OK;
fail:
    tokenizer_destroy(tok);
    return status;
}

void tokenizer_destroy(struct tokenizer *tok)
{
    if (!tok) return;
    sl_strmap_done(&tok->by_text);
    special_done(&tok->specials);
    pair_map_done(&tok->merges);
    pre_split_destroy(tok->pre);
    sl_free(tok->orders);
    sl_free(tok->types);
    sl_free(tok->pieces);
    sl_free(tok->piece_at);
    sl_free(tok);
}

sl_status encode_push(struct encode_job *job, int32_t id)
{
    sl_status status = sl_buf_add(job->out, &id, sizeof id);
    if (status == SL_OK) return SL_OK;
    return sl_err_set(job->err, status, "the text has more than %zu tokens",
                      job->out->len / sizeof id);
}

sl_status encode_bytes(struct encode_job *job, const char *bytes, size_t n)
{
    const struct tokenizer *tok = job->tok;
    static const unsigned char REPLACEMENT[] = {0xEF, 0xBF, 0xBD}; /* U+FFFD */
    bool has_replacement =
        tok->byte_id[0xEF] >= 0 && tok->byte_id[0xBF] >= 0 && tok->byte_id[0xBD] >= 0;
    bool said_unknown = false;
    for (size_t i = 0; i < n; i++) {
        int32_t id = tok->byte_id[(unsigned char)bytes[i]];
        sl_status status = SL_OK;
        if (id >= 0) {
            status = encode_push(job, id);
        } else if (has_replacement) {
            for (size_t k = 0; k < sizeof REPLACEMENT && status == SL_OK; k++)
                status = encode_push(job, tok->byte_id[REPLACEMENT[k]]);
            /* one for all bytes of a character, as SentencePiece does */
        } else if (tok->unk >= 0 && !said_unknown) {
            said_unknown = true;
            status = encode_push(job, tok->unk);
        }
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

/* SentencePiece writes a space as U+2581, so that a U+2581 of the text would come back as a
 * space. It goes in as bytes. */
static bool spells_space(const struct tokenizer *tok, const char *text, size_t n)
{
    return tok->is_spm && n >= SPM_SPACE_BYTES && memcmp(text, SPM_SPACE, SPM_SPACE_BYTES) == 0 &&
           tok->byte_id[0xE2] >= 0 && tok->byte_id[0x96] >= 0 && tok->byte_id[0x81] >= 0;
}

/* Length of the prefix that is UTF-8 and means what it says. */
static size_t plain_prefix(const struct tokenizer *tok, const char *text, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint32_t codepoint;
        size_t len =
            (unsigned char)text[i] < 0x80 ? 1 : sl_utf8_decode(text + i, n - i, &codepoint);
        if (len == 0 || (len == SPM_SPACE_BYTES && spells_space(tok, text + i, n - i))) break;
        i += len;
    }
    return i;
}

/* Encodes text without special tokens. */
static sl_status encode_text(struct encode_job *job, const char *text, size_t n, bool prefix)
{
    const struct tokenizer *tok = job->tok;
    for (size_t at = 0; at < n || prefix;) {
        size_t len = plain_prefix(tok, text + at, n - at);
        sl_status status = tok->is_spm ? spm_encode(job, text + at, len, prefix)
                                       : pre_split_run(tok->pre, job, text + at, len);
        prefix = false;
        at += len;
        if (status == SL_OK && at < n) {
            size_t n_odd = spells_space(tok, text + at, n - at) ? SPM_SPACE_BYTES : 1;
            status = encode_bytes(job, text + at, n_odd);
            at += n_odd;
        }
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static sl_status encode_all(struct encode_job *job, const char *text, size_t n, unsigned flags)
{
    const struct tokenizer *tok = job->tok;
    bool add = flags & TOKENIZE_ADD_SPECIAL, controls = flags & TOKENIZE_PARSE_SPECIAL;
    bool after_special = true;
    sl_status status = add && tok->adds_bos ? encode_push(job, tok->bos) : SL_OK;
    for (size_t at = 0; at < n && status == SL_OK;) {
        int32_t id = -1;
        size_t end = special_next(tok, text, n, at, controls, &id);
        if (end > at) {
            status = encode_text(job, text + at, end - at, tok->adds_space && after_special);
            after_special = false;
        }
        at = end;
        if (status == SL_OK && at < n) {
            status = encode_push(job, id);
            at += tok->texts[id].len;
            after_special = true;
        }
    }
    if (status == SL_OK && add && tok->adds_eos) status = encode_push(job, tok->eos);
    return status;
}

sl_status tokenizer_encode(const struct tokenizer *tok, const char *text, size_t n_bytes,
                           unsigned flags, struct sl_buf *out, struct sl_err *err)
{
    if (n_bytes > TOKENIZER_TEXT_MAX)
        return sl_err_set(err, SL_LIMIT, "text of %zu bytes, at most %zu are allowed", n_bytes,
                          TOKENIZER_TEXT_MAX);
    size_t len_before = out->len;
    struct encode_job job = {.tok = tok, .out = out, .err = err};
    /* Escaping makes at most three bytes of one, and the prefix is one more space. */
    sl_buf_init(&job.scratch, SPM_SPACE_BYTES * (n_bytes + 1));
    sl_status status = tok->pre ? pre_scratch_create(tok->pre, &job.pre) : SL_OK;
    status = status == SL_OK ? encode_all(&job, text, n_bytes, flags)
                             : sl_err_set(err, status, "no memory for matching a text");
    if (status != SL_OK) sl_buf_truncate(out, len_before);
    pre_scratch_destroy(job.pre);
    merger_done(&job.merger);
    sl_buf_done(&job.scratch);
    return status;
}

size_t tokenizer_piece(const struct tokenizer *tok, int32_t id, unsigned flags,
                       const char **out_bytes)
{
    *out_bytes = "";
    if (id < 0 || id >= tok->n_vocab) return 0;
    bool is_hidden = tok->types[id] == TOKEN_CONTROL || tok->types[id] == TOKEN_UNKNOWN;
    if (is_hidden && !(flags & DETOKENIZE_SPECIAL)) return 0;
    *out_bytes = tok->pieces + tok->piece_at[id];
    return tok->piece_at[id + 1] - tok->piece_at[id];
}

int32_t tokenizer_n_vocab(const struct tokenizer *tok)
{
    return tok->n_vocab;
}

int32_t tokenizer_bos(const struct tokenizer *tok)
{
    return tok->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tok)
{
    return tok->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *tok)
{
    return tok->adds_bos;
}

bool tokenizer_is_end(const struct tokenizer *tok, int32_t id)
{
    for (int i = 0; i < tok->n_ends; i++)
        if (tok->ends[i] == id) return true;
    return false;
}

enum token_type tokenizer_type(const struct tokenizer *tok, int32_t id)
{
    return id < 0 || id >= tok->n_vocab ? TOKEN_UNUSED : (enum token_type)tok->types[id];
}

int32_t tokenizer_find(const struct tokenizer *tok, const char *text, size_t n)
{
    return sl_strmap_get(&tok->by_text, text, n, -1);
}

const char *tokenizer_kind(const struct tokenizer *tok)
{
    return tok->kind;
}
