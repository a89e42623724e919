/* Keys and values of 64 neighbouring keys of one head, brought into the order that the dot products take. */
#ifndef CS_ATTENTION_PACK_H
#define CS_ATTENTION_PACK_H

#include "attention.h"

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

/* Repacks keys and values [key, key + STEP) of one head; those from key + keys on are missing and count as zero. */
static void pack(const shape_t *shape, const sequence_t *sequence, int head, int key, int keys, item_t *k, item_t *v) {
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
