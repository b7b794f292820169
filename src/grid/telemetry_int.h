/* telemetry_int.h: the parts behind telemetry.h: one a source, each with open, read and close.
 * Floor: grid.  Thread: as telemetry.h.  Allocates: nothing.
 * A part opens its files once; a file that was not there stays unknown. Reading is pread at 0 of
 * an open file: the kernel writes /proc and /sys files anew each time. */
#pragma once
#include "base/cgroup.h"
#include "grid/telemetry.h"
#include <limits.h>
#include <stddef.h>

/* The largest file that is read: /proc/net/dev with 500 interfaces, /proc/diskstats with 600 disks;
 * what stands behind does not count. */
#define TELEMETRY_TEXT_SIZE 65536
#define TELEMETRY_PATH_SIZE (PATH_MAX + 64)

/* --- telemetry_file.c --- */

struct telemetry_file {
    int fd; /* < 0: it was not there */
};

/* root and path are put together. */
void telemetry_file_open(struct telemetry_file *file, const char *root, const char *path);
void telemetry_file_close(struct telemetry_file *file);

/* The text with a NUL behind it, at most size - 1 bytes; bytes 0 in it become spaces. False: it
 * could not be read, or is empty. */
bool telemetry_file_read(const struct telemetry_file *file, char *text, size_t size);

/* The digits at *p, behind spaces; moves *p behind them. False: no digits there, or too many. */
bool telemetry_scan_u64(const char **p, uint64_t *out);
/* The number behind `key` at the beginning of a line. */
bool telemetry_find_u64(const char *text, const char *key, uint64_t *out);
/* The file's first number. */
bool telemetry_file_u64(const struct telemetry_file *file, uint64_t *out);

/* A counter's growth; false for one that went back, and for the first value. */
struct telemetry_counter {
    uint64_t value;
    bool known;
};
bool telemetry_counter_step(struct telemetry_counter *counter, bool known, uint64_t value,
                            uint64_t *out_growth);

/* What a time is worth: growth a second, or TELEMETRY_UNKNOWN. */
double telemetry_rate(bool known, uint64_t growth, double seconds);

/* --- telemetry_group.c: control groups --- */

#define TELEMETRY_GROUPS_MAX 8 /* from the process's own up; deeper nests are rare */

struct telemetry_cpu_group {
    bool v2;
    char group[256];
    struct telemetry_file quota; /* v2: cpu.max, v1: cpu.cfs_quota_us */
    struct telemetry_file period, stat, usage;
    struct telemetry_counter used_ns, n_periods, n_throttled;
};

struct telemetry_memory_group {
    bool v2;
    struct telemetry_file max, used, stat;
};

struct telemetry_groups {
    struct telemetry_file own; /* /proc/self/cgroup */
    uint64_t hash;             /* of its text when the groups were opened */
    int n_cpu, n_memory;
    struct telemetry_cpu_group cpu[TELEMETRY_GROUPS_MAX];
    struct telemetry_memory_group memory[TELEMETRY_GROUPS_MAX];
};

/* The control groups of this process; `root` is before /proc and /sys. None is no failure. */
void telemetry_groups_open(struct telemetry_groups *groups, const char *root);
void telemetry_groups_close(struct telemetry_groups *groups);
/* Opens them anew when the process has moved. `text` is room to work in. */
void telemetry_groups_follow(struct telemetry_groups *groups, const char *root, char *text);
/* The tightest quota in CPUs (0: none), and how much of any quota was used: 0 to 1, or
 * TELEMETRY_UNKNOWN. */
void telemetry_groups_cpu(struct telemetry_groups *groups, double seconds, char *text,
                          double *out_cpus, double *out_fraction);
/* Lowers both to what the groups leave. False: none limits. */
bool telemetry_groups_memory(const struct telemetry_groups *groups, char *text, double *total,
                             double *available);

/* --- telemetry_machine.c: processors, memory, network, disks --- */

struct telemetry_machine {
    struct telemetry_file stat, loadavg, meminfo, net, disks;
    int home; /* descriptor of HOME; < 0: none */
    struct telemetry_counter cpu_busy, cpu_total, net_in, net_out, disk_read, disk_write;
    uint64_t net_names, disk_names; /* hashes: who is counted */
};

/* Files that are not there are not told of. home: whose disk is looked at; NULL: none. */
void telemetry_machine_open(struct telemetry_machine *machine, const char *root, const char *home);
void telemetry_machine_close(struct telemetry_machine *machine);
/* Fills what it knows of. seconds since the last reading; <= 0: rates stay unknown. */
void telemetry_machine_read(struct telemetry_machine *machine, double seconds, char *text,
                            struct telemetry_sample *out);

/* --- telemetry_rapl.c: energy counters of the processors --- */

#define TELEMETRY_RAPL_MAX 32 /* zones: packages and memory of a machine with 16 sockets */

struct telemetry_rapl_zone {
    struct telemetry_file energy;
    uint64_t range_uj; /* the counter begins anew here; 0: not known */
    struct telemetry_counter counter;
};

struct telemetry_rapl {
    int n_zones;
    struct telemetry_rapl_zone zones[TELEMETRY_RAPL_MAX];
    char problem[160];
};

/* All counters that can be read; `problem` says why there are none. */
void telemetry_rapl_open(struct telemetry_rapl *rapl, const char *root);
void telemetry_rapl_close(struct telemetry_rapl *rapl);
/* Of all zones, or TELEMETRY_UNKNOWN. */
double telemetry_rapl_read(struct telemetry_rapl *rapl, double seconds);

/* --- telemetry_nvml.c, telemetry_rocm.c, telemetry_dcmi.c: the vendors' libraries --- */

#define TELEMETRY_SYMBOLS_MAX 16 /* of one library that we call */

struct telemetry_driver;

/* A vendor's library. Functions are called through the types that its module declares. */
struct telemetry_vendor_ops {
    const char *const *libraries; /* names to try, NULL at the end */
    const char *const *symbols;   /* NULL at the end; the first n_needed must be there */
    int n_needed;
    /* Finds the devices: sets n_devices and device. False: problem says why. */
    bool (*begin)(struct telemetry_driver *driver);
    void (*name)(struct telemetry_driver *driver, int device, char *out, size_t size);
    /* out is unknown throughout, but for the name. */
    void (*read)(struct telemetry_driver *driver, int device, struct telemetry_accelerator *out);
    void (*end)(struct telemetry_driver *driver);
};
extern const struct telemetry_vendor_ops telemetry_nvml_ops, telemetry_rocm_ops, telemetry_dcmi_ops;

struct telemetry_driver {
    const struct telemetry_vendor_ops *ops;
    enum telemetry_vendor vendor;
    void *library; /* NULL: not open */
    bool begun;
    void *symbols[TELEMETRY_SYMBOLS_MAX]; /* NULL where it lacks one that is not needed */
    int n_devices;
    struct {
        void *handle; /* NVML's */
        int card, chip;
        char name[TELEMETRY_NAME_SIZE];
    } devices[TELEMETRY_ACCELERATORS_MAX];
    char problem[160];
};

/* telemetry_driver.c. library NULL: the usual ones, "": none. */
void telemetry_driver_open(struct telemetry_driver *driver, enum telemetry_vendor vendor,
                           const char *library);
void telemetry_driver_close(struct telemetry_driver *driver);
/* Adds its devices to the sample, as far as there is room. */
void telemetry_driver_read(struct telemetry_driver *driver, struct telemetry_sample *out);
