/* ollama_int.h: what the files behind ollama.h share: reading a request, the lines of a stream, the
 * object that ends an answer.
 * Floor: access.  Thread: the loop's.  Allocates: in the exchange's arena, or into the caller's
 * buffers. */
#pragma once
#include "access/gateway_int.h"
#include "access/generation.h"
#include "access/ollama.h"
#include "access/sampling.h"

#define OLLAMA_TIME_SIZE 40 /* "2318-06-04T14:38:31.837530000Z" and its NUL */
#define OLLAMA_STREAM_TYPE "application/x-ndjson"

struct store_details;

/* What /api/generate and /api/chat have in common. */
struct ollama_request {
    const char *model;
    const char *system; /* the model's own, for conversations that bring none; NULL: none */
    struct sampling sampling;
    bool stream;
    int64_t keep_alive_ns; /* SCHED_KEEP_ALIVE_* */
    bool thinks;           /* reasoning is told apart */
};

/* Reads and admits. False: the call has failed. */
bool ollama_read(struct call *call, struct ollama_request *out);

/* The name of a model in field "model", or "name" as older clients have it. NULL: the call has
 * failed. */
const char *ollama_need_model(struct call *call);

/* "stream", true when absent. False: the call has failed. */
bool ollama_read_stream(struct call *call, bool *out);

/* "keep_alive": a number of seconds, or a duration as Go writes it ("1h30m", "500ms"); below zero
 * is for ever, absent is the model's own. False: the call has failed. */
bool ollama_read_keep_alive(struct call *call, int64_t *out_ns);

/* Reads a duration as base/duration.h does, but one that is too long is the longest. False: it is
 * none. */
bool ollama_parse_duration(const char *text, int64_t *out_ns);

/* Fails the call when the field holds something: text that is not empty, a list with items, an
 * object, true. True: it is absent or empty. */
bool ollama_refuse(struct call *call, const struct sl_json_value *object, const char *field,
                   const char *message);

/* Answers when the model is loaded (done_reason "load"), or, with keep_alive 0, once it is on its
 * way out of memory ("unload"). `chat` says in whose shape. The call was admitted by
 * ollama_read. */
void ollama_load(struct call *call, const struct ollama_request *request, bool chat);

/* RFC 3339 with nanoseconds, UTC. */
void ollama_time_text(int64_t unix_ns, char out[OLLAMA_TIME_SIZE]);

/* "model" and "created_at" into an open object. */
void ollama_put_head(struct sl_json *json, const char *model);
/* done, done_reason, counts and durations into an open object. */
void ollama_put_end(struct sl_json *json, const struct generation *g);
/* {"format", "family", ...} with its key "details". */
void ollama_put_details(struct sl_json *json, const struct store_details *details);

/* Closes the object and ends the line of a stream that it is. */
sl_status ollama_end_line(struct sl_json *json, struct generation *g);

/* struct generation_shape: what is equal in both APIs. */
sl_status ollama_begin(struct generation *g);
sl_status ollama_choice_end(struct generation_choice *choice);
sl_status ollama_error(struct generation *g, int http_status, const char *message);

/* The variables of the chat template, but for the messages: opens the object and leaves it open.
 * `think` of the request becomes enable_thinking or, as a word, reasoning_effort. */
void ollama_begin_variables(struct sl_json *json, const struct call *call);

/* Fills the fields of *submit that come from the request. */
void ollama_fill_submit(const struct ollama_request *request, struct node_submit *submit);

/* May this call change the store? With API keys in force nobody may over HTTP: a key is permission
 * to use models. False: the call has failed. */
bool ollama_may_change_store(struct call *call);

struct grid_card;
struct store_details;

/* What a member of the grid tells of a model in its store. */
void ollama_card_details(const struct grid_card *card, struct store_details *out);

/* Tells the node that the name may mean another file now, or none. */
void ollama_model_changed(struct grid *grid, const char *name);
