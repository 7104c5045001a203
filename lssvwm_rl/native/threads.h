// Work on several threads: on those of the OpenMP runtime that PyTorch has loaded, else on threads made for one call.
//
// PyTorch's threads go on spinning for some milliseconds after its own operations. Threads of ours would have to share
// their cores with them, which took a fifth of a training step; its own are already there, and waiting.
#pragma once
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

// The entry points that compilers call for `omp parallel`; all null where no OpenMP runtime is loaded.
struct OpenMP {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned);
  int (*rank)();
  int (*size)();
  pid_t process;  // that loaded it: after a fork its threads are gone, and it would wait for them for ever

  OpenMP() : process(getpid()) {
    find(parallel, "GOMP_parallel"), find(rank, "omp_get_thread_num"), find(size, "omp_get_num_threads");
  }
  template <class F> static void find(F*& function, const char* name) {
    function = reinterpret_cast<F*>(dlsym(RTLD_DEFAULT, name));
  }
  bool usable() const { return parallel && rank && size && process == getpid(); }
};
const OpenMP openmp;

// f(rank, size) once for every rank, each on a thread of its own; the size is at most `threads`.
template <class F> void on_threads(int64_t threads, F&& f) {
  if (threads <= 1) return f((int64_t)0, (int64_t)1);
  if (openmp.usable()) {
    auto call = [](void* g) { (*static_cast<std::remove_reference_t<F>*>(g))((int64_t)openmp.rank(), (int64_t)openmp.size()); };
    return openmp.parallel(call, &f, (unsigned)threads, 0);
  }
  // Nobody begins before it is known how many there are.
  std::atomic<int64_t> size{0};
  std::vector<std::thread> others;
  for (int64_t rank = 1; rank < threads; rank++) {
    try {
      others.emplace_back([&f, &size, rank] {
        while (!size.load(std::memory_order_acquire)) std::this_thread::yield();
        f(rank, size.load(std::memory_order_relaxed));
      });
    } catch (const std::system_error&) {  // no more threads to have
      break;
    }
  }
  size.store((int64_t)others.size() + 1, std::memory_order_release);
  f((int64_t)0, (int64_t)others.size() + 1);
  for (auto& thread : others) thread.join();
}

// f(begin, end) over [0, count), on at most `threads` threads, each with one piece; what a row gives must not depend on
// the pieces.
template <class F> void parallel_for(int64_t threads, int64_t count, F&& f) {
  on_threads(threads < count ? threads : count, [&](int64_t rank, int64_t size) {
    const int64_t begin = rank * count / size, end = (rank + 1) * count / size;
    if (begin < end) f(begin, end);
  });
}

// Threads that are worth calling for so many numbers, of which each takes a nanosecond or so.
inline int64_t threads_for(int64_t threads, int64_t numbers) {
  const int64_t worth = 1 + numbers / 32768;
  return threads < worth ? threads : worth;
}

}  // namespace
