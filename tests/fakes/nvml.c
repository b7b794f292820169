/* nvml.c: stands in for libnvidia-ml.so.1: two devices of which the second answers nothing but
 * errors. FAKE_BARE: only what must be there. FAKE_BROKEN: not even that. The environment variable
 * FAKE_NVML says what goes wrong: "no driver", "lost" (all device calls fail), "nonsense". */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include <stdlib.h>
#include <string.h>

#define OK 0
#define DRIVER_NOT_LOADED 9
#define GPU_IS_LOST 15

struct device {
    int number;
};
static struct device devices[2] = {{0}, {1}};

static int goes_wrong(const char *how)
{
    const char *env = getenv("FAKE_NVML");
    return env && strcmp(env, how) == 0;
}

int nvmlInit_v2(void);
int nvmlInit_v2(void)
{
    return goes_wrong("no driver") ? DRIVER_NOT_LOADED : OK;
}

int nvmlShutdown(void);
int nvmlShutdown(void)
{
    const char *log = getenv("FAKE_NVML_LOG");
    if (log) setenv(log, "shut down", 1);
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = goes_wrong("nonsense") ? 4000000000u : 2;
    return OK;
}

#ifndef FAKE_BROKEN
int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **out);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **out)
{
    *out = &devices[index % 2];
    return OK;
}
#endif

#ifndef FAKE_BARE
static int state_of(const struct device *device)
{
    return device->number == 1 || goes_wrong("lost") ? GPU_IS_LOST : OK;
}

int nvmlDeviceGetName(struct device *device, char *name, unsigned length);
int nvmlDeviceGetName(struct device *device, char *name, unsigned length)
{
    if (goes_wrong("nonsense")) {
        memset(name, 0x1b, length);
        return OK;
    }
    strncpy(name, "NVIDIA H200", length);
    return state_of(device);
}

struct utilization {
    unsigned gpu, memory;
};
int nvmlDeviceGetUtilizationRates(struct device *device, struct utilization *out);
int nvmlDeviceGetUtilizationRates(struct device *device, struct utilization *out)
{
    out->gpu = goes_wrong("nonsense") ? 4000000000u : 40;
    out->memory = 7;
    return state_of(device);
}

struct memory {
    unsigned long long total, free, used;
};
int nvmlDeviceGetMemoryInfo(struct device *device, struct memory *out);
int nvmlDeviceGetMemoryInfo(struct device *device, struct memory *out)
{
    out->total = 1000000000000;
    out->used = goes_wrong("nonsense") ? ~0ull : 250000000000;
    out->free = out->total - out->used;
    return state_of(device);
}

int nvmlDeviceGetPowerUsage(struct device *device, unsigned *milliwatts);
int nvmlDeviceGetPowerUsage(struct device *device, unsigned *milliwatts)
{
    *milliwatts = goes_wrong("nonsense") ? 4000000000u : 312500;
    return state_of(device);
}

int nvmlDeviceGetTemperature(struct device *device, int sensor, unsigned *celsius);
int nvmlDeviceGetTemperature(struct device *device, int sensor, unsigned *celsius)
{
    *celsius = goes_wrong("nonsense") ? 4000000000u : 51;
    return sensor == 0 ? state_of(device) : 2;
}
#endif
