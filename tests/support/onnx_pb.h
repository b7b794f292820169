/* onnx_pb.h: reads TensorProto files (onnx.proto), as ONNX's test data has them. Thread: one. */
#pragma once
#include "base/arena.h"
#include "exec/tensor.h"

/* The tensor of a file, in the arena, by the name it has. False: no file, not a tensor, or one of a
 * type that the protocol lacks. */
bool onnx_pb_read(const char *path, struct sl_arena *arena, struct tensor *out);
