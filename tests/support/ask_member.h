/* ask_member.h: one question to the grid port of a member on 127.0.0.1, for tests that hold the
 * server's side (the headers of HTTP's two sides do not go together). Thread: blocks its own. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct ask_member {
    uint16_t port;
    const char *member_id;            /* who must answer */
    const char *root_path;            /* PEM files */
    const char *cert_path, *key_path; /* of who asks; NULL: nobody */
    bool post;                        /* a POST of "{}" rather than a GET */
};

/* As grid_http_ask: the answer is appended to out; what the other side says is wrong is in err. */
sl_status ask_member(const struct ask_member *ask, const char *path, struct sl_buf *out,
                     struct sl_err *err);
