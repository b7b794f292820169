/* addresses_test.c: where others reach this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "grid/addresses.h"

static void what_the_owner_names_comes_first_and_once(void **state)
{
    (void)state;
    const char *const names[] = {"gateway.example.com", "203.0.113.7", "203.0.113.7"};
    char hosts[MEMBER_ADDRESSES_SIZE];
    assert_int_equal(addresses_find("127.0.0.1", names, 3, hosts, NULL), SL_OK);
    assert_string_equal(hosts, "gateway.example.com,203.0.113.7,127.0.0.1");
}

static void everywhere_is_some_address(void **state)
{
    (void)state;
    char hosts[MEMBER_ADDRESSES_SIZE], all[MEMBER_ADDRESSES_SIZE];
    assert_int_equal(addresses_find(NULL, NULL, 0, hosts, NULL), SL_OK);
    assert_true(hosts[0]);
    assert_null(strchr(hosts, '%'));
    assert_int_equal(addresses_find("*", NULL, 0, all, NULL), SL_OK);
    assert_string_equal(hosts, all);
    /* Loopback only where there is nothing else. */
    if (strchr(hosts, ',')) assert_null(strstr(hosts, "127.0.0.1"));
}

static void what_is_no_address_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",         "a b",   "a,b", "10.0.0.1:4230",
                                      "http://a", "[::1]", "a%b"};
    char hosts[MEMBER_ADDRESSES_SIZE];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sl_err err = SL_ERR_INIT;
        assert_int_equal(addresses_find("*", &bad[i], 1, hosts, &err), SL_INVALID);
        assert_non_null(strstr(err.text, "no address"));
    }
}

static void ports_are_added_to_each(void **state)
{
    (void)state;
    char out[MEMBER_ADDRESSES_SIZE];
    addresses_with_port("10.0.0.1,fd00::7,a.example", "tls://", 4222, out);
    assert_string_equal(out, "tls://10.0.0.1:4222,tls://[fd00::7]:4222,tls://a.example:4222");
    addresses_with_port("", "", 1, out);
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_owner_names_comes_first_and_once),
        cmocka_unit_test(everywhere_is_some_address),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(ports_are_added_to_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
