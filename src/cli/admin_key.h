/* admin_key.h: the credential of who administers a grid: the text in STARLANE_HOME/grid/admin.key.
 * Floor: cli.  Thread: main.  Allocates: nothing. */
#pragma once
#include "cli/client.h"
#include "grid/membership.h"

#define ADMIN_KEY_SIZE (MEMBERSHIP_ADMIN_CHARS + 1)

/* A client that shows the key of this machine's gateway to the server on this machine, and to no
 * other one, unless the user gave a key. `cfg` and `key` outlive it. As client_create. */
SL_CHECK sl_status admin_client_create(struct client_cfg *cfg, char key[ADMIN_KEY_SIZE],
                                       struct client **out, struct sl_err *err);
