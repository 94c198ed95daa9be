// Convolutions in 16 bits, zero-padded, whose sums fit 32 bits: by the definition or in a form of Winograd's, each with
// its epilogue. native/conv.py is their caller, has the twin, and proves the bounds.

enum ConvForm { DIRECT = 0, F22 = 22, F24 = 24, F44 = 44 };

// Packs the weights (outer, inner, kernel, kernel) of `blocks` blocks, whose channels are order[], -1: none. packed:
// [products][blocks][pairs][16][2] for Winograd's forms, else [blocks][kernel * kernel][pairs][16][2].
// CODEC_DAMAGED if a transformed weight leaves 16 bits, or AMX's 8.
int conv_pack(const int16_t *weight, int64_t inner, int64_t kernel, int64_t form, const int32_t *order, int64_t blocks,
              int16_t *packed) {
  const int64_t taps = kernel * kernel;
  const size_t step = (inner + 1) / 2 * 2 * BLOCK;
  int status = CODEC_OK;
  parallel(blocks, [&](int64_t block, int) {
    const int32_t *channels = order + block * BLOCK;
    bool fits = true;
    if (form == F44) fits = pack_winograd<4, 4>(weight, inner, channels, packed + block * step, blocks * step);
    else if (form == F24) fits = pack_winograd<2, 4>(weight, inner, channels, packed + block * step, blocks * step);
    else if (form == F22) fits = pack_winograd<2, 2>(weight, inner, channels, packed + block * step, blocks * step);
    else if (form == AMX_UNSIGNED || form == AMX_SIGNED || form == AMX_TWO)
      fits = pack_amx(weight, inner, kernel, channels, (int8_t *)packed + block * amx_block(inner, kernel));
    else {
      int16_t *w = packed + block * taps * step;
      memset(w, 0, taps * step * 2);
      for (int o = 0; o < BLOCK; o++)
        for (int64_t c = 0; c < inner && channels[o] >= 0; c++)
          for (int64_t t = 0; t < taps; t++)
            w[t * step + c / 2 * 2 * BLOCK + 2 * o + c % 2] = weight[(channels[o] * inner + c) * taps + t];
    }
    if (!fits) __atomic_store_n(&status, (int)CODEC_DAMAGED, __ATOMIC_RELAXED);
  });
  return status;
}

// The sums of ROWS outputs of row y, from column x on, for N blocks from `block` on: to out, [ROWS][N][16].
template <int N>
static void direct_sums(const ConvArgs &c, const int16_t *zeros, int64_t y, int64_t x, int64_t block, int32_t *out) {
  const int64_t pairs = c.inner / 2, pad = c.kernel / 2;
  const size_t step = pairs * 2 * BLOCK, block_step = c.kernel * c.kernel * step;
  i32v sums[ROWS][N * VB];
  UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int n = 0; n < N * VB; n++) sums[r][n] = i32v{};
  for (int64_t i = 0; i < c.kernel; i++) {
    int64_t from = y * c.stride + c.offset + i - pad;
    if (from < c.first || from >= c.first + c.rows) continue; // beyond the picture: zeros
    const int16_t *row = c.x + (from - c.first) * c.width * c.inner;
    for (int64_t j = 0; j < c.kernel; j++) {
      const int16_t *a[ROWS];
      UNROLL for (int r = 0; r < ROWS; r++) {
        int64_t at = (x + r) * c.stride + c.offset + j - pad;
        a[r] = at >= 0 && at < c.width ? row + at * c.inner : zeros;
      }
      product<N>(a, c.packed + block * block_step + (i * c.kernel + j) * step, block_step, pairs, sums);
    }
  }
  UNROLL for (int r = 0; r < ROWS; r++)
    UNROLL for (int n = 0; n < N * VB; n++) store(out + (r * N * VB + n) * L, sums[r][n]);
}

template <int KIND> static int run_direct(ConvArgs c) {
  // zeros for what is beyond the edges; and an odd number of channels gets one more, of zeros
  const int64_t inner = (c.inner + 1) / 2 * 2, pixels = c.rows * c.width;
  const bool odd = inner != c.inner;
  int16_t *zeros = (int16_t *)pool_scratch(3, (inner + (odd ? pixels * inner : 0)) * 2);
  if (!zeros) return CODEC_NO_MEMORY;
  memset(zeros, 0, inner * 2);
  if (odd) {
    int16_t *even = zeros + inner;
    for (int64_t i = 0; i < pixels; i++) {
      memcpy(even + i * inner, c.x + i * c.inner, c.inner * 2);
      even[i * inner + c.inner] = 0;
    }
    c.x = even, c.inner = inner;
  }
  const int64_t run = 8 * ROWS, runs = (c.columns + run - 1) / run;
  parallel((c.bottom - c.top) * runs, [&](int64_t index, int) {
    int64_t y = c.top + index / runs, left = index % runs * run, right = least(c.columns, left + run);
    for_groups(c.blocks, [&](auto number, int64_t block) {
      constexpr int N = decltype(number)::value;
      alignas(64) int32_t sums[8 * ROWS * N * BLOCK];
      for (int64_t x = left; x < right; x += ROWS)
        direct_sums<N>(c, zeros, y, x, block, sums + (x - left) * N * BLOCK);
      direct_output<KIND>(c, y, left, right - left, block, N, sums);
    });
  });
  return CODEC_OK;
}

template <int KIND> static int run_kind(const ConvArgs &c) {
  switch (c.form) {
  case F44: return Tiles<4, 4>(c).template run<KIND>();
  case F24: return Tiles<2, 4>(c).template run<KIND>();
  case F22: return Tiles<2, 2>(c).template run<KIND>();
#if defined(CODEC_AMX)
  case AMX_UNSIGNED:
  case AMX_SIGNED:
  case AMX_TWO: return run_amx<KIND>(c);
#endif
  case DIRECT: return run_direct<KIND>(c);
  default: return CODEC_BAD_CALL;
  }
}

int conv_run(const ConvArgs *c) {
  switch (kind_of(*c)) {
  case WIDE: return run_kind<WIDE>(*c);
  case ONLY_OUT: return run_kind<ONLY_OUT>(*c);
  case RESIDUAL_BLOCK: return run_kind<RESIDUAL_BLOCK>(*c);
  default: return run_kind<ANY>(*c);
  }
}
