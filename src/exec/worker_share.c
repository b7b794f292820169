#include "exec/worker_share.h"
#include "base/arena.h"
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORD_BITS 64u
#define FD_MIN 10
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

struct worker_share_area {
    alignas(WORKER_SHARE_HEAD_BYTES) _Atomic uint64_t marks[WORKER_SHARE_SLOTS / WORD_BITS];
    alignas(
        WORKER_SHARE_HEAD_BYTES) unsigned char slots[WORKER_SHARE_SLOTS][WORKER_SHARE_SLOT_BYTES];
};
_Static_assert(sizeof(struct worker_share_area) == WORKER_SHARE_BYTES, "the area has no gaps");

static void close_fd(int *fd)
{
    if (*fd >= 0) (void)close(*fd);
    *fd = -1;
}

/* The descriptor is above those that a child is given, so that none of them takes its place. */
static sl_status create_area(const char *name, int *out_fd, struct sl_err *err)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return sl_err_errno(err, errno, "memfd_create");
    *out_fd = fcntl(fd, F_DUPFD_CLOEXEC, FD_MIN);
    (void)close(fd);
    if (*out_fd < 0) return sl_err_errno(err, errno, "memory to share with a worker");
    if (ftruncate(*out_fd, WORKER_SHARE_BYTES) != 0 || fcntl(*out_fd, F_ADD_SEALS, SEALS) != 0)
        return sl_err_errno(err, errno, "memory to share with a worker");
    return SL_OK;
}

static sl_status map_area(int fd, int protection, struct worker_share_area **out,
                          struct sl_err *err)
{
    void *area = mmap(NULL, WORKER_SHARE_BYTES, protection, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (area == MAP_FAILED) return sl_err_errno(err, errno, "map memory that is shared");
    *out = area;
    return SL_OK;
}

static sl_status map_areas(struct worker_share *share, int own_fd, int peer_fd, struct sl_err *err)
{
    sl_status status = map_area(own_fd, PROT_READ | PROT_WRITE, &share->own, err);
    if (status == SL_OK) status = map_area(peer_fd, PROT_READ, &share->peer, err);
    if (status != SL_OK) worker_share_done(share);
    return status;
}

sl_status worker_share_create(struct worker_share *share, int fds[2], struct sl_err *err)
{
    *share = (struct worker_share){0};
    fds[0] = fds[1] = -1;
    sl_status status = create_area("starlane-inputs", &fds[0], err);
    if (status == SL_OK) status = create_area("starlane-outputs", &fds[1], err);
    if (status == SL_OK) status = map_areas(share, fds[0], fds[1], err);
    if (status == SL_OK) return SL_OK;
    close_fd(&fds[0]);
    close_fd(&fds[1]);
    return status;
}

static bool is_area(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 && info.st_size == (off_t)WORKER_SHARE_BYTES &&
           fcntl(fd, F_GET_SEALS) >= SEALS;
}

sl_status worker_share_open(struct worker_share *share, const int fds[2], struct sl_err *err)
{
    *share = (struct worker_share){0};
    sl_status status = is_area(fds[0]) && is_area(fds[1])
                           ? map_areas(share, fds[1], fds[0], err)
                           : sl_err_set(err, SL_INVALID, "no memory is shared with the agent");
    (void)close(fds[0]);
    (void)close(fds[1]);
    return status;
}

void worker_share_done(struct worker_share *share)
{
    if (share->own) (void)munmap(share->own, WORKER_SHARE_BYTES);
    if (share->peer) (void)munmap(share->peer, WORKER_SHARE_BYTES);
    share->own = share->peer = NULL;
}

/* An engine may change truth values to 0 and 1, and lengths within BYTES are read twice. */
bool worker_share_takes(enum tensor_type type)
{
    return type != TENSOR_BYTES && type != TENSOR_BOOL;
}

/* --- the own area --- */

static bool is_used(const struct worker_share *share, size_t slot)
{
    return share->used[slot / WORD_BITS] >> (slot % WORD_BITS) & 1;
}

static void set_used(struct worker_share *share, size_t first, size_t n, bool used)
{
    for (size_t slot = first; slot < first + n; slot++) {
        uint64_t bit = UINT64_C(1) << (slot % WORD_BITS);
        uint64_t *word = &share->used[slot / WORD_BITS];
        *word = used ? *word | bit : *word & ~bit;
    }
}

void worker_share_take_back(struct worker_share *share, uint32_t piece)
{
    size_t first = (size_t)piece - 1;
    set_used(share, first, share->runs[first], false);
    share->runs[first] = 0;
}

static void collect_word(struct worker_share *share, size_t word)
{
    uint64_t marks = atomic_load_explicit(&share->peer->marks[word], memory_order_acquire);
    uint64_t changed = marks ^ share->seen[word];
    share->seen[word] = marks;
    for (; changed; changed &= changed - 1) {
        size_t slot = word * WORD_BITS + (size_t)__builtin_ctzll(changed);
        if (share->runs[slot]) worker_share_take_back(share, (uint32_t)slot + 1);
    }
}

/* The first run of n free slots; WORKER_SHARE_SLOTS: there is none. Low slots first: what was used
 * before is mapped, and still in a cache. */
static size_t find_room(const struct worker_share *share, size_t n)
{
    size_t n_free = 0;
    for (size_t slot = 0; slot < WORKER_SHARE_SLOTS; slot++) {
        n_free = is_used(share, slot) ? 0 : n_free + 1;
        if (n_free == n) return slot + 1 - n;
    }
    return WORKER_SHARE_SLOTS;
}

uint32_t worker_share_put(struct worker_share *share, const struct tensor *tensor)
{
    size_t n_bytes = tensor->n_bytes;
    size_t n = n_bytes / WORKER_SHARE_SLOT_BYTES + (n_bytes % WORKER_SHARE_SLOT_BYTES != 0);
    if (!share->own || n_bytes < WORKER_SHARE_DATA_MIN || n > WORKER_SHARE_SLOTS ||
        !worker_share_takes(tensor->type))
        return 0;
    for (size_t word = 0; word < WORKER_SHARE_SLOTS / WORD_BITS; word++) collect_word(share, word);
    size_t first = find_room(share, n);
    if (first == WORKER_SHARE_SLOTS) return 0;
    set_used(share, first, n, true);
    share->runs[first] = (uint16_t)n;
    memcpy(share->own->slots[first], tensor->data, n_bytes);
    return (uint32_t)first + 1;
}

/* --- the other's --- */

static const void *data_of(const struct worker_share *share, uint32_t piece, size_t n_bytes)
{
    if (!share->peer || piece > WORKER_SHARE_SLOTS) return NULL;
    size_t left = (size_t)(WORKER_SHARE_SLOTS - (piece - 1)) * WORKER_SHARE_SLOT_BYTES;
    return n_bytes <= left ? share->peer->slots[piece - 1] : NULL;
}

sl_status worker_share_find(const struct worker_share *share, const struct tensor *in,
                            const uint32_t *pieces, size_t n, struct sl_arena *arena,
                            const struct tensor **out, struct sl_err *err)
{
    struct tensor *v = sl_arena_array(arena, n + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "tensors");
    for (size_t i = 0; i < n; i++) {
        v[i] = in[i];
        if (!pieces[i]) continue;
        v[i].data = data_of(share, pieces[i], in[i].n_bytes);
        if (!v[i].data)
            return sl_err_set(err, SL_CORRUPT, "data in piece %u, which is not there", pieces[i]);
    }
    if (tensors_bytes(v, n) > TENSOR_BYTES_MAX)
        return sl_err_set(err, SL_CORRUPT, "tensors of %zu bytes", tensors_bytes(v, n));
    *out = v;
    return SL_OK;
}

void worker_share_release(struct worker_share *share, const uint32_t *pieces, size_t n)
{
    for (size_t i = 0; i < n && share->own; i++) {
        size_t slot = (size_t)pieces[i] - 1; /* wraps for 0 */
        if (slot < WORKER_SHARE_SLOTS)
            (void)atomic_fetch_xor_explicit(&share->own->marks[slot / WORD_BITS],
                                            UINT64_C(1) << (slot % WORD_BITS),
                                            memory_order_release);
    }
}
