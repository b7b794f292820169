/* cpu.c: processor features. x86 is asked with CPUID, and the operating system with XGETBV whether
 * it saves the wide registers; on arm64 the kernel's HWCAP bits say both at once. Bit numbers:
 * Intel SDM vol. 2A, CPUID. */
#include "base/cpu.h"

#include "base/cpu_amx.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#define MODEL_MAX 64 /* CPUID's brand string is 48 bytes */

static pthread_once_t detect_once = PTHREAD_ONCE_INIT;
static bool advertised[SL_CPU_FEATURE_COUNT];
static char model_text[MODEL_MAX] = "unknown";

static const char *const feature_names[SL_CPU_FEATURE_COUNT] = {
    [SL_CPU_SSE42] = "sse4_2",
    [SL_CPU_AVX] = "avx",
    [SL_CPU_F16C] = "f16c",
    [SL_CPU_FMA] = "fma",
    [SL_CPU_AVX2] = "avx2",
    [SL_CPU_BMI2] = "bmi2",
    [SL_CPU_AVX_VNNI] = "avx_vnni",
    [SL_CPU_AVX512] = "avx512",
    [SL_CPU_AVX512_VBMI] = "avx512_vbmi",
    [SL_CPU_AVX512_VNNI] = "avx512_vnni",
    [SL_CPU_AVX512_BF16] = "avx512_bf16",
    [SL_CPU_AVX512_FP16] = "avx512_fp16",
    [SL_CPU_AMX_INT8] = "amx_int8",
    [SL_CPU_AMX_BF16] = "amx_bf16",
    [SL_CPU_NEON] = "neon",
    [SL_CPU_DOTPROD] = "dotprod",
    [SL_CPU_I8MM] = "i8mm",
    [SL_CPU_SVE] = "sve",
    [SL_CPU_SVE2] = "sve2",
};

#if defined(__x86_64__)
#include <cpuid.h>

enum cpuid_word { LEAF1_ECX, LEAF7_EBX, LEAF7_ECX, LEAF7_EDX, LEAF7_1_EAX, N_WORDS };

/* State components the kernel must have enabled in XCR0; Intel SDM vol. 1, 13.1. */
#define XCR0_NONE 0u
#define XCR0_AVX 0x6u     /* XMM, YMM */
#define XCR0_AVX512 0xe6u /* and opmask, upper ZMM, ZMM16 to 31 */
#define XCR0_AMX 0x60000u /* TILECFG, TILEDATA */

#define AVX512_EBX (1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31) /* F, DQ, CD, BW, VL */

struct x86_feature {
    enum sl_cpu_feature feature;
    enum cpuid_word word;
    uint32_t bits; /* all must be set */
    uint32_t xcr0; /* all must be set */
};

static const struct x86_feature x86_features[] = {
    {SL_CPU_SSE42, LEAF1_ECX, 1u << 20, XCR0_NONE},
    {SL_CPU_AVX, LEAF1_ECX, 1u << 28, XCR0_AVX},
    {SL_CPU_F16C, LEAF1_ECX, 1u << 29, XCR0_AVX},
    {SL_CPU_FMA, LEAF1_ECX, 1u << 12, XCR0_AVX},
    {SL_CPU_AVX2, LEAF7_EBX, 1u << 5, XCR0_AVX},
    {SL_CPU_BMI2, LEAF7_EBX, 1u << 8, XCR0_NONE},
    {SL_CPU_AVX_VNNI, LEAF7_1_EAX, 1u << 4, XCR0_AVX},
    {SL_CPU_AVX512, LEAF7_EBX, AVX512_EBX, XCR0_AVX512},
    {SL_CPU_AVX512_VBMI, LEAF7_ECX, 1u << 1, XCR0_AVX512},
    {SL_CPU_AVX512_VNNI, LEAF7_ECX, 1u << 11, XCR0_AVX512},
    {SL_CPU_AVX512_BF16, LEAF7_1_EAX, 1u << 5, XCR0_AVX512},
    {SL_CPU_AVX512_FP16, LEAF7_EDX, 1u << 23, XCR0_AVX512},
    {SL_CPU_AMX_INT8, LEAF7_EDX, 1u << 24 | 1u << 25, XCR0_AMX}, /* with AMX-TILE */
    {SL_CPU_AMX_BF16, LEAF7_EDX, 1u << 24 | 1u << 22, XCR0_AMX},
};

static void read_cpuid(uint32_t words[N_WORDS])
{
    uint32_t eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) words[LEAF1_ECX] = ecx;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return;
    words[LEAF7_EBX] = ebx;
    words[LEAF7_ECX] = ecx;
    words[LEAF7_EDX] = edx;
    if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) words[LEAF7_1_EAX] = eax;
}

static uint32_t read_xcr0(uint32_t leaf1_ecx)
{
    if (!(leaf1_ecx & 1u << 27)) return 0; /* OSXSAVE: without it XGETBV faults */
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static void read_model(void)
{
    uint32_t regs[12];
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t *r = regs + 4 * i;
        if (!__get_cpuid(0x80000002u + i, &r[0], &r[1], &r[2], &r[3])) return;
    }
    char brand[sizeof regs + 1] = {0};
    memcpy(brand, regs, sizeof regs);
    const char *start = brand + strspn(brand, " ");
    if (*start) snprintf(model_text, sizeof model_text, "%s", start);
}

static void detect(void)
{
    uint32_t words[N_WORDS] = {0};
    read_cpuid(words);
    uint32_t xcr0 = read_xcr0(words[LEAF1_ECX]);
    for (size_t i = 0; i < sizeof x86_features / sizeof x86_features[0]; i++) {
        const struct x86_feature *f = &x86_features[i];
        advertised[f->feature] =
            (words[f->word] & f->bits) == f->bits && (xcr0 & f->xcr0) == f->xcr0;
    }
    read_model();
}

#elif defined(__aarch64__)

static void read_model(void)
{
    static const char *const paths[] = {"/sys/firmware/devicetree/base/model",
                                        "/sys/class/dmi/id/product_name"};
    for (size_t i = 0; i < 2; i++) {
        FILE *file = fopen(paths[i], "re");
        if (!file) continue;
        char text[MODEL_MAX];
        size_t n = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[n] = '\0';
        text[strcspn(text, "\n")] = '\0';
        if (!text[0]) continue;
        memcpy(model_text, text, sizeof text);
        return;
    }
}

static void detect(void)
{
    unsigned long caps = getauxval(AT_HWCAP);
    unsigned long caps2 = getauxval(AT_HWCAP2);
    advertised[SL_CPU_NEON] = caps & HWCAP_ASIMD;
    advertised[SL_CPU_DOTPROD] = caps & HWCAP_ASIMDDP;
    advertised[SL_CPU_SVE] = caps & HWCAP_SVE;
    advertised[SL_CPU_SVE2] = caps2 & HWCAP2_SVE2;
    advertised[SL_CPU_I8MM] = caps2 & HWCAP2_I8MM;
    read_model();
}

#else

static void detect(void) {}

#endif

bool sl_cpu_has(enum sl_cpu_feature feature)
{
    if ((size_t)feature >= SL_CPU_FEATURE_COUNT) return false;
    pthread_once(&detect_once, detect);
    if (!advertised[feature]) return false;
    if (feature == SL_CPU_AMX_INT8 || feature == SL_CPU_AMX_BF16) return !sl_cpu_amx_problem();
    return true;
}

const char *sl_cpu_amx_problem(void)
{
    pthread_once(&detect_once, detect);
    if (!advertised[SL_CPU_AMX_INT8]) return "is not offered by this processor";
    return sl_cpu_amx_problem_tried();
}

int sl_cpu_sve_bytes(void)
{
#if defined(__aarch64__)
    int length = sl_cpu_has(SL_CPU_SVE) ? prctl(PR_SVE_GET_VL) : -1;
    return length < 0 ? 0 : length & PR_SVE_VL_LEN_MASK;
#else
    return 0;
#endif
}

const char *sl_cpu_feature_name(enum sl_cpu_feature feature)
{
    return (size_t)feature < SL_CPU_FEATURE_COUNT ? feature_names[feature] : "unknown";
}

const char *sl_cpu_model(void)
{
    pthread_once(&detect_once, detect);
    return model_text;
}
