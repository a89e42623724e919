/* Keys and values of 64 neighbouring keys of one head, brought into the order that the dot products take. */
#ifndef CS_ATTENTION_PACK_H
#define CS_ATTENTION_PACK_H

#include "attention.h"

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

#endif
