// Arithmetic coding of integers: the ANS stream and the range coder of entropy/coders.py, which says what they write.
//
// Rows of cumulative counts are ragged: row r is rows->cdf[at[r]] ... cdf[at[r] + lengths[r]], from 0, rising strictly,
// the last one, 2^16, as 0 (so that a count is a difference mod 2^16); behind the last row are 64 more bytes.
// A row's first use builds its table of places: places[b] is the column of the cumulative count 256 b.

constexpr int ANS_PLACES = 257;
constexpr uint64_t ANS_START = 0x100C0DE; // the state before the first symbol

static __attribute__((noinline)) void rows_build(const CodecRows *rows, int64_t row) {
  const uint16_t *cdf = rows->cdf + rows->at[row];
  uint16_t *places = rows->places + row * ANS_PLACES;
  int32_t last = rows->lengths[row] - 1, column = 0;
  for (int b = 0; b < 256; b++) {
    while (column < last && cdf[column + 1] <= 256 * b) column++;
    places[b] = (uint16_t)column;
  }
  places[256] = (uint16_t)last;
  __atomic_store_n(rows->built + row, 1, __ATOMIC_RELEASE); // two threads may build it at once: they write the same
}

INLINE void rows_need(const CodecRows *rows, int64_t row) {
  if (!__atomic_load_n(rows->built + row, __ATOMIC_ACQUIRE)) rows_build(rows, row);
}

// One row, ready to be looked up in.
struct AnsRow {
  const uint16_t *cdf, *places;
};

INLINE AnsRow rows_get(const CodecRows *rows, int64_t row) {
  rows_need(rows, row);
  return {rows->cdf + rows->at[row], rows->places + row * ANS_PLACES};
}

// The column of a cumulative count below 2^16: the last one that starts there or before.
INLINE int32_t row_column(AnsRow row, uint32_t count) {
  uint32_t low = row.places[count >> 8], high = row.places[(count >> 8) + 1];
  while (high - low > 8) {
    uint32_t middle = (low + high) / 2;
    if (row.cdf[middle] <= count) low = middle;
    else high = middle - 1;
  }
  while (low < high && row.cdf[low + 1] <= count) low++;
  return (int32_t)low;
}

// ---- ANS, for kernels that decode one symbol after the other: a `CodecAns` is the stream's state.

INLINE int32_t ans_pop(CodecAns *ans, AnsRow row) {
  uint32_t quantile = (uint32_t)ans->state & 0xFFFFFF;
  int32_t column = row_column(row, quantile >> 8);
  uint32_t from = row.cdf[column], count = (uint16_t)(row.cdf[column + 1] - from);
  uint64_t state = (ans->state >> 24) * ((uint64_t)count << 8) + (quantile - (from << 8));
  if (state < (1ull << 32) && ans->n_words) state = state << 32 | ans->words[--ans->n_words];
  ans->state = state;
  return column;
}

// Puts a symbol in front of those that are coded; words must have room for one more.
INLINE void ans_push(CodecAns *ans, uint32_t *words, const uint16_t *cdf, int32_t column) {
  uint32_t from = cdf[column], count = (uint16_t)(cdf[column + 1] - from);
  uint64_t state = ans->state, part = (uint64_t)count << 8;
  if (state >> 40 >= part) {
    words[ans->n_words++] = (uint32_t)state;
    state >>= 32;
  }
  uint64_t quotient = (state >> 8) / count; // state / part
  ans->state = (quotient << 24) + ((uint64_t)from << 8) + (state - quotient * part);
}

// The most information that is still to come, in bits.
INLINE int64_t ans_bits(const CodecAns *ans) {
  return 32 * ans->n_words + (ans->state ? 64 - __builtin_clzll(ans->state) : 0);
}

// A block of columns, grouped by row: counts[i] symbols of rows[i].
int ans_take(const CodecRows *rows, CodecAns *ans, const int64_t *used, const int64_t *counts, int64_t n_used,
             int32_t *columns, int64_t n) {
  int64_t at = 0;
  for (int64_t i = 0; i < n_used; i++) {
    if (used[i] < 0 || used[i] >= rows->n || counts[i] < 0 || counts[i] > n - at) return CODEC_BAD_CALL;
    AnsRow row = rows_get(rows, used[i]);
    CodecAns local = *ans;
    for (int64_t end = at + counts[i]; at < end; at++) columns[at] = ans_pop(&local, row);
    *ans = local;
  }
  return at == n ? CODEC_OK : CODEC_BAD_CALL;
}

// The same block, encoded from its last symbol to its first; words has room for n more.
int ans_put(const CodecRows *rows, CodecAns *ans, uint32_t *words, const int64_t *used, const int64_t *counts,
            int64_t n_used, const int32_t *columns, int64_t n) {
  int64_t at = n;
  for (int64_t i = n_used - 1; i >= 0; i--) {
    if (used[i] < 0 || used[i] >= rows->n || counts[i] < 0 || counts[i] > at) return CODEC_BAD_CALL;
    const uint16_t *cdf = rows->cdf + rows->at[used[i]];
    uint32_t length = (uint32_t)rows->lengths[used[i]];
    CodecAns local = *ans;
    for (int64_t end = at - counts[i]; at > end; at--) {
      if ((uint32_t)columns[at - 1] >= length) return CODEC_BAD_CALL;
      ans_push(&local, words, cdf, columns[at - 1]);
    }
    *ans = local;
  }
  return at == 0 ? CODEC_OK : CODEC_BAD_CALL;
}

// ---- steps: symbols in any order, each with its row

// Calls f(the row's numbers as unsigned integers): a negative one is larger than any row.
template <class F> INLINE int with_rows(const void *row, int item, F &&f) {
  switch (item) {
  case 1: return f((const uint8_t *)row);
  case 2: return f((const uint16_t *)row);
  case 4: return f((const uint32_t *)row);
  case 8: return f((const uint64_t *)row);
  default: return CODEC_BAD_CALL;
  }
}

// Counts the symbols of each of n_rows rows; CODEC_DAMAGED if a number isn't that of a row.
int rows_count(const void *row, int item, int64_t n, int64_t *counts, int64_t n_rows) {
  return with_rows(row, item, [&](auto *numbers) {
    memset(counts, 0, n_rows * sizeof *counts);
    for (int64_t i = 0; i < n; i++) {
      uint64_t number = numbers[i];
      if (number >= (uint64_t)n_rows) return (int)CODEC_DAMAGED;
      counts[number]++;
    }
    return (int)CODEC_OK;
  });
}

// The places of the symbols, grouped by row, in `order`; counts as rows_count made them.
template <class T> static int rows_sort(const T *row, int64_t n, const int64_t *counts, int64_t n_rows, int32_t *order) {
  int64_t *ends = (int64_t *)pool_scratch(14, n_rows * sizeof(int64_t)), sum = 0;
  if (!ends) return CODEC_NO_MEMORY;
  for (int64_t r = 0; r < n_rows; r++) {
    ends[r] = sum;
    if (counts[r] < 0 || counts[r] > n - sum) return CODEC_BAD_CALL;
    sum += counts[r];
  }
  if (sum != n || n > INT32_MAX) return CODEC_BAD_CALL;
  for (int64_t i = 0; i < n; i++) {
    uint64_t number = row[i];
    if (number >= (uint64_t)n_rows || ends[number] >= n) return CODEC_BAD_CALL;
    order[ends[number]++] = (int32_t)i;
  }
  return CODEC_OK;
}

int rows_order(const void *row, int item, int64_t n, const int64_t *counts, int64_t n_rows, int32_t *order) {
  return with_rows(row, item, [&](auto *numbers) { return rows_sort(numbers, n, counts, n_rows, order); });
}

// Decodes a step: symbols[i] = offset of its row + its column. Escapes (last columns) are listed, in coding order.
int ans_take_step(const CodecRows *rows, CodecAns *ans, const void *row, int item, int64_t n, const int64_t *counts,
                  const int32_t *offset, int64_t n_rows, int32_t *symbols, int32_t *escaped, int64_t *n_escaped) {
  if (n_rows > rows->n) return CODEC_BAD_CALL;
  int32_t *order = nullptr;
  int64_t n_used = 0;
  for (int64_t r = 0; r < n_rows; r++) n_used += counts[r] > 0;
  if (n_used > 1) {
    order = (int32_t *)pool_scratch(15, n * sizeof(int32_t));
    if (!order) return CODEC_NO_MEMORY;
    int status = rows_order(row, item, n, counts, n_rows, order);
    if (status) return status;
  }
  CodecAns local = *ans;
  int64_t at = 0, n_out = 0;
  for (int64_t r = 0; r < n_rows; r++) {
    if (!counts[r]) continue;
    if (counts[r] < 0 || counts[r] > n - at) return CODEC_BAD_CALL;
    AnsRow table = rows_get(rows, r);
    int32_t last = rows->lengths[r] - 1;
    uint32_t first = (uint32_t)offset[r];
    for (int64_t end = at + counts[r]; at < end; at++) {
      int32_t column = ans_pop(&local, table), place = order ? order[at] : (int32_t)at;
      symbols[place] = (int32_t)(first + (uint32_t)column);
      if (__builtin_expect(column == last, 0)) escaped[n_out++] = place;
    }
  }
  if (at != n) return CODEC_BAD_CALL;
  *ans = local;
  *n_escaped = n_out;
  return CODEC_OK;
}

// The columns of a step, grouped by row; escapes as the places of their symbols, in coding order.
int rows_columns(const CodecRows *rows, const void *row, int item, int64_t n, const int64_t *counts,
                 const int32_t *offset, int64_t n_rows, const int32_t *symbols, int32_t *columns, int32_t *escaped,
                 int64_t *n_escaped) {
  if (n_rows > rows->n || n > INT32_MAX) return CODEC_BAD_CALL;
  int32_t *order = (int32_t *)pool_scratch(15, n * sizeof(int32_t));
  if (!order) return CODEC_NO_MEMORY;
  int status = rows_order(row, item, n, counts, n_rows, order);
  if (status) return status;
  int64_t at = 0, n_out = 0;
  for (int64_t r = 0; r < n_rows; r++) {
    if (!counts[r]) continue;
    uint32_t last = (uint32_t)rows->lengths[r] - 1, first = (uint32_t)offset[r];
    for (int64_t end = at + counts[r]; at < end; at++) { // mod 2^32, below `last` for the row's own symbols only
      uint32_t column = (uint32_t)symbols[order[at]] - first;
      if (__builtin_expect(column >= last, 0)) {
        column = last;
        escaped[n_out++] = order[at];
      }
      columns[at] = (int32_t)column;
    }
  }
  *n_escaped = n_out;
  return CODEC_OK;
}

// ---- the range coder of torchac: the interval [low, high] has 32 bits

INLINE void range_narrow(uint32_t &low, uint32_t &high, const uint16_t *cdf, int32_t column, int32_t length) {
  uint64_t span = (uint64_t)high - low + 1, to = column + 1 == length ? 65536u : cdf[column + 1];
  high = low - 1 + (uint32_t)(span * to >> 16);
  low += (uint32_t)(span * cdf[column] >> 16);
}

int range_take(const CodecRows *rows, const int32_t *row, int64_t n, const uint8_t *data, int64_t n_bytes, int32_t *columns) {
  uint32_t low = 0, high = ~0u, value = 0;
  int64_t at = 32; // bits that are read; behind its end the segment reads as zeros
  for (int64_t i = 0; i < 4; i++) value = value << 8 | (i < n_bytes ? data[i] : 0);
  for (int64_t i = 0; i < n; i++) {
    if (row[i] < 0 || row[i] >= rows->n) return CODEC_BAD_CALL;
    AnsRow table = rows_get(rows, row[i]);
    uint64_t span = (uint64_t)high - low + 1;
    uint64_t count = (((uint64_t)(uint32_t)(value - low) + 1) * 65536 - 1) / span;
    columns[i] = row_column(table, (uint32_t)least<uint64_t>(count, 65535));
    range_narrow(low, high, table.cdf, columns[i], rows->lengths[row[i]]);
    for (;;) {
      uint32_t middle = 0; // what the loop takes off: the interval straddles the middle
      if ((low ^ high) >> 31) {
        if (!(low >= 1u << 30 && high < 3u << 30)) break;
        middle = 1u << 30;
      }
      uint32_t bit = at >> 3 < n_bytes ? data[at >> 3] >> (7 - (at & 7)) & 1 : 0;
      at++;
      low = (low - middle) << 1;
      high = (high - middle) << 1 | 1;
      value = (value - middle) << 1 | bit;
    }
  }
  return CODEC_OK;
}

// Bits that become bytes.
struct RangeBits {
  uint8_t *data;
  int64_t room, n;
  uint32_t cache;
  int count;
};

INLINE void range_bit(RangeBits &out, uint32_t bit) {
  out.cache = out.cache << 1 | bit;
  if (++out.count < 8) return;
  if (out.n < out.room) out.data[out.n] = (uint8_t)out.cache;
  out.n++;
  out.count = 0;
}

// A segment into `data`, which has room for `room` bytes: CODEC_BAD_CALL if that isn't enough.
int range_put(const CodecRows *rows, const int32_t *row, int64_t n, const int32_t *columns, uint8_t *data, int64_t room,
              int64_t *n_bytes) {
  uint32_t low = 0, high = ~0u;
  int64_t pending = 0;
  RangeBits out = {data, room, 0, 0, 0};
  for (int64_t i = 0; i < n; i++) {
    if (row[i] < 0 || row[i] >= rows->n) return CODEC_BAD_CALL;
    int32_t length = rows->lengths[row[i]];
    if (columns[i] < 0 || columns[i] >= length) return CODEC_BAD_CALL;
    range_narrow(low, high, rows->cdf + rows->at[row[i]], columns[i], length);
    for (;;) {
      uint32_t middle = 0;
      if (!((low ^ high) >> 31)) {
        uint32_t bit = low >> 31;
        range_bit(out, bit);
        for (; pending; pending--) range_bit(out, !bit);
      } else if (low >= 1u << 30 && high < 3u << 30) {
        middle = 1u << 30;
        pending++;
      } else break;
      low = (low - middle) << 1;
      high = (high - middle) << 1 | 1;
    }
  }
  uint32_t bit = low >= 1u << 30;
  range_bit(out, bit);
  for (pending++; pending; pending--) range_bit(out, !bit);
  while (out.count) range_bit(out, 0);
  *n_bytes = out.n;
  return out.n <= room ? CODEC_OK : CODEC_BAD_CALL;
}
