/* text_split.c: cuts pieces where a pattern matches. A piece becomes a row of cuts, matches and
 * what lies between them, and the behavior says which of them are dropped or joined. */
#include "base/mem.h"
#include "base/unicode.h"
#include "exec/text/text_int.h"

static sl_status add_cut(struct text_scratch *scratch, size_t from, size_t to, bool match)
{
    struct text_cut *cuts =
        text_reserve(scratch->cuts, &scratch->cuts_cap, scratch->n_cuts + 1, sizeof *cuts);
    if (!cuts) return SL_NOMEM;
    scratch->cuts = cuts;
    cuts[scratch->n_cuts++] = (struct text_cut){(uint32_t)from, (uint32_t)to, match};
    return SL_OK;
}

/* A match, and the gap since the last one. */
static sl_status add_match(struct text_scratch *scratch, size_t done, size_t from, size_t to)
{
    sl_status status = from > done ? add_cut(scratch, done, from, false) : SL_OK;
    return status == SL_OK ? add_cut(scratch, from, to, true) : status;
}

static sl_status cut_at_chars(const struct text_pre_step *step, struct text_scratch *scratch,
                              struct text_span text)
{
    size_t done = 0;
    for (size_t at = 0, len; at < text.n; at += len) {
        uint32_t c;
        len = text_char(text.s + at, text.n - at, &c);
        if (!step->in_class(c)) continue;
        sl_status status = add_match(scratch, done, at, at + len);
        if (status != SL_OK) return status;
        done = at + len;
    }
    return done < text.n ? add_cut(scratch, done, text.n, false) : SL_OK;
}

static sl_status cut_at_string(const struct text_pre_step *step, struct text_scratch *scratch,
                               struct text_span text)
{
    size_t done = 0;
    while (step->pattern.n) {
        const char *found = memmem(text.s + done, text.n - done, step->pattern.s, step->pattern.n);
        if (!found) break;
        size_t from = (size_t)(found - text.s), to = from + step->pattern.n;
        sl_status status = add_match(scratch, done, from, to);
        if (status != SL_OK) return status;
        done = to;
    }
    return done < text.n ? add_cut(scratch, done, text.n, false) : SL_OK;
}

static sl_status cut_at_regex(const struct text_pre_step *step, struct text_scratch *scratch,
                              struct text_span text)
{
    size_t done = 0, from = 0;
    while (from < text.n) {
        struct text_cut cut;
        bool found;
        sl_status status = text_find(scratch, step->regex, text, from, &found, &cut);
        if (status != SL_OK) return status;
        if (!found) break;
        status = add_match(scratch, done, cut.from, cut.to);
        if (status != SL_OK) return status;
        done = from = cut.to;
        if (cut.to > cut.from || from == text.n) continue;
        uint32_t c; /* an empty match: go on behind the next character */
        from += text_char(text.s + from, text.n - from, &c);
    }
    return done < text.n ? add_cut(scratch, done, text.n, false) : SL_OK;
}

/* Runs of word characters, and runs of neither these nor white space. */
static sl_status cut_at_words(struct text_scratch *scratch, struct text_span text)
{
    enum { SPACE, WORD, OTHER } kind = SPACE;
    size_t from = 0;
    for (size_t at = 0, len; at < text.n; at += len) {
        uint32_t c;
        len = text_char(text.s + at, text.n - at, &c);
        int now = sl_unicode_is_word(c) ? WORD : sl_unicode_is_white_space(c) ? SPACE : OTHER;
        if (at > 0 && now != (int)kind) {
            sl_status status = add_cut(scratch, from, at, kind == SPACE);
            if (status != SL_OK) return status;
            from = at;
        }
        kind = now;
    }
    return from < text.n ? add_cut(scratch, from, text.n, kind == SPACE) : SL_OK;
}

static sl_status find_cuts(const struct text_pre_step *step, struct text_scratch *scratch,
                           struct text_span text)
{
    scratch->n_cuts = 0;
    switch (step->kind) {
    case TEXT_PRE_CHARS: return cut_at_chars(step, scratch, text);
    case TEXT_PRE_STRING:
    case TEXT_PRE_METASPACE: return cut_at_string(step, scratch, text);
    case TEXT_PRE_WORDS: return cut_at_words(scratch, text);
    default: return cut_at_regex(step, scratch, text);
    }
}

/* Joins cuts in place as the behavior says; an invalid row cannot come about, since cuts are
 * neighbours. */
static void join_cuts(enum text_behavior behavior, struct text_scratch *scratch)
{
    struct text_cut *cuts = scratch->cuts;
    size_t n = 0;
    bool last_match = false;
    for (size_t i = 0; i < scratch->n_cuts; i++) {
        struct text_cut cut = cuts[i];
        bool joins = false;
        if (behavior == TEXT_CONTIGUOUS) joins = n > 0 && cut.match == cuts[n - 1].match;
        if (behavior == TEXT_MERGED_WITH_PREVIOUS) joins = n > 0 && cut.match && !last_match;
        last_match = cut.match;
        if (joins)
            cuts[n - 1].to = cut.to;
        else
            cuts[n++] = cut;
    }
    scratch->n_cuts = n;
}

/* From the end: a match goes to what follows it, unless that is a match, too. */
static void join_with_next(struct text_scratch *scratch)
{
    struct text_cut *cuts = scratch->cuts;
    size_t n = scratch->n_cuts, low = n;
    bool next_match = false;
    for (size_t i = n; i-- > 0;) {
        struct text_cut cut = cuts[i];
        bool joins = low < n && cut.match && !next_match;
        next_match = cut.match;
        if (joins)
            cuts[low].from = cut.from;
        else
            cuts[--low] = cut;
    }
    for (size_t i = low; i < n; i++) cuts[i - low] = cuts[i];
    scratch->n_cuts = n - low;
}

static sl_status split_piece(const struct text_pre_step *step, struct text_scratch *scratch,
                             const char *text, struct text_piece piece, struct text_pieces *to)
{
    sl_status status = find_cuts(step, scratch, (struct text_span){text + piece.at, piece.n});
    if (status != SL_OK) return status;
    for (size_t i = 0; step->invert && i < scratch->n_cuts; i++)
        scratch->cuts[i].match = !scratch->cuts[i].match;
    if (step->behavior == TEXT_MERGED_WITH_NEXT)
        join_with_next(scratch);
    else
        join_cuts(step->behavior, scratch);
    for (size_t i = 0; i < scratch->n_cuts; i++) {
        struct text_cut cut = scratch->cuts[i];
        if (cut.from == cut.to || (step->behavior == TEXT_REMOVED && cut.match)) continue;
        status = text_pieces_add(to, (struct text_piece){piece.at + cut.from, cut.to - cut.from,
                                                         piece.first && cut.from == 0});
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

sl_status text_split_run(const struct text_pre_step *step, struct text_scratch *scratch,
                         const char *text, const struct text_pieces *from, struct text_pieces *to,
                         struct sl_err *err)
{
    to->n = 0;
    for (size_t i = 0; i < from->n; i++) {
        sl_status status = split_piece(step, scratch, text, from->at[i], to);
        if (status != SL_OK)
            return sl_err_set(err, status, "cutting a text of %u bytes: %s", from->at[i].n,
                              sl_status_text(status));
    }
    return SL_OK;
}
