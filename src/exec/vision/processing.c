#include "exec/vision/processing.h"
#include "base/suggest.h"
#include "exec/vision/processing_fields.h"
#include <stdio.h>
#include <string.h>

#define LABEL_BYTES_MAX 1024
#define CHOICES_TEXT_MAX 128

/* What is being read, and whom to tell. */
struct reading {
    struct processing *out;
    struct sl_err *err;
};

void processing_init(struct processing *out)
{
    *out = (struct processing){
        .prepare = {.resize = PREPARE_STRETCH,
                    .place = PREPARE_CENTER,
                    .resample = RESAMPLE_BILINEAR,
                    .antialias = true,
                    .pad = 114,
                    .type = TENSOR_FP32,
                    .scale = 1,
                    .std = {1, 1, 1},
                    .background = {255, 255, 255}},
        .top_k = PROCESSING_TOP_K,
        .detect = {.strides = {8, 16, 32},
                   .n_strides = 3,
                   .score_min = 0.3f,
                   .iou_max = 0.45f,
                   .n_boxes_max = 100},
    };
    sl_arena_init(&out->strings, PROCESSING_BYTES_MAX);
}

void processing_done(struct processing *processing)
{
    sl_arena_done(&processing->strings);
    *processing = (struct processing){0};
}

/* --- one field --- */

static void *member_of(const struct processing *processing, const struct processing_field *field)
{
    return (char *)processing + field->offset;
}

/* "processing: input.width is a string; ..." */
static sl_status wrong_type(const struct reading *r, const struct processing_field *field,
                            const struct sl_json_value *value, const char *wanted)
{
    return sl_err_set(r->err, SL_INVALID, "processing: %s.%s is %s; it must be %s", field->section,
                      field->name, sl_json_type_name(sl_json_type(value)), wanted);
}

static sl_status wrong_choice(const struct reading *r, const struct processing_field *field,
                              const char *given)
{
    char text[CHOICES_TEXT_MAX] = "";
    for (const struct processing_choice *c = field->choices; c->name; c++) {
        size_t n = strlen(text);
        const char *before = c == field->choices ? "" : c[1].name ? ", " : " or ";
        (void)snprintf(text + n, sizeof text - n, "%s%s", before, c->name);
    }
    return sl_err_set(r->err, SL_INVALID, "processing: %s.%s is \"%.40s\"; it may be %s",
                      field->section, field->name, given, text);
}

static sl_status read_enum(const struct reading *r, const struct processing_field *field,
                           const struct sl_json_value *value)
{
    const char *text = sl_json_to_str(value, NULL, NULL);
    if (!text) return wrong_type(r, field, value, "a string");
    for (const struct processing_choice *c = field->choices; c->name; c++) {
        if (strcmp(c->name, text) != 0) continue;
        *(unsigned *)member_of(r->out, field) = c->value;
        return SL_OK;
    }
    return wrong_choice(r, field, text);
}

/* A number within the field's bounds. */
static sl_status read_number(const struct reading *r, const struct processing_field *field,
                             const struct sl_json_value *value, double *out)
{
    bool is_int = sl_json_is(value, SL_JSON_INT);
    bool whole =
        field->type != FIELD_NUM && field->type != FIELD_FLOAT && field->type != FIELD_NUMS3;
    if (!is_int && (whole || !sl_json_is(value, SL_JSON_NUM)))
        return wrong_type(r, field, value, whole ? "an integer" : "a number");
    *out = sl_json_to_num(value, 0);
    if (*out >= field->min && *out <= field->max) return SL_OK;
    return sl_err_set(r->err, SL_INVALID, "processing: %s.%s is %g; it must be %g to %g",
                      field->section, field->name, *out, field->min, field->max);
}

static sl_status read_scalar(const struct reading *r, const struct processing_field *field,
                             const struct sl_json_value *value)
{
    void *member = member_of(r->out, field);
    double v;
    sl_status status = read_number(r, field, value, &v);
    if (status != SL_OK) return status;
    if (field->type == FIELD_INT)
        *(int32_t *)member = (int32_t)v;
    else if (field->type == FIELD_FLOAT)
        *(float *)member = (float)v;
    else
        *(double *)member = v;
    return SL_OK;
}

static sl_status read_three(const struct reading *r, const struct processing_field *field,
                            const struct sl_json_value *value)
{
    void *member = member_of(r->out, field);
    bool many = sl_json_is(value, SL_JSON_ARRAY);
    if (many && sl_json_size(value) != 3)
        return sl_err_set(r->err, SL_INVALID,
                          "processing: %s.%s has %zu numbers; it must have 3, one a channel",
                          field->section, field->name, sl_json_size(value));
    for (size_t i = 0; i < 3; i++) {
        double v;
        sl_status status = read_number(r, field, many ? sl_json_at(value, i) : value, &v);
        if (status != SL_OK) return status;
        if (field->type == FIELD_NUMS3)
            ((double *)member)[i] = v;
        else
            ((uint8_t *)member)[i] = (uint8_t)v;
    }
    return SL_OK;
}

static sl_status read_strides(const struct reading *r, const struct processing_field *field,
                              const struct sl_json_value *value)
{
    struct detect *detect = &r->out->detect;
    size_t n = sl_json_size(value);
    if (!sl_json_is(value, SL_JSON_ARRAY) || n < 1 || n > DETECT_STRIDES_MAX)
        return sl_err_set(r->err, SL_INVALID, "processing: %s.%s must be an array of 1 to %d",
                          field->section, field->name, DETECT_STRIDES_MAX);
    for (size_t i = 0; i < n; i++) {
        double v;
        sl_status status = read_number(r, field, sl_json_at(value, i), &v);
        if (status != SL_OK) return status;
        detect->strides[i] = (int32_t)v;
    }
    detect->n_strides = (int32_t)n;
    return SL_OK;
}

static sl_status read_string(const struct reading *r, const struct processing_field *field,
                             const struct sl_json_value *value)
{
    size_t n;
    const char *text = sl_json_to_str(value, NULL, &n);
    if (!text) return wrong_type(r, field, value, "a string");
    if (n == 0 || n > TENSOR_NAME_MAX || memchr(text, 0, n))
        return sl_err_set(r->err, SL_INVALID, "processing: %s.%s must have 1 to %d bytes",
                          field->section, field->name, TENSOR_NAME_MAX);
    const char *copy = sl_arena_strndup(&r->out->strings, text, n);
    if (!copy) return sl_err_set(r->err, SL_NOMEM, "processing: %s", field->name);
    *(const char **)member_of(r->out, field) = copy;
    return SL_OK;
}

static sl_status read_field(const struct reading *r, const struct processing_field *field,
                            const struct sl_json_value *value)
{
    switch (field->type) {
    case FIELD_ENUM: return read_enum(r, field, value);
    case FIELD_INT:
    case FIELD_NUM:
    case FIELD_FLOAT: return read_scalar(r, field, value);
    case FIELD_BOOL:
        if (!sl_json_is(value, SL_JSON_BOOL)) return wrong_type(r, field, value, "true or false");
        *(bool *)member_of(r->out, field) = sl_json_to_bool(value, false);
        return SL_OK;
    case FIELD_STR: return read_string(r, field, value);
    case FIELD_NUMS3:
    case FIELD_LEVELS3: return read_three(r, field, value);
    case FIELD_STRIDES: break;
    }
    return read_strides(r, field, value);
}

/* --- a section --- */

static const struct processing_field *find_field(const char *section, const char *name)
{
    for (size_t i = 0; i < processing_n_fields; i++) {
        const struct processing_field *f = &processing_fields[i];
        if (strcmp(f->section, section) == 0 && strcmp(f->name, name) == 0) return f;
    }
    return NULL;
}

static sl_status unknown_field(const struct reading *r, const char *section, const char *name)
{
    const char *nearest = NULL;
    int least = SL_SUGGEST_DISTANCE + 1;
    for (size_t i = 0; i < processing_n_fields; i++) {
        const struct processing_field *f = &processing_fields[i];
        int d = sl_edit_distance(name, strlen(name), f->name, strlen(f->name));
        if (strcmp(f->section, section) != 0 || d >= least) continue;
        least = d;
        nearest = f->name;
    }
    return sl_err_set(r->err, SL_INVALID, "processing: %s has no field \"%.40s\"%s%s%s", section,
                      name, nearest ? "; did you mean \"" : "", nearest ? nearest : "",
                      nearest ? "\"?" : "");
}

static sl_status read_section(const struct reading *r, const char *section,
                              const struct sl_json_value *object)
{
    const struct sl_json_value *value;
    const char *key;
    void *iter = NULL;
    size_t n;
    if (!sl_json_is(object, SL_JSON_OBJECT))
        return sl_err_set(r->err, SL_INVALID, "processing: %s is %s; it must be an object", section,
                          sl_json_type_name(sl_json_type(object)));
    while (sl_json_next(object, &iter, &key, &n, &value)) {
        const struct processing_field *field = find_field(section, key);
        sl_status status = field ? read_field(r, field, value) : unknown_field(r, section, key);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

/* --- labels --- */

static sl_status too_many_labels(struct sl_err *err, size_t n)
{
    return sl_err_set(err, SL_LIMIT, "processing: %zu labels; %d are the most taken", n,
                      PROCESSING_LABELS_MAX);
}

static sl_status no_room(struct sl_err *err)
{
    return sl_err_set(err, SL_NOMEM, "processing: the labels take more than %u bytes",
                      PROCESSING_BYTES_MAX);
}

/* Labels go to terminals: none can move the cursor. */
static const char *copy_label(struct processing *processing, const char *text, size_t n)
{
    char *copy = sl_arena_strndup(&processing->strings, text, n);
    for (size_t i = 0; copy && i < n; i++) {
        if ((unsigned char)copy[i] < ' ' || copy[i] == 0x7f) copy[i] = '?';
    }
    return copy;
}

sl_status processing_read_labels(struct processing *processing, const struct sl_json_value *array,
                                 struct sl_err *err)
{
    size_t n = sl_json_size(array), length;
    if (!sl_json_is(array, SL_JSON_ARRAY))
        return sl_err_set(err, SL_INVALID, "processing: labels is %s; it must be an array",
                          sl_json_type_name(sl_json_type(array)));
    if (n > PROCESSING_LABELS_MAX) return too_many_labels(err, n);
    const char **labels = sl_arena_array(&processing->strings, n, sizeof *labels);
    if (!labels) return no_room(err);
    for (size_t i = 0; i < n; i++) {
        const char *text = sl_json_to_str(sl_json_at(array, i), NULL, &length);
        if (!text || length > LABEL_BYTES_MAX)
            return sl_err_set(err, SL_INVALID,
                              "processing: labels[%zu] must be a string of at most %d bytes", i,
                              LABEL_BYTES_MAX);
        labels[i] = copy_label(processing, text, length);
        if (!labels[i]) return no_room(err);
    }
    processing->labels = labels;
    processing->n_labels = n;
    return SL_OK;
}

static size_t count_lines(const char *text, size_t n)
{
    size_t n_lines = n > 0;
    for (size_t i = 0; i < n; i++) n_lines += text[i] == '\n' && i + 1 < n;
    return n_lines;
}

sl_status processing_set_labels(struct processing *processing, const char *text, size_t n,
                                struct sl_err *err)
{
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) n--;
    size_t n_lines = count_lines(text, n);
    if (n_lines > PROCESSING_LABELS_MAX) return too_many_labels(err, n_lines);
    const char **labels = sl_arena_array(&processing->strings, n_lines, sizeof *labels);
    if (!labels) return no_room(err);
    const char *at = text, *end = text + n;
    for (size_t i = 0; i < n_lines; i++) {
        const char *next = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((next ? next : end) - at);
        if (length > 0 && at[length - 1] == '\r') length--;
        labels[i] = copy_label(processing, at, length);
        if (!labels[i]) return no_room(err);
        at = next ? next + 1 : end;
    }
    processing->labels = labels;
    processing->n_labels = n_lines;
    return SL_OK;
}

/* --- all of it --- */

/* A field that would never be looked at is a mistake somebody wants to know of. */
static sl_status check_belonging(const struct reading *r, const struct sl_json_value *root)
{
    for (size_t i = 0; i < processing_n_fields; i++) {
        const struct processing_field *f = &processing_fields[i];
        bool given = sl_json_get(sl_json_get(root, f->section), f->name) != NULL;
        if (given && !(f->outputs & FIELD_OF(r->out->output)))
            return sl_err_set(r->err, SL_INVALID,
                              "processing: %s.%s does not go with this output.kind", f->section,
                              f->name);
    }
    return SL_OK;
}

static sl_status check_whole(const struct reading *r, const struct sl_json_value *root)
{
    const struct prepare *p = &r->out->prepare;
    bool keeps = p->resize == PREPARE_KEEP;
    if (!keeps && (p->width == 0 || p->height == 0))
        return sl_err_set(r->err, SL_INVALID,
                          "processing: input.width and input.height are needed (or input.resize "
                          "\"keep\" for a model that takes any size)");
    if (keeps && (p->width || p->height))
        return sl_err_set(r->err, SL_INVALID,
                          "processing: input.resize \"keep\" leaves no room for a width or height");
    if (keeps && r->out->output == PROCESSING_DETECTION && r->out->detect.decoder == DETECT_YOLOX)
        return sl_err_set(r->err, SL_INVALID,
                          "processing: decoder \"yolox\" needs an input of fixed size");
    if (p->shorter && p->resize != PREPARE_CROP)
        return sl_err_set(r->err, SL_INVALID,
                          "processing: input.shorter goes with input.resize \"crop\"");
    r->out->detect.width = p->width;
    r->out->detect.height = p->height;
    return check_belonging(r, root);
}

static sl_status read_all(const struct reading *r, const struct sl_json_value *root)
{
    const struct sl_json_value *value;
    sl_status status = SL_OK;
    const char *key;
    void *iter = NULL;
    size_t n;
    if (!sl_json_is(root, SL_JSON_OBJECT))
        return sl_err_set(r->err, SL_INVALID, "processing is %s; it must be an object",
                          sl_json_type_name(sl_json_type(root)));
    while (status == SL_OK && sl_json_next(root, &iter, &key, &n, &value)) {
        if (strcmp(key, "input") == 0 || strcmp(key, "output") == 0)
            status = read_section(r, key, value);
        else if (strcmp(key, "labels") == 0)
            status = processing_read_labels(r->out, value, r->err);
        else
            status =
                sl_err_set(r->err, SL_INVALID,
                           "processing has no \"%.40s\"; it has input, output and labels", key);
    }
    return status == SL_OK ? check_whole(r, root) : status;
}

sl_status processing_parse(const struct sl_json_value *value, struct processing *out,
                           struct sl_err *err)
{
    struct reading r = {out, err};
    processing_init(out);
    sl_status status = read_all(&r, value);
    if (status != SL_OK) processing_done(out);
    return status;
}

/* --- writing --- */

static void write_array(const struct processing_field *field, const void *member, size_t n,
                        struct sl_json *json)
{
    sl_json_array(json);
    for (size_t i = 0; i < n; i++) {
        if (field->type == FIELD_NUMS3)
            sl_json_num(json, ((const double *)member)[i]);
        else if (field->type == FIELD_LEVELS3)
            sl_json_int(json, ((const uint8_t *)member)[i]);
        else
            sl_json_int(json, ((const int32_t *)member)[i]);
    }
    sl_json_array_end(json);
}

static const char *choice_name(const struct processing_field *field, unsigned value)
{
    const struct processing_choice *c = field->choices;
    while (c[1].name && c->value != value) c++;
    return c->name;
}

static void write_field(const struct processing *p, const struct processing_field *field,
                        struct sl_json *json)
{
    const void *member = member_of(p, field);
    const char *text = field->type == FIELD_STR ? *(const char *const *)member : NULL;
    if (field->type == FIELD_STR && !text) return;
    sl_json_key(json, field->name);
    switch (field->type) {
    case FIELD_ENUM: sl_json_str(json, choice_name(field, *(const unsigned *)member)); break;
    case FIELD_INT: sl_json_int(json, *(const int32_t *)member); break;
    case FIELD_NUM: sl_json_num(json, *(const double *)member); break;
    case FIELD_FLOAT: /* as it was read: a float has seven digits */
        sl_json_num(json, (double)(int64_t)(*(const float *)member * 1e6 + 0.5) / 1e6);
        break;
    case FIELD_BOOL: sl_json_bool(json, *(const bool *)member); break;
    case FIELD_STR: sl_json_str(json, text); break;
    case FIELD_NUMS3:
    case FIELD_LEVELS3: write_array(field, member, 3, json); break;
    case FIELD_STRIDES: write_array(field, member, (size_t)p->detect.n_strides, json); break;
    }
}

/* Fields that say nothing about this input are left out. */
static bool is_of_use(const struct processing *p, const struct processing_field *field)
{
    const struct prepare *prepare = &p->prepare;
    const char *name = field->name;
    if (!(field->outputs & FIELD_OF(p->output))) return false;
    if (strcmp(name, "width") == 0 || strcmp(name, "height") == 0)
        return prepare->resize != PREPARE_KEEP;
    if (strcmp(name, "shorter") == 0) return prepare->shorter != 0;
    if (strcmp(name, "place") == 0 || strcmp(name, "pad") == 0)
        return prepare->resize == PREPARE_LETTERBOX;
    if (strcmp(name, "strides") == 0) return p->detect.decoder == DETECT_YOLOX;
    return true;
}

static void write_section(const struct processing *p, const char *section, struct sl_json *json)
{
    sl_json_key(json, section);
    sl_json_object(json);
    for (size_t i = 0; i < processing_n_fields; i++) {
        const struct processing_field *f = &processing_fields[i];
        if (strcmp(f->section, section) == 0 && is_of_use(p, f)) write_field(p, f, json);
    }
    sl_json_object_end(json);
}

void processing_write(const struct processing *processing, struct sl_json *json)
{
    sl_json_object(json);
    write_section(processing, "input", json);
    write_section(processing, "output", json);
    if (processing->n_labels > 0) {
        sl_json_key(json, "labels");
        sl_json_array(json);
        for (size_t i = 0; i < processing->n_labels; i++) sl_json_str(json, processing->labels[i]);
        sl_json_array_end(json);
    }
    sl_json_object_end(json);
}
