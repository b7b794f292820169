/* residency_room.c: who gets the memory. Models that are wanted stand in a line by the time since
 * when. Idle ones give way at once, least recently used first; when that is not enough, a model
 * that has waited for swap_patience_ns may have busy ones drained. Those behind it may load into
 * what is free until then; after that the room that is being made for it is its own. */
#include "base/size_text.h"
#include "sched/residency_int.h"

#include <stdio.h>

static uint64_t minus_floor_zero(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

bool residency_can_fit(const struct residency *residency, uint32_t model, uint64_t *out_available)
{
    uint64_t pinned_bytes = 0;
    for (uint32_t i = 0; i < residency->n_workers; i++) {
        const struct residency_model *other = &residency->models[residency->workers[i]];
        if (other->pinned && residency->workers[i] != model) pinned_bytes += other->charged_bytes;
    }
    *out_available = minus_floor_zero(residency->config.budget_bytes, pinned_bytes);
    return residency->models[model].need_bytes <= *out_available;
}

void residency_say_unfit(const struct residency *residency, uint32_t model, uint64_t available,
                         char text[SCHED_REASON_MAX])
{
    bool pinned = available < residency->config.budget_bytes;
    char needs[SL_SIZE_TEXT_MAX], has[SL_SIZE_TEXT_MAX];
    snprintf(text, SCHED_REASON_MAX, "the model needs %s of memory, %s are available%s",
             sl_size_text(residency->models[model].need_bytes, needs), sl_size_text(available, has),
             pinned ? " beside pinned models" : "");
}

/* --- victims --- */

/* Which READY models may be made to give way. */
enum victims { IDLE_VICTIMS, SEASONED_VICTIMS, ALL_VICTIMS };

static bool may_give_way(const struct residency *residency, const struct residency_model *m,
                         enum victims victims, int64_t now_ns)
{
    if (m->state != SCHED_READY || m->pinned) return false;
    if (m->idle || victims == ALL_VICTIMS) return true;
    return victims == SEASONED_VICTIMS &&
           now_ns - m->ready_since_ns >= residency->config.residency_min_ns;
}

static bool goes_before(const struct residency_model *a, const struct residency_model *b)
{
    if (a->idle != b->idle) return a->idle;
    return a->last_used_ns < b->last_used_ns;
}

/* Idle before busy, then least recently used; INDEX_NONE when there is none. */
static uint32_t find_victim(const struct residency *residency, enum victims victims, int64_t now_ns)
{
    uint32_t best = INDEX_NONE;
    for (uint32_t i = 0; i < residency->n_workers; i++) {
        uint32_t model = residency->workers[i];
        const struct residency_model *m = &residency->models[model];
        if (!may_give_way(residency, m, victims, now_ns)) continue;
        if (best == INDEX_NONE || goes_before(m, &residency->models[best])) best = model;
    }
    return best;
}

static uint64_t victim_bytes(const struct residency *residency, enum victims victims,
                             int64_t now_ns)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < residency->n_workers; i++) {
        const struct residency_model *m = &residency->models[residency->workers[i]];
        if (may_give_way(residency, m, victims, now_ns)) bytes += m->charged_bytes;
    }
    return bytes;
}

/* Drains victims until n_bytes are on their way out or none is left. */
static void drain_victims(struct residency *residency, enum victims victims, uint64_t n_bytes,
                          int64_t now_ns)
{
    while (n_bytes > 0) {
        uint32_t victim = find_victim(residency, victims, now_ns);
        if (victim == INDEX_NONE) return;
        uint64_t bytes = residency->models[victim].charged_bytes;
        residency_drain(residency, victim, now_ns);
        n_bytes = minus_floor_zero(n_bytes, bytes);
    }
}

/* A model proved bigger than estimated, or the budget was lowered. */
static void shrink(struct residency *residency, int64_t now_ns)
{
    uint64_t staying = residency->used_bytes - residency->draining_bytes;
    uint64_t excess = minus_floor_zero(staying, residency->config.budget_bytes);
    drain_victims(residency, ALL_VICTIMS, excess, now_ns);
}

/* --- room for one model --- */

/* When time alone may make more models give way: the patience of the wanting one ends, or a busy
 * one has been READY long enough. */
static int64_t next_chance(const struct residency *residency, const struct residency_model *wanting,
                           int64_t now_ns)
{
    const struct sched_config *config = &residency->config;
    int64_t patient_ns = residency_time_after(wanting->want_since_ns, config->swap_patience_ns);
    if (now_ns < patient_ns) return patient_ns;
    int64_t best_ns = SCHED_NEVER;
    for (uint32_t i = 0; i < residency->n_workers; i++) {
        const struct residency_model *m = &residency->models[residency->workers[i]];
        if (m->state != SCHED_READY || m->pinned) continue;
        int64_t at_ns = residency_time_after(m->ready_since_ns, config->residency_min_ns);
        if (at_ns > now_ns && at_ns < best_ns) best_ns = at_ns;
    }
    return best_ns;
}

/* Is room for the model on its way, beside what is `reserved` for those before it? Makes some give
 * way when that will be enough; when it would not, nobody has to go in vain. */
static bool make_room(struct residency *residency, uint32_t model, uint64_t reserved,
                      int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    uint64_t staying = residency->used_bytes - residency->draining_bytes + reserved;
    uint64_t missing = minus_floor_zero(staying + m->need_bytes, residency->config.budget_bytes);
    int64_t patient_ns = residency_time_after(m->want_since_ns, residency->config.swap_patience_ns);
    enum victims victims = IDLE_VICTIMS;
    if (victim_bytes(residency, victims, now_ns) < missing && now_ns >= patient_ns)
        victims = SEASONED_VICTIMS;
    bool enough = victim_bytes(residency, victims, now_ns) >= missing;
    if (enough) drain_victims(residency, victims, missing, now_ns);
    m->want_wake_ns = enough ? SCHED_NEVER : next_chance(residency, m, now_ns);
    residency_refresh(residency, model, now_ns);
    return enough;
}

static void spawn(struct residency *residency, uint32_t model, int64_t now_ns)
{
    action_list_add_model(residency->actions, SCHED_SPAWN, model);
    residency_set_state(residency, model, SCHED_STARTING, now_ns);
}

static void refuse_unfit(struct residency *residency, uint32_t model, uint64_t available,
                         int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    residency_say_unfit(residency, model, available, m->error);
    m->prefetch = false;
    m->want_wake_ns = SCHED_NEVER;
    m->retry_ns = 0; /* it is no use to ask again soon */
    if (m->n_waiting > 0) residency_doom(residency, model, SL_NOMEM, m->error);
    residency_refresh(residency, model, now_ns);
}

void residency_settle(struct residency *residency, int64_t now_ns)
{
    if (!residency->room_changed) return;
    residency->room_changed = false;
    shrink(residency, now_ns);
    uint64_t reserved = 0, available, budget = residency->config.budget_bytes;
    uint32_t next;
    for (uint32_t model = residency->wanting.head; model != INDEX_NONE; model = next) {
        next = residency->want_links[model].next;
        uint64_t need = residency->models[model].need_bytes;
        uint64_t staying = residency->used_bytes - residency->draining_bytes + reserved;
        if (!residency_can_fit(residency, model, &available))
            refuse_unfit(residency, model, available, now_ns);
        else if (residency->used_bytes + need <= budget && staying + need <= budget)
            spawn(residency, model, now_ns);
        else if (make_room(residency, model, reserved, now_ns))
            reserved += need;
    }
}
