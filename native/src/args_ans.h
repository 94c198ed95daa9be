// The structures of ans.h: see args.h.
#pragma once
#include <stdint.h>

// Distributions, a row for each: ans.h. places and built are filled in when a row is first used.
struct CodecRows {
  const uint16_t *cdf;
  const int64_t *at;
  const int32_t *lengths;
  uint16_t *places;
  uint8_t *built;
  int64_t n;
};

// Rows as tables of symbols: entropy/tables.py. n_rows are the table's own; 9 more follow, of what is behind an escape.
// Escaped symbols outside smallest ... largest are damage.
struct CodecTables {
  CodecRows rows;
  const int32_t *offset;  // the symbol of each row's first column
  const double *min_bits; // of each row's cheapest symbol, n_rows + 9
  int64_t n_rows, smallest, largest;
};

// The state of an ANS stream. words: those that are still to come, taken from the end (of an encoder: its own).
struct CodecAns {
  const uint32_t *words;
  int64_t n_words;
  uint64_t state;
};
