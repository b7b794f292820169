/* run_service.h: the end of every command that runs a service: home, creation, the loop, errors.
 * Floor: cli.  Thread: main.  Allocates: the service. */
#pragma once
#include "cli/cli.h"
#include "cli/service.h"

/* cfg but home. Returns the exit code. */
int run_service(const struct sl_command *spec, struct service_cfg *cfg);
