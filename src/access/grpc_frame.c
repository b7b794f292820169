#include "access/grpc_frame.h"
#include <string.h>

#define TIMEOUT_MAX_NS (INT64_C(366) * 24 * 3600 * 1000000000)
/* Room is made for so much of a message that is announced and has not come; it takes pages only as
 * they fill. */
#define RESERVE_MAX (4u << 20)
#define TIMEOUT_DIGITS_MAX 8
#define RESOURCE_EXHAUSTED 8

void grpc_reader_init(struct grpc_reader *reader, size_t message_max)
{
    reader->message_max = message_max;
    sl_buf_init(&reader->in, message_max + GRPC_PREFIX_BYTES);
}

void grpc_reader_done(struct grpc_reader *reader)
{
    sl_buf_done(&reader->in);
}

bool grpc_reader_is_amid(const struct grpc_reader *reader)
{
    return reader->in.len > 0;
}

/* The length that a prefix announces. */
static sl_status read_prefix(const struct grpc_reader *reader, const uint8_t *at, size_t *out_n,
                             struct sl_err *err)
{
    size_t n = (size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];
    if (at[0] > 1) return sl_err_set(err, SL_INVALID, "not a gRPC message: its flag is %d", at[0]);
    if (at[0])
        return sl_err_set(err, SL_UNSUPPORTED,
                          "the message is compressed; this server takes grpc-encoding: identity");
    if (n > reader->message_max)
        return sl_err_set(err, SL_LIMIT, "a message of %zu bytes is over the limit of %zu", n,
                          reader->message_max);
    *out_n = n;
    return SL_OK;
}

/* Moves what is missing of the first `want` bytes into the buffer. */
static sl_status gather(struct grpc_reader *reader, size_t want, const uint8_t **bytes, size_t *n,
                        struct sl_err *err)
{
    size_t take = want > reader->in.len ? want - reader->in.len : 0;
    size_t ahead = take < RESERVE_MAX ? take : RESERVE_MAX;
    if (take > *n) take = *n;
    if (take < ahead && sl_buf_reserve(&reader->in, ahead) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory for the message");
    sl_status status = sl_buf_add(&reader->in, *bytes, take);
    if (status != SL_OK) return sl_err_set(err, SL_NOMEM, "no memory for the message");
    *bytes += take;
    *n -= take;
    return SL_OK;
}

sl_status grpc_reader_next(struct grpc_reader *reader, const uint8_t **bytes, size_t *n,
                           const uint8_t **out_message, size_t *out_n, struct sl_err *err)
{
    size_t length = 0;
    struct sl_buf *in = &reader->in;
    sl_status status = SL_OK;
    *out_message = NULL;
    if (!in->len && *n >= GRPC_PREFIX_BYTES) {
        status = read_prefix(reader, *bytes, &length, err);
        if (status != SL_OK) return status;
        if (*n - GRPC_PREFIX_BYTES >= length) { /* it came whole */
            *out_message = *bytes + GRPC_PREFIX_BYTES;
            *out_n = length;
            *bytes += GRPC_PREFIX_BYTES + length;
            *n -= GRPC_PREFIX_BYTES + length;
            return SL_OK;
        }
    }
    status = gather(reader, GRPC_PREFIX_BYTES, bytes, n, err);
    if (status != SL_OK || in->len < GRPC_PREFIX_BYTES) return status;
    status = read_prefix(reader, (const uint8_t *)in->data, &length, err);
    if (status == SL_OK) status = gather(reader, GRPC_PREFIX_BYTES + length, bytes, n, err);
    if (status != SL_OK || in->len < GRPC_PREFIX_BYTES + length) return status;
    *out_message = (const uint8_t *)in->data + GRPC_PREFIX_BYTES;
    *out_n = length;
    sl_buf_clear(in); /* keeps the bytes where they are */
    return SL_OK;
}

sl_status grpc_frame_begin(struct sl_buf *out, size_t *out_mark)
{
    *out_mark = out->len;
    return sl_buf_add(out, "\0\0\0\0\0", GRPC_PREFIX_BYTES);
}

sl_status grpc_frame_end(struct sl_buf *out, size_t mark)
{
    size_t n = out->len - mark - GRPC_PREFIX_BYTES;
    if (n > UINT32_MAX) return SL_LIMIT;
    for (int i = 0; i < 4; i++) out->data[mark + 1 + (size_t)i] = (char)(n >> (24 - 8 * i));
    return SL_OK;
}

bool grpc_timeout_parse(const char *text, int64_t *out_ns)
{
    static const struct {
        char unit;
        int64_t ns;
    } units[] = {{'H', INT64_C(3600000000000)},
                 {'M', INT64_C(60000000000)},
                 {'S', 1000000000},
                 {'m', 1000000},
                 {'u', 1000},
                 {'n', 1}};
    int64_t count = 0;
    size_t n_digits = strspn(text, "0123456789");
    if (!n_digits || n_digits > TIMEOUT_DIGITS_MAX || !text[n_digits] || text[n_digits + 1])
        return false;
    for (size_t i = 0; i < n_digits; i++) count = count * 10 + (text[i] - '0');
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (units[i].unit != text[n_digits]) continue;
        *out_ns = count > TIMEOUT_MAX_NS / units[i].ns ? TIMEOUT_MAX_NS : count * units[i].ns;
        return true;
    }
    return false;
}

const char *grpc_percent_encode(const char *message, char *out, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const unsigned char *c = (const unsigned char *)message; *c; c++) {
        bool plain = *c >= ' ' && *c <= '~' && *c != '%';
        if (n + (plain ? 1 : 3) >= size) break;
        if (plain) {
            out[n++] = (char)*c;
        } else {
            out[n++] = '%';
            out[n++] = digits[*c >> 4];
            out[n++] = digits[*c & 15];
        }
    }
    out[n] = '\0';
    return out;
}

int grpc_code(sl_status status)
{
    return status == SL_LIMIT ? RESOURCE_EXHAUSTED : sl_status_grpc(status);
}
