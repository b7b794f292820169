#include "grid/bus_link.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define SUBSCRIBE_MS 3000      /* for the server to take the subscriptions */
#define RETRY_MS 100           /* after the first attempt that failed, half of it by chance */
#define RETRY_MS_MAX 1000      /* and after many */
#define PROBE_EVERY_MS 500     /* is the server there? */
#define PROBE_ANSWER_MS 1500   /* a busy machine answers within a second */
#define WINDOW_PARTS 2         /* parts sent before the server must have taken them */
#define WINDOW_MS 5000         /* 512 KiB at 1 Mbit/s */
#define FAREWELL_NS 1000000000 /* what was queued when the link is destroyed may take that long */

/* A subscription with the server. The loop adds them and says when one is not wanted any more; only
 * the sender frees them. */
struct wire {
    struct wire *next;
    void *subscription; /* the sender's; NULL: not on this connection */
    uint32_t topic;
    bool wanted;
    char pattern[BUS_SUBJECT_SIZE];
};

struct queue {
    struct bus_message *first, **end;
    size_t n, n_bytes;
};

struct inbox {
    struct bus_arrival *first, **end;
    size_t n, n_bytes;
};

struct bus_link {
    struct bus_nats_identity identity; /* constant; its strings are ours */
    bool in_order;
    int event_fd;
    pthread_t sender;
    bool has_sender;
    struct bus_nats *nats; /* the sender's; the prober's while it runs */
    uint64_t n_parted;     /* the sender's: numbers of messages sent in parts */
    uint64_t n_tries;

    pthread_mutex_t mutex; /* of all that follows */
    pthread_cond_t changed;
    struct queue queue;
    struct inbox inbox;
    struct wire *wires;
    bool wires_changed;
    char (*urls)[BUS_URL_SIZE];
    int n_urls;
    bool stopping, connected;
    bool lost;        /* the connection is to be given up */
    bool in_window;   /* the sender waits for the server itself */
    bool probing;     /* the prober is to go on */
    uint64_t n_heard; /* messages from the server */
    struct bus_stats stats;
};

/* --- messages --- */

void bus_message_unref(struct bus_message *message)
{
    if (atomic_fetch_sub(&message->n_refs, 1) == 1) sl_free(message);
}

static void wake_loop(struct bus_link *link)
{
    uint64_t one = 1;
    ssize_t n = write(link->event_fd, &one, sizeof one);
    (void)n; /* it fails only where it is readable already */
}

static void queue_clear_locked(struct bus_link *link)
{
    struct bus_message *next;
    for (struct bus_message *message = link->queue.first; message; message = next) {
        next = message->next;
        bus_message_unref(message);
        link->stats.n_unsent++;
    }
    link->queue = (struct queue){.end = &link->queue.first};
}

static struct bus_message *queue_pop_locked(struct queue *queue)
{
    struct bus_message *message = queue->first;
    if (!message) return NULL;
    queue->first = message->next;
    if (!queue->first) queue->end = &queue->first;
    queue->n--;
    queue->n_bytes -= message->n;
    return message;
}

sl_status bus_link_send(struct bus_link *link, struct bus_message *message)
{
    sl_status status = SL_OK;
    pthread_mutex_lock(&link->mutex);
    if (!link->connected)
        status = SL_UNAVAILABLE;
    else if (link->queue.n >= BUS_WAITING_MAX ||
             link->queue.n_bytes + message->n > BUS_WAITING_BYTES_MAX)
        status = SL_BUSY;
    if (status == SL_OK) {
        atomic_fetch_add(&message->n_refs, 1);
        message->next = NULL;
        *link->queue.end = message;
        link->queue.end = &message->next;
        link->queue.n++;
        link->queue.n_bytes += message->n;
        pthread_cond_broadcast(&link->changed);
    } else {
        link->stats.n_unsent++;
    }
    pthread_mutex_unlock(&link->mutex);
    return status;
}

struct bus_arrival *bus_link_take(struct bus_link *link, uint64_t *n_connects, bool *connected)
{
    uint64_t count;
    ssize_t n = read(link->event_fd, &count, sizeof count);
    (void)n; /* it is read to be reset */
    pthread_mutex_lock(&link->mutex);
    struct bus_arrival *first = link->inbox.first;
    link->inbox = (struct inbox){.end = &link->inbox.first};
    *n_connects = link->stats.n_connects;
    *connected = link->connected;
    pthread_mutex_unlock(&link->mutex);
    return first;
}

/* --- what comes in, on threads of libnats' --- */

static struct bus_arrival *copy_arrival(const char *subject, const void *bytes, size_t n)
{
    if (strlen(subject) >= BUS_SUBJECT_SIZE) return NULL;
    struct bus_arrival *arrival = sl_malloc(sizeof *arrival + n);
    if (!arrival) return NULL;
    arrival->next = NULL;
    arrival->n = n;
    strcpy(arrival->subject, subject);
    if (n) memcpy(arrival->bytes, bytes, n);
    return arrival;
}

/* False: nobody wants it, or it is over a limit. */
static bool inbox_add_locked(struct bus_link *link, struct bus_arrival *arrival,
                             const char *pattern)
{
    struct inbox *inbox = &link->inbox;
    const struct wire *wire = link->wires;
    while (wire && !(wire->wanted && strcmp(wire->pattern, pattern) == 0)) wire = wire->next;
    if (!wire) return false;
    if (inbox->n >= BUS_WAITING_MAX || inbox->n_bytes + arrival->n > BUS_WAITING_BYTES_MAX) {
        link->stats.n_overflow++;
        return false;
    }
    arrival->topic = wire->topic;
    *inbox->end = arrival;
    inbox->end = &arrival->next;
    inbox->n++;
    inbox->n_bytes += arrival->n;
    return true;
}

static void on_message(void *ctx, const char *pattern, const char *subject, const void *bytes,
                       size_t n)
{
    struct bus_link *link = ctx;
    struct bus_arrival *arrival = copy_arrival(subject, bytes, n);
    pthread_mutex_lock(&link->mutex);
    link->n_heard++;
    bool first = !link->inbox.first;
    bool added = arrival && inbox_add_locked(link, arrival, pattern);
    if (!arrival) link->stats.n_overflow++;
    pthread_mutex_unlock(&link->mutex);
    if (!added)
        sl_free(arrival);
    else if (first)
        wake_loop(link);
}

static void on_trouble(void *ctx, enum bus_nats_trouble trouble, const char *text)
{
    struct bus_link *link = ctx;
    pthread_mutex_lock(&link->mutex);
    link->stats.n_refused += trouble == BUS_NATS_REFUSED;
    link->stats.n_overflow += trouble == BUS_NATS_OVERFLOW;
    snprintf(link->stats.error, sizeof link->stats.error, "%s", text);
    pthread_mutex_unlock(&link->mutex);
}

static void on_closed(void *ctx)
{
    struct bus_link *link = ctx;
    pthread_mutex_lock(&link->mutex);
    link->lost = true;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->mutex);
}

/* --- waiting --- */

/* Until something changed, or so long. */
static void wait_locked(struct bus_link *link, int64_t wait_ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + wait_ns % 1000000000;
    until.tv_sec += (time_t)(wait_ns / 1000000000 + ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    (void)pthread_cond_timedwait(&link->changed, &link->mutex, &until);
}

/* Between attempts. New servers, or the end, cut it short. */
static void wait_to_retry(struct bus_link *link, int n_failures, int n_urls)
{
    int64_t ms = RETRY_MS;
    for (int i = n_urls; i < n_failures && ms < RETRY_MS_MAX; i += n_urls) ms += ms / 2;
    if (ms > RETRY_MS_MAX) ms = RETRY_MS_MAX;
    double chance = sl_rng_uniform((uint64_t)sl_now_ns(), 0, 0);
    int64_t until_ns = sl_now_ns() + ms * 500000 + (int64_t)((double)ms * 500000 * chance);
    pthread_mutex_lock(&link->mutex);
    while (!link->stopping && sl_now_ns() < until_ns && link->n_urls == n_urls)
        wait_locked(link, until_ns - sl_now_ns());
    pthread_mutex_unlock(&link->mutex);
}

/* --- is the server there? --- */

/* A server that answers neither a ping nor sends anything else is gone, though its connection may
 * look well for a quarter of an hour. One whose answer waits behind a long message is not. */
static bool probe(struct bus_link *link)
{
    pthread_mutex_lock(&link->mutex);
    uint64_t n_heard = link->n_heard;
    pthread_mutex_unlock(&link->mutex);
    sl_status status = bus_nats_flush(link->nats, PROBE_ANSWER_MS);
    if (status == SL_OK) return true;
    pthread_mutex_lock(&link->mutex);
    bool alive = status == SL_TIMEOUT && (link->n_heard != n_heard || link->in_window);
    if (!alive && !link->lost) {
        link->lost = true;
        snprintf(link->stats.error, sizeof link->stats.error, "the server does not answer");
        pthread_cond_broadcast(&link->changed);
    }
    pthread_mutex_unlock(&link->mutex);
    return alive;
}

static void *prober_main(void *arg)
{
    struct bus_link *link = arg;
    bool go_on = true;
    while (go_on) {
        int64_t until_ns = sl_now_ns() + PROBE_EVERY_MS * (int64_t)1000000;
        pthread_mutex_lock(&link->mutex);
        while (link->probing && sl_now_ns() < until_ns) wait_locked(link, until_ns - sl_now_ns());
        go_on = link->probing;
        pthread_mutex_unlock(&link->mutex);
        go_on = go_on && probe(link);
    }
    bus_nats_end_thread();
    return NULL;
}

/* --- connecting --- */

/* The next wire that is to be ended, or else subscribed: were there two of one pattern, every
 * message would come twice. */
static struct wire *next_changed_wire(struct bus_link *link)
{
    pthread_mutex_lock(&link->mutex);
    struct wire *wire = link->wires;
    while (wire && wire->wanted) wire = wire->next;
    if (!wire)
        for (wire = link->wires; wire && wire->subscription;) wire = wire->next;
    if (!wire) link->wires_changed = false;
    pthread_mutex_unlock(&link->mutex);
    return wire;
}

static void remove_wire(struct bus_link *link, struct wire *wire)
{
    pthread_mutex_lock(&link->mutex);
    struct wire **at = &link->wires;
    while (*at != wire) at = &(*at)->next;
    *at = wire->next;
    pthread_mutex_unlock(&link->mutex);
    bus_nats_unsubscribe(wire->subscription);
    sl_free(wire);
}

/* Brings the server's subscriptions in line with what is wanted. */
static sl_status sync_wires(struct bus_link *link)
{
    sl_status status = SL_OK;
    struct wire *wire;
    while (status == SL_OK && (wire = next_changed_wire(link))) {
        if (wire->wanted)
            status = bus_nats_subscribe(link->nats, wire->pattern, &wire->subscription);
        else
            remove_wire(link, wire);
    }
    return status;
}

/* Says so once the server has taken the subscriptions. */
static bool announce(struct bus_link *link, const char *url)
{
    sl_status status = sync_wires(link);
    if (status == SL_OK) status = bus_nats_flush(link->nats, SUBSCRIBE_MS);
    if (status != SL_OK) return false;
    pthread_mutex_lock(&link->mutex);
    link->connected = !link->lost;
    if (link->connected) {
        link->stats.n_connects++;
        link->stats.error[0] = '\0';
        snprintf(link->stats.url, sizeof link->stats.url, "%s", url);
    }
    bool connected = link->connected;
    pthread_mutex_unlock(&link->mutex);
    if (connected) wake_loop(link);
    return connected;
}

static void note_failure(struct bus_link *link, const char *text)
{
    pthread_mutex_lock(&link->mutex);
    snprintf(link->stats.error, sizeof link->stats.error, "%s", text);
    pthread_mutex_unlock(&link->mutex);
}

/* --- sending --- */

/* After the answer the server has taken all that was sent: what is on its way stays small, and
 * other messages, and pings, do not wait for long behind it. */
static sl_status finish_window(struct bus_link *link)
{
    pthread_mutex_lock(&link->mutex);
    link->in_window = true;
    pthread_mutex_unlock(&link->mutex);
    sl_status status = bus_nats_flush(link->nats, WINDOW_MS);
    pthread_mutex_lock(&link->mutex);
    link->in_window = false;
    pthread_mutex_unlock(&link->mutex);
    return status;
}

static sl_status send_parts(struct bus_link *link, const struct bus_message *message)
{
    sl_status status = SL_OK;
    uint8_t *part = sl_malloc(BUS_PART_HEADER_BYTES + BUS_PART_BYTES);
    if (!part) return SL_NOMEM;
    link->n_parted++;
    size_t n_sent = 0;
    for (uint32_t i = 0; n_sent < message->n && status == SL_OK; i++) {
        size_t n = message->n - n_sent < BUS_PART_BYTES ? message->n - n_sent : BUS_PART_BYTES;
        bus_part_header(part, link->n_parted, i, message->n);
        memcpy(part + BUS_PART_HEADER_BYTES, message->bytes + n_sent, n);
        status = bus_nats_publish(link->nats, message->subject, part, BUS_PART_HEADER_BYTES + n);
        n_sent += n;
        if (status == SL_OK && i % WINDOW_PARTS == WINDOW_PARTS - 1) status = finish_window(link);
    }
    sl_free(part);
    return status;
}

/* False: the connection is of no more use. A message that the server would not take, or that there
 * is no memory for, is lost alone. */
static bool send_message(struct bus_link *link, const struct bus_message *message)
{
    sl_status status;
    if (message->n <= BUS_PART_BYTES)
        status = bus_nats_publish(link->nats, message->subject, message->header,
                                  sizeof message->header + message->n);
    else
        status = send_parts(link, message);
    bool sent = status == SL_OK;
    pthread_mutex_lock(&link->mutex);
    link->stats.n_sent += sent;
    link->stats.bytes_sent += sent ? message->n : 0;
    link->stats.n_unsent += !sent;
    pthread_mutex_unlock(&link->mutex);
    return sent || status == SL_LIMIT || status == SL_NOMEM;
}

/* Until the connection is lost or the link ends. */
static void serve(struct bus_link *link)
{
    int64_t end_ns = INT64_MAX;
    bool usable = true;
    pthread_mutex_lock(&link->mutex);
    while (usable && !link->lost && !(link->stopping && !link->queue.first)) {
        if (link->stopping && end_ns == INT64_MAX) end_ns = sl_now_ns() + FAREWELL_NS;
        if (link->stopping && sl_now_ns() > end_ns) break;
        if (!link->queue.first && !link->wires_changed) {
            pthread_cond_wait(&link->changed, &link->mutex);
            continue;
        }
        bool wires_changed = link->wires_changed;
        struct bus_message *message = wires_changed ? NULL : queue_pop_locked(&link->queue);
        pthread_mutex_unlock(&link->mutex);
        if (wires_changed) usable = sync_wires(link) == SL_OK;
        if (message) {
            usable = send_message(link, message);
            bus_message_unref(message);
        }
        pthread_mutex_lock(&link->mutex);
    }
    pthread_mutex_unlock(&link->mutex);
}

/* --- the sender --- */

static void begin_connection(struct bus_link *link)
{
    pthread_mutex_lock(&link->mutex);
    link->lost = false;
    link->probing = true;
    pthread_mutex_unlock(&link->mutex);
}

static void end_connection(struct bus_link *link)
{
    pthread_mutex_lock(&link->mutex);
    bool was_connected = link->connected;
    link->connected = false;
    queue_clear_locked(link);
    struct wire *wires = link->wires;
    pthread_mutex_unlock(&link->mutex);
    for (struct wire *wire = wires; wire; wire = wire->next) {
        bus_nats_unsubscribe(wire->subscription);
        wire->subscription = NULL;
    }
    bus_nats_close(link->nats);
    link->nats = NULL;
    if (was_connected) wake_loop(link);
}

static void stop_prober(struct bus_link *link, pthread_t prober)
{
    pthread_mutex_lock(&link->mutex);
    link->probing = false;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->mutex);
    bus_nats_shut(link->nats); /* ends its wait for an answer */
    pthread_join(prober, NULL);
}

static sl_status open_connection(struct bus_link *link, const char *url)
{
    const struct bus_nats_handlers handlers = {on_message, on_trouble, on_closed, link};
    struct sl_err err = SL_ERR_INIT;
    sl_status status = bus_nats_open(&link->identity, url, &handlers, &link->nats, &err);
    if (status == SL_OK && announce(link, url)) return SL_OK;
    note_failure(link, status == SL_OK ? "the server does not answer" : err.text);
    return SL_UNAVAILABLE;
}

/* One connection from its beginning to its end; true: it was one. */
static bool run_connection(struct bus_link *link, const char *url)
{
    pthread_t prober;
    begin_connection(link);
    bool connected = open_connection(link, url) == SL_OK;
    if (connected && pthread_create(&prober, NULL, prober_main, link) == 0) {
        serve(link);
        stop_prober(link, prober);
    }
    end_connection(link);
    return connected;
}

/* Copies the URL to try next. Returns how many there are; 0: none, or the link is to end. */
static int next_url(struct bus_link *link, char out[BUS_URL_SIZE])
{
    pthread_mutex_lock(&link->mutex);
    while (!link->stopping && !link->n_urls) pthread_cond_wait(&link->changed, &link->mutex);
    int n_urls = link->stopping ? 0 : link->n_urls;
    if (n_urls) memcpy(out, link->urls[link->n_tries++ % (uint64_t)n_urls], BUS_URL_SIZE);
    pthread_mutex_unlock(&link->mutex);
    return n_urls;
}

static void *sender_main(void *arg)
{
    struct bus_link *link = arg;
    char url[BUS_URL_SIZE];
    int n_urls, n_failures = 0;
    while ((n_urls = next_url(link, url)) > 0) {
        n_failures = run_connection(link, url) ? 0 : n_failures + 1;
        if (link->in_order && !n_failures) link->n_tries = 0;
        if (n_failures >= n_urls) wait_to_retry(link, n_failures, n_urls);
    }
    bus_nats_end_thread();
    return NULL;
}

/* --- life cycle --- */

/* False: no memory; the identity is then ours all the same. */
static bool copy_identity(struct bus_nats_identity *identity, const struct bus_cfg *cfg)
{
    const char *const from[] = {cfg->self,  cfg->ca,   cfg->cert,    cfg->key,
                                cfg->creds, cfg->user, cfg->password};
    const char **const to[] = {&identity->self,    &identity->ca,    &identity->cert,
                               &identity->key,     &identity->creds, &identity->user,
                               &identity->password};
    for (size_t i = 0; i < sizeof from / sizeof *from; i++)
        if (from[i] && !(*to[i] = sl_strdup(from[i]))) return false;
    return true;
}

static void free_identity(const struct bus_nats_identity *identity)
{
    const char *const all[] = {identity->self,  identity->ca,   identity->cert,    identity->key,
                               identity->creds, identity->user, identity->password};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) sl_free((void *)(uintptr_t)all[i]);
}

static bool init_locks(struct bus_link *link)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0) return false;
    bool ok = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
              pthread_mutex_init(&link->mutex, NULL) == 0 &&
              pthread_cond_init(&link->changed, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    return ok;
}

sl_status bus_link_create(const struct bus_cfg *cfg, struct bus_link **out, struct sl_err *err)
{
    struct bus_link *link = sl_calloc(1, sizeof *link);
    if (!link) return sl_err_set(err, SL_NOMEM, "out of memory");
    link->event_fd = -1;
    link->queue.end = &link->queue.first;
    link->inbox.end = &link->inbox.first;
    link->in_order = cfg->in_order;
    link->n_parted = sl_rng_u64((uint64_t)sl_unix_time_ns(), 0, 0);
    link->n_tries = cfg->in_order ? 0 : link->n_parted % BUS_URLS_MAX;
    sl_status status = SL_NOMEM;
    if (!init_locks(link) || !copy_identity(&link->identity, cfg)) {
        sl_err_set(err, status, "out of memory");
        goto fail;
    }
    link->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (link->event_fd < 0) {
        status = sl_err_errno(err, errno, "eventfd");
        goto fail;
    }
    status = bus_link_set_urls(link, cfg->urls, cfg->n_urls, err);
    if (status != SL_OK) goto fail;
    *out = link;
    return SL_OK;
fail:
    bus_link_destroy(link);
    return status;
}

static void stop_sender(struct bus_link *link)
{
    pthread_mutex_lock(&link->mutex);
    link->stopping = true;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->mutex);
    pthread_join(link->sender, NULL);
}

void bus_link_destroy(struct bus_link *link)
{
    if (!link) return;
    if (link->has_sender) stop_sender(link);
    queue_clear_locked(link);
    struct bus_arrival *next_arrival;
    for (struct bus_arrival *arrival = link->inbox.first; arrival; arrival = next_arrival) {
        next_arrival = arrival->next;
        sl_free(arrival);
    }
    struct wire *next_wire;
    for (struct wire *wire = link->wires; wire; wire = next_wire) {
        next_wire = wire->next;
        sl_free(wire);
    }
    if (link->event_fd >= 0) close(link->event_fd);
    pthread_cond_destroy(&link->changed);
    pthread_mutex_destroy(&link->mutex);
    free_identity(&link->identity);
    sl_free(link->urls);
    sl_free(link);
}

/* --- what the loop asks --- */

int bus_link_fd(const struct bus_link *link)
{
    return link->event_fd;
}

static sl_status start_sender(struct bus_link *link, struct sl_err *err)
{
    int error = pthread_create(&link->sender, NULL, sender_main, link);
    if (error) return sl_err_errno(err, error, "start a thread of the bus");
    link->has_sender = true;
    return SL_OK;
}

sl_status bus_link_set_urls(struct bus_link *link, const char *const *urls, int n_urls,
                            struct sl_err *err)
{
    char(*copies)[BUS_URL_SIZE] = sl_calloc((size_t)n_urls, BUS_URL_SIZE);
    if (!copies) return sl_err_set(err, SL_NOMEM, "out of memory");
    for (int i = 0; i < n_urls; i++) snprintf(copies[i], BUS_URL_SIZE, "%s", urls[i]);
    pthread_mutex_lock(&link->mutex);
    char(*old)[BUS_URL_SIZE] = link->urls;
    link->urls = copies;
    link->n_urls = n_urls;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->mutex);
    sl_free(old);
    return n_urls && !link->has_sender ? start_sender(link, err) : SL_OK;
}

sl_status bus_link_subscribe(struct bus_link *link, uint32_t topic, const char *pattern)
{
    struct wire *wire = sl_calloc(1, sizeof *wire);
    if (!wire) return SL_NOMEM;
    wire->topic = topic;
    wire->wanted = true;
    snprintf(wire->pattern, sizeof wire->pattern, "%s", pattern);
    pthread_mutex_lock(&link->mutex);
    wire->next = link->wires;
    link->wires = wire;
    link->wires_changed = true;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->mutex);
    return SL_OK;
}

void bus_link_unsubscribe(struct bus_link *link, uint32_t topic)
{
    pthread_mutex_lock(&link->mutex);
    for (struct wire *wire = link->wires; wire; wire = wire->next)
        if (wire->topic == topic) wire->wanted = false;
    link->wires_changed = true;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->mutex);
}

bool bus_link_connected(struct bus_link *link)
{
    pthread_mutex_lock(&link->mutex);
    bool connected = link->connected;
    pthread_mutex_unlock(&link->mutex);
    return connected;
}

void bus_link_stats(struct bus_link *link, struct bus_stats *out)
{
    pthread_mutex_lock(&link->mutex);
    *out = link->stats;
    out->connected = link->connected;
    pthread_mutex_unlock(&link->mutex);
}
