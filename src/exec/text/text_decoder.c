/* text_decoder.c: ids back into text. A decoder is a list of steps over a list of strings, one a
 * token; at the end they are joined. */
#include "base/mem.h"
#include "base/utf8.h"
#include "exec/text/text_int.h"

#define REPLACEMENT_CHAR "\xef\xbf\xbd" /* U+FFFD */

static struct text_dec_step *add_step(struct text_decoder *decoder, enum text_dec_kind kind,
                                      struct sl_err *err)
{
    if (decoder->n_steps == TEXT_STEPS_MAX) {
        (void)sl_err_set(err, SL_LIMIT, "decoder: more than %d steps", TEXT_STEPS_MAX);
        return NULL;
    }
    struct text_dec_step *step = &decoder->steps[decoder->n_steps++];
    *step = (struct text_dec_step){.kind = kind};
    return step;
}

static sl_status parse_metaspace(struct text_dec_step *step, const struct sl_json_value *json,
                                 struct sl_err *err)
{
    bool prefix = sl_json_to_bool(sl_json_get(json, "add_prefix_space"), true);
    const char *scheme = sl_json_to_str(sl_json_get(json, "prepend_scheme"), "always", NULL);
    bool never = !prefix || strcmp(scheme, "never") == 0;
    step->prepend = never ? TEXT_PREPEND_NEVER : TEXT_PREPEND_ALWAYS;
    return text_string_parse(json, "replacement", &step->pattern, err);
}

static sl_status parse_replace(struct text_dec_step *step, const struct sl_json_value *json,
                               struct sl_err *err)
{
    sl_status status =
        text_pattern_parse(sl_json_get(json, "pattern"), &step->pattern, &step->regex, err);
    if (status == SL_OK && step->regex)
        status = sl_err_set(err, SL_UNSUPPORTED, "decoder: Replace with a regular expression");
    return status == SL_OK ? text_string_parse(json, "content", &step->content, err) : status;
}

static sl_status parse_strip(struct text_dec_step *step, const struct sl_json_value *json,
                             struct sl_err *err)
{
    int64_t start = sl_json_to_int(sl_json_get(json, "start"), 0);
    int64_t stop = sl_json_to_int(sl_json_get(json, "stop"), 0);
    step->start = start > 0 ? (size_t)start : 0;
    step->stop = stop > 0 ? (size_t)stop : 0;
    return text_string_parse(json, "content", &step->pattern, err);
}

static sl_status parse_sequence(struct text_decoder *decoder, const struct sl_json_value *json,
                                int depth, struct sl_err *err)
{
    const struct sl_json_value *list = sl_json_get(json, "decoders");
    for (size_t i = 0; i < sl_json_size(list); i++) {
        sl_status status = text_decoder_parse(decoder, sl_json_at(list, i), depth + 1, err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static sl_status parse_members(struct text_dec_step *step, const struct sl_json_value *json,
                               struct sl_err *err)
{
    switch (step->kind) {
    case TEXT_DEC_WORDPIECE:
        step->cleanup = sl_json_to_bool(sl_json_get(json, "cleanup"), true);
        return text_string_parse(json, "prefix", &step->pattern, err);
    case TEXT_DEC_SUFFIX: return text_string_parse(json, "suffix", &step->pattern, err);
    case TEXT_DEC_METASPACE: return parse_metaspace(step, json, err);
    case TEXT_DEC_REPLACE: return parse_replace(step, json, err);
    case TEXT_DEC_STRIP: return parse_strip(step, json, err);
    default: return SL_OK;
    }
}

sl_status text_decoder_parse(struct text_decoder *decoder, const struct sl_json_value *json,
                             int depth, struct sl_err *err)
{
    static const struct {
        const char *name;
        enum text_dec_kind kind;
    } KINDS[] = {{"ByteLevel", TEXT_DEC_BYTES},     {"WordPiece", TEXT_DEC_WORDPIECE},
                 {"Metaspace", TEXT_DEC_METASPACE}, {"BPEDecoder", TEXT_DEC_SUFFIX},
                 {"Replace", TEXT_DEC_REPLACE},     {"ByteFallback", TEXT_DEC_BYTE_FALLBACK},
                 {"Fuse", TEXT_DEC_FUSE},           {"Strip", TEXT_DEC_STRIP}};
    const char *type = text_type(json);
    if (sl_json_is(json, SL_JSON_NULL)) return SL_OK;
    if (depth > TEXT_NESTING_MAX)
        return sl_err_set(err, SL_LIMIT, "decoder nested deeper than %d", TEXT_NESTING_MAX);
    if (strcmp(type, "Sequence") == 0) return parse_sequence(decoder, json, depth, err);
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        if (strcmp(type, KINDS[i].name) != 0) continue;
        struct text_dec_step *step = add_step(decoder, KINDS[i].kind, err);
        return step ? parse_members(step, json, err) : SL_LIMIT;
    }
    return text_unknown_type(json, "decoder", err);
}

void text_decoder_done(struct text_decoder *decoder)
{
    for (size_t i = 0; i < decoder->n_steps; i++) {
        sl_free(decoder->steps[i].pattern.s);
        sl_free(decoder->steps[i].content.s);
        text_regex_destroy(decoder->steps[i].regex);
    }
    decoder->n_steps = 0;
}

/* The strings, one after the other, and where each begins. */
struct strings {
    struct sl_buf bytes;
    struct text_pieces pieces;
};

struct dec_job {
    struct strings lists[2];
    struct strings *from, *to;
};

static struct text_span string_at(const struct strings *list, size_t i)
{
    const struct text_piece *piece = &list->pieces.at[i];
    return (struct text_span){list->bytes.data + piece->at, piece->n};
}

/* What was added to out->bytes since `before` is one string. */
static sl_status end_string(struct strings *out, size_t before)
{
    size_t n = out->bytes.len - before;
    return text_pieces_add(&out->pieces, (struct text_piece){(uint32_t)before, (uint32_t)n, false});
}

static sl_status replace_all(struct text_span s, const struct text_string *pattern, const char *by,
                             size_t n_by, struct sl_buf *out)
{
    while (pattern->n) {
        const char *found = memmem(s.s, s.n, pattern->s, pattern->n);
        if (!found) break;
        size_t before = (size_t)(found - s.s);
        sl_status status = sl_buf_add(out, s.s, before);
        if (status == SL_OK) status = sl_buf_add(out, by, n_by);
        if (status != SL_OK) return status;
        s = (struct text_span){found + pattern->n, s.n - before - pattern->n};
    }
    return sl_buf_add(out, s.s, s.n);
}

/* English as it is written: no space before a full stop or within a contraction. */
static sl_status clean_up(struct text_span s, struct sl_buf *out)
{
    static const struct {
        const char *from, *to;
    } RULES[] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                 {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                 {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    struct sl_buf bufs[2];
    sl_status status = SL_OK;
    for (int i = 0; i < 2; i++) sl_buf_init(&bufs[i], TEXT_SCRATCH_MAX);
    for (size_t i = 0; i < sizeof RULES / sizeof *RULES && status == SL_OK; i++) {
        struct text_string from = {(char *)RULES[i].from, strlen(RULES[i].from)};
        struct sl_buf *next = &bufs[i % 2];
        sl_buf_clear(next);
        status = replace_all(s, &from, RULES[i].to, strlen(RULES[i].to), next);
        s = (struct text_span){next->data, next->len};
    }
    if (status == SL_OK) status = sl_buf_add(out, s.s, s.n);
    for (int i = 0; i < 2; i++) sl_buf_done(&bufs[i]);
    return status;
}

static sl_status decode_wordpiece(const struct text_dec_step *step, size_t i, struct text_span s,
                                  struct sl_buf *out)
{
    const struct text_string *prefix = &step->pattern;
    struct sl_buf joined;
    sl_buf_init(&joined, TEXT_SCRATCH_MAX);
    bool inner = s.n >= prefix->n && memcmp(s.s, prefix->s, prefix->n) == 0;
    sl_status status = SL_OK;
    if (i > 0 && inner)
        s = (struct text_span){s.s + prefix->n, s.n - prefix->n};
    else if (i > 0)
        status = sl_buf_addc(&joined, ' ');
    if (status == SL_OK) status = sl_buf_add(&joined, s.s, s.n);
    s = (struct text_span){joined.data, joined.len};
    if (status == SL_OK) status = step->cleanup ? clean_up(s, out) : sl_buf_add(out, s.s, s.n);
    sl_buf_done(&joined);
    return status;
}

/* Of the first string the marks are dropped: nothing stood before it. */
static sl_status decode_metaspace(const struct text_dec_step *step, size_t i, struct text_span s,
                                  struct sl_buf *out)
{
    bool drop = i == 0 && step->prepend != TEXT_PREPEND_NEVER;
    return replace_all(s, &step->pattern, " ", drop ? 0 : 1, out);
}

static sl_status decode_strip(const struct text_dec_step *step, struct text_span s,
                              struct sl_buf *out)
{
    const struct text_string *mark = &step->pattern;
    for (size_t i = 0; i < step->start && mark->n && s.n >= mark->n; i++) {
        if (memcmp(s.s, mark->s, mark->n) != 0) break;
        s = (struct text_span){s.s + mark->n, s.n - mark->n};
    }
    for (size_t i = 0; i < step->stop && mark->n && s.n >= mark->n; i++) {
        if (memcmp(s.s + s.n - mark->n, mark->s, mark->n) != 0) break;
        s.n -= mark->n;
    }
    return sl_buf_add(out, s.s, s.n);
}

/* A string whose characters are all of the byte-level alphabet is the bytes they stand for. */
static sl_status decode_bytes(struct text_span s, struct sl_buf *out)
{
    size_t before = out->len;
    for (size_t at = 0; at < s.n;) {
        uint32_t c;
        at += text_char(s.s + at, s.n - at, &c);
        int byte = text_char_to_byte(c);
        if (byte < 0) {
            sl_buf_truncate(out, before);
            return sl_buf_add(out, s.s, s.n);
        }
        sl_status status = sl_buf_addc(out, (char)byte);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static sl_status decode_string(const struct text_dec_step *step, size_t i, bool last,
                               struct text_span s, struct sl_buf *out)
{
    switch (step->kind) {
    case TEXT_DEC_BYTES: return decode_bytes(s, out);
    case TEXT_DEC_WORDPIECE: return decode_wordpiece(step, i, s, out);
    case TEXT_DEC_METASPACE: return decode_metaspace(step, i, s, out);
    case TEXT_DEC_SUFFIX: return replace_all(s, &step->pattern, " ", last ? 0 : 1, out);
    case TEXT_DEC_REPLACE:
        return replace_all(s, &step->pattern, step->content.s, step->content.n, out);
    case TEXT_DEC_STRIP: return decode_strip(step, s, out);
    default: return sl_buf_add(out, s.s, s.n);
    }
}

/* Bytes that are no UTF-8 as U+FFFD, one for each maximal part of a sequence that was begun. */
static sl_status add_lossy(const char *s, size_t n, struct sl_buf *out)
{
    while (n > 0) {
        uint32_t c;
        size_t len = sl_utf8_decode(s, n, &c);
        sl_status status = len ? sl_buf_add(out, s, len) : sl_buf_adds(out, REPLACEMENT_CHAR);
        if (status != SL_OK) return status;
        if (len == 0) {
            len = 1;
            while (len < n && len < 3 && sl_utf8_complete(s, len) == 0 &&
                   sl_utf8_complete(s, len + 1) == 0)
                len++;
        }
        s += len;
        n -= len;
    }
    return SL_OK;
}

/* All strings as one. */
static sl_status fuse(struct dec_job *job, bool lossy)
{
    const struct sl_buf *bytes = &job->from->bytes;
    struct sl_buf *out = &job->to->bytes;
    sl_status status =
        lossy ? add_lossy(bytes->data, bytes->len, out) : sl_buf_add(out, bytes->data, bytes->len);
    return status == SL_OK ? end_string(job->to, 0) : status;
}

/* "<0x41>" */
static int byte_token(struct text_span s)
{
    static const char DIGITS[] = "0123456789ABCDEFabcdef";
    if (s.n != 6 || memcmp(s.s, "<0x", 3) != 0 || s.s[5] != '>') return -1;
    const char *high = memchr(DIGITS, s.s[3], 22), *low = memchr(DIGITS, s.s[4], 22);
    if (!high || !low) return -1;
    size_t h = (size_t)(high - DIGITS), l = (size_t)(low - DIGITS);
    return (int)((h > 15 ? h - 6 : h) * 16 + (l > 15 ? l - 6 : l));
}

/* The bytes of a row as a string, or U+FFFD for each when they are no UTF-8. */
static sl_status flush_bytes(struct strings *out, struct sl_buf *row)
{
    size_t before = out->bytes.len;
    sl_status status = SL_OK;
    if (row->len == 0) return SL_OK;
    if (sl_utf8_valid(row->data, row->len)) {
        status = sl_buf_add(&out->bytes, row->data, row->len);
    } else {
        for (size_t i = 0; i < row->len && status == SL_OK; i++)
            status = sl_buf_adds(&out->bytes, REPLACEMENT_CHAR);
    }
    sl_buf_clear(row);
    return status == SL_OK ? end_string(out, before) : status;
}

static sl_status join_byte_tokens(struct dec_job *job)
{
    struct sl_buf row;
    sl_status status = SL_OK;
    sl_buf_init(&row, TEXT_SCRATCH_MAX);
    for (size_t i = 0; i < job->from->pieces.n && status == SL_OK; i++) {
        struct text_span s = string_at(job->from, i);
        int byte = byte_token(s);
        if (byte >= 0) {
            status = sl_buf_addc(&row, (char)byte);
            continue;
        }
        status = flush_bytes(job->to, &row);
        size_t before = job->to->bytes.len;
        if (status == SL_OK) status = sl_buf_add(&job->to->bytes, s.s, s.n);
        if (status == SL_OK) status = end_string(job->to, before);
    }
    if (status == SL_OK) status = flush_bytes(job->to, &row);
    sl_buf_done(&row);
    return status;
}

static sl_status decode_each(struct dec_job *job, const struct text_dec_step *step)
{
    size_t n = job->from->pieces.n;
    for (size_t i = 0; i < n; i++) {
        size_t before = job->to->bytes.len;
        sl_status status =
            decode_string(step, i, i + 1 == n, string_at(job->from, i), &job->to->bytes);
        if (status == SL_OK) status = end_string(job->to, before);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static void swap_lists(struct dec_job *job)
{
    struct strings *swap = job->from;
    job->from = job->to;
    job->to = swap;
    sl_buf_clear(&job->to->bytes);
    job->to->pieces.n = 0;
}

static sl_status run_step(struct dec_job *job, const struct text_dec_step *step)
{
    sl_status status;
    if (step->kind == TEXT_DEC_FUSE) {
        status = fuse(job, false);
    } else if (step->kind == TEXT_DEC_BYTE_FALLBACK) {
        status = join_byte_tokens(job);
    } else {
        status = decode_each(job, step);
    }
    if (status == SL_OK) swap_lists(job);
    if (status != SL_OK || step->kind != TEXT_DEC_BYTES) return status;
    status = fuse(job, true); /* characters may be spread over several tokens */
    if (status == SL_OK) swap_lists(job);
    return status;
}

static sl_status list_tokens(const struct text_tokenizer *tok, const int64_t *ids, size_t n,
                             bool skip_special, struct strings *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t n_token, before = out->bytes.len;
        const char *token = text_tokenizer_token(tok, ids[i], &n_token);
        if (!token || (skip_special && text_tokenizer_is_special(tok, ids[i]))) continue;
        /* Without a decoder tokens are words. */
        bool space = tok->decoder.n_steps == 0 && out->pieces.n > 0;
        sl_status status = space ? sl_buf_addc(&out->bytes, ' ') : SL_OK;
        if (status == SL_OK) status = sl_buf_add(&out->bytes, token, n_token);
        if (status == SL_OK) status = end_string(out, before);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

sl_status text_tokenizer_decode(const struct text_tokenizer *tok, const int64_t *ids, size_t n,
                                bool skip_special, struct sl_buf *out, struct sl_err *err)
{
    struct dec_job job = {.from = &job.lists[0], .to = &job.lists[1]};
    for (int i = 0; i < 2; i++) sl_buf_init(&job.lists[i].bytes, TEXT_SCRATCH_MAX);
    sl_status status = list_tokens(tok, ids, n, skip_special, job.from);
    for (size_t i = 0; i < tok->decoder.n_steps && status == SL_OK; i++)
        status = run_step(&job, &tok->decoder.steps[i]);
    if (status == SL_OK) status = sl_buf_add(out, job.from->bytes.data, job.from->bytes.len);
    for (int i = 0; i < 2; i++) {
        sl_buf_done(&job.lists[i].bytes);
        sl_free(job.lists[i].pieces.at);
    }
    if (status == SL_OK) return SL_OK;
    return sl_err_set(err, status, "decoding %zu tokens: %s", n, sl_status_text(status));
}
