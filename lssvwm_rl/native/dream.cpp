// One dreamt frame: what is recalled of it, denoising passes that read the memory, the frame in grey levels, what
// reservoir and fast weights write of it, the pass that commits it, heads.
//
// Between passes there are no pixels: an Euler step in token space needs the product of the two patch matrices alone,
// and the last one makes the frame the last prediction itself (`model/prepared.py`).
#include <type_traits>

#include "net.h"

namespace {

// A group of rows on its way through the network, as one member of a team walks it.
template <class R, class E> struct Walk {
  const Sizes& s;
  const int64_t* sides;  // (layers, 2)
  const Net<R, E>& net;
  const Packed<R, E>* layers;
  const Reservoir<R>& reservoir;
  const FastWeights<R>& fast;
  Scratch<R>& w;
  Team team;
  int64_t row0, rows;

  int64_t tokens() const { return rows * s.tokens(); }
  const R* modulations(int64_t level, int64_t token) const {
    const int64_t row = row0 + token / s.tokens();
    return net.layers + (level * s.table_rows + net.table[row]) * s.layers * 3 * s.parts() * s.width;
  }
  void multiply_all(int64_t M, int64_t N, int64_t K, const R* a, const R* weights, const R* bias, R* c,
                    Then then = Then::nothing) const {
    linear(team, M, N, K, a, weights, bias, c, then);
    team.wait();
  }
  void multiply_all(int64_t M, int64_t N, int64_t K, const float* a, const Pair* weights, const float* bias, float* c,
                    Then then = Then::nothing) const {
    Pair* rounded = w.pairs.data() + team.rank * w.pairs_size;
    round_rows(M, K, a, rounded);
    linear(team, M, N, pair_count(K), rounded, weights, bias, c, then);
    team.wait();
  }

  // x += gate * w.added of the part before, if there is one, and w.normed = LN(x) * scale + shift of this part.
  void modulate(int64_t level, int64_t part) const {
    const int64_t D = s.width, m = tokens();
    for (int64_t t = team.begin(m); t < team.end(m); t++) {
      const R* own = modulations(level, t) + part * 3 * D;
      if (part) add_gated(own - D, t);
      ada_norm(w.x + t * D, own, own + D, D, w.normed + t * D);
    }
    team.wait();
  }

  void add_gated(const R* gate, int64_t token) const {
    R *x = w.x + token * s.width, *added = w.added + token * s.width;
    SIMD for (int64_t i = 0; i < s.width; i++) x[i] += gate[i] * added[i];
  }

  void scan(int64_t layer, bool write) const {
    const Layer<R>& l = layers[layer].rest;
    const int64_t n = s.tokens(), b_h = sides[2 * layer], b_w = sides[2 * layer + 1], K = b_h * b_w;
    const int64_t across = s.grid_w / b_w, blocks = n / K, numbers = s.inner() * s.state_size;
    const BlockScratch<R> scratch(s, K, w.block + team.rank * w.block_size);
    std::vector<int64_t> token(K);
    // Fewer blocks than members: a block's heads are shared out, too.
    const int64_t parts = rows * blocks < team.size ? std::min(s.heads, team.size) : 1, units = rows * blocks * parts;
    for (int64_t i = team.begin(units); i < team.end(units); i++) {
      const int64_t row = row0 + i / parts / blocks, block = i / parts % blocks, at = (row * blocks + block) * numbers;
      const int64_t first = i % parts * s.heads / parts, last = (i % parts + 1) * s.heads / parts;
      for (int64_t k = 0; k < K; k++)
        token[k] = (block / across * b_h + k / b_w) * s.grid_w + block % across * b_w + k % b_w;
      const R* place = l.place ? l.place + row * s.state_size : nullptr;
      const R* projection = w.wide + (row - row0) * n * s.projection();
      R *y = w.mixed + (row - row0) * n * s.inner(), *after = write ? l.new_state + at : nullptr;
      if (s.state_size == 32 && s.head_size == 32)
        scan_block<R, 32>(s, l, projection, token.data(), K, first, last, l.state + at, after, place, y, scratch);
      else
        scan_block<R, 0>(s, l, projection, token.data(), K, first, last, l.state + at, after, place, y, scratch);
    }
    team.wait();
  }

  void attention(const Layer<R>& l, bool write) const {
    const int64_t n = s.tokens(), D = s.width, heads = s.attention_heads;
    const HeadScratch<R> scratch(s, w.head + team.rank * w.head_size);
    // Heads seldom divide evenly among members, groups of queries do.
    const int64_t parts = team.size > 1 ? (n + HeadScratch<R>::WIDTH - 1) / HeadScratch<R>::WIDTH : 1;
    const int64_t units = rows * heads * parts;
    for (int64_t i = team.begin(units); i < team.end(units); i++) {
      const int64_t own = i / parts / heads, unseen = std::max<int64_t>(0, s.window - 1 - net.frames[row0 + own]);
      attend(s, l, w.wide + own * n * 3 * D, row0 + own, i / parts % heads, i % parts, parts, unseen * n, write,
             w.mixed + own * n * D, scratch);
    }
    team.wait();
  }

  // All layers over w.x, with the modulations of one noise level.
  void pass(int64_t level, bool write) const {
    const int64_t D = s.width, m = tokens();
    int64_t part = 0;
    for (int64_t i = 0; i < s.layers; i++) {
      const Packed<R, E>& l = layers[i];
      if (s.heads) {
        modulate(level, part++);
        multiply_all(m, s.projection(), D, w.normed, l.in, nullptr, w.wide);
        scan(i, write);
        multiply_all(m, D, s.inner(), w.mixed, l.out, nullptr, w.added);
      }
      if (s.attention_heads) {
        modulate(level, part++);
        multiply_all(m, 3 * D, D, w.normed, l.qkv, nullptr, w.wide);
        attention(l.rest, write);
        multiply_all(m, D, D, w.mixed, l.attention_out, nullptr, w.added);
      }
      modulate(level, part++);
      multiply_all(m, s.hidden, D, w.normed, l.up, l.rest.up_bias, w.wide, Then::gelu);
      multiply_all(m, D, s.hidden, w.wide, l.down, l.rest.down_bias, w.added);
    }
    for (int64_t t = team.begin(m); t < team.end(m); t++) add_gated(modulations(level, t) + (part * 3 - 1) * D, t);
  }

  // In w.place what is added to the tokens of the frame in all passes: position, vector, and what is recalled.
  void place() const {
    const int64_t n = s.tokens(), D = s.width;
    if (fast.s.keys) fast.expect(team, row0, rows, net.frames, w.place, w.expected);
    if (reservoir.s.scans) reservoir.tell(team, row0, rows, w.shift, w.sums);
    for (int64_t t = team.begin(tokens()); t < team.end(tokens()); t++) {
      R* to = w.place + t * D;
      if (!fast.s.keys) std::fill_n(to, D, R(0));
      add(net.position + t % n * D, to);
      if (reservoir.s.scans) add(w.shift + t / n * D, to);
      if (net.shift) add(net.shift + (row0 + t / n) * D, to);
    }
    team.wait();
  }

  void add(const R* from, R* to) const {
    SIMD for (int64_t i = 0; i < s.width; i++) to[i] += from[i];
  }

  // The tokens in w.base, noised or clean, in their places.
  void place_tokens() const {
    const int64_t D = s.width;
    SIMD for (int64_t i = team.begin(tokens()) * D; i < team.end(tokens()) * D; i++) w.x[i] = w.base[i] + w.place[i];
  }

  // The frame in w.pixels, as patches.
  void denoise() const {
    const int64_t n = s.tokens(), D = s.width, m = tokens();
    multiply_all(m, D, s.noise, net.noise + row0 * n * s.noise, net.noise_in, nullptr, w.base);
    for (int64_t step = 0; step < s.steps; step++) {
      place_tokens();
      pass(step, false);
      for (int64_t t = team.begin(m); t < team.end(m); t++) {
        const R* final = net.final + (step * s.table_rows + net.table[row0 + t / n]) * 2 * D;
        ada_norm(w.x + t * D, final, final + D, D, w.normed + t * D);
      }
      team.wait();
      if (step + 1 == s.steps) break;
      multiply_all(m, D, D, w.normed, net.compose, net.compose_bias, w.added);
      const R ratio = net.ratios[step], recalled = ratio * net.taus[step];
      for (int64_t i = team.begin(m) * D; i < team.end(m) * D; i++)
        w.base[i] = (R(1) + ratio) * w.base[i] - ratio * w.added[i];
      const R* embedded = w.expected.embedded;
      if (fast.s.keys)
        SIMD for (int64_t i = team.begin(m) * D; i < team.end(m) * D; i++) w.base[i] -= recalled * embedded[i];
      if (net.doubts && step + 2 == s.steps)
        for (int64_t i = team.begin(m) * D; i < team.end(m) * D; i++)
          w.before[i] = w.added[i] + (fast.s.keys ? net.taus[step] * embedded[i] : R(0));
    }
    multiply_all(m, s.pixels(), D, w.normed, net.pixels_out, net.pixels_bias, w.pixels);
    if (fast.s.keys) fast.draw(team, m, net.taus[s.steps - 1], w.pixels, w.expected);
  }

  // How far the last step moved the frame: from w.before, what the one before it had predicted, to w.base.
  void doubt() const {
    const int64_t numbers = s.tokens() * s.width;
    for (int64_t r = team.begin(rows); r < team.end(rows); r++) {
      const R *before = w.before + r * numbers, *after = w.base + r * numbers;
      R sum = 0;
      SIMD_SUM(sum) for (int64_t i = 0; i < numbers; i++) sum += (after[i] - before[i]) * (after[i] - before[i]);
      net.doubts[row0 + r] = std::sqrt(sum / R(numbers));
    }
  }

  // Between patches of a group in w.pixels and the image's grey levels: rounded and written, or read.
  void grey_levels(bool rounding) const {
    const int64_t line = s.patch_w * s.channels, n = s.tokens();
    for (int64_t t = team.begin(tokens()); t < team.end(tokens()); t++) {
      const int64_t row = row0 + t / n, i = t % n / s.grid_w, j = t % n % s.grid_w;
      for (int64_t p = 0; p < s.patch_h; p++) {
        uint8_t* grey = net.image + (((row * s.grid_h + i) * s.patch_h + p) * s.grid_w + j) * line;
        R* x = w.pixels + (t * s.patch_h + p) * line;
        if (rounding)
          SIMD for (int64_t k = 0; k < line; k++) {
            const R level = std::nearbyint((x[k] + R(1)) * R(127.5));
            grey[k] = (uint8_t)(level < R(0) ? R(0) : level > R(255) ? R(255) : level);
          }
        SIMD for (int64_t k = 0; k < line; k++) x[k] = R(grey[k]) / R(127.5) - R(1);
      }
    }
    team.wait();
    if (s.padded()) repeat_edges();
  }

  // Padding in w.pixels is the image's last row and column, whatever was predicted there.
  void repeat_edges() const {
    const int64_t n = s.tokens(), C = s.channels, height = s.grid_h * s.patch_h, width = s.grid_w * s.patch_w;
    for (int64_t t = team.begin(tokens()); t < team.end(tokens()); t++) {
      const int64_t row = row0 + t / n, i = t % n / s.grid_w, j = t % n % s.grid_w;
      R* x = w.pixels + t * s.pixels();
      for (int64_t p = 0; p < s.patch_h; p++)
        for (int64_t q = 0; q < s.patch_w; q++, x += C) {
          const int64_t y = std::min(i * s.patch_h + p, s.frame_h - 1), z = std::min(j * s.patch_w + q, s.frame_w - 1);
          const uint8_t* grey = net.image + ((row * height + y) * width + z) * C;
          for (int64_t c = 0; c < C; c++) x[c] = R(grey[c]) / R(127.5) - R(1);
        }
    }
    team.wait();
  }

  // Features, rewards and probability of the end, from the hidden tokens in w.x.
  void read_heads() const {
    const int64_t n = s.tokens(), D = s.width, m = tokens(), F = s.per_token, Q = s.head_width;
    const int64_t own = s.features, size = own + s.given;
    const std::vector<R> zeros(std::max(D, own), R(0)), ones(std::max(D, own), R(1));
    for (int64_t t = team.begin(m); t < team.end(m); t++)
      ada_norm(w.x + t * D, zeros.data(), ones.data(), D, w.normed + t * D);
    team.wait();
    multiply_all(m, F, D, w.normed, net.token_features, net.token_bias, w.mixed, Then::silu);
    multiply_all(rows, Q, n * F, w.mixed, net.mix, net.mix_bias, w.wide, Then::silu);
    R* features = net.readout + row0 * size;
    multiply_all(rows, own, Q, w.wide, net.features, net.features_bias, w.added);
    for (int64_t r = team.begin(rows); r < team.end(rows); r++) {
      ada_norm(w.added + r * own, zeros.data(), ones.data(), own, features + r * size);
      for (int64_t i = 0; i < own; i++) features[r * size + i] = std::tanh(features[r * size + i]);
    }
    team.wait();
    multiply_all(rows, Q, size, features, net.reward, net.reward_bias, w.wide);
    for (int64_t r = team.begin(rows); r < team.end(rows); r++) {
      const R* from = w.wide + r * Q;
      R *goes_on = w.added + 2 * r * Q, *ended = goes_on + Q;
      SIMD for (int64_t i = 0; i < Q; i++) goes_on[i] = from[i] * sigmoid(from[i]);
      SIMD for (int64_t i = 0; i < Q; i++) ended[i] = (from[i] + net.ended[i]) * sigmoid(from[i] + net.ended[i]);
    }
    team.wait();
    multiply_all(2 * rows, s.bins, Q, w.added, net.bins_out, net.bins_bias, w.wide);
    for (int64_t r = team.begin(2 * rows); r < team.end(2 * rows); r++)
      net.rewards[2 * row0 + r] = expected(w.wide + r * s.bins);
    team.wait();
    multiply_all(rows, Q, size, features, net.end, net.end_bias, w.added, Then::silu);
    multiply_all(rows, 1, Q, w.added, net.end_out, net.end_out_bias, w.wide);
    for (int64_t r = team.begin(rows); r < team.end(rows); r++)
      net.ends[row0 + r] = R(1) / (R(1) + std::exp(-w.wide[r]));
    team.wait();
  }

  // The reward that the logits of its bins expect, out of symlog.
  R expected(const R* logits) const {
    R most = R(-1e30), sum = 0, mean = 0;
    for (int64_t i = 0; i < s.bins; i++) most = std::max(most, logits[i]);
    for (int64_t i = 0; i < s.bins; i++) {
      const R share = std::exp(logits[i] - most);
      sum += share, mean += share * net.bins[i];
    }
    mean /= sum;
    return std::copysign(std::expm1(std::abs(mean)), mean);
  }

  void frame() const {
    place();
    if (s.steps) denoise();
    grey_levels(s.steps > 0);
    if (!s.commit) return;
    if (reservoir.s.scans) reservoir.take_in(team, row0, rows, w.pixels, net.readout, w.sums);
    if (fast.s.keys) fast.write(team, row0, rows, w.pixels, s.steps > 0, w.expected);
    multiply_all(tokens(), s.width, s.pixels(), w.pixels, net.pixels_in, nullptr, w.base);
    if (net.doubts && s.steps > 1) doubt();
    place_tokens();
    pass(s.steps, true);
    read_heads();
  }
};

constexpr int64_t GROUP_TOKENS = 128;  // whose activations stay in the cache

// sizes: a Sizes, then the layers' sides; pointers: a Net, then a Packed for every layer. In both follows what makes a
// `Reservoir`, and then `FastWeights`.
template <class R, class E = R> void dream(const int64_t* sizes, void* const* pointers) {
  constexpr bool in_pairs = std::is_same<E, Pair>::value;
  Sizes s;
  Net<R, E> net;
  std::memcpy(&s, sizes, sizeof(Sizes));
  std::memcpy(&net, pointers, sizeof(net));
  std::vector<Packed<R, E>> layers(s.layers);
  std::memcpy(layers.data(), pointers + NET_POINTERS, s.layers * sizeof(layers[0]));
  const int64_t *sides = sizes + SIZES, *more = sides + 2 * s.layers;
  void* const* parts = pointers + NET_POINTERS + s.layers * (sizeof(layers[0]) / sizeof(void*));
  const Reservoir<R> reservoir(s, more, parts);
  const FastWeights<R> fast(s, more, parts);
  const int64_t most = std::max<int64_t>(1, GROUP_TOKENS / s.tokens());
  int64_t largest = 1;
  for (int64_t i = 0; i < s.layers; i++) largest = std::max(largest, sides[2 * i] * sides[2 * i + 1]);
  if (s.rows < s.threads) {  // all threads walk all rows together
    Scratch<R> scratch(s, reservoir.s, fast.s, s.rows, s.threads, largest, in_pairs);
    with_team(s.threads, [&](Team team) {
      Walk<R, E>{s, sides, net, layers.data(), reservoir, fast, scratch, team, 0, s.rows}.frame();
    });
    return;
  }
  parallel_for(s.threads, s.rows, [&](int64_t begin, int64_t end) {
    const int64_t group = std::min(most, end - begin);
    Scratch<R> scratch(s, reservoir.s, fast.s, group, 1, largest, in_pairs);
    for (int64_t row = begin; row < end; row += group)
      Walk<R, E>{s, sides, net, layers.data(), reservoir, fast, scratch, Team{}, row, std::min(group, end - row)}
          .frame();
  });
}

// Weights (N, K) of a linear layer to panels.
template <class R> void pack(const int64_t* sizes, void* const* pointers) {
  pack_panels<R>((const R*)pointers[0], sizes[1], sizes[2], (R*)pointers[1]);
}

static_assert(sizeof(Sizes) == SIZES * sizeof(int64_t), "sizes are handed over as they lie");
}  // namespace

EXPORT_REAL(dream)
EXPORT_REAL(pack)

#if defined(__AVX512BF16__)  // others have no such functions, by which callers know
extern "C" void dream_bf16(const int64_t* sizes, void* const* pointers) { dream<float, Pair>(sizes, pointers); }
extern "C" void pack_bf16(const int64_t* sizes, void* const* pointers) {
  const int64_t N = sizes[1], K = sizes[2];
  std::vector<Pair> rounded(N * pair_count(K));
  round_rows(N, K, (const float*)pointers[0], rounded.data());
  pack_panels<Pair>(rounded.data(), N, pair_count(K), (Pair*)pointers[1]);
}
#endif
