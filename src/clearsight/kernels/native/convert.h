/* Rows of numbers from and to float32, the format that everything is computed in. */
#ifndef CS_CONVERT_H
#define CS_CONVERT_H

#include "common.h"

/* `count` numbers of a row, from number `start` on, as float32. */
CS_INLINE void cs_widen(const void *row, int format, ptrdiff_t start, int count, float *out) {
    if (format == CS_F32) {
        memcpy(out, (const float *)row + start, (size_t)count * sizeof(float));
        return;
    }
    const uint16_t *source = (const uint16_t *)row + start;
    int i = 0;
#ifdef CS_AVX512
    for (; i + 16 <= count; i += 16) _mm512_storeu_ps(out + i, cs_load16_bf16(source + i));
#endif
    for (; i < count; i++) out[i] = cs_bf16_to_f32(source[i]);
}

/* The inverse: bfloat16 is rounded to the nearest, ties to even. */
CS_INLINE void cs_narrow(const float *values, int count, void *row, int format, ptrdiff_t start) {
    if (format == CS_F32) {
        memcpy((float *)row + start, values, (size_t)count * sizeof(float));
        return;
    }
    uint16_t *out = (uint16_t *)row + start;
    int i = 0;
#ifdef CS_AVX512
    for (; i + 16 <= count; i += 16) _mm256_storeu_si256((void *)(out + i), cs_round16_bf16(_mm512_loadu_ps(values + i)));
#endif
    for (; i < count; i++) out[i] = cs_f32_to_bf16(values[i]);
}

CS_INLINE ptrdiff_t cs_item_bytes(int format) { return format == CS_F32 ? 4 : 2; }

#endif
