#include "support/blob_giver.h"
#include "base/clock.h"
#include "grid/blobs.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "net/tls.h"
#include "support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void on_close(void *ctx, struct http_exchange *x)
{
    (void)ctx;
    http_exchange_abort(x);
}

static void on_request(void *ctx, struct http_exchange *x)
{
    struct blob_giver *giver = ctx;
    const char *id = http_exchange_request(x)->peer_id;
    bool refused = !id || (giver->n_left && --giver->n_left == 0);
    snprintf(giver->last_peer, sizeof giver->last_peer, "%s", id ? id : "");
    giver->n_requests++;
    if (refused)
        http_respond(x, 503, "text/plain", "no", 2);
    else if (giver->holds_after && giver->n_requests > giver->holds_after)
        http_exchange_set_close_handler(x, on_close, giver);
    else if (!blobs_handle(giver->blobs, x))
        http_respond(x, 404, NULL, NULL, 0);
}

void blob_giver_start(struct blob_giver *giver, struct loop *loop, const struct test_member *member,
                      const char *name)
{
    char cert[TEMP_PATH_MAX], key[TEMP_PATH_MAX], file[32];
    uint16_t port;
    struct sl_err err = SL_ERR_INIT;
    *giver = (struct blob_giver){0};
    snprintf(file, sizeof file, "%s.cert.pem", name);
    snprintf(cert, sizeof cert, "%s", temp_path(file));
    snprintf(file, sizeof file, "%s.key.pem", name);
    snprintf(key, sizeof key, "%s", temp_path(file));
    snprintf(file, sizeof file, "store-%s", name);
    test_member_write(member, name);
    assert_int_equal(store_open(temp_path(file), &giver->store, NULL), SL_OK);
    const struct blobs_cfg blobs = {.loop = loop, .store = giver->store};
    const struct http_server_cfg http = {.on_request = on_request, .ctx = giver};
    assert_int_equal(blobs_create(&blobs, &giver->blobs, &err), SL_OK);
    assert_int_equal(
        tls_server_create_for_grid(cert, key, temp_path("root.pem"), &giver->tls, &err), SL_OK);
    assert_int_equal(http_server_create(loop, &http, &giver->http, &err), SL_OK);
    assert_int_equal(http_server_listen(giver->http, "127.0.0.1", 0, giver->tls, &port, &err),
                     SL_OK);
    snprintf(giver->source.id, sizeof giver->source.id, "%s", member->id);
    snprintf(giver->source.address, sizeof giver->source.address, "127.0.0.1:%u", port);
}

void blob_giver_stop(struct blob_giver *giver)
{
    http_server_destroy(giver->http);
    blobs_destroy(giver->blobs);
    tls_server_destroy(giver->tls);
    store_close(giver->store);
}

void blob_giver_import(struct blob_giver *giver, const char *path, const char *model, char *digest)
{
    struct store_model found;
    struct sl_err err = SL_ERR_INIT;
    if (store_import_file(giver->store, path, model, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(store_find(giver->store, model, &found, NULL), SL_OK);
    memcpy(digest, found.digest, STORE_DIGEST_SIZE);
    store_model_done(&found);
}

uint64_t blob_giver_bytes(const struct blob_giver *giver)
{
    struct blobs_stats stats;
    blobs_stats_get(giver->blobs, &stats);
    return stats.bytes_sent;
}

void blob_grid_init(struct test_grid *grid)
{
    struct sl_err err = SL_ERR_INIT;
    test_grid_init(grid, sl_unix_time_ms() / 1000);
    assert_int_equal(pki_file_write(temp_path("root.pem"), grid->root.data, grid->root.len, &err),
                     SL_OK);
    test_member_write(&grid->node, "me");
}
