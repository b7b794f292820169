/* store_manifest_test.c: manifests written and read back, and those that lie. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "grid/store_manifest.h"
#include "grid/store_ollama.h"

#include <stdio.h>
#include <string.h>

#define D1 "1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "2222222222222222222222222222222222222222222222222222222222222222"
#define PLACE "registry.ollama.ai/library/m/t"

/* The manifest below, piece by piece, so that a test can replace one. */
struct pieces {
    const char *version, *name, *format, *digest, *size, *layers, *more;
};

static const struct pieces sound = {
    "1",        "\"m:t\"",
    "\"gguf\"", "\"sha256:" D1 "\"",
    "10",       "[{\"role\":\"model\",\"digest\":\"sha256:" D1 "\",\"size\":10}]",
    ""};

static const char *text_of(const struct pieces *p)
{
    static char text[8192];
    snprintf(text, sizeof text,
             "{\"version\":%s,\"name\":%s,\"format\":%s,\"digest\":%s,\"size\":%s,\"created_ms\":5,"
             "\"details\":{\"family\":\"llama\",\"parameter_size\":\"7.5M\","
             "\"quantization_level\":\"Q4_0\",\"parameters\":7,\"context_length\":8},"
             "\"layers\":%s%s}",
             p->version, p->name, p->format, p->digest, p->size, p->layers, p->more);
    return text;
}

static sl_status parse(const struct pieces *p, struct store_model *out, struct sl_err *err)
{
    const char *text = text_of(p);
    return store_manifest_parse(text, strlen(text), PLACE, out, err);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct store_model model, again;
    struct pieces p = sound;
    struct sl_buf text;
    uint64_t live = sl_mem_live();
    p.more = ",\"chat_template\":\"{{x}}\",\"system\":\"Be \\u00e4\",\"licence\":\"MIT\","
             "\"parameters\":{\"stop\":[\"a\"],\"temperature\":0.5},\"source\":\"https://h/a\","
             "\"unknown\":[1]";
    if (parse(&p, &model, &err) != SL_OK) fail_msg("%s", err.text);
    assert_string_equal(model.parameters, "{\"stop\":[\"a\"],\"temperature\":0.5}");
    sl_buf_init(&text, 65536);
    assert_int_equal(store_manifest_write(&model, &text), SL_OK);
    assert_int_equal(store_manifest_parse(text.data, text.len, PLACE, &again, &err), SL_OK);
    assert_string_equal(again.name, "m:t");
    assert_string_equal(again.digest, D1);
    assert_int_equal(again.size, 10);
    assert_int_equal(again.modified_ms, 5);
    assert_string_equal(again.details.quantization_level, "Q4_0");
    assert_string_equal(again.chat_template, "{{x}}");
    assert_string_equal(again.system, model.system);
    assert_string_equal(again.parameters, model.parameters);
    assert_string_equal(again.source, "https://h/a");
    assert_null(again.ollama_template);
    assert_int_equal(again.n_layers, 1);
    sl_buf_done(&text);
    store_model_done(&model);
    store_model_done(&again);
    assert_int_equal(sl_mem_live(), live);
}

static void refused(struct pieces p, sl_status status)
{
    struct store_model model;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    sl_status got = parse(&p, &model, &err);
    if (got != status) fail_msg("%s for %s", sl_status_name(got), text_of(&p));
    assert_int_not_equal(strlen(err.text), 0);
    assert_int_equal(sl_mem_live(), live);
}

/* The sound one, with one piece replaced. */
static struct pieces with(size_t offset, const char *text)
{
    struct pieces p = sound;
    memcpy((char *)&p + offset, &text, sizeof text);
    return p;
}

#define WITH(field, text) with(offsetof(struct pieces, field), text)

static void manifests_that_lie_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"5",         "\"\"",           "\"m:u\"", "\"../../m:t\"",
                                        "\"x/m:t\"", "\"m:t\\u0000\"", "null"};
    static const char *const digests[] = {
        "\"sha256:11\"",    "\"md5:" D1 "\"", "\"" D1 "x\"", "7", "\"sha256:../../../etc/passwd\"",
        "\"sha256:" D2 "\""};
    static const char *const sizes[] = {"-1", "11", "1e300", "\"10\"", "99999999999999999999"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        refused(WITH(name, names[i]), SL_CORRUPT);
    for (size_t i = 0; i < sizeof digests / sizeof *digests; i++)
        refused(WITH(digest, digests[i]), SL_CORRUPT);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        refused(WITH(size, sizes[i]), SL_CORRUPT);
    refused(WITH(version, "2"), SL_UNSUPPORTED);
    refused(WITH(format, "\"safetensors\""), SL_UNSUPPORTED);
    refused(WITH(format, "\"onnx\""), SL_CORRUPT); /* its file has no name */
}

#define ONNX_LAYER(role, file, digest) \
    "{\"role\":\"" role "\",\"file\":\"" file "\",\"digest\":\"sha256:" digest "\",\"size\":10}"

static struct pieces onnx(const char *layers, const char *more)
{
    struct pieces p = sound;
    p.format = "\"onnx\"";
    p.layers = layers;
    p.more = more;
    return p;
}

static void an_onnx_manifest(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct store_model model, again;
    struct sl_buf text;
    struct pieces p = onnx("[" ONNX_LAYER("model", "model.onnx", D1) "]", "");
    if (parse(&p, &model, &err) != SL_OK) fail_msg("%s", err.text);
    assert_string_equal(model.digest, D1); /* one file, and nothing beside it */
    assert_int_equal(store_object_text("{\"a\": 0.10}", 11, "x", &model.processing, &err), SL_OK);
    assert_int_equal(store_object_text("{\"instances\": 2}", 16, "x", &model.options, &err), SL_OK);
    struct store_layer labels = {.role = "labels", .digest = D2, .file = "labels.txt", .size = 7};
    assert_int_equal(store_model_add_layer(&model, &labels, &err), SL_OK);
    assert_int_equal(store_model_sum(&model, &err), SL_OK);
    assert_string_not_equal(model.digest, D1);
    assert_int_equal(model.size, 10);
    sl_buf_init(&text, 65536);
    assert_int_equal(store_manifest_write(&model, &text), SL_OK);
    if (store_manifest_parse(text.data, text.len, PLACE, &again, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_true(store_model_is_onnx(&again));
    assert_string_equal(again.digest, model.digest);
    assert_string_equal(again.processing, "{\"a\":0.1}");
    assert_string_equal(again.options, "{\"instances\":2}");
    assert_string_equal(again.layers[1].file, "labels.txt");
    sl_buf_done(&text);
    store_model_done(&model);
    store_model_done(&again);
}

static void onnx_manifests_that_lie_are_refused(void **state)
{
    (void)state;
    static const char *const layers[] = {
        "[" ONNX_LAYER("model", "../model.onnx", D1) "]",
        "[" ONNX_LAYER("model", "/model.onnx", D1) "]",
        "[" ONNX_LAYER("model", "", D1) "]",
        "[" ONNX_LAYER("labels", "labels.txt", D1) "]",
        "[" ONNX_LAYER("model", "a", D1) "," ONNX_LAYER("labels", "a", D2) "]",
        "[" ONNX_LAYER("model", "a", D1) "," ONNX_LAYER("model", "b", D2) "]",
        "[" ONNX_LAYER("model", "a", D1) "," ONNX_LAYER("labels", "b", D2) "]", /* the digest */
    };
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        refused(onnx(layers[i], ""), SL_CORRUPT);
    refused(onnx("[" ONNX_LAYER("model", "a", D1) "]", ",\"processing\":[]"), SL_CORRUPT);
    refused(onnx("[" ONNX_LAYER("model", "a", D1) "]", ",\"onnx\":\"{}\""), SL_CORRUPT);
    refused(onnx("[" ONNX_LAYER("model", "a", D1) "]", ",\"onnx\":{}"), SL_CORRUPT);
}

static void layers_that_lie_are_refused(void **state)
{
    (void)state;
    static const char *const layers[] = {
        "[]",
        "{}",
        "5",
        "[5]",
        "[{}]",
        "[{\"role\":\"eyes\",\"digest\":\"sha256:" D1 "\",\"size\":10}]",
        "[{\"role\":\"model\",\"digest\":\"sha256:" D1 "\",\"size\":0}]",
        "[{\"role\":\"model\",\"digest\":\"sha256:" D1 "\",\"size\":9000000000000000000}]",
        "[{\"role\":\"model\",\"digest\":\"sha256:/etc/passwd\",\"size\":10}]",
        "[{\"role\":\"model-model-model-model-model-model\",\"digest\":\"sha256:" D1
        "\",\"size\":10}]",
        "[{\"role\":\"model\",\"digest\":\"sha256:" D1 "\",\"size\":10},"
        "{\"role\":\"model\",\"digest\":\"sha256:" D2 "\",\"size\":10}]",
    };
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        refused(WITH(layers, layers[i]), SL_CORRUPT);
    refused(WITH(more, ",\"parameters\":[]"), SL_CORRUPT);
    refused(WITH(more, ",\"system\":7"), SL_CORRUPT);
    refused(WITH(more, ",\"chat_template\":\"a\\u0000b\""), SL_CORRUPT);
}

static void texts_that_are_no_manifest(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "null", "[]", "<html>", "{\"version\":1", "\xff"};
    struct store_model model;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        sl_status status = store_manifest_parse(texts[i], strlen(texts[i]), PLACE, &model, NULL);
        assert_int_equal(status, SL_CORRUPT);
    }
}

static void lost_memory_is_told(void **state)
{
    (void)state;
    struct pieces p = sound;
    struct store_model model;
    sl_status status = SL_NOMEM;
    uint64_t live = sl_mem_live();
    p.more = ",\"system\":\"s\",\"parameters\":{\"a\":1}";
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = parse(&p, &model, NULL);
        sl_mem_fail_at(0, false);
        if (status != SL_OK) {
            assert_int_equal(status, SL_NOMEM);
            assert_int_equal(sl_mem_live(), live);
        }
    }
    store_model_done(&model);
    assert_int_equal(sl_mem_live(), live);
}

static sl_status parse_ollama(const char *layers, struct store_ollama_manifest *out)
{
    char text[4096];
    snprintf(text, sizeof text, "{\"schemaVersion\":2,\"layers\":[%s]}", layers);
    return store_ollama_parse(text, strlen(text), out, NULL);
}

#define LAYER(kind, digest, size) \
    "{\"mediaType\":\"application/vnd.ollama.image." kind "\",\"digest\":\"sha256:" digest \
    "\",\"size\":" size "}"

static void ollama_manifests(void **state)
{
    (void)state;
    static struct store_ollama_manifest manifest;
    assert_int_equal(parse_ollama(LAYER("params", D2, "5") "," LAYER("model", D1, "10") "," LAYER(
                                      "projector", D2, "7"),
                                  &manifest),
                     SL_OK);
    assert_int_equal(manifest.n, 3);
    assert_int_equal(manifest.layers[0].kind, STORE_OLLAMA_PARAMS);
    assert_int_equal(manifest.layers[1].kind, STORE_OLLAMA_MODEL);
    assert_string_equal(manifest.layers[1].digest, D1);
    assert_int_equal(manifest.layers[2].kind, STORE_OLLAMA_OTHER);
    assert_int_equal(parse_ollama(LAYER("license", D1, "10"), &manifest), SL_UNSUPPORTED);
    assert_int_equal(parse_ollama(LAYER("adapter", D1, "10"), &manifest), SL_UNSUPPORTED);
    assert_int_equal(parse_ollama(LAYER("model", "../../x", "10"), &manifest), SL_CORRUPT);
    assert_int_equal(parse_ollama(LAYER("model", D1, "0"), &manifest), SL_CORRUPT);
    assert_int_equal(parse_ollama(LAYER("system", D1, "99999999"), &manifest), SL_LIMIT);
    assert_int_equal(parse_ollama("", &manifest), SL_UNSUPPORTED);
}

static void ollama_texts(void **state)
{
    (void)state;
    struct store_model model = {0};
    assert_int_equal(store_ollama_apply(STORE_OLLAMA_LICENCE, "a", 1, &model, NULL), SL_OK);
    assert_int_equal(store_ollama_apply(STORE_OLLAMA_LICENCE, "b", 1, &model, NULL), SL_OK);
    assert_string_equal(model.licence, "a\n\nb");
    assert_int_equal(store_ollama_apply(STORE_OLLAMA_PARAMS, "{\"a\":1}", 7, &model, NULL), SL_OK);
    assert_string_equal(model.parameters, "{\"a\":1}");
    assert_int_equal(store_ollama_apply(STORE_OLLAMA_PARAMS, "[1]", 3, &model, NULL), SL_CORRUPT);
    assert_int_equal(store_ollama_apply(STORE_OLLAMA_SYSTEM, "a\0b", 3, &model, NULL), SL_CORRUPT);
    assert_null(model.system);
    store_model_done(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(manifests_that_lie_are_refused),
        cmocka_unit_test(layers_that_lie_are_refused),
        cmocka_unit_test(an_onnx_manifest),
        cmocka_unit_test(onnx_manifests_that_lie_are_refused),
        cmocka_unit_test(texts_that_are_no_manifest),
        cmocka_unit_test(lost_memory_is_told),
        cmocka_unit_test(ollama_manifests),
        cmocka_unit_test(ollama_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
