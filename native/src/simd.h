// Vectors of one instruction set, in GCC's vector extensions: + - * << >> compare as for numbers, and wrap around.
//
// L: lanes of 32 bits. i16 has 2 L lanes, i32 and f32 L, f64 and half-width h32 L / 2. What the language has no operator
// for is below; each does the same on all instruction sets. Included inside the namespace of an instruction set, after
// its target pragma.

#if defined(CODEC_AVX512)
constexpr int L = 16;
#elif defined(CODEC_AVX2)
constexpr int L = 8;
#else
constexpr int L = 4;
#endif

typedef int16_t i16v __attribute__((vector_size(4 * L)));
typedef int32_t i32v __attribute__((vector_size(4 * L)));
typedef uint32_t u32v __attribute__((vector_size(4 * L)));
typedef float f32v __attribute__((vector_size(4 * L)));
typedef double f64v __attribute__((vector_size(4 * L)));
typedef int64_t i64v __attribute__((vector_size(4 * L)));
typedef int32_t h32v __attribute__((vector_size(2 * L)));
typedef int16_t h16v __attribute__((vector_size(2 * L))); // L lanes of 16 bits
typedef float hf32v __attribute__((vector_size(2 * L)));

template <class V, class T> INLINE V load(const T *p) { // not aligned
  V v;
  memcpy(&v, p, sizeof v);
  return v;
}
template <class V, class T> INLINE void store(T *p, V v) { memcpy(p, &v, sizeof v); }

INLINE i32v all32(int32_t x) { return i32v{} + x; }
INLINE f32v allf(float x) { return f32v{} + x; }
INLINE f64v alld(double x) { return f64v{} + x; }

// acc + a[2i] b[2i] + a[2i+1] b[2i+1], mod 2^32
INLINE i32v madd(i32v acc, i16v a, i16v b) {
#if defined(CODEC_AVX512)
  return (i32v)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)a, (__m512i)b);
#elif defined(CODEC_AVX2)
  return acc + (i32v)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(CODEC_NEON)
  int32x4_t low = vmull_s16(vget_low_s16((int16x8_t)a), vget_low_s16((int16x8_t)b));
  int32x4_t high = vmull_high_s16((int16x8_t)a, (int16x8_t)b);
  return acc + (i32v)vpaddq_s32(low, high);
#else
  i32v even = (((i32v)a << 16) >> 16) * (((i32v)b << 16) >> 16);
  i32v odd = ((i32v)a >> 16) * ((i32v)b >> 16);
  return acc + even + odd;
#endif
}

// The pair of numbers at p in all lanes.
INLINE i16v pair(const int16_t *p) {
  int32_t x;
  memcpy(&x, p, 4);
  return (i16v)all32(x);
}

INLINE i32v from16(h16v x) { return __builtin_convertvector(x, i32v); }
INLINE f32v to_float(i32v x) { return __builtin_convertvector(x, f32v); } // rounds to nearest even beyond 2^24
INLINE i32v to_int(f32v x) { return __builtin_convertvector(x, i32v); }   // towards zero; |x| < 2^31
INLINE f64v to_double(h32v x) { return __builtin_convertvector(x, f64v); }
INLINE h32v to_int(f64v x) { return __builtin_convertvector(x, h32v); }
INLINE void to_double(i32v x, f64v &low, f64v &high) {
  h32v part[2];
  memcpy(part, &x, sizeof x);
  low = to_double(part[0]), high = to_double(part[1]);
}

// The low 16 bits of each lane: exact if the numbers fit.
INLINE void store16(int16_t *p, i32v x) { store(p, __builtin_convertvector(x, h16v)); }

INLINE f32v floor_(f32v x) {
#if defined(CODEC_AVX512)
  return (f32v)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif defined(CODEC_AVX2)
  return (f32v)_mm256_floor_ps((__m256)x);
#elif defined(CODEC_NEON)
  return (f32v)vrndmq_f32((float32x4_t)x);
#else
  for (int i = 0; i < L; i++) x[i] = floorf(x[i]);
  return x;
#endif
}
INLINE f64v floor_(f64v x) {
#if defined(CODEC_AVX512)
  return (f64v)_mm512_roundscale_pd((__m512d)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif defined(CODEC_AVX2)
  return (f64v)_mm256_floor_pd((__m256d)x);
#elif defined(CODEC_NEON)
  return (f64v)vrndmq_f64((float64x2_t)x);
#else
  for (int i = 0; i < L / 2; i++) x[i] = floor(x[i]);
  return x;
#endif
}

template <class V> INLINE V min_(V a, V b) { return a < b ? a : b; }
template <class V> INLINE V max_(V a, V b) { return a > b ? a : b; }
