/* member.h: what the grid knows of one member (a machine) whether it is there or not: who it is,
 * what its owner says about it, where it is reached. docs/grid.md.
 * Floor: grid.  Thread: any.  Allocates: nothing.
 * Every gateway may change the entry of any member at any time, and what they know is joined by
 * member_merge, on every gateway alike. An entry has three parts:
 *
 *     admission   joins, removed, joined_ms, is_gateway: the later one brings its whole entry along
 *     words       name, duty, labels, with `version` and `origin`
 *     place       addresses, bus, routes, with `place_version` and `place_origin`
 *
 * Within one admission words and place are joined apart, so that what a person says is not lost to
 * a machine that tells a new address to another gateway at the same time. In all of them numbers
 * come first, then who wrote it, then the text itself: no two different ones are equal. A removal
 * wins over whatever others change at the same time, and only joining anew with a token undoes it.
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
    uint64_t version;                      /* of the words: grows with each change */
    char origin[GRID_ID_SIZE];             /* the member that wrote this version */
    uint64_t place_version;                /* 0: it has not told yet where it is */
    char place_origin[GRID_ID_SIZE];       /* "": nobody */
};

/* Takes over what of `other` is later than in `into`. Both are of one id. */
void member_merge(struct member *into, const struct member *other);
/* The same in all parts? */
bool member_equal(const struct member *a, const struct member *b);
/* Is what a person says the same: name, duty, labels? And where it is reached? */
bool member_same_words(const struct member *a, const struct member *b);
bool member_same_place(const struct member *a, const struct member *b);

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
