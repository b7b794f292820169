/* cgroup.h: what the kernel's control groups leave this process of the machine (v2, v1, and both at
 * once). Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
 * Floor: base.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stdint.h>

#define SL_CGROUP_UNLIMITED UINT64_MAX

struct sl_cgroup_limits {
    double cpus;                /* CPU quota over period; 0: no quota */
    double cpu_period_s;        /* over which that quota counts; 0: no quota */
    uint64_t memory_max_bytes;  /* SL_CGROUP_UNLIMITED: none */
    uint64_t memory_left_bytes; /* max less what is in use and cannot be dropped */
};

/* Reads <fs_root>/proc/self/cgroup and the tightest limits from the process's group up to the root
 * of <fs_root>/sys/fs/cgroup. fs_root is "" except in tests. What cannot be read does not limit. */
void sl_cgroup_read(const char *fs_root, struct sl_cgroup_limits *out);

/* What a group's folder has files of. */
enum sl_cgroup_kind {
    SL_CGROUP_V2,         /* cpu.max, cpu.stat, memory.max, ... */
    SL_CGROUP_V1_CPU,     /* cpu.cfs_quota_us, ... */
    SL_CGROUP_V1_CPUACCT, /* cpuacct.usage */
    SL_CGROUP_V1_MEMORY   /* memory.limit_in_bytes, ... */
};

/* `dir` is the folder, `group` the part of it below the controller's mount point: "" for the root;
 * both valid during the call. */
typedef void (*sl_cgroup_fn)(void *ctx, enum sl_cgroup_kind kind, const char *dir,
                             const char *group);

/* Calls fn for the process's groups, each followed by its ancestors up to the root of
 * <fs_root>/sys/fs/cgroup, whether their folders are there or not. */
void sl_cgroup_visit(const char *fs_root, sl_cgroup_fn fn, void *ctx);
