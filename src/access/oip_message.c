#include "access/oip_message.h"
#include "base/pb.h"
#include <string.h>

/* --- what is found in a first look --- */

struct counts {
    size_t n_inputs, n_outputs, n_params, n_raw;
};

struct reading {
    struct oip_message *message;
    struct counts counts;
    struct tensor *inputs;
    const char **outputs;
    struct oip_param *params;
    size_t n_bytes; /* of typed contents made raw */
    bool has_contents;
    struct sl_err *err;
};

void oip_message_init(struct oip_message *message)
{
    memset(message, 0, sizeof *message);
    sl_arena_init(&message->arena, OIP_MESSAGE_ARENA_MAX);
}

void oip_message_done(struct oip_message *message)
{
    sl_arena_done(&message->arena);
}

static sl_status no_memory(struct reading *r)
{
    return sl_err_set(r->err, SL_NOMEM, "no memory for the tensors");
}

static sl_status not_a_message(struct reading *r, const char *what)
{
    return sl_err_set(r->err, SL_INVALID, "the message is no ModelInferRequest: %s", what);
}

/* A string field as C text in the arena. */
static sl_status read_text(struct reading *r, const struct sl_pb_field *field, const char *what,
                           const char **out)
{
    if (field->kind != SL_PB_BYTES) return not_a_message(r, what);
    if (memchr(field->bytes, 0, field->n))
        return sl_err_set(r->err, SL_INVALID, "%s holds a NUL", what);
    *out = sl_arena_strndup(&r->message->arena, (const char *)field->bytes, field->n);
    return *out ? SL_OK : no_memory(r);
}

/* --- parameters --- */

/* The value of an InferParameter; the last of several counts, as in every oneof. */
static sl_status read_choice(struct reading *r, const struct sl_pb_field *field,
                             struct oip_param *out)
{
    struct sl_pb_reader reader = sl_pb_read(field->bytes, field->n);
    struct sl_pb_field f;
    while (sl_pb_next(&reader, &f)) {
        static const enum sl_pb_kind kinds[] = {0,           SL_PB_VARINT,  SL_PB_VARINT,
                                                SL_PB_BYTES, SL_PB_FIXED64, SL_PB_VARINT};
        if (f.number > 5) continue;
        if (f.kind != kinds[f.number]) return not_a_message(r, "parameters");
        if (f.number == 1) {
            out->type = OIP_PARAM_BOOL;
            out->flag = f.value != 0;
        } else if (f.number == 2 || f.number == 5) {
            out->type = OIP_PARAM_INT;
            out->integer = f.number == 5 && f.value > INT64_MAX ? INT64_MAX : (int64_t)f.value;
        } else if (f.number == 3) {
            out->type = OIP_PARAM_STR;
            out->text = sl_arena_strndup(&r->message->arena, (const char *)f.bytes, f.n);
            out->n_text = f.n;
            if (!out->text) return no_memory(r);
        } else {
            out->type = OIP_PARAM_NUM;
            memcpy(&out->number, &f.value, sizeof out->number);
        }
    }
    return reader.bad ? not_a_message(r, "parameters") : SL_OK;
}

/* An entry of a map<string, InferParameter>. */
static sl_status read_param(struct reading *r, const struct sl_pb_field *field,
                            struct oip_param *out)
{
    struct sl_pb_reader reader = sl_pb_read(field->bytes, field->n);
    struct sl_pb_field f;
    sl_status status = field->kind == SL_PB_BYTES ? SL_OK : not_a_message(r, "parameters");
    *out = (struct oip_param){.name = "", .type = OIP_PARAM_STR, .text = ""};
    while (status == SL_OK && sl_pb_next(&reader, &f)) {
        if (f.number == 1)
            status = read_text(r, &f, "a parameter's name", &out->name);
        else if (f.number == 2 && f.kind == SL_PB_BYTES)
            status = read_choice(r, &f, out);
    }
    return status == SL_OK && reader.bad ? not_a_message(r, "parameters") : status;
}

/* Parameters of a tensor that change what its data mean must not be passed over. */
static sl_status check_tensor_param(struct reading *r, const struct sl_pb_field *field,
                                    const char *name)
{
    static const char *const refused[] = {"shared_memory_region", "classification"};
    struct oip_param param;
    sl_status status = read_param(r, field, &param);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0] && status == SL_OK; i++)
        if (!strcmp(param.name, refused[i]))
            status = sl_err_set(r->err, SL_INVALID, "tensor \"%.100s\": %s is not supported here",
                                name, refused[i]);
    return status;
}

/* --- typed contents --- */

/* The list of InferTensorContents that a type's values stand in; 0: none. */
static uint32_t list_of(enum tensor_type type)
{
    static const uint8_t lists[TENSOR_TYPE_COUNT] = {
        [TENSOR_BOOL] = 1,   [TENSOR_INT8] = 2,  [TENSOR_INT16] = 2,  [TENSOR_INT32] = 2,
        [TENSOR_INT64] = 3,  [TENSOR_UINT8] = 4, [TENSOR_UINT16] = 4, [TENSOR_UINT32] = 4,
        [TENSOR_UINT64] = 5, [TENSOR_FP32] = 6,  [TENSOR_FP64] = 7,   [TENSOR_BYTES] = 8};
    return lists[type];
}

static const char *list_name(uint32_t list)
{
    static const char *const names[] = {"",
                                        "bool_contents",
                                        "int_contents",
                                        "int64_contents",
                                        "uint_contents",
                                        "uint64_contents",
                                        "fp32_contents",
                                        "fp64_contents",
                                        "bytes_contents"};
    return names[list];
}

/* Does a varint of its list fit the type? */
static bool in_range(enum tensor_type type, uint64_t value)
{
    int64_t v = (int64_t)value;
    switch (type) {
    case TENSOR_INT8: return v >= INT8_MIN && v <= INT8_MAX;
    case TENSOR_INT16: return v >= INT16_MIN && v <= INT16_MAX;
    case TENSOR_INT32: return v >= INT32_MIN && v <= INT32_MAX;
    case TENSOR_UINT8: return value <= UINT8_MAX;
    case TENSOR_UINT16: return value <= UINT16_MAX;
    case TENSOR_UINT32: return value <= UINT32_MAX;
    default: return true;
    }
}

/* Where the values of one tensor go. */
struct filling {
    struct reading *reading;
    struct tensor *tensor;
    uint8_t *at, *end; /* NULL: only counted, in n */
    size_t n;
};

static sl_status put_value(struct filling *f, uint64_t value)
{
    enum tensor_type type = f->tensor->type;
    size_t size = tensor_type_size(type);
    f->n += size;
    if (!f->at) return SL_OK;
    if (!in_range(type, value))
        return sl_err_set(f->reading->err, SL_INVALID, "input \"%.100s\": %lld is no %s",
                          f->tensor->name, (long long)value, tensor_type_name(type));
    if (type == TENSOR_BOOL) value = value != 0;
    for (size_t i = 0; i < size; i++) *f->at++ = (uint8_t)(value >> (8 * i));
    return SL_OK;
}

/* An element of BYTES with its length before it. */
static void put_element(struct filling *f, const struct sl_pb_field *field)
{
    f->n += 4 + field->n;
    if (!f->at) return;
    for (int i = 0; i < 4; i++) *f->at++ = (uint8_t)(field->n >> (8 * i));
    memcpy(f->at, field->bytes, field->n);
    f->at += field->n;
}

/* One field of the list: a value, or many packed. */
static sl_status put_list(struct filling *f, const struct sl_pb_field *field)
{
    enum tensor_type type = f->tensor->type;
    size_t size = tensor_type_size(type);
    bool fixed = type == TENSOR_FP32 || type == TENSOR_FP64;
    sl_status status = SL_OK;
    uint64_t value;
    if (type == TENSOR_BYTES) {
        if (field->kind != SL_PB_BYTES) return not_a_message(f->reading, "contents");
        put_element(f, field);
        return SL_OK;
    }
    if (field->kind != SL_PB_BYTES) return put_value(f, field->value);
    if (fixed) {
        if (field->n % size) return not_a_message(f->reading, "contents");
        f->n += field->n;
        if (f->at) memcpy(f->at, field->bytes, field->n);
        if (f->at) f->at += field->n;
        return SL_OK;
    }
    struct sl_pb_reader reader = sl_pb_read(field->bytes, field->n);
    while (status == SL_OK && sl_pb_next_varint(&reader, &value)) status = put_value(f, value);
    return status == SL_OK && reader.bad ? not_a_message(f->reading, "contents") : status;
}

/* Goes through the contents once. *out_only is the list's one field, if it is one. */
static sl_status walk_contents(struct filling *f, const struct sl_pb_field *contents,
                               struct sl_pb_field *out_only, size_t *out_n_fields)
{
    struct reading *r = f->reading;
    uint32_t list = list_of(f->tensor->type);
    struct sl_pb_reader reader = sl_pb_read(contents->bytes, contents->n);
    struct sl_pb_field field;
    sl_status status = SL_OK;
    *out_n_fields = 0;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number > 8) continue;
        if (!list)
            return sl_err_set(r->err, SL_INVALID,
                              "input \"%.100s\": %s has no typed contents and goes as "
                              "raw_input_contents",
                              f->tensor->name, tensor_type_name(f->tensor->type));
        if (field.number != list)
            return sl_err_set(r->err, SL_INVALID, "input \"%.100s\": %s goes as %s, not as %s",
                              f->tensor->name, tensor_type_name(f->tensor->type), list_name(list),
                              list_name(field.number));
        *out_only = field;
        ++*out_n_fields;
        status = put_list(f, &field);
    }
    return status == SL_OK && reader.bad ? not_a_message(r, "contents") : status;
}

static sl_status read_contents(struct reading *r, const struct sl_pb_field *contents,
                               struct tensor *tensor)
{
    struct filling f = {.reading = r, .tensor = tensor};
    struct sl_pb_field only = {0};
    size_t n_fields;
    if (contents->kind != SL_PB_BYTES) return not_a_message(r, "contents");
    sl_status status = walk_contents(&f, contents, &only, &n_fields);
    if (status != SL_OK) return status;
    tensor->n_bytes = f.n;
    if (n_fields == 1 && only.kind == SL_PB_BYTES &&
        (tensor->type == TENSOR_FP32 || tensor->type == TENSOR_FP64)) {
        tensor->data = only.bytes; /* packed: just as raw ones */
        return SL_OK;
    }
    r->n_bytes += f.n;
    if (r->n_bytes > TENSOR_BYTES_MAX || r->n_bytes < f.n)
        return sl_err_set(r->err, SL_LIMIT, "the inputs hold more than %u MiB",
                          (unsigned)(TENSOR_BYTES_MAX >> 20));
    f.at = sl_arena_alloc(&r->message->arena, f.n ? f.n : 1);
    if (!f.at) return no_memory(r);
    tensor->data = f.at;
    f.n = 0;
    return walk_contents(&f, contents, &only, &n_fields);
}

/* --- tensors --- */

static sl_status add_dimension(struct reading *r, struct tensor *tensor, uint64_t value)
{
    if (tensor->rank == TENSOR_RANK_MAX)
        return sl_err_set(r->err, SL_INVALID, "input \"%.100s\": more than %d dimensions",
                          tensor->name, TENSOR_RANK_MAX);
    tensor->shape[tensor->rank++] = (int64_t)value;
    return SL_OK;
}

static sl_status read_shape(struct reading *r, const struct sl_pb_field *field,
                            struct tensor *tensor)
{
    uint64_t value;
    sl_status status = SL_OK;
    if (field->kind == SL_PB_VARINT) return add_dimension(r, tensor, field->value);
    if (field->kind != SL_PB_BYTES) return not_a_message(r, "shape");
    struct sl_pb_reader reader = sl_pb_read(field->bytes, field->n);
    while (status == SL_OK && sl_pb_next_varint(&reader, &value))
        status = add_dimension(r, tensor, value);
    return status == SL_OK && reader.bad ? not_a_message(r, "shape") : status;
}

static sl_status read_datatype(struct reading *r, const struct sl_pb_field *field,
                               struct tensor *tensor)
{
    if (field->kind == SL_PB_BYTES &&
        tensor_type_parse((const char *)field->bytes, field->n, &tensor->type))
        return SL_OK;
    return sl_err_set(r->err, SL_INVALID, "input \"%.100s\": no such datatype: \"%.*s\"",
                      tensor->name, (int)(field->n < 32 ? field->n : 32),
                      field->n ? (const char *)field->bytes : "");
}

/* The fields may come in any order, but the name is wanted in errors and the type for contents. */
static sl_status read_input(struct reading *r, const struct sl_pb_field *input,
                            struct tensor *tensor)
{
    struct sl_pb_field found[6] = {{0}}, f;
    sl_status status = SL_OK;
    *tensor = (struct tensor){.name = ""};
    struct sl_pb_reader reader = sl_pb_read(input->bytes, input->n);
    while (sl_pb_next(&reader, &f))
        if (f.number < 6) found[f.number] = f;
    if (reader.bad || input->kind != SL_PB_BYTES) return not_a_message(r, "inputs");
    if (found[1].number) status = read_text(r, &found[1], "an input's name", &tensor->name);
    if (status == SL_OK) status = read_datatype(r, &found[2], tensor);
    reader = sl_pb_read(input->bytes, input->n);
    while (status == SL_OK && sl_pb_next(&reader, &f)) {
        if (f.number == 3)
            status = read_shape(r, &f, tensor);
        else if (f.number == 4)
            status = check_tensor_param(r, &f, tensor->name);
    }
    if (status != SL_OK || !found[5].number) return status;
    r->has_contents |= found[5].n > 0;
    return read_contents(r, &found[5], tensor);
}

static sl_status read_output(struct reading *r, const struct sl_pb_field *output, const char **out)
{
    struct sl_pb_reader reader = sl_pb_read(output->bytes, output->n);
    struct sl_pb_field f;
    sl_status status = output->kind == SL_PB_BYTES ? SL_OK : not_a_message(r, "outputs");
    *out = "";
    while (status == SL_OK && sl_pb_next(&reader, &f)) {
        if (f.number == 1)
            status = read_text(r, &f, "an output's name", out);
        else if (f.number == 2)
            status = check_tensor_param(r, &f, *out);
    }
    return status == SL_OK && reader.bad ? not_a_message(r, "outputs") : status;
}

/* --- the message --- */

static sl_status count(struct reading *r, const uint8_t *bytes, size_t n)
{
    struct sl_pb_reader reader = sl_pb_read(bytes, n);
    struct sl_pb_field f;
    struct counts *c = &r->counts;
    while (sl_pb_next(&reader, &f)) {
        c->n_params += f.number == 4;
        c->n_inputs += f.number == 5;
        c->n_outputs += f.number == 6;
        c->n_raw += f.number == 7;
    }
    if (reader.bad) return not_a_message(r, "it does not parse");
    if (c->n_inputs > TENSORS_MAX || c->n_outputs > TENSORS_MAX)
        return sl_err_set(r->err, SL_INVALID, "more than %d inputs or outputs", TENSORS_MAX);
    if (c->n_params > OIP_PARAMS_MAX)
        return sl_err_set(r->err, SL_INVALID, "more than %d parameters", OIP_PARAMS_MAX);
    if (c->n_raw && c->n_raw != c->n_inputs)
        return sl_err_set(r->err, SL_INVALID,
                          "raw_input_contents holds %zu buffers for %zu inputs: there must be one "
                          "for each, in the same order",
                          c->n_raw, c->n_inputs);
    return SL_OK;
}

static sl_status allocate(struct reading *r)
{
    struct sl_arena *arena = &r->message->arena;
    r->inputs = sl_arena_array(arena, r->counts.n_inputs, sizeof *r->inputs);
    r->outputs = sl_arena_array(arena, r->counts.n_outputs, sizeof *r->outputs);
    r->params = sl_arena_array(arena, r->counts.n_params, sizeof *r->params);
    return r->inputs && r->outputs && r->params ? SL_OK : no_memory(r);
}

static sl_status read_fields(struct reading *r, const uint8_t *bytes, size_t n)
{
    struct oip_infer *infer = &r->message->infer;
    struct sl_pb_reader reader = sl_pb_read(bytes, n);
    struct sl_pb_field f;
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &f)) {
        switch (f.number) {
        case 1: status = read_text(r, &f, "model_name", &infer->model); break;
        case 2: status = read_text(r, &f, "model_version", &infer->version); break;
        case 3: status = read_text(r, &f, "id", &infer->id); break;
        case 4: status = read_param(r, &f, &r->params[infer->n_params++]); break;
        case 5: status = read_input(r, &f, &r->inputs[infer->n_inputs++]); break;
        case 6: status = read_output(r, &f, &r->outputs[infer->n_outputs++]); break;
        default: break;
        }
    }
    return status;
}

static sl_status read_raw(struct reading *r, const uint8_t *bytes, size_t n)
{
    struct sl_pb_reader reader = sl_pb_read(bytes, n);
    struct sl_pb_field f;
    size_t i = 0;
    if (!r->counts.n_raw) return SL_OK;
    if (r->has_contents)
        return sl_err_set(r->err, SL_INVALID,
                          "the inputs hold contents, and raw_input_contents is there too: only "
                          "one of the two can be");
    while (sl_pb_next(&reader, &f)) {
        if (f.number != 7) continue;
        if (f.kind != SL_PB_BYTES) return not_a_message(r, "raw_input_contents");
        r->inputs[i].data = f.n ? f.bytes : NULL;
        r->inputs[i++].n_bytes = f.n;
    }
    return SL_OK;
}

sl_status oip_message_read(struct oip_message *message, const uint8_t *bytes, size_t n,
                           struct sl_err *err)
{
    struct reading r = {.message = message, .err = err};
    struct oip_infer *infer = &message->infer;
    *infer = (struct oip_infer){.model = "", .version = "", .id = ""};
    sl_status status = count(&r, bytes, n);
    if (status == SL_OK) status = allocate(&r);
    if (status == SL_OK) status = read_fields(&r, bytes, n);
    if (status == SL_OK) status = read_raw(&r, bytes, n);
    infer->inputs = r.inputs;
    infer->outputs = r.outputs;
    infer->params = r.params;
    return status;
}

/* --- answers --- */

static void put_param_value(struct sl_pb_writer *w, const struct oip_param *param)
{
    switch (param->type) {
    case OIP_PARAM_BOOL: sl_pb_put_varint(w, 1, param->flag); break;
    case OIP_PARAM_INT: sl_pb_put_varint(w, 2, (uint64_t)param->integer); break;
    case OIP_PARAM_STR: sl_pb_put_bytes(w, 3, param->text, param->n_text); break;
    case OIP_PARAM_NUM: sl_pb_put_double(w, 4, param->number); break;
    }
}

static void put_param_entry(struct sl_pb_writer *w, const struct oip_param *param)
{
    struct sl_pb_writer size = {0};
    put_param_value(&size, param);
    sl_pb_put_text(w, 1, param->name);
    sl_pb_put_head(w, 2, size.n);
    put_param_value(w, param);
}

static void put_param(struct sl_pb_writer *w, const struct oip_param *param)
{
    struct sl_pb_writer size = {0};
    put_param_entry(&size, param);
    sl_pb_put_head(w, 4, size.n);
    put_param_entry(w, param);
}

static void put_dimensions(struct sl_pb_writer *w, const struct tensor *tensor)
{
    for (int32_t i = 0; i < tensor->rank; i++) sl_pb_put_bare(w, (uint64_t)tensor->shape[i]);
}

static void put_output_fields(struct sl_pb_writer *w, const struct tensor *tensor)
{
    struct sl_pb_writer size = {0};
    put_dimensions(&size, tensor);
    sl_pb_put_text(w, 1, tensor->name);
    sl_pb_put_text(w, 2, tensor_type_name(tensor->type));
    if (!tensor->rank) return;
    sl_pb_put_head(w, 3, size.n);
    put_dimensions(w, tensor);
}

static void put_response(struct sl_pb_writer *w, const struct oip_answer *answer, bool streamed)
{
    static const char final_name[] = "triton_final_response";
    const struct oip_param final = {
        .name = final_name, .type = OIP_PARAM_BOOL, .flag = answer->is_last};
    sl_pb_put_text(w, 1, answer->model);
    sl_pb_put_text(w, 2, answer->version);
    sl_pb_put_text(w, 3, answer->id);
    for (size_t i = 0; i < answer->n_params; i++) put_param(w, &answer->params[i]);
    if (streamed) put_param(w, &final);
    for (size_t i = 0; i < answer->n_tensors; i++) {
        struct sl_pb_writer size = {0};
        put_output_fields(&size, &answer->tensors[i]);
        sl_pb_put_head(w, 5, size.n);
        put_output_fields(w, &answer->tensors[i]);
    }
    for (size_t i = 0; i < answer->n_tensors; i++)
        sl_pb_put_bytes(w, 6, answer->tensors[i].data, answer->tensors[i].n_bytes);
}

sl_status oip_message_put(struct sl_buf *out, const struct oip_answer *answer)
{
    struct sl_pb_writer w = {.out = out};
    put_response(&w, answer, false);
    return w.status;
}

sl_status oip_message_put_streamed(struct sl_buf *out, const struct oip_answer *answer)
{
    struct sl_pb_writer size = {0}, w = {.out = out};
    put_response(&size, answer, true);
    sl_pb_put_head(&w, 2, size.n);
    put_response(&w, answer, true);
    return w.status;
}

sl_status oip_message_put_error(struct sl_buf *out, const char *id, const char *error)
{
    struct sl_pb_writer w = {.out = out};
    const struct oip_answer answer = {.model = "", .version = "", .id = id, .is_last = true};
    sl_pb_put_text(&w, 1, error);
    if (w.status != SL_OK) return w.status;
    return *id ? oip_message_put_streamed(out, &answer) : SL_OK;
}
