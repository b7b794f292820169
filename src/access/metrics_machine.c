#include "access/metrics_machine.h"
#include "access/metrics.h"
#include "grid/telemetry.h"

#include <stdio.h>

#define LABELS_MAX 512

/* --- of the machine --- */

struct machine_row {
    const char *name, *type, *help;
    size_t offset; /* of a double in struct telemetry_sample */
};
#define ROW(name, type, help, member) \
    { \
        "starlane_node_" name, type, help, offsetof(struct telemetry_sample, member) \
    }

static const struct machine_row MACHINE_ROWS[] = {
    ROW("cpus", "gauge", "CPUs that may be used.", cpus),
    ROW("cpu_fraction", "gauge", "Busy part of them.", cpu_fraction),
    ROW("load_1m", "gauge", "Tasks that run or wait to, mean of a minute.", load_1m),
    ROW("memory_bytes", "gauge", "Memory, or the limit on it.", memory_total_bytes),
    ROW("memory_available_bytes", "gauge", "Of it.", memory_available_bytes),
    ROW("network_received_bytes_per_second", "gauge", "All cards.", net_in_bytes_s),
    ROW("network_sent_bytes_per_second", "gauge", "All cards.", net_out_bytes_s),
    ROW("disk_bytes", "gauge", "Of the file system of STARLANE_HOME.", disk_total_bytes),
    ROW("disk_available_bytes", "gauge", "Of it.", disk_free_bytes),
    ROW("disk_read_bytes_per_second", "gauge", "All disks.", disk_read_bytes_s),
    ROW("disk_written_bytes_per_second", "gauge", "All disks.", disk_write_bytes_s),
    ROW("energy_joules_total", "counter", "Used, as far as the power was known.", joules),
};

static sl_status write_machine_row(const struct machine_row *row,
                                   const struct telemetry_sample *sample, struct sl_buf *out)
{
    sl_status status = metrics_write_head(out, row->name, row->type, row->help);
    if (status != SL_OK || !sample) return status;
    double value = *(const double *)((const char *)sample + row->offset);
    return telemetry_known(value) ? metrics_write_sample(out, row->name, NULL, value) : SL_OK;
}

static sl_status write_power(const struct telemetry_sample *sample, struct sl_buf *out)
{
    static const char name[] = "starlane_node_power_watts";
    char labels[64];
    sl_status status =
        metrics_write_head(out, name, "gauge", "By source: measured, modelled, declared.");
    if (status != SL_OK || !sample || !telemetry_known(sample->watts)) return status;
    snprintf(labels, sizeof labels, "source=\"%s\"", telemetry_power_name(sample->power));
    return metrics_write_sample(out, name, labels, sample->watts);
}

/* --- of its accelerators --- */

struct accelerator_row {
    const char *name, *help;
    size_t offset; /* of a double in struct telemetry_accelerator */
};
#undef ROW
#define ROW(name, help, member) \
    { \
        "starlane_node_accelerator_" name, help, offsetof(struct telemetry_accelerator, member) \
    }

static const struct accelerator_row ACCELERATOR_ROWS[] = {
    ROW("utilisation_ratio", "Part of the time that it computes.", utilisation),
    ROW("memory_bytes", "Its memory.", memory_total_bytes),
    ROW("memory_used_bytes", "Of it.", memory_used_bytes),
    ROW("power_watts", "As it says itself.", watts),
    ROW("temperature_celsius", "Of its chip.", celsius),
};

static sl_status write_labels(const struct telemetry_accelerator *a, int number,
                              struct sl_buf *labels)
{
    char text[16];
    sl_buf_clear(labels);
    snprintf(text, sizeof text, "%d", number);
    sl_status status = metrics_write_label(labels, "accelerator", text);
    if (status == SL_OK) status = sl_buf_addc(labels, ',');
    if (status == SL_OK)
        status = metrics_write_label(labels, "vendor", telemetry_vendor_name(a->vendor));
    if (status == SL_OK) status = sl_buf_addc(labels, ',');
    return status == SL_OK ? metrics_write_label(labels, "name", a->name) : status;
}

static sl_status write_accelerator_row(const struct accelerator_row *row,
                                       const struct telemetry_sample *sample, struct sl_buf *out)
{
    struct sl_buf labels;
    sl_status status = metrics_write_head(out, row->name, "gauge", row->help);
    sl_buf_init(&labels, LABELS_MAX);
    for (int i = 0; sample && i < sample->n_accelerators && status == SL_OK; i++) {
        const struct telemetry_accelerator *a = &sample->accelerators[i];
        double value = *(const double *)((const char *)a + row->offset);
        if (!telemetry_known(value)) continue;
        status = write_labels(a, i, &labels);
        if (status == SL_OK) status = metrics_write_sample(out, row->name, labels.data, value);
    }
    sl_buf_done(&labels);
    return status;
}

sl_status metrics_write_machine(const struct telemetry_sample *sample, struct sl_buf *out)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < sizeof MACHINE_ROWS / sizeof *MACHINE_ROWS && status == SL_OK; i++)
        status = write_machine_row(&MACHINE_ROWS[i], sample, out);
    if (status == SL_OK) status = write_power(sample, out);
    for (size_t i = 0; i < sizeof ACCELERATOR_ROWS / sizeof *ACCELERATOR_ROWS && status == SL_OK;
         i++)
        status = write_accelerator_row(&ACCELERATOR_ROWS[i], sample, out);
    return status;
}
