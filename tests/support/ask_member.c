#include "support/ask_member.h"
#include "grid/grid_http.h"
#include "net/http_client.h"

#include <stdio.h>

sl_status ask_member(const struct ask_member *ask, const char *path, struct sl_buf *out,
                     struct sl_err *err)
{
    char address[32];
    struct sl_buf body;
    const struct http_trust trust = {.root_path = ask->root_path,
                                     .cert_path = ask->cert_path,
                                     .key_path = ask->key_path,
                                     .member_id = ask->member_id};
    struct grid_question question = {.address = address, .path = path, .trust = &trust};
    sl_buf_init(&body, 16);
    sl_status status = sl_buf_add(&body, "{}", 2);
    if (ask->post) question.body = &body;
    snprintf(address, sizeof address, "127.0.0.1:%d", ask->port);
    if (status == SL_OK) status = grid_http_ask(&question, out, NULL, err);
    sl_buf_done(&body);
    return status;
}
