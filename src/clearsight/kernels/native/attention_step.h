/* One step of a tile: scores of some rows against 64 keys, softmax weights, sums of values. */
#ifndef CS_ATTENTION_STEP_H
#define CS_ATTENTION_STEP_H

#include "attention.h"

#ifdef CS_ATTENTION_BF16
#include "attention_bf16.h"
#else
#include "attention_short.h"
#endif

/* MR rows over the keys [key, key + keys), keys <= STEP. */
CS_INLINE void step_rows(const int MR, tile_t *tile, int row, int key, int keys, int channels, float scale,
                         const item_t *k, const item_t *v) {
    int limit = tile->limit[row + MR - 1]; /* rows are ordered by token: the last sees most */
    if (limit <= key) return;
    if (tile->limit[row] >= key + STEP)
        weigh(MR, 0, tile, row, key, channels, scale, k, v);
    else
        weigh(MR, 1, tile, row, key, channels, scale, k, v);
    if (limit - key < keys) keys = limit - key;
    add_channels(MR, tile, row, v, channels, keys);
}

#define STEP_ROWS(MR)                                                                                             \
    static __attribute__((noinline)) void step_##MR(tile_t *tile, int row, int key, int keys, int channels,       \
                                                    float scale, const item_t *k, const item_t *v) {              \
        step_rows(MR, tile, row, key, keys, channels, scale, k, v);                                               \
    }
STEP_ROWS(1)
STEP_ROWS(2)
STEP_ROWS(3)
STEP_ROWS(4)
STEP_ROWS(5)
STEP_ROWS(6)

static void (*const step_of[])(tile_t *, int, int, int, int, float, const item_t *, const item_t *) = {
    NULL, step_1, step_2, step_3, step_4, step_5, step_6};

#endif
