// The inverse wavelet packet transform of integers (native/wavelet.py): matrix products of whole numbers in float64.
//
// Their sums are below 2^52, as the caller has proved, so that each is exact: in any order, and with the products fused.

constexpr int BAND = 16;            // outputs to a band of a matrix
constexpr int FVECTORS = 2 * BAND / L; // vectors of doubles to a band
constexpr int PER_VECTOR = L / 2;      // doubles to a vector
#if defined(CODEC_AVX512)
constexpr int WAVELET_ROWS = 8; // rows of a product that registers hold, with FVECTORS vectors each
#elif defined(CODEC_AVX2)
constexpr int WAVELET_ROWS = 3;
#else
constexpr int WAVELET_ROWS = 2;
#endif

// a b + c, where the product and the sum are exact
INLINE f64v exact_fma(f64v a, f64v b, f64v c) {
#if defined(CODEC_AVX512)
  return (f64v)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(CODEC_AVX2)
  return (f64v)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(CODEC_NEON)
  return (f64v)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
  return c + a * b;
#endif
}

// out[r][0 ... 15] = the integers of sum over k of a[r * a_row + k * a_step] * b[16 k + ...], times 2^-24, for R rows.
template <int R>
INLINE void wavelet_product(const double *a, int64_t a_row, int64_t a_step, const double *b, int64_t inputs,
                            int32_t (*out)[BAND]) {
  f64v sum[R][FVECTORS];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < FVECTORS; v++) sum[r][v] = f64v{};
  for (int64_t k = 0; k < inputs; k++) {
    f64v row[FVECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < FVECTORS; v++) row[v] = load<f64v>(b + BAND * k + PER_VECTOR * v);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      f64v factor = alld(a[r * a_row + k * a_step]);
#pragma GCC unroll 8
      for (int v = 0; v < FVECTORS; v++) sum[r][v] = exact_fma(factor, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < FVECTORS; v++)
      store(out[r] + PER_VECTOR * v, to_int(floor_(sum[r][v] * alld(0x1p-24) + alld(0.5))));
}

// Coefficients x (rows, w, channels * side * side) of rows of blocks, along x: out (rows, channels * side, side * w).
int wavelet_across(const WaveletAxis *axis, const int32_t *x, int32_t *out, int64_t rows, int64_t w, int64_t channels,
                   int64_t side, int64_t limit) {
  const int64_t width = side * w, lines = channels * side, wrap = axis->wrap, room = width + 2 * wrap;
  if (axis->n != width) return CODEC_BAD_CALL;
  const int64_t groups = (lines + WAVELET_ROWS - 1) / WAVELET_ROWS;
  int status = CODEC_OK;
  parallel(rows * groups, [&](int64_t task, int) {
    const int64_t row = task / groups, line = task % groups * WAVELET_ROWS;
    const int64_t count = least<int64_t>(WAVELET_ROWS, lines - line);
    double *wide = (double *)pool_scratch(0, WAVELET_ROWS * room * sizeof(double));
    if (!wide) {
      __atomic_store_n(&status, (int)CODEC_NO_MEMORY, __ATOMIC_RELAXED);
      return;
    }
    for (int64_t r = 0; r < WAVELET_ROWS; r++) { // beyond the last line: that one again
      double *to = wide + r * room + wrap;
      const int32_t *from = x + row * w * lines * side + (line + least(r, count - 1)) * side;
      for (int64_t j = 0; j < w; j++, from += lines * side)
        for (int64_t u = 0; u < side; u++) to[j * side + u] = (double)least<int64_t>(most<int64_t>(from[u], -limit), limit);
      for (int64_t i = 0; i < wrap; i++) to[i - wrap] = to[width - wrap + i], to[width + i] = to[i];
    }
    for (int64_t s = 0; s < axis->n_bands; s++) {
      const int32_t *band = axis->bands + 5 * s;
      int32_t part[WAVELET_ROWS][BAND];
      wavelet_product<WAVELET_ROWS>(wide + wrap + band[2], room, 1, axis->matrices + (int64_t)BAND * band[4], band[3], part);
      for (int64_t r = 0; r < count; r++)
        memcpy(out + (row * lines + line + r) * width + band[0], part[r], sizeof(int32_t) * band[1]);
    }
  });
  return status;
}

// What `wavelet_across` made, the rows of blocks first ... stop - 1 of h, along y: the pixels of the rows of blocks top
// ... bottom - 1, with `shuffle` rows and columns of them as channels.
int wavelet_down(const WaveletAxis *axis, const int32_t *x, int32_t *out, int64_t h, int64_t w, int64_t channels,
                 int64_t side, int64_t shuffle, int64_t first, int64_t stop, int64_t top, int64_t bottom) {
  const int64_t width = side * w, height = side * h, wrap = axis->wrap, depth = (stop - first) * side + 2 * wrap;
  if (axis->n != height || (wrap && (first || stop != h))) return CODEC_BAD_CALL;
  const int64_t panels = (width + BAND - 1) / BAND;
  int status = CODEC_OK;
  parallel(channels * panels, [&](int64_t task, int) {
    const int64_t plane = task / panels, left = task % panels * BAND, columns = least<int64_t>(BAND, width - left);
    double *wide = (double *)pool_scratch(0, depth * BAND * sizeof(double));
    if (!wide) {
      __atomic_store_n(&status, (int)CODEC_NO_MEMORY, __ATOMIC_RELAXED);
      return;
    }
    for (int64_t k = 0; k < depth; k++) {
      int64_t y = k - wrap + first * side;
      if (wrap) y = (y + height) % height;
      const int32_t *from = x + ((y / side - first) * channels * side + plane * side + y % side) * width + left;
      double *to = wide + BAND * k;
      for (int64_t i = 0; i < columns; i++) to[i] = (double)from[i];
      for (int64_t i = columns; i < BAND; i++) to[i] = 0;
    }
    for (int64_t s = 0; s < axis->n_bands; s++) {
      const int32_t *band = axis->bands + 5 * s;
      const int64_t low = most<int64_t>(band[0], top * side), high = least<int64_t>(band[0] + band[1], bottom * side);
      if (low >= high) continue;
      const double *panel = wide + BAND * (band[2] + wrap - first * side);
      int32_t part[BAND + WAVELET_ROWS][BAND];
      for (int64_t r = 0; r < BAND; r += WAVELET_ROWS) {
        if (r + WAVELET_ROWS > BAND) r = BAND - WAVELET_ROWS;
        wavelet_product<WAVELET_ROWS>(axis->matrices + (int64_t)BAND * band[4] + r, 1, BAND, panel, band[3], part + r);
      }
      for (int64_t y = low; y < high; y++) {
        const int32_t *from = part[y - band[0]];
        const int64_t row = y - top * side;
        int32_t *to = out + (row / shuffle * (width / shuffle) + left / shuffle) * channels * shuffle * shuffle +
                      (plane * shuffle + row % shuffle) * shuffle;
        if (shuffle == 4)
          for (int64_t i = 0; i < columns; i += 4, to += channels * 16) memcpy(to, from + i, 16);
        else
          for (int64_t i = 0; i < columns; i += shuffle, to += channels * shuffle * shuffle)
            for (int64_t j = 0; j < shuffle; j++) to[j] = from[i + j];
      }
    }
  });
  return status;
}
