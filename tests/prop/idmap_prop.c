#include "base/idmap.h"
#include "base/mem.h"
#include "support/prop.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define N_IDS 300
#define N_STEPS 20000

static void count_entries(const struct sl_idmap *map, size_t expected)
{
    size_t at = 0, n = 0;
    while (sl_idmap_next(map, &at)) n++;
    assert_int_equal(n, expected);
    assert_int_equal(map->n_entries, expected);
}

/* Against an array: few ids, so entries come and go all the time and removals move others. */
static void behaves_like_an_array(void **state)
{
    static char values[2];
    char *model[N_IDS] = {NULL};
    struct sl_idmap map;
    size_t n = 0;
    (void)state;
    prop_begin();
    sl_idmap_init(&map);
    for (int step = 0; step < N_STEPS; step++) {
        size_t i = prop_draw(N_IDS), what = prop_draw(3);
        uint64_t id = (uint64_t)i << 32; /* only high bits differ: a poor hash collides */
        if (what == 0) {
            assert_ptr_equal(sl_idmap_take(&map, id), model[i]);
            n -= model[i] != NULL;
            model[i] = NULL;
        } else if (what == 1) {
            n += model[i] == NULL;
            model[i] = &values[prop_draw(2)];
            assert_int_equal(sl_idmap_put(&map, id, model[i]), SL_OK);
        } else {
            assert_ptr_equal(sl_idmap_get(&map, id), model[i]);
        }
        if (step % 100 == 0) count_entries(&map, n);
    }
    for (size_t i = 0; i < N_IDS; i++)
        assert_ptr_equal(sl_idmap_get(&map, (uint64_t)i << 32), model[i]);
    sl_idmap_done(&map);
}

static void no_memory_leaves_it_as_it_was(void **state)
{
    static char value;
    struct sl_idmap map;
    (void)state;
    sl_idmap_init(&map);
    assert_null(sl_idmap_get(&map, 1));
    assert_null(sl_idmap_take(&map, 1));
    for (uint64_t id = 0; id < 8; id++) assert_int_equal(sl_idmap_put(&map, id, &value), SL_OK);
    sl_mem_fail_at(1, false);
    assert_int_equal(sl_idmap_put(&map, 8, &value), SL_NOMEM);
    sl_mem_fail_at(0, false);
    count_entries(&map, 8);
    assert_null(sl_idmap_get(&map, 8));
    sl_idmap_done(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_like_an_array),
        cmocka_unit_test(no_memory_leaves_it_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
