#include "cli/npy.h"
#include "exec/vision/half.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[6] = "\x93NUMPY";
#define PREFIX_BYTES 10 /* magic, version, two bytes of length */
#define ALIGN 64        /* data begins at a multiple of it, so that it can be mapped */
#define HEADER_MAX 4096
#define DESCR_MAX 16

static const struct {
    const char *descr;
    enum tensor_type type;
} kinds[] = {{"|b1", TENSOR_BOOL},   {"|u1", TENSOR_UINT8},  {"<u2", TENSOR_UINT16},
             {"<u4", TENSOR_UINT32}, {"<u8", TENSOR_UINT64}, {"|i1", TENSOR_INT8},
             {"<i2", TENSOR_INT16},  {"<i4", TENSOR_INT32},  {"<i8", TENSOR_INT64},
             {"<f2", TENSOR_FP16},   {"<f4", TENSOR_FP32},   {"<f8", TENSOR_FP64}};

/* --- reading --- */

struct header {
    char text[HEADER_MAX + 1];
    char descr[DESCR_MAX];
    size_t n_text_bytes; /* of an element of kind S */
    size_t at;           /* where the data begins */
};

static sl_status corrupt(struct sl_err *err)
{
    return sl_err_set(err, SL_CORRUPT, "not a .npy file, or a damaged one");
}

/* The header is a Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }.
 * What follows a key, without the blanks; NULL: there is none. */
static const char *value_of(const struct header *h, const char *key)
{
    const char *at = strstr(h->text, key);
    if (!at) return NULL;
    at += strlen(key);
    while (isspace((unsigned char)*at) || *at == ':') at++;
    return at;
}

static sl_status read_header(const char *bytes, size_t n, struct header *h, struct sl_err *err)
{
    if (n < PREFIX_BYTES + 2 || memcmp(bytes, magic, sizeof magic) != 0) return corrupt(err);
    const unsigned char *p = (const unsigned char *)bytes;
    bool wide = p[6] >= 2;
    size_t length = p[8] | (size_t)p[9] << 8;
    if (wide) length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    size_t begin = PREFIX_BYTES + (wide ? 2 : 0);
    if (length > HEADER_MAX || length > n - begin) return corrupt(err);
    memcpy(h->text, bytes + begin, length);
    h->text[length] = '\0';
    h->at = begin + length;
    const char *descr = value_of(h, "'descr'"), *order = value_of(h, "'fortran_order'");
    if (!descr || *descr != '\'' || !order) return corrupt(err);
    size_t n_descr = strcspn(descr + 1, "'");
    if (n_descr >= sizeof h->descr) return corrupt(err);
    memcpy(h->descr, descr + 1, n_descr);
    h->descr[n_descr] = '\0';
    if (strncmp(order, "True", 4) == 0)
        return sl_err_set(err, SL_UNSUPPORTED,
                          "an array in Fortran's order; save numpy.ascontiguousarray of it");
    return SL_OK;
}

static sl_status read_shape(const struct header *h, struct tensor *out, struct sl_err *err)
{
    const char *at = value_of(h, "'shape'");
    if (!at || *at++ != '(') return corrupt(err);
    for (;;) {
        char *end;
        at += strspn(at, " ,");
        if (*at == ')') return SL_OK;
        long long v = strtoll(at, &end, 10);
        if (end == at || v < 0 || out->rank == TENSOR_RANK_MAX) return corrupt(err);
        out->shape[out->rank++] = v;
        at = end;
    }
}

static sl_status read_type(struct header *h, struct tensor *out, struct sl_err *err)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].descr, h->descr) != 0) continue;
        out->type = kinds[i].type;
        return SL_OK;
    }
    if (strncmp(h->descr, "|S", 2) == 0 || strncmp(h->descr, "<S", 2) == 0) {
        out->type = TENSOR_BYTES;
        h->n_text_bytes = strtoul(h->descr + 2, NULL, 10);
        return SL_OK;
    }
    return sl_err_set(err, SL_UNSUPPORTED,
                      "an array of dtype %s; give one of bool, (u)int8 to 64, float16 to 64 in "
                      "little-endian order, or bytes (S)",
                      h->descr);
}

/* Elements of one length to elements with their own. */
static sl_status read_texts(const struct header *h, const char *data, uint64_t count,
                            struct sl_arena *arena, struct tensor *out, struct sl_err *err)
{
    size_t room;
    if (__builtin_mul_overflow(count, h->n_text_bytes + sizeof(uint32_t), &room) ||
        room > TENSOR_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %u bytes", TENSOR_BYTES_MAX);
    char *bytes = sl_arena_alloc(arena, room ? room : 1), *to = bytes;
    if (!bytes) return sl_err_set(err, SL_NOMEM, "a tensor of %zu bytes", room);
    for (uint64_t i = 0; i < count; i++, data += h->n_text_bytes) {
        uint32_t length = (uint32_t)h->n_text_bytes;
        while (length > 0 && data[length - 1] == '\0') length--;
        memcpy(to, &length, sizeof length);
        memcpy(to + sizeof length, data, length);
        to += sizeof length + length;
    }
    out->data = bytes;
    out->n_bytes = (size_t)(to - bytes);
    return SL_OK;
}

sl_status npy_read(const void *bytes, size_t n, struct sl_arena *arena, struct tensor *out,
                   struct sl_err *err)
{
    struct header h = {0};
    uint64_t count;
    size_t n_data;
    *out = (struct tensor){0};
    sl_status status = read_header(bytes, n, &h, err);
    if (status == SL_OK) status = read_type(&h, out, err);
    if (status == SL_OK) status = read_shape(&h, out, err);
    if (status == SL_OK) status = tensor_count(out->shape, out->rank, &count, err);
    if (status != SL_OK) return status;
    bool texts = out->type == TENSOR_BYTES;
    size_t size = texts ? h.n_text_bytes : tensor_type_size(out->type);
    if (__builtin_mul_overflow(count, size, &n_data) || n_data != n - h.at) return corrupt(err);
    const char *data = (const char *)bytes + h.at;
    if (texts) return read_texts(&h, data, count, arena, out, err);
    out->data = data;
    out->n_bytes = n_data;
    return SL_OK;
}

/* --- writing --- */

/* The element of BYTES at *at, and its length; *at goes on. */
static const char *next_text(const char **at, uint32_t *n)
{
    memcpy(n, *at, sizeof *n);
    const char *text = *at + sizeof *n;
    *at = text + *n;
    return text;
}

static size_t longest_text(const struct tensor *tensor)
{
    const char *at = tensor->data, *end = at + tensor->n_bytes;
    uint32_t n, most = 1; /* NumPy's arrays of nothing have one byte too */
    while (at < end) {
        (void)next_text(&at, &n);
        if (n > most) most = n;
    }
    return most;
}

static void describe(const struct tensor *tensor, char out[DESCR_MAX])
{
    enum tensor_type type = tensor->type == TENSOR_BF16 ? TENSOR_FP32 : tensor->type;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].type == type) (void)snprintf(out, DESCR_MAX, "%s", kinds[i].descr);
    }
    if (type == TENSOR_BYTES) (void)snprintf(out, DESCR_MAX, "|S%zu", longest_text(tensor));
}

static sl_status write_header(const struct tensor *tensor, struct sl_buf *out)
{
    char text[HEADER_MAX], descr[DESCR_MAX] = "";
    describe(tensor, descr);
    int n =
        snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int32_t i = 0; i < tensor->rank; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%" PRId64, i ? ", " : "",
                      tensor->shape[i]);
    n += snprintf(text + n, sizeof text - (size_t)n, "%s), }", tensor->rank == 1 ? "," : "");
    size_t length = ((size_t)n + 1 + PREFIX_BYTES + ALIGN - 1) / ALIGN * ALIGN - PREFIX_BYTES;
    while ((size_t)n < length - 1) text[n++] = ' ';
    text[n++] = '\n';
    const char prefix[4] = {1, 0, (char)(length & 0xff), (char)(length >> 8)};
    sl_status status = sl_buf_add(out, magic, sizeof magic);
    if (status == SL_OK) status = sl_buf_add(out, prefix, sizeof prefix);
    return status == SL_OK ? sl_buf_add(out, text, (size_t)n) : status;
}

static sl_status write_texts(const struct tensor *tensor, struct sl_buf *out)
{
    const char *at = tensor->data, *end = at + tensor->n_bytes;
    size_t width = longest_text(tensor);
    sl_status status = SL_OK;
    while (at < end && status == SL_OK) {
        uint32_t n;
        const char *text = next_text(&at, &n);
        status = sl_buf_add(out, text, n);
        for (size_t i = n; i < width && status == SL_OK; i++) status = sl_buf_addc(out, '\0');
    }
    return status;
}

static sl_status write_bfloats(const struct tensor *tensor, struct sl_buf *out)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i + 2 <= tensor->n_bytes && status == SL_OK; i += 2) {
        uint16_t bits;
        memcpy(&bits, (const char *)tensor->data + i, sizeof bits);
        float value = bfloat_to_float(bits);
        status = sl_buf_add(out, &value, sizeof value);
    }
    return status;
}

sl_status npy_write(const struct tensor *tensor, struct sl_buf *out, struct sl_err *err)
{
    sl_status status = write_header(tensor, out);
    if (status == SL_OK && tensor->type == TENSOR_BYTES)
        status = write_texts(tensor, out);
    else if (status == SL_OK && tensor->type == TENSOR_BF16)
        status = write_bfloats(tensor, out);
    else if (status == SL_OK)
        status = sl_buf_add(out, tensor->data, tensor->n_bytes);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "%.80s: the .npy file", tensor->name);
}
