#include "exec/onnx/onnx_options.h"
#include "base/json_read.h"
#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    size_t offset;
    int32_t lowest, highest;
} numbers[] = {
    {"device_id", offsetof(struct onnx_options, device_id), 0, 1023},
    {"batch_max", offsetof(struct onnx_options, batch_max), 0, ONNX_BATCH_MAX},
    {"batch_delay_us", offsetof(struct onnx_options, batch_delay_us), 0, ONNX_DELAY_US_MAX},
    {"instances", offsetof(struct onnx_options, instances), 1, ONNX_INSTANCES_MAX},
    {"threads", offsetof(struct onnx_options, threads), 0, 1024},
    {"queue_max", offsetof(struct onnx_options, queue_max), 0, ONNX_QUEUE_MAX},
    {"max_tokens", offsetof(struct onnx_options, max_tokens), 0, ONNX_TOKENS_MAX},
};

static const struct {
    const char *name;
    size_t offset;
} switches[] = {
    {"warm_up", offsetof(struct onnx_options, warm_up)},
    {"memory_arena", offsetof(struct onnx_options, memory_arena)},
    {"spin", offsetof(struct onnx_options, spin)},
    {"truncate", offsetof(struct onnx_options, truncate)},
};

struct word {
    const char *name;
    int value;
};
static const struct word poolings[] = {{"model", ENGINE_POOLING_MODEL},
                                       {"mean", ENGINE_POOLING_MEAN},
                                       {"cls", ENGINE_POOLING_CLS},
                                       {"last", ENGINE_POOLING_LAST}};
static const struct word optimizations[] = {{"none", ORT_ABI_OPTIMIZE_NONE},
                                            {"basic", ORT_ABI_OPTIMIZE_BASIC},
                                            {"extended", ORT_ABI_OPTIMIZE_EXTENDED},
                                            {"all", ORT_ABI_OPTIMIZE_ALL}};
#define N_WORDS 4 /* of either list */

void onnx_options_default(struct onnx_options *out)
{
    *out = (struct onnx_options){
        .n_providers = ORT_PROVIDER_COUNT,
        .instances = 1,
        .optimization = ORT_ABI_OPTIMIZE_ALL,
        .warm_up = true,
        .memory_arena = true,
        .spin = true,
        .pooling = ENGINE_POOLING_MODEL,
    };
    for (int i = 0; i < ORT_PROVIDER_COUNT; i++) out->providers[i] = (enum ort_provider)i;
}

static sl_status read_providers(const struct sl_json_value *value, struct onnx_options *out,
                                struct sl_err *err)
{
    size_t n = sl_json_size(value);
    if (!sl_json_is(value, SL_JSON_ARRAY) || n < 1 || n > ORT_PROVIDER_COUNT)
        return sl_err_set(err, SL_INVALID, "a list of 1 to %d names is wanted", ORT_PROVIDER_COUNT);
    for (size_t i = 0; i < n; i++) {
        const char *name = sl_json_to_str(sl_json_at(value, i), "", NULL);
        sl_status status = ort_provider_parse(name, &out->providers[i], err);
        if (status != SL_OK) return status;
        for (size_t j = 0; j < i; j++) {
            if (out->providers[j] == out->providers[i])
                return sl_err_set(err, SL_INVALID, "%s stands there twice", name);
        }
    }
    out->n_providers = (int32_t)n;
    out->providers_given = true;
    return SL_OK;
}

static sl_status read_word(const struct sl_json_value *value, const struct word words[N_WORDS],
                           int *out, struct sl_err *err)
{
    const char *text = sl_json_to_str(value, "", NULL);
    for (int i = 0; i < N_WORDS; i++) {
        if (strcmp(words[i].name, text)) continue;
        *out = words[i].value;
        return SL_OK;
    }
    return sl_err_set(err, SL_INVALID, "it may be \"%s\", \"%s\", \"%s\" or \"%s\"", words[0].name,
                      words[1].name, words[2].name, words[3].name);
}

static sl_status read_number(const struct sl_json_value *value, size_t at, struct onnx_options *out,
                             struct sl_err *err)
{
    int64_t number = sl_json_to_int(value, INT64_MIN);
    if (number < numbers[at].lowest || number > numbers[at].highest)
        return sl_err_set(err, SL_INVALID, "a whole number from %d to %d is wanted",
                          numbers[at].lowest, numbers[at].highest);
    *(int32_t *)((char *)out + numbers[at].offset) = (int32_t)number;
    return SL_OK;
}

static sl_status read_switch(const struct sl_json_value *value, size_t at, struct onnx_options *out,
                             struct sl_err *err)
{
    if (!sl_json_is(value, SL_JSON_BOOL))
        return sl_err_set(err, SL_INVALID, "true or false is wanted");
    *(bool *)((char *)out + switches[at].offset) = sl_json_to_bool(value, false);
    return SL_OK;
}

static sl_status read_member(const char *key, const struct sl_json_value *value,
                             struct onnx_options *out, struct sl_err *err)
{
    int word = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(key, numbers[i].name)) return read_number(value, i, out, err);
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (!strcmp(key, switches[i].name)) return read_switch(value, i, out, err);
    if (!strcmp(key, "providers")) return read_providers(value, out, err);
    if (!strcmp(key, "pooling")) {
        sl_status status = read_word(value, poolings, &word, err);
        if (status == SL_OK) out->pooling = (enum engine_pooling)word;
        return status;
    }
    if (!strcmp(key, "graph_optimization"))
        return read_word(value, optimizations, &out->optimization, err);
    return sl_err_set(err, SL_INVALID, "there is no such option");
}

static sl_status read_all(const struct sl_json_value *root, struct onnx_options *out,
                          struct sl_err *err)
{
    void *iter = NULL;
    const char *key;
    size_t n_key;
    const struct sl_json_value *value;
    if (!sl_json_is(root, SL_JSON_OBJECT))
        return sl_err_set(err, SL_INVALID, "an object is wanted");
    while (sl_json_next(root, &iter, &key, &n_key, &value)) {
        if (read_member(key, value, out, err) != SL_OK)
            return sl_err_prefix(err, "option \"%.40s\"", key);
    }
    return SL_OK;
}

sl_status onnx_options_parse(const char *json, struct onnx_options *out, struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    onnx_options_default(out);
    if (!json || !*json) return SL_OK;
    sl_status status = sl_json_parse(json, strlen(json), &root, err);
    if (status == SL_OK) status = read_all(root, out, err);
    sl_json_free(root);
    if (status == SL_OK) return SL_OK;
    return sl_err_prefix(err, "options of the ONNX engine");
}
