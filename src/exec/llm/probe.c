#include "exec/llm/probe.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "exec/llm/backend.h"
#include "exec/llm/gguf.h"
#include "exec/llm/stage.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <time.h>

#define HEADER_BYTES_MAX (1 << 20)
#define GGUF_MAGIC "GGUF"
#define GGUF_VERSION 3
#define TYPE_F32 0      /* ggml's number */
#define TYPES_MAX 64    /* ggml has 40 */
#define ALIGNMENT 32    /* of the format, where a file does not say */
#define BLOCK_TOKENS 16 /* of the KV cache: any number that divides ATTN_TILE does */
#define TENSORS 9       /* of a layer */

struct llm_probe {
    const struct llm_backends *backends;
    struct llm_probe_shape shape;
    uint32_t type;
    struct sl_buf header;
    char *map; /* the file that is not one */
    size_t map_bytes;
    struct gguf_file *file;
    struct llm_hparams hp;
    struct llm_stage *stage;
    double layer_bytes;
    float *hidden;
    int32_t *blocks;
};

/* --- a file in memory --- */

struct probe_tensor {
    const char *name;
    int64_t ne[2]; /* ne[1] 0: a vector of f32 */
};

static void list_tensors(const struct llm_probe_shape *s, struct probe_tensor out[TENSORS])
{
    int64_t e = s->n_embd, kv = e / s->n_head * s->n_head_kv, ff = s->n_ff;
    const struct probe_tensor tensors[TENSORS] = {
        {"attn_norm", {e, 0}}, {"attn_q", {e, e}},      {"attn_k", {e, kv}},
        {"attn_v", {e, kv}},   {"attn_output", {e, e}}, {"ffn_norm", {e, 0}},
        {"ffn_gate", {e, ff}}, {"ffn_up", {e, ff}},     {"ffn_down", {ff, e}}};
    memcpy(out, tensors, sizeof tensors);
}

static sl_status put(struct sl_buf *out, uint64_t v, size_t n)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)(v >> 8 * i);
    return sl_buf_add(out, bytes, n);
}

static sl_status put_str(struct sl_buf *out, const char *s)
{
    sl_status status = put(out, strlen(s), 8);
    return status == SL_OK ? sl_buf_adds(out, s) : status;
}

static sl_status put_key(struct sl_buf *out, const char *key, enum gguf_type type, uint64_t v)
{
    sl_status status = put_str(out, key);
    if (status == SL_OK) status = put(out, type, 4);
    return status == SL_OK ? put(out, v, 4) : status;
}

static sl_status put_keys(const struct llm_probe_shape *s, struct sl_buf *out)
{
    const struct {
        const char *key;
        int32_t value;
    } keys[] = {{"llama.block_count", s->n_layer},
                {"llama.embedding_length", s->n_embd},
                {"llama.feed_forward_length", s->n_ff},
                {"llama.attention.head_count", s->n_head},
                {"llama.attention.head_count_kv", s->n_head_kv},
                {"llama.context_length", s->n_ctx},
                {"llama.vocab_size", 1}};
    const float eps = 1e-5f;
    uint32_t eps_bits;
    size_t n = sizeof keys / sizeof *keys;
    memcpy(&eps_bits, &eps, sizeof eps_bits);
    sl_status status = put(out, n + 2, 8);
    if (status == SL_OK) status = put_str(out, "general.architecture");
    if (status == SL_OK) status = put(out, GGUF_STRING, 4);
    if (status == SL_OK) status = put_str(out, "llama");
    for (size_t i = 0; i < n && status == SL_OK; i++)
        status = put_key(out, keys[i].key, GGUF_U32, (uint64_t)keys[i].value);
    if (status == SL_OK)
        status = put_key(out, "llama.attention.layer_norm_rms_epsilon", GGUF_F32, eps_bits);
    return status;
}

static size_t aligned(size_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static size_t tensor_bytes(const struct llm_probe *p, const struct probe_tensor *t)
{
    int64_t elements = 1;
    size_t bytes = sizeof(float);
    if (t->ne[1] && !gguf_type_traits(p->type, &elements, &bytes)) return 0;
    return (size_t)(t->ne[0] * (t->ne[1] ? t->ne[1] : 1) / elements) * bytes;
}

static sl_status put_tensor(const struct llm_probe *p, int32_t il, const struct probe_tensor *t,
                            size_t *offset, struct sl_buf *out)
{
    char name[GGUF_NAME_MAX + 1];
    uint32_t n_dims = t->ne[1] ? 2 : 1;
    snprintf(name, sizeof name, "blk.%d.%s.weight", il, t->name);
    sl_status status = put_str(out, name);
    if (status == SL_OK) status = put(out, n_dims, 4);
    for (uint32_t i = 0; i < n_dims && status == SL_OK; i++)
        status = put(out, (uint64_t)t->ne[i], 8);
    if (status == SL_OK) status = put(out, n_dims == 2 ? p->type : TYPE_F32, 4);
    if (status == SL_OK) status = put(out, *offset, 8);
    *offset += aligned(tensor_bytes(p, t));
    return status;
}

static sl_status put_header(struct llm_probe *p, const struct probe_tensor tensors[TENSORS],
                            size_t *out_data_bytes)
{
    struct sl_buf *out = &p->header;
    *out_data_bytes = 0;
    sl_status status = sl_buf_add(out, GGUF_MAGIC, 4);
    if (status == SL_OK) status = put(out, GGUF_VERSION, 4);
    if (status == SL_OK) status = put(out, (uint64_t)p->shape.n_layer * TENSORS, 8);
    if (status == SL_OK) status = put_keys(&p->shape, out);
    for (int32_t i = 0; i < p->shape.n_layer * TENSORS && status == SL_OK; i++)
        status = put_tensor(p, i / TENSORS, &tensors[i % TENSORS], out_data_bytes, out);
    return status;
}

/* Weights of 0 take as long as others. They are written all the same: pages that nobody wrote to
 * are one page of the kernel's, which would be read from the cache. */
static sl_status make_file(struct llm_probe *p, struct sl_err *err)
{
    struct probe_tensor tensors[TENSORS];
    size_t data_bytes = 0;
    list_tensors(&p->shape, tensors);
    for (int i = 0; i < TENSORS; i++)
        p->layer_bytes += tensors[i].ne[1] ? (double)tensor_bytes(p, &tensors[i]) : 0;
    if (put_header(p, tensors, &data_bytes) != SL_OK) return sl_err_set(err, SL_NOMEM, "header");
    p->map_bytes = aligned(p->header.len) + data_bytes;
    p->map = mmap(NULL, p->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->map == MAP_FAILED) {
        p->map = NULL;
        return sl_err_set(err, SL_NOMEM, "%zu bytes of weights", p->map_bytes);
    }
    memset(p->map, 0, p->map_bytes);
    memcpy(p->map, p->header.data, p->header.len);
    return gguf_open_mem(p->map, p->map_bytes, &p->file, err);
}

/* --- the stage --- */

static bool find_type(const char *name, uint32_t *out)
{
    for (uint32_t type = 0; type < TYPES_MAX; type++) {
        if (strcasecmp(gguf_tensor_type_name(type), name) != 0) continue;
        *out = type;
        return true;
    }
    return false;
}

static sl_status make_stage(struct llm_probe *p, struct sl_err *err)
{
    const struct llm_probe_shape *s = &p->shape;
    int32_t n_blocks = (s->n_ctx + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    sl_status status = llm_hparams_read(p->file, &p->hp, err);
    if (status != SL_OK) return status;
    const struct llm_stage_cfg cfg = {.file = p->file,
                                      .hp = &p->hp,
                                      .range = {.first = 0, .last = s->n_layer},
                                      .backends = p->backends,
                                      .n_slots = n_blocks * BLOCK_TOKENS,
                                      .n_batch = LLM_PROBE_ROWS_MAX,
                                      .n_ctx = s->n_ctx};
    p->hidden = sl_calloc((size_t)s->n_embd * LLM_PROBE_ROWS_MAX, sizeof *p->hidden);
    p->blocks = sl_calloc((size_t)n_blocks, sizeof *p->blocks);
    if (!p->hidden || !p->blocks) return sl_err_set(err, SL_NOMEM, "hidden states");
    for (int32_t i = 0; i < n_blocks; i++) p->blocks[i] = i;
    for (int32_t i = 0; i < s->n_embd * LLM_PROBE_ROWS_MAX; i++)
        p->hidden[i] = (float)(i % 17 - 8) / 8;
    return llm_stage_create(&cfg, &p->stage, err);
}

sl_status llm_probe_open(const struct llm_backends *backends, const struct llm_probe_shape *shape,
                         struct llm_probe **out, struct sl_err *err)
{
    struct llm_probe *p = sl_calloc(1, sizeof *p);
    int64_t elements = 1;
    size_t bytes;
    sl_status status;
    if (!p) return sl_err_set(err, SL_NOMEM, "probe");
    p->backends = backends;
    p->shape = *shape;
    sl_buf_init(&p->header, HEADER_BYTES_MAX);
    if (!find_type(shape->type, &p->type) || !gguf_type_traits(p->type, &elements, &bytes) ||
        shape->n_embd % elements || shape->n_ff % elements) {
        status = sl_err_set(err, SL_INVALID, "no weights of type %s in rows of %d and %d",
                            shape->type, shape->n_embd, shape->n_ff);
        goto fail;
    }
    status = make_file(p, err);
    if (status == SL_OK) status = make_stage(p, err);
    if (status != SL_OK) goto fail;
    *out = p;
    return SL_OK;
fail:
    llm_probe_close(p);
    return status;
}

void llm_probe_close(struct llm_probe *p)
{
    if (!p) return;
    llm_stage_destroy(p->stage);
    gguf_close(p->file);
    if (p->map) munmap(p->map, p->map_bytes);
    sl_buf_done(&p->header);
    sl_free(p->hidden);
    sl_free(p->blocks);
    sl_free(p);
}

double llm_probe_layer_bytes(const struct llm_probe *p)
{
    return p->layer_bytes;
}

double llm_probe_layer_flops(const struct llm_probe *p)
{
    struct probe_tensor tensors[TENSORS];
    double flops = 0;
    list_tensors(&p->shape, tensors);
    for (int i = 0; i < TENSORS; i++)
        flops += 2 * (double)tensors[i].ne[0] * (double)tensors[i].ne[1];
    return flops;
}

double llm_probe_attn_flops(const struct llm_probe *p)
{
    return 2.0 * p->hp.n_head * (p->hp.head_k + p->hp.head_v);
}

static double cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

sl_status llm_probe_run(struct llm_probe *p, int32_t n_rows, int32_t pos, double *out_s,
                        double *out_wall_s, struct sl_err *err)
{
    int32_t positions[LLM_PROBE_ROWS_MAX], per = attn_tile_tokens(p->hp.n_head, p->hp.n_head_kv);
    int64_t slots[LLM_PROBE_ROWS_MAX];
    struct attn_tile tiles[LLM_PROBE_ROWS_MAX];
    struct llm_batch batch = {.n_tokens = n_rows, .pos = positions, .slots = slots};
    float *out;
    batch.attn = (struct attn_batch){.tiles = tiles, .block_tokens = BLOCK_TOKENS};
    for (int32_t i = 0; i < n_rows; i++) slots[i] = positions[i] = pos + i;
    for (int32_t i = 0; i < n_rows; i += per)
        tiles[batch.attn.n_tiles++] =
            (struct attn_tile){i, n_rows - i < per ? n_rows - i : per, pos + i, p->blocks};
    int64_t wall = sl_now_ns();
    double cpu = cpu_s();
    sl_status status = llm_stage_compute(p->stage, &batch, p->hidden, &out, err);
    double spent = cpu_s() - cpu; /* a sum over threads, which may go back a little */
    *out_s = spent > 0 ? spent / p->backends->n_threads : 0;
    if (out_wall_s) *out_wall_s = (double)(sl_now_ns() - wall) / 1e9;
    return status;
}
