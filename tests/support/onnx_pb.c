#include "support/onnx_pb.h"
#include "exec/onnx/ort_value.h"
#include <stdio.h>
#include <string.h>

/* TensorProto's fields. */
enum {
    DIMS = 1,
    TYPE = 2,
    FLOATS = 4,
    INT32S = 5,
    STRINGS = 6,
    INT64S = 7,
    NAME = 8,
    RAW = 9,
    DOUBLES = 10,
    UINT64S = 11
};

struct reader {
    const unsigned char *p, *end;
    bool bad;
};

struct field {
    uint32_t number, wire;
    uint64_t value;         /* wire 0, 1 and 5 */
    struct reader contents; /* wire 2 */
};

struct parts {
    int element;
    struct tensor *tensor;
    unsigned char *data; /* what was given element by element */
    size_t n_data;
};

static uint64_t read_varint(struct reader *r)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        v |= (uint64_t)(*r->p & 0x7f) << shift;
        if (!(*r->p++ & 0x80)) return v;
    }
    r->bad = true;
    return 0;
}

static uint64_t read_fixed(struct reader *r, size_t n)
{
    uint64_t v = 0;
    if ((size_t)(r->end - r->p) < n) {
        r->bad = true;
        return 0;
    }
    memcpy(&v, r->p, n);
    r->p += n;
    return v;
}

static bool next_field(struct reader *r, struct field *out)
{
    if (r->bad || r->p == r->end) return false;
    uint64_t key = read_varint(r);
    *out = (struct field){.number = (uint32_t)(key >> 3), .wire = (uint32_t)(key & 7)};
    if (out->wire == 0) out->value = read_varint(r);
    if (out->wire == 1) out->value = read_fixed(r, 8);
    if (out->wire == 5) out->value = read_fixed(r, 4);
    if (out->wire == 2) {
        uint64_t n = read_varint(r);
        r->bad = r->bad || n > (uint64_t)(r->end - r->p);
        if (!r->bad) out->contents = (struct reader){r->p, r->p + n, false};
        if (!r->bad) r->p += n;
    }
    return !r->bad && (out->wire <= 2 || out->wire == 5);
}

static void put_value(struct parts *parts, uint64_t value, size_t size)
{
    memcpy(parts->data + parts->n_data, &value, size);
    parts->n_data += size;
}

/* Numbers, one or packed: `size` bytes of each are stored. wire_size 0: varints. */
static void put_numbers(struct parts *parts, const struct field *field, size_t wire_size,
                        size_t size)
{
    struct reader r = field->contents;
    if (field->wire != 2) {
        put_value(parts, field->value, size);
        return;
    }
    while (r.p < r.end && !r.bad)
        put_value(parts, wire_size ? read_fixed(&r, wire_size) : read_varint(&r), size);
}

static void put_string(struct parts *parts, const struct reader *text)
{
    size_t n = (size_t)(text->end - text->p);
    put_value(parts, n, 4);
    memcpy(parts->data + parts->n_data, text->p, n);
    parts->n_data += n;
}

static void add_dims(struct tensor *tensor, const struct field *field)
{
    struct reader r = field->contents;
    if (field->wire != 2 && tensor->rank < TENSOR_RANK_MAX)
        tensor->shape[tensor->rank++] = (int64_t)field->value;
    while (field->wire == 2 && r.p < r.end && !r.bad && tensor->rank < TENSOR_RANK_MAX)
        tensor->shape[tensor->rank++] = (int64_t)read_varint(&r);
}

static void take_field(struct parts *parts, const struct field *field, struct sl_arena *arena)
{
    const struct reader *c = &field->contents;
    size_t size = tensor_type_size(parts->tensor->type);
    switch (field->number) {
    case DIMS: add_dims(parts->tensor, field); break;
    case TYPE: parts->element = (int)field->value; break;
    case NAME:
        parts->tensor->name = sl_arena_strndup(arena, (const char *)c->p, (size_t)(c->end - c->p));
        break;
    case RAW:
        parts->tensor->data = c->p;
        parts->tensor->n_bytes = (size_t)(c->end - c->p);
        break;
    case STRINGS: put_string(parts, c); break;
    case FLOATS: put_numbers(parts, field, 4, 4); break;
    case DOUBLES: put_numbers(parts, field, 8, 8); break;
    case INT32S:
    case INT64S:
    case UINT64S: put_numbers(parts, field, 0, size); break;
    default: break;
    }
}

static int element_of(struct reader r)
{
    struct field field;
    while (next_field(&r, &field))
        if (field.number == TYPE && field.wire == 0) return (int)field.value;
    return 0;
}

static bool parse(struct reader r, struct sl_arena *arena, struct tensor *out)
{
    struct parts parts = {.tensor = out};
    struct field field;
    struct sl_err err = SL_ERR_INIT;
    *out = (struct tensor){.name = ""};
    if (!ort_element_to_tensor(element_of(r), &out->type)) return false;
    /* a varint of one byte becomes an element of up to eight; a string gets four more */
    parts.data = sl_arena_alloc(arena, 8 * (size_t)(r.end - r.p) + 8);
    if (!parts.data) return false;
    out->data = parts.data;
    while (next_field(&r, &field)) take_field(&parts, &field, arena);
    if (out->data == parts.data) out->n_bytes = parts.n_data;
    return !r.bad && r.p == r.end && tensor_check(out, &err) == SL_OK;
}

bool onnx_pb_read(const char *path, struct sl_arena *arena, struct tensor *out)
{
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    bool ok = fseek(file, 0, SEEK_END) == 0;
    long n = ftell(file);
    unsigned char *bytes = ok && n >= 0 ? sl_arena_alloc(arena, (size_t)n + 1) : NULL;
    rewind(file);
    ok = bytes && fread(bytes, 1, (size_t)n, file) == (size_t)n;
    (void)fclose(file);
    return ok && parse((struct reader){bytes, bytes + n, false}, arena, out);
}
