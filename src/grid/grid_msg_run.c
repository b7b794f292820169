/* grid_msg_run.c: the messages from a gateway to a node. */
#include "grid/grid_msg_int.h"
#include "grid/store.h"
#include <stdio.h>

/* Fields that both sides call the same; the lists serve both directions. */
#define RUN_FIELDS(X) \
    X(boot) \
    X(request) \
    X(attempt) \
    X(sent) \
    X(n_prompt)

#define SUBMIT_FIELDS(X) \
    X(tenant) \
    X(queue_timeout_ns) \
    X(keep_alive_ns) \
    X(no_bos) \
    X(max_tokens) \
    X(n_choices) \
    X(ignore_end) \
    X(no_normalize)

typedef Starlane__Grid__Run pb_run;
typedef Starlane__Grid__Resume pb_resume;

static struct wire_prompt prompt_of(const struct node_submit *in)
{
    struct wire_prompt prompt = {.now_s = in->now_s, .parse_special = in->parse_special};
    if (in->prompt == NODE_PROMPT_TOKENS || in->task == NODE_DETOKENIZE) {
        prompt.tokens = in->tokens;
        prompt.n_tokens = in->n_tokens;
    } else if (in->prompt == NODE_PROMPT_CHAT) {
        prompt.chat = in->text;
        prompt.n_chat = in->n_text;
    } else {
        prompt.text = in->text;
        prompt.n_text = in->n_text;
    }
    return prompt;
}

static void take_prompt(const struct wire_prompt *in, struct node_submit *out)
{
    out->now_s = in->now_s;
    out->parse_special = in->parse_special;
    out->prompt = in->chat ? NODE_PROMPT_CHAT : in->tokens ? NODE_PROMPT_TOKENS : NODE_PROMPT_TEXT;
    out->tokens = in->tokens;
    out->n_tokens = in->n_tokens;
    out->text = in->chat ? in->chat : in->text;
    out->n_text = in->chat ? in->n_chat : in->n_text;
}

static size_t choices_of(int32_t n_choices)
{
    return n_choices > 1 ? (size_t)n_choices : 1;
}

static sl_status fill_resume(const struct node_submit *in, pb_run *m, struct sl_arena *scratch)
{
    size_t n = choices_of(in->n_choices);
    if (!in->resume) return SL_OK;
    pb_resume *v = sl_arena_array(scratch, n, sizeof *v);
    m->resume = sl_arena_array(scratch, n, sizeof *m->resume);
    if (!v || !m->resume) return SL_NOMEM;
    for (size_t i = 0; i < n; i++) {
        m->resume[i] = &v[i];
        starlane__grid__resume__init(&v[i]);
        v[i].tokens = wire_ints(in->resume[i].tokens);
        v[i].n_tokens = in->resume[i].n_tokens;
        v[i].done = in->resume[i].done;
    }
    m->n_resume = n;
    return SL_OK;
}

static sl_status read_resume(const pb_run *m, struct sl_arena *arena, struct node_submit *out,
                             struct sl_err *err)
{
    if (!m->n_resume) return SL_OK;
    if (m->n_resume != choices_of(m->n_choices))
        return sl_err_set(err, SL_CORRUPT, "%zu of %d choices resume", m->n_resume, m->n_choices);
    struct node_resume *v = sl_arena_array(arena, m->n_resume, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "resume");
    for (size_t i = 0; i < m->n_resume; i++)
        v[i] = (struct node_resume){.tokens = m->resume[i]->tokens,
                                    .n_tokens = m->resume[i]->n_tokens,
                                    .done = m->resume[i]->done};
    out->resume = v;
    return SL_OK;
}

static void fill_submit(const struct node_submit *in, pb_run *m)
{
    m->task = (uint32_t)in->task;
    m->model = wire_string(in->model);
    m->qos = (uint32_t)in->qos;
    m->request_id = wire_string(in->request_id);
    m->pooling = (Starlane__Worker__Pooling)in->pooling;
    m->has_pair = in->pair != NULL;
    m->pair = wire_bytes(in->pair, in->n_pair);
    m->stop = grid_strings(in->stop);
    m->n_stop = in->n_stop > 0 ? (size_t)in->n_stop : 0;
    m->outputs = grid_strings(in->outputs);
    m->n_outputs = in->n_outputs;
    m->n_inputs = in->n_inputs;
#define X(field) m->field = in->field;
    SUBMIT_FIELDS(X)
#undef X
}

static void encode_run(const struct grid_msg *msg, struct wire_sink *sink)
{
    const struct grid_run *in = &msg->run;
    const struct node_submit *submit = &in->submit;
    const struct wire_prompt prompt = prompt_of(submit);
    Starlane__Worker__Prompt pb_prompt;
    Starlane__Worker__Sampler pb_sampler;
    pb_run m = STARLANE__GRID__RUN__INIT;
    if (submit->n_stop > GRID_STOP_MAX || in->n_blocks > GRID_BLOCKS_MAX ||
        submit->n_outputs > TENSORS_MAX || submit->n_choices > ENGINE_CHOICES_MAX) {
        sink->status = SL_LIMIT;
        return;
    }
#define X(field) m.field = in->field;
    RUN_FIELDS(X)
#undef X
    fill_submit(submit, &m);
    m.digest = wire_string(in->digest);
    m.blocks = grid_numbers(in->blocks);
    m.n_blocks = in->n_blocks;
    wire_put_prompt(&prompt, &pb_prompt);
    if (pb_prompt.text.len || pb_prompt.n_tokens || pb_prompt.kind || pb_prompt.now_s ||
        pb_prompt.parse_special)
        m.prompt = &pb_prompt;
    if (submit->sampler) m.sampler = &pb_sampler;
    if (submit->sampler && !wire_put_sampler(submit->sampler, &pb_sampler, &sink->scratch))
        sink->status = SL_NOMEM;
    if (sink->status == SL_OK) sink->status = fill_resume(submit, &m, &sink->scratch);
    if (sink->status == SL_OK)
        sink->status =
            wire_put_tensors(submit->inputs, submit->n_inputs, &sink->scratch, &m.inputs);
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

static sl_status check_run(const pb_run *m, struct sl_err *err)
{
    sl_status status = grid_check_enum("task", m->task, NODE_LOAD + 1, err);
    if (status == SL_OK) status = grid_check_enum("class", m->qos, SCHED_CLASS_COUNT, err);
    if (status == SL_OK)
        status = grid_check_enum("pooling", (uint32_t)m->pooling, ENGINE_POOLING_RANK + 1, err);
    if (status == SL_OK) status = grid_check_text("model's name", m->model, STORE_NAME_SIZE, err);
    if (status == SL_OK) status = grid_check_text("digest", m->digest, STORE_DIGEST_SIZE, err);
    if (status == SL_OK) status = grid_check_count("stop strings", m->n_stop, GRID_STOP_MAX, err);
    if (status == SL_OK) status = grid_check_count("outputs", m->n_outputs, TENSORS_MAX, err);
    if (status == SL_OK) status = grid_check_count("blocks", m->n_blocks, GRID_BLOCKS_MAX, err);
    if (status == SL_OK && (m->n_choices < 0 || m->n_choices > ENGINE_CHOICES_MAX))
        status = sl_err_set(err, SL_CORRUPT, "%d choices", m->n_choices);
    return status;
}

static void take_submit(const pb_run *m, struct node_submit *out)
{
    out->task = (enum node_task)m->task;
    out->model = m->model;
    out->qos = (enum sched_class)m->qos;
    out->request_id = *m->request_id ? m->request_id : NULL;
    out->pooling = (enum engine_pooling)m->pooling;
    if (m->has_pair) {
        out->pair = m->pair.len ? (const char *)m->pair.data : "";
        out->n_pair = m->pair.len;
    }
    out->stop = (const char *const *)m->stop;
    out->n_stop = (int)m->n_stop;
    out->outputs = (const char *const *)m->outputs;
    out->n_outputs = m->n_outputs;
    out->n_inputs = m->n_inputs;
#define X(field) out->field = m->field;
    SUBMIT_FIELDS(X)
#undef X
}

static sl_status read_sampler(const pb_run *m, struct sl_arena *arena, struct node_submit *out,
                              struct sl_err *err)
{
    if (!m->sampler) return SL_OK;
    struct sampler_cfg *sampler = sl_arena_alloc(arena, sizeof *sampler);
    if (!sampler) return sl_err_set(err, SL_NOMEM, "sampler");
    out->sampler = sampler;
    return wire_get_sampler(m->sampler, sampler, arena, err);
}

static sl_status decode_run(const void *message, struct sl_arena *arena, struct grid_msg *out,
                            struct sl_err *err)
{
    const pb_run *m = message;
    struct grid_run *run = &out->run;
    struct wire_prompt prompt = {0};
    sl_status status = check_run(m, err);
    if (status != SL_OK) return status;
#define X(field) run->field = m->field;
    RUN_FIELDS(X)
#undef X
    run->digest = m->digest;
    run->blocks = m->blocks;
    run->n_blocks = m->n_blocks;
    take_submit(m, &run->submit);
    /* Absent: an empty text. */
    prompt.text = "";
    status = m->prompt ? wire_get_prompt(m->prompt, &prompt, err) : SL_OK;
    take_prompt(&prompt, &run->submit);
    if (status == SL_OK) status = read_sampler(m, arena, &run->submit, err);
    if (status == SL_OK) status = read_resume(m, arena, &run->submit, err);
    if (status == SL_OK)
        status = wire_get_tensors(m->inputs, m->n_inputs, arena, &run->submit.inputs, err);
    return status;
}

static void encode_stop(const struct grid_msg *msg, struct wire_sink *sink)
{
    Starlane__Grid__Stop m = STARLANE__GRID__STOP__INIT;
    m.boot = msg->stop.boot;
    m.request = msg->stop.request;
    m.attempt = msg->stop.attempt;
    wire_sink_put(sink, &m.base);
}

static sl_status decode_stop(const void *message, struct sl_arena *arena, struct grid_msg *out,
                             struct sl_err *err)
{
    const Starlane__Grid__Stop *m = message;
    (void)arena;
    (void)err;
    out->stop = (struct grid_stop){.boot = m->boot, .request = m->request, .attempt = m->attempt};
    return SL_OK;
}

static void encode_sync(const struct grid_msg *msg, struct wire_sink *sink)
{
    const struct grid_sync *in = &msg->sync;
    Starlane__Grid__Sync m = STARLANE__GRID__SYNC__INIT;
    Starlane__Grid__Sync__Entry *v = sl_arena_array(&sink->scratch, in->n + 1, sizeof *v);
    m.entries = sl_arena_array(&sink->scratch, in->n + 1, sizeof *m.entries);
    sink->status = in->n > GRID_ENTRIES_MAX ? SL_LIMIT : v && m.entries ? SL_OK : SL_NOMEM;
    for (size_t i = 0; i < in->n && sink->status == SL_OK; i++) {
        m.entries[i] = &v[i];
        starlane__grid__sync__entry__init(&v[i]);
        v[i].request = in->v[i].request;
        v[i].attempt = in->v[i].attempt;
        v[i].next_seq = in->v[i].next_seq;
        v[i].resend = in->v[i].resend;
    }
    m.boot = in->boot;
    m.n_entries = in->n;
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

static sl_status decode_sync(const void *message, struct sl_arena *arena, struct grid_msg *out,
                             struct sl_err *err)
{
    const Starlane__Grid__Sync *m = message;
    sl_status status = grid_check_count("attempts", m->n_entries, GRID_ENTRIES_MAX, err);
    if (status != SL_OK) return status;
    struct grid_sync_entry *v = sl_arena_array(arena, m->n_entries + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "attempts");
    for (size_t i = 0; i < m->n_entries; i++)
        v[i] = (struct grid_sync_entry){.request = m->entries[i]->request,
                                        .attempt = m->entries[i]->attempt,
                                        .next_seq = m->entries[i]->next_seq,
                                        .resend = m->entries[i]->resend};
    out->sync = (struct grid_sync){.boot = m->boot, .v = v, .n = m->n_entries};
    return SL_OK;
}

void grid_sources_set(struct grid_sources *out, const struct grid_source *sources, size_t n)
{
    for (out->n = 0; out->n < n && out->n < GRID_SOURCES_MAX; out->n++) {
        snprintf(out->ids[out->n], sizeof out->ids[out->n], "%s", sources[out->n].id);
        snprintf(out->addresses[out->n], sizeof out->addresses[out->n], "%s",
                 sources[out->n].address);
    }
}

static void put_sources(const struct grid_control *in, struct sl_arena *scratch,
                        Starlane__Grid__Control *m)
{
    Starlane__Grid__Control__Source *v = sl_arena_array(scratch, in->n_sources + 1, sizeof *v);
    m->sources = sl_arena_array(scratch, in->n_sources + 1, sizeof *m->sources);
    if (!v || !m->sources) return; /* it is told without them */
    for (m->n_sources = 0; m->n_sources < in->n_sources; m->n_sources++) {
        Starlane__Grid__Control__Source *source = &v[m->n_sources];
        m->sources[m->n_sources] = source;
        starlane__grid__control__source__init(source);
        source->id = wire_string(in->sources[m->n_sources].id);
        source->address = wire_string(in->sources[m->n_sources].address);
    }
}

static sl_status take_sources(const Starlane__Grid__Control *m, struct sl_arena *arena,
                              struct grid_control *out, struct sl_err *err)
{
    if (m->n_sources > GRID_SOURCES_MAX)
        return sl_err_set(err, SL_CORRUPT, "more than %d sources", GRID_SOURCES_MAX);
    struct grid_source *v = sl_arena_array(arena, m->n_sources + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "sources");
    sl_status status = SL_OK;
    for (size_t i = 0; i < m->n_sources && status == SL_OK; i++) {
        v[i] = (struct grid_source){m->sources[i]->id, m->sources[i]->address};
        status = grid_check_text("source's id", v[i].id, GRID_ID_SIZE, err);
        if (status == SL_OK)
            status = grid_check_text("source's address", v[i].address, GRID_ADDRESS_SIZE, err);
    }
    out->sources = v;
    out->n_sources = m->n_sources;
    return status;
}

static void encode_control(const struct grid_msg *msg, struct wire_sink *sink)
{
    const struct grid_control *in = &msg->control;
    Starlane__Grid__Control m = STARLANE__GRID__CONTROL__INIT;
    if (in->n_labels > GRID_LABELS_MAX || in->n_sources > GRID_SOURCES_MAX) {
        sink->status = SL_LIMIT;
        return;
    }
    m.kind = (uint32_t)in->kind;
    m.model = wire_string(in->model);
    m.digest = wire_string(in->digest);
    m.duty = (uint32_t)in->duty;
    m.labels = grid_strings(in->labels);
    m.n_labels = in->n_labels;
    put_sources(in, &sink->scratch, &m);
    sink->status = grid_put_split(in->split, &sink->scratch, &m.split);
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

static sl_status decode_control(const void *message, struct sl_arena *arena, struct grid_msg *out,
                                struct sl_err *err)
{
    const Starlane__Grid__Control *m = message;
    sl_status status = grid_check_enum("kind", m->kind, GRID_CONTROL_KIND_COUNT, err);
    if (status == SL_OK) status = grid_check_enum("duty", m->duty, NODE_DUTY_COUNT, err);
    if (status == SL_OK) status = grid_check_text("model's name", m->model, STORE_NAME_SIZE, err);
    if (status == SL_OK) status = grid_check_text("digest", m->digest, STORE_DIGEST_SIZE, err);
    if (status == SL_OK) status = grid_check_labels(m->labels, m->n_labels, err);
    out->control = (struct grid_control){.kind = (enum grid_control_kind)m->kind,
                                         .model = m->model,
                                         .digest = m->digest,
                                         .duty = (enum node_duty)m->duty,
                                         .labels = (const char *const *)m->labels,
                                         .n_labels = m->n_labels};
    if (status == SL_OK) status = grid_take_split(m->split, arena, &out->control.split, err);
    return status == SL_OK ? take_sources(m, arena, &out->control, err) : status;
}

const struct grid_codec grid_codec_run = {"run", &starlane__grid__run__descriptor, encode_run,
                                          decode_run};
const struct grid_codec grid_codec_stop = {"stop", &starlane__grid__stop__descriptor, encode_stop,
                                           decode_stop};
const struct grid_codec grid_codec_sync = {"sync", &starlane__grid__sync__descriptor, encode_sync,
                                           decode_sync};
const struct grid_codec grid_codec_control = {"control", &starlane__grid__control__descriptor,
                                              encode_control, decode_control};
