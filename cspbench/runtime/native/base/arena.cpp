#include "base/arena.hpp"

#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

#include "base/format.hpp"
#include "base/guard.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cspbench {
namespace {

constexpr size_t kHugePage = size_t{1} << 21;
constexpr auto kAligned = std::align_val_t{kAlignment};

}  // namespace

Arena::Arena(size_t size) : size_(size) {
    if (size > SIZE_MAX / 2) throw std::bad_alloc();  // sizes below are rounded up
#if defined(__linux__)
    if (size >= kHugePage) {
        // Thousands of 4K pages would not fit the processor's address caches, and all a product does is read weights.
        mapped_size_ = size + kHugePage;
        mapped_ = mmap(nullptr, mapped_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped_ == MAP_FAILED) throw std::bad_alloc();
        const auto begin = reinterpret_cast<uintptr_t>(mapped_);
        data_ = reinterpret_cast<unsigned char*>((begin + kHugePage - 1) / kHugePage * kHugePage);
        madvise(data_, size, MADV_HUGEPAGE);  // advice: refused, everything works, slower
        return;
    }
#endif
    data_ = static_cast<unsigned char*>(::operator new(size, kAligned));
    std::memset(data_, 0, size);
}

Arena::~Arena() {
    allow(data_, size_);  // the next owner of this memory may use all of it
#if defined(__linux__)
    if (mapped_) {
        munmap(mapped_, mapped_size_);
        return;
    }
#endif
    if (data_) ::operator delete(data_, kAligned);
}

void Arena::swap(Arena& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapped_, other.mapped_);
    std::swap(mapped_size_, other.mapped_size_);
}

}  // namespace cspbench
