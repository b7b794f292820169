/* identity.h: the files that make this machine a member, in HOME/grid:
 *
 *     key.pem    its private key; never leaves the machine
 *     cert.pem   the grid's certificate for that key, and those between it and the root
 *     ca.pem     the grid's root certificate
 *     ca-key.pem the root's key, on the machine that opened the grid; only needed for that
 *     admin.key  at gateways: what an administrator's commands show
 *
 * Floor: grid.  Thread: any; what identity_renewed changes of a loaded one, its owner's.
 * Allocates: an identity.
 * Invariant: a loaded identity is whole: its chain leads to its root and is for its key. */
#pragma once
#include "base/err.h"
#include "grid/member.h"
#include "grid/token.h"
#include "net/pki.h"

#include <limits.h>

#define IDENTITY_PATH_SIZE PATH_MAX

struct identity {
    char id[GRID_ID_SIZE];
    char key_hash[MEMBER_KEY_SIZE]; /* hex */
    char pin[TOKEN_PIN_SIZE];       /* of the root, hex */
    bool is_gateway;
    int n_below; /* pki_peer's */
    int64_t issued_s, not_after_s;
    struct pki_key *key;
    struct sl_buf chain, root; /* PEM */
    char key_path[IDENTITY_PATH_SIZE], cert_path[IDENTITY_PATH_SIZE], ca_path[IDENTITY_PATH_SIZE];
};

/* "HOME/grid/NAME". INVALID: too long. */
SL_CHECK sl_status identity_path(const char *home, const char *name, char out[IDENTITY_PATH_SIZE],
                                 struct sl_err *err);

/* Are there files of one? */
bool identity_exists(const char *home);

/* NOT_FOUND: this machine is in no grid; else what pki.h says of broken files. */
SL_CHECK sl_status identity_load(const char *home, struct identity **out, struct sl_err *err);
void identity_destroy(struct identity *identity); /* NULL is fine */

/* A new grid: root, and this machine as its first gateway. The folder is made. */
SL_CHECK sl_status identity_open_grid(const char *home, struct sl_err *err);

/* This machine's key: the one in home, or a new one, stored. */
SL_CHECK sl_status identity_key(const char *home, struct pki_key **out, struct sl_err *err);
/* Stores what the grid gave: checked against each other before. DENIED, INVALID, CORRUPT: they
 * do not fit. */
SL_CHECK sl_status identity_store(const char *home, const struct pki_key *key, const char *chain,
                                  const char *root, struct sl_err *err);

/* The pin of the grid that this HOME belongs to, also when its certificate has ended. */
SL_CHECK sl_status identity_pin(const char *home, char out[TOKEN_PIN_SIZE], struct sl_err *err);

/* --- renewal (grid/renew.h) --- */

/* The Unix time at which the certificate wants to be renewed: half of its life is over. */
int64_t identity_renew_at_s(const struct identity *identity);
/* Would the chain be an improvement: of the same member in the same role, ending later? DENIED,
 * INVALID, CORRUPT: no. */
SL_CHECK sl_status identity_renewal_check(const struct identity *identity, const char *chain,
                                          struct sl_err *err);
/* Signs with the root's key, where it is in home, and appends the chain to out. valid_s: as
 * pki_issue's. NOT_FOUND: it is not. */
SL_CHECK sl_status identity_sign_self(const struct identity *identity, const char *home,
                                      int64_t valid_s, struct sl_buf *out, struct sl_err *err);
/* This chain, which was checked, is in cert.pem now. */
void identity_renewed(struct identity *identity, const char *chain);
