// What scan.cpp and mix.cpp share besides chunks: states as they come and go, and as they are kept.
#pragma once
#include "chunk.h"

namespace {

// (heads, P, N) as models keep states -> (heads, N, P padded) as chunks need them; zeros if null.
template <class R> void states_in(const Shape& shape, const R* from, R* to) {
  int64_t wide = padded<R>(shape.P), size = shape.N * wide;
  std::memset(to, 0, sizeof(R) * (size_t)(shape.heads * size));
  if (!from) return;
  for (int64_t h = 0; h < shape.heads; h++)
    transpose(shape.P, shape.N, from + h * shape.P * shape.N, shape.N, to + h * size, wide);
}

template <class R> void states_out(const Shape& shape, const R* from, R* to) {
  int64_t wide = padded<R>(shape.P), size = shape.N * wide;
  for (int64_t h = 0; h < shape.heads; h++)
    transpose(shape.N, shape.P, from + h * size, wide, to + h * shape.P * shape.N, shape.N);
}

// Rows of P numbers to padded rows or back.
template <class A, class B>
INLINE void copy_rows(int64_t rows, int64_t count, const A* from, int64_t from_stride, B* to, int64_t to_stride) {
  if (from_stride == count && to_stride == count) count *= rows, rows = 1;
  for (int64_t i = 0; i < rows; i++) {
    const A* a = from + i * from_stride;
    B* b = to + i * to_stride;
    SIMD for (int64_t p = 0; p < count; p++) b[p] = (B)a[p];
  }
}

// The kept state (N, P) of a head with padded rows: where it is, or a copy.
template <class R> const R* padded_state(const Shape& shape, const R* kept, R* copy) {
  int64_t wide = padded<R>(shape.P);
  if (wide == shape.P) return kept;
  copy_rows(shape.N, shape.P, kept, shape.P, copy, wide);
  return copy;
}

// For every head the sum of a state's gradient times the state; zeros without a gradient.
template <class R> void tails_in(const Shape& shape, const R* dlast, const R* last, R* tails) {
  int64_t size = shape.P * shape.N;
  for (int64_t h = 0; h < shape.heads; h++) tails[h] = dlast ? dot(dlast + h * size, last + h * size, size) : R(0);
}

}  // namespace
