// Quantised spectra of sound, mixed: contexts from lower frequencies, the blocks before, and the channel before.
//
// The twin is entropy/mixing/sound.py, which says what the contexts are. Numbers and their sets of weights are those of
// mixing_coefficients.h: zone 0 are spectra, zone 1 is what is told beside them. Signs are coded as they are.

constexpr int SOUND_CONTEXTS = 8, SOUND_PAD = 8, SOUND_SHAPES = 4, SOUND_ANGLES = 32, SOUND_NOISES = 16;
constexpr int32_t SOUND_SCALE = 255, SOUND_MOST = 1 << 20;

// A number told beside the spectra. kind: 0 ... 15; a, b, c: what its size depends on.
INLINE void sound_context(CoefContext *at, int kind, int a, int b, int c, int band) {
  const uint64_t k = (uint64_t)kind, ua = (uint64_t)a, ub = (uint64_t)b, uc = (uint64_t)c, ud = (uint64_t)band;
  at->zone = 1, at->size = kind, at->place = least(band, 63);
  uint64_t *v = at->value;
  v[0] = ((k * 512 + ua) * 512 + ub) * 512 + uc;
  v[1] = ((k * 64 + ud) * 512 + ua) * 512 + ub;
  v[2] = (k * 512 + ua) * 512 + ub;
  v[3] = (k * 64 + ud) * 512 + ua;
  v[4] = k * 64 + ud;
  v[5] = k * 512 + ua;
  v[6] = (k * 512 + ua) * 512 + uc;
  v[7] = (k * 64 + ud) * 512 + ub;
}

template <int ROLE> INLINE int32_t sound_number(Mix *m, CoefContext *at, int32_t v) { // with its sign
  int32_t size = coef_magnitude<ROLE>(m, at, ROLE == MIX_READ ? 0 : v < 0 ? -v : v);
  if (!size) return 0;
  int negative = coef_sign<ROLE>(m, at, ROLE == MIX_READ ? 0 : v < 0);
  return negative ? -size : size;
}

INLINE int32_t sound_folded(int32_t v) { return v < 0 ? least(-2 * v - 1, 511) : least(2 * v, 511); }

// Which bands of a channel hold values in a frame, their scales, and what fills their zeros.
template <int ROLE>
static int sound_beside(Mix *m, const SoundPiece *s, int64_t frame, int64_t channel) {
  const int64_t bands = s->bands, at_row = (frame * s->channels + channel) * bands, pitch = s->channels * bands;
  int32_t *scale = s->scales + at_row, *noise = s->noises + at_row, *full = s->filled + at_row;
  const int32_t *old_scale = frame ? scale - pitch : nullptr, *old_noise = frame ? noise - pitch : nullptr;
  CoefContext at;
  int32_t told;
  const int shape = s->shapes[frame];
  for (int64_t b = 0; b < bands; b++) {
    const int old = frame ? full[b - pitch] + 2 * (b + 1 < bands ? full[b + 1 - pitch] : 0) : 4;
    const int left = b ? full[b - 1] + 2 * (b > 1 ? full[b - 2] : 1) : 4;
    sound_context(&at, 1 + (channel > 0), old, left, (channel ? full[b - bands] : 2) + 4 * shape, (int)b);
    told = coef_magnitude<ROLE>(m, &at, ROLE == MIX_READ ? 0 : full[b]);
    if (told > 1) return CODEC_DAMAGED;
    full[b] = told;
  }
  int32_t last = 0, last2 = 0;
  for (int64_t b = 0; b < bands; b++) {
    const int32_t guess = old_scale ? old_scale[b] : b ? scale[b - 1] : 0;
    const int32_t trend = old_scale && b ? scale[b - 1] - old_scale[b - 1] : last2;
    sound_context(&at, frame ? 3 + (channel > 0) : 5, sound_folded(last), sound_folded(trend),
                  full[b] + 2 * shape, (int)b);
    told = sound_number<ROLE>(m, &at, scale[b] - guess);
    if (ROLE == MIX_READ) {
      if (told < -2 * SOUND_SCALE || told > 2 * SOUND_SCALE) return CODEC_DAMAGED;
      scale[b] = guess + told;
      if (scale[b] < -SOUND_SCALE || scale[b] > SOUND_SCALE) return CODEC_DAMAGED;
    }
    last2 = last, last = told;
  }
  for (int64_t b = 0; b < bands; b++) {
    const int left = b ? noise[b - 1] : 0, old = old_noise ? old_noise[b] : SOUND_NOISES;
    const int other = channel ? noise[b - bands] : SOUND_NOISES;
    sound_context(&at, 6 + full[b] + 2 * (channel > 0), old, left, other + 32 * least(shape, 1), (int)b);
    told = coef_magnitude<ROLE>(m, &at, ROLE == MIX_READ ? 0 : noise[b]);
    if (ROLE == MIX_READ) {
      if (told >= SOUND_NOISES) return CODEC_DAMAGED;
      noise[b] = told;
    }
  }
  return CODEC_OK;
}

struct SoundRows {
  int32_t *data;
  int64_t pitch, size;
  int32_t *row(int64_t i) const { return data + i * pitch + SOUND_PAD; }
};

INLINE void sound_clear(int32_t *row, int64_t n) { memset(row - SOUND_PAD, 0, (n + 2 * SOUND_PAD) * sizeof(int32_t)); }

// The means of 2^shape neighbours each, rounded up from the half.
INLINE void sound_reduced(int32_t *to, const int32_t *from, int64_t n, int shape) {
  sound_clear(to, n);
  const int32_t width = 1 << shape, half = width >> 1;
  for (int64_t k = 0; k < n; k++) {
    int32_t sum = half;
    for (int i = 0; i < width; i++) sum += from[(k << shape) + i];
    to[k] = sum >> shape;
  }
}

// One block of a channel: its values in bands that are filled.
template <int ROLE>
static int sound_block(Mix *m, const SoundPiece *s, int32_t *own, const int32_t *other, int32_t *sizes,
                       const int32_t *p, const int32_t *q, const int32_t *noise, const int32_t *full, int64_t channel,
                       int shape) {
  const uint64_t kind = (uint64_t)shape * 2 + (channel > 0);
  for (int64_t band = 0; band < s->bands; band++) {
    if (!full[band]) continue; // all are zero
    const int64_t end = s->edges[band + 1] >> shape;
    for (int64_t k = s->edges[band] >> shape; k < end; k++) {
      const int32_t w = sizes[k - 1], ww = sizes[k - 2], www = sizes[k - 3], here = p[k], pl = p[k - 1], pr = p[k + 1];
      const int32_t o = other[k], around_o = other[k - 1] + other[k + 1];
      const int32_t wide_w = w + ww + www + sizes[k - 4] + sizes[k - 5] + sizes[k - 6];
      const int32_t wide_p = here + pl + pr + p[k - 2] + p[k + 2] + p[k - 3] + p[k + 3] + p[k + 4];
      const int64_t low = 4 * (int64_t)w + 2 * ww + www, past = 3 * (int64_t)here + 2 * (pl + (int64_t)pr) + p[k + 2] + p[k - 2];
      const int64_t older = 2 * (int64_t)q[k] + q[k - 1] + q[k + 1], beside = 2 * (int64_t)o + around_o;
      const int64_t total = 2 * low + 2 * past + older + (int64_t)wide_w + wide_p + (channel ? beside : 0);
      const uint32_t expected = (uint32_t)(16 * total / (channel ? 54 : 50));
      const int h_low = coef_half((uint32_t)low), h_past = coef_half((uint32_t)past), h_beside = coef_half((uint32_t)beside);
      const int h_all = coef_half(expected);
      CoefContext at;
      at.zone = 0, at.size = least(31, h_all);
      at.place = (w > 0) + 2 * (here > 0) + 4 * (o > 0) + 8 * (ww > 0) + 16 * (pl + pr > 0) + 32 * (shape > 0);
      const uint64_t fill = (uint64_t)noise[band], where = (uint64_t)(k << shape);
      uint64_t *v = at.value;
      v[0] = (uint64_t)coef_quarter(expected) * 8 + kind;
      v[1] = ((uint64_t)coef_quarter((uint32_t)wide_w) * 128 + coef_quarter((uint32_t)wide_p)) * 16 + fill;
      v[2] = ((uint64_t)h_low * 64 + h_past) * 64 + h_beside;
      v[3] = (((uint64_t)band * 64 + h_all) * 16 + fill) * 8 + kind;
      v[4] = ((((uint64_t)coef_small(w) * 16 + coef_small(here)) * 16 + coef_small(o)) * 16 + coef_small(q[k])) * 8 + kind;
      v[5] = where * 8 + kind;
      v[6] = (((uint64_t)coef_small(here) * 16 + coef_small(pl)) * 16 + coef_small(pr)) * 8 + kind;
      v[7] = (((uint64_t)coef_small(w) * 16 + coef_small(ww)) * 16 + coef_small(www)) * 16 + coef_small(pl);
      int32_t size = coef_magnitude<ROLE>(m, &at, ROLE == MIX_READ ? 0 : own[k] < 0 ? -own[k] : own[k]);
      if (ROLE == MIX_READ && size > SOUND_MOST) return CODEC_DAMAGED;
      if (size) {
        int negative = mix_coded<ROLE>(m->c, ROLE == MIX_READ ? 0 : own[k] < 0, 32768);
        if (ROLE == MIX_READ) own[k] = negative ? -size : size;
      }
      sizes[k] = size;
    }
  }
  return m->c->failed ? (ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY) : CODEC_OK;
}

template <int ROLE> static int sound_frame(Mix *m, const SoundPiece *s, const SoundRows *rows, int64_t frame) {
  CoefContext at;
  sound_context(&at, 0, frame ? s->shapes[frame - 1] : 4, frame > 1 ? s->shapes[frame - 2] : 4, 0, 0);
  int32_t told = coef_magnitude<ROLE>(m, &at, ROLE == MIX_READ ? 0 : s->shapes[frame]);
  if (told >= SOUND_SHAPES) return CODEC_DAMAGED;
  s->shapes[frame] = told;
  const int shape = told;
  const int64_t channels = s->channels, n = s->size >> shape;
  for (int64_t c = 0; c < channels; c++) {
    int status = sound_beside<ROLE>(m, s, frame, c);
    if (status) return status;
  }
  // Rows: of each channel the last two blocks; then the sizes of this block of all channels; then two for the means.
  int32_t *p = rows->row(3 * channels), *q = rows->row(3 * channels + 1), *none = rows->row(3 * channels + 2);
  for (int64_t block = 0; block < (int64_t)1 << shape; block++) {
    for (int64_t c = 0; c < channels; c++) {
      int32_t *last = rows->row(2 * c), *older = rows->row(2 * c + 1), *sizes = rows->row(2 * channels + c);
      const int64_t place = frame * channels + c;
      sound_reduced(p, last, n, shape);
      sound_reduced(q, older, n, shape);
      sound_clear(sizes, s->size);
      int status = sound_block<ROLE>(m, s, s->values + place * s->size + block * n, c ? rows->row(2 * channels + c - 1) : none,
                                     sizes, p, q, s->noises + place * s->bands, s->filled + place * s->bands, c, shape);
      if (status) return status;
    }
    for (int64_t c = 0; c < channels; c++) {
      int32_t *last = rows->row(2 * c), *older = rows->row(2 * c + 1), *sizes = rows->row(2 * channels + c);
      memcpy(older, last, s->size * sizeof(int32_t));
      for (int64_t k = 0; k < s->size; k++) last[k] = sizes[k >> shape];
    }
  }
  return CODEC_OK;
}

template <int ROLE> static int sound_piece(MixingCoder *c, const SoundPiece *s) {
  Mix m;
  SoundRows rows;
  mix_begin(&m, c);
  rows.pitch = s->size + 2 * SOUND_PAD;
  const int64_t count = 3 * s->channels + 3;
  rows.data = (int32_t *)pool_scratch(1, count * rows.pitch * sizeof(int32_t));
  if (!rows.data) return CODEC_NO_MEMORY;
  memset(rows.data, 0, count * rows.pitch * sizeof(int32_t));
  if (s->channels > 1)
    for (int64_t b = 0; b < s->bands; b++) {
      CoefContext at;
      sound_context(&at, 10, b ? s->angles[b - 1] : SOUND_ANGLES, b > 1 ? s->angles[b - 2] : SOUND_ANGLES, 0, (int)b);
      int32_t guess = b ? s->angles[b - 1] : 8;
      // On a circle: the shorter way from the guess.
      int32_t way = ((s->angles[b] - guess + SOUND_ANGLES / 2) & (SOUND_ANGLES - 1)) - SOUND_ANGLES / 2;
      int32_t told = sound_number<ROLE>(&m, &at, way);
      if (ROLE == MIX_READ) {
        if (told < -SOUND_ANGLES / 2 || told >= SOUND_ANGLES / 2) return CODEC_DAMAGED;
        s->angles[b] = (guess + told) & (SOUND_ANGLES - 1);
      }
    }
  for (int64_t frame = 0; frame < s->frames; frame++) {
    int status = sound_frame<ROLE>(&m, s, &rows, frame);
    if (status) return status;
  }
  return CODEC_OK;
}

// Codes a piece. Everything that is told is checked by the caller where it is written.
int mixing_sound(MixingCoder *c, int role, const SoundPiece *s) {
  if (c->n_contexts != SOUND_CONTEXTS || c->n_choices != 3 || c->n_sets != COEF_SETS0 + COEF_SETS1 + COEF_SETS2 ||
      c->n_finals != 2 * COEF_STEPS || c->n_refined != COEF_REFINED0 + COEF_REFINED1 || s->frames < 1 ||
      s->channels < 1 || s->channels > 64 || s->bands < 1 || s->bands > 63 || s->size < 64 || s->size > 1 << 15 ||
      s->edges[0] != 0 || s->edges[s->bands] != s->size)
    return CODEC_BAD_CALL;
  for (int64_t b = 0; b < s->bands; b++)
    if (s->edges[b + 1] <= s->edges[b] || s->edges[b + 1] % 8) return CODEC_BAD_CALL;
  switch (role) {
  case MIX_WRITE: return sound_piece<MIX_WRITE>(c, s);
  case MIX_READ: return sound_piece<MIX_READ>(c, s);
  case MIX_PRICE: return sound_piece<MIX_PRICE>(c, s);
  }
  return CODEC_BAD_CALL;
}
