/* nats_config_test.c: the configuration of a nats-server byte by byte, as the server itself reads
 * it, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "grid/nats_config.h"
#include "grid/nats_process.h"
#include "support/temp_dir.h"
#include "support/test_grid.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define KEY_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static const struct nats_member members[] = {
    {.id = "ngateway222222", .key = KEY_A, .gateway = true},
    {.id = "nnode222222222", .key = KEY_B}};
static const char *const routes[] = {"10.0.0.2:6222", "[::1]:6222"};

static const struct nats_config plain = {
    .server_name = "ngateway222222",
    .host = "127.0.0.1",
    .client_port = 4222,
    .cluster_port = 6222,
    .ca = "/h/ca.pem",
    .cert = "/h/cert \"1\".pem",
    .key = "/h/key\\.pem",
    .pid_path = "/h/nats-server.pid",
    .store_folder = "/h/jetstream",
    .access = {.members = members, .n_members = 2, .routes = routes, .n_routes = 1},
};

static const char EXPECTED[] =
    "# Written by starlane, which replaces it.\n"
    "server_name: \"ngateway222222\"\n"
    "host: \"127.0.0.1\"\n"
    "port: 4222\n"
    "pid_file: \"/h/nats-server.pid\"\n"
    "max_payload: 1048576\n"
    "max_pending: 167772160\n"
    "max_connections: 65536\n"
    "max_subscriptions: 256\n"
    "write_deadline: \"10s\"\n"
    "ping_interval: \"2s\"\n"
    "ping_max: 2\n"
    "tls {\n"
    "ca_file: \"/h/ca.pem\"\n"
    "cert_file: \"/h/cert \\\"1\\\".pem\"\n"
    "key_file: \"/h/key\\\\.pem\"\n"
    "timeout: 5\n"
    "verify_and_map: true\n"
    "pinned_certs: [\n"
    "  \"" KEY_A "\"\n"
    "  \"" KEY_B "\"\n"
    "]\n"
    "}\n"
    "authorization {\n"
    "timeout: 5\n"
    "users: [\n"
    "  { user: \"ngateway222222.nodes.starlane.internal\", permissions: {\n"
    "    publish: { allow: [\"sl.answer.*.ngateway222222\", \"sl.report.ngateway222222\", "
    "\"sl.ping.*.ngateway222222\", \"sl.stage.*.ngateway222222\", \"sl.run.*.ngateway222222\", "
    "\"sl.registry.ngateway222222\"] }\n"
    "    subscribe: { allow: [\"sl.run.ngateway222222.*\", \"sl.ping.ngateway222222.*\", "
    "\"sl.stage.ngateway222222.*\", "
    "\"sl.answer.ngateway222222.*\", \"sl.report.*\", \"sl.registry.*\"] } } }\n"
    "  { user: \"nnode222222222.nodes.starlane.internal\", permissions: {\n"
    "    publish: { allow: [\"sl.answer.*.nnode222222222\", \"sl.report.nnode222222222\", "
    "\"sl.ping.*.nnode222222222\", \"sl.stage.*.nnode222222222\"] }\n"
    "    subscribe: { allow: [\"sl.run.nnode222222222.*\", \"sl.ping.nnode222222222.*\", "
    "\"sl.stage.nnode222222222.*\", "
    "\"sl.report.*\", \"sl.registry.*\"] } } }\n"
    "]\n"
    "}\n"
    "cluster {\n"
    "  name: \"starlane\"\n"
    "  host: \"127.0.0.1\"\n"
    "  port: 6222\n"
    "tls {\n"
    "ca_file: \"/h/ca.pem\"\n"
    "cert_file: \"/h/cert \\\"1\\\".pem\"\n"
    "key_file: \"/h/key\\\\.pem\"\n"
    "timeout: 5\n"
    "insecure: true\n"
    "pinned_certs: [\n"
    "  \"" KEY_A "\"\n"
    "]\n"
    "}\n"
    "routes: [\n"
    "  \"nats-route://10.0.0.2:6222\"\n"
    "]\n"
    "}\n";

static sl_status write_text(const struct nats_config *config, struct sl_buf *out,
                            struct sl_err *err)
{
    sl_buf_init(out, NATS_CONFIG_BYTES_MAX);
    return nats_config_write(config, out, err);
}

static void the_text_is_exact(void **state)
{
    (void)state;
    struct sl_buf text;
    assert_int_equal(write_text(&plain, &text, NULL), SL_OK);
    assert_string_equal(text.data, EXPECTED);
    sl_buf_done(&text);
}

static void assert_refused(const struct nats_config *config, sl_status expected, const char *named)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf text;
    assert_int_equal(write_text(config, &text, &err), expected);
    assert_non_null(strstr(err.text, named));
    sl_buf_done(&text);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct nats_member bad[2] = {members[0], members[1]};
    const char *bad_routes[] = {"10.0.0.2:6222\" }"};
    struct nats_config config = plain;
    config.access.members = bad;
    bad[1].id = "n*";
    assert_refused(&config, SL_INVALID, "n*");
    bad[1].id = bad[0].id;
    assert_refused(&config, SL_INVALID, "twice");
    bad[1] = members[1];
    bad[1].key = "aa";
    assert_refused(&config, SL_INVALID, members[1].id);
    config = plain;
    config.access.routes = bad_routes;
    assert_refused(&config, SL_INVALID, "10.0.0.2");
    config = plain;
    config.host = "a b";
    assert_refused(&config, SL_INVALID, "a b");
    config = plain;
    config.key = "/h/key\n.pem";
    assert_refused(&config, SL_INVALID, "path");
    config = plain;
    config.access.n_members = NATS_MEMBERS_MAX + 1;
    assert_refused(&config, SL_LIMIT, "members");
}

/* `nats-server -t` of it. */
static bool server_accepts(const struct nats_config *config)
{
    struct sl_buf text;
    char exe[512], command[2048], path[TEMP_PATH_MAX];
    if (nats_process_find(exe, sizeof exe, NULL) != SL_OK) skip();
    assert_int_equal(write_text(config, &text, NULL), SL_OK);
    strcpy(path, temp_path("nats-server.conf"));
    assert_int_equal(pki_file_write(path, text.data, text.len, NULL), SL_OK);
    sl_buf_done(&text);
    snprintf(command, sizeof command, "'%s' -t -c '%s' >/dev/null 2>&1", exe, path);
    return system(command) == 0;
}

static void the_server_reads_it(void **state)
{
    (void)state;
    struct test_grid grid;
    char ca[TEMP_PATH_MAX], cert[TEMP_PATH_MAX], key[TEMP_PATH_MAX];
    test_grid_init(&grid, sl_unix_time_ms() / 1000);
    test_member_write(&grid.gateway, "gateway");
    strcpy(ca, temp_path("ca.pem"));
    strcpy(cert, temp_path("gateway.cert.pem"));
    strcpy(key, temp_path("gateway.key.pem"));
    assert_int_equal(pki_file_write(ca, grid.root.data, grid.root.len, NULL), SL_OK);
    test_grid_done(&grid);
    struct nats_config config = plain;
    config.ca = ca;
    config.cert = cert;
    config.key = key;
    assert_true(server_accepts(&config));
    config.host = NULL;
    config.leaf_port = 7422;
    config.memory_bytes = 1 << 20;
    config.disk_bytes = 1 << 30;
    config.access.n_routes = 2;
    assert_true(server_accepts(&config));
    config.access.n_routes = 0;
    assert_true(server_accepts(&config));
    config.key = cert; /* and this is how it looks when it does not */
    assert_false(server_accepts(&config));
}

/* Ten thousand members fit. */
static void many_members_fit(void **state)
{
    (void)state;
    struct nats_member *many = sl_calloc(NATS_MEMBERS_MAX, sizeof *many);
    char(*ids)[16] = sl_calloc(NATS_MEMBERS_MAX, sizeof *ids);
    struct nats_config config = plain;
    struct sl_buf text;
    for (int i = 0; i < NATS_MEMBERS_MAX; i++) {
        memcpy(ids[i], "naaaaaaaaaaaaa", 15);
        for (int at = 1, rest = i; rest; rest /= 26) ids[i][at++] = (char)('a' + rest % 26);
        many[i] = (struct nats_member){.id = ids[i], .key = KEY_A, .gateway = true};
    }
    config.access.members = many;
    config.access.n_members = NATS_MEMBERS_MAX;
    assert_int_equal(write_text(&config, &text, NULL), SL_OK);
    sl_buf_done(&text);
    sl_free(many);
    sl_free(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_is_exact),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test_setup_teardown(the_server_reads_it, temp_dir_setup, temp_dir_teardown),
        cmocka_unit_test(many_members_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
