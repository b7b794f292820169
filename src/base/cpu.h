/* cpu.h: what this processor can really run: CPUID and XCR0 (the kernel saves the registers), and
 * for AMX the kernel's permission and a trial in a child process. Intel SDM vol. 1 ch. 13 and 18;
 * Linux Documentation/arch/x86/xstate.rst.
 * Floor: base.  Thread: any; the answer is computed once. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* clang-format off */
enum sl_cpu_feature {
    SL_CPU_SSE42, SL_CPU_AVX, SL_CPU_F16C, SL_CPU_FMA, SL_CPU_AVX2, SL_CPU_BMI2, SL_CPU_AVX_VNNI,
    SL_CPU_AVX512,      /* F, CD, BW, DQ and VL together */
    SL_CPU_AVX512_VBMI, SL_CPU_AVX512_VNNI, SL_CPU_AVX512_BF16, SL_CPU_AVX512_FP16,
    SL_CPU_AMX_INT8, SL_CPU_AMX_BF16,
    SL_CPU_NEON, SL_CPU_DOTPROD, SL_CPU_I8MM, SL_CPU_SVE, SL_CPU_SVE2,
    SL_CPU_FEATURE_COUNT
};
/* clang-format on */

bool sl_cpu_has(enum sl_cpu_feature feature); /* usable now, not merely advertised */
/* Why SL_CPU_AMX_INT8 is not usable, to follow its name: "dies". NULL: it is. */
const char *sl_cpu_amx_problem(void);
int sl_cpu_sve_bytes(void); /* how long a vector of SVE is in the thread that asks; 0: no SVE */
const char *sl_cpu_feature_name(enum sl_cpu_feature feature); /* "avx512_vnni" */
const char *sl_cpu_model(void);    /* "Intel(R) Xeon(R) Processor"; "unknown" */
int sl_cpu_count(void);            /* CPUs this process may use: affinity and cgroup quota */
uint64_t sl_mem_total_bytes(void); /* the machine's, or the cgroup's limit when lower */
uint64_t sl_mem_available_bytes(void);
uint64_t sl_mem_rss_bytes(void); /* this process, now */
uint64_t sl_mem_rss_peak_bytes(void);
