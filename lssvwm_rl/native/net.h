// What a dreamt frame is made from, and the room to make it in.
#pragma once
#include <algorithm>

#include "fast_weights.h"
#include "reservoir.h"

namespace {

// Weights between noise and frame are panels of elements E, those of the heads of numbers R.
template <class R, class E> struct Net {
  // Conditions: level l, table row m: `layers` (levels, table_rows, layers, 3 parts, D), `final` (steps, table_rows, 2, D).
  const R *layers, *final;
  const int64_t *table, *frames;  // (rows): row of the table, frames committed before
  const R* noise;                 // (rows, tokens, noise)
  const E* noise_in;              // noise to tokens
  const R *ratios, *taus;         // (steps) of the Euler steps, and the noise levels before them
  const R *position, *shift;      // (tokens, D) with the bias of the patches; (rows, D) of the frames' vectors, or null
  const E *compose, *pixels_out, *pixels_in;
  const R *compose_bias, *pixels_bias;
  uint8_t* image;  // (rows, H, W, channels): written, or read where there are no steps
  const R *token_features, *token_bias, *mix, *mix_bias, *features, *features_bias;
  const R *reward, *reward_bias, *ended, *bins_out, *bins_bias, *bins, *end, *end_bias, *end_out, *end_out_bias;
  R *readout, *rewards, *ends;  // (rows, features + given), of which the latter are there; (rows, goes on or ended), (rows)
  R* doubts;                    // (rows), or null: how far the last of several steps moved the frame
};
constexpr int64_t NET_POINTERS = sizeof(Net<float, float>) / sizeof(void*);

// Scratch of one group of rows; of blocks, heads and pairs every member of the team has its own.
template <class R> struct Scratch {
  R *x, *base, *before, *normed, *wide, *mixed, *added, *pixels, *place, *shift, *block, *head;
  int64_t block_size, head_size, pairs_size;
  std::vector<R> memory;
  std::vector<Pair> pairs;
  ReservoirScratch<R> sums;
  FastScratch<R> expected;
  Scratch(const Sizes& s, const ReservoirSizes& reservoir, const FastSizes& fast, int64_t group, int64_t members,
          int64_t largest, bool in_pairs)
      : sums(s, reservoir, group), expected(s, fast, group) {
    const int64_t m = group * s.tokens(), D = s.width;
    block_size = BlockScratch<R>::size(s, largest) + 16, head_size = HeadScratch<R>::size(s) + 16;
    const int64_t sizes[] = {m * D, m * D, s.steps > 1 ? m * D : 0, m * D,
                             std::max(m * std::max({s.projection(), 3 * D, s.hidden, s.head_width}), 2 * group * s.bins),
                             m * std::max({s.inner(), D, s.per_token}),
                             std::max(m * std::max(D, s.features), 2 * group * s.head_width),
                             m * s.pixels(), m * D, group * D, members * block_size, members * head_size};
    R** parts[] = {&x, &base, &before, &normed, &wide, &mixed, &added, &pixels, &place, &shift, &block, &head};
    int64_t total = 0;
    for (int64_t size : sizes) total += size + 16;
    memory.resize(total);
    R* at = memory.data();
    for (int i = 0; i < 12; i++) {
      *parts[i] = at;
      at += sizes[i] + 16;
    }
    pairs_size = m * pair_count(std::max({D, s.inner(), s.hidden, s.noise, s.pixels()})) + 16;
    if (in_pairs) pairs.resize(members * pairs_size);
  }
};

}  // namespace
