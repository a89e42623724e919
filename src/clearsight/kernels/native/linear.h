/* Packed weights and the product with them, as linear.c offers it to Python and to other kernels. */
#ifndef CS_LINEAR_H
#define CS_LINEAR_H

#include "common.h"

/* linear.py's _Weight has the same fields. */
typedef struct {
    const uint8_t *data;
    const uint16_t *scales;
    const uint8_t *zeros; /* NULL: `zero` everywhere */
    const float *bias;    /* or NULL */
    int64_t outputs;
    int32_t zero, bits, group;
} cs_weight;

enum { CS_MOST_WEIGHTS = 3 };

/* The products of the same rows with `count` weights of equal group, at most CS_MOST_WEIGHTS: ys[i][rows][outputs] with
 * strides in numbers. Returns 0, or 1 without memory. */
int cs_linears(const void *x, int x_format, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t x_stride,
               const cs_weight *weights, void *const *ys, const ptrdiff_t *y_strides, int count, int y_format,
               int threads);

CS_EXPORT int cs_linear(const void *x, int x_format, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t x_stride,
                        const cs_weight *weight, void *y, int y_format, ptrdiff_t y_stride, int threads);

#endif
