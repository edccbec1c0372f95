// Threads that wait for parts of a product.
#pragma once

#include <functional>

namespace cspbench {

// Calls task(part) once for each of `parts` parts, side by side, and returns when all are done. The caller takes part 0
// and whatever no thread has begun by then. The threads are started when first needed and stay; a caller who finds them
// busy with another's product does all parts itself. Tasks must not throw. Works in a forked child, which starts its
// own threads.
void parallel(int parts, const std::function<void(int)>& task);

}  // namespace cspbench
