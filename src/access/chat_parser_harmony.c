/* chat_parser_harmony.c: the messages of gpt-oss (OpenAI's "Harmony" response format). An answer is
 * a row of messages, each a header and a text:
 *   <|start|>assistant<|channel|>NAME to=RECIPIENT <|constrain|>json<|message|>TEXT<|end|>
 * The prompt has the first <|start|>assistant; the recipient may stand before <|channel|> too, or
 * nowhere; <|return|> and <|call|> also end a text. */
#include "access/chat_parser_int.h"

#include <string.h>

#define HEADER_MAX 256 /* bytes before <|message|>; longer ones are text that only begins alike */

static const char ANALYSIS[] = "<|channel|>analysis";
static const char RECIPIENT[] = "to=functions.";
static const char *const HEADER_BEGINS[] = {"<|channel|>", "<|start|>", " to=", NULL};
static const char *const HEADER_ENDS[] = {"<|message|>", NULL};

const char *const chat_harmony_ends[] = {"<|end|>", "<|return|>", "<|call|>", NULL};
static const char *const CONTENT_ENDS[] = {"<|end|>",     "<|return|>", "<|call|>",
                                           "<|channel|>", "<|start|>",  NULL};

/* The function that the header addresses becomes the call's name; false when it is none. */
static bool take_recipient(struct chat_parser *parser, const char *header, size_t n)
{
    const char *to = memmem(header, n, RECIPIENT, strlen(RECIPIENT));
    if (!to || !parser->cfg.has_tools || parser->n_calls == CHAT_CALLS_MAX) return false;
    const char *name = to + strlen(RECIPIENT);
    size_t len = 0, left = n - (size_t)(name - header);
    while (len < left && name[len] != '<' && !json_is_space(name[len])) len++;
    return chat_call_name(parser, name, len);
}

/* What begins like a header and is none: its first marker is content. */
static size_t no_header(struct chat_parser *parser, const char *s, size_t n_begin)
{
    chat_emit_text(parser, CHAT_EVENT_CONTENT, s, n_begin);
    parser->state = CHAT_CONTENT;
    return n_begin;
}

size_t chat_harmony_header(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    size_t n_begin, n_end, at = chat_find_marker(s, n, HEADER_BEGINS, last, &n_begin);
    if (n == 0) return 0;
    if (at > 0) return no_header(parser, s, 0);
    if (n_begin == 0) return 0;
    at = chat_find_marker(s, n, HEADER_ENDS, last, &n_end);
    if (at > HEADER_MAX) return no_header(parser, s, n_begin);
    if (n_end == 0) return last ? no_header(parser, s, n_begin) : 0;
    parser->has_text = false;
    if (take_recipient(parser, s, at)) {
        if (!chat_hold_all(parser, s, at + n_end)) return no_header(parser, s, n_begin);
        parser->state = CHAT_CALL_OPEN;
    } else {
        bool is_analysis = memmem(s, at, ANALYSIS, strlen(ANALYSIS)) != NULL;
        parser->state = is_analysis ? CHAT_REASONING : CHAT_CONTENT;
    }
    return at + n_end;
}

/* A message whose end is missing ends where the next header begins. */
size_t chat_harmony_content(struct chat_parser *parser, const char *s, size_t n, bool last)
{
    size_t n_marker, n_end, at = chat_find_marker(s, n, CONTENT_ENDS, last, &n_marker);
    chat_emit_text(parser, CHAT_EVENT_CONTENT, s, at);
    if (n_marker == 0) return at;
    parser->state = CHAT_START;
    bool is_end = chat_find_marker(s + at, n_marker, chat_harmony_ends, true, &n_end) == 0;
    return is_end ? at + n_marker : at;
}
