/* speed.c: see speed.h. */
#include "sched/speed.h"

#define SMOOTHING 0.1 /* weight of the newest: the last ten or twenty count */
#define FORGETTING 0.01
#define REST_S 5.0 /* until a node at rest counts as one at rest: some reports */

double speed_value(const struct speed *speed)
{
    return speed->seconds > 0 ? speed->amount / speed->seconds : 0;
}

void speed_assume(struct speed *speed, double value)
{
    *speed = (struct speed){.best = value};
    if (value > 0) speed->amount = 1;
    if (value > 0) speed->seconds = 1 / value;
}

void speed_take(struct speed *speed, double amount, double seconds)
{
    if (!(amount > 0) || !(seconds > 0)) return;
    speed->amount = speed->amount * (1 - SMOOTHING) + amount * SMOOTHING;
    speed->seconds = speed->seconds * (1 - SMOOTHING) + seconds * SMOOTHING;
    double value = speed_value(speed);
    if (value > speed->best)
        speed->best = value;
    else
        speed->best += (value - speed->best) * FORGETTING;
}

void speed_rest(struct speed *speed, double seconds)
{
    double share = seconds < REST_S ? seconds / REST_S : 1;
    if (share > 0) speed->amount += (speed->best * speed->seconds - speed->amount) * share;
}
