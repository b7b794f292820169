/* telemetry_accelerator_test.c: vendors' libraries, played by tests/fakes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "grid/telemetry.h"
#include "support/file_tree.h"

#define SECOND INT64_C(1000000000)
#define FAKE(name) STARLANE_FAKES "/fake_" name ".so"

/* Two readings of a machine that has only these libraries ("" for none). */
static struct telemetry_sample read_twice(const char *nvml, const char *rocm, const char *dcmi,
                                          struct telemetry_findings *findings)
{
    struct telemetry_cfg cfg = {.root = file_tree_root(), .libraries = {nvml, rocm, dcmi}};
    struct telemetry *t = NULL;
    struct telemetry_sample sample;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(telemetry_create(&cfg, &t, &err), SL_OK);
    telemetry_read(t, SECOND, &sample);
    telemetry_read(t, 2 * SECOND, &sample);
    telemetry_findings(t, findings);
    telemetry_destroy(t);
    return sample;
}

static void assert_near(double a, double b)
{
    assert_true(fabs(a - b) <= 1e-9 * fabs(b));
}

static void assert_device_unknown(const struct telemetry_accelerator *a)
{
    assert_true(a->utilisation == TELEMETRY_UNKNOWN);
    assert_true(a->memory_total_bytes == TELEMETRY_UNKNOWN);
    assert_true(a->memory_used_bytes == TELEMETRY_UNKNOWN);
    assert_true(a->watts == TELEMETRY_UNKNOWN);
    assert_true(a->celsius == TELEMETRY_UNKNOWN);
}

static void nvml_is_read(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    struct telemetry_sample sample = read_twice(FAKE("nvml_whole"), "", "", &findings);
    const struct telemetry_accelerator *a = &sample.accelerators[0];
    assert_int_equal(sample.n_accelerators, 2);
    assert_int_equal(a->vendor, TELEMETRY_NVIDIA);
    assert_string_equal(a->name, "NVIDIA H200");
    assert_near(a->utilisation, 0.4);
    assert_near(a->memory_total_bytes, 1e12);
    assert_near(a->memory_used_bytes, 250e9);
    assert_near(a->watts, 312.5);
    assert_near(a->celsius, 51);
    /* The second is lost: it is there, and nothing is known of it. */
    assert_string_equal(sample.accelerators[1].name, "nvidia 1");
    assert_device_unknown(&sample.accelerators[1]);
    assert_int_equal(findings.vendors[TELEMETRY_NVIDIA].n_devices, 2);
    assert_string_equal(findings.vendors[TELEMETRY_NVIDIA].problem, "");
    assert_string_equal(findings.vendors[TELEMETRY_AMD].problem, "not asked for");
}

static void power_is_the_sum_of_what_is_known(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    struct telemetry_sample sample = read_twice(FAKE("nvml_whole"), "", "", &findings);
    assert_near(sample.watts, 312.5);
    assert_int_equal(sample.power, TELEMETRY_POWER_MEASURED);
    assert_int_equal(sample.power_parts, TELEMETRY_POWER_ACCELERATORS);
    sample = read_twice(FAKE("nvml_whole"), FAKE("rocm_whole"), "", &findings);
    assert_near(sample.watts, 1012.5);
}

static void a_modelled_machine_makes_the_sum_modelled(void **state)
{
    (void)state;
    struct telemetry_cfg cfg = {.root = file_tree_root(),
                                .libraries = {FAKE("nvml_whole"), "", ""},
                                .declared = {.watts_idle = 50, .watts_busy = 50}};
    struct telemetry *t = NULL;
    struct telemetry_sample sample;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(telemetry_create(&cfg, &t, &err), SL_OK);
    telemetry_read(t, SECOND, &sample);
    assert_near(sample.watts, 362.5);
    assert_int_equal(sample.power, TELEMETRY_POWER_DECLARED);
    assert_int_equal(sample.power_parts, TELEMETRY_POWER_MACHINE | TELEMETRY_POWER_ACCELERATORS);
    telemetry_destroy(t);
}

static void rocm_is_read(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    struct telemetry_sample sample = read_twice("", FAKE("rocm_whole"), "", &findings);
    const struct telemetry_accelerator *a = &sample.accelerators[0];
    assert_int_equal(sample.n_accelerators, 1);
    assert_int_equal(a->vendor, TELEMETRY_AMD);
    assert_string_equal(a->name, "AMD Instinct MI300X");
    assert_near(a->utilisation, 0.75);
    assert_near(a->memory_total_bytes, 200e9);
    assert_near(a->memory_used_bytes, 50e9);
    assert_near(a->watts, 700);
    assert_near(a->celsius, 45.5);
}

static void an_older_rocm_is_read_too(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    struct telemetry_sample sample = read_twice("", FAKE("rocm_bare"), "", &findings);
    assert_near(sample.accelerators[0].watts, 600);
    assert_near(sample.accelerators[0].celsius, 60.25);
}

static void dcmi_is_read(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    struct telemetry_sample sample = read_twice("", "", FAKE("dcmi_whole"), &findings);
    const struct telemetry_accelerator *a = &sample.accelerators[1];
    assert_int_equal(sample.n_accelerators, 2);
    assert_int_equal(a->vendor, TELEMETRY_ASCEND);
    assert_string_equal(a->name, "Ascend 910B3");
    assert_near(a->utilisation, 0.31);
    assert_near(a->memory_total_bytes, 64.0 * (1 << 30));
    assert_near(a->memory_used_bytes, 16.0 * (1 << 30));
    assert_near(a->watts, 92.5);
    assert_near(a->celsius, 44);
}

static void what_a_library_lacks_stays_unknown(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    struct telemetry_sample sample =
        read_twice(FAKE("nvml_bare"), "", FAKE("dcmi_bare"), &findings);
    assert_int_equal(sample.n_accelerators, 4);
    assert_string_equal(sample.accelerators[0].name, "nvidia 0");
    assert_string_equal(sample.accelerators[3].name, "ascend 1");
    for (int i = 0; i < 4; i++) assert_device_unknown(&sample.accelerators[i]);
    assert_true(sample.watts == TELEMETRY_UNKNOWN);
}

static void a_library_without_what_is_needed_is_left(void **state)
{
    (void)state;
    static const char *const missing[TELEMETRY_VENDOR_COUNT] = {
        "nvmlDeviceGetHandleByIndex_v2", "rsmi_num_monitor_devices", "dcmi_get_device_num_in_card"};
    struct telemetry_findings findings;
    struct telemetry_sample sample =
        read_twice(FAKE("nvml_broken"), FAKE("rocm_broken"), FAKE("dcmi_broken"), &findings);
    assert_int_equal(sample.n_accelerators, 0);
    for (int i = 0; i < TELEMETRY_VENDOR_COUNT; i++)
        assert_non_null(strstr(findings.vendors[i].problem, missing[i]));
}

static void a_library_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    struct telemetry_sample sample =
        read_twice("/nowhere/libnvidia-ml.so.1", __FILE__, "", &findings);
    assert_int_equal(sample.n_accelerators, 0);
    assert_non_null(strstr(findings.vendors[TELEMETRY_NVIDIA].problem, "libnvidia-ml.so.1"));
    assert_true(findings.vendors[TELEMETRY_AMD].problem[0] != '\0');
}

static void drivers_that_do_not_begin_say_their_error(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    setenv("FAKE_NVML", "no driver", 1);
    setenv("FAKE_ROCM", "no driver", 1);
    setenv("FAKE_DCMI", "no driver", 1);
    struct telemetry_sample sample =
        read_twice(FAKE("nvml_whole"), FAKE("rocm_whole"), FAKE("dcmi_whole"), &findings);
    assert_int_equal(sample.n_accelerators, 0);
    assert_string_equal(findings.vendors[TELEMETRY_NVIDIA].problem, "nvmlInit: error 9");
    assert_string_equal(findings.vendors[TELEMETRY_AMD].problem, "rsmi_init: error 8");
    assert_string_equal(findings.vendors[TELEMETRY_ASCEND].problem, "dcmi_init: error -8012");
}

/* Counts of billions, names without end, percentages over 100: no more devices than fit, and no
 * number that cannot be. */
static void nonsense_is_not_believed(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    setenv("FAKE_NVML", "nonsense", 1);
    setenv("FAKE_ROCM", "nonsense", 1);
    setenv("FAKE_DCMI", "nonsense", 1);
    struct telemetry_sample sample =
        read_twice(FAKE("nvml_whole"), FAKE("rocm_whole"), FAKE("dcmi_whole"), &findings);
    assert_int_equal(sample.n_accelerators, TELEMETRY_ACCELERATORS_MAX);
    for (int i = 0; i < sample.n_accelerators; i++) {
        assert_device_unknown(&sample.accelerators[i]);
        assert_true(memchr(sample.accelerators[i].name, '\0', TELEMETRY_NAME_SIZE) != NULL);
        assert_null(strchr(sample.accelerators[i].name, 0x1b));
    }
    sample = read_twice("", FAKE("rocm_whole"), "", &findings);
    assert_true(sample.accelerators[0].celsius == TELEMETRY_UNKNOWN);
    sample = read_twice("", "", FAKE("dcmi_whole"), &findings);
    assert_int_equal(sample.n_accelerators, 2);
    assert_device_unknown(&sample.accelerators[0]);
}

static void a_lost_card_stays_in_the_list(void **state)
{
    (void)state;
    struct telemetry_cfg cfg = {.root = file_tree_root(),
                                .libraries = {FAKE("nvml_whole"), "", ""}};
    struct telemetry *t = NULL;
    struct telemetry_sample sample;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(telemetry_create(&cfg, &t, &err), SL_OK);
    telemetry_read(t, SECOND, &sample);
    assert_near(sample.accelerators[0].watts, 312.5);
    setenv("FAKE_NVML", "lost", 1);
    telemetry_read(t, 2 * SECOND, &sample);
    assert_int_equal(sample.n_accelerators, 2);
    assert_string_equal(sample.accelerators[0].name, "NVIDIA H200");
    assert_device_unknown(&sample.accelerators[0]);
    assert_int_equal(sample.power, TELEMETRY_POWER_UNKNOWN);
    telemetry_destroy(t);
}

static void the_library_is_shut_down(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    setenv("FAKE_NVML_LOG", "FAKE_NVML_SAID", 1);
    read_twice(FAKE("nvml_whole"), "", "", &findings);
    assert_string_equal(getenv("FAKE_NVML_SAID"), "shut down");
}

static int setup(void **state)
{
    unsetenv("FAKE_NVML");
    unsetenv("FAKE_ROCM");
    unsetenv("FAKE_DCMI");
    return file_tree_setup(state);
}

#define in_tree(f) cmocka_unit_test_setup_teardown(f, setup, file_tree_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_tree(nvml_is_read),
        in_tree(power_is_the_sum_of_what_is_known),
        in_tree(a_modelled_machine_makes_the_sum_modelled),
        in_tree(rocm_is_read),
        in_tree(an_older_rocm_is_read_too),
        in_tree(dcmi_is_read),
        in_tree(what_a_library_lacks_stays_unknown),
        in_tree(a_library_without_what_is_needed_is_left),
        in_tree(a_library_that_is_not_there_is_named),
        in_tree(drivers_that_do_not_begin_say_their_error),
        in_tree(nonsense_is_not_believed),
        in_tree(a_lost_card_stays_in_the_list),
        in_tree(the_library_is_shut_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
