/* telemetry_rocm.c: AMD's accelerators by the ROCm System Management Interface, declared here as
 * its API reference has it (rocm_smi.h of ROCm 4 to 7); no header is needed. */
#include "grid/telemetry_int.h"

#include <stdio.h>

#define RSMI_SUCCESS 0
#define RSMI_MEM_TYPE_VRAM 0
#define RSMI_TEMP_CURRENT 0
#define RSMI_TEMP_TYPE_EDGE 0
#define RSMI_TEMP_TYPE_JUNCTION 1 /* all that data-centre cards have */

enum {
    INIT,
    SHUTDOWN,
    COUNT,
    N_NEEDED,
    NAME = N_NEEDED,
    USE,
    MEMORY_TOTAL,
    MEMORY_USED,
    POWER,      /* ROCm 6: current, or average where there is no other */
    POWER_MEAN, /* before */
    TEMPERATURE
};
static const char *const symbols[] = {"rsmi_init",
                                      "rsmi_shut_down",
                                      "rsmi_num_monitor_devices",
                                      "rsmi_dev_name_get",
                                      "rsmi_dev_busy_percent_get",
                                      "rsmi_dev_memory_total_get",
                                      "rsmi_dev_memory_usage_get",
                                      "rsmi_dev_power_get",
                                      "rsmi_dev_power_ave_get",
                                      "rsmi_dev_temp_metric_get",
                                      NULL};
typedef int init_fn(uint64_t flags);
typedef int shutdown_fn(void);
typedef int count_fn(uint32_t *count);
typedef int name_fn(uint32_t device, char *name, size_t length);
typedef int use_fn(uint32_t device, uint32_t *percent);
typedef int memory_fn(uint32_t device, int type, uint64_t *bytes);
typedef int power_fn(uint32_t device, uint64_t *microwatts, int *type);
typedef int power_mean_fn(uint32_t device, uint32_t sensor, uint64_t *microwatts);
typedef int temperature_fn(uint32_t device, uint32_t sensor, int metric, int64_t *millidegrees);

static bool begin(struct telemetry_driver *driver)
{
    uint32_t n = 0;
    int error = ((init_fn *)driver->symbols[INIT])(0);
    if (error != RSMI_SUCCESS) {
        snprintf(driver->problem, sizeof driver->problem, "rsmi_init: error %d", error);
        return false;
    }
    if (((count_fn *)driver->symbols[COUNT])(&n) != RSMI_SUCCESS) n = 0;
    driver->n_devices = n < TELEMETRY_ACCELERATORS_MAX ? (int)n : TELEMETRY_ACCELERATORS_MAX;
    return true;
}

static void get_name(struct telemetry_driver *driver, int device, char *out, size_t size)
{
    name_fn *get = (name_fn *)driver->symbols[NAME];
    if (!get || get((uint32_t)device, out, size) != RSMI_SUCCESS) out[0] = '\0';
}

static void read_memory(struct telemetry_driver *driver, uint32_t device,
                        struct telemetry_accelerator *out)
{
    memory_fn *get_total = (memory_fn *)driver->symbols[MEMORY_TOTAL];
    memory_fn *get_used = (memory_fn *)driver->symbols[MEMORY_USED];
    uint64_t total = 0, used = 0;
    if (!get_total || get_total(device, RSMI_MEM_TYPE_VRAM, &total) != RSMI_SUCCESS) return;
    if (!get_used || get_used(device, RSMI_MEM_TYPE_VRAM, &used) != RSMI_SUCCESS) return;
    out->memory_total_bytes = (double)total;
    out->memory_used_bytes = (double)used;
}

static void read_power(struct telemetry_driver *driver, uint32_t device,
                       struct telemetry_accelerator *out)
{
    power_fn *get = (power_fn *)driver->symbols[POWER];
    power_mean_fn *get_mean = (power_mean_fn *)driver->symbols[POWER_MEAN];
    uint64_t microwatts = 0;
    int type;
    if ((get && get(device, &microwatts, &type) == RSMI_SUCCESS) ||
        (get_mean && get_mean(device, 0, &microwatts) == RSMI_SUCCESS))
        out->watts = (double)microwatts / 1e6;
}

static void read_device(struct telemetry_driver *driver, int number,
                        struct telemetry_accelerator *out)
{
    uint32_t device = (uint32_t)number, percent = 0;
    use_fn *get_use = (use_fn *)driver->symbols[USE];
    temperature_fn *get = (temperature_fn *)driver->symbols[TEMPERATURE];
    int64_t millidegrees = 0;
    if (get_use && get_use(device, &percent) == RSMI_SUCCESS) out->utilisation = percent / 100.0;
    read_memory(driver, device, out);
    read_power(driver, device, out);
    if (get &&
        (get(device, RSMI_TEMP_TYPE_EDGE, RSMI_TEMP_CURRENT, &millidegrees) == RSMI_SUCCESS ||
         get(device, RSMI_TEMP_TYPE_JUNCTION, RSMI_TEMP_CURRENT, &millidegrees) == RSMI_SUCCESS))
        out->celsius = (double)millidegrees / 1000;
}

static void end(struct telemetry_driver *driver)
{
    (void)((shutdown_fn *)driver->symbols[SHUTDOWN])();
}

/* Without a developer's package only the versioned names are there: of ROCm 7, 6 and 5, and
 * Debian's own. */
static const char *const libraries[] = {"librocm_smi64.so",
                                        "librocm_smi64.so.7",
                                        "librocm_smi64.so.6",
                                        "librocm_smi64.so.5",
                                        "librocm_smi64.so.1",
                                        "/opt/rocm/lib/librocm_smi64.so",
                                        NULL};

const struct telemetry_vendor_ops telemetry_rocm_ops = {.libraries = libraries,
                                                        .symbols = symbols,
                                                        .n_needed = N_NEEDED,
                                                        .begin = begin,
                                                        .name = get_name,
                                                        .read = read_device,
                                                        .end = end};
