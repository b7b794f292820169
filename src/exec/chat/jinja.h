/* jinja.h: the template language of Hugging Face chat templates: jinja2 as transformers sets it up
 * (trim_blocks, lstrip_blocks, immutable sandbox, loop controls, generation blocks).
 * Floor: exec/chat.  Thread: any; a template is never written after jinja_create, so several
 * threads may render it at once.  Allocates: the template, at create; a render gives back all
 * it took.
 * Invariant: any source and any variables end within the limits: steps, bytes and depth are counted
 * while they are spent, so a hostile template costs what the limits allow and no more.
 * What differs from jinja2 is listed in docs/chat-templates.md. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/json_read.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jinja_limits {
    size_t source_bytes; /* of a template */
    size_t memory_bytes; /* of the parsed template, and again of one render's values */
    size_t output_bytes; /* of a render, with the texts it is putting together at the moment */
    uint64_t steps;      /* of a render: an expression, a statement or some bytes of work each */
    uint32_t depth;      /* of nested expressions, statements, macro calls and values */
    int64_t range_items; /* of range(), as in jinja2's sandbox */
};

#define JINJA_SOURCE_BYTES_MAX (1u << 20)   /* the longest template in use has 30 KB */
#define JINJA_MEMORY_BYTES_MAX (256u << 20) /* some 20 copies of the longest prompt, 10 MB */
#define JINJA_OUTPUT_BYTES_MAX (32u << 20)  /* past any context */
#define JINJA_STEPS_MAX 10000000 /* gpt-oss needs a million for 400 messages; under 1 s */
#define JINJA_DEPTH_MAX 640      /* 100 macro calls deep; fits a stack of 2 MB */
#define JINJA_RANGE_MAX 100000   /* MAX_RANGE of jinja2.sandbox */

extern const struct jinja_limits jinja_limits_default;

struct jinja_template; /* opaque */
struct jinja_run;
struct jinja_value;

/* Parses source[0..n), valid UTF-8; it is copied. `limits` NULL: the default. On failure *out is
 * untouched. INVALID ("template line 12: ..."), LIMIT, NOMEM. */
SL_CHECK sl_status jinja_create(const char *source, size_t n, const struct jinja_limits *limits,
                                struct jinja_template **out, struct sl_err *err);
void jinja_destroy(struct jinja_template *tmpl); /* NULL is fine */

/* A variable given as text. */
struct jinja_text {
    const char *name;
    const char *text; /* valid UTF-8; NULL: undefined */
};

struct jinja_input {
    const struct sl_json_value *variables; /* object; NULL: none */
    const struct jinja_text *texts;        /* come after `variables`; ends with a NULL name */
    int64_t now_s;                         /* for strftime_now, seconds since the epoch */
    /* May change a variable's value before the template sees it (jinja_value.h); NULL: nothing to
     * change. False: it has failed the run. */
    bool (*adapt)(const void *context, struct jinja_run *run, const char *name,
                  struct jinja_value *value);
    const void *context;
};

/* Appends what the template prints. On failure `out` is as it was. INVALID ("template line 12:
 * ..."), LIMIT (a limit of the template's, or out's maximum), NOMEM. */
SL_CHECK sl_status jinja_render(const struct jinja_template *tmpl, const struct jinja_input *input,
                                struct sl_buf *out, struct sl_err *err);
