/* cmd_join.c: `starlane join`: this machine becomes a member of a grid, or is one again. */
#include "cli/commands.h"
#include "cli/grid_options.h"
#include "cli/run_service.h"
#include "cli/serve_options.h"
#include "grid/join.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

struct options {
    struct serve_options serve;
    struct grid_options grid;
    bool gateway;
};

#define FIELD(field) offsetof(struct options, field)

static const struct sl_opt opts[] = {
    {"gateway", 'g', SL_OPT_BOOL, FIELD(gateway), 0, 0, NULL, NULL, NULL,
     "Become a gateway: with the public API, and the right to let others in."},
    GRID_OPTIONS(struct options, grid),
    SERVE_OPTIONS,
    {0},
};

const struct sl_command cmd_join_spec = {
    .name = "join",
    .usage = "[TOKEN]",
    .summary = "Make this machine a member of a grid.",
    .details =
        "TOKEN is what `starlane up` or `starlane token create` printed at a gateway. It says "
        "where the gateway is and how to know that it is the right one, and lets this machine in "
        "once. The machine makes a key, which never leaves it, and gets a certificate for it, in "
        "STARLANE_HOME/grid. From then on plain `starlane join` starts it again.\n\n"
        "A node runs models for the grid and has no public API, so that the options about that "
        "(--host, --port, --tls-cert, ...) only matter with --gateway.\n\n"
        "    starlane join slj1.... --label site=berlin --memory 12G",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = 1,
};

static sl_status become_member(const struct options *o, const char *home, const char *token,
                               struct sl_err *err)
{
    char id[GRID_ID_SIZE], name[GRID_NAME_SIZE];
    membership_host_name(name);
    const struct join_cfg cfg = {.home = home,
                                 .token = token,
                                 .gateway = o->gateway,
                                 .name = o->grid.name ? o->grid.name : name,
                                 .labels = o->grid.labels.v,
                                 .n_labels = (size_t)o->grid.labels.n};
    sl_status status = join_grid(&cfg, id, err);
    if (status == SL_OK) fprintf(stderr, "Joined the grid as %s (%s)\n", cfg.name, id);
    return status;
}

/* With a token or from before: who is this machine? */
static sl_status find_identity(const struct options *o, const char *home, const char *token,
                               bool *out_gateway, struct sl_err *err)
{
    struct identity *identity = NULL;
    sl_status status = SL_OK;
    if (!token && !identity_exists(home))
        return sl_err_set(err, SL_INVALID,
                          "this machine is in no grid yet: give the token that `starlane up` or "
                          "`starlane token create` printed at a gateway");
    if (token) status = become_member(o, home, token, err);
    if (status == SL_OK) status = identity_load(home, &identity, err);
    if (status != SL_OK) return status;
    *out_gateway = identity->is_gateway;
    identity_destroy(identity);
    if (!o->gateway || *out_gateway) return SL_OK;
    return sl_err_set(err, SL_INVALID,
                      "this machine has joined as a node: to make it a gateway, give a token too");
}

/* What stands in argv everybody on this machine can read for as long as the process runs. */
static void hide(int argc, char **argv, const char *text)
{
    for (int i = 0; i < argc; i++)
        if (argv[i] == text) memset(argv[i], 'x', strlen(argv[i]));
}

int cmd_join(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct service_cfg cfg;
    struct service_grid_cfg grid;
    struct sl_err err = SL_ERR_INIT;
    char home[PATH_MAX], token[TOKEN_TEXT_MAX] = "";
    bool is_gateway = false;
    int exit_code;
    if (!cli_parse(&cmd_join_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    if (args.n) {
        snprintf(token, sizeof token, "%s", args.v[0]);
        hide(argc, argv, args.v[0]);
    }
    sl_status status = serve_options_read(&o.serve, &cfg, &err);
    if (status == SL_OK) status = grid_options_read(&o.grid, &grid, &err);
    if (status == SL_OK)
        status = find_identity(&o, cli_home(home, sizeof home), args.n ? token : NULL, &is_gateway,
                               &err);
    explicit_bzero(token, sizeof token);
    if (status != SL_OK) return cli_fail(&cmd_join_spec, &err);
    cfg.grid = &grid;
    cfg.no_api = !is_gateway;
    return run_service(&cmd_join_spec, &cfg);
}
