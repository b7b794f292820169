/* test_grid.c: see test_grid.h. */
#include "support/test_grid.h"

#include "support/temp_dir.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>

void test_member_init(struct test_member *member, const struct pki_key *issuer_key,
                      const char *issuer_chain, bool gateway, int64_t now_s)
{
    struct sl_buf csr;
    sl_buf_init(&csr, PKI_TEXT_MAX);
    sl_buf_init(&member->chain, PKI_TEXT_MAX);
    assert_int_equal(pki_key_create(&member->key, NULL), SL_OK);
    assert_int_equal(pki_csr_create(member->key, &csr, NULL), SL_OK);
    const struct pki_issue issue = {.key = issuer_key,
                                    .chain = issuer_chain,
                                    .csr = csr.data,
                                    .gateway = gateway,
                                    .now_s = now_s};
    assert_int_equal(pki_issue(&issue, &member->chain, NULL), SL_OK);
    pki_key_id(member->key, member->id);
    sl_buf_done(&csr);
}

void test_member_done(struct test_member *member)
{
    pki_key_destroy(member->key);
    sl_buf_done(&member->chain);
}

void test_grid_init(struct test_grid *grid, int64_t now_s)
{
    sl_buf_init(&grid->root, PKI_TEXT_MAX);
    assert_int_equal(pki_key_create(&grid->root_key, NULL), SL_OK);
    assert_int_equal(pki_root_create(grid->root_key, now_s, &grid->root, NULL), SL_OK);
    test_member_init(&grid->gateway, grid->root_key, grid->root.data, true, now_s);
    test_member_init(&grid->node, grid->gateway.key, grid->gateway.chain.data, false, now_s);
}

void test_grid_done(struct test_grid *grid)
{
    pki_key_destroy(grid->root_key);
    sl_buf_done(&grid->root);
    test_member_done(&grid->gateway);
    test_member_done(&grid->node);
}

void test_member_write(const struct test_member *member, const char *name)
{
    char file[64];
    snprintf(file, sizeof file, "%s.key.pem", name);
    assert_int_equal(pki_key_save(member->key, temp_path(file), NULL), SL_OK);
    snprintf(file, sizeof file, "%s.cert.pem", name);
    assert_int_equal(pki_file_write(temp_path(file), member->chain.data, member->chain.len, NULL),
                     SL_OK);
}
