/* trial_test.c: whatever a trial's code does, the caller learns it, in time, and nothing of it
 * remains. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/trial.h"

#define PATIENCE_MS 60000 /* for code that ends */
#define SHORT_MS 50       /* for code that does not */

static bool answers(void *ctx)
{
    return *(bool *)ctx;
}

static bool raises(void *ctx)
{
    raise(*(int *)ctx);
    return true;
}

static bool leaves(void *ctx)
{
    (void)ctx;
    _exit(0);
}

static bool hangs(void *ctx)
{
    (void)ctx;
    for (;;) pause();
    return true;
}

static void nothing_remains(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static enum sl_trial_end outcome(bool (*run)(void *), void *ctx, int limit_ms)
{
    struct sl_trial trial = {run, ctx, limit_ms};
    enum sl_trial_end end = sl_trial_run(&trial);
    nothing_remains();
    return end;
}

static void the_answer_is_told(void **state)
{
    (void)state;
    bool good = true, wrong = false;
    assert_int_equal(outcome(answers, &good, PATIENCE_MS), SL_TRIAL_GOOD);
    assert_int_equal(outcome(answers, &wrong, PATIENCE_MS), SL_TRIAL_WRONG);
}

static void a_child_that_dies_is_told(void **state)
{
    (void)state;
    static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGKILL};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        int signal_number = signals[i];
        assert_int_equal(outcome(raises, &signal_number, PATIENCE_MS), SL_TRIAL_DIED);
    }
    assert_int_equal(outcome(leaves, NULL, PATIENCE_MS), SL_TRIAL_DIED);
}

static int n_reports;

static void report(int signal_number)
{
    (void)signal_number;
    n_reports++;
}

/* A handler that goes on would hide the crash, or report it as the parent's. */
static void handlers_of_the_parent_do_not_see_it(void **state)
{
    (void)state;
    int signal_number = SIGILL;
    void (*before)(int) = signal(SIGILL, report);
    assert_int_equal(outcome(raises, &signal_number, PATIENCE_MS), SL_TRIAL_DIED);
    assert_ptr_equal(signal(SIGILL, before), report);
    assert_int_equal(n_reports, 0);
}

static void a_child_that_hangs_is_killed(void **state)
{
    (void)state;
    assert_int_equal(outcome(hangs, NULL, SHORT_MS), SL_TRIAL_LATE);
}

static void it_works_where_children_are_not_waited_for(void **state)
{
    (void)state;
    bool good = true;
    void (*before)(int) = signal(SIGCHLD, SIG_IGN);
    assert_int_equal(outcome(answers, &good, PATIENCE_MS), SL_TRIAL_GOOD);
    assert_int_equal(outcome(hangs, NULL, SHORT_MS), SL_TRIAL_LATE);
    signal(SIGCHLD, before);
}

static void every_end_has_its_words(void **state)
{
    (void)state;
    assert_null(sl_trial_text(SL_TRIAL_GOOD));
    for (int a = SL_TRIAL_WRONG; a <= SL_TRIAL_NOT_STARTED; a++)
        for (int b = SL_TRIAL_WRONG; b < a; b++)
            assert_string_not_equal(sl_trial_text((enum sl_trial_end)a),
                                    sl_trial_text((enum sl_trial_end)b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_told),
        cmocka_unit_test(a_child_that_dies_is_told),
        cmocka_unit_test(handlers_of_the_parent_do_not_see_it),
        cmocka_unit_test(a_child_that_hangs_is_killed),
        cmocka_unit_test(it_works_where_children_are_not_waited_for),
        cmocka_unit_test(every_end_has_its_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
