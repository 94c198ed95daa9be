// Hidden Chow-Liu trees, their variables in any order: one step of the walk from variable to variable, for many items.
//
// The twin is entropy/circuits/order.py, which says what the operations are. Products of messages are rounded element by
// element, as IEEE 754 says, and compared; what is added up are integers whose sums are below 2^53. Messages are kept in
// single precision: half the memory.

enum { O_TELL = 0, O_UP = 1, O_DOWN = 2, O_BELIEF = 3 };       // kinds of operations
enum { O_KIND, O_SLOT, O_INDEX, O_N_FACTORS, O_FACTORS };      // what an operation begins with
constexpr int O_BATCH = 16;                                    // factors that are multiplied without scaling

constexpr double O_LEAST = 1.0 / (1ull << 60);                 // of what symbols say, where the most is 2^24

struct OrderWork {
  float *messages; // (slots, n, pitch)
  int64_t n;
  const int32_t *symbols; // of all items; rows: which of them each of the n is
  const int64_t *rows;
  double *beliefs; // of all items
  int64_t length;  // of a row of beliefs
};

template <int NV> INLINE f64v o_ones(const CircuitRows &rows, int j) { // 1 in the lanes that are states
  if (NV) return j < NV - 1 ? c_all(1.0) : rows.last;
  return c_ones<0>(rows, j);
}

INLINE void o_store(float *p, f64v x) { store(p, __builtin_convertvector(x, hf32v)); }

INLINE f64v o_max(f64v a, f64v b) {
#if defined(CODEC_AVX512)
  return (f64v)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif defined(CODEC_AVX2)
  return (f64v)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
  return a > b ? a : b;
#endif
}

// What the largest number of each row has to be multiplied by to become `top`.
template <int NV, int R>
INLINE void o_factors(const CircuitRows &rows, const f64v (*x)[NV ? NV : C_MOST / CW], double top, double *out) {
  const int nv = NV ? NV : rows.vectors;
  for (int r = 0; r < R; r++) {
    f64v largest = {}; // numbers are positive
    for (int j = 0; j < nv; j++) largest = o_max(largest, x[r][j]);
#if defined(CODEC_AVX512)
    out[r] = top / _mm512_reduce_max_pd((__m512d)largest);
#else
    double all = largest[0];
    for (int k = 1; k < CW; k++) all = all > largest[k] ? all : largest[k];
    out[r] = top / all;
#endif
  }
}

// The rows x as integers of at least 1, the largest about `top`.
template <int NV, int R>
INLINE void o_whole(const CircuitRows &rows, f64v (*x)[NV ? NV : C_MOST / CW], double top) {
  const int nv = NV ? NV : rows.vectors;
  double by[R];
  o_factors<NV, R>(rows, x, top, by);
  for (int r = 0; r < R; r++)
    for (int j = 0; j < nv; j++) x[r][j] = floor_(x[r][j] * c_all(by[r])) + o_ones<NV>(rows, j);
}

// The rows x, of integers, in proportion as integers of at least 1 that sum to 2^24.
template <int NV, int R> INLINE void o_fit(const CircuitRows &rows, f64v (*x)[NV ? NV : C_MOST / CW]) {
  const int nv = NV ? NV : rows.vectors;
  f64v sums[R];
  double total[4];
  for (int r = 0; r < R; r++) {
    sums[r] = f64v{};
    for (int j = 0; j < nv; j++) sums[r] += x[r][j];
  }
  c_sums<R>(sums, total);
  for (int r = 0; r < R; r++) {
    const f64v by = c_all((C_TOTAL - rows.states - 1) / total[r]);
    sums[r] = f64v{};
    for (int j = 0; j < nv; j++) {
      x[r][j] = floor_(x[r][j] * by) + o_ones<NV>(rows, j);
      sums[r] += x[r][j];
    }
  }
  c_sums<R>(sums, total);
  for (int r = 0; r < R; r++) x[r][0] += rows.first * c_all(C_TOTAL - total[r]);
}

// One operation for R items from item i on.
template <int NV, int R>
INLINE void o_rows(const CircuitTour &tour, const CircuitRows &rows, const int32_t *op, const OrderWork &work,
                   double top, int64_t i) {
  const int nv = NV ? NV : rows.vectors, kind = op[O_KIND], n_factors = op[O_N_FACTORS];
  const int64_t pitch = tour.pitch, size = work.n * pitch, at = i * pitch;
  f64v x[R][NV ? NV : C_MOST / CW];
  double by[R];
  float *out = work.messages + op[O_SLOT] * size + at;
  int next = 0;
  if (kind == O_TELL) { // what the symbol says
    for (int r = 0; r < R; r++) {
      const float *counts = tour.leaves[op[O_INDEX]] + work.symbols[work.rows[i + r]] * pitch;
      for (int j = 0; j < nv; j++) x[r][j] = c_counts(counts + pitch + j * CW) - c_counts(counts + j * CW);
    }
  } else {
    const float *from = work.messages + op[O_FACTORS] * size + at;
    for (int r = 0; r < R; r++)
      for (int j = 0; j < nv; j++) x[r][j] = c_counts(from + r * pitch + j * CW);
    next = 1;
  }
  for (; next < n_factors; next++) {
    const float *from = work.messages + op[O_FACTORS + next] * size + at;
    for (int r = 0; r < R; r++)
      for (int j = 0; j < nv; j++) x[r][j] *= c_counts(from + r * pitch + j * CW);
    if (next % O_BATCH == O_BATCH - 1) o_whole<NV, R>(rows, x, C_TOTAL);
  }
  if (kind == O_TELL) {
    if (n_factors) {
      o_factors<NV, R>(rows, x, C_TOTAL, by);
      for (int r = 0; r < R; r++)
        for (int j = 0; j < nv; j++) x[r][j] = o_max(x[r][j] * c_all(by[r]), o_ones<NV>(rows, j) * c_all(O_LEAST));
    }
    for (int r = 0; r < R; r++)
      for (int j = 0; j < nv; j++) o_store(out + r * pitch + j * CW, x[r][j]);
    return;
  }
  if (kind == O_BELIEF) {
    o_whole<NV, R>(rows, x, C_TOTAL);
    o_fit<NV, R>(rows, x);
    for (int r = 0; r < R; r++)
      for (int j = 0; j < nv; j++) store(work.beliefs + work.rows[i + r] * work.length + j * CW, x[r][j]);
    return;
  }
  double before[R * (NV ? NV * CW : C_MOST)] __attribute__((aligned(64)));
  double after[R * (NV ? NV * CW : C_MOST)] __attribute__((aligned(64)));
  o_whole<NV, R>(rows, x, top);
  for (int r = 0; r < R; r++)
    for (int j = 0; j < nv; j++) store(before + r * pitch + j * CW, x[r][j]);
  const double *matrix = (kind == O_UP ? tour.up : tour.down) + op[O_INDEX] * pitch * pitch;
  c_product<R>(before, matrix, after, (int)tour.states, pitch);
  for (int r = 0; r < R; r++)
    for (int j = 0; j < nv; j++)
      o_store(out + r * pitch + j * CW, load<f64v>(after + r * pitch + j * CW) * c_all(C_SCALE));
}

template <int NV>
static void o_operate(const CircuitTour &tour, const CircuitRows &rows, const int32_t *op, const OrderWork &work,
                      double top, int64_t from, int64_t to) {
  int64_t i = from;
  for (; i + 4 <= to; i += 4) o_rows<NV, 4>(tour, rows, op, work, top, i);
  for (; i < to; i++) o_rows<NV, 1>(tour, rows, op, work, top, i);
}

// A step: the operations of `program` (n_numbers) for n items, of which `rows` says where their symbols and beliefs are;
// in parts of `part` items.
int circuit_order(const CircuitTour *tour, const int32_t *program, int64_t n_numbers, float *messages, int64_t n,
                  const int32_t *symbols, const int64_t *rows, double *beliefs, int64_t length, int64_t part) {
  if (tour->pitch % 8 || tour->pitch > C_MOST || tour->states > tour->pitch || length < tour->pitch || part < 1)
    return CODEC_BAD_CALL;
  double top = 1 << 28; // a product with a matrix sums to less than 2^53
  for (int64_t states = 1; states < tour->states; states *= 2) top /= 2;
  const OrderWork work = {messages, n, symbols, rows, beliefs, length};
  parallel((n + part - 1) / part, [&](int64_t index, int) {
    const CircuitRows padded = c_rows(*tour);
    const int64_t from = index * part, to = least(n, from + part);
    for (const int32_t *op = program; op < program + n_numbers; op += O_FACTORS + op[O_N_FACTORS])
      switch (padded.last_at == padded.vectors - 1 ? padded.vectors : 0) {
#if defined(CODEC_AVX512)
      case 2: o_operate<2>(*tour, padded, op, work, top, from, to); break;
      case 4: o_operate<4>(*tour, padded, op, work, top, from, to); break;
      case 6: o_operate<6>(*tour, padded, op, work, top, from, to); break;
      case 8: o_operate<8>(*tour, padded, op, work, top, from, to); break;
#endif
      default: o_operate<0>(*tour, padded, op, work, top, from, to);
      }
  });
  return CODEC_OK;
}
