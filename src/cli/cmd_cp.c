/* cmd_cp.c: `starlane cp`: a second name for a model. */
#include "cli/commands.h"
#include "cli/model_path.h"
#include "grid/store.h"

static const struct sl_opt opts[] = {{0}};

const struct sl_command cmd_cp_spec = {
    .name = "cp",
    .usage = "MODEL NAME",
    .summary = "Give a stored model a second name; its data is shared.",
    .opts = opts,
    .n_args_min = 2,
    .n_args_max = 2,
};

int cmd_cp(int argc, char **argv)
{
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct store *store = NULL;
    char none;
    int exit_code;
    if (!cli_parse(&cmd_cp_spec, argc, argv, &none, &args, &exit_code)) return exit_code;
    sl_status status = model_store_open(&store, &err);
    if (status == SL_OK) status = store_cp(store, args.v[0], args.v[1], &err);
    store_close(store);
    return status == SL_OK ? CLI_OK : cli_fail(&cmd_cp_spec, &err);
}
