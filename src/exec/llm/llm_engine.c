/* llm_engine.c: loading, the step, and the engine interface. Planning is llm_plan.c's, sequences
 * are llm_seq.c's. */
#include "exec/llm/llm_engine.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "exec/llm/llm_int.h"
#include <string.h>

#define N_CTX_DEFAULT 4096
#define N_CTX_MAX (1 << 22) /* bound of the arithmetic; memory refuses long before */
#define N_SEQS_DEFAULT 64
#define N_SEQS_MAX 4096
#define N_QUEUE_DEFAULT 1024
#define N_BATCH_DEFAULT 512
#define N_BATCH_MAX 8192
#define N_THREADS_MAX 512      /* ggml's own bound */
#define PROMPT_SLACK_TOKENS 16 /* BOS, EOS and the like on top of one token a byte */

static const struct engine_ops llm_ops;

void llm_engine_cfg_default(struct llm_engine_cfg *cfg)
{
    *cfg = (struct llm_engine_cfg){.gpu_layers = -1};
}

static sl_status check_range(const char *name, int64_t v, int64_t lo, int64_t hi,
                             struct sl_err *err)
{
    if (v >= lo && v <= hi) return SL_OK;
    return sl_err_set(err, SL_INVALID, "%s: %lld is not within %lld..%lld", name, (long long)v,
                      (long long)lo, (long long)hi);
}

static void resolve_defaults(struct llm_engine *e)
{
    struct llm_engine_cfg *c = &e->cfg;
    if (!c->n_threads) c->n_threads = sl_cpu_count();
    if (!c->n_ctx) c->n_ctx = e->hp.n_ctx_train < N_CTX_DEFAULT ? e->hp.n_ctx_train : N_CTX_DEFAULT;
    if (!c->n_seqs_max) c->n_seqs_max = N_SEQS_DEFAULT;
    if (!c->n_queue_max) c->n_queue_max = N_QUEUE_DEFAULT;
    if (!c->n_batch) c->n_batch = N_BATCH_DEFAULT;
    if (!c->n_stages) c->n_stages = 1;
}

static sl_status check_cfg(const struct llm_engine *e, struct sl_err *err)
{
    const struct llm_engine_cfg *c = &e->cfg;
    sl_status status = check_range("threads", c->n_threads, 1, N_THREADS_MAX, err);
    if (status == SL_OK) status = check_range("context", c->n_ctx, 1, N_CTX_MAX, err);
    if (status == SL_OK) status = check_range("sequences", c->n_seqs_max, 1, N_SEQS_MAX, err);
    if (status == SL_OK) status = check_range("queue", c->n_queue_max, 1, 1 << 20, err);
    if (status == SL_OK) status = check_range("batch", c->n_batch, 1, N_BATCH_MAX, err);
    if (status == SL_OK)
        status = check_range("stages", c->n_stages, 1,
                             e->hp.n_layer < LLM_STAGES_MAX ? e->hp.n_layer : LLM_STAGES_MAX, err);
    if (status == SL_OK && !c->on_event)
        status = sl_err_set(err, SL_INVALID, "on_event is missing");
    return status;
}

static int32_t ctx_blocks(const struct llm_engine *e)
{
    /* and one for a copy on write */
    return (e->cfg.n_ctx + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS + 1;
}

/* Blocks of the pool: what kv_bytes_max holds, and never less than one sequence of n_ctx tokens. */
static sl_status size_pool(const struct llm_engine *e, int32_t *out_blocks, struct sl_err *err)
{
    struct llm_range all = {0, e->hp.n_layer, true, true};
    uint64_t token = llm_kv_token_bytes(&e->hp, &all, e->cfg.kv_type),
             block = token * KV_BLOCK_TOKENS;
    uint64_t need = block * (uint64_t)ctx_blocks(e), half = sl_mem_available_bytes() / 2;
    uint64_t bytes = e->cfg.kv_bytes_max ? e->cfg.kv_bytes_max : need;
    if (!token)
        return sl_err_set(
            err, SL_INVALID,
            "a q8_0 KV cache needs head sizes that are multiples of 32; this model has %d",
            e->hp.head_k);
    if (need > bytes)
        return sl_err_set(err, SL_INVALID,
                          "context of %d tokens: its KV cache takes %.1f MB, the bound is %.1f MB",
                          e->cfg.n_ctx, (double)need / 1e6, (double)bytes / 1e6);
    if (!e->cfg.kv_bytes_max && need > half)
        return sl_err_set(err, SL_NOMEM,
                          "context of %d tokens: its KV cache takes %.1f MB, half of the free "
                          "memory is %.1f MB; use a "
                          "smaller context",
                          e->cfg.n_ctx, (double)need / 1e6, (double)half / 1e6);
    *out_blocks = bytes / block > INT32_MAX / KV_BLOCK_TOKENS ? INT32_MAX / KV_BLOCK_TOKENS
                                                              : (int32_t)(bytes / block);
    return SL_OK;
}

static sl_status make_stages(struct llm_engine *e, int32_t n_blocks, struct sl_err *err)
{
    int32_t n = e->cfg.n_stages, done = 0;
    e->stages = sl_calloc((size_t)n, sizeof *e->stages);
    if (!e->stages) return sl_err_set(err, SL_NOMEM, "stage table");
    for (int32_t i = 0; i < n; i++) {
        int32_t end = (int32_t)((int64_t)e->hp.n_layer * (i + 1) / n);
        struct llm_stage_cfg cfg = {.file = e->file,
                                    .hp = &e->hp,
                                    .range = {done, end, i == 0, i == n - 1},
                                    .backends = &e->backends,
                                    .n_slots = n_blocks * KV_BLOCK_TOKENS,
                                    .n_batch = e->cfg.n_batch,
                                    .n_ctx = e->cfg.n_ctx,
                                    .gpu_layers = e->cfg.gpu_layers,
                                    .kv_type = e->cfg.kv_type,
                                    .attention = e->cfg.attention};
        sl_status status = llm_stage_create(&cfg, &e->stages[i], err);
        if (status != SL_OK) return status;
        done = end;
    }
    return SL_OK;
}

static sl_status make_arrays(struct llm_engine *e, struct sl_err *err)
{
    size_t n = (size_t)e->cfg.n_batch;
    e->b_tokens = sl_calloc(n, sizeof *e->b_tokens);
    e->b_pos = sl_calloc(n, sizeof *e->b_pos);
    e->b_outputs = sl_calloc(n, sizeof *e->b_outputs);
    e->b_slots = sl_calloc(n, sizeof *e->b_slots);
    e->b_tiles = sl_calloc(n, sizeof *e->b_tiles);
    e->row = sl_calloc((size_t)e->hp.n_vocab, sizeof *e->row);
    bool ok = e->b_tokens && e->b_pos && e->b_outputs && e->b_slots && e->b_tiles && e->row;
    return ok ? SL_OK : sl_err_set(err, SL_NOMEM, "batch of %d tokens", e->cfg.n_batch);
}

static sl_status load_parts(struct llm_engine *e, struct sl_err *err)
{
    int32_t n_blocks = 0;
    sl_status status = llm_hparams_read(e->file, &e->hp, err);
    if (status == SL_OK) status = tokenizer_create(e->file, &e->tok, err);
    if (status != SL_OK) return status;
    if (tokenizer_n_vocab(e->tok) != e->hp.n_vocab)
        return sl_err_set(err, SL_CORRUPT, "tokenizer.ggml.tokens: %d tokens, the model has %d",
                          tokenizer_n_vocab(e->tok), e->hp.n_vocab);
    resolve_defaults(e);
    status = check_cfg(e, err);
    if (status == SL_OK) status = size_pool(e, &n_blocks, err);
    if (status == SL_OK)
        status = llm_backends_open(&e->backends, e->cfg.n_threads, e->cfg.gpu_layers != 0, err);
    if (status == SL_OK) status = kv_create(n_blocks, !e->cfg.no_prefix_cache, &e->kv, err);
    if (status == SL_OK) status = make_stages(e, n_blocks, err);
    if (status == SL_OK) status = make_arrays(e, err);
    return status;
}

static void free_parts(struct llm_engine *e)
{
    for (int32_t i = 0; e->stages && i < e->cfg.n_stages; i++) llm_stage_destroy(e->stages[i]);
    sl_free(e->stages);
    kv_destroy(e->kv);
    llm_backends_close(&e->backends);
    tokenizer_destroy(e->tok);
    gguf_close(e->file);
    sl_free(e->b_tokens);
    sl_free(e->b_pos);
    sl_free(e->b_outputs);
    sl_free(e->b_slots);
    sl_free(e->b_tiles);
    sl_free(e->row);
    sl_free(e);
}

sl_status llm_engine_load(const char *path, const struct llm_engine_cfg *cfg, struct engine **out,
                          struct sl_err *err)
{
    struct llm_engine *e = sl_calloc(1, sizeof *e);
    sl_status status;
    if (!e) return sl_err_set(err, SL_NOMEM, "load: %s", path);
    e->cfg = *cfg;
    status = gguf_open(path, &e->file, err); /* its message names the file */
    if (status == SL_OK) {
        status = load_parts(e, err);
        if (status == SL_OK) status = engine_create(&llm_ops, e, out, err);
        if (status == SL_OK) return SL_OK;
        sl_err_prefix(err, "%s", path);
    }
    free_parts(e);
    sl_err_prefix(err, "load");
    return status;
}

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

static sl_status check_request(const struct llm_engine *e, const struct engine_generate *req,
                               struct sl_err *err)
{
    int32_t n_choices = req->n_choices > 1 ? req->n_choices : 1,
            most = e->cfg.n_seqs_max < ENGINE_CHOICES_MAX ? e->cfg.n_seqs_max : ENGINE_CHOICES_MAX;
    if (!req->text == !req->tokens)
        return sl_err_set(err, SL_INVALID, "a prompt is either text or token ids");
    if (req->max_tokens < 1)
        return sl_err_set(err, SL_INVALID, "max_tokens: %d is not positive", req->max_tokens);
    if (n_choices > most)
        return sl_err_set(err, SL_INVALID, "choices: %d is more than %d", n_choices, most);
    if (e->waiting.n + n_choices > e->cfg.n_queue_max)
        return sl_err_set(err, SL_BUSY, "%d sequences are waiting already", e->waiting.n);
    if (id_in_use(e, req->id))
        return sl_err_set(err, SL_EXISTS, "request id %llu is in use", (unsigned long long)req->id);
    return SL_OK;
}

/* The prompt as token ids in `ids` (int32), checked. */
static sl_status prompt_tokens(const struct llm_engine *e, const struct engine_generate *req,
                               struct sl_buf *ids, struct sl_err *err)
{
    unsigned flags = TOKENIZE_ADD_SPECIAL | (req->parse_special ? TOKENIZE_PARSE_SPECIAL : 0);
    sl_status status = req->text
                           ? tokenizer_encode(e->tok, req->text, req->n_text, flags, ids, err)
                           : sl_buf_add(ids, req->tokens, req->n_tokens * sizeof *req->tokens);
    const int32_t *t = (const int32_t *)(const void *)ids->data;
    size_t n = ids->len / sizeof *t;
    if (status != SL_OK) return sl_err_set(err, status, "prompt: %s", sl_status_text(status));
    if (!n) return sl_err_set(err, SL_INVALID, "the prompt is empty");
    if (n >= (size_t)e->cfg.n_ctx)
        return sl_err_set(
            err, SL_LIMIT,
            "the prompt has %zu tokens, the context holds %d, one of them for the answer", n,
            e->cfg.n_ctx);
    for (size_t i = 0; i < n; i++) {
        if (t[i] < 0 || t[i] >= e->hp.n_vocab)
            return sl_err_set(err, SL_INVALID, "token %d is not in the vocabulary of %d", t[i],
                              e->hp.n_vocab);
    }
    return SL_OK;
}

static sl_status queue_choices(struct llm_engine *e, const struct engine_generate *req,
                               const struct sl_buf *ids, struct sl_err *err)
{
    struct llm_seq *seqs[ENGINE_CHOICES_MAX] = {0};
    int32_t n = req->n_choices > 1 ? req->n_choices : 1;
    for (int32_t i = 0; i < n; i++) {
        sl_status status = llm_seq_create(e, req, (const int32_t *)(const void *)ids->data,
                                          (int32_t)(ids->len / sizeof(int32_t)), i, &seqs[i], err);
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

static sl_status llm_submit(void *self, const struct engine_generate *req, struct sl_err *err)
{
    struct llm_engine *e = self;
    struct sl_buf ids;
    sl_status status = check_request(e, req, err);
    if (status != SL_OK) return status;
    sl_buf_init(&ids, (req->text ? req->n_text : req->n_tokens) * sizeof(int32_t) +
                          PROMPT_SLACK_TOKENS * sizeof(int32_t));
    status = prompt_tokens(e, req, &ids, err);
    if (status == SL_OK) status = queue_choices(e, req, &ids, err);
    sl_buf_done(&ids);
    return status;
}

static void sweep_list(struct llm_engine *e, struct seq_list *l)
{
    struct llm_seq *next;
    for (struct llm_seq *s = l->head; s; s = next) {
        next = s->next;
        if (s->cancel) llm_seq_finish(e, s, ENGINE_FINISH_CANCELLED, SL_CANCELLED, NULL);
        if (s->state != SEQ_DONE) continue;
        seq_list_remove(l, s);
        llm_seq_destroy(e, s);
    }
}

/* Ends what was cancelled and frees what is done; followers before their leaders, who stand in
 * front of them. */
static void sweep(struct llm_engine *e)
{
    bool was = e->in_step;
    /* events may cancel again: the flag makes that a mark, seen by a later pass */
    e->in_step = true;
    sweep_list(e, &e->waiting);
    sweep_list(e, &e->running);
    e->in_step = was;
}

static sl_status llm_cancel(void *self, uint64_t id)
{
    struct llm_engine *e = self;
    struct seq_list *lists[] = {&e->waiting, &e->running};
    bool found = false;
    for (int i = 0; i < 2; i++) {
        for (struct llm_seq *s = lists[i]->head; s; s = s->next) {
            if (s->id != id || s->state == SEQ_DONE) continue;
            s->cancel = found = true;
        }
    }
    if (found && !e->in_step) sweep(e);
    return found ? SL_OK : SL_NOT_FOUND;
}

/* Runs the batch through the chain of stages; the last one's logits are [n_outputs, n_vocab]. */
static sl_status compute(struct llm_engine *e, const struct llm_batch *batch, float **out_logits,
                         struct sl_err *err)
{
    float *hidden = NULL;
    for (int32_t i = 0; i < e->cfg.n_stages; i++) {
        float *out;
        sl_status status = llm_stage_compute(e->stages[i], batch, hidden, &out, err);
        if (status != SL_OK) return status;
        hidden = out;
    }
    *out_logits = hidden;
    return SL_OK;
}

/* The leader's prompt is computed: the request's other choices share its blocks and take their
 * own first token. */
static void fork_followers(struct llm_engine *e, struct llm_seq *leader, const float *logits)
{
    struct sl_err err = SL_ERR_INIT;
    struct llm_seq *next;
    for (struct llm_seq *s = e->waiting.head; s; s = next) {
        next = s->next;
        if (s->state != SEQ_FOLLOW || s->leader != leader || s->cancel) continue;
        seq_list_remove(&e->waiting, s);
        seq_list_push(&e->running, s);
        s->leader = NULL;
        s->n_choices = 1;
        s->n_planned = 0;
        s->start_ns = leader->start_ns;
        s->usage.queue_ns = leader->usage.queue_ns;
        s->usage.n_cached = leader->usage.n_cached;
        if (kv_seq_fork(e->kv, &leader->kv, &s->kv, &err) != SL_OK) {
            llm_seq_finish(e, s, ENGINE_FINISH_ERROR, err.status, err.text);
            continue;
        }
        memcpy(e->row, logits, (size_t)e->hp.n_vocab * sizeof *logits);
        llm_seq_advance(e, s, e->row);
    }
    leader->n_choices = 1;
}

static void harvest_one(struct llm_engine *e, struct llm_seq *s, float *logits)
{
    kv_seq_commit(e->kv, &s->kv, s->tokens + s->kv.n_tokens, s->n_planned);
    s->n_planned = 0;
    if (s->state == SEQ_PREFILL && !s->sent_first) llm_seq_emit_prefill(e, s);
    if (s->output < 0 || s->cancel) return;
    float *row = logits + (size_t)s->output * (size_t)e->hp.n_vocab;
    if (s->n_choices > 1) fork_followers(e, s, row);
    llm_seq_advance(e, s, row);
}

static void harvest(struct llm_engine *e, float *logits)
{
    struct llm_seq *last = e->running.tail, *next; /* followers that join now stand behind it */
    for (struct llm_seq *s = e->running.head; s; s = next) {
        next = s == last ? NULL : s->next;
        if (s->n_planned) harvest_one(e, s, logits);
    }
}

static void fail_all(struct llm_engine *e, sl_status status, const char *message)
{
    struct seq_list *lists[] = {&e->waiting, &e->running};
    for (int i = 0; i < 2; i++) {
        for (struct llm_seq *s = lists[i]->head; s; s = s->next)
            llm_seq_finish(e, s, ENGINE_FINISH_ERROR, status, message);
    }
}

static sl_status step(struct llm_engine *e, bool *out_idle, struct sl_err *err)
{
    struct llm_batch batch;
    float *logits = NULL;
    int32_t n_tokens;
    sl_status status = llm_plan_step(e, &n_tokens, err);
    *out_idle = status == SL_OK && !n_tokens;
    if (status != SL_OK || !n_tokens) return status;
    llm_plan_batch(e, &batch);
    status = compute(e, &batch, &logits, err);
    if (status != SL_OK) return status;
    e->n_steps++;
    harvest(e, logits);
    return SL_OK;
}

static sl_status llm_step(void *self, bool *out_idle, struct sl_err *err)
{
    struct llm_engine *e = self;
    struct sl_err local = SL_ERR_INIT;
    sl_status status;
    err = err ? err : &local;
    e->in_step = true;
    status = step(e, out_idle, err);
    if (status != SL_OK) fail_all(e, status, err->text);
    e->in_step = false;
    sweep(e);
    return status;
}

static void llm_stats(const void *self, struct engine_stats *out)
{
    const struct llm_engine *e = self;
    struct kv_stats kv;
    kv_stats_get(e->kv, &kv);
    *out = (struct engine_stats){.n_waiting = e->waiting.n,
                                 .n_running = e->running.n,
                                 .kv_blocks_total = kv.n_blocks,
                                 .kv_blocks_used = kv.n_held,
                                 .kv_blocks_cached = kv.n_cached,
                                 .kv_block_tokens = KV_BLOCK_TOKENS,
                                 .n_steps = e->n_steps,
                                 .n_prompt_tokens = e->n_prompt_tokens,
                                 .n_cached_tokens = e->n_cached_tokens,
                                 .n_generated_tokens = e->n_generated_tokens,
                                 .n_preemptions = e->n_preemptions};
    for (int32_t i = 0; i < e->cfg.n_stages; i++) {
        struct llm_stage_stats s;
        llm_stage_stats(e->stages[i], &s);
        out->kv_bytes += s.kv_bytes;
        out->weight_bytes += s.mapped_bytes + s.copied_bytes;
        out->weight_copied_bytes += s.copied_bytes;
        out->compute_bytes += s.compute_bytes;
        out->n_graph_builds += s.n_graph_builds;
        out->n_graph_reuses += s.n_graph_reuses;
    }
}

static void llm_unload(void *self)
{
    struct llm_engine *e = self;
    struct seq_list *lists[] = {&e->waiting, &e->running};
    for (int i = 0; i < 2; i++) {
        for (struct llm_seq *s = lists[i]->head; s; s = s->next) s->cancel = true;
    }
    sweep(e);
    free_parts(e);
}

static const struct engine_ops llm_ops = {"llm",    llm_submit, llm_cancel,
                                          llm_step, llm_stats,  llm_unload};

static const struct llm_engine *self_of(const struct engine *engine)
{
    return engine_self(engine, &llm_ops);
}

const struct tokenizer *llm_engine_tokenizer(const struct engine *engine)
{
    const struct llm_engine *e = self_of(engine);
    return e ? e->tok : NULL;
}

const struct llm_hparams *llm_engine_hparams(const struct engine *engine)
{
    const struct llm_engine *e = self_of(engine);
    return e ? &e->hp : NULL;
}

const struct gguf_file *llm_engine_file(const struct engine *engine)
{
    const struct llm_engine *e = self_of(engine);
    return e ? e->file : NULL;
}

int32_t llm_engine_n_ctx(const struct engine *engine)
{
    const struct llm_engine *e = self_of(engine);
    return e ? e->cfg.n_ctx : 0;
}

int32_t llm_engine_n_threads(const struct engine *engine)
{
    const struct llm_engine *e = self_of(engine);
    return e ? e->cfg.n_threads : 0;
}
