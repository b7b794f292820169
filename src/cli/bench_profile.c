/* bench_profile.c: see bench_profile.h. */
#include "cli/bench_profile.h"

struct fit {
    double tokens_per_s, fixed_s;
};

/* The straight line through both points; what two measurements can say of a step's fixed part is
 * never below nothing. */
static struct fit prefill_fit(const struct bench_profile *profile)
{
    const struct bench_prefill *a = &profile->shorter, *b = &profile->longer;
    double more = b->seconds - a->seconds, n_more = b->n_tokens - a->n_tokens;
    if (more <= 0 || n_more <= 0) return (struct fit){b->n_tokens / b->seconds, 0};
    struct fit fit = {.tokens_per_s = n_more / more};
    fit.fixed_s = a->seconds - a->n_tokens / fit.tokens_per_s;
    if (fit.fixed_s < 0) fit = (struct fit){b->n_tokens / b->seconds, 0};
    return fit;
}

/* More streams never take less time: what says so is noise. */
static double risen(const struct bench_profile *profile, uint32_t i)
{
    double most = 0;
    for (uint32_t k = 0; k <= i; k++)
        if (profile->steps[k].seconds > most) most = profile->steps[k].seconds;
    return most;
}

static double context_s(const struct bench_profile *profile)
{
    double more = profile->context_step_s - profile->steps[0].seconds;
    return more > 0 && profile->context_tokens > 0 ? more / profile->context_tokens : 0;
}

sl_status bench_profile_write(const struct bench_profile *profile, struct sl_buf *out)
{
    struct fit fit = prefill_fit(profile);
    sl_status status = sl_buf_addf(
        out,
        "  - name: %s\n    slots: %d\n    kv_tokens: %d\n    prefill: %.1f\n    prefill_ms: %.4f\n"
        "    prefill_chunk: %d\n    prefill_group: %d\n    context_us: %.4f\n    steps:\n",
        profile->name, profile->n_slots, profile->kv_tokens, fit.tokens_per_s, fit.fixed_s * 1e3,
        profile->prefill_chunk, profile->prefill_group, context_s(profile) * 1e6);
    for (uint32_t i = 0; i < profile->n_steps && status == SL_OK; i++)
        status = sl_buf_addf(out, "      - {streams: %u, ms: %.4f}\n", profile->steps[i].n_streams,
                             risen(profile, i) * 1e3);
    return status;
}
