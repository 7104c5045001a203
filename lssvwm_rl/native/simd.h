// What all kernels share: numbers in bf16, and functions that vectorise.
//
// Kernels are templates over the type T in which activations are stored (float, double, bf16) and compute in Real<T>,
// which is float for bf16. Inner loops are plain loops marked `omp simd`, so any compiler makes vector code of them
// for any processor.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "threads.h"

#define SIMD _Pragma("omp simd")
#define SIMD_SUM(x) SIMD_SUM_(omp simd reduction(+ : x))
#define SIMD_MAX(x) SIMD_SUM_(omp simd reduction(max : x))
#define SIMD_SUM_(x) _Pragma(#x)
#define INLINE static inline __attribute__((always_inline))

struct bf16 {
  uint16_t bits;
};

template <class T> struct RealOf { using type = T; };
template <> struct RealOf<bf16> { using type = float; };
template <class T> using Real = typename RealOf<T>::type;

INLINE float real(float x) { return x; }
INLINE double real(double x) { return x; }
INLINE float real(bf16 x) {
  uint32_t bits = (uint32_t)x.bits << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
INLINE void store(float* to, float x) { *to = x; }
INLINE void store(double* to, double x) { *to = x; }
INLINE void store(bf16* to, float x) {  // to nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  to->bits = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// exp with a relative error of 2e-7, by Cephes' polynomial; 0 below -87.
INLINE float exp_(float x) {
  float clamped = x < -87.f ? -87.f : (x > 88.f ? 88.f : x);
  float shifted = clamped * 1.44269504f + 12582912.f;  // whose lowest bits are the rounded exponent
  int32_t exponent;
  std::memcpy(&exponent, &shifted, 4);
  exponent = (int32_t)((uint32_t)exponent << 23);
  float n = shifted - 12582912.f;
  float r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.f);
  int32_t bits;
  std::memcpy(&bits, &p, 4);
  bits += exponent;
  float value;
  std::memcpy(&value, &bits, 4);
  return x < -87.f ? 0.f : value;
}
INLINE double exp_(double x) { return std::exp(x); }

template <class R> INLINE R sigmoid(R x) { return R(1) / (R(1) + exp_(-x)); }
// log(1 + exp(x)): the float one by 2 atanh(u / (2 + u)), u = exp(-|x|), whose relative error stays small where dt is.
INLINE float softplus(float x) {
  float u = exp_(x < 0 ? x : -x), s = u / (2 + u), q = s * s;
  float series = 1 + q * (1 / 3.f + q * (1 / 5.f + q * (1 / 7.f + q * (1 / 9.f + q * (1 / 11.f + q * (1 / 13.f))))));
  return (x > 0 ? x : 0) + 2 * s * series;
}
INLINE double softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }  // threshold as torch's
// GELU with tanh: x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
template <class R> INLINE R gelu(R x) {
  return x * sigmoid(R(1.5957691216057308) * (x + R(0.044715) * x * x * x));
}

// 1 / sqrt(mean(x^2) + eps) over `count` numbers.
template <class T> INLINE Real<T> inverse_rms(const T* x, int64_t count) {
  Real<T> sum = 0;
  SIMD_SUM(sum) for (int64_t i = 0; i < count; i++) sum += real(x[i]) * real(x[i]);
  return Real<T>(1) / std::sqrt(sum / Real<T>(count) + Real<T>(1e-6));
}

// NAME_f32, NAME_f64 and NAME_bf16 of a template NAME<T>(sizes, pointers); NAME_f32 and NAME_f64 alone.
#define EXPORT_REAL(name) \
  extern "C" void name##_f32(const int64_t* sizes, void* const* pointers) { name<float>(sizes, pointers); } \
  extern "C" void name##_f64(const int64_t* sizes, void* const* pointers) { name<double>(sizes, pointers); }
#define EXPORT(name) \
  EXPORT_REAL(name) \
  extern "C" void name##_bf16(const int64_t* sizes, void* const* pointers) { name<bf16>(sizes, pointers); }
