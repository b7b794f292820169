/* chat_parser_int.h: what the parts of the chat parser share: chat_parser.c has the text
 * states, chat_parser_call.c those of a call, chat_parser_harmony.c what only gpt-oss has.
 * Floor: access.  Thread: the caller's.  Allocates: in the two buffers. */
#pragma once
#include "access/chat_parser.h"
#include "access/chat_parser_json.h"
#include "base/buf.h"

/*  START --<think>--> REASONING --</think>--> AFTER_REASONING --> START
 *  START --> CONTENT --marker--> CALL_OPEN ... CALL_AFTER --> CONTENT
 *
 *  CALL_OPEN, CALL_ITEM --{--> CALL_OBJECT --its arguments--> CALL_ARGUMENTS --> CALL_REST
 *      --> CALL_AFTER --separator--> CALL_ITEM
 *  DeepSeek: CALL_OPEN --> CALL_KIND --> CALL_SIGN --> CALL_LINE --> CALL_FENCE --> CALL_FENCED
 *      --> CALL_ARGUMENTS --> CALL_AFTER --> CALL_NEXT --> CALL_KIND
 *  Harmony: START --> HEADER --> REASONING, CONTENT or CALL_OPEN --> CALL_ARGUMENTS --> CALL_AFTER
 *      --end of message--> START
 *
 * Every CALL state but CALL_ARGUMENTS goes back to CONTENT on text that does not fit. `held` has
 * the text since the last thing that is certain; it is empty outside the CALL states. */
enum chat_state {
    CHAT_START,
    CHAT_REASONING,
    CHAT_AFTER_REASONING,
    CHAT_CONTENT,
    CHAT_CALL_OPEN,      /* after the marker */
    CHAT_CALL_ITEM,      /* in a list, before a call */
    CHAT_CALL_OBJECT,    /* in {"name": ..., "arguments": ...}, before the arguments */
    CHAT_CALL_ARGUMENTS, /* the call has begun */
    CHAT_CALL_REST,      /* behind the arguments, up to the object's end */
    CHAT_CALL_AFTER,     /* behind a call */
    CHAT_CALL_KIND,      /* before the separator: "function", or the name */
    CHAT_CALL_SIGN,      /* behind the separator */
    CHAT_CALL_LINE,      /* in the line with the name */
    CHAT_CALL_FENCE,     /* before ```json */
    CHAT_CALL_FENCED,    /* before the object in it */
    CHAT_CALL_NEXT,      /* between two calls */
    CHAT_HEADER,         /* Harmony: before a message's text */
    CHAT_STATE_COUNT
};

struct chat_parser {
    struct chat_parser_cfg cfg;
    sl_status status;
    enum chat_state state;
    struct sl_buf pending; /* text not yet consumed */
    struct sl_buf held;    /* consumed, but content if no call comes of it */
    bool is_thought_over;  /* no reasoning may begin any more */
    bool has_text;         /* of the reasoning: white space is not at its start any more */
    bool is_after_call;    /* nothing but white space since the last call */
    bool is_bare;          /* the object stands without a marker */
    int n_calls;
    char name[CHAT_CALL_NAME_MAX + 1]; /* "": not yet known */
    /* The object: the scan over it and offsets in held. */
    struct json_scan scan;
    int arguments_depth; /* the scan's depth outside the arguments */
    size_t object_at, key_at, key_end, value_at;
};

/* A state's step: consumes a prefix of s[0..n) and returns its length; 0 without a change of state
 * means that it needs more. With `last` there is no more. */
typedef size_t chat_step_fn(struct chat_parser *parser, const char *s, size_t n, bool last);

chat_step_fn chat_call_literal, chat_call_object, chat_call_arguments, chat_call_rest;
chat_step_fn chat_call_kind, chat_call_sign, chat_call_line;
chat_step_fn chat_harmony_header, chat_harmony_content;

/* What ends the text of a Harmony message; a NULL ends it. */
extern const char *const chat_harmony_ends[];

/* Hands an event to the caller's function; its first failure is kept and ends the parsing. */
void chat_emit(struct chat_parser *parser, const struct chat_event *event);
void chat_emit_text(struct chat_parser *parser, enum chat_event_type type, const char *s, size_t n);

/* Holds s[0..n), or as much of it as there is room for; returns how much. */
size_t chat_hold(struct chat_parser *parser, const char *s, size_t n);

/* All of s[0..n), or nothing and false. */
bool chat_hold_all(struct chat_parser *parser, const char *s, size_t n);

/* Takes s[0..n) without the white space around it as the call's name; false when that is none. */
bool chat_call_name(struct chat_parser *parser, const char *s, size_t n);

/* No call: what was held is content. */
void chat_call_reject(struct chat_parser *parser);

/* The next byte is the '{' of a bare object. */
void chat_call_bare(struct chat_parser *parser);

/* The answer is over within a call's state. */
void chat_call_cut(struct chat_parser *parser);

/* Where the first of the markers (a NULL ends them) is in s[0..n), with its length in *n_marker;
 * or, with *n_marker 0, where the text begins that may become one; or n. */
size_t chat_find_marker(const char *s, size_t n, const char *const *markers, bool last,
                        size_t *n_marker);
