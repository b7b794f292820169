/* cgroup_test.c: limits read from little trees of files that look like the kernel's. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cgroup.h"

static char root[64];

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/starlane-cgroup-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info, (void)kind, (void)place;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_parents(char *path)
{
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
}

static void put_file(const char *path_below_root, const char *content)
{
    char path[512];
    snprintf(path, sizeof path, "%s%s", root, path_below_root);
    make_parents(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static struct sl_cgroup_limits read_limits(void)
{
    struct sl_cgroup_limits limits;
    sl_cgroup_read(root, &limits);
    return limits;
}

static void no_files_do_not_limit(void **state)
{
    (void)state;
    struct sl_cgroup_limits limits = read_limits();
    assert_true(limits.cpus == 0);
    assert_true(limits.memory_max_bytes == SL_CGROUP_UNLIMITED);
    assert_true(limits.memory_left_bytes == SL_CGROUP_UNLIMITED);
}

static void v2_takes_the_tightest_ancestor(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup", "0::/a/b\n");
    put_file("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    put_file("/sys/fs/cgroup/a/b/memory.max", "1000000\n");
    put_file("/sys/fs/cgroup/a/b/memory.current", "600000\n");
    put_file("/sys/fs/cgroup/a/b/memory.stat", "anon 1\ninactive_file 200000\nactive_file 5\n");
    put_file("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    put_file("/sys/fs/cgroup/a/memory.max", "5000000\n");
    put_file("/sys/fs/cgroup/a/memory.current", "4900000\n");
    struct sl_cgroup_limits limits = read_limits();
    assert_true(limits.cpus == 1.5);
    assert_true(limits.cpu_period_s == 0.1);
    assert_int_equal(limits.memory_max_bytes, 1000000);
    assert_int_equal(limits.memory_left_bytes,
                     100000); /* the parent's rest, not 600,000 of the group's own */
}

static void v2_max_is_no_limit(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup", "0::/\n");
    put_file("/sys/fs/cgroup/cpu.max", "max 100000\n");
    put_file("/sys/fs/cgroup/memory.max", "max\n");
    struct sl_cgroup_limits limits = read_limits();
    assert_true(limits.cpus == 0);
    assert_true(limits.memory_max_bytes == SL_CGROUP_UNLIMITED);
}

static void v1_finds_a_containers_files_at_the_root(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup",
             "12:memory:/docker/0123\n5:cpu,cpuacct:/docker/0123\n1:name=systemd:/x\n");
    put_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152\n");
    put_file("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1048576\n");
    put_file("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 524288\n");
    put_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n");
    put_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    struct sl_cgroup_limits limits = read_limits();
    assert_true(limits.cpus == 2.5);
    assert_true(limits.cpu_period_s == 0.1);
    assert_int_equal(limits.memory_max_bytes, 2097152);
    assert_int_equal(limits.memory_left_bytes, 2097152 - 1048576 + 524288);
}

static void v1_unlimited_values(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup", "4:memory:/\n3:cpu:/\n");
    put_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    struct sl_cgroup_limits limits = read_limits();
    assert_true(limits.cpus == 0);
    assert_true(limits.memory_max_bytes == SL_CGROUP_UNLIMITED);
}

static void an_overfull_group_has_nothing_left(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup",
             "0::/..\n"); /* a group outside our namespace: the mount point is all we see */
    put_file("/sys/fs/cgroup/memory.max", "1000\n");
    put_file("/sys/fs/cgroup/memory.current", "3000\n");
    assert_int_equal(read_limits().memory_left_bytes, 0);
}

static void cpuset_and_other_controllers_are_not_taken_for_cpu(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup", "9:cpuset:/\n8:cpuacct:/\nnonsense\n7:\n\n");
    put_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
    put_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_true(read_limits().cpus == 0);
}

static void note_visit(void *ctx, enum sl_cgroup_kind kind, const char *dir, const char *group)
{
    char *notes = ctx, line[256];
    snprintf(line, sizeof line, "%d %s %s\n", (int)kind, dir + strlen(root), group);
    strcat(notes, line);
}

static void a_visit_goes_from_the_group_to_the_root(void **state)
{
    (void)state;
    char notes[1024] = "", expected[1024];
    put_file("/proc/self/cgroup", "3:cpuacct,memory:/a/b\n2:cpu:relative\n");
    snprintf(expected, sizeof expected,
             "%d /sys/fs/cgroup/cpuacct/a/b /a/b\n%d /sys/fs/cgroup/cpuacct/a /a\n"
             "%d /sys/fs/cgroup/cpuacct \n%d /sys/fs/cgroup/memory/a/b /a/b\n"
             "%d /sys/fs/cgroup/memory/a /a\n%d /sys/fs/cgroup/memory \n"
             "%d /sys/fs/cgroup/cpu \n",
             SL_CGROUP_V1_CPUACCT, SL_CGROUP_V1_CPUACCT, SL_CGROUP_V1_CPUACCT, SL_CGROUP_V1_MEMORY,
             SL_CGROUP_V1_MEMORY, SL_CGROUP_V1_MEMORY, SL_CGROUP_V1_CPU);
    sl_cgroup_visit(root, note_visit, notes);
    assert_string_equal(notes, expected);
}

#define cgroup_unit_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cgroup_unit_test(no_files_do_not_limit),
        cgroup_unit_test(v2_takes_the_tightest_ancestor),
        cgroup_unit_test(v2_max_is_no_limit),
        cgroup_unit_test(v1_finds_a_containers_files_at_the_root),
        cgroup_unit_test(v1_unlimited_values),
        cgroup_unit_test(an_overfull_group_has_nothing_left),
        cgroup_unit_test(cpuset_and_other_controllers_are_not_taken_for_cpu),
        cgroup_unit_test(a_visit_goes_from_the_group_to_the_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
