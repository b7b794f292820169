/* jinja_fuzz.c: any bytes as a template, rendered with a conversation, within small limits. The
 * text comes out as valid UTF-8 or there is a reason; nothing is left allocated. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "exec/chat/jinja.h"

#define CHECK(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char variables_text[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"S\\u00e9\"},{\"role\":\"user\",\"content\":"
    "\"a <think>b</think> c\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":"
    "\"1\",\"function\":{\"name\":\"f\",\"arguments\":{\"x\":[1,2.5,true,null]}}}]}],\"tools\":"
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"add_generation_prompt\":true}";

static const struct jinja_limits limits = {
    .source_bytes = 1 << 16,
    .memory_bytes = 1 << 22,
    .output_bytes = 1 << 18,
    .steps = 20000,
    .depth = 200,
    .range_items = 1000,
};

static void render(const struct jinja_template *tmpl, const struct sl_json_value *variables)
{
    const struct jinja_input input = {.variables = variables};
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    sl_buf_init(&out, 1 << 18);
    if (jinja_render(tmpl, &input, &out, &err) == SL_OK) {
        CHECK(sl_utf8_valid(out.data, out.len));
    } else {
        CHECK(err.text[0] && out.len == 0);
    }
    sl_buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jinja_template *tmpl = NULL;
    struct sl_json_value *variables = NULL;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    CHECK(sl_json_parse(variables_text, strlen(variables_text), &variables, &err) == SL_OK);
    if (jinja_create((const char *)data, size, &limits, &tmpl, &err) == SL_OK) {
        render(tmpl, variables);
    } else {
        CHECK(err.text[0] && !tmpl);
    }
    jinja_destroy(tmpl);
    sl_json_free(variables);
    CHECK(sl_mem_live() == live);
    return 0;
}
