/* The small parts of a worker: its prompts, its batch of events, its last words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "exec/worker_batch.h"
#include "exec/worker_prompt.h"
#include "exec/worker_share.h"
#include "exec/worker_words.h"

/* An engine that only tells what it is and makes a token of each byte. */

static void fake_info(const void *self, struct engine_info *out)
{
    (void)self;
    *out = (struct engine_info){.architecture = "fake",
                                .name = "",
                                .chat_template = "{{ bos_token }}{{ messages[0].content }}",
                                .bos_text = "<s>",
                                .eos_text = "</s>",
                                .adds_bos = true,
                                .n_ctx = 100};
}

static sl_status fake_tokenize(void *self, const char *text, size_t n, bool parse_special,
                               struct sl_buf *out, struct sl_err *err)
{
    sl_status status = SL_OK;
    (void)self;
    (void)parse_special;
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        int32_t token = text[i];
        status = sl_buf_add(out, &token, sizeof token);
    }
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "tokens");
}

static void fake_unload(void *self)
{
    (void)self;
}

static const struct engine_ops fake_ops = {
    .name = "fake", .info = fake_info, .tokenize = fake_tokenize, .unload = fake_unload};

static struct engine *fake_engine(void)
{
    static int self;
    struct engine *engine = NULL;
    struct sl_err err;
    assert_int_equal(engine_create(&fake_ops, &self, &engine, &err), SL_OK);
    return engine;
}

static struct worker_share nothing_shared;

#define CHAT "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"

static struct wire_prompt chat_prompt(const char *chat)
{
    return (struct wire_prompt){.chat = chat, .n_chat = strlen(chat)};
}

static void test_chat_has_one_bos(void **state)
{
    struct engine *engine = fake_engine();
    struct worker_prompter prompter;
    struct worker_prompt out;
    struct sl_err err = SL_ERR_INIT;
    const struct wire_prompt prompt = chat_prompt(CHAT);
    (void)state;
    assert_int_equal(worker_prompter_init(&prompter, engine, NULL, &err), SL_OK);
    assert_int_equal(worker_prompt_make(&prompter, &prompt, true, &out, &err), SL_OK);
    assert_int_equal(out.n_text, 2);
    assert_memory_equal(out.text, "hi", 2);
    assert_true(out.parse_special);
    assert_int_equal(out.n_tokens, 2);
    assert_int_equal(out.tokens[0], 'h');
    worker_prompter_done(&prompter);
    engine_unload(engine);
}

static void test_given_template_comes_first(void **state)
{
    struct engine *engine = fake_engine();
    struct worker_prompter prompter;
    struct worker_prompt out;
    struct sl_err err = SL_ERR_INIT;
    const struct wire_prompt prompt = chat_prompt(CHAT);
    (void)state;
    assert_int_equal(worker_prompter_init(&prompter, engine, "Q: {{ messages[0].content }}", &err),
                     SL_OK);
    assert_string_equal(prompter.source, "Q: {{ messages[0].content }}");
    assert_int_equal(worker_prompt_make(&prompter, &prompt, false, &out, &err), SL_OK);
    assert_int_equal(out.n_text, 5);
    assert_memory_equal(out.text, "Q: hi", 5);
    assert_null(out.tokens);
    worker_prompter_done(&prompter);
    engine_unload(engine);
}

static void test_bad_prompts(void **state)
{
    static const char *const bad[] = {"", "[]", "{\"messages\":", "7"};
    struct engine *engine = fake_engine();
    struct worker_prompter prompter;
    struct worker_prompt out;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    assert_int_equal(worker_prompter_init(&prompter, engine, "{% if %}", &err), SL_INVALID);
    assert_non_null(strstr(err.text, "chat template"));
    worker_prompter_done(&prompter);
    assert_int_equal(worker_prompter_init(&prompter, engine, NULL, &err), SL_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct wire_prompt prompt = chat_prompt(bad[i]);
        assert_int_equal(worker_prompt_make(&prompter, &prompt, false, &out, &err), SL_INVALID);
        assert_null(out.text);
    }
    worker_prompter_done(&prompter);
    engine_unload(engine);
}

static void test_prompter_without_memory(void **state)
{
    struct engine *engine = fake_engine();
    struct worker_prompter prompter;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    (void)state;
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = worker_prompter_init(&prompter, engine, NULL, &err);
        sl_mem_fail_at(0, false);
        if (status != SL_OK) assert_int_equal(status, SL_NOMEM);
        worker_prompter_done(&prompter);
        assert_int_equal(sl_mem_live(), live);
    }
    engine_unload(engine);
}

static struct wire_event token_event(char *text)
{
    struct wire_event event = {.type = WIRE_EVENT_ENGINE, .id = 3};
    event.engine = (struct engine_event){
        .type = ENGINE_EVENT_TOKEN, .id = 3, .token = 9, .text = text, .n_text = strlen(text)};
    return event;
}

static void test_batch_copies(void **state)
{
    char text[] = "one";
    const struct wire_event event = token_event(text);
    struct worker_batch batch;
    struct wire_msg msg;
    (void)state;
    worker_batch_init(&batch, &nothing_shared);
    assert_int_equal(worker_batch_add(&batch, &event), SL_OK);
    memcpy(text, "two", 3);
    assert_int_equal(worker_batch_add(&batch, &event), SL_OK);
    worker_batch_message(&batch, &msg);
    assert_int_equal(msg.type, WIRE_EVENTS);
    assert_int_equal(msg.events.n, 2);
    assert_memory_equal(msg.events.v[0].engine.text, "one", 3);
    assert_memory_equal(msg.events.v[1].engine.text, "two", 3);
    worker_batch_clear(&batch);
    assert_int_equal(worker_batch_count(&batch), 0);
    worker_batch_done(&batch);
}

static void test_batch_says_when_it_is_full(void **state)
{
    char text[] = "x";
    const struct wire_event event = token_event(text);
    struct worker_batch batch;
    size_t n = 0;
    (void)state;
    worker_batch_init(&batch, &nothing_shared);
    for (; !worker_batch_full(&batch); n++)
        assert_int_equal(worker_batch_add(&batch, &event), SL_OK);
    assert_true(n > 1000 && n < 100000);
    worker_batch_done(&batch);
}

static void test_batch_without_memory(void **state)
{
    char text[] = "x";
    const struct wire_event event = token_event(text);
    struct worker_batch batch;
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    (void)state;
    for (uint64_t n = 1; status != SL_OK; n++) {
        worker_batch_init(&batch, &nothing_shared);
        sl_mem_fail_at(n, false);
        status = worker_batch_add(&batch, &event);
        sl_mem_fail_at(0, false);
        assert_int_equal(worker_batch_count(&batch), status == SL_OK);
        worker_batch_done(&batch);
        assert_int_equal(sl_mem_live(), live);
    }
}

static void count_line(void *ctx, const char *line)
{
    int *n = ctx;
    assert_true(strlen(line) > 0 && strlen(line) <= WORKER_LINE_MAX);
    ++*n;
}

static void test_words(void **state)
{
    struct worker_words words = {.on_line = count_line};
    char out[200], small[10];
    int n = 0;
    (void)state;
    words.ctx = &n;
    worker_words_last(&words, out, sizeof out);
    assert_string_equal(out, "");
    worker_words_add(&words, "one\ntwo\r\n\nth", 12);
    worker_words_add(&words, "ree\nfo\x1bur", 9);
    assert_int_equal(n, 3);
    worker_words_end(&words);
    assert_int_equal(n, 4);
    worker_words_last(&words, out, sizeof out);
    assert_string_equal(out, "two | three | fo?ur");
    worker_words_last(&words, small, sizeof small);
    assert_string_equal(small, "two | thr");
}

static void test_words_of_one_long_line(void **state)
{
    struct worker_words words = {.on_line = count_line};
    char text[1000];
    int n = 0;
    (void)state;
    words.ctx = &n;
    memset(text, 'x', sizeof text);
    worker_words_add(&words, text, sizeof text);
    worker_words_end(&words);
    assert_int_equal(n, 1000 / WORKER_LINE_MAX + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_has_one_bos),
        cmocka_unit_test(test_given_template_comes_first),
        cmocka_unit_test(test_bad_prompts),
        cmocka_unit_test(test_prompter_without_memory),
        cmocka_unit_test(test_batch_copies),
        cmocka_unit_test(test_batch_says_when_it_is_full),
        cmocka_unit_test(test_batch_without_memory),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_words_of_one_long_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
