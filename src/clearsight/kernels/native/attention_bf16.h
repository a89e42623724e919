/* The walk's inner loops for AVX-512 BF16: neighbouring channels (of keys) and neighbouring keys (of values) form the
 * pairs that the dot product instruction takes. */
#ifndef CS_ATTENTION_BF16_H
#define CS_ATTENTION_BF16_H

#include "attention_tile.h"

CS_INLINE __mmask16 lanes_below(int count) {
    return count >= 16 ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

/* A query; returns what it was scaled by: it was not. */
CS_INLINE float load_query(const uint16_t *from, int channels, uint16_t *to) {
    memcpy(to, from, 2 * channels);
    return 1.0f;
}

CS_INLINE float total(const float sums[16]) { return _mm512_reduce_add_ps(_mm512_load_ps(sums)); }

/* 16 sums times `factor`, rounded. */
CS_INLINE void store16(const float *sums, float factor, uint16_t *to) {
    _mm256_storeu_si256((void *)to, cs_round16_bf16(_mm512_mul_ps(_mm512_loadu_ps(sums), _mm512_set1_ps(factor))));
}

/* Rows whose scores and sums fit the registers. */
CS_INLINE int rows_at_once(int channels) { return channels == 80 ? 5 : GROUP; }

/* The 16-bit items 0 0 1 1 2 2 ... with `start` added. */
CS_INLINE __m512i each_twice(int start) {
    __m512i counts = _mm512_cvtepu16_epi32(_mm256_set_epi16(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    return _mm512_add_epi16(_mm512_or_si512(counts, _mm512_slli_epi32(counts, 16)), _mm512_set1_epi16((short)start));
}

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

/* 2^t for t <= SLACK + 1, to 1e-4 of its value, which is well under the rounding to bf16 that follows. */
CS_INLINE __m512 power_of_two(__m512 t) {
    __m512 whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(t, whole);
    __m512 value = _mm512_fmadd_ps(_mm512_set1_ps(0.05517167f), rest, _mm512_set1_ps(0.24261114f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.69326099f));
    value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(0.99992807f));
    return _mm512_scalef_ps(value, whole);
}

/* Scores of MR rows against STEP keys and their softmax weights, as bf16 rows of STEP. */
CS_INLINE void weigh(const int MR, const int masked, tile_t *tile, int row, int key, int channels, float scale,
                     const uint16_t *packed, const uint16_t *values) {
    (void)values;
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

/* Adds MR rows of weights times the values. */
CS_INLINE void add_channels(const int MR, tile_t *tile, int row, const uint16_t *v, int channels, int keys) {
    const uint16_t *weights = tile->weights;
    float *out = tile->out + (int64_t)row * channels;
    int vectors = channels / 16;
    if (MR <= 5 && vectors == 5) {
        add_values(MR, 5, weights, v, out, channels, keys);
        return;
    }
    for (; vectors >= 4; vectors -= 4, out += 64, v += 128) add_values(MR, 4, weights, v, out, channels, keys);
    if (vectors == 3) add_values(MR, 3, weights, v, out, channels, keys);
    if (vectors == 2) add_values(MR, 2, weights, v, out, channels, keys);
    if (vectors == 1) add_values(MR, 1, weights, v, out, channels, keys);
}

#endif
