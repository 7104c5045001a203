// All that lies between the two projections of a scan layer (model/scan/block.py), forward and backward, in one pass
// over the projected tokens: cutting the grid into blocks, addresses, norms, step sizes, the scan, skip and gate.
//
// Projected tokens are rows (batch, T, S, h, w, W) of gate (H P), x (H P), B (N), C (N) and dt (H), in T; so are their
// gradients. Outputs are rows of H P. Numbers of parameters and states are Real<T>. A sequence is a block of a row of
// the batch; sequences are shared out among threads.
#include "states.h"

namespace {

struct Sizes {
  int64_t threads, batch, T, S, h, w, block_h, block_w, H, P, N, tokens;
  explicit Sizes(const int64_t* s)
      : threads(s[0]), batch(s[1]), T(s[2]), S(s[3]), h(s[4]), w(s[5]), block_h(s[6]), block_w(s[7]), H(s[8]), P(s[9]),
        N(s[10]), tokens(s[11]) {}
  int64_t K() const { return block_h * block_w; }
  int64_t blocks() const { return h * w / K(); }
  int64_t sequences() const { return batch * blocks(); }
  int64_t length() const { return T * K(); }
  int64_t chunks() const { return (length() + tokens - 1) / tokens; }
  int64_t inner() const { return H * P; }
  int64_t width() const { return 2 * inner() + 2 * N + H; }
  Shape shape() const { return {S, K(), H, P, N, tokens}; }
};

template <class R> struct Parameters {
  const R *place, *B_weight, *C_weight, *dt_bias, *A, *y_weight, *D;  // place (batch, T, N) or null
};

// Sums over a sequence that become parameters' gradients, one behind the other.
template <class R> struct Sums {
  R *A, *dt_bias, *D, *y_weight, *B_weight, *C_weight;
  static int64_t count(const Sizes& s) { return 3 * s.H + s.inner() + 2 * s.N; }
  Sums(const Sizes& s, R* start)
      : A(start), dt_bias(A + s.H), D(dt_bias + s.H), y_weight(D + s.H), B_weight(y_weight + s.inner()),
        C_weight(B_weight + s.N) {}
};

// One stream of a chunk: where its tokens are, and what the backward pass needs of their norms.
template <class R> struct Part {
  Stream<R>* stream;
  int64_t index;
  std::vector<int64_t> row, frame;  // of projected tokens, and of (batch, T)
  Buffer<R> B, C, B_scale, C_scale, logit;  // before the norms, 1 / rms, and softplus' argument (H, tokens)
};

// A sequence's chunks, one after the other.
template <class T> struct Mixer {
  using R = Real<T>;
  const Sizes& sizes;
  const T* projected;
  Parameters<R> parameters;
  Chunk<R> chunk;
  std::vector<Part<R>> parts;
  int64_t wide, count = 0;

  Mixer(const Sizes& s, const T* projected_, Parameters<R> p, bool backward)
      : sizes(s), projected(projected_), parameters(p), chunk(s.shape(), backward), wide(chunk.wide_tokens) {
    for (int64_t i = 0; i < s.S; i++) {
      Part<R> part;
      part.stream = i + 1 == s.S ? &chunk.clean : &chunk.noised, part.index = i;
      part.row.resize((size_t)s.tokens), part.frame.resize((size_t)s.tokens);
      for (Buffer<R>* b : {&part.B, &part.C}) *b = Buffer<R>(s.tokens * s.N);
      for (Buffer<R>* b : {&part.B_scale, &part.C_scale}) *b = Buffer<R>(s.tokens);
      part.logit = Buffer<R>(s.H * wide);
      parts.push_back(std::move(part));
    }
  }

  const T* row_of(const Part<R>& part, int64_t i) const { return projected + part.row[(size_t)i] * sizes.width(); }

  // Chunk `c` of sequence `z`: all but x.
  void load(int64_t z, int64_t c) {
    count = std::min(sizes.tokens, sizes.length() - c * sizes.tokens);
    for (auto& part : parts) {
      locate(part, z, c * sizes.tokens);
      for (int64_t i = 0; i < count; i++) load_token(part, i);
      R *dt = part.stream->dt, *logit = part.logit;
      int64_t all = sizes.H * wide;
      SIMD for (int64_t i = 0; i < all; i++) dt[i] = softplus(logit[i]);
    }
    chunk.begin(count);
  }

  void locate(Part<R>& part, int64_t z, int64_t first) {
    int64_t across = sizes.w / sizes.block_w, b = z / sizes.blocks(), block = z % sizes.blocks();
    int64_t top = block / across * sizes.block_h, left = block % across * sizes.block_w;
    for (int64_t i = 0; i < count; i++) {
      int64_t t = (first + i) / sizes.K(), k = (first + i) % sizes.K();
      int64_t frame = part.frame[(size_t)i] = b * sizes.T + t;
      int64_t y = top + k / sizes.block_w, x = left + k % sizes.block_w;
      part.row[(size_t)i] = ((frame * sizes.S + part.index) * sizes.h + y) * sizes.w + x;
    }
  }

  void load_token(Part<R>& part, int64_t i) {
    int64_t N = sizes.N, H = sizes.H;
    const T* row = row_of(part, i) + 2 * sizes.inner();
    const R* place = parameters.place ? parameters.place + part.frame[(size_t)i] * N : nullptr;
    part.B_scale[i] = norm(row, place, parameters.B_weight, part.B + i * N, part.stream->B + i * N);
    part.C_scale[i] = norm(row + N, place, parameters.C_weight, part.C + i * N, part.stream->C + i * N);
    for (int64_t h = 0; h < H; h++) part.logit[h * wide + i] = real(row[2 * N + h]) + parameters.dt_bias[h];
  }

  R norm(const T* from, const R* place, const R* weight, R* raw, R* to) const {
    SIMD for (int64_t n = 0; n < sizes.N; n++) raw[n] = real(from[n]);
    if (place) SIMD for (int64_t n = 0; n < sizes.N; n++) raw[n] += place[n];
    R scale = inverse_rms(raw, sizes.N);
    SIMD for (int64_t n = 0; n < sizes.N; n++) to[n] = raw[n] * scale * weight[n];
    return scale;
  }

  void load_x(int64_t h) {
    for (auto& part : parts)
      for (int64_t i = 0; i < count; i++) {
        const T* from = row_of(part, i) + sizes.inner() + h * sizes.P;
        R* x = part.stream->x + i * chunk.wide_P;
        SIMD for (int64_t p = 0; p < sizes.P; p++) x[p] = real(from[p]);
      }
  }

  // (rms norm of y + D x) silu(gate)
  void leave(int64_t h, T* out) const {
    int64_t P = sizes.P;
    const R *weight = parameters.y_weight + h * P, D = parameters.D[h];
    for (auto& part : parts)
      for (int64_t i = 0; i < count; i++) {
        const T* gate = row_of(part, i) + h * P;
        const R *y = part.stream->y + i * chunk.wide_P, *x = part.stream->x + i * chunk.wide_P;
        T* to = out + part.row[(size_t)i] * sizes.inner() + h * P;
        R scale = inverse_rms(y, P);
        SIMD for (int64_t p = 0; p < P; p++) {
          R g = real(gate[p]);
          store(to + p, (y[p] * scale * weight[p] + D * x[p]) * g * sigmoid(g));
        }
      }
  }

  // The gradient of `leave`: into dy, a part of dx, the gate's rows and sums.
  void enter(int64_t h, const T* dout, T* dprojected, Sums<R>& sums) {
    int64_t P = sizes.P;
    const R *weight = parameters.y_weight + h * P, D = parameters.D[h];
    for (auto& part : parts)
      for (int64_t i = 0; i < count; i++) {
        int64_t row = part.row[(size_t)i];
        const T *gate = row_of(part, i) + h * P, *from = dout + row * sizes.inner() + h * P;
        T* dgate = dprojected + row * sizes.width() + h * P;
        const R *y = part.stream->y + i * chunk.wide_P, *x = part.stream->x + i * chunk.wide_P;
        R *dy = part.stream->dy + i * chunk.wide_P, *dx = part.stream->dx + i * chunk.wide_P;
        R scale = inverse_rms(y, P), skip = 0, along = 0, *dweight = sums.y_weight + h * P;
#pragma omp simd reduction(+ : skip, along)
        for (int64_t p = 0; p < P; p++) {
          R g = real(gate[p]), s = sigmoid(g), d = real(from[p]), normed = y[p] * scale;
          R value = normed * weight[p] + D * x[p], dvalue = d * g * s;
          store(dgate + p, d * value * s * (1 + g * (1 - s)));
          skip += dvalue * x[p];
          dweight[p] += dvalue * normed;
          dx[p] = dvalue * D;
          dy[p] = dvalue * weight[p];
          along += dy[p] * y[p];
        }
        sums.D[h] += skip;
        R back = along * scale * scale / R(P);
        SIMD for (int64_t p = 0; p < P; p++) dy[p] = scale * (dy[p] - back * y[p]);
      }
  }

  void store_dx(int64_t h, T* dprojected) const {
    for (auto& part : parts)
      for (int64_t i = 0; i < count; i++) {
        const R* dx = part.stream->dx + i * chunk.wide_P;
        T* to = dprojected + part.row[(size_t)i] * sizes.width() + sizes.inner() + h * sizes.P;
        SIMD for (int64_t p = 0; p < sizes.P; p++) store(to + p, dx[p]);
      }
  }

  // The gradient of `load`, after the last head; dplace (T, N) of the sequence or null.
  void unload(int64_t z, T* dprojected, R* dplace, Sums<R>& sums) {
    int64_t N = sizes.N, H = sizes.H, first = z / sizes.blocks() * sizes.T;
    for (auto& part : parts)
      for (int64_t i = 0; i < count; i++) {
        T* row = dprojected + part.row[(size_t)i] * sizes.width() + 2 * sizes.inner();
        R* dp = dplace ? dplace + (part.frame[(size_t)i] - first) * N : nullptr;
        Stream<R>& s = *part.stream;
        unnorm(part.B + i * N, part.B_scale[i], parameters.B_weight, s.dB + i * N, sums.B_weight, row, dp);
        unnorm(part.C + i * N, part.C_scale[i], parameters.C_weight, s.dC + i * N, sums.C_weight, row + N, dp);
        for (int64_t h = 0; h < H; h++) {
          R d = s.ddt[h * wide + i] * sigmoid(part.logit[h * wide + i]);
          sums.dt_bias[h] += d;
          store(row + 2 * N + h, d);
        }
      }
  }

  void unnorm(const R* raw, R scale, const R* weight, R* d, R* dweight, T* to, R* dplace) const {
    R along = 0;
    SIMD_SUM(along) for (int64_t n = 0; n < sizes.N; n++) {
      dweight[n] += d[n] * raw[n] * scale;
      d[n] *= weight[n];
      along += d[n] * raw[n];
    }
    along *= scale * scale / R(sizes.N);
    SIMD for (int64_t n = 0; n < sizes.N; n++) d[n] = scale * (d[n] - along * raw[n]);
    SIMD for (int64_t n = 0; n < sizes.N; n++) store(to + n, d[n]);
    if (dplace) SIMD for (int64_t n = 0; n < sizes.N; n++) dplace[n] += d[n];
  }
};

template <class R> Parameters<R> parameters_of(void* const* p) {
  return {(const R*)p[0], (const R*)p[1], (const R*)p[2], (const R*)p[3],
          (const R*)p[4], (const R*)p[5], (const R*)p[6]};
}

// Null if not to be kept: states before every chunk (sequences, chunks, H, N, P), y (sequences, chunks, H, S, tokens, P).
template <class R> struct Kept { R *states, *y; };

template <class T> void mix_forward(const int64_t* s, void* const* p) {
  using R = Real<T>;
  const Sizes sizes(s);
  const Shape shape = sizes.shape();
  const T* projected = (const T*)p[0];
  const auto parameters = parameters_of<R>(p + 1);
  const R* state = (const R*)p[8];
  T* out = (T*)p[9];
  R* last = (R*)p[10];
  const Kept<R> kept{(R*)p[11], (R*)p[12]};
  int64_t H = sizes.H, P = sizes.P, N = sizes.N;
  parallel_for(sizes.threads, sizes.sequences(), [&](int64_t begin, int64_t end) {
    Mixer<T> mixer(sizes, projected, parameters, false);
    Chunk<R>& chunk = mixer.chunk;
    Buffer<R> states(H * chunk.state_size());
    for (int64_t z = begin; z < end; z++) {
      states_in(shape, state + z * H * P * N, (R*)states);
      for (int64_t c = 0; c < sizes.chunks(); c++) {
        mixer.load(z, c);
        for (int64_t h = 0; h < H; h++) {
          R* own = states + h * chunk.state_size();
          int64_t index = (z * sizes.chunks() + c) * H + h;
          if (kept.states) copy_rows(N, P, own, chunk.wide_P, kept.states + index * N * P, P);
          mixer.load_x(h);
          chunk.forward(h, parameters.A[h], own);
          mixer.leave(h, out);
          if (!kept.y) continue;
          for (auto& part : mixer.parts)
            copy_rows(mixer.count, P, (const R*)part.stream->y, chunk.wide_P,
                      kept.y + (index * sizes.S + part.index) * sizes.tokens * P, P);
        }
      }
      states_out(shape, (const R*)states, last + z * H * P * N);
    }
  });
}

template <class T> struct Backward {
  using R = Real<T>;
  const T *dout;
  const R *dlast, *last;
  T* dprojected;
  R *dplace, *sums, *dstate;  // dplace (sequences, T, N) or null, sums (sequences, Sums::count)
};

// One sequence, from its last chunk to its first.
template <class T>
void backward_sequence(int64_t z, Mixer<T>& mixer, const Kept<Real<T>>& kept, const Backward<T>& to,
                       Buffer<Real<T>>& G, Buffer<Real<T>>& before, Buffer<Real<T>>& tails) {
  using R = Real<T>;
  const Sizes& sizes = mixer.sizes;
  const Shape shape = sizes.shape();
  Chunk<R>& chunk = mixer.chunk;
  int64_t H = sizes.H, P = sizes.P, N = sizes.N, whole = H * P * N;
  R *sum = to.sums + z * Sums<R>::count(sizes), *dplace = to.dplace ? to.dplace + z * sizes.T * N : nullptr;
  std::fill(sum, sum + Sums<R>::count(sizes), R(0));
  if (dplace) std::fill(dplace, dplace + sizes.T * N, R(0));
  Sums<R> sums(sizes, sum);
  const R* dlast = to.dlast ? to.dlast + z * whole : nullptr;
  states_in(shape, dlast, (R*)G);
  tails_in(shape, dlast, to.last + z * whole, (R*)tails);
  for (int64_t c = sizes.chunks() - 1; c >= 0; c--) {
    mixer.load(z, c);
    chunk.begin_backward();
    for (int64_t h = 0; h < H; h++) {
      int64_t index = (z * sizes.chunks() + c) * H + h;
      const R* own = padded_state(shape, kept.states + index * N * P, (R*)before);
      mixer.load_x(h);
      for (auto& part : mixer.parts)
        copy_rows(mixer.count, P, kept.y + (index * sizes.S + part.index) * sizes.tokens * P, P, (R*)part.stream->y,
                  chunk.wide_P);
      mixer.enter(h, to.dout, to.dprojected, sums);
      chunk.backward(h, mixer.parameters.A[h], own, G + h * chunk.state_size(), tails[h], sums.A[h]);
      mixer.store_dx(h, to.dprojected);
    }
    chunk.finish();
    mixer.unload(z, to.dprojected, dplace, sums);
  }
  states_out(shape, (const R*)G, to.dstate + z * whole);
}

// (sequences, count) -> (count,) in the order of sequences.
template <class R> void add_sums(const Sizes& sizes, const R* parts, R* to) {
  int64_t count = Sums<R>::count(sizes);
  for (int64_t i = 0; i < count; i++) {
    double sum = 0;
    for (int64_t z = 0; z < sizes.sequences(); z++) sum += (double)parts[z * count + i];
    to[i] = (R)sum;
  }
}

// (batch, blocks, T, N) -> (batch, T, N)
template <class R> void add_places(const Sizes& sizes, const R* parts, R* to) {
  int64_t size = sizes.T * sizes.N;
  for (int64_t b = 0; b < sizes.batch; b++)
    for (int64_t i = 0; i < size; i++) {
      R sum = 0;
      for (int64_t block = 0; block < sizes.blocks(); block++) sum += parts[(b * sizes.blocks() + block) * size + i];
      to[b * size + i] = sum;
    }
}

template <class T> void mix_backward(const int64_t* s, void* const* p) {
  using R = Real<T>;
  const Sizes sizes(s);
  const T* projected = (const T*)p[0];
  const auto parameters = parameters_of<R>(p + 1);
  const R* last = (const R*)p[8];
  const Kept<R> kept{(R*)p[9], (R*)p[10]};
  Buffer<R> sums(sizes.sequences() * Sums<R>::count(sizes));
  Buffer<R> places(parameters.place ? sizes.sequences() * sizes.T * sizes.N : 0);
  const Backward<T> to{(const T*)p[11], (const R*)p[12],  last, (T*)p[13], parameters.place ? (R*)places : nullptr,
                       (R*)sums,        (R*)p[16]};
  parallel_for(sizes.threads, sizes.sequences(), [&](int64_t begin, int64_t end) {
    Mixer<T> mixer(sizes, projected, parameters, true);
    Buffer<R> G(sizes.H * mixer.chunk.state_size()), before(mixer.chunk.state_size()), tails(sizes.H);
    for (int64_t z = begin; z < end; z++) backward_sequence(z, mixer, kept, to, G, before, tails);
  });
  if (parameters.place) add_places(sizes, (const R*)places, (R*)p[14]);
  add_sums(sizes, (const R*)sums, (R*)p[15]);
}

}  // namespace

EXPORT(mix_forward)
EXPORT(mix_backward)
