// Arithmetic without denormal numbers.
#pragma once

#include <cstdint>

namespace cspbench {

// While it lives, this thread's arithmetic gives zeros for denormal numbers, which cost a hundred cycles each on some
// processors; a silent recording would otherwise decay into them. Restores what was set before.
class FlushDenormals {
public:
    FlushDenormals();
    ~FlushDenormals();
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

private:
    uint64_t before_;
};

}  // namespace cspbench
