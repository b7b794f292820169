/* split_perplexity: what a rounded link between the stages of a split model costs: the perplexity
 * of a text under the whole model, and under the model split in even stages whose hidden states
 * travel as f32, f16 and q8_0. All stages run in this process, one after the other.
 *
 *     split_perplexity --model models/starling.gguf --stages 3 ozma.txt
 *
 * The text is cut into windows of the context; as in llama.cpp's perplexity the second half of each
 * counts, where every token has half a window before it at least. */
#include "exec/llm/gguf.h"
#include "exec/llm/kv_cache.h"
#include "exec/llm/stage_engine.h"
#include "exec/llm/arch.h"
#include "exec/llm/sampler.h"
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX (64u << 20)
#define PIPE_BYTES_MAX (256u << 20)
#define WHOLE (-1) /* in place of a link */

struct options {
    const char *model, *text;
    int32_t n_stages, n_ctx, n_threads;
    int32_t tokens_max; /* of the text */
};

struct stage { /* and the messages on their way to it: a length, the sender, the bytes */
    struct chain *chain;
    int32_t number;
    struct engine *engine;
    struct sl_buf inbox;
};

struct chain {
    struct stage stages[ENGINE_STAGES_MAX];
    int32_t n;
    const int32_t *tokens; /* of the window */
    int32_t n_window, n_vocab;
    double nll;
    int64_t n_counted;
};

static void die(const char *what, const struct sl_err *err)
{
    fprintf(stderr, "split_perplexity: %s%s%s\n", what, err ? ": " : "", err ? err->text : "");
    exit(1);
}

static void ignore_event(void *ctx, const struct engine_event *event)
{
    (void)ctx;
    if (event->type == ENGINE_EVENT_DONE && event->status != SL_OK) die(event->message, NULL);
}

/* Minus the logarithm of the next token's probability. */
static double surprise(const float *logits, int32_t n_vocab, int32_t token)
{
    double sum = 0, most = (double)logits[0];
    for (int32_t i = 1; i < n_vocab; i++)
        if ((double)logits[i] > most) most = (double)logits[i];
    for (int32_t i = 0; i < n_vocab; i++) sum += exp((double)logits[i] - most);
    return log(sum) + most - (double)logits[token];
}

static void on_logits(void *ctx, uint64_t id, int32_t position, const float *logits)
{
    struct chain *chain = ctx;
    (void)id;
    if (position < chain->n_window / 2 || position + 1 >= chain->n_window) return;
    chain->nll += surprise(logits, chain->n_vocab, chain->tokens[position + 1]);
    chain->n_counted++;
}

static void on_frame(void *ctx, int32_t to, const void *bytes, size_t n)
{
    struct stage *from = ctx;
    struct sl_buf *inbox = &from->chain->stages[to].inbox;
    if (sl_buf_add(inbox, &n, sizeof n) != SL_OK ||
        sl_buf_add(inbox, &from->number, sizeof from->number) != SL_OK ||
        sl_buf_add(inbox, bytes, n) != SL_OK)
        die("no memory for a message", NULL);
}

static void deliver_all(struct stage *stage)
{
    struct sl_err err = SL_ERR_INIT;
    for (size_t at = 0; at < stage->inbox.len;) {
        size_t n;
        int32_t from;
        memcpy(&n, stage->inbox.data + at, sizeof n);
        memcpy(&from, stage->inbox.data + at + sizeof n, sizeof from);
        at += sizeof n + sizeof from;
        if (engine_deliver(stage->engine, from, stage->inbox.data + at, n, &err) != SL_OK)
            die("deliver", &err);
        at += n;
    }
    sl_buf_clear(&stage->inbox);
}

/* One step of each stage; false: there was nothing to do. */
static bool turn(struct chain *chain)
{
    struct sl_err err = SL_ERR_INIT;
    bool any = false;
    for (int32_t i = 0; i < chain->n; i++) {
        bool idle = false;
        deliver_all(&chain->stages[i]);
        if (engine_step(chain->stages[i].engine, &idle, &err) != SL_OK) die("step", &err);
        any = any || !idle || chain->stages[0].inbox.len;
    }
    return any;
}

static void open_stage(struct chain *chain, int32_t i, const struct options *o, int32_t n_layer,
                       int link)
{
    struct stage *stage = &chain->stages[i];
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    llm_engine_cfg_default(&cfg);
    cfg.n_threads = o->n_threads;
    cfg.n_ctx = o->n_ctx + 1;
    cfg.n_seqs_max = 1;
    cfg.n_batch = 64;
    cfg.no_prefix_cache = true;
    cfg.on_event = ignore_event;
    cfg.on_logits = on_logits;
    cfg.logits_ctx = chain;
    cfg.on_frame = on_frame;
    cfg.frame_ctx = stage;
    if (link != WHOLE)
        cfg.split = (struct engine_split){.n_stages = chain->n,
                                          .stage = i,
                                          .first = n_layer * i / chain->n,
                                          .last = n_layer * (i + 1) / chain->n,
                                          .kv_blocks = o->n_ctx / KV_BLOCK_TOKENS + 4,
                                          .link = (enum engine_link_type)link};
    stage->chain = chain;
    stage->number = i;
    sl_buf_init(&stage->inbox, PIPE_BYTES_MAX);
    sl_status status = i ? stage_engine_load(o->model, &cfg, &stage->engine, &err)
                         : llm_engine_load(o->model, &cfg, &stage->engine, &err);
    if (status != SL_OK) die("load", &err);
}

static void read_window(struct chain *chain, const int32_t *tokens, int32_t n)
{
    struct sl_err err = SL_ERR_INIT;
    const struct engine_generate req = {
        .id = 1, .tokens = tokens, .n_tokens = (size_t)n, .max_tokens = 1};
    chain->tokens = tokens;
    chain->n_window = n;
    if (engine_submit(chain->stages[0].engine, &req, &err) != SL_OK) die("submit", &err);
    while (turn(chain)) continue;
}

static double perplexity(const struct options *o, int32_t n_layer, int link, const char *text,
                         size_t n_text)
{
    static struct chain chain;
    struct sl_buf tokens;
    struct engine_info info;
    struct sl_err err = SL_ERR_INIT;
    chain = (struct chain){.n = link == WHOLE ? 1 : o->n_stages};
    for (int32_t i = 0; i < chain.n; i++) open_stage(&chain, i, o, n_layer, link);
    engine_info(chain.stages[0].engine, &info);
    chain.n_vocab = info.n_vocab;
    sl_buf_init(&tokens, TEXT_BYTES_MAX * sizeof(int32_t));
    if (engine_tokenize(chain.stages[0].engine, text, n_text, false, &tokens, &err) != SL_OK)
        die("tokenize", &err);
    const int32_t *v = (const int32_t *)(const void *)tokens.data;
    int32_t n = (int32_t)(tokens.len / sizeof *v);
    if (o->tokens_max && n > o->tokens_max) n = o->tokens_max;
    for (int32_t at = 0; at + o->n_ctx <= n; at += o->n_ctx) read_window(&chain, v + at, o->n_ctx);
    if (!chain.n_counted) die("the text is shorter than a window", NULL);
    for (int32_t i = 0; i < chain.n; i++) {
        engine_unload(chain.stages[i].engine);
        sl_buf_done(&chain.stages[i].inbox);
    }
    sl_buf_done(&tokens);
    return exp(chain.nll / (double)chain.n_counted);
}

static void read_text(const char *path, struct sl_buf *out)
{
    char chunk[65536];
    FILE *file = fopen(path, "rb");
    size_t n;
    if (!file) die(path, NULL);
    sl_buf_init(out, TEXT_BYTES_MAX);
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0)
        if (sl_buf_add(out, chunk, n) != SL_OK) die("the text is over 64 MiB", NULL);
    (void)fclose(file);
}

static int32_t count_layers(const char *path)
{
    struct sl_err err = SL_ERR_INIT;
    struct gguf_file *file = NULL;
    struct llm_hparams hp;
    if (gguf_open(path, &file, &err) != SL_OK || llm_hparams_read(file, &hp, &err) != SL_OK)
        die(path, &err);
    gguf_close(file);
    return hp.n_layer;
}

static struct options parse(int argc, char **argv)
{
    static const struct option longs[] = {{"model", 1, NULL, 'm'},   {"stages", 1, NULL, 's'},
                                          {"context", 1, NULL, 'c'}, {"threads", 1, NULL, 't'},
                                          {"tokens", 1, NULL, 'n'},  {NULL, 0, NULL, 0}};
    struct options o = {.n_stages = 2, .n_ctx = 512, .n_threads = 1};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'm') o.model = optarg;
        if (c == 's') o.n_stages = atoi(optarg);
        if (c == 'c') o.n_ctx = atoi(optarg);
        if (c == 't') o.n_threads = atoi(optarg);
        if (c == 'n') o.tokens_max = atoi(optarg);
        if (c == '?') exit(2);
    }
    if (optind < argc) o.text = argv[optind];
    if (!o.model || !o.text || o.n_ctx < 4 || o.n_stages < 2 || o.n_stages > ENGINE_STAGES_MAX)
        die("usage: split_perplexity --model FILE [--stages N] [--context N] [--threads N] "
            "[--tokens N] TEXT",
            NULL);
    return o;
}

int main(int argc, char **argv)
{
    const struct options o = parse(argc, argv);
    int32_t n_layer = count_layers(o.model);
    struct sl_buf text;
    read_text(o.text, &text);
    double whole = perplexity(&o, n_layer, WHOLE, text.data, text.len);
    printf("%-10s %12s %12s\n", "link", "perplexity", "change");
    printf("%-10s %12.5f\n", "unsplit", whole);
    for (int link = ENGINE_LINK_F32; link <= ENGINE_LINK_Q8_0; link++) {
        double split = perplexity(&o, n_layer, link, text.data, text.len);
        printf("%-10s %12.5f %+11.4f%%\n", engine_link_name((enum engine_link_type)link), split,
               100 * (split / whole - 1));
    }
    sl_buf_done(&text);
    return 0;
}
