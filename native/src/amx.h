// Convolutions by tiles of AMX, whose products are of 8 bits: each weight one byte, each input one, or two in turn.
//
// A row of a kernel lies in one piece in a row of pixels, so a tile takes 64 bytes of it, whatever the channels. Inputs
// of more than 8 bits are 256 h + l: two sums, of signed h and of unsigned l. All sums are mod 2^32.

#if defined(CODEC_AVX512) && (defined(__clang__) || __GNUC__ >= 11)
#define CODEC_AMX 1
#endif

enum AmxForm { AMX_UNSIGNED = 81, AMX_SIGNED = 82, AMX_TWO = 83 }; // inputs: 0 ... 255, -128 ... 127, of 16 bits

constexpr int64_t TILE = 64; // bytes of a row of a tile, which has 16

struct AmxLayout {
  int64_t depth;  // channels of a pixel, in fours
  int64_t chunks; // of a row of the kernel
  int64_t row;    // bytes of a row of a plane, with the zeros around
  explicit AmxLayout(const ConvArgs &c)
      : depth((c.inner + 3) / 4 * 4), chunks((c.kernel * depth + TILE - 1) / TILE),
        row((c.width + 2 * (c.kernel / 2)) * depth) {}
};

INLINE int64_t amx_block(int64_t inner, int64_t kernel) { // bytes of the weights of a block
  return kernel * ((kernel * ((inner + 3) / 4 * 4) + TILE - 1) / TILE) * TILE * 16;
}

// Packs the weights of a block: [rows of the kernel][chunks][16][16 outputs][4]. False if one has more than 8 bits.
static bool pack_amx(const int16_t *weight, int64_t inner, int64_t kernel, const int32_t *order, int8_t *packed) {
  const int64_t depth = (inner + 3) / 4 * 4, chunks = (kernel * depth + TILE - 1) / TILE;
  bool fits = true;
  memset(packed, 0, amx_block(inner, kernel));
  for (int o = 0; o < BLOCK; o++)
    for (int64_t c = 0; c < inner && order[o] >= 0; c++)
      for (int64_t t = 0; t < kernel * kernel; t++) {
        int16_t w = weight[(order[o] * inner + c) * kernel * kernel + t];
        int64_t at = t % kernel * depth + c;
        packed[(t / kernel * chunks * 16 + at / 4) * TILE + 4 * o + at % 4] = (int8_t)w;
        fits &= w == (int8_t)w;
      }
  return fits;
}

#if defined(CODEC_AMX)

// Registers: sums 0 ... 3, inputs 4 and 5, weights 6 and 7.
#define TILE_LOAD(r, p, stride) asm volatile("tileloadd (%0,%1,1), %%tmm" #r ::"r"(p), "r"((int64_t)(stride)) : "memory")
#define TILE_STORE(r, p) asm volatile("tilestored %%tmm" #r ", (%0,%1,1)" ::"r"(p), "r"(TILE) : "memory")
#define TILE_ZERO(r) asm volatile("tilezero %%tmm" #r ::: "memory")
#define TILE_UNSIGNED(sum, x, w) asm volatile("tdpbusd %%tmm" #w ", %%tmm" #x ", %%tmm" #sum ::: "memory")
#define TILE_SIGNED(sum, x, w) asm volatile("tdpbssd %%tmm" #w ", %%tmm" #x ", %%tmm" #sum ::: "memory")

INLINE void amx_begin() {
  struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } config = {};
  config.palette = 1;
  for (int i = 0; i < 8; i++) config.bytes[i] = TILE, config.rows[i] = 16;
  asm volatile("ldtilecfg %0" ::"m"(config) : "memory");
}
INLINE void amx_end() { asm volatile("tilerelease" ::: "memory"); }

// The sums of 16 pixels, of inputs of two bytes, times N = 1 or 2 blocks: to out, [16][N][16]. low, high: the planes
// at the first row of the kernel and the first pixel.
template <int N>
static void amx_two(const AmxLayout &a, int64_t kernel, const uint8_t *low, const uint8_t *high, int64_t stride,
                    const int8_t *w, int64_t block, int32_t *out) {
  TILE_ZERO(0);
  TILE_ZERO(1);
  TILE_ZERO(2);
  TILE_ZERO(3);
  for (int64_t i = 0; i < kernel; i++)
    for (int64_t k = 0; k < a.chunks; k++, w += TILE * 16) {
      TILE_LOAD(6, w, TILE);
      if (N == 2) TILE_LOAD(7, w + block, TILE);
      TILE_LOAD(4, low + i * a.row + k * TILE, stride);
      TILE_LOAD(5, high + i * a.row + k * TILE, stride);
      TILE_UNSIGNED(0, 4, 6);
      if (N == 2) TILE_UNSIGNED(1, 4, 7);
      TILE_SIGNED(2, 5, 6);
      if (N == 2) TILE_SIGNED(3, 5, 7);
    }
  alignas(64) int32_t sums[4][16][16];
  TILE_STORE(0, sums[0]);
  TILE_STORE(2, sums[2]);
  if (N == 2) {
    TILE_STORE(1, sums[1]);
    TILE_STORE(3, sums[3]);
  }
  for (int p = 0; p < 16; p++)
    for (int n = 0; n < N; n++)
      store(out + (p * N + n) * BLOCK, load<i32v>(sums[n][p]) + (load<i32v>(sums[2 + n][p]) << 8));
}

// The same for inputs of a byte, and 32 pixels.
template <int N, bool SIGNED>
static void amx_byte(const AmxLayout &a, int64_t kernel, const uint8_t *x, int64_t stride, const int8_t *w,
                     int64_t block, int32_t *out) {
  TILE_ZERO(0);
  TILE_ZERO(1);
  TILE_ZERO(2);
  TILE_ZERO(3);
  for (int64_t i = 0; i < kernel; i++)
    for (int64_t k = 0; k < a.chunks; k++, w += TILE * 16) {
      const uint8_t *from = x + i * a.row + k * TILE;
      TILE_LOAD(6, w, TILE);
      if (N == 2) TILE_LOAD(7, w + block, TILE);
      TILE_LOAD(4, from, stride);
      TILE_LOAD(5, from + 16 * stride, stride);
      if (SIGNED) {
        TILE_SIGNED(0, 4, 6);
        if (N == 2) TILE_SIGNED(1, 4, 7);
        TILE_SIGNED(2, 5, 6);
        if (N == 2) TILE_SIGNED(3, 5, 7);
      } else {
        TILE_UNSIGNED(0, 4, 6);
        if (N == 2) TILE_UNSIGNED(1, 4, 7);
        TILE_UNSIGNED(2, 5, 6);
        if (N == 2) TILE_UNSIGNED(3, 5, 7);
      }
    }
  const int64_t step = N * BLOCK * 4;
  asm volatile("tilestored %%tmm0, (%0,%1,1)" ::"r"(out), "r"(step) : "memory");
  asm volatile("tilestored %%tmm2, (%0,%1,1)" ::"r"(out + 16 * N * BLOCK), "r"(step) : "memory");
  if (N == 2) {
    asm volatile("tilestored %%tmm1, (%0,%1,1)" ::"r"(out + BLOCK), "r"(step) : "memory");
    asm volatile("tilestored %%tmm3, (%0,%1,1)" ::"r"(out + 16 * N * BLOCK + BLOCK), "r"(step) : "memory");
  }
}

// The low and high bytes of a row of pixels, zeros around it.
static void amx_planes(const ConvArgs &c, const AmxLayout &a, const int16_t *x, uint8_t *low, uint8_t *high) {
  const int64_t pad = c.kernel / 2 * a.depth;
  memset(low, 0, pad), memset(low + a.row - pad, 0, pad);
  if (high) memset(high, 0, pad), memset(high + a.row - pad, 0, pad);
  low += pad;
  if (high) high += pad;
  // pixels in one piece if no channels are added to them
  const int64_t pixels = a.depth == c.inner ? 1 : c.width, length = a.depth == c.inner ? c.width * c.inner : c.inner;
  for (int64_t p = 0; p < pixels; p++, x += length, low += a.depth) {
    for (int64_t k = 0; k < length; k += 32) {
      int n = (int)least<int64_t>(32, length - k);
      i16v v = load_part<i16v>(x + k, n);
      store_part(low + k, _mm512_cvtepi16_epi8((__m512i)v), n);
      if (high) store_part(high + k, _mm512_cvtepi16_epi8((__m512i)(v >> 8)), n);
    }
    for (int64_t k = length; k < a.depth; k++) {
      low[k] = 0;
      if (high) high[k] = 0;
    }
    if (high) high += a.depth;
  }
}

template <int KIND> static int run_amx(const ConvArgs &c) {
  const AmxLayout a(c);
  const int64_t pad = c.kernel / 2, first = c.top * c.stride + c.offset - pad;
  const int64_t rows = (c.bottom - c.top - 1) * c.stride + c.kernel, run = 64;
  const int64_t runs = (c.columns + run - 1) / run;
  // a tile reads on behind the last pixel, into what makes no difference
  const size_t plane = (size_t)rows * a.row + (run * c.stride * a.depth + TILE);
  const bool two = c.form == AMX_TWO;
  uint8_t *low = (uint8_t *)pool_scratch(3, plane * (two ? 2 : 1)), *high = two ? low + plane : nullptr;
  if (!low) return CODEC_NO_MEMORY;
  parallel(rows + 1, [&](int64_t i, int) {
    uint8_t *l = low + i * a.row, *h = two ? high + i * a.row : nullptr;
    const int64_t y = first + i;
    if (i < rows && y >= c.first && y < c.first + c.rows)
      return amx_planes(c, a, c.x + (y - c.first) * c.width * c.inner, l, h);
    const size_t n = i < rows ? a.row : plane - rows * a.row;
    memset(l, 0, n);
    if (two) memset(h, 0, n);
  });
  const int64_t block = amx_block(c.inner, c.kernel), stride = c.stride * a.depth;
  parallel((c.bottom - c.top) * runs, [&](int64_t index, int) {
    const int64_t y = c.top + index / runs, left = index % runs * run, right = least(c.columns, left + run);
    const int64_t corner = (y - c.top) * c.stride * a.row;
    alignas(64) int32_t sums[64 * 2 * BLOCK];
    amx_begin();
    for (int64_t b = 0; b < c.blocks; b += 2) {
      const int64_t n = least<int64_t>(2, c.blocks - b);
      const int8_t *w = (const int8_t *)c.packed + b * block;
      for (int64_t x = left; x < right; x += two ? 16 : 32) {
        // output x looks at the pixels from x * stride + offset - pad on, and planes begin with pad zeros
        const int64_t at = corner + (x * c.stride + c.offset) * a.depth;
        int32_t *out = sums + (x - left) * n * BLOCK;
        if (two && n == 2) amx_two<2>(a, c.kernel, low + at, high + at, stride, w, block, out);
        else if (two) amx_two<1>(a, c.kernel, low + at, high + at, stride, w, block, out);
        else if (c.form == AMX_SIGNED && n == 2) amx_byte<2, true>(a, c.kernel, low + at, stride, w, block, out);
        else if (c.form == AMX_SIGNED) amx_byte<1, true>(a, c.kernel, low + at, stride, w, block, out);
        else if (n == 2) amx_byte<2, false>(a, c.kernel, low + at, stride, w, block, out);
        else amx_byte<1, false>(a, c.kernel, low + at, stride, w, block, out);
      }
      direct_output<KIND>(c, y, left, right - left, b, n, sums);
    }
    amx_end();
  });
  return CODEC_OK;
}
#endif
