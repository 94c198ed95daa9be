// The structure of mixing_levels.h: see args.h.
#pragma once
#include <stdint.h>

// Sheets of ordered values that a mixing coder codes, and how.
struct LevelSheets {
  uint16_t *values;     // (n, h, w, c), each below 2^bits
  const int32_t *shape; // (2049) 2^24 times the logistic distribution at -16, -16 + 1/64, ..., 16
  int64_t n, h, w, c;   // c: 1 to 4
  int64_t bits;         // 1 to 16
  int64_t base;         // what a value is told from: LEVEL_ZERO, LEVEL_GRADIENT or LEVEL_BEST
};
