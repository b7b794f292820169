/* onnx/onnx_options.h: what may be said of how a model runs. */
#include "exec/onnx/onnx_options.h"
#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka needs what stands above */
#include <cmocka.h>

static void test_defaults(void **state)
{
    static const char *const nothing[] = {NULL, "", "{}"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct onnx_options o;
        struct sl_err err = SL_ERR_INIT;
        assert_int_equal(onnx_options_parse(nothing[i], &o, &err), SL_OK);
        assert_int_equal(o.n_providers, ORT_PROVIDER_COUNT);
        assert_int_equal(o.providers[0], ORT_PROVIDER_TENSORRT);
        assert_int_equal(o.providers[ORT_PROVIDER_COUNT - 1], ORT_PROVIDER_CPU);
        assert_int_equal(o.instances, 1);
        assert_int_equal(o.batch_max, 0);
        assert_true(o.warm_up && o.memory_arena && o.spin && !o.truncate && !o.providers_given);
        assert_int_equal(o.optimization, ORT_ABI_OPTIMIZE_ALL);
    }
}

static void test_all(void **state)
{
    static const char text[] =
        "{\"providers\":[\"cuda\",\"cpu\"],\"batch_max\":8,\"batch_delay_us\":500,\"instances\":2,"
        "\"threads\":3,\"warm_up\":false,\"graph_optimization\":\"basic\",\"pooling\":\"cls\","
        "\"max_tokens\":128,\"truncate\":true,\"queue_max\":7,\"memory_arena\":false,"
        "\"device_id\":1,\"spin\":false}";
    struct onnx_options o;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    assert_int_equal(onnx_options_parse(text, &o, &err), SL_OK);
    assert_int_equal(o.n_providers, 2);
    assert_int_equal(o.providers[0], ORT_PROVIDER_CUDA);
    assert_int_equal(o.providers[1], ORT_PROVIDER_CPU);
    assert_true(o.providers_given && o.truncate && !o.warm_up && !o.memory_arena && !o.spin);
    assert_int_equal(o.batch_max, 8);
    assert_int_equal(o.batch_delay_us, 500);
    assert_int_equal(o.instances, 2);
    assert_int_equal(o.threads, 3);
    assert_int_equal(o.queue_max, 7);
    assert_int_equal(o.max_tokens, 128);
    assert_int_equal(o.device_id, 1);
    assert_int_equal(o.optimization, ORT_ABI_OPTIMIZE_BASIC);
    assert_int_equal(o.pooling, ENGINE_POOLING_CLS);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[]", "an object is wanted"},
        {"{", "line 1"},
        {"{\"batchmax\":8}", "option \"batchmax\": there is no such option"},
        {"{\"batch_max\":1025}", "option \"batch_max\": a whole number from 0 to 1024"},
        {"{\"batch_max\":\"8\"}", "a whole number"},
        {"{\"batch_max\":1.5}", "a whole number"},
        {"{\"instances\":0}", "from 1 to 64"},
        {"{\"batch_delay_us\":-1}", "from 0 to 1000000"},
        {"{\"warm_up\":1}", "true or false"},
        {"{\"graph_optimization\":\"most\"}", "\"none\", \"basic\", \"extended\" or \"all\""},
        {"{\"pooling\":\"max\"}", "\"mean\""},
        {"{\"providers\":\"cpu\"}", "a list of 1 to 8 names"},
        {"{\"providers\":[]}", "a list of 1 to 8 names"},
        {"{\"providers\":[\"gpu\"]}", "no execution provider \"gpu\""},
        {"{\"providers\":[\"cpu\",\"cpu\"]}", "cpu stands there twice"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct onnx_options o;
        struct sl_err err = SL_ERR_INIT;
        assert_int_equal(onnx_options_parse(cases[i].text, &o, &err), SL_INVALID);
        if (!strstr(err.text, cases[i].says)) fail_msg("%s: %s", cases[i].text, err.text);
    }
}

static void test_no_memory(void **state)
{
    sl_status status = SL_NOMEM;
    uint64_t before = sl_mem_live();
    (void)state;
    for (uint64_t n = 1; status != SL_OK; n++) {
        struct onnx_options o;
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(n, false);
        status = onnx_options_parse("{\"providers\":[\"cpu\"],\"threads\":1}", &o, &err);
        sl_mem_fail_at(0, false);
        if (status != SL_OK) assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
