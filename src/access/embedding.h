/* embedding.h: the vectors of many texts for one call, whatever API it came by.
 * Floor: access.  Thread: the loop's.  Allocates: with the call; the vectors.
 * A text over the context is the client's error, unless `truncate` asks to cut it: then it is taken
 * apart by the model's tokenizer and sent again as the tokens that fit.
 * Invariant: at most EMBEDDING_RUNNING_MAX texts of a call are with the node at a time, so that a
 * large batch does not fill the queue for others. */
#pragma once
#include "access/gateway_int.h"

#define EMBEDDING_INPUTS_MAX 2048 /* OpenAI's */
#define EMBEDDING_RUNNING_MAX 32
#define EMBEDDING_DIMENSIONS_MAX 65536

struct embedding {
    struct call *call;
    struct node_submit *submits; /* [n], in the exchange's arena */
    size_t n, n_sent, n_done;
    struct embedding_input *inputs; /* [n] */
    float **vectors;                /* [n] of n_embd floats */
    int32_t n_embd;
    struct node_event total;
    /* Writes the answer, JSON, into out. */
    sl_status (*put)(const struct embedding *embedding, struct sl_buf *out);
    /* Answers and ends the call in place of `put`; NULL: put does. */
    void (*send)(struct embedding *embedding);
    void *owner; /* the API's own, freed with the call by: */
    void (*free_owner)(void *owner);
    const char *model;  /* as the client named it */
    bool base64;        /* the API's own */
    int32_t dimensions; /* of the answer's vectors: the first ones, normalised again; 0: all */
    bool truncate;      /* what is over the context: cut its end */
    struct sl_buf out;
};

/* Fills submits[0..n) with the inputs of `value`: a text, a list of texts, a list of token ids or a
 * list of such lists. The arena is the exchange's. False: the call has failed, naming `field`. */
bool embedding_read_inputs(struct call *call, const char *field, const struct sl_json_value *value,
                           struct node_submit **out_submits, size_t *out_n);

/* Sees it through. The call must have been admitted; `plan` has call, submits, n, put, model,
 * base64, dimensions and whatever else the API needs; `owner` is taken over in any case. */
void embedding_start(const struct embedding *plan);
