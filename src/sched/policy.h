/* policy.h: how a node is chosen for a request: presets by name, and weights by hand.
 * Floor: sched.  Thread: any.  Allocates: nothing. */
#pragma once
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

/* What a node costs a request, each part in its own unit; docs/scheduling.md has the formulas. */
enum score_part {
    SCORE_WAIT,    /* s until the prompt's computation can begin, predicted from measured speed */
    SCORE_COMPUTE, /* s to compute the whole prompt there */
    SCORE_PREFIX,  /* s of that saved by blocks in its KV cache: not above 0 */
    SCORE_DECODE,  /* s to produce the expected answer */
    SCORE_NETWORK, /* s of round trip */
    SCORE_KV,      /* 0 to 1: how much of the KV room it needs is not free */
    SCORE_LOAD,    /* requests by slots: 1 is a full machine */
    SCORE_ENERGY,  /* kJ, modelled */
    SCORE_PRICE,   /* hundredths of the currency of price_kwh and price_mtok */
    SCORE_CARBON,  /* g of CO2, modelled */
    SCORE_PART_COUNT
};

enum policy_rule {
    POLICY_SCORE,  /* the least weighted sum of parts */
    POLICY_RANDOM, /* baselines, to measure against */
    POLICY_ROUND_ROBIN,
    POLICY_LEAST_CONNECTIONS, /* the fewest requests of this gateway, as HTTP balancers count */
    POLICY_RULE_COUNT
};

#define POLICY_NAME_MAX 96
#define POLICY_SAMPLE_LIMIT 256 /* of n_sample: the rows that an explanation has */
#define POLICY_WEIGHT_LIMIT 1e6

struct policy {
    char name[POLICY_NAME_MAX];
    enum policy_rule rule;
    double weight[SCORE_PART_COUNT];
    uint32_t n_sample; /* nodes drawn for a decision; those that hold the prefix come on top */
};

#define POLICY_DEFAULT "balanced"

/* "least-work", or with changes: "least-work:network=2,kv=0,sample=8". INVALID lists what there
 * is. */
SL_CHECK sl_status policy_parse(const char *text, struct policy *out, struct sl_err *err);

const char *policy_preset_name(size_t i);          /* NULL past the last */
const char *score_part_name(enum score_part part); /* "network"; "?" out of range */
