/* wire.h: what an agent and its engine worker say to each other, as plain structs; on the socket
 * each is one frame (net/frame.h) that holds one message of proto/worker.proto.
 * Floor: exec.  Thread: the caller's.  Allocates: a decoded message lives in the caller's arena.
 * Invariant: neither side trusts the other: a decoded message has every enum in range and every
 * count within its limit; text may be any bytes. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "exec/chat/chat_format.h"
#include "exec/engine.h"
#include "exec/engine_open.h"
#include "exec/llm/sampler.h"

struct frame;

/* TENSOR_BYTES_MAX and names; also a prompt of four million tokens as ids, or 16 MiB of text. */
#define WIRE_FRAME_BYTES_MAX (TENSOR_BYTES_MAX + (4u << 20))
/* A decoded message with its pointers and small structs; a hostile frame of empty events would
 * otherwise take a hundred times its size. */
#define WIRE_ARENA_BYTES_MAX (160u << 20)
#define WIRE_STOP_MAX 16 /* OpenAI allows 4; what exec/llm/stop.h takes */

enum wire_type {
    /* to the worker */
    WIRE_LOAD = 1,   /* first, and once */
    WIRE_GENERATE,   /* answered by ACCEPTED and then the engine's events, or by REJECTED */
    WIRE_EMBED,      /* likewise */
    WIRE_TOKENIZE,   /* answered by TOKENS or REJECTED */
    WIRE_DETOKENIZE, /* answered by TEXT or REJECTED */
    WIRE_INFER,      /* as GENERATE */
    WIRE_CANCEL,     /* the request's DONE events follow, unless they are on their way already */
    WIRE_PING,
    WIRE_UNLOAD,  /* cancels all, unloads, exits with 0 */
    WIRE_DELIVER, /* a message of another stage; only after LOADED of a stage of a split model */
    /* from the worker */
    WIRE_LOADING = 33,
    WIRE_LOADED,
    WIRE_LOAD_FAILED, /* and exits */
    WIRE_EVENTS,
    WIRE_PONG,
    WIRE_FRAME /* a message for another stage */
};

struct wire_load {
    struct engine_load engine;
    const char *title;         /* for the process's name: "qwen2.5:0.5b" */
    const char *chat_template; /* in place of the model's own; NULL: that one */
};

/* Exactly one of text, tokens and chat. */
struct wire_prompt {
    const char *text;
    size_t n_text;
    const int32_t *tokens;
    size_t n_tokens;
    /* JSON object of the variables for the model's chat template (chat_template_render): messages,
     * tools, add_generation_prompt, ... */
    const char *chat;
    size_t n_chat;
    int64_t now_s; /* with chat: the time strftime_now shows, so that a replay renders the same */
    bool parse_special; /* with text: control tokens spelt out become such; with chat always */
};

struct wire_generate {
    uint64_t id; /* unique among this worker's live requests of all kinds */
    struct wire_prompt prompt;
    int32_t max_tokens;  /* 0: until the context is full */
    int32_t n_choices;   /* 0 means 1 */
    int32_t choice_base; /* engine_generate's */
    bool ignore_end;
    struct sampler_cfg sampler;
    const char *const *stop;
    int n_stop;
    const int32_t *resume; /* engine_generate's */
    size_t n_resume;
    bool want_tokens; /* ACCEPTED brings the prompt's tokens */
    bool want_text;   /* ACCEPTED brings the rendered prompt */
};

struct wire_embed {
    uint64_t id;
    struct wire_prompt prompt;
    enum engine_pooling pooling;
    bool no_normalize;
    const char *pair; /* engine_embed's; NULL: none */
    size_t n_pair;
};

struct wire_infer {
    uint64_t id;
    const struct tensor *inputs; /* decoded: each passed tensor_check */
    size_t n_inputs;
    /* [n_inputs] The pieces of shared memory (exec/worker_share.h) that hold the data; 0: the data
     * are in the tensor. NULL: all are. Decoded: the data of what is in a piece are NULL, and the
     * receiver's to find. */
    const uint32_t *pieces;
    const char *const *outputs;
    size_t n_outputs;
};

struct wire_tokenize {
    uint64_t id;
    struct wire_prompt prompt; /* text or chat */
    bool no_bos;               /* leave out the BOS that the model's tokenizer puts first */
};

struct wire_detokenize {
    uint64_t id;
    const int32_t *tokens;
    size_t n_tokens;
};

/* The model, once it is loaded. Strings are never NULL but info.chat_template and info.device. */
struct wire_loaded {
    struct engine_info info; /* chat_template: the one in use; NULL: none, chats are joined lines */
    struct chat_traits traits;
    uint64_t weight_bytes, kv_bytes, compute_bytes;
    int64_t load_ns;
};

enum wire_event_type {
    WIRE_EVENT_ACCEPTED, /* first of a request; the engine's events follow */
    WIRE_EVENT_REJECTED, /* the only one: status and message; no DONE comes */
    WIRE_EVENT_ENGINE,   /* `engine`, whose id and choice are the request's */
    WIRE_EVENT_TOKENS,   /* of TOKENIZE; the only one */
    WIRE_EVENT_TEXT      /* of DETOKENIZE; the only one */
};

struct wire_event {
    enum wire_event_type type;
    uint64_t id;
    /* ACCEPTED */
    bool opens_thinking; /* the rendered prompt ends inside <think> */
    /* ACCEPTED with want_text; TEXT */
    const char *text;
    size_t n_text;
    /* ACCEPTED with want_tokens; TOKENS */
    const int32_t *tokens;
    size_t n_tokens;
    /* REJECTED: as engine_submit; LIMIT: the message names the prompt's length and the context */
    sl_status status;
    const char *message;
    /* ENGINE; strings as engine.h has them, `usage` set with DONE */
    struct engine_event engine;
    const uint32_t *pieces; /* of engine.tensors; as wire_infer's */
};

/* Everything that happened in one step of the engine, in order: one frame. */
struct wire_events {
    const struct wire_event *v;
    size_t n;
};

struct wire_failure {
    sl_status status;
    const char *message;
};

struct wire_pong {
    uint64_t seq; /* the PING's */
    bool loaded;
    struct engine_stats stats; /* zero until it is loaded */
};

/* DELIVER and FRAME: what exec/llm/stage_msg.h says. Not protobuf but the number and the bytes as
 * they are: decoded, `bytes` leads into the frame, not into the arena. */
struct wire_stage {
    int32_t stage; /* DELIVER: whose message it is; FRAME: for whom */
    const void *bytes;
    size_t n;
};

struct wire_msg {
    enum wire_type type;
    union {
        struct wire_load load;
        struct wire_generate generate;
        struct wire_embed embed;
        struct wire_infer infer;
        struct wire_tokenize tokenize;
        struct wire_detokenize detokenize;
        uint64_t cancel_id;
        uint64_t ping_seq;
        double loading; /* 0 to 1 */
        struct wire_loaded loaded;
        struct wire_failure load_failed;
        struct wire_events events;
        struct wire_pong pong;
        struct wire_stage deliver, frame;
    };
};

/* Appends one frame. LIMIT: larger than WIRE_FRAME_BYTES_MAX or than out may grow; NOMEM. On
 * failure out is as it was. */
SL_CHECK sl_status wire_encode(const struct wire_msg *msg, struct sl_buf *out, struct sl_err *err);

/* Reads a frame into *out, whose pointers lead into the arena: valid until it is reset. CORRUPT
 * (unknown type, broken message, a value out of range; err says which), NOMEM, LIMIT (arena). */
SL_CHECK sl_status wire_decode(const struct frame *frame, struct sl_arena *arena,
                               struct wire_msg *out, struct sl_err *err);

const char *wire_type_name(enum wire_type type); /* "generate"; "?" when unknown */
