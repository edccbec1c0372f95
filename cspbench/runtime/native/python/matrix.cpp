#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "base/timing.hpp"
#include "python/bind.hpp"

namespace cspbench {
namespace {

// ---- arrays to and from numpy

nb::dlpack::dtype dtype_of(Type type) {
    switch (type) {
        case Type::u8: return nb::dtype<uint8_t>();
        case Type::i8: return nb::dtype<int8_t>();
        case Type::u16: return nb::dtype<uint16_t>();
        case Type::u32: return nb::dtype<uint32_t>();
        case Type::u64: return nb::dtype<uint64_t>();
        case Type::f32: return nb::dtype<float>();
        case Type::f16: break;
    }
    return {static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
}

Type type_of(const std::string& name, nb::dlpack::dtype dtype) {
    for (Type type : {Type::u8, Type::i8, Type::u16, Type::u32, Type::u64, Type::f16, Type::f32})
        if (dtype_of(type) == dtype) return type;
    throw std::invalid_argument("array \"" + name + "\" is of a type that no format uses");
}

using Anything = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

Anything contiguous(const std::string& name, nb::handle given) {
    try {
        return nb::cast<Anything>(nb::module_::import_("numpy").attr("ascontiguousarray")(given));
    } catch (const std::exception&) {  // nanobind's and Python's own
        throw std::invalid_argument("array \"" + name + "\" is no array of plain numbers");
    }
}

Array view(const std::string& name, const Anything& array) {
    std::vector<int64_t> shape;
    for (size_t i = 0; i < array.ndim(); ++i) shape.push_back(static_cast<int64_t>(array.shape(i)));
    return {name, type_of(name, array.dtype()), shape, array.data()};
}

// Read-only views that keep the matrix alive.
nb::dict arrays_of(nb::handle_t<Matrix> self) {
    const auto& matrix = nb::cast<const Matrix&>(self);
    nb::dict arrays;
    for (const Array& array : matrix.arrays()) {
        const std::vector<size_t> shape(array.shape.begin(), array.shape.end());
        arrays[array.name.c_str()] =
            nb::ndarray<nb::numpy, nb::ro>(array.data, shape.size(), shape.data(), self, nullptr, dtype_of(array.type));
    }
    return arrays;
}

// ---- construction

void add_option(Options& options, const std::string& name, nb::handle value) {
    if (name != "block" && name != "nm") {
        options[name] = nb::cast<int32_t>(value);
        return;
    }
    const auto [first, second] = nb::cast<std::pair<int32_t, int32_t>>(value);
    options[name == "nm" ? "n" : "block_rows"] = first;
    options[name == "nm" ? "m" : "block_columns"] = second;
}

// Options as Python has them: numbers, and block=(rows, columns), nm=(n, m) for short.
Options options_of(const nb::kwargs& given) {
    Options options;
    for (auto [key, value] : given) {
        const auto name = nb::cast<std::string>(key);
        try {
            add_option(options, name, value);
        } catch (const std::bad_cast&) {
            throw std::invalid_argument("option \"" + name + "\" must be a number, or two for block and nm");
        }
    }
    return options;
}

using Weights = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

int32_t extent(size_t size) {
    if (size > INT32_MAX)
        throw std::invalid_argument("a matrix of " + std::to_string(size) + " rows or columns is too large");
    return static_cast<int32_t>(size);
}

Matrix pack(const Weights& dense, const std::string& format, const std::string& values, const nb::kwargs& options) {
    const Format wanted = format_named(format);
    const Value value = value_named(values);
    const Options chosen = options_of(options);
    const int32_t rows = extent(dense.shape(0)), columns = extent(dense.shape(1));
    nb::gil_scoped_release release;
    return Matrix::pack(dense.data(), rows, columns, wanted, value, chosen);
}

Matrix from_arrays(const std::string& format, const std::string& values, int32_t rows, int32_t columns,
                   const nb::dict& arrays, const Options& options) {
    const Format wanted = format_named(format);
    const Value value = value_named(values);
    std::vector<Anything> kept;
    std::vector<Array> views;
    for (auto [key, given] : arrays) {
        const auto name = nb::cast<std::string>(key);
        kept.push_back(contiguous(name, given));
        views.push_back(view(name, kept.back()));
    }
    nb::gil_scoped_release release;
    return Matrix::from_arrays(wanted, value, rows, columns, views, options);
}

// ---- use

nb::object dense(const Matrix& matrix) {
    const auto rows = static_cast<size_t>(matrix.rows()), columns = static_cast<size_t>(matrix.columns());
    auto* out = new float[rows * columns];
    nb::object array = owned_array(out, {rows, columns});
    nb::gil_scoped_release release;
    matrix.dense(out);
    return array;
}

// Inputs in `x`; checks its shape, (columns,) or (batch, columns).
int batch_of(const Matrix& matrix, const Floats& x) {
    const auto columns = static_cast<size_t>(matrix.columns());
    if (x.ndim() < 1 || x.ndim() > 2 || x.shape(x.ndim() - 1) != columns || (x.ndim() == 2 && x.shape(0) > INT32_MAX))
        throw std::invalid_argument("x must be (" + std::to_string(columns) + ",) or (batch, " +
                                    std::to_string(columns) + ")");
    return x.ndim() == 2 ? static_cast<int>(x.shape(0)) : 1;
}

nb::object multiply(const Matrix& matrix, const Floats& x, int threads) {
    const int batch = batch_of(matrix, x);
    check_threads(threads);
    const auto rows = static_cast<size_t>(matrix.rows());
    auto* y = new float[static_cast<size_t>(batch) * rows];
    nb::object array = x.ndim() == 1 ? owned_array(y, {rows}) : owned_array(y, {static_cast<size_t>(batch), rows});
    nb::gil_scoped_release release;
    matrix.multiply(x.data(), y, batch, threads);
    return array;
}

nb::object time(const Matrix& matrix, const Floats& x, int repeats, size_t evicted, int threads) {
    const int batch = batch_of(matrix, x);
    if (repeats < 1) throw std::invalid_argument("repeats must be at least 1");
    check_threads(threads);
    auto* times = new double[static_cast<size_t>(repeats)];
    nb::object array = owned_array(times, {static_cast<size_t>(repeats)});
    nb::gil_scoped_release release;
    std::vector<float> y(static_cast<size_t>(batch) * static_cast<size_t>(matrix.rows()));
    for (int i = 0; i < repeats; ++i) {
        if (evicted) evict(evicted);
        const auto before = Clock::now();
        matrix.multiply(x.data(), y.data(), batch, threads);
        times[i] = seconds(Clock::now() - before);
    }
    return array;
}

std::string text_of(const Matrix& matrix) {
    return "<Matrix " + std::to_string(matrix.rows()) + " x " + std::to_string(matrix.columns()) + ", " +
           name_of(matrix.packed().format) + " " + name_of(matrix.packed().value) + ", " +
           std::to_string(matrix.nonzeros()) + " non-zero, " + std::to_string(matrix.bytes()) + " bytes>";
}

}  // namespace

void bind_matrix(nb::module_& module) {
    using namespace nb::literals;
    nb::class_<Matrix>(module, "Matrix", "A packed matrix: immutable, safe to share between threads.")
        .def_static(
            "pack", pack, "dense"_a.noconvert(), "format"_a, "values"_a, "options"_a,
            "Pack weights (rows, columns). -0 is stored as 0. Options: block=(rows, columns), nm=(n, m), and what "
            "`options` of a matrix shows. ValueError where the weights or options do not suit the format.")
        .def_static("from_arrays", from_arrays, "format"_a, "values"_a, "rows"_a, "columns"_a, "arrays"_a,
                    "options"_a = Options{},
                    "A matrix of what `arrays()` and `options` gave, copied and then checked entirely: ValueError if "
                    "anything in it is not as the format has it.")
        .def("arrays", arrays_of, "What a file keeps: read-only views, by name. bf16 comes as uint16, int4 as uint8, two "
             "a byte.")
        .def("dense", dense, "Weights (rows, columns) as float32, zeros in their places.")
        .def("multiply", multiply, "x"_a, "threads"_a = 1,
             "y (rows,) or (batch, rows) of x (columns,) or (batch, columns).")
        .def("useful_threads", &Matrix::useful_threads, "most"_a, "batch"_a = 1,
             "Threads, at most `most`, that pay for a product with so many vectors; a recogniser's products take those.")
        .def("time", time, "x"_a, "repeats"_a, "evict"_a = 0, "threads"_a = 1,
             "Seconds of each of so many products, the first without any warm-up. evict > 0: so many bytes of other "
             "memory are read before each, untimed; more than the caches hold makes every product a cold one.")
        .def_prop_ro("options", &Matrix::options)
        .def_prop_ro("format", [](const Matrix& m) { return name_of(m.packed().format); })
        .def_prop_ro("values", [](const Matrix& m) { return name_of(m.packed().value); })
        .def_prop_ro("rows", &Matrix::rows)
        .def_prop_ro("columns", &Matrix::columns)
        .def_prop_ro("nonzeros", &Matrix::nonzeros, "Weights that are not zero once rounded to their type.")
        .def_prop_ro(
            "stored", [](const Matrix& m) { return m.packed().stored; }, "Values stored, padding included.")
        .def_prop_ro("bytes", &Matrix::bytes, "Exact sum of the arrays.")
        .def("__repr__", text_of);
}

}  // namespace cspbench
