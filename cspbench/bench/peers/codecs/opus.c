/* Opus's sparse_cgemv8x4 in int8 behind block_kernel.h. */
#include <math.h>
#include <stdlib.h>

#include "block_kernel.h"
#include "opus_types.h"
#define OPUS_INLINE inline
#include "vec_avx.h"

/* It stores 32 bytes for every 8 inputs, into an array of MAX_INPUTS. */
enum { MOST_COLUMNS = MAX_INPUTS - 24 };

struct matrix {
    int rows, columns;
    opus_int8 *values; /* blocks of 8 x 4, row by row */
    int *index;        /* of every eight rows: the number of blocks, and the first column of each */
    float *scale;      /* of each row, over 127 for the inputs */
    float *offset;     /* of each row: inputs are given as 127 + 127 x. Opus's layers take this from their bias. */
};

void *block_pack(const float *weights, int rows, int columns) {
    if (rows % 8 || columns % 8 || columns > MOST_COLUMNS) return NULL;
    struct matrix *m = malloc(sizeof *m);
    m->rows = rows, m->columns = columns;
    m->values = malloc((size_t)rows * columns);
    m->index = malloc(sizeof(int) * (rows / 8) * (1 + columns / 4));
    m->scale = malloc(sizeof(float) * rows), m->offset = malloc(sizeof(float) * rows);
    opus_int8 *value = m->values;
    int *index = m->index;
    for (int first = 0; first < rows; first += 8) {
        int sums[8] = {0}, *count = index++;
        *count = 0;
        for (int row = 0; row < 8; row++) {
            float largest = 0;
            for (int column = 0; column < columns; column++)
                largest = fmaxf(largest, fabsf(weights[(size_t)(first + row) * columns + column]));
            m->scale[first + row] = largest > 0 ? largest / 127 : 1;
        }
        for (int column = 0; column < columns; column += 4) {
            int kept = 0;
            for (int i = 0; i < 32; i++) {
                float weight = weights[(size_t)(first + i / 4) * columns + column + i % 4];
                value[i] = (opus_int8)lrintf(weight / m->scale[first + i / 4]);
                kept |= weight != 0;
            }
            if (!kept) continue;
            for (int i = 0; i < 32; i++) sums[i / 4] += value[i];
            value += 32, *index++ = column, ++*count;
        }
        for (int row = 0; row < 8; row++) {
            m->scale[first + row] /= 127;
            m->offset[first + row] = 127 * (float)sums[row] * m->scale[first + row];
        }
    }
    return m;
}

void block_multiply(void *matrix, const float *x, float *y) {
    struct matrix *m = matrix;
    sparse_cgemv8x4(y, m->values, m->index, m->scale, m->rows, m->columns, x);
    for (int row = 0; row < m->rows; row++) y[row] -= m->offset[row];
}

void block_release(void *matrix) {
    struct matrix *m = matrix;
    free(m->values), free(m->index), free(m->scale), free(m->offset), free(m);
}
