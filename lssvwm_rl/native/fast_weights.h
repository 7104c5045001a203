// What fast weights recall of a frame before it is there, and what they write of it: see model/fast_weights.py.
#pragma once
#include "frame.h"

namespace {

struct FastSizes {
  int64_t keys, N, P, vector;  // no keys are no fast weights; V
  int64_t actions, start;      // of a Discrete space, which begins at `start`; 0 of others
};

template <class R> struct FastNet {
  const R* settings;                      // NOISE, DRIFT, LIKE
  const R* angles;                        // (actions + 1, N / 2), the last of none; if not Discrete (rows, N / 2)
  const int64_t* action;                  // (rows), or null for other spaces
  const R* vector;                        // (rows, V)
  const R *from_frame, *from_vector;      // packed, as all weights: codes and vector to angles
  const R *encode, *encode_bias;          // pixels to P
  const R *read, *read_bias;              // keys (P + 1) to D
  const R *embed, *decode;                // P to D and to pixels
  const R *codes, *weights, *covariance;  // (rows, tokens P), (rows, keys, tokens P, N), (rows, keys, N, N)
  R *new_codes, *new_weights, *new_covariance;
};

// Scratch of one group of rows: what is expected of it, to be written when its frame is there.
template <class R> struct FastScratch {
  R *angles, *keys;             // (keys, rows, N / 2); (rows, keys, N)
  R *values, *crossed, *gain;   // (rows, keys, tokens P), W k and then v - W k; (rows, keys, N), P k; (rows, keys, N)
  R *known, *own, *mean;        // (rows, keys); (rows, tokens, keys (P + 1)); (rows, tokens, P)
  R* embedded;                  // (rows, tokens, D)
  std::vector<R> memory;
  FastScratch(const Sizes& frame, const FastSizes& s, int64_t group) {
    const int64_t all = group * s.keys, m = s.keys ? group * frame.tokens() : 0;
    const int64_t sizes[] = {all * s.N / 2, all * s.N, m * s.keys * s.P, all * s.N, all * s.N, all,
                             m * s.keys * (s.P + 1), m * s.P, m * frame.width};
    R** parts[] = {&angles, &keys, &values, &crossed, &gain, &known, &own, &mean, &embedded};
    int64_t total = 0;
    for (int64_t size : sizes) total += size + 16;
    memory.resize(total);
    R* at = memory.data();
    for (int i = 0; i < 9; i++) *parts[i] = at, at += sizes[i] + 16;
  }
};

template <class R> struct FastWeights {
  const Sizes& frame;
  FastSizes s;
  FastNet<R> net;

  FastWeights(const Sizes& frame, const int64_t* sizes, void* const* pointers) : frame(frame) {
    std::memcpy(&s, sizes, sizeof(s));
    std::memcpy(&net, pointers, sizeof(net));
  }

  int64_t codes() const { return frame.tokens() * s.P; }

  // What is recalled of the frames of rows from row0 on: in w.mean as codes, in w.embedded, if there are steps between
  // which it is added, as tokens of a picture, and in `tokens` (rows, tokens, D) what the network is told of it.
  void expect(const Team& team, int64_t row0, int64_t rows, const int64_t* frames, R* tokens,
              FastScratch<R>& w) const {
    const int64_t half = s.N / 2, m = rows * frame.tokens();
    linear(team, rows, half, codes(), net.codes + row0 * codes(), net.from_frame, (const R*)nullptr, w.angles);
    if (s.keys > 1)
      linear(team, rows, half, s.vector, net.vector + row0 * s.vector, net.from_vector, (const R*)nullptr,
             w.angles + rows * half);
    team.wait();
    for (int64_t r = team.begin(rows); r < team.end(rows); r++) make_keys(row0 + r, r, rows, frames[row0 + r] == 0, w);
    team.wait();
    over_lines(team, rows, [&](int64_t q, int64_t i) {
      const R* key = w.keys + q * s.N;
      const int64_t at = row0 * s.keys + q;
      if (i < codes())
        w.values[q * codes() + i] = dot(net.weights + (at * codes() + i) * s.N, key, s.N);
      else
        w.crossed[q * s.N + i - codes()] = dot(net.covariance + (at * s.N + i - codes()) * s.N, key, s.N);
    });
    team.wait();
    for (int64_t r = team.begin(rows); r < team.end(rows); r++) recall(r, w);
    team.wait();
    linear(team, m, frame.width, s.keys * (s.P + 1), w.own, net.read, net.read_bias, tokens);
    if (frame.steps > 1) linear(team, m, frame.width, s.P, w.mean, net.embed, (const R*)nullptr, w.embedded);
    team.wait();
  }

  // Add what is recalled, times a noise level, to patches (m, pixels); once, since that changes w.mean.
  void draw(const Team& team, int64_t m, R tau, R* pixels, FastScratch<R>& w) const {
    for (int64_t i = team.begin(m) * s.P; i < team.end(m) * s.P; i++) w.mean[i] *= tau;
    team.wait();
    linear(team, m, frame.pixels(), s.P, w.mean, net.decode, (const R*)nullptr, pixels, Then::nothing, R(1));
    team.wait();
  }

  // Take in clean patches, a dreamt frame's if it is one.
  void write(const Team& team, int64_t row0, int64_t rows, const R* pixels, bool dreamt, FastScratch<R>& w) const {
    R* fresh = net.new_codes + row0 * codes();
    linear(team, rows * frame.tokens(), s.P, frame.pixels(), pixels, net.encode, net.encode_bias, fresh);
    team.wait();
    for (int64_t r = team.begin(rows); r < team.end(rows); r++) {
      R* own = fresh + r * codes();
      if (dreamt) recognise(w.known + r * s.keys, w.values + r * s.keys * codes(), own);
      for (int64_t q = r * s.keys; q < (r + 1) * s.keys; q++) {
        R *key = w.keys + q * s.N, *crossed = w.crossed + q * s.N, *gain = w.gain + q * s.N;
        R* error = w.values + q * codes();
        SIMD for (int64_t i = 0; i < s.N; i++) crossed[i] += net.settings[1] * key[i];
        const R inverse = R(1) / (net.settings[0] + dot(crossed, key, s.N));
        SIMD for (int64_t i = 0; i < s.N; i++) gain[i] = crossed[i] * inverse;
        SIMD for (int64_t i = 0; i < codes(); i++) error[i] = own[i] - error[i];
      }
    }
    team.wait();
    over_lines(team, rows, [&](int64_t q, int64_t i) {
      const int64_t at = row0 * s.keys + q;
      const R* gain = w.gain + q * s.N;
      if (i < codes())
        return add(net.weights + (at * codes() + i) * s.N, w.values[q * codes() + i], gain,
                   net.new_weights + (at * codes() + i) * s.N);
      i -= codes();
      R* line = net.new_covariance + (at * s.N + i) * s.N;
      add(net.covariance + (at * s.N + i) * s.N, -gain[i], w.crossed + q * s.N, line);
      line[i] += net.settings[1];
    });
  }

  // This member's share of the lines of all matrices: f(row and key, line), of W first and then of P.
  template <class F> void over_lines(const Team& team, int64_t rows, F&& f) const {
    const int64_t lines = codes() + s.N, all = rows * s.keys * lines;
    for (int64_t i = team.begin(all); i < team.end(all); i++) f(i / lines, i % lines);
  }

  void add(const R* from, R factor, const R* other, R* to) const {
    SIMD for (int64_t i = 0; i < s.N; i++) to[i] = from[i] + factor * other[i];
  }

  // Keys of a row of the batch, which is the group's r-th.
  void make_keys(int64_t row, int64_t r, int64_t rows, bool first, FastScratch<R>& w) const {
    const int64_t half = s.N / 2;
    int64_t action = row;
    if (net.action)
      action = first ? s.actions : std::min(std::max<int64_t>(0, net.action[row] - s.start), s.actions - 1);
    const R *own = net.angles + action * half, scale = R(1) / std::sqrt(R(half));
    for (int64_t k = 0; k < s.keys; k++) {
      const R* angles = w.angles + (k * rows + r) * half;
      R* key = w.keys + (r * s.keys + k) * s.N;
      for (int64_t i = 0; i < half; i++) {
        const R angle = k ? angles[i] : angles[i] + own[i];
        key[i] = std::sin(angle) * scale, key[half + i] = std::cos(angle) * scale;
      }
    }
  }

  // How well the keys of the group's r-th row are known, and from that what the network is told and shown.
  void recall(int64_t r, FastScratch<R>& w) const {
    R *known = w.known + r * s.keys, *mean = w.mean + r * codes();
    R* own = w.own + r * frame.tokens() * s.keys * (s.P + 1);
    R all = 0;
    for (int64_t k = 0; k < s.keys; k++) {
      const int64_t q = r * s.keys + k;
      const R variance = dot(w.crossed + q * s.N, w.keys + q * s.N, s.N) + net.settings[1];
      known[k] = std::min(std::max(R(1) - variance, R(0)), R(1));
      all += eighth_power(known[k]);
    }
    std::fill_n(mean, codes(), R(0));
    for (int64_t k = 0; k < s.keys; k++) {
      const R* values = w.values + (r * s.keys + k) * codes();
      const R size = std::max(dot(values, values, codes()) / R(codes()), R(1)), square = known[k] * known[k] / size;
      const R share = square * eighth_power(known[k]) / std::max(all, R(1e-6));
      for (int64_t t = 0; t < frame.tokens(); t++) {
        const R* from = values + t * s.P;
        R *to = own + (t * s.keys + k) * (s.P + 1), *shown = mean + t * s.P;
        SIMD for (int64_t i = 0; i < s.P; i++) to[i] = square * from[i], shown[i] += share * from[i];
        to[s.P] = known[k];
      }
    }
  }

  static R eighth_power(R x) {
    const R square = x * x, fourth = square * square;
    return fourth * fourth;
  }

  // Codes of a dreamt frame towards what is recalled by the key that is known best, the nearer they are to it.
  void recognise(const R* known, const R* values, R* own) const {
    const int64_t best = std::max_element(known, known + s.keys) - known;
    const R* recalled = values + best * codes();
    R unlike = 0;
    SIMD_SUM(unlike) for (int64_t i = 0; i < codes(); i++) unlike += (own[i] - recalled[i]) * (own[i] - recalled[i]);
    const R share = known[best] * known[best] * std::exp(-unlike / R(codes()) / (R(2) * net.settings[2]));
    SIMD for (int64_t i = 0; i < codes(); i++) own[i] += share * (recalled[i] - own[i]);
  }
};
}  // namespace
