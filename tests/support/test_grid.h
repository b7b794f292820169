/* test_grid.h: credentials of a small grid, for tests: a root, a gateway that it admitted and a
 * node that the gateway admitted. Thread: one. */
#pragma once
#include "net/pki.h"

struct test_member {
    struct pki_key *key;
    struct sl_buf chain;
    char id[PKI_ID_SIZE];
};

struct test_grid {
    struct pki_key *root_key;
    struct sl_buf root;
    struct test_member gateway, node;
};

#define TEST_NOW_S INT64_C(1767225600) /* 2026-01-01 */

void test_grid_init(struct test_grid *grid, int64_t now_s);
void test_grid_done(struct test_grid *grid);

/* A new key with a certificate by that issuer; issuer_chain may be the root. */
void test_member_init(struct test_member *member, const struct pki_key *issuer_key,
                      const char *issuer_chain, bool gateway, int64_t now_s);
void test_member_done(struct test_member *member);

/* Writes NAME.cert.pem and NAME.key.pem to the test's folder (temp_dir.h). */
void test_member_write(const struct test_member *member, const char *name);
