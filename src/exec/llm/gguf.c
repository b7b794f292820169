/* gguf.c: maps the files of a model, makes one model of its shards, answers queries. */
#include "base/buf.h"
#include "base/mem.h"
#include "exec/llm/gguf_internal.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARD_DIGITS_MIN 5  /* model-00001-of-00005.gguf */
#define SHARD_DIGITS_MAX 9  /* so that a number fits an int */
#define PATH_BYTES_MAX 4096 /* PATH_MAX of Linux */
#define MEM_ALIGNMENT 32    /* what gguf_open_mem asks of its caller */

/* The parts of `<prefix>-00002-of-00005.gguf`; n is 1 and no is 0 for any other name. */
struct shard_name {
    size_t prefix_len;
    int no; /* from 0 */
    int n;
};

/* Reads the digits that end at s[*end), and moves *end before them. -1 when they are not a shard's
 * number. */
static int digits_before(const char *s, size_t *end)
{
    size_t from = *end;
    int v = 0;
    while (from > 0 && isdigit((unsigned char)s[from - 1])) from--;
    if (*end - from < SHARD_DIGITS_MIN || *end - from > SHARD_DIGITS_MAX) return -1;
    for (size_t i = from; i < *end; i++) v = v * 10 + (s[i] - '0');
    *end = from;
    return v;
}

static bool strip_suffix(const char *s, size_t *len, const char *suffix)
{
    size_t n = strlen(suffix);
    if (*len < n || memcmp(s + *len - n, suffix, n) != 0) return false;
    *len -= n;
    return true;
}

static struct shard_name split_name(const char *path)
{
    const struct shard_name whole = {0, 0, 1};
    size_t len = strlen(path);
    if (!strip_suffix(path, &len, ".gguf")) return whole;
    int n = digits_before(path, &len);
    if (n < 1 || !strip_suffix(path, &len, "-of-")) return whole;
    int no = digits_before(path, &len);
    if (no < 1 || no > n || !strip_suffix(path, &len, "-")) return whole;
    return (struct shard_name){len, no - 1, n};
}

static sl_status map_fd(int fd, struct gguf_shard *shard, struct sl_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return sl_err_errno(err, errno, "file size");
    if (S_ISDIR(st.st_mode))
        return sl_err_set(err, SL_UNSUPPORTED, "file type: a directory, not a GGUF file");
    if (!S_ISREG(st.st_mode))
        return sl_err_set(err, SL_UNSUPPORTED,
                          "file type: a pipe, socket or device, not a GGUF file");
    if (st.st_size == 0) return sl_err_set(err, SL_CORRUPT, "file size: the file is empty");
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return sl_err_errno(err, errno, "map of %jd bytes", (intmax_t)st.st_size);
    shard->bytes = map;
    shard->n_bytes = (size_t)st.st_size;
    shard->is_mapped = true;
    return SL_OK;
}

/* The size is taken once, here. Somebody who shrinks the file later makes reads past its new end
 * raise SIGBUS; no check can prevent that, so model files are replaced by rename, never rewritten
 * in place. O_NONBLOCK: a FIFO must not hang us. */
static sl_status map_file(const char *path, struct gguf_shard *shard, struct sl_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return sl_err_errno(err, errno, "open");
    sl_status status = map_fd(fd, shard, err);
    close(fd);
    return status;
}

static sl_status want_number(const struct gguf_shard *shard, const char *key, uint64_t wanted,
                             struct sl_err *err)
{
    uint64_t v = 0;
    sl_status status = gguf_shard_u64(shard, key, &v, err);
    if (status == SL_NOT_FOUND)
        return sl_err_set(err, SL_CORRUPT, "key %s: missing in a model of several files", key);
    if (status) return status;
    if (v != wanted)
        return sl_err_set(err, SL_CORRUPT, "key %s: %" PRIu64 ", not %" PRIu64, key, v, wanted);
    return SL_OK;
}

/* A shard says of itself which one it is. A file on its own must not be one of several;
 * llama.cpp's gguf-split leaves a split.count of 0 in files it has merged. */
static sl_status check_split(const struct gguf_file *file, int i, struct sl_err *err)
{
    const struct gguf_shard *shard = &file->shards[i];
    uint64_t n = 0;
    if (file->n_shards > 1) {
        sl_status status = want_number(shard, "split.count", (uint64_t)file->n_shards, err);
        return status ? status : want_number(shard, "split.no", (uint64_t)i, err);
    }
    if (!gguf_shard_find(shard, "split.count")) return SL_OK;
    sl_status status = gguf_shard_u64(shard, "split.count", &n, err);
    if (status) return status;
    if (n <= 1) return SL_OK;
    return sl_err_set(
        err, SL_CORRUPT,
        "key split.count: one of %" PRIu64 " files, but not named like *-00001-of-00005.gguf", n);
}

static sl_status open_shard(struct gguf_file *file, int i, const char *path, struct sl_err *err)
{
    char name[GGUF_ESCAPED_MAX];
    sl_status status = map_file(path, &file->shards[i], err);
    if (!status) status = gguf_parse_shard(file, i, err);
    if (!status) status = check_split(file, i, err);
    if (status) sl_err_prefix(err, "%s", gguf_escape(name, path, strlen(path)));
    return status;
}

static sl_status open_shards(struct gguf_file *file, const char *path,
                             const struct shard_name *name, struct sl_err *err)
{
    struct sl_buf shard_path;
    sl_status status = SL_OK;
    sl_buf_init(&shard_path, PATH_BYTES_MAX);
    for (int i = 0; i < file->n_shards && !status; i++) {
        sl_buf_clear(&shard_path);
        status = sl_buf_add(&shard_path, path, name->prefix_len);
        if (!status) status = sl_buf_addf(&shard_path, "-%05d-of-%05d.gguf", i + 1, name->n);
        if (status)
            sl_err_set(err, status, "path of shard %d", i + 1);
        else
            status = open_shard(file, i, shard_path.data, err);
    }
    sl_buf_done(&shard_path);
    return status;
}

static sl_status check_tensor_total(const struct gguf_file *file, struct sl_err *err)
{
    if (file->n_shards == 1) return SL_OK;
    return want_number(&file->shards[0], "split.tensors.count", file->n_tensors, err);
}

static struct gguf_file *new_file(int n_shards)
{
    struct gguf_file *file = sl_calloc(1, sizeof(*file));
    if (!file) return NULL;
    file->shards = sl_calloc((size_t)n_shards, sizeof(*file->shards));
    file->n_shards = n_shards;
    if (file->shards) return file;
    sl_free(file);
    return NULL;
}

sl_status gguf_open(const char *path, struct gguf_file **out, struct sl_err *err)
{
    struct shard_name name = split_name(path);
    if (name.n > GGUF_SHARDS_MAX) {
        return sl_err_set(err, SL_LIMIT, "file name: %d shards, at most %d", name.n,
                          GGUF_SHARDS_MAX);
    }
    struct gguf_file *file = new_file(name.n);
    if (!file) return sl_err_set(err, SL_NOMEM, "file: no memory for %d shards", name.n);
    /* A name of one shard of one is opened as it stands: it may be written with more digits than
     * ours. */
    sl_status status =
        name.n == 1 ? open_shard(file, 0, path, err) : open_shards(file, path, &name, err);
    if (!status) status = check_tensor_total(file, err);
    if (status) goto fail;
    *out = file;
    return SL_OK;
fail:
    gguf_close(file);
    return status;
}

sl_status gguf_open_mem(const void *bytes, size_t n, struct gguf_file **out, struct sl_err *err)
{
    if ((uintptr_t)bytes % MEM_ALIGNMENT) {
        return sl_err_set(err, SL_INVALID, "bytes: not aligned to %d", MEM_ALIGNMENT);
    }
    struct gguf_file *file = new_file(1);
    if (!file) return sl_err_set(err, SL_NOMEM, "file: no memory");
    file->shards[0].bytes = bytes;
    file->shards[0].n_bytes = n;
    sl_status status = gguf_parse_shard(file, 0, err);
    if (!status) status = check_split(file, 0, err);
    if (status) goto fail;
    *out = file;
    return SL_OK;
fail:
    gguf_close(file);
    return status;
}

static void close_shard(struct gguf_shard *shard)
{
    sl_strmap_done(&shard->keys);
    sl_arena_done(&shard->arena);
    if (shard->is_mapped) munmap((void *)(uintptr_t)shard->bytes, shard->n_bytes);
}

void gguf_close(struct gguf_file *file)
{
    if (!file) return;
    for (int i = 0; i < file->n_shards; i++) close_shard(&file->shards[i]);
    sl_strmap_done(&file->names);
    sl_free(file->tensors);
    sl_free(file->shards);
    sl_free(file);
}

uint32_t gguf_version(const struct gguf_file *file)
{
    return file->shards[0].version;
}

uint64_t gguf_file_bytes(const struct gguf_file *file)
{
    uint64_t n = 0;
    for (int i = 0; i < file->n_shards; i++) n += file->shards[i].n_bytes;
    return n;
}

int gguf_n_shards(const struct gguf_file *file)
{
    return file->n_shards;
}

const void *gguf_shard_map(const struct gguf_file *file, int i, size_t *out_bytes)
{
    *out_bytes = file->shards[i].n_bytes;
    return file->shards[i].bytes;
}

size_t gguf_n_kvs(const struct gguf_file *file)
{
    return file->shards[0].n_kvs;
}

const struct gguf_kv *gguf_kv_at(const struct gguf_file *file, size_t i)
{
    return &file->shards[0].kvs[i];
}

size_t gguf_n_tensors(const struct gguf_file *file)
{
    return file->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf_file *file, size_t i)
{
    return &file->tensors[i];
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf_file *file, const char *name)
{
    int32_t i = sl_strmap_get(&file->names, name, strlen(name), -1);
    return i < 0 ? NULL : &file->tensors[i];
}
