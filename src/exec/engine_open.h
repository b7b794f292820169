/* engine_open.h: opens an engine of any kind by its name; the one place that knows them all.
 * Floor: exec.  Thread: the one that will own the engine.  Allocates: what the engine needs.
 * Invariant: a kind is a row of one table; nothing else tells kinds apart. */
#pragma once
#include "exec/engine.h"

enum engine_link_type { /* how hidden states travel between stages */
                        ENGINE_LINK_F32,
                        ENGINE_LINK_F16,
                        ENGINE_LINK_Q8_0 /* needs a hidden size that is a multiple of 32 */
};
const char *engine_link_name(enum engine_link_type type); /* "f16"; "?" when unknown */

/* One stage of a model that is split over several engines. Stage 0 embeds and takes requests; the
 * others take nothing but messages (engine_deliver), and the last of them has the output head and
 * samples. n_ctx, n_seqs_max, n_batch and kv_type of engine_load and n_stages, kv_blocks and link
 * must be the same in all stages: table numbers, blocks and rows of messages are checked against
 * them. */
struct engine_split {
    int32_t n_stages;    /* 2..ENGINE_STAGES_MAX; 0: the whole model, and nothing here counts */
    int32_t stage;       /* which one this is */
    int32_t first, last; /* its layers, [first, last), at least one */
    int32_t kv_blocks;   /* of the KV pool, KV_BLOCK_TOKENS (16) tokens each: n_ctx and a block more
                            at least */
    enum engine_link_type link;
    int32_t n_flights; /* of stage 0: steps under way at once; 0: as many as it measures to pay */
};

/* What to load, and how. Zero is "as the engine likes it". */
struct engine_load {
    const char *kind;    /* "llm": a GGUF file; "onnx": an ONNX file; "echo": the scripted engine */
    const char *path;    /* the file, or what the kind takes in its place */
    int32_t n_threads;   /* 0: as many as this process may use */
    int32_t n_ctx;       /* most tokens of one sequence; 0: min(the model's own, 4096) */
    int32_t n_seqs_max;  /* sequences that run at once */
    int32_t n_queue_max; /* requests that wait */
    int32_t n_batch;     /* token budget of one step */
    int32_t gpu_layers;  /* layers on the accelerator; -1: as many as fit */
    int32_t kv_type;     /* enum llm_kv_type */
    uint64_t kv_bytes_max; /* of the KV cache; 0: room for n_ctx tokens */
    int32_t kv_contexts;   /* llm_engine_cfg's */
    bool no_prefix_cache;
    /* JSON object with what only this kind knows (docs/onnx.md); NULL: nothing */
    const char *options;
    struct engine_split split; /* of "llm" */
};

/* Called while a model loads, `fraction` from 0 to 1; often enough to answer a watchdog. False
 * gives the load up. */
typedef bool (*engine_load_fn)(void *ctx, double fraction);

struct engine_open_cfg {
    engine_event_fn on_event; /* required */
    engine_load_fn on_load;   /* NULL is fine */
    engine_frame_fn on_frame; /* required with a split */
    void *ctx;                /* of all */
};

/* UNSUPPORTED: no such kind; CANCELLED: on_load gave it up; otherwise what the engine says, the
 * message naming the file. */
SL_CHECK sl_status engine_open(const struct engine_load *load, const struct engine_open_cfg *cfg,
                               struct engine **out, struct sl_err *err);
