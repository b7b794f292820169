/* telemetry_sampler.h: takes a sample of this machine each second, keeps an hour of them and tells
 * the loop of each.
 * Floor: grid.  Thread: the loop's; the reading, which may block on a driver or a file system, is
 * done by a thread of its own that stands back behind all others.  Allocates: at creation; see
 * telemetry_history.h.
 * Invariant: the loop never waits for a reading; a sample that it is late to take is replaced by
 * the next one. */
#pragma once
#include "grid/telemetry.h"

struct loop;
struct telemetry_history;
struct telemetry_sampler;

#define TELEMETRY_PERIOD_NS INT64_C(1000000000)

/* A new sample, already in the history; valid during the call. May destroy the sampler. */
typedef void (*telemetry_sample_fn)(void *ctx, const struct telemetry_sample *sample);

/* Begins at once: the first sample comes as soon as it is read. on_sample NULL is fine. The names
 * of libraries in cfg must outlive the sampler. NOMEM, IO, or telemetry_create's. */
SL_CHECK sl_status telemetry_start(struct loop *loop, const struct telemetry_cfg *cfg,
                                   telemetry_sample_fn on_sample, void *ctx,
                                   struct telemetry_sampler **out, struct sl_err *err);
/* Waits for a reading under way. NULL is fine. */
void telemetry_stop(struct telemetry_sampler *sampler);

/* The latest sample; one that knows nothing before the first. Valid until the loop's next turn. */
const struct telemetry_sample *telemetry_latest(const struct telemetry_sampler *sampler);
const struct telemetry_history *telemetry_history_of(const struct telemetry_sampler *sampler);
