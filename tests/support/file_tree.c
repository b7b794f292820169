#include "support/file_tree.h"

#include <assert.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[256];

int file_tree_setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/starlane-tree-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info, (void)kind, (void)place;
    return remove(path);
}

int file_tree_teardown(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *file_tree_root(void)
{
    return root;
}

static void make_parents(char *path)
{
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
}

void file_tree_put(const char *path, const char *content)
{
    char full[1024];
    snprintf(full, sizeof full, "%s%s", root, path);
    make_parents(full);
    FILE *file = fopen(full, "w");
    assert(file);
    fputs(content, file);
    fclose(file);
}

void file_tree_remove(const char *path)
{
    char full[1024];
    snprintf(full, sizeof full, "%s%s", root, path);
    unlink(full);
}
