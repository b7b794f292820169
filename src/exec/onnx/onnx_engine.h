/* onnx_engine.h: models in ONNX's format behind the engine interface, on ONNX Runtime.
 * Floor: exec/onnx.  Thread: one; with several instances their threads compute and the engine's
 * emits.  Allocates: at load; per request and run.
 * Requests are checked against the model's signature at submit. Those that wait and whose tensors
 * have the same shapes but for the first dimension run together, when the model keeps the rows of
 * that dimension apart (onnx_probe.h) or the options say so. With one instance a run happens within
 * engine_step; a run cannot be interrupted there, so a model that never ends is the watchdog's.
 * An encoder with its tokenizer.json beside it takes engine_embed too (onnx_encoder.h).
 * Options and their meaning: docs/onnx.md. */
#pragma once
#include "exec/engine_open.h"

/* load->path: the .onnx file; load->options: see onnx_options.h. UNAVAILABLE: no ONNX Runtime on
 * this machine; otherwise as onnx_file_open and onnx_model_open; the message names the file. */
SL_CHECK sl_status onnx_engine_load(const struct engine_load *load,
                                    const struct engine_open_cfg *open, struct engine **out,
                                    struct sl_err *err);
