#include "netlab/fabric.h"
#include "base/mem.h"
#include <string.h>

#define ADDRESS_SIZE 6
#define HEADER_SIZE 14
#define GROUP_BIT 1u
/* Addresses of a lab: one a port, some more where bridges run behind one. A full neighbourhood
 * means that a frame is flooded, which is slower but right. */
#define ADDRESSES 1024u
#define PROBES_MAX 16u

struct address {
    uint64_t mac; /* 0: free; no sender has it */
    int port;
};

struct port {
    char name[FABRIC_NAME_MAX + 1];
    int segment;
};

struct fabric {
    uint64_t seed;
    int n_ports;
    struct port ports[FABRIC_PORTS_MAX];
    struct address addresses[ADDRESSES];
    struct link links[FABRIC_PORTS_MAX][FABRIC_PORTS_MAX]; /* [from][to] */
};

sl_status fabric_create(uint64_t seed, struct fabric **out)
{
    struct fabric *fabric = sl_calloc(1, sizeof *fabric);
    if (!fabric) return SL_NOMEM;
    fabric->seed = seed;
    for (int from = 0; from < FABRIC_PORTS_MAX; from++)
        for (int to = 0; to < FABRIC_PORTS_MAX; to++) link_init(&fabric->links[from][to]);
    *out = fabric;
    return SL_OK;
}

void fabric_destroy(struct fabric *fabric)
{
    sl_free(fabric);
}

static int find_port(const struct fabric *fabric, const char *name)
{
    for (int i = 0; i < fabric->n_ports; i++)
        if (strcmp(fabric->ports[i].name, name) == 0) return i;
    return -1;
}

sl_status fabric_add_port(struct fabric *fabric, const char *name, int segment, struct sl_err *err)
{
    size_t length = strlen(name);
    if (length < 1 || length > FABRIC_NAME_MAX || strpbrk(name, "* \t\r\n/:"))
        return sl_err_set(err, SL_INVALID, "%s: not a port's name", name);
    if (segment < 0 || segment >= FABRIC_SEGMENTS_MAX)
        return sl_err_set(err, SL_INVALID, "%s: segment %d of %d", name, segment,
                          FABRIC_SEGMENTS_MAX);
    if (find_port(fabric, name) >= 0) return sl_err_set(err, SL_EXISTS, "%s: twice", name);
    if (fabric->n_ports == FABRIC_PORTS_MAX)
        return sl_err_set(err, SL_LIMIT, "%s: more than %d ports", name, FABRIC_PORTS_MAX);
    struct port *port = &fabric->ports[fabric->n_ports++];
    memcpy(port->name, name, length + 1);
    port->segment = segment;
    return SL_OK;
}

int fabric_n_ports(const struct fabric *fabric)
{
    return fabric->n_ports;
}

const char *fabric_port_name(const struct fabric *fabric, int port)
{
    return fabric->ports[port].name;
}

int fabric_port_segment(const struct fabric *fabric, int port)
{
    return fabric->ports[port].segment;
}

const struct link *fabric_link(const struct fabric *fabric, int from, int to)
{
    return &fabric->links[from][to];
}

static bool are_linked(const struct fabric *fabric, int from, int to)
{
    return from != to && fabric->ports[from].segment == fabric->ports[to].segment;
}

/* The place of a MAC address, or a free one for it; NULL when there is neither nearby. */
static struct address *find_address(struct fabric *fabric, uint64_t mac)
{
    uint64_t slot = (mac * 0x9e3779b97f4a7c15u) >> 54; /* Fibonacci hashing to 10 bits */
    for (unsigned i = 0; i < PROBES_MAX; i++) {
        struct address *address = &fabric->addresses[(slot + i) % ADDRESSES];
        if (address->mac == mac || address->mac == 0) return address;
    }
    return NULL;
}

static uint64_t read_address(const uint8_t *bytes)
{
    uint64_t mac = 0;
    for (int i = 0; i < ADDRESS_SIZE; i++) mac = mac << 8 | bytes[i];
    return mac;
}

static void learn(struct fabric *fabric, int from, const uint8_t *sender)
{
    uint64_t mac = read_address(sender);
    struct address *address = mac && !(sender[0] & GROUP_BIT) ? find_address(fabric, mac) : NULL;
    if (address) *address = (struct address){.mac = mac, .port = from};
}

/* The port behind which an address is, -1 for all of them. */
static int look_up(struct fabric *fabric, int from, const uint8_t *receiver)
{
    if (receiver[0] & GROUP_BIT) return -1;
    uint64_t mac = read_address(receiver);
    const struct address *address = find_address(fabric, mac);
    if (!address || address->mac == 0) return -1;
    bool near = fabric->ports[address->port].segment == fabric->ports[from].segment;
    return near ? address->port : -1;
}

int fabric_offer(struct fabric *fabric, int from, const void *bytes, size_t n, int64_t now_ns,
                 struct fabric_hop *hops)
{
    const uint8_t *header = bytes;
    if (n < HEADER_SIZE) return 0;
    learn(fabric, from, header + ADDRESS_SIZE);
    int known = look_up(fabric, from, header);
    int first = known < 0 ? 0 : known, last = known < 0 ? fabric->n_ports - 1 : known;
    int n_hops = 0;
    for (int to = first; to <= last; to++) {
        if (!are_linked(fabric, from, to)) continue;
        uint64_t stream = (uint64_t)from * FABRIC_PORTS_MAX + (uint64_t)to;
        struct fabric_hop *hop = &hops[n_hops];
        hop->to = to;
        n_hops +=
            link_offer(&fabric->links[from][to], n, now_ns, fabric->seed, stream, &hop->due_ns);
    }
    return n_hops;
}

bool fabric_arrives(struct fabric *fabric, int from, int to)
{
    struct link *link = &fabric->links[from][to];
    link->stats.n_cut += link->cut;
    return !link->cut;
}

static void change_settings(struct link_settings *old, const struct fabric_change *change)
{
    const struct link_settings *new = &change->settings;
    if (change->fields & FABRIC_DELAY) old->delay_ns = new->delay_ns;
    if (change->fields & FABRIC_JITTER) old->jitter_ns = new->jitter_ns;
    if (change->fields & FABRIC_LOSS) old->loss = new->loss;
    if (change->fields & FABRIC_RATE) old->rate_bps = new->rate_bps;
    if (change->fields & FABRIC_QUEUE) old->queue_bytes = new->queue_bytes;
}

static void change_link(struct link *link, const struct fabric_change *change)
{
    switch (change->verb) {
    case FABRIC_LINK: change_settings(&link->settings, change); break;
    case FABRIC_CUT: link->cut = true; break;
    case FABRIC_HEAL: link->cut = false; break;
    }
    /* A slower past, or none, must not hold up what comes now. */
    if (change->verb == FABRIC_LINK && change->fields & FABRIC_RATE) link->free_ns = 0;
}

static bool names_port(const char *name, int found, int port)
{
    return strcmp(name, FABRIC_ANY) == 0 || found == port;
}

sl_status fabric_apply(struct fabric *fabric, const struct fabric_change *change, int *out_n,
                       struct sl_err *err)
{
    int a = find_port(fabric, change->a), b = find_port(fabric, change->b), n = 0;
    if (a < 0 && strcmp(change->a, FABRIC_ANY) != 0)
        return sl_err_set(err, SL_INVALID, "%s: no such port", change->a);
    if (b < 0 && strcmp(change->b, FABRIC_ANY) != 0)
        return sl_err_set(err, SL_INVALID, "%s: no such port", change->b);
    if (a >= 0 && b >= 0 && !are_linked(fabric, a, b))
        return sl_err_set(err, SL_INVALID, "%s and %s share no segment", change->a, change->b);
    for (int from = 0; from < fabric->n_ports; from++) {
        for (int to = 0; to < fabric->n_ports; to++) {
            bool there = names_port(change->a, a, from) && names_port(change->b, b, to);
            bool back = names_port(change->a, a, to) && names_port(change->b, b, from);
            if (!are_linked(fabric, from, to) || !(there || (back && !change->one_way))) continue;
            change_link(&fabric->links[from][to], change);
            n++;
        }
    }
    *out_n = n;
    return SL_OK;
}
