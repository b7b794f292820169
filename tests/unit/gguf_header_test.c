/* How long a GGUF file's header is, told from any number of its first bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "exec/llm/gguf.h"
#include "exec/llm/gguf_header.h"

#define GOLDEN STARLANE_ROOT "/tests/golden/llm/"

static uint64_t length(const unsigned char *bytes, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    uint64_t out = 0;
    if (gguf_header_length(bytes, n, &out, &err) != SL_OK) fail_msg("%zu bytes: %s", n, err.text);
    return out;
}

/* Where the first tensor's data begins: the header's end, aligned. */
static uint64_t data_begin(const struct gguf_file *file, const unsigned char *map)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const unsigned char *data = gguf_tensor_at(file, i)->data;
        if ((uint64_t)(data - map) < least) least = (uint64_t)(data - map);
    }
    return least;
}

static void test_whole_and_cut(void **state)
{
    static const char *const models[] = {"llama", "gemma3", "deepseek2-v3"};
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        struct gguf_file *file;
        char path[256];
        size_t size;
        snprintf(path, sizeof path, GOLDEN "%s.gguf", models[m]);
        assert_int_equal(gguf_open(path, &file, NULL), SL_OK);
        const unsigned char *map = gguf_shard_map(file, 0, &size);
        uint64_t end = length(map, size);
        assert_true(end <= data_begin(file, map));
        assert_true(end + 64 > data_begin(file, map));
        for (size_t n = 0; n < end; n += 1 + n / 64) {
            unsigned char *cut = malloc(n + 1); /* so that a read past n is seen */
            memcpy(cut, map, n);
            uint64_t need = length(cut, n);
            assert_true(need > n);
            assert_true(need <= end);
            free(cut);
        }
        assert_int_equal(length(map, end), end);
        gguf_close(file);
    }
}

static void test_what_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        sl_status status;
    } rows[] = {
        {"GGML\3\0\0\0", 8, SL_CORRUPT},
        {"GGUF\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, SL_UNSUPPORTED},
        {"GGUF\3\0\0\0\1\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, SL_LIMIT},
        {"GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\1\0\0\0\0\0", 24, SL_LIMIT},
        /* a key of no type that there is; a key's length beyond all */
        {"GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0k\x63\0\0\0", 37, SL_CORRUPT},
        {"GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff", 32, SL_LIMIT},
        /* a tensor of nine dimensions */
        {"GGUF\3\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0t\x09\0\0\0", 37, SL_CORRUPT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sl_err err = SL_ERR_INIT;
        uint64_t out = 7;
        assert_int_equal(gguf_header_length(rows[i].bytes, rows[i].n, &out, &err), rows[i].status);
        assert_int_equal(out, 7);
        assert_true(*err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_and_cut),
        cmocka_unit_test(test_what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
