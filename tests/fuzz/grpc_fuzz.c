/* grpc_fuzz.c: any bytes as a stream of gRPC messages, each taken for a ModelInferRequest: cut in
 * pieces the same messages come out, and a request that is read points nowhere but into its bytes
 * and its arena. */
#include "access/grpc_frame.h"
#include "access/oip_message.h"
#include <stdlib.h>

#define MESSAGE_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    size_t n_messages, n_bytes, n_good;
    unsigned sum;
    sl_status status;
};

/* Touches all that the request says is there. */
static unsigned sum_of(const struct oip_infer *infer)
{
    unsigned sum = (unsigned)infer->n_params;
    for (size_t i = 0; i < infer->n_inputs; i++) {
        const struct tensor *tensor = &infer->inputs[i];
        const uint8_t *bytes = tensor->data;
        if (tensor->rank < 0 || tensor->rank > TENSOR_RANK_MAX) abort();
        for (size_t k = 0; k < tensor->n_bytes; k++) sum = sum * 31 + bytes[k];
    }
    for (size_t i = 0; i < infer->n_outputs; i++) sum += (unsigned char)infer->outputs[i][0];
    return sum;
}

static void take(const uint8_t *message, size_t n, struct seen *seen)
{
    struct oip_message request;
    struct sl_err err = SL_ERR_INIT;
    oip_message_init(&request);
    if (oip_message_read(&request, message, n, &err) == SL_OK) {
        seen->sum = seen->sum * 31 + sum_of(&request.infer);
        seen->n_good++;
    }
    oip_message_done(&request);
    seen->n_messages++;
    seen->n_bytes += n;
}

static struct seen read_in_pieces(const uint8_t *data, size_t size, size_t piece)
{
    struct grpc_reader reader;
    struct seen seen = {.status = SL_OK};
    struct sl_err err = SL_ERR_INIT;
    grpc_reader_init(&reader, MESSAGE_MAX);
    for (size_t at = 0; at < size && seen.status == SL_OK; at += piece) {
        const uint8_t *bytes = data + at, *message = bytes;
        size_t n = size - at < piece ? size - at : piece, n_message;
        while (message && seen.status == SL_OK) {
            seen.status = grpc_reader_next(&reader, &bytes, &n, &message, &n_message, &err);
            if (seen.status == SL_OK && message) take(message, n_message, &seen);
        }
    }
    grpc_reader_done(&reader);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 1 << 19) return 0;
    struct seen whole = read_in_pieces(data, size, size);
    struct seen pieces = read_in_pieces(data, size, 1 + data[size - 1] % 16);
    if (whole.n_messages != pieces.n_messages || whole.n_bytes != pieces.n_bytes ||
        whole.n_good != pieces.n_good || whole.sum != pieces.sum || whole.status != pieces.status)
        abort();
    return 0;
}
