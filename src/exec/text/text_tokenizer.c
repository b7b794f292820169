/* text_tokenizer.c: reads a tokenizer.json part by part. */
#include "exec/text/text_tokenizer.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "exec/text/text_int.h"

/* What is left of "model" without vocabulary and merges is a dozen settings. */
#define SETTINGS_MAX ((size_t)1 << 20)

sl_status text_string_parse(const struct sl_json_value *object, const char *key,
                            struct text_string *out, struct sl_err *err)
{
    size_t n;
    const char *s = sl_json_to_str(sl_json_get(object, key), NULL, &n);
    if (!s) return sl_err_set(err, SL_INVALID, "%s: \"%s\" is no string", text_type(object), key);
    if (n > TEXT_TOKEN_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "%s: \"%s\" has %zu bytes, over %d", text_type(object),
                          key, n, TEXT_TOKEN_BYTES_MAX);
    char *copy = sl_memdup(s, n);
    if (!copy) return sl_err_set(err, SL_NOMEM, "no memory for \"%s\"", key);
    *out = (struct text_string){copy, n};
    return SL_OK;
}

const char *text_type(const struct sl_json_value *json)
{
    return sl_json_to_str(sl_json_get(json, "type"), "", NULL);
}

sl_status text_unknown_type(const struct sl_json_value *json, const char *where, struct sl_err *err)
{
    return sl_err_set(err, SL_UNSUPPORTED, "%s: type '%.60s' is not known here", where,
                      text_type(json));
}

sl_status text_pattern_parse(const struct sl_json_value *json, struct text_string *string,
                             struct text_regex **regex, struct sl_err *err)
{
    size_t n;
    const char *expression = sl_json_to_str(sl_json_get(json, "Regex"), NULL, &n);
    if (expression) return text_regex_compile(expression, n, regex, err);
    return text_string_parse(json, "String", string, err);
}

/* The parts of the document. */
struct parts {
    struct text_span added, normalizer, pre, post, decoder, model, truncation, padding;
};

/* One member of an object: `key` with its quotes. */
static sl_status next_member(struct text_json *json, bool *first, bool *out_more,
                             struct text_span *key, struct text_span *value)
{
    sl_status status = text_json_next(json, '}', first, out_more);
    if (status != SL_OK || !*out_more) return status;
    if (text_json_peek(json) != '"') return text_json_fail(json, "a key is expected");
    status = text_json_skip(json, key);
    if (status == SL_OK) status = text_json_colon(json);
    return status == SL_OK ? text_json_skip(json, value) : status;
}

static bool is_key(struct text_span key, const char *name)
{
    size_t n = strlen(name);
    return key.n == n + 2 && memcmp(key.s + 1, name, n) == 0;
}

static sl_status find_parts(struct text_span document, struct parts *parts, struct sl_err *err)
{
    const struct {
        const char *name;
        struct text_span *part;
    } known[] = {{"added_tokens", &parts->added},    {"normalizer", &parts->normalizer},
                 {"pre_tokenizer", &parts->pre},     {"post_processor", &parts->post},
                 {"decoder", &parts->decoder},       {"model", &parts->model},
                 {"truncation", &parts->truncation}, {"padding", &parts->padding}};
    struct text_json json;
    struct text_span key = {0}, value = {0};
    bool first = true, more = true;
    text_json_init(&json, document, err);
    sl_status status = text_json_open(&json, '{');
    while (status == SL_OK) {
        status = next_member(&json, &first, &more, &key, &value);
        if (status != SL_OK || !more) break;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (is_key(key, known[i].name)) *known[i].part = value;
    }
    if (status == SL_OK) status = text_json_end(&json);
    if (status == SL_OK && !parts->model.s)
        return sl_err_set(err, SL_INVALID, "a tokenizer.json without \"model\"");
    return status;
}

/* An absent part is null. */
static sl_status parse_part(struct text_span part, const char *name, struct sl_json_value **out,
                            struct sl_err *err)
{
    *out = NULL;
    if (!part.s) return SL_OK;
    sl_status status = sl_json_parse(part.s, part.n, out, err);
    if (status != SL_OK) (void)sl_err_prefix(err, "%s", name);
    return status;
}

/* Copies all members of the model but the two large ones into one small object. */
static sl_status split_model(struct text_span model, struct text_model_json *parts,
                             struct sl_buf *settings, struct sl_err *err)
{
    struct text_json json;
    struct text_span key = {0}, value = {0};
    bool first = true, more = true;
    text_json_init(&json, model, err);
    sl_status status = text_json_open(&json, '{');
    if (status == SL_OK) status = sl_buf_addc(settings, '{');
    while (status == SL_OK) {
        status = next_member(&json, &first, &more, &key, &value);
        if (status != SL_OK || !more) break;
        if (is_key(key, "vocab")) {
            parts->vocab = value;
        } else if (is_key(key, "merges")) {
            parts->merges = value;
        } else {
            if (settings->len > 1) status = sl_buf_addc(settings, ',');
            if (status == SL_OK) status = sl_buf_add(settings, key.s, key.n);
            if (status == SL_OK) status = sl_buf_addc(settings, ':');
            if (status == SL_OK) status = sl_buf_add(settings, value.s, value.n);
        }
    }
    if (status == SL_OK) status = sl_buf_addc(settings, '}');
    return status;
}

static sl_status load_model(struct text_tokenizer *tok, struct text_span span, struct sl_err *err)
{
    struct text_model_json parts = {0};
    struct sl_json_value *rest = NULL;
    struct sl_buf settings;
    sl_buf_init(&settings, SETTINGS_MAX);
    sl_status status = split_model(span, &parts, &settings, err);
    if (status == SL_NOMEM || status == SL_LIMIT)
        status = sl_err_set(err, status, "settings of %zu bytes", settings.len);
    if (status == SL_OK)
        status =
            parse_part((struct text_span){settings.data, settings.len}, "settings", &rest, err);
    parts.rest = rest;
    if (status == SL_OK) status = text_model_parse(&tok->model, &parts, err);
    if (status != SL_OK) (void)sl_err_prefix(err, "model");
    sl_json_free(rest);
    sl_buf_done(&settings);
    return status;
}

static void load_truncation(struct text_tokenizer *tok, const struct sl_json_value *json)
{
    int64_t max = sl_json_to_int(sl_json_get(json, "max_length"), 0);
    const char *side = sl_json_to_str(sl_json_get(json, "direction"), "Right", NULL);
    tok->max_tokens = max > 0 ? (size_t)max : 0;
    tok->truncate_left = strcmp(side, "Left") == 0;
}

static void load_padding(struct text_tokenizer *tok, const struct sl_json_value *json)
{
    int64_t id = sl_json_to_int(sl_json_get(json, "pad_id"), -1);
    if (id < 0) id = text_tokenizer_id(tok, "[PAD]", 5);
    if (id < 0) id = text_tokenizer_id(tok, "<pad>", 5);
    tok->pad_id = id;
}

enum part {
    PART_ADDED,
    PART_NORMALIZER,
    PART_PRE,
    PART_POST,
    PART_DECODER,
    PART_TRUNCATION,
    PART_PADDING
};

static sl_status load_part(struct text_tokenizer *tok, enum part part,
                           const struct sl_json_value *json, struct sl_err *err)
{
    switch (part) {
    case PART_ADDED: return text_added_parse(&tok->added, json, &tok->model.vocab, err);
    case PART_NORMALIZER: return text_normalizer_parse(&tok->normalizer, json, 0, err);
    case PART_PRE: return text_pretoken_parse(&tok->pre, json, 0, err);
    case PART_POST: return text_template_parse(&tok->post, json, 0, err);
    case PART_DECODER: return text_decoder_parse(&tok->decoder, json, 0, err);
    case PART_TRUNCATION: load_truncation(tok, json); return SL_OK;
    case PART_PADDING: load_padding(tok, json); return SL_OK;
    }
    return SL_INTERNAL;
}

static sl_status load_parts(struct text_tokenizer *tok, const struct parts *parts,
                            struct sl_err *err)
{
    const struct {
        const char *name;
        enum part part;
        struct text_span span;
    } all[] = {{"added_tokens", PART_ADDED, parts->added},
               {"normalizer", PART_NORMALIZER, parts->normalizer},
               {"pre_tokenizer", PART_PRE, parts->pre},
               {"post_processor", PART_POST, parts->post},
               {"decoder", PART_DECODER, parts->decoder},
               {"truncation", PART_TRUNCATION, parts->truncation},
               {"padding", PART_PADDING, parts->padding}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct sl_json_value *json;
        sl_status status = parse_part(all[i].span, all[i].name, &json, err);
        if (status == SL_OK) status = load_part(tok, all[i].part, json, err);
        sl_json_free(json);
        if (status != SL_OK) return status;
    }
    return text_added_build(&tok->added, &tok->normalizer, err);
}

sl_status text_tokenizer_load(const char *json, size_t n, struct text_tokenizer **out,
                              struct sl_err *err)
{
    struct parts parts = {0};
    if (n > TEXT_TOKENIZER_FILE_MAX)
        return sl_err_set(err, SL_LIMIT, "a tokenizer.json of %zu bytes, over %zu", n,
                          TEXT_TOKENIZER_FILE_MAX);
    if (!sl_utf8_valid(json, n))
        return sl_err_set(err, SL_INVALID, "a tokenizer.json not in UTF-8");
    sl_status status = find_parts((struct text_span){json, n}, &parts, err);
    if (status != SL_OK) return status;
    struct text_tokenizer *tok = sl_calloc(1, sizeof *tok);
    if (!tok) return sl_err_set(err, SL_NOMEM, "no memory for a tokenizer");
    text_template_default(&tok->post);
    status = load_model(tok, parts.model, err);
    if (status == SL_OK) status = load_parts(tok, &parts, err);
    if (status != SL_OK) goto fail;
    *out = tok;
    return SL_OK;
fail:
    text_tokenizer_destroy(tok);
    return status;
}

void text_tokenizer_destroy(struct text_tokenizer *tok)
{
    if (!tok) return;
    text_added_done(&tok->added);
    text_normalizer_done(&tok->normalizer);
    text_pretoken_done(&tok->pre);
    text_model_done(&tok->model);
    text_decoder_done(&tok->decoder);
    sl_free(tok);
}

size_t text_tokenizer_n_vocab(const struct text_tokenizer *tok)
{
    return tok->model.vocab.n;
}

size_t text_tokenizer_max_tokens(const struct text_tokenizer *tok)
{
    return tok->max_tokens;
}

int64_t text_tokenizer_pad_id(const struct text_tokenizer *tok)
{
    return tok->pad_id;
}

size_t text_tokenizer_n_added(const struct text_tokenizer *tok, bool pair)
{
    return text_items_added(pair ? &tok->post.pair : &tok->post.single);
}

int64_t text_tokenizer_id(const struct text_tokenizer *tok, const char *token, size_t n)
{
    return text_vocab_id(&tok->model.vocab, token, n);
}

const char *text_tokenizer_token(const struct text_tokenizer *tok, int64_t id, size_t *out_n)
{
    if (id < 0 || (uint64_t)id >= tok->model.vocab.n) return NULL;
    *out_n = tok->model.vocab.words[id].n;
    return tok->model.vocab.words[id].s;
}

bool text_tokenizer_is_special(const struct text_tokenizer *tok, int64_t id)
{
    return id >= 0 && (uint64_t)id < tok->model.vocab.n && tok->model.vocab.words[id].special;
}
