// The selective scan alone, of one or two streams: see chunk.h for the function and model/scan/ssd.py for its readable
// twin. Sequences are shared out among threads.
//
// Shapes: x, y (Z, T, S, K, H, P), dt (Z, T, S, K, H), A (H,), B and C (Z, T, S, K, N), states (Z, H, P, N); what is
// kept for the backward pass: the states before every chunk (Z, chunks, H, N, P).
#include "states.h"

namespace {

struct Sizes {
  int64_t threads, Z, T;
  Shape shape;
  explicit Sizes(const int64_t* s) : threads(s[0]), Z(s[1]), T(s[2]), shape{s[3], s[4], s[5], s[6], s[7], s[8]} {}
  int64_t length() const { return T * shape.K; }
  int64_t chunks() const { return (length() + shape.tokens - 1) / shape.tokens; }
};

// Where the tokens of a stream and a chunk are.
struct Rows {
  const Sizes& sizes;
  int64_t z, first, stream;
  int64_t operator()(int64_t i) const {
    int64_t K = sizes.shape.K, token = first + i, S = sizes.shape.streams;
    return ((z * sizes.T + token / K) * S + stream) * K + token % K;
  }
};

template <class R> struct Inputs {
  const R *x, *dt, *A, *B, *C;
};

template <class R> void load_tokens(const Sizes& sizes, const Inputs<R>& in, Rows rows, int64_t count, Stream<R>& s) {
  int64_t N = sizes.shape.N, H = sizes.shape.heads, wide = padded<R>(sizes.shape.tokens);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = rows(i);
    std::memcpy(s.B + i * N, in.B + row * N, sizeof(R) * (size_t)N);
    std::memcpy(s.C + i * N, in.C + row * N, sizeof(R) * (size_t)N);
    for (int64_t h = 0; h < H; h++) s.dt[h * wide + i] = in.dt[row * H + h];
  }
}

// One head's P numbers of every token: from (rows, H, P) to a padded buffer, or back.
template <class R> void load_head(const Sizes& sizes, const R* from, Rows rows, int64_t count, int64_t h, R* to) {
  int64_t P = sizes.shape.P, H = sizes.shape.heads;
  for (int64_t i = 0; i < count; i++) {
    const R* row = from + (rows(i) * H + h) * P;
    copy_rows(1, P, row, P, to + i * padded<R>(P), P);
  }
}

template <class R> void store_head(const Sizes& sizes, const R* from, Rows rows, int64_t count, int64_t h, R* to) {
  int64_t P = sizes.shape.P, H = sizes.shape.heads;
  for (int64_t i = 0; i < count; i++) {
    R* row = to + (rows(i) * H + h) * P;
    copy_rows(1, P, from + i * padded<R>(P), P, row, P);
  }
}

// Streams of a chunk with their place in the tensors: the last one is the clean one.
template <class R> struct Part {
  Stream<R>* stream;
  Rows rows;
};

template <class R> std::vector<Part<R>> parts_of(const Sizes& sizes, Chunk<R>& chunk, int64_t z, int64_t first) {
  if (!chunk.two()) return {{&chunk.clean, Rows{sizes, z, first, 0}}};
  return {{&chunk.noised, Rows{sizes, z, first, 0}}, {&chunk.clean, Rows{sizes, z, first, 1}}};
}

template <class R> void scan_forward(const int64_t* s, void* const* p) {
  const Sizes sizes(s);
  const Shape& shape = sizes.shape;
  const Inputs<R> in{(const R*)p[0], (const R*)p[1], (const R*)p[2], (const R*)p[3], (const R*)p[4]};
  const R* state = (const R*)p[5];
  R *y = (R*)p[6], *last = (R*)p[7], *kept = (R*)p[8];
  int64_t H = shape.heads, P = shape.P, N = shape.N, whole = H * P * N;
  parallel_for(sizes.threads, sizes.Z, [&](int64_t begin, int64_t end) {
    Chunk<R> chunk(shape, false);
    Buffer<R> states(H * chunk.state_size());
    for (int64_t z = begin; z < end; z++) {
      states_in(shape, state + z * whole, (R*)states);
      for (int64_t c = 0; c < sizes.chunks(); c++) {
        int64_t first = c * shape.tokens, count = std::min(shape.tokens, sizes.length() - first);
        auto parts = parts_of(sizes, chunk, z, first);
        for (auto& part : parts) load_tokens(sizes, in, part.rows, count, *part.stream);
        chunk.begin(count);
        for (int64_t h = 0; h < H; h++) {
          R* own = states + h * chunk.state_size();
          if (kept) copy_rows(N, P, own, chunk.wide_P, kept + (((z * sizes.chunks()) + c) * H + h) * N * P, P);
          for (auto& part : parts) load_head(sizes, in.x, part.rows, count, h, (R*)part.stream->x);
          chunk.forward(h, in.A[h], own);
          for (auto& part : parts) store_head(sizes, (const R*)part.stream->y, part.rows, count, h, y);
        }
      }
      states_out(shape, (const R*)states, last + z * whole);
    }
  });
}

// Gradients that leave: of x, dt, B and C as these, of A per sequence (Z, H).
template <class R> struct Gradients {
  R *x, *dt, *A, *B, *C;
};

template <class R>
void store_tokens(const Sizes& sizes, const Gradients<R>& out, Rows rows, int64_t count, Stream<R>& s) {
  int64_t N = sizes.shape.N, H = sizes.shape.heads, wide = padded<R>(sizes.shape.tokens);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = rows(i);
    std::memcpy(out.B + row * N, s.dB + i * N, sizeof(R) * (size_t)N);
    std::memcpy(out.C + row * N, s.dC + i * N, sizeof(R) * (size_t)N);
    for (int64_t h = 0; h < H; h++) out.dt[row * H + h] = s.ddt[h * wide + i];
  }
}

template <class R> void scan_backward(const int64_t* s, void* const* p) {
  const Sizes sizes(s);
  const Shape& shape = sizes.shape;
  const Inputs<R> in{(const R*)p[0], (const R*)p[1], (const R*)p[2], (const R*)p[3], (const R*)p[4]};
  const R *y = (const R*)p[5], *last = (const R*)p[6], *kept = (const R*)p[7];
  const R *dy = (const R*)p[8], *dlast = (const R*)p[9];
  const Gradients<R> out{(R*)p[10], (R*)p[11], (R*)p[12], (R*)p[13], (R*)p[14]};
  R* dstate = (R*)p[15];
  int64_t H = shape.heads, P = shape.P, N = shape.N, whole = H * P * N;
  parallel_for(sizes.threads, sizes.Z, [&](int64_t begin, int64_t end) {
    Chunk<R> chunk(shape, true);
    Buffer<R> G(H * chunk.state_size()), before(chunk.state_size()), tails(H);
    for (int64_t z = begin; z < end; z++) {
      R* dA = out.A + z * H;
      const R* own_dlast = dlast ? dlast + z * whole : nullptr;
      std::fill(dA, dA + H, R(0));
      states_in(shape, own_dlast, (R*)G);
      tails_in(shape, own_dlast, last + z * whole, (R*)tails);
      for (int64_t c = sizes.chunks() - 1; c >= 0; c--) {
        int64_t first = c * shape.tokens, count = std::min(shape.tokens, sizes.length() - first);
        auto parts = parts_of(sizes, chunk, z, first);
        for (auto& part : parts) load_tokens(sizes, in, part.rows, count, *part.stream);
        chunk.begin(count);
        chunk.begin_backward();
        for (int64_t h = 0; h < H; h++) {
          const R* own = padded_state(shape, kept + ((z * sizes.chunks() + c) * H + h) * N * P, (R*)before);
          for (auto& part : parts) {
            load_head(sizes, in.x, part.rows, count, h, (R*)part.stream->x);
            load_head(sizes, y, part.rows, count, h, (R*)part.stream->y);
            load_head(sizes, dy, part.rows, count, h, (R*)part.stream->dy);
            std::memset(part.stream->dx.start, 0, sizeof(R) * (size_t)(count * chunk.wide_P));
          }
          chunk.backward(h, in.A[h], own, G + h * chunk.state_size(), tails[h], dA[h]);
          for (auto& part : parts) store_head(sizes, (const R*)part.stream->dx, part.rows, count, h, out.x);
        }
        chunk.finish();
        for (auto& part : parts) store_tokens(sizes, out, part.rows, count, *part.stream);
      }
      states_out(shape, (const R*)G, dstate + z * whole);
    }
  });
}

}  // namespace

EXPORT_REAL(scan_forward)
EXPORT_REAL(scan_backward)
