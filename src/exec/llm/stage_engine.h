/* stage_engine.h: a stage of a split model that is not its first: layers, their part of the KV pool
 * and, in the last stage, the output head and the samplers.
 * Floor: exec/llm.  Thread: as engine.h says.  Allocates: at load; a sampler for each sequence that
 * stage 0 opens; the messages that wait.
 * It takes no requests and decides nothing: stage 0 says which tokens are computed and which blocks
 * hold their keys and values (stage_msg.h), in messages that come in order. The middle stages pass
 * on what the ones behind them need, the last one answers stage 0. It needs no tokenizer, and of
 * the file only the header and the tensors of its layers: the rest may be missing.
 * Invariant: a message is checked in full against this stage's own limits before it changes
 * anything; what makes no sense is refused with CORRUPT, and the stage is done for. */
#pragma once
#include "exec/llm/llm_engine.h"

/* cfg->split tells the stage; on_event is not needed. Errors as llm_engine_load. */
SL_CHECK sl_status stage_engine_load(const char *path, const struct llm_engine_cfg *cfg,
                                     struct engine **out, struct sl_err *err);
