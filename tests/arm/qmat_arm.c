/* qmat_arm.c: the checks of qmat_prop for the kernels of another processor, in a program without a
 * test library, which tests/prop/qmat_arm_prop.c runs under an emulator.
 * usage: [STARLANE_KERNELS=KERNEL] qmat_arm KERNEL...
 * The kernels are those that this processor should offer, in that order; with STARLANE_KERNELS only
 * that one is checked further. Prints what is wrong and exits with 1. */
#include "exec/llm/qmat.h"
#include "support/prop.h"
#include "support/qmat_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 4
#define WORK_MAX 50000 /* multiply-adds; emulated vectors take a microsecond each */

static bool offers(const struct qmat_kernel *const *list, int n, char *const *names, int n_names)
{
    bool as_told = n == n_names;
    for (int i = 0; i < n && as_told; i++) as_told = !strcmp(list[i]->name, names[i]);
    if (as_told) return true;
    printf("this processor offers");
    for (int i = 0; i < n; i++) printf(" %s", list[i]->name);
    printf("\n");
    return false;
}

static const char *check(const struct qmat_kernel *kernel, enum qmat_type type)
{
    const char *wrong = qmat_check_alone(kernel, type);
    if (!wrong) wrong = qmat_check_scattered(kernel, type);
    if (!wrong) wrong = qmat_check_gated(kernel, type);
    for (int i = 0; i < ROUNDS && !wrong; i++) wrong = qmat_check_product(kernel, type, true);
    return wrong;
}

/* The one that STARLANE_KERNELS names, or the first. */
static bool chooses(const struct qmat_kernel *const *list, int n)
{
    const char *name = getenv("STARLANE_KERNELS");
    const struct qmat_kernel *chosen = qmat_kernel_chosen();
    if (name ? chosen && !strcmp(chosen->name, name) : chosen == (n > 1 ? list[0] : NULL))
        return true;
    printf("%s is chosen\n", chosen ? chosen->name : "none");
    return false;
}

int main(int argc, char **argv)
{
    const struct qmat_kernel *list[QMAT_KERNELS_MAX];
    int n = qmat_kernels(list);
    bool good = offers(list, n, argv + 1, argc - 1) && chooses(list, n);
    prop_begin();
    qmat_check_work_max(WORK_MAX);
    for (int i = 0; i < n; i++) {
        if (getenv("STARLANE_KERNELS") && list[i] != qmat_kernel_chosen()) continue;
        for (int type = 0; type < QMAT_TYPE_COUNT; type++) {
            const char *wrong = check(list[i], (enum qmat_type)type);
            if (wrong) printf("%s, type %d: %s\n", list[i]->name, type, wrong);
            good = good && !wrong;
        }
    }
    return good ? 0 : 1;
}
