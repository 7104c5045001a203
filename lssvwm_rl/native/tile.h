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

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (typename Four<R>::order){__VA_ARGS__})
#endif

template <class R> struct Four;
template <> struct Four<float> {
  typedef float type __attribute__((vector_size(16)));
  typedef int32_t order __attribute__((vector_size(16)));
};
template <> struct Four<double> {
  typedef double type __attribute__((vector_size(32)));
  typedef int64_t order __attribute__((vector_size(32)));
};

// Four rows of four numbers, by pairs of rows and then pairs of pairs.
template <class R> INLINE void transpose_four(const R* from, int64_t from_stride, R* to, int64_t to_stride) {
  typedef typename Four<R>::type V;
  V row[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) std::memcpy(&row[i], from + i * from_stride, sizeof(V));
  V a = SHUFFLE(row[0], row[1], 0, 4, 1, 5), b = SHUFFLE(row[0], row[1], 2, 6, 3, 7);
  V c = SHUFFLE(row[2], row[3], 0, 4, 1, 5), d = SHUFFLE(row[2], row[3], 2, 6, 3, 7);
  V column[4] = {SHUFFLE(a, c, 0, 1, 4, 5), SHUFFLE(a, c, 2, 3, 6, 7), SHUFFLE(b, d, 0, 1, 4, 5),
                 SHUFFLE(b, d, 2, 3, 6, 7)};
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) std::memcpy(to + i * to_stride, &column[i], sizeof(V));
}

// (rows, columns) -> (columns, rows).
template <class R>
static void transpose(int64_t rows, int64_t columns, const R* from, int64_t from_stride, R* to, int64_t to_stride) {
  int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (int64_t i = 0; i < whole_rows; i += 4)
    for (int64_t j = 0; j < whole_columns; j += 4)
      transpose_four(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; j++) to[j * to_stride + i] = from[i * from_stride + j];
}

template <class R> static R dot(const R* a, const R* b, int64_t count) {
  R sum = 0;
  SIMD_SUM(sum) for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
  return sum;
}
