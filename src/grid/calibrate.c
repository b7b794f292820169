#include "grid/calibrate.h"
#include "base/cgroup.h"
#include "base/cpu.h"
#include "base/json_read.h"
#include "exec/llm/backend.h"
#include "exec/llm/qmat.h"
#include "grid/store_files.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FILE_NAME "grid/calibration.json"
#define THREADS_MAX 4096
#define QUOTA_STEP 0.01    /* of a CPU: closer quotas are the same */
#define PERIOD_STEP 0.0005 /* seconds, likewise */

/* Members of struct split_machine that are single numbers. */
#define MACHINE_NUMBERS(X) \
    X(step_s) \
    X(layer_s) \
    X(value_s) \
    X(attn_one) \
    X(attn_many) \
    X(memory_bytes_s) \
    X(share) \
    X(period_s) \
    X(disk_bytes_s)

/* --- what it holds for --- */

sl_status calibration_key_now(const char *version, int32_t n_threads, struct calibration_key *out,
                              struct sl_err *err)
{
    struct sl_cgroup_limits limits;
    sl_status status = llm_backends_load(err);
    if (status != SL_OK) return status;
    sl_cgroup_read("", &limits);
    *out = (struct calibration_key){.n_threads = n_threads > 0 ? n_threads : sl_cpu_count(),
                                    .cpu_quota = limits.cpus,
                                    .cpu_period_s = limits.cpu_period_s};
    snprintf(out->version, sizeof out->version, "%s", version);
    snprintf(out->cpu, sizeof out->cpu, "%s", sl_cpu_model());
    snprintf(out->variant, sizeof out->variant, "%s", llm_backends_cpu_variant());
    snprintf(out->products, sizeof out->products, "%s",
             qmat_kernel_chosen() ? qmat_kernel_chosen()->name : "ggml");
    return SL_OK;
}

bool calibration_key_equal(const struct calibration_key *a, const struct calibration_key *b)
{
    return !strcmp(a->version, b->version) && !strcmp(a->cpu, b->cpu) &&
           !strcmp(a->variant, b->variant) && !strcmp(a->products, b->products) &&
           a->n_threads == b->n_threads && fabs(a->cpu_quota - b->cpu_quota) < QUOTA_STEP &&
           fabs(a->cpu_period_s - b->cpu_period_s) < PERIOD_STEP;
}

/* --- JSON --- */

static void put_machine(struct sl_json *json, const struct split_machine *machine)
{
    sl_json_object(json);
#define X(field) sl_json_kv_num(json, #field, machine->field);
    MACHINE_NUMBERS(X)
#undef X
    sl_json_key(json, "speeds");
    sl_json_object(json);
    for (int w = 0; w < SPLIT_WEIGHT_COUNT; w++) {
        sl_json_key(json, split_weight_name((enum split_weight)w));
        sl_json_object(json);
        sl_json_kv_num(json, "bytes_s", machine->speed[w].bytes_s);
        sl_json_key(json, "flops_s");
        sl_json_array(json);
        for (int i = 0; i < SPLIT_CURVE; i++) sl_json_num(json, machine->speed[w].flops_s[i]);
        sl_json_array_end(json);
        sl_json_object_end(json);
    }
    sl_json_object_end(json);
    sl_json_object_end(json);
}

void calibration_put(struct sl_json *json, const struct calibration *c)
{
    sl_json_object(json);
    sl_json_kv_str(json, "version", c->key.version);
    sl_json_kv_str(json, "cpu", c->key.cpu);
    sl_json_kv_str(json, "variant", c->key.variant);
    sl_json_kv_str(json, "products", c->key.products);
    sl_json_kv_int(json, "threads", c->key.n_threads);
    sl_json_kv_num(json, "cpu_quota", c->key.cpu_quota);
    sl_json_kv_num(json, "cpu_period_s", c->key.cpu_period_s);
    sl_json_kv_int(json, "measured_unix_s", c->measured_unix_s);
    sl_json_kv_num(json, "took_s", c->took_s);
    sl_json_key(json, "machine");
    put_machine(json, &c->machine);
    sl_json_object_end(json);
}

static sl_status get_text(const struct sl_json_value *value, const char *key, char *out, size_t n,
                          struct sl_err *err)
{
    size_t length = 0;
    const char *text = sl_json_to_str(sl_json_get(value, key), NULL, &length);
    if (!text || length >= n || strlen(text) != length)
        return sl_err_set(err, SL_CORRUPT, "%s: no text of up to %zu bytes", key, n - 1);
    memcpy(out, text, length + 1);
    return SL_OK;
}

static sl_status get_number(const struct sl_json_value *value, const char *key, double *out,
                            struct sl_err *err)
{
    *out = sl_json_to_num(value, -1);
    if (*out >= 0 && *out < 1e18) return SL_OK;
    return sl_err_set(err, SL_CORRUPT, "%s: no number from 0 on", key);
}

static sl_status get_machine(const struct sl_json_value *value, struct split_machine *out,
                             struct sl_err *err)
{
    const struct sl_json_value *speeds = sl_json_get(value, "speeds");
    sl_status status = SL_OK;
#define X(field) \
    if (status == SL_OK) status = get_number(sl_json_get(value, #field), #field, &out->field, err);
    MACHINE_NUMBERS(X)
#undef X
    for (int w = 0; w < SPLIT_WEIGHT_COUNT && status == SL_OK; w++) {
        const char *name = split_weight_name((enum split_weight)w);
        const struct sl_json_value *speed = sl_json_get(speeds, name);
        const struct sl_json_value *flops = sl_json_get(speed, "flops_s");
        status = get_number(sl_json_get(speed, "bytes_s"), name, &out->speed[w].bytes_s, err);
        for (int i = 0; i < SPLIT_CURVE && status == SL_OK; i++)
            status = get_number(sl_json_at(flops, (size_t)i), name, &out->speed[w].flops_s[i], err);
    }
    return status;
}

sl_status calibration_get(const struct sl_json_value *value, struct calibration *out,
                          struct sl_err *err)
{
    struct calibration c = {0};
    struct calibration_key *key = &c.key;
    int64_t n_threads = sl_json_to_int(sl_json_get(value, "threads"), 0);
    sl_status status = get_text(value, "version", key->version, sizeof key->version, err);
    if (status == SL_OK) status = get_text(value, "cpu", key->cpu, sizeof key->cpu, err);
    if (status == SL_OK)
        status = get_text(value, "variant", key->variant, sizeof key->variant, err);
    /* Older files do not say. */
    if (status == SL_OK && sl_json_get(value, "products"))
        status = get_text(value, "products", key->products, sizeof key->products, err);
    if (status == SL_OK && (n_threads < 1 || n_threads > THREADS_MAX))
        status = sl_err_set(err, SL_CORRUPT, "threads: from 1 to %d", THREADS_MAX);
    if (status == SL_OK)
        status = get_number(sl_json_get(value, "cpu_quota"), "cpu_quota", &key->cpu_quota, err);
    if (status == SL_OK)
        status =
            get_number(sl_json_get(value, "cpu_period_s"), "cpu_period_s", &key->cpu_period_s, err);
    if (status == SL_OK)
        status = get_number(sl_json_get(value, "took_s"), "took_s", &c.took_s, err);
    if (status == SL_OK) status = get_machine(sl_json_get(value, "machine"), &c.machine, err);
    if (status != SL_OK) return status;
    key->n_threads = (int32_t)n_threads;
    c.measured_unix_s = sl_json_to_int(sl_json_get(value, "measured_unix_s"), 0);
    *out = c;
    return SL_OK;
}

/* --- the cache --- */

sl_status calibration_read(const char *home, struct calibration *out, struct sl_err *err)
{
    char path[PATH_MAX];
    struct sl_buf text;
    struct sl_json_value *value = NULL;
    sl_status status = store_path(path, err, "%s/%s", home, FILE_NAME);
    if (status != SL_OK) return status;
    sl_buf_init(&text, CALIBRATION_BYTES_MAX);
    status = store_read_file(path, &text, err);
    if (status == SL_OK && sl_json_parse(text.data, text.len, &value, err) != SL_OK) {
        status = SL_CORRUPT;
        if (err) err->status = SL_CORRUPT;
    }
    if (status == SL_OK) status = calibration_get(value, out, err);
    if (status == SL_CORRUPT) (void)sl_err_prefix(err, "%s", path);
    sl_json_free(value);
    sl_buf_done(&text);
    return status;
}

sl_status calibration_write(const char *home, const struct calibration *calibration,
                            struct sl_err *err)
{
    char path[PATH_MAX];
    struct sl_buf text;
    struct sl_json json;
    sl_status status = store_path(path, err, "%s/%s", home, FILE_NAME);
    if (status != SL_OK) return status;
    sl_buf_init(&text, CALIBRATION_BYTES_MAX);
    sl_json_begin(&json, &text, true);
    calibration_put(&json, calibration);
    status = sl_json_end(&json);
    if (status == SL_OK)
        status = store_write_file(path, text.data, text.len, err);
    else
        (void)sl_err_set(err, status, "%s", path);
    sl_buf_done(&text);
    return status;
}
