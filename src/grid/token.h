/* token.h: what a person carries from a gateway to a machine that is to join. It says where the
 * gateway is, how to know it is the right one, and a secret that lets one machine in, once.
 *
 *     slj1.<base64url of {"a":["10.0.0.1:4230"],"p":"<64 hex>","i":"<id>","s":"<secret>"}>
 *     a: addresses of the gateway's grid port   p: SHA-256 of the root certificate (DER)
 *
 * Floor: grid.  Thread: any; functions that take a `struct db` run on that connection's thread.
 * Allocates: lists.
 * The database holds a token's id and the SHA-256 of its secret, which has 256 bits of
 * getrandom(2). An unknown id is hashed and compared too (net/secret.h), so that time tells
 * nothing.
 * A token admits nodes; gateways, who may admit others in turn, only when it was made for them.
 * Invariant: a token that was redeemed `uses` times, has expired or was revoked lets nobody in;
 * redeeming is one transaction, done before the machine is admitted. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "grid/member.h"
#include <stdint.h>

struct db;

#define TOKEN_ID_CHARS 10
#define TOKEN_SECRET_CHARS 43 /* of 62 letters: 256 bits */
#define TOKEN_PIN_SIZE 65     /* SHA-256 in hex, with the NUL */
#define TOKEN_TEXT_MAX 4096   /* eight long addresses, in base64 */
#define TOKEN_TTL_MIN_MS INT64_C(1000)
#define TOKEN_TTL_MAX_MS (INT64_C(366) * 86400 * 1000) /* what lives longer gets forgotten */
#define TOKEN_USES_MAX 100000
#define TOKEN_COUNT_MAX 1000 /* that can still be redeemed */
#define TOKEN_NOTE_SIZE 64

/* What a token's text says. */
struct token_text {
    char addresses[MEMBER_ADDRESSES_SIZE]; /* "host:port,..." */
    char pin[TOKEN_PIN_SIZE];
    char id[TOKEN_ID_CHARS + 1];
    char secret[TOKEN_SECRET_CHARS + 1];
};

/* Appends the text that people hand over. LIMIT, NOMEM. */
SL_CHECK sl_status token_text_write(const struct token_text *token, struct sl_buf *out);
/* INVALID says what is wrong: no token at all, cut short, of a newer version. */
SL_CHECK sl_status token_text_read(const char *text, struct token_text *out, struct sl_err *err);

/* What the database knows of one. */
struct token_row {
    char id[TOKEN_ID_CHARS + 1];
    int64_t created_ms, expires_ms, revoked_ms; /* Unix time; revoked 0: not */
    int64_t n_uses, n_used;
    bool gateways;
};

/* What a new token is good for. */
struct token_terms {
    int64_t ttl_ms, n_uses;
    bool gateways; /* admits gateways too */
};

/* "active", "expired", "used up", "revoked". */
const char *token_state(const struct token_row *row, int64_t now_ms);

/* Makes a token and forgets those that ended a week ago. out gets id and
 * secret, the only copy of it. INVALID (ttl or uses out of range), LIMIT (TOKEN_COUNT_MAX), or what
 * the database says. */
SL_CHECK sl_status token_make(struct db *db, const struct token_terms *terms, int64_t now_ms,
                              struct token_text *out, struct token_row *out_row,
                              struct sl_err *err);

/* Lets one machine in, as a gateway or as a node: counts a use. UNAUTHENTICATED: unknown id, or
 * another secret; DENIED: expired, used up, revoked or not for gateways, said only to who has the
 * secret; or what the database says. */
SL_CHECK sl_status token_redeem(struct db *db, const struct token_text *shown, bool gateway,
                                int64_t now_ms, struct sl_err *err);

/* All that are stored, newest first. The caller sl_free()s *out. */
SL_CHECK sl_status token_list(struct db *db, struct token_row **out, size_t *n, struct sl_err *err);
/* NOT_FOUND; EXISTS: revoked before. */
SL_CHECK sl_status token_revoke(struct db *db, const char *id, int64_t now_ms, struct sl_err *err);

/* --- wrong tries --- */

#define TOKEN_GUARD_PEERS 256
#define TOKEN_GUARD_TRIES 5 /* wrong ones of one address in TOKEN_GUARD_MS; a typing human's */
#define TOKEN_GUARD_MS INT64_C(60000)

/* Who has tried with wrong secrets lately; zeroed at first. A full table forgets who was wrong
 * longest ago. */
struct token_guard {
    struct token_guard_peer {
        char host[GRID_ADDRESS_SIZE]; /* "": free */
        int64_t since_ms;
        int n_wrong;
    } peers[TOKEN_GUARD_PEERS];
};
/* 0, or how long this host (an address without port) has to wait. Monotonic time. */
int64_t token_guard_wait_ms(const struct token_guard *guard, const char *host, int64_t now_ms);
void token_guard_wrong(struct token_guard *guard, const char *host, int64_t now_ms);
