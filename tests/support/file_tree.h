/* file_tree.h: a folder with files in folders, that looks like a machine's root. Thread: one. */
#pragma once

/* cmocka's setup and teardown: makes an empty folder, removes it with all that is in it. */
int file_tree_setup(void **state);
int file_tree_teardown(void **state);

/* Its path, without a slash at the end. */
const char *file_tree_root(void);

/* Makes the file, or writes it anew in place; `path` begins with a slash. */
void file_tree_put(const char *path, const char *content);
void file_tree_remove(const char *path);
