// What follows a convolution in fixed-point networks: scale, residual, gain, quantisers, the twin's operations in its order.

// The kinds of epilogues: all that ConvArgs can ask for in float32, in float64; two that are frequent, with what they
// do known to the compiler.
enum EpilogueKind { ANY, WIDE, ONLY_OUT, RESIDUAL_BLOCK };

INLINE int kind_of(const ConvArgs &c) {
  if (c.wide) return WIDE;
  if (c.gain || c.values || !c.out) return ANY;
  if (!c.residual && !c.stream.given && !c.kept) return ONLY_OUT;
  return c.residual && c.stream.given && c.kept && c.stream.slope == 1 ? RESIDUAL_BLOCK : ANY;
}

struct Quantiser {
  f32v scale, unit, low, high, slope;
  bool leaks;
};
INLINE Quantiser quantiser(const QuantiserArgs &q) {
  return {allf((float)q.scale), allf((float)q.unit), allf((float)q.low), allf((float)q.high), allf((float)q.slope),
          q.slope != 1};
}
// Clamping to integers before the floor gives the same as after it.
INLINE f32v before_floor(const Quantiser &q, f32v v) {
  if (q.leaks) v = max_(v, v * q.slope);
  return min_(max_(v * q.scale + 0.5f, q.low), q.high);
}
INLINE f64v before_floor(const QuantiserArgs &q, f64v v) {
  if (q.slope != 1) v = max_(v, v * q.slope);
  return min_(max_(v * q.scale + 0.5, alld(q.low)), alld(q.high));
}

template <int KIND> struct Epilogue {
  const ConvArgs &c;
  Quantiser stream, grid;

  explicit INLINE_METHOD Epilogue(const ConvArgs &args)
      : c(args), stream(quantiser(args.stream)), grid(quantiser(args.grid)) {}

  // Finishes n <= L outputs, whose channels are those of `q` on in blocks, at element e of the results.
  INLINE_METHOD void operator()(i32v sum, int64_t e, int64_t q, int n) const {
    f32v v = to_float(sum + load<i32v>(c.bias + q));
    f32v scale = load<f32v>(c.scale + q);
    if (KIND == ONLY_OUT) { // powers of two: their product is exact
      store_out(v * (scale * grid.scale), e, n, Quantiser{allf(1), grid.unit, grid.low, grid.high, grid.slope, grid.leaks});
      return;
    }
    v *= scale;
    if (KIND == WIDE) return in_double(v, e, q, n);
    if (KIND == RESIDUAL_BLOCK || c.residual) v = load_part<f32v>(c.residual + e, n) + v;
    if (KIND == ANY && c.gain) v *= load<f32v>(c.gain + q);
    if (KIND == RESIDUAL_BLOCK) v = floor_(min_(max_(v * stream.scale + 0.5f, stream.low), stream.high)) * stream.unit;
    else if (c.stream.given) v = floor_(before_floor(stream, v)) * stream.unit;
    if (KIND == RESIDUAL_BLOCK || c.kept) store_part(c.kept + e, v, n);
    if (KIND == ANY && c.values) store_part(c.values + e, v, n);
    if (KIND == RESIDUAL_BLOCK || c.out) store_out(v, e, n, grid);
  }

private:
  INLINE_METHOD void store_out(f32v v, int64_t e, int n, const Quantiser &q) const {
    store16_part(c.out + e, floor_to_int(before_floor(q, v)), n);
  }

  INLINE_METHOD void in_double(f32v v, int64_t e, int64_t q, int n) const {
    f64v parts[2], residual[2];
    to_double(v, parts[0], parts[1]);
    if (c.residual) to_double(load_part<f32v>(c.residual + e, n), residual[0], residual[1]);
    h32v integers[2] = {};
    for (int h = 0; h < 2; h++) {
      f64v d = parts[h];
      if (c.residual) d = residual[h] + d;
      if (c.wide_gain) d *= load<f64v>(c.wide_gain + q + h * L / 2);
      if (c.stream.given) d = floor_(before_floor(c.stream, d)) * c.stream.unit;
      if (c.out) integers[h] = to_int(floor_(before_floor(c.grid, d)));
      parts[h] = d;
    }
    if (c.kept) store_part(c.kept + e, to_float(parts[0], parts[1]), n);
    if (c.values) store_part(c.values + e, to_float(parts[0], parts[1]), n);
    if (c.out) store16_part(c.out + e, joined(integers[0], integers[1]), n);
  }
};

// Finishes outputs [columns][blocks][16] of row y, from column x on.
template <int KIND>
static void direct_output(const ConvArgs &c, int64_t y, int64_t x, int64_t columns, int64_t block, int64_t blocks,
                          const int32_t *sums) {
  const Epilogue<KIND> epilogue(c);
  const int64_t s = c.shuffle;
  for (int64_t n = 0; n < blocks; n++) {
    const int64_t *place = c.place + 4 * (block + n);
    for (int v = 0; v < VB && v * L < place[3]; v++) {
      int lanes = (int)least<int64_t>(L, place[3] - v * L);
      int64_t e = (((y - c.top) * s + place[0]) * c.columns * s + x * s + place[1]) * c.channels + place[2] + v * L;
      for (int64_t r = 0; r < columns; r++, e += s * c.channels)
        epilogue(load<i32v>(sums + (r * blocks + n) * BLOCK + v * L), e, (block + n) * BLOCK + v * L, lanes);
    }
  }
}
