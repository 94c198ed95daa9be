// Levels of pictures, mixed: ordered values on sheets of one to four channels.
//
// Two least squares fits over the neighbours (as PAQ8PX has them, after Wu, Barthel and Zhang, "Piecewise 2D
// autoregression for predictive image coding", ICIP 1998), a gradient and their blend predict each value. Each of them
// gives the mixer log odds, of a logistic distribution around it whose scale follows its errors nearby; hashed contexts
// give what such distributions can't. The fits are float64, in single operations of a fixed order: the same everywhere.
// The twin is entropy/mixing/levels.py.

enum { LEVEL_ZERO = 0, LEVEL_GRADIENT = 1, LEVEL_BEST = 2 };
const int LEVEL_CONTEXTS = 12, LEVEL_EXPERTS = 5, LEVEL_PREDICTORS = 4, LEVEL_BINS = 40, LEVEL_BIASES = 1024;
const int LEVEL_WIDE = 40, LEVEL_MARGIN = 4, LEVEL_ONE = 64; // predictions are 64ths

// A least squares fit that forgets. moments: the upper half of sums of products of inputs, the target last.
struct LevelFit {
  int64_t n, turn;
  alignas(64) double x[LEVEL_WIDE], w[LEVEL_WIDE], moments[LEVEL_WIDE][LEVEL_WIDE];
};

INLINE int32_t level_fitted(const LevelFit *f, int32_t around, int32_t top) {
  double lane[8];
  for (int j = 0; j < 8; j++) lane[j] = 0.0;
  for (int64_t i = 0; i < f->n; i += 8)
    for (int j = 0; j < 8; j++) lane[j] += f->w[i + j] * f->x[i + j];
  double sum = ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
  double value = sum * 64.0 + (double)(around * LEVEL_ONE);
  if (!(value > 0.0)) return 0;
  if (value >= (double)top) return top;
  return (int32_t)(value + 0.5) > top ? top : (int32_t)(value + 0.5);
}

// The weights that the moments ask for; the old ones where they don't give any.
static void level_solve(LevelFit *f, double ridge) {
  alignas(64) double a[LEVEL_WIDE][LEVEL_WIDE], y[LEVEL_WIDE];
  const int64_t n = f->n;
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = i; j <= n; j++) a[i][j] = f->moments[i][j];
    a[i][i] += ridge;
  }
  for (int64_t k = 0; k < n; k++) {
    if (!(a[k][k] > 1e-6)) return;
    double unit = 1.0 / sqrt(a[k][k]);
    for (int64_t j = k; j <= n; j++) a[k][j] *= unit;
    for (int64_t i = k + 1; i < n; i++) {
      double by = a[k][i];
      for (int64_t j = i; j <= n; j++) a[i][j] -= by * a[k][j];
    }
  }
  for (int64_t i = 0; i < n; i++) y[i] = a[i][n];
  for (int64_t i = n - 1; i >= 0; i--) {
    y[i] /= a[i][i];
    for (int64_t j = 0; j < i; j++) y[j] -= a[j][i] * y[i];
  }
  for (int64_t i = 0; i < n; i++) f->w[i] = y[i];
}

INLINE void level_learned(LevelFit *f, double target, double keep, double ridge, int64_t every) {
  const int64_t n = f->n;
  f->x[n] = target;
  for (int64_t i = 0; i < n; i++) {
    double by = f->x[i];
    for (int64_t j = i; j <= n; j++) f->moments[i][j] = f->moments[i][j] * keep + by * f->x[j];
  }
  if (++f->turn == every) {
    f->turn = 0;
    level_solve(f, ridge);
  }
}

INLINE int level_bin(int64_t e) { // of an error in 64ths: two bins an octave
  e = (e >> 2) + 1;
  int whole = 63 - __builtin_clzll((uint64_t)e);
  int bin = 2 * whole + (whole ? (int)(e >> (whole - 1)) & 1 : 0);
  return bin < LEVEL_BINS ? bin : LEVEL_BINS - 1;
}

// What is known of a channel beside the mixer: fits, errors nearby, spreads.
struct LevelChannel {
  LevelFit wide, near;
  int32_t spread[LEVEL_EXPERTS][LEVEL_BINS * 8]; // 2^6 times the mean error, in 64ths
  int32_t bias[LEVEL_BIASES];                    // 2^6 times
};

struct LevelRows {
  int32_t *value[4];                       // rows y, y - 1, ...: (MARGIN + w + MARGIN) * c
  int32_t *error[3][LEVEL_PREDICTORS + 1]; // absolute errors of each predictor; signed ones of the best
};

struct LevelPlace { // what is known before a value is coded
  int32_t p[LEVEL_PREDICTORS];
  int64_t e[LEVEL_PREDICTORS];
  int32_t mean[LEVEL_EXPERTS], spread[LEVEL_EXPERTS], slot[LEVEL_EXPERTS];
  int32_t base, around, bias;
  int bin;
  uint64_t context[LEVEL_CONTEXTS];
};

INLINE int32_t level_median(int32_t a, int32_t b, int32_t c) {
  int32_t low = least(a, b), high = most(a, b);
  return c < low ? low : c > high ? high : c;
}

INLINE int32_t level_clamp(int32_t v, int32_t top) { return v < 0 ? 0 : v > top ? top : v; }

// The inputs of the fits: neighbours of this channel, then those of the others.
INLINE void level_inputs(LevelChannel *s, const LevelRows *r, int64_t at, int64_t c, int64_t k, LevelPlace *o) {
  static const int8_t DY[14] = {0, 1, 1, 1, 0, 2, 2, 1, 1, 2, 0, 3, 2, 2};
  static const int8_t DX[14] = {-1, 0, -1, 1, -2, 0, 1, -2, 2, -1, -3, 0, -2, 2};
  const int32_t *row0 = r->value[0] + at, *row1 = r->value[1] + at;
  double *x = s->wide.x;
  o->around = (row0[k - c] + row1[k] + 1) >> 1;
  int n = 0;
  for (int i = 0; i < 14; i++) x[n++] = (double)(r->value[DY[i]][at + DX[i] * c + k] - o->around);
  for (int64_t j = 0; j < c; j++) {
    if (j == k) continue;
    int32_t middle = (row0[j - c] + row1[j] + 1) >> 1;
    x[n++] = (double)(row0[j - c] - middle);
    x[n++] = (double)(row1[j] - middle);
    if (j > k) continue;
    x[n++] = (double)(row0[j] - middle);
    x[n++] = (double)(row1[j - c] - middle);
    x[n++] = (double)(row1[j + c] - middle);
    x[n++] = (double)(row0[j - 2 * c] - middle);
  }
  while (n % 8) x[n++] = 0.0;
  s->wide.n = n;
  double *z = s->near.x;
  for (int i = 0; i < 6; i++) z[i] = x[i];
  int m = 6;
  if (k) {
    int32_t middle = (row0[k - 1 - c] + row1[k - 1] + 1) >> 1;
    z[m++] = (double)(row0[k - 1] - middle);
    z[m++] = (double)(row0[k - 1 - c] - middle);
  }
  while (m % 8) z[m++] = 0.0;
  s->near.n = m;
}

INLINE int32_t level_gradient(const LevelRows *r, int64_t at, int64_t c, int64_t k, int32_t top) {
  const int32_t *row0 = r->value[0] + at, *row1 = r->value[1] + at;
  int32_t w = row0[k - c], n = row1[k], nw = row1[k - c];
  if (!k) return level_median(w, n, w + n - nw);
  int32_t a = row0[k - 1], dw = w - row0[k - 1 - c], dn = n - row1[k - 1], dnw = nw - row1[k - 1 - c];
  return level_clamp(a + level_median(dw, dn, dw + dn - dnw), top);
}

// Predictions, their errors nearby, and the distributions around them.
INLINE void level_predict(LevelChannel *s, const LevelRows *r, int64_t at, int64_t c, int64_t k, int32_t top,
                          LevelPlace *o) {
  const int32_t high = top * LEVEL_ONE;
  level_inputs(s, r, at, c, k, o);
  o->p[0] = level_fitted(&s->wide, o->around, high);
  o->p[1] = level_fitted(&s->near, o->around, high);
  o->p[2] = level_gradient(r, at, c, k, top) * LEVEL_ONE;
  for (int i = 0; i < LEVEL_PREDICTORS; i++) {
    const int32_t *e0 = r->error[0][i] + at + k, *e1 = r->error[1][i] + at + k, *e2 = r->error[2][i] + at + k;
    o->e[i] = (int64_t)e0[-c] * 2 + e1[0] * 2 + e1[-c] + e1[c] + e0[-2 * c] + e2[0];
  }
  int64_t sum = 0, total = 0;
  for (int i = 0; i < 3; i++) {
    int64_t e = (o->e[i] >> 2) + 8, weight = ((int64_t)1 << 36) / (e * e) + 1;
    sum += weight * o->p[i];
    total += weight;
  }
  int32_t blend = (int32_t)(sum / total);
  const int32_t *row0 = r->value[0] + at + k, *row1 = r->value[1] + at + k, *row2 = r->value[2] + at + k;
  int pattern = 0;
  int32_t near[7] = {row0[-c], row1[0], row1[-c], row1[c], row0[-2 * c], row2[0], 2 * row0[-c] - row0[-2 * c]};
  for (int i = 0; i < 7; i++) pattern = pattern * 2 + (near[i] * LEVEL_ONE > blend);
  o->bin = level_bin(o->e[3] >> 3);
  int32_t scale = o->bin > 27 ? 7 : o->bin > 6 ? (o->bin - 6) / 3 : 0;
  o->bias = pattern * 8 + scale;
  o->p[3] = level_clamp(blend + (s->bias[o->bias] >> 6), high);
  int32_t before = k ? level_bin(r->error[0][3][at + k - 1]) : 0;
  int32_t steps = before / 3 > 7 ? 7 : before / 3;
  o->mean[0] = o->p[0];
  o->mean[1] = o->p[1];
  o->mean[2] = o->p[2];
  o->mean[3] = o->mean[4] = o->p[3];
  for (int i = 0; i < LEVEL_EXPERTS; i++) {
    int from = i == 4 ? 3 : i;
    o->slot[i] = level_bin(o->e[from] >> 3) * 8 + (i == 3 ? steps : i == 4 ? level_bin(o->e[0] >> 1) & 7 : 0);
    o->spread[i] = s->spread[i][o->slot[i]];
  }
}

INLINE uint64_t level_mixed(uint64_t a, uint64_t b, uint64_t c) { return mix_hash(a, mix_hash(b, c)); }

INLINE void level_contexts(const LevelSheets *job, const LevelRows *r, int64_t at, int64_t c, int64_t k, int64_t y,
                           int64_t x, int32_t before, LevelPlace *o) {
  const int32_t *row0 = r->value[0] + at + k, *row1 = r->value[1] + at + k, *row2 = r->value[2] + at + k;
  int32_t w = row0[-c], n = row1[0], nw = row1[-c], ne = row1[c], ww = row0[-2 * c], nn = row2[0];
  int32_t a = k ? row0[-1] : 0, b = k > 1 ? row0[-2] : 0;
  const int32_t *signs = r->error[0][4] + at + k, *above = r->error[1][4] + at + k;
  int32_t ea = k ? signs[-1] : 0, eb = k > 1 ? signs[-2] : 0, best = o->p[3];
  int32_t m = (best + 32) >> 6;
  uint64_t kind = (uint64_t)(k * 3 + job->base);
  uint64_t base = job->base == LEVEL_ZERO ? 0 : (uint64_t)o->base + 1; // tells the value
  uint64_t own = job->base == LEVEL_BEST ? 0 : (uint64_t)m + 1;        // what errors are measured from
  uint64_t E = (uint64_t)o->bin;
  int32_t off = (o->p[2] - best) >> 6, off2 = (o->p[1] - best) >> 5, frac = (best & 63) >> 3;
  uint64_t *h = o->context;
  int i = 0;
#define CONTEXT(u, v) h[i] = level_mixed(kind * 32 + i, (uint64_t)(u), (uint64_t)(v)), i++
  CONTEXT(own, E);
  CONTEXT(own + E * 65537, (int64_t)(signs[-c] >> 6) * 65536 + (above[0] >> 6));
  CONTEXT(own + (uint64_t)(o->bias >> 3) * 65537, E / 4);
  CONTEXT(own + E * 65537, off);
  CONTEXT(base, m);
  CONTEXT(own + E * 65537, frac * 64 + off2);
  CONTEXT(base + ((uint64_t)ne << 32), (uint64_t)w << 32 | (uint64_t)n << 16 | nw);
  CONTEXT(base, (uint64_t)w << 16 | n);
  if (k) { // what the channels before say
    CONTEXT(own + E / 2 * 65537, (int64_t)(ea >> 5) * 65536 + (eb >> 7));
    CONTEXT(base + ((uint64_t)b << 32), (uint64_t)a << 16 | m);
    CONTEXT(base + ((uint64_t)b << 32), (uint64_t)a << 32 | (uint64_t)w << 16);
  } else {
    CONTEXT(base + ((uint64_t)ww << 32), (uint64_t)w << 16 | (ne >> 2));
    CONTEXT(base + ((uint64_t)nn << 32), (uint64_t)n << 16 | ne);
    CONTEXT(base, (uint64_t)level_clamp(w + n - nw, 65535) << 16 | level_clamp(w + ne - n, 65535));
  }
  CONTEXT(base + ((uint64_t)before << 32), job->n > 1 ? (uint64_t)y << 24 | x : (uint64_t)(w + n) << 24 | (uint64_t)(nw + ne));
#undef CONTEXT
}

INLINE int32_t level_below(const LevelSheets *job, int64_t edge, int32_t mean, int64_t by) {
  int64_t z = (((edge * LEVEL_ONE - LEVEL_ONE / 2 - mean) * by) >> 16) + (1 << 18);
  z = z < 0 ? 0 : z > (1 << 19) - 1 ? (1 << 19) - 1 : z;
  int32_t low = job->shape[z >> 8], high = job->shape[(z >> 8) + 1];
  return low + (int32_t)(((int64_t)(high - low) * (z & 255)) >> 8);
}

INLINE int level_energy(const LevelPlace *o) { return o->bin > 31 ? 15 : o->bin / 2; }

INLINE void level_choose(Mix *m, int64_t k, int level, int prefix, int energy, int third) {
  const int32_t row = ((int32_t)k * 9 + level) * 16; // of 4 channels of 9 levels: 576
  m->set[0] = m->last = m->refine[0] = (int32_t)(k << 8) + prefix;
  m->set[1] = m->refine[1] = 1024 + row + energy;
  m->set[2] = 1600 + row + third;
}

// Where all around are the same, nothing has to be predicted: what its contexts take from a prediction.
INLINE void level_flat(const LevelRows *r, int64_t at, int64_t c, int64_t k, LevelPlace *o) {
  const int32_t *e0 = r->error[0][3] + at + k, *e1 = r->error[1][3] + at + k, *e2 = r->error[2][3] + at + k;
  int32_t value = r->value[1][at + k] * LEVEL_ONE;
  for (int i = 0; i < LEVEL_PREDICTORS; i++) o->p[i] = value;
  o->bin = level_bin(((int64_t)e0[-c] * 2 + e1[0] * 2 + e1[-c] + e1[c] + e0[-2 * c] + e2[0]) >> 3);
  static const int8_t DY[7] = {0, 2, 1, 1, 2, 2, 0}, DX[7] = {-2, 0, 2, -2, 1, -1, -3};
  o->base = value >> 6;
  o->bias = 0; // which of those further away are the same, too
  for (int i = 0; i < 7; i++) o->bias = o->bias * 2 + (r->value[DY[i]][at + DX[i] * c + k] == o->base);
  o->bias *= 8;
}

// One decision: whether a value is as all around it.
template <int ROLE>
static int level_same(Mix *m, const LevelRows *r, int64_t at, int64_t c, int64_t k, const LevelPlace *o, int same) {
  const int32_t *row0 = r->value[0] + at + k;
  uint64_t hashes[LEVEL_CONTEXTS];
  for (int i = 0; i < LEVEL_CONTEXTS; i++) hashes[i] = mix_hash(7, o->context[i]);
  mix_open(m, hashes);
  for (int i = 0; i < LEVEL_EXPERTS; i++) m->extra[i] = 0;
  level_choose(m, k, 8, 0, level_energy(o), k ? row0[-1] == row0[-1 - c] : 0);
  return mix_bit<ROLE>(m, 1, same);
}

INLINE int level_twin(const LevelRows *r, int64_t at, int64_t c, int64_t k) {
  const int32_t *row0 = r->value[0] + at + k, *row1 = r->value[1] + at + k;
  return (row0[-c] == row1[0]) + 2 * (row1[0] == row1[c]) + 4 * (row1[0] == row1[-c]);
}

template <int ROLE>
static int32_t level_code(Mix *m, const LevelSheets *job, int64_t k, int twin, const LevelPlace *o, int32_t value) {
  const int bits = (int)job->bits, energy = level_energy(o);
  const int32_t size = 1 << bits, mask = size - 1;
  uint64_t hashes[LEVEL_CONTEXTS];
  int64_t by[LEVEL_EXPERTS];
  int32_t low[LEVEL_EXPERTS], high[LEVEL_EXPERTS];
  int64_t from = job->base == LEVEL_ZERO ? 0 : (int64_t)o->base - (size >> 1), to = from + size;
  for (int i = 0; i < LEVEL_EXPERTS; i++) {
    int32_t spread = (o->spread[i] >> 6) + 4;
    by[i] = ((int64_t)22713 << 16) / spread;
    low[i] = level_below(job, from, o->mean[i], by[i]);
    high[i] = level_below(job, to, o->mean[i], by[i]);
  }
  int32_t coded = (int32_t)(value - from) & mask, made = 0;
  int left = bits;
  for (int g = 0; left; g++) {
    for (int i = 0; i < LEVEL_CONTEXTS; i++) hashes[i] = mix_hash(g, o->context[i] + (uint64_t)made * 0x9E3779B97F4A7C15u);
    mix_open(m, hashes);
    int node = 1;
    for (int b = 0; b < 4 && left; b++) {
      left--;
      int64_t middle = from + ((to - from) >> 1);
      int32_t mid[LEVEL_EXPERTS];
      for (int i = 0; i < LEVEL_EXPERTS; i++) {
        mid[i] = level_below(job, middle, o->mean[i], by[i]);
        int64_t above = (int64_t)(high[i] - mid[i]) + 16, all = (int64_t)(high[i] - low[i]) + 32;
        m->extra[i] = m->c->stretch[mix_odds((uint32_t)((above << 16) / all))];
      }
      int depth = bits - 1 - left;
      int prefix = depth < 8 ? (1 << depth) + made : 0;
      int level = depth > 7 ? 7 : depth;
      level_choose(m, k, level, prefix, energy, twin);
      int bit = mix_bit<ROLE>(m, node, (coded >> left) & 1);
      if (bit) from = middle;
      else to = middle;
      for (int i = 0; i < LEVEL_EXPERTS; i++) *(bit ? &low[i] : &high[i]) = mid[i];
      node = node * 2 + bit;
      made = made * 2 + bit;
    }
  }
  return (int32_t)from & mask;
}

INLINE void level_after(LevelChannel *s, LevelRows *r, int64_t at, int64_t k, const LevelPlace *o, int32_t value) {
  int32_t scaled = value * LEVEL_ONE;
  for (int i = 0; i < LEVEL_PREDICTORS; i++) {
    int32_t error = scaled - o->p[i];
    r->error[0][i][at + k] = error < 0 ? -error : error;
  }
  r->error[0][4][at + k] = scaled - o->p[3];
  for (int i = 0; i < LEVEL_EXPERTS; i++) {
    int32_t error = scaled - o->mean[i];
    s->spread[i][o->slot[i]] += ((error < 0 ? -error : error) * 64 - s->spread[i][o->slot[i]]) >> 6;
  }
  int32_t *bias = &s->bias[o->bias];
  *bias += ((scaled - o->p[3]) * 64) >> 6;
  level_learned(&s->wide, (double)(value - o->around), 0.9995, 1.0, 4);
  level_learned(&s->near, (double)(value - o->around), 0.95, 1.0, 4);
}

// The rows of a sheet move down by a row; what lies beside them is filled.
INLINE void level_down(LevelRows *r, int64_t y, int64_t w, int64_t c) {
  const int64_t pitch = (w + 2 * LEVEL_MARGIN) * c, end = (w + LEVEL_MARGIN) * c;
  if (!y) {
    for (int i = 0; i < 4; i++) memset(r->value[i], 0, pitch * sizeof(int32_t));
    for (int i = 0; i < 3; i++)
      for (int j = 0; j <= LEVEL_PREDICTORS; j++) memset(r->error[i][j], 0, pitch * sizeof(int32_t));
    return;
  }
  for (int64_t j = 0; j < LEVEL_MARGIN * c; j++) r->value[0][end + j] = r->value[0][end - c + j % c];
  for (int p = 0; p <= LEVEL_PREDICTORS; p++)
    for (int64_t j = 0; j < LEVEL_MARGIN * c; j++) r->error[0][p][end + j] = r->error[0][p][end - c + j % c];
  int32_t *oldest = r->value[3];
  for (int i = 3; i; i--) r->value[i] = r->value[i - 1];
  r->value[0] = oldest;
  for (int64_t j = 0; j < LEVEL_MARGIN * c; j++) r->value[0][j] = r->value[1][LEVEL_MARGIN * c + j % c];
  for (int p = 0; p <= LEVEL_PREDICTORS; p++) {
    oldest = r->error[2][p];
    for (int i = 2; i; i--) r->error[i][p] = r->error[i - 1][p];
    r->error[0][p] = oldest;
    for (int64_t j = 0; j < LEVEL_MARGIN * c; j++) oldest[j] = r->error[1][p][LEVEL_MARGIN * c + j % c];
  }
}

template <int ROLE> static int level_sheets(MixingCoder *coder, const LevelSheets *job) {
  const int64_t w = job->w, c = job->c, pitch = (w + 2 * LEVEL_MARGIN) * c;
  const int n_rows = 4 + 3 * (LEVEL_PREDICTORS + 1);
  LevelChannel *channels = (LevelChannel *)pool_scratch(0, c * sizeof(LevelChannel));
  int32_t *room = (int32_t *)pool_scratch(1, n_rows * pitch * sizeof(int32_t));
  if (!channels || !room) return CODEC_NO_MEMORY;
  memset(channels, 0, c * sizeof(LevelChannel));
  for (int64_t k = 0; k < c; k++)
    for (int i = 0; i < LEVEL_EXPERTS; i++)
      for (int j = 0; j < LEVEL_BINS * 8; j++) {
        int bin = j / 8, whole = bin / 2;
        channels[k].spread[i][j] = whole > 18 ? 1 << 26 : (1 << (whole + 8)) + (bin & 1) * (1 << (whole + 7));
      }
  LevelRows rows;
  for (int i = 0; i < 4; i++) rows.value[i] = room + i * pitch;
  for (int i = 0; i < 3; i++)
    for (int j = 0; j <= LEVEL_PREDICTORS; j++) rows.error[i][j] = room + (4 + i * (LEVEL_PREDICTORS + 1) + j) * pitch;
  Mix m;
  mix_begin(&m, coder);
  const int32_t top = (1 << job->bits) - 1;
  LevelPlace place;
  for (int64_t t = 0; t < job->n; t++)
    for (int64_t y = 0; y < job->h; y++) {
      level_down(&rows, y, w, c);
      uint16_t *line = job->values + (t * job->h + y) * w * c;
      const uint16_t *earlier = t ? line - job->h * w * c : nullptr;
      for (int64_t x = 0; x < w; x++)
        for (int64_t k = 0; k < c; k++) {
          int64_t at = (x + LEVEL_MARGIN) * c;
          LevelChannel *s = &channels[k];
          int32_t value = ROLE == MIX_READ ? 0 : line[x * c + k], before = earlier ? earlier[x * c + k] : 0;
          int twin = level_twin(&rows, at, c, k);
          if (twin == 7) {
            level_flat(&rows, at, c, k, &place);
            level_contexts(job, &rows, at, c, k, y, x, before, &place);
            if (level_same<ROLE>(&m, &rows, at, c, k, &place, value == place.base)) {
              rows.value[0][at + k] = place.base;
              for (int i = 0; i <= LEVEL_PREDICTORS; i++) rows.error[0][i][at + k] = 0;
              if (ROLE == MIX_READ) line[x * c + k] = (uint16_t)place.base;
              continue;
            }
          }
          level_predict(s, &rows, at, c, k, top, &place);
          place.base = job->base == LEVEL_BEST ? (place.p[3] + 32) >> 6 : place.p[2] >> 6;
          level_contexts(job, &rows, at, c, k, y, x, before, &place);
          value = level_code<ROLE>(&m, job, k, twin, &place, value);
          if (ROLE == MIX_READ) line[x * c + k] = (uint16_t)value;
          rows.value[0][at + k] = value;
          level_after(s, &rows, at, k, &place, value);
        }
      if (coder->failed) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY;
    }
  return CODEC_OK;
}

// Codes the values of all sheets. The plan of the coder: entropy/mixing/levels.py.
int mixing_levels(MixingCoder *c, int role, const LevelSheets *job) {
  if (job->c < 1 || job->c > 4 || job->bits < 1 || job->bits > 16 || job->base < 0 || job->base > 2 || job->n < 1 ||
      job->h < 1 || job->w < 1 || c->n_contexts != LEVEL_CONTEXTS || c->n_extra != LEVEL_EXPERTS || c->n_choices != 3 ||
      c->n_sets < 2176 || c->n_finals < 1024 || c->n_refined < 1600)
    return CODEC_BAD_CALL;
  switch (role) {
  case MIX_WRITE: return level_sheets<MIX_WRITE>(c, job);
  case MIX_READ: return level_sheets<MIX_READ>(c, job);
  case MIX_PRICE: return level_sheets<MIX_PRICE>(c, job);
  }
  return CODEC_BAD_CALL;
}
