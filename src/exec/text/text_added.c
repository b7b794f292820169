/* text_added.c: tokens that are found verbatim before anything else is done: those of the text as
 * it came, and then, of what lies between them, those of the normalized text. */
#include "base/mem.h"
#include "base/unicode.h"
#include "exec/text/text_int.h"

static sl_status parse_token(struct text_added *added, const struct sl_json_value *json,
                             struct text_vocab *vocab, struct sl_err *err)
{
    struct text_added_token *token = &added->tokens[added->n];
    int64_t id = sl_json_to_int(sl_json_get(json, "id"), -1);
    sl_status status = text_string_parse(json, "content", &token->text, err);
    if (status != SL_OK) {
        (void)sl_err_prefix(err, "added_tokens[%zu]", added->n);
        return status;
    }
    if (id < 0 || id >= TEXT_IDS_MAX)
        return sl_err_set(err, SL_LIMIT, "added token '%.40s' has the id %lld; 0 to %d are taken",
                          token->text.s, (long long)id, TEXT_IDS_MAX - 1);
    /* The model's own id for it counts, as in the library. */
    int32_t own = text_vocab_id(vocab, token->text.s, token->text.n);
    token->id = own >= 0 ? own : (int32_t)id;
    token->single_word = sl_json_to_bool(sl_json_get(json, "single_word"), false);
    token->lstrip = sl_json_to_bool(sl_json_get(json, "lstrip"), false);
    token->rstrip = sl_json_to_bool(sl_json_get(json, "rstrip"), false);
    token->special = sl_json_to_bool(sl_json_get(json, "special"), false);
    token->normalized = sl_json_to_bool(sl_json_get(json, "normalized"), !token->special);
    added->n++;
    return SL_OK;
}

/* Makes the token part of the vocabulary. */
static sl_status enter_token(const struct text_added_token *token, struct text_vocab *vocab)
{
    sl_status status = text_vocab_grow(vocab, (size_t)token->id + 1);
    if (status != SL_OK) return status;
    vocab->words[token->id] = (struct text_word){
        .s = token->text.s, .n = (uint32_t)token->text.n, .added = true, .special = token->special};
    return sl_strmap_put(&vocab->by_text, token->text.s, token->text.n, token->id);
}

sl_status text_added_parse(struct text_added *added, const struct sl_json_value *json,
                           struct text_vocab *vocab, struct sl_err *err)
{
    size_t n = sl_json_size(json);
    if (n > TEXT_ADDED_MAX)
        return sl_err_set(err, SL_LIMIT, "%zu added tokens, over %d", n, TEXT_ADDED_MAX);
    added->tokens = sl_calloc(n + 1, sizeof *added->tokens);
    if (!added->tokens) return sl_err_set(err, SL_NOMEM, "no memory for added tokens");
    for (size_t i = 0; i < n; i++) {
        sl_status status = parse_token(added, sl_json_at(json, i), vocab, err);
        if (status != SL_OK) {
            sl_free(added->tokens[added->n].text.s);
            return status;
        }
        status = enter_token(&added->tokens[i], vocab);
        if (status != SL_OK) return sl_err_set(err, status, "no memory for added tokens");
    }
    return SL_OK;
}

/* What the token looks like after the normalizer, behind the other keys' texts. */
static sl_status add_normal_key(const struct text_normalizer *normalizer,
                                struct text_scratch *scratch, const struct text_string *text,
                                struct sl_buf *texts, size_t *out_n, struct sl_err *err)
{
    struct text_span normal;
    sl_status status = text_normalizer_run(normalizer, scratch,
                                           (struct text_span){text->s, text->n}, &normal, err);
    if (status != SL_OK) return status;
    *out_n = normal.n;
    status = sl_buf_add(texts, normal.s, normal.n);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "no room for the added tokens");
}

static sl_status build_trie(struct text_added *added, const struct text_normalizer *normalizer,
                            bool normalized, struct text_trie_key *keys, struct sl_err *err)
{
    struct text_encoding encoding;
    struct text_scratch *scratch;
    struct sl_buf texts;
    size_t n = 0, at = 0;
    text_encoding_init(&encoding);
    sl_buf_init(&texts, TEXT_TOKENIZER_FILE_MAX);
    sl_status status = text_scratch_get(&encoding, &scratch);
    for (size_t i = 0; i < added->n && status == SL_OK; i++) {
        const struct text_added_token *token = &added->tokens[i];
        size_t n_key = 0;
        if (token->normalized != normalized) continue;
        status = add_normal_key(normalizer, scratch, &token->text, &texts, &n_key, err);
        keys[n++] = (struct text_trie_key){NULL, (uint32_t)n_key, (int32_t)i};
    }
    for (size_t i = 0; i < n; i++) {
        keys[i].s = texts.data + at;
        at += keys[i].n;
    }
    if (status == SL_OK)
        status = text_trie_build(normalized ? &added->normal : &added->raw, keys, n);
    sl_buf_done(&texts);
    text_encoding_done(&encoding);
    return status;
}

sl_status text_added_build(struct text_added *added, const struct text_normalizer *normalizer,
                           struct sl_err *err)
{
    static const struct text_normalizer NOTHING;
    struct text_trie_key *keys = sl_malloc((added->n + 1) * sizeof *keys);
    sl_status status = keys ? build_trie(added, &NOTHING, false, keys, err) : SL_NOMEM;
    if (status == SL_OK) status = build_trie(added, normalizer, true, keys, err);
    sl_free(keys);
    return status == SL_NOMEM ? sl_err_set(err, status, "no memory for added tokens") : status;
}

void text_added_done(struct text_added *added)
{
    for (size_t i = 0; i < added->n; i++) sl_free(added->tokens[i].text.s);
    sl_free(added->tokens);
    text_trie_done(&added->raw);
    text_trie_done(&added->normal);
}

static bool is_word_at(struct text_span text, size_t at)
{
    uint32_t c = 0;
    if (at >= text.n) return false;
    text_char(text.s + at, text.n - at, &c);
    return sl_unicode_is_word(c);
}

/* Where the character before `at` begins. at > 0. */
static size_t char_before(struct text_span text, size_t at)
{
    do at--;
    while (at > 0 && ((unsigned char)text.s[at] & 0xc0) == 0x80);
    return at;
}

static bool stands_alone(struct text_span text, size_t from, size_t to)
{
    return !(from > 0 && is_word_at(text, char_before(text, from))) && !is_word_at(text, to);
}

static size_t spaces_before(struct text_span text, size_t at, size_t floor)
{
    while (at > floor) {
        size_t before = char_before(text, at);
        uint32_t c;
        text_char(text.s + before, text.n - before, &c);
        if (before < floor || !sl_unicode_is_white_space(c)) break;
        at = before;
    }
    return at;
}

static size_t spaces_after(struct text_span text, size_t at)
{
    while (at < text.n) {
        uint32_t c;
        size_t len = text_char(text.s + at, text.n - at, &c);
        if (!sl_unicode_is_white_space(c)) break;
        at += len;
    }
    return at;
}

void text_added_next(const struct text_added *added, const struct text_trie *trie,
                     struct text_span text, size_t floor, struct text_found *found)
{
    size_t at = found->resume;
    while (at < text.n) {
        int32_t i = -1;
        size_t n = text_trie_longest(trie, text.s + at, text.n - at, &i);
        if (n == 0) {
            at++;
            continue;
        }
        const struct text_added_token *token = &added->tokens[i];
        found->resume = at + n;
        if (token->single_word && !stands_alone(text, at, at + n)) {
            at += n;
            continue;
        }
        found->id = token->id;
        found->from = token->lstrip ? spaces_before(text, at, floor) : at;
        found->to = token->rstrip ? spaces_after(text, at + n) : at + n;
        if (found->from < floor) found->from = floor;
        if (found->to < found->from) found->to = found->from;
        return;
    }
    *found = (struct text_found){text.n, text.n, -1, text.n};
}
