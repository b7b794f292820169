/* admin.h: what operators and load balancers ask.
 * Floor: access.  Thread: the loop's.  Allocates: the answer. */
#pragma once
#include "access/gateway_int.h"

void admin_root(struct call *call);    /* GET /: "Starlane is running", as tools probe it */
void admin_health(struct call *call);  /* GET /health: 200 while requests are taken */
void admin_metrics(struct call *call); /* GET /metrics: Prometheus text, docs/metrics.md */
