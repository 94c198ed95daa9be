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

#define CIRCUIT_INLINE inline __attribute__((always_inline)) // of members

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
  hf32v x = load<hf32v>(p);
  return __builtin_convertvector(x, f64v);
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

// ---- rows of states. NV: vectors of a row, if that is known when it is compiled, or 0

struct CircuitRows {
  int states, vectors;
  f64v last;  // 1 in the lanes of the last vectors that are states; all vectors before have 1 everywhere
  f64v first; // 1 in lane 0
  int last_at;
};

template <int NV> struct CircuitItem {
  f64v joint[NV ? NV : C_MOST / CW], likelihood[NV ? NV : C_MOST / CW];
  double before, mass;
};

INLINE f64v c_ones(const CircuitRows &rows, int j) { // 1 in the lanes that are states
  return j < rows.last_at ? c_all(1.0) : j == rows.last_at ? rows.last : f64v{};
}

// Beliefs in proportion to joint, whose sum is mass: integers of at least 1 that sum to 2^24.
template <int NV> INLINE void c_fit(const CircuitRows &rows, const f64v *joint, double mass, double *out) {
  const int nv = NV ? NV : rows.vectors;
  f64v factor = c_all((C_TOTAL - rows.states - 1) / mass), sum = {}, zeroth = {};
  for (int j = 0; j < nv; j++) {
    f64v x = floor_(joint[j] * factor) + c_ones(rows, j);
    sum += x;
    if (j == 0) zeroth = x;
    else store(out + j * CW, x);
  }
  store(out, zeroth + rows.first * c_all(C_TOTAL - c_sum(sum)));
}

// A product of messages as integers of at least 1 that sum to about 2^24.
template <int NV> INLINE void c_shrink(const CircuitRows &rows, const f64v *x, double *out) {
  const int nv = NV ? NV : rows.vectors;
  f64v sum = {};
  for (int j = 0; j < nv; j++) sum += x[j];
  f64v factor = c_all(C_TOTAL / c_sum(sum));
  for (int j = 0; j < nv; j++) store(out + j * CW, floor_(x[j] * factor) + c_ones(rows, j));
}

// The likelihood of a symbol, and its sums with a belief.
template <int NV>
INLINE void c_look(const CircuitRows &rows, const double *belief, const float *counts, CircuitItem<NV> &item) {
  const int nv = NV ? NV : rows.vectors;
  f64v before = {}, mass = {};
  for (int j = 0; j < nv; j++) {
    f64v b = load<f64v>(belief + j * CW), low = c_counts(counts + j * CW);
    f64v x = c_counts(counts + (nv + j) * CW) - low;
    before = c_fma(b, low, before);
    item.likelihood[j] = x;
    item.joint[j] = b * x;
    mass += item.joint[j];
  }
  item.before = c_sum(before), item.mass = c_sum(mass);
}

// The same of a symbol that is absent: it says nothing, and its interval is everything.
template <int NV> INLINE void c_look_nowhere(const CircuitRows &rows, const double *belief, CircuitItem<NV> &item) {
  const int nv = NV ? NV : rows.vectors;
  f64v mass = {};
  for (int j = 0; j < nv; j++) {
    item.likelihood[j] = c_ones(rows, j) * c_all(C_TOTAL);
    item.joint[j] = load<f64v>(belief + j * CW) * item.likelihood[j];
    mass += item.joint[j];
  }
  item.before = 0, item.mass = c_sum(mass);
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

// ---- the two sides

struct CircuitEncoding { // has the symbols, and keeps their intervals
  const int32_t *symbols;
  int64_t row;             // symbols of an item
  uint32_t *start, *count; // (steps, n)
  int64_t n;

  template <int NV>
  CIRCUIT_INLINE int code(const CircuitTour &tour, const CircuitRows &rows, int v, int64_t step, int64_t i, const double *belief,
                  CircuitItem<NV> &item) {
    int32_t symbol = symbols[i * row + v];
    if (symbol < 0) c_look_nowhere<NV>(rows, belief, item);
    else c_look<NV>(rows, belief, tour.leaves[v] + symbol * tour.pitch, item);
    double begin = floor(item.before * C_SCALE), end = floor((item.before + item.mass) * C_SCALE);
    start[step * n + i] = (uint32_t)begin;
    count[step * n + i] = (uint32_t)(end - begin);
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
  int64_t *each_at;        // where each lane's own words are, and end; or NULL: they share a stream
  const int64_t *each_end;

  template <int NV>
  CIRCUIT_INLINE int code(const CircuitTour &tour, const CircuitRows &rows, int v, int64_t, int64_t i, const double *belief,
                  CircuitItem<NV> &item) {
    const int64_t lane = i % lanes;
    const uint64_t now = state[lane], place = now & 0xffffff;
    const float *table = tour.leaves[v];
    const double limit = (double)(place + 1) * C_TOTAL; // a symbol begins at or before the place below this
    int32_t symbol = tour.guesses[v];
    c_look<NV>(rows, belief, table + symbol * tour.pitch, item);
    const bool further = item.before + item.mass < limit;
    if (further || !(item.before < limit)) {
      int32_t low = further ? symbol + 1 : 0, high = further ? tour.sizes[v] - 1 : symbol - 1;
      while (low < high) {
        int32_t middle = low + (high - low + 1) / 2;
        bool below = c_begins<NV>(rows, belief, table + middle * tour.pitch) < limit;
        low = below ? middle : low;
        high = below ? high : middle - 1;
      }
      symbol = low;
      c_look<NV>(rows, belief, table + symbol * tour.pitch, item);
    }
    symbols[i * row + v] = symbol;
    uint64_t begin = (uint64_t)(item.before * C_SCALE), stop = (uint64_t)((item.before + item.mass) * C_SCALE);
    uint64_t next = (stop - begin) * (now >> 24) + place - begin;
    if (next < (uint64_t)1 << 31) {
      int64_t word = at++;
      if (each_at) {
        word = each_at[lane]++;
        if (word >= each_end[lane]) return 0;
      } else if (word >= end) {
        return 0;
      }
      next = next << 32 | words[word];
    }
    state[lane] = next;
    return 1;
  }
};

// ---- the tour

enum { C_ENTER = 0, C_LEAF = 1, C_UP = 2 };      // kinds of operations
enum { C_NO_BELIEF = 1, C_NO_MESSAGE = 2 };      // flags: what nobody asks for any more
enum { C_KIND, C_VARIABLE, C_LEVEL, C_FLAGS, C_MATRIX, C_FIELDS };

// One operation for the items from ... to - 1. levels: beliefs and messages (level, 2, items, pitch) of items from
// `base` on. Returns 0 if the words end.
template <int NV, class Side>
static int c_operate(const CircuitTour &tour, const CircuitRows &rows, const int32_t *op, int64_t step, double *levels,
                     int64_t base, int64_t room, int64_t from, int64_t to, Side &side) {
  const int nv = NV ? NV : rows.vectors, v = op[C_VARIABLE], level = op[C_LEVEL], flags = op[C_FLAGS];
  const int64_t pitch = tour.pitch;
  double *belief = levels + 2 * level * room * pitch, *message = belief + room * pitch;
  double *above = level ? belief - 2 * room * pitch : nullptr, *above_message = level ? above + room * pitch : nullptr;
  const double *matrix = op[C_MATRIX] < 0 ? nullptr : (op[C_KIND] == C_UP ? tour.up : tour.down) + op[C_MATRIX] * pitch * pitch;
  double passed[4 * C_MOST] __attribute__((aligned(64)));
  CircuitItem<NV> item;
  for (int64_t i = from; i < to;) {
    const int n = to - i >= 4 ? 4 : 1; // rows at a time
    const int64_t at = (i - base) * pitch;
    if (op[C_KIND] != C_LEAF && matrix) {
      const double *source = op[C_KIND] == C_UP ? message + at : above + at;
      if (n == 4) c_product<4>(source, matrix, passed, tour.states, pitch);
      else c_product<1>(source, matrix, passed, tour.states, pitch);
    }
    for (int r = 0; r < n; r++, i++) {
      double *row = passed + r * pitch;
      double *b = belief + at + r * pitch, *m = message + at + r * pitch;
      if (op[C_KIND] == C_UP) { // the message of level's subtree goes into the level above
        double *pb = above + at + r * pitch, *pm = above_message + at + r * pitch;
        f64v sum = {};
        for (int j = 0; j < nv; j++) {
          item.likelihood[j] = floor_(load<f64v>(row + j * CW) * c_all(C_SCALE)) + c_ones(rows, j);
          item.joint[j] = load<f64v>(pb + j * CW) * item.likelihood[j];
          sum += item.joint[j];
        }
        if (!(flags & C_NO_BELIEF)) c_fit<NV>(rows, item.joint, c_sum(sum), pb);
        if (flags & C_NO_MESSAGE) continue;
        for (int j = 0; j < nv; j++) item.likelihood[j] *= load<f64v>(pm + j * CW);
        c_shrink<NV>(rows, item.likelihood, pm);
        continue;
      }
      if (op[C_KIND] == C_LEAF) {
        row = b;
      } else if (!matrix) { // the root
        memcpy(row, tour.prior, pitch * sizeof(double));
      } else {
        f64v sum = {}, zeroth = {};
        for (int j = 0; j < nv; j++) {
          f64v x = floor_(load<f64v>(row + j * CW) * c_all(C_SCALE));
          sum += x;
          if (j == 0) zeroth = x;
          else store(row + j * CW, x);
        }
        store(row, zeroth + rows.first * c_all(C_TOTAL - c_sum(sum)));
      }
      if (!side.template code<NV>(tour, rows, v, step, i, row, item)) return 0;
      if (!(flags & C_NO_BELIEF)) c_fit<NV>(rows, item.joint, item.mass, b);
      if (flags & C_NO_MESSAGE) continue;
      if (op[C_KIND] == C_LEAF)
        for (int j = 0; j < nv; j++) item.likelihood[j] *= load<f64v>(m + j * CW);
      c_shrink<NV>(rows, item.likelihood, m);
    }
  }
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

// The whole tour for the items from ... to - 1. Returns 0 if the words end.
template <class Side>
static int c_tour(const CircuitTour &tour, double *levels, int64_t from, int64_t to, Side &side) {
  const CircuitRows rows = c_rows(tour);
  int64_t step = 0;
  for (int64_t o = 0; o < tour.n_operations; o++) {
    const int32_t *op = tour.operations + o * C_FIELDS;
    int good;
    switch (rows.vectors) {
#define CIRCUIT_CASE(NV)                                                                                               \
  case NV: good = c_operate<NV>(tour, rows, op, step, levels, from, to - from, from, to, side); break;
      CIRCUIT_CASE(1)
      CIRCUIT_CASE(2)
#if defined(CODEC_AVX512)
      CIRCUIT_CASE(4)
      CIRCUIT_CASE(6)
      CIRCUIT_CASE(8)
#endif
#undef CIRCUIT_CASE
    default: good = c_operate<0>(tour, rows, op, step, levels, from, to - from, from, to, side);
    }
    if (!good) return 0;
    step += op[C_KIND] != C_UP;
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
