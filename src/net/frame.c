#include "net/frame.h"
#include <assert.h>
#include <string.h>

/* One read of a socket; frame_reader_feed takes so much on top of a frame that is not whole. */
#define FEED_BYTES_MAX (1u << 20)
/* What was sent is cut off once it is at least this much and most of the buffer, so that the cost
 * of moving the rest stays below the cost of having sent it. */
#define COMPACT_BYTES_MIN (64u << 10)
/* An empty buffer larger than this gives its memory back: one long prompt must not cost for ever.
 * */
#define KEEP_BYTES_MAX (1u << 20)

static uint32_t read_u32(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void write_u32(char *p, uint32_t v)
{
    p[0] = (char)(v >> 24);
    p[1] = (char)(v >> 16);
    p[2] = (char)(v >> 8);
    p[3] = (char)v;
}

static void consume(struct sl_buf *buf, size_t n)
{
    if (n == buf->len && buf->cap > KEEP_BYTES_MAX)
        sl_buf_done(buf);
    else
        sl_buf_consume(buf, n);
}

void frame_reader_init(struct frame_reader *reader, size_t payload_bytes_max)
{
    *reader = (struct frame_reader){.payload_max = payload_bytes_max};
    sl_buf_init(&reader->buf, payload_bytes_max + FRAME_HEADER_BYTES + FEED_BYTES_MAX);
}

void frame_reader_done(struct frame_reader *reader)
{
    sl_buf_done(&reader->buf);
    reader->pos = 0;
}

sl_status frame_reader_feed(struct frame_reader *reader, const void *bytes, size_t n)
{
    consume(&reader->buf, reader->pos);
    reader->pos = 0;
    return sl_buf_add(&reader->buf, bytes, n);
}

static sl_status fail(struct frame_reader *reader, struct sl_err *err, sl_status status,
                      uint32_t length)
{
    reader->failed = true;
    if (status == SL_CORRUPT) return sl_err_set(err, status, "frame of no bytes");
    return sl_err_set(err, status, "frame of %u bytes; at most %zu", length,
                      reader->payload_max + 1);
}

sl_status frame_reader_next(struct frame_reader *reader, struct frame *out, bool *out_have,
                            struct sl_err *err)
{
    const char *at = reader->buf.data + reader->pos;
    size_t left = reader->buf.len - reader->pos;
    *out_have = false;
    if (reader->failed) return sl_err_set(err, SL_CORRUPT, "the stream is broken");
    if (left < FRAME_LENGTH_BYTES) return SL_OK;
    uint32_t length = read_u32(at);
    if (!length) return fail(reader, err, SL_CORRUPT, length);
    if (length - 1 > reader->payload_max) return fail(reader, err, SL_LIMIT, length);
    if (left - FRAME_LENGTH_BYTES < length) return SL_OK;
    *out = (struct frame){.type = (uint8_t)at[FRAME_LENGTH_BYTES],
                          .payload = at + FRAME_HEADER_BYTES,
                          .n_payload = length - 1};
    reader->pos += FRAME_LENGTH_BYTES + length;
    *out_have = true;
    return SL_OK;
}

sl_status frame_begin(struct sl_buf *out, uint8_t type, size_t *mark)
{
    const char header[FRAME_HEADER_BYTES] = {0, 0, 0, 0, (char)type};
    *mark = out->len;
    return sl_buf_add(out, header, sizeof header);
}

sl_status frame_end(struct sl_buf *out, size_t mark, size_t payload_bytes_max)
{
    assert(out->len >= mark + FRAME_HEADER_BYTES);
    size_t length = out->len - mark - FRAME_LENGTH_BYTES;
    if (length - 1 > payload_bytes_max || length > UINT32_MAX) {
        sl_buf_truncate(out, mark);
        return SL_LIMIT;
    }
    write_u32(out->data + mark, (uint32_t)length);
    return SL_OK;
}

void frame_writer_init(struct frame_writer *writer, size_t bytes_max)
{
    writer->sent = 0;
    sl_buf_init(&writer->buf, bytes_max);
}

void frame_writer_done(struct frame_writer *writer)
{
    sl_buf_done(&writer->buf);
    writer->sent = 0;
}

const void *frame_writer_pending(const struct frame_writer *writer, size_t *n)
{
    *n = writer->buf.len - writer->sent;
    return writer->buf.data + writer->sent;
}

void frame_writer_sent(struct frame_writer *writer, size_t n)
{
    assert(n <= writer->buf.len - writer->sent);
    writer->sent += n;
    bool mostly = writer->sent >= COMPACT_BYTES_MIN && writer->sent >= writer->buf.len / 2;
    if (writer->sent < writer->buf.len && !mostly) return;
    consume(&writer->buf, writer->sent);
    writer->sent = 0;
}
