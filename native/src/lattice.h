// The networks of the lattice context model, at the positions of one step: a convolution of int16 inputs that are copied
// together, two 1x1 layers on 16-bit numbers, then the row of a table for each mean and scale. Sums are below 2^24.

// Positions that are looked at together: sums of R of them and 16 outputs stay in registers.
constexpr int LATTICE_R = 12 * L / 16;
constexpr int LATTICE_V = 16 / L; // vectors of 16 outputs

// sums[r][o] = bias[o] + inputs of position r (2 * pairs numbers at x + r * stride) times weights [o / 16][pairs][16][2].
INLINE void lattice_layer(const int16_t *x, int64_t stride, int64_t pairs, const int16_t *w, const int32_t *bias,
                          int blocks, int32_t *sums) {
  for (int ob = 0; ob < blocks; ob++, w += 32 * pairs) {
    i32v acc[LATTICE_R][LATTICE_V];
    for (int v = 0; v < LATTICE_V; v++) {
      i32v start = load<i32v>(bias + 16 * ob + L * v);
      for (int r = 0; r < LATTICE_R; r++) acc[r][v] = start;
    }
    for (int64_t k = 0; k < pairs; k++) {
      i16v weights[LATTICE_V];
      for (int v = 0; v < LATTICE_V; v++) weights[v] = load<i16v>(w + 32 * k + 2 * L * v);
#pragma GCC unroll 12
      for (int r = 0; r < LATTICE_R; r++) {
        i16v two = pair(x + r * stride + 2 * k);
        for (int v = 0; v < LATTICE_V; v++) acc[r][v] = madd(acc[r][v], two, weights[v]);
      }
    }
    for (int r = 0; r < LATTICE_R; r++)
      for (int v = 0; v < LATTICE_V; v++) store(sums + (int64_t)r * 16 * blocks + 16 * ob + L * v, acc[r][v]);
  }
}

// The integers of a grid, 0 ... largest, of the first n outputs; what lies between them and whole blocks is zero.
INLINE void lattice_act(const int32_t *sums, int64_t stride, const float *scale, float unit, int largest, int n,
                        int16_t *out, int64_t out_stride) {
  int blocks = (n + 15) / 16;
  for (int r = 0; r < LATTICE_R; r++)
    for (int o = 0; o < 16 * blocks; o += L) {
      f32v v = to_float(load<i32v>(sums + r * stride + o)) * load<f32v>(scale + o);
      v = min_(max_(floor_(v * allf(unit) + allf(0.5f)), allf(0)), allf((float)largest));
      store16(out + r * out_stride + o, to_int(v));
    }
}

struct LatticeSizes {
  int64_t pairs1, pairs2; // of inputs: of the first layer, of the other two
  int blocks1, blocks2, blocks3;
};

static void lattice_some(const LatticeArgs &a, const LatticeSizes &s, int64_t begin, int64_t count, int16_t *x,
                         int16_t *hidden, int32_t *sums1, int32_t *sums3) {
  int reach = a.pad - a.kernel / 2;
  int64_t per_tap = (a.inputs + 1) / 2;
  for (int r = 0; r < LATTICE_R; r++) {
    int64_t at = a.positions[begin + (r < count ? r : 0)]; // the last turn's spare places: any position
    const int16_t *corner = a.plane + (at / a.width + reach) * a.row_stride + (at % a.width + reach) * a.channels;
    int16_t *to = x + r * 2 * s.pairs1;
    for (int dy = 0; dy < a.kernel; dy++)
      for (int dx = 0; dx < a.kernel; dx++, to += 2 * per_tap) {
        const int16_t *from = corner + dy * a.row_stride + dx * a.channels;
        for (int64_t k = 0; k < per_tap; k++) memcpy(to + 2 * k, from + 2 * k, 4);
      }
  }
  int64_t stride1 = 16 * s.blocks1, stride2 = 16 * s.blocks2, stride3 = 16 * s.blocks3;
  lattice_layer(x, 2 * s.pairs1, s.pairs1, a.first, a.bias1, s.blocks1, sums1);
  // The block in which hidden outputs end has linear ones too: they would be inputs with weights of zero.
  lattice_act(sums1, stride1, a.scale1, a.act1, a.largest1, a.hidden, hidden, stride2);
  lattice_layer(hidden, stride2, s.pairs2, a.second, a.bias2, s.blocks2, sums3);
  lattice_act(sums3, stride2, a.scale2, a.act2, a.largest2, a.hidden, hidden, stride2);
  lattice_layer(hidden, stride2, s.pairs2, a.third, a.bias3, s.blocks3, sums3);
  float limit = (float)a.largest, top = (float)(a.scales - 1);
  for (int o = 0; o < a.outputs; o++)
    for (int r = 0; r < count; r++) {
      float linear = (float)sums1[r * stride1 + a.hidden + o] * a.scale1[a.hidden + o];
      float mean = linear + (float)sums3[r * stride3 + o] * a.scale3[o];
      float scale = (float)sums3[r * stride3 + a.outputs + o] * a.scale3[a.outputs + o];
      float index = floorf((scale - a.minimum) * a.steps + 0.5f);
      int at = (int)least(most(index, 0.0f), top);
      int bits = a.mean_bits - a.shifts[at], half = (1 << bits) >> 1;
      mean = least(most(mean, -limit), limit);
      int units = (int)floorf(mean * (float)(1 << bits) + 0.5f);
      int centre = (units + half) >> bits;
      a.row[o * a.n + begin + r] = (uint8_t)(a.offsets[at] + units - (centre << bits) + half);
      a.centre[o * a.n + begin + r] = centre;
    }
}

int lattice_rows(const LatticeArgs *args) {
  const LatticeArgs &a = *args;
  LatticeSizes s;
  s.pairs1 = (int64_t)a.kernel * a.kernel * ((a.inputs + 1) / 2);
  s.pairs2 = (a.hidden + 1) / 2;
  s.blocks1 = (a.hidden + a.outputs + 15) / 16;
  s.blocks2 = (a.hidden + 15) / 16;
  s.blocks3 = (2 * a.outputs + 15) / 16;
  constexpr int64_t PER_TURN = 16 * LATTICE_R;
  int64_t turns = (a.n + PER_TURN - 1) / PER_TURN;
  size_t x_bytes = (size_t)LATTICE_R * 2 * s.pairs1 * sizeof(int16_t);
  size_t hidden_bytes = (size_t)LATTICE_R * 16 * s.blocks2 * sizeof(int16_t);
  size_t sums1_bytes = (size_t)LATTICE_R * 16 * s.blocks1 * sizeof(int32_t);
  size_t sums3_bytes = (size_t)LATTICE_R * 16 * most(s.blocks2, s.blocks3) * sizeof(int32_t);
  int status = CODEC_OK;
  parallel(turns, [&](int64_t turn, int) {
    int16_t *x = (int16_t *)pool_scratch(0, x_bytes), *hidden = (int16_t *)pool_scratch(1, hidden_bytes);
    int32_t *sums1 = (int32_t *)pool_scratch(2, sums1_bytes), *sums3 = (int32_t *)pool_scratch(3, sums3_bytes);
    if (!x || !hidden || !sums1 || !sums3) {
      __atomic_store_n(&status, CODEC_NO_MEMORY, __ATOMIC_RELAXED);
      return;
    }
    int64_t end = least(a.n, (turn + 1) * PER_TURN);
    for (int64_t at = turn * PER_TURN; at < end; at += LATTICE_R)
      lattice_some(a, s, at, least(end - at, (int64_t)LATTICE_R), x, hidden, sums1, sums3);
  });
  return status;
}
