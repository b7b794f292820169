#include "exec/engine.h"
#include "base/mem.h"
#include <string.h>

struct engine {
    const struct engine_ops *ops;
    void *self;
};

const char *engine_finish_name(enum engine_finish finish)
{
    static const char *const names[] = {"stop", "length", "cancelled", "error"};
    return (unsigned)finish < sizeof names / sizeof *names ? names[finish] : "?";
}

sl_status engine_create(const struct engine_ops *ops, void *self, struct engine **out,
                        struct sl_err *err)
{
    struct engine *engine = sl_calloc(1, sizeof *engine);
    if (!engine) return sl_err_set(err, SL_NOMEM, "engine");
    engine->ops = ops;
    engine->self = self;
    *out = engine;
    return SL_OK;
}

void *engine_self(const struct engine *engine, const struct engine_ops *ops)
{
    return engine->ops == ops ? engine->self : NULL;
}

sl_status engine_submit(struct engine *engine, const struct engine_generate *req,
                        struct sl_err *err)
{
    return engine->ops->submit(engine->self, req, err);
}

sl_status engine_cancel(struct engine *engine, uint64_t id)
{
    return engine->ops->cancel(engine->self, id);
}

sl_status engine_step(struct engine *engine, bool *out_idle, struct sl_err *err)
{
    return engine->ops->step(engine->self, out_idle, err);
}

void engine_stats(const struct engine *engine, struct engine_stats *out)
{
    engine->ops->stats(engine->self, out);
}

int64_t engine_next_ns(const struct engine *engine)
{
    return engine->ops->next_ns ? engine->ops->next_ns(engine->self) : -1;
}

sl_status engine_submit_embed(struct engine *engine, const struct engine_embed *req,
                              struct sl_err *err)
{
    if (!engine->ops->embed)
        return sl_err_set(err, SL_UNSUPPORTED, "%s: computes no embeddings", engine->ops->name);
    return engine->ops->embed(engine->self, req, err);
}

sl_status engine_submit_infer(struct engine *engine, const struct engine_infer *req,
                              struct sl_err *err)
{
    if (!engine->ops->infer)
        return sl_err_set(err, SL_UNSUPPORTED, "%s: takes no tensors", engine->ops->name);
    return engine->ops->infer(engine->self, req, err);
}

sl_status engine_deliver(struct engine *engine, int32_t from, const void *bytes, size_t n,
                         struct sl_err *err)
{
    if (!engine->ops->deliver)
        return sl_err_set(err, SL_UNSUPPORTED, "%s: is no stage of a split model",
                          engine->ops->name);
    return engine->ops->deliver(engine->self, from, bytes, n, err);
}

int engine_wake_fd(const struct engine *engine)
{
    return engine->ops->wake_fd ? engine->ops->wake_fd(engine->self) : -1;
}

void engine_info(const struct engine *engine, struct engine_info *out)
{
    memset(out, 0, sizeof *out);
    if (engine->ops->info) engine->ops->info(engine->self, out);
}

sl_status engine_tokenize(struct engine *engine, const char *text, size_t n, bool parse_special,
                          struct sl_buf *out, struct sl_err *err)
{
    if (!engine->ops->tokenize)
        return sl_err_set(err, SL_UNSUPPORTED, "%s: has no tokenizer", engine->ops->name);
    return engine->ops->tokenize(engine->self, text, n, parse_special, out, err);
}

sl_status engine_detokenize(struct engine *engine, const int32_t *tokens, size_t n,
                            struct sl_buf *out, struct sl_err *err)
{
    if (!engine->ops->detokenize)
        return sl_err_set(err, SL_UNSUPPORTED, "%s: has no tokenizer", engine->ops->name);
    return engine->ops->detokenize(engine->self, tokens, n, out, err);
}

const char *engine_name(const struct engine *engine)
{
    return engine->ops->name;
}

void engine_unload(struct engine *engine)
{
    if (!engine) return;
    engine->ops->unload(engine->self);
    sl_free(engine);
}
