/* Quantising weights: the scale and zero point of each group, and the packed layout that linear.c reads.
 *
 * quantize_weight_reference (linear.py) defines the numbers; every rounding here is the same, in the same order. */
#include "activations.h"

enum { PANEL = 32, STEP = 4, STEP_BYTES = PANEL * STEP };

/* To the nearest float16, ties to even. */
static uint16_t to_f16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    float size = fabsf(value);
    if (!(size < 65520.0f)) return sign | (size == size ? 0x7c00 : 0x7e00);
    if (size < 0x1p-14f) return sign | (uint16_t)rintf(size * 0x1p24f); /* below the normal numbers: whole steps */
    bits = (bits & 0x7fffffff) - (112u << 23);
    return sign | (uint16_t)((bits + 0xfff + (bits >> 13 & 1)) >> 13);
}

static float clamp(float value, float top) { return value < 0.0f ? 0.0f : value > top ? top : value; }

/* u = round(value / scale) + zero within 0..top. */
static void to_levels(const float *values, int group, float scale, float zero, float top, float *levels) {
    if (scale == 0.0f) {
        for (int i = 0; i < group; i++) levels[i] = zero;
        return;
    }
    for (int i = 0; i < group; i++) levels[i] = clamp(rintf(values[i] / scale) + zero, top);
}

static double squared_error(const float *values, const float *levels, int group, float scale, float zero) {
    double sums[8] = {0}, total = 0;
    for (int i = 0; i < group; i += 8)
        for (int j = 0; j < 8; j++) {
            float error = (levels[i + j] - zero) * scale - values[i + j];
            sums[j] += (double)error * error;
        }
    for (int j = 0; j < 8; j++) total += sums[j];
    return total;
}

static void eight_bits(const float *values, int group, uint16_t *scale, float *levels) {
    float largest = 0.0f;
    for (int i = 0; i < group; i++) largest = fabsf(values[i]) > largest ? fabsf(values[i]) : largest;
    *scale = to_f16(largest / 127.0f);
    to_levels(values, group, cs_f16_to_f32(*scale), 128.0f, 255.0f, levels);
}

static void four_bits(const float *values, int group, const float *shrinks, const float *steps, int tries,
                      uint16_t *scale, uint8_t *zero, float *levels) {
    float low = 0.0f, high = 0.0f, found[CS_MAX_GROUP];
    double best = INFINITY;
    for (int i = 0; i < group; i++) {
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    *scale = 0;
    *zero = 0;
    for (int i = 0; i < group; i++) levels[i] = 0.0f;
    for (int t = 0; t < tries; t++) {
        uint16_t half = to_f16((high - low) * steps[t]);
        float width = cs_f16_to_f32(half);
        float middle = width == 0.0f ? (low < 0.0f ? 15.0f : 0.0f) : clamp(rintf(-low * shrinks[t] / width), 15.0f);
        to_levels(values, group, width, middle, 15.0f, found);
        double error = squared_error(values, found, group, width, middle);
        if (error < best) {
            best = error;
            *scale = half;
            *zero = (uint8_t)middle;
            memcpy(levels, found, (size_t)group * sizeof(float));
        }
    }
}

/* Levels of one group of one channel into the panel; `data` is where the channel's first four bytes go. */
static void store(const float *levels, int group, int bits, uint8_t *data) {
    for (int i = 0; i < group; i += bits == 8 ? STEP : 2 * STEP, data += STEP_BYTES)
        for (int j = 0; j < STEP; j++)
            data[j] = bits == 8 ? (uint8_t)levels[i + j]
                                : (uint8_t)((int)levels[i + j] | (int)levels[i + STEP + j] << 4);
}

typedef struct {
    const char *weight;
    ptrdiff_t rows, columns, row_bytes;
    int format, bits, group, tries;
    const float *shrinks, *steps;
    uint8_t *data, *zeros;
    uint16_t *scales;
} job_t;

/* Group g of one output channel; channels from `rows` on fill up the last panel. */
static void one_group(const job_t *job, ptrdiff_t channel, ptrdiff_t groups, ptrdiff_t g) {
    float values[CS_MAX_GROUP], levels[CS_MAX_GROUP] = {0};
    const int group = job->group;
    const ptrdiff_t place = channel % PANEL, index = channel / PANEL * groups + g, start = g * group;
    uint16_t *scale = job->scales + index * PANEL + place;
    uint8_t *zero = job->zeros ? job->zeros + index * PANEL + place : NULL;
    *scale = 0;
    if (zero) *zero = 0;
    if (channel < job->rows) {
        int count = job->columns - start < group ? (int)(job->columns - start) : group;
        cs_widen(job->weight + channel * job->row_bytes, job->format, start, count, values);
        for (int i = count; i < group; i++) values[i] = 0.0f;
        if (job->bits == 8)
            eight_bits(values, group, scale, levels);
        else
            four_bits(values, group, job->shrinks, job->steps, job->tries, scale, zero, levels);
    }
    store(levels, group, job->bits, job->data + index * group * PANEL * job->bits / 8 + place * STEP);
}

static void quantise_channels(void *context, ptrdiff_t begin, ptrdiff_t end, int worker) {
    const job_t *job = context;
    const ptrdiff_t groups = (job->columns + job->group - 1) / job->group;
    (void)worker;
    for (ptrdiff_t channel = begin; channel < end; channel++)
        for (ptrdiff_t g = 0; g < groups; g++) one_group(job, channel, groups, g);
}

/* Quantise weight[rows][columns] (stride in numbers) into data, scales and, for 4 bits, zeros (linear.c has the
 * layout). shrinks and steps, `tries` of each: the parts of a 4-bit group's range to try, and the same over 15. */
CS_EXPORT void cs_quantize_weight(const void *weight, int format, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t stride,
                                  int bits, int group, const float *shrinks, const float *steps, int tries,
                                  uint8_t *data, uint16_t *scales, uint8_t *zeros, int threads) {
    job_t job = {
        .weight = weight, .rows = rows, .columns = columns, .row_bytes = stride * cs_item_bytes(format),
        .format = format, .bits = bits, .group = group, .tries = tries, .shrinks = shrinks, .steps = steps,
        .data = data, .zeros = zeros, .scales = scales,
    };
    cs_run(quantise_channels, &job, (rows + PANEL - 1) / PANEL * PANEL, 4, threads);
}
