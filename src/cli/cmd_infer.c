/* cmd_infer.c: `starlane infer`: a model that is no language model, asked once: an image, a text or
 * tensors in; names, boxes or tensors out. */
#include "base/clock.h"
#include "cli/client_options.h"
#include "cli/commands.h"
#include "cli/infer_report.h"
#include "cli/infer_target.h"
#include "cli/interrupt.h"
#include "cli/npy.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUTPUT_BYTES_MAX (512u << 20) /* tensors of 64 MB as JSON, and a PNG of 64 megapixels */
#define REQUEST_BYTES_MAX (256u << 20)
#define SCORE_AS_PROCESSING (-1)

struct options {
    const char *text, *processing, *draw, *output_dir, *json_input;
    const char *server, *api_key;
    int64_t top_k, threads;
    double score_min;
    bool json, raw, local, verbose;
};

#define FIELD(field) offsetof(struct options, field)

static const struct sl_opt opts[] = {
    {"text", 0, SL_OPT_STRING, FIELD(text), 0, 0, "TEXT", NULL, NULL,
     "Fill the model's one input of texts (BYTES)."},
    {"processing", 0, SL_OPT_STRING, FIELD(processing), 0, 0, "FILE", NULL, NULL,
     "Prepare images and read outputs as this JSON file says, instead of what came with the "
     "model."},
    {"top", 'k', SL_OPT_INT, FIELD(top_k), 0, PROCESSING_LABELS_MAX, "K", NULL, "0",
     "Print the K best classes or boxes; 0: as many as the model's processing says."},
    {"score-min", 0, SL_OPT_FLOAT, FIELD(score_min), SCORE_AS_PROCESSING, 1, "S", NULL, "-1",
     "Leave out what scores less; -1: as the model's processing says."},
    {"draw", 0, SL_OPT_STRING, FIELD(draw), 0, 0, "FILE", NULL, NULL,
     "Write the image with the boxes that were found to this PNG file."},
    {"output-dir", 0, SL_OPT_STRING, FIELD(output_dir), 0, 0, "DIR", NULL, NULL,
     "Write each output to DIR/NAME.npy as well."},
    {"raw", 0, SL_OPT_BOOL, FIELD(raw), 0, 0, NULL, NULL, NULL,
     "Print the outputs as tensors, whatever the model's processing says."},
    {"json", 0, SL_OPT_BOOL, FIELD(json), 0, 0, NULL, NULL, NULL, "Print one JSON object."},
    {"json-input", 0, SL_OPT_STRING, FIELD(json_input), 0, 0, "FILE", NULL, NULL,
     "Send this request of the Open Inference Protocol to the server as it is, and print the "
     "answer; -: stdin."},
    {"threads", 't', SL_OPT_INT, FIELD(threads), 0, 512, "N", NULL, "0",
     "Threads of a model in this process; 0: as many as it may use."},
    {"local", 0, SL_OPT_BOOL, FIELD(local), 0, 0, NULL, NULL, NULL,
     "Run the model in this process, even where a server could."},
    CLIENT_OPTIONS(struct options, server, api_key),
    {"verbose", 'v', SL_OPT_BOOL, FIELD(verbose), 0, 0, NULL, NULL, NULL,
     "Say on stderr where it ran, on what, and how long it took."},
    {0},
};

const struct sl_command cmd_infer_spec = {
    .name = "infer",
    .usage = "MODEL [FILE | NAME=VALUE...]",
    .summary = "Ask a model that is no language model: what is in this image?",
    .details =
        "FILE is a JPEG or PNG image (- for stdin), prepared as the model's processing says, or "
        "for a model with one input a .npy file. NAME=VALUE fills the input of that name; VALUE is "
        "a .npy file, @FILE with the tensor's bytes, or JSON: a number, or lists of them. "
        "docs/infer.md describes processing.\n\n"
        "Where a `starlane serve` runs on this machine and has the model, it is asked; "
        "$STARLANE_HOST or --server names another one, which may be any server of the Open "
        "Inference Protocol. Otherwise the model, which may be the path of an ONNX file, runs in "
        "this process.\n\n"
        "    starlane infer resnet20 photo.jpg\n"
        "    starlane infer yolox cat.png --draw out.png\n"
        "    starlane infer adder A=[1,2,3] B=b.npy --json",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = -1,
};

struct infer {
    const struct options *o;
    struct infer_target target;
    struct infer_inputs inputs;
    int64_t begin_ns, opened_ns, prepared_ns, answered_ns;
};

/* --- files --- */

static sl_status write_file(const char *path, const struct sl_buf *bytes, struct sl_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    size_t done = 0;
    if (fd < 0) return sl_err_errno(err, errno, "%s", path);
    while (done < bytes->len) {
        ssize_t n = write(fd, bytes->data + done, bytes->len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        done += (size_t)n;
    }
    int why = done < bytes->len ? errno : 0;
    if (close(fd) != 0 && !why) why = errno;
    return why ? sl_err_errno(err, why, "%s", path) : SL_OK;
}

/* Names of tensors may be paths ("/model/head/out:0"); files have none of that. */
static sl_status npy_path(const char *dir, const char *name, char out[PATH_MAX], struct sl_err *err)
{
    int n = snprintf(out, PATH_MAX, "%s/%s.npy", dir, name);
    if (n < 0 || n >= PATH_MAX)
        return sl_err_set(err, SL_INVALID, "--output-dir: the path is too long");
    for (char *at = out + strlen(dir) + 1; *at; at++) {
        if (*at == '/' || (unsigned char)*at < ' ') *at = '_';
    }
    return SL_OK;
}

static sl_status write_outputs(const struct infer *infer, struct sl_err *err)
{
    const char *dir = infer->o->output_dir;
    sl_status status = SL_OK;
    char path[PATH_MAX];
    struct sl_buf bytes;
    if (!dir) return SL_OK;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) return sl_err_errno(err, errno, "%s", dir);
    sl_buf_init(&bytes, 2 * TENSOR_BYTES_MAX);
    for (size_t i = 0; i < infer->target.n_outputs && status == SL_OK; i++) {
        const struct tensor *tensor = &infer->target.outputs[i];
        sl_buf_clear(&bytes);
        status = npy_path(dir, tensor->name, path, err);
        if (status == SL_OK) status = npy_write(tensor, &bytes, err);
        if (status == SL_OK) status = write_file(path, &bytes, err);
    }
    sl_buf_done(&bytes);
    return status;
}

static sl_status write_drawing(const struct infer *infer, const struct image *image,
                               struct sl_err *err)
{
    struct sl_buf png;
    sl_buf_init(&png, OUTPUT_BYTES_MAX);
    sl_status status = image_encode_png(image, &png, err);
    if (status == SL_OK) status = write_file(infer->o->draw, &png, err);
    sl_buf_done(&png);
    return status;
}

/* --- one question --- */

static const struct processing *wanted_processing(const struct infer *infer)
{
    return infer->target.has_processing ? &infer->target.processing : NULL;
}

static sl_status check_draw(const struct infer *infer, struct sl_err *err)
{
    const struct processing *p = wanted_processing(infer);
    bool boxes = p && p->output == PROCESSING_DETECTION && !infer->o->raw;
    if (!infer->o->draw || (boxes && infer->inputs.image.pixels)) return SL_OK;
    return sl_err_set(err, SL_INVALID, "--draw needs an image, and a model that finds boxes");
}

static sl_status report(struct infer *infer, struct sl_buf *out, struct sl_err *err)
{
    const struct options *o = infer->o;
    const struct processing *p = wanted_processing(infer);
    /* Without an image there is nothing to lead boxes back to. */
    bool boxes = p && p->output == PROCESSING_DETECTION;
    bool raw = o->raw || (boxes && !infer->inputs.image.pixels);
    const struct infer_report what = {.model = infer->target.cfg.model,
                                      .processing = raw ? NULL : p,
                                      .signature = &infer->target.signature,
                                      .outputs = infer->target.outputs,
                                      .n_outputs = infer->target.n_outputs,
                                      .inputs = &infer->inputs,
                                      .top_k = (int32_t)o->top_k,
                                      .score_min = o->score_min,
                                      .json = o->json};
    struct image *drawn = o->draw ? &infer->inputs.image : NULL;
    sl_status status = infer_report_write(&what, drawn, out, err);
    if (status == SL_OK && drawn) status = write_drawing(infer, drawn, err);
    return status == SL_OK ? write_outputs(infer, err) : status;
}

static double ms_between(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) / 1e6;
}

static void print_timing(const struct infer *infer)
{
    const struct infer_target *t = &infer->target;
    struct sl_buf takes, gives;
    sl_buf_init(&takes, 4096);
    sl_buf_init(&gives, 4096);
    infer_target_describe(t->signature.inputs, t->signature.n_inputs, &takes);
    infer_target_describe(t->signature.outputs, t->signature.n_outputs, &gives);
    fprintf(stderr, "takes %s; gives %s\n", takes.data, gives.data);
    if (infer->inputs.image.pixels)
        fprintf(stderr, "image of %d x %d pixels\n", (int)infer->inputs.image.width,
                (int)infer->inputs.image.height);
    fprintf(stderr, "%s: model %.1f ms, input %.1f ms, answer %.1f ms\n",
            t->client ? client_server(t->client) : "in this process",
            ms_between(infer->begin_ns, infer->opened_ns),
            ms_between(infer->opened_ns, infer->prepared_ns),
            ms_between(infer->prepared_ns, infer->answered_ns));
    sl_buf_done(&takes);
    sl_buf_done(&gives);
}

static sl_status ask(struct infer *infer, const struct cli_args *args, struct sl_buf *out,
                     struct sl_err *err)
{
    const struct infer_input_cfg cfg = {.model = args->v[0],
                                        .signature = &infer->target.signature,
                                        .processing = wanted_processing(infer),
                                        .args = args->v + 1,
                                        .n_args = args->n - 1,
                                        .text = infer->o->text};
    sl_status status = infer_inputs_collect(&cfg, &infer->inputs, err);
    infer->prepared_ns = sl_now_ns();
    if (status == SL_OK) status = check_draw(infer, err);
    if (status == SL_OK)
        status = infer_target_run(&infer->target, infer->inputs.v, infer->inputs.n, err);
    infer->answered_ns = sl_now_ns();
    if (status == SL_OK) status = report(infer, out, err);
    if (status == SL_OK && infer->o->verbose) print_timing(infer);
    return status;
}

/* A request that the user wrote. */
static sl_status pass_on(struct infer *infer, const struct cli_args *args, struct sl_buf *out,
                         struct sl_err *err)
{
    const char *path = infer->o->json_input;
    struct sl_buf request;
    if (args->n > 1)
        return sl_err_set(err, SL_INVALID, "--json-input and other inputs exclude each other");
    sl_buf_init(&request, REQUEST_BYTES_MAX);
    sl_status status =
        strcmp(path, "-") == 0 ? cli_read_stdin(&request, err) : cli_read_file(path, &request, err);
    if (status == SL_OK) status = infer_target_post(&infer->target, &request, out, err);
    if (status == SL_OK) status = sl_buf_addc(out, '\n');
    sl_buf_done(&request);
    return status;
}

/* The user's own processing takes the place of the model's. */
static sl_status read_processing(struct infer *infer, struct sl_err *err)
{
    const char *path = infer->o->processing;
    struct infer_target *t = &infer->target;
    struct sl_json_value *value = NULL;
    struct sl_buf text;
    if (!path) return SL_OK;
    sl_buf_init(&text, PROCESSING_BYTES_MAX);
    sl_status status = cli_read_file(path, &text, err);
    if (status == SL_OK) status = sl_json_parse(text.data, text.len, &value, err);
    if (status == SL_OK) {
        processing_done(&t->processing);
        status = processing_parse(value, &t->processing, err);
        t->has_processing = status == SL_OK;
        if (status != SL_OK) status = sl_err_prefix(err, "%.200s", path);
    }
    sl_json_free(value);
    sl_buf_done(&text);
    return status;
}

static sl_status run(struct infer *infer, const struct cli_args *args, struct sl_buf *out,
                     struct sl_err *err)
{
    const struct options *o = infer->o;
    const struct infer_target_cfg cfg = {.model = args->v[0],
                                         .server = o->server,
                                         .api_key = o->api_key,
                                         .local = o->local,
                                         .n_threads = (int32_t)o->threads,
                                         .stop = &interrupt_asked};
    infer->begin_ns = sl_now_ns();
    sl_status status = infer_target_open(&infer->target, &cfg, err);
    infer->opened_ns = sl_now_ns();
    if (status == SL_OK) status = read_processing(infer, err);
    if (status != SL_OK) return status;
    return (o->json_input ? pass_on : ask)(infer, args, out, err);
}

int cmd_infer(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    static struct infer infer; /* zeroed; some kilobytes */
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_infer_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    infer.o = &o;
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    interrupt_catch((int)SA_RESETHAND);
    sl_status status = run(&infer, &args, &out, &err);
    bool stopped = status == SL_CANCELLED && interrupt_asked;
    exit_code = stopped ? CLI_INTERRUPTED : cli_print(&cmd_infer_spec, status, &out, &err);
    infer_inputs_done(&infer.inputs);
    infer_target_close(&infer.target);
    sl_buf_done(&out);
    return exit_code;
}
