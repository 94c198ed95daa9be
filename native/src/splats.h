// The rasteriser of 3D Gaussians: EWA projection, lists for tiles of 16x16, and compositing front to back, with gradients.
//
// Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", SIGGRAPH 2023, arXiv 2308.04079. L
// Gaussians at a time are projected, L pixels of a row of a tile are composited. Results are the same bits for any
// number of threads: tiles are apart, and gradients of an ellipse are kept for each tile and added in their order.
// Instruction sets may differ in the last bits. An ellipse reaches as far as its alpha is not ignored.

constexpr float SPLAT_NEAREST = 0.01f, SPLAT_DILATION = 0.3f, SPLAT_FRAME = 0.3f;
constexpr float SPLAT_MOST_ALPHA = 0.99f, SPLAT_LEAST_ALPHA = 1.0f / 255, SPLAT_LEAST_LIGHT = 1e-4f;
constexpr int SPLAT_TILE = 16, SPLAT_VB = SPLAT_TILE / L; // vectors of a row of a tile
constexpr int SPLAT_GRADIENTS = 9;

INLINE bool splat_any(i32v x) { // x: lanes of 0 or -1
#if defined(CODEC_AVX512)
  return _mm512_movepi32_mask((__m512i)x) != 0;
#elif defined(CODEC_AVX2)
  return _mm256_movemask_ps((__m256)x) != 0;
#elif defined(CODEC_SSE4)
  return _mm_movemask_ps((__m128)x) != 0;
#elif defined(CODEC_NEON)
  return vmaxvq_u32((uint32x4_t)x) != 0;
#else
  int32_t any = 0;
  for (int i = 0; i < L; i++) any |= x[i];
  return any != 0;
#endif
}

INLINE f32v splat_sqrt(f32v x) {
#if defined(CODEC_AVX512)
  return (f32v)_mm512_sqrt_ps((__m512)x);
#elif defined(CODEC_AVX2)
  return (f32v)_mm256_sqrt_ps((__m256)x);
#elif defined(CODEC_SSE4)
  return (f32v)_mm_sqrt_ps((__m128)x);
#elif defined(CODEC_NEON)
  return (f32v)vsqrtq_f32((float32x4_t)x);
#else
  for (int i = 0; i < L; i++) x[i] = sqrtf(x[i]);
  return x;
#endif
}

INLINE f32v splat_exp(f32v x) { // of x from -87 to 0, within 2 units in the last place
  f32v n = floor_(fma_(x, spread(1.44269504088896341f), spread(0.5f)));
  x = fma_(n, spread(-0.693359375f), x);
  x = fma_(n, spread(2.12194440e-4f), x);
  f32v p = fma_(spread(1.9875691500e-4f), x, spread(1.3981999507e-3f));
  p = fma_(p, x, spread(8.3334519073e-3f));
  p = fma_(p, x, spread(4.1665795894e-2f));
  p = fma_(p, x, spread(1.6666665459e-1f));
  p = fma_(p, x, spread(5.0000001201e-1f));
  p = fma_(p, x * x, x + 1.0f);
  return p * (f32v)((to_int(n) + 127) << 23);
}

INLINE float splat_sum(f32v x) { // of the lanes, by halves
  float v[L];
  store(v, x);
  for (int half = L / 2; half; half /= 2)
    for (int i = 0; i < half; i++) v[i] += v[i + half];
  return v[0];
}

INLINE i32v splat_finite(f32v x) { return x - x == 0.0f; }

// ---- projection: L Gaussians at a time

struct Vec3 {
  f32v x, y, z;
};
INLINE Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
INLINE Vec3 operator-(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
INLINE Vec3 operator*(Vec3 a, f32v s) { return {a.x * s, a.y * s, a.z * s}; }
INLINE f32v dot(Vec3 a, Vec3 b) { return fma_(a.x, b.x, fma_(a.y, b.y, a.z * b.z)); }
INLINE Vec3 cross(Vec3 a, Vec3 b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
INLINE Vec3 times(Vec3 a, Vec3 b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }

template <int N> INLINE void splat_take(const float *p, int64_t stride, int n, f32v *out) { // N numbers of n Gaussians
  alignas(64) float lanes[N][L];
  for (int i = 0; i < L; i++) {
    const float *from = p + stride * (i < n ? i : n - 1);
    for (int j = 0; j < N; j++) lanes[j][i] = from[j];
  }
  for (int j = 0; j < N; j++) out[j] = load<f32v>(lanes[j]);
}
template <int N> INLINE void splat_give(float *p, int64_t stride, int n, const f32v *in) {
  alignas(64) float lanes[N][L];
  for (int j = 0; j < N; j++) store(lanes[j], in[j]);
  for (int i = 0; i < n; i++)
    for (int j = 0; j < N; j++) p[stride * i + j] = lanes[j][i];
}

// L ellipses on their way: what projection and its gradients both need.
struct SplatLanes {
  Vec3 mean, eye, scale, away, direction; // eye: the mean in the axes of the camera
  f32v depth, length, norm;               // length: of away; norm: of the quaternion
  f32v w, x, y, z;                        // the unit quaternion
  f32v slope_x, slope_y;
  i32v ahead, free_x, free_y; // free: the slope wasn't clamped
  Vec3 t0, t1;                // rows of the Jacobian in the axes of the world
  Vec3 r0, r1, r2;            // rows of the rotation
  Vec3 u0, u1;                // t0, t1 times the rotation
  Vec3 m0, m1, normal;        // the axes: u times the scales; their cross product
  f32v xx, xy, yy, area;      // the dilated covariance and its determinant
};

INLINE f32v splat_unsigned(f32v x) { return max_(x, -x); }

INLINE void splat_lanes(const SplatScene *s, int64_t at, int n, SplatLanes &o) {
  f32v v[4];
  splat_take<3>(s->means + 3 * at, 3, n, v);
  o.mean = {v[0], v[1], v[2]};
  const float *m = s->view;
  o.eye.x = fma_(spread(m[0]), v[0], fma_(spread(m[1]), v[1], fma_(spread(m[2]), v[2], spread(m[3]))));
  o.eye.y = fma_(spread(m[4]), v[0], fma_(spread(m[5]), v[1], fma_(spread(m[6]), v[2], spread(m[7]))));
  o.eye.z = fma_(spread(m[8]), v[0], fma_(spread(m[9]), v[1], fma_(spread(m[10]), v[2], spread(m[11]))));
  o.ahead = o.eye.z > SPLAT_NEAREST;
  o.depth = o.ahead ? o.eye.z : spread(1.0f);
  o.away = {v[0] - s->centre[0], v[1] - s->centre[1], v[2] - s->centre[2]};
  o.length = max_(splat_sqrt(dot(o.away, o.away)), spread(1e-12f));
  o.direction = o.away * (1.0f / o.length);
  splat_take<3>(s->scales + 3 * at, 3, n, v);
  o.scale = {v[0], v[1], v[2]};
  splat_take<4>(s->quaternions + 4 * at, 4, n, v);
  f32v square = fma_(v[0], v[0], fma_(v[1], v[1], fma_(v[2], v[2], v[3] * v[3])));
  o.norm = max_(splat_sqrt(square), spread(1e-12f));
  f32v inverse = 1.0f / o.norm;
  f32v w = v[0] * inverse, x = v[1] * inverse, y = v[2] * inverse, z = v[3] * inverse;
  o.w = w, o.x = x, o.y = y, o.z = z;
  o.r0 = {1.0f - 2.0f * (y * y + z * z), 2.0f * (x * y - w * z), 2.0f * (x * z + w * y)};
  o.r1 = {2.0f * (x * y + w * z), 1.0f - 2.0f * (x * x + z * z), 2.0f * (y * z - w * x)};
  o.r2 = {2.0f * (x * z - w * y), 2.0f * (y * z + w * x), 1.0f - 2.0f * (x * x + y * y)};
  float fx = s->intrinsics[0], fy = s->intrinsics[1], cx = s->intrinsics[2], cy = s->intrinsics[3];
  float half_x = SPLAT_FRAME * s->width / 2 / fx, half_y = SPLAT_FRAME * s->height / 2 / fy;
  f32v near = 1.0f / o.depth, across = o.eye.x * near, down = o.eye.y * near;
  o.slope_x = min_(max_(across, spread(-cx / fx - half_x)), spread((s->width - cx) / fx + half_x));
  o.slope_y = min_(max_(down, spread(-cy / fy - half_y)), spread((s->height - cy) / fy + half_y));
  o.free_x = o.slope_x == across, o.free_y = o.slope_y == down;
  f32v jx = fx * near, jy = fy * near, kx = -jx * o.slope_x, ky = -jy * o.slope_y;
  o.t0 = {fma_(jx, spread(m[0]), kx * m[8]), fma_(jx, spread(m[1]), kx * m[9]), fma_(jx, spread(m[2]), kx * m[10])};
  o.t1 = {fma_(jy, spread(m[4]), ky * m[8]), fma_(jy, spread(m[5]), ky * m[9]), fma_(jy, spread(m[6]), ky * m[10])};
  o.u0 = o.r0 * o.t0.x + o.r1 * o.t0.y + o.r2 * o.t0.z;
  o.u1 = o.r0 * o.t1.x + o.r1 * o.t1.y + o.r2 * o.t1.z;
  o.m0 = times(o.u0, o.scale), o.m1 = times(o.u1, o.scale);
  o.normal = cross(o.m0, o.m1); // the determinant by minors, since xx yy - xy^2 cancels for needles
  o.xx = dot(o.m0, o.m0), o.xy = dot(o.m0, o.m1), o.yy = dot(o.m1, o.m1);
  o.area = dot(o.normal, o.normal) + SPLAT_DILATION * (o.xx + o.yy) + SPLAT_DILATION * SPLAT_DILATION;
  o.xx += SPLAT_DILATION, o.yy += SPLAT_DILATION;
}

constexpr float SH0 = 0.28209479177387814f, SH1 = 0.4886025119029199f;
constexpr float SH20 = 1.0925484305920792f, SH21 = 0.31539156525252005f, SH22 = 0.5462742152960396f;
constexpr float SH30 = 0.5900435899266435f, SH31 = 2.890611442640554f, SH32 = 0.4570457994644658f;
constexpr float SH33 = 0.3731763325901154f, SH34 = 1.445305721320277f;

INLINE void splat_basis(Vec3 d, int degree, f32v *b) {
  f32v x = d.x, y = d.y, z = d.z;
  b[0] = spread(SH0);
  if (degree < 1) return;
  b[1] = -SH1 * y, b[2] = SH1 * z, b[3] = -SH1 * x;
  if (degree < 2) return;
  f32v xx = x * x, yy = y * y, zz = z * z;
  b[4] = SH20 * x * y, b[5] = -SH20 * y * z, b[6] = SH21 * (2.0f * zz - xx - yy), b[7] = -SH20 * x * z;
  b[8] = SH22 * (xx - yy);
  if (degree < 3) return;
  b[9] = -SH30 * y * (3.0f * xx - yy), b[10] = SH31 * x * y * z, b[11] = -SH32 * y * (4.0f * zz - xx - yy);
  b[12] = SH33 * z * (2.0f * zz - 3.0f * xx - 3.0f * yy), b[13] = -SH32 * x * (4.0f * zz - xx - yy);
  b[14] = SH34 * z * (xx - yy), b[15] = -SH30 * x * (xx - 3.0f * yy);
}

// The gradient of the direction, from the gradients g of the terms of the basis.
INLINE Vec3 splat_basis_back(Vec3 d, int degree, const f32v *g) {
  f32v x = d.x, y = d.y, z = d.z;
  Vec3 v = {f32v{}, f32v{}, f32v{}};
  if (degree < 1) return v;
  v = {-SH1 * g[3], -SH1 * g[1], SH1 * g[2]};
  if (degree < 2) return v;
  v.x += SH20 * (y * g[4] - z * g[7]) - 2.0f * SH21 * x * g[6] + 2.0f * SH22 * x * g[8];
  v.y += SH20 * (x * g[4] - z * g[5]) - 2.0f * SH21 * y * g[6] - 2.0f * SH22 * y * g[8];
  v.z += -SH20 * (y * g[5] + x * g[7]) + 4.0f * SH21 * z * g[6];
  if (degree < 3) return v;
  f32v xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
  v.x += -6.0f * SH30 * xy * g[9] + SH31 * yz * g[10] + 2.0f * SH32 * xy * g[11] - 6.0f * SH33 * xz * g[12];
  v.x += -SH32 * (4.0f * zz - 3.0f * xx - yy) * g[13] + 2.0f * SH34 * xz * g[14] - 3.0f * SH30 * (xx - yy) * g[15];
  v.y += -3.0f * SH30 * (xx - yy) * g[9] + SH31 * xz * g[10] - SH32 * (4.0f * zz - xx - 3.0f * yy) * g[11];
  v.y += -6.0f * SH33 * yz * g[12] + 2.0f * SH32 * xy * g[13] - 2.0f * SH34 * yz * g[14] + 6.0f * SH30 * xy * g[15];
  v.z += SH31 * xy * g[10] - 8.0f * SH32 * yz * g[11] + SH33 * (6.0f * zz - 3.0f * xx - 3.0f * yy) * g[12];
  v.z += -8.0f * SH32 * xz * g[13] + SH34 * (xx - yy) * g[14];
  return v;
}

// The colours of n Gaussians before they are held above 0.
template <int DEGREE> INLINE Vec3 splat_colour(const SplatScene *s, int64_t at, int n, Vec3 direction) {
  constexpr int K = (DEGREE + 1) * (DEGREE + 1);
  f32v b[K], h[3];
  splat_basis(direction, DEGREE, b);
  f32v c[3] = {spread(0.5f), spread(0.5f), spread(0.5f)};
  const float *from = s->harmonics + 3 * s->coefficients * at;
  UNROLL for (int k = 0; k < K; k++) {
    splat_take<3>(from + 3 * k, 3 * s->coefficients, n, h);
    for (int i = 0; i < 3; i++) c[i] = fma_(b[k], h[i], c[i]);
  }
  return {c[0], c[1], c[2]};
}

template <int DEGREE> static void splat_project(const SplatScene *s, int64_t at, int n) {
  SplatLanes o;
  splat_lanes(s, at, n, o);
  float fx = s->intrinsics[0], fy = s->intrinsics[1], cx = s->intrinsics[2], cy = s->intrinsics[3];
  f32v near = 1.0f / o.depth, opacity[1];
  f32v place[2] = {fx * o.eye.x * near + cx, fy * o.eye.y * near + cy};
  f32v conic[3] = {o.yy / o.area, -o.xy / o.area, o.xx / o.area};
  splat_take<1>(s->opacities + at, 1, n, opacity);
  Vec3 shade = splat_colour<DEGREE>(s, at, n, o.direction);
  i32v fine = o.ahead & splat_finite(conic[0]) & splat_finite(conic[1]) & splat_finite(conic[2]);
  fine &= splat_finite(shade.x) & splat_finite(shade.y) & splat_finite(shade.z);
  fine &= splat_finite(o.area) & splat_finite(place[0]) & splat_finite(place[1]) & splat_finite(opacity[0]) & splat_finite(o.depth);
  f32v colour[3] = {max_(shade.x, f32v{}), max_(shade.y, f32v{}), max_(shade.z, f32v{})};
  fine &= opacity[0] >= SPLAT_LEAST_ALPHA;
  f32v strength{};
  for (int i = 0; i < L; i++)
    if (fine[i]) strength[i] = 2 * logf(opacity[0][i] * 255);
  f32v reach[2] = {splat_sqrt(max_(strength * o.xx, f32v{})), splat_sqrt(max_(strength * o.yy, f32v{}))};
  fine &= (place[0] + reach[0] > 0.0f) & (place[0] - reach[0] < (float)s->width);
  fine &= (place[1] + reach[1] > 0.0f) & (place[1] - reach[1] < (float)s->height);
  f32v half = 0.5f * (o.xx - o.yy);
  f32v largest = 0.5f * (o.xx + o.yy) + splat_sqrt(fma_(half, half, o.xy * o.xy));
  f32v radius = min_(max_(-floor_(-3.0f * splat_sqrt(largest)), spread(1.0f)), spread(16777216.0f));
  radius = radius == radius ? radius : spread(1.0f);
  for (int i = 0; i < 2; i++) place[i] = fine ? place[i] : f32v{}, reach[i] = fine ? reach[i] : f32v{};
  for (int i = 0; i < 3; i++) conic[i] = fine ? conic[i] : f32v{}, colour[i] = fine ? colour[i] : f32v{};
  f32v depth = fine ? o.depth : f32v{};
  splat_give<2>(s->means2d + 2 * at, 2, n, place);
  splat_give<3>(s->conics + 3 * at, 3, n, conic);
  splat_give<3>(s->colours + 3 * at, 3, n, colour);
  splat_give<1>(s->depths + at, 1, n, &depth);
  splat_give<2>(s->reach + 2 * at, 2, n, reach);
  i32v radii = to_int(fine ? radius : f32v{});
  for (int i = 0; i < n; i++) s->radii[at + i] = radii[i];
}

// The gradients of a quaternion of any length, from those of the rows of its rotation.
INLINE void splat_turn_back(const SplatLanes &o, Vec3 a, Vec3 b, Vec3 c, f32v *q) {
  f32v w = o.w, x = o.x, y = o.y, z = o.z;
  f32v gw = 2.0f * (z * (b.x - a.y) + y * (a.z - c.x) + x * (c.y - b.z));
  f32v gx = 2.0f * (y * (a.y + b.x) + z * (a.z + c.x) - 2.0f * x * (b.y + c.z) + w * (c.y - b.z));
  f32v gy = 2.0f * (x * (a.y + b.x) + z * (b.z + c.y) - 2.0f * y * (a.x + c.z) + w * (a.z - c.x));
  f32v gz = 2.0f * (x * (a.z + c.x) + y * (b.z + c.y) - 2.0f * z * (a.x + b.y) + w * (b.x - a.y));
  f32v along = w * gw + x * gx + y * gy + z * gz, inverse = 1.0f / o.norm;
  q[0] = (gw - w * along) * inverse, q[1] = (gx - x * along) * inverse;
  q[2] = (gy - y * along) * inverse, q[3] = (gz - z * along) * inverse;
}

template <int DEGREE> static void splat_project_back(const SplatScene *s, int64_t at, int n) {
  constexpr int K = (DEGREE + 1) * (DEGREE + 1);
  int32_t any = 0;
  for (int i = 0; i < n; i++) any |= s->radii[at + i];
  if (!any) return; // the gradients are 0 already
  SplatLanes o;
  splat_lanes(s, at, n, o);
  i32v seen{};
  for (int i = 0; i < n; i++) seen[i] = s->radii[at + i] > 0 ? -1 : 0;
  f32v v2[2], vc[3], vs[3];
  splat_take<2>(s->v_means2d + 2 * at, 2, n, v2);
  splat_take<3>(s->v_conics + 3 * at, 3, n, vc);
  splat_take<3>(s->v_colours + 3 * at, 3, n, vs);

  // colours
  Vec3 shade = splat_colour<DEGREE>(s, at, n, o.direction);
  vs[0] = shade.x >= 0.0f ? vs[0] : f32v{};
  vs[1] = shade.y >= 0.0f ? vs[1] : f32v{};
  vs[2] = shade.z >= 0.0f ? vs[2] : f32v{};
  f32v b[K], g[K], h[3];
  splat_basis(o.direction, DEGREE, b);
  const float *from = s->harmonics + 3 * s->coefficients * at;
  float *to = s->v_harmonics + 3 * s->coefficients * at;
  UNROLL for (int k = 0; k < K; k++) {
    splat_take<3>(from + 3 * k, 3 * s->coefficients, n, h);
    g[k] = fma_(h[0], vs[0], fma_(h[1], vs[1], h[2] * vs[2]));
    for (int i = 0; i < 3; i++) h[i] = seen ? b[k] * vs[i] : f32v{};
    splat_give<3>(to + 3 * k, 3 * s->coefficients, n, h);
  }
  Vec3 turned = splat_basis_back(o.direction, DEGREE, g);
  Vec3 v_mean = (turned - o.direction * dot(o.direction, turned)) * (1.0f / o.length);

  // conics to the covariance, to its axes
  f32v inverse = 1.0f / o.area;
  f32v v_area = -(vc[0] * o.yy - vc[1] * o.xy + vc[2] * o.xx) * inverse * inverse;
  f32v v_xx = vc[2] * inverse + SPLAT_DILATION * v_area, v_yy = vc[0] * inverse + SPLAT_DILATION * v_area;
  f32v v_xy = -vc[1] * inverse;
  Vec3 v_m0 = o.m0 * (2.0f * v_xx) + o.m1 * v_xy + cross(o.m1, o.normal) * (2.0f * v_area);
  Vec3 v_m1 = o.m1 * (2.0f * v_yy) + o.m0 * v_xy + cross(o.normal, o.m0) * (2.0f * v_area);
  Vec3 v_scale = times(v_m0, o.u0) + times(v_m1, o.u1);
  Vec3 v_u0 = times(v_m0, o.scale), v_u1 = times(v_m1, o.scale);
  f32v q[4];
  splat_turn_back(o, v_u0 * o.t0.x + v_u1 * o.t1.x, v_u0 * o.t0.y + v_u1 * o.t1.y, v_u0 * o.t0.z + v_u1 * o.t1.z, q);
  Vec3 v_t0 = {dot(o.r0, v_u0), dot(o.r1, v_u0), dot(o.r2, v_u0)};
  Vec3 v_t1 = {dot(o.r0, v_u1), dot(o.r1, v_u1), dot(o.r2, v_u1)};

  // the Jacobian and the place in the image, to the mean
  const float *m = s->view;
  float fx = s->intrinsics[0], fy = s->intrinsics[1];
  f32v near = 1.0f / o.depth, jx = fx * near, jy = fy * near;
  f32v v_jx = v_t0.x * m[0] + v_t0.y * m[1] + v_t0.z * m[2], v_kx = v_t0.x * m[8] + v_t0.y * m[9] + v_t0.z * m[10];
  f32v v_jy = v_t1.x * m[4] + v_t1.y * m[5] + v_t1.z * m[6], v_ky = v_t1.x * m[8] + v_t1.y * m[9] + v_t1.z * m[10];
  f32v v_across = fx * v2[0] + (o.free_x ? -jx * v_kx : f32v{}), v_down = fy * v2[1] + (o.free_y ? -jy * v_ky : f32v{});
  f32v v_near = fx * (v_jx - v_kx * o.slope_x) + fy * (v_jy - v_ky * o.slope_y);
  f32v vx = v_across * near, vy = v_down * near;
  f32v vz = -near * (v_across * o.eye.x * near + v_down * o.eye.y * near) - v_near * near * near;
  v_mean.x += vx * m[0] + vy * m[4] + vz * m[8];
  v_mean.y += vx * m[1] + vy * m[5] + vz * m[9];
  v_mean.z += vx * m[2] + vy * m[6] + vz * m[10];
  f32v mean[3] = {v_mean.x, v_mean.y, v_mean.z}, scale[3] = {v_scale.x, v_scale.y, v_scale.z};
  for (int i = 0; i < 3; i++) mean[i] = seen ? mean[i] : f32v{}, scale[i] = seen ? scale[i] : f32v{};
  for (int i = 0; i < 4; i++) q[i] = seen ? q[i] : f32v{};
  splat_give<3>(s->v_means + 3 * at, 3, n, mean);
  splat_give<3>(s->v_scales + 3 * at, 3, n, scale);
  splat_give<4>(s->v_quaternions + 4 * at, 4, n, q);
}

typedef void (*SplatStep)(const SplatScene *, int64_t, int);

static int splat_steps(const SplatScene *s, SplatStep step) {
  constexpr int64_t PART = 256;
  parallel((s->n + PART - 1) / PART, [&](int64_t part, int) {
    int64_t end = least(s->n, (part + 1) * PART);
    for (int64_t at = part * PART; at < end; at += L) step(s, at, (int)least<int64_t>(L, end - at));
  });
  return CODEC_OK;
}

static int splats_check(const SplatScene *s) {
  if (s->n < 0 || s->degree < 0 || s->degree > 3 || s->coefficients < (s->degree + 1) * (s->degree + 1)) return CODEC_BAD_CALL;
  return s->width < 1 || s->height < 1 ? CODEC_BAD_CALL : CODEC_OK;
}

int splats_project(const SplatScene *s) {
  if (int status = splats_check(s)) return status;
  SplatStep steps[] = {splat_project<0>, splat_project<1>, splat_project<2>, splat_project<3>};
  return splat_steps(s, steps[s->degree]);
}

int splats_project_back(const SplatScene *s) {
  if (int status = splats_check(s)) return status;
  SplatStep steps[] = {splat_project_back<0>, splat_project_back<1>, splat_project_back<2>, splat_project_back<3>};
  return splat_steps(s, steps[s->degree]);
}

// ---- the order of depth, and the lists of tiles

struct alignas(64) SplatEllipse { // an ellipse, where the tiles read it: a line of the cache
  float x, y, xx, xy, yy, opacity, red, green, blue;
  float floor; // the power below which alpha is ignored
  float reach_x, reach_y;
};
struct SplatReach { // the tiles that it reaches, from left ... right - 1, and which it is
  int32_t left, right, top, bottom;
  int64_t index;
};
constexpr int SPLAT_AHEAD = 6; // ellipses that are asked for before they are needed: they lie anywhere

// Memory for a call: what is small is kept by the thread, the rest is given back.
struct SplatMemory {
  void *owned = nullptr;
  ~SplatMemory() { free(owned); }
  template <class T> T *take(int slot, int64_t n) {
    size_t bytes = sizeof(T) * (size_t)most<int64_t>(n, 1);
    free(owned), owned = nullptr;
    if (bytes <= (size_t)1 << 24) return (T *)pool_scratch(slot, bytes);
    return (T *)(owned = aligned_alloc(64, (bytes + 63) / 64 * 64));
  }
};

struct SplatLists {
  SplatMemory memory[7];
  SplatEllipse *ellipses; // in the order of their depth
  SplatReach *boxes;      // of them
  int64_t n, across, down;
  int64_t *starts;    // of the lists of the tiles of a band, and their end
  int32_t *lists;     // of ellipses
  int32_t *slots;     // where a pair is in the lists, in the order of ellipses
  int64_t *pairs;     // the first pair of each ellipse in the band
  int64_t first_row, end_row; // of tiles in the band
};

static int splat_order(const SplatPicture *p, SplatLists &o) {
  int64_t n = 0;
  for (int64_t i = 0; i < p->n; i++) n += p->radii[i] > 0;
  o.n = n;
  SplatMemory keys_memory;
  uint32_t *keys = keys_memory.take<uint32_t>(0, 4 * n); // (key, index) twice
  o.ellipses = o.memory[0].take<SplatEllipse>(1, n);
  o.boxes = o.memory[6].take<SplatReach>(8, n);
  if (!keys || !o.ellipses || !o.boxes) return CODEC_NO_MEMORY;
  uint32_t *from = keys, *to = keys + 2 * n;
  int64_t at = 0;
  for (int64_t i = 0; i < p->n; i++) {
    if (p->radii[i] <= 0) continue;
    memcpy(from + 2 * at, p->depths + i, 4); // positive: their bits are in their order
    from[2 * at++ + 1] = (uint32_t)i;
  }
  for (int shift = 0; shift < 33; shift += 11) {
    int64_t counts[2048] = {}, sum = 0;
    for (int64_t i = 0; i < n; i++) counts[from[2 * i] >> shift & 2047]++;
    for (int i = 0; i < 2048; i++) {
      int64_t count = counts[i];
      counts[i] = sum, sum += count;
    }
    for (int64_t i = 0; i < n; i++) {
      int64_t place = counts[from[2 * i] >> shift & 2047]++;
      memcpy(to + 2 * place, from + 2 * i, 8);
    }
    uint32_t *other = from;
    from = to, to = other;
  }
  o.across = (p->width + SPLAT_TILE - 1) / SPLAT_TILE, o.down = (p->height + SPLAT_TILE - 1) / SPLAT_TILE;
  parallel((n + 1023) / 1024, [&](int64_t part, int) {
    for (int64_t j = 1024 * part; j < least(n, 1024 * part + 1024); j++) {
      int64_t i = from[2 * j + 1];
      if (j + SPLAT_AHEAD < n) {
        int64_t next = from[2 * (j + SPLAT_AHEAD) + 1];
        __builtin_prefetch(p->means2d + 2 * next), __builtin_prefetch(p->conics + 3 * next);
        __builtin_prefetch(p->colours + 3 * next), __builtin_prefetch(p->reach + 2 * next);
        __builtin_prefetch(p->opacities + next);
      }
      const float *m = p->means2d + 2 * i, *c = p->conics + 3 * i, *k = p->colours + 3 * i;
      float opacity = p->opacities[i];
      // slack for what rounding does to an alpha that is hardly ignored
      float rx = p->reach[2 * i] * 1.0001f + 0.01f, ry = p->reach[2 * i + 1] * 1.0001f + 0.01f;
      float left = most(0.0f, (m[0] - rx) / SPLAT_TILE), right = least((float)o.across, (m[0] + rx) / SPLAT_TILE + 1);
      float top = most(0.0f, (m[1] - ry) / SPLAT_TILE), bottom = least((float)o.down, (m[1] + ry) / SPLAT_TILE + 1);
      o.ellipses[j] = {m[0], m[1], c[0], c[1], c[2], opacity, k[0], k[1], k[2], -logf(255 * opacity) - 0.001f, rx, ry};
      o.boxes[j] = {(int32_t)left, (int32_t)right, (int32_t)top, (int32_t)bottom, i};
    }
  });
  return CODEC_OK;
}

// Lists what the rows of tiles from `row` on have, as many as there is room for. with_slots: for gradients.
static int splat_band(const SplatPicture *p, SplatLists &o, int64_t row, bool with_slots) {
  int64_t *rows = o.memory[1].take<int64_t>(2, o.down + 1);
  if (!rows) return CODEC_NO_MEMORY;
  memset(rows, 0, 8 * (o.down + 1));
  for (int64_t j = 0; j < o.n; j++) {
    const SplatReach &e = o.boxes[j];
    if (e.right <= e.left || e.bottom <= e.top) continue;
    rows[e.top] += e.right - e.left, rows[e.bottom] -= e.right - e.left;
  }
  int64_t total = 0, width = 0, end = row;
  for (int64_t y = 0; y < o.down; y++) {
    width += rows[y];
    if (y < row) continue;
    if (y > row && total + width > p->room) break;
    total += width, end = y + 1;
  }
  if (total >= (int64_t)1 << 31) return CODEC_NO_MEMORY;
  int64_t tiles = (end - row) * o.across;
  o.starts = o.memory[2].take<int64_t>(3, tiles + 2);
  o.lists = o.memory[3].take<int32_t>(4, total);
  o.slots = o.memory[4].take<int32_t>(5, with_slots ? total : 0);
  o.pairs = o.memory[5].take<int64_t>(6, with_slots ? o.n : 0);
  if (!o.starts || !o.lists || !o.slots || !o.pairs) return CODEC_NO_MEMORY;
  o.first_row = row, o.end_row = end;
  memset(o.starts, 0, 8 * (tiles + 2));
  int64_t *cursor = o.starts + 1, pair = 0;
  for (int pass = 0; pass < 2; pass++) {
    for (int64_t j = 0; j < o.n; j++) {
      const SplatReach &e = o.boxes[j];
      int64_t top = most<int64_t>(e.top, row), bottom = least<int64_t>(e.bottom, end);
      if (pass && with_slots) o.pairs[j] = pair;
      for (int64_t y = top - row; y < bottom - row; y++)
        for (int64_t t = y * o.across + e.left; t < y * o.across + e.right; t++) {
          if (!pass) {
            cursor[t + 1]++; // counted one further on, for the sums below
            continue;
          }
          int64_t slot = cursor[t]++;
          o.lists[slot] = (int32_t)j;
          if (with_slots) o.slots[pair++] = (int32_t)slot;
        }
    }
    if (!pass)
      for (int64_t t = 1; t <= tiles; t++) cursor[t] += cursor[t - 1];
  }
  return CODEC_OK;
}

// ---- compositing

struct SplatArea { // the part of a tile that an ellipse reaches: rows, and vectors of each
  int top, bottom, left, right;
};

INLINE SplatArea splat_area(const SplatEllipse &e, float x, float y) { // x, y: the centre of the tile's first pixel
  float top = most(0.0f, e.y - e.reach_y - y + 1), bottom = least((float)SPLAT_TILE, e.y + e.reach_y - y + 1);
  float left = most(0.0f, (e.x - e.reach_x - x) * (1.0f / L)), right = least((float)SPLAT_VB, (e.x + e.reach_x - x) * (1.0f / L) + 1);
  return {(int)top, (int)bottom, (int)left, (int)right};
}

INLINE f32v splat_columns(int v) {
  f32v x;
  for (int i = 0; i < L; i++) x[i] = (float)(v * L + i);
  return x;
}

static void splat_tile(const SplatPicture *p, const SplatLists &o, int64_t tile) {
  constexpr int V = SPLAT_TILE * SPLAT_VB;
  f32v light[V], red[V], green[V], blue[V]; // light: negative where a pixel is done
  i32v last[V];
  for (int i = 0; i < V; i++) light[i] = spread(1.0f), red[i] = green[i] = blue[i] = f32v{}, last[i] = all32(-1);
  int64_t row = (o.first_row + tile / o.across) * SPLAT_TILE, column = tile % o.across * SPLAT_TILE;
  float x0 = column + 0.5f, y0 = row + 0.5f;
  int64_t start = o.starts[tile], n = o.starts[tile + 1] - start;
  f32v columns[SPLAT_VB];
  for (int v = 0; v < SPLAT_VB; v++) columns[v] = splat_columns(v) + x0;
  for (int64_t k = 0; k < n; k++) {
    if (k % 32 == 31) {
      i32v open{};
      for (int i = 0; i < V; i++) open |= light[i] > 0.0f;
      if (!splat_any(open)) break;
    }
    if (k + SPLAT_AHEAD < n) __builtin_prefetch(o.ellipses + o.lists[start + k + SPLAT_AHEAD]);
    const SplatEllipse &e = o.ellipses[o.lists[start + k]];
    SplatArea a = splat_area(e, x0, y0);
    f32v xx = spread(-0.5f * e.xx), floor = spread(e.floor), opacity = spread(e.opacity);
    for (int y = a.top; y < a.bottom; y++) {
      float dy = y0 + y - e.y;
      f32v slope = spread(-e.xy * dy), base = spread(-0.5f * e.yy * dy * dy);
      for (int v = a.left; v < a.right; v++) {
        f32v dx = columns[v] - e.x, power = fma_(dx, fma_(xx, dx, slope), base);
        int i = y * SPLAT_VB + v;
        i32v take = (power > floor) & (light[i] > 0.0f);
        if (!splat_any(take)) continue;
        power = min_(max_(power, spread(-87.0f)), f32v{});
        f32v alpha = min_(opacity * splat_exp(power), spread(SPLAT_MOST_ALPHA));
        take &= alpha >= SPLAT_LEAST_ALPHA;
        f32v next = light[i] - light[i] * alpha;
        i32v shown = take & (next >= SPLAT_LEAST_LIGHT);
        f32v weight = shown ? light[i] * alpha : f32v{};
        red[i] = fma_(weight, spread(e.red), red[i]);
        green[i] = fma_(weight, spread(e.green), green[i]);
        blue[i] = fma_(weight, spread(e.blue), blue[i]);
        last[i] = shown ? all32((int32_t)k) : last[i];
        light[i] = shown ? next : take ? -light[i] : light[i];
      }
    }
  }
  int64_t height = least<int64_t>(SPLAT_TILE, p->height - row), width = least<int64_t>(SPLAT_TILE, p->width - column);
  for (int64_t y = 0; y < height; y++)
    for (int64_t x = 0; x < width; x++) {
      int i = (int)(y * SPLAT_VB + x / L), j = (int)(x % L);
      int64_t at = (row + y) * p->width + column + x;
      float left = light[i][j] < 0 ? -light[i][j] : light[i][j];
      p->image[3 * at] = red[i][j] + left * p->background[0];
      p->image[3 * at + 1] = green[i][j] + left * p->background[1];
      p->image[3 * at + 2] = blue[i][j] + left * p->background[2];
      p->light[at] = left;
      if (p->last) p->last[at] = last[i][j];
    }
}

// Writes the gradients of the ellipses of a tile: SPLAT_GRADIENTS numbers for each slot of its list.
static void splat_tile_back(const SplatPicture *p, const SplatLists &o, int64_t tile, float *gradients) {
  constexpr int V = SPLAT_TILE * SPLAT_VB;
  f32v light[V], red[V], green[V], blue[V], behind[V]; // red ...: the gradient; behind: what later ellipses add to it
  i32v last[V];
  int64_t row = (o.first_row + tile / o.across) * SPLAT_TILE, column = tile % o.across * SPLAT_TILE;
  int64_t height = least<int64_t>(SPLAT_TILE, p->height - row), width = least<int64_t>(SPLAT_TILE, p->width - column);
  float x0 = column + 0.5f, y0 = row + 0.5f;
  int64_t start = o.starts[tile], n = o.starts[tile + 1] - start;
  int32_t deepest = -1;
  for (int i = 0; i < V; i++) light[i] = red[i] = green[i] = blue[i] = behind[i] = f32v{}, last[i] = all32(-1);
  for (int64_t y = 0; y < height; y++)
    for (int64_t x = 0; x < width; x++) {
      int i = (int)(y * SPLAT_VB + x / L), j = (int)(x % L);
      int64_t at = (row + y) * p->width + column + x;
      const float *g = p->v_image + 3 * at;
      red[i][j] = g[0], green[i][j] = g[1], blue[i][j] = g[2];
      light[i][j] = p->light[at], last[i][j] = p->last[at];
      float rear = g[0] * p->background[0] + g[1] * p->background[1] + g[2] * p->background[2];
      behind[i][j] = p->light[at] * (rear + p->v_light[at]);
      deepest = most(deepest, p->last[at]);
    }
  f32v columns[SPLAT_VB];
  for (int v = 0; v < SPLAT_VB; v++) columns[v] = splat_columns(v) + x0;
  deepest = (int32_t)least<int64_t>(deepest, n - 1);
  memset(gradients + (start + deepest + 1) * SPLAT_GRADIENTS, 0, 4 * SPLAT_GRADIENTS * (n - deepest - 1));
  for (int32_t k = deepest; k >= 0; k--) {
    if (k >= SPLAT_AHEAD) __builtin_prefetch(o.ellipses + o.lists[start + k - SPLAT_AHEAD]);
    const SplatEllipse &e = o.ellipses[o.lists[start + k]];
    SplatArea a = splat_area(e, x0, y0);
    f32v xx = spread(-0.5f * e.xx), floor = spread(e.floor), opacity = spread(e.opacity);
    f32v s0{}, sx{}, sy{}, sxx{}, sxy{}, syy{}, sr{}, sg{}, sb{};
    for (int y = a.top; y < a.bottom; y++) {
      float dy = y0 + y - e.y;
      f32v slope = spread(-e.xy * dy), base = spread(-0.5f * e.yy * dy * dy);
      f32v r0{}, r1{}, r2{};
      for (int v = a.left; v < a.right; v++) {
        f32v dx = columns[v] - e.x, power = fma_(dx, fma_(xx, dx, slope), base);
        int i = y * SPLAT_VB + v;
        i32v take = (power > floor) & (last[i] >= k);
        if (!splat_any(take)) continue;
        power = min_(max_(power, spread(-87.0f)), f32v{});
        f32v raw = opacity * splat_exp(power), alpha = min_(raw, spread(SPLAT_MOST_ALPHA));
        take &= alpha >= SPLAT_LEAST_ALPHA;
        alpha = take ? alpha : f32v{};
        f32v clear = 1.0f / (1.0f - alpha), before = light[i] * clear, weight = before * alpha;
        f32v shade = fma_(red[i], spread(e.red), fma_(green[i], spread(e.green), blue[i] * e.blue));
        f32v v_alpha = fma_(before, shade, -behind[i] * clear);
        behind[i] = fma_(weight, shade, behind[i]);
        light[i] = before;
        sr = fma_(weight, red[i], sr), sg = fma_(weight, green[i], sg), sb = fma_(weight, blue[i], sb);
        f32v v_power = raw <= SPLAT_MOST_ALPHA ? alpha * v_alpha : f32v{}, moment = v_power * dx;
        r0 += v_power, r1 += moment, r2 = fma_(moment, dx, r2);
      }
      f32v rise = spread(dy), m = r0 * rise;
      s0 += r0, sx += r1, sxx += r2, sy += m, syy = fma_(m, rise, syy), sxy = fma_(r1, rise, sxy);
    }
    float *g = gradients + (start + k) * SPLAT_GRADIENTS, mx = splat_sum(sx), my = splat_sum(sy);
    g[0] = e.xx * mx + e.xy * my, g[1] = e.yy * my + e.xy * mx;
    g[2] = -0.5f * splat_sum(sxx), g[3] = -splat_sum(sxy), g[4] = -0.5f * splat_sum(syy);
    g[5] = splat_sum(sr), g[6] = splat_sum(sg), g[7] = splat_sum(sb), g[8] = splat_sum(s0) / e.opacity;
  }
}

int splats_composite(const SplatPicture *p) {
  if (p->n < 0 || p->width < 1 || p->height < 1 || p->room < 1) return CODEC_BAD_CALL;
  SplatLists lists;
  if (int status = splat_order(p, lists)) return status;
  for (int64_t row = 0; row < lists.down; row = lists.end_row) {
    if (int status = splat_band(p, lists, row, false)) return status;
    parallel((lists.end_row - row) * lists.across, [&](int64_t tile, int) { splat_tile(p, lists, tile); });
  }
  return CODEC_OK;
}

// Adds the gradients to what is there.
int splats_composite_back(const SplatPicture *p) {
  if (p->n < 0 || p->width < 1 || p->height < 1 || p->room < 1 || !p->last) return CODEC_BAD_CALL;
  SplatLists lists;
  if (int status = splat_order(p, lists)) return status;
  for (int64_t row = 0; row < lists.down; row = lists.end_row) {
    if (int status = splat_band(p, lists, row, true)) return status;
    int64_t tiles = (lists.end_row - row) * lists.across;
    SplatMemory memory;
    float *gradients = memory.take<float>(7, lists.starts[tiles] * SPLAT_GRADIENTS);
    if (!gradients) return CODEC_NO_MEMORY;
    parallel(tiles, [&](int64_t tile, int) { splat_tile_back(p, lists, tile, gradients); });
    parallel((lists.n + 1023) / 1024, [&](int64_t part, int) {
      for (int64_t j = 1024 * part; j < least(lists.n, 1024 * part + 1024); j++) {
        const SplatReach &e = lists.boxes[j];
        int64_t high = most<int64_t>(0, least<int64_t>(e.bottom, lists.end_row) - most<int64_t>(e.top, row));
        int64_t wide = most<int64_t>(0, e.right - e.left), first = lists.pairs[j], i = e.index;
        if (j + SPLAT_AHEAD < lists.n) {
          const int32_t *next = lists.slots + lists.pairs[j + SPLAT_AHEAD];
          if (next < lists.slots + lists.starts[tiles]) __builtin_prefetch(gradients + (int64_t)*next * SPLAT_GRADIENTS);
        }
        float sum[SPLAT_GRADIENTS] = {};
        for (int64_t pair = first; pair < first + high * wide; pair++) {
          const float *g = gradients + (int64_t)lists.slots[pair] * SPLAT_GRADIENTS;
          for (int c = 0; c < SPLAT_GRADIENTS; c++) sum[c] += g[c];
        }
        for (int c = 0; c < 2; c++) p->v_means2d[2 * i + c] += sum[c];
        for (int c = 0; c < 3; c++) p->v_conics[3 * i + c] += sum[2 + c], p->v_colours[3 * i + c] += sum[5 + c];
        p->v_opacities[i] += sum[8];
      }
    });
  }
  return CODEC_OK;
}
