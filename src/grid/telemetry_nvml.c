/* telemetry_nvml.c: NVIDIA's accelerators by NVML, whose functions and types are declared here as
 * the NVML API Reference Guide has them (stable since driver 319); no header is needed. */
#include "grid/telemetry_int.h"

#include <stdio.h>

#define NVML_SUCCESS 0
#define NVML_TEMPERATURE_GPU 0

struct nvml_device; /* nvmlDevice_t points at it */
struct nvml_utilization {
    unsigned gpu, memory; /* percent of the time */
};
struct nvml_memory {
    unsigned long long total, free, used; /* bytes */
};

enum { INIT, SHUTDOWN, COUNT, HANDLE, N_NEEDED, NAME = N_NEEDED, USE, MEMORY, POWER, TEMPERATURE };
static const char *const symbols[] = {"nvmlInit_v2",
                                      "nvmlShutdown",
                                      "nvmlDeviceGetCount_v2",
                                      "nvmlDeviceGetHandleByIndex_v2",
                                      "nvmlDeviceGetName",
                                      "nvmlDeviceGetUtilizationRates",
                                      "nvmlDeviceGetMemoryInfo",
                                      "nvmlDeviceGetPowerUsage",
                                      "nvmlDeviceGetTemperature",
                                      NULL};
typedef int init_fn(void);
typedef int count_fn(unsigned *count);
typedef int handle_fn(unsigned index, struct nvml_device **device);
typedef int name_fn(struct nvml_device *device, char *name, unsigned length);
typedef int use_fn(struct nvml_device *device, struct nvml_utilization *use);
typedef int memory_fn(struct nvml_device *device, struct nvml_memory *memory);
typedef int power_fn(struct nvml_device *device, unsigned *milliwatts);
typedef int temperature_fn(struct nvml_device *device, int sensor, unsigned *celsius);

static bool begin(struct telemetry_driver *driver)
{
    unsigned n = 0;
    struct nvml_device *device;
    int error = ((init_fn *)driver->symbols[INIT])();
    if (error != NVML_SUCCESS) {
        snprintf(driver->problem, sizeof driver->problem, "nvmlInit: error %d", error);
        return false;
    }
    if (((count_fn *)driver->symbols[COUNT])(&n) != NVML_SUCCESS) n = 0;
    /* One that cannot be had now (taken by another virtual machine, lost) is left out. */
    for (unsigned i = 0; i < n && driver->n_devices < TELEMETRY_ACCELERATORS_MAX; i++)
        if (((handle_fn *)driver->symbols[HANDLE])(i, &device) == NVML_SUCCESS)
            driver->devices[driver->n_devices++].handle = device;
    return true;
}

static void get_name(struct telemetry_driver *driver, int device, char *out, size_t size)
{
    name_fn *get = (name_fn *)driver->symbols[NAME];
    if (!get || get(driver->devices[device].handle, out, (unsigned)size) != NVML_SUCCESS)
        out[0] = '\0';
}

static void read_device(struct telemetry_driver *driver, int device,
                        struct telemetry_accelerator *out)
{
    struct nvml_device *handle = driver->devices[device].handle;
    use_fn *get_use = (use_fn *)driver->symbols[USE];
    memory_fn *get_memory = (memory_fn *)driver->symbols[MEMORY];
    power_fn *get_power = (power_fn *)driver->symbols[POWER];
    temperature_fn *get_temperature = (temperature_fn *)driver->symbols[TEMPERATURE];
    struct nvml_utilization use = {0};
    struct nvml_memory memory = {0};
    unsigned value = 0;
    if (get_use && get_use(handle, &use) == NVML_SUCCESS) out->utilisation = use.gpu / 100.0;
    if (get_memory && get_memory(handle, &memory) == NVML_SUCCESS) {
        out->memory_total_bytes = (double)memory.total;
        out->memory_used_bytes = (double)memory.used;
    }
    if (get_power && get_power(handle, &value) == NVML_SUCCESS) out->watts = value / 1000.0;
    if (get_temperature && get_temperature(handle, NVML_TEMPERATURE_GPU, &value) == NVML_SUCCESS)
        out->celsius = value;
}

static void end(struct telemetry_driver *driver)
{
    (void)((init_fn *)driver->symbols[SHUTDOWN])();
}

static const char *const libraries[] = {"libnvidia-ml.so.1", "libnvidia-ml.so", NULL};

const struct telemetry_vendor_ops telemetry_nvml_ops = {.libraries = libraries,
                                                        .symbols = symbols,
                                                        .n_needed = N_NEEDED,
                                                        .begin = begin,
                                                        .name = get_name,
                                                        .read = read_device,
                                                        .end = end};
