/* onnx_direct: runs an ONNX model through ONNX Runtime's C interface in this process and nothing
 * else, as a floor for what a server may take. Prints runs and rows a second and the latency of
 * a run as one line of JSON.
 *
 *     onnx_direct --model resnet20.onnx --rows 8 --threads 1 --callers 2 --seconds 3
 *
 * `callers` threads run the model at once on one session, each with inputs of `rows` rows; the
 * other open dimensions are 1, or --dim's; a model of a fixed batch is run as it is. Values are
 * small random numbers. */
#include "base/err.h"
#include "exec/onnx/ort.h"
#include "load.h"
#include <getopt.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define INPUTS_MAX 16
#define RANK_MAX 16
#define CALLERS_MAX 64

struct input {
    char *name;
    int element;
    size_t rank, n_bytes;
    int64_t shape[RANK_MAX];
};

struct bench {
    const struct ort *ort;
    struct OrtSession *session;
    struct input inputs[INPUTS_MAX];
    size_t n_inputs, n_outputs;
    char *outputs[INPUTS_MAX];
    int64_t end_ns;
    int rows, dim;
    bool batches; /* an input's first dimension is open */
};

struct caller {
    const struct bench *bench;
    pthread_t thread;
    uint64_t n_runs;
    struct load_histogram latency;
};

static void die(const char *what, const struct sl_err *err)
{
    fprintf(stderr, "onnx_direct: %s: %s\n", what, err ? err->text : "");
    exit(1);
}

static void check(const struct ort *ort, ort_abi_status result, const char *what)
{
    struct sl_err err = SL_ERR_INIT;
    if (ort_result(ort, result, &err) != SL_OK) die(what, &err);
}

static size_t element_bytes(int element)
{
    switch (element) {
    case ORT_ABI_FLOAT:
    case ORT_ABI_INT32:
    case ORT_ABI_UINT32: return 4;
    case ORT_ABI_INT64:
    case ORT_ABI_UINT64:
    case ORT_ABI_DOUBLE: return 8;
    case ORT_ABI_UINT8:
    case ORT_ABI_INT8:
    case ORT_ABI_BOOL: return 1;
    default: return 2;
    }
}

static void describe_input(struct bench *b, size_t i)
{
    const struct ort_api *api = &b->ort->api;
    struct input *in = &b->inputs[i];
    struct OrtTypeInfo *info;
    const struct OrtTensorTypeAndShapeInfo *tensor;
    check(b->ort, api->SessionGetInputName(b->session, i, b->ort->allocator, &in->name), "name");
    check(b->ort, api->SessionGetInputTypeInfo(b->session, i, &info), "type");
    check(b->ort, api->CastTypeInfoToTensorInfo(info, &tensor), "tensor");
    check(b->ort, api->GetTensorElementType(tensor, &in->element), "element");
    check(b->ort, api->GetDimensionsCount(tensor, &in->rank), "rank");
    if (in->rank > RANK_MAX || in->element == ORT_ABI_STRING) die("an input of another kind", NULL);
    check(b->ort, api->GetDimensions(tensor, in->shape, in->rank), "shape");
    in->n_bytes = element_bytes(in->element);
    for (size_t k = 0; k < in->rank; k++) {
        if (in->shape[k] < 0 && !k) b->batches = true;
        if (in->shape[k] < 0) in->shape[k] = k ? b->dim : b->rows;
        in->n_bytes *= (size_t)in->shape[k];
    }
    api->ReleaseTypeInfo(info);
}

/* How the threads of an operator wait for work: asleep, spinning, or spinning only during a run. */
enum wait { WAIT_SLEEP, WAIT_SPIN, WAIT_SPIN_IN_RUN };

static void open_session(struct bench *b, const char *path, int n_threads, enum wait wait)
{
    const struct ort_api *api = &b->ort->api;
    struct OrtSessionOptions *options;
    check(b->ort, api->CreateSessionOptions(&options), "options");
    check(b->ort, api->SetIntraOpNumThreads(options, n_threads), "threads");
    if (wait == WAIT_SLEEP)
        check(b->ort, api->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"),
              "spin");
    if (wait == WAIT_SPIN_IN_RUN)
        check(b->ort, api->AddSessionConfigEntry(options, "session.force_spinning_stop", "1"),
              "stop spinning");
    check(b->ort, api->CreateSession(b->ort->env, path, options, &b->session), path);
    api->ReleaseSessionOptions(options);
    check(b->ort, api->SessionGetInputCount(b->session, &b->n_inputs), "inputs");
    check(b->ort, api->SessionGetOutputCount(b->session, &b->n_outputs), "outputs");
    if (b->n_inputs > INPUTS_MAX || b->n_outputs > INPUTS_MAX) die("too many tensors", NULL);
    for (size_t i = 0; i < b->n_inputs; i++) describe_input(b, i);
    for (size_t i = 0; i < b->n_outputs; i++)
        check(b->ort, api->SessionGetOutputName(b->session, i, b->ort->allocator, &b->outputs[i]),
              "name");
}

static void fill(const struct input *in, unsigned char *data)
{
    memset(data, 0, in->n_bytes);
    for (size_t i = 0; in->element == ORT_ABI_FLOAT && i < in->n_bytes / sizeof(float); i++) {
        float value = (float)sl_rng_uniform(1, 0, i);
        memcpy(data + i * sizeof value, &value, sizeof value);
    }
}

static void *run_caller(void *arg)
{
    struct caller *c = arg;
    const struct bench *b = c->bench;
    const struct ort_api *api = &b->ort->api;
    struct OrtValue *values[INPUTS_MAX];
    for (size_t i = 0; i < b->n_inputs; i++) {
        const struct input *in = &b->inputs[i];
        unsigned char *data = malloc(in->n_bytes + 1);
        if (!data) die("no memory", NULL);
        fill(in, data);
        check(b->ort,
              api->CreateTensorWithDataAsOrtValue(b->ort->memory, data, in->n_bytes, in->shape,
                                                  in->rank, in->element, &values[i]),
              "input");
    }
    const char *names[INPUTS_MAX];
    for (size_t i = 0; i < b->n_inputs; i++) names[i] = b->inputs[i].name;
    for (int64_t now = sl_now_ns(); now < b->end_ns;) {
        struct OrtValue *outputs[INPUTS_MAX] = {0};
        check(b->ort,
              api->Run(b->session, NULL, names, (const struct OrtValue *const *)values, b->n_inputs,
                       (const char *const *)b->outputs, b->n_outputs, outputs),
              "run");
        for (size_t i = 0; i < b->n_outputs; i++) api->ReleaseValue(outputs[i]);
        int64_t end = sl_now_ns();
        load_histogram_add(&c->latency, end - now);
        c->n_runs++;
        now = end;
    }
    return NULL;
}

static void report(const struct bench *b, struct caller *callers, int n, double seconds)
{
    struct load_histogram all = callers[0].latency;
    uint64_t n_runs = callers[0].n_runs;
    for (int i = 1; i < n; i++) {
        n_runs += callers[i].n_runs;
        all.n += callers[i].latency.n;
        for (size_t k = 0; k < LOAD_BUCKETS; k++) all.counts[k] += callers[i].latency.counts[k];
        if (callers[i].latency.max_ns > all.max_ns) all.max_ns = callers[i].latency.max_ns;
    }
    printf("{\"runs_s\":%.1f,\"rows_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
           (double)n_runs / seconds, (double)n_runs * (b->batches ? b->rows : 1) / seconds,
           (double)load_histogram_at(&all, 0.5) / 1e3, (double)load_histogram_at(&all, 0.99) / 1e3);
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"model", required_argument, NULL, 'm'},
                                          {"rows", required_argument, NULL, 'r'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"callers", required_argument, NULL, 'c'},
                                          {"seconds", required_argument, NULL, 's'},
                                          {"dim", required_argument, NULL, 'd'},
                                          {"spin", no_argument, NULL, 'S'},
                                          {"spin-in-run", no_argument, NULL, 'R'},
                                          {0}};
    static struct bench b = {.rows = 1, .dim = 1};
    static struct caller callers[CALLERS_MAX];
    struct sl_err err = SL_ERR_INIT;
    const char *model = NULL;
    int n_threads = 1, n_callers = 1, c;
    double seconds = 3;
    enum wait wait = WAIT_SLEEP;
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (c == 'm') model = optarg;
        if (c == 'r') b.rows = atoi(optarg);
        if (c == 't') n_threads = atoi(optarg);
        if (c == 'c') n_callers = atoi(optarg);
        if (c == 's') seconds = atof(optarg);
        if (c == 'd') b.dim = atoi(optarg);
        if (c == 'S') wait = WAIT_SPIN;
        if (c == 'R') wait = WAIT_SPIN_IN_RUN;
        if (c == '?') return 2;
    }
    if (!model || n_callers < 1 || n_callers > CALLERS_MAX || b.rows < 1 || b.dim < 1) return 2;
    if (ort_load(&b.ort, &err) != SL_OK) die("ONNX Runtime", &err);
    open_session(&b, model, n_threads, wait);
    callers[0].bench = &b;
    b.end_ns = sl_now_ns() + LOAD_NS_PER_S / 5; /* to warm up */
    run_caller(&callers[0]);
    callers[0] = (struct caller){0};
    b.end_ns = sl_now_ns() + (int64_t)(seconds * LOAD_NS_PER_S);
    for (int i = 0; i < n_callers; i++) {
        callers[i].bench = &b;
        if (pthread_create(&callers[i].thread, NULL, run_caller, &callers[i])) die("thread", NULL);
    }
    for (int i = 0; i < n_callers; i++) (void)pthread_join(callers[i].thread, NULL);
    report(&b, callers, n_callers, seconds);
    return 0;
}
