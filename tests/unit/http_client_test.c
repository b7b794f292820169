/* http_client_test.c: which URLs may be fetched, what statuses mean; transfers themselves are tried
 * against servers that misbehave in tests/e2e/test_pull.py. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "net/http_client.h"

static void only_safe_urls_are_fetched(void **state)
{
    (void)state;
    static const char *const fine[] = {"https://h.example/x", "http://127.0.0.1:80/x",
                                       "http://localhost/x",  "http://[::1]:8080/",
                                       "HTTPS://H/",          "http://127.9.9.9/"};
    static const char *const not_fine[] = {"http://h.example/x",
                                           "http://127.0.0.1.h.example/",
                                           "http://128.0.0.1/",
                                           "http://localhost.h.example/",
                                           "http://127.0.0.1@h.example/",
                                           "ftp://127.0.0.1/x",
                                           "file:///etc/passwd",
                                           "x",
                                           "",
                                           "https://",
                                           "http://[::2]/"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
        assert_int_equal(http_url_check(fine[i], false, NULL), SL_OK);
    for (size_t i = 0; i < sizeof not_fine / sizeof *not_fine; i++)
        assert_int_equal(http_url_check(not_fine[i], false, NULL), SL_INVALID);
    assert_int_equal(http_url_check("http://h.example/x", true, NULL), SL_OK);
    assert_int_equal(http_url_check("file:///etc/passwd", true, NULL), SL_INVALID);
}

static void statuses_mean_something(void **state)
{
    (void)state;
    assert_int_equal(http_status_meaning(200), SL_OK);
    assert_int_equal(http_status_meaning(206), SL_OK);
    assert_int_equal(http_status_meaning(304), SL_INVALID);
    assert_int_equal(http_status_meaning(400), SL_INVALID);
    assert_int_equal(http_status_meaning(401), SL_DENIED);
    assert_int_equal(http_status_meaning(404), SL_NOT_FOUND);
    assert_int_equal(http_status_meaning(408), SL_TIMEOUT);
    assert_int_equal(http_status_meaning(429), SL_BUSY);
    assert_int_equal(http_status_meaning(502), SL_UNAVAILABLE);
}

static void nobody_listens(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    struct http_client *client;
    struct http_head head;
    struct sl_buf out;
    struct sl_err err = SL_ERR_INIT;
    /* Port 1 of this machine: refused at once. */
    const struct http_request request = {.url = "http://127.0.0.1:1/", .bearer = "t"};
    assert_int_equal(http_client_create(&client, &err), SL_OK);
    sl_buf_init(&out, 100);
    assert_int_equal(http_client_fetch(client, &request, NULL, &head, &out, &err), SL_UNAVAILABLE);
    struct http_transfer *transfer;
    assert_int_equal(http_client_start(client, &request, &transfer, &err), SL_OK);
    http_client_destroy(client); /* with a transfer on its way */
    sl_buf_done(&out);
    assert_int_equal(sl_mem_live(), live);
}

static void lost_memory_is_told(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    const struct http_request request = {.url = "http://127.0.0.1:1/", .bearer = "t"};
    sl_status status = SL_NOMEM;
    for (uint64_t n = 1; status != SL_OK; n++) {
        struct http_client *client = NULL;
        struct http_transfer *transfer;
        sl_mem_fail_at(n, false);
        status = http_client_create(&client, NULL);
        if (status == SL_OK) status = http_client_start(client, &request, &transfer, NULL);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        http_client_destroy(client);
        assert_int_equal(sl_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_safe_urls_are_fetched),
        cmocka_unit_test(statuses_mean_something),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(lost_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
