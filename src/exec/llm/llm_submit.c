/* llm_submit.c: requests are checked, turned into tokens, and queued. */
#include "exec/llm/llm_int.h"

#define PROMPT_SLACK_TOKENS 16 /* BOS, EOS and the like on top of one token a byte */

struct input { /* of a request: text, or token ids */
    const char *text;
    size_t n_text;
    const int32_t *tokens;
    size_t n_tokens;
    bool parse_special;
};

static bool id_in_use(const struct llm_engine *e, uint64_t id)
{
    const struct seq_list *lists[] = {&e->waiting, &e->running};
    for (int i = 0; i < 2; i++) {
        for (const struct llm_seq *s = lists[i]->head; s; s = s->next) {
            if (s->id == id && s->state != SEQ_DONE) return true;
        }
    }
    return false;
}

/* May a request of n sequences come in now? */
static sl_status check_place(const struct llm_engine *e, uint64_t id, int32_t n, struct sl_err *err)
{
    if (e->waiting.n + n > e->cfg.n_queue_max)
        return sl_err_set(err, SL_BUSY, "%d sequences are waiting already", e->waiting.n);
    if (id_in_use(e, id))
        return sl_err_set(err, SL_EXISTS, "request id %llu is in use", (unsigned long long)id);
    return SL_OK;
}

static sl_status check_choices(const struct llm_engine *e, const struct engine_generate *req,
                               int32_t n_choices, struct sl_err *err)
{
    int32_t most = e->cfg.n_seqs_max < ENGINE_CHOICES_MAX ? e->cfg.n_seqs_max : ENGINE_CHOICES_MAX;
    if (n_choices > most)
        return sl_err_set(err, SL_INVALID, "choices: %d is more than %d", n_choices, most);
    if (req->choice_base < 0 || req->choice_base > ENGINE_CHOICES_MAX - n_choices)
        return sl_err_set(err, SL_INVALID, "choices: %d from number %d on, the last is %d",
                          n_choices, req->choice_base, ENGINE_CHOICES_MAX - 1);
    if (req->resume && n_choices > 1)
        return sl_err_set(err, SL_INVALID, "resume: %d choices, only one can be resumed",
                          n_choices);
    return SL_OK;
}

static sl_status check_request(const struct llm_engine *e, const struct engine_generate *req,
                               struct sl_err *err)
{
    int32_t n_choices = req->n_choices > 1 ? req->n_choices : 1;
    if (!req->text == !req->tokens)
        return sl_err_set(err, SL_INVALID, "a prompt is either text or token ids");
    if (req->max_tokens < 1)
        return sl_err_set(err, SL_INVALID, "max_tokens: %d is not positive", req->max_tokens);
    sl_status status = check_choices(e, req, n_choices, err);
    return status == SL_OK ? check_place(e, req->id, n_choices, err) : status;
}

static sl_status check_tokens(const struct llm_engine *e, const int32_t *tokens, size_t n,
                              struct sl_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || tokens[i] >= e->hp.n_vocab)
            return sl_err_set(err, SL_INVALID, "token %d is not in the vocabulary of %d", tokens[i],
                              e->hp.n_vocab);
    }
    return SL_OK;
}

/* The tokens that an answer begun elsewhere has must fit behind a prompt of n. */
static sl_status check_resume(const struct llm_engine *e, const struct engine_generate *req,
                              size_t n, struct sl_err *err)
{
    if (req->n_resume && !req->resume) return sl_err_set(err, SL_INVALID, "resume: no tokens");
    if (req->n_resume > (size_t)req->max_tokens)
        return sl_err_set(err, SL_INVALID, "resume: %zu tokens, max_tokens is %d", req->n_resume,
                          req->max_tokens);
    if (n + req->n_resume > (size_t)e->cfg.n_ctx)
        return sl_err_set(err, SL_LIMIT,
                          "the prompt and the resumed answer have %zu tokens, the context holds %d",
                          n + req->n_resume, e->cfg.n_ctx);
    return check_tokens(e, req->resume, req->n_resume, err);
}

/* The input as token ids in `ids` (int32), initialised here; all is checked but its length. */
static sl_status input_tokens(const struct llm_engine *e, const struct input *in,
                              struct sl_buf *ids, struct sl_err *err)
{
    unsigned flags = TOKENIZE_ADD_SPECIAL | (in->parse_special ? TOKENIZE_PARSE_SPECIAL : 0);
    size_t n = in->text ? in->n_text : in->n_tokens;
    sl_buf_init(ids, (n + PROMPT_SLACK_TOKENS) * sizeof *in->tokens);
    sl_status status = in->text ? tokenizer_encode(e->tok, in->text, n, flags, ids, err)
                                : sl_buf_add(ids, in->tokens, n * sizeof *in->tokens);
    if (status != SL_OK) return sl_err_set(err, status, "prompt: %s", sl_status_text(status));
    if (!ids->len) return sl_err_set(err, SL_INVALID, "the prompt is empty");
    return check_tokens(e, (const int32_t *)(const void *)ids->data, ids->len / sizeof *in->tokens,
                        err);
}

static sl_status queue_choices(struct llm_engine *e, const struct engine_generate *req,
                               const struct sl_buf *ids, struct sl_err *err)
{
    struct llm_seq *seqs[ENGINE_CHOICES_MAX] = {0};
    int32_t n = req->n_choices > 1 ? req->n_choices : 1;
    for (int32_t i = 0; i < n; i++) {
        sl_status status = llm_seq_create(e, req, ids, req->choice_base + i, &seqs[i], err);
        if (status == SL_OK) continue;
        while (i-- > 0) llm_seq_destroy(e, seqs[i]);
        return status;
    }
    for (int32_t i = 0; i < n; i++) {
        seqs[i]->leader = i ? seqs[0] : NULL;
        seqs[i]->state = i ? SEQ_FOLLOW : SEQ_WAITING;
        seq_list_push(&e->waiting, seqs[i]);
    }
    e->n_prompt_tokens += (uint64_t)seqs[0]->n_prompt;
    return SL_OK;
}

sl_status llm_submit(void *self, const struct engine_generate *req, struct sl_err *err)
{
    struct llm_engine *e = self;
    struct input in = {req->text, req->n_text, req->tokens, req->n_tokens, req->parse_special};
    struct sl_buf ids;
    sl_status status = check_request(e, req, err);
    if (status != SL_OK) return status;
    status = input_tokens(e, &in, &ids, err);
    size_t n = ids.len / sizeof(int32_t);
    if (status == SL_OK && n >= (size_t)e->cfg.n_ctx)
        status = sl_err_set(
            err, SL_LIMIT,
            "the prompt has %zu tokens, the context holds %d, one of them for the answer", n,
            e->cfg.n_ctx);
    if (status == SL_OK) status = check_resume(e, req, n, err);
    if (status == SL_OK) status = queue_choices(e, req, &ids, err);
    sl_buf_done(&ids);
    return status;
}

static sl_status check_embed(const struct llm_engine *e, const struct engine_embed *req,
                             struct sl_err *err)
{
    if (!req->text == !req->tokens)
        return sl_err_set(err, SL_INVALID, "an input is either text or token ids");
    if (req->text && !req->n_text) return sl_err_set(err, SL_INVALID, "the input is empty");
    if ((unsigned)req->pooling > ENGINE_POOLING_LAST)
        return sl_err_set(err, SL_INVALID, "pooling: %d is unknown", (int)req->pooling);
    if (req->pooling == ENGINE_POOLING_MODEL && e->hp.pooling == LLM_POOLING_RANK)
        return sl_err_set(err, SL_UNSUPPORTED,
                          "%s.pooling_type: this model ranks, it does not embed", e->hp.arch->name);
    return check_place(e, req->id, 1, err);
}

sl_status llm_submit_embed(void *self, const struct engine_embed *req, struct sl_err *err)
{
    struct llm_engine *e = self;
    struct input in = {req->text, req->n_text, req->tokens, req->n_tokens, req->parse_special};
    struct sl_buf ids;
    struct llm_seq *s;
    sl_status status = check_embed(e, req, err);
    if (status != SL_OK) return status;
    status = input_tokens(e, &in, &ids, err);
    size_t n = ids.len / sizeof(int32_t);
    if (status == SL_OK && n > (size_t)e->cfg.n_ctx)
        status = sl_err_set(err, SL_LIMIT, "the input has %zu tokens, the context holds %d", n,
                            e->cfg.n_ctx);
    if (status == SL_OK) status = llm_seq_create_embed(e, req, &ids, &s, err);
    if (status == SL_OK) {
        s->state = SEQ_WAITING;
        seq_list_push(&e->waiting, s);
        e->n_prompt_tokens += n;
    }
    sl_buf_done(&ids);
    return status;
}
