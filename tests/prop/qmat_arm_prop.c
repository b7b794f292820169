/* The kernels for Arm (qmat.h), on processors that an emulator plays: each has other instructions,
 * so that the choice among kernels is tested too. The program is tests/arm/qmat_arm.c, built by a
 * cross compiler; without that, or without the emulator, the tests are skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define KERNELS_MAX 6

struct machine {
    const char *cpu;
    const char *only;                 /* what STARLANE_KERNELS says; NULL: all are checked */
    const char *kernels[KERNELS_MAX]; /* the fastest first, as qmat_kernels() lists them */
};

/* clang-format off */
static struct machine plain = {"cortex-a72", NULL, {"generic"}};
static struct machine dotprod = {"neoverse-n1", NULL, {"dotprod", "generic"}};
static struct machine i8mm = {"max,sve=off", NULL, {"i8mm", "dotprod", "generic"}};
static struct machine sve_alone = {"a64fx", NULL, {"sve", "generic"}}; /* of 512 bits */
static struct machine sve_128 = {"max,sve128=on", "sve", {"i8mm", "dotprod", "sve", "generic"}};
static struct machine sve_256 = {"max,sve256=on", "sve", {"i8mm", "sve", "dotprod", "generic"}};
static struct machine sve_384 = {"max,sve384=on", "sve", {"i8mm", "sve", "dotprod", "generic"}};
static struct machine sve_2048 = {"max,sve2048=on", "sve", {"i8mm", "sve", "dotprod", "generic"}};
/* clang-format on */

static void run(const struct machine *m)
{
    const char *arguments[KERNELS_MAX + 4] = {STARLANE_ARM_EMULATOR, "-cpu", m->cpu,
                                              STARLANE_ARM_PROGRAM};
    for (int i = 0; i < KERNELS_MAX && m->kernels[i]; i++) arguments[4 + i] = m->kernels[i];
    unsetenv("STARLANE_KERNELS");
    if (m->only) setenv("STARLANE_KERNELS", m->only, 1);
    execv(arguments[0], (char **)(uintptr_t)arguments);
    _exit(127);
}

static void test_machine(void **state)
{
    int status = 0;
    if (!*STARLANE_ARM_PROGRAM || !*STARLANE_ARM_EMULATOR) {
        print_message("there is no cross compiler for arm64, or no qemu-aarch64\n");
        skip();
    }
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) run(*state);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"test_plain", test_machine, NULL, NULL, &plain},
        {"test_dotprod", test_machine, NULL, NULL, &dotprod},
        {"test_i8mm", test_machine, NULL, NULL, &i8mm},
        {"test_sve_alone", test_machine, NULL, NULL, &sve_alone},
        {"test_sve_of_128_bits", test_machine, NULL, NULL, &sve_128},
        {"test_sve_of_256_bits", test_machine, NULL, NULL, &sve_256},
        {"test_sve_of_384_bits", test_machine, NULL, NULL, &sve_384},
        {"test_sve_of_2048_bits", test_machine, NULL, NULL, &sve_2048},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
