/* oip_data_fuzz.c: any bytes as a request of the Open Inference Protocol. Without its lists it is
 * JSON exactly when it was before, unless a list is broken; and a list that is read holds what its
 * shape says and is written back as one that reads the same. */
#include "access/oip_data.h"
#include "base/json_read.h"
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_again(const struct tensor *first, struct sl_arena *arena)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf text;
    struct tensor second = *first;
    sl_buf_init(&text, 1u << 22);
    CHECK(oip_data_write(first, &text, &err) == SL_OK);
    const struct oip_data list = {text.data, text.len};
    /* NaN and infinities are written as null, which is no number. */
    if (!strstr(text.data, "null") || first->type == TENSOR_BYTES) {
        CHECK(oip_data_read(&list, arena, &second, &err) == SL_OK);
        CHECK(first->n_bytes == second.n_bytes &&
              !memcmp(first->data, second.data, first->n_bytes));
    }
    sl_buf_done(&text);
}

/* As every type, flat and in rows of two. */
static void read_list(const struct oip_data *list, uint8_t n_elements)
{
    for (int type = 0; type < TENSOR_TYPE_COUNT; type++) {
        struct tensor tensor = {"x", (enum tensor_type)type, 1, {n_elements}, NULL, 0};
        struct sl_err err = SL_ERR_INIT;
        struct sl_arena arena;
        if (n_elements % 2) {
            tensor.rank = 2;
            tensor.shape[0] = n_elements / 2;
            tensor.shape[1] = 2;
        }
        sl_arena_init(&arena, 1u << 22);
        if (oip_data_read(list, &arena, &tensor, &err) == SL_OK) {
            CHECK(tensor_check(&tensor, &err) == SL_OK);
            read_again(&tensor, &arena);
        } else {
            CHECK(err.text[0]);
        }
        sl_arena_done(&arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct oip_data lists[TENSORS_MAX];
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf rest;
    struct sl_json_value *whole = NULL, *cut = NULL;
    size_t n = 0;
    char *text = malloc(size + 1); /* ends in NUL, as a request's body does */
    if (!text || !size) {
        free(text);
        return 0;
    }
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    sl_buf_init(&rest, size + TENSORS_MAX * 16);
    if (oip_data_cut(text, size - 1, &rest, lists, &n, &err) == SL_OK) {
        bool was = sl_json_parse(text, size - 1, &whole, &err) == SL_OK;
        bool is = sl_json_parse(rest.data, rest.len, &cut, &err) == SL_OK;
        CHECK(is || !was);
        CHECK(n || is == was);
        for (size_t i = 0; i < n; i++) read_list(&lists[i], data[0]);
    }
    sl_json_free(whole);
    sl_json_free(cut);
    sl_buf_done(&rest);
    free(text);
    return 0;
}
