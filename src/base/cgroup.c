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

struct group_dir {
    char path[PATH_MAX]; /* changes while walking up */
    size_t root_len;     /* path[0..root_len) is the mount point */
};

/* First line of dir/name into text; false when there is none. */
static bool read_line(const struct group_dir *dir, const char *name, char *text, size_t cap)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", dir->path, name);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool ok = fgets(text, (int)cap, file) != NULL;
    fclose(file);
    return ok;
}

/* Digits only: "max" and "-1" mean no limit in these files. */
static bool read_u64(const struct group_dir *dir, const char *name, uint64_t *out)
{
    char text[64];
    if (!read_line(dir, name, text, sizeof text) || !isdigit((unsigned char)text[0])) return false;
    *out = strtoull(text, NULL, 10);
    return true;
}

/* The number after "key " in dir/memory.stat; 0 when absent. */
static uint64_t read_memory_stat(const struct group_dir *dir, const char *key)
{
    char path[PATH_MAX + 64], line[128];
    snprintf(path, sizeof path, "%s/memory.stat", dir->path);
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
    if (limits->cpus == 0 || cpus < limits->cpus) limits->cpus = cpus;
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

static void read_v2(const struct group_dir *dir, struct sl_cgroup_limits *limits)
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

static void read_v1_cpu(const struct group_dir *dir, struct sl_cgroup_limits *limits)
{
    uint64_t quota, period;
    if (!read_u64(dir, "cpu.cfs_quota_us", &quota) || !read_u64(dir, "cpu.cfs_period_us", &period))
        return;
    apply_cpu(limits, (double)quota, (double)period);
}

static void read_v1_memory(const struct group_dir *dir, struct sl_cgroup_limits *limits)
{
    uint64_t max, used = 0;
    if (!read_u64(dir, "memory.limit_in_bytes", &max) || max >= V1_UNLIMITED_BYTES) return;
    read_u64(dir, "memory.usage_in_bytes", &used);
    apply_memory(limits, max, used, read_memory_stat(dir, "total_inactive_file"));
}

/* Calls read on the group at root + group and on each of its ancestors up to root. */
static void walk_up(const char *fs_root, const char *mount, const char *group,
                    struct sl_cgroup_limits *limits,
                    void (*read)(const struct group_dir *, struct sl_cgroup_limits *))
{
    struct group_dir dir;
    int root_len = snprintf(dir.path, sizeof dir.path, "%s/sys/fs/cgroup%s", fs_root, mount);
    int len = snprintf(dir.path, sizeof dir.path, "%s/sys/fs/cgroup%s%s", fs_root, mount, group);
    if (root_len < 0 || len < 0 || (size_t)len >= sizeof dir.path) return;
    dir.root_len = (size_t)root_len;
    for (;;) {
        read(&dir, limits);
        if (strlen(dir.path) <= dir.root_len) return;
        *strrchr(dir.path, '/') = '\0';
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
static void read_group(const char *fs_root, char *line, struct sl_cgroup_limits *limits)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *colon = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!colon) return;
    controllers++;
    *colon = '\0';
    const char *group = colon + 1;
    /* "/.." is a group outside the namespace we see, which ends at the mount point. */
    if (strcmp(group, "/") == 0 || strncmp(group, "/..", 3) == 0) group = "";
    if (*controllers == '\0') {
        walk_up(fs_root, "", group, limits, read_v2);
        walk_up(fs_root, "/unified", group, limits, read_v2); /* where a mixed set-up mounts v2 */
    }
    if (lists_controller(controllers, "cpu")) walk_up(fs_root, "/cpu", group, limits, read_v1_cpu);
    if (lists_controller(controllers, "memory"))
        walk_up(fs_root, "/memory", group, limits, read_v1_memory);
}

void sl_cgroup_read(const char *fs_root, struct sl_cgroup_limits *out)
{
    *out = (struct sl_cgroup_limits){
        .memory_max_bytes = SL_CGROUP_UNLIMITED,
        .memory_left_bytes = SL_CGROUP_UNLIMITED,
    };
    char path[PATH_MAX], line[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", fs_root);
    FILE *file = fopen(path, "re");
    if (!file) return;
    while (fgets(line, sizeof line, file)) read_group(fs_root, line, out);
    fclose(file);
}
