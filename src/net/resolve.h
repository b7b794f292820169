/* resolve.h: "host:port" as a socket address: numbers at once, names on a thread of their own, for
 * the system's resolver may take its time and cannot be asked to stop.
 * Floor: net.  Thread: the loop's.  Allocates: a struct a question; a thread while a name is asked.
 * Invariant: fn is called at most once, from the loop, never from within a call here. */
#pragma once
#include "base/err.h"
#include <sys/socket.h>

struct loop;
struct resolve;

#define RESOLVE_HOST_SIZE 256 /* a DNS name's 253 bytes (RFC 1035), and a NUL */

/* address NULL: no such host. */
typedef void (*resolve_fn)(void *ctx, const struct sockaddr *address, socklen_t n);

/* text: "10.0.0.7:4230", "[fd00::7]:4230", "name:4230". Of several addresses of a name the first
 * counts. INVALID: none of these; NOMEM; UNAVAILABLE: no thread. */
SL_CHECK sl_status resolve_start(struct loop *loop, const char *text, resolve_fn fn, void *ctx,
                                 struct resolve **out, struct sl_err *err);
/* To be called once for each, before or after fn (also from within). NULL is fine. */
void resolve_done(struct resolve *resolve);
