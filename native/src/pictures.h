// Pictures in cells of 2x2 pixels: 12 numbers, channel * 4 + row * 2 + column, in integers of 2^-16.

int cells_quantised(const int32_t *x, const int32_t *lines, const int32_t *columns, int16_t *out, int64_t width,
                    int64_t n, int64_t m, int64_t shift, int64_t largest) {
  int32_t half = (int32_t)(((int64_t)1 << shift) >> 1), top = (int32_t)largest;
  parallel(n, [&](int64_t y, int) {
    for (int i = 0; i < 2; i++) {
      int32_t line = lines[2 * y + i];
      const int32_t *row = x + (int64_t)(line / 2) * width * 12 + (line % 2) * 2;
      for (int64_t at = 0; at < 2 * m; at++) {
        const int32_t *from = row + (int64_t)(columns[at] / 2) * 12 + columns[at] % 2;
        int16_t *to = out + (y * m + at / 2) * 12 + i * 2 + at % 2;
        for (int c = 0; c < 3; c++) // the sum fits: coefficients are clamped far below 2^30
          to[4 * c] = (int16_t)least(most((from[4 * c] + half) >> shift, -top), top);
      }
    }
  });
  return CODEC_OK;
}

template <class T>
INLINE void cells_row(const int32_t *levels, T *out, int64_t width) { // one row of pixels; levels: of its cells
  for (int64_t at = 0; at < width; at++)
    for (int c = 0; c < 3; c++) out[3 * at + c] = (T)levels[(at / 2) * 12 + 4 * c + at % 2];
}

int cells_pixels(const int32_t *x, const float *corrections, void *out, int64_t n, int64_t w, int64_t border,
                 int64_t height, int64_t width, int64_t top, int64_t bytes) {
  f64v largest = alld(bytes == 1 ? 255.0 : 65535.0), half = alld(0.5), unit = alld(1.0 / 65536);
  int status = CODEC_OK;
  int64_t count = 12 * w, whole = (count + L - 1) / L * L;
  parallel(n, [&](int64_t y, int) {
    int32_t *levels = (int32_t *)pool_scratch(0, (size_t)(3 * whole) * sizeof(int32_t));
    if (!levels) {
      __atomic_store_n(&status, CODEC_NO_MEMORY, __ATOMIC_RELAXED);
      return;
    }
    // Copies of whole vectors: the last one would read beyond the arrays.
    int32_t *cells = levels + whole;
    float *added = (float *)(levels + 2 * whole);
    memcpy(cells, x + y * count, (size_t)count * sizeof(int32_t));
    memcpy(added, corrections + (y * (w + 2 * border) + border) * 12, (size_t)count * sizeof(float));
    for (int64_t i = count; i < whole; i++) cells[i] = 0, added[i] = 0;
    for (int64_t i = 0; i < whole; i += L / 2) {
      f64v v = to_double(load<h32v>(cells + i)) * unit + __builtin_convertvector(load<hf32v>(added + i), f64v);
      v = floor_((v + half) * largest + half);
      store(levels + i, to_int(min_(max_(v, f64v{}), largest)));
    }
    for (int i = 0; i < 2 && top + 2 * y + i < height; i++) {
      int64_t at = (top + 2 * y + i) * width * 3;
      if (bytes == 1)
        cells_row(levels + 2 * i, (uint8_t *)out + at, width);
      else
        cells_row(levels + 2 * i, (uint16_t *)out + at, width);
    }
  });
  return status;
}
