#include "exec/onnx/onnx_run.h"
#include "exec/onnx/ort_value.h"
#include <string.h>

/* Strings that a model gives are copied twice, and with lengths between. */
#define RUN_ARENA_BYTES_MAX ((size_t)4 * TENSOR_BYTES_MAX)

sl_status onnx_run_init(struct onnx_run *run, const struct onnx_model *model, struct sl_err *err)
{
    *run = (struct onnx_run){.model = model};
    sl_arena_init(&run->arena, RUN_ARENA_BYTES_MAX);
    const struct ort *ort = onnx_model_ort(model);
    return ort_result(ort, ort->api.CreateRunOptions(&run->options), err);
}

static void release_values(struct onnx_run *run)
{
    const struct ort *ort = onnx_model_ort(run->model);
    for (size_t i = 0; run->values && i < run->n_inputs + run->n_outputs; i++)
        if (run->values[i]) ort->api.ReleaseValue(run->values[i]);
    run->values = NULL;
}

void onnx_run_done(struct onnx_run *run)
{
    if (!run->model) return;
    release_values(run);
    if (run->options) onnx_model_ort(run->model)->api.ReleaseRunOptions(run->options);
    sl_arena_done(&run->arena);
    run->model = NULL;
}

static sl_status make_inputs(struct onnx_run *run, const char **names, struct sl_err *err)
{
    for (size_t i = 0; i < run->n_inputs; i++) {
        names[i] = run->inputs[i].name;
        sl_status status =
            ort_value_make(onnx_model_ort(run->model), &run->inputs[i], &run->values[i], err);
        if (status != SL_OK) return sl_err_prefix(err, "input \"%.80s\"", names[i]);
    }
    return SL_OK;
}

static sl_status read_outputs(struct onnx_run *run, size_t n_shares, struct sl_err *err)
{
    const struct tensor_spec *specs = onnx_model_signature(run->model)->outputs;
    for (size_t i = 0; i < run->n_outputs; i++) {
        struct tensor *output = &run->outputs[i];
        output->name = specs[run->wanted[i]].name;
        sl_status status = ort_value_read(onnx_model_ort(run->model),
                                          run->values[run->n_inputs + i], &run->arena, output, err);
        if (status != SL_OK) return sl_err_prefix(err, "output \"%.80s\"", output->name);
    }
    size_t n_bytes = tensors_bytes(run->outputs, run->n_outputs);
    if (n_bytes / n_shares <= TENSOR_BYTES_MAX) return SL_OK;
    return sl_err_set(err, SL_LIMIT, "outputs of %zu bytes; at most %u are served", n_bytes,
                      TENSOR_BYTES_MAX);
}

/* Most runs that fail do so because shapes that the signature allows do not fit each other within
 * the model: the request's fault. Errors of a device are not. */
static sl_status explain(sl_status status, struct sl_err *err)
{
    static const char *const devices[] = {"CUDA", "CUDNN", "CUBLAS", "TensorRT", "HIP", "ACL"};
    if (strstr(err->text, "terminate flag"))
        return sl_err_set(err, SL_CANCELLED, "the run was stopped");
    if (status == SL_NOMEM) return sl_err_prefix(err, "no memory for the run");
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (strstr(err->text, devices[i])) return status;
    if (status == SL_INTERNAL) err->status = SL_INVALID;
    return sl_err_prefix(err, "the model fails on these inputs");
}

sl_status onnx_run_execute(struct onnx_run *run, size_t n_shares, struct sl_err *err)
{
    const struct ort *ort = onnx_model_ort(run->model);
    const struct tensor_spec *specs = onnx_model_signature(run->model)->outputs;
    const size_t n = run->n_inputs + run->n_outputs;
    const char **names = sl_arena_array(&run->arena, n + 1, sizeof *names);
    run->values = sl_arena_array(&run->arena, n + 1, sizeof *run->values);
    run->outputs = sl_arena_array(&run->arena, run->n_outputs + 1, sizeof *run->outputs);
    if (!names || !run->values || !run->outputs)
        return sl_err_set(err, SL_NOMEM, "no memory for a run");
    sl_status status = make_inputs(run, names, err);
    if (status != SL_OK) return status;
    const char **wanted = names + run->n_inputs;
    for (size_t i = 0; i < run->n_outputs; i++) wanted[i] = specs[run->wanted[i]].name;
    status = ort_result(ort,
                        ort->api.Run(onnx_model_session(run->model), run->options, names,
                                     (const struct OrtValue *const *)run->values, run->n_inputs,
                                     wanted, run->n_outputs, run->values + run->n_inputs),
                        err);
    if (status != SL_OK) return explain(status, err);
    return read_outputs(run, n_shares, err);
}

void onnx_run_stop(struct onnx_run *run)
{
    struct sl_err err = SL_ERR_INIT;
    const struct ort *ort = onnx_model_ort(run->model);
    sl_status status = ort_result(ort, ort->api.RunOptionsSetTerminate(run->options), &err);
    (void)status; /* a run that cannot be stopped ends by itself */
}
