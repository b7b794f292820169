/* stage_relay.c: links over the bus, for members that cannot reach each other. The bus delivers in
 * order and at most once: the sequence shows what was lost, and then the link ends, since what
 * follows would be wrong. A CLOSE counts whatever its number, and is the answer to a frame of a
 * link that is not known here (any more). */
#include "base/hash.h"
#include "grid/bus.h"
#include "grid/registry.h"
#include "grid/stage_link_int.h"

#include <stdio.h>
#include <string.h>

#define VERSION 1
#define ENVELOPE_BYTES 19
#define SIDE_OPENER 1
#define SIDE_ACCEPTOR 0

struct envelope {
    uint8_t side; /* of who sent it */
    uint64_t number, seq;
    uint8_t type;
};

static void put_u64(unsigned char *at, uint64_t v)
{
    for (int i = 0; i < 8; i++) at[i] = (unsigned char)(v >> 8 * i);
}

static uint64_t get_u64(const unsigned char *at)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)at[i] << 8 * i;
    return v;
}

static void put_envelope(const struct envelope *e, unsigned char out[ENVELOPE_BYTES])
{
    out[0] = VERSION;
    out[1] = e->side;
    put_u64(out + 2, e->number);
    put_u64(out + 10, e->seq);
    out[18] = e->type;
}

static bool get_envelope(const unsigned char *bytes, size_t n, struct envelope *out)
{
    if (n < ENVELOPE_BYTES || bytes[0] != VERSION || bytes[1] > SIDE_OPENER) return false;
    *out = (struct envelope){bytes[1], get_u64(bytes + 2), get_u64(bytes + 10), bytes[18]};
    return true;
}

static sl_status publish(struct stage_links *links, const char *to, struct sl_err *err)
{
    char subject[BUS_SUBJECT_SIZE];
    snprintf(subject, sizeof subject, "sl.stage.%s.%s", to, links->self);
    return bus_publish(links->cfg.bus, subject, links->scratch.data, links->scratch.len, err);
}

sl_status stage_relay_send(struct stage_link *link, enum stage_frame type, const void *head,
                           size_t n_head, const void *bytes, size_t n)
{
    struct stage_links *links = link->links;
    unsigned char envelope[ENVELOPE_BYTES];
    const struct envelope e = {link->opened_here ? SIDE_OPENER : SIDE_ACCEPTOR, link->number,
                               link->seq_out, (uint8_t)type};
    put_envelope(&e, envelope);
    sl_buf_clear(&links->scratch);
    sl_status status = sl_buf_add(&links->scratch, envelope, sizeof envelope);
    if (status == SL_OK) status = sl_buf_add(&links->scratch, head, n_head);
    if (status == SL_OK) status = sl_buf_add(&links->scratch, bytes, n);
    if (status == SL_OK) status = publish(links, link->peer, NULL);
    /* What the bus lost shows itself to the peer as a gap, now or when the bus is back. */
    if (status == SL_UNAVAILABLE) status = SL_OK;
    if (status == SL_OK) link->seq_out++;
    return status;
}

/* "There is no such link here": the peer need not wait for silence. */
static void answer_unknown(struct stage_links *links, const char *from, const struct envelope *to)
{
    unsigned char envelope[ENVELOPE_BYTES];
    struct envelope e = *to;
    if (to->type == STAGE_CLOSE) return;
    e.side = to->side == SIDE_OPENER ? SIDE_ACCEPTOR : SIDE_OPENER;
    e.type = STAGE_CLOSE;
    put_envelope(&e, envelope);
    sl_buf_clear(&links->scratch);
    if (sl_buf_add(&links->scratch, envelope, sizeof envelope) != SL_OK ||
        publish(links, from, NULL) != SL_OK)
        return; /* then silence tells it */
}

static struct stage_link *find(const struct stage_links *links, const char *from,
                               const struct envelope *e)
{
    bool opened_here = e->side == SIDE_ACCEPTOR;
    for (struct stage_link *link = links->first; link; link = link->next)
        if (link->transport == STAGE_RELAYED && link->number == e->number &&
            link->opened_here == opened_here && link->state != STAGE_LINK_ENDED &&
            strcmp(link->peer, from) == 0)
            return link;
    return NULL;
}

static struct stage_link *accept_new(struct stage_links *links, const char *from,
                                     const struct envelope *e)
{
    struct stage_link *link;
    if (e->side != SIDE_OPENER || e->seq != 0 || e->type != STAGE_HELLO ||
        stage_link_create(links, from, &link, NULL) != SL_OK)
        return NULL;
    link->state = STAGE_LINK_AWAITING;
    link->transport = STAGE_RELAYED;
    link->number = e->number;
    return link;
}

static void on_message(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct stage_links *links = ctx;
    const unsigned char *at = bytes;
    const char *from = strrchr(subject, '.') + 1; /* the bus gives what was subscribed to */
    struct envelope e;
    if (!registry_is_member(links->cfg.registry, from) || !get_envelope(at, n, &e)) return;
    struct stage_link *link = find(links, from, &e);
    if (!link) link = accept_new(links, from, &e);
    if (!link) {
        answer_unknown(links, from, &e);
        return;
    }
    if (e.seq != link->seq_in && e.type != STAGE_CLOSE) {
        stage_link_end(link, SL_UNAVAILABLE, "a message was lost on the bus");
        return;
    }
    link->seq_in++;
    /* False says that the link is gone, which nothing here needs to know. */
    (void)stage_link_take(link, e.type, at + ENVELOPE_BYTES, n - ENVELOPE_BYTES);
}

sl_status stage_relay_start(struct stage_links *links, struct sl_err *err)
{
    char subject[BUS_SUBJECT_SIZE];
    snprintf(subject, sizeof subject, "sl.stage.%s.*", links->self);
    links->last_number = sl_hash_seed(); /* another process's of this member were others */
    return bus_subscribe(links->cfg.bus, subject, on_message, links, &links->subscription, err);
}

void stage_relay_stop(struct stage_links *links)
{
    bus_unsubscribe(links->subscription);
    links->subscription = NULL;
}
