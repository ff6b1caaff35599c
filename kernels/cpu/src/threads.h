// A team of threads that stays hot through one step: tasks are taken from a counter, so a thread
// whose core is taken away delays the others by one task only.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace shoal {

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Wait until `word` differs from `old`: a short while hot, then asleep.
inline void wait_for_change(std::atomic<uint32_t>& word, uint32_t old) {
  constexpr int kSpins = 2000;  // some 30 us: longer than any phase is uneven, shorter than a nap
  for (int i = 0; i < kSpins; ++i) {
    if (word.load(std::memory_order_acquire) != old) return;
    relax();
  }
  while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

class Team {
 public:
  explicit Team(int num_threads) : size_(num_threads) {
    for (int i = 1; i < num_threads; ++i) threads_.emplace_back([this] { work(); });
  }

  ~Team() {
    stopping_ = true;
    start();
    for (auto& thread : threads_) thread.join();
  }

  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  // Call `body` on every thread, this one included, and return when all have.
  template <class Body>
  void run(Body&& body) {
    call_ = [](void* context) { (*static_cast<std::remove_reference_t<Body>*>(context))(); };
    context_ = &body;
    next_.store(0, std::memory_order_relaxed);
    start();
    body();
    barrier();
  }

  // Inside `run`, by every thread: `task(begin, end)` over parts of [0, count) of at most `grain`;
  // returns when all are done.
  template <class Task>
  void share(int count, int grain, Task&& task) {
    for (;;) {
      int begin = next_.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= count) break;
      task(begin, begin + grain < count ? begin + grain : count);
    }
    barrier();
  }

  // A grain that gives each thread several turns.
  int grain(int count) const {
    int parts = size_ * 6;
    return size_ == 1 ? (count > 0 ? count : 1) : (count + parts - 1) / parts + (count == 0);
  }

 private:
  void start() {
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
  }

  void barrier() {
    uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == uint32_t(size_)) {
      arrived_.store(0, std::memory_order_relaxed);
      next_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      phase_.notify_all();
    } else {
      wait_for_change(phase_, phase);
    }
  }

  void work() {
    for (uint32_t seen = 0;; ++seen) {
      wait_for_change(epoch_, seen);
      if (stopping_) return;
      call_(context_);
      barrier();
    }
  }

  const int size_;
  void (*call_)(void*) = nullptr;
  void* context_ = nullptr;
  bool stopping_ = false;
  alignas(64) std::atomic<uint32_t> epoch_{0};
  alignas(64) std::atomic<int> next_{0};
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  std::vector<std::thread> threads_;
};

}  // namespace shoal
