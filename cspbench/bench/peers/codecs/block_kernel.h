/* Functions of a library that multiplies a matrix whose zeros fill blocks: see README.md beside this file.
 *
 * A shim includes this header once, and defines the first three functions. */
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Pack a copy of weights (rows, columns), row by row; NULL if the kernel cannot hold them. */
void *block_pack(const float *weights, int rows, int columns);

/* y (rows) = W x (columns). x lies in [-1, 1]; x and y begin at multiples of 64 bytes. */
void block_multiply(void *matrix, const float *x, float *y);

void block_release(void *matrix);

/* Seconds of each of so many products. */
void block_time(void *matrix, const float *x, float *y, int repeats, double *seconds) {
    for (int i = 0; i < repeats; i++) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        block_multiply(matrix, x, y);
        clock_gettime(CLOCK_MONOTONIC, &after);
        seconds[i] = (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    }
}

#ifdef __cplusplus
}
#endif
