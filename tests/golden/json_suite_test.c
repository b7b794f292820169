/* json_suite_test.c: the parsing tests of JSONTestSuite (Nicolas Seriot): files whose name begins
 * with y_ must be taken, those with n_ refused; those with i_ are the implementation's choice. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json_read.h"
#include "base/mem.h"

#define ARCHIVE STARLANE_SHARED "/data/conformance/jsontestsuite.tar.gz"
#define FILE_BYTES_MAX (1 << 20) /* the largest is 250 KB of brackets */
#define FILES_MIN 300            /* fewer: the archive is not the one we know */

static char folder[] = "/tmp/starlane-json-suite-XXXXXX";
static char bytes[FILE_BYTES_MAX];

/* Runs `before folder after`. False when it failed. */
static bool shell(const char *before, const char *after)
{
    char command[1000];
    snprintf(command, sizeof command, "%s '%s' %s", before, folder, after);
    return system(command) == 0;
}

static int extract(void **state)
{
    (void)state;
    if (access(ARCHIVE, R_OK) != 0) return 0;
    return mkdtemp(folder) && shell("tar -C", "-xzf '" ARCHIVE "'") ? 0 : -1;
}

static int clean_up(void **state)
{
    (void)state;
    if (access(ARCHIVE, R_OK) != 0) return 0;
    return shell("rm -rf", "") ? 0 : -1;
}

static size_t read_file(const char *name)
{
    char path[1000];
    snprintf(path, sizeof path, "%s/test_parsing/%s", folder, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(bytes, 1, sizeof bytes, file);
    assert_true(n < sizeof bytes);
    fclose(file);
    return n;
}

static bool is_taken(const char *name)
{
    struct sl_json_value *root = NULL;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    /* a copy that ends where the text ends, so that sanitizers see a step past it */
    size_t n = read_file(name);
    char *text = sl_memdup(bytes, n);
    char *exact = sl_realloc(text, n);
    sl_status status = sl_json_parse(exact, n, &root, &err);
    assert_true(status == SL_OK || status == SL_INVALID || status == SL_LIMIT);
    sl_json_free(root);
    sl_free(exact);
    assert_int_equal(sl_mem_live(), live);
    return status == SL_OK;
}

static void the_suite_agrees(void **state)
{
    (void)state;
    if (access(ARCHIVE, R_OK) != 0) skip();
    char path[1000];
    int n_files = 0, n_wrong = 0;
    snprintf(path, sizeof path, "%s/test_parsing", folder);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *name = entry->d_name;
        if (!strstr(name, ".json")) continue;
        bool taken = is_taken(name);
        n_files++;
        if ((name[0] == 'y' && !taken) || (name[0] == 'n' && taken)) {
            print_error("%s: %s\n", name, taken ? "taken" : "refused");
            n_wrong++;
        }
    }
    closedir(dir);
    assert_in_range(n_files, FILES_MIN, 10 * FILES_MIN);
    assert_int_equal(n_wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_suite_agrees)};
    return cmocka_run_group_tests(tests, extract, clean_up);
}
