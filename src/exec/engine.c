#include "exec/engine.h"
#include "base/mem.h"

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
