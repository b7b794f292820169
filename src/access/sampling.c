#include "access/sampling.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/rng.h"
#include "exec/engine.h"
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define BIAS_LIMIT 100.0   /* OpenAI: -100 bans, 100 forces */
#define MAX_TOKENS_MAX 1e8 /* past any context */

enum kind { FLOAT, INT };

/* A field that is nothing but a number in a range. */
struct field {
    const char *name;
    enum kind kind;
    size_t offset; /* in struct sampling */
    double min, max;
};
#define AT(member) offsetof(struct sampling, member)

static const struct field openai_fields[] = {
    {"temperature", FLOAT, AT(sampler.temp), 0, 2},
    {"top_p", FLOAT, AT(sampler.top_p), 0, 1},
    {"top_k", INT, AT(sampler.top_k), -1, 1e6},
    {"min_p", FLOAT, AT(sampler.min_p), 0, 1},
    {"typical_p", FLOAT, AT(sampler.typical_p), 0, 1},
    {"repeat_last_n", INT, AT(sampler.repeat_last_n), -1, 1e6},
    {"repetition_penalty", FLOAT, AT(sampler.repeat_penalty), 0.01, 10},
    {"presence_penalty", FLOAT, AT(sampler.presence_penalty), -2, 2},
    {"frequency_penalty", FLOAT, AT(sampler.frequency_penalty), -2, 2},
    {"dry_multiplier", FLOAT, AT(sampler.dry_multiplier), 0, 100},
    {"dry_base", FLOAT, AT(sampler.dry_base), 1, 10},
    {"dry_allowed_length", INT, AT(sampler.dry_allowed_len), 1, 1e6},
    {"max_tokens", INT, AT(max_tokens), 1, MAX_TOKENS_MAX},
    {"max_completion_tokens", INT, AT(max_tokens), 1, MAX_TOKENS_MAX},
    {"n", INT, AT(n_choices), 1, ENGINE_CHOICES_MAX},
    {NULL, INT, 0, 0, 0},
};

static const struct field ollama_fields[] = {
    {"temperature", FLOAT, AT(sampler.temp), 0, 100},
    {"top_p", FLOAT, AT(sampler.top_p), 0, 1},
    {"top_k", INT, AT(sampler.top_k), -1, 1e6},
    {"min_p", FLOAT, AT(sampler.min_p), 0, 1},
    {"typical_p", FLOAT, AT(sampler.typical_p), 0, 1},
    {"repeat_penalty", FLOAT, AT(sampler.repeat_penalty), 0.01, 10},
    {"repeat_last_n", INT, AT(sampler.repeat_last_n), -1, 1e6},
    {"presence_penalty", FLOAT, AT(sampler.presence_penalty), -2, 2},
    {"frequency_penalty", FLOAT, AT(sampler.frequency_penalty), -2, 2},
    {NULL, INT, 0, 0, 0},
};

static sl_status read_number(const struct field *field, const struct sl_json_value *value,
                             struct sampling *sampling, struct sl_err *err)
{
    enum sl_json_type type = sl_json_type(value);
    double number = sl_json_to_num(value, 0);
    char *to = (char *)sampling + field->offset;
    bool whole = fabs(number) < 9e15 && number == floor(number);
    if ((type != SL_JSON_INT && type != SL_JSON_NUM) || (field->kind == INT && !whole))
        return sl_err_set(err, SL_INVALID, "%s: %s is needed here, not %s", field->name,
                          field->kind == INT ? "a whole number" : "a number",
                          type == SL_JSON_NUM ? "a fraction" : sl_json_type_name(type));
    if (!(number >= field->min && number <= field->max))
        return sl_err_set(err, SL_INVALID, "%s: %g is out of range; it goes from %g to %g",
                          field->name, number, field->min, field->max);
    if (field->kind == FLOAT)
        *(float *)(void *)to = (float)number;
    else
        *(int32_t *)(void *)to = (int32_t)number;
    return SL_OK;
}

static sl_status read_numbers(const struct field *fields, const struct sl_json_value *object,
                              struct sampling *sampling, const char **param, struct sl_err *err)
{
    for (const struct field *field = fields; field->name; field++) {
        const struct sl_json_value *value = sl_json_get(object, field->name);
        if (sl_json_is(value, SL_JSON_NULL)) continue;
        *param = field->name;
        sl_status status = read_number(field, value, sampling, err);
        if (status != SL_OK) return status;
    }
    *param = NULL;
    return SL_OK;
}

static sl_status add_stop(const struct sl_json_value *value, const char **out,
                          struct sl_arena *arena, struct sl_err *err)
{
    size_t n;
    const char *text = sl_json_to_str(value, NULL, &n);
    if (!text) return sl_err_set(err, SL_INVALID, "stop: a text, or a list of texts, is needed");
    if (strlen(text) != n) return sl_err_set(err, SL_INVALID, "stop: a NUL byte in a text");
    *out = sl_arena_strndup(arena, text, n);
    return *out ? SL_OK : sl_err_set(err, SL_NOMEM, "stop");
}

static sl_status read_stop(const struct sl_json_value *value, struct sampling *sampling,
                           struct sl_arena *arena, struct sl_err *err)
{
    bool list = sl_json_is(value, SL_JSON_ARRAY);
    size_t n = list ? sl_json_size(value) : 1;
    int n_kept = 0;
    if (n > SAMPLING_STOP_MAX)
        return sl_err_set(err, SL_INVALID, "stop: at most %d texts", SAMPLING_STOP_MAX);
    const char **stop = sl_arena_array(arena, n + 1, sizeof *stop);
    if (!stop) return sl_err_set(err, SL_NOMEM, "stop");
    for (size_t i = 0; i < n; i++) {
        sl_status status = add_stop(list ? sl_json_at(value, i) : value, &stop[n_kept], arena, err);
        if (status != SL_OK) return status;
        n_kept += stop[n_kept][0] != '\0'; /* an empty one stops nothing, as at OpenAI's */
    }
    sampling->stop = stop;
    sampling->n_stop = n_kept;
    return SL_OK;
}

static sl_status read_bias(const struct sl_json_value *object, struct sampling *sampling,
                           struct sl_arena *arena, struct sl_err *err)
{
    size_t n = sl_json_size(object), n_key;
    void *iter = NULL;
    const char *key;
    const struct sl_json_value *value;
    if (!sl_json_is(object, SL_JSON_OBJECT))
        return sl_err_set(err, SL_INVALID, "logit_bias: an object of token ids is needed");
    if (n > SAMPLER_BIAS_MAX)
        return sl_err_set(err, SL_INVALID, "logit_bias: at most %d tokens", SAMPLER_BIAS_MAX);
    struct sampler_bias *bias = sl_arena_array(arena, n + 1, sizeof *bias);
    if (!bias) return sl_err_set(err, SL_NOMEM, "logit_bias");
    sampling->sampler.bias = bias;
    sampling->sampler.n_bias = 0;
    while (sl_json_next(object, &iter, &key, &n_key, &value)) {
        char *end;
        long token = strtol(key, &end, 10);
        double amount = sl_json_to_num(value, BIAS_LIMIT + 1);
        if (end == key || *end || token < 0 || token > INT32_MAX)
            return sl_err_set(err, SL_INVALID, "logit_bias: \"%.32s\" is no token id", key);
        if (!(amount >= -BIAS_LIMIT && amount <= BIAS_LIMIT))
            return sl_err_set(err, SL_INVALID, "logit_bias: %ld: the bias goes from -100 to 100",
                              token);
        bias[sampling->sampler.n_bias++] = (struct sampler_bias){(int32_t)token, (float)amount};
    }
    return SL_OK;
}

static sl_status read_seed(const struct sl_json_value *value, struct sampling *sampling,
                           struct sl_arena *arena, struct sl_err *err)
{
    (void)arena;
    if (!sl_json_is(value, SL_JSON_INT))
        return sl_err_set(err, SL_INVALID, "seed: a whole number is needed here");
    sampling->sampler.seed = (uint64_t)sl_json_to_int(value, 0);
    return SL_OK;
}

typedef sl_status (*read_fn)(const struct sl_json_value *value, struct sampling *sampling,
                             struct sl_arena *arena, struct sl_err *err);

static sl_status read_present(const struct sl_json_value *object, const char *name, read_fn read,
                              struct sampling *sampling, struct sl_arena *arena, const char **param,
                              struct sl_err *err)
{
    const struct sl_json_value *value = sl_json_get(object, name);
    if (sl_json_is(value, SL_JSON_NULL)) return SL_OK;
    sl_status status = read(value, sampling, arena, err);
    *param = status == SL_OK ? NULL : name;
    return status;
}

static uint64_t random_seed(void)
{
    static uint64_t n; /* the loop's; two requests never draw the same */
    return sl_rng_u64(sl_hash_seed(), (uint64_t)sl_now_ns(), n++);
}

void sampling_init(struct sampling *sampling, const struct sl_json_value *model_defaults,
                   struct sl_arena *arena)
{
    const char *param;
    struct sl_err err;
    *sampling = (struct sampling){.n_choices = 1};
    sampler_cfg_default(&sampling->sampler);
    sampling->sampler.n_logprobs = -1;
    sampling->sampler.seed = random_seed();
    struct sampling plain = *sampling;
    if (model_defaults &&
        sampling_read_ollama(sampling, model_defaults, arena, &param, &err) != SL_OK)
        *sampling = plain;
}

sl_status sampling_read_openai(struct sampling *sampling, const struct sl_json_value *body,
                               struct sl_arena *arena, const char **param, struct sl_err *err)
{
    sl_status status = read_numbers(openai_fields, body, sampling, param, err);
    if (status == SL_OK)
        status = read_present(body, "stop", read_stop, sampling, arena, param, err);
    if (status == SL_OK)
        status = read_present(body, "logit_bias", read_bias, sampling, arena, param, err);
    if (status == SL_OK)
        status = read_present(body, "seed", read_seed, sampling, arena, param, err);
    sampling->ignore_end = sl_json_to_bool(sl_json_get(body, "ignore_eos"), false);
    return status;
}

/* -1 (without end) and -2 (fill the context) are the same here: the context ends all. */
static sl_status read_num_predict(const struct sl_json_value *value, struct sampling *sampling,
                                  struct sl_arena *arena, struct sl_err *err)
{
    int64_t n = sl_json_to_int(value, INT64_MIN);
    (void)arena;
    if (n < -2 || n > (int64_t)MAX_TOKENS_MAX)
        return sl_err_set(err, SL_INVALID, "num_predict: a number of tokens is needed, or -1");
    sampling->max_tokens = n > 0 ? (int32_t)n : 0;
    return SL_OK;
}

sl_status sampling_read_ollama(struct sampling *sampling, const struct sl_json_value *options,
                               struct sl_arena *arena, const char **param, struct sl_err *err)
{
    sl_status status = read_numbers(ollama_fields, options, sampling, param, err);
    if (status == SL_OK)
        status = read_present(options, "stop", read_stop, sampling, arena, param, err);
    if (status == SL_OK)
        status =
            read_present(options, "num_predict", read_num_predict, sampling, arena, param, err);
    if (status == SL_OK)
        status = read_present(options, "seed", read_seed, sampling, arena, param, err);
    return status;
}

void sampling_fill_submit(const struct sampling *sampling, struct node_submit *submit)
{
    submit->task = NODE_GENERATE;
    submit->max_tokens = sampling->max_tokens;
    submit->n_choices = sampling->n_choices;
    submit->ignore_end = sampling->ignore_end;
    submit->sampler = &sampling->sampler;
    submit->stop = sampling->stop;
    submit->n_stop = sampling->n_stop;
}
