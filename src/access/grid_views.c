#include "access/grid_views.h"
#include "access/gateway_int.h"
#include "grid/dispatch.h"
#include "grid/membership.h"
#include "grid/telemetry.h"

#include <string.h>

#define ANSWER_MAX (64u << 20)

bool grid_view_admits(struct call *call)
{
    const struct gateway_cfg *cfg = &call->gateway->cfg;
    const char *credential = http_request_header(call->request, "authorization");
    if (cfg->membership && membership_is_admin(cfg->membership, credential)) return true;
    return call_check_key(call);
}

/* NULL: this machine is in no grid, or the caller may not look, and the call has failed. */
static struct dispatch *dispatch_of(struct call *call)
{
    struct dispatch *dispatch = grid_dispatch(call->gateway->cfg.grid);
    if (!grid_view_admits(call)) return NULL;
    if (!dispatch)
        call_fail(call, SL_NOT_FOUND, NULL, "no_grid",
                  "this server is one machine, not a grid: `starlane up` opens one");
    return dispatch;
}

/* A time that may be unknown. */
static void put_ms(struct sl_json *json, const char *key, double seconds)
{
    sl_json_key(json, key);
    if (seconds >= 0)
        sl_json_num(json, 1000 * seconds);
    else
        sl_json_null(json);
}

/* --- nodes --- */

static void put_labels(struct sl_json *json, const struct dispatch_member *member)
{
    sl_json_key(json, "labels");
    sl_json_array(json);
    for (size_t i = 0; i < member->n_labels; i++) sl_json_str(json, member->labels[i]);
    sl_json_array_end(json);
}

/* A number that may be unknown. */
static void put_known(struct sl_json *json, const char *key, double value)
{
    sl_json_key(json, key);
    if (telemetry_known(value))
        sl_json_num(json, value);
    else
        sl_json_null(json);
}

static void put_accelerators(struct sl_json *json, const struct telemetry_sample *t)
{
    sl_json_key(json, "accelerators");
    sl_json_array(json);
    for (int i = 0; i < t->n_accelerators; i++) {
        const struct telemetry_accelerator *a = &t->accelerators[i];
        sl_json_object(json);
        sl_json_kv_str(json, "vendor", telemetry_vendor_name(a->vendor));
        sl_json_kv_str(json, "name", a->name);
        put_known(json, "utilisation", a->utilisation);
        put_known(json, "memory_used_bytes", a->memory_used_bytes);
        put_known(json, "memory_total_bytes", a->memory_total_bytes);
        put_known(json, "watts", a->watts);
        put_known(json, "celsius", a->celsius);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

static void put_telemetry(struct sl_json *json, const struct telemetry_sample *t)
{
    sl_json_key(json, "telemetry");
    sl_json_object(json);
    put_known(json, "cpus", t->cpus);
    put_known(json, "cpu_fraction", t->cpu_fraction);
    put_known(json, "load_1m", t->load_1m);
    put_known(json, "memory_total_bytes", t->memory_total_bytes);
    put_known(json, "memory_available_bytes", t->memory_available_bytes);
    put_known(json, "net_in_bytes_per_s", t->net_in_bytes_s);
    put_known(json, "net_out_bytes_per_s", t->net_out_bytes_s);
    put_known(json, "disk_total_bytes", t->disk_total_bytes);
    put_known(json, "disk_free_bytes", t->disk_free_bytes);
    put_known(json, "disk_read_bytes_per_s", t->disk_read_bytes_s);
    put_known(json, "disk_write_bytes_per_s", t->disk_write_bytes_s);
    put_known(json, "watts", t->watts);
    sl_json_kv_str(json, "watts_are", telemetry_power_name(t->power));
    put_known(json, "joules", telemetry_known(t->watts) ? t->joules : TELEMETRY_UNKNOWN);
    put_accelerators(json, t);
    sl_json_object_end(json);
}

static void put_peers(struct sl_json *json, const struct grid_report *report)
{
    sl_json_key(json, "peers");
    sl_json_array(json);
    for (size_t i = 0; i < report->n_peers; i++) {
        sl_json_object(json);
        sl_json_kv_str(json, "id", report->peers[i].id);
        put_ms(json, "rtt_ms", report->peers[i].rtt_s);
        put_known(json, "bytes_per_s",
                  report->peers[i].bytes_per_s > 0 ? report->peers[i].bytes_per_s
                                                   : TELEMETRY_UNKNOWN);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

/* A chain whose head it is; how it was planned is in /grid/v1/explain. */
static void put_split(struct sl_json *json, const struct grid_hosted *hosted)
{
    const struct grid_split *split = hosted->split;
    if (!split) return;
    sl_json_key(json, "stages");
    sl_json_array(json);
    for (size_t i = 0; i < split->n_stages; i++) {
        sl_json_object(json);
        sl_json_kv_str(json, "member", split->stages[i].member);
        sl_json_kv_int(json, "first", split->stages[i].first);
        sl_json_kv_int(json, "last", split->stages[i].last);
        if (hosted->hops) {
            sl_json_kv_num(json, "compute_ms", 1000 * hosted->hops[i].compute_s);
            sl_json_kv_num(json, "hop_ms", 1000 * hosted->hops[i].hop_s);
        }
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

/* What it runs in others' chains, without models that the caller may not use. */
static void put_stages(const struct call *call, struct sl_json *json,
                       const struct grid_report *report)
{
    sl_json_key(json, "stages");
    sl_json_array(json);
    for (size_t i = 0; i < report->n_stages; i++) {
        const struct grid_stage_hosted *stage = &report->stages[i];
        if (!call_allows(call, stage->model)) continue;
        sl_json_object(json);
        sl_json_kv_str(json, "model", stage->model);
        sl_json_kv_str(json, "head", stage->head);
        sl_json_kv_str(json, "state", sched_model_state_name(stage->state));
        sl_json_kv_int(json, "first", stage->first);
        sl_json_kv_int(json, "last", stage->last);
        sl_json_kv_int(json, "bytes", (int64_t)stage->bytes);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

static void put_machine(struct sl_json *json, const struct split_machine *machine)
{
    if (!machine) return;
    sl_json_key(json, "speed");
    sl_json_object(json);
    for (int i = 0; i < SPLIT_WEIGHT_COUNT; i++) {
        const struct split_speed *speed = &machine->speed[i];
        if (speed->bytes_s <= 0) continue;
        sl_json_key(json, split_weight_name((enum split_weight)i));
        sl_json_object(json);
        sl_json_kv_num(json, "bytes_per_s", speed->bytes_s);
        sl_json_key(json, "flops_per_s");
        sl_json_array(json);
        for (int k = 0; k < SPLIT_CURVE; k++) sl_json_num(json, speed->flops_s[k]);
        sl_json_array_end(json);
        sl_json_object_end(json);
    }
    sl_json_kv_num(json, "disk_bytes_per_s", machine->disk_bytes_s);
    sl_json_object_end(json);
}

static void put_hosted(struct sl_json *json, const struct grid_hosted *hosted)
{
    const struct hosted_load *load = &hosted->load;
    sl_json_object(json);
    sl_json_kv_str(json, "name", hosted->name);
    sl_json_kv_str(json, "digest", hosted->digest);
    sl_json_kv_str(json, "state", sched_model_state_name(load->state));
    if (load->state == SCHED_LOADING) sl_json_kv_num(json, "progress", hosted->load_fraction);
    sl_json_kv_bool(json, "pinned", hosted->pinned);
    sl_json_kv_int(json, "bytes", (int64_t)hosted->bytes);
    sl_json_kv_int(json, "slots", load->n_slots);
    sl_json_kv_int(json, "running", load->n_running);
    sl_json_kv_int(json, "waiting", load->n_waiting);
    sl_json_kv_int(json, "prefill_backlog_tokens", (int64_t)load->prefill_backlog);
    sl_json_kv_int(json, "kv_tokens_max", (int64_t)load->kv_tokens_max);
    sl_json_kv_int(json, "kv_tokens_used", (int64_t)load->kv_tokens_used);
    sl_json_kv_num(json, "prefill_tokens_per_s", load->prefill_tps);
    sl_json_kv_num(json, "decode_tokens_per_s", load->decode_tps);
    sl_json_kv_num(json, "tokens_per_s", hosted->tokens_per_s);
    sl_json_kv_num(json, "service_s", load->service_s);
    if (*hosted->last_error) sl_json_kv_str(json, "last_error", hosted->last_error);
    put_split(json, hosted);
    sl_json_object_end(json);
}

/* Without the models that the caller may not use. */
static void put_report(const struct call *call, struct sl_json *json,
                       const struct grid_report *report)
{
    sl_json_kv_str(json, "duty", node_duty_name(report->facts.duty));
    sl_json_kv_int(json, "memory_bytes", (int64_t)report->facts.memory_bytes);
    sl_json_kv_int(json, "memory_used_bytes", (int64_t)report->memory_used_bytes);
    sl_json_kv_num(json, "price_kwh", report->facts.price_kwh);
    sl_json_kv_num(json, "price_mtok", report->facts.price_mtok);
    if (report->telemetry) put_telemetry(json, report->telemetry);
    put_peers(json, report);
    sl_json_key(json, "models");
    sl_json_array(json);
    for (size_t i = 0; i < report->n_hosted; i++)
        if (call_allows(call, report->hosted[i].name)) put_hosted(json, &report->hosted[i]);
    sl_json_array_end(json);
    put_stages(call, json, report);
    put_machine(json, report->machine);
}

/* The dispatcher's members and the registry's, both in the order of ids, become one list. */
struct nodes {
    const struct call *call;
    struct sl_json *json;
    const struct registry *registry;
    size_t n_listed; /* of the registry's */
};

/* Who was not heard of since this gateway started. */
static void put_away(struct sl_json *json, const struct member *member)
{
    char item[MEMBER_LABELS_SIZE], site[MEMBER_LABELS_SIZE] = "";
    sl_json_object(json);
    sl_json_kv_str(json, "id", member->id);
    sl_json_kv_str(json, "name", member->name);
    sl_json_key(json, "labels");
    sl_json_array(json);
    for (size_t i = 0; member_list_item(member->labels, i, item, sizeof item); i++) {
        sl_json_str(json, item);
        if (strncmp(item, "site=", 5) == 0) strcpy(site, item + 5);
    }
    sl_json_array_end(json);
    sl_json_kv_str(json, "site", site);
    sl_json_kv_str(json, "role", member->is_gateway ? "gateway" : "node");
    sl_json_kv_str(json, "state", member->duty == NODE_DRAINING ? "left" : "away");
    sl_json_kv_str(json, "duty", node_duty_name(member->duty));
    sl_json_object_end(json);
}

/* The registry's members before this id; all that are left for NULL. */
static void put_away_until(struct nodes *nodes, const char *id)
{
    const struct member *member;
    if (!nodes->registry) return;
    while ((member = registry_at(nodes->registry, nodes->n_listed)) != NULL) {
        int order = id ? strcmp(member->id, id) : -1;
        if (order > 0) return;
        if (order < 0 && !member->removed) put_away(nodes->json, member);
        nodes->n_listed++;
    }
}

static void put_member(void *ctx, const struct dispatch_member *member)
{
    struct nodes *nodes = ctx;
    struct sl_json *json = nodes->json;
    put_away_until(nodes, member->id);
    const struct member *entry =
        nodes->registry ? registry_find(nodes->registry, member->id) : NULL;
    if (entry && entry->removed) return;
    sl_json_object(json);
    sl_json_kv_str(json, "id", member->id);
    sl_json_kv_str(json, "name", entry ? entry->name : member->name);
    sl_json_kv_str(json, "site", member->site);
    sl_json_kv_str(json, "role",
                   (entry ? entry->is_gateway : member->gateway) ? "gateway" : "node");
    sl_json_kv_str(json, "state", member->left ? "left" : node_health_name(member->health));
    sl_json_kv_bool(json, "self", member->self);
    sl_json_kv_bool(json, "drained", member->drained);
    sl_json_kv_str(json, "address", member->address);
    sl_json_kv_str(json, "version", member->program);
    put_labels(json, member);
    put_ms(json, "last_seen_ms",
           member->last_seen_ns < 0 ? -1.0 : (double)member->last_seen_ns / 1e9);
    put_ms(json, "rtt_ms", member->rtt_s);
    put_ms(json, "rtt_min_ms", member->rtt_min_s);
    sl_json_kv_int(json, "sent", (int64_t)member->n_sent);
    sl_json_kv_int(json, "running", member->n_running);
    sl_json_kv_int(json, "refused", (int64_t)member->n_refused);
    sl_json_kv_int(json, "failed", (int64_t)member->n_failed);
    sl_json_kv_int(json, "moved", (int64_t)member->n_moved);
    if (member->report) put_report(nodes->call, json, member->report);
    sl_json_object_end(json);
}

void grid_view_nodes(struct call *call)
{
    const struct membership *membership = call->gateway->cfg.membership;
    struct sl_json json;
    struct nodes nodes = {.call = call, .json = &json};
    struct sl_buf body;
    struct dispatch *dispatch = dispatch_of(call);
    if (!dispatch) return;
    if (membership) nodes.registry = membership_registry(membership);
    sl_buf_init(&body, ANSWER_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    sl_json_key(&json, "nodes");
    sl_json_array(&json);
    dispatch_members(dispatch, put_member, &nodes);
    put_away_until(&nodes, NULL);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    call_respond_json(call, 200, &body, sl_json_end(&json));
    sl_buf_done(&body);
}

/* --- models --- */

struct listing {
    struct call *call;
    struct sl_json json;
};

static void put_card(void *ctx, const struct grid_card *card, uint32_t n_members)
{
    struct listing *listing = ctx;
    struct sl_json *json = &listing->json;
    if (!call_allows(listing->call, card->name)) return;
    sl_json_object(json);
    sl_json_kv_str(json, "name", card->name);
    sl_json_kv_str(json, "digest", card->digest);
    sl_json_kv_str(json, "format", card->format);
    sl_json_kv_int(json, "bytes", (int64_t)card->bytes);
    sl_json_kv_int(json, "memory_bytes", (int64_t)card->memory_bytes);
    sl_json_kv_str(json, "family", card->family);
    sl_json_kv_str(json, "parameter_size", card->parameter_size);
    sl_json_kv_str(json, "quantization", card->quantization);
    sl_json_kv_int(json, "context_length", (int64_t)card->context_length);
    sl_json_kv_int(json, "members", n_members);
    sl_json_object_end(json);
}

void grid_view_models(struct call *call)
{
    struct listing listing = {.call = call};
    struct sl_buf body;
    struct dispatch *dispatch = dispatch_of(call);
    if (!dispatch) return;
    sl_buf_init(&body, ANSWER_MAX);
    sl_json_begin(&listing.json, &body, false);
    sl_json_object(&listing.json);
    sl_json_key(&listing.json, "models");
    sl_json_array(&listing.json);
    dispatch_cards(dispatch, put_card, &listing);
    sl_json_array_end(&listing.json);
    sl_json_object_end(&listing.json);
    call_respond_json(call, 200, &body, sl_json_end(&listing.json));
    sl_buf_done(&body);
}

/* --- why --- */

/* One of a model that the caller may not use does not exist for him. */
static sl_status explain(struct call *call, struct dispatch *dispatch, struct sl_json *json,
                         struct sl_err *err)
{
    const char *request = http_exchange_query(call->x, "request");
    const char *model = http_exchange_query(call->x, "model");
    if (!request == !model) return sl_err_set(err, SL_INVALID, "give ?request=ID or ?model=NAME");
    const char *whose = model ? model : dispatch_explain_whose(dispatch, request);
    if (whose && !call_allows(call, whose))
        return sl_err_set(err, SL_NOT_FOUND, "%.100s: unknown here", model ? model : request);
    return model ? dispatch_explain_model(dispatch, model, json, err)
                 : dispatch_explain_request(dispatch, request, json, err);
}

void grid_view_explain(struct call *call)
{
    struct sl_json json;
    struct sl_buf body;
    struct sl_err err = SL_ERR_INIT;
    struct dispatch *dispatch = dispatch_of(call);
    if (!dispatch) return;
    sl_buf_init(&body, ANSWER_MAX);
    sl_json_begin(&json, &body, false);
    if (explain(call, dispatch, &json, &err) == SL_OK)
        call_respond_json(call, 200, &body, sl_json_end(&json));
    else
        call_fail_err(call, &err, NULL);
    sl_buf_done(&body);
}

/* --- counters --- */

static void put_router(struct sl_json *json, const struct router_totals *totals)
{
    sl_json_kv_int(json, "live", totals->n_live);
    sl_json_kv_int(json, "pending", totals->n_pending);
    sl_json_kv_int(json, "attempts", totals->n_attempts);
    sl_json_kv_int(json, "submitted", (int64_t)totals->n_submitted);
    sl_json_kv_int(json, "finished", (int64_t)totals->n_finished);
    sl_json_kv_int(json, "failed", (int64_t)totals->n_failed);
    sl_json_kv_int(json, "expired", (int64_t)totals->n_expired);
    sl_json_kv_int(json, "cancelled", (int64_t)totals->n_cancelled);
    sl_json_kv_int(json, "sent", (int64_t)totals->n_sent);
    sl_json_kv_int(json, "refused", (int64_t)totals->n_refused);
    sl_json_kv_int(json, "retried", (int64_t)totals->n_retried);
    sl_json_kv_int(json, "moved", (int64_t)totals->n_moved);
    sl_json_kv_int(json, "hedged", (int64_t)totals->n_hedged);
    sl_json_kv_int(json, "hedges_won", (int64_t)totals->n_hedges_won);
}

void grid_view_status(struct call *call)
{
    struct sl_json json;
    struct sl_buf body;
    struct dispatch_stats stats;
    struct dispatch *dispatch = dispatch_of(call);
    if (!dispatch) return;
    dispatch_stats_get(dispatch, &stats);
    sl_buf_init(&body, ANSWER_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    sl_json_kv_int(&json, "alive", stats.n_members_alive);
    sl_json_kv_int(&json, "suspect", stats.n_members_suspect);
    sl_json_kv_int(&json, "dead", stats.n_members_dead);
    sl_json_kv_int(&json, "left", stats.n_members_left);
    sl_json_kv_int(&json, "models", stats.n_models);
    sl_json_kv_bool(&json, "places", stats.places);
    put_router(&json, &stats.router);
    sl_json_kv_int(&json, "resumed", (int64_t)stats.n_resumed);
    sl_json_kv_int(&json, "gaps", (int64_t)stats.n_gaps);
    sl_json_kv_int(&json, "runs_again", (int64_t)stats.n_runs_again);
    sl_json_kv_int(&json, "loads", (int64_t)stats.n_loads);
    sl_json_kv_int(&json, "unloads", (int64_t)stats.n_unloads);
    sl_json_kv_int(&json, "chains", stats.n_chains);
    sl_json_kv_int(&json, "plans", (int64_t)stats.n_plans);
    sl_json_kv_int(&json, "replans", (int64_t)stats.n_replans);
    sl_json_object_end(&json);
    call_respond_json(call, 200, &body, sl_json_end(&json));
    sl_buf_done(&body);
}
