/* chat_parser_test.c: answers of each format, whole and cut at every place: content, reasoning,
 * calls; what only looks like a call; limits and failures. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "access/chat_parser_answer.h"
#include "base/mem.h"

#define CALLS_MAX 4
#define BYTES_MAX (1 << 20)
#define THINKS 1
#define OPEN 2
#define NO_TOOLS 4

struct expected {
    enum chat_tool_format tools;
    unsigned flags;
    const char *text;
    const char *content, *reasoning;  /* NULL: none */
    const char *calls[2 * CALLS_MAX]; /* name, arguments, ... */
    bool is_cut;                      /* the last call */
};

#define HERMES CHAT_TOOLS_HERMES
#define LLAMA3 CHAT_TOOLS_LLAMA3
#define DEEPSEEK CHAT_TOOLS_DEEPSEEK
#define MISTRAL CHAT_TOOLS_MISTRAL
#define NONE CHAT_TOOLS_NONE
#define HARMONY CHAT_TOOLS_HARMONY

#define TC "<tool_call>"
#define TC_END "</tool_call>"
#define DS_CALLS "<｜tool▁calls▁begin｜>"
#define DS_CALLS_END "<｜tool▁calls▁end｜>"
#define DS_CALL "<｜tool▁call▁begin｜>"
#define DS_END "<｜tool▁call▁end｜>"
#define DS_SEP "<｜tool▁sep｜>"

static const struct expected PLAIN[] = {
    {.tools = NONE, .text = ""},
    {.tools = NONE, .text = "Hello, world.\n", .content = "Hello, world.\n"},
    {.tools = NONE, .text = "  \n", .content = "  \n"},
    {.tools = HERMES,
     .text = " \n Grüße 😀 < <tool <tool_ca> <tool_call",
     .content = " \n Grüße 😀 < <tool <tool_ca> <tool_call"},
    {.tools = HERMES,
     .flags = NO_TOOLS,
     .text = TC "{\"name\":\"f\",\"arguments\":{}}" TC_END,
     .content = TC "{\"name\":\"f\",\"arguments\":{}}" TC_END},
    {.tools = LLAMA3,
     .flags = NO_TOOLS,
     .text = "{\"name\":\"f\",\"parameters\":{}}",
     .content = "{\"name\":\"f\",\"parameters\":{}}"},
};

static const struct expected REASONING[] = {
    {.tools = NONE,
     .flags = THINKS,
     .text = "<think>\nwhy\n</think>\n\nanswer",
     .content = "answer",
     .reasoning = "why"},
    {.tools = NONE,
     .flags = THINKS,
     .text = " \n<think>a\n\nb</think>c",
     .content = "c",
     .reasoning = "a\n\nb"},
    {.tools = NONE, .flags = THINKS, .text = "<think>\n\n</think>\n\n  x\n", .content = "  x\n"},
    {.tools = NONE,
     .flags = THINKS,
     .text = "<think>a < b </think </thin> c</think>\n",
     .reasoning = "a < b </think </thin> c"},
    {.tools = NONE, .flags = THINKS, .text = "<think>cut off\n", .reasoning = "cut off\n"},
    {.tools = NONE, .flags = THINKS, .text = "<think>cut off </thi", .reasoning = "cut off </thi"},
    {.tools = NONE,
     .flags = THINKS,
     .text = "I <think>not</think> so",
     .content = "I <think>not</think> so"},
    {.tools = NONE, .flags = THINKS, .text = "<think", .content = "<think"},
    {.tools = NONE,
     .flags = THINKS,
     .text = "<think>a</think>b<think>c</think>",
     .content = "b<think>c</think>",
     .reasoning = "a"},
    {.tools = NONE, .text = "<think>a</think>b", .content = "<think>a</think>b"},
    {.tools = NONE,
     .flags = OPEN,
     .text = "why</think>answer",
     .content = "answer",
     .reasoning = "why"},
    {.tools = NONE,
     .flags = OPEN,
     .text = "\n<think>\nwhy</think>\nanswer",
     .content = "answer",
     .reasoning = "why"},
    {.tools = NONE, .flags = OPEN, .text = "all of it", .reasoning = "all of it"},
    {.tools = NONE,
     .flags = OPEN | THINKS,
     .text = "日本 </think>日本",
     .content = "日本",
     .reasoning = "日本"},
    {.tools = HERMES,
     .flags = THINKS,
     .text = "<think>" TC "{}" TC_END "</think>\n" TC "{\"name\":\"f\",\"arguments\":{}}" TC_END,
     .reasoning = TC "{}" TC_END,
     .calls = {"f", "{}"}},
    {.tools = LLAMA3,
     .flags = OPEN,
     .text = "{\"name\"</think>\n\n{\"name\":\"f\",\"parameters\":{}}",
     .reasoning = "{\"name\"",
     .calls = {"f", "{}"}},
};

static const struct expected HERMES_CALLS[] = {
    {.tools = HERMES,
     .text = TC "\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\"}}\n" TC_END,
     .calls = {"get_weather", "{\"city\": \"Zürich\"}"}},
    {.tools = HERMES,
     .text =
         "Let me see.\n" TC "{\"name\":\"f\",\"arguments\":{\"a\":[1,{\"b\":\"}\"}]}}" TC_END "\n",
     .content = "Let me see.",
     .calls = {"f", "{\"a\":[1,{\"b\":\"}\"}]}"}},
    {.tools = HERMES,
     .text = TC "\n{\"name\":\"f\",\"arguments\":{}}\n" TC_END "\n" TC
                "\n{\"name\":\"g\",\"arguments\":{\"x\":\"\\\"\\\\\"}}\n" TC_END,
     .calls = {"f", "{}", "g", "{\"x\":\"\\\"\\\\\"}"}},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":{}}\n{\"name\":\"g\",\"arguments\":{}}" TC_END,
     .calls = {"f", "{}", "g", "{}"}},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":{}}" TC_END "\ndone",
     .content = "\ndone",
     .calls = {"f", "{}"}},
    {.tools = HERMES, .text = TC "{\"name\":\"f\",\"arguments\":{}}", .calls = {"f", "{}"}},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":{\"a\":1}\n" TC_END,
     .calls = {"f", "{\"a\":1}"}},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":{\"a\":1}}}\n" TC_END,
     .calls = {"f", "{\"a\":1}"}},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":{}}\n" TC "{\"name\":\"g\",\"arguments\":{}}\n",
     .calls = {"f", "{}", "g", "{}"}},
    {.tools = HERMES,
     .text =
         TC "{\"id\":7,\"name\":\"f\",\"x\":{\"name\":\"y\"},\"arguments\":{},\"z\":[{}]}" TC_END,
     .calls = {"f", "{}"}},
    {.tools = HERMES,
     .text = TC "{\"arguments\":{\"a\": 1.5},\"name\":\"f\"}" TC_END,
     .calls = {"f", "{\"a\":1.5}"}},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"}" TC_END,
     .calls = {"f", "{\"a\": 1}"}},
    {.tools = HERMES,
     .text = TC "{\"name\":\"\\u0066\",\"parameters\":{\"a\":1}}" TC_END,
     .calls = {"f", "{\"a\":1}"}},
    {.tools = HERMES, .text = TC "{\"name\":\"f\"}" TC_END, .calls = {"f", "{}"}},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":null}" TC_END,
     .calls = {"f", "{}"}},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":{\"a\":\"\\ud83d\\ude00\",\"b\":-1.5e+3,\"c\":[true,"
                "false,null,0]}}" TC_END,
     .calls = {"f", "{\"a\":\"\\ud83d\\ude00\",\"b\":-1.5e+3,\"c\":[true,false,null,0]}"}},
};

static const struct expected HERMES_NO_CALLS[] = {
    {.tools = HERMES, .text = TC, .content = TC},
    {.tools = HERMES, .text = "a \n" TC " \n", .content = "a \n" TC " \n"},
    {.tools = HERMES, .text = "a\n" TC "\nfoo" TC_END, .content = "a\n" TC "\nfoo" TC_END},
    {.tools = HERMES, .text = TC "{\"name\":\"f\"", .content = TC "{\"name\":\"f\""},
    {.tools = HERMES,
     .text = TC "{\"name\":7,\"arguments\":{}}" TC_END,
     .content = TC "{\"name\":7,\"arguments\":{}}" TC_END},
    {.tools = HERMES,
     .text = TC "{\"name\":\"\",\"arguments\":{}}",
     .content = TC "{\"name\":\"\",\"arguments\":{}}"},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":[1]}" TC_END,
     .content = TC "{\"name\":\"f\",\"arguments\":[1]}" TC_END},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":\"no\"}",
     .content = TC "{\"name\":\"f\",\"arguments\":\"no\"}"},
    {.tools = HERMES,
     .text = TC "{name:\"f\"}" TC_END " " TC "{\"name\":\"g\",\"arguments\":{}}" TC_END,
     .content = TC "{name:\"f\"}" TC_END,
     .calls = {"g", "{}"}},
    {.tools = HERMES,
     .text = TC TC "{\"name\":\"g\",\"arguments\":{}}" TC_END,
     .content = TC,
     .calls = {"g", "{}"}},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":{\"a\":1x}}" TC_END " b",
     .content = "x}}" TC_END " b",
     .calls = {"f", "{\"a\":1"},
     .is_cut = true},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":{\"a\":\"cut o",
     .calls = {"f", "{\"a\":\"cut o"},
     .is_cut = true},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":{\"a\":\"\\ud83dx\"}}",
     .content = "x\"}}",
     .calls = {"f", "{\"a\":\"\\ud83d"},
     .is_cut = true},
    {.tools = HERMES,
     .text = TC "{\"name\":\"f\",\"arguments\":{}, oops}" TC_END,
     .content = ", oops}" TC_END,
     .calls = {"f", "{}"}},
};

static const struct expected LLAMA3_CALLS[] = {
    {.tools = LLAMA3,
     .text = "{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}}",
     .calls = {"f", "{\"a\": \"b\"}"}},
    {.tools = LLAMA3,
     .text = "\n\n{\"type\":\"function\",\"name\":\"f\",\"parameters\":{}}\n",
     .calls = {"f", "{}"}},
    {.tools = LLAMA3,
     .text = "<|python_tag|>{\"name\":\"f\",\"parameters\":{}}",
     .calls = {"f", "{}"}},
    {.tools = LLAMA3,
     .text = "<|python_tag|>{\"name\":\"f\",\"parameters\":{}}; "
             "{\"name\":\"g\",\"parameters\":{\"a\":1}}",
     .calls = {"f", "{}", "g", "{\"a\":1}"}},
    {.tools = LLAMA3,
     .text = "I call.\n<|python_tag|>{\"name\":\"f\",\"arguments\":{}}",
     .content = "I call.",
     .calls = {"f", "{}"}},
    {.tools = LLAMA3,
     .text = "{\"name\":\"f\",\"parameters\":{}} and so",
     .content = " and so",
     .calls = {"f", "{}"}},
    {.tools = LLAMA3,
     .text = "{\"name\":\"f\",\"parameters\":{}}\n<|python_tag|>{\"name\":\"g\",\"parameters\":{}}",
     .calls = {"f", "{}", "g", "{}"}},
    {.tools = LLAMA3, .text = "{\"name\": \"Bob\"}", .content = "{\"name\": \"Bob\"}"},
    {.tools = LLAMA3,
     .text = "{\"name\":\"Bob\",\"age\":7,\"parameters\":{}}",
     .content = "{\"name\":\"Bob\",\"age\":7,\"parameters\":{}}"},
    {.tools = LLAMA3, .text = "{x} is a set", .content = "{x} is a set"},
    {.tools = LLAMA3,
     .text = "a {\"name\":\"f\",\"parameters\":{}}",
     .content = "a {\"name\":\"f\",\"parameters\":{}}"},
    {.tools = LLAMA3,
     .text = "<|python_tag|>f.call(a=\"b\")",
     .content = "<|python_tag|>f.call(a=\"b\")"},
    {.tools = LLAMA3,
     .text = "{\"name\":\"f\",\"parameters\":{}};",
     .content = ";",
     .calls = {"f", "{}"}},
};

static const struct expected DEEPSEEK_CALLS[] = {
    {.tools = DEEPSEEK,
     .text = DS_CALLS DS_CALL "function" DS_SEP
                              "get_weather\n```json\n{\"city\":\"Bern\"}\n```" DS_END DS_CALLS_END,
     .calls = {"get_weather", "{\"city\":\"Bern\"}"}},
    {.tools = DEEPSEEK,
     .text =
         "Moment.\n\n" DS_CALLS DS_CALL "function" DS_SEP "f\n```json\n{}\n```" DS_END "\n" DS_CALL
         "function" DS_SEP "g\n```json\n{\"a\":\"```\"}\n```" DS_END DS_CALLS_END "\n",
     .content = "Moment.",
     .calls = {"f", "{}", "g", "{\"a\":\"```\"}"}},
    {.tools = DEEPSEEK,
     .text =
         DS_CALLS DS_CALL "f" DS_SEP "{\"a\":1}" DS_END DS_CALL "g" DS_SEP "{}" DS_END DS_CALLS_END,
     .calls = {"f", "{\"a\":1}", "g", "{}"}},
    {.tools = DEEPSEEK,
     .flags = OPEN,
     .text = "hm\n</think>\n" DS_CALLS DS_CALL "f" DS_SEP "{}" DS_END DS_CALLS_END,
     .reasoning = "hm",
     .calls = {"f", "{}"}},
    {.tools = DEEPSEEK, .text = DS_CALLS DS_CALL "f" DS_SEP "{}", .calls = {"f", "{}"}},
    {.tools = DEEPSEEK,
     .text = DS_CALLS DS_CALL "f" DS_SEP "{}" DS_END "text",
     .content = "text",
     .calls = {"f", "{}"}},
    {.tools = DEEPSEEK,
     .text = DS_CALLS DS_CALL "f" DS_SEP "{]" DS_END,
     .content = "]" DS_END,
     .calls = {"f", "{"},
     .is_cut = true},
    {.tools = DEEPSEEK, .text = DS_CALLS "none", .content = DS_CALLS "none"},
    {.tools = DEEPSEEK,
     .text = DS_CALLS DS_CALL "function" DS_SEP "f\nxml",
     .content = DS_CALLS DS_CALL "function" DS_SEP "f\nxml"},
    {.tools = DEEPSEEK,
     .text = DS_CALLS DS_CALL " " DS_SEP "{}",
     .content = DS_CALLS DS_CALL " " DS_SEP "{}"},
    {.tools = DEEPSEEK,
     .text = "<｜tool＿calls▁begin｜> <｜",
     .content = "<｜tool＿calls▁begin｜> <｜"},
};

static const struct expected MISTRAL_CALLS[] = {
    {.tools = MISTRAL,
     .text = "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"abcdefghi\"}]",
     .calls = {"f", "{\"a\": 1}"}},
    {.tools = MISTRAL,
     .text = "[TOOL_CALLS] [{\"name\":\"f\",\"arguments\":{}}, "
             "{\"arguments\":{\"b\":[]},\"name\":\"g\"}]\n",
     .calls = {"f", "{}", "g", "{\"b\":[]}"}},
    {.tools = MISTRAL,
     .text = "Sure. [TOOL_CALLS]{\"name\":\"f\",\"arguments\":{}}",
     .content = "Sure.",
     .calls = {"f", "{}"}},
    {.tools = MISTRAL, .text = "[TOOL_CALLS][]", .content = "[TOOL_CALLS][]"},
    {.tools = MISTRAL,
     .text = "[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{}}, 7]",
     .content = ", 7]",
     .calls = {"f", "{}"}},
    {.tools = MISTRAL, .text = "[TOOL] [TOOL_CALLS", .content = "[TOOL] [TOOL_CALLS"},
};
static const struct expected HARMONY_ANSWERS[] = {
    {.tools = HARMONY,
     .text = "<|channel|>analysis<|message|>Why?<|end|><|start|>assistant<|channel|>final<|message|"
             ">Because.\n<|return|>",
     .content = "Because.\n",
     .reasoning = "Why?"},
    {.tools = HARMONY,
     .flags = NO_TOOLS,
     .text = "<|channel|>final<|message|>a < b <|en",
     .content = "a < b <|en"},
    {.tools = HARMONY, .text = "<|channel|>analysis<|message|>cut <|e", .reasoning = "cut <|e"},
    {.tools = HARMONY,
     .text = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary "
             "to=functions.f <|constrain|>json<|message|>{\"a\": 1}<|call|>",
     .reasoning = "hm",
     .calls = {"f", "{\"a\": 1}"}},
    {.tools = HARMONY,
     .text = " to=functions.f<|channel|>commentary json<|message|>{}",
     .calls = {"f", "{}"}},
    {.tools = HARMONY,
     .text = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant "
             "to=functions.f<|channel|>commentary<|message|>{}<|call|><|start|>assistant<|channel|>"
             "commentary to=functions.g<|message|>{}<|call|>",
     .content = "I look.",
     .calls = {"f", "{}", "g", "{}"}},
    {.tools = HARMONY,
     .flags = NO_TOOLS,
     .text = "<|channel|>commentary to=functions.f<|message|>{}<|call|>",
     .content = "{}"},
    {.tools = HARMONY,
     .text = "<|channel|>commentary to=functions.f<|message|>no<|end|>",
     .content = "<|channel|>commentary to=functions.f<|message|>no"},
    {.tools = HARMONY,
     .text = "<|channel|>commentary to=functions.f<|message|>{\"a\":]<|call|>",
     .content = "]",
     .calls = {"f", "{\"a\":"},
     .is_cut = true},
    {.tools = HARMONY, .text = "plain <|channel|>final<|message|>text", .content = "plain text"},
    {.tools = HARMONY, .text = "<|channel|>final", .content = "<|channel|>final"},
    {.tools = HARMONY, .text = " total", .content = " total"},
};

static struct chat_parser_cfg make_cfg(const struct expected *e)
{
    return (struct chat_parser_cfg){
        .tools = e->tools,
        .has_tools = !(e->flags & NO_TOOLS),
        .thinks = e->flags & THINKS,
        .reasoning_open = e->flags & OPEN,
        .id_seed = 7,
    };
}

static void check(const struct expected *e, const struct chat_answer *a, const char *how)
{
    const char *content = e->content ? e->content : "", *reasoning = e->reasoning;
    bool same = strcmp(a->content.data, content) == 0 &&
                strcmp(a->reasoning.data, reasoning ? reasoning : "") == 0;
    int n_calls = 0;
    for (; e->calls[2 * n_calls]; n_calls++) {
        if (!same || n_calls >= a->n_calls) break;
        const struct chat_answer_call *call = &a->calls[n_calls];
        bool is_whole = !e->is_cut || e->calls[2 * n_calls + 2];
        same = strcmp(call->name, e->calls[2 * n_calls]) == 0 &&
               strcmp(call->arguments.data, e->calls[2 * n_calls + 1]) == 0 &&
               call->is_whole == is_whole && strlen(call->id) == CHAT_CALL_ID_LEN;
    }
    if (same && n_calls == a->n_calls && !e->calls[2 * n_calls]) return;
    fail_msg("%s of <<%s>>: content <<%s>> reasoning <<%s>> %d calls, first <<%s>> <<%s>>", how,
             e->text, a->content.data, a->reasoning.data, a->n_calls,
             a->n_calls ? a->calls[0].name : "", a->n_calls ? a->calls[0].arguments.data : "");
}

/* In pieces of `size` bytes after a first one of `first`. */
static void check_pieces(const struct expected *e, size_t first, size_t size)
{
    struct chat_answer answer;
    struct chat_parser *parser;
    struct chat_parser_cfg cfg = make_cfg(e);
    char how[60];
    size_t n = strlen(e->text);
    snprintf(how, sizeof how, "pieces of %zu and %zu", first, size);
    chat_answer_init(&answer, BYTES_MAX);
    cfg.event = chat_answer_event;
    cfg.ctx = &answer;
    assert_int_equal(chat_parser_create(&cfg, &parser, NULL), SL_OK);
    for (size_t at = 0, piece = first; at < n; at += piece, piece = size) {
        if (piece > n - at) piece = n - at;
        assert_int_equal(chat_parser_push(parser, e->text + at, piece), SL_OK);
    }
    assert_int_equal(chat_parser_finish(parser), SL_OK);
    assert_int_equal(chat_parser_n_calls(parser), answer.n_calls);
    check(e, &answer, how);
    chat_parser_destroy(parser);
    chat_answer_done(&answer);
}

static void check_all(const struct expected *expected, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct chat_answer answer;
        struct chat_parser_cfg cfg = make_cfg(&expected[i]);
        size_t n = strlen(expected[i].text);
        chat_answer_init(&answer, BYTES_MAX);
        assert_int_equal(chat_answer_parse(&answer, &cfg, expected[i].text, n, NULL), SL_OK);
        check(&expected[i], &answer, "the whole");
        chat_answer_done(&answer);
        for (size_t size = 1; size < 8; size++) check_pieces(&expected[i], size, size);
        for (size_t first = 1; first < n; first++) check_pieces(&expected[i], first, n);
    }
}

#define CHECK_TABLE(name, table) \
    static void name(void **state) \
    { \
        (void)state; \
        uint64_t live = sl_mem_live(); \
        check_all(table, sizeof table / sizeof *table); \
        assert_int_equal(sl_mem_live(), live); \
    }
CHECK_TABLE(plain_text_stays, PLAIN)
CHECK_TABLE(reasoning_is_taken_out, REASONING)
CHECK_TABLE(hermes_calls, HERMES_CALLS)
CHECK_TABLE(what_is_no_hermes_call_is_content, HERMES_NO_CALLS)
CHECK_TABLE(llama3_calls, LLAMA3_CALLS)
CHECK_TABLE(deepseek_calls, DEEPSEEK_CALLS)
CHECK_TABLE(mistral_calls, MISTRAL_CALLS)
CHECK_TABLE(harmony_channels, HARMONY_ANSWERS)

/* One line an event. */
static sl_status print_event(void *ctx, const struct chat_event *event)
{
    static const char *const names[] = {"content", "reasoning", "begin", "arguments", "end"};
    struct sl_buf *out = ctx;
    if (event->type == CHAT_EVENT_CALL_BEGIN)
        return sl_buf_addf(out, "begin %d %s|", event->call, event->name);
    if (event->type == CHAT_EVENT_CALL_END)
        return sl_buf_addf(out, "end %d %d|", event->call, event->is_whole);
    return sl_buf_addf(out, "%s %.*s|", names[event->type], (int)event->n_text, event->text);
}

static void events_come_as_early_as_can_be(void **state)
{
    (void)state;
    static const char *const steps[][2] = {
        {"<thi", ""},
        {"nk>\nso", "reasoning so|"},
        {" it</", "reasoning  it|"},
        {"think>\n", ""},
        {"\nHel", "content Hel|"},
        {"lo\xc3", "content lo|"},
        {"\xa4 ", "content \xc3\xa4|"},
        {"<b> ", "content  <b>|"},
        {"<tool_call>\n{\"name\":\"f", ""},
        {"\",\"arguments\":", ""},
        {" {\"a\": \"x", "begin 0 f|arguments {\"a\": \"x|"},
        {"y\"}", "arguments y\"}|end 0 1|"},
        {"}\n</tool_call>\n", ""},
    };
    struct sl_buf out;
    struct chat_parser *parser;
    struct chat_parser_cfg cfg = {.tools = HERMES, .has_tools = true, .thinks = true};
    sl_buf_init(&out, BYTES_MAX);
    cfg.event = print_event;
    cfg.ctx = &out;
    assert_int_equal(chat_parser_create(&cfg, &parser, NULL), SL_OK);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        sl_buf_clear(&out);
        assert_int_equal(chat_parser_push(parser, steps[i][0], strlen(steps[i][0])), SL_OK);
        assert_string_equal(out.data, steps[i][1]);
    }
    sl_buf_clear(&out);
    assert_int_equal(chat_parser_finish(parser), SL_OK);
    assert_string_equal(out.data, "");
    chat_parser_destroy(parser);
    sl_buf_done(&out);
}

static void ids_are_made_of_the_seed(void **state)
{
    (void)state;
    static const char text[] = TC "{\"name\":\"f\"}" TC_END TC "{\"name\":\"f\"}" TC_END;
    struct chat_answer answers[3];
    for (int i = 0; i < 3; i++) {
        struct chat_parser_cfg cfg = {.tools = HERMES, .has_tools = true, .id_seed = i / 2 + 1};
        chat_answer_init(&answers[i], BYTES_MAX);
        assert_int_equal(chat_answer_parse(&answers[i], &cfg, text, sizeof text - 1, NULL), SL_OK);
        assert_int_equal(answers[i].n_calls, 2);
        assert_memory_equal(answers[i].calls[0].id, "call_", 5);
        for (const char *p = answers[i].calls[0].id + 5; *p; p++)
            assert_non_null(
                strchr("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", *p));
        assert_string_not_equal(answers[i].calls[0].id, answers[i].calls[1].id);
    }
    assert_string_equal(answers[0].calls[0].id, answers[1].calls[0].id);
    assert_string_not_equal(answers[0].calls[0].id, answers[2].calls[0].id);
    for (int i = 0; i < 3; i++) chat_answer_done(&answers[i]);
}

static void parse_buf(const struct sl_buf *text, struct chat_answer *answer)
{
    struct chat_parser_cfg cfg = {.tools = HERMES, .has_tools = true};
    chat_answer_init(answer, BYTES_MAX);
    assert_int_equal(chat_answer_parse(answer, &cfg, text->data, text->len, NULL), SL_OK);
}

static void too_many_calls_are_content(void **state)
{
    (void)state;
    static const char one[] = TC "{\"name\":\"f\",\"arguments\":{}}" TC_END;
    struct sl_buf text;
    struct chat_answer answer;
    sl_buf_init(&text, BYTES_MAX);
    for (int i = 0; i < CHAT_CALLS_MAX + 2; i++) assert_int_equal(sl_buf_adds(&text, one), SL_OK);
    parse_buf(&text, &answer);
    assert_int_equal(answer.n_calls, CHAT_CALLS_MAX);
    assert_int_equal(answer.content.len, 2 * (sizeof one - 1));
    chat_answer_done(&answer);
    sl_buf_done(&text);
}

static void a_call_that_never_begins_is_content(void **state)
{
    (void)state;
    struct sl_buf text;
    struct chat_answer answer;
    sl_buf_init(&text, BYTES_MAX);
    assert_int_equal(sl_buf_adds(&text, TC "{\"arguments\":{\"a\":\""), SL_OK);
    while (text.len < CHAT_CALL_HELD_MAX + 100) assert_int_equal(sl_buf_addc(&text, 'x'), SL_OK);
    assert_int_equal(sl_buf_adds(&text, "\"},\"name\":\"f\"}" TC_END), SL_OK);
    parse_buf(&text, &answer);
    assert_int_equal(answer.n_calls, 0);
    assert_int_equal(answer.content.len, text.len);
    assert_memory_equal(answer.content.data, text.data, text.len);
    chat_answer_done(&answer);
    sl_buf_done(&text);
}

static void arguments_may_be_long(void **state)
{
    (void)state;
    struct sl_buf text;
    struct chat_answer answer;
    sl_buf_init(&text, BYTES_MAX);
    static const char head[] = TC "{\"name\":\"f\",\"arguments\":";
    assert_int_equal(sl_buf_addf(&text, "%s{\"a\":\"", head), SL_OK);
    while (text.len < 3 * CHAT_CALL_HELD_MAX) assert_int_equal(sl_buf_addc(&text, 'x'), SL_OK);
    assert_int_equal(sl_buf_adds(&text, "\"}}" TC_END), SL_OK);
    parse_buf(&text, &answer);
    assert_int_equal(answer.n_calls, 1);
    assert_true(answer.calls[0].is_whole);
    assert_int_equal(answer.calls[0].arguments.len, text.len - strlen(head) - strlen("}" TC_END));
    assert_int_equal(answer.content.len, 0);
    chat_answer_done(&answer);
    sl_buf_done(&text);
}

static void a_failing_receiver_ends_it(void **state)
{
    (void)state;
    struct sl_buf out;
    struct chat_parser *parser;
    struct chat_parser_cfg cfg = {.tools = HERMES, .event = print_event, .ctx = &out};
    sl_buf_init(&out, 10);
    assert_int_equal(chat_parser_create(&cfg, &parser, NULL), SL_OK);
    assert_int_equal(chat_parser_push(parser, "too long", 8), SL_LIMIT);
    assert_int_equal(chat_parser_push(parser, "a", 1), SL_LIMIT);
    assert_int_equal(chat_parser_finish(parser), SL_LIMIT);
    assert_int_equal(out.len, 0);
    chat_parser_destroy(parser);
    chat_parser_destroy(NULL);
    sl_buf_done(&out);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char text[] =
        "<think>why</think>so " TC "{\"name\":\"f\",\"arguments\":\"{}\"}" TC_END TC
        "{\"arguments\":{\"a\":1},\"name\":\"g\"}" TC_END;
    struct chat_parser_cfg cfg = {.tools = HERMES, .has_tools = true, .thinks = true};
    uint64_t live = sl_mem_live();
    bool hit = true;
    int n_failures = -1;
    for (uint64_t nth = 1; hit; nth++, n_failures++) {
        struct chat_answer answer;
        struct sl_err err = SL_ERR_INIT;
        chat_answer_init(&answer, BYTES_MAX);
        sl_mem_fail_at(nth, false);
        sl_status status = chat_answer_parse(&answer, &cfg, text, sizeof text - 1, &err);
        hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        assert_int_equal(status, hit ? SL_NOMEM : SL_OK);
        assert_int_equal(err.status, status);
        if (!hit) assert_int_equal(answer.n_calls, 2);
        chat_answer_done(&answer);
        assert_int_equal(sl_mem_live(), live);
    }
    assert_in_range(n_failures, 10, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text_stays),
        cmocka_unit_test(reasoning_is_taken_out),
        cmocka_unit_test(hermes_calls),
        cmocka_unit_test(what_is_no_hermes_call_is_content),
        cmocka_unit_test(llama3_calls),
        cmocka_unit_test(deepseek_calls),
        cmocka_unit_test(mistral_calls),
        cmocka_unit_test(harmony_channels),
        cmocka_unit_test(events_come_as_early_as_can_be),
        cmocka_unit_test(ids_are_made_of_the_seed),
        cmocka_unit_test(too_many_calls_are_content),
        cmocka_unit_test(a_call_that_never_begins_is_content),
        cmocka_unit_test(arguments_may_be_long),
        cmocka_unit_test(a_failing_receiver_ends_it),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
