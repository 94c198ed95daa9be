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
#elif defined(CODEC_SSE4)
  return acc + (i32v)_mm_madd_epi16((__m128i)a, (__m128i)b);
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
#elif defined(CODEC_SSE4)
  return (f32v)_mm_floor_ps((__m128)x);
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
#elif defined(CODEC_SSE4)
  return (f64v)_mm_floor_pd((__m128d)x);
#elif defined(CODEC_NEON)
  return (f64v)vrndmq_f64((float64x2_t)x);
#else
  for (int i = 0; i < L / 2; i++) x[i] = floor(x[i]);
  return x;
#endif
}

// The integers below x, which has no NaN and whose magnitude is below 2^31.
INLINE i32v floor_to_int(f32v x) {
#if defined(CODEC_AVX512)
  return (i32v)_mm512_cvt_roundps_epi32((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif defined(CODEC_NEON)
  return (i32v)vcvtmq_s32_f32((float32x4_t)x);
#else
  return to_int(floor_(x));
#endif
}

template <class V> INLINE V min_(V a, V b) { return a < b ? a : b; }
template <class V> INLINE V max_(V a, V b) { return a > b ? a : b; }
#if defined(CODEC_AVX512)
INLINE f32v min_(f32v a, f32v b) { return (f32v)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE f32v max_(f32v a, f32v b) { return (f32v)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE f64v min_(f64v a, f64v b) { return (f64v)_mm512_min_pd((__m512d)a, (__m512d)b); }
INLINE f64v max_(f64v a, f64v b) { return (f64v)_mm512_max_pd((__m512d)a, (__m512d)b); }
#elif defined(CODEC_AVX2)
INLINE f32v min_(f32v a, f32v b) { return (f32v)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE f32v max_(f32v a, f32v b) { return (f32v)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE f64v min_(f64v a, f64v b) { return (f64v)_mm256_min_pd((__m256d)a, (__m256d)b); }
INLINE f64v max_(f64v a, f64v b) { return (f64v)_mm256_max_pd((__m256d)a, (__m256d)b); }
#elif defined(CODEC_SSE4)
INLINE f32v min_(f32v a, f32v b) { return (f32v)_mm_min_ps((__m128)a, (__m128)b); }
INLINE f32v max_(f32v a, f32v b) { return (f32v)_mm_max_ps((__m128)a, (__m128)b); }
INLINE f64v min_(f64v a, f64v b) { return (f64v)_mm_min_pd((__m128d)a, (__m128d)b); }
INLINE f64v max_(f64v a, f64v b) { return (f64v)_mm_max_pd((__m128d)a, (__m128d)b); }
#elif defined(CODEC_NEON)
INLINE f32v min_(f32v a, f32v b) { return (f32v)vminq_f32((float32x4_t)a, (float32x4_t)b); }
INLINE f32v max_(f32v a, f32v b) { return (f32v)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
INLINE f64v min_(f64v a, f64v b) { return (f64v)vminq_f64((float64x2_t)a, (float64x2_t)b); }
INLINE f64v max_(f64v a, f64v b) { return (f64v)vmaxq_f64((float64x2_t)a, (float64x2_t)b); }
#endif

INLINE f32v to_float(f64v low, f64v high) { // rounds to nearest even
  hf32v part[2] = {__builtin_convertvector(low, hf32v), __builtin_convertvector(high, hf32v)};
  f32v x;
  memcpy(&x, part, sizeof x);
  return x;
}
INLINE void to_double(f32v x, f64v &low, f64v &high) {
  hf32v part[2];
  memcpy(part, &x, sizeof x);
  low = __builtin_convertvector(part[0], f64v), high = __builtin_convertvector(part[1], f64v);
}
INLINE i32v joined(h32v low, h32v high) {
  h32v part[2] = {low, high};
  i32v x;
  memcpy(&x, part, sizeof x);
  return x;
}

// The first n lanes from p, the others 0, and the first n lanes to p: no more is read or written. n from 1 on.
template <class V, class T> INLINE V load_part(const T *p, int n) {
  if (n == (int)(sizeof(V) / sizeof(T))) return load<V>(p);
#if defined(CODEC_AVX512)
  if constexpr (sizeof(T) == 2 && sizeof(V) == 64) return (V)_mm512_maskz_loadu_epi16((__mmask32)((1u << n) - 1), p);
  else if constexpr (sizeof(T) == 2 && sizeof(V) == 32) return (V)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p);
  else if constexpr (sizeof(T) == 4 && sizeof(V) == 64) return (V)_mm512_maskz_loadu_epi32((__mmask16)((1u << n) - 1), p);
#endif
  V v = {};
  memcpy(&v, p, n * sizeof(T));
  return v;
}
template <class V, class T> INLINE void store_part(T *p, V v, int n) {
  if (n == (int)(sizeof(V) / sizeof(T))) return store(p, v);
#if defined(CODEC_AVX512)
  if constexpr (sizeof(T) == 4 && sizeof(V) == 64)
    return _mm512_mask_storeu_epi32(p, (__mmask16)((1u << n) - 1), (__m512i)v);
  else if constexpr (sizeof(T) == 2 && sizeof(V) == 32)
    return _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), (__m256i)v);
#endif
  memcpy(p, &v, n * sizeof(T));
}
INLINE void store16_part(int16_t *p, i32v x, int n) { store_part(p, __builtin_convertvector(x, h16v), n); }
