/* bench_profile.h: what a machine was measured to do with a model, as an entry of the simulator's
 * nodes file (docs/simulator.md).
 * Floor: cli.  Thread: main.  Allocates: what it appends. */
#pragma once
#include "base/buf.h"
#include "sched/sim.h"

/* Seconds in which a prompt of so many tokens was computed, alone. */
struct bench_prefill {
    int32_t n_tokens;
    double seconds;
};

struct bench_profile {
    const char *name;
    int32_t n_slots, prefill_chunk, prefill_group, kv_tokens; /* as sim_node has them */
    struct bench_prefill shorter, longer;
    struct sim_step steps[SIM_STEPS_MAX]; /* with almost no context */
    uint32_t n_steps;
    int32_t context_tokens; /* of the stream that took context_step_s for a step, alone */
    double context_step_s;
};

/* LIMIT, NOMEM. */
SL_CHECK sl_status bench_profile_write(const struct bench_profile *profile, struct sl_buf *out);
