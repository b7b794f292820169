/* cpu_amx.h: whether Intel AMX tiles work in this process; cpu.c's own.
 * Floor: base.  Thread: any; tried once, at the first call, because the trial forks. */
#pragma once

/* Asks the kernel for permission to use tiles, which then holds for this process and its children,
 * and lets a child multiply two tiles. NULL: they work; otherwise what is wrong with AMX, to follow
 * its name. To be called where CPUID offers AMX-INT8. Linux Documentation/arch/x86/xstate.rst. */
const char *sl_cpu_amx_problem_tried(void);
