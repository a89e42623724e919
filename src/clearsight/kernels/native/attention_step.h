/* One step of a tile: scores of some rows against 64 keys, softmax weights, sums of values. */
#ifndef CS_ATTENTION_STEP_H
#define CS_ATTENTION_STEP_H

#include "attention.h"

/* 2^t for t <= SLACK + 1, to 1e-4 of its value, which is well under the rounding to bf16 that follows. */
CS_INLINE __m512 power_of_two(__m512 t) {
    __m512 whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(t, whole);
    __m512 value = _mm512_fmadd_ps(_mm512_set1_ps(0.05517167f), rest, _mm512_set1_ps(0.24261114f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.69326099f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.99992807f));
    return _mm512_scalef_ps(value, whole);
}

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

#endif
