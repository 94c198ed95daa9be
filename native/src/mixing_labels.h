// Label maps, palettes' indices, masks: unordered symbols on a grid, by context mixing.
//
// Sources guess each label: neighbours, what followed the same neighbourhood before, a match further back (as in LZ77,
// but of two rows), the sheet before, the next new label. They are ranked by how often they were right in their state.
// The best guesses are decided one after the other; then the label is spelled out, in nibbles, without those that were
// tried. The contexts are neighbourhoods of 1 to 16 labels, their patterns of equality, runs, the column.
// Twin: entropy/mixing/labels.py.

const int LABEL_SOURCES = 12, LABEL_NEIGHBOURS = 6, LABEL_STATES = 64, LABEL_NEAR = 16;
const int LABEL_PICTURE = 7, LABEL_MAP = 15, LABEL_DEEP = 21; // contexts
const int LABEL_SETS = 1024, LABEL_FINALS = 64, LABEL_ROWS = 640; // of each choice of weights; of refinements
const uint64_t LABEL_PRIME = 0x9E3779B97F4A7C15u;

struct LabelState {
  int32_t near[LABEL_NEAR];           // W N NW NE WW NN, NNE NNW NWW NEE WWW NNN, NNWW NNEE NWWW NEEE
  int32_t distinct[LABEL_NEIGHBOURS]; // the first six, each once
  int n_distinct;
  int digit[LABEL_NEAR];   // which of the distinct ones; LABEL_NEIGHBOURS: another
  int pattern;             // of the first four: 5 bits
  int run, ahead, above;   // classes of lengths: of W to the left, of N to the right, of N upwards
  int n_sources;
  int32_t guess[LABEL_SOURCES]; // labels; -1: none
  int state[LABEL_SOURCES];
  int32_t ranked[LABEL_SOURCES]; // guesses, each once, the best first
  int score[LABEL_SOURCES];
  int n_ranked;
  uint64_t slot[2], place[2]; // in `seen` and in `past`
  uint32_t check[2];
  int64_t match, length; // where the match is, in `pads` (0: none), and how long it holds already
  int32_t fresh;         // the label after the greatest so far
  uint64_t value[LABEL_DEEP], hashes[MIX_CONTEXTS]; // of the contexts
};

INLINE uint64_t label_chain(uint64_t h, int64_t value) { return (h ^ (uint64_t)(value + 1)) * LABEL_PRIME + (h >> 47); }
INLINE uint64_t label_chain(uint64_t h, int64_t a, int64_t b) { return label_chain(label_chain(h, a), b); }

INLINE int label_log(int64_t n) { return n < 4 ? (int)n : n < 6 ? 4 : n < 10 ? 5 : n < 20 ? 6 : 7; }

INLINE void label_near(LabelState *s, const int32_t *row, int64_t stride) {
  const int32_t *n = row - stride, *nn = n - stride, *nnn = nn - stride;
  const int32_t near[LABEL_NEAR] = {row[-1], n[0],  n[-1],   n[1],   row[-2], nn[0], nn[1], nn[-1],
                                    n[-2],   n[2],  row[-3], nnn[0], nn[-2],  nn[2], n[-3], n[3]};
  memcpy(s->near, near, sizeof near);
  s->n_distinct = 0;
  for (int i = 0; i < LABEL_NEAR; i++) {
    int d = 0;
    while (d < s->n_distinct && s->distinct[d] != near[i]) d++;
    if (d == s->n_distinct) {
      if (i < LABEL_NEIGHBOURS) s->distinct[s->n_distinct++] = near[i];
      else d = LABEL_NEIGHBOURS;
    }
    s->digit[i] = d;
  }
  s->pattern = s->digit[1] | s->digit[2] << 1 | s->digit[3] << 3;
}

// Contexts of a picture: neighbours are seldom equal, so small neighbourhoods tell most.
INLINE void label_picture(LabelState *s) {
  const int32_t *near = s->near;
  uint64_t *v = s->value, west = label_chain(0, near[0]), north = label_chain(1, near[1]);
  v[0] = west;
  v[1] = north;
  v[2] = label_chain(2, near[3]);
  v[3] = label_chain(label_chain(west, near[2], near[1]), near[3]);
  v[4] = label_chain(west, near[4], 0);
  v[5] = label_chain(north, near[5], 0);
  v[6] = label_chain(west, near[2], 1);
}

// Contexts of a map, all but two that depend on the guesses.
INLINE void label_map(LabelState *s, int64_t x) {
  const int32_t *near = s->near;
  uint64_t *v = s->value, h = 0, first = 0, second = 0;
  static const int upto[6] = {2, 4, 6, 10, 12, 16};
  for (int k = 0, i = 0; k < 6; k++) {
    for (; i < upto[k]; i++) h = label_chain(h, near[i]);
    v[k] = h;
  }
  v[6] = label_chain(label_chain(1, near[0]), near[4], near[10]);
  v[7] = label_chain(label_chain(2, near[1]), near[5], near[11]);
  v[8] = label_chain(label_chain(3, near[0]), near[1], near[3]);
  for (int i = 1; i < 10; i++) first = first * 8 + s->digit[i];
  for (int i = 10; i < LABEL_NEAR; i++) second = second * 8 + s->digit[i];
  v[9] = label_chain(4, first);
  v[10] = label_chain(5, first, second);
  v[11] = label_chain(6, s->pattern << 9 | s->run << 6 | s->ahead << 3 | s->above);
  v[12] = label_chain(7, x, near[1]);
}

// Contexts that look into the sheet before, where it is `b`.
INLINE void label_deep(LabelState *s, const int32_t *b, int64_t stride) {
  const int32_t *near = s->near;
  const int32_t there[9] = {b[0],       b[1],          b[stride], b[-1],        b[-stride], b[stride + 1],
                            b[stride - 1], b[2], b[2 * stride]};
  uint64_t *v = s->value, h = label_chain(8, b[0]), same = 0, first = 0;
  v[15] = label_chain(h, near[0], near[1]);
  h = label_chain(h, there[1], there[2]);
  v[16] = label_chain(h, near[0], near[1]);
  for (int i = 3; i < 7; i++) h = label_chain(h, there[i]);
  v[17] = h;
  for (int i = 1; i < 9; i++) same = same * 2 + (there[i] == b[0]);
  for (int i = 0; i < 6; i++) same = same * 2 + (near[i] == b[0]);
  for (int i = 1; i < 7; i++) first = first * 8 + s->digit[i];
  v[18] = label_chain(9, same, first);
  for (int i = 0; i < 6; i++) h = label_chain(h, near[i]);
  v[19] = h;
  v[20] = label_chain(10, same, s->pattern);
}

// Where the tables of neighbourhoods are looked up, and a match where there was none.
INLINE void label_lookup(MixingLabels *a, LabelState *s, const int32_t *row, const int32_t *top, int64_t stride) {
  const uint64_t mask = ((uint64_t)1 << a->seen_bits) - 1;
  uint64_t h = s->value[5];
  for (int i = 0; i < 2; i++) {
    uint64_t hash = mix_hash(64 + i, s->value[i ? 5 : 2]);
    s->slot[i] = ((uint64_t)i << a->seen_bits) + (hash & mask);
    s->check[i] = (uint32_t)(hash >> 32);
    __builtin_prefetch(a->seen + s->slot[i]);
  }
  h = label_chain(h, row[-4]);
  s->place[0] = mix_hash(66, h) & mask;
  for (int i = 5; i <= 8; i++) h = label_chain(h, row[-i]);
  for (int i = -4; i <= 4; i += 8) h = label_chain(h, row[i - stride]);
  for (int i = -3; i <= 3; i++) h = label_chain(h, row[i - 2 * stride]);
  s->place[1] = ((uint64_t)1 << a->seen_bits) + (mix_hash(67, h) & mask);
  for (int i = 0; i < 2; i++) __builtin_prefetch(a->past + s->place[i]);
  for (int i = 1; i >= 0 && !s->match; i--) {
    int64_t at = a->past[s->place[i]], length = 0;
    if (at < 1 || at >= row - top) continue;
    const int32_t *other = top + at;
    while (length < 16 && other[-length - 1] == row[-length - 1]) length++;
    if (length >= 4 && other[-stride] == row[-stride]) s->match = other - a->pads, s->length = length;
  }
}

// The guesses of a map's sources beyond its neighbours.
INLINE void label_sources(MixingLabels *a, LabelState *s, const int32_t *b, int64_t stride) {
  for (int i = 0; i < 2; i++) {
    uint64_t entry = a->seen[s->slot[i]];
    int known = entry && (uint32_t)(entry >> 32) == s->check[i];
    s->guess[6 + i] = known ? (int32_t)(entry >> 8 & 0xFFFF) : -1;
    s->state[6 + i] = known ? (int)(entry & 63) : 0;
  }
  s->guess[8] = s->match ? a->pads[s->match] : -1;
  s->state[8] = (int)(s->length < 32 ? s->length : 32 + label_log(s->length / 32));
  s->guess[9] = s->guess[10] = -1;
  s->state[9] = s->state[10] = 0;
  if (b) {
    s->guess[9] = b[0];
    s->guess[10] = b[0] == s->near[1] ? b[stride] : b[1];
    s->state[9] = s->state[10] = (b[-1] == s->near[0]) | (b[-stride] == s->near[1]) << 1 |
                                 (b[0] == s->near[0]) << 2 | (b[0] == s->near[1]) << 3 | (b[1] == b[0]) << 4 |
                                 (b[stride] == b[0]) << 5;
  }
  s->guess[11] = s->fresh < a->alphabet ? s->fresh : -1;
  s->state[11] = s->pattern;
}

// The guesses in order: by the best of their sources, and a little by each.
INLINE void label_ranked(const MixingLabels *a, LabelState *s) {
  int best[LABEL_SOURCES], n = 0;
  for (int i = 0; i < LABEL_NEIGHBOURS; i++) {
    s->guess[i] = s->near[i];
    s->state[i] = s->pattern | (i >= 4 && s->digit[i] == 0) << 5;
  }
  for (int i = 0; i < s->n_sources; i++) {
    if (s->guess[i] < 0) continue;
    int p = a->hits[LABEL_STATES * i + s->state[i]], j = 0;
    while (j < n && s->ranked[j] != s->guess[i]) j++;
    if (j == n) {
      s->ranked[n] = s->guess[i];
      s->score[n] = best[n] = 0;
      n++;
    }
    if (p > best[j]) best[j] = p;
    s->score[j] += p >> 3;
  }
  for (int i = 0; i < n; i++) s->score[i] += best[i];
  s->n_ranked = n;
  for (int i = 0; i < n && i < 4; i++) { // only the first four are used
    int top = i;
    for (int j = i + 1; j < n; j++)
      if (s->score[j] > s->score[top]) top = j;
    int32_t label = s->ranked[top], score = s->score[top];
    s->ranked[top] = s->ranked[i], s->score[top] = s->score[i];
    s->ranked[i] = label, s->score[i] = score;
  }
}

// The two contexts of a map that depend on the guesses.
INLINE void label_late(LabelState *s) {
  const int more = s->n_ranked > 1;
  s->value[13] = label_chain(label_chain(11, label_log(s->length / 4)), s->guess[8], s->near[0]);
  s->value[14] = label_chain(label_chain(12, s->ranked[0]), more ? s->ranked[1] : -1,
                             more ? (s->score[0] - s->score[1]) >> 12 : 32);
}

INLINE void label_hashes(const MixingCoder *c, LabelState *s, int first, int64_t prefix) {
  for (int i = 0; i < (int)c->n_contexts; i++) {
    s->hashes[i] = mix_hash(first + i, label_chain(s->value[i], prefix));
    __builtin_prefetch(c->lines + 16 * ((s->hashes[i] >> 32) & (uint64_t)(c->n_lines - 1)));
  }
}

// The best guesses, one after the other, until one is right. Returns how many were wrong; `right` whether one was.
template <int ROLE>
static int label_tried(Mix *m, MixingLabels *a, LabelState *s, int32_t *label, int *right) {
  int k = 0;
  label_hashes(m->c, s, 0, 0);
  mix_open(m, s->hashes);
  for (*right = 0; k < a->candidates && k < s->n_ranked && k < a->alphabet - 1; k++) {
    const int32_t guess = s->ranked[k];
    int d = 0, same = 0, follows = 0, last = 0;
    while (d < s->n_distinct && s->distinct[d] != guess) d++;
    if (d == s->n_distinct) d = LABEL_NEIGHBOURS;
    for (int i = 0; i < 8; i++) same |= (s->near[i] == guess) << i;
    if (a->kind == 0) {
      follows = s->match ? 1 + (s->guess[8] == guess) : 0;
      last = s->guess[7] < 0 ? 0 : 1 + (s->guess[7] == guess);
    }
    const int later = k > 0, third = k > 1;
    m->set[0] = later * 256 + d * 32 + s->pattern;
    m->set[1] = LABEL_SETS + ((later * 3 + follows) * 3 + last) * 8 + label_log(follows ? s->length / 4 : 0);
    m->set[2] = 2 * LABEL_SETS + (later * 8 + s->run) * 8 + s->ahead;
    m->last = (later + third) * 8 + d;
    m->refine[0] = later * 256 + same;
    m->refine[1] = 512 + later * 32 + (s->score[k] >> 13);
    m->extra[0] = m->c->stretch[mix_odds(s->score[k] > 65535 ? 65535 : s->score[k])];
    a->decisions++;
    if (mix_bit<ROLE>(m, 1 + d + 7 * later, *label == guess)) {
      *label = guess;
      *right = 1;
      break;
    }
  }
  return k;
}

// A label, from its highest bit; the guesses that were tried are no choice any more.
template <int ROLE>
static int32_t label_spelled(Mix *m, MixingLabels *a, LabelState *s, int bits, int tried, int32_t label) {
  const int32_t next = tried < s->n_ranked ? s->ranked[tried] : -1;
  int32_t prefix = 0;
  const int sure = next < 0 ? 0 : s->score[tried] >= 7 << 13 ? 7 : s->score[tried] >> 13;
  for (int g = 0, left = bits; left; g++) {
    label_hashes(m->c, s, 32 * (g + 1), prefix);
    mix_open(m, s->hashes);
    for (int node = 1; node < 16 && left;) {
      left--;
      const int64_t from = (int64_t)prefix << (left + 1), half = from + ((int64_t)1 << left);
      const int64_t to = half + ((int64_t)1 << left);
      int64_t low = half - from, high = (to < a->alphabet ? to : a->alphabet) - half;
      for (int i = 0; i < tried; i++) {
        low -= s->ranked[i] >= from && s->ranked[i] < half;
        high -= s->ranked[i] >= half && s->ranked[i] < to;
      }
      int bit = high > 0;
      if (low > 0 && high > 0) {
        const int expected = next >= 0 && next >> (left + 1) == prefix ? 1 + (next >> left & 1) : 0, later = g > 0;
        m->set[0] = 512 + later * 256 + (g > 1 ? 16 : 0) + node;
        m->set[1] = LABEL_SETS + 256 + (later * 3 + expected) * 8 + sure;
        m->set[2] = 2 * LABEL_SETS + 256 + (left > 7 ? 7 : left) * 32 + s->pattern;
        m->last = 32 + later * 16 + node;
        m->refine[0] = 576 + expected * 8 + sure;
        m->refine[1] = -1;
        m->extra[0] = expected ? (2 * expected - 3) * m->c->stretch[mix_odds(32768 + 4095 * sure)] : 0;
        a->decisions++;
        bit = mix_bit<ROLE>(m, node, label >> left & 1);
      }
      node = node * 2 + bit;
      prefix = prefix * 2 + bit;
    }
  }
  return prefix;
}

INLINE void label_learned(MixingLabels *a, LabelState *s, int32_t label, int64_t at) {
  for (int i = 0; i < s->n_sources; i++) {
    if (s->guess[i] < 0) continue;
    uint16_t *hit = a->hits + LABEL_STATES * i + s->state[i];
    *hit = (uint16_t)(*hit + (((label == s->guess[i] ? 65535 : 0) - *hit) >> 5));
  }
  if (a->kind) return;
  for (int i = 0; i < 2; i++) {
    uint64_t *entry = a->seen + s->slot[i], often = *entry & 63;
    const int again = *entry && (uint32_t)(*entry >> 32) == s->check[i] && (int32_t)(*entry >> 8 & 0xFFFF) == label;
    often = !again ? 1 : often < 63 ? often + 1 : 63;
    *entry = (uint64_t)s->check[i] << 32 | (uint64_t)label << 8 | often;
    a->past[s->place[i]] = (uint32_t)at;
  }
  if (s->match && a->pads[s->match] == label) s->match++, s->length++;
  else s->match = s->length = 0;
  if (label >= s->fresh) s->fresh = label + 1;
}

template <int ROLE>
static int mix_labels(MixingCoder *c, MixingLabels *a) {
  Mix m;
  mix_begin(&m, c);
  LabelState s;
  memset(&s, 0, sizeof s);
  const int64_t height = a->height, width = a->width, stride = width + 8, sheet = (height + 5) * stride;
  int bits = 1;
  while ((int64_t)1 << bits < a->alphabet) bits++;
  s.n_sources = a->kind ? LABEL_NEIGHBOURS : LABEL_SOURCES;
  a->decisions = 0;
  for (int64_t z = 0; z < a->sheets; z++) {
    int32_t *top = a->pads + (z & 1) * sheet;
    const int32_t *earlier = a->deep ? a->pads + (~z & 1) * sheet : 0;
    memset(top, 0, sheet * sizeof *top);
    for (int64_t y = 0; y < height; y++) {
      int32_t *row = top + (y + 3) * stride + 4, *labels = a->labels + (z * height + y) * width;
      for (int i = 1; i < 5; i++) row[-i] = row[-stride];
      s.match = s.length = 0;
      for (int64_t x = 0, run = 0, end = 0; x < width; x++, row++) {
        label_near(&s, row, stride);
        if (a->kind) {
          label_picture(&s);
        } else {
          const int32_t *before = earlier ? earlier + (row - top) : 0;
          run = x && s.near[0] == s.near[4] ? run + 1 : 0;
          if (x == end)
            for (end++; end < width && row[end - x - stride] == s.near[1];) end++;
          s.run = label_log(run);
          s.ahead = label_log(end - x);
          s.above = (s.near[1] == s.near[5]) + (s.near[1] == s.near[5] && s.near[5] == s.near[11]);
          label_map(&s, x);
          label_lookup(a, &s, row, top, stride);
          if (before) label_deep(&s, before, stride);
          label_sources(a, &s, before, stride);
        }
        label_ranked(a, &s);
        if (!a->kind) label_late(&s);
        int32_t label = ROLE == MIX_READ ? -1 : labels[x];
        int right = 0, tried = a->candidates ? label_tried<ROLE>(&m, a, &s, &label, &right) : 0;
        if (!right) label = label_spelled<ROLE>(&m, a, &s, bits, tried, label);
        label_learned(a, &s, label, row - top);
        row[0] = label;
        if (ROLE == MIX_READ) labels[x] = label;
      }
      for (int i = 0; i < 4; i++) row[i] = row[-1];
      if (c->failed) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY;
    }
  }
  return CODEC_OK;
}

// Codes label maps. ValueError of the caller where sizes don't fit; see MixingLabels.
int mixing_labels(MixingCoder *c, int role, MixingLabels *a) {
  const int contexts = a->kind ? LABEL_PICTURE : a->deep ? LABEL_DEEP : LABEL_MAP;
  if (a->sheets < 0 || a->height < 1 || a->width < 1 || a->alphabet < 1 || a->alphabet > 65536 || a->kind < 0 ||
      a->kind > 1 || (a->kind && a->deep) || a->candidates < 0 || a->candidates > 3 || a->seen_bits < 4 ||
      a->seen_bits > 24 || c->n_contexts != contexts || c->n_choices != 3 || c->n_extra != 1 ||
      c->n_sets < 3 * LABEL_SETS || c->n_finals < LABEL_FINALS || c->n_refined < LABEL_ROWS)
    return CODEC_BAD_CALL;
  switch (role) {
  case MIX_WRITE: return mix_labels<MIX_WRITE>(c, a);
  case MIX_READ: return mix_labels<MIX_READ>(c, a);
  case MIX_PRICE: return mix_labels<MIX_PRICE>(c, a);
  }
  return CODEC_BAD_CALL;
}
