/* text_bpe.c: byte-pair encoding: a word begins as its characters, and the neighbours whose merge
 * ranks first are joined, until none may be.
 * Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909. */
#include "base/mem.h"
#include "exec/text/text_int.h"

#define PAIR_FREE UINT32_MAX
#define MERGES_MAX (8 * 1024 * 1024) /* twice TEXT_IDS_MAX */

struct text_symbol {
    int32_t prev, next; /* -1: none */
    int32_t id;
    uint32_t n_chars; /* 0: joined to the one on its left */
};

struct text_merge { /* a candidate in a heap, best first */
    uint64_t key;   /* rank, then place */
    int32_t id;     /* of what it becomes */
};

static struct text_pair_entry *pair_slot(const struct text_model *model, uint32_t left,
                                         uint32_t right)
{
    /* Multiplying by an odd constant spreads the low bits to the high ones (Knuth vol. 3, 6.4). */
    uint64_t h = ((uint64_t)left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15);
    h = (h ^ h >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    for (size_t i = (size_t)(h ^ h >> 32);; i++) {
        struct text_pair_entry *slot = &model->pairs[i & (model->n_slots - 1)];
        if (slot->left == PAIR_FREE || (slot->left == left && slot->right == right)) return slot;
    }
}

struct merge_reader {
    struct text_json json;
    struct text_model *model;
    struct sl_buf text; /* "left right" */
    struct sl_buf part;
    uint32_t rank;
    struct sl_err *err;
};

static sl_status put_merge(struct merge_reader *r, const char *left, size_t n_left,
                           const char *right, size_t n_right)
{
    struct text_model *model = r->model;
    int32_t left_id = text_vocab_id(&model->vocab, left, n_left);
    int32_t right_id = text_vocab_id(&model->vocab, right, n_right);
    /* What goes on in a word is joined without its prefix. */
    size_t cut = n_right >= model->prefix.n ? model->prefix.n : n_right;
    sl_buf_clear(&r->part);
    sl_status status = sl_buf_add(&r->part, left, n_left);
    if (status == SL_OK) status = sl_buf_add(&r->part, right + cut, n_right - cut);
    if (status != SL_OK) return sl_err_set(r->err, status, "merge %u is too long", r->rank);
    int32_t id = text_vocab_id(&model->vocab, r->part.data, r->part.len);
    if (left_id < 0 || right_id < 0 || id < 0)
        return sl_err_set(r->err, SL_CORRUPT, "merge %u: '%.40s' is not in the vocabulary", r->rank,
                          left_id < 0    ? left
                          : right_id < 0 ? right
                                         : r->part.data);
    struct text_pair_entry *slot = pair_slot(model, (uint32_t)left_id, (uint32_t)right_id);
    *slot = (struct text_pair_entry){(uint32_t)left_id, (uint32_t)right_id, r->rank++, id};
    return SL_OK;
}

/* "left right", or ["left", "right"]. */
static sl_status read_merge(struct merge_reader *r)
{
    if (text_json_peek(&r->json) != '[') {
        sl_status status = text_json_string(&r->json, &r->text);
        if (status != SL_OK) return status;
        char *space = memchr(r->text.data, ' ', r->text.len);
        if (!space)
            return sl_err_set(r->err, SL_CORRUPT, "merge %u: '%.40s' is not a pair", r->rank,
                              r->text.data);
        size_t n = (size_t)(space - r->text.data);
        *space = '\0'; /* an error shows the part alone */
        return put_merge(r, r->text.data, n, space + 1, r->text.len - n - 1);
    }
    bool first = true, more = false;
    size_t n_left = 0;
    sl_status status = text_json_open(&r->json, '[');
    for (int i = 0; i < 2 && status == SL_OK; i++) {
        status = text_json_next(&r->json, ']', &first, &more);
        if (status == SL_OK && !more) status = text_json_fail(&r->json, "a pair is expected");
        if (status == SL_OK) status = text_json_string(&r->json, i ? &r->part : &r->text);
        if (i == 0) n_left = r->text.len;
    }
    if (status == SL_OK) status = text_json_next(&r->json, ']', &first, &more);
    if (status == SL_OK && more) status = text_json_fail(&r->json, "a pair is expected");
    if (status == SL_OK) status = sl_buf_addc(&r->text, '\0');
    if (status == SL_OK) status = sl_buf_add(&r->text, r->part.data, r->part.len);
    if (status != SL_OK) return status;
    return put_merge(r, r->text.data, n_left, r->text.data + n_left + 1, r->part.len);
}

/* Items of an array; as many strings or arrays as it has. */
static sl_status count_merges(struct text_span span, size_t *out, struct sl_err *err)
{
    struct text_json json;
    bool first = true, more = false;
    text_json_init(&json, span, err);
    sl_status status = text_json_open(&json, '[');
    for (*out = 0; status == SL_OK; ++*out) {
        struct text_span item;
        status = text_json_next(&json, ']', &first, &more);
        if (status == SL_OK && !more) break;
        if (status == SL_OK) status = text_json_skip(&json, &item);
    }
    if (status == SL_OK && *out > MERGES_MAX)
        return sl_err_set(err, SL_LIMIT, "%zu merges, over %d", *out, MERGES_MAX);
    return status;
}

static sl_status read_merges(struct text_model *model, struct text_span span, struct sl_err *err)
{
    struct merge_reader r = {.model = model, .err = err};
    size_t n = 0;
    sl_status status = count_merges(span, &n, err);
    if (status != SL_OK) return status;
    for (model->n_slots = 8; model->n_slots / 2 < n;) model->n_slots *= 2;
    model->pairs = sl_malloc(model->n_slots * sizeof *model->pairs);
    if (!model->pairs) return sl_err_set(err, SL_NOMEM, "no memory for %zu merges", n);
    for (size_t i = 0; i < model->n_slots; i++) model->pairs[i].left = PAIR_FREE;
    sl_buf_init(&r.text, 2 * TEXT_TOKEN_BYTES_MAX + 1);
    sl_buf_init(&r.part, 2 * TEXT_TOKEN_BYTES_MAX);
    text_json_init(&r.json, span, err);
    bool first = true, more = false;
    status = text_json_open(&r.json, '[');
    while (status == SL_OK) {
        status = text_json_next(&r.json, ']', &first, &more);
        if (status != SL_OK || !more) break;
        status = read_merge(&r);
    }
    sl_buf_done(&r.text);
    sl_buf_done(&r.part);
    return status == SL_OK ? text_json_end(&r.json) : status;
}

/* Absent and null are the empty string. */
static sl_status parse_affix(const struct sl_json_value *json, const char *key,
                             struct text_string *out, struct sl_err *err)
{
    if (sl_json_is(sl_json_get(json, key), SL_JSON_NULL)) return SL_OK;
    return text_string_parse(json, key, out, err);
}

sl_status text_bpe_parse(struct text_model *model, const struct text_model_json *json,
                         struct sl_err *err)
{
    const struct sl_json_value *rest = json->rest;
    if (sl_json_to_num(sl_json_get(rest, "dropout"), 0) != 0)
        return sl_err_set(err, SL_UNSUPPORTED, "model: BPE with dropout, which is for training");
    model->fuse_unk = sl_json_to_bool(sl_json_get(rest, "fuse_unk"), false);
    model->ignore_merges = sl_json_to_bool(sl_json_get(rest, "ignore_merges"), false);
    sl_status status = parse_affix(rest, "continuing_subword_prefix", &model->prefix, err);
    if (status == SL_OK) status = parse_affix(rest, "end_of_word_suffix", &model->suffix, err);
    if (status != SL_OK) return status;
    if (!json->merges.s) return sl_err_set(err, SL_CORRUPT, "model: BPE without merges");
    return read_merges(model, json->merges, err);
}

struct bpe_job {
    const struct text_model *model;
    struct text_scratch *scratch;
    struct text_symbol *symbols;
    size_t n_symbols;
    struct text_merge *heap;
    size_t n_heap;
};

static void add_symbol(struct bpe_job *job, int32_t id)
{
    int32_t i = (int32_t)job->n_symbols++;
    if (i > 0) job->symbols[i - 1].next = i;
    job->symbols[i] = (struct text_symbol){.prev = i - 1, .next = -1, .id = id, .n_chars = 1};
}

/* The token of one character, with what marks its place in the word; -1: none. */
static int32_t find_char(struct bpe_job *job, struct text_span word, size_t at, size_t len)
{
    const struct text_model *model = job->model;
    const struct text_string *prefix = &model->prefix, *suffix = &model->suffix;
    bool has_prefix = at > 0 && prefix->n, has_suffix = at + len == word.n && suffix->n;
    if (!has_prefix && !has_suffix) return text_vocab_id(&model->vocab, word.s + at, len);
    struct sl_buf *text = &job->scratch->word;
    sl_buf_clear(text);
    sl_status status = has_prefix ? sl_buf_add(text, prefix->s, prefix->n) : SL_OK;
    if (status == SL_OK) status = sl_buf_add(text, word.s + at, len);
    if (status == SL_OK && has_suffix) status = sl_buf_add(text, suffix->s, suffix->n);
    return status == SL_OK ? text_vocab_id(&model->vocab, text->data, text->len) : -1;
}

/* Room for one character with all that may stand around it, so that find_char cannot fail. */
static bool reserve_word(struct bpe_job *job)
{
    const struct text_string *prefix = &job->model->prefix, *suffix = &job->model->suffix;
    struct sl_buf *text = &job->scratch->word;
    if (prefix->n + suffix->n == 0) return true;
    sl_buf_clear(text);
    return sl_buf_add(text, prefix->s, prefix->n) == SL_OK &&
           sl_buf_add(text, suffix->s, suffix->n) == SL_OK && sl_buf_add(text, "0000", 4) == SL_OK;
}

static bool add_bytes(struct bpe_job *job, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (job->model->byte_ids[(unsigned char)s[i]] < 0) return false;
    for (size_t i = 0; i < n; i++) add_symbol(job, job->model->byte_ids[(unsigned char)s[i]]);
    return true;
}

/* Characters without a token are unknown, and with fuse_unk a row of them is one; without an
 * unknown token they are left out. */
static void add_symbols(struct bpe_job *job, struct text_span word)
{
    const struct text_model *model = job->model;
    bool pending = false;
    for (size_t at = 0, len; at < word.n; at += len) {
        uint32_t c;
        len = text_char(word.s + at, word.n - at, &c);
        int32_t id = find_char(job, word, at, len);
        if (id < 0 && model->byte_fallback && add_bytes(job, word.s + at, len)) continue;
        if (id < 0 && model->unk_id < 0) continue;
        if (pending && (id >= 0 || !model->fuse_unk)) add_symbol(job, model->unk_id);
        pending = id < 0;
        if (id >= 0) add_symbol(job, id);
    }
    if (pending) add_symbol(job, model->unk_id);
}

static void heap_push(struct bpe_job *job, struct text_merge merge)
{
    size_t i = job->n_heap++;
    for (; i > 0 && merge.key < job->heap[(i - 1) / 2].key; i = (i - 1) / 2)
        job->heap[i] = job->heap[(i - 1) / 2];
    job->heap[i] = merge;
}

static struct text_merge heap_pop(struct bpe_job *job)
{
    struct text_merge *heap = job->heap, top = heap[0], last = heap[--job->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= job->n_heap) break;
        if (child + 1 < job->n_heap && heap[child + 1].key < heap[child].key) child++;
        if (last.key <= heap[child].key) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* The merge of a symbol with its right neighbour, or a free slot. */
static const struct text_pair_entry *find_merge(const struct bpe_job *job, int32_t left)
{
    const struct text_symbol *l = &job->symbols[left];
    return pair_slot(job->model, (uint32_t)l->id, (uint32_t)job->symbols[l->next].id);
}

static void consider(struct bpe_job *job, int32_t left)
{
    if (left < 0 || job->symbols[left].next < 0) return;
    const struct text_pair_entry *found = find_merge(job, left);
    if (found->left == PAIR_FREE) return;
    heap_push(job, (struct text_merge){(uint64_t)found->rank << 32 | (uint32_t)left, found->id});
}

static void merge_all(struct bpe_job *job)
{
    for (size_t i = 0; i + 1 < job->n_symbols; i++) consider(job, (int32_t)i);
    while (job->n_heap > 0) {
        struct text_merge merge = heap_pop(job);
        int32_t left = (int32_t)(uint32_t)merge.key;
        struct text_symbol *l = &job->symbols[left];
        if (l->n_chars == 0 || l->next < 0) continue;
        const struct text_pair_entry *found = find_merge(job, left);
        if (found->left == PAIR_FREE || found->id != merge.id) continue; /* outdated */
        struct text_symbol *r = &job->symbols[l->next];
        l->id = merge.id;
        l->n_chars += r->n_chars;
        l->next = r->next;
        r->n_chars = 0;
        if (l->next >= 0) job->symbols[l->next].prev = left;
        consider(job, l->prev);
        consider(job, left);
    }
}

sl_status text_bpe_run(const struct text_model *model, struct text_scratch *scratch,
                       struct text_span word, struct text_ids *out)
{
    if (model->ignore_merges) {
        int32_t whole = text_vocab_id(&model->vocab, word.s, word.n);
        if (whole >= 0) return text_ids_add(out, whole);
    }
    struct bpe_job job = {.model = model, .scratch = scratch};
    /* A byte gives one symbol at most; n symbols give n - 1 candidates, and each of at most n - 1
     * joins takes one and adds at most two. */
    job.symbols =
        text_reserve(scratch->symbols, &scratch->symbols_cap, word.n + 1, sizeof *job.symbols);
    if (!job.symbols) return SL_NOMEM;
    scratch->symbols = job.symbols;
    job.heap =
        text_reserve(scratch->merges, &scratch->merges_cap, 2 * word.n + 2, sizeof *job.heap);
    if (!job.heap) return SL_NOMEM;
    scratch->merges = job.heap;
    if (!reserve_word(&job)) return SL_NOMEM;
    add_symbols(&job, word);
    if (job.n_symbols > 1) merge_all(&job);
    for (int32_t i = job.n_symbols ? 0 : -1; i >= 0; i = job.symbols[i].next) {
        sl_status status = text_ids_add(out, job.symbols[i].id);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}
