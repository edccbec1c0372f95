// What all formats check in the same way.
#include "matrix/codec.hpp"

#include <algorithm>
#include <cstring>

namespace cspbench {
namespace {

std::string text_of(const std::vector<int64_t>& shape) {
    std::string text;
    for (int64_t extent : shape) text += (text.empty() ? "" : ", ") + (extent < 0 ? "any" : std::to_string(extent));
    return "(" + text + ")";
}

bool fits(const std::vector<int64_t>& shape, const std::vector<int64_t>& wanted) {
    return std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end(),
                      [](int64_t is, int64_t want) { return is >= 0 && (want < 0 || is == want); });
}

bool among(const std::string& name, std::initializer_list<const char*> names) {
    return std::any_of(names.begin(), names.end(), [&](const char* each) { return name == each; });
}

}  // namespace

Type type_of(Value value) {
    switch (value) {
        case Value::fp32: return Type::f32;
        case Value::fp16: return Type::f16;
        case Value::bf16: return Type::u16;
        case Value::int8: return Type::i8;
        case Value::int4: return Type::u8;
    }
    throw std::invalid_argument("unknown type of values");
}

Given::Given(const std::vector<Array>& arrays, std::initializer_list<const char*> names) : arrays_(arrays) {
    for (const Array& array : arrays)
        if (!among(array.name, names) && array.name != "scales")
            throw std::invalid_argument("array \"" + array.name + "\" is no part of this format");
}

const Array& Given::get(const char* name, Type type, const std::vector<int64_t>& shape) const {
    const auto found =
        std::find_if(arrays_.begin(), arrays_.end(), [&](const Array& each) { return each.name == name; });
    if (found == arrays_.end()) throw std::invalid_argument("array \"" + std::string(name) + "\" is missing");
    if (found->type != type || !fits(found->shape, shape))
        throw std::invalid_argument("array \"" + found->name + "\" is " + name_of(found->type) + " " +
                                    text_of(found->shape) + ", but must be " + name_of(type) + " " + text_of(shape));
    return *found;
}

void check_starts(const uint32_t* starts, int32_t units, int64_t total) {
    require(starts[0] == 0, "starts must begin with 0");
    for (int32_t i = 0; i < units; ++i) require(starts[i] <= starts[i + 1], "starts must not fall");
    require(starts[units] == total, "starts must end with what is stored");
}

int32_t option(const Options& given, const char* name, int32_t otherwise) {
    const auto found = given.find(name);
    return found == given.end() ? otherwise : found->second;
}

void check_options(const Options& given, std::initializer_list<const char*> names) {
    for (const auto& each : given)
        if (!among(each.first, names))
            throw std::invalid_argument("option \"" + each.first + "\" is no part of this format");
}

const Codec& codec_of(Format format) {
    switch (format) {
        case Format::dense: return dense_codec;
        case Format::bitmap: return bitmap_codec;
        case Format::csr16: return csr16_codec;
        case Format::csr8: return csr8_codec;
        case Format::window: return window_codec;
        case Format::block: return block_codec;
        case Format::nm: return nm_codec;
        default: throw std::invalid_argument("this format is not part of this build");
    }
}

}  // namespace cspbench
