// The structures of repair.h: see args.h.
#pragma once
#include <stdint.h>

// A small network that repairs planes: two 3x3 convolutions of blocks of fold x fold samples, edges repeated. fold 2: one
// plane, 8 inputs, 16 hidden, 4 outputs; fold 1: two planes, 4, 8, 2. Parameters below 128 in magnitude.
struct RepairPlanes {
  int64_t height, width;    // of the padded planes, multiples of 16
  const double *total[2];   // (height, width), whole numbers, sixteenths of a sample
  const double *residual[2];
  const uint8_t *active[2]; // (height / 8, width / 8), blocks that change
  int fold;
  int32_t step;              // in sixteenths
  const int16_t *w1, *w2;    // (hidden, inputs, 3, 3), (outputs, hidden, 3, 3)
  const int32_t *b1, *b2;
  int64_t rows, columns;     // of the result
  int32_t low, high;         // its limits
  int16_t *out[2];           // (rows, columns)
};
