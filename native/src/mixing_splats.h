// Gaussians: positions in an order that is free, and columns of numbers, by context mixing.
//
// Positions: boxes are halved, all of one size before the smaller ones; how many points lie in the first half is told
// by the boxes around, and by the halves of those that were split already. Columns: row by row in the order of the
// positions; what a column has is told by the rows nearby that came before and by the columns before it. Predictions
// (a mean of the rows nearby, corrected by what columns before it were off) go into the mixer as spreads about a centre.
// A vector of columns that occurred before is spelled out only where those that occurred differ.
// Twin: entropy/mixing/splats_oracle.py.

const int SPLAT_POINT_CONTEXTS = 7, SPLAT_CONTEXTS = 6, SPLAT_CENTRES = 3, SPLAT_NEAR = 8, SPLAT_WIDTH = 256;
const int SPLAT_NUMBER = 0, SPLAT_REPEAT = 1, SPLAT_VECTOR = 2, SPLAT_LARGEST = 3, SPLAT_PART = 4;
const int SPLAT_CELL = 16, SPLAT_SHELLS = 3, SPLAT_LOOKED = 256; // what is looked at for rows nearby
const int64_t SPLAT_PACE = 400;

INLINE int splat_log(uint64_t x) { return x ? 64 - __builtin_clzll(x) : 0; } // the bits of a number

INLINE uint64_t splat_chain(uint64_t a, uint64_t b, uint64_t c = 0) {
  return (a * 0x9E3779B97F4A7C15u + b) * 0xD6E8FEB86659FD93u + c * 0xBF58476D1CE4E5B9u;
}

INLINE int64_t splat_within(int64_t x, int64_t most) { return x < 0 ? 0 : x > most ? most : x; }

// Numbers that are spread about a centre: what a decision between two halves of an interval can expect.
struct SplatSpread {
  int64_t centre, rate; // rate: 2^16 times the log odds, in 2^-8, of half a number's distance
  int32_t low, high;    // the probability of less than the interval's ends
};

INLINE int32_t splat_below(const MixingCoder *c, const SplatSpread *s, int64_t edge) {
  int64_t x = (2 * (edge - s->centre) - 1) * s->rate >> 16;
  return c->squash[MIX_LOW + (x < -MIX_LOW ? -MIX_LOW : x > MIX_LOW - 1 ? MIX_LOW - 1 : (int)x)];
}

// error: 2^8 times the mean distance from the centre, at least 16. The interval begins as [0, end).
INLINE void splat_spread(const MixingCoder *c, SplatSpread *s, int64_t centre, int64_t error, int64_t end) {
  s->centre = centre;
  s->rate = ((int64_t)45426 << 16) / error; // 2^8 * 2^8 * ln 4 / 2
  s->low = splat_below(c, s, 0);
  s->high = splat_below(c, s, end);
}

// Log odds of [middle, high) in [low, high). part: of less than the middle.
INLINE int32_t splat_odds(const MixingCoder *c, const SplatSpread *s, int64_t low, int64_t half, int32_t part) {
  const int32_t all = s->high - s->low;
  if (all < 64) { // far from the centre
    const int64_t x = half * s->rate >> 15;
    return (int32_t)(s->centre < low ? -(x > 2000 ? 2000 : x) : x > 2000 ? 2000 : x);
  }
  const int32_t p = (int32_t)(((uint32_t)(s->high - part) << 16) / (uint32_t)all);
  return c->stretch[mix_odds((uint32_t)(p < 16 ? 16 : p > 65519 ? 65519 : p))];
}

INLINE void splat_erred(int32_t *error, int64_t distance) {
  distance = distance < 0 ? -distance : distance;
  distance = distance > 1 << 22 ? 1 << 22 : distance;
  *error += (int32_t)(((distance << 8) - *error) >> 5);
}

// ---- positions

struct SplatBox {
  int count, sort;              // the points in it; a class of that number, 0 to 7
  int low, high, first, second; // points in the boxes before and behind; in the halves of those beside it
  int beside;                   // points in those beside it whose halves aren't known
  int axis, depth;
  int64_t centre, error; // how many are expected in the first half, times 2^8; the mean error of that
  int32_t *errors;
  uint64_t value[SPLAT_POINT_CONTEXTS];
};

INLINE int splat_few(int x) { return x < 3 ? x : 3; }

INLINE int splat_sort(int x) { return x < 5 ? x - 1 : x < 9 ? 4 : x < 17 ? 5 : x < 257 ? 6 : 7; }

// Tables are looked up by hashes with a seed of each process: nobody can make a file whose places share a slot, which
// would take a time that grows with their square. What is in a table doesn't depend on the seed.
INLINE uint64_t splat_hash(uint64_t seed, uint64_t x, uint64_t y, uint64_t z) {
  return mix_hash(mix_hash(mix_hash(seed, x), y), z);
}

// Where the table of boxes is looked at first: the 64 boxes of a block lie side by side.
INLINE uint32_t splat_place(uint64_t seed, const uint32_t *box, int owner) {
  const uint64_t block = splat_hash(seed ^ (uint64_t)owner << 32, box[0] >> 2, box[1] >> 2, box[2] >> 2);
  return (uint32_t)(block >> 32) << 6 | (box[0] & 3) << 4 | (box[1] & 3) << 2 | (box[2] & 3);
}

// The box at a corner: its index, or -1.
INLINE int splat_at(const MixingPoints *a, int from, uint32_t x, uint32_t y, uint32_t z, int owner) {
  const uint32_t box[3] = {x, y, z}, mask = (uint32_t)a->n_slots - 1;
  for (uint32_t at = splat_place(a->seed, box, owner) & mask;; at = (at + 1) & mask) {
    const int i = a->slots[at] - 1;
    if (i < 0) return -1;
    const uint32_t *other = a->boxes[from] + 3 * (int64_t)i;
    if (other[0] == x && other[1] == y && other[2] == z && a->owners[from][i] == owner) return i;
  }
}

INLINE void splat_table(MixingPoints *a, int from, int64_t n) {
  const uint32_t mask = (uint32_t)a->n_slots - 1;
  memset(a->slots, 0, a->n_slots * sizeof *a->slots);
  for (int64_t i = 0; i < n; i++) {
    uint32_t at = splat_place(a->seed, a->boxes[from] + 3 * i, a->owners[from][i]) & mask;
    while (a->slots[at]) at = (at + 1) & mask;
    a->slots[at] = (int32_t)i + 1;
  }
}

// What is known around a box. Returns how many boxes touch it.
INLINE int splat_around(const MixingPoints *a, int from, int64_t i, int axis, SplatBox *s) {
  const uint32_t *box = a->boxes[from] + 3 * i;
  const int owner = a->owners[from][i];
  int hits = 0;
  s->low = s->high = s->first = s->second = s->beside = 0;
  for (int k = 0; k < 6; k++) {
    uint32_t at[3] = {box[0], box[1], box[2]};
    const int along = k >> 1;
    at[along] += k & 1 ? 1u : ~0u;
    const int j = splat_at(a, from, at[0], at[1], at[2], owner);
    if (j < 0) continue;
    hits++;
    const int count = a->counts[from][j];
    if (along == axis) {
      (k & 1 ? s->high : s->low) += count;
    } else if (j < i) {
      s->first += a->lefts[j];
      s->second += count - a->lefts[j];
    } else {
      s->beside += count;
    }
  }
  return hits;
}

INLINE int splat_some(int x) { return x < 4 ? x : x < 8 ? 4 : x < 32 ? 5 : 6; }

INLINE void splat_box(MixingPoints *a, SplatBox *s) {
  const int c = s->count < 15 ? s->count : 14 + splat_log((uint32_t)s->count >> 3);
  const int l = splat_some(s->low), h = splat_some(s->high), f = splat_some(s->first), g = splat_some(s->second);
  const int u = splat_some(s->beside), where = s->depth * 64 + c;
  uint64_t *v = s->value;
  v[0] = splat_chain(where, 0);
  v[1] = splat_chain(c, l * 8 + h, 1);
  v[2] = splat_chain(c, f * 8 + g, 2);
  v[3] = splat_chain(c, (l * 8 + h) * 64 + f * 8 + g, 3);
  v[4] = splat_chain(where, (splat_few(s->low) * 4 + splat_few(s->high)) * 16 + splat_few(s->first) * 4 + splat_few(s->second), 4);
  v[5] = splat_chain(c, (u * 8 + l) * 8 + h, 5 + s->axis);
  v[6] = splat_chain(c, (u * 8 + f) * 8 + g, 8 + s->axis);
  s->sort = splat_sort(s->count);
  const int64_t before = s->low + 2 * (int64_t)s->first + 2, behind = s->high + 2 * (int64_t)s->second + 2;
  s->centre = s->count * before / (before + behind);
  s->errors = a->errors + splat_log((uint32_t)s->count) * 8 + splat_log((uint32_t)(s->low + s->high + s->first + s->second)) / 4 % 8;
}

// How many of a box's points lie in its first half.
template <int ROLE> static int splat_half(Mix *m, MixingPoints *a, SplatBox *s, int first) {
  const int width = splat_log((uint32_t)s->count);
  const int around = ((splat_few(s->low) * 4 + splat_few(s->high)) * 4 + splat_few(s->first)) * 4 + splat_few(s->second);
  int made = 0;
  SplatSpread spread;
  splat_spread(m->c, &spread, s->centre, *s->errors + 16, s->count + 1);
  for (int g = 0, left = width; left; g++) {
    uint64_t hashes[SPLAT_POINT_CONTEXTS];
    for (int k = 0; k < SPLAT_POINT_CONTEXTS; k++) hashes[k] = mix_hash(k, splat_chain(s->value[k], (uint64_t)made, g));
    mix_open(m, hashes);
    for (int node = 1; node < 16 && left;) {
      left--;
      const int64_t low = (int64_t)made << (left + 1), middle = low + ((int64_t)1 << left);
      int bit = 0;
      if (middle <= s->count) {
        const int32_t part = splat_below(m->c, &spread, middle);
        m->extra[0] = splat_odds(m->c, &spread, low, middle - low, part);
        const int turn = g < 3 ? g : 3;
        m->set[0] = s->sort * 64 + turn * 16 + node;
        m->set[1] = 512 + s->depth * 8 + s->sort;
        m->set[2] = 1280 + around * 4 + splat_few(s->count) ;
        m->last = s->sort * 16 + node;
        m->refine[0] = around * 4 + splat_few(s->count);
        m->refine[1] = 1024 + s->sort * 32 + (m->extra[0] + MIX_LOW) / 192;
        a->decisions++;
        bit = mix_bit<ROLE>(m, node, first >> left & 1);
        (bit ? spread.low : spread.high) = part;
      }
      node = node * 2 + bit;
      made = made * 2 + bit;
    }
  }
  return made;
}

INLINE int splat_split(const MixingPoints *a, int64_t from, int count, int axis, int shift) {
  int k = 0;
  while (k < count && !(a->points[3 * (from + k) + axis] >> shift & 1)) k++;
  return k;
}

template <int ROLE> static int splat_points(MixingCoder *coder, MixingPoints *a) {
  Mix m;
  mix_begin(&m, coder);
  SplatBox s = {};
  int64_t n = a->n_groups;
  for (int64_t i = 0; i < n; i++) {
    memset(a->boxes[0] + 3 * i, 0, 12);
    a->counts[0][i] = (int32_t)a->groups[i];
    a->owners[0][i] = (int32_t)i;
  }
  a->decisions = 0;
  int from = 0, alone = 0;
  for (int step = 0; step < 3 * a->bits; step++, from ^= 1) {
    const int axis = step % 3, shift = (int)a->bits - 1 - step / 3, to = from ^ 1;
    int64_t hits = 0, next = 0, at = 0;
    if (!alone) splat_table(a, from, n);
    s.axis = axis;
    s.depth = step;
    if (alone) s.low = s.high = s.first = s.second = s.beside = 0;
    for (int64_t i = 0; i < n; i++) {
      s.count = a->counts[from][i];
      if (!alone) hits += splat_around(a, from, i, axis, &s);
      splat_box(a, &s);
      const int given = ROLE == MIX_READ ? 0 : splat_split(a, at, s.count, axis, shift);
      const int lone = s.count == 1 && !(s.low | s.high | s.first | s.second | s.beside);
      const int left = lone ? mix_coded<ROLE>(coder, given, 32768) : splat_half<ROLE>(&m, a, &s, given);
      splat_erred(s.errors, left - s.centre);
      a->lefts[i] = left;
      at += s.count;
      if (coder->failed) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY;
    }
    for (int64_t i = 0; i < n; i++)
      for (int half = 0; half < 2; half++) {
        const int count = half ? a->counts[from][i] - a->lefts[i] : a->lefts[i];
        if (!count) continue;
        uint32_t *box = a->boxes[to] + 3 * next;
        memcpy(box, a->boxes[from] + 3 * i, 12);
        box[axis] = box[axis] * 2 + half;
        a->counts[to][next] = count;
        a->owners[to][next++] = a->owners[from][i];
      }
    n = next;
    alone |= n > 1024 && hits * 8 < n;
  }
  if (ROLE == MIX_READ)
    for (int64_t i = 0, at = 0; i < n; i++)
      for (int k = 0; k < a->counts[from][i]; k++) memcpy(a->points + 3 * at++, a->boxes[from] + 3 * i, 12);
  return CODEC_OK;
}

// Codes points. The plan of the coder: entropy/mixing/splats.py.
int mixing_points(MixingCoder *c, int role, MixingPoints *a) {
  if (a->n_groups < 1 || a->n_groups > a->n || a->bits < 1 || a->bits > 32 || a->n_slots < 2 * a->n ||
      (a->n_slots & (a->n_slots - 1)) || c->n_contexts != SPLAT_POINT_CONTEXTS || c->n_extra != 1 || c->n_choices != 3 ||
      c->n_sets < 2304 || c->n_finals < 128 || c->n_refined < 1280)
    return CODEC_BAD_CALL;
  switch (role) {
  case MIX_WRITE: return splat_points<MIX_WRITE>(c, a);
  case MIX_READ: return splat_points<MIX_READ>(c, a);
  case MIX_PRICE: return splat_points<MIX_PRICE>(c, a);
  }
  return CODEC_BAD_CALL;
}

// ---- rows nearby

INLINE int64_t splat_root(int64_t x) { // of a number of at most 52 bits, rounded down
  int64_t root = 0;
  for (int64_t bit = (int64_t)1 << (splat_log((uint64_t)x) + 1) / 2; bit; bit >>= 1)
    if ((root + bit) * (root + bit) <= x) root += bit;
  return root;
}

// Where a cell is in the table, or the free slot where it would be.
INLINE uint32_t splat_slot(const SplatPlaces *a, const uint32_t *cell) {
  const uint32_t mask = (uint32_t)a->n_slots - 1;
  const uint32_t first = (uint32_t)(splat_hash(a->seed, cell[0], cell[1], cell[2]) >> 32) & mask;
  for (uint32_t at = first;; at = (at + 1) & mask) {
    if (a->slots[at] < 0) return at;
    const uint32_t *place = a->places + 3 * (int64_t)a->slots[at];
    if (place[0] >> a->shift == cell[0] && place[1] >> a->shift == cell[1] && place[2] >> a->shift == cell[2]) return at;
  }
}

struct SplatNearest {
  int64_t distance[SPLAT_NEAR]; // squared
  int32_t row[SPLAT_NEAR];
  int n, looked;
};

// The last rows of a cell: the nearest are kept.
INLINE void splat_look(const SplatPlaces *a, const uint32_t *place, const uint32_t *cell, SplatNearest *s) {
  int32_t j = a->slots[splat_slot(a, cell)];
  for (int k = 0; k < SPLAT_CELL && j >= 0; k++, j = a->previous[j]) {
    const uint32_t *other = a->places + 3 * (int64_t)j;
    int64_t distance = 0;
    for (int p = 0; p < 3; p++) distance += ((int64_t)place[p] - other[p]) * ((int64_t)place[p] - other[p]);
    s->looked++;
    int at = s->n;
    while (at > 0 && s->distance[at - 1] > distance) at--;
    if (at == SPLAT_NEAR) continue;
    if (s->n < SPLAT_NEAR) s->n++;
    for (int p = s->n - 1; p > at; p--) s->distance[p] = s->distance[p - 1], s->row[p] = s->row[p - 1];
    s->distance[at] = distance;
    s->row[at] = j;
  }
}

INLINE void splat_nearest(const SplatPlaces *a, int64_t i, const uint32_t *cell, SplatNearest *s) {
  s->n = s->looked = 0;
  for (int r = 0; r <= SPLAT_SHELLS; r++) {
    for (int z = -r; z <= r; z++)
      for (int y = -r; y <= r; y++)
        for (int x = -r; x <= r; x += (z == -r || z == r || y == -r || y == r || !r) ? 1 : 2 * r) {
          const uint32_t other[3] = {cell[0] + x, cell[1] + y, cell[2] + z};
          if (s->looked < SPLAT_LOOKED) splat_look(a, a->places + 3 * i, other, s);
        }
    const int64_t sure = (int64_t)r << a->shift;
    if (s->looked >= SPLAT_LOOKED || (s->n == SPLAT_NEAR && s->distance[SPLAT_NEAR - 1] <= sure * sure)) break;
  }
  if (s->n || !i) return;
  s->n = 1;
  s->row[0] = (int32_t)i - 1;
  s->distance[0] = (int64_t)1 << 50;
}

// The rows near each row, among those before it: places are below 2^24.
int splat_places(SplatPlaces *a) {
  if (a->n < 0 || a->shift < 0 || a->shift > 31 || a->n_slots < 2 * a->n || (a->n_slots & (a->n_slots - 1))) return CODEC_BAD_CALL;
  SplatNearest s;
  for (int64_t i = 0; i < a->n; i++) {
    const uint32_t *place = a->places + 3 * i;
    const uint32_t cell[3] = {place[0] >> a->shift, place[1] >> a->shift, place[2] >> a->shift};
    splat_nearest(a, i, cell, &s);
    const int64_t first = s.n ? splat_root(s.distance[0]) + 1 : (int64_t)1 << 26;
    for (int k = 0; k < SPLAT_NEAR; k++) {
      a->rows[SPLAT_NEAR * i + k] = k < s.n ? s.row[k] : -1;
      a->weights[SPLAT_NEAR * i + k] = k < s.n ? (int32_t)(256 * first / (splat_root(s.distance[k]) + 1)) : 0;
    }
    const int size = splat_log((uint64_t)first), far = 2 * size + (size > 1 ? (int)(first >> (size - 2) & 1) : 0);
    a->far[i] = far > 31 ? 31 : far;
    const uint32_t at = splat_slot(a, cell);
    a->previous[i] = a->slots[at];
    a->slots[at] = (int32_t)i;
  }
  return CODEC_OK;
}

// ---- columns

struct SplatRow {
  const int32_t *near[SPLAT_NEAR]; // the values of rows nearby
  int64_t turned[3][SPLAT_NEAR];   // their rotations' parts, as if the largest were that of this row
  int64_t mean[SPLAT_WIDTH];       // of rows nearby in each column
  int64_t index[SPLAT_NEAR];
  int weight[SPLAT_NEAR], n, total;
  int repeats, part;  // whether the vector occurred before; how many parts of the rotation are past
  uint64_t beginning; // a hash of the vector so far
};

struct SplatCell { // a column of the row that is coded
  int bits, down;  // down: by how much numbers are shifted for their contexts
  int spread;      // a class of how much rows nearby differ
  int64_t near[SPLAT_NEAR];
  int64_t centre[SPLAT_CENTRES]; // what is expected: corrected, the nearest, the mean with the first link's error
  int64_t link[3], off[3];     // values of other columns, and how far they are from their own mean
  int64_t part[9];             // of the correction
  uint64_t value[SPLAT_CONTEXTS];
};

INLINE int64_t splat_value(int32_t v) { return (int64_t)(uint32_t)v; }

INLINE void splat_row(const MixingColumns *a, int64_t i, SplatRow *r) {
  const int32_t *rows = a->rows + SPLAT_NEAR * i, *weights = a->weights + SPLAT_NEAR * i;
  r->n = r->total = r->repeats = r->part = 0;
  r->beginning = 0;
  for (int k = 0; k < SPLAT_NEAR && rows[k] >= 0; k++) {
    r->near[k] = a->values + a->width * rows[k];
    r->index[k] = rows[k];
    r->weight[k] = weights[k];
    r->total += weights[k];
    r->n++;
  }
}

// The values of rows nearby in a column.
INLINE void splat_nearby(const MixingColumns *a, const SplatRow *r, int c, int64_t *near) {
  const int64_t *turned = c >= a->first && a->kind[c] == SPLAT_PART ? r->turned[r->part] : 0;
  for (int k = 0; k < r->n; k++) near[k] = turned ? turned[k] : splat_value(r->near[k][c]);
}

INLINE int64_t splat_mean(const MixingColumns *a, const SplatRow *r, int c, const int64_t *near) {
  if (!r->n) return (int64_t)1 << (a->bits[c] - 1);
  int64_t sum = r->total / 2;
  for (int k = 0; k < r->n; k++) sum += r->weight[k] * near[k];
  return sum / r->total;
}

// The largest part of a row's rotation is known: those of rows nearby, turned so that theirs is the same.
INLINE void splat_turned(const MixingColumns *a, SplatRow *r, int largest, int bits) {
  const int64_t most = ((int64_t)1 << bits) - 1;
  for (int k = 0; k < r->n; k++) {
    const int32_t *q = a->turns + 4 * r->index[k];
    for (int p = 0, j = 0; p < 4; p++) {
      if (p == largest) continue;
      const int64_t t = q[largest] < 0 ? -q[p] : q[p];
      r->turned[j++][k] = splat_within((t >> (16 - bits)) + ((int64_t)1 << (bits - 1)), most);
    }
  }
}

INLINE void splat_turn(int32_t *turn, const int32_t *parts, int largest, int bits) {
  int64_t left = (int64_t)1 << 31;
  for (int p = 0, j = 0; p < 4; p++) {
    if (p == largest) continue;
    const int64_t t = (2 * (int64_t)parts[j++] + 1 - ((int64_t)1 << bits)) << (15 - bits);
    turn[p] = (int32_t)t;
    left -= t * t;
  }
  turn[largest] = (int32_t)splat_root(left < 0 ? 0 : left);
}

INLINE void splat_cell(const MixingColumns *a, SplatRow *r, const int32_t *row, int c, SplatCell *s) {
  const int64_t most = ((int64_t)1 << a->bits[c]) - 1;
  s->bits = a->bits[c];
  s->down = s->bits > 8 ? s->bits - 8 : 0;
  splat_nearby(a, r, c, s->near);
  const int64_t mean = splat_mean(a, r, c, s->near);
  r->mean[c] = mean;
  const int prior = a->prior[c];
  int64_t differ = 0;
  for (int k = 0; k < r->n; k++) {
    const int64_t apart = s->near[k] - (prior < 0 ? mean : splat_value(r->near[k][prior]));
    differ += r->weight[k] * (apart < 0 ? -apart : apart);
  }
  for (int k = r->n; k < SPLAT_NEAR; k++) s->near[k] = mean;
  if (prior >= 0) { // as the nearest of all
    for (int k = SPLAT_NEAR - 1; k; k--) s->near[k] = s->near[k - 1];
    s->near[0] = splat_within(splat_value(row[prior]), most);
  }
  differ = r->total ? 4 * differ / r->total : most;
  const int size = splat_log((uint64_t)differ >> s->down);
  s->spread = size > 10 ? 10 : size;
  for (int k = 0; k < 3; k++) {
    const int from = a->links[3 * c + k];
    s->link[k] = s->off[k] = 0;
    if (from < 0) continue;
    const int64_t value = splat_value(row[from]), off = value - r->mean[from];
    const int bits = a->bits[from];
    s->link[k] = value >> (bits > 8 ? bits - 8 : 0);
    s->off[k] = bits > s->bits ? off >> (bits - s->bits) : off * ((int64_t)1 << (s->bits - bits));
  }
  const int fine = s->bits > 16 ? s->bits - 16 : 0;
  for (int k = 0; k < 3; k++) s->part[k] = s->off[k] >> fine;
  for (int k = 0; k < 4; k++) s->part[3 + k] = (s->near[k] - mean) >> fine;
  s->part[7] = (mean - ((most + 1) >> 1)) >> fine >> 2;
  s->part[8] = (most + 1) >> fine >> 5;
  int64_t sum = 1 << 15;
  for (int k = 0; k < 9; k++) sum += s->part[k] * a->slopes[16 * c + k];
  s->centre[0] = splat_within(mean + (sum >> 16) * ((int64_t)1 << fine), most);
  s->centre[1] = s->near[0];
  s->centre[2] = splat_within(mean + s->off[0], most);
}

INLINE void splat_contexts(const MixingColumns *a, const SplatRow *r, int64_t i, int c, SplatCell *s) {
  const int d = s->down;
  const uint64_t guess = (uint64_t)s->centre[2] >> d, n0 = (uint64_t)s->near[0] >> d;
  const uint64_t l0 = (uint64_t)s->link[0], l1 = (uint64_t)s->link[1], l2 = (uint64_t)s->link[2];
  uint64_t *v = s->value;
  v[0] = splat_chain(c, 0);
  v[1] = splat_chain(c, guess, 1);
  v[2] = splat_chain(c, (l0 >> 1) * 256 + (l1 >> 2), 2);
  v[3] = splat_chain(c, ((l0 >> 2) * 256 + (l1 >> 3)) * 256 + (l2 >> 3), 3);
  v[4] = splat_chain(c, (l0 >> 2) * 32 + a->far[i], 4);
  v[5] = a->kind[c] == SPLAT_VECTOR ? splat_chain(c, r->beginning, 5 + r->repeats)
                                    : splat_chain(c, ((uint64_t)s->near[1] >> d >> 2) * 64 + (n0 >> 2), 5);
}

INLINE uint64_t splat_noted(const MixingColumns *a, const SplatRow *r, int c, int depth, int64_t made) {
  return mix_hash((uint64_t)(c * 64 + depth), splat_chain(r->beginning, (uint64_t)made)) >> (64 - a->seen_bits);
}

INLINE int splat_seen(const MixingColumns *a, const SplatRow *r, int c, int depth, int64_t made) {
  const uint64_t at = splat_noted(a, r, c, depth, made);
  return a->seen[at >> 5] >> (at & 31) & 1;
}

// Which bits occur at all in the column: 1, 2, or 3 for both.
INLINE int splat_occurs(const MixingColumns *a, int c, int left, int64_t made) {
  if (a->known_at[c] < 0) return 3;
  const int32_t *known = a->known + a->known_at[c] + (made << (left + 1));
  const int64_t half = (int64_t)1 << left;
  const int occurs = (known[half] > known[0]) | (known[2 * half] > known[half]) << 1;
  return occurs ? occurs : 3;
}

// A vector that is new: its beginnings are noted, bit by bit.
INLINE void splat_note(MixingColumns *a, const SplatRow *r, int c, int64_t value) {
  for (int depth = 0; depth < a->bits[c] && a->seen_left > 0; depth++) {
    const int left = a->bits[c] - 1 - depth;
    if (splat_occurs(a, c, left, value >> (left + 1)) != 3) continue;
    const uint64_t at = splat_noted(a, r, c, depth, value >> left);
    a->seen[at >> 5] |= 1u << (at & 31);
    a->seen_left--;
  }
}

// Which bits are possible: 1, 2, or 3 for both.
INLINE int splat_possible(const MixingColumns *a, const SplatRow *r, int c, int depth, int left, int64_t made) {
  const int occurs = splat_occurs(a, c, left, made);
  if (occurs != 3 || !r->repeats || a->kind[c] != SPLAT_VECTOR) return occurs;
  const int seen = splat_seen(a, r, c, depth, 2 * made) | splat_seen(a, r, c, depth, 2 * made + 1) << 1;
  return seen ? seen : 3;
}

template <int ROLE>
static int32_t splat_coded(Mix *m, MixingColumns *a, const SplatRow *r, int64_t i, int c, const SplatCell *s, int64_t value) {
  const int width = (int)a->width, far = a->far[i];
  const int32_t *errors = a->errors + 64 * c + s->spread;
  int64_t made = 0;
  int skipped = 0;
  SplatSpread spread[SPLAT_CENTRES];
  for (int k = 0; k < SPLAT_CENTRES; k++) splat_spread(m->c, &spread[k], s->centre[k], errors[16 * k] + 32, (int64_t)1 << s->bits);
  for (int g = 0, left = s->bits; left; g++) {
    int opened = 0;
    for (int node = 1; node < 16 && left;) {
      left--;
      const int depth = s->bits - 1 - left, deep = depth < 15 ? depth : 15;
      const int possible = splat_possible(a, r, c, depth, left, made);
      int bit = possible >> 1;
      int32_t part[SPLAT_CENTRES];
      if (possible == 3) {
        if (!opened) {
          uint64_t hashes[SPLAT_CONTEXTS];
          for (int k = 0; k < SPLAT_CONTEXTS; k++) hashes[k] = mix_hash((uint64_t)k, splat_chain(s->value[k], (uint64_t)made, (uint64_t)g));
          mix_open(m, hashes);
          opened = 1;
        }
        const int64_t low = made << (left + 1), half = (int64_t)1 << left;
        for (int k = 0; k < SPLAT_CENTRES; k++) {
          if (skipped) {
            spread[k].low = splat_below(m->c, &spread[k], low);
            spread[k].high = splat_below(m->c, &spread[k], low + 2 * half);
          }
          part[k] = splat_below(m->c, &spread[k], low + half);
          m->extra[k] = splat_odds(m->c, &spread[k], low, half, part[k]);
        }
        int agree = 0;
        for (int k = 0; k < 3; k++) agree = agree * 3 + (s->near[k] >> (left + 1) == made ? 1 + (int)(s->near[k] >> left & 1) : 0);
        const int turn = g < 3 ? g : 3;
        m->set[0] = c * 64 + turn * 16 + node;
        m->set[1] = width * 64 + (c * 16 + deep) * 11 + s->spread;
        m->set[2] = width * 240 + (r->repeats * 16 + deep) * 32 + far;
        m->last = c * 16 + deep;
        m->refine[0] = c * 27 + agree;
        m->refine[1] = width * 27 + deep * 32 + (m->extra[0] + MIX_LOW) / 192;
        bit = mix_bit<ROLE>(m, node, (int)(value >> left) & 1);
        for (int k = 0; k < SPLAT_CENTRES; k++) (bit ? spread[k].low : spread[k].high) = part[k];
      }
      skipped = possible != 3;
      node = node * 2 + bit;
      made = made * 2 + bit;
    }
  }
  return (int32_t)(uint32_t)made;
}

INLINE void splat_learned(MixingColumns *a, int c, const SplatCell *s, int64_t value) {
  for (int k = 0; k < SPLAT_CENTRES; k++) splat_erred(a->errors + 64 * c + 16 * k + s->spread, value - s->centre[k]);
  const int fine = s->bits > 16 ? s->bits - 16 : 0;
  const int64_t unit = (((int64_t)1 << (s->bits - fine)) >> 5) + 1, error = (value - s->centre[0]) >> fine;
  int64_t norm = unit * unit;
  for (int k = 0; k < 9; k++) norm += s->part[k] * s->part[k];
  const int64_t move = error * SPLAT_PACE * (1 << 16) / norm;
  for (int k = 0; k < 9; k++) {
    const int64_t w = a->slopes[16 * c + k] + (move * s->part[k] >> 16);
    a->slopes[16 * c + k] = (int32_t)(w < -(1 << 18) ? -(1 << 18) : w > 1 << 18 ? 1 << 18 : w);
  }
}

template <int ROLE> static int splat_columns(MixingCoder *coder, MixingColumns *a) {
  Mix m;
  mix_begin(&m, coder);
  SplatRow r;
  SplatCell s;
  int64_t known = 0;
  for (int64_t i = 0; i < a->n; i++) {
    int32_t *row = a->values + a->width * i;
    while (a->ready && known <= i) {
      known = __atomic_load_n(a->ready, __ATOMIC_ACQUIRE);
      if (known <= i) sched_yield();
    }
    splat_row(a, i, &r);
    for (int c = 0; c < a->first; c++) {
      splat_nearby(a, &r, c, s.near);
      r.mean[c] = splat_mean(a, &r, c, s.near);
    }
    int turning = -1;
    for (int c = (int)a->first; c < a->last; c++) {
      splat_cell(a, &r, row, c, &s);
      splat_contexts(a, &r, i, c, &s);
#ifdef COST
      const int64_t before = coder->bits;
#endif
      row[c] = splat_coded<ROLE>(&m, a, &r, i, c, &s, splat_value(row[c]));
#ifdef COST
      a->cost[c] += coder->bits - before;
#endif
      const int64_t value = splat_value(row[c]);
      splat_learned(a, c, &s, value);
      switch (a->kind[c]) {
      case SPLAT_REPEAT: r.repeats = (int)value; break;
      case SPLAT_VECTOR:
        if (!r.repeats) splat_note(a, &r, c, value);
        r.beginning = mix_hash(r.beginning, (uint64_t)value);
        break;
      case SPLAT_LARGEST:
        turning = (int)value;
        splat_turned(a, &r, turning, a->bits[c + 1]);
        break;
      case SPLAT_PART:
        if (++r.part == 3) splat_turn(a->turns + 4 * i, row + c - 2, turning, a->bits[c]);
        break;
      }
    }
    if (coder->failed) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY;
    if (a->done && i % 64 == 63) __atomic_store_n(a->done, i + 1, __ATOMIC_RELEASE);
  }
  return CODEC_OK;
}

// Whether the columns' descriptions hang together.
INLINE int splat_sound(const MixingColumns *a) {
  if (a->n < 0 || a->first < 0 || a->last < a->first || a->width < a->last || a->width > SPLAT_WIDTH || a->seen_bits < 5 ||
      a->seen_bits > 36)
    return 0;
  for (int c = 0; c < a->width; c++) {
    if (a->bits[c] < 1 || a->bits[c] > 32) return 0;
    if (a->prior[c] >= c) return 0;
    for (int k = 0; k < 3; k++)
      if (a->links[3 * c + k] >= c) return 0;
    if (c < a->first || c >= a->last) continue;
    if (a->kind[c] == SPLAT_LARGEST && (c + 3 >= a->last || a->bits[c] != 2 || a->bits[c + 1] > 15)) return 0;
    if (a->kind[c] == SPLAT_LARGEST)
      for (int k = 1; k < 4; k++)
        if (a->kind[c + k] != SPLAT_PART || a->bits[c + k] != a->bits[c + 1]) return 0;
    if (a->kind[c] == SPLAT_PART) {
      int parts = 0;
      while (parts < 4 && c - parts > a->first && a->kind[c - parts] == SPLAT_PART) parts++;
      if (parts > 3 || a->kind[c - parts] != SPLAT_LARGEST) return 0;
    }
  }
  return 1;
}

// Codes columns, row by row. The plan of the coder: entropy/mixing/splats.py.
int mixing_columns(MixingCoder *c, int role, MixingColumns *a) {
  int status = CODEC_BAD_CALL;
  if (splat_sound(a) && c->n_contexts == SPLAT_CONTEXTS && c->n_extra == SPLAT_CENTRES && c->n_choices == 3 &&
      c->n_sets >= 240 * a->width + 1024 && c->n_finals >= 16 * a->width && c->n_refined >= 27 * a->width + 512) {
    if (role == MIX_WRITE) status = splat_columns<MIX_WRITE>(c, a);
    if (role == MIX_READ) status = splat_columns<MIX_READ>(c, a);
    if (role == MIX_PRICE) status = splat_columns<MIX_PRICE>(c, a);
  }
  if (a->done) __atomic_store_n(a->done, a->n, __ATOMIC_RELEASE); // nobody waits for what doesn't come
  return status;
}
