/* trial.c: the verdict comes through a pipe, since a program that ignores SIGCHLD gets no exit
 * status; a child that died closes it without a word. */
#include "base/trial.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define NS_PER_MS 1000000

static const char verdicts[] = {[false] = 'n', [true] = 'y'};

static _Noreturn void child_main(const struct sl_trial *trial, int fd)
{
    static const int crashes[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP, SIGABRT};
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) signal(crashes[i], SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char verdict = verdicts[trial->run(trial->ctx)];
    _exit(write(fd, &verdict, 1) == 1 ? 0 : 1);
}

/* Milliseconds until `end`, rounded up: poll's zero would be a busy loop. */
static int left_ms(int64_t end_ns)
{
    int64_t left = end_ns - sl_now_ns();
    return left > 0 ? (int)((left + NS_PER_MS - 1) / NS_PER_MS) : 0;
}

static enum sl_trial_end await(int fd, int limit_ms)
{
    int64_t end_ns = sl_now_ns() + (int64_t)limit_ms * NS_PER_MS;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char verdict = 0;
    int n;
    while ((n = poll(&p, 1, left_ms(end_ns))) < 0 && errno == EINTR) {
    }
    if (n <= 0) return SL_TRIAL_LATE;
    if (read(fd, &verdict, 1) != 1) return SL_TRIAL_DIED;
    return verdict == verdicts[true] ? SL_TRIAL_GOOD : SL_TRIAL_WRONG;
}

enum sl_trial_end sl_trial_run(const struct sl_trial *trial)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC)) return SL_TRIAL_NOT_STARTED;
    pid_t pid = fork();
    if (pid == 0) child_main(trial, fds[1]);
    close(fds[1]);
    enum sl_trial_end end = SL_TRIAL_NOT_STARTED;
    if (pid > 0) {
        end = await(fds[0], trial->limit_ms);
        if (end == SL_TRIAL_LATE) kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    close(fds[0]);
    return end;
}

const char *sl_trial_text(enum sl_trial_end end)
{
    switch (end) {
    case SL_TRIAL_GOOD: return NULL;
    case SL_TRIAL_WRONG: return "computes wrong numbers";
    case SL_TRIAL_DIED: return "dies";
    case SL_TRIAL_LATE: return "does not end in time";
    case SL_TRIAL_NOT_STARTED: break;
    }
    return "could not be started";
}
