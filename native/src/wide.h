// Convolutions whose inputs have more than 16 bits, or whose sums have more than 32: an input is high * 2^shift + low, two
// chains of int16 products run side by side, and what they stand for is put together in float64.
//
// A chain's int32 sum may wrap around on its way: only what it is when it is folded into float64 has to fit. For most
// layers that is once, at the end; `fold` says after how many pairs of inputs. Where all inputs of a band are small, one
// chain will do (`single`). Weights lie in blocks of 16 outputs, whatever the length of the vectors.

#if defined(CODEC_AVX512)
constexpr int WIDE_CELLS = 6, WIDE_BLOCKS = 2;
#elif defined(CODEC_AVX2)
constexpr int WIDE_CELLS = 3, WIDE_BLOCKS = 1;
#elif defined(CODEC_NEON)
constexpr int WIDE_CELLS = 3, WIDE_BLOCKS = 1;
#else // 16 registers of 4 lanes
constexpr int WIDE_CELLS = 1, WIDE_BLOCKS = 1;
#endif
constexpr int WIDE_BLOCK = 16; // outputs of a block

// w: (outputs, inputs, area). order: for each packed output, which it is, or -1: none. taps: the places of the kernel that
// have weights at all.
int wide_pack(const int16_t *w, int64_t outputs, int64_t inputs, int64_t area, const int32_t *order, int64_t blocks,
              const int32_t *taps, int64_t n_taps, int16_t *out) {
  int64_t pairs = (inputs + 1) / 2;
  for (int64_t i = 0; i < blocks * WIDE_BLOCK; i++)
    if (order[i] < -1 || order[i] >= outputs) return CODEC_BAD_CALL;
  parallel(blocks, [&](int64_t b, int) {
    for (int64_t t = 0; t < n_taps; t++)
      for (int l = 0; l < WIDE_BLOCK; l++) {
        int16_t *to = out + ((b * n_taps + t) * pairs * WIDE_BLOCK + l) * 2;
        int32_t o = order[b * WIDE_BLOCK + l];
        const int16_t *from = w + ((int64_t)o * inputs) * area + taps[t];
        for (int64_t k = 0; k < pairs; k++, to += 2 * WIDE_BLOCK) {
          to[0] = o < 0 ? 0 : from[2 * k * area];
          to[1] = o < 0 || 2 * k + 1 >= inputs ? 0 : from[(2 * k + 1) * area];
        }
      }
  });
  return CODEC_OK;
}

// ---- the chains

template <int R, int V, bool TWO>
INLINE void wide_chains(const int16_t *high, const int16_t *low, int64_t stride, const int16_t *w, int64_t block, int64_t n,
                        i32v (&a)[2][R][V]) {
  for (int64_t k = 0; k < n; k++) {
    i16v weight[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++)
      weight[v] = load<i16v>(w + v * L / WIDE_BLOCK * block + v * L % WIDE_BLOCK * 2 + k * 2 * WIDE_BLOCK);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      i16v x = pair(low + r * stride + 2 * k);
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) a[1][r][v] = madd(a[1][r][v], x, weight[v]);
      if (TWO) {
        x = pair(high + r * stride + 2 * k);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) a[0][r][v] = madd(a[0][r][v], x, weight[v]);
      }
    }
  }
}

// Adds what the chains hold to the sums, [R][V L], and clears them.
template <int R, int V, bool TWO> INLINE void wide_fold(i32v (&a)[2][R][V], double factor, double *sums) {
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
      double *s = sums + (r * V + v) * L;
      f64v part[2], high[2];
      to_double(a[1][r][v], part[0], part[1]);
      a[1][r][v] = i32v{};
      if (TWO) {
        to_double(a[0][r][v], high[0], high[1]);
        a[0][r][v] = i32v{};
        part[0] += high[0] * factor, part[1] += high[1] * factor; // integers below 2^53: exact
      }
      store(s, load<f64v>(s) + part[0]);
      store(s + L / 2, load<f64v>(s + L / 2) + part[1]);
    }
}

// The sums of R cells, `stride` numbers apart, and V vectors of outputs from packed block b on: [R][V L].
template <int R, int V, bool TWO>
static __attribute__((noinline)) void wide_tile(const WideLayer &w, const int16_t *high, const int16_t *low, int64_t stride,
                                                const int64_t *offset, int64_t b, double *sums) {
  int64_t pairs = (w.inputs + 1) / 2, block = w.taps * pairs * 2 * WIDE_BLOCK, left = w.fold;
  double factor = (double)(1 << w.shift);
  const int16_t *weight = w.weight + b * block;
  for (int r = 0; r < R; r++) memcpy(sums + r * V * L, w.bias + b * WIDE_BLOCK, sizeof(double) * V * L);
  i32v a[2][R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) a[0][r][v] = a[1][r][v] = i32v{};
  for (int t = 0; t < w.taps; t++)
    for (int64_t k = 0; k < pairs;) {
      if (TWO && !left) wide_fold<R, V, TWO>(a, factor, sums), left = w.fold;
      int64_t n = TWO ? least(left, pairs - k) : pairs - k;
      const int16_t *h = high + offset[t] + 2 * k, *l = low + offset[t] + 2 * k;
      wide_chains<R, V, TWO>(h, l, stride, weight + (t * pairs + k) * 2 * WIDE_BLOCK, block, n, a);
      k += n, left -= n;
    }
  wide_fold<R, V, TWO>(a, factor, sums);
}

// Cells that lie `stride` numbers apart: `n` of them from `offset` on; the first has this index.
struct WideRun {
  int64_t offset, index, n;
};

template <int BLOCKS, bool TWO, class Use>
INLINE void wide_blocks(const WideLayer &w, const int16_t *high, const int16_t *low, int64_t stride, const int64_t *offset,
                        int64_t b, const WideRun *runs, int64_t n_runs, Use &&use) {
  constexpr int R = WIDE_CELLS, V = BLOCKS * WIDE_BLOCK / L;
  alignas(64) double sums[R * V * L];
  for (const WideRun *run = runs; run < runs + n_runs; run++)
    for (int64_t i = 0; i < run->n; i += R) {
      int64_t at = run->offset + i * stride;
      wide_tile<R, V, TWO>(w, high + at, low + at, stride, offset, b, sums);
      for (int64_t r = 0; r < least((int64_t)R, run->n - i); r++)
        for (int k = 0; k < BLOCKS; k++) use(run->index + i + r, b + k, sums + (r * BLOCKS + k) * WIDE_BLOCK);
    }
}

// Calls use(index of the cell, block, its 16 sums) for all cells and blocks. What lies behind the last cell of a run may be
// read, up to WIDE_CELLS - 1 cells.
template <class Use>
static void wide_run(const WideLayer &w, bool two, const int16_t *high, const int16_t *low, int64_t stride,
                     const int64_t *offset, const WideRun *runs, int64_t n_runs, Use &&use) {
  int64_t b = 0;
  if (two) {
    for (; b + WIDE_BLOCKS <= w.blocks; b += WIDE_BLOCKS)
      wide_blocks<WIDE_BLOCKS, true>(w, high, low, stride, offset, b, runs, n_runs, use);
    for (; b < w.blocks; b++) wide_blocks<1, true>(w, high, low, stride, offset, b, runs, n_runs, use);
  } else {
    for (; b + WIDE_BLOCKS <= w.blocks; b += WIDE_BLOCKS)
      wide_blocks<WIDE_BLOCKS, false>(w, high, low, stride, offset, b, runs, n_runs, use);
    for (; b < w.blocks; b++) wide_blocks<1, false>(w, high, low, stride, offset, b, runs, n_runs, use);
  }
}

// ---- what sums become

// The 16 integers of the sums of block b.
INLINE void wide_integers(const WideOut &q, int64_t b, const double *sums, int32_t *out) {
#pragma GCC unroll 8
  for (int j = 0; j < WIDE_BLOCK; j += L / 2) {
    int64_t o = b * WIDE_BLOCK + j;
    f64v v = load<f64v>(sums + j) * load<f64v>(q.scale + o);
    if (q.gain) v = v * load<f64v>(q.gain + o);
    if (q.add) v = v + load<f64v>(q.add + o);
    v = v < alld(0) ? v * q.slope : v;
    v = min_(max_(floor_(v + q.half), alld(q.least)), alld(q.most));
    store(out + j, to_int(v));
  }
}

// n integers as high * 2^shift + low.
INLINE void wide_split(i32v x, int shift, int16_t *high, int16_t *low) {
  i32v h = (x + (1 << (shift - 1))) >> shift;
  store16(high, h);
  store16(low, x - (h << shift));
}

// The 16 integers of the sums of block b, split.
INLINE void wide_halves(const WideOut &q, int64_t b, const double *sums, int shift, int16_t *high, int16_t *low) {
  alignas(64) int32_t x[WIDE_BLOCK];
  wide_integers(q, b, sums, x);
#pragma GCC unroll 8
  for (int j = 0; j < WIDE_BLOCK; j += L) wide_split(load<i32v>(x + j), shift, high + j, low + j);
}

INLINE i32v wide_load(const int32_t *p) { return load<i32v>(p); }
INLINE i32v wide_load(const int16_t *p) { return from16(load<h16v>(p)); }

// A band of the input, split: rows top - pad ... bottom + pad, columns likewise, zero outside. From a cell to the next are
// `cell` numbers, `row` from a row to the next.
struct WideBand {
  int16_t *high, *low;
  int64_t cell, row;
  bool two;
};

template <class T> INLINE int32_t wide_magnitude(const T *x, int64_t n) {
  i32v most_ = i32v{};
  int64_t c = 0;
  for (; c + L <= n; c += L) {
    i32v v = wide_load(x + c);
    most_ = max_(most_, v ^ (v >> 31)); // -x - 1 for a negative x
  }
  int32_t result = 0;
  for (; c < n; c++) result = most(result, (int32_t)x[c] ^ ((int32_t)x[c] >> 31));
  for (int i = 0; i < L; i++) result = most(result, most_[i]);
  return result;
}

// Number from the start of the band's memory to that of its low halves.
static int64_t wide_plane(const WideLayer &w, int64_t rows, int64_t columns) {
  int64_t cell = (w.inputs + 1) / 2 * 2, pad = w.size - 1;
  return ((rows + pad) * (columns + pad) + 2 * WIDE_CELLS) * cell; // with what wide_run may read behind the last cell
}

template <class T>
static void wide_band(const WideLayer &w, const T *x, int64_t x_cell, int64_t x_row, int64_t height, int64_t width,
                      int64_t top, int64_t bottom, int64_t left, int64_t right, int16_t *memory, WideBand &band) {
  int64_t pad = w.size / 2, n = w.inputs, cell = (n + 1) / 2 * 2, columns = right - left + 2 * pad;
  int64_t from = most((int64_t)0, left - pad), to = least(width, right + pad);
  band.cell = cell, band.row = columns * cell;
  band.low = memory, band.high = memory + wide_plane(w, bottom - top, right - left);
  int32_t largest = 0;
  for (int64_t y = most((int64_t)0, top - pad); y < least(height, bottom + pad) && largest < w.single; y++)
    for (int64_t i = from; i < to; i++) largest = most(largest, wide_magnitude(x + y * x_row + i * x_cell, n));
  band.two = largest >= w.single;
  int shift = w.shift;
  for (int64_t y = top - pad; y < bottom + pad; y++)
    for (int64_t i = left - pad; i < right + pad; i++) {
      int64_t at = (y - top + pad) * band.row + (i - left + pad) * cell;
      int16_t *high = band.high + at, *low = band.low + at;
      if (y < 0 || y >= height || i < 0 || i >= width) {
        memset(low, 0, 2 * cell);
        if (band.two) memset(high, 0, 2 * cell);
        continue;
      }
      const T *p = x + y * x_row + i * x_cell;
      int64_t c = 0;
      for (; c + L <= n; c += L) {
        i32v v = min_(max_(wide_load(p + c), all32(w.least)), all32(w.most));
        if (band.two) wide_split(v, shift, high + c, low + c);
        else store16(low + c, v);
      }
      for (; c < n; c++) {
        int32_t v = least(most((int32_t)p[c], w.least), w.most), h = (v + (1 << (shift - 1))) >> shift;
        high[c] = (int16_t)(band.two ? h : 0), low[c] = (int16_t)(band.two ? v - (h << shift) : v);
      }
      if (c < cell) high[c] = low[c] = 0;
    }
}

// Where the taps of a layer are in a band, from the cell in the middle.
INLINE void wide_offsets(const WideLayer &w, const WideBand &band, int64_t *offset) {
  for (int t = 0; t < w.taps; t++) offset[t] = w.tap[2 * t] * band.row + w.tap[2 * t + 1] * band.cell;
}

constexpr int WIDE_TAPS = 49;    // most of a layer
constexpr int WIDE_COLUMNS = 96; // cells of a block at most

// Columns are cut into `parts` parts of about the same width.
struct WideCut {
  int64_t width, parts;
  WideCut(int64_t width, int64_t columns) : width(width), parts((width + columns - 1) / columns) {}
  int64_t at(int64_t part) const { return width * part / parts; }
};

// ---- a convolution by rows

int wide_rows(const WideRows *p) {
  const WideRows &a = *p;
  const WideLayer &w = a.layer;
  if (w.taps > WIDE_TAPS || a.x_cell < w.inputs || a.top < 0 || a.bottom > a.height) return CODEC_BAD_CALL;
  constexpr int64_t BAND = 4; // rows
  int64_t s = a.shuffle, width = a.y_width / s;
  WideCut cut(width, WIDE_COLUMNS / 2);
  int64_t bands = (a.bottom - a.top + BAND - 1) / BAND;
  int status = CODEC_OK;
  parallel(bands * cut.parts, [&](int64_t task, int) {
    int64_t top = a.top + task / cut.parts * BAND, bottom = least((int64_t)a.bottom, top + BAND);
    int64_t left = cut.at(task % cut.parts), right = cut.at(task % cut.parts + 1);
    int16_t *memory = (int16_t *)pool_scratch(0, 4 * wide_plane(w, bottom - top, right - left));
    if (!memory) {
      __atomic_store_n(&status, (int)CODEC_NO_MEMORY, __ATOMIC_RELAXED);
      return;
    }
    WideBand band;
    if (a.x_bits == 16)
      wide_band(w, (const int16_t *)a.x - a.first * a.x_row, a.x_cell, a.x_row, a.height, a.width, top, bottom, left, right,
                memory, band);
    else
      wide_band(w, (const int32_t *)a.x - a.first * a.x_row, a.x_cell, a.x_row, a.height, a.width, top, bottom, left, right,
                memory, band);
    int64_t offset[WIDE_TAPS], pad = w.size / 2;
    wide_offsets(w, band, offset);
    WideRun runs[BAND];
    for (int64_t y = top; y < bottom; y++)
      runs[y - top] = {(y - top + pad) * band.row + pad * band.cell, (y - top) << 32, right - left};
    wide_run(w, band.two, band.high, band.low, band.cell, offset, runs, bottom - top,
             [&](int64_t index, int64_t b, const double *sums) {
               alignas(64) int32_t values[WIDE_BLOCK];
               wide_integers(a.out, b, sums, values);
               int64_t phase = b / a.blocks_of_phase, c = b % a.blocks_of_phase * WIDE_BLOCK;
               int64_t y = (top - a.top + (index >> 32)) * s + phase / s, i = (left + (index & 0xffffffff)) * s + phase % s;
               int32_t *to = a.y + (y * a.y_width + i) * a.channels + c;
               if (c + WIDE_BLOCK <= a.channels) memcpy(to, values, sizeof values);
               else memcpy(to, values, sizeof(int32_t) * (a.channels - c));
             });
  });
  return status;
}

// ---- networks on single cells: a hidden layer, whose input is put together from parts, and a last one

// Integers floor(x 2^(shift - 1 + e)) as those of the leaky grid of exponent e, floor(x 2^e + 1/2) for positive x: nested
// floors are one.
INLINE void wide_fine(const int32_t *x, int64_t n, int shift, int leak, const WideLayer &to, int16_t *high, int16_t *low) {
  int64_t c = 0;
  for (; c + L <= n; c += L) {
    i32v v = load<i32v>(x + c);
    i32v up = (v + (1 << (shift - 1))) >> shift, down = (v + (1 << (shift + leak - 1))) >> (shift + leak);
    v = v < 0 ? down : up;
    wide_split(min_(max_(v, all32(to.least)), all32(to.most)), to.shift, high + c, low + c);
  }
  for (; c < n; c++) {
    int s = x[c] < 0 ? shift + leak : shift;
    int32_t v = least(most((x[c] + (1 << (s - 1))) >> s, to.least), to.most), h = (v + (1 << (to.shift - 1))) >> to.shift;
    high[c] = (int16_t)h, low[c] = (int16_t)(v - (h << to.shift));
  }
}

// Cells of a parity (-1: all) in the rows before y.
INLINE int64_t wide_before(int64_t y, int64_t width, int64_t parity) {
  return parity < 0 ? y * width : (y * width + (parity == 0)) / 2;
}

int wide_cells(const WideCells *p) {
  const WideCells &a = *p;
  if (a.conv.taps > WIDE_TAPS || a.first.taps != 1 || a.second.taps != 1) return CODEC_BAD_CALL;
  constexpr int64_t MOST_ROWS = 16;
  WideCut cut(a.width, a.parity < 0 ? WIDE_COLUMNS / 2 : WIDE_COLUMNS);
  int64_t step = a.parity < 0 ? 1 : 2, columns = (a.width + cut.parts - 1) / cut.parts;
  int64_t rows_ = most((int64_t)1, least(MOST_ROWS, 48 * step / columns));
  int64_t bands = (a.height + rows_ - 1) / rows_;
  int64_t x_cell = (a.first.inputs + 15) / 16 * 16 + 16, h_cell = (a.second.inputs + 15) / 16 * 16 + 16; // not 2^n
  int64_t most_cells = rows_ * (columns / step + 1) + WIDE_CELLS;
  int status = CODEC_OK;
  parallel(bands * cut.parts, [&](int64_t task, int) {
    int64_t top = task / cut.parts * rows_, bottom = least((int64_t)a.height, top + rows_);
    int64_t left = cut.at(task % cut.parts), right = cut.at(task % cut.parts + 1);
    int16_t *x = (int16_t *)pool_scratch(1, 4 * most_cells * x_cell), *x_high = x + most_cells * x_cell;
    int16_t *h = (int16_t *)pool_scratch(2, 4 * most_cells * h_cell), *h_high = h + most_cells * h_cell;
    int16_t *memory = a.conv.taps ? (int16_t *)pool_scratch(0, 4 * wide_plane(a.conv, bottom - top, right - left)) : x;
    if (!x || !h || !memory) {
      __atomic_store_n(&status, (int)CODEC_NO_MEMORY, __ATOMIC_RELAXED);
      return;
    }
    WideRun runs[MOST_ROWS]; // of the band; index: of the cell in this block
    int64_t first[MOST_ROWS], n = 0;
    for (int64_t y = top; y < bottom; y++) {
      int64_t skip = step == 2 ? (y + left + a.parity) & 1 : 0;
      first[y - top] = left + skip;
      runs[y - top] = {0, n, (right - left - skip + step - 1) / step};
      n += runs[y - top].n;
    }
    // the parts that are known as integers
    for (int64_t y = top; y < bottom; y++)
      for (int64_t k = 0; k < runs[y - top].n; k++) {
        int64_t cell = y * a.width + first[y - top] + k * step, at = (runs[y - top].index + k) * x_cell;
        for (int s = 0; s < 2; s++)
          if (a.fine[s]) {
            wide_fine(a.fine[s] + cell * a.fine_channels[s], a.fine_channels[s], a.fine_shift[s], a.leak, a.first,
                      x_high + at, x + at);
            at += a.fine_channels[s];
          }
      }
    int64_t offset[WIDE_TAPS] = {0};
    if (a.conv.taps) {
      int64_t done = 0, pad = a.conv.size / 2;
      for (int s = 0; s < 2; s++) done += a.fine[s] ? a.fine_channels[s] : 0;
      WideBand band;
      if (a.y_bits == 16)
        wide_band(a.conv, (const int16_t *)a.y + a.y_start, a.y_cell, (int64_t)a.y_cell * a.width, a.height, a.width, top,
                  bottom, left, right, memory, band);
      else
        wide_band(a.conv, (const int32_t *)a.y + a.y_start, a.y_cell, (int64_t)a.y_cell * a.width, a.height, a.width, top,
                  bottom, left, right, memory, band);
      wide_offsets(a.conv, band, offset);
      for (int64_t y = top; y < bottom; y++)
        runs[y - top].offset = (y - top + pad) * band.row + (first[y - top] - left + pad) * band.cell;
      wide_run(a.conv, band.two, band.high, band.low, step * band.cell, offset, runs, bottom - top,
               [&](int64_t index, int64_t b, const double *sums) {
                 int64_t at = index * x_cell + done + b * WIDE_BLOCK;
                 wide_halves(a.conv_out, b, sums, a.first.shift, x_high + at, x + at);
               });
      offset[0] = 0;
    }
    WideRun all = {0, 0, n};
    wide_run(a.first, true, x_high, x, x_cell, offset, &all, 1, [&](int64_t index, int64_t b, const double *sums) {
      int64_t at = index * h_cell + b * WIDE_BLOCK;
      wide_halves(a.first_out, b, sums, a.second.shift, h_high + at, h + at);
    });
    int64_t row_of = 0;
    wide_run(a.second, true, h_high, h, h_cell, offset, &all, 1, [&](int64_t index, int64_t b, const double *sums) {
      alignas(64) int32_t values[WIDE_BLOCK];
      wide_integers(a.second_out, b, sums, values);
      while (index < runs[row_of].index) row_of--;
      while (index >= runs[row_of].index + runs[row_of].n) row_of++;
      int64_t phase = b / a.blocks_of_phase, c = b % a.blocks_of_phase * WIDE_BLOCK;
      int64_t y = top + row_of, i = first[row_of] + (index - runs[row_of].index) * step;
      int64_t used = least((int64_t)WIDE_BLOCK, a.channels - c);
      if (!a.means) {
        int8_t *to = a.shifts + (y * a.width + i) * a.channels + c;
        for (int64_t j = 0; j < used; j++) to[j] = (int8_t)values[j];
        return;
      }
      int64_t cell = wide_before(y, a.width, a.parity) + i / step;
      if (phase == 0)
        for (int64_t j = 0; j < used; j++) a.means[(c + j) * a.cells + cell] = (int16_t)values[j];
      else
        for (int64_t j = 0; j < used; j++) a.rows[(c + j) * a.cells + cell] = (uint8_t)least(most(values[j], 0), a.levels - 1);
    });
  });
  return status;
}

// ---- latents: 16 * symbol + mean, in units of 1/16

// CODEC_DAMAGED: a value leaves the type of y; CODEC_BAD_CALL: a symbol is larger than 2^24.
template <class T>
static int wide_put_as(const int32_t *symbols, const int16_t *means, T *y, int64_t height, int64_t width, int64_t total,
                       int64_t start, int64_t size, int64_t parity) {
  int64_t step = parity < 0 ? 1 : 2, cells = wide_before(height, width, parity);
  int status = CODEC_OK;
  parallel(height, [&](int64_t row, int) {
    int64_t skip = step == 2 ? (row + parity) & 1 : 0, at = wide_before(row, width, parity);
    int32_t wrong = 0, large = 0;
    T *to = y + row * width * total + start;
    for (int64_t c = 0; c < size; c++) {
      const int32_t *s = symbols + c * cells + at;
      const int16_t *m = means + c * cells + at;
      for (int64_t i = skip, k = 0; i < width; i += step, k++) {
        int32_t v = (int32_t)((uint32_t)s[k] << 4) + m[k];
        large |= s[k] > (1 << 24) || s[k] < -(1 << 24), wrong |= (T)v != v;
        to[i * total + c] = (T)v;
      }
    }
    if (wrong | large) __atomic_store_n(&status, large ? CODEC_BAD_CALL : CODEC_DAMAGED, __ATOMIC_RELAXED);
  });
  return status;
}

int wide_put(const int32_t *symbols, const int16_t *means, void *y, int64_t bits, int64_t height, int64_t width,
             int64_t total, int64_t start, int64_t size, int64_t parity) {
  return bits == 16 ? wide_put_as(symbols, means, (int16_t *)y, height, width, total, start, size, parity)
                    : wide_put_as(symbols, means, (int32_t *)y, height, width, total, start, size, parity);
}

template <class T>
static int wide_shift_as(const int8_t *shifts, T *y, int64_t cells, int64_t total, int64_t start, int64_t size, bool store_) {
  int32_t wrong = 0;
  for (int64_t i = 0; i < cells; i++) {
    T *to = y + i * total + start;
    const int8_t *s = shifts + i * size;
    for (int64_t c = 0; c < size; c++) {
      int32_t v = (int32_t)to[c] + s[c];
      wrong |= (T)v != v;
      if (store_) to[c] = (T)v;
    }
  }
  return wrong ? CODEC_DAMAGED : CODEC_OK;
}

// y += shifts; CODEC_DAMAGED, and y as it was, if a value leaves the type of y.
int wide_shift(const int8_t *shifts, void *y, int64_t bits, int64_t cells, int64_t total, int64_t start, int64_t size) {
  if (bits != 16) return wide_shift_as(shifts, (int32_t *)y, cells, total, start, size, true);
  int status = wide_shift_as(shifts, (int16_t *)y, cells, total, start, size, false);
  return status ? status : wide_shift_as(shifts, (int16_t *)y, cells, total, start, size, true);
}
