// Small dense products whose operands lie in the caches, by tiles whose sums stay in registers.
//
// Vectors are GCC's and Clang's vector types, as wide as the processor's: what registers a loop over a tile would get is
// not left to the vectoriser.
#pragma once
#include <algorithm>

#include "simd.h"

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

template <class R> struct Vector { typedef R type __attribute__((vector_size(VECTOR_BYTES))); };
template <class R> constexpr int64_t LANES = VECTOR_BYTES / (int64_t)sizeof(R);
template <class R> INLINE int64_t padded(int64_t count) { return (count + LANES<R> - 1) / LANES<R> * LANES<R>; }

// Numbers that start at a cache line, zero at first.
template <class R> struct Buffer {
  std::vector<R> memory;
  R* start = nullptr;
  Buffer() = default;
  explicit Buffer(int64_t count) : memory((size_t)count + 64 / sizeof(R)) {
    uintptr_t address = (uintptr_t)memory.data();
    start = memory.data() + ((64 - address % 64) % 64) / sizeof(R);
  }
  Buffer(Buffer&&) = default;
  Buffer& operator=(Buffer&&) = default;
  Buffer(const Buffer&) = delete;
  operator R*() const { return start; }
};

// Where a product goes: c = beta c + row_i col_j product_ij, with factors of 1 where they are null.
template <class R> struct Into {
  R* c;
  int64_t stride;
  R beta = 0;
  const R* row = nullptr;
  const R* column = nullptr;
};

// A factor whose element (i, k) is a[i * i_stride + k * k_stride].
template <class R> struct Left {
  const R* a;
  int64_t i_stride, k_stride;
};

template <class R, int ROWS, int VECTORS>
INLINE void multiply_tile(int64_t k, Left<R> left, const R* b, int64_t b_stride, Into<R> into) {
  typedef typename Vector<R>::type V;
  constexpr int64_t W = LANES<R>;
  V sum[ROWS][VECTORS] = {};
  for (int64_t n = 0; n < k; n++) {
    V right[VECTORS];
#pragma GCC unroll 8
    for (int j = 0; j < VECTORS; j++) std::memcpy(&right[j], b + n * b_stride + j * W, sizeof(V));
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
      R value = left.a[i * left.i_stride + n * left.k_stride];
#pragma GCC unroll 8
      for (int j = 0; j < VECTORS; j++) sum[i][j] += value * right[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 8
    for (int j = 0; j < VECTORS; j++) {
      V value = sum[i][j], other;
      R* to = into.c + i * into.stride + j * W;
      if (into.row) value *= into.row[i];
      if (into.column) {
        std::memcpy(&other, into.column + j * W, sizeof(V));
        value *= other;
      }
      if (into.beta != 0) {
        std::memcpy(&other, to, sizeof(V));
        value += into.beta * other;
      }
      std::memcpy(to, &value, sizeof(V));
    }
}

template <class R, int ROWS>
INLINE void multiply_rows(int64_t n, int64_t k, Left<R> left, const R* b, int64_t b_stride, Into<R> into) {
  constexpr int64_t W = LANES<R>;
  int64_t j = 0;
  for (; j + 2 * W <= n; j += 2 * W) {
    multiply_tile<R, ROWS, 2>(k, left, b + j, b_stride, into);
    into.c += 2 * W;
    if (into.column) into.column += 2 * W;
  }
  if (j < n) multiply_tile<R, ROWS, 1>(k, left, b + j, b_stride, into);
}

// The product of (m, k) and (k, n), where n is padded to whole vectors.
template <class R>
static void multiply(int64_t m, int64_t n, int64_t k, Left<R> left, const R* b, int64_t b_stride, Into<R> into) {
  auto next = [&](int64_t rows) {
    left.a += rows * left.i_stride;
    into.c += rows * into.stride;
    if (into.row) into.row += rows;
  };
  int64_t i = 0;
  for (; i + 4 <= m; i += 4) multiply_rows<R, 4>(n, k, left, b, b_stride, into), next(4);
  for (; i < m; i++) multiply_rows<R, 1>(n, k, left, b, b_stride, into), next(1);
}

// (rows, columns) -> (columns, rows).
template <class R, class S>
static void transpose(int64_t rows, int64_t columns, const S* from, int64_t from_stride, R* to, int64_t to_stride) {
  for (int64_t i = 0; i < rows; i += 8)
    for (int64_t j = 0; j < columns; j++)
      for (int64_t a = i; a < rows && a < i + 8; a++) to[j * to_stride + a] = from[a * from_stride + j];
}

template <class R> static R dot(const R* a, const R* b, int64_t count) {
  R sum = 0;
  SIMD_SUM(sum) for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
  return sum;
}
