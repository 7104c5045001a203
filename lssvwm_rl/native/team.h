// Threads that walk through the same operations together, each with its share of every one, and wait for each other
// in between: the way to use several cores for one frame.
#pragma once
#include "simd.h"

struct Meeting {
  std::atomic<int64_t> arrived{0}, round{0};
};

struct Team {
  Meeting* meeting = nullptr;
  int64_t rank = 0, size = 1;

  // This member's share of [0, count).
  int64_t begin(int64_t count) const { return rank * count / size; }
  int64_t end(int64_t count) const { return (rank + 1) * count / size; }

  // Returns when every member has called it.
  void wait() const {
    if (size == 1) return;
    const int64_t round = meeting->round.load(std::memory_order_relaxed);
    if (meeting->arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      meeting->arrived.store(0, std::memory_order_relaxed);
      meeting->round.store(round + 1, std::memory_order_release);
      return;
    }
    for (int64_t spins = 0; meeting->round.load(std::memory_order_acquire) == round; spins++)
      if (spins > 2000) std::this_thread::yield();  // a member has lost its core
  }
};

// f(team) in `size` threads that form one team, or in fewer if there are no more to have.
template <class F> void with_team(int64_t size, F&& f) {
  Meeting meeting;
  on_threads(size, [&](int64_t rank, int64_t members) { f(Team{&meeting, rank, members}); });
}
