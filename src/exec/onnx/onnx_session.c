#include "exec/onnx/onnx_session.h"
#include "base/log.h"
#include <stdbool.h>
#include <string.h>

struct making {
    const struct ort *ort;
    const char *path;
    const struct onnx_options *options;
    int32_t n_threads;
};

/* Session options, by their documented keys. Threads that wait for work spin, but only while a run
 * is under way: asleep they make small models slower than one thread does (resnet20: 0.80 ms where
 * one thread takes 0.61, and two that spin 0.40); between runs they would take the CPU from
 * everything else on the node. A file is read as ONNX whatever its name. */
static sl_status set_entries(const struct making *m, struct OrtSessionOptions *o,
                             struct sl_err *err)
{
    const struct {
        const char *key, *value;
    } entries[] = {
        {"session.intra_op.allow_spinning", m->options->spin ? "1" : "0"},
        {"session.force_spinning_stop", "1"},
        {"session.load_model_format", "ONNX"},
    };
    sl_status status = SL_OK;
    for (size_t i = 0; i < sizeof entries / sizeof *entries && status == SL_OK; i++)
        status = ort_result(
            m->ort, m->ort->api.AddSessionConfigEntry(o, entries[i].key, entries[i].value), err);
    return status;
}

/* Memory patterns are kept for every set of input shapes that ever came, which a client chooses:
 * they are off. */
static sl_status configure(const struct making *m, struct OrtSessionOptions *o, struct sl_err *err)
{
    const struct ort *ort = m->ort;
    sl_status status = ort_result(ort, ort->api.SetIntraOpNumThreads(o, m->n_threads), err);
    if (status == SL_OK)
        status = ort_result(
            ort, ort->api.SetSessionGraphOptimizationLevel(o, m->options->optimization), err);
    if (status == SL_OK) status = ort_result(ort, ort->api.DisableMemPattern(o), err);
    if (status == SL_OK && !m->options->memory_arena)
        status = ort_result(ort, ort->api.DisableCpuMemArena(o), err);
    return status == SL_OK ? set_entries(m, o, err) : status;
}

/* Appends what the list names and this machine has. *out_first is the first of them. */
static sl_status append_providers(const struct making *m, struct OrtSessionOptions *o,
                                  enum ort_provider *out_first, struct sl_err *err)
{
    const struct onnx_options *options = m->options;
    bool found = false, has_cpu = false;
    for (int32_t i = 0; i < options->n_providers && !has_cpu; i++) {
        enum ort_provider provider = options->providers[i];
        struct sl_err why = SL_ERR_INIT;
        sl_status status = ort_provider_append(m->ort, provider, options->device_id, o, &why);
        has_cpu = provider == ORT_PROVIDER_CPU;
        if (status == SL_OK && !found) *out_first = provider;
        found = found || status == SL_OK;
        if (status != SL_OK &&
            (options->providers_given || ort_provider_available(m->ort, provider)))
            sl_log(SL_LOG_WARN, "onnx", "%s: execution provider %s: %s; trying the next", m->path,
                   ort_provider_name(provider), why.text);
        if (status != SL_OK) *err = why;
    }
    if (!found) {
        err->status = SL_UNAVAILABLE;
        return sl_err_prefix(err, "none of the execution providers that the options name");
    }
    if (has_cpu) return SL_OK;
    return ort_result(
        m->ort, m->ort->api.AddSessionConfigEntry(o, "session.disable_cpu_ep_fallback", "1"), err);
}

/* A graph that the library refuses is the file's fault, whatever code it gives. */
static sl_status explain(sl_status status, struct sl_err *err)
{
    if (strstr(err->text, "not a registered function/op") ||
        strstr(err->text, "No Op registered") ||
        strstr(err->text, "not currently registered or supported"))
        return err->status = SL_UNSUPPORTED;
    return status == SL_INTERNAL || status == SL_INVALID ? (err->status = SL_CORRUPT) : status;
}

static sl_status create(const struct making *m, bool cpu_only, struct OrtSession **out,
                        enum ort_provider *out_provider, struct sl_err *err)
{
    struct OrtSessionOptions *o = NULL;
    sl_status status = ort_result(m->ort, m->ort->api.CreateSessionOptions(&o), err);
    if (status != SL_OK) return status;
    *out_provider = ORT_PROVIDER_CPU;
    status = configure(m, o, err);
    if (status == SL_OK && !cpu_only) status = append_providers(m, o, out_provider, err);
    if (status == SL_OK) {
        status = ort_result(m->ort, m->ort->api.CreateSession(m->ort->env, m->path, o, out), err);
        if (status != SL_OK) status = explain(status, err);
    }
    m->ort->api.ReleaseSessionOptions(o);
    return status;
}

static bool may_use_cpu(const struct onnx_options *options)
{
    for (int32_t i = 0; i < options->n_providers; i++)
        if (options->providers[i] == ORT_PROVIDER_CPU) return true;
    return false;
}

sl_status onnx_session_create(const struct ort *ort, const char *path,
                              const struct onnx_options *options, int32_t n_threads,
                              struct OrtSession **out, enum ort_provider *out_provider,
                              struct sl_err *err)
{
    const struct making m = {ort, path, options, n_threads};
    sl_status status = create(&m, false, out, out_provider, err);
    if (status == SL_OK || *out_provider == ORT_PROVIDER_CPU || !may_use_cpu(options))
        return status;
    sl_log(SL_LOG_WARN, "onnx", "%s: execution provider %s: %s; trying the CPU", path,
           ort_provider_name(*out_provider), err->text);
    return create(&m, true, out, out_provider, err);
}
