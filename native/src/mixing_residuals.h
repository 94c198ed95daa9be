// Residuals of an interpolated field, mixed: what entropy/mixing/residuals.py does, to the last digit.
//
// The traversal is that of interpolation.h. Point by point, a filter (normalised least mean squares, over residuals that
// are known and over how the predictions differ) corrects the prediction; what is then left is coded: whether it is
// above a threshold near its expected size, and from there up or down; its sign; the rest of large ones.

constexpr int RESIDUAL_TAPS = 24, RESIDUAL_SETS = 128, RESIDUAL_SLOTS = 14;
constexpr int RESIDUAL_CONTEXTS = 7, RESIDUAL_PARTS = 20 * 32, RESIDUAL_PLACES = 26 * 8 * 4;
constexpr int32_t RESIDUAL_THRESHOLD[RESIDUAL_SLOTS] = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96};
constexpr int32_t RESIDUAL_START[INTERP_EDGES + 1] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 13, 13, 13};

INLINE int32_t residual_size(int32_t v) { // 0 to 23: a magnitude in half octaves
  uint32_t m = v < 0 ? 0u - (uint32_t)v : (uint32_t)v;
  if (m < 4) return (int32_t)m;
  int log = 31 - __builtin_clz(m);
  int32_t r = 2 * log + (int32_t)(m >> (log - 1) & 1);
  return r > 23 ? 23 : r;
}

INLINE int32_t residual_sign(int32_t v) { return v > 0 ? 2 : v < 0 ? 1 : 0; }

struct ResidualRun { // what is known of a run before it is coded
  double predicted[INTERP_RUN], spread[INTERP_RUN], bend[INTERP_RUN];
  double bends[4][INTERP_RUN], apart[4][INTERP_RUN];
  int32_t around[INTERP_RUN], spreads[INTERP_RUN], bent[INTERP_RUN];
};

// The linear interpolation less the cubic one, along an axis.
template <class T>
static void residual_bend(const CodecPart *part, int k, const T *values, const InterpLine &line, int64_t at, int64_t n,
                          const double *cubic, double *bend) {
  double low[INTERP_RUN + 1], high[INTERP_RUN];
  const int64_t axis = part->axis[k], reach = part->reach[k], known = part->known[k], pitch = part->pitch[4];
  const int64_t first = line.first + at * pitch;
  const double *above = high;
  if (axis == 4) {
    int64_t here = least(n + 1, known - at);
    interp_load(low, values + first - reach, pitch, here);
    if (here <= n) low[n] = low[n - 1];
    above = low + 1;
  } else {
    interp_load(low, values + first - reach, pitch, n);
    interp_load(high, values + first + (line.place[axis] + 1 < known ? reach : -reach), pitch, n);
  }
  for (int64_t i = 0; i < n; i++) bend[i] = (low[i] + above[i]) * 0.5 - cubic[i];
}

template <class T>
static void residual_run(const CodecPart *part, const T *values, const float *sizes, const InterpLine &line, int64_t at,
                         int64_t n, ResidualRun *run) {
  for (int64_t i = 0; i < INTERP_RUN; i++) run->spread[i] = run->bend[i] = 0;
  if (!part->n_axes) {
    for (int64_t i = 0; i < n; i++) {
      run->predicted[i] = part->middle;
      run->around[i] = run->spreads[i] = run->bent[i] = 0;
    }
    return;
  }
  interp_predict(part, values, line, at, n, run->predicted, run->spread);
  interp_contexts(part, sizes, line, at, n, run->spread, run->around);
  for (int64_t i = 0; i < n; i++) run->around[i] -= (int32_t)part->context;
  const double ratio = 1.0 / part->quantum;
  for (int k = 0; k < (int)part->n_axes; k++) {
    double cubic[INTERP_RUN];
    const int64_t pitch = part->pitch[4], axis = part->axis[k], reach = part->reach[k];
    if (axis == 4) interp_along(values + line.first - reach, pitch, at, part->known[k], n, cubic);
    else interp_across(values + line.first + at * pitch, reach, pitch, line.place[axis], part->known[k], n, cubic);
    residual_bend(part, k, values, line, at, n, cubic, run->bends[k]);
    for (int64_t i = 0; i < n; i++) {
      run->bends[k][i] = run->bends[k][i] * ratio;
      run->apart[k][i] = (cubic[i] - run->predicted[i]) * ratio;
      run->bend[i] = run->bend[i] + fabs(run->bends[k][i]);
    }
  }
  for (int64_t i = 0; i < n; i++) run->spread[i] = run->spread[i] * ratio;
  for (int64_t i = 0; i < n; i += L / 2) interp_bins(run->spread + i, 0, run->spreads + i);
  for (int64_t i = 0; i < n; i += L / 2) interp_bins(run->bend + i, 0, run->bent + i);
}

INLINE double residual_clip(double v) { // a NaN becomes 0
  const double most_ = 1 << 20;
  v = v > -most_ ? v : v <= -most_ ? -most_ : 0;
  return v < most_ ? v : most_;
}

struct ResidualFilter {
  alignas(64) double x[RESIDUAL_TAPS];
  double *w, energy;
};

INLINE double residual_sum(const double *a, const double *b) {
  double lane[8];
  for (int i = 0; i < 8; i++) lane[i] = (a[i] * b[i] + a[8 + i] * b[8 + i]) + a[16 + i] * b[16 + i];
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

struct ResidualContexts {
  uint64_t hash[RESIDUAL_CONTEXTS];
  int32_t start, part, around, near;
  bool mirrored;
};

INLINE uint64_t residual_step(int32_t v) { return (uint64_t)(v > 2 ? 6 : v < -2 ? 0 : v + 3); }
INLINE uint64_t residual_slope(double v) { return v > 0.3 ? 4 : v > 0.06 ? 3 : v < -0.3 ? 0 : v < -0.06 ? 1 : 2; }

// The contexts of a point. before: the residuals of the points before it along each axis; two, left, right: further
// ones on its line and on the one before; low, high: those of the known points around it, and `bends` along these axes.
// Where the first of them that isn't 0 is negative, all signs are turned, and that of the residual with them.
INLINE ResidualContexts residual_contexts(const int32_t *before, int32_t two, int32_t left, int32_t right, const int32_t *low,
                                          const int32_t *high, const double *bends, int32_t around, int32_t spread,
                                          int32_t bent, int mask, int level) {
  ResidualContexts c;
  int32_t first = 0;
  const int32_t order[9] = {low[0], high[0], before[4], before[3], before[2], low[1], high[1], low[2], high[2]};
  for (int i = 8; i >= 0; i--) first = order[i] ? order[i] : first;
  const int32_t turn = first < 0 ? -1 : 1;
  c.mirrored = turn < 0;
  auto clipped = [](int32_t v) { return v > 4096 ? 4096 : v < -4096 ? -4096 : v; };
  int32_t near = 0;
  for (int axis = 0; axis < 5; axis++) near += abs(clipped(before[axis]));
  near = 2 * near + abs(clipped(left)) + abs(clipped(right)) + abs(clipped(two));
  int32_t sides = 0;
  uint64_t signs = 0, steps = 0, slopes = 0;
  for (int k = 0; k < 4; k++) sides += abs(clipped(low[k])) + abs(clipped(high[k]));
  for (int k = 0; k < 3; k++) signs = (signs * 4 + residual_sign(turn * low[k])) * 4 + residual_sign(turn * high[k]);
  for (int k = 0; k < 3; k++) slopes = slopes * 8 + residual_slope(turn * bends[k]);
  const int32_t steps_of[5] = {before[4], before[3], two, right, before[2]};
  for (int k = 0; k < 5; k++) steps = steps * 8 + residual_step(turn * clipped(steps_of[k]));
  uint64_t nearest = 0;
  const int32_t signs_of[5] = {before[4], before[3], before[2], low[0], high[0]};
  for (int k = 0; k < 5; k++) nearest = nearest * 4 + residual_sign(turn * signs_of[k]);
  c.around = around, c.near = residual_size(near), c.start = RESIDUAL_START[around];
  c.part = most(0, __builtin_popcount((unsigned)mask) - 1) + 4 * (least(level, 5) - 1);
  c.hash[0] = (slopes * 16 + mask) * 8 + around / 4;
  c.hash[1] = ((uint64_t)bent * 32 + spread) * 16 + mask;
  c.hash[2] = steps;
  c.hash[3] = (uint64_t)around * 32 + c.near;
  c.hash[4] = signs * 16 + mask;
  c.hash[5] = nearest * 8 + least(level, 3);
  c.hash[6] = (((uint64_t)residual_size(before[1]) * 32 + residual_size(before[0])) * 32 + residual_size(sides)) * 32 + around / 2;
  return c;
}

template <int ROLE> static int32_t residual_code(Mix *m, const ResidualContexts &c, int32_t q) {
  uint64_t hashes[RESIDUAL_CONTEXTS];
  for (int k = 0; k < RESIDUAL_CONTEXTS; k++) hashes[k] = mix_hash(16 * k, c.hash[k] * 16 + c.start);
  mix_open(m, hashes);
  bool escaped = q == INTERP_ESCAPE;
  uint32_t v = q < 0 ? 0u - (uint32_t)q : (uint32_t)q;
  const int32_t small = c.near < 15 ? c.near : 15;
  auto decide = [&](int node, int bit, int what) {
    m->set[0] = 32 * c.part + what;
    m->set[1] = RESIDUAL_PARTS + (c.around * 8 + small / 2) * 4 + (what == 0 ? 0 : what == 31 ? 3 : what < 3 ? 1 : 2);
    m->last = what;
    m->refine[0] = what == 0 ? c.around * 16 + small : -1;
    return mix_bit<ROLE>(m, node, bit);
  };
  auto node_of = [&](int t) { return t == c.start ? 1 : t == 0 ? c.start + 1 : t + 1; };
  int t = c.start;
  int32_t low = 0, high = 0; // v is low ... high; high 0: there is none
  int dist = 0;
  if (decide(node_of(t), v > (uint32_t)RESIDUAL_THRESHOLD[t], 0)) {
    for (;;) {
      low = RESIDUAL_THRESHOLD[t] + 1;
      if (++t == RESIDUAL_SLOTS) break;
      dist++;
      if (!decide(node_of(t), v > (uint32_t)RESIDUAL_THRESHOLD[t], least(dist, 7))) {
        high = RESIDUAL_THRESHOLD[t];
        break;
      }
    }
  } else {
    for (;;) {
      high = RESIDUAL_THRESHOLD[t];
      if (t == 0) return 0;
      --t;
      dist++;
      if (decide(node_of(t), v > (uint32_t)RESIDUAL_THRESHOLD[t], 7 + least(dist, 7))) {
        low = RESIDUAL_THRESHOLD[t++] + 1;
        break;
      }
    }
  }
  const int negative = decide(15, (q < 0) != c.mirrored, 31) != (int)c.mirrored;
  if (t < RESIDUAL_SLOTS) {
    int32_t width = high - low + 1; // a power of two
    int32_t off = (int32_t)v - low, made = 0;
    if (width > 1) {
      for (int k = 0; k < RESIDUAL_CONTEXTS; k++) hashes[k] = mix_hash(16 * k + 1, c.hash[k] * 16 + t);
      mix_open(m, hashes);
      int node = 1;
      for (int w = width >> 1; w; w >>= 1) {
        int bit = (off & w) != 0;
        bit = node < 4 ? decide(node, bit, 16 + node) : mix_coded<ROLE>(m->c, bit, 32768);
        made += bit ? w : 0;
        node = node < 4 ? 2 * node + bit : node;
      }
    }
    v = (uint32_t)(low + made);
  } else {
    uint64_t u = escaped ? (uint64_t)1 << 30 : (uint64_t)(v - 97) + 32; // 5 bits below its exponent
    int log = 63 - __builtin_clzll(u), exponent = 5;
    for (int k = 0; k < RESIDUAL_CONTEXTS; k++) hashes[k] = mix_hash(16 * k + 2, c.hash[k]);
    mix_open(m, hashes);
    while (exponent < 30 && decide(least(exponent - 4, 15), log > exponent, 20 + least(exponent - 5, 7))) exponent++;
    if (exponent == 30) return INTERP_ESCAPE;
    uint64_t made = 1;
    for (int i = exponent - 1; i >= 0; i--) made = made << 1 | (uint64_t)mix_coded<ROLE>(m->c, (int)(u >> i & 1), 32768);
    v = (uint32_t)(made - 32 + 97);
  }
  return negative ? -(int32_t)v : (int32_t)v;
}

template <int ROLE, class T>
static int residual_part(Mix *m, const CodecField *field, MixedField *mixed, const CodecPart *part, int level, double *filters) {
  const int64_t lines = part->n[0] * part->n[1] * part->n[2] * part->n[3], points = part->n[4];
  T *values = (T *)field->values;
  int mask = 0;
  for (int k = 0; k < (int)part->n_axes; k++) mask |= 1 << (4 - part->axis[k]);
  const int set = mask + 16 * least(level - 1, 7);
  ResidualFilter filter;
  filter.w = filters + RESIDUAL_TAPS * set;
  const double quantum = part->quantum, share = part->share, pace = mixed->pace;
  ResidualRun run;
  for (int64_t index = 0; index < lines; index++) {
    InterpLine line = interp_line(part, index);
    for (int64_t at = 0; at < points; at += INTERP_RUN) {
      const int64_t n = least(INTERP_RUN, points - at);
      if (m->c->failed) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY;
      residual_run(part, values, field->sizes, line, at, n, &run);
      for (int64_t i = 0; i < n; i++) {
        const int64_t offset = line.first + (at + i) * part->pitch[4];
        const int32_t *here = mixed->residuals + offset;
        int32_t before[5], two = at + i > 1 ? here[-2 * part->pitch[4]] : 0, low[4] = {0}, high[4] = {0};
        before[4] = at + i ? here[-part->pitch[4]] : 0;
        for (int axis = 0; axis < 4; axis++) before[axis] = line.place[axis] ? here[-part->pitch[axis]] : 0;
        int32_t left = at + i && line.place[3] ? here[-part->pitch[4] - part->pitch[3]] : 0;
        int32_t right = at + i + 1 < points && line.place[3] ? here[part->pitch[4] - part->pitch[3]] : 0;
        for (int k = 0; k < (int)part->n_axes; k++) {
          const int64_t place = part->axis[k] == 4 ? at + i : line.place[part->axis[k]];
          low[k] = here[-part->reach[k]];
          high[k] = place + 1 < part->known[k] ? here[part->reach[k]] : low[k];
        }
        double shift = 0;
        if (pace > 0 && part->n_axes) {
          double *x = filter.x;
          for (int axis = 0; axis < 5; axis++) x[axis] = before[axis];
          x[5] = two, x[6] = left, x[7] = right;
          for (int k = 0; k < 4; k++) {
            x[8 + k] = low[k], x[12 + k] = high[k];
            x[16 + k] = k < part->n_axes ? residual_clip(run.bends[k][i]) : 0;
            x[20 + k] = k < part->n_axes ? residual_clip(run.apart[k][i]) : 0;
          }
          shift = residual_clip(residual_sum(filter.w, x));
          filter.energy = residual_sum(x, x);
        }
        const double predicted = run.predicted[i] + shift * quantum;

        double bends[4];
        for (int k = 0; k < 4; k++) bends[k] = k < part->n_axes ? run.bends[k][i] : 0;
        const ResidualContexts c = residual_contexts(before, two, left, right, low, high, bends, run.around[i], run.spreads[i],
                                                     run.bent[i], mask, level);
        T decoded = 0;
        int32_t q = 0;
        if (ROLE != MIX_READ) {
          const double is = (double)((const T *)mixed->x)[offset];
          double near_ = (is - predicted) / quantum;
          near_ = (near_ + INTERP_ROUND) - INTERP_ROUND;
          bool inside = fabs(near_) <= INTERP_MOST;
          near_ = inside ? near_ : 0.0;
          decoded = (T)(predicted + near_ * quantum);
          bool exact = inside & (fabs(is - (double)decoded) <= mixed->limit);
          q = exact ? (int32_t)near_ : INTERP_ESCAPE;
        }
        q = residual_code<ROLE>(m, c, q);
        if (q == INTERP_ESCAPE) {
          if (ROLE == MIX_READ) {
            if (mixed->n_raw <= 0) return CODEC_DAMAGED;
            mixed->n_raw--;
            T *raw = (T *)mixed->raw;
            decoded = *raw;
            mixed->raw = raw + 1;
          } else {
            decoded = ((const T *)mixed->x)[offset];
            ((T *)mixed->raw)[mixed->n_raw++] = decoded;
          }
          q = 0;
        } else if (ROLE == MIX_READ) {
          decoded = (T)(predicted + (double)q * quantum);
          if (q > INTERP_MOST || q < -INTERP_MOST || decoded - decoded != 0) return CODEC_DAMAGED;
        }
        if (q && pace > 0 && part->n_axes) {
          double gain = pace * residual_clip(q) / (1.0 + filter.energy);
          for (int k = 0; k < RESIDUAL_TAPS; k++) filter.w[k] = filter.w[k] + gain * filter.x[k];
        }
        values[offset] = decoded;
        mixed->residuals[offset] = q;
        field->sizes[offset] = (float)(fabs((double)q) / share);
      }
    }
  }
  return CODEC_OK;
}

template <int ROLE, class T> static int residual_field(MixingCoder *coder, const CodecField *field, MixedField *mixed) {
  Mix m;
  mix_begin(&m, coder);
  double *filters = (double *)pool_scratch(9, RESIDUAL_SETS * RESIDUAL_TAPS * sizeof(double));
  if (!filters) return CODEC_NO_MEMORY;
  for (int i = 0; i < RESIDUAL_SETS * RESIDUAL_TAPS; i++) filters[i] = 0;
  return interp_parts(field, [&](const CodecPart &part) {
    return residual_part<ROLE, T>(&m, field, mixed, &part, (int)part.level, filters);
  });
}

template <class T> static int residual_role(MixingCoder *coder, int role, const CodecField *field, MixedField *mixed) {
  switch (role) {
  case MIX_WRITE: return residual_field<MIX_WRITE, T>(coder, field, mixed);
  case MIX_READ: return residual_field<MIX_READ, T>(coder, field, mixed);
  case MIX_PRICE: return residual_field<MIX_PRICE, T>(coder, field, mixed);
  }
  return CODEC_BAD_CALL;
}

// Codes a field whose values, sizes and residuals are 0 at first; when it is read, raw are the values of escapes.
int mixing_residuals(MixingCoder *coder, int role, const CodecField *field, MixedField *mixed) {
  if (coder->n_contexts != RESIDUAL_CONTEXTS || coder->n_choices != 2 || coder->n_sets < RESIDUAL_PARTS + RESIDUAL_PLACES ||
      coder->n_finals < 32 || coder->n_refined < 26 * 16)
    return CODEC_BAD_CALL;
  if (field->item == 4) return residual_role<float>(coder, role, field, mixed);
  if (field->item == 8) return residual_role<double>(coder, role, field, mixed);
  return CODEC_BAD_CALL;
}
