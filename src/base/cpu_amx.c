/* cpu_amx.c: the AMX trial. CPUID and XCR0 may promise tiles that a hypervisor or the kernel then
 * refuses with SIGILL, so the first tile instruction runs in a child process that may die of it. */
#include "base/cpu_amx.h"

#if defined(__x86_64__)
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

#define ROWS 16
#define ROW_BYTES 64

/* What LDTILECFG reads; Intel SDM vol. 2A, LDTILECFG. */
struct tile_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct tile_config) == 64, "LDTILECFG reads 64 bytes");

static pthread_once_t trial_once = PTHREAD_ONCE_INIT;
static bool usable;

/* Loads a tile, stores it elsewhere, compares. Assembler, because gcc 12's _tile_loadconfig claims
 * to read only 8 bytes of the configuration, and the rest is then optimised away. */
static bool tile_round_trip(void)
{
    struct tile_config config = {.palette = 1, .row_bytes = {ROW_BYTES}, .rows = {ROWS}};
    uint8_t in[ROWS * ROW_BYTES], out[ROWS * ROW_BYTES] = {0};
    for (int i = 0; i < ROWS * ROW_BYTES; i++) in[i] = (uint8_t)(i * 7 + 1);
    __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm0"
                     :
                     : "r"(in), "r"((uint64_t)ROW_BYTES)
                     : "memory");
    __asm__ volatile("tilestored %%tmm0, (%0,%1,1)"
                     :
                     : "r"(out), "r"((uint64_t)ROW_BYTES)
                     : "memory");
    __asm__ volatile("tilerelease" : : : "memory");
    return memcmp(in, out, sizeof in) == 0;
}

/* Only async-signal-safe calls: the parent may have threads. Its handlers for crashes must not
 * report this one. */
static _Noreturn void child_main(int result_fd)
{
    signal(SIGILL, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    char good = 1;
    bool told = tile_round_trip() && write(result_fd, &good, 1) == 1;
    _exit(told ? 0 : 1);
}

/* The result comes through a pipe, since a program that ignores SIGCHLD gets no exit status. */
static bool child_succeeds(void)
{
    int fds[2];
    if (pipe(fds)) return false;
    pid_t pid = fork();
    if (pid == 0) child_main(fds[1]);
    close(fds[1]);
    char good = 0;
    ssize_t n = 0;
    if (pid > 0) {
        do n = read(fds[0], &good, 1);
        while (n < 0 && errno == EINTR);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    close(fds[0]);
    return n == 1 && good == 1;
}

static void try_once(void)
{
    usable =
        syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 && child_succeeds();
}

bool sl_cpu_amx_usable(void)
{
    pthread_once(&trial_once, try_once);
    return usable;
}

#else

bool sl_cpu_amx_usable(void)
{
    return false;
}

#endif
