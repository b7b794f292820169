/* split_weight.c: types of weights whose products are measured, and which of them stands for any
 * other. */
#include "sched/split.h"
#include <string.h>
#include <strings.h>

static const char *const names[SPLIT_WEIGHT_COUNT] = {
    [SPLIT_Q4_0] = "q4_0", [SPLIT_Q8_0] = "q8_0", [SPLIT_Q4_K] = "q4_k",
    [SPLIT_Q6_K] = "q6_k", [SPLIT_F16] = "f16",   [SPLIT_F32] = "f32",
};

/* By the beginning of a name, the first that fits. */
static const struct {
    const char *prefix;
    enum split_weight weight;
} stands_for[] = {
    {"q4_k", SPLIT_Q4_K}, {"q5_k", SPLIT_Q4_K}, {"q6_k", SPLIT_Q6_K}, {"q8", SPLIT_Q8_0},
    {"q4", SPLIT_Q4_0},   {"q5", SPLIT_Q4_0},   {"q2", SPLIT_Q4_K},   {"q3", SPLIT_Q4_K},
    {"iq", SPLIT_Q4_K},   {"tq", SPLIT_Q4_K},   {"f32", SPLIT_F32},   {"mxfp4", SPLIT_Q4_0},
    {"", SPLIT_F16},
};

const char *split_weight_name(enum split_weight weight)
{
    return (unsigned)weight < SPLIT_WEIGHT_COUNT ? names[weight] : "?";
}

enum split_weight split_weight_of(const char *ggml_type_name)
{
    size_t i = 0;
    while (strncasecmp(ggml_type_name, stands_for[i].prefix, strlen(stands_for[i].prefix)) != 0)
        i++;
    return stands_for[i].weight;
}
