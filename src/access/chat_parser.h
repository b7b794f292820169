/* chat_parser.h: takes a model's answer apart while it is generated: what the user reads, what the
 * model thought, and the tool calls.
 * Floor: access.  Thread: the caller's.  Allocates: the parser and two bounded buffers.
 *
 * Text goes in as pieces of any size, valid UTF-8 as a whole. Events come out as early as can be:
 * held back is only what may still turn out to be part of a marker, of white space that belongs to
 * one, or of a call whose name is not yet known. How the pieces were cut changes where events are
 * cut, never what they add up to. An event's text ends between characters.
 *
 * Reasoning: <think>...</think> at the start of the answer, nowhere else; white space next to the
 * two tags, and line feeds after the second, are dropped.
 *
 * gpt-oss writes messages with headers instead: the channel "analysis" is reasoning, a message to
 * "functions.f" is a call of f, all else is content.
 *
 * Calls: see enum chat_tool_format. A call begins (CALL_BEGIN) when its name and the first byte of
 * its arguments are known; from then on arguments are handed out as they come, each byte checked.
 * What looks like a call and is none before that point becomes content, byte for byte. A call that
 * breaks after it has begun, by a byte that cannot stand in JSON or by the answer's end, ends with
 * is_whole false: its arguments so far stay what they are, and the text from that byte on is
 * content. White space between calls, and between content and the call that follows, is dropped.
 * Arguments that precede the name, or are JSON in a string, are handed out in one piece at the end
 * of the call; a call without any has "{}". */
#pragma once
#include "base/err.h"
#include "exec/chat/chat_format.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHAT_CALLS_MAX 128     /* an answer that has more repeats itself: they are content */
#define CHAT_CALL_NAME_MAX 128 /* bytes; OpenAI allows 64 */
#define CHAT_CALL_HELD_MAX (64u << 10) /* bytes of a call held before it begins; more is content */
#define CHAT_CALL_ID_LEN (5 + 24)      /* "call_" and base62 */
#define CHAT_SPACE_HELD_MAX 64         /* bytes of white space held before a marker */

enum chat_event_type {
    CHAT_EVENT_CONTENT,
    CHAT_EVENT_REASONING,
    CHAT_EVENT_CALL_BEGIN,
    CHAT_EVENT_CALL_ARGUMENTS, /* a piece; they concatenate to a JSON object */
    CHAT_EVENT_CALL_END
};

/* Strings are valid during the call. */
struct chat_event {
    enum chat_event_type type;
    const char *text; /* CONTENT, REASONING, CALL_ARGUMENTS: n_text bytes, never 0 */
    size_t n_text;
    int call;       /* CALL_*: 0, 1, ... */
    const char *id; /* CALL_BEGIN */
    const char *name;
    bool is_whole; /* CALL_END: the arguments are a whole JSON object */
};

/* What it returns other than OK ends the parsing: push or finish returns it. */
typedef sl_status chat_event_fn(void *ctx, const struct chat_event *event);

struct chat_parser_cfg {
    enum chat_tool_format tools; /* how this model writes calls; also without tools */
    bool has_tools;              /* the request gave tools; without them calls are content */
    bool thinks;                 /* <think> at the start is reasoning */
    bool reasoning_open;         /* the prompt ends inside <think> */
    uint64_t id_seed;            /* the ids of the calls are made of it */
    chat_event_fn *event;
    void *ctx;
};

struct chat_parser;

SL_CHECK sl_status chat_parser_create(const struct chat_parser_cfg *cfg, struct chat_parser **out,
                                      struct sl_err *err); /* NOMEM */
void chat_parser_destroy(struct chat_parser *parser);      /* NULL is fine */

/* NOMEM, or what the event function returned; the first failure sticks. */
SL_CHECK sl_status chat_parser_push(struct chat_parser *parser, const char *text, size_t n);
/* The answer is over: hands out what was held. Nothing may be pushed after it. */
SL_CHECK sl_status chat_parser_finish(struct chat_parser *parser);

/* Calls that have begun: with any, an answer that stopped by itself has the finish_reason
 * tool_calls. */
int chat_parser_n_calls(const struct chat_parser *parser);
