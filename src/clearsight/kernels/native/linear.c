/* Products of activations with quantised weights: y = x W' + b, for one row at memory speed and for many rows at the
 * speed of the byte products, from one packed copy of the weights.
 *
 * Weights are unsigned bytes or half bytes with a float16 scale, and a zero point, per group of input channels and
 * output channel: w = (u - zero) * scale. Activations become signed bytes with a scale per row and group. In a group
 *     sum (u - zero) a = sum u a - zero * sum a,
 * so the sums start at -zero * (sum of the row's bytes) and everything else is cs_dot.
 *
 * Layout: data[panel][step][2][64]; a panel is 32 output channels, a step 4 input channels of each (dot.h). For half
 * bytes a stored step holds two: the low halves first, then the high. scales[panel][group][32], zeros likewise. So one
 * row reads each of them from front to back. Outputs are filled up to whole panels. */
#include "linear.h"

#include "activations.h"
#include "dot.h"

#define HALF 16
#define PANEL (2 * HALF)
#define AHEAD 2048 /* bytes that the weights are asked for before their use */
#define UNPACK_ROWS (4 * CS_DOT_ROWS) /* from here on half bytes are made bytes once for all rows */
#define BLOCK_BYTES (3 << 17) /* of activations: rows that stay in the second cache while panels pass by */
#define LEAST_BLOCK (4 * CS_DOT_ROWS)

typedef struct {
    const uint8_t *data;
    const uint16_t *scales;
    const uint8_t *zeros; /* NULL: `zero` everywhere */
    int zero, bits, group;
    ptrdiff_t groups, outputs;
} weights_t;

typedef struct {
    int8_t *bytes; /* [rows][groups * group] */
    cs_activation *wide; /* the same as whole bytes are multiplied with; half bytes take them as they are */
    float *scales; /* [rows][groups] */
    int32_t *sums; /* [rows][groups] */
} inputs_t;

typedef struct {
    void *values;
    int format;
    ptrdiff_t stride;
    const float *bias; /* or NULL */
} outputs_t;

CS_INLINE void ask_ahead(const uint8_t *data) {
    __builtin_prefetch(data + AHEAD);
    __builtin_prefetch(data + AHEAD + 64);
}

/* Add to sums[row][half] the products of a group's `steps` steps, stored from `from` on, with `four` of each row. */
CS_INLINE void add_bytes(const int rows, const int wide, int steps, const uint8_t *from, const int ask,
                         const cs_activation *four, ptrdiff_t width, cs_ints sums[][2]) {
    for (int step = 0; step < steps; step++, from += 128, four += 4) {
        cs_operand weights[2];
#pragma GCC unroll 2
        for (int h = 0; h < wide; h++) weights[h] = cs_whole(cs_load_bytes(from + 64 * h));
        if (ask) ask_ahead(from);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int h = 0; h < wide; h++) sums[r][h] = cs_dot(sums[r][h], weights[h], four + r * width);
    }
}

/* The same for half bytes: of 64 stored bytes the low halves are one step, the high halves the next. */
CS_INLINE void add_run(const int rows, const int wide, int steps, const uint8_t *from, const int ask,
                       const int8_t *four, ptrdiff_t width, cs_shorts sums[][2]) {
    for (int step = 0; step < steps; step += 2, from += 128, four += 8) {
        cs_bytes stored[2];
#pragma GCC unroll 2
        for (int h = 0; h < wide; h++) stored[h] = cs_load_bytes(from + 64 * h);
        if (ask) ask_ahead(from);
#pragma GCC unroll 2
        for (int part = 0; part < 2; part++) {
            cs_bytes weights[2];
#pragma GCC unroll 2
            for (int h = 0; h < wide; h++) weights[h] = part ? cs_high_half(stored[h]) : cs_low_half(stored[h]);
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int h = 0; h < wide; h++)
                    sums[r][h] = cs_dot_halves(sums[r][h], weights[h], four + 4 * part + r * width);
        }
    }
}

/* In runs whose products fit the smaller sums, where the machine has such. */
CS_INLINE void add_halves(const int rows, const int wide, int steps, const uint8_t *from, const int ask,
                          const int8_t *four, ptrdiff_t width, cs_ints sums[][2]) {
#ifdef CS_DOT_SHORTS
    for (; steps > 0; steps -= CS_DOT_SHORTS, from += 64 * CS_DOT_SHORTS, four += 4 * CS_DOT_SHORTS) {
        cs_shorts shorts[CS_DOT_ROWS][2];
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int h = 0; h < wide; h++) shorts[r][h] = cs_no_shorts();
        add_run(rows, wide, steps < CS_DOT_SHORTS ? steps : CS_DOT_SHORTS, from, ask, four, width, shorts);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int h = 0; h < wide; h++) sums[r][h] = cs_add_shorts(sums[r][h], shorts[r][h]);
    }
#else
    add_run(rows, wide, steps, from, ask, four, width, sums);
#endif
}

/* Totals of `rows` rows with one panel, from row `first` on. `rows` and `bits` are known when this is compiled, so
 * that all sums live in registers; the totals, which change once in a group, lie in `out`. */
CS_INLINE void tile(const int rows, const int bits, const weights_t *w, const uint8_t *data, ptrdiff_t panel,
                    const inputs_t *x, ptrdiff_t first, float out[][PANEL]) {
    const ptrdiff_t groups = w->groups, width = groups * w->group;
    const int steps = w->group / 4;
    const uint16_t *scale_of = w->scales + panel * groups * PANEL;
    const uint8_t *zero_of = w->zeros ? w->zeros + panel * groups * PANEL : NULL;
    const int wide = rows <= CS_DOT_ROWS / 2 ? 2 : CS_DOT_WIDE; /* halves of the panel at once */
    memset(out, 0, (size_t)rows * sizeof out[0]);
    for (ptrdiff_t g = 0; g < groups; g++, data += steps * 16 * bits) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; half += wide) {
            cs_ints sums[CS_DOT_ROWS][2];
#pragma GCC unroll 2
            for (int h = 0; h < wide; h++) {
                ptrdiff_t place = g * PANEL + (half + h) * HALF;
                cs_ints zeros = zero_of ? cs_load_zeros(zero_of + place) : cs_same_zeros(w->zero);
#pragma GCC unroll 12
                for (int r = 0; r < rows; r++) sums[r][h] = cs_start(zeros, x->sums[(first + r) * groups + g]);
            }
            const ptrdiff_t place = first * width + g * w->group;
            const uint8_t *from = data + 64 * half;
            if (bits == 8)
                add_bytes(rows, wide, steps, from, half == 0, x->wide + place, width, sums);
            else
                add_halves(rows, wide, steps, from, half == 0, x->bytes + place, width, sums);
            cs_floats scales[2];
#pragma GCC unroll 2
            for (int h = 0; h < wide; h++)
                scales[h] = cs_load_scales(scale_of + g * PANEL + (half + h) * HALF);
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int h = 0; h < wide; h++) {
                    float *to = out[r] + (half + h) * HALF;
                    float scale = x->scales[(first + r) * groups + g];
                    cs_store_floats(to, cs_add_scaled(cs_load_floats(to), sums[r][h], scales[h], scale));
                }
            /* Keeps compilers from holding the totals in registers too, which pushes the sums out of theirs. */
            __asm__ volatile("" ::: "memory");
        }
    }
}

#define TILE(rows, bits)                                                                                              \
    static void tile_##rows##_##bits(const weights_t *w, const uint8_t *data, ptrdiff_t panel, const inputs_t *x,     \
                                     ptrdiff_t first, float out[][PANEL]) {                                           \
        tile(rows, bits, w, data, panel, x, first, out);                                                              \
    }
#if CS_DOT_ROWS == 4
#define TILES(bits) TILE(1, bits) TILE(2, bits) TILE(3, bits) TILE(4, bits)
#define NAMES(bits) tile_1_##bits, tile_2_##bits, tile_3_##bits, tile_4_##bits
#else
#define TILES(bits)                                                                                                   \
    TILE(1, bits) TILE(2, bits) TILE(3, bits) TILE(4, bits) TILE(5, bits) TILE(6, bits)                               \
    TILE(7, bits) TILE(8, bits) TILE(9, bits) TILE(10, bits) TILE(11, bits) TILE(12, bits)
#define NAMES(bits)                                                                                                   \
    tile_1_##bits, tile_2_##bits, tile_3_##bits, tile_4_##bits, tile_5_##bits, tile_6_##bits, tile_7_##bits,          \
        tile_8_##bits, tile_9_##bits, tile_10_##bits, tile_11_##bits, tile_12_##bits
#endif
TILES(8)
TILES(4)

typedef void tile_function(const weights_t *, const uint8_t *, ptrdiff_t, const inputs_t *, ptrdiff_t, float[][PANEL]);
static tile_function *const TILES_8[] = {0, NAMES(8)};
static tile_function *const TILES_4[] = {0, NAMES(4)};

static void write_row(const outputs_t *y, ptrdiff_t row, ptrdiff_t column, int count, float *totals) {
    if (y->bias)
        for (int i = 0; i < count; i++) totals[i] += y->bias[column + i];
    cs_narrow(totals, count, (char *)y->values + row * y->stride * cs_item_bytes(y->format), y->format, column);
}

/* Half bytes of one panel as bytes: done once and used by all rows. */
static void unpack(const uint8_t *data, ptrdiff_t bytes, uint8_t *out) {
    for (ptrdiff_t i = 0; i < bytes; i += 128) {
        cs_bytes a = cs_load_bytes(data + i), b = cs_load_bytes(data + i + 64);
        cs_store_bytes(out + 2 * i, cs_low_half(a));
        cs_store_bytes(out + 2 * i + 64, cs_low_half(b));
        cs_store_bytes(out + 2 * i + 128, cs_high_half(a));
        cs_store_bytes(out + 2 * i + 192, cs_high_half(b));
    }
}

/* Rows begin..end-1 times one panel. */
static void one_panel(const weights_t *w, ptrdiff_t panel, const inputs_t *x, ptrdiff_t begin, ptrdiff_t end,
                      const outputs_t *y, uint8_t *scratch) {
    const ptrdiff_t panel_bytes = w->groups * w->group * PANEL * w->bits / 8, column = panel * PANEL;
    const uint8_t *data = w->data + panel * panel_bytes;
    tile_function *const *tiles = w->bits == 8 ? TILES_8 : TILES_4;
    if (scratch) {
        unpack(data, panel_bytes, scratch);
        data = scratch;
        tiles = TILES_8;
    }
    const int count = w->outputs - column < PANEL ? (int)(w->outputs - column) : PANEL;
    float out[CS_DOT_ROWS][PANEL];
    /* Tiles of nearly equal size: a small last one would read the panel for little. */
    for (ptrdiff_t left = (end - begin + CS_DOT_ROWS - 1) / CS_DOT_ROWS, first = begin; left > 0; left--) {
        int here = (int)((end - first) / left);
        tiles[here](w, data, panel, x, first, out);
        for (int r = 0; r < here; r++) write_row(y, first + r, column, count, out[r]);
        first += here;
    }
}

typedef struct {
    weights_t weights;
    outputs_t outputs;
    ptrdiff_t panels;
} part_t;

typedef struct {
    inputs_t inputs;
    part_t parts[CS_MOST_WEIGHTS];
    const char *x;
    ptrdiff_t x_row_bytes, rows, columns, groups, block, panels; /* block: rows that pass all panels together */
    int x_format, group;
    size_t unpacked; /* bytes of a worker's scratch; 0 where weights are used as they are stored */
    uint8_t *scratch;
} job_t;

static void quantise_rows(void *context, ptrdiff_t begin, ptrdiff_t end, int worker) {
    const job_t *job = context;
    const ptrdiff_t groups = job->groups, width = groups * job->group;
    (void)worker;
    for (ptrdiff_t r = begin; r < end; r++) {
        int8_t *bytes = job->inputs.bytes + r * width;
        cs_quantise_row(job->x + r * job->x_row_bytes, job->x_format, job->columns, job->group, bytes,
                        job->inputs.scales + r * groups, job->inputs.sums + r * groups);
#ifdef CS_DOT_WIDENED
        if (job->inputs.wide) cs_widen_activations(bytes, width, job->inputs.wide + r * width);
#endif
    }
}

/* Item i is panel i % panels, counted through all parts, for block i / panels of rows. */
static void multiply(void *context, ptrdiff_t begin, ptrdiff_t end, int worker) {
    const job_t *job = context;
    uint8_t *scratch = job->unpacked ? job->scratch + (size_t)worker * job->unpacked : NULL;
    for (ptrdiff_t i = begin; i < end; i++) {
        ptrdiff_t first = i / job->panels * job->block, last = first + job->block, panel = i % job->panels;
        const part_t *part = job->parts;
        for (; panel >= part->panels; part++) panel -= part->panels;
        one_panel(&part->weights, panel, &job->inputs, first, last < job->rows ? last : job->rows, &part->outputs,
                  part->weights.bits == 4 ? scratch : NULL);
    }
}

CS_EXPORT const char *cs_features(void) { return CS_DOT_NAME; }

static part_t part_of(const cs_weight *w, void *y, int format, ptrdiff_t stride, ptrdiff_t groups) {
    return (part_t){
        .weights = {w->data, w->scales, w->zeros, w->zero, w->bits, w->group, groups, w->outputs},
        .outputs = {y, format, stride, w->bias},
        .panels = (w->outputs + PANEL - 1) / PANEL,
    };
}

int cs_linears(const void *x, int x_format, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t x_stride,
               const cs_weight *weights, void *const *ys, const ptrdiff_t *y_strides, int count, int y_format,
               int threads) {
    const int group = weights[0].group;
    const ptrdiff_t groups = (inputs + group - 1) / group, width = groups * group;
    job_t job = {.x = x, .x_row_bytes = x_stride * cs_item_bytes(x_format), .rows = rows, .columns = inputs,
                 .groups = groups, .group = group, .x_format = x_format};
    int whole = 0; /* whether a weight has whole bytes */
    for (int i = 0; i < count; i++) {
        job.parts[i] = part_of(&weights[i], ys[i], y_format, y_strides[i], groups);
        job.panels += job.parts[i].panels;
#ifndef CS_DOT_SHORTS
        if (weights[i].bits == 4 && rows > UNPACK_ROWS) job.unpacked = (size_t)(width * PANEL);
#endif
        whole |= weights[i].bits == 8;
    }
    const size_t numbers = (size_t)(rows * groups), scratch = (size_t)threads * job.unpacked;
    const size_t activations = (size_t)(rows * width);
#ifdef CS_DOT_WIDENED
    const size_t wide = whole ? sizeof(cs_activation) * activations : 0;
#else
    const size_t wide = 0;
#endif
    char *memory = aligned_alloc(64, (scratch + 8 * numbers + wide + activations + 63) / 64 * 64);
    if (!memory) return 1;
    float *scales = (float *)(memory + scratch);
    int32_t *sums = (int32_t *)(scales + numbers);
    cs_activation *widened = (cs_activation *)(sums + numbers);
    int8_t *bytes = (int8_t *)widened + wide;
    job.scratch = (uint8_t *)memory;
    job.inputs = (inputs_t){bytes, wide ? widened : NULL, scales, sums};
#ifndef CS_DOT_WIDENED
    job.inputs.wide = bytes;
#endif
    job.block = BLOCK_BYTES / (width * (ptrdiff_t)sizeof(cs_activation)) / CS_DOT_ROWS * CS_DOT_ROWS;
    job.block = job.block < LEAST_BLOCK ? LEAST_BLOCK : job.block;
    cs_run(quantise_rows, &job, rows, 8, threads);
    /* Enough work in a piece that taking it costs nothing, little enough that the threads end together. */
    const ptrdiff_t items = (rows + job.block - 1) / job.block * job.panels;
    ptrdiff_t piece = items / (8 * threads);
    piece = piece < job.panels ? piece : job.panels;
    cs_run(multiply, &job, items, piece < 1 ? 1 : piece, threads);
    free(memory);
    return 0;
}

/* y[rows][outputs] = x[rows][inputs] times the weights, plus bias. Strides count numbers. The weight's `group` is a
 * multiple of 8 up to CS_MAX_GROUP, and it holds ceil(inputs / group) whole groups. Returns 0, or 1 without memory. */
CS_EXPORT int cs_linear(const void *x, int x_format, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t x_stride,
                        const cs_weight *weight, void *y, int y_format, ptrdiff_t y_stride, int threads) {
    return cs_linears(x, x_format, rows, inputs, x_stride, weight, &y, &y_stride, 1, y_format, threads);
}
