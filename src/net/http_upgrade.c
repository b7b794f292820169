/* http_upgrade.c: a connection leaves the server for another protocol (RFC 9110 section 7.8). */
#include "net/http_int.h"
#include "net/stream.h"

#include <stdio.h>
#include <strings.h>

#define AGREEMENT_BYTES_MAX 256

/* One protocol in the field, as our own client sends it, and no list to choose from. */
static bool asks_for(const struct http_exchange *x, const char *protocol)
{
    const char *upgrade = http_request_header(&x->request, "upgrade");
    const char *connection = http_request_header(&x->request, "connection");
    return x->conn && !x->stream && x->request.version_1_1 && upgrade && connection &&
           strcasecmp(upgrade, protocol) == 0 && strcasecmp(connection, "upgrade") == 0;
}

sl_status http_exchange_upgrade(struct http_exchange *x, const char *protocol,
                                size_t unsent_bytes_max, struct stream **out, struct sl_err *err)
{
    struct http_conn *conn = x->conn;
    char agreement[AGREEMENT_BYTES_MAX];
    if (!asks_for(x, protocol) || !conn->tls)
        return sl_err_set(err, SL_UNSUPPORTED, "this path is for an upgrade to %s", protocol);
    if (conn->in.len || http_conn_unsent(conn))
        return sl_err_set(err, SL_INVALID, "bytes behind the request for an upgrade");
    snprintf(agreement, sizeof agreement,
             "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
             protocol);
    const struct stream_adopt adopt = {.fd = conn->fd,
                                       .tls = conn->tls,
                                       .address = conn->peer,
                                       .greeting = agreement,
                                       .unsent_bytes_max = unsent_bytes_max};
    sl_status status = stream_adopt(x->server->loop, &adopt, out);
    if (status != SL_OK) return sl_err_set(err, status, "%s", sl_status_text(status));
    http_conn_detach(conn);
    http_exchange_free(x);
    return SL_OK;
}
