/* spawn.h: this program, or another one, started as a child with nothing of the parent but what it
 * is given: signals as in a fresh process, a process group of its own (Ctrl-C is the parent's to
 * act on), stdin from /dev/null, the files that are listed, the environment.
 * Floor: base.  Thread: any.  Allocates: nothing that outlives a call. */
#pragma once
#include <stddef.h>
#include <sys/types.h>

/* `from` of the parent is `to` in the child. In order: a later one may use what an earlier one made
 * or, if it is named before it is replaced, the number that the later one takes. */
struct sl_spawn_file {
    int from, to;
};

/* argv ends with NULL. Everything else that is to stay closed is O_CLOEXEC, as all our files are.
 * Returns 0 and the child's pid, which the caller reaps, or an errno. */
int sl_spawn(const char *path, char *const *argv, const struct sl_spawn_file *files, size_t n_files,
             pid_t *out_pid);

/* The path of this executable: as given, else STARLANE_BIN (tests run programs of their own), else
 * what runs now. */
const char *sl_spawn_self(const char *path);
