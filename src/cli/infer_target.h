/* infer_target.h: the model that `starlane infer` asks: on a server that has it, or else in this
 * process.
 * Floor: cli.  Thread: main.  Allocates: the client or the engine; signature and outputs.
 * Invariant: where it runs is decided once, in infer_target_open, as talk.h decides it: a server is
 * asked unless the user wants the engine (--local) or gave a path; one that nobody named is used
 * only when it has the model. */
#pragma once
#include "base/json_read.h"
#include "cli/client.h"
#include "exec/engine.h"
#include "exec/vision/processing.h"

struct infer_target_cfg {
    const char *model;
    const char *server, *api_key; /* NULL: as client_cfg */
    bool local;
    int32_t n_threads; /* of the engine; 0: as many as this process may use */
    const volatile sig_atomic_t *stop;
};

struct infer_target { /* zeroed before infer_target_open */
    struct infer_target_cfg cfg;
    struct client *client; /* NULL: the engine is here */
    struct engine *engine; /* else of no use */
    struct tensor_signature signature;
    struct processing processing;
    bool has_processing;
    struct sl_arena arena;  /* signature and outputs */
    struct sl_buf answer;   /* of a server; outputs lead into it */
    struct tensor *outputs; /* of the last run */
    size_t n_outputs;
    struct sl_err *failure; /* of the engine's run under way */
    bool done;
};

/* Finds the model and what it takes. `target` must not move afterwards; it is
 * infer_target_close's, also on failure. As client_find, client_call, store_resolve, engine_open;
 * UNSUPPORTED: a model of another kind that is here and not on a server. */
SL_CHECK sl_status infer_target_open(struct infer_target *target,
                                     const struct infer_target_cfg *cfg, struct sl_err *err);
void infer_target_close(struct infer_target *target);

/* Runs it; the outputs are the target's until the next run or its close. What the server or the
 * engine says; CANCELLED: the user stopped it. */
SL_CHECK sl_status infer_target_run(struct infer_target *target, const struct tensor *inputs,
                                    size_t n_inputs, struct sl_err *err);

/* A request as JSON, as it is, and the answer's bytes appended to out. UNSUPPORTED: no server. */
SL_CHECK sl_status infer_target_post(struct infer_target *target, const struct sl_buf *json,
                                     struct sl_buf *out, struct sl_err *err);

/* The model's own inputs and outputs, for messages and --verbose: "images FP32 [1,3,416,416]",
 * with ", " between them. */
void infer_target_describe(const struct tensor_spec *specs, size_t n, struct sl_buf *out);
