// Products of small matrices that lie in a core's cache.
#pragma once
#include "simd.h"

// C[R, W] += A B, the sums in registers; A[r * row + k * column], B[k * ldb + w], C[r * ldc + w].
template <int R, int W, class V>
INLINE void product_tile(int64_t depth, const V* a, int64_t row, int64_t column, const V* b, int64_t ldb, V* c,
                         int64_t ldc) {
  V sum[R][W];
  for (int r = 0; r < R; r++)
    for (int w = 0; w < W; w++) sum[r][w] = 0;
  for (int64_t k = 0; k < depth; k++)
    for (int r = 0; r < R; r++) {
      const V x = a[r * row + k * column];
      SIMD for (int w = 0; w < W; w++) sum[r][w] += x * b[k * ldb + w];
    }
  for (int r = 0; r < R; r++) SIMD for (int w = 0; w < W; w++) c[r * ldc + w] += sum[r][w];
}

template <int R, class V>
INLINE void product_rows(int64_t columns, int64_t depth, const V* a, int64_t row, int64_t column, const V* b,
                         int64_t ldb, V* c, int64_t ldc) {
  constexpr int W = 64 / sizeof(V);  // bytes of a cache line
  int64_t j = 0;
  for (; j + W <= columns; j += W) product_tile<R, W>(depth, a, row, column, b + j, ldb, c + j, ldc);
  for (; j + W / 2 <= columns; j += W / 2) product_tile<R, W / 2>(depth, a, row, column, b + j, ldb, c + j, ldc);
  for (; j + W / 4 <= columns; j += W / 4) product_tile<R, W / 4>(depth, a, row, column, b + j, ldb, c + j, ldc);
  for (; j < columns; j++) product_tile<R, 1>(depth, a, row, column, b + j, ldb, c + j, ldc);
}

// C (rows, columns) += A (rows, depth) B (depth, columns); A may be transposed, by its strides. Not inlined, which would
// take the compiler long.
template <class V>
__attribute__((noinline)) void product(int64_t rows, int64_t columns, int64_t depth, const V* a, int64_t row, int64_t column, const V* b,
             int64_t ldb, V* c, int64_t ldc) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) product_rows<4>(columns, depth, a + i * row, row, column, b, ldb, c + i * ldc, ldc);
  for (; i < rows; i++) product_rows<1>(columns, depth, a + i * row, row, column, b, ldb, c + i * ldc, ldc);
}
