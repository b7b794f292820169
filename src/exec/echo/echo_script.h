/* echo_script.h: reads the script of an echo engine: echo:?tokens=32&pace_us=1000 (echo_engine.h).
 * Floor: exec/echo.  Thread: any.  Allocates: the texts, on the heap. */
#pragma once
#include "base/err.h"
#include <stdint.h>

struct echo_script {
    int64_t tokens, pace_us, prefill_us, slots, queue, ctx, bytes, load_ms;
    int64_t crash_on_load, crash_at, hang_at;
    char *text, *load_fail, *chat_template, *poison; /* NULL: not given */
};

/* INVALID names the part that is wrong; NOMEM. On failure nothing is left to free. */
SL_CHECK sl_status echo_script_parse(const char *script, struct echo_script *out,
                                     struct sl_err *err);
void echo_script_done(struct echo_script *script);
