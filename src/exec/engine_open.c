#include "exec/engine_open.h"
#include "exec/echo/echo_engine.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/stage_engine.h"
#include "exec/onnx/onnx_engine.h"
#include <string.h>

const char *engine_link_name(enum engine_link_type type)
{
    static const char *const names[] = {"f32", "f16", "q8_0"};
    return (unsigned)type < sizeof names / sizeof *names ? names[type] : "?";
}

static sl_status open_llm(const struct engine_load *load, const struct engine_open_cfg *open,
                          struct engine **out, struct sl_err *err)
{
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    if (load->kv_type < LLM_KV_F16 || load->kv_type > LLM_KV_F32)
        return sl_err_set(err, SL_INVALID, "KV cache of type %d", load->kv_type);
    cfg.n_threads = load->n_threads;
    cfg.n_ctx = load->n_ctx;
    cfg.n_seqs_max = load->n_seqs_max;
    cfg.n_queue_max = load->n_queue_max;
    cfg.n_batch = load->n_batch;
    cfg.gpu_layers = load->gpu_layers;
    cfg.kv_type = (enum llm_kv_type)load->kv_type;
    cfg.kv_bytes_max = load->kv_bytes_max;
    cfg.kv_contexts = load->kv_contexts;
    cfg.no_prefix_cache = load->no_prefix_cache;
    cfg.on_event = open->on_event;
    cfg.event_ctx = open->ctx;
    cfg.on_load = open->on_load;
    cfg.load_ctx = open->ctx;
    cfg.split = load->split;
    cfg.on_frame = open->on_frame;
    cfg.frame_ctx = open->ctx;
    return load->split.n_stages && load->split.stage ? stage_engine_load(load->path, &cfg, out, err)
                                                     : llm_engine_load(load->path, &cfg, out, err);
}

static sl_status open_echo(const struct engine_load *load, const struct engine_open_cfg *open,
                           struct engine **out, struct sl_err *err)
{
    const struct echo_engine_cfg cfg = {
        .on_event = open->on_event,
        .on_load = open->on_load,
        .ctx = open->ctx,
        .n_ctx = load->n_ctx,
        .n_seqs_max = load->n_seqs_max,
        .n_queue_max = load->n_queue_max,
    };
    return echo_engine_load(load->path, &cfg, out, err);
}

static const struct {
    const char *name;
    sl_status (*open)(const struct engine_load *load, const struct engine_open_cfg *open,
                      struct engine **out, struct sl_err *err);
} kinds[] = {{"llm", open_llm}, {"onnx", onnx_engine_load}, {"echo", open_echo}};

sl_status engine_open(const struct engine_load *load, const struct engine_open_cfg *cfg,
                      struct engine **out, struct sl_err *err)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, load->kind) == 0) return kinds[i].open(load, cfg, out, err);
    }
    return sl_err_set(err, SL_UNSUPPORTED, "there is no engine called %.40s", load->kind);
}
