// One part of an interpolated field: what codecs/layers/interpolation.py does with arrays, line by line.
//
// Every number is the result of the same float64 operations in the same order as there, so that files are the same
// bytes. Points of a line are taken in runs; their predictions wait in buffers of doubles.

constexpr int64_t INTERP_RUN = 256;
constexpr int32_t INTERP_MOST = 1 << 28, INTERP_ESCAPE = 1 << 29;
constexpr double INTERP_ROUND = 6755399441055744.0; // 1.5 2^52: added and taken off, a number is rounded to even

constexpr int INTERP_EDGES = 25;
static const double INTERP_EDGE[INTERP_EDGES] = {0.02, 0.05, 0.09, 0.15, 0.23, 0.34, 0.5, 0.7, 1,   1.4, 2,    2.8, 4,
                                                 5.7,  8,    11,   16,   23,   32,   64,  128, 256, 512, 1024, 4096};

// A line of a part: the offset of its first point, and its place along each axis.
struct InterpLine {
  int64_t first, place[5];
};

INLINE InterpLine interp_line(const CodecPart *part, int64_t index) {
  InterpLine line;
  line.first = part->start;
  line.place[4] = 0;
  for (int axis = 3; axis >= 0; axis--) {
    line.place[axis] = index % part->n[axis];
    index /= part->n[axis];
    line.first += line.place[axis] * part->pitch[axis];
  }
  return line;
}

// Calls f(line, index of its first point in the part, place of the run, points of the run) for all runs.
template <class F> static void interp_runs(const CodecPart *part, F &&f) {
  int64_t lines = part->n[0] * part->n[1] * part->n[2] * part->n[3], points = part->n[4];
  if (!points) return;
  int64_t together = most<int64_t>(1, 8192 / points), groups = (lines + together - 1) / together;
  auto group = [&](int64_t number, int) {
    for (int64_t index = number * together, end = least(lines, index + together); index < end; index++) {
      InterpLine line = interp_line(part, index);
      for (int64_t at = 0; at < points; at += INTERP_RUN) f(line, index * points + at, at, least(INTERP_RUN, points - at));
    }
  };
  if (groups > 1) parallel(groups, [&](int64_t number, int worker) { group(number, worker); });
  else group(0, 0);
}

template <class A, class B> INLINE void interp_load(A *to, const B *from, int64_t pitch, int64_t n) {
  if (pitch == 2)
    for (int64_t i = 0; i < n; i++) to[i] = (A)from[2 * i];
  else
    for (int64_t i = 0; i < n; i++) to[i] = (A)from[pitch * i];
}

// The interpolation between `low` and `high`, of which the latter may be missing, as may those further away.
INLINE double interp_at(double before, double low, double high, double behind, bool has_before, bool has_high, bool has_behind) {
  if (!has_high) return has_before ? (3.0 * low - before) * 0.5 : low;
  if (has_before && has_behind) return (9.0 * (low + high) - (before + behind)) * 0.0625;
  if (has_before) return (6.0 * low + 3.0 * high - before) * 0.125;
  if (has_behind) return (3.0 * low + 6.0 * high - behind) * 0.125;
  return (low + high) * 0.5;
}

// The interpolations of a run across its line's direction.
template <class T>
static void interp_across(const T *own, int64_t reach, int64_t pitch, int64_t place, int64_t known, int64_t n, double *out) {
  double part[4][INTERP_RUN];
  const bool has[4] = {place > 0, true, place + 1 < known, place + 2 < known}; // before, low, high, behind
  for (int i = 0; i < 4; i++)
    if (has[i]) interp_load(part[i], own + (2 * i - 3) * reach, pitch, n);
  const double *before = part[0], *low = part[1], *high = part[2], *behind = part[3];
  if (has[0] && has[3])
    for (int64_t i = 0; i < n; i++) out[i] = (9.0 * (low[i] + high[i]) - (before[i] + behind[i])) * 0.0625;
  else
    for (int64_t i = 0; i < n; i++)
      out[i] = interp_at(has[0] ? before[i] : 0, low[i], has[2] ? high[i] : 0, has[3] ? behind[i] : 0, has[0], has[2], has[3]);
}

// The interpolations of a run along its line, whose known points are at zero, zero + pitch, ...
template <class T>
static void interp_along(const T *zero, int64_t pitch, int64_t at, int64_t known, int64_t n, double *out) {
  double line[INTERP_RUN + 3]; // line[i]: known point at + i - 1
  int64_t from = at ? 0 : 1, to = least(n + 3, known + 1 - at);
  line[0] = 0;
  for (int64_t i = to; i < n + 3; i++) line[i] = 0;
  interp_load(line + from, zero + (at + from - 1) * pitch, pitch, to - from);
  for (int64_t i = 0; i < n; i++) out[i] = (9.0 * (line[i + 1] + line[i + 2]) - (line[i] + line[i + 3])) * 0.0625;
  auto edge = [&](int64_t i) {
    int64_t place = at + i;
    if (i >= 0 && i < n)
      out[i] = interp_at(line[i], line[i + 1], line[i + 2], line[i + 3], place > 0, place + 1 < known, place + 2 < known);
  };
  edge(-at);
  edge(known - 2 - at);
  edge(known - 1 - at);
}

// Predictions and the spread of a run.
template <class T>
static void interp_predict(const CodecPart *part, const T *values, const InterpLine &line, int64_t at, int64_t n,
                           double *predicted, double *spread) {
  if (!part->n_axes) {
    for (int64_t i = 0; i < n; i++) predicted[i] = part->middle;
    return;
  }
  double least_[INTERP_RUN], most_[INTERP_RUN], now[INTERP_RUN];
  const int64_t pitch = part->pitch[4], first = line.first + at * pitch;
  for (int64_t k = 0; k < part->n_axes; k++) {
    const int64_t axis = part->axis[k], reach = part->reach[k];
    if (axis == 4) interp_along(values + line.first - reach, pitch, at, part->known[k], n, now);
    else interp_across(values + first, reach, pitch, line.place[axis], part->known[k], n, now);
    const double weight = part->weight[k];
    if (k == 0)
      for (int64_t i = 0; i < n; i++) predicted[i] = now[i] * weight, least_[i] = most_[i] = now[i];
    else
      for (int64_t i = 0; i < n; i++) { // a NaN stays one
        predicted[i] += now[i] * weight;
        least_[i] = (least_[i] < now[i]) | (least_[i] != least_[i]) ? least_[i] : now[i];
        most_[i] = (most_[i] > now[i]) | (most_[i] != most_[i]) ? most_[i] : now[i];
      }
  }
  const double weights = part->weights;
  for (int64_t i = 0; i < n; i++) predicted[i] /= weights;
  if (part->n_axes > 1)
    for (int64_t i = 0; i < n; i++) spread[i] = most_[i] - least_[i];
}

// The number of edges below each of L / 2 numbers, added to a context. A NaN is above all edges.
INLINE void interp_bins(const double *around, int32_t context, int32_t *contexts) {
  f64v numbers = load<f64v>(around);
  i64v bins = i64v{} + (context + INTERP_EDGES);
  for (int e = 0; e < INTERP_EDGES; e++) {
#if defined(CODEC_AVX512)
    __mmask8 not_above = _mm512_cmp_pd_mask((__m512d)numbers, _mm512_set1_pd(INTERP_EDGE[e]), _CMP_LE_OQ);
    bins = (i64v)_mm512_mask_sub_epi64((__m512i)bins, not_above, (__m512i)bins, _mm512_set1_epi64(1));
#else
    bins += numbers <= alld(INTERP_EDGE[e]); // true is -1
#endif
  }
  store(contexts, __builtin_convertvector(bins, h32v));
}

// The contexts of a run; room for a multiple of L / 2 of them.
static void interp_contexts(const CodecPart *part, const float *sizes, const InterpLine &line, int64_t at, int64_t n,
                            const double *spread, int32_t *contexts) {
  if (!part->n_axes) {
    for (int64_t i = 0; i < n; i++) contexts[i] = 0;
    return;
  }
  double around[INTERP_RUN] = {0}, low[INTERP_RUN + 1], high[INTERP_RUN];
  const int64_t pitch = part->pitch[4], first = line.first + at * pitch;
  for (int64_t k = 0; k < part->n_axes; k++) {
    const int64_t axis = part->axis[k], reach = part->reach[k], known = part->known[k];
    const double *above = high;
    if (axis == 4) { // the point behind the last is the last again
      int64_t here = least(n + 1, known - at);
      interp_load(low, sizes + first - reach, pitch, here);
      if (here <= n) low[n] = low[n - 1];
      above = low + 1;
    } else {
      interp_load(low, sizes + first - reach, pitch, n);
      interp_load(high, sizes + first + (line.place[axis] + 1 < known ? reach : -reach), pitch, n);
    }
    for (int64_t i = 0; i < n; i++) around[i] = (around[i] + low[i]) + above[i];
  }
  const double share = part->share, sides = 2.0 * (double)part->n_axes, ratio = share / (2 * part->bound);
  if (part->n_axes > 1)
    for (int64_t i = 0; i < n; i++) around[i] = around[i] * share / sides + 0.5 * (spread[i] * ratio);
  else {
    const double still = 0.5 * (0.0 * ratio); // NaN if the ratio is infinite
    for (int64_t i = 0; i < n; i++) around[i] = around[i] * share / sides + still;
  }
  for (int64_t i = 0; i < n; i += L / 2) interp_bins(around + i, (int32_t)part->context, contexts + i);
}

template <class T> INLINE void interp_store(T *to, int64_t pitch, const T *from, int64_t n) {
  if (pitch == 2)
    for (int64_t i = 0; i < n; i++) to[2 * i] = from[i];
  else
    for (int64_t i = 0; i < n; i++) to[pitch * i] = from[i];
}

template <class T>
static int interp_code_part(const CodecPart *part, const T *x, T *values, float *sizes, int32_t *symbols, int16_t *contexts,
                            int64_t *n_escaped) {
  int64_t total = 0;
  interp_runs(part, [&](const InterpLine &line, int64_t index, int64_t at, int64_t n) {
    double predicted[INTERP_RUN], spread[INTERP_RUN] = {0};
    int32_t context[INTERP_RUN], symbol[INTERP_RUN];
    T is[INTERP_RUN], value[INTERP_RUN];
    float size[INTERP_RUN];
    const int64_t pitch = part->pitch[4], first = line.first + at * pitch;
    interp_predict(part, values, line, at, n, predicted, spread);
    interp_contexts(part, sizes, line, at, n, spread, context);
    interp_load(is, x + first, pitch, n);
    const double quantum = part->quantum, share = part->share, limit = part->bound * (1 - 0x1p-50);
    int64_t escaped = 0;
    for (int64_t i = 0; i < n; i++) {
      double q = ((double)is[i] - predicted[i]) / quantum;
      q = (q + INTERP_ROUND) - INTERP_ROUND;
      bool near = fabs(q) <= INTERP_MOST;
      q = near ? q : 0.0;
      T decoded = (T)(predicted[i] + q * quantum);
      bool exact = near & (fabs((double)is[i] - (double)decoded) <= limit);
      q = exact ? q : 0.0;
      value[i] = exact ? decoded : is[i];
      symbol[i] = exact ? (int32_t)q : INTERP_ESCAPE;
      size[i] = (float)(fabs(q) / share);
    }
    for (int64_t i = 0; i < n; i++) {
      symbols[index + i] = symbol[i];
      contexts[index + i] = (int16_t)context[i];
      escaped += symbol[i] == INTERP_ESCAPE;
    }
    interp_store(values + first, pitch, value, n);
    interp_store(sizes + first, pitch, size, n);
    if (escaped) __atomic_fetch_add(&total, escaped, __ATOMIC_RELAXED);
  });
  *n_escaped = total;
  return CODEC_OK;
}

template <class T>
static int interp_rows_part(const CodecPart *part, const T *values, const float *sizes, const uint8_t *kinds, double *predictions,
                            uint8_t *rows) {
  interp_runs(part, [&](const InterpLine &line, int64_t index, int64_t at, int64_t n) {
    double spread[INTERP_RUN] = {0};
    int32_t context[INTERP_RUN];
    interp_predict(part, values, line, at, n, predictions + index, spread);
    interp_contexts(part, sizes, line, at, n, spread, context);
    for (int64_t i = 0; i < n; i++) rows[index + i] = kinds[context[i]];
  });
  return CODEC_OK;
}

template <class T>
static int interp_put_part(const CodecPart *part, T *values, float *sizes, const double *predictions, const int32_t *symbols) {
  int damaged = 0;
  interp_runs(part, [&](const InterpLine &line, int64_t index, int64_t at, int64_t n) {
    T value[INTERP_RUN];
    float size[INTERP_RUN];
    const double quantum = part->quantum, share = part->share;
    const int64_t pitch = part->pitch[4], first = line.first + at * pitch;
    int wrong = 0;
    for (int64_t i = 0; i < n; i++) {
      int32_t symbol = symbols[index + i];
      bool escaped = symbol == INTERP_ESCAPE;
      double q = escaped ? 0.0 : (double)symbol;
      value[i] = (T)(predictions[index + i] + q * quantum);
      size[i] = (float)(fabs(q) / share);
      wrong |= (!escaped) & ((value[i] - value[i] != 0) | (fabs(q) > INTERP_MOST)); // a NaN isn't 0 either
    }
    interp_store(values + first, pitch, value, n);
    interp_store(sizes + first, pitch, size, n);
    if (wrong) __atomic_store_n(&damaged, 1, __ATOMIC_RELAXED);
  });
  return damaged ? CODEC_DAMAGED : CODEC_OK;
}

// Calls f(part) for the parts of a field in coding order, until it returns something else than 0, which is returned.
template <class F> static int interp_parts(const CodecField *field, F &&f) {
  const int n_axes = (int)field->n_axes, spare = 5 - n_axes;
  int64_t pitch[5], longest = 1;
  pitch[4] = 1;
  for (int axis = 3; axis >= 0; axis--) pitch[axis] = pitch[axis + 1] * field->shape[axis + 1];
  for (int axis = spare; axis < 5; axis++) longest = most(longest, field->shape[axis]);
  int top = 0;
  while (longest > 1ll << top) top++;
  CodecPart part;
  memset(&part, 0, sizeof part);
  part.middle = field->middle, part.bound = field->bound;
  auto level_is = [&](int level) {
    part.level = level;
    part.share = field->share[level];
    part.quantum = 2 * field->bound / part.share;
  };
  for (int axis = 0; axis < 5; axis++) {
    part.n[axis] = axis < spare ? field->shape[axis] : 1;
    part.pitch[axis] = pitch[axis];
  }
  level_is(top + 1);
  int status = f(part);
  for (int level = top; level > 0 && !status; level--) {
    const int64_t step = 1ll << (level - 1);
    level_is(level);
    for (int n_odd = 1; n_odd <= n_axes; n_odd++)
      for (int mask = 1; mask < 1 << n_axes && !status; mask++) { // its highest bit is the first axis
        if (__builtin_popcount((unsigned)mask) != n_odd) continue;
        part.n_axes = 0, part.start = 0, part.weights = 0;
        bool empty = false;
        for (int i = 0; i < n_axes; i++) {
          const int axis = spare + i, odd = mask >> (n_axes - 1 - i) & 1;
          const int64_t length = field->shape[axis], known = (length + 2 * step - 1) / (2 * step);
          part.n[axis] = odd ? (length + step - 1) / (2 * step) : known;
          part.pitch[axis] = 2 * step * pitch[axis];
          if (!odd) continue;
          empty |= !part.n[axis];
          part.start += step * pitch[axis];
          part.axis[part.n_axes] = axis, part.reach[part.n_axes] = step * pitch[axis], part.known[part.n_axes] = known;
          part.weight[part.n_axes++] = field->weight[i];
          part.weights += field->weight[i];
        }
        part.context = 1 + ((least(level, 4) - 1) * 4 + n_odd - 1) * (INTERP_EDGES + 1);
        if (!empty) status = f(part);
      }
  }
  return status;
}

INLINE int64_t interp_size(const CodecPart &part) {
  int64_t size = 1;
  for (int axis = 0; axis < 5; axis++) size *= part.n[axis];
  return size;
}

// The number of points of each part, and the number of parts, at most 961.
int interp_sizes(const CodecField *field, int64_t *sizes, int64_t *n_parts) {
  *n_parts = 0;
  return interp_parts(field, [&](const CodecPart &part) {
    sizes[(*n_parts)++] = interp_size(part);
    return 0;
  });
}

// Calls f(offset of a point) for the escapes of a part, in order.
template <class F> static void interp_escapes(const CodecPart *part, const int32_t *symbols, F &&f) {
  int64_t lines = part->n[0] * part->n[1] * part->n[2] * part->n[3];
  for (int64_t index = 0; index < lines; index++) {
    InterpLine line = interp_line(part, index);
    for (int64_t i = 0; i < part->n[4]; i++)
      if (symbols[index * part->n[4] + i] == INTERP_ESCAPE) f(line.first + i * part->pitch[4]);
  }
}

template <class T>
static int interp_encode_field(const CodecField *field, const T *x, int32_t *symbols, int16_t *contexts, T *raw, int64_t *n_raw) {
  int64_t n_escaped = 0;
  *n_raw = 0;
  return interp_parts(field, [&](const CodecPart &part) {
    interp_code_part(&part, x, (T *)field->values, field->sizes, symbols, contexts, &n_escaped);
    if (n_escaped) interp_escapes(&part, symbols, [&](int64_t offset) { raw[(*n_raw)++] = x[offset]; });
    symbols += interp_size(part), contexts += interp_size(part);
    return 0;
  });
}

// The symbols and contexts of x, part behind part, and the values of escapes. Fills in values and sizes, which are 0.
int interp_encode(const CodecField *field, const void *x, int32_t *symbols, int16_t *contexts, void *raw, int64_t *n_raw) {
  if (field->item == 4) return interp_encode_field(field, (const float *)x, symbols, contexts, (float *)raw, n_raw);
  if (field->item == 8) return interp_encode_field(field, (const double *)x, symbols, contexts, (double *)raw, n_raw);
  return CODEC_BAD_CALL;
}

template <class T>
static int interp_decode_field(const CodecField *field, const CodecTables *tables, CodecAns *ans, const uint8_t *kinds, int64_t n_kinds,
                               const T *raw, int64_t n_raw, uint8_t *scratch, int64_t room, double *needed) {
  int64_t used = 0;
  int status = interp_parts(field, [&](const CodecPart &part) {
    int64_t n = interp_size(part);
    if (n > INT32_MAX || 13 * n > room || part.context + INTERP_EDGES >= n_kinds) return (int)CODEC_BAD_CALL;
    double *predictions = (double *)scratch;
    int32_t *symbols = (int32_t *)(predictions + n);
    uint8_t *rows = (uint8_t *)(symbols + n);
    interp_rows_part(&part, (const T *)field->values, field->sizes, kinds, predictions, rows);
    int status = tables_take(tables, ans, rows, 1, n, symbols, needed);
    if (status) return status;
    status = interp_put_part(&part, (T *)field->values, field->sizes, predictions, symbols);
    if (status) return status;
    int64_t n_escaped = 0;
    for (int64_t i = 0; i < n; i++) n_escaped += symbols[i] == INTERP_ESCAPE;
    if (n_escaped > n_raw - used) return (int)CODEC_DAMAGED;
    if (n_escaped)
      interp_escapes(&part, symbols, [&](int64_t offset) { ((T *)field->values)[offset] = raw[used++]; });
    return (int)CODEC_OK;
  });
  return status ? status : used == n_raw ? CODEC_OK : CODEC_DAMAGED;
}

// Decodes a field whose values and sizes are 0. kinds: the row of each context. raw: the values of escapes, finite.
// scratch: 13 bytes for each point of the largest part. CODEC_DAMAGED: symbols or values are out of range, or left over.
int interp_decode(const CodecField *field, const CodecTables *tables, CodecAns *ans, const uint8_t *kinds, int64_t n_kinds,
                  const void *raw, int64_t n_raw, void *scratch, int64_t room, double *needed) {
  uint8_t *bytes = (uint8_t *)scratch;
  if (field->item == 4) return interp_decode_field(field, tables, ans, kinds, n_kinds, (const float *)raw, n_raw, bytes, room, needed);
  if (field->item == 8) return interp_decode_field(field, tables, ans, kinds, n_kinds, (const double *)raw, n_raw, bytes, room, needed);
  return CODEC_BAD_CALL;
}

// best[context]: the first of n_kinds distributions under which its symbols cost least; -1 without symbols.
// costs: a row for each size of a symbol, the last one for the largest, (width, n_kinds).
int interp_choose(const int16_t *contexts, const int32_t *symbols, int64_t n, const float *costs, int64_t n_contexts,
                  int64_t width, int64_t n_kinds, int32_t *best) {
  if (n_kinds > 256 || n_contexts > 1024 || n > UINT32_MAX) return CODEC_BAD_CALL;
  auto size_of = [&](int64_t i) {
    uint32_t size = symbols[i] < 0 ? 0u - (uint32_t)symbols[i] : (uint32_t)symbols[i];
    return least<int64_t>(size, width - 1);
  };
  int32_t largest[1024] = {0}; // each context's table of counts ends there
  int64_t start[1025] = {0};
  for (int64_t i = 0; i < n; i++) {
    if (contexts[i] < 0 || contexts[i] >= n_contexts) return CODEC_BAD_CALL;
    largest[contexts[i]] = most(largest[contexts[i]], (int32_t)size_of(i));
  }
  for (int64_t c = 0; c < n_contexts; c++) start[c + 1] = start[c] + largest[c] + 1;
  uint32_t *counts = (uint32_t *)pool_scratch(9, start[n_contexts] * sizeof(uint32_t));
  if (!counts) return CODEC_NO_MEMORY;
  memset(counts, 0, start[n_contexts] * sizeof(uint32_t));
  for (int64_t i = 0; i < n; i++) counts[start[contexts[i]] + size_of(i)]++;
  parallel(n_contexts, [&](int64_t context, int) {
    double sums[256] = {0};
    bool any = false;
    for (int64_t size = 0; size <= largest[context]; size++) {
      const double count = counts[start[context] + size];
      if (count == 0) continue;
      const float *cost = costs + size * n_kinds;
      for (int64_t kind = 0; kind < n_kinds; kind++) sums[kind] += cost[kind] * count;
      any = true;
    }
    int32_t least_ = 0;
    for (int32_t kind = 1; kind < n_kinds; kind++)
      if (sums[kind] < sums[least_]) least_ = kind;
    best[context] = any ? least_ : -1;
  });
  return CODEC_OK;
}

// rows[i] = kinds[contexts[i]]
int interp_kinds(const int16_t *contexts, int64_t n, const uint8_t *kinds, int64_t n_contexts, uint8_t *rows) {
  int wrong = 0;
  for (int64_t i = 0; i < n; i++) {
    bool inside = contexts[i] >= 0 && contexts[i] < n_contexts;
    rows[i] = kinds[inside ? contexts[i] : 0];
    wrong |= !inside;
  }
  return wrong ? CODEC_BAD_CALL : CODEC_OK;
}

// The ends of finite numbers that aren't hidden: the least and the largest, those next to them, and how often each of
// the former occurs; infinities without numbers. Sixteen lanes side by side, so that compilers see vectors.
template <class T>
static void interp_extent_of(const T *x, const uint8_t *hidden, int64_t n, double *ends, int64_t *counts) {
  constexpr int LANES = 16;
  const T far = (T)INFINITY;
  T low[LANES], high[LANES], above[LANES], below[LANES];
  int32_t n_low[LANES], n_high[LANES], n_all[LANES];
  for (int k = 0; k < LANES; k++) low[k] = above[k] = far, high[k] = below[k] = -far;
  auto runs = [&](auto &&f) { // f(numbers, which are hidden)
    for (int64_t i = 0; i < n; i += LANES) {
      T numbers[LANES] = {0};
      uint8_t skipped[LANES];
      int64_t m = least<int64_t>(LANES, n - i);
      memset(skipped, 1, LANES);
      if (m == LANES) memcpy(numbers, x + i, sizeof numbers), memcpy(skipped, hidden + i, LANES);
      else memcpy(numbers, x + i, m * sizeof(T)), memcpy(skipped, hidden + i, m);
      f(numbers, skipped);
    }
  };
  runs([&](const T *v, const uint8_t *skipped) {
    for (int k = 0; k < LANES; k++) {
      T up = skipped[k] ? far : v[k], down = skipped[k] ? -far : v[k];
      low[k] = up < low[k] ? up : low[k];
      high[k] = down > high[k] ? down : high[k];
    }
  });
  T least_ = low[0], most_ = high[0];
  for (int k = 1; k < LANES; k++) least_ = least(least_, low[k]), most_ = most(most_, high[k]);
  memset(counts, 0, 3 * sizeof *counts);
  int64_t flushed = 0;
  auto flush = [&] {
    for (int k = 0; k < LANES; k++) counts[0] += n_low[k], counts[1] += n_high[k], counts[2] += n_all[k];
    memset(n_low, 0, sizeof n_low), memset(n_high, 0, sizeof n_high), memset(n_all, 0, sizeof n_all);
  };
  memset(n_low, 0, sizeof n_low), memset(n_high, 0, sizeof n_high), memset(n_all, 0, sizeof n_all);
  runs([&](const T *v, const uint8_t *skipped) {
    for (int k = 0; k < LANES; k++) {
      T up = skipped[k] ? far : v[k], down = skipped[k] ? -far : v[k];
      n_low[k] += up == least_;
      n_high[k] += down == most_;
      n_all[k] += !skipped[k];
      up = up > least_ ? up : far, down = down < most_ ? down : -far;
      above[k] = up < above[k] ? up : above[k];
      below[k] = down > below[k] ? down : below[k];
    }
    if (++flushed % (1 << 20) == 0) flush();
  });
  flush();
  for (int k = 1; k < LANES; k++) above[0] = least(above[0], above[k]), below[0] = most(below[0], below[k]);
  ends[0] = least_, ends[1] = most_, ends[2] = above[0], ends[3] = below[0];
}

int interp_extent(const void *x, int item, const uint8_t *hidden, int64_t n, double *ends, int64_t *counts) {
  if (item == 4) interp_extent_of((const float *)x, hidden, n, ends, counts);
  else if (item == 8) interp_extent_of((const double *)x, hidden, n, ends, counts);
  else return CODEC_BAD_CALL;
  return CODEC_OK;
}

// Whether |x - y| <= limit for all of n numbers, in float64: CODEC_DAMAGED if not.
template <class T> static int interp_within_of(const T *x, const T *y, int64_t n, double limit) {
  const int64_t run = 1 << 16;
  int damaged = 0;
  parallel((n + run - 1) / run, [&](int64_t i, int) {
    int64_t beyond = 0;
    for (int64_t j = i * run, end = least(n, (i + 1) * run); j < end; j++) beyond += fabs((double)x[j] - (double)y[j]) <= limit ? 0 : 1;
    if (beyond) __atomic_store_n(&damaged, 1, __ATOMIC_RELAXED);
  });
  return damaged ? CODEC_DAMAGED : CODEC_OK;
}

int interp_within(const void *x, const void *y, int item, int64_t n, double limit) {
  if (item == 4) return interp_within_of((const float *)x, (const float *)y, n, limit);
  if (item == 8) return interp_within_of((const double *)x, (const double *)y, n, limit);
  return CODEC_BAD_CALL;
}

// The sum of squares of what interpolation between neighbours misses along one axis: x is (outer, n, inner), n >= 3.
// Eight sums side by side, so that the result is the same on all instruction sets. sums: (outer,)
template <class T> static void interp_misses_of(const T *x, int64_t outer, int64_t n, int64_t inner, double *sums) {
  parallel(outer, [&](int64_t o, int) {
    double sum[8] = {0};
    const T *from = x + o * n * inner;
    auto miss = [](double a, double b, double c) { return b - (a + c) * 0.5; };
    if (inner == 1) {
      int64_t pairs = (n - 1) / 2, i = 0;
      for (; i + 8 <= pairs; i += 8)
        for (int k = 0; k < 8; k++) {
          const T *p = from + 2 * (i + k);
          double m = miss((double)p[0], (double)p[1], (double)p[2]);
          sum[k] += m * m;
        }
      for (; i < pairs; i++) {
        double m = miss((double)from[2 * i], (double)from[2 * i + 1], (double)from[2 * i + 2]);
        sum[i % 8] += m * m;
      }
    } else {
      for (int64_t i = 0; i + 2 < n; i += 2) {
        const T *a = from + i * inner, *b = a + inner, *c = b + inner;
        int64_t j = 0;
        for (; j + 8 <= inner; j += 8)
          for (int k = 0; k < 8; k++) {
            double m = miss((double)a[j + k], (double)b[j + k], (double)c[j + k]);
            sum[k] += m * m;
          }
        for (; j < inner; j++) {
          double m = miss((double)a[j], (double)b[j], (double)c[j]);
          sum[j % 8] += m * m;
        }
      }
    }
    sums[o] = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
  });
}

int interp_misses(const void *x, int item, int64_t outer, int64_t n, int64_t inner, double *sums) {
  if (item == 4) interp_misses_of((const float *)x, outer, n, inner, sums);
  else if (item == 8) interp_misses_of((const double *)x, outer, n, inner, sums);
  else return CODEC_BAD_CALL;
  return CODEC_OK;
}
