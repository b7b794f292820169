/* oip.h: the Open Inference Protocol, whatever transport it came by: what a model takes and gives,
 * whether it is ready, its versions, and a run of it on tensors. REST (oip_rest.c) and gRPC are two
 * faces of this: they read a request into the structs below and write what they are given.
 *
 *   face -> oip_infer_start -> call_admit -> (load, to know its signature) -> node_submit
 *        <- put <- tensors <- node        then the row of usage is stored, then  face <- send
 *
 * Sources: inference_rest.md and inference_grpc.md of the protocol; Triton's extensions "model
 * repository", "model configuration", "binary tensor data", "parameters".
 *
 * Floor: access.  Thread: the loop's.  Allocates: with the call.
 * Invariant: whatever is started ends in exactly one `send` or one failed call (call_fail and its
 * kin, with the face's family), unless the client goes: then nothing is called but `done`. */
#pragma once
#include "access/gateway_int.h"
#include "exec/tensor.h"
#include "grid/store.h"

#define OIP_NAME_SIZE STORE_NAME_SIZE             /* of a model with its version, NUL included */
#define OIP_VERSIONS_MAX 256                      /* that metadata lists */
#define OIP_OUT_MAX NODE_TENSOR_REQUEST_BYTES_MAX /* of an answer in its binary form */
#define OIP_PARAMS_MAX 64                         /* of a request; Triton knows ten */

/* --- names --- */

/* Version "2" of model "m" is what the store calls "m:2". `version` NULL or "": the name as it is,
 * which may name one already ("m:2"). INVALID: no name at all, or two different versions. */
SL_CHECK sl_status oip_store_name(const char *model, const char *version, char out[OIP_NAME_SIZE],
                                  struct sl_err *err);

/* The version in a store's name, "2" of "m:2"; "" of a name without one (a path, "echo:"). Points
 * into `name`. *out_n_base is the length of what stands before it. */
const char *oip_version_of(const char *name, size_t *out_n_base);

/* --- a run --- */

/* One of the protocol's "parameters". */
enum oip_param_type { OIP_PARAM_BOOL, OIP_PARAM_INT, OIP_PARAM_NUM, OIP_PARAM_STR };
struct oip_param {
    const char *name;
    enum oip_param_type type;
    bool flag;
    int64_t integer;
    double number;
    const char *text;
    size_t n_text;
};

struct oip_run;

/* What a model gave. A part of a stream or the whole; tensors are valid during the call. */
struct oip_answer {
    const char *model;   /* as the client named it */
    const char *version; /* that ran; "" when the model has none */
    const char *id;      /* of the request; "" when it had none */
    const struct tensor *tensors;
    size_t n_tensors;
    const struct oip_param *params; /* of the answer */
    size_t n_params;
    bool is_last; /* false: more will come for this request (face->streams) */
};

/* A transport. */
struct oip_face {
    /* Writes the answer down, to run->out or wherever the face keeps it; nothing is sent before
     * `send`, but what streams. An error fails the call, with err's text. */
    sl_status (*put)(struct oip_run *run, const struct oip_answer *answer, struct sl_err *err);
    /* The usage is stored: send what was put, and end the call. */
    void (*send)(struct oip_run *run);
    /* The run is over: frees the face's data. NULL: there is nothing to free. */
    void (*done)(void *data);
    /* `put` is called for every piece of a model's text, as Triton's decoupled models do; else
     * once, with all of it. */
    bool streams;
};

/* Everything pointed at must live until the run is over (`done`). */
struct oip_infer {
    const char *model, *version; /* as the client gave them; version NULL or "": none */
    const char *id;              /* NULL: none */
    const struct oip_param *params;
    size_t n_params;
    const struct tensor *inputs;
    size_t n_inputs;
    const char *const *outputs; /* names of those wanted; 0: all */
    size_t n_outputs;
    int64_t queue_timeout_ns; /* 0: none but what params and headers say */
    const struct oip_face *face;
    void *data; /* the face's */
};

/* One oip_infer_start, until its call ends. */
struct oip_run {
    struct call *call;
    struct oip_infer infer;
    struct sl_buf out; /* for the face, empty at first, at most OIP_OUT_MAX bytes */
    char name[OIP_NAME_SIZE];
    char version[STORE_NAME_SIZE];
    struct grid_request *request; /* NULL: not yet, or no more */
    struct oip_text *text;        /* of a model of text; NULL */
    bool is_put;                  /* the answer has been written down */
    int32_t n_rows;
    int64_t queue_ns; /* at `send`: how long it waited, as of call_add_times */
};

/* Admits the call (its key, quota, usage and metrics: call_admit), checks the tensors and runs the
 * model on them; takes over the call, also when it refuses. The tensors' data must agree with their
 * shapes (tensor_check) or is refused.
 *
 * Parameters: `priority` (Triton's: 1 is interactive, 2 standard, 3 and more batch; 0: the call's
 * own class), `timeout` (microseconds in the queue), those of text models below; sequences are
 * refused, all else is ignored.
 *
 * A model of text takes text_input BYTES[1] and gives text_output BYTES[1]; what OpenAI's
 * completions take (max_tokens, temperature, top_p, top_k, stop, seed, ...) are optional inputs of
 * one element or parameters; parameter chat true puts the text into the model's chat template.
 * Outputs finish_reason BYTES[1], prompt_tokens and completion_tokens INT32[1] come when asked for.
 * A model that embeds takes text BYTES[-1] and gives embedding FP32[-1,n]. */
void oip_infer_start(struct call *call, const struct oip_infer *infer);

/* --- what is known of a model --- */

struct oip_model {
    const char *name;            /* as the client named it */
    const char *version;         /* of it; "" when it has none */
    const char *const *versions; /* all that can be asked for */
    size_t n_versions;
    const char *platform; /* "onnxruntime_onnx", "llm_gguf" */
    struct tensor_signature signature;
    const struct tensor_spec *extras; /* inputs that a model of text takes besides */
    size_t n_extras;
    const struct node_model *node; /* its state, options, processing */
};
typedef void (*oip_model_fn)(struct call *call, const struct oip_model *model);

/* Calls `put` once with what the model is, which answers the call; loads the model first when it
 * never was. Strings are valid during the call. The call fails as with oip_infer_start, but is
 * not counted as use of the model. `model` and `version` live as long as the call. */
void oip_model_describe(struct call *call, const char *model, const char *version,
                        oip_model_fn put);

/* Is it loaded, so that a request would run now? False with *ok false: the call has failed. */
bool oip_model_ready(struct call *call, const char *model, const char *version, bool *ok);

/* --- the server --- */

#define OIP_SERVER_NAME "starlane"
extern const char *const OIP_EXTENSIONS[]; /* ends in NULL */

/* No model that is to be kept loaded is still on its way. */
bool oip_server_ready(const struct gateway *gateway);

/* --- the repository --- */

struct oip_entry {
    const char *name, *version; /* version "": it has none */
    const char *state;          /* "READY", "LOADING", "UNLOADING", "UNAVAILABLE" */
    const char *reason;         /* "" when there is none */
};
/* Every model that the call's key may use, by name. ready_only: those in state READY. IO, NOMEM
 * with *err, before `put` was called. */
SL_CHECK sl_status oip_repository_index(struct call *call, bool ready_only,
                                        void (*put)(void *ctx, const struct oip_entry *entry),
                                        void *ctx, struct sl_err *err);

/* Loads the model and keeps it until it is unloaded, memory permitting; calls `then` once it is
 * loaded. Or lets it go as soon as nobody uses it, and calls `then` at once: then answers. */
void oip_repository_load(struct call *call, const char *model, call_fn then);
void oip_repository_unload(struct call *call, const char *model, call_fn then);
