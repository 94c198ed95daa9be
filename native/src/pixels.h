// Passes over rows around the convolutions of a decoder (native/pixels.py): from one grid to another, and to pixels.

// x (n, channels) times unit, times the gain of its channel, on a grid: int16 or int32 by `bytes`.
int regrid(const int32_t *x, const double *gain, void *out, float *values, int64_t n, int64_t channels, double unit,
           const PlainGrid *grid, int64_t bytes) {
  if (bytes != 2 && bytes != 4) return CODEC_BAD_CALL;
  const double scale = grid->scale, slope = grid->slope, low = grid->low, high = grid->high;
  constexpr int64_t ROWS = 16;
  parallel((n + ROWS - 1) / ROWS, [&](int64_t task, int) {
    for (int64_t i = task * ROWS; i < least<int64_t>(n, (task + 1) * ROWS); i++) {
      const int32_t *from = x + i * channels;
      auto integer = [&](int64_t c) {
        double v = (double)from[c] * unit;
        if (gain) v *= gain[c];
        if (values) values[i * channels + c] = (float)v;
        v = v > 0 ? v : v * slope;
        v = floor(v * scale + 0.5);
        v = v < low ? low : v;
        return (int32_t)(v > high ? high : v);
      };
      auto vectors = [&](int64_t c) { // L of them
        f64v part[2];
        to_double(load<i32v>(from + c), part[0], part[1]);
        h32v whole[2];
        for (int k = 0; k < 2; k++) {
          f64v v = part[k] * alld(unit);
          if (gain) v = v * load<f64v>(gain + c + k * (L / 2));
          if (values) store(values + i * channels + c + k * (L / 2), __builtin_convertvector(v, hf32v));
          v = v > alld(0) ? v : v * alld(slope);
          v = floor_(v * alld(scale) + alld(0.5));
          whole[k] = to_int(min_(max_(v, alld(low)), alld(high)));
        }
        i32v joined;
        memcpy(&joined, whole, sizeof joined);
        return joined;
      };
      int64_t c = 0;
      for (; c + L <= channels; c += L)
        if (bytes == 2)
          store16((int16_t *)out + i * channels + c, vectors(c));
        else
          store((int32_t *)out + i * channels + c, vectors(c));
      for (; c < channels; c++)
        if (bytes == 2)
          ((int16_t *)out)[i * channels + c] = (int16_t)integer(c);
        else
          ((int32_t *)out)[i * channels + c] = integer(c);
    }
  });
  return CODEC_OK;
}

// Pixels (rows, columns, channels) of x and a correction (..., width, channels * shuffle * shuffle), from the row `top`
// and the column `left` on: uint8 or uint16 by `bytes`.
int write_pixels(const int32_t *x, const float *correction, void *out, int64_t width, int64_t channels,
                 int64_t shuffle, int64_t top, int64_t left, int64_t rows, int64_t columns, int64_t bytes,
                 int64_t rounded) {
  if (bytes != 1 && bytes != 2) return CODEC_BAD_CALL;
  const double largest = bytes == 1 ? 255 : 65535;
  const int64_t room = (width * shuffle + L - 1) / L * L, cell = channels * shuffle * shuffle;
  int status = CODEC_OK;
  parallel(rows, [&](int64_t row, int) {
    int32_t *line = (int32_t *)pool_scratch(0, room * 2 * sizeof(int32_t));
    if (!line) {
      __atomic_store_n(&status, (int)CODEC_NO_MEMORY, __ATOMIC_RELAXED);
      return;
    }
    float *more = (float *)(line + room);
    memset(line, 0, room * 2 * sizeof(int32_t));
    const int64_t y = (top + row) / shuffle, i = (top + row) % shuffle;
    for (int64_t c = 0; c < channels; c++) {
      const int64_t from = y * width * cell + (c * shuffle + i) * shuffle;
      for (int64_t j = 0; j < width; j++) {
        const int64_t place = from + j * cell;
        if (shuffle == 4) {
          memcpy(line + 4 * j, x + place, 16);
          if (correction) memcpy(more + 4 * j, correction + place, 16);
        } else
          for (int64_t k = 0; k < shuffle; k++) {
            line[shuffle * j + k] = x[place + k];
            if (correction) more[shuffle * j + k] = correction[place + k];
          }
      }
      for (int64_t j = 0; j < room; j += L / 2) {
        f64v v = to_double(load<h32v>(line + j)) * alld(0x1p-16);
        if (correction) {
          f64v add = __builtin_convertvector(load<hf32v>(more + j), f64v);
          if (rounded) add = floor_(add * alld(0x1p16) + alld(0.5)) * alld(0x1p-16);
          v = v + add;
        }
        v = floor_((v + alld(0.5)) * alld(largest) + alld(0.5));
        store(line + j, to_int(min_(max_(v, alld(0)), alld(largest))));
      }
      if (bytes == 1)
        for (int64_t j = 0; j < columns; j++) ((uint8_t *)out)[(row * columns + j) * channels + c] = (uint8_t)line[left + j];
      else
        for (int64_t j = 0; j < columns; j++) ((uint16_t *)out)[(row * columns + j) * channels + c] = (uint16_t)line[left + j];
    }
  });
  return status;
}
