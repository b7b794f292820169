/* registry_fuzz.c: what other members say of the registry, as messages and as tokens. What was
 * taken over must be within its limits, and come back the same when it is told on. */
#include "base/buf.h"
#include "grid/registry_sync.h"
#include "grid/token.h"

#include <stdlib.h>
#include <string.h>

static void on_send(void *ctx, const void *bytes, size_t n)
{
    (void)ctx;
    (void)bytes;
    (void)n;
}

static void check(bool holds)
{
    if (!holds) abort();
}

/* Another machine that hears all of it knows the same. */
static void tell_on(const struct registry *registry)
{
    struct registry *other = NULL;
    struct sl_json_value *value = NULL;
    struct sl_buf text;
    sl_buf_init(&text, REGISTRY_MESSAGE_BYTES_MAX);
    check(registry_encode(registry, 0, registry_count(registry), &text) == SL_OK);
    check(sl_json_parse(text.data, text.len, &value, NULL) == SL_OK);
    check(registry_create(&other) == SL_OK);
    check(registry_decode(other, value, NULL) == SL_OK);
    check(registry_digest(other) == registry_digest(registry));
    sl_json_free(value);
    registry_destroy(other);
    sl_buf_done(&text);
}

static void hear_message(const uint8_t *bytes, size_t n)
{
    struct registry *registry = NULL;
    struct registry_sync *sync = NULL;
    struct sl_err err = SL_ERR_INIT;
    check(registry_create(&registry) == SL_OK);
    const struct registry_sync_cfg cfg = {.registry = registry, .speaks = true, .send = on_send};
    check(registry_sync_create(&cfg, &sync) == SL_OK);
    (void)!registry_sync_receive(sync, "naaaaaaaaaaaaa", bytes, n, &err);
    for (size_t i = 0; i < registry_count(registry); i++)
        check(member_check(registry_at(registry, i), NULL) == SL_OK);
    if (registry_count(registry)) tell_on(registry);
    registry_sync_destroy(sync);
    registry_destroy(registry);
}

static void read_token(const uint8_t *bytes, size_t n)
{
    char text[TOKEN_TEXT_MAX];
    struct token_text token, back;
    struct sl_buf out;
    if (n >= sizeof text) return;
    memcpy(text, bytes, n);
    text[n] = '\0';
    if (token_text_read(text, &token, NULL) != SL_OK) return;
    sl_buf_init(&out, TOKEN_TEXT_MAX);
    check(token_text_write(&token, &out) == SL_OK);
    check(token_text_read(out.data, &back, NULL) == SL_OK);
    check(memcmp(&token, &back, sizeof back) == 0);
    sl_buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (n && bytes[0] == 's')
        read_token(bytes, n);
    else
        hear_message(bytes, n);
    return 0;
}
