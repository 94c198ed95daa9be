// The structures that entry points take, the same for all instruction sets.
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

// The points of one level of a field whose odd indices (in units of the level's spacing) are those of some axes:
// interpolation.h. Lines run along the last axis.
struct CodecPart {
  int64_t n[5];      // points along each axis
  int64_t pitch[5];  // values from a point to the next along each axis
  int64_t start;     // values in front of the first point
  int64_t n_axes;    // odd ones; 0: the corner points, predicted by `middle`
  int64_t axis[4];   // which they are
  int64_t reach[4];  // values from a point to the known one next to it
  int64_t known[4];  // known points along the axis
  double weight[4], weights; // of the axes, and their sum
  double middle, share, bound, quantum;
  int64_t context; // the first of its contexts
};

// A field that is filled from coarse to fine. It has five axes, the first ones 1 long if it has fewer; nothing is
// interpolated along the first 5 - n_axes.
struct CodecField {
  int64_t shape[5], n_axes, item; // bytes of a value
  double weight[4];               // of the last n_axes axes, in their order
  double share[65];               // of each level, of the bound
  double bound, middle;
  void *values;
  float *sizes; // of the residuals
};
