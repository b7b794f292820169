/* store_test.c: models go in, are found, listed, copied and removed; blobs live as long as a name
 * or a claim needs them; what is broken or hostile in the folder is not listed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "exec/llm/gguf_write.h"
#include "grid/store.h"
#include "grid/store_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[32];
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
    snprintf(line, sizeof line, "cd %s && %s", folder, command);
    assert_int_equal(system(line), 0);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/store_test_XXXXXX");
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

/* A sound GGUF file with one small tensor; `seed` makes its bytes unlike others'. */
static void write_gguf(const char *file, uint32_t seed, uint32_t no, uint32_t n_shards)
{
    struct sl_err err = SL_ERR_INIT;
    struct gguf_writer *w;
    char tensor[32];
    float v[8] = {(float)seed};
    snprintf(tensor, sizeof tensor, "t%u", no);
    if (gguf_writer_create(path_of(file), &w, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(gguf_write_str(w, "general.architecture", "llama"), SL_OK);
    if (n_shards > 1) {
        assert_int_equal(gguf_write_u32(w, "split.no", no), SL_OK);
        assert_int_equal(gguf_write_u32(w, "split.count", n_shards), SL_OK);
        assert_int_equal(gguf_write_u32(w, "split.tensors.count", n_shards), SL_OK);
    }
    assert_int_equal(gguf_write_tensor(w, tensor, 0, 1, (const int64_t[]){8}), SL_OK);
    assert_int_equal(gguf_write_begin_data(w, &err), SL_OK);
    assert_int_equal(gguf_write_data(w, v, sizeof v, &err), SL_OK);
    assert_int_equal(gguf_write_finish(w, &err), SL_OK);
    gguf_writer_destroy(w);
}

static void import(const char *file, const char *name)
{
    struct sl_err err = SL_ERR_INIT;
    if (store_import_file(store, path_of(file), name, &err) != SL_OK) fail_msg("%s", err.text);
}

static struct store_model find(const char *name)
{
    struct sl_err err = SL_ERR_INIT;
    struct store_model model;
    if (store_find(store, name, &model, &err) != SL_OK) fail_msg("%s", err.text);
    return model;
}

static size_t n_listed(size_t n_broken)
{
    struct store_models models;
    assert_int_equal(store_list(store, &models, NULL), SL_OK);
    size_t n = models.n;
    assert_int_equal(models.n_broken, n_broken);
    store_models_done(&models);
    return n;
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
    write_gguf("Tiny-Q8.gguf", 1, 0, 1);
    assert_int_equal(n_listed(0), 0);
    import("Tiny-Q8.gguf", NULL);
    struct store_model model = find("tiny-q8");
    struct stat st;
    assert_string_equal(model.name, "tiny-q8:latest");
    assert_string_equal(model.details.family, "llama");
    assert_string_equal(model.details.quantization_level, "F32");
    assert_string_equal(model.details.parameter_size, "8");
    assert_int_equal(stat(model.path, &st), 0);
    assert_int_equal(st.st_size, model.size);
    store_model_done(&model);
    assert_int_equal(n_listed(0), 1);
    assert_int_equal(store_rm(store, "tiny-q8", &freed, NULL), SL_OK);
    assert_int_equal(n_listed(0), 0);
    assert_int_equal(n_files("home/models/blobs") + n_files("home/models/manifests"), 0);
    assert_int_equal(store_rm(store, "tiny-q8", &freed, NULL), SL_NOT_FOUND);
    assert_int_equal(sl_mem_live(), live);
    assert_int_equal(access(path_of("Tiny-Q8.gguf"), R_OK), 0);
}

static void a_blob_lives_as_long_as_a_name_needs_it(void **state)
{
    (void)state;
    write_gguf("a.gguf", 2, 0, 1);
    import("a.gguf", "one");
    assert_int_equal(store_cp(store, "one", "me/two:x", NULL), SL_OK);
    import("a.gguf", "three");
    assert_int_equal(n_files("home/models/blobs"), 1);
    assert_int_equal(store_rm(store, "one", NULL, NULL), SL_OK);
    assert_int_equal(store_rm(store, "three:latest", NULL, NULL), SL_OK);
    assert_int_equal(n_files("home/models/blobs"), 1);
    struct store_model model = find("me/two:x");
    store_model_done(&model);
    assert_int_equal(store_rm(store, "me/two:x", NULL, NULL), SL_OK);
    assert_int_equal(n_files("home/models/blobs"), 0);
}

static void a_name_that_gets_another_model_drops_the_old_blob(void **state)
{
    (void)state;
    write_gguf("a.gguf", 3, 0, 1);
    write_gguf("b.gguf", 4, 0, 1);
    import("a.gguf", "m");
    import("b.gguf", "m");
    assert_int_equal(n_files("home/models/blobs"), 1);
    assert_int_equal(n_listed(0), 1);
    import("a.gguf", "n");
    assert_int_equal(store_cp(store, "n", "m", NULL), SL_OK);
    assert_int_equal(n_files("home/models/blobs"), 1);
    assert_int_equal(n_listed(0), 2);
}

static void a_split_model_is_one(void **state)
{
    (void)state;
    write_gguf("s-00001-of-00002.gguf", 5, 0, 2);
    write_gguf("s-00002-of-00002.gguf", 6, 1, 2);
    import("s-00002-of-00002.gguf", NULL);
    struct store_model model = find("s"), again;
    assert_int_equal(model.n_layers, 2);
    assert_non_null(strstr(model.path, "-00001-of-00002.gguf"));
    shell("rm -r home/models/shards"); /* links only: they come back */
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(store_resolve(store, "s", &again, &err), SL_OK);
    assert_string_equal(again.path, model.path);
    assert_int_equal(access(again.path, R_OK), 0);
    store_model_done(&model);
    store_model_done(&again);
    assert_int_equal(store_rm(store, "s", NULL, NULL), SL_OK);
    assert_int_equal(n_files("home/models/blobs"), 0);
    assert_int_not_equal(access(path_of("home/models/shards/x"), F_OK), 0);
    shell("rm s-00002-of-00002.gguf");
    assert_int_equal(store_import_file(store, path_of("s-00001-of-00002.gguf"), NULL, &err),
                     SL_NOT_FOUND);
    assert_int_equal(n_files("home/models/blobs"), 0);
}

static void what_is_no_model_leaves_nothing(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    shell("echo no model at all, just text > bad.gguf; mkdir dir.gguf");
    assert_int_equal(store_import_file(store, path_of("bad.gguf"), NULL, &err), SL_CORRUPT);
    assert_int_not_equal(store_import_file(store, path_of("dir.gguf"), NULL, &err), SL_OK);
    assert_int_equal(store_import_file(store, path_of("none.gguf"), NULL, &err), SL_NOT_FOUND);
    write_gguf("a.gguf", 7, 0, 1);
    assert_int_equal(store_import_file(store, path_of("a.gguf"), "../x", &err), SL_INVALID);
    assert_int_equal(store_import_file(store, path_of("a.gguf"), "starling", &err), SL_INVALID);
    assert_int_equal(n_files("home"), 1); /* the lock */
}

#define MANIFESTS "home/models/manifests/registry.ollama.ai/library"

/* Puts a copy of a sound manifest elsewhere, edited by sed. */
static void plant(const char *place, const char *edit)
{
    char line[1024];
    snprintf(line, sizeof line,
             "mkdir -p $(dirname " MANIFESTS "/%s) && sed '%s' " MANIFESTS "/m/latest > " MANIFESTS
             "/%s",
             place, edit, place);
    shell(line);
}

static void hostile_manifests_are_not_listed(void **state)
{
    (void)state;
    struct store_model model;
    struct store_models models;
    write_gguf("a.gguf", 8, 0, 1);
    import("a.gguf", "m");
    plant("x/latest", "s/a/a/"); /* says it is m */
    plant("y/latest", "s/m:latest/y:latest/;s/size/SIZE/");
    plant("z/latest", "s/m:latest/z:latest/;s/sha256:......../sha256:00000000/");
    plant("u/.hidden", "s/a/a/");
    shell("ln -s m " MANIFESTS "/link; mkdir " MANIFESTS "/link2; ln -s /etc/passwd " MANIFESTS
          "/link2/latest; mkdir -p " MANIFESTS "/dir/latest; head -c 1000 /dev/urandom > " MANIFESTS
          "/z/random");
    assert_int_equal(store_list(store, &models, NULL), SL_OK);
    assert_int_equal(models.n, 1);
    assert_int_equal(models.n_broken, 4);
    assert_int_not_equal(strlen(models.broken.text), 0);
    store_models_done(&models);
    assert_int_equal(store_find(store, "x", &model, NULL), SL_CORRUPT);
    assert_int_equal(store_find(store, "z", &model, NULL), SL_CORRUPT);
    assert_int_equal(store_find(store, "link2", &model, NULL), SL_CORRUPT);
    assert_int_equal(store_rm(store, "z", NULL, NULL), SL_OK); /* broken ones can go */
    assert_int_equal(store_rm(store, "m", NULL, NULL), SL_OK);
    assert_int_equal(n_files("home/models/blobs"), 1); /* x and y still name it */
}

static void broken_blobs_are_not_listed(void **state)
{
    (void)state;
    struct store_model model;
    write_gguf("a.gguf", 9, 0, 1);
    import("a.gguf", "m");
    shell("cd home/models/blobs; for f in *; do cp $f /tmp/$$; rm $f; ln -s /tmp/$$ $f; done");
    assert_int_equal(n_listed(1), 0);
    shell("cd home/models/blobs; for f in *; do rm $(readlink $f) $f; done");
    assert_int_equal(store_find(store, "m", &model, NULL), SL_CORRUPT);
    import("a.gguf", "m"); /* mends it */
    shell("chmod u+w home/models/blobs/*; cp a.gguf b; rm home/models/blobs/sha* a.gguf;"
          "mv b a.gguf");
    import("a.gguf", "m");
    assert_int_equal(n_listed(0), 1);
}

static void a_claimed_blob_stays(void **state)
{
    (void)state;
    struct store_lock claim;
    char key[STORE_DIGEST_SIZE + 8];
    write_gguf("a.gguf", 10, 0, 1);
    import("a.gguf", "m");
    struct store_model model = find("m");
    snprintf(key, sizeof key, "sha256-%s", model.digest);
    store_model_done(&model);
    assert_int_equal(store_claim(store, key, true, &claim, NULL), SL_OK);
    struct store_lock second;
    assert_int_equal(store_claim(store, key, false, &second, NULL), SL_BUSY);
    assert_int_equal(store_rm(store, "m", NULL, NULL), SL_OK);
    assert_int_equal(store_sweep(store, NULL, NULL), SL_OK);
    assert_int_equal(n_files("home/models/blobs"), 1);
    store_unlock(&claim);
    assert_int_equal(store_sweep(store, NULL, NULL), SL_OK);
    assert_int_equal(n_files("home/models/blobs") + n_files("home/models/partial"), 0);
}

static void paths_and_names_are_told_apart(void **state)
{
    (void)state;
    struct store_model model;
    char path[PATH_MAX];
    write_gguf("a.gguf", 11, 0, 1);
    assert_int_equal(store_resolve(store, path_of("a.gguf"), &model, NULL), SL_OK);
    assert_true(model.local);
    assert_string_equal(model.details.family, "llama");
    assert_string_equal(model.digest, "");
    store_model_done(&model);
    assert_int_equal(store_find(store, path_of("a.gguf"), &model, NULL), SL_INVALID);
    assert_int_equal(store_find(store, "../../etc/passwd", &model, NULL), SL_INVALID);
    assert_int_equal(store_resolve(store, "nothing", &model, NULL), SL_NOT_FOUND);
    assert_int_equal(store_resolve_path(store, path_of("a.gguf"), path, NULL), SL_OK);
    assert_int_equal(store_resolve_path(store, folder, path, NULL), SL_INVALID);
    assert_int_equal(store_resolve(store, "starling", &model, NULL), SL_NOT_FOUND);
    setenv("STARLANE_MODELS", STARLANE_ROOT "/models", 1);
    assert_int_equal(store_resolve(store, "starling:latest", &model, NULL), SL_OK);
    assert_true(model.bundled && strlen(model.digest) == 64 && model.details.n_params > 1000000);
    store_model_done(&model);
    assert_int_equal(store_rm(store, "starling", NULL, NULL), SL_INVALID);
    assert_int_equal(n_listed(0), 1);
    assert_int_equal(store_cp(store, "starling", "mine", NULL), SL_OK);
    assert_int_equal(n_listed(0), 2);
}

static void tell(void *ctx, const char *name, const struct sl_err *why_not)
{
    size_t n = strlen(ctx);
    snprintf((char *)ctx + n, 500 - n, "%s%s ", why_not ? "!" : "", name);
}

static void a_folder_goes_in(void **state)
{
    (void)state;
    char told[500] = "";
    struct sl_err err = SL_ERR_INIT;
    shell("mkdir d");
    assert_int_equal(store_import_dir(store, path_of("d"), NULL, tell, told, &err), SL_NOT_FOUND);
    write_gguf("d/s-00001-of-00002.gguf", 5, 0, 2);
    write_gguf("d/s-00002-of-00002.gguf", 6, 1, 2);
    write_gguf("d/one.gguf", 12, 0, 1);
    shell("echo no > d/bad.gguf; echo no > d/readme.txt");
    assert_int_equal(store_import_dir(store, path_of("d"), NULL, tell, told, &err), SL_OK);
    assert_non_null(strstr(told, "!bad:latest "));
    assert_non_null(strstr(told, "one:latest "));
    assert_non_null(strstr(told, "s:latest "));
    assert_int_equal(n_listed(0), 2);
}

/* Lays out what `ollama pull` would have left for one model, named by `place`. */
static void plant_ollama(const char *file, const char *place)
{
    char line[2048];
    snprintf(line, sizeof line,
             "mkdir -p o/blobs o/manifests/$(dirname %s);"
             "d=$(sha256sum < %s | cut -c1-64); cp %s o/blobs/sha256-$d;"
             "printf '{\"temperature\":0.5}' > p; e=$(sha256sum < p | cut -c1-64);"
             "mv p o/blobs/sha256-$e;"
             "printf '{\"layers\":[{\"mediaType\":\"application/vnd.ollama.image.model\","
             "\"digest\":\"sha256:%%s\",\"size\":%%d},{\"mediaType\":"
             "\"application/vnd.ollama.image.params\",\"digest\":\"sha256:%%s\",\"size\":19}]}'"
             " $d $(stat -c %%s %s) $e > o/manifests/%s",
             place, file, file, file, place);
    shell(line);
}

static void an_ollama_store_goes_in(void **state)
{
    (void)state;
    char told[500] = "";
    struct sl_err err = SL_ERR_INIT;
    write_gguf("a.gguf", 13, 0, 1);
    write_gguf("b.gguf", 14, 0, 1);
    plant_ollama("a.gguf", "registry.ollama.ai/library/a/7b");
    plant_ollama("b.gguf", "hf.co/org/repo/Q4_0");
    shell("echo '{}' > o/manifests/registry.ollama.ai/library/a/bad");
    assert_true(store_is_ollama_dir(path_of("o")));
    assert_false(store_is_ollama_dir(folder));
    assert_int_equal(store_import_ollama(store, path_of("o"), tell, told, &err), SL_OK);
    assert_non_null(strstr(told, "!a:bad "));
    struct store_model model = find("a:7b");
    assert_string_equal(model.parameters, "{\"temperature\":0.5}");
    store_model_done(&model);
    model = find("hf.co/org/repo:q4_0");
    store_model_done(&model);
    shell("f=$(ls -d o/blobs/* | head -1); for f in o/blobs/*; do chmod u+w $f; done;"
          "rm -r home; printf x >> a.gguf; d=$(ls -S o/blobs | head -1);"
          "cp --remove-destination a.gguf o/blobs/$d");
    told[0] = '\0';
    assert_int_equal(store_import_ollama(store, path_of("o"), tell, told, &err), SL_OK);
    assert_int_equal(n_listed(0), 1); /* the other's bytes are not its digest's */
}

static void lost_memory_is_told(void **state)
{
    (void)state;
    write_gguf("a.gguf", 15, 0, 1);
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = store_import_file(store, path_of("a.gguf"), "m", NULL);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (!hit) assert_int_equal(status, SL_OK);
        assert_int_equal(sl_mem_live(), live);
        if (status != SL_OK) assert_int_equal(n_files("home/models/manifests"), 0);
    }
    struct store *other;
    sl_mem_fail_at(1, false);
    assert_int_equal(store_open("/x", &other, NULL), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_int_equal(store_open("", &other, NULL), SL_INVALID);
    assert_int_equal(sl_mem_live(), live);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_goes_in_and_out),
        TEST(a_blob_lives_as_long_as_a_name_needs_it),
        TEST(a_name_that_gets_another_model_drops_the_old_blob),
        TEST(a_split_model_is_one),
        TEST(what_is_no_model_leaves_nothing),
        TEST(hostile_manifests_are_not_listed),
        TEST(broken_blobs_are_not_listed),
        TEST(a_claimed_blob_stays),
        TEST(paths_and_names_are_told_apart),
        TEST(a_folder_goes_in),
        TEST(an_ollama_store_goes_in),
        TEST(lost_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
