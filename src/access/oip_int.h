/* oip_int.h: what the files behind oip.h share.
 * Floor: access.  Thread: the loop's.  Allocates: with the call. */
#pragma once
#include "access/oip.h"

#define OIP_LENGTH_BYTES 4 /* little-endian, before each element of BYTES */

/* Of the element that begins at p; the tensor was checked to hold it whole. */
static inline uint32_t oip_element_length(const void *p)
{
    const unsigned char *at = p;
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* What requests to a model are made of. */
enum oip_kind {
    OIP_KIND_TENSORS, /* its own inputs and outputs */
    OIP_KIND_TEXT,    /* text_input to text_output */
    OIP_KIND_VECTORS  /* text to embedding */
};

/* What the model is without a look at a request: TENSORS, else TEXT. */
enum oip_kind oip_kind_of(const struct node_model *model);

/* Is it the scripted engine, which runs without a signature? */
bool oip_is_echo(const struct node_model *model);

extern const struct tensor_signature OIP_TEXT_SIGNATURE;
extern const struct tensor_spec OIP_TEXT_EXTRAS[]; /* inputs that may be there besides */
extern const size_t OIP_TEXT_N_EXTRAS;

/* The input of that name, or NULL. */
const struct tensor *oip_input(const struct oip_infer *infer, const char *name);
const struct oip_param *oip_param(const struct oip_infer *infer, const char *name);
/* Is the output of that name asked for? With none named, `otherwise`. */
bool oip_wants(const struct oip_infer *infer, const char *name, bool otherwise);

/* The longest wait in the queue that parameters, headers and the face agree on; 0: the node's. */
int64_t oip_queue_timeout_ns(const struct oip_run *run);

/* Hands tensors to the face. False: the call has failed. */
bool oip_run_put(struct oip_run *run, const struct tensor *tensors, size_t n, bool is_last);
/* Ends a run whose answer was put: notes the usage, commits it, sends. */
void oip_run_end(struct oip_run *run, const struct node_event *event, enum metrics_end end,
                 const char *finish);
/* Ends it otherwise. */
void oip_run_fail(struct oip_run *run, const struct node_event *event);
void oip_run_free(void *work);

/* The runs of models that are not made of tensors; the call was admitted. As oip_infer_start. */
void oip_text_start(struct oip_run *run, const struct node_model *model);
void oip_text_free(struct oip_text *text); /* NULL is fine */
void oip_vectors_start(struct oip_run *run);
