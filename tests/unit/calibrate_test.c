/* calibrate_test.c: what is measured of a machine is kept, read back, and measured again when it no
 * longer holds; children that say something, nothing, nonsense, or die. The child is a script here;
 * tests/e2e measures with the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "grid/calibrate.h"
#include "net/loop.h"
#include "support/temp_dir.h"

#define VERSION "1.2.3"
#define PATIENCE_NS INT64_C(20000000000)

static struct calibration sample(void)
{
    struct calibration c = {.measured_unix_s = 1700000000, .took_s = 2.5};
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(calibration_key_now(VERSION, 3, &c.key, &err), SL_OK);
    for (int w = 0; w < SPLIT_WEIGHT_COUNT; w++) {
        c.machine.speed[w].bytes_s = 1e9 * (w + 1) + 0.125;
        for (int i = 0; i < SPLIT_CURVE; i++) c.machine.speed[w].flops_s[i] = 1e11 / (w + i + 1);
    }
    c.machine.attn_one = 1.5e9;
    c.machine.attn_many = 2.5e10;
    c.machine.step_s = 1e-6;
    c.machine.layer_s = 2.25e-6;
    c.machine.value_s = 3e-9;
    c.machine.memory_bytes_s = 1.25e10;
    c.machine.share = 0.5;
    c.machine.period_s = 0.02;
    c.machine.disk_bytes_s = 7e8;
    return c;
}

static const char *home(void)
{
    static char path[TEMP_PATH_MAX];
    snprintf(path, sizeof path, "%s", temp_path("home"));
    (void)mkdir(path, 0755);
    return path;
}

static void write_text(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

/* A program that takes whatever arguments and does this. */
static const char *program(const char *script)
{
    static char path[TEMP_PATH_MAX];
    char text[8192];
    snprintf(path, sizeof path, "%s", temp_path("program"));
    snprintf(text, sizeof text, "#!/bin/sh\n%s\n", script);
    write_text(path, text, 0755);
    return path;
}

/* One that prints the calibration. */
static const char *printer(const struct calibration *c)
{
    struct sl_buf out;
    struct sl_json json;
    char script[8192];
    sl_buf_init(&out, CALIBRATION_BYTES_MAX);
    sl_json_begin(&json, &out, false);
    calibration_put(&json, c);
    assert_int_equal(sl_json_end(&json), SL_OK);
    snprintf(script, sizeof script, "cat <<'END'\n%s\nEND", out.data);
    sl_buf_done(&out);
    return program(script);
}

static void assert_same(const struct calibration *a, const struct calibration *b)
{
    assert_true(calibration_key_equal(&a->key, &b->key));
    assert_memory_equal(&a->machine, &b->machine, sizeof a->machine);
    assert_int_equal(a->measured_unix_s, b->measured_unix_s);
}

static void test_written_and_read(void **state)
{
    struct calibration c = sample(), back;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    assert_int_equal(calibration_read(home(), &back, &err), SL_NOT_FOUND);
    assert_int_equal(calibration_write(home(), &c, &err), SL_OK);
    assert_int_equal(calibration_read(home(), &back, &err), SL_OK);
    assert_same(&c, &back);
}

static void test_key(void **state)
{
    struct calibration_key a = sample().key, b = a;
    (void)state;
    assert_int_equal(a.n_threads, 3);
    assert_string_equal(a.version, VERSION);
    assert_true(calibration_key_equal(&a, &b));
    b.n_threads = 4;
    assert_false(calibration_key_equal(&a, &b));
    b = a;
    b.cpu_quota += 0.5;
    assert_false(calibration_key_equal(&a, &b));
    b = a;
    strcpy(b.version, "1.2.4");
    assert_false(calibration_key_equal(&a, &b));
    b = a;
    strcpy(b.cpu, "another");
    assert_false(calibration_key_equal(&a, &b));
    b = a;
    strcpy(b.products, "another");
    assert_false(calibration_key_equal(&a, &b));
}

/* Of the time before it said which products were measured: it can be read, and does not hold. */
static void test_an_older_file(void **state)
{
    struct calibration old, c = sample();
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    assert_true(*c.key.products);
    *c.key.products = '\0';
    assert_int_equal(calibration_write(home(), &c, &err), SL_OK);
    assert_int_equal(calibration_read(home(), &old, &err), SL_OK);
    c = sample();
    assert_false(calibration_key_equal(&old.key, &c.key));
}

static void test_nonsense_in_the_cache(void **state)
{
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{\"version\":1}",
                                        "{\"version\":\"1\",\"cpu\":\"a\",\"variant\":\"b\","
                                        "\"threads\":0,\"cpu_quota\":0}",
                                        "{\"version\":\"1\",\"cpu\":\"a\",\"variant\":\"b\","
                                        "\"threads\":1,\"cpu_quota\":0,\"took_s\":1,"
                                        "\"machine\":{\"step_s\":-1}}"};
    struct calibration back, c = sample();
    struct sl_err err = SL_ERR_INIT;
    char path[2 * TEMP_PATH_MAX];
    (void)state;
    assert_int_equal(calibration_write(home(), &c, &err), SL_OK);
    snprintf(path, sizeof path, "%s/grid/calibration.json", home());
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_text(path, texts[i], 0644);
        assert_int_equal(calibration_read(home(), &back, &err), SL_CORRUPT);
        assert_non_null(strstr(err.text, "calibration.json"));
    }
}

static void test_run(void **state)
{
    struct calibration c = sample(), out, back;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    assert_int_equal(calibration_run(printer(&c), home(), 3, &out, &err), SL_OK);
    assert_same(&c, &out);
    assert_int_equal(calibration_read(home(), &back, &err), SL_OK);
    assert_same(&c, &back);
}

static void test_children_that_fail(void **state)
{
    static const struct {
        const char *script, *words;
    } cases[] = {{"echo no kernels here >&2; exit 1", "no kernels here"},
                 {"kill -ILL $$", "signal 4"},
                 {"exit 0", "line 1"},
                 {"echo '{}'", "version"},
                 {"head -c 200000 /dev/zero", "more than"},
                 {"exec >&- 2>&-; exec sleep 1000", "signal 9"}};
    struct calibration out, back;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_not_equal(calibration_run(program(cases[i].script), home(), 1, &out, &err),
                             SL_OK);
        if (!strstr(err.text, cases[i].words)) fail_msg("%s: %s", cases[i].script, err.text);
    }
    assert_int_not_equal(calibration_run("/nowhere", home(), 1, &out, &err), SL_OK);
    assert_int_equal(calibration_read(home(), &back, &err), SL_NOT_FOUND);
}

/* --- the service's --- */

static struct loop *loop;

static int setup(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(loop_create(0, &loop, &err), SL_OK);
    return temp_dir_setup(state);
}

static int teardown(void **state)
{
    loop_destroy(loop);
    return temp_dir_teardown(state);
}

static struct calibrator_cfg cfg_of(const char *exe)
{
    return (struct calibrator_cfg){
        .loop = loop, .home = home(), .version = VERSION, .program = exe, .n_threads = 3};
}

static void wait_for_machine(const struct calibrator *calibrator)
{
    int64_t end_ns = sl_now_ns() + PATIENCE_NS;
    struct sl_err err = SL_ERR_INIT;
    while (!calibrator_machine(calibrator)) {
        assert_true(sl_now_ns() < end_ns);
        assert_int_equal(loop_turn(loop, 20000000, &err), SL_OK);
    }
}

static void test_measures_in_the_background(void **state)
{
    struct calibration c = sample();
    struct calibrator_cfg cfg = cfg_of(printer(&c));
    struct calibrator *calibrator;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    assert_null(calibrator_machine(NULL));
    assert_int_equal(calibrator_create(&cfg, &calibrator, &err), SL_OK);
    assert_null(calibrator_machine(calibrator));
    wait_for_machine(calibrator);
    assert_memory_equal(calibrator_machine(calibrator), &c.machine, sizeof c.machine);
    calibrator_destroy(calibrator);
    /* Now it is known from the start, and no program is asked. */
    cfg.program = "/nowhere";
    assert_int_equal(calibrator_create(&cfg, &calibrator, &err), SL_OK);
    assert_non_null(calibrator_machine(calibrator));
    calibrator_destroy(calibrator);
    /* Of other threads nothing is known. */
    cfg.n_threads = 2;
    assert_int_equal(calibrator_create(&cfg, &calibrator, &err), SL_OK);
    assert_null(calibrator_machine(calibrator));
    calibrator_destroy(calibrator);
}

static void test_ends_with_its_child(void **state)
{
    struct calibrator_cfg cfg = cfg_of(program("echo $$ > \"$0.pid\"; exec sleep 1000"));
    struct calibrator *calibrator;
    struct sl_err err = SL_ERR_INIT;
    struct stat info;
    int64_t end_ns = sl_now_ns() + PATIENCE_NS;
    long pid = 0;
    char path[64];
    (void)state;
    assert_int_equal(calibrator_create(&cfg, &calibrator, &err), SL_OK);
    while (pid == 0) {
        FILE *file = fopen(temp_path("program.pid"), "re");
        assert_true(sl_now_ns() < end_ns);
        assert_int_equal(loop_turn(loop, 5000000, &err), SL_OK);
        if (file && fscanf(file, "%ld", &pid) != 1) pid = 0;
        if (file) fclose(file);
    }
    snprintf(path, sizeof path, "/proc/%ld", pid);
    assert_int_equal(stat(path, &info), 0);
    calibrator_destroy(calibrator);
    assert_int_not_equal(stat(path, &info), 0); /* it is reaped, too */
}

static void test_no_memory(void **state)
{
    struct calibrator_cfg cfg = cfg_of("/nowhere");
    uint64_t live;
    sl_status status = SL_NOMEM;
    (void)state;
    cfg.delay_ns = PATIENCE_NS;
    live = sl_mem_live();
    for (uint64_t n = 1; status != SL_OK; n++) {
        struct calibrator *calibrator = NULL;
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(n, false);
        status = calibrator_create(&cfg, &calibrator, &err);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        if (status == SL_OK) calibrator_destroy(calibrator);
        assert_int_equal(sl_mem_live(), live);
        assert_true(n < 10000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written_and_read, setup, teardown),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_an_older_file),
        cmocka_unit_test_setup_teardown(test_nonsense_in_the_cache, setup, teardown),
        cmocka_unit_test_setup_teardown(test_run, setup, teardown),
        cmocka_unit_test_setup_teardown(test_children_that_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(test_measures_in_the_background, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends_with_its_child, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
