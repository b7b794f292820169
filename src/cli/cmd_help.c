#include "cli/commands.h"
#include <stdio.h>
#include <string.h>

#define REFERENCE_BYTES_MAX (1 << 20) /* the page has 20 kB */

struct options {
    bool reference;
};

static const struct sl_opt opts[] = {
    {.name = "reference",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, reference),
     .help = "Print the reference of all commands as Markdown (docs/cli.md)."},
    {0},
};

const struct sl_command cmd_help_spec = {
    .name = "help",
    .usage = "[COMMAND]",
    .summary = "List the commands, or explain one.",
    .opts = opts,
    .n_args_max = 1,
};

static sl_status write_list(struct sl_buf *out)
{
    sl_status status = sl_buf_adds(out, "Usage: starlane COMMAND [options] [arguments]\n\n");
    for (const struct cli_command *c = cli_commands(); c->spec && status == SL_OK; c++)
        status = sl_buf_addf(out, "  %-10s %s\n", c->spec->name, c->spec->summary);
    if (status != SL_OK) return status;
    return sl_buf_adds(out, "\nstarlane help COMMAND explains one. To begin:\n\n"
                            "  starlane run starling \"Once upon a time\"\n");
}

static sl_status write_reference(struct sl_buf *out)
{
    sl_status status = sl_buf_adds(
        out, "# Commands\n\n"
             "This page is the output of `starlane help --reference`.\n\n"
             "Every command exits with 0 when it did its work, 1 when it failed, 2 when it was "
             "called wrongly, and\n130 when it was interrupted. Errors are one line on stderr.\n"
             "`STARLANE_HOME` (default `~/.starlane`) keeps what belongs to you, "
             "`STARLANE_MODELS` says where the\nbundled models are when they were moved, "
             "`STARLANE_LOG` (debug, info, warn, error, off) how much is\nlogged on stderr, "
             "`STARLANE_HOST` which server `run`, `chat`, `infer`, `ps` and `stop` talk to, and\n"
             "`STARLANE_API_KEY` with which key.\n\n");
    for (const struct cli_command *c = cli_commands(); c->spec && status == SL_OK; c++)
        status = sl_config_reference(c->spec, out);
    /* Sections end in an empty line, which a file should not. */
    if (status == SL_OK) sl_buf_truncate(out, out->len - 1);
    return status;
}

int cmd_help(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    int exit_code;
    sl_status status;
    if (!cli_parse(&cmd_help_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    const struct cli_command *about = args.n ? cli_command_find(args.v[0]) : NULL;
    if (args.n && !about) return cli_unknown_command(args.v[0]);
    sl_buf_init(&out, REFERENCE_BYTES_MAX);
    if (o.reference) {
        status = write_reference(&out);
    } else if (about) {
        status = sl_config_help(about->spec, &out);
    } else {
        status = write_list(&out);
    }
    exit_code = cli_print(&cmd_help_spec, status, &out, &err);
    sl_buf_done(&out);
    return exit_code;
}
