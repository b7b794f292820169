/* text_normalizer.c: the steps that change a text before it is cut: classes of characters, case,
 * normal forms, replacements. BertNormalizer becomes up to five of them. */
#include "base/mem.h"
#include "base/unicode.h"
#include "base/utf8.h"
#include "exec/text/text_int.h"

static struct text_norm_step *add_step(struct text_normalizer *normalizer, enum text_norm_kind kind,
                                       struct sl_err *err)
{
    if (normalizer->n_steps == TEXT_STEPS_MAX) {
        (void)sl_err_set(err, SL_LIMIT, "normalizer: more than %d steps", TEXT_STEPS_MAX);
        return NULL;
    }
    struct text_norm_step *step = &normalizer->steps[normalizer->n_steps++];
    *step = (struct text_norm_step){.kind = kind};
    return step;
}

static sl_status add_plain(struct text_normalizer *normalizer, enum text_norm_kind kind,
                           struct sl_err *err)
{
    return add_step(normalizer, kind, err) ? SL_OK : SL_LIMIT;
}

static sl_status add_form(struct text_normalizer *normalizer, enum sl_unicode_form form,
                          struct sl_err *err)
{
    struct text_norm_step *step = add_step(normalizer, TEXT_NORM_FORM, err);
    if (!step) return SL_LIMIT;
    step->form = form;
    return SL_OK;
}

static sl_status parse_bert(struct text_normalizer *normalizer, const struct sl_json_value *json,
                            struct sl_err *err)
{
    bool lower = sl_json_to_bool(sl_json_get(json, "lowercase"), true);
    /* Absent or null: as `lowercase`. */
    bool strip = sl_json_to_bool(sl_json_get(json, "strip_accents"), lower);
    sl_status status = SL_OK;
    if (sl_json_to_bool(sl_json_get(json, "clean_text"), true))
        status = add_plain(normalizer, TEXT_NORM_CLEAN, err);
    if (status == SL_OK && sl_json_to_bool(sl_json_get(json, "handle_chinese_chars"), true))
        status = add_plain(normalizer, TEXT_NORM_CHINESE, err);
    if (status == SL_OK && strip) status = add_form(normalizer, SL_UNICODE_NFD, err);
    if (status == SL_OK && strip) status = add_plain(normalizer, TEXT_NORM_DROP_NONSPACING, err);
    if (status == SL_OK && lower) status = add_plain(normalizer, TEXT_NORM_LOWERCASE, err);
    return status;
}

static sl_status parse_strip(struct text_normalizer *normalizer, const struct sl_json_value *json,
                             struct sl_err *err)
{
    struct text_norm_step *step = add_step(normalizer, TEXT_NORM_STRIP, err);
    if (!step) return SL_LIMIT;
    step->left = sl_json_to_bool(sl_json_get(json, "strip_left"), true);
    step->right = sl_json_to_bool(sl_json_get(json, "strip_right"), true);
    return SL_OK;
}

static sl_status parse_replace(struct text_normalizer *normalizer, const struct sl_json_value *json,
                               struct sl_err *err)
{
    struct text_norm_step *step = add_step(normalizer, TEXT_NORM_REPLACE, err);
    if (!step) return SL_LIMIT;
    sl_status status =
        text_pattern_parse(sl_json_get(json, "pattern"), &step->pattern, &step->regex, err);
    return status == SL_OK ? text_string_parse(json, "content", &step->content, err) : status;
}

static sl_status parse_prepend(struct text_normalizer *normalizer, const struct sl_json_value *json,
                               struct sl_err *err)
{
    struct text_norm_step *step = add_step(normalizer, TEXT_NORM_PREPEND, err);
    return step ? text_string_parse(json, "prepend", &step->content, err) : SL_LIMIT;
}

static sl_status parse_charsmap(struct text_normalizer *normalizer,
                                const struct sl_json_value *json, struct sl_err *err)
{
    size_t n;
    const char *text = sl_json_to_str(sl_json_get(json, "precompiled_charsmap"), "", &n);
    if (n == 0) return SL_OK; /* an empty map changes nothing */
    struct text_norm_step *step = add_step(normalizer, TEXT_NORM_CHARSMAP, err);
    return step ? text_charsmap_create(text, n, &step->charsmap, err) : SL_LIMIT;
}

static sl_status parse_sequence(struct text_normalizer *normalizer,
                                const struct sl_json_value *json, int depth, struct sl_err *err)
{
    const struct sl_json_value *list = sl_json_get(json, "normalizers");
    for (size_t i = 0; i < sl_json_size(list); i++) {
        sl_status status = text_normalizer_parse(normalizer, sl_json_at(list, i), depth + 1, err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

sl_status text_normalizer_parse(struct text_normalizer *normalizer,
                                const struct sl_json_value *json, int depth, struct sl_err *err)
{
    static const struct {
        const char *name;
        enum text_norm_kind kind;
    } PLAIN[] = {{"Lowercase", TEXT_NORM_LOWERCASE},
                 {"StripAccents", TEXT_NORM_DROP_MARKS},
                 {"Nmt", TEXT_NORM_NMT},
                 {"ByteLevel", TEXT_NORM_BYTES}};
    static const struct {
        const char *name;
        enum sl_unicode_form form;
    } FORMS[] = {{"NFC", SL_UNICODE_NFC},
                 {"NFD", SL_UNICODE_NFD},
                 {"NFKC", SL_UNICODE_NFKC},
                 {"NFKD", SL_UNICODE_NFKD}};
    const char *type = text_type(json);
    if (sl_json_is(json, SL_JSON_NULL)) return SL_OK;
    if (depth > TEXT_NESTING_MAX)
        return sl_err_set(err, SL_LIMIT, "normalizer nested deeper than %d", TEXT_NESTING_MAX);
    for (size_t i = 0; i < sizeof PLAIN / sizeof *PLAIN; i++)
        if (strcmp(type, PLAIN[i].name) == 0) return add_plain(normalizer, PLAIN[i].kind, err);
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++)
        if (strcmp(type, FORMS[i].name) == 0) return add_form(normalizer, FORMS[i].form, err);
    if (strcmp(type, "BertNormalizer") == 0) return parse_bert(normalizer, json, err);
    if (strcmp(type, "Strip") == 0) return parse_strip(normalizer, json, err);
    if (strcmp(type, "Replace") == 0) return parse_replace(normalizer, json, err);
    if (strcmp(type, "Prepend") == 0) return parse_prepend(normalizer, json, err);
    if (strcmp(type, "Precompiled") == 0) return parse_charsmap(normalizer, json, err);
    if (strcmp(type, "Sequence") == 0) return parse_sequence(normalizer, json, depth, err);
    return text_unknown_type(json, "normalizer", err);
}

void text_normalizer_done(struct text_normalizer *normalizer)
{
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        struct text_norm_step *step = &normalizer->steps[i];
        sl_free(step->pattern.s);
        sl_free(step->content.s);
        text_regex_destroy(step->regex);
        text_charsmap_destroy(step->charsmap);
    }
    normalizer->n_steps = 0;
}

/* The blocks that BERT's authors call Chinese. The gap before U+2B920 is in the reference, too. */
static bool is_chinese(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
           (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

/* Controls go, white space becomes a space. */
static size_t clean_char(uint32_t c, uint32_t out[SL_UNICODE_CASE_MAX])
{
    bool space = sl_unicode_is_white_space(c);
    out[0] = space ? ' ' : c;
    if (c == '\t' || c == '\n' || c == '\r') return 1;
    bool control = c < 0x20 || (c >= 0x7f && c < 0xa0) || sl_unicode_is_format(c);
    return c == 0 || c == 0xfffd || control ? 0 : 1;
}

/* SentencePiece's nmt rule. */
static size_t nmt_char(uint32_t c, uint32_t out[SL_UNICODE_CASE_MAX])
{
    out[0] = c;
    if (c == 0x09 || c == 0x0a || c == 0x0c || c == 0x0d || c == 0x1680 ||
        (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff ||
        c == 0xfffd)
        out[0] = ' ';
    else if ((c >= 0x01 && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f)
        return 0;
    return 1;
}

static size_t map_char(enum text_norm_kind kind, uint32_t c, uint32_t out[SL_UNICODE_CASE_MAX])
{
    out[0] = c;
    switch (kind) {
    case TEXT_NORM_CLEAN: return clean_char(c, out);
    case TEXT_NORM_NMT: return nmt_char(c, out);
    case TEXT_NORM_CHINESE:
        if (!is_chinese(c)) return 1;
        out[0] = out[2] = ' ';
        out[1] = c;
        return 3;
    case TEXT_NORM_DROP_NONSPACING: return sl_unicode_is_mark_nonspacing(c) ? 0 : 1;
    case TEXT_NORM_DROP_MARKS: return sl_unicode_is_mark(c) ? 0 : 1;
    case TEXT_NORM_LOWERCASE: return sl_unicode_to_case(c, SL_UNICODE_LOWER, out);
    default: return 1;
    }
}

static sl_status map_chars(enum text_norm_kind kind, struct text_scratch *scratch,
                           struct text_span text, struct sl_buf *out)
{
    for (size_t at = 0; at < text.n;) {
        uint32_t c, mapped[SL_UNICODE_CASE_MAX];
        size_t len = text_char(text.s + at, text.n - at, &c);
        size_t n_mapped = map_char(kind, c, mapped);
        if (at == 0 && n_mapped == 0) scratch->lead_dropped = true;
        sl_status status = SL_OK;
        if (n_mapped == 1 && mapped[0] == c) {
            status = sl_buf_add(out, text.s + at, len);
        } else {
            for (size_t i = 0; i < n_mapped && status == SL_OK; i++) {
                char bytes[4];
                status = sl_buf_add(out, bytes, sl_utf8_encode(mapped[i], bytes));
            }
        }
        if (status != SL_OK) return status;
        at += len;
    }
    return SL_OK;
}

static sl_status strip(const struct text_norm_step *step, struct text_scratch *scratch,
                       struct text_span text, struct sl_buf *out)
{
    size_t from = 0, to = 0, at = 0;
    bool leading = true;
    while (at < text.n) {
        uint32_t c;
        size_t len = text_char(text.s + at, text.n - at, &c);
        bool space = sl_unicode_is_white_space(c);
        if (leading && space) from = at + len;
        leading &= space;
        at += len;
        if (!space) to = at;
    }
    if (!step->left) from = 0;
    if (!step->right) to = text.n;
    if (from > 0) scratch->lead_dropped = true;
    return to > from ? sl_buf_add(out, text.s + from, to - from) : SL_OK;
}

static sl_status replace_string(const struct text_norm_step *step, struct text_span text,
                                struct sl_buf *out)
{
    size_t at = 0;
    while (step->pattern.n && at < text.n) {
        const char *found = memmem(text.s + at, text.n - at, step->pattern.s, step->pattern.n);
        if (!found) break;
        size_t start = (size_t)(found - text.s);
        sl_status status = sl_buf_add(out, text.s + at, start - at);
        if (status == SL_OK) status = sl_buf_add(out, step->content.s, step->content.n);
        if (status != SL_OK) return status;
        at = start + step->pattern.n;
    }
    return sl_buf_add(out, text.s + at, text.n - at);
}

static sl_status replace_regex(const struct text_norm_step *step, struct text_scratch *scratch,
                               struct text_span text, struct sl_buf *out)
{
    size_t at = 0, from = 0;
    while (from <= text.n) {
        struct text_cut cut;
        bool found;
        sl_status status = text_find(scratch, step->regex, text, from, &found, &cut);
        if (status != SL_OK) return status;
        if (!found) break;
        status = sl_buf_add(out, text.s + at, cut.from - at);
        if (status == SL_OK) status = sl_buf_add(out, step->content.s, step->content.n);
        if (status != SL_OK) return status;
        at = from = cut.to;
        if (cut.to > cut.from || from == text.n) {
            if (cut.to == cut.from) break;
            continue;
        }
        uint32_t c; /* an empty match: go on behind the next character */
        from += text_char(text.s + from, text.n - from, &c);
    }
    return sl_buf_add(out, text.s + at, text.n - at);
}

static sl_status run_step(const struct text_norm_step *step, struct text_scratch *scratch,
                          struct text_span text, struct sl_buf *out)
{
    sl_status status;
    switch (step->kind) {
    case TEXT_NORM_FORM: return sl_unicode_normalize(text.s, text.n, step->form, out);
    case TEXT_NORM_STRIP: return strip(step, scratch, text, out);
    case TEXT_NORM_REPLACE:
        return step->regex ? replace_regex(step, scratch, text, out)
                           : replace_string(step, text, out);
    case TEXT_NORM_PREPEND:
        status = text.n ? sl_buf_add(out, step->content.s, step->content.n) : SL_OK;
        return status == SL_OK ? sl_buf_add(out, text.s, text.n) : status;
    case TEXT_NORM_CHARSMAP: return text_charsmap_run(step->charsmap, scratch, text, out);
    case TEXT_NORM_BYTES: return text_bytes_encode(text.s, text.n, out);
    default: return map_chars(step->kind, scratch, text, out);
    }
}

sl_status text_normalizer_run(const struct text_normalizer *normalizer,
                              struct text_scratch *scratch, struct text_span text,
                              struct text_span *out, struct sl_err *err)
{
    scratch->lead_dropped = false;
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        struct sl_buf *buf = &scratch->normal[i % 2];
        sl_buf_clear(buf);
        sl_status status = run_step(&normalizer->steps[i], scratch, text, buf);
        if (status != SL_OK)
            return sl_err_set(err, status, "normalizing a text of %zu bytes: %s", text.n,
                              sl_status_text(status));
        text = (struct text_span){buf->data, buf->len};
    }
    *out = text;
    return SL_OK;
}
