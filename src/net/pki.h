/* pki.h: the grid's credentials: one P-256 key a machine, the id that follows from it, the grid's
 * root, and the certificates that say who is a member and who may admit others. What they hold and
 * why: docs/credentials.md.
 * Floor: net.  Thread: any; an object belongs to one thread at a time.  Allocates: keys, texts in
 * the caller's buffers; OpenSSL allocates on its own.
 * Invariants:
 * - A member's id is computed from its public key wherever a certificate is read; what the
 *   certificate says of itself (subject, SAN) must agree, and is never believed alone.
 * - Certificates are PEM text (RFC 7468), NUL-ended. A chain begins with the member's own
 *   certificate and ends below the root, which travels apart.
 * - Every key is P-256, every signature ECDSA with SHA-256; nothing else is accepted.
 * - Reading refuses more than PKI_TEXT_MAX bytes before it looks at them. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "net/sha256.h"
#include <stdbool.h>
#include <stdint.h>

#define PKI_ID_SIZE 16          /* "n", 13 characters of base32 (RFC 4648, lower case), NUL */
#define PKI_DEPTH_MAX 4         /* certificates below the root: 3 gateways and a member */
#define PKI_TEXT_MAX (16 << 10) /* one PEM text: four of our certificates take 4 KiB */
#define PKI_YEAR_S (INT64_C(365) * 24 * 60 * 60)
#define PKI_ROOT_S (30 * PKI_YEAR_S)
/* What the root signs (the first gateway's) has to last: its key may lie in a safe. What gateways
 * sign is renewed by them halfway (grid/renew.h). */
#define PKI_FIRST_S (10 * PKI_YEAR_S)
#define PKI_MEMBER_S PKI_YEAR_S
#define PKI_SKEW_S (24 * 60 * 60) /* certificates begin that long ago: clocks of new machines err */
/* "<id>.nodes.starlane.internal" is the one DNS name in a member's certificate. RFC 8375 and ICANN
 * keep "internal" out of the public DNS. */
#define PKI_DNS_SUFFIX ".nodes.starlane.internal"
#define PKI_DNS_SIZE (PKI_ID_SIZE + sizeof PKI_DNS_SUFFIX)

struct pki_key; /* opaque: a private key */

/* Who a certificate is for, after its chain was checked. */
struct pki_peer {
    char id[PKI_ID_SIZE];
    bool is_gateway;                        /* it is a CA's: it may admit others */
    unsigned char key_sha256[SHA256_BYTES]; /* of its SubjectPublicKeyInfo: the id in full */
    int n_below; /* how many gateways may admit one another below it; -1: it is none */
    int64_t issued_s, not_after_s; /* Unix time at which it was made, and ends */
};

/* --- keys --- */

SL_CHECK sl_status pki_key_create(struct pki_key **out, struct sl_err *err); /* NOMEM, INTERNAL */
void pki_key_destroy(struct pki_key *key);                                   /* NULL is fine */

/* NOT_FOUND, DENIED (unreadable; or others than the owner may read it), IO; CORRUPT: not the PEM of
 * an unencrypted P-256 key (PKCS #8); LIMIT: longer than PKI_TEXT_MAX; NOMEM. */
SL_CHECK sl_status pki_key_load(const char *path, struct pki_key **out, struct sl_err *err);
/* PKCS #8, by pki_file_write. */
SL_CHECK sl_status pki_key_save(const struct pki_key *key, const char *path, struct sl_err *err);

/* The id of the key's owner. */
void pki_key_id(const struct pki_key *key, char out[PKI_ID_SIZE]);

/* The id of who has a key of this SHA-256: its first 65 bits, in base32. */
void pki_id_of_hash(const unsigned char hash[SHA256_BYTES], char out[PKI_ID_SIZE]);
/* Is this an id by its form: "n" and 13 characters of a-z, 2-7? */
bool pki_id_valid(const char *id);
/* "<id>.nodes.starlane.internal", of a valid id. */
void pki_id_dns(const char *id, char out[PKI_DNS_SIZE]);

/* --- making (`now_s`: Unix time in seconds; texts are appended to out) --- */

/* A new grid's root, signed by its own key. */
SL_CHECK sl_status pki_root_create(const struct pki_key *key, int64_t now_s, struct sl_buf *out,
                                   struct sl_err *err);

/* PKCS #10 (RFC 2986): asks for a certificate for the key. */
SL_CHECK sl_status pki_csr_create(const struct pki_key *key, struct sl_buf *out,
                                  struct sl_err *err);
/* The id of who asks. CORRUPT: not one CSR, not for a P-256 key, or not signed with it; LIMIT. */
SL_CHECK sl_status pki_csr_id(const char *csr, char out[PKI_ID_SIZE], struct sl_err *err);

struct pki_issue {
    const struct pki_key *key; /* the issuer's: the root's or a gateway's */
    const char *chain;         /* the issuer's own: the root, or a gateway's chain */
    const char *csr;           /* of the new member; all but the key in it is ignored */
    bool gateway;              /* may the new member admit others? */
    int64_t now_s;
    int64_t valid_s; /* 0: PKI_FIRST_S where the root signs, else PKI_MEMBER_S */
};

/* A certificate for the CSR's key, followed by the issuer's chain (but not the root). It ends with
 * its issuer's at the latest. INVALID: the issuer's key is not its certificate's. DENIED: the
 * issuer may not issue (a node; a gateway PKI_DEPTH_MAX - 1 below the root cannot admit gateways;
 * one that has expired). CORRUPT, LIMIT: the texts. */
SL_CHECK sl_status pki_issue(const struct pki_issue *issue, struct sl_buf *out, struct sl_err *err);

/* --- checking --- */

/* Whose chain is this, if the root vouches for it at now_s? CORRUPT: not certificates; DENIED:
 * signed by another grid, by a node, expired, not begun, or not what its key's owner may be called;
 * LIMIT. *out is set on OK only; NULL is fine. */
SL_CHECK sl_status pki_chain_check(const char *chain, const char *root, int64_t now_s,
                                   struct pki_peer *out, struct sl_err *err);

/* Is this key the one that the chain's first certificate was made for? INVALID: no; CORRUPT. */
SL_CHECK sl_status pki_key_check(const struct pki_key *key, const char *chain, struct sl_err *err);

/* The pin of a root: SHA-256 of its DER. CORRUPT: not a self-signed CA certificate of
 * P-256; LIMIT: more than one. */
SL_CHECK sl_status pki_root_pin(const char *root, unsigned char out[SHA256_BYTES],
                                struct sl_err *err);
/* Is this text the root that the pin names? DENIED: another; as pki_root_pin. After it, a root that
 * came over an unverified connection may be trusted, and written by pki_file_write. */
SL_CHECK sl_status pki_pin_check(const char *root, const unsigned char pin[SHA256_BYTES],
                                 struct sl_err *err);

/* --- files --- */

/* Replaces the file as a whole: a new one of mode 0600, synced, renamed over it. The folder must
 * exist. A crash leaves the old or the new one. DENIED, NOT_FOUND, IO. */
SL_CHECK sl_status pki_file_write(const char *path, const void *bytes, size_t n,
                                  struct sl_err *err);
/* Appends the whole file. LIMIT: longer than PKI_TEXT_MAX or out's maximum. NOT_FOUND, DENIED, IO;
 * CORRUPT: a NUL in it. */
SL_CHECK sl_status pki_file_read(const char *path, struct sl_buf *out, struct sl_err *err);
