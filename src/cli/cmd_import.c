/* cmd_import.c: `starlane import`: models that are on this machine already, into the store. */
#include "cli/commands.h"
#include "cli/model_path.h"
#include "grid/store.h"
#include "grid/store_name.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct options {
    const char *name;
};

static const struct sl_opt opts[] = {
    {.name = "name",
     .type = SL_OPT_STRING,
     .offset = offsetof(struct options, name),
     .value = "NAME",
     .help = "Name of the model; by default it is made of the file's. For a file only."},
    {0},
};

const struct sl_command cmd_import_spec = {
    .name = "import",
    .usage = "PATH",
    .summary = "Take in a GGUF file, a folder of them, or the models of an Ollama store.",
    .details = "PATH is a GGUF file (any part of a split one), a folder with such files, or an "
               "Ollama store (~/.ollama/models). Files are linked where the file system can, and "
               "copied elsewhere; they are checked first.",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 1,
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

static sl_status import_folder(struct store *store, const char *path, const struct options *o,
                               struct tally *tally, struct sl_err *err)
{
    if (o->name) return sl_err_set(err, SL_INVALID, "--name goes with one file, not with a folder");
    return store_is_ollama_dir(path) ? store_import_ollama(store, path, tell, tally, err)
                                     : store_import_dir(store, path, tell, tally, err);
}

static sl_status import_file(struct store *store, const char *path, const struct options *o,
                             struct tally *tally, struct sl_err *err)
{
    struct store_name name;
    char text[STORE_NAME_SIZE];
    sl_status status =
        o->name ? store_name_parse(o->name, &name, err) : store_name_of_file(path, &name, err);
    if (status != SL_OK) return status;
    store_name_text(&name, text);
    status = store_import_file(store, path, text, err);
    if (status == SL_OK) tell(tally, text, NULL);
    return status;
}

static sl_status import_path(const char *path, const struct options *o, struct tally *tally,
                             struct sl_err *err)
{
    struct store *store;
    struct stat st;
    if (stat(path, &st) != 0) return sl_err_errno(err, errno, "%s", path);
    sl_status status = model_store_open(&store, err);
    if (status != SL_OK) return status;
    status = (S_ISDIR(st.st_mode) ? import_folder : import_file)(store, path, o, tally, err);
    store_close(store);
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
    sl_status status = import_path(args.v[0], &o, &tally, &err);
    fflush(stdout);
    if (status != SL_OK) return cli_fail(&cmd_import_spec, &err);
    return tally.n_failed ? CLI_FAILED : CLI_OK;
}
