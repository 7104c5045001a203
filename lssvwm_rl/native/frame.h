// The parts of a layer for one frame of one row, between the matrix products: scan of a block, attention, norms.
#pragma once
#include "gemm.h"

namespace {  // other kernels have types of the same names

struct Sizes {
  int64_t threads, rows, steps, commit, layers, grid_h, grid_w, width, patch_h, patch_w, channels, noise, table_rows;
  int64_t heads, head_size, state_size, attention_heads, attention_size, window, hidden;
  int64_t per_token, head_width, features, given, bins;  // `given` are read beside the model, behind its own
  int64_t frame_h, frame_w;                              // of an image; what the grid has beside it is padding
  int64_t tokens() const { return grid_h * grid_w; }
  int64_t inner() const { return heads * head_size; }
  int64_t projection() const { return 2 * inner() + 2 * state_size + heads; }
  bool padded() const { return frame_h < grid_h * patch_h || frame_w < grid_w * patch_w; }
  int64_t pixels() const { return patch_h * patch_w * channels; }
  int64_t past() const { return (window - 1) * tokens(); }
  int64_t parts() const { return 1 + (heads > 0) + (attention_heads > 0); }
};
constexpr int64_t SIZES = 27;  // numbers of a Sizes; the sides (b_h, b_w) of every layer's blocks follow

template <class R> struct Layer {
  const R *dt_bias, *decay, *b_norm, *c_norm, *y_norm, *skip;             // of the scan; `decay` is A < 0
  const R *q_norm, *k_norm, *bias;                                        // of attention; bias (heads, keys, queries up to a multiple of 64)
  const R *up_bias, *down_bias;                                           // of the MLP
  const R *place;                                                         // (rows, N) added to B and C, or null
  const R *state, *keys, *values;                                         // memory before the frame
  R *new_state, *new_keys, *new_values;                                   // and after it
};

// A layer whose weights are panels of elements E.
template <class R, class E> struct Packed {
  const E *in, *out, *qkv, *attention_out, *up, *down;
  Layer<R> rest;
};

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
    const int64_t lanes = padded<R>(K);
    return 2 * K * s.state_size + 2 * s.heads * K + K + K * K + lanes * (s.inner() + s.state_size);
  }
  BlockScratch(const Sizes& s, int64_t K, R* at) {
    const int64_t lanes = padded<R>(K);
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
    SIMD for (int64_t h = 0; h < H; h++) w.step[h * K + t] = softplus(from[2 * N + h] + l.dt_bias[h]);
    for (int64_t h = 0; h < H; h++)
      w.total[h * K + t] = w.step[h * K + t] * l.decay[h] + (t ? w.total[h * K + t - 1] : R(0));
    for (int64_t u = 0; u <= t; u++) {
      R sum = 0;
      const R *c = w.C + t * N, *b = w.B + u * N;
      SIMD_SUM(sum) for (int64_t i = 0; i < N; i++) sum += c[i] * b[i];
      w.pairs[t * K + u] = sum;
    }
  }
}

// What every token reads of the state before the frame, without decay: numbers [begin, end) of (K, H * P), with strides
// in `carried`.
template <class R, int FIXED>
static void read_state(const Sizes& s, const R* state, int64_t K, int64_t begin, int64_t end, const BlockScratch<R>& w,
                       int64_t* by_token, int64_t* by_number) {
  const int64_t N = FIXED ? FIXED : s.state_size, I = s.inner();
  if (K < LANES<R> / 2) {
    for (int64_t t = 0; t < K; t++) {
      const R* c = w.C + t * N;
      for (int64_t i = begin; i < end; i++) {
        R sum = 0;
        const R* h = state + i * N;
        SIMD_SUM(sum) for (int64_t n = 0; n < N; n++) sum += h[n] * c[n];
        w.carried[t * I + i] = sum;
      }
    }
    *by_token = I, *by_number = 1;
    return;
  }
  const int64_t lanes = padded<R>(K);  // many tokens: a product with tokens side by side
  for (int64_t n = 0; n < N; n++)
    for (int64_t t = 0; t < lanes; t++) w.transposed[n * lanes + t] = t < K ? w.C[t * N + n] : R(0);
  multiply<R>(end - begin, lanes, N, {state + begin * N, N, 1}, w.transposed, lanes, {w.carried + begin * lanes, lanes});
  *by_token = 1, *by_number = lanes;
}

// Scan of heads [first, last) of one block over one frame: y (tokens, H * P), gated; the state after it if it is to be
// written.
template <class R, int FIXED>
static void scan_block(const Sizes& s, const Layer<R>& l, const R* projection, const int64_t* token, int64_t K,
                       int64_t first, int64_t last, const R* state, R* new_state, const R* place, R* y, const BlockScratch<R>& w) {
  const int64_t P = FIXED ? FIXED : s.head_size, N = FIXED ? FIXED : s.state_size, I = s.inner(), W = s.projection();
  scan_inputs(s, l, projection, token, K, place, w);
  int64_t by_token, by_number;
  read_state<R, FIXED>(s, state, K, first * P, last * P, w, &by_token, &by_number);
  for (int64_t h = first; h < last; h++) {
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
  static constexpr int64_t WIDTH = panel_columns<R>();  // queries side by side
  R *keys;     // (tokens, size) of the own frame, normalised
  R *queries;  // (size, WIDTH), transposed and scaled
  R *scores;   // (keys, WIDTH)
  static int64_t size(const Sizes& s) {
    return s.tokens() * s.attention_size + WIDTH * (s.attention_size + s.past() + s.tokens());
  }
  HeadScratch(const Sizes& s, R* at)
      : keys(at), queries(keys + s.tokens() * s.attention_size), scores(queries + WIDTH * s.attention_size) {}
};

// exp(scores + bias - their maximum), over keys, of L queries side by side; returns the sums in `sum`.
template <class R, int L>
static void softmax_keys(int64_t keys, R* scores, const R* bias, int64_t bias_row, R* sum) {
  constexpr int64_t WIDTH = HeadScratch<R>::WIDTH;
  R most[L];
  for (int q = 0; q < L; q++) most[q] = R(-1e30), sum[q] = 0;
  for (int64_t j = 0; j < keys; j++) {
    R* row = scores + j * WIDTH;
    SIMD for (int q = 0; q < L; q++) {
      row[q] += bias[j * bias_row + q];
      most[q] = row[q] > most[q] ? row[q] : most[q];
    }
  }
  for (int64_t j = 0; j < keys; j++) {
    R* row = scores + j * WIDTH;
    SIMD for (int q = 0; q < L; q++) {
      row[q] = exp_(row[q] - most[q]);
      sum[q] += row[q];
    }
  }
}

// What a head attends to: its part of queries, keys and values of the own frame, and of the cache.
template <class R> struct Head {
  const R *q, *k, *v;         // token t at t * 3 D
  const R *keys, *values;     // key j at j * D, the first `hidden` left out
  const R *q_norm, *bias;     // bias (keys, bias_row)
  int64_t old, bias_row;      // keys of the cache
};

// `count` queries from `first` on, at most V * LANES.
template <class R, int V>
static void attend_queries(const Sizes& s, const Head<R>& h, int64_t first, int64_t count, R* y,
                           const HeadScratch<R>& w) {
  constexpr int L = V * LANES<R>;
  constexpr int64_t WIDTH = HeadScratch<R>::WIDTH;
  const int64_t n = s.tokens(), D = s.width, P = s.attention_size;
  for (int64_t t = 0; t < L; t++) {
    const R* q = h.q + (first + t) * 3 * D;
    const R scale = t < count ? inverse_rms(q, P) / std::sqrt(R(P)) : R(0);
    for (int64_t p = 0; p < P; p++) w.queries[p * WIDTH + t] = t < count ? q[p] * scale * h.q_norm[p] : R(0);
  }
  R sum[L];
  panel<R, VECTOR_BYTES, V>(h.old, P, {h.keys, D, 1}, w.queries, WIDTH, {w.scores, WIDTH});
  panel<R, VECTOR_BYTES, V>(n, P, {w.keys, P, 1}, w.queries, WIDTH, {w.scores + h.old * WIDTH, WIDTH});
  softmax_keys<R, L>(h.old + n, w.scores, h.bias + first, h.bias_row, sum);
  multiply<R>(count, P, h.old, {w.scores, 1, WIDTH}, h.values, D, {y + first * D, D});
  multiply<R>(count, P, n, {w.scores + h.old * WIDTH, 1, WIDTH}, h.v, 3 * D, {y + first * D, D, 1});
  for (int64_t t = 0; t < count; t++) {
    const R inverse = R(1) / sum[t];
    R* out = y + (first + t) * D;
    SIMD for (int64_t p = 0; p < P; p++) out[p] *= inverse;
  }
}

// Attention in head a of one frame of one row, to itself and to the frames in the cache but for the first `hidden` keys:
// part `part` of `parts` of the queries. The first part writes the cache.
template <class R>
static void attend(const Sizes& s, const Layer<R>& l, const R* qkv, int64_t row, int64_t a, int64_t part, int64_t parts,
                   int64_t hidden, bool write, R* y, const HeadScratch<R>& w) {
  constexpr int64_t WIDTH = HeadScratch<R>::WIDTH;
  const int64_t n = s.tokens(), D = s.width, P = s.attention_size, past = s.past(), bias_row = (n + 63) / 64 * 64;
  const int64_t cache = row * past * D + a * P;
  const R *keys = l.keys + cache, *values = l.values + cache, *q = qkv + a * P, *k = q + D, *v = k + D;
  for (int64_t t = 0; t < n; t++) {
    const R inverse = inverse_rms(k + t * 3 * D, P);
    SIMD for (int64_t p = 0; p < P; p++) w.keys[t * P + p] = k[t * 3 * D + p] * inverse * l.k_norm[p];
  }
  const Head<R> head{q, k, v, keys + hidden * D, values + hidden * D, l.q_norm,
                     l.bias + (a * (past + n) + hidden) * bias_row, past - hidden, bias_row};
  const int64_t groups = (n + WIDTH - 1) / WIDTH;
  for (int64_t group = part * groups / parts; group < (part + 1) * groups / parts; group++) {
    const int64_t first = group * WIDTH, count = n - first < WIDTH ? n - first : WIDTH;
    if (count <= LANES<R>)
      attend_queries<R, 1>(s, head, first, count, y + a * P, w);
    else
      attend_queries<R, VECTORS>(s, head, first, count, y + a * P, w);
  }
  if (!write || !past || part) return;
  R *new_keys = l.new_keys + cache, *new_values = l.new_values + cache;
  for (int64_t t = 0; t < past; t++) {
    const int64_t own = t - (past - n);  // its number in the frame, if it is of the new one
    std::memcpy(new_keys + t * D, own < 0 ? keys + (t + n) * D : w.keys + own * P, sizeof(R) * P);
    std::memcpy(new_values + t * D, own < 0 ? values + (t + n) * D : v + own * 3 * D, sizeof(R) * P);
  }
}
}  // namespace
