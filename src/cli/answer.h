/* answer.h: one answer as it comes, from the engine in this process or from a server, and where it
 * goes: collected whole, and shown while it comes if the user wants that.
 * Floor: cli.  Thread: main.  Allocates: the answer's buffers, up to ANSWER_BYTES_MAX each.
 * Invariant: stdout gets the answer's own text and nothing else; reasoning goes to stderr, dimmed,
 * and only where that is a terminal, so that logs and pipes stay clean. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "exec/engine.h"
#include <stdbool.h>
#include <stdint.h>

#define ANSWER_BYTES_MAX (64u << 20) /* text, and token ids: far past any context of today */

/* How an answer is shown. */
struct answer_view {
    bool stream;         /* text goes to stdout as it comes */
    bool hide_reasoning; /* it is still collected */
};

struct answer {
    const struct answer_view *view; /* borrowed */
    struct sl_buf text;             /* whole, also when it was streamed */
    struct sl_buf reasoning;        /* what the model thought before it answered */
    struct sl_buf tokens;           /* int32_t ids; empty when a server computed them */
    enum engine_finish finish;
    struct engine_usage usage;
    int64_t begin_ns;          /* by sl_now_ns: when it was asked for */
    int64_t first_token_at_ns; /* 0: none came */
    bool reader_gone;          /* stdout was closed under us */
    bool dimmed;               /* reasoning was shown last */
    struct sl_err failure;     /* the first; status SL_OK: none yet */
};

void answer_init(struct answer *answer, const struct answer_view *view);
void answer_done(struct answer *answer);

/* A piece of text. What goes wrong is kept in `failure`; after that pieces are dropped. */
void answer_add_text(struct answer *answer, const char *text, size_t n);
void answer_add_reasoning(struct answer *answer, const char *text, size_t n);
void answer_fail(struct answer *answer, sl_status status, const char *what);

/* No piece will come any more: brings the terminal's colours back. */
void answer_end(struct answer *answer);
