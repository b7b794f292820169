#include "cli/doctor_telemetry.h"
#include "base/clock.h"
#include "base/size_text.h"
#include "cli/cli.h"

#include <stdio.h>

#define ROW "  %-12s "

void doctor_telemetry_examine(const char *home, struct doctor_telemetry *out)
{
    struct telemetry *telemetry;
    struct sl_err err = SL_ERR_INIT;
    struct telemetry_cfg cfg = {.home = home};
    *out = (struct doctor_telemetry){0};
    telemetry_sample_init(&out->sample);
    if (telemetry_create(&cfg, &telemetry, &err) != SL_OK) return;
    telemetry_read(telemetry, sl_now_ns(), &out->sample);
    telemetry_findings(telemetry, &out->findings);
    telemetry_destroy(telemetry);
    out->known = true;
}

/* --- text --- */

static sl_status text_limits(const struct doctor_telemetry *found, struct sl_buf *out)
{
    char memory[SL_SIZE_TEXT_MAX];
    sl_status status = sl_buf_addf(out, ROW, "limits");
    if (status == SL_OK && !found->findings.cpu_quota && !found->findings.memory_limit)
        return sl_buf_adds(out, "none by control groups\n");
    if (status == SL_OK && found->findings.cpu_quota)
        status = sl_buf_addf(out, "%g CPUs ", found->sample.cpus);
    if (status == SL_OK && found->findings.memory_limit)
        status = sl_buf_addf(out, "%s of memory ",
                             sl_size_text((uint64_t)found->sample.memory_total_bytes, memory));
    return status == SL_OK ? sl_buf_adds(out, "by control groups\n") : status;
}

static sl_status text_power(const struct doctor_telemetry *found, struct sl_buf *out)
{
    if (found->findings.n_rapl_zones)
        return sl_buf_addf(out, ROW "measured by %d counters of energy\n", "power",
                           found->findings.n_rapl_zones);
    return sl_buf_addf(out, ROW "not measured: %s\n", "power", found->findings.rapl_problem);
}

/* "name, 40 % busy, 312 W, 51 C": what is known. */
static sl_status text_accelerator(const struct telemetry_accelerator *a, struct sl_buf *out)
{
    char used[SL_SIZE_TEXT_MAX], total[SL_SIZE_TEXT_MAX];
    sl_status status = sl_buf_addf(out, ROW "%s", "", a->name);
    if (status == SL_OK && telemetry_known(a->utilisation))
        status = sl_buf_addf(out, ", %.0f %% busy", 100 * a->utilisation);
    if (status == SL_OK && telemetry_known(a->memory_total_bytes))
        status =
            sl_buf_addf(out, ", %s of %s used", sl_size_text((uint64_t)a->memory_used_bytes, used),
                        sl_size_text((uint64_t)a->memory_total_bytes, total));
    if (status == SL_OK && telemetry_known(a->watts))
        status = sl_buf_addf(out, ", %.0f W", a->watts);
    if (status == SL_OK && telemetry_known(a->celsius))
        status = sl_buf_addf(out, ", %.0f °C", a->celsius);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

static sl_status text_vendor(const struct doctor_telemetry *found, enum telemetry_vendor vendor,
                             struct sl_buf *out)
{
    const char *problem = found->findings.vendors[vendor].problem;
    int n = found->findings.vendors[vendor].n_devices;
    sl_status status =
        n ? sl_buf_addf(out, ROW "%d\n", telemetry_vendor_name(vendor), n)
          : sl_buf_addf(out, ROW "none: %s\n", telemetry_vendor_name(vendor), problem);
    for (int i = 0; i < found->sample.n_accelerators && status == SL_OK; i++)
        if (found->sample.accelerators[i].vendor == vendor)
            status = text_accelerator(&found->sample.accelerators[i], out);
    return status;
}

sl_status doctor_telemetry_text(const struct doctor_telemetry *found, struct sl_buf *out)
{
    sl_status status = sl_buf_adds(out, "\nTelemetry\n");
    if (status == SL_OK && !found->known) return sl_buf_addf(out, ROW "no memory\n", "none");
    if (status == SL_OK) status = text_limits(found, out);
    if (status == SL_OK) status = text_power(found, out);
    for (int i = 0; i < TELEMETRY_VENDOR_COUNT && status == SL_OK; i++)
        status = text_vendor(found, (enum telemetry_vendor)i, out);
    return status;
}

/* --- JSON --- */

static void json_known(struct sl_json *json, const char *key, double value)
{
    sl_json_key(json, key);
    if (telemetry_known(value))
        sl_json_num(json, value);
    else
        sl_json_null(json);
}

static void json_accelerators(struct sl_json *json, const struct telemetry_sample *sample)
{
    sl_json_key(json, "accelerators");
    sl_json_array(json);
    for (int i = 0; i < sample->n_accelerators; i++) {
        const struct telemetry_accelerator *a = &sample->accelerators[i];
        sl_json_object(json);
        sl_json_kv_str(json, "name", a->name);
        sl_json_kv_str(json, "vendor", telemetry_vendor_name(a->vendor));
        json_known(json, "utilisation", a->utilisation);
        json_known(json, "memory_total_bytes", a->memory_total_bytes);
        json_known(json, "memory_used_bytes", a->memory_used_bytes);
        json_known(json, "watts", a->watts);
        json_known(json, "celsius", a->celsius);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

void doctor_telemetry_json(const struct doctor_telemetry *found, struct sl_json *json)
{
    sl_json_key(json, "telemetry");
    sl_json_object(json);
    sl_json_kv_bool(json, "cpu_quota", found->findings.cpu_quota);
    sl_json_kv_bool(json, "memory_limit", found->findings.memory_limit);
    json_known(json, "cpus", found->sample.cpus);
    json_known(json, "memory_total_bytes", found->sample.memory_total_bytes);
    sl_json_kv_int(json, "energy_counters", found->findings.n_rapl_zones);
    sl_json_kv_str(json, "energy_problem", found->findings.rapl_problem);
    json_accelerators(json, &found->sample);
    sl_json_key(json, "libraries");
    sl_json_object(json);
    for (int i = 0; i < TELEMETRY_VENDOR_COUNT; i++)
        sl_json_kv_str(json, telemetry_vendor_name((enum telemetry_vendor)i),
                       found->findings.vendors[i].n_devices ? "ready"
                                                            : found->findings.vendors[i].problem);
    sl_json_object_end(json);
    sl_json_object_end(json);
}
