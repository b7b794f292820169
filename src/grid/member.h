/* member.h: what the grid knows of one member (a machine) whether it is there or not: who it is,
 * what its owner says about it, where it is reached. docs/grid.md.
 * Floor: grid.  Thread: any.  Allocates: nothing.
 * Every gateway may change the entry of any member at any time, and what they know is joined: of
 * two versions of an entry the one that member_order puts last counts, on every gateway alike.
 * In this order the number of joins comes first, then removal, then the version, then who wrote
 * it, then the text itself. So a removal wins over whatever others change at the same time, only
 * joining anew with a token undoes it, and two different entries are never equal.
 * Invariant: a decoded member is within all limits and its text is printable. */
#pragma once
#include "base/err.h"
#include "base/json_read.h"
#include "grid/grid_msg.h"
#include "sched/node_table.h"
#include <stdbool.h>
#include <stdint.h>

#define MEMBER_LABELS_SIZE 1024 /* "site=berlin,tier=edge": 20 of usual length */
#define MEMBER_KEY_SIZE 65
#define MEMBER_ADDRESSES_SIZE 512 /* eight of IPv6; a server seldom has more interfaces */
#define MEMBER_ADDRESSES_MAX 8
#define MEMBER_JSON_BYTES_MAX 8192 /* of one entry; strings may double when escaped */

struct member {
    char id[GRID_ID_SIZE];
    char key[MEMBER_KEY_SIZE]; /* SHA-256 of its public key, in hex: the id's source */
    char name[GRID_NAME_SIZE]; /* for people; need not be unique; never empty */
    bool is_gateway;
    enum node_duty duty;                   /* what its owner wants of it; kept over restarts */
    char labels[MEMBER_LABELS_SIZE];       /* "key=value,..." in the order given; "": none */
    char addresses[MEMBER_ADDRESSES_SIZE]; /* of its grid port: "host:port,..."; "": none */
    char bus[MEMBER_ADDRESSES_SIZE];       /* URLs of the bus at a gateway, commas between */
    char routes[MEMBER_ADDRESSES_SIZE];    /* "host:port,..." for other gateways' servers; "" */
    int64_t joined_ms;                     /* Unix time, for people */
    uint32_t joins;                        /* how often it was admitted: 1, 2, ... */
    bool removed;                          /* its certificate counts no more */
    uint64_t version;                      /* grows with each change */
    char origin[GRID_ID_SIZE];             /* the member that wrote this version */
};

/* < 0, 0, > 0 as a lies before b, is b, lies after it. Both are of one id. */
int member_order(const struct member *a, const struct member *b);

/* Of the whole entry: equal for equal ones on every machine. */
uint64_t member_hash(const struct member *member);

/* INVALID names the field that is out of its limits, or an id that is not its key's. */
SL_CHECK sl_status member_check(const struct member *member, struct sl_err *err);

/* Copies a name that a person gave: trimmed to what may stand there. INVALID: empty, too long, or
 * not printable. */
SL_CHECK sl_status member_set_name(struct member *member, const char *name, struct sl_err *err);
/* Labels as "key=value", in place of those it had. A key has letters, digits and -._/, up to 63;
 * a value has them too, or is empty. INVALID (names the label), LIMIT. */
SL_CHECK sl_status member_set_labels(struct member *member, const char *const *labels, size_t n,
                                     struct sl_err *err);

/* Item number i of a list with commas, such as addresses. False: there are not so many, or it does
 * not fit. */
bool member_list_item(const char *list, size_t i, char *out, size_t out_size);
/* Appends an item; false: no room, and the list is as before. */
bool member_list_add(char *list, size_t list_size, const char *item);

/* As JSON object, and back. CORRUPT: not one within the limits; err says what. */
void member_put(struct sl_json *json, const struct member *member);
SL_CHECK sl_status member_read(const struct sl_json_value *value, struct member *out,
                               struct sl_err *err);
