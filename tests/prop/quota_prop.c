/* quota_prop.c: random requests on the quota and on buckets that are filled a millisecond at a
 * time. SEED=n repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdbool.h>

#include "access/quota.h"
#include "support/prop.h"

#define N_ROUNDS 300
#define N_STEPS 200
#define RUNNING_MAX 64
#define UNIT 60000

struct bucket {
    int64_t per_min, level;
};

struct model {
    struct bucket requests, tokens;
    int64_t concurrency, now_ms;
    int64_t reserved[RUNNING_MAX]; /* of each running request */
    int n_running;
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void fill_one_ms(struct bucket *bucket)
{
    bucket->level = least(bucket->level + bucket->per_min, bucket->per_min * UNIT);
}

static bool has(const struct bucket *bucket, int64_t n)
{
    return bucket->per_min == 0 || bucket->level >= least(n, bucket->per_min) * UNIT;
}

static int64_t wait_of(struct bucket bucket, int64_t n)
{
    int64_t ms = 0;
    for (; !has(&bucket, n); ms++) fill_one_ms(&bucket);
    return ms;
}

static void pass_time(struct model *model)
{
    static const size_t most[] = {2, 50, 1000, 70000};
    int64_t ms = (int64_t)prop_draw(most[prop_draw(4)]);
    model->now_ms += ms;
    for (; ms > 0; ms--) {
        fill_one_ms(&model->requests);
        fill_one_ms(&model->tokens);
    }
}

static void step_admit(struct quota *quota, struct model *model)
{
    if (model->n_running == RUNNING_MAX) return;
    int64_t n = (int64_t)prop_draw(prop_draw(10) ? 300 : 5000);
    int64_t waits[] = {wait_of(model->requests, 1), wait_of(model->tokens, n),
                       model->concurrency && model->n_running >= model->concurrency
                           ? QUOTA_CONCURRENCY_RETRY_MS
                           : 0};
    int64_t longest = 0;
    for (int i = 0; i < 3; i++) longest = waits[i] > longest ? waits[i] : longest;
    struct quota_refusal refusal;
    assert_int_equal(quota_admit(quota, model->now_ms, n, &refusal), longest ? SL_BUSY : SL_OK);
    assert_int_equal(refusal.retry_after_ms, longest);
    assert_int_equal(refusal.limit == QUOTA_NONE, longest == 0);
    if (longest) return;
    model->requests.level -= model->requests.per_min ? UNIT : 0;
    model->tokens.level -= model->tokens.per_min ? n * UNIT : 0;
    model->reserved[model->n_running++] = n;
}

static void step_release(struct quota *quota, struct model *model)
{
    if (model->n_running == 0) return;
    size_t i = prop_draw((size_t)model->n_running);
    int64_t reserved = model->reserved[i], used = (int64_t)prop_draw(600);
    model->reserved[i] = model->reserved[--model->n_running];
    quota_release(quota, model->now_ms, reserved, used);
    if (model->tokens.per_min == 0) return;
    model->tokens.level =
        least(model->tokens.level + (reserved - used) * UNIT, model->tokens.per_min * UNIT);
}

static void assert_gauge(const struct quota_gauge *gauge, struct bucket bucket)
{
    assert_int_equal(gauge->limit, bucket.per_min);
    if (bucket.per_min == 0) return;
    assert_int_equal(gauge->remaining, bucket.level > 0 ? bucket.level / UNIT : 0);
    assert_int_equal(gauge->reset_ms, wait_of(bucket, bucket.per_min));
}

static void assert_agree(struct quota *quota, const struct model *model)
{
    struct quota_view view;
    quota_view(quota, model->now_ms, &view);
    assert_gauge(&view.requests, model->requests);
    assert_gauge(&view.tokens, model->tokens);
    assert_int_equal(quota->n_running, model->n_running);
}

static struct model random_model(void)
{
    struct model model = {.concurrency = (int64_t)prop_draw(6)};
    model.requests.per_min = prop_draw(3) ? (int64_t)prop_draw(200) : 0;
    model.tokens.per_min = prop_draw(3) ? (int64_t)(1 + prop_draw(3000)) : 0;
    model.requests.level = model.requests.per_min * UNIT;
    model.tokens.level = model.tokens.per_min * UNIT;
    return model;
}

static void random_requests_agree_with_slow_buckets(void **state)
{
    (void)state;
    for (int round = 0; round < N_ROUNDS; round++) {
        struct model model = random_model();
        struct quota quota;
        const struct quota_limits limits = {model.requests.per_min, model.tokens.per_min,
                                            model.concurrency};
        quota_init(&quota, &limits, 0);
        for (int i = 0; i < N_STEPS; i++) {
            size_t what = prop_draw(8);
            if (what < 4)
                step_admit(&quota, &model);
            else if (what < 7)
                step_release(&quota, &model);
            else
                pass_time(&model);
            if (prop_draw(8) == 0) assert_agree(&quota, &model);
        }
    }
}

int main(void)
{
    prop_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_requests_agree_with_slow_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
