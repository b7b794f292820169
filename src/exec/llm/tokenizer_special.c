/* tokenizer_special.c: finds special tokens in text, and knows which of them end an answer. */
#include "base/mem.h"
#include "exec/llm/tokenizer_int.h"
#include <string.h>

/* Spellings of tokens that end an answer in models whose metadata names only one of them. */
static const char *const END_TEXTS[] = {
    "</s>",
    "<eos>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<turn|>",
};

static bool is_matched_in_text(const struct tokenizer *tok, int32_t id)
{
    unsigned type = tok->types[id];
    return tok->texts[id].len > 0 &&
           (type == TOKEN_CONTROL || type == TOKEN_USER || type == TOKEN_UNKNOWN);
}

static void trie_add(struct special_trie *trie, const struct gguf_str *text, int32_t id)
{
    uint32_t node = 0;
    trie->starts[(unsigned char)text->s[0]] = true;
    for (size_t i = 0; i < text->len; i++) {
        unsigned char byte = (unsigned char)text->s[i];
        const struct pair_entry *edge = pair_map_get(&trie->edges, node, byte);
        if (edge) {
            node = (uint32_t)edge->id;
            continue;
        }
        uint32_t child = trie->n_nodes++;
        trie->ids[child] = -1;
        pair_map_put(&trie->edges,
                     &(struct pair_entry){.left = node, .right = byte, .id = (int32_t)child});
        node = child;
    }
    trie->ids[node] = id;
}

sl_status special_load(struct tokenizer *tok, struct sl_err *err)
{
    struct special_trie *trie = &tok->specials;
    /* at most so many nodes besides the root; n_vocab * SPECIAL_MAX does not overflow */
    size_t n_bytes = 0;
    for (int32_t id = 0; id < tok->n_vocab; id++) {
        if (!is_matched_in_text(tok, id)) continue;
        if (tok->texts[id].len > TOKENIZER_SPECIAL_MAX)
            return sl_err_set(
                err, SL_LIMIT,
                "tokenizer.ggml.tokens: special token %d has %zu bytes, at most %d are allowed",
                (int)id, tok->texts[id].len, TOKENIZER_SPECIAL_MAX);
        n_bytes += tok->texts[id].len;
    }
    if (n_bytes >= INT32_MAX)
        return sl_err_set(err, SL_LIMIT, "tokenizer.ggml.tokens: %zu bytes of special tokens",
                          n_bytes);
    trie->ids = sl_realloc_array(NULL, n_bytes + 1, sizeof *trie->ids);
    if (!trie->ids || pair_map_init(&trie->edges, n_bytes) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory for %zu bytes of special tokens", n_bytes);
    trie->ids[0] = -1;
    trie->n_nodes = 1;
    for (int32_t id = 0; id < tok->n_vocab; id++)
        if (is_matched_in_text(tok, id)) trie_add(trie, &tok->texts[id], id);
    return SL_OK;
}

void special_done(struct special_trie *trie)
{
    pair_map_done(&trie->edges);
    sl_free(trie->ids);
    trie->ids = NULL;
}

/* Length of the longest special token at the start of text, 0 for none. */
static size_t match_here(const struct tokenizer *tok, const char *text, size_t n, bool controls,
                         int32_t *out_id)
{
    const struct special_trie *trie = &tok->specials;
    size_t best = 0;
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        const struct pair_entry *edge = pair_map_get(&trie->edges, node, (unsigned char)text[i]);
        if (!edge) break;
        node = (uint32_t)edge->id;
        int32_t id = trie->ids[node];
        if (id < 0 || (!controls && tok->types[id] != TOKEN_USER)) continue;
        best = i + 1;
        *out_id = id;
    }
    return best;
}

size_t special_next(const struct tokenizer *tok, const char *text, size_t n, size_t from,
                    bool controls, int32_t *out_id)
{
    for (size_t i = from; i < n; i++) {
        if (!tok->specials.starts[(unsigned char)text[i]]) continue;
        if (match_here(tok, text + i, n - i, controls, out_id) > 0) return i;
    }
    return n;
}

void special_add_end(struct tokenizer *tok, int32_t id)
{
    if (id >= 0 && tok->n_ends < TOKENIZER_ENDS_MAX && !tokenizer_is_end(tok, id))
        tok->ends[tok->n_ends++] = id;
}

static int32_t find_control(const struct tokenizer *tok, const char *text)
{
    int32_t id = tokenizer_find(tok, text, strlen(text));
    return id >= 0 && tok->types[id] == TOKEN_CONTROL ? id : -1;
}

void special_find_ends(struct tokenizer *tok)
{
    /* In the harmony format <|end|> closes one message of an answer; <|return|> and <|call|>
     * close the answer. */
    bool is_harmony = find_control(tok, "<|call|>") >= 0 && find_control(tok, "<|return|>") >= 0;
    for (size_t i = 0; i < sizeof END_TEXTS / sizeof *END_TEXTS; i++) {
        if (is_harmony && strcmp(END_TEXTS[i], "<|end|>") == 0) continue;
        special_add_end(tok, find_control(tok, END_TEXTS[i]));
    }
}
