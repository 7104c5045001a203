// The parts of a layer for one frame of one row, between the matrix products: scan of a block, attention, norms.
#pragma once
#include "gemm.h"

struct Sizes {
  int64_t threads, rows, steps, commit, layers, grid_h, grid_w, width, patch_h, patch_w, channels, noise, table_rows;
  int64_t heads, head_size, state_size, attention_heads, attention_size, window, hidden;
  int64_t per_token, head_width, features, bins;
  int64_t tokens() const { return grid_h * grid_w; }
  int64_t inner() const { return heads * head_size; }
  int64_t projection() const { return 2 * inner() + 2 * state_size + heads; }
  int64_t pixels() const { return patch_h * patch_w * channels; }
  int64_t past() const { return (window - 1) * tokens(); }
  int64_t parts() const { return 1 + (heads > 0) + (attention_heads > 0); }
};
constexpr int64_t SIZES = 24;  // numbers of a Sizes; the sides (b_h, b_w) of every layer's blocks follow

template <class R> struct Layer {
  const R *in, *out, *dt_bias, *decay, *b_norm, *c_norm, *y_norm, *skip;  // of the scan; `decay` is A < 0
  const R *qkv, *attention_out, *q_norm, *k_norm, *bias;                  // of attention; bias (heads, keys, queries)
  const R *up, *up_bias, *down, *down_bias;                               // of the MLP
  const R *place;                                                         // (rows, N) added to B and C, or null
  const R *state, *keys, *values;                                         // memory before the frame
  R *new_state, *new_keys, *new_values;                                   // and after it
};
constexpr int64_t LAYER_POINTERS = sizeof(Layer<float>) / sizeof(void*);

// LN(x) * scale + shift.
template <class R> INLINE void ada_norm(const R* x, const R* shift, const R* scale, int64_t D, R* out) {
  R sum = 0, squares = 0;
  SIMD_SUM(sum) for (int64_t i = 0; i < D; i++) sum += x[i];
  const R mean = sum / R(D);
  SIMD_SUM(squares) for (int64_t i = 0; i < D; i++) squares += (x[i] - mean) * (x[i] - mean);
  const R inverse = R(1) / std::sqrt(squares / R(D) + R(1e-6));
  SIMD for (int64_t i = 0; i < D; i++) out[i] = (x[i] - mean) * inverse * scale[i] + shift[i];
}

// Scratch of the scan of one block with K tokens.
template <class R> struct BlockScratch {
  R *B, *C;         // (K, N) normalised
  R *step, *total;  // (H, K): dt, and the log of the decay up to and with each token
  R *weight;        // (K)
  R *pairs;         // (K, K): C_t . B_s
  R *carried;       // (K, H * P), or (H * P, lanes) while it is computed
  R *transposed;    // (N, lanes)
  static int64_t size(const Sizes& s, int64_t K) {
    const int64_t lanes = (K + Simd<R>::LANES - 1) / Simd<R>::LANES * Simd<R>::LANES;
    return 2 * K * s.state_size + 2 * s.heads * K + K + K * K + lanes * (s.inner() + s.state_size);
  }
  BlockScratch(const Sizes& s, int64_t K, R* at) {
    const int64_t lanes = (K + Simd<R>::LANES - 1) / Simd<R>::LANES * Simd<R>::LANES;
    auto take = [&](int64_t count) { R* taken = at; at += count; return taken; };
    B = take(K * s.state_size), C = take(K * s.state_size);
    step = take(s.heads * K), total = take(s.heads * K), weight = take(K), pairs = take(K * K);
    carried = take(lanes * s.inner()), transposed = take(lanes * s.state_size);
  }
};

// B, C, dt and decays of a block's tokens, whose rows in the projection are `token`.
template <class R>
static void scan_inputs(const Sizes& s, const Layer<R>& l, const R* projection, const int64_t* token, int64_t K,
                        const R* place, const BlockScratch<R>& w) {
  const int64_t N = s.state_size, H = s.heads, W = s.projection();
  for (int64_t t = 0; t < K; t++) {
    const R* from = projection + token[t] * W + 2 * s.inner();
    for (int part = 0; part < 2; part++) {
      R* to = (part ? w.C : w.B) + t * N;
      const R *raw = from + part * N, *gain = part ? l.c_norm : l.b_norm;
      if (place) {
        SIMD for (int64_t i = 0; i < N; i++) to[i] = raw[i] + place[i];
      } else {
        std::memcpy(to, raw, sizeof(R) * N);
      }
      const R inverse = inverse_rms(to, N);
      SIMD for (int64_t i = 0; i < N; i++) to[i] *= inverse * gain[i];
    }
    for (int64_t h = 0; h < H; h++) {
      const R dt = softplus(from[2 * N + h] + l.dt_bias[h]);
      w.step[h * K + t] = dt;
      w.total[h * K + t] = dt * l.decay[h] + (t ? w.total[h * K + t - 1] : R(0));
    }
    for (int64_t u = 0; u <= t; u++) {
      R sum = 0;
      const R *c = w.C + t * N, *b = w.B + u * N;
      SIMD_SUM(sum) for (int64_t i = 0; i < N; i++) sum += c[i] * b[i];
      w.pairs[t * K + u] = sum;
    }
  }
}

// What every token reads of the state before the frame, without decay: (K, H * P) with strides in `carried`.
template <class R, int FIXED>
static void read_state(const Sizes& s, const R* state, int64_t K, const BlockScratch<R>& w, int64_t* by_token,
                       int64_t* by_number) {
  constexpr int LANES = Simd<R>::LANES;
  const int64_t N = FIXED ? FIXED : s.state_size, I = s.inner();
  if (K < LANES / 2) {
    for (int64_t t = 0; t < K; t++) {
      const R* c = w.C + t * N;
      for (int64_t i = 0; i < I; i++) {
        R sum = 0;
        const R* h = state + i * N;
        SIMD_SUM(sum) for (int64_t n = 0; n < N; n++) sum += h[n] * c[n];
        w.carried[t * I + i] = sum;
      }
    }
    *by_token = I, *by_number = 1;
    return;
  }
  const int64_t lanes = (K + LANES - 1) / LANES * LANES;  // many tokens: a product with tokens side by side
  for (int64_t n = 0; n < N; n++)
    for (int64_t t = 0; t < lanes; t++) w.transposed[n * lanes + t] = t < K ? w.C[t * N + n] : R(0);
  multiply<R>(I, {state, N, 1}, w.transposed, lanes, N, w.carried, lanes, lanes, false);
  *by_token = 1, *by_number = lanes;
}

// Scan of one block over one frame: y (tokens, H * P), gated; the state after it if it is to be written.
template <class R, int FIXED>
static void scan_block(const Sizes& s, const Layer<R>& l, const R* projection, const int64_t* token, int64_t K,
                       const R* state, R* new_state, const R* place, R* y, const BlockScratch<R>& w) {
  const int64_t P = FIXED ? FIXED : s.head_size, N = FIXED ? FIXED : s.state_size, I = s.inner(), W = s.projection();
  scan_inputs(s, l, projection, token, K, place, w);
  int64_t by_token, by_number;
  read_state<R, FIXED>(s, state, K, w, &by_token, &by_number);
  for (int64_t h = 0; h < s.heads; h++) {
    const R *step = w.step + h * K, *total = w.total + h * K;
    for (int64_t t = 0; t < K; t++) {
      R* out = y + token[t] * I + h * P;
      const R decay = exp_(total[t]), *carried = w.carried + t * by_token + h * P * by_number;
      for (int64_t p = 0; p < P; p++) out[p] = decay * carried[p * by_number];
      SIMD for (int64_t u = 0; u <= t; u++) w.weight[u] = exp_(total[t] - total[u]) * step[u] * w.pairs[t * K + u];
      for (int64_t u = 0; u <= t; u++) {
        const R weight = w.weight[u], *x = projection + token[u] * W + I + h * P;
        SIMD for (int64_t p = 0; p < P; p++) out[p] += weight * x[p];
      }
      const R inverse = inverse_rms(out, P), skip = l.skip[h];
      const R *gate = projection + token[t] * W + h * P, *x = gate + I, *gain = l.y_norm + h * P;
      SIMD for (int64_t p = 0; p < P; p++)
        out[p] = (out[p] * inverse * gain[p] + skip * x[p]) * (gate[p] * sigmoid(gate[p]));
    }
    if (!new_state) continue;
    const R kept = exp_(total[K - 1]);
    for (int64_t u = 0; u < K; u++) w.weight[u] = step[u] * exp_(total[K - 1] - total[u]);
    for (int64_t p = 0; p < P; p++) {
      const R* from = state + (h * P + p) * N;
      R* to = new_state + (h * P + p) * N;
      SIMD for (int64_t n = 0; n < N; n++) to[n] = kept * from[n];
      for (int64_t u = 0; u < K; u++) {
        const R written = w.weight[u] * projection[token[u] * W + I + h * P + p], *b = w.B + u * N;
        SIMD for (int64_t n = 0; n < N; n++) to[n] += written * b[n];
      }
    }
  }
}

// Scratch of attention in one head.
template <class R> struct HeadScratch {
  R *keys;        // (tokens, size) of the own frame, normalised
  R *queries;     // (size, lanes), transposed and scaled
  R *scores;      // (keys, lanes)
  R *most, *sum;  // (lanes)
  static int64_t lanes(const Sizes& s) {
    return (s.tokens() + Simd<R>::LANES - 1) / Simd<R>::LANES * Simd<R>::LANES;
  }
  static int64_t size(const Sizes& s) {
    return s.tokens() * s.attention_size + lanes(s) * (s.attention_size + s.past() + s.tokens() + 2);
  }
  HeadScratch(const Sizes& s, R* at) {
    auto take = [&](int64_t count) { R* taken = at; at += count; return taken; };
    keys = take(s.tokens() * s.attention_size), queries = take(lanes(s) * s.attention_size);
    scores = take(lanes(s) * (s.past() + s.tokens())), most = take(lanes(s)), sum = take(lanes(s));
  }
};

template <class R> static void softmax_keys(int64_t keys, int64_t lanes, int64_t n, R* scores, const R* bias, R* most, R* sum) {
  SIMD for (int64_t q = 0; q < n; q++) most[q] = R(-1e30), sum[q] = 0;
  for (int64_t j = 0; j < keys; j++) {
    R* row = scores + j * lanes;
    SIMD for (int64_t q = 0; q < n; q++) {
      row[q] += bias[j * n + q];
      most[q] = row[q] > most[q] ? row[q] : most[q];
    }
  }
  for (int64_t j = 0; j < keys; j++) {
    R* row = scores + j * lanes;
    SIMD for (int64_t q = 0; q < n; q++) {
      row[q] = exp_(row[q] - most[q]);
      sum[q] += row[q];
    }
  }
}

// Attention in head a of one frame of one row, to itself and to the frames in the cache but for the first `hidden` keys.
template <class R>
static void attend(const Sizes& s, const Layer<R>& l, const R* qkv, int64_t row, int64_t a, int64_t hidden, bool write,
                   R* y, const HeadScratch<R>& w) {
  const int64_t n = s.tokens(), D = s.width, P = s.attention_size, past = s.past(), lanes = HeadScratch<R>::lanes(s);
  const int64_t cache = row * past * D + a * P, old = past - hidden;
  const R *keys = l.keys + cache, *values = l.values + cache, *q = qkv + a * P, *k = q + D, *v = k + D;
  for (int64_t t = 0; t < n; t++) {
    const R own = inverse_rms(k + t * 3 * D, P), scale = inverse_rms(q + t * 3 * D, P) / std::sqrt(R(P));
    SIMD for (int64_t p = 0; p < P; p++) w.keys[t * P + p] = k[t * 3 * D + p] * own * l.k_norm[p];
    for (int64_t p = 0; p < P; p++) w.queries[p * lanes + t] = q[t * 3 * D + p] * scale * l.q_norm[p];
  }
  for (int64_t p = 0; p < P; p++)
    for (int64_t t = n; t < lanes; t++) w.queries[p * lanes + t] = R(0);
  multiply<R>(old, {keys + hidden * D, D, 1}, w.queries, lanes, P, w.scores, lanes, lanes, false);
  multiply<R>(n, {w.keys, P, 1}, w.queries, lanes, P, w.scores + old * lanes, lanes, lanes, false);
  softmax_keys(old + n, lanes, n, w.scores, l.bias + (a * (past + n) + hidden) * n, w.most, w.sum);
  multiply<R>(n, {w.scores, 1, lanes}, values + hidden * D, D, old, y + a * P, D, P, false);
  multiply<R>(n, {w.scores + old * lanes, 1, lanes}, v, 3 * D, n, y + a * P, D, P, true);
  for (int64_t t = 0; t < n; t++) {
    const R inverse = R(1) / w.sum[t];
    SIMD for (int64_t p = 0; p < P; p++) y[t * D + a * P + p] *= inverse;
  }
  if (!write || !past) return;
  R *new_keys = l.new_keys + cache, *new_values = l.new_values + cache;
  for (int64_t t = 0; t < past; t++) {
    const int64_t own = t - (past - n);  // its number in the frame, if it is of the new one
    std::memcpy(new_keys + t * D, own < 0 ? keys + (t + n) * D : w.keys + own * P, sizeof(R) * P);
    std::memcpy(new_values + t * D, own < 0 ? values + (t + n) * D : v + own * 3 * D, sizeof(R) * P);
  }
}
