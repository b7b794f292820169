/* What onnx/ort_abi.h says of ONNX Runtime's C interface, against its header where that is
 * installed (Debian 13: libonnxruntime-dev), and against the library where there is one. */
#include "exec/onnx/ort.h"
#include "exec/onnx/ort_provider.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka needs what stands above */
#include <cmocka.h>
#if __has_include(<onnxruntime/onnxruntime_c_api.h>)
#include <onnxruntime/onnxruntime_c_api.h>
#define HAVE_HEADER 1
#else
#define HAVE_HEADER 0
#endif

static void test_places(void **state)
{
    (void)state;
#if HAVE_HEADER
#define X(place, result, name, parameters) \
    assert_int_equal(offsetof(OrtApi, name), (place) * sizeof(void *));
    ORT_FUNCTIONS(X)
#undef X
    assert_true(ORT_API_VERSION >= ORT_ABI_VERSION);
#else
    skip();
#endif
}

static void test_constants(void **state)
{
    (void)state;
#if HAVE_HEADER
    assert_int_equal(ORT_ABI_INVALID_PROTOBUF, ORT_INVALID_PROTOBUF);
    assert_int_equal(ORT_ABI_NOT_IMPLEMENTED, ORT_NOT_IMPLEMENTED);
    assert_int_equal(ORT_ABI_INVALID_GRAPH, ORT_INVALID_GRAPH);
    assert_int_equal(ORT_ABI_PROVIDER_FAIL, ORT_EP_FAIL);
    assert_int_equal(ORT_ABI_LOG_WARNING, ORT_LOGGING_LEVEL_WARNING);
    assert_int_equal(ORT_ABI_KIND_OPTIONAL, ONNX_TYPE_OPTIONAL);
    assert_int_equal(ORT_ABI_STRING, ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING);
    assert_int_equal(ORT_ABI_UINT64, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64);
    assert_int_equal(ORT_ABI_BFLOAT16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16);
    assert_int_equal(ORT_ABI_OPTIMIZE_ALL, ORT_ENABLE_ALL);
    assert_int_equal(ORT_ABI_ARENA_ALLOCATOR, OrtArenaAllocator);
    assert_int_equal(ORT_ABI_MEMORY_DEFAULT, OrtMemTypeDefault);
#else
    skip();
#endif
}

static const struct ort *runtime(void)
{
    const struct ort *ort = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (ort_load(&ort, &err) != SL_OK) {
        print_message("%s\n", err.text);
        skip();
    }
    return ort;
}

static void test_loads_once(void **state)
{
    const struct ort *ort = runtime(), *again = NULL;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    assert_int_equal(ort_load(&again, &err), SL_OK);
    assert_ptr_equal(ort, again);
    assert_true(atof(ort->version) >= 1.0);
    assert_non_null(strstr(ort->path, "onnxruntime"));
}

static void test_results(void **state)
{
    const struct ort *ort = runtime();
    struct sl_err err = SL_ERR_INIT;
    struct OrtSession *session = NULL;
    struct OrtSessionOptions *options = NULL;
    (void)state;
    assert_int_equal(ort_result(ort, NULL, &err), SL_OK);
    assert_int_equal(ort_result(ort, ort->api.CreateSessionOptions(&options), &err), SL_OK);
    assert_int_equal(
        ort_result(ort, ort->api.CreateSession(ort->env, "/nowhere.onnx", options, &session), &err),
        SL_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nowhere.onnx"));
    ort->api.ReleaseSessionOptions(options);
}

static void test_providers(void **state)
{
    const struct ort *ort = runtime();
    struct sl_err err = SL_ERR_INIT;
    enum ort_provider provider = ORT_PROVIDER_COUNT;
    (void)state;
    assert_true(ort_provider_available(ort, ORT_PROVIDER_CPU));
    for (int i = 0; i < ORT_PROVIDER_COUNT; i++) {
        assert_int_equal(
            ort_provider_parse(ort_provider_name((enum ort_provider)i), &provider, &err), SL_OK);
        assert_int_equal(provider, i);
        assert_true(strlen(ort_provider_what(provider)) > 0);
    }
    assert_int_equal(ort_provider_parse("gpu", &provider, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "\"gpu\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),     cmocka_unit_test(test_constants),
        cmocka_unit_test(test_loads_once), cmocka_unit_test(test_results),
        cmocka_unit_test(test_providers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
