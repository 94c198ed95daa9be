// Hidden Chow-Liu trees in integers: the tour over the tree for many items, and lanes of range-variant ANS.
//
// Every number is an integer carried in a double, every sum is below 2^53, so it is exact in any order and with or
// without fused multiply-add; what lies between (a product with a quotient, a floor) is rounded element by element, as
// entropy/circuits/coding.py does it, which says why that is enough. Rows of states are padded to a multiple of 8; what
// is behind the last state is 0 and stays 0.

constexpr int CW = L / 2; // numbers of a vector
constexpr double C_TOTAL = 16777216.0, C_SCALE = 1.0 / 16777216.0;
constexpr int C_MOST = 256; // states
#if defined(CODEC_AVX512) || defined(CODEC_NEON)
constexpr int C_COLUMNS = 6; // vectors of a tile of a matrix product: what the registers hold, times four rows
#else
constexpr int C_COLUMNS = 3;
#endif


#define INLINE_MEMBER inline __attribute__((always_inline))

INLINE f64v c_all(double x) { return x - f64v{}; }

INLINE f64v c_fma(f64v a, f64v b, f64v c) { // of integers, where the sum is exact
#if defined(CODEC_AVX512)
  return (f64v)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(CODEC_AVX2)
  return (f64v)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(CODEC_NEON)
  return (f64v)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
  return a * b + c;
#endif
}

INLINE double c_sum(f64v x) {
#if defined(CODEC_AVX512)
  return _mm512_reduce_add_pd((__m512d)x);
#elif defined(CODEC_AVX2)
  __m128d half = _mm_add_pd(_mm256_castpd256_pd128((__m256d)x), _mm256_extractf128_pd((__m256d)x, 1));
  return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
#else
  return x[0] + x[1];
#endif
}

INLINE f64v c_counts(const float *p) { // of a table: integers up to 2^24
#if defined(CODEC_AVX512)
  return (f64v)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(CODEC_AVX2)
  return (f64v)_mm256_cvtps_pd(_mm_loadu_ps(p));
#else
  hf32v x = load<hf32v>(p);
  return __builtin_convertvector(x, f64v);
#endif
}

// ---- matrix products

// out[r][0 ... CT vectors] = sum over k < n of a[r][k] w[k][0 ... CT vectors], for R rows.
template <int R, int CT> INLINE void c_tile(const double *a, const double *w, double *out, int n, int64_t pitch) {
  f64v sum[R][CT] = {};
  for (int k = 0; k < n; k++) {
    f64v x[R];
    for (int r = 0; r < R; r++) x[r] = c_all(a[r * pitch + k]);
    for (int c = 0; c < CT; c++) {
      f64v y = load<f64v>(w + k * pitch + c * CW);
      for (int r = 0; r < R; r++) sum[r][c] = c_fma(x[r], y, sum[r][c]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int c = 0; c < CT; c++) store(out + r * pitch + c * CW, sum[r][c]);
}

template <int R> static void c_product(const double *a, const double *w, double *out, int n, int64_t pitch) {
  int64_t at = 0;
  for (; at + C_COLUMNS * CW <= pitch; at += C_COLUMNS * CW) c_tile<R, C_COLUMNS>(a, w + at, out + at, n, pitch);
  switch ((pitch - at) / CW) {
#if defined(CODEC_AVX512) || defined(CODEC_NEON)
  case 5: c_tile<R, 5>(a, w + at, out + at, n, pitch); break;
  case 4: c_tile<R, 4>(a, w + at, out + at, n, pitch); break;
  case 3: c_tile<R, 3>(a, w + at, out + at, n, pitch); break;
#endif
  case 2: c_tile<R, 2>(a, w + at, out + at, n, pitch); break;
  case 1: c_tile<R, 1>(a, w + at, out + at, n, pitch); break;
  }
}

// ---- rows of states, R at a time: sums and quotients of some rows wait for each other as little as they can

// NV: vectors of a row, if that is known when it is compiled and all their lanes are states; or 0.
struct CircuitRows {
  int states, vectors, last_at;
  f64v last;  // 1 in the lanes of vector last_at that are states; all vectors before have 1 everywhere
  f64v first; // 1 in lane 0
};

template <int NV, int R> struct CircuitWork {
  f64v joint[R][NV ? NV : C_MOST / CW], likelihood[R][NV ? NV : C_MOST / CW];
  double before[4], mass[4];
};

template <int NV> INLINE f64v c_ones(const CircuitRows &rows, int j) { // 1 in the lanes that are states
  if (NV) return c_all(1.0);
  return j < rows.last_at ? c_all(1.0) : j == rows.last_at ? rows.last : f64v{};
}

template <int R> INLINE void c_sums(const f64v *x, double *out) {
#if defined(CODEC_AVX512)
  if (R == 4) {
    __m512d a = (__m512d)x[0], b = (__m512d)x[1], c = (__m512d)x[2], d = (__m512d)x[3];
    __m512d ab = _mm512_add_pd(_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
    __m512d cd = _mm512_add_pd(_mm512_unpacklo_pd(c, d), _mm512_unpackhi_pd(c, d));
    __m512d all = _mm512_add_pd(_mm512_shuffle_f64x2(ab, cd, 0x88), _mm512_shuffle_f64x2(ab, cd, 0xdd));
    __m512d swapped = _mm512_shuffle_f64x2(all, all, 0xb1); // a b a' b' c d c' d': halves of 128 bits change places
    all = _mm512_add_pd(all, swapped);
    _mm_storeu_pd(out, _mm512_castpd512_pd128(all));
    _mm_storeu_pd(out + 2, _mm512_extractf64x2_pd(all, 2));
    return;
  }
#endif
  for (int r = 0; r < R; r++) out[r] = c_sum(x[r]);
}

// The rows of joint as beliefs in proportion, whose sums are mass: integers of at least 1 that sum to 2^24.
template <int NV, int R>
INLINE void c_fit(const CircuitRows &rows, const CircuitWork<NV, R> &work, double *out, int64_t pitch) {
  const int nv = NV ? NV : rows.vectors;
  f64v sums[R], zeroth[R];
  double factor[R], total[4];
  for (int r = 0; r < R; r++) factor[r] = (C_TOTAL - rows.states - 1) / work.mass[r];
  for (int r = 0; r < R; r++) {
    f64v by = c_all(factor[r]), sum = zeroth[r] = floor_(work.joint[r][0] * by) + c_ones<NV>(rows, 0);
    for (int j = 1; j < nv; j++) {
      f64v x = floor_(work.joint[r][j] * by) + c_ones<NV>(rows, j);
      sum += x;
      store(out + r * pitch + j * CW, x);
    }
    sums[r] = sum;
  }
  c_sums<R>(sums, total);
  for (int r = 0; r < R; r++) store(out + r * pitch, zeroth[r] + rows.first * c_all(C_TOTAL - total[r]));
}

// The rows of likelihood, times those of `other` unless it is NULL, as integers of at least 1 that sum to about 2^24.
template <int NV, int R>
INLINE void c_shrink(const CircuitRows &rows, CircuitWork<NV, R> &work, const double *other, double *out, int64_t pitch) {
  const int nv = NV ? NV : rows.vectors;
  f64v sums[R];
  double factor[4];
  for (int r = 0; r < R; r++) {
    f64v sum = {};
    for (int j = 0; j < nv; j++) {
      if (other) work.likelihood[r][j] *= load<f64v>(other + r * pitch + j * CW);
      sum += work.likelihood[r][j];
    }
    sums[r] = sum;
  }
  c_sums<R>(sums, factor);
  for (int r = 0; r < R; r++) factor[r] = C_TOTAL / factor[r];
  for (int r = 0; r < R; r++) {
    f64v by = c_all(factor[r]);
    for (int j = 0; j < nv; j++)
      store(out + r * pitch + j * CW, floor_(work.likelihood[r][j] * by) + c_ones<NV>(rows, j));
  }
}

// The likelihoods of symbols, whose rows of the table these are, and their sums with beliefs. NULL: a symbol that is
// absent says nothing, and its interval is everything.
template <int NV, int R>
INLINE void c_look(const CircuitRows &rows, const double *belief, const float *const *counts, CircuitWork<NV, R> &work,
                   int64_t pitch) {
  const int nv = NV ? NV : rows.vectors;
  f64v befores[R], masses[R];
  for (int r = 0; r < R; r++) {
    f64v before = {}, mass = {};
    if (counts[r])
      for (int j = 0; j < nv; j++) {
        f64v b = load<f64v>(belief + r * pitch + j * CW), low = c_counts(counts[r] + j * CW);
        f64v x = c_counts(counts[r] + (nv + j) * CW) - low;
        before = c_fma(b, low, before);
        work.likelihood[r][j] = x;
        work.joint[r][j] = b * x;
        mass = c_fma(b, x, mass);
      }
    else
      for (int j = 0; j < nv; j++) {
        work.likelihood[r][j] = c_ones<NV>(rows, j) * c_all(C_TOTAL);
        work.joint[r][j] = load<f64v>(belief + r * pitch + j * CW) * work.likelihood[r][j];
        mass += work.joint[r][j];
      }
    befores[r] = before, masses[r] = mass;
  }
  c_sums<R>(befores, work.before);
  c_sums<R>(masses, work.mass);
}

// 2^24 times the place where a symbol begins, whose row of the table this is.
template <int NV> INLINE double c_begins(const CircuitRows &rows, const double *belief, const float *counts) {
  const int nv = NV ? NV : rows.vectors;
  f64v even = {}, odd = {};
  for (int j = 0; j < nv; j++) {
    f64v &sum = j & 1 ? odd : even;
    sum = c_fma(load<f64v>(belief + j * CW), c_counts(counts + j * CW), sum);
  }
  return c_sum(even + odd);
}

// ---- the two sides: `code` is called with the beliefs of R items from item i on, and fills in what their symbols say

struct CircuitEncoding { // has the symbols, and keeps their intervals
  const int32_t *symbols;
  int64_t row;             // symbols of an item
  uint32_t *start, *count; // (steps, n)
  int64_t n;

  INLINE_MEMBER bool abreast() const { return true; }

  template <int NV, int R>
  INLINE_MEMBER int code(const CircuitTour &tour, const CircuitRows &rows, int v, int64_t step, int64_t i,
                         const double *belief, CircuitWork<NV, R> &work) {
    const float *counts[R];
    for (int r = 0; r < R; r++) {
      int32_t symbol = symbols[(i + r) * row + v];
      counts[r] = symbol < 0 ? nullptr : tour.leaves[v] + symbol * tour.pitch;
    }
    for (int64_t ahead = i + 8; ahead < least(i + 8 + R, n); ahead++) { // a row of the table is seldom in the cache
      const char *next = (const char *)(tour.leaves[v] + most(symbols[ahead * row + v], 0) * tour.pitch);
      for (int64_t k = 0; k < 8 * tour.pitch; k += 64) __builtin_prefetch(next + k);
    }
    c_look<NV, R>(rows, belief, counts, work, tour.pitch);
    uint32_t *s = start + step * n + i, *c = count + step * n + i;
    for (int r = 0; r < R; r++) {
      int32_t begin = (int32_t)(work.before[r] * C_SCALE);
      s[r] = (uint32_t)begin;
      c[r] = (uint32_t)((int32_t)((work.before[r] + work.mass[r]) * C_SCALE) - begin);
    }
    return 1;
  }
};

struct CircuitDecoding { // finds the symbols at the lanes' places, and moves the lanes on
  int32_t *symbols;
  int64_t row;
  uint64_t *state;
  int64_t lanes;
  const uint32_t *words;
  int64_t at, end;
  int64_t *each_at; // where each lane's own words are, and end; or NULL: they share a stream
  const int64_t *each_end;

  INLINE_MEMBER bool abreast() const { return lanes >= 4; } // else an item waits for the one before, of its own lane

  template <int NV, int R>
  INLINE_MEMBER int code(const CircuitTour &tour, const CircuitRows &rows, int v, int64_t, int64_t i,
                         const double *belief, CircuitWork<NV, R> &work) {
    const float *table = tour.leaves[v], *counts[R];
    int64_t lane[R];
    int32_t *out = symbols + i * row + v;
    lane[0] = i % lanes;
    for (int r = 1; r < R; r++) lane[r] = lane[r - 1] + 1 == lanes ? 0 : lane[r - 1] + 1;
    for (int r = 0; r < R; r++) counts[r] = table + tour.guesses[v] * tour.pitch;
    c_look<NV, R>(rows, belief, counts, work, tour.pitch);
    for (int r = 0; r < R; r++) {
      const uint64_t place = state[lane[r]] & 0xffffff;
      const double limit = (double)(int64_t)(place + 1) * C_TOTAL; // a symbol begins at or before the place below this
      out[r * row] = tour.guesses[v];
      const bool further = work.before[r] + work.mass[r] < limit;
      if (further || !(work.before[r] < limit))
        search<NV, R>(tour, rows, v, further, limit, belief + r * tour.pitch, out[r * row], work, r);
    }
    for (int r = 0; r < R; r++) {
      const uint64_t now = state[lane[r]], begin = (uint64_t)(int64_t)(work.before[r] * C_SCALE);
      const uint64_t stop = (uint64_t)(int64_t)((work.before[r] + work.mass[r]) * C_SCALE);
      uint64_t next = (stop - begin) * (now >> 24) + (now & 0xffffff) - begin;
      if (next < (uint64_t)1 << 31) {
        int64_t word = at++;
        if (each_at) word = each_at[lane[r]]++;
        if (word >= (each_at ? each_end[lane[r]] : end)) return 0;
        next = next << 32 | words[word];
      }
      state[lane[r]] = next;
    }
    return 1;
  }

  // The symbol of row r, by bisection: it is behind the one that was tried, or before it.
  template <int NV, int R>
  INLINE_MEMBER void search(const CircuitTour &tour, const CircuitRows &rows, int v, bool further, double limit,
                            const double *belief, int32_t &symbol, CircuitWork<NV, R> &work, int r) {
    const float *table = tour.leaves[v];
    int32_t low = further ? symbol + 1 : 0, high = further ? tour.sizes[v] - 1 : symbol - 1;
    while (low < high) {
      int32_t middle = low + (high - low + 1) / 2;
      bool below = c_begins<NV>(rows, belief, table + middle * tour.pitch) < limit;
      low = below ? middle : low;
      high = below ? high : middle - 1;
    }
    symbol = low;
    CircuitWork<NV, 1> other;
    const float *counts = table + symbol * tour.pitch;
    c_look<NV, 1>(rows, belief, &counts, other, tour.pitch);
    const int nv = NV ? NV : rows.vectors;
    for (int j = 0; j < nv; j++) work.joint[r][j] = other.joint[0][j], work.likelihood[r][j] = other.likelihood[0][j];
    work.before[r] = other.before[0], work.mass[r] = other.mass[0];
  }
};

// ---- the tour

enum { C_ENTER = 0, C_LEAF = 1, C_UP = 2 }; // kinds of operations
enum { C_NO_BELIEF = 1, C_NO_MESSAGE = 2 }; // flags: what nobody asks for any more
enum { C_KIND, C_VARIABLE, C_LEVEL, C_FLAGS, C_MATRIX, C_FIELDS };

// What an operation works on: rows of beliefs and messages of its level and of the level above, from item 0 on.
struct CircuitStep {
  const int32_t *operation;
  const double *matrix;
  int64_t number; // of symbols before
  double *belief, *message, *above, *above_message;
};

// One operation for R items from item i on; `at` is where their rows are. Returns 0 if the words end.
template <int NV, int R, class Side>
INLINE int c_rows_of(const CircuitTour &tour, const CircuitRows &rows, const CircuitStep &step, int64_t i, int64_t at,
                     Side &side) {
  const int nv = NV ? NV : rows.vectors, kind = step.operation[C_KIND], flags = step.operation[C_FLAGS];
  const int64_t pitch = tour.pitch;
  double passed[R * (NV ? NV * CW : C_MOST)] __attribute__((aligned(64)));
  CircuitWork<NV, R> work;
  f64v sums[R];
  if (kind == C_UP) { // the message of the level's subtree goes into the level above
    c_product<R>(step.message + at, step.matrix, passed, tour.states, pitch);
    for (int r = 0; r < R; r++) {
      f64v sum = {};
      for (int j = 0; j < nv; j++) {
        f64v x = floor_(load<f64v>(passed + r * pitch + j * CW) * c_all(C_SCALE)) + c_ones<NV>(rows, j);
        work.likelihood[r][j] = x;
        work.joint[r][j] = load<f64v>(step.above + at + r * pitch + j * CW) * x;
        sum += work.joint[r][j];
      }
      sums[r] = sum;
    }
    c_sums<R>(sums, work.mass);
    if (!(flags & C_NO_BELIEF)) c_fit<NV, R>(rows, work, step.above + at, pitch);
    if (flags & C_NO_MESSAGE) return 1;
    c_shrink<NV, R>(rows, work, step.above_message + at, step.above_message + at, pitch);
    return 1;
  }
  const double *belief = passed;
  if (kind == C_LEAF) {
    belief = step.belief + at;
  } else if (!step.matrix) { // the root
    for (int r = 0; r < R; r++) memcpy(passed + r * pitch, tour.prior, pitch * sizeof(double));
  } else {
    c_product<R>(step.above + at, step.matrix, passed, tour.states, pitch);
    double total[4];
    for (int r = 0; r < R; r++) {
      f64v sum = {};
      for (int j = 0; j < nv; j++) {
        f64v x = floor_(load<f64v>(passed + r * pitch + j * CW) * c_all(C_SCALE));
        sum += x;
        store(passed + r * pitch + j * CW, x);
      }
      sums[r] = sum;
    }
    c_sums<R>(sums, total);
    for (int r = 0; r < R; r++)
      store(passed + r * pitch, load<f64v>(passed + r * pitch) + rows.first * c_all(C_TOTAL - total[r]));
  }
  if (!side.template code<NV, R>(tour, rows, step.operation[C_VARIABLE], step.number, i, belief, work)) return 0;
  if (!(flags & C_NO_BELIEF)) c_fit<NV, R>(rows, work, step.belief + at, pitch);
  if (flags & C_NO_MESSAGE) return 1;
  c_shrink<NV, R>(rows, work, kind == C_LEAF ? step.message + at : nullptr, step.message + at, pitch);
  return 1;
}

// One operation for the items from ... to - 1, whose rows begin with the first of them.
template <int NV, class Side>
static int c_operate(const CircuitTour &tour, const CircuitRows &rows, const CircuitStep &step, int64_t from,
                     int64_t to, Side &side) {
  int64_t i = from;
  if (side.abreast())
    for (; i + 4 <= to; i += 4)
      if (!c_rows_of<NV, 4>(tour, rows, step, i, (i - from) * tour.pitch, side)) return 0;
  for (; i < to; i++)
    if (!c_rows_of<NV, 1>(tour, rows, step, i, (i - from) * tour.pitch, side)) return 0;
  return 1;
}

INLINE CircuitRows c_rows(const CircuitTour &tour) {
  CircuitRows rows;
  rows.states = (int)tour.states, rows.vectors = (int)(tour.pitch / CW), rows.last_at = (rows.states - 1) / CW;
  for (int j = 0; j < CW; j++) {
    rows.last[j] = rows.last_at * CW + j < rows.states;
    rows.first[j] = j == 0;
  }
  return rows;
}

// The whole tour for the items from ... to - 1. levels: memory for beliefs and messages (level, 2, items, pitch).
// Returns 0 if the words end.
template <class Side>
static int c_tour(const CircuitTour &tour, double *levels, int64_t from, int64_t to, Side &side) {
  const CircuitRows rows = c_rows(tour);
  const int64_t size = (to - from) * tour.pitch;
  int64_t number = 0;
  for (int64_t o = 0; o < tour.n_operations; o++) {
    const int32_t *op = tour.operations + o * C_FIELDS;
    if (op[C_KIND] == C_UP && op[C_FLAGS] == (C_NO_BELIEF | C_NO_MESSAGE)) continue;
    CircuitStep step = {op, nullptr, number, nullptr, nullptr, nullptr, nullptr};
    step.belief = levels + 2 * op[C_LEVEL] * size, step.message = step.belief + size;
    if (op[C_LEVEL]) step.above = step.belief - 2 * size, step.above_message = step.above + size;
    if (op[C_MATRIX] >= 0)
      step.matrix = (op[C_KIND] == C_UP ? tour.up : tour.down) + op[C_MATRIX] * tour.pitch * tour.pitch;
    int good;
    switch (tour.states == tour.pitch ? rows.vectors : 0) {
#if defined(CODEC_AVX512)
    case 2: good = c_operate<2>(tour, rows, step, from, to, side); break;
    case 4: good = c_operate<4>(tour, rows, step, from, to, side); break;
    case 6: good = c_operate<6>(tour, rows, step, from, to, side); break;
    case 8: good = c_operate<8>(tour, rows, step, from, to, side); break;
#endif
    default: good = c_operate<0>(tour, rows, step, from, to, side);
    }
    if (!good) return 0;
    number += op[C_KIND] != C_UP;
  }
  return 1;
}

// The intervals of symbols (n, variables), (steps, n) each, in the order of the tour; in parts of `part` items.
int circuit_intervals(const CircuitTour *tour, const int32_t *symbols, int64_t n, int64_t part, uint32_t *start,
                      uint32_t *count) {
  if (tour->pitch % 8 || tour->pitch > C_MOST || tour->states > tour->pitch || part < 1) return CODEC_BAD_CALL;
  int failed = 0;
  parallel((n + part - 1) / part, [&](int64_t index, int) {
    int64_t from = index * part, to = least(n, from + part);
    double *levels = (double *)pool_scratch(0, 2 * tour->n_levels * (to - from) * tour->pitch * sizeof(double));
    if (!levels) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    CircuitEncoding side = {symbols, tour->n_variables, start, count, n};
    c_tour(*tour, levels, from, to, side);
  });
  return failed ? CODEC_NO_MEMORY : CODEC_OK;
}

// The symbols (n, variables) of the next block of a stream. levels: memory for beliefs and messages of n items. at: of
// the words, where the block begins, and then where it ends.
int circuit_decode(const CircuitTour *tour, int32_t *symbols, int64_t n, double *levels, uint64_t *state, int64_t lanes,
                   const uint32_t *words, int64_t n_words, int64_t *at, int64_t *each_at, const int64_t *each_end) {
  if (tour->pitch % 8 || tour->pitch > C_MOST || tour->states > tour->pitch || lanes < 1) return CODEC_BAD_CALL;
  CircuitDecoding side = {symbols, tour->n_variables, state, lanes, words, *at, n_words, each_at, each_end};
  int good = c_tour(*tour, levels, 0, n, side);
  *at = side.at;
  return good ? CODEC_OK : CODEC_DAMAGED;
}

// ---- code lengths in floats, upwards only, several times as fast: for choices that integers confirm where they are close

constexpr float C_TINY = 1e-15f; // of a message's sum: no product is denormal, which would be slow

INLINE f32v c_fma(f32v a, f32v b, f32v c) {
#if defined(CODEC_AVX512)
  return (f32v)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(CODEC_AVX2)
  return (f32v)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

// out[r] = sum over k < n of a[r][k] w[k], for R rows.
template <int R> static void c_weigh(const float *a, const float *w, float *out, int n, int64_t pitch) {
  constexpr int CT = 3;
  int64_t c = 0;
  for (; c + CT * L <= pitch; c += CT * L) {
    f32v sum[R][CT] = {};
    for (int k = 0; k < n; k++)
      for (int t = 0; t < CT; t++) {
        f32v y = load<f32v>(w + k * pitch + c + t * L);
        for (int r = 0; r < R; r++) sum[r][t] = c_fma(a[r * pitch + k] - f32v{}, y, sum[r][t]);
      }
    for (int r = 0; r < R; r++)
      for (int t = 0; t < CT; t++) store(out + r * pitch + c + t * L, sum[r][t]);
  }
  for (; c < pitch; c += L) {
    f32v sum[R] = {};
    for (int k = 0; k < n; k++) {
      f32v y = load<f32v>(w + k * pitch + c);
      for (int r = 0; r < R; r++) sum[r] = c_fma(a[r * pitch + k] - f32v{}, y, sum[r]);
    }
    for (int r = 0; r < R; r++) store(out + r * pitch + c, sum[r]);
  }
}

// message = message (unless it is the first) times by, or the counts of a symbol (if by is NULL; both NULL: absent),
// scaled by a power of two so that its sum is about 1. The power goes to `exponent`.
INLINE void c_join(bool first, float *message, const float *by, const float *counts, int64_t pitch, int64_t &exponent) {
  f32v sum = {};
  for (int64_t j = 0; j < pitch; j += L) {
    f32v x = by ? load<f32v>(by + j) : counts ? load<f32v>(counts + pitch + j) - load<f32v>(counts + j) : f32v{} + 1.0f;
    if (!first) x *= load<f32v>(message + j);
    sum += x;
    store(message + j, x);
  }
  float total = 0;
  for (int j = 0; j < L; j++) total += sum[j];
  int32_t power;
  memcpy(&power, &total, 4);
  power = (power >> 23) - 127; // its exponent: the total is positive, and no denormal
  exponent += power + (counts ? -24 : 0);
  const int32_t inverse = (127 - power) << 23;
  float scale;
  memcpy(&scale, &inverse, 4);
  const f32v by_scale = f32v{} + scale, tiny = f32v{} + C_TINY;
  for (int64_t j = 0; j < pitch; j += L) store(message + j, max_(load<f32v>(message + j) * by_scale, tiny));
}

// About the code length in bits of the symbols (n, variables): out (n). up: the tour's, as floats that sum to 1.
int circuit_lengths(const CircuitTour *tour, const float *up, const int32_t *symbols, int64_t n, int64_t part,
                    double *out) {
  const int64_t pitch = tour->pitch;
  if (pitch % 16 || pitch > C_MOST || tour->states > pitch || part < 1) return CODEC_BAD_CALL;
  int failed = 0;
  parallel((n + part - 1) / part, [&](int64_t index, int) {
    const int64_t from = index * part, size = least(n, from + part) - from;
    float *levels = (float *)pool_scratch(0, tour->n_levels * size * pitch * sizeof(float));
    int64_t *exponents = (int64_t *)pool_scratch(1, size * sizeof(int64_t));
    if (!levels || !exponents) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    memset(exponents, 0, size * sizeof(int64_t));
    for (int64_t o = 0; o < tour->n_operations; o++) {
      const int32_t *op = tour->operations + o * C_FIELDS;
      float *message = levels + op[C_LEVEL] * size * pitch, *above = message - size * pitch;
      if (op[C_KIND] == C_UP) {
        const float *matrix = up + op[C_MATRIX] * pitch * pitch;
        float passed[4 * C_MOST] __attribute__((aligned(64)));
        for (int64_t i = 0; i < size;) {
          const int rows = size - i >= 4 ? 4 : 1;
          if (rows == 4) c_weigh<4>(message + i * pitch, matrix, passed, (int)tour->states, pitch);
          else c_weigh<1>(message + i * pitch, matrix, passed, (int)tour->states, pitch);
          for (int r = 0; r < rows; r++, i++) c_join(false, above + i * pitch, passed + r * pitch, nullptr, pitch, exponents[i]);
        }
        continue;
      }
      const float *table = tour->leaves[op[C_VARIABLE]];
      for (int64_t i = 0; i < size; i++) {
        int32_t symbol = symbols[(from + i) * tour->n_variables + op[C_VARIABLE]];
        const float *counts = symbol < 0 ? nullptr : table + symbol * pitch;
        c_join(op[C_KIND] == C_ENTER, message + i * pitch, nullptr, counts, pitch, exponents[i]);
      }
    }
    for (int64_t i = 0; i < size; i++) { // the root's message is at level 0
      double sum = 0;
      for (int64_t j = 0; j < tour->states; j++) sum += tour->prior[j] * levels[i * pitch + j];
      out[from + i] = 24 - log2(sum) - (double)exponents[i];
    }
  });
  return failed ? CODEC_NO_MEMORY : CODEC_OK;
}

// ---- lanes

// Codes intervals (steps, n), the last first, of which item i is in lane i mod `lanes`. words and, unless it is NULL,
// owners (the lanes of the words) are filled from their ends, at *left, towards their beginnings.
int circuit_lanes(uint64_t *state, int64_t lanes, const uint32_t *start, const uint32_t *count, int64_t steps, int64_t n,
                  uint32_t *words, int32_t *owners, int64_t *left) {
  if (lanes < 1 || *left < steps * n) return CODEC_BAD_CALL;
  int64_t at = *left;
  for (int64_t i = steps * n - 1; i >= 0; i--) {
    const int64_t lane = i % n % lanes;
    uint64_t now = state[lane], wide = count[i];
    if (now >= wide << 39) {
      words[--at] = (uint32_t)now;
      if (owners) owners[at] = (int32_t)lane;
      now >>= 32;
    }
    uint64_t quotient = now / wide;
    state[lane] = (quotient << 24) + (now - quotient * wide) + start[i];
  }
  *left = at;
  return CODEC_OK;
}
