/* pki_test.c: keys, ids, certificates, and all the ways in which these can lie. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/pki.h"
#include "support/forged_cert.h"
#include "support/temp_dir.h"
#include "support/test_grid.h"

#define NOW TEST_NOW_S
#define DAY_S INT64_C(86400)

/* Made for this test by another program, which also computed the id. */
#define KNOWN_ID "ndpha2agqnibdn"
static const char known_key[] = "-----BEGIN PRIVATE KEY-----\n"
                                "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgEOn5fgyOtLF0iVbv\n"
                                "nr93GBSeQXwTTApTNGiP+AsOZZWhRANCAATAjTKDvI/y7o43OmRplVOyEyRC7KdX\n"
                                "xkkH0sx3irPbP1/kK8aXB+1onKsf4dhrTQw0xbPR+rsT2mgMDs/xWuhe\n"
                                "-----END PRIVATE KEY-----\n";

static struct test_grid grid;

static int make_grid(void **state)
{
    test_grid_init(&grid, NOW);
    return temp_dir_setup(state);
}

static int end_grid(void **state)
{
    test_grid_done(&grid);
    return temp_dir_teardown(state);
}

static void write_file(const char *name, const char *text, size_t n, mode_t mode)
{
    FILE *file = fopen(temp_path(name), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(temp_path(name), mode), 0);
}

/* A key that is read in spite of all is the known one. */
static sl_status load_key_of(const char *text, size_t n)
{
    struct pki_key *key = NULL;
    char id[PKI_ID_SIZE] = KNOWN_ID;
    write_file("k.pem", text, n, 0600);
    sl_status status = pki_key_load(temp_path("k.pem"), &key, NULL);
    if (status == SL_OK) pki_key_id(key, id);
    assert_string_equal(id, KNOWN_ID);
    pki_key_destroy(key);
    return status;
}

static sl_status check(const char *chain, const char *root, int64_t now_s, struct pki_peer *out)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = pki_chain_check(chain, root, now_s, out, &err);
    assert_int_equal(err.status, status);
    assert_true(status == SL_OK || err.text[0]);
    return status;
}

/* --- keys and ids --- */

static void an_id_is_the_hash_of_the_key(void **state)
{
    (void)state;
    struct pki_key *key;
    char id[PKI_ID_SIZE], dns[PKI_DNS_SIZE];
    write_file("k.pem", known_key, sizeof known_key - 1, 0600);
    assert_int_equal(pki_key_load(temp_path("k.pem"), &key, NULL), SL_OK);
    pki_key_id(key, id);
    assert_string_equal(id, KNOWN_ID);
    assert_true(pki_id_valid(id));
    pki_id_dns(id, dns);
    assert_string_equal(dns, KNOWN_ID ".nodes.starlane.internal");
    pki_key_destroy(key);
}

static void an_id_has_one_form(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "n",
                                        "ndpha2agqnibd",
                                        "ndpha2agqnibdna",
                                        "mdpha2agqnibdn",
                                        "ndpha1agqnibdn",
                                        "ndphA2agqnibdn",
                                        "ndpha2agqnib.n",
                                        "ndpha2agqnibdn."};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_false(pki_id_valid(wrong[i]));
}

static void a_key_is_saved_for_its_owner_alone(void **state)
{
    (void)state;
    struct pki_key *key, *again;
    char id[PKI_ID_SIZE], id_again[PKI_ID_SIZE];
    struct stat st;
    assert_int_equal(pki_key_create(&key, NULL), SL_OK);
    write_file("k.pem.new", "left over", 9, 0644); /* by a crash */
    assert_int_equal(pki_key_save(key, temp_path("k.pem"), NULL), SL_OK);
    assert_int_equal(stat(temp_path("k.pem"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(temp_path("k.pem.new"), &st), -1);
    assert_int_equal(pki_key_load(temp_path("k.pem"), &again, NULL), SL_OK);
    pki_key_id(key, id);
    pki_key_id(again, id_again);
    assert_string_equal(id, id_again);
    pki_key_destroy(key);
    pki_key_destroy(again);
}

static void a_key_that_others_may_read_is_refused(void **state)
{
    (void)state;
    struct pki_key *key;
    struct sl_err err = SL_ERR_INIT;
    write_file("open.pem", known_key, sizeof known_key - 1, 0640);
    assert_int_equal(pki_key_load(temp_path("open.pem"), &key, &err), SL_DENIED);
    assert_non_null(strstr(err.text, "chmod 600"));
    assert_int_equal(pki_key_load(temp_path("none.pem"), &key, NULL), SL_NOT_FOUND);
    assert_int_equal(pki_key_load(temp_path("."), &key, NULL), SL_IO);
}

static void damaged_keys_are_refused(void **state)
{
    (void)state;
    static char text[PKI_TEXT_MAX + 100];
    size_t n = sizeof known_key - 1;
    for (size_t cut = 0; cut < n - 1; cut++) /* the last newline may be missing */
        assert_int_equal(load_key_of(known_key, cut), SL_CORRUPT);
    int n_refused = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(text, known_key, n);
        text[i] ^= 0x05; /* a few bits mean nothing: version numbers, the last newline */
        sl_status status = load_key_of(text, n);
        assert_true(status == SL_OK || status == SL_CORRUPT);
        n_refused += status == SL_CORRUPT;
    }
    assert_true(n_refused > (int)n - 10);
    memset(text, '\n', sizeof text);
    assert_int_equal(load_key_of(text, PKI_TEXT_MAX), SL_CORRUPT);
    assert_int_equal(load_key_of(text, PKI_TEXT_MAX + 1), SL_LIMIT);
    text[5] = '\0';
    assert_int_equal(load_key_of(text, 10), SL_CORRUPT);
}

static void save_pkey(EVP_PKEY *pkey, const char *password)
{
    FILE *file = fopen(temp_path("k.pem"), "w");
    assert_true(pkey && file);
    const EVP_CIPHER *cipher = password ? EVP_aes_128_cbc() : NULL;
    assert_int_equal(PEM_write_PKCS8PrivateKey(file, pkey, cipher, password,
                                               password ? (int)strlen(password) : 0, NULL, NULL),
                     1);
    fclose(file);
    chmod(temp_path("k.pem"), 0600);
    EVP_PKEY_free(pkey);
}

static void other_kinds_of_keys_are_refused(void **state)
{
    (void)state;
    struct pki_key *key;
    EVP_PKEY *const others[] = {EVP_EC_gen("P-384"), EVP_EC_gen("secp256k1"), EVP_RSA_gen(2048),
                                EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        save_pkey(others[i], NULL);
        assert_int_equal(pki_key_load(temp_path("k.pem"), &key, NULL), SL_CORRUPT);
    }
    save_pkey(EVP_EC_gen("P-256"), "secret"); /* must not ask the terminal for it either */
    assert_int_equal(pki_key_load(temp_path("k.pem"), &key, NULL), SL_CORRUPT);
}

/* --- certificates as they should be --- */

static void members_are_known_by_their_chains(void **state)
{
    (void)state;
    struct pki_peer peer;
    assert_int_equal(check(grid.node.chain.data, grid.root.data, NOW, &peer), SL_OK);
    assert_string_equal(peer.id, grid.node.id);
    assert_false(peer.is_gateway);
    assert_true(peer.not_after_s == NOW + PKI_MEMBER_S);
    assert_true(peer.issued_s == NOW);
    assert_int_equal(peer.n_below, -1);
    assert_int_equal(check(grid.gateway.chain.data, grid.root.data, NOW, &peer), SL_OK);
    assert_string_equal(peer.id, grid.gateway.id);
    assert_true(peer.is_gateway);
    assert_true(peer.not_after_s == NOW + PKI_FIRST_S); /* the root has signed it */
    assert_int_equal(peer.n_below, 2);
    assert_int_equal(pki_key_check(grid.node.key, grid.node.chain.data, NULL), SL_OK);
    assert_int_equal(pki_key_check(grid.gateway.key, grid.node.chain.data, NULL), SL_INVALID);
    assert_int_equal(pki_key_check(grid.gateway.key, "", NULL), SL_CORRUPT);
}

static void clocks_may_differ_by_a_day(void **state)
{
    (void)state;
    const char *chain = grid.node.chain.data, *root = grid.root.data;
    assert_int_equal(check(chain, root, NOW - PKI_SKEW_S + 60, NULL), SL_OK);
    assert_int_equal(check(chain, root, NOW - PKI_SKEW_S - 60, NULL), SL_DENIED);
    assert_int_equal(check(chain, root, NOW + PKI_MEMBER_S - 60, NULL), SL_OK);
    assert_int_equal(check(chain, root, NOW + PKI_MEMBER_S + 60, NULL), SL_DENIED);
}

static void no_certificate_outlives_its_issuer(void **state)
{
    (void)state;
    struct test_member late;
    struct pki_peer gateway, node;
    int64_t later_s = NOW + PKI_FIRST_S - PKI_MEMBER_S / 2;
    test_member_init(&late, grid.gateway.key, grid.gateway.chain.data, false, later_s);
    assert_int_equal(check(grid.gateway.chain.data, grid.root.data, NOW, &gateway), SL_OK);
    assert_int_equal(check(late.chain.data, grid.root.data, later_s, &node), SL_OK);
    assert_true(node.not_after_s == gateway.not_after_s);
    test_member_done(&late);
}

static sl_status try_issue(const struct test_member *issuer, bool gateway, int64_t now_s)
{
    struct sl_buf csr, out;
    sl_buf_init(&csr, PKI_TEXT_MAX);
    sl_buf_init(&out, PKI_TEXT_MAX);
    assert_int_equal(pki_csr_create(grid.node.key, &csr, NULL), SL_OK);
    const struct pki_issue issue = {issuer->key, issuer->chain.data, csr.data, gateway, now_s, 0};
    sl_status status = pki_issue(&issue, &out, NULL);
    assert_true(status == SL_OK || out.len == 0);
    sl_buf_done(&csr);
    sl_buf_done(&out);
    return status;
}

static void three_gateways_admit_one_another(void **state)
{
    (void)state;
    struct test_member second, third, node;
    struct pki_peer peer;
    test_member_init(&second, grid.gateway.key, grid.gateway.chain.data, true, NOW);
    test_member_init(&third, second.key, second.chain.data, true, NOW);
    test_member_init(&node, third.key, third.chain.data, false, NOW);
    assert_int_equal(check(third.chain.data, grid.root.data, NOW, &peer), SL_OK);
    assert_true(peer.is_gateway);
    assert_int_equal(check(node.chain.data, grid.root.data, NOW, &peer), SL_OK);
    assert_string_equal(peer.id, node.id);
    assert_int_equal(try_issue(&third, false, NOW), SL_OK);
    assert_int_equal(try_issue(&third, true, NOW), SL_DENIED); /* a fourth in a row */
    test_member_done(&second);
    test_member_done(&third);
    test_member_done(&node);
}

static void only_gateways_issue(void **state)
{
    (void)state;
    struct test_member wrong_key = {grid.node.key, grid.gateway.chain, ""};
    assert_int_equal(try_issue(&grid.node, false, NOW), SL_DENIED);
    assert_int_equal(try_issue(&grid.node, true, NOW), SL_DENIED);
    assert_int_equal(try_issue(&wrong_key, false, NOW), SL_INVALID);
    assert_int_equal(try_issue(&grid.gateway, false, NOW + 11 * 365 * DAY_S), SL_DENIED);
}

/* --- texts that are not what they should be --- */

static void cut_texts_are_refused(void **state)
{
    (void)state;
    static char text[PKI_TEXT_MAX + 2];
    unsigned char pin[SHA256_BYTES];
    char id[PKI_ID_SIZE];
    struct sl_buf csr;
    sl_buf_init(&csr, PKI_TEXT_MAX);
    assert_int_equal(pki_csr_create(grid.node.key, &csr, NULL), SL_OK);
    for (size_t n = 0; n < grid.root.len - 1; n++) {
        memcpy(text, grid.root.data, n);
        text[n] = '\0';
        assert_int_equal(pki_root_pin(text, pin, NULL), SL_CORRUPT);
    }
    for (size_t n = 0; n < csr.len - 1; n++) {
        memcpy(text, csr.data, n);
        text[n] = '\0';
        assert_int_equal(pki_csr_id(text, id, NULL), SL_CORRUPT);
    }
    for (size_t n = 0; n < grid.node.chain.len - 1; n++) {
        memcpy(text, grid.node.chain.data, n);
        text[n] = '\0';
        assert_int_not_equal(check(text, grid.root.data, NOW, NULL), SL_OK);
    }
    memset(text, 'x', PKI_TEXT_MAX + 1);
    assert_int_equal(check(text, grid.root.data, NOW, NULL), SL_LIMIT);
    assert_int_equal(check(grid.node.chain.data, text, NOW, NULL), SL_LIMIT);
    assert_int_equal(pki_csr_id(text, id, NULL), SL_LIMIT);
    sl_buf_done(&csr);
}

static void texts_of_another_kind_are_refused(void **state)
{
    (void)state;
    unsigned char pin[SHA256_BYTES];
    char id[PKI_ID_SIZE];
    struct sl_buf two;
    const char *root = grid.root.data, *chain = grid.node.chain.data;
    sl_buf_init(&two, PKI_TEXT_MAX);
    assert_int_equal(check(known_key, root, NOW, NULL), SL_CORRUPT);
    assert_int_equal(check(chain, known_key, NOW, NULL), SL_CORRUPT);
    assert_int_equal(pki_csr_id(root, id, NULL), SL_CORRUPT);
    assert_int_equal(pki_csr_id(known_key, id, NULL), SL_CORRUPT);
    assert_int_equal(pki_root_pin(grid.gateway.chain.data, pin, NULL), SL_CORRUPT);
    assert_int_equal(pki_root_pin(chain, pin, NULL), SL_LIMIT);
    assert_int_equal(sl_buf_addf(&two, "%s%s", root, root), SL_OK);
    assert_int_equal(pki_root_pin(two.data, pin, NULL), SL_LIMIT);
    sl_buf_clear(&two);
    for (int i = 0; i < 3; i++) assert_int_equal(sl_buf_adds(&two, chain), SL_OK);
    assert_int_equal(check(two.data, root, NOW, NULL), SL_LIMIT);
    sl_buf_clear(&two);
    assert_int_equal(pki_csr_create(grid.node.key, &two, NULL), SL_OK);
    assert_int_equal(pki_csr_create(grid.node.key, &two, NULL), SL_OK);
    assert_int_equal(pki_csr_id(two.data, id, NULL), SL_CORRUPT);
    sl_buf_done(&two);
}

static void a_pin_names_one_root(void **state)
{
    (void)state;
    struct test_grid other;
    struct pki_peer peer;
    unsigned char pin[SHA256_BYTES], other_pin[SHA256_BYTES];
    test_grid_init(&other, NOW);
    assert_int_equal(pki_root_pin(grid.root.data, pin, NULL), SL_OK);
    assert_int_equal(pki_root_pin(other.root.data, other_pin, NULL), SL_OK);
    assert_memory_not_equal(pin, other_pin, sizeof pin);
    assert_int_equal(pki_pin_check(grid.root.data, pin, NULL), SL_OK);
    assert_int_equal(pki_pin_check(grid.root.data, other_pin, NULL), SL_DENIED);
    pin[31] ^= 1;
    assert_int_equal(pki_pin_check(grid.root.data, pin, NULL), SL_DENIED);
    assert_int_equal(check(other.node.chain.data, grid.root.data, NOW, &peer), SL_DENIED);
    assert_int_equal(check(grid.root.data, grid.root.data, NOW, &peer), SL_DENIED);
    test_grid_done(&other);
}

static void a_chain_must_be_whole(void **state)
{
    (void)state;
    const char *first_end = strstr(grid.node.chain.data, "-----END");
    const char *second = strstr(first_end, "-----BEGIN");
    char alone[PKI_TEXT_MAX];
    snprintf(alone, sizeof alone, "%.*s", (int)(second - grid.node.chain.data),
             grid.node.chain.data);
    assert_int_equal(check(alone, grid.root.data, NOW, NULL), SL_DENIED);
    /* The gateway's certificate first: then the chain is the gateway's. */
    struct pki_peer peer;
    char swapped[PKI_TEXT_MAX];
    snprintf(swapped, sizeof swapped, "%s%s", second, alone);
    assert_int_equal(check(swapped, grid.root.data, NOW, &peer), SL_OK);
    assert_string_equal(peer.id, grid.gateway.id);
}

/* --- forgeries, by somebody who holds the issuer's key --- */

static sl_status check_forged(const struct forgery *f)
{
    struct sl_buf chain;
    struct pki_peer peer;
    sl_buf_init(&chain, PKI_TEXT_MAX);
    forged_cert_append(f, &chain);
    sl_status status = check(chain.data, grid.root.data, NOW, &peer);
    sl_buf_done(&chain);
    return status;
}

static void the_id_is_computed_not_believed(void **state)
{
    (void)state;
    char victim_dns[160], two[320];
    struct forgery f = {.issuer = &grid.gateway};
    assert_int_equal(check_forged(&f), SL_OK); /* the forger's tools work */
    snprintf(victim_dns, sizeof victim_dns, "DNS:%s.nodes.starlane.internal", grid.node.id);
    f.names = victim_dns;
    assert_int_equal(check_forged(&f), SL_DENIED);
    f.name = grid.node.id;
    assert_int_equal(check_forged(&f), SL_DENIED);
    f.names = NULL;
    assert_int_equal(check_forged(&f), SL_DENIED);
    f = (struct forgery){.issuer = &grid.gateway, .names = ""};
    assert_int_equal(check_forged(&f), SL_DENIED);
    f.names = "IP:127.0.0.1";
    assert_int_equal(check_forged(&f), SL_DENIED);
    /* The right name and the victim's. */
    char id[PKI_ID_SIZE];
    f.key = forged_cert_key_of(grid.gateway.key);
    pki_key_id(grid.gateway.key, id);
    snprintf(two, sizeof two, "DNS:%s.nodes.starlane.internal,%s", id, victim_dns);
    f.names = two;
    assert_int_equal(check_forged(&f), SL_DENIED);
}

static void only_p256_is_a_members_key(void **state)
{
    (void)state;
    struct forgery f = {.issuer = &grid.gateway, .key = EVP_RSA_gen(2048)};
    assert_int_equal(check_forged(&f), SL_DENIED);
    f.key = EVP_EC_gen("P-384");
    assert_int_equal(check_forged(&f), SL_DENIED);
}

static void a_node_cannot_issue(void **state)
{
    (void)state;
    struct forgery f = {.issuer = &grid.node};
    assert_int_equal(check_forged(&f), SL_DENIED);
    f.constraints = "critical,CA:TRUE";
    f.usage = "critical,digitalSignature,keyCertSign";
    assert_int_equal(check_forged(&f), SL_DENIED);
}

static void a_gateway_cannot_lengthen_its_chain(void **state)
{
    (void)state;
    struct test_member second, third;
    test_member_init(&second, grid.gateway.key, grid.gateway.chain.data, true, NOW);
    test_member_init(&third, second.key, second.chain.data, true, NOW);
    struct forgery f = {.issuer = &third,
                        .constraints = "critical,CA:TRUE,pathlen:3",
                        .usage = "critical,digitalSignature,keyCertSign"};
    struct test_member fourth = {.key = NULL};
    assert_int_equal(pki_key_create(&fourth.key, NULL), SL_OK);
    f.key = forged_cert_key_of(fourth.key);
    sl_buf_init(&fourth.chain, PKI_TEXT_MAX);
    forged_cert_append(&f, &fourth.chain);
    struct forgery below = {.issuer = &fourth};
    assert_int_equal(check_forged(&below), SL_LIMIT); /* five certificates */
    test_member_done(&fourth);
    test_member_done(&third);
    test_member_done(&second);
}

static void times_count_for_every_certificate(void **state)
{
    (void)state;
    struct forgery f = {.issuer = &grid.gateway, .end_s = -60};
    assert_int_equal(check_forged(&f), SL_DENIED);
    f = (struct forgery){.issuer = &grid.gateway, .begin_s = 60};
    assert_int_equal(check_forged(&f), SL_DENIED);
    /* A gateway that has expired, and a node that has not. */
    struct test_member stale = {.key = NULL};
    assert_int_equal(pki_key_create(&stale.key, NULL), SL_OK);
    sl_buf_init(&stale.chain, PKI_TEXT_MAX);
    f = (struct forgery){.issuer = &grid.gateway,
                         .key = forged_cert_key_of(stale.key),
                         .constraints = "critical,CA:TRUE,pathlen:0",
                         .usage = "critical,digitalSignature,keyCertSign",
                         .end_s = -60};
    forged_cert_append(&f, &stale.chain);
    struct forgery below = {.issuer = &stale};
    assert_int_equal(check_forged(&below), SL_DENIED);
    test_member_done(&stale);
}

static void a_wrongly_named_gateway_admits_nobody(void **state)
{
    (void)state;
    struct test_member rogue = {.key = NULL};
    assert_int_equal(pki_key_create(&rogue.key, NULL), SL_OK);
    sl_buf_init(&rogue.chain, PKI_TEXT_MAX);
    struct forgery f = {.issuer = &grid.gateway,
                        .key = forged_cert_key_of(rogue.key),
                        .name = grid.node.id,
                        .constraints = "critical,CA:TRUE,pathlen:0",
                        .usage = "critical,digitalSignature,keyCertSign"};
    forged_cert_append(&f, &rogue.chain);
    struct forgery below = {.issuer = &rogue};
    assert_int_equal(check_forged(&below), SL_DENIED);
    test_member_done(&rogue);
}

/* --- requests for certificates --- */

static void make_csr(EVP_PKEY *key, EVP_PKEY *signer, struct sl_buf *out)
{
    X509_REQ *request = X509_REQ_new();
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "CN", MBSTRING_ASC,
                               (const unsigned char *)"root", -1, -1, 0);
    X509_EXTENSION *ca = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
    STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
    sk_X509_EXTENSION_push(extensions, ca);
    X509_REQ_add_extensions(request, extensions);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_set_pubkey(request, key);
    assert_true(X509_REQ_sign(request, signer, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509_REQ(bio, request), 1);
    long n = BIO_get_mem_data(bio, &text);
    sl_buf_clear(out);
    assert_int_equal(sl_buf_add(out, text, (size_t)n), SL_OK);
    BIO_free(bio);
    X509_REQ_free(request);
}

static void a_csr_gives_its_key_and_nothing_else(void **state)
{
    (void)state;
    struct sl_buf csr, chain;
    struct pki_peer peer;
    char id[PKI_ID_SIZE];
    EVP_PKEY *key = forged_cert_key_of(grid.node.key), *other = EVP_EC_gen("P-256");
    EVP_PKEY *rsa = EVP_RSA_gen(2048);
    sl_buf_init(&csr, PKI_TEXT_MAX);
    sl_buf_init(&chain, PKI_TEXT_MAX);
    make_csr(key, key, &csr);
    assert_int_equal(pki_csr_id(csr.data, id, NULL), SL_OK);
    assert_string_equal(id, grid.node.id);
    const struct pki_issue issue = {
        grid.gateway.key, grid.gateway.chain.data, csr.data, false, NOW, 0};
    assert_int_equal(pki_issue(&issue, &chain, NULL), SL_OK);
    assert_int_equal(check(chain.data, grid.root.data, NOW, &peer), SL_OK);
    assert_string_equal(peer.id, grid.node.id);
    assert_false(peer.is_gateway);
    make_csr(key, other, &csr); /* somebody else's key */
    assert_int_equal(pki_csr_id(csr.data, id, NULL), SL_CORRUPT);
    make_csr(rsa, rsa, &csr);
    assert_int_equal(pki_csr_id(csr.data, id, NULL), SL_CORRUPT);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
    EVP_PKEY_free(rsa);
    sl_buf_done(&csr);
    sl_buf_done(&chain);
}

/* --- files --- */

static void a_file_is_replaced_as_a_whole(void **state)
{
    (void)state;
    struct sl_buf text;
    struct stat st;
    char small[4];
    sl_buf_init(&text, PKI_TEXT_MAX);
    assert_int_equal(pki_file_write(temp_path("f"), "first", 5, NULL), SL_OK);
    assert_int_equal(chmod(temp_path("f"), 0644), 0);
    assert_int_equal(pki_file_write(temp_path("f"), "second", 6, NULL), SL_OK);
    assert_int_equal(stat(temp_path("f"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(pki_file_read(temp_path("f"), &text, NULL), SL_OK);
    assert_string_equal(text.data, "second");
    assert_int_equal(pki_file_read(temp_path("g"), &text, NULL), SL_NOT_FOUND);
    assert_string_equal(text.data, "second");
    sl_buf_done(&text);
    sl_buf_init(&text, sizeof small);
    assert_int_equal(pki_file_read(temp_path("f"), &text, NULL), SL_LIMIT);
    assert_int_equal(text.len, 0);
    sl_buf_done(&text);
    assert_int_equal(pki_file_write(temp_path("no/f"), "x", 1, NULL), SL_NOT_FOUND);
    /* A folder in its place: the file that was begun is taken away again. */
    assert_int_equal(mkdir(temp_path("d"), 0700), 0);
    assert_int_not_equal(pki_file_write(temp_path("d"), "x", 1, NULL), SL_OK);
    assert_int_equal(stat(temp_path("d.new"), &st), -1);
}

/* --- memory --- */

static sl_status do_all(void)
{
    struct pki_key *key = NULL;
    struct sl_buf csr, chain;
    struct pki_peer peer;
    sl_buf_init(&csr, PKI_TEXT_MAX);
    sl_buf_init(&chain, PKI_TEXT_MAX);
    sl_status status = pki_key_create(&key, NULL);
    if (status == SL_OK) status = pki_csr_create(key, &csr, NULL);
    const struct pki_issue issue = {
        grid.gateway.key, grid.gateway.chain.data, csr.data, false, NOW, 0};
    if (status == SL_OK) status = pki_key_save(key, temp_path("own.pem"), NULL);
    pki_key_destroy(key);
    key = NULL;
    if (status == SL_OK) status = pki_key_load(temp_path("own.pem"), &key, NULL);
    if (status == SL_OK) status = pki_issue(&issue, &chain, NULL);
    if (status == SL_OK) status = pki_chain_check(chain.data, grid.root.data, NOW, &peer, NULL);
    pki_key_destroy(key);
    sl_buf_done(&csr);
    sl_buf_done(&chain);
    return status;
}

static void lost_memory_is_told(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    int n_failed = -1;
    for (uint64_t n = 1; status != SL_OK; n++, n_failed++) {
        sl_mem_fail_at(n, false);
        status = do_all();
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    assert_true(n_failed >= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_is_the_hash_of_the_key),
        cmocka_unit_test(an_id_has_one_form),
        cmocka_unit_test(a_key_is_saved_for_its_owner_alone),
        cmocka_unit_test(a_key_that_others_may_read_is_refused),
        cmocka_unit_test(damaged_keys_are_refused),
        cmocka_unit_test(other_kinds_of_keys_are_refused),
        cmocka_unit_test(members_are_known_by_their_chains),
        cmocka_unit_test(clocks_may_differ_by_a_day),
        cmocka_unit_test(no_certificate_outlives_its_issuer),
        cmocka_unit_test(three_gateways_admit_one_another),
        cmocka_unit_test(only_gateways_issue),
        cmocka_unit_test(cut_texts_are_refused),
        cmocka_unit_test(texts_of_another_kind_are_refused),
        cmocka_unit_test(a_pin_names_one_root),
        cmocka_unit_test(a_chain_must_be_whole),
        cmocka_unit_test(the_id_is_computed_not_believed),
        cmocka_unit_test(only_p256_is_a_members_key),
        cmocka_unit_test(a_node_cannot_issue),
        cmocka_unit_test(a_gateway_cannot_lengthen_its_chain),
        cmocka_unit_test(times_count_for_every_certificate),
        cmocka_unit_test(a_wrongly_named_gateway_admits_nobody),
        cmocka_unit_test(a_csr_gives_its_key_and_nothing_else),
        cmocka_unit_test(a_file_is_replaced_as_a_whole),
        cmocka_unit_test(lost_memory_is_told),
    };
    return cmocka_run_group_tests(tests, make_grid, end_grid);
}
