/* cmd_rm.c: `starlane rm`: models out of the store. */
#include "cli/commands.h"
#include "cli/model_path.h"
#include "grid/store.h"
#include <stdio.h>

struct options {
    bool unused;
};

static const struct sl_opt opts[] = {
    {.name = "unused",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, unused),
     .help =
         "Also remove what interrupted pulls and ended stages have left and what no model needs."},
    {0},
};

const struct sl_command cmd_rm_spec = {
    .name = "rm",
    .usage = "[MODEL...]",
    .summary = "Remove models from the store; data that another name needs stays.",
    .opts = opts,
    .n_args_max = -1,
};

static sl_status remove_all(struct store *store, const struct cli_args *args,
                            const struct options *o, uint64_t *freed, struct sl_err *err)
{
    sl_status status = SL_OK;
    uint64_t bytes;
    if (args->n == 0 && !o->unused)
        return sl_err_set(err, SL_INVALID, "which model? starlane list shows what is here");
    for (int i = 0; i < args->n && status == SL_OK; i++) {
        status = store_rm(store, args->v[i], &bytes, err);
        if (status == SL_OK) *freed += bytes;
    }
    if (status != SL_OK || !o->unused) return status;
    status = store_sweep(store, &bytes, err);
    if (status == SL_OK) *freed += bytes;
    return status;
}

int cmd_rm(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct store *store = NULL;
    uint64_t freed = 0;
    char bytes[CLI_BYTES_TEXT_MAX];
    int exit_code;
    if (!cli_parse(&cmd_rm_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_status status = model_store_open(&store, &err);
    if (status == SL_OK) status = remove_all(store, &args, &o, &freed, &err);
    store_close(store);
    if (status != SL_OK) return cli_fail(&cmd_rm_spec, &err);
    printf("%s freed\n", cli_bytes_text(freed, bytes));
    return CLI_OK;
}
