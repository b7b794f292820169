/* onnx_file_tensor.c: values that are stored: TensorProto and SparseTensorProto. A tensor's values
 * lie packed in raw_data, or one by one in the field that its type has, or in another file. */
#include "base/checked.h"
#include "exec/onnx/onnx_file_int.h"
#include <inttypes.h>
#include <string.h>

enum {
    TENSOR_DIMS = 1,
    TENSOR_DATA_TYPE = 2,
    TENSOR_SEGMENT = 3,
    TENSOR_FLOAT_DATA = 4,
    TENSOR_INT32_DATA = 5,
    TENSOR_STRING_DATA = 6,
    TENSOR_INT64_DATA = 7,
    TENSOR_NAME = 8,
    TENSOR_RAW_DATA = 9,
    TENSOR_DOUBLE_DATA = 10,
    TENSOR_UINT64_DATA = 11,
    TENSOR_EXTERNAL_DATA = 13,
    TENSOR_DATA_LOCATION = 14,
    TENSOR_FIELDS
};
enum { PAIR_KEY = 1, PAIR_VALUE = 2 };
enum { SPARSE_VALUES = 1, SPARSE_INDICES = 2 };
enum { LOCATION_DEFAULT = 0, LOCATION_EXTERNAL = 1 };

#define NUMBER_DIGITS_MAX 20 /* of an offset or a length, which are written as text */
#define NAME_SHOWN 100       /* bytes of a name in an error */

static const char *const field_names[TENSOR_FIELDS] = {
    [TENSOR_FLOAT_DATA] = "float_data",   [TENSOR_INT32_DATA] = "int32_data",
    [TENSOR_STRING_DATA] = "string_data", [TENSOR_INT64_DATA] = "int64_data",
    [TENSOR_DOUBLE_DATA] = "double_data", [TENSOR_UINT64_DATA] = "uint64_data",
};

/* A TensorProto as it is read, before it is known what its fields must agree with. */
struct draft {
    struct onnx_tensor tensor;
    int64_t type, location;
    uint64_t n_values[TENSOR_FIELDS]; /* in each of the fields that hold values one by one */
    struct onnx_str raw;
    bool has_raw;
    struct onnx_str path, offset, length; /* external_data; s is NULL where absent */
};

static sl_status add_dim(struct onnx_tensor *tensor, int64_t size, struct sl_err *err)
{
    if (tensor->rank == TENSOR_RANK_MAX)
        return sl_err_set(err, SL_LIMIT, "dims: more than %d", TENSOR_RANK_MAX);
    if (size < 0) return sl_err_set(err, SL_CORRUPT, "dims: %" PRId64, size);
    tensor->dims[tensor->rank++] = size;
    return SL_OK;
}

/* One by one, or packed. */
static sl_status read_dims(const struct sl_pb_field *field, struct onnx_tensor *tensor,
                           struct sl_err *err)
{
    int64_t size;
    uint64_t v;
    sl_status status = SL_OK;
    if (field->kind != SL_PB_BYTES) {
        status = onnx_get_int(field, "dims", &size, err);
        return status == SL_OK ? add_dim(tensor, size, err) : status;
    }
    struct sl_pb_reader reader = onnx_reader_of(onnx_field_bytes(field));
    while (status == SL_OK && reader.at < reader.end && sl_pb_next_varint(&reader, &v))
        status = add_dim(tensor, (int64_t)v, err);
    return status == SL_OK ? onnx_reader_done(&reader, err) : status;
}

static enum sl_pb_kind wire_of(uint32_t number)
{
    return number == TENSOR_FLOAT_DATA    ? SL_PB_FIXED32
           : number == TENSOR_DOUBLE_DATA ? SL_PB_FIXED64
                                          : SL_PB_VARINT;
}

/* How many values the field brings: one, or a row of them packed. */
static sl_status count_values(const struct sl_pb_field *field, uint64_t *count, struct sl_err *err)
{
    const char *name = field_names[field->number];
    enum sl_pb_kind wire = wire_of(field->number);
    uint64_t v;
    if (field->number == TENSOR_STRING_DATA && field->kind != SL_PB_BYTES)
        return sl_err_set(err, SL_CORRUPT, "%s: a number where bytes belong", name);
    if (field->number == TENSOR_STRING_DATA || field->kind == wire) {
        ++*count;
        return SL_OK;
    }
    if (field->kind != SL_PB_BYTES)
        return sl_err_set(err, SL_CORRUPT, "%s: numbers of another kind", name);
    if (wire != SL_PB_VARINT) {
        size_t width = wire == SL_PB_FIXED32 ? 4 : 8;
        *count += field->n / width;
        if (field->n % width == 0) return SL_OK;
        return sl_err_set(err, SL_CORRUPT, "%s: a part of a number at its end", name);
    }
    struct sl_pb_reader reader = onnx_reader_of(onnx_field_bytes(field));
    while (reader.at < reader.end && sl_pb_next_varint(&reader, &v)) ++*count;
    sl_status status = onnx_reader_done(&reader, err);
    if (status != SL_OK) (void)sl_err_prefix(err, "%s", name);
    return status;
}

static sl_status read_external(struct onnx_str message, struct draft *draft, struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_str key = {0}, value = {"", 0}, *place = NULL;
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number == PAIR_KEY) status = onnx_get_bytes(&field, "key", &key, err);
        if (field.number == PAIR_VALUE) status = onnx_get_bytes(&field, "value", &value, err);
    }
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status != SL_OK) return status;
    if (key.len == 8 && memcmp(key.s, "location", 8) == 0) place = &draft->path;
    if (key.len == 6 && memcmp(key.s, "offset", 6) == 0) place = &draft->offset;
    if (key.len == 6 && memcmp(key.s, "length", 6) == 0) place = &draft->length;
    if (!place) return SL_OK; /* "checksum" and whatever comes */
    if (place->s) return sl_err_set(err, SL_CORRUPT, "%.*s: twice", (int)key.len, key.s);
    *place = value;
    return SL_OK;
}

static sl_status read_field(const struct sl_pb_field *field, struct draft *draft,
                            struct sl_err *err)
{
    struct onnx_str bytes;
    sl_status status;
    switch (field->number) {
    case TENSOR_DIMS: return read_dims(field, &draft->tensor, err);
    case TENSOR_DATA_TYPE: return onnx_get_int(field, "data_type", &draft->type, err);
    case TENSOR_SEGMENT: return sl_err_set(err, SL_UNSUPPORTED, "segment: parts of a tensor");
    case TENSOR_FLOAT_DATA:
    case TENSOR_INT32_DATA:
    case TENSOR_STRING_DATA:
    case TENSOR_INT64_DATA:
    case TENSOR_DOUBLE_DATA:
    case TENSOR_UINT64_DATA: return count_values(field, &draft->n_values[field->number], err);
    case TENSOR_NAME: return onnx_get_bytes(field, "name", &draft->tensor.name, err);
    case TENSOR_RAW_DATA:
        draft->has_raw = true;
        return onnx_get_bytes(field, "raw_data", &draft->raw, err);
    case TENSOR_EXTERNAL_DATA:
        status = onnx_get_bytes(field, "external_data", &bytes, err);
        if (status == SL_OK) status = read_external(bytes, draft, err);
        if (status != SL_OK) (void)sl_err_prefix(err, "external_data");
        return status;
    case TENSOR_DATA_LOCATION: return onnx_get_int(field, "data_location", &draft->location, err);
    default: return SL_OK;
    }
}

static sl_status size_up(struct draft *draft, struct sl_err *err)
{
    struct onnx_tensor *t = &draft->tensor;
    uint64_t n = 1, bits;
    bool ok = true, is_empty = false;
    if (draft->type <= ONNX_UNDEFINED || draft->type >= ONNX_TYPE_COUNT)
        return sl_err_set(err, SL_CORRUPT, "data_type: %" PRId64 " is no type", draft->type);
    t->type = (enum onnx_type)draft->type;
    for (int32_t d = 0; d < t->rank; d++) {
        if (t->dims[d] == 0) is_empty = true;
        ok = ok && sl_mul_u64(n, (uint64_t)t->dims[d], &n);
    }
    if (is_empty) n = 0;
    ok = (ok || is_empty) && sl_mul_u64(n, (uint64_t)onnx_type_bits(t->type), &bits) &&
         bits <= INT64_MAX;
    if (!ok) return sl_err_set(err, SL_CORRUPT, "dims: more elements than any memory holds");
    t->n_elements = n;
    t->n_bytes = bits / 8 + (bits % 8 != 0);
    return SL_OK;
}

/* The field for values of this type one by one, and how many of its numbers they take. */
static uint32_t value_field(const struct onnx_tensor *t, uint64_t *n_values)
{
    int bits = onnx_type_bits(t->type);
    *n_values = t->n_elements;
    switch (t->type) {
    case ONNX_FLOAT: return TENSOR_FLOAT_DATA;
    case ONNX_COMPLEX64: *n_values *= 2; return TENSOR_FLOAT_DATA;
    case ONNX_DOUBLE: return TENSOR_DOUBLE_DATA;
    case ONNX_COMPLEX128: *n_values *= 2; return TENSOR_DOUBLE_DATA;
    case ONNX_INT64: return TENSOR_INT64_DATA;
    case ONNX_UINT32:
    case ONNX_UINT64: return TENSOR_UINT64_DATA;
    case ONNX_STRING: return TENSOR_STRING_DATA;
    default:
        if (bits < 8) *n_values = t->n_bytes; /* a byte's worth of them in each number */
        return TENSOR_INT32_DATA;
    }
}

static sl_status wrong_count(const char *field, uint64_t n, const char *unit, uint64_t wanted,
                             struct sl_err *err)
{
    return sl_err_set(err, SL_CORRUPT, "%s: %" PRIu64 " %s, type and dims make %" PRIu64, field, n,
                      unit, wanted);
}

/* Values that lie in this file. */
static sl_status check_values(struct draft *draft, struct sl_err *err)
{
    struct onnx_tensor *t = &draft->tensor;
    uint64_t wanted;
    uint32_t own = value_field(t, &wanted);
    for (uint32_t i = 0; i < TENSOR_FIELDS; i++) {
        if (draft->n_values[i] == 0) continue;
        if (i != own)
            return sl_err_set(err, SL_CORRUPT, "%s: not where values of type %s lie",
                              field_names[i], onnx_type_name(t->type));
        if (draft->has_raw && draft->raw.len)
            return sl_err_set(err, SL_CORRUPT, "raw_data and %s: only one can hold the values",
                              field_names[i]);
    }
    if (!draft->has_raw || draft->n_values[own] || t->type == ONNX_STRING) {
        if (draft->raw.len) return sl_err_set(err, SL_CORRUPT, "raw_data: not for strings");
        if (draft->n_values[own] == wanted) return SL_OK;
        return wrong_count(field_names[own], draft->n_values[own], "values", wanted, err);
    }
    if (draft->raw.len != t->n_bytes)
        return wrong_count("raw_data", draft->raw.len, "bytes", t->n_bytes, err);
    t->raw = draft->raw.s;
    return SL_OK;
}

/* Digits only; absent: `otherwise`. */
static bool parse_number(const struct onnx_str *text, uint64_t otherwise, uint64_t *out)
{
    *out = text->s ? 0 : otherwise;
    if (text->s && (text->len == 0 || text->len > NUMBER_DIGITS_MAX)) return false;
    for (size_t i = 0; i < text->len; i++) {
        unsigned digit = (unsigned)(text->s[i] - '0');
        if (digit > 9 || !sl_mul_u64(*out, 10, out) || !sl_add_u64(*out, digit, out)) return false;
    }
    return true;
}

/* The index of the file of that name, which is new when no tensor had it so far. */
static sl_status find_file(struct onnx_file *file, struct onnx_str path, int32_t *out,
                           struct sl_err *err)
{
    const struct onnx_external *v = file->externals.v;
    for (size_t i = 0; i < file->externals.n; i++) {
        size_t at = (file->external_last + i) % file->externals.n;
        if (strlen(v[at].path) != path.len || memcmp(v[at].path, path.s, path.len) != 0) continue;
        file->external_last = at;
        *out = (int32_t)at;
        return SL_OK;
    }
    struct onnx_external fresh = {0};
    memcpy(fresh.path, path.s, path.len);
    sl_status status = onnx_array_add(&file->externals, &fresh, sizeof fresh,
                                      ONNX_EXTERNAL_FILES_MAX, "files", err);
    if (status != SL_OK) return status;
    file->external_last = file->externals.n - 1;
    *out = (int32_t)file->external_last;
    return SL_OK;
}

static sl_status check_external(struct onnx_file *file, struct draft *draft, struct sl_err *err)
{
    struct onnx_tensor *t = &draft->tensor;
    struct onnx_str path = draft->path;
    uint64_t length, end;
    if (t->type == ONNX_STRING) return sl_err_set(err, SL_CORRUPT, "not for strings");
    if (draft->has_raw && draft->raw.len)
        return sl_err_set(err, SL_CORRUPT, "raw_data beside it: only one can hold the values");
    if (!path.s) return sl_err_set(err, SL_CORRUPT, "location: missing");
    if (path.len > 2 && memcmp(path.s, "./", 2) == 0)
        path = (struct onnx_str){path.s + 2, path.len - 2};
    if (!onnx_path_is_plain(path.s, path.len))
        return sl_err_set(err, SL_CORRUPT,
                          "location: \"%.*s\" is no plain path below the model's folder",
                          path.len < NAME_SHOWN ? (int)path.len : NAME_SHOWN, path.s);
    if (!parse_number(&draft->offset, 0, &t->offset) || !sl_add_u64(t->offset, t->n_bytes, &end) ||
        end > INT64_MAX)
        return sl_err_set(err, SL_CORRUPT, "offset: not a place in a file");
    if (!parse_number(&draft->length, t->n_bytes, &length))
        return sl_err_set(err, SL_CORRUPT, "length: not a number of bytes");
    if (length != t->n_bytes) return wrong_count("length", length, "bytes", t->n_bytes, err);
    sl_status status = find_file(file, path, &t->external, err);
    if (status != SL_OK) return status;
    struct onnx_external *external = (struct onnx_external *)file->externals.v + t->external;
    if (end > external->n_bytes) external->n_bytes = end;
    return SL_OK;
}

static sl_status place(struct onnx_file *file, struct draft *draft, struct sl_err *err)
{
    sl_status status = size_up(draft, err);
    if (status != SL_OK) return status;
    draft->tensor.external = -1;
    if (draft->location == LOCATION_DEFAULT) return check_values(draft, err);
    if (draft->location != LOCATION_EXTERNAL)
        return sl_err_set(err, SL_CORRUPT, "data_location: %" PRId64, draft->location);
    status = check_external(file, draft, err);
    if (status != SL_OK) (void)sl_err_prefix(err, "external_data");
    return status;
}

static sl_status add_tensor(struct onnx_file *file, const struct onnx_tensor *tensor,
                            struct sl_err *err)
{
    uint64_t *bytes = &file->type_bytes[tensor->type];
    if (!sl_add_u64(file->info.n_params, tensor->n_elements, &file->info.n_params) ||
        !sl_add_u64(*bytes, tensor->n_bytes, bytes) || file->info.n_params > INT64_MAX)
        return sl_err_set(err, SL_LIMIT, "dims: too many elements in all");
    return onnx_array_add(&file->tensors, tensor, sizeof *tensor, ONNX_TENSORS_MAX,
                          "stored tensors", err);
}

sl_status onnx_read_tensor(struct onnx_file *file, struct onnx_str message, bool is_initializer,
                           struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct draft draft = {.tensor.is_initializer = is_initializer};
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &field)) status = read_field(&field, &draft, err);
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status == SL_OK) status = place(file, &draft, err);
    if (status == SL_OK) status = add_tensor(file, &draft.tensor, err);
    if (status != SL_OK) {
        const struct onnx_str *name = &draft.tensor.name;
        (void)sl_err_prefix(err, "%s \"%.*s\"", is_initializer ? "initializer" : "tensor",
                            name->len < NAME_SHOWN ? (int)name->len : NAME_SHOWN,
                            name->s ? name->s : "");
    }
    return status;
}

sl_status onnx_read_sparse(struct onnx_file *file, struct onnx_str message, bool is_initializer,
                           struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_str bytes;
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number != SPARSE_VALUES && field.number != SPARSE_INDICES) continue;
        bool is_values = field.number == SPARSE_VALUES;
        status = onnx_get_bytes(&field, is_values ? "values" : "indices", &bytes, err);
        if (status == SL_OK)
            status = onnx_read_tensor(file, bytes, is_initializer && is_values, err);
    }
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status != SL_OK) (void)sl_err_prefix(err, "sparse tensor");
    return status;
}
