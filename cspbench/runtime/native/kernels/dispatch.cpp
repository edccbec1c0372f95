#include "kernels/dispatch.hpp"

#include <atomic>
#include <stdexcept>

#include "kernels/instruction_sets.hpp"

#if defined(CSPBENCH_AVX2) || defined(CSPBENCH_AVX512)
#include <cpuid.h>
#endif

namespace cspbench {
namespace {

struct InstructionSet {
    const char* name;
    bool usable;
    void (*add)(Kernels&);
};

#if defined(CSPBENCH_AVX2) || defined(CSPBENCH_AVX512)
// Not every compiler's __builtin_cpu_supports knows these two.
bool has_f16c() {
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

bool has_lzcnt() {
    unsigned a, b, c = 0, d;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c >> 5 & 1);
}

// All that the compiler is allowed to use (CMakeLists.txt). The builtin also asks the operating system whether it saves
// the registers.
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt") && has_f16c() && has_lzcnt();
}
#endif

#if defined(CSPBENCH_AVX512)
// Ice Lake, Zen 4 and later: the first processors with all that the int8 kernels use.
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512bitalg") && __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

// What is in this module, each building on those before it.
std::vector<InstructionSet> known() {
    std::vector<InstructionSet> sets{{"portable", true, portable::add_kernels}};
#if defined(CSPBENCH_AVX2)
    sets.push_back({"avx2", has_avx2(), avx2::add_kernels});
#endif
#if defined(CSPBENCH_AVX512)
    sets.push_back({"avx512", has_avx512(), avx512::add_kernels});
#endif
#if defined(CSPBENCH_NEON)
    sets.push_back({"neon", true, neon::add_kernels});  // part of every 64-bit ARM
#endif
    return sets;
}

struct Table {
    std::string name;
    Kernels kernels;
};

std::vector<Table> make_tables() {
    std::vector<Table> tables;
    Kernels kernels{};
    for (const InstructionSet& set : known()) {
        if (!set.usable) continue;
        set.add(kernels);
        tables.push_back({set.name, kernels});
    }
    return tables;
}

const std::vector<Table>& tables() {
    static const std::vector<Table> made = make_tables();
    return made;
}

std::atomic<const Table*> chosen{nullptr};

const Table& current() {
    const Table* table = chosen.load(std::memory_order_acquire);
    if (!table) {
        const Table* best = &tables().back();
        // Two threads may come here at once; both mean the same table, unless one has just called `use`.
        table = chosen.compare_exchange_strong(table, best) ? best : chosen.load(std::memory_order_acquire);
    }
    return *table;
}

}  // namespace

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Table& table : tables()) names.push_back(table.name);
    return names;
}

std::string current_instruction_set() { return current().name; }

void use_instruction_set(const std::string& name) {
    std::string names;
    for (const Table& table : tables()) {
        if (table.name == name) {
            chosen.store(&table, std::memory_order_release);
            return;
        }
        names += (names.empty() ? "" : ", ") + table.name;
    }
    throw std::invalid_argument("instruction set \"" + name + "\" is not available here; these are: " + names);
}

const Kernels& kernels() { return current().kernels; }

const Kernels& portable_kernels() { return tables().front().kernels; }

}  // namespace cspbench
