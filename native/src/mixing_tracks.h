// Tracks of Gaussians: a frame of what changes, read from mixed streams.
//
// Which Gaussians change, which of their attributes, and by how many steps; in three passes, so that most rows lie
// between two that are known. Each question has a stream of its own. The twin, which writes these streams, and which
// says what the contexts are, is codecs/dualgs/tracks.py: what it computes for all rows of a pass at once is here kept
// apart until the pass has it for all of them.

const int TRACK_CONTEXTS = 7, TRACK_SMALL = 3, TRACK_LARGE = 8, TRACK_MORE = 5, TRACK_BUSY = 64;

struct TrackPass { // rows of a pass: start, start + every, ...
  int64_t number, start, every, apart, n;
};

struct TrackRoom {     // of the rows of a pass
  int64_t *bends;      // (rows, n_columns)
  int32_t *bent;       // (rows, n_kinds)
  int64_t *rows;       // that change
  uint8_t *changes;
};

struct TrackPart {     // of an attribute, which may have a thread of its own
  int64_t *chosen;     // rows in which it changes: their places among all of the pass
  int64_t *value, *before, *second; // what was read of them; the columns before
};

INLINE int64_t track_left(const TrackPass *p, int64_t row) { return row < p->apart ? 0 : row - p->apart; }

INLINE int64_t track_right(const TrackFrame *f, const TrackPass *p, int64_t row) {
  return row + p->apart < f->n ? row + p->apart : track_left(p, row);
}

INLINE int64_t track_least(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE int64_t track_short(int64_t x) { return (x < -15 ? -15 : x > 15 ? 15 : x) & 31; } // a number with a sign in five bits

// How far each number of a row is from those of its neighbours, before anything of the pass is known.
INLINE void track_bends(const TrackFrame *f, const TrackPass *p, TrackRoom *s) {
  for (int64_t i = 0; i < p->n; i++) {
    const int64_t row = p->start + i * p->every, w = f->n_columns;
    const int64_t *own = f->now + row * w, *a = f->now + track_left(p, row) * w, *b = f->now + track_right(f, p, row) * w;
    int64_t *out = s->bends + i * w;
    for (int64_t c = 0; c < w; c++) out[c] = a[c] + b[c] - 2 * own[c];
    for (int64_t k = 0; k < f->n_kinds; k++) {
      const TrackKind *kind = f->kinds + k;
      int64_t largest = 0;
      if (!kind->bits)
        for (int64_t c = kind->first; c < kind->first + kind->width; c++) largest = most(largest, out[c] < 0 ? -out[c] : out[c]);
      s->bent[i * f->n_kinds + k] = (int32_t)track_least(largest, 15);
    }
  }
}

// Which rows change: `changes`.
INLINE bool track_any(const TrackFrame *f, const TrackPass *p, TrackRoom *s) {
  Mix m;
  mix_begin(&m, f->any);
  for (int64_t i = 0; i < p->n; i++) {
    const int64_t row = p->start + i * p->every, left = track_left(p, row), right = track_right(f, p, row);
    const uint64_t age = (uint64_t)f->age[row], own = age << 5 | (uint64_t)(f->busy[row] >> 3);
    const uint64_t near = (uint64_t)((f->busy[left] >> 3) + (f->busy[right] >> 3));
    const uint64_t a = (uint64_t)f->mask[left], b = (uint64_t)f->mask[right], pair = (a ? 2 : 0) + (b ? 1 : 0);
    int64_t sum = 0;
    for (int64_t k = 0; k < f->n_kinds; k++) sum += s->bent[i * f->n_kinds + k];
    const uint64_t bent = (uint64_t)track_least(sum, 31);
    const uint64_t contexts[TRACK_CONTEXTS] = {
        own << 2 | pair,  (uint64_t)row, a << 8 | b, bent << 2 | pair, bent << 9 | own,
        (uint64_t)f->last_mask[row] << 6 | age << 2 | pair, (near >> 2) << 9 | own,
    };
    const int32_t select = (int32_t)(age < 3 ? age : 3) + 4 * (int32_t)p->number;
    s->changes[i] = (uint8_t)mix_symbol<MIX_READ>(&m, 1, contexts, select, 0);
    if (f->any->failed) return false;
  }
  return true;
}

// The attributes that change, of n rows that do.
INLINE bool track_flags(const TrackFrame *f, const TrackPass *p, const TrackRoom *s, int64_t *value, int64_t n) {
  Mix m;
  mix_begin(&m, f->flag);
  for (int64_t i = 0; i < n; i++) {
    const int64_t row = p->start + s->rows[i] * p->every;
    const uint64_t last = (uint64_t)f->last_mask[row], a = (uint64_t)f->mask[track_left(p, row)];
    const uint64_t b = (uint64_t)f->mask[track_right(f, p, row)];
    uint64_t busy = 0, fresh = 0, bends = 0, far = 0;
    for (int64_t k = 0; k < f->n_kinds; k++) {
      const int32_t bent = s->bent[s->rows[i] * f->n_kinds + k];
      busy |= (uint64_t)(f->busy_of[k * f->n + row] >= TRACK_BUSY) << k;
      fresh |= (uint64_t)(f->age_of[k * f->n + row] <= 1) << k;
      bends |= (uint64_t)(bent >= 2) << k;
      far |= (uint64_t)(bent >= 4) << k;
    }
    const uint64_t contexts[TRACK_CONTEXTS] = {
        last << 4 | (uint64_t)f->age[row], a << 8 | b, (a | b) << 8 | bends, busy << 8 | fresh, bends << 8 | busy,
        far << 8 | fresh, last << 8 | (a & b),
    };
    value[i] = mix_symbol<MIX_READ>(&m, (int)f->n_kinds, contexts, 0, 0);
    if (f->flag->failed) return false;
  }
  for (int64_t i = 0; i < n; i++) f->mask[p->start + s->rows[i] * p->every] = value[i];
  return true;
}

// The numbers of a column, of n rows: their small parts, then what is left of those that are large.
INLINE bool track_column(const TrackFrame *f, const TrackPass *p, const TrackRoom *s,
                         const TrackKind *kind, TrackPart *o, int64_t n, int64_t c) {
  const int64_t w = f->n_columns, select = c - kind->first;
  Mix m;
  mix_begin(&m, kind->small);
  for (int64_t i = 0; i < n; i++) {
    const int64_t place = o->chosen[i], row = p->start + place * p->every;
    const int64_t near = track_short(f->step[track_left(p, row) * w + c] + f->step[track_right(f, p, row) * w + c]);
    const int64_t bend = track_short(s->bends[place * w + c]), now = f->now[row * w + c];
    const int64_t x = track_short(o->before[i]), y = track_short(o->second[i]), z = track_short(f->last[row * w + c]);
    const int64_t contexts[TRACK_CONTEXTS] = {
        x << 5 | bend, z << 5 | x, x << 10 | y << 5 | z, (now < -127 ? -127 : now > 127 ? 127 : now) & 255,
        bend << 5 | near, near << 5 | z, bend << 10 | z << 5 | x,
    };
    uint64_t tagged[TRACK_CONTEXTS];
    for (int k = 0; k < TRACK_CONTEXTS; k++) tagged[k] = (uint64_t)(contexts[k] * kind->width + select);
    o->value[i] = mix_symbol<MIX_READ>(&m, TRACK_SMALL, tagged, (int32_t)select, 0);
    if (kind->small->failed) return false;
  }
  mix_begin(&m, kind->large);
  const int64_t escape = (1 << TRACK_SMALL) - 1;
  for (int part = 0; part < TRACK_MORE; part++)
    for (int64_t i = 0; i < n; i++) {
      // What is escaped is below zero meanwhile: its parts, and the escape itself is no more than a mark.
      if (part ? o->value[i] >= 0 : o->value[i] != escape) continue;
      const uint64_t context = (uint64_t)part;
      const int64_t read = mix_symbol<MIX_READ>(&m, TRACK_LARGE, &context, part, 0);
      if (kind->large->failed) return false;
      o->value[i] = part ? ~(~o->value[i] | read << (8 * part)) : ~read;
    }
  for (int64_t i = 0; i < n; i++) {
    const int64_t whole = o->value[i] < 0 ? ~o->value[i] : o->value[i];
    const int64_t value = whole & 1 ? -((whole + 1) >> 1) : whole >> 1;
    const int64_t at = (p->start + o->chosen[i] * p->every) * w + c;
    f->now[at] += value;
    f->step[at] = value;
    if (value) f->last[at] = value;
    o->second[i] = o->before[i];
    o->before[i] = value;
  }
  return true;
}

// The indices of n rows.
INLINE bool track_indices(const TrackFrame *f, const TrackPass *p, const TrackRoom *s,
                          const TrackKind *kind, TrackPart *o, int64_t n) {
  const int64_t w = f->n_columns, c = kind->first;
  Mix m;
  mix_begin(&m, kind->small);
  for (int64_t i = 0; i < n; i++) {
    const int64_t row = p->start + o->chosen[i] * p->every;
    const uint64_t contexts[3] = {0, (uint64_t)f->now[row * w + c], (uint64_t)f->now[track_left(p, row) * w + c]};
    o->value[i] = mix_symbol<MIX_READ>(&m, (int)kind->bits, contexts, 0, 0);
    if (kind->small->failed) return false;
  }
  for (int64_t i = 0; i < n; i++) f->now[(p->start + o->chosen[i] * p->every) * w + c] = o->value[i];
  return true;
}

// An attribute in the n rows that change.
static bool track_kind(const TrackFrame *f, const TrackPass *p, const TrackRoom *s, int64_t k, TrackPart *o, int64_t n) {
  const TrackKind *kind = f->kinds + k;
  int64_t n_chosen = 0;
  for (int64_t i = 0; i < n; i++)
    if (f->mask[p->start + s->rows[i] * p->every] >> k & 1) o->chosen[n_chosen++] = s->rows[i];
  if (!n_chosen) return true;
  if (kind->bits) return track_indices(f, p, s, kind, o, n_chosen);
  memset(o->before, 0, n_chosen * sizeof(int64_t));
  memset(o->second, 0, n_chosen * sizeof(int64_t));
  for (int64_t c = kind->first; c < kind->first + kind->width; c++)
    if (!track_column(f, p, s, kind, o, n_chosen, c)) return false;
  return true;
}

INLINE bool track_pass(const TrackFrame *f, const TrackPass *p, TrackRoom *s, TrackPart *parts) {
  track_bends(f, p, s);
  if (!track_any(f, p, s)) return false;
  int64_t n = 0;
  for (int64_t i = 0; i < p->n; i++) {
    const int64_t row = p->start + i * p->every;
    f->mask[row] = 0;
    memset(f->step + row * f->n_columns, 0, f->n_columns * sizeof(int64_t));
    if (s->changes[i]) s->rows[n++] = i;
  }
  if (!n) return true;
  if (!track_flags(f, p, s, parts[0].value, n)) return false;
  int32_t read[TRACK_KINDS]; // by each attribute: their streams have nothing to do with each other
  parallel(f->n_kinds, [&](int64_t k, int) { read[k] = track_kind(f, p, s, k, parts + k, n); });
  for (int64_t k = 0; k < f->n_kinds; k++)
    if (!read[k]) return false;
  return true;
}

// A frame is past: what its contexts count.
INLINE void track_past(const TrackFrame *f) {
  for (int64_t i = 0; i < f->n; i++) {
    const int64_t mask = f->mask[i], changed = mask != 0;
    f->age[i] = changed ? 0 : track_least(f->age[i] + 1, 15);
    f->busy[i] += 31 * changed - (f->busy[i] >> 3);
    if (changed) f->last_mask[i] = mask;
    for (int64_t k = 0; k < f->n_kinds; k++) {
      int64_t *age = f->age_of + k * f->n + i, *busy = f->busy_of + k * f->n + i;
      const int64_t flag = mask >> k & 1;
      *age = flag ? 0 : track_least(*age + 1, 15);
      *busy += 31 * flag - (*busy >> 3);
    }
  }
}

INLINE bool track_fits(const TrackFrame *f) {
  if (f->n < 1 || f->n_kinds < 1 || f->n_kinds > TRACK_KINDS || f->n_columns < 1) return false;
  bool fits = mix_fits(f->any, 1, TRACK_CONTEXTS, 12) && mix_fits(f->flag, f->n_kinds, TRACK_CONTEXTS, 1);
  for (int64_t k = 0; k < f->n_kinds; k++) {
    const TrackKind *kind = f->kinds + k;
    if (kind->first < 0 || kind->width < 1 || kind->first + kind->width > f->n_columns) return false;
    fits = fits && (kind->bits ? kind->width == 1 && mix_fits(kind->small, kind->bits, 3, 1)
                               : mix_fits(kind->small, TRACK_SMALL, TRACK_CONTEXTS, kind->width) &&
                                     mix_fits(kind->large, TRACK_LARGE, 1, TRACK_MORE));
  }
  return fits;
}

// Reads the next frame: `now` and all that is known change in place.
int mixing_tracks(TrackFrame *f) {
  if (!track_fits(f)) return CODEC_BAD_CALL;
  const int64_t rows = f->n / 2 + 2; // of a pass, at most
  TrackRoom s;
  s.bends = (int64_t *)pool_scratch(0, rows * f->n_columns * sizeof(int64_t));
  int64_t *numbers = (int64_t *)pool_scratch(1, rows * (1 + 4 * f->n_kinds) * sizeof(int64_t));
  s.bent = (int32_t *)pool_scratch(2, rows * f->n_kinds * sizeof(int32_t));
  s.changes = (uint8_t *)pool_scratch(3, rows);
  if (!s.bends || !numbers || !s.bent || !s.changes) return CODEC_NO_MEMORY;
  s.rows = numbers;
  TrackPart parts[TRACK_KINDS];
  for (int64_t k = 0; k < f->n_kinds; k++) {
    int64_t *own = numbers + (1 + 4 * k) * rows;
    parts[k] = {own, own + rows, own + 2 * rows, own + 3 * rows};
  }
  static const int64_t START[3] = {0, 2, 1}, EVERY[3] = {4, 4, 2}, APART[3] = {4, 2, 1};
  for (int64_t k = 0, number = 0; k < 3; k++) {
    if (START[k] >= f->n) continue;
    const TrackPass p = {number++, START[k], EVERY[k], APART[k], (f->n - START[k] + EVERY[k] - 1) / EVERY[k]};
    if (!track_pass(f, &p, &s, parts)) return CODEC_DAMAGED;
  }
  track_past(f);
  return CODEC_OK;
}
