/* llm_hostile_test.c: model files that lie, all the way to generated tokens. ggml ends the process
 * over a shape or type that it does not like, so ours must be the checks that find it: loading says
 * what is wrong with which key, tensor or field, or it works. */
#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/logits.h"
#include "exec/llm/tokenizer.h"
#include "support/model_edit.h"
#include "support/prop.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#define ADDRESS_SPACE_MAX ((rlim_t)4 << 30) /* bytes; small models must not ask for more */
#define ENGINE_BYTES_MAX (64u << 20)        /* of keys, values and graph buffers */
#define N_CTX 64
#define N_PROMPT 3
#define N_ANSWER 2
#define LIST_STRIDE 61 /* bytes between the positions tried within the token list */
#define N_TRUNCATIONS 300

static char doing[128]; /* what a crash interrupts */

static void on_abort(int signal_number)
{
    (void)signal_number;
    ssize_t n = write(STDERR_FILENO, doing, strlen(doing));
    (void)n;
}

struct outcome {
    int n_done, n_tokens;
    enum engine_finish finish;
    char message[256]; /* of a generation that failed */
    int32_t n_vocab;
};

static void on_event(void *ctx, const struct engine_event *ev)
{
    struct outcome *o = ctx;
    if (ev->type == ENGINE_EVENT_TOKEN) {
        o->n_tokens++;
        assert_in_range(ev->token, 0, o->n_vocab - 1);
    }
    if (ev->type != ENGINE_EVENT_DONE) return;
    o->n_done++;
    o->finish = ev->finish;
    if (ev->message) snprintf(o->message, sizeof o->message, "%s", ev->message);
}

static void check_memory(const struct engine *engine)
{
    struct engine_stats st;
    engine_stats(engine, &st);
    assert_true(st.kv_bytes + st.compute_bytes <= ENGINE_BYTES_MAX);
}

static void generate(struct engine *engine, struct outcome *o)
{
    static const int32_t prompt[N_PROMPT];
    struct engine_generate g = {.id = 1,
                                .tokens = prompt,
                                .n_tokens = N_PROMPT,
                                .max_tokens = N_ANSWER,
                                .ignore_end = true};
    struct sl_err err = SL_ERR_INIT;
    bool idle = false;
    o->n_vocab = tokenizer_n_vocab(llm_engine_tokenizer(engine));
    assert_int_equal(engine_submit(engine, &g, &err), SL_OK);
    for (int i = 0; i < 16 && !idle; i++) {
        if (engine_step(engine, &idle, &err) != SL_OK) fail_msg("%s: %s", doing, err.text);
    }
    assert_int_equal(o->n_done, 1);
}

/* The part of the message behind "load: <path>: ". */
static const char *reason(const char *path, const struct sl_err *err)
{
    char prefix[MODEL_PATH_MAX + 16];
    snprintf(prefix, sizeof prefix, "load: %s: ", path);
    if (strncmp(err->text, prefix, strlen(prefix))) fail_msg("%s: \"%s\"", doing, err->text);
    return err->text + strlen(prefix);
}

/* Loads and generates; on failure the message names something. */
static sl_status attempt(const char *path, struct llm_engine_cfg cfg, struct outcome *o,
                         struct sl_err *err)
{
    uint64_t live = sl_mem_live();
    struct engine *engine = NULL;
    *err = (struct sl_err)SL_ERR_INIT;
    *o = (struct outcome){0};
    cfg.on_event = on_event;
    cfg.event_ctx = o;
    sl_status status = llm_engine_load(path, &cfg, &engine, err);
    if (status == SL_OK) {
        check_memory(engine);
        generate(engine, o);
        engine_unload(engine);
    } else if (!strchr(reason(path, err), ':')) {
        fail_msg("%s: \"%s\" names nothing", doing, err->text);
    }
    assert_int_equal(sl_mem_live(), live);
    return status;
}

static struct llm_engine_cfg small_cfg(void)
{
    return (struct llm_engine_cfg){.n_threads = 1,
                                   .n_ctx = N_CTX,
                                   .n_seqs_max = 1,
                                   .n_queue_max = 4,
                                   .n_batch = 16,
                                   .gpu_layers = 0};
}

/* --- corrupted bytes --- */

struct victim {
    int fd;
    char path[64];
    unsigned char *bytes;
    size_t n_bytes, n_header;
    size_t list_first, list_end; /* the tokens and their types */
    int n_loaded, n_refused;
};

static size_t offset_of(const struct victim *v, const struct gguf_file *file, const void *p)
{
    size_t n, at = (size_t)((const char *)p - (const char *)gguf_shard_map(file, 0, &n));
    assert_true(at < v->n_bytes);
    return at;
}

static void victim_measure(struct victim *v)
{
    struct gguf_file *file;
    assert_int_equal(gguf_open(v->path, &file, NULL), SL_OK);
    const struct gguf_kv *tokens = gguf_find(file, "tokenizer.ggml.tokens");
    const struct gguf_kv *types = gguf_find(file, "tokenizer.ggml.token_type");
    v->n_header = offset_of(v, file, gguf_tensor_at(file, 0)->data);
    v->list_first = offset_of(v, file, tokens->strs[2].s);
    v->list_end = offset_of(v, file, types->raw) + 4 * types->n;
    gguf_close(file);
}

static void victim_open(struct victim *v, const char *from)
{
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    *v = (struct victim){.fd = memfd_create("victim", MFD_CLOEXEC)};
    assert_true(v->fd >= 0 && !fseek(f, 0, SEEK_END));
    v->n_bytes = (size_t)ftell(f);
    rewind(f);
    v->bytes = malloc(v->n_bytes);
    assert_non_null(v->bytes);
    assert_int_equal(fread(v->bytes, 1, v->n_bytes, f), v->n_bytes);
    fclose(f);
    assert_int_equal(pwrite(v->fd, v->bytes, v->n_bytes, 0), v->n_bytes);
    snprintf(v->path, sizeof v->path, "/proc/self/fd/%d", v->fd);
    victim_measure(v);
}

static void victim_close(struct victim *v)
{
    close(v->fd);
    free(v->bytes);
}

static void attempt_victim(struct victim *v)
{
    struct outcome o;
    struct sl_err err;
    if (attempt(v->path, small_cfg(), &o, &err) == SL_OK)
        v->n_loaded++;
    else
        v->n_refused++;
}

static void flip(struct victim *v, size_t at, unsigned mask)
{
    unsigned char byte = v->bytes[at] ^ (unsigned char)mask;
    snprintf(doing, sizeof doing, "byte %zu ^ 0x%02x", at, mask);
    assert_int_equal(pwrite(v->fd, &byte, 1, (off_t)at), 1);
    attempt_victim(v);
    assert_int_equal(pwrite(v->fd, &v->bytes[at], 1, (off_t)at), 1);
}

static void flip_range(struct victim *v, size_t first, size_t end, size_t stride)
{
    for (size_t at = first; at < end; at += stride) {
        flip(v, at, 0xff);
        flip(v, at, 1u << prop_draw(8));
    }
}

static void test_every_header_byte_of_a_llama(void **state)
{
    (void)state;
    struct victim v;
    victim_open(&v, golden_path("llama"));
    flip_range(&v, 0, v.list_first, 1);
    flip_range(&v, v.list_first + prop_draw(LIST_STRIDE), v.list_end, LIST_STRIDE);
    flip_range(&v, v.list_end, v.n_header, 1);
    printf("%d loaded, %d refused\n", v.n_loaded, v.n_refused);
    assert_true(v.n_loaded > 100);
    assert_true(v.n_refused > 1000);
    victim_close(&v);
}

/* Their tensors' descriptions are like those of the llama; what they have more of is keys. */
static void flip_keys(const char *name)
{
    struct victim v;
    size_t n_keys_end;
    victim_open(&v, golden_path(name));
    n_keys_end = v.list_end;
    while (n_keys_end < v.n_header && memcmp(v.bytes + n_keys_end, "token_embd.weight", 17))
        n_keys_end++;
    flip_range(&v, 0, v.list_first, 2);
    flip_range(&v, v.list_end + prop_draw(2), n_keys_end, 2);
    printf("%s: %d loaded, %d refused\n", name, v.n_loaded, v.n_refused);
    assert_true(v.n_refused > 300);
    victim_close(&v);
}

static void test_the_keys_of_models_with_experts(void **state)
{
    (void)state;
    flip_keys("deepseek2-v3");
    flip_keys("gpt-oss");
}

static void test_files_cut_anywhere(void **state)
{
    (void)state;
    struct victim v;
    victim_open(&v, golden_path("llama"));
    for (int i = 0; i < N_TRUNCATIONS; i++) {
        size_t n = prop_draw(i % 2 ? v.n_header : v.n_bytes);
        snprintf(doing, sizeof doing, "cut to %zu bytes", n);
        assert_int_equal(ftruncate(v.fd, (off_t)n), 0);
        attempt_victim(&v);
        assert_int_equal(pwrite(v.fd, v.bytes + n, v.n_bytes - n, (off_t)n), v.n_bytes - n);
    }
    assert_int_equal(v.n_refused, N_TRUNCATIONS);
    victim_close(&v);
}

/* Weights are not checked when they are loaded, so any bits may come: NaN, infinities, and experts
 * chosen by them. */
static void test_random_weights(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "gemma3", "gpt-oss", "deepseek2-v3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct victim v;
        victim_open(&v, golden_path(names[i]));
        for (int round = 0; round < 5; round++) {
            for (size_t at = v.n_header; at < v.n_bytes; at++)
                v.bytes[at] = (unsigned char)prop_draw(256);
            assert_int_equal(pwrite(v.fd, v.bytes, v.n_bytes, 0), v.n_bytes);
            snprintf(doing, sizeof doing, "random weights of %s", names[i]);
            attempt_victim(&v);
        }
        assert_int_equal(v.n_loaded, 5);
        victim_close(&v);
    }
}

/* --- chosen lies --- */

static void refuse_cfg(const char *path, struct llm_engine_cfg cfg, sl_status status,
                       const char *what)
{
    struct outcome o;
    struct sl_err err;
    snprintf(doing, sizeof doing, "%s", what);
    sl_status got = attempt(path, cfg, &o, &err);
    if (got == SL_OK) fail_msg("accepted, expected \"%s\"", what);
    if (!strstr(err.text, what)) fail_msg("\"%s\" does not say \"%s\"", err.text, what);
    assert_int_equal(got, status);
}

static void refuse(const char *path, sl_status status, const char *what)
{
    refuse_cfg(path, small_cfg(), status, what);
}

static void accept_cfg(const char *path, struct llm_engine_cfg cfg, const char *what)
{
    struct outcome o;
    struct sl_err err;
    snprintf(doing, sizeof doing, "%s", what);
    if (attempt(path, cfg, &o, &err) != SL_OK) fail_msg("%s: %s", what, err.text);
    assert_int_equal(o.finish, ENGINE_FINISH_LENGTH);
    assert_int_equal(o.n_tokens, N_ANSWER);
}

static void accept(const char *path, const char *what)
{
    accept_cfg(path, small_cfg(), what);
}

enum { F32 = 0, Q8_1 = 9, Q8_K = 15 };
#define WEIGHTS(tensor, dims, ...) FILLED(tensor, 0x3c, dims, __VA_ARGS__) /* 0.0115 */
#define NANS(tensor, dims, ...) FILLED(tensor, 0xff, dims, __VA_ARGS__)

static void test_sizes_that_ggml_would_abort_over(void **state)
{
    (void)state;
    refuse(EDITED("llama", SET_U32("llama.attention.head_count", 3)), SL_CORRUPT,
           "llama.attention.head_count: 3 is no multiple");
    refuse(EDITED("llama", SET_U32("llama.attention.head_count_kv", 0)), SL_CORRUPT,
           "llama.attention.head_count_kv: 0");
    refuse(EDITED("llama", SET_U32("llama.rope.dimension_count", 5)), SL_CORRUPT,
           "llama.rope.dimension_count: 5 is odd");
    refuse(EDITED("llama", SET_U32("llama.rope.dimension_count", 16)), SL_CORRUPT,
           "llama.rope.dimension_count: 16 is not within");
    refuse(EDITED("llama", SET_U32("llama.embedding_length", 0)), SL_CORRUPT,
           "llama.embedding_length: 0");
    refuse(EDITED("llama", SET_U32("llama.context_length", 0)), SL_CORRUPT,
           "llama.context_length: 0");
    refuse(EDITED("llama", SET_U32("llama.block_count", 0xffffffff)), SL_CORRUPT,
           "llama.block_count: 4294967295");
    refuse(EDITED("llama", SET_U32("llama.block_count", 512)), SL_CORRUPT,
           "tensor blk.3.attn_norm.weight: missing");
    refuse(EDITED("llama-ropefreqs-tied", ZEROS("rope_freqs.weight", F32, 1, 2)), SL_CORRUPT,
           "tensor rope_freqs.weight: shape 2");
    refuse(EDITED("deepseek2-v3", SET_U32("deepseek2.expert_used_count", 0)), SL_CORRUPT,
           "deepseek2.expert_used_count: 0");
    refuse(EDITED("deepseek2-v3", SET_U32("deepseek2.expert_used_count", 17)), SL_CORRUPT,
           "deepseek2.expert_used_count: 17");
    refuse(EDITED("deepseek2-v3", SET_U32("deepseek2.expert_group_count", 3)), SL_CORRUPT,
           "deepseek2.expert_group_count: 3");
    refuse(EDITED("deepseek2-v3", SET_U32("deepseek2.attention.value_length_mla", 0)), SL_CORRUPT,
           "deepseek2.attention.value_length_mla: 0");
    refuse(EDITED("llama", ZEROS("token_embd.weight", Q8_1, 2, 32, 320)), SL_UNSUPPORTED,
           "tensor token_embd.weight: ggml does not compute on type q8_1");
    refuse(EDITED("llama", ZEROS("blk.0.attn_q.weight", Q8_1, 2, 32, 32)), SL_UNSUPPORTED,
           "tensor blk.0.attn_q.weight: ggml does not compute on type q8_1");
}

static void test_tokens_outside_the_vocabulary(void **state)
{
    (void)state;
    refuse(EDITED("llama", SET_U32("tokenizer.ggml.bos_token_id", 320)), SL_CORRUPT,
           "tokenizer.ggml.bos_token_id: id 320 with 320 tokens");
    refuse(EDITED("llama", SET_U32("tokenizer.ggml.eos_token_id", 0x80000000)), SL_CORRUPT,
           "tokenizer.ggml.eos_token_id: id 2147483648");
    accept(EDITED("llama", SET_U32("tokenizer.ggml.bos_token_id", 319)),
           "the last token as the first of texts");
    refuse(EDITED("llama", DROP("tokenizer.ggml.tokens")), SL_CORRUPT,
           "tokenizer.ggml.tokens: missing");
    refuse(EDITED("llama", DROP("tokenizer.ggml.tokens"), DROP("llama.vocab_size")), SL_CORRUPT,
           "llama.vocab_size: missing");
    refuse(EDITED("llama", SET_STR("tokenizer.ggml.tokens", "a")), SL_CORRUPT,
           "tokenizer.ggml.tokens");
}

static void test_odd_numbers_that_are_allowed(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg = small_cfg();
    accept(EDITED("llama", SET_U32("llama.rope.dimension_count", 2)), "two rotated elements");
    accept(EDITED("llama", SET_U32("llama.context_length", 1)), "trained on one token");
    accept(EDITED("llama", SET_F32("llama.rope.freq_base", 1e12f)), "a huge base");
    accept(EDITED("llama", SET_F32("llama.attention.layer_norm_rms_epsilon", 0)), "no epsilon");
    accept(EDITED("llama", SET_F32("llama.final_logit_softcapping", 1e-30f)), "a tiny cap");
    accept(EDITED("qwen2-yarn", SET_F32("qwen2.rope.scaling.factor", 1e-30f)),
           "a tiny YaRN factor");
    accept(EDITED("gemma3", SET_U32("gemma3.attention.sliding_window", 1)), "a window of one");
    accept(EDITED("gemma3", SET_U32("gemma3.attention.sliding_window", 0x7fffffff)),
           "an endless window");
    accept(EDITED("gemma3", SET_U32("gemma3.attention.sliding_window", 0)), "no window");
    accept(EDITED("deepseek2-v3", SET_U32("deepseek2.expert_group_count", 8),
                  SET_U32("deepseek2.expert_group_used_count", 8)),
           "all groups");
    accept(EDITED("deepseek2-v3", SET_U32("deepseek2.expert_used_count", 8)),
           "all experts of the groups");
    accept(EDITED("qwen3moe", SET_U32("qwen3moe.expert_used_count", 8)), "all experts");
    accept(EDITED("qwen3moe", SET_U32("qwen3moe.expert_used_count", 1)), "one expert");
    accept(EDITED("qwen3moe", SET_U32("qwen3moe.expert_gating_func", 2)), "another gating");
    accept(EDITED("qwen3moe", SET_U32("qwen3moe.expert_count", 1),
                  SET_U32("qwen3moe.expert_used_count", 1), SET_U32("qwen3moe.block_count", 1),
                  ZEROS("blk.0.ffn_gate_inp.weight", F32, 2, 32, 1),
                  ZEROS("blk.0.ffn_gate_exps.weight", F32, 3, 32, 48, 1),
                  ZEROS("blk.0.ffn_up_exps.weight", F32, 3, 32, 48, 1),
                  ZEROS("blk.0.ffn_down_exps.weight", F32, 3, 48, 32, 1)),
           "a single expert");
    accept(EDITED("llama", SET_U32("general.alignment", 8)), "data at multiples of 8");
    for (cfg.attention = LLM_ATTENTION_PAGED; cfg.attention <= LLM_ATTENTION_GGML;
         cfg.attention++) {
        for (int32_t period = 0; period <= 7; period++) {
            accept_cfg(EDITED("gemma3",
                              SET_U32("gemma3.attention.sliding_window_pattern", (uint32_t)period)),
                       cfg, "windows of any pattern");
        }
    }
}

struct sizes {
    const char *name;
    uint32_t n_embd, n_head, n_head_kv, head_k, head_v, n_ff, n_vocab;
};

/* A llama of one layer, all weights alike. */
static const char *write_llama(const struct sizes *z)
{
    static const char *const vocab[] = {"a", "b", "c"};
    int64_t e = z->n_embd, q = (int64_t)z->n_head * z->head_k,
            k = (int64_t)z->n_head_kv * z->head_k;
    int64_t v = (int64_t)z->n_head_kv * z->head_v, o = (int64_t)z->n_head * z->head_v;
    const struct edit edits[] = {
        SET_U32("llama.block_count", 1),
        SET_U32("llama.embedding_length", z->n_embd),
        SET_U32("llama.attention.head_count", z->n_head),
        SET_U32("llama.attention.head_count_kv", z->n_head_kv),
        SET_U32("llama.attention.key_length", z->head_k),
        SET_U32("llama.attention.value_length", z->head_v),
        SET_U32("llama.rope.dimension_count", 2),
        SET_U32("llama.feed_forward_length", z->n_ff),
        SET_STRS("tokenizer.ggml.tokens", vocab, z->n_vocab),
        DROP("llama.vocab_size"),
        DROP("tokenizer.ggml.token_type"),
        SET_STRS("tokenizer.ggml.merges", vocab, 0),
        DROP("tokenizer.ggml.bos_token_id"),
        DROP("tokenizer.ggml.eos_token_id"),
        WEIGHTS("token_embd.weight", 2, e, z->n_vocab),
        WEIGHTS("output.weight", 2, e, z->n_vocab),
        WEIGHTS("output_norm.weight", 1, e),
        WEIGHTS("blk.0.attn_norm.weight", 1, e),
        WEIGHTS("blk.0.attn_q.weight", 2, e, q),
        WEIGHTS("blk.0.attn_k.weight", 2, e, k),
        WEIGHTS("blk.0.attn_v.weight", 2, e, v),
        WEIGHTS("blk.0.attn_output.weight", 2, o, e),
        WEIGHTS("blk.0.ffn_norm.weight", 1, e),
        WEIGHTS("blk.0.ffn_gate.weight", 2, e, z->n_ff),
        WEIGHTS("blk.0.ffn_up.weight", 2, e, z->n_ff),
        WEIGHTS("blk.0.ffn_down.weight", 2, z->n_ff, e),
    };
    return model_edit(golden_path("llama"), edits, sizeof edits / sizeof *edits);
}

static void test_models_of_odd_sizes(void **state)
{
    (void)state;
    static const struct sizes list[] = {
        {"the smallest model", 1, 1, 1, 2, 1, 1, 1},
        {"odd heads", 7, 3, 1, 3, 5, 11, 2},
        {"odd heads and groups", 9, 15, 5, 5, 3, 1, 3},
        {"the largest heads", 3, 2, 1, 1024, 1024, 5, 3},
        {"the most heads, one key", 1, 65536, 1, 2, 1, 1, 1},
        {"the most heads, a key each", 1, 65536, 65536, 2, 1, 1, 1},
        {"many wide heads", 1, 256, 1, 1024, 1024, 1, 1},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct llm_engine_cfg cfg = small_cfg();
        const char *path = write_llama(&list[i]);
        accept_cfg(path, cfg, list[i].name);
        cfg.attention = LLM_ATTENTION_GGML;
        accept_cfg(path, cfg, list[i].name);
    }
}

#define N_DEEPEST 512 /* layers, LLM_LAYERS_MAX */

/* As many layers of as many experts as may be, all of one element: the graph is what is large here.
 * */
static const char *write_deepest(uint32_t n_used)
{
    static const struct {
        const char *suffix;
        int n_dims;
        int64_t ne[3];
    } tensors[] = {{"attn_norm.weight", 1, {1}},          {"attn_q.weight", 2, {1, 2}},
                   {"attn_k.weight", 2, {1, 2}},          {"attn_v.weight", 2, {1, 2}},
                   {"attn_output.weight", 2, {2, 1}},     {"attn_q_norm.weight", 1, {2}},
                   {"attn_k_norm.weight", 1, {2}},        {"ffn_norm.weight", 1, {1}},
                   {"ffn_gate_inp.weight", 2, {1, 65}},   {"ffn_gate_exps.weight", 3, {1, 1, 65}},
                   {"ffn_up_exps.weight", 3, {1, 1, 65}}, {"ffn_down_exps.weight", 3, {1, 1, 65}}};
    enum { N_TENSORS = sizeof tensors / sizeof *tensors, N_FIRST = 12 };
    static struct edit edits[N_FIRST + N_DEEPEST * N_TENSORS];
    static char names[N_DEEPEST * N_TENSORS][48];
    const struct edit first[N_FIRST] = {SET_U32("qwen3moe.block_count", N_DEEPEST),
                                        SET_U32("qwen3moe.embedding_length", 1),
                                        SET_U32("qwen3moe.attention.head_count", 1),
                                        SET_U32("qwen3moe.attention.head_count_kv", 1),
                                        SET_U32("qwen3moe.attention.key_length", 2),
                                        SET_U32("qwen3moe.attention.value_length", 2),
                                        SET_U32("qwen3moe.expert_count", 65),
                                        SET_U32("qwen3moe.expert_used_count", n_used),
                                        SET_U32("qwen3moe.expert_feed_forward_length", 1),
                                        WEIGHTS("token_embd.weight", 2, 1, 320),
                                        WEIGHTS("output.weight", 2, 1, 320),
                                        WEIGHTS("output_norm.weight", 1, 1)};
    memcpy(edits, first, sizeof first);
    for (int i = 0; i < N_DEEPEST * N_TENSORS; i++) {
        int t = i % N_TENSORS;
        snprintf(names[i], sizeof names[i], "blk.%d.%s", i / N_TENSORS, tensors[t].suffix);
        edits[N_FIRST + i] = (struct edit)WEIGHTS(names[i], tensors[t].n_dims, tensors[t].ne[0],
                                                  tensors[t].ne[1], tensors[t].ne[2]);
    }
    return model_edit(golden_path("qwen3moe"), edits, sizeof edits / sizeof *edits);
}

static void test_the_deepest_model(void **state)
{
    (void)state;
    accept(write_deepest(64), "512 layers of 64 experts");
    refuse(write_deepest(65), SL_CORRUPT, "qwen3moe.expert_used_count: 65 is not within 1..64");
}

/* Each stage has windowed layers only, or none: half of the masks have no reader. */
static void test_stages_without_some_kind_of_layer(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg = small_cfg();
    cfg.attention = LLM_ATTENTION_GGML;
    cfg.n_stages = 7;
    accept_cfg(golden_path("gemma3"), cfg, "a stage a layer");
    cfg.n_stages = 4;
    accept_cfg(golden_path("gpt-oss"), cfg, "a stage a layer");
}

static void test_contexts_of_any_size(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg = small_cfg();
    struct outcome o = {0};
    struct sl_err err = SL_ERR_INIT;
    struct engine *engine;
    static const int32_t token = 0;
    struct engine_generate g = {.id = 1, .tokens = &token, .n_tokens = 1, .max_tokens = 1};
    cfg.n_ctx = 1;
    cfg.on_event = on_event;
    cfg.event_ctx = &o;
    assert_int_equal(llm_engine_load(golden_path("llama"), &cfg, &engine, &err), SL_OK);
    assert_int_equal(engine_submit(engine, &g, &err), SL_LIMIT); /* no room for an answer */
    engine_unload(engine);
    cfg.n_ctx = 1 << 22;
    cfg.kv_bytes_max = 1 << 20;
    refuse_cfg(golden_path("llama"), cfg, SL_INVALID, "context of 4194304 tokens: its KV cache");
    cfg.n_ctx = (1 << 22) + 1;
    refuse_cfg(golden_path("llama"), cfg, SL_INVALID, "context: 4194305 is not within");
}

/* Loading works, choosing a token does not, and says so. */
static void fail_to_generate(const char *path, const char *what)
{
    struct outcome o;
    struct sl_err err;
    snprintf(doing, sizeof doing, "%s", what);
    if (attempt(path, small_cfg(), &o, &err) != SL_OK) fail_msg("%s: %s", what, err.text);
    assert_int_equal(o.finish, ENGINE_FINISH_ERROR);
    assert_int_equal(o.n_tokens, 0);
    assert_non_null(strstr(o.message, "finite logit"));
}

/* So many that std::sort does more than insertion; whatever NaN does to it, what it chooses must be
 * experts. */
static void test_experts_chosen_by_nan(void **state)
{
    (void)state;
    enum { N = 64, EMBD = 32 };
    static float router[EMBD * N];
    struct outcome o;
    struct sl_err err;
    for (int round = 0; round < 20; round++) {
        for (int e = 0; e < N; e++) {
            bool is_nan = prop_draw(3) == 0;
            for (int i = 0; i < EMBD; i++)
                router[e * EMBD + i] = is_nan ? NAN : (float)prop_draw(1000) / 1000;
        }
        const struct edit edits[] = {SET_U32("qwen3moe.expert_count", N),
                                     SET_U32("qwen3moe.expert_gating_func", round % 2 ? 2 : 3),
                                     FLOATS("blk.0.ffn_gate_inp.weight", router, 2, EMBD, N),
                                     FLOATS("blk.1.ffn_gate_inp.weight", router, 2, EMBD, N),
                                     FLOATS("blk.2.ffn_gate_inp.weight", router, 2, EMBD, N),
#define EXPERTS(il) \
    ZEROS("blk." #il ".ffn_gate_exps.weight", F32, 3, EMBD, 48, N), \
        ZEROS("blk." #il ".ffn_up_exps.weight", F32, 3, EMBD, 48, N), \
        ZEROS("blk." #il ".ffn_down_exps.weight", F32, 3, 48, EMBD, N)
                                     EXPERTS(0),
                                     EXPERTS(1),
                                     EXPERTS(2)};
        snprintf(doing, sizeof doing, "a router that has NaN");
        assert_int_equal(
            attempt(model_edit(golden_path("qwen3moe"), edits, sizeof edits / sizeof *edits),
                    small_cfg(), &o, &err),
            SL_OK);
    }
}

static void test_logits_of_nan(void **state)
{
    (void)state;
    fail_to_generate(EDITED("llama", NANS("output_norm.weight", 1, 32)), "NaN logits");
    fail_to_generate(EDITED("llama", NANS("token_embd.weight", 2, 32, 320)), "NaN everywhere");
    fail_to_generate(EDITED("gpt-oss", NANS("blk.0.attn_sinks.weight", 1, 4)), "NaN sinks");
    fail_to_generate(EDITED("qwen3moe", NANS("blk.1.ffn_gate_inp.weight", 2, 32, 8)),
                     "a NaN router");
}

/* Every allocation of ours fails once, in the middle of each kind of model. */
static void test_logits_survive_failing_allocations(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "gemma3", "deepseek2-v3"};
    static const int32_t tokens[] = {1, 2, 3, 4, 5};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct llm_logits_cfg cfg = {.n_threads = 1,
                                     .n_stages = 2,
                                     .n_chunk = 2,
                                     .attention = i == 1 ? LLM_ATTENTION_GGML : LLM_ATTENTION_AUTO};
        const char *path = golden_path(names[i]);
        uint64_t live = sl_mem_live(), nth = 0;
        sl_status status = SL_NOMEM;
        float *out = NULL;
        int32_t n_vocab;
        while (status != SL_OK) {
            struct sl_err err = SL_ERR_INIT;
            assert_int_equal(sl_mem_live(), live);
            snprintf(doing, sizeof doing, "%s without allocation %d", names[i], (int)++nth);
            sl_mem_fail_at(nth, false);
            status = llm_logits(path, &cfg, tokens, 5, &out, &n_vocab, &err);
            sl_mem_fail_at(0, false);
            assert_true(status == SL_OK || status == SL_NOMEM);
            assert_true(status == SL_OK || err.text[0]);
        }
        assert_true(nth > 20);
        sl_free(out);
        assert_int_equal(sl_mem_live(), live);
    }
}

static int setup(void **state)
{
#ifndef SANITIZED
    struct rlimit limit = {ADDRESS_SPACE_MAX, ADDRESS_SPACE_MAX};
    if (setrlimit(RLIMIT_AS, &limit)) return -1;
#endif
    signal(SIGABRT, on_abort);
    prop_begin();
    return model_folder_make(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_header_byte_of_a_llama),
        cmocka_unit_test(test_the_keys_of_models_with_experts),
        cmocka_unit_test(test_files_cut_anywhere),
        cmocka_unit_test(test_random_weights),
        cmocka_unit_test(test_sizes_that_ggml_would_abort_over),
        cmocka_unit_test(test_tokens_outside_the_vocabulary),
        cmocka_unit_test(test_odd_numbers_that_are_allowed),
        cmocka_unit_test(test_models_of_odd_sizes),
        cmocka_unit_test(test_the_deepest_model),
        cmocka_unit_test(test_stages_without_some_kind_of_layer),
        cmocka_unit_test(test_contexts_of_any_size),
        cmocka_unit_test(test_experts_chosen_by_nan),
        cmocka_unit_test(test_logits_of_nan),
        cmocka_unit_test(test_logits_survive_failing_allocations),
    };
    return cmocka_run_group_tests(tests, setup, model_folder_remove);
}
