// Formats of structured sparsity: blocks, and N of M along the columns.
#include <algorithm>

#include "base/values.hpp"
#include "matrix/codec.hpp"

namespace cspbench {
namespace {

// Rows or columns of a block: the zeros behind an input vector cover what hangs over the right edge.
constexpr int32_t kMostBlock = 64;
constexpr int32_t kMostPlaces = 65536;
constexpr int32_t kMostGroup = 16;  // columns that 4 bits tell apart

int32_t ceiling(int32_t count, int32_t size) { return (count + size - 1) / size; }

// ---- block

Options complete_block(const Options& given, int32_t, int32_t columns) {
    check_options(given, {"block_rows", "block_columns"});
    const int32_t height = option(given, "block_rows", 4), width = option(given, "block_columns", 4);
    require(height >= 1 && height <= kMostBlock && width >= 1 && width <= kMostBlock,
            "a block must have 1 to 64 rows and 1 to 64 columns");
    require(ceiling(columns, width) <= kMostPlaces, "more than 65536 blocks side by side do not fit this format");
    return {{"block_rows", height}, {"block_columns", width}};
}

template <class T>
std::vector<Made> blocks_of(const T* weights, const Rounded& all, int32_t height, int32_t width) {
    std::vector<uint16_t> places;
    std::vector<T> values, block(static_cast<size_t>(height * width));
    std::vector<uint32_t> starts{0};
    for (int32_t top = 0; top < all.rows; top += height) {
        for (int32_t left = 0; left < all.columns; left += width) {
            std::fill(block.begin(), block.end(), T{0});
            for (int32_t r = top; r < std::min(top + height, all.rows); ++r)
                for (int32_t c = left; c < std::min(left + width, all.columns); ++c)
                    block[static_cast<size_t>((r - top) * width + c - left)] = weights[int64_t{r} * all.columns + c];
            if (std::all_of(block.begin(), block.end(), [](T w) { return w == 0; })) continue;
            places.push_back(static_cast<uint16_t>(left / width));
            values.insert(values.end(), block.begin(), block.end());
        }
        require(places.size() <= UINT32_MAX, "more than 2^32 - 1 blocks do not fit this format");
        starts.push_back(static_cast<uint32_t>(places.size()));
    }
    const auto blocks = static_cast<int64_t>(places.size()), units = static_cast<int64_t>(starts.size());
    return {made("columns", Type::u16, {blocks}, places),
            made("values", type_of(all.value), {blocks, height, width}, values),
            made("starts", Type::u32, {units}, starts)};
}

std::vector<Made> encode_block(const Rounded& weights, Options& options) {
    return weights.visit(
        [&](const auto* w) { return blocks_of(w, weights, options.at("block_rows"), options.at("block_columns")); });
}

// What hangs over the lower and the right edge must be zero.
void check_overhang(const Packed& m, int32_t unit, uint32_t block) {
    const int32_t height = m.parameter[0], width = m.parameter[1];
    const int32_t below = m.rows - unit * height, right = m.columns - m.places[block] * width;
    if (below >= height && right >= width) return;
    for (int32_t r = 0; r < height; ++r)
        for (int32_t c = 0; c < width; ++c)
            require((r < below && c < right) || value_at(m, (int64_t{block} * height + r) * width + c) == 0,
                    "a block holds weights outside the matrix");
}

void describe_block(const std::vector<Array>& arrays, const Options& options, Packed& m) {
    const Given given(arrays, {"columns", "values", "starts"});
    const int32_t height = m.parameter[0] = options.at("block_rows");
    const int32_t width = m.parameter[1] = options.at("block_columns");
    const Array& values = given.get("values", type_of(m.value), {-1, height, width});
    const int64_t blocks = values.shape[0];
    require(blocks <= UINT32_MAX, "more than 2^32 - 1 blocks do not fit this format");
    m.values = values.data;
    m.stored = values.count();
    m.units = ceiling(m.rows, height);
    m.places = given.data<uint16_t>("columns", Type::u16, {blocks});
    m.starts = given.data<uint32_t>("starts", Type::u32, {int64_t{m.units} + 1});
    check_starts(m.starts, m.units, blocks);
    for (int32_t unit = 0; unit < m.units; ++unit) {
        int32_t previous = -1;
        for (uint32_t i = m.starts[unit]; i < m.starts[unit + 1]; ++i) {
            require(previous < m.places[i], "the columns of a row of blocks must ascend");
            previous = m.places[i];
            require(previous < ceiling(m.columns, width), "a block lies outside the matrix");
            check_overhang(m, unit, i);
        }
    }
}

void decode_block(const Packed& m, float* out) {
    const int32_t height = m.parameter[0], width = m.parameter[1];
    for (int32_t unit = 0; unit < m.units; ++unit) {
        for (uint32_t i = m.starts[unit]; i < m.starts[unit + 1]; ++i) {
            const int32_t top = unit * height, left = m.places[i] * width;
            for (int32_t r = top; r < std::min(top + height, m.rows); ++r)
                for (int32_t c = left; c < std::min(left + width, m.columns); ++c)
                    out[int64_t{r} * m.columns + c] = weight(m, r, (int64_t{i} * height + r - top) * width + c - left);
        }
    }
}

// ---- nm

Options complete_nm(const Options& given, int32_t, int32_t) {
    check_options(given, {"n", "m"});
    const int32_t n = option(given, "n", 2), m = option(given, "m", 4);
    require(m >= 1 && m <= kMostGroup && n >= 1 && n <= m, "N of M needs 1 <= N <= M <= 16");
    return {{"n", n}, {"m", m}};
}

template <class T>
std::vector<Made> groups_of(const T* weights, const Rounded& all, int32_t n, int32_t m) {
    const int32_t groups = ceiling(all.columns, m);
    const int64_t slots = int64_t{groups} * n, width = (slots + 1) / 2;
    std::vector<T> values(static_cast<size_t>(all.rows * slots));
    std::vector<uint8_t> nibbles(static_cast<size_t>(all.rows * width));
    for (int32_t row = 0; row < all.rows; ++row) {
        for (int32_t group = 0; group < groups; ++group) {
            int64_t slot = int64_t{group} * n;
            for (int32_t c = group * m; c < std::min((group + 1) * m, all.columns); ++c) {
                const T w = weights[int64_t{row} * all.columns + c];
                if (!w) continue;
                if (slot == int64_t{group + 1} * n)
                    throw std::invalid_argument("row " + std::to_string(row) + " has more than " + std::to_string(n) +
                                                " weights in columns " + std::to_string(group * m) + " to " +
                                                std::to_string(group * m + m - 1) + ": not " + std::to_string(n) +
                                                " of " + std::to_string(m));
                values[static_cast<size_t>(row * slots + slot)] = w;
                nibbles[static_cast<size_t>(row * width + slot / 2)] |=
                    static_cast<uint8_t>((c - group * m) << (slot % 2 * 4));
                ++slot;
            }
        }
    }
    return {made("values", type_of(all.value), {all.rows, groups, n}, values),
            made("positions", Type::u8, {all.rows, width}, nibbles)};
}

std::vector<Made> encode_nm(const Rounded& weights, Options& options) {
    return weights.visit([&](const auto* w) { return groups_of(w, weights, options.at("n"), options.at("m")); });
}

// Calls each(row, slot of the matrix, column, whether the slot is the first of its group).
template <class Each>
void each_slot(const Packed& packed, const Each& each) {
    const int32_t n = packed.parameter[0], m = packed.parameter[1], groups = ceiling(packed.columns, m);
    const int64_t slots = int64_t{groups} * n, width = (slots + 1) / 2;
    for (int32_t row = 0; row < packed.rows; ++row)
        for (int64_t slot = 0; slot < slots; ++slot) {
            const int32_t position = packed.nibbles[row * width + slot / 2] >> (slot % 2 * 4) & 15;
            each(row, row * slots + slot, static_cast<int32_t>(slot / n), position, slot % n == 0);
        }
}

void describe_nm(const std::vector<Array>& arrays, const Options& options, Packed& packed) {
    const Given given(arrays, {"values", "positions"});
    const int32_t n = packed.parameter[0] = options.at("n");
    const int32_t m = packed.parameter[1] = options.at("m");
    const int32_t groups = ceiling(packed.columns, m);
    packed.units = packed.rows;
    packed.stored = int64_t{packed.rows} * groups * n;
    packed.values = given.data<void>("values", type_of(packed.value), {packed.rows, groups, n});
    packed.nibbles = given.data<uint8_t>("positions", Type::u8, {packed.rows, (int64_t{groups} * n + 1) / 2});
    int32_t previous = -1;
    each_slot(packed, [&](int32_t, int64_t index, int32_t group, int32_t position, bool first) {
        if (first) previous = -1;
        require(position < m, "a weight lies outside its group");
        if (value_at(packed, index) == 0) return;
        require(previous < position, "the weights of a group must ascend");
        require(group * m + position < packed.columns, "a weight lies outside the matrix");
        previous = position;
    });
    const int64_t slots = int64_t{groups} * n, width = (slots + 1) / 2;
    for (int32_t row = 0; row < packed.rows && slots % 2; ++row)
        require(packed.nibbles[(row + 1) * width - 1] >> 4 == 0, "there is a position without a weight");
}

void decode_nm(const Packed& packed, float* out) {
    each_slot(packed, [&](int32_t row, int64_t index, int32_t group, int32_t position, bool) {
        if (value_at(packed, index) == 0) return;
        out[int64_t{row} * packed.columns + group * packed.parameter[1] + position] = weight(packed, row, index);
    });
}

}  // namespace

const Codec block_codec{complete_block, encode_block, describe_block, decode_block};
const Codec nm_codec{complete_nm, encode_nm, describe_nm, decode_nm};

}  // namespace cspbench
