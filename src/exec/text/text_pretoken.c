/* text_pretoken.c: the steps that cut a normalized text into words. */
#include "base/mem.h"
#include "base/unicode.h"
#include "exec/text/text_int.h"

/* GPT-2's words, of the ByteLevel step. */
#define WORDS_GPT2 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static struct text_pre_step *add_step(struct text_pretoken *pre, enum text_pre_kind kind,
                                      struct sl_err *err)
{
    if (pre->n_steps == TEXT_STEPS_MAX) {
        (void)sl_err_set(err, SL_LIMIT, "pre_tokenizer: more than %d steps", TEXT_STEPS_MAX);
        return NULL;
    }
    struct text_pre_step *step = &pre->steps[pre->n_steps++];
    *step = (struct text_pre_step){.kind = kind};
    return step;
}

static sl_status add_class(struct text_pretoken *pre, bool (*in_class)(uint32_t c),
                           enum text_behavior behavior, struct sl_err *err)
{
    struct text_pre_step *step = add_step(pre, TEXT_PRE_CHARS, err);
    if (!step) return SL_LIMIT;
    step->in_class = in_class;
    step->behavior = behavior;
    return SL_OK;
}

static sl_status parse_behavior(const struct sl_json_value *json, enum text_behavior *out,
                                struct sl_err *err)
{
    /* Written in CamelCase by the library; its documentation says snake_case. */
    static const struct {
        const char *name, *other;
        enum text_behavior behavior;
    } NAMES[] = {{"Removed", "removed", TEXT_REMOVED},
                 {"Isolated", "isolated", TEXT_ISOLATED},
                 {"MergedWithPrevious", "merged_with_previous", TEXT_MERGED_WITH_PREVIOUS},
                 {"MergedWithNext", "merged_with_next", TEXT_MERGED_WITH_NEXT},
                 {"Contiguous", "contiguous", TEXT_CONTIGUOUS}};
    const char *name = sl_json_to_str(sl_json_get(json, "behavior"), "Isolated", NULL);
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        if (strcmp(name, NAMES[i].name) != 0 && strcmp(name, NAMES[i].other) != 0) continue;
        *out = NAMES[i].behavior;
        return SL_OK;
    }
    return sl_err_set(err, SL_UNSUPPORTED, "pre_tokenizer: behavior '%.40s'", name);
}

static sl_status parse_bert(struct text_pretoken *pre, struct sl_err *err)
{
    sl_status status = add_class(pre, sl_unicode_is_white_space, TEXT_REMOVED, err);
    return status == SL_OK ? add_class(pre, text_is_punctuation, TEXT_ISOLATED, err) : status;
}

static sl_status parse_whitespace(struct text_pretoken *pre, struct sl_err *err)
{
    struct text_pre_step *step = add_step(pre, TEXT_PRE_WORDS, err);
    if (!step) return SL_LIMIT;
    step->behavior = TEXT_REMOVED;
    return SL_OK;
}

static sl_status parse_punctuation(struct text_pretoken *pre, const struct sl_json_value *json,
                                   struct sl_err *err)
{
    enum text_behavior behavior;
    sl_status status = parse_behavior(json, &behavior, err);
    return status == SL_OK ? add_class(pre, text_is_punctuation, behavior, err) : status;
}

static sl_status parse_digits(struct text_pretoken *pre, const struct sl_json_value *json,
                              struct sl_err *err)
{
    bool each = sl_json_to_bool(sl_json_get(json, "individual_digits"), false);
    return add_class(pre, sl_unicode_is_number, each ? TEXT_ISOLATED : TEXT_CONTIGUOUS, err);
}

static sl_status parse_delimiter(struct text_pretoken *pre, const struct sl_json_value *json,
                                 struct sl_err *err)
{
    struct text_pre_step *step = add_step(pre, TEXT_PRE_STRING, err);
    if (!step) return SL_LIMIT;
    step->behavior = TEXT_REMOVED;
    return text_string_parse(json, "delimiter", &step->pattern, err);
}

static sl_status parse_split(struct text_pretoken *pre, const struct sl_json_value *json,
                             struct sl_err *err)
{
    struct text_pre_step *step = add_step(pre, TEXT_PRE_STRING, err);
    if (!step) return SL_LIMIT;
    step->invert = sl_json_to_bool(sl_json_get(json, "invert"), false);
    sl_status status = parse_behavior(json, &step->behavior, err);
    if (status == SL_OK)
        status =
            text_pattern_parse(sl_json_get(json, "pattern"), &step->pattern, &step->regex, err);
    if (step->regex) step->kind = TEXT_PRE_REGEX;
    return status;
}

static sl_status parse_byte_level(struct text_pretoken *pre, const struct sl_json_value *json,
                                  struct sl_err *err)
{
    struct text_pre_step *step = add_step(pre, TEXT_PRE_BYTES, err);
    if (!step) return SL_LIMIT;
    step->behavior = TEXT_ISOLATED;
    step->prepend = sl_json_to_bool(sl_json_get(json, "add_prefix_space"), true)
                        ? TEXT_PREPEND_ALWAYS
                        : TEXT_PREPEND_NEVER;
    if (!sl_json_to_bool(sl_json_get(json, "use_regex"), true)) return SL_OK;
    return text_regex_compile(WORDS_GPT2, strlen(WORDS_GPT2), &step->regex, err);
}

static sl_status parse_metaspace(struct text_pretoken *pre, const struct sl_json_value *json,
                                 struct sl_err *err)
{
    struct text_pre_step *step = add_step(pre, TEXT_PRE_METASPACE, err);
    if (!step) return SL_LIMIT;
    step->behavior = TEXT_MERGED_WITH_NEXT;
    step->split = sl_json_to_bool(sl_json_get(json, "split"), true);
    /* Older files say add_prefix_space instead. */
    bool prefix = sl_json_to_bool(sl_json_get(json, "add_prefix_space"), true);
    const char *scheme = sl_json_to_str(sl_json_get(json, "prepend_scheme"), "always", NULL);
    if (!prefix || strcmp(scheme, "never") == 0)
        step->prepend = TEXT_PREPEND_NEVER;
    else
        step->prepend = strcmp(scheme, "first") == 0 ? TEXT_PREPEND_FIRST : TEXT_PREPEND_ALWAYS;
    return text_string_parse(json, "replacement", &step->pattern, err);
}

static sl_status parse_sequence(struct text_pretoken *pre, const struct sl_json_value *json,
                                int depth, struct sl_err *err)
{
    const struct sl_json_value *list = sl_json_get(json, "pretokenizers");
    for (size_t i = 0; i < sl_json_size(list); i++) {
        sl_status status = text_pretoken_parse(pre, sl_json_at(list, i), depth + 1, err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

sl_status text_pretoken_parse(struct text_pretoken *pre, const struct sl_json_value *json,
                              int depth, struct sl_err *err)
{
    const char *type = text_type(json);
    if (sl_json_is(json, SL_JSON_NULL)) return SL_OK;
    if (depth > TEXT_NESTING_MAX)
        return sl_err_set(err, SL_LIMIT, "pre_tokenizer nested deeper than %d", TEXT_NESTING_MAX);
    if (strcmp(type, "BertPreTokenizer") == 0) return parse_bert(pre, err);
    if (strcmp(type, "Whitespace") == 0) return parse_whitespace(pre, err);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_class(pre, sl_unicode_is_white_space, TEXT_REMOVED, err);
    if (strcmp(type, "ByteLevel") == 0) return parse_byte_level(pre, json, err);
    if (strcmp(type, "Metaspace") == 0) return parse_metaspace(pre, json, err);
    if (strcmp(type, "Split") == 0) return parse_split(pre, json, err);
    if (strcmp(type, "Punctuation") == 0) return parse_punctuation(pre, json, err);
    if (strcmp(type, "Digits") == 0) return parse_digits(pre, json, err);
    if (strcmp(type, "CharDelimiterSplit") == 0) return parse_delimiter(pre, json, err);
    if (strcmp(type, "Sequence") == 0) return parse_sequence(pre, json, depth, err);
    return text_unknown_type(json, "pre_tokenizer", err);
}

void text_pretoken_done(struct text_pretoken *pre)
{
    for (size_t i = 0; i < pre->n_steps; i++) {
        sl_free(pre->steps[i].pattern.s);
        text_regex_destroy(pre->steps[i].regex);
    }
    pre->n_steps = 0;
}

struct pre_job {
    struct text_scratch *scratch;
    const char *text;         /* that the pieces are ranges of */
    struct text_pieces *from; /* the pieces now; `to` is the other list */
    struct text_pieces *to;
    struct sl_buf *buf; /* the next text is written here; `other` holds the one now */
    struct sl_buf *other;
    struct sl_err *err;
};

static sl_status split(struct pre_job *job, const struct text_pre_step *step)
{
    sl_status status = text_split_run(step, job->scratch, job->text, job->from, job->to, job->err);
    struct text_pieces *swap = job->from;
    job->from = job->to;
    job->to = swap;
    return status;
}

static bool starts_with(const char *s, size_t n, const char *prefix, size_t n_prefix)
{
    return n >= n_prefix && (n_prefix == 0 || memcmp(s, prefix, n_prefix) == 0);
}

/* Spaces become the replacement. */
static sl_status write_metaspace(const struct text_pre_step *step, const char *s, size_t n,
                                 bool first, struct sl_buf *out)
{
    const struct text_string *mark = &step->pattern;
    bool marked = (n && s[0] == ' ') || starts_with(s, n, mark->s, mark->n);
    bool wanted =
        step->prepend == TEXT_PREPEND_ALWAYS || (step->prepend == TEXT_PREPEND_FIRST && first);
    sl_status status = wanted && !marked ? sl_buf_add(out, mark->s, mark->n) : SL_OK;
    while (n > 0 && status == SL_OK) {
        const char *space = memchr(s, ' ', n);
        size_t plain = space ? (size_t)(space - s) : n;
        status = sl_buf_add(out, s, plain);
        if (space && status == SL_OK) status = sl_buf_add(out, mark->s, mark->n);
        s += plain + (space != NULL);
        n -= plain + (space != NULL);
    }
    return status;
}

static sl_status write_prefix_space(const struct text_pre_step *step, const char *s, size_t n,
                                    struct sl_buf *out)
{
    bool wanted = step->prepend == TEXT_PREPEND_ALWAYS && n > 0 && s[0] != ' ';
    sl_status status = wanted ? sl_buf_addc(out, ' ') : SL_OK;
    return status == SL_OK ? sl_buf_add(out, s, n) : status;
}

enum rewrite { REWRITE_METASPACE, REWRITE_PREFIX_SPACE, REWRITE_BYTES };

/* Writes every piece anew, one after the other; they stay as many. */
static sl_status rewrite(struct pre_job *job, const struct text_pre_step *step, enum rewrite how)
{
    struct sl_buf *out = job->buf;
    sl_buf_clear(out);
    for (size_t i = 0; i < job->from->n; i++) {
        struct text_piece *piece = &job->from->at[i];
        const char *s = job->text + piece->at;
        size_t before = out->len;
        sl_status status;
        if (how == REWRITE_METASPACE)
            status = write_metaspace(step, s, piece->n, piece->first, out);
        else if (how == REWRITE_PREFIX_SPACE)
            status = write_prefix_space(step, s, piece->n, out);
        else
            status = text_bytes_encode(s, piece->n, out);
        if (status != SL_OK)
            return sl_err_set(job->err, status, "pre-tokenizing a text: %s",
                              sl_status_text(status));
        piece->at = (uint32_t)before;
        piece->n = (uint32_t)(out->len - before);
    }
    job->text = out->data;
    job->buf = job->other;
    job->other = out;
    return SL_OK;
}

static sl_status run_step(struct pre_job *job, const struct text_pre_step *step)
{
    sl_status status = SL_OK;
    if (step->kind == TEXT_PRE_METASPACE) {
        status = rewrite(job, step, REWRITE_METASPACE);
        return status == SL_OK && step->split ? split(job, step) : status;
    }
    if (step->kind != TEXT_PRE_BYTES) return split(job, step);
    if (step->prepend == TEXT_PREPEND_ALWAYS) status = rewrite(job, step, REWRITE_PREFIX_SPACE);
    if (status == SL_OK && step->regex) status = split(job, step);
    return status == SL_OK ? rewrite(job, step, REWRITE_BYTES) : status;
}

sl_status text_pretoken_run(const struct text_pretoken *pre, struct text_scratch *scratch,
                            struct text_span text, bool first, const struct text_pieces **out,
                            const char **out_text, struct sl_err *err)
{
    struct pre_job job = {.scratch = scratch,
                          .text = text.s,
                          .from = &scratch->pieces[0],
                          .to = &scratch->pieces[1],
                          .buf = &scratch->pre[0],
                          .other = &scratch->pre[1],
                          .err = err};
    job.from->n = 0;
    sl_status status =
        text.n ? text_pieces_add(job.from, (struct text_piece){0, (uint32_t)text.n, first}) : SL_OK;
    if (status != SL_OK) return sl_err_set(err, status, "no memory to cut a text");
    for (size_t i = 0; i < pre->n_steps; i++) {
        status = run_step(&job, &pre->steps[i]);
        if (status != SL_OK) return status;
    }
    *out = job.from;
    *out_text = job.text;
    return SL_OK;
}
