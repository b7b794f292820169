/* store_manifest_fuzz.c: manifests of the store and of Ollama from any bytes: what is taken can be
 * written and read back, and names no file outside its place. */
#include "base/mem.h"
#include "grid/store_manifest.h"
#include "grid/store_name.h"
#include "grid/store_ollama.h"

#include <stdlib.h>
#include <string.h>

#define PLACE "registry.ollama.ai/library/m/latest"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool held)
{
    if (!held) abort();
}

static void check_name(const char *bytes, size_t n)
{
    char text[STORE_NAME_SIZE], path[STORE_NAME_PATH_SIZE];
    struct store_name name;
    if (n >= sizeof text) return;
    memcpy(text, bytes, n);
    text[n] = '\0';
    if (store_name_parse(text, &name, NULL) != SL_OK) return;
    store_name_path(&name, path);
    must(path[0] != '/' && path[0] != '.' && !strstr(path, "/.") && !strstr(path, "//"));
}

static void check_again(const struct store_model *model)
{
    struct store_model again;
    struct sl_buf text;
    sl_buf_init(&text, STORE_MANIFEST_BYTES_MAX);
    must(store_manifest_write(model, &text) == SL_OK);
    must(store_manifest_parse(text.data, text.len, PLACE, &again, NULL) == SL_OK);
    must(strcmp(model->digest, again.digest) == 0 && model->size == again.size);
    must(model->n_layers == again.n_layers);
    store_model_done(&again);
    sl_buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct store_ollama_manifest ollama;
    const char *text = (const char *)data;
    struct store_model model;
    uint64_t live = sl_mem_live();
    check_name(text, size);
    if (store_manifest_parse(text, size, PLACE, &model, NULL) == SL_OK) {
        check_again(&model);
        store_model_done(&model);
    }
    if (store_ollama_parse(text, size, &ollama, NULL) == SL_OK) must(ollama.n > 0);
    must(sl_mem_live() == live);
    return 0;
}
