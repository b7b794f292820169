/* pki_hash.h: whose certificate it is, in full: the id is made of the first bits of this.
 * Floor: net.  Thread: any.  Allocates: nothing that outlives a call. */
#pragma once
#include "net/pki.h"

/* SHA-256 of the public key (SubjectPublicKeyInfo, DER) of the chain's first certificate. CORRUPT,
 * LIMIT, NOMEM. */
SL_CHECK sl_status pki_chain_hash(const char *chain, unsigned char out[SHA256_BYTES],
                                  struct sl_err *err);
