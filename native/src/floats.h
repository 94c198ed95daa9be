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

INLINE f32v spread(float x) { return x - f32v{}; } // x + 0 would really be added: it isn't x for -0

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
  x = min_(max_(x, spread(-87.0f)), spread(88.0f));
  f32v n = floor_(x * 1.44269504088896341f + 0.5f);
  x = x - n * 0.693359375f - n * -2.12194440e-4f;
  f32v p = spread(1.9875691500e-4f);
  p = p * x + 1.3981999507e-3f;
  p = p * x + 8.3334519073e-3f;
  p = p * x + 4.1665795894e-2f;
  p = p * x + 1.6666665459e-1f;
  p = p * x + 5.0000001201e-1f;
  p = p * (x * x) + x + 1.0f;
  return p * (f32v)((to_int(n) + 127) << 23);
}

INLINE f32v gelu_(f32v x) { // erf by Abramowitz and Stegun 7.1.26, as the twin
  // products with denormal numbers, of larger z, take a hundred times as long
  f32v z = min_(max_(x, -x) * 0.70710678f, spread(6.0f));
  f32v t = 1.0f / (1.0f + 0.3275911f * z);
  f32v s = 1.061405429f * t;
  s = (s - 1.453152027f) * t;
  s = (s + 1.421413741f) * t;
  s = (s - 0.284496736f) * t;
  s = (s + 0.254829592f) * t;
  f32v tail = s * exp_(-z * z) * 0.5f;
  return max_(x, spread(-9.0f)) * (x > 0.0f ? 1.0f - tail : tail);
}

// ---- matrix products: R rows times NB blocks of 16 columns

constexpr int FLOAT_VB = 16 / L; // vectors of a block
#if defined(CODEC_AVX512)
constexpr int R = 8, MOST_BLOCKS = 3;
#elif defined(CODEC_AVX2) || defined(CODEC_NEON)
constexpr int R = 6, MOST_BLOCKS = 1;
#else
constexpr int R = 2, MOST_BLOCKS = 1;
#endif
constexpr int PANEL = 16 * MOST_BLOCKS; // columns of a panel
constexpr int TILES = 48;               // rows of a product at most, a multiple of R

// c[r] (+)= a[r] b for rows r < R. b: blocks (K, 16), `apart` numbers from each other. next: a block that will be
// wanted.
template <int NB>
INLINE void product(const float *const *a, int64_t K, const float *b, int64_t apart, float *c, int64_t ldc, bool add,
                    const float *next) {
  f32v s[R][NB * FLOAT_VB];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NB * FLOAT_VB; v++) s[r][v] = add ? load<f32v>(c + r * ldc + v * L) : f32v{};
  const float *p[R];
  for (int r = 0; r < R; r++) p[r] = a[r];
  for (int64_t k = 0; k < K; k++) {
    f32v w[NB * FLOAT_VB];
    __builtin_prefetch(next + k * 16);
    for (int i = 0; i < NB; i++)
      for (int v = 0; v < FLOAT_VB; v++) w[i * FLOAT_VB + v] = load<f32v>(b + i * apart + k * 16 + v * L);
    for (int r = 0; r < R; r++) {
      f32v x = spread(p[r][k]);
      for (int v = 0; v < NB * FLOAT_VB; v++) s[r][v] = fma_(x, w[v], s[r][v]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NB * FLOAT_VB; v++) store(c + r * ldc + v * L, s[r][v]);
}

static void product(int blocks, const float *const *a, int64_t K, const float *b, int64_t apart, float *c, int64_t ldc,
                    bool add, const float *next) {
  if (blocks == 1) return product<1>(a, K, b, apart, c, ldc, add, next);
  if (blocks == 2) return product<(MOST_BLOCKS > 1 ? 2 : 1)>(a, K, b, apart, c, ldc, add, next);
  return product<MOST_BLOCKS>(a, K, b, apart, c, ldc, add, next);
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
                  taps * f.inner * 16, sums + t * PANEL, PANEL, tap || k, sums);
        }
    }
    for (int64_t t = 0; t < n; t++)
      for (int v = 0; v < count * FLOAT_VB; v++) {
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
  f32v ec = fma_(spread(-4.0f), c, e), db = fma_(spread(-4.0f), b, d), fc = e - c, fd = (d - b) * 2.0f;
  x[0] = fma_(spread(4.0f), a - c, e - c);
  x[step] = ec + db;
  x[2 * step] = ec - db;
  x[3 * step] = fc + fd;
  x[4 * step] = fc - fd;
  x[5 * step] = fma_(spread(4.0f), b - d, g - d);
}

// A^T x, of six to four
INLINE void tile_out(const f32v *x, int step, f32v *y, int apart) {
  f32v s = x[step] + x[2 * step], d = x[step] - x[2 * step];
  f32v p = x[3 * step] + x[4 * step], q = x[3 * step] - x[4 * step];
  y[0] = x[0] + s + p;
  y[apart] = fma_(spread(2.0f), q, d);
  y[2 * apart] = fma_(spread(4.0f), p, s);
  y[3 * apart] = fma_(spread(8.0f), q, d) + x[5 * step];
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
        const float *weight = f.weight + (p * blocks + block) * f.inner * 16;
        const float *next = p < 35 && t / R < count ? weight + (blocks + t / R) * f.inner * 16 : weight;
        product(count, a, f.inner, weight, f.inner * 16, sums + p * sums_apart + t * PANEL, PANEL, false, next);
      }
    for (int64_t t = 0; t < n; t++)
      for (int v = 0; v < count * FLOAT_VB; v++) {
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

// ---- what transformers need

int floats_norm(const float *x, const float *weight, const float *bias, const float *residual, float *out, int64_t n,
                int64_t channels) {
  const int64_t some = 32, whole = channels / L * L;
  parallel((n + some - 1) / some, [&](int64_t item, int) {
    for (int64_t i = item * some; i < least(n, (item + 1) * some); i++) {
      const float *row = x + i * channels;
      f32v s{};
      for (int64_t c = 0; c < whole; c += L) s = s + load<f32v>(row + c);
      float mean = sum_lanes(s);
      for (int64_t c = whole; c < channels; c++) mean += row[c];
      mean /= (float)channels;
      s = f32v{};
      for (int64_t c = 0; c < whole; c += L) {
        f32v d = load<f32v>(row + c) - mean;
        s = fma_(d, d, s);
      }
      float square = sum_lanes(s);
      for (int64_t c = whole; c < channels; c++) square += (row[c] - mean) * (row[c] - mean);
      float scale = 1.0f / sqrtf(square / (float)channels + 1e-5f);
      for (int64_t c = 0; c < channels; c += L) {
        int64_t left = channels - c;
        f32v d = (load_part(row + c, left) - mean) * scale;
        d = fma_(d, load_part(weight + c, left), load_part(bias + c, left));
        store_part(out + i * channels + c, load_part(residual + i * channels + c, left) + d, left);
      }
    }
  });
  return CODEC_OK;
}

// One window: the tokens `at` (places in the picture) and their places in a whole window, one head after the other.
static int attend(const FloatAttention &f, const int64_t *at, const int64_t *place, int64_t n) {
  const int64_t C = f.channels, d = C / f.heads, whole = f.window * f.window;
  const int64_t rows = (n + R - 1) / R * R, wide = (n + 15) / 16 * 16, deep = (d + 15) / 16 * 16;
  float *q = (float *)pool_scratch(0, rows * d * 4), *k = (float *)pool_scratch(1, wide * d * 4);
  float *v = (float *)pool_scratch(2, deep * n * 4), *s = (float *)pool_scratch(3, rows * wide * 4);
  float *mixed = (float *)pool_scratch(4, rows * deep * 4);
  if (!q || !k || !v || !s || !mixed) return CODEC_NO_MEMORY;
  memset(q, 0, rows * d * 4), memset(k, 0, wide * d * 4), memset(v, 0, deep * n * 4);
  const float *a[R];
  for (int64_t head = 0; head < f.heads; head++) {
    for (int64_t i = 0; i < n; i++) {
      const float *token = f.qkv + at[i] * 3 * C + head * d;
      f32v qq{}, kk{};
      for (int64_t c = 0; c < d; c += L) {
        f32v x = load_part(token + c, d - c), y = load_part(token + C + c, d - c);
        qq = fma_(x, x, qq), kk = fma_(y, y, kk);
      }
      float qs = f.scale[head] / most(sqrtf(sum_lanes(qq)), 1e-12f), ks = 1.0f / most(sqrtf(sum_lanes(kk)), 1e-12f);
      float *column = k + (i / 16 * d) * 16 + i % 16;
      for (int64_t c = 0; c < d; c++) {
        q[i * d + c] = token[c] * qs;
        column[c * 16] = token[C + c] * ks;
        v[(c / 16 * n + i) * 16 + c % 16] = token[2 * C + c];
      }
    }
    for (int64_t t = 0; t < rows; t += R) {
      for (int r = 0; r < R; r++) a[r] = q + (t + r) * d;
      for (int64_t b = 0; b < wide / 16;) {
        int count = panel_blocks(wide / 16 - b);
        product(count, a, d, k + b * d * 16, d * 16, s + t * wide + b * 16, wide, false, s);
        b += count;
      }
    }
    for (int64_t i = 0; i < n; i++) { // softmax, its division put off
      float *row = s + i * wide;
      const float *bias = f.bias + (head * whole + place[i]) * whole;
      float largest = -INFINITY, sum = 0;
      if (n == whole) {
        for (int64_t j = 0; j < n; j++) row[j] += bias[j];
      } else {
        for (int64_t j = 0; j < n; j++) row[j] += bias[place[j]];
      }
      for (int64_t j = 0; j < n; j++) largest = most(largest, row[j]);
      for (int64_t j = 0; j < wide; j += L) store(row + j, exp_(max_(load<f32v>(row + j) - largest, spread(-60.0f))));
      for (int64_t j = n; j < wide; j++) row[j] = 0;
      f32v total{};
      for (int64_t j = 0; j < wide; j += L) total = total + load<f32v>(row + j);
      sum = 1.0f / sum_lanes(total);
      for (int64_t j = 0; j < wide; j += L) store(row + j, load<f32v>(row + j) * sum);
    }
    for (int64_t t = 0; t < rows; t += R) {
      for (int r = 0; r < R; r++) a[r] = s + least(t + r, n - 1) * wide;
      for (int64_t b = 0; b < deep / 16; b++)
        product(1, a, n, v + b * n * 16, 0, mixed + t * deep + b * 16, deep, false, s);
    }
    for (int64_t i = 0; i < n; i++) memcpy(f.out + at[i] * C + head * d, mixed + i * deep, 4 * d);
  }
  return CODEC_OK;
}

int floats_attention(const FloatAttention *call) {
  const FloatAttention &f = *call;
  int status = CODEC_OK;
  const int64_t n = f.window, across = (f.width + f.shift + n - 1) / n;
  parallel((f.bottom - f.top) * across, [&](int64_t item, int) {
    int64_t at[256], place[256], count = 0;
    int64_t y = (f.top + item / across) * n - f.shift, x = item % across * n - f.shift;
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++)
        if (y + i >= 0 && y + i < f.height && x + j >= 0 && x + j < f.width) {
          at[count] = (y + i - f.first) * f.width + x + j;
          place[count++] = i * n + j;
        }
    int result = attend(f, at, place, count);
    if (result) __atomic_store_n(&status, result, __ATOMIC_RELAXED);
  });
  return status;
}

// ---- the forward wavelet packet (CDF 9/7 by lifting)

// One level on n pairs, `low` the first even sample, `high` the first odd one, `apart` from pair to pair, in one pass;
// the signal is mirrored at its ends, about the last sample of each kind.
INLINE void lift(float *low, float *high, int64_t apart, int64_t n) {
  const f32v A = spread(-1.586134342059924f), B = spread(-0.052980118572961f), G = spread(0.882911075530934f),
             D = spread(0.443506852043971f);
  const float up = 1.149604398860241f, down = -1 / 1.149604398860241f;
  f32v l0 = load<f32v>(low), h0{}, hh{}, ll{}; // l0: low[i]; of the pair before: h0 after A, hh after G, ll after B
  for (int64_t i = 0; i <= n; i++) {
    f32v h = h0, l = ll;
    if (i < n) {
      f32v next = i + 1 < n ? load<f32v>(low + (i + 1) * apart) : l0;
      h = fma_(A, l0 + next, load<f32v>(high + i * apart));
      l = fma_(B, h + (i ? h0 : h), l0);
      l0 = next;
    }
    if (i) { // finish the pair before
      f32v done = fma_(G, ll + l, h0);
      f32v sum = done + (i > 1 ? hh : done);
      store(low + (i - 1) * apart, fma_(D, sum, ll) * up);
      store(high + (i - 1) * apart, done * down);
      hh = done;
    }
    h0 = h, ll = l;
  }
}

// A packet of J levels on n samples of `width` numbers, in place; the width is a multiple of L.
static void packet(float *x, int64_t n, int64_t width, int64_t levels) {
  for (int64_t level = 0; level < levels; level++)
    for (int64_t start = 0; start < (int64_t)1 << level; start++) {
      float *low = x + start * width, *high = low + (width << level);
      for (int64_t c = 0; c < width; c += L) lift(low + c, high + c, width << (level + 1), n >> (level + 1));
    }
}

INLINE int64_t mirrored(int64_t i, int64_t n) {
  i = (i % (2 * n) + 2 * n) % (2 * n);
  return least(i, 2 * n - 1 - i);
}

template <class T>
static void pixel_row(const FloatPacket &f, int64_t y, int64_t x, int64_t n, float *goal) { // n pixels from x on
  const int64_t C = f.channels;
  const T *row = (const T *)f.pixels + mirrored(y, f.pixel_rows) * f.pixel_columns * C;
  const float scale = f.scale, offset = f.offset;
  int64_t inside = x < f.pixel_columns ? least(n, f.pixel_columns - x) : 0;
  for (int64_t i = 0; i < inside * C; i++) goal[i] = (float)row[x * C + i] * scale + offset;
  for (int64_t i = inside; i < n; i++)
    for (int64_t c = 0; c < C; c++)
      goal[i * C + c] = (float)row[mirrored(x + i, f.pixel_columns) * C + c] * scale + offset;
}

INLINE void pixel_row(const FloatPacket &f, int64_t y, int64_t x, int64_t n, float *goal) {
  if (f.bytes == 1) pixel_row<uint8_t>(f, y, x, n, goal);
  else if (f.bytes == 2) pixel_row<uint16_t>(f, y, x, n, goal);
  else pixel_row<float>(f, y, x, n, goal);
}

// Down: some columns of pixels, all rows of cells that are wanted. Then across: a row of cells at a time.
int floats_packet(const FloatPacket *call) {
  const FloatPacket &f = *call;
  int status = CODEC_OK;
  const int64_t cell = (int64_t)1 << f.levels, C = f.channels, reach = 4 * cell, columns = 128;
  const int64_t height = f.rows * cell, width = f.columns * cell, line = cell * C;
  int64_t low = f.top * cell - reach, high = f.bottom * cell + reach;
  if (!f.wrap) low = most<int64_t>(low, 0), high = least(high, height);
  parallel((width + columns - 1) / columns, [&](int64_t item, int) {
    int64_t x = item * columns, n = least(columns, width - x), wide = (n * C + L - 1) / L * L;
    float *part = (float *)pool_scratch(0, (high - low) * wide * 4);
    if (!part) return __atomic_store_n(&status, (int)CODEC_NO_MEMORY, __ATOMIC_RELAXED);
    for (int64_t y = low; y < high; y++) {
      float *row = part + (y - low) * wide;
      pixel_row(f, (y % height + height) % height, x, n, row);
      memset(row + n * C, 0, (wide - n * C) * 4);
    }
    packet(part, high - low, wide, f.levels);
    for (int64_t y = f.top * cell; y < f.bottom * cell; y++) {
      const float *from = part + (y - low) * wide;
      float *to = f.out + ((y / cell - f.top) * width + x) * line + y % cell * C;
      if (C == 3)
        for (int64_t i = 0; i < n; i++) memcpy(to + i * line, from + i * 3, 12);
      else
        for (int64_t i = 0; i < n; i++) memcpy(to + i * line, from + i * C, C * 4);
    }
  });
  if (status) return status;
  const int64_t beyond = f.wrap ? reach : 0, wide = (line + L - 1) / L * L;
  parallel(f.bottom - f.top, [&](int64_t item, int) {
    float *row = f.out + item * width * line;
    if (!beyond && wide == line) return packet(row, width, line, f.levels);
    float *x = (float *)pool_scratch(0, (width + 2 * beyond) * wide * 4);
    if (!x) return __atomic_store_n(&status, (int)CODEC_NO_MEMORY, __ATOMIC_RELAXED);
    for (int64_t i = -beyond; i < width + beyond; i++) {
      float *goal = x + (i + beyond) * wide;
      memcpy(goal, row + (i % width + width) % width * line, line * 4);
      memset(goal + line, 0, (wide - line) * 4);
    }
    packet(x, width + 2 * beyond, wide, f.levels);
    for (int64_t i = 0; i < width; i++) memcpy(row + i * line, x + (i + beyond) * wide, line * 4);
  });
  return status;
}

// Rows of cells of size x size pixels, (row, column, channel) of each as channels.
int floats_unshuffle(const FloatPacket *call, int64_t size) {
  const FloatPacket &f = *call;
  const int64_t line = size * f.channels;
  int status = CODEC_OK;
  parallel(f.bottom - f.top, [&](int64_t item, int) {
    float *row = (float *)pool_scratch(0, f.columns * line * 4);
    if (!row) return __atomic_store_n(&status, (int)CODEC_NO_MEMORY, __ATOMIC_RELAXED);
    for (int64_t i = 0; i < size; i++) {
      pixel_row(f, (f.top + item) * size + i, 0, f.columns * size, row);
      float *to = f.out + (item * f.columns * size + i) * line;
      for (int64_t x = 0; x < f.columns; x++) memcpy(to + x * size * line, row + x * line, line * 4);
    }
  });
  return status;
}
