// Motion between pictures: the search of an encoder, whose costs are floats with NumPy's bits, and exact predictions.
//
// Vectors are in quarter samples, (vertical, horizontal) as int64, a pair for each block of 8x8 samples of luma.

constexpr int MOTION_BLOCK = 8, MOTION_BOX = MOTION_BLOCK / 2; // sides of a block, and of one at half resolution
constexpr int TAPS[4][8] = {{0, 0, 0, 64, 0, 0, 0, 0},
                            {-1, 3, -9, 57, 18, -6, 2, 0},
                            {-1, 3, -10, 40, 40, -10, 3, -1},
                            {0, 2, -6, 18, 57, -9, 3, -1}}; // 64ths, by quarters of a sample

typedef int16_t short8 __attribute__((vector_size(16)));
typedef uint8_t b8v __attribute__((vector_size(L)));
typedef int32_t int8v __attribute__((vector_size(32)));

INLINE int64_t clamped(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }
INLINE void widen(int8v &wide, short8 x) { wide = __builtin_convertvector(x, int8v); } // returning it has no ABI

// ---- full search at half resolution

// Sums of absolute differences of a row of blocks against all that is `shift` to the right, plus a penalty.
// a, b: rows of samples dealt out by their column modulo 4, so that a block's are a lane of 16 vectors.
INLINE void coarse_sums(const int16_t *a, int64_t a_width, const int16_t *b, int64_t b_width, int64_t n, int64_t shift,
                        float penalty, float *sums) {
  for (int64_t x = 0; x < n; x += 2 * L) {
    i16v sum{};
    for (int y = 0; y < MOTION_BOX; y++)
      for (int k = 0; k < MOTION_BOX; k++) {
        int64_t s = k + shift;
        i16v d = load<i16v>(a + (y * MOTION_BOX + k) * a_width + x) - load<i16v>(b + (y * MOTION_BOX + (s & 3)) * b_width + (s >> 2) + x);
        sum += max_(d, -d);
      }
    h16v half[2];
    memcpy(half, &sum, sizeof sum);
    for (int k = 0; k < 2; k++) store(sums + x + k * L, to_float(from16(half[k])) * allf(0.25f) + allf(penalty));
  }
}

// For every block the shift of the least cost and that of the least mean cost of the 3x3 blocks around it, the first in
// order of rows, then columns. a: (4 h, 4, a_width) int16, b: (4 h + 2 reach, 4, b_width), both in quarters and dealt
// out; b has a border of `reach`. penalty: (2 reach + 1) by |dy| + |dx|. n = 2 reach + 1 rows of results, for each
// block: costs (n, 2, h, row), shifts likewise, then the best of all in vectors (2, h, w, 2), in quarter samples.
int motion_coarse(const int16_t *a, int64_t a_width, const int16_t *b, int64_t b_width, int64_t h, int64_t w,
                  int64_t reach, const float *penalty, float *costs, int32_t *shifts, int64_t row, int64_t *vectors) {
  if (h < 1 || w < 1 || reach < 1 || reach & 1 || a_width < row || row < w || row % 32 || b_width < row + reach / 2)
    return CODEC_BAD_CALL;
  const int64_t n = 2 * reach + 1, size = h * row, ringed = row + 2 * L;
  int failed = 0;
  parallel(n, [&](int64_t dy, int) {
    // with a ring of zeros, and L columns of room on either side
    float *sums = (float *)pool_scratch(0, (size_t)(ringed * (h + 2)) * 4);
    float *count = (float *)pool_scratch(1, (size_t)row * 4);
    if (!sums || !count) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    memset(sums, 0, (size_t)(ringed * (h + 2)) * 4);
    float *least[2];
    int32_t *at[2];
    for (int k = 0; k < 2; k++) {
      least[k] = costs + (2 * dy + k) * size, at[k] = shifts + (2 * dy + k) * size;
      for (int64_t i = 0; i < size; i++) least[k][i] = INFINITY, at[k][i] = 0;
    }
    for (int64_t x = 0; x < row; x++) count[x] = (float)(x < w ? 1 + (x > 0) + (x < w - 1) : 1);
    for (int64_t dx = 0; dx < n; dx++) {
      int64_t far = (dy < reach ? reach - dy : dy - reach) + (dx < reach ? reach - dx : dx - reach);
      for (int64_t y = 0; y < h; y++) {
        float *out = sums + (y + 1) * ringed + L;
        coarse_sums(a + y * MOTION_BOX * 4 * a_width, a_width, b + (y * MOTION_BOX + dy) * 4 * b_width, b_width, w, dx, penalty[far], out);
        for (int64_t x = w; x < row; x++) out[x] = 0;
      }
      for (int64_t y = 0; y < h; y++) {
        const float *mid = sums + (y + 1) * ringed + L;
        const f32v high = allf((float)(1 + (y > 0) + (y < h - 1)));
        for (int64_t x = 0; x < w; x += L) {
          const int64_t i = y * row + x;
          f32v own = load<f32v>(mid + x), around{};
          for (int j = -1; j <= 1; j++)
            for (int k = -1; k <= 1; k++) around += load<f32v>(mid + j * ringed + k + x);
          around /= high * load<f32v>(count + x);
          for (int k = 0; k < 2; k++) {
            f32v cost = k ? around : own, old = load<f32v>(least[k] + i);
            i32v better = cost < old, was = load<i32v>(at[k] + i);
            store(least[k] + i, better ? cost : old);
            store(at[k] + i, better ? all32((int32_t)dx) : was);
          }
        }
      }
    }
  });
  if (failed) return CODEC_NO_MEMORY;
  for (int k = 0; k < 2; k++)
    for (int64_t y = 0; y < h; y++)
      for (int64_t x = 0; x < w; x++) {
        float best = INFINITY;
        int64_t *v = vectors + ((k * h + y) * w + x) * 2;
        v[0] = v[1] = 0;
        for (int64_t dy = 0; dy < n; dy++) {
          const int64_t i = (2 * dy + k) * size + y * row + x;
          if (costs[i] < best) best = costs[i], v[0] = (dy - reach) * 8, v[1] = (shifts[i] - reach) * 8;
        }
      }
  return CODEC_OK;
}

// ---- costs of vectors

// The cost of one vector for the block at (y, x): |aim - prediction|, summed, times weight / 32.
INLINE float block_cost(const MotionCosts *m, int64_t y, int64_t x, int64_t vy, int64_t vx) {
  const int64_t height = m->height, width = m->width, top = y * MOTION_BLOCK, left = x * MOTION_BLOCK;
  const int weight = m->weight[y * m->columns + x];
  if (!weight) return 0;
  const int16_t *plane = m->phases + ((vy & 3) * 4 + (vx & 3)) * height * width, *aim = m->aim + top * width + left;
  const int64_t from_y = top + (vy >> 2), from_x = left + (vx >> 2);
  int32_t sum = 0;
  if (from_y >= 0 && from_x >= 0 && from_y + MOTION_BLOCK <= height && from_x + MOTION_BLOCK <= width && top + MOTION_BLOCK <= height &&
      left + MOTION_BLOCK <= width) {
    int8v total{}, wide;
    plane += from_y * width + from_x;
    for (int j = 0; j < MOTION_BLOCK; j++) {
      short8 d = load<short8>(aim + j * width) - load<short8>(plane + j * width);
      widen(wide, max_(d, -d));
      total += wide;
    }
    for (int j = 0; j < 8; j++) sum += total[j];
  } else {
    for (int64_t j = 0; j < least<int64_t>(MOTION_BLOCK, height - top); j++) {
      const int16_t *from = plane + clamped(from_y + j, 0, height - 1) * width;
      for (int64_t i = 0; i < least<int64_t>(MOTION_BLOCK, width - left); i++) {
        int32_t d = aim[j * width + i] - from[clamped(from_x + i, 0, width - 1)];
        sum += d < 0 ? -d : d;
      }
    }
  }
  return (float)(weight * sum) * 0.03125f;
}

// The costs (n, rows, columns) of n fields of vectors (n, rows, columns, 2).
int motion_costs(const MotionCosts *m, const int64_t *fields, int64_t n, float *out) {
  parallel(n * m->rows, [&](int64_t i, int) {
    const int64_t y = i % m->rows;
    for (int64_t x = 0; x < m->columns; x++) {
      const int64_t at = i * m->columns + x;
      out[at] = block_cost(m, y, x, fields[2 * at], fields[2 * at + 1]);
    }
  });
  return CODEC_OK;
}

// The best of n fields for each block, refined by small steps, then by the vectors of neighbours, each of which has to
// save more than the penalty. best: (rows, columns, 2), `copy` likewise, scratch. cost: (rows, columns).
int motion_refine(const MotionCosts *m, const int64_t *fields, int64_t n, float penalty, int64_t *best, float *cost,
                  int64_t *copy) {
  static const int64_t ways[4][2] = {{-1, 0}, {1, 0}, {0, -1}, {0, 1}};
  const int64_t size = m->rows * m->columns;
  if (n < 1) return CODEC_BAD_CALL;
  auto attempt = [&](int64_t at, int64_t vy, int64_t vx) {
    float now = block_cost(m, at / m->columns, at % m->columns, vy, vx);
    if (now + penalty < cost[at]) best[2 * at] = vy, best[2 * at + 1] = vx, cost[at] = now;
  };
  parallel(m->rows, [&](int64_t y, int) {
    for (int64_t at = y * m->columns; at < (y + 1) * m->columns; at++) {
      best[2 * at] = fields[2 * at], best[2 * at + 1] = fields[2 * at + 1];
      cost[at] = block_cost(m, y, at % m->columns, best[2 * at], best[2 * at + 1]);
      for (int64_t k = 1; k < n; k++) attempt(at, fields[2 * (k * size + at)], fields[2 * (k * size + at) + 1]);
      for (int64_t step = 4; step; step >>= 1)
        for (auto &way : ways) attempt(at, best[2 * at] + way[0] * step, best[2 * at + 1] + way[1] * step);
    }
  });
  // those of the blocks to the left, above, to the right and below, around the edges, too
  static const int64_t sides[4][2] = {{0, -1}, {-1, 0}, {0, 1}, {1, 0}};
  for (auto &side : sides) {
    memcpy(copy, best, (size_t)size * 16);
    parallel(m->rows, [&](int64_t y, int) {
      const int64_t row = (y + side[0] + m->rows) % m->rows * m->columns;
      for (int64_t x = 0; x < m->columns; x++) {
        const int64_t *v = copy + 2 * (row + (x + side[1] + m->columns) % m->columns);
        attempt(y * m->columns + x, v[0], v[1]);
      }
    });
  }
  return CODEC_OK;
}

// One level of the choice of labels: for each of k labels of a parent and each of n blocks the label of the block that
// is cheapest, the first of equals, and what it costs. costs: (k, n). between: (k, k). via, choice: (k, n).
int motion_choices(const float *costs, const float *between, int64_t k, int64_t n, float *via, uint8_t *choice) {
  if (k < 1 || k > 256) return CODEC_BAD_CALL;
  parallel(k, [&](int64_t parent, int) {
    const float *bits = between + parent * k;
    float *out = via + parent * n;
    uint8_t *label = choice + parent * n;
    int64_t x = 0;
    for (; x + L <= n; x += L) {
      f32v low = load<f32v>(costs + x) + allf(bits[0]);
      i32v at{};
      for (int64_t j = 1; j < k; j++) {
        f32v now = load<f32v>(costs + j * n + x) + allf(bits[j]);
        i32v better = now < low;
        low = better ? now : low, at = better ? all32((int32_t)j) : at;
      }
      store(out + x, low);
      store(label + x, __builtin_convertvector(at, b8v));
    }
    for (; x < n; x++) {
      out[x] = costs[x] + bits[0], label[x] = 0;
      for (int64_t j = 1; j < k; j++) {
        float now = costs[j * n + x] + bits[j];
        if (now < out[x]) out[x] = now, label[x] = (uint8_t)j;
      }
    }
  });
  return CODEC_OK;
}

// ---- interpolation

// All sixteen quarter positions of a plane (height, width): (16, height, width) in sixteenths.
int motion_interpolate(const int16_t *plane, int64_t height, int64_t width, int16_t *phases) {
  if (height < 1 || width < 1) return CODEC_BAD_CALL;
  const int64_t size = height * width, row = (width + 2 * L - 1) / (2 * L) * (2 * L);
  int failed = 0;
  // a task: eight rows, all positions
  parallel((height + 7) / 8, [&](int64_t part, int) {
    const int64_t top = part * 8, n = least<int64_t>(8, height - top);
    int16_t *line = (int16_t *)pool_scratch(0, (size_t)(row + 8 + 2 * L) * 2);
    int16_t *across = (int16_t *)pool_scratch(1, (size_t)row * 15 * 4 * 2);
    int16_t *out = (int16_t *)pool_scratch(2, (size_t)row * 2);
    if (!line || !across || !out) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    for (int64_t y = 0; y < n + 7; y++) {
      const int16_t *from = plane + clamped(top + y - 3, 0, height - 1) * width;
      for (int i = 0; i < 3; i++) line[i] = from[0];
      memcpy(line + 3, from, (size_t)width * 2);
      for (int64_t i = width + 3; i < row + 8 + 2 * L; i++) line[i] = from[width - 1];
      for (int q = 0; q < 4; q++)
        for (int64_t x = 0; x < row; x += 2 * L) {
          i16v sum{}; // at most 255 * 108
          for (int k = 0; k < 8; k++)
            if (TAPS[q][k]) sum += load<i16v>(line + x + k) * (int16_t)TAPS[q][k];
          store(across + (q * 15 + y) * row + x, sum);
        }
    }
    for (int q = 0; q < 4; q++)
      for (int p = 0; p < 4; p++)
        for (int64_t y = 0; y < n; y++) {
          for (int64_t x = 0; x < row; x += L) {
            i32v sum = all32(128);
            for (int k = 0; k < 8; k++)
              if (TAPS[p][k]) sum += from16(load<h16v>(across + (q * 15 + y + k) * row + x)) * TAPS[p][k];
            store16(out + x, sum >> 8);
          }
          memcpy(phases + (p * 4 + q) * size + (top + y) * width, out, (size_t)width * 2);
        }
  });
  return failed ? CODEC_NO_MEMORY : CODEC_OK;
}

// Eight taps down columns of a patch: (bh + 7, 8) sums across -> (bh, 8) in sixteenths.
INLINE void patch_down(const short8 *across, int q, int bh, short8 *out) {
  if (!q) {
    for (int y = 0; y < bh; y++) out[y] = (across[y + 3] + 2) >> 2; // (64 a + 128) >> 8
    return;
  }
  int8v rows[15];
  for (int y = 0; y < bh + 7; y++) widen(rows[y], across[y]);
  for (int y = 0; y < bh; y++) {
    int8v sum = int8v{} + 128;
    for (int k = 0; k < 8; k++) sum += rows[y + k] * TAPS[q][k];
    out[y] = __builtin_convertvector(sum >> 8, short8);
  }
}

// Eight taps across: a patch with its left margin of 3 -> sums, at most 255 * 108.
INLINE short8 patch_across(const int16_t *from, int q) {
  if (!q) return load<short8>(from + 3) << 6;
  short8 sum{};
  for (int k = 0; k < 8; k++) sum += load<short8>(from + k) * (int16_t)TAPS[q][k];
  return sum;
}

// The prediction of a block of bh x bw samples at (top, left), at most 8x8: 8 columns for each row.
INLINE void predict_block(const int16_t *plane, int64_t height, int64_t width, int64_t top, int64_t left, int bh,
                          int bw, int64_t vy, int64_t vx, short8 *out) {
  const int64_t y0 = top + (vy >> 2), x0 = left + (vx >> 2);
  const int qy = (int)(vy & 3), qx = (int)(vx & 3);
  int16_t patch[15][24];
  short8 across[15];
  if (y0 >= 3 && x0 >= 3 && y0 + bh + 4 <= height && x0 + 12 <= width) {
    const int16_t *from = plane + (y0 - 3) * width + x0 - 3;
    if (!qy && !qx) {
      for (int y = 0; y < bh; y++) out[y] = load<short8>(from + (y + 3) * width + 3) << 4;
      return;
    }
    if (!qy)
      for (int y = 3; y < bh + 3; y++) across[y] = patch_across(from + y * width, qx);
    else
      for (int y = 0; y < bh + 7; y++) {
        // eight columns and seven around them: a load of the last eight could end behind the plane
        across[y] = patch_across(from + y * width, qx);
      }
    patch_down(across, qy, bh, out);
    return;
  }
  // positions are kept inside the plane, and so are the samples that a position's taps see
  if (y0 >= 0 && x0 >= 0 && y0 + bh <= height && x0 + bw <= width) {
    for (int y = 0; y < bh + 7; y++) {
      const int16_t *from = plane + clamped(y0 + y - 3, 0, height - 1) * width;
      for (int x = 0; x < 15; x++) patch[y][x] = from[clamped(x0 + x - 3, 0, width - 1)];
      across[y] = patch_across(patch[y], qx);
    }
    patch_down(across, qy, bh, out);
    return;
  }
  for (int y = 0; y < bh; y++) {
    const int64_t py = clamped(y0 + y, 0, height - 1);
    for (int x = 0; x < bw; x++) {
      const int64_t px = clamped(x0 + x, 0, width - 1);
      int32_t down = 128;
      for (int k = 0; k < 8; k++) {
        const int16_t *from = plane + clamped(py + k - 3, 0, height - 1) * width;
        int32_t sum = 0;
        for (int j = 0; j < 8; j++) sum += TAPS[qx][j] * from[clamped(px + j - 3, 0, width - 1)];
        down += TAPS[qy][k] * sum;
      }
      out[y][x] = (int16_t)(down >> 8);
    }
  }
}

// The prediction of a plane from one reference or two, (height, width) in sixteenths. fields: (rows, columns, 2) vectors
// in quarters of the plane's samples to each. modes: (rows, columns): 0: the mean, 1: the first, 2: the second; NULL
// with one reference. leaf: 8 or 4, the side of a block.
int motion_predict(const int16_t *first, const int16_t *second, int64_t height, int64_t width, const int64_t *field,
                   const int64_t *other, const uint8_t *modes, int64_t rows, int64_t columns, int leaf, int16_t *out) {
  if ((leaf != 4 && leaf != 8) || rows * leaf < height || columns * leaf < width || !second != !modes)
    return CODEC_BAD_CALL;
  parallel((height + leaf - 1) / leaf, [&](int64_t y, int) {
    const int64_t top = y * leaf;
    const int bh = (int)least<int64_t>(leaf, height - top);
    for (int64_t left = 0; left < width; left += leaf) {
      const int bw = (int)least<int64_t>(leaf, width - left);
      const int64_t at = y * columns + left / leaf;
      const int mode = modes ? modes[at] : 1;
      short8 a[8], b[8];
      if (mode != 2) predict_block(first, height, width, top, left, bh, bw, field[2 * at], field[2 * at + 1], a);
      if (mode != 1) predict_block(second, height, width, top, left, bh, bw, other[2 * at], other[2 * at + 1], b);
      if (!mode)
        for (int j = 0; j < bh; j++) a[j] = (a[j] + b[j] + 1) >> 1; // at most 2 * 11600
      const short8 *made = mode == 2 ? b : a;
      for (int j = 0; j < bh; j++) memcpy(out + (top + j) * width + left, &made[j], (size_t)bw * 2);
    }
  });
  return CODEC_OK;
}
