/* telemetry_machine.c: processors, memory, network and disks, from /proc (proc(5), Linux
 * Documentation/admin-guide/iostats.rst) and statvfs. */
#include "base/hash.h"
#include "grid/telemetry_int.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SECTOR_BYTES 512 /* of /proc/diskstats, whatever the disk's own */
#define LOAD_MAX 1e6     /* tasks; more is nonsense: the kernel numbers four million */

void telemetry_machine_open(struct telemetry_machine *machine, const char *root, const char *home)
{
    telemetry_file_open(&machine->stat, root, "/proc/stat");
    telemetry_file_open(&machine->loadavg, root, "/proc/loadavg");
    telemetry_file_open(&machine->meminfo, root, "/proc/meminfo");
    telemetry_file_open(&machine->net, root, "/proc/self/net/dev");
    telemetry_file_open(&machine->disks, root, "/proc/diskstats");
    machine->home = home ? open(home, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
}

void telemetry_machine_close(struct telemetry_machine *machine)
{
    telemetry_file_close(&machine->stat);
    telemetry_file_close(&machine->loadavg);
    telemetry_file_close(&machine->meminfo);
    telemetry_file_close(&machine->net);
    telemetry_file_close(&machine->disks);
    if (machine->home >= 0) close(machine->home);
    machine->home = -1;
}

/* --- processors --- */

/* The first line: ticks in user, nice, system, idle, iowait, irq, softirq and steal. What the
 * hypervisor took is busy, for us. Guests' time is in user already. */
static bool scan_ticks(const char *text, uint64_t *out_busy, uint64_t *out_total)
{
    enum { IDLE = 3, IOWAIT = 4, N_FIELDS = 8, N_NEEDED = 4 };
    if (strncmp(text, "cpu ", 4) != 0) return false;
    const char *p = text + 4;
    uint64_t busy = 0, total = 0, value;
    int n = 0;
    for (; n < N_FIELDS && telemetry_scan_u64(&p, &value); n++) {
        if (__builtin_add_overflow(total, value, &total)) return false;
        if (n != IDLE && n != IOWAIT) busy += value;
    }
    *out_busy = busy;
    *out_total = total;
    return n >= N_NEEDED;
}

/* Lines "cpu0 ...", "cpu1 ...": those that are online. */
static double count_cpus(const char *text)
{
    double n = 0;
    while ((text = strchr(text, '\n')) && strncmp(text + 1, "cpu", 3) == 0) {
        text++;
        n++;
    }
    return n > 0 ? n : TELEMETRY_UNKNOWN;
}

static void read_cpu(struct telemetry_machine *machine, double seconds, char *text,
                     struct telemetry_sample *out)
{
    uint64_t busy = 0, total = 0, n_busy = 0, n_total = 0;
    bool known = telemetry_file_read(&machine->stat, text, TELEMETRY_TEXT_SIZE) &&
                 scan_ticks(text, &busy, &total);
    if (known) out->cpus = count_cpus(text);
    bool grown = telemetry_counter_step(&machine->cpu_busy, known, busy, &n_busy);
    if (!telemetry_counter_step(&machine->cpu_total, known, total, &n_total) || !grown) return;
    if (seconds > 0 && n_total > 0 && n_busy <= n_total)
        out->cpu_fraction = (double)n_busy / (double)n_total;
}

static void read_load(const struct telemetry_machine *machine, char *text,
                      struct telemetry_sample *out)
{
    char *end;
    if (!telemetry_file_read(&machine->loadavg, text, TELEMETRY_TEXT_SIZE)) return;
    double load = strtod(text, &end);
    if (end != text && load >= 0 && load <= LOAD_MAX) out->load_1m = load;
}

/* --- memory --- */

static void read_memory(const struct telemetry_machine *machine, char *text,
                        struct telemetry_sample *out)
{
    uint64_t total, available;
    if (!telemetry_file_read(&machine->meminfo, text, TELEMETRY_TEXT_SIZE)) return;
    if (!telemetry_find_u64(text, "MemTotal:", &total)) return;
    out->memory_total_bytes = (double)total * 1024;
    if (telemetry_find_u64(text, "MemAvailable:", &available) && available <= total)
        out->memory_available_bytes = (double)available * 1024;
}

/* --- network --- */

struct net_sum {
    uint64_t in, out, names;
    int n;
};

/* Whose bytes pass a card of this machine once more, or never one. */
static bool is_virtual(const char *name, size_t n)
{
    static const char *const prefixes[] = {"veth", "docker",  "br",   "virbr", "ifb",
                                           "cni",  "flannel", "cali", "tun",   "wg",
                                           "bond", "team",    "dummy"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return memchr(name, '.', n) != NULL; /* a VLAN */
}

static void add_net(struct net_sum *sum, const char *name, size_t n, uint64_t in, uint64_t out)
{
    sum->in += in;
    sum->out += out;
    sum->names = sl_hash64(name, n, sum->names);
    sum->n++;
}

/* "  eth0: bytes packets errs drop fifo frame compressed multicast bytes ...": the first number is
 * what came in, the ninth what went out. */
static bool scan_net_line(const char *line, const char **out_name, size_t *out_n, uint64_t *in,
                          uint64_t *out)
{
    enum { OUT_FIELD = 8 };
    line += strspn(line, " ");
    size_t n = strcspn(line, ": \n");
    if (n == 0 || line[n] != ':') return false;
    const char *p = line + n + 1;
    uint64_t value;
    for (int i = 0; i <= OUT_FIELD; i++) {
        if (!telemetry_scan_u64(&p, &value)) return false;
        if (i == 0) *in = value;
    }
    *out = value;
    *out_name = line;
    *out_n = n;
    return true;
}

/* The real interfaces, or where there is none the others; never loopback. */
static struct net_sum sum_net(const char *text)
{
    struct net_sum real = {0}, other = {0};
    for (const char *line = text; line; line = strchr(line, '\n')) {
        const char *name;
        size_t n;
        uint64_t in, out;
        if (*line == '\n') line++;
        if (!scan_net_line(line, &name, &n, &in, &out)) continue;
        if (n == 2 && strncmp(name, "lo", 2) == 0) continue;
        add_net(is_virtual(name, n) ? &other : &real, name, n, in, out);
    }
    return real.n ? real : other;
}

static void read_net(struct telemetry_machine *machine, double seconds, char *text,
                     struct telemetry_sample *out)
{
    struct net_sum sum = {0};
    uint64_t growth = 0;
    bool known = telemetry_file_read(&machine->net, text, TELEMETRY_TEXT_SIZE);
    if (known) sum = sum_net(text);
    /* An interface that came or went takes its count with it. */
    if (sum.names != machine->net_names) machine->net_in.known = machine->net_out.known = false;
    machine->net_names = sum.names;
    known = known && sum.n > 0;
    bool grown = telemetry_counter_step(&machine->net_in, known, sum.in, &growth);
    out->net_in_bytes_s = telemetry_rate(grown, growth, seconds);
    grown = telemetry_counter_step(&machine->net_out, known, sum.out, &growth);
    out->net_out_bytes_s = telemetry_rate(grown, growth, seconds);
}

/* --- disks --- */

struct disk_line {
    char name[64];
    uint64_t read, written; /* sectors */
};

/* "259 0 nvme0n1 reads merged SECTORS ms writes merged SECTORS ms ..." */
static bool scan_disk_line(const char *p, struct disk_line *out)
{
    enum { READ_FIELD = 2, WRITTEN_FIELD = 6 };
    uint64_t value;
    for (int i = 0; i < 2; i++)
        if (!telemetry_scan_u64(&p, &value)) return false;
    p += strspn(p, " ");
    size_t n = strcspn(p, " \n");
    if (n == 0 || n >= sizeof out->name) return false;
    memcpy(out->name, p, n);
    out->name[n] = '\0';
    p += n;
    for (int i = 0; i <= WRITTEN_FIELD; i++) {
        if (!telemetry_scan_u64(&p, &value)) return false;
        if (i == READ_FIELD) out->read = value;
    }
    out->written = value;
    return true;
}

/* What lies on disks that are counted, or on none. */
static bool is_layered(const char *name)
{
    static const char *const prefixes[] = {"loop", "ram", "zram", "dm-", "md", "sr", "fd"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return false;
}

/* "sda1" is a part of "sda", "nvme0n1p2" one of "nvme0n1", but "nvme0n10" is none of it. */
static bool is_partition(const char *name, const char *disk)
{
    size_t n = strlen(disk);
    if (n == 0 || strncmp(name, disk, n) != 0) return false;
    bool digit_last = disk[n - 1] >= '0' && disk[n - 1] <= '9';
    if (digit_last && name[n++] != 'p') return false;
    return name[n] >= '0' && name[n] <= '9';
}

static bool sum_disks(const char *text, struct disk_line *sum, uint64_t *out_names)
{
    char disk[sizeof sum->name] = "";
    int n = 0;
    *out_names = 0;
    sum->read = sum->written = 0;
    for (const char *line = text; line; line = strchr(line, '\n')) {
        struct disk_line one;
        if (*line == '\n') line++;
        if (!scan_disk_line(line, &one) || is_layered(one.name) || is_partition(one.name, disk))
            continue;
        memcpy(disk, one.name, sizeof disk);
        sum->read += one.read;
        sum->written += one.written;
        *out_names = sl_hash64(one.name, strlen(one.name), *out_names);
        n++;
    }
    return n > 0;
}

static void read_disks(struct telemetry_machine *machine, double seconds, char *text,
                       struct telemetry_sample *out)
{
    struct disk_line sum = {0};
    uint64_t names = 0, growth = 0;
    bool known = telemetry_file_read(&machine->disks, text, TELEMETRY_TEXT_SIZE) &&
                 sum_disks(text, &sum, &names);
    if (names != machine->disk_names) machine->disk_read.known = machine->disk_write.known = false;
    machine->disk_names = names;
    bool grown = telemetry_counter_step(&machine->disk_read, known, sum.read, &growth);
    out->disk_read_bytes_s = telemetry_rate(grown, growth, seconds / SECTOR_BYTES);
    grown = telemetry_counter_step(&machine->disk_write, known, sum.written, &growth);
    out->disk_write_bytes_s = telemetry_rate(grown, growth, seconds / SECTOR_BYTES);
}

static void read_home(const struct telemetry_machine *machine, struct telemetry_sample *out)
{
    struct statvfs fs;
    if (machine->home < 0 || fstatvfs(machine->home, &fs) != 0 || fs.f_blocks == 0) return;
    out->disk_total_bytes = (double)fs.f_blocks * (double)fs.f_frsize;
    if (fs.f_bavail <= fs.f_blocks)
        out->disk_free_bytes = (double)fs.f_bavail * (double)fs.f_frsize;
}

void telemetry_machine_read(struct telemetry_machine *machine, double seconds, char *text,
                            struct telemetry_sample *out)
{
    read_cpu(machine, seconds, text, out);
    read_load(machine, text, out);
    read_memory(machine, text, out);
    read_net(machine, seconds, text, out);
    read_disks(machine, seconds, text, out);
    read_home(machine, out);
}
