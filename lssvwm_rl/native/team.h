// Threads that walk through the same operations together, each with its share of every one, and wait for each other
// in between: the way to use several cores for one frame.
#pragma once
#include <atomic>
#include <memory>

#include "simd.h"

struct Meeting {
  const int64_t size;
  std::atomic<int64_t> arrived{0}, round{0};
  explicit Meeting(int64_t size) : size(size) {}
};

struct Team {
  Meeting* meeting;
  int64_t rank;
  int64_t size() const { return meeting ? meeting->size : 1; }

  // This member's share of [0, count).
  int64_t begin(int64_t count) const { return rank * count / size(); }
  int64_t end(int64_t count) const { return (rank + 1) * count / size(); }

  // Returns when every member has called it.
  void wait() const {
    if (!meeting) return;
    const int64_t round = meeting->round.load(std::memory_order_relaxed);
    if (meeting->arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size()) {
      meeting->arrived.store(0, std::memory_order_relaxed);
      meeting->round.store(round + 1, std::memory_order_release);
      return;
    }
    for (int64_t spins = 0; meeting->round.load(std::memory_order_acquire) == round; spins++)
      if (spins > 2000) std::this_thread::yield();  // a member has lost its core
  }
};

// f(team) in `size` threads that form one team; in this one alone if there are no more to have.
template <class F> void with_team(int64_t size, F&& f) {
  if (size > 1) {
    // Nobody begins before it is known that all are there.
    std::atomic<int> go{0};
    Meeting meeting(size);
    std::vector<std::thread> others;
    try {
      for (int64_t rank = 1; rank < size; rank++)
        others.emplace_back([&f, &go, &meeting, rank] {
          while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
          if (go.load(std::memory_order_relaxed) == 1) f(Team{&meeting, rank});
        });
    } catch (const std::system_error&) {
    }
    const bool whole = (int64_t)others.size() + 1 == size;
    go.store(whole ? 1 : 2, std::memory_order_release);
    if (whole) f(Team{&meeting, 0});
    for (auto& thread : others) thread.join();
    if (whole) return;
  }
  f(Team{nullptr, 0});
}
