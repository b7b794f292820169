/* history_view.h: GET /grid/v1/history: the last hour of this machine, as curves; of a single
 * machine as of a grid's.
 *   series=cpu_fraction   which curve; errors list them
 *   accelerator=0         whose, of those named accelerator_*
 *   minutes=60            how much of the hour, up to now
 *   points=120            into how many stretches it is cut
 * Each stretch has the least, the mean and the most of what was known; null: nothing was. Stretches
 * begin at multiples of their length, so that a picture drawn anew each second stands still.
 * Floor: access.  Thread: the loop's.  Allocates: a call's answer. */
#pragma once

struct call;

/* Answers the call; it is ended in any case. */
void history_view(struct call *call);
