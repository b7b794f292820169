#include "exec/echo/echo_answer.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/utf8.h"
#include <math.h>
#include <string.h>

sl_status echo_tokens_to_bytes(const int32_t *tokens, size_t n, char *out, struct sl_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || tokens[i] > 255)
            return sl_err_set(err, SL_INVALID, "token %d is not in the vocabulary of 256",
                              tokens[i]);
        out[i] = (char)tokens[i];
    }
    return SL_OK;
}

void echo_text_make_valid(char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t codepoint;
        size_t length = sl_utf8_decode(text + i, n - i, &codepoint);
        if (!length) text[i] = '?';
        i += length ? length : 1;
    }
}

/* The text to repeat; never empty, so that an answer can always have a length. */
static sl_status choose_text(struct echo_answer *answer, const struct engine_generate *req,
                             const char *given, struct sl_err *err)
{
    size_t n = given ? strlen(given) : req->tokens ? req->n_tokens : req->n_text;
    sl_status status = SL_OK;
    answer->text = sl_malloc(n + 1);
    if (!answer->text) return sl_err_set(err, SL_NOMEM, "answer");
    if (!given && req->tokens)
        status = echo_tokens_to_bytes(req->tokens, n, answer->text, err);
    else if (n)
        memcpy(answer->text, given ? given : req->text, n);
    if (!n) answer->text[n++] = '.';
    answer->n_text = n;
    if (status == SL_OK) echo_text_make_valid(answer->text, n);
    return status;
}

static int32_t whole_characters(const struct echo_answer *answer, int32_t n)
{
    while (n > 0 && (echo_answer_token(answer, n) & 0xC0) == 0x80) n--;
    return n;
}

int32_t echo_answer_shown(const struct echo_answer *answer, int32_t n_tokens)
{
    int32_t n = whole_characters(answer, n_tokens);
    return n < answer->n_shown ? n : answer->n_shown;
}

static bool ends_with(const struct echo_answer *answer, int32_t end, const char *stop, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (echo_answer_token(answer, end - n + i) != (unsigned char)stop[i]) return false;
    }
    return true;
}

/* The stop string that ends first; of several that end there, the longest. */
static void cut_at_stop(struct echo_answer *answer, const struct engine_generate *req)
{
    for (int32_t end = 1; end <= answer->n_tokens && req->n_stop; end++) {
        int32_t longest = 0;
        for (int i = 0; i < req->n_stop; i++) {
            int32_t n = (int32_t)strlen(req->stop[i]);
            if (n > longest && n <= end && ends_with(answer, end, req->stop[i], n)) longest = n;
        }
        if (!longest) continue;
        answer->n_tokens = end;
        answer->n_shown = whole_characters(answer, end - longest);
        answer->finish = ENGINE_FINISH_STOP;
        return;
    }
}

static sl_status check_resume(const struct echo_answer *answer, const struct engine_generate *req,
                              struct sl_err *err)
{
    for (size_t i = 0; i < req->n_resume; i++) {
        if (i >= (size_t)answer->n_tokens || req->resume[i] != echo_answer_token(answer, (int)i))
            return sl_err_set(err, SL_INVALID, "resumed token %zu is not one of this answer", i);
    }
    return SL_OK;
}

static sl_status plan(struct echo_answer *answer, const struct engine_generate *req,
                      const struct echo_limits *limits, struct sl_err *err)
{
    size_t n_prompt = req->tokens ? req->n_tokens : req->n_text;
    if (n_prompt >= (size_t)limits->n_ctx)
        return sl_err_set(err, SL_LIMIT, "the prompt has %zu tokens, the context %d", n_prompt,
                          limits->n_ctx);
    int32_t most = limits->n_ctx - (int32_t)n_prompt;
    if (req->max_tokens < most) most = req->max_tokens;
    size_t natural = limits->n_tokens ? (size_t)limits->n_tokens : answer->n_text;
    bool ends = !req->ignore_end && natural <= (size_t)most;
    answer->n_prompt = (int32_t)n_prompt;
    answer->n_tokens = ends ? (int32_t)natural : most;
    answer->finish = ends ? ENGINE_FINISH_STOP : ENGINE_FINISH_LENGTH;
    answer->n_shown = whole_characters(answer, answer->n_tokens);
    cut_at_stop(answer, req);
    return check_resume(answer, req, err);
}

sl_status echo_answer_init(struct echo_answer *answer, const struct engine_generate *req,
                           const struct echo_limits *limits, struct sl_err *err)
{
    *answer = (struct echo_answer){0};
    if (req->max_tokens <= 0)
        return sl_err_set(err, SL_INVALID, "max_tokens %d must be > 0", req->max_tokens);
    sl_status status = choose_text(answer, req, limits->text, err);
    if (status == SL_OK) status = plan(answer, req, limits, err);
    if (status != SL_OK) echo_answer_done(answer);
    return status;
}

void echo_answer_done(struct echo_answer *answer)
{
    sl_free(answer->text);
    answer->text = NULL;
}

void echo_embedding(const char *text, size_t n_text, float *out, int n)
{
    uint64_t seed = sl_hash64(text, n_text, 0);
    double square_sum = 0;
    for (int i = 0; i < n; i++) {
        double v = sl_rng_uniform(seed, 0, (uint64_t)i) - 0.5;
        square_sum += v * v;
        out[i] = (float)v;
    }
    for (int i = 0; i < n; i++) out[i] = (float)(out[i] / sqrt(square_sum));
}
