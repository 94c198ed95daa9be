// Networks in float32 for encoders: convolutions directly and by Winograd's F(4x4, 3x3), the attention of SwinV2 in
// windows, layer norm, and the forward wavelet packet.
//
// Each output is computed by one thread in an order that depends on the shape of its layer only, so results are the
// same bits for any number of threads. Instruction sets may differ in the last bits: those that can, multiply and add
// in one step.

INLINE f32v fma_(f32v a, f32v b, f32v c) { // a b + c
#if defined(CODEC_AVX512)
  return (f32v)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(CODEC_AVX2)
  return (f32v)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(CODEC_NEON)
  return (f32v)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

// n < L numbers, zeros behind them
INLINE f32v load_part(const float *p, int64_t n) {
  f32v v{};
  if (n >= L) return load<f32v>(p);
  memcpy(&v, p, 4 * n);
  return v;
}
INLINE void store_part(float *p, f32v v, int64_t n) {
  if (n >= L) store(p, v);
  else memcpy(p, &v, 4 * n);
}

INLINE float sum_lanes(f32v v) {
  float s = 0;
  for (int i = 0; i < L; i++) s += v[i];
  return s;
}

INLINE f32v exp_(f32v x) { // within 2 units in the last place; x below -87 gives 2^-126 or so
  x = min_(max_(x, allf(-87.0f)), allf(88.0f));
  f32v n = floor_(x * 1.44269504088896341f + 0.5f);
  x = x - n * 0.693359375f - n * -2.12194440e-4f;
  f32v p = allf(1.9875691500e-4f);
  p = p * x + 1.3981999507e-3f;
  p = p * x + 8.3334519073e-3f;
  p = p * x + 4.1665795894e-2f;
  p = p * x + 1.6666665459e-1f;
  p = p * x + 5.0000001201e-1f;
  p = p * (x * x) + x + 1.0f;
  return p * (f32v)((to_int(n) + 127) << 23);
}

INLINE f32v gelu_(f32v x) { // erf by Abramowitz and Stegun 7.1.26, as the twin
  f32v z = max_(x, -x) * 0.70710678f;
  f32v t = 1.0f / (1.0f + 0.3275911f * z);
  f32v s = 1.061405429f * t;
  s = (s - 1.453152027f) * t;
  s = (s + 1.421413741f) * t;
  s = (s - 0.284496736f) * t;
  s = (s + 0.254829592f) * t;
  f32v tail = s * exp_(-z * z) * 0.5f;
  return x * (x > 0.0f ? 1.0f - tail : tail);
}

// ---- matrix products: R rows times NB blocks of 16 columns

constexpr int VB = 16 / L; // vectors of a block
#if defined(CODEC_AVX512)
constexpr int R = 8, MOST_BLOCKS = 3;
#elif defined(CODEC_AVX2) || defined(CODEC_NEON)
constexpr int R = 6, MOST_BLOCKS = 1;
#else
constexpr int R = 2, MOST_BLOCKS = 1;
#endif
constexpr int PANEL = 16 * MOST_BLOCKS; // columns of a panel
constexpr int TILES = 48;               // rows of a product at most, a multiple of R

// c[r] (+)= a[r] b for rows r < R. b: blocks (K, 16), `apart` numbers from each other.
template <int NB>
INLINE void product(const float *const *a, int64_t K, const float *b, int64_t apart, float *c, int64_t ldc, bool add) {
  f32v s[R][NB * VB];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NB * VB; v++) s[r][v] = add ? load<f32v>(c + r * ldc + v * L) : f32v{};
  const float *p[R];
  for (int r = 0; r < R; r++) p[r] = a[r];
  for (int64_t k = 0; k < K; k++) {
    f32v w[NB * VB];
    for (int i = 0; i < NB; i++)
      for (int v = 0; v < VB; v++) w[i * VB + v] = load<f32v>(b + i * apart + k * 16 + v * L);
    for (int r = 0; r < R; r++) {
      f32v x = allf(p[r][k]);
      for (int v = 0; v < NB * VB; v++) s[r][v] = fma_(x, w[v], s[r][v]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NB * VB; v++) store(c + r * ldc + v * L, s[r][v]);
}

static void product(int blocks, const float *const *a, int64_t K, const float *b, int64_t apart, float *c, int64_t ldc,
                    bool add) {
  if (blocks == 1) return product<1>(a, K, b, apart, c, ldc, add);
  if (blocks == 2) return product<(MOST_BLOCKS > 1 ? 2 : 1)>(a, K, b, apart, c, ldc, add);
  return product<MOST_BLOCKS>(a, K, b, apart, c, ldc, add);
}

// The blocks of the next panel where `left` are left: no last panel of one block if it can be helped.
INLINE int panel_blocks(int64_t left) {
  if (MOST_BLOCKS == 3 && left == 4) return 2;
  return (int)least<int64_t>(left, MOST_BLOCKS);
}

// ---- what follows a sum: bias, activation, gain, residual

INLINE f32v finish(f32v v, f32v bias, int64_t act) {
  v = v + bias;
  if (act == 1) v = max_(v, v * 0.125f);
  if (act == 2) v = gelu_(v);
  return v;
}

// n outputs from channel o of a cell on
INLINE void put(const FloatConv &f, f32v v, int64_t o, int64_t n, int64_t place) {
  v = finish(v, load<f32v>(f.bias + o), f.act); // the bias is padded
  if (f.gain) v = v * load_part(f.gain + o, n);
  if (f.residual) v = v + load_part(f.residual + place + o, n);
  store_part(f.out + place + o, v, n);
}

// ---- directly

// A number of cells of the output, each tap a product of the inputs there.
static int conv_cells(const FloatConv &f, int64_t width, int64_t start, int64_t n) {
  const int64_t chunk = 192, blocks = (f.outer + 15) / 16, taps = f.kernel * f.kernel, reach = f.kernel / 2;
  float *zero = (float *)pool_scratch(0, (f.inner + 16) * 4), *sums = (float *)pool_scratch(1, TILES * PANEL * 4);
  if (!zero || !sums) return CODEC_NO_MEMORY;
  memset(zero, 0, f.inner * 4);
  const float *at[TILES], *a[R];
  int64_t rows = (n + R - 1) / R * R;
  for (int64_t block = 0; block < blocks;) {
    int count = panel_blocks(blocks - block);
    for (int64_t tap = 0; tap < taps; tap++) {
      for (int64_t t = 0; t < rows; t++) {
        int64_t cell = start + least(t, n - 1);
        int64_t y = (f.top + cell / width) * f.stride + tap / f.kernel - reach;
        int64_t x = cell % width * f.stride + tap % f.kernel - reach;
        bool inside = y >= 0 && y < f.height && x >= 0 && x < f.width;
        at[t] = inside ? f.x + ((y - f.first) * f.width + x) * f.inner : zero;
      }
      for (int64_t k = 0; k < f.inner; k += chunk)
        for (int64_t t = 0; t < rows; t += R) {
          for (int r = 0; r < R; r++) a[r] = at[t + r] + k;
          product(count, a, least(chunk, f.inner - k), f.weight + ((block * taps + tap) * f.inner + k) * 16,
                  taps * f.inner * 16, sums + t * PANEL, PANEL, tap || k);
        }
    }
    for (int64_t t = 0; t < n; t++)
      for (int v = 0; v < count * VB; v++) {
        int64_t o = block * 16 + v * L;
        if (o < f.outer) put(f, load<f32v>(sums + t * PANEL + v * L), o, f.outer - o, (start + t) * f.outer);
      }
    block += count;
  }
  return CODEC_OK;
}

// ---- 3x3, stride 1, by Winograd

// B^T x, x and the result `step` apart
INLINE void tile_in(f32v *x, int step) {
  f32v a = x[0], b = x[step], c = x[2 * step], d = x[3 * step], e = x[4 * step], g = x[5 * step];
  f32v ec = fma_(allf(-4.0f), c, e), db = fma_(allf(-4.0f), b, d), fc = e - c, fd = (d - b) * 2.0f;
  x[0] = fma_(allf(4.0f), a - c, e - c);
  x[step] = ec + db;
  x[2 * step] = ec - db;
  x[3 * step] = fc + fd;
  x[4 * step] = fc - fd;
  x[5 * step] = fma_(allf(4.0f), b - d, g - d);
}

// A^T x, of six to four
INLINE void tile_out(const f32v *x, int step, f32v *y, int apart) {
  f32v s = x[step] + x[2 * step], d = x[step] - x[2 * step];
  f32v p = x[3 * step] + x[4 * step], q = x[3 * step] - x[4 * step];
  y[0] = x[0] + s + p;
  y[apart] = fma_(allf(2.0f), q, d);
  y[2 * apart] = fma_(allf(4.0f), p, s);
  y[3 * apart] = fma_(allf(8.0f), q, d) + x[5 * step];
}

struct Tile {
  int64_t y, x; // of its first output
};

static void tile_inputs(const FloatConv &f, Tile tile, const float *zero, float *goal, int64_t apart) {
  const float *at[36];
  for (int i = 0; i < 6; i++)
    for (int j = 0; j < 6; j++) {
      int64_t y = tile.y - 1 + i, x = tile.x - 1 + j;
      bool inside = y >= 0 && y < f.height && x >= 0 && x < f.width;
      at[6 * i + j] = inside ? f.x + ((y - f.first) * f.width + x) * f.inner : zero;
    }
  for (int64_t c = 0; c < f.inner; c += L) {
    f32v v[36];
    if (f.inner - c >= L)
      for (int i = 0; i < 36; i++) v[i] = load<f32v>(at[i] + c);
    else
      for (int i = 0; i < 36; i++) v[i] = load_part(at[i] + c, f.inner - c);
    for (int i = 0; i < 6; i++) tile_in(v + 6 * i, 1);
    for (int j = 0; j < 6; j++) tile_in(v + j, 6);
    for (int i = 0; i < 36; i++) store(goal + i * apart + c, v[i]);
  }
}

static int conv_tiles(const FloatConv &f, const Tile *tiles, int64_t n) {
  const int64_t blocks = (f.outer + 15) / 16, inner = (f.inner + L - 1) / L * L, rows = (n + R - 1) / R * R;
  const int64_t apart = rows * inner + 16, sums_apart = rows * PANEL + 16;
  float *zero = (float *)pool_scratch(0, (inner + 16) * 4);
  float *inputs = (float *)pool_scratch(1, 36 * apart * 4), *sums = (float *)pool_scratch(2, 36 * sums_apart * 4);
  if (!zero || !inputs || !sums) return CODEC_NO_MEMORY;
  memset(zero, 0, inner * 4);
  for (int64_t t = 0; t < n; t++) tile_inputs(f, tiles[t], zero, inputs + t * inner, apart);
  const float *a[R];
  for (int64_t block = 0; block < blocks;) {
    int count = panel_blocks(blocks - block);
    for (int p = 0; p < 36; p++)
      for (int64_t t = 0; t < rows; t += R) {
        for (int r = 0; r < R; r++) a[r] = inputs + p * apart + least(t + r, n - 1) * inner;
        product(count, a, f.inner, f.weight + (p * blocks + block) * f.inner * 16, f.inner * 16,
                sums + p * sums_apart + t * PANEL, PANEL, false);
      }
    for (int64_t t = 0; t < n; t++)
      for (int v = 0; v < count * VB; v++) {
        int64_t o = block * 16 + v * L;
        if (o >= f.outer) break;
        const float *from = sums + t * PANEL + v * L;
        f32v m[24], x[6], y[16];
        for (int j = 0; j < 6; j++) {
          for (int i = 0; i < 6; i++) x[i] = load<f32v>(from + (6 * i + j) * sums_apart);
          tile_out(x, 1, m + j, 6);
        }
        for (int i = 0; i < 4; i++) tile_out(m + 6 * i, 1, y + 4 * i, 1);
        for (int i = 0; i < 4; i++)
          for (int j = 0; j < 4; j++) {
            int64_t row = tiles[t].y + i, column = tiles[t].x + j;
            if (row >= f.top && row < f.bottom && column < f.width)
              put(f, y[4 * i + j], o, f.outer - o, ((row - f.top) * f.width + column) * f.outer);
          }
      }
    block += count;
  }
  return CODEC_OK;
}

int floats_conv(const FloatConv *call) {
  const FloatConv &f = *call;
  int status = CODEC_OK;
  const int64_t width = (f.width + f.stride - 1) / f.stride, first = f.top / 4, across = (f.width + 3) / 4;
  const int64_t n = f.winograd ? ((f.bottom + 3) / 4 - first) * across : (f.bottom - f.top) * width;
  // fewer at a time where there would be too little for all threads
  int64_t some = least<int64_t>(TILES, most<int64_t>(R, (n / pool_threads() + R - 1) / R * R));
  parallel((n + some - 1) / some, [&](int64_t item, int) {
    int64_t start = item * some, count = least(some, n - start);
    int result;
    if (f.winograd) {
      Tile tiles[TILES];
      for (int64_t t = 0; t < count; t++)
        tiles[t] = {(first + (start + t) / across) * 4, (start + t) % across * 4};
      result = conv_tiles(f, tiles, count);
    } else {
      result = conv_cells(f, width, start, count);
    }
    if (result) __atomic_store_n(&status, result, __ATOMIC_RELAXED);
  });
  return status;
}
