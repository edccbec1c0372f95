// Formats that store a matrix row by row: dense, bitmap, csr16, csr8.
#include "base/values.hpp"
#include "matrix/codec.hpp"

namespace cspbench {
namespace {

constexpr int32_t kMostPlaces = 65536;  // columns that 16 bits tell apart
constexpr int32_t kMostGap = 255;

Options no_options(const Options& given, int32_t, int32_t) {
    check_options(given, {});
    return {};
}

Options no_options_16(const Options& given, int32_t rows, int32_t columns) {
    if (columns > kMostPlaces)
        throw std::invalid_argument("csr16 holds up to 65536 columns; there are " + std::to_string(columns));
    return no_options(given, rows, columns);
}

void check_stored(int64_t stored) { require(stored <= UINT32_MAX, "more than 2^32 - 1 values do not fit this format"); }

// ---- dense

std::vector<Made> encode_dense(const Rounded& weights, Options&) {
    return {{"values", type_of(weights.value), {weights.rows, weights.columns}, weights.bits}};
}

void describe_dense(const std::vector<Array>& arrays, const Options&, Packed& m) {
    const Given given(arrays, {"values"});
    m.values = given.data<void>("values", type_of(m.value), {m.rows, m.columns});
    m.units = m.rows;
    m.stored = int64_t{m.rows} * m.columns;
}

void decode_dense(const Packed& m, float* out) {
    for (int32_t row = 0; row < m.rows; ++row)
        for (int64_t i = int64_t{row} * m.columns; i < int64_t{row + 1} * m.columns; ++i) out[i] = weight(m, row, i);
}

// ---- shared by the sparse formats

// Sizes and starts; the places of the entries are checked by the format.
void describe_sparse(const Given& given, Packed& m) {
    const Array& values = given.get("values", type_of(m.value), {-1});
    m.values = values.data;
    m.units = m.rows;
    m.stored = values.count();
    check_stored(m.stored);
    m.starts = given.data<uint32_t>("starts", Type::u32, {int64_t{m.rows} + 1});
    check_starts(m.starts, m.rows, m.stored);
}

// The places and values that `append_row` finds in each row, and where each row starts.
template <class Place, class T, class AppendRow>
std::vector<Made> entries_of(const T* weights, const Rounded& all, const char* name, Type type, AppendRow append_row) {
    std::vector<Place> places;
    std::vector<T> values;
    std::vector<uint32_t> starts{0};
    for (int32_t row = 0; row < all.rows; ++row) {
        append_row(weights + int64_t{row} * all.columns, places, values);
        check_stored(static_cast<int64_t>(values.size()));
        starts.push_back(static_cast<uint32_t>(values.size()));
    }
    const auto stored = static_cast<int64_t>(values.size());
    return {made(name, type, {stored}, places), made("values", type_of(all.value), {stored}, values),
            made("starts", Type::u32, {int64_t{all.rows} + 1}, starts)};
}

// ---- bitmap

int64_t words_of(int32_t columns) { return (int64_t{columns} + 63) / 64; }

template <class T>
std::vector<Made> bitmap_of(const T* weights, const Rounded& all) {
    const int64_t words = words_of(all.columns);
    std::vector<uint64_t> bits(static_cast<size_t>(all.rows * words));
    std::vector<T> values;
    std::vector<uint32_t> starts{0};
    for (int32_t row = 0; row < all.rows; ++row) {
        const T* w = weights + int64_t{row} * all.columns;
        for (int32_t c = 0; c < all.columns; ++c) {
            if (!w[c]) continue;
            bits[static_cast<size_t>(row * words + c / 64)] |= uint64_t{1} << (c % 64);
            values.push_back(w[c]);
        }
        check_stored(static_cast<int64_t>(values.size()));
        starts.push_back(static_cast<uint32_t>(values.size()));
    }
    return {made("bits", Type::u64, {all.rows, words}, bits),
            made("values", type_of(all.value), {static_cast<int64_t>(values.size())}, values),
            made("starts", Type::u32, {int64_t{all.rows} + 1}, starts)};
}

std::vector<Made> encode_bitmap(const Rounded& weights, Options&) {
    return weights.visit([&](const auto* w) { return bitmap_of(w, weights); });
}

uint32_t ones(uint64_t word) {
    uint32_t count = 0;
    for (; word; word &= word - 1) ++count;
    return count;
}

void describe_bitmap(const std::vector<Array>& arrays, const Options&, Packed& m) {
    const Given given(arrays, {"bits", "values", "starts"});
    describe_sparse(given, m);
    const int64_t words = words_of(m.columns);
    m.bits = given.data<uint64_t>("bits", Type::u64, {m.rows, words});
    const uint64_t beyond = m.columns % 64 ? ~uint64_t{0} << (m.columns % 64) : 0;
    for (int32_t row = 0; row < m.rows; ++row) {
        uint64_t count = 0;
        for (int64_t i = 0; i < words; ++i) count += ones(m.bits[row * words + i]);
        require(count == m.starts[row + 1] - m.starts[row], "a row's bits and starts disagree");
        require((m.bits[(row + 1) * words - 1] & beyond) == 0, "a bit is set beyond the last column");
    }
}

void decode_bitmap(const Packed& m, float* out) {
    const int64_t words = words_of(m.columns);
    for (int32_t row = 0; row < m.rows; ++row) {
        int64_t i = m.starts[row];
        for (int32_t c = 0; c < m.columns; ++c)
            if (m.bits[row * words + c / 64] >> (c % 64) & 1) out[int64_t{row} * m.columns + c] = weight(m, row, i++);
    }
}

// ---- csr16

std::vector<Made> encode_csr16(const Rounded& weights, Options&) {
    const auto append_row = [&](const auto* w, auto& places, auto& values) {
        for (int32_t c = 0; c < weights.columns; ++c) {
            if (!w[c]) continue;
            places.push_back(static_cast<uint16_t>(c));
            values.push_back(w[c]);
        }
    };
    return weights.visit(
        [&](const auto* w) { return entries_of<uint16_t>(w, weights, "columns", Type::u16, append_row); });
}

void describe_csr16(const std::vector<Array>& arrays, const Options&, Packed& m) {
    const Given given(arrays, {"columns", "values", "starts"});
    describe_sparse(given, m);
    m.places = given.data<uint16_t>("columns", Type::u16, {m.stored});
    for (int32_t row = 0; row < m.rows; ++row) {
        int32_t previous = -1;
        for (uint32_t i = m.starts[row]; i < m.starts[row + 1]; ++i) {
            require(previous < m.places[i], "the columns of a row must ascend");
            previous = m.places[i];
        }
        require(previous < m.columns, "a column lies outside the matrix");
    }
}

void decode_csr16(const Packed& m, float* out) {
    for (int32_t row = 0; row < m.rows; ++row)
        for (uint32_t i = m.starts[row]; i < m.starts[row + 1]; ++i)
            out[int64_t{row} * m.columns + m.places[i]] = weight(m, row, i);
}

// ---- csr8

std::vector<Made> encode_csr8(const Rounded& weights, Options&) {
    const auto append_row = [&](const auto* w, auto& gaps, auto& values) {
        int32_t next = 0;  // the column that gap 0 means
        for (int32_t c = 0; c < weights.columns; ++c) {
            if (!w[c]) continue;
            for (; c - next > kMostGap; next += kMostGap + 1) {
                gaps.push_back(kMostGap);
                values.push_back(0);
            }
            gaps.push_back(static_cast<uint8_t>(c - next));
            values.push_back(w[c]);
            next = c + 1;
        }
    };
    return weights.visit([&](const auto* w) { return entries_of<uint8_t>(w, weights, "gaps", Type::u8, append_row); });
}

void describe_csr8(const std::vector<Array>& arrays, const Options&, Packed& m) {
    const Given given(arrays, {"gaps", "values", "starts"});
    describe_sparse(given, m);
    m.gaps = given.data<uint8_t>("gaps", Type::u8, {m.stored});
    for (int32_t row = 0; row < m.rows; ++row) {
        int64_t next = 0;
        for (uint32_t i = m.starts[row]; i < m.starts[row + 1]; ++i) next += m.gaps[i] + 1;
        require(next <= m.columns, "the gaps of a row lead outside the matrix");
    }
}

void decode_csr8(const Packed& m, float* out) {
    for (int32_t row = 0; row < m.rows; ++row) {
        int64_t at = int64_t{row} * m.columns - 1;
        for (uint32_t i = m.starts[row]; i < m.starts[row + 1]; ++i) {
            at += m.gaps[i] + 1;
            out[at] = weight(m, row, i);
        }
    }
}

}  // namespace

const Codec dense_codec{no_options, encode_dense, describe_dense, decode_dense};
const Codec bitmap_codec{no_options, encode_bitmap, describe_bitmap, decode_bitmap};
const Codec csr16_codec{no_options_16, encode_csr16, describe_csr16, decode_csr16};
const Codec csr8_codec{no_options, encode_csr8, describe_csr8, decode_csr8};

}  // namespace cspbench
