/* tokenizer_spm.c: SentencePiece BPE: scores, byte fallback, spaces as U+2581. */
#include "base/mem.h"
#include "base/utf8.h"
#include "exec/llm/tokenizer_int.h"
#include <stdio.h>
#include <string.h>

#define SPM_BYTE_TEXT_LEN 6 /* "<0x0A>" */

size_t spm_decode(const struct gguf_str *text, char *out)
{
    size_t n_out = 0;
    for (size_t i = 0; i < text->len;) {
        if (text->len - i >= SPM_SPACE_BYTES &&
            memcmp(text->s + i, SPM_SPACE, SPM_SPACE_BYTES) == 0) {
            out[n_out++] = ' ';
            i += SPM_SPACE_BYTES;
        } else {
            out[n_out++] = text->s[i++];
        }
    }
    return n_out;
}

/* Maps a score to an integer that is smaller for a better score: the bits of an IEEE float order
 * like sign-magnitude integers. Adding zero makes -0 and 0 equal. */
static uint32_t score_order(double score)
{
    float f = (float)score + 0.0f;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t ascending = bits & UINT32_C(0x80000000) ? ~bits : bits | UINT32_C(0x80000000);
    return ~ascending;
}

static void find_byte_ids(struct tokenizer *tok)
{
    for (int byte = 0; byte < 256; byte++) {
        char text[SPM_BYTE_TEXT_LEN + 1];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        int32_t id = tokenizer_find(tok, text, SPM_BYTE_TEXT_LEN);
        tok->byte_id[byte] = id >= 0 && tok->types[id] == TOKEN_BYTE ? id : -1;
    }
}

sl_status spm_load(struct tokenizer *tok, const struct gguf_file *file, struct sl_err *err)
{
    const struct gguf_kv *scores;
    sl_status status = vocab_array(tok, file, "tokenizer.ggml.scores", &scores, err);
    if (status != SL_OK) return status;
    if (!scores) return sl_err_set(err, SL_CORRUPT, "tokenizer.ggml.scores: missing");
    tok->orders = sl_realloc_array(NULL, (size_t)tok->n_vocab, sizeof *tok->orders);
    if (!tok->orders)
        return sl_err_set(err, SL_NOMEM, "no memory for %d scores", (int)tok->n_vocab);
    for (int32_t id = 0; id < tok->n_vocab; id++) {
        double score;
        if (!gguf_kv_f64(scores, (uint64_t)id, &score))
            return sl_err_set(err, SL_CORRUPT, "tokenizer.ggml.scores: entry %d is not a number",
                              (int)id);
        tok->orders[id] = score_order(score);
    }
    find_byte_ids(tok);
    tok->adds_bos = true;
    tok->adds_space = true;
    memcpy(tok->kind, "spm", sizeof "spm");
    return SL_OK;
}

/* Control, unknown and byte tokens are never spelt out of text: "</s>" in a prompt is four
 * letters, not the end. */
static int32_t find_plain(const struct tokenizer *tok, const char *text, size_t n)
{
    if (n > tok->text_len_max) return -1;
    int32_t id = tokenizer_find(tok, text, n);
    if (id < 0) return -1;
    unsigned type = tok->types[id];
    return type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_BYTE ? -1 : id;
}

static bool find_merge(const struct tokenizer *tok, const char *text, const struct symbol *left,
                       const struct symbol *right, struct pair_entry *out)
{
    out->id = find_plain(tok, text + left->at, left->len + right->len);
    if (out->id >= 0) out->order = tok->orders[out->id];
    return out->id >= 0;
}

/* The text as SentencePiece sees it, in job->scratch: spaces become U+2581. */
static sl_status escape_spaces(struct encode_job *job, const char *text, size_t n, bool prefix)
{
    struct sl_buf *escaped = &job->scratch;
    sl_buf_clear(escaped);
    sl_status status = prefix ? sl_buf_add(escaped, SPM_SPACE, SPM_SPACE_BYTES) : SL_OK;
    while (n > 0 && status == SL_OK) {
        const char *space = memchr(text, ' ', n);
        size_t n_before = space ? (size_t)(space - text) : n;
        status = sl_buf_add(escaped, text, n_before);
        if (space && status == SL_OK) status = sl_buf_add(escaped, SPM_SPACE, SPM_SPACE_BYTES);
        text += n_before + (space ? 1 : 0);
        n -= n_before + (space ? 1 : 0);
    }
    return status == SL_OK ? SL_OK
                           : sl_err_set(job->err, status, "no memory for a text of %zu bytes", n);
}

static size_t count_characters(const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

static sl_status push_symbol(struct encode_job *job, const char *text, const struct symbol *s)
{
    if (s->id >= 0) return encode_push(job, s->id);
    bool is_space =
        s->len == SPM_SPACE_BYTES && memcmp(text + s->at, SPM_SPACE, SPM_SPACE_BYTES) == 0;
    return is_space ? encode_bytes(job, " ", 1) : encode_bytes(job, text + s->at, s->len);
}

sl_status spm_encode(struct encode_job *job, const char *text, size_t n, bool prefix)
{
    sl_status status = escape_spaces(job, text, n, prefix);
    if (status != SL_OK) return status;
    const char *escaped = job->scratch.data;
    size_t n_escaped = job->scratch.len;
    struct merger *m = &job->merger;
    if (n_escaped == 0) return SL_OK;
    if (merger_begin(m, count_characters(escaped, n_escaped)) != SL_OK)
        return sl_err_set(job->err, SL_NOMEM, "no memory for a text of %zu bytes", n_escaped);
    for (size_t at = 0; at < n_escaped;) {
        uint32_t codepoint;
        size_t len = sl_utf8_decode(escaped + at, n_escaped - at, &codepoint);
        merger_add(m, (uint32_t)at, (uint32_t)len, find_plain(job->tok, escaped + at, len));
        at += len;
    }
    merger_run(m, job->tok, escaped, find_merge);
    for (int32_t i = 0; i >= 0; i = m->symbols[i].next) {
        status = push_symbol(job, escaped, &m->symbols[i]);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}
