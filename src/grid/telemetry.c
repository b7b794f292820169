#include "grid/telemetry.h"
#include "base/mem.h"
#include "grid/telemetry_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define ROOT_MAX 1024         /* of telemetry_cfg.root */
#define GROUPS_FOLLOW_EVERY 8 /* readings: who moves a process to a group does it once */

struct telemetry {
    char root[ROOT_MAX];
    struct telemetry_declared declared;
    const char *libraries[TELEMETRY_VENDOR_COUNT];
    int64_t last_ns;
    uint64_t n_readings;
    double joules;
    bool quota, memory_limit; /* at the last reading */
    struct telemetry_machine machine;
    struct telemetry_groups groups;
    struct telemetry_rapl rapl;
    struct telemetry_driver drivers[TELEMETRY_VENDOR_COUNT];
    char text[TELEMETRY_TEXT_SIZE]; /* of the file that is being read */
};

sl_status telemetry_declared_check(const struct telemetry_declared *declared, struct sl_err *err)
{
    const struct {
        const char *name;
        double value;
    } rows[] = {{"idle watts", declared->watts_idle},
                {"busy watts", declared->watts_busy},
                {"the price of electricity", declared->price_kwh},
                {"the carbon intensity", declared->carbon_g_kwh}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!isfinite(rows[i].value) || rows[i].value < 0)
            return sl_err_set(err, SL_INVALID, "%s: not a number of 0 or more", rows[i].name);
    if (declared->watts_busy > 0 && declared->watts_busy < declared->watts_idle)
        return sl_err_set(err, SL_INVALID, "busy watts: less than the idle watts");
    return SL_OK;
}

sl_status telemetry_create(const struct telemetry_cfg *cfg, struct telemetry **out,
                           struct sl_err *err)
{
    const char *root = cfg->root ? cfg->root : "";
    if (strlen(root) >= ROOT_MAX) return sl_err_set(err, SL_INVALID, "root: too long");
    sl_status status = telemetry_declared_check(&cfg->declared, err);
    if (status != SL_OK) return status;
    struct telemetry *t = sl_calloc(1, sizeof *t);
    if (!t) return sl_err_set(err, SL_NOMEM, "telemetry");
    strcpy(t->root, root);
    t->declared = cfg->declared;
    memcpy(t->libraries, cfg->libraries, sizeof t->libraries);
    telemetry_machine_open(&t->machine, root, cfg->home);
    telemetry_groups_open(&t->groups, root);
    telemetry_rapl_open(&t->rapl, root);
    *out = t;
    return SL_OK;
}

void telemetry_destroy(struct telemetry *t)
{
    if (!t) return;
    for (int i = 0; i < TELEMETRY_VENDOR_COUNT; i++) telemetry_driver_close(&t->drivers[i]);
    telemetry_rapl_close(&t->rapl);
    telemetry_groups_close(&t->groups);
    telemetry_machine_close(&t->machine);
    sl_free(t);
}

void telemetry_sample_init(struct telemetry_sample *out)
{
    *out = (struct telemetry_sample){.cpus = TELEMETRY_UNKNOWN,
                                     .cpu_fraction = TELEMETRY_UNKNOWN,
                                     .load_1m = TELEMETRY_UNKNOWN,
                                     .memory_total_bytes = TELEMETRY_UNKNOWN,
                                     .memory_available_bytes = TELEMETRY_UNKNOWN,
                                     .net_in_bytes_s = TELEMETRY_UNKNOWN,
                                     .net_out_bytes_s = TELEMETRY_UNKNOWN,
                                     .disk_total_bytes = TELEMETRY_UNKNOWN,
                                     .disk_free_bytes = TELEMETRY_UNKNOWN,
                                     .disk_read_bytes_s = TELEMETRY_UNKNOWN,
                                     .disk_write_bytes_s = TELEMETRY_UNKNOWN,
                                     .watts = TELEMETRY_UNKNOWN};
}

/* --- reading --- */

/* A quota takes away, and so do others on the machine: the tighter of both counts. */
static void apply_groups(struct telemetry *t, double seconds, struct telemetry_sample *out)
{
    double cpus, fraction;
    if (t->n_readings % GROUPS_FOLLOW_EVERY == 0)
        telemetry_groups_follow(&t->groups, t->root, t->text);
    telemetry_groups_cpu(&t->groups, seconds, t->text, &cpus, &fraction);
    t->quota = cpus > 0;
    if (cpus > 0 && (!telemetry_known(out->cpus) || cpus < out->cpus)) out->cpus = cpus;
    if (fraction > out->cpu_fraction) out->cpu_fraction = fraction;
    t->memory_limit = telemetry_groups_memory(&t->groups, t->text, &out->memory_total_bytes,
                                              &out->memory_available_bytes);
}

/* The declared machine: between its two figures, or one of them. */
static double declared_watts(const struct telemetry *t, double cpu_fraction,
                             enum telemetry_power *power)
{
    double idle = t->declared.watts_idle, busy = t->declared.watts_busy;
    *power = TELEMETRY_POWER_UNKNOWN;
    if (idle <= 0 && busy <= 0) return TELEMETRY_UNKNOWN;
    if (busy > idle && idle > 0 && !telemetry_known(cpu_fraction)) return TELEMETRY_UNKNOWN;
    bool constant = idle <= 0 || busy <= idle;
    *power = constant ? TELEMETRY_POWER_DECLARED : TELEMETRY_POWER_MODELLED;
    return constant ? (busy > idle ? busy : idle) : idle + (busy - idle) * cpu_fraction;
}

/* The machine's part and the accelerators' part; the machine's says how good the sum is. */
static void add_power(struct telemetry *t, double seconds, struct telemetry_sample *out)
{
    double accelerators = 0;
    double machine = telemetry_rapl_read(&t->rapl, seconds);
    enum telemetry_power power = TELEMETRY_POWER_MEASURED;
    if (!telemetry_known(machine)) machine = declared_watts(t, out->cpu_fraction, &power);
    for (int i = 0; i < out->n_accelerators; i++) {
        if (!telemetry_known(out->accelerators[i].watts)) continue;
        accelerators += out->accelerators[i].watts;
        out->power_parts |= TELEMETRY_POWER_ACCELERATORS;
    }
    if (telemetry_known(machine))
        out->power_parts |= TELEMETRY_POWER_MACHINE;
    else if (out->power_parts)
        power = TELEMETRY_POWER_MEASURED;
    out->power = power;
    if (out->power_parts) out->watts = (telemetry_known(machine) ? machine : 0) + accelerators;
    if (telemetry_known(out->watts)) t->joules += out->watts * seconds;
    out->joules = t->joules;
}

void telemetry_read(struct telemetry *t, int64_t now_ns, struct telemetry_sample *out)
{
    double seconds = t->n_readings && now_ns > t->last_ns ? (double)(now_ns - t->last_ns) / 1e9 : 0;
    if (t->n_readings == 0)
        for (int i = 0; i < TELEMETRY_VENDOR_COUNT; i++)
            telemetry_driver_open(&t->drivers[i], (enum telemetry_vendor)i, t->libraries[i]);
    telemetry_sample_init(out);
    out->at_ns = now_ns;
    out->declared = t->declared;
    telemetry_machine_read(&t->machine, seconds, t->text, out);
    apply_groups(t, seconds, out);
    for (int i = 0; i < TELEMETRY_VENDOR_COUNT; i++) telemetry_driver_read(&t->drivers[i], out);
    add_power(t, seconds, out);
    t->last_ns = now_ns;
    t->n_readings++;
}

/* --- what was found, names --- */

void telemetry_findings(const struct telemetry *t, struct telemetry_findings *out)
{
    *out = (struct telemetry_findings){
        .n_rapl_zones = t->rapl.n_zones, .cpu_quota = t->quota, .memory_limit = t->memory_limit};
    memcpy(out->rapl_problem, t->rapl.problem, sizeof out->rapl_problem);
    for (int i = 0; i < TELEMETRY_VENDOR_COUNT; i++) {
        out->vendors[i].n_devices = t->drivers[i].n_devices;
        memcpy(out->vendors[i].problem, t->drivers[i].problem, sizeof out->vendors[i].problem);
    }
}

const char *telemetry_vendor_name(enum telemetry_vendor vendor)
{
    static const char *const names[] = {"nvidia", "amd", "ascend"};
    return (unsigned)vendor < TELEMETRY_VENDOR_COUNT ? names[vendor] : "?";
}

const char *telemetry_power_name(enum telemetry_power power)
{
    static const char *const names[] = {"unknown", "measured", "modelled", "declared"};
    return (unsigned)power < TELEMETRY_POWER_COUNT ? names[power] : "?";
}
