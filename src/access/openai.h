/* openai.h: the OpenAI endpoints (https://github.com/openai/openai-openapi), and what
 * they share. Handlers for routes.c.
 * Floor: access.  Thread: the loop's.  Allocates: with the call. */
#pragma once
#include "access/gateway_int.h"
#include "access/generation.h"
#include "access/sampling.h"

void openai_chat(struct call *call);        /* POST /v1/chat/completions */
void openai_completions(struct call *call); /* POST /v1/completions */
void openai_embeddings(struct call *call);  /* POST /v1/embeddings */
void openai_models(struct call *call);      /* GET /v1/models */
void openai_model(struct call *call);       /* GET /v1/models/{id} */
void rerank(struct call *call);             /* POST /v1/rerank, /rerank */
void tokens_tokenize(struct call *call);    /* POST /tokenize */
void tokens_detokenize(struct call *call);  /* POST /detokenize */

/* What chats and completions have in common: model, sampling, stream, logprobs. */
struct openai_request {
    const char *model;
    struct sampling sampling;
    bool stream, stream_usage;
};
/* Reads and admits. False: the call has failed. */
bool openai_read(struct call *call, struct openai_request *out);

/* The identity of an answer: "id", "object", "created", "model" into an open object. */
void openai_put_head(struct sl_json *json, const struct generation *g, const char *id_prefix,
                     const char *object);
/* "usage" and its object. */
void openai_put_usage(struct sl_json *json, const struct generation *g);
/* One `data:` event around what `put` writes into an open object. */
sl_status openai_event(struct generation *g,
                       void (*put)(struct sl_json *json, struct generation *g, const void *arg),
                       const void *arg);
/* Into an open choice of a chunk: "finish_reason", null before the end; closes the choice, and the
 * list of which it is the only one. */
void openai_end_choice(struct sl_json *json, const struct generation_choice *choice, bool is_end);
/* The end of a stream: the usage when it was asked for, then [DONE]. */
sl_status openai_end_stream(struct generation *g, const char *id_prefix, const char *object);
sl_status openai_error_event(struct generation *g, int http_status, const char *message);
#define OPENAI_PING ": ping\n\n"
