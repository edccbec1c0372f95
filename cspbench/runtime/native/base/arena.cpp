#include "base/arena.hpp"

#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "base/format.hpp"
#include "base/guard.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cspbench {
namespace {

struct Taken {
    std::shared_ptr<void> owner;
    unsigned char* data;
};

#if defined(__linux__)

constexpr size_t kHugePage = size_t{1} << 21;

size_t rounded_up(size_t size, size_t multiple) { return (size + multiple - 1) / multiple * multiple; }

// Whole huge pages. All a product does is read weights, and outside the cache each page of 4K costs it a walk through
// the page tables as well.
class Pages {
public:
    explicit Pages(size_t size) : size_(rounded_up(size, kHugePage)), mapped_size_(size_ + kHugePage) {
        mapped_ = mmap(nullptr, mapped_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped_ == MAP_FAILED) throw std::bad_alloc();
        const auto begin = rounded_up(reinterpret_cast<uintptr_t>(mapped_), kHugePage);
        data_ = reinterpret_cast<unsigned char*>(begin);
        madvise(data_, size_, MADV_HUGEPAGE);  // advice: refused, everything works, slower
    }
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
    ~Pages() { munmap(mapped_, mapped_size_); }

    // Zeroed memory that was not given away before; null if there is not enough.
    unsigned char* take(size_t size) {
        if (size > size_ - taken_) return nullptr;
        return data_ + std::exchange(taken_, taken_ + size);
    }

private:
    size_t size_, mapped_size_, taken_ = 0;
    void* mapped_;
    unsigned char* data_;
};

// Small ones share pages, which go when the last of them has gone.
Taken take(size_t size) {
    if (size >= kHugePage) {
        auto pages = std::make_shared<Pages>(size);
        return {pages, pages->take(size)};
    }
    static std::mutex alone;
    static std::shared_ptr<Pages> shared;
    const std::lock_guard<std::mutex> lock(alone);
    const size_t room = rounded_up(size, kAlignment);
    unsigned char* data = shared ? shared->take(room) : nullptr;
    if (!data) {
        shared = std::make_shared<Pages>(room);
        data = shared->take(room);
    }
    return {shared, data};
}

#else

Taken take(size_t size) {
    constexpr auto kAligned = std::align_val_t{kAlignment};
    auto* data = static_cast<unsigned char*>(::operator new(size, kAligned));
    std::memset(data, 0, size);
    return {std::shared_ptr<void>(data, [](void* memory) { ::operator delete(memory, kAligned); }), data};
}

#endif

}  // namespace

Arena::Arena(size_t size) : size_(size) {
    if (size > SIZE_MAX / 2) throw std::bad_alloc();  // sizes are rounded up
    Taken taken = take(size);
    owner_ = std::move(taken.owner);
    data_ = taken.data;
}

Arena::~Arena() {
    if (data_) allow(data_, size_);  // the next owner of this memory may use all of it
}

void Arena::swap(Arena& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
}

}  // namespace cspbench
