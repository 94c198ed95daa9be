// Linear-blend skinning in float64: single operations in a fixed order, so that frames are the same on every machine.
//
// The twin, which says what is computed, is codecs/dualgs/rig.py: `Rig.warp`.

INLINE void skin_unit(double *q) { // at length 1; 1 0 0 0 in place of one without any length
  const double length = sqrt((q[0] * q[0] + q[1] * q[1]) + (q[2] * q[2] + q[3] * q[3]));
  if (!(length > 0)) {
    q[0] = 1.0;
    q[1] = q[2] = q[3] = 0.0;
    return;
  }
  for (int i = 0; i < 4; i++) q[i] /= length;
}

// The quaternion of a matrix [A | t] that is nearly a rotation: of four formulas the one with the largest root.
INLINE void skin_quaternion(const double *m, double *q) {
  const double a = m[0], b = m[1], c = m[2], d = m[4], e = m[5], f = m[6], g = m[8], h = m[9], i = m[10];
  const double square[4] = {1.0 + ((a + e) + i), 1.0 + ((a - e) - i), 1.0 + ((e - a) - i), 1.0 + ((i - a) - e)};
  int largest = 0; // the first of equal ones, and the first that is no number, as NumPy has it
  for (int k = 1; k < 4 && square[largest] == square[largest]; k++)
    if (square[k] > square[largest] || square[k] != square[k]) largest = k;
  const double wx = h - f, wy = c - g, wz = d - b, xy = b + d, xz = c + g, yz = f + h;
  const double rows[4][4] = {
      {square[0], wx, wy, wz}, {wx, square[1], xy, xz}, {wy, xy, square[2], yz}, {wz, xz, yz, square[3]}};
  for (int k = 0; k < 4; k++) q[k] = rows[largest][k];
  skin_unit(q);
}

// Moves and turns skins as their joints do.
int skin_warp(const SkinWarp *s) {
  if (s->n < 0 || s->n_near < 1) return CODEC_BAD_CALL;
  for (int64_t i = 0; i < s->n * s->n_near; i++)
    if (s->anchors[i] < 0 || s->anchors[i] >= s->n_joints) return CODEC_BAD_CALL;
  for (int64_t i = 0; i < s->n; i++) {
    double m[12];
    for (int j = 0; j < 12; j++) m[j] = 0.0;
    for (int64_t k = 0; k < s->n_near; k++) {
      const double *part = s->matrices + 12 * s->anchors[i * s->n_near + k], weight = s->weights[i * s->n_near + k];
      for (int j = 0; j < 12; j++) m[j] += part[j] * weight;
    }
    const double *p = s->positions + 3 * i, *r = s->rotations + 4 * i;
    for (int j = 0; j < 3; j++)
      s->moved[3 * i + j] = ((m[4 * j] * p[0] + m[4 * j + 1] * p[1]) + m[4 * j + 2] * p[2]) + m[4 * j + 3];
    double q[4], *out = s->turned + 4 * i;
    skin_quaternion(m, q);
    out[0] = (q[0] * r[0] - q[1] * r[1]) - (q[2] * r[2] + q[3] * r[3]);
    out[1] = (q[0] * r[1] + q[1] * r[0]) + (q[2] * r[3] - q[3] * r[2]);
    out[2] = (q[0] * r[2] + q[2] * r[0]) + (q[3] * r[1] - q[1] * r[3]);
    out[3] = (q[0] * r[3] + q[3] * r[0]) + (q[1] * r[2] - q[2] * r[1]);
    skin_unit(out);
  }
  return CODEC_OK;
}

// The joints nearest to each skin, of equal ones the first, and their squared distances.
int skin_anchors(const double *joints, int64_t n_joints, const double *skins, int64_t n, int64_t n_near, int64_t *anchors,
                 double *squares) {
  if (n < 0 || n_near < 1 || n_near > n_joints) return CODEC_BAD_CALL;
  for (int64_t i = 0; i < n; i++) {
    const double x = skins[3 * i], y = skins[3 * i + 1], z = skins[3 * i + 2];
    int64_t *own = anchors + i * n_near, held = 0;
    double *square = squares + i * n_near;
    for (int64_t j = 0; j < n_joints; j++) {
      const double dx = x - joints[3 * j], dy = y - joints[3 * j + 1], dz = z - joints[3 * j + 2];
      const double distance = (dx * dx + dy * dy) + dz * dz;
      if (held == n_near && !(distance < square[held - 1])) continue;
      int64_t at = held < n_near ? held++ : held - 1;
      for (; at > 0 && distance < square[at - 1]; at--) square[at] = square[at - 1], own[at] = own[at - 1];
      square[at] = distance;
      own[at] = j;
    }
  }
  return CODEC_OK;
}
