/* draw_font.h: letters of 5 x 8 pixels for labels, ASCII without the rarer signs.
 * Floor: exec/vision.  Thread: any. */
#pragma once
#include <stdint.h>

#define DRAW_FONT_FIRST 32 /* space */
#define DRAW_FONT_LAST 126 /* a box, as for all that has no glyph */
#define DRAW_FONT_ROWS 8   /* the last for what hangs below the line */
#define DRAW_FONT_COLUMNS 5

/* A byte a row, the leftmost pixel in bit 4. */
extern const uint8_t draw_font[DRAW_FONT_LAST - DRAW_FONT_FIRST + 1][DRAW_FONT_ROWS];
