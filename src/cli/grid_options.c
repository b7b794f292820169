/* grid_options.c: from what a person typed to what the membership takes. */
#include "cli/grid_options.h"

#include <stdlib.h>

sl_status grid_options_read(const struct grid_options *options, struct service_grid_cfg *cfg,
                            struct sl_err *err)
{
    struct member probe;
    struct policy policy;
    const char *password =
        options->bus_password ? options->bus_password : getenv("STARLANE_BUS_PASSWORD");
    *cfg = (struct service_grid_cfg){
        .membership = {.name = options->name,
                       .labels = options->labels.v,
                       .n_labels = (size_t)options->labels.n,
                       .grid_host = options->grid_host,
                       .grid_port = (uint16_t)options->grid_port,
                       .advertise = options->advertise.v,
                       .n_advertise = (size_t)options->advertise.n,
                       .bus_urls = options->bus.v,
                       .n_bus_urls = (size_t)options->bus.n,
                       .bus_creds = options->bus_creds,
                       .bus_user = options->bus_user,
                       .bus_password = options->bus_user ? password : NULL,
                       .bus_ca = options->bus_ca},
        .policy = options->policy,
        .replicas = (uint32_t)options->replicas};
    if (options->advertise.n > MEMBERSHIP_ADVERTISE_MAX)
        return sl_err_set(err, SL_INVALID, "--advertise: more than %d of it",
                          MEMBERSHIP_ADVERTISE_MAX);
    sl_status status = options->name ? member_set_name(&probe, options->name, err) : SL_OK;
    if (status != SL_OK) {
        sl_err_prefix(err, "--name");
        return SL_INVALID;
    }
    status = policy_parse(options->policy, &policy, err);
    if (status != SL_OK) return sl_err_prefix(err, "--policy");
    status = member_set_labels(&probe, options->labels.v, (size_t)options->labels.n, err);
    if (status == SL_OK) return SL_OK;
    sl_err_prefix(err, "--label");
    err->status = SL_INVALID;
    return SL_INVALID;
}
