/* chat_template_test.c: what stands between a request's messages and a template. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "exec/chat/chat_template.h"

static sl_status create(const char *source, struct chat_template **out, struct sl_err *err)
{
    return chat_template_create(source, strlen(source), "<s>", NULL, out, err);
}

static void check(const char *source, const char *variables_text, const char *expected)
{
    struct chat_template *tmpl = NULL;
    struct sl_json_value *variables = NULL;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    uint64_t live = sl_mem_live();
    sl_buf_init(&out, 1 << 16);
    assert_int_equal(sl_json_parse(variables_text, strlen(variables_text), &variables, &err),
                     SL_OK);
    if (create(source, &tmpl, &err) != SL_OK ||
        chat_template_render(tmpl, variables, 0, &out, &err) != SL_OK)
        fail_msg("%s: %s", source, err.text);
    assert_string_equal(out.data, expected);
    chat_template_destroy(tmpl);
    sl_json_free(variables);
    sl_buf_done(&out);
    assert_int_equal(sl_mem_live(), live);
}

#define EACH "{% for m in messages %}"
#define END "{% endfor %}"

static void parts_become_a_text_where_a_text_is_expected(void **state)
{
    (void)state;
    static const char parts[] = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
                                "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]}";
    check(EACH "{{ m.content }}" END, parts, "ab");
    check(EACH "{{ m.content|trim ~ '!' }}" END, parts, "ab!");
    check(EACH "{{ m.content|tojson }}" END, parts, "\"ab\"");
    check(EACH "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
               "[{{ p.text }}]{% endfor %}{% endif %}" END,
          parts, "[a][b]");
    check(EACH "{{ m.content }}" END, "{\"messages\":[{\"content\":[{\"type\":\"image\"}]}]}",
          "[{'type': 'image'}]");
}

static void a_text_becomes_a_part_where_only_parts_are_taken(void **state)
{
    (void)state;
    check(EACH "{% for p in m.content %}[{{ p.text }}]{% endfor %}" END,
          "{\"messages\":[{\"role\":\"user\",\"content\":\"ab\"}]}", "[ab]");
}

static void arguments_become_an_object(void **state)
{
    (void)state;
    static const char source[] =
        EACH "{% for c in m.tool_calls %}{{ c.function.arguments|tojson }}{% endfor %}" END;
    check(source,
          "{\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"a\\\":[1]}\"}}]}]}",
          "{\"a\": [1]}");
    check(source, "{\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":\"no json\"}}]}]}",
          "\"no json\"");
    check(source, "{\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":\"[1]\"}}]}]}",
          "\"[1]\"");
}

static void null_content_becomes_empty_only_where_null_fails(void **state)
{
    (void)state;
    static const char left_out[] = "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[]}]}";
    static const char null[] = "{\"messages\":[{\"role\":\"assistant\",\"content\":null}]}";
    check(EACH "<{{ m.content + '' }}>" END, left_out, "<>");
    check(EACH "<{{ m.content + '' }}>" END, null, "<>");
    check(EACH "<{{ m.content is none }}>" END, left_out, "<True>");
    check(EACH "<{{ m.content is none }}>" END, null, "<True>");
}

static void odd_variables_are_the_templates_business(void **state)
{
    (void)state;
    check("{{ messages }}", "{\"messages\":\"x\"}", "x");
    check("{{ messages }}{{ bos_token }}{{ eos_token is defined }}", "{}", "<s>False");
    check("{{ messages }}", "{\"messages\":[1,null,{\"tool_calls\":3}]}",
          "[1, None, {'tool_calls': 3, 'content': None}]");
    check(chat_template_plain, "{\"messages\":[{\"content\":\"a\"},{\"content\":\"b\"}]}", "a\nb");
}

static void traits_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        enum chat_tool_format tools;
        bool thinks;
    } known[] = {
        {"x", CHAT_TOOLS_NONE, false},
        {"<tool_call></tool_call><think>", CHAT_TOOLS_HERMES, true},
        {"<|python_tag|>", CHAT_TOOLS_LLAMA3, false},
        {"<｜tool▁calls▁begin｜> <think>", CHAT_TOOLS_DEEPSEEK, true},
        {"[TOOL_CALLS]", CHAT_TOOLS_MISTRAL, false},
        {"<|channel|>", CHAT_TOOLS_HARMONY, false},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct chat_template *tmpl = NULL;
        struct sl_err err = SL_ERR_INIT;
        struct chat_traits traits;
        assert_int_equal(create(known[i].source, &tmpl, &err), SL_OK);
        chat_template_traits(tmpl, &traits);
        assert_int_equal(traits.tools, known[i].tools);
        assert_int_equal(traits.thinks, known[i].thinks);
        chat_template_destroy(tmpl);
    }
}

static void an_open_think_is_seen(void **state)
{
    (void)state;
    assert_true(chat_prompt_opens_thinking("a<think>\n", 9));
    assert_true(chat_prompt_opens_thinking("<think>", 7));
    assert_false(chat_prompt_opens_thinking("<think></think>", 15));
    assert_false(chat_prompt_opens_thinking("<think> x", 9));
    assert_false(chat_prompt_opens_thinking("think>", 6));
    assert_false(chat_prompt_opens_thinking("", 0));
}

static void create_survives_every_failed_allocation(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct chat_template *tmpl = NULL;
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(nth, false);
        status = create(EACH "{{ m.content + 'x' }}" END, &tmpl, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        assert_int_equal(status, hit ? SL_NOMEM : SL_OK);
        assert_int_equal(tmpl != NULL, status == SL_OK);
        chat_template_destroy(tmpl);
        assert_int_equal(sl_mem_live(), live);
    }
}

static void a_broken_template_is_refused(void **state)
{
    (void)state;
    struct chat_template *tmpl = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(create("{% if %}", &tmpl, &err), SL_INVALID);
    assert_string_equal(err.text, "template line 1: unexpected '%}'");
    assert_null(tmpl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_become_a_text_where_a_text_is_expected),
        cmocka_unit_test(a_text_becomes_a_part_where_only_parts_are_taken),
        cmocka_unit_test(arguments_become_an_object),
        cmocka_unit_test(null_content_becomes_empty_only_where_null_fails),
        cmocka_unit_test(odd_variables_are_the_templates_business),
        cmocka_unit_test(traits_are_found),
        cmocka_unit_test(an_open_think_is_seen),
        cmocka_unit_test(create_survives_every_failed_allocation),
        cmocka_unit_test(a_broken_template_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
