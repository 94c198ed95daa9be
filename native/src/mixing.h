// Context mixing in integers: binary decisions, each predicted by hashed contexts that a logistic mixer weighs.
//
// After the PAQ family (Mahoney, "Adaptive Weighing of Context Models for Lossless Data Compression", 2005). A model (in
// headers of its own) opens a group: one line of 15 nodes for each of its contexts. It then codes up to four decisions
// (or a chain of 15), each in a node of its own: the nodes' probabilities go, as log odds, into the sets of weights that
// the model chooses; a last mixer joins these sets; refinements (a table of probabilities by log odds) are averaged with
// it. All in integers: the twin is entropy/mixing/oracle.py, and both leave the same numbers in every table.

enum { MIX_WRITE = 0, MIX_READ = 1, MIX_PRICE = 2 }; // what a model's code does with its decisions
const int MIX_CONTEXTS = 24, MIX_INPUTS = 64, MIX_CHOICES = 8, MIX_REFINED = 2;
const int MIX_FEW = 8, MIX_FEW_EXTRA = 8; // contexts, extra inputs: of `mix_few`
const int MIX_LOW = 3072, MIX_HEAVY = (1 << 22) - 1; // log odds are -3072 ... 3071, weights up to 4

struct Mix {
  MixingCoder *c;
  uint32_t *line[MIX_CONTEXTS];
  int32_t extra[8];              // log odds from elsewhere
  int32_t set[MIX_CHOICES];      // the sets of weights that are chosen
  int32_t last;                  // the set of the last mixer
  int32_t refine[MIX_REFINED];   // rows of the refinements; -1: none
  uint32_t blank[16];            // what a frozen coder finds where it has seen nothing
  bool small;                    // whether the inputs fill two registers: `mix_few`
#if defined(CODEC_AVX2) || defined(CODEC_AVX512)
  __m256i turn, low, high, tail, extra_at[MIX_FEW_EXTRA]; // where they lie in these
#endif
};

INLINE uint64_t mix_hash(uint64_t context, uint64_t value) {
  uint64_t h = (value + context * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
  h ^= h >> 29;
  h *= 0xBF58476D1CE4E5B9u;
  return h ^ (h >> 32);
}

INLINE void mix_begin(Mix *m, MixingCoder *coder) {
  m->c = coder;
  memset(m->extra, 0, sizeof m->extra);
  memset(m->set, 0, sizeof m->set);
  m->last = 0;
  for (int i = 0; i < MIX_REFINED; i++) m->refine[i] = -1;
  const int n = (int)coder->n_contexts, n_extra = (int)coder->n_extra;
  m->small = false;
#if defined(CODEC_AVX2) || defined(CODEC_AVX512)
  m->small = n >= 4 && n < MIX_FEW && coder->n_inputs == 16;
  for (int i = 1; i < 16; i++) m->blank[i] = 1u << 31;
  for (int i = n; i < MIX_FEW; i++) m->line[i] = m->blank;
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  m->turn = _mm256_and_si256(_mm256_sub_epi32(lane, _mm256_set1_epi32(n)), _mm256_set1_epi32(7));
  m->low = _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
  m->high = _mm256_cmpgt_epi32(_mm256_set1_epi32(2 * n - 8), lane);
  m->tail = _mm256_and_si256(_mm256_cmpeq_epi32(lane, _mm256_set1_epi32(2 * n + n_extra - 8)), _mm256_set1_epi32(256));
  for (int i = 0; i < MIX_FEW_EXTRA; i++)
    m->extra_at[i] = _mm256_cmpeq_epi32(lane, _mm256_set1_epi32(i < n_extra ? 2 * n + i - 8 : -1));
#else
  (void)n, (void)n_extra;
#endif
}

// The line of a hash: of two neighbours the one that is its own, or else the one that has seen less, emptied.
INLINE uint32_t *mix_line(Mix *m, uint64_t hash) {
  MixingCoder *c = m->c;
  uint32_t check = ((uint32_t)hash & 65535) | 65536;
  uint64_t at = (hash >> 32) & (uint64_t)(c->n_lines - 1);
  uint32_t *first = c->lines + 16 * at, *second = c->lines + 16 * (at ^ 1);
  if (first[0] == check) return first;
  if (second[0] == check) return second;
  if (c->frozen) return m->blank;
  uint32_t *line = first[0] && (!second[0] || (second[1] & 1023) < (first[1] & 1023)) ? second : first;
  line[0] = check;
  for (int i = 1; i < 16; i++) line[i] = 1u << 31;
  return line;
}

// A group of decisions begins. hashes: (n_contexts), of `mix_hash`.
INLINE void mix_open(Mix *m, const uint64_t *hashes) {
  MixingCoder *c = m->c;
  int n = (int)c->n_contexts;
  uint64_t mask = (uint64_t)(c->n_lines - 1);
  for (int i = 0; i < n; i++) __builtin_prefetch(c->lines + 16 * ((hashes[i] >> 32) & mask));
  for (int i = 1; i < 16; i++) m->blank[i] = 1u << 31;
  for (int i = 0; i < n; i++) m->line[i] = mix_line(m, hashes[i]);
}

INLINE void mix_put(MixingCoder *c) { // four bytes of the stream
  if (c->at + 4 > c->size) {
    c->failed = 1;
    c->at = 0;
  }
  if (c->size >= 4)
    for (int i = 0; i < 4; i++) c->bytes[c->at++] = (uint8_t)(c->low >> (56 - 8 * i));
  c->low <<= 32;
}

INLINE void mix_carry(MixingCoder *c) {
  for (int64_t i = c->at; i-- > 0 && ++c->bytes[i] == 0;) {
  }
}

template <int ROLE> INLINE int mix_coded(MixingCoder *c, int bit, uint32_t p) { // p: of 1, 1 to 65535
  if (ROLE == MIX_PRICE) {
    c->bits += c->price[(bit ? p : 65536 - p) >> 4];
    return bit;
  }
  uint64_t bound = (c->range >> 16) * p;
  if (ROLE == MIX_READ) {
    bit = c->code < bound;
    if (!bit) c->code -= bound;
  } else if (!bit) {
    c->low += bound;
    if (c->low < bound) mix_carry(c);
  }
  c->range = bit ? bound : c->range - bound;
  if (c->range >> 32 == 0) {
    c->range <<= 32;
    if (ROLE == MIX_READ) {
      uint32_t word = 0;
      for (int i = 0; i < 4; i++, c->at++) word = word << 8 | (c->at < c->size ? c->bytes[c->at] : 0);
      if (c->at > c->size + 8) c->failed = 1; // at most 8 bytes, zeros, were left out
      c->code = c->code << 32 | word;
    } else {
      mix_put(c);
    }
  }
  return bit;
}

// The place of a probability of 16 bits in `stretch`: 4096 steps at each end, 16ths of them between.
INLINE uint32_t mix_odds(uint32_t p) { return p < 4096 ? p : p >= 61440 ? p - 53760 : 3840 + (p >> 4); }

INLINE int32_t mix_within(int32_t x, int32_t limit) { return x < -limit ? -limit : x > limit ? limit : x; }

// The numbers of a table at these places.
INLINE i32v mix_looked_up(const int32_t *table, u32v at) {
#if defined(CODEC_AVX512)
  return (i32v)_mm512_i32gather_epi32((__m512i)at, table, 4);
#elif defined(CODEC_AVX2)
  return (i32v)_mm256_i32gather_epi32(table, (__m256i)at, 4);
#else
  i32v out;
  for (int i = 0; i < L; i++) out[i] = table[at[i]];
  return out;
#endif
}

// The inputs of a decision: log odds and leans of each context's node, the extra ones, a constant. x, cell: with room
// for L more than there are.
INLINE void mix_inputs(const Mix *m, int node, int32_t *x, uint32_t *cell) {
  const MixingCoder *c = m->c;
  const int n = (int)c->n_contexts;
  for (int i = 0; i < n; i++) cell[i] = m->line[i][node];
  for (int i = n; i % L; i++) cell[i] = 1u << 31;
  for (int b = 0; b < n; b += L) {
    u32v word = load<u32v>(cell + b), p = word >> 16;
    u32v place = p < 4096 ? p : p >= 61440 ? p - 53760 : 3840 + (p >> 4); // `mix_odds`
    store(x + b, (mix_looked_up(c->stretch, place) * mix_looked_up(c->trust, word & 1023)) >> 8);
  }
  for (int b = 0; b < n; b += L) {
    u32v word = load<u32v>(cell + b);
    store(x + n + b, (((i32v)(word >> 16) - 32768) * mix_looked_up(c->lean, word & 1023)) >> 16);
  }
  int end = 2 * n;
  for (int i = 0; i < (int)c->n_extra; i++) x[end++] = m->extra[i];
  x[end++] = 256;
  for (; end < (int)c->n_inputs; end++) x[end] = 0;
}

INLINE int32_t mix_clipped(int32_t x) { return x < -MIX_LOW ? -MIX_LOW : x > MIX_LOW - 1 ? MIX_LOW - 1 : x; }

INLINE int32_t mix_total(i32v x) {
#if defined(CODEC_AVX512)
  return _mm512_reduce_add_epi32((__m512i)x);
#elif defined(CODEC_AVX2)
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
  half = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
  return _mm_cvtsi128_si32(half) + _mm_extract_epi32(half, 1);
#else
  int32_t total = 0;
  for (int i = 0; i < L; i++) total += x[i];
  return total;
#endif
}

// 256 times the log odds that a set of weights gives.
INLINE int32_t mix_dot(const int32_t *w, const int32_t *x, int n) {
  i32v sum = {};
  for (int i = 0; i < n; i += L) sum += ((load<i32v>(w + i) >> 4) * load<i32v>(x + i)) >> 8;
  return mix_clipped(mix_total(sum) >> 8);
}

// The weights move along the inputs, by an error that was multiplied by their pace.
INLINE void mix_moved(int32_t *w, const int32_t *x, int32_t error, int n) {
  for (int i = 0; i < n; i += L) {
    i32v v = load<i32v>(w + i) + ((load<i32v>(x + i) * error + (1 << 9)) >> 10);
    v = v < -MIX_HEAVY ? all32(-MIX_HEAVY) : v;
    store(w + i, v > MIX_HEAVY ? all32(MIX_HEAVY) : v);
  }
}

// The nodes that the lines had for this decision move towards it.
INLINE void mix_counted(Mix *m, int node, int32_t target, uint32_t *cell) {
  const MixingCoder *c = m->c;
  const int n = (int)c->n_contexts;
  for (int b = 0; b < n; b += L) {
    u32v word = load<u32v>(cell + b), count = word & 1023;
    i32v q = (i32v)(word >> 10); // of 22 bits
    q += ((target - (q >> 6)) * mix_looked_up(c->step, count)) >> 9;
    q = q < 0 ? i32v{} : q;
    q = q > (1 << 22) - 1 ? all32((1 << 22) - 1) : q;
    count -= (u32v)(count < (uint32_t)c->limit); // a true comparison is -1
    store(cell + b, (u32v)q << 10 | count);
  }
  for (int i = 0; i < n; i++) m->line[i][node] = cell[i];
}

// What the sets of weights say, joined and refined: the probability of a 1, and what is learned from.
struct MixGuess {
  int32_t y[MIX_CHOICES], p[MIX_CHOICES]; // of each set: log odds, probability
  int32_t plain, place, total;            // joined; its place among refinements; refined
};

INLINE void mix_guess(const Mix *m, MixGuess *g) {
  const MixingCoder *c = m->c;
  const int n_choices = (int)c->n_choices;
  const int32_t *last = c->finals + (int64_t)m->last * n_choices;
  int32_t joined = 0;
  for (int k = 0; k < n_choices; k++) {
    g->p[k] = c->squash[g->y[k] + MIX_LOW];
    joined += ((last[k] >> 4) * g->y[k]) >> 8;
  }
  joined = mix_clipped(joined >> 8);
  const int32_t plain = c->squash[joined + MIX_LOW];
  const uint32_t at = (uint32_t)(joined + MIX_LOW), place = at / 192, part = at % 192;
  uint32_t total = (uint32_t)plain;
  int n_refined = 0;
  for (int j = 0; j < MIX_REFINED; j++) {
    if (m->refine[j] < 0) continue;
    const uint16_t *row = c->refined + 33 * (int64_t)m->refine[j] + place;
    total += (row[0] * (192 - part) + row[1] * part) / 192;
    n_refined++;
  }
  if (n_refined == 2) total = (total + (uint32_t)plain) >> 2;
  if (n_refined == 1) total >>= 1;
  g->plain = plain;
  g->place = (int32_t)place;
  g->total = total < 1 ? 1 : total > 65535 ? 65535 : (int32_t)total;
}

// Refinements and the last mixer learn from a bit.
INLINE void mix_learned(const Mix *m, const MixGuess *g, int bit) {
  MixingCoder *c = m->c;
  const int n_choices = (int)c->n_choices;
  for (int j = 0; j < MIX_REFINED; j++) {
    if (m->refine[j] < 0) continue;
    uint16_t *row = c->refined + 33 * (int64_t)m->refine[j] + g->place;
    for (int i = 0; i < 2; i++) row[i] = (uint16_t)(row[i] + ((((bit ? 65535 : 0) - row[i])) >> c->refine_by));
  }
  int32_t *last = c->finals + (int64_t)m->last * n_choices;
  const int32_t error = (((bit << 16) - g->plain) * c->pace[c->final_ages[m->last]]) >> 8;
  for (int k = 0; k < n_choices; k++) last[k] = mix_within(last[k] + ((g->y[k] * error + (1 << 9)) >> 10), MIX_HEAVY);
  c->final_ages[m->last] += c->final_ages[m->last] < 1023;
}

// A bit, coded by what is guessed of it, from which all but weights and lines learn.
template <int ROLE> INLINE int mix_decided(const Mix *m, MixGuess *g, int bit) {
  mix_guess(m, g);
  bit = mix_coded<ROLE>(m->c, bit, (uint32_t)g->total);
  if (!m->c->frozen) mix_learned(m, g, bit);
  return bit;
}

// By what a set of weights was off, times its pace; it is older then.
INLINE int32_t mix_off(MixingCoder *c, int32_t set, int32_t p, int32_t target) {
  int32_t *age = c->ages + set;
  const int32_t error = ((target - p) * c->pace[*age]) >> 8;
  *age += *age < 1023;
  return error;
}

#if defined(CODEC_AVX2) || defined(CODEC_AVX512)
// `mix_bit` of 4 to 7 contexts whose inputs fill two registers: nothing goes through memory between its steps.
template <int ROLE> static __attribute__((noinline)) int mix_few(Mix *m, int node, int bit) {
  typedef int32_t v8 __attribute__((vector_size(32)));
  typedef uint32_t u8 __attribute__((vector_size(32)));
  MixingCoder *c = m->c;
  const int n_choices = (int)c->n_choices, n_extra = (int)c->n_extra;
  const u8 cell = {m->line[0][node], m->line[1][node], m->line[2][node], m->line[3][node],
                   m->line[4][node], m->line[5][node], m->line[6][node], m->line[7][node]};
  const u8 p = cell >> 16, count = cell & 1023;
  const u8 place = p < 4096 ? p : p >= 61440 ? p - 53760 : 3840 + (p >> 4); // `mix_odds`
  const v8 worth = (v8)_mm256_i32gather_epi32(c->worth, (__m256i)count, 4); // trust and lean
  const v8 odds = ((v8)_mm256_i32gather_epi32(c->stretch, (__m256i)place, 4) * (worth & 65535)) >> 8;
  const v8 lean = (((v8)p - 32768) * (worth >> 16)) >> 16;
  const __m256i turned = _mm256_permutevar8x32_epi32((__m256i)lean, m->turn);
  __m256i tail = m->tail;
  for (int i = 0; i < n_extra; i++) tail = _mm256_blendv_epi8(tail, _mm256_set1_epi32(m->extra[i]), m->extra_at[i]);
  const v8 x0 = (v8)_mm256_blendv_epi8(turned, (__m256i)odds, m->low);
  const v8 x1 = (v8)_mm256_blendv_epi8(tail, turned, m->high);

  MixGuess g;
  for (int k = 0; k < n_choices; k++) {
    const int32_t *w = c->weights + (int64_t)m->set[k] * 16;
    const v8 sum = (((load<v8>(w) >> 4) * x0) >> 8) + (((load<v8>(w + 8) >> 4) * x1) >> 8);
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128((__m256i)sum), _mm256_extracti128_si256((__m256i)sum, 1));
    half = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
    g.y[k] = mix_clipped((_mm_cvtsi128_si32(half) + _mm_extract_epi32(half, 1)) >> 8);
  }
  bit = mix_decided<ROLE>(m, &g, bit);
  if (c->frozen) return bit;
  const int32_t target = bit << 16;
  for (int k = 0; k < n_choices; k++) {
    int32_t *w = c->weights + (int64_t)m->set[k] * 16;
    const int32_t error = mix_off(c, m->set[k], g.p[k], target);
    v8 w0 = load<v8>(w) + ((x0 * error + (1 << 9)) >> 10), w1 = load<v8>(w + 8) + ((x1 * error + (1 << 9)) >> 10);
    const __m256i heavy = _mm256_set1_epi32(MIX_HEAVY), light = _mm256_set1_epi32(-MIX_HEAVY);
    _mm256_storeu_si256((__m256i *)w, _mm256_min_epi32(_mm256_max_epi32((__m256i)w0, light), heavy));
    _mm256_storeu_si256((__m256i *)(w + 8), _mm256_min_epi32(_mm256_max_epi32((__m256i)w1, light), heavy));
  }
  v8 q = (v8)(cell >> 10); // of 22 bits: `mix_counted`
  q += ((target - (q >> 6)) * (v8)_mm256_i32gather_epi32(c->step, (__m256i)count, 4)) >> 9;
  q = (v8)_mm256_min_epi32(_mm256_max_epi32((__m256i)q, _mm256_setzero_si256()), _mm256_set1_epi32((1 << 22) - 1));
  const u8 next = (u8)q << 10 | (count - (u8)(count < (uint32_t)c->limit)); // a true comparison is -1
  alignas(32) uint32_t out[8];
  store(out, next);
  for (int i = 0; i < (int)c->n_contexts; i++) m->line[i][node] = out[i];
  return bit;
}
#endif

// One decision, in this node (1 to 15) of the group's lines. Returns the bit: the one given, or the one that is read.
template <int ROLE> static __attribute__((noinline)) int mix_many(Mix *m, int node, int bit) {
  MixingCoder *c = m->c;
  const int n_inputs = (int)c->n_inputs, n_choices = (int)c->n_choices;
  alignas(64) int32_t x[MIX_INPUTS + 16];
  alignas(64) uint32_t cell[MIX_CONTEXTS + 16];
  mix_inputs(m, node, x, cell);
  MixGuess g;
  for (int k = 0; k < n_choices; k++) g.y[k] = mix_dot(c->weights + (int64_t)m->set[k] * n_inputs, x, n_inputs);
  bit = mix_decided<ROLE>(m, &g, bit);
  if (c->frozen) return bit;
  const int32_t target = bit << 16;
  for (int k = 0; k < n_choices; k++) {
    const int32_t error = mix_off(c, m->set[k], g.p[k], target);
    mix_moved(c->weights + (int64_t)m->set[k] * n_inputs, x, error, n_inputs);
  }
  mix_counted(m, node, target, cell);
  return bit;
}

template <int ROLE> INLINE int mix_bit(Mix *m, int node, int bit) {
#if defined(CODEC_AVX2) || defined(CODEC_AVX512)
  if (m->small) return mix_few<ROLE>(m, node, bit);
#endif
  return mix_many<ROLE>(m, node, bit);
}

// The stream begins: to be called once, before its first decision.
int mixing_start(MixingCoder *c, int role) {
  if (c->n_contexts < 1 || c->n_contexts > MIX_CONTEXTS || c->n_extra < 0 || c->n_extra > 8 || c->n_inputs % 16 ||
      2 * c->n_contexts + c->n_extra + 1 > c->n_inputs || c->n_inputs > MIX_INPUTS || c->n_choices < 1 ||
      c->n_choices > MIX_CHOICES || c->n_lines < 2 || (c->n_lines & (c->n_lines - 1)) || c->limit > 1023)
    return CODEC_BAD_CALL;
  c->low = c->code = 0;
  c->range = ~(uint64_t)0;
  c->at = c->failed = 0;
  if (role == MIX_READ)
    for (int i = 0; i < 8; i++, c->at++) c->code = c->code << 8 | (c->at < c->size ? c->bytes[c->at] : 0);
  return CODEC_OK;
}

// The stream ends: writes what is left, as few bytes as can be; `at` is then its length.
int mixing_stop(MixingCoder *c) {
  if (c->failed || c->at + 8 > c->size) return CODEC_NO_MEMORY;
  uint64_t value = 0;
  for (int s = 63; s >= 0; s--) {
    uint64_t unit = (uint64_t)1 << s;
    value = (c->low + (unit - 1)) & ~(unit - 1); // mod 2^64: beyond it is a carry
    if (value - c->low < c->range) break;
  }
  if (value < c->low) mix_carry(c);
  const int64_t least = c->at;
  for (int i = 0; i < 8; i++) c->bytes[c->at++] = (uint8_t)(value >> (56 - 8 * i));
  while (c->at > least && c->bytes[c->at - 1] == 0) c->at--;
  return CODEC_OK;
}

// ---- symbols whose contexts the caller knows

// A symbol of `width` bits. contexts: (n_contexts). Returns it: the one given, or the one that is read.
template <int ROLE>
INLINE int32_t mix_symbol(Mix *m, int width, const uint64_t *contexts, int32_t select, int32_t symbol) {
  const int n_contexts = (int)m->c->n_contexts, groups = (width + 3) / 4;
  int32_t prefix = 0, left = width;
  for (int g = 0; g < groups; g++) {
    uint64_t hashes[MIX_CONTEXTS];
    for (int k = 0; k < n_contexts; k++)
      hashes[k] = mix_hash(k * 16 + g, contexts[k] * 0x9E3779B97F4A7C15u + (uint64_t)prefix);
    mix_open(m, hashes);
    int node = 1;
    for (int b = 0; b < 4 && left; b++) {
      left--;
      m->set[0] = g * 16 + node;
      m->set[1] = groups * 16 + select;
      m->last = g * 16 + node;
      m->refine[0] = select;
      int bit = mix_bit<ROLE>(m, node, (symbol >> left) & 1);
      node = node * 2 + bit;
      prefix = prefix * 2 + bit;
    }
  }
  return prefix;
}

template <int ROLE>
static int mix_symbols(MixingCoder *c, int64_t n, int64_t width, const uint64_t *contexts, const int32_t *select,
                       int32_t *symbols) {
  Mix m;
  mix_begin(&m, c);
  for (int64_t i = 0; i < n; i++) {
    int32_t given = ROLE == MIX_READ ? 0 : symbols[i];
    int32_t symbol = mix_symbol<ROLE>(&m, (int)width, contexts + i * c->n_contexts, select[i], given);
    if (c->failed) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY;
    if (ROLE == MIX_READ) symbols[i] = symbol;
  }
  return CODEC_OK;
}

// Whether a coder has the plan of symbols of `width` bits with so many contexts.
INLINE bool mix_fits(const MixingCoder *c, int64_t width, int64_t n_contexts, int64_t n_select) {
  const int64_t groups = (width + 3) / 4;
  return width >= 1 && width <= 30 && c->n_contexts == n_contexts && c->n_choices == 2 && c->n_sets >= groups * 16 + n_select &&
         c->n_finals >= groups * 16 && c->n_refined >= n_select;
}

// Codes n symbols of `width` bits. contexts: (n, n_contexts); select: (n), each below n_select. Two sets are chosen: by
// the decision, and by `select`, which refines, too.
int mixing_symbols(MixingCoder *c, int role, int64_t n, int64_t width, const uint64_t *contexts, const int32_t *select,
                   int32_t n_select, int32_t *symbols) {
  if (!mix_fits(c, width, c->n_contexts, n_select)) return CODEC_BAD_CALL;
  for (int64_t i = 0; i < n; i++)
    if (select[i] < 0 || select[i] >= n_select) return CODEC_BAD_CALL;
  switch (role) {
  case MIX_WRITE: return mix_symbols<MIX_WRITE>(c, n, width, contexts, select, symbols);
  case MIX_READ: return mix_symbols<MIX_READ>(c, n, width, contexts, select, symbols);
  case MIX_PRICE: return mix_symbols<MIX_PRICE>(c, n, width, contexts, select, symbols);
  }
  return CODEC_BAD_CALL;
}
