// Quantised wavelet coefficients of fields, mixed: contexts from coefficients around, coarser, and of sister bands.
//
// The twin is entropy/mixing/coefficients.py, which says what the contexts are. Bands come from coarse to fine; within a
// band, the first axis of the field is the outermost. After them, corrections: whole numbers for the few values that
// the coefficients alone leave beyond the bound.

constexpr int COEF_CONTEXTS = 12, COEF_PAD = 4, COEF_ROWS = 20;
constexpr int COEF_TOP = 29;              // the last class of magnitudes
constexpr int32_t COEF_MOST = 1 << 20;    // magnitudes beyond are the same as contexts
constexpr int COEF_STEPS = 48, COEF_SIZES = 32, COEF_PLACES = 64, COEF_STAGES = 8; // see coef_choose
constexpr int COEF_SETS0 = 2 * COEF_STEPS, COEF_SETS1 = 2 * COEF_STAGES * COEF_SIZES, COEF_SETS2 = 2 * 4 * COEF_PLACES;
constexpr int COEF_REFINED0 = 2 * COEF_STAGES * COEF_SIZES, COEF_REFINED1 = 2 * 4 * COEF_PLACES;

INLINE int coef_bits(uint32_t v) { return v ? 32 - __builtin_clz(v) : 0; }
INLINE int coef_half(uint32_t v) { // two steps to an octave
  int e = coef_bits(v);
  return e < 2 ? e : 2 * e - 2 + (int)(v >> (e - 2) & 1);
}
INLINE int coef_quarter(uint32_t v) { // four steps to an octave
  int e = coef_bits(v);
  return e < 3 ? (int)v : 4 * e - 8 + (int)(v >> (e - 3) & 3);
}
INLINE int coef_small(uint32_t v) { return v < 4 ? (int)v : least(15, coef_bits(v) + 1); }
INLINE int32_t coef_size(int32_t v) { return least(v < 0 ? -v : v, COEF_MOST); }

// What a number is coded under: contexts, which part of the model (0: coefficients, 1: corrections), and what sets of
// weights are chosen by: the expected size in octaves, and a place.
struct CoefContext {
  uint64_t value[COEF_CONTEXTS];
  int zone, size, place;
};

INLINE void coef_choose(Mix *m, const CoefContext *at, int step, int stage) {
  int by_size = (at->zone * COEF_STAGES + stage) * COEF_SIZES + at->size;
  int by_place = (at->zone * 4 + (stage < 3 ? stage : 3)) * COEF_PLACES + at->place;
  m->set[0] = at->zone * COEF_STEPS + step;
  m->set[1] = COEF_SETS0 + by_size;
  m->set[2] = COEF_SETS0 + COEF_SETS1 + by_place;
  m->last = at->zone * COEF_STEPS + step;
  m->refine[0] = by_size;
  m->refine[1] = COEF_REFINED0 + by_place;
}

INLINE void coef_open(Mix *m, const CoefContext *at, int group, uint64_t more) {
  uint64_t hashes[COEF_CONTEXTS];
  const int n = (int)m->c->n_contexts;
  for (int k = 0; k < n; k++)
    hashes[k] = mix_hash((uint64_t)((k * 2 + at->zone) * 4 + group), at->value[k] * 64 + more);
  mix_open(m, hashes);
}

// A magnitude: 0, 1, 2, then classes of 3-4, 5-8, ... and the place in the class.
template <int ROLE> static int32_t coef_magnitude(Mix *m, const CoefContext *at, int32_t v) {
  int own = ROLE == MIX_READ ? 0 : v <= 2 ? v : 1 + coef_bits((uint32_t)(v - 1)), kind = 0;
  coef_open(m, at, 0, 0);
  while (kind < COEF_TOP) {
    if (kind == 15) coef_open(m, at, 1, 0);
    int step = kind < 30 ? kind : 30;
    coef_choose(m, at, step, kind < 3 ? kind : 3);
    if (!mix_bit<ROLE>(m, 1 + kind % 15, own > kind)) break;
    kind++;
  }
  if (kind <= 2) return kind;
  int left = kind - 2;
  int32_t offset = v - 1 - (1 << left), prefix = 1;
  coef_open(m, at, 2, (uint64_t)kind);
  int32_t made = 0;
  for (int i = 0; left; i++) {
    left--;
    int node = i < 3 ? prefix : least(15, 8 + left);
    coef_choose(m, at, 31 + node, i == 0 ? 4 : 5);
    int bit = mix_bit<ROLE>(m, node, (offset >> left) & 1);
    made |= bit << left;
    prefix = prefix * 2 + bit;
  }
  return 1 + (1 << (kind - 2)) + made;
}

template <int ROLE> INLINE int coef_sign(Mix *m, const CoefContext *at, int negative) {
  coef_open(m, at, 3, 0);
  coef_choose(m, at, 47, 6);
  return mix_bit<ROLE>(m, 1, negative);
}

INLINE int32_t coef_held(int32_t v, int32_t most) { return v < -most ? -most : least(v, most); }
INLINE int coef_of_sign(int32_t v) { return v > 0 ? 1 : v < 0 ? 2 : 0; }

// ---- rows of magnitudes, with room before and behind

struct CoefRows {
  int32_t *data;
  int64_t pitch;
  int32_t *row(int i) const { return data + i * pitch + COEF_PAD; }
};

INLINE void coef_clear(int32_t *to, int64_t n) { memset(to - COEF_PAD, 0, (n + 2 * COEF_PAD) * sizeof(int32_t)); }

INLINE void coef_copy(int32_t *to, const int32_t *from, int64_t n) { // from: NULL for a row that isn't there
  coef_clear(to, n);
  if (from)
    for (int64_t i = 0; i < n; i++) to[i] = coef_size(from[i]);
}

INLINE bool coef_rows(CoefRows *rows, int64_t n) {
  rows->pitch = n + 2 * COEF_PAD;
  rows->data = (int32_t *)pool_scratch(1, COEF_ROWS * rows->pitch * sizeof(int32_t));
  return rows->data != nullptr;
}

// Adds to `to`, at i << shift or i, the magnitudes of a band at the place of index[] (of the first axis, then of the
// band's), held within it.
static void coef_add(int32_t *to, const CoefficientField *f, const CoefficientBand *band, int64_t first,
                     const int64_t *index, int64_t n) {
  int64_t at = first;
  for (int a = 0; a < 3; a++) at = at * f->shape[a + 1] + band->low[a] + least(index[a], band->side[a] - 1);
  const int32_t *row = f->values + at * f->shape[4] + band->low[3];
  int64_t own = least(n, band->side[3]);
  for (int64_t i = 0; i < own; i++) to[i] = least(COEF_MOST, to[i] + coef_size(row[i]));
  for (int64_t i = own; i < n; i++) to[i] = least(COEF_MOST, to[i] + coef_size(row[band->side[3] - 1]));
}

// ---- coefficients

enum { C_OWN, C_N, C_NN, C_P, C_PN, C_PS, C_U, C_T, C_TN, C_TS, C_A, C_AN, C_AS, C_AP, C_AQ, C_SIS };

template <int ROLE>
static int coef_band(Mix *m, const CoefficientField *f, const CoefficientBand *band, const CoefRows *rows) {
  const int64_t *side = band->side, n = side[3];
  int64_t pitch[4]; // of the first four axes, in values
  pitch[3] = f->shape[4], pitch[2] = pitch[3] * f->shape[3], pitch[1] = pitch[2] * f->shape[2];
  pitch[0] = pitch[1] * f->shape[1];
  const int32_t *r[16];
  for (int i = 0; i < 16; i++) r[i] = rows->row(i);
  const uint64_t kind = (uint64_t)least<int64_t>(band->level, 3) * 16 + (uint64_t)band->kind;
  const int64_t lines = f->shape[0] * side[0] * side[1] * side[2];
  for (int64_t line = 0; line < lines; line++) {
    int64_t y = line % side[2], z = line / side[2] % side[1], u = line / side[2] / side[1] % side[0];
    int64_t t = line / side[2] / side[1] / side[0];
    int32_t *own = f->values + t * pitch[0] + (band->low[0] + u) * pitch[1] + (band->low[1] + z) * pitch[2] +
                   (band->low[2] + y) * pitch[3] + band->low[3];
    const int32_t *north = y ? own - pitch[3] : nullptr, *back = z ? own - pitch[2] : nullptr;
    const int32_t *past = t ? own - pitch[0] : nullptr, *outer = u ? own - pitch[1] : nullptr;
    coef_clear(rows->row(C_OWN), n);
    coef_copy(rows->row(C_N), north, n);
    coef_copy(rows->row(C_NN), y > 1 ? own - 2 * pitch[3] : nullptr, n);
    coef_copy(rows->row(C_P), back, n);
    coef_copy(rows->row(C_PN), back && y ? back - pitch[3] : nullptr, n);
    coef_copy(rows->row(C_PS), back && y + 1 < side[2] ? back + pitch[3] : nullptr, n);
    coef_copy(rows->row(C_U), outer, n);
    coef_copy(rows->row(C_T), past, n);
    coef_copy(rows->row(C_TN), past && y ? past - pitch[3] : nullptr, n);
    coef_copy(rows->row(C_TS), past && y + 1 < side[2] ? past + pitch[3] : nullptr, n);
    // The coarser band of the same kind.
    const int32_t *above = nullptr;
    int64_t n_above = 0;
    if (band->has_parent) {
      int64_t at[4] = {u >> band->shift[0], z >> band->shift[1], y >> band->shift[2], 0};
      for (int a = 0; a < 3; a++) at[a] = least(at[a], band->parent_side[a] - 1);
      n_above = band->parent_side[3];
      above = f->values + t * pitch[0] + (band->parent[0] + at[0]) * pitch[1] + (band->parent[1] + at[1]) * pitch[2] +
              (band->parent[2] + at[2]) * pitch[3] + band->parent[3];
      coef_copy(rows->row(C_A), above, n_above);
      coef_copy(rows->row(C_AN), at[2] ? above - pitch[3] : nullptr, n_above);
      coef_copy(rows->row(C_AS), at[2] + 1 < band->parent_side[2] ? above + pitch[3] : nullptr, n_above);
      coef_copy(rows->row(C_AP), at[1] ? above - pitch[2] : nullptr, n_above);
      coef_copy(rows->row(C_AQ), at[1] + 1 < band->parent_side[1] ? above + pitch[2] : nullptr, n_above);
    }
    // The sisters that came before it.
    coef_clear(rows->row(C_SIS), n);
    const int64_t index[3] = {u, z, y};
    int64_t sisters = 0;
    for (const CoefficientBand *other = f->bands + band->first; other < band; other++, sisters++)
      coef_add(rows->row(C_SIS), f, other, t, index, n);
    const int parts_near = 8 + (y ? 12 : 0) + (y > 1 ? 2 : 0) + (back ? 10 : 0) + (outer ? 6 : 0) + (past ? 9 : 0);
    const int parts_above = band->has_parent ? 10 : 0, parts_beside = (int)sisters * 4;
    int32_t *sizes = rows->row(C_OWN);
    const uint64_t where = (uint64_t)(band - f->bands);
    for (int64_t x = 0; x < n; x++) {
      const int64_t xa = band->has_parent ? least(x >> band->shift[3], n_above - 1) : 0;
      const int32_t w = sizes[x - 1], ww = sizes[x - 2], no = r[C_N][x], nw = r[C_N][x - 1], ne = r[C_N][x + 1];
      const int32_t nn = r[C_NN][x], p = r[C_P][x], o = r[C_U][x], b = r[C_T][x];
      const int32_t around_p = r[C_P][x - 1] + r[C_P][x + 1] + r[C_PN][x] + r[C_PS][x];
      const int32_t around_b = r[C_T][x - 1] + r[C_T][x + 1] + r[C_TN][x] + r[C_TS][x];
      int32_t a = 0, around_a = 0;
      if (band->has_parent) {
        a = r[C_A][xa];
        around_a = r[C_A][xa - 1] + r[C_A][xa + 1] + r[C_AN][xa] + r[C_AS][xa] + r[C_AP][xa] + r[C_AQ][xa];
      }
      const int32_t s = r[C_SIS][x], around_s = r[C_SIS][x - 1] + r[C_SIS][x + 1];
      const int64_t near = 6 * (int64_t)(w + no + p + o) + 3 * (nw + ne) + 2 * (ww + nn) + around_p + 5 * (int64_t)b + around_b;
      const int64_t coarse = 2 * (int64_t)a + around_a, beside = 2 * (int64_t)s + around_s;
      const uint32_t q_near = (uint32_t)(16 * near / parts_near);
      const uint32_t q_coarse = parts_above ? (uint32_t)(2 * coarse) : 0;
      const uint32_t q_beside = sisters ? (uint32_t)(4 * beside / sisters) : 0;
      const uint32_t expected = (uint32_t)(16 * (near + coarse + beside) / (parts_near + parts_above + parts_beside));
      const int h_near = coef_half(q_near), h_coarse = coef_half(q_coarse), h_beside = coef_half(q_beside);
      CoefContext at;
      at.zone = 0, at.size = least(31, coef_half(expected));
      at.place = (w > 0) + 2 * (no > 0) + 4 * (p > 0) + 8 * (a > 0) + 16 * (s > 0) + 32 * (b > 0);
      uint64_t *v = at.value;
      v[0] = (uint64_t)coef_quarter(expected) * 64 + kind;
      v[1] = ((uint64_t)h_near * 64 + h_coarse) * 64 + h_beside;
      v[2] = (((uint64_t)coef_small(w) * 16 + coef_small(no)) * 16 + coef_small(p)) * 16 + coef_small(b);
      v[3] = ((uint64_t)coef_half(w + no + p) * 64 + coef_half(nw + ne + ww + nn + around_p)) * 64 + coef_half(a);
      v[4] = (((uint64_t)h_coarse * 64 + coef_half(a)) * 64 + coef_half(w + no + p)) * 16 + band->kind;
      v[5] = ((uint64_t)coef_half(b) * 64 + coef_half(around_b)) * 64 + h_near;
      v[6] = (((uint64_t)coef_small(w) * 16 + coef_small(ww)) * 16 + coef_small(nw)) * 16 + coef_small(ne);
      v[7] = (((uint64_t)coef_half(s) * 64 + coef_half(around_s)) * 64 + coef_half(w + no)) * 16 + band->kind;
      v[8] = (((uint64_t)coef_small(no) * 16 + coef_small(nn)) * 16 + coef_small(ne)) * 64 + kind;
      v[9] = (((uint64_t)coef_small(p) * 64 + coef_half(around_p)) * 16 + coef_small(o)) * 64 + kind;
      v[10] = (where * 65536 + (uint64_t)y) * 65536 + (uint64_t)x;
      v[11] = where;
      int32_t size = coef_magnitude<ROLE>(m, &at, ROLE == MIX_READ ? 0 : own[x] < 0 ? -own[x] : own[x]);
      if (size) {
        const int sw = x ? coef_of_sign(own[x - 1]) : 0, sn = north ? coef_of_sign(north[x]) : 0;
        const int sww = x > 1 ? coef_of_sign(own[x - 2]) : 0, snw = north && x ? coef_of_sign(north[x - 1]) : 0;
        const int sne = north && x + 1 < n ? coef_of_sign(north[x + 1]) : 0, sp = back ? coef_of_sign(back[x]) : 0;
        const int sb = past ? coef_of_sign(past[x]) : 0, so = outer ? coef_of_sign(outer[x]) : 0;
        const int sa = above ? coef_of_sign(above[xa]) : 0, small = least(size, 3);
        v[0] = ((uint64_t)sw * 3 + sn) * 64 + kind;
        v[1] = (((uint64_t)sw * 3 + sn) * 3 + sp) * 64 + kind;
        v[2] = ((uint64_t)sb * 3 + sw) * 64 + kind;
        v[3] = ((uint64_t)sp * 3 + so) * 64 + kind;
        v[4] = ((((uint64_t)sw * 3 + sww) * 3 + sn) * 3 + snw) * 3 + sne;
        v[5] = (((uint64_t)sa * 3 + sw) * 3 + sn) * 64 + kind;
        v[6] = ((uint64_t)sb * 4 + small) * 64 + kind;
        v[7] = (((uint64_t)sw * 3 + sww) * 4 + small) * 64 + kind;
        v[8] = (((uint64_t)sn * 3 + snw) * 3 + sne) * 64 + kind;
        v[9] = ((uint64_t)sa * 4 + (x & 1) * 2 + (y & 1)) * 64 + kind;
        v[10] = (where * 65536 + (uint64_t)y) * 65536 + (uint64_t)x;
        v[11] = where;
        int negative = coef_sign<ROLE>(m, &at, ROLE == MIX_READ ? 0 : own[x] < 0);
        if (ROLE == MIX_READ) own[x] = negative ? -size : size;
      } else if (ROLE == MIX_READ) {
        own[x] = 0;
      }
      sizes[x] = least(size, COEF_MOST);
    }
    if (m->c->failed) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY;
  }
  return CODEC_OK;
}

template <int ROLE> static int coef_field(MixingCoder *c, const CoefficientField *f) {
  Mix m;
  CoefRows rows;
  mix_begin(&m, c);
  if (!coef_rows(&rows, f->shape[4])) return CODEC_NO_MEMORY;
  for (int64_t i = 0; i < f->n_bands; i++) {
    int status = coef_band<ROLE>(&m, f, f->bands + i, &rows);
    if (status) return status;
  }
  return CODEC_OK;
}

// ---- corrections

enum { R_OWN, R_N, R_NN, R_P, R_PN, R_PS, R_T, R_U, R_FINE, R_NEXT, R_THIRD };

template <int ROLE> static int coef_corrections(MixingCoder *c, const CoefficientField *f, int32_t *values) {
  Mix m;
  CoefRows rows;
  mix_begin(&m, c);
  const int64_t *shape = f->shape, n = shape[4];
  if (!coef_rows(&rows, n)) return CODEC_NO_MEMORY;
  int64_t pitch[4];
  pitch[3] = n, pitch[2] = n * shape[3], pitch[1] = pitch[2] * shape[2], pitch[0] = pitch[1] * shape[1];
  const int32_t *r[11];
  for (int i = 0; i < 11; i++) r[i] = rows.row(i);
  const CoefficientBand *last = f->bands + f->n_bands - 1;
  int64_t halved[4] = {0, 0, 0, 0}; // along which axes the finest level is half as fine
  if (f->n_bands > 1)
    for (int a = 0; a < 4; a++) halved[a] = last->shift[a];
  const int64_t lines = shape[0] * shape[1] * shape[2] * shape[3];
  for (int64_t line = 0; line < lines; line++) {
    int64_t y = line % shape[3], z = line / shape[3] % shape[2], u = line / shape[3] / shape[2] % shape[1];
    int64_t t = line / shape[3] / shape[2] / shape[1];
    int32_t *own = values + line * n;
    const int32_t *north = y ? own - pitch[3] : nullptr, *back = z ? own - pitch[2] : nullptr;
    const int32_t *past = t ? own - pitch[0] : nullptr, *outer = u ? own - pitch[1] : nullptr;
    coef_clear(rows.row(R_OWN), n);
    coef_copy(rows.row(R_N), north, n);
    coef_copy(rows.row(R_NN), y > 1 ? own - 2 * pitch[3] : nullptr, n);
    coef_copy(rows.row(R_P), back, n);
    coef_copy(rows.row(R_PN), back && y ? back - pitch[3] : nullptr, n);
    coef_copy(rows.row(R_PS), back && y + 1 < shape[3] ? back + pitch[3] : nullptr, n);
    coef_copy(rows.row(R_T), past, n);
    coef_copy(rows.row(R_U), outer, n);
    // The magnitudes of the three finest levels here.
    int64_t index[3] = {u, z, y}, parts[3] = {0, 0, 0}, wide = n, shifts[3] = {0, 0, 0}, at_level = 0;
    for (int i = 0; i < 3; i++) coef_clear(rows.row(R_FINE + i), n);
    for (int64_t b = f->n_bands - 1; b >= 0 && at_level < 3; at_level++) {
      const CoefficientBand *end = f->bands + b;
      if (!end->kind) break;
      for (int a = 0; a < 3; a++) index[a] >>= end->shift[a];
      wide = (wide + end->shift[3]) >> end->shift[3];
      for (int64_t i = at_level; i < 3; i++) shifts[i] += end->shift[3];
      for (const CoefficientBand *band = f->bands + end->first; band <= end; band++, parts[at_level]++)
        coef_add(rows.row(R_FINE + (int)at_level), f, band, t, index, wide);
      b = end->first - 1;
    }
    const uint64_t parity = (u & halved[0]) * 8 + (z & halved[1]) * 4 + (y & halved[2]) * 2;
    int32_t *sizes = rows.row(R_OWN);
    for (int64_t x = 0; x < n; x++) {
      const int32_t w = sizes[x - 1], ww = sizes[x - 2], no = r[R_N][x], nw = r[R_N][x - 1], ne = r[R_N][x + 1];
      const int32_t nn = r[R_NN][x], p = r[R_P][x], b = r[R_T][x], o = r[R_U][x];
      const int32_t around_p = r[R_P][x - 1] + r[R_P][x + 1] + r[R_PN][x] + r[R_PS][x];
      uint32_t act[3], sides[3];
      for (int i = 0; i < 3; i++) {
        const int64_t xl = x >> shifts[i];
        const int32_t *row = r[R_FINE + i];
        act[i] = (uint32_t)(parts[i] ? 16 * (int64_t)row[xl] / parts[i] : 0);
        sides[i] = (uint32_t)(parts[i] ? 8 * ((int64_t)row[xl - 1] + row[xl + 1]) / parts[i] : 0);
      }
      const int32_t near = 2 * (w + no + p) + nw + ne + ww + nn + around_p + b + o;
      const uint64_t odd = parity + (x & halved[3]);
      CoefContext at;
      at.zone = 1, at.place = (int)(odd * 4 + least(near, 3)), at.size = least(31, coef_half(4 * act[0] + 4 * act[1] + 4 * act[2]));
      uint64_t *v = at.value;
      const int h0 = coef_half(act[0]), h1 = coef_half(act[1]), h2 = coef_half(act[2]);
      v[0] = ((uint64_t)h0 * 64 + h1) * 16 + odd;
      v[1] = ((uint64_t)h0 * 64 + h1) * 64 + h2;
      v[2] = (((uint64_t)least(w, 3) * 4 + least(no, 3)) * 4 + least(p, 3)) * 16 + odd;
      v[3] = ((uint64_t)least(near, 15) * 64 + h0) * 16 + odd;
      v[4] = ((uint64_t)h1 * 64 + h2) * 16 + odd;
      v[5] = ((((uint64_t)least(w, 3) * 4 + least(ww, 3)) * 4 + least(nw, 3)) * 4 + least(ne, 3)) * 4 + least(nn, 3);
      v[6] = (((uint64_t)least(b, 3) * 4 + least(o, 3)) * 16 + least(around_p, 15)) * 4 + least(p, 3);
      v[7] = (((uint64_t)h0 * 64 + coef_half(sides[0])) * 64 + coef_half(sides[1]));
      v[8] = ((uint64_t)coef_quarter(act[0] + act[1] + act[2]) * 16 + odd) * 4 + least(near, 3);
      v[9] = odd;
      v[10] = (uint64_t)y * 65536 + (uint64_t)x;
      v[11] = (uint64_t)least(near, 15);
      int32_t size = coef_magnitude<ROLE>(&m, &at, ROLE == MIX_READ ? 0 : own[x] < 0 ? -own[x] : own[x]);
      if (size) {
        const int sw = x ? coef_of_sign(own[x - 1]) : 0, sn = north ? coef_of_sign(north[x]) : 0;
        const int sb = past ? coef_of_sign(past[x]) : 0;
        const int so = outer ? coef_of_sign(outer[x]) : 0, sww = x > 1 ? coef_of_sign(own[x - 2]) : 0;
        const int snn = y > 1 ? coef_of_sign(own[x - 2 * pitch[3]]) : 0;
        const int snw = north && x ? coef_of_sign(north[x - 1]) : 0;
        const int sne = north && x + 1 < n ? coef_of_sign(north[x + 1]) : 0;
        const int32_t dw = coef_held(x ? own[x - 1] : 0, 7), dn = coef_held(north ? north[x] : 0, 7);
        const int32_t dp = coef_held(back ? back[x] : 0, 7);
        v[0] = (uint64_t)(dw + 7) * 16 + (uint64_t)(dn + 7);
        v[1] = (uint64_t)(dw + 7) * 16 + odd;
        v[2] = (uint64_t)(dn + 7) * 16 + odd;
        v[3] = (uint64_t)(dp + 7) * 16 + odd;
        v[4] = (((uint64_t)sw * 3 + sww) * 3 + snw) * 3 + sne;
        v[5] = (uint64_t)sb * 3 + so;
        v[6] = (uint64_t)sn * 3 + snn;
        v[7] = (uint64_t)(dw + dn + dp + 21) * 4 + (uint64_t)least(size, 3);
        v[8] = (uint64_t)snw * 3 + sne;
        v[9] = odd;
        v[10] = (uint64_t)y * 65536 + (uint64_t)x;
        v[11] = (uint64_t)(dw + dn + 14) * 4 + (uint64_t)least(size, 3);
        int negative = coef_sign<ROLE>(&m, &at, ROLE == MIX_READ ? 0 : own[x] < 0);
        if (ROLE == MIX_READ) own[x] = negative ? -size : size;
      } else if (ROLE == MIX_READ) {
        own[x] = 0;
      }
      sizes[x] = least(size, COEF_MOST);
    }
    if (c->failed) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY;
  }
  return CODEC_OK;
}

// ---- entry points

INLINE int coef_checked(const MixingCoder *c, const CoefficientField *f) {
  if (c->n_contexts != COEF_CONTEXTS || c->n_choices != 3 || c->n_sets < COEF_SETS0 + COEF_SETS1 + COEF_SETS2 ||
      c->n_finals < COEF_SETS0 || c->n_refined < COEF_REFINED0 + COEF_REFINED1 || f->n_bands < 1)
    return CODEC_BAD_CALL;
  for (int64_t i = 0; i < f->n_bands; i++) {
    const CoefficientBand *band = f->bands + i;
    if (band->first < 0 || band->first > i || band->kind < 0 || band->kind > 15 || band->level < 0) return CODEC_BAD_CALL;
    for (int a = 0; a < 4; a++) {
      if (band->low[a] < 0 || band->side[a] < 1 || band->low[a] + band->side[a] > f->shape[a + 1] || band->shift[a] < 0 ||
          band->shift[a] > 1 || f->shape[a + 1] > 1 << 30)
        return CODEC_BAD_CALL;
      if (band->has_parent && (band->parent[a] < 0 || band->parent_side[a] < 1 ||
                               band->parent[a] + band->parent_side[a] > f->shape[a + 1]))
        return CODEC_BAD_CALL;
    }
  }
  return CODEC_OK;
}

// Codes all coefficients. Magnitudes are up to 2^28.
int mixing_coefficients(MixingCoder *c, int role, const CoefficientField *field) {
  if (coef_checked(c, field)) return CODEC_BAD_CALL;
  switch (role) {
  case MIX_WRITE: return coef_field<MIX_WRITE>(c, field);
  case MIX_READ: return coef_field<MIX_READ>(c, field);
  case MIX_PRICE: return coef_field<MIX_PRICE>(c, field);
  }
  return CODEC_BAD_CALL;
}

// Codes corrections, one for each value, whose contexts are the coefficients, too.
int mixing_corrections(MixingCoder *c, int role, const CoefficientField *field, int32_t *corrections) {
  if (coef_checked(c, field)) return CODEC_BAD_CALL;
  switch (role) {
  case MIX_WRITE: return coef_corrections<MIX_WRITE>(c, field, corrections);
  case MIX_READ: return coef_corrections<MIX_READ>(c, field, corrections);
  case MIX_PRICE: return coef_corrections<MIX_PRICE>(c, field, corrections);
  }
  return CODEC_BAD_CALL;
}
