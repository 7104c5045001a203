// The readout of a memory: its features, and a sketch of every layer's states, see model/sketch.py.
#include "simd.h"

namespace {

constexpr int SIDE = 8;
constexpr int64_t ELEMENTS_PER_THREAD = 1 << 18;  // of states; fewer are read sooner than a thread is started

// readings[c][a] += sum_p u[p][c] sum_k state[p][k] v[k][a] over ROWS rows p of one head's state.
template <int ROWS, class T>
INLINE void read_rows(const T* state, int64_t N, const T* u, const T* v, Real<T> (*readings)[SIDE]) {
  Real<T> along[ROWS][SIDE] = {};
  for (int64_t k = 0; k < N; k++)
    for (int p = 0; p < ROWS; p++) {
      const Real<T> h = real(state[p * N + k]);
      SIMD for (int a = 0; a < SIDE; a++) along[p][a] += h * real(v[k * SIDE + a]);
    }
  for (int c = 0; c < SIDE; c++) {
    Real<T> sum[SIDE] = {};
    for (int p = 0; p < ROWS; p++) {
      const Real<T> sign = real(u[p * SIDE + c]);
      SIMD for (int a = 0; a < SIDE; a++) sum[a] += sign * along[p][a];
    }
    SIMD for (int a = 0; a < SIDE; a++) readings[c][a] += sum[a];
  }
}

// One layer of one row: state (blocks, heads, P, N), u (heads, P, 8), v (heads, N, 8), signs (blocks, heads, 8, 8).
template <class T>
void sketch_layer(const int64_t* shape, const T* state, const T* u, const T* v, const T* signs, T* out) {
  const int64_t blocks = shape[0], heads = shape[1], P = shape[2], N = shape[3];
  Real<T> total[SIDE][SIDE] = {};
  for (int64_t n = 0; n < blocks; n++)
    for (int64_t h = 0; h < heads; h++) {
      const T *ours = state + (n * heads + h) * P * N, *left = u + h * P * SIDE, *right = v + h * N * SIDE;
      Real<T> readings[SIDE][SIDE] = {};
      int64_t p = 0;
      for (; p + SIDE <= P; p += SIDE) read_rows<SIDE>(ours + p * N, N, left + p * SIDE, right, readings);
      for (; p < P; p++) read_rows<1>(ours + p * N, N, left + p * SIDE, right, readings);
      const T* sign = signs + (n * heads + h) * SIDE * SIDE;
      for (int c = 0; c < SIDE; c++)
        SIMD for (int a = 0; a < SIDE; a++) total[c][a] += real(sign[c * SIDE + a]) * readings[c][a];
    }
  const Real<T> scale = Real<T>(1) / std::sqrt(Real<T>(blocks * heads * P * N));
  for (int c = 0; c < SIDE; c++)
    SIMD for (int a = 0; a < SIDE; a++) {  // tanh(x) = 2 sigmoid(2 x) - 1
      store(out + c * SIDE + a, Real<T>(2) * sigmoid(Real<T>(2) * scale * total[c][a]) - Real<T>(1));
    }
}

// sizes: threads, rows, features, layers, then blocks, heads, P, N of each layer.
// pointers: out (rows, features + 64 layers), features (rows, features), then state, u, v, signs of each layer.
template <class T>
void readout(const int64_t* sizes, void* const* pointers) {
  const int64_t rows = sizes[1], features = sizes[2], layers = sizes[3], *shapes = sizes + 4;
  const int64_t width = features + layers * SIDE * SIDE;
  T* out = (T*)pointers[0];
  const T* given = (const T*)pointers[1];
  int64_t elements = 0;
  for (int64_t i = 0; i < layers; i++)
    elements += shapes[4 * i] * shapes[4 * i + 1] * shapes[4 * i + 2] * shapes[4 * i + 3];
  const int64_t useful = 1 + rows * elements / ELEMENTS_PER_THREAD;
  parallel_for(sizes[0] < useful ? sizes[0] : useful, rows, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      std::memcpy(out + row * width, given + row * features, features * sizeof(T));
      for (int64_t i = 0; i < layers; i++) {
        const int64_t* shape = shapes + 4 * i;
        const T* const* parts = (const T* const*)pointers + 2 + 4 * i;
        const int64_t size = shape[0] * shape[1] * shape[2] * shape[3];
        T* to = out + row * width + features + i * SIDE * SIDE;
        sketch_layer<T>(shape, parts[0] + row * size, parts[1], parts[2], parts[3], to);
      }
    }
  });
}

}  // namespace

EXPORT_REAL(readout)
