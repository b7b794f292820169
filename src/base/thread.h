/* thread.h: what a thread asks of the kernel's scheduler.
 * Floor: base.  Thread: the one that calls.  Allocates: nothing. */
#pragma once

/* For a thread that works in short bursts and should get its turn soon after it wakes: asks for
 * the shortest time slice, which brings its deadline near (EEVDF, Linux 6.12 and later;
 * sched_setattr(2), sched_runtime). Takes no more of the CPU than before. Elsewhere it changes
 * nothing. */
void sl_thread_wake_soon(void);

/* For a thread whose work nobody waits for: runs when others leave the CPU to it (SCHED_BATCH
 * and the lowest priority short of idle). */
void sl_thread_stand_back(void);
