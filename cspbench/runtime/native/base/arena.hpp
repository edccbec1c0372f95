// Memory of packed matrices and of scratch: aligned, zeroed, and in huge pages where the system has them.
#pragma once

#include <cstddef>
#include <memory>

namespace cspbench {

class Arena {
public:
    Arena() = default;
    // `size` zeroed bytes. Throws std::bad_alloc.
    explicit Arena(size_t size);
    Arena(Arena&& other) noexcept { swap(other); }
    Arena& operator=(Arena&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Arena();

    unsigned char* data() const { return data_; }
    size_t size() const { return size_; }

private:
    void swap(Arena& other) noexcept;

    std::shared_ptr<void> owner_;  // of the memory, which other arenas may share
    unsigned char* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace cspbench
