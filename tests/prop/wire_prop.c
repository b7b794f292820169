/* Messages between agent and worker: every field of every message survives the way through a frame,
 * and broken bytes are refused without harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "exec/wire.h"
#include "net/frame.h"
#include "support/prop.h"

#define ROUNDS 300
#define BYTES_MAX 200
#define TOKENS_MAX 50

static struct sl_arena draws; /* what the drawn messages point to */

static int32_t draw_int(void)
{
    static const int32_t edges[] = {0, 1, -1, 127, 128, INT32_MAX, INT32_MIN};
    size_t n = sizeof edges / sizeof *edges;
    return prop_draw(2) ? edges[prop_draw(n)] : (int32_t)prop_draw((size_t)UINT32_MAX);
}

static uint64_t draw_u64(void)
{
    return prop_draw(3) ? prop_draw(1000) : UINT64_MAX - prop_draw(1000);
}

static float draw_float(void)
{
    return (float)((double)draw_int() / (double)(1 + prop_draw(1000)));
}

static bool draw_bool(void)
{
    return prop_draw(2) != 0;
}

/* Any bytes; n of them. */
static const char *draw_bytes(size_t *n)
{
    *n = prop_draw(BYTES_MAX);
    char *out = sl_arena_alloc(&draws, *n + 1);
    for (size_t i = 0; i < *n; i++) out[i] = (char)prop_draw(256);
    return out;
}

static const char *draw_string(void)
{
    size_t n = prop_draw(20);
    char *out = sl_arena_alloc(&draws, n + 1);
    for (size_t i = 0; i < n; i++) out[i] = (char)(1 + prop_draw(255));
    return out;
}

static const int32_t *draw_tokens(size_t *n)
{
    *n = prop_draw(TOKENS_MAX);
    int32_t *out = sl_arena_array(&draws, *n + 1, sizeof *out);
    for (size_t i = 0; i < *n; i++) out[i] = draw_int();
    return out;
}

static void draw_prompt(struct wire_prompt *out)
{
    *out = (struct wire_prompt){.now_s = (int64_t)draw_u64(), .parse_special = draw_bool()};
    switch (prop_draw(3)) {
    case 0: out->text = draw_bytes(&out->n_text); break;
    case 1: out->tokens = draw_tokens(&out->n_tokens); break;
    default: out->chat = draw_bytes(&out->n_chat); break;
    }
}

static void same_bytes(const char *a, size_t n_a, const char *b, size_t n_b)
{
    assert_int_equal(n_a, n_b);
    if (n_a) assert_memory_equal(a, b, n_a);
}

static void same_tokens(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    assert_int_equal(n_a, n_b);
    if (n_a) assert_memory_equal(a, b, n_a * sizeof *a);
}

static void same_prompt(const struct wire_prompt *a, const struct wire_prompt *b)
{
    assert_int_equal(!a->text, !b->text);
    assert_int_equal(!a->tokens, !b->tokens);
    assert_int_equal(!a->chat, !b->chat);
    same_bytes(a->text, a->n_text, b->text, b->n_text);
    same_bytes(a->chat, a->n_chat, b->chat, b->n_chat);
    same_tokens(a->tokens, a->n_tokens, b->tokens, b->n_tokens);
    assert_int_equal(a->now_s, b->now_s);
    assert_int_equal(a->parse_special, b->parse_special);
}

/* Encodes, reads back into `in` (which points into *arena), and checks that all bytes were used. */
static void pass_through(const struct wire_msg *msg, struct sl_arena *arena, struct wire_msg *in)
{
    struct sl_buf buf;
    struct sl_err err = SL_ERR_INIT;
    struct frame_reader reader;
    struct frame frame;
    bool have;
    sl_buf_init(&buf, (size_t)WIRE_FRAME_BYTES_MAX + 100);
    frame_reader_init(&reader, WIRE_FRAME_BYTES_MAX);
    if (wire_encode(msg, &buf, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(frame_reader_feed(&reader, buf.data, buf.len), SL_OK);
    assert_int_equal(frame_reader_next(&reader, &frame, &have, &err), SL_OK);
    assert_true(have);
    assert_int_equal(reader.pos, buf.len);
    if (wire_decode(&frame, arena, in, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(in->type, msg->type);
    frame_reader_done(&reader);
    sl_buf_done(&buf);
}

/* Tensors whose data is what their shapes tell. */
static const struct tensor *draw_tensors(size_t *n)
{
    *n = prop_draw(6);
    struct tensor *v = sl_arena_array(&draws, *n + 1, sizeof *v);
    for (size_t i = 0; i < *n; i++) {
        size_t count = 1, size;
        v[i] = (struct tensor){.name = draw_string(), .rank = (int32_t)prop_draw(4)};
        v[i].type = (enum tensor_type)prop_draw(TENSOR_BYTES); /* all but BYTES */
        size = tensor_type_size(v[i].type);
        for (int32_t k = 0; k < v[i].rank; k++)
            count *= (size_t)(v[i].shape[k] = (int64_t)prop_draw(4));
        v[i].n_bytes = count * size;
        unsigned char *data = sl_arena_alloc(&draws, v[i].n_bytes + 1);
        for (size_t k = 0; k < v[i].n_bytes; k++) data[k] = (unsigned char)prop_draw(256);
        v[i].data = data;
    }
    return v;
}

static void same_tensors(const struct tensor *a, size_t n_a, const struct tensor *b, size_t n_b)
{
    assert_int_equal(n_a, n_b);
    for (size_t i = 0; i < n_a; i++) {
        assert_string_equal(a[i].name, b[i].name);
        assert_int_equal(a[i].type, b[i].type);
        assert_int_equal(a[i].rank, b[i].rank);
        for (int32_t k = 0; k < a[i].rank; k++) assert_int_equal(a[i].shape[k], b[i].shape[k]);
        assert_int_equal(a[i].n_bytes, b[i].n_bytes);
        if (!a[i].data) assert_null(b[i].data);
        if (a[i].data) same_bytes(a[i].data, a[i].n_bytes, b[i].data, b[i].n_bytes);
    }
}

/* Some of the tensors are moved into pieces of shared memory: their data do not travel. */
static const uint32_t *draw_pieces(const struct tensor *tensors, size_t n)
{
    struct tensor *v = (struct tensor *)(uintptr_t)tensors;
    uint32_t *pieces = sl_arena_array(&draws, n + 1, sizeof *pieces);
    for (size_t i = 0; i < n; i++) {
        if (v[i].type == TENSOR_BOOL || prop_draw(3)) continue;
        pieces[i] = 1 + (uint32_t)prop_draw(UINT32_MAX);
        v[i].data = NULL;
    }
    return pieces;
}

/* NULL is none at all. */
static void same_pieces(const uint32_t *a, const uint32_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++) assert_int_equal(a ? a[i] : 0, b ? b[i] : 0);
}

static const struct tensor_spec *draw_specs(size_t *n)
{
    *n = prop_draw(5);
    struct tensor_spec *v = sl_arena_array(&draws, *n + 1, sizeof *v);
    for (size_t i = 0; i < *n; i++) {
        v[i] = (struct tensor_spec){.name = draw_string(),
                                    .type = (enum tensor_type)prop_draw(TENSOR_TYPE_COUNT),
                                    .rank = (int32_t)prop_draw(TENSOR_RANK_MAX + 2) - 1,
                                    .optional = draw_bool()};
        for (int32_t k = 0; k < v[i].rank; k++) v[i].shape[k] = (int64_t)prop_draw(10) - 1;
    }
    return v;
}

static void same_specs(const struct tensor_spec *a, size_t n_a, const struct tensor_spec *b,
                       size_t n_b)
{
    assert_int_equal(n_a, n_b);
    for (size_t i = 0; i < n_a; i++) {
        assert_string_equal(a[i].name, b[i].name);
        assert_int_equal(a[i].type, b[i].type);
        assert_int_equal(a[i].rank, b[i].rank);
        assert_int_equal(a[i].optional, b[i].optional);
        assert_memory_equal(a[i].shape, b[i].shape, sizeof a[i].shape);
    }
}

static void draw_load(struct wire_msg *msg)
{
    *msg = (struct wire_msg){.type = WIRE_LOAD};
    msg->load = (struct wire_load){.engine = {.kind = draw_string(),
                                              .path = draw_string(),
                                              .n_threads = draw_int(),
                                              .n_ctx = draw_int(),
                                              .n_seqs_max = draw_int(),
                                              .n_queue_max = draw_int(),
                                              .n_batch = draw_int(),
                                              .gpu_layers = draw_int(),
                                              .kv_type = draw_int(),
                                              .kv_bytes_max = draw_u64(),
                                              .kv_contexts = draw_int(),
                                              .no_prefix_cache = draw_bool(),
                                              .options = draw_bool() ? "{\"x\":1}" : NULL,
                                              .split = {.n_stages = draw_int(),
                                                        .stage = draw_int(),
                                                        .first = draw_int(),
                                                        .last = draw_int(),
                                                        .kv_blocks = draw_int(),
                                                        .link = (enum engine_link_type)prop_draw(3),
                                                        .n_flights = draw_int()}},
                                   .title = draw_string(),
                                   .chat_template = draw_bool() ? "{{ x }}" : NULL};
}

static void test_load(void **state)
{
    struct sl_arena arena;
    (void)state;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        struct wire_msg out, in;
        draw_load(&out);
        pass_through(&out, &arena, &in);
        const struct engine_load *a = &out.load.engine, *b = &in.load.engine;
        assert_string_equal(a->kind, b->kind);
        assert_string_equal(a->path, b->path);
        assert_string_equal(out.load.title, in.load.title);
        assert_int_equal(!out.load.chat_template, !in.load.chat_template);
        if (out.load.chat_template)
            assert_string_equal(out.load.chat_template, in.load.chat_template);
        /* From n_threads on the struct holds numbers only. */
        size_t from = offsetof(struct engine_load, n_threads);
        size_t to = offsetof(struct engine_load, kv_type) + sizeof a->kv_type;
        assert_memory_equal((const char *)a + from, (const char *)b + from, to - from);
        assert_int_equal(a->kv_bytes_max, b->kv_bytes_max);
        assert_int_equal(a->kv_contexts, b->kv_contexts);
        assert_int_equal(a->no_prefix_cache, b->no_prefix_cache);
        assert_memory_equal(&a->split, &b->split, sizeof a->split);
        assert_int_equal(!a->options, !b->options);
        if (a->options) assert_string_equal(a->options, b->options);
        sl_arena_reset(&arena);
        sl_arena_reset(&draws);
    }
    sl_arena_done(&arena);
}

static void draw_sampler(struct sampler_cfg *out)
{
    size_t n_bias = prop_draw(20), n_breakers;
    struct sampler_bias *bias = sl_arena_array(&draws, n_bias + 1, sizeof *bias);
    for (size_t i = 0; i < n_bias; i++)
        bias[i] = (struct sampler_bias){.token = draw_int(), .bias = draw_float()};
    *out = (struct sampler_cfg){.temp = draw_float(),
                                .top_k = draw_int(),
                                .top_p = draw_float(),
                                .min_p = draw_float(),
                                .typical_p = draw_float(),
                                .repeat_penalty = draw_float(),
                                .repeat_last_n = draw_int(),
                                .presence_penalty = draw_float(),
                                .frequency_penalty = draw_float(),
                                .dry_multiplier = draw_float(),
                                .dry_base = draw_float(),
                                .dry_allowed_len = draw_int(),
                                .dry_last_n = draw_int(),
                                .dry_breakers = draw_tokens(&n_breakers),
                                .bias = bias,
                                .n_bias = (int32_t)n_bias,
                                .seed = draw_u64(),
                                .n_logprobs = draw_int()};
    out->n_dry_breakers = (int32_t)n_breakers;
}

static void same_sampler(const struct sampler_cfg *a, const struct sampler_cfg *b)
{
    /* Numbers stand before the first pointer; seed and n_logprobs after the last. */
    assert_memory_equal(a, b, offsetof(struct sampler_cfg, dry_breakers));
    same_tokens(a->dry_breakers, (size_t)a->n_dry_breakers, b->dry_breakers,
                (size_t)b->n_dry_breakers);
    assert_int_equal(a->n_bias, b->n_bias);
    assert_memory_equal(a->bias, b->bias, (size_t)a->n_bias * sizeof *a->bias);
    assert_int_equal(a->seed, b->seed);
    assert_int_equal(a->n_logprobs, b->n_logprobs);
}

static void draw_generate(struct wire_msg *msg)
{
    *msg = (struct wire_msg){.type = WIRE_GENERATE};
    struct wire_generate *g = &msg->generate;
    const char **stop = sl_arena_array(&draws, WIRE_STOP_MAX, sizeof *stop);
    for (int i = 0; i < WIRE_STOP_MAX; i++) stop[i] = draw_string();
    g->id = draw_u64();
    draw_prompt(&g->prompt);
    g->max_tokens = draw_int();
    g->n_choices = draw_int();
    g->choice_base = draw_int();
    g->ignore_end = draw_bool();
    draw_sampler(&g->sampler);
    g->stop = stop;
    g->n_stop = (int)prop_draw(WIRE_STOP_MAX + 1);
    g->resume = draw_tokens(&g->n_resume);
    g->want_tokens = draw_bool();
    g->want_text = draw_bool();
}

static void test_generate(void **state)
{
    struct sl_arena arena;
    (void)state;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        struct wire_msg out, in;
        draw_generate(&out);
        pass_through(&out, &arena, &in);
        const struct wire_generate *a = &out.generate, *b = &in.generate;
        assert_int_equal(a->id, b->id);
        same_prompt(&a->prompt, &b->prompt);
        assert_int_equal(a->max_tokens, b->max_tokens);
        assert_int_equal(a->n_choices, b->n_choices);
        assert_int_equal(a->choice_base, b->choice_base);
        assert_int_equal(a->ignore_end, b->ignore_end);
        same_sampler(&a->sampler, &b->sampler);
        assert_int_equal(a->n_stop, b->n_stop);
        for (int k = 0; k < a->n_stop; k++) assert_string_equal(a->stop[k], b->stop[k]);
        same_tokens(a->resume, a->n_resume, b->resume, b->n_resume);
        assert_int_equal(!b->resume, !b->n_resume);
        assert_int_equal(a->want_tokens, b->want_tokens);
        assert_int_equal(a->want_text, b->want_text);
        sl_arena_reset(&arena);
        sl_arena_reset(&draws);
    }
    sl_arena_done(&arena);
}

static void test_small_requests(void **state)
{
    struct sl_arena arena;
    struct wire_msg in;
    (void)state;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        struct wire_msg embed = {.type = WIRE_EMBED, .embed = {.id = draw_u64()}};
        embed.embed.pooling = (enum engine_pooling)prop_draw(ENGINE_POOLING_RANK + 1);
        embed.embed.no_normalize = draw_bool();
        if (draw_bool()) embed.embed.pair = draw_bytes(&embed.embed.n_pair);
        draw_prompt(&embed.embed.prompt);
        pass_through(&embed, &arena, &in);
        assert_int_equal(in.embed.id, embed.embed.id);
        assert_int_equal(in.embed.pooling, embed.embed.pooling);
        assert_int_equal(in.embed.no_normalize, embed.embed.no_normalize);
        same_prompt(&embed.embed.prompt, &in.embed.prompt);
        assert_int_equal(!embed.embed.pair, !in.embed.pair);
        same_bytes(embed.embed.pair, embed.embed.n_pair, in.embed.pair, in.embed.n_pair);

        struct wire_msg tok = {.type = WIRE_TOKENIZE, .tokenize = {.id = draw_u64()}};
        tok.tokenize.no_bos = draw_bool();
        draw_prompt(&tok.tokenize.prompt);
        pass_through(&tok, &arena, &in);
        assert_int_equal(in.tokenize.id, tok.tokenize.id);
        assert_int_equal(in.tokenize.no_bos, tok.tokenize.no_bos);
        same_prompt(&tok.tokenize.prompt, &in.tokenize.prompt);

        struct wire_msg detok = {.type = WIRE_DETOKENIZE, .detokenize = {.id = draw_u64()}};
        detok.detokenize.tokens = draw_tokens(&detok.detokenize.n_tokens);
        pass_through(&detok, &arena, &in);
        assert_int_equal(in.detokenize.id, detok.detokenize.id);
        same_tokens(detok.detokenize.tokens, detok.detokenize.n_tokens, in.detokenize.tokens,
                    in.detokenize.n_tokens);

        const struct wire_msg cancel = {.type = WIRE_CANCEL, .cancel_id = draw_u64()};
        pass_through(&cancel, &arena, &in);
        assert_int_equal(in.cancel_id, cancel.cancel_id);
        const struct wire_msg ping = {.type = WIRE_PING, .ping_seq = draw_u64()};
        pass_through(&ping, &arena, &in);
        assert_int_equal(in.ping_seq, ping.ping_seq);
        sl_arena_reset(&arena);
        sl_arena_reset(&draws);
    }
    const struct wire_msg unload = {.type = WIRE_UNLOAD};
    pass_through(&unload, &arena, &in);
    sl_arena_done(&arena);
}

static void test_infer(void **state)
{
    struct sl_arena arena;
    struct wire_msg in;
    (void)state;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        struct wire_msg out = {.type = WIRE_INFER, .infer = {.id = draw_u64()}};
        size_t n_outputs = prop_draw(4);
        const char **outputs = sl_arena_array(&draws, n_outputs + 1, sizeof *outputs);
        for (size_t k = 0; k < n_outputs; k++) outputs[k] = draw_string();
        out.infer.inputs = draw_tensors(&out.infer.n_inputs);
        out.infer.pieces = draw_pieces(out.infer.inputs, out.infer.n_inputs);
        out.infer.outputs = outputs;
        out.infer.n_outputs = n_outputs;
        pass_through(&out, &arena, &in);
        same_pieces(out.infer.pieces, in.infer.pieces, out.infer.n_inputs);
        assert_int_equal(out.infer.id, in.infer.id);
        same_tensors(out.infer.inputs, out.infer.n_inputs, in.infer.inputs, in.infer.n_inputs);
        assert_int_equal(in.infer.n_outputs, n_outputs);
        for (size_t k = 0; k < n_outputs; k++) assert_string_equal(outputs[k], in.infer.outputs[k]);
        sl_arena_reset(&arena);
        sl_arena_reset(&draws);
    }
    sl_arena_done(&arena);
}

/* A worker or an agent that lies about a tensor is found out before anybody reads it. */
static void test_tensors_that_lie(void **state)
{
    static const unsigned char data[8];
    static const struct tensor lies[] = {
        {.name = "short", .type = TENSOR_FP32, .rank = 1, .shape = {3}, .data = data, .n_bytes = 8},
        {.name = "long", .type = TENSOR_INT8, .rank = 1, .shape = {7}, .data = data, .n_bytes = 8},
        {.name = "type", .type = TENSOR_TYPE_COUNT, .data = data, .n_bytes = 8},
        {.name = "below",
         .type = TENSOR_INT8,
         .rank = 1,
         .shape = {-8},
         .data = data,
         .n_bytes = 8},
        {.name = "bytes",
         .type = TENSOR_BYTES,
         .rank = 1,
         .shape = {3},
         .data = data,
         .n_bytes = 8},
    };
    struct sl_arena arena;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        const struct wire_msg out = {.type = WIRE_INFER,
                                     .infer = {.inputs = &lies[i], .n_inputs = 1}};
        struct wire_msg in;
        struct sl_buf buf;
        sl_buf_init(&buf, 4096);
        assert_int_equal(wire_encode(&out, &buf, &err), SL_OK);
        const struct frame frame = {.type = WIRE_INFER,
                                    .payload = buf.data + FRAME_HEADER_BYTES,
                                    .n_payload = buf.len - FRAME_HEADER_BYTES};
        assert_int_equal(wire_decode(&frame, &arena, &in, &err), SL_CORRUPT);
        sl_buf_done(&buf);
    }
    sl_arena_done(&arena);
}

static void test_load_replies(void **state)
{
    struct sl_arena arena;
    (void)state;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        struct wire_msg in, out = {.type = WIRE_LOADED};
        out.loaded = (struct wire_loaded){
            .info = {.architecture = draw_string(),
                     .name = draw_string(),
                     .chat_template = draw_bool() ? "{% x %}" : NULL,
                     .bos_text = draw_string(),
                     .eos_text = draw_string(),
                     .adds_bos = draw_bool(),
                     .n_ctx = (int32_t)prop_draw(INT32_MAX),
                     .n_ctx_model = draw_int(),
                     .n_vocab = (int32_t)prop_draw(INT32_MAX),
                     .n_embd = (int32_t)prop_draw(INT32_MAX),
                     .n_layer = draw_int(),
                     .n_seqs_max = draw_int(),
                     .n_params = draw_u64(),
                     .quantization = draw_string(),
                     .device = draw_bool() ? "cpu" : NULL,
                     .embeds = draw_bool(),
                     .ranks = draw_bool(),
                     .batch_max = draw_int()},
            .traits = {.tools = (enum chat_tool_format)prop_draw(CHAT_TOOLS_HARMONY + 1),
                       .thinks = draw_bool()},
            .weight_bytes = draw_u64(),
            .kv_bytes = draw_u64(),
            .compute_bytes = draw_u64(),
            .load_ns = (int64_t)draw_u64()};
        struct tensor_signature *signature = &out.loaded.info.signature;
        signature->inputs = draw_specs(&signature->n_inputs);
        signature->outputs = draw_specs(&signature->n_outputs);
        pass_through(&out, &arena, &in);
        const struct engine_info *a = &out.loaded.info, *b = &in.loaded.info;
        assert_string_equal(a->architecture, b->architecture);
        assert_string_equal(a->name, b->name);
        assert_int_equal(!a->chat_template, !b->chat_template);
        assert_string_equal(a->bos_text, b->bos_text);
        assert_string_equal(a->eos_text, b->eos_text);
        assert_string_equal(a->quantization, b->quantization);
        assert_int_equal(a->adds_bos, b->adds_bos);
        assert_int_equal(a->n_ctx, b->n_ctx);
        assert_int_equal(a->n_ctx_model, b->n_ctx_model);
        assert_int_equal(a->n_vocab, b->n_vocab);
        assert_int_equal(a->n_embd, b->n_embd);
        assert_int_equal(a->n_layer, b->n_layer);
        assert_int_equal(a->n_seqs_max, b->n_seqs_max);
        assert_int_equal(a->n_params, b->n_params);
        assert_int_equal(!a->device, !b->device);
        assert_int_equal(a->embeds, b->embeds);
        assert_int_equal(a->ranks, b->ranks);
        assert_int_equal(a->batch_max, b->batch_max);
        same_specs(signature->inputs, signature->n_inputs, b->signature.inputs,
                   b->signature.n_inputs);
        same_specs(signature->outputs, signature->n_outputs, b->signature.outputs,
                   b->signature.n_outputs);
        assert_int_equal(out.loaded.traits.tools, in.loaded.traits.tools);
        assert_int_equal(out.loaded.traits.thinks, in.loaded.traits.thinks);
        assert_int_equal(out.loaded.weight_bytes, in.loaded.weight_bytes);
        assert_int_equal(out.loaded.kv_bytes, in.loaded.kv_bytes);
        assert_int_equal(out.loaded.compute_bytes, in.loaded.compute_bytes);
        assert_int_equal(out.loaded.load_ns, in.loaded.load_ns);
        const struct wire_msg failed = {
            .type = WIRE_LOAD_FAILED,
            .load_failed = {(sl_status)prop_draw(SL_STATUS_COUNT), draw_string()}};
        pass_through(&failed, &arena, &in);
        assert_int_equal(in.load_failed.status, failed.load_failed.status);
        assert_string_equal(in.load_failed.message, failed.load_failed.message);
        const struct wire_msg loading = {.type = WIRE_LOADING,
                                         .loading = (double)prop_draw(1025) / 1024};
        pass_through(&loading, &arena, &in);
        assert_true(in.loading == loading.loading);
        sl_arena_reset(&arena);
        sl_arena_reset(&draws);
    }
    sl_arena_done(&arena);
}

static void draw_logprob(struct engine_logprob *out)
{
    *out = (struct engine_logprob){.token = draw_int(), .logprob = draw_float()};
    out->bytes = draw_bytes(&out->n_bytes);
}

static void draw_engine_event(struct engine_event *e)
{
    struct engine_usage *usage = sl_arena_alloc(&draws, sizeof *usage);
    struct engine_logprob *top = sl_arena_array(&draws, ENGINE_TOP_LOGPROBS_MAX, sizeof *top);
    float *embedding = sl_arena_array(&draws, 64, sizeof *embedding);
    *usage = (struct engine_usage){draw_int(),          draw_int(),          draw_int(),
                                   (int64_t)draw_u64(), (int64_t)draw_u64(), (int64_t)draw_u64(),
                                   (int64_t)draw_u64()};
    *e = (struct engine_event){.type = (enum engine_event_type)prop_draw(ENGINE_EVENT_DONE + 1)};
    e->choice = (int32_t)prop_draw(ENGINE_CHOICES_MAX);
    e->text = draw_bytes(&e->n_text);
    switch (e->type) {
    case ENGINE_EVENT_PREFILL:
        e->n_done = draw_int();
        e->n_total = draw_int();
        e->n_cached = draw_int();
        break;
    case ENGINE_EVENT_TOKEN:
        e->token = draw_int();
        e->has_logprob = draw_bool();
        draw_logprob(&e->logprob);
        e->n_top = e->has_logprob ? (int32_t)prop_draw(ENGINE_TOP_LOGPROBS_MAX + 1) : 0;
        for (int32_t i = 0; i < e->n_top; i++) draw_logprob(&top[i]);
        e->top = top;
        break;
    case ENGINE_EVENT_EMBEDDING:
        e->n_embd = (int32_t)prop_draw(65);
        for (int32_t i = 0; i < e->n_embd; i++) embedding[i] = draw_float();
        e->embedding = embedding;
        break;
    case ENGINE_EVENT_TENSORS: e->tensors = draw_tensors(&e->n_tensors); break;
    case ENGINE_EVENT_DONE:
        e->finish = (enum engine_finish)prop_draw(ENGINE_FINISH_ERROR + 1);
        e->status = (sl_status)prop_draw(SL_STATUS_COUNT);
        e->message = draw_string();
        e->usage = usage;
        break;
    }
}

static void draw_event(struct wire_event *e)
{
    *e = (struct wire_event){.type = (enum wire_event_type)prop_draw(WIRE_EVENT_TEXT + 1),
                             .id = draw_u64()};
    if (e->type == WIRE_EVENT_ENGINE) {
        draw_engine_event(&e->engine);
        e->engine.id = e->id;
        e->pieces = draw_pieces(e->engine.tensors, e->engine.n_tensors);
    } else if (e->type == WIRE_EVENT_REJECTED) {
        e->status = (sl_status)prop_draw(SL_STATUS_COUNT);
        e->message = draw_string();
    } else {
        e->opens_thinking = draw_bool();
        e->text = draw_bytes(&e->n_text);
        e->tokens = draw_tokens(&e->n_tokens);
    }
}

static void same_logprob(const struct engine_logprob *a, const struct engine_logprob *b)
{
    assert_int_equal(a->token, b->token);
    assert_true(a->logprob == b->logprob);
    same_bytes(a->bytes, a->n_bytes, b->bytes, b->n_bytes);
}

static void same_engine_event(const struct engine_event *a, const struct engine_event *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->choice, b->choice);
    same_bytes(a->text, a->n_text, b->text, b->n_text);
    assert_int_equal(a->n_done, b->n_done);
    assert_int_equal(a->n_total, b->n_total);
    assert_int_equal(a->n_cached, b->n_cached);
    assert_int_equal(a->token, b->token);
    assert_int_equal(a->has_logprob, b->has_logprob);
    if (a->has_logprob) same_logprob(&a->logprob, &b->logprob);
    assert_int_equal(a->n_top, b->n_top);
    for (int32_t i = 0; i < a->n_top; i++) same_logprob(&a->top[i], &b->top[i]);
    assert_int_equal(a->n_embd, b->n_embd);
    if (a->n_embd)
        assert_memory_equal(a->embedding, b->embedding, (size_t)a->n_embd * sizeof(float));
    same_tensors(a->tensors, a->n_tensors, b->tensors, b->n_tensors);
    if (a->type != ENGINE_EVENT_DONE) return;
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->status, b->status);
    assert_string_equal(a->message, b->message);
    assert_memory_equal(a->usage, b->usage, offsetof(struct engine_usage, queue_ns));
    assert_int_equal(a->usage->queue_ns, b->usage->queue_ns);
    assert_int_equal(a->usage->first_token_ns, b->usage->first_token_ns);
    assert_int_equal(a->usage->prefill_ns, b->usage->prefill_ns);
    assert_int_equal(a->usage->decode_ns, b->usage->decode_ns);
}

static void same_event(const struct wire_event *a, const struct wire_event *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->id, b->id);
    if (a->type == WIRE_EVENT_ENGINE) {
        same_engine_event(&a->engine, &b->engine);
        same_pieces(a->pieces, b->pieces, a->engine.n_tensors);
        return;
    }
    assert_int_equal(a->opens_thinking, b->opens_thinking);
    same_bytes(a->text, a->n_text, b->text, b->n_text);
    same_tokens(a->tokens, a->n_tokens, b->tokens, b->n_tokens);
    if (a->type != WIRE_EVENT_REJECTED) return;
    assert_int_equal(a->status, b->status);
    assert_string_equal(a->message, b->message);
}

static void test_events(void **state)
{
    struct sl_arena arena;
    (void)state;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        struct wire_event events[20];
        struct wire_msg in, out = {.type = WIRE_EVENTS};
        out.events.v = events;
        out.events.n = prop_draw(20);
        for (size_t k = 0; k < out.events.n; k++) draw_event(&events[k]);
        pass_through(&out, &arena, &in);
        assert_int_equal(in.events.n, out.events.n);
        for (size_t k = 0; k < out.events.n; k++) same_event(&events[k], &in.events.v[k]);
        sl_arena_reset(&arena);
        sl_arena_reset(&draws);
    }
    sl_arena_done(&arena);
}

static void test_pong(void **state)
{
    struct sl_arena arena;
    struct wire_msg in, out = {.type = WIRE_PONG, .pong = {.seq = draw_u64(), .loaded = true}};
    unsigned char *stats = (unsigned char *)&out.pong.stats;
    (void)state;
    /* Every byte of the statistics is a field's. */
    for (size_t i = 0; i < sizeof out.pong.stats; i++) stats[i] = (unsigned char)prop_draw(256);
    out.pong.stats.n_stages = (int32_t)prop_draw(ENGINE_STAGES_MAX + 1);
    for (int32_t i = out.pong.stats.n_stages; i < ENGINE_STAGES_MAX; i++)
        out.pong.stats.hops[i] = (struct engine_hop){0};
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    pass_through(&out, &arena, &in);
    assert_int_equal(in.pong.seq, out.pong.seq);
    assert_true(in.pong.loaded);
    assert_memory_equal(&in.pong.stats, &out.pong.stats, sizeof in.pong.stats);
    sl_arena_done(&arena);
}

/* Both ways; the bytes are the frame's own. */
static void test_stage_messages(void **state)
{
    struct sl_arena arena;
    char bytes[300];
    (void)state;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        size_t n = prop_draw(sizeof bytes);
        for (size_t k = 0; k < n; k++) bytes[k] = (char)prop_draw(256);
        const struct wire_stage stage = {(int32_t)prop_draw(ENGINE_STAGES_MAX), bytes, n};
        struct wire_msg in, out = {.type = i % 2 ? WIRE_DELIVER : WIRE_FRAME};
        if (i % 2)
            out.deliver = stage;
        else
            out.frame = stage;
        struct sl_err err = SL_ERR_INIT;
        struct sl_buf buf;
        sl_buf_init(&buf, 1 << 20);
        assert_int_equal(wire_encode(&out, &buf, &err), SL_OK);
        const struct frame frame = {.type = (uint8_t)buf.data[FRAME_LENGTH_BYTES],
                                    .payload = buf.data + FRAME_HEADER_BYTES,
                                    .n_payload = buf.len - FRAME_HEADER_BYTES};
        assert_int_equal(wire_decode(&frame, &arena, &in, &err), SL_OK);
        const struct wire_stage *got = i % 2 ? &in.deliver : &in.frame;
        assert_int_equal(in.type, out.type);
        assert_int_equal(got->stage, stage.stage);
        assert_int_equal(got->n, n);
        assert_memory_equal(got->bytes, bytes, n);
        sl_buf_done(&buf);
    }
    sl_arena_done(&arena);
}

/* Flips bits of good messages: refused with a reason, or read with every enum in range. */
static void test_broken_bytes(void **state)
{
    struct sl_arena arena;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    for (int i = 0; i < 20 * ROUNDS; i++) {
        struct wire_event events[4];
        struct wire_msg in, out = {.type = WIRE_EVENTS, .events = {events, 4}};
        struct sl_buf buf;
        for (int k = 0; k < 4; k++) draw_event(&events[k]);
        if (i % 2) draw_generate(&out);
        sl_buf_init(&buf, 1 << 20);
        assert_int_equal(wire_encode(&out, &buf, &err), SL_OK);
        for (size_t flips = 1 + prop_draw(4); flips; flips--)
            buf.data[FRAME_LENGTH_BYTES + prop_draw(buf.len - FRAME_LENGTH_BYTES)] ^=
                (char)(1 << prop_draw(8));
        const struct frame frame = {.type = (uint8_t)buf.data[FRAME_LENGTH_BYTES],
                                    .payload = buf.data + FRAME_HEADER_BYTES,
                                    .n_payload = buf.len - FRAME_HEADER_BYTES - prop_draw(2)};
        err.text[0] = '\0';
        if (wire_decode(&frame, &arena, &in, &err) != SL_OK)
            assert_true(err.text[0]);
        else
            assert_string_not_equal(wire_type_name(in.type), "?");
        sl_buf_done(&buf);
        sl_arena_reset(&arena);
        sl_arena_reset(&draws);
    }
    sl_arena_done(&arena);
}

static void expect_refused(uint8_t type, const char *payload, size_t n, const char *part)
{
    struct sl_arena arena;
    struct wire_msg msg;
    struct sl_err err = SL_ERR_INIT;
    const struct frame frame = {.type = type, .payload = payload, .n_payload = n};
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    assert_int_equal(wire_decode(&frame, &arena, &msg, &err), SL_CORRUPT);
    if (!strstr(err.text, part)) fail_msg("%s: no \"%s\"", err.text, part);
    sl_arena_done(&arena);
}

/* By hand: field number << 3 | wire type, then the value. */
static void test_values_out_of_range(void **state)
{
    (void)state;
    expect_refused(0, "", 0, "unknown type 0");
    expect_refused(20, "", 0, "unknown type 20");
    expect_refused(255, "", 0, "unknown type 255");
    expect_refused(WIRE_GENERATE, "", 0, "no prompt");
    expect_refused(WIRE_GENERATE, "\x12\x02\x08\x09", 4, "prompt of kind 9");
    expect_refused(WIRE_EMBED, "\x12\x00\x18\x07", 4, "pooling 7");
    expect_refused(WIRE_LOADING, "\x0d\x00\x00\xc0\x7f", 5, "fraction");
    expect_refused(WIRE_LOADING, "\x0d\x00\x00\x00\x40", 5, "fraction 2");
    expect_refused(WIRE_LOADED, "\x78\x63", 2, "tool format 99");
    expect_refused(WIRE_LOAD_FAILED, "\x08\x63", 2, "status 99");
    expect_refused(WIRE_EVENTS, "\x0a\x02\x08\x20", 4, "event of type 32");
    expect_refused(WIRE_EVENTS, "\x0a\x04\x08\x03\x18\x63", 6, "choice 99");
    expect_refused(WIRE_EVENTS, "\x0a\x04\x08\x05\x68\x09", 6, "finish 9");
    expect_refused(WIRE_EVENTS, "\x0a\x04\x08\x05\x70\x63", 6, "status 99");
    expect_refused(WIRE_PING, "\x08", 1, "does not parse");
    expect_refused(WIRE_LOAD, "\xa8\x01\x03", 3, "link 3");
    expect_refused(WIRE_PONG, "\xb0\x01\x11", 3, "17 stages");
    expect_refused(WIRE_PONG, "\xb0\x01\x01", 3, "1 stages");
    expect_refused(WIRE_DELIVER, "", 0, "no stage's number");
    expect_refused(WIRE_FRAME, "\x10", 1, "no stage's number");
}

/* A frame of nothing but empty events is many times larger once it is read. */
static void test_flood_of_events(void **state)
{
    enum { EVENTS = 2000000 };
    struct sl_arena arena;
    struct wire_msg msg;
    struct sl_err err = SL_ERR_INIT;
    char *payload = malloc(2 * EVENTS);
    (void)state;
    assert_non_null(payload);
    for (int i = 0; i < EVENTS; i++) memcpy(payload + 2 * i, "\x0a\x00", 2);
    const struct frame frame = {.type = WIRE_EVENTS, .payload = payload, .n_payload = 2 * EVENTS};
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    assert_int_equal(wire_decode(&frame, &arena, &msg, &err), SL_NOMEM);
    assert_true(arena.used_bytes <= WIRE_ARENA_BYTES_MAX);
    sl_arena_done(&arena);
    free(payload);
}

static void test_without_memory(void **state)
{
    struct wire_msg msg, in;
    struct sl_arena arena;
    struct sl_buf buf;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live;
    (void)state;
    draw_generate(&msg);
    live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_buf_init(&buf, 1 << 20);
        sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
        sl_mem_fail_at(n, false);
        status = wire_encode(&msg, &buf, &err);
        if (status == SL_OK) {
            const struct frame frame = {.type = WIRE_GENERATE,
                                        .payload = buf.data + FRAME_HEADER_BYTES,
                                        .n_payload = buf.len - FRAME_HEADER_BYTES};
            status = wire_decode(&frame, &arena, &in, &err);
        } else {
            assert_int_equal(buf.len, 0);
        }
        sl_mem_fail_at(0, false);
        if (status != SL_OK) assert_int_equal(status, SL_NOMEM);
        sl_buf_done(&buf);
        sl_arena_done(&arena);
        assert_int_equal(sl_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_small_requests),
        cmocka_unit_test(test_infer),
        cmocka_unit_test(test_tensors_that_lie),
        cmocka_unit_test(test_load_replies),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_pong),
        cmocka_unit_test(test_stage_messages),
        cmocka_unit_test(test_broken_bytes),
        cmocka_unit_test(test_values_out_of_range),
        cmocka_unit_test(test_flood_of_events),
        cmocka_unit_test(test_without_memory),
    };
    prop_begin();
    sl_arena_init(&draws, 64u << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sl_arena_done(&draws);
    return failed;
}
