/* prepare.h: an image becomes the tensor that a model takes, as a description says; and what the
 * model finds is led back to the image.
 * Floor: exec/vision.  Thread: any.  Allocates: the tensor; while at work, one row of the image.
 * Invariant: what the tensor holds depends on the image and the description alone. */
#pragma once
#include "exec/tensor.h"
#include "exec/vision/image.h"
#include "exec/vision/resample.h"

#define PREPARE_SIDE_MAX 2048 /* 2048 x 2048 x 3 floats are 48 MB, within TENSOR_BYTES_MAX */

enum prepare_resize {
    PREPARE_STRETCH,   /* to the tensor's size, whatever becomes of the proportions */
    PREPARE_CROP,      /* until it covers the tensor's size; the middle is taken */
    PREPARE_LETTERBOX, /* until it fits into the tensor's size; the rest is padding */
    PREPARE_KEEP       /* the tensor is as large as the image; the model takes any */
};
enum prepare_place { PREPARE_TOP_LEFT, PREPARE_CENTER }; /* of a letterbox' picture */
enum prepare_channels { PREPARE_RGB, PREPARE_BGR, PREPARE_GRAY };
enum prepare_layout { PREPARE_NCHW, PREPARE_NHWC };

struct prepare {
    int32_t width, height; /* of the tensor; 0 with PREPARE_KEEP */
    enum prepare_resize resize;
    int32_t shorter; /* PREPARE_CROP: side that the image's shorter one becomes, so that the crop
                        leaves a border; 0: none is left */
    enum prepare_place place;
    enum resample resample;
    bool antialias;
    int32_t pad; /* grey level of a letterbox' padding */
    enum prepare_channels channels;
    enum prepare_layout layout;
    enum tensor_type type;  /* FP32, FP16 or UINT8 */
    double scale;           /* value = (pixel * scale - mean) / std */
    double mean[3], std[3]; /* in the order of `channels`; of grey the first */
    uint8_t background[3];  /* RGB, behind what is transparent */
};

/* Where the image lies in the tensor: x of the tensor = x of the image * scale_x + offset_x. */
struct prepare_geometry {
    double scale_x, scale_y, offset_x, offset_y;
    int32_t image_width, image_height;
};

struct prepared {
    struct tensor tensor; /* rank 4, its data the caller's by prepared_done; no name */
    struct prepare_geometry geometry;
};

/* LIMIT: too large a tensor (PREPARE_KEEP); NOMEM. *out is untouched on failure. */
SL_CHECK sl_status prepare_image(const struct prepare *how, const struct image *image,
                                 struct prepared *out, struct sl_err *err);
void prepared_done(struct prepared *prepared);

/* A point of the tensor, led back to the image and kept within it. */
void prepare_to_image(const struct prepare_geometry *geometry, float *x, float *y);
