#include "euds/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace euds {
namespace {

constexpr auto kPollEvery = std::chrono::milliseconds(50);

class Crew {
   public:
    Crew(std::size_t n_tasks, std::size_t n_threads, const std::function<void(std::size_t, std::size_t)>& work)
        : n_tasks_(n_tasks), running_(n_threads), work_(work) {
        threads_.reserve(n_threads);
        try {
            for (std::size_t worker = 0; worker < n_threads; ++worker) {
                threads_.emplace_back([this, worker] { run(worker); });
            }
        } catch (...) {
            next_ = n_tasks_;
            join();
            throw;
        }
    }

    void watch(const Poll& poll) {
        std::unique_lock lock(mutex_);
        while (!finished_.wait_for(lock, kPollEvery, [this] { return running_ == 0; })) {
            if (poll && !error_) {
                lock.unlock();
                report(poll);
                lock.lock();
            }
        }
        lock.unlock();
        join();
        if (error_) {
            std::rethrow_exception(error_);
        }
    }

   private:
    void run(std::size_t worker) {
        try {
            for (std::size_t task = next_++; task < n_tasks_; task = next_++) {
                work_(task, worker);
                ++n_done_;
            }
        } catch (...) {
            fail(std::current_exception());
        }
        const std::lock_guard lock(mutex_);
        --running_;
        finished_.notify_one();
    }

    void report(const Poll& poll) {
        try {
            poll(static_cast<double>(n_done_.load()) / static_cast<double>(n_tasks_));
        } catch (...) {
            fail(std::current_exception());
        }
    }

    void fail(std::exception_ptr error) {
        const std::lock_guard lock(mutex_);
        error_ = error_ ? error_ : error;
        next_ = n_tasks_;
    }

    void join() {
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }

    std::size_t n_tasks_;
    std::size_t running_;
    const std::function<void(std::size_t, std::size_t)>& work_;
    std::atomic<std::size_t> next_ = 0;
    std::atomic<std::size_t> n_done_ = 0;
    std::mutex mutex_;
    std::condition_variable finished_;
    std::exception_ptr error_;
    std::vector<std::thread> threads_;
};

}  // namespace

void parallel_for(std::size_t n_tasks, std::size_t n_threads,
                  const std::function<void(std::size_t, std::size_t)>& work, const Poll& poll) {
    if (n_tasks == 1 && !poll) {
        work(0, 0);
    } else if (n_tasks > 0) {
        Crew(n_tasks, std::min(n_threads, n_tasks), work).watch(poll);
    }
}

}  // namespace euds
