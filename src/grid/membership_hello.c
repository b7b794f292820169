/* membership_hello.c: what this machine says of itself to gateways, and when: at its start, when
 * its addresses change, when the bus is away, and when it knows less than others. */
#include "base/log.h"
#include "base/mem.h"
#include "grid/addresses.h"
#include "grid/grid_http.h"
#include "grid/join.h"
#include "grid/membership_int.h"

#include <string.h>

#define ADDRESSES_NS INT64_C(30000000000) /* networks change seldom: a laptop's, a new VPN */
#define RETRY_FIRST_NS INT64_C(1000000000)
#define RETRY_LAST_NS INT64_C(30000000000)
#define GONE_AGAIN_NS INT64_C(15000000000) /* while the bus stays away */
#define BODY_BYTES_MAX (64u << 10)
#define ASKED_MAX 2 /* a hello and a renewal */

struct hello {
    struct membership *m;
    struct join_peer peers[JOIN_PEERS_MAX];
    size_t n_peers;
    struct sl_buf body, answer;
    sl_status status;
    struct sl_err err;
};

/* --- what is said --- */

static sl_status write_body(const struct membership *m, struct sl_buf *out)
{
    const struct member *own = &m->own;
    struct sl_json json;
    char label[GRID_LABEL_MAX];
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    if (m->undrains) sl_json_kv_int(&json, "undrains", (int64_t)m->undrains);
    if (m->own_name) sl_json_kv_str(&json, "name", own->name);
    if (m->own_labels) {
        sl_json_key(&json, "labels");
        sl_json_array(&json);
        for (size_t i = 0; member_list_item(own->labels, i, label, sizeof label); i++)
            sl_json_str(&json, label);
        sl_json_array_end(&json);
    }
    sl_json_kv_str(&json, "addresses", own->addresses);
    sl_json_kv_str(&json, "bus", own->bus);
    sl_json_kv_str(&json, "routes", own->routes);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

/* A gateway writes its entry itself. */
static sl_status put_own(struct membership *m, struct sl_err *err)
{
    struct member entry;
    membership_entry(m, &entry);
    m->own_name = m->own_labels = false; /* from now on the entry is what counts */
    return membership_put(m, &entry, NULL, NULL, err);
}

sl_status membership_look_around(struct membership *m, struct sl_err *err)
{
    char hosts[MEMBER_ADDRESSES_SIZE], before[MEMBER_ADDRESSES_SIZE];
    memcpy(before, m->own.addresses, sizeof before);
    sl_status status =
        addresses_find(m->cfg.grid_host, m->cfg.advertise, m->cfg.n_advertise, hosts, err);
    if (status != SL_OK) return status;
    addresses_with_port(hosts, "", grid_port_number(m->port), m->own.addresses);
    membership_bus_describe(m, hosts);
    m->addresses_at_ns = loop_now_ns(m->cfg.loop) + ADDRESSES_NS;
    if (strcmp(before, m->own.addresses) != 0) membership_hello_in(m, 0);
    return m->identity->is_gateway ? put_own(m, err) : SL_OK;
}

/* --- saying it --- */

static void free_hello(struct hello *hello)
{
    sl_buf_done(&hello->body);
    sl_buf_done(&hello->answer);
    sl_free(hello);
}

/* Whatever it brought, it was asked for by this machine from a gateway: it counts like a message
 * on the bus. */
static void take_answer(struct membership *m, const struct hello *hello)
{
    struct sl_json_value *root = NULL;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = sl_json_parse(hello->answer.data, hello->answer.len, &root, &err);
    if (status == SL_OK) status = registry_decode(m->registry, root, &err);
    if (status != SL_OK) sl_log(SL_LOG_WARN, "grid", "a gateway's answer: %s", err.text);
    sl_json_free(root);
}

static void retry(struct membership *m)
{
    membership_hello_in(m, m->hello_wait_ns);
    m->hello_wait_ns *= 2;
    if (m->hello_wait_ns > RETRY_LAST_NS) m->hello_wait_ns = RETRY_LAST_NS;
}

static void on_answer(void *arg)
{
    struct hello *hello = arg;
    struct membership *m = hello->m;
    m->hello = NULL;
    if (hello->status == SL_OK) {
        m->hello_wait_ns = RETRY_FIRST_NS;
        m->own_name = m->own_labels = false; /* the gateways have it */
        take_answer(m, hello);
        if (!m->connected) membership_hello_in(m, GONE_AGAIN_NS);
    } else if (hello->status == SL_DENIED) {
        membership_tell_removed(m);
    } else {
        sl_log(SL_LOG_INFO, "grid", "no gateway was told where this machine is: %s",
               hello->err.text);
        retry(m);
    }
    free_hello(hello);
}

/* On the asking thread. */
static void run_hello(void *arg)
{
    struct hello *hello = arg;
    struct membership *m = hello->m;
    const struct join_greeting greeting = {.identity = m->identity,
                                           .peers = hello->peers,
                                           .n_peers = hello->n_peers,
                                           .body = &hello->body,
                                           .cancel = &m->stopping};
    hello->status = join_hello(&greeting, &hello->answer, &hello->err);
    /* A loop that is so full has other troubles; this machine is told by its bus then. */
    if (loop_post(m->cfg.loop, on_answer, hello) != SL_OK)
        sl_log(SL_LOG_ERROR, "grid", "an answer of a gateway was lost: the loop is full");
}

sl_status membership_ask(struct membership *m, void (*fn)(void *arg), void *arg)
{
    sl_status status = m->asker ? SL_OK : sl_pool_create(1, ASKED_MAX, &m->asker);
    return status == SL_OK ? sl_pool_submit(m->asker, fn, arg) : status;
}

static void say_hello(struct membership *m)
{
    struct hello *hello = sl_calloc(1, sizeof *hello);
    if (!hello) return;
    hello->m = m;
    sl_buf_init(&hello->body, BODY_BYTES_MAX);
    sl_buf_init(&hello->answer, GRID_HTTP_ANSWER_BYTES_MAX);
    hello->n_peers = join_peers(m->registry, m->identity->id, hello->peers);
    sl_status status = hello->n_peers ? write_body(m, &hello->body) : SL_NOT_FOUND;
    if (status == SL_OK) status = membership_ask(m, run_hello, hello);
    if (status == SL_OK) {
        m->hello = hello;
        return;
    }
    free_hello(hello);
    if (status != SL_NOT_FOUND) retry(m);
}

void membership_hello_in(struct membership *m, int64_t in_ns)
{
    int64_t at_ns = loop_now_ns(m->cfg.loop) + in_ns;
    if (!m->hello_wait_ns) m->hello_wait_ns = RETRY_FIRST_NS;
    if (at_ns < m->hello_at_ns) m->hello_at_ns = at_ns;
}

void membership_hello_tick(struct membership *m, int64_t now_ns)
{
    struct sl_err err = SL_ERR_INIT;
    if (now_ns >= m->addresses_at_ns && membership_look_around(m, &err) != SL_OK)
        sl_log(SL_LOG_WARN, "grid", "this machine's addresses: %s", err.text);
    if (now_ns < m->hello_at_ns || m->hello) return;
    m->hello_at_ns = INT64_MAX;
    say_hello(m);
}

void membership_hello_stop(struct membership *m)
{
    atomic_store(&m->stopping, true);
    sl_pool_destroy(m->asker);
    m->asker = NULL;
    if (!m->hello) return;
    loop_cancel_posts(m->cfg.loop, m->hello);
    free_hello(m->hello);
    m->hello = NULL;
}
