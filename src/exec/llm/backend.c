#include "exec/llm/backend.h"
#include "base/cpu.h"
#include "base/log.h"
#include <dirent.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef STARLANE_BACKEND_DIR
#define STARLANE_BACKEND_DIR ""
#endif

struct cpu_variant {
    const char *name;
    enum sl_cpu_feature needs[8];
    int n_needs;
};

#define NEEDS_HASWELL SL_CPU_FMA, SL_CPU_F16C, SL_CPU_BMI2
/* Fastest first. */
static const struct cpu_variant cpu_variants[] = {
    {"zen4",
     {NEEDS_HASWELL, SL_CPU_AVX512, SL_CPU_AVX512_VBMI, SL_CPU_AVX512_VNNI, SL_CPU_AVX512_BF16},
     7},
    {"icelake", {NEEDS_HASWELL, SL_CPU_AVX512, SL_CPU_AVX512_VBMI, SL_CPU_AVX512_VNNI}, 6},
    {"skylakex", {NEEDS_HASWELL, SL_CPU_AVX512}, 4},
    {"alderlake", {NEEDS_HASWELL, SL_CPU_AVX2, SL_CPU_AVX_VNNI}, 5},
    {"haswell", {NEEDS_HASWELL, SL_CPU_AVX2}, 4},
    {"sandybridge", {SL_CPU_AVX}, 1},
    {"sse42", {SL_CPU_SSE42}, 1},
};
static const char *const gpu_plugins[] = {"cuda", "hip", "cann", "musa", "vulkan", "sycl", "metal"};

static pthread_once_t load_once = PTHREAD_ONCE_INIT;
static struct sl_err load_err;
static char load_variant[32];

static void log_from_ggml(enum ggml_log_level level, const char *text, void *ctx)
{
    (void)ctx;
    int n = (int)strcspn(text, "\n");
    if (n && level >= GGML_LOG_LEVEL_WARN && level <= GGML_LOG_LEVEL_ERROR)
        sl_log(level == GGML_LOG_LEVEL_ERROR ? SL_LOG_WARN : SL_LOG_INFO, "ggml", "%.*s", n, text);
}

static bool variant_runs(const struct cpu_variant *v)
{
    for (int i = 0; i < v->n_needs; i++) {
        if (!sl_cpu_has(v->needs[i])) return false;
    }
    return true;
}

static bool plugin_load(const char *dir, const char *name)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/libggml-%s.so", dir, name);
    return n > 0 && n < (int)sizeof path && access(path, R_OK) == 0 && ggml_backend_load(path);
}

static bool cpu_load_from(const char *dir)
{
    char name[64];
    if (!*dir || access(dir, R_OK)) return false;
    for (size_t i = 0; i < sizeof cpu_variants / sizeof *cpu_variants; i++) {
        snprintf(name, sizeof name, "cpu-%s", cpu_variants[i].name);
        if (variant_runs(&cpu_variants[i]) && plugin_load(dir, name)) {
            snprintf(load_variant, sizeof load_variant, "%s", cpu_variants[i].name);
            return true;
        }
    }
    if (plugin_load(dir, "cpu")) {
        snprintf(load_variant, sizeof load_variant, "cpu");
        return true;
    }
#if !defined(__x86_64__)
    ggml_backend_load_all_from_path(dir); /* ggml scores its own Arm variants by hwcap */
    if (ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) {
        snprintf(load_variant, sizeof load_variant, "by ggml");
        return true;
    }
#endif
    return false;
}

static bool load_from(const char *dir)
{
    if (!cpu_load_from(dir)) return false;
    for (size_t i = 0; i < sizeof gpu_plugins / sizeof *gpu_plugins; i++)
        plugin_load(dir, gpu_plugins[i]);
    return true;
}

/* The directory `sub` beside the program's own directory, "" when it cannot be told. */
static void program_dir(const char *sub, char out[PATH_MAX])
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    *out = '\0';
    if (n <= 0) return;
    exe[n] = '\0';
    if (snprintf(out, PATH_MAX, "%s%s", dirname(exe), sub) >= PATH_MAX) *out = '\0';
}

static void load_plugins(void)
{
    const char *env = getenv("STARLANE_BACKEND_DIR");
    char installed[PATH_MAX], beside[PATH_MAX];
    program_dir("/../lib/starlane", installed);
    program_dir("", beside);
    ggml_log_set(log_from_ggml, NULL);
    if (ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) {
        snprintf(load_variant, sizeof load_variant, "built-in");
        return;
    }
    if (env ? load_from(env)
            : load_from(installed) || load_from(beside) || load_from(STARLANE_BACKEND_DIR))
        return;
    if (!env) ggml_backend_load_all(); /* where a system ggml keeps its own */
    if (ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU))
        snprintf(load_variant, sizeof load_variant, "system");
    else
        (void)sl_err_set(&load_err, SL_UNAVAILABLE,
                         "no ggml CPU plug-in that this processor can run in %s",
                         env ? env : installed);
}

sl_status llm_backends_load(struct sl_err *err)
{
    pthread_once(&load_once, load_plugins);
    if (load_err.status != SL_OK) return sl_err_set(err, load_err.status, "%s", load_err.text);
    return SL_OK;
}

const char *llm_backends_cpu_variant(void)
{
    return load_variant;
}

int llm_devices_list(struct llm_device *out, int max)
{
    int n = 0;
    for (size_t i = 0; i < ggml_backend_dev_count() && n < max; i++) {
        ggml_backend_dev_t dev = ggml_backend_dev_get(i);
        struct ggml_backend_dev_props props;
        ggml_backend_dev_get_props(dev, &props);
        struct llm_device *d = &out[n++];
        snprintf(d->name, sizeof d->name, "%s", props.name);
        snprintf(d->description, sizeof d->description, "%s", props.description);
        d->is_gpu = props.type == GGML_BACKEND_DEVICE_TYPE_GPU ||
                    props.type == GGML_BACKEND_DEVICE_TYPE_IGPU;
        d->memory_free = props.memory_free;
        d->memory_total = props.memory_total;
    }
    return n;
}

/* A thread pool of the engine's own: without one ggml starts its threads anew for every graph. */
static void open_threads(struct llm_backends *b, ggml_backend_reg_t reg)
{
    struct ggml_threadpool *(*create)(struct ggml_threadpool_params *) =
        (struct ggml_threadpool * (*)(struct ggml_threadpool_params *))
            ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_new");
    void (*set)(ggml_backend_t, struct ggml_threadpool *) =
        (void (*)(ggml_backend_t, struct ggml_threadpool *))ggml_backend_reg_get_proc_address(
            reg, "ggml_backend_cpu_set_threadpool");
    ggml_backend_set_n_threads_t set_n =
        (ggml_backend_set_n_threads_t)ggml_backend_reg_get_proc_address(
            reg, "ggml_backend_set_n_threads");
    struct ggml_threadpool_params params = ggml_threadpool_params_default(b->n_threads);
    if (set_n) set_n(b->cpu, b->n_threads);
    if (create && set) b->threads = create(&params);
    if (b->threads) set(b->cpu, b->threads);
}

static sl_status open_cpu(struct llm_backends *b, struct sl_err *err)
{
    ggml_backend_dev_t dev = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    b->cpu = dev ? ggml_backend_dev_init(dev, NULL) : NULL;
    if (!b->cpu) return sl_err_set(err, SL_UNAVAILABLE, "ggml: the CPU backend does not start");
    open_threads(b, ggml_backend_dev_backend_reg(dev));
    return SL_OK;
}

static void open_gpu(struct llm_backends *b)
{
    ggml_backend_dev_t dev = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU);
    if (!dev) dev = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU);
    b->gpu = dev ? ggml_backend_dev_init(dev, NULL) : NULL;
    if (dev && !b->gpu)
        sl_log(SL_LOG_WARN, "llm", "%s does not start; using the CPU", ggml_backend_dev_name(dev));
}

sl_status llm_backends_open(struct llm_backends *b, int32_t n_threads, bool want_gpu,
                            struct sl_err *err)
{
    sl_status status = llm_backends_load(err);
    *b = (struct llm_backends){.n_threads = n_threads > 0 ? n_threads : sl_cpu_count()};
    if (status == SL_OK) status = open_cpu(b, err);
    if (status != SL_OK) return status;
    if (want_gpu) open_gpu(b);
    if (b->gpu) b->list[b->n++] = b->gpu;
    b->list[b->n++] = b->cpu;
    return SL_OK;
}

void llm_backends_close(struct llm_backends *b)
{
    void (*destroy)(struct ggml_threadpool *) = NULL;
    if (b->threads) {
        ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(b->cpu));
        destroy = (void (*)(struct ggml_threadpool *))ggml_backend_reg_get_proc_address(
            reg, "ggml_threadpool_free");
    }
    for (int i = 0; i < b->n; i++) ggml_backend_free(b->list[i]);
    if (destroy) destroy(b->threads);
    *b = (struct llm_backends){0};
}
