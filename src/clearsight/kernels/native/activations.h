#ifndef CS_ACTIVATIONS_H
#define CS_ACTIVATIONS_H

#include "convert.h"

/* A sum of this many bytes still fits in 16 bits, which cs_start (dot.h) relies on. */
#define CS_MAX_GROUP 256

/* Quantise one row of `columns` numbers in the given format. The last group is filled up with zeros; `bytes` holds
 * whole groups. Value = byte * scale of its group; `sums` are the sums of each group's bytes. */
void cs_quantise_row(const void *row, int format, ptrdiff_t columns, int group, int8_t *bytes, float *scales,
                     int32_t *sums);

#endif
