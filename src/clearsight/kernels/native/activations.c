/* Activations to signed bytes, a scale for each group of neighbouring channels of each row. */
#include "activations.h"

#ifdef CS_AVX512
static void quantise_group(const float *values, int group, int8_t *bytes, float *scale, int32_t *sum) {
    __m512 most = _mm512_setzero_ps();
    for (int i = 0; i < group; i += 16) most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(values + i)));
    float largest = _mm512_reduce_max_ps(most);
    __m512 inverse = _mm512_set1_ps(largest > 0.0f ? 127.0f / largest : 0.0f);
    __m512i total = _mm512_setzero_si512();
    for (int i = 0; i < group; i += 16) {
        __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(values + i), inverse));
        total = _mm512_add_epi32(total, whole);
        _mm_storeu_si128((void *)(bytes + i), _mm512_cvtepi32_epi8(whole));
    }
    *scale = largest / 127.0f;
    *sum = _mm512_reduce_add_epi32(total);
}
#elif defined(__AVX2__)
/* Groups are multiples of 8. */
static void quantise_group(const float *values, int group, int8_t *bytes, float *scale, int32_t *sum) {
    const __m256 size = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 most = _mm256_setzero_ps();
    for (int i = 0; i < group; i += 8) most = _mm256_max_ps(most, _mm256_and_ps(size, _mm256_loadu_ps(values + i)));
    float lanes[8], largest = 0.0f;
    _mm256_storeu_ps(lanes, most);
    for (int i = 0; i < 8; i++) largest = lanes[i] > largest ? lanes[i] : largest;
    __m256 inverse = _mm256_set1_ps(largest > 0.0f ? 127.0f / largest : 0.0f);
    __m256i total = _mm256_setzero_si256();
    for (int i = 0; i < group; i += 8) {
        __m256i whole = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(values + i), inverse));
        total = _mm256_add_epi32(total, whole);
        __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
        _mm_storel_epi64((void *)(bytes + i), _mm_packs_epi16(half, half));
    }
    int32_t parts[8];
    _mm256_storeu_si256((void *)parts, total);
    *sum = 0;
    for (int i = 0; i < 8; i++) *sum += parts[i];
    *scale = largest / 127.0f;
}
#else
static void quantise_group(const float *values, int group, int8_t *bytes, float *scale, int32_t *sum) {
    float largest = 0.0f;
    for (int i = 0; i < group; i++) {
        float size = fabsf(values[i]);
        largest = size > largest ? size : largest;
    }
    float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    int32_t total = 0;
    for (int i = 0; i < group; i++) {
        int8_t byte = (int8_t)lrintf(values[i] * inverse);
        bytes[i] = byte;
        total += byte;
    }
    *scale = largest / 127.0f;
    *sum = total;
}
#endif

void cs_quantise_row(const void *row, int format, ptrdiff_t columns, int group, int8_t *bytes, float *scales,
                     int32_t *sums) {
    float values[CS_MAX_GROUP];
    for (ptrdiff_t start = 0; start < columns; start += group) {
        int count = columns - start < group ? (int)(columns - start) : group;
        cs_widen(row, format, start, count, values);
        for (int i = count; i < group; i++) values[i] = 0.0f;
        quantise_group(values, group, bytes + start, scales + start / group, sums + start / group);
    }
}
