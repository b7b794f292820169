/* renew.h: a member's new certificate for its old key: from any gateway that can give one as good,
 * over TLS with the old one; a gateway that has the root's key gives it to itself. The terms are in
 * docs/credentials.md; the gateways' side is membership_renew.c.
 * Floor: grid.  Thread: blocks its own.  Allocates: little.
 * Invariant: the key and the id stay; what is no improvement is never written. */
#pragma once
#include "grid/identity.h"
#include "grid/join.h"

#include <stdatomic.h>

#define RENEW_PATH "/grid/v1/renew" /* POST {"csr"}, for members; answered with {"chain"} */

struct renew_cfg {
    const char *home;
    const struct identity *identity; /* nobody changes it meanwhile */
    const struct join_peer *peers;   /* gateways, asked one after the other */
    size_t n_peers;
    const atomic_bool *cancel; /* NULL: never */
    int64_t valid_s;           /* pki_issue's, of what is signed here */
};

/* Gets a chain, checks it, writes cert.pem, and appends it to out. UNAVAILABLE: nobody gives one as
 * good, err says what the last one said; CANCELLED; IO: it cannot be written. */
SL_CHECK sl_status renew_certificate(const struct renew_cfg *cfg, struct sl_buf *out,
                                     struct sl_err *err);
