/* spawn_test.c: what a child has of its parent: the files that it was given, and nothing else. */
#include "base/spawn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_SIZE 256

/* What a shell script says on descriptors 1 and 5, without its last newline. */
static pid_t say(const char *script, char out[TEXT_SIZE])
{
    char shell[] = "sh", option[] = "-c", *copy = strdup(script);
    char *const argv[] = {shell, option, copy, NULL};
    int ends[2], status;
    pid_t pid;
    size_t n = 0;
    assert_non_null(copy);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    const struct sl_spawn_file files[] = {{ends[1], 5}, {5, STDOUT_FILENO}};
    assert_int_equal(sl_spawn("/bin/sh", argv, files, 2, &pid), 0);
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], out + n, TEXT_SIZE - 1 - n)) > 0;) n += (size_t)got;
    close(ends[0]);
    free(copy);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    while (n && out[n - 1] == '\n') n--;
    out[n] = '\0';
    return pid;
}

static void test_files(void **state)
{
    char text[TEXT_SIZE];
    (void)state;
    say("echo one; echo two >&5", text);
    assert_string_equal(text, "one\ntwo");
    say("cat; echo empty", text);
    assert_string_equal(text, "empty");
}

static void test_signals_and_group(void **state)
{
    char text[TEXT_SIZE], expected[32];
    sigset_t blocked, before;
    (void)state;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    assert_int_equal(sigprocmask(SIG_BLOCK, &blocked, &before), 0);
    signal(SIGUSR2, SIG_IGN);
    /* The C library keeps signals 32 and 33 for itself. */
    say("awk '/^Sig(Blk|Ign)/ {print substr($2, 10)}' /proc/self/status", text);
    assert_string_equal(text, "0000000\n0000000");
    signal(SIGUSR2, SIG_DFL);
    assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    pid_t pid = say("cut -d ' ' -f 5 /proc/$$/stat", text);
    snprintf(expected, sizeof expected, "%d", (int)pid);
    assert_string_equal(text, expected);
}

static void test_no_such_program(void **state)
{
    char name[] = "nothing";
    char *const argv[] = {name, NULL};
    pid_t pid;
    (void)state;
    assert_int_equal(sl_spawn("/nowhere/nothing", argv, NULL, 0, &pid), ENOENT);
}

static void test_self(void **state)
{
    (void)state;
    const char *before = getenv("STARLANE_BIN");
    char *kept = before ? strdup(before) : NULL;
    assert_string_equal(sl_spawn_self("/bin/sh"), "/bin/sh");
    setenv("STARLANE_BIN", "/tmp/starlane", 1);
    assert_string_equal(sl_spawn_self(NULL), "/tmp/starlane");
    setenv("STARLANE_BIN", "", 1);
    assert_string_equal(sl_spawn_self(NULL), "/proc/self/exe");
    unsetenv("STARLANE_BIN");
    assert_string_equal(sl_spawn_self(NULL), "/proc/self/exe");
    if (kept) setenv("STARLANE_BIN", kept, 1);
    free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_signals_and_group),
        cmocka_unit_test(test_no_such_program),
        cmocka_unit_test(test_self),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
