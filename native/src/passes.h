// Passes over the grids of a plane: levels of blocks, then their coefficients, as codecs/nirvana/grid/coefficients.py
// has them. Every row of a pass follows from what was coded before it, so that it is computed before any is decoded.

constexpr int HIDDEN = 32, HIDDEN_VECTORS = HIDDEN / L;
constexpr int MOST_LEVEL = 4, LOWEST_ROW = -36, HIGHEST_ROW = 24, FIRST_YES = HIGHEST_ROW - LOWEST_ROW + 1;
constexpr int FEATURE_TOP = 127;

// ---- symbols

INLINE bool pass_enough(const PassCoder *c, double bits) { // as TableDecoder._check
  int64_t left = ans_bits(c->ans);
  return left > 0 && bits * 0.99 <= (double)left + 64;
}

// Decodes escapes: classes of all, then their digits, by size. first, above: symbols below and from which they lie.
static int pass_escapes(PassCoder *c, const int32_t *places, int64_t n, const uint8_t *rows, int32_t *symbols) {
  const int64_t tail = c->n_rows;
  uint8_t *bits = (uint8_t *)pool_scratch(4, (size_t)n);
  int64_t *values = (int64_t *)pool_scratch(5, (size_t)n * 8);
  if (!bits || !values) return CODEC_NO_MEMORY;
  if (!pass_enough(c, (double)n * c->min_bits[tail])) return CODEC_DAMAGED;
  for (int64_t i = 0; i < n; i++) bits[i] = (uint8_t)ans_pop(c->ans, rows_get(c->tables, tail));
  double needed = 0;
  for (int64_t i = 0; i < n; i++) {
    values[i] = (int64_t)1 << bits[i];
    if (bits[i] & 7) needed += c->min_bits[tail + (bits[i] & 7)];
    needed += (bits[i] >> 3) * c->min_bits[tail + 8];
  }
  if (needed > 0 && !pass_enough(c, needed)) return CODEC_DAMAGED;
  for (int kind = 1; kind <= 8; kind++)
    for (int64_t i = 0; i < n; i++) {
      const int full = bits[i] >> 3;
      if (kind < 8) {
        if ((bits[i] & 7) == kind) values[i] += (int64_t)ans_pop(c->ans, rows_get(c->tables, tail + kind)) << (8 * full);
      } else
        for (int k = full - 1; k >= 0; k--) values[i] += (int64_t)ans_pop(c->ans, rows_get(c->tables, tail + 8)) << (8 * k);
    }
  for (int64_t i = 0; i < n; i++) {
    const int row = rows[places[i]];
    const int64_t value = values[i] - 1, first = c->offset[row], last = c->tables->lengths[row] - 1;
    const int64_t symbol = value & 1 ? first - 1 - (value >> 1) : first + last + (value >> 1);
    if (symbol < -c->largest || symbol > c->largest) return CODEC_DAMAGED;
    symbols[places[i]] = (int32_t)symbol;
  }
  return CODEC_OK;
}

// A step of n symbols: decoded, or what an encoder gives is handed out with its rows.
static int pass_step(PassCoder *c, const uint8_t *rows, int64_t n, int32_t *symbols) {
  if (!n) return CODEC_OK;
  if (!c->ans) {
    if (!c->rows) return CODEC_OK;
    memcpy(c->rows, rows, (size_t)n), memcpy(c->symbols, symbols, (size_t)n * 4);
    c->rows += n, c->symbols += n, c->steps[c->n_steps++] = n;
    return CODEC_OK;
  }
  int64_t counts[256] = {}, n_escaped = 0;
  for (int64_t i = 0; i < n; i++) counts[rows[i]]++;
  double needed = 0;
  for (int64_t r = 0; r < c->n_rows; r++) needed += (double)counts[r] * c->min_bits[r];
  if (!pass_enough(c, needed)) return CODEC_DAMAGED;
  int32_t *escaped = (int32_t *)pool_scratch(3, (size_t)n * 4);
  if (!escaped) return CODEC_NO_MEMORY;
  int status = ans_take_step(c->tables, c->ans, rows, 1, n, counts, c->offset, c->n_rows, symbols, escaped, &n_escaped);
  if (status || !n_escaped) return status;
  return pass_escapes(c, escaped, n_escaped, rows, symbols);
}

// ---- symbols that share a row

constexpr int FLAT_ROW = 2 * FIRST_YES, FLAG_ROW = FIRST_YES - LOWEST_ROW;

static int pass_same(PassCoder *c, int row, int64_t n, uint8_t *rows, int32_t *symbols) {
  memset(rows, row, (size_t)n);
  return pass_step(c, rows, n, symbols);
}

// n symbols behind the number of their row, `code_static`. flags: they are 0 or 1.
static int pass_static(PassCoder *c, bool flags, int64_t n, uint8_t *rows, int32_t *symbols) {
  if (!n) return CODEC_OK;
  int32_t row;
  int status = pass_same(c, FLAT_ROW, 1, rows, &row);
  if (status) return status;
  if (row < 0 || row >= FIRST_YES) return CODEC_DAMAGED;
  status = pass_same(c, flags ? row + FIRST_YES : row, n, rows, symbols);
  for (int64_t i = 0; !status && flags && i < n; i++)
    if (symbols[i] & ~1) status = CODEC_DAMAGED;
  return status;
}

// Reads a pyramid of vectors, `code_pyramid`: (h, w, channels) on the finest grid, less what was expected.
int pass_pyramid(PassCoder *c, int64_t h, int64_t w, int channels, int64_t *field) {
  if (h < 1 || w < 1 || channels < 1 || channels > 2 || !c->ans || c->n_rows <= FLAT_ROW || c->n_rows > 255)
    return CODEC_BAD_CALL;
  const int64_t n = h * w;
  uint8_t *rows = (uint8_t *)pool_scratch(0, (size_t)(n * channels));
  int32_t *symbols = (int32_t *)pool_scratch(1, (size_t)(n * (channels + 1)) * 4), *flags = symbols + n * channels;
  int64_t *parent = (int64_t *)pool_scratch(2, (size_t)(n * channels) * 8);
  if (!rows || !symbols || !parent) return CODEC_NO_MEMORY;
  memset(field, 0, (size_t)(n * channels) * 8);
  int32_t any;
  int status = pass_same(c, FLAG_ROW, 1, rows, &any);
  if (status || !any) return status;
  for (int level = 3; level >= 0; level--) {
    const int64_t side = (int64_t)1 << level, high = (h + side - 1) / side, wide = (w + side - 1) / side;
    status = pass_static(c, true, high * wide, rows, flags);
    if (status) return status;
    int64_t changed = 0, next = 0;
    for (int64_t i = 0; i < high * wide; i++) changed += flags[i];
    status = pass_static(c, false, changed * channels, rows, symbols);
    if (status) return status;
    memcpy(parent, field, (size_t)(n * channels) * 8);
    int64_t last[2] = {}; // on the coarsest grid, vectors are differences to the one before
    for (int64_t y = 0; y < high; y++)
      for (int64_t x = 0; x < wide; x++)
        for (int k = 0; k < channels; k++) {
          const int64_t at = (y * wide + x) * channels + k;
          const int64_t change = flags[y * wide + x] ? symbols[next++] : 0;
          const int64_t base = level == 3 ? last[k] : parent[(y / 2 * ((wide + 1) / 2) + x / 2) * channels + k];
          last[k] = field[at] = base + change;
        }
  }
  return CODEC_OK;
}

// ---- networks

// The weights of two features, by turns.
struct PassPair {
  int16_t weight[2 * HIDDEN];
};

static PassPair pass_pair(const PassNetwork *net, int a, int b) {
  PassPair pair;
  for (int j = 0; j < HIDDEN; j++)
    pair.weight[2 * j] = net->weight[a * HIDDEN + j], pair.weight[2 * j + 1] = b < 0 ? 0 : net->weight[b * HIDDEN + j];
  return pair;
}

struct PassHidden {
  i32v sum[HIDDEN_VECTORS];
};

INLINE PassHidden hidden_from(const int32_t *bias) {
  PassHidden h;
  for (int k = 0; k < HIDDEN_VECTORS; k++) h.sum[k] = load<i32v>(bias + k * L);
  return h;
}

INLINE void hidden_add(PassHidden &h, const PassPair &pair, int a, int b) {
  const i16v x = (i16v)all32(a | b << 16);
  for (int k = 0; k < HIDDEN_VECTORS; k++) h.sum[k] = madd(h.sum[k], x, load<i16v>(pair.weight + 2 * k * L));
}

// ReLU to 8 bits, in place.
INLINE void hidden_close(PassHidden &h) {
  for (int k = 0; k < HIDDEN_VECTORS; k++) h.sum[k] = min_(max_(h.sum[k] >> 6, i32v{}), all32(255));
}

// out: (32,) as numbers of 32 bits of which the low half counts: a hidden unit's high half is 0.
INLINE int32_t hidden_out(const PassHidden &h, const int32_t *out, int32_t bias) {
  i32v sum{};
  for (int k = 0; k < HIDDEN_VECTORS; k++) sum = madd(sum, (i16v)h.sum[k], load<i16v>((const int16_t *)(out + k * L)));
  for (int i = 0; i < L; i++) bias += sum[i];
  return bias;
}

INLINE uint8_t pass_row(int32_t z) {
  z >>= 8;
  return (uint8_t)((z < LOWEST_ROW ? LOWEST_ROW : z > HIGHEST_ROW ? HIGHEST_ROW : z) - LOWEST_ROW);
}

INLINE int top(int x) { return x < FEATURE_TOP ? x : FEATURE_TOP; }

// ---- levels

// The features of a block that don't depend on levels of this plane, as the pairs below take them.
INLINE void level_statics(const LevelPlane *p, int64_t y, int64_t x, int *f) {
  const int64_t n = p->h * p->w, at = y * p->w + x;
  int sums[3] = {};
  for (int k = 0; k < 16; k++) sums[k < 3 ? 0 : k < 8 ? 1 : 2] += p->texture[k * n + at];
  f[0] = top(sums[0] / 3), f[1] = top(sums[1] / 5), f[2] = top(sums[2] / 8);
  f[3] = f[4] = 0;
  if (p->past) {
    int around = 0;
    if (y) around += p->past[at - p->w];
    if (y < p->h - 1) around += p->past[at + p->w];
    if (x) around += p->past[at - 1];
    if (x < p->w - 1) around += p->past[at + 1];
    f[3] = top(p->past[at] * 8), f[4] = top(around * 4);
  }
  f[5] = p->cross ? top(p->cross[at] * 16) : 0;
  f[6] = p->twin ? top(p->twin[at] * 16) : 0;
  f[7] = top(p->motion[at]);
}

INLINE int level_mean(int sum, int known) { return known ? top(64 * (sum - known) / (2 * known)) : 0; }

int pass_levels(PassCoder *coder, const PassNetwork *net, const LevelPlane *p) {
  enum { BESIDE, N_BESIDE, CORNERS, N_CORNERS, TEXTURE, PAST = 7, AROUND, CROSS, TWIN, MOTION, LARGEST = 18 };
  const int64_t h = p->h, w = p->w, side = w + 2, most = ((h + 1) / 2) * ((w + 1) / 2);
  if (h < 1 || w < 1 || coder->n_rows < 2 * FIRST_YES || coder->n_rows > 255) return CODEC_BAD_CALL;
  // of each block its level and 1, 0 where it isn't known, with a ring around
  uint8_t *ring = (uint8_t *)pool_scratch(0, (size_t)(side * (h + 2)));
  uint8_t *rows = (uint8_t *)pool_scratch(1, (size_t)most * 5);
  int32_t *symbols = (int32_t *)pool_scratch(2, (size_t)most * 12);
  if (!ring || !rows || !symbols) return CODEC_NO_MEMORY;
  uint8_t *step = rows + 4 * most;
  int32_t *here = symbols + most, *blocks = here + most;
  memset(ring, 0, (size_t)(side * (h + 2)));
  const PassPair pairs[] = {pass_pair(net, BESIDE, N_BESIDE),  pass_pair(net, CORNERS, N_CORNERS),
                            pass_pair(net, TEXTURE, TEXTURE + 1), pass_pair(net, TEXTURE + 2, PAST),
                            pass_pair(net, AROUND, CROSS),     pass_pair(net, TWIN, MOTION),
                            pass_pair(net, LARGEST, -1)};
  int32_t out[MOST_LEVEL * HIDDEN];
  for (int i = 0; i < MOST_LEVEL * HIDDEN; i++) out[i] = net->out[i];
  static const int lattices[4][2] = {{0, 0}, {1, 1}, {0, 1}, {1, 0}};
  for (auto &lattice : lattices) {
    int64_t n = 0;
    for (int64_t y = lattice[0]; y < h; y += 2)
      for (int64_t x = lattice[1]; x < w; x += 2) {
        const uint8_t *r = ring + (y + 1) * side + x + 1;
        const uint8_t near[8] = {r[-side], r[side], r[-1], r[1], r[-side - 1], r[-side + 1], r[side - 1], r[side + 1]};
        int sums[2] = {}, known[2] = {}, largest = 0, f[8];
        for (int k = 0; k < 8; k++) {
          sums[k >> 2] += near[k], known[k >> 2] += near[k] > 0;
          largest = near[k] > largest ? near[k] : largest;
        }
        level_statics(p, y, x, f);
        PassHidden hidden = hidden_from(net->bias);
        hidden_add(hidden, pairs[0], level_mean(sums[0], known[0]), 4 * known[0]);
        hidden_add(hidden, pairs[1], level_mean(sums[1], known[1]), 4 * known[1]);
        for (int k = 0; k < 4; k++) hidden_add(hidden, pairs[2 + k], f[2 * k], f[2 * k + 1]);
        hidden_add(hidden, pairs[6], top(32 * largest), 0);
        hidden_close(hidden);
        for (int k = 0; k < MOST_LEVEL; k++) {
          int32_t z = hidden_out(hidden, out + k * HIDDEN, net->out_bias[k]);
          if (p->out) p->out[k * h * w + y * w + x] = z;
          rows[k * most + n] = (uint8_t)(pass_row(z) + FIRST_YES);
        }
        blocks[n++] = (int32_t)(y * w + x);
      }
    int64_t left = n;
    for (int64_t i = 0; i < n; i++) here[i] = (int32_t)i;
    for (int k = 0; k < MOST_LEVEL && left; k++) {
      for (int64_t i = 0; i < left; i++) {
        step[i] = rows[k * most + here[i]];
        if (!coder->ans) symbols[i] = p->levels[blocks[here[i]]] > k;
      }
      int status = pass_step(coder, step, left, symbols);
      if (status) return status;
      int64_t goes_on = 0;
      for (int64_t i = 0; i < left; i++) {
        if (symbols[i] & ~1) return CODEC_DAMAGED;
        if (symbols[i]) here[goes_on++] = here[i];
        else if (coder->ans) p->levels[blocks[here[i]]] = (uint8_t)k;
      }
      left = goes_on;
    }
    if (coder->ans)
      for (int64_t i = 0; i < left; i++) p->levels[blocks[here[i]]] = MOST_LEVEL;
    for (int64_t i = 0; i < n; i++) ring[(blocks[i] / w + 1) * side + blocks[i] % w + 1] = (uint8_t)(p->levels[blocks[i]] + 1);
  }
  return CODEC_OK;
}

// ---- coefficients

// The coefficients while they are coded. Grids of magnitudes have a ring of zeros around; the last is all zeros.
struct Coefficients {
  const CoefficientPlane *p;
  const PassNetwork *net;
  int64_t side, ringed;
  uint8_t *sizes;  // (65, h + 2, w + 2)
  int32_t *totals; // (h + 2, w + 2)
  PassPair of_symbol[5], of_block[3], of_band[2];
  int32_t out[HIDDEN];
};

INLINE const uint8_t *lower_band(const Coefficients &c, int u, int v) {
  return c.sizes + (u < 0 || v < 0 ? 64 : 8 * u + v) * c.ringed;
}

// The hidden sums of a block that its bands share: (32,).
INLINE void block_hidden(const Coefficients &c, int64_t block, int64_t inside, int level, int second, int32_t *out) {
  const CoefficientPlane *p = c.p;
  const int64_t n = p->h * p->w;
  const int32_t *total = c.totals + inside;
  PassHidden hidden = hidden_from(c.net->bias + second * HIDDEN);
  hidden_add(hidden, c.of_block[0], top(total[0] >> 2), top((total[-1] + total[1] + total[-c.side] + total[c.side]) >> 4));
  hidden_add(hidden, c.of_block[1], p->of_block[block], p->of_block[n + block]);
  hidden_add(hidden, c.of_block[2], p->of_block[2 * n + block], top(p->levels[block] * 16) - 16 * level);
  for (int k = 0; k < HIDDEN_VECTORS; k++) store(out + k * L, hidden.sum[k]);
}

// The rows of one band in some blocks. base: (n, 32) of `block_hidden`. inside: places of the blocks in a ringed grid.
INLINE void band_rows(const Coefficients &c, int band, const int32_t *block, const int32_t *inside, int64_t n,
                      const int32_t *base, uint8_t *rows) {
  const CoefficientPlane *p = c.p;
  const int u = band >> 3, v = band & 7;
  const int64_t side = c.side, all = p->h * p->w;
  const uint8_t *a = lower_band(c, u - 1, v), *b = lower_band(c, u, v - 1), *own = lower_band(c, u, v);
  const uint8_t *two[3] = {lower_band(c, u - 2, v), lower_band(c, u - 1, v - 1), lower_band(c, u, v - 2)};
  const uint8_t *texture = p->texture + band * all, *past = p->past ? p->past + band * all : nullptr;
  const uint8_t *cross = p->cross ? p->cross + band * all : nullptr, *twin = p->twin ? p->twin + band * all : nullptr;
  const int32_t bias = c.net->out_bias[0] + p->band_bias[band];
  PassHidden of_band{};
  hidden_add(of_band, c.of_band[0], 8 * u, 8 * v);
  hidden_add(of_band, c.of_band[1], 8 * (u + v), 0);
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = inside[i], from = block[i];
    PassHidden hidden = hidden_from(base + i * HIDDEN);
    for (int k = 0; k < HIDDEN_VECTORS; k++) hidden.sum[k] += of_band.sum[k];
    hidden_add(hidden, c.of_symbol[0], top(a[at] + b[at]), top(two[0][at] + two[1][at] + two[2][at]));
    hidden_add(hidden, c.of_symbol[1], top(a[at - 1] + a[at + 1] + b[at - 1] + b[at + 1]),
               top(a[at - side] + a[at + side] + b[at - side] + b[at + side]));
    hidden_add(hidden, c.of_symbol[2], texture[from], past ? past[from] : 0);
    if (cross) hidden_add(hidden, c.of_symbol[3], cross[from], twin ? twin[from] : 0);
    else if (twin) hidden_add(hidden, c.of_symbol[3], 0, twin[from]);
    // of the first colour's neighbours nothing is known: 0
    hidden_add(hidden, c.of_symbol[4], top(own[at - 1] + own[at + 1]), top(own[at - side] + own[at + side]));
    hidden_close(hidden);
    rows[i] = pass_row(hidden_out(hidden, c.out, bias));
  }
}

// The symbol that is cheapest, by distortion and bits, and what it costs: the nearest, one lower, or 0.
INLINE int32_t cheapest(const CoefficientPlane *p, double target, const float *bits, double &cost) {
  const double t = target < 0 ? -target : target;
  auto price = [&](int64_t size) {
    const double d = t - (double)size;
    return d * d + (double)(p->lambda * bits[(size < 40 ? size : 40) + 40]);
  };
  const double near = floor(t + 0.5);
  const int64_t high = near < 16000 ? (int64_t)near : 16000, lower[2] = {high > 0 ? high - 1 : 0, 0};
  int64_t best = high;
  cost = price(high);
  for (int64_t size : lower) {
    double other = price(size);
    if (other < cost) best = size, cost = other;
  }
  return (int32_t)(target < 0 ? -best : best);
}

// One pass: the bands of a group in the blocks of one colour. work: what pass_coefficients keeps for it.
struct PassWork {
  int32_t *block, *inside, *base, *symbols;
  uint8_t *rows;
};

static int coefficient_pass(PassCoder *coder, Coefficients &c, const int *bands, int n_bands, int level, int second,
                            int64_t n, const PassWork &work) {
  const CoefficientPlane *p = c.p;
  const int64_t all = p->h * p->w, part = 256;
  parallel((n + part - 1) / part, [&](int64_t k, int) {
    const int64_t from = k * part, size = least<int64_t>(part, n - from);
    for (int64_t i = from; i < from + size; i++)
      block_hidden(c, work.block[i], work.inside[i], level, second, work.base + i * HIDDEN);
    for (int j = 0; j < n_bands; j++)
      band_rows(c, bands[j], work.block + from, work.inside + from, size, work.base + from * HIDDEN, work.rows + j * n + from);
  });
  if (p->target)
    for (int64_t i = 0; i < n; i++) {
      double total = 0, cost;
      for (int j = 0; j < n_bands; j++) {
        const double target = p->target[bands[j] * all + work.block[i]];
        work.symbols[j * n + i] = cheapest(p, target, p->costs + work.rows[j * n + i] * 81, cost);
        total += cost;
      }
      p->spent[level * all + work.block[i]] += total;
    }
  else if (!coder->ans)
    for (int j = 0; j < n_bands; j++)
      for (int64_t i = 0; i < n; i++) work.symbols[j * n + i] = p->given[bands[j] * all + work.block[i]];
  int status = pass_step(coder, work.rows, n_bands * n, work.symbols);
  if (status) return status;
  for (int j = 0; j < n_bands; j++)
    for (int64_t i = 0; i < n; i++) {
      const int32_t q = work.symbols[j * n + i], size = q < 0 ? -q : q;
      if (size < 0 || size > coder->largest) return CODEC_BAD_CALL;
      const uint8_t feature = p->magnitude[size];
      p->q[bands[j] * all + work.block[i]] = q;
      p->sizes[bands[j] * all + work.block[i]] = feature;
      c.sizes[bands[j] * c.ringed + work.inside[i]] = feature;
      c.totals[work.inside[i]] += feature;
    }
  return CODEC_OK;
}

int pass_coefficients(PassCoder *coder, const PassNetwork *net, const CoefficientPlane *p) {
  enum { LOWER, LOWER_TWO, BLOCK_, OWN_BESIDE, LOWER_BESIDE, AROUND, TEXTURE, TEXTURE_LOW, CROSS, TWIN, PAST, PAST_LEVEL };
  enum { ABOVE = 12, V = 14, U = 15, MOTION = 22, DIAGONAL, OWN_ABOVE, LOWER_ABOVE };
  static const int groups[7][3] = {{0, 0, 1}, {1, 1, 1}, {2, 2, 2}, {3, 3, 2}, {4, 4, 3}, {5, 6, 3}, {7, 14, 4}};
  const int64_t h = p->h, w = p->w, side = w + 2, ringed = side * (h + 2), most = (h * w + 1) / 2;
  if (h < 1 || w < 1 || h * w > 1 << 24 || coder->n_rows < FIRST_YES || coder->n_rows > 255) return CODEC_BAD_CALL;
  if (!coder->ans && !p->target && !p->given) return CODEC_BAD_CALL;
  Coefficients c = {p, net, side, ringed, (uint8_t *)pool_scratch(0, (size_t)ringed * 65),
                    (int32_t *)pool_scratch(1, (size_t)ringed * 4), {}, {}, {}, {}};
  int32_t *numbers = (int32_t *)pool_scratch(2, (size_t)most * (2 + HIDDEN + 36) * 4);
  uint8_t *rows = (uint8_t *)pool_scratch(6, (size_t)most * 36);
  if (!c.sizes || !c.totals || !numbers || !rows) return CODEC_NO_MEMORY;
  memset(c.sizes, 0, (size_t)ringed * 65), memset(c.totals, 0, (size_t)ringed * 4);
  const PassWork work = {numbers, numbers + most, numbers + 2 * most, numbers + (2 + HIDDEN) * most, rows};
  static const int pairs[10][2] = {{LOWER, LOWER_TWO}, {LOWER_BESIDE, LOWER_ABOVE}, {TEXTURE, PAST}, {CROSS, TWIN},
                                   {OWN_BESIDE, OWN_ABOVE}, {BLOCK_, AROUND}, {TEXTURE_LOW, PAST_LEVEL}, {MOTION, ABOVE},
                                   {V, U}, {DIAGONAL, -1}};
  for (int k = 0; k < 10; k++) {
    PassPair *place = k < 5 ? c.of_symbol + k : k < 8 ? c.of_block + k - 5 : c.of_band + k - 8;
    *place = pass_pair(net, pairs[k][0], pairs[k][1]);
  }
  for (int j = 0; j < HIDDEN; j++) c.out[j] = net->out[j];
  for (auto &group : groups) {
    int bands[64], n_bands = 0, any = 0;
    for (int band = 0; band < 64; band++) {
      const int diagonal = (band >> 3) + (band & 7);
      if (diagonal >= group[0] && diagonal <= group[1]) bands[n_bands++] = band;
    }
    if (bands[0] < p->first_band) continue;
    for (int second = 0; second < 2; second++) {
      int64_t n = 0;
      for (int64_t y = 0; y < h; y++)
        for (int64_t x = (y + second) & 1; x < w; x += 2)
          if (p->levels[y * w + x] >= group[2]) {
            work.block[n] = (int32_t)(y * w + x), work.inside[n++] = (int32_t)((y + 1) * side + x + 1);
          }
      if (!n) continue;
      any = 1;
      int status = coefficient_pass(coder, c, bands, n_bands, group[2], second, n, work);
      if (status) return status;
    }
    if (!any) break;
  }
  return CODEC_OK;
}
