/* pki_fuzz.c: any bytes as certificates and as requests for one. The first byte says what they are:
 * 't' PEM text, 'c' the DER of a certificate, 'r' that of a request. Nothing is taken for a member
 * of a grid that did not admit it, and who is admitted has the id of the key that was asked for. */
#include "base/base64.h"
#include "net/pki.h"
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 20000 /* somewhat more than the limit of a text */
#define TEXT_MAX (2 * INPUT_MAX)
#define PEM_LINE 48 /* bytes: 64 characters */
#define NOW_S INT64_C(1767225600)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pki_key *root_key;
static struct sl_buf root;

static void need(bool ok)
{
    if (!ok) abort();
}

static void add_pem(struct sl_buf *out, const char *label, const uint8_t *der, size_t n)
{
    need(sl_buf_addf(out, "-----BEGIN %s-----\n", label) == SL_OK);
    for (size_t at = 0; at < n; at += PEM_LINE) {
        size_t n_line = n - at < PEM_LINE ? n - at : PEM_LINE;
        need(sl_base64_encode(out, SL_BASE64_STANDARD, der + at, n_line) == SL_OK);
        need(sl_buf_addc(out, '\n') == SL_OK);
    }
    need(sl_buf_addf(out, "-----END %s-----\n", label) == SL_OK);
}

static void make_root(void)
{
    sl_buf_init(&root, PKI_TEXT_MAX);
    need(pki_key_create(&root_key, NULL) == SL_OK);
    need(pki_root_create(root_key, NOW_S, &root, NULL) == SL_OK);
}

static void admit(const char *csr, const char *id)
{
    struct sl_buf chain;
    struct pki_peer peer;
    const struct pki_issue issue = {
        .key = root_key, .chain = root.data, .csr = csr, .now_s = NOW_S};
    sl_buf_init(&chain, PKI_TEXT_MAX);
    need(pki_issue(&issue, &chain, NULL) == SL_OK);
    need(pki_chain_check(chain.data, root.data, NOW_S, &peer, NULL) == SL_OK);
    need(strcmp(peer.id, id) == 0 && !peer.is_gateway);
    sl_buf_done(&chain);
}

static void read_text(const char *text)
{
    struct sl_err err = SL_ERR_INIT;
    struct pki_peer peer;
    char id[PKI_ID_SIZE];
    unsigned char pin[SHA256_BYTES];
    if (pki_csr_id(text, id, &err) == SL_OK) admit(text, id);
    if (pki_root_pin(text, pin, &err) == SL_OK) need(pki_pin_check(text, pin, &err) == SL_OK);
    need(pki_chain_check(text, root.data, NOW_S, &peer, &err) != SL_OK);
    if (pki_chain_check(text, text, NOW_S, &peer, &err) == SL_OK) need(pki_id_valid(peer.id));
    need(pki_key_check(root_key, text, &err) != SL_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_buf text;
    if (size < 1 || size > INPUT_MAX) return 0;
    if (!root_key) make_root();
    sl_buf_init(&text, TEXT_MAX);
    if (data[0] == 'c')
        add_pem(&text, "CERTIFICATE", data + 1, size - 1);
    else if (data[0] == 'r')
        add_pem(&text, "CERTIFICATE REQUEST", data + 1, size - 1);
    else
        need(sl_buf_add(&text, data + 1, size - 1) == SL_OK);
    read_text(text.data);
    sl_buf_done(&text);
    return 0;
}
