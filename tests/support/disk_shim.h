/* disk_shim.h: a layer between SQLite and the files it opens, so that a disk can be slow when a test
 * wants it, and syncs can be counted. Thread: as said. */
#pragma once
#include <stdint.h>

/* Files that are opened from now on go through the shim. The calling thread is the one meant
 * below. */
void disk_shim_install(void);
void disk_shim_remove(void);

/* Each write by the thread waits so long first; 0: not at all. */
void disk_shim_slow_writes(int64_t ns);

/* Calls of fsync or fdatasync that the thread made. */
int disk_shim_n_syncs(void);
