// Tables of texts, mixed: the bytes of their cells, row by row.
//
// What a cell has so far is told by its column, by the cell above, by the cells to the left, and by the bytes before.
// The twin is entropy/mixing/texts.py.

const int TEXT_CONTEXTS = 12;

struct TextCell {
  const uint8_t *above; // the rest of the cell above, of which a zero is the end; an empty one in the first row
  uint64_t column, prefix, up, left, left2, key;
  int64_t place; // in the cell
  int same;      // whether the cell above begins as this one
  int last;      // the byte before
};

INLINE uint64_t text_hash(uint64_t h, int byte) { return mix_hash(h, (uint64_t)byte + 1); }

INLINE void text_contexts(const TextCell *t, const uint8_t *text, int64_t at, uint64_t *h) {
  uint64_t recent = 0;
  for (int i = 1; i <= 4 && at - i >= 0; i++) recent |= (uint64_t)text[at - i] << (8 * (i - 1));
  uint64_t above = t->above[0], behind = above ? t->above[1] : 0, column = t->column;
  int i = 0;
#define CONTEXT(u, v) h[i] = mix_hash((uint64_t)i + 1, mix_hash((uint64_t)(u), (uint64_t)(v))), i++
  CONTEXT(column, t->prefix);
  CONTEXT(column + (t->up << 1), t->prefix);
  CONTEXT(column + (t->left << 1), t->prefix);
  CONTEXT(column + (t->left << 1), t->prefix + (t->left2 << 1));
  CONTEXT(column * 2 + t->same, above << 8 | behind);
  CONTEXT(column, t->place << 8 | t->last);
  CONTEXT(0, recent & 0xFFFF);
  CONTEXT(1, recent);
  CONTEXT(column * 2 + t->same, (above << 8 | t->last) << 8 | t->place);
  CONTEXT(column + (t->key << 1), t->prefix);
  CONTEXT(2, t->prefix);
  CONTEXT(column + (t->left << 1), t->prefix + (t->up << 1));
#undef CONTEXT
}

template <int ROLE> static int text_byte(Mix *m, const TextCell *t, const uint64_t *contexts, int byte) {
  uint64_t hashes[TEXT_CONTEXTS];
  int made = 1;
  int column = t->column > 255 ? 255 : (int)t->column, place = t->place > 15 ? 15 : (int)t->place;
  for (int g = 0; g < 2; g++) {
    for (int i = 0; i < TEXT_CONTEXTS; i++) hashes[i] = mix_hash((uint64_t)made, contexts[i]);
    mix_open(m, hashes);
    int node = 1;
    for (int b = 0; b < 4; b++) {
      int left = 7 - 4 * g - b, expected = t->above[0] | 256;
      int agrees = expected >> (left + 1) == made;
      m->set[0] = made;
      m->set[1] = 256 + column;
      m->set[2] = 512 + ((place * 2 + t->same) * 2 + agrees) * 8 + left;
      m->last = made;
      m->refine[0] = column;
      m->refine[1] = 256 + (t->same * 2 + agrees) * 256 + t->above[0];
      int bit = mix_bit<ROLE>(m, node, (byte >> left) & 1);
      node = node * 2 + bit;
      made = made * 2 + bit;
    }
  }
  return made & 255;
}

template <int ROLE> static int text_table(MixingCoder *coder, MixingTable *job) {
  const int64_t n = job->n_columns;
  int64_t *start = (int64_t *)pool_scratch(0, 2 * n * sizeof(int64_t)); // of each column's cell above; and its hash
  if (!start) return CODEC_NO_MEMORY;
  uint64_t *hash = (uint64_t *)start + n;
  memset(start, 0, 2 * n * sizeof(int64_t));
  const uint8_t none[2] = {0, 0};
  Mix m;
  mix_begin(&m, coder);
  int64_t at = 0;
  for (int64_t y = 0; y < job->n_rows; y++) {
    uint64_t left = 0, left2 = 0, key = 0;
    for (int64_t x = 0; x < n; x++) {
      TextCell t = {y ? job->text + start[x] : none, (uint64_t)x, 0, hash[x], left, left2, key, 0, 1, 0};
      start[x] = at;
      for (;;) {
        uint64_t contexts[TEXT_CONTEXTS];
        text_contexts(&t, job->text, at, contexts);
        if (at >= job->room) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_BAD_CALL;
        int byte = text_byte<ROLE>(&m, &t, contexts, ROLE == MIX_READ ? 0 : job->text[at]);
        job->text[at++] = (uint8_t)byte;
        if (coder->failed) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_NO_MEMORY;
        if (!byte) break;
        if (t.place++ == job->longest) return ROLE == MIX_READ ? CODEC_DAMAGED : CODEC_BAD_CALL;
        t.prefix = text_hash(t.prefix, byte);
        t.same &= byte == t.above[0];
        t.above += t.above[0] != 0;
        t.last = byte;
      }
      hash[x] = t.prefix;
      left2 = left;
      left = t.prefix;
      key = x ? key : t.prefix;
    }
  }
  job->used = at;
  return CODEC_OK;
}

// Codes the cells of a table. The plan of the coder: entropy/mixing/texts.py.
int mixing_texts(MixingCoder *c, int role, MixingTable *job) {
  if (job->n_rows < 1 || job->n_columns < 1 || job->longest < 0 || job->room < job->n_rows * job->n_columns ||
      c->n_contexts != TEXT_CONTEXTS || c->n_extra || c->n_choices != 3 || c->n_sets < 1024 || c->n_finals < 256 ||
      c->n_refined < 1280)
    return CODEC_BAD_CALL;
  switch (role) {
  case MIX_WRITE: return text_table<MIX_WRITE>(c, job);
  case MIX_READ: return text_table<MIX_READ>(c, job);
  case MIX_PRICE: return text_table<MIX_PRICE>(c, job);
  }
  return CODEC_BAD_CALL;
}
