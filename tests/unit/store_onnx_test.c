/* store_onnx_test.c: ONNX models go into the store with all that belongs to them, by their layouts;
 * versions; what is hostile or half there leaves nothing behind. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "grid/store.h"
#include "grid/store_int.h"
#include "support/onnx_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[40];
static struct store *store;

static const char *path_of(const char *name)
{
    static char paths[4][PATH_MAX];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return path;
}

static void shell(const char *command)
{
    char line[PATH_MAX];
    snprintf(line, sizeof line, "cd %s && { %s; }", folder, command);
    assert_int_equal(system(line), 0);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/store_onnx_test_XXXXXX");
    if (!mkdtemp(folder)) return -1;
    setenv("STARLANE_MODELS", "/nonexistent", 1); /* no bundled model in these lists */
    return store_open(path_of("home"), &store, NULL) == SL_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char line[64];
    store_close(store);
    snprintf(line, sizeof line, "rm -rf %s", folder);
    return system(line);
}

static void write_file(const char *name, const struct sl_buf *bytes)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes->data, 1, bytes->len, file), bytes->len);
    assert_int_equal(fclose(file), 0);
}

/* A sound model; location NULL: with its weights in it. */
static void write_onnx(const char *name, float seed, const char *location)
{
    struct sl_buf bytes;
    sl_buf_init(&bytes, ONNX_WRITE_BYTES_MAX);
    onnx_put_sound(&bytes, seed, location);
    write_file(name, &bytes);
    sl_buf_done(&bytes);
}

static struct store_model find(const char *name)
{
    struct sl_err err = SL_ERR_INIT;
    struct store_model model;
    if (store_find(store, name, &model, &err) != SL_OK) fail_msg("%s", err.text);
    return model;
}

static void expect_name(const char *asked, const char *name)
{
    struct store_model model = find(asked);
    assert_string_equal(model.name, name);
    store_model_done(&model);
}

static void tell(void *ctx, const char *name, const struct sl_err *why_not)
{
    size_t n = strlen(ctx);
    snprintf((char *)ctx + n, 500 - n, "%s%s ", why_not ? "!" : "", name);
}

static void import_dir(const char *dir, const struct store_import *how, const char *expected)
{
    char told[500] = "";
    struct sl_err err = SL_ERR_INIT;
    if (store_import_dir(store, path_of(dir), how, tell, told, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_string_equal(told, expected);
}

static size_t n_files(const char *dir)
{
    char line[PATH_MAX + 64];
    unsigned n = 0;
    snprintf(line, sizeof line, "find %s -type f 2>/dev/null | wc -l", path_of(dir));
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%u", &n), 1);
    pclose(pipe);
    return n;
}

static void a_file_goes_in_and_out(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live(), freed;
    char none[PATH_MAX];
    write_onnx("Net.onnx", 1, NULL);
    assert_int_equal(store_import_file(store, path_of("Net.onnx"), NULL, NULL), SL_OK);
    struct store_model model = find("net");
    assert_string_equal(model.details.format, "onnx");
    assert_string_equal(model.details.family, "tester");
    assert_string_equal(model.details.quantization_level, "FP32");
    assert_int_equal(model.details.n_params, 6);
    assert_string_equal(model.digest, model.layers[0].digest);
    assert_string_equal(strrchr(model.path, '/'), "/model.onnx");
    assert_int_equal(access(model.path, R_OK), 0);
    assert_int_equal(store_model_file(&model, "labels", none, NULL), SL_NOT_FOUND);
    store_model_done(&model);
    assert_int_equal(unlink(path_of("Net.onnx")), 0);
    assert_int_equal(store_rm(store, "net", &freed, NULL), SL_OK);
    assert_true(freed > 0);               /* the folder of its own holds no bytes back */
    assert_int_equal(n_files("home"), 1); /* the lock */
    assert_int_equal(sl_mem_live(), live);
}

/* A folder with all that a model may bring. */
static void write_folder(void)
{
    shell("mkdir -p Full/sub Full/1_Pooling");
    write_onnx("Full/model.onnx", 2, "sub/weights.bin");
    shell("cd Full; head -c 24 /dev/zero > sub/weights.bin; printf 'cat\\ndog\\n' > labels.txt;"
          "echo '{\"a\":1}' > tokenizer.json; echo '{}' > 1_Pooling/config.json;"
          "echo '{\"model_type\":\"bert\",\"max_position_embeddings\":512}' > config.json;"
          "echo '{\"instances\": 2}' > starlane.json; echo readme > README.md");
}

static void a_folder_brings_all_that_belongs_to_it(void **state)
{
    (void)state;
    char path[PATH_MAX];
    write_folder();
    import_dir("Full", NULL, "full:latest ");
    struct store_model model = find("full");
    assert_int_equal(model.n_layers, 6);
    assert_string_equal(model.details.family, "bert");
    assert_int_equal(model.details.context_length, 512);
    assert_string_equal(model.options, "{\"instances\":2}");
    assert_null(model.processing);
    assert_int_equal(store_model_file(&model, "data", path, NULL), SL_OK);
    assert_non_null(strstr(path, "/sub/weights.bin"));
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode) && st.st_size == 24);
    assert_int_equal(store_model_file(&model, "pooling", path, NULL), SL_OK);
    assert_int_equal(access(path, R_OK), 0);
    store_model_done(&model);
    shell("rm -r home/models/shards"); /* it comes back */
    model = find("full:latest");
    assert_int_equal(access(model.path, R_OK), 0);
    store_model_done(&model);
    assert_int_equal(store_rm(store, "full", NULL, NULL), SL_OK);
    assert_int_equal(n_files("home"), 1);
}

static void what_is_told_wins(void **state)
{
    (void)state;
    char labels[PATH_MAX];
    struct sl_err err = SL_ERR_INIT;
    struct store_import how = {.name = "mine:7", .options = "{\"threads\": 3}"};
    write_folder();
    shell("echo one > other.txt");
    snprintf(labels, sizeof labels, "%s", path_of("other.txt"));
    how.labels = labels;
    import_dir("Full", &how, "mine:7 ");
    struct store_model model = find("mine:7");
    assert_string_equal(model.options, "{\"threads\":3}");
    assert_int_equal(store_model_file(&model, "labels", labels, NULL), SL_OK);
    struct stat st;
    assert_true(stat(labels, &st) == 0 && st.st_size == 4);
    store_model_done(&model);
    how = (struct store_import){.options = "{\"no_such\": 1}"};
    assert_int_equal(store_import_model(store, path_of("Full/model.onnx"), &how, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "no_such"));
    how = (struct store_import){.processing = "{\"input\": 5}"};
    assert_int_equal(store_import_model(store, path_of("Full/model.onnx"), &how, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "processing: "));
    how = (struct store_import){.processing = "[]"};
    assert_int_equal(store_import_model(store, path_of("Full/model.onnx"), &how, &err), SL_INVALID);
    how = (struct store_import){.labels = "/nonexistent"};
    assert_int_equal(store_import_model(store, path_of("Full/model.onnx"), &how, &err),
                     SL_NOT_FOUND);
}

static void versions_are_tags(void **state)
{
    (void)state;
    struct store_tags tags;
    struct sl_err err = SL_ERR_INIT;
    shell("mkdir -p Net/1 Net/2 Net/10 Net/notes Net/007");
    write_onnx("Net/1/model.onnx", 1, NULL);
    write_onnx("Net/2/only.onnx", 2, NULL);
    write_onnx("Net/10/model.onnx", 10, NULL);
    shell("echo 'max_batch_size: 4 dynamic_batching { } output { label_filename: \"l\" }' >"
          "Net/config.pbtxt; echo a > Net/l");
    import_dir("Net", NULL, "net:1 net:2 net:10 ");
    expect_name("net", "net:10");
    expect_name("net:latest", "net:10");
    expect_name("net:2", "net:2");
    struct store_model model = find("net:1");
    assert_string_equal(model.options, "{\"batch_max\":4,\"batch_delay_us\":0}");
    assert_int_equal(model.n_layers, 2);
    store_model_done(&model);
    assert_int_equal(store_cp(store, "net:1", "net:latest", NULL), SL_OK);
    expect_name("net", "net:latest");
    assert_int_equal(store_cp(store, "net:2", "net:default", NULL), SL_OK);
    expect_name("net", "net:default");
    expect_name("net:latest", "net:latest");
    assert_int_equal(store_versions(store, "net", &tags, NULL), SL_OK);
    assert_int_equal(tags.n, 5);
    static const char *const order[] = {"1", "2", "10", "default", "latest"};
    for (size_t i = 0; i < 5; i++) assert_string_equal(tags.v[i], order[i]);
    store_tags_done(&tags);
    assert_int_equal(store_rm(store, "net", NULL, NULL), SL_OK); /* net:latest */
    assert_int_equal(store_rm(store, "net", NULL, &err), SL_NOT_FOUND);
    assert_non_null(strstr(err.text, "which tag is meant: 1, ..., default"));
    assert_int_equal(store_versions(store, "nothing", &tags, NULL), SL_OK);
    assert_int_equal(tags.n, 0);
    const struct store_import how = {.name = "other:1"};
    assert_int_equal(store_import_dir(store, path_of("Net"), &how, tell, NULL, &err), SL_INVALID);
}

static void a_repository_of_models(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    const struct store_import how = {.name = "x"};
    char told[500] = "";
    shell("mkdir -p R/a/1 R/b R/hf/onnx R/none R/.git");
    write_onnx("R/a/1/model.onnx", 1, NULL);
    write_onnx("R/b/net.onnx", 2, NULL);
    write_onnx("R/hf/onnx/model.onnx", 3, NULL);
    write_onnx("R/.git/model.onnx", 4, NULL);
    shell("echo no > R/none/model.onnx; echo '{}' > R/hf/tokenizer.json");
    import_dir("R", NULL, "a:1 hf:latest net:latest !none:latest ");
    struct store_model model = find("hf");
    assert_int_equal(model.n_layers, 2);
    store_model_done(&model);
    assert_int_equal(store_import_dir(store, path_of("R"), &how, tell, told, &err), SL_INVALID);
    assert_string_equal(told, "");
    shell("mkdir L; cp R/b/net.onnx L/a.onnx; cp R/b/net.onnx L/b.onnx; echo x > L/labels.txt");
    import_dir("L", NULL, "a:latest b:latest ");
    model = find("a");
    assert_int_equal(model.n_layers, 1);
    store_model_done(&model);
}

static void refused(const char *name, sl_status status, const char *words)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status got = store_import_file(store, path_of(name), "m", &err);
    if (got != status || !strstr(err.text, words))
        fail_msg("%s %s, not %s %s", sl_status_name(got), err.text, sl_status_name(status), words);
    assert_true(n_files("home") <= 1);
}

static void hostile_models_leave_nothing(void **state)
{
    (void)state;
    write_onnx("a.onnx", 1, "../secret");
    refused("a.onnx", SL_CORRUPT, "external_data: location: \"../secret\"");
    write_onnx("a.onnx", 1, "/etc/passwd");
    refused("a.onnx", SL_CORRUPT, "location: \"/etc/passwd\"");
    write_onnx("a.onnx", 1, "gone.bin");
    refused("a.onnx", SL_NOT_FOUND, "external data \"gone.bin\"");
    shell("head -c 23 /dev/zero > gone.bin");
    refused("a.onnx", SL_CORRUPT, "23 bytes, the model needs 24");
    write_onnx("a.onnx", 1, "model.onnx");
    shell("head -c 24 /dev/zero > model.onnx");
    refused("a.onnx", SL_CORRUPT, "two files are named \"model.onnx\"");
    shell("echo no > b.onnx; head -c 50 a.onnx > c.onnx; mkdir d.onnx");
    refused("b.onnx", SL_CORRUPT, "");
    refused("c.onnx", SL_CORRUPT, "");
    refused("d.onnx", SL_UNSUPPORTED, "not a regular file");
    refused("e.onnx", SL_NOT_FOUND, "e.onnx");
}

static void a_killed_removal_is_swept_up(void **state)
{
    (void)state;
    write_onnx("a.onnx", 1, NULL);
    assert_int_equal(store_import_file(store, path_of("a.onnx"), "m", NULL), SL_OK);
    shell("rm home/models/manifests/registry.ollama.ai/library/m/latest");
    assert_true(n_files("home/models/shards") == 1);
    assert_int_equal(store_sweep(store, NULL, NULL), SL_OK);
    assert_int_equal(n_files("home"), 1);
}

static void a_name_that_changes_drops_the_old_files(void **state)
{
    (void)state;
    write_onnx("a.onnx", 1, NULL);
    write_onnx("b.onnx", 2, NULL);
    assert_int_equal(store_import_file(store, path_of("a.onnx"), "m", NULL), SL_OK);
    assert_int_equal(store_import_file(store, path_of("b.onnx"), "m", NULL), SL_OK);
    assert_int_equal(n_files("home/models/shards") + n_files("home/models/blobs"), 2);
}

static void a_path_is_a_model_too(void **state)
{
    (void)state;
    struct store_model model;
    write_onnx("a.onnx", 1, "w.bin");
    assert_int_equal(store_resolve(store, path_of("a.onnx"), &model, NULL), SL_NOT_FOUND);
    shell("head -c 24 /dev/zero > w.bin");
    assert_int_equal(store_resolve(store, path_of("a.onnx"), &model, NULL), SL_OK);
    assert_string_equal(model.details.format, "onnx");
    assert_true(model.local && model.size > 24);
    store_model_done(&model);
}

static void lost_memory_is_told(void **state)
{
    (void)state;
    write_folder();
    const struct store_import how = {.name = "m"};
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = store_import_model(store, path_of("Full/model.onnx"), &how, NULL);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (!hit) assert_int_equal(status, SL_OK);
        assert_int_equal(sl_mem_live(), live);
        if (status != SL_OK) assert_int_equal(n_files("home/models/manifests"), 0);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_goes_in_and_out),
        TEST(a_folder_brings_all_that_belongs_to_it),
        TEST(what_is_told_wins),
        TEST(versions_are_tags),
        TEST(a_repository_of_models),
        TEST(hostile_models_leave_nothing),
        TEST(a_killed_removal_is_swept_up),
        TEST(a_name_that_changes_drops_the_old_files),
        TEST(a_path_is_a_model_too),
        TEST(lost_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
