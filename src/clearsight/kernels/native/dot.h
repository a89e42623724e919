/* The few operations that the quantised product is made of, for each instruction set. CS_DOT_ROWS: how many rows at
 * once, each with CS_DOT_WIDE times 16 sums, keep their sums in registers; half as many rows can have 32.
 *
 * 64 bytes of packed weights are 4 neighbouring input channels of each of 16 output channels in turn. cs_dot adds to
 * 16 sums the products of these (unsigned bytes) with 4 activations (signed bytes) shared by all output channels: one
 * AVX-512 VNNI instruction. Everywhere the integer result is exact. */
#ifndef CS_DOT_H
#define CS_DOT_H

#include "common.h"

#if CS_AVX512 && defined(__AVX512VNNI__)
#define CS_DOT_NAME "avx512-vnni"
#define CS_DOT_ROWS 12 /* with 2 vectors of sums each they leave 8 of 32 registers for the rest */
#define CS_DOT_WIDE 2
typedef int8_t cs_activation;
typedef __m512i cs_bytes;   /* 64 weights as they are stored */
typedef __m512i cs_operand; /* and as they are multiplied */
typedef __m512i cs_ints;  /* 16 sums */
typedef __m512 cs_floats;

CS_INLINE cs_bytes cs_load_bytes(const uint8_t *p) { return _mm512_loadu_si512(p); }
CS_INLINE void cs_store_bytes(uint8_t *p, cs_bytes v) { _mm512_storeu_si512(p, v); }
CS_INLINE cs_bytes cs_low_half(cs_bytes v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
CS_INLINE cs_bytes cs_high_half(cs_bytes v) { return cs_low_half(_mm512_srli_epi16(v, 4)); }
CS_INLINE cs_operand cs_whole(cs_bytes v) { return v; }
CS_INLINE cs_ints cs_dot(cs_ints sums, cs_operand weights, const cs_activation *activations) {
    int32_t four;
    memcpy(&four, activations, 4);
    return _mm512_dpbusd_epi32(sums, weights, _mm512_set1_epi32(four));
}
CS_INLINE cs_ints cs_load_zeros(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
}
CS_INLINE cs_ints cs_same_zeros(int zero) { return _mm512_set1_epi32(zero); }
/* -zeros * sum; both fit in 16 bits, so the pairwise product of 16-bit halves is the product. */
CS_INLINE cs_ints cs_start(cs_ints zeros, int32_t sum) {
    return _mm512_madd_epi16(zeros, _mm512_set1_epi32((int32_t)((uint32_t)-sum & 0xffff)));
}
CS_INLINE cs_floats cs_load_scales(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }
CS_INLINE cs_floats cs_add_scaled(cs_floats total, cs_ints sums, cs_floats scales, float scale) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_mul_ps(scales, _mm512_set1_ps(scale)), total);
}
CS_INLINE cs_floats cs_load_floats(const float *p) { return _mm512_loadu_ps(p); }
CS_INLINE void cs_store_floats(float *p, cs_floats v) { _mm512_storeu_ps(p, v); }

#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define CS_DOT_NAME "avx2"
#define CS_DOT_ROWS 4 /* of 2 registers of sums each; 4 hold weights and 2 activations */
#define CS_DOT_WIDE 1
#define CS_DOT_WIDENED 1
typedef int16_t cs_activation; /* of four neighbours the first, the third, the second and the fourth */
typedef struct { __m256i a, b; } cs_bytes;
typedef struct { __m256i a_even, a_odd, b_even, b_odd; } cs_operand; /* bytes 0 and 2 of each four, 1 and 3 */
typedef struct { __m256i a, b; } cs_ints;
typedef struct { __m256 a, b; } cs_floats;

CS_INLINE cs_bytes cs_load_bytes(const uint8_t *p) {
    return (cs_bytes){_mm256_loadu_si256((const void *)p), _mm256_loadu_si256((const void *)(p + 32))};
}
CS_INLINE void cs_store_bytes(uint8_t *p, cs_bytes v) {
    _mm256_storeu_si256((void *)p, v.a);
    _mm256_storeu_si256((void *)(p + 32), v.b);
}
CS_INLINE cs_bytes cs_low_half(cs_bytes v) {
    __m256i mask = _mm256_set1_epi8(15);
    return (cs_bytes){_mm256_and_si256(v.a, mask), _mm256_and_si256(v.b, mask)};
}
CS_INLINE cs_bytes cs_high_half(cs_bytes v) {
    return cs_low_half((cs_bytes){_mm256_srli_epi16(v.a, 4), _mm256_srli_epi16(v.b, 4)});
}
/* Widened to 16 bits: the one-instruction product of bytes would saturate. */
CS_INLINE cs_operand cs_whole(cs_bytes v) {
    __m256i mask = _mm256_set1_epi16(255);
    return (cs_operand){_mm256_and_si256(v.a, mask), _mm256_srli_epi16(v.a, 8), _mm256_and_si256(v.b, mask),
                        _mm256_srli_epi16(v.b, 8)};
}
CS_INLINE void cs_widen_activations(const int8_t *bytes, ptrdiff_t width, cs_activation *wide) {
    for (ptrdiff_t i = 0; i < width; i += 4) {
        const cs_activation four[4] = {bytes[i], bytes[i + 2], bytes[i + 1], bytes[i + 3]};
        memcpy(wide + i, four, sizeof four);
    }
}
CS_INLINE cs_ints cs_dot(cs_ints sums, cs_operand weights, const cs_activation *activations) {
    int32_t first, second; /* not one load: it would have to be taken apart outside the vector registers */
    memcpy(&first, activations, 4);
    memcpy(&second, activations + 2, 4);
    __m256i even = _mm256_set1_epi32(first), odd = _mm256_set1_epi32(second);
    sums.a = _mm256_add_epi32(sums.a, _mm256_madd_epi16(weights.a_even, even));
    sums.b = _mm256_add_epi32(sums.b, _mm256_madd_epi16(weights.b_even, even));
    sums.a = _mm256_add_epi32(sums.a, _mm256_madd_epi16(weights.a_odd, odd));
    sums.b = _mm256_add_epi32(sums.b, _mm256_madd_epi16(weights.b_odd, odd));
    return sums;
}
/* Half bytes need no widening: two products and what CS_DOT_SHORTS steps add up to, at most 8 * 2 * 15 * 127, fit 16
 * bits. */
#define CS_DOT_SHORTS 8
typedef struct { __m256i a, b; } cs_shorts; /* 16 pairs of sums, each to be added */

CS_INLINE cs_shorts cs_no_shorts(void) { return (cs_shorts){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
CS_INLINE cs_shorts cs_dot_halves(cs_shorts sums, cs_bytes weights, const int8_t *activations) {
    int32_t four;
    memcpy(&four, activations, 4);
    __m256i all = _mm256_set1_epi32(four);
    sums.a = _mm256_add_epi16(sums.a, _mm256_maddubs_epi16(weights.a, all));
    sums.b = _mm256_add_epi16(sums.b, _mm256_maddubs_epi16(weights.b, all));
    /* Otherwise compilers add several products first, and put them on the stack meanwhile. */
    __asm__("" : "+x"(sums.a), "+x"(sums.b));
    return sums;
}
CS_INLINE cs_ints cs_add_shorts(cs_ints sums, cs_shorts shorts) {
    __m256i ones = _mm256_set1_epi16(1);
    return (cs_ints){_mm256_add_epi32(sums.a, _mm256_madd_epi16(shorts.a, ones)),
                     _mm256_add_epi32(sums.b, _mm256_madd_epi16(shorts.b, ones))};
}
CS_INLINE cs_ints cs_load_zeros(const uint8_t *p) {
    __m128i bytes = _mm_loadu_si128((const void *)p);
    return (cs_ints){_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
CS_INLINE cs_ints cs_same_zeros(int zero) { return (cs_ints){_mm256_set1_epi32(zero), _mm256_set1_epi32(zero)}; }
CS_INLINE cs_ints cs_start(cs_ints zeros, int32_t sum) {
    __m256i minus = _mm256_set1_epi32(-sum);
    return (cs_ints){_mm256_mullo_epi32(zeros.a, minus), _mm256_mullo_epi32(zeros.b, minus)};
}
CS_INLINE cs_floats cs_load_scales(const uint16_t *p) {
    return (cs_floats){_mm256_cvtph_ps(_mm_loadu_si128((const void *)p)),
                       _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 8)))};
}
CS_INLINE cs_floats cs_load_floats(const float *p) { return (cs_floats){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
CS_INLINE cs_floats cs_add_scaled(cs_floats total, cs_ints sums, cs_floats scales, float scale) {
    __m256 factor = _mm256_set1_ps(scale);
    return (cs_floats){_mm256_fmadd_ps(_mm256_cvtepi32_ps(sums.a), _mm256_mul_ps(scales.a, factor), total.a),
                       _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums.b), _mm256_mul_ps(scales.b, factor), total.b)};
}
CS_INLINE void cs_store_floats(float *p, cs_floats v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}

#else
/* Plain C, which compilers turn into whatever vectors the machine has; only the product itself is spelt out for ARM. */
#ifdef __ARM_FEATURE_MATMUL_INT8
#define CS_DOT_NAME "neon-i8mm"
#else
#define CS_DOT_NAME "plain"
#endif
#define CS_DOT_ROWS 4
#define CS_DOT_WIDE 2
typedef int8_t cs_activation;
typedef struct { uint8_t v[64]; } cs_bytes;
typedef cs_bytes cs_operand;
typedef struct { int32_t v[16]; } cs_ints;
typedef struct { float v[16]; } cs_floats;

CS_INLINE cs_bytes cs_load_bytes(const uint8_t *p) {
    cs_bytes out;
    memcpy(out.v, p, 64);
    return out;
}
CS_INLINE void cs_store_bytes(uint8_t *p, cs_bytes v) { memcpy(p, v.v, 64); }
CS_INLINE cs_bytes cs_low_half(cs_bytes v) {
    for (int i = 0; i < 64; i++) v.v[i] &= 15;
    return v;
}
CS_INLINE cs_bytes cs_high_half(cs_bytes v) {
    for (int i = 0; i < 64; i++) v.v[i] >>= 4;
    return v;
}
CS_INLINE cs_operand cs_whole(cs_bytes v) { return v; }
CS_INLINE cs_ints cs_dot(cs_ints sums, cs_operand weights, const cs_activation *activations) {
#ifdef __ARM_FEATURE_MATMUL_INT8
    int32_t four;
    memcpy(&four, activations, 4);
    int8x16_t all = vreinterpretq_s8_s32(vdupq_n_s32(four));
    for (int i = 0; i < 4; i++)
        vst1q_s32(sums.v + 4 * i, vusdotq_s32(vld1q_s32(sums.v + 4 * i), vld1q_u8(weights.v + 16 * i), all));
#else
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 4; j++) sums.v[i] += (int32_t)weights.v[4 * i + j] * activations[j];
#endif
    return sums;
}
CS_INLINE cs_ints cs_load_zeros(const uint8_t *p) {
    cs_ints out;
    for (int i = 0; i < 16; i++) out.v[i] = p[i];
    return out;
}
CS_INLINE cs_ints cs_same_zeros(int zero) {
    cs_ints out;
    for (int i = 0; i < 16; i++) out.v[i] = zero;
    return out;
}
CS_INLINE cs_ints cs_start(cs_ints zeros, int32_t sum) {
    for (int i = 0; i < 16; i++) zeros.v[i] *= -sum;
    return zeros;
}
CS_INLINE cs_floats cs_load_scales(const uint16_t *p) {
    cs_floats out;
    for (int i = 0; i < 16; i++) out.v[i] = cs_f16_to_f32(p[i]);
    return out;
}
CS_INLINE cs_floats cs_load_floats(const float *p) {
    cs_floats out;
    memcpy(out.v, p, sizeof out.v);
    return out;
}
CS_INLINE cs_floats cs_add_scaled(cs_floats total, cs_ints sums, cs_floats scales, float scale) {
    for (int i = 0; i < 16; i++) total.v[i] += (float)sums.v[i] * (scales.v[i] * scale);
    return total;
}
CS_INLINE void cs_store_floats(float *p, cs_floats v) { memcpy(p, v.v, sizeof v.v); }
#endif

#ifndef CS_DOT_SHORTS /* elsewhere half bytes are multiplied as bytes are */
typedef cs_ints cs_shorts;
CS_INLINE cs_shorts cs_dot_halves(cs_shorts sums, cs_bytes weights, const int8_t *activations) {
    return cs_dot(sums, weights, activations);
}
#endif

#endif
