#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "grid/bus.h"
#include "grid/grid_port.h"
#include "grid/registry.h"
#include "grid/stage_link_int.h"
#include "grid/stage_wire.h"
#include "net/stream.h"
#include "net/tls.h"

#include <stdio.h>
#include <string.h>

#define U64_BYTES 8

const char *stage_transport_name(enum stage_transport transport)
{
    return transport == STAGE_DIRECT ? "direct" : "relayed";
}

static void put_i32(unsigned char *at, int32_t v)
{
    for (int i = 0; i < 4; i++) at[i] = (unsigned char)((uint32_t)v >> 8 * i);
}

static int32_t get_i32(const unsigned char *at)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) v |= (uint32_t)at[i] << 8 * i;
    return (int32_t)v;
}

/* --- life of a link --- */

sl_status stage_link_create(struct stage_links *links, const char *peer, struct stage_link **out,
                            struct sl_err *err)
{
    if (links->n_links == STAGE_LINKS_MAX)
        return sl_err_set(err, SL_LIMIT, "%d links between stages exist", STAGE_LINKS_MAX);
    struct stage_link *link = sl_calloc(1, sizeof *link);
    if (!link) return sl_err_set(err, SL_NOMEM, "link to %s", peer);
    link->links = links;
    link->heard_ns = sl_now_ns();
    snprintf(link->peer, sizeof link->peer, "%s", peer);
    frame_reader_init(&link->reader, STAGE_FRAME_BYTES_MAX);
    link->next = links->first;
    if (links->first) links->first->previous = link;
    links->first = link;
    links->n_links++;
    *out = link;
    return SL_OK;
}

static void destroy(struct stage_link *link)
{
    struct stage_links *links = link->links;
    if (link->gone) *link->gone = true;
    if (link->next) link->next->previous = link->previous;
    *(link->previous ? &link->previous->next : &links->first) = link->next;
    links->n_links--;
    stream_destroy(link->stream);
    tls_client_destroy(link->tls);
    frame_reader_done(&link->reader);
    sl_free(link);
}

void stage_link_end(struct stage_link *link, sl_status status, const char *fmt, ...)
{
    char text[SL_ERR_TEXT_MAX];
    va_list args;
    if (link->state == STAGE_LINK_ENDED) return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    sl_err_set(&link->why, status, "%s", text);
    link->links->stats.n_broken += link->state == STAGE_LINK_OPEN && status != SL_CANCELLED;
    link->state = STAGE_LINK_ENDED;
    loop_queue_task(link->links->cfg.loop, &link->links->task);
}

/* One at a time: whoever is told may close others. */
static struct stage_link *find_ended(const struct stage_links *links)
{
    for (struct stage_link *link = links->first; link; link = link->next)
        if (link->state == STAGE_LINK_ENDED && (!link->owned || link->callbacks.on_end))
            return link;
    return NULL;
}

static void tell_ends(void *ctx)
{
    struct stage_links *links = ctx;
    struct stage_link *link;
    while ((link = find_ended(links))) {
        if (!link->owned) {
            destroy(link);
            continue;
        }
        void (*on_end)(void *, const struct sl_err *) = link->callbacks.on_end;
        const struct sl_err why = link->why;
        stream_destroy(link->stream);
        link->stream = NULL;
        link->callbacks.on_end = NULL;
        on_end(link->ctx, &why);
    }
}

/* --- frames out --- */

static size_t unsent_of(const struct stage_link *link)
{
    return link->stream ? stream_unsent(link->stream) : 0;
}

static sl_status send_direct(struct stage_link *link, enum stage_frame type, const void *head,
                             size_t n_head, const void *bytes, size_t n)
{
    size_t length = 1 + n_head + n;
    const unsigned char frame[FRAME_HEADER_BYTES] = {
        (unsigned char)(length >> 24), (unsigned char)(length >> 16), (unsigned char)(length >> 8),
        (unsigned char)length, (unsigned char)type};
    if (unsent_of(link) + sizeof frame + length > link->links->cfg.unsent_bytes_max)
        return SL_LIMIT;
    sl_status status = stream_write(link->stream, frame, sizeof frame);
    if (status == SL_OK) status = stream_write(link->stream, head, n_head);
    if (status == SL_OK) status = stream_write(link->stream, bytes, n);
    return status;
}

/* What cannot be sent is missing in the order, so the link ends with it. */
static sl_status send(struct stage_link *link, enum stage_frame type, const void *head,
                      size_t n_head, const void *bytes, size_t n)
{
    sl_status status = n_head + n > STAGE_FRAME_BYTES_MAX ? SL_LIMIT : SL_OK;
    if (link->state == STAGE_LINK_ENDED) return SL_UNAVAILABLE;
    if (status == SL_OK)
        status = link->transport == STAGE_DIRECT
                     ? send_direct(link, type, head, n_head, bytes, n)
                     : stage_relay_send(link, type, head, n_head, bytes, n);
    if (status == SL_OK) {
        link->n_sent++;
        link->bytes_sent += n_head + n;
        link->links->stats.bytes_sent += n_head + n;
        return SL_OK;
    }
    stage_link_end(link, status == SL_NOMEM ? SL_NOMEM : SL_UNAVAILABLE,
                   status == SL_LIMIT ? "member %s does not read what is sent to it"
                                      : "nothing can be sent to member %s",
                   link->peer);
    return status;
}

sl_status stage_link_send(struct stage_link *link, enum stage_frame type, const void *payload,
                          size_t n)
{
    if (link->state != STAGE_LINK_OPEN) return SL_UNAVAILABLE;
    return send(link, type, NULL, 0, payload, n);
}

sl_status stage_link_send_data(struct stage_link *link, int32_t to, int32_t from, const void *bytes,
                               size_t n)
{
    unsigned char head[STAGE_DATA_HEAD_BYTES];
    if (link->state != STAGE_LINK_OPEN) return SL_UNAVAILABLE;
    put_i32(head, to);
    put_i32(head + 4, from);
    return send(link, STAGE_DATA, head, sizeof head, bytes, n);
}

/* Frames of the link itself; a failure ends the link, which is all that follows from it. */
static void send_own(struct stage_link *link, enum stage_frame type, const void *payload, size_t n)
{
    if (send(link, type, NULL, 0, payload, n) != SL_OK) return;
}

static void send_close(struct stage_link *link, const char *reason)
{
    bool carried = link->transport == STAGE_RELAYED || link->stream;
    if (link->state < STAGE_LINK_GREETING || link->state == STAGE_LINK_ENDED || !carried) return;
    send_own(link, STAGE_CLOSE, reason, reason ? strlen(reason) : 0);
}

static void send_ping(struct stage_link *link)
{
    int64_t now_ns = sl_now_ns();
    send_own(link, STAGE_PING, &now_ns, sizeof now_ns); /* only its sender reads the number */
}

static void greet(struct stage_link *link)
{
    struct sl_buf hello;
    sl_buf_init(&hello, STAGE_MESSAGE_BYTES_MAX);
    link->state = STAGE_LINK_GREETING;
    link->heard_ns = sl_now_ns();
    if (stage_hello_put(&link->hello, &hello) == SL_OK)
        send_own(link, STAGE_HELLO, hello.data, hello.len);
    else
        stage_link_end(link, SL_NOMEM, "out of memory");
    sl_buf_done(&hello);
}

/* --- frames in --- */

static void say_open(const struct stage_link *link)
{
    link->links->stats.n_opened++;
    sl_log(SL_LOG_INFO, "stage", "chain %.8s: stage %d %s stage %d at %s, %s%s%s",
           link->hello.chain, link->opened_here ? link->hello.from : link->hello.to,
           link->opened_here ? "to" : "from", link->opened_here ? link->hello.to : link->hello.from,
           link->peer, stage_transport_name(link->transport), link->stream ? " by " : "",
           link->stream ? stream_address(link->stream) : "");
}

/* *gone: the one who was asked to take it has closed it. */
static void on_hello(struct stage_link *link, const void *payload, size_t n, const bool *gone)
{
    struct stage_links *links = link->links;
    struct sl_err err = SL_ERR_INIT;
    bool taken = false;
    if (stage_hello_get(payload, n, &link->hello, &err) == SL_OK) {
        link->state = STAGE_LINK_OPEN;
        if (links->cfg.accept)
            taken = links->cfg.accept(links->cfg.ctx, link, &link->hello, &err);
        else
            sl_err_set(&err, SL_UNAVAILABLE, "this member takes no stages");
    }
    if (*gone) return;
    if (taken) {
        send_own(link, STAGE_WELCOME, NULL, 0);
        say_open(link);
        return;
    }
    send_close(link, err.text);
    stage_link_end(link, SL_DENIED, "%s", err.text);
}

static void on_welcome(struct stage_link *link)
{
    link->state = STAGE_LINK_OPEN;
    say_open(link);
    if (link->callbacks.on_open) link->callbacks.on_open(link->ctx);
}

static void on_close(struct stage_link *link, const void *payload, size_t n)
{
    if (n)
        stage_link_end(link, SL_UNAVAILABLE, "%.*s",
                       (int)(n < STAGE_REASON_MAX ? n : STAGE_REASON_MAX), (const char *)payload);
    else
        stage_link_end(link, SL_CANCELLED, "member %s has closed the link", link->peer);
}

static void on_pong(struct stage_link *link, const void *payload, size_t n)
{
    int64_t then_ns;
    if (n != U64_BYTES) return;
    memcpy(&then_ns, payload, sizeof then_ns);
    int64_t took_ns = sl_now_ns() - then_ns;
    if (took_ns >= 0) link->rtt_s = (double)took_ns / 1e9;
}

static void on_data(struct stage_link *link, const unsigned char *payload, size_t n)
{
    if (n < STAGE_DATA_HEAD_BYTES)
        stage_link_end(link, SL_CORRUPT, "member %s sent half a message", link->peer);
    else
        link->callbacks.on_data(link->ctx, get_i32(payload), get_i32(payload + 4),
                                payload + STAGE_DATA_HEAD_BYTES, n - STAGE_DATA_HEAD_BYTES);
}

static void on_open_frame(struct stage_link *link, uint8_t type, const void *payload, size_t n)
{
    if (type == STAGE_PING && n <= U64_BYTES)
        send_own(link, STAGE_PONG, payload, n);
    else if (type == STAGE_PONG)
        on_pong(link, payload, n);
    else if (type == STAGE_DATA)
        on_data(link, payload, n);
    else if (type >= STAGE_OPEN && type <= STAGE_FAILED && n <= STAGE_MESSAGE_BYTES_MAX)
        link->callbacks.on_frame(link->ctx, (enum stage_frame)type, payload, n);
    else
        stage_link_end(link, SL_CORRUPT, "member %s sent what no stage sends", link->peer);
}

bool stage_link_take(struct stage_link *link, uint8_t type, const void *payload, size_t n)
{
    bool gone = false, *outer = link->gone;
    link->gone = &gone;
    link->heard_ns = sl_now_ns();
    link->n_received++;
    link->bytes_received += n;
    link->links->stats.bytes_received += n;
    if (type == STAGE_CLOSE)
        on_close(link, payload, n);
    else if (link->state == STAGE_LINK_AWAITING && type == STAGE_HELLO)
        on_hello(link, payload, n, &gone);
    else if (link->state == STAGE_LINK_GREETING && type == STAGE_WELCOME)
        on_welcome(link);
    else if (link->state == STAGE_LINK_OPEN)
        on_open_frame(link, type, payload, n);
    else
        stage_link_end(link, SL_CORRUPT, "member %s speaks out of turn", link->peer);
    if (gone) {
        if (outer) *outer = true;
        return false;
    }
    link->gone = outer;
    return true;
}

/* --- direct --- */

static void connect_next(struct stage_link *link);

static void on_bytes(void *ctx, const void *bytes, size_t n)
{
    struct stage_link *link = ctx;
    struct sl_err err = SL_ERR_INIT;
    struct frame frame;
    bool have = true;
    /* Before it is open only whole messages count: who sends them byte by byte holds its place for
     * as long as it likes. */
    if (link->state == STAGE_LINK_OPEN) link->heard_ns = sl_now_ns();
    sl_status status = frame_reader_feed(&link->reader, bytes, n);
    while (status == SL_OK && link->state != STAGE_LINK_ENDED) {
        status = frame_reader_next(&link->reader, &frame, &have, &err);
        if (status != SL_OK || !have) break;
        if (!stage_link_take(link, frame.type, frame.payload, frame.n_payload)) return;
    }
    if (status != SL_OK)
        stage_link_end(link, status, "member %s: %s", link->peer,
                       *err.text ? err.text : sl_status_text(status));
}

static void on_stream_end(void *ctx, const struct sl_err *why)
{
    struct stage_link *link = ctx;
    bool was_open = link->state == STAGE_LINK_OPEN;
    if (link->state == STAGE_LINK_ENDED) return;
    stream_destroy(link->stream);
    link->stream = NULL;
    if (link->opened_here && !was_open) {
        sl_log(SL_LOG_DEBUG, "stage", "no direct link to %s: %s", link->peer, why->text);
        connect_next(link);
        return;
    }
    stage_link_end(link, SL_UNAVAILABLE, "member %s: %s", link->peer, why->text);
}

static void on_stream_open(void *ctx)
{
    greet(ctx);
}

static const struct stream_callbacks STREAM = {
    .on_open = on_stream_open, .on_bytes = on_bytes, .on_end = on_stream_end};

/* The certificate is read for each link, since it is renewed now and then. */
static bool shows_itself(struct stage_link *link)
{
    const struct stage_links_cfg *cfg = &link->links->cfg;
    struct sl_err err = SL_ERR_INIT;
    if (link->tls || tls_client_create(cfg->cert, cfg->key, cfg->ca, &link->tls, &err) == SL_OK)
        return true;
    sl_log(SL_LOG_WARN, "stage", "no direct links: %s", err.text);
    return false;
}

/* To the next address; when none is left, over the bus. */
static void connect_next(struct stage_link *link)
{
    struct stage_links *links = link->links;
    struct sl_err err = SL_ERR_INIT;
    link->state = STAGE_LINK_CONNECTING;
    frame_reader_done(&link->reader);
    frame_reader_init(&link->reader, STAGE_FRAME_BYTES_MAX);
    while (link->next_address < link->n_addresses && shows_itself(link)) {
        const struct stream_connect cfg = {.address = link->addresses[link->next_address++],
                                           .tls = link->tls,
                                           .peer_id = link->peer,
                                           .path = STAGE_PATH,
                                           .protocol = STAGE_PROTOCOL,
                                           .timeout_ns = links->cfg.connect_ns,
                                           .unsent_bytes_max = links->cfg.unsent_bytes_max};
        if (stream_connect(links->cfg.loop, &cfg, &STREAM, link, &link->stream, &err) == SL_OK)
            return;
    }
    if (!links->cfg.bus) {
        stage_link_end(link, SL_UNAVAILABLE, "member %s cannot be reached", link->peer);
        return;
    }
    link->transport = STAGE_RELAYED;
    link->number = ++links->last_number;
    greet(link);
}

static void on_upgrade(void *ctx, struct http_exchange *x)
{
    struct stage_links *links = ctx;
    const char *peer = http_exchange_request(x)->peer_id;
    struct sl_err err = SL_ERR_INIT;
    struct stage_link *link;
    sl_status status = stage_link_create(links, peer, &link, &err);
    if (status == SL_OK) {
        link->state = STAGE_LINK_AWAITING;
        status = http_exchange_upgrade(x, STAGE_PROTOCOL, links->cfg.unsent_bytes_max,
                                       &link->stream, &err);
        if (status == SL_OK) {
            stream_listen(link->stream, &STREAM, link);
            return;
        }
        destroy(link);
    }
    grid_port_fail(x, status, err.text);
}

/* --- time --- */

static void look_after(struct stage_link *link, int64_t now_ns)
{
    bool waits = link->state >= STAGE_LINK_GREETING && link->state != STAGE_LINK_ENDED;
    if (waits && now_ns - link->heard_ns >= link->links->cfg.silence_ns) {
        bool retry = link->state == STAGE_LINK_GREETING && link->transport == STAGE_DIRECT;
        if (!retry) {
            stage_link_end(link, SL_UNAVAILABLE, "member %s has been silent for %.1f s", link->peer,
                           (double)(now_ns - link->heard_ns) / 1e9);
            return;
        }
        stream_destroy(link->stream);
        link->stream = NULL;
        connect_next(link);
    }
    if (link->state == STAGE_LINK_OPEN) send_ping(link);
}

/* A turn of our own that took long is no silence of others: it is taken off. */
static void on_tick(void *ctx)
{
    struct stage_links *links = ctx;
    int64_t now_ns = sl_now_ns();
    int64_t late_ns = now_ns - links->ticked_ns - 2 * links->cfg.ping_ns;
    links->ticked_ns = now_ns;
    for (struct stage_link *link = links->first; link; link = link->next) {
        if (late_ns > 0) link->heard_ns += late_ns;
        look_after(link, now_ns);
    }
    loop_timer_set(links->timer, links->cfg.ping_ns);
}

/* --- life --- */

static void set_defaults(struct stage_links_cfg *cfg)
{
    if (!cfg->ping_ns) cfg->ping_ns = STAGE_PING_NS;
    if (!cfg->silence_ns) cfg->silence_ns = STAGE_SILENCE_NS;
    if (!cfg->connect_ns) cfg->connect_ns = STAGE_CONNECT_NS;
    if (!cfg->unsent_bytes_max) cfg->unsent_bytes_max = STAGE_UNSENT_BYTES_MAX;
}

sl_status stage_links_create(const struct stage_links_cfg *cfg, struct stage_links **out,
                             struct sl_err *err)
{
    struct stage_links *links = sl_calloc(1, sizeof *links);
    if (!links) return sl_err_set(err, SL_NOMEM, "links between stages");
    links->cfg = *cfg;
    links->task = (struct loop_task){.fn = tell_ends, .ctx = links};
    links->ticked_ns = sl_now_ns();
    set_defaults(&links->cfg);
    snprintf(links->self, sizeof links->self, "%s", cfg->self);
    sl_buf_init(&links->scratch, BUS_MESSAGE_BYTES_MAX);
    sl_status status = loop_timer_create(cfg->loop, on_tick, links, &links->timer);
    if (status != SL_OK) sl_err_set(err, status, "links between stages");
    if (status == SL_OK && cfg->bus) status = stage_relay_start(links, err);
    if (status == SL_OK && cfg->port &&
        (status = grid_port_route(cfg->port, HTTP_METHOD_GET, STAGE_PATH, false, on_upgrade,
                                  links)) != SL_OK)
        sl_err_set(err, status, "a path for links between stages");
    if (status != SL_OK) {
        stage_links_destroy(links);
        return status;
    }
    loop_timer_set(links->timer, links->cfg.ping_ns);
    *out = links;
    return SL_OK;
}

void stage_links_destroy(struct stage_links *links)
{
    if (!links) return;
    while (links->first) stage_link_close(links->first, NULL);
    stage_relay_stop(links);
    loop_cancel_task(links->cfg.loop, &links->task);
    loop_timer_destroy(links->timer);
    sl_buf_done(&links->scratch);
    sl_free(links);
}

void stage_links_accept(struct stage_links *links, stage_accept_fn accept, void *ctx)
{
    links->cfg.accept = accept;
    links->cfg.ctx = ctx;
}

void stage_links_members_changed(struct stage_links *links)
{
    for (struct stage_link *link = links->first; link; link = link->next)
        if (!registry_is_member(links->cfg.registry, link->peer))
            stage_link_end(link, SL_DENIED, "member %s was removed from the grid", link->peer);
}

const char *stage_links_self(const struct stage_links *links)
{
    return links->self;
}

struct loop *stage_links_loop(const struct stage_links *links)
{
    return links->cfg.loop;
}

/* --- a link, from the outside --- */

static void add_address(struct stage_link *link, const char *address)
{
    if (link->n_addresses == STAGE_ADDRESSES_MAX || !*address) return;
    for (size_t i = 0; i < link->n_addresses; i++)
        if (!strcmp(link->addresses[i], address)) return;
    snprintf(link->addresses[link->n_addresses++], GRID_ADDRESS_SIZE, "%s", address);
}

sl_status stage_link_open(struct stage_links *links, const char *member, const char *address,
                          const struct stage_hello *hello,
                          const struct stage_link_callbacks *callbacks, void *ctx,
                          struct stage_link **out, struct sl_err *err)
{
    const struct member *known = registry_find(links->cfg.registry, member);
    char item[GRID_ADDRESS_SIZE];
    struct stage_link *link;
    if (!known || known->removed || !strcmp(member, links->self))
        return sl_err_set(err, SL_NOT_FOUND, "\"%s\" is no other member of this grid", member);
    sl_status status = stage_link_create(links, member, &link, err);
    if (status != SL_OK) return status;
    link->opened_here = true;
    link->hello = *hello;
    stage_link_listen(link, callbacks, ctx);
    if (!links->cfg.relay_only) {
        add_address(link, address);
        for (size_t i = 0; member_list_item(known->addresses, i, item, sizeof item); i++)
            add_address(link, item);
    }
    connect_next(link);
    *out = link;
    return SL_OK;
}

void stage_link_listen(struct stage_link *link, const struct stage_link_callbacks *callbacks,
                       void *ctx)
{
    link->callbacks = *callbacks;
    link->ctx = ctx;
    link->owned = true;
}

void stage_link_close(struct stage_link *link, const char *reason)
{
    if (!link) return;
    send_close(link, reason);
    destroy(link);
}

void stage_link_stats(const struct stage_link *link, struct stage_link_stats *out)
{
    *out = (struct stage_link_stats){.member = link->peer,
                                     .hello = link->hello,
                                     .open = link->state == STAGE_LINK_OPEN,
                                     .opened_here = link->opened_here,
                                     .transport = link->transport,
                                     .address = link->stream ? stream_address(link->stream) : "",
                                     .rtt_s = link->rtt_s,
                                     .unsent_bytes = unsent_of(link),
                                     .n_sent = link->n_sent,
                                     .n_received = link->n_received,
                                     .bytes_sent = link->bytes_sent,
                                     .bytes_received = link->bytes_received};
}

void stage_links_stats_get(const struct stage_links *links, struct stage_links_stats *out)
{
    *out = links->stats;
    for (const struct stage_link *link = links->first; link; link = link->next) {
        if (link->state != STAGE_LINK_OPEN) continue;
        out->n_direct += link->transport == STAGE_DIRECT;
        out->n_relayed += link->transport == STAGE_RELAYED;
    }
}
