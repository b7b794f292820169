/* registry.h: all members of the grid as this machine knows them: a map from id to the latest
 * entry. Pure: what others say is merged, whatever the order, and what is decided here is put.
 * Floor: grid.  Thread: one.  Allocates: the table, an entry each.
 * Invariants: the table is the same on all machines that have merged the same entries (member.h);
 * a part of an entry only ever moves forward; entries are sorted by id; those of removed
 * members stay, so that an old message does not bring them back. */
#pragma once
#include "grid/member.h"

struct registry;

#define REGISTRY_MEMBERS_MAX 16384 /* removed ones too; ten times the largest grid tested */

/* Called for each entry that changed, after it did; the registry must not be changed in there. */
typedef void (*registry_fn)(void *ctx, const struct member *member);

/* Without members. NOMEM. */
SL_CHECK sl_status registry_create(struct registry **out);
void registry_destroy(struct registry *registry); /* NULL is fine */

/* One listener; NULL: none. */
void registry_listen(struct registry *registry, registry_fn on_change, void *ctx);

/* Takes over what is later than known of an entry that somebody else wrote; *out_changed (NULL is
 * fine) says whether anything was. INVALID (member_check), LIMIT, NOMEM. */
SL_CHECK sl_status registry_merge(struct registry *registry, const struct member *member,
                                  bool *out_changed, struct sl_err *err);

/* Writes an entry in the name of `origin`: the version of the part that differs from the one known
 * becomes one more. With the same contents as the one known nothing changes. As registry_merge. */
SL_CHECK sl_status registry_put(struct registry *registry, const struct member *member,
                                const char *origin, struct sl_err *err);

/* Entries are borrowed until the next change. */
const struct member *registry_find(const struct registry *registry, const char *id); /* or NULL */
/* By id, or by name where only one that is not removed has it. NOT_FOUND; INVALID: several. */
SL_CHECK sl_status registry_resolve(const struct registry *registry, const char *id_or_name,
                                    const struct member **out, struct sl_err *err);
size_t registry_count(const struct registry *registry);
const struct member *registry_at(const struct registry *registry, size_t i); /* by id; or NULL */
bool registry_is_member(const struct registry *registry, const char *id);    /* and not removed */

/* Of everything: equal on two machines exactly when they know the same, but for one chance in
 * 2^64. */
uint64_t registry_digest(const struct registry *registry);
