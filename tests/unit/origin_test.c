#include "access/origin.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void pages_of_this_machine_may(void **state)
{
    static const char *const rows[] = {
        "http://localhost",  "http://localhost:3000", "https://127.0.0.1:8443",
        "http://127.8.9.1",  "http://[::1]:5173",     "http://app.localhost:80",
        "tauri://localhost", "vscode-webview://1abc", "HTTP://LOCALHOST:1"};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!origin_is_allowed(rows[i], NULL)) fail_msg("%s", rows[i]);
}

static void others_may_not(void **state)
{
    static const char *const rows[] = {"http://example.com",
                                       "http://localhost.example.com",
                                       "http://notlocalhost",
                                       "http://127.0.0.1.example.com",
                                       "http://127.0.0.1@example.com",
                                       "http://10.0.0.1",
                                       "http://[::2]",
                                       "null",
                                       "",
                                       "http://",
                                       "http://[::1",
                                       "ftp://localhost",
                                       "localhost"};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (origin_is_allowed(rows[i], NULL)) fail_msg("%s", rows[i]);
}

static void those_listed_may(void **state)
{
    static const char list[] = "https://a.example,https://b.example:8443";
    (void)state;
    assert_true(origin_is_allowed("https://a.example", list));
    assert_true(origin_is_allowed("https://B.example:8443", list));
    assert_false(origin_is_allowed("https://b.example", list));
    assert_false(origin_is_allowed("https://a.example.com", list));
    assert_true(origin_is_allowed("https://any.example", "*"));
}

static void hosts_that_are_ours(void **state)
{
    (void)state;
    assert_true(origin_host_is_ours("localhost:8080", NULL));
    assert_true(origin_host_is_ours("127.0.0.1", NULL));
    assert_true(origin_host_is_ours("[::1]:8080", NULL));
    assert_true(origin_host_is_ours("192.168.1.7:8080", NULL));
    assert_false(origin_host_is_ours("evil.example:8080", NULL));
    assert_false(origin_host_is_ours("localhost.evil.example", NULL));
    assert_false(origin_host_is_ours("", NULL));
    assert_false(origin_host_is_ours("[::1", NULL));
    assert_true(origin_host_is_ours("chat.example", "https://a.example,https://chat.example"));
    assert_false(origin_host_is_ours("chat.example", "https://a.example"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_of_this_machine_may),
        cmocka_unit_test(others_may_not),
        cmocka_unit_test(those_listed_may),
        cmocka_unit_test(hosts_that_are_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
