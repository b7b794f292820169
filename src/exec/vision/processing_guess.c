/* processing_guess.c: a processing held against a model's signature, and one proposed for it. */
#include "exec/vision/processing.h"
#include "base/checked.h"
#include <string.h>

#define SIDE_DEFAULT 224  /* ImageNet's, where the model says any */
#define SIDE_SMALL_MAX 64 /* CIFAR, MNIST and their like: pictures without a border to crop */
#define CROP_SHARE (256 / 224.0)

/* --- which tensors --- */

static const struct tensor_spec *only_required(const struct tensor_signature *signature)
{
    const struct tensor_spec *found = NULL;
    for (size_t i = 0; i < signature->n_inputs; i++) {
        if (signature->inputs[i].optional) continue;
        if (found) return NULL;
        found = &signature->inputs[i];
    }
    return found;
}

const struct tensor_spec *processing_input_of(const struct processing *processing,
                                              const struct tensor_signature *signature)
{
    if (!processing->input_tensor) return only_required(signature);
    int32_t at = tensor_spec_find(signature->inputs, signature->n_inputs, processing->input_tensor);
    return at < 0 ? NULL : &signature->inputs[at];
}

const struct tensor_spec *processing_output_of(const struct processing *processing,
                                               const struct tensor_signature *signature)
{
    if (!processing->output_tensor) return signature->n_outputs ? &signature->outputs[0] : NULL;
    int32_t at =
        tensor_spec_find(signature->outputs, signature->n_outputs, processing->output_tensor);
    return at < 0 ? NULL : &signature->outputs[at];
}

/* --- check --- */

static bool may_be(int64_t dimension, int64_t wanted)
{
    return dimension < 0 || wanted == 0 || dimension == wanted;
}

/* Where height, width and channels stand. */
struct places {
    int height, width, channels;
};

static struct places places_of(enum prepare_layout layout)
{
    return layout == PREPARE_NCHW ? (struct places){2, 3, 1} : (struct places){1, 2, 3};
}

static sl_status check_input(const struct processing *p, const struct tensor_spec *spec,
                             struct sl_err *err)
{
    char text[TENSOR_SHAPE_TEXT_MAX];
    struct places at = places_of(p->prepare.layout);
    int64_t n_channels = p->prepare.channels == PREPARE_GRAY ? 1 : 3;
    if (spec->type != p->prepare.type)
        return sl_err_set(err, SL_INVALID,
                          "processing: input.type is %s where the model's input \"%.80s\" takes %s",
                          tensor_type_name(p->prepare.type), spec->name,
                          tensor_type_name(spec->type));
    bool fits = spec->rank < 0 || (spec->rank == 4 && may_be(spec->shape[0], 1) &&
                                   may_be(spec->shape[at.height], p->prepare.height) &&
                                   may_be(spec->shape[at.width], p->prepare.width) &&
                                   may_be(spec->shape[at.channels], n_channels));
    if (fits) return SL_OK;
    return sl_err_set(err, SL_INVALID,
                      "processing: the image becomes %s with height %d, width %d and %d channels "
                      "where the model's input \"%.80s\" takes %s",
                      p->prepare.layout == PREPARE_NCHW ? "NCHW" : "NHWC", (int)p->prepare.height,
                      (int)p->prepare.width, (int)n_channels, spec->name,
                      tensor_shape_text(spec->shape, spec->rank, text));
}

/* Classes that the output tells apart; 0: it does not say. */
static int64_t n_classes_of(const struct processing *p, const struct tensor_spec *spec)
{
    int64_t n = 1;
    if (spec->rank < 1) return 0;
    if (p->output == PROCESSING_CLASSIFICATION) {
        for (int32_t i = spec->rank > 1; i < spec->rank; i++) {
            if (spec->shape[i] < 0 || !sl_mul_i64(n, spec->shape[i], &n)) return 0;
        }
        return n;
    }
    int column = p->detect.decoder == DETECT_YOLOV8 ? 1 : 2;
    if (spec->rank != 3 || p->detect.decoder == DETECT_BOXES || spec->shape[column] < 0) return 0;
    return spec->shape[column] - (p->detect.decoder == DETECT_YOLOV8 ? 4 : 5);
}

static sl_status check_output(const struct processing *p, const struct tensor_spec *spec,
                              struct sl_err *err)
{
    char text[TENSOR_SHAPE_TEXT_MAX];
    if (p->output == PROCESSING_TENSORS) return SL_OK;
    if (tensor_type_size(spec->type) == 0)
        return sl_err_set(err, SL_INVALID,
                          "processing: the model's output \"%.80s\" is of type %s, not of numbers",
                          spec->name, tensor_type_name(spec->type));
    if (p->output == PROCESSING_DETECTION && spec->rank >= 0 && spec->rank != 3)
        return sl_err_set(err, SL_INVALID,
                          "processing: the model's output \"%.80s\" is %s; detectors give three "
                          "dimensions",
                          spec->name, tensor_shape_text(spec->shape, spec->rank, text));
    int64_t n = n_classes_of(p, spec);
    if (n > 0 && p->n_labels > 0 && (int64_t)p->n_labels != n)
        return sl_err_set(err, SL_INVALID,
                          "processing: %zu labels where the model's output \"%.80s\" tells %lld "
                          "classes apart",
                          p->n_labels, spec->name, (long long)n);
    return SL_OK;
}

sl_status processing_check(const struct processing *p, const struct tensor_signature *signature,
                           struct sl_err *err)
{
    const struct tensor_spec *input = processing_input_of(p, signature);
    const struct tensor_spec *output = processing_output_of(p, signature);
    if (!input && p->input_tensor)
        return sl_err_set(err, SL_INVALID, "processing: the model has no input \"%.80s\"",
                          p->input_tensor);
    if (!input)
        return sl_err_set(err, SL_INVALID,
                          "processing: the model takes %zu inputs; input.tensor must name the "
                          "image's",
                          signature->n_inputs);
    if (!output)
        return sl_err_set(err, SL_INVALID, "processing: the model has no output \"%.80s\"",
                          p->output_tensor ? p->output_tensor : "");
    sl_status status = check_input(p, input, err);
    return status == SL_OK ? check_output(p, output, err) : status;
}

/* --- guess --- */

static bool is_picture(const struct tensor_spec *spec, enum prepare_layout layout)
{
    struct places at = places_of(layout);
    int64_t n = spec->shape[at.channels];
    bool sized = spec->shape[at.height] <= PREPARE_SIDE_MAX &&
                 spec->shape[at.width] <= PREPARE_SIDE_MAX && spec->shape[at.height] != 0 &&
                 spec->shape[at.width] != 0;
    return spec->rank == 4 && (n == 1 || n == 3) && may_be(spec->shape[0], 1) && sized;
}

static bool guess_tensor(const struct tensor_spec *spec, struct prepare *out)
{
    bool typed =
        spec->type == TENSOR_FP32 || spec->type == TENSOR_FP16 || spec->type == TENSOR_UINT8;
    bool nchw = is_picture(spec, PREPARE_NCHW);
    if (!typed || (!nchw && !is_picture(spec, PREPARE_NHWC))) return false;
    out->layout = nchw ? PREPARE_NCHW : PREPARE_NHWC;
    struct places at = places_of(out->layout);
    int64_t height = spec->shape[at.height], width = spec->shape[at.width];
    out->height = height > 0 ? (int32_t)height : SIDE_DEFAULT;
    out->width = width > 0 ? (int32_t)width : SIDE_DEFAULT;
    out->channels = spec->shape[at.channels] == 1 ? PREPARE_GRAY : PREPARE_RGB;
    out->type = spec->type;
    return true;
}

/* Levels as ImageNet's classifiers were trained; grey and bytes as they are, from 0 to 1. */
static void guess_levels(struct prepare *out)
{
    static const double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
    if (out->type == TENSOR_UINT8) return;
    out->scale = 1 / 255.0;
    if (out->channels == PREPARE_GRAY) return;
    memcpy(out->mean, mean, sizeof mean);
    memcpy(out->std, std, sizeof std);
}

static void guess_crop(struct prepare *out)
{
    int32_t side = out->width < out->height ? out->width : out->height;
    if (side <= SIDE_SMALL_MAX) return;
    out->resize = PREPARE_CROP;
    out->shorter = (int32_t)(side * CROP_SHARE + 0.5);
}

static void guess_letterbox(struct prepare *out, enum detect_decoder decoder)
{
    bool yolox = decoder == DETECT_YOLOX;
    out->resize = PREPARE_LETTERBOX;
    out->place = yolox ? PREPARE_TOP_LEFT : PREPARE_CENTER;
    out->antialias = false;
    if (yolox) out->channels = PREPARE_BGR;
    if (!yolox && out->type != TENSOR_UINT8) out->scale = 1 / 255.0;
}

/* Scores that are called probabilities need no softmax any more. */
static bool gives_probabilities(const struct tensor_spec *spec)
{
    return strcasestr(spec->name, "prob") || strcasestr(spec->name, "softmax");
}

/* By the shape of the output: [1, N, 5+C], [1, 4+C, N], [1, N, 6], [1, C]. */
static void guess_output(struct processing *p, const struct tensor_spec *spec)
{
    p->detect.width = p->prepare.width;
    p->detect.height = p->prepare.height;
    int64_t n_cells = detect_yolox_rows(&p->detect);
    bool three = spec->rank == 3 && may_be(spec->shape[0], 1);
    p->output = PROCESSING_DETECTION;
    if (three && spec->shape[2] > 5 && spec->shape[1] == n_cells)
        p->detect.decoder = DETECT_YOLOX;
    else if (three && spec->shape[2] > 6 && spec->shape[1] == 3 * n_cells)
        p->detect.decoder = DETECT_YOLOV5;
    else if (three && spec->shape[1] > 4 && spec->shape[2] == n_cells)
        p->detect.decoder = DETECT_YOLOV8;
    else if (three && spec->shape[2] == 6)
        p->detect.decoder = DETECT_BOXES;
    else
        p->output =
            spec->rank >= 2 && spec->rank <= 4 ? PROCESSING_CLASSIFICATION : PROCESSING_TENSORS;
}

sl_status processing_guess(const struct tensor_signature *signature, size_t n_labels,
                           struct processing *out, struct sl_err *err)
{
    const struct tensor_spec *input = only_required(signature);
    processing_init(out);
    if (!input || !signature->n_outputs || !guess_tensor(input, &out->prepare)) {
        processing_done(out);
        return sl_err_set(err, SL_UNSUPPORTED,
                          "no processing can be proposed: the model's inputs are not one image "
                          "[N,3,H,W] or [N,H,W,3]");
    }
    const struct tensor_spec *output = &signature->outputs[0];
    guess_output(out, output);
    if (out->output == PROCESSING_DETECTION) {
        guess_letterbox(&out->prepare, out->detect.decoder);
        return SL_OK;
    }
    guess_levels(&out->prepare);
    int64_t n = n_classes_of(out, output);
    bool contradicted = n_labels > 0 && n > 0 && (int64_t)n_labels != n;
    if (n == 1 || contradicted) out->output = PROCESSING_TENSORS;
    if (out->output == PROCESSING_CLASSIFICATION) guess_crop(&out->prepare);
    out->softmax = out->output == PROCESSING_CLASSIFICATION && !gives_probabilities(output);
    return SL_OK;
}
