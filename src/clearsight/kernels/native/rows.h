/* The exported row-wise steps and attention, as other kernels call them; rowwise.c and attention.c describe them. */
#ifndef CS_ROWS_H
#define CS_ROWS_H

#include "common.h"

CS_EXPORT void cs_rms_norm(const void *x, int format, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t stride,
                           const void *weight, float epsilon, void *y, int threads);
CS_EXPORT void cs_gate(const void *x, int format, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t stride, const void *other,
                       ptrdiff_t other_stride, float factor, void *y, int threads);
CS_EXPORT void cs_rotate(const void *x, int format, ptrdiff_t rows, ptrdiff_t heads, ptrdiff_t width, ptrdiff_t stride,
                         ptrdiff_t head_stride, const float *cosines, const float *sines, void *y, int threads);
CS_EXPORT void cs_add(const void *x, const void *other, int format, ptrdiff_t count, void *y, int threads);
CS_EXPORT int cs_attention(const uint16_t *q, const uint16_t *k, const uint16_t *v, uint16_t *out,
                           const int64_t *strides, const int32_t *sizes, float scale, const int32_t *lengths,
                           const int32_t *contexts, const int32_t *tables, int count, int threads);

#endif
