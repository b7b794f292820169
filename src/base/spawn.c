#include "base/spawn.h"
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <unistd.h>

extern char **environ;

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

/* stdin last, for one of the files may have its number. */
static int add_files(posix_spawn_file_actions_t *actions, const struct sl_spawn_file *files,
                     size_t n)
{
    int error = 0;
    for (size_t i = 0; i < n && !error; i++)
        error = posix_spawn_file_actions_adddup2(actions, files[i].from, files[i].to);
    if (!error)
        error = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    return error;
}

int sl_spawn(const char *path, char *const *argv, const struct sl_spawn_file *files, size_t n_files,
             pid_t *out_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return error;
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        error = add_files(&actions, files, n_files);
        if (!error) error = set_attributes(&attributes);
        if (!error) error = posix_spawn(out_pid, path, &actions, &attributes, argv, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

const char *sl_spawn_self(const char *path)
{
    if (!path) path = getenv("STARLANE_BIN");
    return path && *path ? path : "/proc/self/exe";
}
