/* cmd_bench.c: `starlane bench`: how fast a model runs here, measured as llama-bench does. */
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cli/bench_profile.h"
#include "cli/commands.h"
#include "cli/model_info.h"
#include "cli/model_path.h"
#include "exec/llm/arch.h"
#include "exec/llm/backend.h"
#include "exec/llm/gguf.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/sampler.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKENS_MAX (1 << 20)
#define REPEATS_MAX 1000
#define BATCH_MAX 1024
#define BATCHES_MAX 64
#define WARM_TOKENS 4     /* enough to touch every weight and build both graphs */
#define PROMPT_SEED 1     /* the same tokens in every run */
#define SHORT_TOKENS 32   /* of a profile's second prompt: two points make a line */
#define KV_BLOCK_SLACK 16 /* a sequence's last block may be nearly empty */

struct options {
    int64_t prompt, generate, threads, repeat, batch, gpu_layers;
    struct sl_opt_ints batches;
    int kv, attention;
    bool json, node_profile;
};

#define FIELD(field) offsetof(struct options, field)

static const struct sl_opt opts[] = {
    {"prompt", 'p', SL_OPT_INT, FIELD(prompt), 0, TOKENS_MAX, "N", NULL, "512",
     "Tokens of the prompt that is prefilled; 0: leave this out."},
    {"generate", 'n', SL_OPT_INT, FIELD(generate), 0, TOKENS_MAX, "N", NULL, "128",
     "Tokens that each sequence decodes; 0: leave this out."},
    {"batches", 'b', SL_OPT_INTS, FIELD(batches), 1, BATCH_MAX, "LIST", NULL, "1",
     "Numbers of sequences that decode together: 1,4,8."},
    {"threads", 't', SL_OPT_INT, FIELD(threads), 0, 512, "N", NULL, "0",
     "Threads that compute; 0: as many as this process may use."},
    {"repeat", 'r', SL_OPT_INT, FIELD(repeat), 1, REPEATS_MAX, "N", NULL, "3",
     "Repetitions; the median is reported."},
    {"kv", 0, SL_OPT_ENUM, FIELD(kv), 0, 0, "TYPE", "f16,q8_0,f32", "f16",
     "How keys and values are kept."},
    {"batch", 0, SL_OPT_INT, FIELD(batch), 0, 8192, "N", NULL, "0",
     "Most tokens computed in one step; 0: 512."},
    {"attention", 0, SL_OPT_ENUM, FIELD(attention), 0, 0, "KIND", "auto,paged,ggml", "auto",
     "Attention by our paged kernels or by ggml's."},
    {"gpu-layers", 0, SL_OPT_INT, FIELD(gpu_layers), -1, 1 << 20, "N", NULL, "-1",
     "Layers on the accelerator; -1: as many as fit, 0: none."},
    {"node-profile", 0, SL_OPT_BOOL, FIELD(node_profile), 0, 0, NULL, NULL, NULL,
     "Print an entry of the simulator's nodes file."},
    {"json", 0, SL_OPT_BOOL, FIELD(json), 0, 0, NULL, NULL, NULL, "Print JSON."},
    {0},
};

const struct sl_command cmd_bench_spec = {
    .name = "bench",
    .usage = "MODEL",
    .summary = "Measure how fast a model runs here.",
    .details = "Prefill: random tokens (the same in every run) through an engine that reuses no "
               "prefix, from the first step to the first token. Decode: greedy, from the first "
               "decode step to the last token, past the end if need be; with several sequences "
               "the sum over all. One run warms up and is not counted.\n\n"
               "--node-profile measures steps of 1, 2, 4, 8 and 16 sequences unless --batches says "
               "otherwise, prompts of --prompt and 32 tokens, and a stream after a prompt of "
               "--prompt tokens; docs/simulator.md has the format.",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 1,
};

struct spread { /* tokens a second */
    double median, min, max;
};

struct bench {
    const struct options *o;
    struct engine *engine;
    uint64_t next_id;
    int32_t n_done;
    bool failed;
    struct sl_err failure;
    int32_t *tokens; /* [max(prompt, 1)] */
    struct spread prefill;
    struct spread decode[BATCHES_MAX];
    struct spread prefill_short, decode_late; /* of a profile */
};

static void on_event(void *ctx, const struct engine_event *event)
{
    struct bench *b = ctx;
    if (event->type != ENGINE_EVENT_DONE) return;
    b->n_done++;
    if (event->finish != ENGINE_FINISH_ERROR) return;
    b->failed = true;
    (void)sl_err_set(&b->failure, event->status, "%s", event->message ? event->message : "");
}

static int32_t most_sequences(const struct options *o)
{
    int32_t most = 1;
    for (int i = 0; i < o->batches.n; i++) {
        if (o->batches.v[i] > most) most = o->batches.v[i];
    }
    return most;
}

/* One sequence may be as long as all of them together: so the KV cache has room for all. */
static int32_t context_for(const struct options *o)
{
    int64_t decode = (o->generate + 1 + 2 * KV_BLOCK_SLACK) * most_sequences(o);
    int64_t prefill = o->prompt + 1 + KV_BLOCK_SLACK;
    if (o->node_profile) prefill += o->generate + 1;
    int64_t n = decode > prefill ? decode : prefill;
    return n > INT32_MAX ? INT32_MAX : (int32_t)n;
}

static sl_status load(struct bench *b, const char *path, struct sl_err *err)
{
    const struct options *o = b->o;
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    cfg.n_threads = (int32_t)o->threads;
    cfg.n_ctx = context_for(o);
    cfg.n_seqs_max = most_sequences(o);
    cfg.n_batch = (int32_t)o->batch;
    cfg.gpu_layers = (int32_t)o->gpu_layers;
    cfg.kv_type = (enum llm_kv_type)o->kv;
    cfg.attention = (enum llm_attention)o->attention;
    cfg.no_prefix_cache = true;
    cfg.on_event = on_event;
    cfg.event_ctx = b;
    return llm_engine_load(path, &cfg, &b->engine, err);
}

static sl_status make_tokens(struct bench *b, struct sl_err *err)
{
    size_t n = b->o->prompt > 0 ? (size_t)b->o->prompt : 1;
    uint64_t n_vocab = (uint64_t)llm_engine_hparams(b->engine)->n_vocab;
    b->tokens = sl_calloc(n, sizeof *b->tokens);
    if (!b->tokens) return sl_err_set(err, SL_NOMEM, "prompt of %zu tokens", n);
    for (size_t i = 0; i < n; i++)
        b->tokens[i] = (int32_t)(sl_rng_u64(PROMPT_SEED, 0, i) % n_vocab);
    return SL_OK;
}

static sl_status submit(struct bench *b, int32_t n_prompt, int32_t n_generate, struct sl_err *err)
{
    struct sampler_cfg greedy;
    sampler_cfg_default(&greedy);
    greedy.temp = 0;
    const struct engine_generate request = {
        .id = ++b->next_id,
        .tokens = b->tokens,
        .n_tokens = (size_t)n_prompt,
        .max_tokens = n_generate,
        .ignore_end = true,
        .sampler = &greedy,
    };
    return engine_submit(b->engine, &request, err);
}

/* Steps until n sequences are done, or (to_first) until each of them has its first token. */
static sl_status step_until(struct bench *b, int32_t n, bool to_first, struct sl_err *err)
{
    struct engine_stats before, now;
    engine_stats(b->engine, &before);
    for (bool reached = false; !reached;) {
        bool idle;
        sl_status status = engine_step(b->engine, &idle, err);
        if (status != SL_OK) return status;
        if (b->failed) return sl_err_set(err, b->failure.status, "%s", b->failure.text);
        engine_stats(b->engine, &now);
        reached = b->n_done >= n ||
                  (to_first && now.n_generated_tokens - before.n_generated_tokens >= (uint64_t)n);
        if (idle && !reached) return sl_err_set(err, SL_INTERNAL, "the engine lost a request");
    }
    return SL_OK;
}

static sl_status time_prefill(struct bench *b, int32_t n_prompt, double *out_tps,
                              struct sl_err *err)
{
    b->n_done = 0;
    sl_status status = submit(b, n_prompt, 1, err);
    int64_t begin = sl_now_ns();
    if (status == SL_OK) status = step_until(b, 1, false, err);
    *out_tps = n_prompt * 1e9 / (double)(sl_now_ns() - begin);
    return status;
}

/* What a run of decode steps is measured on. */
struct decode_run {
    int32_t n_seqs, n_prompt, n_generate;
};

static sl_status time_decode(struct bench *b, const struct decode_run *run, double *out_tps,
                             struct sl_err *err)
{
    sl_status status = SL_OK;
    int32_t n_seqs = run->n_seqs, n_generate = run->n_generate;
    b->n_done = 0;
    /* The first token comes out of the prompt's step and is not counted. */
    for (int32_t i = 0; i < n_seqs && status == SL_OK; i++)
        status = submit(b, run->n_prompt, n_generate + 1, err);
    if (status == SL_OK) status = step_until(b, n_seqs, true, err);
    int64_t begin = sl_now_ns();
    if (status == SL_OK) status = step_until(b, n_seqs, false, err);
    *out_tps = (double)n_seqs * n_generate * 1e9 / (double)(sl_now_ns() - begin);
    return status;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct spread spread_of(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, compare);
    double median = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
    return (struct spread){median, v[0], v[n - 1]};
}

static void progress(const char *what, int64_t n)
{
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K%s %lld", what, (long long)n);
}

static sl_status measure_prefill(struct bench *b, int32_t n, struct spread *out, struct sl_err *err)
{
    double v[REPEATS_MAX], warm;
    progress("prefill", n);
    sl_status status = time_prefill(b, n, &warm, err);
    for (int i = 0; i < b->o->repeat && status == SL_OK; i++)
        status = time_prefill(b, n, &v[i], err);
    if (status == SL_OK) *out = spread_of(v, (int)b->o->repeat);
    return status;
}

static sl_status measure_decode(struct bench *b, struct decode_run run, struct spread *out,
                                struct sl_err *err)
{
    double v[REPEATS_MAX], warm;
    struct decode_run warming = run;
    if (warming.n_generate > WARM_TOKENS) warming.n_generate = WARM_TOKENS;
    progress("decode, sequences:", run.n_seqs);
    sl_status status = time_decode(b, &warming, &warm, err);
    for (int i = 0; i < b->o->repeat && status == SL_OK; i++)
        status = time_decode(b, &run, &v[i], err);
    if (status == SL_OK) *out = spread_of(v, (int)b->o->repeat);
    return status;
}

static sl_status measure(struct bench *b, struct sl_err *err)
{
    const struct options *o = b->o;
    int32_t n_prompt = (int32_t)o->prompt, n_generate = (int32_t)o->generate;
    sl_status status = SL_OK;
    if (n_prompt) status = measure_prefill(b, n_prompt, &b->prefill, err);
    for (int i = 0; i < o->batches.n && n_generate && status == SL_OK; i++)
        status = measure_decode(b, (struct decode_run){o->batches.v[i], 1, n_generate},
                                &b->decode[i], err);
    if (o->node_profile && status == SL_OK)
        status = measure_prefill(b, SHORT_TOKENS, &b->prefill_short, err);
    if (o->node_profile && status == SL_OK)
        status =
            measure_decode(b, (struct decode_run){1, n_prompt, n_generate}, &b->decode_late, err);
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    return status;
}

static const char *const kv_names[] = {"f16", "q8_0", "f32"};

static void json_spread(struct sl_json *j, const char *prefix, const struct spread *s)
{
    char key[64];
    sl_json_kv_num(j, prefix, s->median);
    snprintf(key, sizeof key, "%s_min", prefix);
    sl_json_kv_num(j, key, s->min);
    snprintf(key, sizeof key, "%s_max", prefix);
    sl_json_kv_num(j, key, s->max);
}

static void json_setting(struct sl_json *j, const struct bench *b, const char *path)
{
    const struct gguf_file *file = llm_engine_file(b->engine);
    struct model_info info;
    model_info_read(file, &info);
    sl_json_kv_str(j, "model", path);
    sl_json_kv_str(j, "architecture", llm_engine_hparams(b->engine)->arch->name);
    sl_json_kv_str(j, "type", model_info_main_type(&info));
    sl_json_kv_int(j, "bytes", (int64_t)gguf_file_bytes(file));
    sl_json_kv_int(j, "threads", llm_engine_n_threads(b->engine));
    sl_json_kv_str(j, "cpu_variant", llm_backends_cpu_variant());
    sl_json_kv_str(j, "kv", kv_names[b->o->kv]);
    sl_json_kv_str(j, "version", STARLANE_VERSION);
    sl_json_kv_int(j, "prompt_tokens", b->o->prompt);
    sl_json_kv_int(j, "generate_tokens", b->o->generate);
    sl_json_kv_int(j, "repeat", b->o->repeat);
}

static sl_status write_json(const struct bench *b, const char *path, struct sl_buf *out)
{
    struct sl_json j;
    sl_json_begin(&j, out, true);
    sl_json_object(&j);
    json_setting(&j, b, path);
    if (b->o->prompt) json_spread(&j, "prefill_tps", &b->prefill);
    for (int i = 0; i < b->o->batches.n && b->o->generate; i++) {
        if (b->o->batches.v[i] != 1) continue;
        json_spread(&j, "decode_tps", &b->decode[i]);
        break;
    }
    sl_json_key(&j, "batches");
    sl_json_array(&j);
    for (int i = 0; i < b->o->batches.n && b->o->generate; i++) {
        sl_json_object(&j);
        sl_json_kv_int(&j, "batch", b->o->batches.v[i]);
        json_spread(&j, "decode_tps", &b->decode[i]);
        sl_json_object_end(&j);
    }
    sl_json_array_end(&j);
    sl_json_object_end(&j);
    sl_status status = sl_json_end(&j);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

static sl_status write_row(struct sl_buf *out, const char *what, int64_t n_tokens, int32_t n_seqs,
                           const struct spread *s)
{
    return sl_buf_addf(out, "%-8s %8lld %10d %12.1f %12.1f %12.1f\n", what, (long long)n_tokens,
                       n_seqs, s->median, s->min, s->max);
}

static sl_status write_table(const struct bench *b, const char *path, struct sl_buf *out)
{
    char size[CLI_BYTES_TEXT_MAX];
    const struct gguf_file *file = llm_engine_file(b->engine);
    struct model_info info;
    model_info_read(file, &info);
    sl_status status =
        sl_buf_addf(out,
                    "%s: %s, %s, %s; %d threads, %s kernels, %s KV cache\n\n"
                    "%-8s %8s %10s %12s %12s %12s\n",
                    path, llm_engine_hparams(b->engine)->arch->name, model_info_main_type(&info),
                    cli_bytes_text(gguf_file_bytes(file), size), llm_engine_n_threads(b->engine),
                    llm_backends_cpu_variant(), kv_names[b->o->kv], "test", "tokens", "sequences",
                    "tokens/s", "min", "max");
    if (status == SL_OK && b->o->prompt)
        status = write_row(out, "prefill", b->o->prompt, 1, &b->prefill);
    for (int i = 0; i < b->o->batches.n && b->o->generate && status == SL_OK; i++)
        status = write_row(out, "decode", b->o->generate, b->o->batches.v[i], &b->decode[i]);
    return status;
}

#define SERVED_SEQS 64 /* what `starlane serve` does unless told otherwise */
#define SERVED_CONTEXTS 4
#define SERVED_CTX_MAX 4096
#define SERVED_BATCH 512
#define SERVED_GROUP 32

static sl_status write_profile(const struct bench *b, const char *path, struct sl_buf *out)
{
    const struct options *o = b->o;
    char name[SIM_NAME_MAX] = "node";
    int32_t n_ctx = llm_engine_hparams(b->engine)->n_ctx_train;
    (void)path;
    if (gethostname(name, sizeof name) != 0 || !memchr(name, '\0', sizeof name))
        snprintf(name, sizeof name, "node");
    struct bench_profile profile = {
        .name = name,
        .n_slots = SERVED_SEQS,
        .prefill_chunk = o->batch ? (int32_t)o->batch : SERVED_BATCH,
        .prefill_group = SERVED_GROUP,
        .kv_tokens = SERVED_CONTEXTS * (n_ctx < SERVED_CTX_MAX ? n_ctx : SERVED_CTX_MAX),
        .shorter = {SHORT_TOKENS, SHORT_TOKENS / b->prefill_short.median},
        .longer = {(int32_t)o->prompt, (double)o->prompt / b->prefill.median},
        .n_steps = (uint32_t)o->batches.n,
        .context_tokens = (int32_t)o->prompt,
        .context_step_s = 1 / b->decode_late.median,
    };
    for (int i = 0; i < o->batches.n; i++)
        profile.steps[i] =
            (struct sim_step){(uint32_t)o->batches.v[i], o->batches.v[i] / b->decode[i].median};
    return bench_profile_write(&profile, out);
}

/* What a profile needs that was not asked for. */
static sl_status profile_options(struct options *o, struct sl_err *err)
{
    static const int32_t usual[] = {1, 2, 4, 8, 16};
    if (o->batches.n == 1) {
        o->batches.n = sizeof usual / sizeof *usual;
        memcpy(o->batches.v, usual, sizeof usual);
    }
    for (int i = 0; i < o->batches.n; i++)
        if (i >= SIM_STEPS_MAX || o->batches.v[i] <= (i ? o->batches.v[i - 1] : 0))
            return sl_err_set(err, SL_INVALID, "--batches of a profile: rising, at most %d",
                              SIM_STEPS_MAX);
    if (o->prompt > SHORT_TOKENS && o->generate > 0) return SL_OK;
    return sl_err_set(err, SL_INVALID, "a profile needs --prompt above %d and --generate",
                      SHORT_TOKENS);
}

static sl_status (*writer(const struct options *o))(const struct bench *, const char *,
                                                    struct sl_buf *)
{
    if (o->node_profile) return write_profile;
    return o->json ? write_json : write_table;
}

static sl_status bench(struct bench *b, const char *model, struct sl_buf *out, struct sl_err *err)
{
    char path[PATH_MAX];
    if (b->o->batches.n > BATCHES_MAX)
        return sl_err_set(err, SL_INVALID, "--batches: more than %d numbers", BATCHES_MAX);
    sl_status status = model_path_find(model, path, err);
    if (status == SL_OK) status = load(b, path, err);
    if (status == SL_OK) status = make_tokens(b, err);
    if (status == SL_OK) status = measure(b, err);
    if (status == SL_OK) status = writer(b->o)(b, path, out);
    sl_free(b->tokens);
    engine_unload(b->engine);
    return status;
}

int cmd_bench(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_bench_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    struct bench b = {.o = &o};
    sl_buf_init(&out, 1 << 20);
    sl_status status = o.node_profile ? profile_options(&o, &err) : SL_OK;
    if (status == SL_OK) status = bench(&b, args.v[0], &out, &err);
    exit_code = cli_print(&cmd_bench_spec, status, &out, &err);
    sl_buf_done(&out);
    return exit_code;
}
