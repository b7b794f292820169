#include "base/clock.h"
#include "base/json_read.h"
#include "grid/calibrate_int.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_BYTES 4096
#define MS INT64_C(1000000)

extern char **environ;

/* Signals as in a fresh process, and a group of its own: Ctrl-C is the parent's to act on. */
static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(attributes, &all);
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setpgroup(attributes, 0);
    return posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
                                                    POSIX_SPAWN_SETPGROUP);
}

static int set_files(posix_spawn_file_actions_t *actions, int to)
{
    int error = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!error) error = posix_spawn_file_actions_adddup2(actions, to, STDOUT_FILENO);
    return error ? error : posix_spawn_file_actions_adddup2(actions, to, STDERR_FILENO);
}

static int spawn(const char *program, char *const *argv, int to, pid_t *out_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return error;
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        error = set_files(&actions, to);
        if (!error) error = set_attributes(&attributes);
        if (!error) error = posix_spawn(out_pid, program, &actions, &attributes, argv, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

sl_status calibrate_child_start(const char *program, const char *home, int32_t n_threads,
                                bool background, struct calibrate_child *out, struct sl_err *err)
{
    char name[] = "starlane", verb[] = "measure", in_back[] = "--background";
    char threads[32], folder[PATH_MAX + 16];
    char *const argv[] = {name, verb, threads, folder, background ? in_back : NULL, NULL};
    int ends[2];
    *out = (struct calibrate_child){.pid = -1, .fd = -1};
    sl_buf_init(&out->text, CALIBRATION_BYTES_MAX);
    snprintf(threads, sizeof threads, "--threads=%d", n_threads);
    if (snprintf(folder, sizeof folder, "--home=%s", home) >= (int)sizeof folder)
        return sl_err_set(err, SL_LIMIT, "%.80s...: too long", home);
    if (!program) program = getenv("STARLANE_BIN");
    if (!program || !*program) program = "/proc/self/exe";
    if (pipe2(ends, O_CLOEXEC) != 0) return sl_err_errno(err, errno, "pipe");
    int error = spawn(program, argv, ends[1], &out->pid);
    close(ends[1]);
    out->fd = ends[0];
    if (!error && fcntl(out->fd, F_SETFL, O_NONBLOCK) == 0) return SL_OK;
    if (error) out->pid = -1;
    calibrate_child_done(out);
    return sl_err_errno(err, error ? error : errno, "start %s", program);
}

sl_status calibrate_child_read(struct calibrate_child *child, bool *out_done, struct sl_err *err)
{
    char bytes[READ_BYTES];
    ssize_t n;
    *out_done = false;
    while ((n = read(child->fd, bytes, sizeof bytes)) > 0)
        if (sl_buf_add(&child->text, bytes, (size_t)n) != SL_OK)
            return sl_err_set(err, SL_LIMIT, "it says more than %d bytes", CALIBRATION_BYTES_MAX);
    *out_done = n == 0;
    if (n == 0 || errno == EAGAIN || errno == EINTR) return SL_OK;
    return sl_err_errno(err, errno, "read");
}

/* It has closed its output, so that its end is near. */
static int reap(struct calibrate_child *child)
{
    int state = -1;
    while (child->pid > 0 && waitpid(child->pid, &state, 0) < 0 && errno == EINTR) {
    }
    child->pid = -1;
    return state;
}

sl_status calibrate_child_result(struct calibrate_child *child, struct calibration *out,
                                 struct sl_err *err)
{
    struct sl_json_value *value = NULL;
    const char *text = child->text.len ? child->text.data : "it says nothing";
    int state = reap(child);
    if (WIFSIGNALED(state))
        return sl_err_set(err, SL_UNAVAILABLE, "ended by signal %d", WTERMSIG(state));
    if (!WIFEXITED(state) || WEXITSTATUS(state) != 0)
        return sl_err_set(err, SL_UNAVAILABLE, "%.*s", (int)strcspn(text, "\n"), text);
    sl_status status = sl_json_parse(child->text.data, child->text.len, &value, err);
    if (status == SL_OK) status = calibration_get(value, out, err);
    sl_json_free(value);
    return status;
}

void calibrate_child_done(struct calibrate_child *child)
{
    if (child->pid > 0) {
        kill(child->pid, SIGKILL);
        (void)reap(child);
    }
    if (child->fd >= 0) close(child->fd);
    sl_buf_done(&child->text);
    child->fd = -1;
}

sl_status calibration_run(const char *program, const char *home, int32_t n_threads,
                          struct calibration *out, struct sl_err *err)
{
    struct calibrate_child child;
    bool done = false;
    int64_t until = sl_now_ns() + CALIBRATION_TIMEOUT_MS * MS;
    sl_status status = calibrate_child_start(program, home, n_threads, false, &child, err);
    if (status != SL_OK) return sl_err_prefix(err, "measuring");
    while (status == SL_OK && !done) {
        struct pollfd wait = {.fd = child.fd, .events = POLLIN};
        int64_t left = until - sl_now_ns();
        if (left <= 0)
            status =
                sl_err_set(err, SL_UNAVAILABLE, "longer than %d s", CALIBRATION_TIMEOUT_MS / 1000);
        else if (poll(&wait, 1, (int)(left / MS) + 1) > 0)
            status = calibrate_child_read(&child, &done, err);
    }
    if (status == SL_OK) status = calibrate_child_result(&child, out, err);
    calibrate_child_done(&child);
    if (status != SL_OK) return sl_err_prefix(err, "measuring");
    return calibration_write(home, out, err);
}
