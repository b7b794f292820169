/* cgroup.c: walks from the process's group to the root, since every ancestor's limit holds too. In
 * a container the group's path is often not visible under /sys/fs/cgroup while its files stand at
 * the root: the walk ends there. */
#include "base/cgroup.h"

#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* v1 says "no limit" with the largest page-aligned number; nobody's machine has half of it. */
#define V1_UNLIMITED_BYTES ((uint64_t)1 << 62)

/* First line of dir/name into text; false when there is none. */
static bool read_line(const char *dir, const char *name, char *text, size_t cap)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool ok = fgets(text, (int)cap, file) != NULL;
    fclose(file);
    return ok;
}

/* Digits only: "max" and "-1" mean no limit in these files. */
static bool read_u64(const char *dir, const char *name, uint64_t *out)
{
    char text[64];
    if (!read_line(dir, name, text, sizeof text) || !isdigit((unsigned char)text[0])) return false;
    *out = strtoull(text, NULL, 10);
    return true;
}

/* The number after "key " in dir/memory.stat; 0 when absent. */
static uint64_t read_memory_stat(const char *dir, const char *key)
{
    char path[PATH_MAX + 64], line[128];
    snprintf(path, sizeof path, "%s/memory.stat", dir);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    uint64_t value = 0;
    size_t key_len = strlen(key);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, key, key_len) != 0 || line[key_len] != ' ') continue;
        value = strtoull(line + key_len, NULL, 10);
        break;
    }
    fclose(file);
    return value;
}

static void apply_cpu(struct sl_cgroup_limits *limits, double quota, double period)
{
    if (quota <= 0 || period <= 0) return;
    double cpus = quota / period;
    if (limits->cpus > 0 && cpus >= limits->cpus) return;
    limits->cpus = cpus;
    limits->cpu_period_s = period / 1e6;
}

/* Cached file pages that nobody used lately count as used in the group's figure but give way at
 * once. */
static void apply_memory(struct sl_cgroup_limits *limits, uint64_t max, uint64_t used,
                         uint64_t droppable)
{
    used -= droppable < used ? droppable : used;
    uint64_t left = used < max ? max - used : 0;
    if (max < limits->memory_max_bytes) limits->memory_max_bytes = max;
    if (left < limits->memory_left_bytes) limits->memory_left_bytes = left;
}

static void read_v2(const char *dir, struct sl_cgroup_limits *limits)
{
    char text[64];
    double quota, period;
    if (read_line(dir, "cpu.max", text, sizeof text) &&
        sscanf(text, "%lf %lf", &quota, &period) == 2) {
        apply_cpu(limits, quota, period);
    }
    uint64_t max, used = 0;
    if (!read_u64(dir, "memory.max", &max)) return;
    read_u64(dir, "memory.current", &used);
    apply_memory(limits, max, used, read_memory_stat(dir, "inactive_file"));
}

static void read_v1_cpu(const char *dir, struct sl_cgroup_limits *limits)
{
    uint64_t quota, period;
    if (!read_u64(dir, "cpu.cfs_quota_us", &quota) || !read_u64(dir, "cpu.cfs_period_us", &period))
        return;
    apply_cpu(limits, (double)quota, (double)period);
}

static void read_v1_memory(const char *dir, struct sl_cgroup_limits *limits)
{
    uint64_t max, used = 0;
    if (!read_u64(dir, "memory.limit_in_bytes", &max) || max >= V1_UNLIMITED_BYTES) return;
    read_u64(dir, "memory.usage_in_bytes", &used);
    apply_memory(limits, max, used, read_memory_stat(dir, "total_inactive_file"));
}

struct visit {
    const char *fs_root;
    sl_cgroup_fn fn;
    void *ctx;
};

/* The group's folder and those of its ancestors up to the controller's mount point. */
static void walk_up(const struct visit *visit, enum sl_cgroup_kind kind, const char *mount,
                    const char *group)
{
    char path[PATH_MAX];
    int root_len = snprintf(path, sizeof path, "%s/sys/fs/cgroup%s", visit->fs_root, mount);
    int len = snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s", visit->fs_root, mount, group);
    if (root_len < 0 || len < 0 || (size_t)len >= sizeof path) return;
    for (;;) {
        visit->fn(visit->ctx, kind, path, path + root_len);
        if (strlen(path) <= (size_t)root_len) return;
        *strrchr(path, '/') = '\0';
    }
}

static bool lists_controller(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = list; p; p = strchr(p, ',')) {
        if (*p == ',') p++;
        if (strncmp(p, name, len) == 0 && (p[len] == ',' || p[len] == '\0')) return true;
    }
    return false;
}

/* One line of /proc/self/cgroup: "0::/path" is v2, "4:cpu,cpuacct:/path" is v1. */
static void visit_line(const struct visit *visit, char *line)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *colon = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!colon) return;
    controllers++;
    *colon = '\0';
    const char *group = colon + 1;
    /* "/.." is a group outside the namespace we see, which ends at the mount point. */
    if (group[0] != '/' || group[1] == '\0' || strncmp(group, "/..", 3) == 0) group = "";
    if (*controllers == '\0') {
        walk_up(visit, SL_CGROUP_V2, "", group);
        walk_up(visit, SL_CGROUP_V2, "/unified", group); /* where a mixed set-up mounts v2 */
    }
    if (lists_controller(controllers, "cpu")) walk_up(visit, SL_CGROUP_V1_CPU, "/cpu", group);
    if (lists_controller(controllers, "cpuacct"))
        walk_up(visit, SL_CGROUP_V1_CPUACCT, "/cpuacct", group);
    if (lists_controller(controllers, "memory"))
        walk_up(visit, SL_CGROUP_V1_MEMORY, "/memory", group);
}

void sl_cgroup_visit(const char *fs_root, sl_cgroup_fn fn, void *ctx)
{
    const struct visit visit = {.fs_root = fs_root, .fn = fn, .ctx = ctx};
    char path[PATH_MAX], line[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", fs_root);
    FILE *file = fopen(path, "re");
    if (!file) return;
    while (fgets(line, sizeof line, file)) visit_line(&visit, line);
    fclose(file);
}

static void read_limits(void *ctx, enum sl_cgroup_kind kind, const char *dir, const char *group)
{
    struct sl_cgroup_limits *limits = ctx;
    (void)group;
    switch (kind) {
    case SL_CGROUP_V2: read_v2(dir, limits); break;
    case SL_CGROUP_V1_CPU: read_v1_cpu(dir, limits); break;
    case SL_CGROUP_V1_CPUACCT: break;
    case SL_CGROUP_V1_MEMORY: read_v1_memory(dir, limits); break;
    }
}

void sl_cgroup_read(const char *fs_root, struct sl_cgroup_limits *out)
{
    *out = (struct sl_cgroup_limits){
        .memory_max_bytes = SL_CGROUP_UNLIMITED,
        .memory_left_bytes = SL_CGROUP_UNLIMITED,
    };
    sl_cgroup_visit(fs_root, read_limits, out);
}
