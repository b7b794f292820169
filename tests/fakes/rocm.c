/* rocm.c: stands in for librocm_smi64.so: one device. FAKE_BARE: an older one, without
 * rsmi_dev_power_get, whose card has no edge sensor. FAKE_BROKEN: without the count of devices. The
 * environment variable FAKE_ROCM says what goes wrong: "no driver", "nonsense". */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define OK 0
#define NOT_SUPPORTED 2
#define INIT_ERROR 8

static int goes_wrong(const char *how)
{
    const char *env = getenv("FAKE_ROCM");
    return env && strcmp(env, how) == 0;
}

int rsmi_init(uint64_t flags);
int rsmi_init(uint64_t flags)
{
    return flags || goes_wrong("no driver") ? INIT_ERROR : OK;
}

int rsmi_shut_down(void);
int rsmi_shut_down(void)
{
    return OK;
}

#ifndef FAKE_BROKEN
int rsmi_num_monitor_devices(uint32_t *count);
int rsmi_num_monitor_devices(uint32_t *count)
{
    *count = goes_wrong("nonsense") ? UINT32_MAX : 1;
    return OK;
}
#endif

int rsmi_dev_name_get(uint32_t device, char *name, size_t length);
int rsmi_dev_name_get(uint32_t device, char *name, size_t length)
{
    (void)device;
    strncpy(name, "AMD Instinct MI300X", length);
    return OK;
}

int rsmi_dev_busy_percent_get(uint32_t device, uint32_t *percent);
int rsmi_dev_busy_percent_get(uint32_t device, uint32_t *percent)
{
    (void)device;
    *percent = goes_wrong("nonsense") ? 101 : 75;
    return OK;
}

int rsmi_dev_memory_total_get(uint32_t device, int type, uint64_t *bytes);
int rsmi_dev_memory_total_get(uint32_t device, int type, uint64_t *bytes)
{
    (void)device;
    *bytes = 200000000000;
    return type == 0 ? OK : NOT_SUPPORTED;
}

int rsmi_dev_memory_usage_get(uint32_t device, int type, uint64_t *bytes);
int rsmi_dev_memory_usage_get(uint32_t device, int type, uint64_t *bytes)
{
    (void)device;
    *bytes = goes_wrong("nonsense") ? UINT64_MAX : 50000000000;
    return type == 0 ? OK : NOT_SUPPORTED;
}

#ifndef FAKE_BARE
int rsmi_dev_power_get(uint32_t device, uint64_t *microwatts, int *type);
int rsmi_dev_power_get(uint32_t device, uint64_t *microwatts, int *type)
{
    (void)device;
    *microwatts = goes_wrong("nonsense") ? UINT64_MAX : 700000000;
    *type = 1;
    return OK;
}
#endif

int rsmi_dev_power_ave_get(uint32_t device, uint32_t sensor, uint64_t *microwatts);
int rsmi_dev_power_ave_get(uint32_t device, uint32_t sensor, uint64_t *microwatts)
{
    (void)device;
    *microwatts = 600000000;
    return sensor == 0 ? OK : NOT_SUPPORTED;
}

int rsmi_dev_temp_metric_get(uint32_t device, uint32_t sensor, int metric, int64_t *millidegrees);
int rsmi_dev_temp_metric_get(uint32_t device, uint32_t sensor, int metric, int64_t *millidegrees)
{
    (void)device;
#ifdef FAKE_BARE
    if (sensor == 0) return NOT_SUPPORTED;
#endif
    *millidegrees = goes_wrong("nonsense") ? INT64_MIN : sensor == 0 ? 45500 : 60250;
    return metric == 0 ? OK : NOT_SUPPORTED;
}
