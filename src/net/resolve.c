#include "net/resolve.h"
#include "base/mem.h"
#include "net/loop.h"

#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PORT_SIZE 6

struct resolve {
    struct loop *loop;
    resolve_fn fn;
    void *ctx;
    char host[RESOLVE_HOST_SIZE], port[PORT_SIZE];
    struct sockaddr_storage address;
    socklen_t n; /* 0: there is none */
    pthread_mutex_t lock;
    bool asking;    /* the thread has it; under the lock, as what follows */
    bool abandoned; /* nobody wants to know: the thread frees it */
};

static bool split(const char *text, struct resolve *r)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    bool brackets = n > 2 && text[0] == '[' && text[n - 1] == ']';
    if (!n || n >= sizeof r->host || strlen(colon + 1) >= sizeof r->port || !colon[1] ||
        colon[1 + strspn(colon + 1, "0123456789")])
        return false;
    snprintf(r->host, sizeof r->host, "%.*s", (int)(brackets ? n - 2 : n), text + brackets);
    snprintf(r->port, sizeof r->port, "%s", colon + 1);
    return brackets || !strchr(r->host, ':');
}

/* Asks the resolver; with AI_NUMERICHOST it answers at once. */
static bool look_up(struct resolve *r, int flags)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(r->host, r->port, &hints, &found) != 0) return false;
    memcpy(&r->address, found->ai_addr, found->ai_addrlen);
    r->n = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static void destroy(struct resolve *r)
{
    pthread_mutex_destroy(&r->lock);
    sl_free(r);
}

static void tell(void *arg)
{
    struct resolve *r = arg;
    r->fn(r->ctx, r->n ? (const struct sockaddr *)&r->address : NULL, r->n);
}

static void *ask(void *arg)
{
    struct resolve *r = arg;
    (void)look_up(r, AI_ADDRCONFIG);
    pthread_mutex_lock(&r->lock);
    bool abandoned = r->abandoned;
    r->asking = false;
    /* A loop that takes no more posts never tells it; whoever asked has a time limit. */
    if (!abandoned && loop_post(r->loop, tell, r) != SL_OK) r->n = 0;
    pthread_mutex_unlock(&r->lock);
    if (abandoned) destroy(r);
    return NULL;
}

static sl_status begin(struct resolve *r)
{
    pthread_t thread;
    if (look_up(r, AI_NUMERICHOST)) return loop_post(r->loop, tell, r);
    r->asking = true;
    if (pthread_create(&thread, NULL, ask, r) != 0) return SL_UNAVAILABLE;
    pthread_detach(thread);
    return SL_OK;
}

sl_status resolve_start(struct loop *loop, const char *text, resolve_fn fn, void *ctx,
                        struct resolve **out, struct sl_err *err)
{
    struct resolve *r = sl_calloc(1, sizeof *r);
    if (!r) return sl_err_set(err, SL_NOMEM, "address");
    r->loop = loop;
    r->fn = fn;
    r->ctx = ctx;
    pthread_mutex_init(&r->lock, NULL);
    sl_status status = split(text, r) ? begin(r) : SL_INVALID;
    if (status == SL_OK) {
        *out = r;
        return SL_OK;
    }
    destroy(r);
    if (status == SL_INVALID)
        return sl_err_set(err, status, "\"%s\" is not an address with a port", text);
    return sl_err_set(err, status, "%s cannot be looked up: %s", text, sl_status_text(status));
}

void resolve_done(struct resolve *r)
{
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    bool asking = r->asking;
    r->abandoned = true;
    pthread_mutex_unlock(&r->lock);
    if (asking) return;
    loop_cancel_posts(r->loop, r);
    destroy(r);
}
