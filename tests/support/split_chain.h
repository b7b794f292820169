/* split_chain.h: a split model in one process, for tests: stage 0 on the test's thread, the others
 * either driven by it, message by message, or each on a thread of its own behind TCP sockets of the
 * loopback. */
#pragma once
#include "exec/engine.h"
#include "exec/llm/llm_engine.h"
#include <pthread.h>

struct chain_messages; /* those on their way to one stage */
struct chain_stage {
    struct split_chain *chain;
    int32_t number;
    struct engine *engine;
    struct chain_messages *inbox;
    int in, out, results; /* sockets; -1: none */
    pthread_t thread;
    char failure[256]; /* "" none */
};

struct split_chain {
    struct chain_stage stages[ENGINE_STAGES_MAX];
    int32_t n_stages;
    bool sockets;
    uint64_t n_messages;
    /* seen by every message before it is delivered; may change its bytes */
    void (*on_message)(void *ctx, int32_t from, int32_t to, void *bytes, size_t n);
    void *ctx;
};

/* Stage i has the layers [borders[i], borders[i + 1]); cfg is stage 0's, with the link and
 * n_flights in its split, and a kv_blocks of 0 for room enough for 4 contexts. Fails the test on an
 * error. */
void split_chain_open(struct split_chain *chain, const char *path, const struct llm_engine_cfg *cfg,
                      const int32_t *borders, int32_t n_stages, bool sockets);
/* The same with a file for each stage. */
void split_chain_open_files(struct split_chain *chain, const char *const *paths,
                            const struct llm_engine_cfg *cfg, const int32_t *borders,
                            int32_t n_stages, bool sockets);
void split_chain_close(struct split_chain *chain);

/* One step of stage 0, and what has come for it. With sockets it waits when there is nothing to do
 * but to wait. Returns whether it was idle. */
bool split_chain_step(struct split_chain *chain);
/* Without sockets: delivers what was sent, and what the stages make of it, to the last result. */
void split_chain_pump(struct split_chain *chain);
/* The same where messages may be refused: stages[].failure says so. */
void split_chain_try_pump(struct split_chain *chain);
/* Until no sequence is left. */
void split_chain_run(struct split_chain *chain);
struct engine *split_chain_head(struct split_chain *chain);
