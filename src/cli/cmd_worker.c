/* cmd_worker.c: `starlane worker`: the process that holds one loaded model. Agents start it; people
 * see it in ps, so it is not among the commands that help lists. */
#include "base/mem.h"
#include "cli/commands.h"
#include "exec/worker_child.h"
#include <sys/stat.h>

static const struct sl_opt opts[] = {{0}};

const struct sl_command cmd_worker_spec = {
    .name = "worker",
    .usage = "[TITLE]",
    .summary = "Hold one model for an agent, which speaks to it on descriptor 3.",
    .details = "Started by other commands, never by hand. TITLE is what ps shows.",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = 1,
};

static bool has_agent(void)
{
    struct stat info;
    return fstat(WORKER_FD, &info) == 0 && S_ISSOCK(info.st_mode);
}

int cmd_worker(int argc, char **argv)
{
    struct sl_err err = SL_ERR_INIT;
    struct cli_args args;
    int exit_code, unused;
    if (!cli_parse(&cmd_worker_spec, argc, argv, &unused, &args, &exit_code)) return exit_code;
    if (!has_agent()) {
        (void)sl_err_set(&err, SL_INVALID, "is started by other commands, such as serve");
        return cli_fail(&cmd_worker_spec, &err);
    }
    sl_mem_keep_buffers();
    worker_child_settle(args.n ? args.v[0] : "worker");
    sl_status status = worker_child_run(WORKER_FD, &err);
    return status == SL_OK ? CLI_OK : cli_fail(&cmd_worker_spec, &err);
}
