/* debug_template.h: `starlane debug template`: renders chat templates, many in one run.
 * Floor: cli.  Thread: main.  Allocates: what it prints. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

struct debug_template_cfg {
    const char *path;      /* the template; "-": each line of input brings its own */
    const char *bos, *eos; /* texts of the special tokens; NULL: none */
    int64_t now_s;         /* what strftime_now shows */
};

/* Reads stdin, a JSON object a line: the variables; with path "-" {"template": text, "variables":
 * object}. Appends a line for each: {"text": prompt} or {"error": message}. */
SL_CHECK sl_status debug_template(const struct debug_template_cfg *cfg, struct sl_buf *out,
                                  struct sl_err *err);
