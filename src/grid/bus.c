#include "grid/bus.h"
#include "base/mem.h"
#include "grid/bus_link.h"
#include "grid/bus_parts.h"
#include "grid/bus_subject.h"
#include "net/loop.h"
#include "net/pki.h"
#include <string.h>

struct topic { /* a pattern, subscribed to with the servers once */
    struct topic *next;
    uint32_t id;
    int n_subscriptions;
    char pattern[BUS_SUBJECT_SIZE];
};

struct bus_subscription {
    struct bus_subscription *next;
    struct bus *bus;
    struct topic *topic;
    bus_message_fn fn; /* NULL: ended, and to be freed when no message is being delivered */
    void *ctx;
};

struct bus {
    struct loop *loop;
    char *self;
    void (*on_state)(void *ctx, bool connected);
    bool (*hears)(void *ctx, const char *subject);
    void *ctx;
    bool has_servers; /* or else in process only */
    struct bus_link *link;
    struct loop_watch *watch; /* of the link */
    struct loop_timer *expiry;
    struct bus_parts *parts;
    struct topic *topics;
    struct bus_subscription *subscriptions;
    int n_subscriptions;
    uint32_t last_topic;
    int n_delivering; /* > 0: the list of subscriptions is being walked */
    bool has_ended;   /* subscriptions that wait to be freed */
    struct loop_task deliver_task;
    struct bus_local **local_end, *local_first;
    size_t n_local, n_local_bytes;
    uint64_t n_connects; /* that on_state was told of */
    bool connected;
    uint64_t n_deliveries, n_broken, n_received, bytes_received, n_unheard;
};

/* A message that waits for the end of the turn. */
struct bus_local {
    struct bus_local *next;
    struct bus_message *message;
};

/* --- topics and subscriptions --- */

static struct topic *find_topic(struct bus *bus, const char *pattern)
{
    struct topic *topic = bus->topics;
    while (topic && strcmp(topic->pattern, pattern) != 0) topic = topic->next;
    return topic;
}

static struct topic *add_topic(struct bus *bus, const char *pattern)
{
    struct topic *topic = sl_calloc(1, sizeof *topic);
    if (!topic) return NULL;
    topic->id = ++bus->last_topic;
    strcpy(topic->pattern, pattern);
    if (bus_link_subscribe(bus->link, topic->id, pattern) != SL_OK) {
        sl_free(topic);
        return NULL;
    }
    topic->next = bus->topics;
    bus->topics = topic;
    return topic;
}

static void release_topic(struct bus *bus, struct topic *topic)
{
    if (--topic->n_subscriptions) return;
    bus_link_unsubscribe(bus->link, topic->id);
    struct topic **at = &bus->topics;
    while (*at != topic) at = &(*at)->next;
    *at = topic->next;
    sl_free(topic);
}

sl_status bus_subscribe(struct bus *bus, const char *subject, bus_message_fn fn, void *ctx,
                        struct bus_subscription **out, struct sl_err *err)
{
    if (!bus_pattern_valid(subject))
        return sl_err_set(err, SL_INVALID, "\"%.64s\" cannot be subscribed to", subject);
    if (bus->n_subscriptions == BUS_SUBSCRIPTIONS_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %d subscriptions", BUS_SUBSCRIPTIONS_MAX);
    struct bus_subscription *subscription = sl_calloc(1, sizeof *subscription);
    struct topic *topic = subscription ? find_topic(bus, subject) : NULL;
    if (subscription && !topic) topic = add_topic(bus, subject);
    if (!topic) {
        sl_free(subscription);
        return sl_err_set(err, SL_NOMEM, "out of memory");
    }
    topic->n_subscriptions++;
    *subscription = (struct bus_subscription){
        .next = bus->subscriptions, .bus = bus, .topic = topic, .fn = fn, .ctx = ctx};
    bus->subscriptions = subscription;
    bus->n_subscriptions++;
    *out = subscription;
    return SL_OK;
}

static void free_ended(struct bus *bus)
{
    struct bus_subscription **at = &bus->subscriptions, *subscription;
    bus->has_ended = false;
    while ((subscription = *at)) {
        if (subscription->fn) {
            at = &subscription->next;
            continue;
        }
        *at = subscription->next;
        release_topic(bus, subscription->topic);
        sl_free(subscription);
        bus->n_subscriptions--;
    }
}

void bus_unsubscribe(struct bus_subscription *subscription)
{
    if (!subscription) return;
    struct bus *bus = subscription->bus;
    subscription->fn = NULL;
    bus->has_ended = true;
    if (!bus->n_delivering) free_ended(bus);
}

/* --- delivery --- */

/* To the subscriptions of the topic, or, where it is NULL, to all whose pattern fits. */
static uint64_t deliver(struct bus *bus, const struct topic *topic, const char *subject,
                        const void *bytes, size_t n)
{
    uint64_t n_calls = 0;
    bus->n_delivering++;
    for (struct bus_subscription *at = bus->subscriptions; at; at = at->next) {
        if (!at->fn) continue;
        if (topic ? at->topic != topic : !bus_subject_matches(at->topic->pattern, subject))
            continue;
        at->fn(at->ctx, subject, bytes, n);
        n_calls++;
    }
    if (!--bus->n_delivering && bus->has_ended) free_ended(bus);
    return n_calls;
}

static void deliver_local(void *ctx)
{
    struct bus *bus = ctx;
    struct bus_local *next;
    struct bus_local *local = bus->local_first;
    bus->local_first = NULL;
    bus->local_end = &bus->local_first;
    bus->n_local = bus->n_local_bytes = 0;
    for (; local; local = next) {
        struct bus_message *message = local->message;
        next = local->next;
        sl_free(local);
        bus->n_deliveries += deliver(bus, NULL, message->subject, message->bytes, message->n);
        bus_message_unref(message);
    }
}

static struct topic *find_topic_id(struct bus *bus, uint32_t id)
{
    struct topic *topic = bus->topics;
    while (topic && topic->id != id) topic = topic->next;
    return topic;
}

static void take_arrival(struct bus *bus, const struct bus_arrival *arrival)
{
    struct topic *topic = find_topic_id(bus, arrival->topic);
    struct bus_whole whole;
    if (!topic) return;
    if (bus->hears && !bus->hears(bus->ctx, arrival->subject)) {
        bus->n_unheard++;
        return;
    }
    sl_status status = bus_parts_take(bus->parts, topic->id, arrival->subject, arrival->bytes,
                                      arrival->n, loop_now_ns(bus->loop), &whole, &bus->n_broken);
    if (status != SL_OK || !whole.bytes) return;
    bus->n_received++;
    bus->bytes_received += whole.n;
    deliver(bus, topic, arrival->subject, whole.bytes, whole.n);
    sl_free(whole.owned);
}

static void tell_state(struct bus *bus, uint64_t n_connects, bool connected)
{
    bool ended = bus->connected && (!connected || n_connects != bus->n_connects);
    bool begun = connected && (!bus->connected || ended);
    bus->n_connects = n_connects;
    bus->connected = connected;
    if (ended && bus->on_state) bus->on_state(bus->ctx, false);
    if (begun && bus->on_state) bus->on_state(bus->ctx, true);
}

static void on_link(void *ctx, unsigned ready)
{
    struct bus *bus = ctx;
    uint64_t n_connects;
    bool connected;
    struct bus_arrival *next;
    (void)ready;
    struct bus_arrival *arrival = bus_link_take(bus->link, &n_connects, &connected);
    tell_state(bus, n_connects, connected);
    for (; arrival; arrival = next) {
        next = arrival->next;
        take_arrival(bus, arrival);
        sl_free(arrival);
    }
    if (bus_parts_count(bus->parts)) loop_timer_set(bus->expiry, BUS_PARTIAL_IDLE_NS);
}

static void on_expiry(void *ctx)
{
    struct bus *bus = ctx;
    bus->n_broken += bus_parts_expire(bus->parts, loop_now_ns(bus->loop));
    if (bus_parts_count(bus->parts)) loop_timer_set(bus->expiry, BUS_PARTIAL_IDLE_NS);
}

/* --- publishing --- */

static bool is_heard_here(const struct bus *bus, const char *subject)
{
    for (const struct bus_subscription *at = bus->subscriptions; at; at = at->next)
        if (at->fn && bus_subject_matches(at->topic->pattern, subject)) return true;
    return false;
}

static struct bus_message *message_create(const char *subject, const void *bytes, size_t n)
{
    struct bus_message *message = sl_malloc(sizeof *message + n);
    if (!message) return NULL;
    atomic_init(&message->n_refs, 1);
    message->next = NULL;
    message->n = n;
    strcpy(message->subject, subject);
    bus_whole_header(message->header);
    if (n) memcpy(message->bytes, bytes, n);
    return message;
}

/* The message's reference goes to the queue; on failure it stays the caller's. */
static bool queue_local(struct bus *bus, struct bus_message *message)
{
    struct bus_local *local = sl_malloc(sizeof *local);
    if (!local) return false;
    *local = (struct bus_local){.message = message};
    *bus->local_end = local;
    bus->local_end = &local->next;
    bus->n_local++;
    bus->n_local_bytes += message->n;
    loop_queue_task(bus->loop, &bus->deliver_task);
    return true;
}

static sl_status say(struct sl_err *err, sl_status status, const char *subject)
{
    switch (status) {
    case SL_OK: return SL_OK;
    case SL_UNAVAILABLE: return sl_err_set(err, status, "%s: no connection to a server", subject);
    case SL_BUSY: return sl_err_set(err, status, "%s: too many messages wait", subject);
    default: return sl_err_set(err, status, "%s: out of memory", subject);
    }
}

static sl_status publish(struct bus *bus, const char *subject, const void *bytes, size_t n)
{
    bool here = is_heard_here(bus, subject);
    bool away = bus->has_servers && !bus_subject_is_to(subject, bus->self);
    if (!here && !away) return SL_OK;
    if (here && (bus->n_local >= BUS_WAITING_MAX || bus->n_local_bytes + n > BUS_WAITING_BYTES_MAX))
        return SL_BUSY;
    struct bus_message *message = message_create(subject, bytes, n);
    if (!message) return SL_NOMEM;
    sl_status status = away ? bus_link_send(bus->link, message) : SL_OK;
    bool queued = here && status != SL_BUSY && queue_local(bus, message);
    if (here && status != SL_BUSY && !queued) status = SL_NOMEM;
    if (!queued) bus_message_unref(message);
    return status;
}

sl_status bus_publish(struct bus *bus, const char *subject, const void *bytes, size_t n,
                      struct sl_err *err)
{
    if (!bus_subject_valid(subject))
        return sl_err_set(err, SL_INVALID, "\"%.64s\" is not a subject", subject);
    if (n > BUS_MESSAGE_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "%s: %zu bytes, more than %zu", subject, n,
                          BUS_MESSAGE_BYTES_MAX);
    return say(err, publish(bus, subject, bytes, n), subject);
}

/* --- servers --- */

static sl_status check_url(const char *url, struct sl_err *err)
{
    const char *hash = strchr(url, '#');
    bool tls = strncmp(url, "tls://", 6) == 0;
    if (!tls && strncmp(url, "nats://", 7) != 0)
        return sl_err_set(err, SL_INVALID, "\"%.64s\" begins neither with tls:// nor nats://", url);
    if (strlen(url) >= BUS_URL_SIZE)
        return sl_err_set(err, SL_INVALID, "\"%.64s...\" is too long for a URL", url);
    if (hash && !(tls && pki_id_valid(hash + 1)))
        return sl_err_set(err, SL_INVALID, "\"%.64s\": a tls:// URL may end in #, a member's id",
                          url);
    return SL_OK;
}

static sl_status check_urls(const char *const *urls, int n_urls, struct sl_err *err)
{
    if (n_urls > BUS_URLS_MAX)
        return sl_err_set(err, SL_INVALID, "more than %d servers of the bus", BUS_URLS_MAX);
    for (int i = 0; i < n_urls; i++)
        if (check_url(urls[i], err) != SL_OK) return SL_INVALID;
    return SL_OK;
}

sl_status bus_set_urls(struct bus *bus, const char *const *urls, int n_urls, struct sl_err *err)
{
    sl_status status = check_urls(urls, n_urls, err);
    if (status == SL_OK) status = bus_link_set_urls(bus->link, urls, n_urls, err);
    if (status == SL_OK) bus->has_servers = n_urls > 0;
    return status;
}

/* --- life cycle --- */

static sl_status create_parts(struct bus *bus, const char *self, struct sl_err *err)
{
    if ((bus->self = sl_strdup(self)) &&
        bus_parts_create(BUS_PARTIAL_BYTES_MAX, &bus->parts) == SL_OK &&
        loop_timer_create(bus->loop, on_expiry, bus, &bus->expiry) == SL_OK)
        return SL_OK;
    return sl_err_set(err, SL_NOMEM, "out of memory");
}

static sl_status create_link(struct bus *bus, const struct bus_cfg *cfg, struct sl_err *err)
{
    sl_status status = bus_link_create(cfg, &bus->link, err);
    if (status != SL_OK) return status;
    status =
        loop_watch_create(bus->loop, bus_link_fd(bus->link), LOOP_READ, on_link, bus, &bus->watch);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "watch the bus");
}

sl_status bus_create(const struct bus_cfg *cfg, struct bus **out, struct sl_err *err)
{
    sl_status status = check_urls(cfg->urls, cfg->n_urls, err);
    if (status != SL_OK) return status;
    struct bus *bus = sl_calloc(1, sizeof *bus);
    if (!bus) return sl_err_set(err, SL_NOMEM, "out of memory");
    bus->loop = cfg->loop;
    bus->on_state = cfg->on_state;
    bus->hears = cfg->hears;
    bus->ctx = cfg->ctx;
    bus->has_servers = cfg->n_urls > 0;
    bus->local_end = &bus->local_first;
    bus->deliver_task = (struct loop_task){.fn = deliver_local, .ctx = bus};
    status = create_parts(bus, cfg->self, err);
    if (status == SL_OK) status = create_link(bus, cfg, err);
    if (status == SL_OK)
        *out = bus;
    else
        bus_destroy(bus);
    return status;
}

static void drop_local(struct bus *bus)
{
    struct bus_local *next;
    for (struct bus_local *local = bus->local_first; local; local = next) {
        next = local->next;
        bus_message_unref(local->message);
        sl_free(local);
    }
}

void bus_destroy(struct bus *bus)
{
    if (!bus) return;
    for (struct bus_subscription *at = bus->subscriptions; at; at = at->next) at->fn = NULL;
    free_ended(bus);
    loop_watch_destroy(bus->watch);
    bus_link_destroy(bus->link);
    loop_cancel_task(bus->loop, &bus->deliver_task);
    drop_local(bus);
    loop_timer_destroy(bus->expiry);
    bus_parts_destroy(bus->parts);
    sl_free(bus->self);
    sl_free(bus);
}

bool bus_connected(const struct bus *bus)
{
    return bus_link_connected(bus->link);
}

void bus_stats(const struct bus *bus, struct bus_stats *out)
{
    bus_link_stats(bus->link, out);
    out->n_local = bus->n_deliveries;
    out->n_received = bus->n_received;
    out->bytes_received = bus->bytes_received;
    out->n_broken = bus->n_broken;
    out->n_unheard = bus->n_unheard;
}
