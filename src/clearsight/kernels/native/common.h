/* What every kernel file shares: the export mark, the pool of threads and the 16-bit float conversions.
 *
 * Each exported function is named cs_*, takes plain pointers and sizes, and gets the number of threads as its last
 * argument. All .c files of this folder are compiled together into one library (see native.py). */
#ifndef CS_COMMON_H
#define CS_COMMON_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define CS_EXPORT __attribute__((visibility("default")))
#define CS_INLINE static inline __attribute__((always_inline))

/* Number formats that cross the interface. */
enum { CS_F32 = 0, CS_BF16 = 1 };

/* Items begin..end-1 of a job; `worker` is below the job's number of threads and tells apart those at work at once. */
typedef void cs_task(void *context, ptrdiff_t begin, ptrdiff_t end, int worker);

/* Do all items of a job, `piece` at a time, on up to `threads` threads (pool.c). */
void cs_run(cs_task *task, void *context, ptrdiff_t items, ptrdiff_t piece, int threads);

CS_INLINE float cs_bf16_to_f32(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* To the nearest, ties to even; a NaN stays one. */
CS_INLINE uint16_t cs_f32_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value) return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

CS_INLINE float cs_f16_to_f32(uint16_t value) {
    uint32_t sign = (uint32_t)(value & 0x8000) << 16, exponent = (value >> 10) & 0x1f, fraction = value & 0x3ff;
    float wide;
    uint32_t bits;
    if (exponent == 0) {
        wide = (float)fraction * 0x1p-24f;
        return sign ? -wide : wide;
    }
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define CS_AVX512 1

CS_INLINE __m512 cs_load16_bf16(const uint16_t *source) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)source)), 16));
}

CS_INLINE __m256i cs_round16_bf16(__m512 wide) {
#ifdef __AVX512BF16__
    return (__m256i)_mm512_cvtneps_pbh(wide);
#else
    __m512i bits = _mm512_castps_si512(wide);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(wide, wide, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
#endif
}
#endif

#endif
