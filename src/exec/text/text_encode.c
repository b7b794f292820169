/* text_encode.c: one text through all stages. */
#include "base/mem.h"
#include "base/utf8.h"
#include "exec/text/text_int.h"

void text_encoding_init(struct text_encoding *encoding)
{
    *encoding = (struct text_encoding){0};
}

static void scratch_destroy(struct text_scratch *scratch)
{
    if (!scratch) return;
    for (int i = 0; i < 2; i++) {
        sl_buf_done(&scratch->normal[i]);
        sl_buf_done(&scratch->pre[i]);
        sl_free(scratch->pieces[i].at);
        sl_free(scratch->ids[i].at);
    }
    sl_buf_done(&scratch->word);
    sl_free(scratch->cuts);
    sl_free(scratch->symbols);
    sl_free(scratch->merges);
    sl_free(scratch->nodes);
    text_regex_scratch_destroy(scratch->regex);
    sl_free(scratch);
}

sl_status text_scratch_get(struct text_encoding *encoding, struct text_scratch **out)
{
    if (!encoding->scratch) {
        struct text_scratch *scratch = sl_calloc(1, sizeof *scratch);
        if (!scratch) return SL_NOMEM;
        for (int i = 0; i < 2; i++) {
            sl_buf_init(&scratch->normal[i], TEXT_SCRATCH_MAX);
            sl_buf_init(&scratch->pre[i], TEXT_SCRATCH_MAX);
        }
        sl_buf_init(&scratch->word, TEXT_SCRATCH_MAX);
        encoding->scratch = scratch;
    }
    *out = encoding->scratch;
    return SL_OK;
}

void text_encoding_done(struct text_encoding *encoding)
{
    scratch_destroy(encoding->scratch);
    sl_free(encoding->ids); /* the other arrays lie behind it */
    *encoding = (struct text_encoding){0};
}

/* One block holds the four arrays. */
static sl_status reserve(struct text_encoding *encoding, size_t n)
{
    if (n <= encoding->cap && encoding->ids) return SL_OK;
    size_t cap = n < 64 ? 64 : n;
    int64_t *block = sl_realloc_array(encoding->ids, 4 * cap, sizeof *block);
    if (!block) return SL_NOMEM;
    encoding->cap = cap;
    encoding->ids = block;
    encoding->type_ids = block + cap;
    encoding->attention_mask = block + 2 * cap;
    encoding->special_mask = block + 3 * cap;
    return SL_OK;
}

struct encode_job {
    const struct text_tokenizer *tok;
    struct text_scratch *scratch;
    struct text_ids *out;
    size_t enough; /* tokens after which no further word is begun: the rest is cut off anyway */
    struct sl_err *err;
};

/* A stretch of normalized text without tokens in it. */
static sl_status encode_words(struct encode_job *job, struct text_span text, bool first)
{
    const struct text_pieces *pieces = NULL;
    const char *cut = NULL;
    sl_status status =
        text_pretoken_run(&job->tok->pre, job->scratch, text, first, &pieces, &cut, job->err);
    for (size_t i = 0; status == SL_OK && i < pieces->n && job->out->n < job->enough; i++) {
        struct text_span word = {cut + pieces->at[i].at, pieces->at[i].n};
        if (word.n)
            status = text_model_run(&job->tok->model, job->scratch, word, job->out, job->err);
    }
    return status;
}

typedef sl_status stretch_fn(struct encode_job *job, struct text_span text, bool first);

/* Finds the tokens of `trie` in the text; `between` encodes what lies between them. */
static sl_status encode_around(struct encode_job *job, const struct text_trie *trie,
                               struct text_span text, bool first, stretch_fn *between)
{
    size_t done = 0;
    struct text_found found = {0};
    while (done < text.n && job->out->n < job->enough) {
        text_added_next(&job->tok->added, trie, text, done, &found);
        if (found.from > done) {
            sl_status status = between(job, (struct text_span){text.s + done, found.from - done},
                                       first && done == 0);
            if (status != SL_OK) return status;
        }
        done = found.to;
        if (found.id < 0) break;
        if (text_ids_add(job->out, found.id) != SL_OK)
            return sl_err_set(job->err, SL_NOMEM, "no memory for tokens");
    }
    return SL_OK;
}

static sl_status encode_normalized(struct encode_job *job, struct text_span text, bool first)
{
    sl_status status =
        text_normalizer_run(&job->tok->normalizer, job->scratch, text, &text, job->err);
    if (status != SL_OK) return status;
    first = first && !job->scratch->lead_dropped;
    return encode_around(job, &job->tok->added.normal, text, first, encode_words);
}

static sl_status encode_text(struct encode_job *job, struct text_input text)
{
    job->out->n = 0;
    if (text.n > TEXT_TOKENIZER_TEXT_MAX)
        return sl_err_set(job->err, SL_LIMIT, "a text of %zu bytes, over %zu", text.n,
                          TEXT_TOKENIZER_TEXT_MAX);
    if (!sl_utf8_valid(text.s, text.n))
        return sl_err_set(job->err, SL_INVALID, "a text that is not UTF-8");
    return encode_around(job, &job->tok->added.raw, (struct text_span){text.s, text.n}, true,
                         encode_normalized);
}

/* The ids of one text that remain after truncation. */
struct part {
    const int32_t *ids;
    size_t n;
};

/* Leaves `room` tokens in all: the longer one is cut first, then both alike (longest_first of the
 * library, down to which of them gets the odd one). */
static void share_room(size_t room, size_t *n_text, size_t *n_pair)
{
    bool swap = *n_text > *n_pair;
    size_t shorter = swap ? *n_pair : *n_text, longer = shorter;
    if (shorter <= room && room - shorter > shorter) longer = room - shorter;
    if (shorter + longer > room) {
        shorter = room / 2;
        longer = shorter + room % 2;
    }
    *n_text = swap ? longer : shorter;
    *n_pair = swap ? shorter : longer;
}

static void cut_part(struct part *part, size_t n, bool left)
{
    if (n >= part->n) return;
    if (left) part->ids += part->n - n;
    part->n = n;
}

static sl_status truncate(const struct text_tokenizer *tok, const struct text_encode_cfg *cfg,
                          size_t n_added, struct part parts[2], struct sl_err *err)
{
    size_t n = parts[0].n + parts[1].n;
    if (cfg->max_tokens == 0 || n + n_added <= cfg->max_tokens) return SL_OK;
    if (!cfg->truncate || cfg->max_tokens < n_added)
        return sl_err_set(err, SL_LIMIT, "%zu tokens, and the limit is %zu", n + n_added,
                          cfg->max_tokens);
    size_t room = cfg->max_tokens - n_added, n_text = parts[0].n, n_pair = parts[1].n;
    if (n_pair == 0)
        n_text = room;
    else
        share_room(room, &n_text, &n_pair);
    cut_part(&parts[0], n_text, tok->truncate_left);
    cut_part(&parts[1], n_pair, tok->truncate_left);
    return SL_OK;
}

static void put(struct text_encoding *out, int64_t id, int64_t type_id, bool special)
{
    size_t i = out->n++;
    out->ids[i] = id;
    out->type_ids[i] = type_id;
    out->attention_mask[i] = 1;
    out->special_mask[i] = special;
}

/* Without special tokens the texts keep the types that the template gives them. */
static void put_items(const struct text_items *items, bool add_special, const struct part parts[2],
                      struct text_encoding *out)
{
    for (size_t i = 0; i < items->n; i++) {
        const struct text_item *item = &items->at[i];
        if (item->kind == TEXT_ITEM_SPECIAL) {
            if (add_special) put(out, item->id, item->type_id, true);
            continue;
        }
        const struct part *part = &parts[item->kind == TEXT_ITEM_B];
        for (size_t j = 0; j < part->n; j++) put(out, part->ids[j], item->type_id, false);
    }
}

sl_status text_tokenizer_encode(const struct text_tokenizer *tok, struct text_input text,
                                struct text_input pair, const struct text_encode_cfg *cfg,
                                struct text_encoding *out, struct sl_err *err)
{
    const struct text_items *items = pair.s ? &tok->post.pair : &tok->post.single;
    size_t n_added = cfg->add_special ? text_items_added(items) : 0;
    struct encode_job job = {.tok = tok, .enough = SIZE_MAX, .err = err};
    struct part parts[2] = {{0}};
    out->n = 0;
    if (text_scratch_get(out, &job.scratch) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory to encode a text");
    if (cfg->truncate && cfg->max_tokens > n_added && !tok->truncate_left)
        job.enough = cfg->max_tokens;
    const struct text_input inputs[2] = {text, pair};
    for (int i = 0; i < 2 && inputs[i].s; i++) {
        job.out = &job.scratch->ids[i];
        sl_status status = encode_text(&job, inputs[i]);
        if (status != SL_OK) return status;
        parts[i] = (struct part){job.out->at, job.out->n};
    }
    sl_status status = truncate(tok, cfg, n_added, parts, err);
    if (status != SL_OK) return status;
    if (reserve(out, n_added + parts[0].n + parts[1].n) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory for tokens");
    put_items(items, cfg->add_special, parts, out);
    return SL_OK;
}
