/* telemetry_group.c: what control groups leave of the processors and the memory. The same files
 * that base/cgroup.c reads once are kept open here. */
#include "base/hash.h"
#include "grid/telemetry_int.h"

#include <stdio.h>
#include <string.h>

/* v1 says "no limit" with the largest page-aligned number. */
#define V1_UNLIMITED_BYTES (UINT64_C(1) << 62)

static void open_in(struct telemetry_file *file, const char *dir, const char *name)
{
    char path[TELEMETRY_PATH_SIZE];
    int n = snprintf(path, sizeof path, "/%s", name);
    file->fd = -1;
    if (n > 0 && (size_t)n < sizeof path) telemetry_file_open(file, dir, path);
}

static void add_cpu(struct telemetry_groups *groups, bool v2, const char *dir, const char *group)
{
    if (groups->n_cpu == TELEMETRY_GROUPS_MAX) return;
    struct telemetry_cpu_group *g = &groups->cpu[groups->n_cpu];
    *g = (struct telemetry_cpu_group){.v2 = v2, .period.fd = -1, .usage.fd = -1};
    open_in(&g->quota, dir, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (g->quota.fd < 0) return;
    snprintf(g->group, sizeof g->group, "%s", group);
    open_in(&g->stat, dir, "cpu.stat");
    if (!v2) open_in(&g->period, dir, "cpu.cfs_period_us");
    groups->n_cpu++;
}

/* The use of a v1 group is counted by another controller, often in a group of the same name. */
static void add_usage(struct telemetry_groups *groups, const char *dir, const char *group)
{
    for (int i = 0; i < groups->n_cpu; i++) {
        struct telemetry_cpu_group *g = &groups->cpu[i];
        if (!g->v2 && g->usage.fd < 0 && strcmp(g->group, group) == 0)
            open_in(&g->usage, dir, "cpuacct.usage");
    }
}

static void add_memory(struct telemetry_groups *groups, bool v2, const char *dir)
{
    if (groups->n_memory == TELEMETRY_GROUPS_MAX) return;
    struct telemetry_memory_group *g = &groups->memory[groups->n_memory];
    g->v2 = v2;
    open_in(&g->max, dir, v2 ? "memory.max" : "memory.limit_in_bytes");
    if (g->max.fd < 0) return;
    open_in(&g->used, dir, v2 ? "memory.current" : "memory.usage_in_bytes");
    open_in(&g->stat, dir, "memory.stat");
    groups->n_memory++;
}

static void add_group(void *ctx, enum sl_cgroup_kind kind, const char *dir, const char *group)
{
    struct telemetry_groups *groups = ctx;
    switch (kind) {
    case SL_CGROUP_V2:
        add_cpu(groups, true, dir, group);
        add_memory(groups, true, dir);
        break;
    case SL_CGROUP_V1_CPU: add_cpu(groups, false, dir, group); break;
    case SL_CGROUP_V1_CPUACCT: break;
    case SL_CGROUP_V1_MEMORY: add_memory(groups, false, dir); break;
    }
}

/* After add_group has seen all: the controllers come in any order. */
static void add_group_usage(void *ctx, enum sl_cgroup_kind kind, const char *dir, const char *group)
{
    if (kind == SL_CGROUP_V1_CPUACCT) add_usage(ctx, dir, group);
}

static void open_groups(struct telemetry_groups *groups, const char *root)
{
    groups->n_cpu = groups->n_memory = 0;
    sl_cgroup_visit(root, add_group, groups);
    sl_cgroup_visit(root, add_group_usage, groups);
}

static void close_groups(struct telemetry_groups *groups)
{
    for (int i = 0; i < groups->n_cpu; i++) {
        struct telemetry_cpu_group *g = &groups->cpu[i];
        telemetry_file_close(&g->quota);
        telemetry_file_close(&g->period);
        telemetry_file_close(&g->stat);
        telemetry_file_close(&g->usage);
    }
    for (int i = 0; i < groups->n_memory; i++) {
        struct telemetry_memory_group *g = &groups->memory[i];
        telemetry_file_close(&g->max);
        telemetry_file_close(&g->used);
        telemetry_file_close(&g->stat);
    }
    groups->n_cpu = groups->n_memory = 0;
}

void telemetry_groups_open(struct telemetry_groups *groups, const char *root)
{
    telemetry_file_open(&groups->own, root, "/proc/self/cgroup");
    open_groups(groups, root);
}

void telemetry_groups_close(struct telemetry_groups *groups)
{
    telemetry_file_close(&groups->own);
    close_groups(groups);
}

void telemetry_groups_follow(struct telemetry_groups *groups, const char *root, char *text)
{
    if (!telemetry_file_read(&groups->own, text, TELEMETRY_TEXT_SIZE)) return;
    uint64_t hash = sl_hash64(text, strlen(text), 0);
    if (hash == groups->hash) return;
    /* The first look only remembers: telemetry_groups_open has just opened them. */
    if (groups->hash) {
        close_groups(groups);
        open_groups(groups, root);
    }
    groups->hash = hash;
}

/* --- processors --- */

/* In CPUs; 0: none. "max 100000" and -1 are no quota. */
static double read_quota(const struct telemetry_cpu_group *g)
{
    char text[64];
    const char *p = text;
    uint64_t quota, period;
    if (!telemetry_file_read(&g->quota, text, sizeof text)) return 0;
    if (!telemetry_scan_u64(&p, &quota)) return 0;
    bool known = g->v2 ? telemetry_scan_u64(&p, &period) : telemetry_file_u64(&g->period, &period);
    return known && period ? (double)quota / (double)period : 0;
}

/* Processor time that the group has used. */
static bool read_used_ns(const struct telemetry_cpu_group *g, const char *stat, uint64_t *out)
{
    if (!g->v2) return telemetry_file_u64(&g->usage, out);
    return telemetry_find_u64(stat, "usage_usec ", out) && *out <= UINT64_MAX / 1000 &&
           (*out *= 1000, true);
}

/* Where nobody counts the group's use: the part of its periods that ended before their time. */
static double throttled_fraction(struct telemetry_cpu_group *g, const char *stat)
{
    uint64_t periods = 0, throttled = 0, n, n_throttled;
    bool known = telemetry_find_u64(stat, "nr_periods ", &periods);
    known = telemetry_counter_step(&g->n_periods, known, periods, &n) && n > 0;
    bool both = telemetry_find_u64(stat, "nr_throttled ", &throttled);
    both = telemetry_counter_step(&g->n_throttled, both, throttled, &n_throttled) && known;
    return both ? (double)n_throttled / (double)n : TELEMETRY_UNKNOWN;
}

static double used_fraction(struct telemetry_cpu_group *g, double cpus, double seconds, char *text)
{
    uint64_t used = 0, growth = 0;
    if (!telemetry_file_read(&g->stat, text, TELEMETRY_TEXT_SIZE)) *text = '\0';
    bool known = read_used_ns(g, text, &used);
    double throttled = throttled_fraction(g, text);
    if (!known) return throttled;
    bool grown = telemetry_counter_step(&g->used_ns, known, used, &growth);
    double rate = telemetry_rate(grown, growth, seconds);
    return telemetry_known(rate) ? rate / 1e9 / cpus : TELEMETRY_UNKNOWN;
}

void telemetry_groups_cpu(struct telemetry_groups *groups, double seconds, char *text,
                          double *out_cpus, double *out_fraction)
{
    *out_cpus = 0;
    *out_fraction = TELEMETRY_UNKNOWN;
    for (int i = 0; i < groups->n_cpu; i++) {
        double cpus = read_quota(&groups->cpu[i]);
        if (cpus <= 0) continue;
        if (*out_cpus == 0 || cpus < *out_cpus) *out_cpus = cpus;
        double fraction = used_fraction(&groups->cpu[i], cpus, seconds, text);
        if (fraction > *out_fraction) *out_fraction = fraction;
    }
    /* A quota's period may lie across the reading. */
    if (*out_fraction > 1) *out_fraction = 1;
}

/* --- memory --- */

/* What the group leaves: its limit less what is used and cannot be dropped at once. */
static bool read_left(const struct telemetry_memory_group *g, char *text, uint64_t *out_max,
                      uint64_t *out_left)
{
    uint64_t used = 0, droppable = 0;
    if (!telemetry_file_u64(&g->max, out_max) || *out_max >= V1_UNLIMITED_BYTES) return false;
    if (!telemetry_file_u64(&g->used, &used)) used = 0;
    if (telemetry_file_read(&g->stat, text, TELEMETRY_TEXT_SIZE) &&
        !telemetry_find_u64(text, g->v2 ? "inactive_file " : "total_inactive_file ", &droppable))
        droppable = 0;
    used -= droppable < used ? droppable : used;
    *out_left = used < *out_max ? *out_max - used : 0;
    return true;
}

bool telemetry_groups_memory(const struct telemetry_groups *groups, char *text, double *total,
                             double *available)
{
    bool limited = false;
    for (int i = 0; i < groups->n_memory; i++) {
        uint64_t max, left;
        if (!read_left(&groups->memory[i], text, &max, &left)) continue;
        limited = true;
        if (!telemetry_known(*total) || (double)max < *total) *total = (double)max;
        if (!telemetry_known(*available) || (double)left < *available) *available = (double)left;
    }
    /* A group may allow more than the machine has. */
    if (limited && *available > *total) *available = *total;
    return limited;
}
