/* tile_emulator.h: Intel AMX's tile unit in plain C, for processors without one. A tile instruction
 * is illegal there; the signal's handler decodes it, does what Intel's manual says (SDM vol. 2,
 * LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TILERELEASE, TDPBSSD), and goes on behind it. So the
 * very code that a processor with tiles would run is tested, down to its bytes.
 * Thread: any; tiles are the thread's, as they are in a processor.  Allocates: nothing.
 *
 * What a processor would refuse (no configuration, an illegal one, shapes that do not fit), and any
 * other illegal instruction, ends the process with SIGILL. */
#pragma once
#include <stdbool.h>

/* Until another handler takes SIGILL, as cmocka's does before every test. False: not x86. */
bool tile_emulator_install(void);

/* Instructions done so far by this thread: none if the processor has tiles. */
long tile_emulator_count(void);

/* Are tiles configured? A thread should not leave them so. */
bool tile_emulator_configured(void);
