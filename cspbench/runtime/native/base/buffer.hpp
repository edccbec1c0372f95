// A buffer of floats, zero at first, that starts at a cache line.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "base/format.hpp"

namespace cspbench {

class Buffer {
public:
    Buffer() = default;
    explicit Buffer(int64_t count) { resize(count); }
    Buffer(const Buffer& other) : Buffer(other.count_) { copy(other); }
    Buffer(Buffer&& other) noexcept : data_(std::move(other.data_)), count_(std::exchange(other.count_, 0)) {}
    Buffer& operator=(const Buffer& other) {
        if (this != &other) {
            if (count_ != other.count_) resize(other.count_);
            copy(other);
        }
        return *this;
    }
    Buffer& operator=(Buffer&& other) noexcept {
        data_ = std::move(other.data_);
        count_ = std::exchange(other.count_, 0);
        return *this;
    }

    float* data() { return data_.get(); }
    const float* data() const { return data_.get(); }
    int64_t count() const { return count_; }

    // Zeros; what was there is lost.
    void resize(int64_t count) {
        const size_t bytes = static_cast<size_t>(count) * sizeof(float);
        data_.reset(static_cast<float*>(::operator new(bytes, std::align_val_t(kAlignment))));
        count_ = count;
        if (count > 0) memset(data_.get(), 0, bytes);
    }
    void at_least(int64_t count) {
        if (count_ < count) resize(count);
    }

private:
    struct Free {
        void operator()(float* data) const { ::operator delete(data, std::align_val_t(kAlignment)); }
    };
    void copy(const Buffer& other) {
        if (count_ > 0) memcpy(data_.get(), other.data_.get(), static_cast<size_t>(count_) * sizeof(float));
    }

    std::unique_ptr<float, Free> data_;
    int64_t count_ = 0;
};

}  // namespace cspbench
