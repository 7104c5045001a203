// Matrix products whose right side is packed once: C (M x N) = A (M x K) times weights, in panels of a few columns.
//
// A tile of ROWS x (VECTORS * LANES) sums stays in registers while k runs, so every weight is read once per tile. Each
// element is summed over k in order, by one multiply-add per step: what a row gives depends neither on the rows beside
// it nor on the number of threads.
#pragma once
#include "team.h"

namespace {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, ROWS = 12;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32, ROWS = 6;
#else
constexpr int VECTOR_BYTES = 16, ROWS = 6;
#endif
constexpr int VECTORS = 2;

template <class R> struct Simd {
  typedef R Vector __attribute__((vector_size(VECTOR_BYTES), aligned(alignof(R)), may_alias));
  static constexpr int LANES = VECTOR_BYTES / sizeof(R);
};

// Where a tile finds its left side: element (m, k) is at a[m * row + k * step].
template <class R> struct Left {
  const R* a;
  int64_t row, step;
};

// C (m x V * LANES) = or += left times b, whose row k is at b + k * ldb; `columns` of them are stored.
template <class R, int M, int V>
static inline void tile(Left<R> left, const R* b, int64_t ldb, int64_t K, R* c, int64_t ldc, int columns, bool add) {
  using Vector = typename Simd<R>::Vector;
  constexpr int LANES = Simd<R>::LANES;
  Vector sum[M][V];
  for (int m = 0; m < M; m++)
    for (int v = 0; v < V; v++) sum[m][v] = Vector{} + R(0);
  for (int64_t k = 0; k < K; k++) {
    Vector right[V];
    for (int v = 0; v < V; v++) right[v] = *(const Vector*)(b + k * ldb + v * LANES);
    for (int m = 0; m < M; m++) {
      const R x = left.a[m * left.row + k * left.step];
      for (int v = 0; v < V; v++) sum[m][v] += x * right[v];
    }
  }
  for (int m = 0; m < M; m++) {
    if (columns == V * LANES) {
      for (int v = 0; v < V; v++) {
        Vector* to = (Vector*)(c + m * ldc + v * LANES);
        *to = add ? *to + sum[m][v] : sum[m][v];
      }
    } else {
      const R* from = (const R*)sum[m];
      for (int i = 0; i < columns; i++) c[m * ldc + i] = add ? c[m * ldc + i] + from[i] : from[i];
    }
  }
}

template <class R, int V>
static void tile_rows(int rows, Left<R> left, const R* b, int64_t ldb, int64_t K, R* c, int64_t ldc, int columns,
                      bool add) {
  switch (rows) {
    case 1: return tile<R, 1, V>(left, b, ldb, K, c, ldc, columns, add);
    case 2: return tile<R, 2, V>(left, b, ldb, K, c, ldc, columns, add);
    case 3: return tile<R, 3, V>(left, b, ldb, K, c, ldc, columns, add);
    case 4: return tile<R, 4, V>(left, b, ldb, K, c, ldc, columns, add);
    case 5: return tile<R, 5, V>(left, b, ldb, K, c, ldc, columns, add);
    case 6: return tile<R, 6, V>(left, b, ldb, K, c, ldc, columns, add);
#if defined(__AVX512F__)
    case 7: return tile<R, 7, V>(left, b, ldb, K, c, ldc, columns, add);
    case 8: return tile<R, 8, V>(left, b, ldb, K, c, ldc, columns, add);
    case 9: return tile<R, 9, V>(left, b, ldb, K, c, ldc, columns, add);
    case 10: return tile<R, 10, V>(left, b, ldb, K, c, ldc, columns, add);
    case 11: return tile<R, 11, V>(left, b, ldb, K, c, ldc, columns, add);
    case 12: return tile<R, 12, V>(left, b, ldb, K, c, ldc, columns, add);
#endif
  }
}

// Rows [0, M) in tiles, for V * LANES columns of the right side.
template <class R, int V>
static void panel(int64_t M, Left<R> left, const R* b, int64_t ldb, int64_t K, R* c, int64_t ldc, int columns,
                  bool add) {
  for (int64_t m = 0; m < M; m += ROWS) {
    int rows = M - m < ROWS ? (int)(M - m) : ROWS;
    tile_rows<R, V>(rows, {left.a + m * left.row, left.row, left.step}, b, ldb, K, c + m * ldc, ldc, columns, add);
  }
}

template <class R> constexpr int panel_columns() { return VECTORS * Simd<R>::LANES; }

// Weights (N, K) of a linear layer, as panels: K rows of `panel_columns` numbers each, zeros behind the last column.
template <class R> static void pack_panels(const R* weights, int64_t N, int64_t K, R* panels) {
  constexpr int W = panel_columns<R>();
  for (int64_t n = 0; n < N; n += W)
    for (int64_t k = 0; k < K; k++)
      for (int64_t i = 0; i < W; i++) *panels++ = n + i < N ? weights[(n + i) * K + k] : R(0);
}

enum class Then { nothing, gelu, silu };

// C (M x N) = f(A (M x K) weights^T + bias), with packed weights; a null bias is none. The members of a team share the
// columns.
template <class R>
static void linear(const Team& team, int64_t M, int64_t N, int64_t K, const R* a, int64_t lda, const R* panels,
                   const R* bias, R* c, int64_t ldc, Then then = Then::nothing) {
  constexpr int64_t W = panel_columns<R>();
  const int64_t count = (N + W - 1) / W;
  for (int64_t i = team.begin(count); i < team.end(count); i++) {
    const int64_t n = i * W, columns = N - n < W ? N - n : W;
    panel<R, VECTORS>(M, {a, lda, 1}, panels + n * K, W, K, c + n, ldc, (int)columns, false);
    for (int64_t m = 0; m < M; m++) {
      R* out = c + m * ldc + n;
      if (bias) SIMD for (int64_t j = 0; j < columns; j++) out[j] += bias[n + j];
      if (then == Then::gelu) SIMD for (int64_t j = 0; j < columns; j++) out[j] = gelu(out[j]);
      if (then == Then::silu) SIMD for (int64_t j = 0; j < columns; j++) out[j] *= sigmoid(out[j]);
    }
  }
}

// C (M x N) = or += left times b (K x N), which is not packed: its rows are N numbers and nothing may be read behind.
template <class R>
static void multiply(int64_t M, Left<R> left, const R* b, int64_t ldb, int64_t K, R* c, int64_t ldc, int64_t N,
                     bool add) {
  constexpr int LANES = Simd<R>::LANES;
  int64_t n = 0;
  for (; n + 2 * LANES <= N; n += 2 * LANES) panel<R, 2>(M, left, b + n, ldb, K, c + n, ldc, 2 * LANES, add);
  for (; n + LANES <= N; n += LANES) panel<R, 1>(M, left, b + n, ldb, K, c + n, ldc, LANES, add);
  for (int64_t m = 0; n < N && m < M; m++)
    for (int64_t i = n; i < N; i++) {
      R sum = add ? c[m * ldc + i] : R(0);
      for (int64_t k = 0; k < K; k++) sum += left.a[m * left.row + k * left.step] * b[k * ldb + i];
      c[m * ldc + i] = sum;
    }
}
}  // namespace
