/* A whole stack of decoder layers in one call: the same kernels in the same order as the modules call them one by one.
 *
 * Between two calls from Python the pool's threads fall asleep, and at one row waking them and the calls themselves
 * cost a third of a decode step. */
#include "linear.h"
#include "rows.h"

/* Products, norms and addresses of one layer; decoder.py's _Layer has the same fields. */
typedef struct {
    cs_weight q, k, v, o, gate, up, down;
    const uint16_t *attention_norm, *mlp_norm;
    uint16_t *keys, *values; /* pools [blocks][block][kv_heads][channels] */
} layer_t;

/* decoder.py's _Pass has the same fields. */
typedef struct {
    int64_t rows, width, inner; /* inner: of the gated part */
    int64_t heads, kv_heads, channels, block, sequences;
    const float *cosines, *sines; /* [rows][channels] */
    const int64_t *slots;         /* where each row's key and value go, in tokens of the pool */
    const int32_t *lengths, *contexts, *tables;
    float epsilon, scale;
    int32_t threads;
} pass_t;

/* Rows that live for one layer. */
typedef struct {
    uint16_t *normed, *q, *k, *v, *attended, *gate, *up, *change;
} scratch_t;

static void store(const pass_t *pass, const uint16_t *rows, uint16_t *pool) {
    const int64_t width = pass->kv_heads * pass->channels;
    for (int64_t r = 0; r < pass->rows; r++)
        memcpy(pool + pass->slots[r] * width, rows + r * width, sizeof(uint16_t) * (size_t)width);
}

static int attention(const pass_t *pass, const layer_t *layer, uint16_t *x, const scratch_t *s) {
    const int threads = pass->threads;
    const int64_t rows = pass->rows, channels = pass->channels, wide = pass->heads * channels,
                  narrow = pass->kv_heads * channels;
    cs_rms_norm(x, CS_BF16, rows, pass->width, pass->width, layer->attention_norm, pass->epsilon, s->normed, threads);
    const cs_weight weights[] = {layer->q, layer->k, layer->v};
    void *const outputs[] = {s->q, s->k, s->v};
    const ptrdiff_t strides[] = {wide, narrow, narrow};
    if (cs_linears(s->normed, CS_BF16, rows, pass->width, pass->width, weights, outputs, strides, 3, CS_BF16, threads))
        return 1;
    cs_rotate(s->q, CS_BF16, rows, pass->heads, channels, wide, channels, pass->cosines, pass->sines, s->q, threads);
    cs_rotate(s->k, CS_BF16, rows, pass->kv_heads, channels, narrow, channels, pass->cosines, pass->sines, s->k,
              threads);
    store(pass, s->k, layer->keys);
    store(pass, s->v, layer->values);
    const int64_t block = pass->block * narrow;
    const int64_t apart[] = {wide, channels, narrow, channels, narrow, channels, wide, channels, block, block};
    const int32_t sizes[] = {(int32_t)pass->heads, (int32_t)pass->kv_heads, (int32_t)channels, 1, (int32_t)pass->block};
    if (cs_attention(s->q, layer->keys, layer->values, s->attended, apart, sizes, pass->scale, pass->lengths,
                     pass->contexts, pass->tables, (int)pass->sequences, threads))
        return 1;
    if (cs_linear(s->attended, CS_BF16, rows, wide, wide, &layer->o, s->change, CS_BF16, pass->width, threads)) return 1;
    cs_add(x, s->change, CS_BF16, rows * pass->width, x, threads);
    return 0;
}

static int mlp(const pass_t *pass, const layer_t *layer, uint16_t *x, const scratch_t *s) {
    const int threads = pass->threads;
    const int64_t rows = pass->rows, width = pass->width, inner = pass->inner;
    cs_rms_norm(x, CS_BF16, rows, width, width, layer->mlp_norm, pass->epsilon, s->normed, threads);
    const cs_weight weights[] = {layer->gate, layer->up};
    void *const outputs[] = {s->gate, s->up};
    const ptrdiff_t strides[] = {inner, inner};
    if (cs_linears(s->normed, CS_BF16, rows, width, width, weights, outputs, strides, 2, CS_BF16, threads)) return 1;
    cs_gate(s->gate, CS_BF16, rows, inner, inner, s->up, inner, 1.0f, s->gate, threads);
    if (cs_linear(s->gate, CS_BF16, rows, inner, inner, &layer->down, s->change, CS_BF16, width, threads)) return 1;
    cs_add(x, s->change, CS_BF16, rows * width, x, threads);
    return 0;
}

/* x[rows][width] in bf16 through `count` layers, in place. q, k and v have weights of equal group, and so have gate and
 * up. Returns 0, or 1 without memory; the pool may then hold some of the new keys. */
CS_EXPORT int cs_decoder(const layer_t *layers, ptrdiff_t count, const pass_t *pass, uint16_t *x) {
    const size_t rows = (size_t)pass->rows, width = (size_t)pass->width, inner = (size_t)pass->inner;
    const size_t wide = (size_t)(pass->heads * pass->channels), narrow = (size_t)(pass->kv_heads * pass->channels);
    uint16_t *memory = malloc(sizeof(uint16_t) * rows * (2 * width + 2 * wide + 2 * narrow + 2 * inner) + 1);
    if (!memory) return 1;
    scratch_t s = {.normed = memory};
    s.change = s.normed + rows * width;
    s.q = s.change + rows * width;
    s.attended = s.q + rows * wide;
    s.k = s.attended + rows * wide;
    s.v = s.k + rows * narrow;
    s.gate = s.v + rows * narrow;
    s.up = s.gate + rows * inner;
    int failed = 0;
    for (ptrdiff_t i = 0; i < count && !failed; i++)
        failed = attention(pass, &layers[i], x, &s) || mlp(pass, &layers[i], x, &s);
    free(memory);
    return failed;
}
