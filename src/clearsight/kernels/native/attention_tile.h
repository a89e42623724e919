/* What both forms of a tile's step need of the tile. */
#ifndef CS_ATTENTION_TILE_H
#define CS_ATTENTION_TILE_H

#include "attention.h"

/* A row met a score far above its maximum: raise it, and bring what was summed so far to the new scale. */
static __attribute__((noinline)) void raise_maximum(tile_t *tile, int row, int channels, float score, float scale) {
    float maximum = ceilf(score * scale), factor = exp2f(tile->maximum[row] - maximum);
    float *out = tile->out + (int64_t)row * channels;
    for (int c = 0; c < channels; c++) out[c] *= factor;
    for (int i = 0; i < 16; i++) tile->sums[row][i] *= factor;
    tile->maximum[row] = maximum;
    tile->bound[row] = (maximum + SLACK) / scale;
}

#endif
