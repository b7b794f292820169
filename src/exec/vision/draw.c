#include "exec/vision/draw.h"
#include "exec/vision/draw_font.h"
#include <string.h>

#define TEXT_CHARACTERS_MAX 128 /* wider than a label anyone reads in a picture */

static int32_t clamp(int64_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : (int32_t)v;
}

/* The part of the image within a rectangle. */
static void fill(struct image *image, const struct draw_frame *r, const uint8_t colour[3])
{
    int32_t left = clamp(r->left, 0, image->width), right = clamp(r->right, 0, image->width);
    int32_t top = clamp(r->top, 0, image->height), bottom = clamp(r->bottom, 0, image->height);
    for (int32_t y = top; y < bottom; y++) {
        uint8_t *row = image->pixels + (size_t)y * (size_t)image->width * 3;
        for (int32_t x = left; x < right; x++) memcpy(row + 3 * x, colour, 3);
    }
}

void draw_class_colour(int32_t label, uint8_t out[3])
{
    /* Okabe and Ito's palette (2008): told apart by colour-blind eyes too. */
    static const uint8_t palette[][3] = {{230, 159, 0},  {86, 180, 233}, {0, 158, 115},
                                         {240, 228, 66}, {0, 114, 178},  {213, 94, 0},
                                         {204, 121, 167}};
    uint32_t n = sizeof palette / sizeof *palette;
    memcpy(out, palette[(uint32_t)label % n], 3);
}

void draw_frame(struct image *image, const struct draw_frame *f, const uint8_t colour[3])
{
    int32_t t = f->thickness;
    const struct draw_frame sides[] = {
        {f->left, f->top, f->right, clamp((int64_t)f->top + t, f->top, f->bottom), 0},
        {f->left, clamp((int64_t)f->bottom - t, f->top, f->bottom), f->right, f->bottom, 0},
        {f->left, f->top, clamp((int64_t)f->left + t, f->left, f->right), f->bottom, 0},
        {clamp((int64_t)f->right - t, f->left, f->right), f->top, f->right, f->bottom, 0},
    };
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) fill(image, &sides[i], colour);
}

static void draw_glyph(struct image *image, int32_t x, int32_t y, int32_t size, unsigned char c,
                       const uint8_t ink[3])
{
    const uint8_t *rows =
        draw_font[c >= DRAW_FONT_FIRST && c <= DRAW_FONT_LAST ? c - DRAW_FONT_FIRST
                                                              : DRAW_FONT_LAST - DRAW_FONT_FIRST];
    for (int32_t row = 0; row < DRAW_FONT_ROWS; row++) {
        for (int32_t column = 0; column < DRAW_FONT_COLUMNS; column++) {
            if (!(rows[row] >> (DRAW_FONT_COLUMNS - 1 - column) & 1)) continue;
            int32_t left = x + column * size, top = y + row * size;
            fill(image, &(struct draw_frame){left, top, left + size, top + size, 0}, ink);
        }
    }
}

void draw_label(struct image *image, int32_t x, int32_t y, int32_t size, const char *text,
                const uint8_t colour[3])
{
    static const uint8_t black[3] = {0, 0, 0}, white[3] = {255, 255, 255};
    bool light = 299 * colour[0] + 587 * colour[1] + 114 * colour[2] > 128000;
    size = clamp(size, 1, 64);
    int32_t n = clamp((int64_t)strlen(text), 0, TEXT_CHARACTERS_MAX);
    int32_t width = (n * DRAW_GLYPH_WIDTH + 1) * size, height = (DRAW_GLYPH_HEIGHT + 1) * size;
    int32_t left = clamp(x, 0, image->width > width ? image->width - width : 0);
    int32_t top = clamp(y, 0, image->height > height ? image->height - height : 0);
    fill(image, &(struct draw_frame){left, top, left + width, top + height, 0}, colour);
    for (int32_t i = 0; i < n; i++)
        draw_glyph(image, left + (i * DRAW_GLYPH_WIDTH + 1) * size, top + size, size,
                   (unsigned char)text[i], light ? black : white);
}

int32_t draw_size_for(const struct image *image)
{
    int32_t shorter = image->width < image->height ? image->width : image->height;
    return clamp(shorter / 240 + 1, 1, 16);
}
