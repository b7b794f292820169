/* onnx_options.h: how an ONNX model is to be run, from a JSON object (the manifest's "onnx"; its
 * members are described in docs/onnx.md).
 * Floor: exec/onnx.  Thread: any.  Allocates: only while it parses.
 * Invariant: what is parsed is within the limits; a member that is not known is an error. */
#pragma once
#include "exec/engine.h"
#include "exec/onnx/ort_provider.h"
#include <stdbool.h>
#include <stdint.h>

#define ONNX_BATCH_MAX 1024       /* rows of a run; more than any model gains from */
#define ONNX_INSTANCES_MAX 64     /* threads that call the model */
#define ONNX_DELAY_US_MAX 1000000 /* a second: what waits longer is not served, it is stored */
#define ONNX_TOKENS_MAX 65536     /* of one text; attention grows with its square */
#define ONNX_QUEUE_MAX 65536      /* requests that wait */

struct onnx_options {
    enum ort_provider providers[ORT_PROVIDER_COUNT]; /* in the order they are tried */
    int32_t n_providers;
    bool providers_given;   /* not the default list: a provider that is missing is worth a line */
    int32_t device_id;      /* of an accelerator */
    int32_t batch_max;      /* rows of a run; 0: as the model allows */
    int32_t batch_delay_us; /* how long a request waits for others to share its run */
    int32_t instances;      /* runs at once; each more than one has a thread */
    int32_t threads;        /* of one operator; 0: the load's number */
    int32_t queue_max;      /* requests that wait; 0: the load's number */
    int32_t max_tokens;     /* of a text; 0: what the files beside the model say */
    int32_t optimization;   /* enum ort_abi_optimization */
    bool warm_up;           /* run the model once before the first request */
    bool memory_arena;      /* keep memory between runs */
    bool spin;              /* an operator's threads stay awake while a run is under way */
    bool truncate;          /* cut longer texts rather than refuse them */
    enum engine_pooling pooling;
};

void onnx_options_default(struct onnx_options *out);

/* `json` NULL: the defaults. INVALID names the member and what it may be. NOMEM. */
SL_CHECK sl_status onnx_options_parse(const char *json, struct onnx_options *out,
                                      struct sl_err *err);
