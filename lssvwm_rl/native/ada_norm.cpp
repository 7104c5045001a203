// What lies between the products of a layer: gated residuals, and layer norms that the condition scales and shifts.
//
// Tokens (F, n, D) of F frames are in Real<T>; what products give and take, and the condition's share (F, 3 D or less),
// are in T. The share's rows lie `stride` numbers apart: it is a part of wider rows.
#include <algorithm>

#include "simd.h"

namespace {

struct Sizes {
  int64_t threads, frames, n, width, stride, gated;
};

Sizes read_sizes(const int64_t* s) {
  return {threads_for(s[0], s[1] * s[2] * s[3]), s[1], s[2], s[3], s[4], s[5]};
}

// Mean of a row, and 1 over its deviation.
template <class R> INLINE void moments(const R* x, int64_t width, R* mean, R* inverse) {
  R sum = 0, squares = 0;
  SIMD_SUM(sum) for (int64_t i = 0; i < width; i++) sum += x[i];
  R m = sum / R(width);
  SIMD_SUM(squares) for (int64_t i = 0; i < width; i++) squares += (x[i] - m) * (x[i] - m);
  *mean = m;
  *inverse = R(1) / std::sqrt(squares / R(width) + R(1e-6));
}

// pointers: tokens, mixed, share [gate], shift, scale -> sum = tokens + gate * mixed, normed, moments of every token.
template <class T> void ada_norm_forward(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const Sizes d = read_sizes(sizes);
  const R* tokens = (const R*)pointers[0];
  const T *mixed = (const T*)pointers[1], *share = (const T*)pointers[2];
  R *sum = (R*)pointers[3], *saved = (R*)pointers[5];
  T* normed = (T*)pointers[4];
  const int64_t D = d.width;
  parallel_for(d.threads, d.frames, [=](int64_t begin, int64_t end) {
    for (int64_t f = begin; f < end; f++) {
      const T *gate = share + f * d.stride, *shift = gate + (d.gated ? D : 0), *scale = shift + D;
      for (int64_t i = f * d.n; i < (f + 1) * d.n; i++) {
        const R* x = tokens + i * D;
        if (d.gated) {
          const T* m = mixed + i * D;
          R* to = sum + i * D;
          SIMD for (int64_t j = 0; j < D; j++) to[j] = x[j] + real(gate[j]) * real(m[j]);
          x = to;
        }
        R mean, inverse;
        moments(x, D, &mean, &inverse);
        saved[2 * i] = mean, saved[2 * i + 1] = inverse;
        T* to = normed + i * D;
        SIMD for (int64_t j = 0; j < D; j++)
          store(to + j, (x[j] - mean) * inverse * (R(1) + real(scale[j])) + real(shift[j]));
      }
    }
  });
}

// pointers: sum, mixed, share, moments, dsum (or null), dnormed -> dtokens, dmixed, dshare (F, 3 D or 2 D).
template <class T> void ada_norm_backward(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const Sizes d = read_sizes(sizes);
  const R *sum = (const R*)pointers[0], *saved = (const R*)pointers[3], *dsum = (const R*)pointers[4];
  const T *mixed = (const T*)pointers[1], *share = (const T*)pointers[2], *dnormed = (const T*)pointers[5];
  R* dtokens = (R*)pointers[6];
  T *dmixed = (T*)pointers[7], *dshare = (T*)pointers[8];
  const int64_t D = d.width, parts = d.gated ? 3 : 2;
  parallel_for(d.threads, d.frames, [=](int64_t begin, int64_t end) {
    std::vector<R> sums(3 * D), scaled(D);
    R *dgate = sums.data(), *dshift = dgate + D, *dscale = dshift + D, *q = scaled.data();
    for (int64_t f = begin; f < end; f++) {
      const T *gate = share + f * d.stride, *scale = gate + (parts - 1) * D;
      std::fill(sums.begin(), sums.end(), R(0));
      for (int64_t i = f * d.n; i < (f + 1) * d.n; i++) {
        const R *x = sum + i * D, *above = dsum ? dsum + i * D : nullptr;
        const R mean = saved[2 * i], inverse = saved[2 * i + 1];
        const T* g = dnormed + i * D;
        R* to = dtokens + i * D;
        R mean_q = 0, mean_qx = 0;
        _Pragma("omp simd reduction(+ : mean_q, mean_qx)") for (int64_t j = 0; j < D; j++) {
          R normal = (x[j] - mean) * inverse, gj = real(g[j]), qj = gj * (R(1) + real(scale[j]));
          dshift[j] += gj;
          dscale[j] += gj * normal;
          q[j] = qj;
          mean_q += qj;
          mean_qx += qj * normal;
        }
        mean_q /= R(D), mean_qx /= R(D);
        SIMD for (int64_t j = 0; j < D; j++) {
          to[j] = inverse * (q[j] - mean_q - (x[j] - mean) * inverse * mean_qx);
        }
        if (above) SIMD for (int64_t j = 0; j < D; j++) to[j] += above[j];
        if (d.gated) {
          const T* m = mixed + i * D;
          T* dm = dmixed + i * D;
          SIMD for (int64_t j = 0; j < D; j++) {
            dgate[j] += to[j] * real(m[j]);
            store(dm + j, to[j] * real(gate[j]));
          }
        }
      }
      const R* from = d.gated ? dgate : dshift;
      SIMD for (int64_t j = 0; j < parts * D; j++) store(dshare + f * parts * D + j, from[j]);
    }
  });
}

// pointers: tokens, mixed, gate -> sum.
template <class T> void gated_sum_forward(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const Sizes d = read_sizes(sizes);
  const R* tokens = (const R*)pointers[0];
  const T *mixed = (const T*)pointers[1], *gates = (const T*)pointers[2];
  R* sum = (R*)pointers[3];
  const int64_t D = d.width;
  parallel_for(d.threads, d.frames, [=](int64_t begin, int64_t end) {
    for (int64_t f = begin; f < end; f++)
      for (int64_t i = f * d.n; i < (f + 1) * d.n; i++) {
        const T *gate = gates + f * d.stride, *m = mixed + i * D;
        const R* x = tokens + i * D;
        R* to = sum + i * D;
        SIMD for (int64_t j = 0; j < D; j++) to[j] = x[j] + real(gate[j]) * real(m[j]);
      }
  });
}

// pointers: mixed, gate, dsum -> dmixed, dgate (F, D).
template <class T> void gated_sum_backward(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const Sizes d = read_sizes(sizes);
  const T *mixed = (const T*)pointers[0], *gates = (const T*)pointers[1];
  const R* dsum = (const R*)pointers[2];
  T *dmixed = (T*)pointers[3], *dgates = (T*)pointers[4];
  const int64_t D = d.width;
  parallel_for(d.threads, d.frames, [=](int64_t begin, int64_t end) {
    std::vector<R> dgate(D);
    R* total = dgate.data();
    for (int64_t f = begin; f < end; f++) {
      const T* gate = gates + f * d.stride;
      std::fill(dgate.begin(), dgate.end(), R(0));
      for (int64_t i = f * d.n; i < (f + 1) * d.n; i++) {
        const R* g = dsum + i * D;
        const T* m = mixed + i * D;
        T* dm = dmixed + i * D;
        SIMD for (int64_t j = 0; j < D; j++) {
          total[j] += g[j] * real(m[j]);
          store(dm + j, g[j] * real(gate[j]));
        }
      }
      SIMD for (int64_t j = 0; j < D; j++) store(dgates + f * D + j, total[j]);
    }
  });
}

}  // namespace

EXPORT(ada_norm_forward)
EXPORT(ada_norm_backward)
EXPORT(gated_sum_forward)
EXPORT(gated_sum_backward)
