/* token_test.c: join tokens: their text, whom they let in, and how often one may be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "grid/db.h"
#include "grid/token.h"
#include "support/temp_dir.h"

#define NOW_MS INT64_C(1700000000000)
#define HOUR_MS INT64_C(3600000)

static struct db *db;

static int open_db(void **state)
{
    if (temp_dir_setup(state) != 0) return -1;
    return db_open(temp_path("state.db"), NULL, &db, NULL) == SL_OK ? 0 : -1;
}

static int close_db(void **state)
{
    db_close(db);
    return temp_dir_teardown(state);
}

static struct token_text make(int64_t ttl_ms, int64_t n_uses)
{
    struct token_text token;
    struct token_row row;
    struct sl_err err = SL_ERR_INIT;
    const struct token_terms terms = {.ttl_ms = ttl_ms, .n_uses = n_uses};
    if (token_make(db, &terms, NOW_MS, &token, &row, &err) != SL_OK) fail_msg("%s", err.text);
    assert_string_equal(row.id, token.id);
    assert_string_equal(token_state(&row, NOW_MS), "active");
    return token;
}

static void assert_refused(const struct token_text *token, int64_t now_ms, sl_status status,
                           const char *why)
{
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(token_redeem(db, token, false, now_ms, &err), status);
    if (!strstr(err.text, why)) fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void a_token_lets_in_as_often_as_it_says(void **state)
{
    (void)state;
    struct token_text token = make(HOUR_MS, 2);
    assert_int_equal(strlen(token.secret), TOKEN_SECRET_CHARS);
    for (int i = 0; i < 2; i++)
        assert_int_equal(token_redeem(db, &token, false, NOW_MS, NULL), SL_OK);
    assert_refused(&token, NOW_MS, SL_DENIED, "used up");
}

static void a_token_expires(void **state)
{
    (void)state;
    struct token_text token = make(HOUR_MS, 1);
    assert_refused(&token, NOW_MS + HOUR_MS, SL_DENIED, "expired");
    assert_int_equal(token_redeem(db, &token, false, NOW_MS + HOUR_MS - 1, NULL), SL_OK);
}

static void a_wrong_secret_tells_nothing(void **state)
{
    (void)state;
    struct token_text token = make(HOUR_MS, 1), unknown = make(HOUR_MS, 1);
    assert_int_equal(token_redeem(db, &token, false, NOW_MS, NULL), SL_OK);
    token.secret[7] = token.secret[7] == 'x' ? 'y' : 'x'; /* and used up */
    assert_refused(&token, NOW_MS, SL_UNAUTHENTICATED, "does not know");
    unknown.id[0] = '!';
    assert_refused(&unknown, NOW_MS, SL_UNAUTHENTICATED, "does not know");
}

static void a_revoked_token_lets_nobody_in(void **state)
{
    (void)state;
    struct token_text token = make(HOUR_MS, 1);
    assert_int_equal(token_revoke(db, token.id, NOW_MS, NULL), SL_OK);
    assert_int_equal(token_revoke(db, token.id, NOW_MS, NULL), SL_EXISTS);
    assert_int_equal(token_revoke(db, "nothing", NOW_MS, NULL), SL_NOT_FOUND);
    assert_refused(&token, NOW_MS, SL_DENIED, "revoked");
}

static void gateways_need_a_token_for_gateways(void **state)
{
    (void)state;
    const struct token_terms terms = {.ttl_ms = HOUR_MS, .n_uses = 2, .gateways = true};
    struct token_text nodes = make(HOUR_MS, 1), both;
    struct token_row row;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(token_redeem(db, &nodes, true, NOW_MS, &err), SL_DENIED);
    assert_non_null(strstr(err.text, "lets nodes in"));
    assert_int_equal(token_redeem(db, &nodes, false, NOW_MS, NULL), SL_OK); /* not used up by it */
    assert_int_equal(token_make(db, &terms, NOW_MS, &both, &row, NULL), SL_OK);
    assert_true(row.gateways);
    assert_int_equal(token_redeem(db, &both, true, NOW_MS, NULL), SL_OK);
    assert_int_equal(token_redeem(db, &both, false, NOW_MS, NULL), SL_OK);
}

static void the_secret_is_stored_nowhere(void **state)
{
    (void)state;
    struct token_text token = make(HOUR_MS, 1);
    struct db_stmt *stmt;
    bool row;
    assert_int_equal(
        db_prepare(db, "SELECT count(*) FROM tokens WHERE instr(hash, ?1) > 0", &stmt, NULL),
        SL_OK);
    db_bind_blob(stmt, 1, token.secret, TOKEN_SECRET_CHARS);
    assert_int_equal(db_step(stmt, &row, NULL), SL_OK);
    assert_int_equal(db_column_int(stmt, 0), 0);
    db_finalize(stmt);
}

static void lists_show_the_newest_first_and_forget_the_old(void **state)
{
    (void)state;
    struct token_row *rows = NULL, row;
    struct token_text old = make(HOUR_MS, 3), recent;
    const struct token_terms terms = {.ttl_ms = HOUR_MS, .n_uses = 1};
    size_t n = 0;
    assert_int_equal(token_redeem(db, &old, false, NOW_MS, NULL), SL_OK);
    assert_int_equal(token_make(db, &terms, NOW_MS + HOUR_MS, &recent, &row, NULL), SL_OK);
    assert_int_equal(token_list(db, &rows, &n, NULL), SL_OK);
    assert_int_equal(n, 2);
    assert_string_equal(rows[0].id, recent.id);
    assert_int_equal(rows[1].n_used, 1);
    assert_string_equal(token_state(&rows[1], NOW_MS + HOUR_MS), "expired");
    sl_free(rows);
    int64_t later_ms = NOW_MS + 8 * 24 * HOUR_MS;
    assert_int_equal(token_make(db, &terms, later_ms, &recent, &row, NULL), SL_OK);
    assert_int_equal(token_list(db, &rows, &n, NULL), SL_OK);
    assert_int_equal(n, 1);
    sl_free(rows);
}

static void what_cannot_be_is_not_made(void **state)
{
    (void)state;
    struct token_text token;
    struct token_row row;
    const struct token_terms bad[] = {{0, 1, false},
                                      {TOKEN_TTL_MAX_MS + 1, 1, false},
                                      {HOUR_MS, 0, false},
                                      {HOUR_MS, TOKEN_USES_MAX + 1, true}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(token_make(db, &bad[i], NOW_MS, &token, &row, NULL), SL_INVALID);
}

/* --- text --- */

static struct token_text example(void)
{
    struct token_text token = {.addresses = "10.0.0.1:4230,[fd00::1]:4231"};
    memset(token.pin, 'a', TOKEN_PIN_SIZE - 1);
    memset(token.id, 'i', TOKEN_ID_CHARS);
    memset(token.secret, 's', TOKEN_SECRET_CHARS);
    return token;
}

static void a_text_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct token_text token = example(), back;
    struct sl_buf text;
    struct sl_err err = SL_ERR_INIT;
    sl_buf_init(&text, TOKEN_TEXT_MAX);
    assert_int_equal(token_text_write(&token, &text), SL_OK);
    assert_memory_equal(text.data, "slj1.", 5);
    assert_int_equal(token_text_read(text.data, &back, &err), SL_OK);
    assert_memory_equal(&back, &token, sizeof token);
    /* Cut anywhere it is no token any more. */
    for (size_t n = text.len; n-- > 0;) {
        text.data[n] = '\0';
        assert_int_equal(token_text_read(text.data, &back, &err), SL_INVALID);
        assert_int_equal(back.secret[0], 0);
    }
    sl_buf_done(&text);
}

static void other_texts_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {{"", "no join token"},           {"sl-abcdef", "no join token"},
                {"slj2.abc", "another version"}, {"slj1.", "not whole"},
                {"slj1.!!!", "not whole"},       {"slj1.e30", "not whole"}, /* {} */
                {"slj1.WzFd", "not whole"} /* [1] */};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct token_text token;
        struct sl_err err = SL_ERR_INIT;
        assert_int_equal(token_text_read(rows[i].text, &token, &err), SL_INVALID);
        if (!strstr(err.text, rows[i].says)) fail_msg("%s: %s", rows[i].text, err.text);
    }
}

/* --- wrong tries --- */

static void who_is_wrong_too_often_has_to_wait(void **state)
{
    (void)state;
    static struct token_guard guard;
    for (int i = 0; i < TOKEN_GUARD_TRIES; i++) {
        assert_int_equal(token_guard_wait_ms(&guard, "10.0.0.9", 1000 + i), 0);
        token_guard_wrong(&guard, "10.0.0.9", 1000 + i);
    }
    assert_int_equal(token_guard_wait_ms(&guard, "10.0.0.9", 1000), TOKEN_GUARD_MS);
    assert_int_equal(token_guard_wait_ms(&guard, "10.0.0.8", 1000), 0);
    assert_int_equal(token_guard_wait_ms(&guard, "10.0.0.9", 1000 + TOKEN_GUARD_MS), 0);
    token_guard_wrong(&guard, "10.0.0.9", 1000 + TOKEN_GUARD_MS); /* begins anew */
    assert_int_equal(token_guard_wait_ms(&guard, "10.0.0.9", 1001 + TOKEN_GUARD_MS), 0);
}

static void a_crowd_does_not_hide_the_latest(void **state)
{
    (void)state;
    static struct token_guard guard;
    char host[32];
    for (int i = 0; i < 3 * TOKEN_GUARD_PEERS; i++) {
        snprintf(host, sizeof host, "10.0.%d.%d", i / 256, i % 256);
        for (int k = 0; k < TOKEN_GUARD_TRIES; k++) token_guard_wrong(&guard, host, 1000 + i);
        assert_true(token_guard_wait_ms(&guard, host, 1000 + i) > 0);
    }
    assert_true(token_guard_wait_ms(&guard, "10.0.2.255", 2000) > 0);
    assert_int_equal(token_guard_wait_ms(&guard, "10.0.0.0", 2000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_token_lets_in_as_often_as_it_says, open_db, close_db),
        cmocka_unit_test_setup_teardown(a_token_expires, open_db, close_db),
        cmocka_unit_test_setup_teardown(a_wrong_secret_tells_nothing, open_db, close_db),
        cmocka_unit_test_setup_teardown(a_revoked_token_lets_nobody_in, open_db, close_db),
        cmocka_unit_test_setup_teardown(gateways_need_a_token_for_gateways, open_db, close_db),
        cmocka_unit_test_setup_teardown(the_secret_is_stored_nowhere, open_db, close_db),
        cmocka_unit_test_setup_teardown(lists_show_the_newest_first_and_forget_the_old, open_db,
                                        close_db),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_not_made, open_db, close_db),
        cmocka_unit_test(a_text_is_read_as_it_was_written),
        cmocka_unit_test(other_texts_are_told_apart),
        cmocka_unit_test(who_is_wrong_too_often_has_to_wait),
        cmocka_unit_test(a_crowd_does_not_hide_the_latest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
