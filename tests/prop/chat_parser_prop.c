/* chat_parser_prop.c: random answers made of pieces of every format: however the text is cut, the
 * events add up to the same; whole arguments are JSON; without a call nothing is lost. SEED=n
 * repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "access/chat_parser_answer.h"
#include "base/json_read.h"
#include "support/prop.h"

#define ROUNDS 60000
#define CUTS 3
#define TEXT_MAX 2000
#define PIECES_MAX 24

static const char *const FRAGMENTS[] = {
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|start|>",
    "<|call|>",
    "analysis",
    " to=functions.f",
    "{\"name\":\"f\",\"arguments\":",
    "{\"name\": \"g\", \"parameters\": ",
    "{\"arguments\":{},\"name\":\"h\"}",
    "{\"a\":1}",
    "{}",
    "}",
    "{",
    "[",
    "]",
    ",",
    ";",
    "\"",
    ":",
    "\\",
    "\n",
    " ",
    "\n\n",
    "```json\n",
    "\n```",
    "function",
    "f\n",
    "ä",
    "😀",
    "<",
    "｜",
    "text",
    "null",
    "{\"k\":[true,-1.5e3,\"\\u00e4\\ud83d\\ude00\"]}",
    "\"name\":\"x\"",
    "\"arguments\":\"{}\"",
};

/* Calls that mostly work, so that what follows one is tried too. */
static const char *const CALLS[] = {
    "<tool_call>\n{\"name\":\"f\",\"arguments\":{\"a\":\"ä\"}}\n</tool_call>",
    "<|python_tag|>{\"name\":\"f\",\"parameters\":{\"a\":[]}}",
    "[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{\"a\":{}}}]",
    ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```"
     "<｜tool▁call▁end｜>"),
    "<|channel|>commentary to=functions.f<|message|>{\"a\":1}<|call|>",
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void random_text(struct sl_buf *out)
{
    sl_buf_init(out, TEXT_MAX);
    for (size_t i = prop_draw(PIECES_MAX); i > 0; i--) {
        bool is_call = prop_draw(8) == 0;
        const char *piece =
            is_call ? CALLS[prop_draw(COUNT(CALLS))] : FRAGMENTS[prop_draw(COUNT(FRAGMENTS))];
        /* now and then a piece lacks its end */
        size_t n = prop_draw(10) ? strlen(piece) : prop_draw(strlen(piece) + 1);
        while (n > 0 && ((unsigned char)piece[n] & 0xc0) == 0x80) n--;
        assert_int_equal(sl_buf_add(out, piece, n), SL_OK);
    }
}

static struct chat_parser_cfg random_cfg(void)
{
    return (struct chat_parser_cfg){
        .tools = (enum chat_tool_format)prop_draw(CHAT_TOOLS_HARMONY + 1),
        .has_tools = prop_draw(8) != 0,
        .thinks = prop_draw(2),
        .reasoning_open = prop_draw(4) == 0,
    };
}

static void parse_cut(const struct chat_parser_cfg *cfg, const struct sl_buf *text,
                      size_t piece_max, struct chat_answer *answer)
{
    struct chat_parser_cfg own = *cfg;
    struct chat_parser *parser;
    own.event = chat_answer_event;
    own.ctx = answer;
    chat_answer_init(answer, 10 * TEXT_MAX);
    assert_int_equal(chat_parser_create(&own, &parser, NULL), SL_OK);
    for (size_t at = 0; at < text->len;) {
        size_t piece = 1 + prop_draw(piece_max);
        if (piece > text->len - at) piece = text->len - at;
        assert_int_equal(chat_parser_push(parser, text->data + at, piece), SL_OK);
        at += piece;
    }
    assert_int_equal(chat_parser_finish(parser), SL_OK);
    chat_parser_destroy(parser);
}

static void check_same(const struct chat_answer *a, const struct chat_answer *b)
{
    assert_string_equal(a->content.data, b->content.data);
    assert_string_equal(a->reasoning.data, b->reasoning.data);
    assert_int_equal(a->n_calls, b->n_calls);
    for (int i = 0; i < a->n_calls; i++) {
        assert_string_equal(a->calls[i].id, b->calls[i].id);
        assert_string_equal(a->calls[i].name, b->calls[i].name);
        assert_string_equal(a->calls[i].arguments.data, b->calls[i].arguments.data);
        assert_int_equal(a->calls[i].is_whole, b->calls[i].is_whole);
    }
}

static void check_meaning(const struct chat_parser_cfg *cfg, const struct sl_buf *text,
                          const struct chat_answer *a)
{
    for (int i = 0; i < a->n_calls; i++) {
        struct sl_json_value *root;
        const struct sl_buf *arguments = &a->calls[i].arguments;
        assert_true(a->calls[i].name[0]);
        if (!a->calls[i].is_whole) continue;
        assert_int_equal(sl_json_parse(arguments->data, arguments->len, &root, NULL), SL_OK);
        assert_true(sl_json_is(root, SL_JSON_OBJECT));
        sl_json_free(root);
    }
    bool is_plain = !cfg->thinks && !cfg->reasoning_open && cfg->tools != CHAT_TOOLS_HARMONY;
    if (is_plain && a->n_calls == 0) assert_string_equal(a->content.data, text->data);
}

static void cuts_do_not_matter(void **state)
{
    (void)state;
    int n_calls = 0, n_thoughts = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct sl_buf text;
        struct chat_answer whole, cut;
        struct chat_parser_cfg cfg = random_cfg();
        random_text(&text);
        chat_answer_init(&whole, 10 * TEXT_MAX);
        assert_int_equal(chat_answer_parse(&whole, &cfg, text.data, text.len, NULL), SL_OK);
        check_meaning(&cfg, &text, &whole);
        for (size_t j = 0; j < CUTS; j++) {
            parse_cut(&cfg, &text, (size_t)1 << 2 * j, &cut);
            check_same(&whole, &cut);
            chat_answer_done(&cut);
        }
        n_calls += whole.n_calls;
        n_thoughts += whole.reasoning.len > 0;
        chat_answer_done(&whole);
        sl_buf_done(&text);
    }
    assert_true(n_calls > ROUNDS / 20);
    assert_true(n_thoughts > ROUNDS / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cuts_do_not_matter)};
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
