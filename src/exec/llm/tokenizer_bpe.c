/* tokenizer_bpe.c: byte-level BPE: the alphabet of bytes, the merges, one word. */
#include "base/mem.h"
#include "exec/llm/tokenizer_int.h"
#include <string.h>

/* Byte-level BPE (GPT-2, openai/gpt-2 src/encoder.py) writes each byte as one printable
 * character: bytes that are printable in Latin-1 as themselves, the other 68 as U+0100 and on,
 * in order: 0x00-0x20, 0x7F-0xA0, 0xAD. */
#define SHIFTED 0x100
#define LOW_LAST 0x20
#define HIGH_FIRST 0x7F
#define HIGH_LAST 0xA0
#define SOFT_HYPHEN 0xAD
#define N_LOW (LOW_LAST + 1)
#define N_HIGH (HIGH_LAST - HIGH_FIRST + 1)

static unsigned byte_to_letter(unsigned char byte)
{
    if (byte <= LOW_LAST) return SHIFTED + byte;
    if (byte >= HIGH_FIRST && byte <= HIGH_LAST) return SHIFTED + N_LOW + (byte - HIGH_FIRST);
    if (byte == SOFT_HYPHEN) return SHIFTED + N_LOW + N_HIGH;
    return byte;
}

/* -1: no letter of the alphabet. */
static int letter_to_byte(unsigned letter)
{
    if (letter >= SHIFTED && letter < SHIFTED + N_LOW) return (int)(letter - SHIFTED);
    if (letter >= SHIFTED + N_LOW && letter < SHIFTED + N_LOW + N_HIGH)
        return (int)(letter - SHIFTED - N_LOW + HIGH_FIRST);
    if (letter == SHIFTED + N_LOW + N_HIGH) return SOFT_HYPHEN;
    return letter < SHIFTED && byte_to_letter((unsigned char)letter) == letter ? (int)letter : -1;
}

/* Writes the byte's letter as UTF-8: one or two bytes, as all letters lie below U+0800. */
static size_t put_letter(unsigned char byte, char out[2])
{
    unsigned letter = byte_to_letter(byte);
    if (letter < 0x80) {
        out[0] = (char)letter;
        return 1;
    }
    out[0] = (char)(0xC0 | letter >> 6);
    out[1] = (char)(0x80 | (letter & 0x3F));
    return 2;
}

size_t bpe_decode(const struct gguf_str *text, char *out)
{
    const unsigned char *s = (const unsigned char *)text->s;
    size_t n_out = 0;
    for (size_t i = 0; i < text->len;) {
        int byte = -1;
        if (s[i] < 0x80) {
            byte = letter_to_byte(s[i]);
            i += 1;
        } else if ((s[i] & 0xE0) == 0xC0 && i + 1 < text->len && (s[i + 1] & 0xC0) == 0x80) {
            byte = letter_to_byte((unsigned)(s[i] & 0x1F) << 6 | (s[i + 1] & 0x3F));
            i += 2;
        }
        if (byte < 0) { /* not in the alphabet: an added token, which stands for its own text */
            memcpy(out, text->s, text->len);
            return text->len;
        }
        out[n_out++] = (char)byte;
    }
    return n_out;
}

static void find_byte_ids(struct tokenizer *tok)
{
    for (int byte = 0; byte < 256; byte++) {
        char letter[2];
        int32_t id = tokenizer_find(tok, letter, put_letter((unsigned char)byte, letter));
        /* A user token spelt like the letter (DeepSeek has 13) stands for that character, not
         * for the byte. */
        tok->byte_id[byte] = id >= 0 && tok->types[id] == TOKEN_NORMAL ? id : -1;
    }
}

/* Adds the merge "left right"; one that names a token the vocabulary lacks can never apply and
 * is left out. */
static sl_status add_merge(struct tokenizer *tok, const struct gguf_str *merge, uint32_t rank,
                           struct sl_buf *joined)
{
    const char *space = merge->len > 1 ? memchr(merge->s + 1, ' ', merge->len - 1) : NULL;
    if (!space) return SL_OK;
    size_t n_left = (size_t)(space - merge->s), n_right = merge->len - n_left - 1;
    int32_t left = tokenizer_find(tok, merge->s, n_left);
    int32_t right = tokenizer_find(tok, space + 1, n_right);
    if (left < 0 || right < 0 || n_left + n_right > tok->text_len_max) return SL_OK;
    sl_buf_clear(joined);
    sl_status status = sl_buf_add(joined, merge->s, n_left);
    if (status == SL_OK) status = sl_buf_add(joined, space + 1, n_right);
    if (status != SL_OK) return status;
    int32_t id = tokenizer_find(tok, joined->data, joined->len);
    if (id < 0 || tok->types[id] == TOKEN_CONTROL) return SL_OK;
    pair_map_put(&tok->merges,
                 &(struct pair_entry){
                     .left = (uint32_t)left, .right = (uint32_t)right, .order = rank, .id = id});
    return SL_OK;
}

static sl_status load_merges(struct tokenizer *tok, const struct gguf_file *file,
                             struct sl_err *err)
{
    const struct gguf_kv *kv = gguf_find(file, "tokenizer.ggml.merges");
    if (!kv) return sl_err_set(err, SL_CORRUPT, "tokenizer.ggml.merges: missing");
    if (!kv->is_array || kv->type != GGUF_STRING)
        return sl_err_set(err, SL_CORRUPT, "tokenizer.ggml.merges: not an array of strings");
    if (kv->n > TOKENIZER_MERGES_MAX)
        return sl_err_set(err, SL_CORRUPT,
                          "tokenizer.ggml.merges: %llu entries, at most %d are allowed",
                          (unsigned long long)kv->n, TOKENIZER_MERGES_MAX);
    struct sl_buf joined;
    sl_buf_init(&joined, tok->text_len_max);
    sl_status status = pair_map_init(&tok->merges, (size_t)kv->n);
    for (uint64_t i = 0; i < kv->n && status == SL_OK; i++)
        status = add_merge(tok, &kv->strs[i], (uint32_t)i, &joined);
    sl_buf_done(&joined);
    return status == SL_OK
               ? SL_OK
               : sl_err_set(err, status, "tokenizer.ggml.merges: %s", sl_status_text(status));
}

sl_status bpe_load(struct tokenizer *tok, const struct gguf_file *file, struct sl_err *err)
{
    struct gguf_str name = {"default", sizeof "default" - 1};
    if (gguf_find(file, "tokenizer.ggml.pre")) {
        sl_status status = gguf_get_str(file, "tokenizer.ggml.pre", &name, err);
        if (status != SL_OK) return status;
    }
    const struct pre_rule *rule = pre_rule_find(name.s, name.len);
    if (!rule)
        return sl_err_set(err, SL_UNSUPPORTED, "tokenizer.ggml.pre: unknown pre-split \"%.*s\"",
                          (int)(name.len < TOKENIZER_KIND_MAX ? name.len : TOKENIZER_KIND_MAX),
                          name.s);
    tok->whole_words_first = pre_rule_whole_words(rule);
    tok->adds_bos = pre_rule_adds_bos(rule);
    size_t n_prefix = sizeof "bpe/" - 1;
    memcpy(tok->kind, "bpe/", n_prefix);
    /* shorter than TOKENIZER_KIND_MAX, as it is in the table */
    memcpy(tok->kind + n_prefix, name.s, name.len);
    find_byte_ids(tok);
    sl_status status = pre_split_create(rule, &tok->pre, err);
    return status == SL_OK ? load_merges(tok, file, err) : status;
}

static bool find_merge(const struct tokenizer *tok, const char *text, const struct symbol *left,
                       const struct symbol *right, struct pair_entry *out)
{
    (void)text;
    if (left->id < 0 || right->id < 0) return false;
    const struct pair_entry *merge =
        pair_map_get(&tok->merges, (uint32_t)left->id, (uint32_t)right->id);
    if (merge) *out = *merge;
    return merge != NULL;
}

/* The token that is the whole word, or -1. */
static sl_status find_word(struct encode_job *job, const char *word, size_t n, int32_t *out_id)
{
    *out_id = -1;
    if (n > job->tok->text_len_max) return SL_OK;
    sl_buf_clear(&job->scratch);
    for (size_t i = 0; i < n; i++) {
        char letter[2];
        sl_status status =
            sl_buf_add(&job->scratch, letter, put_letter((unsigned char)word[i], letter));
        if (status != SL_OK)
            return sl_err_set(job->err, status, "no memory for a word of %zu bytes", n);
    }
    int32_t id = tokenizer_find(job->tok, job->scratch.data, job->scratch.len);
    if (id >= 0 && job->tok->types[id] == TOKEN_NORMAL) *out_id = id;
    return SL_OK;
}

sl_status bpe_encode_word(struct encode_job *job, const char *word, size_t n)
{
    const struct tokenizer *tok = job->tok;
    if (n == 1) return encode_bytes(job, word, 1);
    if (tok->whole_words_first) {
        int32_t id;
        sl_status status = find_word(job, word, n, &id);
        if (status != SL_OK) return status;
        if (id >= 0) return encode_push(job, id);
    }
    struct merger *m = &job->merger;
    if (merger_begin(m, n) != SL_OK)
        return sl_err_set(job->err, SL_NOMEM, "no memory for a word of %zu bytes", n);
    for (size_t i = 0; i < n; i++)
        merger_add(m, (uint32_t)i, 1, tok->byte_id[(unsigned char)word[i]]);
    merger_run(m, tok, word, find_merge);
    for (int32_t i = 0; i >= 0; i = m->symbols[i].next) {
        const struct symbol *s = &m->symbols[i];
        sl_status status =
            s->id >= 0 ? encode_push(job, s->id) : encode_bytes(job, word + s->at, s->len);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}
