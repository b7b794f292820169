/* pki_hash.c: of the first certificate's key. */
#include "net/pki_hash.h"
#include "net/pki_int.h"

sl_status pki_chain_hash(const char *chain, unsigned char out[SHA256_BYTES], struct sl_err *err)
{
    STACK_OF(X509) *certs = NULL;
    sl_status status = pki_certs_read(chain, PKI_DEPTH_MAX, &certs, err);
    if (status != SL_OK) return status;
    EVP_PKEY *key = X509_get0_pubkey(sk_X509_value(certs, 0));
    status = key ? pki_public_hash(key, out, err)
                 : sl_err_set(err, SL_CORRUPT, "a certificate without a key");
    sk_X509_pop_free(certs, X509_free);
    return status;
}
