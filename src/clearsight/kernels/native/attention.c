/* Attention over bf16 with float32 sums: packed segments, prefill over a cache and decoding are one algorithm over
 * "sequences" whose keys lie in one run of rows or in the blocks of a pool. The inner loops are there for AVX-512 BF16
 * (attention_bf16.h) and for AVX2 (attention_short.h).
 *
 * The query heads of one kv head stand together as rows of a product, (token, head in group), ordered by token. A tile
 * of rows walks over the keys in steps of STEP: scores, softmax against a running maximum, sum of values. The running
 * maximum is a whole number in base 2 and is raised only when a score exceeds it by 2^SLACK, so that rescaling is rare
 * and exact. Keys and values are repacked in the order that the products take them: once per kv head where several
 * tiles need them, else on the fly. Few rows over many keys (decoding) are split along the keys and merged at the end; the split depends on the
 * sequence alone, so a row's result does not depend on what else runs in the batch. */
#include "attention.h"

#ifdef CS_ATTENTION
#include "attention_step.h"

#include "attention_pack.h"

/* Repacked keys and values of one step: two equal halves. */
static ptrdiff_t step_items(const shape_t *shape) { return 2 * STEP * (shape->channels + BESIDE); }

static void load_rows(tile_t *tile, const shape_t *shape, const sequence_t *sequence, const task_t *task) {
    int group = shape->heads / shape->kv_heads, channels = shape->channels;
    for (int r = 0; r < task->rows; r++) {
        int token = (task->row + r) / group, head = task->kv_head * group + (task->row + r) % group;
        tile->units[r] = load_query(sequence->q + token * shape->q.token + head * shape->q.head, channels,
                                    tile->q + (int64_t)r * channels);
        tile->limit[r] = shape->causal ? sequence->context - sequence->length + token + 1 : sequence->context;
        tile->maximum[r] = NOTHING_SEEN;
        tile->bound[r] = -INFINITY;
    }
    memset(tile->out, 0, sizeof(float) * task->rows * channels);
    memset(tile->sums, 0, sizeof(float) * 16 * task->rows);
}

static void store_row(const shape_t *shape, const sequence_t *sequence, int kv_head, int row, const float *sums,
                      float weight) {
    int group = shape->heads / shape->kv_heads;
    uint16_t *to = sequence->out + row / group * shape->out.token + (kv_head * group + row % group) * shape->out.head;
    for (int c = 0; c < shape->channels; c += 16) store16(sums + c, 1.0f / weight, to + c);
}

/* A part's unfinished rows: maximum, sum of weights, then the channels. */
static void store_partial(const tile_t *tile, const task_t *task, int channels) {
    for (int r = 0; r < task->rows; r++) {
        float *to = task->partial + (int64_t)r * (channels + 2);
        to[0] = tile->maximum[r];
        to[1] = total(tile->sums[r]);
        memcpy(to + 2, tile->out + (int64_t)r * channels, sizeof(float) * channels);
    }
}

static void run_task(tile_t *tile, const shape_t *shape, const sequence_t *sequence, const task_t *task) {
    int channels = shape->channels, most = rows_at_once(channels);
    int groups = (task->rows + most - 1) / most;
    load_rows(tile, shape, sequence, task);
    int stop = task->key + task->keys, limit = tile->limit[task->rows - 1];
    if (stop > limit) stop = limit;
    for (int key = task->key; key < stop; key += STEP) {
        int keys = stop - key < STEP ? stop - key : STEP;
        const item_t *k = tile->k, *v = tile->v;
        if (task->packed) {
            k = task->packed + key / STEP * step_items(shape);
            v = k + step_items(shape) / 2;
        } else {
            int next = key + STEP;
            if (next < stop)
                prefetch(shape, sequence, task->kv_head, next, stop - next < STEP ? stop - next : STEP);
            pack(shape, sequence, task->kv_head, key, keys, tile->k, tile->v);
        }
        for (int g = 0, row = 0; g < groups; g++) { /* the groups' sizes differ by one at most */
            int rows = (task->rows - row) / (groups - g);
            step_of[rows](tile, row, key, keys, channels, shape->scale, k, v);
            row += rows;
        }
    }
    if (task->partial) {
        store_partial(tile, task, channels);
        return;
    }
    for (int r = 0; r < task->rows; r++)
        store_row(shape, sequence, task->kv_head, task->row + r, tile->out + (int64_t)r * channels,
                  total(tile->sums[r]));
}

/* ---- planning ------------------------------------------------------------------------------------------------- */

typedef struct {
    int sequence, kv_head;
    int64_t packed; /* where its repacked keys start, in elements; -1: none */
} head_t;

static int rows_of(const shape_t *shape, const sequence_t *sequence) {
    return sequence->length * (shape->heads / shape->kv_heads);
}

static int parts_of(const shape_t *shape, const sequence_t *sequence) {
    if (rows_of(shape, sequence) > ROWS) return 1;
    return (sequence->context + SPLIT - 1) / SPLIT;
}

static int64_t packed_size(const shape_t *shape, const sequence_t *sequence) {
    if (rows_of(shape, sequence) <= ROWS) return 0;
    return (sequence->context + STEP - 1) / STEP * step_items(shape);
}

/* Tasks of the heads of one wave. The longest come first where rows differ in how much they see. */
static int plan(const shape_t *shape, const sequence_t *sequences, const head_t *heads, int count, const item_t *packed,
                float *partial, task_t *tasks) {
    int total_tasks = 0;
    for (int h = 0; h < count; h++) {
        const sequence_t *sequence = &sequences[heads[h].sequence];
        int rows = rows_of(shape, sequence), parts = parts_of(shape, sequence), tiles = (rows + ROWS - 1) / ROWS;
        for (int t = tiles - 1; t >= 0; t--)
            for (int part = 0; part < parts; part++) {
                task_t *task = &tasks[total_tasks++];
                task->sequence = heads[h].sequence;
                task->kv_head = heads[h].kv_head;
                task->row = (int)((int64_t)rows * t / tiles);
                task->rows = (int)((int64_t)rows * (t + 1) / tiles) - task->row;
                task->key = part * SPLIT;
                task->keys = parts > 1 ? SPLIT : sequence->context;
                task->packed = heads[h].packed < 0 ? NULL : packed + heads[h].packed;
                task->partial = parts > 1 ? partial : NULL;
                if (parts > 1) partial += (int64_t)rows * (shape->channels + 2);
            }
    }
    return total_tasks;
}

/* Brings the parts of one row to a common scale and adds them up. */
static void merge_row(const shape_t *shape, const sequence_t *sequence, const task_t *first, int parts, int row) {
    int channels = shape->channels;
    float sums[MAX_CHANNELS] = {0}, weight = 0, maximum = NOTHING_SEEN;
    for (int part = 0; part < parts; part++) {
        float top = first[part].partial[(int64_t)row * (channels + 2)];
        maximum = top > maximum ? top : maximum;
    }
    for (int part = 0; part < parts; part++) {
        const float *from = first[part].partial + (int64_t)row * (channels + 2);
        float factor = exp2f(from[0] - maximum);
        weight += factor * from[1];
        for (int c = 0; c < channels; c++) sums[c] += factor * from[2 + c];
    }
    store_row(shape, sequence, first->kv_head, row, sums, weight);
}

static void *aligned(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64 + 64); }

/* One wave of heads and what its workers share. */
typedef struct {
    const shape_t *shape;
    const sequence_t *sequences;
    const head_t *heads;
    int count;
    item_t *packed;
    task_t *tasks;
    tile_t *tiles; /* one for each worker */
} wave_t;

/* Repacks steps begin..end-1 of all the heads that need it. */
static void pack_steps(void *context, ptrdiff_t begin, ptrdiff_t end, int worker) {
    const wave_t *wave = context;
    const ptrdiff_t size = step_items(wave->shape);
    (void)worker;
    for (ptrdiff_t i = begin; i < end; i++) {
        int h = wave->count - 1;
        while (wave->heads[h].packed < 0 || wave->heads[h].packed > i * size) h--;
        const sequence_t *sequence = &wave->sequences[wave->heads[h].sequence];
        int key = (int)((i * size - wave->heads[h].packed) / size) * STEP;
        int keys = sequence->context - key < STEP ? sequence->context - key : STEP;
        item_t *to = wave->packed + i * size;
        pack(wave->shape, sequence, wave->heads[h].kv_head, key, keys, to, to + size / 2);
    }
}

static void run_tasks(void *context, ptrdiff_t begin, ptrdiff_t end, int worker) {
    const wave_t *wave = context;
    for (ptrdiff_t i = begin; i < end; i++)
        run_task(&wave->tiles[worker], wave->shape, &wave->sequences[wave->tasks[i].sequence], &wave->tasks[i]);
}

static void merge(const wave_t *wave, int number) {
    for (int i = 0; i < number; i++) {
        const task_t *task = &wave->tasks[i];
        if (!task->partial) continue;
        const sequence_t *sequence = &wave->sequences[task->sequence];
        int parts = parts_of(wave->shape, sequence);
        for (int row = 0; row < task->rows; row++) merge_row(wave->shape, sequence, task, parts, row);
        i += parts - 1;
    }
}

/* Repack the heads' keys and values, run the tasks, merge what was split. */
static int run_wave(wave_t *wave, int64_t elements, int threads) {
    int64_t most_tasks = 0, partials = 0;
    for (int h = 0; h < wave->count; h++) {
        const sequence_t *sequence = &wave->sequences[wave->heads[h].sequence];
        int parts = parts_of(wave->shape, sequence), rows = rows_of(wave->shape, sequence);
        most_tasks += (int64_t)((rows + ROWS - 1) / ROWS) * parts;
        if (parts > 1) partials += (int64_t)parts * rows * (wave->shape->channels + 2);
    }
    wave->tasks = malloc(sizeof(task_t) * (size_t)most_tasks + 1);
    wave->packed = aligned(sizeof(item_t) * (size_t)elements);
    float *partial = aligned(sizeof(float) * (size_t)partials);
    int failed = !wave->tasks || !wave->packed || !partial;
    if (!failed) {
        cs_run(pack_steps, wave, elements / step_items(wave->shape), 4, threads);
        int number =
            plan(wave->shape, wave->sequences, wave->heads, wave->count, wave->packed, partial, wave->tasks);
        cs_run(run_tasks, wave, number, 1, threads);
        merge(wave, number);
    }
    free(wave->tasks);
    free(wave->packed);
    free(partial);
    return failed;
}

/* Wave after wave, each as large as the scratch for repacked keys allows. */
static int run(const shape_t *shape, const sequence_t *sequences, int count, int threads) {
    tile_t *tiles = aligned(sizeof(tile_t) * (size_t)threads);
    head_t *heads = malloc(sizeof(head_t) * ((size_t)count * shape->kv_heads + 1));
    int failed = !tiles || !heads;
    int64_t elements = 0;
    wave_t wave = {.shape = shape, .sequences = sequences, .heads = heads, .tiles = tiles};
    for (int s = 0; s < count && !failed; s++)
        for (int h = 0; h < shape->kv_heads && !failed; h++) {
            int64_t size = packed_size(shape, &sequences[s]);
            if (wave.count && elements + size > SCRATCH / (int64_t)sizeof(item_t)) {
                failed = run_wave(&wave, elements, threads);
                wave.count = 0;
                elements = 0;
            }
            heads[wave.count++] = (head_t){s, h, size ? elements : -1};
            elements += size;
        }
    if (wave.count && !failed) failed = run_wave(&wave, elements, threads);
    free(tiles);
    free(heads);
    return failed;
}

/* The widest head, a multiple of 16; 0 where the processor lacks the instructions. */
CS_EXPORT int cs_attention_channels(void) { return MAX_CHANNELS; }

/* `strides` in elements: q token, head; k token, head; v token, head; out token, head; k block; v block.
 * `sizes`: heads, kv_heads, channels, causal, keys in a block (0: keys lie in one run, as long as the queries).
 * `lengths` queries and `contexts` keys of each sequence; `tables` one after another, ceil(context / block) each.
 * Returns 0, or 1 if memory ran out. */
CS_EXPORT int cs_attention(const uint16_t *q, const uint16_t *k, const uint16_t *v, uint16_t *out,
                           const int64_t *strides, const int32_t *sizes, float scale, const int32_t *lengths,
                           const int32_t *contexts, const int32_t *tables, int count, int threads) {
    shape_t shape = {
        .q = {strides[0], strides[1]}, .k = {strides[2], strides[3]}, .v = {strides[4], strides[5]},
        .out = {strides[6], strides[7]}, .k_block = strides[8], .v_block = strides[9],
        .heads = sizes[0], .kv_heads = sizes[1], .channels = sizes[2], .causal = sizes[3], .block = sizes[4],
        .scale = scale * 1.44269504f,
    };
    sequence_t *sequences = malloc(sizeof(sequence_t) * ((size_t)count + 1));
    if (!sequences) return 1;
    for (int s = 0; s < count; s++) {
        sequences[s] = (sequence_t){q, k, v, out, tables, lengths[s], contexts[s]};
        q += lengths[s] * shape.q.token;
        out += lengths[s] * shape.out.token;
        if (shape.block) {
            tables += (contexts[s] + shape.block - 1) / shape.block;
        } else {
            k += lengths[s] * shape.k.token;
            v += lengths[s] * shape.v.token;
        }
    }
    int failed = run(&shape, sequences, count, threads);
    free(sequences);
    return failed;
}

#else

CS_EXPORT int cs_attention_channels(void) { return 0; }

CS_EXPORT int cs_attention(const uint16_t *q, const uint16_t *k, const uint16_t *v, uint16_t *out,
                           const int64_t *strides, const int32_t *sizes, float scale, const int32_t *lengths,
                           const int32_t *contexts, const int32_t *tables, int count, int threads) {
    return 1;
}

#endif
