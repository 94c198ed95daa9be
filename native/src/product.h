// The inner product of all convolutions in 16 bits: some rows of activations times packed weights, mod 2^32.
//
// Packed weights: for each block of 16 output channels [pairs of inner channels][16][2], whatever the instruction set.

constexpr int BLOCK = 16;
constexpr int VB = BLOCK / L; // vectors of a block
#if defined(CODEC_AVX512)
constexpr int ROWS = 8, GROUP = 3; // rows and blocks that the registers hold: 24 sums of 32 registers
#elif defined(CODEC_AVX2)
constexpr int ROWS = 6, GROUP = 1; // 12 of 16
#elif defined(CODEC_NEON)
constexpr int ROWS = 6, GROUP = 1; // 24 of 32
#else
constexpr int ROWS = 2, GROUP = 1;
#endif

// sums[r] += a[r][0 ... 2 pairs - 1] times the weights of N blocks, the next `step` numbers behind one.
template <int N>
INLINE void product(const int16_t *const *a, const int16_t *w, [[maybe_unused]] size_t step, int64_t pairs,
                    i32v (&sums)[ROWS][N * VB]) {
#if defined(CODEC_NEON)
  static_assert(N == 1, "a block at a time");
  for (int64_t k = 0; k < pairs; k++, w += 2 * BLOCK) {
    int16x8x2_t low = vld2q_s16(w), high = vld2q_s16(w + 16); // even and odd inner channels apart
    UNROLL for (int r = 0; r < ROWS; r++) {
      int32_t two;
      memcpy(&two, a[r] + 2 * k, 4);
      int16x4_t x = vreinterpret_s16_s32(vdup_n_s32(two));
      int32x4_t s0 = (int32x4_t)sums[r][0], s1 = (int32x4_t)sums[r][1];
      int32x4_t s2 = (int32x4_t)sums[r][2], s3 = (int32x4_t)sums[r][3];
      s0 = vmlal_lane_s16(s0, vget_low_s16(low.val[0]), x, 0), s1 = vmlal_high_lane_s16(s1, low.val[0], x, 0);
      s2 = vmlal_lane_s16(s2, vget_low_s16(high.val[0]), x, 0), s3 = vmlal_high_lane_s16(s3, high.val[0], x, 0);
      s0 = vmlal_lane_s16(s0, vget_low_s16(low.val[1]), x, 1), s1 = vmlal_high_lane_s16(s1, low.val[1], x, 1);
      s2 = vmlal_lane_s16(s2, vget_low_s16(high.val[1]), x, 1), s3 = vmlal_high_lane_s16(s3, high.val[1], x, 1);
      sums[r][0] = (i32v)s0, sums[r][1] = (i32v)s1, sums[r][2] = (i32v)s2, sums[r][3] = (i32v)s3;
    }
  }
#else
  auto step_by = [&](int64_t k, const int16_t *at) __attribute__((always_inline)) {
    i16v weights[N * VB];
    UNROLL for (int n = 0; n < N; n++)
      UNROLL for (int v = 0; v < VB; v++) weights[n * VB + v] = load<i16v>(at + n * step + 2 * L * v);
    UNROLL for (int r = 0; r < ROWS; r++) {
      i16v x = pair(a[r] + 2 * k);
      UNROLL for (int n = 0; n < N * VB; n++) sums[r][n] = madd(sums[r][n], x, weights[n]);
    }
  };
  int64_t k = 0;
#if defined(CODEC_AVX512) // others have too few registers for what compilers make of it
  for (; k + 4 <= pairs; k += 4, w += 8 * BLOCK)
    UNROLL for (int u = 0; u < 4; u++) step_by(k + u, w + u * 2 * BLOCK);
#endif
  for (; k < pairs; k++, w += 2 * BLOCK) step_by(k, w);
#endif
}

// Calls body(integer constant N, first block) for groups of at most GROUP blocks, about the same in size.
template <int N> struct Number { static constexpr int value = N; };
template <class F> INLINE void for_groups(int64_t blocks, F &&body) {
  int64_t groups = (blocks + GROUP - 1) / GROUP, block = 0;
  for (int64_t g = 0; g < groups; g++) {
    int64_t n = blocks / groups + (g < blocks % groups);
#if defined(CODEC_AVX512)
    if (n == 3) body(Number<3>(), block);
    else if (n == 2) body(Number<2>(), block);
    else
#endif
      body(Number<1>(), block);
    block += n;
  }
}
