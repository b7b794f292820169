/* strmap_prop.c: random puts and gets on the map and on a list that is searched from end to end.
 * SEED=n repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "base/strmap.h"
#include "support/prop.h"

#define N_ROUNDS 60
#define N_STEPS 600
#define KEY_MAX 5
#define ABSENT (-1)

struct key {
    char bytes[KEY_MAX];
    size_t len;
};

/* Few letters and short, so that keys repeat and one is often the start of another. A NUL is a
 * letter too. */
static struct key draw_key(void)
{
    struct key key = {.len = prop_draw(KEY_MAX + 1)};
    for (size_t i = 0; i < key.len; i++) key.bytes[i] = "ab\0\xff"[prop_draw(4)];
    return key;
}

struct model {
    struct key keys[N_STEPS]; /* the map borrows these bytes */
    int32_t values[N_STEPS];
    size_t n;
};

static size_t model_find(const struct model *model, const struct key *key)
{
    for (size_t i = 0; i < model->n; i++) {
        if (model->keys[i].len == key->len &&
            memcmp(model->keys[i].bytes, key->bytes, key->len) == 0)
            return i;
    }
    return model->n;
}

static void step_put(struct sl_strmap *map, struct model *model)
{
    struct key key = draw_key();
    size_t at = model_find(model, &key);
    int32_t value = (int32_t)prop_draw(1000);
    model->keys[at] = key;
    if (prop_draw(30) == 0) sl_mem_fail_at(1, false);
    sl_status status = sl_strmap_put(map, model->keys[at].bytes, key.len, value);
    assert_int_equal(status, sl_mem_fail_hit() ? SL_NOMEM : SL_OK);
    sl_mem_fail_at(0, false);
    if (status != SL_OK) return;
    model->values[at] = value;
    model->n += at == model->n;
}

static void step_get(const struct sl_strmap *map, const struct model *model)
{
    struct key key = draw_key();
    size_t at = model_find(model, &key);
    int32_t expected = at < model->n ? model->values[at] : ABSENT;
    assert_int_equal(sl_strmap_get(map, key.bytes, key.len, ABSENT), expected);
}

static void random_operations_agree_with_a_list(void **state)
{
    (void)state;
    static struct model model;
    uint64_t live = sl_mem_live();
    for (int round = 0; round < N_ROUNDS; round++) {
        struct sl_strmap map;
        model.n = 0;
        assert_int_equal(sl_strmap_init(&map, prop_draw(3) * 50), SL_OK);
        for (int i = 0; i < N_STEPS; i++) {
            if (prop_draw(2)) {
                step_put(&map, &model);
            } else {
                step_get(&map, &model);
            }
            assert_int_equal(map.n_entries, model.n);
            assert_true(map.n_entries * 2 <= map.n_slots);
        }
        sl_strmap_done(&map);
        assert_int_equal(sl_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_operations_agree_with_a_list)};
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
