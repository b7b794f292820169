/* worker_prompt.h: from what an agent sends as a prompt to what the engine takes: chats go through
 * the model's template, here in the worker, where neither a hostile template nor a slow tokenizer
 * can hold up the gateway.
 * Floor: exec.  Thread: the worker's.  Allocates: the template, and the prompt at hand.
 * Invariant: a prompt never has two BOS: where the template wrote one and the tokenizer adds one,
 * the template's is left out. */
#pragma once
#include "exec/wire.h"

struct chat_template;

struct worker_prompter {
    struct engine *engine; /* borrowed */
    struct engine_info info;
    struct chat_template *tmpl; /* never NULL once it is made */
    char *source;               /* of the template in use; NULL: the plain one */
    struct chat_traits traits;
    struct sl_buf text, tokens; /* of the prompt at hand */
};

/* `source`: a template in place of the model's own; NULL: that one. A zeroed prompter may be given
 * to done. INVALID (the template does not parse), NOMEM. */
SL_CHECK sl_status worker_prompter_init(struct worker_prompter *prompter, struct engine *engine,
                                        const char *source, struct sl_err *err);
void worker_prompter_done(struct worker_prompter *prompter);

struct worker_prompt { /* text or tokens, or with want_tokens both; valid until the next */
    const char *text;
    size_t n_text;
    const int32_t *tokens;
    size_t n_tokens;
    bool parse_special;
    bool opens_thinking;
};

/* INVALID (broken JSON, a chat the template refuses, a token that is none), LIMIT, NOMEM,
 * UNSUPPORTED (want_tokens of an engine without tokenizer). *out is zeroed on failure. */
SL_CHECK sl_status worker_prompt_make(struct worker_prompter *prompter,
                                      const struct wire_prompt *prompt, bool want_tokens,
                                      struct worker_prompt *out, struct sl_err *err);
