// Attention of every token to its own frame and the clean frames before it, straight from the rows of the projection
// (B, T, S, n, [query, key, value], heads, P) in T. One batch row and head at a time: keys and values of all its frames
// lie in sequence, so a frame's window is a run of them and no window is copied. Frames before the clip come from the
// cache (B, k-1, n, heads, P) in Real<T>; `frames` (B) says how many of them the episode has.
#include <algorithm>
#include <type_traits>

#include "tile.h"

namespace {

struct Sizes {
  int64_t threads, B, T, S, n, heads, P, window, table;
  int64_t past() const { return window - 1; }
  int64_t row(int64_t b, int64_t t, int64_t s) const { return ((b * T + t) * S + s) * n; }
  int64_t width() const { return heads * P; }
};

Sizes read_sizes(const int64_t* s) {
  Sizes d{s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8]};
  d.threads = threads_for(d.threads, d.B * d.T * d.S * d.n * d.width() * (1 + d.window * d.n / 8));
  return d;
}

// What forward and backward are given.
template <class T> struct Inputs {
  using R = Real<T>;
  const T* qkv;
  const R *q_weight, *k_weight, *bias;
  const int64_t* offsets;  // (n, window * n), into a head's row of `bias` (heads, table)
  const R *keys, *values;
  const int64_t* frames;
};

template <class T> Inputs<T> read_inputs(void* const* p) {
  using R = Real<T>;
  return {(const T*)p[0], (const R*)p[1], (const R*)p[2], (const R*)p[3], (const int64_t*)p[4],
          (const R*)p[5], (const R*)p[6], (const int64_t*)p[7]};
}

// Rows of numbers, and the same transposed, whose rows are padded so that they do not meet in the same cache lines.
template <class R> struct Table {
  int64_t rows, width, stride;
  std::vector<R> direct, transposed;
  Table(int64_t rows, int64_t width)
      : rows(rows), width(width), stride(((rows + 15) / 16 | 1) * 16), direct(rows * width), transposed(width * stride) {}
  void transpose() {
    const R* from = direct.data();
    R* to = transposed.data();
    int64_t i = 0;
    for (; i + 8 <= rows; i += 8)
      for (int64_t j = 0; j < width; j++)
        for (int64_t k = 0; k < 8; k++) to[j * stride + i + k] = from[(i + k) * width + j];
    for (; i < rows; i++)
      for (int64_t j = 0; j < width; j++) to[j * stride + i] = from[i * width + j];
  }
};

// f(P) where P is a constant that the compiler knows for heads of the usual size, so that loops over it unroll.
template <class F> INLINE void with_size(int64_t P, F&& f) {
  P == 32 ? f(std::integral_constant<int64_t, 32>()) : f(P);
}

template <class T, class Size>
INLINE void normalised(const T* x, const Real<T>* weight, Size P, Real<T> factor, Real<T>* to) {
  const Real<T> inverse = inverse_rms(x, P) * factor;
  SIMD for (int64_t p = 0; p < P; p++) to[p] = real(x[p]) * inverse * weight[p];
}

// Gradient `g` of a normalised row -> of the row, and what the weight gets.
template <class T, class Size>
INLINE void normalised_backward(const T* x, const Real<T>* weight, const Real<T>* g, Size P, T* to, Real<T>* dweight) {
  using R = Real<T>;
  const R inverse = inverse_rms(x, P);
  R dot = 0;
  SIMD_SUM(dot) for (int64_t p = 0; p < P; p++) dot += g[p] * weight[p] * real(x[p]);
  dot *= inverse * inverse / R((int64_t)P);
  SIMD for (int64_t p = 0; p < P; p++) {
    const R raw = real(x[p]);
    dweight[p] += g[p] * raw * inverse;
    store(to + p, inverse * (g[p] * weight[p] - dot * raw));
  }
}

// One batch row and head: its keys and values, and the weights with which a frame's queries look at them.
template <class T> struct Head {
  using R = Real<T>;
  const Sizes& d;
  const Inputs<T>& in;
  int64_t b = 0, head = 0;
  Table<R> keys, values, own_keys, own_values;  // of the cache and the clean stream; of the noised stream
  std::vector<R> bias, queries, scores;

  Head(const Sizes& d, const Inputs<T>& in)
      : d(d), in(in), keys((d.past() + d.T) * d.n, d.P), values(keys.rows, d.P),
        own_keys(d.S == 2 ? d.T * d.n : 0, d.P), own_values(own_keys.rows, d.P), bias(d.n * d.window * d.n),
        queries(d.n * d.P), scores(d.n * d.window * d.n) {}

  const T* at(int64_t t, int64_t s, int64_t i, int64_t part) const {
    return in.qkv + ((d.row(b, t, s) + i) * 3 + part) * d.width() + head * d.P;
  }

  void load(int64_t row, int64_t which) {
    b = row, head = which;
    const int64_t P = d.P;
    for (int64_t i = 0; i < d.past() * d.n; i++) {
      const int64_t from = ((b * d.past() * d.n + i) * d.heads + head) * P;
      std::copy_n(in.keys + from, P, &keys.direct[i * P]);
      std::copy_n(in.values + from, P, &values.direct[i * P]);
    }
    for (int64_t t = 0; t < d.T; t++) {
      load_frame(t, d.S - 1, &keys.direct[(d.past() + t) * d.n * P], &values.direct[(d.past() + t) * d.n * P]);
      if (d.S == 2) load_frame(t, 0, &own_keys.direct[t * d.n * P], &own_values.direct[t * d.n * P]);
    }
    keys.transpose();
    own_keys.transpose();
    const int64_t count = d.n * d.window * d.n;
    for (int64_t i = 0; i < count; i++) bias[i] = in.bias[head * d.table + in.offsets[i]];
  }

  void load_frame(int64_t t, int64_t s, R* key, R* value) {
    for (int64_t i = 0; i < d.n; i++) {
      const T* v = at(t, s, i, 2);
      with_size(d.P, [&](auto P) {
        normalised(at(t, s, i, 1), in.k_weight, P, R(1), key + i * P);
        SIMD for (int64_t p = 0; p < P; p++) value[i * P + p] = real(v[p]);
      });
    }
  }

  // Frames of the window that lie before the episode.
  int64_t hidden(int64_t t) const { return std::max<int64_t>(0, d.past() - in.frames[b] - t); }

  // f(column, count, table, row) for the one or two runs of keys that the queries of frame t in stream s see: columns
  // of the scores, which begin with the first visible frame, and rows of `keys` or `own_keys`.
  template <class F> void runs(int64_t t, int64_t s, F&& f) const {
    const int64_t first = hidden(t), before = (d.past() - first) * d.n;
    if (s == d.S - 1) {
      f((int64_t)0, before + d.n, false, (t + first) * d.n);
    } else {
      if (before) f((int64_t)0, before, false, (t + first) * d.n);
      f(before, d.n, true, t * d.n);
    }
  }

  // Queries of frame t in stream s, and their scores (n, columns); returns the number of columns.
  int64_t score(int64_t t, int64_t s) {
    const int64_t skipped = hidden(t) * d.n, columns = d.window * d.n - skipped;
    const R factor = R(1) / std::sqrt(R(d.P));
    for (int64_t i = 0; i < d.n; i++) {
      with_size(d.P, [&](auto P) { normalised(at(t, s, i, 0), in.q_weight, P, factor, &queries[i * P]); });
      std::copy_n(&bias[i * d.window * d.n + skipped], columns, &scores[i * columns]);
    }
    runs(t, s, [&](int64_t column, int64_t count, bool own, int64_t row) {
      const Table<R>& k = own ? own_keys : keys;
      multiply<R>(d.n, count, d.P, {queries.data(), d.P, 1}, &k.transposed[row], k.stride, {&scores[column], columns, 1});
    });
    return columns;
  }
};

// pointers: those of Inputs -> attended (B, T, S, n, heads * P), log of the sum of exponentials (B, heads, T, S, n).
template <class T> void attention_forward(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const Sizes d = read_sizes(sizes);
  const Inputs<T> in = read_inputs<T>(pointers);
  T* attended = (T*)pointers[8];
  R* logs = (R*)pointers[9];
  parallel_for(d.threads, d.B * d.heads, [&](int64_t begin, int64_t end) {
    Head<T> head(d, in);
    std::vector<R> sums(d.n * d.P);
    for (int64_t z = begin; z < end; z++) {
      head.load(z / d.heads, z % d.heads);
      for (int64_t ts = 0; ts < d.T * d.S; ts++) {
        const int64_t t = ts / d.S, s = ts % d.S, columns = head.score(t, s);
        for (int64_t i = 0; i < d.n; i++) {
          R *row = &head.scores[i * columns], largest = row[0], sum = 0;
          SIMD_MAX(largest) for (int64_t j = 0; j < columns; j++) largest = row[j] > largest ? row[j] : largest;
          SIMD for (int64_t j = 0; j < columns; j++) row[j] = exp_(row[j] - largest);
          SIMD_SUM(sum) for (int64_t j = 0; j < columns; j++) sum += row[j];
          const R inverse = R(1) / sum;
          SIMD for (int64_t j = 0; j < columns; j++) row[j] *= inverse;
          logs[(z * d.T * d.S + ts) * d.n + i] = largest + std::log(sum);
        }
        std::fill(sums.begin(), sums.end(), R(0));
        head.runs(t, s, [&](int64_t column, int64_t count, bool own, int64_t row) {
          const R* v = &(own ? head.own_values : head.values).direct[row * d.P];
          multiply<R>(d.n, d.P, count, {&head.scores[column], columns, 1}, v, d.P, {sums.data(), d.P, 1});
        });
        for (int64_t i = 0; i < d.n; i++) {
          T* to = attended + (d.row(head.b, t, s) + i) * d.width() + head.head * d.P;
          with_size(d.P, [&](auto P) { SIMD for (int64_t p = 0; p < P; p++) store(to + p, sums[i * P + p]); });
        }
      }
    }
  });
}

// What the backward pass of one batch row and head adds up.
template <class T> struct HeadGradients {
  using R = Real<T>;
  Head<T>& head;
  const Sizes& d;
  std::vector<R> dkeys, dvalues, down_keys, down_values, dbias, dscores, dqueries, dattended;

  HeadGradients(Head<T>& head)
      : head(head), d(head.d), dkeys(head.keys.direct.size()), dvalues(dkeys.size()),
        down_keys(head.own_keys.direct.size()), down_values(down_keys.size()), dbias(head.bias.size()),
        dscores(head.scores.size()), dqueries(d.n * d.P), dattended(d.n * d.P) {}

  void clear() {
    for (auto* sums : {&dkeys, &dvalues, &down_keys, &down_values, &dbias}) std::fill(sums->begin(), sums->end(), R(0));
  }

  // Of frame t in stream s: scores become weights, then their gradients, which go on to queries, keys and values.
  void frame(int64_t t, int64_t s, const T* dout, const R* logs) {
    const int64_t n = d.n, P = d.P, columns = head.score(t, s), skipped = d.window * n - columns;
    for (int64_t i = 0; i < n; i++) {
      R* row = &head.scores[i * columns];
      SIMD for (int64_t j = 0; j < columns; j++) row[j] = exp_(row[j] - logs[i]);
      const T* from = dout + (d.row(head.b, t, s) + i) * d.width() + head.head * P;
      SIMD for (int64_t p = 0; p < P; p++) dattended[i * P + p] = real(from[p]);
    }
    head.runs(t, s, [&](int64_t column, int64_t count, bool own, int64_t row) {
      const Table<R>& v = own ? head.own_values : head.values;
      multiply<R>(n, count, P, {dattended.data(), P, 1}, &v.transposed[row], v.stride, {&dscores[column], columns});
      multiply<R>(count, P, n, {&head.scores[column], 1, columns}, dattended.data(), P,
                  {&(own ? down_values : dvalues)[row * P], P, 1});
    });
    for (int64_t i = 0; i < n; i++) {
      const R* weight = &head.scores[i * columns];
      R *g = &dscores[i * columns], *sum = &dbias[i * d.window * n + skipped], mean = 0;
      SIMD_SUM(mean) for (int64_t j = 0; j < columns; j++) mean += weight[j] * g[j];
      SIMD for (int64_t j = 0; j < columns; j++) {
        g[j] = weight[j] * (g[j] - mean);
        sum[j] += g[j];
      }
    }
    std::fill(dqueries.begin(), dqueries.end(), R(0));
    head.runs(t, s, [&](int64_t column, int64_t count, bool own, int64_t row) {
      const R* k = &(own ? head.own_keys : head.keys).direct[row * P];
      multiply<R>(n, P, count, {&dscores[column], columns, 1}, k, P, {dqueries.data(), P, 1});
      multiply<R>(count, P, n, {&dscores[column], 1, columns}, head.queries.data(), P,
                  {&(own ? down_keys : dkeys)[row * P], P, 1});
    });
  }
};

// pointers: those of Inputs, logs, dattended -> dqkv, dq_weight (P), dk_weight (P), dbias (heads, table).
template <class T> void attention_backward(const int64_t* sizes, void* const* pointers) {
  using R = Real<T>;
  const Sizes d = read_sizes(sizes);
  const Inputs<T> in = read_inputs<T>(pointers);
  const R* logs = (const R*)pointers[8];
  const T* dattended = (const T*)pointers[9];
  T* dqkv = (T*)pointers[10];
  R *dq_weight = (R*)pointers[11], *dk_weight = (R*)pointers[12], *dbias = (R*)pointers[13];
  const int64_t n = d.n, P = d.P, pieces = d.B * d.heads, count = n * d.window * n;
  std::vector<R> tables(pieces * d.table, R(0)), weights(pieces * 2 * P, R(0));
  parallel_for(d.threads, pieces, [&](int64_t begin, int64_t end) {
    Head<T> head(d, in);
    HeadGradients<T> sums(head);
    const R factor = R(1) / std::sqrt(R(P));
    for (int64_t z = begin; z < end; z++) {
      head.load(z / d.heads, z % d.heads);
      head.values.transpose();
      head.own_values.transpose();
      sums.clear();
      R *dq = &weights[z * 2 * P], *dk = dq + P;
      auto gradient = [&](const T* x) { return dqkv + (x - in.qkv); };
      for (int64_t ts = 0; ts < d.T * d.S; ts++) {
        const int64_t t = ts / d.S, s = ts % d.S;
        sums.frame(t, s, dattended, logs + (z * d.T * d.S + ts) * n);
        for (auto& g : sums.dqueries) g *= factor;
        for (int64_t i = 0; i < n; i++) {
          const T* x = head.at(t, s, i, 0);
          with_size(P, [&](auto P) {
            normalised_backward(x, in.q_weight, &sums.dqueries[i * P], P, gradient(x), dq);
          });
        }
      }
      for (int64_t ts = 0; ts < d.T * d.S; ts++) {
        const int64_t t = ts / d.S, s = ts % d.S;
        const bool own = s < d.S - 1;
        for (int64_t i = 0; i < n; i++) {
          const int64_t row = own ? t * n + i : (d.past() + t) * n + i;
          const T *x = head.at(t, s, i, 1), *v = head.at(t, s, i, 2);
          const R* g = &(own ? sums.down_values : sums.dvalues)[row * P];
          with_size(P, [&](auto P) {
            normalised_backward(x, in.k_weight, &(own ? sums.down_keys : sums.dkeys)[row * P], P, gradient(x), dk);
            SIMD for (int64_t p = 0; p < P; p++) store(gradient(v) + p, g[p]);
          });
        }
      }
      for (int64_t i = 0; i < count; i++) tables[z * d.table + in.offsets[i]] += sums.dbias[i];
    }
  });
  std::fill_n(dbias, d.heads * d.table, R(0));
  std::fill_n(dq_weight, P, R(0));
  std::fill_n(dk_weight, P, R(0));
  for (int64_t z = 0; z < pieces; z++) {
    for (int64_t i = 0; i < d.table; i++) dbias[z % d.heads * d.table + i] += tables[z * d.table + i];
    for (int64_t p = 0; p < P; p++) dq_weight[p] += weights[z * 2 * P + p], dk_weight[p] += weights[z * 2 * P + P + p];
  }
}

}  // namespace

EXPORT(attention_forward)
EXPORT(attention_backward)
