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

// Puts a symbol in front of those that are coded. Beyond `room` words nothing is written, but counted.
INLINE void ans_push(CodecAns *ans, uint32_t *words, int64_t room, const uint16_t *cdf, int32_t column) {
  uint32_t from = cdf[column], count = (uint16_t)(cdf[column + 1] - from);
  uint64_t state = ans->state, part = (uint64_t)count << 8;
  if (state >> 40 >= part) {
    if (ans->n_words < room) words[ans->n_words] = (uint32_t)state;
    ans->n_words++;
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
      ans_push(&local, words, n, cdf, columns[at - 1]);
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
static int rows_count(const void *row, int item, int64_t n, int64_t *counts, int64_t n_rows) {
  return with_rows(row, item, [&](auto *numbers) {
    memset(counts, 0, n_rows * sizeof *counts);
    if (sizeof *numbers == 1 && n > 2048) { // four tables: equal neighbours don't wait for each other
      uint32_t tables[4][256] = {{0}};
      int64_t i = 0;
      if (n > UINT32_MAX) return (int)CODEC_BAD_CALL;
      for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) tables[k][(uint8_t)numbers[i + k]]++;
      for (; i < n; i++) tables[0][(uint8_t)numbers[i]]++;
      for (int64_t r = 0; r < 256; r++) {
        int64_t sum = (int64_t)tables[0][r] + tables[1][r] + tables[2][r] + tables[3][r];
        if (r < n_rows) counts[r] = sum;
        else if (sum) return (int)CODEC_DAMAGED;
      }
      return (int)CODEC_OK;
    }
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
    int status = with_rows(row, item, [&](auto *numbers) { return rows_sort(numbers, n, counts, n_rows, order); });
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

// What a step's status says beyond those of all entry points.
enum { STEP_NO_ROW = 1, STEP_NO_BITS = 2, STEP_TOO_LARGE = 3 };

// The bits of a value that is coded behind an escape, below its leading one: an odd digit at the top, then bytes.
INLINE int tail_bits(uint64_t value) { return 63 - __builtin_clzll(value); }

// The value of an escaped symbol: 1, 2, ... from the columns outwards, above and below in turn.
INLINE uint64_t tail_value(int64_t symbol, int64_t first, int64_t last) {
  int64_t above = symbol - first - last;
  return 1 + (uint64_t)(above >= 0 ? 2 * above : 2 * (first - 1 - symbol) + 1);
}

INLINE bool ans_has(const CodecAns *ans, double needed) {
  int64_t left = ans_bits(ans); // less than this is sure to be damage: entropy/tables.py
  return left > 0 && needed * 0.99 <= (double)left + 64;
}

// The symbols of escapes, whose places are listed: their classes, then their digits, grouped by size.
template <class T>
static int ans_take_tail(const CodecTables *tables, CodecAns *ans, const T *row, const int32_t *escaped, int64_t n,
                         int32_t *symbols, double *needed) {
  const CodecRows *rows = &tables->rows;
  uint64_t *values = (uint64_t *)pool_scratch(13, n * 9);
  if (!values) return CODEC_NO_MEMORY;
  uint8_t *n_bits = (uint8_t *)(values + n);
  *needed = (double)n * tables->min_bits[tables->n_rows];
  if (!ans_has(ans, *needed)) return STEP_NO_BITS;
  int64_t sum = 0;
  AnsRow classes = rows_get(rows, tables->n_rows);
  for (int64_t i = 0; i < n; i++) {
    n_bits[i] = (uint8_t)ans_pop(ans, classes);
    if (n_bits[i] > 33) return CODEC_BAD_CALL;
    values[i] = 1ull << n_bits[i];
    sum += n_bits[i];
  }
  *needed = (double)sum;
  if (sum && !ans_has(ans, *needed)) return STEP_NO_BITS;
  for (int digit = 1; digit < 8; digit++)
    for (int64_t i = 0; i < n; i++)
      if (n_bits[i] % 8 == digit) values[i] += (uint64_t)ans_pop(ans, rows_get(rows, tables->n_rows + digit)) << n_bits[i] / 8 * 8;
  for (int64_t i = 0; i < n; i++)
    for (int shift = n_bits[i] / 8 * 8 - 8; shift >= 0; shift -= 8) values[i] += (uint64_t)ans_pop(ans, rows_get(rows, tables->n_rows + 8)) << shift;
  for (int64_t i = 0; i < n; i++) {
    int64_t value = (int64_t)values[i] - 1, r = row[escaped[i]], first = tables->offset[r];
    int64_t symbol = value & 1 ? first - 1 - (value >> 1) : first + rows->lengths[r] - 1 + (value >> 1);
    if (symbol < tables->smallest || symbol > tables->largest) return STEP_TOO_LARGE;
    symbols[escaped[i]] = (int32_t)symbol;
  }
  return CODEC_OK;
}

template <class T>
static int ans_take_rows(const CodecTables *tables, CodecAns *ans, const T *row, int64_t n, int32_t *symbols, double *needed) {
  const CodecRows *rows = &tables->rows;
  const int64_t n_rows = tables->n_rows;
  int64_t *counts = (int64_t *)pool_scratch(12, n_rows * sizeof(int64_t)), n_used = 0, n_escaped = 0, at = 0;
  int32_t *escaped = (int32_t *)pool_scratch(11, n * sizeof(int32_t)), *order = nullptr;
  if (!counts || !escaped) return CODEC_NO_MEMORY;
  if (rows_count(row, sizeof(T), n, counts, n_rows)) return STEP_NO_ROW;
  *needed = 0;
  for (int64_t r = 0; r < n_rows; r++) {
    *needed += (double)counts[r] * tables->min_bits[r];
    n_used += counts[r] > 0;
  }
  if (n && !ans_has(ans, *needed)) return STEP_NO_BITS;
  if (n_used > 1) {
    order = (int32_t *)pool_scratch(15, n * sizeof(int32_t));
    if (!order) return CODEC_NO_MEMORY;
    int status = rows_sort(row, n, counts, n_rows, order);
    if (status) return status;
  }
  CodecAns local = *ans;
  for (int64_t r = 0; r < n_rows; r++) {
    if (!counts[r]) continue;
    AnsRow table = rows_get(rows, r);
    int32_t last = rows->lengths[r] - 1;
    uint32_t first = (uint32_t)tables->offset[r];
    for (int64_t end = at + counts[r]; at < end; at++) {
      int32_t column = ans_pop(&local, table), place = order ? order[at] : (int32_t)at;
      symbols[place] = (int32_t)(first + (uint32_t)column);
      if (__builtin_expect(column == last, 0)) escaped[n_escaped++] = place;
    }
  }
  *ans = local;
  return n_escaped ? ans_take_tail(tables, ans, row, escaped, n_escaped, symbols, needed) : (int)CODEC_OK;
}

// Decodes a step: n symbols in the order of their rows. needed: of STEP_NO_BITS, how many there should be at least.
int tables_take(const CodecTables *tables, CodecAns *ans, const void *row, int item, int64_t n, int32_t *symbols, double *needed) {
  if (n > INT32_MAX || tables->n_rows + 9 > tables->rows.n) return CODEC_BAD_CALL;
  return with_rows(row, item, [&](auto *numbers) { return ans_take_rows(tables, ans, numbers, n, symbols, needed); });
}

// Puts the escaped symbols of a step in front: their digits, from the last to the first, then their classes.
template <class T>
static void ans_put_tail(const CodecTables *tables, CodecAns *ans, uint32_t *words, int64_t room, const T *row,
                         const int32_t *escaped, int64_t n, const int32_t *symbols) {
  const CodecRows *rows = &tables->rows;
  auto value_of = [&](int64_t i) {
    int64_t r = row[escaped[i]];
    return tail_value(symbols[escaped[i]], tables->offset[r], rows->lengths[r] - 1);
  };
  auto cdf_of = [&](int kind) { return rows->cdf + rows->at[tables->n_rows + kind]; };
  for (int64_t i = n - 1; i >= 0; i--) {
    uint64_t value = value_of(i);
    for (int shift = 0; shift < tail_bits(value) / 8 * 8; shift += 8) ans_push(ans, words, room, cdf_of(8), value >> shift & 255);
  }
  for (int digit = 7; digit > 0; digit--)
    for (int64_t i = n - 1; i >= 0; i--) {
      uint64_t value = value_of(i);
      int n_bits = tail_bits(value);
      if (n_bits % 8 == digit) ans_push(ans, words, room, cdf_of(digit), value >> n_bits / 8 * 8 & ((1 << digit) - 1));
    }
  for (int64_t i = n - 1; i >= 0; i--) ans_push(ans, words, room, cdf_of(0), tail_bits(value_of(i)));
}

template <class T>
static int ans_put_rows(const CodecTables *tables, CodecAns *ans, uint32_t *words, int64_t room, const T *row,
                        const int32_t *symbols, int64_t n) {
  const CodecRows *rows = &tables->rows;
  const int64_t n_rows = tables->n_rows;
  int64_t *counts = (int64_t *)pool_scratch(12, n_rows * sizeof(int64_t)), n_escaped = 0, at = 0;
  int32_t *order = (int32_t *)pool_scratch(15, n * sizeof(int32_t)), *columns = (int32_t *)pool_scratch(11, n * sizeof(int32_t));
  int32_t *escaped = (int32_t *)pool_scratch(10, n * sizeof(int32_t));
  if (!counts || !order || !columns || !escaped) return CODEC_NO_MEMORY;
  if (rows_count(row, sizeof(T), n, counts, n_rows)) return STEP_NO_ROW;
  int status = rows_sort(row, n, counts, n_rows, order);
  if (status) return status;
  for (int64_t r = 0; r < n_rows; r++) {
    uint32_t last = (uint32_t)rows->lengths[r] - 1, first = (uint32_t)tables->offset[r];
    for (int64_t end = at + counts[r]; at < end; at++) { // mod 2^32, below `last` for the row's own symbols only
      uint32_t column = (uint32_t)symbols[order[at]] - first;
      if (__builtin_expect(column >= last, 0)) {
        column = last;
        escaped[n_escaped++] = order[at];
      }
      columns[at] = (int32_t)column;
    }
  }
  CodecAns local = *ans;
  ans_put_tail(tables, &local, words, room, row, escaped, n_escaped, symbols);
  for (int64_t r = n_rows - 1; r >= 0; r--) {
    const uint16_t *cdf = rows->cdf + rows->at[r];
    for (int64_t end = at - counts[r]; at > end; at--) ans_push(&local, words, room, cdf, columns[at - 1]);
  }
  *ans = local;
  return local.n_words <= room ? CODEC_OK : CODEC_BAD_CALL;
}

// Puts steps, which lie one behind the other, in front: from the last to the first. sizes: symbols of each.
int tables_put(const CodecTables *tables, CodecAns *ans, uint32_t *words, int64_t room, const void *row, int item,
                  const int32_t *symbols, const int64_t *sizes, int64_t n_steps, int64_t n) {
  if (n > INT32_MAX || tables->n_rows + 9 > tables->rows.n) return CODEC_BAD_CALL;
  return with_rows(row, item, [&](auto *numbers) {
    int64_t at = n;
    for (int64_t step = n_steps - 1; step >= 0; step--) {
      if (sizes[step] < 0 || sizes[step] > at) return (int)CODEC_BAD_CALL;
      at -= sizes[step];
      int status = ans_put_rows(tables, ans, words, room, numbers + at, symbols + at, sizes[step]);
      if (status) return status;
    }
    return at ? (int)CODEC_BAD_CALL : (int)CODEC_OK;
  });
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
