/* membership_test.c: a gateway in this process, and machines that join it from threads, over real
 * TLS on loopback. The bus stays in process: its server is a port where nobody listens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "grid/grid_http.h"
#include "grid/identity.h"
#include "grid/join.h"
#include "grid/membership.h"
#include "grid/renew.h"
#include "net/http_client.h"
#include "net/loop.h"
#include "support/temp_dir.h"
#include <pthread.h> /* after sched/local.h: both have a SCHED_BATCH */

#define DEADLINE_NS INT64_C(60000000000)
#define HOUR_MS INT64_C(3600000)

#define TURN_UNTIL(condition) \
    do { \
        int64_t turn_deadline_ns = sl_now_ns() + DEADLINE_NS; \
        while (!(condition)) { \
            assert_true(sl_now_ns() < turn_deadline_ns); \
            assert_int_equal(loop_turn(w.loop, 5000000, NULL), SL_OK); \
        } \
    } while (0)

static const char *const no_bus[] = {"nats://127.0.0.1:1"};

static struct {
    char home[TEMP_PATH_MAX * 2];
    struct loop *loop;
    struct membership *gateway;
    bool removed;          /* on_removed of `other` */
    int64_t certificate_s; /* of who starts */
} w;

static void copy_path(char out[TEMP_PATH_MAX * 2], const char *name)
{
    snprintf(out, TEMP_PATH_MAX * 2, "%s", temp_path(name));
}

static void on_removed(void *ctx, const char *message)
{
    (void)ctx;
    assert_non_null(strstr(message, "removed from the grid"));
    w.removed = true;
}

static struct membership *start_with(const char *home, const char *label, sl_status expected)
{
    struct membership *membership = NULL;
    struct sl_err err = SL_ERR_INIT;
    const struct membership_cfg cfg = {.loop = w.loop,
                                       .home = home,
                                       .labels = &label,
                                       .n_labels = label != NULL,
                                       .grid_host = "127.0.0.1",
                                       .bus_urls = no_bus,
                                       .n_bus_urls = 1,
                                       .certificate_s = w.certificate_s,
                                       .on_removed = on_removed};
    sl_status status = membership_create(&cfg, &membership, &err);
    if (status != expected) fail_msg("%s: %s", sl_status_name(status), err.text);
    return membership;
}

static struct membership *start(const char *home, sl_status expected)
{
    return start_with(home, NULL, expected);
}

static int begin(void **state)
{
    if (temp_dir_setup(state) != 0) return -1;
    copy_path(w.home, "gateway");
    w.removed = false;
    w.certificate_s = 0;
    if (loop_create(0, &w.loop, NULL) != SL_OK) return -1;
    assert_int_equal(membership_open_grid(w.home, NULL), SL_OK);
    w.gateway = start(w.home, SL_OK);
    return 0;
}

static int end(void **state)
{
    membership_destroy(w.gateway);
    loop_destroy(w.loop);
    return temp_dir_teardown(state);
}

/* --- other machines: their calls block, so they run on threads while the loop turns --- */

struct call {
    void (*fn)(struct call *call);
    struct join_cfg join;
    struct grid_question question;
    struct sl_buf out;
    char id[GRID_ID_SIZE];
    sl_status status;
    struct sl_err err;
    atomic_bool done;
};

static void *run_thread(void *arg)
{
    struct call *call = arg;
    call->fn(call);
    atomic_store(&call->done, true);
    return NULL;
}

static void run(struct call *call)
{
    pthread_t thread;
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    assert_int_equal(pthread_create(&thread, NULL, run_thread, call), 0);
    while (!atomic_load(&call->done)) {
        assert_true(sl_now_ns() < end_ns);
        assert_int_equal(loop_turn(w.loop, 5000000, NULL), SL_OK);
    }
    pthread_join(thread, NULL);
}

static void do_join(struct call *call)
{
    call->status = join_grid(&call->join, call->id, &call->err);
}

static struct call join(const char *home, const char *token, bool gateway)
{
    static const char *const labels[] = {"site=berlin"};
    struct call call = {.fn = do_join,
                        .join = {.home = home,
                                 .token = token,
                                 .gateway = gateway,
                                 .name = "other",
                                 .labels = labels,
                                 .n_labels = 1}};
    run(&call);
    return call;
}

static void do_ask(struct call *call)
{
    call->status = grid_http_ask(&call->question, &call->out, NULL, &call->err);
}

static struct call ask(const struct http_trust *trust, const char *path, const char *body)
{
    char address[GRID_ADDRESS_SIZE];
    struct call call = {.fn = do_ask};
    struct member gateway;
    struct sl_buf text;
    membership_entry(w.gateway, &gateway);
    assert_true(member_list_item(gateway.addresses, 0, address, sizeof address));
    sl_buf_init(&call.out, 1 << 20);
    sl_buf_init(&text, 1 << 20);
    if (body) assert_int_equal(sl_buf_adds(&text, body), SL_OK);
    call.question = (struct grid_question){
        .address = address, .path = path, .body = body ? &text : NULL, .trust = trust};
    run(&call);
    sl_buf_done(&text);
    return call;
}

static void make_token(char out[TOKEN_TEXT_MAX], int64_t ttl_ms, int64_t n_uses)
{
    const struct token_terms terms = {.ttl_ms = ttl_ms, .n_uses = n_uses, .gateways = true};
    struct sl_buf text;
    sl_buf_init(&text, TOKEN_TEXT_MAX - 1);
    assert_int_equal(membership_first_token(w.gateway, &terms, &text, NULL), SL_OK);
    memcpy(out, text.data, text.len + 1);
    sl_buf_done(&text);
}

/* The same token with something else in it. */
static void edit_token(char token[TOKEN_TEXT_MAX], void (*edit)(struct token_text *parts))
{
    struct token_text parts;
    struct sl_buf text;
    assert_int_equal(token_text_read(token, &parts, NULL), SL_OK);
    edit(&parts);
    sl_buf_init(&text, TOKEN_TEXT_MAX - 1);
    assert_int_equal(token_text_write(&parts, &text), SL_OK);
    memcpy(token, text.data, text.len + 1);
    sl_buf_done(&text);
}

static void assert_fails(const struct call *call, sl_status status, const char *says)
{
    if (call->status != status) fail_msg("%s: %s", sl_status_name(call->status), call->err.text);
    if (!strstr(call->err.text, says)) fail_msg("\"%s\" does not say \"%s\"", call->err.text, says);
}

static struct http_trust trust_of(const struct identity *identity)
{
    return (struct http_trust){.root_path = identity->ca_path,
                               .cert_path = identity->cert_path,
                               .key_path = identity->key_path,
                               .member_id = membership_self(w.gateway)};
}

/* --- tests --- */

static void a_machine_joins_with_a_token(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    struct identity *identity = NULL;
    copy_path(home, "node");
    make_token(token, HOUR_MS, 1);
    struct call call = join(home, token, false);
    if (call.status != SL_OK) fail_msg("%s", call.err.text);
    const struct member *member = registry_find(membership_registry(w.gateway), call.id);
    assert_non_null(member);
    assert_string_equal(member->name, "other");
    assert_string_equal(member->labels, "site=berlin");
    assert_false(member->is_gateway);
    assert_int_equal(identity_load(home, &identity, NULL), SL_OK);
    assert_string_equal(identity->id, call.id);
    assert_string_equal(identity->key_hash, member->key);
    assert_string_equal(identity->pin, membership_identity(w.gateway)->pin);
    identity_destroy(identity);
    copy_path(home, "third");
    call = join(home, token, false);
    assert_fails(&call, SL_DENIED, "used up");
    assert_false(identity_exists(home));
}

static void break_secret(struct token_text *parts)
{
    parts->secret[0] = parts->secret[0] == 'x' ? 'y' : 'x';
}

static void break_pin(struct token_text *parts)
{
    parts->pin[0] = parts->pin[0] == '0' ? '1' : '0';
}

static void break_address(struct token_text *parts)
{
    strcpy(parts->addresses, "127.0.0.1:1");
}

static void each_broken_token_says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        void (*edit)(struct token_text *parts);
        sl_status status;
        const char *says;
    } rows[] = {{break_secret, SL_UNAUTHENTICATED, "does not know this token"},
                {break_pin, SL_DENIED, "the pin differs"},
                {break_address, SL_UNAVAILABLE, "no address of the token answers"}};
    char token[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    copy_path(home, "node");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        make_token(token, HOUR_MS, 1);
        edit_token(token, rows[i].edit);
        struct call call = join(home, token, false);
        assert_fails(&call, rows[i].status, rows[i].says);
    }
    struct call call = join(home, "nonsense", false);
    assert_fails(&call, SL_INVALID, "no join token");
    assert_int_equal(registry_count(membership_registry(w.gateway)), 1);
}

static void guessing_is_slowed_down(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_MAX], good[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    copy_path(home, "node");
    make_token(good, HOUR_MS, 1);
    memcpy(token, good, sizeof token);
    edit_token(token, break_secret);
    for (int i = 0; i < TOKEN_GUARD_TRIES; i++) {
        struct call call = join(home, token, false);
        assert_fails(&call, SL_UNAUTHENTICATED, "does not know");
    }
    struct call call = join(home, good, false);
    assert_fails(&call, SL_BUSY, "wait a minute");
}

static void a_bad_request_costs_no_use(void **state)
{
    (void)state;
    static const char *const bodies[] = {"", "[]", "{\"token\":\"x\",\"secret\":\"y\"}",
                                         "{\"token\":7,\"name\":[]}"};
    char token[TOKEN_TEXT_MAX], body[TOKEN_TEXT_MAX + 512], home[TEMP_PATH_MAX * 2];
    struct token_text parts;
    const struct identity *identity = membership_identity(w.gateway);
    const struct http_trust trust = {.root_path = identity->ca_path, .any_gateway = true};
    make_token(token, HOUR_MS, 1);
    assert_int_equal(token_text_read(token, &parts, NULL), SL_OK);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct call call = ask(&trust, JOIN_PATH_JOIN, bodies[i]);
        assert_int_equal(call.status, SL_INVALID);
        sl_buf_done(&call.out);
    }
    snprintf(body, sizeof body,
             "{\"token\":\"%s\",\"secret\":\"%s\",\"name\":\"n\",\"csr\":\"nonsense\"}", parts.id,
             parts.secret);
    struct call call = ask(&trust, JOIN_PATH_JOIN, body);
    assert_int_equal(call.status, SL_INVALID);
    sl_buf_done(&call.out);
    copy_path(home, "node");
    call = join(home, token, false);
    if (call.status != SL_OK) fail_msg("%s", call.err.text);
}

static void only_members_are_answered(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    struct identity *identity = NULL;
    const struct identity *gateway = membership_identity(w.gateway);
    const struct http_trust nobody = {.root_path = gateway->ca_path, .any_gateway = true};
    struct call call = ask(&nobody, JOIN_PATH_HELLO, "{}");
    assert_fails(&call, SL_UNAUTHENTICATED, "certificate");
    sl_buf_done(&call.out);
    copy_path(home, "node");
    make_token(token, HOUR_MS, 1);
    assert_int_equal(join(home, token, false).status, SL_OK);
    assert_int_equal(identity_load(home, &identity, NULL), SL_OK);
    const struct http_trust member = trust_of(identity);
    call = ask(&member, JOIN_PATH_HELLO, "{\"addresses\":\"10.0.0.5:4230\",\"bus\":\"tls://x:1\"}");
    assert_int_equal(call.status, SL_OK);
    assert_non_null(strstr(call.out.data, gateway->id));
    sl_buf_done(&call.out);
    const struct member *entry = registry_find(membership_registry(w.gateway), identity->id);
    assert_string_equal(entry->addresses, "10.0.0.5:4230");
    assert_string_equal(entry->bus, ""); /* it is no gateway */
    call = ask(&member, "/grid/v1/nowhere", NULL);
    assert_fails(&call, SL_NOT_FOUND, "no such path");
    sl_buf_done(&call.out);
    identity_destroy(identity);
}

static void a_certificate_of_another_grid_opens_nothing(void **state)
{
    (void)state;
    char home[TEMP_PATH_MAX * 2];
    struct identity *identity = NULL;
    copy_path(home, "stranger");
    assert_int_equal(membership_open_grid(home, NULL), SL_OK);
    assert_int_equal(identity_load(home, &identity, NULL), SL_OK);
    struct http_trust trust = trust_of(identity);
    trust.root_path = membership_identity(w.gateway)->ca_path;
    struct call call = ask(&trust, JOIN_PATH_HELLO, "{}");
    assert_int_not_equal(call.status, SL_OK);
    sl_buf_done(&call.out);
    identity_destroy(identity);
}

/* --- administration --- */

static void on_stored(void *ctx, const struct sl_err *err)
{
    *(int *)ctx = err->status == SL_OK ? 1 : -1;
}

static void turn_until(const int *value)
{
    TURN_UNTIL(*value);
    assert_int_equal(*value, 1);
}

static void a_removed_member_is_refused_and_told(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    struct identity *identity = NULL;
    struct sl_err err = SL_ERR_INIT;
    int stored = 0;
    copy_path(home, "node");
    make_token(token, HOUR_MS, 2);
    assert_int_equal(join(home, token, false).status, SL_OK);
    assert_int_equal(identity_load(home, &identity, NULL), SL_OK);
    assert_int_equal(membership_remove(w.gateway, "other", on_stored, &stored, &err), SL_OK);
    turn_until(&stored);
    const struct http_trust trust = trust_of(identity);
    struct call call = ask(&trust, JOIN_PATH_HELLO, "{}");
    assert_fails(&call, SL_DENIED, "removed from the grid");
    sl_buf_done(&call.out);
    /* It starts, knowing nothing yet, and is told at its hello. */
    struct membership *node = start(home, SL_OK);
    TURN_UNTIL(w.removed);
    membership_destroy(node);
    /* With a token it comes back. */
    assert_int_equal(join(home, token, false).status, SL_OK);
    call = ask(&trust, JOIN_PATH_HELLO, "{}");
    assert_int_equal(call.status, SL_OK);
    sl_buf_done(&call.out);
    identity_destroy(identity);
}

static void members_are_changed_and_it_is_kept(void **state)
{
    (void)state;
    static const char *const labels[] = {"tier=edge", "site=bonn"};
    const enum node_duty duty = NODE_CORDONED;
    const struct membership_change change = {
        .duty = &duty, .name = "renamed", .labels = labels, .n_labels = 2};
    struct sl_err err = SL_ERR_INIT;
    struct member entry;
    int stored = 0;
    const char *self = membership_self(w.gateway);
    assert_int_equal(membership_change(w.gateway, "nobody", &change, NULL, NULL, &err),
                     SL_NOT_FOUND);
    assert_int_equal(membership_change(w.gateway, self, &change, on_stored, &stored, &err), SL_OK);
    turn_until(&stored);
    assert_int_equal(membership_remove(w.gateway, self, NULL, NULL, &err), SL_INVALID);
    membership_destroy(w.gateway);
    w.gateway = start(w.home, SL_OK);
    membership_entry(w.gateway, &entry);
    assert_string_equal(entry.name, "renamed");
    assert_string_equal(entry.labels, "tier=edge,site=bonn");
    assert_int_equal(entry.duty, NODE_CORDONED);
}

/* --- what a start says, and what was said since --- */

static const struct member *entry_of(const char *id)
{
    return registry_find(membership_registry(w.gateway), id);
}

static bool both_know(const struct membership *node)
{
    const struct member *here = entry_of(membership_self(node));
    const struct member *there = registry_find(membership_registry(node), membership_self(node));
    return here->addresses[0] && there && member_equal(here, there);
}

/* Until the gateway has its hello, and it the answer. */
static void turn_until_heard(const struct membership *node)
{
    TURN_UNTIL(both_know(node));
}

static void change_labels(const char *id, const char *label)
{
    const struct membership_change change = {.labels = &label, .n_labels = 1};
    assert_int_equal(membership_change(w.gateway, id, &change, NULL, NULL, NULL), SL_OK);
}

static void change_duty(const char *id, enum node_duty duty)
{
    const struct membership_change change = {.duty = &duty};
    assert_int_equal(membership_change(w.gateway, id, &change, NULL, NULL, NULL), SL_OK);
}

static void labels_of_the_joining_do_not_undo_later_ones(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    copy_path(home, "node");
    make_token(token, HOUR_MS, 1);
    struct call call = join(home, token, false);
    assert_int_equal(call.status, SL_OK);
    change_labels(call.id, "site=bonn");
    /* It starts with what it has joined with, and has not heard of the change. */
    struct membership *node = start_with(home, "site=berlin", SL_OK);
    turn_until_heard(node);
    assert_string_equal(entry_of(call.id)->labels, "site=bonn");
    membership_destroy(node);
    /* What its owner says anew is new. */
    node = start_with(home, "site=ulm", SL_OK);
    TURN_UNTIL(strcmp(entry_of(call.id)->labels, "site=ulm") == 0);
    membership_destroy(node);
}

static enum node_duty duty_of(const struct membership *node)
{
    struct member entry;
    membership_entry(node, &entry);
    return entry.duty;
}

static void who_was_drained_is_open_once_it_starts_again(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    copy_path(home, "node");
    make_token(token, HOUR_MS, 1);
    struct call call = join(home, token, false);
    change_duty(call.id, NODE_DRAINING);
    /* It was drained while it was away: it has yet to leave. */
    struct membership *node = start(home, SL_OK);
    turn_until_heard(node);
    assert_int_equal(duty_of(node), NODE_DRAINING);
    membership_destroy(node);
    /* Now it knew when it started. */
    node = start(home, SL_OK);
    assert_int_equal(duty_of(node), NODE_OPEN);
    TURN_UNTIL(entry_of(call.id)->duty == NODE_OPEN);
    turn_until_heard(node);
    membership_destroy(node);
    /* A cordon stays. */
    change_duty(call.id, NODE_CORDONED);
    node = start(home, SL_OK);
    turn_until_heard(node);
    assert_int_equal(duty_of(node), NODE_CORDONED);
    membership_destroy(node);
}

/* --- certificates --- */

#define SHORT_S 8 /* half of it is waited for */

static void short_certificates(void)
{
    membership_destroy(w.gateway);
    w.certificate_s = SHORT_S;
    w.gateway = start(w.home, SL_OK);
}

/* Until the member has another certificate than that. */
static void turn_until_renewed(const struct membership *member, int64_t not_after_s)
{
    TURN_UNTIL(membership_identity(member)->not_after_s != not_after_s);
}

/* A member that joins gets a new certificate when half of its time is over; the key stays. */
static void renews(bool gateway)
{
    char token[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    struct identity *before = NULL, *after = NULL;
    copy_path(home, "member");
    short_certificates();
    make_token(token, HOUR_MS, 1);
    assert_int_equal(join(home, token, gateway).status, SL_OK);
    assert_int_equal(identity_load(home, &before, NULL), SL_OK);
    assert_true(before->not_after_s <= sl_unix_time_ms() / 1000 + SHORT_S);
    struct membership *member = start(home, SL_OK);
    turn_until_renewed(member, before->not_after_s);
    assert_true(sl_unix_time_ms() / 1000 >= identity_renew_at_s(before));
    assert_int_equal(identity_load(home, &after, NULL), SL_OK);
    assert_true(after->not_after_s > before->not_after_s);
    assert_string_equal(after->id, before->id);
    assert_string_equal(after->key_hash, before->key_hash);
    assert_int_equal(after->is_gateway, gateway);
    assert_int_equal(after->n_below, before->n_below);
    assert_string_equal(membership_identity(member)->chain.data, after->chain.data);
    /* It is as good as the first one, at both ends. */
    const struct http_trust trust = trust_of(after);
    struct call call = ask(&trust, JOIN_PATH_HELLO, "{}");
    assert_int_equal(call.status, SL_OK);
    sl_buf_done(&call.out);
    membership_destroy(member);
    identity_destroy(before);
    identity_destroy(after);
}

static void a_node_renews_its_certificate(void **state)
{
    (void)state;
    renews(false);
}

static void a_gateway_renews_at_another_one(void **state)
{
    (void)state;
    renews(true);
}

/* The root's key lies beside it. */
static void the_first_gateway_renews_itself(void **state)
{
    (void)state;
    struct identity *identity = NULL;
    struct sl_buf chain;
    sl_buf_init(&chain, PKI_TEXT_MAX);
    membership_destroy(w.gateway);
    assert_int_equal(identity_load(w.home, &identity, NULL), SL_OK);
    assert_int_equal(identity_sign_self(identity, w.home, SHORT_S, &chain, NULL), SL_OK);
    /* A shorter one is no improvement, but may be written by hand. */
    assert_int_equal(identity_renewal_check(identity, chain.data, NULL), SL_DENIED);
    assert_int_equal(identity_store(w.home, identity->key, chain.data, identity->root.data, NULL),
                     SL_OK);
    w.gateway = start(w.home, SL_OK);
    int64_t short_s = membership_identity(w.gateway)->not_after_s;
    turn_until_renewed(w.gateway, short_s);
    assert_true(membership_identity(w.gateway)->not_after_s > short_s + PKI_YEAR_S);
    sl_buf_done(&chain);
    identity_destroy(identity);
}

static void certificates_are_renewed_for_their_own_key_only(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    struct identity *identity = NULL;
    struct pki_key *other = NULL;
    struct sl_buf csr, body;
    struct sl_json json;
    copy_path(home, "node");
    make_token(token, HOUR_MS, 1);
    assert_int_equal(join(home, token, false).status, SL_OK);
    assert_int_equal(identity_load(home, &identity, NULL), SL_OK);
    assert_int_equal(pki_key_create(&other, NULL), SL_OK);
    sl_buf_init(&csr, PKI_TEXT_MAX);
    assert_int_equal(pki_csr_create(other, &csr, NULL), SL_OK);
    sl_buf_init(&body, PKI_TEXT_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "csr", csr.data);
    sl_json_object_end(&json);
    assert_int_equal(sl_json_end(&json), SL_OK);
    const struct http_trust trust = trust_of(identity);
    struct call call = ask(&trust, RENEW_PATH, body.data);
    assert_fails(&call, SL_DENIED, "its own key only");
    sl_buf_done(&call.out);
    call = ask(&trust, RENEW_PATH, "{\"csr\":\"nonsense\"}");
    assert_int_equal(call.status, SL_INVALID);
    sl_buf_done(&call.out);
    const struct http_trust nobody = {.root_path = identity->ca_path, .any_gateway = true};
    call = ask(&nobody, RENEW_PATH, body.data);
    assert_fails(&call, SL_UNAUTHENTICATED, "certificate");
    sl_buf_done(&call.out);
    sl_buf_done(&csr);
    sl_buf_done(&body);
    pki_key_destroy(other);
    identity_destroy(identity);
}

/* It was away until its certificate had ended: a token lets it in again, as the same member. */
static void who_comes_too_late_joins_again(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    struct identity *identity = NULL;
    copy_path(home, "late");
    membership_destroy(w.gateway);
    w.certificate_s = 1;
    w.gateway = start(w.home, SL_OK);
    make_token(token, HOUR_MS, 2);
    struct call first = join(home, token, false);
    assert_int_equal(first.status, SL_OK);
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    sl_status status = SL_OK;
    while (status == SL_OK) {
        assert_true(sl_now_ns() < end_ns);
        status = identity_load(home, &identity, NULL);
        if (status == SL_OK) identity_destroy(identity);
        assert_int_equal(loop_turn(w.loop, 5000000, NULL), SL_OK);
    }
    assert_int_equal(status, SL_DENIED);
    w.certificate_s = 0;
    membership_destroy(w.gateway);
    w.gateway = start(w.home, SL_OK);
    struct call again = join(home, token, false);
    if (again.status != SL_OK) fail_msg("%s", again.err.text);
    assert_string_equal(again.id, first.id);
}

struct made {
    int n;
    char text[TOKEN_TEXT_MAX];
    char id[TOKEN_ID_CHARS + 1];
};

static void on_token(void *ctx, const struct sl_err *err, const char *text,
                     const struct token_row *rows, size_t n)
{
    struct made *made = ctx;
    made->n = err->status == SL_OK ? 1 : -1;
    if (text) snprintf(made->text, sizeof made->text, "%s", text);
    if (n) memcpy(made->id, rows[0].id, sizeof made->id);
}

static void tokens_are_made_listed_and_revoked(void **state)
{
    (void)state;
    char home[TEMP_PATH_MAX * 2];
    static struct made made, listed, revoked;
    const struct token_terms terms = {.ttl_ms = HOUR_MS, .n_uses = 1};
    assert_int_equal(membership_token_make(w.gateway, &terms, on_token, &made), SL_OK);
    turn_until(&made.n);
    assert_int_equal(membership_token_list(w.gateway, on_token, &listed), SL_OK);
    turn_until(&listed.n);
    assert_string_equal(listed.id, made.id);
    assert_string_equal(listed.text, "");
    assert_int_equal(membership_token_revoke(w.gateway, made.id, on_token, &revoked), SL_OK);
    turn_until(&revoked.n);
    copy_path(home, "node");
    struct call call = join(home, made.text, false);
    assert_fails(&call, SL_DENIED, "revoked");
}

static void administrators_show_the_key_of_the_home(void **state)
{
    (void)state;
    char path[IDENTITY_PATH_SIZE], header[128];
    struct sl_buf key;
    sl_buf_init(&key, 256);
    assert_int_equal(identity_path(w.home, "admin.key", path, NULL), SL_OK);
    assert_int_equal(pki_file_read(path, &key, NULL), SL_OK);
    snprintf(header, sizeof header, "Bearer %s", key.data);
    assert_true(membership_is_admin(w.gateway, header));
    header[12] ^= 1;
    assert_false(membership_is_admin(w.gateway, header));
    assert_false(membership_is_admin(w.gateway, key.data));
    assert_false(membership_is_admin(w.gateway, "Bearer "));
    assert_false(membership_is_admin(w.gateway, NULL));
    sl_buf_done(&key);
}

static void a_home_belongs_to_one_grid(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_MAX], home[TEMP_PATH_MAX * 2];
    struct sl_err err = SL_ERR_INIT;
    copy_path(home, "node");
    make_token(token, HOUR_MS, 2);
    assert_int_equal(join(home, token, false).status, SL_OK);
    assert_int_equal(membership_open_grid(home, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "as a node"));
    copy_path(home, "stranger");
    assert_int_equal(membership_open_grid(home, NULL), SL_OK);
    struct call call = join(home, token, false);
    assert_fails(&call, SL_INVALID, "another grid");
}

static void creation_without_memory_leaks_nothing(void **state)
{
    (void)state;
    char home[TEMP_PATH_MAX * 2];
    copy_path(home, "poor");
    assert_int_equal(membership_open_grid(home, NULL), SL_OK);
    membership_destroy(start(home, SL_OK)); /* what is made once is there */
    /* Its bus looks for a server all the time, and takes memory on a thread of its own. */
    membership_destroy(w.gateway);
    w.gateway = NULL;
    uint64_t live = sl_mem_live();
    for (uint64_t nth = 1;; nth++) {
        struct membership *membership = NULL;
        struct sl_err err = SL_ERR_INIT;
        const struct membership_cfg cfg = {.loop = w.loop,
                                           .home = home,
                                           .grid_host = "127.0.0.1",
                                           .bus_urls = no_bus,
                                           .n_bus_urls = 1};
        sl_mem_fail_at(nth, false);
        sl_status status = membership_create(&cfg, &membership, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        membership_destroy(membership);
        assert_int_equal(sl_mem_live(), live);
        if (!hit) {
            if (status != SL_OK) fail_msg("%d: %s", (int)nth, err.text);
            return;
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_machine_joins_with_a_token),
        TEST(each_broken_token_says_what_is_wrong),
        TEST(guessing_is_slowed_down),
        TEST(a_bad_request_costs_no_use),
        TEST(only_members_are_answered),
        TEST(a_certificate_of_another_grid_opens_nothing),
        TEST(a_removed_member_is_refused_and_told),
        TEST(members_are_changed_and_it_is_kept),
        TEST(labels_of_the_joining_do_not_undo_later_ones),
        TEST(who_was_drained_is_open_once_it_starts_again),
        TEST(a_node_renews_its_certificate),
        TEST(a_gateway_renews_at_another_one),
        TEST(the_first_gateway_renews_itself),
        TEST(certificates_are_renewed_for_their_own_key_only),
        TEST(who_comes_too_late_joins_again),
        TEST(tokens_are_made_listed_and_revoked),
        TEST(administrators_show_the_key_of_the_home),
        TEST(a_home_belongs_to_one_grid),
        TEST(creation_without_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
