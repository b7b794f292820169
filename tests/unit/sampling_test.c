/* sampling_test.c: how fields of requests become a sampler's settings, how wrong ones are named. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "access/sampling.h"
#include "base/mem.h"

struct fixture {
    struct sl_arena arena;
    struct sl_json_value *body;
    struct sampling sampling;
    const char *param;
    struct sl_err err;
};

static sl_status read_openai(struct fixture *f, const char *json)
{
    *f = (struct fixture){.err = SL_ERR_INIT};
    sl_arena_init(&f->arena, 1 << 20);
    assert_int_equal(sl_json_parse(json, strlen(json), &f->body, &f->err), SL_OK);
    sampling_init(&f->sampling, NULL, &f->arena);
    return sampling_read_openai(&f->sampling, f->body, &f->arena, &f->param, &f->err);
}

static void done(struct fixture *f)
{
    sl_json_free(f->body);
    sl_arena_done(&f->arena);
}

static void fields_are_taken_over(void **state)
{
    struct fixture f;
    (void)state;
    assert_int_equal(
        read_openai(&f, "{\"temperature\":0.5,\"top_p\":0.25,\"top_k\":7,\"n\":3,"
                        "\"seed\":-5,\"max_completion_tokens\":9,\"stop\":[\"a\",\"\",\"b\"],"
                        "\"logit_bias\":{\"12\":-100,\"3\":1.5},\"ignore_eos\":true}"),
        SL_OK);
    assert_float_equal(f.sampling.sampler.temp, 0.5f, 0);
    assert_float_equal(f.sampling.sampler.top_p, 0.25f, 0);
    assert_int_equal(f.sampling.sampler.top_k, 7);
    assert_int_equal(f.sampling.n_choices, 3);
    assert_true(f.sampling.sampler.seed == (uint64_t)-5);
    assert_int_equal(f.sampling.max_tokens, 9);
    assert_int_equal(f.sampling.n_stop, 2);
    assert_string_equal(f.sampling.stop[1], "b");
    assert_int_equal(f.sampling.sampler.n_bias, 2);
    assert_true(f.sampling.ignore_end);
    assert_null(f.param);
    done(&f);
}

static void nothing_and_null_leave_the_defaults(void **state)
{
    struct fixture f, g;
    (void)state;
    assert_int_equal(read_openai(&f, "{}"), SL_OK);
    assert_int_equal(read_openai(&g, "{\"temperature\":null,\"stop\":null,\"n\":null,\"seed\":null,"
                                     "\"logit_bias\":null,\"max_tokens\":null}"),
                     SL_OK);
    assert_float_equal(f.sampling.sampler.temp, g.sampling.sampler.temp, 0);
    assert_int_equal(g.sampling.n_choices, 1);
    assert_int_equal(g.sampling.max_tokens, 0);
    assert_int_equal(g.sampling.n_stop, 0);
    assert_true(f.sampling.sampler.seed != g.sampling.sampler.seed);
    done(&f);
    done(&g);
}

static void wrong_ones_are_named(void **state)
{
    static const struct {
        const char *json, *param;
    } rows[] = {
        {"{\"temperature\":2.1}", "temperature"},
        {"{\"temperature\":\"1\"}", "temperature"},
        {"{\"n\":1.5}", "n"},
        {"{\"n\":17}", "n"},
        {"{\"max_tokens\":0}", "max_tokens"},
        {"{\"max_tokens\":1e300}", "max_tokens"},
        {"{\"stop\":{}}", "stop"},
        {"{\"stop\":[1]}", "stop"},
        {"{\"stop\":\"a\\u0000b\"}", "stop"},
        {"{\"logit_bias\":{\"1x\":1}}", "logit_bias"},
        {"{\"logit_bias\":{\"99999999999\":1}}", "logit_bias"},
        {"{\"logit_bias\":{\"1\":100.5}}", "logit_bias"},
        {"{\"seed\":0.5}", "seed"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fixture f;
        assert_int_equal(read_openai(&f, rows[i].json), SL_INVALID);
        assert_string_equal(f.param, rows[i].param);
        assert_non_null(strstr(f.err.text, rows[i].param));
        done(&f);
    }
}

static void a_model_brings_its_own_defaults(void **state)
{
    static const char good[] = "{\"temperature\":0.1,\"num_predict\":5,\"stop\":[\"<end>\"]}";
    static const char bad[] = "{\"temperature\":0.1,\"top_p\":7}";
    struct sl_json_value *defaults;
    struct sampling sampling;
    struct sl_arena arena;
    struct sl_err err;
    (void)state;
    sl_arena_init(&arena, 1 << 20);
    assert_int_equal(sl_json_parse(good, strlen(good), &defaults, &err), SL_OK);
    sampling_init(&sampling, defaults, &arena);
    assert_float_equal(sampling.sampler.temp, 0.1f, 0);
    assert_int_equal(sampling.max_tokens, 5);
    assert_string_equal(sampling.stop[0], "<end>");
    sl_json_free(defaults);
    assert_int_equal(sl_json_parse(bad, strlen(bad), &defaults, &err), SL_OK);
    sampling_init(&sampling, defaults, &arena);
    assert_true(sampling.sampler.temp > 0.1f); /* wrong defaults are passed over as a whole */
    sl_json_free(defaults);
    sl_arena_done(&arena);
}

static void memory_may_run_out_anywhere(void **state)
{
    static const char json[] = "{\"stop\":[\"a\",\"b\"],\"logit_bias\":{\"1\":1}}";
    struct sl_json_value *body;
    struct sampling sampling;
    struct sl_err err;
    const char *param;
    (void)state;
    assert_int_equal(sl_json_parse(json, strlen(json), &body, &err), SL_OK);
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (int n = 1; status != SL_OK; n++) {
        struct sl_arena arena;
        sl_arena_init(&arena, 1 << 20);
        sampling_init(&sampling, NULL, &arena);
        sl_mem_fail_at((uint64_t)n, false);
        status = sampling_read_openai(&sampling, body, &arena, &param, &err);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        assert_true(n < 100);
        sl_arena_done(&arena);
        assert_int_equal(sl_mem_live(), live);
    }
    sl_json_free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_taken_over),
        cmocka_unit_test(nothing_and_null_leave_the_defaults),
        cmocka_unit_test(wrong_ones_are_named),
        cmocka_unit_test(a_model_brings_its_own_defaults),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
