/* What attention.c's parts share: the shapes of a job, and the constants of its walk. */
#ifndef CS_ATTENTION_H
#define CS_ATTENTION_H

#include "common.h"

/* Repacked keys and values, queries and softmax weights are items of the kind that the products take. */
#if defined(CS_AVX512) && defined(__AVX512BF16__) && defined(__AVX512DQ__)
#define CS_ATTENTION_BF16 1
typedef uint16_t item_t;
#elif defined(__AVX2__) && defined(__FMA__)
#define CS_ATTENTION_SHORT 1
typedef int16_t item_t;
#endif

#if defined(CS_ATTENTION_BF16) || defined(CS_ATTENTION_SHORT)
#define CS_ATTENTION 1

enum {
    STEP = 64,          /* keys of one step */
    ROWS = 120,         /* rows of one tile, a multiple of 5 and 6 */
    GROUP = 6,          /* rows whose scores are held in registers at once */
    SPLIT = 512,        /* keys of one part when few rows are split along the keys */
    MAX_CHANNELS = 256,
    SLACK = 8,
    SCRATCH = 16 << 20, /* bytes of repacked keys and values held at once */
#ifdef CS_ATTENTION_SHORT
    BESIDE = 4, /* items that stand beside each key, and beside each value: what it was scaled by */
#else
    BESIDE = 0,
#endif
    MAX_ITEMS = STEP * (MAX_CHANNELS + BESIDE),
};
#define NOTHING_SEEN (-1e30f)
#define ALIGNED __attribute__((aligned(64)))

typedef struct {
    int64_t token, head;
} strides_t;

/* One segment or conversation. The rows of key i are at (table ? table[i / block] : 0) * block_stride + ... */
typedef struct {
    const uint16_t *q, *k, *v;
    uint16_t *out;
    const int32_t *table;
    int length, context;
} sequence_t;

typedef struct {
    strides_t q, k, v, out;
    int64_t k_block, v_block; /* strides of the pool's blocks */
    int block;                /* keys in a block; 0 where keys lie in one run */
    int heads, kv_heads, channels, causal;
    float scale;
} shape_t;

/* What a thread works on: rows of one kv head over a range of keys. */
typedef struct {
    int sequence, kv_head, row, rows, key, keys;
    const item_t *packed;   /* repacked keys of the whole sequence, or NULL: repack on the fly */
    float *partial;         /* where an unfinished result goes, or NULL */
} task_t;

/* The state of one tile. Sums are kept as 16 partial ones. */
typedef struct {
    ALIGNED float out[ROWS * MAX_CHANNELS];
    ALIGNED float sums[ROWS][16];
    ALIGNED item_t weights[GROUP * STEP], k[MAX_ITEMS], v[MAX_ITEMS], q[ROWS * MAX_CHANNELS];
    float maximum[ROWS], bound[ROWS];
    float units[ROWS];   /* what a query was scaled by */
    float shares[GROUP]; /* what a step's sums of values are to be scaled by */
    int limit[ROWS]; /* the first key a row may not see */
} tile_t;

#endif

#endif
