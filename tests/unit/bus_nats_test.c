/* bus_nats_test.c: the bus over real nats-servers on loopback: who is let in, what arrives, and
 * what happens when a server dies. Skipped where there is no nats-server. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "grid/bus.h"
#include "grid/nats_process.h"
#include "grid/nats_server.h"
#include "net/loop.h"
#include "net/sha256.h"
#include "support/temp_dir.h"
#include "support/test_grid.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEADLINE_NS 30000000000

enum { G1, G2, N1, N2, N_MEMBERS };

struct peer { /* one member's end of the bus */
    struct bus *bus;
    int n_got, n_up, n_down;
    char subject[BUS_SUBJECT_SIZE];
    char *bytes; /* the last message */
    size_t n;
    bool in_order; /* messages were numbers, each one more than the last */
    uint32_t last;
};

struct member {
    struct test_member made;
    char id[PKI_ID_SIZE];
    char key_hash[SHA256_HEX_SIZE];
    char cert_path[TEMP_PATH_MAX], key_path[TEMP_PATH_MAX];
};

struct world {
    struct loop *loop;
    struct test_grid grid;
    char ca_path[TEMP_PATH_MAX];
    struct member members[N_MEMBERS];
    bool removed[N_MEMBERS];
    int cluster_ports[2]; /* 0: any */
    struct nats_server *servers[2];
    struct peer peers[N_MEMBERS];
};

static struct world *w;

/* libnats reads and writes one TLS connection on two threads. At its end OpenSSL answers a cut from
 * within the reading one, by an alert that nobody will see; we have no part in it. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:libssl.so\nrace:libcrypto.so\n";
}

/* --- waiting --- */

static void turn_until(bool (*done)(void *arg), void *arg)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    while (!done(arg)) {
        assert_true(sl_now_ns() < end_ns);
        assert_int_equal(loop_turn(w->loop, 20000000, &err), SL_OK);
    }
}

static bool server_runs(void *arg)
{
    struct nats_server_stats stats;
    nats_server_stats(arg, &stats);
    return stats.running;
}

static bool peer_is_up(void *arg)
{
    struct peer *peer = arg;
    return peer->n_up > peer->n_down;
}

static bool peer_is_down(void *arg)
{
    return !peer_is_up(arg);
}

static bool peer_has_got(void *arg)
{
    return ((struct peer *)arg)->n_got > 0;
}

static bool peer_was_refused(void *arg)
{
    struct bus_stats stats;
    bus_stats(((struct peer *)arg)->bus, &stats);
    return stats.n_refused > 0;
}

static bool peer_failed(void *arg)
{
    struct bus_stats stats;
    bus_stats(((struct peer *)arg)->bus, &stats);
    return stats.error[0] != '\0';
}

/* --- servers --- */

static size_t list_members(struct nats_member out[N_MEMBERS])
{
    size_t n = 0;
    for (int i = 0; i < N_MEMBERS; i++)
        if (!w->removed[i])
            out[n++] = (struct nats_member){
                .id = w->members[i].id, .key = w->members[i].key_hash, .gateway = i <= G2};
    return n;
}

static int port_of(int which)
{
    struct nats_server_stats stats;
    nats_server_stats(w->servers[which], &stats);
    return stats.client_port;
}

static int free_port(void)
{
    int port;
    assert_int_equal(nats_process_port("127.0.0.1", 0, 0, &port, NULL), SL_OK);
    return port;
}

static sl_status try_server(int which, const char *const *routes, size_t n_routes,
                            struct sl_err *err)
{
    static const char *const folders[] = {"g1", "g2"}, *const logs[] = {"g1.log", "g2.log"};
    struct nats_member members[N_MEMBERS];
    char folder[TEMP_PATH_MAX], log[TEMP_PATH_MAX];
    strcpy(folder, temp_path(folders[which]));
    strcpy(log, temp_path(logs[which]));
    (void)mkdir(folder, 0700);
    struct member *self = &w->members[which];
    struct nats_server_cfg cfg = {
        .loop = w->loop,
        .folder = folder,
        .log_path = log,
        .self = self->id,
        .host = "127.0.0.1",
        .client_port = free_port(),
        .cluster_port = w->cluster_ports[which] ? w->cluster_ports[which] : free_port(),
        .leaf_port = free_port(),
        .ca = w->ca_path,
        .cert = self->cert_path,
        .key = self->key_path,
        .memory_bytes = 1 << 20,
        .disk_bytes = 1 << 20,
        .access = {members, list_members(members), routes, n_routes},
    };
    return nats_server_create(&cfg, &w->servers[which], err);
}

static void start_server(int which, const char *const *routes, size_t n_routes)
{
    struct sl_err err = SL_ERR_INIT;
    char exe[TEMP_PATH_MAX];
    if (nats_process_find(exe, sizeof exe, NULL) != SL_OK) skip();
    if (try_server(which, routes, n_routes, &err) != SL_OK) fail_msg("%s", err.text);
    turn_until(server_runs, w->servers[which]);
}

/* --- members --- */

static void on_state(void *ctx, bool connected)
{
    struct peer *peer = ctx;
    if (connected)
        peer->n_up++;
    else
        peer->n_down++;
}

static void on_message(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct peer *peer = ctx;
    uint32_t number = peer->last + 1;
    if (n == sizeof number) memcpy(&number, bytes, sizeof number);
    if (number != peer->last + 1) peer->in_order = false;
    peer->last = number;
    peer->n_got++;
    strcpy(peer->subject, subject);
    sl_free(peer->bytes);
    peer->bytes = sl_memdup(bytes, n);
    peer->n = n;
}

/* A bus with the credentials of `who` (NULL: none) to the server that is to be `expected`. */
static void open_bus(struct peer *peer, const struct member *who, const char *ca,
                     const char *const *urls, int n_urls)
{
    struct sl_err err = SL_ERR_INIT;
    struct bus_cfg cfg = {.loop = w->loop,
                          .self = who ? who->id : "nobody",
                          .urls = urls,
                          .n_urls = n_urls,
                          .in_order = true,
                          .ca = ca,
                          .cert = who ? who->cert_path : NULL,
                          .key = who ? who->key_path : NULL,
                          .on_state = on_state,
                          .ctx = peer};
    *peer = (struct peer){.in_order = true};
    if (bus_create(&cfg, &peer->bus, &err) != SL_OK) fail_msg("%s", err.text);
}

static const char *url_of(int which)
{
    static char texts[2][128];
    snprintf(texts[which], sizeof texts[which], "tls://127.0.0.1:%d#%s", port_of(which),
             w->members[which].id);
    return texts[which];
}

static struct peer *join(int member, int server)
{
    const char *urls[] = {url_of(server)};
    struct peer *peer = &w->peers[member];
    open_bus(peer, &w->members[member], w->ca_path, urls, 1);
    turn_until(peer_is_up, peer);
    return peer;
}

static void listen_to(struct peer *peer, const char *pattern)
{
    struct bus_subscription *subscription;
    assert_int_equal(bus_subscribe(peer->bus, pattern, on_message, peer, &subscription, NULL),
                     SL_OK);
}

/* The subject, with the members' ids in place of %1 and %2. */
static const char *subject(const char *kind, int to, int from)
{
    static char texts[4][BUS_SUBJECT_SIZE];
    static int turn;
    char *text = texts[turn++ % 4];
    if (to >= 0)
        snprintf(text, BUS_SUBJECT_SIZE, "sl.%s.%s.%s", kind, w->members[to].id,
                 w->members[from].id);
    else
        snprintf(text, BUS_SUBJECT_SIZE, "sl.%s.%s", kind, w->members[from].id);
    return text;
}

static const char *inbox(const char *kind, int to)
{
    static char text[BUS_SUBJECT_SIZE];
    snprintf(text, sizeof text, "sl.%s.%s.*", kind, w->members[to].id);
    return text;
}

static void say(struct peer *peer, const char *to, const void *bytes, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    if (bus_publish(peer->bus, to, bytes, n, &err) != SL_OK) fail_msg("%s", err.text);
}

struct knock {
    struct peer *from, *to;
    const char *subject;
};

/* Publishes until the first arrives: the subscription may still be on its way. */
static bool knocked(void *arg)
{
    struct knock *knock = arg;
    uint32_t zero = 0;
    if (knock->to->n_got) return true;
    (void)!bus_publish(knock->from->bus, knock->subject, &zero, 2, NULL);
    return false;
}

static void connect_peers(struct peer *from, struct peer *to, const char *on)
{
    struct knock knock = {from, to, on};
    turn_until(knocked, &knock);
}

/* --- the world --- */

static int64_t now_s(void)
{
    return sl_unix_time_ms() / 1000;
}

static void make_grid(struct test_grid *grid, const char *name, char ca_path[TEMP_PATH_MAX])
{
    test_grid_init(grid, now_s());
    snprintf(ca_path, TEMP_PATH_MAX, "%s", temp_path(name));
    assert_int_equal(pki_file_write(ca_path, grid->root.data, grid->root.len, NULL), SL_OK);
}

static void make_member(const struct test_grid *grid, const char *name, bool gateway,
                        struct member *out)
{
    char file[64];
    struct pki_peer peer;
    test_member_init(&out->made, grid->root_key, grid->root.data, gateway, now_s());
    test_member_write(&out->made, name);
    assert_int_equal(pki_chain_check(out->made.chain.data, grid->root.data, now_s(), &peer, NULL),
                     SL_OK);
    strcpy(out->id, peer.id);
    sha256_hex(peer.key_sha256, out->key_hash);
    snprintf(file, sizeof file, "%s.cert.pem", name);
    snprintf(out->cert_path, TEMP_PATH_MAX, "%s", temp_path(file));
    snprintf(file, sizeof file, "%s.key.pem", name);
    snprintf(out->key_path, TEMP_PATH_MAX, "%s", temp_path(file));
}

static int setup(void **state)
{
    static const char *const names[N_MEMBERS] = {"g1", "g2", "n1", "n2"};
    struct sl_err err = SL_ERR_INIT;
    if (temp_dir_setup(state) != 0) return -1;
    w = sl_calloc(1, sizeof *w);
    if (!w || loop_create(0, &w->loop, &err) != SL_OK) return -1;
    make_grid(&w->grid, "ca.pem", w->ca_path);
    for (int i = 0; i < N_MEMBERS; i++) make_member(&w->grid, names[i], i <= G2, &w->members[i]);
    return 0;
}

static void leave(struct peer *peer)
{
    bus_destroy(peer->bus);
    peer->bus = NULL;
    sl_free(peer->bytes);
    peer->bytes = NULL;
}

static int teardown(void **state)
{
    for (int i = 0; i < N_MEMBERS; i++) leave(&w->peers[i]);
    nats_server_destroy(w->servers[0]);
    nats_server_destroy(w->servers[1]);
    loop_destroy(w->loop);
    for (int i = 0; i < N_MEMBERS; i++) test_member_done(&w->members[i].made);
    test_grid_done(&w->grid);
    sl_free(w);
    return temp_dir_teardown(state);
}

/* --- tests --- */

static void forget(struct peer *peer)
{
    peer->n_got = 0;
    peer->last = 0;
    peer->in_order = true;
}

static bool got_thousand(void *arg)
{
    return ((struct peer *)arg)->last >= 1000;
}

static void messages_arrive_in_order(void **state)
{
    (void)state;
    start_server(G1, NULL, 0);
    struct peer *gateway = join(G1, G1), *node = join(N1, G1);
    listen_to(node, inbox("run", N1));
    const char *to = subject("run", N1, G1);
    connect_peers(gateway, node, to);
    forget(node);
    for (uint32_t i = 1; i <= 1000; i++) say(gateway, to, &i, sizeof i);
    turn_until(got_thousand, node);
    assert_true(node->in_order);
    assert_string_equal(node->subject, to);
}

static void a_long_message_comes_whole(void **state)
{
    (void)state;
    start_server(G1, NULL, 0);
    struct peer *gateway = join(G1, G1), *node = join(N1, G1);
    listen_to(node, inbox("run", N1));
    const char *to = subject("run", N1, G1);
    connect_peers(gateway, node, to);
    static const size_t lengths[] = {BUS_PART_BYTES, BUS_PART_BYTES + 1, 3 * BUS_PART_BYTES,
                                     BUS_MESSAGE_BYTES_MAX};
    char *bytes = sl_malloc(BUS_MESSAGE_BYTES_MAX);
    for (size_t i = 0; i < BUS_MESSAGE_BYTES_MAX; i++) bytes[i] = (char)(i * 2654435761u >> 13);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        forget(node);
        say(gateway, to, bytes, lengths[i]);
        turn_until(peer_has_got, node);
        assert_int_equal(node->n, lengths[i]);
        assert_memory_equal(node->bytes, bytes, lengths[i]);
    }
    assert_int_equal(bus_publish(gateway->bus, to, bytes, BUS_MESSAGE_BYTES_MAX + 1, NULL),
                     SL_LIMIT);
    sl_free(bytes);
}

static void ones_own_do_not_come_twice(void **state)
{
    (void)state;
    start_server(G1, NULL, 0);
    struct peer *gateway = join(G1, G1), *node = join(N1, G1), own = {0};
    struct bus_subscription *subscription;
    const char *mine = subject("report", -1, G1);
    listen_to(gateway, subject("report", -1, N1));
    listen_to(node, mine);
    assert_int_equal(bus_subscribe(gateway->bus, mine, on_message, &own, &subscription, NULL),
                     SL_OK);
    connect_peers(node, gateway, subject("report", -1, N1));
    own.n_got = 0;
    forget(gateway);
    forget(node);
    say(gateway, mine, "1", 1);
    turn_until(peer_has_got, node);
    /* What node says now comes after an echo would have. */
    connect_peers(node, gateway, subject("report", -1, N1));
    assert_int_equal(own.n_got, 1);
    sl_free(own.bytes);
}

static void a_killed_server_comes_back(void **state)
{
    (void)state;
    struct nats_server_stats stats;
    start_server(G1, NULL, 0);
    struct peer *gateway = join(G1, G1), *node = join(N1, G1);
    listen_to(node, inbox("run", N1));
    connect_peers(gateway, node, subject("run", N1, G1));
    nats_server_stats(w->servers[G1], &stats);
    assert_int_equal(kill(stats.pid, SIGKILL), 0);
    turn_until(peer_is_down, node);
    turn_until(peer_is_down, gateway);
    turn_until(peer_is_up, node);
    turn_until(peer_is_up, gateway);
    nats_server_stats(w->servers[G1], &stats);
    assert_int_equal(stats.n_starts, 2);
    forget(node);
    connect_peers(gateway, node, subject("run", N1, G1));
}

/* Its connection looks well all the time. */
static void a_silent_server_is_given_up(void **state)
{
    (void)state;
    struct nats_server_stats stats;
    start_server(G1, NULL, 0);
    struct peer *node = join(N1, G1);
    nats_server_stats(w->servers[G1], &stats);
    assert_int_equal(kill(stats.pid, SIGSTOP), 0);
    turn_until(peer_is_down, node);
    assert_int_equal(kill(stats.pid, SIGCONT), 0);
    turn_until(peer_is_up, node);
}

static void construction_survives_no_memory(void **state)
{
    (void)state;
    start_server(G1, NULL, 0);
    nats_server_destroy(w->servers[G1]);
    w->servers[G1] = NULL;
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t i = 1; status != SL_OK; i++) {
        sl_mem_fail_at(i, false);
        status = try_server(G1, NULL, 0, NULL);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        nats_server_destroy(w->servers[G1]);
        w->servers[G1] = NULL;
        assert_int_equal(sl_mem_live(), live);
    }
}

static void nobody_speaks_as_another(void **state)
{
    (void)state;
    start_server(G1, NULL, 0);
    struct peer *gateway = join(G1, G1), *node = join(N1, G1), *other = join(N2, G1);
    listen_to(gateway, inbox("answer", G1));
    listen_to(other, "sl.ping.*.*"); /* of others too: refused */
    turn_until(peer_was_refused, other);
    uint32_t one = 1;
    say(node, subject("answer", G1, N2), &one, sizeof one);
    turn_until(peer_was_refused, node);
    connect_peers(other, gateway, subject("answer", G1, N2)); /* who may */
    assert_int_equal(gateway->n, 2);                          /* is the only one heard */
    say(node, subject("ping", G1, N1), &one, sizeof one);
    forget(gateway);
    connect_peers(node, gateway, subject("answer", G1, N1));
    assert_int_equal(other->n_got, 0);
}

static void a_node_gives_no_orders(void **state)
{
    (void)state;
    start_server(G1, NULL, 0);
    struct peer *node = join(N1, G1), *other = join(N2, G1);
    uint32_t one = 1;
    listen_to(other, inbox("run", N2));
    say(node, subject("run", N2, N1), &one, sizeof one);
    turn_until(peer_was_refused, node);
    listen_to(node, inbox("answer", G1));
    listen_to(other, inbox("ping", N2));
    connect_peers(node, other, subject("ping", N2, N1));
    assert_int_equal(other->n, 2);
}

/* Does this identity get in? Those who do not are told so before they have ever been connected. */
static void assert_refused(const struct member *who, const char *ca)
{
    struct peer stranger;
    const char *urls[] = {url_of(G1)};
    open_bus(&stranger, who, ca, urls, 1);
    turn_until(peer_failed, &stranger);
    assert_int_equal(stranger.n_up, 0);
    assert_int_equal(bus_publish(stranger.bus, "sl.report.x", "x", 1, NULL), SL_UNAVAILABLE);
    leave(&stranger);
}

static void strangers_stay_outside(void **state)
{
    (void)state;
    struct test_grid other;
    struct member foreign, unlisted;
    char other_ca[TEMP_PATH_MAX];
    start_server(G1, NULL, 0);
    make_grid(&other, "other-ca.pem", other_ca);
    make_member(&other, "foreign", true, &foreign);
    make_member(&w->grid, "unlisted", false, &unlisted);
    assert_refused(NULL, w->ca_path);      /* no certificate */
    assert_refused(&foreign, w->ca_path);  /* another grid's */
    assert_refused(&unlisted, w->ca_path); /* the grid's, but not of a member any more */
    /* A key of its own under another's name: the server's pins know whose is whose. */
    struct member thief = w->members[N1];
    memcpy(thief.cert_path, unlisted.cert_path, TEMP_PATH_MAX);
    memcpy(thief.key_path, unlisted.key_path, TEMP_PATH_MAX);
    assert_refused(&thief, w->ca_path);
    test_member_done(&foreign.made);
    test_member_done(&unlisted.made);
    test_grid_done(&other);
}

static void a_false_server_is_not_trusted(void **state)
{
    (void)state;
    char url[128];
    const char *urls[] = {url};
    struct peer node;
    start_server(G1, NULL, 0);
    snprintf(url, sizeof url, "tls://127.0.0.1:%d#%s", port_of(G1), w->members[G2].id);
    open_bus(&node, &w->members[N1], w->ca_path, urls, 1);
    turn_until(peer_failed, &node);
    assert_int_equal(node.n_up, 0);
    leave(&node);
}

static void who_is_removed_is_cut_off(void **state)
{
    (void)state;
    struct nats_member members[N_MEMBERS];
    start_server(G1, NULL, 0);
    struct peer *gateway = join(G1, G1), *node = join(N1, G1), *other = join(N2, G1);
    listen_to(other, inbox("run", N2));
    connect_peers(gateway, other, subject("run", N2, G1));
    w->removed[N1] = true;
    struct nats_access access = {members, list_members(members), NULL, 0};
    assert_int_equal(nats_server_set_access(w->servers[G1], &access, NULL), SL_OK);
    turn_until(peer_is_down, node);
    turn_until(peer_failed, node);
    assert_int_equal(node->n_up, 1);
    forget(other);
    connect_peers(gateway, other, subject("run", N2, G1));
    assert_int_equal(gateway->n_down, 0); /* nobody else noticed */
    assert_int_equal(other->n_down, 0);
    w->removed[N1] = false; /* and back */
    access.n_members = list_members(members);
    assert_int_equal(nats_server_set_access(w->servers[G1], &access, NULL), SL_OK);
    turn_until(peer_is_up, node);
}

static void start_cluster(void)
{
    char texts[2][64];
    const char *routes[2] = {texts[0], texts[1]};
    w->cluster_ports[G1] = free_port();
    w->cluster_ports[G2] = free_port();
    for (int i = 0; i < 2; i++)
        snprintf(texts[i], sizeof texts[i], "127.0.0.1:%d", w->cluster_ports[i]);
    start_server(G1, routes, 2);
    start_server(G2, routes, 2);
}

static void servers_are_one_bus(void **state)
{
    (void)state;
    start_cluster();
    struct peer *gateway = join(G1, G1), *node = &w->peers[N1];
    const char *urls[] = {url_of(G2), url_of(G1)};
    open_bus(node, &w->members[N1], w->ca_path, urls, 2);
    turn_until(peer_is_up, node);
    listen_to(node, inbox("run", N1));
    connect_peers(gateway, node, subject("run", N1, G1)); /* it crosses */
    nats_server_destroy(w->servers[G2]);
    w->servers[G2] = NULL;
    turn_until(peer_is_down, node);
    turn_until(peer_is_up, node);
    forget(node);
    connect_peers(gateway, node, subject("run", N1, G1));
    struct bus_stats stats;
    bus_stats(node->bus, &stats);
    assert_non_null(strstr(url_of(G1), stats.url));
    assert_int_equal(gateway->n_down, 0);
}

static void a_new_gateway_is_let_in(void **state)
{
    (void)state;
    char route[64];
    const char *routes[] = {route};
    struct nats_member members[N_MEMBERS];
    struct nats_server_stats stats;
    w->removed[G2] = true;
    start_server(G1, NULL, 0);
    struct peer *gateway = join(G1, G1);
    nats_server_stats(w->servers[G1], &stats);
    snprintf(route, sizeof route, "127.0.0.1:%d", stats.cluster_port);
    w->removed[G2] = false;
    struct nats_access access = {members, list_members(members), NULL, 0};
    assert_int_equal(nats_server_set_access(w->servers[G1], &access, NULL), SL_OK);
    turn_until(peer_is_down, gateway); /* the server begins anew */
    turn_until(peer_is_up, gateway);
    start_server(G2, routes, 1);
    struct peer *node = join(N1, G2);
    listen_to(node, inbox("run", N1));
    connect_peers(gateway, node, subject("run", N1, G1));
}

struct log_search {
    const char *path, *text;
};

static bool log_says(void *arg)
{
    const struct log_search *search = arg;
    char line[1024];
    bool found = false;
    FILE *file = fopen(search->path, "r");
    while (file && !found && fgets(line, sizeof line, file))
        found = strstr(line, search->text) != NULL;
    if (file) fclose(file);
    return found;
}

static void a_node_is_no_server_of_the_grid(void **state)
{
    (void)state;
    char route[64], log[TEMP_PATH_MAX];
    const char *routes[] = {route};
    start_server(G1, NULL, 0);
    struct nats_server_stats stats;
    nats_server_stats(w->servers[G1], &stats);
    snprintf(route, sizeof route, "127.0.0.1:%d", stats.cluster_port);
    struct member gateway = w->members[G2];
    w->members[G2] = w->members[N1]; /* a node that runs a server of its own and dials the grid's */
    w->removed[N1] = true;
    start_server(G2, routes, 1);
    w->members[G2] = gateway;
    strcpy(log, temp_path("g1.log"));
    struct log_search search = {log, "certificate not pinned"};
    turn_until(log_says, &search);
}

static void servers_may_come_later(void **state)
{
    (void)state;
    struct peer *node = &w->peers[N1];
    start_server(G1, NULL, 0);
    open_bus(node, &w->members[N1], w->ca_path, NULL, 0);
    listen_to(node, inbox("ping", N1));
    assert_int_equal(bus_publish(node->bus, subject("report", -1, N1), "x", 1, NULL), SL_OK);
    const char *urls[] = {url_of(G1)};
    assert_int_equal(bus_set_urls(node->bus, urls, 1, NULL), SL_OK);
    turn_until(peer_is_up, node);
    connect_peers(join(G1, G1), node, subject("ping", N1, G1));
}

static void one_left_behind_is_ended(void **state)
{
    (void)state;
    char exe[TEMP_PATH_MAX], config[TEMP_PATH_MAX], log[TEMP_PATH_MAX], bytes[4096];
    struct nats_process leftover;
    start_server(G1, NULL, 0);
    nats_server_destroy(w->servers[G1]);
    assert_int_equal(nats_process_find(exe, sizeof exe, NULL), SL_OK);
    strcpy(config, temp_path("g1/nats-server.conf"));
    assert_int_equal(nats_process_start(&leftover, exe, config, NULL), SL_OK);
    strcpy(log, temp_path("g1/nats-server.pid"));
    char pid[32];
    snprintf(pid, sizeof pid, "%d", leftover.pid);
    struct log_search search = {log, pid};
    turn_until(log_says, &search);
    start_server(G1, NULL, 0);
    while (read(leftover.stderr_fd, bytes, sizeof bytes) > 0) continue;
    assert_int_equal(read(leftover.stderr_fd, bytes, sizeof bytes), 0); /* nobody holds it */
    nats_process_end(&leftover);
}

static void a_port_that_is_taken_is_said(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    int port;
    start_server(G1, NULL, 0);
    assert_int_equal(nats_process_port("127.0.0.1", port_of(G1), 0, &port, &err), SL_BUSY);
    assert_int_equal(nats_process_port("127.0.0.1", 0, port_of(G1), &port, &err), SL_OK);
    assert_int_not_equal(port, port_of(G1));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(messages_arrive_in_order),     TEST(a_long_message_comes_whole),
        TEST(ones_own_do_not_come_twice),   TEST(a_killed_server_comes_back),
        TEST(a_silent_server_is_given_up),  TEST(construction_survives_no_memory),
        TEST(nobody_speaks_as_another),     TEST(a_node_gives_no_orders),
        TEST(strangers_stay_outside),       TEST(a_false_server_is_not_trusted),
        TEST(who_is_removed_is_cut_off),    TEST(servers_are_one_bus),
        TEST(a_new_gateway_is_let_in),      TEST(a_node_is_no_server_of_the_grid),
        TEST(servers_may_come_later),       TEST(one_left_behind_is_ended),
        TEST(a_port_that_is_taken_is_said),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
