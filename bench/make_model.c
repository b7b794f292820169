/* make_model: writes a GGUF of the qwen2 or deepseek2 architecture with random weights, in the
 * tensor types that llama.cpp's quantiser would choose, so that speed can be measured without a
 * download. What it says is noise; its shape and size are real. */
#include "base/err.h"
#include "base/mem.h"
#include "base/pool.h"
#include "exec/llm/gguf.h"
#include "exec/llm/gguf_write.h"
#include <ggml.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_STD 0.02f
#define GAUSS_TABLE_SIZE 65536  /* indexed by 16 random bits */
#define ROW_ELEMENTS_MAX 20480  /* one row of floats on a worker's stack: 80 KiB */
#define JOBS_PER_PIECE 64       /* a piece's rows are made by the pool in this many jobs */
#define PIECE_BYTES (16u << 20) /* of a tensor, in memory at a time */
#define LAYERS_MAX 28
#define TENSORS_PER_LAYER 17
#define TENSORS_MAX (3 + LAYERS_MAX * TENSORS_PER_LAYER)

/* What deepseek2 has beside qwen2's: experts in every layer but the first, and latent attention. */
struct experts {
    uint32_t n, n_used, n_shared, n_ff;
    uint32_t q_lora, kv_lora, n_rot, nope, head_v; /* a query's head is nope + n_rot */
};

struct shape {
    const char *name;
    uint32_t n_layers, n_embd, n_ff, n_heads, n_kv_heads;
    bool is_untied; /* the output matrix is not the embedding */
    const struct experts *experts;
};

/* DeepSeek-V2-Lite (arXiv:2405.04434, appendix B), of whose 27 layers dsv2-lite-8 has 8: in q4_0
 * that is less than 3 GB. llama.cpp takes other numbers of layers than 27 for the large V2, which
 * compresses its queries: so does this. */
static const struct experts v2_lite = {64, 6, 2, 1408, 1536, 512, 64, 128, 128};

static const struct shape shapes[] = {
    {"qwen2-0.5b", 24, 896, 4864, 14, 2, false, NULL},
    {"qwen2-1.5b", 28, 1536, 8960, 12, 2, false, NULL},
    {"qwen2-7b", 28, 3584, 18944, 28, 4, true, NULL},
    {"dsv2-lite-8", 8, 2048, 10944, 16, 1, true, &v2_lite},
    {"tiny", 2, 256, 512, 4, 2, false, NULL},
    {"tiny-16", 16, 256, 512, 4, 2, false, NULL},
};

/* file_type is llama.cpp's number for the mixture (llama_ftype in llama.h). */
struct mixture {
    const char *name;
    enum ggml_type type;
    uint32_t file_type;
};

static const struct mixture mixtures[] = {
    {"f16", GGML_TYPE_F16, 1},
    {"q4_0", GGML_TYPE_Q4_0, 2},
    {"q8_0", GGML_TYPE_Q8_0, 7},
    {"q4_K_M", GGML_TYPE_Q4_K, 15},
};

struct options {
    const struct shape *shape;
    const struct mixture *mixture;
    const char *vocab_path;
    const char *out_path;
    uint64_t seed;
    int n_threads;
};

struct tensor {
    char name[GGUF_NAME_MAX + 1];
    enum ggml_type type;
    int n_dims;
    int64_t ne[3]; /* 1 where there is no such dimension */
};

struct model {
    size_t n_tensors;
    struct tensor tensors[TENSORS_MAX];
};

struct count { /* a key of the architecture */
    const char *key;
    uint32_t value;
};

/* Rows of one tensor being filled by the pool. */
struct fill {
    const float *gauss;
    enum ggml_type type;
    uint64_t seed;
    int64_t n_per_row, first_row, n_rows;
    size_t row_bytes;
    float mean, std;
    unsigned char *out;
};

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double uniform(uint64_t *state)
{
    return ((double)(splitmix64(state) >> 11) + 0.5) * 0x1p-53;
}

/* Box-Muller, once; drawing from the table later costs a few instructions a weight. */
static float *gauss_table_create(uint64_t seed)
{
    float *table = sl_malloc(GAUSS_TABLE_SIZE * sizeof(*table));
    for (size_t i = 0; table && i < GAUSS_TABLE_SIZE; i++) {
        double radius = sqrt(-2.0 * log(uniform(&seed)));
        table[i] = (float)(radius * cos(2.0 * 3.14159265358979323846 * uniform(&seed)));
    }
    return table;
}

static void random_row(const struct fill *fill, int64_t row, float *out)
{
    uint64_t state = fill->seed ^ ((uint64_t)row << 32);
    for (int64_t i = 0; i < fill->n_per_row;) {
        uint64_t bits = splitmix64(&state);
        for (int j = 0; j < 4 && i < fill->n_per_row; j++, bits >>= 16) {
            out[i++] = fill->mean + fill->std * fill->gauss[bits & 0xffff];
        }
    }
}

/* Job i of the piece's rows. Each row has a seed of its own, so the file does not depend on threads
 * and pieces. */
static void fill_rows(void *arg, int i)
{
    const struct fill *fill = arg;
    float row[ROW_ELEMENTS_MAX];
    int64_t begin = fill->n_rows * i / JOBS_PER_PIECE;
    int64_t end = fill->n_rows * (i + 1) / JOBS_PER_PIECE;
    for (int64_t r = begin; r < end; r++) {
        unsigned char *out = fill->out + (size_t)r * fill->row_bytes;
        random_row(fill, fill->first_row + r, row);
        if (fill->type == GGML_TYPE_F32)
            memcpy(out, row, fill->row_bytes);
        else
            ggml_quantize_chunk(fill->type, row, out, 0, 1, fill->n_per_row, NULL);
    }
}

/* Layers that Q4_K_M gives more bits: the first and last eighth, and every third between. */
static bool layer_gets_more_bits(uint32_t layer, uint32_t n_layers)
{
    return layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer - n_layers / 8) % 3 == 2;
}

/* As llama.cpp's quantiser: what a row's length does not divide falls back to a type of 32-element
 * blocks. */
static enum ggml_type fit_row(enum ggml_type type, int64_t n_per_row)
{
    if (n_per_row % ggml_blck_size(type) == 0) return type;
    return type == GGML_TYPE_Q6_K ? GGML_TYPE_Q8_0 : GGML_TYPE_Q5_0;
}

/* Of the output matrix, which the embedding is too in a tied model. */
static enum ggml_type output_type(const struct options *o)
{
    enum ggml_type type = o->mixture->type;
    int64_t n_embd = o->shape->n_embd;
    if (type == GGML_TYPE_F16 || type == GGML_TYPE_Q8_0) return type;
    if (n_embd % ggml_blck_size(type)) return GGML_TYPE_Q8_0;
    return fit_row(GGML_TYPE_Q6_K, n_embd);
}

static enum ggml_type matrix_type(const struct options *o, uint32_t layer, const char *part,
                                  int64_t n_per_row)
{
    enum ggml_type type = o->mixture->type;
    bool sensitive = !strcmp(part, "attn_v.weight") || !strcmp(part, "ffn_down.weight");
    if (type == GGML_TYPE_Q4_K && sensitive && layer_gets_more_bits(layer, o->shape->n_layers)) {
        type = GGML_TYPE_Q6_K;
    }
    return fit_row(type, n_per_row);
}

static void add_tensor(struct model *model, const char *name, enum ggml_type type, int64_t n_in,
                       int64_t n_out)
{
    struct tensor *t = &model->tensors[model->n_tensors++];
    snprintf(t->name, sizeof(t->name), "%s", name);
    t->type = type;
    t->n_dims = n_out ? 2 : 1;
    t->ne[0] = n_in;
    t->ne[1] = n_out ? n_out : 1;
    t->ne[2] = 1;
}

struct part { /* of a layer */
    const char *part;
    int64_t n_in, n_out, n; /* n_out 0: a vector; n 0: one matrix */
};

static void add_parts(struct model *model, const struct options *o, uint32_t layer,
                      const struct part *parts, int n)
{
    for (int i = 0; i < n; i++) {
        char name[GGUF_NAME_MAX + 1];
        bool is_router = !strcmp(parts[i].part, "ffn_gate_inp.weight");
        enum ggml_type type = GGML_TYPE_F32; /* norms, biases and routers are never quantised */
        if (parts[i].n_out && !is_router)
            type = matrix_type(o, layer, parts[i].part, parts[i].n_in);
        snprintf(name, sizeof(name), "blk.%" PRIu32 ".%s", layer, parts[i].part);
        add_tensor(model, name, type, parts[i].n_in, parts[i].n_out);
        if (!parts[i].n) continue;
        model->tensors[model->n_tensors - 1].n_dims = 3;
        model->tensors[model->n_tensors - 1].ne[2] = parts[i].n;
    }
}

static void add_latent_attention(struct model *model, const struct options *o, uint32_t layer)
{
    const struct experts *x = o->shape->experts;
    const int64_t n_embd = o->shape->n_embd, heads = o->shape->n_heads;
    const struct part parts[] = {
        {"attn_norm.weight", n_embd, 0, 0},
        {"attn_q_a.weight", n_embd, x->q_lora, 0},
        {"attn_q_a_norm.weight", x->q_lora, 0, 0},
        {"attn_q_b.weight", x->q_lora, heads * (x->nope + x->n_rot), 0},
        {"attn_kv_a_mqa.weight", n_embd, x->kv_lora + x->n_rot, 0},
        {"attn_kv_a_norm.weight", x->kv_lora, 0, 0},
        {"attn_k_b.weight", x->nope, x->kv_lora, heads},
        {"attn_v_b.weight", x->kv_lora, x->head_v, heads},
        {"attn_output.weight", heads * x->head_v, n_embd, 0},
    };
    add_parts(model, o, layer, parts, sizeof parts / sizeof *parts);
}

static void add_experts(struct model *model, const struct options *o, uint32_t layer)
{
    const struct experts *x = o->shape->experts;
    const int64_t n_embd = o->shape->n_embd, n_ff = x->n_ff, shared = n_ff * x->n_shared;
    const struct part parts[] = {
        {"ffn_norm.weight", n_embd, 0, 0},
        {"ffn_gate_inp.weight", n_embd, x->n, 0},
        {"ffn_gate_exps.weight", n_embd, n_ff, x->n},
        {"ffn_up_exps.weight", n_embd, n_ff, x->n},
        {"ffn_down_exps.weight", n_ff, n_embd, x->n},
        {"ffn_gate_shexp.weight", n_embd, shared, 0},
        {"ffn_up_shexp.weight", n_embd, shared, 0},
        {"ffn_down_shexp.weight", shared, n_embd, 0},
    };
    add_parts(model, o, layer, parts, sizeof parts / sizeof *parts);
}

static void add_attention(struct model *model, const struct options *o, uint32_t layer)
{
    const int64_t n_embd = o->shape->n_embd;
    const int64_t n_kv = n_embd / o->shape->n_heads * o->shape->n_kv_heads;
    const struct part parts[] = {
        {"attn_norm.weight", n_embd, 0, 0},
        {"attn_q.weight", n_embd, n_embd, 0},
        {"attn_k.weight", n_embd, n_kv, 0},
        {"attn_v.weight", n_embd, n_kv, 0},
        {"attn_output.weight", n_embd, n_embd, 0},
        {"attn_q.bias", n_embd, 0, 0},
        {"attn_k.bias", n_kv, 0, 0},
        {"attn_v.bias", n_kv, 0, 0},
    };
    add_parts(model, o, layer, parts, sizeof parts / sizeof *parts);
}

static void add_dense(struct model *model, const struct options *o, uint32_t layer)
{
    const int64_t n_embd = o->shape->n_embd, n_ff = o->shape->n_ff;
    const struct part parts[] = {
        {"ffn_norm.weight", n_embd, 0, 0},
        {"ffn_gate.weight", n_embd, n_ff, 0},
        {"ffn_up.weight", n_embd, n_ff, 0},
        {"ffn_down.weight", n_ff, n_embd, 0},
    };
    add_parts(model, o, layer, parts, sizeof parts / sizeof *parts);
}

static void add_layer(struct model *model, const struct options *o, uint32_t layer)
{
    if (o->shape->experts)
        add_latent_attention(model, o, layer);
    else
        add_attention(model, o, layer);
    if (o->shape->experts && layer > 0)
        add_experts(model, o, layer);
    else
        add_dense(model, o, layer);
}

static void plan_model(struct model *model, const struct options *o, int64_t n_vocab)
{
    model->n_tensors = 0;
    const int64_t n_embd = o->shape->n_embd;
    bool is_untied = o->shape->is_untied;
    enum ggml_type embedding = is_untied ? fit_row(o->mixture->type, n_embd) : output_type(o);
    add_tensor(model, "token_embd.weight", embedding, n_embd, n_vocab);
    add_tensor(model, "output_norm.weight", GGML_TYPE_F32, n_embd, 0);
    if (is_untied) add_tensor(model, "output.weight", output_type(o), n_embd, n_vocab);
    for (uint32_t i = 0; i < o->shape->n_layers; i++) add_layer(model, o, i);
}

/* Keys of one architecture: "qwen2.block_count". */
static sl_status write_u32s(struct gguf_writer *w, const char *arch, size_t n,
                            const struct count *counts)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < n && !status; i++) {
        char key[GGUF_NAME_MAX + 1];
        snprintf(key, sizeof key, "%s.%s", arch, counts[i].key);
        status = gguf_write_u32(w, key, counts[i].value);
    }
    return status;
}

static sl_status write_expert_keys(struct gguf_writer *w, const struct experts *x)
{
    const struct count counts[] = {
        {"expert_count", x->n},
        {"expert_used_count", x->n_used},
        {"expert_shared_count", x->n_shared},
        {"expert_feed_forward_length", x->n_ff},
        {"leading_dense_block_count", 1},
        {"attention.q_lora_rank", x->q_lora},
        {"attention.kv_lora_rank", x->kv_lora},
        {"rope.dimension_count", x->n_rot},
        {"attention.key_length", x->kv_lora + x->n_rot},
        {"attention.value_length", x->kv_lora},
        {"attention.key_length_mla", x->nope + x->n_rot},
        {"attention.value_length_mla", x->head_v},
    };
    sl_status status = write_u32s(w, "deepseek2", sizeof counts / sizeof *counts, counts);
    return status ? status : gguf_write_f32(w, "deepseek2.expert_weights_scale", 1);
}

static sl_status write_shape(struct gguf_writer *w, const struct shape *shape, uint32_t n_vocab)
{
    const char *arch = shape->experts ? "deepseek2" : "qwen2";
    char base[64], epsilon[64];
    const struct count counts[] = {
        {"block_count", shape->n_layers},
        {"context_length", 32768},
        {"embedding_length", shape->n_embd},
        {"feed_forward_length", shape->n_ff},
        {"attention.head_count", shape->n_heads},
        {"attention.head_count_kv", shape->n_kv_heads},
        {"vocab_size", n_vocab},
    };
    snprintf(base, sizeof base, "%s.rope.freq_base", arch);
    snprintf(epsilon, sizeof epsilon, "%s.attention.layer_norm_rms_epsilon", arch);
    sl_status status = gguf_write_str(w, "general.architecture", arch);
    if (!status) status = write_u32s(w, arch, sizeof counts / sizeof *counts, counts);
    if (!status) status = gguf_write_f32(w, base, 1e6f);
    if (!status) status = gguf_write_f32(w, epsilon, 1e-6f);
    if (!status && shape->experts) status = write_expert_keys(w, shape->experts);
    return status;
}

static sl_status write_keys(struct gguf_writer *w, const struct options *o,
                            const struct gguf_file *vocab)
{
    const struct gguf_kv *tokens = gguf_find(vocab, "tokenizer.ggml.tokens");
    sl_status status = write_shape(w, o->shape, (uint32_t)tokens->n);
    if (!status) status = gguf_write_str(w, "general.name", "random weights, for benchmarks only");
    if (!status) status = gguf_write_u32(w, "general.file_type", o->mixture->file_type);
    if (!status) status = gguf_write_u32(w, "general.quantization_version", GGML_QNT_VERSION);
    for (size_t i = 0; i < gguf_n_kvs(vocab) && !status; i++) {
        const struct gguf_kv *kv = gguf_kv_at(vocab, i);
        if (kv->key.len < 10 || memcmp(kv->key.s, "tokenizer.", 10) != 0) continue;
        status = gguf_write_kv(w, kv);
    }
    return status;
}

/* Piece by piece, so that a model may be larger than this machine's memory. */
static sl_status write_tensor(struct gguf_writer *w, struct sl_pool *pool, struct fill *fill,
                              const struct tensor *t, struct sl_err *err)
{
    bool is_norm = strstr(t->name, "norm") != NULL;
    fill->type = t->type;
    fill->n_per_row = t->ne[0];
    fill->row_bytes = ggml_row_size(t->type, t->ne[0]);
    fill->mean = is_norm ? 1.0f : 0.0f;
    fill->std = is_norm ? 0.0f : WEIGHT_STD;
    int64_t rows_max = (int64_t)(PIECE_BYTES / fill->row_bytes), n_rows = t->ne[1] * t->ne[2];
    sl_status status = SL_OK;
    for (int64_t row = 0; row < n_rows && !status; row += fill->n_rows) {
        fill->first_row = row;
        fill->n_rows = n_rows - row < rows_max ? n_rows - row : rows_max;
        sl_pool_for(pool, JOBS_PER_PIECE, fill_rows, fill);
        status = gguf_write_data(w, fill->out, (size_t)fill->n_rows * fill->row_bytes, err);
    }
    return status;
}

static sl_status write_tensors(struct gguf_writer *w, const struct model *model,
                               const struct options *o, struct sl_err *err)
{
    struct sl_pool *pool = NULL;
    float *gauss = gauss_table_create(o->seed);
    unsigned char *piece = sl_malloc(PIECE_BYTES);
    sl_status status = gauss && piece ? SL_OK : SL_NOMEM;
    if (!status) status = sl_pool_create(o->n_threads, JOBS_PER_PIECE, &pool);
    if (status) sl_err_set(err, status, "%d threads", o->n_threads);
    for (size_t i = 0; i < model->n_tensors && !status; i++) {
        struct fill fill = {
            .gauss = gauss, .seed = (o->seed + i) * UINT64_C(0x9e3779b97f4a7c15), .out = piece};
        status = write_tensor(w, pool, &fill, &model->tensors[i], err);
    }
    sl_pool_destroy(pool);
    sl_free(piece);
    sl_free(gauss);
    return status;
}

static sl_status write_header(struct gguf_writer *w, const struct model *model,
                              const struct options *o, const struct gguf_file *vocab,
                              struct sl_err *err)
{
    sl_status status = write_keys(w, o, vocab);
    if (status) return sl_err_set(err, status, "write the keys");
    for (size_t i = 0; i < model->n_tensors && !status; i++) {
        const struct tensor *t = &model->tensors[i];
        status = gguf_write_tensor(w, t->name, t->type, t->n_dims, t->ne);
        if (status) return sl_err_set(err, status, "declare tensor %s", t->name);
    }
    return gguf_write_begin_data(w, err);
}

static sl_status write_model(const struct model *model, const struct options *o,
                             const struct gguf_file *vocab, struct sl_err *err)
{
    struct gguf_writer *w = NULL;
    sl_status status = gguf_writer_create(o->out_path, &w, err);
    if (!status) status = write_header(w, model, o, vocab, err);
    if (!status) status = write_tensors(w, model, o, err);
    if (!status) status = gguf_write_finish(w, err);
    gguf_writer_destroy(w);
    return status;
}

/* Reads the file back: every tensor must be there as planned, and hold numbers ggml calls valid. */
static sl_status check_model(const struct model *model, const char *path, struct sl_err *err)
{
    struct gguf_file *file = NULL;
    sl_status status = gguf_open(path, &file, err);
    for (size_t i = 0; i < model->n_tensors && !status; i++) {
        const struct tensor *want = &model->tensors[i];
        const struct gguf_tensor *t = gguf_tensor_find(file, want->name);
        bool ok = t && t->type == (uint32_t)want->type && t->ne[0] == want->ne[0] &&
                  t->ne[1] == want->ne[1] && t->ne[2] == want->ne[2];
        ok = ok && ggml_validate_row_data(want->type, t->data, t->n_bytes);
        if (!ok)
            status = sl_err_set(err, SL_CORRUPT, "%s: tensor %s is not what was written", path,
                                want->name);
    }
    if (!status)
        printf("%s: %zu tensors, %" PRIu64 " bytes\n", path, gguf_n_tensors(file),
               gguf_file_bytes(file));
    gguf_close(file);
    return status;
}

static sl_status make_model(const struct options *o, struct sl_err *err)
{
    static struct model model;
    struct gguf_file *vocab = NULL;
    sl_status status = gguf_open(o->vocab_path, &vocab, err);
    if (status) return status;
    const struct gguf_kv *tokens = gguf_find(vocab, "tokenizer.ggml.tokens");
    if (tokens && tokens->is_array && tokens->n) {
        plan_model(&model, o, (int64_t)tokens->n);
        status = write_model(&model, o, vocab, err);
    } else {
        status = sl_err_set(err, SL_CORRUPT, "%s: key tokenizer.ggml.tokens: absent or empty",
                            o->vocab_path);
    }
    gguf_close(vocab);
    return status ? status : check_model(&model, o->out_path, err);
}

static const struct shape *find_shape(const char *name)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        if (!strcmp(shapes[i].name, name)) return &shapes[i];
    }
    return NULL;
}

static const struct mixture *find_mixture(const char *name)
{
    for (size_t i = 0; i < sizeof(mixtures) / sizeof(mixtures[0]); i++) {
        if (!strcmp(mixtures[i].name, name)) return &mixtures[i];
    }
    return NULL;
}

static bool parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"shape", required_argument, NULL, 's'},      {"type", required_argument, NULL, 't'},
        {"vocab-from", required_argument, NULL, 'v'}, {"seed", required_argument, NULL, 'r'},
        {"threads", required_argument, NULL, 'j'},    {NULL, 0, NULL, 0},
    };
    *o = (struct options){
        .shape = &shapes[0], .mixture = find_mixture("q4_0"), .seed = 1, .n_threads = 2};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (c) {
        case 's': o->shape = find_shape(optarg); break;
        case 't': o->mixture = find_mixture(optarg); break;
        case 'v': o->vocab_path = optarg; break;
        case 'r': o->seed = strtoull(optarg, NULL, 10); break;
        case 'j': o->n_threads = atoi(optarg); break;
        default: return false;
        }
    }
    if (optind != argc - 1) return false;
    o->out_path = argv[optind];
    return o->shape && o->mixture && o->vocab_path;
}

int main(int argc, char **argv)
{
    struct options options;
    struct sl_err err = SL_ERR_INIT;
    if (!parse_options(argc, argv, &options)) {
        fprintf(stderr,
                "usage: make_model --shape qwen2-0.5b|qwen2-1.5b|qwen2-7b|dsv2-lite-8|tiny|tiny-16 "
                "--type f16|q4_0|q8_0|q4_K_M "
                "--vocab-from FILE.gguf [--seed N] [--threads N] OUT.gguf\n");
        return 2;
    }
    if (make_model(&options, &err) != SL_OK) {
        fprintf(stderr, "make_model: %s\n", err.text);
        return 1;
    }
    return 0;
}
