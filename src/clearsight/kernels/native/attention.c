/* Attention in bf16 with float32 sums, for AVX-512 BF16: packed segments, prefill over a cache and decoding are one
 * algorithm over "sequences" whose keys lie in one run of rows or in the blocks of a pool.
 *
 * The query heads of one kv head stand together as rows of a product, (token, head in group), ordered by token. A tile
 * of rows walks over the keys in steps of STEP: scores, softmax against a running maximum, sum of values. The running
 * maximum is a whole number in base 2 and is raised only when a score exceeds it by 2^SLACK, so that rescaling is rare
 * and exact. Keys and values are repacked so that neighbouring channels (of keys) and neighbouring keys (of values)
 * form the pairs that the dot product instruction takes: once per kv head where several tiles need them, else on the
 * fly. Few rows over many keys (decoding) are split along the keys and merged at the end; the split depends on the
 * sequence alone, so a row's result does not depend on what else runs in the batch. */
#include "common.h"

#if defined(CS_AVX512) && defined(__AVX512BF16__) && defined(__AVX512DQ__)

enum {
    STEP = 64,          /* keys of one step: four vectors of scores for each row */
    ROWS = 120,         /* rows of one tile, a multiple of 5 and 6 */
    GROUP = 6,          /* rows whose scores are held in registers at once */
    SPLIT = 512,        /* keys of one part when few rows are split along the keys */
    MAX_CHANNELS = 256,
    SLACK = 8,
    SCRATCH = 16 << 20, /* bytes of repacked keys and values held at once */
};
#define NOTHING_SEEN (-1e30f)
#define ALIGNED __attribute__((aligned(64)))

typedef struct {
    int64_t token, head;
} strides_t;

/* One segment or conversation. The rows of key i are at (table ? table[i / block] : 0) * block_stride + ... */
typedef struct {
    const uint16_t *q, *k, *v;
    uint16_t *out;
    const int32_t *table;
    int length, context;
} sequence_t;

typedef struct {
    strides_t q, k, v, out;
    int64_t k_block, v_block; /* strides of the pool's blocks */
    int block;                /* keys in a block; 0 where keys lie in one run */
    int heads, kv_heads, channels, causal;
    float scale;
} shape_t;

/* What a thread works on: rows of one kv head over a range of keys. */
typedef struct {
    int sequence, kv_head, row, rows, key, keys;
    const uint16_t *packed; /* repacked keys of the whole sequence, or NULL: repack on the fly */
    float *partial;         /* where an unfinished result goes, or NULL */
} task_t;

/* The state of one tile. Sums are kept as 16 partial ones. */
typedef struct {
    ALIGNED float out[ROWS * MAX_CHANNELS];
    ALIGNED float sums[ROWS][16];
    ALIGNED uint16_t weights[GROUP * STEP], k[STEP * MAX_CHANNELS], v[STEP * MAX_CHANNELS], q[ROWS * MAX_CHANNELS];
    float maximum[ROWS], bound[ROWS];
    int limit[ROWS]; /* the first key a row may not see */
} tile_t;

/* 2^t for t <= SLACK + 1, to 1e-4 of its value, which is well under the rounding to bf16 that follows. */
CS_INLINE __m512 power_of_two(__m512 t) {
    __m512 whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(t, whole);
    __m512 value = _mm512_fmadd_ps(_mm512_set1_ps(0.05517167f), rest, _mm512_set1_ps(0.24261114f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.69326099f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.99992807f));
    return _mm512_scalef_ps(value, whole);
}

CS_INLINE __mmask16 lanes_below(int count) {
    return count >= 16 ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

/* The 16-bit items 0 0 1 1 2 2 ... with `start` added. */
CS_INLINE __m512i each_twice(int start) {
    __m512i counts = _mm512_cvtepu16_epi32(_mm256_set_epi16(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    return _mm512_add_epi16(_mm512_or_si512(counts, _mm512_slli_epi32(counts, 16)), _mm512_set1_epi16((short)start));
}

/* ---- repacking ------------------------------------------------------------------------------------------------ */

/* Transposes 16 rows of 16 32-bit items in registers. */
CS_INLINE void transpose16(__m512i rows[16]) {
    __m512i other[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        other[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        other[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(other[i], other[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(other[i], other[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(other[i + 1], other[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(other[i + 1], other[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        other[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
        other[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
        other[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
        other[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_i32x4(other[i], other[i + 8], 0x88);
        rows[i + 4] = _mm512_shuffle_i32x4(other[i + 4], other[i + 12], 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(other[i], other[i + 8], 0xdd);
        rows[i + 12] = _mm512_shuffle_i32x4(other[i + 4], other[i + 12], 0xdd);
    }
}

/* Where the keys, or the values, of one head of a sequence lie. */
typedef struct {
    const uint16_t *base;
    const int32_t *table;
    int64_t block_stride, token_stride;
    int block;
} rows_t;

static const ALIGNED uint16_t zeros[MAX_CHANNELS];

CS_INLINE rows_t keys_of(const shape_t *shape, const sequence_t *sequence, int head) {
    return (rows_t){sequence->k + head * shape->k.head, sequence->table, shape->k_block, shape->k.token, shape->block};
}

CS_INLINE rows_t values_of(const shape_t *shape, const sequence_t *sequence, int head) {
    return (rows_t){sequence->v + head * shape->v.head, sequence->table, shape->v_block, shape->v.token, shape->block};
}

/* The addresses of rows [start, start + count); those after the first `present` are rows of zeros. */
CS_INLINE void find_rows(const rows_t *rows, int start, int count, int present, const uint16_t **found) {
    for (int i = 0; i < count; i++) {
        int row = start + i;
        if (i >= present)
            found[i] = zeros;
        else if (rows->block)
            found[i] = rows->base + rows->table[row / rows->block] * rows->block_stride +
                       (row % rows->block) * rows->token_stride;
        else
            found[i] = rows->base + row * rows->token_stride;
    }
}

/* STEP keys as (C / 2, STEP, 2). */
static void pack_keys(const uint16_t *const from[STEP], int channels, uint16_t *packed) {
    for (int column = 0; column < STEP; column += 16)
        for (int channel = 0; channel < channels; channel += 32) {
            int pairs = channels - channel >= 32 ? 16 : 8;
            __m512i rows[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                rows[i] = _mm512_maskz_loadu_epi32(lanes_below(pairs), from[column + i] + channel);
            transpose16(rows);
            uint16_t *to = packed + channel * STEP + column * 2;
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                if (i < pairs) _mm512_store_si512(to + i * 2 * STEP, rows[i]);
        }
}

/* STEP values as (STEP / 2, C, 2). */
static void pack_values(const uint16_t *const from[STEP], int channels, uint16_t *packed) {
    const __m512i first = _mm512_mask_blend_epi16(0xaaaaaaaa, each_twice(0), each_twice(32));
    const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
    for (int i = 0; i < STEP; i += 2, packed += 2 * channels)
        for (int channel = 0; channel < channels; channel += 32) {
            int pairs = channels - channel >= 32 ? 16 : 8;
            __m512i even = _mm512_maskz_loadu_epi32(lanes_below(pairs), from[i] + channel);
            __m512i odd = _mm512_maskz_loadu_epi32(lanes_below(pairs), from[i + 1] + channel);
            _mm512_store_si512(packed + 2 * channel, _mm512_permutex2var_epi16(even, first, odd));
            if (pairs == 16)
                _mm512_store_si512(packed + 2 * channel + 32, _mm512_permutex2var_epi16(even, second, odd));
        }
}

/* Repacks keys and values [key, key + STEP) of one head; those from key + keys on are missing and count as zero. */
static void pack(const shape_t *shape, const sequence_t *sequence, int head, int key, int keys, uint16_t *k,
                 uint16_t *v) {
    const uint16_t *found[STEP];
    rows_t from = keys_of(shape, sequence, head);
    find_rows(&from, key, STEP, keys, found);
    pack_keys(found, shape->channels, k);
    from = values_of(shape, sequence, head);
    find_rows(&from, key, STEP, keys, found);
    pack_values(found, shape->channels, v);
}

/* Asks for the rows [key, key + keys) ahead of their use. */
static void prefetch(const shape_t *shape, const sequence_t *sequence, int head, int key, int keys) {
    const uint16_t *found[STEP];
    rows_t both[2] = {keys_of(shape, sequence, head), values_of(shape, sequence, head)};
    for (int i = 0; i < 2; i++) {
        find_rows(&both[i], key, keys, keys, found);
        for (int row = 0; row < keys; row++)
            for (int c = 0; c < shape->channels; c += 32) _mm_prefetch((const char *)(found[row] + c), _MM_HINT_T0);
    }
}

/* ---- one step: some rows, STEP keys --------------------------------------------------------------------------- */

/* A row met a score far above its maximum: raise it, and bring what was summed so far to the new scale. */
static __attribute__((noinline)) void raise_maximum(tile_t *tile, int row, int channels, float score, float scale) {
    float maximum = ceilf(score * scale), factor = exp2f(tile->maximum[row] - maximum);
    float *out = tile->out + (int64_t)row * channels;
    for (int c = 0; c < channels; c++) out[c] *= factor;
    for (int i = 0; i < 16; i++) tile->sums[row][i] *= factor;
    tile->maximum[row] = maximum;
    tile->bound[row] = (maximum + SLACK) / scale;
}

/* Scores of MR rows against STEP keys and their softmax weights, as bf16 rows of STEP. */
CS_INLINE void weigh(const int MR, const int masked, tile_t *tile, int row, int key, int channels, float scale,
                     const uint16_t *packed) {
    __m512 scores[GROUP][4];
    const uint16_t *q = tile->q + (int64_t)row * channels;
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) scores[r][j] = _mm512_setzero_ps();
    for (int c = 0; c < channels; c += 2, packed += 2 * STEP) {
        __m512bh keys[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) keys[j] = (__m512bh)_mm512_load_si512(packed + 32 * j);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            int pair;
            memcpy(&pair, q + r * channels + c, 4);
            __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) scores[r][j] = _mm512_dpbf16_ps(scores[r][j], both, keys[j]);
        }
    }
    const __m512 factor = _mm512_set1_ps(scale);
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++) {
        __mmask16 seen[4];
        if (masked) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                seen[j] = lanes_below(tile->limit[row + r] - key - 16 * j);
                scores[r][j] = _mm512_mask_blend_ps(seen[j], _mm512_set1_ps(-INFINITY), scores[r][j]);
            }
        }
        __m512 top = _mm512_max_ps(_mm512_max_ps(scores[r][0], scores[r][1]), _mm512_max_ps(scores[r][2], scores[r][3]));
        if (__builtin_expect(_mm512_cmp_ps_mask(top, _mm512_set1_ps(tile->bound[row + r]), _CMP_GT_OQ) != 0, 0))
            raise_maximum(tile, row + r, channels, _mm512_reduce_max_ps(top), scale);
        const __m512 maximum = _mm512_set1_ps(tile->maximum[row + r]);
        __m512 weights[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            weights[j] = power_of_two(_mm512_fmsub_ps(scores[r][j], factor, maximum));
            if (masked) weights[j] = _mm512_maskz_mov_ps(seen[j], weights[j]);
        }
        __m512 sum = _mm512_add_ps(_mm512_add_ps(weights[0], weights[1]), _mm512_add_ps(weights[2], weights[3]));
        _mm512_store_ps(tile->sums[row + r], _mm512_add_ps(_mm512_load_ps(tile->sums[row + r]), sum));
        uint16_t *to = tile->weights + r * STEP;
        _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(weights[1], weights[0]));
        _mm512_store_si512(to + 32, (__m512i)_mm512_cvtne2ps_pbh(weights[3], weights[2]));
    }
}

/* Adds MR rows of weights times 16 * NV channels of the values. */
CS_INLINE void add_values(const int MR, const int NV, const uint16_t *weights, const uint16_t *packed, float *out,
                          int channels, int keys) {
    __m512 sums[GROUP][5];
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 5
        for (int j = 0; j < NV; j++) sums[r][j] = _mm512_loadu_ps(out + r * channels + 16 * j);
    for (int k = 0; k < keys; k += 2, packed += 2 * channels) {
        __m512bh values[5];
#pragma GCC unroll 5
        for (int j = 0; j < NV; j++) values[j] = (__m512bh)_mm512_load_si512(packed + 32 * j);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            int pair;
            memcpy(&pair, weights + r * STEP + k, 4);
            __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 5
            for (int j = 0; j < NV; j++) sums[r][j] = _mm512_dpbf16_ps(sums[r][j], both, values[j]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 5
        for (int j = 0; j < NV; j++) _mm512_storeu_ps(out + r * channels + 16 * j, sums[r][j]);
}

/* MR rows over the keys [key, key + keys), keys <= STEP. */
CS_INLINE void step_rows(const int MR, tile_t *tile, int row, int key, int keys, int channels, float scale,
                         const uint16_t *k, const uint16_t *v) {
    int limit = tile->limit[row + MR - 1]; /* rows are ordered by token: the last sees most */
    if (limit <= key) return;
    if (tile->limit[row] >= key + STEP)
        weigh(MR, 0, tile, row, key, channels, scale, k);
    else
        weigh(MR, 1, tile, row, key, channels, scale, k);
    if (limit - key < keys) keys = limit - key;
    float *out = tile->out + (int64_t)row * channels;
    int vectors = channels / 16;
    if (MR <= 5 && vectors == 5) {
        add_values(MR, 5, tile->weights, v, out, channels, keys);
        return;
    }
    for (; vectors >= 4; vectors -= 4, out += 64, v += 128) add_values(MR, 4, tile->weights, v, out, channels, keys);
    if (vectors == 3) add_values(MR, 3, tile->weights, v, out, channels, keys);
    if (vectors == 2) add_values(MR, 2, tile->weights, v, out, channels, keys);
    if (vectors == 1) add_values(MR, 1, tile->weights, v, out, channels, keys);
}

#define STEP_ROWS(MR)                                                                                             \
    static __attribute__((noinline)) void step_##MR(tile_t *tile, int row, int key, int keys, int channels,       \
                                                    float scale, const uint16_t *k, const uint16_t *v) {          \
        step_rows(MR, tile, row, key, keys, channels, scale, k, v);                                               \
    }
STEP_ROWS(1)
STEP_ROWS(2)
STEP_ROWS(3)
STEP_ROWS(4)
STEP_ROWS(5)
STEP_ROWS(6)

static void (*const step_of[])(tile_t *, int, int, int, int, float, const uint16_t *, const uint16_t *) = {
    NULL, step_1, step_2, step_3, step_4, step_5, step_6};

/* ---- one task ------------------------------------------------------------------------------------------------- */

static void load_rows(tile_t *tile, const shape_t *shape, const sequence_t *sequence, const task_t *task) {
    int group = shape->heads / shape->kv_heads, channels = shape->channels;
    for (int r = 0; r < task->rows; r++) {
        int token = (task->row + r) / group, head = task->kv_head * group + (task->row + r) % group;
        memcpy(tile->q + (int64_t)r * channels, sequence->q + token * shape->q.token + head * shape->q.head,
               2 * channels);
        tile->limit[r] = shape->causal ? sequence->context - sequence->length + token + 1 : sequence->context;
        tile->maximum[r] = NOTHING_SEEN;
        tile->bound[r] = -INFINITY;
    }
    memset(tile->out, 0, sizeof(float) * task->rows * channels);
    memset(tile->sums, 0, sizeof(float) * 16 * task->rows);
}

CS_INLINE float total(const float sums[16]) { return _mm512_reduce_add_ps(_mm512_load_ps(sums)); }

static void store_row(const shape_t *shape, const sequence_t *sequence, int kv_head, int row, const float *sums,
                      float weight) {
    int group = shape->heads / shape->kv_heads;
    uint16_t *to = sequence->out + row / group * shape->out.token + (kv_head * group + row % group) * shape->out.head;
    __m512 factor = _mm512_set1_ps(1.0f / weight);
    for (int c = 0; c < shape->channels; c += 16)
        _mm256_storeu_si256((void *)(to + c), cs_round16_bf16(_mm512_mul_ps(_mm512_loadu_ps(sums + c), factor)));
}

/* A part's unfinished rows: maximum, sum of weights, then the channels. */
static void store_partial(const tile_t *tile, const task_t *task, int channels) {
    for (int r = 0; r < task->rows; r++) {
        float *to = task->partial + (int64_t)r * (channels + 2);
        to[0] = tile->maximum[r];
        to[1] = total(tile->sums[r]);
        memcpy(to + 2, tile->out + (int64_t)r * channels, sizeof(float) * channels);
    }
}

static void run_task(tile_t *tile, const shape_t *shape, const sequence_t *sequence, const task_t *task) {
    int channels = shape->channels, most = channels == 80 ? 5 : GROUP;
    int groups = (task->rows + most - 1) / most;
    load_rows(tile, shape, sequence, task);
    int stop = task->key + task->keys, limit = tile->limit[task->rows - 1];
    if (stop > limit) stop = limit;
    for (int key = task->key; key < stop; key += STEP) {
        int keys = stop - key < STEP ? stop - key : STEP;
        const uint16_t *k = tile->k, *v = tile->v;
        if (task->packed) {
            k = task->packed + (int64_t)key * 2 * channels;
            v = k + STEP * channels;
        } else {
            int next = key + STEP;
            if (next < stop)
                prefetch(shape, sequence, task->kv_head, next, stop - next < STEP ? stop - next : STEP);
            pack(shape, sequence, task->kv_head, key, keys, tile->k, tile->v);
        }
        for (int g = 0, row = 0; g < groups; g++) { /* the groups' sizes differ by one at most */
            int rows = (task->rows - row) / (groups - g);
            step_of[rows](tile, row, key, keys, channels, shape->scale, k, v);
            row += rows;
        }
    }
    if (task->partial) {
        store_partial(tile, task, channels);
        return;
    }
    for (int r = 0; r < task->rows; r++)
        store_row(shape, sequence, task->kv_head, task->row + r, tile->out + (int64_t)r * channels,
                  total(tile->sums[r]));
}

/* ---- planning ------------------------------------------------------------------------------------------------- */

typedef struct {
    int sequence, kv_head;
    int64_t packed; /* where its repacked keys start, in elements; -1: none */
} head_t;

static int rows_of(const shape_t *shape, const sequence_t *sequence) {
    return sequence->length * (shape->heads / shape->kv_heads);
}

static int parts_of(const shape_t *shape, const sequence_t *sequence) {
    if (rows_of(shape, sequence) > ROWS) return 1;
    return (sequence->context + SPLIT - 1) / SPLIT;
}

static int64_t packed_size(const shape_t *shape, const sequence_t *sequence) {
    if (rows_of(shape, sequence) <= ROWS) return 0;
    return (int64_t)(sequence->context + STEP - 1) / STEP * STEP * 2 * shape->channels;
}

/* Tasks of the heads of one wave. The longest come first where rows differ in how much they see. */
static int plan(const shape_t *shape, const sequence_t *sequences, const head_t *heads, int count, const uint16_t *packed,
                float *partial, task_t *tasks) {
    int total_tasks = 0;
    for (int h = 0; h < count; h++) {
        const sequence_t *sequence = &sequences[heads[h].sequence];
        int rows = rows_of(shape, sequence), parts = parts_of(shape, sequence), tiles = (rows + ROWS - 1) / ROWS;
        for (int t = tiles - 1; t >= 0; t--)
            for (int part = 0; part < parts; part++) {
                task_t *task = &tasks[total_tasks++];
                task->sequence = heads[h].sequence;
                task->kv_head = heads[h].kv_head;
                task->row = (int)((int64_t)rows * t / tiles);
                task->rows = (int)((int64_t)rows * (t + 1) / tiles) - task->row;
                task->key = part * SPLIT;
                task->keys = parts > 1 ? SPLIT : sequence->context;
                task->packed = heads[h].packed < 0 ? NULL : packed + heads[h].packed;
                task->partial = parts > 1 ? partial : NULL;
                if (parts > 1) partial += (int64_t)rows * (shape->channels + 2);
            }
    }
    return total_tasks;
}

/* Brings the parts of one row to a common scale and adds them up. */
static void merge_row(const shape_t *shape, const sequence_t *sequence, const task_t *first, int parts, int row) {
    int channels = shape->channels;
    float sums[MAX_CHANNELS] = {0}, weight = 0, maximum = NOTHING_SEEN;
    for (int part = 0; part < parts; part++) {
        float top = first[part].partial[(int64_t)row * (channels + 2)];
        maximum = top > maximum ? top : maximum;
    }
    for (int part = 0; part < parts; part++) {
        const float *from = first[part].partial + (int64_t)row * (channels + 2);
        float factor = exp2f(from[0] - maximum);
        weight += factor * from[1];
        for (int c = 0; c < channels; c++) sums[c] += factor * from[2 + c];
    }
    store_row(shape, sequence, first->kv_head, row, sums, weight);
}

static void *aligned(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64 + 64); }

/* One wave: repack its heads' keys and values, run its tasks, merge what was split. */
static int run_wave(const shape_t *shape, const sequence_t *sequences, const head_t *heads, int count, int64_t elements,
                    tile_t *tiles, int threads) {
    int64_t most_tasks = 0, partials = 0;
    for (int h = 0; h < count; h++) {
        const sequence_t *sequence = &sequences[heads[h].sequence];
        int parts = parts_of(shape, sequence), rows = rows_of(shape, sequence);
        most_tasks += (int64_t)((rows + ROWS - 1) / ROWS) * parts;
        if (parts > 1) partials += (int64_t)parts * rows * (shape->channels + 2);
    }
    task_t *tasks = malloc(sizeof(task_t) * most_tasks);
    uint16_t *packed = aligned(2 * elements);
    float *partial = aligned(sizeof(float) * partials);
    int failed = !tasks || !packed || !partial;
    if (!failed) {
        int64_t size = 2 * STEP * shape->channels, steps = elements / size;
        if (steps) {
            cs_parallel_for(threads, 4) for (int64_t i = 0; i < steps; i++) {
                int h = count - 1;
                while (heads[h].packed < 0 || heads[h].packed > i * size) h--;
                const sequence_t *sequence = &sequences[heads[h].sequence];
                int key = (int)((i * size - heads[h].packed) / (2 * shape->channels));
                int keys = sequence->context - key < STEP ? sequence->context - key : STEP;
                uint16_t *to = packed + i * size;
                pack(shape, sequence, heads[h].kv_head, key, keys, to, to + size / 2);
            }
        }
        int number = plan(shape, sequences, heads, count, packed, partial, tasks);
        cs_parallel_for(threads, 1) for (int i = 0; i < number; i++)
            run_task(&tiles[cs_thread_index()], shape, &sequences[tasks[i].sequence], &tasks[i]);
        for (int i = 0; i < number; i++) {
            if (!tasks[i].partial) continue;
            int parts = parts_of(shape, &sequences[tasks[i].sequence]);
            for (int row = 0; row < tasks[i].rows; row++)
                merge_row(shape, &sequences[tasks[i].sequence], &tasks[i], parts, row);
            i += parts - 1;
        }
    }
    free(tasks);
    free(packed);
    free(partial);
    return failed;
}

static int run(const shape_t *shape, const sequence_t *sequences, int count, int threads) {
    tile_t *tiles = aligned(sizeof(tile_t) * threads);
    head_t *heads = malloc(sizeof(head_t) * ((size_t)count * shape->kv_heads + 1));
    int failed = !tiles || !heads;
    int number = 0;
    int64_t elements = 0;
    for (int s = 0; s < count && !failed; s++)
        for (int h = 0; h < shape->kv_heads && !failed; h++) {
            int64_t size = packed_size(shape, &sequences[s]);
            if (number && elements + size > SCRATCH / 2) {
                failed = run_wave(shape, sequences, heads, number, elements, tiles, threads);
                number = 0;
                elements = 0;
            }
            heads[number++] = (head_t){s, h, size ? elements : -1};
            elements += size;
        }
    if (number && !failed) failed = run_wave(shape, sequences, heads, number, elements, tiles, threads);
    free(tiles);
    free(heads);
    return failed;
}

CS_EXPORT int cs_attention_channels(void) { return MAX_CHANNELS; }

/* `strides` in elements: q token, head; k token, head; v token, head; out token, head; k block; v block.
 * `sizes`: heads, kv_heads, channels, causal, keys in a block (0: keys lie in one run, as long as the queries).
 * `lengths` queries and `contexts` keys of each sequence; `tables` one after another, ceil(context / block) each.
 * Returns 0, or 1 if memory ran out. */
CS_EXPORT int cs_attention(const uint16_t *q, const uint16_t *k, const uint16_t *v, uint16_t *out,
                           const int64_t *strides, const int32_t *sizes, float scale, const int32_t *lengths,
                           const int32_t *contexts, const int32_t *tables, int count, int threads) {
    shape_t shape = {
        .q = {strides[0], strides[1]}, .k = {strides[2], strides[3]}, .v = {strides[4], strides[5]},
        .out = {strides[6], strides[7]}, .k_block = strides[8], .v_block = strides[9],
        .heads = sizes[0], .kv_heads = sizes[1], .channels = sizes[2], .causal = sizes[3], .block = sizes[4],
        .scale = scale * 1.44269504f,
    };
    sequence_t *sequences = malloc(sizeof(sequence_t) * ((size_t)count + 1));
    if (!sequences) return 1;
    for (int s = 0; s < count; s++) {
        sequences[s] = (sequence_t){q, k, v, out, tables, lengths[s], contexts[s]};
        q += lengths[s] * shape.q.token;
        out += lengths[s] * shape.out.token;
        if (shape.block) {
            tables += (contexts[s] + shape.block - 1) / shape.block;
        } else {
            k += lengths[s] * shape.k.token;
            v += lengths[s] * shape.v.token;
        }
    }
    int failed = run(&shape, sequences, count, threads);
    free(sequences);
    return failed;
}

#else

CS_EXPORT int cs_attention_channels(void) { return 0; }

CS_EXPORT int cs_attention(const uint16_t *q, const uint16_t *k, const uint16_t *v, uint16_t *out,
                           const int64_t *strides, const int32_t *sizes, float scale, const int32_t *lengths,
                           const int32_t *contexts, const int32_t *tables, int count, int threads) {
    return 1;
}

#endif
