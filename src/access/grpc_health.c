#include "access/grpc_health.h"
#include "access/grpc.h"
#include "access/grpc_reflection.h"
#include "access/oip.h"
#include "base/mem.h"
#include <proto/grpc_health.pb-c.h>
#include <string.h>

#define RESPONSE_MAX 64 /* one small number */

typedef Grpc__Health__V1__HealthCheckRequest health_request;
typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving;

#define SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define SERVICE_UNKNOWN GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

/* call->work of a watch. */
struct watch {
    struct call *call;
    serving last;
    bool known; /* the service it watches */
    bool told;  /* of the first state */
    struct watch *next, *previous;
};

static bool is_known(const char *service)
{
    if (!*service) return true;
    for (size_t i = 0; GRPC_SERVICES[i]; i++)
        if (!strcmp(GRPC_SERVICES[i], service)) return true;
    return false;
}

static serving state_of(const struct gateway *gateway)
{
    return gateway->draining || !oip_server_ready(gateway) ? NOT_SERVING : SERVING;
}

static void check(struct call *call, const uint8_t *message, size_t n)
{
    Grpc__Health__V1__HealthCheckResponse reply = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    const health_request *request =
        grpc_unpack(call, &grpc__health__v1__health_check_request__descriptor, message, n);
    if (!request) return;
    if (!is_known(request->service)) {
        call_fail(call, SL_NOT_FOUND, NULL, NULL, "there is no service of that name here");
        return;
    }
    reply.status = state_of(call->gateway);
    grpc_reply(call, &reply.base);
}

void grpc_health_check(struct call *call)
{
    grpc_unary(call, check);
}

/* --- watching --- */

static void tell(struct watch *watch)
{
    struct sl_buf out;
    Grpc__Health__V1__HealthCheckResponse reply = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    reply.status = watch->known ? state_of(watch->call->gateway) : SERVICE_UNKNOWN;
    if (watch->told && reply.status == watch->last) return;
    sl_buf_init(&out, RESPONSE_MAX);
    /* One who does not read hears of a later state. */
    if (!grpc_is_full(watch->call) && grpc_pack(&out, &reply.base) == SL_OK &&
        grpc_send(watch->call, out.data, out.len) == SL_OK) {
        watch->last = reply.status;
        watch->told = true;
    }
    sl_buf_done(&out);
}

static void watch_message(struct call *call, const uint8_t *message, size_t n)
{
    struct watch *watch = call->work;
    const health_request *request;
    if (watch->told) {
        call_fail(call, SL_INVALID, NULL, NULL, "one message was expected, and more came");
        return;
    }
    request = grpc_unpack(call, &grpc__health__v1__health_check_request__descriptor, message, n);
    if (!request) return;
    watch->known = is_known(request->service);
    tell(watch);
}

static void watch_end(struct call *call)
{
    const struct watch *watch = call->work;
    if (!watch->told) call_fail(call, SL_INVALID, NULL, NULL, "no message came");
}

static void watch_drain(struct call *call)
{
    struct watch *watch = call->work;
    if (watch->told) tell(watch);
    grpc_end(call, GRPC_UNAVAILABLE, "the server is going down");
}

static void watch_free(void *work)
{
    struct watch *watch = work;
    struct gateway *gateway = watch->call->gateway;
    if (watch->previous)
        watch->previous->next = watch->next;
    else
        gateway->grpc_watches = watch->next;
    if (watch->next) watch->next->previous = watch->previous;
    gateway->n_grpc_watches--;
    sl_free(watch);
}

void grpc_health_watch(struct call *call)
{
    static const struct grpc_stream functions = {
        .on_message = watch_message, .on_end = watch_end, .on_drain = watch_drain};
    struct gateway *gateway = call->gateway;
    if (gateway->n_grpc_watches >= GRPC_WATCHES_MAX) {
        call_fail(call, SL_BUSY, NULL, NULL, "too many clients watch the server's health");
        return;
    }
    struct watch *watch = sl_calloc(1, sizeof *watch);
    if (!watch) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    watch->call = call;
    watch->next = gateway->grpc_watches;
    if (watch->next) watch->next->previous = watch;
    gateway->grpc_watches = watch;
    gateway->n_grpc_watches++;
    call->work = watch;
    call->free_work = watch_free;
    grpc_stream(call, &functions);
}

void grpc_health_tick(struct gateway *gateway)
{
    for (struct watch *watch = gateway->grpc_watches; watch; watch = watch->next)
        if (watch->told) tell(watch);
}
