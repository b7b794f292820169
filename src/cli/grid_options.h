/* grid_options.h: the options of commands that make this machine a member of a grid: up, join.
 * Floor: cli.  Thread: main.  Allocates: nothing. */
#pragma once
#include "base/config.h"
#include "cli/service.h"
#include "sched/policy.h"

#include <stddef.h>
#include <stdint.h>

struct grid_options {
    const char *name, *grid_host, *bus_creds, *bus_user, *bus_password, *bus_ca, *policy;
    int64_t grid_port, replicas;
    struct sl_opt_strings labels, advertise, bus;
};

/* Rows of a command's table; `member` is the struct grid_options in its target struct `type`. */
/* clang-format off */
#define GRID_OPTIONS(type, member) \
    {"name", 'n', SL_OPT_STRING, offsetof(type, member.name), 0, 0, "NAME", NULL, NULL,            \
     "What people call this machine; its host name when left out."},                               \
    {"label", 'l', SL_OPT_STRINGS, offsetof(type, member.labels), 0, 0, "KEY=VALUE", NULL, NULL,   \
     "A label of this machine, such as site=berlin or tier=edge; may be given several times."},    \
    {"grid-host", 0, SL_OPT_STRING, offsetof(type, member.grid_host), 0, 0, "ADDRESS", NULL, "*",  \
     "Where to listen for other members, who need certificates: an address, or * for everywhere."},\
    {"grid-port", 0, SL_OPT_INT, offsetof(type, member.grid_port), 0, 65535, "N", NULL, "0",       \
     "Port for other members; 0: the first free one of 4230 to 4260."},                            \
    {"advertise", 0, SL_OPT_STRINGS, offsetof(type, member.advertise), 0, 0, "ADDRESS", NULL,      \
     NULL, "An address at which others reach this machine, besides its own; may be given several " \
     "times."},                                                                                    \
    {"replicas", 0, SL_OPT_INT, offsetof(type, member.replicas), 1, 64, "N", NULL, "1",            \
     "At a gateway: on how many nodes a model is kept loaded while it is asked for, where there "  \
     "is room; with 2, a node's death costs no load."},                                            \
    {"policy", 0, SL_OPT_STRING, offsetof(type, member.policy), 0, 0, "POLICY", NULL,              \
     POLICY_DEFAULT, "At a gateway: how it chooses nodes: a preset such as least-work, or one "    \
     "with other weights: least-work:network=2."},                                                 \
    {"bus", 0, SL_OPT_STRINGS, offsetof(type, member.bus), 0, 0, "URL", NULL, NULL,                \
     "Use a NATS that runs already, such as tls://nats.example.com:4222, in place of our own; "    \
     "may be given several times."},                                                               \
    {"bus-creds", 0, SL_OPT_STRING, offsetof(type, member.bus_creds), 0, 0, "FILE", NULL, NULL,    \
     "Credentials for that NATS."},                                                                \
    {"bus-user", 0, SL_OPT_STRING, offsetof(type, member.bus_user), 0, 0, "USER", NULL, NULL,      \
     "User name for that NATS."},                                                                  \
    {"bus-password", 0, SL_OPT_STRING, offsetof(type, member.bus_password), 0, 0, "WORD", NULL,    \
     NULL, "Its password; better in $STARLANE_BUS_PASSWORD, which others do not see."},            \
    {"bus-ca", 0, SL_OPT_STRING, offsetof(type, member.bus_ca), 0, 0, "FILE", NULL, NULL,          \
     "Root certificates (PEM) for that NATS; the system's when left out."}
/* clang-format on */

/* What the service takes. INVALID names the option. */
SL_CHECK sl_status grid_options_read(const struct grid_options *options,
                                     struct service_grid_cfg *cfg, struct sl_err *err);
