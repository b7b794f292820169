#include "base/clock.h"
#include "base/json_read.h"
#include "base/spawn.h"
#include "grid/calibrate_int.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES 4096
#define MS INT64_C(1000000)
#define END_MS 100 /* from its last word to its end, which takes a few */

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
    program = sl_spawn_self(program);
    if (pipe2(ends, O_CLOEXEC) != 0) return sl_err_errno(err, errno, "pipe");
    const struct sl_spawn_file files[] = {{ends[1], STDOUT_FILENO}, {ends[1], STDERR_FILENO}};
    int error = sl_spawn(program, argv, files, sizeof files / sizeof *files, &out->pid);
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

/* It has closed its output or was killed, so that its end is near; if not, it is made to. */
static int reap(struct calibrate_child *child)
{
    static const struct timespec soon = {.tv_nsec = MS};
    int state = -1;
    pid_t ended = child->pid > 0 ? waitpid(child->pid, &state, WNOHANG) : -1;
    for (int i = 0; ended == 0 && i < END_MS; i++) {
        nanosleep(&soon, NULL);
        ended = waitpid(child->pid, &state, WNOHANG);
    }
    if (ended == 0) kill(child->pid, SIGKILL);
    while (ended == 0 && waitpid(child->pid, &state, 0) < 0 && errno == EINTR) {
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
