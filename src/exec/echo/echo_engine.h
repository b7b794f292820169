/* echo_engine.h: the scripted engine: it answers with its prompt, one token at a time, at a set
 * pace. Made for tests and benchmarks of what stands around an engine; no model is ever loaded by
 * it unless it is asked for by name.
 * Floor: exec/echo.  Thread: as engine.h says.  Allocates: a prompt's copy per request.
 * Invariant: what it answers is a function of the request alone, so a test sees at once when two
 * streams are mixed up; and time comes in only through the clock.
 *
 * A token is a byte (ids 0 to 255), and nothing is put before or after a text. Its "model" is
 * echo:?NAME=VALUE&...; values are percent-encoded:
 *
 *   text           what to answer instead of the prompt
 *   tokens         length of the answer, the text repeated as often as it takes; 0: the text once
 *   pace_us        from one token of a sequence to its next; 0: as fast as steps come
 *   prefill_us     from admission to the first token
 *   slots          sequences that run at once (1,024)
 *   queue          requests that wait beyond these (65,536)
 *   ctx            most tokens of prompt and answer (32,768)
 *   bytes          what it says its weights take
 *   load_ms        how long it loads
 *   load_fail      it fails to load, with this text
 *   crash_on_load  1: it aborts while loading
 *   crash_at       it aborts at this token, counted over all sequences
 *   hang_at        it hangs at this token, counted likewise
 *   poison         it aborts when the first token of an answer with this text in it is due
 *   chat_template  the model's chat template
 *
 * An inference gives every input back as an output of the same name; it counts as one token.
 * Stop strings, max_tokens, resume and several choices work as engine.h has them; the sampler is
 * not asked. Resumed tokens that are not those it would have given are refused. */
#pragma once
#include "exec/engine.h"

#define ECHO_EMBD 16 /* values of an embedding */

struct sl_clock;

struct echo_engine_cfg {
    const struct sl_clock *clock;                /* copied; NULL: the system's */
    engine_event_fn on_event;                    /* required */
    bool (*on_load)(void *ctx, double fraction); /* as engine_open.h's; NULL is fine */
    void *ctx;
    int32_t n_ctx, n_seqs_max, n_queue_max; /* > 0: in place of the script's */
};

/* INVALID: the script does not parse (err names the part); CANCELLED by on_load; NOMEM. */
SL_CHECK sl_status echo_engine_load(const char *script, const struct echo_engine_cfg *cfg,
                                    struct engine **out, struct sl_err *err);
