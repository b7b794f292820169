/* llm_setup.h: from a configuration and a file's header to stages: defaults, checks, sizes. What
 * the engine of whole models and first stages (llm_engine.c) and that of later stages
 * (stage_engine.c) have in common.
 * Floor: exec/llm.  Thread: the engine's.  Allocates: the stages. */
#pragma once
#include "exec/llm/arch.h"
#include "exec/llm/backend.h"
#include "exec/llm/stage.h"
#include "exec/llm/stage_msg.h"

#define LLM_FLIGHTS_MAX \
    64 /* steps under way at once; a 200 ms round trip of 3 ms stages fills it */

struct llm_setup {
    struct llm_engine_cfg *cfg;
    const struct gguf_file *file;
    const struct llm_hparams *hp;
    const struct llm_backends *backends; /* of llm_setup_stage only */
    bool measure; /* only the sizes are wanted: memory is not taken, and callbacks may be missing */
};

/* Fills in what the configuration leaves open. */
void llm_setup_defaults(const struct llm_setup *setup);
/* INVALID names the number. */
SL_CHECK sl_status llm_setup_check(const struct llm_setup *setup, struct sl_err *err);
/* Blocks of the KV pool. INVALID, NOMEM, with the numbers. */
SL_CHECK sl_status llm_setup_blocks(const struct llm_setup *setup, int32_t *out_n_blocks,
                                    struct sl_err *err);
/* Stage i of those in this process. Errors as llm_stage_create. */
SL_CHECK sl_status llm_setup_stage(const struct llm_setup *setup, int32_t i, int32_t n_blocks,
                                   struct llm_stage **out, struct sl_err *err);
/* What all stages of a split model agree on. */
struct stage_limits llm_setup_limits(const struct llm_setup *setup);
