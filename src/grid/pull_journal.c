#include "grid/pull_journal.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "grid/pull.h"
#include "grid/store.h"
#include "grid/store_files.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERSION 1
#define SUM_BYTES (256u << 10) /* hashed at once */

uint64_t pull_chunk_begin(const struct pull_journal *journal, uint32_t chunk)
{
    return chunk * journal->chunk_bytes;
}

uint64_t pull_chunk_end(const struct pull_journal *journal, uint32_t chunk)
{
    uint64_t end = (chunk + UINT64_C(1)) * journal->chunk_bytes;
    return end < journal->size ? end : journal->size;
}

uint32_t pull_chunk_find(const struct pull_journal *journal, uint32_t from,
                         enum pull_chunk_state state)
{
    while (from < journal->n_chunks && journal->chunks[from] != state) from++;
    return from;
}

/* A hash of hashes of pieces, so that a chunk of any size needs little memory. */
static sl_status sum_chunk(const struct pull_journal *journal, uint32_t chunk, uint64_t *out,
                           struct sl_err *err)
{
    uint64_t at = pull_chunk_begin(journal, chunk), end = pull_chunk_end(journal, chunk), sum = 0;
    char *piece = sl_malloc(SUM_BYTES);
    sl_status status = piece ? SL_OK : sl_err_set(err, SL_NOMEM, "chunk");
    while (status == SL_OK && at < end) {
        size_t wanted = end - at < SUM_BYTES ? (size_t)(end - at) : SUM_BYTES, have = 0;
        while (have < wanted) {
            ssize_t n = pread(journal->data_fd, piece + have, wanted - have, (off_t)(at + have));
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) status = sl_err_errno(err, errno, "read back");
            if (n <= 0) break;
            have += (size_t)n;
        }
        if (status == SL_OK && have < wanted) status = SL_NOT_FOUND; /* the data ends before */
        sum = sl_hash64(piece, have, sum);
        at += have;
    }
    sl_free(piece);
    *out = sum;
    return status;
}

static sl_status set_size(struct pull_journal *journal, uint64_t size, uint64_t chunk_bytes,
                          struct sl_err *err)
{
    uint64_t least = size / PULL_CHUNKS_MAX + 1;
    journal->chunk_bytes = chunk_bytes > least ? chunk_bytes : least;
    journal->size = size;
    journal->n_chunks = (uint32_t)((size + journal->chunk_bytes - 1) / journal->chunk_bytes);
    journal->here_bytes = 0;
    sl_free(journal->chunks);
    journal->chunks = sl_calloc(journal->n_chunks, 1);
    return journal->chunks ? SL_OK : sl_err_set(err, SL_NOMEM, "table of chunks");
}

static void forget(struct pull_journal *journal)
{
    sl_free(journal->chunks);
    journal->chunks = NULL;
    journal->n_chunks = 0;
    journal->size = journal->chunk_bytes = journal->here_bytes = 0;
    journal->validator[0] = '\0';
}

static bool is_same(const struct sl_json_value *head, const struct pull_identity *id)
{
    const char *digest = sl_json_to_str(sl_json_get(head, "digest"), "", NULL);
    const char *url = sl_json_to_str(sl_json_get(head, "url"), "", NULL);
    const char *validator = sl_json_to_str(sl_json_get(head, "validator"), "", NULL);
    int64_t size = sl_json_to_int(sl_json_get(head, "size"), 0);
    if (sl_json_to_int(sl_json_get(head, "version"), 0) != VERSION) return false;
    if (id->size && (uint64_t)size != id->size) return false;
    if (*id->digest) return strcmp(digest, id->digest) == 0; /* from wherever: it will be checked */
    return !*digest && *validator && strcmp(url, id->url) == 0;
}

/* Takes over the first line. False: it says nothing we can go on with. */
static bool take_head(struct pull_journal *journal, const struct pull_identity *id,
                      const char *line, size_t n)
{
    struct sl_json_value *head = NULL;
    if (sl_json_parse(line, n, &head, NULL) != SL_OK) return false;
    int64_t size = sl_json_to_int(sl_json_get(head, "size"), 0);
    int64_t chunk = sl_json_to_int(sl_json_get(head, "chunk"), 0);
    const char *validator = sl_json_to_str(sl_json_get(head, "validator"), "", NULL);
    bool ok = is_same(head, id) && size > 0 && (uint64_t)size <= STORE_BLOB_BYTES_MAX &&
              chunk >= PULL_CHUNK_BYTES_MIN && chunk <= size + PULL_CHUNK_BYTES_MAX &&
              strlen(validator) < sizeof journal->validator;
    if (ok) ok = set_size(journal, (uint64_t)size, (uint64_t)chunk, NULL) == SL_OK;
    if (ok) memcpy(journal->validator, validator, strlen(validator) + 1);
    sl_json_free(head);
    return ok;
}

static sl_status take_line(struct pull_journal *journal, const char *line, struct sl_err *err)
{
    uint32_t chunk;
    uint64_t told, sum;
    int n = 0;
    if (sscanf(line, "%" SCNu32 " %16" SCNx64 "%n", &chunk, &told, &n) != 2 || line[n] != '\n')
        return SL_OK;
    if (chunk >= journal->n_chunks || journal->chunks[chunk] == PULL_CHUNK_HERE) return SL_OK;
    sl_status status = sum_chunk(journal, chunk, &sum, err);
    if (status == SL_OK && sum == told) {
        journal->chunks[chunk] = PULL_CHUNK_HERE;
        journal->here_bytes += pull_chunk_end(journal, chunk) - pull_chunk_begin(journal, chunk);
    }
    return status == SL_NOT_FOUND ? SL_OK : status;
}

static sl_status take_over(struct pull_journal *journal, const struct pull_identity *id,
                           const char *text, struct sl_err *err)
{
    const char *end = strchr(text, '\n');
    sl_status status = SL_OK;
    if (!end || !take_head(journal, id, text, (size_t)(end - text))) {
        forget(journal);
        return SL_OK;
    }
    for (const char *line = end + 1; status == SL_OK && (end = strchr(line, '\n')); line = end + 1)
        status = take_line(journal, line, err);
    return status;
}

static sl_status put_head(const struct pull_journal *journal, const struct pull_identity *id,
                          struct sl_buf *out)
{
    struct sl_json j;
    sl_json_begin(&j, out, false);
    sl_json_object(&j);
    sl_json_kv_int(&j, "version", VERSION);
    sl_json_kv_str(&j, "url", id->url);
    sl_json_kv_str(&j, "digest", id->digest);
    sl_json_kv_str(&j, "validator", journal->validator);
    sl_json_kv_int(&j, "size", (int64_t)journal->size);
    sl_json_kv_int(&j, "chunk", (int64_t)journal->chunk_bytes);
    sl_json_object_end(&j);
    sl_status status = sl_json_end(&j);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

static sl_status open_journal(struct pull_journal *journal, const struct pull_identity *id,
                              struct sl_err *err)
{
    if (journal->journal_fd >= 0) close(journal->journal_fd);
    journal->journal_fd = open(id->journal_path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    return journal->journal_fd >= 0 ? SL_OK : sl_err_errno(err, errno, "%s", id->journal_path);
}

/* A torn last line must not run into the next one. */
static sl_status end_line(struct pull_journal *journal, struct sl_err *err)
{
    return write(journal->journal_fd, "\n", 1) == 1 ? SL_OK : sl_err_errno(err, errno, "journal");
}

/* All of it is here, but nobody told its hash: the last chunk is asked for once more, to learn
 * whether the server still has this version. */
static void doubt_last(struct pull_journal *journal, const struct pull_identity *id)
{
    uint32_t last = journal->n_chunks - 1;
    if (*id->digest || journal->here_bytes < journal->size) return;
    journal->chunks[last] = PULL_CHUNK_MISSING;
    journal->here_bytes -= journal->size - pull_chunk_begin(journal, last);
}

static sl_status load(struct pull_journal *journal, const struct pull_identity *id,
                      struct sl_err *err)
{
    struct sl_buf text;
    sl_buf_init(&text, PULL_JOURNAL_BYTES_MAX);
    sl_status status = store_read_file(id->journal_path, &text, err);
    if (status == SL_OK) status = take_over(journal, id, text.data, err);
    bool torn = text.len > 0 && text.data[text.len - 1] != '\n';
    sl_buf_done(&text);
    if (status == SL_NOT_FOUND || status == SL_LIMIT || status == SL_CORRUPT) status = SL_OK;
    if (status != SL_OK || journal->size == 0) return status;
    doubt_last(journal, id);
    status = open_journal(journal, id, err);
    return status == SL_OK && torn ? end_line(journal, err) : status;
}

sl_status pull_journal_open(struct pull_journal *journal, const struct pull_identity *id,
                            struct sl_err *err)
{
    *journal = (struct pull_journal){.data_fd = -1, .journal_fd = -1};
    journal->data_fd = open(id->data_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (journal->data_fd < 0) return sl_err_errno(err, errno, "%s", id->data_path);
    sl_status status = load(journal, id, err);
    if (status == SL_OK && journal->size == 0) status = pull_journal_clear(journal, id, err);
    if (status != SL_OK) pull_journal_close(journal);
    return status;
}

void pull_journal_close(struct pull_journal *journal)
{
    if (journal->data_fd >= 0) close(journal->data_fd);
    if (journal->journal_fd >= 0) close(journal->journal_fd);
    forget(journal);
    journal->data_fd = journal->journal_fd = -1;
}

sl_status pull_journal_clear(struct pull_journal *journal, const struct pull_identity *id,
                             struct sl_err *err)
{
    forget(journal);
    if (unlink(id->journal_path) != 0 && errno != ENOENT)
        return sl_err_errno(err, errno, "%s", id->journal_path);
    if (ftruncate(journal->data_fd, 0) != 0) return sl_err_errno(err, errno, "%s", id->data_path);
    return SL_OK;
}

sl_status pull_journal_begin(struct pull_journal *journal, const struct pull_identity *id,
                             uint64_t size, uint64_t chunk_bytes, const char *validator,
                             struct sl_err *err)
{
    struct sl_buf head;
    sl_status status = pull_journal_clear(journal, id, err);
    if (status == SL_OK) status = set_size(journal, size, chunk_bytes, err);
    if (status != SL_OK) return status;
    snprintf(journal->validator, sizeof journal->validator, "%s", validator);
    sl_buf_init(&head, 65536);
    status = put_head(journal, id, &head);
    if (status != SL_OK) (void)sl_err_set(err, status, "journal");
    if (status == SL_OK) status = store_write_file(id->journal_path, head.data, head.len, err);
    sl_buf_done(&head);
    return status == SL_OK ? open_journal(journal, id, err) : status;
}

sl_status pull_journal_add(struct pull_journal *journal, uint32_t chunk, struct sl_err *err)
{
    char line[64];
    uint64_t sum;
    sl_status status = sum_chunk(journal, chunk, &sum, err);
    if (status == SL_NOT_FOUND) return sl_err_set(err, SL_IO, "the partial file was shortened");
    if (status != SL_OK) return status;
    int n = snprintf(line, sizeof line, "%" PRIu32 " %016" PRIx64 "\n", chunk, sum);
    if (write(journal->journal_fd, line, (size_t)n) != n)
        return sl_err_errno(err, errno, "journal");
    journal->chunks[chunk] = PULL_CHUNK_HERE;
    journal->here_bytes += pull_chunk_end(journal, chunk) - pull_chunk_begin(journal, chunk);
    return SL_OK;
}
