#include "exec/worker_process.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "exec/worker_child.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct ends { /* of the child's, while it is started */
    int socket, stderr_fd;
    const int *share_fds;
};

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static sl_status open_ends(struct worker_process *process, struct ends *child, struct sl_err *err)
{
    int sockets[2], pipe_fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
        return sl_err_errno(err, errno, "socketpair");
    process->socket = sockets[0];
    child->socket = sockets[1];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) return sl_err_errno(err, errno, "pipe");
    process->stderr_fd = pipe_fds[0];
    child->stderr_fd = pipe_fds[1];
    if (fcntl(process->socket, F_SETFL, O_NONBLOCK) != 0 ||
        fcntl(process->stderr_fd, F_SETFL, O_NONBLOCK) != 0)
        return sl_err_errno(err, errno, "fcntl");
    return SL_OK;
}

/* stderr first: should its descriptor be WORKER_FD, the socket may then take that place. */
static int spawn(const char *exe, const char *title, const struct ends *child, int *out_pid)
{
    const struct sl_spawn_file files[] = {{child->stderr_fd, STDERR_FILENO},
                                          {STDERR_FILENO, STDOUT_FILENO},
                                          {child->socket, WORKER_FD},
                                          {child->share_fds[0], WORKER_SHARE_FD},
                                          {child->share_fds[1], WORKER_SHARE_FD + 1}};
    char name[] = "starlane", verb[] = "worker", *copy = sl_strdup(title);
    char *const argv[] = {name, verb, copy, NULL};
    if (!copy) return ENOMEM;
    int error = sl_spawn(exe, argv, files, sizeof files / sizeof *files, out_pid);
    sl_free(copy);
    return error;
}

void worker_process_init(struct worker_process *process)
{
    *process = (struct worker_process){
        .pid = -1, .pidfd = -1, .socket = -1, .stderr_fd = -1, .reaped = true};
}

sl_status worker_process_start(struct worker_process *process, const char *exe, const char *title,
                               const int share_fds[2], struct sl_err *err)
{
    struct ends child = {-1, -1, share_fds};
    worker_process_init(process);
    exe = sl_spawn_self(exe);
    sl_status status = open_ends(process, &child, err);
    if (status == SL_OK) {
        int error = spawn(exe, title, &child, &process->pid);
        process->reaped = error != 0;
        if (error) status = sl_err_errno(err, error, "start %s", exe);
    }
    close_fd(&child.socket);
    close_fd(&child.stderr_fd);
    if (status == SL_OK) {
        process->pidfd = pidfd_open(process->pid, 0);
        if (process->pidfd < 0) status = sl_err_errno(err, errno, "pidfd_open");
    }
    if (status != SL_OK) worker_process_done(process);
    return status;
}

void worker_process_kill(struct worker_process *process)
{
    if (!process->reaped) (void)kill(process->pid, SIGKILL);
}

bool worker_process_reap(struct worker_process *process)
{
    if (process->reaped) return true;
    pid_t pid = waitpid(process->pid, &process->wait_status, WNOHANG);
    process->reaped = pid == process->pid || (pid < 0 && errno == ECHILD);
    return process->reaped;
}

void worker_process_done(struct worker_process *process)
{
    worker_process_kill(process);
    while (!process->reaped) {
        pid_t pid = waitpid(process->pid, &process->wait_status, 0);
        process->reaped = pid == process->pid || (pid < 0 && errno != EINTR);
    }
    close_fd(&process->pidfd);
    close_fd(&process->socket);
    close_fd(&process->stderr_fd);
}
