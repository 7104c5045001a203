// Products of small dense matrices that lie in the caches, by tiles whose sums stay in registers while k runs.
//
// Vectors are GCC's and Clang's vector types, as wide as the processor's: what registers a loop over a tile would get is
// not left to the vectoriser. Each element is summed over k in order, by one multiply-add per step: what a row gives
// depends neither on the rows beside it nor on the number of threads.
#pragma once
#include <algorithm>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "simd.h"

namespace {  // other kernels have types of the same names

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, ROWS = 12;  // of a tile of two vectors: with 32 registers, and with 16
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32, ROWS = 6;
#else
constexpr int VECTOR_BYTES = 16, ROWS = 6;
#endif
constexpr int VECTORS = 2;

template <class R, int BYTES = VECTOR_BYTES> struct Simd {
  typedef R Vector __attribute__((vector_size(BYTES), aligned(alignof(R)), may_alias));
  static constexpr int LANES = BYTES / sizeof(R);
};
template <class R> constexpr int64_t LANES = Simd<R>::LANES;
template <class R> INLINE int64_t padded(int64_t count) { return (count + LANES<R> - 1) / LANES<R> * LANES<R>; }

// Two numbers in bf16 that follow each other along k, the first in the lower half.
typedef uint32_t Pair;

template <class Vector, class R> INLINE void add_product(Vector& sum, R x, const Vector& right) { sum += x * right; }
#if defined(__AVX512BF16__)
INLINE void add_product(Simd<float>::Vector& sum, Pair x, const Simd<Pair>::Vector& right) {
  sum = _mm512_dpbf16_ps((__m512)sum, (__m512bh)(Simd<Pair>::Vector{} + x), (__m512bh)right);
}
#endif

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

// A factor whose element (i, k) is a[i * row + k * step]. Elements E of factors are numbers R, or pairs of them.
template <class E> struct Left {
  const E* a;
  int64_t row, step;
};

// M rows and V vectors of BYTES each.
template <class R, int BYTES, int M, int V, class E>
INLINE void tile(int64_t K, Left<E> left, const E* b, int64_t ldb, Into<R> into) {
  static_assert(sizeof(E) == sizeof(R), "an element of the right factor per sum");
  typedef typename Simd<R, BYTES>::Vector Vector;
  typedef typename Simd<E, BYTES>::Vector Elements;
  constexpr int W = Simd<R, BYTES>::LANES;
  Vector sum[M][V] = {};
  for (int64_t k = 0; k < K; k++) {
    Elements right[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) right[v] = *(const Elements*)(b + k * ldb + v * W);
#pragma GCC unroll 12
    for (int m = 0; m < M; m++) {
      const E x = left.a[m * left.row + k * left.step];
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) add_product(sum[m][v], x, right[v]);
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < M; m++)
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) {
      Vector value = sum[m][v], *to = (Vector*)(into.c + m * into.stride + v * W);
      if (into.row) value *= into.row[m];
      if (into.column) value *= *(const Vector*)(into.column + v * W);
      *to = into.beta != 0 ? into.beta * *to + value : value;
    }
}

// Rows [0, M) in tiles of TALL, then of the next smaller size.
template <class R, int BYTES, int V, int TALL = ROWS, class E = R>
INLINE void panel(int64_t M, int64_t K, Left<E> left, const E* b, int64_t ldb, Into<R> into) {
  constexpr int NEXT = TALL > 4 ? 4 : TALL > 2 ? 2 : 1;
  int64_t m = 0;
  for (; m + TALL <= M; m += TALL) {
    tile<R, BYTES, TALL, V>(K, left, b, ldb, into);
    left.a += TALL * left.row, into.c += TALL * into.stride;
    if (into.row) into.row += TALL;
  }
  if constexpr (TALL > 1) if (m < M) panel<R, BYTES, V, NEXT>(M - m, K, left, b, ldb, into);
}

// What is left of the columns, by vectors of half the width and so on; nothing behind column N is read.
template <class R, int BYTES>
INLINE void columns_of(int64_t M, int64_t N, int64_t K, Left<R> left, const R* b, int64_t ldb, Into<R> into) {
  constexpr int W = Simd<R, BYTES>::LANES, V = BYTES == VECTOR_BYTES ? VECTORS : 1;
  int64_t n = 0;
  auto at = [&] { return Into<R>{into.c + n, into.stride, into.beta, into.row, into.column ? into.column + n : nullptr}; };
  for (; n + V * W <= N; n += V * W) panel<R, BYTES, V>(M, K, left, b + n, ldb, at());
  if (V > 1 && n + W <= N) panel<R, BYTES, 1>(M, K, left, b + n, ldb, at()), n += W;
  if constexpr (BYTES > 16)
    if (n < N) columns_of<R, BYTES / 2>(M, N - n, K, left, b + n, ldb, at());
  if constexpr (BYTES == 16)
    for (; n < N; n++)
      for (int64_t m = 0; m < M; m++) {
        R sum = 0, &to = into.c[m * into.stride + n];
        for (int64_t k = 0; k < K; k++) sum += left.a[m * left.row + k * left.step] * b[k * ldb + n];
        if (into.row) sum *= into.row[m];
        if (into.column) sum *= into.column[n];
        to = into.beta != 0 ? into.beta * to + sum : sum;
      }
}

// The product of `left` (M, K) and b (K, N). Not inlined, which would take the compiler long.
template <class R>
__attribute__((noinline)) void multiply(int64_t M, int64_t N, int64_t K, Left<R> left, const R* b, int64_t ldb, Into<R> into) {
  columns_of<R, VECTOR_BYTES>(M, N, K, left, b, ldb, into);
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
void transpose(int64_t rows, int64_t columns, const R* from, int64_t from_stride, R* to, int64_t to_stride) {
  int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (int64_t i = 0; i < whole_rows; i += 4)
    for (int64_t j = 0; j < whole_columns; j += 4)
      transpose_four(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; j++) to[j * to_stride + i] = from[i * from_stride + j];
}

template <class R> R dot(const R* a, const R* b, int64_t count) {
  R sum = 0;
  SIMD_SUM(sum) for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
  return sum;
}
}  // namespace
