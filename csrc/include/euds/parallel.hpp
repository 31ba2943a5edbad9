// Independent tasks on several threads, watched by the thread that asked for them.
#pragma once

#include <cstddef>
#include <functional>

namespace euds {

// Called on the calling thread about 20 times a second with the share of the work that is done, in 0..1; what it
// throws ends the work and reaches the caller.
using Poll = std::function<void(double done)>;

// Calls work(task, worker) once for every task in 0..n_tasks-1, in any order, with worker in 0..n_threads-1.
// The first exception, of the work or of the poll, stops all workers and is thrown again here. Requires n_threads >= 1.
void parallel_for(std::size_t n_tasks, std::size_t n_threads,
                  const std::function<void(std::size_t task, std::size_t worker)>& work, const Poll& poll = {});

// Bounds of part `part` of `n_parts` nearly equal parts of n items: the part starts here, the next one ends it.
inline std::size_t part_begin(std::size_t n, std::size_t n_parts, std::size_t part) {
    return n / n_parts * part + (part < n % n_parts ? part : n % n_parts);
}

}  // namespace euds
