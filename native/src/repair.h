// The filter behind a block transform, of nirvana's preset grid (codecs/nirvana/grid/networks.py, Filter), in integers.
//
// Inputs and hidden units lie in memory as pairs of 16 bits, by turns, a number of 32 bits for each place: a place's
// pair of channels. Around them are repeated edges, and room for a vector.

struct RepairGrid {
  uint32_t *at; // the pair of the first channels at the first place inside
  int64_t row, plane;
};

INLINE uint32_t repair_pair(int32_t a, int32_t b) { return (uint32_t)(a & 0xFFFF) | (uint32_t)b << 16; }

// Repeats the edges of a row of n places.
INLINE void repair_sides(uint32_t *row, int64_t n) { row[-1] = row[0], row[n] = row[n - 1]; }

// The inputs of one row of a plane, in eighths of a step, to 7 bits and sign: what the row differs by from its blurring
// by a binomial of 5x5, and the residual. work: (width + 4) numbers.
INLINE void repair_inputs(const RepairPlanes *p, int plane, int64_t y, int32_t *work, int16_t *detail, int16_t *residual) {
  const int64_t w = p->width;
  const double *rows[5];
  for (int k = 0; k < 5; k++) {
    int64_t at = y + k - 2;
    rows[k] = p->total[plane] + (at < 0 ? 0 : at >= p->height ? p->height - 1 : at) * w;
  }
  auto sample = [](double x) { return ((int32_t)x + 8) >> 4; };
  for (int64_t x = 0; x < w; x++)
    work[x + 2] = sample(rows[0][x]) + sample(rows[4][x]) + 4 * (sample(rows[1][x]) + sample(rows[3][x])) +
                  6 * sample(rows[2][x]);
  work[0] = work[1] = work[2], work[w + 2] = work[w + 3] = work[w + 1];
  const double scale = 1.0 / (2.0 * p->step), half = p->step + 0.5; // half a unit away from every whole number
  const double *left = p->residual[plane] + y * w;
  for (int64_t x = 0; x < w; x++) {
    int32_t blurred = work[x] + work[x + 4] + 4 * (work[x + 1] + work[x + 3]) + 6 * work[x + 2];
    double d = floor((256 * sample(rows[2][x]) - blurred + half) * scale), r = floor((16 * left[x] + half) * scale);
    detail[x] = (int16_t)(d < -127 ? -127 : d > 127 ? 127 : d);
    residual[x] = (int16_t)(r < -127 ? -127 : r > 127 ? 127 : r);
  }
}

// One row of a convolution: places x0 ... x1 - 1 of `row` -> sums + bias. Each output's weights: (PAIRS, 3, 3) pairs.
template <int PAIRS, int OUTPUTS, class F>
INLINE void repair_row(const RepairGrid &in, int64_t y, int64_t x0, int64_t x1, const uint32_t *weights,
                       const int32_t *bias, F &&finish) {
  for (int64_t x = x0; x < x1; x += L) {
    i32v sums[OUTPUTS];
    for (int o = 0; o < OUTPUTS; o++) sums[o] = all32(bias[o]);
    for (int pair = 0; pair < PAIRS; pair++)
      for (int tap = 0; tap < 9; tap++) {
        const i16v v = load<i16v>((const int16_t *)(in.at + pair * in.plane + (y + tap / 3 - 1) * in.row + x + tap % 3 - 1));
        for (int o = 0; o < OUTPUTS; o++)
          sums[o] = madd(sums[o], v, (i16v)all32((int32_t)weights[(o * PAIRS + pair) * 9 + tap]));
      }
    finish(x, sums);
  }
}

static void repair_weights(const int16_t *weight, int outputs, int inputs, uint32_t *out) {
  for (int o = 0; o < outputs; o++)
    for (int pair = 0; pair < inputs / 2; pair++)
      for (int tap = 0; tap < 9; tap++) {
        const int16_t *w = weight + (o * inputs + 2 * pair) * 9 + tap;
        *out++ = repair_pair(w[0], w[9]);
      }
}

// The row of a result: a plane's total, corrected where a block is active, in whole samples.
INLINE void repair_finish(const RepairPlanes *p, int plane, int64_t y, const int32_t *correction) {
  const double *total = p->total[plane] + y * p->width, unit = p->step / 1024.0, low = p->low, high = p->high;
  const uint8_t *active = p->active[plane] + y / 8 * (p->width / 8);
  int16_t *out = p->out[plane] + y * p->columns;
  for (int64_t block = 0; block * 8 < p->columns; block++)
    for (int64_t x = 8 * block, end = least<int64_t>(x + 8, p->columns); x < end; x++) {
      double v = total[x];
      if (active[block]) v += correction[x] * unit;
      v = floor(v / 16 + 0.5);
      out[x] = (int16_t)(v < low ? low : v > high ? high : v);
    }
}

template <int FOLD, int PAIRS, int HIDDEN_UNITS, int OUTPUTS> static int repair(const RepairPlanes *p) {
  constexpr int N = FOLD == 2 ? 1 : 2;
  const int64_t h = p->height / FOLD, w = p->width / FOLD, row = w + 2 + 2 * L, size = row * (h + 2);
  uint32_t *memory[2] = {(uint32_t *)pool_scratch(0, (size_t)(size * PAIRS) * 4),
                         (uint32_t *)pool_scratch(1, (size_t)(size * HIDDEN_UNITS / 2) * 4)};
  if (!memory[0] || !memory[1]) return CODEC_NO_MEMORY;
  const RepairGrid inputs = {memory[0] + row + 1, row, size}, hidden = {memory[1] + row + 1, row, size};
  uint32_t w1[HIDDEN_UNITS * PAIRS * 9], w2[OUTPUTS * HIDDEN_UNITS / 2 * 9];
  int32_t b1[HIDDEN_UNITS], b2[OUTPUTS];
  repair_weights(p->w1, HIDDEN_UNITS, 2 * PAIRS, w1), repair_weights(p->w2, OUTPUTS, HIDDEN_UNITS, w2);
  for (int o = 0; o < HIDDEN_UNITS; o++) b1[o] = p->b1[o] * 32 + 16;
  for (int o = 0; o < OUTPUTS; o++) b2[o] = p->b2[o] * 64;
  // which rows have active blocks, and which rows of the layers they need
  auto wanted = [&](int64_t y) { // a row of blocks of fold x fold
    const uint8_t *a = p->active[0] + y * FOLD / 8 * (p->width / 8), *b = p->active[N - 1] + y * FOLD / 8 * (p->width / 8);
    for (int64_t x = 0; x < p->width / 8; x++)
      if (a[x] | b[x]) return true;
    return false;
  };
  auto near = [&](int64_t y, int64_t reach) {
    for (int64_t k = y - reach; k <= y + reach; k += reach ? reach : 1)
      if (k >= 0 && k < h && wanted(k)) return true;
    return false;
  };
  int failed = 0;
  auto spread = [&](const RepairGrid &grid, int pairs, int64_t y) { // a finished row, and the edge that it repeats
    for (int k = 0; k < pairs; k++) {
      uint32_t *from = grid.at + k * grid.plane + y * row;
      repair_sides(from, w);
      if (y == 0) memcpy(from - row - 1, from - 1, (size_t)(w + 2) * 4);
      if (y == h - 1) memcpy(from + row - 1, from - 1, (size_t)(w + 2) * 4);
    }
  };
  parallel(h, [&](int64_t y, int) {
    if (!near(y, 2)) return;
    int32_t *work = (int32_t *)pool_scratch(2, (size_t)(p->width + 4) * 4);
    int16_t *lines = (int16_t *)pool_scratch(3, (size_t)(p->width * 4) * 2);
    if (!work || !lines) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    int16_t *detail[2] = {lines, lines + p->width}, *left[2] = {lines + 2 * p->width, lines + 3 * p->width};
    if (FOLD == 2)
      for (int k = 0; k < 2; k++) { // a row's samples by twos are a pair of channels already
        repair_inputs(p, 0, 2 * y + k, work, detail[k], left[k]);
        memcpy(inputs.at + k * size + y * row, detail[k], (size_t)w * 4);
        memcpy(inputs.at + (2 + k) * size + y * row, left[k], (size_t)w * 4);
      }
    else {
      for (int k = 0; k < 2; k++) repair_inputs(p, k, y, work, detail[k], left[k]);
      for (int64_t x = 0; x < w; x++) {
        inputs.at[y * row + x] = repair_pair(detail[0][x], detail[1][x]);
        inputs.at[size + y * row + x] = repair_pair(left[0][x], left[1][x]);
      }
    }
    spread(inputs, PAIRS, y);
  });
  if (failed) return CODEC_NO_MEMORY;
  parallel(h, [&](int64_t y, int) {
    if (!near(y, 1)) return;
    repair_row<PAIRS, HIDDEN_UNITS>(inputs, y, 0, w, w1, b1, [&](int64_t x, i32v *sums) {
      for (int k = 0; k < HIDDEN_UNITS / 2; k++) {
        i32v a = min_(max_(sums[2 * k] >> 5, i32v{}), all32(255)), b = min_(max_(sums[2 * k + 1] >> 5, i32v{}), all32(255));
        store(hidden.at + k * size + y * row + x, a | b << 16);
      }
    });
    spread(hidden, HIDDEN_UNITS / 2, y);
  });
  parallel(h, [&](int64_t y, int) {
    int32_t *sums = (int32_t *)pool_scratch(2, (size_t)((p->width + 2 * L) * 2 + (w + L) * OUTPUTS) * 4);
    if (!sums) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    int32_t *rows[2] = {sums, sums + p->width + 2 * L}, *out = sums + 2 * (p->width + 2 * L);
    if (wanted(y)) {
      repair_row<HIDDEN_UNITS / 2, OUTPUTS>(hidden, y, 0, w, w2, b2, [&](int64_t x, i32v *s) {
        for (int o = 0; o < OUTPUTS; o++) store(out + o * (w + L) + x, s[o]);
      });
      for (int64_t x = 0; x < w; x++)
        for (int o = 0; o < OUTPUTS; o++)
          rows[FOLD == 2 ? o / 2 : o][FOLD == 2 ? 2 * x + o % 2 : x] = out[o * (w + L) + x];
    }
    for (int k = 0; k < 2; k++) {
      const int64_t at = FOLD == 2 ? 2 * y + k : y;
      if (at < p->rows) repair_finish(p, FOLD == 2 ? 0 : k, at, rows[k]);
    }
  });
  return failed ? CODEC_NO_MEMORY : CODEC_OK;
}

int repair_planes(const RepairPlanes *p) {
  if (p->height < 16 || p->width < 16 || p->height % 16 || p->width % 16 || p->rows > p->height || p->columns > p->width ||
      p->step < 1)
    return CODEC_BAD_CALL;
  if (p->fold == 2) return repair<2, 4, 16, 4>(p);
  return p->fold == 1 ? repair<1, 2, 8, 2>(p) : CODEC_BAD_CALL;
}
