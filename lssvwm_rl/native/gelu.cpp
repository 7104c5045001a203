// Bias and GELU (tanh) of a product's rows (rows, width) in T; the bias and its gradient are in Real<T>.
#include <algorithm>

#include "simd.h"

namespace {

constexpr int64_t PIECE = 64;  // rows whose gradients of the bias are one sum, on any number of threads

// pointers: product, bias -> activated.
template <class T> void bias_gelu_forward(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const int64_t width = sizes[2];
  const T* product = (const T*)pointers[0];
  const R* bias = (const R*)pointers[1];
  T* activated = (T*)pointers[2];
  parallel_for(threads_for(sizes[0], sizes[1] * width), sizes[1], [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const T* from = product + i * width;
      T* to = activated + i * width;
      SIMD for (int64_t j = 0; j < width; j++) store(to + j, gelu(real(from[j]) + bias[j]));
    }
  });
}

// pointers: product, bias, dactivated -> dproduct, dbias.
template <class T> void bias_gelu_backward(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const int64_t rows = sizes[1], width = sizes[2], pieces = (rows + PIECE - 1) / PIECE;
  const T *product = (const T*)pointers[0], *dactivated = (const T*)pointers[2];
  const R* bias = (const R*)pointers[1];
  T* dproduct = (T*)pointers[3];
  R* dbias = (R*)pointers[4];
  std::vector<R> partial(pieces * width, R(0));
  R* sums = partial.data();
  parallel_for(threads_for(sizes[0], rows * width), pieces, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin * PIECE; i < std::min(rows, end * PIECE); i++) {
      const T *from = product + i * width, *g = dactivated + i * width;
      T* to = dproduct + i * width;
      R* sum = sums + i / PIECE * width;
      SIMD for (int64_t j = 0; j < width; j++) {
        const R c = R(1.5957691216057308), a = R(0.044715), x = real(from[j]) + bias[j];
        const R s = sigmoid(c * (x + a * x * x * x));
        const R d = real(g[j]) * (s + x * s * (R(1) - s) * c * (R(1) + R(3) * a * x * x));
        sum[j] += d;
        store(to + j, d);
      }
    }
  });
  std::fill(dbias, dbias + width, R(0));
  for (int64_t i = 0; i < pieces; i++)
    for (int64_t j = 0; j < width; j++) dbias[j] += sums[i * width + j];
}

}  // namespace

EXPORT(bias_gelu_forward)
EXPORT(bias_gelu_backward)
