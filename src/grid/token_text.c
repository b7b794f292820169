/* token_text.c: a token as the text that people paste. */
#include "grid/token.h"
#include "base/base64.h"
#include "base/json_read.h"
#include "net/sha256.h"

#include <ctype.h>
#include <string.h>

#define PREFIX "slj1."
#define PREFIX_CHARS 5
#define JSON_BYTES_MAX 2048

static void put_addresses(struct sl_json *json, const char *addresses)
{
    char address[GRID_ADDRESS_SIZE];
    sl_json_key(json, "a");
    sl_json_array(json);
    for (size_t i = 0; member_list_item(addresses, i, address, sizeof address); i++)
        sl_json_str(json, address);
    sl_json_array_end(json);
}

sl_status token_text_write(const struct token_text *token, struct sl_buf *out)
{
    struct sl_json json;
    struct sl_buf text;
    sl_buf_init(&text, JSON_BYTES_MAX);
    sl_json_begin(&json, &text, false);
    sl_json_object(&json);
    put_addresses(&json, token->addresses);
    sl_json_kv_str(&json, "p", token->pin);
    sl_json_kv_str(&json, "i", token->id);
    sl_json_kv_str(&json, "s", token->secret);
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    if (status == SL_OK) status = sl_buf_adds(out, PREFIX);
    if (status == SL_OK) status = sl_base64_encode(out, SL_BASE64_URL, text.data, text.len);
    explicit_bzero(text.data, text.len);
    sl_buf_done(&text);
    return status;
}

static bool take_word(const struct sl_json_value *value, char *out, size_t n)
{
    size_t len;
    const char *text = sl_json_to_str(value, "", &len);
    if (len != n) return false;
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)text[i])) return false;
    }
    memcpy(out, text, n + 1);
    return true;
}

static bool take_addresses(const struct sl_json_value *list, struct token_text *out)
{
    size_t n = sl_json_size(list);
    out->addresses[0] = '\0';
    for (size_t i = 0; i < n && i < MEMBER_ADDRESSES_MAX; i++) {
        const char *text = sl_json_to_str(sl_json_at(list, i), "", NULL);
        if (!*text || strpbrk(text, ", /@?#")) return false;
        if (!member_list_add(out->addresses, sizeof out->addresses, text)) return false;
    }
    return n > 0;
}

static bool take_all(const struct sl_json_value *root, struct token_text *out)
{
    unsigned char pin[SHA256_BYTES];
    return take_addresses(sl_json_get(root, "a"), out) &&
           take_word(sl_json_get(root, "p"), out->pin, TOKEN_PIN_SIZE - 1) &&
           take_word(sl_json_get(root, "i"), out->id, TOKEN_ID_CHARS) &&
           take_word(sl_json_get(root, "s"), out->secret, TOKEN_SECRET_CHARS) &&
           sha256_from_hex(out->pin, pin) == SL_OK;
}

sl_status token_text_read(const char *text, struct token_text *out, struct sl_err *err)
{
    struct sl_buf bytes;
    struct sl_json_value *root = NULL;
    size_t n = strlen(text);
    if (strncmp(text, "slj", 3) == 0 && strncmp(text, PREFIX, PREFIX_CHARS) != 0)
        return sl_err_set(err, SL_INVALID, "the token is of another version of Starlane");
    if (strncmp(text, PREFIX, PREFIX_CHARS) != 0)
        return sl_err_set(err, SL_INVALID,
                          "\"%.20s\" is no join token: it begins with " PREFIX
                          " and `starlane token create` at a gateway prints one",
                          text);
    sl_buf_init(&bytes, JSON_BYTES_MAX);
    *out = (struct token_text){0};
    bool ok =
        sl_base64_decode(&bytes, SL_BASE64_URL, text + PREFIX_CHARS, n - PREFIX_CHARS) == SL_OK &&
        sl_json_parse(bytes.data, bytes.len, &root, NULL) == SL_OK && take_all(root, out);
    sl_json_free(root);
    explicit_bzero(bytes.data, bytes.len);
    sl_buf_done(&bytes);
    if (ok) return SL_OK;
    explicit_bzero(out, sizeof *out);
    return sl_err_set(err, SL_INVALID,
                      "the token is not whole: copy it again, all of it, in one line");
}
