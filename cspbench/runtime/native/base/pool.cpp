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

class Pool {
public:
    void run(int parts, const std::function<void(int)>& task) {
        std::unique_lock<std::mutex> alone(in_use_, std::try_to_lock);
        if (!alone) {
            for (int part = 0; part < parts; ++part) task(part);
            return;
        }
        start(parts - 1);
        begin(parts, task);
        task(0);
        finish();
    }

private:
    void start(int workers) {
        while (static_cast<int>(workers_.size()) < workers) {
            const int part = static_cast<int>(workers_.size()) + 1;
            workers_.emplace_back([this, part, seen = round_.load()] { work(part, seen); });
        }
    }

    void begin(int parts, const std::function<void(int)>& task) {
        std::lock_guard<std::mutex> lock(mutex_);
        task_ = &task;
        parts_ = parts;
        arithmetic_ = arithmetic();
        // Every worker answers every round, also those without a part: none can then sleep through one and meet the
        // next.
        unfinished_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
        round_.fetch_add(1, std::memory_order_release);
        wake_.notify_all();
    }

    void finish() {
        const auto done = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
        if (spin_until(done)) return;
        std::unique_lock<std::mutex> lock(mutex_);
        finished_.wait(lock, done);
    }

    void work(int part, uint64_t seen) {
        for (;;) {
            const auto called = [this, seen] { return round_.load(std::memory_order_acquire) != seen; };
            if (!spin_until(called)) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, called);
            }
            ++seen;
            if (part < parts_) {
                set_arithmetic(arithmetic_);
                (*task_)(part);
            }
            if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
                std::lock_guard<std::mutex> lock(mutex_);
                finished_.notify_one();
            }
        }
    }

    std::mutex in_use_;
    std::mutex mutex_;
    std::condition_variable wake_, finished_;
    std::atomic<uint64_t> round_{0};
    std::atomic<int> unfinished_{0};
    const std::function<void(int)>* task_ = nullptr;
    int parts_ = 0;
    unsigned arithmetic_ = 0;
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
