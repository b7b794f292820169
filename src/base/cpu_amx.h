/* cpu_amx.h: whether Intel AMX tiles work in this process; cpu.c's own.
 * Floor: base.  Thread: any; tried once, at the first call, because the trial forks. */
#pragma once
#include <stdbool.h>

/* Asks the kernel for permission to use tiles, which then holds for this process and its children,
 * and lets a child move data through a tile. false on other architectures. Linux
 * Documentation/arch/x86/xstate.rst. */
bool sl_cpu_amx_usable(void);
