/* telemetry_test.c: a machine made of files: what is read from them, and what is not believed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "grid/telemetry.h"
#include "support/file_tree.h"
#include "support/prop.h"

#define SECOND INT64_C(1000000000)

static const char NET_HEAD[] = "Inter-|   Receive    |  Transmit\n"
                               " face |bytes packets|bytes packets\n";
#define NET_LINE(name, in, out) "  " name ": " #in " 1 0 0 0 0 0 0 " #out " 1 0 0 0 0 0 0\n"

static struct telemetry_cfg cfg_of(void)
{
    return (struct telemetry_cfg){.root = file_tree_root(), .libraries = {"", "", ""}};
}

static struct telemetry *open_with(const struct telemetry_cfg *cfg)
{
    struct telemetry *t = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(telemetry_create(cfg, &t, &err), SL_OK);
    return t;
}

static struct telemetry *open_tree(void)
{
    struct telemetry_cfg cfg = cfg_of();
    return open_with(&cfg);
}

static struct telemetry_sample read_at(struct telemetry *t, int64_t second)
{
    struct telemetry_sample sample;
    telemetry_read(t, second * SECOND, &sample);
    assert_int_equal(sample.at_ns, second * SECOND);
    return sample;
}

static void assert_near(double a, double b)
{
    assert_true(fabs(a - b) <= 1e-9 * fabs(b));
}

static void put_net(const char *lines)
{
    char text[1024];
    snprintf(text, sizeof text, "%s%s", NET_HEAD, lines);
    file_tree_put("/proc/self/net/dev", text);
}

/* --- the machine --- */

static void knows_nothing_of_nothing(void **state)
{
    (void)state;
    struct telemetry_sample unknown;
    struct telemetry *t = open_tree();
    telemetry_sample_init(&unknown);
    for (int i = 1; i <= 3; i++) {
        struct telemetry_sample sample = read_at(t, i);
        unknown.at_ns = sample.at_ns;
        assert_memory_equal(&sample, &unknown, sizeof sample);
    }
    telemetry_destroy(t);
}

static void cpu_is_what_was_not_idle(void **state)
{
    (void)state;
    file_tree_put("/proc/stat",
                  "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nx 1\n");
    file_tree_put("/proc/loadavg", "1.25 0.5 0.1 2/345 678\n");
    struct telemetry *t = open_tree();
    struct telemetry_sample sample = read_at(t, 1);
    assert_true(sample.cpus == 2);
    assert_true(sample.cpu_fraction == TELEMETRY_UNKNOWN);
    assert_true(sample.load_1m == 1.25);
    /* 30 user, 20 system, 10 stolen; 30 idle and 10 waiting for disks are not busy. */
    file_tree_put("/proc/stat", "cpu  130 0 120 830 10 0 0 10 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\n");
    sample = read_at(t, 2);
    assert_near(sample.cpu_fraction, 0.6);
    /* Counters that stand still, or go back, say nothing. */
    assert_true(read_at(t, 3).cpu_fraction == TELEMETRY_UNKNOWN);
    file_tree_put("/proc/stat", "cpu  1 0 1 1 0 0 0 0\n");
    assert_true(read_at(t, 4).cpu_fraction == TELEMETRY_UNKNOWN);
    telemetry_destroy(t);
}

static void memory_is_in_bytes(void **state)
{
    (void)state;
    file_tree_put("/proc/meminfo",
                  "MemTotal:       8000 kB\nMemFree: 1 kB\nMemAvailable:   3000 kB\n");
    struct telemetry *t = open_tree();
    struct telemetry_sample sample = read_at(t, 1);
    assert_true(sample.memory_total_bytes == 8000.0 * 1024);
    assert_true(sample.memory_available_bytes == 3000.0 * 1024);
    file_tree_put("/proc/meminfo", "MemTotal: 8000 kB\nMemAvailable: 9000 kB\n");
    assert_true(read_at(t, 2).memory_available_bytes == TELEMETRY_UNKNOWN);
    telemetry_destroy(t);
}

static void network_counts_cards_once(void **state)
{
    (void)state;
    put_net(NET_LINE("lo", 1000, 1000) NET_LINE("eth0", 1000, 500) NET_LINE("veth1", 1000, 500)
                NET_LINE("docker0", 1000, 500));
    struct telemetry *t = open_tree();
    struct telemetry_sample sample = read_at(t, 1);
    assert_true(sample.net_in_bytes_s == TELEMETRY_UNKNOWN);
    put_net(NET_LINE("lo", 9000, 9000) NET_LINE("eth0", 3000, 600) NET_LINE("veth1", 9000, 900)
                NET_LINE("docker0", 9000, 900));
    sample = read_at(t, 3);
    assert_near(sample.net_in_bytes_s, 1000);
    assert_near(sample.net_out_bytes_s, 50);
    /* A second card brings the bytes of years. */
    put_net(NET_LINE("eth0", 3000, 600) NET_LINE("eth1", 900000000, 900000000));
    assert_true(read_at(t, 4).net_in_bytes_s == TELEMETRY_UNKNOWN);
    put_net(NET_LINE("eth0", 3000, 600) NET_LINE("eth1", 900000007, 900000000));
    assert_near(read_at(t, 5).net_in_bytes_s, 7);
    telemetry_destroy(t);
}

static void network_without_cards_counts_what_there_is(void **state)
{
    (void)state;
    put_net(NET_LINE("lo", 5, 5) NET_LINE("veth1", 100, 100));
    struct telemetry *t = open_tree();
    read_at(t, 1);
    put_net(NET_LINE("lo", 50, 50) NET_LINE("veth1", 350, 100));
    struct telemetry_sample sample = read_at(t, 2);
    assert_near(sample.net_in_bytes_s, 250);
    assert_true(sample.net_out_bytes_s == 0);
    telemetry_destroy(t);
}

#define DISK(name, read, written) " 8 0 " name " 1 1 " #read " 1 1 1 " #written " 1 1 1 1\n"

static void disks_count_whole_ones_once(void **state)
{
    (void)state;
    file_tree_put("/proc/diskstats",
                  DISK("sda", 100, 200) DISK("sda1", 50, 60) DISK("sdaa", 10, 10)
                      DISK("nvme0n1", 1, 1) DISK("nvme0n1p1", 1, 1) DISK("nvme0n10", 1, 1)
                          DISK("dm-0", 9, 9) DISK("loop0", 9, 9));
    struct telemetry *t = open_tree();
    read_at(t, 1);
    file_tree_put("/proc/diskstats",
                  DISK("sda", 110, 204) DISK("sda1", 59, 99) DISK("sdaa", 11, 10)
                      DISK("nvme0n1", 3, 1) DISK("nvme0n1p1", 99, 99) DISK("nvme0n10", 5, 1)
                          DISK("dm-0", 99, 99) DISK("loop0", 99, 99));
    struct telemetry_sample sample = read_at(t, 3);
    assert_near(sample.disk_read_bytes_s, 17 * 512 / 2.0);
    assert_near(sample.disk_write_bytes_s, 4 * 512 / 2.0);
    telemetry_destroy(t);
}

static void disk_space_is_that_of_home(void **state)
{
    (void)state;
    struct telemetry_cfg cfg = cfg_of();
    cfg.home = file_tree_root();
    struct telemetry *t = open_with(&cfg);
    struct telemetry_sample sample = read_at(t, 1);
    assert_true(sample.disk_total_bytes > 0);
    assert_true(sample.disk_free_bytes >= 0 && sample.disk_free_bytes <= sample.disk_total_bytes);
    telemetry_destroy(t);
    cfg.home = "/nowhere/at/all";
    t = open_with(&cfg);
    assert_true(read_at(t, 1).disk_total_bytes == TELEMETRY_UNKNOWN);
    telemetry_destroy(t);
}

static void time_that_stands_still_gives_no_rates(void **state)
{
    (void)state;
    put_net(NET_LINE("eth0", 1, 1));
    file_tree_put("/proc/stat", "cpu  1 1 1 1 0 0 0 0\n");
    struct telemetry *t = open_tree();
    read_at(t, 5);
    put_net(NET_LINE("eth0", 100, 1));
    file_tree_put("/proc/stat", "cpu  9 1 1 9 0 0 0 0\n");
    struct telemetry_sample sample = read_at(t, 5);
    assert_true(sample.net_in_bytes_s == TELEMETRY_UNKNOWN);
    assert_true(sample.cpu_fraction == TELEMETRY_UNKNOWN);
    put_net(NET_LINE("eth0", 200, 1));
    assert_true(read_at(t, 4).net_in_bytes_s == TELEMETRY_UNKNOWN);
    telemetry_destroy(t);
}

/* --- control groups --- */

static void put_machine_stat(int busy, int idle)
{
    char text[128];
    snprintf(text, sizeof text, "cpu  %d 0 0 %d 0 0 0 0\ncpu0 1\ncpu1 1\ncpu2 1\ncpu3 1\n", busy,
             idle);
    file_tree_put("/proc/stat", text);
}

static void v2_quota_is_what_counts(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    file_tree_put("/proc/self/cgroup", "0::/a/b\n");
    file_tree_put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    file_tree_put("/sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    file_tree_put("/sys/fs/cgroup/a/cpu.stat", "usage_usec 1000000\nuser_usec 1\n");
    put_machine_stat(0, 1000);
    struct telemetry *t = open_tree();
    struct telemetry_sample sample = read_at(t, 1);
    assert_true(sample.cpus == 0.5);
    assert_true(sample.cpu_fraction == TELEMETRY_UNKNOWN);
    /* 0.4 s of 0.5 CPUs in 1 s, on a machine with 10 % busy. */
    file_tree_put("/sys/fs/cgroup/a/cpu.stat", "usage_usec 1400000\nuser_usec 1\n");
    put_machine_stat(100, 1900);
    sample = read_at(t, 2);
    assert_near(sample.cpu_fraction, 0.8);
    telemetry_findings(t, &findings);
    assert_true(findings.cpu_quota && !findings.memory_limit);
    /* Others keep the machine busy. */
    put_machine_stat(1090, 1910);
    assert_near(read_at(t, 3).cpu_fraction, 0.99);
    /* More than the quota within one reading. */
    file_tree_put("/sys/fs/cgroup/a/cpu.stat", "usage_usec 9400000\n");
    assert_true(read_at(t, 4).cpu_fraction == 1);
    /* The quota goes while we run. */
    file_tree_put("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
    assert_true(read_at(t, 5).cpus == 4);
    telemetry_destroy(t);
}

static void v1_quota_takes_use_from_its_twin(void **state)
{
    (void)state;
    file_tree_put("/proc/self/cgroup", "3:cpuacct:/g\n5:cpu:/g\n");
    file_tree_put("/sys/fs/cgroup/cpu/g/cpu.cfs_quota_us", "200000\n");
    file_tree_put("/sys/fs/cgroup/cpu/g/cpu.cfs_period_us", "100000\n");
    file_tree_put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    file_tree_put("/sys/fs/cgroup/cpuacct/g/cpuacct.usage", "5000000000\n");
    struct telemetry *t = open_tree();
    assert_true(read_at(t, 1).cpus == 2);
    file_tree_put("/sys/fs/cgroup/cpuacct/g/cpuacct.usage", "6500000000\n");
    assert_near(read_at(t, 2).cpu_fraction, 0.75);
    telemetry_destroy(t);
}

static void v1_without_twin_tells_by_throttling(void **state)
{
    (void)state;
    file_tree_put("/proc/self/cgroup", "3:cpuacct:/\n5:cpu:/g\n");
    file_tree_put("/sys/fs/cgroup/cpu/g/cpu.cfs_quota_us", "50000\n");
    file_tree_put("/sys/fs/cgroup/cpu/g/cpu.cfs_period_us", "100000\n");
    file_tree_put("/sys/fs/cgroup/cpu/g/cpu.stat", "nr_periods 100\nnr_throttled 10\n");
    file_tree_put("/sys/fs/cgroup/cpuacct/cpuacct.usage", "1\n");
    struct telemetry *t = open_tree();
    read_at(t, 1);
    file_tree_put("/sys/fs/cgroup/cpu/g/cpu.stat", "nr_periods 110\nnr_throttled 13\n");
    assert_near(read_at(t, 2).cpu_fraction, 0.3);
    telemetry_destroy(t);
}

static void memory_limits_are_lower_than_the_machine(void **state)
{
    (void)state;
    file_tree_put("/proc/meminfo", "MemTotal: 8000 kB\nMemAvailable: 3000 kB\n");
    file_tree_put("/proc/self/cgroup", "0::/a\n4:memory:/m\n");
    file_tree_put("/sys/fs/cgroup/a/memory.max", "1000000\n");
    file_tree_put("/sys/fs/cgroup/a/memory.current", "900000\n");
    file_tree_put("/sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 300000\n");
    file_tree_put("/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "9223372036854771712\n");
    struct telemetry *t = open_tree();
    struct telemetry_sample sample = read_at(t, 1);
    assert_true(sample.memory_total_bytes == 1000000);
    assert_true(sample.memory_available_bytes == 400000);
    file_tree_put("/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "500000\n");
    file_tree_put("/sys/fs/cgroup/memory/m/memory.usage_in_bytes", "700000\n");
    telemetry_destroy(t);
    t = open_tree();
    assert_true(read_at(t, 1).memory_available_bytes == 0);
    telemetry_destroy(t);
}

static void follows_the_process_to_another_group(void **state)
{
    (void)state;
    put_machine_stat(1, 1);
    file_tree_put("/proc/self/cgroup", "0::/\n");
    file_tree_put("/sys/fs/cgroup/moved/cpu.max", "150000 100000\n");
    struct telemetry *t = open_tree();
    assert_true(read_at(t, 1).cpus == 4);
    file_tree_put("/proc/self/cgroup", "0::/moved\n");
    double cpus = 4;
    for (int i = 2; i < 12; i++) cpus = read_at(t, i).cpus;
    assert_true(cpus == 1.5);
    telemetry_destroy(t);
}

/* --- power --- */

static void put_zone(const char *zone, const char *name, const char *energy)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/class/powercap/%s/name", zone);
    file_tree_put(path, name);
    snprintf(path, sizeof path, "/sys/class/powercap/%s/max_energy_range_uj", zone);
    file_tree_put(path, "1000000000\n");
    snprintf(path, sizeof path, "/sys/class/powercap/%s/energy_uj", zone);
    file_tree_put(path, energy);
}

static void rapl_sums_packages_and_memory(void **state)
{
    (void)state;
    struct telemetry_findings findings;
    put_zone("intel-rapl:0", "package-0\n", "999000000\n");
    put_zone("intel-rapl:0:0", "core\n", "1\n");
    put_zone("intel-rapl:0:1", "dram\n", "5000000\n");
    put_zone("intel-rapl:1", "psys\n", "1\n");
    put_zone("intel-rapl-mmio:0", "package-0\n", "1\n");
    struct telemetry *t = open_tree();
    struct telemetry_sample sample = read_at(t, 1);
    assert_true(sample.watts == TELEMETRY_UNKNOWN);
    assert_int_equal(sample.power, TELEMETRY_POWER_UNKNOWN);
    /* The package's counter begins anew at 1 kJ: 1 J before and 39 J after. */
    put_zone("intel-rapl:0", "package-0\n", "39000000\n");
    put_zone("intel-rapl:0:0", "core\n", "90000000\n");
    put_zone("intel-rapl:0:1", "dram\n", "15000000\n");
    put_zone("intel-rapl:1", "psys\n", "900000000\n");
    put_zone("intel-rapl-mmio:0", "package-0\n", "90000000\n");
    sample = read_at(t, 3);
    assert_near(sample.watts, (40 + 10) / 2.0);
    assert_near(sample.joules, 40 + 10);
    assert_int_equal(sample.power, TELEMETRY_POWER_MEASURED);
    assert_int_equal(sample.power_parts, TELEMETRY_POWER_MACHINE);
    telemetry_findings(t, &findings);
    assert_int_equal(findings.n_rapl_zones, 2);
    assert_string_equal(findings.rapl_problem, "");
    telemetry_destroy(t);
}

static void rapl_does_not_believe_a_reset(void **state)
{
    (void)state;
    put_zone("intel-rapl:0", "package-0\n", "900000000000\n");
    struct telemetry *t = open_tree();
    read_at(t, 1);
    put_zone("intel-rapl:0", "package-0\n", "5\n"); /* the last value was beyond the range */
    assert_true(read_at(t, 2).watts == TELEMETRY_UNKNOWN);
    put_zone("intel-rapl:0", "package-0\n", "999999999\n"); /* a kilojoule in no time */
    struct telemetry_sample sample;
    telemetry_read(t, 2 * SECOND + SECOND / 100, &sample);
    assert_true(sample.watts == TELEMETRY_UNKNOWN);
    telemetry_destroy(t);
}

static void declared_watts_become_a_model(void **state)
{
    (void)state;
    struct telemetry_cfg cfg = cfg_of();
    cfg.declared = (struct telemetry_declared){
        .watts_idle = 100, .watts_busy = 300, .price_kwh = 0.3, .carbon_g_kwh = 400};
    put_machine_stat(0, 1000);
    struct telemetry *t = open_with(&cfg);
    struct telemetry_sample sample = read_at(t, 1);
    assert_int_equal(sample.power, TELEMETRY_POWER_UNKNOWN);
    put_machine_stat(250, 1750);
    sample = read_at(t, 2);
    assert_near(sample.watts, 150);
    assert_int_equal(sample.power, TELEMETRY_POWER_MODELLED);
    assert_true(sample.declared.price_kwh == 0.3 && sample.declared.carbon_g_kwh == 400);
    telemetry_destroy(t);
    cfg.declared.watts_busy = 0;
    t = open_with(&cfg);
    sample = read_at(t, 1);
    assert_true(sample.watts == 100);
    assert_int_equal(sample.power, TELEMETRY_POWER_DECLARED);
    telemetry_destroy(t);
}

static void declared_values_must_make_sense(void **state)
{
    (void)state;
    struct telemetry *t = NULL;
    const struct telemetry_declared wrong[] = {{.watts_idle = -1},
                                               {.watts_idle = 50, .watts_busy = 10},
                                               {.price_kwh = NAN},
                                               {.carbon_g_kwh = INFINITY}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct telemetry_cfg cfg = cfg_of();
        struct sl_err err = SL_ERR_INIT;
        cfg.declared = wrong[i];
        assert_int_equal(telemetry_create(&cfg, &t, &err), SL_INVALID);
        assert_true(err.text[0] != '\0');
    }
    assert_null(t);
}

/* --- what cannot be --- */

static const char *const FILES[] = {"/proc/stat",
                                    "/proc/loadavg",
                                    "/proc/meminfo",
                                    "/proc/self/net/dev",
                                    "/proc/diskstats",
                                    "/sys/fs/cgroup/a/cpu.max",
                                    "/sys/fs/cgroup/a/cpu.stat",
                                    "/sys/fs/cgroup/a/memory.max",
                                    "/sys/fs/cgroup/a/memory.current",
                                    "/sys/fs/cgroup/a/memory.stat",
                                    "/sys/class/powercap/intel-rapl:0/energy_uj",
                                    "/proc/self/cgroup"};
#define N_FILES (sizeof FILES / sizeof *FILES)

static void assert_sound(double value)
{
    assert_true(isfinite(value) && (value >= 0 || value == TELEMETRY_UNKNOWN));
}

static void assert_sample_sound(const struct telemetry_sample *s)
{
    assert_sound(s->cpus), assert_sound(s->load_1m), assert_sound(s->watts);
    assert_sound(s->cpu_fraction), assert_sound(s->joules);
    assert_true(s->cpu_fraction <= 1);
    assert_sound(s->memory_total_bytes), assert_sound(s->memory_available_bytes);
    assert_sound(s->net_in_bytes_s), assert_sound(s->net_out_bytes_s);
    assert_sound(s->disk_read_bytes_s), assert_sound(s->disk_write_bytes_s);
    if (telemetry_known(s->memory_available_bytes))
        assert_true(s->memory_available_bytes <= s->memory_total_bytes);
}

static void garbage_is_not_believed(void **state)
{
    (void)state;
    static const char *const garbage[] = {"",
                                          "\n",
                                          "\n\n\n",
                                          "cpu",
                                          "cpu ",
                                          "cpu  -1 -1 -1 -1",
                                          "nan",
                                          "inf",
                                          "-5",
                                          "1e308",
                                          "0x10",
                                          "99999999999999999999999999",
                                          "18446744073709551615 18446744073709551615 1 1 1",
                                          "cpu  18446744073709551615 18446744073709551615 1 1\n",
                                          "max",
                                          "0 0",
                                          "5 0",
                                          ":::::",
                                          "  :\n",
                                          "eth0:",
                                          "eth0: 1 2 3",
                                          " 8 0 ",
                                          "8 0 sda 1 1",
                                          "MemTotal:",
                                          "0::../../..\n",
                                          "0::/a",
                                          "9:cpu,memory:x/y\n",
                                          "nr_periods 1\nnr_throttled 5\nusage_usec x"};
    put_zone("intel-rapl:0", "package-0\n", "1\n");
    file_tree_put("/proc/self/cgroup", "0::/a\n");
    for (size_t i = 0; i < N_FILES; i++) file_tree_put(FILES[i], "0::/a\n");
    struct telemetry *t = open_tree();
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        for (size_t k = 0; k < N_FILES; k++) file_tree_put(FILES[k], garbage[i]);
        struct telemetry_sample sample = read_at(t, (int64_t)i + 1);
        assert_sample_sound(&sample);
    }
    telemetry_destroy(t);
}

/* Pieces of true files, put together by chance. */
static void random_files_are_read_soundly(void **state)
{
    (void)state;
    static const char *const words[] = {"cpu ",
                                        "cpu0 ",
                                        "\n",
                                        " ",
                                        "0",
                                        "1",
                                        "17",
                                        "4294967296",
                                        "18446744073709551615",
                                        "eth0:",
                                        "lo:",
                                        "sda ",
                                        "MemTotal:",
                                        "MemAvailable:",
                                        "max ",
                                        "usage_usec ",
                                        "nr_periods ",
                                        "nr_throttled ",
                                        "inactive_file ",
                                        "0::/a\n",
                                        ".",
                                        "-"};
    prop_begin();
    put_zone("intel-rapl:0", "package-0\n", "1\n");
    for (size_t i = 0; i < N_FILES; i++) file_tree_put(FILES[i], "0::/a\n");
    struct telemetry *t = open_tree();
    for (int round = 1; round <= 300; round++) {
        for (size_t k = 0; k < N_FILES; k++) {
            char text[512] = "";
            for (size_t n = prop_draw(24); n > 0; n--)
                strcat(text, words[prop_draw(sizeof words / sizeof *words)]);
            file_tree_put(FILES[k], text);
        }
        struct telemetry_sample sample = read_at(t, round);
        assert_sample_sound(&sample);
    }
    telemetry_destroy(t);
}

static void folders_and_pipes_in_place_of_files(void **state)
{
    (void)state;
    char path[512];
    file_tree_put("/proc/stat/file", "1");
    file_tree_put("/proc/x", "1");
    snprintf(path, sizeof path, "%s/proc/meminfo", file_tree_root());
    assert_int_equal(mkfifo(path, 0600), 0);
    struct telemetry *t = open_tree();
    struct telemetry_sample sample = read_at(t, 1);
    assert_true(sample.memory_total_bytes == TELEMETRY_UNKNOWN);
    assert_true(sample.cpus == TELEMETRY_UNKNOWN);
    telemetry_destroy(t);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct telemetry_cfg cfg = cfg_of();
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct telemetry *t = NULL;
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(nth, false);
        status = telemetry_create(&cfg, &t, &err);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || (status == SL_NOMEM && !t));
        telemetry_destroy(t);
        assert_int_equal(sl_mem_live(), live);
    }
}

/* This very machine. */
static void reads_the_real_one(void **state)
{
    (void)state;
    struct telemetry_cfg cfg = {.home = "/", .libraries = {"", "", ""}};
    struct telemetry *t = open_with(&cfg);
    for (int i = 1; i <= 3; i++) {
        struct telemetry_sample sample = read_at(t, i);
        assert_sample_sound(&sample);
        assert_true(sample.cpus > 0 && sample.memory_total_bytes > 0);
        assert_true(telemetry_known(sample.load_1m) && sample.disk_total_bytes > 0);
    }
    telemetry_destroy(t);
}

static void names_are_total(void **state)
{
    (void)state;
    assert_string_equal(telemetry_vendor_name(TELEMETRY_ASCEND), "ascend");
    assert_string_equal(telemetry_vendor_name(TELEMETRY_VENDOR_COUNT), "?");
    assert_string_equal(telemetry_power_name(TELEMETRY_POWER_MEASURED), "measured");
    assert_string_equal(telemetry_power_name((enum telemetry_power)99), "?");
}

#define in_tree(f) cmocka_unit_test_setup_teardown(f, file_tree_setup, file_tree_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_tree(knows_nothing_of_nothing),
        in_tree(cpu_is_what_was_not_idle),
        in_tree(memory_is_in_bytes),
        in_tree(network_counts_cards_once),
        in_tree(network_without_cards_counts_what_there_is),
        in_tree(disks_count_whole_ones_once),
        in_tree(disk_space_is_that_of_home),
        in_tree(time_that_stands_still_gives_no_rates),
        in_tree(v2_quota_is_what_counts),
        in_tree(v1_quota_takes_use_from_its_twin),
        in_tree(v1_without_twin_tells_by_throttling),
        in_tree(memory_limits_are_lower_than_the_machine),
        in_tree(follows_the_process_to_another_group),
        in_tree(rapl_sums_packages_and_memory),
        in_tree(rapl_does_not_believe_a_reset),
        in_tree(declared_watts_become_a_model),
        in_tree(declared_values_must_make_sense),
        in_tree(garbage_is_not_believed),
        in_tree(random_files_are_read_soundly),
        in_tree(folders_and_pipes_in_place_of_files),
        in_tree(every_allocation_may_fail),
        cmocka_unit_test(reads_the_real_one),
        cmocka_unit_test(names_are_total),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
