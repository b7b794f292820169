/* speed.h: how fast something has gone lately, as a node reports it: of what was done at which
 * cost of time, the latest counting most.
 * Floor: sched.  Thread: one.  Allocates: nothing.
 * Sums are kept, not means of quotients: a prompt of ten tokens, most of whose time is a step's
 * fixed part, says little about what a thousand tokens take, and counts little. */
#pragma once

/* Zeroed: nothing is known. */
struct speed {
    double amount, seconds; /* of the last measurements, weighted */
    double best;            /* the highest value, slowly forgotten */
};

/* What was never measured is taken to be so fast. */
void speed_assume(struct speed *speed, double value);

/* So much was done in so many seconds; nothing happens unless both are above 0. */
void speed_take(struct speed *speed, double amount, double seconds);

/* There was nothing to do for so many seconds: the value goes back to the best one. Without this
 * a node that was measured while it was overrun would look slow for ever, as nobody would send it
 * anything to be measured by. */
void speed_rest(struct speed *speed, double seconds);

double speed_value(const struct speed *speed); /* amount per second; 0: not known */
