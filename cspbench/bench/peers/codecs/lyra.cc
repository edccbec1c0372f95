// Lyra's SpMV_4x4 in fp32 behind block_kernel.h.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "block_kernel.h"
#include "sparse_matmul/compute/kernels_avx.h"

namespace {

struct Matrix {
    int rows, columns;
    float* blocks;                     // 4 x 4 weights each, row by row
    std::vector<int16_t> steps;        // bytes of x from each block to the next
    std::vector<int32_t> counts;       // blocks of every four rows
    std::vector<float> bias;
};

}  // namespace

void* block_pack(const float* weights, int rows, int columns) {
    if (rows % 4 || columns % 4 || columns * 4 > INT16_MAX) return nullptr;
    auto* matrix = new Matrix{rows, columns, nullptr, {}, {}, std::vector<float>(rows)};
    std::vector<float> blocks;
    int last = 0;
    for (int row = 0; row < rows; row += 4) {
        int count = 0;
        for (int column = 0; column < columns; column += 4) {
            float block[16];
            bool kept = false;
            for (int i = 0; i < 16; i++) {
                block[i] = weights[static_cast<size_t>(row + i / 4) * columns + column + i % 4];
                kept |= block[i] != 0;
            }
            if (!kept) continue;
            blocks.insert(blocks.end(), block, block + 16);
            matrix->steps.push_back(static_cast<int16_t>((column - last) * 4));
            last = column;
            count++;
        }
        matrix->counts.push_back(count);
    }
    matrix->blocks = static_cast<float*>(std::aligned_alloc(64, blocks.size() * sizeof(float) + 64));
    std::memcpy(matrix->blocks, blocks.data(), blocks.size() * sizeof(float));
    return matrix;
}

void block_multiply(void* matrix, const float* x, float* y) {
    auto& m = *static_cast<Matrix*>(matrix);
    csrblocksparse::detail::SpMV_4x4<float, float, float>(m.blocks, m.steps.data(), m.counts.data(), x, m.bias.data(), y,
                                                          m.rows / 4, m.rows, m.columns, 0);
}

void block_release(void* matrix) {
    std::free(static_cast<Matrix*>(matrix)->blocks);
    delete static_cast<Matrix*>(matrix);
}
