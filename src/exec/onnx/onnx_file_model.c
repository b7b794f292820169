/* onnx_file_model.c: ModelProto, GraphProto, NodeProto, AttributeProto, FunctionProto: the walk
 * over all of a model. Bytes are looked at once a level, so the time is linear in the file's
 * size. */
#include "exec/onnx/onnx_file_int.h"
#include <inttypes.h>
#include <string.h>

enum {
    MODEL_IR_VERSION = 1,
    MODEL_PRODUCER = 2,
    MODEL_PRODUCER_VERSION = 3,
    MODEL_DOMAIN = 4,
    MODEL_VERSION = 5,
    MODEL_DOC = 6,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    MODEL_METADATA = 14,
    MODEL_TRAINING = 20,
    MODEL_FUNCTION = 25
};
enum { OPSET_DOMAIN = 1, OPSET_VERSION = 2 };
enum { PAIR_KEY = 1, PAIR_VALUE = 2 };
enum {
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    GRAPH_SPARSE_INITIALIZER = 15
};
enum { NODE_NAME = 3, NODE_OP_TYPE = 4, NODE_ATTRIBUTE = 5, NODE_DOMAIN = 7 };
enum {
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_TENSOR = 5,
    ATTRIBUTE_GRAPH = 6,
    ATTRIBUTE_TENSORS = 10,
    ATTRIBUTE_GRAPHS = 11,
    ATTRIBUTE_SPARSE = 22,
    ATTRIBUTE_SPARSES = 23
};
enum { FUNCTION_NODE = 7, FUNCTION_ATTRIBUTE = 11 };
enum { TRAINING_INITIALIZATION = 1, TRAINING_ALGORITHM = 2 };

#define NAME_SHOWN 100 /* bytes of a name in an error */

static int shown(struct onnx_str name)
{
    return name.len < NAME_SHOWN ? (int)name.len : NAME_SHOWN;
}

static sl_status read_graph(struct onnx_file *file, struct onnx_str message, int depth,
                            struct sl_err *err);

static sl_status read_attribute_field(struct onnx_file *file, const struct sl_pb_field *field,
                                      int depth, struct sl_err *err)
{
    struct onnx_str bytes;
    sl_status status = onnx_get_bytes(field, "value", &bytes, err);
    if (status != SL_OK) return status;
    switch (field->number) {
    case ATTRIBUTE_TENSOR:
    case ATTRIBUTE_TENSORS: return onnx_read_tensor(file, bytes, false, err);
    case ATTRIBUTE_SPARSE:
    case ATTRIBUTE_SPARSES: return onnx_read_sparse(file, bytes, false, err);
    default: return read_graph(file, bytes, depth + 1, err);
    }
}

static sl_status read_attribute(struct onnx_file *file, struct onnx_str message, int depth,
                                struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_str name = {"", 0};
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        switch (field.number) {
        case ATTRIBUTE_NAME: status = onnx_get_bytes(&field, "name", &name, err); break;
        case ATTRIBUTE_TENSOR:
        case ATTRIBUTE_TENSORS:
        case ATTRIBUTE_SPARSE:
        case ATTRIBUTE_SPARSES:
        case ATTRIBUTE_GRAPH:
        case ATTRIBUTE_GRAPHS: status = read_attribute_field(file, &field, depth, err); break;
        default: break;
        }
    }
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status != SL_OK && depth == 0)
        (void)sl_err_prefix(err, "attribute \"%.*s\"", shown(name), name.s);
    return status;
}

/* "ai.onnx" is the long name of ONNX's own domain. */
static struct onnx_str plain_domain(struct onnx_str domain)
{
    bool own = domain.len == 7 && memcmp(domain.s, "ai.onnx", 7) == 0;
    return own || !domain.s ? (struct onnx_str){"", 0} : domain;
}

static sl_status add_operator(struct onnx_file *file, const char *key, size_t n_key,
                              const struct onnx_operator *op, struct sl_err *err)
{
    sl_status status = onnx_array_add(&file->operators, op, sizeof *op, ONNX_OPERATORS_MAX,
                                      "kinds of operators", err);
    if (status != SL_OK) return status;
    const char *kept = sl_arena_strndup(&file->operator_keys, key, n_key);
    status = kept
                 ? sl_strmap_put(&file->operator_index, kept, n_key, (int32_t)file->operators.n - 1)
                 : SL_NOMEM;
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "operators");
}

static sl_status count_node(struct onnx_file *file, struct onnx_str domain, struct onnx_str name,
                            struct sl_err *err)
{
    char key[2 * ONNX_OPERATOR_NAME_MAX + 2];
    if (name.len == 0) return sl_err_set(err, SL_CORRUPT, "op_type: missing");
    if (file->info.n_nodes++ == ONNX_NODES_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %u nodes", ONNX_NODES_MAX);
    domain = plain_domain(domain);
    memcpy(key, domain.s, domain.len);
    key[domain.len] = '\0'; /* no name holds one */
    memcpy(key + domain.len + 1, name.s, name.len);
    size_t n_key = domain.len + 1 + name.len;
    int32_t at = sl_strmap_get(&file->operator_index, key, n_key, -1);
    if (at >= 0) {
        ((struct onnx_operator *)file->operators.v)[at].n_nodes++;
        return SL_OK;
    }
    const struct onnx_operator fresh = {domain, name, 1};
    return add_operator(file, key, n_key, &fresh, err);
}

static sl_status read_node(struct onnx_file *file, struct onnx_str message, int depth,
                           struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_str name = {"", 0}, op_type = {"", 0}, domain = {"", 0}, bytes;
    const size_t n_max = ONNX_OPERATOR_NAME_MAX;
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number == NODE_NAME) {
            status = onnx_get_bytes(&field, "name", &name, err);
        } else if (field.number == NODE_OP_TYPE) {
            status = onnx_get_text(&field, "op_type", n_max, &op_type, err);
        } else if (field.number == NODE_DOMAIN) {
            status = onnx_get_text(&field, "domain", n_max, &domain, err);
        } else if (field.number == NODE_ATTRIBUTE) {
            status = onnx_get_bytes(&field, "attribute", &bytes, err);
            if (status == SL_OK) status = read_attribute(file, bytes, depth, err);
        }
    }
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status == SL_OK) status = count_node(file, domain, op_type, err);
    /* Of a node in a node's graph only the outermost is named: the message is not endless. */
    if (status != SL_OK && depth == 0)
        (void)sl_err_prefix(err, "node \"%.*s\" (%.*s)", shown(name), name.s, shown(op_type),
                            op_type.s);
    return status;
}

static sl_status read_graph_field(struct onnx_file *file, const struct sl_pb_field *field,
                                  int depth, struct sl_err *err)
{
    struct onnx_str bytes;
    sl_status status = onnx_get_bytes(field, "node or initializer", &bytes, err);
    if (status != SL_OK) return status;
    if (field->number == GRAPH_NODE) return read_node(file, bytes, depth, err);
    status = field->number == GRAPH_INITIALIZER ? onnx_read_tensor(file, bytes, true, err)
                                                : onnx_read_sparse(file, bytes, true, err);
    return status;
}

/* Notes the names of the main graph's initializers: all that are new since `from`. */
static sl_status index_initializers(struct onnx_file *file, size_t from, struct sl_err *err)
{
    const struct onnx_tensor *v = file->tensors.v;
    for (size_t i = from; i < file->tensors.n; i++) {
        if (!v[i].is_initializer || !v[i].name.s) continue;
        sl_status status =
            sl_strmap_put(&file->initializers, v[i].name.s, v[i].name.len, (int32_t)i);
        if (status != SL_OK) return sl_err_set(err, status, "initializers");
    }
    return SL_OK;
}

/* The main graph is depth 0. */
static sl_status read_graph(struct onnx_file *file, struct onnx_str message, int depth,
                            struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    sl_status status = SL_OK;
    if (depth > ONNX_DEPTH_MAX)
        return sl_err_set(err, SL_LIMIT, "graphs nested deeper than %d", ONNX_DEPTH_MAX);
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        size_t n_tensors = file->tensors.n;
        if (field.number == GRAPH_NAME && depth == 0)
            status = onnx_get_bytes(&field, "name", &file->info.graph_name, err);
        if (field.number != GRAPH_NODE && field.number != GRAPH_INITIALIZER &&
            field.number != GRAPH_SPARSE_INITIALIZER)
            continue;
        status = read_graph_field(file, &field, depth, err);
        if (status == SL_OK && depth == 0 && field.number != GRAPH_NODE)
            status = index_initializers(file, n_tensors, err);
    }
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status != SL_OK && depth <= 1) (void)sl_err_prefix(err, depth ? "subgraph" : "graph");
    return status;
}

static bool has_name(const struct onnx_array *values, const struct onnx_str *name)
{
    const struct onnx_value *v = values->v;
    for (size_t i = 0; i < values->n; i++) {
        if (v[i].name.len == name->len && memcmp(v[i].name.s, name->s, name->len) == 0) return true;
    }
    return false;
}

static sl_status add_value(struct onnx_file *file, const struct sl_pb_field *field,
                           struct sl_err *err)
{
    bool is_input = field->number == GRAPH_INPUT;
    struct onnx_array *array = is_input ? &file->inputs : &file->outputs;
    struct onnx_value value;
    struct onnx_str bytes;
    sl_status status = onnx_get_bytes(field, "value", &bytes, err);
    if (status == SL_OK) status = onnx_read_value(bytes, &value, err);
    if (status != SL_OK) return status;
    /* Files of IR version 3 list their weights among the inputs. */
    if (is_input && sl_strmap_get(&file->initializers, value.name.s, value.name.len, -1) >= 0)
        return SL_OK;
    if (has_name(array, &value.name))
        return sl_err_set(err, SL_CORRUPT, "\"%.*s\": twice", shown(value.name), value.name.s);
    return onnx_array_add(array, &value, sizeof value, TENSORS_MAX, "of them", err);
}

/* The main graph's inputs and outputs, once its initializers are known. */
static sl_status read_signature(struct onnx_file *file, struct onnx_str graph, struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(graph);
    struct sl_pb_field field;
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number != GRAPH_INPUT && field.number != GRAPH_OUTPUT) continue;
        status = add_value(file, &field, err);
        if (status != SL_OK)
            (void)sl_err_prefix(err, "graph: %s", field.number == GRAPH_INPUT ? "input" : "output");
    }
    return status;
}

static sl_status read_opset(struct onnx_file *file, struct onnx_str message, struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_opset opset = {{"", 0}, 0};
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number == OPSET_DOMAIN)
            status = onnx_get_text(&field, "domain", ONNX_OPERATOR_NAME_MAX, &opset.domain, err);
        else if (field.number == OPSET_VERSION)
            status = onnx_get_int(&field, "version", &opset.version, err);
    }
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status != SL_OK) return status;
    opset.domain = plain_domain(opset.domain);
    return onnx_array_add(&file->opsets, &opset, sizeof opset, ONNX_OPSETS_MAX, "of them", err);
}

static sl_status read_pair(struct onnx_file *file, struct onnx_str message, struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_pair pair = {{"", 0}, {"", 0}};
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number == PAIR_KEY) status = onnx_get_bytes(&field, "key", &pair.key, err);
        if (field.number == PAIR_VALUE) status = onnx_get_bytes(&field, "value", &pair.value, err);
    }
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status != SL_OK) return status;
    return onnx_array_add(&file->metadata, &pair, sizeof pair, ONNX_METADATA_MAX, "of them", err);
}

static sl_status read_function(struct onnx_file *file, struct onnx_str message, struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_str bytes;
    sl_status status = SL_OK;
    if (file->info.n_functions++ == ONNX_FUNCTIONS_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %d", ONNX_FUNCTIONS_MAX);
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number != FUNCTION_NODE && field.number != FUNCTION_ATTRIBUTE) continue;
        status = onnx_get_bytes(&field, "node or attribute", &bytes, err);
        if (status == SL_OK)
            status = field.number == FUNCTION_NODE ? read_node(file, bytes, 0, err)
                                                   : read_attribute(file, bytes, 0, err);
    }
    return status == SL_OK ? onnx_reader_done(&reader, err) : status;
}

/* Graphs that are run to train; they are never run here, and checked all the same. */
static sl_status read_training(struct onnx_file *file, struct onnx_str message, struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_str bytes;
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number != TRAINING_INITIALIZATION && field.number != TRAINING_ALGORITHM) continue;
        status = onnx_get_bytes(&field, "graph", &bytes, err);
        if (status == SL_OK) status = read_graph(file, bytes, 1, err);
    }
    return status == SL_OK ? onnx_reader_done(&reader, err) : status;
}

typedef sl_status read_fn(struct onnx_file *file, struct onnx_str message, struct sl_err *err);

static sl_status read_part(struct onnx_file *file, const struct sl_pb_field *field,
                           const char *name, read_fn *read, struct sl_err *err)
{
    struct onnx_str bytes;
    sl_status status = onnx_get_bytes(field, name, &bytes, err);
    if (status != SL_OK) return status;
    status = read(file, bytes, err);
    if (status != SL_OK) (void)sl_err_prefix(err, "%s", name);
    return status;
}

static sl_status read_model_field(struct onnx_file *file, const struct sl_pb_field *field,
                                  struct onnx_str *graph, struct sl_err *err)
{
    struct onnx_info *info = &file->info;
    switch (field->number) {
    case MODEL_IR_VERSION: return onnx_get_int(field, "ir_version", &info->ir_version, err);
    case MODEL_PRODUCER: return onnx_get_bytes(field, "producer_name", &info->producer, err);
    case MODEL_PRODUCER_VERSION:
        return onnx_get_bytes(field, "producer_version", &info->producer_version, err);
    case MODEL_DOMAIN: return onnx_get_bytes(field, "domain", &info->domain, err);
    case MODEL_VERSION: return onnx_get_int(field, "model_version", &info->model_version, err);
    case MODEL_DOC: return onnx_get_bytes(field, "doc_string", &info->doc, err);
    case MODEL_GRAPH:
        if (graph->s) return sl_err_set(err, SL_CORRUPT, "graph: two of them");
        return onnx_get_bytes(field, "graph", graph, err);
    case MODEL_OPSET: return read_part(file, field, "opset_import", read_opset, err);
    case MODEL_METADATA: return read_part(file, field, "metadata_props", read_pair, err);
    case MODEL_TRAINING: return read_part(file, field, "training_info", read_training, err);
    case MODEL_FUNCTION: return read_part(file, field, "functions", read_function, err);
    default: return SL_OK;
    }
}

static sl_status start_maps(struct onnx_file *file, struct sl_err *err)
{
    sl_status status = sl_strmap_init(&file->initializers, 0);
    if (status == SL_OK) status = sl_strmap_init(&file->operator_index, 0);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "index");
}

static void find_main_type(struct onnx_file *file)
{
    enum onnx_type most = ONNX_UNDEFINED;
    for (int type = 1; type < ONNX_TYPE_COUNT; type++) {
        if (file->type_bytes[type] > file->type_bytes[most]) most = (enum onnx_type)type;
    }
    file->info.main_type = most;
}

sl_status onnx_read_model(struct onnx_file *file, struct sl_err *err)
{
    struct sl_pb_reader reader =
        onnx_reader_of((struct onnx_str){(const char *)file->bytes, file->n_bytes});
    struct sl_pb_field field;
    struct onnx_str graph = {0};
    sl_status status = start_maps(file, err);
    while (status == SL_OK && sl_pb_next(&reader, &field))
        status = read_model_field(file, &field, &graph, err);
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status != SL_OK) return status;
    if (file->info.ir_version < 1)
        return sl_err_set(err, SL_CORRUPT, "ir_version: missing; this is no ONNX model");
    if (!graph.s) return sl_err_set(err, SL_CORRUPT, "graph: missing");
    status = read_graph(file, graph, 0, err);
    if (status == SL_OK) status = read_signature(file, graph, err);
    file->info.file_bytes = file->n_bytes;
    find_main_type(file);
    return status;
}
