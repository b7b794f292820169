/* client_test.c: which server is meant, what an error of one says, and how its stream of events
 * becomes an answer. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "cli/client.h"
#include "cli/client_ask.h"

#include <stdlib.h>
#include <string.h>

static const char *url_of(const char *server)
{
    static char url[256];
    static struct sl_err err;
    return client_url(server, url, sizeof url, &err) == SL_OK ? url : err.text;
}

static void servers_are_urls(void **state)
{
    (void)state;
    assert_string_equal(url_of("gpu1"), "http://gpu1:8080");
    assert_string_equal(url_of("gpu1:99"), "http://gpu1:99");
    assert_string_equal(url_of(":99"), "http://127.0.0.1:99");
    assert_string_equal(url_of("0.0.0.0"), "http://127.0.0.1:8080");
    assert_string_equal(url_of("0"), "http://0:8080");
    assert_string_equal(url_of("[::]:1"), "http://127.0.0.1:1");
    assert_string_equal(url_of("[::1]:7"), "http://[::1]:7");
    assert_string_equal(url_of("[::1]"), "http://[::1]:8080");
    assert_string_equal(url_of("http://gpu1/"), "http://gpu1:80");
    assert_string_equal(url_of("https://gpu1"), "https://gpu1:443");
    assert_string_equal(url_of("https://gpu1:8443/"), "https://gpu1:8443");
    static const char *const bad[] = {"a b", "a/b", "user@a", "a:port", "a:123456", "[::1", "a?b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_non_null(strstr(url_of(bad[i]), "give a server as"));
    char tiny[8];
    assert_int_equal(client_url("gpu1", tiny, sizeof tiny, NULL), SL_INVALID);
}

static void the_environment_names_a_server(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct client *client = NULL;
    struct client_cfg cfg = {0};
    setenv("STARLANE_HOST", "gpu1:99", 1);
    assert_int_equal(client_create(&cfg, &client, &err), SL_OK);
    assert_string_equal(client_server(client), "http://gpu1:99");
    assert_true(client_is_named(client));
    client_destroy(client);
    cfg.server = "gpu2";
    assert_int_equal(client_create(&cfg, &client, &err), SL_OK);
    assert_string_equal(client_server(client), "http://gpu2:8080");
    client_destroy(client);
    setenv("STARLANE_HOST", "", 1);
    cfg.server = NULL;
    assert_int_equal(client_create(&cfg, &client, &err), SL_OK);
    assert_false(client_is_named(client));
    client_destroy(client);
    unsetenv("STARLANE_HOST");
}

static void a_client_without_memory(void **state)
{
    (void)state;
    const struct client_cfg cfg = {.server = "gpu1", .api_key = "key"};
    struct sl_err err = SL_ERR_INIT;
    struct client *client = NULL;
    size_t before = sl_mem_live();
    sl_status status = SL_NOMEM;
    uint64_t n = 0;
    while (status == SL_NOMEM) {
        sl_mem_fail_at(++n, false);
        status = client_create(&cfg, &client, &err);
        sl_mem_fail_at(0, false);
        if (status != SL_OK) assert_int_equal(sl_mem_live(), before);
    }
    assert_int_equal(status, SL_OK);
    assert_true(n > 2);
    client_destroy(client);
    assert_int_equal(sl_mem_live(), before);
}

static void names_are_escaped(void **state)
{
    (void)state;
    struct sl_buf out;
    sl_buf_init(&out, 64);
    assert_int_equal(client_escape("hf.co/a/b-c_d:Q4 ?\xc3\xa9%", &out), SL_OK);
    assert_string_equal(out.data, "hf.co/a/b-c_d:Q4%20%3F%C3%A9%25");
    sl_buf_done(&out);
}

static void errors_have_two_forms(void **state)
{
    (void)state;
    static const char *const texts[] = {"{\"error\":{\"message\":\"why\"}}", "{\"error\":\"why\"}",
                                        "{\"other\":1}", "[1]"};
    for (size_t i = 0; i < 4; i++) {
        struct sl_json_value *value = NULL;
        assert_int_equal(sl_json_parse(texts[i], strlen(texts[i]), &value, NULL), SL_OK);
        const char *text = client_error_text(value);
        if (i < 2)
            assert_string_equal(text, "why");
        else
            assert_null(text);
        sl_json_free(value);
    }
    assert_null(client_error_text(NULL));
}

/* --- events --- */

struct seen {
    struct sl_buf text; /* each event, and a bar after it */
    size_t n, n_max;
};

static bool see(void *ctx, const char *data, size_t n)
{
    struct seen *seen = ctx;
    assert_int_equal(sl_buf_add(&seen->text, data, n), SL_OK);
    assert_int_equal(sl_buf_addc(&seen->text, '|'), SL_OK);
    return ++seen->n < seen->n_max;
}

static const char stream[] = ": ping\n\n"
                             "data: one\n\n"
                             "event: x\ndata:two\r\ndata: lines\r\n\r\n"
                             "data\rdata:  \r\r"
                             "database: no\nid: 1\n\n"
                             "data: {\"a\":1}\n\n"
                             "data: never ended\n";

static void events_come_whole_however_they_are_cut(void **state)
{
    (void)state;
    for (size_t cut = 1; cut <= sizeof stream; cut++) {
        struct client_sse sse;
        struct seen seen = {.n_max = 100};
        sl_buf_init(&seen.text, 4096);
        client_sse_init(&sse, see, &seen);
        for (size_t at = 0; at < sizeof stream - 1; at += cut) {
            size_t left = sizeof stream - 1 - at;
            assert_int_equal(client_sse_push(&sse, stream + at, left < cut ? left : cut), SL_OK);
        }
        assert_string_equal(seen.text.data, "one|two\nlines|\n |{\"a\":1}|");
        client_sse_done(&sse);
        sl_buf_done(&seen.text);
    }
}

static void whoever_has_enough_ends_it(void **state)
{
    (void)state;
    struct client_sse sse;
    struct seen seen = {.n_max = 1};
    sl_buf_init(&seen.text, 4096);
    client_sse_init(&sse, see, &seen);
    assert_int_equal(client_sse_push(&sse, stream, sizeof stream - 1), SL_CANCELLED);
    assert_int_equal(seen.n, 1);
    client_sse_done(&sse);
    sl_buf_done(&seen.text);
}

static void an_endless_event_is_refused(void **state)
{
    (void)state;
    static char piece[1 << 16];
    struct client_sse sse;
    struct seen seen = {.n_max = 1};
    sl_status status = SL_OK;
    memset(piece, 'x', sizeof piece);
    sl_buf_init(&seen.text, 4096);
    client_sse_init(&sse, see, &seen);
    for (size_t n = 0; n <= CLIENT_EVENT_BYTES_MAX && status == SL_OK; n += sizeof piece)
        status = client_sse_push(&sse, piece, sizeof piece);
    assert_int_equal(status, SL_LIMIT);
    client_sse_done(&sse);
    sl_buf_done(&seen.text);
}

/* --- answers --- */

static void take(struct answer *answer, const char *chunk)
{
    assert_true(client_take_chunk(answer, chunk, strlen(chunk)));
}

static void chunks_become_an_answer(void **state)
{
    (void)state;
    const struct answer_view view = {0};
    struct answer answer;
    answer_init(&answer, &view);
    take(&answer, "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}");
    assert_int_equal(answer.first_token_at_ns, 0);
    take(&answer, "{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}");
    assert_true(answer.first_token_at_ns > 0);
    take(&answer, "{\"choices\":[{\"delta\":{\"content\":\"Hel\"}}],\"usage\":null}");
    take(&answer, "{\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":null}]}");
    take(&answer, "{\"choices\":[{\"text\":\"!\",\"finish_reason\":\"length\"}]}");
    take(&answer, "{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":5}}}");
    assert_string_equal(answer.text.data, "Hello!");
    assert_string_equal(answer.reasoning.data, "hm");
    assert_int_equal(answer.finish, ENGINE_FINISH_LENGTH);
    assert_int_equal(answer.usage.n_prompt, 7);
    assert_int_equal(answer.usage.n_cached, 5);
    assert_int_equal(answer.usage.n_generated, 3);
    assert_false(client_take_chunk(&answer, "{", 1));
    answer_done(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_are_urls),
        cmocka_unit_test(the_environment_names_a_server),
        cmocka_unit_test(a_client_without_memory),
        cmocka_unit_test(names_are_escaped),
        cmocka_unit_test(errors_have_two_forms),
        cmocka_unit_test(events_come_whole_however_they_are_cut),
        cmocka_unit_test(whoever_has_enough_ends_it),
        cmocka_unit_test(an_endless_event_is_refused),
        cmocka_unit_test(chunks_become_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
