/* backend.h: ggml's devices: which exist, loading their plug-ins, and one engine's own handles
 * to them.
 * Floor: exec/llm.  Thread: loading once per process, any thread; a `struct llm_backends`
 * belongs to its engine's thread.
 * Allocates: handles and a thread pool per engine.
 * The CPU plug-in is chosen by the features this process can really use (base/cpu.h), not by
 * CPUID alone. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LLM_DEVICES_MAX 16

struct llm_device {
    char name[64]; /* "CPU", "CUDA0" */
    char description[128];
    bool is_gpu;
    uint64_t memory_free, memory_total; /* bytes */
};

/* Loads the CPU plug-in (best variant for this machine) and every GPU plug-in found beside it.
 * Idempotent. UNAVAILABLE: no CPU plug-in; the message says where it looked.
 * STARLANE_BACKEND_DIR overrides the place. */
SL_CHECK sl_status llm_backends_load(struct sl_err *err);
const char *llm_backends_cpu_variant(void);            /* "zen4", "built-in"; "" before loading */
int llm_devices_list(struct llm_device *out, int max); /* after loading; returns the count */

struct ggml_backend;
struct ggml_threadpool;

struct llm_backends {
    /* accelerators first, the CPU last, as ggml's scheduler wants them */
    struct ggml_backend *list[LLM_DEVICES_MAX + 1];
    int n;
    struct ggml_backend *cpu;
    struct ggml_backend *gpu;        /* first accelerator, or NULL */
    struct ggml_threadpool *threads; /* the CPU's; NULL when ggml manages them itself */
    int32_t n_threads;
};

/* Opens the CPU with n_threads, and with want_gpu the first accelerator. UNAVAILABLE, NOMEM. */
SL_CHECK sl_status llm_backends_open(struct llm_backends *b, int32_t n_threads, bool want_gpu,
                                     struct sl_err *err);
void llm_backends_close(struct llm_backends *b); /* zeroed is fine */
