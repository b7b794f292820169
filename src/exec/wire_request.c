/* wire_request.c: the messages to a worker. */
#include "exec/wire_int.h"
#include <string.h>

/* Fields that both sides call the same; the lists serve both directions. */
#define LOAD_FIELDS(X) \
    X(n_threads) \
    X(n_ctx) \
    X(n_seqs_max) \
    X(n_queue_max) \
    X(n_batch) \
    X(gpu_layers) \
    X(kv_type) \
    X(kv_bytes_max) \
    X(kv_contexts) \
    X(no_prefix_cache)

/* Of engine.split; messages have the layers by longer names. */
#define SPLIT_FIELDS(X) \
    X(n_stages) \
    X(stage) \
    X(kv_blocks) \
    X(n_flights)

#define SAMPLER_FIELDS(X) \
    X(temp) \
    X(top_k) \
    X(top_p) \
    X(min_p) \
    X(typical_p) \
    X(repeat_penalty) \
    X(repeat_last_n) \
    X(presence_penalty) \
    X(frequency_penalty) \
    X(dry_multiplier) \
    X(dry_base) \
    X(dry_allowed_len) \
    X(dry_last_n) \
    X(seed) \
    X(n_logprobs)

#define GENERATE_FIELDS(X) \
    X(id) \
    X(max_tokens) \
    X(n_choices) \
    X(choice_base) \
    X(ignore_end) \
    X(want_tokens) \
    X(want_text)

typedef Starlane__Worker__Prompt pb_prompt;
typedef Starlane__Worker__Sampler pb_sampler;

_Static_assert((int)ENGINE_POOLING_RANK == (int)STARLANE__WORKER__POOLING__POOLING_RANK,
               "enum engine_pooling and Pooling have the same values");

void wire_put_prompt(const struct wire_prompt *in, Starlane__Worker__Prompt *out)
{
    starlane__worker__prompt__init(out);
    out->parse_special = in->parse_special;
    out->now_s = in->now_s;
    if (in->chat) {
        out->kind = STARLANE__WORKER__PROMPT_KIND__CHAT;
        out->text = wire_bytes(in->chat, in->n_chat);
    } else if (in->tokens) {
        out->kind = STARLANE__WORKER__PROMPT_KIND__TOKENS;
        out->tokens = wire_ints(in->tokens);
        out->n_tokens = in->n_tokens;
    } else {
        out->kind = STARLANE__WORKER__PROMPT_KIND__TEXT;
        out->text = wire_bytes(in->text, in->n_text);
    }
}

/* Neither text nor tokens may be NULL once they are chosen, empty as they may be. */
sl_status wire_get_prompt(const Starlane__Worker__Prompt *in, struct wire_prompt *out,
                          struct sl_err *err)
{
    static const int32_t none[1];
    if (!in) return sl_err_set(err, SL_CORRUPT, "no prompt");
    const char *text = in->text.len ? (const char *)in->text.data : "";
    out->now_s = in->now_s;
    out->parse_special = in->parse_special;
    switch (in->kind) {
    case STARLANE__WORKER__PROMPT_KIND__TEXT:
        out->text = text;
        out->n_text = in->text.len;
        return SL_OK;
    case STARLANE__WORKER__PROMPT_KIND__TOKENS:
        out->tokens = in->n_tokens ? in->tokens : none;
        out->n_tokens = in->n_tokens;
        return SL_OK;
    case STARLANE__WORKER__PROMPT_KIND__CHAT:
        out->chat = text;
        out->n_chat = in->text.len;
        return SL_OK;
    default: return sl_err_set(err, SL_CORRUPT, "prompt of kind %d", (int)in->kind);
    }
}

static void encode_load(const struct wire_msg *msg, struct wire_sink *sink)
{
    const struct wire_load *in = &msg->load;
    Starlane__Worker__Load m = STARLANE__WORKER__LOAD__INIT;
    m.kind = wire_string(in->engine.kind);
    m.path = wire_string(in->engine.path);
    m.title = wire_string(in->title);
    if (in->chat_template)
        m.chat_template = wire_bytes(in->chat_template, strlen(in->chat_template));
    if (in->engine.options) m.options = wire_bytes(in->engine.options, strlen(in->engine.options));
#define X(field) m.field = in->engine.field;
    LOAD_FIELDS(X)
#undef X
#define X(field) m.field = in->engine.split.field;
    SPLIT_FIELDS(X)
#undef X
    m.first_layer = in->engine.split.first;
    m.last_layer = in->engine.split.last;
    m.link = (uint32_t)in->engine.split.link;
    wire_sink_put(sink, &m.base);
}

/* *out stays NULL for an empty one. */
static bool keep_text(const ProtobufCBinaryData *in, struct sl_arena *arena, const char **out)
{
    if (in->len) *out = sl_arena_strndup(arena, (const char *)in->data, in->len);
    return !in->len || *out;
}

static sl_status decode_load(const void *message, struct sl_arena *arena, struct wire_msg *out,
                             struct sl_err *err)
{
    const Starlane__Worker__Load *m = message;
    struct wire_load *load = &out->load;
    load->engine.kind = m->kind;
    load->engine.path = m->path;
    load->title = m->title;
#define X(field) load->engine.field = m->field;
    LOAD_FIELDS(X)
#undef X
#define X(field) load->engine.split.field = m->field;
    SPLIT_FIELDS(X)
#undef X
    if (m->link > ENGINE_LINK_Q8_0) return sl_err_set(err, SL_CORRUPT, "link %u", m->link);
    load->engine.split.first = m->first_layer;
    load->engine.split.last = m->last_layer;
    load->engine.split.link = (enum engine_link_type)m->link;
    bool ok = keep_text(&m->chat_template, arena, &load->chat_template) &&
              keep_text(&m->options, arena, &load->engine.options);
    return ok ? SL_OK : sl_err_set(err, SL_NOMEM, "load message");
}

/* Bias pairs travel as two arrays, which protobuf packs. */
static bool fill_bias(const struct sampler_cfg *in, pb_sampler *out, struct sl_arena *scratch)
{
    size_t n = in->n_bias > 0 ? (size_t)in->n_bias : 0;
    if (!n) return true;
    out->bias_tokens = sl_arena_array(scratch, n, sizeof *out->bias_tokens);
    out->biases = sl_arena_array(scratch, n, sizeof *out->biases);
    if (!out->bias_tokens || !out->biases) return false;
    out->n_bias_tokens = out->n_biases = n;
    for (size_t i = 0; i < n; i++) {
        out->bias_tokens[i] = in->bias[i].token;
        out->biases[i] = in->bias[i].bias;
    }
    return true;
}

bool wire_put_sampler(const struct sampler_cfg *in, Starlane__Worker__Sampler *out,
                      struct sl_arena *scratch)
{
    starlane__worker__sampler__init(out);
#define X(field) out->field = in->field;
    SAMPLER_FIELDS(X)
#undef X
    out->dry_breakers = wire_ints(in->dry_breakers);
    out->n_dry_breakers = in->n_dry_breakers > 0 ? (size_t)in->n_dry_breakers : 0;
    return fill_bias(in, out, scratch);
}

static sl_status read_bias(const pb_sampler *in, struct sampler_cfg *out, struct sl_arena *arena,
                           struct sl_err *err)
{
    size_t n = in->n_bias_tokens;
    if (n != in->n_biases || n > SAMPLER_BIAS_MAX)
        return sl_err_set(err, SL_CORRUPT, "%zu tokens with %zu biases", n, in->n_biases);
    struct sampler_bias *bias = sl_arena_array(arena, n, sizeof *bias);
    if (!bias) return sl_err_set(err, SL_NOMEM, "logit biases");
    for (size_t i = 0; i < n; i++)
        bias[i] = (struct sampler_bias){.token = in->bias_tokens[i], .bias = in->biases[i]};
    out->bias = bias;
    out->n_bias = (int32_t)n;
    return SL_OK;
}

/* Ranges are sampler_create's business. */
sl_status wire_get_sampler(const Starlane__Worker__Sampler *in, struct sampler_cfg *out,
                           struct sl_arena *arena, struct sl_err *err)
{
    if (!in) return sl_err_set(err, SL_CORRUPT, "no sampler");
#define X(field) out->field = in->field;
    SAMPLER_FIELDS(X)
#undef X
    if (in->n_dry_breakers > SAMPLER_DRY_BREAKERS_MAX)
        return sl_err_set(err, SL_CORRUPT, "%zu DRY breakers", in->n_dry_breakers);
    out->dry_breakers = in->dry_breakers;
    out->n_dry_breakers = (int32_t)in->n_dry_breakers;
    return read_bias(in, out, arena, err);
}

static void encode_generate(const struct wire_msg *msg, struct wire_sink *sink)
{
    const struct wire_generate *in = &msg->generate;
    Starlane__Worker__Generate m = STARLANE__WORKER__GENERATE__INIT;
    pb_prompt prompt;
    pb_sampler sampler;
    char *stop[WIRE_STOP_MAX];
    if (in->n_stop > WIRE_STOP_MAX) {
        sink->status = SL_LIMIT;
        return;
    }
    wire_put_prompt(&in->prompt, &prompt);
    if (!wire_put_sampler(&in->sampler, &sampler, &sink->scratch)) {
        sink->status = SL_NOMEM;
        return;
    }
#define X(field) m.field = in->field;
    GENERATE_FIELDS(X)
#undef X
    for (int i = 0; i < in->n_stop; i++) stop[i] = wire_string(in->stop[i]);
    m.prompt = &prompt;
    m.sampler = &sampler;
    m.stop = stop;
    m.n_stop = in->n_stop > 0 ? (size_t)in->n_stop : 0;
    m.resume = wire_ints(in->resume);
    m.n_resume = in->resume ? in->n_resume : 0;
    wire_sink_put(sink, &m.base);
}

static sl_status decode_generate(const void *message, struct sl_arena *arena, struct wire_msg *out,
                                 struct sl_err *err)
{
    const Starlane__Worker__Generate *m = message;
    struct wire_generate *generate = &out->generate;
#define X(field) generate->field = m->field;
    GENERATE_FIELDS(X)
#undef X
    if (m->n_stop > WIRE_STOP_MAX)
        return sl_err_set(err, SL_CORRUPT, "%zu stop strings", m->n_stop);
    generate->stop = (const char *const *)m->stop;
    generate->n_stop = (int)m->n_stop;
    generate->resume = m->n_resume ? m->resume : NULL;
    generate->n_resume = m->n_resume;
    sl_status status = wire_get_prompt(m->prompt, &generate->prompt, err);
    return status == SL_OK ? wire_get_sampler(m->sampler, &generate->sampler, arena, err) : status;
}

static void encode_embed(const struct wire_msg *msg, struct wire_sink *sink)
{
    const struct wire_embed *in = &msg->embed;
    Starlane__Worker__Embed m = STARLANE__WORKER__EMBED__INIT;
    pb_prompt prompt;
    wire_put_prompt(&in->prompt, &prompt);
    m.id = in->id;
    m.prompt = &prompt;
    m.pooling = (Starlane__Worker__Pooling)in->pooling;
    m.no_normalize = in->no_normalize;
    m.has_pair = in->pair != NULL;
    m.pair = wire_bytes(in->pair, in->n_pair);
    wire_sink_put(sink, &m.base);
}

static sl_status decode_embed(const void *message, struct sl_arena *arena, struct wire_msg *out,
                              struct sl_err *err)
{
    const Starlane__Worker__Embed *m = message;
    (void)arena;
    if ((unsigned)m->pooling > ENGINE_POOLING_RANK)
        return sl_err_set(err, SL_CORRUPT, "pooling %d", (int)m->pooling);
    out->embed = (struct wire_embed){
        .id = m->id, .pooling = (enum engine_pooling)m->pooling, .no_normalize = m->no_normalize};
    if (m->has_pair) {
        out->embed.pair = m->pair.len ? (const char *)m->pair.data : "";
        out->embed.n_pair = m->pair.len;
    }
    return wire_get_prompt(m->prompt, &out->embed.prompt, err);
}

static void encode_infer(const struct wire_msg *msg, struct wire_sink *sink)
{
    const struct wire_infer *in = &msg->infer;
    Starlane__Worker__Infer m = STARLANE__WORKER__INFER__INIT;
    m.id = in->id;
    m.n_inputs = in->n_inputs;
    m.n_outputs = in->n_outputs;
    m.outputs = sl_arena_array(&sink->scratch, in->n_outputs + 1, sizeof *m.outputs);
    sink->status = wire_put_pieces(in->inputs, in->pieces, in->n_inputs, &sink->scratch, &m.inputs);
    if (!m.outputs) sink->status = SL_NOMEM;
    if (sink->status != SL_OK) return;
    for (size_t i = 0; i < in->n_outputs; i++) m.outputs[i] = wire_string(in->outputs[i]);
    wire_sink_put(sink, &m.base);
}

static sl_status decode_infer(const void *message, struct sl_arena *arena, struct wire_msg *out,
                              struct sl_err *err)
{
    const Starlane__Worker__Infer *m = message;
    if (m->n_outputs > TENSORS_MAX) return sl_err_set(err, SL_CORRUPT, "%zu outputs", m->n_outputs);
    out->infer = (struct wire_infer){.id = m->id,
                                     .n_inputs = m->n_inputs,
                                     .outputs = (const char *const *)m->outputs,
                                     .n_outputs = m->n_outputs};
    return wire_get_pieces(m->inputs, m->n_inputs, arena, &out->infer.inputs, &out->infer.pieces,
                           err);
}

static void encode_tokenize(const struct wire_msg *msg, struct wire_sink *sink)
{
    const struct wire_tokenize *in = &msg->tokenize;
    Starlane__Worker__Tokenize m = STARLANE__WORKER__TOKENIZE__INIT;
    pb_prompt prompt;
    wire_put_prompt(&in->prompt, &prompt);
    m.id = in->id;
    m.prompt = &prompt;
    m.no_bos = in->no_bos;
    wire_sink_put(sink, &m.base);
}

static sl_status decode_tokenize(const void *message, struct sl_arena *arena, struct wire_msg *out,
                                 struct sl_err *err)
{
    const Starlane__Worker__Tokenize *m = message;
    (void)arena;
    out->tokenize = (struct wire_tokenize){.id = m->id, .no_bos = m->no_bos};
    return wire_get_prompt(m->prompt, &out->tokenize.prompt, err);
}

static void encode_detokenize(const struct wire_msg *msg, struct wire_sink *sink)
{
    Starlane__Worker__Detokenize m = STARLANE__WORKER__DETOKENIZE__INIT;
    m.id = msg->detokenize.id;
    m.tokens = wire_ints(msg->detokenize.tokens);
    m.n_tokens = msg->detokenize.n_tokens;
    wire_sink_put(sink, &m.base);
}

static sl_status decode_detokenize(const void *message, struct sl_arena *arena,
                                   struct wire_msg *out, struct sl_err *err)
{
    const Starlane__Worker__Detokenize *m = message;
    (void)arena;
    (void)err;
    out->detokenize =
        (struct wire_detokenize){.id = m->id, .tokens = m->tokens, .n_tokens = m->n_tokens};
    return SL_OK;
}

static void encode_cancel(const struct wire_msg *msg, struct wire_sink *sink)
{
    Starlane__Worker__Cancel m = STARLANE__WORKER__CANCEL__INIT;
    m.id = msg->cancel_id;
    wire_sink_put(sink, &m.base);
}

static sl_status decode_cancel(const void *message, struct sl_arena *arena, struct wire_msg *out,
                               struct sl_err *err)
{
    (void)arena;
    (void)err;
    out->cancel_id = ((const Starlane__Worker__Cancel *)message)->id;
    return SL_OK;
}

static void encode_ping(const struct wire_msg *msg, struct wire_sink *sink)
{
    Starlane__Worker__Ping m = STARLANE__WORKER__PING__INIT;
    m.seq = msg->ping_seq;
    wire_sink_put(sink, &m.base);
}

static sl_status decode_ping(const void *message, struct sl_arena *arena, struct wire_msg *out,
                             struct sl_err *err)
{
    (void)arena;
    (void)err;
    out->ping_seq = ((const Starlane__Worker__Ping *)message)->seq;
    return SL_OK;
}

static void encode_unload(const struct wire_msg *msg, struct wire_sink *sink)
{
    const Starlane__Worker__Unload m = STARLANE__WORKER__UNLOAD__INIT;
    (void)msg;
    wire_sink_put(sink, &m.base);
}

static sl_status decode_unload(const void *message, struct sl_arena *arena, struct wire_msg *out,
                               struct sl_err *err)
{
    (void)message;
    (void)arena;
    (void)out;
    (void)err;
    return SL_OK;
}

static void encode_deliver(const struct wire_msg *msg, struct wire_sink *sink)
{
    wire_put_stage(&msg->deliver, sink);
}

static sl_status decode_deliver(const void *message, struct sl_arena *arena, struct wire_msg *out,
                                struct sl_err *err)
{
    (void)arena;
    return wire_get_stage(message, &out->deliver, err);
}

const struct wire_codec wire_requests[WIRE_REQUESTS] = {
    [WIRE_LOAD] = {"load", &starlane__worker__load__descriptor, encode_load, decode_load},
    [WIRE_GENERATE] = {"generate", &starlane__worker__generate__descriptor, encode_generate,
                       decode_generate},
    [WIRE_EMBED] = {"embed", &starlane__worker__embed__descriptor, encode_embed, decode_embed},
    [WIRE_TOKENIZE] = {"tokenize", &starlane__worker__tokenize__descriptor, encode_tokenize,
                       decode_tokenize},
    [WIRE_DETOKENIZE] = {"detokenize", &starlane__worker__detokenize__descriptor, encode_detokenize,
                         decode_detokenize},
    [WIRE_INFER] = {"infer", &starlane__worker__infer__descriptor, encode_infer, decode_infer},
    [WIRE_CANCEL] = {"cancel", &starlane__worker__cancel__descriptor, encode_cancel, decode_cancel},
    [WIRE_PING] = {"ping", &starlane__worker__ping__descriptor, encode_ping, decode_ping},
    [WIRE_UNLOAD] = {"unload", &starlane__worker__unload__descriptor, encode_unload, decode_unload},
    [WIRE_DELIVER] = {"stage", NULL, encode_deliver, decode_deliver},
};
