// The filters of a PNG's rows (native/png.py): left, above and Paeth, chosen by the least sum of magnitudes.

INLINE int64_t magnitudes(const uint8_t *row, int64_t n) { // of bytes as numbers with sign
  int64_t sum = 0;
  for (int64_t start = 0; start < n; start += 1 << 20) {
    int32_t part = 0;
    for (int64_t i = start; i < least(n, start + (1 << 20)); i++) {
      int32_t x = (int8_t)row[i];
      part += x < 0 ? -x : x;
    }
    sum += part;
  }
  return sum;
}

INLINE void paeth_row(const uint8_t *row, const uint8_t *above, int64_t n, int64_t step, uint8_t *out) {
  for (int64_t i = 0; i < least(step, n); i++) out[i] = (uint8_t)(row[i] - above[i]); // left and corner are 0
  for (int64_t i = step; i < n; i++) {
    int16_t a = row[i - step], b = above[i], c = above[i - step];
    int16_t to_a = (int16_t)(b - c), to_b = (int16_t)(a - c), to_c = (int16_t)(to_a + to_b);
    to_a = to_a < 0 ? -to_a : to_a, to_b = to_b < 0 ? -to_b : to_b, to_c = to_c < 0 ? -to_c : to_c;
    int16_t guess = to_a <= to_b && to_a <= to_c ? a : to_b <= to_c ? b : c;
    out[i] = (uint8_t)(row[i] - guess);
  }
}

// rows: (n_rows, n); previous: the row above the first; step: bytes of a pixel. out: (n_rows, n + 1).
int png_filter(const uint8_t *rows, const uint8_t *previous, int64_t n_rows, int64_t n, int64_t step, uint8_t *out) {
  if (n < 1 || step < 1) return CODEC_BAD_CALL;
  int failed = 0;
  parallel((n_rows + 15) / 16, [&](int64_t block, int) {
    uint8_t *options = (uint8_t *)pool_scratch(0, 3 * n);
    if (!options) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    for (int64_t y = 16 * block; y < least(n_rows, 16 * block + 16); y++) {
      const uint8_t *row = rows + y * n, *above = y ? row - n : previous;
      uint8_t *left = options, *up = options + n, *paeth = options + 2 * n;
      for (int64_t i = 0; i < least(step, n); i++) left[i] = row[i];
      for (int64_t i = step; i < n; i++) left[i] = (uint8_t)(row[i] - row[i - step]);
      for (int64_t i = 0; i < n; i++) up[i] = (uint8_t)(row[i] - above[i]);
      paeth_row(row, above, n, step, paeth);
      const uint8_t *choice[4] = {row, left, up, paeth};
      const uint8_t number[4] = {0, 1, 2, 4};
      int best = 0;
      int64_t cost = magnitudes(row, n);
      for (int k = 1; k < 4; k++) {
        int64_t other = magnitudes(choice[k], n);
        if (other < cost) cost = other, best = k;
      }
      out[y * (n + 1)] = number[best];
      memcpy(out + y * (n + 1) + 1, choice[best], n);
    }
  });
  return failed ? CODEC_NO_MEMORY : CODEC_OK;
}
