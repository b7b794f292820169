/* registry.c: the map, as an array sorted by id. */
#include "grid/registry.h"
#include "base/mem.h"

#include <string.h>

#define MEMBERS_FIRST 16

struct registry {
    struct member **v; /* sorted by id */
    size_t n, cap;
    uint64_t digest; /* sum of member_hash, so that the order in which they came does not matter */
    registry_fn on_change;
    void *ctx;
};

sl_status registry_create(struct registry **out)
{
    struct registry *registry = sl_calloc(1, sizeof *registry);
    if (!registry) return SL_NOMEM;
    *out = registry;
    return SL_OK;
}

void registry_destroy(struct registry *registry)
{
    if (!registry) return;
    for (size_t i = 0; i < registry->n; i++) sl_free(registry->v[i]);
    sl_free(registry->v);
    sl_free(registry);
}

void registry_listen(struct registry *registry, registry_fn on_change, void *ctx)
{
    registry->on_change = on_change;
    registry->ctx = ctx;
}

/* Where the id is, or belongs. */
static size_t place_of(const struct registry *registry, const char *id, bool *out_found)
{
    size_t low = 0, high = registry->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(registry->v[middle]->id, id);
        if (order == 0) {
            *out_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *out_found = false;
    return low;
}

static sl_status insert(struct registry *r, size_t at, const struct member *member)
{
    if (r->n == REGISTRY_MEMBERS_MAX) return SL_LIMIT;
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : MEMBERS_FIRST;
        struct member **v = sl_realloc_array(r->v, cap, sizeof *v);
        if (!v) return SL_NOMEM;
        r->v = v;
        r->cap = cap;
    }
    struct member *copy = (struct member *)sl_memdup(member, sizeof *member);
    if (!copy) return SL_NOMEM;
    memmove(r->v + at + 1, r->v + at, (r->n - at) * sizeof *r->v);
    r->v[at] = copy;
    r->n++;
    return SL_OK;
}

/* `member` is later than what is known. */
static sl_status take(struct registry *r, const struct member *member, struct sl_err *err)
{
    bool found;
    size_t at = place_of(r, member->id, &found);
    if (found) {
        r->digest -= member_hash(r->v[at]);
        *r->v[at] = *member;
    } else {
        sl_status status = insert(r, at, member);
        if (status == SL_LIMIT)
            return sl_err_set(err, status, "the grid has %d members, and no more can be",
                              REGISTRY_MEMBERS_MAX);
        if (status != SL_OK) return sl_err_set(err, status, "no memory for a member");
    }
    r->digest += member_hash(r->v[at]);
    if (r->on_change) r->on_change(r->ctx, r->v[at]);
    return SL_OK;
}

sl_status registry_merge(struct registry *registry, const struct member *member, bool *out_changed,
                         struct sl_err *err)
{
    if (out_changed) *out_changed = false;
    sl_status status = member_check(member, err);
    if (status != SL_OK) return status;
    const struct member *known = registry_find(registry, member->id);
    struct member next = known ? *known : *member;
    member_merge(&next, member);
    if (known && member_equal(known, &next)) return SL_OK;
    status = take(registry, &next, err);
    if (status == SL_OK && out_changed) *out_changed = true;
    return status;
}

/* The next version of a part, written by `origin`. */
static void advance(uint64_t *version, char by[GRID_ID_SIZE], const char *origin)
{
    ++*version;
    memset(by, 0, GRID_ID_SIZE);
    strncpy(by, origin, GRID_ID_SIZE - 1);
}

sl_status registry_put(struct registry *registry, const struct member *member, const char *origin,
                       struct sl_err *err)
{
    static const struct member nobody;
    const struct member *known = registry_find(registry, member->id);
    const struct member *before = known ? known : &nobody;
    struct member next = *member;
    next.version = before->version;
    next.place_version = before->place_version;
    memcpy(next.origin, before->origin, sizeof next.origin);
    memcpy(next.place_origin, before->place_origin, sizeof next.place_origin);
    if (known && member_equal(known, &next)) return SL_OK;
    bool same_place = member_same_place(before, &next);
    if (!same_place) advance(&next.place_version, next.place_origin, origin);
    if (same_place || !member_same_words(before, &next))
        advance(&next.version, next.origin, origin);
    sl_status status = member_check(&next, err);
    return status == SL_OK ? take(registry, &next, err) : status;
}

const struct member *registry_find(const struct registry *registry, const char *id)
{
    bool found;
    size_t at = place_of(registry, id, &found);
    return found ? registry->v[at] : NULL;
}

sl_status registry_resolve(const struct registry *registry, const char *id_or_name,
                           const struct member **out, struct sl_err *err)
{
    const struct member *found = registry_find(registry, id_or_name);
    size_t n_found = found && !found->removed;
    for (size_t i = 0; i < registry->n && !n_found; i++)
        if (!registry->v[i]->removed && strcmp(registry->v[i]->name, id_or_name) == 0) {
            found = registry->v[i];
            n_found = 1;
            while (++i < registry->n)
                n_found +=
                    !registry->v[i]->removed && strcmp(registry->v[i]->name, id_or_name) == 0;
        }
    if (n_found == 0)
        return sl_err_set(err, SL_NOT_FOUND, "the grid has no member \"%.64s\"", id_or_name);
    if (n_found > 1)
        return sl_err_set(err, SL_INVALID, "%zu members are named \"%.64s\": give the id", n_found,
                          id_or_name);
    *out = found;
    return SL_OK;
}

size_t registry_count(const struct registry *registry)
{
    return registry->n;
}

const struct member *registry_at(const struct registry *registry, size_t i)
{
    return i < registry->n ? registry->v[i] : NULL;
}

bool registry_is_member(const struct registry *registry, const char *id)
{
    const struct member *member = registry_find(registry, id);
    return member && !member->removed;
}

uint64_t registry_digest(const struct registry *registry)
{
    return registry->digest;
}
