/* jinja_test.c: every feature of the template language once, exact error messages, limits, and what
 * happens without memory. The wide comparison with jinja2 is in e2e/test_chat_template.py. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "exec/chat/jinja.h"

static const char variables_text[] =
    "{\"name\":\"W\\u00f6rld\",\"n\":3,\"half\":0.5,\"yes\":true,\"nothing\":null,"
    "\"list\":[3,1,2],\"dict\":{\"b\":1,\"a\":\"x\"},"
    "\"rows\":[{\"k\":\"u\",\"v\":2},{\"k\":\"T\",\"v\":1},{\"k\":\"u\",\"v\":3}]}";

static sl_status render_with(const char *source, const struct jinja_limits *limits,
                             struct sl_buf *out, struct sl_err *err)
{
    struct jinja_template *tmpl = NULL;
    struct sl_json_value *variables = NULL;
    sl_status status = sl_json_parse(variables_text, strlen(variables_text), &variables, err);
    if (status == SL_OK) status = jinja_create(source, strlen(source), limits, &tmpl, err);
    const struct jinja_text texts[] = {{"bos_token", "<s>"}, {"eos_token", NULL}, {NULL, NULL}};
    const struct jinja_input input = {.variables = variables, .texts = texts, .now_s = 86400};
    if (status == SL_OK) status = jinja_render(tmpl, &input, out, err);
    jinja_destroy(tmpl);
    sl_json_free(variables);
    return status;
}

struct example {
    const char *source, *text;
};

static void check_examples(const struct example *examples, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct sl_err err = SL_ERR_INIT;
        struct sl_buf out;
        sl_buf_init(&out, 1 << 16);
        if (render_with(examples[i].source, NULL, &out, &err) != SL_OK)
            fail_msg("%s: %s", examples[i].source, err.text);
        if (strcmp(out.data, examples[i].text) != 0)
            fail_msg("%s: \"%s\", not \"%s\"", examples[i].source, out.data, examples[i].text);
        sl_buf_done(&out);
    }
}
#define CHECK_EXAMPLES(examples) check_examples(examples, sizeof(examples) / sizeof *(examples))

static void check_error(const char *source, const struct jinja_limits *limits, sl_status status,
                        const char *text)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    uint64_t live = sl_mem_live();
    sl_buf_init(&out, 1 << 20);
    sl_status got = render_with(source, limits, &out, &err);
    if (got != status || strcmp(err.text, text) != 0)
        fail_msg("%s: %s \"%s\"", source, sl_status_name(got), err.text);
    assert_int_equal(out.len, 0);
    sl_buf_done(&out);
    assert_int_equal(sl_mem_live(), live);
}

static void white_space_is_controlled(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"a\n  {% if yes %}\nb\n  {% endif %}\nc\n", "a\nb\nc"},
        {"a {%- if yes -%} b {%- endif -%} c", "abc"},
        {"a\n  {%+ if yes %}\nb{% endif +%}\n", "a\n  b"},
        {"a {{- name -}} b", "aW\xc3\xb6rldb"},
        {"x\n{# note #}\ny {#- gone -#} z", "x\nyz"},
        {"{% raw %}{{ a }} {% b %}{% endraw %}", "{{ a }} {% b %}"},
        {"1\r\n2\r3\n", "1\n2\n3"},
    };
    CHECK_EXAMPLES(examples);
}

static void expressions_have_pythons_values(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"{{ 1 + 2 * 3 - 4 / 2 }}", "5.0"},
        {"{{ 7 // -2 }} {{ 7 % -2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }}",
         "-4 -1 1024 0.5 4"},
        {"{{ 1 ~ 2 + 'x' if false else 'a' ~ 1.0 }}", "a1.0"},
        {"{{ 1 < 2 <= 2 != 3 }} {{ 2 in list }} {{ 'x' not in dict }}", "True True True"},
        {"{{ not yes or none }} {{ '' or 'e' }} {{ 0 and 1 }}", "None e 0"},
        {"{{ 'ab' * 2 }}{{ [1] * 2 }}{{ [1] + [2] }}", "abab[1, 1][1, 2]"},
        {"{{ 'x' if false }}{{ missing }}|{{ dict.none_such }}", "|"},
        {"{{ 1e16 }} {{ 1.5e-7 }} {{ 100000.0 }} {{ 1e22 }} {{ 0.1 + 0.2 }}",
         "1e+16 1.5e-07 100000.0 1e+22 0.30000000000000004"},
        {"{{ [none, true, 'it\\'s', \"q\\\"\", 1.0, {'a': (1,)}] }}",
         "[None, True, \"it's\", 'q\"', 1.0, {'a': (1,)}]"},
        {"{{ name[1] }}{{ name[::-1] }}{{ name[-3:-1] }}{{ name|length }}", "\xc3\xb6"
                                                                            "dlr\xc3\xb6Wrl5"},
        {"{{ list[1:] }}{{ list[::-2] }}{{ list[5:] }}{{ (1, 2)[0] }}", "[1, 2][2, 3][]1"},
        {"{{ dict.a }}{{ dict['b'] }}{{ rows.0.k }}{{ rows[-1]['v'] }}", "x1u3"},
        {"{{ range(5)[1:3] }}{{ range(3)|list }}{{ range(9, 0, -4)|list }}",
         "range(1, 3)[0, 1, 2][9, 5, 1]"},
        {"{{ '%s-%03d-%.1f%%' % ('a', 7, 2.25) }} {{ '{} {x!r}'.format(1, x='b') }}",
         "a-007-2.2% 1 'b'"},
        {"{{ 'a' 'b' }}{{ '\\u00e9\\x41\\n' }}", "ab\xc3\xa9"
                                                 "A\n"},
    };
    CHECK_EXAMPLES(examples);
}

static void statements_run(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"{% if n > 3 %}a{% elif n == 3 %}b{% else %}c{% endif %}", "b"},
        {"{% for x in list %}{{ loop.index }}{{ x }}{{ ',' if not loop.last }}{% endfor %}",
         "13,21,32"},
        {"{% for x in list if x > 1 %}{{ x }}{{ loop.length }}{{ loop.revindex }}{% endfor %}",
         "322221"},
        {"{% for x in [] %}a{% else %}none{% endfor %}", "none"},
        {"{% for k, v in dict.items() %}{{ k }}={{ v }};{% endfor %}", "b=1;a=x;"},
        {"{% for x in list %}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{% "
         "endfor %}",
         "1a32b1a"},
        {"{% for x in [[1, [2]]] recursive %}{{ loop(x) if x is iterable else x }}{{ loop.depth "
         "}}{% endfor %}",
         "122321"},
        {"{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "32"},
        {"{% for x in list %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}", "3"},
        {"{% set a = 1 %}{% for x in list %}{% set a = 2 %}{% endfor %}{{ a }}", "1"},
        {"{% set ns = namespace(a=1) %}{% for x in list %}{% set ns.a = ns.a + x %}{% endfor %}{{ "
         "ns.a }}",
         "7"},
        {"{% set a, (b, c) = 1, (2, 3) %}{{ a }}{{ b }}{{ c }}", "123"},
        {"{% set a %}x{{ n }}{% endset %}{{ a|upper }}{% set b | upper %}y{% endset %}{{ b }}",
         "X3Y"},
        {"{% macro f(a, b=a ~ '!') %}{{ a }}{{ b }}{{ kwargs }}{{ varargs }}{% endmacro %}{{ f(1) "
         "}}{{ f(1, 2, 3, c=4) }}",
         "11!{}()12{'c': 4}(3,)"},
        {"{% macro f() %}<{{ caller(1) }}>{% endmacro %}{% call(x) f() %}{{ x }}in{% endcall %}",
         "<1in>"},
        {"{% filter upper|replace('A', '-') %}abc{% endfilter %}", "-BC"},
        {"{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "13"},
        {"{% generation %}said{% endgeneration %}", "said"},
        {"{{ bos_token }}{{ eos_token is defined }}{{ strftime_now('%Y') }}", "<s>False1970"},
    };
    CHECK_EXAMPLES(examples);
}

static void filters_tests_and_methods_work(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"{{ dict|tojson }}{{ list|tojson(indent=1) }}",
         "{\"b\": 1, \"a\": \"x\"}[\n 3,\n 1,\n 2\n]"},
        {"{{ '<\\u00e9\"\\n'|tojson }}{{ '\\u00e9'|tojson(ensure_ascii=true) }}",
         "\"<\xc3\xa9\\\"\\n\"\"\\u00e9\""},
        {"{{ ' a '|trim }}{{ 'xax'|trim('x') }}{{ none|default('d') }}{{ missing|d('d') }}{{ "
         "''|d('e', true) }}",
         "aaNonede"},
        {"{{ list|sort }}{{ list|sort(reverse=true) }}{{ "
         "rows|sort(attribute='k')|map(attribute='v')|list }}",
         "[1, 2, 3][3, 2, 1][1, 2, 3]"},
        {"{{ rows|selectattr('v', 'gt', 1)|map(attribute='v')|join('+') }}", "2+3"},
        {"{{ rows|rejectattr('k', 'eq', 'u')|list|length }}{{ list|select('odd')|list }}{{ "
         "list|reject('odd')|list }}",
         "1[3, 1][2]"},
        {"{{ rows|groupby('k')|map('first')|list }}{{ dict|dictsort }}",
         "['T', 'u'][('a', 'x'), ('b', 1)]"},
        {"{{ list|first }}{{ list|last }}{{ list|min }}{{ list|max }}{{ list|sum }}{{ "
         "'aba'|unique|join }}",
         "32136ab"},
        {"{{ 'hello wORLD'|title }} {{ 'aB'|capitalize }} {{ 'a'|upper }}{{ name|lower }}",
         "Hello World Ab Aw\xc3\xb6rld"},
        {"{{ '42.7'|int }}{{ 'x'|int(5) }}{{ '2.50'|float }}{{ 2.5|round }}{{ -3|abs }}{{ "
         "1.25|round(1, 'ceil') }}",
         "4252.52.031.3"},
        {"{{ 'a\\nb'|indent(2) }}{{ 'abc def'|truncate(6, leeway=0) }}{{ 'a b'|wordcount }}",
         "a\n  babc...2"},
        {"{{ [1, 2, 3]|batch(2, 0)|list }}{{ 'abc'|reverse }}{{ dict|items|list }}",
         "[[1, 2], [3, 0]]cba[('b', 1), ('a', 'x')]"},
        {"{{ '<a>'|e }}{{ 'a'|safe }}{{ '%s!'|format('x') }}{{ [1, 'a']|map('string')|list }}",
         "&lt;a&gt;ax!['1', 'a']"},
        {"{{ name is string and n is number and n is integer and half is float and yes is boolean "
         "}}",
         "True"},
        {"{{ dict is mapping and list is sequence and dict is iterable and nothing is none }}",
         "True"},
        {"{{ n is odd }}{{ n is divisibleby 3 }}{{ n is not even }}{{ 'a' is in 'abc' }}{{ range "
         "is callable }}",
         "TrueTrueTrueTrueTrue"},
        {"{{ 'a,b,c'.split(',', 1) }}{{ ' a  b '.split() }}{{ 'x-y'.partition('-') }}",
         "['a', 'b,c']['a', 'b']('x', '-', 'y')"},
        {"{{ 'abab'.replace('a', 'x', 1) }}{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x', "
         "'c')) }}",
         "xbabTrueTrue"},
        {"{{ 'abcb'.find('b') }}{{ 'abcb'.rfind('b') }}{{ 'b'.join(['a', 'c']) }}{{ "
         "'xxax'.lstrip('x') }}",
         "13abcax"},
        {"{{ dict.get('b') }}{{ dict.get('z', 9) }}{{ dict.keys()|list }}{{ dict.values() }}",
         "19['b', 'a']dict_values([1, 'x'])"},
        {"{{ 'stra\xc3\x9f"
         "e'.upper() }}{{ '\xce\x91\xce\xa3'.lower() }}",
         "STRASSE\xce\xb1\xcf\x82"},
    };
    CHECK_EXAMPLES(examples);
}

static void errors_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *source, *text;
    } errors[] = {
        {"a\n{% if %}", "template line 2: unexpected '%}'"},
        {"{% if x %}\nb", "template line 2: unexpected end of the template; endif is missing"},
        {"{% nope %}", "template line 1: unknown tag 'nope'"},
        {"{% for x in y %}{% endif %}", "template line 1: unknown tag 'endif'; endfor is missing"},
        {"{{ 'abc }}", "template line 1: a string is not closed"},
        {"{{ (1] }}", "template line 1: unexpected ']', expected ')'"},
        {"{# x", "template line 1: Missing end of comment tag"},
        {"{% raw %}", "template line 1: Missing end of raw directive"},
        {"{% break %}", "template line 1: 'break' or 'continue' outside loop"},
        {"{{ 1 ; 2 }}", "template line 1: expected }}, got ';'"},
        {"\n\n{{ missing.a }}", "template line 3: 'missing' is undefined"},
        {"{{ dict.zz.a }}", "template line 1: 'dict object' has no attribute 'zz'"},
        {"{{ list[9].a }}", "template line 1: list object has no element 9"},
        {"{{ 'a' + 1 }}", "template line 1: unsupported operand type(s) for +: 'str' and 'int'"},
        {"{{ 1 / 0 }}", "template line 1: division by zero"},
        {"{{ 1 < 'a' }}",
         "template line 1: '<' not supported between instances of 'int' and 'str'"},
        {"{{ list.append(1) }}",
         "template line 1: access to attribute 'append' of 'list' object is unsafe."},
        {"{{ n|nope }}", "template line 1: No filter named 'nope'."},
        {"{{ n is nope }}", "template line 1: No test named 'nope'."},
        {"{{ n() }}", "template line 1: object of type 'int' is not callable"},
        {"{{ list|map('upper')|length }}",
         "template line 1: object of type 'generator' has no len()"},
        {"a\n{{ raise_exception('Bad ' ~ n) }}", "template line 2: Bad 3"},
        {"{% set x.y = 1 %}", "template line 1: cannot assign attribute on non-namespace object"},
        {"{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}",
         "template line 1: macro 'f' takes not more than 1 argument(s)"},
    };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        check_error(errors[i].source, NULL, SL_INVALID, errors[i].text);
}

static void limits_hold(void **state)
{
    (void)state;
    const struct jinja_limits small = {
        .source_bytes = 400,
        .memory_bytes = 1 << 17,
        .output_bytes = 1000,
        .steps = 3000,
        .depth = 100,
        .range_items = 50,
    };
    check_error("{% for i in range(50) %}{{ 'x' * 30 }}{% endfor %}", &small, SL_LIMIT,
                "template line 1: prints more than 1000 bytes");
    check_error(
        "{% for i in range(50) %}{% for j in range(50) %}{% set x = i %}{% endfor %}{% endfor %}",
        &small, SL_LIMIT, "template line 1: takes more than 3000 steps");
    check_error("{{ 'x' * 100000000 }}", &small, SL_LIMIT,
                "template line 1: takes more than 3000 steps");
    check_error("{{ 'x' * 140000 }}", &small, SL_LIMIT,
                "template line 1: needs more than 131072 bytes");
    check_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", &small, SL_LIMIT,
                "template line 1: nested deeper than 100 levels");
    check_error("{{ range(51) }}", &small, SL_LIMIT,
                "template line 1: range() of 51 items; at most 50 are made");
    check_error("{{ 9223372036854775807 + 1 }}", NULL, SL_LIMIT,
                "template line 1: an integer is past 64 bits");
}

static void values_that_hold_themselves_end(void **state)
{
    (void)state;
    check_error("{% set a = namespace() %}{% set a.a = a %}{{ a }}", NULL, SL_LIMIT,
                "template line 1: nested deeper than 640 levels");
    check_error("{% set a = namespace(x=1) %}{% for i in range(700) %}{% set a.x = [a.x] %}{% "
                "endfor %}{{ a.x }}",
                NULL, SL_LIMIT, "template line 1: nested deeper than 640 levels");
}

static void deep_sources_are_refused(void **state)
{
    (void)state;
    char source[4096];
    struct jinja_template *tmpl = NULL;
    struct sl_err err = SL_ERR_INIT;
    static const char *const pieces[] = {"((", "--", "[[", "a+", "a.", "{%if a%}"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        size_t each = strlen(pieces[i]);
        strcpy(source, i < 5 ? "{{" : "");
        for (size_t n = strlen(source); n + each < sizeof source - 1; n += each)
            strcpy(source + n, pieces[i]);
        assert_int_not_equal(jinja_create(source, strlen(source), NULL, &tmpl, &err), SL_OK);
        assert_non_null(strstr(err.text, "template line 1: "));
        assert_null(tmpl);
    }
    char *huge = sl_calloc(1, JINJA_SOURCE_BYTES_MAX + 1);
    assert_int_equal(jinja_create(huge, JINJA_SOURCE_BYTES_MAX + 1, NULL, &tmpl, &err), SL_LIMIT);
    sl_free(huge);
    assert_int_equal(jinja_create("\xff", 1, NULL, &tmpl, &err), SL_INVALID);
    assert_string_equal(err.text, "template is not UTF-8");
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char source[] = "{% macro f(a) %}{{ a|tojson }}{% endmacro %}{% for r in rows %}"
                                 "{{ f(r) ~ name }}{% endfor %}{{ 'x' * 100000 }}";
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct sl_err err = SL_ERR_INIT;
        struct sl_buf out;
        sl_buf_init(&out, 1 << 20);
        sl_mem_fail_at(nth, false);
        status = render_with(source, NULL, &out, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        assert_int_equal(status, hit ? SL_NOMEM : SL_OK);
        sl_buf_done(&out);
        assert_int_equal(sl_mem_live(), live);
    }
}

static void a_full_buffer_is_left_as_it_was(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    sl_buf_init(&out, 6);
    assert_int_equal(sl_buf_adds(&out, "old"), SL_OK);
    assert_int_equal(render_with("{{ 'abcd' }}", NULL, &out, &err), SL_LIMIT);
    assert_string_equal(out.data, "old");
    assert_string_equal(err.text, "template: prints 4 bytes; there is room for 3");
    assert_int_equal(render_with("{{ 'abc' }}", NULL, &out, &err), SL_OK);
    assert_string_equal(out.data, "oldabc");
    sl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(white_space_is_controlled),
        cmocka_unit_test(expressions_have_pythons_values),
        cmocka_unit_test(statements_run),
        cmocka_unit_test(filters_tests_and_methods_work),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(values_that_hold_themselves_end),
        cmocka_unit_test(deep_sources_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_full_buffer_is_left_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
