/* identity_test.c: the files that make a machine a member: opening a grid, being admitted to one,
 * and files that are missing, broken or somebody else's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/pki.h"
#include "grid/identity.h"
#include "support/temp_dir.h"
#include "support/test_grid.h"

static char home[TEMP_PATH_MAX];
static struct test_grid grid;

static int set_up(void **state)
{
    if (temp_dir_setup(state) != 0) return -1;
    snprintf(home, sizeof home, "%s", temp_path("home"));
    test_grid_init(&grid, sl_unix_time_ms() / 1000);
    return 0;
}

static int tear_down(void **state)
{
    test_grid_done(&grid);
    return temp_dir_teardown(state);
}

/* A certificate of the grid's gateway for this machine's key, which it gets. */
static struct pki_key *admit(struct sl_buf *chain)
{
    struct pki_key *key = NULL;
    struct sl_buf csr;
    struct sl_err err = SL_ERR_INIT;
    sl_buf_init(&csr, PKI_TEXT_MAX);
    sl_buf_init(chain, PKI_TEXT_MAX);
    if (identity_key(home, &key, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(pki_csr_create(key, &csr, &err), SL_OK);
    const struct pki_issue issue = {.key = grid.gateway.key,
                                    .chain = grid.gateway.chain.data,
                                    .csr = csr.data,
                                    .now_s = sl_unix_time_ms() / 1000};
    assert_int_equal(pki_issue(&issue, chain, &err), SL_OK);
    sl_buf_done(&csr);
    return key;
}

static void a_grid_is_opened_by_its_first_gateway(void **state)
{
    struct identity *identity = NULL;
    struct pki_key *key = NULL;
    struct sl_err err = SL_ERR_INIT;
    char id[PKI_ID_SIZE], path[IDENTITY_PATH_SIZE];
    struct stat st;
    (void)state;
    assert_false(identity_exists(home));
    if (identity_open_grid(home, &err) != SL_OK) fail_msg("%s", err.text);
    assert_true(identity_exists(home));
    if (identity_load(home, &identity, &err) != SL_OK) fail_msg("%s", err.text);
    assert_true(identity->is_gateway);
    assert_true(pki_id_valid(identity->id));
    assert_int_equal(strlen(identity->key_hash), MEMBER_KEY_SIZE - 1);
    assert_int_equal(strlen(identity->pin), TOKEN_PIN_SIZE - 1);
    assert_true(identity->not_after_s > sl_unix_time_ms() / 1000);
    assert_int_equal(identity_key(home, &key, &err), SL_OK); /* the one that is there */
    pki_key_id(key, id);
    assert_string_equal(id, identity->id);
    assert_int_equal(identity_path(home, "ca-key.pem", path, &err), SL_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    pki_key_destroy(key);
    identity_destroy(identity);
}

static void a_node_keeps_what_a_gateway_gave_it(void **state)
{
    struct identity *identity = NULL;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf chain;
    char id[PKI_ID_SIZE];
    (void)state;
    struct pki_key *key = admit(&chain);
    pki_key_id(key, id);
    assert_false(identity_exists(home)); /* a key alone is no membership */
    assert_int_equal(identity_load(home, &identity, &err), SL_NOT_FOUND);
    assert_int_equal(identity_store(home, key, chain.data, grid.root.data, &err), SL_OK);
    if (identity_load(home, &identity, &err) != SL_OK) fail_msg("%s", err.text);
    assert_string_equal(identity->id, id);
    assert_false(identity->is_gateway);
    assert_string_equal(identity->chain.data, chain.data);
    assert_string_equal(identity->root.data, grid.root.data);
    identity_destroy(identity);
    pki_key_destroy(key);
    sl_buf_done(&chain);
}

static void what_does_not_fit_is_not_stored(void **state)
{
    struct test_grid other;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf chain;
    (void)state;
    struct pki_key *key = admit(&chain);
    test_grid_init(&other, sl_unix_time_ms() / 1000);
    assert_int_equal(identity_store(home, key, chain.data, other.root.data, &err), SL_DENIED);
    assert_int_equal(identity_store(home, key, grid.node.chain.data, grid.root.data, &err),
                     SL_INVALID); /* another's key */
    assert_int_equal(identity_store(home, key, "nonsense", grid.root.data, &err), SL_CORRUPT);
    assert_false(identity_exists(home));
    test_grid_done(&other);
    pki_key_destroy(key);
    sl_buf_done(&chain);
}

static void files_that_are_not_of_one_member_are_refused(void **state)
{
    struct identity *identity = NULL;
    struct sl_err err = SL_ERR_INIT;
    char path[IDENTITY_PATH_SIZE];
    (void)state;
    assert_int_equal(identity_open_grid(home, &err), SL_OK);
    assert_int_equal(identity_path(home, "cert.pem", path, &err), SL_OK);
    const struct sl_buf *theirs = &grid.node.chain;
    assert_int_equal(pki_file_write(path, theirs->data, theirs->len, &err), SL_OK);
    assert_int_equal(identity_load(home, &identity, &err), SL_DENIED);
    assert_non_null(strstr(err.text, "this machine's identity"));
    assert_int_equal(pki_file_write(path, "half of", 7, &err), SL_OK);
    assert_int_equal(identity_load(home, &identity, &err), SL_CORRUPT);
    assert_int_equal(identity_path(home, "key.pem", path, &err), SL_OK);
    assert_int_equal(chmod(path, 0644), 0); /* others may read it */
    assert_int_equal(identity_load(home, &identity, &err), SL_DENIED);
    assert_null(identity);
}

static void a_home_with_too_long_a_path_is_refused(void **state)
{
    static char longer[IDENTITY_PATH_SIZE];
    char path[IDENTITY_PATH_SIZE];
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    memset(longer, 'x', sizeof longer - 1);
    assert_int_equal(identity_path(longer, "key.pem", path, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "too long"));
    assert_false(identity_exists(longer));
}

static void without_memory_nothing_stays(void **state)
{
    struct identity *identity = NULL;
    sl_status status = SL_NOMEM;
    (void)state;
    assert_int_equal(identity_open_grid(home, NULL), SL_OK);
    const uint64_t before = sl_mem_live();
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = identity_load(home, &identity, NULL);
        sl_mem_fail_at(0, false);
        assert_int_equal(status == SL_OK, identity != NULL);
        if (status == SL_OK) identity_destroy(identity);
        assert_int_equal(sl_mem_live(), before);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_grid_is_opened_by_its_first_gateway),
        TEST(a_node_keeps_what_a_gateway_gave_it),
        TEST(what_does_not_fit_is_not_stored),
        TEST(files_that_are_not_of_one_member_are_refused),
        TEST(a_home_with_too_long_a_path_is_refused),
        TEST(without_memory_nothing_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
