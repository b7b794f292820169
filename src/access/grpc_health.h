/* grpc_health.h: the gRPC Health Checking Protocol, version 1 (proto/grpc_health.proto).
 * Source: grpc/doc/health-checking.md.
 * Floor: access.  Thread: the loop's.  Allocates: with the call. */
#pragma once
#include <stdint.h>

struct call;
struct gateway;

#define GRPC_WATCHES_MAX 1024 /* a balancer has one a client; each holds a stream open */

/* Check: the state of the service that the request names, now. NOT_FOUND: it is none of ours.
 * Watch: the same, and each change until the client goes. */
void grpc_health_check(struct call *call);
void grpc_health_watch(struct call *call);

/* Tells the watchers what has changed since the last time; every PING_CHECK_NS by gateway.c. */
void grpc_health_tick(struct gateway *gateway);
