/* cpu_test.c: the machine's answers must agree with each other and with the kernel's own list. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/mem.h"

static void every_feature_has_its_own_name(void **state)
{
    (void)state;
    for (int i = 0; i < SL_CPU_FEATURE_COUNT; i++) {
        assert_true(strlen(sl_cpu_feature_name((enum sl_cpu_feature)i)) >= 3);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(sl_cpu_feature_name((enum sl_cpu_feature)i),
                                    sl_cpu_feature_name((enum sl_cpu_feature)j));
        }
    }
    assert_string_equal(sl_cpu_feature_name(SL_CPU_FEATURE_COUNT), "unknown");
    assert_false(sl_cpu_has(SL_CPU_FEATURE_COUNT));
}

static void wide_features_imply_the_narrow_ones(void **state)
{
    (void)state;
    static const enum sl_cpu_feature implies[][2] = {
        {SL_CPU_AVX2, SL_CPU_AVX},           {SL_CPU_AVX512, SL_CPU_AVX2},
        {SL_CPU_AVX512_VNNI, SL_CPU_AVX512}, {SL_CPU_AVX512_BF16, SL_CPU_AVX512},
        {SL_CPU_SVE2, SL_CPU_SVE},           {SL_CPU_DOTPROD, SL_CPU_NEON},
    };
    for (size_t i = 0; i < sizeof implies / sizeof implies[0]; i++) {
        if (sl_cpu_has(implies[i][0])) assert_true(sl_cpu_has(implies[i][1]));
    }
    assert_false(sl_cpu_has(SL_CPU_SSE42) && sl_cpu_has(SL_CPU_NEON));
}

#if defined(__x86_64__)
/* The kernel's list of flags, with a blank before and after each. */
static void read_kernel_flags(char *flags, size_t cap)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    flags[0] = '\0';
    if (!file) return;
    while (fgets(flags, (int)cap, file)) {
        if (strncmp(flags, "flags", 5) == 0) break;
        flags[0] = '\0';
    }
    fclose(file);
    flags[strcspn(flags, "\n")] = ' ';
}

static void x86_features_are_those_the_kernel_lists(void **state)
{
    (void)state;
    static const struct {
        enum sl_cpu_feature feature;
        const char *flag;
    } rows[] = {
        {SL_CPU_SSE42, " sse4_2 "},
        {SL_CPU_AVX, " avx "},
        {SL_CPU_F16C, " f16c "},
        {SL_CPU_FMA, " fma "},
        {SL_CPU_AVX2, " avx2 "},
        {SL_CPU_BMI2, " bmi2 "},
        {SL_CPU_AVX_VNNI, " avx_vnni "},
        {SL_CPU_AVX512, " avx512vl "},
        {SL_CPU_AVX512_VBMI, " avx512vbmi "},
        {SL_CPU_AVX512_VNNI, " avx512_vnni "},
    };
    static char flags[16384];
    read_kernel_flags(flags, sizeof flags - 1);
    if (!flags[0]) skip();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (sl_cpu_has(rows[i].feature) != (strstr(flags, rows[i].flag) != NULL)) {
            fail_msg("the kernel disagrees on%s", rows[i].flag);
        }
    }
    /* The trial may fail where the flag stands, never the other way round. */
    if (sl_cpu_has(SL_CPU_AMX_INT8)) assert_non_null(strstr(flags, " amx_int8 "));
    if (sl_cpu_has(SL_CPU_AMX_BF16)) assert_non_null(strstr(flags, " amx_bf16 "));
}
#else
static void x86_features_are_those_the_kernel_lists(void **state)
{
    (void)state;
    assert_false(sl_cpu_has(SL_CPU_AVX) || sl_cpu_has(SL_CPU_AMX_INT8));
}
#endif

static void the_amx_answer_is_given_twice_alike(void **state)
{
    (void)state;
    bool first = sl_cpu_has(SL_CPU_AMX_INT8);
    assert_int_equal(sl_cpu_has(SL_CPU_AMX_INT8), first);
    assert_int_equal(sl_cpu_amx_problem() == NULL, first);
}

static void counts_and_sizes_are_plausible(void **state)
{
    (void)state;
    assert_in_range(sl_cpu_count(), 1, 65536);
    assert_true(sl_mem_total_bytes() > 16u << 20);
    assert_true(sl_mem_available_bytes() <= sl_mem_total_bytes());
    assert_true(sl_mem_rss_bytes() > 4096);
    assert_true(sl_mem_rss_peak_bytes() > 4096);
    assert_true(strlen(sl_cpu_model()) > 0);
}

static void vectors_of_sve_are_whole_quadwords(void **state)
{
    (void)state;
    assert_int_equal(sl_cpu_sve_bytes() % 16, 0);
    assert_int_equal(sl_cpu_sve_bytes() > 0, sl_cpu_has(SL_CPU_SVE));
}

static void touched_memory_shows_in_rss(void **state)
{
    (void)state;
    size_t n_bytes = 64u << 20;
    uint64_t before = sl_mem_rss_bytes();
    char *p = sl_malloc(n_bytes);
    assert_non_null(p);
    for (size_t i = 0; i < n_bytes; i += 4096) ((volatile char *)p)[i] = 1;
    assert_true(sl_mem_rss_bytes() > before + n_bytes / 2);
    assert_true(sl_mem_rss_peak_bytes() > before + n_bytes / 2);
    sl_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_feature_has_its_own_name),
        cmocka_unit_test(wide_features_imply_the_narrow_ones),
        cmocka_unit_test(x86_features_are_those_the_kernel_lists),
        cmocka_unit_test(the_amx_answer_is_given_twice_alike),
        cmocka_unit_test(counts_and_sizes_are_plausible),
        cmocka_unit_test(vectors_of_sve_are_whole_quadwords),
        cmocka_unit_test(touched_memory_shows_in_rss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
