/* generation.h: one request to a model on its way from the node to the client, whatever API it came
 * by: takes the answer apart (reasoning, tool calls), streams or collects it, and ends it after its
 * usage is stored. How the bytes look is the shape's work (openai_chat.c, ollama_chat.c, ...).
 *
 *   node events -> chat_parser (chats only) -> shape -> out -> HTTP
 *
 * Floor: access.  Thread: the loop's.  Allocates: with the call; text is bounded by
 * GENERATION_OUT_MAX.
 * Invariant: headers are sent with the first token, or with the first ping when that takes long, so
 * what fails before has its own HTTP status. A client that does not read for so long that
 * GENERATION_OUT_MAX bytes wait is treated as gone, and earlier when too much waits for all. */
#pragma once
#include "access/chat_parser.h"
#include "access/gateway_int.h"
#include "exec/llm/sampler.h"

#define GENERATION_OUT_MAX (64u << 20) /* a whole answer; what waits for a slow client */
/* What waits for all slow clients together. Past it, a stream with more than its fair share waiting
 * is cut. */
#define GENERATION_OUT_ALL_MAX (256u << 20)
#define GENERATION_OUT_FAIR (1u << 20)
#define GENERATION_PROMPTS_MAX 64 /* of one request; evaluations send batches of 8 to 32 */
#define GENERATION_PING_NS INT64_C(10000000000) /* CONVENTIONS: at least every 15 s */

/* A tool call of an answer that is not streamed. */
struct generation_call {
    char *id, *name;
    struct sl_buf arguments;
};

struct generation_choice {
    struct generation *generation;
    int32_t index;
    struct chat_parser *parser;       /* chats only */
    struct sl_buf content, reasoning; /* not streamed: all of it */
    struct generation_call *calls;
    int n_calls;
    /* Log probabilities of tokens that no chunk has brought yet (streamed), or of all: elements
     * of a JSON array without the brackets. */
    struct sl_buf logprobs;
    enum engine_finish finish;
    bool done;
    bool thinking; /* what came last was reasoning */
    int64_t last_token_ns;
    int32_t n_tokens, n_thinking; /* seen; of them, within reasoning */
    size_t text_offset;           /* completions: characters before the next token */
};

struct generation_shape {
    const char *stream_type; /* Content-Type of a stream */
    const char *ping;        /* what keeps a quiet stream open; NULL: this format has nothing */
    bool chat;               /* answers are taken apart */
    /* All append to g->out. Streamed: the head once, each piece, the end of each choice, the
     * end. */
    sl_status (*begin)(struct generation *g);
    sl_status (*piece)(struct generation_choice *choice, const struct chat_event *event);
    sl_status (*choice_end)(struct generation_choice *choice);
    sl_status (*end)(struct generation *g);
    /* An error after the head was sent. */
    sl_status (*error)(struct generation *g, int http_status, const char *message);
    /* Not streamed: the whole. */
    sl_status (*whole)(struct generation *g);
    /* Appends to choice->logprobs; NULL: this format has none. */
    sl_status (*logprob)(struct generation_choice *choice, const struct node_event *event);
};

/* What the handler knows of the request. Pointers live as long as the call. */
struct generation_request {
    const struct generation_shape *shape;
    /* One a prompt, n_choices the same in each; choices are numbered prompt by prompt. In the
     * exchange's arena; class, tenant and queue_timeout_ns are filled in by generation_start. */
    struct node_submit *submits;
    int32_t n_submits; /* at most GENERATION_PROMPTS_MAX */
    bool stream;
    bool stream_usage; /* OpenAI: stream_options.include_usage */
    bool has_tools;
    bool no_reasoning; /* reasoning stays in the content as it is written */
    const char *model; /* as the client named it */
    void *shape_data;  /* the shape's; in the exchange's arena */
};

/* One prompt's way through the node. */
struct generation_part {
    struct generation *generation;
    struct grid_request *node_request; /* NULL: not yet, or no more */
    int32_t choice_first;
    bool counted; /* its prompt is in `total` */
};

struct generation {
    struct call *call;
    struct generation_request request;
    struct generation_part *parts; /* [request.n_submits] */
    int32_t n_parts_done;
    struct generation_choice *choices; /* [n_choices], of all parts */
    int32_t n_choices;
    struct sl_buf out;  /* from out_sent on, not yet taken by the HTTP server */
    size_t out_sent;    /* never all of it: then `out` is empty */
    size_t out_counted; /* of it, in gateway->n_out_bytes */
    int64_t created_s;  /* Unix time */
    bool head_sent, ending, failed_late;
    int64_t last_write_ns;
    struct chat_traits traits;
    struct node_event total; /* the sums of all parts so far, the times of the first; no pointers */
    struct generation *next, *previous; /* streams that may need a ping */
    bool listed;
};

/* Submits and sees it through. The call must have been admitted. Answers refusals too: nothing is
 * left to do for the handler. */
void generation_start(struct call *call, const struct generation_request *request);

/* "stop", "length", "tool_calls" of a choice that is done. */
const char *generation_finish(const struct generation_choice *choice);
int64_t generation_reasoning_tokens(const struct generation *g);

/* By the gateway's timer: writes pings where nothing was sent for GENERATION_PING_NS. */
void generation_ping_all(struct gateway *gateway);
