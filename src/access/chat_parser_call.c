/* chat_parser_call.c: the states of a call, and the grammar of what stands around calls. */
#include "access/chat_parser_int.h"

#include "base/json_read.h"
#include "base/rng.h"

#include <string.h>

#define DEEPSEEK_CALL_BEGIN "<｜tool▁call▁begin｜>"
#define DEEPSEEK_CALL_END "<｜tool▁call▁end｜>"
#define DEEPSEEK_CALLS_END "<｜tool▁calls▁end｜>"
#define ID_DIGITS_PER_DRAW 8 /* 62^8 is far below 2^64: the digits are near enough to uniform */

/* In `state`, after any white space, `literal` leads to `next`. With is_certain a call stands
 * behind us and the text since then is syntax, which is dropped. */
struct rule {
    enum chat_tool_format tools;
    enum chat_state state;
    const char *literal; /* "{" is left to the next state */
    enum chat_state next;
    bool is_certain;
};

static const struct rule RULES[] = {
    {CHAT_TOOLS_HERMES, CHAT_CALL_OPEN, "{", CHAT_CALL_OBJECT, false},
    {CHAT_TOOLS_HERMES, CHAT_CALL_AFTER, "{", CHAT_CALL_OBJECT, false},
    {CHAT_TOOLS_HERMES, CHAT_CALL_AFTER, "</tool_call>", CHAT_CONTENT, true},
    /* Small models forget the end, or close one brace too many. */
    {CHAT_TOOLS_HERMES, CHAT_CALL_AFTER, "<tool_call>", CHAT_CALL_OPEN, false},
    {CHAT_TOOLS_HERMES, CHAT_CALL_AFTER, "}", CHAT_CALL_AFTER, false},

    {CHAT_TOOLS_LLAMA3, CHAT_CALL_OPEN, "{", CHAT_CALL_OBJECT, false},
    {CHAT_TOOLS_LLAMA3, CHAT_CALL_AFTER, ";", CHAT_CALL_OPEN, false},
    {CHAT_TOOLS_LLAMA3, CHAT_CALL_AFTER, "<|python_tag|>", CHAT_CALL_OPEN, false},

    {CHAT_TOOLS_MISTRAL, CHAT_CALL_OPEN, "[", CHAT_CALL_ITEM, false},
    {CHAT_TOOLS_MISTRAL, CHAT_CALL_OPEN, "{", CHAT_CALL_OBJECT, false},
    {CHAT_TOOLS_MISTRAL, CHAT_CALL_ITEM, "{", CHAT_CALL_OBJECT, false},
    {CHAT_TOOLS_MISTRAL, CHAT_CALL_AFTER, ",", CHAT_CALL_ITEM, false},
    {CHAT_TOOLS_MISTRAL, CHAT_CALL_AFTER, "]", CHAT_CONTENT, true},

    {CHAT_TOOLS_DEEPSEEK, CHAT_CALL_OPEN, DEEPSEEK_CALL_BEGIN, CHAT_CALL_KIND, false},
    {CHAT_TOOLS_DEEPSEEK, CHAT_CALL_FENCE, "```json", CHAT_CALL_FENCED, false},
    {CHAT_TOOLS_DEEPSEEK, CHAT_CALL_FENCE, "{", CHAT_CALL_ARGUMENTS, false},
    {CHAT_TOOLS_DEEPSEEK, CHAT_CALL_FENCED, "{", CHAT_CALL_ARGUMENTS, false},
    {CHAT_TOOLS_DEEPSEEK, CHAT_CALL_AFTER, "```", CHAT_CALL_AFTER, true},
    {CHAT_TOOLS_DEEPSEEK, CHAT_CALL_AFTER, DEEPSEEK_CALL_END, CHAT_CALL_NEXT, true},
    {CHAT_TOOLS_DEEPSEEK, CHAT_CALL_NEXT, DEEPSEEK_CALL_BEGIN, CHAT_CALL_KIND, false},
    {CHAT_TOOLS_DEEPSEEK, CHAT_CALL_NEXT, DEEPSEEK_CALLS_END, CHAT_CONTENT, true},

    {CHAT_TOOLS_HARMONY, CHAT_CALL_OPEN, "{", CHAT_CALL_ARGUMENTS, false},
    {CHAT_TOOLS_HARMONY, CHAT_CALL_AFTER, "<|call|>", CHAT_START, true},
    {CHAT_TOOLS_HARMONY, CHAT_CALL_AFTER, "<|end|>", CHAT_START, true},
};

/* What was held */

size_t chat_hold(struct chat_parser *parser, const char *s, size_t n)
{
    size_t len = parser->held.len;
    size_t room = len < CHAT_CALL_HELD_MAX ? CHAT_CALL_HELD_MAX - len : 0;
    if (n > room) n = room;
    if (parser->status == SL_OK) parser->status = sl_buf_add(&parser->held, s, n);
    return n;
}

bool chat_hold_all(struct chat_parser *parser, const char *s, size_t n)
{
    if (parser->held.len + n > CHAT_CALL_HELD_MAX) return false;
    return chat_hold(parser, s, n) == n;
}

void chat_call_reject(struct chat_parser *parser)
{
    chat_emit_text(parser, CHAT_EVENT_CONTENT, parser->held.data, parser->held.len);
    sl_buf_clear(&parser->held);
    parser->state = CHAT_CONTENT;
}

/* As above, for a state that has consumed nothing of its text. */
static size_t reject(struct chat_parser *parser)
{
    chat_call_reject(parser);
    return 0;
}

/* The call begins */

static void make_id(const struct chat_parser *parser, char id[CHAT_CALL_ID_LEN + 1])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t bits = 0;
    memcpy(id, "call_", 5);
    for (int i = 0; i < CHAT_CALL_ID_LEN - 5; i++) {
        if (i % ID_DIGITS_PER_DRAW == 0)
            bits = sl_rng_u64(parser->cfg.id_seed, (uint64_t)parser->n_calls, (uint64_t)i);
        id[5 + i] = digits[bits % 62];
        bits /= 62;
    }
    id[CHAT_CALL_ID_LEN] = '\0';
}

static void call_begin(struct chat_parser *parser)
{
    char id[CHAT_CALL_ID_LEN + 1];
    make_id(parser, id);
    struct chat_event event = {
        .type = CHAT_EVENT_CALL_BEGIN, .call = parser->n_calls, .id = id, .name = parser->name};
    parser->n_calls++;
    sl_buf_clear(&parser->held);
    chat_emit(parser, &event);
}

static void call_end(struct chat_parser *parser, bool is_whole)
{
    struct chat_event event = {
        .type = CHAT_EVENT_CALL_END, .call = parser->n_calls - 1, .is_whole = is_whole};
    parser->is_after_call = is_whole;
    chat_emit(parser, &event);
}

bool chat_call_name(struct chat_parser *parser, const char *s, size_t n)
{
    while (n > 0 && json_is_space(s[n - 1])) n--;
    while (n > 0 && json_is_space(*s)) {
        s++;
        n--;
    }
    if (n == 0 || n > CHAT_CALL_NAME_MAX || memchr(s, '\0', n)) return false;
    memcpy(parser->name, s, n);
    parser->name[n] = '\0';
    return true;
}

static void enter(struct chat_parser *parser, enum chat_state next)
{
    parser->state = next;
    if (next != CHAT_CALL_OBJECT && next != CHAT_CALL_ARGUMENTS) return;
    if (parser->n_calls == CHAT_CALLS_MAX) {
        chat_call_reject(parser);
        return;
    }
    parser->scan = (struct json_scan)JSON_SCAN_INIT;
    parser->arguments_depth = 0;
    if (next == CHAT_CALL_ARGUMENTS) {
        call_begin(parser);
        return;
    }
    parser->name[0] = '\0';
    parser->object_at = parser->held.len;
    parser->key_at = parser->key_end = parser->value_at = parser->held.len;
}

void chat_call_bare(struct chat_parser *parser)
{
    parser->is_bare = true;
    enter(parser, CHAT_CALL_OBJECT);
}

/* Around the calls */

/* The rule for s[0..n); *needs_more when it may become one that follows a rule. */
static const struct rule *find_rule(const struct chat_parser *parser, const char *s, size_t n,
                                    bool *needs_more)
{
    *needs_more = false;
    for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++) {
        const struct rule *rule = &RULES[i];
        if (rule->tools != parser->cfg.tools || rule->state != parser->state) continue;
        size_t len = strlen(rule->literal);
        if (memcmp(s, rule->literal, n < len ? n : len) != 0) continue;
        if (n >= len) return rule;
        *needs_more = true;
    }
    return NULL;
}

size_t chat_call_literal(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    size_t space = 0;
    bool needs_more;
    if (n == 0) return 0;
    while (space < n && json_is_space(s[space])) space++;
    if (space > 0) {
        size_t held = chat_hold(parser, s, space);
        return held > 0 ? held : reject(parser);
    }
    const struct rule *rule = find_rule(parser, s, n, &needs_more);
    if (!rule) return needs_more && !last ? 0 : reject(parser);
    size_t len = *rule->literal == '{' ? 0 : strlen(rule->literal);
    if (!chat_hold_all(parser, s, len)) return reject(parser);
    if (rule->is_certain) sl_buf_clear(&parser->held);
    enter(parser, rule->next);
    return len;
}

/* The object around the arguments */

static bool key_is(const struct chat_parser *parser, const char *key)
{
    size_t n = parser->key_end - parser->key_at;
    return n == strlen(key) && memcmp(parser->held.data + parser->key_at, key, n) == 0;
}

static bool key_is_known(const struct chat_parser *parser)
{
    return key_is(parser, "name") || key_is(parser, "arguments") || key_is(parser, "parameters") ||
           key_is(parser, "type") || key_is(parser, "id");
}

/* A call's object without a name or a bare one without arguments is none. */
static bool take_object(struct chat_parser *parser, const struct sl_json_value *object,
                        struct sl_buf *arguments)
{
    size_t n;
    const char *s = sl_json_to_str(sl_json_get(object, "name"), "", &n);
    const struct sl_json_value *value = sl_json_get(object, "arguments");
    if (!value) value = sl_json_get(object, "parameters");
    if (!chat_call_name(parser, s, n) || (!value && parser->is_bare)) return false;
    if (sl_json_is(value, SL_JSON_NULL)) {
        parser->status = sl_buf_adds(arguments, "{}");
        return true;
    }
    s = sl_json_to_str(value, NULL, &n);
    if (s) {
        struct sl_json_value *inner;
        sl_status status = sl_json_parse(s, n, &inner, NULL);
        if (status == SL_NOMEM) parser->status = status;
        if (status != SL_OK) return false;
        bool is_object = sl_json_is(inner, SL_JSON_OBJECT);
        sl_json_free(inner);
        if (is_object) parser->status = sl_buf_add(arguments, s, n);
        return is_object;
    }
    if (!sl_json_is(value, SL_JSON_OBJECT)) return false;
    struct sl_json json;
    sl_json_begin(&json, arguments, false);
    sl_json_put(&json, value);
    parser->status = sl_json_end(&json);
    return true;
}

/* The object is whole and its arguments have not been handed out: they came before the name, are
 * in a string, or are absent. */
static void whole_object(struct chat_parser *parser)
{
    struct sl_json_value *object;
    struct sl_buf arguments;
    const char *text = parser->held.data + parser->object_at;
    sl_status status = sl_json_parse(text, parser->held.len - parser->object_at, &object, NULL);
    if (status == SL_NOMEM) parser->status = status;
    if (status != SL_OK) {
        chat_call_reject(parser);
        return;
    }
    /* Six-byte escapes of what was one byte, and numbers in full. */
    sl_buf_init(&arguments, (size_t)20 * CHAT_CALL_HELD_MAX);
    if (take_object(parser, object, &arguments)) {
        call_begin(parser);
        chat_emit_text(parser, CHAT_EVENT_CALL_ARGUMENTS, arguments.data, arguments.len);
        call_end(parser, true);
        parser->state = CHAT_CALL_AFTER;
    } else {
        chat_call_reject(parser);
    }
    sl_buf_done(&arguments);
    sl_json_free(object);
}

/* Does the call begin with c, the byte that follows? */
static bool arguments_begin(const struct chat_parser *parser, char c)
{
    bool at_value = parser->scan.state == SCAN_VALUE && parser->scan.depth == 1;
    return c == '{' && at_value && parser->name[0] &&
           (key_is(parser, "arguments") || key_is(parser, "parameters"));
}

/* Takes c, which held has at `at`. False when the object cannot be a call's. */
static bool object_byte(struct chat_parser *parser, char c, size_t at)
{
    struct json_scan *scan = &parser->scan;
    enum json_scan_state before = scan->state;
    bool is_member = scan->depth == 1;
    if (!json_scan_byte(scan, c)) return false;
    if (!is_member || scan->depth != 1) return true;
    const char *held = parser->held.data;
    if (before == SCAN_VALUE && scan->state != SCAN_VALUE) parser->value_at = at;
    if (before != SCAN_STRING && scan->state == SCAN_STRING && scan->is_key)
        parser->key_at = at + 1;
    if (before == SCAN_STRING && scan->state == SCAN_COLON) {
        parser->key_end = at;
        return !parser->is_bare || key_is_known(parser);
    }
    if (before == SCAN_STRING && scan->state == SCAN_NEXT && key_is(parser, "name")) {
        size_t start = parser->value_at + 1;
        /* One with escapes is left to whole_object. */
        if (!memchr(held + start, '\\', at - start))
            chat_call_name(parser, held + start, at - start);
    }
    return true;
}

size_t chat_call_object(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    (void)last;
    size_t base = parser->held.len, held = chat_hold(parser, s, n);
    if (n > 0 && held == 0) return reject(parser);
    if (parser->status != SL_OK) return 0;
    for (size_t i = 0; i < held; i++) {
        if (arguments_begin(parser, s[i])) {
            parser->arguments_depth = 1;
            parser->state = CHAT_CALL_ARGUMENTS;
            call_begin(parser);
            return i;
        }
        bool fits = object_byte(parser, s[i], base + i);
        if (fits && parser->scan.state != SCAN_DONE) continue;
        sl_buf_truncate(&parser->held, base + i + fits);
        if (fits)
            whole_object(parser);
        else
            chat_call_reject(parser);
        return i + fits;
    }
    return held;
}

size_t chat_call_arguments(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    (void)last;
    for (size_t i = 0; i < n; i++) {
        if (!json_scan_byte(&parser->scan, s[i])) {
            chat_emit_text(parser, CHAT_EVENT_CALL_ARGUMENTS, s, i);
            call_end(parser, false);
            parser->state = CHAT_CONTENT;
            return i;
        }
        if (parser->scan.depth > parser->arguments_depth) continue;
        chat_emit_text(parser, CHAT_EVENT_CALL_ARGUMENTS, s, i + 1);
        call_end(parser, true);
        parser->state = parser->arguments_depth > 0 ? CHAT_CALL_REST : CHAT_CALL_AFTER;
        return i + 1;
    }
    chat_emit_text(parser, CHAT_EVENT_CALL_ARGUMENTS, s, n);
    return n;
}

/* A byte that does not fit leads on too: small models forget the last brace. */
size_t chat_call_rest(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    (void)last;
    size_t base = parser->held.len, held = chat_hold(parser, s, n);
    if (n > 0 && held == 0) return reject(parser);
    if (parser->status != SL_OK) return 0;
    for (size_t i = 0; i < held; i++) {
        bool fits = json_scan_byte(&parser->scan, s[i]);
        if (fits && parser->scan.state != SCAN_DONE) continue;
        sl_buf_truncate(&parser->held, fits ? 0 : base + i);
        parser->state = CHAT_CALL_AFTER;
        return i + fits;
    }
    return held;
}

/* DeepSeek's heads */

/* The name, up to `end`, which leads to `next`. */
static size_t read_name(struct chat_parser *parser, const char *s, size_t n, bool last,
                        const char *end, enum chat_state next)
{
    size_t n_marker, at = chat_find_marker(s, n, (const char *const[]){end, NULL}, last, &n_marker);
    if (at > CHAT_CALL_NAME_MAX) return reject(parser);
    if (n_marker == 0) return last ? reject(parser) : 0;
    size_t len = at + n_marker;
    if (!chat_call_name(parser, s, at) || !chat_hold_all(parser, s, len)) return reject(parser);
    parser->state = next;
    return len;
}

size_t chat_call_kind(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    return read_name(parser, s, n, last, "<｜tool▁sep｜>", CHAT_CALL_SIGN);
}

size_t chat_call_sign(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    (void)last;
    if (n == 0) return 0;
    if (json_is_space(*s)) return chat_hold_all(parser, s, 1) ? 1 : reject(parser);
    enter(parser, *s == '{' ? CHAT_CALL_ARGUMENTS : CHAT_CALL_LINE);
    return 0;
}

size_t chat_call_line(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    return read_name(parser, s, n, last, "\n", CHAT_CALL_FENCE);
}

void chat_call_cut(struct chat_parser *parser)
{
    if (parser->state == CHAT_CALL_ARGUMENTS) {
        call_end(parser, false);
        return;
    }
    size_t n = parser->held.len, space = 0;
    while (space < n && json_is_space(parser->held.data[space])) space++;
    if (!parser->is_after_call || space < n) chat_call_reject(parser);
}
