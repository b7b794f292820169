/* oip_vectors.c: models that embed in the Open Inference Protocol: text BYTES[-1] to embedding
 * FP32[-1,n]. */
#include "access/embedding.h"
#include "access/oip_int.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

static void free_run(void *owner)
{
    struct oip_run *run = owner;
    oip_run_free(run);
}

/* The vectors as one tensor, [n, n_embd] f32. False: the call has failed. */
static bool put_vectors(struct oip_run *run, const struct embedding *e)
{
    size_t n_row = (size_t)e->n_embd * sizeof(float);
    char *data = sl_malloc(e->n * n_row);
    if (!data) {
        call_fail(run->call, SL_NOMEM, NULL, NULL, "no memory for the vectors");
        return false;
    }
    for (size_t i = 0; i < e->n; i++) memcpy(data + i * n_row, e->vectors[i], n_row);
    const struct tensor tensor = {"embedding", TENSOR_FP32, 2, {(int64_t)e->n, e->n_embd},
                                  data,        e->n * n_row};
    bool ok = oip_run_put(run, &tensor, 1, true);
    sl_free(data);
    return ok;
}

static void send(struct embedding *e)
{
    struct oip_run *run = e->owner;
    run->queue_ns = e->total.queue_ns;
    if (put_vectors(run, e)) run->infer.face->send(run);
}

/* A request for each text. False: the call has failed. */
static bool read_texts(struct oip_run *run, const struct tensor *input, struct embedding *plan)
{
    const unsigned char *p = input->data, *end = p + input->n_bytes;
    uint64_t n = 0;
    struct sl_err err = SL_ERR_INIT;
    if (input->type != TENSOR_BYTES || tensor_count(input->shape, input->rank, &n, &err) != SL_OK ||
        !n || n > EMBEDDING_INPUTS_MAX) {
        call_fail(run->call, SL_INVALID, NULL, NULL,
                  "input \"text\": from 1 to 2048 texts as BYTES are needed");
        return false;
    }
    plan->n = (size_t)n;
    plan->submits = sl_arena_array(call_arena(run->call), plan->n, sizeof *plan->submits);
    for (size_t i = 0; plan->submits && i < plan->n && p < end; i++) {
        plan->submits[i] = (struct node_submit){.prompt = NODE_PROMPT_TEXT,
                                                .text = (const char *)p + OIP_LENGTH_BYTES,
                                                .n_text = oip_element_length(p),
                                                .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT};
        p += OIP_LENGTH_BYTES + oip_element_length(p);
    }
    if (plan->submits) return true;
    call_fail(run->call, SL_NOMEM, NULL, NULL, "no memory for this request");
    return false;
}

void oip_vectors_start(struct oip_run *run)
{
    struct call *call = run->call;
    struct embedding plan = {
        .call = call, .model = run->name, .send = send, .owner = run, .free_owner = free_run};
    const char *extra = NULL;
    for (size_t i = 0; i < run->infer.n_inputs; i++)
        if (strcmp(run->infer.inputs[i].name, "text") != 0) extra = run->infer.inputs[i].name;
    for (size_t i = 0; i < run->infer.n_outputs; i++)
        if (strcmp(run->infer.outputs[i], "embedding") != 0) extra = run->infer.outputs[i];
    if (extra) {
        char message[TENSOR_NAME_MAX + 64];
        snprintf(message, sizeof message, "\"%.200s\": with text there is embedding and no more",
                 extra);
        call_fail(call, SL_INVALID, NULL, NULL, message);
        return;
    }
    if (!read_texts(run, oip_input(&run->infer, "text"), &plan)) return;
    metrics_count(call->metrics, METRICS_INFER_REQUESTS, 1);
    metrics_count(call->metrics, METRICS_INFER_ROWS, plan.n);
    metrics_count(call->metrics, METRICS_INFER_INPUT_BYTES,
                  tensors_bytes(run->infer.inputs, run->infer.n_inputs));
    call->work = NULL; /* the run goes over to the embedding, and is freed with it */
    embedding_start(&plan);
}
