// Memory of packed matrices and of scratch: aligned, zeroed, and in huge pages where that is worth while.
#pragma once

#include <cstddef>

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

    unsigned char* data_ = nullptr;
    size_t size_ = 0;
    void* mapped_ = nullptr;  // what munmap wants; null where operator new was used
    size_t mapped_size_ = 0;
};

}  // namespace cspbench
