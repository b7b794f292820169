/* text_wordpiece.c: WordPiece (the longest token first, then the longest of those that continue a
 * word) and WordLevel (whole words); and what all models share. */
#include "base/mem.h"
#include "exec/text/text_int.h"

#define WORD_CHARS_DEFAULT 100

sl_status text_model_unknown(const struct text_model *model, struct text_span word,
                             struct text_ids *out, struct sl_err *err)
{
    if (model->unk_id < 0)
        return sl_err_set(err, SL_UNSUPPORTED,
                          "'%.*s' is not in the vocabulary, which has no unknown token",
                          (int)(word.n < 40 ? word.n : 40), word.s);
    return text_ids_add(out, model->unk_id);
}

static sl_status build_tries(struct text_model *model, struct text_trie_key *keys)
{
    const struct text_vocab *vocab = &model->vocab;
    const struct text_string *prefix = &model->prefix;
    size_t n = 0;
    for (size_t id = 0; id < vocab->n; id++) {
        const struct text_word *word = &vocab->words[id];
        if (word->s) keys[n++] = (struct text_trie_key){word->s, word->n, (int32_t)id};
    }
    sl_status status = text_trie_build(&model->starts, keys, n);
    if (status != SL_OK) return status;
    size_t n_inner = 0;
    for (size_t i = 0; i < n; i++) {
        struct text_trie_key key = keys[i];
        if (key.n < prefix->n || memcmp(key.s, prefix->s, prefix->n) != 0) continue;
        keys[n_inner++] =
            (struct text_trie_key){key.s + prefix->n, key.n - (uint32_t)prefix->n, key.value};
    }
    return text_trie_build(&model->inner, keys, n_inner);
}

sl_status text_wordpiece_parse(struct text_model *model, const struct text_model_json *json,
                               struct sl_err *err)
{
    sl_status status =
        text_string_parse(json->rest, "continuing_subword_prefix", &model->prefix, err);
    if (status != SL_OK) return status;
    int64_t chars =
        sl_json_to_int(sl_json_get(json->rest, "max_input_chars_per_word"), WORD_CHARS_DEFAULT);
    model->word_chars_max = chars < 0 ? 0 : (size_t)chars;
    struct text_trie_key *keys = sl_malloc((model->vocab.n + 1) * sizeof *keys);
    status = keys ? build_tries(model, keys) : SL_NOMEM;
    sl_free(keys);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "no memory for a vocabulary");
}

static size_t count_chars(struct text_span word)
{
    size_t n = 0;
    for (size_t i = 0; i < word.n; i++) n += ((unsigned char)word.s[i] & 0xc0) != 0x80;
    return n;
}

sl_status text_wordpiece_run(const struct text_model *model, struct text_span word,
                             struct text_ids *out, struct sl_err *err)
{
    size_t before = out->n;
    if (word.n > model->word_chars_max && count_chars(word) > model->word_chars_max)
        return text_model_unknown(model, word, out, err);
    for (size_t at = 0; at < word.n;) {
        const struct text_trie *trie = at ? &model->inner : &model->starts;
        int32_t id = 0;
        size_t len = text_trie_longest(trie, word.s + at, word.n - at, &id);
        if (len == 0) {
            out->n = before;
            return text_model_unknown(model, word, out, err);
        }
        sl_status status = text_ids_add(out, id);
        if (status != SL_OK) return status;
        at += len;
    }
    return SL_OK;
}

static sl_status run_wordlevel(const struct text_model *model, struct text_span word,
                               struct text_ids *out, struct sl_err *err)
{
    int32_t id = text_vocab_id(&model->vocab, word.s, word.n);
    return id >= 0 ? text_ids_add(out, id) : text_model_unknown(model, word, out, err);
}

/* Files of before 2020 do not name the type: Unigram's vocabulary is an array, only BPE has merges,
 * and WordPiece has a prefix. */
static const char *model_type(const struct text_model_json *json)
{
    const char *type = text_type(json->rest);
    if (*type) return type;
    if (json->merges.s) return "BPE";
    if (json->vocab.s && *json->vocab.s == '[') return "Unigram";
    bool prefix = sl_json_is(sl_json_get(json->rest, "continuing_subword_prefix"), SL_JSON_STR);
    return prefix ? "WordPiece" : "WordLevel";
}

/* "unk_token" names it; Unigram has "unk_id". */
static sl_status find_unknown(struct text_model *model, const struct sl_json_value *json,
                              struct sl_err *err)
{
    model->unk_id = -1;
    if (model->kind == TEXT_UNIGRAM) {
        int64_t id = sl_json_to_int(sl_json_get(json, "unk_id"), -1);
        if (id >= (int64_t)model->vocab.n)
            return sl_err_set(err, SL_CORRUPT, "unk_id %lld of %zu tokens", (long long)id,
                              model->vocab.n);
        model->unk_id = id < 0 ? -1 : (int32_t)id;
        return SL_OK;
    }
    size_t n;
    const char *token = sl_json_to_str(sl_json_get(json, "unk_token"), NULL, &n);
    if (token) model->unk_id = text_vocab_id(&model->vocab, token, n);
    return SL_OK;
}

sl_status text_model_parse(struct text_model *model, const struct text_model_json *json,
                           struct sl_err *err)
{
    static const struct {
        const char *name;
        enum text_model_kind kind;
    } KINDS[] = {{"WordPiece", TEXT_WORDPIECE},
                 {"Unigram", TEXT_UNIGRAM},
                 {"BPE", TEXT_BPE},
                 {"WordLevel", TEXT_WORDLEVEL}};
    const char *type = model_type(json);
    size_t i = 0;
    while (i < sizeof KINDS / sizeof *KINDS && strcmp(type, KINDS[i].name) != 0) i++;
    if (i == sizeof KINDS / sizeof *KINDS) return text_unknown_type(json->rest, "model", err);
    model->kind = KINDS[i].kind;
    bool scored = model->kind == TEXT_UNIGRAM;
    sl_status status =
        text_vocab_parse(&model->vocab, json->vocab, scored ? &model->scores : NULL, err);
    if (status == SL_OK) status = find_unknown(model, json->rest, err);
    if (status != SL_OK) return status;
    model->byte_fallback = sl_json_to_bool(sl_json_get(json->rest, "byte_fallback"), false);
    text_vocab_byte_ids(&model->vocab, model->byte_ids);
    if (model->kind == TEXT_WORDPIECE) return text_wordpiece_parse(model, json, err);
    if (model->kind == TEXT_UNIGRAM) return text_unigram_parse(model, json, err);
    return model->kind == TEXT_BPE ? text_bpe_parse(model, json, err) : SL_OK;
}

void text_model_done(struct text_model *model)
{
    text_vocab_done(&model->vocab);
    text_trie_done(&model->starts);
    text_trie_done(&model->inner);
    sl_free(model->scores);
    sl_free(model->prefix.s);
    sl_free(model->suffix.s);
    sl_free(model->pairs);
}

sl_status text_model_run(const struct text_model *model, struct text_scratch *scratch,
                         struct text_span word, struct text_ids *out, struct sl_err *err)
{
    sl_status status;
    switch (model->kind) {
    case TEXT_WORDPIECE: status = text_wordpiece_run(model, word, out, err); break;
    case TEXT_UNIGRAM: status = text_unigram_run(model, scratch, word, out, err); break;
    case TEXT_BPE: status = text_bpe_run(model, scratch, word, out); break;
    default: status = run_wordlevel(model, word, out, err); break;
    }
    return status == SL_NOMEM ? sl_err_set(err, status, "no memory for tokens") : status;
}
