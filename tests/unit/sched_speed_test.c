/* Measured speeds: what counts, and how they recover. */
#include "sched/speed.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void assert_near(double value, double expected)
{
    assert_true(fabs(value - expected) <= 1e-9 * expected);
}

static void test_unknown(void **state)
{
    struct speed speed = {0};
    (void)state;
    assert_true(speed_value(&speed) == 0);
    speed_take(&speed, 0, 1);
    speed_take(&speed, 1, 0);
    speed_take(&speed, 1, -1);
    speed_take(&speed, NAN, 1);
    speed_rest(&speed, 60);
    assert_true(speed_value(&speed) == 0);
    speed_take(&speed, 30, 2);
    assert_near(speed_value(&speed), 15);
}

static void test_assumed(void **state)
{
    struct speed speed;
    (void)state;
    speed_assume(&speed, 250);
    assert_near(speed_value(&speed), 250);
    speed_assume(&speed, 0);
    assert_true(speed_value(&speed) == 0);
}

/* A hundred small ones that took mostly a step's fixed part do not hide what large ones take. */
static void test_large_ones_count_more(void **state)
{
    struct speed speed = {0};
    (void)state;
    for (int i = 0; i < 100; i++) speed_take(&speed, 10, 0.1); /* 100 a second */
    speed_take(&speed, 2000, 1);
    assert_true(speed_value(&speed) > 1000);
}

static void test_latest_count_most(void **state)
{
    struct speed speed = {0};
    (void)state;
    for (int i = 0; i < 100; i++) speed_take(&speed, 100, 1);
    for (int i = 0; i < 40; i++) speed_take(&speed, 50, 1);
    assert_true(speed_value(&speed) > 50 && speed_value(&speed) < 51);
}

static void test_rest(void **state)
{
    struct speed speed = {0};
    (void)state;
    for (int i = 0; i < 20; i++) speed_take(&speed, 100, 1);
    for (int i = 0; i < 20; i++) speed_take(&speed, 10, 1); /* overrun */
    double overrun = speed_value(&speed);
    assert_true(overrun < 25);
    speed_rest(&speed, 1);
    double rested = speed_value(&speed);
    assert_true(rested > overrun);
    speed_rest(&speed, 0);
    speed_rest(&speed, -5);
    assert_near(speed_value(&speed), rested);
    speed_rest(&speed, 60);
    assert_true(speed_value(&speed) > 80 && speed_value(&speed) <= 100);
    for (int i = 0; i < 1000; i++) speed_take(&speed, 10, 1); /* it has become slow for good */
    speed_rest(&speed, 60);
    assert_true(speed_value(&speed) < 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_assumed),
        cmocka_unit_test(test_large_ones_count_more),
        cmocka_unit_test(test_latest_count_most),
        cmocka_unit_test(test_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
