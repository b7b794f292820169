/* breaker.c: see breaker.h. */
#include "sched/breaker.h"

bool breaker_allows(struct breaker *breaker, int64_t now_ns)
{
    if (breaker->state == BREAKER_OPEN && now_ns >= breaker->until_ns) {
        breaker->state = BREAKER_HALF_OPEN;
        breaker->trial = false;
    }
    if (breaker->state == BREAKER_HALF_OPEN) return !breaker->trial;
    return breaker->state == BREAKER_CLOSED;
}

bool breaker_send(struct breaker *breaker)
{
    if (breaker->state != BREAKER_HALF_OPEN) return false;
    breaker->trial = true;
    return true;
}

void breaker_success(struct breaker *breaker)
{
    /* Good news from before it opened says nothing about now. */
    if (breaker->state == BREAKER_OPEN) return;
    *breaker = (struct breaker){0};
}

void breaker_failure(struct breaker *breaker, const struct breaker_config *config, int64_t now_ns)
{
    if (breaker->state == BREAKER_OPEN) return;
    breaker->n_failures++;
    if (breaker->state == BREAKER_CLOSED && breaker->n_failures < config->failures_max) return;
    int64_t cooldown_ns = config->cooldown_min_ns;
    for (uint32_t i = 0; i < breaker->n_opened && cooldown_ns < config->cooldown_max_ns; i++)
        cooldown_ns *= 2;
    if (cooldown_ns > config->cooldown_max_ns) cooldown_ns = config->cooldown_max_ns;
    breaker->state = BREAKER_OPEN;
    breaker->trial = false;
    breaker->n_opened++;
    breaker->until_ns = now_ns + cooldown_ns;
}

void breaker_release(struct breaker *breaker)
{
    breaker->trial = false;
}

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = {"closed", "open", "half-open"};
    return (unsigned)state < BREAKER_STATE_COUNT ? names[state] : "?";
}
