// One frame of a group of rows into the leaky sums of a reservoir, and what is read of them: see model/reservoir.py.
#pragma once
#include "frame.h"

namespace {

struct ReservoirSizes {
  int64_t width, heads, P, reads, scans;  // without scans there is none; sides (b_h, b_w) of every scan's blocks follow
  int64_t inner() const { return heads * P; }
};
constexpr int64_t RESERVOIR_SIZES = sizeof(ReservoirSizes) / sizeof(int64_t);

template <class R> struct ReservoirNet {
  const R *encode, *encode_bias;      // of patches' whitened components: packed; (width)
  const R *position, *decay;          // (tokens, width); (heads)
  const R *as_token, *as_token_bias;  // what was read last, (given), to a token: packed; (D)
  const R* before;                    // (rows, features + given), as `readout` after the frame before
};

template <class R> struct ReservoirScan {
  const R *weights, *query, *project;  // packed: x and gate (heads P + P, width); (P); packed (reads, blocks heads P)
  const R *mean, *scale;               // (reads): the numbers read are tanh((raw - mean) scale)
  const R* state;                      // (rows, blocks, heads, P)
  R* after;
};

// Scratch of one group of rows.
template <class R> struct ReservoirScratch {
  std::vector<R> tokens, wide, levels, raw;
  ReservoirScratch(const Sizes& frame, const ReservoirSizes& s, int64_t group) {
    const int64_t m = s.scans ? group * frame.tokens() : 0;
    tokens.resize(m * s.width), wide.resize(m * (s.inner() + s.P)), levels.resize(m * s.inner());
    raw.resize(group * frame.given);
  }
};

constexpr double RARE = 2.0;  // as in model/reservoir.py

// Only what is unusual, and where.
template <class R> void shrink(const R* position, int64_t width, R* token) {
  SIMD for (int64_t i = 0; i < width; i++)
    token[i] += position[i] - std::min(R(RARE), std::max(R(-RARE), token[i]));
}

template <class R> struct Reservoir {
  const Sizes& frame;
  ReservoirSizes s;
  const int64_t* sides;  // (scans, 2)
  ReservoirNet<R> net;
  std::vector<ReservoirScan<R>> scans;

  // Moves `sizes` and `pointers` behind what it takes.
  Reservoir(const Sizes& frame, const int64_t*& sizes, void* const*& pointers) : frame(frame) {
    std::memcpy(&s, sizes, sizeof(s));
    std::memcpy(&net, pointers, sizeof(net));
    sides = sizes + RESERVOIR_SIZES, pointers += sizeof(net) / sizeof(void*);
    scans.resize(s.scans);
    std::memcpy(scans.data(), pointers, s.scans * sizeof(scans[0]));
    sizes = sides + 2 * s.scans, pointers += s.scans * (sizeof(scans[0]) / sizeof(void*));
  }

  // What was read after the frame before, of rows from row0 on, as (rows, D).
  void tell(const Team& team, int64_t row0, int64_t rows, R* to, ReservoirScratch<R>& w) const {
    const int64_t size = frame.features + frame.given;
    for (int64_t r = team.begin(rows); r < team.end(rows); r++)
      std::copy_n(net.before + (row0 + r) * size + frame.features, frame.given, w.raw.data() + r * frame.given);
    team.wait();
    linear(team, rows, frame.width, frame.given, w.raw.data(), net.as_token, net.as_token_bias, to);
    team.wait();
  }

  // Take in clean patches, and put what is read into `readout`, (rows, features + given).
  void take_in(const Team& team, int64_t row0, int64_t rows, const R* pixels, R* readout,
               ReservoirScratch<R>& w) const {
    const int64_t n = frame.tokens(), m = rows * n, I = s.inner(), size = frame.features + frame.given;
    linear(team, m, s.width, frame.pixels(), pixels, net.encode, net.encode_bias, w.tokens.data());
    team.wait();
    for (int64_t t = team.begin(m); t < team.end(m); t++)
      shrink(net.position + t % n * s.width, s.width, w.tokens.data() + t * s.width);
    team.wait();
    for (int64_t i = 0; i < s.scans; i++) {
      linear(team, m, I + s.P, s.width, w.tokens.data(), scans[i].weights, (const R*)nullptr, w.wide.data());
      team.wait();
      const int64_t blocks = n / (sides[2 * i] * sides[2 * i + 1]);
      for (int64_t b = team.begin(rows * blocks); b < team.end(rows * blocks); b++)
        add_block(i, b / blocks, b % blocks, (row0 * blocks + b) * I, w.wide.data(), w.levels.data() + b * I);
      team.wait();
      linear(team, rows, s.reads, blocks * I, w.levels.data(), scans[i].project, (const R*)nullptr, w.raw.data());
      team.wait();
      for (int64_t r = team.begin(rows); r < team.end(rows); r++)
        for (int64_t k = 0; k < s.reads; k++)
          readout[(row0 + r) * size + frame.features + i * s.reads + k] =
              std::tanh((w.raw[r * s.reads + k] - scans[i].mean[k]) * scans[i].scale[k]);
      team.wait();
    }
  }

  // The sums of one block after a frame, which lie from `at` on, and in `level` what is read of them, every head
  // divided by its size.
  void add_block(int64_t index, int64_t row, int64_t block, int64_t at, const R* wide, R* level) const {
    const ReservoirScan<R>& scan = scans[index];
    const int64_t I = s.inner(), P = s.P, b_h = sides[2 * index], b_w = sides[2 * index + 1];
    const int64_t across = frame.grid_w / b_w;
    const R* state = scan.state + at;
    R* after = scan.after + at;
    for (int64_t h = 0; h < s.heads; h++)
      SIMD for (int64_t p = 0; p < P; p++) after[h * P + p] = net.decay[h] * state[h * P + p];
    for (int64_t k = 0; k < b_h * b_w; k++) {
      const int64_t t = (block / across * b_h + k / b_w) * frame.grid_w + block % across * b_w + k % b_w;
      const R *x = wide + (row * frame.tokens() + t) * (I + P), *raw = x + I;
      R gate = 0;
      SIMD_SUM(gate) for (int64_t p = 0; p < P; p++) gate += raw[p] * scan.query[p];
      gate *= inverse_rms(raw, P);
      SIMD for (int64_t i = 0; i < I; i++) after[i] += gate * x[i];
    }
    for (int64_t h = 0; h < s.heads; h++) {
      const R* g = after + h * P;
      R squares = 0;
      SIMD_SUM(squares) for (int64_t p = 0; p < P; p++) squares += g[p] * g[p];
      const R inverse = R(1) / std::sqrt(squares / R(P) + R(1e-10));
      SIMD for (int64_t p = 0; p < P; p++) level[h * P + p] = g[p] * inverse;
    }
  }
};
}  // namespace
