/* http2_fuzz.c: any bytes as what an HTTP/2 client sends behind its preface, over loopback; the
 * first byte says how the server answers and where the bytes are cut. Nothing may crash or leak,
 * and every exchange ends. */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/http_server.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define INPUT_MAX 8192
#define TURNS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t how;

static void on_closed(void *ctx, struct http_exchange *x)
{
    (void)ctx;
    http_exchange_abort(x);
}

static void on_body(void *ctx, struct http_exchange *x, const void *bytes, size_t n, bool last)
{
    (void)ctx;
    if (http_stream_write(x, bytes, n) > SL_BUSY) abort();
    if (last) http_stream_end(x);
}

static bool on_head(void *ctx, struct http_exchange *x)
{
    (void)ctx, (void)x;
    return how & 1;
}

static void on_request(void *ctx, struct http_exchange *x)
{
    (void)ctx;
    const struct http_request *request = http_exchange_request(x);
    if (!request->version_2 || !http_request_header(request, "host")) abort();
    if ((how & 2) && http_exchange_trailer_add(x, "t", "v") != SL_OK) abort();
    http_exchange_set_close_handler(x, on_closed, NULL);
    if (how & 4) {
        http_respond(x, 200, "text/plain", request->target, strlen(request->target));
    } else if (http_stream_begin(x, 200, NULL) != SL_OK) {
        http_exchange_abort(x);
    } else if (how & 1) {
        http_exchange_set_body_handler(x, on_body, NULL);
    } else if (http_stream_write(x, request->body, request->body_len) == SL_OK) {
        if (how & 8) http_stream_end(x); /* else it stays until the client is gone */
    }
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) abort();
    return fd;
}

static void turn(struct loop *loop)
{
    struct sl_err err = SL_ERR_INIT;
    for (int i = 0; i < TURNS; i++) {
        if (loop_turn(loop, 0, &err) != SL_OK) abort();
    }
}

static void send_bytes(int fd, const void *bytes, size_t n)
{
    ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent; /* the server may have closed */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > INPUT_MAX) return 0;
    struct http_server_cfg cfg = {.on_request = on_request, .on_head = on_head};
    struct sl_err err = SL_ERR_INIT;
    struct loop *loop;
    struct http_server *server;
    uint64_t live = sl_mem_live();
    uint16_t port;
    how = data[0];
    if (loop_create(16, &loop, &err) != SL_OK) return 0;
    if (http_server_create(loop, &cfg, &server, &err) != SL_OK) abort();
    if (http_server_listen(server, "127.0.0.1", 0, NULL, &port, &err) != SL_OK) abort();
    int fd = connect_to(port);
    size_t n = size - 1, cut = n * (how >> 4) / 15;
    send_bytes(fd, PREFACE, sizeof PREFACE - 1);
    send_bytes(fd, data + 1, cut);
    turn(loop);
    send_bytes(fd, data + 1 + cut, n - cut);
    turn(loop);
    close(fd);
    turn(loop);
    http_server_destroy(server);
    loop_destroy(loop);
    if (sl_mem_live() != live) abort();
    return 0;
}
