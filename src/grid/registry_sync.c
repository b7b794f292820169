/* registry_sync.c: what gateways say of the registry, and what is heard. */
#include "grid/registry_sync.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <string.h>

#define DIGEST_CHARS 16

struct registry_sync {
    struct registry_sync_cfg cfg;
    struct sl_buf out; /* the message being made */
    bool started;
    int64_t digest_at_ns;
    bool all_wanted; /* somebody has another digest */
    int64_t all_at_ns;
    char stale_from[GRID_ID_SIZE]; /* whose digest was another one, so often in a row */
    int n_stale;
};

sl_status registry_sync_create(const struct registry_sync_cfg *cfg, struct registry_sync **out)
{
    struct registry_sync *sync = sl_calloc(1, sizeof *sync);
    if (!sync) return SL_NOMEM;
    sync->cfg = *cfg;
    sync->all_at_ns = INT64_MIN;
    sl_buf_init(&sync->out, REGISTRY_MESSAGE_BYTES_MAX);
    *out = sync;
    return SL_OK;
}

void registry_sync_destroy(struct registry_sync *sync)
{
    if (!sync) return;
    sl_buf_done(&sync->out);
    sl_free(sync);
}

/* --- messages --- */

static void put_members(struct sl_json *json, const struct registry *registry, size_t first,
                        size_t n)
{
    sl_json_key(json, "members");
    sl_json_array(json);
    for (size_t i = first; i < first + n && i < registry_count(registry); i++)
        member_put(json, registry_at(registry, i));
    sl_json_array_end(json);
}

sl_status registry_encode(const struct registry *registry, size_t first, size_t n,
                          struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    put_members(&json, registry, first, n);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

sl_status registry_decode(struct registry *registry, const struct sl_json_value *object,
                          struct sl_err *err)
{
    const struct sl_json_value *list = sl_json_get(object, "members");
    if (!sl_json_is(list, SL_JSON_ARRAY))
        return sl_err_set(err, SL_CORRUPT, "there is no list of members");
    for (size_t i = 0; i < sl_json_size(list); i++) {
        struct member member;
        sl_status status = member_read(sl_json_at(list, i), &member, err);
        if (status == SL_OK) status = registry_merge(registry, &member, NULL, err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static void digest_text(const struct registry *registry, char out[DIGEST_CHARS + 1])
{
    snprintf(out, DIGEST_CHARS + 1, "%016llx", (unsigned long long)registry_digest(registry));
}

/* A message that cannot be made for want of memory is as good as lost: digests will show it. */
static void send_made(struct registry_sync *sync, sl_status status)
{
    if (status == SL_OK) sync->cfg.send(sync->cfg.ctx, sync->out.data, sync->out.len);
    sl_buf_done(&sync->out);
}

static void send_digest(struct registry_sync *sync)
{
    struct sl_json json;
    char digest[DIGEST_CHARS + 1];
    digest_text(sync->cfg.registry, digest);
    sl_json_begin(&json, &sync->out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "digest", digest);
    sl_json_object_end(&json);
    send_made(sync, sl_json_end(&json));
}

static void send_all(struct registry_sync *sync)
{
    const struct registry *registry = sync->cfg.registry;
    for (size_t i = 0; i < registry_count(registry); i += REGISTRY_MESSAGE_MEMBERS_MAX)
        send_made(sync, registry_encode(registry, i, REGISTRY_MESSAGE_MEMBERS_MAX, &sync->out));
}

void registry_sync_tell(struct registry_sync *sync, const struct member *member)
{
    struct sl_json json;
    if (!sync->cfg.speaks) return;
    sl_json_begin(&json, &sync->out, false);
    sl_json_object(&json);
    sl_json_key(&json, "members");
    sl_json_array(&json);
    member_put(&json, member);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    send_made(sync, sl_json_end(&json));
}

/* --- hearing --- */

static void hear_digest(struct registry_sync *sync, const char *from, const char *theirs)
{
    char ours[DIGEST_CHARS + 1];
    digest_text(sync->cfg.registry, ours);
    bool same = strcmp(ours, theirs) == 0;
    if (sync->cfg.speaks) {
        sync->all_wanted = sync->all_wanted || !same;
        return;
    }
    if (same || strcmp(from, sync->stale_from) != 0) sync->n_stale = 0;
    snprintf(sync->stale_from, sizeof sync->stale_from, "%s", from);
    if (same || ++sync->n_stale < REGISTRY_STALE_DIGESTS) return;
    sync->n_stale = 0;
    if (sync->cfg.on_stale) sync->cfg.on_stale(sync->cfg.ctx);
}

sl_status registry_sync_receive(struct registry_sync *sync, const char *from, const void *bytes,
                                size_t n, struct sl_err *err)
{
    struct sl_json_value *root;
    if (n > REGISTRY_MESSAGE_BYTES_MAX)
        return sl_err_set(err, SL_CORRUPT, "a message of %zu bytes about members", n);
    sl_status status = sl_json_parse(bytes, n, &root, err);
    if (status == SL_INVALID || status == SL_LIMIT) err->status = status = SL_CORRUPT;
    if (status != SL_OK) return status;
    const char *digest = sl_json_to_str(sl_json_get(root, "digest"), NULL, NULL);
    if (digest)
        hear_digest(sync, from, digest);
    else
        status = registry_decode(sync->cfg.registry, root, err);
    sl_json_free(root);
    return status;
}

/* --- time --- */

void registry_sync_tick(struct registry_sync *sync, int64_t now_ns)
{
    if (!sync->cfg.speaks) return;
    if (!sync->started) {
        /* Somewhere within the first period, so that gateways do not all speak at once. */
        sync->started = true;
        sync->digest_at_ns =
            now_ns + (int64_t)(sl_rng_uniform(sync->cfg.seed, 0, 0) * (double)REGISTRY_DIGEST_NS);
    }
    if (sync->all_wanted && now_ns >= sync->all_at_ns) {
        sync->all_wanted = false;
        sync->all_at_ns = now_ns + REGISTRY_ALL_NS;
        send_all(sync);
    }
    if (now_ns < sync->digest_at_ns) return;
    sync->digest_at_ns = now_ns + REGISTRY_DIGEST_NS;
    send_digest(sync);
}
