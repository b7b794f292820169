/* registry_store.h: the registry as rows of state.db.
 * Floor: grid.  Thread: the connection's.  Allocates: a text at a time. */
#pragma once
#include "grid/registry.h"

struct db;

/* Merges what is stored; entries that cannot be read are left out: others will tell them anew. */
SL_CHECK sl_status registry_load(struct registry *registry, struct db *db, struct sl_err *err);

/* Stores entries in one transaction. */
SL_CHECK sl_status registry_save(struct db *db, const struct member *members, size_t n,
                                 struct sl_err *err);
/* All of them; those of a grid that this machine was in before are gone. */
SL_CHECK sl_status registry_save_all(struct db *db, const struct registry *registry,
                                     struct sl_err *err);
