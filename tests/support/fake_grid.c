/* fake_grid.c: see fake_grid.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "support/fake_grid.h"
#include "support/prop.h"

#define MS INT64_C(1000000)
#define REPORT_NS (1000 * MS)
#define BEAT_NS (250 * MS)
#define LOAD_NS (300 * MS)
#define MODEL_BYTES (FAKE_LAYERS * FAKE_LAYER_BYTES)
#define GATEWAY_BOOT 77

/* --- memory --- */

static void call_begins(struct fake_grid *grid)
{
    if (grid->poor && grid->n_calls++ == grid->poor / 5) sl_mem_fail_at(1 + grid->poor % 5, false);
}

static void call_ends(const struct fake_grid *grid)
{
    if (grid->poor) sl_mem_fail_at(0, false);
}

/* --- the answers --- */

static uint64_t prompt_hash(const char *text, size_t n)
{
    return sl_hash64(text, n, 1);
}

uint64_t fake_prompt(const char *text)
{
    return prompt_hash(text, strlen(text));
}

int32_t fake_length(uint64_t prompt, int32_t choice)
{
    return 1 +
           (int32_t)(sl_hash64(&prompt, sizeof prompt, (uint64_t)choice + 10) % FAKE_LENGTH_MAX);
}

static int32_t token_of(uint64_t prompt, int32_t choice, int32_t i)
{
    uint64_t seed = (uint64_t)choice << 32 | (uint32_t)i;
    return (int32_t)(sl_hash64(&prompt, sizeof prompt, seed) & 0x7fff);
}

/* --- the bus --- */

static bool before(const struct fake_message *a, const struct fake_message *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void heap_push(struct fake_grid *grid, struct fake_message message)
{
    assert_true(grid->n_messages < FAKE_MESSAGES_MAX);
    uint32_t at = grid->n_messages++;
    for (; at > 0 && before(&message, &grid->messages[(at - 1) / 2]); at = (at - 1) / 2)
        grid->messages[at] = grid->messages[(at - 1) / 2];
    grid->messages[at] = message;
}

static struct fake_message heap_pop(struct fake_grid *grid)
{
    struct fake_message first = grid->messages[0], last = grid->messages[--grid->n_messages];
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < grid->n_messages; at = child) {
        if (child + 1 < grid->n_messages &&
            before(&grid->messages[child + 1], &grid->messages[child]))
            child++;
        if (!before(&grid->messages[child], &last)) break;
        grid->messages[at] = grid->messages[child];
    }
    grid->messages[at] = last;
    return first;
}

static void post_once(struct fake_grid *grid, uint32_t number, bool to_node, const char *subject,
                      const void *bytes, size_t n)
{
    struct fake_node *node = &grid->nodes[number];
    int64_t *last_ns = to_node ? &node->last_to_ns : &node->last_from_ns;
    int64_t at_ns = grid->now_ns + (node->is_self ? 0 : node->delay_ns);
    if (at_ns < *last_ns) at_ns = *last_ns;
    *last_ns = at_ns;
    struct fake_message message = {.at_ns = at_ns,
                                   .order = grid->n_posted++,
                                   .node = number,
                                   .to_node = to_node,
                                   .bytes = sl_memdup(bytes, n),
                                   .n = n};
    snprintf(message.subject, sizeof message.subject, "%s", subject);
    if (message.bytes) heap_push(grid, message);
}

static void post(struct fake_grid *grid, uint32_t number, bool to_node, const char *subject,
                 const void *bytes, size_t n)
{
    const struct fake_node *node = &grid->nodes[number];
    bool lost = !grid->connection || node->cut ||
                (grid->loss_percent && prop_draw(100) < grid->loss_percent);
    if (lost && !node->is_self) {
        grid->n_lost++;
        return;
    }
    post_once(grid, number, to_node, subject, bytes, n);
    if (grid->twice_percent && prop_draw(100) < grid->twice_percent)
        post_once(grid, number, to_node, subject, bytes, n);
}

static sl_status publish(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct fake_grid *grid = ctx;
    char kind[16], to[GRID_ID_SIZE + 1];
    if (sscanf(subject, "sl.%15[^.].%16[^.].", kind, to) != 2) return SL_INVALID;
    for (uint32_t i = 0; i < grid->n_nodes; i++)
        if (!strcmp(grid->nodes[i].id, to)) post(grid, i, true, subject, bytes, n);
    return grid->connection ? SL_OK : SL_UNAVAILABLE;
}

static int64_t now_ns(void *ctx)
{
    const struct fake_grid *grid = ctx;
    return grid->now_ns;
}

static void wake_at(void *ctx, int64_t at_ns)
{
    struct fake_grid *grid = ctx;
    grid->wake_ns = at_ns;
}

static uint64_t connection(void *ctx)
{
    const struct fake_grid *grid = ctx;
    return grid->connection;
}

/* --- nodes --- */

static void say(struct fake_grid *grid, uint32_t number, const char *kind, bool to_all,
                const struct grid_msg *msg)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    char subject[64];
    const char *id = grid->nodes[number].id;
    sl_buf_init(&out, GRID_MSG_BYTES_MAX);
    assert_int_equal(grid_msg_encode(msg, &out, &err), SL_OK);
    if (to_all)
        snprintf(subject, sizeof subject, "sl.%s.%s", kind, id);
    else
        snprintf(subject, sizeof subject, "sl.%s.%s.%s", kind, grid->nodes[0].id, id);
    post(grid, number, false, subject, out.data, out.len);
    sl_buf_done(&out);
}

static void say_cards(struct fake_grid *grid, uint32_t number)
{
    const struct fake_node *node = &grid->nodes[number];
    struct grid_card cards[2] = {{.name = FAKE_MODEL,
                                  .digest = node->digest,
                                  .bytes = MODEL_BYTES,
                                  .memory_bytes = MODEL_BYTES,
                                  .format = "gguf",
                                  .family = "",
                                  .parameter_size = "",
                                  .quantization = "",
                                  .shape = grid->shape}};
    size_t n = node->has_file;
    if (node->lodger_bytes) {
        cards[n] = cards[0];
        cards[n].name = FAKE_LODGER;
        cards[n].digest = "lodger";
        cards[n].memory_bytes = node->lodger_bytes;
        cards[n++].shape = NULL;
    }
    const struct grid_msg msg = {.type = GRID_CARDS,
                                 .cards = {.boot = node->boot, .version = 1, .v = cards, .n = n}};
    say(grid, number, "report", true, &msg);
}

static void count_attempts(const struct fake_node *node, struct hosted_load *load)
{
    for (int i = 0; i < FAKE_ATTEMPTS_MAX; i++) {
        if (!node->attempts[i].used || node->attempts[i].ended) continue;
        if (load->n_running < node->n_slots)
            load->n_running++;
        else
            load->n_waiting++;
    }
}

/* --- chains --- */

static struct fake_node *node_by_id(struct fake_grid *grid, const char *id)
{
    for (uint32_t i = 0; i < grid->n_nodes; i++)
        if (!strcmp(grid->nodes[i].id, id)) return &grid->nodes[i];
    return NULL;
}

static bool members_live(struct fake_grid *grid, const struct grid_split *chain)
{
    for (size_t i = 0; i < chain->n_stages; i++)
        if (!node_by_id(grid, chain->stages[i].member)->alive) return false;
    return true;
}

static uint64_t stage_bytes(const struct fake_grid *grid, const struct grid_stage *stage)
{
    int32_t n_layer = grid->shape ? grid->shape->n_layer : 1;
    return MODEL_BYTES / (uint64_t)n_layer * (uint64_t)(stage->last - stage->first);
}

/* What the node runs for others. */
static size_t stages_at(struct fake_grid *grid, const struct fake_node *node,
                        struct grid_stage_hosted *out)
{
    size_t n = 0;
    for (uint32_t i = 0; i < grid->n_nodes; i++) {
        const struct fake_node *head = &grid->nodes[i];
        for (size_t k = 1; head->alive && head->chain && k < head->chain->n_stages; k++) {
            const struct grid_stage *stage = &head->chain->stages[k];
            if (strcmp(stage->member, node->id) != 0) continue;
            out[n++] = (struct grid_stage_hosted){.chain = "c",
                                                  .model = FAKE_MODEL,
                                                  .head = head->id,
                                                  .first = stage->first,
                                                  .last = stage->last,
                                                  .bytes = stage_bytes(grid, stage),
                                                  .state = SCHED_READY};
        }
    }
    return n;
}

static void measure_hops(struct fake_grid *grid, const struct fake_node *head,
                         struct grid_hop hops[SPLIT_STAGES_MAX])
{
    for (size_t i = 0; i < head->chain->n_stages; i++) {
        double slow = node_by_id(grid, head->chain->stages[i].member)->slow;
        hops[i] = (struct grid_hop){.compute_s = grid->stage_s * (slow > 0 ? slow : 1),
                                    .bytes = 2.0 * grid->shape->n_embd,
                                    .load = 0.5};
    }
}

static size_t peers_of(struct fake_grid *grid, const struct fake_node *node,
                       struct grid_peer peers[FAKE_NODES_MAX])
{
    size_t n = 0;
    for (uint32_t i = 0; i < grid->n_nodes && node->rtt_s > 0; i++)
        if (&grid->nodes[i] != node)
            peers[n++] = (struct grid_peer){grid->nodes[i].id, node->rtt_s, 1e9};
    return n;
}

static void chain_forget(struct fake_node *node)
{
    sl_free(node->chain);
    node->chain = NULL;
    node->chain_broken = false;
}

static void chain_take(struct fake_grid *grid, struct fake_node *node,
                       const struct grid_split *split)
{
    if (grid_split_equal(node->chain, split) && !node->chain_broken) return;
    chain_forget(node);
    node->chain = grid_split_copy(split);
    assert_non_null(node->chain);
    memset(node->attempts, 0, sizeof node->attempts);
    node->hosts = false;
    node->n_loads++;
    node->ready_ns = grid->now_ns + LOAD_NS;
}

static void chain_turn(struct fake_grid *grid, struct fake_node *node)
{
    if (!node->chain || node->chain_broken || members_live(grid, node->chain)) return;
    node->chain_broken = true;
    node->hosts = false;
    node->ready_ns = 0;
    node->report_ns = grid->now_ns;
    for (int i = 0; i < FAKE_ATTEMPTS_MAX; i++) node->attempts[i].used = false;
}

struct fake_node *fake_chain_head(struct fake_grid *grid)
{
    for (uint32_t i = 0; i < grid->n_nodes; i++)
        if (grid->nodes[i].alive && grid->nodes[i].chain) return &grid->nodes[i];
    return NULL;
}

/* --- what nodes say --- */

static void fill_hosted(struct fake_grid *grid, const struct fake_node *node, struct grid_hop *hops,
                        struct grid_hosted *hosted)
{
    *hosted = (struct grid_hosted){.name = FAKE_MODEL,
                                   .digest = node->digest,
                                   .load = {.state = node->hosts ? SCHED_READY : SCHED_LOADING,
                                            .n_slots = node->n_slots,
                                            .n_queue_max = node->n_queue},
                                   .bytes = MODEL_BYTES,
                                   .last_error = "",
                                   .split = node->chain};
    if (node->fails_to_load) {
        hosted->load.state = SCHED_FAILED;
        hosted->last_error = "the file is cut short";
    }
    if (!node->chain) return;
    hosted->bytes = stage_bytes(grid, &node->chain->stages[0]);
    if (node->chain_broken) hosted->load.state = SCHED_FAILED;
    if (node->chain_broken) hosted->last_error = "a stage is gone";
    if (node->hosts && grid->stage_s > 0) {
        measure_hops(grid, node, hops);
        hosted->hops = hops;
    }
}

/* What members were told to load is pinned there. */
static void fill_lodger(const struct fake_node *node, struct grid_hosted *hosted)
{
    *hosted = (struct grid_hosted){
        .name = FAKE_LODGER,
        .digest = "lodger",
        .load = {.state = SCHED_READY, .n_slots = 8, .n_running = node->lodger_busy},
        .bytes = node->lodger_bytes,
        .pinned = true,
        .last_error = ""};
}

static void say_report(struct fake_grid *grid, uint32_t number)
{
    struct fake_node *node = &grid->nodes[number];
    struct grid_hop hops[SPLIT_STAGES_MAX];
    struct grid_stage_hosted stages[FAKE_NODES_MAX];
    struct grid_peer peers[FAKE_NODES_MAX];
    struct grid_hosted hosted[2];
    const struct grid_covers covers = {grid->nodes[0].id, GATEWAY_BOOT, node->sent};
    fill_hosted(grid, node, hops, &hosted[0]);
    count_attempts(node, &hosted[0].load);
    struct grid_msg msg = {
        .type = GRID_REPORT,
        .report = {.boot = node->boot,
                   .version = ++node->version,
                   .name = node->id,
                   .address = "",
                   .program = "",
                   .site = "",
                   .facts = {.memory_bytes = node->memory_bytes},
                   .covers = &covers,
                   .n_covers = 1,
                   .hosted = hosted,
                   .n_hosted =
                       node->hosts || node->ready_ns || node->fails_to_load || node->chain_broken,
                   .stages = stages,
                   .n_stages = stages_at(grid, node, stages),
                   .peers = peers,
                   .n_peers = peers_of(grid, node, peers),
                   .machine = node->machine.memory_bytes_s > 0 ? &node->machine : NULL}};
    if (node->lodger_bytes) fill_lodger(node, &hosted[msg.report.n_hosted++]);
    for (size_t i = 0; i < msg.report.n_hosted; i++)
        msg.report.memory_used_bytes += hosted[i].bytes;
    for (size_t i = 0; i < msg.report.n_stages; i++)
        msg.report.memory_used_bytes += stages[i].bytes;
    node->report_ns = grid->now_ns + REPORT_NS;
    say(grid, number, "report", true, &msg);
    if (node->version % 10 == 1) say_cards(grid, number);
}

static void say_events(struct fake_grid *grid, uint32_t number, const struct fake_attempt *attempt,
                       size_t from)
{
    const struct grid_msg msg = {.type = GRID_EVENTS,
                                 .events = {.boot = attempt->boot,
                                            .request = attempt->request,
                                            .attempt = attempt->attempt,
                                            .first_seq = from + 1,
                                            .v = &attempt->events[from],
                                            .n = attempt->n_events - from}};
    if (from < attempt->n_events) say(grid, number, "answer", false, &msg);
}

static struct grid_event *event_add(struct fake_attempt *attempt, enum node_event_type type)
{
    static const struct chat_traits traits = {.thinks = false};
    assert_true(attempt->n_events < FAKE_EVENTS_MAX);
    struct grid_event *event = &attempt->events[attempt->n_events++];
    *event = (struct grid_event){.type = GRID_EVENT_NODE, .node = {.type = type}};
    if (type == NODE_EVENT_STARTED) event->node.traits = &traits;
    if (type == NODE_EVENT_STARTED) event->node.n_prompt = 12;
    if (type == NODE_EVENT_FAILED) event->node.message = "it failed";
    if (type == NODE_EVENT_DONE) event->node.n_attempts = 1;
    attempt->ended = type == NODE_EVENT_DONE || type == NODE_EVENT_FAILED;
    return event;
}

/* One more token of each choice that is not done; at the end what ends it. */
static void generate(struct fake_node *node, struct fake_attempt *attempt)
{
    int32_t n_done = 0;
    if (attempt->n_events == 0) event_add(attempt, NODE_EVENT_STARTED);
    for (int32_t c = 0; c < attempt->n_choices; c++) {
        if (attempt->choice_done[c]) {
            n_done++;
            continue;
        }
        if (attempt->n_done[c] < fake_length(attempt->prompt, c)) {
            struct grid_event *event = event_add(attempt, NODE_EVENT_TOKEN);
            event->node.choice = c;
            event->node.token = token_of(attempt->prompt, c, attempt->n_done[c]++);
            event->node.text = "x";
            event->node.n_text = 1;
        } else {
            struct grid_event *event = event_add(attempt, NODE_EVENT_CHOICE_DONE);
            event->node.choice = c;
            event->node.n_generated = attempt->n_done[c];
            attempt->choice_done[c] = true;
        }
    }
    if (node->fail_status != SL_OK)
        event_add(attempt, NODE_EVENT_FAILED)->node.status = node->fail_status;
    else if (n_done == attempt->n_choices)
        event_add(attempt, NODE_EVENT_DONE);
}

static void produce(struct fake_node *node, struct fake_attempt *attempt)
{
    static const float vector[2] = {1, 0};
    if (attempt->task == NODE_GENERATE) {
        generate(node, attempt);
        return;
    }
    if (attempt->task == NODE_EMBED) {
        struct grid_event *event = event_add(attempt, NODE_EVENT_RESULT);
        event->node.embedding = vector;
        event->node.n_embd = 2;
    }
    event_add(attempt, NODE_EVENT_DONE);
}

static struct fake_attempt *attempt_find(struct fake_node *node, uint64_t request, uint32_t attempt)
{
    for (int i = 0; i < FAKE_ATTEMPTS_MAX; i++)
        if (node->attempts[i].used && node->attempts[i].request == request &&
            node->attempts[i].attempt == attempt)
            return &node->attempts[i];
    return NULL;
}

static void say_end(struct fake_grid *grid, uint32_t number, enum grid_event_type type,
                    uint64_t request, uint32_t attempt, sl_status status)
{
    const struct grid_event event = {
        .type = type, .node = {.status = status, .message = "full", .retry_after_ms = 100}};
    const struct grid_msg msg = {.type = GRID_EVENTS,
                                 .events = {.boot = GATEWAY_BOOT,
                                            .request = request,
                                            .attempt = attempt,
                                            .first_seq = type == GRID_EVENT_REFUSED,
                                            .v = &event,
                                            .n = 1}};
    say(grid, number, "answer", false, &msg);
}

static void on_run(struct fake_grid *grid, uint32_t number, const struct grid_run *run)
{
    struct fake_node *node = &grid->nodes[number];
    struct fake_attempt *attempt = attempt_find(node, run->request, run->attempt);
    const struct node_submit *submit = &run->submit;
    struct hosted_load load = {0};
    if (run->sent > node->sent) node->sent = run->sent;
    node->n_runs++;
    if (attempt) {
        say_events(grid, number, attempt, attempt->n_trimmed);
        return;
    }
    assert_string_equal(run->digest, node->digest);
    assert_string_equal(submit->model, FAKE_MODEL);
    assert_non_null(submit->sampler);
    count_attempts(node, &load);
    if (!node->hosts || load.n_running + load.n_waiting >= node->n_slots + node->n_queue ||
        prop_draw(100) < node->refuse_percent) {
        say_end(grid, number, GRID_EVENT_REFUSED, run->request, run->attempt, SL_BUSY);
        return;
    }
    for (int i = 0; i < FAKE_ATTEMPTS_MAX; i++)
        if (!node->attempts[i].used) attempt = &node->attempts[i];
    assert_non_null(attempt);
    *attempt = (struct fake_attempt){.used = true,
                                     .request = run->request,
                                     .attempt = run->attempt,
                                     .boot = run->boot,
                                     .prompt = prompt_hash(submit->text, submit->n_text),
                                     .task = submit->task,
                                     .n_choices = submit->n_choices > 1 ? submit->n_choices : 1,
                                     .next_ns = grid->now_ns + node->token_ns};
    for (int32_t c = 0; submit->resume && c < attempt->n_choices; c++) {
        attempt->n_done[c] = (int32_t)submit->resume[c].n_tokens;
        attempt->choice_done[c] = submit->resume[c].done;
        for (int32_t i = 0; i < attempt->n_done[c]; i++)
            assert_int_equal(submit->resume[c].tokens[i], token_of(attempt->prompt, c, i));
    }
}

static void on_sync(struct fake_grid *grid, uint32_t number, const struct grid_sync *sync)
{
    struct fake_node *node = &grid->nodes[number];
    for (size_t i = 0; i < sync->n; i++) {
        const struct grid_sync_entry *entry = &sync->v[i];
        struct fake_attempt *attempt = attempt_find(node, entry->request, entry->attempt);
        if (!attempt) {
            say_end(grid, number, GRID_EVENT_GONE, entry->request, entry->attempt, SL_OK);
            continue;
        }
        assert_true(entry->next_seq >= 1 && entry->next_seq <= attempt->n_events + 1);
        if (entry->next_seq - 1 > attempt->n_trimmed) attempt->n_trimmed = entry->next_seq - 1;
        if (entry->resend) say_events(grid, number, attempt, attempt->n_trimmed);
        if (attempt->ended && attempt->n_trimmed == attempt->n_events) attempt->used = false;
    }
}

static void on_control(struct fake_grid *grid, uint32_t number, const struct grid_control *control)
{
    struct fake_node *node = &grid->nodes[number];
    if (!strcmp(control->model, FAKE_LODGER)) {
        assert_int_equal(control->kind, GRID_CONTROL_UNLOAD);
        node->lodger_bytes = 0;
    } else if (control->kind == GRID_CONTROL_LOAD && control->split) {
        assert_string_equal(control->split->stages[0].member, node->id);
        chain_take(grid, node, control->split);
    } else if (control->kind == GRID_CONTROL_LOAD && !node->hosts && !node->ready_ns) {
        node->n_loads++;
        node->ready_ns = grid->now_ns + LOAD_NS;
    } else if (control->kind == GRID_CONTROL_UNLOAD && (node->hosts || node->chain)) {
        node->n_unloads++;
        node->hosts = false;
        node->ready_ns = 0;
        chain_forget(node);
    }
    say_report(grid, number);
}

static void node_receive(struct fake_grid *grid, uint32_t number, const void *bytes, size_t n)
{
    struct fake_node *node = &grid->nodes[number];
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena arena;
    struct grid_msg msg;
    if (!node->alive) return;
    sl_arena_init(&arena, GRID_MSG_ARENA_BYTES_MAX);
    assert_int_equal(grid_msg_decode(bytes, n, &arena, &msg, &err), SL_OK);
    if (msg.type == GRID_RUN) on_run(grid, number, &msg.run);
    if (msg.type == GRID_SYNC) on_sync(grid, number, &msg.sync);
    if (msg.type == GRID_SYNC && !msg.sync.n) say_cards(grid, number);
    if (msg.type == GRID_CONTROL) on_control(grid, number, &msg.control);
    if (msg.type == GRID_STOP) {
        struct fake_attempt *attempt = attempt_find(node, msg.stop.request, msg.stop.attempt);
        if (attempt) attempt->used = false;
    }
    if (msg.type == GRID_PING) {
        msg.type = GRID_PONG;
        say(grid, number, "ping", false, &msg);
    }
    sl_arena_done(&arena);
}

static void say_beat(struct fake_grid *grid, uint32_t number)
{
    struct fake_node *node = &grid->nodes[number];
    struct grid_beat_entry entries[FAKE_ATTEMPTS_MAX];
    struct grid_msg msg = {.type = GRID_BEAT, .beat = {.boot = GATEWAY_BOOT, .v = entries}};
    node->beat_ns = grid->now_ns + BEAT_NS;
    for (int i = 0; i < FAKE_ATTEMPTS_MAX; i++) {
        const struct fake_attempt *attempt = &node->attempts[i];
        if (!attempt->used) continue;
        entries[msg.beat.n++] =
            (struct grid_beat_entry){.request = attempt->request,
                                     .attempt = attempt->attempt,
                                     .state = attempt->ended ? GRID_ENDED : GRID_RUNNING,
                                     .last_seq = attempt->n_events};
    }
    if (msg.beat.n) say(grid, number, "answer", false, &msg);
}

static void node_turn(struct fake_grid *grid, uint32_t number)
{
    struct fake_node *node = &grid->nodes[number];
    if (!node->alive) return;
    chain_turn(grid, node);
    if (node->ready_ns && grid->now_ns >= node->ready_ns) {
        node->ready_ns = 0;
        node->hosts = !node->fails_to_load;
        say_report(grid, number);
    }
    if (grid->now_ns >= node->report_ns) say_report(grid, number);
    if (grid->now_ns >= node->beat_ns) say_beat(grid, number);
    uint32_t n_running = 0;
    for (int i = 0; i < FAKE_ATTEMPTS_MAX; i++) {
        struct fake_attempt *attempt = &node->attempts[i];
        if (!attempt->used || attempt->ended || ++n_running > node->n_slots ||
            grid->now_ns < attempt->next_ns)
            continue;
        size_t from = attempt->n_events;
        attempt->next_ns = grid->now_ns + node->token_ns;
        produce(node, attempt);
        say_events(grid, number, attempt, from);
    }
}

static int64_t node_next_ns(const struct fake_node *node)
{
    int64_t at_ns = node->report_ns < node->beat_ns ? node->report_ns : node->beat_ns;
    if (!node->alive) return INT64_MAX;
    if (node->ready_ns && node->ready_ns < at_ns) at_ns = node->ready_ns;
    uint32_t n_running = 0;
    for (int i = 0; i < FAKE_ATTEMPTS_MAX; i++) {
        const struct fake_attempt *attempt = &node->attempts[i];
        if (attempt->used && !attempt->ended && ++n_running <= node->n_slots &&
            attempt->next_ns < at_ns)
            at_ns = attempt->next_ns;
    }
    return at_ns;
}

void fake_node_die(struct fake_node *node)
{
    node->alive = node->hosts = false;
    node->ready_ns = 0;
    chain_forget(node);
    memset(node->attempts, 0, sizeof node->attempts);
}

void fake_node_start(struct fake_grid *grid, struct fake_node *node)
{
    if (node->alive) return;
    node->alive = node->hosts = true;
    node->boot++;
    node->version = node->sent = 0;
    node->report_ns = node->beat_ns = grid->now_ns;
}

/* --- the grid --- */

void fake_grid_begin(struct fake_grid *grid, uint32_t n_nodes)
{
    memset(grid, 0, sizeof *grid);
    grid->now_ns = 5000 * MS;
    grid->wake_ns = INT64_MAX;
    grid->connection = grid->n_connections = 1;
    grid->n_nodes = n_nodes;
    for (uint32_t i = 0; i < n_nodes; i++) {
        struct fake_node *node = &grid->nodes[i];
        *node = (struct fake_node){.alive = true,
                                   .hosts = true,
                                   .has_file = true,
                                   .is_self = i == 0,
                                   .boot = 1000,
                                   .memory_bytes = 4 * MODEL_BYTES,
                                   .n_slots = 4,
                                   .n_queue = 4,
                                   .token_ns = 20 * MS,
                                   .delay_ns = 2 * MS,
                                   .digest = "d1"};
        snprintf(node->id, sizeof node->id, "n%u", i);
        node->report_ns = node->beat_ns = grid->now_ns;
    }
    dispatch_cfg_default(&grid->cfg);
    grid->cfg.self = grid->nodes[0].id;
    grid->cfg.boot = GATEWAY_BOOT;
    grid->cfg.seed = 1;
}

struct dispatch_world fake_world(struct fake_grid *grid)
{
    return (struct dispatch_world){grid, now_ns, wake_at, publish, connection};
}

void fake_grid_create(struct fake_grid *grid)
{
    struct sl_err err = SL_ERR_INIT;
    const struct dispatch_world world = fake_world(grid);
    struct dispatch_cfg cfg = grid->cfg;
    cfg.world = &world;
    assert_int_equal(dispatch_create(&cfg, &grid->dispatch, &err), SL_OK);
}

void fake_grid_splits(struct fake_grid *grid)
{
    static uint64_t layer_bytes[FAKE_LAYERS];
    static const struct split_model shape = {.n_layer = FAKE_LAYERS,
                                             .n_embd = 256,
                                             .layer_bytes = layer_bytes,
                                             .kv_bytes = 64,
                                             .layer_flops = 1e8,
                                             .attn_flops = 100,
                                             .active = 1,
                                             .weight = SPLIT_F16,
                                             .head_weight = SPLIT_F16};
    for (int i = 0; i < FAKE_LAYERS; i++) layer_bytes[i] = FAKE_LAYER_BYTES;
    grid->shape = &shape;
}

void fake_grid_end(struct fake_grid *grid)
{
    dispatch_destroy(grid->dispatch);
    for (uint32_t i = 0; i < grid->n_nodes; i++) chain_forget(&grid->nodes[i]);
    while (grid->n_messages) sl_free(heap_pop(grid).bytes);
}

static void deliver(struct fake_grid *grid)
{
    struct fake_message message = heap_pop(grid);
    if (message.to_node) {
        node_receive(grid, message.node, message.bytes, message.n);
    } else {
        call_begins(grid);
        dispatch_receive(grid->dispatch, message.subject, message.bytes, message.n);
        call_ends(grid);
    }
    sl_free(message.bytes);
}

/* Carries out whatever is next, if it is due by then. */
static bool turn(struct fake_grid *grid, int64_t until_ns)
{
    int64_t at_ns = grid->wake_ns;
    uint32_t next = FAKE_NODES_MAX;
    if (grid->n_messages && grid->messages[0].at_ns < at_ns) at_ns = grid->messages[0].at_ns;
    for (uint32_t i = 0; i < grid->n_nodes; i++)
        if (node_next_ns(&grid->nodes[i]) < at_ns) {
            at_ns = node_next_ns(&grid->nodes[i]);
            next = i;
        }
    if (at_ns > until_ns) return false;
    if (at_ns > grid->now_ns) grid->now_ns = at_ns;
    if (next < grid->n_nodes) {
        node_turn(grid, next);
    } else if (grid->n_messages && grid->messages[0].at_ns <= at_ns) {
        deliver(grid);
    } else {
        grid->wake_ns = INT64_MAX;
        call_begins(grid);
        dispatch_tick(grid->dispatch);
        call_ends(grid);
    }
    return true;
}

void fake_grid_run(struct fake_grid *grid, int64_t for_ns)
{
    int64_t until_ns = grid->now_ns + for_ns;
    while (turn(grid, until_ns)) {
    }
    grid->now_ns = until_ns;
}

bool fake_grid_run_until_ended(struct fake_grid *grid, const struct fake_client *client,
                               int64_t at_most_ns)
{
    int64_t until_ns = grid->now_ns + at_most_ns;
    while (!client->ended && turn(grid, until_ns)) {
    }
    return client->ended;
}

/* --- clients --- */

void fake_client_init(struct fake_client *client, const char *text)
{
    *client = (struct fake_client){.n_choices = 1, .cancel_after = -1};
    snprintf(client->text, sizeof client->text, "%s", text);
}

static void on_token(struct fake_client *client, const struct node_event *event)
{
    uint64_t prompt = prompt_hash(client->text, strlen(client->text));
    assert_true(client->started);
    assert_in_range(event->choice, 0, client->n_choices - 1);
    assert_false(client->choice_done[event->choice]);
    int32_t i = client->n_tokens[event->choice]++;
    assert_int_equal(event->token, token_of(prompt, event->choice, i));
}

static void on_choice_done(struct fake_client *client, const struct node_event *event)
{
    uint64_t prompt = prompt_hash(client->text, strlen(client->text));
    assert_in_range(event->choice, 0, client->n_choices - 1);
    assert_false(client->choice_done[event->choice]);
    client->choice_done[event->choice] = true;
    assert_int_equal(client->n_tokens[event->choice], fake_length(prompt, event->choice));
}

static void on_event(void *ctx, const struct node_event *event)
{
    struct fake_client *client = ctx;
    assert_false(client->ended || client->cancelled);
    switch (event->type) {
    case NODE_EVENT_STARTED:
        assert_false(client->started);
        assert_non_null(event->traits);
        client->started = true;
        break;
    case NODE_EVENT_TOKEN: on_token(client, event); break;
    case NODE_EVENT_CHOICE_DONE: on_choice_done(client, event); break;
    case NODE_EVENT_RESULT:
        assert_false(client->result);
        client->result = true;
        break;
    case NODE_EVENT_DONE:
    case NODE_EVENT_FAILED:
        client->ended = true;
        client->end = *event;
        snprintf(client->message, sizeof client->message, "%s",
                 event->message ? event->message : "");
        break;
    }
    if (client->cancel_after < 0 || client->n_tokens[0] < client->cancel_after) return;
    client->cancelled = !client->ended;
    dispatch_cancel(client->request);
}

sl_status fake_submit(struct fake_grid *grid, struct fake_client *client, struct sl_err *err)
{
    const struct node_submit submit = {.task = client->task,
                                       .model = "parrot",
                                       .qos = client->qos,
                                       .request_id = client->text,
                                       .text = client->text,
                                       .n_text = strlen(client->text),
                                       .n_choices = client->n_choices};
    client->grid = grid;
    call_begins(grid);
    sl_status status = dispatch_submit(grid->dispatch, &submit, on_event, client, &client->request,
                                       &client->retry_after_ms, err);
    call_ends(grid);
    return status;
}

void fake_client_check(const struct fake_client *client)
{
    if (client->end.type != NODE_EVENT_DONE) print_error("%s\n", client->message);
    assert_true(client->ended);
    assert_int_equal(client->end.type, NODE_EVENT_DONE);
    int32_t n_generated = 0;
    for (int32_t c = 0; c < client->n_choices && client->task == NODE_GENERATE; c++) {
        assert_true(client->choice_done[c]);
        n_generated += client->n_tokens[c];
    }
    assert_int_equal(client->end.n_generated, n_generated);
    if (client->task == NODE_EMBED) assert_true(client->result);
}
