/* cmd_import.c: `starlane import`: models that are on this machine already, into the store. */
#include "cli/commands.h"
#include "cli/model_path.h"
#include "grid/store.h"
#include "grid/store_name.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define JSON_BYTES_MAX (1u << 20) /* STORE_OBJECT_BYTES_MAX */

struct options {
    const char *name, *labels, *processing, *options;
};

static const struct sl_opt opts[] = {
    {.name = "name",
     .type = SL_OPT_STRING,
     .offset = offsetof(struct options, name),
     .value = "NAME",
     .help = "Name of the model; by default it is made of the file's or folder's. For one model "
             "only."},
    {.name = "labels",
     .type = SL_OPT_STRING,
     .offset = offsetof(struct options, labels),
     .value = "FILE",
     .help = "ONNX: names of the classes, one a line."},
    {.name = "processing",
     .type = SL_OPT_STRING,
     .offset = offsetof(struct options, processing),
     .value = "FILE",
     .help = "ONNX: how an image becomes the input and the output becomes labels or boxes: a JSON "
             "file, JSON, or auto: what is likely for such inputs and outputs."},
    {.name = "options",
     .type = SL_OPT_STRING,
     .offset = offsetof(struct options, options),
     .value = "FILE",
     .help = "ONNX: how the model is run (providers, batches, instances): a JSON file, or JSON."},
    {0},
};

const struct sl_command cmd_import_spec = {
    .name = "import",
    .usage = "PATH [NAME]",
    .summary = "Take in a GGUF or ONNX file, a folder of them, or the models of an Ollama store.",
    .details = "PATH is a GGUF file (any part of a split one), an ONNX file (with the weights it "
               "names), a folder with such models, or an Ollama store (~/.ollama/models). An ONNX "
               "model's folder holds model.onnx and what belongs to it: tokenizer.json, "
               "config.json, labels.txt, processing.json, starlane.json; with folders 1, 2, ... in "
               "place of it, these are its versions, NAME:1, NAME:2. Files are linked where the "
               "file system can, and copied elsewhere; they are checked first.",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 2,
};

struct tally {
    int n_taken, n_failed;
};

static void tell(void *ctx, const char *name, const struct sl_err *why_not)
{
    struct tally *tally = ctx;
    if (why_not) {
        tally->n_failed++;
        fprintf(stderr, "starlane import: %s left out: %s\n", name, why_not->text);
    } else {
        tally->n_taken++;
        printf("%s\n", name);
    }
}

/* JSON as it is, or the file that holds it. *held keeps the file's text. */
static sl_status read_json(const char *arg, struct sl_buf *held, const char **out,
                           struct sl_err *err)
{
    *out = arg;
    if (!arg || *arg == '{' || strcmp(arg, "auto") == 0) return SL_OK;
    sl_status status = cli_read_file(arg, held, err);
    *out = held->data;
    return status;
}

static bool is_described(const struct store_import *how)
{
    return how->name || how->labels || how->processing || how->options;
}

static sl_status import_folder(struct store *store, const char *path,
                               const struct store_import *how, struct tally *tally,
                               struct sl_err *err)
{
    if (!store_is_ollama_dir(path)) return store_import_dir(store, path, how, tell, tally, err);
    if (!is_described(how)) return store_import_ollama(store, path, tell, tally, err);
    return sl_err_set(err, SL_INVALID, "--name and the like go with one model, not with a store");
}

static sl_status import_file(struct store *store, const char *path, const struct store_import *how,
                             struct tally *tally, struct sl_err *err)
{
    struct store_name name;
    char text[STORE_NAME_SIZE];
    struct store_import named = *how;
    sl_status status =
        how->name ? store_name_parse(how->name, &name, err) : store_import_name(path, text, err);
    if (status != SL_OK) return status;
    if (how->name) store_name_text(&name, text);
    named.name = text;
    status = store_import_model(store, path, &named, err);
    if (status == SL_OK) tell(tally, text, NULL);
    return status;
}

static sl_status import_path(const char *path, const struct store_import *how, struct tally *tally,
                             struct sl_err *err)
{
    struct store *store;
    struct stat st;
    if (stat(path, &st) != 0) return sl_err_errno(err, errno, "%s", path);
    sl_status status = model_store_open(&store, err);
    if (status != SL_OK) return status;
    status = (S_ISDIR(st.st_mode) ? import_folder : import_file)(store, path, how, tally, err);
    store_close(store);
    return status;
}

static sl_status import_as_told(const struct cli_args *args, const struct options *o,
                                struct tally *tally, struct sl_err *err)
{
    struct sl_buf processing, options;
    struct store_import how = {.name = args->n > 1 ? args->v[1] : o->name, .labels = o->labels};
    if (args->n > 1 && o->name) return sl_err_set(err, SL_INVALID, "two names: which is it?");
    sl_buf_init(&processing, JSON_BYTES_MAX);
    sl_buf_init(&options, JSON_BYTES_MAX);
    sl_status status = read_json(o->processing, &processing, &how.processing, err);
    if (status == SL_OK) status = read_json(o->options, &options, &how.options, err);
    if (status == SL_OK) status = import_path(args->v[0], &how, tally, err);
    sl_buf_done(&processing);
    sl_buf_done(&options);
    return status;
}

int cmd_import(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct tally tally = {0};
    int exit_code;
    if (!cli_parse(&cmd_import_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_status status = import_as_told(&args, &o, &tally, &err);
    fflush(stdout);
    if (status != SL_OK) return cli_fail(&cmd_import_spec, &err);
    return tally.n_failed ? CLI_FAILED : CLI_OK;
}
