/* chat_session_test.c: the messages of a conversation, what a typed line means, and times as people
 * read them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "cli/chat_history.h"
#include "cli/chat_input.h"
#include "cli/time_text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void add(struct chat_history *history, enum chat_role role, const char *text)
{
    assert_int_equal(chat_history_add(history, role, text, strlen(text)), SL_OK);
}

static void assert_json(const struct chat_history *history, const char *system, const char *want)
{
    struct sl_json json;
    struct sl_buf out;
    sl_buf_init(&out, 4096);
    sl_json_begin(&json, &out, false);
    chat_history_put(history, system, &json);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_string_equal(out.data, want);
    sl_buf_done(&out);
}

#define SYSTEM(text) "{\"role\":\"system\",\"content\":\"" text "\"}"
#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define ASSISTANT(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"

static void messages_keep_their_order(void **state)
{
    (void)state;
    struct chat_history history = {0};
    assert_json(&history, NULL, "[]");
    add(&history, CHAT_USER, "one");
    assert_json(&history, "own", "[" SYSTEM("own") "," USER("one") "]");
    add(&history, CHAT_ASSISTANT, "two");
    add(&history, CHAT_SYSTEM, "be kind");
    assert_json(&history, "own", "[" SYSTEM("be kind") "," USER("one") "," ASSISTANT("two") "]");
    add(&history, CHAT_SYSTEM, "be short");
    assert_string_equal(chat_history_system(&history), "be short");
    assert_int_equal(history.n_bytes, 8 + 3 + 3);
    chat_history_truncate(&history, 2);
    assert_json(&history, NULL, "[" SYSTEM("be short") "," USER("one") "]");
    chat_history_clear(&history);
    assert_json(&history, NULL, "[" SYSTEM("be short") "]");
    chat_history_done(&history);
    assert_null(chat_history_system(&history));
    assert_int_equal(history.n_bytes, 0);
}

static sl_status read_text(struct chat_history *history, const char *text)
{
    struct sl_json_value *value = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(sl_json_parse(text, strlen(text), &value, &err), SL_OK);
    sl_status status = chat_history_read(history, value, &err);
    sl_json_free(value);
    return status;
}

static void messages_are_read_back(void **state)
{
    (void)state;
    static const char text[] = "[" SYSTEM("s") "," USER("u\\u0000v") "," ASSISTANT("a") "]";
    struct chat_history history = {0};
    add(&history, CHAT_USER, "before");
    assert_int_equal(read_text(&history, text), SL_OK);
    assert_json(&history, NULL, text);
    static const char *const bad[] = {"{}", "[1]", "[{\"role\":\"tool\",\"content\":\"x\"}]",
                                      "[{\"role\":\"user\"}]", "[" USER("x") ",null]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(read_text(&history, bad[i]), SL_INVALID);
    assert_json(&history, NULL, text);
    chat_history_done(&history);
}

static void a_history_without_memory_is_as_before(void **state)
{
    (void)state;
    size_t before = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t n = 1; status == SL_NOMEM; n++) {
        struct chat_history history = {0};
        sl_mem_fail_at(n, false);
        status = chat_history_add(&history, CHAT_USER, "text", 4);
        sl_mem_fail_at(0, false);
        assert_int_equal(history.n, status == SL_OK);
        chat_history_done(&history);
        assert_int_equal(sl_mem_live(), before);
    }
    assert_int_equal(status, SL_OK);
}

static void too_much_text_is_refused(void **state)
{
    (void)state;
    struct chat_history history = {0};
    char *text = sl_calloc(1, CHAT_HISTORY_BYTES_MAX);
    assert_non_null(text);
    assert_int_equal(chat_history_add(&history, CHAT_USER, text, CHAT_HISTORY_BYTES_MAX), SL_OK);
    assert_int_equal(chat_history_add(&history, CHAT_USER, "x", 1), SL_LIMIT);
    assert_int_equal(history.n, 1);
    chat_history_done(&history);
    sl_free(text);
}

static void lines_are_messages_or_commands(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum chat_command command;
        const char *rest;
    } rows[] = {
        {"hello", CHAT_SAYS, NULL},
        {"/", CHAT_SAYS, NULL},
        {"/etc/passwd?", CHAT_SAYS, NULL},
        {"/Help", CHAT_SAYS, NULL},
        {" /help", CHAT_SAYS, NULL},
        {"/help", CHAT_HELP, ""},
        {"/?", CHAT_HELP, ""},
        {"/bye ", CHAT_BYE, ""},
        {"/clear", CHAT_CLEAR, ""},
        {"/system  be kind, please ", CHAT_SYSTEM_IS, "be kind, please"},
        {"/system\nbe\nkind", CHAT_SYSTEM_IS, "be\nkind"},
        {"/save a file.json", CHAT_SAVE, "a file.json"},
        {"/load x", CHAT_LOAD, "x"},
        {"/helpx", CHAT_UNKNOWN, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *rest = NULL;
        size_t n = 0;
        enum chat_command got = chat_command_parse(rows[i].text, strlen(rows[i].text), &rest, &n);
        assert_int_equal(got, rows[i].command);
        if (!rows[i].rest) continue;
        assert_int_equal(n, strlen(rows[i].rest));
        assert_memory_equal(rest, rows[i].rest, n);
    }
    assert_int_equal(chat_command_parse("", 0, NULL, NULL), CHAT_SAYS);
}

/* Puts the text where stdin is, and reads all messages of it, with a bar after each. */
static void read_messages(const char *text, struct sl_buf *out)
{
    volatile sig_atomic_t interrupt = 0;
    struct sl_err err = SL_ERR_INIT;
    struct chat_input *input = NULL;
    const char *message;
    size_t n;
    sl_status status;
    FILE *file = tmpfile();
    assert_non_null(file);
    fputs(text, file);
    fflush(file);
    rewind(file);
    clearerr(stdin);
    assert_true(dup2(fileno(file), STDIN_FILENO) >= 0);
    fclose(file);
    assert_int_equal(chat_input_create(false, "", &interrupt, &input, &err), SL_OK);
    while (chat_input_read(input, &message, &n, &status, &err)) {
        assert_int_equal(sl_buf_add(out, message, n), SL_OK);
        assert_int_equal(sl_buf_addc(out, '|'), SL_OK);
    }
    assert_int_equal(status, SL_OK);
    chat_input_destroy(input);
}

static void blocks_are_one_message(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"one\n\ntwo", "one|two|"},      {"\"\"\"a\nb\n\nc\"\"\"\nnext\n", "a\nb\n\nc|next|"},
        {"\"\"\"\na\n\"\"\"\n", "a\n|"}, {"\"\"\"all\"\"\"\n", "all|"},
        {"\"\"\"never closed\n", ""},    {"say \"\"\"this\"\"\"\n", "say \"\"\"this\"\"\"|"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sl_buf out;
        sl_buf_init(&out, 4096);
        read_messages(rows[i][0], &out);
        assert_string_equal(out.data, rows[i][1]);
        sl_buf_done(&out);
    }
}

static void an_input_without_memory(void **state)
{
    (void)state;
    volatile sig_atomic_t interrupt = 0;
    struct chat_input *input = NULL;
    size_t before = sl_mem_live();
    sl_mem_fail_at(1, false);
    assert_int_equal(chat_input_create(false, "", &interrupt, &input, NULL), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_int_equal(sl_mem_live(), before);
}

static void times_are_read(void **state)
{
    (void)state;
    int64_t ms;
    assert_true(time_text_parse("1970-01-01T00:00:01.5Z", &ms));
    assert_int_equal(ms, 1500);
    assert_true(time_text_parse("2025-01-02T03:04:05.678901234Z", &ms));
    assert_int_equal(ms, INT64_C(1735787045678));
    assert_true(time_text_parse("2025-01-02T05:04:05+02:00", &ms));
    assert_int_equal(ms, INT64_C(1735787045000));
    assert_true(time_text_parse("2025-01-01T19:34:05-07:30", &ms));
    assert_int_equal(ms, INT64_C(1735787045000));
    assert_true(time_text_parse("2262-04-11T23:47:16.854775807Z", &ms));
    static const char *const bad[] = {"",
                                      "soon",
                                      "2025-01-02",
                                      "2025-01-02T03:04:05",
                                      "2025-01-02T03:04:05Zx",
                                      "2025-01-02T03:04:05+02"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(time_text_parse(bad[i], &ms));
}

static void spans_read_well(void **state)
{
    (void)state;
    char text[TIME_SPAN_TEXT_MAX];
    assert_string_equal(time_span_text(0, text), "0 seconds");
    assert_string_equal(time_span_text(999, text), "1 second");
    assert_string_equal(time_span_text(59400, text), "59 seconds");
    assert_string_equal(time_span_text(59600, text), "1 minute");
    assert_string_equal(time_span_text(299000, text), "5 minutes");
    assert_string_equal(time_span_text(3600000, text), "1 hour");
    assert_string_equal(time_span_text(INT64_C(49) * 3600000, text), "2 days");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_keep_their_order),
        cmocka_unit_test(messages_are_read_back),
        cmocka_unit_test(a_history_without_memory_is_as_before),
        cmocka_unit_test(too_much_text_is_refused),
        cmocka_unit_test(lines_are_messages_or_commands),
        cmocka_unit_test(blocks_are_one_message),
        cmocka_unit_test(an_input_without_memory),
        cmocka_unit_test(times_are_read),
        cmocka_unit_test(spans_read_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
