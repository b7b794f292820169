#include "grid/nats_process.h"
#include "base/mem.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define END_MS 1000 /* a server of a thousand clients ends in 50 ms */
#define MEMORY_LIMIT \
    "GOMEMLIMIT=1GiB" /* Go collects garbage harder near it; it never fails there */

extern char **environ;

/* --- where it is --- */

static bool find_in(const char *folder, size_t n_folder, char *out, size_t n_out)
{
    int n = snprintf(out, n_out, "%.*s/nats-server", (int)n_folder, folder);
    return n > 0 && (size_t)n < n_out && access(out, X_OK) == 0;
}

sl_status nats_process_find(char *out, size_t n_out, struct sl_err *err)
{
    static const char *const usual[] = {"/usr/sbin", "/usr/local/bin", "/usr/local/sbin",
                                        "/usr/bin", "/usr/lib/nats-server"};
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t n = strcspn(path, ":");
        if (n && find_in(path, n, out, n_out)) return SL_OK;
        path += n + (path[n] == ':');
    }
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (find_in(usual[i], strlen(usual[i]), out, n_out)) return SL_OK;
    return sl_err_set(err, SL_NOT_FOUND,
                      "nats-server is not installed: apt install nats-server (on Debian and "
                      "Ubuntu), or get it from nats.io and put it into a folder of PATH");
}

/* --- ports --- */

/* Binds as the server will; the port it got, or < 0: errno. */
static int try_port(const struct addrinfo *address)
{
    int one = 1, port = -1;
    struct sockaddr_storage bound = {0};
    socklen_t n_bound = sizeof bound;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, 1) == 0 &&
        getsockname(fd, (struct sockaddr *)&bound, &n_bound) == 0)
        port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                 : ((struct sockaddr_in *)&bound)->sin_port);
    int error = errno;
    close(fd);
    errno = error;
    return port;
}

static int try_host_port(const char *host, int port)
{
    char service[16];
    struct addrinfo *found,
        hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(host ? host : "0.0.0.0", service, &hints, &found) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int got = try_port(found), error = errno;
    freeaddrinfo(found);
    errno = error;
    return got;
}

sl_status nats_process_port(const char *host, int wanted, int usual, int *out, struct sl_err *err)
{
    int port = try_host_port(host, wanted ? wanted : usual);
    if (port < 0 && !wanted) port = try_host_port(host, 0);
    if (port < 0) {
        sl_err_errno(err, errno, "%s port %d", host ? host : "0.0.0.0", wanted ? wanted : usual);
        if (err && errno == EADDRINUSE) err->status = SL_BUSY;
        return errno == EADDRINUSE ? SL_BUSY : SL_IO;
    }
    *out = port;
    return SL_OK;
}

/* --- starting --- */

/* In the child, after fork: only what is safe there. */
static _Noreturn void run(const char *exe, const char *config_path, char **environment, int to,
                          pid_t parent)
{
    char name[] = "nats-server", option[] = "-c";
    char path[PATH_MAX];
    sigset_t none;
    strncpy(path, config_path, sizeof path - 1);
    path[sizeof path - 1] = '\0';
    char *const argv[] = {name, option, path, NULL};
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0); /* Ctrl-C is ours to act on */
    int null_fd = open("/dev/null", O_RDONLY);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent && null_fd >= 0 &&
        dup2(null_fd, 0) == 0 && dup2(to, 1) == 1 && dup2(to, 2) == 2)
        execve(exe, argv, environment);
    _exit(127);
}

/* This process's, and a limit for Go's memory if there is none. */
static char **make_environment(void)
{
    static char limit[] = MEMORY_LIMIT;
    size_t n = 0, kept = 0;
    while (environ[n]) n++;
    char **all = sl_calloc(n + 2, sizeof *all);
    if (!all) return NULL;
    if (!getenv("GOMEMLIMIT")) all[kept++] = limit;
    for (size_t i = 0; i < n; i++) all[kept++] = environ[i];
    return all;
}

static sl_status spawn(struct nats_process *process, const char *exe, const char *config_path,
                       int to, struct sl_err *err)
{
    pid_t parent = getpid();
    char **environment = make_environment();
    if (!environment) return sl_err_set(err, SL_NOMEM, "out of memory");
    pid_t pid = fork();
    if (pid == 0) run(exe, config_path, environment, to, parent);
    int error = errno;
    sl_free(environment);
    if (pid < 0) return sl_err_errno(err, error, "start %s", exe);
    process->pid = pid;
    process->pidfd = pidfd_open(pid, 0);
    return process->pidfd >= 0 ? SL_OK : sl_err_errno(err, errno, "pidfd_open");
}

sl_status nats_process_start(struct nats_process *process, const char *exe, const char *config_path,
                             struct sl_err *err)
{
    int ends[2];
    *process = (struct nats_process){.pid = -1, .pidfd = -1, .stderr_fd = -1};
    if (pipe2(ends, O_CLOEXEC) != 0) return sl_err_errno(err, errno, "pipe");
    process->stderr_fd = ends[0];
    sl_status status = fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0
                           ? spawn(process, exe, config_path, ends[1], err)
                           : sl_err_errno(err, errno, "fcntl");
    close(ends[1]);
    if (status != SL_OK) nats_process_end(process);
    return status;
}

void nats_process_signal(const struct nats_process *process, int signo)
{
    if (process->pid > 0) (void)kill(process->pid, signo);
}

/* --- ending --- */

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Is it dead by then? */
static bool wait_dead(int pidfd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
    int n;
    do n = poll(&poll_fd, 1, timeout_ms);
    while (n < 0 && errno == EINTR);
    return n > 0;
}

static void end_process(int pid, int pidfd)
{
    if (pidfd >= 0 && wait_dead(pidfd, 0)) return;
    (void)kill(pid, SIGTERM);
    if (pidfd < 0 || !wait_dead(pidfd, END_MS)) (void)kill(pid, SIGKILL);
}

void nats_process_end(struct nats_process *process)
{
    if (process->pid > 0) {
        end_process(process->pid, process->pidfd);
        while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR) continue;
    }
    process->pid = -1;
    close_fd(&process->pidfd);
    close_fd(&process->stderr_fd);
}

/* The file's first bytes, NUL-ended; how many there are. */
static size_t read_start(const char *path, char *out, size_t n_out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, n_out - 1) : 0;
    if (fd >= 0) close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* Is it `... -c config_path`? */
static bool is_ours(int pid, const char *config_path)
{
    char path[64], arguments[PATH_MAX + 256];
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    size_t n = read_start(path, arguments, sizeof arguments);
    for (size_t at = 0; at < n; at += strlen(arguments + at) + 1)
        if (strcmp(arguments + at, config_path) == 0) return true;
    return false;
}

void nats_process_end_leftover(const char *pid_path, const char *config_path)
{
    char text[32];
    (void)read_start(pid_path, text, sizeof text);
    long pid = strtol(text, NULL, 10);
    if (pid <= 1 || pid > INT_MAX || !is_ours((int)pid, config_path)) return;
    int pidfd = pidfd_open((int)pid, 0);
    if (pidfd < 0) return;
    end_process((int)pid, pidfd);
    (void)wait_dead(pidfd, END_MS);
    close(pidfd);
}
