// One level of the CDF 9/7 transform of a box of doubles along one axis, by lifting (native/wavelet_fields.py).
//
// Every number is the result of the same float64 operations in the same order as in the twin there.

constexpr double FIELD_LIFT[4] = {-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971};
constexpr int64_t FIELD_RUN = 64; // columns that are lifted together

// to[i] += c (from[i] + from[i + 1]), where the last may have no right neighbour
INLINE void field_odd(double *odd, const double *even, int64_t n_odd, int64_t n_even, double c) {
  int64_t inner = least(n_odd, n_even - 1);
  for (int64_t i = 0; i < inner; i++) odd[i] += c * (even[i] + even[i + 1]);
  if (inner < n_odd) odd[inner] += c * (even[inner] + even[inner]);
}

INLINE void field_even(double *even, const double *odd, int64_t n_even, int64_t n_odd, double c) {
  even[0] += c * (odd[0] + odd[0]);
  for (int64_t i = 1; i < n_odd; i++) even[i] += c * (odd[i - 1] + odd[i]);
  if (n_even > n_odd) even[n_odd] += c * (odd[n_odd - 1] + odd[n_odd - 1]);
}

INLINE void field_row(double *to, const double *left, const double *right, int64_t width, double c) {
  for (int64_t i = 0; i < width; i++) to[i] += c * (left[i] + right[i]);
}

INLINE void field_odd_rows(double *odd, const double *even, int64_t n_odd, int64_t n_even, int64_t width, double c) {
  for (int64_t i = 0; i < n_odd; i++)
    field_row(odd + i * width, even + i * width, even + least(i + 1, n_even - 1) * width, width, c);
}

INLINE void field_even_rows(double *even, const double *odd, int64_t n_even, int64_t n_odd, int64_t width, double c) {
  for (int64_t i = 0; i < n_even; i++)
    field_row(even + i * width, odd + most<int64_t>(i - 1, 0) * width, odd + least(i, n_odd - 1) * width, width, c);
}

// A line of the last axis. part: room for n doubles.
template <bool INVERSE> static void field_line(double *x, int64_t n, double low, double high, double *part) {
  const int64_t n_even = (n + 1) / 2, n_odd = n / 2;
  double *even = part, *odd = part + n_even;
  if (!INVERSE) {
    for (int64_t i = 0; i < n_odd; i++) even[i] = x[2 * i], odd[i] = x[2 * i + 1];
    if (n_even > n_odd) even[n_odd] = x[n - 1];
    field_odd(odd, even, n_odd, n_even, FIELD_LIFT[0]);
    field_even(even, odd, n_even, n_odd, FIELD_LIFT[1]);
    field_odd(odd, even, n_odd, n_even, FIELD_LIFT[2]);
    field_even(even, odd, n_even, n_odd, FIELD_LIFT[3]);
    for (int64_t i = 0; i < n_even; i++) x[i] = even[i] * low;
    for (int64_t i = 0; i < n_odd; i++) x[n_even + i] = odd[i] * high;
    return;
  }
  for (int64_t i = 0; i < n_even; i++) even[i] = x[i] * high;
  for (int64_t i = 0; i < n_odd; i++) odd[i] = x[n_even + i] * low;
  field_even(even, odd, n_even, n_odd, -FIELD_LIFT[3]);
  field_odd(odd, even, n_odd, n_even, -FIELD_LIFT[2]);
  field_even(even, odd, n_even, n_odd, -FIELD_LIFT[1]);
  field_odd(odd, even, n_odd, n_even, -FIELD_LIFT[0]);
  for (int64_t i = 0; i < n_odd; i++) x[2 * i] = even[i], x[2 * i + 1] = odd[i];
  if (n_even > n_odd) x[n - 1] = even[n_odd];
}

// `width` columns beside each other, whose rows are `pitch` apart. part: room for n * width doubles.
template <bool INVERSE>
static void field_columns(double *x, int64_t n, int64_t pitch, int64_t width, double low, double high, double *part) {
  const int64_t n_even = (n + 1) / 2, n_odd = n / 2;
  double *even = part, *odd = part + n_even * width;
  if (!INVERSE) {
    for (int64_t i = 0; i < n; i++)
      memcpy((i & 1 ? odd : even) + i / 2 * width, x + i * pitch, width * sizeof(double));
    field_odd_rows(odd, even, n_odd, n_even, width, FIELD_LIFT[0]);
    field_even_rows(even, odd, n_even, n_odd, width, FIELD_LIFT[1]);
    field_odd_rows(odd, even, n_odd, n_even, width, FIELD_LIFT[2]);
    field_even_rows(even, odd, n_even, n_odd, width, FIELD_LIFT[3]);
    for (int64_t i = 0; i < n; i++) {
      const double scale = i < n_even ? low : high, *row = part + i * width;
      double *to = x + i * pitch;
      for (int64_t k = 0; k < width; k++) to[k] = row[k] * scale;
    }
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    const double scale = i < n_even ? high : low, *row = x + i * pitch;
    double *to = part + i * width;
    for (int64_t k = 0; k < width; k++) to[k] = row[k] * scale;
  }
  field_even_rows(even, odd, n_even, n_odd, width, -FIELD_LIFT[3]);
  field_odd_rows(odd, even, n_odd, n_even, width, -FIELD_LIFT[2]);
  field_even_rows(even, odd, n_even, n_odd, width, -FIELD_LIFT[1]);
  field_odd_rows(odd, even, n_odd, n_even, width, -FIELD_LIFT[0]);
  for (int64_t i = 0; i < n; i++)
    memcpy(x + i * pitch, (i & 1 ? odd : even) + i / 2 * width, width * sizeof(double));
}

template <bool INVERSE>
static int field_lift(double *x, const int64_t *box, const int64_t *pitch, int64_t axis, double low, double high) {
  const int64_t n = box[axis];
  int64_t size[4], step[4], n_lines = 1; // of the axes but this one, and but the last
  int others = 0;
  for (int a = 0; a < 4; a++)
    if (a != axis) size[others] = box[a], step[others++] = pitch[a], n_lines *= box[a];
  auto first = [&](int64_t index) {
    int64_t at = 0;
    for (int a = others - 1; a >= 0; a--) at += index % size[a] * step[a], index /= size[a];
    return at;
  };
  int failed = 0; // set by any thread to the same value
  if (axis == 4) {
    const int64_t together = most<int64_t>(1, 8192 / n);
    parallel((n_lines + together - 1) / together, [&](int64_t group, int) {
      double *part = (double *)pool_scratch(0, n * sizeof(double));
      if (!part) return (void)(failed = 1);
      for (int64_t i = group * together; i < least(n_lines, (group + 1) * together); i++)
        field_line<INVERSE>(x + first(i), n, low, high, part);
    });
  } else {
    const int64_t run = least(box[4], least(FIELD_RUN, most<int64_t>(8, 65536 / n))), runs = (box[4] + run - 1) / run;
    parallel(n_lines * runs, [&](int64_t index, int) {
      double *part = (double *)pool_scratch(0, n * run * sizeof(double));
      if (!part) return (void)(failed = 1);
      const int64_t start = index % runs * run;
      field_columns<INVERSE>(x + first(index / runs) + start, n, pitch[axis], least(run, box[4] - start), low, high, part);
    });
  }
  return failed ? CODEC_NO_MEMORY : CODEC_OK;
}

// x: an array of five axes, `pitch` values apart, of which the corner `box` is transformed along an axis of two values
// or more: into low-pass values, times `low`, and high-pass ones behind them, times `high`; or back, by `high`, `low`.
int field_wavelet(double *x, const int64_t *box, const int64_t *pitch, int64_t axis, double low, double high, int64_t inverse) {
  if (axis < 0 || axis > 4 || box[axis] < 2 || pitch[4] != 1) return CODEC_BAD_CALL;
  for (int a = 0; a < 5; a++)
    if (box[a] < 1) return CODEC_BAD_CALL;
  return inverse ? field_lift<true>(x, box, pitch, axis, low, high)
                 : field_lift<false>(x, box, pitch, axis, low, high);
}
