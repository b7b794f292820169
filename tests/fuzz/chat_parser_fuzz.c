/* chat_parser_fuzz.c: any answer through the chat parser. Input: a byte that chooses the format and
 * the options, a byte with the size of the pieces, and the text. Cut or whole must come to the
 * same, whole arguments must be JSON, and plain text must come back. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "access/chat_parser_answer.h"
#include "base/json_read.h"
#include "base/utf8.h"

#define CHECK(condition) ((condition) ? (void)0 : abort())
#define ANSWER_BYTES_MAX ((size_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_cut(struct chat_parser_cfg cfg, const char *text, size_t n, size_t piece_max,
                      struct chat_answer *answer)
{
    struct chat_parser *parser;
    cfg.event = chat_answer_event;
    cfg.ctx = answer;
    CHECK(chat_parser_create(&cfg, &parser, NULL) == SL_OK);
    while (n > 0) {
        size_t piece = piece_max < n ? piece_max : n;
        CHECK(chat_parser_push(parser, text, piece) == SL_OK);
        text += piece;
        n -= piece;
    }
    CHECK(chat_parser_finish(parser) == SL_OK);
    chat_parser_destroy(parser);
}

static void check_same(const struct sl_buf *a, const struct sl_buf *b)
{
    CHECK(a->len == b->len && memcmp(a->data, b->data, a->len) == 0);
}

/* A number may be JSON and still be too large for us. */
static void check_arguments(const struct sl_buf *arguments)
{
    struct sl_json_value *root;
    struct sl_err err = SL_ERR_INIT;
    if (sl_json_parse(arguments->data, arguments->len, &root, &err) == SL_OK) {
        CHECK(sl_json_is(root, SL_JSON_OBJECT));
        sl_json_free(root);
    } else {
        CHECK(strstr(err.text, "out of range"));
    }
}

static void check_answers(const struct chat_answer *a, const struct chat_answer *b, bool is_utf8)
{
    check_same(&a->content, &b->content);
    check_same(&a->reasoning, &b->reasoning);
    CHECK(a->n_calls == b->n_calls);
    for (int i = 0; i < a->n_calls; i++) {
        check_same(&a->calls[i].arguments, &b->calls[i].arguments);
        CHECK(strcmp(a->calls[i].name, b->calls[i].name) == 0);
        CHECK(a->calls[i].is_whole == b->calls[i].is_whole);
        if (is_utf8 && a->calls[i].is_whole) check_arguments(&a->calls[i].arguments);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    const char *text = (const char *)data + 2;
    struct chat_parser_cfg cfg = {
        .tools = (enum chat_tool_format)(data[0] % (CHAT_TOOLS_HARMONY + 1)),
        .has_tools = !(data[0] & 0x80),
        .thinks = data[0] & 0x40,
        .reasoning_open = data[0] & 0x20,
    };
    size_t n = size - 2;
    struct chat_answer whole, cut;
    chat_answer_init(&whole, ANSWER_BYTES_MAX);
    chat_answer_init(&cut, ANSWER_BYTES_MAX);
    CHECK(chat_answer_parse(&whole, &cfg, text, n, NULL) == SL_OK);
    parse_cut(cfg, text, n, 1 + data[1] % 16, &cut);
    check_answers(&whole, &cut, sl_utf8_valid(text, n));
    bool is_plain = !cfg.thinks && !cfg.reasoning_open && cfg.tools != CHAT_TOOLS_HARMONY;
    if (is_plain && whole.n_calls == 0)
        CHECK(whole.content.len == n && memcmp(whole.content.data, text, n) == 0);
    chat_answer_done(&cut);
    chat_answer_done(&whole);
    return 0;
}
