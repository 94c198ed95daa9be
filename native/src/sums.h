// Sums that bound a layer: of each output's weights, and of their magnitudes (native/sums.py).

template <class T> static void sums_of(const T *w, int64_t n, int64_t *size, int64_t *total, int32_t *least_, int32_t *most_) {
  int64_t magnitudes = 0, sum = 0;
  int32_t low = INT32_MAX, high = INT32_MIN;
  for (int64_t start = 0; start < n; start += 1 << 15) { // 2^15 magnitudes of 16 bits fit 31
    int32_t m = 0, s = 0;
    for (int64_t i = start; i < least(n, start + (1 << 15)); i++) {
      int32_t x = w[i];
      m += x < 0 ? -x : x;
      s += x;
      low = least(low, x), high = most(high, x);
    }
    magnitudes += m, sum += s;
  }
  *size = magnitudes, *total = sum, *least_ = low, *most_ = high;
}

// For each of `outputs` rows of n weights of `item` bytes, 1 or 2: sum of magnitudes, sum; the least and the largest.
int sums_weights(const void *w, int item, int64_t outputs, int64_t n, int64_t *size, int64_t *total, int32_t *low,
                 int32_t *high) {
  if ((item != 1 && item != 2) || outputs < 1 || n < 1) return CODEC_BAD_CALL;
  for (int64_t o = 0; o < outputs; o++) {
    if (item == 1)
      sums_of((const int8_t *)w + o * n, n, size + o, total + o, low + o, high + o);
    else
      sums_of((const int16_t *)w + o * n, n, size + o, total + o, low + o, high + o);
  }
  return CODEC_OK;
}
