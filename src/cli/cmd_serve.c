/* cmd_serve.c: `starlane serve`: the service on one machine. */
#include "cli/commands.h"
#include "cli/run_service.h"
#include "cli/serve_options.h"

static const struct sl_opt opts[] = {
    SERVE_OPTIONS,
    {0},
};

const struct sl_command cmd_serve_spec = {
    .name = "serve",
    .usage = "[MODEL...]",
    .summary = "Serve models over HTTP: the OpenAI API and Ollama's.",
    .details =
        "Every stored model can be asked for by its name and is loaded when it is; MODELs are "
        "loaded at once and kept. A MODEL is a name or the path of a GGUF file, which clients then "
        "know by the file's name without .gguf.\n\n"
        "Each model runs in a process of its own. When one dies it is started anew, and answers "
        "under way go on where they were.\n\n"
        "    starlane serve starling\n"
        "    curl http://127.0.0.1:8080/v1/completions \\\n"
        "        -d '{\"model\":\"starling\",\"prompt\":\"Once upon a time\","
        "\"max_tokens\":40}'\n\n"
        "SIGINT and SIGTERM let answers under way finish first.",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = -1,
};

int cmd_serve(int argc, char **argv)
{
    struct serve_options o;
    struct cli_args args;
    struct service_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    int exit_code;
    if (!cli_parse(&cmd_serve_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_status status = serve_options_read(&o, &cfg, &err);
    if (status != SL_OK) return cli_fail(&cmd_serve_spec, &err);
    cfg.models = args.v;
    cfg.n_models = args.n;
    return run_service(&cmd_serve_spec, &cfg);
}
