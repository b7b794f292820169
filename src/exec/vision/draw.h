/* draw.h: frames and labels on an image, so that a person sees what a detector found.
 * Floor: exec/vision.  Thread: any.  Allocates: nothing.
 * Invariant: what lies outside the image is left out; any coordinates are fine. */
#pragma once
#include "exec/vision/image.h"
#include <stdbool.h>

#define DRAW_GLYPH_WIDTH 6 /* of a character of size 1, with the gap to the next */
#define DRAW_GLYPH_HEIGHT 9

/* A colour that classes next to each other do not share. */
void draw_class_colour(int32_t label, uint8_t out[3]);

/* The frame of [left, right) x [top, bottom), `thickness` pixels to the inside. */
struct draw_frame {
    int32_t left, top, right, bottom, thickness;
};
void draw_frame(struct image *image, const struct draw_frame *frame, const uint8_t colour[3]);

/* ASCII text on a ground of the colour, black or white as it reads better, its upper left corner
 * at (x, y), moved to be within the image where there is room. Other characters are boxes. */
void draw_label(struct image *image, int32_t x, int32_t y, int32_t size, const char *text,
                const uint8_t colour[3]);

/* Frame thickness and text size that suit the image. */
int32_t draw_size_for(const struct image *image);
