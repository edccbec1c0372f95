#include "base/pool.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace cspbench {
namespace {

// A layer follows a layer within microseconds, a step a step within milliseconds: spin for the one, sleep for the
// other.
constexpr auto kSpin = std::chrono::microseconds(50);

// How the calling thread rounds and what denormal numbers are to it (FlushDenormals): a part's results must not depend
// on which thread does it.
#if defined(__x86_64__)
unsigned arithmetic() { return _mm_getcsr(); }
void set_arithmetic(unsigned as) { _mm_setcsr(as); }
#else
unsigned arithmetic() { return 0; }
void set_arithmetic(unsigned) {}
#endif

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#else
    std::this_thread::yield();
#endif
}

template <class Condition>
bool spin_until(const Condition& holds) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < 64; ++i) {
            if (holds()) return true;
            relax();
        }
    } while (std::chrono::steady_clock::now() < end);
    return holds();
}

// Whoever is free takes the next part: a thread that the system does not run holds up nobody, as the caller does its
// parts too. State that is written often lies in cache lines of its own.
class Pool {
public:
    void run(int parts, const std::function<void(int)>& task) {
        std::unique_lock<std::mutex> alone(in_use_, std::try_to_lock);
        if (!alone) {
            for (int part = 0; part < parts; ++part) task(part);
            return;
        }
        start(parts - 1);
        offer(parts, task);
        task(0);
        int own = 1;
        for (int part = take(); part > 0; part = take(), ++own) task(part);
        finish(parts - own);
    }

private:
    // Parts of a product (at most 65535) and the next that is not taken, in one word: a part is taken at most once.
    static uint64_t parts_of(uint64_t offer) { return offer >> 16 & 0xffff; }
    static uint64_t next_of(uint64_t offer) { return offer & 0xffff; }

    void start(int workers) {
        while (static_cast<int>(workers_.size()) < workers) workers_.emplace_back([this] { work(); });
    }

    void offer(int parts, const std::function<void(int)>& task) {
        task_ = &task;
        arithmetic_ = arithmetic();
        done_.store(0, std::memory_order_relaxed);
        offer_.store(++round_ << 32 | static_cast<uint64_t>(parts) << 16 | 1);
        if (sleepers_.load() == 0) return;
        std::lock_guard<std::mutex> lock(mutex_);
        wake_.notify_all();
    }

    // A part, or 0 where none is left. `task_` and `arithmetic_` are those of its product until it is done.
    int take() {
        uint64_t offer = offer_.load(std::memory_order_acquire);
        do {
            if (next_of(offer) >= parts_of(offer)) return 0;
        } while (!offer_.compare_exchange_weak(offer, offer + 1, std::memory_order_acq_rel, std::memory_order_acquire));
        return static_cast<int>(next_of(offer));
    }

    void finish(int others) {
        const auto done = [this, others] { return done_.load() == others; };
        if (spin_until(done)) return;
        std::unique_lock<std::mutex> lock(mutex_);
        waiting_.store(true);
        finished_.wait(lock, done);
        waiting_.store(false);
    }

    void work() {
        const auto offered = [this] {
            const uint64_t offer = offer_.load();
            return next_of(offer) < parts_of(offer);
        };
        for (;;) {
            if (!spin_until(offered)) {
                std::unique_lock<std::mutex> lock(mutex_);
                sleepers_.fetch_add(1);  // before it looks once more, as `offer` looks here after it offered
                wake_.wait(lock, offered);
                sleepers_.fetch_sub(1);
            }
            for (int part = take(); part > 0; part = take()) {
                set_arithmetic(arithmetic_);
                (*task_)(part);
                done_.fetch_add(1);
                if (!waiting_.load()) continue;
                std::lock_guard<std::mutex> lock(mutex_);
                finished_.notify_one();
            }
        }
    }

    alignas(64) std::atomic<uint64_t> offer_{0};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) const std::function<void(int)>* task_ = nullptr;
    unsigned arithmetic_ = 0;
    uint64_t round_ = 0;
    std::atomic<int> sleepers_{0};
    std::atomic<bool> waiting_{false};
    std::mutex in_use_;
    std::mutex mutex_;
    std::condition_variable wake_, finished_;
    std::vector<std::thread> workers_;
};

// Never destroyed: its threads may wait on it until the process is gone.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
    Pool* found = the_pool.load(std::memory_order_acquire);
    if (found) return *found;
#if defined(__unix__) || defined(__APPLE__)
    // A forked child has none of the threads, and mutexes in whatever state: it forgets them and begins anew.
    static const int registered = pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr); });
    (void)registered;
#endif
    auto* made = new Pool;
    if (the_pool.compare_exchange_strong(found, made)) return *made;
    delete made;
    return *found;
}

}  // namespace

void parallel(int parts, const std::function<void(int)>& task) {
    if (parts <= 1) {
        task(0);
        return;
    }
    pool().run(parts, task);
}

}  // namespace cspbench
