#include "support/agent_fixture.h"
#include "base/mem.h"
#include "support/prop.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SYNC_TURNS 20
#define RUN_AGAIN_TURNS 100
#define DELAY_TURNS_MAX 12

static void check(sl_status status, const struct sl_err *err)
{
    if (status != SL_OK) fail_msg("%s", err->text);
}

/* --- the way --- */

static void mail_put(struct agent_fixture *f, bool to_agent, const void *bytes, size_t n, int due)
{
    for (size_t i = 0; i < MAILS_MAX; i++) {
        struct mail *mail = &f->mails[i];
        if (mail->bytes) continue;
        *mail = (struct mail){.due = due, .to_agent = to_agent, .bytes = sl_malloc(n + 1), .n = n};
        assert_non_null(mail->bytes);
        memcpy(mail->bytes, bytes, n);
        return;
    }
    fail_msg("too many messages are under way");
}

/* What happens to a message: nothing, or it comes once or twice, at once or later. */
static void travel(struct agent_fixture *f, bool to_agent, const void *bytes, size_t n)
{
    if (prop_draw(100) < f->lose) return;
    int copies = prop_draw(100) < f->repeat ? 2 : 1;
    for (int i = 0; i < copies; i++) {
        bool late = prop_draw(100) < f->delay;
        mail_put(f, to_agent, bytes, n, f->turn + (late ? 1 + (int)prop_draw(DELAY_TURNS_MAX) : 0));
    }
}

void agent_fixture_send(struct agent_fixture *f, const struct grid_msg *msg)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    sl_buf_init(&out, GRID_MSG_BYTES_MAX * 2);
    check(grid_msg_encode(msg, &out, &err), &err);
    travel(f, true, out.data, out.len);
    sl_buf_done(&out);
}

/* --- events --- */

static void take_text(struct try *t, const struct node_event *event)
{
    size_t room = TRY_TEXT_MAX - 1 - t->n_text;
    size_t n = event->n_text < room ? event->n_text : room;
    memcpy(t->text + t->n_text, event->text, n);
    t->n_text += n;
}

static void take(struct try *t, const struct grid_event *event)
{
    const struct node_event *e = &event->node;
    assert_false(t->ended);
    if (grid_event_is_last(event)) {
        t->ended = true;
        t->end = *event;
        snprintf(t->message, sizeof t->message, "%s", e->message);
        return;
    }
    if (e->type == NODE_EVENT_STARTED) t->n_started++;
    if (e->type == NODE_EVENT_CHOICE_DONE) t->n_choices_done++;
    if (e->type == NODE_EVENT_TOKEN && t->n_tokens < TRY_TOKENS_MAX)
        t->tokens[t->n_tokens++] = e->token;
    for (int32_t i = 0; i < e->n_embd; i++) t->embedding_sum += e->embedding[i];
    take_text(t, e);
}

static void on_gone(struct agent_fixture *f, struct try *t)
{
    t->n_gone++;
    if (!t->heard && !t->given_up) try_run_again(f, t);
}

static void on_events(struct agent_fixture *f, const struct grid_events *events)
{
    struct try *t = &f->tries[events->request - 1];
    assert_in_range(events->request, 1, f->n_tries);
    if (events->boot != f->boot || t->muted || t->ended) return;
    if (!events->first_seq) {
        on_gone(f, t);
        return;
    }
    t->heard = true;
    t->gap = events->first_seq > t->next_seq;
    for (size_t i = 0; i < events->n && !t->gap; i++) {
        if (events->first_seq + i != t->next_seq) continue;
        t->next_seq++;
        take(t, &events->v[i]);
    }
}

static void on_beat(struct agent_fixture *f, const struct grid_beat *beat)
{
    f->n_beats++;
    if (beat->n) f->beat = beat->v[0];
    for (size_t i = 0; i < beat->n; i++) {
        struct try *t = &f->tries[beat->v[i].request - 1];
        if (beat->v[i].last_seq >= t->next_seq) t->gap = true;
    }
}

static void on_answer_bytes(struct agent_fixture *f, const void *bytes, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena arena;
    struct grid_msg msg;
    sl_arena_init(&arena, GRID_MSG_ARENA_BYTES_MAX);
    check(grid_msg_decode(bytes, n, &arena, &msg, &err), &err);
    if (msg.type == GRID_EVENTS) on_events(f, &msg.events);
    if (msg.type == GRID_BEAT) on_beat(f, &msg.beat);
    sl_arena_done(&arena);
}

static void on_answer(void *ctx, const char *subject, const void *bytes, size_t n)
{
    assert_string_equal(subject, "sl.answer." AGENT_FIXTURE_GATEWAY "." AGENT_FIXTURE_SELF);
    travel(ctx, false, bytes, n);
}

static void on_report(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct agent_fixture *f = ctx;
    struct sl_err err = SL_ERR_INIT;
    struct grid_msg msg;
    bool cards = n && *(const char *)bytes == GRID_CARDS;
    struct sl_arena *arena = cards ? &f->cards_arena : &f->report_arena;
    assert_string_equal(subject, "sl.report." AGENT_FIXTURE_SELF);
    sl_arena_reset(arena);
    check(grid_msg_decode(bytes, n, arena, &msg, &err), &err);
    if (cards)
        f->cards = msg.cards;
    else
        f->report = msg.report;
    f->n_reports += !cards;
    f->n_cards += cards;
}

static void on_ping(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct agent_fixture *f = ctx;
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena arena;
    struct grid_msg msg;
    (void)subject;
    sl_arena_init(&arena, GRID_MSG_ARENA_BYTES_MAX);
    check(grid_msg_decode(bytes, n, &arena, &msg, &err), &err);
    f->n_pongs += msg.type == GRID_PONG;
    f->pong = msg.ping;
    sl_arena_done(&arena);
}

/* --- the gateway --- */

void try_run_again(struct agent_fixture *f, const struct try *t)
{
    const struct grid_msg msg = {.type = GRID_RUN, .run = t->run};
    agent_fixture_send(f, &msg);
}

struct try *try_run(struct agent_fixture *f, const struct node_submit *submit)
{
    assert_true(f->n_tries < TRIES_MAX);
    struct try *t = &f->tries[f->n_tries++];
    *t = (struct try){.next_seq = 1,
                      .run = {.boot = f->boot,
                              .request = f->n_tries,
                              .attempt = 1,
                              .sent = f->n_tries,
                              .digest = "",
                              .submit = *submit}};
    try_run_again(f, t);
    return t;
}

static void sync(struct agent_fixture *f)
{
    struct grid_sync_entry v[TRIES_MAX];
    struct grid_msg msg = {.type = GRID_SYNC, .sync = {.boot = f->boot, .v = v}};
    for (size_t i = 0; i < f->n_tries; i++) {
        struct try *t = &f->tries[i];
        if (t->muted || t->given_up) continue;
        v[msg.sync.n++] = (struct grid_sync_entry){.request = t->run.request,
                                                   .attempt = t->run.attempt,
                                                   .next_seq = t->next_seq,
                                                   .resend = t->gap || !t->heard};
        t->gap = false;
    }
    if (msg.sync.n) agent_fixture_send(f, &msg);
}

static void deliver(struct agent_fixture *f, struct mail *mail)
{
    struct sl_err err = SL_ERR_INIT;
    char *bytes = mail->bytes;
    size_t n = mail->n;
    mail->bytes = NULL;
    if (mail->to_agent) {
        const char *subject = "sl.run." AGENT_FIXTURE_SELF "." AGENT_FIXTURE_GATEWAY;
        check(bus_publish(f->bus, subject, bytes, n, &err), &err);
    } else {
        on_answer_bytes(f, bytes, n);
    }
    sl_free(bytes);
}

void agent_turn(struct agent_fixture *f)
{
    f->turn++;
    for (size_t i = 0; i < MAILS_MAX; i++)
        if (f->mails[i].bytes && f->mails[i].due <= f->turn) deliver(f, &f->mails[i]);
    if (f->turn % SYNC_TURNS == 0) sync(f);
    turn(&f->node);
}

void try_finish(struct agent_fixture *f, struct try *t)
{
    while (!t->ended) agent_turn(f);
}

const struct grid_hosted *agent_fixture_hosted(struct agent_fixture *f, const char *name)
{
    for (size_t i = 0; i < f->report.n_hosted; i++)
        if (!strcmp(f->report.hosted[i].name, name)) return &f->report.hosted[i];
    return NULL;
}

/* --- life --- */

static void on_drained(void *ctx)
{
    ((struct agent_fixture *)ctx)->n_drained++;
}

static void on_control(void *ctx, const struct grid_control *control)
{
    (void)control;
    ((struct agent_fixture *)ctx)->n_controls++;
}

static void fetch(void *ctx, const struct grid_control *control)
{
    struct agent_fixture *f = ctx;
    f->n_fetches++;
    snprintf(f->fetched, sizeof f->fetched, "%s@%s", control->model, control->digest);
}

void agent_fixture_init(struct agent_fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    memset(f, 0, sizeof *f);
    node_fixture_init(&f->node);
    node_fixture_start(&f->node);
    f->boot = 7;
    sl_arena_init(&f->report_arena, GRID_MSG_ARENA_BYTES_MAX);
    sl_arena_init(&f->cards_arena, GRID_MSG_ARENA_BYTES_MAX);
    /* The gateway is the bus's own member, so that what is for it needs no other. */
    const struct bus_cfg bus = {.loop = f->node.loop, .self = AGENT_FIXTURE_GATEWAY};
    check(bus_create(&bus, &f->bus, &err), &err);
    check(bus_subscribe(f->bus, "sl.answer." AGENT_FIXTURE_GATEWAY ".*", on_answer, f, &f->answers,
                        &err),
          &err);
    check(bus_subscribe(f->bus, "sl.report.*", on_report, f, &f->reports, &err), &err);
    check(bus_subscribe(f->bus, "sl.ping." AGENT_FIXTURE_GATEWAY ".*", on_ping, f, &f->pings, &err),
          &err);
    agent_cfg_default(&f->cfg);
    f->cfg.loop = f->node.loop;
    f->cfg.bus = f->bus;
    f->cfg.node = f->node.node;
    f->cfg.store = f->node.store;
    f->cfg.self = AGENT_FIXTURE_SELF;
    f->cfg.name = "desk";
    f->cfg.on_drained = on_drained;
    f->cfg.on_control = on_control;
    f->cfg.fetch = fetch;
    f->cfg.ctx = f;
    f->cfg.report_ns = f->cfg.beat_ns = INT64_C(20000000);
}

void agent_fixture_start(struct agent_fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    check(agent_create(&f->cfg, &f->agent, &err), &err);
}

void agent_fixture_done(struct agent_fixture *f)
{
    agent_destroy(f->agent);
    bus_unsubscribe(f->answers);
    bus_unsubscribe(f->reports);
    bus_unsubscribe(f->pings);
    bus_destroy(f->bus);
    for (size_t i = 0; i < MAILS_MAX; i++) sl_free(f->mails[i].bytes);
    sl_arena_done(&f->report_arena);
    sl_arena_done(&f->cards_arena);
    node_fixture_done(&f->node);
}
