// The structures that entry points take, the same for all instruction sets.
#pragma once
#include <stdint.h>

// What the cost of a vector depends on: |aim - prediction| times weight / 32, for blocks of 8x8 samples.
struct MotionCosts {
  const int16_t *aim, *phases; // (height, width), (16, height, width)
  const uint8_t *weight;       // (rows, columns)
  int64_t height, width, rows, columns;
// Distributions, a row for each: ans.h. places and built are filled in when a row is first used.
struct CodecRows {
  const uint16_t *cdf;
  const int64_t *at;
  const int32_t *lengths;
  uint16_t *places;
  uint8_t *built;
  int64_t n;
};

// The state of an ANS stream. words: those that are still to come, taken from the end (of an encoder: its own).
struct CodecAns {
  const uint32_t *words;
  int64_t n_words;
  uint64_t state;
};
