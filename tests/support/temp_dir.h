/* temp_dir.h: a folder for one test's files. Thread: one. */
#pragma once

#define TEMP_PATH_MAX 256

/* cmocka's setup and teardown: makes an empty folder, removes it with the files in it. */
int temp_dir_setup(void **state);
int temp_dir_teardown(void **state);

/* The path of a file in it; static storage, overwritten by the next call. */
const char *temp_path(const char *name);
