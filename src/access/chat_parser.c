/* chat_parser.c: the parser's life, and the states of text: start, reasoning, content. */
#include "access/chat_parser_int.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

/* Pieces are taken in slices, so that what is pending stays small however large a piece is. */
#define SLICE_BYTES 4096
/* Past a slice: white space, a marker, a name or a header that is not yet whole. */
#define PENDING_MAX (SLICE_BYTES + 1024)
/* Past the limit on a call: the marker and the white space before it. */
#define HELD_SLACK 256

static const char THINK[] = "<think>";
static const char *const THINK_ENDS[] = {"</think>", NULL};

/* What begins the calls, by enum chat_tool_format; Harmony's are told by their headers. */
static const char *const CALL_MARKERS[][2] = {
    [CHAT_TOOLS_NONE] = {NULL},
    [CHAT_TOOLS_HERMES] = {"<tool_call>"},
    [CHAT_TOOLS_LLAMA3] = {"<|python_tag|>"},
    [CHAT_TOOLS_DEEPSEEK] = {"<｜tool▁calls▁begin｜>"},
    [CHAT_TOOLS_MISTRAL] = {"[TOOL_CALLS]"},
};

/* Events */

void chat_emit(struct chat_parser *parser, const struct chat_event *event)
{
    if (parser->status == SL_OK) parser->status = parser->cfg.event(parser->cfg.ctx, event);
}

void chat_emit_text(struct chat_parser *parser, enum chat_event_type type, const char *s, size_t n)
{
    struct chat_event event = {.type = type, .text = s, .n_text = n, .call = parser->n_calls - 1};
    if (n == 0) return;
    if (type == CHAT_EVENT_CONTENT) parser->is_after_call = false;
    chat_emit(parser, &event);
}

/* Searching */

size_t chat_find_marker(const char *s, size_t n, const char *const *markers, bool last,
                        size_t *n_marker)
{
    *n_marker = 0;
    for (size_t i = 0; i < n; i++) {
        for (const char *const *marker = markers; *marker; marker++) {
            size_t len = strlen(*marker);
            bool is_whole = len <= n - i;
            if (!is_whole && last) continue;
            if (memcmp(s + i, *marker, is_whole ? len : n - i) != 0) continue;
            *n_marker = is_whole ? len : 0;
            return i;
        }
    }
    return n;
}

static size_t space_length(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && json_is_space(s[i])) i++;
    return i;
}

/* n without the white space at the end of s[0..n), of which at most CHAT_SPACE_HELD_MAX counts. */
static size_t without_space(const char *s, size_t n)
{
    size_t end = n;
    while (end > 0 && n - end < CHAT_SPACE_HELD_MAX && json_is_space(s[end - 1])) end--;
    return end;
}

/* States */

static size_t go_to_text(struct chat_parser *parser)
{
    bool is_reasoning = parser->cfg.reasoning_open && !parser->is_thought_over;
    parser->state = is_reasoning ? CHAT_REASONING : CHAT_CONTENT;
    return 0;
}

/* White space, and then <think>, a bare call, or text, to which the white space belongs. */
static size_t step_start(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    if (parser->cfg.tools == CHAT_TOOLS_HARMONY) {
        parser->state = CHAT_HEADER;
        return 0;
    }
    size_t space = space_length(s, n), left = n - space, len = strlen(THINK);
    bool may_think = (parser->cfg.thinks || parser->cfg.reasoning_open) && !parser->is_thought_over;
    bool may_call = parser->cfg.has_tools && parser->cfg.tools == CHAT_TOOLS_LLAMA3;
    if (space > CHAT_SPACE_HELD_MAX || (!may_think && !may_call)) return go_to_text(parser);
    if (left == 0) return last ? go_to_text(parser) : 0;
    if (may_think && memcmp(s + space, THINK, left < len ? left : len) == 0) {
        if (left < len) return last ? go_to_text(parser) : 0;
        parser->state = CHAT_REASONING;
        return space + len;
    }
    bool is_reasoning = parser->cfg.reasoning_open && !parser->is_thought_over;
    if (!may_call || is_reasoning || s[space] != '{') return go_to_text(parser);
    chat_hold(parser, s, space);
    chat_call_bare(parser);
    return space;
}

static size_t step_reasoning(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    size_t skipped = parser->has_text ? 0 : space_length(s, n);
    if (skipped > 0) return skipped;
    bool is_harmony = parser->cfg.tools == CHAT_TOOLS_HARMONY;
    const char *const *ends = is_harmony ? chat_harmony_ends : THINK_ENDS;
    size_t n_marker, at = chat_find_marker(s, n, ends, last, &n_marker);
    size_t end = without_space(s, at);
    if (last && n_marker == 0) end = n; /* cut off: nothing is next to a tag */
    if (end > 0) parser->has_text = true;
    chat_emit_text(parser, CHAT_EVENT_REASONING, s, end);
    if (n_marker == 0) return end;
    parser->is_thought_over = true;
    parser->state = CHAT_AFTER_REASONING;
    return at + n_marker;
}

static size_t step_after_reasoning(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    (void)last;
    size_t skipped = 0;
    while (skipped < n && (s[skipped] == '\n' || s[skipped] == '\r')) skipped++;
    if (skipped < n) parser->state = CHAT_START;
    return skipped;
}

static size_t step_content(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    if (parser->cfg.tools == CHAT_TOOLS_HARMONY) return chat_harmony_content(parser, s, n, last);
    bool takes_calls = parser->cfg.has_tools && parser->n_calls < CHAT_CALLS_MAX;
    const char *const *markers = CALL_MARKERS[takes_calls ? parser->cfg.tools : CHAT_TOOLS_NONE];
    size_t n_marker, at = chat_find_marker(s, n, markers, last, &n_marker);
    size_t end = *markers || parser->is_after_call ? without_space(s, at) : at;
    if (last && n_marker == 0 && !(parser->is_after_call && end == 0)) end = n;
    chat_emit_text(parser, CHAT_EVENT_CONTENT, s, end);
    if (n_marker == 0) return last ? n : end;
    chat_hold(parser, s + end, at + n_marker - end);
    parser->is_bare = false;
    parser->state = CHAT_CALL_OPEN;
    return at + n_marker;
}

static chat_step_fn *const STEPS[CHAT_STATE_COUNT] = {
    [CHAT_START] = step_start,
    [CHAT_REASONING] = step_reasoning,
    [CHAT_AFTER_REASONING] = step_after_reasoning,
    [CHAT_CONTENT] = step_content,
    [CHAT_CALL_OPEN] = chat_call_literal,
    [CHAT_CALL_ITEM] = chat_call_literal,
    [CHAT_CALL_OBJECT] = chat_call_object,
    [CHAT_CALL_ARGUMENTS] = chat_call_arguments,
    [CHAT_CALL_REST] = chat_call_rest,
    [CHAT_CALL_AFTER] = chat_call_literal,
    [CHAT_CALL_KIND] = chat_call_kind,
    [CHAT_CALL_SIGN] = chat_call_sign,
    [CHAT_CALL_LINE] = chat_call_line,
    [CHAT_CALL_FENCE] = chat_call_literal,
    [CHAT_CALL_FENCED] = chat_call_literal,
    [CHAT_CALL_NEXT] = chat_call_literal,
    [CHAT_HEADER] = chat_harmony_header,
};

static void run(struct chat_parser *parser, bool last)
{
    const char *s = parser->pending.data;
    size_t n = last ? parser->pending.len : sl_utf8_complete(s, parser->pending.len), at = 0;
    while (parser->status == SL_OK) {
        enum chat_state before = parser->state;
        size_t used = STEPS[before](parser, s + at, n - at, last);
        at += used;
        if (used == 0 && parser->state == before) break;
    }
    sl_buf_consume(&parser->pending, at);
}

/* Life cycle */

sl_status chat_parser_create(const struct chat_parser_cfg *cfg, struct chat_parser **out,
                             struct sl_err *err)
{
    struct chat_parser *parser = sl_calloc(1, sizeof *parser);
    if (!parser) return sl_err_set(err, SL_NOMEM, "chat parser: out of memory");
    parser->cfg = *cfg;
    sl_buf_init(&parser->pending, PENDING_MAX);
    sl_buf_init(&parser->held, CHAT_CALL_HELD_MAX + HELD_SLACK);
    *out = parser;
    return SL_OK;
}

void chat_parser_destroy(struct chat_parser *parser)
{
    if (!parser) return;
    sl_buf_done(&parser->pending);
    sl_buf_done(&parser->held);
    sl_free(parser);
}

sl_status chat_parser_push(struct chat_parser *parser, const char *text, size_t n)
{
    while (n > 0 && parser->status == SL_OK) {
        size_t take = n < SLICE_BYTES ? n : SLICE_BYTES;
        parser->status = sl_buf_add(&parser->pending, text, take);
        run(parser, false);
        text += take;
        n -= take;
    }
    return parser->status;
}

sl_status chat_parser_finish(struct chat_parser *parser)
{
    run(parser, true);
    chat_call_cut(parser);
    return parser->status;
}

int chat_parser_n_calls(const struct chat_parser *parser)
{
    return parser->n_calls;
}
