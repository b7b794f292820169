/* policy.c: see policy.h. The weights are those of docs/scheduling.md, chosen by measurement. */
#include "sched/policy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Two choices already remove most of the queueing (Mitzenmacher, "The power of two choices", 2001);
 * the rest buys unlike speeds, and 16 cost some microseconds. */
#define SAMPLE_DEFAULT 16

static const struct policy presets[] = {
    {.name = "balanced",
     .weight = {[SCORE_WAIT] = 1.5,
                [SCORE_COMPUTE] = 1,
                [SCORE_PREFIX] = 2,
                [SCORE_DECODE] = 0.1,
                [SCORE_NETWORK] = 1,
                [SCORE_KV] = 0.5,
                [SCORE_LOAD] = 0.2}},
    {.name = "classic", .weight = {[SCORE_LOAD] = 0.7, [SCORE_NETWORK] = 0.3}},
    {.name = "least-work", .weight = {[SCORE_WAIT] = 1, [SCORE_COMPUTE] = 1}},
    {.name = "prefix-aware",
     .weight = {[SCORE_WAIT] = 1, [SCORE_COMPUTE] = 1, [SCORE_PREFIX] = 2, [SCORE_KV] = 0.5}},
    {.name = "latency-first",
     .weight = {[SCORE_WAIT] = 1, [SCORE_COMPUTE] = 1, [SCORE_PREFIX] = 1, [SCORE_NETWORK] = 10}},
    {.name = "energy-first",
     .weight = {[SCORE_WAIT] = 0.2,
                [SCORE_PREFIX] = 0.2,
                [SCORE_LOAD] = 0.05,
                [SCORE_ENERGY] = 10,
                [SCORE_CARBON] = 50}},
    {.name = "carbon-first",
     .weight =
         {[SCORE_WAIT] = 0.2, [SCORE_PREFIX] = 0.2, [SCORE_LOAD] = 0.05, [SCORE_CARBON] = 100}},
    {.name = "round-robin", .rule = POLICY_ROUND_ROBIN},
    {.name = "least-connections", .rule = POLICY_LEAST_CONNECTIONS},
    {.name = "random", .rule = POLICY_RANDOM},
};

#define N_PRESETS (sizeof presets / sizeof *presets)

const char *policy_preset_name(size_t i)
{
    return i < N_PRESETS ? presets[i].name : NULL;
}

const char *score_part_name(enum score_part part)
{
    static const char *const names[] = {"wait", "compute", "prefix", "decode", "network",
                                        "kv",   "load",    "energy", "price",  "carbon"};
    return (unsigned)part < SCORE_PART_COUNT ? names[part] : "?";
}

static sl_status preset_find(const char *name, size_t n, struct policy *out, struct sl_err *err)
{
    for (size_t i = 0; i < N_PRESETS; i++) {
        if (strlen(presets[i].name) != n || memcmp(presets[i].name, name, n) != 0) continue;
        *out = presets[i];
        out->n_sample = SAMPLE_DEFAULT;
        return SL_OK;
    }
    char list[256] = "";
    for (size_t i = 0, at = 0; i < N_PRESETS; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", presets[i].name);
    return sl_err_set(err, SL_INVALID, "policy %.*s: there are %s", (int)n, name, list);
}

/* "network=2" */
static sl_status setting_parse(const char *text, size_t n, struct policy *policy,
                               struct sl_err *err)
{
    const char *equals = memchr(text, '=', n);
    char *end = NULL;
    double value = equals ? strtod(equals + 1, &end) : 0;
    if (!equals || end == equals + 1 || end != text + n || !isfinite(value) ||
        fabs(value) > POLICY_WEIGHT_LIMIT)
        return sl_err_set(err, SL_INVALID, "%.*s: a part's weight is PART=NUMBER", (int)n, text);
    size_t n_name = (size_t)(equals - text);
    if (n_name == strlen("sample") && memcmp(text, "sample", n_name) == 0) {
        if (value < 1 || value > POLICY_SAMPLE_LIMIT)
            return sl_err_set(err, SL_INVALID, "sample: 1 to %d", POLICY_SAMPLE_LIMIT);
        policy->n_sample = (uint32_t)value;
        return SL_OK;
    }
    for (int part = 0; part < SCORE_PART_COUNT; part++) {
        const char *name = score_part_name((enum score_part)part);
        if (strlen(name) != n_name || memcmp(text, name, n_name) != 0) continue;
        policy->weight[part] = value;
        return SL_OK;
    }
    return sl_err_set(err, SL_INVALID,
                      "%.*s: parts are wait, compute, prefix, decode, network, kv, load, energy, "
                      "price, carbon, and sample",
                      (int)n_name, text);
}

sl_status policy_parse(const char *text, struct policy *out, struct sl_err *err)
{
    size_t n = strcspn(text, ":");
    sl_status status = preset_find(text, n, out, err);
    if (status != SL_OK) return status;
    if (strlen(text) >= POLICY_NAME_MAX)
        return sl_err_set(err, SL_INVALID, "policy: at most %d bytes", POLICY_NAME_MAX - 1);
    snprintf(out->name, sizeof out->name, "%s", text);
    while (text[n]) {
        text += n + 1;
        n = strcspn(text, ",");
        status = setting_parse(text, n, out, err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}
