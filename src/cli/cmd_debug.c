/* cmd_debug.c: `starlane debug`: looks inside, for checking this engine against others. */
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/debug_template.h"
#include "cli/int_list.h"
#include "cli/model_path.h"
#include "exec/llm/logits.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOKENS_BYTES_MAX (4u << 20) /* a million tokens, the engine's own limit */
#define TOKENS_TEXT_MAX (16u << 20)
#define NOW_MAX 253402300799          /* the year 9999 ends */
#define REPORT_BYTES_MAX (256u << 20) /* rendered templates, all of them */

struct options {
    const char *tokens, *out, *bos, *eos;
    int64_t now_s;
    int64_t stages, chunk, threads, gpu_layers;
    int attention, kv;
};

#define FIELD(field) offsetof(struct options, field)

static const struct sl_opt opts[] = {
    {"tokens", 0, SL_OPT_STRING, FIELD(tokens), 0, 0, "IDS", NULL, NULL,
     "Token ids: 1,2,3, or @FILE with such a list or a JSON array."},
    {"out", 'o', SL_OPT_STRING, FIELD(out), 0, 0, "FILE", NULL, NULL, "Where the logits go."},
    {"stages", 0, SL_OPT_INT, FIELD(stages), 1, LLM_STAGES_MAX, "N", NULL, "1",
     "Run the layers as N chained stages."},
    {"chunk", 0, SL_OPT_INT, FIELD(chunk), 0, 1 << 20, "N", NULL, "0",
     "Tokens computed at a time; 0: all at once."},
    {"attention", 0, SL_OPT_ENUM, FIELD(attention), 0, 0, "KIND", "auto,paged,ggml", "auto",
     "Attention by our paged kernels or by ggml's."},
    {"kv", 0, SL_OPT_ENUM, FIELD(kv), 0, 0, "TYPE", "f16,q8_0,f32", "f32",
     "How keys and values are kept."},
    {"threads", 0, SL_OPT_INT, FIELD(threads), 0, 512, "N", NULL, "0",
     "Threads that compute; 0: as many as this process may use."},
    {"gpu-layers", 0, SL_OPT_INT, FIELD(gpu_layers), -1, 1 << 20, "N", NULL, "-1",
     "Layers on the accelerator; -1: as many as fit, 0: none."},
    {"bos", 0, SL_OPT_STRING, FIELD(bos), 0, 0, "TEXT", NULL, NULL,
     "template: what bos_token stands for."},
    {"eos", 0, SL_OPT_STRING, FIELD(eos), 0, 0, "TEXT", NULL, NULL,
     "template: what eos_token stands for."},
    {"now", 0, SL_OPT_INT, FIELD(now_s), 0, NOW_MAX, "SECONDS", NULL, "0",
     "template: the time that strftime_now shows, since 1970."},
    {0},
};

const struct sl_command cmd_debug_spec = {
    .name = "debug",
    .usage = "logits MODEL --tokens IDS --out FILE | template FILE",
    .summary = "Write the logits of every position of a token sequence, or render chat templates.",
    .details =
        "logits: FILE gets 32-bit floats, little endian, [n_tokens, n_vocab], row after row; "
        "stdout "
        "one line with the shape. The numbers are the same, bit for bit, for any --stages.\n\n"
        "    starlane debug logits starling --tokens 1,2,3 --out logits.f32\n\n"
        "template: stdin is a JSON object a line, the variables of the template in FILE; stdout a "
        "line {\"text\": ...} or {\"error\": ...} for each. With - for FILE each line is "
        "{\"template\": ..., \"variables\": {...}}.\n\n"
        "    starlane debug template chat.jinja <conversation.json",
    .opts = opts,
    .n_args_min = 2,
    .n_args_max = 2,
};

static sl_status read_tokens(const char *given, struct sl_buf *out, struct sl_err *err)
{
    if (given[0] != '@') return int_list_read(given, strlen(given), out, err);
    struct sl_buf text;
    sl_buf_init(&text, TOKENS_TEXT_MAX);
    sl_status status = cli_read_file(given + 1, &text, err);
    if (status == SL_OK) status = int_list_read(text.data, text.len, out, err);
    sl_buf_done(&text);
    return status;
}

static sl_status write_floats(const char *path, const float *v, size_t n, struct sl_err *err)
{
    FILE *f = fopen(path, "wb");
    if (!f) return sl_err_errno(err, errno, "%s", path);
    bool whole = fwrite(v, sizeof *v, n, f) == n;
    int why = errno;
    if (fclose(f) != 0 && whole) {
        whole = false;
        why = errno;
    }
    return whole ? SL_OK : sl_err_errno(err, why, "write %s", path);
}

static sl_status compute(const struct options *o, const char *path, const struct sl_buf *ids,
                         struct sl_buf *report, struct sl_err *err)
{
    const struct llm_logits_cfg cfg = {
        .n_threads = (int32_t)o->threads,
        .n_stages = (int32_t)o->stages,
        .n_chunk = (int32_t)o->chunk,
        .gpu_layers = (int32_t)o->gpu_layers,
        .kv_type = (enum llm_kv_type)o->kv,
        .attention = (enum llm_attention)o->attention,
    };
    const int32_t *tokens = (const int32_t *)(const void *)ids->data;
    int32_t n = (int32_t)(ids->len / sizeof *tokens), n_vocab = 0;
    float *logits = NULL;
    sl_status status = llm_logits(path, &cfg, tokens, n, &logits, &n_vocab, err);
    if (status == SL_OK) status = write_floats(o->out, logits, (size_t)n * (size_t)n_vocab, err);
    if (status == SL_OK) status = sl_buf_addf(report, "%s: [%d, %d] float32\n", o->out, n, n_vocab);
    sl_free(logits);
    return status;
}

static sl_status debug_logits(const struct options *o, const struct cli_args *args,
                              struct sl_buf *report, struct sl_err *err)
{
    char path[PATH_MAX];
    struct sl_buf ids;
    if (!o->tokens || !o->out) return sl_err_set(err, SL_INVALID, "--tokens and --out are needed");
    sl_buf_init(&ids, TOKENS_BYTES_MAX);
    sl_status status = model_path_find(args->v[1], path, err);
    if (status == SL_OK) status = read_tokens(o->tokens, &ids, err);
    if (status == SL_OK) status = compute(o, path, &ids, report, err);
    sl_buf_done(&ids);
    return status;
}

static sl_status debug_any(const struct options *o, const struct cli_args *args,
                           struct sl_buf *report, struct sl_err *err)
{
    if (strcmp(args->v[0], "logits") == 0) return debug_logits(o, args, report, err);
    const struct debug_template_cfg cfg = {args->v[1], o->bos, o->eos, o->now_s};
    if (strcmp(args->v[0], "template") == 0) return debug_template(&cfg, report, err);
    return sl_err_set(err, SL_INVALID, "\"%.40s\" is unknown; there are: logits, template",
                      args->v[0]);
}

int cmd_debug(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf report;
    int exit_code;
    if (!cli_parse(&cmd_debug_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&report, REPORT_BYTES_MAX);
    sl_status status = debug_any(&o, &args, &report, &err);
    exit_code = cli_print(&cmd_debug_spec, status, &report, &err);
    sl_buf_done(&report);
    return exit_code;
}
