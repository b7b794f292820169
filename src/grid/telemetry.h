/* telemetry.h: what one machine does now: processors, memory, network, disk, accelerators, power.
 * Everything is optional: what cannot be read, or makes no sense, is unknown and nothing else
 * suffers. docs/telemetry.md says where each number comes from.
 * Floor: grid.  Thread: one at a time; a reading may block (drivers, network file systems), so the
 * service reads on a thread of its own: telemetry_sampler.h.  Allocates: telemetry_create only.
 * Invariants: files stay open and are read again in place; all numbers of a sample are finite, and
 * either >= 0 or TELEMETRY_UNKNOWN; fractions are within 0 and 1. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct telemetry;

#define TELEMETRY_UNKNOWN (-1.0)
#define TELEMETRY_ACCELERATORS_MAX 16 /* the largest single machines have as many */
#define TELEMETRY_NAME_SIZE 64        /* with NUL; NVML's longest has 96 but none comes near */

enum telemetry_vendor {
    TELEMETRY_NVIDIA, /* NVML */
    TELEMETRY_AMD,    /* ROCm SMI */
    TELEMETRY_ASCEND, /* DCMI */
    TELEMETRY_VENDOR_COUNT
};

/* Where the watts come from. */
enum telemetry_power {
    TELEMETRY_POWER_UNKNOWN,
    TELEMETRY_POWER_MEASURED, /* by the machine's own counters */
    TELEMETRY_POWER_MODELLED, /* between the declared idle and busy watts, by cpu_fraction */
    TELEMETRY_POWER_DECLARED, /* a constant from the configuration */
    TELEMETRY_POWER_COUNT
};

/* Parts that the watts are the sum of: bits of telemetry_sample.power_parts. */
#define TELEMETRY_POWER_MACHINE 1u      /* processors and memory, or the declared machine */
#define TELEMETRY_POWER_ACCELERATORS 2u /* those that say theirs */

struct telemetry_accelerator {
    enum telemetry_vendor vendor;
    char name[TELEMETRY_NAME_SIZE]; /* printable ASCII: "NVIDIA H200" */
    double utilisation;             /* 0 to 1 */
    double memory_total_bytes, memory_used_bytes;
    double watts;
    double celsius; /* below 0 counts as unknown */
};

/* What the owner says about the machine; 0 where he says nothing. */
struct telemetry_declared {
    double watts_idle, watts_busy; /* without accelerators that measure their own */
    double price_kwh;              /* of its electricity, in the owner's currency */
    double carbon_g_kwh;           /* grams of CO2 equivalent */
};

struct telemetry_sample {
    int64_t at_ns;       /* the time given to telemetry_read */
    double cpus;         /* that may be used: of the machine, or the tightest quota */
    double cpu_fraction; /* busy part of them since the last sample */
    double load_1m;      /* tasks that run or wait to, mean of a minute */
    double memory_total_bytes, memory_available_bytes; /* the machine's, or a group's when less */
    double net_in_bytes_s, net_out_bytes_s;            /* all interfaces but loopback */
    double disk_total_bytes, disk_free_bytes;          /* of the file system of HOME */
    double disk_read_bytes_s, disk_write_bytes_s;      /* of all whole disks */
    double watts;
    enum telemetry_power power;
    double joules;        /* since telemetry_create, as far as the watts were known */
    unsigned power_parts; /* TELEMETRY_POWER_MACHINE, _ACCELERATORS */
    struct telemetry_declared declared;
    int n_accelerators;
    struct telemetry_accelerator accelerators[TELEMETRY_ACCELERATORS_MAX];
};

/* Borrowed during telemetry_create only, but for the names of libraries, which must outlive the
 * first telemetry_read. */
struct telemetry_cfg {
    const char *root; /* before /proc and /sys; NULL: "" */
    const char *home; /* whose file system counts; NULL: disk space stays unknown */
    struct telemetry_declared declared;
    /* The vendor's library by telemetry_vendor; NULL: its usual name, "": none. */
    const char *libraries[TELEMETRY_VENDOR_COUNT];
};

/* What was found, for `starlane doctor`. */
struct telemetry_findings {
    int n_rapl_zones;             /* whose energy can be read */
    char rapl_problem[160];       /* why none; "" otherwise */
    bool cpu_quota, memory_limit; /* set by control groups */
    struct {
        int n_devices;
        char problem[160]; /* why none; "" otherwise */
    } vendors[TELEMETRY_VENDOR_COUNT];
};

/* Opens the files. NOMEM; INVALID: declared values that cannot be. */
SL_CHECK sl_status telemetry_create(const struct telemetry_cfg *cfg, struct telemetry **out,
                                    struct sl_err *err);
void telemetry_destroy(struct telemetry *telemetry); /* NULL is fine */

/* Reads everything. The first call loads the vendors' libraries, which may take seconds. Rates,
 * fractions and measured watts of the processors are means since the last call, and unknown in the
 * first one. now_ns is monotonic; a call that does not lie after the last one leaves them unknown.
 */
void telemetry_read(struct telemetry *telemetry, int64_t now_ns, struct telemetry_sample *out);

/* Of the vendors' libraries only after the first telemetry_read. */
void telemetry_findings(const struct telemetry *telemetry, struct telemetry_findings *out);

/* A sample that knows nothing. */
void telemetry_sample_init(struct telemetry_sample *out);

/* INVALID names the value: negative, not finite, or busy below idle. */
SL_CHECK sl_status telemetry_declared_check(const struct telemetry_declared *declared,
                                            struct sl_err *err);

static inline bool telemetry_known(double value)
{
    return value >= 0;
}

const char *telemetry_vendor_name(enum telemetry_vendor vendor); /* "nvidia"; "?" out of range */
const char *telemetry_power_name(enum telemetry_power power);    /* "measured"; "?" out of range */
