#include "access/metrics.h"
#include "base/mem.h"
#include "support/metrics_text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define TEXT_MAX (4u << 20)

static void counters_are_by_model_under_both_names(void **state)
{
    struct metrics *metrics;
    struct sl_buf text;
    (void)state;
    sl_buf_init(&text, TEXT_MAX);
    assert_int_equal(metrics_create(&metrics), SL_OK);
    metrics_count(metrics_model(metrics, "a"), METRICS_PROMPT_TOKENS, 7);
    metrics_count(metrics_model(metrics, "a"), METRICS_PROMPT_TOKENS, 3);
    metrics_count(metrics_model(metrics, "b"), METRICS_CACHED_TOKENS, 4);
    metrics_end(metrics_model(metrics, "b"), METRICS_END_LENGTH);
    assert_int_equal(metrics_write(metrics, &text), SL_OK);
    assert_metrics_line(&text, "starlane_prompt_tokens_total{model_name=\"a\"} 10\n");
    assert_metrics_line(&text, "vllm:prompt_tokens_total{model_name=\"a\"} 10\n");
    assert_metrics_line(&text, "vllm:prefix_cache_queries_total{model_name=\"a\"} 10\n");
    assert_metrics_line(&text, "vllm:prefix_cache_hits_total{model_name=\"b\"} 4\n");
    assert_metrics_line(&text,
                        "starlane_requests_total{model_name=\"b\",finished_reason=\"length\"} 1\n");
    assert_metrics_line(
        &text, "vllm:request_success_total{model_name=\"a\",finished_reason=\"length\"} 0\n");
    assert_null(strstr(text.data, "vllm:reasoning_tokens_total"));
    sl_buf_done(&text);
    metrics_destroy(metrics);
}

static void histograms_are_cumulative(void **state)
{
    struct metrics *metrics;
    struct sl_buf text;
    (void)state;
    sl_buf_init(&text, TEXT_MAX);
    assert_int_equal(metrics_create(&metrics), SL_OK);
    struct metrics_model *model = metrics_model(metrics, "m");
    metrics_observe(model, METRICS_TTFT, 1000000);      /* the bound itself belongs below */
    metrics_observe(model, METRICS_TTFT, 20000000);     /* 0.02 s */
    metrics_observe(model, METRICS_TTFT, 500000000000); /* past all */
    assert_int_equal(metrics_write(metrics, &text), SL_OK);
    assert_metrics_line(
        &text, "vllm:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"0.001\"} 1\n");
    assert_metrics_line(
        &text, "vllm:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"0.025\"} 2\n");
    assert_metrics_line(&text,
                        "vllm:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"300\"} 2\n");
    assert_metrics_line(
        &text, "vllm:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"+Inf\"} 3\n");
    assert_metrics_line(&text, "vllm:time_to_first_token_seconds_count{model_name=\"m\"} 3\n");
    assert_metrics_line(&text, "vllm:time_to_first_token_seconds_sum{model_name=\"m\"} 500.021\n");
    sl_buf_done(&text);
    metrics_destroy(metrics);
}

static void models_past_the_limit_are_other(void **state)
{
    struct metrics *metrics;
    struct sl_buf text;
    char name[32];
    (void)state;
    sl_buf_init(&text, TEXT_MAX);
    assert_int_equal(metrics_create(&metrics), SL_OK);
    for (int i = 0; i < METRICS_MODELS_MAX + 10; i++) {
        snprintf(name, sizeof name, "model-%d", i);
        metrics_count(metrics_model(metrics, name), METRICS_REPLAYS, 1);
    }
    assert_int_equal(metrics_write(metrics, &text), SL_OK);
    assert_metrics_line(&text, "starlane_requests_replayed_total{model_name=\"other\"} 10\n");
    assert_null(strstr(text.data, "model-64"));
    sl_buf_done(&text);
    metrics_destroy(metrics);
}

static void label_values_are_escaped(void **state)
{
    struct sl_buf text;
    (void)state;
    sl_buf_init(&text, 100);
    assert_int_equal(metrics_write_label(&text, "a", "q\"b\\n\n"), SL_OK);
    assert_string_equal(text.data, "a=\"q\\\"b\\\\n\\n\"");
    sl_buf_done(&text);
}

static void no_memory_counts_as_other(void **state)
{
    struct metrics *metrics;
    uint64_t live = sl_mem_live();
    (void)state;
    sl_mem_fail_at(1, false);
    assert_int_equal(metrics_create(&metrics), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_int_equal(metrics_create(&metrics), SL_OK);
    sl_mem_fail_at(1, false);
    struct metrics_model *other = metrics_model(metrics, "a");
    sl_mem_fail_at(0, false);
    assert_ptr_not_equal(other, metrics_model(metrics, "a"));
    metrics_destroy(metrics);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_are_by_model_under_both_names),
        cmocka_unit_test(histograms_are_cumulative),
        cmocka_unit_test(models_past_the_limit_are_other),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(no_memory_counts_as_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
