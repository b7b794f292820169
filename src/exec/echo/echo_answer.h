/* echo_answer.h: what the echo engine will answer to one request, known as a whole when it comes
 * in. Floor: exec/echo.  Thread: any.  Allocates: a copy of the text.
 * Invariant: the text is valid UTF-8 (what was not is '?'), so that repeating it keeps characters
 * whole; 0 <= n_shown <= n_tokens. */
#pragma once
#include "exec/engine.h"

struct echo_answer {
    char *text;       /* token i is text[i % n_text] */
    size_t n_text;    /* > 0 */
    int32_t n_prompt; /* tokens */
    int32_t n_tokens; /* of the answer */
    int32_t n_shown;  /* bytes of it that are shown: less where a stop string was found */
    enum engine_finish finish;
};

struct echo_limits {
    const char *text; /* to answer in place of the prompt; NULL: the prompt */
    int32_t n_tokens; /* length of the answer; 0: the text once */
    int32_t n_ctx;    /* prompt and answer */
};

/* INVALID, LIMIT (prompt longer than the context, both numbers named), NOMEM. On failure there is
 * nothing to free. */
SL_CHECK sl_status echo_answer_init(struct echo_answer *answer, const struct engine_generate *req,
                                    const struct echo_limits *limits, struct sl_err *err);
void echo_answer_done(struct echo_answer *answer);

static inline int32_t echo_answer_token(const struct echo_answer *answer, int32_t i)
{
    return (unsigned char)answer->text[(size_t)i % answer->n_text];
}

/* Bytes that are shown once n_tokens were given: whole characters only. */
int32_t echo_answer_shown(const struct echo_answer *answer, int32_t n_tokens);

/* A unit vector that depends on the bytes alone. out: [n] f32 */
void echo_embedding(const char *text, size_t n_text, float *out, int n);

/* Makes valid UTF-8 of the bytes in place: '?' for each that has no part in a character. */
void echo_text_make_valid(char *text, size_t n);

/* Tokens as the bytes they stand for. INVALID names one that is none. out has room for n. */
SL_CHECK sl_status echo_tokens_to_bytes(const int32_t *tokens, size_t n, char *out,
                                        struct sl_err *err);
