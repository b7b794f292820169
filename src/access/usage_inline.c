/* usage_inline.c: see the header for what is not done here, and why. */
#include "access/usage_inline.h"

#include "access/usage_int.h"
#include "base/clock.h"
#include "base/mem.h"

#include <sys/resource.h>

struct inline_writer {
    struct db *db;
    struct db_stmt *insert;
    int64_t rest_until_ns;
};

sl_status inline_writer_create(const char *path, struct inline_writer **out, struct sl_err *err)
{
    const struct db_cfg cfg = {.never_wait = true};
    struct inline_writer *w = sl_calloc(1, sizeof *w);
    if (!w) return sl_err_set(err, SL_NOMEM, "usage: out of memory");
    sl_status status = db_open(path, &cfg, &w->db, err);
    if (status == SL_OK) status = usage_prepare_insert(w->db, &w->insert, err);
    if (status != SL_OK) goto fail;
    *out = w;
    return SL_OK;
fail:
    inline_writer_destroy(w);
    return status;
}

void inline_writer_destroy(struct inline_writer *w)
{
    if (!w) return;
    db_finalize(w->insert);
    db_close(w->db);
    sl_free(w);
}

/* How often this thread stood still of itself. One that others kept from the CPU did not: a busy
 * machine is no slow disk. */
static long n_waits(void)
{
    struct rusage rusage = {0};
    (void)getrusage(RUSAGE_THREAD, &rusage);
    return rusage.ru_nvcsw;
}

sl_status inline_writer_store(struct inline_writer *w, const struct usage_ring *ring, uint64_t from,
                              uint64_t to)
{
    struct sl_err err = SL_ERR_INIT; /* the thread meets the same one, or there is none */
    int64_t begin_ns = sl_now_ns();
    if (begin_ns < w->rest_until_ns) return SL_BUSY;
    long n_waits_before = n_waits();
    sl_status status = usage_store(w->db, w->insert, ring, from, to, &err);
    int64_t end_ns = sl_now_ns(), took_ns = end_ns - begin_ns;
    if (took_ns >= INLINE_SLOW_NS && n_waits() > n_waits_before)
        w->rest_until_ns = end_ns + INLINE_REST * took_ns;
    if (status != SL_OK && status != SL_BUSY) w->rest_until_ns = end_ns + INLINE_FAILED_NS;
    return status;
}

int64_t inline_writer_wal_pages(const struct inline_writer *w)
{
    return db_wal_pages(w->db);
}
