/* Steps between the products, each in one pass over memory where torch takes several: RMS norm, the two gated
 * activations, and rotary positions. rowwise.py has the definitions. */
#include "rows.h"

#include "convert.h"

enum { BLOCK = 256, ITEMS = 1 << 14 /* numbers in a piece of work */ };

typedef struct {
    const char *x, *other; /* other: the norm's weight, or what the gate multiplies */
    char *y;
    const void *bias;
    const float *cosines, *sines;
    ptrdiff_t width, x_stride, other_stride, head_stride, heads; /* strides in numbers */
    int format;
    float number; /* epsilon, or the factor inside the sigmoid */
} rows_t;

static ptrdiff_t piece(ptrdiff_t width) { return ITEMS / width + 1; }

/* exp to about two units in the last place; a loop over it becomes vector instructions. */
CS_INLINE float fast_exp(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f), r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

static void rms_norm(void *context, ptrdiff_t begin, ptrdiff_t end, int worker) {
    const rows_t *job = context;
    (void)worker;
    for (ptrdiff_t r = begin; r < end; r++) {
        const char *row = job->x + r * job->x_stride * cs_item_bytes(job->format);
        char *out = job->y + r * job->width * cs_item_bytes(job->format);
        float values[BLOCK], weights[BLOCK], sums[16] = {0}, total = 0.0f;
        for (ptrdiff_t start = 0; start < job->width; start += BLOCK) {
            int count = job->width - start < BLOCK ? (int)(job->width - start) : BLOCK;
            cs_widen(row, job->format, start, count, values);
            for (int i = count; i < BLOCK; i++) values[i] = 0.0f;
            for (int i = 0; i < BLOCK; i += 16)
                for (int j = 0; j < 16; j++) sums[j] += values[i + j] * values[i + j];
        }
        for (int j = 0; j < 16; j++) total += sums[j];
        float scale = 1.0f / sqrtf(total / (float)job->width + job->number);
        for (ptrdiff_t start = 0; start < job->width; start += BLOCK) {
            int count = job->width - start < BLOCK ? (int)(job->width - start) : BLOCK;
            cs_widen(row, job->format, start, count, values);
            cs_widen(job->other, job->format, start, count, weights);
            for (int i = 0; i < count; i++) values[i] *= scale;
            /* Rounded before the weight, as the definition has it. */
            cs_narrow(values, count, out, job->format, start);
            cs_widen(out, job->format, start, count, values);
            for (int i = 0; i < count; i++) values[i] *= weights[i];
            cs_narrow(values, count, out, job->format, start);
        }
    }
}

/* The mean and the spread in two passes over the row, so that a large mean spoils nothing. */
static void layer_norm(void *context, ptrdiff_t begin, ptrdiff_t end, int worker) {
    const rows_t *job = context;
    const ptrdiff_t item = cs_item_bytes(job->format);
    (void)worker;
    for (ptrdiff_t r = begin; r < end; r++) {
        const char *row = job->x + r * job->x_stride * item;
        float values[BLOCK], weights[BLOCK], bias[BLOCK], mean = 0.0f, spread = 0.0f;
        for (int pass = 0; pass < 2; pass++) {
            float sums[16] = {0}, total = 0.0f;
            for (ptrdiff_t start = 0; start < job->width; start += BLOCK) {
                int count = job->width - start < BLOCK ? (int)(job->width - start) : BLOCK;
                cs_widen(row, job->format, start, count, values);
                for (int i = count; i < BLOCK; i++) values[i] = mean;
                for (int i = 0; i < BLOCK; i += 16)
                    for (int j = 0; j < 16; j++) {
                        float apart = values[i + j] - mean;
                        sums[j] += pass ? apart * apart : apart;
                    }
            }
            for (int j = 0; j < 16; j++) total += sums[j];
            *(pass ? &spread : &mean) = total / (float)job->width;
        }
        float scale = 1.0f / sqrtf(spread + job->number);
        for (ptrdiff_t start = 0; start < job->width; start += BLOCK) {
            int count = job->width - start < BLOCK ? (int)(job->width - start) : BLOCK;
            cs_widen(row, job->format, start, count, values);
            cs_widen(job->other, job->format, start, count, weights);
            cs_widen(job->bias, job->format, start, count, bias);
            for (int i = 0; i < count; i++) values[i] = (values[i] - mean) * scale * weights[i] + bias[i];
            cs_narrow(values, count, job->y + r * job->width * item, job->format, start);
        }
    }
}

/* Items are runs of BLOCK numbers; `width` numbers in all. */
static void add(void *context, ptrdiff_t begin, ptrdiff_t end, int worker) {
    const rows_t *job = context;
    (void)worker;
    for (ptrdiff_t block = begin; block < end; block++) {
        float values[BLOCK], others[BLOCK];
        ptrdiff_t start = block * BLOCK;
        int count = job->width - start < BLOCK ? (int)(job->width - start) : BLOCK;
        cs_widen(job->x, job->format, start, count, values);
        cs_widen(job->other, job->format, start, count, others);
        for (int i = 0; i < count; i++) values[i] += others[i];
        cs_narrow(values, count, job->y, job->format, start);
    }
}

/* y = x * sigmoid(number * x), times `other` if there is one. */
static void gate(void *context, ptrdiff_t begin, ptrdiff_t end, int worker) {
    const rows_t *job = context;
    const ptrdiff_t item = cs_item_bytes(job->format);
    (void)worker;
    for (ptrdiff_t r = begin; r < end; r++)
        for (ptrdiff_t start = 0; start < job->width; start += BLOCK) {
            float values[BLOCK], others[BLOCK];
            int count = job->width - start < BLOCK ? (int)(job->width - start) : BLOCK;
            cs_widen(job->x + r * job->x_stride * item, job->format, start, count, values);
            for (int i = 0; i < count; i++) values[i] = values[i] / (1.0f + fast_exp(-job->number * values[i]));
            if (job->other) {
                cs_widen(job->other + r * job->other_stride * item, job->format, start, count, others);
                for (int i = 0; i < count; i++) values[i] *= others[i];
            }
            cs_narrow(values, count, job->y + r * job->width * item, job->format, start);
        }
}

/* Every head of a row turned by the row's angles: channel i with channel i + width / 2. */
static void rotate(void *context, ptrdiff_t begin, ptrdiff_t end, int worker) {
    const rows_t *job = context;
    const ptrdiff_t item = cs_item_bytes(job->format);
    const int width = (int)job->width, half = width / 2;
    (void)worker;
    for (ptrdiff_t r = begin; r < end; r++) {
        const float *cosines = job->cosines + r * width, *sines = job->sines + r * width;
        for (ptrdiff_t h = 0; h < job->heads; h++) {
            float values[BLOCK], turned[BLOCK];
            cs_widen(job->x + (r * job->x_stride + h * job->head_stride) * item, job->format, 0, width, values);
            for (int i = 0; i < half; i++) {
                turned[i] = values[i] * cosines[i] - values[i + half] * sines[i];
                turned[i + half] = values[i + half] * cosines[i + half] + values[i] * sines[i + half];
            }
            cs_narrow(turned, width, job->y + (r * job->heads + h) * width * item, job->format, 0);
        }
    }
}

CS_EXPORT void cs_rms_norm(const void *x, int format, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t stride,
                           const void *weight, float epsilon, void *y, int threads) {
    rows_t job = {.x = x, .other = weight, .y = y, .width = width, .x_stride = stride, .format = format,
                  .number = epsilon};
    cs_run(rms_norm, &job, rows, piece(width), threads);
}

CS_EXPORT void cs_layer_norm(const void *x, int format, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t stride,
                             const void *weight, const void *bias, float epsilon, void *y, int threads) {
    rows_t job = {.x = x, .other = weight, .bias = bias, .y = y, .width = width, .x_stride = stride, .format = format,
                  .number = epsilon};
    cs_run(layer_norm, &job, rows, piece(width), threads);
}

/* y = x + other, `count` numbers each; y may be x. */
CS_EXPORT void cs_add(const void *x, const void *other, int format, ptrdiff_t count, void *y, int threads) {
    rows_t job = {.x = x, .other = other, .y = y, .width = count, .format = format};
    cs_run(add, &job, (count + BLOCK - 1) / BLOCK, piece(BLOCK), threads);
}

/* other: NULL, or a second input like x. y may be x, if x is packed. */
CS_EXPORT void cs_gate(const void *x, int format, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t stride, const void *other,
                       ptrdiff_t other_stride, float factor, void *y, int threads) {
    rows_t job = {.x = x, .other = other, .y = y, .width = width, .x_stride = stride, .other_stride = other_stride,
                  .format = format, .number = factor};
    cs_run(gate, &job, rows, piece(width), threads);
}

/* x[rows][heads][width], width even and at most 256; cosines and sines [rows][width]; y packed; y may be x, if x is. */
CS_EXPORT void cs_rotate(const void *x, int format, ptrdiff_t rows, ptrdiff_t heads, ptrdiff_t width, ptrdiff_t stride,
                         ptrdiff_t head_stride, const float *cosines, const float *sines, void *y, int threads) {
    rows_t job = {.x = x, .y = y, .cosines = cosines, .sines = sines, .width = width, .x_stride = stride,
                  .head_stride = head_stride, .heads = heads, .format = format};
    cs_run(rotate, &job, rows, piece(width * heads), threads);
}
