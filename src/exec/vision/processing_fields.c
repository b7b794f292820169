#include "exec/vision/processing_fields.h"

#define AT(member) offsetof(struct processing, member)
#define CLASSES FIELD_OF(PROCESSING_CLASSIFICATION)
#define BOXES FIELD_OF(PROCESSING_DETECTION)
#define FACTOR_MAX 1e6 /* levels have at most 255; beyond this somebody slipped */

static const struct processing_choice inputs[] = {{"image", PROCESSING_IMAGE}, {NULL, 0}};
static const struct processing_choice resizes[] = {{"stretch", PREPARE_STRETCH},
                                                   {"crop", PREPARE_CROP},
                                                   {"letterbox", PREPARE_LETTERBOX},
                                                   {"keep", PREPARE_KEEP},
                                                   {NULL, 0}};
static const struct processing_choice places[] = {
    {"top-left", PREPARE_TOP_LEFT}, {"center", PREPARE_CENTER}, {NULL, 0}};
static const struct processing_choice resamples[] = {{"nearest", RESAMPLE_NEAREST},
                                                     {"bilinear", RESAMPLE_BILINEAR},
                                                     {"bicubic", RESAMPLE_BICUBIC},
                                                     {NULL, 0}};
static const struct processing_choice channels[] = {
    {"RGB", PREPARE_RGB}, {"BGR", PREPARE_BGR}, {"gray", PREPARE_GRAY}, {NULL, 0}};
static const struct processing_choice layouts[] = {
    {"NCHW", PREPARE_NCHW}, {"NHWC", PREPARE_NHWC}, {NULL, 0}};
static const struct processing_choice types[] = {
    {"FP32", TENSOR_FP32}, {"FP16", TENSOR_FP16}, {"UINT8", TENSOR_UINT8}, {NULL, 0}};
static const struct processing_choice outputs[] = {{"tensors", PROCESSING_TENSORS},
                                                   {"classification", PROCESSING_CLASSIFICATION},
                                                   {"detection", PROCESSING_DETECTION},
                                                   {NULL, 0}};
static const struct processing_choice decoders[] = {{"yolox", DETECT_YOLOX},
                                                    {"yolov5", DETECT_YOLOV5},
                                                    {"yolov8", DETECT_YOLOV8},
                                                    {"boxes", DETECT_BOXES},
                                                    {NULL, 0}};

const struct processing_field processing_fields[] = {
    {"input", "kind", FIELD_ENUM, AT(input), FIELD_ALWAYS, 0, 0, inputs},
    {"input", "tensor", FIELD_STR, AT(input_tensor), FIELD_ALWAYS, 0, 0, NULL},
    {"input", "width", FIELD_INT, AT(prepare.width), FIELD_ALWAYS, 0, PREPARE_SIDE_MAX, NULL},
    {"input", "height", FIELD_INT, AT(prepare.height), FIELD_ALWAYS, 0, PREPARE_SIDE_MAX, NULL},
    {"input", "resize", FIELD_ENUM, AT(prepare.resize), FIELD_ALWAYS, 0, 0, resizes},
    {"input", "shorter", FIELD_INT, AT(prepare.shorter), FIELD_ALWAYS, 0, 2 * PREPARE_SIDE_MAX,
     NULL},
    {"input", "place", FIELD_ENUM, AT(prepare.place), FIELD_ALWAYS, 0, 0, places},
    {"input", "pad", FIELD_INT, AT(prepare.pad), FIELD_ALWAYS, 0, 255, NULL},
    {"input", "resample", FIELD_ENUM, AT(prepare.resample), FIELD_ALWAYS, 0, 0, resamples},
    {"input", "antialias", FIELD_BOOL, AT(prepare.antialias), FIELD_ALWAYS, 0, 0, NULL},
    {"input", "channels", FIELD_ENUM, AT(prepare.channels), FIELD_ALWAYS, 0, 0, channels},
    {"input", "layout", FIELD_ENUM, AT(prepare.layout), FIELD_ALWAYS, 0, 0, layouts},
    {"input", "type", FIELD_ENUM, AT(prepare.type), FIELD_ALWAYS, 0, 0, types},
    {"input", "scale", FIELD_NUM, AT(prepare.scale), FIELD_ALWAYS, -FACTOR_MAX, FACTOR_MAX, NULL},
    {"input", "mean", FIELD_NUMS3, AT(prepare.mean), FIELD_ALWAYS, -FACTOR_MAX, FACTOR_MAX, NULL},
    {"input", "std", FIELD_NUMS3, AT(prepare.std), FIELD_ALWAYS, 1 / FACTOR_MAX, FACTOR_MAX, NULL},
    {"input", "background", FIELD_LEVELS3, AT(prepare.background), FIELD_ALWAYS, 0, 255, NULL},
    {"output", "kind", FIELD_ENUM, AT(output), FIELD_ALWAYS, 0, 0, outputs},
    {"output", "tensor", FIELD_STR, AT(output_tensor), CLASSES | BOXES, 0, 0, NULL},
    {"output", "softmax", FIELD_BOOL, AT(softmax), CLASSES, 0, 0, NULL},
    {"output", "top_k", FIELD_INT, AT(top_k), CLASSES, 1, PROCESSING_LABELS_MAX, NULL},
    {"output", "decoder", FIELD_ENUM, AT(detect.decoder), BOXES, 0, 0, decoders},
    {"output", "strides", FIELD_STRIDES, AT(detect.strides), BOXES, 1, PREPARE_SIDE_MAX, NULL},
    {"output", "score_min", FIELD_FLOAT, AT(detect.score_min), BOXES, 0, 1, NULL},
    {"output", "iou_max", FIELD_FLOAT, AT(detect.iou_max), BOXES, 0, 1, NULL},
    {"output", "boxes_max", FIELD_INT, AT(detect.n_boxes_max), BOXES, 1, DETECT_BOXES_MAX, NULL},
};
const size_t processing_n_fields = sizeof processing_fields / sizeof *processing_fields;
