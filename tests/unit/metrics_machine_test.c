/* metrics_machine_test.c: a sample of telemetry as Prometheus text. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "access/metrics_machine.h"
#include "grid/telemetry.h"
#include "support/metrics_text.h"
#include "support/no_memory.h"

static struct telemetry_sample full_sample(void)
{
    struct telemetry_sample sample;
    telemetry_sample_init(&sample);
    sample.cpu_fraction = 0.25;
    sample.memory_total_bytes = 1e9;
    sample.watts = 150;
    sample.power = TELEMETRY_POWER_MODELLED;
    sample.joules = 1234;
    sample.n_accelerators = 2;
    for (int i = 0; i < 2; i++)
        sample.accelerators[i] = (struct telemetry_accelerator){.vendor = TELEMETRY_AMD,
                                                                .name = "a \"b\" \\",
                                                                .utilisation = 0.5,
                                                                .memory_total_bytes = 7,
                                                                .memory_used_bytes = 3,
                                                                .watts = TELEMETRY_UNKNOWN,
                                                                .celsius = 40 + i};
    return sample;
}

static void what_is_known_is_written(void **state)
{
    (void)state;
    struct telemetry_sample sample = full_sample();
    struct sl_buf text;
    sl_buf_init(&text, METRICS_TEXT_MAX);
    assert_int_equal(metrics_write_machine(&sample, &text), SL_OK);
    assert_metrics_line(&text, "starlane_node_cpu_fraction 0.25\n");
    assert_metrics_line(&text, "starlane_node_memory_bytes 1000000000\n");
    assert_metrics_line(&text, "starlane_node_power_watts{source=\"modelled\"} 150\n");
    assert_metrics_line(&text, "# TYPE starlane_node_energy_joules_total counter\n");
    assert_metrics_line(&text, "starlane_node_energy_joules_total 1234\n");
    assert_metrics_line(&text, "starlane_node_accelerator_temperature_celsius{accelerator=\"1\","
                               "vendor=\"amd\",name=\"a \\\"b\\\" \\\\\"} 41\n");
    assert_null(strstr(text.data, "\nstarlane_node_load_1m"));
    assert_null(strstr(text.data, "\nstarlane_node_accelerator_power_watts"));
    sl_buf_done(&text);
}

static void names_are_there_without_a_sample(void **state)
{
    (void)state;
    struct telemetry_sample sample = full_sample();
    struct sl_buf without, with;
    sl_buf_init(&without, METRICS_TEXT_MAX);
    sl_buf_init(&with, METRICS_TEXT_MAX);
    assert_int_equal(metrics_write_machine(NULL, &without), SL_OK);
    assert_int_equal(metrics_write_machine(&sample, &with), SL_OK);
    assert_null(strstr(without.data, "\nstarlane_node"));
    assert_int_equal(metrics_count_text(without.data, "# TYPE "),
                     metrics_count_text(with.data, "# TYPE "));
    sl_buf_done(&without);
    sl_buf_done(&with);
}

static sl_status write_once(void *ctx)
{
    struct sl_buf text;
    sl_buf_init(&text, METRICS_TEXT_MAX);
    sl_status status = metrics_write_machine(ctx, &text);
    sl_buf_done(&text);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct telemetry_sample sample = full_sample();
    no_memory_each(write_once, &sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_known_is_written),
        cmocka_unit_test(names_are_there_without_a_sample),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
