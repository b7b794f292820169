/* gateway_int.h: what the files behind gateway.h share: the gateway, the routes, one call.
 * Floor: access.  Thread: the loop's.
 *
 * A call is one HTTP request on its way. It is freed when it has been answered, or when its client
 * has gone and the row of its usage was handed on. */
#pragma once
#include "access/gateway.h"
#include "access/keys.h"
#include "access/metrics.h"
#include "access/usage.h"
#include "base/json_read.h"
#include "grid/grid.h"
#include "net/http_server.h"

#define CALL_ID_MAX 40
#define CALL_BODY_MAX (64u << 20)      /* of an answer that is built whole */
#define CALL_VARIABLES_MAX (64u << 20) /* of a chat template: a whole body's messages, and more */
/* Of one request: as many token ids as a body may hold values, and 4 MiB for all else. */
#define GATEWAY_ARENA_BYTES_MAX ((size_t)SL_JSON_READ_VALUES_MAX * sizeof(int32_t) + (4u << 20))
#define CONTENT_JSON "application/json"

struct call;
struct generation;
struct grpc_call;
struct watch;
struct ollama_pulls;

/* How this API words its errors. */
enum api_family {
    API_OPENAI, /* {"error":{"message","type","param","code"}} */
    API_OLLAMA, /* {"error":"..."} */
    API_OIP,    /* the same */
    API_GRPC,   /* grpc-status and grpc-message of an answer 200 */
    API_PLAIN   /* text */
};

typedef void (*call_fn)(struct call *call);

struct route {
    enum http_method method;
    const char *path; /* one that ends in "/" plus "*" takes the rest as call->rest */
    enum api_family family;
    bool open; /* needs no key */
    call_fn handle;
};

struct gateway {
    struct gateway_cfg cfg;
    struct http_server *server;
    struct metrics *metrics;
    struct generation *streams; /* that may need a ping */
    size_t n_out_bytes;         /* of all generations, waiting for slow clients */
    struct loop_timer *ping;
    struct call *calls;           /* all under way; doubly linked */
    struct call *children;        /* the calls on streams, likewise */
    struct grpc_call *grpc_calls; /* all under way; doubly linked */
    size_t n_grpc_in_bytes;       /* their messages from clients, in memory now */
    struct watch *grpc_watches;   /* of the health service, likewise */
    size_t n_grpc_watches;
    bool draining;
    struct call *unsaved, *unsaved_last; /* whose rows found the queue full; oldest first */
    struct ollama_pulls *pulls;          /* NULL before the first */
    uint64_t id_seed, n_ids;
    uint64_t n_usage_failed;
    int64_t started_ms; /* Unix time: `created` of models */
};

struct call {
    struct gateway *gateway;
    struct http_exchange *x;
    const struct http_request *request;
    const struct route *route;
    const char *rest; /* of the path, decoded; "" without */
    char id[CALL_ID_MAX];
    struct api_key *key; /* NULL: none is needed */
    bool admitted;       /* counts against key->quota */
    int64_t n_reserved;  /* tokens */
    enum sched_class qos;
    int64_t begin_ns;
    struct metrics_model *metrics; /* once the model is known */
    enum metrics_end end;
    struct usage_row row;
    bool row_failed; /* it could not be stored, and keys are in force: no good end without it */
    struct sl_json_value *body;         /* parsed */
    void (*on_gone)(struct call *call); /* the client has gone: stop working for it */
    void *work;                         /* the handler's */
    void (*free_work)(void *work);
    call_fn then; /* after the commit */
    bool saving, gone;
    int http_status;        /* of a failure on its way */
    int grpc_status;        /* likewise */
    struct sl_buf body_out; /* its body */
    bool is_child;          /* of a call that brings many requests: x is its parent's */
    struct sl_arena arena;  /* of a child */
    call_fn on_fail;        /* sends a failure and ends the call; NULL: as an HTTP answer */
    void *carrier;          /* gRPC's part of it; freed last. NULL: there is none */
    void (*free_carrier)(void *carrier);
    struct call *next, *previous, *next_unsaved;
};

/* --- routes.c --- */

/* *out_rest is what a path with a star left over. NULL: none; *out_path_known says whether another
 * method has this path, and *out_family whose errors to speak. */
const struct route *route_find(enum http_method method, const char *path, const char **out_rest,
                               bool *out_path_known, enum api_family *out_family);
/* The methods of a path, with commas between. */
void route_methods(const char *path, char *out, size_t n_out);

/* --- call.c: life --- */

/* The server's request handler: makes the call, finds its route, and has it answered. */
void call_begin(struct gateway *gateway, struct http_exchange *x);
/* A call of its own for one of the requests that come on a stream: with its own id, row, quota and
 * metrics; exchange, request and route are the parent's. Its key is to be checked, as it may have
 * been revoked meanwhile, and on_fail is to be set. It never ends the exchange, adds no headers,
 * and is not told when the client goes: its parent calls call_abort. NULL without memory. */
struct call *call_fork(struct call *parent);
/* Whose call is it? False: it has no key, or a bad one, and the call has failed. */
bool call_authenticate(struct call *call);
/* The same on a route that is open, for handlers that let others in too. */
bool call_check_key(struct call *call);
/* Memory that lives as long as the call. */
struct sl_arena *call_arena(struct call *call);
/* Its client has gone: stops the work, hands in the row, ends the exchange and the call; or, while
 * its row is being stored, leaves that to the completion. */
void call_abort(struct call *call);
#define CALL_AGAIN_MS 1000 /* what this process lacks now it may have then */
/* Answers with an error and ends the call. `param` is the field at fault, `code` a word for
 * programs; NULL is fine for both. http_status 0: the status's own. */
void call_fail(struct call *call, sl_status status, const char *param, const char *code,
               const char *message);
/* As call_fail, with the error's status and words. */
void call_fail_err(struct call *call, const struct sl_err *err, const char *param);
/* As call_fail for what the node said: a prompt over the context is the client's fault (400), a
 * broken model file is not (500). A 503 says when to come again (Retry-After) only if that can
 * help: retry_after_ms > 0. */
void call_fail_node(struct call *call, sl_status status, const char *message,
                    int64_t retry_after_ms);
/* A whole answer, and the end of the call. What a model worked for is committed before. */
void call_respond(struct call *call, int http_status, const char *content_type, const char *body,
                  size_t n);
/* The same; takes the buffer's memory where it can. */
void call_respond_buf(struct call *call, int http_status, const char *content_type,
                      struct sl_buf *body);
/* Takes the answer from a buffer that held JSON; a failed one becomes a 500. */
void call_respond_json(struct call *call, int http_status, struct sl_buf *body, sl_status status);
/* Ends the call after its exchange was ended by the caller. */
void call_free(struct call *call);

/* Parses the body into call->body. False: it is not a JSON object, and the call has failed. */
bool call_read_json(struct call *call);
/* A text field of the body that must be there. NULL: the call has failed. */
const char *call_need_str(struct call *call, const char *field);

/* May its key use the model? Without keys in force everybody may. */
bool call_allows(const struct call *call, const char *model);
/* A guess at the tokens of its body, for quotas; the end settles it. */
int64_t call_tokens_guess(const struct call *call);
/* The model of that name, loaded or not. False: the call has failed. */
bool call_find_model(struct call *call, const char *name, struct node_model *out);
/* May this key use the model, now, for about n_tokens? Sets row, metrics and rate-limit headers.
 * False: the call has failed. */
bool call_admit(struct call *call, const char *model, int64_t n_tokens);

/* Fills the row's times and counts from the node's last event (DONE or FAILED). */
void call_note(struct call *call, const struct node_event *event, const char *finish,
               int http_status);
/* Stores the row, then calls `then` from the loop: the last bytes may go, or, with row_failed, an
 * error in their place. Without keys nobody is billed: then a row that cannot be stored is counted
 * and logged, and the answer goes. */
void call_commit(struct call *call, call_fn then);

/* Adds the X-Starlane-* headers; before the answer begins. Negative times are left out. */
void call_add_times(struct call *call, int64_t queue_ns, int64_t first_token_ns);
/* The class asked for by header or `service_tier`, else the key's, else the gateway's. */
enum sched_class call_class(const struct call *call);
/* The longest wait in the queue it asked for (X-Starlane-Queue-Timeout-Ms), or 0. */
int64_t call_queue_timeout_ns(const struct call *call);
/* Whose share of the queue it takes: from its key's hash; 0: it has no key. */
uint64_t call_tenant(const struct call *call);

/* {"error":...} as the family has it, without line end. */
SL_CHECK sl_status call_error_json(const struct call *call, int http_status, const char *param,
                                   const char *code, const char *message, struct sl_buf *out);
