/* The walk's inner loops for AVX2, in 16-bit whole numbers, which it multiplies twice as fast as float32. Everything is
 * brought to 16 bits when it is repacked; what that changes is less than rounding the result to bf16:
 *
 * - A query or key counts in units of its own length / 46,000, so that (Cauchy and Schwarz) no sum of products leaves
 *   32 bits, whatever the channels.
 * - A value counts in units of its own power of two / 8,192. That power is taken into its weight, so that no key
 *   decides how finely another one's value is rounded.
 * - The weights of one row and step count in units of the largest of them / 4,096; 64 products of weights and values
 *   stay within 32 bits. Their sums are brought to the row's scale in float32, step by step.
 *
 * A row's result depends on the keys it sees alone: not on later ones of the same step, nor on other rows. */
#ifndef CS_ATTENTION_SHORT_H
#define CS_ATTENTION_SHORT_H

#include "attention_tile.h"

enum {
    PANEL = 16, /* keys, or channels, of two vectors: with six rows, twelve sums in registers */
    WEIGHT_BITS = 12,
    VALUE_BITS = 13,
    LEAST_POWER = -30, /* a value smaller than 2 to this counts as nothing beside it */
};
#define LENGTH 46000.0f

CS_INLINE __m256 widen8(const uint16_t *from) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)from)), 16));
}

/* 2 to the exponent, at most 127; 0 where that is no normal number. */
CS_INLINE float power(float exponent) {
    uint32_t bits = exponent < -126.0f ? 0 : (uint32_t)((int)exponent + 127) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

CS_INLINE float largest(__m256 x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}

CS_INLINE float added(__m256 x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

CS_INLINE __m256 magnitude(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }

/* What a query or key counts in. */
CS_INLINE float unit_of(const uint16_t *row, int channels) {
    __m256 squares = _mm256_setzero_ps(), top = _mm256_setzero_ps();
    for (int c = 0; c < channels; c += 8) {
        const __m256 some = widen8(row + c);
        squares = _mm256_fmadd_ps(some, some, squares);
        top = _mm256_max_ps(top, magnitude(some));
    }
    const float unit = sqrtf(added(squares)) / LENGTH, least = largest(top) / 32767.0f;
    return unit > least ? unit : least > 1e-30f ? least : 1e-30f;
}

/* 16 numbers, times `scale`, as whole ones. */
CS_INLINE __m256i round16(const uint16_t *from, float scale) {
    const __m256 factor = _mm256_set1_ps(scale);
    const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(widen8(from), factor));
    const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(widen8(from + 8), factor));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

/* A query; returns its unit. */
CS_INLINE float load_query(const uint16_t *from, int channels, int16_t *to) {
    const float unit = unit_of(from, channels);
    for (int c = 0; c < channels; c += 16) _mm256_storeu_si256((void *)(to + c), round16(from + c, 1.0f / unit));
    return unit;
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

/* Transposes 8 rows of 8 32-bit items in registers. */
CS_INLINE void transpose8(__m256i rows[8]) {
    __m256i pairs[8], fours[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
}

/* STEP keys as (STEP / PANEL, C / 2, PANEL, 2), then their units as float32. */
static void pack_keys(const uint16_t *const from[STEP], int channels, int16_t *packed) {
    float *units = (float *)(packed + STEP * channels), scales[STEP];
    for (int key = 0; key < STEP; key++) units[key] = unit_of(from[key], channels);
    for (int key = 0; key < STEP; key++) scales[key] = 1.0f / units[key];
    for (int key = 0; key < STEP; key += 8) {
        int16_t *panel = packed + key / PANEL * PANEL * channels + key % PANEL * 2;
        for (int channel = 0; channel < channels; channel += 16, panel += 16 * PANEL) {
            __m256i rows[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) rows[i] = round16(from[key + i] + channel, scales[key + i]);
            transpose8(rows);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) _mm256_store_si256((void *)(panel + i * 2 * PANEL), rows[i]);
        }
    }
}

/* The exponent of the power of two that no number of a value reaches. */
CS_INLINE int power_of(const uint16_t *row, int channels) {
    __m256 top = _mm256_setzero_ps();
    for (int c = 0; c < channels; c += 8) top = _mm256_max_ps(top, magnitude(widen8(row + c)));
    const float reached = largest(top);
    uint32_t bits;
    memcpy(&bits, &reached, sizeof bits);
    const int exponent = (int)(bits >> 23) - 126;
    return exponent > LEAST_POWER ? exponent : LEAST_POWER;
}

/* STEP values as (C / PANEL, STEP / 2, PANEL, 2), then as float32 the exponents of their powers, and one over those. */
static void pack_values(const uint16_t *const from[STEP], int channels, int16_t *packed) {
    float *exponents = (float *)(packed + STEP * channels), *inverse = exponents + STEP;
    for (int i = 0; i < STEP; i++) {
        exponents[i] = (float)power_of(from[i], channels);
        inverse[i] = power(-exponents[i]);
    }
    for (int channel = 0; channel < channels; channel += PANEL)
        for (int i = 0; i < STEP; i += 2, packed += 2 * PANEL) {
            const __m256i even = round16(from[i] + channel, inverse[i] * (1 << VALUE_BITS));
            const __m256i odd = round16(from[i + 1] + channel, inverse[i + 1] * (1 << VALUE_BITS));
            const __m256i low = _mm256_unpacklo_epi16(even, odd), high = _mm256_unpackhi_epi16(even, odd);
            _mm256_store_si256((void *)packed, _mm256_permute2x128_si256(low, high, 0x20));
            _mm256_store_si256((void *)(packed + PANEL), _mm256_permute2x128_si256(low, high, 0x31));
        }
}

/* 2^t for t <= WEIGHT_BITS, to 1e-4 of its value; what is below 2^-126 counts as that. */
CS_INLINE __m256 power_of_two(__m256 t) {
    t = _mm256_max_ps(t, _mm256_set1_ps(-126.0f));
    __m256 whole = _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 rest = _mm256_sub_ps(t, whole);
    __m256 value = _mm256_fmadd_ps(_mm256_set1_ps(0.05517167f), rest, _mm256_set1_ps(0.24261114f));
    value = _mm256_fmadd_ps(value, rest, _mm256_set1_ps(0.69326099f));
    value = _mm256_fmadd_ps(value, rest, _mm256_set1_ps(0.99992807f));
    __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(value), exponent));
}

CS_INLINE __m256i add_pairs(__m256i sum, __m256i a, __m256i b) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpwssd_epi32(sum, a, b);
#elif defined(__AVXVNNI__)
    return _mm256_dpwssd_avx_epi32(sum, a, b);
#else
    /* In this order: a compiler that makes all products first needs more registers than there are. */
    __m256i product;
    __asm__ volatile("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(a), "x"(b));
    return sum;
#endif
}

/* MR rows of `count` pairs of numbers, `stride` numbers apart, times a panel (count, PANEL, 2): 16 sums a row. */
CS_INLINE void multiply(const int MR, const int16_t *rows, int stride, const int16_t *panel, int count,
                        __m256i sums[GROUP][2]) {
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    for (int i = 0; i < count; i++, panel += 2 * PANEL) {
        const __m256i first = _mm256_load_si256((const void *)panel);
        const __m256i second = _mm256_load_si256((const void *)(panel + PANEL));
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            int pair;
            memcpy(&pair, rows + r * stride + 2 * i, sizeof pair);
            const __m256i both = _mm256_set1_epi32(pair);
            sums[r][0] = add_pairs(sums[r][0], both, first);
            sums[r][1] = add_pairs(sums[r][1], both, second);
        }
    }
}

/* Turns the STEP scores of row `row`, the tile's number `place` in work, into softmax weights. */
CS_INLINE void soften(const int masked, tile_t *tile, int row, int place, int key, int channels, float *scores,
                      const float *exponents) {
    const __m256 lanes = _mm256_set_ps(7, 6, 5, 4, 3, 2, 1, 0), least = _mm256_set1_ps(-INFINITY);
    const __m256 limit = _mm256_set1_ps((float)(tile->limit[row] - key));
    const float *inverse = exponents + STEP;
    __m256 top = least, heaviest = _mm256_set1_ps(NOTHING_SEEN);
    for (int i = 0; i < STEP; i += 8) {
        __m256 some = _mm256_load_ps(scores + i);
        if (masked) {
            __m256 seen = _mm256_cmp_ps(_mm256_add_ps(lanes, _mm256_set1_ps((float)i)), limit, _CMP_LT_OQ);
            some = _mm256_blendv_ps(least, some, seen);
        }
        top = _mm256_max_ps(top, some);
        some = _mm256_add_ps(some, _mm256_load_ps(exponents + i));
        heaviest = _mm256_max_ps(heaviest, some);
        _mm256_store_ps(scores + i, some);
    }
    if (__builtin_expect(_mm256_movemask_ps(_mm256_cmp_ps(top, _mm256_set1_ps(tile->bound[row]), _CMP_GT_OQ)), 0))
        raise_maximum(tile, row, channels, largest(top), 1.0f);
    const float unit = ceilf(largest(heaviest)) - WEIGHT_BITS;
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < STEP; i += 16) {
        __m256i counts[2];
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            const __m256 some = _mm256_load_ps(scores + i + 8 * j);
            __m256 weight = power_of_two(_mm256_sub_ps(some, _mm256_set1_ps(unit)));
            if (masked) weight = _mm256_and_ps(weight, _mm256_cmp_ps(some, least, _CMP_GT_OQ));
            counts[j] = _mm256_cvtps_epi32(weight);
            sum = _mm256_fmadd_ps(weight, _mm256_load_ps(inverse + i + 8 * j), sum);
        }
        const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(counts[0], counts[1]), 0xd8);
        _mm256_store_si256((void *)(tile->weights + place * STEP + i), packed);
    }
    const float share = power(unit - tile->maximum[row]);
    tile->shares[place] = share / (1 << VALUE_BITS);
    _mm256_store_ps(tile->sums[row], _mm256_fmadd_ps(sum, _mm256_set1_ps(share), _mm256_load_ps(tile->sums[row])));
}

/* Scores of MR rows against STEP keys and their softmax weights, as rows of STEP. */
CS_INLINE void weigh(const int MR, const int masked, tile_t *tile, int row, int key, int channels, float scale,
                     const int16_t *k, const int16_t *v) {
    ALIGNED float scores[GROUP * STEP];
    const int16_t *q = tile->q + (int64_t)row * channels;
    const float *units = (const float *)(k + STEP * channels);
    for (int column = 0; column < STEP; column += PANEL) {
        __m256i sums[GROUP][2];
        multiply(MR, q, channels, k + column * channels, channels / 2, sums);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            const __m256 factor = _mm256_set1_ps(tile->units[row + r] * scale);
#pragma GCC unroll 2
            for (int j = 0; j < 2; j++) {
                const __m256 unit = _mm256_mul_ps(factor, _mm256_load_ps(units + column + 8 * j));
                _mm256_store_ps(scores + r * STEP + column + 8 * j, _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][j]), unit));
            }
        }
    }
    const float *exponents = (const float *)(v + STEP * channels);
    for (int r = 0; r < MR; r++) soften(masked, tile, row + r, r, key, channels, scores + r * STEP, exponents);
}

/* Adds MR rows of weights times the values. */
CS_INLINE void add_channels(const int MR, tile_t *tile, int row, const int16_t *v, int channels, int keys) {
    float *out = tile->out + (int64_t)row * channels;
    for (int channel = 0; channel < channels; channel += PANEL, v += STEP * PANEL) {
        __m256i sums[GROUP][2];
        multiply(MR, tile->weights, STEP, v, (keys + 1) / 2, sums);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            const __m256 share = _mm256_set1_ps(tile->shares[r]);
#pragma GCC unroll 2
            for (int j = 0; j < 2; j++) {
                float *to = out + r * channels + channel + 8 * j;
                _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[r][j]), share, _mm256_loadu_ps(to)));
            }
        }
    }
}

#endif
