/* text_vocab.c: reads the two forms of a vocabulary, straight from the file's text. */
#include "base/mem.h"
#include "exec/text/text_int.h"
#include <math.h>
#include <stdio.h>

/* One entry while the texts still move. */
struct entry {
    size_t at;
    uint32_t n;
    int32_t id;
};

struct reader {
    struct text_json json;
    struct text_vocab *vocab;
    struct sl_buf token;
    struct entry *entries;
    size_t n_entries, entries_cap;
    double *scores;
    size_t scores_cap;
    int32_t id_max;
    struct sl_err *err;
};

static sl_status add_entry(struct reader *r, int32_t id)
{
    struct entry *entries =
        text_reserve(r->entries, &r->entries_cap, r->n_entries + 1, sizeof *entries);
    if (entries) r->entries = entries;
    sl_status status =
        entries ? sl_buf_add(&r->vocab->bytes, r->token.data, r->token.len) : SL_NOMEM;
    if (status != SL_OK) return sl_err_set(r->err, status, "no memory for a vocabulary");
    entries[r->n_entries++] =
        (struct entry){r->vocab->bytes.len - r->token.len, (uint32_t)r->token.len, id};
    if (id > r->id_max) r->id_max = id;
    return SL_OK;
}

static sl_status read_id(struct reader *r, int32_t *out)
{
    double id;
    sl_status status = text_json_number(&r->json, &id);
    if (status != SL_OK) return status;
    if (!(id >= 0) || id >= TEXT_IDS_MAX || id != floor(id))
        return sl_err_set(r->err, SL_LIMIT, "vocabulary: '%.40s' has the id %g; 0 to %d are taken",
                          r->token.data, id, TEXT_IDS_MAX - 1);
    *out = (int32_t)id;
    return SL_OK;
}

static sl_status read_object(struct reader *r)
{
    bool first = true, more = false;
    sl_status status = text_json_open(&r->json, '{');
    while (status == SL_OK) {
        int32_t id = 0;
        status = text_json_next(&r->json, '}', &first, &more);
        if (status != SL_OK || !more) break;
        status = text_json_string(&r->json, &r->token);
        if (status == SL_OK) status = text_json_colon(&r->json);
        if (status == SL_OK) status = read_id(r, &id);
        if (status == SL_OK) status = add_entry(r, id);
    }
    return status;
}

/* ["token", score] */
static sl_status read_scored(struct reader *r)
{
    bool first = true, more = false;
    double score = 0;
    sl_status status = text_json_open(&r->json, '[');
    if (status == SL_OK) status = text_json_next(&r->json, ']', &first, &more);
    if (status == SL_OK && more) status = text_json_string(&r->json, &r->token);
    if (status == SL_OK && more) status = text_json_next(&r->json, ']', &first, &more);
    if (status == SL_OK && more) status = text_json_number(&r->json, &score);
    if (status != SL_OK) return status;
    if (!more || !isfinite(score))
        return text_json_fail(&r->json, "a token and its score expected");
    status = text_json_next(&r->json, ']', &first, &more);
    if (status == SL_OK && more) status = text_json_fail(&r->json, "two items are expected");
    if (status != SL_OK) return status;
    double *scores = text_reserve(r->scores, &r->scores_cap, r->n_entries + 1, sizeof *scores);
    if (!scores) return sl_err_set(r->err, SL_NOMEM, "no memory for scores");
    r->scores = scores;
    scores[r->n_entries] = score;
    return add_entry(r, (int32_t)r->n_entries);
}

static sl_status read_array(struct reader *r)
{
    bool first = true, more = false;
    sl_status status = text_json_open(&r->json, '[');
    while (status == SL_OK) {
        status = text_json_next(&r->json, ']', &first, &more);
        if (status != SL_OK || !more) break;
        if (r->n_entries == TEXT_IDS_MAX)
            return sl_err_set(r->err, SL_LIMIT, "vocabulary: more than %d tokens", TEXT_IDS_MAX);
        status = read_scored(r);
    }
    return status;
}

sl_status text_vocab_grow(struct text_vocab *vocab, size_t n)
{
    if (n <= vocab->n) return SL_OK;
    struct text_word *words = sl_realloc_array(vocab->words, n, sizeof *words);
    if (!words) return SL_NOMEM;
    memset(words + vocab->n, 0, (n - vocab->n) * sizeof *words);
    vocab->words = words;
    vocab->n = n;
    return SL_OK;
}

/* Once the texts have come to rest. Of a token given twice the last id counts. */
static sl_status index_entries(struct reader *r)
{
    struct text_vocab *vocab = r->vocab;
    sl_status status = sl_strmap_init(&vocab->by_text, r->n_entries);
    if (status == SL_OK) status = text_vocab_grow(vocab, (size_t)r->id_max + 1);
    for (size_t i = 0; i < r->n_entries && status == SL_OK; i++) {
        const struct entry *entry = &r->entries[i];
        const char *s = vocab->bytes.data + entry->at;
        vocab->words[entry->id] = (struct text_word){.s = s, .n = entry->n};
        status = sl_strmap_put(&vocab->by_text, s, entry->n, entry->id);
    }
    return status == SL_OK ? SL_OK : sl_err_set(r->err, status, "no memory for a vocabulary");
}

sl_status text_vocab_parse(struct text_vocab *vocab, struct text_span span, double **out_scores,
                           struct sl_err *err)
{
    struct reader r = {.vocab = vocab, .id_max = -1, .err = err};
    sl_buf_init(&vocab->bytes, TEXT_TOKENIZER_FILE_MAX);
    sl_buf_init(&r.token, TEXT_TOKEN_BYTES_MAX);
    if (!span.s) return sl_err_set(err, SL_CORRUPT, "the model has no vocabulary");
    text_json_init(&r.json, span, err);
    sl_status status = out_scores ? read_array(&r) : read_object(&r);
    if (status == SL_OK) status = text_json_end(&r.json);
    if (status == SL_OK) status = index_entries(&r);
    sl_buf_done(&r.token);
    sl_free(r.entries);
    if (status == SL_OK && out_scores)
        *out_scores = r.scores;
    else
        sl_free(r.scores);
    return status;
}

void text_vocab_done(struct text_vocab *vocab)
{
    sl_strmap_done(&vocab->by_text);
    sl_free(vocab->words);
    if (vocab->bytes.data) sl_buf_done(&vocab->bytes);
    vocab->words = NULL;
    vocab->n = 0;
}

int32_t text_vocab_id(const struct text_vocab *vocab, const char *s, size_t n)
{
    return sl_strmap_get(&vocab->by_text, s, n, -1);
}

void text_vocab_byte_ids(const struct text_vocab *vocab, int32_t out[256])
{
    for (unsigned i = 0; i < 256; i++) {
        char name[8];
        int n = snprintf(name, sizeof name, "<0x%02X>", i);
        out[i] = text_vocab_id(vocab, name, (size_t)n);
    }
}
