/* onnx_number.h: single numbers of tensors of any floating-point type.
 * Floor: exec/onnx.  Thread: any.  Allocates: nothing.
 * Source: IEEE 754 binary16; bfloat16 is the upper half of binary32. */
#pragma once
#include "exec/tensor.h"

bool onnx_is_float(enum tensor_type type); /* FP16, BF16, FP32, FP64 */
/* Element `at` of a tensor of such a type. */
double onnx_number_get(const struct tensor *tensor, uint64_t at);
/* Writes an element of the type at p: of numbers from 2^-14 to 60000, and 0. Rounds towards 0. */
void onnx_number_put(enum tensor_type type, void *p, double value);
