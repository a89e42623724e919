/* The walk's inner loops for AVX2, in float32: keys and values are widened when they are repacked, in panels of 16 keys
 * (of keys) and of 16 channels (of values). */
#ifndef CS_ATTENTION_FLOAT_H
#define CS_ATTENTION_FLOAT_H

#include "attention_tile.h"

enum { PANEL = 16 }; /* two vectors: with six rows, twelve sums in registers */

CS_INLINE __m256 widen8(const uint16_t *from) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)from)), 16));
}

CS_INLINE void load_query(const uint16_t *from, int channels, float *to) {
    for (int c = 0; c < channels; c += 8) _mm256_storeu_ps(to + c, widen8(from + c));
}

CS_INLINE float total(const float sums[16]) {
    float sum = 0.0f;
    for (int i = 0; i < 16; i++) sum += sums[i];
    return sum;
}

/* 16 sums times `factor`, rounded. */
CS_INLINE void store16(const float *sums, float factor, uint16_t *to) {
    for (int i = 0; i < 16; i++) to[i] = cs_f32_to_bf16(sums[i] * factor);
}

/* Rows whose scores and sums fit the registers. */
CS_INLINE int rows_at_once(int channels) {
    (void)channels;
    return GROUP;
}

/* Transposes 8 rows of 8 numbers in registers. */
CS_INLINE void transpose8(__m256 rows[8]) {
    __m256 pairs[8], fours[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
        fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
    }
}

/* STEP keys as (STEP / PANEL, C, PANEL). */
static void pack_keys(const uint16_t *const from[STEP], int channels, float *packed) {
    for (int key = 0; key < STEP; key += 8) {
        float *panel = packed + key / PANEL * PANEL * channels + key % PANEL;
        for (int channel = 0; channel < channels; channel += 8) {
            __m256 rows[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) rows[i] = widen8(from[key + i] + channel);
            transpose8(rows);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) _mm256_store_ps(panel + (channel + i) * PANEL, rows[i]);
        }
    }
}

/* STEP values as (C / PANEL, STEP, PANEL). */
static void pack_values(const uint16_t *const from[STEP], int channels, float *packed) {
    for (int channel = 0; channel < channels; channel += PANEL)
        for (int i = 0; i < STEP; i++, packed += PANEL) {
            _mm256_store_ps(packed, widen8(from[i] + channel));
            _mm256_store_ps(packed + 8, widen8(from[i] + channel + 8));
        }
}

/* 2^t for t <= SLACK + 1, to 1e-4 of its value; what is below 2^-126 counts as that. */
CS_INLINE __m256 power_of_two(__m256 t) {
    t = _mm256_max_ps(t, _mm256_set1_ps(-126.0f));
    __m256 whole = _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 rest = _mm256_sub_ps(t, whole);
    __m256 value = _mm256_fmadd_ps(_mm256_set1_ps(0.05517167f), rest, _mm256_set1_ps(0.24261114f));
    value = _mm256_fmadd_ps(value, rest, _mm256_set1_ps(0.69326099f));
    value = _mm256_fmadd_ps(value, rest, _mm256_set1_ps(0.99992807f));
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(value, _mm256_castsi256_ps(exponent));
}

CS_INLINE float largest(__m256 x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}

/* MR rows of `count` numbers, `stride` apart, times a panel (count, PANEL), added to 16 sums a row. */
CS_INLINE void multiply(const int MR, const float *rows, int stride, const float *panel, int count,
                        __m256 sums[GROUP][2]) {
    for (int i = 0; i < count; i++, panel += PANEL) {
        const __m256 first = _mm256_load_ps(panel), second = _mm256_load_ps(panel + 8);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            const __m256 factor = _mm256_broadcast_ss(rows + r * stride + i);
            sums[r][0] = _mm256_fmadd_ps(factor, first, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(factor, second, sums[r][1]);
        }
    }
}

/* Softmax weights of one row's STEP scores, in place. */
CS_INLINE void soften(const int masked, tile_t *tile, int row, int key, int channels, float scale, float *scores) {
    const __m256 lanes = _mm256_set_ps(7, 6, 5, 4, 3, 2, 1, 0), least = _mm256_set1_ps(-INFINITY);
    const __m256 limit = _mm256_set1_ps((float)(tile->limit[row] - key));
    __m256 top = least;
    for (int i = 0; i < STEP; i += 8) {
        __m256 some = _mm256_load_ps(scores + i);
        if (masked) {
            __m256 seen = _mm256_cmp_ps(_mm256_add_ps(lanes, _mm256_set1_ps((float)i)), limit, _CMP_LT_OQ);
            some = _mm256_blendv_ps(least, some, seen);
            _mm256_store_ps(scores + i, some);
        }
        top = _mm256_max_ps(top, some);
    }
    if (__builtin_expect(_mm256_movemask_ps(_mm256_cmp_ps(top, _mm256_set1_ps(tile->bound[row]), _CMP_GT_OQ)), 0))
        raise_maximum(tile, row, channels, largest(top), scale);
    const __m256 factor = _mm256_set1_ps(scale), maximum = _mm256_set1_ps(tile->maximum[row]);
    __m256 sums[2] = {_mm256_load_ps(tile->sums[row]), _mm256_load_ps(tile->sums[row] + 8)};
    for (int i = 0; i < STEP; i += 8) {
        __m256 some = _mm256_load_ps(scores + i);
        __m256 weight = power_of_two(_mm256_fmsub_ps(some, factor, maximum));
        if (masked) weight = _mm256_and_ps(weight, _mm256_cmp_ps(some, least, _CMP_GT_OQ));
        sums[i / 8 % 2] = _mm256_add_ps(sums[i / 8 % 2], weight);
        _mm256_store_ps(scores + i, weight);
    }
    _mm256_store_ps(tile->sums[row], sums[0]);
    _mm256_store_ps(tile->sums[row] + 8, sums[1]);
}

/* Scores of MR rows against STEP keys and their softmax weights, as rows of STEP. */
CS_INLINE void weigh(const int MR, const int masked, tile_t *tile, int row, int key, int channels, float scale,
                     const float *packed) {
    const float *q = tile->q + (int64_t)row * channels;
    for (int column = 0; column < STEP; column += PANEL) {
        __m256 sums[GROUP][2];
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
        multiply(MR, q, channels, packed + column * channels, channels, sums);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            _mm256_store_ps(tile->weights + r * STEP + column, sums[r][0]);
            _mm256_store_ps(tile->weights + r * STEP + column + 8, sums[r][1]);
        }
    }
    for (int r = 0; r < MR; r++) soften(masked, tile, row + r, key, channels, scale, tile->weights + r * STEP);
}

/* Adds MR rows of weights times the values. */
CS_INLINE void add_channels(const int MR, const float *weights, const float *v, float *out, int channels, int keys) {
    for (int channel = 0; channel < channels; channel += PANEL, v += STEP * PANEL) {
        __m256 sums[GROUP][2];
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
            for (int j = 0; j < 2; j++) sums[r][j] = _mm256_loadu_ps(out + r * channels + channel + 8 * j);
        multiply(MR, weights, STEP, v, keys, sums);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
            for (int j = 0; j < 2; j++) _mm256_storeu_ps(out + r * channels + channel + 8 * j, sums[r][j]);
    }
}

#endif
