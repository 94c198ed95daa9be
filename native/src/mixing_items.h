// Items of symbols on a small grid: contexts, and decisions in trees of intervals. The twin is entropy/mixing/items.py.

const int ITEM_CONTEXTS = 20;

struct ItemGuess { // of a guide, of an item: its state; log odds of the first decision, and of the upper half
  int state, first, upper;
};

struct ItemPlace { // of an item at a position: what chooses weights, and contexts
  uint64_t context[ITEM_CONTEXTS];
  int32_t pattern, level, spot;
};

INLINE int32_t item_third(int32_t a) { return a < 32 ? 0 : a < 200 ? 1 : 2; }
INLINE int32_t item_within(int32_t a) { return a < 0 ? 0 : a > 255 ? 255 : a; }

// The level of a neighbour of position t of this channel, dy rows above and dx to the right; 0 outside.
struct ItemView {
  const uint8_t *levels; // of item i, first position of the channel
  int64_t n, width;
  int y, x;
  __attribute__((always_inline)) int32_t operator()(int dy, int dx) const {
    int row = y - dy, column = x + dx;
    if (row < 0 || column < 0 || column >= (int)width) return 0;
    return levels[((int64_t)row * width + column) * n];
  }
};

INLINE uint64_t item_pack(uint64_t a, uint64_t b, uint64_t c, uint64_t d) { return ((a << 16 | b) << 16 | c) << 16 | d; }

INLINE void item_grid(const MixingItems *call, int64_t t, int64_t i, ItemGuess guess, ItemPlace *out) {
  const int64_t plane = call->height * call->width, channel = t / plane, inside = t % plane;
  const int width = (int)call->width, y = (int)(inside / width), x = (int)(inside % width);
  ItemView at = {call->levels + channel * plane * call->n + i, call->n, width, y, x};
  const int32_t w = at(0, -1), n = at(1, 0), nw = at(1, -1), ne = at(1, 1), ww = at(0, -2), nn = at(2, 0),
                nee = at(1, 2), nww = at(1, -2), nne = at(2, 1), nnw = at(2, -1), www = at(0, -3), nnn = at(3, 0);
  const int32_t near[10] = {w, n, nw, ne, ww, nn, nee, nww, nne, nnw};
  const int32_t far[9] = {www, nnn, at(3, 1), at(3, -1), at(2, 2), at(2, -2), at(1, 3), at(1, -3), at(0, -4)};
  int32_t thirds = 0, bits = 0, lasts = 0;
  for (int k = 0; k < 10; k++) {
    thirds = thirds * 3 + item_third(near[k]);
    if (k == 1) lasts = thirds; // w, n
  }
  for (int k = 0; k < 9; k++) bits = bits * 2 + (far[k] > 100);
  const int32_t g1 = item_within(w + ne - n), g2 = item_within(w + n - nw), g3 = item_within(2 * w - ww),
                g4 = item_within(2 * n - nn), spread = abs(w - ww) + abs(n - nw) + abs(n - ne);
  const int mx = width - 1 - x; // the mirror's column: of this row, or of the one above
  const int my = mx < x ? 0 : 1;
  ItemView mirror = {at.levels, at.n, width, y, mx};
  const int32_t m = mirror(my, 0), m1 = mirror(my, 1), trend = item_within(w + m - m1);
  const int32_t before = channel ? at.levels[(inside - plane) * call->n] : 0;
  const int32_t before_w = channel && x ? at.levels[(inside - 1 - plane) * call->n] : 0;
  const int32_t total = call->sums[i], mean = call->mean_of[(int64_t)total * 256 / (255 * (t + 1))];
  const int32_t left = call->rows[i], up = call->columns[(int64_t)x * call->n + i];
  int32_t right = 0; // how far the next ink is in the row above
  while (right < 8 && at(1, right) < 32) right++;
  const uint64_t p = (uint64_t)t;
  uint64_t *c = out->context;
  c[0] = p;
  c[1] = item_pack(w, n, before, 0);
  c[2] = item_pack(thirds, before >> 3, 0, 0);
  c[3] = item_pack(thirds, bits, 0, 0);
  c[4] = item_pack(g1 >> 2, g2 >> 2, before >> 4, 0);
  c[5] = item_pack(w >> 2, ww >> 3, g3 >> 4, 0);
  c[6] = item_pack(n >> 2, nn >> 3, ne >> 5, 0);
  c[7] = item_pack(p, w >> 6, n >> 6, ne >> 6);
  c[8] = item_pack(w >> 4, n >> 4, (ne >> 4) * 16 + (nw >> 4), ww >> 4);
  c[9] = item_pack((w + ne) >> 3, (n + nw) >> 3, (nn + nee) >> 5, 0);
  c[10] = item_pack(thirds, w >> 5, g4 >> 5, 0);
  c[11] = call->guided ? item_pack(256 + (guess.first >> 7), guess.upper >> 8, w >> 5, n >> 5)
                       : item_pack((g1 + g2 + w + n) >> 4, thirds % 729, y, 0);
  c[12] = item_pack(y, left, up, right);
  c[13] = call->guided ? item_pack(guess.state, thirds / 729, x, 1) : item_pack(p, mean, w >> 5, 0);
  c[14] = item_pack((g2 + w + n) / 3, spread >> 4, before >> 3, 0);
  c[15] = item_pack(x, w, n >> 4, 0);
  c[16] = item_pack(m >> 2, w >> 4, n >> 4, my);
  c[17] = item_pack(trend >> 2, m >> 4, spread >> 5, my);
  c[18] = item_pack(nww >> 5, (nw >> 5) * 8 + (n >> 5), (ne >> 5) * 8 + (nee >> 5), w >> 4);
  c[19] = item_pack(guess.state, w >> 5, n >> 5, item_within(w + before - before_w) >> 4);
  out->pattern = lasts * 9 + item_third(ne) * 3 + item_third(ww);
  out->level = w >> 4;
  out->spot = call->spot[t];
}

// Items without a grid: a row of a table, whose last variables are told one by one and in pairs.
INLINE void item_row(const MixingItems *call, int64_t t, int64_t i, ItemGuess guess, ItemPlace *out) {
  const int32_t *symbols = call->symbols + i;
  uint64_t last[14];
  for (int k = 1; k < 14; k++) last[k] = t >= k ? (uint64_t)(uint32_t)symbols[(t - k) * call->n] : 0;
  const uint64_t p = (uint64_t)t << 48;
  uint64_t *c = out->context;
  c[0] = p;
  for (int k = 1; k < 14; k++) c[k] = p | last[k];
  c[14] = p | last[1] << 16 | last[2];
  c[15] = p | last[1] << 32 | last[2] << 16 | last[3];
  c[16] = p | last[2] << 16 | last[3];
  c[17] = p | last[1] << 16 | last[3];
  c[18] = p | (uint64_t)call->sums[i];
  c[19] = p | (uint64_t)guess.state << 16 | last[1];
  int32_t a = t >= 1 ? call->levels[(t - 1) * call->n + i] : 0, b = t >= 2 ? call->levels[(t - 2) * call->n + i] : 0;
  out->pattern = item_third(a) * 9 + item_third(b);
  out->level = a >> 4;
  out->spot = call->spot[t];
}

INLINE double item_below(const MixingItems *call, int64_t i, int symbol) { // how probable smaller ones are
  const double *belief = call->belief + i * call->pitch;
  const float *table = call->tables[call->which[i]] + symbol * call->pitch;
  double sum = 0;
  for (int k = 0; k < (int)call->pitch; k++) sum += belief[k] * (double)table[k];
  return sum;
}

// The share of [split, high) in [low, high), of 16 bits, 1 to 65535.
INLINE int32_t item_share(double low, double split, double high) {
  double share = high > low ? (high - split) / (high - low) : 0.5;
  int32_t p = share > 0 ? share < 1 ? (int32_t)(share * 65536) : 65535 : 1;
  return p < 1 ? 1 : p;
}

// The state that the guide believes in most, and the item's table; what it says of a few symbols.
INLINE ItemGuess item_guess(const MixingItems *call, const MixingCoder *c, int64_t t, int64_t i, int size) {
  ItemGuess guess = {0, 0, 0};
  if (!call->guided) return guess;
  const double *belief = call->belief + i * call->pitch;
  int best = 0;
  for (int k = 1; k < (int)call->pitch; k++)
    if (belief[k] > belief[best]) best = k;
  guess.state = 1 + best + 256 * (int)call->which[i];
  if (size < 2) return guess;
  const double high = item_below(call, i, size);
  guess.first = MIX_LOW + c->stretch[mix_odds((uint32_t)item_share(0, item_below(call, i, call->middle[call->roots[t]]), high))];
  guess.upper = MIX_LOW + c->stretch[mix_odds((uint32_t)item_share(0, item_below(call, i, size / 2), high))];
  return guess;
}

INLINE void item_place(const MixingItems *call, const MixingCoder *c, int64_t t, int64_t i, int size, ItemPlace *out) {
  ItemGuess guess = item_guess(call, c, t, i, size);
  if (call->height > 1)
    item_grid(call, t, i, guess, out);
  else
    item_row(call, t, i, guess, out);
}

INLINE void item_hashes(const ItemPlace *place, int group, uint64_t *hashes) {
  for (int k = 0; k < ITEM_CONTEXTS; k++)
    hashes[k] = mix_hash(k, place->context[k] * 0x9E3779B97F4A7C15u + (uint64_t)group);
}

// One symbol.
template <int ROLE>
INLINE int32_t item_symbol(Mix *m, const MixingItems *call, int64_t t, int64_t i, const ItemPlace *place, int size,
                           int32_t symbol) {
  const int guided = (int)call->guided, spots = (int)call->n_spots;
  int node = call->roots[t], opened = -1;
  double low = 0, high = guided ? item_below(call, i, size) : 0;
  while (node >= 0) {
    const int group = call->group[node], kind = call->kind[node], middle = call->middle[node];
    if (group != opened) {
      uint64_t hashes[ITEM_CONTEXTS];
      item_hashes(place, group, hashes);
      mix_open(m, hashes);
      opened = group;
    }
    double split = 0;
    int32_t odds = 0;
    m->extra[0] = m->extra[1] = 0;
    if (guided) {
      split = item_below(call, i, middle);
      int32_t p = item_share(low, split, high);
      odds = m->c->stretch[mix_odds((uint32_t)p)];
      m->extra[0] = odds;
      m->extra[1] = (p - 32768) >> 6;
    }
    const int fourth = guided ? (odds + MIX_LOW) >> 8 : place->level;
    m->set[0] = guided * 256 + call->rank[node];
    m->set[1] = 512 + (guided * 16 + kind) * 81 + place->pattern;
    m->set[2] = 3104 + (guided * 16 + kind) * 24 + fourth;
    m->set[3] = 3872 + (guided * 3 + (kind < 2 ? kind : 2)) * spots + place->spot;
    m->last = (guided * 16 + kind) * 9 + place->pattern / 9;
    m->refine[0] = call->rank[node] < 32 ? call->rank[node] * 81 + place->pattern : -1;
    m->refine[1] = 2592 + (guided * 16 + kind) * 24 + fourth;
    int bit = mix_bit<ROLE>(m, call->place[node], ROLE == MIX_READ ? 0 : symbol >= middle);
    (bit ? low : high) = split;
    node = bit ? call->above[node] : call->below[node];
  }
  return -1 - node;
}

template <int ROLE>
static int item_position(MixingCoder *coders, const MixingItems *call, int64_t t, int32_t size, int64_t from, int64_t to) {
  const int64_t n = call->n;
  const int x = (int)(t % call->width);
  const int root = call->roots[t] >= 0 ? call->group[call->roots[t]] : 0;
  ItemPlace places[2];
  Mix m;
  mix_begin(&m, coders);
  const uint64_t mask = (uint64_t)(coders->n_lines - 1);
  item_place(call, coders, t, from, size, &places[0]);
  for (int64_t i = from; i < to; i++) {
    if (i + 1 < to) { // what the next item will ask for is on its way
      uint64_t hashes[ITEM_CONTEXTS];
      ItemPlace *next = &places[(i + 1 - from) & 1];
      item_place(call, coders, t, i + 1, size, next);
      item_hashes(next, root, hashes);
      for (int k = 0; k < ITEM_CONTEXTS; k++) __builtin_prefetch(coders->lines + 16 * ((hashes[k] >> 32) & mask));
    }
    m.c = coders + (call->each ? i : 0);
    int32_t *symbol = call->symbols + t * n + i;
    *symbol = item_symbol<ROLE>(&m, call, t, i, &places[(i - from) & 1], size, *symbol);
    if (m.c->failed) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY;
    const uint8_t level = call->level_of[call->first_level[t] + *symbol];
    call->levels[t * n + i] = level;
    call->sums[i] += level;
    uint8_t *row = call->rows + i, *column = call->columns + x * n + i;
    const uint8_t along = x == call->width - 1 ? 15 : *row < 15 ? *row + 1 : 15;
    *row = level >= 32 && x < call->width - 1 ? 0 : along;
    *column = level >= 32 ? 0 : *column < 15 ? *column + 1 : 15;
  }
  return CODEC_OK;
}

// Codes position t of all items. coder: one, or, where each item has its own (frozen), one for each; size: of the
// position's symbols. Every symbol is to be below its size.
int mixing_items(MixingCoder *coder, int role, const MixingItems *call, int64_t t, int32_t size) {
  if (coder->n_contexts != ITEM_CONTEXTS || coder->n_choices != 4 || coder->n_extra != 2 || call->n < 1 ||
      coder->n_sets < 3872 + 6 * call->n_spots || coder->n_finals < 288 || coder->n_refined < 3360)
    return CODEC_BAD_CALL;
  int64_t parts = call->each ? (call->n + 15) / 16 : 1, per = call->each ? 16 : call->n;
  int status = CODEC_OK;
  auto part = [&](int64_t index, int) {
    int64_t from = index * per, to = from + per < call->n ? from + per : call->n;
    int s = CODEC_BAD_CALL;
    if (role == MIX_WRITE) s = item_position<MIX_WRITE>(coder, call, t, size, from, to);
    if (role == MIX_READ) s = item_position<MIX_READ>(coder, call, t, size, from, to);
    if (role == MIX_PRICE) s = item_position<MIX_PRICE>(coder, call, t, size, from, to);
    if (s != CODEC_OK) __atomic_store_n(&status, s, __ATOMIC_RELAXED);
  };
  if (call->each)
    parallel(parts, [&](int64_t index, int worker) { part(index, worker); });
  else
    part(0, 0);
  return status;
}
