// One chunk of a selective scan, forward and backward: what scan.cpp and mix.cpp have in common.
//
// Per head, with the state h (N, P), a token's write w = dt x and its log decay dt A summed up since the chunk's start, r
// where a token reads and d where it writes:
//
//     y_i   = exp(r_i) h C_i + sum_j [j visible to i] exp(r_i - d_j) (C_i . B_j) w_j
//     h_end = exp(d_last) h  + sum_j exp(d_last - d_j) B_j w_j^T
//
// so that all that touches a state is a product of matrices in the caches. There are one or two streams. A clean token
// sees the clean tokens up to itself. A noised one sees the clean tokens of earlier frames, and its own frame's noised
// ones up to itself. All matrices are over tokens of one stream, so there are three kinds of pairs of reads and writes.
// Vectors go over P or over tokens, which are padded; what padding holds is never read as a number of another column.
#pragma once
#include "tile.h"

namespace {

enum Kind { CAUSAL, BEFORE, OWN, KINDS };

struct Shape {
  int64_t streams, K, heads, P, N, tokens;  // K tokens per frame; tokens of a stream in a chunk
};

template <class R> struct Stream {
  Buffer<R> B, C, CT;              // (tokens, N) twice and (N, tokens)
  Buffer<R> dt;                    // (heads, tokens)
  Buffer<R> x, w, y;               // (tokens, P), of one head
  Buffer<R> decay, read, start;    // (tokens,): logs since the stream's and since the chunk's start, exp of the latter
  Buffer<R> dy, dy_start, dyT;     // gradient of y, it times start, and (P, tokens)
  Buffer<R> dw, dx;                // (tokens, P); dx may hold a part of the gradient before
  Buffer<R> ddt;                   // (heads, tokens)
  Buffer<R> dBT, dCT, dB, dC;      // (N, tokens) and (tokens, N), sums over heads
};

template <class R> struct Chunk {
  Shape shape;
  int64_t count = 0;  // tokens of a stream that are there
  int64_t wide_P, wide_tokens;
  Stream<R> clean, noised;
  Buffer<R> scores[KINDS], dscores[KINDS];  // (writes, reads): B_j . C_i
  Buffer<R> pair, weight, product;          // likewise, of one head
  Buffer<R> to_end, wT, step;
  R kept = 0;

  Chunk(Shape s, bool backward) : shape(s), wide_P(padded<R>(s.P)), wide_tokens(padded<R>(s.tokens)) {
    allocate(clean, backward);
    if (two()) allocate(noised, backward);
    int64_t square = s.tokens * wide_tokens;
    for (int kind = 0; kind < (two() ? KINDS : 1); kind++) {
      scores[kind] = Buffer<R>(square);
      if (backward) dscores[kind] = Buffer<R>(wide_tokens * wide_tokens);
    }
    pair = Buffer<R>(square), weight = Buffer<R>(square), to_end = Buffer<R>(wide_tokens);
    if (backward) {
      product = Buffer<R>(wide_tokens * wide_tokens), step = Buffer<R>(wide_tokens);
      wT = Buffer<R>(s.P * wide_tokens);
    }
  }

  bool two() const { return shape.streams == 2; }
  int64_t state_size() const { return shape.N * wide_P; }

  // What does not depend on the head, from B and C of the streams.
  void begin(int64_t tokens) {
    count = tokens;
    transpose(count, shape.N, (const R*)clean.C, shape.N, (R*)clean.CT, wide_tokens);
    if (two()) transpose(count, shape.N, (const R*)noised.C, shape.N, (R*)noised.CT, wide_tokens);
    for (int kind = 0; kind < (two() ? KINDS : 1); kind++)
      multiply<R>(count, padded<R>(count), shape.N, {writes(kind).B, shape.N, 1}, reads(kind).CT, wide_tokens,
                  {scores[kind], wide_tokens});
  }

  // y of both streams from x and dt, and the state (N, P) after the chunk.
  void forward(int64_t head, R A, R* state) {
    decays(head, A);
    carried(clean, state);
    if (two()) carried(noised, state);
    for (int kind = 0; kind < (two() ? KINDS : 1); kind++) {
      weigh(kind);
      add_visible(kind);
    }
    for (int64_t j = 0; j < count; j++) {
      R factor = to_end[j], *w = clean.w + j * wide_P;
      SIMD for (int64_t p = 0; p < wide_P; p++) w[p] *= factor;
    }
    multiply<R>(shape.N, wide_P, count, {clean.B, 1, shape.N}, clean.w, wide_P, {state, wide_P, kept});
  }

  // Before the first head of a backward pass.
  void begin_backward() {
    for (int kind = 0; kind < (two() ? KINDS : 1); kind++)
      std::memset(dscores[kind].start, 0, sizeof(R) * (size_t)(wide_tokens * wide_tokens));
    size_t size = sizeof(R) * (size_t)(shape.N * wide_tokens);
    for (Stream<R>* s : {&clean, &noised})
      if (s == &clean || two()) std::memset(s->dBT.start, 0, size), std::memset(s->dCT.start, 0, size);
  }

  // From dy, y, x and dt of the streams: adds to dB, dC and dx, sets ddt. `state` is the one before the chunk, `G` the
  // gradient of the one after it and then of the one before it, `tail` the sum of G times the state it belongs to.
  void backward(int64_t head, R A, const R* state, R* G, R& tail, R& dA) {
    decays(head, A);
    through_states(clean, state);
    if (two()) through_states(noised, state);
    transpose(count, shape.P, (const R*)clean.w, wide_P, (R*)wT, wide_tokens);
    int64_t wide = padded<R>(count);
    multiply<R>(shape.N, wide, shape.P, {G, wide_P, 1}, wT, wide_tokens, {clean.dBT, wide_tokens, 1, nullptr, to_end});
    multiply<R>(count, wide_P, shape.N, {clean.B, shape.N, 1}, G, wide_P, {clean.dw, wide_P, 0, to_end});
    if (two()) std::memset(noised.dw.start, 0, sizeof(R) * (size_t)(count * wide_P));
    for (int kind = 0; kind < (two() ? KINDS : 1); kind++) {
      weigh(kind);
      through_pairs(kind);
    }
    multiply<R>(shape.N, wide_P, count, {clean.C, 1, shape.N}, clean.dy_start, wide_P, {G, wide_P, kept});
    if (two()) multiply<R>(shape.N, wide_P, count, {noised.C, 1, shape.N}, noised.dy_start, wide_P, {G, wide_P, 1});
    through_decays(head, A, tail, dA);
    tail = dot<R>(G, state, state_size());
  }

  // After the last head: what went through the scores into dB and dC, which are complete then, (tokens, N).
  void finish() {
    int64_t wide = padded<R>(count), N = shape.N;
    for (int kind = 0; kind < (two() ? KINDS : 1); kind++) {
      Stream<R>&reads = this->reads(kind), &writes = this->writes(kind);
      const R* gradient = dscores[kind];
      multiply<R>(N, wide, count, {writes.B, 1, N}, gradient, wide_tokens, {reads.dCT, wide_tokens, 1});
      transpose(count, count, gradient, wide_tokens, (R*)product, wide_tokens);
      multiply<R>(N, wide, count, {reads.C, 1, N}, product, wide_tokens, {writes.dBT, wide_tokens, 1});
    }
    for (Stream<R>* s : {&clean, &noised}) {
      if (s == &noised && !two()) continue;
      transpose(N, count, (const R*)s->dBT, wide_tokens, (R*)s->dB, N);
      transpose(N, count, (const R*)s->dCT, wide_tokens, (R*)s->dC, N);
    }
  }

 private:
  Stream<R>& reads(int kind) { return kind == CAUSAL ? clean : noised; }
  Stream<R>& writes(int kind) { return kind == OWN ? noised : clean; }
  int64_t frame(int64_t i) const { return i / shape.K * shape.K; }  // its first token
  // The reads that see write j are [first, last); a later write has no earlier ones.
  int64_t first_read(int kind, int64_t j) const { return kind == BEFORE ? frame(j) + shape.K : j; }
  int64_t last_read(int kind, int64_t j) const { return kind == OWN ? frame(j) + shape.K : count; }

  void allocate(Stream<R>& s, bool backward) {
    int64_t N = shape.N, tokens = shape.tokens, rows = tokens * wide_P;
    for (Buffer<R>* b : {&s.B, &s.C}) *b = Buffer<R>(tokens * N);
    s.CT = Buffer<R>(N * wide_tokens), s.dt = Buffer<R>(shape.heads * wide_tokens);
    for (Buffer<R>* b : {&s.x, &s.w, &s.y}) *b = Buffer<R>(rows);
    for (Buffer<R>* b : {&s.decay, &s.read, &s.start}) *b = Buffer<R>(wide_tokens);
    if (!backward) return;
    for (Buffer<R>* b : {&s.dy, &s.dy_start, &s.dw, &s.dx}) *b = Buffer<R>(rows);
    for (Buffer<R>* b : {&s.dB, &s.dC}) *b = Buffer<R>(tokens * N);
    for (Buffer<R>* b : {&s.dBT, &s.dCT}) *b = Buffer<R>(N * wide_tokens);
    s.dyT = Buffer<R>(shape.P * wide_tokens), s.ddt = Buffer<R>(shape.heads * wide_tokens);
  }

  // Sums of logs of decays, and writes.
  void decays(int64_t head, R A) {
    const R* dt = clean.dt + head * wide_tokens;
    R sum = 0;
    for (int64_t j = 0; j < count; j++) clean.decay[j] = clean.read[j] = sum += dt[j] * A;
    int64_t wide = padded<R>(count);
    SIMD for (int64_t j = 0; j < wide; j++) to_end[j] = exp_(sum - clean.decay[j]);
    kept = exp_(sum);
    if (two()) {
      const R* own_dt = noised.dt + head * wide_tokens;
      R own = 0, before = 0;
      for (int64_t i = 0, k = 0; i < count; i++, k++) {
        if (k == shape.K) k = 0, own = 0, before = clean.decay[i - 1];
        noised.decay[i] = own += own_dt[i] * A;
        noised.read[i] = before + own;
      }
    }
    for (Stream<R>* s : {&clean, &noised}) {
      if (s == &noised && !two()) continue;
      R *start = s->start, *read = s->read;
      SIMD for (int64_t i = 0; i < wide; i++) start[i] = exp_(read[i]);
      for (int64_t i = 0; i < count; i++) {
        R dt = s->dt[head * wide_tokens + i], *w = s->w + i * wide_P;
        const R* x = s->x + i * wide_P;
        SIMD for (int64_t p = 0; p < wide_P; p++) w[p] = dt * x[p];
      }
    }
  }

  // y = exp(r_i) h C_i
  void carried(Stream<R>& s, const R* state) {
    multiply<R>(count, wide_P, shape.N, {s.C, shape.N, 1}, state, wide_P, {s.y, wide_P, 0, s.start});
  }

  // Decays from writes to reads where these see them, else 0, and the same times scores.
  void weigh(int kind) {
    const R *read = kind == BEFORE ? noised.read : kind == OWN ? noised.decay : clean.decay;
    const R *write = kind == OWN ? noised.decay : clean.decay, *score = scores[kind];
    for (int64_t j = 0; j < count; j++) {
      int64_t first = first_read(kind, j), last = last_read(kind, j);
      R *p = pair + j * wide_tokens, *w = weight + j * wide_tokens, from = write[j];
      const R* s = score + j * wide_tokens;
      std::memset(w, 0, sizeof(R) * (size_t)wide_tokens);
      if (kind == OWN && shape.K == 1) {
        w[j] = s[j];
        continue;
      }
      int64_t begin = first / LANES<R> * LANES<R>, end = padded<R>(last);
      // Of reads that do not see the write it may overflow, so these are set to 0 and not multiplied with it.
      SIMD for (int64_t i = begin; i < end; i++) p[i] = exp_(read[i] - from);
      for (int64_t i = begin; i < first && i < end; i++) p[i] = 0;
      for (int64_t i = last; i < end; i++) p[i] = 0;
      SIMD for (int64_t i = begin; i < end; i++) w[i] = p[i] * s[i];
    }
  }

  // y_i += sum_j weight_ji w_j
  void add_visible(int kind) {
    Stream<R>&to = reads(kind), &from = writes(kind);
    for (int64_t i = 0; i < count; i += 4) {
      int64_t rows = count - i < 4 ? count - i : 4, end = i + rows;
      int64_t first = kind == OWN ? frame(i) : 0, last = kind == BEFORE ? frame(end - 1) : end;
      if (first >= last) continue;
      multiply<R>(rows, wide_P, last - first, {weight + first * wide_tokens + i, 1, wide_tokens},
                  from.w + first * wide_P, wide_P, {to.y + i * wide_P, wide_P, 1});
    }
  }

  // dC from the state before; and dy as the products need it.
  void through_states(Stream<R>& s, const R* state) {
    for (int64_t i = 0; i < count; i++) {
      const R *dy = s.dy + i * wide_P, start = s.start[i];
      R* scaled = s.dy_start + i * wide_P;
      SIMD for (int64_t p = 0; p < wide_P; p++) scaled[p] = start * dy[p];
    }
    transpose(count, shape.P, (const R*)s.dy, wide_P, (R*)s.dyT, wide_tokens);
    multiply<R>(shape.N, padded<R>(count), shape.P, {state, wide_P, 1}, s.dyT, wide_tokens,
                {s.dCT, wide_tokens, 1, nullptr, s.start});
  }

  // dw_j += sum_i weight_ji dy_i, and dscores_ji += pair_ji dy_i . w_j
  void through_pairs(int kind) {
    Stream<R>&to = reads(kind), &from = writes(kind);
    if (kind == OWN && shape.K == 1) return through_self();
    for (int64_t j = 0; j < count; j += 4) {
      int64_t rows = count - j < 4 ? count - j : 4;
      int64_t first = first_read(kind, j), last = last_read(kind, j + rows - 1);
      if (first >= last) continue;
      multiply<R>(rows, wide_P, last - first, {weight + j * wide_tokens + first, wide_tokens, 1},
                  to.dy + first * wide_P, wide_P, {from.dw + j * wide_P, wide_P, 1});
      int64_t begin = first / LANES<R> * LANES<R>, wide = padded<R>(last) - begin;
      multiply<R>(rows, wide, shape.P, {from.w + j * wide_P, wide_P, 1}, to.dyT + begin, wide_tokens,
                  {product, wide_tokens});
      for (int64_t row = 0; row < rows; row++) {
        int64_t a = first_read(kind, j + row) / LANES<R> * LANES<R>, b = padded<R>(last_read(kind, j + row));
        R* sum = dscores[kind] + (j + row) * wide_tokens;
        const R *p = pair + (j + row) * wide_tokens, *add = product + row * wide_tokens - begin;
        SIMD for (int64_t i = a; i < b; i++) sum[i] += p[i] * add[i];
      }
    }
  }

  // `through_pairs` where a noised token sees of its own frame nothing but itself.
  void through_self() {
    for (int64_t i = 0; i < count; i++) {
      R score = weight[i * wide_tokens + i], *dw = noised.dw + i * wide_P, *dy = noised.dy + i * wide_P;
      dscores[OWN][i * wide_tokens + i] += dot<R>(dy, noised.w + i * wide_P, wide_P);
      SIMD for (int64_t p = 0; p < wide_P; p++) dw[p] = score * dy[p];
    }
  }

  // All of y_i is proportional to exp(r_i): r_i gets dy_i . y_i. d_j occurs as exp(-d_j) w_j alone: it gets
  // -w_j . dw_j; and d_last also as the factor exp(d_last) of all of h_end, which is `tail`. A token's step then gets
  // what all sums get in which it occurs.
  void through_decays(int64_t head, R A, R tail, R& dA) {
    R* next = step;  // what the clean sum before a frame gets from its noised tokens
    if (two()) {
      R sum = 0;
      for (int64_t i = count - 1; i >= 0; i--) {
        sum += through_token(noised, head, i);
        noised.ddt[head * wide_tokens + i] += A * sum;
        dA += noised.dt[head * wide_tokens + i] * sum;
        next[i] = 0;
        if (i % shape.K == 0) next[i] = sum, sum = 0;
      }
    }
    R sum = tail;
    for (int64_t j = count - 1; j >= 0; j--) {
      sum += through_token(clean, head, j);
      clean.ddt[head * wide_tokens + j] += A * sum;
      dA += clean.dt[head * wide_tokens + j] * sum;
      if (two()) sum += next[j];
    }
  }

  // dx of w = dt x, the part of ddt that comes from it; returns dy . y - dw . w.
  R through_token(Stream<R>& s, int64_t head, int64_t i) {
    const R *dw = s.dw + i * wide_P, *x = s.x + i * wide_P;
    R* dx = s.dx + i * wide_P;
    R along = 0, read = 0, dt = s.dt[head * wide_tokens + i];
    const R *dy = s.dy + i * wide_P, *y = s.y + i * wide_P;
    SIMD_SUM(along) for (int64_t p = 0; p < wide_P; p++) {
      along += dw[p] * x[p];
      dx[p] += dt * dw[p];
    }
    SIMD_SUM(read) for (int64_t p = 0; p < wide_P; p++) read += dy[p] * y[p];
    s.ddt[head * wide_tokens + i] = along;
    return read - dt * along;
  }
};

}  // namespace
