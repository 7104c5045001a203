// Products with the weights of a layer, which are packed once into panels of a few columns: C (M x N) = A (M x K)
// times weights. Every weight is read once per tile.
#pragma once
#include "team.h"
#include "tile.h"

namespace {

template <class R> constexpr int panel_columns() { return VECTORS * Simd<R>::LANES; }

// Weights (N, K) of a linear layer, as panels: K rows of `panel_columns` numbers each, zeros behind the last column.
template <class R> void pack_panels(const R* weights, int64_t N, int64_t K, R* panels) {
  constexpr int W = panel_columns<R>();
  for (int64_t n = 0; n < N; n += W)
    for (int64_t k = 0; k < K; k++)
      for (int64_t i = 0; i < W; i++) *panels++ = n + i < N ? weights[(n + i) * K + k] : R(0);
}

// The panel that is not full: what its zeros give is not stored.
template <class R>
void last_panel(int64_t M, int64_t K, const R* a, int64_t lda, const R* last, R* c, int64_t ldc, int64_t columns) {
  constexpr int64_t W = panel_columns<R>();
  R whole[ROWS * W];
  for (int64_t m = 0; m < M; m += ROWS) {
    const int64_t rows = std::min<int64_t>(M - m, ROWS);
    panel<R, VECTOR_BYTES, VECTORS>(rows, K, {a + m * lda, lda, 1}, last, W, {whole, W});
    for (int64_t i = 0; i < rows; i++) std::copy_n(whole + i * W, columns, c + (m + i) * ldc);
  }
}

enum class Then { nothing, gelu, silu };

// C (M x N) = f(A (M x K) weights^T + bias), with packed weights; a null bias is none. The members of a team share the
// columns.
template <class R>
void linear(const Team& team, int64_t M, int64_t N, int64_t K, const R* a, int64_t lda, const R* panels,
                   const R* bias, R* c, int64_t ldc, Then then = Then::nothing) {
  constexpr int64_t W = panel_columns<R>();
  const int64_t count = (N + W - 1) / W;
  for (int64_t i = team.begin(count); i < team.end(count); i++) {
    const int64_t n = i * W, columns = N - n < W ? N - n : W;
    if (columns == W)
      panel<R, VECTOR_BYTES, VECTORS>(M, K, {a, lda, 1}, panels + n * K, W, {c + n, ldc});
    else
      last_panel<R>(M, K, a, lda, panels + n * K, c + n, ldc, columns);
    for (int64_t m = 0; m < M; m++) {
      R* out = c + m * ldc + n;
      if (bias) SIMD for (int64_t j = 0; j < columns; j++) out[j] += bias[n + j];
      if (then == Then::gelu) SIMD for (int64_t j = 0; j < columns; j++) out[j] = gelu(out[j]);
      if (then == Then::silu) SIMD for (int64_t j = 0; j < columns; j++) out[j] *= sigmoid(out[j]);
    }
  }
}
}  // namespace
