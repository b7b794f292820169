/* replay_main.c: runs a fuzz target once over every file of the given folders, so that each input
 * that ever found a bug is a test in builds without libFuzzer. Exits 0 when all inputs were taken;
 * a bug shows as a crash. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PATH_LEN_MAX 4096                 /* Linux's PATH_MAX */
#define INPUT_LEN_MAX (16u * 1024 * 1024) /* corpora hold small files; a larger one is a mistake */

/* Reads path and runs it. An empty file is an input too. Returns false when the file cannot be
 * read. */
static bool replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat info;
    if (!file) return false;
    bool ok = fstat(fileno(file), &info) == 0 && info.st_size <= INPUT_LEN_MAX;
    size_t size = ok ? (size_t)info.st_size : 0;
    uint8_t *data = malloc(size ? size : 1);
    ok = ok && data && fread(data, 1, size, file) == size;
    fclose(file);
    if (ok) LLVMFuzzerTestOneInput(data, size);
    free(data);
    return ok;
}

/* Returns the number of inputs run, or -1 when the folder or one of its files cannot be read. */
static int replay_folder(const char *folder)
{
    char path[PATH_LEN_MAX];
    int n_inputs = 0;
    DIR *dir = opendir(folder);
    if (!dir) return -1;
    for (struct dirent *entry; n_inputs >= 0 && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        printf("input: %s\n", path); /* the last line names the culprit after a crash */
        fflush(stdout);
        n_inputs = replay_file(path) ? n_inputs + 1 : -1;
    }
    closedir(dir);
    return n_inputs;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int n_inputs = replay_folder(argv[i]);
        if (n_inputs < 0) {
            fprintf(stderr, "cannot read %s or a file in it\n", argv[i]);
            return 1;
        }
        printf("%d inputs from %s\n", n_inputs, argv[i]);
    }
    return argc > 1 ? 0 : 2;
}
