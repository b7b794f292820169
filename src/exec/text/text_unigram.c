/* text_unigram.c: SentencePiece's unigram model: of all ways to cut a text into tokens the one with
 * the best sum of scores, found from left to right (Viterbi).
 * Source: Kudo 2018, https://arxiv.org/abs/1804.10959. */
#include "base/mem.h"
#include "exec/text/text_int.h"

#define UNKNOWN_PENALTY 10.0 /* below the worst score, as SentencePiece has it */

/* The best way to reach one place in the text. */
struct text_node {
    double score;
    uint32_t from; /* where its last token begins; UINT32_MAX: not reached */
    int32_t id;
};

sl_status text_unigram_parse(struct text_model *model, const struct text_model_json *json,
                             struct sl_err *err)
{
    (void)json;
    const struct text_vocab *vocab = &model->vocab;
    double worst = vocab->n ? model->scores[0] : 0;
    struct text_trie_key *keys = sl_malloc((vocab->n + 1) * sizeof *keys);
    if (!keys) return sl_err_set(err, SL_NOMEM, "no memory for a vocabulary");
    for (size_t id = 0; id < vocab->n; id++) {
        keys[id] = (struct text_trie_key){vocab->words[id].s, vocab->words[id].n, (int32_t)id};
        if (model->scores[id] < worst) worst = model->scores[id];
    }
    model->unk_score = worst - UNKNOWN_PENALTY;
    sl_status status = text_trie_build(&model->starts, keys, vocab->n);
    sl_free(keys);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "no memory for a vocabulary");
}

static void reach(struct text_node *node, double score, size_t from, int32_t id)
{
    if (node->from != UINT32_MAX && score <= node->score) return;
    *node = (struct text_node){score, (uint32_t)from, id};
}

/* All tokens that begin at `at`, and the unknown one where none is just one character. */
static void reach_from(const struct text_model *model, struct text_node *nodes,
                       struct text_span word, size_t at, size_t char_len)
{
    double so_far = nodes[at].score;
    bool covered = false;
    uint32_t node = TEXT_TRIE_ROOT;
    for (size_t i = at; i < word.n; i++) {
        node = text_trie_step(&model->starts, node, (unsigned char)word.s[i]);
        if (node == TEXT_TRIE_NONE) break;
        int32_t id = model->starts.values[node];
        if (id < 0) continue;
        reach(&nodes[i + 1], model->scores[id] + so_far, at, id);
        covered |= i + 1 - at == char_len;
    }
    if (!covered) reach(&nodes[at + char_len], model->unk_score + so_far, at, -1);
}

/* Bytes of a stretch without a token, or the unknown token. */
static sl_status add_unknown(const struct text_model *model, struct text_span part,
                             struct text_ids *out, struct sl_err *err)
{
    bool all = model->byte_fallback;
    for (size_t i = 0; i < part.n && all; i++) all = model->byte_ids[(unsigned char)part.s[i]] >= 0;
    if (!all) return text_model_unknown(model, part, out, err);
    for (size_t i = 0; i < part.n; i++) {
        sl_status status = text_ids_add(out, model->byte_ids[(unsigned char)part.s[i]]);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static bool is_unknown(const struct text_model *model, const struct text_node *node)
{
    return node->id < 0 || node->id == model->unk_id;
}

/* Turns the links around: afterwards node `i` says where the token that begins at i ends. */
static void link_forward(struct text_node *nodes, size_t n)
{
    size_t end = n;
    struct text_node last = nodes[end];
    while (end > 0) {
        size_t from = last.from;
        struct text_node before = nodes[from];
        nodes[from] = (struct text_node){.from = (uint32_t)end, .id = last.id};
        end = from;
        last = before;
    }
}

sl_status text_unigram_run(const struct text_model *model, struct text_scratch *scratch,
                           struct text_span word, struct text_ids *out, struct sl_err *err)
{
    struct text_node *nodes =
        text_reserve(scratch->nodes, &scratch->nodes_cap, word.n + 1, sizeof *nodes);
    if (!nodes) return SL_NOMEM;
    scratch->nodes = nodes;
    for (size_t i = 0; i <= word.n; i++) nodes[i] = (struct text_node){.from = UINT32_MAX};
    for (size_t at = 0, len; at < word.n; at += len) {
        uint32_t c;
        len = text_char(word.s + at, word.n - at, &c);
        reach_from(model, nodes, word, at, len);
    }
    link_forward(nodes, word.n);
    for (size_t at = 0; at < word.n;) {
        size_t end = nodes[at].from;
        sl_status status;
        if (is_unknown(model, &nodes[at])) { /* a row of unknown ones is one */
            while (end < word.n && is_unknown(model, &nodes[end])) end = nodes[end].from;
            status = add_unknown(model, (struct text_span){word.s + at, end - at}, out, err);
        } else {
            status = text_ids_add(out, nodes[at].id);
        }
        if (status != SL_OK) return status;
        at = end;
    }
    return SL_OK;
}
