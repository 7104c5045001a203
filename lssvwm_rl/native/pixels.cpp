// Frames (F, H, W, C) of uint8 against patches (M, h, w, p * q * C) of T in [-1, 1]: cut, counted, compared.
//
// A row of a patch, q * C numbers, lies in one piece both in the frame and in the patch. `index` (M) says which frame a
// patch grid is of, the frame of its own number if null; `visible` (M, H, W) marks pixels, all of them if null.
#include <algorithm>

#include "simd.h"

namespace {

struct Sizes {
  int64_t threads, count, rows, columns, height, width, channels;  // M, h, w, p, q, C
  int64_t run() const { return width * channels; }
  int64_t numbers() const { return rows * columns * height * run(); }
};

Sizes read_sizes(const int64_t* s) {
  Sizes d{s[0], s[1], s[2], s[3], s[4], s[5], s[6]};
  d.threads = threads_for(d.threads, d.count * d.numbers());
  return d;
}

// A colour is its channels' three highest bits, as one number.
INLINE int64_t colour(const uint8_t* pixel, int64_t channels) {
  int64_t number = pixel[0] >> 5;
  for (int64_t c = 1; c < channels; c++) number = number << 3 | pixel[c] >> 5;
  return number;
}

template <class R> INLINE R level(uint8_t value) { return R(value) / R(127.5) - R(1); }

// f(in the frame, in the patches, in the mask) for every run of patch grid m.
template <class F> INLINE void runs(const Sizes& d, int64_t m, const int64_t* index, F&& f) {
  const int64_t frame = (index ? index[m] : m) * d.numbers(), across = d.columns * d.run();
  for (int64_t i = 0; i < d.rows; i++)
    for (int64_t p = 0; p < d.height; p++)
      for (int64_t j = 0; j < d.columns; j++) {
        const int64_t line = i * d.height + p;
        f(frame + line * across + j * d.run(), m * d.numbers() + ((i * d.columns + j) * d.height + p) * d.run(),
          (m * d.rows * d.height + line) * d.columns * d.width + j * d.width);
      }
}

// pointers: frames, index, visible -> patches, 0 where pixels are not visible.
template <class T> void cut_patches(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const Sizes d = read_sizes(sizes);
  const uint8_t *frames = (const uint8_t*)pointers[0], *visible = (const uint8_t*)pointers[2];
  const int64_t* index = (const int64_t*)pointers[1];
  T* patches = (T*)pointers[3];
  parallel_for(d.threads, d.count, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; m++)
      runs(d, m, index, [&](int64_t frame, int64_t patch, int64_t mask) {
        const uint8_t* from = frames + frame;
        T* to = patches + patch;
        const int64_t run = d.run();
        SIMD for (int64_t k = 0; k < run; k++) store(to + k, level<R>(from[k]));
        if (!visible) return;
        for (int64_t k = 0; k < d.width; k++)
          if (!visible[mask + k])
            for (int64_t c = 0; c < d.channels; c++) store(to + k * d.channels + c, R(0));
      });
  });
}

// Roots of the weights of a run's numbers; C channels, or those of the sizes if it is 0.
template <int C, class R>
INLINE void load_roots(const Sizes& d, const uint8_t* frame, const uint8_t* visible, const R* roots, R* to) {
  const int64_t channels = C ? C : d.channels;
  for (int64_t k = 0; k < d.width; k++) {
    const R root = visible && visible[k] ? R(0) : roots[colour(frame + k * channels, channels)];
    for (int64_t c = 0; c < channels; c++) to[k * channels + c] = root;
  }
}

template <class R>
INLINE void load_roots(const Sizes& d, const uint8_t* frame, const uint8_t* visible, const R* roots, R* to) {
  d.channels == 3 ? load_roots<3>(d, frame, visible, roots, to) : load_roots<0>(d, frame, visible, roots, to);
}

// pointers: frames, index, visible, roots (8 ** C), predicted -> mean of (root * (predicted - pixel)) ** 2 over the
// pixels that are not visible, or all, (M) in Real<T>. All pixels count in the mean.
template <class T> void pixel_error_forward(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const Sizes d = read_sizes(sizes);
  const uint8_t *frames = (const uint8_t*)pointers[0], *visible = (const uint8_t*)pointers[2];
  const int64_t* index = (const int64_t*)pointers[1];
  const R* roots = (const R*)pointers[3];
  const T* predicted = (const T*)pointers[4];
  R* errors = (R*)pointers[5];
  parallel_for(d.threads, d.count, [&](int64_t begin, int64_t end) {
    std::vector<R> weights(d.run());
    for (int64_t m = begin; m < end; m++) {
      R total = 0;
      runs(d, m, index, [&](int64_t frame, int64_t patch, int64_t mask) {
        const uint8_t* from = frames + frame;
        const T* guess = predicted + patch;
        R* weight = weights.data();
        load_roots(d, from, visible ? visible + mask : nullptr, roots, weight);
        R sum = 0;
        const int64_t run = d.run();
        SIMD_SUM(sum) for (int64_t k = 0; k < run; k++) {
          const R off = (real(guess[k]) - level<R>(from[k])) * weight[k];
          sum += off * off;
        }
        total += sum;
      });
      errors[m] = total / R(d.numbers());
    }
  });
}

// pointers: frames, index, visible, roots, predicted, derrors -> dpredicted.
template <class T> void pixel_error_backward(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const Sizes d = read_sizes(sizes);
  const uint8_t *frames = (const uint8_t*)pointers[0], *visible = (const uint8_t*)pointers[2];
  const int64_t* index = (const int64_t*)pointers[1];
  const R *roots = (const R*)pointers[3], *derrors = (const R*)pointers[5];
  const T* predicted = (const T*)pointers[4];
  T* dpredicted = (T*)pointers[6];
  parallel_for(d.threads, d.count, [&](int64_t begin, int64_t end) {
    std::vector<R> weights(d.run());
    for (int64_t m = begin; m < end; m++) {
      const R factor = R(2) * derrors[m] / R(d.numbers());
      runs(d, m, index, [&](int64_t frame, int64_t patch, int64_t mask) {
        const uint8_t* from = frames + frame;
        const T* guess = predicted + patch;
        T* to = dpredicted + patch;
        R* weight = weights.data();
        load_roots(d, from, visible ? visible + mask : nullptr, roots, weight);
        const int64_t run = d.run();
        SIMD for (int64_t k = 0; k < run; k++)
          store(to + k, factor * weight[k] * weight[k] * (real(guess[k]) - level<R>(from[k])));
      });
    }
  });
}

// pointers: frames, counted (M) bool -> how often every colour is in the counted frames, (8 ** C) int64.
template <class T> void count_colours(const int64_t* sizes, void* const* pointers) {
  const Sizes d = read_sizes(sizes);
  const uint8_t *frames = (const uint8_t*)pointers[0], *counted = (const uint8_t*)pointers[1];
  int64_t* counts = (int64_t*)pointers[2];
  const int64_t colours = (int64_t)1 << (3 * d.channels), numbers = d.numbers();
  const int64_t pieces = std::max<int64_t>(1, std::min(d.threads, d.count));
  std::vector<int64_t> partial(pieces * colours, 0);
  parallel_for(pieces, pieces, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; piece++)
      for (int64_t m = piece * d.count / pieces; m < (piece + 1) * d.count / pieces; m++)
        for (int64_t i = 0; counted[m] && i < numbers; i += d.channels)
          partial[piece * colours + colour(frames + m * numbers + i, d.channels)]++;
  });
  std::fill_n(counts, colours, 0);
  for (int64_t i = 0; i < pieces * colours; i++) counts[i % colours] += partial[i];
}

}  // namespace

EXPORT(cut_patches)
EXPORT(pixel_error_forward)
EXPORT(pixel_error_backward)
EXPORT_REAL(count_colours)
