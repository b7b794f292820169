/* text_tokenizer_fuzz.c: hostile tokenizer.json files, and hostile texts. The input is a
 * tokenizer.json, and after its first NUL byte, if there is one, a text. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "exec/text/text_tokenizer.h"

#define TEXT_MAX ((size_t)1 << 20)
#define CHECK(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_text(const struct text_tokenizer *tok, struct text_input text,
                     const struct text_encode_cfg *cfg)
{
    struct text_encoding encoding;
    struct sl_buf decoded;
    text_encoding_init(&encoding);
    sl_buf_init(&decoded, TEXT_MAX);
    if (text_tokenizer_encode(tok, text, text, cfg, &encoding, NULL) == SL_OK) {
        CHECK(!cfg->truncate || encoding.n <= cfg->max_tokens);
        sl_status status =
            text_tokenizer_decode(tok, encoding.ids, encoding.n, true, &decoded, NULL);
        CHECK(status == SL_OK || status == SL_LIMIT);
    } else {
        CHECK(encoding.n == 0);
    }
    sl_buf_done(&decoded);
    text_encoding_done(&encoding);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char TEXT[] =
        "Hello w\xc3\xb6rld, a\xcc\x81 \xe4\xbd\xa0 <s> [MASK] 12\r\n\xf0\x9f\x98\x80";
    struct text_tokenizer *tok;
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t n = end ? (size_t)(end - data) : size;
    if (text_tokenizer_load((const char *)data, n, &tok, NULL) != SL_OK) return 0;
    struct text_encode_cfg cfg = {.add_special = true};
    try_text(tok, (struct text_input){TEXT, sizeof TEXT - 1}, &cfg);
    cfg = (struct text_encode_cfg){.max_tokens = 5, .truncate = true};
    if (end) try_text(tok, (struct text_input){(const char *)end + 1, size - n - 1}, &cfg);
    text_tokenizer_destroy(tok);
    return 0;
}
