#include "grid/bus_nats.h"
#include "base/mem.h"
#include "net/pki.h"
#include <nats/nats.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS 3000 /* for one attempt: TCP, TLS and CONNECT take 5 round trips */
#define WRITE_MS 2000   /* a server that takes none of 256 KiB for so long is gone */
/* Who uses this watches the server more closely. */
#define PING_MS 5000
#define PINGS_MAX 12

struct bus_nats {
    natsConnection *connection;
    struct bus_nats_handlers handlers;
    uint64_t id; /* under `live.mutex`, as are the two that follow */
    int n_calls; /* of libnats' that are in here now */
    struct bus_nats *next;
};

/* --- what libnats calls, on its threads --- */

/* libnats does not say when it has made its last call about a connection. So it is given a number
 * that is never used again, and a call with one that means nothing any more does nothing. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t left; /* a call has returned */
    struct bus_nats *first;
    uint64_t last_id;
} live = {.mutex = PTHREAD_MUTEX_INITIALIZER, .left = PTHREAD_COND_INITIALIZER};

/* A number for the connection, as libnats is to hand it back. */
static void *live_begin(struct bus_nats *nats)
{
    pthread_mutex_lock(&live.mutex);
    nats->id = ++live.last_id;
    nats->next = live.first;
    live.first = nats;
    void *closure = (void *)(uintptr_t)nats->id;
    pthread_mutex_unlock(&live.mutex);
    return closure;
}

/* No call is in the connection after this, nor comes. */
static void live_end(struct bus_nats *nats)
{
    pthread_mutex_lock(&live.mutex);
    struct bus_nats **at = &live.first;
    while (*at && *at != nats) at = &(*at)->next;
    if (*at) *at = nats->next;
    while (nats->n_calls) pthread_cond_wait(&live.left, &live.mutex);
    pthread_mutex_unlock(&live.mutex);
}

static struct bus_nats *live_enter(void *closure)
{
    pthread_mutex_lock(&live.mutex);
    struct bus_nats *nats = live.first;
    while (nats && nats->id != (uintptr_t)closure) nats = nats->next;
    if (nats) nats->n_calls++;
    pthread_mutex_unlock(&live.mutex);
    return nats;
}

static void live_leave(struct bus_nats *nats)
{
    pthread_mutex_lock(&live.mutex);
    nats->n_calls--;
    pthread_cond_broadcast(&live.left);
    pthread_mutex_unlock(&live.mutex);
}

static void on_message(natsConnection *connection, natsSubscription *subscription, natsMsg *msg,
                       void *closure)
{
    (void)connection;
    struct bus_nats *nats = live_enter(closure);
    if (nats) {
        /* NULL: the subscription was ended after libnats had taken this message out for it. */
        const char *pattern = natsSubscription_GetSubject(subscription);
        if (pattern)
            nats->handlers.on_message(nats->handlers.ctx, pattern, natsMsg_GetSubject(msg),
                                      natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
        live_leave(nats);
    }
    natsMsg_Destroy(msg);
}

static enum bus_nats_trouble trouble_of(natsStatus status)
{
    if (status == NATS_NOT_PERMITTED) return BUS_NATS_REFUSED;
    return status == NATS_SLOW_CONSUMER ? BUS_NATS_OVERFLOW : BUS_NATS_ENDED;
}

static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status,
                     void *closure)
{
    struct bus_nats *nats = live_enter(closure);
    const char *text = NULL;
    (void)subscription;
    if (!nats) return;
    (void)natsConnection_GetLastError(connection, &text);
    nats->handlers.on_trouble(nats->handlers.ctx, trouble_of(status),
                              text && *text ? text : natsStatus_GetText(status));
    live_leave(nats);
}

static void on_closed(natsConnection *connection, void *closure)
{
    struct bus_nats *nats = live_enter(closure);
    (void)connection;
    if (!nats) return;
    nats->handlers.on_closed(nats->handlers.ctx);
    live_leave(nats);
}

/* --- connecting --- */

static natsStatus set_identity(const struct bus_nats_identity *identity, natsOptions *options)
{
    natsStatus status = natsOptions_SetName(options, identity->self);
    if (status == NATS_OK && identity->creds)
        status = natsOptions_SetUserCredentialsFromFiles(options, identity->creds, NULL);
    if (status == NATS_OK && identity->user)
        status = natsOptions_SetUserInfo(options, identity->user, identity->password);
    return status;
}

/* server_id NULL: the certificate must be for the URL's host. */
static natsStatus set_tls(const struct bus_nats_identity *identity, natsOptions *options,
                          const char *server_id)
{
    natsStatus status = natsOptions_SetSecure(options, true);
    if (status == NATS_OK && identity->ca)
        status = natsOptions_LoadCATrustedCertificates(options, identity->ca);
    if (status == NATS_OK && identity->cert)
        status = natsOptions_LoadCertificatesChain(options, identity->cert, identity->key);
    if (status == NATS_OK && server_id) {
        char name[PKI_DNS_SIZE];
        pki_id_dns(server_id, name);
        status = natsOptions_SetExpectedHostname(options, name);
    }
    return status;
}

static natsStatus set_times(natsOptions *options)
{
    natsStatus status = natsOptions_SetTimeout(options, CONNECT_MS);
    if (status == NATS_OK) status = natsOptions_SetWriteDeadline(options, WRITE_MS);
    if (status == NATS_OK) status = natsOptions_SetPingInterval(options, PING_MS);
    if (status == NATS_OK) status = natsOptions_SetMaxPingsOut(options, PINGS_MAX);
    if (status == NATS_OK) status = natsOptions_SetAllowReconnect(options, false);
    return status;
}

/* One thread of libnats' delivers for all subscriptions, in the order that messages came. */
static natsStatus set_delivery(natsOptions *options, void *closure)
{
    natsStatus status = natsOptions_UseGlobalMessageDelivery(options, true);
    if (status == NATS_OK) status = natsOptions_SetSendAsap(options, true);
    if (status == NATS_OK) status = natsOptions_SetNoEcho(options, true);
    if (status == NATS_OK) status = natsOptions_SetMaxPendingMsgs(options, BUS_NATS_WAITING_MAX);
    if (status == NATS_OK) status = natsOptions_SetErrorHandler(options, on_error, closure);
    if (status == NATS_OK) status = natsOptions_SetClosedCB(options, on_closed, closure);
    return status;
}

/* `url` loses its #ID. */
static natsStatus connect_to(struct bus_nats *nats, const struct bus_nats_identity *identity,
                             char *url, void *closure)
{
    natsOptions *options = NULL;
    char *server_id = strchr(url, '#');
    if (server_id) *server_id++ = '\0';
    natsStatus status = natsOptions_Create(&options);
    if (status == NATS_OK) status = natsOptions_SetURL(options, url);
    if (status == NATS_OK) status = set_identity(identity, options);
    if (status == NATS_OK && strncmp(url, "tls://", 6) == 0)
        status = set_tls(identity, options, server_id);
    if (status == NATS_OK) status = set_times(options);
    if (status == NATS_OK) status = set_delivery(options, closure);
    if (status == NATS_OK) status = natsConnection_Connect(&nats->connection, options);
    natsOptions_Destroy(options);
    return status;
}

sl_status bus_nats_open(const struct bus_nats_identity *identity, const char *url,
                        const struct bus_nats_handlers *handlers, struct bus_nats **out,
                        struct sl_err *err)
{
    struct bus_nats *nats = sl_calloc(1, sizeof *nats);
    char *copy = sl_strdup(url);
    if (!nats || !copy) {
        sl_free(nats);
        sl_free(copy);
        return sl_err_set(err, SL_NOMEM, "out of memory");
    }
    nats->handlers = *handlers;
    natsStatus status = connect_to(nats, identity, copy, live_begin(nats));
    sl_status result = SL_OK;
    if (status != NATS_OK) {
        const char *text = nats_GetLastError(NULL);
        result = sl_err_set(err, SL_UNAVAILABLE, "%s: %s", copy,
                            text && *text ? text : natsStatus_GetText(status));
        bus_nats_close(nats);
    } else {
        *out = nats;
    }
    sl_free(copy);
    return result;
}

void bus_nats_shut(struct bus_nats *nats)
{
    natsConnection_Close(nats->connection);
}

void bus_nats_close(struct bus_nats *nats)
{
    if (!nats) return;
    live_end(nats);
    natsConnection_Destroy(nats->connection);
    sl_free(nats);
}

void bus_nats_end_thread(void)
{
    nats_ReleaseThreadMemory();
}

/* --- using it --- */

static sl_status status_of(natsStatus status)
{
    switch (status) {
    case NATS_OK: return SL_OK;
    case NATS_TIMEOUT: return SL_TIMEOUT;
    case NATS_NO_MEMORY: return SL_NOMEM;
    case NATS_MAX_PAYLOAD: return SL_LIMIT;
    default: return SL_IO;
    }
}

sl_status bus_nats_subscribe(struct bus_nats *nats, const char *pattern, void **out)
{
    natsSubscription *subscription = NULL;
    void *closure = (void *)(uintptr_t)nats->id;
    natsStatus status =
        natsConnection_Subscribe(&subscription, nats->connection, pattern, on_message, closure);
    *out = subscription;
    return status_of(status);
}

void bus_nats_unsubscribe(void *subscription)
{
    natsSubscription_Destroy(subscription);
}

/* A write that failed half way leaves a connection that nothing more can be sent on. */
sl_status bus_nats_publish(struct bus_nats *nats, const char *subject, const void *bytes, size_t n)
{
    sl_status status = status_of(natsConnection_Publish(nats->connection, subject, bytes, (int)n));
    return status == SL_TIMEOUT ? SL_IO : status;
}

sl_status bus_nats_flush(struct bus_nats *nats, int timeout_ms)
{
    return status_of(natsConnection_FlushTimeout(nats->connection, timeout_ms));
}
