/* telemetry_driver.c: finds a vendor's library, checks that it has what is called, and believes its
 * numbers only where they make sense. */
#include "grid/telemetry_int.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define DEVICE_WATTS_MAX 10000 /* ten times the largest card */
#define DEVICE_CELSIUS_MAX 200 /* silicon is dead before */

static void *open_library(struct telemetry_driver *driver, const char *library)
{
    void *handle = NULL;
    const char *const one[] = {library, NULL};
    const char *const *names = library ? one : driver->ops->libraries;
    for (int i = 0; names[i] && !handle; i++) {
        handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        /* Of several names the first is the usual one: its error is told. */
        const char *problem = handle ? NULL : dlerror();
        if (i == 0 && problem) snprintf(driver->problem, sizeof driver->problem, "%s", problem);
    }
    return handle;
}

static bool find_symbols(struct telemetry_driver *driver)
{
    const char *const *names = driver->ops->symbols;
    for (int i = 0; names[i]; i++) {
        driver->symbols[i] = dlsym(driver->library, names[i]);
        if (driver->symbols[i] || i >= driver->ops->n_needed) continue;
        snprintf(driver->problem, sizeof driver->problem, "the library has no %s", names[i]);
        return false;
    }
    return true;
}

static void keep_printable(char *name)
{
    for (; *name; name++)
        if (*name < ' ' || *name > '~') *name = '?';
}

static void name_devices(struct telemetry_driver *driver, enum telemetry_vendor vendor)
{
    for (int i = 0; i < driver->n_devices; i++) {
        char *name = driver->devices[i].name;
        driver->ops->name(driver, i, name, TELEMETRY_NAME_SIZE);
        name[TELEMETRY_NAME_SIZE - 1] = '\0';
        keep_printable(name);
        if (!*name) snprintf(name, TELEMETRY_NAME_SIZE, "%s %d", telemetry_vendor_name(vendor), i);
    }
}

void telemetry_driver_open(struct telemetry_driver *driver, enum telemetry_vendor vendor,
                           const char *library)
{
    static const struct telemetry_vendor_ops *const all[TELEMETRY_VENDOR_COUNT] = {
        [TELEMETRY_NVIDIA] = &telemetry_nvml_ops,
        [TELEMETRY_AMD] = &telemetry_rocm_ops,
        [TELEMETRY_ASCEND] = &telemetry_dcmi_ops,
    };
    *driver = (struct telemetry_driver){.ops = all[vendor], .vendor = vendor};
    if (library && !*library) {
        snprintf(driver->problem, sizeof driver->problem, "not asked for");
        return;
    }
    driver->library = open_library(driver, library);
    if (!driver->library) return;
    driver->problem[0] = '\0';
    driver->begun = find_symbols(driver) && driver->ops->begin(driver);
    if (!driver->begun) {
        telemetry_driver_close(driver);
        return;
    }
    name_devices(driver, vendor);
    if (driver->n_devices == 0 && !driver->problem[0])
        snprintf(driver->problem, sizeof driver->problem, "the library finds no device");
}

void telemetry_driver_close(struct telemetry_driver *driver)
{
    if (driver->begun && driver->ops->end) driver->ops->end(driver);
    if (driver->library) dlclose(driver->library);
    driver->library = NULL;
    driver->begun = false;
    driver->n_devices = 0;
}

/* Also false for what is not a number. */
static void forget_unless(bool sound, double *value)
{
    if (!sound) *value = TELEMETRY_UNKNOWN;
}

static void check(struct telemetry_accelerator *a)
{
    bool memory = a->memory_used_bytes >= 0 && a->memory_used_bytes <= a->memory_total_bytes;
    forget_unless(a->utilisation >= 0 && a->utilisation <= 1, &a->utilisation);
    forget_unless(memory && a->memory_total_bytes > 0, &a->memory_used_bytes);
    forget_unless(telemetry_known(a->memory_used_bytes), &a->memory_total_bytes);
    forget_unless(a->watts >= 0 && a->watts <= DEVICE_WATTS_MAX, &a->watts);
    forget_unless(a->celsius >= 0 && a->celsius <= DEVICE_CELSIUS_MAX, &a->celsius);
}

void telemetry_driver_read(struct telemetry_driver *driver, struct telemetry_sample *out)
{
    for (int i = 0; i < driver->n_devices; i++) {
        if (out->n_accelerators == TELEMETRY_ACCELERATORS_MAX) return;
        struct telemetry_accelerator *a = &out->accelerators[out->n_accelerators++];
        *a = (struct telemetry_accelerator){.vendor = driver->vendor,
                                            .utilisation = TELEMETRY_UNKNOWN,
                                            .memory_total_bytes = TELEMETRY_UNKNOWN,
                                            .memory_used_bytes = TELEMETRY_UNKNOWN,
                                            .watts = TELEMETRY_UNKNOWN,
                                            .celsius = TELEMETRY_UNKNOWN};
        memcpy(a->name, driver->devices[i].name, sizeof a->name);
        driver->ops->read(driver, i, a);
        check(a);
    }
}
