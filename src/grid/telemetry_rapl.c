/* telemetry_rapl.c: what the processors and their memory used, by the counters that Linux shows as
 * powercap zones (Documentation/power/powercap/powercap.rst; Intel SDM vol. 3, 15.10; AMD has them
 * under the same names).
 * Zone intel-rapl:N is a processor's package, its subzones parts of it, except dram, which on
 * servers is counted beside it. psys is the whole board, and wrong too often. */
#include "grid/telemetry_int.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FOLDER "/sys/class/powercap"
#define ZONE_WATTS_MAX 5000 /* a counter that was reset looks like more */

static bool counts(const char *zone_name)
{
    return strncmp(zone_name, "package", 7) == 0 || strncmp(zone_name, "dram", 4) == 0;
}

static bool read_name(const char *root, const char *zone, char *out, size_t size)
{
    char path[NAME_MAX + 64];
    struct telemetry_file file;
    snprintf(path, sizeof path, FOLDER "/%s/name", zone);
    telemetry_file_open(&file, root, path);
    bool ok = telemetry_file_read(&file, out, size);
    telemetry_file_close(&file);
    return ok;
}

static void read_range(const char *root, const char *zone, uint64_t *out)
{
    char path[NAME_MAX + 64];
    struct telemetry_file file;
    snprintf(path, sizeof path, FOLDER "/%s/max_energy_range_uj", zone);
    telemetry_file_open(&file, root, path);
    if (!telemetry_file_u64(&file, out)) *out = 0;
    telemetry_file_close(&file);
}

static void add_zone(struct telemetry_rapl *rapl, const char *root, const char *zone)
{
    char path[NAME_MAX + 64], name[64];
    if (rapl->n_zones == TELEMETRY_RAPL_MAX || !read_name(root, zone, name, sizeof name)) return;
    if (!counts(name)) return;
    struct telemetry_rapl_zone *z = &rapl->zones[rapl->n_zones];
    *z = (struct telemetry_rapl_zone){0};
    read_range(root, zone, &z->range_uj);
    snprintf(path, sizeof path, FOLDER "/%s/energy_uj", zone);
    telemetry_file_open(&z->energy, root, path);
    if (z->energy.fd >= 0)
        rapl->n_zones++;
    else
        snprintf(rapl->problem, sizeof rapl->problem, "energy_uj of %.32s: %s", zone,
                 strerror(errno));
}

void telemetry_rapl_open(struct telemetry_rapl *rapl, const char *root)
{
    char path[TELEMETRY_PATH_SIZE];
    snprintf(path, sizeof path, "%s" FOLDER, root);
    DIR *dir = opendir(path);
    rapl->n_zones = 0;
    snprintf(rapl->problem, sizeof rapl->problem, "no counters of energy in " FOLDER);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (strncmp(entry->d_name, "intel-rapl:", 11) == 0) add_zone(rapl, root, entry->d_name);
    if (dir) closedir(dir);
    if (rapl->n_zones) rapl->problem[0] = '\0';
}

void telemetry_rapl_close(struct telemetry_rapl *rapl)
{
    for (int i = 0; i < rapl->n_zones; i++) telemetry_file_close(&rapl->zones[i].energy);
    rapl->n_zones = 0;
}

static double read_zone(struct telemetry_rapl_zone *zone, double seconds)
{
    uint64_t now = 0, last = zone->counter.value, growth = 0;
    bool known = telemetry_file_u64(&zone->energy, &now), was_known = zone->counter.known;
    bool grown = telemetry_counter_step(&zone->counter, known, now, &growth);
    if (known && was_known && !grown && last <= zone->range_uj) {
        growth = zone->range_uj - last + now;
        grown = growth >= now;
    }
    double watts = telemetry_rate(grown, growth, seconds) / 1e6;
    return grown && seconds > 0 && watts <= ZONE_WATTS_MAX ? watts : TELEMETRY_UNKNOWN;
}

double telemetry_rapl_read(struct telemetry_rapl *rapl, double seconds)
{
    double sum = 0;
    bool known = rapl->n_zones > 0;
    for (int i = 0; i < rapl->n_zones; i++) {
        double watts = read_zone(&rapl->zones[i], seconds);
        known = known && telemetry_known(watts);
        sum += watts;
    }
    return known ? sum : TELEMETRY_UNKNOWN;
}
