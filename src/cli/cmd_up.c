/* cmd_up.c: `starlane up`: the service, and a grid around it. */
#include "base/duration.h"
#include "cli/commands.h"
#include "cli/grid_options.h"
#include "cli/run_service.h"
#include "cli/serve_options.h"

#include <limits.h>

struct options {
    struct serve_options serve;
    struct grid_options grid;
    const char *token_ttl;
    int64_t token_uses;
};

#define FIELD(field) offsetof(struct options, field)

static const struct sl_opt opts[] = {
    GRID_OPTIONS(struct options, grid),
    {"token-ttl", 0, SL_OPT_STRING, FIELD(token_ttl), 0, 0, "TIME", NULL, "1h",
     "How long the token it prints lets machines in."},
    {"token-uses", 0, SL_OPT_INT, FIELD(token_uses), 0, TOKEN_USES_MAX, "N", NULL, "1",
     "How many machines it lets in; 0: it prints none."},
    SERVE_OPTIONS,
    {0},
};

const struct sl_command cmd_up_spec = {
    .name = "up",
    .usage = "[MODEL...]",
    .summary = "Serve, and open a grid that other machines join.",
    .details =
        "The same service as `starlane serve`, with the same options, whose requests run on "
        "whichever machine of the grid suits best. The first time it makes the grid: a root "
        "certificate and this machine as its first gateway, in STARLANE_HOME/grid. Later it starts "
        "this gateway again. Every gateway runs a nats-server, which has to be installed, unless "
        "--bus names one.\n\n"
        "It prints one line on stdout, to be run on another machine:\n\n"
        "    starlane join slj1....\n\n"
        "`starlane token create` makes more of them (with --gateway for gateways), and `starlane "
        "join --gateway` makes further gateways, all of them equal. Other members are listened for "
        "on all interfaces, because "
        "nobody gets in without a certificate of this grid; the public API listens on this machine "
        "only, as with serve, until --host says otherwise.",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = -1,
};

static sl_status read_ttl(const struct options *o, struct service_grid_cfg *grid,
                          struct sl_err *err)
{
    int64_t ttl_ns;
    sl_status status = sl_duration_parse(o->token_ttl, &ttl_ns, err);
    if (status == SL_OK) {
        grid->token_ttl_ms = ttl_ns / 1000000;
        grid->token_uses = o->token_uses;
        if (grid->token_ttl_ms >= TOKEN_TTL_MIN_MS && grid->token_ttl_ms <= TOKEN_TTL_MAX_MS)
            return SL_OK;
        sl_err_set(err, SL_INVALID, "a token lives between a second and 366 days");
    }
    err->status = SL_INVALID;
    return sl_err_prefix(err, "--token-ttl");
}

int cmd_up(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct service_cfg cfg;
    struct service_grid_cfg grid;
    struct sl_err err = SL_ERR_INIT;
    char home[PATH_MAX];
    int exit_code;
    if (!cli_parse(&cmd_up_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_status status = serve_options_read(&o.serve, &cfg, &err);
    if (status == SL_OK) status = grid_options_read(&o.grid, &grid, &err);
    if (status == SL_OK) status = read_ttl(&o, &grid, &err);
    if (status == SL_OK) status = membership_open_grid(cli_home(home, sizeof home), &err);
    if (status != SL_OK) return cli_fail(&cmd_up_spec, &err);
    cfg.models = args.v;
    cfg.n_models = args.n;
    cfg.grid = &grid;
    return run_service(&cmd_up_spec, &cfg);
}
