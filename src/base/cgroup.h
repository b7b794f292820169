/* cgroup.h: what the kernel's control groups leave this process of the machine (v2, v1, and both at
 * once). Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
 * Floor: base.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stdint.h>

#define SL_CGROUP_UNLIMITED UINT64_MAX

struct sl_cgroup_limits {
    double cpus;                /* CPU quota over period; 0: no quota */
    uint64_t memory_max_bytes;  /* SL_CGROUP_UNLIMITED: none */
    uint64_t memory_left_bytes; /* max less what is in use and cannot be dropped */
};

/* Reads <fs_root>/proc/self/cgroup and the tightest limits from the process's group up to the root
 * of <fs_root>/sys/fs/cgroup. fs_root is "" except in tests. What cannot be read does not limit. */
void sl_cgroup_read(const char *fs_root, struct sl_cgroup_limits *out);
