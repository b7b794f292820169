/* onnx_load.c: from a file and its options to an engine that is ready. */
#include "base/cpu.h"
#include "base/log.h"
#include "base/mem.h"
#include "exec/onnx/onnx_engine.h"
#include "exec/onnx/onnx_file.h"
#include "exec/onnx/onnx_int.h"
#include "exec/onnx/onnx_pool.h"
#include "exec/onnx/onnx_probe.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define BATCH_DEFAULT 32  /* rows, of a model that batches when nobody said how many */
#define QUEUE_DEFAULT 256 /* requests that wait */

static sl_status look_beside(const struct onnx_file *file, const char *path, struct sl_err *err)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = slash ? (int)(slash - path) : 0;
    if (snprintf(folder, sizeof folder, "%.*s", slash ? (n ? n : 1) : 1, slash ? path : ".") >=
        (int)sizeof folder)
        return sl_err_set(err, SL_INVALID, "the path is too long");
    return onnx_file_check_external(file, folder, err);
}

static uint64_t weight_bytes(const struct onnx_file *file)
{
    size_t n;
    uint64_t total = onnx_file_info(file)->file_bytes;
    const struct onnx_external *externals = onnx_file_externals(file, &n);
    for (size_t i = 0; i < n; i++) total += externals[i].n_bytes;
    return total;
}

/* The file is checked before the library reads it, which trusts it more than we do. */
static sl_status open_model(struct onnx_engine *engine, const struct engine_load *load,
                            int32_t n_threads, struct sl_err *err)
{
    struct onnx_file *file = NULL;
    sl_status status = onnx_file_open(load->path, &file, err);
    if (status == SL_OK) status = look_beside(file, load->path, err);
    if (status == SL_OK)
        status = onnx_model_open(load->path, &engine->options, n_threads, &engine->model, err);
    if (status == SL_OK) {
        engine->stats.weight_bytes = weight_bytes(file);
        engine->n_params = onnx_file_info(file)->n_params;
        engine->main_type = onnx_type_name(onnx_file_info(file)->main_type);
        onnx_model_learn_scalars(engine->model, file);
    }
    onnx_file_close(file);
    return status;
}

static sl_status refuse_batches(const struct onnx_engine *engine, const char *why,
                                struct sl_err *err)
{
    return sl_err_set(err, SL_INVALID, "option \"batch_max\" is %d, but %s",
                      engine->options.batch_max, why);
}

/* Without a trial only an order batches a model. Of an encoder it is known what its inputs mean;
 * made-up ones, with texts that are masked as a whole, tell little of it. */
static sl_status settle_batch(struct onnx_engine *engine, const char *path, struct sl_err *err)
{
    const int32_t wanted = engine->options.batch_max;
    enum onnx_probe_result result = ONNX_PROBE_UNKNOWN;
    engine->batch_max = 1;
    if (wanted == 1) return SL_OK;
    if (!onnx_probe_dimensions(onnx_model_signature(engine->model)))
        return wanted ? refuse_batches(engine, "the model's first dimensions are fixed", err)
                      : SL_OK;
    if (engine->options.warm_up) result = onnx_probe_batch(engine->model);
    if (result == ONNX_PROBE_SHAPES && wanted)
        return refuse_batches(engine, "the model fails on two rows, or its outputs lack them", err);
    if (result == ONNX_PROBE_DIFFERS && wanted)
        sl_log(SL_LOG_WARN, "onnx",
               "%s: a row's result depends on the others of its batch; batching as the options say",
               path);
    bool is_encoder = engine->encoder && result != ONNX_PROBE_SHAPES;
    if (wanted)
        engine->batch_max = wanted;
    else if (result == ONNX_PROBE_SAME || is_encoder)
        engine->batch_max = BATCH_DEFAULT;
    return SL_OK;
}

/* A model that fails on made-up inputs may well take real ones. */
static void warm_up(const struct onnx_engine *engine, const char *path)
{
    struct sl_err err = SL_ERR_INIT;
    if (!engine->options.warm_up || engine->batch_max > 1) return; /* the trial was one */
    if (onnx_probe_warm_up(engine->model, &err) != SL_OK)
        sl_log(SL_LOG_INFO, "onnx", "%s: not warmed up: %s", path, err.text);
}

static int32_t threads_of(const struct onnx_engine *engine, const struct engine_load *load)
{
    if (engine->options.threads) return engine->options.threads;
    return load->n_threads > 0 ? load->n_threads : sl_cpu_count();
}

static int32_t queue_of(const struct onnx_engine *engine, const struct engine_load *load)
{
    if (engine->options.queue_max) return engine->options.queue_max;
    return load->n_queue_max > 0 ? load->n_queue_max : QUEUE_DEFAULT;
}

static sl_status set_up(struct onnx_engine *engine, const struct engine_load *load,
                        const struct engine_open_cfg *open, struct sl_err *err)
{
    sl_status status = onnx_options_parse(load->options, &engine->options, err);
    if (status != SL_OK) return status;
    engine->queue_max = queue_of(engine, load);
    engine->jobs_max = 2 * engine->options.instances;
    engine->jobs = sl_calloc((size_t)engine->jobs_max, sizeof(struct onnx_job *));
    if (!engine->jobs) return sl_err_set(err, SL_NOMEM, "engine");
    status = open_model(engine, load, threads_of(engine, load), err);
    if (status == SL_OK)
        status = onnx_encoder_open(load->path, &engine->options,
                                   onnx_model_signature(engine->model), &engine->encoder, err);
    if (status == SL_OK && open->on_load && !open->on_load(open->ctx, 0.5))
        status = sl_err_set(err, SL_CANCELLED, "the load was given up");
    if (status == SL_OK) status = settle_batch(engine, load->path, err);
    if (status != SL_OK) return status;
    warm_up(engine, load->path);
    return engine->options.instances > 1
               ? onnx_pool_create(engine->options.instances, engine->jobs_max, &engine->pool, err)
               : SL_OK;
}

sl_status onnx_engine_load(const struct engine_load *load, const struct engine_open_cfg *open,
                           struct engine **out, struct sl_err *err)
{
    struct onnx_engine *engine = sl_calloc(1, sizeof *engine);
    if (!engine) return sl_err_set(err, SL_NOMEM, "engine");
    engine->on_event = open->on_event;
    engine->event_ctx = open->ctx;
    sl_idmap_init(&engine->live);
    sl_status status = set_up(engine, load, open, err);
    if (status == SL_OK && open->on_load && !open->on_load(open->ctx, 1))
        status = sl_err_set(err, SL_CANCELLED, "the load was given up");
    if (status == SL_OK) status = engine_create(&onnx_ops, engine, out, err);
    if (status == SL_OK) return SL_OK;
    onnx_ops.unload(engine);
    return sl_err_prefix(err, "load");
}
