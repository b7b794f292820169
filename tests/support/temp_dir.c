/* temp_dir.c: see temp_dir.h. Everything in it lies at most one folder deep. */
#include "support/temp_dir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    remove_all(folder, 1);
    return 0;
}

const char *temp_path(const char *name)
{
    static char path[2 * TEMP_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}
