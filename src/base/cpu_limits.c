/* cpu_limits.c: how much of the machine is ours: the kernel's figures, lowered by affinity and
 * control groups. */
#include "base/cgroup.h"
#include "base/cpu.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CPU_SETS \
    16 /* of 1,024 CPUs each: twice the largest CONFIG_NR_CPUS of a distribution's kernel */

static int affinity_count(void)
{
    cpu_set_t sets[CPU_SETS];
    if (sched_getaffinity(0, sizeof sets, sets) == 0) return CPU_COUNT_S(sizeof sets, sets);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && n < INT_MAX ? (int)n : 1;
}

/* A quota of 1.5 CPUs counts as 2: the scheduler lets two threads run, each three quarters of the
 * time. */
int sl_cpu_count(void)
{
    struct sl_cgroup_limits limits;
    sl_cgroup_read("", &limits);
    int n = affinity_count();
    if (limits.cpus > 0 && limits.cpus < n) {
        int whole = (int)limits.cpus;
        n = whole < limits.cpus ? whole + 1 : whole;
    }
    return n > 0 ? n : 1;
}

/* The number of kB after "key:" in a file of /proc, in bytes; 0 when absent. */
static uint64_t read_proc_kb(const char *path, const char *key)
{
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    char line[256];
    size_t key_len = strlen(key);
    uint64_t n_bytes = 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, key, key_len) != 0 || line[key_len] != ':') continue;
        n_bytes = strtoull(line + key_len + 1, NULL, 10) * 1024;
        break;
    }
    fclose(file);
    return n_bytes;
}

uint64_t sl_mem_total_bytes(void)
{
    struct sl_cgroup_limits limits;
    sl_cgroup_read("", &limits);
    uint64_t machine = read_proc_kb("/proc/meminfo", "MemTotal");
    return limits.memory_max_bytes < machine ? limits.memory_max_bytes : machine;
}

uint64_t sl_mem_available_bytes(void)
{
    struct sl_cgroup_limits limits;
    sl_cgroup_read("", &limits);
    uint64_t machine = read_proc_kb("/proc/meminfo", "MemAvailable");
    return limits.memory_left_bytes < machine ? limits.memory_left_bytes : machine;
}

uint64_t sl_mem_rss_bytes(void)
{
    return read_proc_kb("/proc/self/status", "VmRSS");
}

/* Not getrusage: its ru_maxrss keeps the peak of the program that called exec. The kernel sums both
 * figures lazily, so the peak can stand a few pages below the present. */
uint64_t sl_mem_rss_peak_bytes(void)
{
    uint64_t peak = read_proc_kb("/proc/self/status", "VmHWM");
    uint64_t now = sl_mem_rss_bytes();
    return peak > now ? peak : now;
}
