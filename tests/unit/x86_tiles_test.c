/* x86_tiles_test.c: products of tiles against plain C, and what a tile unit refuses; on a processor
 * without tiles its emulator does both. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/cpu.h"
#include "base/trial.h"
#include "base/x86_tiles.h"
#include "support/tile_emulator.h"

#if defined(__x86_64__)
#define PATIENCE_MS 60000
#define STRIDE 80 /* bytes; rows in memory stand further apart than in a tile */
#define UNTOUCHED 0x5a5a5a5a

static struct tile_config config_of(int rows, int cols, int words)
{
    struct tile_config c = {.palette = 1};
    c.rows[0] = c.rows[1] = (uint8_t)rows;
    c.row_bytes[0] = c.row_bytes[2] = (uint16_t)(4 * cols);
    c.row_bytes[1] = (uint16_t)(4 * words);
    c.rows[2] = (uint8_t)words;
    return c;
}

/* Tile 0 = tile 1 times tile 2, twice. */
static void check_shape(int rows, int cols, int words)
{
    struct tile_config config = config_of(rows, cols, words);
    int8_t a[TILE_ROWS][STRIDE], b[TILE_ROWS][STRIDE];
    int32_t sums[TILE_ROWS][TILE_ROWS];
    for (int i = 0; i < TILE_ROWS * STRIDE; i++) {
        a[i / STRIDE][i % STRIDE] = (int8_t)(i * 37 + rows);
        b[i / STRIDE][i % STRIDE] = (int8_t)(i * 91 + cols);
    }
    for (int i = 0; i < TILE_ROWS * TILE_ROWS; i++) sums[i / TILE_ROWS][i % TILE_ROWS] = UNTOUCHED;
    tile_configure(&config);
    tile_zero(0);
    tile_load(1, a, STRIDE);
    tile_load(2, b, STRIDE);
    tile_dot(0, 1, 2);
    tile_dot(0, 1, 2);
    tile_store(0, sums, sizeof *sums);
    tile_release();
    assert_false(tile_emulator_configured());
    for (int r = 0; r < TILE_ROWS; r++) {
        for (int c = 0; c < TILE_ROWS; c++) {
            int32_t sum = 0;
            for (int k = 0; k < 4 * words; k++) sum += 2 * a[r][k] * b[k / 4][4 * c + k % 4];
            assert_int_equal(sums[r][c], r < rows && c < cols ? sum : UNTOUCHED);
        }
    }
}

static void products_are_those_of_plain_c(void **state)
{
    (void)state;
    static const int sizes[] = {1, 3, 8, 16};
    if (!sl_cpu_has(SL_CPU_AMX_INT8)) tile_emulator_install();
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < 4; c++)
            for (int w = 0; w < 4; w++) check_shape(sizes[r], sizes[c], sizes[w]);
}

static bool accepts(void *ctx)
{
    const struct tile_config *config = ctx;
    if (!sl_cpu_has(SL_CPU_AMX_INT8)) tile_emulator_install();
    tile_configure(config);
    tile_zero(0);
    tile_dot(0, 1, 2);
    return true;
}

static enum sl_trial_end outcome(struct tile_config config)
{
    struct sl_trial trial = {accepts, &config, PATIENCE_MS};
    return sl_trial_run(&trial);
}

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    struct tile_config good = config_of(16, 16, 16), bad;
    assert_int_equal(outcome(good), SL_TRIAL_GOOD);
    bad = good, bad.palette = 2;
    assert_int_equal(outcome(bad), SL_TRIAL_DIED);
    bad = good, bad.palette = 0; /* legal, but then there are no tiles */
    assert_int_equal(outcome(bad), SL_TRIAL_DIED);
    bad = good, bad.reserved[13] = 1;
    assert_int_equal(outcome(bad), SL_TRIAL_DIED);
    bad = good, bad.rows[3] = 17, bad.row_bytes[3] = 64;
    assert_int_equal(outcome(bad), SL_TRIAL_DIED);
    bad = good, bad.rows[3] = 1, bad.row_bytes[3] = 65;
    assert_int_equal(outcome(bad), SL_TRIAL_DIED);
    bad = good, bad.rows[3] = 1; /* without bytes */
    assert_int_equal(outcome(bad), SL_TRIAL_DIED);
    bad = good, bad.rows[8] = 1, bad.row_bytes[8] = 4; /* there are eight */
    assert_int_equal(outcome(bad), SL_TRIAL_DIED);
    bad = good, bad.rows[2] = 8; /* tile 1's rows are of 16 words */
    assert_int_equal(outcome(bad), SL_TRIAL_DIED);
    /* gcc 12's _tile_loadconfig, of which the first eight bytes arrive */
    memset(&bad, 0, sizeof bad);
    memcpy(&bad, &good, 8);
    assert_int_equal(outcome(bad), SL_TRIAL_DIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_plain_c),
        cmocka_unit_test(bad_configurations_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
static void other_processors_have_no_tiles(void **state)
{
    (void)state;
    assert_non_null(sl_cpu_amx_problem());
    assert_false(tile_emulator_install());
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(other_processors_have_no_tiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
