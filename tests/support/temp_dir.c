/* temp_dir.c: see temp_dir.h. Folders in it are removed down to a depth. */
#include "support/temp_dir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX 8 /* nats-server keeps the state of streams that deep */

static char folder[TEMP_PATH_MAX];

int temp_dir_setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/starlane-test-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static void remove_all(const char *path, int depth)
{
    char child[2 * TEMP_PATH_MAX + 16];
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        if (unlink(child) != 0 && depth > 0) remove_all(child, depth - 1);
    }
    if (dir) closedir(dir);
    rmdir(path);
}

int temp_dir_teardown(void **state)
{
    (void)state;
    remove_all(folder, DEPTH_MAX);
    return 0;
}

const char *temp_path(const char *name)
{
    static char path[2 * TEMP_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}
