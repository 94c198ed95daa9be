// The structures of motion.h: see args.h.
#pragma once
#include <stdint.h>

// What the cost of a vector depends on: |aim - prediction| times weight / 32, for blocks of 8x8 samples.
struct MotionCosts {
  const int16_t *aim, *phases; // (height, width), (16, height, width)
  const uint8_t *weight;       // (rows, columns)
  int64_t height, width, rows, columns;
};
