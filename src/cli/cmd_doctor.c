/* cmd_doctor.c: `starlane doctor`: what this machine offers, and what it lacks. */
#include "base/cpu.h"
#include "base/json.h"
#include "base/size_text.h"
#include "cli/bandwidth.h"
#include "cli/commands.h"
#include "cli/doctor_telemetry.h"
#include "exec/llm/backend.h"
#include "exec/llm/qmat.h"
#include "exec/onnx/ort_provider.h"
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct options {
    bool json;
};

static const struct sl_opt opts[] = {
    {.name = "json",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, json),
     .help = "Print JSON."},
    {0},
};

const struct sl_command cmd_doctor_spec = {
    .name = "doctor",
    .usage = "",
    .summary = "Show what this machine offers: CPU, memory and its speed, devices, backends, ONNX "
               "Runtime, telemetry.",
    .details = "Features of the CPU are those that programs can really use here; memory is what "
               "the process may use (control groups included); bandwidth is measured, in about a "
               "second, and bounds how fast a model can decode.",
    .opts = opts,
};

/* Backends that are built on request, and how. */
static const struct optional_backend {
    const char *name, *device, *what;
} optional_backends[] = {
    {"cuda", "CUDA", "NVIDIA GPUs"}, {"hip", "ROCm", "AMD GPUs"},
    {"cann", "CANN", "Ascend NPUs"}, {"musa", "MUSA", "Moore Threads GPUs"},
    {"vulkan", "Vulkan", "any GPU"}, {"sycl", "SYCL", "Intel GPUs"},
};
#define N_OPTIONAL (sizeof optional_backends / sizeof *optional_backends)

enum backend_state { BACKEND_MISSING, BACKEND_NO_DEVICE, BACKEND_READY };

struct findings {
    int n_devices;
    struct llm_device devices[LLM_DEVICES_MAX];
    struct sl_err backends_err; /* status SL_OK: loaded */
    enum backend_state optional[N_OPTIONAL];
    bool measured;
    struct bandwidth bandwidth;
    const struct ort *ort; /* NULL: ort_err says why */
    struct sl_err ort_err;
    struct doctor_telemetry telemetry;
    char home[PATH_MAX];
};

/* Is the plug-in `data`, "libggml-cuda.so", among this process's libraries? */
static int is_loaded(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    const char *slash = strrchr(info->dlpi_name, '/');
    return strcmp(slash ? slash + 1 : info->dlpi_name, data) == 0;
}

static enum backend_state state_of(const struct findings *f, const struct optional_backend *b)
{
    char library[64];
    for (int i = 0; i < f->n_devices; i++) {
        if (strncmp(f->devices[i].name, b->device, strlen(b->device)) == 0) return BACKEND_READY;
    }
    snprintf(library, sizeof library, "libggml-%s.so", b->name);
    return dl_iterate_phdr(is_loaded, library) ? BACKEND_NO_DEVICE : BACKEND_MISSING;
}

static void examine(struct findings *f)
{
    struct sl_err err = SL_ERR_INIT;
    f->backends_err.status = llm_backends_load(&f->backends_err);
    if (f->backends_err.status == SL_OK)
        f->n_devices = llm_devices_list(f->devices, LLM_DEVICES_MAX);
    for (size_t i = 0; i < N_OPTIONAL; i++) f->optional[i] = state_of(f, &optional_backends[i]);
    if (isatty(STDERR_FILENO)) fputs("measuring memory...", stderr);
    f->measured = bandwidth_measure(sl_cpu_count(), &f->bandwidth, &err) == SL_OK;
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    if (ort_load(&f->ort, &f->ort_err) != SL_OK) f->ort = NULL;
    cli_home(f->home, sizeof f->home);
    doctor_telemetry_examine(f->home[0] ? f->home : NULL, &f->telemetry);
}

static const char *products_kernel(void)
{
    return qmat_kernel_chosen() ? qmat_kernel_chosen()->name : "ggml";
}

static void json_cpu(struct sl_json *j)
{
    sl_json_key(j, "cpu");
    sl_json_object(j);
    sl_json_kv_str(j, "model", sl_cpu_model());
    sl_json_kv_int(j, "usable", sl_cpu_count());
    sl_json_key(j, "features");
    sl_json_array(j);
    for (int i = 0; i < SL_CPU_FEATURE_COUNT; i++) {
        if (sl_cpu_has((enum sl_cpu_feature)i))
            sl_json_str(j, sl_cpu_feature_name((enum sl_cpu_feature)i));
    }
    sl_json_array_end(j);
    sl_json_kv_str(j, "kernels", llm_backends_cpu_variant());
    sl_json_kv_str(j, "products", products_kernel());
    sl_json_key(j, "amx_problem");
    sl_json_str(j, qmat_amx_problem());
    sl_json_object_end(j);
}

static void json_memory(struct sl_json *j, const struct findings *f)
{
    sl_json_key(j, "memory");
    sl_json_object(j);
    sl_json_kv_int(j, "total_bytes", (int64_t)sl_mem_total_bytes());
    sl_json_kv_int(j, "available_bytes", (int64_t)sl_mem_available_bytes());
    sl_json_key(j, "read_bandwidth");
    if (f->measured) {
        sl_json_object(j);
        sl_json_kv_num(j, "one_thread_gbps", f->bandwidth.one_thread / 1e9);
        sl_json_kv_num(j, "all_threads_gbps", f->bandwidth.all_threads / 1e9);
        sl_json_kv_int(j, "threads", f->bandwidth.n_threads);
        sl_json_kv_int(j, "buffer_bytes", (int64_t)f->bandwidth.buffer_bytes);
        sl_json_object_end(j);
    } else {
        sl_json_null(j);
    }
    sl_json_object_end(j);
}

static const char *const state_names[] = {"missing", "no device", "ready"};

static void json_devices(struct sl_json *j, const struct findings *f)
{
    sl_json_key(j, "devices");
    sl_json_array(j);
    for (int i = 0; i < f->n_devices; i++) {
        const struct llm_device *d = &f->devices[i];
        sl_json_object(j);
        sl_json_kv_str(j, "name", d->name);
        sl_json_kv_str(j, "description", d->description);
        sl_json_kv_bool(j, "gpu", d->is_gpu);
        sl_json_kv_int(j, "memory_free_bytes", (int64_t)d->memory_free);
        sl_json_kv_int(j, "memory_total_bytes", (int64_t)d->memory_total);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
    sl_json_key(j, "backends");
    sl_json_object(j);
    for (size_t i = 0; i < N_OPTIONAL; i++)
        sl_json_kv_str(j, optional_backends[i].name, state_names[f->optional[i]]);
    sl_json_object_end(j);
}

static void json_onnx(struct sl_json *j, const struct findings *f)
{
    sl_json_key(j, "onnxruntime");
    sl_json_object(j);
    sl_json_key(j, "version");
    sl_json_str(j, f->ort ? f->ort->version : NULL);
    sl_json_key(j, "path");
    sl_json_str(j, f->ort ? f->ort->path : NULL);
    sl_json_key(j, "providers");
    sl_json_array(j);
    for (int i = 0; f->ort && i < ORT_PROVIDER_COUNT; i++) {
        if (ort_provider_available(f->ort, (enum ort_provider)i))
            sl_json_str(j, ort_provider_name((enum ort_provider)i));
    }
    sl_json_array_end(j);
    sl_json_key(j, "problem");
    sl_json_str(j, f->ort ? NULL : f->ort_err.text);
    sl_json_object_end(j);
}

static sl_status write_json(const struct findings *f, struct sl_buf *out)
{
    struct sl_json j;
    sl_json_begin(&j, out, true);
    sl_json_object(&j);
    sl_json_kv_str(&j, "version", STARLANE_VERSION);
    sl_json_kv_str(&j, "home", f->home);
    json_cpu(&j);
    json_memory(&j, f);
    json_devices(&j, f);
    json_onnx(&j, f);
    doctor_telemetry_json(&f->telemetry, &j);
    sl_json_key(&j, "problem");
    sl_json_str(&j, f->backends_err.status == SL_OK ? NULL : f->backends_err.text);
    sl_json_object_end(&j);
    sl_status status = sl_json_end(&j);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

static sl_status text_cpu(struct sl_buf *out)
{
    sl_status status = sl_buf_addf(out, "CPU\n  %-12s %s\n  %-12s %d\n  %-12s", "model",
                                   sl_cpu_model(), "usable CPUs", sl_cpu_count(), "features");
    for (int i = 0; i < SL_CPU_FEATURE_COUNT && status == SL_OK; i++) {
        if (sl_cpu_has((enum sl_cpu_feature)i))
            status = sl_buf_addf(out, " %s", sl_cpu_feature_name((enum sl_cpu_feature)i));
    }
    if (status != SL_OK) return status;
    const char *amx = qmat_amx_problem();
    return sl_buf_addf(out, "\n  %-12s %s\n  %-12s %s (AMX %s)\n", "kernels",
                       llm_backends_cpu_variant(), "products", products_kernel(),
                       amx ? amx : "works");
}

static sl_status text_memory(const struct findings *f, struct sl_buf *out)
{
    char total[SL_SIZE_TEXT_MAX], available[SL_SIZE_TEXT_MAX];
    sl_status status = sl_buf_addf(out, "\nMemory\n  %-12s %s\n  %-12s %s\n", "total",
                                   sl_size_text(sl_mem_total_bytes(), total), "available",
                                   sl_size_text(sl_mem_available_bytes(), available));
    if (status != SL_OK) return status;
    if (!f->measured) return sl_buf_addf(out, "  %-12s not measured\n", "reads");
    return sl_buf_addf(out, "  %-12s %.1f GB/s with one thread, %.1f GB/s with %d (measured)\n",
                       "reads", f->bandwidth.one_thread / 1e9, f->bandwidth.all_threads / 1e9,
                       f->bandwidth.n_threads);
}

static sl_status text_devices(const struct findings *f, struct sl_buf *out)
{
    char free_text[SL_SIZE_TEXT_MAX], total[SL_SIZE_TEXT_MAX];
    sl_status status = sl_buf_adds(out, "\nDevices\n");
    for (int i = 0; i < f->n_devices && status == SL_OK; i++) {
        const struct llm_device *d = &f->devices[i];
        status = sl_buf_addf(out, "  %-12s %s, %s of %s free\n", d->name, d->description,
                             sl_size_text(d->memory_free, free_text),
                             sl_size_text(d->memory_total, total));
    }
    if (status == SL_OK && f->backends_err.status != SL_OK)
        status = sl_buf_addf(out, "  none: %s\n", f->backends_err.text);
    return status;
}

static sl_status text_backends(const struct findings *f, struct sl_buf *out)
{
    sl_status status = sl_buf_adds(out, "\nOptional backends\n");
    for (size_t i = 0; i < N_OPTIONAL && status == SL_OK; i++) {
        const struct optional_backend *b = &optional_backends[i];
        switch (f->optional[i]) {
        case BACKEND_READY: status = sl_buf_addf(out, "  %-12s ready\n", b->name); break;
        case BACKEND_NO_DEVICE:
            status = sl_buf_addf(out, "  %-12s built, but it finds no device\n", b->name);
            break;
        case BACKEND_MISSING:
            status = sl_buf_addf(out,
                                 "  %-12s missing; for %s: make GPU=%s (needs the vendor's "
                                 "tool chain)\n",
                                 b->name, b->what, b->name);
            break;
        }
    }
    return status;
}

static sl_status text_providers(const struct ort *ort, bool available, struct sl_buf *out)
{
    sl_status status = SL_OK;
    for (int i = 0; i < ORT_PROVIDER_COUNT && status == SL_OK; i++) {
        if (ort_provider_available(ort, (enum ort_provider)i) == available)
            status = sl_buf_addf(out, " %s", ort_provider_name((enum ort_provider)i));
    }
    return status;
}

static sl_status text_onnx(const struct findings *f, struct sl_buf *out)
{
    sl_status status = sl_buf_adds(out, "\nONNX Runtime\n");
    if (status != SL_OK) return status;
    if (!f->ort) return sl_buf_addf(out, "  %s\n", f->ort_err.text);
    status = sl_buf_addf(out, "  %-12s %s, %s\n  %-12s", "version", f->ort->version, f->ort->path,
                         "providers");
    if (status == SL_OK) status = text_providers(f->ort, true, out);
    if (status == SL_OK) status = sl_buf_addf(out, "\n  %-12s", "missing");
    if (status == SL_OK) status = text_providers(f->ort, false, out);
    if (status != SL_OK) return status;
    return sl_buf_addf(out,
                       "\n  %-12s (a library that is built with one of them goes into "
                       "STARLANE_ONNXRUNTIME)\n",
                       "");
}

static sl_status write_text(const struct findings *f, struct sl_buf *out)
{
    sl_status status = text_cpu(out);
    if (status == SL_OK) status = text_memory(f, out);
    if (status == SL_OK) status = text_devices(f, out);
    if (status == SL_OK) status = text_backends(f, out);
    if (status == SL_OK) status = text_onnx(f, out);
    if (status == SL_OK) status = doctor_telemetry_text(&f->telemetry, out);
    if (status != SL_OK) return status;
    return sl_buf_addf(out, "\nStarlane\n  %-12s %s\n  %-12s %s\n", "version", STARLANE_VERSION,
                       "home", f->home[0] ? f->home : "none: set STARLANE_HOME");
}

int cmd_doctor(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct findings f = {0};
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_doctor_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    examine(&f);
    sl_buf_init(&out, 1 << 20);
    sl_status status = (o.json ? write_json : write_text)(&f, &out);
    exit_code = cli_print(&cmd_doctor_spec, status, &out, &err);
    sl_buf_done(&out);
    /* A machine that cannot run a model is what this command is there to find out. */
    return exit_code == CLI_OK && f.backends_err.status != SL_OK ? CLI_FAILED : exit_code;
}
