// One frame of every row into the leaky sums of a reservoir, and what is read of them: see model/reservoir.py.
#include "gemm.h"

namespace {

struct Sizes {
  int64_t threads, rows, h, w, patch_h, patch_w, channels, width, heads, P, reads, scans;
  int64_t stride, offset;  // of what is read, in the rows of `out`
  int64_t tokens() const { return h * w; }
  int64_t pixels() const { return patch_h * patch_w * channels; }
  int64_t inner() const { return heads * P; }
};
constexpr int64_t SIZES = sizeof(Sizes) / sizeof(int64_t);  // the sides (b_h, b_w) of every scan's blocks follow

template <class R> struct Net {
  const uint8_t* image;                // (rows, H, W, channels)
  const R *embed, *position, *decay;   // packed; (tokens, width) with the embedding's bias; (heads)
  R* out;                              // (rows, stride)
};

template <class R> struct Scan {
  const R *weights, *query, *project;  // packed: x and gate (heads P + P, width); (P); packed (reads, blocks heads P)
  const R *mean, *scale;               // (reads): the numbers read are tanh((raw - mean) scale)
  const R* state;                      // (rows, blocks, heads, P)
  R* after;
};

// Numbers in [-1, 1] of the patches of one row.
template <class R> void cut(const Sizes& s, const uint8_t* image, R* to) {
  const int64_t line = s.patch_w * s.channels;
  for (int64_t t = 0; t < s.tokens(); t++)
    for (int64_t p = 0; p < s.patch_h; p++, to += line) {
      const uint8_t* grey = image + ((t / s.w * s.patch_h + p) * s.w + t % s.w) * line;
      SIMD for (int64_t k = 0; k < line; k++) to[k] = R(grey[k]) / R(127.5) - R(1);
    }
}

// Position added, then the layer norm.
template <class R> void place(const R* position, int64_t width, R* token) {
  R sum = 0, squares = 0;
  SIMD_SUM(sum) for (int64_t i = 0; i < width; i++) sum += token[i] += position[i];
  const R mean = sum / R(width);
  SIMD_SUM(squares) for (int64_t i = 0; i < width; i++) squares += (token[i] - mean) * (token[i] - mean);
  const R inverse = R(1) / std::sqrt(squares / R(width) + R(1e-6));
  SIMD for (int64_t i = 0; i < width; i++) token[i] = (token[i] - mean) * inverse;
}

// The sums of one block after a frame, and in `level` what is read of them, every head divided by its size.
template <class R>
void add_block(const Sizes& s, const R* decay, const R* query, const R* written, const std::vector<int64_t>& tokens,
               const R* state, R* after, R* level) {
  const int64_t I = s.inner(), P = s.P;
  for (int64_t h = 0; h < s.heads; h++)
    SIMD for (int64_t p = 0; p < P; p++) after[h * P + p] = decay[h] * state[h * P + p];
  for (int64_t t : tokens) {
    const R *x = written + t * (I + P), *raw = x + I;
    R gate = 0;
    SIMD_SUM(gate) for (int64_t p = 0; p < P; p++) gate += raw[p] * query[p];
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

constexpr int64_t GROUP_TOKENS = 128;  // whose numbers stay in the cache

// sizes: a Sizes, then sides; pointers: a Net, then a Scan for every scan.
template <class R> void reservoir(const int64_t* sizes, void* const* pointers) {
  Sizes s;
  Net<R> net;
  std::memcpy(&s, sizes, sizeof(Sizes));
  std::memcpy(&net, pointers, sizeof(net));
  std::vector<Scan<R>> scans(s.scans);
  std::memcpy(scans.data(), pointers + sizeof(net) / sizeof(void*), s.scans * sizeof(Scan<R>));
  const int64_t n = s.tokens(), I = s.inner(), most = std::max<int64_t>(1, GROUP_TOKENS / n), *sides = sizes + SIZES;
  const Team alone{nullptr, 0};
  parallel_for(threads_for(s.threads, s.rows * n * s.pixels() * 8), s.rows, [&](int64_t begin, int64_t end) {
    const int64_t group = std::min(most, end - begin), m = group * n;
    std::vector<R> pixels(m * s.pixels()), tokens(m * s.width), wide(m * (I + s.P)), levels(m * I), raw(group * s.reads);
    std::vector<int64_t> block;
    for (int64_t row0 = begin; row0 < end; row0 += group) {
      const int64_t rows = std::min(group, end - row0);
      for (int64_t r = 0; r < rows; r++)
        cut(s, net.image + (row0 + r) * n * s.pixels(), pixels.data() + r * n * s.pixels());
      linear<R>(alone, rows * n, s.width, s.pixels(), pixels.data(), net.embed, nullptr, tokens.data());
      for (int64_t t = 0; t < rows * n; t++)
        place(net.position + t % n * s.width, s.width, tokens.data() + t * s.width);
      for (int64_t i = 0; i < s.scans; i++) {
        const Scan<R>& scan = scans[i];
        linear<R>(alone, rows * n, I + s.P, s.width, tokens.data(), scan.weights, nullptr, wide.data());
        const int64_t b_h = sides[2 * i], b_w = sides[2 * i + 1], across = s.w / b_w, blocks = n / (b_h * b_w);
        for (int64_t r = 0; r < rows; r++)
          for (int64_t b = 0; b < blocks; b++) {
            block.clear();
            for (int64_t k = 0; k < b_h * b_w; k++)
              block.push_back(r * n + (b / across * b_h + k / b_w) * s.w + b % across * b_w + k % b_w);
            const int64_t at = ((row0 + r) * blocks + b) * I;
            add_block(s, net.decay, scan.query, wide.data(), block, scan.state + at, scan.after + at,
                      levels.data() + (r * blocks + b) * I);
          }
        linear<R>(alone, rows, s.reads, blocks * I, levels.data(), scan.project, nullptr, raw.data());
        for (int64_t r = 0; r < rows; r++)
          for (int64_t k = 0; k < s.reads; k++)
            net.out[(row0 + r) * s.stride + s.offset + i * s.reads + k] =
                std::tanh((raw[r * s.reads + k] - scan.mean[k]) * scan.scale[k]);
      }
    }
  });
}

}  // namespace

EXPORT_REAL(reservoir)
