/* llm_step.c: one batch step, from the plan to the events, and what ends requests early. */
#include "exec/llm/llm_int.h"

static void sweep_list(struct llm_engine *e, struct seq_list *l)
{
    struct llm_seq *next;
    for (struct llm_seq *s = l->head; s; s = next) {
        next = s->next;
        if (s->cancel) llm_seq_finish(e, s, ENGINE_FINISH_CANCELLED, SL_CANCELLED, NULL);
        if (s->state != SEQ_DONE) continue;
        seq_list_remove(l, s);
        llm_seq_destroy(e, s);
    }
}

/* Ends what was cancelled and frees what is done; followers before their leaders, who stand in
 * front of them. */
static void sweep(struct llm_engine *e)
{
    bool was = e->in_step;
    /* events may cancel again: the flag makes that a mark, seen by a later pass */
    e->in_step = true;
    sweep_list(e, &e->waiting);
    sweep_list(e, &e->running);
    e->in_step = was;
}

sl_status llm_cancel(void *self, uint64_t id)
{
    struct llm_engine *e = self;
    struct seq_list *lists[] = {&e->waiting, &e->running};
    bool found = false;
    for (int i = 0; i < 2; i++) {
        for (struct llm_seq *s = lists[i]->head; s; s = s->next) {
            if (s->id != id || s->state == SEQ_DONE) continue;
            s->cancel = found = true;
        }
    }
    if (found && !e->in_step) sweep(e);
    return found ? SL_OK : SL_NOT_FOUND;
}

void llm_cancel_all(struct llm_engine *e)
{
    struct seq_list *lists[] = {&e->waiting, &e->running};
    for (int i = 0; i < 2; i++) {
        for (struct llm_seq *s = lists[i]->head; s; s = s->next) s->cancel = true;
    }
    sweep(e);
}

static void fail_all(struct llm_engine *e, sl_status status, const char *message)
{
    struct seq_list *lists[] = {&e->waiting, &e->running};
    for (int i = 0; i < 2; i++) {
        for (struct llm_seq *s = lists[i]->head; s; s = s->next)
            llm_seq_finish(e, s, ENGINE_FINISH_ERROR, status, message);
    }
}

/* Answers that were over when they were resumed have nothing to compute. Were there any? */
static bool finish_resumed(struct llm_engine *e)
{
    bool any = false;
    for (struct llm_seq *s = e->waiting.head; s; s = s->next) {
        if (!s->over || s->state == SEQ_DONE) continue;
        llm_seq_finish(e, s, s->finish, SL_OK, NULL);
        any = true;
    }
    return any;
}

/* Plans a step of what is not under way, and has it begin. *out_n 0: there is nothing to do now. */
static sl_status launch(struct llm_engine *e, int32_t *out_n, struct sl_err *err)
{
    struct llm_batch batch;
    *out_n = 0;
    if (e->n_flying == e->n_flights_max) return SL_OK;
    sl_status status = llm_plan_step(e, out_n, err);
    if (status != SL_OK || !*out_n) return status;
    struct llm_flight *flight = llm_flight_at(e, e->n_flying);
    status = llm_plan_batch(e, &batch, flight, err);
    if (status == SL_OK) status = llm_flight_begin(e, flight, &batch, err);
    if (status == SL_OK) e->n_steps++;
    return status;
}

static bool harvest(struct llm_engine *e)
{
    bool any = false;
    while (e->n_flying && llm_flight_at(e, 0)->home) {
        llm_flight_harvest(e);
        any = true;
    }
    return any;
}

/* What came home is told before the next step is begun: its tokens need not wait for that. */
static sl_status step_split(struct llm_engine *e, bool *out_idle, struct sl_err *err)
{
    int32_t n_tokens = 0;
    sl_status status = SL_OK;
    bool any = harvest(e);
    any = finish_resumed(e) || any;
    if (!any) status = launch(e, &n_tokens, err);
    *out_idle = status == SL_OK && !n_tokens && !any;
    llm_split_idle(e, *out_idle);
    return status;
}

static sl_status step_whole(struct llm_engine *e, bool *out_idle, struct sl_err *err)
{
    int32_t n_tokens;
    bool any = finish_resumed(e);
    sl_status status = launch(e, &n_tokens, err);
    if (status == SL_OK) any = harvest(e) || any;
    *out_idle = status == SL_OK && !n_tokens && !any;
    return status;
}

sl_status llm_step(void *self, bool *out_idle, struct sl_err *err)
{
    struct llm_engine *e = self;
    struct sl_err local = SL_ERR_INIT;
    sl_status status;
    err = err ? err : &local;
    e->in_step = true;
    status = e->split ? step_split(e, out_idle, err) : step_whole(e, out_idle, err);
    if (status != SL_OK) fail_all(e, status, err->text);
    e->in_step = false;
    sweep(e);
    return status;
}
