/* half.h: 16-bit floats: IEEE 754 binary16 (FP16) and bfloat16 (BF16).
 * Floor: exec/vision.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stdint.h>

uint16_t half_from_float(float value); /* rounds to nearest, ties to even; too large: infinity */
float half_to_float(uint16_t bits);
float bfloat_to_float(uint16_t bits);
