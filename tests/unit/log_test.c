/* log_test.c: what reaches the file descriptor, and what does not. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define PIPE_TEXT_MAX 65536 /* what a pipe holds */

static int fds[2];
static char text[PIPE_TEXT_MAX + 1];

static int setup(void **state)
{
    (void)state;
    if (pipe(fds)) return -1;
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    sl_log_set_fd(fds[1]);
    sl_log_set_level(SL_LOG_WARN);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sl_log_set_fd(2);
    close(fds[0]);
    close(fds[1]);
    return 0;
}

/* Everything logged since the last call. */
static const char *logged(void)
{
    ssize_t n = read(fds[0], text, PIPE_TEXT_MAX);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* Runs before anything else has read the environment. */
static void the_environment_sets_the_first_level(void **state)
{
    (void)state;
    setenv("STARLANE_LOG", "error", 1);
    assert_int_equal(sl_log_level(), SL_LOG_ERROR);
    setenv("STARLANE_LOG", "debug", 1);
    assert_int_equal(sl_log_level(), SL_LOG_ERROR); /* read once */
    unsetenv("STARLANE_LOG");
}

static void a_line_has_time_level_module_and_message(void **state)
{
    (void)state;
    sl_log(SL_LOG_ERROR, "loop", "gave up after %d tries", 3);
    int year, month, day, hour, minute, second, ms, end = 0;
    int n = sscanf(logged(), "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &year, &month, &day, &hour, &minute,
                   &second, &ms, &end);
    assert_int_equal(n, 7);
    assert_true(year >= 2024 && month <= 12 && day <= 31 && hour < 24 && minute < 60);
    assert_string_equal(text + end, "ERROR loop: gave up after 3 tries\n");
}

static void lower_levels_are_dropped(void **state)
{
    (void)state;
    sl_log(SL_LOG_INFO, "m", "quiet");
    assert_string_equal(logged(), "");
    sl_log(SL_LOG_WARN, "m", "heard");
    assert_non_null(strstr(logged(), " WARN m: heard\n"));
    sl_log_set_level(SL_LOG_DEBUG);
    sl_log(SL_LOG_DEBUG, "m", "detail");
    assert_non_null(strstr(logged(), " DEBUG m: detail\n"));
    sl_log_set_level(SL_LOG_OFF);
    sl_log(SL_LOG_ERROR, "m", "nobody hears");
    sl_log(SL_LOG_OFF, "m", "no level to log at");
    assert_string_equal(logged(), "");
}

static void a_message_cannot_start_a_line(void **state)
{
    (void)state;
    sl_log(SL_LOG_WARN, "m", "a\nFORGED\r\x1b[2J\x7f b");
    assert_non_null(strstr(logged(), "m: a FORGED  [2J  b\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void long_lines_are_cut(void **state)
{
    (void)state;
    char longer[5000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    sl_log(SL_LOG_WARN, "m", "%s", longer);
    size_t n = strlen(logged());
    assert_in_range(n, 2000, 2048);
    assert_string_equal(text + n - 5, "x...\n");
    sl_log(SL_LOG_WARN, longer, "m"); /* a module name is ours, but a mistake must not overflow */
    n = strlen(logged());
    assert_in_range(n, 2000, 2048);
    assert_string_equal(text + n - 5, "x...\n");
}

static void errno_survives(void **state)
{
    (void)state;
    sl_log_set_fd(-1);
    errno = ENOENT;
    sl_log(SL_LOG_ERROR, "m", "goes nowhere");
    assert_int_equal(errno, ENOENT);
}

static void level_names_are_parsed(void **state)
{
    (void)state;
    enum sl_log_level level = SL_LOG_OFF;
    assert_int_equal(sl_log_level_parse("debug", &level), SL_OK);
    assert_int_equal(level, SL_LOG_DEBUG);
    assert_int_equal(sl_log_level_parse("off", &level), SL_OK);
    assert_int_equal(level, SL_LOG_OFF);
    assert_int_equal(sl_log_level_parse("loud", &level), SL_INVALID);
    assert_int_equal(sl_log_level_parse("", &level), SL_INVALID);
    assert_int_equal(level, SL_LOG_OFF);
}

#define N_THREADS 4
#define N_LINES 50

static void *log_lines(void *arg)
{
    for (int i = 0; i < N_LINES; i++) sl_log(SL_LOG_ERROR, "thread", "%s line", (const char *)arg);
    return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    pthread_t threads[N_THREADS];
    static char name[] = "some-longer-name-to-make-mixing-likely";
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, name), 0);
    for (int i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
    int n_lines = 0;
    logged();
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), n_lines++) {
        assert_string_equal(line + strlen("2025-03-01T12:00:00.250Z "),
                            "ERROR thread: some-longer-name-to-make-mixing-likely line");
    }
    assert_int_equal(n_lines, N_THREADS * N_LINES);
}

#define log_unit_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_environment_sets_the_first_level),
        log_unit_test(a_line_has_time_level_module_and_message),
        log_unit_test(lower_levels_are_dropped),
        log_unit_test(a_message_cannot_start_a_line),
        log_unit_test(long_lines_are_cut),
        log_unit_test(errno_survives),
        log_unit_test(level_names_are_parsed),
        log_unit_test(lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
