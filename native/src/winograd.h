// Winograd's forms of 3x3 convolutions, F(2,3) and F(4,3) for rows and columns, exact in the integers mod 2^32.
//
// All fractions are taken out as common factors: weights are transformed by integer rows G, inputs by the integer B^T,
// and F(2) gives twice, F(4) 24 times a sum. Additions wrap mod 2^32, a ring, so intermediate sums may overflow. In the
// end the product with the inverse of 3 or 9 mod 2^32 and an arithmetic shift divide exactly, since 2^shift times the
// sum fits 32 bits. What mustn't wrap are the 16-bit operands: conv.py proves it for the inputs, conv_pack looks at the
// weights. The factors of the output transform are in G as far as 16 bits allow, which saves operations.

template <int M> struct Winograd;
template <> struct Winograd<2> {
  static constexpr int N = 4, THREES = 0, SHIFT = 1;
  template <class V> static INLINE_METHOD void input(V (&x)[4]) {
    V a = x[0] - x[2], b = x[1] + x[2], c = x[2] - x[1], d = x[1] - x[3];
    x[0] = a, x[1] = b, x[2] = c, x[3] = d;
  }
  template <class V> static INLINE_METHOD void weights(V a, V b, V c, V *out) {
    V s = a + c;
    out[0] = a + a, out[1] = s + b, out[2] = s - b, out[3] = c + c;
  }
  template <class V> static INLINE_METHOD void output(V (&m)[4]) {
    V a = m[0] + m[1] + m[2], b = m[1] - m[2] - m[3];
    m[0] = a, m[1] = b;
  }
};
template <> struct Winograd<4> {
  static constexpr int N = 6, THREES = 1, SHIFT = 3;
  template <class V> static INLINE_METHOD void input(V (&x)[6]) {
    V a = x[4] - (x[2] << 2), b = x[3] - (x[1] << 2); // x4 - 4 x2, x3 - 4 x1
    V c = x[4] - x[2], d = x[3] - x[1];
    d += d;
    x[0] = ((x[0] - x[2]) << 2) + c; // 4 x0 - 5 x2 + x4
    x[5] = (x[5] - x[3]) - (d + d);  // 4 x1 - 5 x3 + x5
    x[1] = a + b, x[2] = a - b, x[3] = c + d, x[4] = c - d;
  }
  // 6 (1,0,0), -4 (1,1,1), -4 (1,-1,1), (1,2,4), (1,-2,4), 12 (0,0,1)
  template <class V> static INLINE_METHOD void weights(V a, V b, V c, V *out) {
    V s = -((a + c) << 2), d = b << 2, e = a + (c << 2), f = b + b;
    out[0] = (a << 2) + a + a, out[1] = s - d, out[2] = s + d, out[3] = e + f, out[4] = e - f;
    out[5] = (c << 3) + (c << 2);
  }
  template <class V> static INLINE_METHOD void output(V (&m)[6]) {
    V s = m[1] + m[2], d = m[1] - m[2], e = m[3] + m[4], f = m[3] - m[4];
    m[0] = m[0] + s + e;
    m[1] = d + (f + f);
    m[2] = s + (e << 2);
    m[3] = d + (f << 3) + (m[5] + m[5]);
  }
};

template <int MH, int MW> INLINE i32v unscaled(i32v v) {
  constexpr int threes = Winograd<MH>::THREES + Winograd<MW>::THREES;
  if (threes == 2) v = (i32v)((u32v)v * 0x38E38E39u); // 1/9 mod 2^32
  if (threes == 1) v = (i32v)((u32v)v * 0xAAAAAAABu); // 1/3
  return v >> (Winograd<MH>::SHIFT + Winograd<MW>::SHIFT);
}

// Transforms the weights (outer, inner, 3, 3) of a block, whose channels are order[0 ... 15], -1: none. packed: its
// [inner / 2][16][2] of the first product, those of the next `step` further. False if a number leaves 16 bits.
template <int MH, int MW>
static bool pack_winograd(const int16_t *weight, int64_t inner, const int32_t *order, int16_t *packed, size_t step) {
  constexpr int NH = Winograd<MH>::N, NW = Winograd<MW>::N;
  u32v outside = {};
  for (int64_t c = 0; c < inner; c += 2, packed += 2 * BLOCK) {
    int32_t taps[2][9][BLOCK] = {};
    for (int o = 0; o < BLOCK; o++)
      if (order[o] >= 0)
        for (int e = 0; e < 2 && c + e < inner; e++) {
          const int16_t *w = weight + (order[o] * inner + c + e) * 9;
          for (int t = 0; t < 9; t++) taps[e][t][o] = w[t];
        }
    for (int v = 0; v < VB; v++) {
      i32v u[2][NW][NH]; // columns of the transformed kernel
      for (int e = 0; e < 2; e++) {
        i32v rows[3][NW];
        for (int i = 0; i < 3; i++)
          Winograd<MW>::weights(load<i32v>(taps[e][3 * i] + v * L), load<i32v>(taps[e][3 * i + 1] + v * L),
                                load<i32v>(taps[e][3 * i + 2] + v * L), rows[i]);
        for (int j = 0; j < NW; j++) Winograd<MH>::weights(rows[0][j], rows[1][j], rows[2][j], u[e][j]);
      }
      for (int i = 0; i < NH; i++)
        for (int j = 0; j < NW; j++) {
          i32v low = u[0][j][i], high = u[1][j][i];
          outside |= ((u32v)low + 32768u) | ((u32v)high + 32768u);
          store(packed + (i * NW + j) * step + 2 * L * v, (low & 0xffff) | (i32v)((u32v)high << 16));
        }
    }
  }
  bool fits = true;
  for (int i = 0; i < L; i++) fits &= outside[i] < 65536;
  return fits;
}

// The transformed inputs of a tile: n of its channels, from src on, `row` and `column` numbers apart; to dst, the
// products `step` apart. Full vectors are written.
template <int MH, int MW, class V>
INLINE void transform_input(const int16_t *src, int64_t row, int64_t column, int n, int16_t *dst, size_t step) {
  constexpr int NH = Winograd<MH>::N, NW = Winograd<MW>::N;
  V d[NH][NW];
  UNROLL for (int j = 0; j < NW; j++) {
    V x[NH];
    UNROLL for (int i = 0; i < NH; i++) x[i] = load_part<V>(src + i * row + j * column, n);
    Winograd<MH>::input(x);
    UNROLL for (int i = 0; i < NH; i++) d[i][j] = x[i];
  }
  UNROLL for (int i = 0; i < NH; i++) {
    Winograd<MW>::input(d[i]);
    UNROLL for (int j = 0; j < NW; j++) store(dst + (i * NW + j) * step, d[i][j]);
  }
}

// A tile of the output, L of its channels, m: the first product's sums, the next `step` further.
template <int MH, int MW, class F>
INLINE void transform_output(const int32_t *m, size_t step, int rows, int columns, F &&finish) {
  constexpr int NH = Winograd<MH>::N, NW = Winograd<MW>::N;
  i32v d[MH][NW];
  UNROLL for (int j = 0; j < NW; j++) {
    i32v x[NH];
    UNROLL for (int i = 0; i < NH; i++) x[i] = load<i32v>(m + (i * NW + j) * step);
    Winograd<MH>::output(x);
    UNROLL for (int i = 0; i < MH; i++) d[i][j] = x[i];
  }
  UNROLL for (int i = 0; i < MH; i++) {
    if (i >= rows) break;
    Winograd<MW>::output(d[i]);
    UNROLL for (int j = 0; j < MW; j++)
      if (j < columns) finish(i, j, unscaled<MH, MW>(d[i][j]));
  }
}

template <int MH, int MW> struct Tiles {
  static constexpr int NH = Winograd<MH>::N, NW = Winograd<MW>::N, P = NH * NW;
  const ConvArgs &c;
  int64_t across, total, size; // tiles of a row, of all, of a block that a thread takes at a time
  int64_t depth;               // inner channels, in full vectors
  size_t in_step, out_step;    // between products; not a multiple of 4096 bytes: they would share cache lines' places

  explicit Tiles(const ConvArgs &args) : c(args) {
    across = (c.columns + MW - 1) / MW;
    total = across * ((c.bottom - c.top + MH - 1) / MH);
    depth = (c.inner + 2 * L - 1) / (2 * L) * (2 * L);
    int64_t most_tiles = most<int64_t>(1, (384 << 10) / (P * depth * 2)); // the transformed inputs stay in the cache
    size = least<int64_t>(least<int64_t>(48, most_tiles), (total + pool_threads() - 1) / pool_threads());
    size = (size + ROWS - 1) / ROWS * ROWS;
    in_step = size * depth + 32, out_step = size * GROUP * BLOCK + 16;
  }

  void input(int64_t t0, int64_t n, int16_t *v, int16_t *patch) const {
    for (int64_t t = 0; t < size; t++, v += depth) {
      if (t >= n) {
        for (int p = 0; p < P; p++) memset(v + p * in_step, 0, depth * 2);
        continue;
      }
      int64_t y = c.top + (t0 + t) / across * MH - 1, x = (t0 + t) % across * MW - 1;
      const int16_t *src = c.x + ((y - c.first) * c.width + x) * c.inner;
      int64_t row = c.width * c.inner;
      if (y < c.first || y + NH > c.first + c.rows || x < 0 || x + NW > c.width) {
        memset(patch, 0, (size_t)P * c.inner * 2);
        int64_t left = most<int64_t>(0, -x), right = least<int64_t>(NW, c.width - x);
        for (int i = 0; i < NH; i++)
          if (y + i >= c.first && y + i < c.first + c.rows)
            memcpy(patch + (i * NW + left) * c.inner, src + i * row + left * c.inner, (right - left) * c.inner * 2);
        src = patch, row = NW * c.inner;
      }
      int64_t k = 0;
      for (; k + 2 * L <= c.inner; k += 2 * L)
        transform_input<MH, MW, i16v>(src + k, row, c.inner, 2 * L, v + k, in_step);
      if (c.inner - k > L) transform_input<MH, MW, i16v>(src + k, row, c.inner, c.inner - k, v + k, in_step);
      else if (c.inner > k) transform_input<MH, MW, h16v>(src + k, row, c.inner, c.inner - k, v + k, in_step);
    }
  }

  template <int N> void products(const int16_t *v, int64_t block, int32_t *m) const {
    const int64_t pairs = (c.inner + 1) / 2;
    const size_t step = pairs * 2 * BLOCK; // of the weights of a block
    for (int p = 0; p < P; p++) {
      const int16_t *w = c.packed + (p * c.blocks + block) * step;
      for (int64_t t = 0; t < size; t += ROWS) {
        const int16_t *a[ROWS];
        i32v sums[ROWS][N * VB];
        UNROLL for (int r = 0; r < ROWS; r++) a[r] = v + p * in_step + (t + r) * depth;
        UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int n = 0; n < N * VB; n++) sums[r][n] = i32v{};
        product<N>(a, w, step, pairs, sums);
        UNROLL for (int r = 0; r < ROWS; r++)
          UNROLL for (int n = 0; n < N * VB; n++) store(m + p * out_step + (t + r) * N * BLOCK + n * L, sums[r][n]);
      }
    }
  }

  template <int KIND> void output(int64_t t0, int64_t tiles, const int32_t *m, int64_t block, int64_t blocks) const {
    const Epilogue<KIND> epilogue(c);
    const int64_t s = c.shuffle;
    for (int64_t t = 0; t < tiles; t++) {
      int64_t y = (t0 + t) / across * MH, x = (t0 + t) % across * MW;
      int rows = (int)least<int64_t>(MH, c.bottom - c.top - y), columns = (int)least<int64_t>(MW, c.columns - x);
      for (int64_t n = 0; n < blocks; n++) {
        const int64_t *place = c.place + 4 * (block + n);
        int64_t corner = ((y * s + place[0]) * c.columns * s + x * s + place[1]) * c.channels + place[2];
        int64_t down = s * s * c.columns * c.channels, right = s * c.channels;
        for (int v = 0; v < VB && v * L < place[3]; v++) {
          int lanes = (int)least<int64_t>(L, place[3] - v * L);
          int64_t first = corner + v * L, q = (block + n) * BLOCK + v * L;
          transform_output<MH, MW>(m + (t * blocks + n) * BLOCK + v * L, out_step, rows, columns, [&](int i, int j, i32v sum)
                                   __attribute__((always_inline)) { epilogue(sum, first + i * down + j * right, q, lanes); });
        }
      }
    }
  }

  template <int KIND> int run() const {
    int status = CODEC_OK;
    parallel((total + size - 1) / size, [&](int64_t index, int) {
      int16_t *v = (int16_t *)pool_scratch(0, P * in_step * 2), *patch = (int16_t *)pool_scratch(2, P * c.inner * 2);
      int32_t *m = (int32_t *)pool_scratch(1, P * out_step * 4);
      if (!v || !m || !patch) {
        __atomic_store_n(&status, (int)CODEC_NO_MEMORY, __ATOMIC_RELAXED);
        return;
      }
      int64_t t0 = index * size, n = least(size, total - t0);
      input(t0, n, v, patch);
      for_groups(c.blocks, [&](auto number, int64_t block) {
        constexpr int N = decltype(number)::value;
        products<N>(v, block, m);
        output<KIND>(t0, n, m, block, N);
      });
    });
    return status;
  }
};
