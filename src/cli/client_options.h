/* client_options.h: the options of commands that ask a server: which, and with which key.
 * Floor: cli.  Thread: main.  Allocates: nothing. */
#pragma once
#include "base/config.h"
#include <stddef.h>

/* Rows of a command's table; `server` and `api_key` are members of its target struct `type`, of
 * type const char *, as struct client_cfg wants them. */
/* clang-format off */
#define CLIENT_OPTIONS(type, server, api_key)                                                      \
    {"server", 0, SL_OPT_STRING, offsetof(type, server), 0, 0, "URL", NULL, NULL,                  \
     "The server to ask, instead of $STARLANE_HOST or the one on this machine."},                  \
    {"api-key", 0, SL_OPT_STRING, offsetof(type, api_key), 0, 0, "KEY", NULL, NULL,                \
     "Its key, instead of $STARLANE_API_KEY."}
/* clang-format on */
