// Products with the weights of a layer, which are packed once into panels of a few columns: C (M x N) = A (M x K)
// times weights. Every weight is read once per tile.
//
// Elements E of A and of panels are numbers R, or pairs of numbers in bf16, of which there are half as many along K:
// their products are exact and summed in fp32, and processors that have units for them compute two at a time.
#pragma once
#include "team.h"
#include "tile.h"

namespace {

template <class E> constexpr int panel_columns() { return VECTORS * Simd<E>::LANES; }

// Weights (N, K) of a linear layer, as panels: K rows of `panel_columns` elements each, zeros behind the last column.
template <class E> void pack_panels(const E* weights, int64_t N, int64_t K, E* panels) {
  constexpr int W = panel_columns<E>();
  for (int64_t n = 0; n < N; n += W)
    for (int64_t k = 0; k < K; k++)
      for (int64_t i = 0; i < W; i++) *panels++ = n + i < N ? weights[(n + i) * K + k] : E(0);
}

INLINE int64_t pair_count(int64_t K) { return (K + 1) / 2; }
INLINE Pair pair(float first, float second) {
  bf16 rounded[2];
  store(rounded, first), store(rounded + 1, second);
  return rounded[0].bits | (Pair)rounded[1].bits << 16;
}

// Rows of K numbers as pairs; the last number of an odd K is paired with zero.
inline void round_rows(int64_t rows, int64_t K, const float* from, Pair* to) {
  for (int64_t i = 0; i < rows; i++, from += K, to += pair_count(K)) {
    SIMD for (int64_t k = 0; k < K / 2; k++) to[k] = pair(from[2 * k], from[2 * k + 1]);
    if (K % 2) to[K / 2] = pair(from[K - 1], 0);
  }
}

// The panel that is not full: what its zeros give is not stored.
template <class R, class E>
void last_panel(int64_t M, int64_t K, const E* a, const E* last, R* c, int64_t ldc, int64_t columns, R beta) {
  constexpr int64_t W = panel_columns<E>();
  R whole[ROWS * W];
  for (int64_t m = 0; m < M; m += ROWS) {
    const int64_t rows = std::min<int64_t>(M - m, ROWS);
    panel<R, VECTOR_BYTES, VECTORS>(rows, K, {a + m * K, K, 1}, last, W, {whole, W});
    for (int64_t i = 0; i < rows; i++) {
      R* to = c + (m + i) * ldc;
      for (int64_t j = 0; j < columns; j++) to[j] = beta != 0 ? beta * to[j] + whole[i * W + j] : whole[i * W + j];
    }
  }
}

enum class Then { nothing, gelu, silu };

// C (M x N) = f(beta C + A (M x K) weights^T + bias), with packed weights; a null bias is none. The members of a team
// share the columns.
template <class R, class E>
void linear(const Team& team, int64_t M, int64_t N, int64_t K, const E* a, const E* panels, const R* bias, R* c,
            Then then = Then::nothing, R beta = 0) {
  constexpr int64_t W = panel_columns<E>();
  const int64_t count = (N + W - 1) / W;
  for (int64_t i = team.begin(count); i < team.end(count); i++) {
    const int64_t n = i * W, columns = N - n < W ? N - n : W;
    if (columns == W)
      panel<R, VECTOR_BYTES, VECTORS>(M, K, {a, K, 1}, panels + n * K, W, {c + n, N, beta});
    else
      last_panel<R>(M, K, a, panels + n * K, c + n, N, columns, beta);
    for (int64_t m = 0; m < M; m++) {
      R* out = c + m * N + n;
      if (bias) SIMD for (int64_t j = 0; j < columns; j++) out[j] += bias[n + j];
      if (then == Then::gelu) SIMD for (int64_t j = 0; j < columns; j++) out[j] = gelu(out[j]);
      if (then == Then::silu) SIMD for (int64_t j = 0; j < columns; j++) out[j] *= sigmoid(out[j]);
    }
  }
}
}  // namespace
