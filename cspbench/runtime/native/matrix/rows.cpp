// Formats that store a matrix row by row: dense, bitmap, csr16, csr8.
#include <algorithm>

#include "base/values.hpp"
#include "kernels/shared/bitmap.hpp"
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

// Sizes and starts of `units` units; the places of the entries are checked by the format.
void describe_sparse(const Given& given, Packed& m, int32_t units) {
    const Array& values = given.get("values", type_of(m.value), {-1});
    m.values = values.data;
    m.units = units;
    m.stored = values.count();
    check_stored(m.stored);
    m.starts = given.data<uint32_t>("starts", Type::u32, {int64_t{units} + 1});
    check_starts(m.starts, units, m.stored);
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

Options complete_bitmap(const Options& given, int32_t, int32_t) {
    check_options(given, {"lanes"});
    const int32_t lanes = option(given, "lanes", 1);
    require(lanes == 1 || lanes == kBitmapLanes, "a bitmap must have 1 or 4 lanes");
    return lanes == 1 ? Options{} : Options{{"lanes", lanes}};  // as files have it that are older than the option
}

int32_t groups_of(int32_t rows, int32_t lanes) { return (rows + lanes - 1) / lanes; }

std::vector<int64_t> shape_of_bits(int32_t rows, int32_t columns, int32_t lanes) {
    const int64_t words = (int64_t{columns} + 63) / 64;
    if (lanes == 1) return {rows, words};
    return {groups_of(rows, lanes), words, lanes};
}

// Appends the values of columns `left` to `left` + 63; returns their bits.
template <class T>
uint64_t append_word(const T* w, int32_t left, int32_t columns, std::vector<T>& values) {
    uint64_t word = 0;
    for (int32_t c = left; c < std::min(left + 64, columns); ++c) {
        if (!w[c]) continue;
        word |= uint64_t{1} << (c - left);
        values.push_back(w[c]);
    }
    return word;
}

template <class T>
std::vector<Made> bitmap_of(const T* weights, const Rounded& all, int32_t lanes) {
    std::vector<uint64_t> bits;
    std::vector<T> values;
    std::vector<uint32_t> starts{0};
    for (int32_t top = 0; top < all.rows; top += lanes) {
        for (int32_t left = 0; left < all.columns; left += 64)
            for (int32_t row = top; row < top + lanes; ++row)
                bits.push_back(row < all.rows
                                   ? append_word(weights + int64_t{row} * all.columns, left, all.columns, values)
                                   : 0);
        check_stored(static_cast<int64_t>(values.size()));
        starts.push_back(static_cast<uint32_t>(values.size()));
    }
    return {made("bits", Type::u64, shape_of_bits(all.rows, all.columns, lanes), bits),
            made("values", type_of(all.value), {static_cast<int64_t>(values.size())}, values),
            made("starts", Type::u32, {static_cast<int64_t>(starts.size())}, starts)};
}

std::vector<Made> encode_bitmap(const Rounded& weights, Options& options) {
    const int32_t lanes = option(options, "lanes", 1);
    return weights.visit([&](const auto* w) { return bitmap_of(w, weights, lanes); });
}

void describe_bitmap(const std::vector<Array>& arrays, const Options& options, Packed& m) {
    const Given given(arrays, {"bits", "values", "starts"});
    const int32_t lanes = m.parameter[0] = option(options, "lanes", 1);
    describe_sparse(given, m, groups_of(m.rows, lanes));
    m.bits = given.data<uint64_t>("bits", Type::u64, shape_of_bits(m.rows, m.columns, lanes));
    const int64_t words = words_of(m);
    const uint64_t beyond = m.columns % 64 ? ~uint64_t{0} << (m.columns % 64) : 0;
    const uint64_t* word = m.bits;
    for (int32_t group = 0; group < m.units; ++group) {
        uint64_t count = 0;
        for (int64_t i = 0; i < words; ++i)
            for (int32_t lane = 0; lane < lanes; ++lane, ++word) {
                count += static_cast<uint64_t>(ones_of(*word));
                require(i + 1 < words || (*word & beyond) == 0, "a bit is set beyond the last column");
                require(group * lanes + lane < m.rows || *word == 0, "a bit is set beyond the last row");
            }
        require(count == m.starts[group + 1] - m.starts[group], "a row's bits and starts disagree");
    }
}

template <int Lanes>
void decode_bitmap_rows(const Packed& m, float* out) {
    for (int32_t row = 0; row < m.rows; ++row) {
        BitmapRow<uint8_t, Lanes> cursor(m, row);  // counts values, whatever their type
        for (int32_t left = 0; left < m.columns; left += 64, cursor.next()) {
            int64_t i = cursor.at - static_cast<const uint8_t*>(m.values);
            for (int32_t c = left; c < std::min(left + 64, m.columns); ++c)
                if (*cursor.word >> (c - left) & 1) out[int64_t{row} * m.columns + c] = weight(m, row, i++);
        }
    }
}

void decode_bitmap(const Packed& m, float* out) {
    if (m.parameter[0] == 1)
        decode_bitmap_rows<1>(m, out);
    else
        decode_bitmap_rows<kBitmapLanes>(m, out);
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
    describe_sparse(given, m, m.rows);
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
    describe_sparse(given, m, m.rows);
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
const Codec bitmap_codec{complete_bitmap, encode_bitmap, describe_bitmap, decode_bitmap};
const Codec csr16_codec{no_options_16, encode_csr16, describe_csr16, decode_csr16};
const Codec csr8_codec{no_options, encode_csr8, describe_csr8, decode_csr8};

}  // namespace cspbench
